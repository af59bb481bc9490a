"""Where a further attempt begins: a read error is no damage, and rows fit their checkpoint."""

import errno
import io
import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from suite.config.fields import ConfigError
from suite.config.schema import Config
from suite.runs.folder import RunFolder
from suite.train import train
from tests.conftest import Tiny

Files = dict[str, bytes]
SHORT = ["trainer.steps=4", "trainer.eval_every=2", "trainer.checkpoint_every=2"]


@pytest.fixture
def interrupted(tiny: Tiny, tmp_path: Path) -> tuple[Config, Files]:
    """A run that was killed before its summary, and its files."""
    config = tiny("bandit", *SHORT, results=tmp_path)
    train(config)
    run = RunFolder.of(config)
    (run.path / "summary.json").unlink()
    return config, kept(run)


def kept(run: RunFolder) -> Files:
    """Return metrics and checkpoints, which an attempt that fails must not change."""
    paths = [run.metrics_path, *run.checkpoints.iterdir()]
    return {path.name: path.read_bytes() for path in paths}


def refuse(error: BaseException) -> Callable[..., Any]:
    def call(*arguments: object, **options: object) -> None:
        raise error

    return call


@pytest.mark.parametrize("where", ["open", "zipfile", "torch"])
@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.EIO, "bad sector"),
        PermissionError(errno.EACCES, "denied"),
        MemoryError("full"),
    ],
    ids=["EIO", "EACCES", "memory"],
)
def test_a_checkpoint_that_cannot_be_read_ends_the_attempt_and_changes_nothing(
    interrupted: tuple[Config, Files],
    where: str,
    error: Exception,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config, before = interrupted
    run, opened = RunFolder.of(config), io.open

    def open_or_fail(path: Any, *arguments: Any, **options: Any) -> Any:
        if str(path).endswith("last.ckpt"):
            raise error
        return opened(path, *arguments, **options)

    with monkeypatch.context() as patched:
        if where == "open":
            patched.setattr(io, "open", open_or_fail)
        elif where == "zipfile":
            patched.setattr(zipfile.ZipFile, "testzip", refuse(error))
        else:
            patched.setattr(torch, "load", refuse(error))
        with pytest.raises(type(error)):
            train(config)
    assert run.state() == "interrupted"
    assert kept(run) == before
    assert train(config)["status"] == "finished"
    assert kept(run)["metrics.jsonl"] == before["metrics.jsonl"]


def test_no_memory_to_map_a_checkpoint_is_no_damage(
    interrupted: tuple[Config, Files], monkeypatch: pytest.MonkeyPatch
) -> None:
    config, before = interrupted
    message = "unable to mmap 100 bytes from file <last.ckpt>: Cannot allocate memory (12)"
    monkeypatch.setattr(torch, "load", refuse(RuntimeError(message)))
    with pytest.raises(MemoryError, match="Cannot allocate memory"):
        train(config)
    assert kept(RunFolder.of(config)) == before


@pytest.mark.parametrize("name", ["summary.json", "metrics.jsonl"])
def test_a_file_that_cannot_be_read_is_not_taken_for_a_missing_one(
    interrupted: tuple[Config, Files], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, _ = interrupted
    train(config)
    run = RunFolder.of(config)
    before, opened = kept(run), io.open

    def open_or_fail(path: Any, *arguments: Any, **options: Any) -> Any:
        if str(path) == str(run.path / name):
            raise OSError(errno.EIO, "bad sector", str(path))
        return opened(path, *arguments, **options)

    with monkeypatch.context() as patched:
        patched.setattr(io, "open", open_or_fail)
        with pytest.raises(OSError, match="bad sector"):
            train(config)
    assert kept(run) == before
    assert run.state() == "finished"


def test_the_rows_are_cut_where_the_checkpoint_says(interrupted: tuple[Config, Files]) -> None:
    config, before = interrupted
    run = RunFolder.of(config)
    mark = torch.load(run.checkpoints / "last.ckpt", weights_only=True)["metrics"]
    assert mark["bytes"] == len(before["metrics.jsonl"])
    assert mark["rows"] == len(run.metrics())
    with run.metrics_path.open("a") as file:  # as if the rows of a killed attempt were odd ones
        file.write('{"step": 4, "eval/score": 0}\n{"step": 3}\n{"st')
    train(config)
    assert run.metrics_path.read_bytes() == before["metrics.jsonl"]


@pytest.mark.parametrize("damage", ["torn", "changed", "dropped", "swapped"])
def test_rows_in_the_middle_that_are_not_the_checkpoints_are_refused(
    interrupted: tuple[Config, Files], damage: str
) -> None:
    config, before = interrupted
    run = RunFolder.of(config)
    lines = before["metrics.jsonl"].splitlines(keepends=True)
    changed = {
        "torn": [lines[0][:9], *lines[1:]],
        "changed": [lines[0].replace(b"1", b"2"), *lines[1:]],
        "dropped": lines[1:],
        "swapped": [lines[1], lines[0], *lines[2:]],
    }[damage]
    run.metrics_path.write_bytes(b"".join(changed))
    now = kept(run)
    sentence = r"metrics.jsonl does not begin with the \d rows that last.ckpt \(step 4\)"
    with pytest.raises(ConfigError, match=sentence):
        train(config)
    assert kept(run) == now
    run.metrics_path.write_bytes(before["metrics.jsonl"])
    assert train(config)["status"] == "finished"


def test_the_previous_checkpoint_serves_where_only_the_last_rows_are_lost(
    interrupted: tuple[Config, Files], caplog: pytest.LogCaptureFixture
) -> None:
    config, before = interrupted
    run = RunFolder.of(config)
    caplog.set_level("INFO", logger="suite")
    os.truncate(run.metrics_path, len(before["metrics.jsonl"]) - 5)
    train(config)
    assert "continues from step 2" in caplog.text
    assert run.metrics_path.read_bytes() == before["metrics.jsonl"]


def test_a_checkpoint_of_an_earlier_version_continues_unless_its_rows_are_broken(
    interrupted: tuple[Config, Files],
) -> None:
    config, before = interrupted
    run = RunFolder.of(config)
    for path in run.checkpoints.iterdir():
        content = torch.load(path, weights_only=True)
        del content["metrics"], content["run"]
        torch.save(content, path)
    lines = before["metrics.jsonl"].splitlines(keepends=True)
    run.metrics_path.write_bytes(b"".join([lines[0], b'{"step": 1, "tr\n', *lines[1:]]))
    with pytest.raises(ConfigError, match=r"metrics.jsonl, line 2: is no row of metrics, and rows"):
        train(config)
    run.metrics_path.write_bytes(before["metrics.jsonl"] + b'{"step": 5}\n{"ste')
    assert train(config)["status"] == "finished"
    assert run.metrics_path.read_bytes() == before["metrics.jsonl"]


def test_a_finished_run_whose_summary_is_of_other_metrics_is_named(
    interrupted: tuple[Config, Files],
) -> None:
    config, _ = interrupted
    train(config)
    run = RunFolder.of(config)
    summary = run.summary()
    (run.path / "summary.json").write_text(json.dumps(summary | {"score": 17.5}))
    with pytest.raises(ConfigError, match=r"summary.json says score 17.5, and metrics.jsonl -"):
        train(config)
