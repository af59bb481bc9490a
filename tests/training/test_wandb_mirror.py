"""Weights & Biases works offline without an account, and its errors do not stop training."""

import json
import signal
import struct
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from suite.runs.folder import RunFolder
from suite.train import train
from suite.training.wandb_mirror import WandbMirror
from tests import processes
from tests.conftest import BASE, SCHEDULE, TINY, Tiny


@pytest.mark.slow
def test_an_offline_run_leaves_a_record_under_the_signature(tiny: Tiny, tmp_path: Path) -> None:
    config = tiny("bandit", "logging.wandb=offline", results=tmp_path)
    code, output = processes.suite(
        "train", BASE["bandit"], *TINY["bandit"], *SCHEDULE, "logging.wandb=offline",
        f"results_dir={tmp_path}", f"sweep={config.sweep}",
    )  # fmt: skip
    assert code == 0, output
    run = RunFolder.of(config)
    (record,) = run.path.glob("wandb/offline-run-*/*.wandb")
    assert record.stem == f"run-{config.signature}"
    content = record.read_bytes()
    for expected in (config.sweep, config.run_name, "eval/score", "pmpo-suite"):
        assert expected.encode() in content


@pytest.mark.slow
def test_without_network_an_online_run_trains_to_the_same_end(tiny: Tiny, tmp_path: Path) -> None:
    import os

    plain = tiny("bandit")
    train(plain)
    config = tiny("bandit", results=tmp_path)
    nowhere = {"WANDB_BASE_URL": "http://127.0.0.1:9", "WANDB_API_KEY": "0" * 40}
    process = processes.start(
        [
            "train", BASE["bandit"], *TINY["bandit"], *SCHEDULE, "logging.wandb=online",
            f"results_dir={tmp_path}", f"sweep={config.sweep}",
        ],
        env={**os.environ, **nowhere},
    )  # fmt: skip
    code, output = processes.finish(process)
    assert code == 0, output
    assert "Weights & Biases (online)" in output
    run = RunFolder.of(config)
    assert run.metrics_path.read_bytes() == RunFolder.of(plain).metrics_path.read_bytes()


@pytest.mark.slow
def test_a_stopped_run_is_marked_preempted_and_continues_under_the_same_id(
    tiny: Tiny, tmp_path: Path
) -> None:
    config = tiny("bandit", "trainer.steps=4000", results=tmp_path)
    command = [
        "train", BASE["bandit"], *TINY["bandit"], *SCHEDULE, "trainer.steps=4000",
        "logging.wandb=offline", f"results_dir={tmp_path}", f"sweep={config.sweep}",
    ]  # fmt: skip
    run = RunFolder.of(config)
    process = processes.start(command)
    processes.wait_until(lambda: any(r["step"] > 100 for r in run.metrics()), process)
    process.send_signal(signal.SIGTERM)
    code, output = processes.finish(process)
    assert code == 130, output
    code, output = processes.suite(*command)
    assert code == 0, output
    first, second = sorted(run.path.glob("wandb/offline-run-*/*.wandb"))
    assert first.name == second.name == f"run-{config.signature}.wandb"
    assert preempting(first)
    assert not preempting(second)


def preempting(record: Path) -> bool:
    """Return whether an offline W&B record marks the run as preempted."""
    from wandb.proto.wandb_internal_pb2 import Record

    kinds = []
    for data in log_records(record.read_bytes()):
        content = Record()
        content.ParseFromString(data)
        kinds.append(content.WhichOneof("record_type"))
    assert "history" in kinds, "the record was read"
    return "preempting" in kinds


def log_records(content: bytes) -> Iterator[bytes]:
    """Yield the records of a LevelDB log: blocks of 32 KiB; a record has one piece or several."""
    position, record = 7, b""  # after the file's own header
    while position < len(content):
        left = 32768 - position % 32768
        if left < 7:
            position += left
            continue
        length, kind = struct.unpack("<HB", content[position + 4 : position + 7])
        record += content[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):  # whole, or the last piece
            yield record
            record = b""


class Broken:
    """A W&B run whose connection is gone."""

    def log(self, row: dict[str, float]) -> None:
        raise ConnectionError("gone")

    def finish(self, exit_code: int) -> None:
        raise AssertionError("not called after the first failure")


def test_a_mirror_that_breaks_is_dropped_with_a_warning(
    tiny: Tiny, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    mirror = WandbMirror(tiny("bandit"), tmp_path)
    mirror.run = Broken()
    mirror.write_row(1, {"eval/score": 1.0})
    mirror.write_row(2, {"eval/score": 1.0})
    mirror.finish(failed=False)
    assert caplog.text.count("Weights & Biases stopped, training goes on: gone") == 1


class Recorder:
    """A W&B run that records its end."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def mark_preempting(self) -> None:
        self.calls.append("preempting")

    def finish(self, exit_code: int) -> None:
        self.calls.append(f"exit {exit_code}")


def test_a_mirrored_run_ends_once_with_the_outcome_of_training(tiny: Tiny, tmp_path: Path) -> None:
    def end(act: Callable[[WandbMirror], object]) -> list[str]:
        recorder = Recorder()
        with suppress(OSError), WandbMirror(tiny("bandit"), tmp_path) as mirror:
            mirror.run = recorder
            act(mirror)
        return recorder.calls

    def fail(mirror: WandbMirror) -> None:
        raise OSError("no space")

    assert end(lambda mirror: None) == ["exit 0"]
    assert end(fail) == ["exit 1"]
    assert end(WandbMirror.interrupt) == ["preempting", "exit 1"]


def test_wandb_is_not_imported_where_it_is_disabled(tiny: Tiny, tmp_path: Path) -> None:
    import subprocess
    import sys

    run = RunFolder.of(tiny("bandit", results=tmp_path))
    run.create(tiny("bandit", results=tmp_path))
    code = (
        "import sys, json\nfrom pathlib import Path\nfrom suite.config.loading import load\n"
        "from suite.training.wandb_mirror import WandbMirror\n"
        "WandbMirror(load(Path(sys.argv[1])), Path('.'))\nprint(json.dumps('wandb' in sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(run.path / "config.yaml")],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert json.loads(done.stdout) is False
