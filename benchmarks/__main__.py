"""`python -m benchmarks`: measure everything and write results/published/benchmarks.md."""

import os
import platform
from pathlib import Path

from benchmarks import commands, control, overhead, sampling
from suite.files import write_text
from suite.logs import set_up_logging, silence_libraries
from suite.results import environment

PAGE = Path("results/published/benchmarks.md")


def main() -> None:
    """Measure, print and write the tables."""
    set_up_logging()
    silence_libraries()
    facts = environment()
    lines = [
        "# Benchmarks",
        "",
        f"`make bench` at commit {facts['git']}, {os.cpu_count()} shared cores"
        f" ({platform.machine()}), torch {facts['packages']['torch']}, one thread.",
        "Both sides alternate in one process; medians over rounds, the ratio with its range.",
        "",
        "## Seconds per training step, against bare torch doing only the same mathematics",
        "",
        "| domain | suite | bare torch | ratio | range |",
        "|---|---:|---:|---:|---:|",
    ]
    for name, found in overhead.measure().items():
        lines.append(
            f"| {name} | {found.ours * 1e3:.2f} ms | {found.theirs * 1e3:.2f} ms"
            f" | {found.ratio:.3f} | {found.lowest:.3f} to {found.highest:.3f} |"
        )
    lines += [
        "",
        "## Milliseconds per update of the control domain, batches of 128",
        "",
        "| against | suite | the other | ratio | range |",
        "|---|---:|---:|---:|---:|",
        *(
            f"| {name} | {found.ours * 1e3:.2f} | {found.theirs * 1e3:.2f}"
            f" | {found.ratio:.3f} | {found.lowest:.3f} to {found.highest:.3f} |"
            for name, found in control.updates().items()
        ),
        "",
        "## Environment steps per second, one process each where there are two",
        "",
        "| task | environments | steps/s |",
        "|---|---:|---:|",
        *(
            f"| {task} | {count} | {steps:,.0f} |"
            for (task, count), steps in control.environment_rates().items()
        ),
    ]
    found = sampling.measure()
    lines += [
        "",
        "## Sampling, 64 prompts × 4 samples, against transformers' plain `generate`",
        "",
        "| suite | generate | ratio | range |",
        "|---:|---:|---:|---:|",
        f"| {found.ours:,.0f} tokens/s | {found.theirs:,.0f} tokens/s"
        f" | {found.ratio:.2f} | {found.lowest:.2f} to {found.highest:.2f} |",
        "",
        "## Commands",
        "",
        "| command | seconds |",
        "|---|---:|",
        *(f"| {name} | {seconds:.2f} |" for name, seconds in commands.measure().items()),
    ]
    PAGE.parent.mkdir(parents=True, exist_ok=True)
    write_text(PAGE, "\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
