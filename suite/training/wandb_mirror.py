"""A mirror of a run on Weights & Biases; no error there stops training."""

import logging
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from suite.config.schema import Config
from suite.system import distributed
from suite.training.wandb_names import (
    NAME_LENGTH,
    config_values,
    project_name,
    shortened,
    tags,
)

if TYPE_CHECKING:
    import wandb

logger = logging.getLogger(__name__)
LOGIN_SECONDS = 20.0
FINISH_SECONDS = 60.0


class WandbMirror:
    """A W&B run, on rank 0 and where it is enabled; else without effect.

    As a context manager it ends the run when the block ends, as failed after an error.
    """

    def __init__(self, config: Config, folder: Path) -> None:
        self.run: wandb.Run | None = None
        if config.logging.wandb == "disabled" or distributed.rank() > 0:
            return
        for mode in dict.fromkeys((config.logging.wandb, "offline")):
            try:
                self.run = start(config, folder, mode)
                return
            except (Exception, SystemExit) as error:  # W&B may fail in any way; training continues
                logger.warning("Weights & Biases (%s): %s", mode, error)
                forget_attempt()

    def __enter__(self) -> "WandbMirror":
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.finish(failed=error is not None)

    def write_row(self, step: int, row: dict[str, float]) -> None:
        """Send one row."""
        self.attempt(lambda run: run.log({**row, "step": step}))

    def write_examples(self, step: int, rows: list[dict[str, Any]]) -> None:
        """Send a table of examples, such as completions."""

        def send(run: "wandb.Run") -> None:
            import wandb

            columns = list(rows[0])
            data = [[str(row[name]) for name in columns] for row in rows]
            run.log({"examples": wandb.Table(columns=columns, data=data), "step": step})

        self.attempt(send)

    def finish(self, failed: bool) -> None:
        """End the run, once, as failed or as finished."""
        self.attempt(lambda run: run.finish(exit_code=int(failed)))
        self.run = None

    def interrupt(self) -> None:
        """End this attempt: W&B shows the run as preempted, not as crashed."""
        self.attempt(lambda run: run.mark_preempting())
        self.finish(failed=True)

    def attempt(self, act: "Callable[[wandb.Run], object]") -> None:
        """Call `act` with the run; after an error, continue without the run."""
        if self.run is None:
            return
        try:
            act(self.run)
        except (Exception, SystemExit) as error:
            logger.warning("Weights & Biases stopped, training goes on: %s", error)
            self.run = None


def forget_attempt() -> None:
    """Let a further attempt use the run's id."""
    with suppress(Exception):
        import wandb

        wandb.teardown()


def start(config: Config, folder: Path, mode: str) -> "wandb.Run":
    """Start or continue the W&B run whose id is the configuration's signature."""
    import wandb

    os.environ.setdefault("WANDB_SILENT", "true")
    run = wandb.init(
        project=project_name(config.logging.project),
        entity=config.logging.entity,
        dir=folder,
        id=config.signature,
        name=shortened(config.run_name, NAME_LENGTH),
        group=shortened(config.sweep, NAME_LENGTH),
        tags=tags([config.domain.name, config.domain.task, config.objective.name, config.feedback]),
        config=config_values(asdict(config)),
        resume="allow" if mode == "online" else None,
        mode="online" if mode == "online" else "offline",
        settings=wandb.Settings(
            init_timeout=LOGIN_SECONDS,
            finish_timeout=FINISH_SECONDS,
            console="off",
            x_disable_stats=True,
            x_disable_meta=True,
        ),
    )
    # The rows of one step come separately (training, evaluation): W&B orders them by our step.
    run.define_metric("*", step_metric="step")
    return run
