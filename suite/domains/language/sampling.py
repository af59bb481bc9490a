"""Batched sampling of token ids from a causal language model.

A fixed number of slots is in use at a time. Finished sequences leave, and further prompts take
their slots, so that other prompts need not wait for long completions.

Shapes: N sequences (B prompts × K samples), S slots in use, L cached tokens, V vocabulary.
"""

import logging
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from torch.nn.functional import pad as padded
from transformers import Cache, PreTrainedModel
from transformers.cache_utils import DynamicLayer
from typing_extensions import override

from suite.domains.language.head import Head
from suite.system import distributed

logger = logging.getLogger(__name__)

FULL_ENOUGH = 0.75  # share of busy slots below which finished sequences are replaced
GROWTH = 64  # tokens by which a cache grows at a time
CACHED: WeakKeyDictionary[PreTrainedModel, bool] = WeakKeyDictionary()
"""Whether a model is sampled with a cache."""


class SampledTokens(NamedTuple):
    """K sampled completions of each prompt, as token ids; B·K of them, prompt by prompt."""

    prompts: list[list[int]]
    completions: list[list[int]]  # with the end token where it was drawn


class GrowingLayer(DynamicLayer):  # type: ignore[misc]
    """Keys and values with free memory for further tokens: no copy for every token."""

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
            shape = (2, *keys.shape[:-2], needed + GROWTH, keys.shape[-1])
            store = keys.new_empty(shape)
            store[0, ..., :length, :], store[1, ..., :length, :] = self.keys, self.values
            self.store = store
        self.store[0, ..., length:needed, :], self.store[1, ..., length:needed, :] = keys, values
        self.keys, self.values = self.store[..., :needed, :]
        return self.keys, self.values

    def replace(self, keys: Tensor, values: Tensor) -> None:
        """Replace all keys and values."""
        self.keys, self.values, self.store = keys, values, None


class Slots:
    """The sequences in use: a cache padded on the left, and the logits of the next token."""

    def __init__(self, model: PreTrainedModel, temperature: float) -> None:
        self.model = model
        self.temperature = temperature
        device = model.device
        self.cache = Cache(layer_class_to_replicate=GrowingLayer)
        self.sequence = torch.zeros(0, dtype=torch.long, device=device)  # [S]
        self.drawn = self.sequence.clone()  # [S] the number of its drawn tokens
        self.mask = torch.zeros(0, 0, dtype=torch.long, device=device)  # [S, L]
        self.logits = torch.zeros(0, 1, device=device)  # [S, V] of its next token

    def run(self, cache: Cache, ids: Tensor, mask: Tensor, positions: Tensor) -> Tensor:
        """Return the logits after the last token, [S, V] from [S, tokens]."""
        named: dict[str, Any] = {
            "input_ids": ids,
            "attention_mask": mask,
            "position_ids": positions,
            "past_key_values": cache,
            "use_cache": True,
        }
        if torch.is_autocast_enabled(ids.device.type):
            return self.head_logits(self.model.base_model(**named).last_hidden_state[:, -1])
        logits: Tensor = self.model(**named, logits_to_keep=1).logits[:, -1]
        return logits.float() / self.temperature

    def head_logits(self, states: Tensor) -> Tensor:
        """Return logits from final states, [S, V] from [S, H], in the precision of training."""
        head = Head.of(self.model, self.temperature)
        return head.logits(states, head.low(states), len(head.weight))

    def add(self, prompts: list[list[int]], samples: int, first: int) -> None:
        """Run the model on each prompt once, for sequences numbered from `first` on."""
        longest = max(map(len, prompts))
        ids, mask = torch.zeros(2, len(prompts), longest, dtype=torch.long)
        for row, prompt in enumerate(prompts):
            ids[row, longest - len(prompt) :] = torch.tensor(prompt)
            mask[row, longest - len(prompt) :] = 1
        ids, mask = ids.to(self.mask.device), mask.to(self.mask.device)
        cache = Cache(layer_class_to_replicate=GrowingLayer)
        logits = self.run(cache, ids, mask, position_ids(mask)).repeat_interleave(samples, 0)
        mask = mask.repeat_interleave(samples, 0)
        length, before = longest, self.mask.shape[1]
        self.mask = torch.cat([pad_left(self.mask, length), pad_left(mask, before)])
        for i, layer in enumerate(cache.layers):
            parts = [part.repeat_interleave(samples, 0) for part in (layer.keys, layer.values)]
            if before:
                running = self.cache.layers[i]
                parts = [
                    torch.cat([pad_left(old, length, -2), pad_left(new, before, -2)])
                    for old, new in zip((running.keys, running.values), parts, strict=True)
                ]
            layer.replace(*parts)
        self.cache = cache
        fresh = torch.arange(first, first + len(logits), device=self.sequence.device)
        self.sequence = torch.cat([self.sequence, fresh])
        self.drawn = torch.cat([self.drawn, torch.zeros_like(fresh)])
        self.logits = torch.cat([self.logits, logits]) if before else logits

    def keep(self, chosen: Tensor) -> None:
        """Keep the chosen slots only, [S] of bool, and drop padding that all have."""
        index = chosen.nonzero()[:, 0]
        mask = self.mask[index]
        start = int(mask.any(0).long().argmax()) if len(index) else mask.shape[1]
        self.mask, self.sequence, self.drawn = (
            mask[:, start:],
            self.sequence[index],
            self.drawn[index],
        )
        self.logits = self.logits[index]
        for layer in self.cache.layers:
            layer.replace(layer.keys[index, :, start:], layer.values[index, :, start:])

    def step(self, tokens: Tensor) -> None:
        """Run the model on one token per slot, [S]."""
        position = self.mask.sum(1, keepdim=True)
        self.mask = torch.cat([self.mask, torch.ones_like(position)], 1)
        self.logits = self.run(self.cache, tokens[:, None], self.mask, position)
        self.drawn += 1


