"""The page of the measurements, in Markdown."""

import os
import platform
import statistics
from collections.abc import Mapping, Sequence

from benchmarks.lm_step.rounds import THREADS, WARMUP, Measurement
from benchmarks.lm_step.workload import LARGE_VOCABULARY, SMALL, STEPS
from benchmarks.timing import summarize

TITLES = {
    "suite": "the suite",
    "plain": "bare torch, plain logits",
    "kto": "TRL KTOTrainer",
    "dpo": "TRL DPOTrainer",
    "fused": "bare torch, fused head",
    "body": "bare torch, no head",
}
Measurements = Mapping[str, Sequence[Measurement]]


def page(small: Measurements, large: Measurements) -> str:
    """Return the page's head and both tables.

    `small` needs the contender `suite`; `large` needs `plain`, `fused` and `body`.
    """
    lines = [*introduction(len(small["suite"])), *speed_table(small), "", *memory_table(large), ""]
    return "\n".join(lines)


def introduction(rounds: int) -> list[str]:
    """Return the title, and how the numbers were measured."""
    import torch

    from suite.runs.environment import git_commit, installed_version

    return [
        "# A step on rows of feedback",
        "",
        f"`make bench-lm` at commit {git_commit()}, {os.cpu_count()} shared cores"
        f" ({platform.machine()}), torch {torch.__version__}, TRL {installed_version('trl')},"
        f" float32, {THREADS} threads. Medians of {rounds} rounds, in which all take turns,"
        " each in its own process; ratios within a round, with quartiles.",
        "",
        f"A Llama of 12.9 M parameters (hidden 256, 6 layers, vocabulary {SMALL.vocabulary:,},"
        f" tied), {SMALL.rows} rows of {SMALL.prompt} + {SMALL.completion} tokens, batches of"
        f" {SMALL.batch} sequences, {STEPS - WARMUP} of {STEPS} steps. TRL without"
        " gradient checkpointing, which it would use.",
        "",
    ]


def speed_table(measurements: Measurements) -> list[str]:
    """Return the table of speeds relative to the suite's."""
    lines = ["| | sequences/s | suite ÷ this | quartiles | peak memory |"]
    lines += ["|---|---:|---:|---:|---:|"]
    suite_rates = [m.rate for m in measurements["suite"]]
    for name, rounds in measurements.items():
        ratio = summarize(list(zip(suite_rates, [m.rate for m in rounds], strict=True)))
        lines.append(
            f"| {TITLES[name]} | {ratio.theirs:.2f} | {ratio.ratio:.2f}"
            f" | {ratio.lower:.2f} to {ratio.upper:.2f} | {median_peak(rounds):.2f} GB |"
        )
    return lines


def memory_table(measurements: Measurements) -> list[str]:
    """Return the table of the memory that the head of a large vocabulary needs."""
    shape = LARGE_VOCABULARY
    lines = [
        f"The same model with a vocabulary of {shape.vocabulary:,}, rows of"
        f" {shape.prompt} + {shape.completion} tokens, batches of {shape.batch}: what the head adds"
        " to the memory of the rest.",
        "",
        "| | sequences/s | peak memory | of it the head |",
        "|---|---:|---:|---:|",
    ]
    body = median_peak(measurements["body"])
    for name, rounds in measurements.items():
        rate, peak = statistics.median(m.rate for m in rounds), median_peak(rounds)
        lines.append(f"| {TITLES[name]} | {rate:.2f} | {peak:.2f} GB | {peak - body:.2f} GB |")
    plain, fused = (median_peak(measurements[name]) - body for name in ("plain", "fused"))
    ratio = fused / plain if plain > 0 else float("nan")  # tiny models: too small to measure
    return [*lines, "", f"The fused head adds {ratio:.2f} of what plain logits do."]


def median_peak(measurements: Sequence[Measurement]) -> float:
    """Return the median peak memory in GB."""
    return statistics.median(m.peak for m in measurements)


def sampling_section() -> str:
    """Measure the sampler too, and return its table."""
    from benchmarks import sampling

    lines = [
        "",
        "Sampling on one thread, in tokens per second, against transformers' `generate`.",
        "",
        "| | suite | generate | ratio | quartiles |",
        "|---|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {name} | {rate.ours:,.0f} | {rate.theirs:,.0f} | {rate.ratio:.2f}"
        f" | {rate.lower:.2f} to {rate.upper:.2f} |"
        for name, rate in sampling.measure().items()
    ]
    return "\n".join([*lines, ""])
