"""The control domain: its batches and losses, its evaluations, and whole runs of it."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from suite.config.fields import ConfigError
from suite.domains.control.config import CriticConfig, NetworkConfig
from suite.domains.control.environments import Environments
from suite.domains.control.evaluation import Rollouts, roll_out
from suite.domains.control.nstep import Transition
from suite.domains.control.online import Control, ControlBatch, bound_violation
from suite.domains.control.online_config import ControlConfig
from suite.evaluate import evaluate
from suite.feedback.feedback import Feedback
from suite.feedback.label_noise import LabelNoise
from suite.objectives.mpo import BoundMPO
from suite.runs.folder import RunFolder
from suite.train import train
from tests.conftest import Tiny, parts_of

SMALL = NetworkConfig(hidden_size=8)


def small_control(tmp_path: Path, **changes: object) -> Control:
    settings = ControlConfig(
        episode_length=20, batch_size=6, warmup=30, acting_steps=4, eval_episodes=1,
        actor=SMALL, critic_network=SMALL, replay_size=200,
    )  # fmt: skip
    settings = dataclasses.replace(settings, **changes)  # type: ignore[arg-type]
    return Control(settings, parts_of(LabelNoise("mixed"), seed=0, cache=tmp_path))


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
    # The second and third lowest are equal: a tie across the limit gets no label.
    assert labels.reject.tolist() == [[1, 1, 0, 0], [0, 0, 0, 1]]


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
    assert bound_violation(actions).tolist() == [0.25, 4.0, 4.25, 0.0]
    domain = small_control(tmp_path, bound_penalty=2.0)
    with_known_q(domain, lambda action: torch.full(action.shape[:-1], 7.0))
    batch = next(domain.train_dataloader())
    torch.testing.assert_close(batch.score, 7 - 2 * bound_violation(batch.samples))
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


def played(domain: Control) -> Rollouts:
    settings = domain.settings
    env = Environments(settings, domain.evaluation_stream, 1)
    return roll_out(env, domain.policy, settings.eval_episodes)


def test_the_discounted_return_of_an_evaluation_is_that_of_its_rewards(tmp_path: Path) -> None:
    domain = small_control(tmp_path, eval_episodes=2)
    rewards, _ = played(domain)
    by_hand = [sum(0.99**t * r for t, r in enumerate(episode)) for episode in rewards]
    assert domain.evaluate()["discounted_return"] == pytest.approx(sum(by_hand) / 2)


def test_every_episode_of_an_evaluation_starts_from_its_own_fixed_seed(tmp_path: Path) -> None:
    domain = small_control(tmp_path, eval_episodes=3)
    _, seen = played(domain)
    other = small_control(tmp_path, eval_episodes=3)
    _, again = played(other)
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
        dataclasses.replace(ControlConfig(), **change).check()  # type: ignore[arg-type]


def test_a_reference_that_never_follows_is_refused(tiny: Tiny) -> None:
    with pytest.raises(ConfigError, match=r"reference.update must be copy or average .* frozen"):
        tiny("control", "reference.update=frozen")


def test_evaluating_a_control_run_again_repeats_its_last_evaluation(tiny: Tiny) -> None:
    config = tiny("control")
    train(config)
    found = evaluate(RunFolder.of(config).path)
    expected = RunFolder.of(config).metrics()[-1]
    assert found == {name.removeprefix("eval/"): value for name, value in expected.items()}
