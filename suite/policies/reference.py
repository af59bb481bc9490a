"""Updates of the reference from the policy: none, copies, or a moving average."""

import torch
from torch import nn

from suite.config.schema import ReferenceConfig


@torch.no_grad()
def follow(policy: nn.Module, reference: nn.Module, settings: ReferenceConfig, step: int) -> None:
    """Update the reference after optimiser step `step`, counted from 1."""
    if settings.update == "copy" and step % settings.every == 0:
        blend(policy, reference, 1.0)
    elif settings.update == "average":
        blend(policy, reference, settings.rate)


def blend(policy: nn.Module, reference: nn.Module, rate: float) -> None:
    """Move the reference's parameters by `rate` towards the policy's; buffers are copied."""
    for target, source in zip(reference.parameters(), policy.parameters(), strict=True):
        target.copy_(source) if rate == 1.0 else target.lerp_(source, rate)
    for own, other in zip(reference.buffers(), policy.buffers(), strict=True):
        own.copy_(other)
