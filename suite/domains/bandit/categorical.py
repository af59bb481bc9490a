"""The bandit domain with arms: a probability of each, learned from samples of the reference.

Every quantity that the objectives estimate is known exactly here: both KLs, the shares of the
labels, and so the optimum of PMPO (theory §1). Problems after arXiv 2404.14367.
Shapes: B groups, K samples per group, N arms.
"""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from suite.config.contracts import DomainParts
from suite.domains.bandit import arms
from suite.domains.bandit.online_config import BanditConfig
from suite.domains.bandit.search import Search
from suite.feedback.feedback import Feedback, Labels, Shares
from suite.feedback.labelling import label_by_rank, label_by_threshold
from suite.policies.divergences import categorical_kl
from suite.system import distributed

EFFECTIVE = 1e-3  # probability above which an arm counts as one that the policy takes


class CategoricalPolicy(nn.Module):
    """A categorical distribution over the arms; its parameters are the logits."""

    def __init__(self, probabilities: Tensor) -> None:
        super().__init__()
        self.logits = nn.Parameter(probabilities.log().float())

    def forward(self) -> Tensor:
        """Return the log-probabilities, [N]."""
        return self.logits.log_softmax(0)

    @torch.no_grad()
    def probabilities(self) -> Tensor:
        """Return the probabilities in double precision, on the CPU, [N]."""
        return self.logits.detach().cpu().double().softmax(0)

    def sample(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """Draw arms, [*shape], on the CPU."""
        drawn = self.probabilities().multinomial(math.prod(shape), True, generator=generator)
        return drawn.view(shape)


class ArmsBatch(NamedTuple):
    """Groups of samples of the reference, and their rewards."""

    samples: Tensor  # [B, K], the number of each sample's arm
    score: Tensor  # [B, K], rewards
    labels: Labels  # [B, K] each, as the learner sees them


class Arms(Search[CategoricalPolicy]):
    """A policy over arms, whose rewards depend on the arm alone."""

    dimensions = None

    def __init__(self, settings: BanditConfig, parts: DomainParts) -> None:
        self.settings = settings
        self.label_noise = parts.label_noise
        self.divergence = parts.divergence
        self.reverse_kl = parts.reverse_kl
        self.generator = torch.Generator().manual_seed(parts.seed)
        self.rewards = torch.tensor(arms.rewards(settings.function, settings.arms))
        self.start_from(CategoricalPolicy(torch.tensor(arms.start(settings.arms)).double()))

    @property
    def shares(self) -> Shares:
        """The exact shares of the labels under the reference as it is now, after swaps."""
        probabilities = self.reference.probabilities()
        threshold = self.settings.threshold
        if threshold is None:
            true = self.shares_by_rank(probabilities)
        else:
            accept = self.accepted(probabilities, threshold)
            true = Shares(accept, 1 - accept)
        return self.label_noise.shares(true)

    def accepted(self, probabilities: Tensor, threshold: float) -> float:
        """Return the probability of the arms whose reward reaches the threshold."""
        accept, reject = label_by_threshold(self.rewards[None], threshold)
        accepted, rejected = ((label[0] * probabilities).sum() for label in (accept, reject))
        return (accepted / (accepted + rejected)).item()  # never above 1 by rounding

    def shares_by_rank(self, probabilities: Tensor) -> Shares:
        """Return the shares of both labels by rank, from [N] probabilities.

        A sample is accepted where fewer than `top` of the K − 1 others are at least as good, and
        rejected where fewer than `bottom` are at least as bad. Their numbers are binomial.
        """
        levels, level = torch.unique(self.rewards, return_inverse=True)
        mass = probabilities.new_zeros(len(levels)).index_add(0, level, probabilities)
        as_bad, as_good = mass.cumsum(0), mass.flip(0).cumsum(0).flip(0)
        settings, others = self.settings, self.settings.samples - 1
        accept = (mass * fewer_than(settings.top, others, as_good)).sum().item()
        reject = (mass * fewer_than(settings.bottom, others, as_bad)).sum().item()
        return Shares(accept, reject)

    def train_dataloader(self) -> Iterator[ArmsBatch]:
        """Yield groups of samples of the reference, labelled by reward or by rank."""
        settings = self.settings
        shape = (settings.contexts, settings.samples)
        while True:
            samples = distributed.local_slice(self.reference.sample(shape, self.generator))
            score = self.rewards[samples]
            if settings.threshold is None:
                labels = label_by_rank(score, settings.top, settings.bottom)
            else:
                labels = label_by_threshold(score, settings.threshold)
            yield ArmsBatch(samples, score, self.label_noise.apply(labels, self.shares))

    def feedback(self, batch: ArmsBatch) -> Feedback:
        """Return log-probabilities of the samples, and the exact KLs."""
        logp, reference_logp = self.policy(), self.reference()
        pair = (reference_logp, logp) if self.divergence == "forward" else (logp, reference_logp)
        contexts = len(batch.score)
        reverse = categorical_kl(logp.detach(), reference_logp) if self.reverse_kl else None
        return Feedback(
            logp=logp[batch.samples],
            kl=categorical_kl(*pair).expand(contexts),
            accept=batch.labels.accept,
            reject=batch.labels.reject,
            reference_logp=reference_logp[batch.samples],
            score=batch.score,
            reverse_kl=None if reverse is None else reverse.expand(contexts),
        )

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """Return the expected reward, and how far and how wide the policy is, all exactly.

        `accepted_mass` is the probability of the arms that are accepted, where a threshold decides;
        `kl` is the divergence from the initial policy; `effective_arms` counts the arms with a
        probability above 0.001.
        """
        probabilities, logp = self.policy.probabilities(), self.policy().cpu().double()
        initial = self.initial_policy().cpu().double()
        measured = {
            "score": (probabilities * self.rewards).sum().item(),
            "kl": categorical_kl(initial, logp).item(),
            "entropy": -(probabilities * logp).sum().item(),
            "effective_arms": float((probabilities > EFFECTIVE).sum()),
        }
        if self.settings.threshold is not None:
            measured["accepted_mass"] = self.accepted(probabilities, self.settings.threshold)
        return measured

    def save(self, folder: Path) -> None:
        """Write the probability and the reward of each arm as JSON."""
        lists = {"probabilities": self.policy.probabilities(), "rewards": self.rewards}
        text = json.dumps({name: values.tolist() for name, values in lists.items()}, indent=1)
        (folder / "policy.json").write_text(text)


def fewer_than(limit: int, trials: int, probability: Tensor) -> Tensor:
    """Return the probability of fewer than `limit` hits in a number of trials, elementwise."""
    hit = probability.clamp(max=1)
    counts = range(min(limit, trials + 1))
    terms = [math.comb(trials, n) * hit**n * (1 - hit) ** (trials - n) for n in counts]
    return torch.stack(terms).sum(0).clamp(max=1)
