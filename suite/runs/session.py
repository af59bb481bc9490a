"""A session of a run: the right to train it, the checkpoint to continue from, the outcome."""

import logging
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from suite.config.schema import Config
from suite.runs.environment import differences
from suite.runs.folder import RunFolder
from suite.runs.inputs import InputsChanged, check_inputs, check_loaded
from suite.runs.lease import LeaseHeld
from suite.runs.resume import check_summary, resume_point
from suite.system import distributed
from suite.system.exits import exits_are_errors
from suite.system.faults import disk_fault
from suite.system.logs import log_to_file
from suite.system.signals import Interrupted, interruptible
from suite.system.timing import Stopwatch, stopwatch

logger = logging.getLogger(__name__)


class Start(NamedTuple):
    """The decision of rank 0 about a run, which all ranks follow."""

    summary: dict[str, Any] | None = None
    """The summary of a finished run: there is nothing to do."""
    checkpoint: Path | None = None
    """The checkpoint to continue from; None to start at step 0."""
    refusal: str | None = None
    """The reason where another process holds the run."""
    started: datetime | None = None
    """When the run first began."""
    changed: str | None = None
    """The reason where an input of the run is not what it began with."""


class Session:
    """A run that this process trains, alone or as one of several ranks; rank 0 writes the files."""

    def __init__(self, folder: RunFolder, start: Start, watch: Stopwatch) -> None:
        self.folder = folder
        self.checkpoint = start.checkpoint
        self.started = start.started
        self.is_finished = start.summary is not None
        self.summary = start.summary or {}
        self.stopwatch = watch

    def inputs_loaded(self, config: Config) -> None:
        """Record the digests of what the domain fetched; raises InputsChanged (see `session`)."""
        if distributed.rank() == 0:
            check_loaded(self.folder, config, at_start=self.checkpoint is None)

    def write_row(self, step: int, row: dict[str, float]) -> None:
        """Append a row of metrics."""
        if distributed.rank() == 0:
            self.folder.log_metrics(step, row)

    def write_examples(self, step: int, rows: list[dict[str, Any]]) -> None:
        """Write the newest examples."""
        if distributed.rank() == 0:
            self.folder.write_examples(step, rows)

    def finish(self) -> None:
        """Write the summary of the finished run."""
        self.summary = {"status": "finished"}
        if distributed.rank() == 0:
            logger.info("%s finished", self.folder.path.name)
            self.summary = self.folder.finish("finished", error=None)

    def interrupt(self, signal_number: int, step: int) -> None:
        """Note that a stop signal ended training after `step`; the checkpoint is saved."""
        name = signal.Signals(signal_number).name
        self.summary = {"status": "interrupted", "signal": name, "step": step}


@contextmanager
def session(config: Config) -> Iterator[Session]:
    """Hold the run of a configuration while the block trains it; every rank enters.

    Rank 0 decides for all ranks. The block has nothing to do where `is_finished` is true. When the
    block ends, `summary` tells how: a stop signal makes it `interrupted`. Another error is raised
    again, and written to the run's summary unless it comes from a full or broken disk: that leaves
    the run interrupted. Raises LeaseHeld on all ranks where another process works on the run,
    InputsChanged where it reads other rows or another model than at its start, and Interrupted
    where a signal comes to one of several ranks.
    """
    folder = RunFolder.of(config)
    folder.path.mkdir(parents=True, exist_ok=True)
    nodes = config.trainer.num_nodes
    with (
        distributed.process_group(config.trainer.devices, nodes, folder.path),
        ExitStack() as held,
        stopwatch() as watch,
    ):
        own_start = begin(config, folder, held) if distributed.rank() == 0 else None
        start: Start = distributed.broadcast(own_start)
        if start.refusal is None and start.changed is None:
            run = Session(folder, start, watch)
            with outcome_recorded(run):
                yield run
    if start.refusal is not None:
        raise LeaseHeld(start.refusal)
    if start.changed is not None:
        raise InputsChanged(start.changed)


def begin(config: Config, folder: RunFolder, held: ExitStack) -> Start:
    """Take the lease and prepare the folder, unless the run is finished or held by others.

    `held` releases the lease and closes the run's log.
    """
    if folder.state() == "finished":
        return finished_already(config, folder)
    try:
        held.enter_context(folder.lease())
    except LeaseHeld as refusal:
        return Start(refusal=str(refusal))
    if folder.state() == "finished":  # by the process that held the lease before
        return finished_already(config, folder)
    try:
        inputs = check_inputs(folder, config)
    except InputsChanged as refusal:
        return Start(changed=str(refusal))
    folder.create(config)
    earlier = folder.environment()
    folder.begin(inputs)
    held.enter_context(log_to_file(folder.log_path))
    checkpoint, step = resume_point(folder, config.trainer.checkpoint_every)
    now = folder.environment()
    if inputs and not earlier.get("inputs") and folder.attempts():
        logger.info("the digests of its inputs are recorded from now on")
    if checkpoint is not None and (others := differences(earlier, now)):
        logger.warning("since the attempt before, these changed: %s", ", ".join(others))
    code = {name: now.get(name) for name in ("git", "source", "packages")}
    folder.record_event("began", step, **code)
    return Start(checkpoint=checkpoint, started=folder.started())


def finished_already(config: Config, folder: RunFolder) -> Start:
    """Return the summary of a finished run, unless its score is that of other inputs."""
    try:
        check_inputs(folder, config)
    except InputsChanged as refusal:
        return Start(changed=str(refusal))
    check_summary(folder)
    logger.info("%s is finished already; nothing to do", folder.path)
    return Start(summary=folder.summary() or {})


@contextmanager
def outcome_recorded(run: Session) -> Iterator[None]:
    """Turn a stop signal into the status `interrupted`; write an error to the run's summary."""
    rank = distributed.rank()
    try:
        with interruptible(), exits_are_errors():
            yield
    except Interrupted as interruption:
        if distributed.world_size() > 1:
            raise  # the ranks cannot stop together here: another may wait for this one
        run.summary = {"status": "interrupted", "signal": str(interruption)}
    except (LeaseHeld, InputsChanged):
        raise  # another process has the run now, and writes its summary; or it waits for a person
    except Exception as error:
        if distributed.is_rank_loss(error):
            logger.error("rank %s: another rank is gone: %s", rank, error)
            raise
        if fault := disk_fault(error):
            logger.error("interrupted, not failed: %s; the same command continues", fault)
            raise
        origin = f"rank {rank}: " if rank else ""
        if origin:
            logger.exception("%s", origin)  # the run's log is written by rank 0 alone
        run.folder.finish("failed", error=f"{origin}{type(error).__name__}: {error}")
        raise
