"""The control domain's parts against numbers by hand, its environments, and its mistakes."""

import dataclasses
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from ctypes.util import find_library
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from tensordict import TensorDict
from torch import Tensor
from torch.nn.functional import mse_loss

from suite.config import Config
from suite.domains.control import tasks, video
from suite.domains.control.config import ControlConfig, CriticConfig, NetworkConfig
from suite.domains.control.domain import Control, ControlBatch, beyond_bounds
from suite.domains.control.environments import Environments, UnusableObservation, build
from suite.domains.control.networks import Actor, ActorCritic, Critic, Normalizer, two_hot
from suite.domains.control.nstep import NStepWindow, Transition
from suite.domains.control.replay import Replay
from suite.evaluate import evaluate
from suite.feedback import Feedback
from suite.keys import ConfigError
from suite.objectives.mpo import BoundMPO
from suite.results import RunFolder
from suite.train import train
from tests import processes
from tests.conftest import BASE, SCHEDULE, TINY, Tiny

SMALL = NetworkConfig(hidden_size=8)


def transitions(
    rewards: list[float], end: str, n_step: int = 3, discount: float = 0.5
) -> list[tuple[float, float, float, float]]:
    """(first observation, n-step reward, discount, last observation) of one episode.

    Observation t is the number t; the episode ends as told after the last reward.
    """
    window, found = NStepWindow(n_step, discount), []
    for t, reward in enumerate(rewards):
        last = t == len(rewards) - 1
        found += window.push(
            torch.tensor([float(t)]),
            torch.tensor([0.0]),
            reward,
            torch.tensor([t + 1.0]),
            terminated=last and end == "terminated",
            truncated=last and end == "truncated",
        )
    return [
        (t.observation.item(), t.reward.item(), t.discount.item(), t.next_observation.item())
        for t in found
    ]


def test_n_step_returns_by_hand_in_the_middle_of_an_episode() -> None:
    # γ = ½: 1 + 2/2 + 4/4 = 3 from 0 to 3; 2 + 4/2 + 8/4 = 6 from 1 to 4; γ³ = ⅛.
    assert transitions([1, 2, 4, 8], "going on") == [(0, 3, 0.125, 3), (1, 6, 0.125, 4)]


def test_a_truncated_episode_is_bootstrapped_from_its_last_observation() -> None:
    # What is left at the end: 4 + 8/2 = 8 over two actions, γ² = ¼; 8 over one, γ = ½.
    expected = [(0, 3, 0.125, 3), (1, 6, 0.125, 4), (2, 8, 0.25, 4), (3, 8, 0.5, 4)]
    assert transitions([1, 2, 4, 8], "truncated") == expected


def test_nothing_follows_a_terminated_episode() -> None:
    # Transition 0 was complete one action earlier, before the termination.
    expected = [(0, 3, 0.125, 3), (1, 6, 0.0, 4), (2, 8, 0.0, 4), (3, 8, 0.0, 4)]
    assert transitions([1, 2, 4, 8], "terminated") == expected


def test_an_episode_shorter_than_n_is_kept_whole() -> None:
    assert transitions([1, 2], "truncated") == [(0, 2, 0.25, 2), (1, 2, 0.5, 2)]
    assert transitions([5], "terminated", n_step=1) == [(0, 5, 0.0, 1)]


def test_a_window_does_not_reach_over_the_end_of_an_episode() -> None:
    window = NStepWindow(3, 0.5)
    zero = torch.zeros(1)
    assert len(window.push(zero, zero, 1.0, zero, terminated=False, truncated=True)) == 1
    assert window.push(zero, zero, 2.0, zero, terminated=False, truncated=False) == []


def small_control(tmp_path: Path, **changes: object) -> Control:
    settings = ControlConfig(
        episode_length=20, batch_size=6, warmup=30, acting_steps=4, eval_episodes=1,
        actor=SMALL, critic_network=SMALL, replay_size=200,
    )  # fmt: skip
    settings = dataclasses.replace(settings, **changes)  # type: ignore[arg-type]
    return Control(settings, feedback="mixed", divergence="forward", seed=0, cache=tmp_path)


def with_known_q(domain: Control, q: Callable[[Tensor], Tensor]) -> None:
    """Replace the target critic's Q by a function of the actions."""
    domain.reference.value = lambda observation, action: q(action)  # type: ignore[method-assign]


