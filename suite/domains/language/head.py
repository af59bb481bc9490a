"""The last layer of a language model: log-probability and KL of tokens without all logits.

With a signed weight c on a token's log-probability and b on its KL, the gradient by the policy's
logits is (c + b)·π − c·e_y − b·π_ref up to the sign: one softmax per model and token. Both passes
can therefore run over a few hundred tokens at a time, and [T, V] never exists.

Shapes: T tokens, H hidden units, V vocabulary entries, R rank of an adapter on the head.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import linear
from transformers import PreTrainedModel
from typing_extensions import override

from suite.domains.language.head_extras import Extra, extra_statistics, row_products

CHUNK = 2**23  # logits held at a time, per model: 32 MB in float32
CHUNK_ON_GPU = 2**26  # not measured yet


class Adapter(NamedTuple):
    """A low-rank addition to a head's weight: scale · up · down."""

    down: Tensor  # [R, H]
    up: Tensor  # [V, R]
    scale: float


@dataclass(frozen=True)
class Head:
    """Logits from hidden states: soft-cap(scale · (hidden · weightᵀ + bias)) / temperature."""

    weight: Tensor  # [V, H]
    bias: Tensor | None = None  # [V]
    scale: float = 1.0  # Cohere's logit_scale, one over Granite's logits_scaling
    soft_cap: float | None = None  # Gemma's final_logit_softcapping
    adapter: Adapter | None = None
    temperature: float = 1.0  # divides the logits

    @classmethod
    def of(cls, model: PreTrainedModel, temperature: float = 1.0) -> "Head":
        """Return the head of a causal language model of transformers, with peft's adapter on it."""
        layer: Any = model.get_output_embeddings()
        config = model.config.get_text_config()
        scale = getattr(config, "logit_scale", None) or 1.0
        scale /= getattr(config, "logits_scaling", None) or 1.0
        cap = getattr(config, "final_logit_softcapping", None)
        cap = cap or getattr(config, "logits_soft_cap", None)  # RecurrentGemma's
        adapter = None
        if hasattr(layer, "lora_A"):
            if layer.active_adapters and not layer.disable_adapters:
                (name,) = layer.active_adapters
                down, up = layer.lora_A[name].weight, layer.lora_B[name].weight
                adapter = Adapter(down, up, layer.scaling[name])
            layer = layer.base_layer
        bias = getattr(layer, "bias", None)
        return cls(layer.weight, bias, scale, cap, adapter, temperature)

    def low(self, hidden: Tensor) -> Tensor | None:
        """Return the adapter's low-rank states, [T, R]; None without an adapter."""
        if self.adapter is None:
            return None
        down, _, scale = self.adapter
        with torch.autocast(hidden.device.type, enabled=False):  # as in `logits`
            return linear(hidden.to(down.dtype), down) * scale

    def logits(self, hidden: Tensor, low: Tensor | None, vocabulary: int) -> Tensor:
        """Return the logits of the first `vocabulary` entries, [T, V] in float32 or better."""
        bias = None if self.bias is None else self.bias[:vocabulary]
        # In the precision of the weights, as autocast would act on the forward pass only.
        with torch.autocast(hidden.device.type, enabled=False):
            raw = linear(hidden.to(self.weight.dtype), self.weight[:vocabulary], bias)
            raw = raw if raw.dtype == torch.float64 else raw.float()
            if low is not None and self.adapter is not None:
                raw += linear(low, self.adapter.up[:vocabulary])
        if self.scale != 1:
            raw *= self.scale
        if self.soft_cap is not None:
            raw = raw.div_(self.soft_cap).tanh_().mul_(self.soft_cap)
        return raw if self.temperature == 1 else raw.div_(self.temperature)

    def slope(self, logits: Tensor) -> Tensor | None:
        """Return the derivative of the logits by hidden · weightᵀ + bias, None where it is 1."""
        factor = self.scale / self.temperature
        if self.soft_cap is not None:
            return factor * (1 - (logits * (self.temperature / self.soft_cap)).square())
        return None if factor == 1 else torch.full_like(logits[:, :1], factor)


