"""Who labels: which labels the learner sees, how many of them, and how many are wrong.

A teacher that makes mistakes and leaves questions unanswered, as in B-Pref (arXiv 2111.03026).
"""

from dataclasses import dataclass, field

import torch
from torch import Generator, Tensor

from suite.config.schema import LabelNoiseConfig
from suite.feedback.feedback import Labels, Shares
from suite.system import distributed


@dataclass(frozen=True)
class LabelNoise:
    """Turns true labels into those that the learner sees.

    First labels are swapped (`flip`), then left out (`ratio`, `keep`), then hidden by kind
    (`mode`). What is left out still anchors. A label that is left weighs as much as those that its
    kind lost: expectations, shares and hence the bound on β stay what they are with all labels.
    """

    mode: str
    plan: LabelNoiseConfig = field(default_factory=LabelNoiseConfig)

    def shares(self, true: Shares) -> Shares:
        """Return the shares of both labels after swaps, from those of the true labels."""
        flip = self.plan.flip
        accept = (1 - flip) * true.accept + flip * true.reject
        return Shares(accept, true.accept + true.reject - accept)

    def apply(self, labels: Labels, shares: Shares, generator: Generator | None = None) -> Labels:
        """Return the labels that the learner sees, [B, K] each.

        `shares` are those after swaps. Random numbers come from torch's own stream, the same for
        one process and for several that share the batch, unless a generator is given.
        """
        plan = self.plan
        if plan.flip:
            swapped = uniform(labels.accept, generator) < plan.flip
            labels = Labels(
                labels.reject.where(swapped, labels.accept),
                labels.accept.where(swapped, labels.reject),
            )
        accept, reject = self.kept(shares)
        if min(accept, reject) < 1:
            draw = uniform(labels.accept, generator)
            labels = Labels(
                drop_labels(labels.accept, draw, accept), drop_labels(labels.reject, draw, reject)
            )
        return labels.visible(self.mode)

    def kept(self, shares: Shares) -> tuple[float, float]:
        """Return which part of the accepted and of the rejected labels is kept."""
        keep, ratio = self.plan.keep, self.plan.ratio
        if ratio is None or not shares.accept or not shares.reject:
            return keep, keep
        excess = shares.accept / shares.reject / ratio
        return keep * min(1.0, 1 / excess), keep * min(1.0, excess)


def drop_labels(weight: Tensor, draw: Tensor, kept: float) -> Tensor:
    """Return the weights of a share of the samples, as much heavier as there are fewer."""
    return weight * (draw < kept) / kept if kept else torch.zeros_like(weight)


def uniform(like: Tensor, generator: Generator | None) -> Tensor:
    """Return random numbers in [0, 1), shaped like a rank's part of a batch."""
    if generator is not None:
        return torch.rand(like.shape, generator=generator)
    drawn = torch.rand(distributed.world_size() * like.shape[0], *like.shape[1:])
    return distributed.local_slice(drawn).to(like.device)
