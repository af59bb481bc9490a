"""`python -m benchmarks.lm_step`: a training step on rows of feedback, against bare torch and TRL.

Writes results/published/lm_step.md. Every contender learns in its own process, from the same rows
and the same model, one after the other in every round; TRL is the extra `bench`.
"""

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp
from typing import Any, NamedTuple

from benchmarks.timing import summarize
from suite.system.files import write_text

PAGE = Path("results/published/lm_step.md")
THREADS, WARMUP, ROUNDS = 2, 3, 3
STEPS = 13  # of which the first are not counted
TITLES = {
    "suite": "the suite",
    "plain": "bare torch, plain logits",
    "kto": "TRL KTOTrainer",
    "dpo": "TRL DPOTrainer",
    "fused": "bare torch, fused head",
    "body": "bare torch, no head",
}


class Shape(NamedTuple):
    """A small Llama and rows for it."""

    vocabulary: int = 32_000
    prompt: int = 64  # tokens
    completion: int = 64  # tokens, the end included
    batch: int = 8
    rows: int = 256


class Measured(NamedTuple):
    """What one process found."""

    rate: float  # sequences per second
    peak: float  # GB of memory, everything that was imported included


SMALL = Shape()
LARGE_VOCABULARY = Shape(vocabulary=151_936, prompt=512, completion=512, batch=2, rows=14)


