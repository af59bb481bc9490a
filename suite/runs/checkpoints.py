"""The checkpoints of a run: their files, and the newest one that is whole."""

import zipfile
from pathlib import Path
from typing import NamedTuple

import torch

LAST, PREVIOUS = "last.ckpt", "previous.ckpt"
NEXT = "next.ckpt"  # complete, and not yet renamed to LAST


class NewestCheckpoint(NamedTuple):
    """The newest whole checkpoint of a run, and the damaged ones that are newer."""

    path: Path | None
    step: int | None
    damaged: list[Path]


def newest_checkpoint(folder: Path) -> NewestCheckpoint:
    """Return the newest checkpoint in a folder that can be read; its path is None without one."""
    damaged: list[Path] = []
    # A kill while a checkpoint is renamed leaves the newest one as NEXT.
    for path in (folder / name for name in (NEXT, LAST, PREVIOUS)):
        if not path.exists():
            continue
        step = step_of(path)
        if step is not None:
            return NewestCheckpoint(path, step, damaged)
        damaged.append(path)
    return NewestCheckpoint(None, None, damaged)


def step_of(path: Path) -> int | None:
    """Return the step of a checkpoint, or None where the file is damaged."""
    try:
        with zipfile.ZipFile(path) as archive:
            if archive.testzip() is not None:
                return None
        content = torch.load(path, weights_only=True, map_location="cpu", mmap=True)
        return int(content["step"])
    except Exception:  # a damaged file may raise any error
        return None
