"""Measure a run's newest checkpoint again."""

from pathlib import Path

import torch

from suite.config.fields import ConfigError
from suite.domains.base import HasFilm, build_domain
from suite.runs.folder import RunFolder
from suite.training.checkpoints import newest


def evaluate(path: Path, video: bool = False) -> dict[str, float]:
    """Load a run's newest whole checkpoint and return its evaluation.

    With `video`, also write an episode of a control run to its folder, as video.mp4. Raises
    ConfigError where the folder is no run or holds no whole checkpoint, or nothing can be filmed.
    """
    run = RunFolder(path)
    if not (path / "config.yaml").exists():
        raise ConfigError(f"{path}: is no run's folder; those are results/SWEEP/runs/RUN")
    config = run.config()
    found = newest(run.checkpoints)
    if found.path is None:
        raise ConfigError(f"{run.checkpoints}: holds no whole checkpoint; train the run first")
    if video:
        config.domain.prepare_film()
    torch.set_num_threads(config.trainer.threads)
    torch.manual_seed(config.seed)  # for what the run started from
    domain = build_domain(config, cache=run.results_dir)
    content = torch.load(found.path, weights_only=True, map_location="cpu")
    state = content["state_dict"]
    for name, network in (("policy", domain.policy), ("reference", domain.reference)):
        prefix = f"{name}."
        own = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
        try:
            network.load_state_dict(own)
        except RuntimeError as error:
            raise ConfigError(f"{found.path} does not fit {path}/config.yaml: {error}") from None
    domain.load_state_dict(content["domain"])
    domain.policy.eval()
    filmed = {}
    if video and isinstance(domain, HasFilm):
        filmed["video_return"] = domain.film(path / "video.mp4")
    return {"step": float(found.step or 0), **domain.evaluate(), **filmed}
