"""A policy that is a table of logits, and feedback that holds exact expectations.

One context whose K samples are all outcomes. Weights are K·π_ref·q and K·π_ref·(1 − q), so that
means over samples are expectations under the reference.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from suite.feedback.feedback import Feedback, Shares
from suite.policies.divergences import categorical_kl

Loss = Callable[[Feedback], Tensor]


def numbers(*values: float) -> Tensor:
    """Return a tensor of float64."""
    return torch.tensor(values, dtype=torch.float64)


REFERENCE = numbers(0.22, 0.18, 0.15, 0.13, 0.11, 0.09, 0.07, 0.05)
HARD = numbers(1, 0, 0, 1, 0, 0, 1, 0)
SOFT = numbers(0.9, 0.5, 0.2, 0.7, 0.4, 0.1, 0.6, 0.3)


def everything(logits: Tensor, good: Tensor, reference: Tensor = REFERENCE) -> Feedback:
    """Return the feedback of all outcomes, accepted with probability `good`."""
    logp, log_reference = logits.log_softmax(0), reference.log()
    size = len(reference)
    return Feedback(
        logp=logp[None],
        kl=categorical_kl(log_reference, logp)[None],
        accept=(size * reference * good)[None],
        reject=(size * reference * (1 - good))[None],
        reference_logp=log_reference[None],
        reverse_kl=categorical_kl(logp, log_reference)[None],
    )


def shares(good: Tensor, reference: Tensor = REFERENCE) -> Shares:
    """Return Z1 and Z0."""
    accepted = (reference * good).sum().item()
    return Shares(accepted, 1 - accepted)


def conditioned(weights: Tensor, reference: Tensor = REFERENCE) -> Tensor:
    """Return the reference times `weights`, up to its sum."""
    return reference * weights / (reference * weights).sum()


def gradient(loss: Loss, logits: Tensor, good: Tensor, reference: Tensor = REFERENCE) -> Tensor:
    """Return the gradient of the loss for the logits."""
    logits = logits.detach().clone().requires_grad_()
    (result,) = torch.autograd.grad(loss(everything(logits, good, reference)), logits)
    return result


def minimum(loss: Loss, good: Tensor, reference: Tensor = REFERENCE) -> Tensor:
    """Return the policy that minimises the loss, by L-BFGS from the reference."""
    logits = reference.log().clone().requires_grad_()
    optimizer = torch.optim.LBFGS(
        [logits],
        max_iter=500,
        tolerance_grad=1e-13,
        tolerance_change=1e-16,
        line_search_fn="strong_wolfe",
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = loss(everything(logits, good, reference))
        value.backward()  # type: ignore[no-untyped-call]
        return value

    for _ in range(3):
        optimizer.step(closure)
    return logits.detach().softmax(0)
