"""Judges by import path, as users would write them."""

from collections.abc import Sequence
from typing import Any

CALLS: list[int] = []


def length(prompts: Sequence[Any], completions: Sequence[str]) -> list[float]:
    """Prefer short ones."""
    CALLS.append(len(prompts))
    return [-float(len(text)) for text in completions]


def broken(prompts: Sequence[Any], completions: Sequence[str]) -> list[float]:
    raise KeyError("price")


def undefined(prompts: Sequence[Any], completions: Sequence[str]) -> list[float]:
    return [float("nan")] * len(completions)


def short(prompts: Sequence[Any], completions: Sequence[str]) -> list[float]:
    return [1.0]


NUMBER = 3
