"""PMPO below its bound, and the losses that are PMPO in another form: closed forms and flows."""

from typing import Any

import pytest
import torch
from torch import Tensor

from suite.feedback.feedback import Feedback
from suite.objectives.pmpo import pmpo
from suite.objectives.reinforce import reinforce
from suite.objectives.singles import apo_zero, d2o, npo, topr
from tests.objectives.tabular import (
    HARD,
    REFERENCE,
    SOFT,
    Loss,
    conditioned,
    everything,
    gradient,
    minimum,
    shares,
)

LOGITS = torch.linspace(-1, 1, 8, dtype=torch.float64).sin()


def target(alpha: float, beta: float, good: Tensor) -> Tensor:
    """w of docs/theory.md."""
    accepted, rejected = conditioned(good), conditioned(1 - good)
    return alpha * accepted - (1 - alpha) * rejected + beta * REFERENCE


def water_filling(w: Tensor) -> Tensor:
    """(w − τ)₊/M, with τ ≥ 0 such that its sum is 1."""
    mass, low, high = w.sum(), 0.0, w.max().item()
    for _ in range(100):
        tau = (low + high) / 2
        low, high = (tau, high) if (w - tau).clamp(min=0).sum() > mass else (low, tau)
    return (w - low).clamp(min=0) / mass


@pytest.mark.parametrize("good", [HARD, SOFT], ids=["hard", "soft"])
@pytest.mark.parametrize(("alpha", "beta"), [(0.5, 0.4), (0.5, 0.2), (0.0, 1.3), (0.5, 4.0)])
def test_pmpo_below_its_bound_ends_at_water_filling(
    alpha: float, beta: float, good: Tensor
) -> None:
    w = target(alpha, beta, good)
    slope = gradient(lambda f: pmpo(f, alpha=alpha, beta=beta).loss, LOGITS, good)
    torch.testing.assert_close(slope, w.sum() * LOGITS.softmax(0) - w, atol=1e-14, rtol=0)
    # So the flow is w − M·π.
    logits = REFERENCE.log()
    for _ in range(8000):
        logits = logits + 2 * (w - w.sum() * logits.softmax(0))
    torch.testing.assert_close(logits.softmax(0), water_filling(w), atol=1e-6, rtol=0)


def test_without_mass_one_outcome_is_left() -> None:
    w = target(0.3, 0.2, SOFT)
    assert w.sum() < 0
    logits = REFERENCE.log()
    for _ in range(4000):
        logits = logits + (w - w.sum() * logits.softmax(0))
    assert logits.softmax(0).max().item() == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize(("alpha", "beta"), [(0.5, 0.1), (0.5, 1.5), (0.2, 3.0), (0.0, 1.3)])
def test_asymre_is_pmpo_with_its_baseline(alpha: float, beta: float) -> None:
    z = shares(SOFT)
    scale = alpha / z.accept + (1 - alpha) / z.reject
    baseline = ((1 - alpha) / z.reject - beta) / scale  # of rewards of 0 and 1
    ours = gradient(lambda f: pmpo(f, alpha=alpha, beta=beta).loss, LOGITS, SOFT)
    theirs = gradient(
        lambda f: reinforce(f, **settings(offset=2 * baseline - 1)).loss, LOGITS, SOFT
    )
    torch.testing.assert_close(theirs * scale / 2, ours, atol=1e-15, rtol=0)
    assert (target(alpha, beta, SOFT).sum() > 0).item() == (baseline < z.accept)


def settings(**values: Any) -> dict[str, Any]:
    """Return the arguments of plain REINFORCE, with changes."""
    plain = {"reward": "labels", "baseline": "none", "offset": 0.0, "scale": "none"}
    return {**plain, "positive": 1.0, "clip": None, "per_token": False, **values}


@pytest.mark.parametrize("outcome", [1, 4, 7])
def test_d2o_is_gated_pmpo_of_rejected_samples(outcome: int) -> None:
    alpha, beta = 0.3, 0.2
    one = torch.zeros(1, 8, dtype=torch.float64)
    one[0, outcome] = 8

    def only(feedback: Feedback) -> Feedback:
        return feedback._replace(accept=torch.zeros_like(one), reject=one)

    feedback = everything(LOGITS, HARD)
    assert feedback.reference_logp is not None
    ratio = (feedback.logp - feedback.reference_logp)[0, outcome]
    gate = (beta * feedback.kl[0] + alpha * ratio).sigmoid()  # σ(−J)
    inner = gradient(lambda f: pmpo(only(f), alpha=0, beta=beta / alpha).loss, LOGITS, HARD)
    whole = gradient(lambda f: d2o(only(f), alpha=alpha, beta=beta).loss, LOGITS, HARD)
    torch.testing.assert_close(whole, gate * alpha * inner, atol=1e-14, rtol=0)