class Statistics(NamedTuple):
    """Statistics of every token, [T] each in nats."""

    logp: Tensor
    """log π(target), with gradient."""
    kl: Tensor
    """KL between the distributions of policy and reference at the token, with gradient."""
    reference_logp: Tensor
    """log π_ref(target)."""
    extra: dict[Extra, Tensor]
    """What was asked for, without gradient."""

    def map(self, change: Callable[[Tensor], Tensor]) -> "Statistics":
        """Return the statistics with a change to each."""
        extra = {name: change(values) for name, values in self.extra.items()}
        return Statistics._make([*map(change, self[:3]), extra])

    @classmethod
    def joined(cls, parts: Sequence["Statistics"]) -> "Statistics":
        """Return the statistics of several parts, one after another."""
        extra = {name: torch.cat([part.extra[name] for part in parts]) for name in parts[0].extra}
        columns = zip(*(part[:3] for part in parts), strict=True)
        return cls._make([*map(torch.cat, columns), extra])


def token_statistics(
    hidden: Tensor,
    head: Head,
    reference_hidden: Tensor,
    reference_head: Head,
    targets: Tensor,
    *,
    divergence: str = "forward",
    extra: tuple[Extra, ...] = (),
) -> Statistics:
    """Return log π(target), the KL to the reference and more at every position.

    `hidden` [T, H] and `reference_hidden` [T, H'] are the final states at the positions before
    `targets` [T]. Vocabularies may be padded to different sizes: the common part counts. Gradients
    reach `hidden` and the policy's weight, bias and adapter, for any loss of the results. The
    "forward" KL is KL(π_ref ‖ π), the "reverse" one KL(π ‖ π_ref) (arXiv 2410.04166, eq. 10).
    What `extra` names is computed beside these, and does not change them. Raises ValueError for
    targets outside the common vocabulary.
    """
    vocabulary = min(len(head.weight), len(reference_head.weight))
    if targets.numel() and not 0 <= int(targets.min()) <= int(targets.max()) < vocabulary:
        raise ValueError(f"targets must lie in 0 to {vocabulary - 1}")
    up = None if head.adapter is None else head.adapter.up
    statistics: tuple[Tensor, ...] = TokenStatistics.apply(  # type: ignore[no-untyped-call]
        hidden, head.weight, head.bias, head.low(hidden), up, head, reference_hidden,
        reference_head, targets, vocabulary, divergence, extra,
    )  # fmt: skip
    return Statistics._make([*statistics[:3], dict(zip(extra, statistics[3:], strict=True))])


