"""One run from its configuration to its summary: the recipe, the same for every domain."""

import logging
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning.pytorch.strategies import ModelParallelStrategy

from suite.config.schema import Config, TrainerConfig
from suite.domains.base import build_domain
from suite.objectives.base import build_objective
from suite.runs.folder import RunFolder
from suite.runs.lease import LeaseHeld, LeaseLost
from suite.system import distributed
from suite.system.logs import log_to_file
from suite.system.memory import keep_freed_memory
from suite.system.signals import Interrupted, interruptible
from suite.training.callbacks import Checkpoint, Evaluate
from suite.training.checkpoints import AtomicCheckpointIO, newest
from suite.training.export import export
from suite.training.module import Batches, PreferenceModule
from suite.training.progress import RunProgress
from suite.training.wandb_mirror import Tracker

logger = logging.getLogger(__name__)


def train(config: Config, callbacks: Sequence[L.Callback] = ()) -> dict[str, Any]:
    """Run a configuration from where it stands, and return its summary.

    Further Lightning `callbacks` act before the suite's own.

    A finished run is left as it is; after a stop signal the status is `interrupted`. Raises
    LeaseHeld where another process works on the run; any other error is also written to the run's
    summary. Where `trainer.devices` and `trainer.num_nodes` ask for several processes, each calls
    this, rank 0 decides for all, and a stop signal before the first step raises Interrupted.
    """
    run = RunFolder.of(config)
    run.path.mkdir(parents=True, exist_ok=True)
    with distributed.process_group(config.trainer, run.path):
        if distributed.rank() == 0:
            summary = lead(config, run, callbacks)
        else:
            summary, resume = distributed.broadcast(None)
            summary = summary or recorded(config, run, callbacks, resume)
    if summary.get("status") == "running":
        raise LeaseHeld(summary["owner"])
    return summary


def lead(config: Config, run: RunFolder, callbacks: Sequence[L.Callback]) -> dict[str, Any]:
    """Claim the run, and train it together with the ranks that wait for word."""
    if run.state() == "finished":
        logger.info("%s is finished already; nothing to do", run.path)
        return told(run.summary() or {})
    try:
        with run.lease():
            if run.state() == "finished":  # by whoever held it until now
                return told(run.summary() or {})
            run.create(config)
            run.begin()
            with log_to_file(run.log_path):
                resume, step = resume_point(run)
                run.record_event("began", step)
                distributed.broadcast((None, resume))
                return recorded(config, run, callbacks, resume)
    except LeaseLost:
        raise
    except LeaseHeld as refusal:
        return told({"status": "running", "owner": str(refusal)})


def told(summary: dict[str, Any]) -> dict[str, Any]:
    """Return a summary, after the other ranks got it, who then have nothing to do."""
    distributed.broadcast((summary, None))
    return summary


def recorded(
    config: Config, run: RunFolder, callbacks: Sequence[L.Callback], resume: Path | None
) -> dict[str, Any]:
    """Train, and write what goes wrong into the run's summary."""
    try:
        with interruptible():
            return fit(config, run, callbacks, resume)
    except Interrupted as interruption:
        if distributed.world_size() > 1:
            raise  # past where the ranks part together: another may hang in what this one left
        return {"status": "interrupted", "signal": str(interruption)}
    except LeaseHeld:
        raise  # it is another's now
    except Exception as error:
        if distributed.lost_other_rank(error):
            logger.error("rank %s: another rank is gone: %s", distributed.rank(), error)
            raise
        which = f"rank {distributed.rank()}: " if distributed.rank() else ""
        if which:
            logger.exception("%s", which)  # the run's log is rank 0's
        run.finish("failed", error=f"{which}{type(error).__name__}: {error}")
        raise


def fit(
    config: Config, run: RunFolder, callbacks: Sequence[L.Callback], resume: Path | None
) -> dict[str, Any]:
    """Build the parts, train, and write what came out."""
    first = distributed.rank() == 0
    torch.set_num_threads(config.trainer.threads)
    keep_freed_memory()
    torch.set_flush_denormal(True)  # what Adam's moments of idle units decay to; slow on CPUs
    L.seed_everything(config.seed, verbose=False)
    progress = RunProgress(run, config.trainer)

    domain = build_domain(config, cache=run.results_dir)
    progress.watch(domain)
    objective = build_objective(config.objective, config.feedback, domain.dimensions)
    if first and (warning := objective.warning(domain.shares)):
        logger.warning(warning)

    tracker = Tracker(config, run.path)

    def log(step: int, row: dict[str, float]) -> None:
        if first:
            run.log_metrics(step, row)
        tracker.log(step, row)
        progress.note(row)

    def show(step: int, rows: list[dict[str, Any]]) -> None:
        if first:
            run.write_examples(step, rows)
        tracker.show(step, rows)

    saving = Checkpoint(run, config.trainer)
    # Saving comes last, so that a checkpoint holds what the others did.
    acting = [*callbacks, Evaluate(domain, config.trainer, log, show), progress, saving]
    trainer = trainer_for(config.trainer, acting)
    module = PreferenceModule(domain, objective, config.optimizer, config.reference, config.trainer)
    try:
        trainer.fit(module, Batches(domain), ckpt_path=resume, weights_only=True)
    except BaseException:
        tracker.finish(failed=True)
        raise
    if saving.stopped_by is not None and module.step < config.trainer.steps and not module.ended:
        tracker.interrupt()
        name = signal.Signals(saving.stopped_by).name
        return {"status": "interrupted", "signal": name, "step": module.step}
    export(run, config, domain, objective)
    tracker.finish(failed=False)
    if not first:
        return {"status": "finished"}
    logger.info("%s finished", run.path.name)
    return run.finish("finished", error=None)


def trainer_for(settings: TrainerConfig, callbacks: list[L.Callback]) -> L.Trainer:
    """Return Lightning's loop with nothing of its own around the callbacks."""
    return L.Trainer(
        max_epochs=1,
        limit_train_batches=settings.steps // settings.steps_per_call,
        accelerator=settings.accelerator,
        callbacks=callbacks,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **devices(settings),
    )


def devices(settings: TrainerConfig) -> dict[str, Any]:
    """Return how Lightning is to place the networks; our ranks have met already."""
    plugins: list[Any] = [AtomicCheckpointIO()]
    given: dict[str, Any] = {"precision": settings.precision, "plugins": plugins}
    if settings.ranks == 1:
        return {**given, "devices": 1, "plugins": [*plugins, LightningEnvironment()]}
    strategy: Any = "ddp"
    if settings.strategy == "fsdp":  # the second generation, which Lightning files under this name
        strategy = ModelParallelStrategy(settings.ranks, 1, save_distributed_checkpoint=False)
    return {
        **given,
        "devices": settings.devices,
        "num_nodes": settings.num_nodes,
        "strategy": strategy,
        "plugins": [*plugins, TorchElasticEnvironment()],
    }


def resume_point(run: RunFolder) -> tuple[Path | None, int]:
    """Return the checkpoint to continue from, and its step; the metrics are cut back to it."""
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
    return found.path, found.step or 0