def prepare(folder: Path, shape: Shape) -> None:
    """Write model, tokenizer and rows as folders and files."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    words = {"<end>": 0, "<pad>": 1} | {f"w{i}": i for i in range(2, shape.vocabulary)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<pad>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<end>", pad_token="<pad>"
    ).save_pretrained(folder / "model")
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=shape.vocabulary,
        hidden_size=256,
        intermediate_size=688,
        num_hidden_layers=6,
        num_attention_heads=8,
        tie_word_embeddings=True,
        eos_token_id=0,
        pad_token_id=1,
        bos_token_id=None,
    )
    LlamaForCausalLM(config).save_pretrained(folder / "model")

    def text(count: int) -> str:
        return " ".join(f"w{i}" for i in torch.randint(2, shape.vocabulary, (count,)).tolist())

    rows = [
        {
            "prompt": text(shape.prompt),
            "completion": " " + text(shape.completion - 1),
            "label": bool(i % 2),
        }
        for i in range(shape.rows)
    ]
    write_text(folder / "rows.jsonl", "".join(f"{json.dumps(row)}\n" for row in rows))


def suite(folder: Path, shape: Shape, mark: Callable[[], None]) -> None:
    """Train as users do."""
    import lightning.pytorch as L

    from suite.config.loading import load
    from suite.train import train

    class Mark(L.Callback):
        def on_train_batch_end(self, *_: Any) -> None:
            mark()

    changes = [
        *(f"domain.data.path={folder}/rows.jsonl", f"domain.model={folder}/model"),
        *("domain.data.held_out=0", f"domain.batch_size={shape.batch}", "domain.eval_rows=1"),
        *("domain.max_length=2048", f"trainer.threads={THREADS}", "trainer.eval_every=100000"),
        *(f"trainer.steps={steps_of(shape)}", "trainer.checkpoint_every=100000"),
        f"results_dir={mkdtemp(dir=folder)}",
    ]
    train(load(Path("configs/lm/rows.yaml"), changes), callbacks=[Mark()])


def bare(head: str) -> Callable[[Path, Shape, Callable[[], None]], None]:
    """Return the step with nothing around it: policy, reference, mixed PMPO, AdamW."""

    def learn(folder: Path, shape: Shape, mark: Callable[[], None]) -> None:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        from suite.domains.language.head import Head, token_statistics

        policy = AutoModelForCausalLM.from_pretrained(folder / "model", dtype=torch.float32)
        reference = AutoModelForCausalLM.from_pretrained(folder / "model", dtype=torch.float32)
        reference.requires_grad_(False)
        tokenizer = AutoTokenizer.from_pretrained(folder / "model")
        rows = [json.loads(line) for line in (folder / "rows.jsonl").read_text().splitlines()]
        text = [row["prompt"] + row["completion"] + " <end>" for row in rows]
        ids = tokenizer(text, return_tensors="pt").input_ids
        labels = torch.tensor([row["label"] for row in rows]).float()
        optimizer = torch.optim.AdamW(policy.parameters(), lr=5e-4, fused=True)
        for start in range(0, steps_of(shape) * shape.batch, shape.batch):
            chosen, label = ids[start : start + shape.batch], labels[start : start + shape.batch]
            targets = chosen[:, shape.prompt :].flatten()

            def states(model: Any, chosen: Any = chosen) -> Any:
                found = model.model(input_ids=chosen, use_cache=False).last_hidden_state
                return found[:, shape.prompt - 1 : -1].flatten(0, 1)

            ours = states(policy)
            with torch.no_grad():
                theirs = states(reference)
            if head == "plain":
                logp = policy.lm_head(ours).log_softmax(-1)
                with torch.no_grad():
                    reference_logp = reference.lm_head(theirs).log_softmax(-1)
                kl = (reference_logp.exp() * (reference_logp - logp)).sum(-1)
                logp = logp.gather(-1, targets[:, None])[:, 0]
            elif head == "fused":
                logp, kl, *_ = token_statistics(
                    ours, Head.of(policy), theirs, Head.of(reference), targets
                )
            else:  # whatever costs nothing
                logp, kl = ours.sum(-1), (ours - theirs).sum(-1)
            sequences = logp.view(shape.batch, -1).sum(1)
            loss = (
                -0.5 * (label * sequences).mean() / 0.5
                + 0.5 * ((1 - label) * sequences).mean() / 0.5
            )
            loss = loss + kl.view(shape.batch, -1).sum(1).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            mark()

    return learn


def trl(kind: str) -> Callable[[Path, Shape, Callable[[], None]], None]:
    """Return TRL's trainer, without gradient checkpointing, which costs it time."""

    def learn(folder: Path, shape: Shape, mark: Callable[[], None]) -> None:
        import datasets
        import trl as library
        from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback

        class Mark(TrainerCallback):  # type: ignore[misc]
            def on_step_end(self, *_: Any, **__: Any) -> None:
                mark()

        rows = [json.loads(line) for line in (folder / "rows.jsonl").read_text().splitlines()]
        if kind == "dpo":  # as many sequences per step
            rows = [
                {
                    "prompt": yes["prompt"],
                    "chosen": yes["completion"],
                    "rejected": no["completion"],
                }
                for no, yes in zip(rows[::2], rows[1::2], strict=True)
            ]
        config, trainer = {
            "kto": (library.KTOConfig, library.KTOTrainer),
            "dpo": (library.DPOConfig, library.DPOTrainer),
        }[kind]
        name = folder / "model"
        arguments = config(
            output_dir=str(folder / "trl"),
            per_device_train_batch_size=shape.batch // (2 if kind == "dpo" else 1),
            max_steps=steps_of(shape),
            max_length=2048,
            bf16=False,
            gradient_checkpointing=False,
            use_cpu=True,
            report_to=[],
            save_strategy="no",
            disable_tqdm=True,
        )
        trainer(
            model=AutoModelForCausalLM.from_pretrained(name, dtype="float32"),
            ref_model=AutoModelForCausalLM.from_pretrained(name, dtype="float32"),
            args=arguments,
            train_dataset=datasets.Dataset.from_list(rows),
            processing_class=AutoTokenizer.from_pretrained(name),
            callbacks=[Mark()],
        ).train()

    return learn


CONTENDERS = {
    "suite": suite,
    "plain": bare("plain"),
    "kto": trl("kto"),
    "dpo": trl("dpo"),
    "fused": bare("fused"),
    "body": bare("body"),
}


def steps_of(shape: Shape) -> int:
    """Return how many steps are taken."""
    return min(STEPS, shape.rows // shape.batch)


def alone(name: str, folder: Path, shape: Shape) -> Measured:
    """Let one contender learn in this process."""
    import torch

    torch.set_num_threads(THREADS)
    ends: list[float] = []
    CONTENDERS[name](folder, shape, lambda: ends.append(time.perf_counter()))
    seconds = [b - a for a, b in zip(ends[WARMUP:-1], ends[WARMUP + 1 :], strict=True)]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return Measured(shape.batch / statistics.median(seconds), peak)


def in_rounds(names: list[str], shape: Shape, rounds: int) -> dict[str, list[Measured]]:
    """Let all contenders learn in turn, each in a process of its own."""
    found: dict[str, list[Measured]] = {name: [] for name in names}
    with TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder, shape)
        for _ in range(rounds):
            for contender in names:
                command = [sys.executable, "-m", "benchmarks.lm_step", "--contender", contender]
                command += ["--folder", name, "--shape", *map(str, shape)]
                env = os.environ | {"OMP_NUM_THREADS": str(THREADS)}
                ended = subprocess.run(command, check=True, stdout=subprocess.PIPE, env=env)
                found[contender].append(Measured(*json.loads(ended.stdout.splitlines()[-1])))
                print(contender, found[contender][-1], flush=True)
    return found


