"""Checkpoints that survive a kill at any moment: atomic, two generations, no code inside."""

import random
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from typing_extensions import override

from suite.runs.checkpoints import NEXT, promote
from suite.system.files import check_guards, write_with


class AtomicCheckpointIO(TorchCheckpointIO):
    """Lightning's checkpoint writer, which keeps the previous file until the new one is whole."""

    @override
    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None
    ) -> None:
        """Write `path`, and keep its earlier content as PREVIOUS; raises OSError on a full disk."""
        target = Path(path)
        complete = target.with_name(NEXT)
        write_with(complete, partial(torch.save, checkpoint))
        check_guards(target)
        promote(target.parent)


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
        # This machine may have fewer GPUs.
        torch.cuda.set_rng_state_all(state["cuda"][: torch.cuda.device_count()])
    name, keys, position, has_gauss, gauss = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), position, has_gauss, gauss))  # noqa: NPY002
    version, internal, gauss_next = state["python"]
    random.setstate((version, tuple(internal), gauss_next))
