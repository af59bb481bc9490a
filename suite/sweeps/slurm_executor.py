"""The submitit executor of a cluster profile: the resources and the batch script of a job."""

import math
import shlex
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path
from typing import Any

import submitit
from submitit.core.utils import FailedJobError, FailedSubmissionError

from suite.config.fields import ConfigError
from suite.sweeps.launching import set_worker_environment
from suite.sweeps.slurm_jobs import Jobs
from suite.sweeps.slurm_options import check_line, with_options
from suite.sweeps.slurm_profile import Profile
from suite.sweeps.spec import Sweep
from suite.sweeps.worker import run_worker

REQUEUE_SCRIPT = Path(__file__).with_name("requeue.sh")
SAME_NAMES = ("partition", "account", "qos", "constraint", "exclude", "mail_user", "mail_type")


def make_executor(sweep: Sweep, profile: Profile) -> submitit.SlurmExecutor:
    """Return an executor that submits with a profile's resources.

    Changes this process's environment, which jobs inherit. Raises ConfigError without SLURM, and
    for a folder whose name would not stay on its line of the batch script.
    """
    check_line("the folder of the sweep", str(sweep.folder.absolute()))
    set_worker_environment(sweep)
    python = " ".join(text for text in (profile.container, profile.python) if text)
    if profile.container and not profile.python:
        python += " python"
    try:
        executor = submitit.SlurmExecutor(sweep.folder / "logs", python=python or None)
    except RuntimeError:
        raise ConfigError("SLURM is not installed here: there is no srun") from None
    executor.update_parameters(**submitit_parameters(sweep, profile))
    return executor


def submitit_parameters(sweep: Sweep, profile: Profile) -> dict[str, Any]:
    """Return a profile as submitit's parameters of a job."""
    given = {name: getattr(profile, name) for name in SAME_NAMES}
    jobs = Jobs(sweep.folder).folder.resolve()
    trainer = next(iter(sweep.points.values())).trainer  # number of ranks: equal in all runs
    kill = ["--kill-on-bad-exit=1"] if trainer.ranks > 1 else []  # or the other ranks would wait
    gpus = {} if profile.gpus.rpartition(":")[2] == "0" else {"gres": f"gpu:{profile.gpus}"}
    parameters = {
        "job_name": f"suite-{sweep.name}",
        "time": profile.minutes,
        "nodes": trainer.num_nodes,
        "ntasks_per_node": max(profile.workers, trainer.devices),
        "cpus_per_task": profile.cpus,
        "mem": f"{math.ceil(1024 * profile.memory_gb)}MB",
        "signal_delay_s": profile.notice_seconds,
        "array_parallelism": profile.at_once,
        "setup": [*profile.setup, "set +e"],  # the lines after srun must be reached
        "teardown": [f"set -- $? {shlex.quote(str(jobs))}\n{REQUEUE_SCRIPT.read_text()}"],
        "stderr_to_stdout": True,
        # From 22.05 on srun does not take this over from the job.
        "srun_args": [f"--cpus-per-task={profile.cpus}", *kill],
        "additional_parameters": {"requeue": True, **gpus},
        **{name: value for name, value in given.items() if value is not None},
    }
    return with_options(parameters, profile.options)


def batch_script(sweep: Sweep, profile: Profile) -> str:
    """Return the text of the batch script, without its array."""
    executor = make_executor(sweep, profile)
    return str(executor._make_submission_file_text(executor._submitit_command_str, ""))


def submit_array(
    sweep: Sweep, profile: Profile, elements: list[list[Path]]
) -> dict[str, list[str]]:
    """Submit one array, with the run folders of each element; return run names by element's id.

    Raises ConfigError where sbatch refuses, with its message.
    """
    executor = make_executor(sweep, profile)
    try:
        with redirect_stderr(StringIO()):  # submitit prints sbatch's messages there
            jobs = executor.map_array(run_worker, elements)
    except (FailedJobError, FailedSubmissionError) as error:
        raise ConfigError(f"sbatch refused the job: {sbatch_errors(str(error))}") from None
    return {
        job.job_id: [path.name for path in paths] for job, paths in zip(jobs, elements, strict=True)
    }


def sbatch_errors(output: str) -> str:
    """Return the error messages of sbatch in an output; the whole output where there are none."""
    mark = "sbatch: error: "
    errors = [line.partition(mark)[2] for line in output.splitlines() if mark in line]
    return "; ".join(dict.fromkeys(errors)) or output.strip()
