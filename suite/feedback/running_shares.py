"""Running estimates of the shares of labels, which change with the judge."""

from suite.feedback.feedback import Labels, Shares
from suite.system import distributed


class RunningShares:
    """The shares of both true labels, averaged over a long window."""

    def __init__(self, start: Shares, window: int) -> None:
        self.value = start
        self.window = window  # labels

    def update(self, labels: Labels) -> None:
        """Add the true labels of a batch, [B, K] each; every rank adds its part."""
        rate = min(1.0, distributed.world_size() * labels.accept.numel() / self.window)
        batch = (distributed.mean_over_ranks(weight.mean().item()) for weight in labels)
        self.value = Shares(
            *(old + rate * (x - old) for old, x in zip(self.value, batch, strict=True))
        )