def test_d2o_at_its_bound_or_above_has_the_optimum_of_pmpo() -> None:
    beta = 2.0
    assert beta >= 1 / shares(HARD).reject
    policy = minimum(lambda f: d2o(f, alpha=1.0, beta=beta).loss, HARD)
    w = target(0, beta, HARD)
    torch.testing.assert_close(policy, w / w.sum(), atol=1e-6, rtol=0)


P, LAMBDA = 3 / 8, 0.1
MEAN = (2 * (1 - P), -2 * P)  # of rewards of ±1: twice those of 0 and 1
WEIGHTS = {
    "REINFORCE": (settings(), "mixed", (1, -1)),
    "Dr. GRPO": (settings(baseline="mean"), "mixed", MEAN),
    "RLOO": (settings(baseline="leave_one_out"), "mixed", tuple(8 / 7 * x for x in MEAN)),
    "GRPO": (
        settings(baseline="mean", scale="deviation"),
        "mixed",
        (((1 - P) / P) ** 0.5, -((P / (1 - P)) ** 0.5)),
    ),
    "AsymRE": (settings(baseline="mean", offset=-0.2), "mixed", tuple(x + 0.2 for x in MEAN)),
    "PSR": (settings(), "positive", (1, 0)),
    "NSR": (settings(), "negative", (0, -1)),
    "W-REINFORCE": (settings(positive=LAMBDA), "mixed", (LAMBDA, -1)),
}


def sample_weights(loss: Loss, kind: str = "mixed") -> Tensor:
    """Return −K·dL/d log π of 8 samples, the first 3 of them accepted."""
    logp = -torch.linspace(1, 2, 8, dtype=torch.float64)[None]
    accept = (torch.arange(8) < 3).double()[None]
    hidden = torch.zeros_like(accept)
    feedback = Feedback(
        logp.requires_grad_(),
        torch.zeros(1, dtype=torch.float64),
        hidden if kind == "negative" else accept,
        hidden if kind == "positive" else 1 - accept,
        logp.detach(),
    )
    (slope,) = torch.autograd.grad(loss(feedback), logp)
    return -8 * slope[0]


@pytest.mark.parametrize("name", WEIGHTS)
def test_the_family_of_reinforce_weighs_accepted_and_rejected_samples_as_known(name: str) -> None:
    values, kind, (good, bad) = WEIGHTS[name]
    expected = torch.tensor([good] * 3 + [bad] * 5, dtype=torch.float64)
    weights = sample_weights(lambda f: reinforce(f, **values).loss, kind)
    torch.testing.assert_close(weights, expected, atol=1e-12, rtol=0)


def test_pmpo_per_context_divides_by_the_contexts_shares() -> None:
    weights = sample_weights(lambda f: pmpo(f, alpha=0.3, beta=1.0).loss)
    expected = torch.tensor([0.3 / P] * 3 + [-0.7 / (1 - P)] * 5, dtype=torch.float64)
    torch.testing.assert_close(weights, expected, atol=1e-12, rtol=0)


NEGATIVE: dict[str, Loss] = {
    "gradient ascent": lambda f: pmpo(f, alpha=0, beta=0).loss,
    "npo": lambda f: npo(f, beta=0.5).loss,
    "topr": lambda f: topr(f, reward="labels", per_token=False).loss,
    "apo_zero": lambda f: apo_zero(f, beta=0.5).loss,
}


def squeezed(loss: Loss, step: float, left: float) -> tuple[float, int]:
    """Return TV(π | accepted, p_a) once a share of the rejected mass is left, and the steps."""

    def only(feedback: Feedback) -> Tensor:
        return loss(feedback._replace(accept=torch.zeros_like(feedback.accept)))

    logits, mass = REFERENCE.log(), shares(HARD).reject
    count, policy = 0, REFERENCE
    while (policy * (1 - HARD)).sum() > left * mass:
        count += 1
        logits = logits - step * gradient(only, logits, HARD)
        policy = logits.softmax(0)
    kept = policy * HARD / (policy * HARD).sum()
    return (kept - conditioned(HARD)).abs().sum().item() / 2, count


@pytest.mark.parametrize("left", [0.7, 0.3, 0.1])
def test_rejected_samples_alone_squeeze_through_the_same_states_at_different_speeds(
    left: float,
) -> None:
    ends = {name: squeezed(loss, 0.1, left) for name, loss in NEGATIVE.items()}
    distances = [distance for distance, _ in ends.values()]
    assert min(distances) > 0.02
    assert max(distances) - min(distances) < 0.004, ends
    assert len({steps for _, steps in ends.values()}) == len(ends)


def test_the_kl_alone_keeps_the_accepted_samples_in_proportion() -> None:
    beta = 1 / shares(HARD).reject
    policy = minimum(lambda f: pmpo(f, alpha=0, beta=beta).loss, HARD)
    assert (policy - conditioned(HARD)).abs().sum() / 2 < 1e-4
