"""BCO with its shift: trained with the policy, or the running mean of the rewards.

Shapes: B contexts, K samples per context. Source: arXiv 2404.04656.
"""

import torch
from torch import nn
from typing_extensions import override

from suite.feedback.feedback import Feedback, Shares
from suite.objectives.inputs import log_ratio
from suite.objectives.singles import SingleTerms, bco
from suite.objectives.singles_config import BCOConfig
from suite.system import distributed


class BoundBCO(nn.Module):
    """BCO with its settings.

    A trained shift splits over batches and ranks; the running mean, which the paper takes, is one
    over all labelled samples so far, and so depends on how they are split.
    """

    def __init__(self, settings: BCOConfig) -> None:
        super().__init__()
        self.settings = settings
        self.dual_lr = settings.dual_lr
        self.learned = settings.shift == "learned"
        self.shift = nn.Parameter(torch.zeros(()), requires_grad=self.learned)
        self.count = nn.Buffer(torch.zeros((), dtype=torch.float64))

    @override
    def forward(self, feedback: Feedback, shares: Shares) -> SingleTerms:
        """Return the loss terms of one batch."""
        if not self.learned:
            self.follow(feedback)
        shift = self.shift.to(feedback.logp.dtype)
        return bco(feedback, beta=self.settings.beta, shift=shift)

    @torch.no_grad()
    def follow(self, feedback: Feedback) -> None:
        """Add a batch of all ranks to the running mean of βr over labelled samples."""
        weight = feedback.weighted(feedback.accept + feedback.reject)
        reward = self.settings.beta * log_ratio(feedback).detach()
        sums = (weight.sum().item(), (weight * reward).sum().item())
        count, total = (distributed.world_size() * distributed.mean_over_ranks(x) for x in sums)
        self.count.add_(count)
        if count > 0:
            self.shift.add_((total - count * self.shift) / self.count)

    def warning(self, shares: Shares) -> str | None:
        """BCO is bounded for any labels."""
        return None


def bind(settings: BCOConfig, feedback: str, dimensions: int | None) -> BoundBCO:
    """Bind the settings; raises ConfigError where only one kind of label is left."""
    settings.check_feedback(feedback)
    return BoundBCO(settings)
