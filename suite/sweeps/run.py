"""Run what is left of a sweep: as processes here, or as jobs of a SLURM cluster."""

from collections.abc import Callable

from suite.config.fields import ConfigError
from suite.runs.folder import RunFolder, check_writable
from suite.runs.inputs import allow_changes, check_inputs
from suite.sweeps.choices import known_stages, next_stage, stages, write_choices
from suite.sweeps.launching import Outcome, outcome_of
from suite.sweeps.local import launch
from suite.sweeps.slurm_profile import Profile
from suite.sweeps.spec import Sweep


def check_sweep(sweep: Sweep, profile: Profile | None, changed_inputs: bool = False) -> None:
    """Raise ConfigError where a sweep cannot run here; `profile` is that of a cluster.

    `changed_inputs` allows its runs inputs that are not those they began with.
    """
    check_writable(sweep.results_dir)
    points = [config for stage in known_stages(sweep) for config in stage.points.values()]
    for config in points:
        if changed_inputs:
            allow_changes(config)
        check_inputs(RunFolder.of(config), config)
    if profile is not None:
        return
    for config in points:
        config.check_machine()
        if config.trainer.ranks > 1:
            raise ConfigError(
                f"trainer.devices={config.trainer.devices} in a sweep needs --cluster;"
                " `suite train` starts the processes of one run here"
            )


def submit_sweep(sweep: Sweep, profile: Profile, retry: bool) -> list[str]:
    """Submit what is left of a sweep; return the new jobs."""
    from suite.sweeps.slurm_submit import submit

    jobs = submit(sweep, profile, retry)
    print(f"submitted {len(jobs)} jobs" + (f", from {jobs[0]} on" if jobs else ""))
    return jobs


def complete(
    sweep: Sweep, profile: Profile | None, parallel: int | None, retry: bool, command: str
) -> Outcome:
    """Run what is left of a sweep to its end, and show how it goes.

    `parallel` is the number of runs side by side on this machine, and `command` what continues the
    sweep after an interruption.
    """
    if profile is None:
        return launch(sweep, parallel, retry)
    from suite.sweeps.slurm_follow import follow

    def run(stage: Sweep) -> Outcome:
        submit_sweep(stage, profile, retry)
        return follow(stage, command)

    return outcome_of(run(stage) for stage in stages(sweep))


def submit_detached(
    sweep: Sweep,
    profile: Profile,
    retry: bool,
    write_report: Callable[[Sweep, str], object],
    command: str,
) -> None:
    """Submit what is left of a sweep, and a job that then calls `write_report(sweep, command)`.

    Of a sweep with tuned grids one stage is submitted at a time.
    """
    from suite.sweeps.slurm_submit import submit_report

    stage = next_stage(sweep, retry)
    if sweep.tuned:
        write_choices(sweep)
    if new := submit_sweep(stage, profile, retry):
        submit_report(sweep, profile, new, write_report, command)
        print("a further job writes the report when they have ended")
    if stage.stage == "tuning":
        print(
            "these are the tuning runs; when they have ended, the same command submits the"
            " reported runs"
        )
    print(f"`suite status {sweep.name}` shows them, `suite cancel {sweep.name}` ends them")
