"""An objective whose loss is one function of feedback, with its settings."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from suite.config.fields import ConfigError
from suite.feedback.feedback import Feedback, Shares
from suite.objectives.base import Terms
from suite.objectives.calibration import Calibrated, check_mass
from suite.objectives.loss_config import LossConfig


@dataclass(frozen=True)
class BoundLoss:
    """A loss with its settings; its strength may follow from the shares of the labels."""

    settings: LossConfig
    feedback: str
    loss: Callable[..., Terms]

    def __post_init__(self) -> None:
        # A file of labels of one kind alone trains as that kind.
        self.settings.check_feedback(self.feedback)

    def __call__(self, feedback: Feedback, shares: Shares) -> Terms:
        """Return the loss terms of one batch; raises ConfigError for contexts of one sample."""
        check_samples(self.settings, feedback)
        return self.loss(feedback, **self.arguments(shares))

    def arguments(self, shares: Shares) -> dict[str, Any]:
        """Return the keyword arguments of the loss."""
        return self.settings.arguments(shares)

    def warning(self, shares: Shares) -> str | None:
        """Return why the loss has no minimum on labels with these shares, or None.

        Raises ConfigError, before the first step, where `calibrate` is out of their reach.
        """
        if isinstance(self.settings, Calibrated) and self.settings.calibrate is not None:
            check_mass(self.settings.calibrate, shares)
        return self.settings.warning(self.feedback, shares)


def check_samples(settings: LossConfig, feedback: Feedback) -> None:
    """Raise ConfigError where samples are to be compared, and each context has only one."""
    # The loss itself refuses shapes other than [B, K].
    if settings.compares_samples and feedback.logp.shape[1:] == (1,):
        raise ConfigError(
            f"objective.name={settings.name} compares completions of one context, and each has"
            " only one here; objective.name=pmpo learns from such rows"
        )
