"""The statements of docs/theory.md, by autograd and by optimising policies to the closed forms."""

import itertools
import math

import pytest
import torch
from scipy import stats
from torch import Tensor

from suite.feedback.feedback import Feedback, Shares
from suite.objectives.bounds import (
    effective_mass,
    smallest_beta,
    smallest_gaussian_beta,
)
from suite.objectives.pmpo import pmpo
from suite.policies.divergences import GaussianKL, categorical_kl, gaussian_kl

# Five outcomes. Accepting outcome y with probability GOOD[y], the reference accepts with
# Z1 = .3·.9 + .25·.5 + .2·.2 + .15·.7 + .1·0 = .27 + .125 + .04 + .105 = .54, so Z0 = .46.
REFERENCE = torch.tensor([0.30, 0.25, 0.20, 0.15, 0.10], dtype=torch.float64)
GOOD = torch.tensor([0.9, 0.5, 0.2, 0.7, 0.0], dtype=torch.float64)
Z1, Z0 = 0.54, 0.46


def exact(logits: Tensor, good: Tensor = GOOD) -> Feedback:
    """Feedback whose weighted means are the exact expectations under the reference."""
    logp = logits.log_softmax(0)
    kl = categorical_kl(REFERENCE.log(), logp)
    return Feedback(logp[None], kl[None], (REFERENCE * good)[None], (REFERENCE * (1 - good))[None])


