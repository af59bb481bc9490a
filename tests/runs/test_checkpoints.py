"""The newest whole checkpoint is found after damage, and after a kill at any moment."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from suite.runs.checkpoints import newest_checkpoint
from suite.training.checkpoint_io import AtomicCheckpointIO


def save(folder: Path, step: int) -> None:
    AtomicCheckpointIO().save_checkpoint(
        {"step": step, "weights": torch.zeros(1000)}, folder / "last.ckpt"
    )


def test_two_generations_are_kept(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        save(tmp_path, step)
    assert newest_checkpoint(tmp_path).step == 3
    assert torch.load(tmp_path / "previous.ckpt", weights_only=True)["step"] == 2
    assert sorted(p.name for p in tmp_path.iterdir()) == ["last.ckpt", "previous.ckpt"]


@pytest.mark.parametrize("keep", [0, 100, 2000])
def test_a_truncated_checkpoint_is_passed_over(tmp_path: Path, keep: int) -> None:
    save(tmp_path, 1)
    save(tmp_path, 2)
    last = tmp_path / "last.ckpt"
    last.write_bytes(last.read_bytes()[:keep])
    newest = newest_checkpoint(tmp_path)
    assert (newest.step, newest.damaged) == (1, [last])


def test_a_flipped_bit_is_detected(tmp_path: Path) -> None:
    save(tmp_path, 1)
    save(tmp_path, 2)
    last = tmp_path / "last.ckpt"
    content = bytearray(last.read_bytes())
    content[len(content) // 2] ^= 1
    last.write_bytes(content)
    assert newest_checkpoint(tmp_path).step == 1


def test_a_kill_between_the_two_renames_loses_nothing(tmp_path: Path) -> None:
    save(tmp_path, 1)
    save(tmp_path, 2)
    os.replace(tmp_path / "last.ckpt", tmp_path / "next.ckpt")
    assert newest_checkpoint(tmp_path).step == 2


def test_a_checkpoint_that_would_run_code_is_not_loaded(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.system, (f"touch {tmp_path}/ran",)

    torch.save({"step": 1, "payload": Evil()}, tmp_path / "last.ckpt")
    assert newest_checkpoint(tmp_path).path is None
    assert not (tmp_path / "ran").exists()


def test_a_full_disk_leaves_the_earlier_checkpoint(tmp_path: Path) -> None:
    save(tmp_path, 1)
    before = (tmp_path / "last.ckpt").read_bytes()
    code = (
        "import resource, torch, sys\n"
        "from pathlib import Path\n"
        "from suite.training.checkpoint_io import AtomicCheckpointIO\n"
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
