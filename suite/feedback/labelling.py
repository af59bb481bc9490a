"""Accept and reject labels from scores. Shapes: B contexts, K samples per context."""

import torch
from torch import Tensor

from suite.feedback.feedback import Labels


def label_by_rank(score: Tensor, top: int, bottom: int) -> Labels:
    """Accept the `top` best and reject the `bottom` worst of each context (arXiv 2410.04166).

    Equal scores get equal labels: where they lie on both sides of a limit, they get none. Shapes:
    score [B, K]. Raises ValueError when a sample would be both accepted and rejected.
    """
    samples = score.shape[1]
    if top + bottom > samples:
        raise ValueError(f"top={top} and bottom={bottom} overlap: there are {samples} samples")
    rising, every = score.sort(dim=1).values, torch.ones_like(score)
    # A sample is among the best where it exceeds the best of the others, and so for the worst.
    best = score > rising[:, samples - top - 1, None] if top < samples else every
    worst = score < rising[:, bottom, None] if bottom < samples else every
    return Labels(best.to(score.dtype), worst.to(score.dtype))


def label_by_mean(score: Tensor) -> Labels:
    """Accept above the mean of a context, reject below it; no label at the mean. Score [B, K].

    Equal scores may differ from their own mean by rounding, which labels none of them.
    """
    above = score - score.mean(1, keepdim=True)
    rounding = score.shape[1] * torch.finfo(score.dtype).eps * score.abs().amax(1, keepdim=True)
    return Labels((above > rounding).to(score.dtype), (above < -rounding).to(score.dtype))


def label_by_sign(advantage: Tensor) -> Labels:
    """Accept where the advantage is ≥ 0, reject elsewhere (arXiv 2410.04166).

    Shapes: advantage [B, K].
    """
    accepted = (advantage >= 0).to(advantage.dtype)
    return Labels(accepted, 1 - accepted)


def label_by_threshold(score: Tensor, threshold: float) -> Labels:
    """Accept scores of at least `threshold`, reject the others. Shapes: score [B, K]."""
    return label_by_sign(score - threshold)


def label_scores(score: Tensor, by: str, threshold: float, top: int, bottom: int) -> Labels:
    """Return the labels of scores by `threshold`, `ranks` or `mean`, [B, K] each."""
    if by == "threshold":
        return label_by_threshold(score, threshold)
    return label_by_rank(score, top, bottom) if by == "ranks" else label_by_mean(score)