def test_labels_are_the_signs_of_the_advantage_over_the_mean(tmp_path: Path) -> None:
    domain = small_control(tmp_path)
    score = torch.tensor([[1.0, 2.0, 3.0, 10.0], [0.0, 0.0, 1.0, -5.0]])
    labels = domain.label(score)  # means 4 and −1
    assert labels.accept.tolist() == [[0, 0, 0, 1], [1, 1, 1, 0]]
    assert labels.reject.tolist() == [[1, 1, 1, 0], [0, 0, 0, 1]]
    ranked = small_control(tmp_path, labels="rank", top=1, bottom=2)
    labels = ranked.label(score)
    assert labels.accept.tolist() == [[0, 0, 0, 1], [0, 0, 1, 0]]
    assert labels.reject.tolist() == [[1, 1, 0, 0], [0, 1, 0, 1]]


def test_on_a_known_q_batches_hold_its_labels_and_targets(tmp_path: Path) -> None:
    domain = small_control(tmp_path, bound_penalty=0.0)
    with_known_q(domain, lambda action: action[..., 0])
    batch = next(domain.train_dataloader())
    assert torch.equal(batch.score, batch.samples[..., 0])
    above = batch.score >= batch.score.mean(1, keepdim=True)
    assert torch.equal(batch.labels.accept, above.float())
    assert not batch.samples.requires_grad


def test_targets_add_the_discounted_mean_of_q_to_the_rewards(tmp_path: Path) -> None:
    domain = small_control(tmp_path, batch_size=3)
    with_known_q(domain, lambda action: action[..., 0])
    reward, discount = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([0.95, 0.5, 0.0])
    states, actions = torch.randn(3, 5), torch.rand(3, 1)
    found = Transition(states, actions, reward, discount, states)
    domain.replay.sample = lambda count: found  # type: ignore[method-assign]
    batch = domain.draw()
    mean_q = batch.samples[..., 0].mean(1)
    assert torch.equal(batch.target, reward + discount * mean_q)
    assert batch.target[2] == 3, "nothing follows a termination"


def test_actions_beyond_the_bounds_are_told_apart_but_targets_know_nothing_of_it(
    tmp_path: Path,
) -> None:
    # 1.5 and −3 lie ½ and 2 beyond the bounds: ¼ and 4, and 2 dimensions add up.
    actions = torch.tensor([[1.5, 0.0], [0.3, -3.0], [1.5, -3.0], [1.0, -1.0]])
    assert beyond_bounds(actions).tolist() == [0.25, 4.0, 4.25, 0.0]
    domain = small_control(tmp_path, bound_penalty=2.0)
    with_known_q(domain, lambda action: torch.full(action.shape[:-1], 7.0))
    batch = next(domain.train_dataloader())
    torch.testing.assert_close(batch.score, 7 - 2 * beyond_bounds(batch.samples))
    assert (batch.target - 0.99**5 * 7 > -0.01).all()


def test_feedback_prefers_what_the_critic_prefers_and_moves_the_mean_there(tmp_path: Path) -> None:
    from suite.objectives.pmpo import pmpo

    domain = small_control(tmp_path)
    with_known_q(domain, lambda action: action[..., 0])
    batches = domain.train_dataloader()
    optimizer = torch.optim.Adam(domain.policy.parameters(), lr=1e-2)
    start = None
    for _ in range(40):
        batch = next(batches)
        start = batch.next_observation if start is None else start
        loss = pmpo(domain.feedback(batch), alpha=0.5, beta=1.0, covariance_weight=100).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        moved = domain.policy.actor(start).mean - domain.reference.actor(start).mean
    assert (moved > 0.1).all()


def gradients(module: torch.nn.Module) -> bool:
    return any(p.grad is not None and p.grad.abs().sum() > 0 for p in module.parameters())


def test_policy_and_critic_losses_reach_only_their_own_network(tmp_path: Path) -> None:
    domain = small_control(tmp_path)
    batch = next(domain.train_dataloader())
    feedback = domain.feedback(batch)
    (feedback.logp.sum() + feedback.kl.sum()).backward()
    assert gradients(domain.policy.actor)
    assert not gradients(domain.policy.critics)
    domain.policy.zero_grad()
    domain.auxiliary_losses(batch)["critic"].backward()
    assert not gradients(domain.policy.actor)
    assert gradients(domain.policy.critics)
    assert not gradients(domain.reference)
    for part in (batch.target, batch.score, batch.samples, *batch.reference):
        assert not part.requires_grad


