"""What an objective is: named terms that sum to a loss."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from torch import Tensor, nn

    from suite.feedback.feedback import Feedback, Shares


class Terms(Protocol):
    """A named tuple of terms that sum to the loss, and diagnostics."""

    @property
    def loss(self) -> "Tensor":
        """[] what is minimised."""
        ...

    def _asdict(self) -> "dict[str, Tensor]": ...


class Objective(Protocol):
    """An objective with its settings bound, which the training module calls."""

    def __call__(self, feedback: "Feedback", shares: "Shares") -> Terms:
        """Return the loss terms of one batch."""
        ...

    def warning(self, shares: "Shares") -> str | None:
        """Return why this loss may be unbounded on labels with these shares, or None."""
        ...


@runtime_checkable
class HasParameters(Protocol):
    """An objective, at the same time an nn.Module, with parameters of its own."""

    @property
    def dual_lr(self) -> float:
        """The learning rate of the parameters."""
        ...

    def parameters(self) -> "Iterator[nn.Parameter]":
        """Return the parameters."""
        ...


@runtime_checkable
class HasStrength(Protocol):
    """An objective of PMPO's kind, with α and β."""

    def alpha_under(self, shares: "Shares") -> float:
        """Return the weight of accepted against rejected samples, in [0, 1]."""
        ...

    def beta(self, shares: "Shares") -> float:
        """Return the weight of the KL for labels with these shares."""
        ...


def build_objective(settings: Any, feedback: str, dimensions: int | None) -> Objective:
    """Bind an objective's settings; `feedback` is positive, negative or mixed.

    `dimensions` is D of a Gaussian policy's samples, None for other policies.
    """
    objective: Objective = settings.bind(feedback, dimensions)
    return objective
