"""The command line: suite train · sweep · claims · status · cancel · report · evaluate."""

import argparse
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from suite.config.fields import ConfigError
from suite.system.logs import set_up_logging, silence_libraries
from suite.system.signals import STOP_SIGNALS, STOPPED, Interrupted

if TYPE_CHECKING:
    from suite.config.schema import Config
    from suite.sweeps.slurm_profile import Profile
    from suite.sweeps.spec import Sweep

EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED = 1, 2, STOPPED


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return its exit code: 0 done, 1 a run failed, 2 bad input, 130 stopped."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    set_up_logging()
    try:
        words = [word for word in given[1:] if word not in ("-h", "--help")]
        if given[:1] == ["train"] and words and len(words) + 1 < len(given):
            return help_on_keys(words)
        options = parse(given)
        code: int = options.act(options)
        return code
    except ConfigError as error:
        print(f"suite: {error}", file=sys.stderr)
        return EXIT_USAGE
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

    one = commands.add_parser(
        "train",
        help="run one configuration, or continue it",
        description="Run one configuration, or continue it; CONFIG --help lists its keys.",
    )
    one.add_argument("config", type=Path, help="a YAML file, such as configs/bandit/sphere.yaml")
    one.add_argument("overrides", nargs="*", metavar="key=value", help="such as seed=3")
    one.set_defaults(act=act_train)

    many = commands.add_parser("sweep", help="run what is left of a sweep, then its report")
    add_sweep(many)
    many.add_argument("--dry-run", action="store_true", help="print the runs and start nothing")
    many.add_argument("--retry", action="store_true", help="run failed runs again")
    many.add_argument(
        "--parallel", type=int, help="runs side by side (default: one per GPU, else per core)"
    )
    many.add_argument("--cluster", metavar="NAME", help="submit to SLURM, as slurm/NAME.yaml says")
    many.add_argument(
        "--detach", action="store_true", help="with --cluster: do not follow the jobs"
    )
    many.add_argument("--point", type=int, help="run only the run at this place, from 0 on, here")
    many.set_defaults(act=act_sweep)

    paper = commands.add_parser(
        "claims",
        help="run what is left of the paper's claims and judge them",
        description="Run what is left of the paper's claims (configs/claims.yaml), and judge them.",
    )
    paper.add_argument(
        "overrides", nargs="*", metavar="CLAIM", help="such as P1 (default: all); or key=value"
    )
    paper.add_argument("--size", default="full", help="small (25 minutes for all), full, or large")
    paper.add_argument(
        "--report", action="store_true", help="only write page, figures and the README's section"
    )
    paper.add_argument("--retry", action="store_true", help="run failed runs again")
    paper.add_argument("--parallel", type=int, help="runs side by side, as for `sweep`")
    paper.add_argument("--cluster", metavar="NAME", help="submit to SLURM, as slurm/NAME.yaml says")
    paper.set_defaults(act=act_claims, detach=False)

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
    again.set_defaults(act=act_evaluate)
    return top


def parse(given: list[str]) -> argparse.Namespace:
    """Parse a command line; `key=value` may stand before and after the options."""
    top = parser()
    options, rest = top.parse_known_args(given)
    strange = [a for a in rest if a.startswith("-") or "overrides" not in options]
    if strange:
        top.error(f"unrecognized arguments: {' '.join(strange)}")
    if rest:
        options.overrides = [*options.overrides, *rest]
    return options


def add_sweep(command: argparse.ArgumentParser) -> None:
    """Let a command take a sweep and overrides."""
    command.add_argument("sweep", help="a sweep file, or its name: `lm` is configs/sweeps/lm.yaml")
    command.add_argument("overrides", nargs="*", metavar="key=value", help="for every run")


def add_folder(command: argparse.ArgumentParser) -> None:
    """Let a command take a sweep that has results."""
    command.add_argument("name", help="a sweep's name, or its folder under the results")
    command.add_argument("overrides", nargs="*", metavar="results_dir=DIR")


def help_on_keys(given: Sequence[str]) -> int:
    """Print every key of a configuration."""
    from suite.config.help import print_keys

    print_keys(Path(given[0]), list(given[1:]))
    return 0


