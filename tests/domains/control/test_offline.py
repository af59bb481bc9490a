"""The offline domain: recorded episodes, their transitions, and learning without acting."""

import copy
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from suite.config.fields import ConfigError
from suite.domains.control import recording
from suite.domains.control.environments import Environments
from suite.domains.control.episodes import Episode, read, transitions, write_minari
from suite.domains.control.nstep import NStepWindow
from suite.domains.control.offline import Offline
from suite.domains.control.recording import mixture, recording_folder
from suite.feedback.feedback import Feedback, Shares
from suite.objectives.pmpo import pmpo
from suite.runs.folder import RunFolder
from suite.testing.shared import build
from suite.train import train
from tests.conftest import Tiny


def episode(length: int, terminated: bool = False, seed: int = 0, gain: float = 1.0) -> Episode:
    random = np.random.default_rng(seed)
    return Episode(
        random.normal(size=(length + 1, 5)).astype(np.float32),
        random.uniform(-1, 1, (length, 1)).astype(np.float32),
        (gain * random.uniform(size=length)).astype(np.float32),
        terminated,
    )


@pytest.mark.parametrize("n_step", [1, 3, 20])
def test_transitions_are_those_that_acting_would_have_kept(n_step: int) -> None:
    episodes = [episode(7), episode(4, terminated=True, seed=1), episode(1, seed=2)]
    found = transitions(episodes, n_step, 0.9)
    kept = []
    for e in episodes:
        window = NStepWindow(n_step, 0.9)
        for t, reward in enumerate(e.rewards):
            over = t == len(e.rewards) - 1
            here, action, there = map(
                torch.from_numpy, (e.observations[t], e.actions[t], e.observations[t + 1])
            )
            flags = (over and e.terminated, over and not e.terminated)
            kept += window.push(here, action, float(reward), there, *flags)
    for name, column in zip(kept[0]._fields, zip(*kept, strict=True), strict=True):
        torch.testing.assert_close(getattr(found, name), torch.stack(column), msg=name)
    rewards = episodes[0].rewards
    by_hand = sum(0.9**i * float(r) for i, r in enumerate(rewards[2:]))
    assert found.return_to_go[2].item() == pytest.approx(by_hand, rel=1e-5)


def same(one: Episode, other: Episode) -> bool:
    arrays = zip(one[:3], other[:3], strict=True)
    return all(np.array_equal(a, b) for a, b in arrays) and one.terminated == other.terminated


def test_a_minari_data_set_is_written_and_read(tmp_path: Path) -> None:
    episodes = [episode(6), episode(3, terminated=True, seed=1)]
    write_minari(tmp_path / "mine", episodes, {"description": "two"})
    for path in (tmp_path / "mine", tmp_path / "mine" / "data"):
        assert all(map(same, read(path), episodes))


def d4rl(path: Path, episodes: list[Episode], *, following: bool, **changed: object) -> Path:
    columns = {
        "observations": np.concatenate([e.observations[:-1] for e in episodes]),
        "actions": np.concatenate([e.actions for e in episodes]),
        "rewards": np.concatenate([e.rewards for e in episodes]),
        "terminals": np.concatenate([last(e, e.terminated) for e in episodes]),
        "timeouts": np.concatenate([last(e, not e.terminated) for e in episodes]),
    }
    if following:
        columns["next_observations"] = np.concatenate([e.observations[1:] for e in episodes])
    with h5py.File(path, "w") as file:
        for name, values in (columns | changed).items():
            if values is not None:
                file[name] = values
    return path


def last(e: Episode, flag: bool) -> np.ndarray:
    flags = np.zeros(len(e.rewards), bool)
    flags[-1] = flag
    return flags


