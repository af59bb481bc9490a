"""What happens between training steps: evaluations, rows of metrics, checkpoints, stop signals."""

import logging
import signal
import threading
from abc import ABC, abstractmethod
from collections.abc import Sequence
from types import FrameType
from typing import Any, Protocol

import lightning.pytorch as L
from torch import Tensor
from typing_extensions import override

from suite.config.schema import TrainerConfig
from suite.domains.base import Domain, HasDiagnostics, HasExamples
from suite.runs.checkpoints import LAST
from suite.runs.folder import RunFolder
from suite.system import distributed
from suite.system.signals import NOTICE_SIGNAL, heeded_signals
from suite.training.module import PreferenceModule

logger = logging.getLogger(__name__)


class Writer(Protocol):
    """A destination of metrics: the run's folder, Weights & Biases, the progress bar."""

    def write_row(self, step: int, row: dict[str, float]) -> None:
        """Take a row of numbers named `train/…` or `eval/…`."""
        ...

    def write_examples(self, step: int, rows: list[dict[str, Any]]) -> None:
        """Take a table of examples, such as completions."""
        ...


class StepCallback(L.Callback, ABC):
    """A callback that acts after each call of Lightning, which takes one or more steps."""

    @override
    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        assert isinstance(pl_module, PreferenceModule)
        if pl_module.gave_up:
            self.after_giving_up(trainer, pl_module)
        else:
            self.after_step(trainer, pl_module, outputs)

    def after_giving_up(self, trainer: L.Trainer, module: PreferenceModule) -> None:
        """Act where a stop signal came between the batches of step `module.step + 1`."""

    @abstractmethod
    def after_step(
        self, trainer: L.Trainer, module: PreferenceModule, outputs: dict[str, Tensor]
    ) -> None:
        """Act after optimiser step `module.step`, counted from 1."""


class Evaluate(StepCallback):
    """Write training metrics on schedule, and evaluate at the start, on schedule and at the end."""

    def __init__(self, domain: Domain, settings: TrainerConfig, writers: Sequence[Writer]) -> None:
        self.domain = domain
        self.settings = settings
        self.writers = writers

    @override
    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, PreferenceModule)
        if pl_module.step == 0:
            self.evaluate(0)
        trainer.should_stop = pl_module.ended  # by max_kl, in an earlier attempt

    @override
    def after_step(
        self, trainer: L.Trainer, module: PreferenceModule, outputs: dict[str, Tensor]
    ) -> None:
        step, is_last = module.step, module.step == self.settings.steps
        if step % self.settings.log_every == 0 or is_last:
            self.write(step, self.training_metrics(outputs))
        if step % self.settings.eval_every == 0 or is_last:
            kl, limit = self.evaluate(step).get("kl", 0.0), self.settings.max_kl
            if limit is not None and kl > limit:
                logger.warning(
                    "step %s: KL %.3g is above trainer.max_kl=%g: the run ends", step, kl, limit
                )
                module.ended = trainer.should_stop = True

    def training_metrics(self, outputs: dict[str, Tensor]) -> dict[str, float]:
        """Return the loss terms, as means over the ranks, and the domain's own numbers."""
        row = {
            f"train/{name}": distributed.mean_over_ranks(value.item())
            for name, value in outputs.items()
        }
        row["train/loss"] = row.pop("train/total")
        if isinstance(self.domain, HasDiagnostics):
            diagnostics = self.domain.diagnostics()
            row |= {f"train/{name}": value for name, value in diagnostics.items()}
        return row

    def evaluate(self, step: int) -> dict[str, float]:
        """Evaluate the domain's policy, write the measurements and return them."""
        was_training = self.domain.policy.training
        self.domain.policy.eval()
        measured = self.domain.evaluate()
        self.domain.policy.train(was_training)
        self.write(step, {f"eval/{name}": value for name, value in measured.items()})
        if isinstance(self.domain, HasExamples):
            examples = self.domain.examples()
            for writer in self.writers:
                writer.write_examples(step, examples)
        return measured

    def write(self, step: int, row: dict[str, float]) -> None:
        """Give a row to all writers."""
        for writer in self.writers:
            writer.write_row(step, row)


class Checkpoint(StepCallback):
    """Save on schedule and at the end; after a stop signal, save at the next step and stop."""

    def __init__(self, run: RunFolder, settings: TrainerConfig) -> None:
        self.run = run
        self.path = run.checkpoints / LAST
        self.settings = settings
        self.stopped_by: int | None = None
        """The signal that stopped training."""

    @override
    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, PreferenceModule)
        pl_module.told_to_stop = lambda: self.stopped_by is not None
        if threading.current_thread() is threading.main_thread():
            # Lightning restores the earlier handlers when training ends.
            for number in heeded_signals():
                signal.signal(number, self.request_stop)

    @override
    def on_save_checkpoint(
        self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add the run's name and the mark of its metrics, which are then on the disk."""
        if distributed.rank() == 0:
            checkpoint["run"] = self.run.path.name
            checkpoint["metrics"] = dict(self.run.metrics_file.mark())

    def request_stop(self, number: int, frame: FrameType | None) -> None:
        """Remember a signal; training stops after the step, or between two batches of it."""
        self.stopped_by = number

    @override
    def after_step(
        self, trainer: L.Trainer, module: PreferenceModule, outputs: dict[str, Tensor]
    ) -> None:
        is_due = module.step % self.settings.checkpoint_every == 0
        # All ranks stop at the same step: a signal may reach one of them earlier than the others.
        if distributed.any_rank(self.stopped_by is not None):
            self.stopped_by = self.stopped_by or NOTICE_SIGNAL
            trainer.should_stop = True
        if is_due or module.step == self.settings.steps or trainer.should_stop:
            self.run.check_lease()
            trainer.save_checkpoint(self.path)

    @override
    def after_giving_up(self, trainer: L.Trainer, module: PreferenceModule) -> None:
        self.stopped_by = self.stopped_by or NOTICE_SIGNAL
        trainer.should_stop = True
        calls = trainer.fit_loop.epoch_loop.batch_progress
        for counter in (calls.total, calls.current):  # a resume makes this call again
            for name in ("ready", "started", "processed"):
                setattr(counter, name, getattr(counter, name) - 1)
        # Nothing is new before the first step, and where the last checkpoint is of this step.
        if module.step % self.settings.checkpoint_every:
            self.run.check_lease()
            trainer.save_checkpoint(self.path)
