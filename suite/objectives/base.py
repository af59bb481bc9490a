"""What an objective is: named terms that sum to a loss."""

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from torch import Tensor

    from suite.feedback.feedback import Feedback, Shares


class Terms(Protocol):
    """A named tuple of terms that sum to the loss, and diagnostics."""

    @property
    def loss(self) -> "Tensor":
        """[] what is minimised."""
        ...

    def _asdict(self) -> "dict[str, Tensor]": ...


class Objective(Protocol):
    """An objective with its settings bound; what the training module calls.

    An objective that is an nn.Module has its own parameters, trained at its `dual_lr`.
    """

    def __call__(self, feedback: "Feedback", shares: "Shares") -> Terms:
        """Return the loss terms of one batch."""
        ...

    def warning(self, shares: "Shares") -> str | None:
        """Return why this loss may be unbounded on labels with these shares, or None."""
        ...


def build_objective(settings: Any, feedback: str, dimensions: int | None) -> Objective:
    """Bind an objective's settings; `feedback` is positive, negative or mixed.

    `dimensions` is D of a Gaussian policy's samples, None for other policies.
    """
    objective: Objective = settings.bind(feedback, dimensions)
    return objective
