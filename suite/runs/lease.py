"""Leases: one process at a time works on a run, on any shared file system.

A lease is a file, .claim-<number>, made with O_EXCL. All shared file systems honour that flag;
some keep locks to a single node. The highest number counts. The owner renews its lease every few
seconds. A lease that was not renewed for long belongs to a dead owner, and the process that makes
the next number has the run. Files of released leases stay, so that numbers never begin again.

The files keep the name `.claim-`, since folders and processes of earlier versions use it.
"""

import errno
import json
import os
import platform
import stat
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

from suite.system.files import guarded, read_json

PREFIX = ".claim-"
RENEWAL_SECONDS = 10.0  # between two renewals
EXPIRY_SECONDS = 60.0  # without a renewal, until the owner counts as dead
FUTURE_SECONDS = 600.0  # clocks may differ by that much; a lease from further ahead counts as dead
MAX_DIGITS = 18  # of a lease's number; a longer one is no lease of ours


class LeaseHeld(Exception):
    """Another process works on this run."""


class LeaseLost(LeaseHeld):
    """Another process has taken over this run, whose owner seemed dead."""


class Lease:
    """The right to work on the run in a folder; raises LeaseHeld where another process has it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        last, path = newest_lease(folder)
        if path is not None and is_valid(path, file_server_time(folder)):
            raise LeaseHeld(f"{folder} is in use by another process")
        self.path = folder / f"{PREFIX}{last + 1}"
        try:
            with self.path.open("x") as file:
                json.dump(this_process(), file)
        except FileExistsError:
            raise LeaseHeld(f"{folder} is in use by another process") from None
        except OSError:  # a full disk must not leave a lease that nobody renews
            self.path.unlink(missing_ok=True)
            raise
        if newest_lease(folder)[0] > last + 1:  # another process was faster, and may have ended
            self.path.unlink(missing_ok=True)
            raise LeaseHeld(f"{folder} is in use by another process")
        for number, older in lease_files(folder):
            if number <= last and not older.is_dir():
                older.unlink(missing_ok=True)
        self.released = threading.Event()
        threading.Thread(target=self.renew, daemon=True).start()

    def renew(self) -> None:
        """Update the file's time until the lease is released, so that it does not expire."""
        while not self.released.wait(RENEWAL_SECONDS):
            with suppress(OSError):  # a lost lease is reported by `check`; other errors may pass
                os.utime(self.path)

    def check(self) -> None:
        """Raise LeaseLost where another process took over, as after a long suspension of this.

        The file is opened: network file systems answer other questions from memory.
        """
        try:
            self.path.open("rb").close()
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ESTALE):
                raise
            raise LeaseLost(
                f"{self.folder} was taken over by another process, this one seemed dead"
            ) from None

    def release(self) -> None:
        """Let another process have the run."""
        self.released.set()
        try:
            with self.path.open("r+", encoding="utf-8") as file:  # makes no file that is gone
                file.truncate()
                json.dump({"released": True}, file)
        except OSError:  # a full disk: the file is empty, and of long ago it holds up nobody
            with suppress(OSError):
                os.utime(self.path, (0, 0))


@contextmanager
def hold(folder: Path) -> Iterator[Lease]:
    """Hold the lease of the run in a folder; raises LeaseHeld where another process has it.

    During the block no file in the folder is replaced once another process has taken over.
    """
    lease = Lease(folder)
    try:
        with guarded(folder, lease.check):
            yield lease
    finally:
        lease.release()


def is_leased(folder: Path) -> bool:
    """Return whether a living process works on the run in a folder; changes no file."""
    _, path = newest_lease(folder)
    return path is not None and is_valid(path, time.time())


def lease_files(folder: Path) -> list[tuple[int, Path]]:
    """Return the numbers and files of all leases."""
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries if entry.name.startswith(PREFIX)]
    numbers = {name: name.removeprefix(PREFIX) for name in names}
    return [
        (int(number), folder / name)
        for name, number in numbers.items()
        if number.isascii() and number.isdigit() and len(number) <= MAX_DIGITS
    ]


def newest_lease(folder: Path) -> tuple[int, Path | None]:
    """Return number and file of the lease that counts; 0 and None where there was none."""
    return max(lease_files(folder), default=(0, None), key=lambda lease: lease[0])


def is_valid(path: Path, now: float) -> bool:
    """Return whether a lease's owner lives.

    On this machine the owner's process tells; elsewhere the age of the file at the time `now`. It
    also tells where the file does not name an owner. What is no file is nobody's lease.
    """
    try:
        facts = path.lstat()
    except FileNotFoundError:
        return True  # another process has just taken it over
    if not stat.S_ISREG(facts.st_mode):
        return False
    owner: dict[str, Any] = {}  # empty for an instant, while it is made
    with suppress(OSError, RecursionError):
        owner = read_json(path) or {}
    if owner.get("released"):
        return False
    pid, started = owner.get("pid"), owner.get("started")
    known = isinstance(pid, int) and isinstance(started, int)
    if known and owner.get("machine") and owner["machine"] == this_machine():
        return bool(start_ticks(owner["pid"]) == started)
    return -FUTURE_SECONDS < now - facts.st_mtime < EXPIRY_SECONDS


def file_server_time(folder: Path) -> float:
    """Return the time of the folder's file server, whose clock dates the lease files."""
    probe = folder / f".time-{os.getpid()}-{threading.get_ident()}"
    probe.touch()
    try:
        return probe.stat().st_mtime
    finally:
        probe.unlink(missing_ok=True)


def this_process() -> dict[str, Any]:
    """Describe this process so that no other one, now or after a restart, has the same values."""
    pid, machine = os.getpid(), this_machine()
    return {"machine": machine, "pid": pid, "started": start_ticks(pid), "host": platform.node()}


@cache
def this_machine() -> str:
    """Return a text that is equal exactly where process ids mean the same processes."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""  # unknown: only renewals count


def start_ticks(pid: int) -> int | None:
    """Return when a process started, in clock ticks since boot; None where it is dead."""
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if state == "Z" else int(fields[18])