def test_two_hot_puts_its_mean_on_the_target_and_clips_outside() -> None:
    support = torch.linspace(0, 4, 5)
    found = two_hot(torch.tensor([1.25, 4.0, -3.0, 9.0, 0.0]), support)
    assert found[0].tolist() == [0, 0.75, 0.25, 0, 0]
    assert (found @ support).tolist() == [1.25, 4.0, 0.0, 4.0, 0.0]
    assert (found.sum(1) == 1).all()


@pytest.mark.parametrize("head", ["mse", "two_hot"])
def test_a_critic_learns_a_known_function_of_clipped_actions(head: str) -> None:
    torch.manual_seed(0)
    of_critic = CriticConfig(head=head, bins=101, low=-4, high=4)
    settings = ControlConfig(critic=of_critic, critic_network=NetworkConfig(hidden_size=64))
    critic = Critic(settings, 2, 1)
    optimizer = torch.optim.Adam(critic.parameters(), lr=3e-3)
    for _ in range(400):
        observation, action = torch.randn(128, 2), 2 * torch.rand(128, 1) - 1
        loss = critic.loss(observation, action, observation[:, 0].clamp(-1, 1) + 2 * action[:, 0])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    observation, actions = torch.randn(64, 2), 4 * torch.rand(64, 5, 1) - 2
    expected = observation[:, :1].clamp(-1, 1) + 2 * actions[..., 0].clamp(-1, 1)
    assert mse_loss(critic.value(observation, actions), expected) < 0.1


def test_the_categorical_head_ends_where_rewards_of_one_do() -> None:
    settings = ControlConfig(critic=CriticConfig(head="two_hot"), action_repeat=2, discount=0.98)
    support = Critic(settings, 2, 1).support
    assert (support[0].item(), support[-1].item()) == (0.0, pytest.approx(100.0))
    given = ControlConfig(critic=CriticConfig(head="two_hot", low=-3, high=5))
    assert Critic(given, 2, 1).support[[0, -1]].tolist() == [-3.0, 5.0]


def test_returns_that_the_critic_cannot_express_are_refused_before_training(tiny: Tiny) -> None:
    config = tiny("control", "domain.task=Pendulum-v1", "domain.critic={head: two_hot, high: 100}")
    with pytest.raises(
        ConfigError, match=r"return of -.* lies outside .* 0 to 100: set domain.cri"
    ):
        train(config)
    assert RunFolder.of(config).progress()["step"] == 0


def test_returns_that_grow_beyond_what_the_critic_can_express_are_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    critic = CriticConfig(head="two_hot", high=1e-6)
    domain = small_control(tmp_path, task="walker-walk", critic=critic)
    next(domain.train_dataloader())
    domain.evaluate()
    assert "lies outside the categorical critic's 0 to 1e-06" in caplog.text


def test_the_discounted_return_of_an_evaluation_is_that_of_its_rewards(tmp_path: Path) -> None:
    domain = small_control(tmp_path, eval_episodes=2)
    rewards, _ = domain.play(domain.policy)
    by_hand = [sum(0.99**t * r for t, r in enumerate(episode)) for episode in rewards]
    assert domain.evaluate()["discounted_return"] == pytest.approx(sum(by_hand) / 2)


def test_of_two_critics_the_smaller_value_counts_and_both_learn() -> None:
    settings = ControlConfig(critic=CriticConfig(pair=True), actor=SMALL, critic_network=SMALL)
    both = ActorCritic(settings, observation_size=3, action_size=2)
    observation, action = torch.randn(5, 3), torch.randn(5, 4, 2)
    values = torch.stack([critic.value(observation, action) for critic in both.critics])
    assert torch.equal(both.value(observation, action), values.amin(0))
    target = torch.randn(5)
    losses = [critic.loss(observation, action[:, 0], target) for critic in both.critics]
    torch.testing.assert_close(both.critic_loss(observation, action[:, 0], target), sum(losses))


