"""The bandit domain with a Gaussian: minimise a function from ranked samples (claims P1 and P3).

Shapes: B groups, K samples per group, D variables.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from suite.config.contracts import DomainParts
from suite.domains.bandit.online_config import BanditConfig
from suite.domains.bandit.policy import GaussianPolicy, GaussianSearch
from suite.feedback.feedback import Feedback, Labels, Shares
from suite.feedback.labelling import label_by_rank
from suite.policies.divergences import GaussianKL
from suite.policies.gaussian import compare, reverse_kl
from suite.system import distributed


class BanditBatch(NamedTuple):
    """Groups of samples of the reference, and their scores."""

    samples: Tensor  # [B, K, D], in units of half the function's box
    score: Tensor  # [B, K], −f
    labels: Labels  # [B, K] each, as the learner sees them


class Bandit(GaussianSearch):
    """A Gaussian policy over the function's box, scaled to [−1, 1] in every dimension.

    The initial mean is random with |x| ≤ 0.8. Outside the box the function continues with its value
    on the edge.
    """

    def __init__(self, settings: BanditConfig, parts: DomainParts) -> None:
        super().__init__(settings.function)
        self.settings = settings
        self.label_noise = parts.label_noise
        self.divergence, self.reverse_kl = parts.divergence, parts.reverse_kl
        self.dimensions = settings.dimensions
        self.generator = torch.Generator().manual_seed(parts.seed)
        start = 1.6 * torch.rand(settings.dimensions, generator=self.generator) - 0.8
        self.start_from(GaussianPolicy(start, settings.initial_std))
        true = Shares(settings.top / settings.samples, settings.bottom / settings.samples)
        self.shares = parts.label_noise.shares(true)

    def train_dataloader(self) -> Iterator[BanditBatch]:
        """Yield groups of samples of the reference; the best are accepted, the worst rejected."""
        settings = self.settings
        shape = (settings.contexts, settings.samples)
        while True:
            samples = distributed.local_slice(self.reference.sample(shape, self.generator))
            score = self.score(samples)
            labels = label_by_rank(score, settings.top, settings.bottom)
            yield BanditBatch(samples, score, self.label_noise.apply(labels, self.shares))

    def feedback(self, batch: BanditBatch) -> Feedback:
        """Compare the policy with the reference on the labelled samples."""
        policy, reference, contexts = self.policy(), self.reference(), len(batch.score)
        compared = compare(policy, reference, batch.samples, self.divergence)
        reverse = reverse_kl(policy, reference).expand(contexts) if self.reverse_kl else None
        return Feedback(
            logp=compared.logp,
            kl=compared.kl.total().expand(contexts),
            accept=batch.labels.accept,
            reject=batch.labels.reject,
            reference_logp=compared.reference_logp,
            score=batch.score,
            kl_parts=GaussianKL(*(part.expand(contexts, -1) for part in compared.kl)),
            reverse_kl=reverse,
        )
