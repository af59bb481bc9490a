"""What each command of the command line does: a few calls, heavy imports inside."""

import argparse
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from suite.config.examples import config_path, sweep_path
from suite.config.fields import ConfigError
from suite.system.faults import disk_fault
from suite.system.logs import silence_libraries
from suite.system.signals import EXIT_STOPPED, Interrupted
from suite.system.terminal import printable

if TYPE_CHECKING:
    from suite.config.schema import Config
    from suite.sweeps.slurm_profile import Profile

EXIT_FAILED, EXIT_INTERRUPTED = 1, EXIT_STOPPED


def help_on_keys(given: Sequence[str]) -> int:
    """Print every key of a configuration."""
    from suite.config.help import print_keys

    print_keys(config_path(given[0]), list(given[1:]))
    return 0


def act_train(options: argparse.Namespace) -> int:
    """Run one configuration."""
    from suite.config.loading import load

    # Before the heavy imports: mistakes are reported at once.
    config = load(config_path(options.config), options.overrides)
    return train_one(config, options.changed_inputs)


def train_one(config: "Config", changed_inputs: bool = False) -> int:
    """Run a configuration in this process; `changed_inputs` may differ from those it began with."""
    config.check_machine()
    if changed_inputs:
        from suite.runs.inputs import allow_changes

        allow_changes(config)
    from suite.runs.torchrun import launched, start_ranks

    if config.trainer.ranks > 1 and not launched():
        return start_ranks(config, sys.argv[1:])
    from suite.runs.folder import RunFolder, check_writable, make_folder
    from suite.runs.inputs import InputsChanged
    from suite.runs.lease import LeaseHeld

    check_writable(Path(config.results_dir))
    make_folder(RunFolder.of(config).path.parent)
    from suite.train import train

    silence_libraries()
    try:
        summary = train(config)
    except LeaseHeld as error:
        raise ConfigError(f"{error}; wait for it, or stop it first") from None
    except InputsChanged:
        raise
    except Interrupted:  # of several ranks, before the first step
        return EXIT_INTERRUPTED
    except Exception as error:
        message = printable(f"{type(error).__name__}: {error}")
        print(f"suite: {message}", file=sys.stderr)
        print(f"suite: the run so far is in {RunFolder.of(config).path}", file=sys.stderr)
        return EXIT_INTERRUPTED if disk_fault(error) else EXIT_FAILED
    if os.environ.get("RANK", "0") != "0":
        return EXIT_INTERRUPTED if summary["status"] == "interrupted" else 0  # rank 0 speaks
    print(f"{summary['status']}: {RunFolder.of(config).path}", end="")
    print(f"  score {summary['score']:.4g}" if summary.get("score") is not None else "")
    if summary["status"] == "interrupted":
        print("the same command continues from the checkpoint")
        return EXIT_INTERRUPTED
    return 0


def act_sweep(options: argparse.Namespace) -> int:
    """Run what is left of a sweep and write its report."""
    if options.list:
        return list_sweeps()
    if options.sweep is None:
        raise ConfigError("sweep needs a name or a file; `suite sweep --list` shows what there is")
    from suite.sweeps.spec import load_sweep

    sweep = load_sweep(sweep_path(options.sweep), options.overrides)
    profile = profile_of(options)
    if options.point is not None:
        from suite.sweeps.choices import point_of

        return train_one(point_of(sweep, options.point), options.changed_inputs)
    from suite.sweeps.status import print_plan, summarise

    if options.dry_run:
        print_plan(sweep, options.retry)
        if profile is not None:
            from suite.sweeps.choices import next_stage
            from suite.sweeps.slurm_executor import batch_script

            print(batch_script(next_stage(sweep, options.retry), profile))
        return 0
    from suite.report.page import write_report
    from suite.sweeps.run import check_sweep, complete, submit_detached

    check_sweep(sweep, profile, options.changed_inputs)
    if profile is not None and options.detach:
        submit_detached(sweep, profile, options.retry, write_report, command_line(options))
        return 0
    all_finished, stopped = complete(
        sweep, profile, options.parallel, options.retry, command_line(options)
    )
    page = write_report(sweep, command_line(options))
    summarise(sweep, page)
    if stopped:
        return EXIT_INTERRUPTED
    return 0 if all_finished else EXIT_FAILED


def list_sweeps() -> int:
    """Print the sweeps that there are, with what each asks."""
    from rich.console import Console
    from rich.table import Table

    from suite.config.examples import sweeps
    from suite.sweeps.spec import read_sweep_file

    table = Table(box=None, pad_edge=False)
    for heading in ("sweep", "what it is about"):
        table.add_column(heading, overflow="fold")
    for name, path in sorted(sweeps().items()):
        table.add_row(name, read_sweep_file(path).report.title)
    Console().print(table)
    return 0


