"""One run from its configuration to its summary: the recipe, the same for every domain."""

import logging
from collections.abc import Sequence
from typing import Any

import lightning.pytorch as L
import torch

from suite.config.schema import Config
from suite.domains.base import build_domain, feedback_of
from suite.objectives.base import build_objective
from suite.runs.session import session
from suite.system import distributed
from suite.system.memory import keep_freed_memory
from suite.training.callbacks import Checkpoint, Evaluate
from suite.training.export import export
from suite.training.module import Batches, PreferenceModule
from suite.training.progress import Progress
from suite.training.trainer import build_trainer
from suite.training.wandb_mirror import WandbMirror

logger = logging.getLogger(__name__)


def train(config: Config, callbacks: Sequence[L.Callback] = ()) -> dict[str, Any]:
    """Train the run of a configuration, from its newest checkpoint, and return its summary.

    A finished run is left as it is; after a stop signal the status is `interrupted`. Further
    Lightning `callbacks` act before the suite's own. With several processes (`trainer.devices`,
    `trainer.num_nodes`) each one calls this function, and rank 0 decides for all.

    Raises LeaseHeld where another process works on the run, and Interrupted where a stop signal
    comes to one of several ranks before the first step. Any other error is also written to the
    run's summary, but for those of a full or broken disk: they leave the run interrupted.
    """
    with session(config) as run:
        if run.is_finished:
            return run.summary

        torch.set_num_threads(config.trainer.threads)
        torch.set_flush_denormal(True)  # Adam's moments of idle units decay to them; slow on CPUs
        keep_freed_memory()
        L.seed_everything(config.seed, verbose=False)
        progress = Progress(run, config.trainer)

        domain = build_domain(config, run.folder.results_dir, run.started)
        run.inputs_loaded(config)
        feedback = feedback_of(domain, config)
        objective = build_objective(config.objective, feedback, domain.dimensions)
        warning = objective.warning(domain.shares)
        if warning and distributed.rank() == 0:
            logger.warning(warning)

        with WandbMirror(config, run.folder.path) as mirror:
            evaluate = Evaluate(domain, config.trainer, writers=[run, mirror, progress])
            checkpoint = Checkpoint(run.folder, config.trainer)
            # Checkpoint acts last: it saves the effects of the other callbacks.
            trainer = build_trainer(config.trainer, [*callbacks, evaluate, progress, checkpoint])
            module = PreferenceModule(
                domain, objective, config.optimizer, config.reference, config.trainer
            )
            trainer.fit(module, Batches(domain), ckpt_path=run.checkpoint, weights_only=True)
            if checkpoint.stopped_by is not None and not module.is_done:
                mirror.interrupt()
                run.interrupt(checkpoint.stopped_by, module.step)
                return run.summary
            export(run.folder, config, domain, objective)
        run.finish()
    return run.summary
