"""Statistics of the policy's distribution that the fused head computes where asked for.

`entropy` is that of π, and `reverse_kl` KL(π ‖ π_ref). `top_mass` is the probability under π of its
ten likeliest tokens (all, of a smaller vocabulary), and `top_entropy` the entropy of π among these
alone (arXiv 2410.11677). None has a gradient.

Shapes: T tokens of a chunk, V vocabulary entries.
"""

from typing import Literal

import torch
from torch import Tensor

Extra = Literal["entropy", "reverse_kl", "top_mass", "top_entropy"]
TOP = 10


def extra_statistics(
    names: tuple[Extra, ...], ours: Tensor, theirs: Tensor, total: Tensor, reference_total: Tensor
) -> list[Tensor]:
    """Return what was asked for of a chunk, [T] each from logits [T, V] and their totals [T]."""
    found: dict[Extra, Tensor] = {}
    asked = set(names)
    if asked & {"entropy", "reverse_kl"}:
        p = (ours - total[:, None]).exp_()
        if "entropy" in asked:
            found["entropy"] = total - row_products(p, ours)
        if "reverse_kl" in asked:
            found["reverse_kl"] = row_products(p, ours - theirs) - (total - reference_total)
    if asked & {"top_mass", "top_entropy"}:
        top = ours.topk(min(TOP, ours.shape[-1]), sorted=False).values
        found["top_mass"] = (top.logsumexp(-1) - total).exp().clamp(max=1)
        found["top_entropy"] = torch.special.entr(top.softmax(-1)).sum(-1)
    return [found[name] for name in names]


def row_products(first: Tensor, second: Tensor) -> Tensor:
    """Return the dot products of rows, [T] from two [T, V], without another [T, V]."""
    with torch.autocast(first.device.type, enabled=False):  # which would round both to bfloat16
        products: Tensor = torch.linalg.vecdot(first, second)
    return products
