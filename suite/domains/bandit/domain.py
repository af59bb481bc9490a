"""The bandit domain: minimise a known function from ranked samples (claims P1 and P3).

Shapes: B groups, K samples per group, D variables.
"""

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from suite import ranks
from suite.divergences import GaussianKL, gaussian_kl
from suite.domains.bandit.config import BanditConfig
from suite.domains.bandit.functions import FUNCTIONS
from suite.domains.bandit.policy import GaussianPolicy
from suite.feedback import Feedback, Labels, Shares, label_by_rank
from suite.gaussian import compare
from suite.teacher import Teacher


class BanditBatch(NamedTuple):
    """Groups of samples of the reference, and their scores."""

    samples: Tensor  # [B, K, D], in units of half the function's box
    score: Tensor  # [B, K], −f
    labels: Labels  # [B, K] each, as the learner sees them


class Bandit:
    """A Gaussian policy over the function's box, scaled to [−1, 1] in every dimension.

    The policy starts at a random place with |x| ≤ 0.8; outside the box the function continues
    with its value on the box's edge.
    """

    def __init__(
        self, settings: BanditConfig, *, teacher: Teacher, divergence: str, seed: int, cache: Path
    ) -> None:
        self.settings = settings
        self.teacher = teacher
        self.divergence = divergence
        self.dimensions = settings.dimensions
        self.function, self.half_width = FUNCTIONS[settings.function]
        self.generator = torch.Generator().manual_seed(seed)
        start = 1.6 * torch.rand(settings.dimensions, generator=self.generator) - 0.8
        self.policy = GaussianPolicy(start, settings.initial_std)
        self.reference = copy.deepcopy(self.policy).requires_grad_(False)
        self.start = copy.deepcopy(self.policy).requires_grad_(False)
        true = Shares(settings.top / settings.samples, settings.bottom / settings.samples)
        self.shares = teacher.shares(true)

    def train_dataloader(self) -> Iterator[BanditBatch]:
        """Yield groups of samples of the reference; the best are accepted, the worst rejected."""
        plan = self.settings
        while True:
            drawn = self.reference.sample((plan.contexts, plan.samples), self.generator)
            samples = ranks.part(drawn)
            score = self.score(samples)
            labels = label_by_rank(score, plan.top, plan.bottom)
            yield BanditBatch(samples, score, self.teacher.says(labels, self.shares))

    def score(self, x: Tensor) -> Tensor:
        """Return −f, [...] from [..., D]."""
        return -self.function(x.clamp(-1, 1) * self.half_width)

    def feedback(self, batch: BanditBatch) -> Feedback:
        """Compare the policy with the reference on the labelled samples."""
        compared = compare(self.policy(), self.reference(), batch.samples, self.divergence)
        contexts = len(batch.score)
        return Feedback(
            logp=compared.logp,
            kl=compared.kl.total().expand(contexts),
            accept=batch.labels.accept,
            reject=batch.labels.reject,
            reference_logp=compared.reference_logp,
            score=batch.score,
            kl_parts=GaussianKL(*(part.expand(contexts, -1) for part in compared.kl)),
        )

    def auxiliary_losses(self, batch: BanditBatch) -> dict[str, Tensor]:
        """Return nothing: the policy is all there is."""
        return {}

    def diagnostics(self) -> dict[str, float]:
        """Return nothing: the loss says it all."""
        return {}

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """Score the policy's mean; `kl` is the divergence from the policy of the start."""
        mean, std = self.policy()
        kl = gaussian_kl(self.start.to(mean.device)(), (mean, std))
        return {
            "score": self.score(mean).item(),
            "kl": kl.total().item(),
            "std": std.mean().item(),
        }

    def examples(self) -> list[dict[str, Any]]:
        """Return nothing: the numbers say it all."""
        return []

    def save(self, folder: Path) -> None:
        """Write mean and deviation as JSON, in the function's own units."""
        mean, std = (self.half_width * part.detach() for part in self.policy())
        text = json.dumps({"mean": mean.tolist(), "std": std.tolist()}, indent=1)
        (folder / "policy.json").write_text(text)

    def state_dict(self) -> dict[str, Any]:
        """Return the random stream of the samples."""
        return {"generator": self.generator.get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue the random stream."""
        self.generator.set_state(state["generator"])
