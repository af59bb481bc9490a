"""The command line: suite train · sweep · claims · status · cancel · report · evaluate · verify."""

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from suite.commands import (
    act_cancel,
    act_claims,
    act_evaluate,
    act_report,
    act_status,
    act_sweep,
    act_train,
    act_verify,
    help_on_keys,
)
from suite.config.fields import ConfigError
from suite.config.schema import Config
from suite.domains.language.judge_function import allow_named
from suite.system.exits import ExitCalled, exits_are_errors
from suite.system.logs import set_up_logging
from suite.system.signals import EXIT_STOPPED
from suite.system.terminal import forgiving_terminal, printable

EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED = 1, 2, EXIT_STOPPED


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return its exit code: 0 done, 1 a run failed, 2 bad input, 130 stopped."""
    given = [plain_override(word) for word in (sys.argv[1:] if arguments is None else arguments)]
    with forgiving_terminal():
        set_up_logging()
        return act(given)


def act(given: list[str]) -> int:
    """Do what a command line says; return its exit code."""
    if os.getcwd() not in sys.path:  # plug-ins that are named by import path may lie here
        sys.path.append(os.getcwd())
    try:
        words = [word for word in given[1:] if word not in ("-h", "--help")]
        if given[:1] == ["train"] and words and len(words) + 1 < len(given):
            with exits_are_errors():
                return help_on_keys(words)
        options = parse(given)
        allow_named(getattr(options, "overrides", []))
        with exits_are_errors():  # a configuration's own code is called long before a run begins
            code: int = options.act(options)
        return code
    except ConfigError as error:
        print(f"suite: {printable(error)}", file=sys.stderr)
        return EXIT_USAGE
    except ExitCalled as error:
        print(f"suite: {printable(error)}", file=sys.stderr)
        return EXIT_FAILED
    except KeyboardInterrupt:
        print("suite: interrupted; the same command goes on", file=sys.stderr)
        return EXIT_INTERRUPTED


def parser() -> argparse.ArgumentParser:
    """Describe the commands."""
    top = argparse.ArgumentParser(
        prog="suite",
        description="Learn from feedback that is positive only, negative only, or both.",
        epilog="Exit codes: 0 done, 1 a run failed or is left, 2 bad input, 130 stopped.",
    )
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    train = commands.add_parser(
        "train",
        help="run one configuration, or continue it",
        description="Run one configuration, or continue it; CONFIG --help lists its keys.",
    )
    train.add_argument(
        "config", help="a YAML file such as configs/bandit/sphere.yaml, or an example: arithmetic"
    )
    train.add_argument("overrides", nargs="*", metavar="key=value", help="such as seed=3")
    add_changed_inputs(train)
    train.set_defaults(act=act_train)
    add_sweep_command(commands)
    add_claims_command(commands)

    status = commands.add_parser("status", help="show how the runs of a sweep stand")
    add_folder(status)
    status.set_defaults(act=act_status, command="status")

    cancel = commands.add_parser("cancel", help="cancel the SLURM jobs of a sweep")
    add_folder(cancel)
    cancel.set_defaults(act=act_cancel, command="cancel")

    report = commands.add_parser("report", help="write a sweep's report from what is there")
    add_sweep(report)
    report.add_argument(
        "--wandb", metavar="ENTITY/PROJECT", help="also build the report on Weights & Biases"
    )
    report.add_argument(
        "--wandb-sync", action="store_true", help="with --wandb: upload offline runs first"
    )
    report.set_defaults(act=act_report)

    again = commands.add_parser("evaluate", help="measure a run's newest checkpoint again")
    again.add_argument("run", type=Path, help="a run's folder, results/SWEEP/runs/RUN")
    again.add_argument(
        "--video", action="store_true", help="also film an episode of a control run, as video.mp4"
    )
    again.add_argument(
        "overrides", nargs="*", metavar="domain.judge=NAME",
        help="the run's own judge, where its parameters do not say that it is a judge",
    )  # fmt: skip
    again.set_defaults(act=act_evaluate)
    add_verify_command(commands)
    return top


def add_verify_command(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Describe `suite verify`."""
    check = commands.add_parser(
        "verify",
        help="check that the files of runs are whole",
        description="Check that the files of runs are whole and belong together: configuration,"
        " checkpoints, metrics, summary, policy. One line per finding; exit code 1 if there is one."
        " No file is changed.",
    )
    check.add_argument("run", type=Path, nargs="+", help="a run's folder, results/SWEEP/runs/RUN")
    check.set_defaults(act=act_verify)


