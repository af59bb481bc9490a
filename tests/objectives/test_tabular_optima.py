"""Optima of pairs and single samples in closed form, and their slopes."""

import math

import pytest
import torch
from torch import Tensor

from suite.feedback.feedback import Feedback, TokenFeedback
from suite.objectives.dpo import dpo
from suite.objectives.free_pairs import bpr, orpo, simpo, var_bpr
from suite.objectives.groups import neat
from suite.objectives.pairs import ada_dpo, altpo, confidence, dpo_positive, robust_dpo, rpo
from suite.objectives.singles import bco, kto, npo, simnpo, topr
from tests.objectives.tabular import (
    HARD,
    REFERENCE,
    SOFT,
    Loss,
    conditioned,
    everything,
    gradient,
    minimum,
    numbers,
    shares,
)

ODDS = SOFT / (1 - SOFT)


@pytest.mark.parametrize("beta", [0.3, 1.0, 2.0])
def test_dpo_and_bco_with_a_free_shift_tilt_the_reference_by_the_odds(beta: float) -> None:
    logits = conditioned(ODDS ** (1 / beta)).log()
    shift = -beta * (REFERENCE * ODDS ** (1 / beta)).sum().log().requires_grad_()

    def free(feedback: Feedback) -> Tensor:
        return bco(feedback, beta=beta, shift=shift).loss

    for loss in (lambda f: dpo(f, beta=beta, pairs="labels").loss, free):
        assert gradient(loss, logits, SOFT).abs().max() < 1e-14
    # Of the shift itself the slope is 0 too.
    at = shift.detach().clone().requires_grad_()
    (slope,) = torch.autograd.grad(bco(everything(logits, SOFT), beta=beta, shift=at).loss, at)
    assert abs(slope.item()) < 1e-14


def test_bco_with_the_mean_of_rewards_ends_elsewhere() -> None:
    logits = REFERENCE.log()
    for _ in range(2000):
        ratio = logits.log_softmax(0) - REFERENCE.log()
        shift = (REFERENCE * ratio).sum()
        logits = logits - gradient(lambda f, s=shift: bco(f, beta=1.0, shift=s).loss, logits, SOFT)
    distance = (logits.softmax(0) - conditioned(ODDS)).abs().sum() / 2
    assert distance > 0.01


@pytest.mark.parametrize("beta", [0.5, 1.0])
def test_npo_with_a_kl_of_any_weight_has_two_levels(beta: float) -> None:
    z, b = shares(HARD), 1.0
    assert b < 1 / z.reject, "where PMPO of rejected samples is unbounded"
    policy = minimum(lambda f: npo(f, beta=beta).loss / z.reject + b * f.kl.mean(), HARD)
    ratio = policy / REFERENCE
    good, bad = ratio[HARD == 1], ratio[HARD == 0]
    for level in (good, bad):
        torch.testing.assert_close(level, level.mean().expand_as(level), atol=1e-6, rtol=0)
    slope = 2 * bad[0] ** beta / (1 + bad[0] ** beta)
    multiplier = b - slope
    assert good[0].item() == pytest.approx((b / multiplier).item(), abs=1e-6)
    assert (b - slope / z.reject).item() == pytest.approx((multiplier * bad[0]).item(), abs=1e-6)


def test_topr_ends_at_accepted_samples_and_with_soft_labels_at_its_closed_form() -> None:
    def loss(feedback: Feedback) -> Tensor:
        return topr(feedback, reward="labels", per_token=False).loss

    hard = (conditioned(HARD) + 1e-14).log()
    assert gradient(loss, hard, HARD).abs().max() < 1e-12

    def ratio(multiplier: float) -> Tensor:
        below = SOFT / (multiplier + 1 - SOFT)
        return below.where(below <= 1, ((2 * SOFT - 1) / multiplier).clamp(min=1))

    low, high = 1e-6, 10.0
    for _ in range(200):
        middle = (low + high) / 2
        above = (REFERENCE * ratio(middle)).sum() > 1
        low, high = (middle, high) if above else (low, middle)
    policy = REFERENCE * ratio(low)
    assert gradient(loss, policy.log(), SOFT).abs().max() < 5e-15


