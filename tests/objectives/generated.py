"""Random feedback, and every registered objective with its defaults."""

from typing import Any

import torch
from torch import Tensor

from suite.config.registry import OBJECTIVES, choose
from suite.feedback.feedback import Feedback, Labels, Shares
from suite.policies.divergences import GaussianKL

NAMES = tuple(OBJECTIVES)
SHARES = Shares(0.4, 0.5)


def settings_of(name: str, **values: Any) -> Any:
    """Return the settings of an objective."""
    return choose("objective", name).settings(**values)


def terms_of(name: str, feedback: Feedback, **values: Any) -> Any:
    """Return the terms of a fresh objective on `feedback`."""
    return settings_of(name, **values).bind("mixed", 2)(feedback, SHARES)


def generated(seed: int, contexts: int, samples: int, dtype: torch.dtype) -> Feedback:
    """Return feedback with labels of both kinds and of none, distinct scores and weights."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

    shape = (contexts, samples)
    reference = -normal(*shape).abs() - 0.5
    logp = -(reference + 0.3 * normal(*shape)).abs() - 0.01
    kind = torch.randint(3, shape, generator=generator)
    parts = GaussianKL(normal(contexts, 2).square(), normal(contexts, 2).square())
    kl = parts.total()
    for tensor in (logp, *parts, kl):
        tensor.requires_grad_(True)
    return Feedback(
        *(logp, kl, (kind == 0).to(dtype), (kind == 1).to(dtype), reference),
        score=normal(*shape),
        kl_parts=parts,
        weight=normal(contexts).abs() + 0.1,
        reverse_kl=normal(contexts).abs(),
    )


def part(feedback: Feedback, rows: Any) -> Feedback:
    """Return the contexts with these indices."""
    kept = {name: value[rows] for name, value in tensors(feedback).items()}
    parts = feedback.kl_parts
    assert parts is not None
    return feedback._replace(**kept, kl_parts=GaussianKL(parts.mean[rows], parts.covariance[rows]))


def tensors(feedback: Feedback) -> dict[str, Tensor]:
    """Return all fields that are tensors."""
    return {name: x for name, x in feedback._asdict().items() if isinstance(x, Tensor)}


def relabelled(feedback: Feedback, labels: Labels) -> Feedback:
    """Return the same samples with other labels."""
    return feedback._replace(accept=labels.accept, reject=labels.reject)