class TokenStatistics(torch.autograd.Function):
    """The computation, chunk by chunk; the backward pass recomputes all chunks but the last.

    A pass over a chunk costs as much as its matrix products, so that operations are in place.
    """

    @staticmethod
    @override
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        low: Tensor | None,
        up: Tensor | None,
        head: Head,
        reference_hidden: Tensor,
        reference_head: Head,
        targets: Tensor,
        vocabulary: int,
        divergence: str,
        extra: tuple[Extra, ...],
    ) -> tuple[Tensor, ...]:
        """Return the statistics, [T] each."""
        kind = torch.float64 if hidden.dtype == torch.float64 else torch.float32
        logp, kl, reference_logp, total, reference_total, *extras = torch.zeros(
            5 + len(extra), len(hidden), dtype=kind, device=hidden.device
        )
        reference_low = reference_head.low(reference_hidden)
        parts = chunks(hidden, vocabulary)
        ctx.kept = None
        for part in parts:
            keep = part is parts[-1] and divergence == "forward" and any(ctx.needs_input_grad)
            ours = head.logits(hidden[part], slice_states(low, part), vocabulary)
            theirs = reference_head.logits(
                reference_hidden[part], slice_states(reference_low, part), vocabulary
            )
            chosen = targets[part, None]
            total[part], reference_total[part] = ours.logsumexp(-1), theirs.logsumexp(-1)
            logp[part] = ours.gather(-1, chosen)[:, 0] - total[part]
            reference_logp[part] = theirs.gather(-1, chosen)[:, 0] - reference_total[part]
            found = extra_statistics(extra, ours, theirs, total[part], reference_total[part])
            for values, of_chunk in zip(extras, found, strict=True):
                values[part] = of_chunk
            shift = total[part] - reference_total[part]
            if divergence == "forward":
                ratio = torch.sub(theirs, ours, out=None if keep else ours)
                q = theirs.sub_(reference_total[part, None]).exp_()
                kl[part] = row_products(q, ratio) + shift
                ctx.kept = (ours, q) if keep else None
            else:
                ratio = torch.sub(ours, theirs, out=theirs)
                kl[part] = row_products(ours.sub_(total[part, None]).exp_(), ratio) - shift
        ctx.save_for_backward(
            hidden, low, reference_hidden, reference_low, targets, total, reference_total, kl
        )
        ctx.heads, ctx.vocabulary, ctx.divergence = (head, reference_head), vocabulary, divergence
        ctx.mark_non_differentiable(reference_logp, *extras)
        return logp, kl, reference_logp, *extras

    @staticmethod
    @override
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients by hidden states, weight, bias and the adapter's parts."""
        hidden, low, reference_hidden, reference_low, targets, total, reference_total, kl = (
            ctx.saved_tensors
        )
        head, reference_head = ctx.heads
        by_logp, by_kl = gradients[:2]
        # In the precision of the logits, as many chunks add to them.
        inputs = (hidden, head.weight, head.bias, low, head.adapter and head.adapter.up)
        sums = [
            torch.zeros_like(x, dtype=by_logp.dtype) if x is not None and needed else None
            for x, needed in zip(inputs, ctx.needs_input_grad, strict=False)
        ]
        by_hidden, by_weight, by_bias, by_low, by_up = sums
        v = ctx.vocabulary
        for part in reversed(chunks(hidden, v)):
            if ctx.kept is not None:
                (logits, q), ctx.kept = ctx.kept, None
            else:
                logits = head.logits(hidden[part], slice_states(low, part), v)
                theirs = reference_head.logits(
                    reference_hidden[part], slice_states(reference_low, part), v
                )
                q = None
            slope = head.slope(logits)
            c, b = by_logp[part, None], by_kl[part, None]
            if ctx.divergence == "forward":
                p = logits.sub_(total[part, None]).exp_()
                q = theirs.sub_(reference_total[part, None]).exp_() if q is None else q
                by_logits = p.mul_(b - c).addcmul_(q, -b)
            else:
                shift = total[part, None] - reference_total[part, None] + kl[part, None]
                ratio = torch.sub(logits, theirs, out=theirs).sub_(shift)
                p = logits.sub_(total[part, None]).exp_()
                by_logits = ratio.mul_(b).sub_(c).mul_(p)
            by_logits.scatter_add_(1, targets[part, None], c)
            if slope is not None:
                by_logits *= slope
            if by_hidden is not None:
                by_hidden[part] = by_logits.to(head.weight.dtype) @ head.weight[:v]
            if by_weight is not None:
                by_weight[:v].addmm_(by_logits.t(), hidden[part].to(by_logits.dtype))
            if by_bias is not None:
                by_bias[:v] += by_logits.sum(0)
            if by_up is not None and by_low is not None:
                by_low[part] = by_logits @ head.adapter.up[:v].to(by_logits.dtype)
                by_up[:v].addmm_(by_logits.t(), low[part].to(by_logits.dtype))
        typed = (g if g is None else g.to(x.dtype) for g, x in zip(sums, inputs, strict=True))
        return *typed, None, None, None, None, None, None, None


def slice_states(states: Tensor | None, part: slice) -> Tensor | None:
    """Return a part of states, or None."""
    return None if states is None else states[part]


def chunks(hidden: Tensor, vocabulary: int) -> list[slice]:
    """Cut tokens so that a chunk's logits stay small."""
    logits = CHUNK_ON_GPU if hidden.is_cuda else CHUNK
    size = max(1, logits // vocabulary)
    return [slice(i, i + size) for i in range(0, len(hidden), size)]
