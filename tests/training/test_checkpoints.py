"""Checkpoints and run files under damage."""

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from suite.runs.folder import RunFolder
from suite.runs.lease import LeaseHeld
from suite.system.files import read_json_lines, write_json
from suite.training.checkpoints import (
    AtomicCheckpointIO,
    newest,
    random_state,
    restore_random_state,
)


def save(folder: Path, step: int) -> None:
    AtomicCheckpointIO().save_checkpoint(
        {"step": step, "weights": torch.zeros(1000)}, folder / "last.ckpt"
    )


def test_two_generations_are_kept(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        save(tmp_path, step)
    assert newest(tmp_path).step == 3
    assert torch.load(tmp_path / "previous.ckpt", weights_only=True)["step"] == 2
    assert sorted(p.name for p in tmp_path.iterdir()) == ["last.ckpt", "previous.ckpt"]


@pytest.mark.parametrize("keep", [0, 100, 2000])
def test_a_truncated_checkpoint_is_passed_over(tmp_path: Path, keep: int) -> None:
    save(tmp_path, 1)
    save(tmp_path, 2)
    last = tmp_path / "last.ckpt"
    last.write_bytes(last.read_bytes()[:keep])
    found = newest(tmp_path)
    assert (found.step, found.broken) == (1, [last])


def test_a_flipped_bit_is_noticed(tmp_path: Path) -> None:
    save(tmp_path, 1)
    save(tmp_path, 2)
    last = tmp_path / "last.ckpt"
    content = bytearray(last.read_bytes())
    content[len(content) // 2] ^= 1
    last.write_bytes(content)
    assert newest(tmp_path).step == 1


def test_a_kill_between_the_two_renames_loses_nothing(tmp_path: Path) -> None:
    save(tmp_path, 1)
    save(tmp_path, 2)
    os.replace(tmp_path / "last.ckpt", tmp_path / "next.ckpt")
    assert newest(tmp_path).step == 2


def test_a_checkpoint_that_would_run_code_is_not_loaded(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.system, (f"touch {tmp_path}/ran",)

    torch.save({"step": 1, "payload": Evil()}, tmp_path / "last.ckpt")
    assert newest(tmp_path).path is None
    assert not (tmp_path / "ran").exists()


def test_a_full_disk_leaves_the_earlier_checkpoint(tmp_path: Path) -> None:
    save(tmp_path, 1)
    before = (tmp_path / "last.ckpt").read_bytes()
    code = (
        "import resource, torch, sys\n"
        "from pathlib import Path\n"
        "from suite.training.checkpoints import AtomicCheckpointIO\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))\n"
        "content = {'step': 2, 'weights': torch.zeros(1000)}\n"
        "try:\n"
        "    AtomicCheckpointIO().save_checkpoint(content, Path(sys.argv[1]) / 'last.ckpt')\n"
        "except OSError as error:\n"
        "    print('refused', type(error).__name__)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.stdout.startswith("refused"), done.stderr
    assert (tmp_path / "last.ckpt").read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["last.ckpt"]


def test_random_streams_continue() -> None:
    state = random_state()
    first = (torch.rand(3).tolist(), np.random.rand(3).tolist(), random.random())  # noqa: NPY002
    restore_random_state(state)
    second = (torch.rand(3).tolist(), np.random.rand(3).tolist(), random.random())  # noqa: NPY002
    assert first == second


def test_a_torn_metrics_line_ends_the_rows_and_rewinding_drops_later_ones(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    for step in (0, 5, 10, 15):
        run.log_metrics(step, {"eval/score": step / 3})
    with run.metrics_path.open("a") as file:
        file.write('{"step": 20, "eval/sc')
    assert read_json_lines(run.metrics_path)[1] == 1
    assert run.rewind(10) == 2
    assert [row["step"] for row in run.metrics()] == [0, 5, 10]
    assert run.metrics()[2]["eval/score"] == 10 / 3, "numbers read back to the last bit"
    assert run.rewind(None) == 3
    assert run.metrics() == []


def test_a_run_is_held_by_one_process_at_a_time(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    write_json(tmp_path / "progress.json", {"step": 1})
    assert run.state() == "interrupted"
    hold = (
        "import sys\nfrom pathlib import Path\nfrom suite.runs.folder import RunFolder\n"
        "with RunFolder(Path(sys.argv[1])).lease():\n    print('held', flush=True)\n    input()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", hold, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        assert run.state() == "running"
        with pytest.raises(LeaseHeld, match="in use by another process"), run.lease():
            pass
        other.kill()
        other.wait()
    assert run.state() == "interrupted", "the system frees a dead owner's lease"
    with run.lease():
        assert run.state() == "running"


def test_a_broken_summary_counts_as_none(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    (tmp_path / "summary.json").write_text('{"status": "fini')
    assert run.summary() is None
    assert run.state() == "queued"
    (tmp_path / "summary.json").write_text(json.dumps({"status": "finished"}))
    assert run.state() == "finished"
