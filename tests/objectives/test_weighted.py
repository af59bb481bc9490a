"""Weighted maximum likelihood: CRR's and AWR's weights."""

import math

import pytest
import torch

from suite.feedback.feedback import Feedback, Shares
from suite.objectives.pmpo import pmpo
from suite.objectives.weighted import weighted

ADVANTAGE = torch.tensor([[-1.0], [0.0], [2.0], [50.0]])


def feedback(logp: torch.Tensor, score: torch.Tensor | None = ADVANTAGE) -> Feedback:
    good = (ADVANTAGE >= 0).float()
    return Feedback(logp, torch.zeros(4), good, 1 - good, score=score)


def test_weights_are_the_papers_by_hand() -> None:
    logp = torch.tensor([[-1.0], [-2.0], [-3.0], [-4.0]], requires_grad=True)
    found = weighted(feedback(logp), weight="exp", temperature=2.0, largest=20.0)
    by_hand = [math.exp(-0.5), 1.0, math.exp(1.0), 20.0]
    total = sum(w * p for w, p in zip(by_hand, (1, 2, 3, 4), strict=True)) / 4
    assert found.loss.item() == pytest.approx(total, rel=1e-6)
    assert found.mean_weight.item() == pytest.approx(sum(by_hand) / 4, rel=1e-6)
    found.loss.backward()
    assert logp.grad is not None
    torch.testing.assert_close(logp.grad[:, 0], -torch.tensor(by_hand) / 4)


def test_binary_weights_are_positive_feedback_up_to_scale() -> None:
    logp = torch.randn(4, 1, requires_grad=True)
    (crr,) = torch.autograd.grad(weighted(feedback(logp), weight="binary").loss, logp)
    shares = Shares(accept=0.75, reject=0.25)
    loss = pmpo(feedback(logp), alpha=1.0, beta=0.0, shares=shares).loss
    (ours,) = torch.autograd.grad(loss, logp)
    torch.testing.assert_close(crr / 0.75, ours)


def test_several_samples_of_a_context_are_judged_by_their_mean() -> None:
    score, logp = torch.tensor([[1.0, 3.0]]), torch.tensor([[-1.0, -5.0]])
    group = Feedback(logp, torch.zeros(1), score, score, score=score)
    assert weighted(group, weight="binary").loss.item() == 2.5
    moved = group._replace(score=score + 7)
    found = [weighted(each, weight="exp").loss for each in (group, moved)]
    torch.testing.assert_close(*found)


def test_unknown_weights_and_missing_scores_are_refused() -> None:
    logp = torch.zeros(4, 1)
    with pytest.raises(ValueError, match="weight must be 'binary', 'exp' or 'reward', found"):
        weighted(feedback(logp), weight="linear")
    with pytest.raises(ValueError, match=r"needs feedback\.score"):
        weighted(feedback(logp, None), weight="exp")
