"""Built-in rows and a built-in model, in the formats of real ones: to try the domain offline.

The model is the small Llama that the domain `lm` pre-trains. The rows are its own completions of
arithmetic prompts, with the scores of the exact judge.
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

from suite.domains.language.config import EvalPart
from suite.domains.language.eval_part import eval_prompts
from suite.domains.language.generation import (
    complete,
    decode,
    judge_completions,
    sampled_score,
    task_judge,
)
from suite.domains.language.offline_config import BuiltinConfig, DataConfig
from suite.domains.language.online_config import LMConfig, ModelConfig
from suite.domains.language.pretraining import reference_folder
from suite.domains.language.tasks import build_task
from suite.domains.language.tasks.base import Task
from suite.system.cache import cached

SEED, EVAL_PROMPTS = 7, 512


class BuiltinData(NamedTuple):
    """Where the model and the rows are, and the task of both."""

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

    def accuracy(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, part: EvalPart
    ) -> float:
        """Return the sampled accuracy on a part of the held-out prompts, by the exact judge."""
        generator = torch.Generator().manual_seed(SEED + 1)
        source = eval_prompts(self.task, part)
        prompts = source.prompts(EVAL_PROMPTS, generator, held_out=True)
        return sampled_score(model, tokenizer, self.task, prompts, 1, generator)


def builtin_data(settings: BuiltinConfig, cache: Path) -> BuiltinData:
    """Return model and rows, making them where the cache does not hold them."""
    model = ModelConfig(**asdict(settings.model))
    lm = LMConfig(digits=settings.digits, model=model, pretrain=settings.pretrain)
    task = build_task(lm)
    assert task is not None  # arithmetic is built in
    folder = reference_folder(lm, task, cache / "references")
    name = f"{folder.name}-{settings.prompts}x{settings.samples}"
    if not settings.only_rejected:
        path = folder.with_name(f"{name}.jsonl")
        cached(path, lambda new: write_rows(new, judged_rows(folder, task, settings)))
        return BuiltinData(folder, path, None, task)
    path = folder.with_name(f"{name}-rejected.jsonl")
    held_out = path.with_suffix(".eval.jsonl")

    def write_held_out(new: Path) -> None:
        write_rows(new, rejections(judged_rows(folder, task, settings, held_out=True)))

    def write_training(new: Path) -> None:
        rows = rejections(judged_rows(folder, task, settings))
        write_rows(new, (row for row in rows if row["label"] < 0))

    cached(held_out, write_held_out)
    cached(path, write_training)
    return BuiltinData(folder, path, held_out, task)


def write_rows(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write rows as JSON lines."""
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")


def rejections(groups: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield a row for each completion: rejected if it is wrong, else labelled 0."""
    for group in groups:
        for completion, score in zip(group["completions"], group["scores"], strict=True):
            label = 0 if score else -1
            yield {"prompt": group["prompt"], "completion": completion, "label": label}


def judged_rows(
    folder: Path, task: Task, settings: BuiltinConfig, *, held_out: bool = False
) -> Iterator[dict[str, Any]]:
    """Yield the model's own completions of a prompt, each with score 1 if it is right, else 0."""
    model = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=False)
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    generator = torch.Generator().manual_seed(SEED)
    prompts, samples = (
        task.prompts(settings.prompts, generator, held_out=held_out),
        settings.samples,
    )
    drawn = complete(model, tokenizer, prompts, samples, task.max_new_tokens, generator)
    texts = decode(tokenizer, drawn)
    scores = judge_completions(task_judge(task), "exact", prompts, texts, samples).tolist()
    for i, (prompt, row) in enumerate(zip(prompts, scores, strict=True)):
        completions = texts[i * samples : (i + 1) * samples]
        yield {"prompt": prompt, "completions": completions, "scores": row}
