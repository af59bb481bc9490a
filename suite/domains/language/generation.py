"""Completions of prompts, and their scores."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from suite.config.fields import ConfigError
from suite.domains.language.encoding import prompt_ids
from suite.domains.language.io import Text, abbreviated
from suite.domains.language.loading import longest_input
from suite.domains.language.models import end_tokens
from suite.domains.language.sampling import SampledTokens, sample
from suite.domains.language.tasks.base import Task

Judge = Callable[[Sequence[Text], Sequence[str]], Sequence[float]]
"""Returns the scores of completions, given the prompt of each."""


def complete(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Text],
    samples: int,
    max_new_tokens: int,
    generator: torch.Generator,
    *,
    greedy: bool = False,
    split: bool = False,
    temperature: float = 1.0,
    slots: int = 512,
) -> SampledTokens:
    """Sample completions of each prompt; with `split`, every rank has its own prompts."""
    ids = [prompt_ids(prompt, tokenizer, "a prompt") for prompt in prompts]
    if not all(ids):
        raise ConfigError("a prompt must have tokens; found an empty one")
    positions, longest = longest_input(model), max(map(len, ids), default=0)
    if positions is not None and longest + max_new_tokens > positions:
        raise ConfigError(
            f"a prompt and {max_new_tokens} new tokens must fit into the model's {positions}"
            f" positions, found a prompt of {longest} tokens"
        )
    return sample(
        *(model, ids, samples, max_new_tokens, generator),
        ends=end_tokens(model, tokenizer),
        greedy=greedy,
        split=split,
        temperature=temperature,
        slots=slots,
    )


def judge_completions(
    judge: Judge, name: str, prompts: Sequence[Text], texts: Sequence[str], samples: int
) -> Tensor:
    """Return a judge's scores, [B, K]; raises ConfigError where it fails or returns no numbers."""
    repeated = [prompt for prompt in prompts for _ in range(samples)]
    try:
        scores = [float(score) for score in judge(repeated, texts)]
    except (Exception, SystemExit) as error:  # of somebody else's code
        message = f"{type(error).__name__}: {error}"
        raise ConfigError(
            f"domain.judge={name} failed on {len(texts)} completions: {message}"
        ) from error
    if len(scores) != len(texts):
        raise ConfigError(
            f"domain.judge={name} must return {len(texts)} scores, one per completion, found"
            f" {len(scores)}"
        )
    for prompt, text, score in zip(repeated, texts, scores, strict=True):
        if not math.isfinite(score):
            raise ConfigError(
                f"domain.judge={name} must return finite scores, found {score} for"
                f" {abbreviated(text)} after {abbreviated(prompt)}"
            )
    return torch.tensor(scores).view(-1, samples)


def task_judge(task: Task) -> Judge:
    """Return the task's own rule as a judge."""

    def judge(prompts: Sequence[Text], texts: Sequence[str]) -> list[float]:
        pairs = zip(prompts, texts, strict=True)
        return [task.score(str(prompt), text) for prompt, text in pairs]

    return judge


def decode(tokenizer: PreTrainedTokenizerBase, drawn: SampledTokens) -> list[str]:
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
    return sampled_score(model, tokenizer, task, texts, samples, generator)


def sampled_score(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    task: Task,
    prompts: list[Text],
    samples: int,
    generator: torch.Generator,
) -> float:
    """Return the task's mean score of `samples` completions of each prompt."""
    drawn = complete(model, tokenizer, prompts, samples, task.max_new_tokens, generator)
    texts = decode(tokenizer, drawn)
    return judge_completions(task_judge(task), "exact", prompts, texts, samples).mean().item()
