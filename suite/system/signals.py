"""Signals that ask a run to stop: Ctrl-C, SIGTERM, a lost terminal, and a scheduler's notice."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

NOTICE_SIGNAL = signal.SIGUSR2  # SLURM sends it ahead of a time limit or a preemption
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, NOTICE_SIGNAL)
EXIT_STOPPED = 130  # exit code of a process that a stop signal ended
EXIT_STOPPED_EARLY = 143  # the same before its first run began; a shell's code for SIGTERM


class Interrupted(BaseException):
    """A stop signal came while no training step was running."""


class Stopped(Interrupted):
    """A stop signal ended a run that had begun; the run can be continued."""


@contextmanager
def interruptible() -> Iterator[None]:
    """Turn stop signals into Interrupted; the training loop has its own, gentler handlers."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may handle signals
        return
    previous = {number: signal.signal(number, interrupt) for number in heeded_signals()}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def heeded_signals() -> list[signal.Signals]:
    """Return the stop signals of this process; under nohup a lost terminal is none."""
    is_ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    return [s for s in STOP_SIGNALS if s is not signal.SIGHUP or not is_ignored]


def interrupt(number: int, frame: FrameType | None) -> None:
    """Raise Interrupted, and ignore further stop signals: cleaning up must not be interrupted."""
    for stop_signal in STOP_SIGNALS:
        signal.signal(stop_signal, signal.SIG_IGN)
    raise Interrupted(signal.Signals(number).name)
