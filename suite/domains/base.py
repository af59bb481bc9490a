'''What a domain is: the problem side of a run.

A complete small domain - one number, and feedback that prefers positive samples:

```python
import copy

import torch

from suite.feedback import Feedback, Shares
from suite.feedback.labelling import label_by_sign
from suite.policies.divergences import GaussianKL, gaussian_kl
from suite.policies.gaussian import Gaussian, compare


class Coin:
    """Move the mean of a Gaussian towards what is preferred."""

    def __init__(self, settings, *, label_noise, divergence, seed, cache):
        self.settings = settings
        self.label_noise = label_noise
        self.divergence = divergence
        self.dimensions = 1
        self.policy = torch.nn.ParameterDict({"mean": torch.zeros(1)})
        self.reference = copy.deepcopy(self.policy).requires_grad_(False)
        self.start = copy.deepcopy(self.reference)
        self.shares = Shares(accept=0.5, reject=0.5)
        self.generator = torch.Generator().manual_seed(seed)

    def train_dataloader(self):
        while True:
            noise = torch.randn(self.settings.contexts, 4, generator=self.generator)
            score = self.reference["mean"] + noise
            yield score, self.label_noise.apply(label_by_sign(score), self.shares)

    def feedback(self, batch):
        score, labels = batch
        compared = compare(
            normal(self.policy), normal(self.reference), score[..., None], self.divergence
        )
        contexts = len(score)
        return Feedback(
            logp=compared.logp,
            kl=compared.kl.total().expand(contexts),
            accept=labels.accept,
            reject=labels.reject,
            reference_logp=compared.reference_logp,
            score=score,
            kl_parts=GaussianKL(*(part.expand(contexts, 1) for part in compared.kl)),
        )

    def auxiliary_losses(self, batch):
        return {}

    def diagnostics(self):
        return {}

    def evaluate(self):
        kl = gaussian_kl(normal(self.start), normal(self.policy)).total()
        return {"score": self.policy["mean"].item(), "kl": kl.item()}

    def examples(self):
        return []

    def save(self, folder):
        torch.save(self.policy.state_dict(), folder / "policy.pt")

    def state_dict(self):
        return {"generator": self.generator.get_state()}

    def load_state_dict(self, state):
        self.generator.set_state(state["generator"])


def normal(parameters):
    return Gaussian(parameters["mean"], torch.ones(1))
```
'''

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor, nn

from suite.config.registry import DOMAINS
from suite.config.schema import Config
from suite.feedback.feedback import Feedback, Shares
from suite.feedback.label_noise import LabelNoise
from suite.system import distributed


class Domain(Protocol):
    """The parts of a run that depend on the problem; one class per domain implements it."""

    policy: nn.Module
    """What is trained."""

    reference: nn.Module
    """π_ref, never optimised; follows the policy as `reference.update` says."""

    dimensions: int | None
    """D of a Gaussian policy's samples, None for other policies."""

    shares: Shares
    """Shares of the reference's samples that are labelled accept and reject, as
    `LabelNoise.shares` says: before any are left out or hidden."""

    def train_dataloader(self) -> Iterator[Any]:
        """Yield labelled batches for ever; acting, sampling and judging happen here."""
        ...

    def feedback(self, batch: Any) -> Feedback:
        """Return what the objective needs of a batch, with gradients."""
        ...

    def auxiliary_losses(self, batch: Any) -> dict[str, Tensor]:
        """Return further losses by name, for instance a critic's; empty for most domains."""
        ...

    def diagnostics(self) -> dict[str, float]:
        """Return numbers worth logging with the losses; `env_steps` is also shown as a rate."""
        ...

    def evaluate(self) -> dict[str, float]:
        """Measure the policy without disturbing training: `score`, higher is better, and more."""
        ...

    def examples(self) -> list[dict[str, Any]]:
        """Return what people should see of the last evaluation, one table row each, or nothing."""
        ...

    def save(self, folder: Path) -> None:
        """Write the trained policy into a folder, in the domain's usual format."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Return everything besides the networks that an exact resume needs."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state."""
        ...


def build_domain(config: Config, cache: Path) -> Domain:
    """Build the domain of a run from plain values; `cache` is a folder for what runs share.

    A domain's class takes its settings, and by keyword `label_noise` (which turns true labels into
    those that the learner sees), `divergence` (which KL it computes), `seed` (of its random
    streams) and `cache`; one with models that may be large also the `device` where they are to be.
    """
    _, path = DOMAINS[config.domain.name]
    module, _, name = path.partition(":")
    where = {"device": distributed.device(config.trainer)} if config.domain.shardable else {}
    domain: Domain = getattr(import_module(module), name)(
        config.domain,
        label_noise=LabelNoise(config.feedback, config.labels),
        divergence=config.divergence,
        seed=config.seed,
        cache=cache,
        **where,
    )
    return domain
