"""The function itself: equation 10 by hand, limits, splitting, precision, bad input, binding."""

import itertools

import pytest
import torch

from suite.config.fields import ConfigError
from suite.domains.bandit.online_config import BanditConfig
from suite.domains.language.online_config import LMConfig
from suite.feedback.feedback import Feedback, Shares
from suite.objectives.bounds import smallest_beta
from suite.objectives.config import PMPOConfig
from suite.objectives.pmpo import SCARCE_REJECTIONS, bind, pmpo
from suite.policies.divergences import GaussianKL


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
    objective = bind(settings, "negative", None)
    shares = Shares(0.4, 0.6)
    assert objective.beta(shares) == pytest.approx(1.1 / 0.6)
    assert objective.warning(shares) is None
    assert bind(settings, "positive", None).beta(shares) == 0.0
    terms = objective(random_feedback(), shares)
    assert terms.effective_mass.item() == pytest.approx(1.1 / 0.6 - 1)


@pytest.mark.parametrize("beta", ["auto", 2.0])
def test_rejections_that_vanish_leave_positive_feedback(beta: str | float) -> None:
    feedback, settings = random_feedback(), PMPOConfig(beta=beta)
    mixed, positive = bind(settings, "mixed", None), bind(settings, "positive", None)
    accepted = feedback._replace(reject=torch.zeros_like(feedback.reject))
    alone = Shares(1.0, 0.0)
    assert mixed(accepted, alone).loss == positive(accepted, alone).loss
    assert mixed.warning(alone) is None


@pytest.mark.parametrize("mode", ["mixed", "negative"])
@pytest.mark.parametrize("margin", [1.0, 1.5])
def test_beta_by_itself_has_a_ceiling_stays_above_its_bound_and_has_no_jumps(
    mode: str, margin: float
) -> None:
    objective = bind(PMPOConfig(margin=margin), mode, None)
    shares = [Shares(1 - z, z) for z in torch.linspace(0, 1, 10_001, dtype=torch.float64).tolist()]
    betas = [objective.beta(s) for s in shares]
    alphas = [objective.alpha_under(s) for s in shares]
    assert betas[0] == 0.0
    assert alphas[0] == 1.0
    assert max(betas) == pytest.approx(margin * (1 - objective.alpha) / SCARCE_REJECTIONS)
    bounds = [smallest_beta(a, s.reject) for a, s in zip(alphas, shares, strict=True)]
    assert all(b >= margin * bound for b, bound in zip(betas, bounds, strict=True))
    steps = [abs(a - b) for a, b in itertools.pairwise(betas)]
    assert max(steps) < 0.02 * max(betas)
    assert objective.alpha_under(Shares(0.95, 0.05)) == objective.alpha, "exactly, where it counts"


def test_the_ceiling_is_told() -> None:
    warning = bind(PMPOConfig(margin=1.5), "mixed", None).warning(Shares(0.999, 0.001))
    assert warning is not None
    assert "objective.beta=auto would be 750, as 0.10% of the samples are rejected" in warning
    assert bind(PMPOConfig(), "positive", None).warning(Shares(0.999, 0.001)) is None
    assert bind(PMPOConfig(), "mixed", None).warning(Shares(0.9, 0.1)) is None


def test_a_heavy_context_weighs_the_same_in_labels_and_kl_and_its_scale_is_left_to_the_domain() -> (
    None
):
    feedback, shares = random_feedback(), Shares(0.5, 0.4)
    contexts = len(feedback.kl)
    weight = torch.linspace(0, 3, contexts)
    for settings in (PMPOConfig(), PMPOConfig(normalization="context", beta=1.0)):
        objective = bind(settings, "mixed", None)
        whole = objective(feedback._replace(weight=weight), shares)
        parts = [
            objective(Feedback(*(f[i : i + 1] for f in feedback[:4])), shares)
            for i in range(contexts)
        ]
        for name in ("accepted", "rejected", "anchor", "loss"):
            mean = sum(w * getattr(p, name) for w, p in zip(weight, parts, strict=True)) / contexts
            torch.testing.assert_close(getattr(whole, name), mean)


def test_a_beta_below_the_bound_warns_with_both_numbers_unless_rejected_samples_are_hidden() -> (
    None
):
    shares = Shares(0.5, 0.5)
    warning = bind(PMPOConfig(beta=1.0), "negative", None).warning(shares)
    assert warning is not None
    assert "objective.beta=1 is below (1−α)/Z0 = 2" in warning
    assert bind(PMPOConfig(beta=0.0), "positive", None).warning(shares) is None
    assert bind(PMPOConfig(beta=1.0), "mixed", None).warning(shares) is None


def test_the_covariance_weight_multiplies_only_the_covariance_part_by_hand() -> None:
    # Two contexts, two dimensions: mean parts .1 + .2 and .3 + .4, covariance parts .01 + .02 and
    # .03 + .04. Weight 10: (.3 + .3 + .7 + .7)/2 = 1.0; β = 2.
    parts = GaussianKL(
        torch.tensor([[0.1, 0.2], [0.3, 0.4]]), torch.tensor([[0.01, 0.02], [0.03, 0.04]])
    )
    feedback = random_feedback(torch.float32, contexts=2)._replace(kl=parts.total(), kl_parts=parts)
    assert pmpo(feedback, alpha=0.5, beta=2.0, covariance_weight=10).anchor.item() == pytest.approx(
        2.0
    )
    # Weight 1 is the divergence itself: (.33 + .77)/2 · 2.
    assert pmpo(feedback, alpha=0.5, beta=2.0).anchor.item() == pytest.approx(1.1)


def test_a_covariance_weight_needs_the_parts_of_the_divergence() -> None:
    with pytest.raises(ValueError, match=r"covariance_weight needs feedback\.kl_parts"):
        pmpo(random_feedback(), alpha=0.5, beta=1.0, covariance_weight=10)
    with pytest.raises(ConfigError, match=r"covariance_weight=10 needs a Gaussian policy"):
        PMPOConfig(covariance_weight=10).check("mixed", LMConfig())
    PMPOConfig(covariance_weight=10).check("mixed", BanditConfig())
