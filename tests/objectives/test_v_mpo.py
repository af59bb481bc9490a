"""V-MPO: its better half, and its duals at their optimum."""

import pytest
import torch
from torch import Tensor

from suite.feedback.feedback import Feedback
from suite.objectives.v_mpo import VMPOTerms, better_half, v_mpo


def terms(
    score: Tensor, temperature: Tensor, multiplier: float = 1.0, kl: float = 0.02
) -> tuple[VMPOTerms, Tensor]:
    logp = torch.full_like(score, -1.0).requires_grad_()
    zero = torch.zeros_like(score)
    feedback = Feedback(logp, torch.full((len(score),), kl).double(), zero, zero, score=score)
    found = v_mpo(
        feedback,
        reward="score",
        temperature=temperature,
        multiplier=torch.tensor(multiplier, dtype=torch.float64, requires_grad=True),
        epsilon_temperature=0.1,
        epsilon_kl=0.01,
    )
    return found, logp


@pytest.mark.parametrize(
    ("advantage", "expected"),
    [
        ([3.0, 1.0, 2.0, 0.0], [True, False, True, False]),
        ([3.0, 1.0, 2.0], [True, False, True]),
        ([1.0, 1.0, 1.0, 0.0], [True, True, True, False]),
    ],
)
def test_the_half_has_at_least_the_median_and_all_ties(
    advantage: list[float], expected: list[bool]
) -> None:
    found = better_half(torch.tensor([advantage]), torch.ones(1, len(advantage)).bool())
    assert found[0].tolist() == expected


def test_the_temperature_at_its_optimum_gives_the_kl_asked_for() -> None:
    generator = torch.Generator().manual_seed(2)
    score = torch.randn(9, 1, generator=generator, dtype=torch.float64)
    low, high = 1e-2, 1e2
    for _ in range(100):
        middle = torch.tensor((low * high) ** 0.5, dtype=torch.float64, requires_grad=True)
        (slope,) = torch.autograd.grad(terms(score, middle)[0].temperature_dual, middle)
        low, high = (middle.item(), high) if slope < 0 else (low, middle.item())
    found, logp = terms(score, torch.tensor(low, dtype=torch.float64))
    (slope,) = torch.autograd.grad(found.weighted, logp)
    psi = -slope[slope != 0]
    assert len(psi) == 5
    assert psi.sum().item() == pytest.approx(1)
    assert (psi * (5 * psi).log()).sum().item() == pytest.approx(0.1, abs=1e-9)


def test_the_multiplier_rises_where_the_divergence_is_above_its_limit() -> None:
    score = torch.tensor([[1.0], [2.0], [3.0]], dtype=torch.float64)
    for kl in (0.02, 0.005):
        found, _ = terms(score, torch.ones((), dtype=torch.float64), kl=kl)
        assert found.multiplier_dual.item() == pytest.approx(0.01 - kl)
        assert found.constraint.item() == pytest.approx(kl)
