"""What a language task is: prompts, demonstrations for pre-training, and a judge."""

from typing import Protocol

import torch


class Task(Protocol):
    """A language task; see `suite/domains/lm/tasks/arithmetic.py` for a complete one."""

    alphabet: str
    """Every character that prompts and completions use."""

    max_new_tokens: int
    """Longest completion in tokens, the end token included."""

    def prompts(self, count: int, generator: torch.Generator, *, held_out: bool) -> list[str]:
        """Draw `count` prompts; held-out prompts never occur among the others."""
        ...

    def demonstration(self, prompt: str) -> str:
        """Return the completion that supervised pre-training imitates."""
        ...

    def judge(self, prompt: str, completion: str) -> bool:
        """Tell whether the completion counts as preferred."""
        ...