def one_pair(better: Tensor, worse: Tensor, *, reference: Tensor | None = None) -> Feedback:
    """Feedback of two samples per context, the first with the higher score."""
    logp = torch.stack([better, worse], 1)
    score = torch.tensor([[1.0, 0.0]], dtype=logp.dtype).expand_as(logp)
    reference = torch.zeros_like(logp) if reference is None else reference
    return Feedback(logp, torch.zeros(len(logp)).double(), score, 1 - score, reference, score)


def slopes(loss: Loss, feedback: Feedback) -> Tensor:
    """Return B·dL/d log π, [B, 2]."""
    logp = feedback.logp.detach().clone().requires_grad_()
    (result,) = torch.autograd.grad(loss(feedback._replace(logp=logp)), logp)
    return result * len(logp)


BETTER = numbers(-0.4, -1.5, -0.2, -3.0)
WORSE = numbers(-0.9, -1.1, -2.7, -0.3)
PAIRS = one_pair(BETTER, WORSE)
DELTA = BETTER - WORSE
BEST = "best_worst"


def test_ada_dpo_is_the_minimum_over_its_scale_with_the_slopes_known() -> None:
    grid = torch.linspace(0.1, 5.0, 200_001, dtype=torch.float64)[:, None]
    cost = -grid * torch.nn.functional.logsigmoid(DELTA / grid) + (0.1 - math.log(2)) * grid
    settings = {"pairs": BEST, "rho": 0.1, "tau_min": 0.1, "tau_max": 5.0}
    for row, least in enumerate(cost.amin(0)):
        pair = one_pair(BETTER[row : row + 1], WORSE[row : row + 1])
        assert ada_dpo(pair, **settings).loss.item() == pytest.approx(least.item(), abs=1e-9)
    u = confidence(0.1)
    assert u == pytest.approx(0.943, abs=1e-3)
    expected = -(-u * DELTA.sign()).sigmoid()
    found = slopes(lambda f: ada_dpo(f, **settings).loss, PAIRS)
    torch.testing.assert_close(found, torch.stack([expected, -expected], 1))


def test_the_preferred_sample_moves_at_the_predicted_rate_in_a_linear_model() -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(6, 3, generator=generator, dtype=torch.float64)
    start, theta = torch.randn(2, 3, generator=generator, dtype=torch.float64)
    theta.requires_grad_()
    logp, reference = ((features @ x).log_softmax(0)[:2] for x in (theta, start))
    pair = one_pair(logp[:1], logp[1:2], reference=reference[None])
    (descent,) = torch.autograd.grad(dpo(pair, beta=0.7).loss, theta, retain_graph=True)
    (rise,) = torch.autograd.grad(logp[0], theta)
    delta = ((logp - reference)[0] - (logp - reference)[1]).detach()
    centred = features[0] - (features @ theta).softmax(0).detach() @ features
    predicted = 0.7 * (-0.7 * delta).sigmoid() * (features[0] - features[1]) @ centred
    assert -(descent @ rise).item() == pytest.approx(predicted.item(), abs=1e-12)


def test_bpr_ends_at_the_log_ratio_of_accepted_samples_to_negatives() -> None:
    negatives = REFERENCE.flip(0) ** 0.5

    def loss(feedback: Feedback) -> Tensor:
        return bpr(feedback._replace(reject=negatives[None]), pairs="labels", beta=1.0).loss

    optimum = (conditioned(SOFT) / negatives).log()
    assert gradient(loss, optimum, SOFT).abs().max() < 3e-16


@pytest.mark.parametrize("epsilon", [0.1, 0.4])
def test_robust_dpo_is_unbiased_over_swapped_pairs(epsilon: float) -> None:
    assert PAIRS.score is not None
    swapped = PAIRS._replace(score=-PAIRS.score)
    kept, flipped = (
        robust_dpo(f, pairs=BEST, beta=0.5, epsilon=epsilon).loss for f in (PAIRS, swapped)
    )
    mean = (1 - epsilon) * kept + epsilon * flipped
    torch.testing.assert_close(mean, dpo(PAIRS, beta=0.5).loss, atol=1e-14, rtol=0)


def test_npo_and_altpo_become_linear_as_beta_goes_to_0() -> None:
    linear = torch.tensor([[-1.0, 1.0]]).double().expand(4, 2)
    found = slopes(lambda f: altpo(f, pairs=BEST, beta=1e-5, retain=0.0).loss, PAIRS)
    torch.testing.assert_close(found, linear, atol=1e-4, rtol=0)
    found = slopes(lambda f: npo(f, beta=1e-5).loss, PAIRS)
    # A mean over two samples, of which the second is rejected.
    torch.testing.assert_close(2 * found, linear.clamp(min=0), atol=1e-4, rtol=0)


