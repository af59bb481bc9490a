"""The progress of a run: a bar on the terminal, and a file for other processes."""

import logging
import sys
import time
from typing import Any

import lightning.pytorch as L
import rich.progress as bars
from rich.console import Console
from torch import Tensor
from typing_extensions import override

from suite.config.schema import TrainerConfig
from suite.domains.base import Domain, HasDiagnostics
from suite.runs.session import Session
from suite.system import distributed
from suite.system.terminal import forgiving
from suite.training.callbacks import StepCallback
from suite.training.module import PreferenceModule

logger = logging.getLogger(__name__)
WRITE_EVERY = 0.5  # seconds


class Progress(StepCallback):
    """Show step, rates and score on the terminal, and write the run's progress file."""

    def __init__(self, run: Session, settings: TrainerConfig) -> None:
        self.folder = run.folder
        self.stopwatch = run.stopwatch
        self.settings = settings
        self.is_silent = distributed.rank() > 0
        earlier = run.folder.progress()
        self.score: float | None = earlier.get("score")
        self.earlier_seconds = earlier.get("seconds") or 0.0
        self.started = time.monotonic()
        self.written = 0.0
        self.bar = bars.Progress(
            bars.TextColumn("{task.description}"),
            bars.BarColumn(),
            bars.TextColumn("step {task.completed}/{task.total}  {task.fields[rates]}"),
            bars.TimeRemainingColumn(),
            console=Console(file=forgiving(sys.stdout)),  # which may be closed, full or ASCII
        )
        self.write("preparing", earlier.get("step") or 0, rate=None)

    def write_row(self, step: int, row: dict[str, float]) -> None:
        """Remember the newest score."""
        self.score = row.get("eval/score", self.score)

    def write_examples(self, step: int, rows: list[dict[str, Any]]) -> None:
        """Ignore examples."""

    @override
    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, PreferenceModule)
        self.first_step, self.first_time = pl_module.step, time.monotonic()
        self.first_env_step = env_steps(pl_module.domain)
        self.first_tokens = self.stopwatch.counts["tokens"]
        self.task = self.bar.add_task(
            self.folder.path.name, total=self.settings.steps, completed=self.first_step, rates=""
        )
        if not self.is_silent:
            self.bar.start()
        self.write("training", self.first_step, rate=None)

    @override
    def after_step(
        self, trainer: L.Trainer, module: PreferenceModule, outputs: dict[str, Tensor]
    ) -> None:
        now, step = time.monotonic(), module.step
        is_last = step == self.settings.steps or trainer.should_stop
        if now - self.written > WRITE_EVERY or is_last:
            seconds = max(now - self.first_time, 1e-9)
            rate = (step - self.first_step) / seconds
            self.write("training", step, rate)
            rates = self.rates(rate, env_steps(module.domain), seconds)
            self.bar.update(self.task, completed=step, rates=rates)

    def rates(self, rate: float, env_step: float | None, seconds: float) -> str:
        """Return the rates since this attempt began, and the score, as text."""
        parts = [f"{rate:.3g} steps/s"]
        if self.first_env_step is not None:
            parts.append(f"{((env_step or 0) - self.first_env_step) / seconds:.3g} env steps/s")
        if tokens := self.stopwatch.counts["tokens"] - self.first_tokens:
            parts.append(f"{tokens / seconds:,.0f} tokens/s")
        if self.score is not None:
            parts.append(f"score {self.score:.4g}")
        return "  ".join(parts)

    def write(self, phase: str, step: int, rate: float | None) -> None:
        """Write the progress file."""
        self.written = time.monotonic()
        if self.is_silent:
            return
        self.folder.report_progress(
            phase=phase,
            step=step,
            steps=self.settings.steps,
            rate=rate,
            score=self.score,
            seconds=self.earlier_seconds + self.written - self.started,
            time=self.stopwatch.shares(),
        )

    @override
    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        self.bar.stop()
        if not self.is_silent:
            logger.info("time spent on: %s", self.stopwatch.description())


def env_steps(domain: Domain) -> float | None:
    """Return the environment steps of the run, where the domain counts them."""
    return domain.diagnostics().get("env_steps") if isinstance(domain, HasDiagnostics) else None
