"""What happens around the training step: evaluation, records, checkpoints, signals."""

import logging
import signal
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from types import FrameType
from typing import Any

import lightning.pytorch as L
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor
from typing_extensions import override

from suite import ranks
from suite.config import TrainerConfig
from suite.domains.base import Domain
from suite.module import PreferenceModule
from suite.results import RunFolder
from suite.signals import NOTICE, STOP_SIGNALS
from suite.stopwatch import COUNTS, described, shares

logger = logging.getLogger(__name__)
WriteRow = Callable[[int, dict[str, float]], None]
WriteExamples = Callable[[int, list[dict[str, Any]]], None]


class AfterStep(L.Callback, ABC):
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


class Record(AfterStep):
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
            row = {f"train/{name}": ranks.mean(value.item()) for name, value in outputs.items()}
            row["train/loss"] = row.pop("train/total")
            row |= {f"train/{name}": value for name, value in self.domain.diagnostics().items()}
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
        if shown := self.domain.examples():
            self.write_examples(step, shown)
        return found


class Checkpoint(AfterStep):
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
        stop = ranks.anybody(self.stopped_by is not None)
        if stop:
            self.stopped_by = self.stopped_by or NOTICE
            trainer.should_stop = True
        if due or trainer.should_stop:
            self.run.still_mine()
            trainer.save_checkpoint(self.path)


class ShowProgress(AfterStep):
    """A progress bar on the terminal, and the run's progress file for other processes."""

    def __init__(self, run: RunFolder, settings: TrainerConfig) -> None:
        self.run = run
        self.settings = settings
        self.silent = ranks.rank() > 0
        before = run.progress()
        self.score: float | None = before.get("score")
        self.before = before.get("seconds") or 0.0
        self.started = time.monotonic()
        self.told = 0.0
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("step {task.completed}/{task.total}  {task.fields[shown]}"),
            TimeRemainingColumn(),
        )
        self.tell("preparing", before.get("step") or 0, rate=None)

    def watch(self, domain: Domain) -> None:
        """Show the rate of environment steps too, where the domain counts them."""
        self.domain = domain

    def note(self, row: dict[str, float]) -> None:
        """Remember the newest score."""
        self.score = row.get("eval/score", self.score)

    @override
    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, PreferenceModule)
        self.first, self.first_time = pl_module.step, time.monotonic()
        self.first_env_step = self.domain.diagnostics().get("env_steps")
        self.first_tokens = COUNTS["tokens"]
        self.shown = self.bar.add_task(
            self.run.path.name, total=self.settings.steps, completed=self.first, shown=""
        )
        if not self.silent:
            self.bar.start()
        self.tell("training", self.first, rate=None)

    @override
    def after_step(self, trainer: L.Trainer, step: int, outputs: Any) -> None:
        now = time.monotonic()
        if now - self.told > 0.5 or step == self.settings.steps or trainer.should_stop:
            seconds = max(now - self.first_time, 1e-9)
            rate = (step - self.first) / seconds
            self.tell("training", step, rate)
            shown = f"{rate:.3g} steps/s"
            if self.first_env_step is not None:
                env_steps = self.domain.diagnostics()["env_steps"] - self.first_env_step
                shown += f"  {env_steps / seconds:.3g} env steps/s"
            if tokens := COUNTS["tokens"] - self.first_tokens:
                shown += f"  {tokens / seconds:,.0f} tokens/s"
            if self.score is not None:
                shown += f"  score {self.score:.4g}"
            self.bar.update(self.shown, completed=step, shown=shown)

    def tell(self, phase: str, step: int, rate: float | None) -> None:
        """Write the progress file."""
        self.told = time.monotonic()
        if self.silent:
            return
        self.run.report_progress(
            phase=phase,
            step=step,
            steps=self.settings.steps,
            rate=rate,
            score=self.score,
            seconds=self.before + self.told - self.started,
            time=shares(),
        )

    @override
    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        self.bar.stop()
        if not self.silent:
            logger.info("time spent on: %s", described())
