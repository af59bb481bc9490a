"""A diagonal Gaussian over one vector, the simplest policy. Shapes: D variables."""

import math

import torch
from torch import Tensor, nn

from suite.gaussian import Gaussian

SMALLEST_STD = 1e-3  # keeps log-probabilities finite when an unbounded loss collapses the policy


class GaussianPolicy(nn.Module):
    """N(mean, std²) with independent dimensions and std = exp(log_std) + 0.001."""

    def __init__(self, mean: Tensor, initial_std: float) -> None:
        super().__init__()
        self.mean = nn.Parameter(mean.clone())
        self.log_std = nn.Parameter(torch.full_like(mean, math.log(initial_std)))

    def forward(self) -> Gaussian:
        """Return the distribution, mean and standard deviation [D] each."""
        return Gaussian(self.mean, self.log_std.exp() + SMALLEST_STD)

    @torch.no_grad()
    def sample(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """Draw detached samples, [*shape, D]."""
        mean, std = self.forward()
        noise = torch.randn(*shape, mean.numel(), generator=generator).to(mean.device)
        return mean + std * noise
