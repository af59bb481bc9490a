"""Actor and critic. Shapes: B states, K actions per state, O observation, D action entries."""

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss, relu, softplus

from suite.domains.control.config import NetworkConfig, TaskConfig
from suite.policies.gaussian import Gaussian

LARGEST_MEAN = 1.2  # beyond the bound, so that the clipped mean can be the bound itself


class Torso(nn.Module):
    """The layers after the first linear one: LayerNorm and tanh, then ReLU layers."""

    def __init__(self, settings: NetworkConfig, outputs: int) -> None:
        super().__init__()
        width = settings.hidden_size
        self.norm = nn.LayerNorm(width)
        self.hidden = nn.ModuleList(nn.Linear(width, width) for _ in range(settings.layers - 1))
        self.last = nn.Linear(width, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Return the outputs, [..., outputs] from [..., hidden_size]."""
        x = self.norm(x).tanh()
        for layer in self.hidden:
            x = relu(layer(x))
        out: Tensor = self.last(x)
        return out


class Actor(nn.Module):
    """A diagonal Gaussian over actions, its mean within ±1.2; users clip actions to ±1.

    The mean is bounded as a mean far outside ±1 gets no gradient: all samples are clipped alike.
    """

    def __init__(self, settings: TaskConfig, observation_size: int, action_size: int) -> None:
        super().__init__()
        self.first = nn.Linear(observation_size, settings.actor.hidden_size)
        self.torso = Torso(settings.actor, 2 * action_size)
        with torch.no_grad():  # start near zero mean and `initial_std` in every state
            self.torso.last.weight.mul_(0.1)
            self.torso.last.bias.zero_()
        self.low, self.high = settings.smallest_std, settings.largest_std
        above = settings.initial_std - self.low
        if self.high is None:
            self.offset = math.log(math.expm1(above))
        else:
            self.offset = math.log(above / (self.high - settings.initial_std))

    def forward(self, observation: Tensor) -> Gaussian:
        """Return the policy, [B, D] each, from [B, O]."""
        mean, raw = self.torso(self.first(observation)).chunk(2, -1)
        bounded = LARGEST_MEAN * (mean / LARGEST_MEAN).tanh()
        raw = raw + self.offset
        if self.high is None:
            return Gaussian(bounded, softplus(raw) + self.low)
        return Gaussian(bounded, self.low + (self.high - self.low) * raw.sigmoid())


class Critic(nn.Module):
    """Q of clipped actions: a number, or a categorical over evenly spaced values.

    The categorical starts uniform: an optimistic value for all actions until they are tried.
    """

    def __init__(self, settings: TaskConfig, observation_size: int, action_size: int) -> None:
        super().__init__()
        network, bins = settings.critic_network, settings.critic.bins
        self.of_observation = nn.Linear(observation_size, network.hidden_size)
        self.of_action = nn.Linear(action_size, network.hidden_size, bias=False)
        self.categorical = settings.critic.head == "two_hot"
        self.torso = Torso(network, bins if self.categorical else 1)
        self.register_buffer("support", torch.linspace(*settings.support(), bins))
        self.support: Tensor

    def forward(self, observation: Tensor, action: Tensor) -> Tensor:
        """Return the head's outputs, [B, K, bins or 1], from [B, O] and [B, K, D]."""
        first = self.of_observation(observation).unsqueeze(1)
        outputs: Tensor = self.torso(first + self.of_action(action.clamp(-1, 1)))
        return outputs

    def value(self, observation: Tensor, action: Tensor) -> Tensor:
        """Return Q, [B, K], from [B, O] and [B, K, D]."""
        outputs = self.forward(observation, action)
        return outputs.softmax(-1) @ self.support if self.categorical else outputs[..., 0]

    def loss(self, observation: Tensor, action: Tensor, target: Tensor) -> Tensor:
        """Return the loss of predicting the targets, [] from [B, O], [B, D] and [B]."""
        outputs = self.forward(observation, action[:, None])[:, 0]
        if self.categorical:
            return cross_entropy(outputs, two_hot(target, self.support))
        return mse_loss(outputs[:, 0], target)


def two_hot(target: Tensor, support: Tensor) -> Tensor:
    """Return the categorical on two neighbouring values whose mean is the target, [B, bins].

    Targets outside the support count as its nearest end. Shapes: target [B], support [bins].
    """
    bins = len(support)
    width = support[1] - support[0]
    position = ((target - support[0]) / width).clamp(0, bins - 1)
    lower = position.floor().clamp(max=bins - 2)
    share = (position - lower).unsqueeze(-1)
    index = lower.long().unsqueeze(-1)
    zeros = torch.zeros(len(target), bins, dtype=target.dtype, device=target.device)
    return zeros.scatter(1, index, 1 - share).scatter(1, index + 1, share)


class Normalizer(nn.Module):
    """Running mean and deviation of observations (Welford's, by batches)."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros(()))
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("squares", torch.zeros(size))
        self.count: Tensor
        self.mean: Tensor
        self.squares: Tensor

    @torch.no_grad()
    def update(self, observation: Tensor) -> None:
        """Add observations, [N, O]."""
        self.count += len(observation)
        change = observation - self.mean
        self.mean += change.sum(0) / self.count
        self.squares += (change * (observation - self.mean)).sum(0)

    def forward(self, observation: Tensor) -> Tensor:
        """Return the normalised observation, within ±5."""
        std = (self.squares / self.count.clamp(min=1)).sqrt().clamp(min=1e-2)
        return ((observation - self.mean) / std).clamp(-5, 5)


class ActorCritic(nn.Module):
    """The trained networks; a copy is the reference policy and the target critic."""

    def __init__(self, settings: TaskConfig, observation_size: int, action_size: int) -> None:
        super().__init__()
        sizes = (observation_size, action_size)
        self.normalizer = Normalizer(observation_size) if settings.normalize_observations else None
        self.actor = Actor(settings, *sizes)
        count = 2 if settings.critic.pair else 1
        self.critics = nn.ModuleList(Critic(settings, *sizes) for _ in range(count))

    def normalized(self, observation: Tensor) -> Tensor:
        """Return the observation as the networks take it, [..., O]."""
        if self.normalizer is None:
            return observation
        normalized: Tensor = self.normalizer(observation)
        return normalized

    def each_critic(self) -> list[Critic]:
        """Return the critics."""
        return [critic for critic in self.critics if isinstance(critic, Critic)]

    def value(self, observation: Tensor, action: Tensor) -> Tensor:
        """Return the smallest of the critics' Q, [B, K], from [B, O] and [B, K, D]."""
        values = [critic.value(observation, action) for critic in self.each_critic()]
        return values[0] if len(values) == 1 else torch.minimum(*values)

    def critic_loss(self, observation: Tensor, action: Tensor, target: Tensor) -> Tensor:
        """Return the critics' summed losses, [] from [B, O], [B, D] and [B]."""
        losses = [critic.loss(observation, action, target) for critic in self.each_critic()]
        return torch.stack(losses).sum() if len(losses) > 1 else losses[0]
