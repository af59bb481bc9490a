"""Batched sampling from a causal language model, keeping the token ids that were drawn.

A fixed number of slots is worked on at a time. Finished sequences leave, and further prompts take
their places, so that long completions do not keep the others waiting.

Shapes: N sequences (B prompts × K samples), S slots in use, L cached tokens, V vocabulary.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad as padded
from transformers import Cache, PreTrainedModel
from transformers.cache_utils import DynamicLayer
from typing_extensions import override

from suite.system import distributed

FULL_ENOUGH = 0.75  # of the slots: below, finished sequences are removed and others come in
ROOM = 64  # tokens by which a cache grows at a time


class Drawn(NamedTuple):
    """K sampled completions of each prompt, as token ids; B·K of them, prompt by prompt."""

    prompts: list[list[int]]
    completions: list[list[int]]  # the end token included, where it was drawn


class GrowingLayer(DynamicLayer):  # type: ignore[misc]
    """Keys and values with room for further tokens, which are not copied for every token."""

    store: Tensor | None = None

    @override
    def update(self, keys: Tensor, values: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Add tokens; return all keys and values, [S, heads, L, size] each."""
        if not self.is_initialized:
            self.lazy_initialization(keys, values)
            self.keys, self.values = keys[..., :0, :], values[..., :0, :]
        length = self.keys.shape[-2]
        needed = length + keys.shape[-2]
        if self.store is None or needed > self.store.shape[-2]:
            shape = (2, *keys.shape[:-2], needed + ROOM, keys.shape[-1])
            store = keys.new_empty(shape)
            store[0, ..., :length, :], store[1, ..., :length, :] = self.keys, self.values
            self.store = store
        self.store[0, ..., length:needed, :], self.store[1, ..., length:needed, :] = keys, values
        self.keys, self.values = self.store[..., :needed, :]
        return self.keys, self.values

    def replace(self, keys: Tensor, values: Tensor) -> None:
        """Hold these keys and values instead."""
        self.keys, self.values, self.store = keys, values, None


class Slots:
    """The sequences that are worked on: a cache padded on the left, and what comes next."""

    def __init__(self, model: PreTrainedModel, temperature: float) -> None:
        self.model = model
        self.temperature = temperature
        device = model.device
        self.cache = Cache(layer_class_to_replicate=GrowingLayer)
        self.sequence = torch.zeros(0, dtype=torch.long, device=device)  # [S] which one it is
        self.drawn = self.sequence.clone()  # [S] how many tokens it has got
        self.mask = torch.zeros(0, 0, dtype=torch.long, device=device)  # [S, L]
        self.logits = torch.zeros(0, 1, device=device)  # [S, V] for its next token

    def run(self, cache: Cache, ids: Tensor, mask: Tensor, positions: Tensor) -> Tensor:
        """Return the logits after the last of some tokens, [S, V] from [S, tokens]."""
        found: Tensor = self.model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        ).logits[:, -1]
        return found.float() / self.temperature

    def add(self, prompts: list[list[int]], samples: int, first: int) -> None:
        """Read each prompt once, for sequences numbered from `first` on."""
        longest = max(map(len, prompts))
        ids, mask = torch.zeros(2, len(prompts), longest, dtype=torch.long)
        for row, prompt in enumerate(prompts):
            ids[row, longest - len(prompt) :] = torch.tensor(prompt)
            mask[row, longest - len(prompt) :] = 1
        ids, mask = ids.to(self.mask.device), mask.to(self.mask.device)
        cache = Cache(layer_class_to_replicate=GrowingLayer)
        logits = self.run(cache, ids, mask, positions(mask)).repeat_interleave(samples, 0)
        mask = mask.repeat_interleave(samples, 0)
        length, before = longest, self.mask.shape[1]
        self.mask = torch.cat([widened(self.mask, length), widened(mask, before)])
        for i, theirs in enumerate(cache.layers):
            parts = [part.repeat_interleave(samples, 0) for part in (theirs.keys, theirs.values)]
            if before:
                ours = self.cache.layers[i]
                parts = [
                    torch.cat([widened(old, length, -2), widened(new, before, -2)])
                    for old, new in zip((ours.keys, ours.values), parts, strict=True)
                ]
            theirs.replace(*parts)
        self.cache = cache
        fresh = torch.arange(first, first + len(logits), device=self.sequence.device)
        self.sequence = torch.cat([self.sequence, fresh])
        self.drawn = torch.cat([self.drawn, torch.zeros_like(fresh)])
        self.logits = torch.cat([self.logits, logits]) if before else logits

    def keep(self, chosen: Tensor) -> None:
        """Go on with the chosen slots alone, [S] of bool."""
        which = chosen.nonzero()[:, 0]
        mask = self.mask[which]
        start = int(mask.any(0).long().argmax()) if len(which) else mask.shape[1]
        self.mask, self.sequence, self.drawn = (
            mask[:, start:],
            self.sequence[which],
            self.drawn[which],
        )
        self.logits = self.logits[which]
        for layer in self.cache.layers:
            layer.replace(layer.keys[which, :, start:], layer.values[which, :, start:])

    def step(self, tokens: Tensor) -> None:
        """Read one token per slot, [S]."""
        position = self.mask.sum(1, keepdim=True)
        self.mask = torch.cat([self.mask, torch.ones_like(position)], 1)
        self.logits = self.run(self.cache, tokens[:, None], self.mask, position)
        self.drawn += 1