def test_a_d4rl_file_is_read_with_and_without_the_observations_that_followed(
    tmp_path: Path,
) -> None:
    episodes = [episode(6), episode(3, terminated=True, seed=1)]
    assert all(map(same, read(d4rl(tmp_path / "a.hdf5", episodes, following=True)), episodes))
    cut, whole = read(d4rl(tmp_path / "b.hdf5", episodes, following=False))
    # Of an episode that was cut off, the last observation is not in the file.
    assert len(cut.rewards) == 5
    assert np.array_equal(cut.observations, episodes[0].observations[:6])
    assert np.array_equal(whole.rewards, episodes[1].rewards)
    assert whole.terminated
    assert not cut.terminated


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"rewards": None}, r"no readable D4RL file: .*lacks rewards"),
        ({"actions": np.full((9, 1), 2.0)}, r"episode 0: actions must lie within .* found 2 times"),
        (
            {"rewards": np.full(9, np.nan)},
            r"bad.hdf5: rewards: must be finite numbers, found nan at step 0",
        ),
    ],
)
def test_files_that_cannot_be_learned_from_are_refused(
    tmp_path: Path, changed: dict[str, object], message: str
) -> None:
    episodes = [episode(6), episode(3, terminated=True, seed=1)]
    with pytest.raises(ConfigError, match=message):
        read(d4rl(tmp_path / "bad.hdf5", episodes, following=True, **changed))


def test_what_is_no_data_set_is_told(tmp_path: Path, tiny: Tiny) -> None:
    (tmp_path / "text.hdf5").write_text("hello")
    with pytest.raises(ConfigError, match=r"text\.hdf5: no readable D4RL file"):
        read(tmp_path / "text.hdf5")
    with pytest.raises(ConfigError, match="no readable Minari data set"):
        read(tmp_path)
    with pytest.raises(ConfigError, match="no such file or folder"):
        tiny("offline", f"domain.path={tmp_path}/none.hdf5").check_machine()


def test_a_mixture_has_its_share_of_successes_spread_over_time() -> None:
    episodes = [episode(4, seed=i, gain=1 + 10 * (i % 2)) for i in range(40)]
    returns = [float(e.rewards.sum()) for e in episodes]
    threshold = (max(returns[::2]) + min(returns[1::2])) / 2
    chosen = mixture(episodes, threshold, 0.28)
    kept = {id(e) for e in chosen}
    good = [i for i, e in enumerate(episodes) if id(e) in kept and returns[i] >= threshold]
    assert len(good) / len(chosen) == pytest.approx(0.28, abs=0.02)
    assert len(chosen) - len(good) == 20
    assert min(good) < 5
    assert max(good) > 34
    with pytest.raises(ConfigError, match="0 of 40 were above, the best had"):
        mixture(episodes, 1e6, 0.28)


