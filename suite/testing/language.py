"""The contracts of a language task and of a judge."""

import math
from collections.abc import Sequence
from typing import Any

import torch

from suite.config.registry import choose
from suite.domains.language.judge_function import import_judge
from suite.testing.shared import require

DRAWN = 64


def check_task(name: str) -> None:
    """Check everything that the suite relies on in a language task; its class takes no arguments.

    `name` is the value of `domain.task`. Raises BrokenContract in one sentence, and ConfigError
    where the name leads nowhere.
    """
    task: Any = choose("task", name).settings()
    sides = {held_out: prompts_of(task, held_out) for held_out in (False, True)}
    require(
        not set(sides[False]) & set(sides[True]),
        "a held-out prompt must never occur among the others",
    )
    for held_out, prompts in sides.items():
        require(len(prompts) == DRAWN, f"prompts must return as many as asked for, {DRAWN}")
        require(prompts == prompts_of(task, held_out), "equal generators must draw equal prompts")
    generator = torch.Generator().manual_seed(0)
    for prompt in sides[False]:
        answer = task.demonstration(prompt, generator)
        stray = set(prompt + answer) - set(task.alphabet)
        require(not stray, f"the alphabet lacks {sorted(stray)} of {prompt + answer!r}")
        require(
            len(answer) < task.max_new_tokens,
            f"a demonstration of {len(answer)} tokens and the end token must fit into"
            f" max_new_tokens={task.max_new_tokens}",
        )
        score = task.score(prompt, answer)
        require(
            isinstance(score, float) and score <= 1,
            f"score must be a number up to 1, found {score}",
        )


def prompts_of(task: Any, held_out: bool) -> list[str]:
    """Draw prompts from one side, always the same."""
    generator = torch.Generator().manual_seed(0)
    return list(task.prompts(DRAWN, generator, held_out=held_out))


def check_judge(name: str, prompts: Sequence[str], completions: Sequence[str]) -> None:
    """Check that a judge returns one finite number per completion, in any order.

    `name` is the value of `domain.judge`. Raises as `check_task` does.
    """
    judge = import_judge(name)
    scores = list(judge(prompts, completions))
    require(
        len(scores) == len(completions),
        f"a judge must return a score per completion, found {len(scores)} for {len(completions)}",
    )
    require(all(math.isfinite(score) for score in scores), "scores must be finite numbers")
    backwards = list(judge(prompts[::-1], completions[::-1]))[::-1]
    require(scores == backwards, "a score must not depend on the order of the completions")
