"""The archive domain: propose a better point from a fixed set of scored points.

With all weights w = α·accepted − (1−α)·rejected + β the optimum is the Gaussian of weighted mean
and deviation of the points (theory §1), which exists while Σ w and that variance are positive.
Shapes: N points in the archive, B of a batch, D variables.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from suite.config.contracts import DomainParts
from suite.domains.bandit.archive_config import ArchiveConfig
from suite.domains.bandit.policy import GaussianPolicy, GaussianSearch
from suite.feedback.feedback import Feedback, Labels
from suite.feedback.labelling import label_by_rank
from suite.policies.gaussian import reverse_kl
from suite.system import distributed


class ArchiveBatch(NamedTuple):
    """Points of the archive, one in each group."""

    points: Tensor  # [B, 1, D], in units of half the function's box
    score: Tensor  # [B, 1], −f minus its mean over the archive
    labels: Labels  # [B, 1] each, as the learner sees them


class Archive(GaussianSearch):
    """A Gaussian policy that starts as the Gaussian of the archive, and moves to accepted points.

    The anchor is behaviour cloning of all points: KL(π_ref ‖ π) with their distribution as π_ref,
    up to a constant (arXiv 2410.04166, §5.3).
    """

    dimensions = None

    def __init__(self, settings: ArchiveConfig, parts: DomainParts) -> None:
        super().__init__(settings.function)
        self.settings, self.reverse_kl = settings, parts.reverse_kl
        self.generator = torch.Generator().manual_seed(parts.seed)
        centre = 1.6 * torch.rand(settings.dimensions, generator=self.generator) - 0.8
        noise = torch.randn(settings.points, settings.dimensions, generator=self.generator)
        self.points = (centre + settings.spread * noise).clamp(-1, 1)
        self.scores = self.score(self.points)
        true = label_by_rank(self.scores[None], *self.counts())
        self.shares = parts.label_noise.shares(true.shares())
        noise_generator = torch.Generator().manual_seed(parts.seed)
        visible = parts.label_noise.apply(true, self.shares, noise_generator)
        self.labels = Labels(visible.accept[0], visible.reject[0])
        policy = GaussianPolicy(self.points.mean(0), 1.0)
        with torch.no_grad():
            policy.log_std.copy_(self.points.std(0).log())
        self.start_from(policy)

    def counts(self) -> tuple[int, int]:
        """Return how many points are accepted and how many rejected."""
        points = self.settings.points
        accepted = round(self.settings.accept * points)
        return accepted, min(round(self.settings.reject * points), points - accepted)

    def train_dataloader(self) -> Iterator[ArchiveBatch]:
        """Yield points drawn from the archive with their labels."""
        mean = self.scores.mean()
        while True:
            drawn = torch.randint(
                len(self.points), (self.settings.batch_size,), generator=self.generator
            )
            index = distributed.local_slice(drawn)[:, None]
            labels = Labels(self.labels.accept[index], self.labels.reject[index])
            yield ArchiveBatch(self.points[index], self.scores[index] - mean, labels)

    def feedback(self, batch: ArchiveBatch) -> Feedback:
        """Return log-densities of the points; the KL is behaviour cloning of all points.

        The reverse KL is to the reference, the Gaussian that the policy started from or follows.
        """
        policy, reference = self.policy(), self.reference()
        logp, reference_logp = policy.log_prob(batch.points), reference.log_prob(batch.points)
        reverse = reverse_kl(policy, reference).expand(len(logp)) if self.reverse_kl else None
        return Feedback(
            logp=logp,
            kl=(reference_logp - logp)[:, 0],
            accept=batch.labels.accept,
            reject=batch.labels.reject,
            reference_logp=reference_logp,
            score=batch.score,
            reverse_kl=reverse,
        )

    def evaluate(self) -> dict[str, float]:
        """Return the score of the policy's mean, and the best score of the archive.

        `above_best` is the difference, and `kl` the divergence from the Gaussian of the archive.
        """
        metrics, best = super().evaluate(), self.scores.max().item()
        return {**metrics, "best_of_archive": best, "above_best": metrics["score"] - best}
