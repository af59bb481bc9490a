"""The contenders: the suite, bare torch with three kinds of head, and TRL's trainers.

A contender trains for `workload.shape.steps` steps and calls `mark` after each of them.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from benchmarks.lm_step.workload import Workload

Mark = Callable[[], None]


def train_suite(workload: Workload, mark: Mark) -> None:
    """Train as users of the suite do."""
    import lightning.pytorch as L

    from suite.config.loading import load
    from suite.train import train

    class MarkStep(L.Callback):
        def on_train_batch_end(self, *_: Any) -> None:
            mark()

    shape = workload.shape
    overrides = [
        *(f"domain.data.path={workload.rows_path}", f"domain.model={workload.model}"),
        *("domain.data.held_out=0", f"domain.batch_size={shape.batch}", "domain.eval_rows=1"),
        *("domain.max_length=2048", f"trainer.threads={workload.threads}"),
        *("trainer.eval_every=100000", "trainer.checkpoint_every=100000"),
        *(f"trainer.steps={shape.steps}", f"results_dir={mkdtemp(dir=workload.folder)}"),
    ]
    train(load(Path("configs/lm/rows.yaml"), overrides), callbacks=[MarkStep()])


def plain_head(
    policy: Any, reference: Any, states: Any, reference_states: Any, targets: Any
) -> Any:
    """Return log-probability and KL of each token, both `[T]`, from logits `[T, vocabulary]`."""
    import torch

    logp = policy.lm_head(states).log_softmax(-1)
    with torch.no_grad():
        reference_logp = reference.lm_head(reference_states).log_softmax(-1)
    kl = (reference_logp.exp() * (reference_logp - logp)).sum(-1)
    return logp.gather(-1, targets[:, None])[:, 0], kl


def fused_head(
    policy: Any, reference: Any, states: Any, reference_states: Any, targets: Any
) -> Any:
    """Return the same with the suite's head, which never holds all logits."""
    from suite.domains.language.head import Head, token_statistics

    logp, kl, *_ = token_statistics(
        states, Head.of(policy), reference_states, Head.of(reference), targets
    )
    return logp, kl


def no_head(policy: Any, reference: Any, states: Any, reference_states: Any, targets: Any) -> Any:
    """Return numbers that cost nothing, to measure the model without a head."""
    return states.sum(-1), (states - reference_states).sum(-1)


def train_bare(workload: Workload, mark: Mark, *, head: Callable[..., Any]) -> None:
    """Train with bare torch: policy, reference, mixed PMPO and AdamW, with nothing around them."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    shape = workload.shape
    policy = AutoModelForCausalLM.from_pretrained(workload.model, dtype=torch.float32)
    reference = AutoModelForCausalLM.from_pretrained(workload.model, dtype=torch.float32)
    reference.requires_grad_(False)
    rows = workload.rows()
    texts = [row["prompt"] + row["completion"] + " <end>" for row in rows]
    tokenizer = AutoTokenizer.from_pretrained(workload.model)
    all_ids = tokenizer(texts, return_tensors="pt").input_ids
    all_labels = torch.tensor([row["label"] for row in rows]).float()
    optimizer = torch.optim.AdamW(policy.parameters(), lr=5e-4, fused=True)

    def completion_states(model: Any, ids: Any) -> Any:
        """Return the states that predict the completions' tokens, [T, hidden]."""
        states = model.model(input_ids=ids, use_cache=False).last_hidden_state
        return states[:, shape.prompt - 1 : -1].flatten(0, 1)

    for start in range(0, shape.steps * shape.batch, shape.batch):
        ids, label = (column[start : start + shape.batch] for column in (all_ids, all_labels))
        policy_states = completion_states(policy, ids)
        with torch.no_grad():
            reference_states = completion_states(reference, ids)
        targets = ids[:, shape.prompt :].flatten()
        token_logp, token_kl = head(policy, reference, policy_states, reference_states, targets)
        logp, kl = (x.view(shape.batch, -1).sum(1) for x in (token_logp, token_kl))
        loss = -0.5 * (label * logp).mean() / 0.5 + 0.5 * ((1 - label) * logp).mean() / 0.5
        loss = loss + kl.mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        mark()


def train_trl(workload: Workload, mark: Mark, *, kind: str) -> None:
    """Train with TRL's trainer, without gradient checkpointing, which costs it time."""
    import datasets
    import trl
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback

    class MarkStep(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, *_: Any, **__: Any) -> None:
            mark()

    shape, rows = workload.shape, workload.rows()
    if kind == "dpo":
        rows = [
            {"prompt": good["prompt"], "chosen": good["completion"], "rejected": bad["completion"]}
            for bad, good in zip(rows[::2], rows[1::2], strict=True)
        ]
    config, trainer = {
        "kto": (trl.KTOConfig, trl.KTOTrainer),
        "dpo": (trl.DPOConfig, trl.DPOTrainer),
    }[kind]
    arguments = config(
        output_dir=str(workload.folder / "trl"),
        # A pair counts as two: all contenders see as many sequences per step.
        per_device_train_batch_size=shape.batch // (2 if kind == "dpo" else 1),
        max_steps=shape.steps,
        max_length=2048,
        bf16=False,
        gradient_checkpointing=False,
        use_cpu=True,
        report_to=[],
        save_strategy="no",
        disable_tqdm=True,
    )
    trainer(
        model=AutoModelForCausalLM.from_pretrained(workload.model, dtype="float32"),
        ref_model=AutoModelForCausalLM.from_pretrained(workload.model, dtype="float32"),
        args=arguments,
        train_dataset=datasets.Dataset.from_list(rows),
        processing_class=AutoTokenizer.from_pretrained(workload.model),
        callbacks=[MarkStep()],
    ).train()


CONTENDERS: dict[str, Callable[[Workload, Mark], None]] = {
    "suite": train_suite,
    "plain": partial(train_bare, head=plain_head),
    "kto": partial(train_trl, kind="kto"),
    "dpo": partial(train_trl, kind="dpo"),
    "fused": partial(train_bare, head=fused_head),
    "body": partial(train_bare, head=no_head),
}