class UncachedSlots(Slots):
    """The same for models with a cache of another kind: a token costs a pass over its sequence."""

    def __init__(self, model: PreTrainedModel, temperature: float) -> None:
        super().__init__(model, temperature)
        self.rows: list[list[int]] = []  # of S sequences

    def read(self, rows: list[list[int]]) -> Tensor:
        """Return the logits after the last token of each row, [N, V]."""
        longest, device = max(map(len, rows)), self.model.device
        ids = torch.tensor([row + [0] * (longest - len(row)) for row in rows], device=device)
        last = torch.tensor([len(row) - 1 for row in rows], device=device)
        states: Tensor = self.model.base_model(input_ids=ids, use_cache=False).last_hidden_state
        return self.head_logits(states[torch.arange(len(rows), device=device), last])

    @override
    def add(self, prompts: list[list[int]], samples: int, first: int) -> None:
        logits = self.read(prompts).repeat_interleave(samples, 0)
        self.rows = self.rows + [prompt for prompt in prompts for _ in range(samples)]
        fresh = torch.arange(first, first + len(logits), device=self.sequence.device)
        self.logits = torch.cat([self.logits, logits]) if len(self.sequence) else logits
        self.sequence = torch.cat([self.sequence, fresh])
        self.drawn = torch.cat([self.drawn, torch.zeros_like(fresh)])

    @override
    def keep(self, chosen: Tensor) -> None:
        index = chosen.nonzero()[:, 0]
        self.rows = [self.rows[i] for i in index.tolist()]
        self.sequence, self.drawn = self.sequence[index], self.drawn[index]
        self.logits = self.logits[index]

    @override
    def step(self, tokens: Tensor) -> None:
        self.rows = [[*row, token] for row, token in zip(self.rows, tokens.tolist(), strict=True)]
        self.logits = self.read(self.rows)
        self.drawn += 1


def slots_for(model: PreTrainedModel, temperature: float) -> Slots:
    """Return slots with a cache where a trial shows that the model reads it right, else without."""
    if model not in CACHED:
        CACHED[model] = can_cache(model)
        if not CACHED[model]:
            logger.info(
                "models of type %s are sampled without a cache, by a pass over all for each token",
                model.config.model_type,
            )
    return Slots(model, temperature) if CACHED[model] else UncachedSlots(model, temperature)