def act_train(options: argparse.Namespace) -> int:
    """Run one configuration."""
    from suite.config.loading import load

    # Before the heavy imports: mistakes are told at once.
    return train_one(load(options.config, options.overrides))


def train_one(config: "Config") -> int:
    """Run a configuration in this process."""
    config.check_machine()
    if config.trainer.ranks > 1 and not launched():
        return start_ranks(config)
    from suite.runs.folder import RunFolder, check_writable
    from suite.runs.lease import LeaseHeld

    check_writable(Path(config.results_dir))
    from suite.train import train

    silence_libraries()
    try:
        summary = train(config)
    except LeaseHeld as error:
        raise ConfigError(f"{error}; wait for it, or stop it first") from None
    except Interrupted:  # of several ranks, before the first step
        return EXIT_INTERRUPTED
    except Exception as error:
        print(f"suite: {type(error).__name__}: {error}", file=sys.stderr)
        print(f"suite: the run so far is in {RunFolder.of(config).path}", file=sys.stderr)
        return EXIT_FAILED
    if os.environ.get("RANK", "0") != "0":
        return EXIT_INTERRUPTED if summary["status"] == "interrupted" else 0  # rank 0 speaks
    print(f"{summary['status']}: {RunFolder.of(config).path}", end="")
    print(f"  score {summary['score']:.4g}" if summary.get("score") is not None else "")
    if summary["status"] == "interrupted":
        print("the same command continues from the checkpoint")
        return EXIT_INTERRUPTED
    return 0


def launched() -> bool:
    """Tell whether torchrun or srun started several processes, of which this is one."""
    of_step = "SLURM_PROCID" in os.environ and int(os.environ.get("SLURM_NTASKS", 1)) > 1
    return "RANK" in os.environ or of_step


def start_ranks(config: "Config") -> int:
    """Start a process per device, through torchrun, and pass stop signals on."""
    if config.trainer.num_nodes > 1:
        raise ConfigError(
            f"trainer.num_nodes={config.trainer.num_nodes} needs a launcher on every node:"
            " `suite sweep --cluster`, srun or torchrun"
        )
    ranks = f"--nproc-per-node={config.trainer.devices}"
    module = ["-m", "torch.distributed.run", "--standalone", ranks, "-m", "suite"]
    os.environ.setdefault("OMP_NUM_THREADS", str(config.trainer.threads))
    process = subprocess.Popen([sys.executable, *module, *sys.argv[1:]])
    for number in STOP_SIGNALS:  # torchrun knows only this one, and tells every rank
        signal.signal(number, lambda *_: process.send_signal(signal.SIGTERM))
    code = process.wait()
    from suite.runs.folder import RunFolder

    if RunFolder.of(config).state() == "interrupted":
        return EXIT_INTERRUPTED
    return EXIT_FAILED if code else 0


def sweep_path(name: str) -> Path:
    """Return the sweep file that a name or a path means; raises ConfigError listing the sweeps."""
    path = Path(name)
    if path.suffix in (".yaml", ".yml"):
        return path
    folder = Path("configs/sweeps")
    found = folder / f"{name}.yaml"
    if not found.exists():
        known = ", ".join(sorted(p.stem for p in folder.glob("*.yaml"))) or "none here"
        raise ConfigError(f"{found}: no such file; sweeps are {known}")
    return found


def act_sweep(options: argparse.Namespace) -> int:
    """Run what is left of a sweep and write its report."""
    from suite.sweeps.spec import load_sweep

    sweep = load_sweep(sweep_path(options.sweep), options.overrides)
    profile = profile_of(options)
    if options.point is not None:
        return train_one(point_of(sweep, options.point))
    from suite.sweeps.status import print_plan, summarise

    if options.dry_run:
        print_plan(sweep, options.retry)
        if profile is not None:
            from suite.sweeps.slurm_submit import script

            print(script(sweep, profile))
        return 0
    from suite.report.page import write_report

    check_sweep(sweep, profile)
    if profile is not None and options.detach:
        from suite.sweeps.slurm_submit import submit_report

        if new := submitted(sweep, profile, options.retry):
            submit_report(sweep, profile, new, command_line(options))
            print("a further job writes the report when they have ended")
        print(f"`suite status {sweep.name}` shows them, `suite cancel {sweep.name}` ends them")
        return 0
    all_finished, stopped = complete(sweep, profile, options, command_line(options))
    page = write_report(sweep, command_line(options))
    summarise(sweep, page)
    if stopped:
        return EXIT_INTERRUPTED
    return 0 if all_finished else EXIT_FAILED


