"""Who works on a run: claims that hold on any shared file system, and end with their owner.

A claim is a file, .claim-<number>, made with O_EXCL, which all shared file systems get right; locks
some keep to a single node. The highest number counts. Its owner renews it every few seconds: one
that has grown old is a dead owner's, and whoever makes the next number has the run. Files of
released claims stay, so that numbers never begin again.
"""

import json
import os
import platform
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

from suite.system.files import read_json, write_json

RENEWED = 10.0  # seconds between renewals
DEAD = 60.0  # seconds without one


class LeaseHeld(Exception):
    """Another process works on this run."""


class LeaseLost(LeaseHeld):
    """Another process has taken over this run, whose owner seemed dead."""


class Lease:
    """The right to work on the run in a folder; raises LeaseHeld where somebody else has it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        before, holder = newest(folder)
        if holder is not None and holds(holder, time_at(folder)):
            raise LeaseHeld(f"{folder} is in use by another process")
        self.path = folder / f".claim-{before + 1}"
        try:
            with self.path.open("x") as file:
                json.dump(myself(), file)
        except FileExistsError:
            raise LeaseHeld(f"{folder} is in use by another process") from None
        if newest(folder)[0] > before + 1:  # made and released, or taken, since we looked
            self.path.unlink(missing_ok=True)
            raise LeaseHeld(f"{folder} is in use by another process")
        for number, path in claims(folder):
            if number <= before:
                path.unlink(missing_ok=True)
        self.ended = threading.Event()
        threading.Thread(target=self.renew, daemon=True).start()

    def renew(self) -> None:
        """Show every few seconds that the owner lives."""
        while not self.ended.wait(RENEWED):
            with suppress(OSError):  # it was lost, which `check` finds out, or it goes again later
                os.utime(self.path)

    def check(self) -> None:
        """Raise LeaseLost where the claim was lost, as by a process that was suspended for long."""
        if not self.path.exists():
            raise LeaseLost(
                f"{self.folder} was taken over by another process, this one seemed dead"
            )

    def release(self) -> None:
        """Let others have the run."""
        self.ended.set()
        if self.path.exists():
            write_json(self.path, {"released": True})


@contextmanager
def hold(folder: Path) -> Iterator[Lease]:
    """Hold the run in a folder; raises LeaseHeld where somebody else does."""
    held = Lease(folder)
    try:
        yield held
    finally:
        held.release()


def is_leased(folder: Path) -> bool:
    """Tell whether a living process works on the run in a folder, without disturbing anybody."""
    _, holder = newest(folder)
    return holder is not None and holds(holder, time.time())


def claims(folder: Path) -> list[tuple[int, Path]]:
    """Return the numbers and files of all claims."""
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries if entry.name.startswith(".claim-")]
    return [(int(name[7:]), folder / name) for name in names if name[7:].isdigit()]


def newest(folder: Path) -> tuple[int, Path | None]:
    """Return number and file of the claim that counts; 0 and None where there was none."""
    return max(claims(folder), default=(0, None), key=lambda claim: claim[0])


def holds(path: Path, now: float) -> bool:
    """Tell whether a claim's owner lives: by its process on this machine, else by its renewals."""
    owner = read_json(path) or {}  # empty for an instant, while it is made
    if owner.get("released"):
        return False
    if owner.get("machine") and owner["machine"] == this_machine():
        return bool(started(owner["pid"]) == owner["started"])
    try:
        return now - path.stat().st_mtime < DEAD
    except FileNotFoundError:
        return True  # somebody has just taken it over


def time_at(folder: Path) -> float:
    """Return the time as the folder's file server tells it, whose clock dates the claims."""
    probe = folder / f".time-{os.getpid()}-{threading.get_ident()}"
    probe.touch()
    try:
        return probe.stat().st_mtime
    finally:
        probe.unlink(missing_ok=True)


def myself() -> dict[str, Any]:
    """Describe this process so that it can be told from any other, now and after a restart."""
    pid = os.getpid()
    return {"machine": this_machine(), "pid": pid, "started": started(pid), "host": platform.node()}


@cache
def this_machine() -> str:
    """Return what is the same exactly where process ids mean the same processes."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""  # unknown: only renewals count


def started(pid: int) -> int | None:
    """Return when a process started, in ticks since boot; None where it is dead."""
    try:
        state, *rest = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if state == "Z" else int(rest[18])
