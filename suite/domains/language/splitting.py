"""Held-out rows: those of whole prompts, so that no prompt is both learned from and evaluated."""

import logging

import torch

from suite.domains.language.batching import Encoded

logger = logging.getLogger(__name__)


def split_by_prompt(groups: list[Encoded], share: float) -> tuple[list[Encoded], list[Encoded]]:
    """Return the groups of a share of the prompts, and the others; the same at every call."""
    by_prompt: dict[bytes, list[Encoded]] = {}
    for group in groups:
        by_prompt.setdefault(group.prompt, []).append(group)
    generator = torch.Generator().manual_seed(0)
    prompts = list(by_prompt.values())
    shuffled = [prompts[i] for i in torch.randperm(len(prompts), generator=generator).tolist()]
    count = round(share * len(prompts))
    held_out, rows = shuffled[:count], shuffled[count:]
    return [group for rest in held_out for group in rest], [g for rest in rows for g in rest]


def warn_of_leaks(rows: list[Encoded], held_out: list[Encoded]) -> None:
    """Say how many of the prompts of domain.data.eval_path are learned from."""
    evaluated = {group.prompt for group in held_out}
    if leaked := evaluated & {group.prompt for group in rows}:
        logger.warning(
            "%s of the %s prompts of domain.data.eval_path are also among the training rows:"
            " what is evaluated was learned from",
            *(len(leaked), len(evaluated)),
        )
