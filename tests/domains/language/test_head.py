"""The fused head equals the plain computation, for every kind of head and any loss on top."""

import pytest
import torch
from torch import Tensor

from suite.domains.language import head as module
from suite.domains.language.head import Adapter, Head, token_statistics

KINDS = {
    "plain": Head(torch.empty(0)),
    "bias": Head(torch.empty(0), torch.empty(0)),
    "soft cap": Head(torch.empty(0), None, 1.0, 2.0),
    "scale": Head(torch.empty(0), None, 0.25),
    "adapter": Head(torch.empty(0), None, adapter=Adapter(torch.empty(0), torch.empty(0), 2.0)),
    "all": Head(
        *(torch.empty(0), torch.empty(0), 0.5, 3.0),
        Adapter(torch.empty(0), torch.empty(0), 2.0),
        0.7,
    ),
}
T, H, V = 11, 5, 7


def plain(hidden: Tensor, head: Head, vocabulary: int) -> Tensor:
    """Log-probabilities by the book, written without the suite."""
    logits = hidden @ head.weight[:vocabulary].t()
    if head.adapter is not None:
        down, up, scale = head.adapter
        logits = logits + scale * (hidden @ (up @ down)[:vocabulary].t())
    if head.bias is not None:
        logits = logits + head.bias[:vocabulary]
    logits = head.scale * logits
    if head.soft_cap is not None:
        logits = head.soft_cap * (logits / head.soft_cap).tanh()
    logits = logits / head.temperature
    return logits.log_softmax(-1)


def make(kind: Head, rows: int, hidden: int, generator: torch.Generator) -> Head:
    def leaf(*shape: int) -> Tensor:
        drawn = torch.randn(*shape, generator=generator, dtype=torch.float64)
        return drawn.requires_grad_()

    bias = None if kind.bias is None else leaf(rows)
    adapter = None if kind.adapter is None else Adapter(leaf(2, hidden), leaf(rows, 2), 2.0)
    return Head(leaf(rows, hidden), bias, kind.scale, kind.soft_cap, adapter, kind.temperature)