@torch.no_grad()
def can_cache(model: PreTrainedModel) -> bool:
    """Tell whether the cache of `Slots` gives the logits that whole sequences give.

    In the trial, prompts of different lengths run, one enters later, and one leaves.
    """
    embeddings: Any = model.get_input_embeddings()
    ids = [i % len(embeddings.weight) for i in range(3, 14)]
    whole, slots = UncachedSlots(model, 1.0), Slots(model, 1.0)
    try:
        for each in (whole, slots):
            each.add([ids[:5], ids[5:7]], 1, 0)
            for token in ids[:3]:
                each.step(torch.full_like(each.sequence, token))
            each.add([ids[7:10]], 1, 2)
            each.step(torch.full_like(each.sequence, ids[3]))
            each.keep(each.sequence > 0)
            each.step(torch.full_like(each.sequence, ids[4]))
    except Exception:  # each kind of model fails in its own way
        return False
    difference = (slots.logits - whole.logits).norm()
    exact = model.dtype == torch.float32 and not torch.is_autocast_enabled(model.device.type)
    return bool(difference <= (1e-3 if exact else 5e-2) * whole.logits.norm())


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
    split: bool = False,
    temperature: float = 1.0,
    slots: int = 512,
) -> SampledTokens:
    """Draw `samples` completions per prompt from the model at a temperature.

    There is no top-k or top-p: the objective's expectations are under the sampled distribution,
    which is the reference (arXiv 2410.04166). `greedy` takes the likeliest token instead.
    Each token is drawn with one random number, by the inverse of the distribution function. All
    numbers come from `generator`, on the CPU, before the first token, so that a sequence does not
    depend on the others in use. With `split`, a rank uses the part of the numbers for its prompts.
    """
    count = len(prompts) * samples
    numbers = torch.rand(
        (distributed.world_size() if split else 1) * count, max_new_tokens, generator=generator
    )
    numbers = (distributed.local_slice(numbers) if split else numbers).to(model.device)
    tokens = torch.zeros(count, max_new_tokens, dtype=torch.long, device=model.device)
    lengths = torch.zeros(count, dtype=torch.long, device=model.device)
    stops = torch.tensor(ends, device=model.device)
    busy, begun = slots_for(model, temperature), 0  # slots, and the number of prompts begun
    sharded = distributed.is_sharded(model)  # then all ranks must call the model equally often
    alive = torch.zeros(0, dtype=torch.bool, device=model.device)
    while True:
        unfinished = int(alive.sum())
        if unfinished <= FULL_ENOUGH * len(alive):
            busy.keep(alive)
            free = max(1, slots // samples) - unfinished // samples
            entering = prompts[begun : begun + free]
            if entering and (not unfinished or len(entering) > (1 - FULL_ENOUGH) * slots / samples):
                busy.add(entering, samples, begun * samples)
                begun += len(entering)
            alive = torch.ones_like(busy.sequence, dtype=torch.bool)
        if not (distributed.any_rank(len(alive) > 0) if sharded else len(alive)):
            break
        if not len(alive):  # another rank is still sampling
            model(input_ids=stops[:1, None])
            continue
        position = busy.drawn.clamp(max=max_new_tokens - 1)  # finished slots may be beyond
        chosen = pick_tokens(busy.logits, None if greedy else numbers[busy.sequence, position])
        active, place = busy.sequence[alive], busy.drawn[alive]
        tokens[active, place] = chosen[alive]
        lengths[active] = place + 1
        alive = alive & ~torch.isin(chosen, stops) & (busy.drawn + 1 < max_new_tokens)
        if alive.any():
            busy.step(chosen)
    rows = zip(tokens.tolist(), lengths.tolist(), strict=True)
    return SampledTokens(prompts, [row[:length] for row, length in rows])


def pick_tokens(logits: Tensor, numbers: Tensor | None) -> Tensor:
    """Return a token per row, [S] from [S, V], by numbers in [0, 1), [S]; None: the likeliest."""
    if numbers is None:
        return logits.argmax(-1)
    below = logits.softmax(-1).cumsum(-1, dtype=torch.float64)
    wanted = numbers[:, None].double() * below[:, -1:]
    # To the right of equal values: a token of probability 0 is never drawn.
    return torch.searchsorted(below, wanted, right=True)[:, 0].clamp(max=logits.shape[1] - 1)


def position_ids(mask: Tensor) -> Tensor:
    """Return the position of each real token of left-padded rows, from 0; [N, T] from [N, T]."""
    return (mask.cumsum(1) - 1).clamp(min=0)


def pad_left(values: Tensor, length: int, axis: int = -1) -> Tensor:
    """Return values padded on the left of an axis to at least a length."""
    missing = max(0, length - values.shape[axis])
    return padded(values, [0, 0] * (-1 - axis) + [missing, 0])