def act_claims(options: argparse.Namespace) -> int:
    """Run what is left of the claims' sweeps, and write their page."""
    from suite.paper.claims import SIZES, folder, load_claims, sweeps_of
    from suite.paper.records import save_records

    if options.size not in SIZES:
        raise ConfigError(f"--size must be one of {', '.join(SIZES)}; found {options.size}")
    claims = load_claims([word for word in options.overrides if "=" not in word])
    overrides = [word for word in options.overrides if "=" in word]
    for word in overrides:
        if not word.startswith(("results_dir=", "logging.")):
            raise ConfigError(
                f"claims take results_dir=DIR and logging.KEY=VALUE, found {word!r}; what their"
                " sizes change is in configs/claims.yaml"
            )
    given = [word.partition("=")[2] for word in overrides if word.startswith("results_dir=")]
    results = Path(given[-1] if given else "results")
    all_finished = True
    if not options.report:
        from suite.sweeps.run import check_sweep, complete

        profile = profile_of(options)
        sweeps = {n: s for c in claims for n, s in sweeps_of(c, options.size, overrides).items()}
        for sweep in sweeps.values():  # all mistakes are reported before the first run starts
            check_sweep(sweep, profile)
        from suite.report.page import write_report

        command = claims_line(options)
        for name, sweep in sweeps.items():
            finished, stopped = complete(sweep, profile, options.parallel, options.retry, command)
            all_finished = all_finished and finished
            write_report(sweep, command)
            if not save_records(sweep, name, folder(results, options.size)):
                print(f"{name}: runs are left; the same command goes on with them")
                return EXIT_INTERRUPTED if stopped else EXIT_FAILED
    from suite.paper.page import write_page

    print(f"claims: {write_page(results, options.size)}")
    return 0 if all_finished else EXIT_FAILED


def claims_line(options: argparse.Namespace) -> str:
    """Return the command that goes on with these claims."""
    where = ["--cluster", options.cluster] if options.cluster else []
    return shlex.join(["suite", "claims", *options.overrides, "--size", options.size, *where])


def profile_of(options: argparse.Namespace) -> "Profile | None":
    """Return the cluster profile that was asked for, None for processes here."""
    from suite.sweeps.slurm_profile import load_profile

    if options.parallel is not None and options.parallel < 1:
        raise ConfigError(f"--parallel must be at least 1, found {options.parallel}")
    profile = load_profile(options.cluster) if options.cluster else None
    if profile is not None and profile.scheduler == "slurm":
        if options.parallel is not None:
            raise ConfigError("--parallel is for this machine; a profile has at_once")
        return profile
    if options.detach:
        raise ConfigError("--detach needs --cluster with a profile of a SLURM cluster")
    return None


def act_cancel(options: argparse.Namespace) -> int:
    """Cancel the jobs of a sweep."""
    from suite.sweeps.slurm_jobs import cancel

    folder = results_folder(options)
    count = cancel(folder)
    print(f"{count} jobs of {folder} cancelled; `suite sweep` goes on where the runs were")
    return 0


def act_status(options: argparse.Namespace) -> int:
    """Print how the runs in a results folder stand."""
    from suite.sweeps.status import print_status

    return print_status(results_folder(options))


def results_folder(options: argparse.Namespace) -> Path:
    """Return the folder that a sweep's name means; raises ConfigError for strange overrides."""
    results = "results"
    for override in options.overrides:
        name, _, results = override.partition("=")
        if name != "results_dir":
            raise ConfigError(f"{options.command} takes results_dir=DIR, found {override!r}")
    named = Path(results) / options.name
    return named if named.is_dir() else Path(options.name)


def act_report(options: argparse.Namespace) -> int:
    """Write a sweep's report."""
    from suite.report.page import write_report
    from suite.sweeps.spec import load_sweep
    from suite.sweeps.status import summarise

    sweep = load_sweep(sweep_path(options.sweep), options.overrides)
    if not sweep.folder.is_dir():
        raise ConfigError(f"{sweep.folder}: no results there; `suite sweep` makes them")
    if options.wandb_sync and not options.wandb:
        raise ConfigError("--wandb-sync needs --wandb ENTITY/PROJECT, where the runs are to go")
    page = write_report(sweep, command_line(options))
    summarise(sweep, page)
    if options.wandb:
        from suite.report import wandb_report

        entity, project = wandb_report.parse_destination(options.wandb)
        if options.wandb_sync:
            count = wandb_report.upload_offline_runs(sweep, entity, project)
            print(f"uploaded {count} offline runs")
        print(f"on Weights & Biases: {wandb_report.publish(sweep, entity, project)}")
    return 0


def act_evaluate(options: argparse.Namespace) -> int:
    """Measure a run's newest checkpoint again."""
    from suite.evaluate import evaluate

    silence_libraries()
    for name, value in evaluate(options.run, options.video, options.overrides).items():
        print(f"{name:20} {value:.6g}")
    if options.video:
        print(f"the video is {options.run / 'video.mp4'}; `suite report` embeds it")
    return 0


def act_verify(options: argparse.Namespace) -> int:
    """Check the folders of runs; print one line per finding."""
    from suite.runs.folder import RunFolder
    from suite.runs.verify import verify

    found = False
    for path in options.run:
        findings = verify(path)
        for finding in findings or [f"whole, {RunFolder(path).state()}"]:
            print(f"{path}: {finding}")
        found = found or bool(findings)
    return EXIT_FAILED if found else 0


def command_line(options: argparse.Namespace) -> str:
    """Return the command that makes this sweep and its report."""
    cluster = getattr(options, "cluster", None)
    where = ["--cluster", cluster] if cluster else []
    return shlex.join(["suite", "sweep", options.sweep, *options.overrides, *where])
