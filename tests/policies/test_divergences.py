"""Closed forms against torch.distributions."""

import torch
from torch.distributions import Categorical, Independent, Normal, kl_divergence

from suite.policies.divergences import categorical_kl, gaussian_kl

generator = torch.Generator().manual_seed(0)
MEAN = torch.randn(2, 3, 5, generator=generator, dtype=torch.float64)
STD = torch.rand(2, 3, 5, generator=generator, dtype=torch.float64) + 0.1


def test_gaussian_parts_sum_to_the_divergence_of_torch() -> None:
    parts = gaussian_kl((MEAN[0], STD[0]), (MEAN[1], STD[1]))
    p, q = (Independent(Normal(MEAN[i], STD[i]), 1) for i in (0, 1))
    torch.testing.assert_close(parts.total(), kl_divergence(p, q))
    assert parts.mean.shape == MEAN[0].shape


def test_the_covariance_part_is_the_divergence_of_equal_means() -> None:
    parts = gaussian_kl((MEAN[0], STD[0]), (MEAN[1], STD[1]))
    p, q = (Independent(Normal(MEAN[0], STD[i]), 1) for i in (0, 1))
    torch.testing.assert_close(parts.covariance.sum(-1), kl_divergence(p, q))
    torch.testing.assert_close(
        parts.total(covariance_weight=7), parts.mean.sum(-1) + 7 * kl_divergence(p, q)
    )


def test_categorical_is_the_divergence_of_torch_first_argument_first() -> None:
    p, q = MEAN[0].log_softmax(-1), MEAN[1].log_softmax(-1)
    expected = kl_divergence(Categorical(logits=p), Categorical(logits=q))
    torch.testing.assert_close(categorical_kl(p, q), expected)
    assert not torch.allclose(categorical_kl(q, p), expected)


def test_outcomes_impossible_under_p_contribute_nothing() -> None:
    p = torch.tensor([0.5, 0.5, 0.0], dtype=torch.float64).log()
    q = torch.tensor([0.25, 0.25, 0.5], dtype=torch.float64).log()
    torch.testing.assert_close(categorical_kl(p, q), torch.tensor(2.0, dtype=torch.float64).log())
