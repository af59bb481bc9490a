"""Packed sequences of tokens, for one pass of a model over all completions of a batch.

Shapes: B groups of K completions each, N rows of L tokens, T completion tokens in all.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedModel


class Sequence(NamedTuple):
    """A prompt with one completion."""

    ids: list[int]
    prompt: int  # the number of tokens of the prompt


class Tokens(NamedTuple):
    """Rows padded on the right: one sequence each, or a prompt with all its completions."""

    input_ids: Tensor  # [N, L]
    positions: Tensor  # [N, L] of each token in its own sequence
    segments: Tensor  # [N, L] 0 prompt, from 1 on the number of the completion, −1 padding
    state_index: Tensor  # [T] index in N·L of the state that predicts each target
    targets: Tensor  # [T] the completions' tokens
    owner: Tensor  # [T] index of the sequence of each target, below B·K
    shared: bool  # whether rows hold several completions of one prompt


def pack(groups: list[list[Sequence]], pad: int, shared_prompts: bool) -> Tokens:
    """Pack sequences into rows; a prompt with all its completions may be one row."""
    shared_prompts = shared_prompts and max(map(len, groups)) > 1 and all(map(one_prompt, groups))
    rows = groups if shared_prompts else [[sequence] for group in groups for sequence in group]
    longest = max(map(row_length, rows))
    columns: tuple[list[list[int]], ...] = ([], [], [])
    state_index: list[int] = []
    targets: list[int] = []
    owner: list[int] = []
    for number, row in enumerate(rows):
        prompt = row[0].prompt
        ids, positions, segments = row[0].ids[:prompt], list(range(prompt)), [0] * prompt
        for segment, sequence in enumerate(row, 1):
            completion = sequence.ids[prompt:]
            start = number * longest + len(ids)
            # The prompt's last state predicts every completion's first token, if there is one.
            first = [number * longest + prompt - 1] if prompt else []
            state_index += [*first, *range(start, start + len(completion) - 1)]
            targets += completion if prompt else completion[1:]
            ids = ids + completion
            positions += range(prompt, prompt + len(completion))
            segments += [segment] * len(completion)
        empty = longest - len(ids)
        for column, values, filler in zip(
            columns, (ids, positions, segments), (pad, 0, -1), strict=True
        ):
            column.append(values + [filler] * empty)
    sequences = (sequence for row in rows for sequence in row)
    for number, sequence in enumerate(sequences):
        owner += [number] * (len(sequence.ids) - max(sequence.prompt, 1))
    tensors = [torch.tensor(column) for column in columns]
    tensors += [torch.tensor(values, dtype=torch.long) for values in (state_index, targets, owner)]
    return Tokens._make([*tensors, shared_prompts])


def one_prompt(row: list[Sequence]) -> bool:
    """Return whether sequences have the same prompt tokens: a token may end in the completion."""
    first = row[0].ids[: row[0].prompt]
    return all(s.prompt == row[0].prompt and s.ids[: s.prompt] == first for s in row[1:])


def row_length(row: list[Sequence]) -> int:
    """Return the number of tokens of a row whose sequences share their prompt."""
    return row[0].prompt + sum(len(sequence.ids) - sequence.prompt for sequence in row)


def attention_mask(tokens: Tokens, model: PreTrainedModel) -> Any:
    """Return the attention mask of rows whose completions share their prompt.

    A completion attends to its prompt and to itself. Models with several kinds of layers get one
    mask for each kind.
    """
    query, key = tokens.segments[:, :, None], tokens.segments[:, None, :]
    index = torch.arange(query.shape[1], device=query.device)
    itself = index[:, None] == index
    visible = (index[:, None] >= index) & ((key == 0) | (key == query)) | itself
    distance = tokens.positions[:, :, None] - tokens.positions[:, None, :]
    config = model.config.get_text_config()
    kinds = set(getattr(config, "layer_types", None) or ())
    window = getattr(config, "sliding_window", None)
    near = visible & (distance < window) if window else visible
    if kinds == {"full_attention", "sliding_attention"}:
        masks = {"full_attention": visible, "sliding_attention": near}
        return {kind: as_model_mask(mask, model) for kind, mask in masks.items()}
    return as_model_mask(near if not kinds or kinds == {"sliding_attention"} else visible, model)


def as_model_mask(mask: Tensor, model: PreTrainedModel) -> Tensor:
    """Return a mask [N, L, L] in the form of the model's attention implementation, [N, 1, L, L]."""
    if model.config._attn_implementation == "sdpa":
        return mask[:, None]
    hidden = torch.zeros(mask.shape, dtype=model.dtype, device=mask.device)
    return hidden.masked_fill_(~mask, torch.finfo(model.dtype).min)[:, None]
