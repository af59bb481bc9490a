"""MPO against numbers derived independently: dual, weights, constraints and their gradients."""

import math

import pytest
import torch
from scipy.optimize import minimize_scalar
from torch.distributions import Independent, Normal, kl_divergence

from suite.feedback.feedback import Feedback, Shares
from suite.objectives.config import MPOConfig
from suite.objectives.mpo import BoundMPO, Duals, Limits, mpo, temperature_dual
from suite.policies.gaussian import Gaussian, compare

generator = torch.Generator().manual_seed(0)


def randn(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


MEAN = randn(6, 2).requires_grad_(True)
STD = (randn(6, 2).exp() + 0.1).requires_grad_(True)
REFERENCE = Gaussian(randn(6, 2), randn(6, 2).exp() + 0.1)
SAMPLES = REFERENCE.mean[:, None] + REFERENCE.std[:, None] * randn(6, 8, 2)
SCORE = 3 * randn(6, 8)
LIMITS = Limits(0.1, 2.5e-3, 1e-6)


def duals(value: float, dimensions: int | None = 2) -> Duals:
    shape = () if dimensions is None else (dimensions,)
    parts = [torch.full(s, value, dtype=torch.float64) for s in ((), shape, shape)]
    return Duals(*(part.requires_grad_(True) for part in parts))


def feedback() -> Feedback:
    found = compare(Gaussian(MEAN, STD), REFERENCE, SAMPLES, "decoupled")
    label = (SCORE > 0).double()
    return Feedback(
        found.logp, found.kl.total(), label, 1 - label, found.reference_logp, SCORE, found.kl
    )


@pytest.mark.parametrize("epsilon", [0.02, 0.1, 0.5])
def test_the_temperature_that_minimises_the_dual_makes_the_divergence_epsilon(
    epsilon: float,
) -> None:
    def dual(log_temperature: float) -> float:
        return temperature_dual(SCORE, torch.tensor(math.exp(log_temperature)), epsilon).item()

    solved = math.exp(minimize_scalar(dual, bounds=(-5, 5), method="bounded").x)
    # At the optimum KL(w ‖ uniform) is ε on average over contexts.
    weights = (SCORE / solved).softmax(1)
    spent = (weights * (weights * 8).log()).sum(1).mean().item()
    assert spent == pytest.approx(epsilon, rel=1e-3)
    # Descent along the gradient of the bound objective comes to the same temperature.
    objective = BoundMPO(MPOConfig(epsilon=epsilon, temperature=1.0), dimensions=2)
    optimizer = torch.optim.LBFGS(objective.parameters(), line_search_fn="strong_wolfe")
    found = feedback()

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = objective(found, Shares(0.5, 0.5)).temperature_dual
        loss.backward()
        return loss

    for _ in range(5):
        optimizer.step(closure)
    assert objective.duals().temperature.item() == pytest.approx(solved, rel=0.01)


def test_weights_are_the_softmax_of_scores_by_hand() -> None:
    # Two samples, scores 0 and ln 3, η = 1: weights ¼ and ¾; log π −1 and −2.
    one = torch.zeros(1, 2, dtype=torch.float64)
    found = feedback()._replace(
        logp=torch.tensor([[-1.0, -2.0]], dtype=torch.float64),
        kl=torch.zeros(1, dtype=torch.float64),
        reference_logp=None,
        score=torch.tensor([[0.0, math.log(3)]], dtype=torch.float64),
        accept=one,
        reject=one,
    )
    terms = mpo(found, duals=duals(1.0), limits=LIMITS)
    assert terms.weighted.item() == pytest.approx(0.25 * 1 + 0.75 * 2)
    assert terms.largest_weight.item() == pytest.approx(0.75)


def test_terms_sum_to_the_loss_and_each_has_its_own_gradient() -> None:
    variables = duals(2.0)
    terms = mpo(feedback(), duals=variables, limits=LIMITS)
    parts = (terms.weighted, terms.constraints, terms.temperature_dual, terms.multiplier_duals)
    assert terms.loss.item() == pytest.approx(sum(p.item() for p in parts))

    def reaches(term: torch.Tensor) -> tuple[bool, ...]:
        inputs = (MEAN, STD, *variables)
        found = torch.autograd.grad(term, inputs, retain_graph=True, allow_unused=True)
        return tuple(g is not None and bool(g.abs().sum() > 0) for g in found)

    # in order: mean, std, temperature, mean multiplier, covariance multiplier
    assert reaches(terms.weighted) == (True, True, False, False, False)
    assert reaches(terms.constraints) == (True, True, False, False, False)
    assert reaches(terms.temperature_dual) == (False, False, True, False, False)
    assert reaches(terms.multiplier_duals) == (False, False, False, True, True)


def test_multipliers_rise_where_their_constraint_is_broken_and_fall_where_there_is_room() -> None:
    variables = duals(1.0)
    mpo(feedback(), duals=variables, limits=LIMITS).multiplier_duals.backward()
    assert (variables.mean.grad < 0).all()
    assert (variables.covariance.grad < 0).all()
    roomy = duals(1.0)
    mpo(feedback(), duals=roomy, limits=Limits(0.1, 1e3, 1e3)).multiplier_duals.backward()
    assert (roomy.mean.grad > 0).all()
    assert (roomy.covariance.grad > 0).all()


@pytest.mark.parametrize("dimensions", [None, 2])
def test_constraints_are_the_decoupled_divergences_of_torch(dimensions: int | None) -> None:
    terms = mpo(feedback(), duals=duals(3.0, dimensions), limits=LIMITS)
    reference = Independent(Normal(*REFERENCE), 1)
    moved = Independent(Normal(MEAN, REFERENCE.std), 1)
    widened = Independent(Normal(REFERENCE.mean, STD), 1)
    expected = [kl_divergence(reference, q).mean() for q in (moved, widened)]
    torch.testing.assert_close(terms.kl_mean, expected[0].detach())
    torch.testing.assert_close(terms.kl_covariance, expected[1].detach())
    torch.testing.assert_close(terms.constraints, 3 * (expected[0] + expected[1]))


def test_decoupled_log_probability_has_value_and_gradient_of_log_pi_at_the_reference() -> None:
    mean, std = (part.clone().requires_grad_(True) for part in REFERENCE)
    found = compare(Gaussian(mean, std), REFERENCE, SAMPLES, "decoupled")
    plain = compare(Gaussian(mean, std), REFERENCE, SAMPLES, "forward")
    torch.testing.assert_close(found.logp, plain.logp)
    for part in (mean, std):
        gradients = [torch.autograd.grad(c.logp.sum(), part)[0] for c in (found, plain)]
        torch.testing.assert_close(*gradients)
        found = compare(Gaussian(mean, std), REFERENCE, SAMPLES, "decoupled")
        plain = compare(Gaussian(mean, std), REFERENCE, SAMPLES, "forward")


@pytest.mark.parametrize("divergence", ["forward", "reverse"])
def test_comparisons_are_those_of_torch(divergence: str) -> None:
    found = compare(Gaussian(MEAN, STD), REFERENCE, SAMPLES, divergence)
    policy, reference = (Independent(Normal(*g), 1) for g in ((MEAN, STD), REFERENCE))
    pair = (reference, policy) if divergence == "forward" else (policy, reference)
    torch.testing.assert_close(found.kl.total(), kl_divergence(*pair))
    by_torch = policy.log_prob(SAMPLES.transpose(0, 1)).transpose(0, 1)
    torch.testing.assert_close(found.logp, by_torch)
    by_torch = reference.log_prob(SAMPLES.transpose(0, 1)).transpose(0, 1)
    torch.testing.assert_close(found.reference_logp, by_torch)


def test_the_start_values_are_those_of_the_settings() -> None:
    objective = BoundMPO(MPOConfig(), dimensions=3)
    found = objective.duals()
    assert found.temperature.item() == pytest.approx(10.0)
    assert found.mean.tolist() == pytest.approx([10.0] * 3)
    assert found.covariance.tolist() == pytest.approx([1000.0] * 3)
    assert BoundMPO(MPOConfig(per_dimension=False), dimensions=3).duals().mean.shape == ()


def test_without_scores_or_parts_it_says_what_is_missing() -> None:
    with pytest.raises(ValueError, match=r"needs feedback.score and feedback.kl_parts"):
        mpo(feedback()._replace(score=None), duals=duals(1.0), limits=LIMITS)
