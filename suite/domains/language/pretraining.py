"""The reference model: pre-trained once by supervised learning, then cached by its settings.

The cache is a folder in the format of transformers, named by a signature of all settings that
determine it. After a kill the training continues from its last checkpoint.
"""

import hashlib
import json
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from suite.domains.language.config import PretrainConfig
from suite.domains.language.generation import held_out_score
from suite.domains.language.online_config import LMConfig
from suite.domains.language.sampling import position_ids
from suite.domains.language.tasks.base import Task
from suite.domains.language.tokenizer import character_tokenizer
from suite.system.cache import cached
from suite.system.files import write_with

RECIPE = 1  # increase when a change of the code below changes the reference of equal settings
WARMUP = 50
CHECK_PROMPTS = 512


def reference_folder(settings: LMConfig, task: Task, cache: Path) -> Path:
    """Return the folder of reference and tokenizer, training the reference unless it is cached."""
    folder = cache / f"{settings.task}-{reference_signature(settings)}"
    checkpoint = folder.with_name(f".{folder.name}.ckpt")
    return cached(folder, lambda new: pretrain(settings, task, new, checkpoint), checkpoint)


def reference_signature(settings: LMConfig) -> str:
    """Hash everything that determines the reference."""
    relevant = {
        "recipe": RECIPE,
        "task": settings.task,
        "digits": settings.digits,
        "model": {key: value for key, value in asdict(settings.model).items() if key != "path"},
        "pretrain": asdict(settings.pretrain),
    }
    return hashlib.sha256(json.dumps(relevant, sort_keys=True).encode()).hexdigest()[:12]


def fresh_model(settings: LMConfig, tokenizer: PreTrainedTokenizerBase) -> LlamaForCausalLM:
    """Build an untrained small Llama."""
    shape = settings.model
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=shape.hidden_size,
            intermediate_size=4 * shape.hidden_size,
            num_hidden_layers=shape.layers,
            num_attention_heads=shape.heads,
            max_position_embeddings=64,
            tie_word_embeddings=True,
            pad_token_id=tokenizer.pad_token_id,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
    )


def pretrain(settings: LMConfig, task: Task, folder: Path, checkpoint: Path) -> None:
    """Train on demonstrations until the sampled accuracy reaches its target, then save.

    Training continues from the checkpoint if there is one, and writes it at every measurement.
    Raises RuntimeError where `max_steps` do not suffice.
    """
    training = settings.pretrain
    tokenizer = character_tokenizer(task.alphabet)
    with torch.random.fork_rng():
        torch.manual_seed(training.seed)
        model = fresh_model(settings, tokenizer)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=training.lr, betas=(0.9, 0.98), weight_decay=0.0
    )
    generator = torch.Generator().manual_seed(training.seed)
    step, reached = restore(checkpoint, model, optimizer, generator)
    with progress_bar() as bar:
        row = bar.add_task("pre-training the reference", total=training.max_steps, accuracy=0.0)
        while reached < training.target_accuracy:
            if step == training.max_steps:
                raise RuntimeError(
                    f"the reference reached {reached:.0%} sampled accuracy in"
                    f" domain.pretrain.max_steps={step}, below"
                    f" domain.pretrain.target_accuracy={training.target_accuracy:.0%}:"
                    " allow more steps or a larger domain.model"
                )
            supervised_step(model, tokenizer, task, optimizer, generator, training, step)
            step += 1
            if step % training.check_every == 0:
                reached = held_out_score(
                    model, tokenizer, task, prompts=CHECK_PROMPTS, samples=1, seed=training.seed
                )
                bar.update(row, completed=step, accuracy=reached)
                state = {
                    "model": model.state_dict(),
                    "optimizer": optimizer.state_dict(),
                    "generator": generator.get_state(),
                    "step": step,
                    "reached": reached,
                }
                write_with(checkpoint, partial(torch.save, state))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def supervised_step(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    task: Task,
    optimizer: torch.optim.Optimizer,
    generator: torch.Generator,
    training: PretrainConfig,
    step: int,
) -> None:
    """Take one step of maximum likelihood on freshly drawn demonstrations."""
    drawn = task.prompts(training.batch_size, generator, held_out=False)
    prompts = [str(prompt) for prompt in drawn]
    answers = [task.demonstration(p, generator) + tokenizer.eos_token for p in prompts]
    model.train()
    loss = demonstration_loss(model, tokenizer, prompts, answers)
    optimizer.param_groups[0]["lr"] = training.lr * min(1.0, (step + 1) / WARMUP)
    optimizer.zero_grad()
    torch.autograd.backward(loss)
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    model.eval()


def demonstration_loss(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: list[str],
    answers: list[str],
) -> Tensor:
    """Return the mean cross-entropy over the answers' tokens, []; prompts are masked."""
    whole = tokenizer(
        [p + a for p, a in zip(prompts, answers, strict=True)], return_tensors="pt", padding=True
    )
    ids, mask = whole["input_ids"], whole["attention_mask"]
    # Rows end at the right edge (padding is on the left): an answer is its row's last tokens.
    lengths = torch.tensor([len(tokenizer(answer)["input_ids"]) for answer in answers])
    from_right = torch.arange(ids.shape[1] - 1, 0, -1)
    in_answer = from_right[None] <= lengths[:, None]
    logits = model(input_ids=ids, attention_mask=mask, position_ids=position_ids(mask)).logits
    return cross_entropy(logits[:, :-1][in_answer], ids[:, 1:][in_answer])


def restore(
    checkpoint: Path,
    model: PreTrainedModel,
    optimizer: torch.optim.Optimizer,
    generator: torch.Generator,
) -> tuple[int, float]:
    """Restore an interrupted pre-training; return its step and its last accuracy."""
    if not checkpoint.exists():
        return 0, 0.0
    state: dict[str, Any] = torch.load(checkpoint, weights_only=True)
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    generator.set_state(state["generator"])
    return int(state["step"]), float(state["reached"])


def progress_bar() -> Progress:
    """Return a progress bar that also shows the accuracy."""
    accuracy = TextColumn("sampled accuracy {task.fields[accuracy]:.0%}")
    return Progress(
        TextColumn("{task.description}"), BarColumn(), accuracy, TimeElapsedColumn(), transient=True
    )
