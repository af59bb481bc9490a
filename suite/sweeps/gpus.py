"""The GPUs that the workers of a sweep may use on this machine."""

import os
import re

from suite.config.fields import ConfigError
from suite.sweeps.spec import Sweep

# As CUDA names them: a number, a GPU's UUID, a part of a GPU (MIG), each perhaps cut short.
NUMBER, UNIQUE = re.compile(r"\d+"), re.compile(r"(GPU|MIG)-[\w/-]+")
NONE_FROM_HERE = ("-1", "NoDevFiles")  # CUDA ignores what stands behind them


def visible_gpus(sweep: Sweep) -> list[str]:
    """Return the GPUs that the sweep's runs may use, as CUDA names them; raises ConfigError."""
    if all(config.trainer.accelerator == "cpu" for config in sweep.points.values()):
        return []
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is None:
        import torch

        return [str(number) for number in range(torch.cuda.device_count())]
    return named_gpus(given)


def named_gpus(given: str) -> list[str]:
    """Return the GPUs of a value of CUDA_VISIBLE_DEVICES, each once; raises ConfigError."""
    names: list[str] = []
    for name in (text.strip() for text in given.split(",")):
        if name in NONE_FROM_HERE or name.startswith("-"):
            break
        if not name:
            continue
        if not NUMBER.fullmatch(name) and not UNIQUE.fullmatch(name):
            raise ConfigError(
                "CUDA_VISIBLE_DEVICES must list GPUs by number or UUID (GPU-…, MIG-…), found"
                f" {given!r}"
            )
        names.append(name)
    return list(dict.fromkeys(names))


def least_used(gpus: list[str], in_use: list[str | None]) -> str | None:
    """Return the GPU that the fewest workers use, or None without GPUs."""
    return min(gpus, key=in_use.count) if gpus else None
