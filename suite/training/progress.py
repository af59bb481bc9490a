"""A run's progress: on the terminal, and in a file for other processes."""

import logging
import time
from typing import Any

import lightning.pytorch as L
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from typing_extensions import override

from suite.config.schema import TrainerConfig
from suite.domains.base import Domain, HasDiagnostics
from suite.runs.folder import RunFolder
from suite.system import distributed
from suite.system.timing import COUNTS, described, shares
from suite.training.callbacks import StepCallback
from suite.training.module import PreferenceModule

logger = logging.getLogger(__name__)


class RunProgress(StepCallback):
    """A progress bar on the terminal, and the run's progress file for other processes."""

    def __init__(self, run: RunFolder, settings: TrainerConfig) -> None:
        self.run = run
        self.settings = settings
        self.silent = distributed.rank() > 0
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

    def env_steps(self) -> float | None:
        """Return the environment steps so far, where the domain counts them."""
        if not isinstance(self.domain, HasDiagnostics):
            return None
        return self.domain.diagnostics().get("env_steps")

    def note(self, row: dict[str, float]) -> None:
        """Remember the newest score."""
        self.score = row.get("eval/score", self.score)

    @override
    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, PreferenceModule)
        self.first, self.first_time = pl_module.step, time.monotonic()
        self.first_env_step = self.env_steps()
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
                taken = (self.env_steps() or 0) - self.first_env_step
                shown += f"  {taken / seconds:.3g} env steps/s"
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
