"""Label noise: which labels the learner sees, how many of them, and how many are wrong.

A teacher that errs and that leaves samples unlabelled, as in B-Pref (arXiv 2111.03026).
"""

from dataclasses import dataclass, field

import torch
from torch import Generator, Tensor

from suite.config.schema import LabelNoiseConfig
from suite.feedback.feedback import Labels, Shares
from suite.system import distributed


@dataclass(frozen=True)
class LabelNoise:
    """Turns true labels into the labels that the learner sees.

    First labels are swapped (`flip`), then dropped (`ratio`, `keep`), then hidden by kind (`mode`).
    A sample without a label still counts in the KL. The remaining labels of a kind get the weight
    of the dropped ones: expectations, shares and the bound on β are those of all labels.
    """

    mode: str
    settings: LabelNoiseConfig = field(default_factory=LabelNoiseConfig)

    def shares(self, true: Shares) -> Shares:
        """Return the shares of both labels after swaps, from those of the true labels."""
        flip = self.settings.flip
        accept = (1 - flip) * true.accept + flip * true.reject
        return Shares(accept, true.accept + true.reject - accept)

    def apply(self, labels: Labels, shares: Shares, generator: Generator | None = None) -> Labels:
        """Return the labels that the learner sees, [B, K] each.

        `shares` are the shares after swaps. Random numbers come from the generator, or else from
        torch's global one; several processes that share a batch draw the numbers of a single one.
        """
        flip = self.settings.flip
        if flip:
            swapped = uniform(labels.accept, generator) < flip
            labels = Labels(
                labels.reject.where(swapped, labels.accept),
                labels.accept.where(swapped, labels.reject),
            )
        accept, reject = self.keep_rates(shares)
        if min(accept, reject) < 1:
            draw = uniform(labels.accept, generator)
            labels = Labels(
                drop_labels(labels.accept, draw, accept), drop_labels(labels.reject, draw, reject)
            )
        return labels.visible(self.mode)

    def keep_rates(self, shares: Shares) -> tuple[float, float]:
        """Return the part of the accepted and of the rejected labels that is kept."""
        keep, ratio = self.settings.keep, self.settings.ratio
        if ratio is None or not shares.accept or not shares.reject:
            return keep, keep
        excess = shares.accept / shares.reject / ratio
        return keep * min(1.0, 1 / excess), keep * min(1.0, excess)


def drop_labels(weight: Tensor, draw: Tensor, keep: float) -> Tensor:
    """Return label weights, 0 where `draw` is at least `keep`, the others divided by `keep`."""
    return weight * (draw < keep) / keep if keep else torch.zeros_like(weight)


def uniform(like: Tensor, generator: Generator | None) -> Tensor:
    """Return random numbers in [0, 1) of the shape of a rank's part of a batch."""
    if generator is not None:
        return torch.rand(like.shape, generator=generator)
    drawn = torch.rand(distributed.world_size() * like.shape[0], *like.shape[1:])
    return distributed.local_slice(drawn).to(like.device)
