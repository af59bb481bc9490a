"""What every registered objective must hold, on generated feedback."""

import math

import pytest
import torch

from suite.feedback.feedback import Feedback, Labels
from tests.objectives.generated import (
    NAMES,
    generated,
    part,
    relabelled,
    settings_of,
    tensors,
    terms_of,
)

DOUBLE = torch.float64
# Its domains draw all K samples, so that none is ever absent.
NEVER_ABSENT = ("mpo",)


def samples_of(name: str) -> tuple[int, ...]:
    return (2, 5) if settings_of(name).compares_samples else (1, 2, 5)


def check_finite(name: str, feedback: Feedback) -> None:
    loss = terms_of(name, feedback).loss
    assert loss.isfinite(), f"{name}: {loss}"
    parts = feedback.kl_parts
    inputs = [feedback.logp, feedback.kl, *(parts or ())]
    if loss.requires_grad:
        for gradient in torch.autograd.grad(loss, inputs, allow_unused=True):
            assert gradient is None or gradient.isfinite().all(), name


def variants(feedback: Feedback, absent: bool) -> list[Feedback]:
    """The same samples with labels, weights and probabilities at their limits."""
    zero = torch.zeros_like(feedback.accept)
    weight, logp, reference = feedback.weight, feedback.logp, feedback.reference_logp
    assert weight is not None
    assert reference is not None
    far = torch.full_like(reference, -1e4)
    result = [
        feedback,
        *(relabelled(feedback, feedback_labels(feedback).visible(kind)) for kind in KINDS),
        relabelled(feedback, Labels(zero, zero)),
        relabelled(feedback, Labels(zero, zero + 1)),
        feedback._replace(weight=weight * (torch.arange(len(weight)) > 0)),
        feedback._replace(weight=zero[:, 0]),
        feedback._replace(logp=far.clone().requires_grad_()),
        feedback._replace(logp=zero.clone().requires_grad_(), reference_logp=far),
        feedback._replace(logp=reference.where(reference > -1, far).requires_grad_()),
        feedback._replace(score=zero),
        feedback._replace(reverse_kl=None),
    ]
    if absent:
        gone = torch.arange(logp.numel()).view(logp.shape) % 3 == 0
        result += [without(feedback, gone), without(feedback, torch.ones_like(gone))]
    return result


KINDS = ("positive", "negative")


def feedback_labels(feedback: Feedback) -> Labels:
    return Labels(feedback.accept, feedback.reject)


def without(feedback: Feedback, gone: torch.Tensor) -> Feedback:
    """Mark samples as absent: score NaN, log π and log π_ref 0, no label."""
    assert feedback.reference_logp is not None
    assert feedback.score is not None
    return feedback._replace(
        logp=feedback.logp.detach().masked_fill(gone, 0).requires_grad_(),
        reference_logp=feedback.reference_logp.masked_fill(gone, 0),
        score=feedback.score.masked_fill(gone, torch.nan),
        accept=feedback.accept.masked_fill(gone, 0),
        reject=feedback.reject.masked_fill(gone, 0),
    )


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_value_and_gradient_are_finite_at_every_limit(name: str, dtype: torch.dtype) -> None:
    for seed, samples in enumerate(samples_of(name)):
        feedback = generated(seed, 3, samples, dtype)
        for variant in variants(feedback, absent=name not in NEVER_ABSENT):
            check_finite(name, variant)


@pytest.mark.parametrize("name", NAMES)
def test_the_order_of_samples_and_contexts_does_not_matter(name: str) -> None:
    for seed, samples in enumerate(samples_of(name)):
        feedback = generated(seed, 5, samples, DOUBLE)
        expected = terms_of(name, feedback).loss
        contexts = part(feedback, torch.randperm(5))
        torch.testing.assert_close(terms_of(name, contexts).loss, expected)
        order = torch.randperm(samples)
        swapped = {key: x[:, order] for key, x in tensors(feedback).items() if x.ndim == 2}
        torch.testing.assert_close(terms_of(name, feedback._replace(**swapped)).loss, expected)


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_in_unequal_parts_has_the_loss_of_the_whole(name: str) -> None:
    if settings_of(name).uses_batch_statistics:
        pytest.skip("the objective says that its loss is one of the batch")
    for seed, samples in enumerate(samples_of(name)):
        feedback = generated(seed, 5, samples, DOUBLE)
        first, rest = (terms_of(name, part(feedback, x)) for x in (slice(2), slice(2, 5)))
        whole = terms_of(name, feedback).loss
        torch.testing.assert_close((2 * first.loss + 3 * rest.loss) / 5, whole)


# Duals have terms of their own, and V-MPO's weights are of the samples of a batch.
@pytest.mark.parametrize("name", sorted({*NAMES} - {"mpo", "v_mpo"}))
def test_the_loss_is_in_proportion_to_the_weights_of_contexts(name: str) -> None:
    feedback = generated(3, 5, 4, DOUBLE)
    assert feedback.weight is not None
    tripled = feedback._replace(weight=3 * feedback.weight)
    torch.testing.assert_close(terms_of(name, tripled).loss, 3 * terms_of(name, feedback).loss)


# NCA, EXO-rw, DPO-rw and the like average over all samples of a context that are there; sums over
# labels divide by all samples of the batch, in which an absent one is counted as unlabelled.
@pytest.mark.parametrize("name", sorted({*NAMES} - {*NEVER_ABSENT}))
def test_what_an_absent_sample_holds_does_not_matter(name: str) -> None:
    feedback = generated(4, 5, 4, DOUBLE)
    gone = torch.arange(20).view(5, 4) % 3 == 0
    absent = without(feedback, gone)
    other = absent._replace(
        logp=absent.logp.detach().masked_fill(gone, -7.0),
        reference_logp=absent.reference_logp.masked_fill(gone, -7.0),  # type: ignore[union-attr]
        reverse_kl=None,
    )
    plain = absent._replace(reverse_kl=None)
    torch.testing.assert_close(terms_of(name, other).loss, terms_of(name, plain).loss)


@pytest.mark.parametrize("name", NAMES)
def test_shapes_that_would_broadcast_are_refused(name: str) -> None:
    feedback = generated(5, 3, 4, DOUBLE)
    assert feedback.score is not None
    assert feedback.reference_logp is not None
    wrong = {
        "kl": feedback.kl[:, None],
        "accept": feedback.accept[:1],
        "reject": feedback.reject[:, :1],
        "reference_logp": feedback.reference_logp[:, :1],
        "score": feedback.score[:1],
        "weight": torch.ones(1, dtype=DOUBLE),
        "reverse_kl": torch.ones(1, dtype=DOUBLE),
    }
    for key, value in wrong.items():
        with pytest.raises(ValueError, match="must be"):
            terms_of(name, feedback._replace(**{key: value}))
    with pytest.raises(ValueError, match="must be"):
        terms_of(name, feedback._replace(logp=feedback.logp[0]))


@pytest.mark.parametrize("name", ["dpo", "cdpo", "robust_dpo", "dpo_positive"])
def test_at_the_reference_a_logistic_loss_of_ratios_is_log_2(name: str) -> None:
    feedback = generated(6, 3, 4, DOUBLE)._replace(weight=None)
    at_reference = feedback._replace(logp=feedback.reference_logp)
    assert terms_of(name, at_reference).loss.item() == pytest.approx(math.log(2))
