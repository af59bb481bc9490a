"""Accept and reject labels from scores. Shapes: B contexts, K samples per context."""

from torch import Tensor

from suite.feedback.feedback import Labels


def label_by_rank(score: Tensor, top: int, bottom: int) -> Labels:
    """Accept the `top` best and reject the `bottom` worst of each context (arXiv 2410.04166).

    Ties are broken by position. Shapes: score [B, K].
    Raises ValueError when a sample would be both accepted and rejected.
    """
    samples = score.shape[1]
    if top + bottom > samples:
        raise ValueError(f"top={top} and bottom={bottom} overlap: there are {samples} samples")
    order = score.argsort(dim=1, descending=True, stable=True)
    rank = order.argsort(dim=1)
    return Labels((rank < top).to(score.dtype), (rank >= samples - bottom).to(score.dtype))


def label_by_sign(advantage: Tensor) -> Labels:
    """Accept where the advantage is ≥ 0, reject elsewhere (arXiv 2410.04166).

    Shapes: advantage [B, K].
    """
    accepted = (advantage >= 0).to(advantage.dtype)
    return Labels(accepted, 1 - accepted)


def label_by_threshold(score: Tensor, threshold: float) -> Labels:
    """Accept scores of at least `threshold`, reject the others. Shapes: score [B, K]."""
    return label_by_sign(score - threshold)