def optimum(alpha: float, beta: float, good: Tensor = GOOD) -> Tensor:
    """The policy that minimises the loss, found by L-BFGS over logits."""
    logits = torch.zeros(len(REFERENCE), dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([logits], max_iter=2000, tolerance_grad=1e-12, lr=0.5)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = pmpo(exact(logits, good), alpha=alpha, beta=beta).loss
        loss.backward()
        return loss

    for _ in range(5):
        optimizer.step(closure)
    return logits.detach().softmax(0)


def gradient(alpha: float, beta: float, good: Tensor = GOOD) -> Tensor:
    logits = torch.tensor([0.3, -0.2, 0.5, 0.1, -0.4], dtype=torch.float64, requires_grad=True)
    pmpo(exact(logits, good), alpha=alpha, beta=beta).loss.backward()
    assert logits.grad is not None
    return logits.grad


@pytest.mark.parametrize(("alpha", "beta"), [(1.0, 0.0), (1.0, 0.7), (0.5, 1.5), (0.0, 2.5)])
def test_the_optimum_is_w_over_m(alpha: float, beta: float) -> None:
    """theory §1: π* = w / M with w = α·p_a − (1−α)·p_r + β·π_ref and M = 2α − 1 + β."""
    accepted, rejected = REFERENCE * GOOD / Z1, REFERENCE * (1 - GOOD) / Z0
    w = alpha * accepted - (1 - alpha) * rejected + beta * REFERENCE
    assert (w >= 0).all()
    assert w.sum().item() == pytest.approx(effective_mass(alpha, beta))
    torch.testing.assert_close(optimum(alpha, beta), w / w.sum(), atol=2e-5, rtol=0)


def test_negatives_alone_give_the_reference_conditioned_on_success() -> None:
    """theory §3: α = 0 and β = 1/Z0 has the optimum p_ref(y|S=1), as has α = 1 and β = 0."""
    conditioned = REFERENCE * GOOD / Z1
    torch.testing.assert_close(optimum(0.0, 1 / Z0), conditioned, atol=2e-5, rtol=0)
    torch.testing.assert_close(optimum(1.0, 0.0), conditioned, atol=2e-5, rtol=0)


@pytest.mark.parametrize("alpha", [0.0, 0.25, 0.5, 1.0])
def test_smallest_beta_is_where_deterministic_labels_stop_being_bounded(alpha: float) -> None:
    """theory §2: β ≥ (1−α)/Z0 for deterministic labels; just below, one outcome has w < 0."""
    good = torch.tensor([1.0, 0.0, 1.0, 0.0, 1.0], dtype=torch.float64)
    z0 = 0.25 + 0.15
    beta = smallest_beta(alpha, z0)
    assert beta == pytest.approx((1 - alpha) / z0)

    def loss_with_rejected_suppressed_by(depth: float, beta: float) -> float:
        logits = torch.tensor([0.0, -depth, 0.0, 0.0, 0.0], dtype=torch.float64)
        return pmpo(exact(logits, good), alpha=alpha, beta=beta).loss.item()

    above = [loss_with_rejected_suppressed_by(d, beta * 1.01 + 0.01) for d in (1e2, 1e4)]
    assert above[1] > above[0]
    if alpha < 1:
        below = [loss_with_rejected_suppressed_by(d, beta * 0.99) for d in (1e2, 1e4, 1e6)]
        assert below[0] > below[1] > below[2]
        # The slope is the outcome's weight: −.01·β·π_ref(y) per nat.
        slope = (below[2] - below[1]) / (1e6 - 1e4)
        assert slope == pytest.approx(-0.01 * beta * 0.25, rel=1e-6)


@pytest.mark.parametrize(("alpha", "beta"), [(0.0, 3.0), (0.3, 2.0), (0.5, 0.4)])
def test_rejected_samples_equal_positives_only_with_a_smaller_beta(
    alpha: float, beta: float
) -> None:
    """theory §4: with all samples labelled, β' = β − (1−α)/Z0 up to the scale of the gradient."""
    scale = alpha + (1 - alpha) * Z1 / Z0  # what remains of p_a when p_r = (π_ref − Z1·p_a)/Z0
    reduced = beta - (1 - alpha) / Z0
    positives = gradient(1.0, 0.0)
    anchor = gradient(1.0, 1.0) - gradient(1.0, 0.0)
    expected = scale * positives + reduced * anchor
    torch.testing.assert_close(gradient(alpha, beta), expected, atol=1e-12, rtol=0)


def test_half_and_half_labels_make_the_three_modes_equal() -> None:
    """theory §4: (1, 0), (½, 1) and (0, 2) have the same gradient when Z0 = ½."""
    good = torch.tensor([1.0, 0.0, 1.0, 0.0, 0.0], dtype=torch.float64)  # .3 + .2 = .5
    reference = gradient(1.0, 0.0, good)
    torch.testing.assert_close(gradient(0.5, 1.0, good), reference, atol=1e-12, rtol=0)
    torch.testing.assert_close(gradient(0.0, 2.0, good), reference, atol=1e-12, rtol=0)


def gaussian_feedback(mean: Tensor, std: Tensor) -> Feedback:
    """Best 2 of 4 against worst 2 of 4 of N(0, 1), f increasing, by quadrature over outcomes."""
    z = torch.linspace(-9, 9, 6001, dtype=torch.float64)
    cdf = torch.from_numpy(stats.norm.cdf(z.numpy()))
    density = torch.from_numpy(stats.norm.pdf(z.numpy()))
    in_top_two = cdf**3 + 3 * (1 - cdf) * cdf**2  # none or one of the three others is larger
    logp = torch.distributions.Normal(mean, std, validate_args=False).log_prob(z)
    one = torch.ones((), dtype=torch.float64)
    parts = gaussian_kl((0 * one[None], one[None]), (mean[None], std[None]))
    labels = (density * in_top_two)[None], (density * (1 - in_top_two))[None]
    return Feedback(
        logp[None],
        parts.total().reshape(1),
        *labels,
        kl_parts=GaussianKL(*(p[None] for p in parts)),
    )


@pytest.mark.parametrize(("alpha", "beta"), [(1.0, 0.0), (0.5, 1.0), (0.0, 2.0), (0.5, 2.0)])
def test_the_gaussian_optimum_is_the_closed_form(alpha: float, beta: float) -> None:
    """theory §5: μ* = (m/M)·σ_ref and σ*² = (1 − (m/M)²)·σ_ref² with m = .6633."""
    mean, std = gaussian_optimum(alpha, beta, 1.0)
    ratio = 0.66326 / (2 * alpha - 1 + beta)
    assert mean == pytest.approx(ratio, abs=1e-4)
    assert std == pytest.approx(math.sqrt(1 - ratio**2), abs=1e-4)


def gaussian_optimum(alpha: float, beta: float, covariance_weight: float) -> tuple[float, float]:
    """Mean and deviation of the minimum, found numerically."""
    mean = torch.zeros((), dtype=torch.float64, requires_grad=True)
    log_std = torch.zeros((), dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([mean, log_std], line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        feedback = gaussian_feedback(mean, log_std.exp())
        weight = covariance_weight
        loss = pmpo(feedback, alpha=alpha, beta=beta, covariance_weight=weight).loss
        loss.backward()
        return loss

    for _ in range(5):
        optimizer.step(closure)
    return mean.item(), log_std.exp().item()


def test_below_the_gaussian_threshold_the_loss_falls_without_end() -> None:
    """theory §5: bounded iff M > m; with σ² = 1 − (μ − …) → 0 the loss diverges below."""

    def along_collapse(mass: float) -> list[float]:
        """Loss with the mean where the weighted mean is, as the deviation shrinks."""
        center = torch.tensor(0.6633 / mass, dtype=torch.float64)
        stds = [torch.tensor(s, dtype=torch.float64) for s in (1e-1, 1e-2, 1e-3)]
        return [
            pmpo(gaussian_feedback(center, s), alpha=0.0, beta=mass + 1).loss.item() for s in stds
        ]

    unbounded, bounded = along_collapse(0.60), along_collapse(0.72)
    assert unbounded[0] > unbounded[1] > unbounded[2]
    assert bounded[0] < bounded[1] < bounded[2]


def test_at_the_reference_the_kl_has_no_gradient() -> None:
    """theory §6."""
    logits = REFERENCE.log().clone().requires_grad_(True)
    categorical_kl(REFERENCE.log(), logits.log_softmax(0)).backward()
    torch.testing.assert_close(logits.grad, torch.zeros_like(REFERENCE), atol=1e-12, rtol=0)

    mean = torch.tensor([0.4, -1.0], dtype=torch.float64, requires_grad=True)
    std = torch.tensor([0.3, 2.0], dtype=torch.float64, requires_grad=True)
    gaussian_kl((mean.detach(), std.detach()), (mean, std)).total().backward()
    torch.testing.assert_close(mean.grad, torch.zeros(2, dtype=torch.float64))
    torch.testing.assert_close(std.grad, torch.zeros(2, dtype=torch.float64))


def test_the_reverse_kl_does_not_bound_the_rejected_term_and_is_refused() -> None:
    """theory §7: on fixed samples −log π grows past any multiple of KL(π ‖ π_ref)."""

    def loss(depth: float) -> float:
        logits = torch.tensor([0.0, 0.0, 0.0, 0.0, -depth], dtype=torch.float64)
        logp = logits.log_softmax(0)
        reverse = categorical_kl(logp, REFERENCE.log())
        return (logp[4] + 50 * reverse).item()  # α = 0, the last outcome rejected, β = 50

    assert loss(1e2) > loss(1e4) > loss(1e6)
    with pytest.raises(ValueError, match=r"reverse KL does not bound .* alpha=0.5"):
        pmpo(exact(REFERENCE.log()), alpha=0.5, beta=1.0, divergence="reverse")
    assert pmpo(exact(REFERENCE.log()), alpha=1.0, beta=1.0, divergence="reverse").loss.isfinite()


def test_the_closed_form_kl_has_the_gradient_that_a_sampled_one_lacks() -> None:
    """theory §8: E_π[∇(log π − log π_ref)] = 0; the closed form's gradient is π − π_ref."""
    logits = torch.tensor([0.3, -0.2, 0.5, 0.1, -0.4], dtype=torch.float64, requires_grad=True)
    policy = logits.softmax(0).detach()
    (policy * logits.log_softmax(0)).sum().backward()
    torch.testing.assert_close(logits.grad, torch.zeros_like(logits), atol=1e-12, rtol=0)
    logits.grad = None
    categorical_kl(REFERENCE.log(), logits.log_softmax(0)).backward()
    torch.testing.assert_close(logits.grad, policy - REFERENCE, atol=1e-12, rtol=0)


@pytest.mark.parametrize(("alpha", "beta"), [(1.0, 0.5), (0.0, 2.0), (0.5, 1.0)])
def test_the_token_gradient_is_one_softmax_per_model(alpha: float, beta: float) -> None:
    """theory §9: ∂L/∂logits = (c+b)·π − c·e_y − b·π_ref, c = α or −(1−α), b = β."""
    for accepted, c in ((1.0, alpha), (0.0, -(1 - alpha))):
        logits = torch.tensor([0.3, -0.2, 0.5, 0.1, -0.4], dtype=torch.float64, requires_grad=True)
        logp = logits.log_softmax(0)
        feedback = Feedback(
            logp[2].reshape(1, 1),
            categorical_kl(REFERENCE.log(), logp)[None],
            torch.tensor([[accepted]], dtype=torch.float64),
            torch.tensor([[1 - accepted]], dtype=torch.float64),
        )
        pmpo(feedback, alpha=alpha, beta=beta).loss.backward()
        chosen = torch.eye(5, dtype=torch.float64)[2]
        expected = (c + beta) * logits.detach().softmax(0) - c * chosen - beta * REFERENCE
        torch.testing.assert_close(logits.grad, expected, atol=1e-12, rtol=0)


@pytest.mark.parametrize("z0", [0.1, 0.5, 0.9])
def test_means_per_context_weigh_rare_rejections_up_to_k_times(z0: float) -> None:
    """theory §10: the expected weight of rejected outcomes is 1 − (1−Z0)^K; by shares it is 1."""
    per_context, by_shares = 0.0, 0.0
    for labels in itertools.product([0.0, 1.0], repeat=4):
        reject = torch.tensor([labels], dtype=torch.float64)
        probability = z0 ** sum(labels) * (1 - z0) ** (4 - sum(labels))
        for shares in (None, Shares(1 - z0, z0)):
            logp = torch.zeros(1, 4, dtype=torch.float64, requires_grad=True)
            feedback = Feedback(logp, torch.zeros(1, dtype=torch.float64), 1 - reject, reject)
            terms = pmpo(feedback, alpha=0.0, beta=0.0, shares=shares)
            weight = torch.autograd.grad(terms.rejected, logp)[0].sum().item()
            if shares is None:
                per_context += probability * weight
            else:
                by_shares += probability * weight
    assert per_context == pytest.approx(1 - (1 - z0) ** 4)
    assert by_shares == pytest.approx(1.0)


@pytest.mark.parametrize(("alpha", "beta"), [(0.5, 1.0), (0.0, 2.0), (0.5, 0.2), (1.0, 0.1)])
@pytest.mark.parametrize("weight", [0.5, 10.0, 100.0])
def test_a_covariance_weight_keeps_the_mean_and_holds_the_deviation(
    alpha: float, beta: float, weight: float
) -> None:
    """theory §11: μ* = m/M and σ*² = 1 − m²/(M·(c + w·β)), where that is positive."""
    m, c = 0.66326, 2 * alpha - 1
    mass, held = c + beta, c + weight * beta
    if beta < smallest_gaussian_beta(m, alpha, weight):
        assert mass * held < m * m
        return
    mean, std = gaussian_optimum(alpha, beta, weight)
    assert mean == pytest.approx(m / mass, abs=1e-3)
    assert std == pytest.approx(math.sqrt(1 - m * m / (mass * held)), abs=1e-3)
