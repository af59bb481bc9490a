"""The newest checkpoint of a run, measured again."""

from collections.abc import Sequence
from pathlib import Path

import torch

from suite.config.fields import ConfigError
from suite.config.schema import Config
from suite.domains.base import HasFilm, build_domain
from suite.objectives.base import build_objective
from suite.runs.checkpoints import NewestCheckpoint, newest_checkpoint
from suite.runs.folder import RunFolder
from suite.runs.inputs import warn_of_changes
from suite.system.exits import ExitCalled, exits_are_errors
from suite.training.module import PreferenceModule


def evaluate(path: Path, video: bool = False, overrides: Sequence[str] = ()) -> dict[str, float]:
    """Load the newest whole checkpoint of the run in a folder, and return its evaluation.

    With `video`, also write an episode of a control run to the folder, as video.mp4. `overrides`
    may hold the run's own domain.judge, and nothing else. Raises ConfigError where the folder is
    no run, has no whole checkpoint, or nothing can be filmed.
    """
    run = RunFolder(path)
    if not (path / "config.yaml").exists():
        raise ConfigError(f"{path}: is no run's folder; those are results/SWEEP/runs/RUN")
    config = run.config()
    for override in overrides:
        if override != f"domain.judge={getattr(config.domain, 'judge', None)}":
            raise ConfigError(
                f"{path}: a run is evaluated with its own settings, of which only its"
                f" domain.judge may be given again; found {override!r}"
            )
    checkpoint = newest_checkpoint(run.checkpoints)
    if checkpoint.path is None:
        raise ConfigError(f"{run.checkpoints}: holds no whole checkpoint; train the run first")
    warn_of_changes(run, config)
    try:
        with exits_are_errors():
            return measured(run, config, checkpoint, video)
    except ExitCalled as error:
        raise ConfigError(f"{path}: {error}") from error


def measured(
    run: RunFolder, config: Config, checkpoint: NewestCheckpoint, video: bool
) -> dict[str, float]:
    """Build the run's domain and networks, load the checkpoint, and evaluate."""
    assert checkpoint.path is not None
    path = run.path
    if video:
        config.domain.prepare_film()
    torch.set_num_threads(config.trainer.threads)
    torch.manual_seed(config.seed)  # the first networks of the run are drawn from it
    domain = build_domain(config, cache=run.results_dir, started=run.started())
    objective = build_objective(config.objective, config.feedback, domain.dimensions)
    module = PreferenceModule(domain, objective, config.optimizer, config.reference, config.trainer)
    content = torch.load(checkpoint.path, weights_only=True, map_location="cpu")
    try:
        module.load_state_dict(content["state_dict"])
    except RuntimeError as error:
        raise ConfigError(f"{checkpoint.path} does not fit {path}/config.yaml: {error}") from None
    domain.load_state_dict(content["domain"])
    domain.policy.eval()
    filmed = {}
    if video and isinstance(domain, HasFilm):
        filmed["video_return"] = domain.film(path / "video.mp4")
    return {"step": float(checkpoint.step or 0), **domain.evaluate(), **filmed}
