"""One launcher of a sweep on a machine, and workers that end when their launcher is gone.

The locks are those of the kernel (flock): they end with the process that holds them, however it
ends. Where a file system has no such locks, launchers are not told of each other.
"""

import fcntl
import json
import os
import platform
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NamedTuple

from suite.config.fields import ConfigError
from suite.runs.folder import make_folder
from suite.runs.lease import start_ticks

POLL_SECONDS = 0.5
REPEAT_SECONDS = 10.0  # between two signals to a worker that goes on
PATIENCE_SECONDS = 120.0  # with workers of a launcher that is gone, which save checkpoints


class Launcher(NamedTuple):
    """The process that started a worker."""

    pid: int
    started: int | None  # in clock ticks since boot; None where the system does not tell

    @classmethod
    def current(cls) -> "Launcher":
        """Return this process."""
        return cls(os.getpid(), start_ticks(os.getpid()))

    def is_alive(self) -> bool:
        """Return whether the process runs; another one with the same number does not count."""
        if self.started is not None:
            return start_ticks(self.pid) == self.started
        try:
            os.kill(self.pid, 0)
        except OSError:
            return False
        return True


@contextmanager
def sole_launcher(folder: Path) -> Iterator[None]:
    """Hold a sweep on this machine; raises ConfigError where another launcher has it."""
    with opened(folder, "launcher") as file:
        if not take(file, fcntl.LOCK_EX | fcntl.LOCK_NB):
            file.seek(0)
            raise ConfigError(
                f"{folder}: another `suite sweep` works on it, {owner(file.read())}; wait for it,"
                " or stop it first"
            )
        file.truncate(0)
        file.write(json.dumps({"pid": os.getpid(), "host": platform.node()}))
        file.flush()
        yield


def owner(text: str) -> str:
    """Name the process of a lock file."""
    try:
        values = json.loads(text)
        return f"process {int(values['pid'])} on {platform.node()}"
    except (ValueError, KeyError, TypeError):
        return f"a process on {platform.node()}"


def wait_for_workers(folder: Path, show: Callable[[str], None]) -> None:
    """Wait until the workers of a launcher that is gone have saved their checkpoints."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    with opened(folder, "workers") as file:
        first = True
        while not take(file, fcntl.LOCK_EX | fcntl.LOCK_NB) and time.monotonic() < deadline:
            if first:
                show("workers of an earlier launcher save their checkpoints and end")
            first = False
            time.sleep(POLL_SECONDS)


@contextmanager
def worker_of(launcher: Launcher | None, folder: Path) -> Iterator[None]:
    """Count as a worker of a sweep, and get SIGTERM when the launcher is gone.

    Without a launcher, as in a job of SLURM, nothing happens.
    """
    if launcher is None:
        yield
        return
    with opened(folder, "workers") as file:
        take(file, fcntl.LOCK_SH)
        ended = threading.Event()
        watch = threading.Thread(target=end_with, args=(launcher, ended), daemon=True)
        watch.start()
        try:
            yield
        finally:
            ended.set()
            watch.join()  # or its signal could come after the handlers are gone


def end_with(launcher: Launcher, ended: threading.Event) -> None:
    """Send this process SIGTERM when its launcher or the process between them is gone."""
    parent = os.getppid()
    while not ended.wait(POLL_SECONDS):
        if launcher.is_alive() and os.getppid() == parent:
            continue
        os.kill(os.getpid(), signal.SIGTERM)
        ended.wait(REPEAT_SECONDS)


@contextmanager
def opened(folder: Path, kind: str) -> Iterator[IO[str]]:
    """Open a lock file of this machine in a sweep's folder; raises ConfigError."""
    path = folder / f".{kind}-{platform.node()}"
    try:
        make_folder(folder)
        file = path.open("a+", encoding="utf-8", errors="replace")
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}") from None
    with file:
        yield file


def take(file: IO[str], kind: int) -> bool:
    """Take a lock; False where another process has it. File systems without locks give it."""
    try:
        fcntl.flock(file, kind)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True
