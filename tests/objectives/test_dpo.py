"""DPO on groups against numbers computed by hand."""

import math

import pytest
import torch

from suite.feedback.feedback import Feedback
from suite.objectives.dpo import dpo


def group() -> Feedback:
    # Rewards log π − log π_ref: context 1: (1, −1, .5, 0), context 2: (0, 2, 0, 0).
    reference = torch.tensor([[-3.0, -2.0, -1.0, -4.0], [-1.0, -5.0, -2.0, -3.0]])
    reward = torch.tensor([[1.0, -1.0, 0.5, 0.0], [0.0, 2.0, 0.0, 0.0]])
    score = torch.tensor([[3.0, 1.0, 2.0, 2.0], [7.0, 7.0, 7.0, 7.0]])  # no pair in context 2
    nothing = torch.zeros(2, 4)
    logp = (reference + reward).requires_grad_(True)
    return Feedback(logp, torch.zeros(2), nothing, nothing, reference, score)


def softplus(x: float) -> float:
    return math.log1p(math.exp(x))


def test_best_against_worst_by_hand() -> None:
    # Best is sample 1 (reward 1), worst sample 2 (reward −1): Δ = 2, −log σ(.5·2) = softplus(−1).
    # Context 2 has no pair and counts as 0: the mean over contexts halves it.
    terms = dpo(group(), beta=0.5, pairs="best_worst")
    assert terms.loss.item() == pytest.approx(softplus(-1.0) / 2)
    assert terms.pair_accuracy.item() == 1.0


def test_all_pairs_by_hand() -> None:
    # Pairs of context 1 by score: (1,2) Δ=2, (1,3) Δ=.5, (1,4) Δ=1, (3,2) Δ=1.5, (4,2) Δ=1.
    terms = dpo(group(), beta=0.5, pairs="all")
    expected = sum(softplus(-0.5 * d) for d in (2.0, 0.5, 1.0, 1.5, 1.0)) / 5 / 2
    assert terms.loss.item() == pytest.approx(expected)


def test_the_gradient_raises_the_best_and_lowers_the_worst_by_the_papers_weight() -> None:
    # ∂(−log σ(βΔ))/∂logp⁺ = −β·σ(−βΔ); two contexts halve it.
    feedback = group()
    dpo(feedback, beta=0.5).loss.backward()
    weight = 0.5 / (1 + math.exp(1.0)) / 2
    expected = torch.tensor([[-weight, weight, 0, 0], [0, 0, 0, 0.0]])
    torch.testing.assert_close(feedback.logp.grad, expected)


def test_at_the_reference_the_loss_is_log_2() -> None:
    feedback = group()
    at_reference = feedback._replace(logp=feedback.reference_logp)
    assert dpo(at_reference, beta=0.1).loss.item() == pytest.approx(math.log(2) / 2)


def test_without_scores_accept_and_reject_order_the_samples() -> None:
    feedback = group()
    labels = feedback._replace(
        score=None,
        accept=torch.tensor([[1.0, 0, 0, 0], [0, 0, 0, 0]]),
        reject=torch.tensor([[0, 1.0, 0, 0], [0, 0, 0, 0]]),
    )
    assert dpo(labels, beta=0.5).loss.item() == pytest.approx(dpo(feedback, beta=0.5).loss.item())


def test_what_is_missing_or_unknown_is_refused() -> None:
    with pytest.raises(ValueError, match="reference_logp"):
        dpo(group()._replace(reference_logp=None), beta=0.1)
    with pytest.raises(ValueError, match="'best_worst', 'all' or 'labels', found 'some'"):
        dpo(group(), beta=0.1, pairs="some")
