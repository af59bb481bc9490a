"""The offline domain: actor and critic learn from recorded episodes (claim P4).

Shapes: B transitions, K actions per state, O observation, D action entries.
"""

import copy
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from suite.config.contracts import DomainParts
from suite.config.fields import ConfigError
from suite.domains.control.environments import Environments
from suite.domains.control.episodes import Transitions, describe, read, transitions
from suite.domains.control.evaluation import check_support, measure, roll_out
from suite.domains.control.networks import ActorCritic
from suite.domains.control.offline_config import OfflineConfig
from suite.domains.control.recording import recording_folder
from suite.domains.control.video import film
from suite.feedback.feedback import Feedback, Labels, Shares
from suite.feedback.labelling import label_by_sign
from suite.feedback.running_shares import RunningShares
from suite.system import distributed

logger = logging.getLogger(__name__)

SHARE_WINDOW = 65_536  # labels over which their shares are averaged


class OfflineBatch(NamedTuple):
    """Recorded transitions, labelled by the advantage of the recorded action."""

    observation: Tensor  # [B, O]
    action: Tensor  # [B, D]
    critic_action: Tensor  # [B, D], the action of which the critic learns the target
    target: Tensor  # [B]
    advantage: Tensor  # [B, 1]
    labels: Labels  # [B, 1] each, as the learner sees them


