"""PMPO against closed forms: docs/theory.md gives the optimum, the bound and the gradients."""

import math

import pytest
import torch
from scipy import stats
from torch import Tensor

from suite.divergences import categorical_kl, gaussian_kl
from suite.domains.bandit.theory import top_mean
from suite.feedback import Feedback, Shares
from suite.objectives.config import PMPOConfig
from suite.objectives.pmpo import bind, effective_mass, pmpo, smallest_beta

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


def test_the_loss_is_equation_10_computed_by_hand() -> None:
    # Two contexts, K = 3; log-probabilities −1, −2, −4 and −3, −1, −2.
    # Accepted: mean(−1, −2) = −1.5 and −3, mean −2.25; rejected: −4 and mean(−1, −2) = −1.5,
    # mean −2.75; KL: mean(.5, .1) = .3. With α = .25 and β = 2:
    # loss = −.25·(−2.25) + .75·(−2.75) + 2·.3 = .5625 − 2.0625 + .6 = −.9
    feedback = Feedback(
        logp=torch.tensor([[-1.0, -2.0, -4.0], [-3.0, -1.0, -2.0]]),
        kl=torch.tensor([0.5, 0.1]),
        accept=torch.tensor([[1.0, 1.0, 0.0], [1.0, 0.0, 0.0]]),
        reject=torch.tensor([[0.0, 0.0, 1.0], [0.0, 1.0, 1.0]]),
    )
    terms = pmpo(feedback, alpha=0.25, beta=2.0)
    assert terms.accepted.item() == pytest.approx(0.5625)
    assert terms.rejected.item() == pytest.approx(-2.0625)
    assert terms.anchor.item() == pytest.approx(0.6)
    assert terms.loss.item() == pytest.approx(-0.9)
    assert terms.effective_mass.item() == pytest.approx(2 * 0.25 - 1 + 2)


def test_shares_divide_sums_by_the_data_sets_class_shares() -> None:
    # Three unpaired rows, K = 1: accepted −1 and −3, rejected −2; shares ½ and ¼.
    # accepted mean: (−1 − 3)/3 / .5 = −8/3; rejected: −2/3 / .25 = −8/3
    feedback = Feedback(
        logp=torch.tensor([[-1.0], [-2.0], [-3.0]]),
        kl=torch.zeros(3),
        accept=torch.tensor([[1.0], [0.0], [1.0]]),
        reject=torch.tensor([[0.0], [1.0], [0.0]]),
    )
    terms = pmpo(feedback, alpha=0.5, beta=0.0, shares=Shares(0.5, 0.25))
    assert terms.accepted.item() == pytest.approx(0.5 * 8 / 3)
    assert terms.rejected.item() == pytest.approx(-0.5 * 8 / 3)


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
    kl = sum(gaussian_kl(0 * one[None], one[None], mean[None], std[None]))
    return Feedback(
        logp[None], kl.reshape(1), (density * in_top_two)[None], (density * (1 - in_top_two))[None]
    )


