"""Limits of the losses whose minimum lies at infinity: rejected outcomes at a probability of 0."""

from typing import Any

import pytest
import torch
from torch import Tensor

from suite.feedback.feedback import Feedback
from tests.objectives.generated import settings_of
from tests.objectives.tabular import HARD, Loss, conditioned, everything, gradient, shares

PAIRS = {"pairs": "labels"}
PAIRED = ("dpo", "rpo", "dpo_positive", "simpo", "orpo", "ada_dpo", "altpo", "bpr")
SINGLE = ("var_bpr", "kto", "bco", "apo_zero", "npo", "simnpo", "topr")
LIMITS: list[tuple[str, dict[str, Any]]] = [
    *((name, PAIRS) for name in PAIRED),
    ("altpo", {**PAIRS, "retain": 1.0}),
    *((name, {}) for name in SINGLE),
]
# Where the loss orders policies: KTO's reference point and TOPR's taper are taken as given.
ORDERED = [case for case in LIMITS if case[0] not in ("kto", "topr")]
IMITATING = [("rpo", PAIRS), ("orpo", PAIRS), ("altpo", {**PAIRS, "retain": 1.0})]
NEVER = -1e4  # a logit whose probability is 0
AT_ACCEPTED = conditioned(HARD).log().clamp(min=NEVER)


def loss_of(name: str, values: dict[str, Any]) -> Loss:
    """Return an objective's loss."""
    bound = settings_of(name, **values).bind("mixed", None)

    def loss(feedback: Feedback) -> Tensor:
        value: Tensor = bound(feedback, shares(HARD)).loss
        return value

    return loss


def policies(count: int, *, rejected: bool) -> list[Tensor]:
    """Return random logits, with rejected outcomes or without."""
    generator = torch.Generator().manual_seed(count)
    logits = 3 * torch.randn(count, 8, generator=generator, dtype=torch.float64)
    return list(logits if rejected else logits.where(HARD == 1, NEVER))


@pytest.mark.parametrize(("name", "values"), LIMITS)
def test_accepted_outcomes_in_proportion_and_no_rejected_ones_are_at_rest(
    name: str, values: dict[str, Any]
) -> None:
    assert gradient(loss_of(name, values), AT_ACCEPTED, HARD).abs().max() < 1e-12


@pytest.mark.parametrize(("name", "values"), ORDERED)
def test_no_policy_with_rejected_outcomes_has_a_lower_loss(
    name: str, values: dict[str, Any]
) -> None:
    loss = loss_of(name, values)
    limit = loss(everything(AT_ACCEPTED, HARD))
    assert all(loss(everything(x, HARD)) > limit for x in policies(20, rejected=True))


@pytest.mark.parametrize(("name", "values"), IMITATING)
def test_imitation_prefers_accepted_outcomes_in_proportion(
    name: str, values: dict[str, Any]
) -> None:
    loss = loss_of(name, values)
    limit = loss(everything(AT_ACCEPTED, HARD))
    assert all(loss(everything(x, HARD)) > limit for x in policies(20, rejected=False))


def test_robust_dpo_has_no_lower_bound_on_clean_pairs() -> None:
    loss = loss_of("robust_dpo", PAIRS)
    falling = [
        loss(everything(AT_ACCEPTED.clamp(min=least), HARD)).item()
        for least in (-1e2, -1e3, -1e4, -1e5)
    ]
    assert falling == sorted(falling, reverse=True)
    assert falling[-1] < -100
