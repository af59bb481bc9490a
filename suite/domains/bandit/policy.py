"""A diagonal Gaussian over one vector, and the common part of the domains that train it.

Shapes: D variables.
"""

import json
import math
from pathlib import Path

import torch
from torch import Tensor, nn

from suite.domains.bandit.functions import FUNCTIONS
from suite.domains.bandit.search import Search
from suite.policies.divergences import gaussian_kl
from suite.policies.gaussian import Gaussian

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


class GaussianSearch(Search[GaussianPolicy]):
    """Search with one Gaussian over the box of a function, scaled to ±1 per dimension."""

    def __init__(self, function: str) -> None:
        self.function, self.half_width = FUNCTIONS[function]

    def score(self, x: Tensor) -> Tensor:
        """Return −f, [...] from [..., D]; outside the box f has its value on the edge."""
        return -self.function(x.clamp(-1, 1) * self.half_width)

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """Score the policy's mean; `kl` is the divergence from the initial policy."""
        mean, std = self.policy()
        kl = gaussian_kl(self.initial_policy.to(mean.device)(), (mean, std))
        return {
            "score": self.score(mean).item(),
            "kl": kl.total().item(),
            "std": std.mean().item(),
        }

    def save(self, folder: Path) -> None:
        """Write mean and deviation as JSON, in the function's own units."""
        mean, std = (self.half_width * part.detach() for part in self.policy())
        text = json.dumps({"mean": mean.tolist(), "std": std.tolist()}, indent=1)
        (folder / "policy.json").write_text(text)
