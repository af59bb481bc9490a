"""The control domain: actor-critic policy improvement from replay (claims P2 and P3).

Shapes: N environments, B states, K actions per state, O observation, D action entries.
"""

import copy
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from suite.config.contracts import DomainParts
from suite.domains.control.environments import Environments, Outcome
from suite.domains.control.evaluation import check_support, measure, roll_out
from suite.domains.control.networks import ActorCritic
from suite.domains.control.nstep import NStepWindow, Transition
from suite.domains.control.online_config import ControlConfig
from suite.domains.control.replay import Replay
from suite.domains.control.video import film
from suite.feedback.feedback import Feedback, Labels, Shares
from suite.feedback.labelling import label_by_rank, label_by_sign
from suite.feedback.running_shares import RunningShares
from suite.policies.gaussian import Gaussian, compare, reverse_kl
from suite.system import distributed

SHARE_WINDOW = 65_536  # actions over which the shares of the labels are averaged


class ControlBatch(NamedTuple):
    """Transitions for the critic, and labelled actions of the reference at their last states."""

    observation: Tensor  # [B, O]
    action: Tensor  # [B, D]
    target: Tensor  # [B], n-step return with bootstrap
    next_observation: Tensor  # [B, O], the states at which the policy is improved
    reference: Gaussian  # [B, D] each, at these states
    samples: Tensor  # [B, K, D], of the reference; not clipped
    score: Tensor  # [B, K], the target critic's Q, less for actions out of bounds
    labels: Labels  # [B, K] each, as the learner sees them