def with_lengths(feedback: Feedback, lengths: list[int]) -> Feedback:
    """Give each context's samples these numbers of tokens."""
    owner = torch.arange(feedback.logp.numel()).repeat_interleave(
        torch.tensor(lengths * len(feedback.logp))
    )
    return feedback._replace(tokens=TokenFeedback(owner.double(), owner.double(), owner))


def test_slopes_of_losses_per_token() -> None:
    feedback = with_lengths(PAIRS, [3, 2])
    mean, other = BETTER / 3, WORSE / 2
    found = slopes(lambda f: simnpo(f, beta=4.5, gamma=0.2).loss, feedback)
    torch.testing.assert_close(2 * found[:, 1], 2 * (4.5 * (other + 0.2)).sigmoid() / 2)
    o = mean - other - (1 - mean.exp()).log() + (1 - other.exp()).log()
    taper = 0.1 * (-o).sigmoid()
    found = slopes(lambda f: orpo(f, pairs=BEST, weight=0.1).loss, feedback)
    torch.testing.assert_close(3 * found[:, 0], -1 - taper / (1 - mean.exp()))
    torch.testing.assert_close(2 * found[:, 1], taper / (1 - other.exp()))


def test_slopes_of_kto_rpo_and_dpo_positive() -> None:
    z0, beta = numbers(0.1, 0.5, 0.0, 2.0), 0.6
    found = slopes(
        lambda f: kto(f, beta=beta, desirable=1.5, undesirable=0.7).loss,
        PAIRS._replace(reverse_kl=z0),
    )
    good, bad = ((beta * (x - z0)).sigmoid() for x in (BETTER, WORSE))
    expected = torch.stack([-1.5 * beta * good * (1 - good), 0.7 * beta * bad * (1 - bad)], 1)
    torch.testing.assert_close(2 * found, expected)
    taper = beta * (-beta * DELTA).sigmoid()
    found = slopes(lambda f: rpo(f, pairs=BEST, beta=beta, eta=0.3, per_token=False).loss, PAIRS)
    torch.testing.assert_close(found, torch.stack([-taper - 0.3 * beta, taper], 1))
    plain = rpo(PAIRS, pairs=BEST, beta=beta, eta=0.0, per_token=False).loss
    torch.testing.assert_close(plain, dpo(PAIRS, beta=beta).loss)
    risen = one_pair(-BETTER, WORSE)
    kept = dpo_positive(risen, pairs=BEST, beta=beta, penalty=50.0).loss
    torch.testing.assert_close(kept, dpo(risen, beta=beta).loss)


def test_simpo_of_one_token_is_dpo_with_a_margin() -> None:
    margin = dpo(one_pair(BETTER - 0.5, WORSE), beta=2.0).loss
    torch.testing.assert_close(simpo(PAIRS, pairs=BEST, beta=2.0, gamma=1.0).loss, margin)


def test_variational_bpr_of_one_pair_is_bpr_and_of_several_at_most_its_exact_form() -> None:
    for exact in (False, True):
        one = var_bpr(PAIRS, temperature_accepted=4.0, temperature_rejected=2.0, exact=exact)
        torch.testing.assert_close(one.loss, bpr(PAIRS, pairs=BEST, beta=1.0).loss)
    logp = torch.stack([BETTER, WORSE])
    accept = torch.tensor([[1, 1, 0, 0], [1, 0, 0, 0.0]]).double()
    several = Feedback(logp, torch.zeros(2).double(), accept, 1 - accept)
    plug_in, exactly = (
        var_bpr(several, temperature_accepted=4.0, temperature_rejected=4.0, exact=x).loss
        for x in (False, True)
    )
    assert plug_in < exactly


def test_neat_by_hand() -> None:
    # Context 1, 2 and 3 are ordered right or wrong by ℓ⁺ − ℓ⁻; the best is imitated.
    expected = ((-DELTA).clamp(min=0) - BETTER).mean()
    torch.testing.assert_close(neat(PAIRS, reward="score").loss, expected)
    equal = PAIRS._replace(score=torch.zeros(4, 2).double())
    torch.testing.assert_close(neat(equal, reward="score").loss, -BETTER.mean())
