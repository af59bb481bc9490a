"""From prompts to scored completions: what the domains and the pre-training all need."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from suite.config.fields import ConfigError
from suite.domains.language.chat import prompt_ids
from suite.domains.language.io import Text, shown
from suite.domains.language.models import end_tokens
from suite.domains.language.sampling import Drawn, sample
from suite.domains.language.tasks.base import Task

Judge = Callable[[Sequence[Text], Sequence[str]], Sequence[float]]
"""Scores of completions, given as many prompts."""


def complete(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Text],
    samples: int,
    max_new_tokens: int,
    generator: torch.Generator,
    *,
    greedy: bool = False,
    share: bool = False,
    temperature: float = 1.0,
    slots: int = 512,
) -> Drawn:
    """Complete each prompt `samples` times with a model; ranks that `share` have prompts each."""
    if prompts and all(isinstance(prompt, str) for prompt in prompts):
        ids = tokenizer(list(prompts))["input_ids"]
    else:
        ids = [prompt_ids(prompt, tokenizer, "a prompt") for prompt in prompts]
    if not all(ids):
        raise ConfigError("a prompt must have tokens; found an empty one")
    return sample(
        *(model, ids, samples, max_new_tokens, generator),
        ends=end_tokens(model, tokenizer),
        greedy=greedy,
        share=share,
        temperature=temperature,
        slots=slots,
    )


def scores_of(
    judge: Judge, name: str, prompts: Sequence[Text], texts: Sequence[str], samples: int
) -> Tensor:
    """Return a judge's scores, [B, K]; raises ConfigError where it fails or returns no numbers."""
    every = [prompt for prompt in prompts for _ in range(samples)]
    try:
        found = [float(score) for score in judge(every, texts)]
    except Exception as error:  # of somebody else's code
        told = f"{type(error).__name__}: {error}"
        raise ConfigError(
            f"domain.judge={name} failed on {len(texts)} completions: {told}"
        ) from error
    if len(found) != len(texts):
        raise ConfigError(
            f"domain.judge={name} must return {len(texts)} scores, one per completion, found"
            f" {len(found)}"
        )
    for prompt, text, score in zip(every, texts, found, strict=True):
        if not math.isfinite(score):
            raise ConfigError(
                f"domain.judge={name} must return finite scores, found {score} for"
                f" {shown(text)} after {shown(prompt)}"
            )
    return torch.tensor(found).view(-1, samples)


def task_judge(task: Task) -> Judge:
    """Return the task's own rule as a judge."""

    def judge(prompts: Sequence[Text], texts: Sequence[str]) -> list[float]:
        pairs = zip(prompts, texts, strict=True)
        return [task.score(str(prompt), text) for prompt, text in pairs]

    return judge


def decoded(tokenizer: PreTrainedTokenizerBase, drawn: Drawn) -> list[str]:
    """Return the completions as text."""
    return list(tokenizer.batch_decode(drawn.completions, skip_special_tokens=True))


def held_out_score(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    task: Task,
    prompts: int,
    samples: int,
    seed: int,
) -> float:
    """Return the task's mean score on held-out prompts; equal for equal seeds."""
    generator = torch.Generator().manual_seed(seed)
    texts = task.prompts(prompts, generator, held_out=True)
    drawn = complete(model, tokenizer, texts, samples, task.max_new_tokens, generator)
    found = scores_of(task_judge(task), "exact", texts, decoded(tokenizer, drawn), samples)
    return found.mean().item()
