"""Checkpoints that survive a kill at any moment: atomic, two generations, no unpickling."""

import os
import random
import zipfile
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from typing_extensions import override

from suite.system.files import write_with


class AtomicCheckpointIO(TorchCheckpointIO):
    """Lightning's checkpoint writer, keeping the previous file until the new one is whole."""

    @override
    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None
    ) -> None:
        """Write `path`, moving what it held to `previous.ckpt`; raises OSError on a full disk."""
        target = Path(path)
        fresh = target.with_name("next.ckpt")
        write_with(fresh, partial(torch.save, checkpoint))
        if target.exists():
            os.replace(target, target.with_name("previous.ckpt"))
        os.replace(fresh, target)


class Found(NamedTuple):
    """The newest whole checkpoint of a run, and what had to be passed over."""

    path: Path | None
    step: int | None
    broken: list[Path]


def newest(folder: Path) -> Found:
    """Find the newest checkpoint that reads back whole."""
    broken: list[Path] = []
    # A kill between the two renames of save_checkpoint leaves the newest one as next.ckpt.
    for path in (folder / name for name in ("next.ckpt", "last.ckpt", "previous.ckpt")):
        if not path.exists():
            continue
        step = step_of(path)
        if step is not None:
            return Found(path, step, broken)
        broken.append(path)
    return Found(None, None, broken)


def step_of(path: Path) -> int | None:
    """Return the step of a checkpoint, or None where the file is damaged."""
    try:
        with zipfile.ZipFile(path) as archive:
            if archive.testzip() is not None:
                return None
        content = torch.load(path, weights_only=True, map_location="cpu", mmap=True)
        return int(content["step"])
    except Exception:  # whatever a damaged file raises, the answer is the same
        return None


def random_state() -> dict[str, Any]:
    """Return the state of all global random streams, as plain values and tensors."""
    name, keys, position, has_gauss, gauss = np.random.get_state(legacy=True)  # noqa: NPY002
    version, internal, gauss_next = random.getstate()
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "numpy": [name, torch.from_numpy(np.array(keys, np.int64)), position, has_gauss, gauss],
        "python": [version, list(internal), gauss_next],
    }


def restore_random_state(state: dict[str, Any]) -> None:
    """Continue all global random streams from a saved state."""
    torch.set_rng_state(state["torch"])
    if torch.cuda.is_available():
        # There may be fewer of them now.
        torch.cuda.set_rng_state_all(state["cuda"][: torch.cuda.device_count()])
    name, keys, position, has_gauss, gauss = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), position, has_gauss, gauss))  # noqa: NPY002
    version, internal, gauss_next = state["python"]
    random.setstate((version, tuple(internal), gauss_next))