class Offline:
    """Accept recorded actions that are better than the policy's own, reject others, clone all.

    The anchor is behaviour cloning of all data: KL(π_ref ‖ π) with the recorded behaviour as π_ref,
    up to a constant (arXiv 2410.04166, §5.3). The reference holds the target actor and critic.
    """

    dimensions = None
    evaluation_stream = (1,)  # the first part of the seeds of its episodes, as in control

    def __init__(self, settings: OfflineConfig, parts: DomainParts) -> None:
        self.settings = settings
        self.label_noise = parts.label_noise
        self.generator = torch.Generator().manual_seed(parts.seed)
        path = settings.path
        folder = (
            recording_folder(settings, parts.cache / "recordings") if path is None else Path(path)
        )
        self.evaluation: Environments | None = None
        bounds = None if path is None else self.evaluation_environments().bounds()
        episodes = read(folder, bounds)
        logger.info("%s: %s", folder, describe(episodes))
        self.data = transitions(episodes, settings.n_step, settings.discount)
        sizes = (self.data.observation.shape[1], self.data.action.shape[1])
        self.policy = ActorCritic(settings, *sizes)
        if self.policy.normalizer is not None:
            self.policy.normalizer.update(self.data.observation)
        self.reference = copy.deepcopy(self.policy).requires_grad_(False)
        self.initial_policy = copy.deepcopy(self.policy).requires_grad_(False)
        self.true_shares = RunningShares(Shares(0.5, 0.5), SHARE_WINDOW)
        self.batches_drawn = 0

    def train_dataloader(self) -> Iterator[OfflineBatch]:
        """Yield labelled transitions, drawn from the data with replacement."""
        while True:
            self.batches_drawn += 1
            yield self.draw()

    @property
    def device(self) -> torch.device:
        """The device of the networks."""
        return next(self.policy.parameters()).device

    @torch.no_grad()
    def draw(self) -> OfflineBatch:
        """Draw transitions, and label their actions by the target critic or by the returns."""
        size = self.settings.batch_size
        drawn = torch.randint(len(self.data.reward), (size,), generator=self.generator)
        data = Transitions(
            *(column[distributed.local_slice(drawn)].to(self.device) for column in self.data)
        )
        observation = self.policy.normalized(data.observation)
        judge = (
            self.judge_by_critic if self.settings.advantage == "critic" else self.judge_by_returns
        )
        critic_action, target, advantage = judge(data, observation)
        labels = label_by_sign(advantage)
        self.true_shares.update(labels)
        visible = self.label_noise.apply(labels, self.shares)
        return OfflineBatch(observation, data.action, critic_action, target, advantage, visible)

    def judge_by_critic(
        self, data: Transitions, observation: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the critic's action and target, and the advantage Q(s, a) − mean_k Q(s, a_k).

        The actions a_k are drawn from the target policy.
        """
        next_observation = self.policy.normalized(data.next_observation)
        own = self.own_actions(next_observation)
        next_q = self.reference.value(next_observation, own).mean(1)
        actions = torch.cat([data.action[:, None], self.own_actions(observation)], 1)
        q = self.reference.value(observation, actions)
        advantage = q[:, :1] - q[:, 1:].mean(1, keepdim=True)
        return data.action, data.reward + data.discount * next_q, advantage

    def judge_by_returns(
        self, data: Transitions, observation: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the same for returns and a state value, which is the critic at action 0."""
        zero = torch.zeros_like(data.action)
        value = self.reference.value(observation, zero[:, None])
        return zero, data.return_to_go, data.return_to_go[:, None] - value

    def own_actions(self, observation: Tensor) -> Tensor:
        """Draw K actions of the target policy, [B, K, D] from [B, O]."""
        policy, size = self.reference.actor(observation), self.settings.batch_size
        noise = torch.randn(
            size, self.settings.samples, policy.mean.shape[1], generator=self.generator
        )
        noise = distributed.local_slice(noise).to(self.device)
        actions: Tensor = policy.mean[:, None] + policy.std[:, None] * noise
        return actions

    @property
    def shares(self) -> Shares:
        """The shares of the labels after swaps."""
        return self.label_noise.shares(self.true_shares.value)

    def feedback(self, batch: OfflineBatch) -> Feedback:
        """Return log-densities of the recorded actions; the KL is behaviour cloning."""
        actions = batch.action[:, None]
        logp = self.policy.actor(batch.observation).per_context().log_prob(actions)
        with torch.no_grad():
            reference = self.reference.actor(batch.observation).per_context()
            reference_logp = reference.log_prob(actions)
        return Feedback(
            logp=logp,
            kl=(reference_logp - logp)[:, 0],
            accept=batch.labels.accept,
            reject=batch.labels.reject,
            reference_logp=reference_logp,
            score=batch.advantage,
        )

    def auxiliary_losses(self, batch: OfflineBatch) -> dict[str, Tensor]:
        """Return the critic's loss."""
        return {
            "critic": self.policy.critic_loss(batch.observation, batch.critic_action, batch.target)
        }

    def diagnostics(self) -> dict[str, float]:
        """Return the number of passes over the data."""
        return {"epoch": self.batches_drawn * self.settings.batch_size / len(self.data.reward)}

    def acting_policy(self) -> ActorCritic:
        """Return the policy on the CPU, where single observations are served fastest."""
        return self.policy if self.device.type == "cpu" else copy.deepcopy(self.policy).cpu()

    def evaluation_environments(self) -> Environments:
        """Return the environment of the evaluations, built at the first call."""
        if self.evaluation is None:
            self.evaluation = Environments(self.settings, self.evaluation_stream, 1)
        return self.evaluation

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """Return the mean return over fixed episodes, and what explains it; nothing is learned.

        Raises ConfigError where the data are of another environment than `domain.task`.
        """
        env = self.evaluation_environments()
        sizes = (self.data.observation.shape[1], self.data.action.shape[1])
        if sizes != (env.observation_size, env.action_size):
            raise ConfigError(
                f"domain.task={self.settings.task} has observations of {env.observation_size} and"
                f" actions of {env.action_size} numbers, the recorded ones have {sizes[0]} and"
                f" {sizes[1]}"
            )
        policy = self.acting_policy()
        rollouts = roll_out(env, policy, self.settings.eval_episodes)
        to_go = self.data.return_to_go
        extremes = [to_go.min().item(), to_go.max().item()]
        check_support(self.settings, extremes, begun=self.batches_drawn > 0)
        return measure(policy, self.initial_policy, rollouts, self.settings.discount)

    def film(self, path: Path) -> float:
        """Write the first evaluation episode as an MP4, and return its return."""
        return film(self, path)

    def save(self, folder: Path) -> None:
        """Write the weights of the networks, whose settings are in the run's config.yaml."""
        torch.save(self.policy.state_dict(), folder / "actor_critic.pt")

    def state_dict(self) -> dict[str, Any]:
        """Return the random stream and the counters."""
        return {
            "generator": self.generator.get_state(),
            "shares": list(self.true_shares.value),
            "drawn": self.batches_drawn,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a state."""
        self.generator.set_state(state["generator"])
        self.true_shares.value = Shares(*state["shares"])
        self.batches_drawn = state["drawn"]