def test_the_actor_starts_wide_and_central_and_its_mean_does_not_go_far() -> None:
    torch.manual_seed(0)
    actor = Actor(SMALL, 3, 2, initial_std=0.7)
    mean, std = actor(torch.randn(100, 3))
    assert mean.abs().max() < 0.5
    assert std.mean().item() == pytest.approx(0.7, abs=0.05)
    torch.nn.init.constant_(actor.torso.last.bias, 50.0)
    assert actor(torch.randn(4, 3)).mean.tolist() == [[pytest.approx(1.2)] * 2] * 4


def test_the_normalizer_is_mean_and_deviation_of_all_it_saw() -> None:
    seen = np.random.default_rng(0).normal([3.0, -1.0], [2.0, 0.1], (50, 2)).astype(np.float32)
    normalizer = Normalizer(2)
    for rows in np.split(seen, 10):
        normalizer.update(torch.from_numpy(rows))
    expected = (seen - seen.mean(0)) / seen.std(0)
    found = normalizer(torch.from_numpy(seen))
    torch.testing.assert_close(found, torch.from_numpy(expected), atol=1e-3, rtol=1e-3)


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


def settings_of(task: str, **changes: object) -> ControlConfig:
    return dataclasses.replace(ControlConfig(task=task), **changes)  # type: ignore[arg-type]


