"""A session holds a run, decides for all ranks what to do, and records how the run ended."""

import os
import signal
from pathlib import Path

import pytest
import torch.distributed as dist

from suite.config.schema import Config
from suite.runs.folder import RunFolder
from suite.runs.lease import LeaseHeld, LeaseLost
from suite.runs.session import Start, session
from suite.system import distributed
from suite.system.signals import Interrupted
from tests.conftest import Tiny


@pytest.fixture
def config(tiny: Tiny, tmp_path: Path) -> Config:
    return tiny("bandit", results=tmp_path)


def as_second_rank(monkeypatch: pytest.MonkeyPatch, start: Start) -> None:
    """Make this process the second of two ranks, to which rank 0 sends its decision."""
    monkeypatch.setattr(distributed, "rank", lambda: 1)
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    monkeypatch.setattr(distributed, "broadcast", lambda message: start)


def test_a_session_holds_the_run_and_writes_its_configuration(config: Config) -> None:
    with session(config) as run:
        assert not run.is_finished
        assert run.checkpoint is None
        assert run.folder.config() == config
        with pytest.raises(LeaseHeld), RunFolder.of(config).lease():
            pass
        run.write_row(0, {"eval/score": 1.0})
        run.finish()
    assert run.summary["status"] == "finished"
    assert run.summary == RunFolder.of(config).summary()
    with RunFolder.of(config).lease():
        pass
    with session(config) as again:
        assert again.is_finished
        assert again.summary == run.summary
    assert [row["step"] for row in run.folder.attempts()] == [0], "the second one did nothing"


def test_a_run_that_another_process_holds_is_not_entered(config: Config) -> None:
    folder = RunFolder.of(config)
    folder.create(config)
    refused = pytest.raises(LeaseHeld, match="in use by another process")
    with folder.lease(), refused, session(config):
        pytest.fail("the block was entered")
    assert folder.attempts() == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR2])
def test_a_stop_signal_before_training_interrupts_the_run(
    config: Config, number: signal.Signals
) -> None:
    earlier = signal.getsignal(number)
    with session(config) as run:
        os.kill(os.getpid(), number)
        pytest.fail("the block continued")
    assert run.summary == {"status": "interrupted", "signal": number.name}
    assert run.folder.summary() is None
    assert signal.getsignal(number) is earlier


def test_a_stop_signal_to_one_of_several_ranks_is_raised(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_second_rank(monkeypatch, Start())
    with pytest.raises(Interrupted, match="SIGTERM"), session(config):
        os.kill(os.getpid(), signal.SIGTERM)


def test_an_error_is_written_to_the_summary_and_to_the_log(config: Config) -> None:
    with pytest.raises(OSError, match="no space"), session(config) as run:
        raise OSError("no space")
    assert (run.folder.summary() or {})["status"] == "failed"
    assert (run.folder.summary() or {})["error"] == "OSError: no space"
    assert 'raise OSError("no space")' in run.folder.log_path.read_text()


def test_a_run_that_another_process_took_over_gets_no_summary(config: Config) -> None:
    with pytest.raises(LeaseLost), session(config) as run:
        raise LeaseLost("it was taken over")
    assert run.folder.summary() is None


def test_the_error_of_another_rank_names_the_rank(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_second_rank(monkeypatch, Start())
    with pytest.raises(OSError, match="no space"), session(config) as run:
        raise OSError("no space")
    assert (run.folder.summary() or {})["error"] == "rank 1: OSError: no space"


@pytest.mark.parametrize("error", [RuntimeError("[gloo] closed"), dist.DistBackendError("gone")])
def test_the_loss_of_another_rank_is_no_failure_of_the_run(
    config: Config, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_second_rank(monkeypatch, Start())
    with pytest.raises(type(error)), session(config) as run:
        raise error
    assert run.folder.summary() is None


def test_other_ranks_follow_rank_0(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_second_rank(monkeypatch, Start(checkpoint=tmp_path / "last.ckpt"))
    with session(config) as run:
        assert run.checkpoint == tmp_path / "last.ckpt"
        run.write_row(1, {"train/loss": 1.0})
        run.write_examples(1, [{"completion": "a"}])
        run.finish()
    assert run.summary == {"status": "finished"}
    assert not list(run.folder.path.iterdir()), "rank 0 alone writes files"
    as_second_rank(monkeypatch, Start(summary={"status": "finished", "score": 1.0}))
    with session(config) as run:
        assert run.is_finished
        assert run.summary["score"] == 1.0
    as_second_rank(monkeypatch, Start(refusal="it is in use by another process"))
    with pytest.raises(LeaseHeld, match="in use"), session(config):
        pytest.fail("the block was entered")