@pytest.mark.parametrize(("alpha", "beta"), [(1.0, 0.0), (0.5, 1.0), (0.0, 2.0), (0.5, 2.0)])
def test_the_gaussian_optimum_is_the_closed_form(alpha: float, beta: float) -> None:
    """theory §5: μ* = (m/M)·σ_ref and σ*² = (1 − (m/M)²)·σ_ref² with m = .6633."""
    mean = torch.zeros((), dtype=torch.float64, requires_grad=True)
    log_std = torch.zeros((), dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([mean, log_std], line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = pmpo(gaussian_feedback(mean, log_std.exp()), alpha=alpha, beta=beta).loss
        loss.backward()
        return loss

    for _ in range(5):
        optimizer.step(closure)
    ratio = 0.66326 / (2 * alpha - 1 + beta)
    assert mean.item() == pytest.approx(ratio, abs=1e-4)
    assert log_std.exp().item() == pytest.approx(math.sqrt(1 - ratio**2), abs=1e-4)


def test_m_of_the_best_two_of_four_is_the_papers() -> None:
    # Order statistics of four normals: 1.02938 and 0.29701; their mean is 0.66319.
    assert top_mean(4, 2) == pytest.approx((1.02938 + 0.29701) / 2, abs=1e-5)
    assert top_mean(2, 1) == pytest.approx(1 / math.sqrt(math.pi), abs=1e-9)


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
    sum(gaussian_kl(mean.detach(), std.detach(), mean, std)).backward()
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


def random_feedback(dtype: torch.dtype = torch.float64, contexts: int = 8) -> Feedback:
    generator = torch.Generator().manual_seed(0)
    logp = -3 * torch.rand(contexts, 4, generator=generator, dtype=torch.float64)
    accept = (torch.rand(contexts, 4, generator=generator) > 0.5).double()
    kl = torch.rand(contexts, generator=generator, dtype=torch.float64)
    return Feedback(
        logp.to(dtype).requires_grad_(True), kl.to(dtype), accept.to(dtype), (1 - accept).to(dtype)
    )


def test_alpha_one_gives_rejected_samples_no_gradient_and_alpha_zero_accepted_ones_none() -> None:
    feedback = random_feedback()
    pmpo(feedback, alpha=1.0, beta=0.0).loss.backward()
    assert (feedback.logp.grad[feedback.reject > 0] == 0).all()
    assert (feedback.logp.grad[feedback.accept > 0] < 0).all()
    feedback = random_feedback()
    pmpo(feedback, alpha=0.0, beta=0.0).loss.backward()
    assert (feedback.logp.grad[feedback.accept > 0] == 0).all()
    assert (feedback.logp.grad[feedback.reject > 0] > 0).all()


@pytest.mark.parametrize("shares", [None, Shares(0.5, 0.5), Shares(1.0, 0.0)])
def test_an_empty_class_contributes_zero_and_a_finite_gradient(shares: Shares | None) -> None:
    feedback = random_feedback()
    only_accepted = feedback._replace(
        accept=torch.ones_like(feedback.accept), reject=torch.zeros_like(feedback.reject)
    )
    terms = pmpo(only_accepted, alpha=0.5, beta=0.0, shares=shares)
    terms.loss.backward()
    assert terms.rejected.item() == 0.0
    assert feedback.logp.grad.isfinite().all()


def test_all_weights_zero_leave_the_anchor_alone() -> None:
    feedback = random_feedback()
    nothing = torch.zeros_like(feedback.accept)
    terms = pmpo(feedback._replace(accept=nothing, reject=nothing), alpha=0.5, beta=2.0)
    assert terms.loss.item() == pytest.approx(2 * feedback.kl.mean().item())
    terms.loss.backward()
    assert (feedback.logp.grad == 0).all()


@pytest.mark.parametrize("shares", [None, Shares(0.6, 0.4)])
def test_splitting_a_batch_gives_the_same_gradient(shares: Shares | None) -> None:
    whole = random_feedback()
    pmpo(whole, alpha=0.3, beta=1.5, shares=shares).loss.backward()
    parts = random_feedback()
    for i in range(8):  # batch size 1 × 8 equals 8 × 1
        part = Feedback(*(t[i : i + 1] for t in parts[:4]))
        (pmpo(part, alpha=0.3, beta=1.5, shares=shares).loss / 8).backward()
    torch.testing.assert_close(parts.logp.grad, whole.logp.grad, atol=1e-14, rtol=0)


def test_order_of_samples_and_contexts_does_not_matter() -> None:
    feedback = random_feedback()
    shuffled = Feedback(*(t.flip(0) for t in feedback[:4]))
    shuffled = shuffled._replace(
        logp=shuffled.logp.flip(1), accept=shuffled.accept.flip(1), reject=shuffled.reject.flip(1)
    )
    first = pmpo(feedback, alpha=0.3, beta=1.5).loss.item()
    assert pmpo(shuffled, alpha=0.3, beta=1.5).loss.item() == pytest.approx(first, abs=1e-12)


def test_bf16_is_close_to_fp32() -> None:
    precise = pmpo(random_feedback(torch.float32), alpha=0.5, beta=1.0).loss
    rough = pmpo(random_feedback(torch.bfloat16), alpha=0.5, beta=1.0).loss
    assert rough.float().item() == pytest.approx(precise.item(), abs=0.02)


def test_shapes_that_would_broadcast_are_refused() -> None:
    feedback = random_feedback()
    with pytest.raises(ValueError, match=r"must be \[B, K\] and kl \[B\], found .*\(8, 1\)"):
        pmpo(feedback._replace(accept=feedback.accept[:, :1]), alpha=0.5, beta=1.0)
    with pytest.raises(ValueError, match=r"kl \[B\]"):
        pmpo(feedback._replace(kl=feedback.kl.sum()), alpha=0.5, beta=1.0)


@pytest.mark.parametrize(
    ("alpha", "beta", "name"), [(1.1, 1, "alpha"), (-0.1, 1, "alpha"), (0.5, -1, "beta")]
)
def test_weights_out_of_range_are_refused(alpha: float, beta: float, name: str) -> None:
    with pytest.raises(ValueError, match=name):
        pmpo(random_feedback(), alpha=alpha, beta=beta)


def test_auto_beta_is_margin_times_the_bound_and_never_warns() -> None:
    settings = PMPOConfig(beta="auto", margin=1.1)
    objective = bind(settings, "negative")
    shares = Shares(0.4, 0.6)
    assert objective.beta(shares) == pytest.approx(1.1 / 0.6)
    assert objective.warning(shares) is None
    assert bind(settings, "positive").beta(shares) == 0.0
    terms = objective(random_feedback(), shares)
    assert terms.effective_mass.item() == pytest.approx(1.1 / 0.6 - 1)


def test_shares_that_vanish_keep_beta_and_loss_finite_by_the_same_floor() -> None:
    shares = Shares(1.0, 0.0)
    objective = bind(PMPOConfig(), "mixed")
    feedback = random_feedback()
    assert objective.warning(shares) is None
    assert objective.beta(Shares(1.0, 1e-3)) == pytest.approx(500.0)
    terms = objective(feedback, shares)
    rejected = (feedback.logp * feedback.reject).mean().item()
    assert terms.rejected.item() == pytest.approx(0.5 * rejected / 1e-3, rel=1e-6)
    assert terms.anchor.item() == pytest.approx(500 * feedback.kl.mean().item(), rel=1e-6)


def test_a_beta_below_the_bound_warns_with_both_numbers_unless_rejected_samples_are_hidden() -> (
    None
):
    shares = Shares(0.5, 0.5)
    warning = bind(PMPOConfig(beta=1.0), "negative").warning(shares)
    assert warning is not None
    assert "objective.beta=1 is below (1−α)/Z0 = 2" in warning
    assert bind(PMPOConfig(beta=0.0), "positive").warning(shares) is None
    assert bind(PMPOConfig(beta=1.0), "mixed").warning(shares) is None