@pytest.mark.parametrize("divergence", ["forward", "reverse"])
@pytest.mark.parametrize("kind", KINDS)
def test_values_and_gradients_are_those_of_the_plain_computation(
    kind: str, divergence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CHUNK", 3 * V)  # three tokens at a time
    generator = torch.Generator().manual_seed(0)
    head = make(KINDS[kind], V + 3, H, generator)  # padded beyond what the reference has
    reference = make(KINDS[kind], V, H + 1, generator)
    hidden = torch.randn(T, H, generator=generator, dtype=torch.float64, requires_grad=True)
    reference_hidden = torch.randn(T, H + 1, generator=generator, dtype=torch.float64)
    targets = torch.randint(V, (T,), generator=generator)
    by_logp, by_kl = (
        torch.randn(T, generator=generator, dtype=torch.float64) for _ in range(2)
    )  # signed weights, as PMPO's

    logp, kl, reference_logp, extra = token_statistics(
        *(hidden, head, reference_hidden, reference, targets),
        divergence=divergence,
        extra=("entropy",),
    )
    ours, theirs = plain(hidden, head, V), plain(reference_hidden, reference, V).detach()
    expected = ours.gather(1, targets[:, None])[:, 0]
    first, second = (theirs, ours) if divergence == "forward" else (ours, theirs)
    expected_kl = (first.exp() * (first - second)).sum(-1)
    torch.testing.assert_close(logp, expected, atol=1e-10, rtol=0)
    torch.testing.assert_close(kl, expected_kl, atol=1e-10, rtol=0)
    expected_reference = theirs.gather(1, targets[:, None])[:, 0]
    torch.testing.assert_close(reference_logp, expected_reference, atol=1e-10, rtol=0)
    torch.testing.assert_close(extra["entropy"], -(ours.exp() * ours).sum(-1), atol=1e-10, rtol=0)

    leaves = [hidden, head.weight, *([] if head.bias is None else [head.bias])]
    leaves += [] if head.adapter is None else [head.adapter.down, head.adapter.up]
    found = torch.autograd.grad((by_logp * logp + by_kl * kl).sum(), leaves)
    wanted = torch.autograd.grad((by_logp * expected + by_kl * expected_kl).sum(), leaves)
    for mine, theirs in zip(found, wanted, strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-10, rtol=0)
    assert found[1][V:].eq(0).all(), "padding learns nothing"


def test_in_bf16_it_is_as_close_as_the_plain_computation_in_bf16() -> None:
    generator = torch.Generator().manual_seed(0)
    exact = [torch.randn(*shape, generator=generator) for shape in ((64, 32), (500, 32), (64, 32))]
    hidden, weight, reference_hidden = (part.bfloat16() for part in exact)
    hidden.requires_grad_()
    weight.requires_grad_()
    targets = torch.randint(500, (64,), generator=generator)
    head, reference = Head(weight), Head(weight.detach().clone())
    logp, kl, *_ = token_statistics(hidden, head, reference_hidden, reference, targets)
    double = Head(weight.detach().double().requires_grad_())
    h = hidden.detach().double().requires_grad_()
    ours = plain(h, double, 500)
    theirs = plain(reference_hidden.double(), double, 500).detach()
    expected = ours.gather(1, targets[:, None])[:, 0]
    expected_kl = (theirs.exp() * (theirs - ours)).sum(-1)
    torch.testing.assert_close(logp.double(), expected, atol=0.1, rtol=0.01)
    torch.testing.assert_close(kl.double(), expected_kl, atol=0.1, rtol=0.01)
    (logp.sum() + kl.sum()).backward()
    (expected.sum() + expected_kl.sum()).backward()
    for mine, wanted in ((hidden, h), (weight, double.weight)):
        assert mine.grad is not None
        assert wanted.grad is not None
        assert (mine.grad.double() - wanted.grad).norm() < 0.02 * wanted.grad.norm()


def test_no_tokens_are_no_trouble_and_targets_beyond_the_vocabulary_are() -> None:
    head = Head(torch.zeros(3, 2, requires_grad=True))
    none = torch.zeros(0, 2)
    logp, kl, *_ = token_statistics(none, head, none, head, torch.zeros(0, dtype=torch.long))
    assert logp.shape == kl.shape == (0,)
    one = torch.zeros(1, 2)
    with pytest.raises(ValueError, match="targets must lie in 0 to 2"):
        token_statistics(one, head, one, head, torch.tensor([3]))


def test_logits_of_all_tokens_never_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    largest = 0
    honest = Head.logits

    def noted(self: Head, hidden: Tensor, low: Tensor | None, vocabulary: int) -> Tensor:
        nonlocal largest
        largest = max(largest, len(hidden) * vocabulary)
        return honest(self, hidden, low, vocabulary)

    monkeypatch.setattr(module, "CHUNK", 50)
    monkeypatch.setattr(Head, "logits", noted)
    hidden = torch.randn(100, 4, requires_grad=True)
    head = Head(torch.randn(10, 4, requires_grad=True))
    found = token_statistics(hidden, head, hidden.detach(), head, torch.zeros(100).long())
    found.logp.sum().backward()
    assert 0 < largest <= 50


def test_states_of_lower_precision_than_the_head_meet_it_there() -> None:
    """As under autocast, which acts on the forward pass alone."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(50, 8, generator=generator, requires_grad=True)
    states = torch.randn(6, 8, generator=generator).bfloat16().requires_grad_()
    targets = torch.randint(50, (6,), generator=generator)
    head = Head(weight)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logp, *_ = token_statistics(states, head, states.detach(), head, targets)
    exact = states.detach().float().requires_grad_()
    expected = plain(exact, head, 50).gather(1, targets[:, None])[:, 0]
    torch.testing.assert_close(logp, expected)
    found = torch.autograd.grad(logp.sum(), (states, weight))
    wanted = torch.autograd.grad(expected.sum(), (exact, weight))
    torch.testing.assert_close(found[0].float(), wanted[0], atol=1e-2, rtol=1e-2)
    torch.testing.assert_close(found[1], wanted[1])
