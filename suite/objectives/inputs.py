"""What losses read from feedback, and the checks that they share.

Shapes: B contexts, K samples per context.
"""

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from suite.feedback.feedback import Feedback


def check_shapes(feedback: Feedback) -> None:
    """Raise ValueError for shapes that would broadcast: all [B, K], divergences and weight [B]."""
    shape = feedback.logp.shape
    shapes = (tuple(shape), tuple(feedback.accept.shape), tuple(feedback.reject.shape))
    if len(shape) != 2 or len(set(shapes)) > 1 or feedback.kl.shape != shape[:1]:
        raise ValueError(
            f"logp, accept and reject must be [B, K] and kl [B], found {shapes}"
            f" and {tuple(feedback.kl.shape)}"
        )
    for name, expected in OPTIONAL_SHAPES.items():
        value = getattr(feedback, name)
        if value is not None and value.shape != shape[:expected]:
            raise ValueError(f"{name} must be {list(shape[:expected])}, found {list(value.shape)}")


# Number of dimensions of what feedback may hold: [B, K] or [B].
OPTIONAL_SHAPES = {"reference_logp": 2, "score": 2, "weight": 1, "reverse_kl": 1}


def log_ratio(feedback: Feedback) -> Tensor:
    """Return r = log π − log π_ref, [B, K]; raises ValueError without the reference."""
    if feedback.reference_logp is None:
        raise ValueError("this objective needs feedback.reference_logp")
    return feedback.logp - feedback.reference_logp


def token_mean(feedback: Feedback) -> Tensor:
    """Return log π per token, [B, K]."""
    return feedback.logp / feedback.lengths()


def scores(feedback: Feedback, reward: str = "score") -> Tensor:
    """Return what orders and weighs the samples, [B, K]: the judge's scores, or the labels as ±1.

    Samples that are not there have NaN. Raises ValueError where scores are asked for and not given.
    """
    if reward == "labels":
        labels = feedback.accept - feedback.reject
        absent = None if feedback.score is None else feedback.score.isnan()
        return labels if absent is None else labels.masked_fill(absent, torch.nan)
    if feedback.score is None:
        raise ValueError("this objective needs feedback.score; reward='labels' takes ±1")
    return feedback.score


def present(score: Tensor) -> tuple[Tensor, Tensor]:
    """Return scores with 0 for absent samples, and which samples are there; both [B, K]."""
    there = ~score.isnan()
    return score.where(there, 0), there


def masked_log_softmax(values: Tensor, there: Tensor) -> Tensor:
    """Return the log-softmax over the samples that are there, [B, K]; 0 for the others."""
    logits = values.masked_fill(~there, -torch.inf)
    # A context without samples has no softmax; its zeros count nowhere.
    logits = logits.where(there.any(1, keepdim=True), 0)
    return logits.log_softmax(1).where(there, 0)


def mean_score(score: Tensor, weight: Tensor) -> Tensor:
    """Return the weighted mean of a context's scores, [B, 1], 0 where all weigh nothing."""
    total = weight.sum(1, keepdim=True)
    return (weight * score).sum(1, keepdim=True) / total.where(total > 0, 1)


def reverse_kl(feedback: Feedback, ratio: Tensor) -> Tensor:
    """Return KL(π ‖ π_ref) of each context without gradient, [B, 1], at least 0.

    Without its closed form it is Σ ρ·log ρ / Σ ρ over the context's samples of π_ref, which is 0
    for a single sample.
    """
    if feedback.reverse_kl is not None:
        return feedback.reverse_kl.detach().clamp(min=0)[:, None]
    ratio = ratio.detach()
    if ratio.shape[1] == 1:
        return torch.zeros_like(ratio)
    there = torch.ones_like(ratio, dtype=torch.bool)
    there = there if feedback.score is None else ~feedback.score.isnan()
    weights = masked_log_softmax(ratio, there).exp() * there
    return (weights * ratio).sum(1, keepdim=True).clamp(min=0)


def logistic_loss(x: Tensor) -> Tensor:
    """Return −log σ(x) = log(1 + e^−x), in the shape of x."""
    return -logsigmoid(x)
