"""The smallest β of Gaussians, and the means of selected samples that it follows from."""

import math

import numpy as np
import pytest

from suite.objectives.bounds import above_average_mean, smallest_gaussian_beta, top_mean


def test_m_of_the_best_two_of_four_is_the_papers() -> None:
    # Order statistics of four normals: 1.02938 and 0.29701; their mean is 0.66319.
    assert top_mean(4, 2) == pytest.approx((1.02938 + 0.29701) / 2, abs=1e-5)
    assert top_mean(2, 1) == pytest.approx(1 / math.sqrt(math.pi), abs=1e-9)


def test_the_smallest_beta_of_a_gaussian_by_hand() -> None:
    # w = 1: β = m + 1 − 2α.
    assert smallest_gaussian_beta(0.66, 0.0, 1.0) == pytest.approx(1.66)
    assert smallest_gaussian_beta(0.66, 0.5, 1.0) == pytest.approx(0.66)
    assert smallest_gaussian_beta(0.66, 1.0, 1.0) == 0.0
    # w = 100, α = ½: β·100·β = .66², so β = .066; α = 0: (β − 1)(100β − 1) = .4356.
    assert smallest_gaussian_beta(0.66, 0.5, 100.0) == pytest.approx(0.066)
    beta = smallest_gaussian_beta(0.66, 0.0, 100.0)
    assert (beta - 1) * (100 * beta - 1) == pytest.approx(0.4356)
    assert beta > 1
    # w = 0, α = 1: (1 + β)·1 > m² always; α = .75: (.5 + β)·.5 > .4356 from β = .3712 on.
    assert smallest_gaussian_beta(0.66, 1.0, 0.0) == 0.0
    assert smallest_gaussian_beta(0.66, 0.75, 0.0) == pytest.approx(0.3712)
    assert smallest_gaussian_beta(0.66, 0.5, 0.0) == math.inf


def test_m_of_what_exceeds_the_mean_of_its_group() -> None:
    """theory §5, against a million draws: the standard error is below .001."""
    z = np.random.default_rng(0).standard_normal((250_000, 4))
    accepted = z >= z.mean(1, keepdims=True)
    assert above_average_mean(4) == pytest.approx(2 * (z * accepted).mean(), abs=0.003)
    assert above_average_mean(4) == pytest.approx(0.69099, abs=1e-5)
