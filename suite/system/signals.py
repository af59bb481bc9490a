"""Signals that ask a run to stop: Ctrl-C, SIGTERM, and the one that cluster schedulers send."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

NOTICE = signal.SIGUSR2  # what SLURM is asked to send ahead of a time limit or a preemption
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, NOTICE)
STOPPED = 130  # exit code of a process that such a signal stopped
TOO_EARLY = 143  # and of one that had not begun; a shell's for SIGTERM


class Interrupted(BaseException):
    """A stop signal came while no training step was under way."""


class Stopped(Interrupted):
    """A run that was under way was stopped, and can be gone on with."""


@contextmanager
def interruptible() -> Iterator[None]:
    """Turn stop signals into Interrupted; the training loop has its own, gentler handlers."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may handle signals
        return
    before = {number: signal.signal(number, interrupt) for number in STOP_SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def interrupt(number: int, frame: FrameType | None) -> None:
    """Raise Interrupted, once: what is being cleaned up must not be interrupted again."""
    for each in STOP_SIGNALS:
        signal.signal(each, signal.SIG_IGN)
    raise Interrupted(signal.Signals(number).name)
