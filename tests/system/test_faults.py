"""A full or broken disk interrupts a run; the run itself did not fail."""

import errno
import logging
import os
from pathlib import Path

import pytest

from suite.cli import main
from suite.config.fields import ConfigError
from suite.runs.folder import RunFolder
from suite.system.faults import CODES, disk_fault
from suite.train import train
from tests.conftest import ROOT, Tiny


def wrapped(error: Exception) -> Exception:
    """An error as a library raises it for another one."""
    try:
        try:
            raise error
        except Exception:
            raise ConfigError("rows.jsonl: not readable") from None
    except ConfigError as outer:
        return outer


@pytest.mark.parametrize("code", CODES)
def test_an_error_of_the_disk_is_known_behind_other_errors(code: int) -> None:
    error = OSError(code, os.strerror(code), "some/file")
    assert disk_fault(error) == f"{os.strerror(code)}: some/file"
    assert disk_fault(wrapped(error)) == disk_fault(error)
    assert disk_fault(RuntimeError(f"I/O error: {os.strerror(code)} (os error {code})"))


@pytest.mark.parametrize(
    "error",
    [ValueError("a"), FileNotFoundError(2, "No such file"), PermissionError(13, "no"), None],
)
def test_other_errors_are_none_of_the_disk(error: Exception | None) -> None:
    assert disk_fault(error) is None


@pytest.mark.parametrize("code", CODES)
def test_a_run_whose_disk_fails_is_interrupted_and_continues(
    tiny: Tiny, code: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    config = tiny("bandit", f"seed={code}")
    run, honest = RunFolder.of(config), RunFolder.log_metrics

    def log(self: RunFolder, step: int, row: dict[str, float]) -> None:
        if step == 8:
            raise OSError(code, os.strerror(code), str(self.metrics_path))
        honest(self, step, row)

    with monkeypatch.context() as patch, caplog.at_level(logging.ERROR):
        patch.setattr(RunFolder, "log_metrics", log)
        with pytest.raises(OSError, match=os.strerror(code)):
            train(config)
    assert run.state() == "interrupted"
    assert f"interrupted, not failed: {os.strerror(code)}" in caplog.text
    assert train(config)["status"] == "finished"
    assert run.attempts()[1]["step"] > 0


def test_the_command_line_calls_it_interrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(self: RunFolder, step: int, row: dict[str, float]) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(RunFolder, "log_metrics", full)
    path = str(ROOT / "configs/bandit/sphere.yaml")
    assert main(["train", path, "trainer.steps=2", f"results_dir={tmp_path}"]) == 130
    assert "No space left on device" in capsys.readouterr().err
