"""Faults at every write of a command: the machinery of the tests of reliability.

`FaultServer` starts one process that has imported the suite. Each command is a fork of it, in which
a plan decides what happens at the n-th write point. A write point is an operation that changes a
file below the results: open (for writing), write, fsync, rename, mkdir, remove, truncate, utime.
Python's audit events and wrapped files tell them, so that no writer can be forgotten.
"""

import errno
import io
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[1]
SIGNALS = ("SIGKILL", "SIGTERM", "SIGINT", "SIGHUP")
ERRORS = ("EIO", "ENOSPC")
FAULTS = (*SIGNALS, *ERRORS)
MODIFYING = {
    "os.rename": "rename", "os.remove": "remove", "os.mkdir": "mkdir", "os.rmdir": "remove",
    "os.truncate": "truncate", "os.utime": "utime", "os.link": "link", "os.symlink": "link",
}  # fmt: skip
IMPORTS = ("suite.train", "suite.training.export", "suite.report.page", "huggingface_hub")


class Outcome(NamedTuple):
    """How a command ended."""

    code: int
    """The exit code; a negative signal number where a signal ended the process."""
    output: str
    points: list[str]
    """The write points that were reached, such as `rename runs/x/summary.json`."""


class FaultServer:
    """A process that runs commands of the suite as forks of itself."""

    def __init__(self, folder: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults"],
            cwd=ROOT,
            env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.folder = folder

    def run(
        self, arguments: Sequence[str], results: Path, point: int = -1, fault: str = ""
    ) -> Outcome:
        """Run `suite ARGUMENTS`; `fault` happens at the write point of this number, from 0 on."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        job = [list(arguments), str(results), point, fault]
        self.process.stdin.write(json.dumps(job) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        assert line, "the process of the tests ended"
        return Outcome(*json.loads(line))

    def close(self) -> None:
        """End the process."""
        self.process.communicate("")


class Faults:
    """Counts the write points below a folder, and lets a fault happen at one of them."""

    def __init__(self, results: Path, log: int, point: int, fault: str) -> None:
        self.results, self.log, self.point, self.fault = str(results), log, point, fault
        self.count, self.busy = 0, False

    def reached(self, operation: str, path: object) -> None:
        """Note a write point; raises OSError or sends the signal where the plan says so."""
        if isinstance(path, int):
            path = os.readlink(f"/proc/self/fd/{path}")
        name = os.path.abspath(os.fsdecode(path)) if isinstance(path, str | bytes | Path) else ""
        if not name.startswith(self.results + os.sep):
            return
        number, self.count = self.count, self.count + 1
        os.write(self.log, f"{operation} {os.path.relpath(name, self.results)}\n".encode())
        if number == self.point:
            self.strike(name)

    def strike(self, name: str) -> None:
        """Let the fault happen."""
        if self.fault in ERRORS:
            code = getattr(errno, self.fault)
            raise OSError(code, os.strerror(code), name)
        os.kill(os.getpid(), getattr(signal, self.fault))

    def audit(self, event: str, values: tuple[Any, ...]) -> None:
        """Take an audit event of Python."""
        if event == "open" and isinstance(values[2], int):
            if values[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
                self.reached("open", values[0])
        elif event in MODIFYING:
            self.reached(MODIFYING[event], values[1 if event == "os.rename" else 0])

    def install(self) -> None:
        """Watch this process, for ever."""
        sys.addaudithook(self.audit)
        fsync, opened = os.fsync, io.open

        def watched_fsync(file: Any) -> None:
            self.reached("fsync", file if isinstance(file, int) else file.fileno())
            fsync(file)

        def watched_open(path: Any, mode: str = "r", *arguments: Any, **options: Any) -> Any:
            file = opened(path, mode, *arguments, **options)
            is_read = not set(mode) & set("wax+")
            return file if is_read or isinstance(path, int) else WatchedFile(file, path, self)

        os.fsync = watched_fsync
        io.open = watched_open  # type: ignore[assignment]
        __builtins__.open = watched_open  # type: ignore[attr-defined]


class WatchedFile:
    """A file whose first write is a write point: half of the content is written at a fault."""

    def __init__(self, file: Any, path: Any, faults: Faults) -> None:
        self.file, self.path, self.faults, self.is_first = file, path, faults, True

    def write(self, content: Any) -> int:
        """Write, and tell; at a fault one half has reached the disk."""
        if self.is_first and len(content):
            self.is_first = False
            half = content[: len(content) // 2]
            self.file.write(half)
            self.file.flush()
            self.faults.reached("write", self.path)
            self.file.write(content[len(content) // 2 :])
            return len(content)
        return int(self.file.write(content))

    def __enter__(self) -> "WatchedFile":
        self.file.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self.file.__exit__(*error)

    def __iter__(self) -> Any:
        return iter(self.file)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)


def forked(arguments: list[str], results: str, point: int, fault: str) -> Outcome:
    """Run a command in a fork of this process."""
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as log:
        pid = os.fork()
        if pid == 0:
            child(arguments, Faults(Path(results), log.fileno(), point, fault), output.fileno())
        _, status = os.waitpid(pid, 0)
        output.seek(0)
        log.seek(0)
        text, points = (file.read().decode(errors="replace") for file in (output, log))
        return Outcome(os.waitstatus_to_exitcode(status), text, points.splitlines())


def child(arguments: list[str], faults: Faults, output: int) -> None:
    """Run the command and end, as the console script does."""
    from suite.cli import main

    for number in (0, 1, 2):
        os.dup2(output, number)
    faults.install()
    try:
        code: Any = main(arguments)
    except SystemExit as end:
        code = end.code
    except BaseException:
        import traceback

        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else 1)


def serve(command: Callable[..., Outcome]) -> None:
    """Answer commands, one JSON line each."""
    answers = os.fdopen(os.dup(1), "w")
    for line in sys.stdin:
        answers.write(json.dumps(command(*json.loads(line))) + "\n")
        answers.flush()


if __name__ == "__main__":
    import importlib

    for module in IMPORTS:
        importlib.import_module(module)
    from suite.runs import environment

    commit = environment.git_commit()
    environment.git_commit = lambda: commit  # three processes that each run would start
    serve(forked)
