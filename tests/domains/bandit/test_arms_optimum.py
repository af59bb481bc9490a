"""Where training on the bandit with arms ends: in the optimum of theory §1, and at the peak."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from suite.config.loading import load
from suite.domains.bandit.categorical import Arms, ArmsBatch
from suite.feedback.feedback import Labels
from suite.feedback.labelling import label_by_threshold
from suite.objectives.base import build_objective
from suite.runs.folder import RunFolder
from suite.train import train
from tests.domains.bandit.made_arms import HIDDEN, domain_of, move


def every_arm(domain: Arms) -> ArmsBatch:
    """A batch whose means are the expectations under the reference."""
    number = len(domain.rewards)
    weight = number * domain.reference.probabilities()[None]
    labels = label_by_threshold(domain.rewards[None], domain.settings.threshold or 0.0)
    weighted = Labels(*(weight * label for label in labels))
    return ArmsBatch(torch.arange(number)[None], domain.rewards[None], weighted)


def target(domain: Arms, alpha: float, beta: float) -> Tensor:
    """Return w/M of theory §1, in double precision, [N]."""
    reference, good = domain.reference.probabilities(), domain.rewards >= domain.settings.threshold
    accepted, rejected = reference * good, reference * ~good
    w = alpha * accepted / accepted.sum() - (1 - alpha) * rejected / rejected.sum()
    return (w + beta * reference) / (2 * alpha - 1 + beta)


def strengths() -> list[tuple[float, float]]:
    """α, and β as a multiple of its bound (of 1 for positives alone, which have none)."""
    return [(alpha, margin) for alpha in (1.0, 0.5, 0.0) for margin in (1.0, 1.7)]


def objective_of(domain: Arms, alpha: float, margin: float) -> tuple[object, float]:
    beta = margin * ((1 - alpha) / domain.shares.reject if alpha < 1 else 1.0)
    given = [f"objective.alpha={alpha}", f"objective.beta={beta}"]
    config = load(HIDDEN, ["domain.function=likely_peak", *given])
    return build_objective(config.objective, "mixed", domain.dimensions), beta


@pytest.mark.parametrize(("alpha", "margin"), strengths())
@pytest.mark.parametrize("seed", [0, 1])
def test_pmpo_with_exact_expectations_ends_at_w_over_m(
    alpha: float, margin: float, seed: int
) -> None:
    domain = domain_of(arms=9, threshold=0.3)
    move(domain, seed)
    objective, beta = objective_of(domain, alpha, margin)
    optimizer = torch.optim.LBFGS(
        domain.policy.parameters(), max_iter=300, tolerance_grad=1e-9, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss: Tensor = objective(domain.feedback(every_arm(domain)), domain.shares).loss
        loss.backward()
        return loss

    optimizer.step(closure)
    expected = target(domain, alpha, beta)
    torch.testing.assert_close(domain.policy.probabilities(), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("alpha", "margin"), strengths())
@pytest.mark.parametrize("seed", [0, 1])
def test_pmpo_on_samples_ends_at_the_accepted_mass_of_its_optimum(
    alpha: float, margin: float, seed: int
) -> None:
    domain = domain_of(arms=10, contexts=2048, threshold=0.3, seed=seed)
    objective, beta = objective_of(domain, alpha, margin)
    batches = iter(domain.train_dataloader())
    steps = 120
    optimizer = torch.optim.Adam(domain.policy.parameters(), lr=0.2)
    decay = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, steps)
    for _ in range(steps):
        optimizer.zero_grad()
        objective(domain.feedback(next(batches)), domain.shares).loss.backward()
        optimizer.step()
        decay.step()
    mass = (alpha + beta * domain.shares.accept) / (2 * alpha - 1 + beta)
    assert domain.evaluate()["accepted_mass"] == pytest.approx(mass, abs=0.02)
    assert target(domain, alpha, beta)[domain.rewards >= 0.3].sum() == pytest.approx(mass)


@pytest.mark.parametrize("feedback", ["positive", "negative", "mixed"])
def test_every_kind_of_feedback_finds_the_hidden_peak(feedback: str, tmp_path: Path) -> None:
    config = load(HIDDEN, [f"feedback={feedback}", "trainer.steps=200", f"results_dir={tmp_path}"])
    assert train(config)["score"] > 0.6
    last = RunFolder.of(config).metrics()[-1]
    assert last["eval/accepted_mass"] > 0.8
    assert last["eval/effective_arms"] < 60
