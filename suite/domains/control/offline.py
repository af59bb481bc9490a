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
from suite.domains.control.episodes import Recorded, describe, read, transitions
from suite.domains.control.evaluation import check_support, measure, play
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
    """Recorded transitions, labelled by the advantage of the action that was taken."""

    observation: Tensor  # [B, O]
    action: Tensor  # [B, D]
    asked: Tensor  # [B, D], the action for which the critic learns the target
    target: Tensor  # [B]
    advantage: Tensor  # [B, 1]
    labels: Labels  # [B, 1] each, as the learner sees them


class Offline:
    """Accept recorded actions that are better than the policy's own, reject others, clone all.

    The anchor is behaviour cloning of all the data: KL(π_ref ‖ π) of whoever acted there, up to a
    constant (arXiv 2410.04166, §5.3). The reference is the target of actor and critic.
    """

    dimensions = None
    evaluation_stream = (1,)  # what the seeds of its episodes begin with, as in control

    def __init__(self, settings: OfflineConfig, parts: DomainParts) -> None:
        self.settings = settings
        self.label_noise = parts.label_noise
        self.generator = torch.Generator().manual_seed(parts.seed)
        path = settings.path
        folder = (
            recording_folder(settings, parts.cache / "recordings") if path is None else Path(path)
        )
        episodes = read(folder)
        logger.info("%s: %s", folder, describe(episodes))
        self.data = transitions(episodes, settings.n_step, settings.discount)
        sizes = (self.data.observation.shape[1], self.data.action.shape[1])
        self.policy = ActorCritic(settings, *sizes)
        if self.policy.normalizer is not None:
            self.policy.normalizer.update(self.data.observation)
        self.reference = copy.deepcopy(self.policy).requires_grad_(False)
        self.start = copy.deepcopy(self.policy).requires_grad_(False)
        self.true_shares = RunningShares(Shares(0.5, 0.5), SHARE_WINDOW)
        self.evaluation: Environments | None = None
        self.drawn = 0

    def train_dataloader(self) -> Iterator[OfflineBatch]:
        """Yield labelled transitions, drawn from the data with replacement."""
        while True:
            self.drawn += 1
            yield self.draw()

    @property
    def device(self) -> torch.device:
        """Where the networks are."""
        return next(self.policy.parameters()).device

    @torch.no_grad()
    def draw(self) -> OfflineBatch:
        """Draw transitions, and judge their actions with the target critic."""
        size = self.settings.batch_size
        drawn = torch.randint(len(self.data.reward), (size,), generator=self.generator)
        found = Recorded(
            *(column[distributed.local_slice(drawn)].to(self.device) for column in self.data)
        )
        observation = self.policy.normalized(found.observation)
        judge = self.by_critic if self.settings.advantage == "critic" else self.by_returns
        asked, target, advantage = judge(found, observation)
        labels = label_by_sign(advantage)
        self.true_shares.update(labels)
        said = self.label_noise.apply(labels, self.shares)
        return OfflineBatch(observation, found.action, asked, target, advantage, said)

    def by_critic(self, found: Recorded, observation: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return Q's action and target, and Q(s, a) − mean_k Q(s, a_k), a_k of the policy."""
        following = self.policy.normalized(found.next_observation)
        next_q = self.reference.value(following, self.own_actions(following)).mean(1)
        actions = torch.cat([found.action[:, None], self.own_actions(observation)], 1)
        q = self.reference.value(observation, actions)
        advantage = q[:, :1] - q[:, 1:].mean(1, keepdim=True)
        return found.action, found.reward + found.discount * next_q, advantage

    def by_returns(self, found: Recorded, observation: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the same with V in place of Q, which is the critic at one action, and returns."""
        nothing = torch.zeros_like(found.action)
        value = self.reference.value(observation, nothing[:, None])
        return nothing, found.return_to_go, found.return_to_go[:, None] - value

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
        """Return the density of the recorded actions, whose loss on all of them anchors."""
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
        return {"critic": self.policy.critic_loss(batch.observation, batch.asked, batch.target)}

    def diagnostics(self) -> dict[str, float]:
        """Return how often the data have been gone through."""
        return {"epoch": self.drawn * self.settings.batch_size / len(self.data.reward)}

    def acting_policy(self) -> ActorCritic:
        """Return the policy on the CPU, where single observations are served fastest."""
        return self.policy if self.device.type == "cpu" else copy.deepcopy(self.policy).cpu()

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """Return the mean return over fixed episodes and what it rests on: nobody learns from them.

        Raises ConfigError where the data are of another environment than `domain.task`.
        """
        if self.evaluation is None:
            self.evaluation = Environments(self.settings, self.evaluation_stream, 1)
        env = self.evaluation
        sizes = (self.data.observation.shape[1], self.data.action.shape[1])
        if sizes != (env.observation_size, env.action_size):
            raise ConfigError(
                f"domain.task={self.settings.task} has observations of {env.observation_size} and"
                f" actions of {env.action_size} numbers, the recorded ones have {sizes[0]} and"
                f" {sizes[1]}"
            )
        policy = self.acting_policy()
        played = play(env, policy, self.settings.eval_episodes)
        to_go = self.data.return_to_go
        extremes = [to_go.min().item(), to_go.max().item()]
        check_support(self.settings, extremes, begun=self.drawn > 0)
        return measure(policy, self.start, played, self.settings.discount)

    def film(self, path: Path) -> float:
        """Write the first evaluation episode as an MP4, and return its return."""
        return film(self, path)

    def save(self, folder: Path) -> None:
        """Write the networks' weights; the run's config.yaml says what they are weights of."""
        torch.save(self.policy.state_dict(), folder / "actor_critic.pt")

    def state_dict(self) -> dict[str, Any]:
        """Return the random stream and what was counted."""
        return {
            "generator": self.generator.get_state(),
            "shares": list(self.true_shares.value),
            "drawn": self.drawn,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from there."""
        self.generator.set_state(state["generator"])
        self.true_shares.value = Shares(*state["shares"])
        self.drawn = state["drawn"]
