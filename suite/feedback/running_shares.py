"""The shares of the labels, followed while a judge changes."""

from suite.feedback.feedback import Labels, Shares
from suite.system import distributed


class RunningShares:
    """The shares of both true labels, averaged over a long window: they move with the judge."""

    def __init__(self, start: Shares, window: int) -> None:
        self.value = start
        self.window = window  # labels

    def update(self, labels: Labels) -> None:
        """Take in a batch's true labels, [B, K] each; with several ranks each gives its part."""
        rate = min(1.0, distributed.world_size() * labels.accept.numel() / self.window)
        now = (distributed.mean_over_ranks(weight.mean().item()) for weight in labels)
        self.value = Shares(
            *(old + rate * (x - old) for old, x in zip(self.value, now, strict=True))
        )
