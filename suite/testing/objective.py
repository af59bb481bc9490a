"""The contract of an objective."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from suite.config.schema import Config
from suite.feedback.feedback import Feedback, Shares
from suite.objectives.base import Objective, build_objective
from suite.testing.shared import (
    build,
    check_settings,
    check_training_moves_the_policy_alone,
    config_of,
    first_feedback,
    require,
)


def check_objective(
    name: str, *overrides: str, folder: Path, domain: Sequence[str] = ("domain.name=bandit",)
) -> None:
    """Check everything that the suite relies on in an objective, on samples of a domain.

    `name` is the value of `objective.name`; `domain` are the overrides that choose the domain whose
    samples it learns from. Raises as `check_domain` does.
    """
    chosen = next(word.partition("=")[2] for word in domain if word.startswith("domain.name="))
    others = [word for word in domain if not word.startswith("domain.name=")]
    config = config_of(chosen, [*others, f"objective.name={name}", *overrides], folder)
    check_settings(config, folder)
    check_terms(config)
    check_training_moves_the_policy_alone(config)


def check_terms(config: Config) -> None:
    """The loss is finite, and a mean over contexts or declared as none; its warning is a text."""
    domain = build(config)
    objective = build_objective(config.objective, config.feedback, domain.dimensions)
    feedback = first_feedback(domain)
    terms = objective(feedback, domain.shares)
    require(terms.loss.shape == () and terms.loss.isfinite(), "loss must be one finite number")
    require(
        all(isinstance(term, Tensor) for term in terms._asdict().values()),
        "the terms must be a NamedTuple of tensors",
    )
    if not config.objective.uses_batch_statistics:
        check_split(objective, feedback, domain.shares)
    warning = objective.warning(domain.shares)
    require(warning is None or isinstance(warning, str), "warning must return text or None")


def check_split(objective: Objective, feedback: Feedback, shares: Shares) -> None:
    """The loss of a batch is the mean of the losses of its halves."""
    half = len(feedback.kl) // 2
    parts = [part_of(feedback, slice(0, half)), part_of(feedback, slice(half, 2 * half))]
    whole = objective(part_of(feedback, slice(0, 2 * half)), shares).loss
    halves = sum(objective(part, shares).loss for part in parts) / 2
    require(
        torch.allclose(whole, torch.as_tensor(halves), rtol=1e-4, atol=1e-6),
        "the loss of a batch must be the mean of the losses of its halves, or accumulation and"
        " several processes change it (or uses_batch_statistics must say so)",
    )


def part_of(feedback: Feedback, rows: slice) -> Feedback:
    """Return the feedback of some of the contexts."""
    parts = feedback.kl_parts
    return feedback._replace(
        **{
            name: value[rows]
            for name, value in feedback._asdict().items()
            if isinstance(value, Tensor)
        },
        kl_parts=None if parts is None else type(parts)(*(part[rows] for part in parts)),
        tokens=None,
    )
