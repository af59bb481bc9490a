"""Mirror a run to Weights & Biases; whatever happens there never stops training."""

import logging
import os
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from suite.config.schema import Config
from suite.system import distributed

if TYPE_CHECKING:
    import wandb

logger = logging.getLogger(__name__)
LOGIN_SECONDS = 20.0
FINISH_SECONDS = 60.0


class Tracker:
    """One Weights & Biases run, or nothing where it is disabled, and on all ranks but the first."""

    def __init__(self, config: Config, folder: Path) -> None:
        self.run: wandb.Run | None = None
        if config.logging.wandb == "disabled" or distributed.rank() > 0:
            return
        import wandb as library

        for mode in dict.fromkeys((config.logging.wandb, "offline")):
            try:
                self.run = start(config, folder, mode)
                return
            except Exception as error:  # a mirror may break in any way; training goes on
                logger.warning("Weights & Biases (%s): %s", mode, error)
                library.teardown()  # or the next attempt finds the run's id in use

    def log(self, step: int, row: dict[str, float]) -> None:
        """Send one row."""
        self.attempt(lambda run: run.log({**row, "step": step}))

    def show(self, step: int, rows: list[dict[str, Any]]) -> None:
        """Send a table of examples, such as completions."""

        def send(run: "wandb.Run") -> None:
            import wandb

            columns = list(rows[0])
            data = [[str(row[name]) for name in columns] for row in rows]
            run.log({"examples": wandb.Table(columns=columns, data=data), "step": step})

        self.attempt(send)

    def finish(self, failed: bool) -> None:
        """End the run, telling whether it failed."""
        self.attempt(lambda run: run.finish(exit_code=int(failed)))

    def interrupt(self) -> None:
        """End this attempt: W&B shows the run as preempted rather than crashed."""
        self.attempt(lambda run: run.mark_preempting())
        self.finish(failed=True)

    def attempt(self, act: "Callable[[wandb.Run], object]") -> None:
        """Do something with the run; after a failure, go on without it."""
        if self.run is None:
            return
        try:
            act(self.run)
        except Exception as error:
            logger.warning("Weights & Biases stopped, training goes on: %s", error)
            self.run = None


def start(config: Config, folder: Path, mode: str) -> "wandb.Run":
    """Start or continue the W&B run whose id is the configuration's signature."""
    import wandb

    os.environ.setdefault("WANDB_SILENT", "true")
    run = wandb.init(
        project=config.logging.project,
        entity=config.logging.entity,
        dir=folder,
        id=config.signature,
        name=config.run_name,
        group=config.sweep,
        tags=[config.domain.name, config.domain.task, config.objective.name, config.feedback],
        config=asdict(config),
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
    # Rows of one step arrive apart (training, evaluation): let W&B order them by our step.
    run.define_metric("*", step_metric="step")
    return run