def page(found: dict[str, list[Measured]], large: dict[str, list[Measured]]) -> str:
    """Return both tables."""
    import torch

    from suite.runs.environment import git_commit, installed_version

    lines = [
        "# A step on rows of feedback",
        "",
        f"`make bench-lm` at commit {git_commit()}, {os.cpu_count()} shared cores"
        f" ({platform.machine()}), torch {torch.__version__}, TRL {installed_version('trl')},"
        f" float32, {THREADS} threads. Medians of {len(found['suite'])} rounds, in which all take"
        " turns, each in its own process; ratios within a round, with quartiles.",
        "",
        f"A Llama of 12.9 M parameters (hidden 256, 6 layers, vocabulary {SMALL.vocabulary:,},"
        f" tied), {SMALL.rows} rows of {SMALL.prompt} + {SMALL.completion} tokens, batches of"
        f" {SMALL.batch} sequences, {STEPS - WARMUP} of {STEPS} steps. TRL without"
        " gradient checkpointing, which it would use.",
        "",
        "| | sequences/s | suite ÷ this | quartiles | peak memory |",
        "|---|---:|---:|---:|---:|",
    ]
    for name, measured in found.items():
        rates = list(zip([m.rate for m in found["suite"]], [m.rate for m in measured], strict=True))
        ratio = summarize(rates)
        peak = statistics.median(m.peak for m in measured)
        lines.append(
            f"| {TITLES[name]} | {ratio.theirs:.2f} | {ratio.ratio:.2f}"
            f" | {ratio.lower:.2f} to {ratio.upper:.2f} | {peak:.2f} GB |"
        )
    peaks = {name: statistics.median(m.peak for m in each) for name, each in large.items()}
    shape = LARGE_VOCABULARY
    lines += [
        "",
        f"The same model with a vocabulary of {shape.vocabulary:,}, rows of"
        f" {shape.prompt} + {shape.completion} tokens, batches of {shape.batch}: what the head adds"
        " to the memory of the rest.",
        "",
        "| | sequences/s | peak memory | of it the head |",
        "|---|---:|---:|---:|",
    ]
    for name, each in large.items():
        rate = statistics.median(m.rate for m in each)
        added = peaks[name] - peaks["body"]
        lines.append(f"| {TITLES[name]} | {rate:.2f} | {peaks[name]:.2f} GB | {added:.2f} GB |")
    of_plain = peaks["plain"] - peaks["body"]  # nothing that can be measured, of tiny models
    share = (peaks["fused"] - peaks["body"]) / of_plain if of_plain > 0 else float("nan")
    lines += ["", f"The fused head adds {share:.2f} of what plain logits do."]
    return "\n".join([*lines, ""])


def sampled() -> str:
    """Measure the sampler too, and return its table."""
    from benchmarks import sampling

    lines = [
        "",
        "Sampling on one thread, in tokens per second, against transformers' `generate`.",
        "",
    ]
    lines += ["| | suite | generate | ratio | quartiles |", "|---|---:|---:|---:|---:|"]
    lines += [
        f"| {name} | {found.ours:,.0f} | {found.theirs:,.0f} | {found.ratio:.2f}"
        f" | {found.lower:.2f} to {found.upper:.2f} |"
        for name, found in sampling.measure().items()
    ]
    return "\n".join([*lines, ""])


def main() -> None:
    """Measure everything, or what one process is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--contender", choices=CONTENDERS, help="measure one, in this process")
    parser.add_argument("--folder", type=Path, help="where model and rows are")
    parser.add_argument("--shape", type=int, nargs=5, help="see Shape")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    options = parser.parse_args()
    if options.contender:
        print(json.dumps(alone(options.contender, options.folder, Shape(*options.shape))))
        return
    found = in_rounds(["suite", "plain", "kto", "dpo"], SMALL, options.rounds)
    large = in_rounds(["plain", "fused", "body"], LARGE_VOCABULARY, 2)
    write_text(PAGE, page(found, large) + sampled())
    print(PAGE.read_text())


if __name__ == "__main__":
    main()