class Control:
    """Act, store transitions, and improve the policy on actions scored by the target critic.

    As in MPO the same K actions, drawn from the reference at a transition's last state, serve the
    policy and, by their mean Q, the critic's target. The reference is a copy of actor and critic:
    reference policy and target critic are updated together.
    """

    training_stream, evaluation_stream = (0,), (1,)  # the first part of the seeds of their episodes

    def __init__(self, settings: ControlConfig, parts: DomainParts) -> None:
        self.settings = settings
        self.label_noise = parts.label_noise
        self.divergence, self.reverse_kl = parts.divergence, parts.reverse_kl
        self.generator = torch.Generator().manual_seed(parts.seed)
        stream = (*self.training_stream, parts.seed)
        self.environments = Environments(settings, stream, settings.num_envs)
        sizes = (self.environments.observation_size, self.environments.action_size)
        self.dimensions = self.environments.action_size
        self.policy = ActorCritic(settings, *sizes)
        self.reference = copy.deepcopy(self.policy).requires_grad_(False)
        self.initial_policy = copy.deepcopy(self.policy).requires_grad_(False)
        self.replay = Replay(settings.replay_size, *sizes, parts.seed)
        self.windows = [
            NStepWindow(settings.n_step, settings.discount) for _ in range(settings.num_envs)
        ]
        self.evaluation: Environments | None = None
        self.update_budget = 0.0  # batches that are due after the environment steps so far
        self.returns = [0.0] * settings.num_envs
        self.last_return = float("nan")
        half = settings.labels == "sign"
        start = Shares(
            0.5 if half else settings.top / settings.samples,
            0.5 if half else settings.bottom / settings.samples,
        )
        self.true_shares = RunningShares(start, SHARE_WINDOW)

    def train_dataloader(self) -> Iterator[ControlBatch]:
        """Act in the ratio of updates to steps, and yield labelled batches from the replay."""
        while True:
            while self.environments.steps < self.settings.warmup or self.update_budget < 1:
                before = self.environments.steps
                self.act()
                taken = self.environments.steps - before
                self.update_budget += taken * self.settings.updates_per_env_step
            self.update_budget -= 1
            yield self.draw()

    @torch.no_grad()
    def act(self) -> None:
        """Take several actions in every environment and store the complete transitions."""
        policy, transitions = self.acting_policy(), []
        for _ in range(max(1, self.settings.acting_steps // self.settings.action_repeat)):
            observation = self.environments.observation
            action = self.explore(policy, observation)
            outcome = self.step_environments(action)
            if self.policy.normalizer is not None:
                self.policy.normalizer.update(outcome.next_observation.to(self.device))
            rewards, terminated, truncated = (part.tolist() for part in outcome[1:])
            for i, window in enumerate(self.windows):
                transitions += window.push(
                    *(observation[i], action[i], rewards[i], outcome.next_observation[i]),
                    *(terminated[i], truncated[i]),
                )
                self.returns[i] += rewards[i]
                if terminated[i] or truncated[i]:
                    self.last_return, self.returns[i] = self.returns[i], 0.0
        if transitions:
            self.replay.extend(transitions)

    def step_environments(self, action: Tensor) -> Outcome:
        """Act once in every environment, [N, D]."""
        return self.environments.step(action)

    def explore(self, policy: ActorCritic, observation: Tensor) -> Tensor:
        """Return actions of the policy, uniform ones during the warm-up, [N, D] from [N, O]."""
        shape = (len(observation), self.dimensions)
        if self.environments.steps < self.settings.warmup:
            return 2 * torch.rand(shape, generator=self.generator) - 1
        mean, std = policy.actor(policy.normalized(observation))
        action: Tensor = mean + std * torch.randn(shape, generator=self.generator)
        return action.clamp(-1, 1)

    def acting_policy(self) -> ActorCritic:
        """Return the policy on the CPU, where single observations are served fastest."""
        return self.policy if self.device.type == "cpu" else copy.deepcopy(self.policy).cpu()

    @property
    def device(self) -> torch.device:
        """The device of the networks."""
        return next(self.policy.parameters()).device

    @torch.no_grad()
    def draw(self) -> ControlBatch:
        """Sample transitions, draw K actions of the reference at their last states, label them."""
        size, samples, device = self.settings.batch_size, self.settings.samples, self.device
        transition = Transition(
            *(distributed.local_slice(x).to(device) for x in self.replay.sample(size))
        )
        observation = self.policy.normalized(transition.observation)
        next_observation = self.policy.normalized(transition.next_observation)
        reference = self.reference.actor(next_observation)
        noise = torch.randn(size, samples, self.dimensions, generator=self.generator)
        noise = distributed.local_slice(noise).to(device)
        actions = reference.mean[:, None] + reference.std[:, None] * noise
        q = self.reference.value(next_observation, actions)
        score = q - self.settings.bound_penalty * bound_violation(actions)
        labels = self.label(score)
        self.true_shares.update(labels)
        return ControlBatch(
            observation=observation,
            action=transition.action,
            target=transition.reward + transition.discount * q.mean(1),
            next_observation=next_observation,
            reference=reference,
            samples=actions,
            score=score,
            labels=self.label_noise.apply(labels, self.shares),
        )

    def label(self, score: Tensor) -> Labels:
        """Label actions by rank, or by their score against its mean over a state, [B, K] each."""
        if self.settings.labels == "rank":
            return label_by_rank(score, self.settings.top, self.settings.bottom)
        return label_by_sign(score - score.mean(1, keepdim=True))

    @property
    def shares(self) -> Shares:
        """The shares of the labels after swaps."""
        return self.label_noise.shares(self.true_shares.value)

    def feedback(self, batch: ControlBatch) -> Feedback:
        """Compare the policy with the reference on the labelled actions."""
        policy = self.policy.actor(batch.next_observation)
        compared = compare(policy, batch.reference, batch.samples, self.divergence)
        return Feedback(
            logp=compared.logp,
            kl=compared.kl.total(),
            accept=batch.labels.accept,
            reject=batch.labels.reject,
            reference_logp=compared.reference_logp,
            score=batch.score,
            kl_parts=compared.kl,
            reverse_kl=reverse_kl(policy, batch.reference) if self.reverse_kl else None,
        )

    def auxiliary_losses(self, batch: ControlBatch) -> dict[str, Tensor]:
        """Return the critic's loss."""
        return {"critic": self.policy.critic_loss(batch.observation, batch.action, batch.target)}

    def diagnostics(self) -> dict[str, float]:
        """Return environment steps so far, and the return of the last training episode."""
        metrics = {"env_steps": float(self.environments.steps)}
        if not math.isnan(self.last_return):  # an episode is over
            metrics["episode_return"] = self.last_return
        return metrics

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """Return the mean return of the mean action over fixed episodes, and what explains it.

        The metrics are those of `measure`. Raises ConfigError, before the first step, where the
        critic's categorical head cannot express the returns.
        """
        if self.evaluation is None:
            self.evaluation = Environments(self.settings, self.evaluation_stream, 1)
        policy, count = self.acting_policy(), self.settings.eval_episodes
        rollouts = roll_out(self.evaluation, policy, count)
        begun = self.environments.steps > 0
        check_support(self.settings, rollouts.discounted_returns(self.settings.discount), begun)
        return {
            **measure(policy, self.initial_policy, rollouts, self.settings.discount),
            "env_steps": float(self.environments.steps),
        }

    def film(self, path: Path) -> float:
        """Write the first evaluation episode as an MP4, and return its return."""
        return film(self, path)

    def save(self, folder: Path) -> None:
        """Write the weights of the networks, whose settings are in the run's config.yaml."""
        torch.save(self.policy.state_dict(), folder / "actor_critic.pt")

    def state_dict(self) -> dict[str, Any]:
        """Return the state of acting and replay."""
        return {
            "generator": self.generator.get_state(),
            "environments": self.environments.state_dict(),
            "windows": [window.state_dict() for window in self.windows],
            "replay": self.replay.state_dict(),
            "shares": list(self.true_shares.value),
            "owed": self.update_budget,
            "returns": list(self.returns),
            "last_return": self.last_return,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a state."""
        self.generator.set_state(state["generator"])
        self.environments.load_state_dict(state["environments"])
        for window, saved in zip(self.windows, state["windows"], strict=True):
            window.load_state_dict(saved)
        self.replay.load_state_dict(state["replay"])
        self.true_shares.value = Shares(*state["shares"])
        self.update_budget = state["owed"]
        self.returns = list(state["returns"])
        self.last_return = state["last_return"]


def bound_violation(action: Tensor) -> Tensor:
    """Return the squared distance to the nearest action within ±1, [...] from [..., D]."""
    return (action - action.clamp(-1, 1)).square().sum(-1)
