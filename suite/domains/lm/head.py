"""The last layer without its logits: log-probability and KL of tokens, a few hundred at a time.

With a signed weight c on a token's log-probability and b on its KL, the gradient by the policy's
logits is (c + b)·π − c·e_y − b·π_ref up to the sign: one softmax per model and token. So both can
be computed for some tokens after the other, forward and backward, and [T, V] never exists.

Shapes: T tokens, H hidden units, V vocabulary entries.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel
from typing_extensions import override

CHUNK = 2**22  # logits that are held at a time: 16 MB of them in float32


@dataclass(frozen=True)
class Head:
    """What turns hidden states into logits: soft-cap(scale · (hidden · weightᵀ + bias))."""

    weight: Tensor  # [V, H]
    bias: Tensor | None = None  # [V]
    scale: float = 1.0  # Cohere's logit_scale, one over Granite's logits_scaling
    soft_cap: float | None = None  # Gemma's final_logit_softcapping

    @classmethod
    def of(cls, model: PreTrainedModel) -> "Head":
        """Return the head of a causal language model of transformers."""
        layer, config = model.get_output_embeddings(), model.config
        scale = getattr(config, "logit_scale", None) or 1.0
        scale /= getattr(config, "logits_scaling", None) or 1.0
        cap = getattr(config, "final_logit_softcapping", None)
        return cls(layer.weight, getattr(layer, "bias", None), scale, cap)

    def logits(self, hidden: Tensor, vocabulary: int) -> Tensor:
        """Return the logits of the first `vocabulary` entries, [T, V] in float32 or better."""
        bias = None if self.bias is None else self.bias[:vocabulary]
        # In the weights' precision, since autocast acts on the forward pass alone.
        with torch.autocast(hidden.device.type, enabled=False):
            states = hidden.to(self.weight.dtype)
            raw = torch.nn.functional.linear(states, self.weight[:vocabulary], bias)
        raw = self.scale * (raw if raw.dtype == torch.float64 else raw.float())
        return raw if self.soft_cap is None else self.soft_cap * torch.tanh(raw / self.soft_cap)

    def slope(self, logits: Tensor) -> Tensor | float:
        """Return the derivative of the logits by hidden · weightᵀ + bias."""
        if self.soft_cap is None:
            return self.scale
        return self.scale * (1 - (logits / self.soft_cap).square())


def token_statistics(
    hidden: Tensor,
    head: Head,
    reference_hidden: Tensor,
    reference_head: Head,
    targets: Tensor,
    *,
    divergence: str = "forward",
) -> tuple[Tensor, Tensor]:
    """Return log π(target) and the KL to the reference of every position, [T] each in nats.

    `hidden` [T, H] and `reference_hidden` [T, H'] are the final states at the positions before
    `targets` [T]. Vocabularies may be padded to different sizes: what both have counts. Gradients
    reach `hidden` and the policy's weight and bias; any loss can stand on the two results. The
    "forward" KL is KL(π_ref ‖ π), the "reverse" one KL(π ‖ π_ref) (arXiv 2410.04166, eq. 10).
    Raises ValueError for targets outside the common vocabulary.
    """
    vocabulary = min(len(head.weight), len(reference_head.weight))
    if targets.numel() and not 0 <= int(targets.min()) <= int(targets.max()) < vocabulary:
        raise ValueError(f"targets must lie in 0 to {vocabulary - 1}")
    found: tuple[Tensor, Tensor] = TokenStatistics.apply(  # type: ignore[no-untyped-call]
        hidden, head.weight, head.bias, head, reference_hidden, reference_head, targets,
        vocabulary, divergence,
    )  # fmt: skip
    return found


class TokenStatistics(torch.autograd.Function):
    """The computation, chunk by chunk; the backward pass computes every chunk again."""

    @staticmethod
    @override
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        head: Head,
        reference_hidden: Tensor,
        reference_head: Head,
        targets: Tensor,
        vocabulary: int,
        divergence: str,
    ) -> tuple[Tensor, Tensor]:
        """Return log-probability and KL, [T] each."""
        ctx.save_for_backward(hidden, reference_hidden, targets)
        ctx.heads, ctx.vocabulary, ctx.divergence = (head, reference_head), vocabulary, divergence
        kind = torch.float64 if hidden.dtype == torch.float64 else torch.float32
        logp = torch.empty(len(hidden), dtype=kind, device=hidden.device)
        kl = torch.empty_like(logp)
        for part in chunks(len(hidden), vocabulary):
            ours = head.logits(hidden[part], vocabulary).log_softmax(-1)
            theirs = reference_head.logits(reference_hidden[part], vocabulary).log_softmax(-1)
            logp[part] = ours.gather(-1, targets[part, None])[:, 0]
            if divergence == "forward":
                kl[part] = (theirs.exp() * (theirs - ours)).sum(-1)
            else:
                kl[part] = (ours.exp() * (ours - theirs)).sum(-1)
        return logp, kl

    @staticmethod
    @override
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients by hidden states, weight and bias."""
        hidden, reference_hidden, targets = ctx.saved_tensors
        head, reference_head = ctx.heads
        by_logp, by_kl = gradients
        # Many chunks add to it: in the precision of the logits.
        by_weight = torch.zeros_like(head.weight, dtype=by_logp.dtype)
        by_bias = None if head.bias is None else torch.zeros_like(head.bias, dtype=by_logp.dtype)
        by_hidden = torch.empty_like(hidden)
        v = ctx.vocabulary
        for part in chunks(len(hidden), v):
            logits = head.logits(hidden[part], v)
            slope = head.slope(logits)
            ours = logits.log_softmax(-1)
            theirs = reference_head.logits(reference_hidden[part], v).log_softmax(-1)
            p = ours.exp()
            if ctx.divergence == "forward":
                by_logits = by_kl[part, None] * (p - theirs.exp())
            else:
                ratio = ours - theirs
                ratio -= (p * ratio).sum(-1, keepdim=True)
                by_logits = by_kl[part, None] * p * ratio
            by_logits -= by_logp[part, None] * p
            by_logits.scatter_add_(1, targets[part, None], by_logp[part, None])
            by_logits *= slope
            by_hidden[part] = (by_logits.to(head.weight.dtype) @ head.weight[:v]).to(hidden.dtype)
            by_weight[:v].addmm_(by_logits.t(), hidden[part].to(by_logits.dtype))
            if by_bias is not None:
                by_bias[:v] += by_logits.sum(0)
        found = by_hidden, by_weight.to(head.weight.dtype), by_bias
        return *found, None, None, None, None, None, None


def chunks(tokens: int, vocabulary: int) -> list[slice]:
    """Cut tokens so that a chunk's logits stay small."""
    size = max(1, CHUNK // vocabulary)
    return [slice(i, i + size) for i in range(0, tokens, size)]
