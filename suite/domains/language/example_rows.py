"""Rows and a model that are made here, in the formats of real ones: to try the domain offline.

The model is the small Llama that the domain `lm` trains; the rows are its own completions of
arithmetic prompts, with what the exact judge says of each.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from suite.domains.language.config import LMConfig, ModelConfig
from suite.domains.language.generation import (
    complete,
    decoded,
    held_out_score,
    scores_of,
    task_judge,
)
from suite.domains.language.offline_config import BuiltinConfig, DataConfig
from suite.domains.language.pretraining import reference_folder
from suite.domains.language.tasks import build_task
from suite.domains.language.tasks.base import Task
from suite.system import distributed
from suite.system.files import write_text

SEED, EVAL_PROMPTS = 7, 512


class Made(NamedTuple):
    """Where model and rows are."""

    model: Path
    rows: Path
    held_out: Path | None
    task: Task

    def data(self, settings: DataConfig) -> DataConfig:
        """Return settings that read these rows."""
        held_out = None if self.held_out is None else str(self.held_out)
        return replace(
            settings, path=str(self.rows), eval_path=held_out, scores="threshold", threshold=0.5
        )

    def accuracy(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> float:
        """Return the sampled accuracy on held-out prompts, as the exact judge sees it."""
        return held_out_score(
            model, tokenizer, self.task, prompts=EVAL_PROMPTS, samples=1, seed=SEED + 1
        )


def made_here(plan: BuiltinConfig, cache: Path) -> Made:
    """Make model and rows where they are not there yet."""
    model = ModelConfig(**asdict(plan.model))
    settings = LMConfig(digits=plan.digits, model=model, pretrain=plan.pretrain)
    task = build_task(settings)
    assert task is not None  # arithmetic is built in
    folder = reference_folder(settings, task, cache / "references")
    name = f"{folder.name}-{plan.prompts}x{plan.samples}"
    path = folder.with_name(f"{name}{'-rejected' if plan.only_rejected else ''}.jsonl")
    held_out = path.with_suffix(".eval.jsonl") if plan.only_rejected else None
    if distributed.rank() == 0 and not path.exists():  # two that make it at once make the same
        if held_out is not None:
            write_rows(held_out, anchored(judged(folder, task, plan, held_out=True)))
        rows = judged(folder, task, plan, held_out=False)
        write_rows(path, wrong(rows) if plan.only_rejected else rows)
    distributed.broadcast("they are there")
    return Made(folder, path, held_out, task)


def write_rows(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write rows as JSON lines."""
    write_text(path, "".join(f"{json.dumps(row)}\n" for row in rows))


def wrong(groups: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield a rejected row for each wrong completion."""
    return (row for row in anchored(groups) if row["label"] < 0)


def anchored(groups: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield a row for each completion: rejected if it is wrong, else an anchor."""
    for group in groups:
        for completion, score in zip(group["completions"], group["scores"], strict=True):
            label = 0 if score else -1
            yield {"prompt": group["prompt"], "completion": completion, "label": label}


def judged(
    folder: Path, task: Task, plan: BuiltinConfig, *, held_out: bool
) -> Iterator[dict[str, Any]]:
    """Yield rows: the model's own completions of a prompt, each with score 1 if it is right."""
    model = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    generator = torch.Generator().manual_seed(SEED)
    prompts = task.prompts(plan.prompts, generator, held_out=held_out)
    drawn = complete(model, tokenizer, prompts, plan.samples, task.max_new_tokens, generator)
    texts = decoded(tokenizer, drawn)
    scores = scores_of(task_judge(task), "exact", prompts, texts, plan.samples).tolist()
    for i, (prompt, each) in enumerate(zip(prompts, scores, strict=True)):
        own = texts[i * plan.samples : (i + 1) * plan.samples]
        yield {"prompt": prompt, "completions": own, "scores": each}
