"""What evaluations of language models tell beside scores: pairs of completions, and pass@k.

Shapes: N completions, B prompts, n samples of each prompt.
"""

from collections import defaultdict
from collections.abc import Hashable, Sequence
from math import comb

import torch
from torch import Tensor

from suite.domains.language.head import Statistics
from suite.domains.language.head_extras import Extra

EVALUATED: tuple[Extra, ...] = ("entropy", "top_mass", "top_entropy")


def top_means(sums: Statistics, tokens: int) -> dict[str, float]:
    """Return top-k mass and entropy per token, from sums over completions [N] of `tokens` in all.

    Both fall together where the policy gives all probability to a few tokens (arXiv 2410.11677).
    """
    count = max(tokens, 1)
    return {
        "top_mass": sums.extra["top_mass"].sum().item() / count,
        "top_entropy": sums.extra["top_entropy"].sum().item() / count,
    }


def pair_metrics(change: Tensor, sign: Tensor, contexts: Sequence[Hashable]) -> dict[str, float]:
    """Return margin and accuracy over all pairs of an accepted and a rejected completion.

    `change` [N] is r = log π − log π_ref of each completion and `sign` [N] that of its label.
    Pairs are of equal `contexts`. The margin of a pair is r(y⁺) − r(y⁻), and the accuracy the share
    of margins above 0. Without any pair there is no metric.
    """
    accepted: dict[Hashable, list[int]] = defaultdict(list)
    rejected: dict[Hashable, list[int]] = defaultdict(list)
    for i, (label, context) in enumerate(zip(sign.tolist(), contexts, strict=True)):
        if label:
            (accepted if label > 0 else rejected)[context].append(i)
    change = change.cpu()
    margins = [
        (change[chosen][:, None] - change[rejected[context]]).flatten()
        for context, chosen in accepted.items()
        if context in rejected
    ]
    if not margins:
        return {}
    margin = torch.cat(margins)
    return {
        "pair_margin": margin.mean().item(),
        "pair_accuracy": (margin > 0).double().mean().item(),
    }


def is_pass_or_fail(score: Tensor) -> bool:
    """Tell whether all scores are 0 or 1, as those of a verifier."""
    return bool(((score == 0) | (score == 1)).all())


def pass_metrics(score: Tensor) -> dict[str, float]:
    """Return `pass_at_k` for all powers of two k ≤ n, from scores [B, n] of 0 and 1.

    It is the mean over prompts of the unbiased estimate 1 − C(n−c, k) / C(n, k) that one of k
    samples passes, where c of n did (arXiv 2107.03374, eq. 1).
    """
    n = score.shape[1]
    passed = (score == 1).sum(1).bincount(minlength=n + 1).tolist()  # [n + 1] prompts by c
    sizes = [2**i for i in range(n.bit_length())]
    return {f"pass_at_{k}": share_passing(passed, n, k) for k in sizes}


def share_passing(passed: list[int], n: int, k: int) -> float:
    """Return pass@k where `passed[c]` prompts had c right samples of n; whole numbers, exactly."""
    whole = comb(n, k)
    hits = sum(prompts * (whole - comb(n - c, k)) for c, prompts in enumerate(passed))
    return hits / (whole * sum(passed))


def weighted_mean(values: Tensor, weight: Tensor) -> float:
    """Return the weighted mean of values, 0 where all weights are 0."""
    weight = weight.flatten().to(values.device)
    return ((values * weight).sum() / weight.sum().clamp(min=1)).item()
