"""Measure a run's newest checkpoint again."""

from pathlib import Path

import torch

from suite.checkpoints import newest
from suite.domains import build_domain
from suite.keys import ConfigError
from suite.results import RunFolder


def evaluate(path: Path) -> dict[str, float]:
    """Load a run's newest whole checkpoint and return its evaluation.

    Raises ConfigError where the folder is no run or holds no whole checkpoint.
    """
    run = RunFolder(path)
    if not (path / "config.yaml").exists():
        raise ConfigError(f"{path}: is no run's folder; those are results/SWEEP/runs/RUN")
    config = run.config()
    found = newest(run.checkpoints)
    if found.path is None:
        raise ConfigError(f"{run.checkpoints}: holds no whole checkpoint; train the run first")
    torch.set_num_threads(config.trainer.threads)
    domain = build_domain(config, cache=run.results_dir)
    state = torch.load(found.path, weights_only=True, map_location="cpu")["state_dict"]
    for name, network in (("policy", domain.policy), ("reference", domain.reference)):
        prefix = f"{name}."
        own = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
        try:
            network.load_state_dict(own)
        except RuntimeError as error:
            raise ConfigError(f"{found.path} does not fit {path}/config.yaml: {error}") from None
    domain.policy.eval()
    return {"step": float(found.step or 0), **domain.evaluate()}
