"""Run the command line in processes of its own, wait for them, and signal them."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.conftest import ROOT

PATIENCE = 300.0  # seconds; a busy machine takes many times as long as an idle one


def start(arguments: Sequence[str], **options: object) -> "subprocess.Popen[str]":
    """Start `suite …` as the leader of its own process group."""
    return subprocess.Popen(
        [sys.executable, "-m", "suite", *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        **options,  # type: ignore[call-overload]
    )


def finish(process: "subprocess.Popen[str]", patience: float = PATIENCE) -> tuple[int, str]:
    """Wait for a process; return its exit code and output."""
    output, _ = process.communicate(timeout=patience)
    return process.returncode, output


def suite(*arguments: str, **options: object) -> tuple[int, str]:
    """Run `suite …`; return its exit code and output."""
    return finish(start(arguments, **options))


def wait_until(condition: Callable[[], bool], process: "subprocess.Popen[str]") -> None:
    """Wait until a condition holds that a process brings about; fails where the process ends."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.002)


def kill_group(process: "subprocess.Popen[str]", number: int) -> None:
    """Signal a process and everything it started."""
    os.killpg(process.pid, number)


def contents(folder: Path) -> dict[str, str]:
    """Return the text of metrics.jsonl of every run of a sweep, by run name."""
    return {p.parent.name: p.read_text() for p in sorted(folder.glob("runs/*/metrics.jsonl"))}
