"""Reverse KL and top-k statistics of the fused head, which change nothing where not asked for."""

import math
from itertools import product

import pytest
import torch
from torch import Tensor

from suite.domains.language import head as module
from suite.domains.language.head import Head, Statistics, token_statistics
from suite.domains.language.head_extras import TOP, Extra
from tests.domains.language.test_head import KINDS, make, plain

EXTRAS: tuple[Extra, ...] = ("top_entropy", "reverse_kl", "entropy", "top_mass")
T, H = 13, 5


def drawn(kind: str, vocabulary: int, seed: int = 0) -> tuple[Tensor, Head, Tensor, Head, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    head = make(KINDS[kind], vocabulary + 2, H, generator)
    reference = make(KINDS[kind], vocabulary, H + 1, generator)
    hidden, reference_hidden = (
        torch.randn(T, size, generator=generator, dtype=torch.float64) for size in (H, H + 1)
    )
    targets = torch.randint(vocabulary, (T,), generator=generator)
    return hidden.requires_grad_(), head, reference_hidden, reference, targets


@pytest.mark.parametrize("vocabulary", [4, TOP, 37])
@pytest.mark.parametrize("divergence", ["forward", "reverse"])
@pytest.mark.parametrize("kind", ["plain", "all"])
def test_they_are_those_of_all_logits_for_any_size_of_a_chunk(
    kind: str, divergence: str, vocabulary: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = drawn(kind, vocabulary)
    hidden, head, reference_hidden, reference, _ = given
    p = plain(hidden, head, vocabulary).detach()
    q = plain(reference_hidden, reference, vocabulary).detach()
    top = p.sort(-1, descending=True).values[:, :TOP]
    mass = top.exp().sum(-1)
    among = top.exp() / mass[:, None]
    expected = {
        "reverse_kl": (p.exp() * (p - q)).sum(-1),
        "entropy": -(p.exp() * p).sum(-1),
        "top_mass": mass,
        "top_entropy": -(among * among.log()).sum(-1),
    }
    for tokens, names in product((1, 5, 100), (EXTRAS, EXTRAS[1:2], EXTRAS[3:])):
        monkeypatch.setattr(module, "CHUNK", tokens * vocabulary)
        found = token_statistics(*given, divergence=divergence, extra=names)
        assert tuple(found.extra) == names
        for name, values in found.extra.items():
            assert not values.requires_grad
            torch.testing.assert_close(values, expected[name], atol=1e-10, rtol=0)


@pytest.mark.parametrize("divergence", ["forward", "reverse"])
def test_asking_changes_no_bit_of_the_other_results_or_of_the_gradient(divergence: str) -> None:
    hidden, head, reference_hidden, reference, targets = drawn("all", 37)
    leaves = (hidden, head.weight, head.bias)

    def results(extra: tuple[Extra, ...]) -> list[Tensor]:
        found = token_statistics(
            *(hidden, head, reference_hidden, reference, targets),
            divergence=divergence,
            extra=extra,
        )
        loss = (found.logp * torch.linspace(-1, 1, T) + 0.3 * found.kl).sum()
        return [*found[:3], *torch.autograd.grad(loss, leaves)]

    for without, asked in zip(results(()), results(EXTRAS), strict=True):
        assert torch.equal(without, asked)


def test_a_uniform_policy_has_the_mass_and_the_entropy_of_k_among_v_tokens() -> None:
    for vocabulary in (3, TOP, 1000):
        head, states = Head(torch.zeros(vocabulary, H)), torch.randn(T, H)
        targets = torch.zeros(T, dtype=torch.long)
        found = token_statistics(states, head, states, head, targets, extra=EXTRAS).extra
        k = min(TOP, vocabulary)
        torch.testing.assert_close(found["top_mass"], torch.full((T,), k / vocabulary))
        torch.testing.assert_close(found["top_entropy"], torch.full((T,), math.log(k)))
        assert found["reverse_kl"].eq(0).all()


@pytest.mark.parametrize("scale", [1.0, 100.0])
def test_equal_models_have_no_reverse_kl_and_extreme_logits_are_finite(scale: float) -> None:
    generator = torch.Generator().manual_seed(0)
    head = Head(scale * torch.randn(50, H, generator=generator))
    states = scale * torch.randn(T, H, generator=generator)
    found = token_statistics(
        *(states, head, states, Head(head.weight.clone()), torch.arange(T)), extra=EXTRAS
    ).extra
    assert found["reverse_kl"].eq(0).all()
    assert all(values.isfinite().all() and (values >= 0).all() for values in found.values())
    assert found["top_mass"].max() <= 1


def test_under_autocast_all_statistics_have_the_precision_of_the_head() -> None:
    generator = torch.Generator().manual_seed(0)
    head, reference = (Head(torch.randn(50, H, generator=generator)) for _ in range(2))
    states = torch.randn(T, H, generator=generator).bfloat16()
    given = (states, head, states.flip(0), reference, torch.arange(T))
    exact = token_statistics(states.float(), head, states.flip(0).float(), *given[3:], extra=EXTRAS)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = token_statistics(*given, extra=EXTRAS)
    torch.testing.assert_close(found, exact, rtol=1e-5, atol=1e-5)


def test_parts_of_a_batch_join_to_the_whole() -> None:
    hidden, head, reference_hidden, reference, targets = drawn("plain", 37)
    whole = token_statistics(hidden, head, reference_hidden, reference, targets, extra=EXTRAS)
    parts = [
        token_statistics(hidden[s], head, reference_hidden[s], reference, targets[s], extra=EXTRAS)
        for s in (slice(0, 4), slice(4, 5), slice(5, T))
    ]
    joined = Statistics.joined(parts).map(lambda values: 2 * values)
    for found, expected in zip(joined[:3], whole[:3], strict=True):
        torch.testing.assert_close(found, 2 * expected)
    assert joined.extra.keys() == whole.extra.keys()
    for name, expected in whole.extra.items():
        torch.testing.assert_close(joined.extra[name], 2 * expected)
