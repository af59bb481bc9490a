"""Batched sampling from a causal language model, keeping the token ids that were drawn.

Shapes: B prompts, P prompt tokens, K samples each, C completion tokens.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from suite import ranks


class Completions(NamedTuple):
    """K sampled completions of B prompts, as rows of one left-padded batch."""

    input_ids: Tensor  # [B*K, P+C]
    attention_mask: Tensor  # [B*K, P+C]
    completion_mask: Tensor  # [B*K, C], the end token included


@torch.no_grad()
def sample(
    model: PreTrainedModel,
    prompt_ids: Tensor,  # [B, P], padded on the left
    prompt_mask: Tensor,  # [B, P]
    samples: int,
    max_new_tokens: int,
    generator: torch.Generator,
    greedy: bool = False,
    share: bool = False,
) -> Completions:
    """Draw `samples` completions per prompt at temperature 1, so that they are samples of π_ref.

    No top-k, top-p or temperature: the objective's expectations are under the model itself
    (arXiv 2410.04166). A finished row goes on with padding. `greedy` takes the likeliest token
    instead.
    Where ranks `share` prompts, each draws the random numbers of all, and takes its own: the tokens
    are those that one rank with all prompts would draw.
    `generator` lives on the CPU; one draw from it seeds the call's own stream on the model's
    device, so that its state is all that an exact resume needs.
    """
    seed = int(torch.randint(2**62, (), generator=generator))
    stream = torch.Generator(prompt_ids.device).manual_seed(seed)
    end, pad = model.config.eos_token_id, model.config.pad_token_id
    cache, logits = prefill(model, prompt_ids, prompt_mask, samples)
    mask = prompt_mask.repeat_interleave(samples, 0)
    position = mask.sum(1)
    alive = torch.ones_like(position, dtype=torch.bool)
    together = ranks.is_spread(model)  # then no rank may leave before the others
    tokens, alive_masks = [], []
    for step in range(max_new_tokens):
        token = logits.argmax(-1) if greedy else pick(logits, stream, share)
        tokens.append(token.where(alive, pad))
        alive_masks.append(alive)
        alive = alive & (token != end)
        going = bool(alive.any())
        if step == max_new_tokens - 1 or not (ranks.anybody(going) if together else going):
            break
        mask = torch.cat([mask, alive_masks[-1][:, None].to(mask.dtype)], 1)
        logits = model(
            input_ids=tokens[-1][:, None],
            attention_mask=mask,
            position_ids=position[:, None],
            past_key_values=cache,
            use_cache=True,
        ).logits[:, -1]
        position = position + 1
    completion_mask = torch.stack(alive_masks, 1)
    return Completions(
        torch.cat([prompt_ids.repeat_interleave(samples, 0), torch.stack(tokens, 1)], 1),
        torch.cat(
            [prompt_mask.repeat_interleave(samples, 0), completion_mask.to(prompt_mask.dtype)], 1
        ),
        completion_mask,
    )


def prefill(
    model: PreTrainedModel, prompt_ids: Tensor, prompt_mask: Tensor, samples: int
) -> tuple[DynamicCache, Tensor]:
    """Read each prompt once for all its samples; return cache and next-token logits, [B*K, V]."""
    cache = DynamicCache(config=model.config)
    logits = model(
        input_ids=prompt_ids,
        attention_mask=prompt_mask,
        position_ids=positions(prompt_mask),
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
    ).logits[:, -1]
    cache.batch_repeat_interleave(samples)
    return cache, logits.repeat_interleave(samples, 0)


def pick(logits: Tensor, generator: torch.Generator, share: bool) -> Tensor:
    """Draw one token per row, [N] from [N, V], as torch.multinomial does: first to arrive."""
    rows, vocabulary = logits.shape
    times = torch.empty(
        (ranks.count() if share else 1) * rows, vocabulary, device=logits.device
    ).exponential_(generator=generator)
    times = ranks.part(times) if share else times
    return (logits.float().softmax(-1) / times).argmax(-1)


def positions(mask: Tensor) -> Tensor:
    """Number the real tokens of each left-padded row from 0; [N, T] from [N, T]."""
    return (mask.cumsum(1) - 1).clamp(min=0)
