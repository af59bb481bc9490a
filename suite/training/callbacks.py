"""What happens around the training step: evaluation, records, checkpoints, signals."""

import logging
import signal
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from types import FrameType
from typing import Any

import lightning.pytorch as L
from torch import Tensor
from typing_extensions import override

from suite.config.schema import TrainerConfig
from suite.domains.base import Domain, HasDiagnostics, HasExamples
from suite.runs.folder import RunFolder
from suite.system import distributed
from suite.system.signals import NOTICE_SIGNAL, STOP_SIGNALS
from suite.training.module import PreferenceModule

logger = logging.getLogger(__name__)
WriteRow = Callable[[int, dict[str, float]], None]
WriteExamples = Callable[[int, list[dict[str, Any]]], None]


class StepCallback(L.Callback, ABC):
    """What the callbacks below share: `after_step` is called after one or several steps."""

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
        self.after_step(trainer, pl_module.step, outputs)

    @abstractmethod
    def after_step(self, trainer: L.Trainer, step: int, outputs: Any) -> None:
        """Act after optimiser step `step`, counted from 1."""


class Evaluate(StepCallback):
    """Log training metrics every so often, and an evaluation at the start, on schedule, at the end.

    `write_row` is called with the step and a row of numbers named `train/…` or `eval/…`, and
    `write_examples` with the step and what else a domain has to show.
    """

    def __init__(
        self,
        domain: Domain,
        settings: TrainerConfig,
        write_row: WriteRow,
        write_examples: WriteExamples,
    ) -> None:
        self.domain = domain
        self.settings = settings
        self.write_row = write_row
        self.write_examples = write_examples

    @override
    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, PreferenceModule)
        if pl_module.step == 0:
            self.evaluate(0)
        trainer.should_stop = pl_module.ended  # before a kill

    @override
    def after_step(self, trainer: L.Trainer, step: int, outputs: dict[str, Tensor]) -> None:
        last = step == self.settings.steps
        if step % self.settings.log_every == 0 or last:
            row = {
                f"train/{name}": distributed.mean(value.item()) for name, value in outputs.items()
            }
            row["train/loss"] = row.pop("train/total")
            if isinstance(self.domain, HasDiagnostics):
                more = self.domain.diagnostics()
                row |= {f"train/{name}": value for name, value in more.items()}
            self.write_row(step, row)
        if step % self.settings.eval_every == 0 or last:
            kl, most = self.evaluate(step).get("kl", 0.0), self.settings.max_kl
            module = trainer.lightning_module
            if most is not None and kl > most:
                assert isinstance(module, PreferenceModule)
                logger.warning(
                    "step %s: KL %.3g is above trainer.max_kl=%g: the end", step, kl, most
                )
                module.ended = trainer.should_stop = True

    def evaluate(self, step: int) -> dict[str, float]:
        """Evaluate the domain's policy, log the outcome and return it."""
        was_training = self.domain.policy.training
        self.domain.policy.eval()
        found = self.domain.evaluate()
        self.domain.policy.train(was_training)
        self.write_row(step, {f"eval/{name}": value for name, value in found.items()})
        if isinstance(self.domain, HasExamples):
            self.write_examples(step, self.domain.examples())
        return found


class Checkpoint(StepCallback):
    """Save on schedule and at the end; on a stop signal save at the next step and stop."""

    def __init__(self, run: RunFolder, settings: TrainerConfig) -> None:
        self.run = run
        self.path = run.checkpoints / "last.ckpt"
        self.settings = settings
        self.stopped_by: int | None = None

    @override
    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if threading.current_thread() is threading.main_thread():
            # Lightning restores the handlers that were there before it started.
            for number in STOP_SIGNALS:
                signal.signal(number, self.request_stop)

    def request_stop(self, number: int, frame: FrameType | None) -> None:
        """Remember that a signal came; acting inside a handler would tear a step apart."""
        self.stopped_by = number

    @override
    def after_step(self, trainer: L.Trainer, step: int, outputs: Any) -> None:
        due = step % self.settings.checkpoint_every == 0 or step == self.settings.steps
        # One answer for all: a signal may reach one rank before the others, or after it was asked.
        stop = distributed.any_rank(self.stopped_by is not None)
        if stop:
            self.stopped_by = self.stopped_by or NOTICE_SIGNAL
            trainer.should_stop = True
        if due or trainer.should_stop:
            self.run.check_lease()
            trainer.save_checkpoint(self.path)
