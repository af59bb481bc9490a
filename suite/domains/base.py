'''The interface of a domain, which is the problem of a run.

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

    def __init__(self, settings, parts):
        self.settings = settings
        self.label_noise = parts.label_noise
        self.divergence = parts.divergence
        self.dimensions = 1
        self.policy = torch.nn.ParameterDict({"mean": torch.zeros(1)})
        self.reference = copy.deepcopy(self.policy).requires_grad_(False)
        self.start = copy.deepcopy(self.reference)
        self.shares = Shares(accept=0.5, reject=0.5)
        self.generator = torch.Generator().manual_seed(parts.seed)

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

    def evaluate(self):
        kl = gaussian_kl(normal(self.start), normal(self.policy)).total()
        return {"score": self.policy["mean"].item(), "kl": kl.item()}

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
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from torch import Tensor, nn

from suite.config.contracts import DomainParts
from suite.config.schema import Config
from suite.feedback.feedback import Feedback, Shares
from suite.feedback.label_noise import LabelNoise
from suite.system import distributed


class Domain(Protocol):
    """The parts of a run that depend on the problem."""

    @property
    def policy(self) -> nn.Module:
        """The trained network."""
        ...

    @property
    def reference(self) -> nn.Module:
        """π_ref, never optimised; it follows the policy by the key `reference.update`."""
        ...

    @property
    def dimensions(self) -> int | None:
        """D of a Gaussian policy's samples, None for other policies."""
        ...

    @property
    def shares(self) -> Shares:
        """Shares of the reference's samples with each label, as `LabelNoise.shares` returns them.

        They are the shares before any label is dropped or hidden.
        """
        ...

    def train_dataloader(self) -> Iterator[Any]:
        """Yield labelled batches for ever; acting, sampling and judging happen here."""
        ...

    def feedback(self, batch: Any) -> Feedback:
        """Return the objective's input for a batch, with gradients."""
        ...

    def evaluate(self) -> dict[str, float]:
        """Measure the policy without effect on training: `score`, higher is better, and others."""
        ...

    def save(self, folder: Path) -> None:
        """Write the trained policy into a folder, in the domain's usual format."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Return the state, without the networks, that an exact resume needs."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a state."""
        ...


@runtime_checkable
class HasAuxiliaryLosses(Protocol):
    """A domain with further losses, for instance a critic's."""

    def auxiliary_losses(self, batch: Any) -> dict[str, Tensor]:
        """Return the further losses by name, [] each, with gradients."""
        ...


@runtime_checkable
class HasDiagnostics(Protocol):
    """A domain with its own metrics of training."""

    def diagnostics(self) -> dict[str, float]:
        """Return metrics to log with the losses; `env_steps` is also shown as a rate."""
        ...


@runtime_checkable
class HasExamples(Protocol):
    """A domain whose evaluations have examples."""

    def examples(self) -> list[dict[str, Any]]:
        """Return examples of the last evaluation, one table row each."""
        ...


@runtime_checkable
class HasFilm(Protocol):
    """A domain with an environment that can be filmed."""

    def film(self, path: Path) -> float:
        """Write a video of an episode, and return the episode's return."""
        ...


def build_domain(config: Config, cache: Path) -> Domain:
    """Build the domain of a run; `cache` is a folder of artefacts that runs share."""
    parts = DomainParts(
        label_noise=LabelNoise(config.feedback, config.labels),
        divergence=config.divergence,
        seed=config.seed,
        cache=cache,
        device=distributed.device(config.trainer),
    )
    domain: Domain = config.domain.build(parts)
    return domain
