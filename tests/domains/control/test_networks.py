"""Actor, critics and normaliser of the control domain."""

import numpy as np
import pytest
import torch
from torch.nn.functional import mse_loss

from suite.domains.control.config import CriticConfig, NetworkConfig
from suite.domains.control.networks import Actor, ActorCritic, Critic, Normalizer, two_hot
from suite.domains.control.online_config import ControlConfig

SMALL = NetworkConfig(hidden_size=8)


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
    actor = Actor(ControlConfig(actor=SMALL), 3, 2)
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
