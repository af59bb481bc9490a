"""The bandit's functions, policy, and what optimising it comes to."""

from pathlib import Path

import pytest
import torch
from torch.distributions import Independent, Normal

from suite.domains.bandit.functions import rosenbrock, schwefel, sphere
from suite.domains.bandit.policy import SMALLEST_STD, GaussianPolicy
from suite.train import train
from tests.conftest import ROOT


def test_every_function_is_zero_at_its_minimum_and_larger_beside_it() -> None:
    for function, place in ((sphere, 0.0), (rosenbrock, 1.0), (schwefel, 420.968746)):
        x = torch.full((10,), place, dtype=torch.float64)
        assert function(x).item() == pytest.approx(0.0, abs=1e-4)
        assert function(x + 0.1).item() > 1e-3


def test_values_of_the_functions_by_hand() -> None:
    x = torch.tensor([1.0, 2.0, 0.0])
    assert sphere(x).item() == 5.0
    # 100·(2−1)² + (1−1)² + 100·(0−4)² + (1−2)² = 100 + 0 + 1600 + 1
    assert rosenbrock(x).item() == 1701.0
    # 418.98289·1 − 100·sin(10) = 418.98289 + 54.40211
    assert schwefel(torch.tensor([100.0])).item() == pytest.approx(473.385, abs=1e-3)


def test_log_density_is_that_of_torch_summed_over_dimensions() -> None:
    policy = GaussianPolicy(torch.tensor([0.5, -1.0, 2.0]), initial_std=0.3)
    expected = Independent(Normal(policy.mean, 0.3 + SMALLEST_STD), 1)
    x = torch.randn(4, 2, 3, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(policy().log_prob(x), expected.log_prob(x))


def test_samples_are_detached() -> None:
    policy = GaussianPolicy(torch.zeros(3), initial_std=1.0)
    assert not policy.sample((2,), torch.Generator()).requires_grad


@pytest.mark.parametrize("feedback", ["positive", "negative", "mixed"])
@pytest.mark.parametrize("function", ["sphere", "rosenbrock", "schwefel"])
def test_every_mode_optimises_every_function(tmp_path: Path, function: str, feedback: str) -> None:
    from suite.config.loading import load

    config = load(
        ROOT / f"configs/bandit/{function}.yaml",
        [f"feedback={feedback}", f"results_dir={tmp_path}", "trainer.steps=1200"],
    )
    summary = train(config)
    # All scores are negative: the distance to the optimum has at least shrunk by a quarter.
    assert summary["score"] > 0.75 * summary["start_score"]