def roll(env: Environments, steps: int, seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    found = []
    for _ in range(steps):
        shape = (env.count, env.action_size)
        outcome = env.step(2 * torch.rand(shape, generator=generator) - 1)
        found.append(torch.cat([part.reshape(-1).float() for part in outcome]))
    return found


# The reacher moves its target by changing the model; Pendulum is Gymnasium's.
@pytest.mark.parametrize(
    "task", ["reacher-easy", "walker-walk", "ball_in_cup-catch", "Pendulum-v1"]
)
def test_an_environment_comes_back_exactly_in_the_middle_of_an_episode(task: str) -> None:
    settings = settings_of(task, episode_length=30)
    first = Environments(settings, (3,), 1)
    roll(first, 47)
    state = first.state_dict()
    expected = roll(first, 40, seed=1)
    second = Environments(settings, (3,), 1)
    second.load_state_dict(state)
    for a, b in zip(expected, roll(second, 40, seed=1), strict=True):
        assert torch.equal(a, b)


@pytest.mark.slow
def test_parallel_environments_are_seeded_apart_and_come_back_exactly(tmp_path: Path) -> None:
    code = """
import torch
from tests.test_control import Environments, roll, settings_of

if __name__ == "__main__":
    settings = settings_of("cartpole-swingup", episode_length=30)
    first = Environments(settings, (3,), 2)
    assert not torch.equal(first.observation[0], first.observation[1])
    alone = Environments(settings, (3,), 1)
    assert torch.equal(alone.observation[0], first.observation[0])
    roll(first, 47)
    assert first.steps == 94
    state = first.state_dict()
    expected = roll(first, 40, seed=1)
    first.load_state_dict(state)
    found = roll(first, 40, seed=1)
    assert all(torch.equal(a, b) for a, b in zip(expected, found))
    first.close()
    print("SAME")
"""
    script = tmp_path / "script.py"
    script.write_text(code)
    done = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, timeout=120, check=False,
        env={"PYTHONPATH": str(Path(__file__).parents[1]), "PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    assert "SAME" in done.stdout, done.stderr


def children(pid: int) -> list[int]:
    return [child.pid for child in psutil.Process(pid).children(recursive=True)]


@pytest.mark.slow
def test_a_run_with_parallel_environments_goes_on_exactly_and_leaves_no_process_behind(
    tiny: Tiny, tmp_path: Path
) -> None:
    options = ["domain.num_envs=2", "domain.warmup=60", "trainer.steps=1200"]
    options += ["trainer.eval_every=400", "trainer.checkpoint_every=50"]
    config = tiny("control", *options, results=tmp_path / "torn")
    whole = tiny("control", *options, results=tmp_path / "whole")

    def command(of: Config) -> list[str]:
        where = [f"results_dir={of.results_dir}", f"sweep={of.sweep}"]
        return ["train", BASE["control"], *TINY["control"], *SCHEDULE, *options, *where]

    assert processes.suite(*command(whole))[0] == 0
    run, seen = RunFolder.of(config), set()
    for number in (signal.SIGTERM, signal.SIGKILL):
        process = processes.start(command(config))
        processes.wait_until(
            lambda p=process.pid: (
                run.progress().get("pid") == p
                and run.progress()["phase"] == "training"
                and (run.checkpoints / "last.ckpt").exists()
            ),
            process,
        )
        seen.update(children(process.pid))
        process.send_signal(number)
        code, output = processes.finish(process)
        assert code == (130 if number == signal.SIGTERM else -signal.SIGKILL), output
    assert processes.suite(*command(config))[0] == 0
    assert run.metrics_path.read_bytes() == RunFolder.of(whole).metrics_path.read_bytes()
    assert len(seen) >= 2
    assert not [pid for pid in seen if psutil.pid_exists(pid)]


def test_a_time_limit_truncates_and_a_goal_terminates() -> None:
    limited = Environments(settings_of("Pendulum-v1"), (0,), 1)
    flags = [(row[-2].item(), row[-1].item()) for row in roll(limited, 200)]
    assert flags == [(0, 0)] * 199 + [(0, 1)]
    own = Environments(settings_of("cartpole-swingup", episode_length=7), (0,), 1)
    flags = [(row[-2].item(), row[-1].item()) for row in roll(own, 14)]
    assert flags == ([(0, 0)] * 6 + [(0, 1)]) * 2
    # The car is pushed with the direction of its velocity until it reaches the goal.
    car = Environments(settings_of("MountainCarContinuous-v0"), (0,), 1)
    outcome = car.step(torch.ones(1, 1))
    while not (outcome.terminated or outcome.truncated):
        outcome = car.step(car.observation[:, 1:].sign())
    assert outcome.terminated
    assert not outcome.truncated
    assert car.steps < 999


def test_a_repeated_action_sums_rewards_and_counts_every_step() -> None:
    once = Environments(settings_of("walker-walk"), (5,), 1)
    twice = Environments(settings_of("walker-walk", action_repeat=2), (5,), 1)
    action = torch.full((1, 6), 0.3)
    rewards = [once.step(action).reward.item() for _ in range(4)]
    summed = [twice.step(action).reward.item() for _ in range(2)]
    assert summed == pytest.approx([rewards[0] + rewards[1], rewards[2] + rewards[3]], abs=1e-6)
    assert torch.equal(once.observation, twice.observation)
    assert once.steps == twice.steps == 4


@pytest.mark.parametrize(
    ("task", "repeat"), [("walker-walk", 1), ("reacher-easy", 3), ("cartpole-balance_sparse", 2)]
)
def test_the_short_way_through_a_step_is_that_of_torchrl(task: str, repeat: int) -> None:
    settings = settings_of(task, action_repeat=repeat, episode_length=40 * repeat)
    ours, theirs = (build(settings, (0, 0)) for _ in range(2))
    ours.reset()
    theirs.reset()
    for _ in range(90):
        action = theirs.action_spec.rand()
        after, now = ours.advance(action)
        stepped, following = theirs.step_and_maybe_reset(TensorDict({"action": action}, []))
        for name in (*theirs.observation_spec.keys(), "reward", "terminated", "truncated", "done"):
            expected = stepped["next", name].reshape(-1)
            assert torch.equal(after[name].reshape(-1).to(expected.dtype), expected)
        assert all(
            torch.equal(now[name].reshape(-1), following[name].reshape(-1))
            for name in theirs.observation_spec.keys()  # noqa: SIM118 - torchrl's, not a dict
        )
    assert ours.episode == theirs.episode == 2


def test_actions_are_scaled_to_the_environments_bounds() -> None:
    env = Environments(settings_of("Pendulum-v1"), (0,), 1)
    env.step(torch.tensor([[-1.0]]))
    env.step(torch.tensor([[0.5]]))
    assert [a.item() for a in env.env.actions] == [-2.0, 1.0]


def test_every_episode_of_an_evaluation_starts_from_its_own_fixed_seed(tmp_path: Path) -> None:
    domain = small_control(tmp_path, eval_episodes=3)
    _, seen = domain.play(domain.policy)
    other = small_control(tmp_path, eval_episodes=3)
    _, again = other.play(other.policy)
    starts = [states[0] for states in seen]
    assert len({tuple(s.tolist()) for s in starts}) == 3
    assert all(torch.equal(a[0], b[0]) for a, b in zip(seen, again, strict=True))


def test_updates_and_environment_steps_keep_their_ratio(tiny: Tiny) -> None:
    config = tiny("control", "domain.updates_per_env_step=0.25", "trainer.steps=24")
    train(config)
    last = RunFolder.of(config).metrics()[-1]
    # 24 updates are owed after 96 environment steps, which are acted four at a time.
    assert last["eval/env_steps"] == 96


def test_moving_averages_normalisation_and_pairs_train_too(tiny: Tiny) -> None:
    options = (
        "reference={update: average, rate: 0.01}",
        "domain.normalize_observations=true",
        "domain.critic.pair=true",
        "domain.critic.head=two_hot",
        "domain.action_repeat=2",
        "objective.covariance_weight=10",
    )
    config = tiny("control", *options)
    train(config)
    state = torch.load(RunFolder.of(config).checkpoints / "last.ckpt", weights_only=True)
    weights = state["state_dict"]
    for half in ("policy", "reference"):
        assert weights[f"{half}.normalizer.count"] == 16, "32 steps, two per action"
        assert weights[f"{half}.critics.1.torso.last.weight"].shape == (51, 16)
    name = "critics.0.torso.last.weight"
    moved = weights[f"policy.{name}"] - weights[f"reference.{name}"]
    assert 0 < moved.abs().max() < 0.1


def test_mpo_on_normalised_observations_continues_bit_identically(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ("objective={name: mpo}", "domain.normalize_observations=true")
    whole = tiny("control", *options)
    train(whole)
    broken = tiny("control", *options, results=tmp_path)
    batches = iter(range(100))
    honest = Control.feedback

    def failing(self: Control, batch: ControlBatch) -> Feedback:
        if next(batches) == 8:
            raise OSError("the machine is gone")
        return honest(self, batch)

    monkeypatch.setattr(Control, "feedback", failing)
    with pytest.raises(OSError, match="gone"):
        train(broken)
    monkeypatch.undo()
    train(broken)
    states = []
    for config in (whole, broken):
        run = RunFolder.of(config)
        states.append(torch.load(run.checkpoints / "last.ckpt", weights_only=True)["state_dict"])
    first, second = (RunFolder.of(c).metrics_path.read_bytes() for c in (whole, broken))
    assert first == second
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    start = BoundMPO(whole.objective, dimensions=1)
    assert not torch.equal(states[0]["objective.temperature"], start.temperature)


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ("walker-wlak", "is no task of the Control Suite; near ones: walker-walk"),
        ("wolker-walk", "near ones: walker-walk"),
        ("Pendulm-v1", "is no environment of Gymnasium; near ones: Pendulum-v1"),
        ("CartPole-v1", r"has actions Discrete\(2\); the control domain supports continuous ones"),
        ("cartpole", "must be a Control Suite task such as walker-walk or a Gymnasium id"),
    ],
)
def test_an_unknown_or_unsuited_task_is_named_with_near_ones(task: str, message: str) -> None:
    settings = settings_of(task)

    def checks() -> None:
        settings.check()
        settings.check_machine()

    with pytest.raises(ConfigError, match=message):
        checks()


@pytest.mark.parametrize("package", ["dm_control", "gymnasium", "torchrl"])
def test_a_missing_package_names_the_extra(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tasks.check_task.cache_clear()
    monkeypatch.setattr(
        tasks, "find_spec", lambda name: None if name == package else find_spec(name)
    )
    task = "Pendulum-v1" if package == "gymnasium" else "walker-walk"
    with pytest.raises(ConfigError, match=rf"{package}: pip install 'pmpo-suite\[control\]'"):
        settings_of(task).check_machine()


def test_a_replay_larger_than_memory_is_refused_before_the_run(tiny: Tiny) -> None:
    most = psutil.virtual_memory().total
    config = tiny("control", f"domain.replay_size={most}")
    with pytest.raises(ConfigError, match=r"need .* GiB .* and .* GiB are free: at most .* fit"):
        train(config)
    assert RunFolder.of(config).summary()["status"] == "failed"


@pytest.mark.parametrize(
    ("stream", "where"),
    [
        (Control.training_stream[0], "the observation"),
        (Control.evaluation_stream[0], "in an evaluation, the observation"),
    ],
)
def test_an_observation_that_is_not_finite_fails_the_run_with_its_step(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch, stream: int, where: str
) -> None:
    honest = Environments.read

    def poisoned(self: Environments, found: object) -> Tensor:
        if self.env.stream[0] == stream and self.steps == 37:
            found["velocity"] = found["velocity"] * float("nan")  # type: ignore[index]
        return honest(self, found)  # type: ignore[arg-type]

    monkeypatch.setattr(Environments, "read", poisoned)
    config = tiny("control", "domain.updates_per_env_step=0.25")
    with pytest.raises(UnusableObservation, match=rf"^{where} at environment step 37 is not"):
        train(config)
    assert f"{where} at environment step 37" in RunFolder.of(config).summary()["error"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": "rank", "top": 3, "bottom": 2}, r"must be at most domain.samples=4"),
        ({"warmup": 5}, r"domain.warmup must be more than .* = 5 steps"),
        ({"critic": CriticConfig(low=3, high=3)}, "domain.critic.low must be less than"),
        (
            {"task": "Hopper-v5", "critic": CriticConfig(head="two_hot")},
            "domain.critic.high must be given .* Hopper-v5, whose rewards may leave 0 to 1",
        ),
    ],
)
def test_settings_that_do_not_fit_each_other_are_refused(
    change: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        dataclasses.replace(settings_of("walker-walk"), **change).check()  # type: ignore[arg-type]


def test_a_reference_that_never_follows_is_refused(tiny: Tiny) -> None:
    with pytest.raises(ConfigError, match=r"reference.update must be copy or average .* frozen"):
        tiny("control", "reference.update=frozen")


def test_evaluations_and_training_begin_no_episode_alike() -> None:
    settings = ControlConfig()
    streams = [(*Control.training_stream, seed, i) for seed in (0, 1) for i in (0, 1)]
    streams.append((*Control.evaluation_stream, 0))
    seeds = []
    for stream in streams:
        env = build(settings, stream)
        for env.episode in range(3):
            seeds.append(env.seed_of_episode())
    assert len(set(seeds)) == len(seeds) == 15


def test_without_a_renderer_a_video_names_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video, "find_library", lambda name: None)
    monkeypatch.setenv("MUJOCO_GL", "disable")
    monkeypatch.setitem(sys.modules, "mujoco", None)
    with pytest.raises(ConfigError, match="needs a process that has not loaded MuJoCo yet"):
        video.choose_renderer()
    monkeypatch.delitem(sys.modules, "mujoco")
    with pytest.raises(ConfigError, match="on Debian `apt-get install libosmesa6`"):
        video.choose_renderer()
    monkeypatch.setattr(video, "find_library", lambda name: "lib" if name == "EGL" else None)
    video.choose_renderer()
    assert os.environ["MUJOCO_GL"] == "egl"


@pytest.mark.slow
@pytest.mark.skipif(find_library("OSMesa") is None, reason="needs OSMesa to render")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # imageio's reader
def test_a_video_shows_a_whole_episode(tiny: Tiny, tmp_path: Path) -> None:
    config = tiny("control", results=tmp_path)
    train(config)
    run = RunFolder.of(config)
    code, output = processes.suite("evaluate", str(run.path), "--video")
    assert code == 0, output
    import imageio.v3 as imageio

    frames = imageio.imread(run.path / "video.mp4")
    # 20 steps of 10 ms at 25 frames a second: every fourth step.
    assert frames.shape == (5, 240, 320, 3)
    assert frames[0].std() > 10, "something is to be seen"
    assert (frames[0] != frames[-1]).any()
    assert "video_return" in output


def test_only_control_can_be_filmed(tiny: Tiny) -> None:
    config = tiny("bandit")
    train(config)
    with pytest.raises(ConfigError, match=r"--video shows an environment, and domain.name=bandit"):
        evaluate(RunFolder.of(config).path, video=True)


def test_evaluating_a_control_run_again_repeats_its_last_evaluation(tiny: Tiny) -> None:
    config = tiny("control")
    train(config)
    found = evaluate(RunFolder.of(config).path)
    expected = RunFolder.of(config).metrics()[-1]
    assert found == {name.removeprefix("eval/"): value for name, value in expected.items()}
