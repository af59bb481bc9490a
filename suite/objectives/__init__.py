"""The objectives by name; each is a file of pure functions and a settings class."""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol

from suite.objectives.config import DPOConfig, PMPOConfig

if TYPE_CHECKING:
    from torch import Tensor

    from suite.feedback import Feedback, Shares

OBJECTIVES: dict[str, tuple[type, str]] = {
    "pmpo": (PMPOConfig, "suite.objectives.pmpo"),
    "dpo": (DPOConfig, "suite.objectives.dpo"),
}


class Terms(Protocol):
    """A named tuple of terms that sum to the loss, and diagnostics."""

    @property
    def loss(self) -> "Tensor":
        """[] what is minimised."""
        ...

    def _asdict(self) -> "dict[str, Tensor]": ...


class Objective(Protocol):
    """An objective with its settings bound; what the training module calls."""

    def __call__(self, feedback: "Feedback", shares: "Shares") -> Terms:
        """Return the loss terms of one batch."""
        ...

    def warning(self, shares: "Shares") -> str | None:
        """Say what makes this loss unbounded on labels with these shares, if anything does."""
        ...


def build_objective(settings: Any, feedback: str) -> Objective:
    """Bind an objective's settings; `feedback` is positive, negative or mixed."""
    _, module = OBJECTIVES[settings.name]
    objective: Objective = import_module(module).bind(settings, feedback)
    return objective
