"""Artefacts that several runs share: made once, and whole or not there."""

from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

from suite.system import distributed
from suite.system.files import remove, temporary_path


def cached(path: Path, make: Callable[[Path], None], checkpoint: Path | None = None) -> Path:
    """Return `path`, a file or folder that `make` writes unless it is there.

    `make` gets a temporary path beside it, which is renamed at the end: nobody reads half an
    artefact. A lock lets processes that start together wait for one of them; of the ranks of a run
    rank 0 makes it. What a killed maker left is removed, except for its `checkpoint`, from which
    `make` may continue and which is removed with success.
    """
    if distributed.rank() == 0:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_name(f".{path.name}.lock")):
            if not path.exists():
                make_whole(path, make)
                if checkpoint is not None:
                    checkpoint.unlink(missing_ok=True)
    distributed.broadcast("it is there")
    return path


def make_whole(path: Path, make: Callable[[Path], None]) -> None:
    """Let `make` write to a temporary path, then rename it; the caller holds the lock."""
    temporary = temporary_path(path)
    remove(temporary)  # left by a maker that was killed
    try:
        make(temporary)
        temporary.rename(path)
    finally:
        remove(temporary)  # left by an error