def test_an_interrupted_recording_goes_on_as_if_nothing_had_happened(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = tiny("offline").domain
    whole = read(recording_folder(settings, tmp_path / "whole"))
    monkeypatch.setattr(recording, "SAVED_EVERY", 10)
    save, saved = recording.save, []

    def save_and_die(*arguments: object) -> None:
        save(*arguments)
        saved.append(arguments[-1])
        if len(saved) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(recording, "save", save_and_die)
    with pytest.raises(KeyboardInterrupt):
        recording_folder(settings, tmp_path / "torn")
    assert not any(path.is_dir() for path in (tmp_path / "torn").iterdir())
    again = read(recording_folder(settings, tmp_path / "torn"))
    assert saved[:4] == [10, 20, 30, 40]  # it did not begin again
    assert len(again) == len(whole) > 1
    assert all(map(same, again, whole))


def test_episodes_that_do_not_suit_are_not_recorded_again(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    strict = tiny("offline", "domain.recording.success=1000").domain
    with pytest.raises(ConfigError, match="0 of 10 were above, the best had"):
        recording_folder(strict, tmp_path)
    monkeypatch.setattr(recording, "follow", lambda *_: pytest.fail("it was recorded again"))
    recording_folder(tiny("offline").domain, tmp_path)
    assert not list(tmp_path.glob(".*.ckpt"))


def test_the_middle_of_negative_returns_tells_good_from_bad(tiny: Tiny, tmp_path: Path) -> None:
    episodes = [episode(4, seed=i, gain=-1.0 - i) for i in range(10)]
    settings = tiny("offline").domain
    recording.write_mixture(episodes, settings, tmp_path / "mine", "mine")
    returns = [float(e.rewards.sum()) for e in read(tmp_path / "mine")]
    middle = (
        min(float(e.rewards.sum()) for e in episodes)
        + max(float(e.rewards.sum()) for e in episodes)
    ) / 2
    assert min(returns) < middle < max(returns)


def test_nothing_is_tried_while_learning(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tiny("offline")
    recording_folder(config.domain, Path(config.results_dir) / "recordings")
    evaluating: list[bool] = []
    steps, evaluate = Environments.step, Offline.evaluate

    def step(self: Environments, action: torch.Tensor) -> object:
        assert evaluating, "an environment was stepped while learning"
        return steps(self, action)

    def measured(self: Offline) -> dict[str, float]:
        evaluating.append(True)
        try:
            return evaluate(self)
        finally:
            evaluating.pop()

    monkeypatch.setattr(Environments, "step", step)
    monkeypatch.setattr(Offline, "evaluate", measured)
    train(config)
    assert RunFolder.of(config).state() == "finished"


def test_advantages_are_against_the_policys_own_actions(tiny: Tiny) -> None:
    domain = build(tiny("offline"))
    assert isinstance(domain, Offline)
    # A critic that returns the action's first entry: V is then the mean of the policy's actions.
    domain.reference.value = lambda observation, action: action[..., 0]  # type: ignore[method-assign]
    actions = torch.full((8, 4, 1), 0.25)
    domain.own_actions = lambda observation: actions  # type: ignore[method-assign]
    batch = domain.draw()
    torch.testing.assert_close(batch.advantage, batch.action - 0.25)
    assert torch.equal(batch.labels.accept, (batch.action >= 0.25).float())
    drawn = copy.deepcopy(domain)
    found = drawn.data.reward + drawn.data.discount * 0.25
    assert all(any(torch.isclose(t, found)) for t in batch.target)


def test_advantages_of_returns_are_against_a_value(tiny: Tiny) -> None:
    domain = build(tiny("offline", "domain.advantage=returns"))
    assert isinstance(domain, Offline)
    domain.reference.value = lambda observation, action: 0.5 + action[..., 0]  # type: ignore[method-assign]
    batch = domain.draw()
    torch.testing.assert_close(batch.advantage, batch.target[:, None] - 0.5)
    assert (batch.critic_action == 0).all()


def test_rejections_at_the_bound_teach_what_acceptances_do() -> None:
    """PAPER.md §2.4 on data: with β = (1−α)/Z0 rejected samples lose their weight."""
    logp = torch.randn(8, 1, requires_grad=True)
    accept = (torch.arange(8) < 3).float()[:, None]
    feedback = Feedback(logp, -logp[:, 0], accept, 1 - accept)
    shares = Shares(3 / 8, 5 / 8)

    def gradient(alpha: float, beta: float) -> torch.Tensor:
        loss = pmpo(feedback, alpha=alpha, beta=beta, shares=shares).loss
        return torch.autograd.grad(loss, logp, retain_graph=True)[0]

    positive, negative = gradient(1.0, 0.0), gradient(0.0, 8 / 5)
    torch.testing.assert_close(negative, positive * (3 / 5))
    mixed = gradient(0.5, 4 / 5)
    torch.testing.assert_close(mixed, positive * (0.5 + 0.5 * 3 / 5))


def test_data_of_another_environment_are_refused(tiny: Tiny, tmp_path: Path) -> None:
    write_minari(tmp_path / "mine", [episode(30)], {})
    config = tiny("offline", f"domain.path={tmp_path / 'mine'}", "domain.task=walker-walk")
    with pytest.raises(ConfigError, match=r"walker-walk has observations of 24 .* have 5 and 1"):
        build(config).evaluate()


def test_values_that_the_critic_cannot_express_are_refused(tiny: Tiny) -> None:
    with pytest.raises(ConfigError, match="lies outside the categorical critic's 0 to 1e-06"):
        build(tiny("offline", "domain.critic.high=1e-6")).evaluate()
