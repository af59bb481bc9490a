"""Judges of completions: a task's rule, a function by import path, or a reward model."""

import copy
import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from suite.config.fields import ConfigError
from suite.domains.language.chat import freeze_date, moment_of
from suite.domains.language.encoding import conversation_ids
from suite.domains.language.generation import Judge, complete, decode, judge_completions, task_judge
from suite.domains.language.io import Text
from suite.domains.language.judge_function import import_judge, is_import_path
from suite.domains.language.loading import check_tokenizer, load_network, load_tokenizer
from suite.domains.language.models import Pair, causal_lm
from suite.domains.language.online_config import LMConfig
from suite.domains.language.tasks.base import Task
from suite.system.cache import cached

BATCH, SEED = 64, 11


def build_judge(
    settings: LMConfig, task: Task | None, pair: Pair, start: Path, cache: Path
) -> Judge:
    """Return the judge that the settings name; raises ConfigError where it cannot be loaded.

    `start` is the folder of the reference, from which a learned reward model is initialised.
    """
    name = settings.judge
    if name in ("exact", "learned"):
        assert task is not None  # the configuration was checked
        if name == "exact":
            return task_judge(task)
        return RewardModel(reward_model_folder(settings, task, pair, start, cache), pair)
    if is_import_path(name):
        return import_judge(name)
    return RewardModel(name, pair)


class RewardModel:
    """A sequence classifier of one output, over prompt and completion."""

    def __init__(self, name: str | Path, pair: Pair) -> None:
        self.tokenizer = load_tokenizer(str(name), "domain.judge")
        kind = AutoModelForSequenceClassification
        self.model: Any = load_network(kind, str(name), "domain.judge")
        check_tokenizer(self.tokenizer, self.model, f"domain.judge={name}")
        freeze_date(self.tokenizer, moment_of(pair.tokenizer))
        outputs = self.model.config.num_labels
        if outputs != 1:
            raise ConfigError(f"domain.judge={name} must have one output, found {outputs}")
        self.model.eval().requires_grad_(False).to(causal_lm(pair.policy).device)
        self.model.config.pad_token_id = self.tokenizer.pad_token_id

    def __call__(self, prompts: Sequence[Text], texts: Sequence[str]) -> list[float]:
        """Return the model's output for every completion."""
        return self.outputs(prompts, texts).tolist()

    @torch.no_grad()
    def outputs(self, prompts: Sequence[Text], texts: Sequence[str]) -> torch.Tensor:
        """Return the model's outputs, [N]."""
        device = self.model.device
        ids = [self.ids(prompt, text) for prompt, text in zip(prompts, texts, strict=True)]
        order = sorted(range(len(ids)), key=lambda i: len(ids[i]))  # little padding
        outputs = torch.zeros(len(ids))
        for start in range(0, len(order), BATCH):
            chosen = order[start : start + BATCH]
            batch = self.tokenizer.pad(
                {"input_ids": [ids[i] for i in chosen]}, return_tensors="pt", padding_side="right"
            )
            outputs[chosen] = self.model(**batch.to(device)).logits[:, 0].float().cpu()
        return outputs

    def ids(self, prompt: Text, text: str) -> list[int]:
        """Return the tokens of prompt and completion, with an end token."""
        return conversation_ids(prompt, text, self.tokenizer, "a prompt")


def reward_model_folder(
    settings: LMConfig, task: Task, pair: Pair, start: Path, cache: Path
) -> Path:
    """Return the folder of a reward model of the task's score, training it unless cached."""
    facts = json.dumps([asdict(settings.reward), start.name], sort_keys=True).encode()
    folder = cache / "rewards" / f"{settings.task}-{hashlib.sha256(facts).hexdigest()[:12]}"
    return cached(folder, lambda new: learn_reward(settings, task, pair, start, new))


def learn_reward(settings: LMConfig, task: Task, pair: Pair, start: Path, folder: Path) -> None:
    """Fit a classifier's output to noisy scores of the reference's own completions."""
    training = settings.reward
    generator = torch.Generator().manual_seed(SEED)
    prompts = task.prompts(training.completions, generator, held_out=False)
    model = causal_lm(pair.policy)
    drawn = complete(model, pair.tokenizer, prompts, 1, task.max_new_tokens, generator)
    texts = decode(pair.tokenizer, drawn)
    scores = judge_completions(task_judge(task), "exact", prompts, texts, 1)[:, 0]
    scores = scores + training.noise * torch.randn(len(scores), generator=generator)
    with torch.random.fork_rng():
        torch.manual_seed(SEED)
        body = load_network(AutoModelForCausalLM, str(start), "domain.model.path")
        config = copy.deepcopy(body.config)
        config.num_labels = 1
        reward = AutoModelForSequenceClassification.from_config(config)
        reward.base_model.load_state_dict(body.base_model.state_dict())
    reward.save_pretrained(folder)
    pair.tokenizer.save_pretrained(folder)
    judge = RewardModel(folder, pair)
    judge.model.train().requires_grad_(True)
    optimizer = torch.optim.AdamW(judge.model.parameters(), lr=training.lr, weight_decay=0.01)
    ids = [judge.ids(prompt, text) for prompt, text in zip(prompts, texts, strict=True)]
    for _ in range(training.steps):
        chosen = torch.randint(len(ids), (BATCH,), generator=generator).tolist()
        batch = judge.tokenizer.pad(
            {"input_ids": [ids[i] for i in chosen]}, return_tensors="pt", padding_side="right"
        ).to(judge.model.device)
        error = judge.model(**batch).logits[:, 0] - scores[chosen].to(judge.model.device)
        optimizer.zero_grad()
        torch.autograd.backward(error.square().mean())
        optimizer.step()
    judge.model.save_pretrained(folder)
