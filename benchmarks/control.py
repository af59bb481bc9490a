"""Updates per second of the control domain, and environment steps per second.

Both sides of a comparison take almost no environment steps while they are timed: the replay holds a
thousand transitions, and there are so many updates per step that only updates count.
"""

import copy
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.overhead import compare_with_suite
from benchmarks.timing import Comparison
from suite.config.loading import load
from suite.domains.control.environments import Environments
from suite.domains.control.networks import ActorCritic
from suite.domains.control.online_config import ControlConfig
from suite.domains.control.tasks import prepare_libraries

CONFIG = "configs/control/cartpole-swingup.yaml"
SIZES = (5, 1)  # of the task's observation and action
ONLY_UPDATES = ["domain.updates_per_env_step=1000"]


def transitions(count: int) -> list[Tensor]:
    """Return random transitions: observation, action, n-step reward, discount, observation."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(count, *shape, generator=generator)

    observations, actions = SIZES
    discount = torch.full((count,), 0.95)
    return [
        draw(observations),
        draw(actions).clamp(-1, 1),
        draw().abs(),
        discount,
        draw(observations),
    ]


def bare_torch() -> Callable[[], None]:
    """Return one update of mixed PMPO with the suite's networks, in bare torch."""
    settings = load(Path(CONFIG)).domain
    networks = ActorCritic(settings, *SIZES)
    target = copy.deepcopy(networks).requires_grad_(False)
    actor, critic = networks.actor, networks.each_critic()[0]
    optimizer = torch.optim.AdamW(networks.parameters(), lr=3e-4, weight_decay=0.0, fused=True)
    data, size, samples = transitions(1000), settings.batch_size, settings.samples
    updates = 0

    def step() -> None:
        nonlocal updates
        index = torch.randint(1000, (size,))
        observation, action, reward, discount, after = (column[index] for column in data)
        with torch.no_grad():
            mean, std = target.actor(after)
            actions = mean[:, None] + std[:, None] * torch.randn(size, samples, SIZES[1])
            q = target.value(after, actions)
            score = q - 0.1 * (actions - actions.clamp(-1, 1)).square().sum(-1)
            accept = (score >= score.mean(1, keepdim=True)).float()
            goal = reward + discount * q.mean(1)
        mu, sigma = actor(after)
        z = (actions - mu[:, None]) / sigma[:, None]
        logp = -0.5 * z.square().sum(-1) - sigma.log().sum(-1, keepdim=True)
        ratio = (std / sigma).square()
        shift = 0.5 * ((mean - mu) / sigma).square().sum(-1)
        widening = 0.5 * (ratio - 1 - ratio.log()).sum(-1)
        accepted, rejected = (accept * logp).mean() / 0.5, ((1 - accept) * logp).mean() / 0.5
        loss = 0.5 * (rejected - accepted) + (shift + 100 * widening).mean()
        loss = loss + critic.loss(observation, action, goal)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        updates += 1
        if updates % 100 == 0:
            target.load_state_dict(networks.state_dict())

    return step


def torchrl_sac() -> Callable[[], None]:
    """Return one update of torchrl's SAC from torchrl's replay, with networks of the same size."""
    prepare_libraries()
    from torchrl.objectives import SoftUpdate

    settings: ControlConfig = load(Path(CONFIG)).domain
    sac_loss = torchrl_sac_loss(settings.actor.hidden_size)
    replay = torchrl_replay(settings.batch_size)
    target_update = SoftUpdate(sac_loss, tau=0.005)
    optimizer = torch.optim.AdamW(sac_loss.parameters(), lr=3e-4, weight_decay=0.0, fused=True)

    def step() -> None:
        losses = sac_loss(replay.sample())
        loss = losses["loss_actor"] + losses["loss_qvalue"] + losses["loss_alpha"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        target_update.step()

    return step


def torchrl_sac_loss(width: int) -> Any:
    """Return torchrl's SAC loss of an actor and one critic, with hidden layers of `width`."""
    from tensordict.nn import NormalParamExtractor, TensorDictModule
    from torchrl.data import Bounded
    from torchrl.modules import ProbabilisticActor, TanhNormal, ValueOperator
    from torchrl.objectives import SACLoss

    observations, actions = SIZES

    def mlp(inputs: int, outputs: int) -> nn.Sequential:
        first = [nn.Linear(inputs, width), nn.LayerNorm(width), nn.Tanh()]
        return nn.Sequential(*first, nn.Linear(width, width), nn.ReLU(), nn.Linear(width, outputs))

    class Q(nn.Module):
        """A critic of concatenated observation and action."""

        def __init__(self) -> None:
            super().__init__()
            self.network = mlp(observations + actions, 1)

        def forward(self, observation: Tensor, action: Tensor) -> Tensor:
            """Return Q, [B, 1]."""
            value: Tensor = self.network(torch.cat([observation, action], -1))
            return value

    head = nn.Sequential(mlp(observations, 2 * actions), NormalParamExtractor())
    parameters = TensorDictModule(head, in_keys=["observation"], out_keys=["loc", "scale"])
    actor = ProbabilisticActor(
        parameters, in_keys=["loc", "scale"], distribution_class=TanhNormal, return_log_prob=True
    )
    critic = ValueOperator(Q(), in_keys=["observation", "action"])
    bounds = Bounded(-1, 1, (actions,))
    loss = SACLoss(actor, critic, action_spec=bounds, num_qvalue_nets=1)
    loss.make_value_estimator(gamma=0.99)
    return loss


def torchrl_replay(batch_size: int) -> Any:
    """Return torchrl's replay with a thousand transitions."""
    from tensordict import TensorDict
    from torchrl.data import LazyTensorStorage, TensorDictReplayBuffer

    observation, action, reward, _, after = transitions(1000)
    false = torch.zeros(1000, 1, dtype=torch.bool)
    following = TensorDict(
        {"observation": after, "reward": reward[:, None], "done": false, "terminated": false},
        [1000],
    )
    replay = TensorDictReplayBuffer(storage=LazyTensorStorage(1000), batch_size=batch_size)
    replay.extend(
        TensorDict({"observation": observation, "action": action, "next": following}, [1000])
    )
    return replay


def updates() -> dict[str, Comparison]:
    """Compare the seconds per update of the suite, plain and compiled, with the others'."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        compare = partial(compare_with_suite, path=CONFIG, folder=Path(name), turn=50, turns=60)
        compiled = [*ONLY_UPDATES, "trainer.compile=true"]
        return {
            "suite against bare torch": compare(bare_torch(), overrides=ONLY_UPDATES),
            "suite, compiled, against bare torch": compare(bare_torch(), overrides=compiled),
            "suite against torchrl's SAC": compare(torchrl_sac(), overrides=ONLY_UPDATES),
        }


def environment_rates() -> dict[tuple[str, int], float]:
    """Return environment steps per second with actions of zero, by task and environments."""
    return {
        (task, count): rate(task, count)
        for task in ("cartpole-swingup", "walker-walk")
        for count in (1, 2)
    }


def rate(task: str, count: int, seconds: float = 5.0) -> float:
    """Return environment steps per second of `count` parallel environments."""
    env = Environments(ControlConfig(task=task), (0,), count)
    action = torch.zeros(count, env.action_size)
    for _ in range(50):
        env.step(action)
    before, started = env.steps, time.perf_counter()
    while time.perf_counter() - started < seconds:
        env.step(action)
    steps_per_second = (env.steps - before) / (time.perf_counter() - started)
    env.close()
    return steps_per_second
