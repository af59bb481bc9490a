"""Optima of objectives with scores, where the group holds all outcomes in proportion to π_ref."""

from typing import Any

import pytest
import torch
from torch import Tensor

from suite.feedback.feedback import Feedback
from tests.objectives.generated import NAMES, generated, settings_of, tensors, terms_of
from tests.objectives.tabular import REFERENCE, SOFT, Loss, gradient, numbers, shares

SCORE = numbers(0.3, -1.2, 0.8, 0.1, 1.5, -0.4, 0.0, 0.6)
UNIFORM = torch.full((8,), 1 / 8, dtype=torch.float64)


def loss_of(name: str, values: dict[str, Any]) -> Loss:
    """Return an objective's loss of samples with SCORE."""
    bound = settings_of(name, **values).bind("mixed", None)

    def loss(feedback: Feedback) -> Tensor:
        value: Tensor = bound(feedback._replace(score=SCORE[None]), shares(SOFT)).loss
        return value

    return loss


@pytest.mark.parametrize("name", ["exo_rw", "dpo_rw"])
@pytest.mark.parametrize(("beta", "temperature"), [(0.5, 0.7), (1.0, 2.0), (2.0, 0.3)])
def test_exo_and_dpo_with_scores_end_at_the_tilted_reference(
    name: str, beta: float, temperature: float
) -> None:
    optimum = REFERENCE.log() + SCORE / (temperature * beta)
    loss = loss_of(name, {"beta": beta, "temperature": temperature})
    assert gradient(loss, optimum, SOFT).abs().max() < 2e-16 * 10


@pytest.mark.parametrize(("beta", "tilts"), [(1.0, True), (0.5, False)])
def test_nca_ends_at_the_tilted_reference_for_beta_1_only(beta: float, tilts: bool) -> None:
    loss = loss_of("nca", {"beta": beta, "temperature": 0.7})
    slope = gradient(loss, SCORE / (0.7 * beta), SOFT, UNIFORM).abs().max()
    assert (slope < 1e-14).item() is tilts


@pytest.mark.parametrize(
    ("name", "values", "weight"),
    [
        ("rwr", {"temperature": 0.7}, (SCORE / 0.7).exp()),
        ("awr", {"temperature": 0.7}, (SCORE / 0.7).exp()),
        ("rwr", {"temperature": 0.7, "largest": 2.0}, (SCORE / 0.7).exp().clamp(max=2)),
        ("crr", {}, (SCORE.mean() <= SCORE).double() + 1e-16),
    ],
)
def test_weighted_likelihoods_end_at_the_reference_times_the_weight(
    name: str, values: dict[str, Any], weight: Tensor
) -> None:
    loss = loss_of(name, values)
    assert gradient(loss, weight.log(), SOFT, UNIFORM).abs().max() < 1e-14


@pytest.mark.parametrize("name", NAMES)
def test_only_the_policy_has_a_gradient(name: str) -> None:
    feedback = generated(7, 3, 4, torch.float64)
    given = tensors(feedback)
    for key in ("accept", "reject", "score", "reference_logp", "weight", "reverse_kl"):
        assert not given[key].requires_grad
    found = terms_of(name, feedback).loss
    (slope,) = torch.autograd.grad(found, feedback.logp)
    assert slope.abs().sum() > 0
