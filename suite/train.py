"""One run from its configuration to its summary: the recipe, the same for every domain."""

import logging
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment

from suite.callbacks import Checkpoint, Record, ShowProgress
from suite.checkpoints import AtomicCheckpointIO, newest
from suite.claims import Claimed
from suite.config import Config
from suite.domains import build_domain
from suite.logs import also_in
from suite.module import Batches, PreferenceModule
from suite.objectives import build_objective
from suite.results import RunFolder
from suite.signals import Interrupted, interruptible
from suite.tracking import Tracker

logger = logging.getLogger(__name__)


def train(config: Config, callbacks: Sequence[L.Callback] = ()) -> dict[str, Any]:
    """Run a configuration from where it stands, and return its summary.

    Further Lightning `callbacks` act before the suite's own.

    A finished run is left as it is; after a stop signal the status is `interrupted`. Raises
    Claimed where another process works on the run; any other error is also written to the run's
    summary.
    """
    run = RunFolder.of(config)
    run.path.mkdir(parents=True, exist_ok=True)
    if run.state() == "finished":
        logger.info("%s is finished already; nothing to do", run.path)
        return run.summary() or {}
    with run.claim():
        if run.state() == "finished":  # by whoever held it until now
            return run.summary() or {}
        run.create(config)
        run.begin()
        try:
            with interruptible(), also_in(run.log_path):
                return fit(config, run, callbacks)
        except Interrupted as interruption:
            return {"status": "interrupted", "signal": str(interruption)}
        except Claimed:
            raise  # it is another's now
        except Exception as error:
            run.finish("failed", error=f"{type(error).__name__}: {error}")
            raise


def fit(config: Config, run: RunFolder, callbacks: Sequence[L.Callback]) -> dict[str, Any]:
    """Build the parts, train, and write what came out."""
    torch.set_num_threads(config.trainer.threads)
    torch.set_flush_denormal(True)  # what Adam's moments of idle units decay to; slow on CPUs
    L.seed_everything(config.seed, verbose=False)
    progress = ShowProgress(run, config.trainer)

    domain = build_domain(config, cache=run.results_dir)
    progress.watch(domain)
    objective = build_objective(config.objective, config.feedback, domain.dimensions)
    if warning := objective.warning(domain.shares):
        logger.warning(warning)

    checkpoint = resume_point(run)
    tracker = Tracker(config, run.path)

    def log(step: int, row: dict[str, float]) -> None:
        run.log(step, row)
        tracker.log(step, row)
        progress.note(row)

    saving = Checkpoint(run, config.trainer)
    trainer = L.Trainer(
        max_epochs=1,
        limit_train_batches=config.trainer.steps // config.trainer.steps_per_call,
        accelerator=config.trainer.accelerator,
        devices=1,
        precision=config.trainer.precision,
        callbacks=[
            *callbacks,
            Record(domain, config.trainer, log),
            progress,
            saving,  # last, so that a checkpoint holds what the others did
        ],
        plugins=[AtomicCheckpointIO(), LightningEnvironment()],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    module = PreferenceModule(domain, objective, config.optimizer, config.reference, config.trainer)
    try:
        trainer.fit(module, Batches(domain), ckpt_path=checkpoint, weights_only=True)
    except BaseException:
        tracker.finish(failed=True)
        raise
    if saving.stopped_by is not None and module.step < config.trainer.steps:
        tracker.interrupt()
        name = signal.Signals(saving.stopped_by).name
        return {"status": "interrupted", "signal": name, "step": module.step}
    (run.path / "policy").mkdir(exist_ok=True)
    domain.save(run.path / "policy")
    tracker.finish(failed=False)
    return run.finish("finished", error=None)


def resume_point(run: RunFolder) -> Path | None:
    """Return the checkpoint to continue from, with the metrics cut back to its step."""
    found = newest(run.checkpoints)
    for path in found.broken:
        logger.warning("%s is damaged and was passed over", path)
    dropped = run.rewind(found.step)
    if found.path is not None:
        logger.info(
            "%s continues from step %s; %s later rows of metrics were dropped",
            *(run.path.name, found.step, dropped),
        )
    else:
        again = " again: no checkpoint is whole" if found.broken else ""
        logger.info("%s starts%s", run.path.name, again)
    return found.path