def add_sweep_command(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Describe `suite sweep`."""
    sweep = commands.add_parser("sweep", help="run what is left of a sweep, then its report")
    add_sweep(sweep, nargs="?")
    sweep.add_argument("--list", action="store_true", help="list the sweeps that there are")
    sweep.add_argument("--dry-run", action="store_true", help="print the runs and start nothing")
    sweep.add_argument("--retry", action="store_true", help="run failed runs again")
    sweep.add_argument(
        "--parallel", type=int, help="runs side by side (default: one per GPU, else per core)"
    )
    sweep.add_argument("--cluster", metavar="NAME", help="submit to SLURM, as slurm/NAME.yaml says")
    sweep.add_argument(
        "--detach", action="store_true", help="with --cluster: do not follow the jobs"
    )
    add_changed_inputs(sweep)
    sweep.add_argument("--point", type=int, help="run only the run at this place, from 0 on, here")
    sweep.set_defaults(act=act_sweep)


def add_claims_command(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Describe `suite claims`."""
    claims = commands.add_parser(
        "claims",
        help="run what is left of the paper's claims and judge them",
        description="Run what is left of the paper's claims (configs/claims.yaml), and judge them.",
    )
    claims.add_argument(
        "overrides", nargs="*", metavar="CLAIM", help="such as P1 (default: all); or key=value"
    )
    claims.add_argument("--size", default="full", help="small (25 minutes for all), full, or large")
    claims.add_argument(
        "--report", action="store_true", help="only write page, figures and the README's section"
    )
    claims.add_argument("--retry", action="store_true", help="run failed runs again")
    claims.add_argument("--parallel", type=int, help="runs side by side, as for `sweep`")
    claims.add_argument(
        "--cluster", metavar="NAME", help="submit to SLURM, as slurm/NAME.yaml says"
    )
    claims.set_defaults(act=act_claims, detach=False)


def add_changed_inputs(command: argparse.ArgumentParser) -> None:
    """Let a command go on with runs whose inputs changed."""
    command.add_argument(
        "--changed-inputs",
        action="store_true",
        help="go on although rows, a model or a judge are not what a run began with",
    )


def parse(given: list[str]) -> argparse.Namespace:
    """Parse a command line; `key=value` may stand before and after the options."""
    top = parser()
    options, rest = top.parse_known_args(given)
    strange = [a for a in rest if a.startswith("-") or "overrides" not in options]
    if strange and "overrides" in options:
        name, equals, value = strange[0].partition("=")
        if equals or key_of(name):
            example = f"{key_of(name) or name.lstrip('-')}={value or 'VALUE'}"
            raise ConfigError(f"{strange[0]}: settings are key=value, as in {example}")
    if strange:
        top.error(f"unrecognized arguments: {' '.join(strange)}")
    if rest:
        options.overrides = [*options.overrides, *rest]
    return options


def plain_override(word: str) -> str:
    """Return `--key=value`, as other programs write settings, as `key=value`."""
    name, equals, value = word.partition("=")
    return f"{key_of(name)}={value}" if equals and key_of(name) else word


def key_of(name: str) -> str | None:
    """Return the setting that a word with leading dashes names; no option has such a name."""
    key = name.lstrip("-").replace("-", "_")
    known = key.partition(".")[0] in {field.name for field in fields(Config)}
    return key if known and name.startswith("-") else None


def add_sweep(command: argparse.ArgumentParser, nargs: str | None = None) -> None:
    """Let a command take a sweep and overrides."""
    command.add_argument(
        "sweep", nargs=nargs, help="a sweep file, or its name: `lm` is configs/sweeps/lm.yaml"
    )
    command.add_argument("overrides", nargs="*", metavar="key=value", help="for every run")


def add_folder(command: argparse.ArgumentParser) -> None:
    """Let a command take a sweep that has results."""
    command.add_argument("name", help="a sweep's name, or its folder under the results")
    command.add_argument("overrides", nargs="*", metavar="results_dir=DIR")


if __name__ == "__main__":
    sys.exit(main())
