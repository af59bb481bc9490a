"""Halves of the held-out prompts: one to tune settings on, and the other to report results of.

A digest of the prompt names its half. The halves are disjoint, and the same for every seed.
"""

from collections.abc import Callable, Iterable
from hashlib import sha256
from typing import TypeVar

import torch

from suite.config.fields import ConfigError
from suite.domains.language.config import EvalPart
from suite.domains.language.io import Text
from suite.domains.language.tasks.base import Prompts

LEAST_DRAWN = 64  # prompts at a time
MAX_EMPTY_DRAWS = 100  # in a row, after which a half counts as empty
Item = TypeVar("Item")


def half_of(key: bytes) -> EvalPart:
    """Return the half that a prompt belongs to; `key` is the prompt or a digest of it."""
    return "tuning" if sha256(key).digest()[0] % 2 else "report"


def part_of(
    items: Iterable[Item], part: EvalPart, key: Callable[[Item], bytes], what: str
) -> list[Item]:
    """Return the items of a part, in their order.

    `key` returns the prompt of an item, and `what` names the items in the ConfigError that is
    raised where either half is empty.
    """
    items = list(items)
    if part == "all":
        return items
    halves: dict[EvalPart, list[Item]] = {"tuning": [], "report": []}
    for item in items:
        halves[half_of(key(item))].append(item)
    for name, half in halves.items():
        if not half:
            raise ConfigError(
                f"domain.eval_part={part} needs {what} in both halves, and the half `{name}` of"
                f" {len(items)} is empty; hold out more prompts, or set domain.eval_part=all"
            )
    return halves[part]


def prompt_key(prompt: Text) -> bytes:
    """Return the bytes of a prompt that its half follows from."""
    return repr(prompt).encode()


class HalfOfPrompts:
    """Prompts of a source; those held out are of one half."""

    def __init__(self, source: Prompts, part: EvalPart) -> None:
        self.source = source
        self.part = part
        self.max_new_tokens = source.max_new_tokens

    def prompts(self, count: int, generator: torch.Generator, *, held_out: bool) -> list[Text]:
        """Draw `count` prompts; raises ConfigError where no held-out prompt is in the half."""
        if not held_out:
            return self.source.prompts(count, generator, held_out=False)
        chosen: list[Text] = []
        empty = 0
        while len(chosen) < count:
            drawn = self.source.prompts(max(count, LEAST_DRAWN), generator, held_out=True)
            half = [prompt for prompt in drawn if half_of(prompt_key(prompt)) == self.part]
            empty = 0 if half else empty + 1
            if empty == MAX_EMPTY_DRAWS:
                raise ConfigError(
                    f"domain.eval_part={self.part} needs held-out prompts in that half, and"
                    f" {empty * len(drawn)} draws had none; set domain.eval_part=all"
                )
            chosen += half
        return chosen[:count]


def eval_prompts(source: Prompts, part: EvalPart) -> Prompts:
    """Return a source whose held-out prompts are those of a part."""
    return source if part == "all" else HalfOfPrompts(source, part)
