"""Leases: one owner at a time; a dead owner is known by its process, or elsewhere by its age."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from suite.runs import lease
from suite.runs.folder import RunFolder
from suite.runs.lease import LeaseHeld, hold, is_leased
from suite.system.files import read_json, write_json
from suite.train import train
from tests.conftest import ROOT, Tiny


def from_elsewhere(path: Path) -> None:
    """Make a lease look as if another machine had made it."""
    write_json(path, (read_json(path) or {}) | {"machine": "another", "pid": 1})


def test_a_lease_is_refused_to_others_until_it_is_released(tmp_path: Path) -> None:
    assert not is_leased(tmp_path)
    for number in (1, 2, 3):
        with hold(tmp_path) as held:
            assert held.path.name == f".claim-{number}", "numbers never begin again"
            assert is_leased(tmp_path)
            with pytest.raises(LeaseHeld, match="in use by another process"), hold(tmp_path):
                pass
            held.check()
        assert not is_leased(tmp_path)
    assert len(list(tmp_path.iterdir())) == 1


def test_a_lease_of_another_machine_lasts_as_long_as_it_is_renewed(tmp_path: Path) -> None:
    with hold(tmp_path) as held:
        from_elsewhere(held.path)
        assert is_leased(tmp_path)
        with pytest.raises(LeaseHeld), hold(tmp_path):
            pass
        old = time.time() - lease.EXPIRY_SECONDS - 1
        os.utime(held.path, (old, old))
        assert not is_leased(tmp_path)
        with hold(tmp_path) as other:
            assert other.path.name == ".claim-2"
            with pytest.raises(LeaseHeld, match="was taken over by another process"):
                held.check()
            held.release()
            other.check()
            assert is_leased(tmp_path)


def test_an_owner_renews_its_lease(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "RENEWAL_SECONDS", 0.01)
    with hold(tmp_path) as held:
        os.utime(held.path, (0, 0))
        deadline = time.monotonic() + 10
        while held.path.stat().st_mtime == 0:
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_a_process_of_the_same_number_that_started_later_is_not_the_owner(tmp_path: Path) -> None:
    with hold(tmp_path) as held:
        write_json(held.path, (read_json(held.path) or {}) | {"started": 1})
        assert not is_leased(tmp_path)


def test_a_run_that_was_taken_over_writes_nothing_more(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny("bandit", "trainer.log_every=1")
    run, honest = RunFolder.of(config), RunFolder.log_metrics

    def log(self: RunFolder, step: int, row: dict[str, float]) -> None:
        if step == 5 and self.current_lease is not None:
            from_elsewhere(self.current_lease.path)
            self.current_lease.path.rename(run.path / ".claim-9")
        honest(self, step, row)

    monkeypatch.setattr(RunFolder, "log_metrics", log)
    with pytest.raises(LeaseHeld, match="was taken over"):
        train(config)
    assert run.summary() is None, "the new owner writes it"
    assert max(row["step"] for row in run.metrics()) == 4
    assert run.state() == "running"


CONTENDER = """
import os, sys, time
from pathlib import Path
from suite.runs.lease import LeaseHeld, hold
folder, end = Path(sys.argv[1]), time.monotonic() + 4
while time.monotonic() < end:
    try:
        with hold(folder / "run"):
            inside = folder / "inside"
            os.close(os.open(inside, os.O_CREAT | os.O_EXCL))  # fails where two are inside
            time.sleep(0.001)
            inside.unlink()
            print("had it", flush=True)
    except LeaseHeld:
        pass
"""


@pytest.mark.slow
def test_one_of_many_contenders_has_the_lease_and_a_dead_owner_blocks_none(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    started = [
        subprocess.Popen(
            [sys.executable, "-c", CONTENDER, str(tmp_path)],
            cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for _ in range(6)
    ]  # fmt: skip
    outcomes = [process.communicate(timeout=60) for process in started]
    assert not [error for _, error in outcomes if error]
    assert sum(output.count("had it") for output, _ in outcomes) > 20
    hold = "import sys, time\nfrom pathlib import Path\nfrom suite.runs.lease import hold\n"
    hold += "with hold(Path(sys.argv[1])):\n    print('held', flush=True)\n    time.sleep(60)\n"
    with subprocess.Popen(
        [sys.executable, "-c", hold, str(tmp_path / "run")],
        cwd=ROOT, stdout=subprocess.PIPE, text=True,
    ) as owner:  # fmt: skip
        assert owner.stdout is not None
        assert owner.stdout.readline() == "held\n"
        assert is_leased(tmp_path / "run")
        owner.send_signal(signal.SIGKILL)
        owner.wait()
    assert not is_leased(tmp_path / "run")
