"""A language task: prompts, demonstrations for pre-training, and a score."""

from typing import Protocol

import torch

from suite.domains.language.io import Text


class Prompts(Protocol):
    """A source of prompts."""

    max_new_tokens: int
    """Longest completion in tokens, the end token included."""

    def prompts(self, count: int, generator: torch.Generator, *, held_out: bool) -> list[Text]:
        """Draw `count` prompts; held-out prompts never occur among the others."""
        ...


class Task(Prompts, Protocol):
    """A language task; see `suite/domains/language/tasks/arithmetic.py` for a complete one."""

    alphabet: str
    """All characters of prompts and completions."""

    def demonstration(self, prompt: str, generator: torch.Generator) -> str:
        """Return a completion that supervised pre-training imitates."""
        ...

    def score(self, prompt: str, completion: str) -> float:
        """Return the score of a completion, at most 1."""
        ...
