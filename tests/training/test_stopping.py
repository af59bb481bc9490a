"""A stop signal between the batches of one step: the step is given up, and taken again exactly."""

import os
import signal
from pathlib import Path

import pytest

from suite.domains.bandit.online import Bandit
from suite.feedback.feedback import Feedback
from suite.runs.folder import RunFolder
from suite.train import train
from suite.training import module
from tests.conftest import Tiny

ACCUMULATE = ["trainer.accumulate=4", "trainer.steps=6", "trainer.checkpoint_every=6"]
ACCUMULATE += ["trainer.log_every=1", "trainer.eval_every=3", "labels.keep=0.6", "labels.flip=0.1"]


def stop_at(monkeypatch: pytest.MonkeyPatch, domain: type, batch: int) -> list[int]:
    """Send SIGTERM during a batch, counted from 1; return the batches that were taken."""
    original, taken = domain.feedback, []

    def feedback(self: object, given: object) -> Feedback:
        taken.append(len(taken) + 1)
        if len(taken) == batch:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(self, given)

    monkeypatch.setattr(domain, "feedback", feedback)
    return taken


@pytest.mark.parametrize("batch", [1, 4, 5, 11, 22])
def test_a_stop_waits_for_one_batch_and_the_run_ends_with_the_same_bytes(
    tiny: Tiny, tmp_path: Path, batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = train(tiny("bandit", *ACCUMULATE))
    whole = RunFolder.of(tiny("bandit", *ACCUMULATE))
    config = tiny("bandit", *ACCUMULATE, results=tmp_path)
    run = RunFolder.of(config)
    with monkeypatch.context() as patched:
        taken = stop_at(patched, Bandit, batch)
        assert train(config)["status"] == "interrupted"
    assert len(taken) == batch, "no further batch was drawn"
    assert run.summary() is None
    assert train(config)["score"] == expected["score"]
    assert run.metrics_path.read_bytes() == whole.metrics_path.read_bytes()
    steps = [row["step"] for row in run.attempts()]
    assert steps == [0, batch // 4], "whole steps before the stop are kept"
    policies = [r.path / "policy/policy.json" for r in (run, whole)]
    assert policies[0].read_bytes() == policies[1].read_bytes()


@pytest.mark.parametrize("domain", ["control", "lm"])
def test_what_the_batches_of_a_given_up_step_drew_is_drawn_again(
    tiny: Tiny, tmp_path: Path, domain: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny(domain, *ACCUMULATE)
    train(config)
    torn = tiny(domain, *ACCUMULATE, results=tmp_path)
    original, taken = module.PreferenceModule.accumulate_gradient, []

    def counted(self: module.PreferenceModule, batches: object) -> object:
        taken.append(0)
        if len(taken) == 10:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(self, batches)

    with monkeypatch.context() as patched:
        patched.setattr(module.PreferenceModule, "accumulate_gradient", counted)
        assert train(torn)["status"] == "interrupted"
    assert len(taken) == 10
    train(torn)
    numbers = [RunFolder.of(c).metrics_path.read_bytes() for c in (config, torn)]
    assert numbers[0] == numbers[1]


def test_a_large_state_is_not_copied_and_the_stop_waits_for_the_step(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LARGEST_COPY", 0)
    config = tiny("bandit", *ACCUMULATE, results=tmp_path)
    with monkeypatch.context() as patched:
        taken = stop_at(patched, Bandit, 6)
        assert train(config) == {"status": "interrupted", "signal": "SIGTERM", "step": 2}
    assert len(taken) == 8
