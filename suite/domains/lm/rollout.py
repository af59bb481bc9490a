"""From prompts to judged completions: what the domain and the pre-training both need."""

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from suite.domains.lm.sampling import Completions, sample
from suite.domains.lm.tasks.base import Task


def complete(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    task: Task,
    prompts: list[str],
    samples: int,
    generator: torch.Generator,
    greedy: bool = False,
    share: bool = False,
) -> Completions:
    """Complete each prompt `samples` times with a model; ranks that `share` have prompts each."""
    encoded = tokenizer(prompts, return_tensors="pt", padding=True).to(model.device)
    return sample(
        model,
        encoded["input_ids"],
        encoded["attention_mask"],
        samples=samples,
        max_new_tokens=task.max_new_tokens,
        generator=generator,
        greedy=greedy,
        share=share,
    )


def judge(
    task: Task,
    tokenizer: PreTrainedTokenizerBase,
    prompts: list[str],
    completions: Completions,
) -> Tensor:
    """Return 1 for each preferred completion and 0 for the others, [B, K]."""
    rows = completions.input_ids[:, -completions.completion_mask.shape[1] :]
    samples = len(rows) // len(prompts)
    texts = tokenizer.batch_decode(rows, skip_special_tokens=True)
    judged = [task.judge(prompts[i // samples], text) for i, text in enumerate(texts)]
    return torch.tensor(judged, dtype=torch.float32, device=rows.device).view(-1, samples)


def held_out_accuracy(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    task: Task,
    prompts: int,
    samples: int,
    seed: int,
    greedy: bool = False,
) -> float:
    """Return the share of preferred completions of held-out prompts; equal for equal seeds."""
    generator = torch.Generator().manual_seed(seed)
    texts = task.prompts(prompts, generator, held_out=True)
    completions = complete(model, tokenizer, task, texts, samples, generator, greedy)
    return judge(task, tokenizer, texts, completions).mean().item()
