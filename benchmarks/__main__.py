"""`python -m benchmarks`: measure everything and write results/published/benchmarks.md."""

import os
import platform
from collections.abc import Iterable, Iterator
from pathlib import Path

from benchmarks import commands, control, objectives, overhead, sampling
from benchmarks.timing import Comparison
from suite.runs.environment import environment
from suite.system.files import write_text
from suite.system.logs import set_up_logging, silence_libraries

PAGE = Path("results/published/benchmarks.md")


def main() -> None:
    """Measure, print and write the tables."""
    set_up_logging()
    silence_libraries()
    page = "\n".join(lines()) + "\n"
    PAGE.parent.mkdir(parents=True, exist_ok=True)
    write_text(PAGE, page)
    print(page)


def lines() -> Iterator[str]:
    """Measure, and yield the page's lines."""
    facts = environment()
    yield from (
        "# Benchmarks",
        "",
        f"`make bench` at commit {facts['git']}, {os.cpu_count()} shared cores"
        f" ({platform.machine()}), torch {facts['packages']['torch']}, one thread.",
        "Both sides alternate in one process; medians, the ratio with its quartiles.",
    )
    title = "Milliseconds per training step, against bare torch doing only the same mathematics"
    yield from comparisons(title, "domain", overhead.measure())
    title = "Milliseconds per update of the control domain, batches of 128"
    yield from comparisons(title, "comparison", control.updates())
    rates = control.environment_rates().items()
    yield from table(
        "Environment steps per second, one process each where there are two",
        "| task | environments | steps/s |",
        (f"| {task} | {count} | {steps:,.0f} |" for (task, count), steps in rates),
    )
    sampled = sampling.measure().items()
    yield from table(
        "Sampling in tokens per second, against transformers' plain `generate`",
        "| model | suite | generate | ratio | quartiles |",
        (
            f"| {name} | {rate.ours:,.0f} | {rate.theirs:,.0f}"
            f" | {rate.ratio:.2f} | {rate.lower:.2f} to {rate.upper:.2f} |"
            for name, rate in sampled
        ),
    )
    costs = objectives.measure().items()
    yield from table(
        "Loss and its gradient by log π, and what it adds to PMPO's whole step on rows",
        "| objective | milliseconds | added to the step |",
        (f"| {name} | {1e3 * cost.seconds:.3f} | {cost.share:+.2%} |" for name, cost in costs),
    )
    times = commands.measure().items()
    yield from table(
        "Commands",
        "| command | seconds |",
        (f"| {name} | {seconds:.2f} |" for name, seconds in times),
    )


def comparisons(title: str, head: str, results: dict[str, Comparison]) -> Iterator[str]:
    """Yield a table of comparisons, from seconds to milliseconds; `head` names the first column."""
    rows = (
        f"| {name} | {times.ours * 1e3:.2f} ms | {times.theirs * 1e3:.2f} ms"
        f" | {times.ratio:.3f} | {times.lower:.3f} to {times.upper:.3f} |"
        for name, times in results.items()
    )
    return table(title, f"| {head} | suite | the other | ratio | quartiles |", rows)


def table(title: str, head: str, rows: Iterable[str]) -> Iterator[str]:
    """Yield a table's lines, with its title; all columns but the first are aligned right."""
    rule = "|".join(["", "---", *["---:"] * (head.count("|") - 2), ""])
    return iter(["", f"## {title}", "", head, rule, *rows])


if __name__ == "__main__":
    main()