def check_sweep(sweep: "Sweep", profile: "Profile | None") -> None:
    """Raise ConfigError where a sweep cannot run here."""
    from suite.runs.folder import check_writable

    check_writable(sweep.results_dir)
    if profile is not None:
        return
    for config in sweep.points.values():
        config.check_machine()
        if config.trainer.ranks > 1:
            raise ConfigError(
                f"trainer.devices={config.trainer.devices} in a sweep needs --cluster;"
                " `suite train` starts the processes of one run here"
            )


def submitted(sweep: "Sweep", profile: "Profile", retry: bool) -> list[str]:
    """Submit what is left of a sweep; return the new jobs."""
    from suite.sweeps.slurm_submit import submit

    new = submit(sweep, profile, retry)
    print(f"submitted {len(new)} jobs" + (f", from {new[0]} on" if new else ""))
    return new


def complete(
    sweep: "Sweep", profile: "Profile | None", options: argparse.Namespace, command: str
) -> tuple[bool, bool]:
    """Run what is left of a sweep; return whether all finished, and whether it was stopped."""
    if profile is None:
        from suite.sweeps.local import launch

        return launch(sweep, options.parallel, options.retry)
    from suite.sweeps.slurm_submit import follow

    submitted(sweep, profile, options.retry)
    return follow(sweep, command)


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
        profile = profile_of(options)
        sweeps = {n: s for c in claims for n, s in sweeps_of(c, options.size, overrides).items()}
        for sweep in sweeps.values():  # whatever is wrong is told before the first starts
            check_sweep(sweep, profile)
        from suite.report.page import write_report

        command = claims_line(options)
        for name, sweep in sweeps.items():
            finished, stopped = complete(sweep, profile, options, command)
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


def point_of(sweep: "Sweep", index: int) -> "Config":
    """Return one of a sweep's runs by its place, from 0 on; raises ConfigError."""
    points = list(sweep.points.values())
    if not 0 <= index < len(points):
        raise ConfigError(f"--point must lie in 0 to {len(points) - 1}, found {index}")
    return points[index]


def profile_of(options: argparse.Namespace) -> "Profile | None":
    """Return the cluster profile that was asked for, None for processes here."""
    from suite.sweeps.slurm_profile import load_profile

    if options.parallel is not None and options.parallel < 1:
        raise ConfigError(f"--parallel must be at least 1, found {options.parallel}")
    found = load_profile(options.cluster) if options.cluster else None
    if found is not None and found.scheduler == "slurm":
        if options.parallel is not None:
            raise ConfigError("--parallel is for this machine; a profile has at_once")
        return found
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
            print(
                f"uploaded {wandb_report.upload_offline_runs(sweep, entity, project)} offline runs"
            )
        print(f"on Weights & Biases: {wandb_report.publish(sweep, entity, project)}")
    return 0


def act_evaluate(options: argparse.Namespace) -> int:
    """Measure a run's newest checkpoint again."""
    from suite.evaluate import evaluate

    silence_libraries()
    for name, value in evaluate(options.run, options.video).items():
        print(f"{name:20} {value:.6g}")
    if options.video:
        print(f"the video is {options.run / 'video.mp4'}; `suite report` embeds it")
    return 0


def command_line(options: argparse.Namespace) -> str:
    """Return the command that makes this sweep and its report."""
    cluster = getattr(options, "cluster", None)
    where = ["--cluster", cluster] if cluster else []
    return shlex.join(["suite", "sweep", options.sweep, *options.overrides, *where])


if __name__ == "__main__":
    sys.exit(main())
