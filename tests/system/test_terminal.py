"""The terminal decides nothing: a run ends the same on one that is closed, full or ASCII."""

import errno
import io
import os
import sys
from pathlib import Path

import pytest

from suite.cli import main
from suite.runs.folder import RunFolder
from suite.system.terminal import MAX_CHARACTERS, Forgiving, forgiving_terminal, printable
from suite.train import train
from tests.conftest import ROOT, Tiny


class Broken(io.StringIO):
    """A stream whose every write fails."""

    def __init__(self, code: int, at_flush: bool) -> None:
        super().__init__()
        self.code, self.at_flush, self.calls = code, at_flush, 0

    def write(self, text: str) -> int:
        self.calls += 1
        if not self.at_flush:
            raise OSError(self.code, os.strerror(self.code))
        return len(text)

    def flush(self) -> None:
        if self.at_flush:
            raise OSError(self.code, os.strerror(self.code))


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EPIPE, errno.EIO])
@pytest.mark.parametrize("at_flush", [False, True])
def test_a_run_is_finished_whatever_becomes_of_its_terminal(
    tiny: Tiny, code: int, at_flush: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = Broken(code, at_flush)
    monkeypatch.setattr(sys, "stdout", broken)
    monkeypatch.setattr(sys, "stderr", broken)
    assert train(tiny("bandit"))["status"] == "finished"
    assert broken.calls, "something was said"


@pytest.mark.parametrize("kind", ["full", "closed", "none", "ascii", "pipe"])
def test_the_command_line_survives_every_stdout(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    streams = {
        "full": Path("/dev/full").open,
        "ascii": lambda: io.TextIOWrapper(io.BytesIO(), encoding="ascii"),
        "pipe": pipe_without_reader,
        "closed": closed_stream,
        "none": lambda: None,
    }
    path = tmp_path / "α-β.yaml"
    path.write_text((ROOT / "configs/bandit/sphere.yaml").read_text())
    stream = streams[kind]("w") if kind == "full" else streams[kind]()
    monkeypatch.setattr(sys, "stdout", stream)
    small = ["trainer.steps=2", "domain.dimensions=2", f"results_dir={tmp_path}"]
    assert main(["train", str(path), *small]) == 0
    (run,) = (tmp_path / "α-β/runs").iterdir()
    assert RunFolder(run).state() == "finished"
    if kind == "ascii":
        stream.seek(0)
        assert "\\u03b1-\\u03b2" in stream.read(), "what ASCII lacks is written as an escape"
    elif stream is not None:
        stream.close()


def pipe_without_reader() -> io.TextIOWrapper:
    read, write = os.pipe()
    os.close(read)
    return os.fdopen(write, "w")


def closed_stream() -> io.StringIO:
    stream = io.StringIO()
    stream.close()
    return stream


def test_a_stream_that_failed_is_not_asked_again() -> None:
    broken = Broken(errno.ENOSPC, at_flush=False)
    stream = Forgiving(broken)
    for _ in range(3):
        stream.write("a")
        stream.flush()
    assert broken.calls == 1
    assert isinstance(stream.error, OSError)


def test_the_standard_streams_are_as_before_afterwards() -> None:
    before = sys.stdout, sys.stderr
    with forgiving_terminal():
        assert sys.stdout is not before[0]
    assert (sys.stdout, sys.stderr) == before


def test_control_characters_are_written_out_and_long_texts_cut() -> None:
    assert printable("\x1b[2J\x1b]0;title\x07 a\tb\nc\r\x9b31m α") == (
        "\\x1b[2J\\x1b]0;title\\x07 a\tb\nc\\x0d\\x9b31m α"
    )
    shown = printable("a" * (MAX_CHARACTERS + 5))
    assert len(shown) < MAX_CHARACTERS + 50
    assert shown.endswith("and 5 more characters")


def test_an_error_with_control_characters_does_not_drive_the_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["train", "no\x1b[2Jfile.yaml"]) == 2
    assert "\x1b" not in capsys.readouterr().err
