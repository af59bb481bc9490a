"""Objectives of pairs that need no reference: links of log π(y⁺) and log π(y⁻).

Shapes: B contexts, K samples per context, P pairs per context. Sources stand beside the equations.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from suite.feedback.feedback import Feedback
from suite.objectives.base import Terms
from suite.objectives.bound import BoundLoss
from suite.objectives.inputs import logistic_loss, token_mean
from suite.objectives.loss_config import LossConfig
from suite.objectives.pairing import Pairs, PairTerms, pair_terms, pair_up


def simpo(feedback: Feedback, *, pairs: str, beta: float, gamma: float) -> PairTerms:
    """Return −log σ(β·(ℓ⁺ − ℓ⁻) − γ), ℓ the mean of log π over tokens (arXiv 2405.14734, eq. 6)."""
    pair = pair_up(feedback, pairs)
    delta = pair.difference(token_mean(feedback))
    return pair_terms(feedback, pair, logistic_loss(beta * delta - gamma), delta)


def orpo(feedback: Feedback, *, pairs: str, weight: float) -> PairTerms:
    """Return −ℓ⁺ − λ·log σ(logit e^ℓ⁺ − logit e^ℓ⁻), ℓ the token mean (arXiv 2403.07691, eq. 6)."""
    mean = token_mean(feedback)
    pair = pair_up(feedback, pairs)
    better, _ = pair.of(mean)
    delta = pair.difference(mean - log_complement(mean))
    return pair_terms(feedback, pair, weight * logistic_loss(delta) - better, delta)


def bpr(feedback: Feedback, *, pairs: str, beta: float) -> PairTerms:
    """Return −log σ(β·(log π(y⁺) − log π(y⁻))): DPO with a uniform reference (UAI 2009)."""
    pair = pair_up(feedback, pairs)
    delta = pair.difference(feedback.logp)
    return pair_terms(feedback, pair, logistic_loss(beta * delta), delta)


def var_bpr(
    feedback: Feedback, *, temperature_accepted: float, temperature_rejected: float, exact: bool
) -> PairTerms:
    """Return softplus(−(Σ α_i·s_i − Σ β_j·s_j)), s = log π: Variational BPR (arXiv 2503.11067).

    α is the softmax of s/c⁺ over the accepted samples, β that of −s/c⁻ over the rejected ones,
    both with the labels' weights as priors and without gradient. The `exact` form is the mean of
    softplus(−(s_i − s_j)) under α·β, which is at least as large.
    """
    pair = pair_up(feedback, "labels")
    accepted = attention(feedback.accept, feedback.logp / temperature_accepted)
    rejected = attention(feedback.reject, -feedback.logp / temperature_rejected)
    weight = (accepted[:, :, None] * rejected[:, None, :]).flatten(1)
    pair = pair._replace(weight=weight)
    delta = pair.difference(feedback.logp)
    if exact:
        return pair_terms(feedback, pair, logistic_loss(delta), delta)
    mean = pair.mean(delta)[:, None]
    one = Pairs((weight.sum(1, keepdim=True) > 0).to(delta.dtype), *(x[:, :1] for x in pair[1:]))
    return pair_terms(feedback, one, logistic_loss(mean), mean)


def attention(prior: Tensor, logits: Tensor) -> Tensor:
    """Return weights in proportion to prior·e^logits, without gradient, [B, K]; 0 without prior."""
    logits = (logits.detach() + prior.log()).masked_fill(prior == 0, -torch.inf)
    some = (prior > 0).any(1, keepdim=True)
    return logits.where(some, 0).softmax(1) * some


def log_complement(logp: Tensor) -> Tensor:
    """Return log(1 − e^logp), finite also where the probability rounds to 1."""
    logp = logp.clamp(max=-torch.finfo(logp.dtype).eps)
    near_one = logp > -math.log(2)
    # Each form loses digits where the other keeps them; both are finite everywhere.
    small = (-logp.where(near_one, -1).expm1()).log()
    return small.where(near_one, (-logp.exp()).log1p())


LOSSES: dict[str, Callable[..., Terms]] = {
    "simpo": simpo,
    "orpo": orpo,
    "bpr": bpr,
    "var_bpr": var_bpr,
}


def bind(settings: LossConfig, feedback: str, dimensions: int | None) -> BoundLoss:
    """Bind the settings; raises ConfigError where the labels that are left hold no pair."""
    return BoundLoss(settings, feedback, LOSSES[settings.loss])
