"""The replay: what it keeps, and how it comes back."""

import psutil
import pytest
import torch

from suite.config.fields import ConfigError
from suite.domains.control.nstep import Transition
from suite.domains.control.replay import Replay
from suite.runs.folder import RunFolder
from suite.train import train
from tests.conftest import Tiny


def rows(*numbers: int) -> list[Transition]:
    """Transitions told apart by their reward."""
    zero = torch.zeros(2)
    return [
        Transition(zero, torch.zeros(1), torch.tensor(float(n)), torch.tensor(0.5), zero)
        for n in numbers
    ]


def test_a_full_replay_drops_the_oldest_and_a_restored_one_goes_on_alike() -> None:
    replay = Replay(4, observation_size=2, action_size=1, seed=0)
    replay.extend(rows(1, 2, 3))
    replay.extend(rows(4, 5, 6))
    assert len(replay) == 4
    assert set(replay.sample(200).reward.tolist()) == {3, 4, 5, 6}
    other = Replay(4, observation_size=2, action_size=1, seed=9)
    other.load_state_dict(replay.state_dict())
    for each in (replay, other):
        each.extend(rows(7))
    for _ in range(3):
        assert torch.equal(replay.sample(16).reward, other.sample(16).reward)
    assert set(other.sample(200).reward.tolist()) == {4, 5, 6, 7}


def test_a_replay_larger_than_memory_is_refused_before_the_run(tiny: Tiny) -> None:
    most = psutil.virtual_memory().total
    config = tiny("control", f"domain.replay_size={most}")
    with pytest.raises(ConfigError, match=r"need .* GiB .* and .* GiB are free: at most .* fit"):
        train(config)
    assert RunFolder.of(config).summary()["status"] == "failed"
