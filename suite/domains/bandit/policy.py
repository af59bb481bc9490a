"""A diagonal Gaussian over one vector, the simplest policy. Shapes: D variables."""

import math

import torch
from torch import Tensor, nn

SMALLEST_STD = 1e-3  # keeps log-probabilities finite when an unbounded loss collapses the policy


class GaussianPolicy(nn.Module):
    """N(mean, std²) with independent dimensions and std = exp(log_std) + 0.001."""

    def __init__(self, mean: Tensor, initial_std: float) -> None:
        super().__init__()
        self.mean = nn.Parameter(mean.clone())
        self.log_std = nn.Parameter(torch.full_like(mean, math.log(initial_std)))

    def forward(self) -> tuple[Tensor, Tensor]:
        """Return mean and standard deviation, both [D]."""
        return self.mean, self.log_std.exp() + SMALLEST_STD

    def log_prob(self, x: Tensor) -> Tensor:
        """Return the log-density in nats, summed over dimensions; [...] from [..., D]."""
        mean, std = self.forward()
        z = (x - mean) / std
        return -0.5 * (z.square().sum(-1) + mean.numel() * math.log(2 * math.pi)) - std.log().sum()

    @torch.no_grad()
    def sample(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """Draw detached samples, [*shape, D]."""
        mean, std = self.forward()
        noise = torch.randn(*shape, mean.numel(), generator=generator).to(mean.device)
        return mean + std * noise