@torch.no_grad()
def sample(
    model: PreTrainedModel,
    prompts: list[list[int]],
    samples: int,
    max_new_tokens: int,
    generator: torch.Generator,
    *,
    ends: list[int],
    greedy: bool = False,
    share: bool = False,
    temperature: float = 1.0,
    slots: int = 512,
) -> Drawn:
    """Draw `samples` completions per prompt from the model at a temperature.

    No top-k or top-p: the objective's expectations are under the distribution that is drawn from,
    which is the reference (arXiv 2410.04166). `greedy` takes the likeliest token instead.
    One random number per token decides, by the inverse of the distribution function. All come from
    `generator`, on the CPU, before the first token; so a sequence does not depend on which others
    are worked on beside it. Where ranks `share` prompts, each gets the numbers of its own.
    """
    count = len(prompts) * samples
    numbers = torch.rand(
        (distributed.world_size() if share else 1) * count, max_new_tokens, generator=generator
    )
    numbers = (distributed.local_slice(numbers) if share else numbers).to(model.device)
    tokens = torch.zeros(count, max_new_tokens, dtype=torch.long, device=model.device)
    lengths = torch.zeros(count, dtype=torch.long, device=model.device)
    stops = torch.tensor(ends, device=model.device)
    work, waiting = Slots(model, temperature), 0  # the first prompt that is not begun
    together = distributed.is_sharded(
        model
    )  # then every rank calls the model as often as the others
    alive = torch.zeros(0, dtype=torch.bool, device=model.device)
    while True:
        going = int(alive.sum())
        if going <= FULL_ENOUGH * len(alive):
            work.keep(alive)
            free = max(1, slots // samples) - going // samples
            entering = prompts[waiting : waiting + free]
            if entering and (not going or len(entering) > (1 - FULL_ENOUGH) * slots / samples):
                work.add(entering, samples, waiting * samples)
                waiting += len(entering)
            alive = torch.ones_like(work.sequence, dtype=torch.bool)
        if not (distributed.any_rank(len(alive) > 0) if together else len(alive)):
            break
        if not len(alive):  # another rank still works
            model(input_ids=stops[:1, None])
            continue
        number = work.drawn.clamp(max=max_new_tokens - 1)  # of slots that have finished
        chosen = pick(work.logits, None if greedy else numbers[work.sequence, number])
        active, place = work.sequence[alive], work.drawn[alive]
        tokens[active, place] = chosen[alive]
        lengths[active] = place + 1
        alive = alive & ~torch.isin(chosen, stops) & (work.drawn + 1 < max_new_tokens)
        if alive.any():
            work.step(chosen)
    every = zip(tokens.tolist(), lengths.tolist(), strict=True)
    return Drawn(prompts, [row[:length] for row, length in every])


def pick(logits: Tensor, numbers: Tensor | None) -> Tensor:
    """Return a token per row, [S] from [S, V]: by numbers in [0, 1), [S], or the likeliest."""
    if numbers is None:
        return logits.argmax(-1)
    below = logits.softmax(-1).cumsum(-1, dtype=torch.float64)
    wanted = numbers[:, None].double() * below[:, -1:]
    # To the right of equal values: a token of probability 0 is never drawn.
    return torch.searchsorted(below, wanted, right=True)[:, 0].clamp(max=logits.shape[1] - 1)


def positions(mask: Tensor) -> Tensor:
    """Number the real tokens of each left-padded row from 0; [N, T] from [N, T]."""
    return (mask.cumsum(1) - 1).clamp(min=0)


def widened(values: Tensor, length: int, axis: int = -1) -> Tensor:
    """Return values padded on the left of an axis to at least a length."""
    missing = max(0, length - values.shape[axis])
    return padded(values, [0, 0] * (-1 - axis) + [missing, 0])
