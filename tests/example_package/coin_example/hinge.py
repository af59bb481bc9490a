"""The hinge objective, a function of tensors. Shapes: B contexts, K samples each."""

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor


class HingeTerms(NamedTuple):
    """The terms of the loss, which sum to it."""

    hinge: Tensor
    """[] how far labelled samples are from the margin, a mean over samples."""
    anchor: Tensor
    """[] β times the mean KL."""

    @property
    def loss(self) -> Tensor:
        """[] what is minimised."""
        return self.hinge + self.anchor


@dataclass(frozen=True)
class BoundHinge:
    """The objective with its settings."""

    margin: float
    beta: float

    def __call__(self, feedback, shares):
        ratio = feedback.logp - feedback.reference_logp
        missing = (self.margin - (feedback.accept - feedback.reject) * ratio).clamp(min=0)
        labelled = feedback.accept + feedback.reject
        hinge = feedback.weighted(labelled * missing).mean()
        return HingeTerms(hinge, self.beta * feedback.weighted(feedback.kl).mean())

    def warning(self, shares):
        return None


def bind(settings, feedback, dimensions):
    """Bind the settings; any kind of feedback and any policy will do."""
    return BoundHinge(settings.margin, settings.beta)
