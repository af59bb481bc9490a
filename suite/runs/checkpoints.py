"""The checkpoints of a run: their files, and which of them can be continued from."""

import errno
import os
import pickle
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch

from suite.system.files import sync

LAST, PREVIOUS = "last.ckpt", "previous.ckpt"
NEXT = "next.ckpt"  # complete, and not yet renamed to LAST
DAMAGE = (
    *(zipfile.BadZipFile, zlib.error, struct.error, pickle.UnpicklingError, NotImplementedError),
    *(EOFError, ValueError, LookupError, TypeError, AttributeError, OverflowError),
)  # what reading a damaged file raises; OSError and MemoryError say nothing about the file
CHUNK = 2**24


class Checkpoint(NamedTuple):
    """A whole checkpoint file, with the facts that a session needs."""

    path: Path
    step: int
    run: str | None
    """The name of its run; None in files of earlier versions."""
    metrics: Any
    """The mark of the run's metrics (suite.runs.metrics); None in files of earlier versions."""


class NewestCheckpoint(NamedTuple):
    """The newest whole checkpoint of a run, and the damaged ones that are newer."""

    path: Path | None
    step: int | None
    damaged: list[Path]


def newest_checkpoint(folder: Path) -> NewestCheckpoint:
    """Return the newest checkpoint in a folder that is whole; its path is None without one.

    Raises OSError or MemoryError where one cannot be read.
    """
    damaged: list[Path] = []
    for path in checkpoint_files(folder):
        found = read_checkpoint(path)
        if found is not None:
            return NewestCheckpoint(path, found.step, damaged)
        damaged.append(path)
    return NewestCheckpoint(None, None, damaged)


def checkpoint_files(folder: Path) -> Iterator[Path]:
    """Yield the checkpoints that are there, newest first.

    A kill while a checkpoint is renamed leaves the newest one as NEXT.
    """
    for name in (NEXT, LAST, PREVIOUS):
        path = folder / name
        try:
            path.lstat()
        except FileNotFoundError:
            continue
        yield path


def read_checkpoint(path: Path) -> Checkpoint | None:
    """Return the facts of a checkpoint, or None where the file is damaged.

    Raises OSError or MemoryError where the file cannot be read: it may be whole.
    """
    if path.is_dir():
        return None
    with path.open("rb") as file:  # zipfile takes some errors of the disk for a damaged file
        while file.read(CHUNK):
            pass
    try:
        with zipfile.ZipFile(path) as archive:
            if archive.testzip() is not None:
                return None
        content = torch.load(path, weights_only=True, map_location="cpu", mmap=True)
        run, mark = content.get("run"), content.get("metrics")
        return Checkpoint(path, int(content["step"]), run, mark)
    except DAMAGE:
        return None
    except OSError as error:
        if error.errno == errno.EINVAL:  # a place that a damaged table of contents names
            return None
        raise
    except RuntimeError as error:
        if "memory" in str(error) or "mmap" in str(error):
            raise MemoryError(f"{path}: {error}") from error
        return None


def promote(folder: Path) -> Path:
    """Make NEXT, which is complete, LAST, and what was LAST PREVIOUS; return the path of LAST."""
    last = folder / LAST
    if last.exists():
        os.replace(last, folder / PREVIOUS)
    os.replace(folder / NEXT, last)
    sync(folder)
    return last


def set_aside(path: Path) -> Path:
    """Give a file that cannot be used another name, under which it is kept; return that."""
    number = 1
    while (kept := path.with_name(f"{path.name}.damaged-{number}")).exists():
        number += 1
    path.rename(kept)
    return kept
