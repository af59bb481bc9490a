"""Sequences of tokens side by side, for one pass of a model over all completions of a batch.

Shapes: B groups of K completions each, N rows of L tokens, T completion tokens in all.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedModel


class Sequence(NamedTuple):
    """A prompt with one completion."""

    ids: list[int]
    prompt: int  # how many of them are the prompt's


class Tokens(NamedTuple):
    """Rows padded on the right: one sequence each, or a prompt with all its completions."""

    input_ids: Tensor  # [N, L]
    positions: Tensor  # [N, L] within its own sequence
    segments: Tensor  # [N, L] 0 prompt, 1 … the completion that it belongs to, −1 padding
    before: Tensor  # [T] where in N·L the state stands that predicts a completion's token
    targets: Tensor  # [T] the completions' tokens
    owner: Tensor  # [T] which of the B·K sequences each belongs to
    shared: bool  # whether rows hold several completions of one prompt


def collate(groups: list[list[Sequence]], pad: int, share: bool) -> Tokens:
    """Lay sequences side by side; completions of one prompt may `share` it."""
    share = share and max(map(len, groups)) > 1
    rows = groups if share else [[sequence] for group in groups for sequence in group]
    longest = max(map(row_length, rows))
    columns: tuple[list[list[int]], ...] = ([], [], [])
    before: list[int] = []
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
            before += [*first, *range(start, start + len(completion) - 1)]
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
    made = [torch.tensor(column) for column in columns]
    made += [torch.tensor(values, dtype=torch.long) for values in (before, targets, owner)]
    return Tokens(made[0], made[1], made[2], made[3], made[4], made[5], share)


def row_length(row: list[Sequence]) -> int:
    """Return the tokens of a row whose sequences share their prompt."""
    return row[0].prompt + sum(len(sequence.ids) - sequence.prompt for sequence in row)


def attention(tokens: Tokens, model: PreTrainedModel) -> Any:
    """Return the masks of who may look at whom, where completions share their prompt."""
    seeing, seen = tokens.segments[:, :, None], tokens.segments[:, None, :]
    index = torch.arange(seeing.shape[1], device=seeing.device)
    itself = index[:, None] == index
    visible = (index[:, None] >= index) & ((seen == 0) | (seen == seeing)) | itself
    distance = tokens.positions[:, :, None] - tokens.positions[:, None, :]
    config = model.config
    kinds = set(getattr(config, "layer_types", None) or ())
    window = getattr(config, "sliding_window", None)
    near = visible & (distance < window) if window else visible
    if kinds == {"full_attention", "sliding_attention"}:
        found = {"full_attention": visible, "sliding_attention": near}
        return {kind: prepared(mask, model) for kind, mask in found.items()}
    return prepared(near if not kinds or kinds == {"sliding_attention"} else visible, model)


def prepared(mask: Tensor, model: PreTrainedModel) -> Tensor:
    """Return a mask [N, L, L] as a model's attention takes it, [N, 1, L, L]."""
    if model.config._attn_implementation == "sdpa":
        return mask[:, None]
    hidden = torch.zeros(mask.shape, dtype=model.dtype, device=mask.device)
    return hidden.masked_fill_(~mask, torch.finfo(model.dtype).min)[:, None]
