"""`make soak`: a sweep under many faults, which must end as if nothing had happened.

Faults come in an order that the seed fixes, each kind about as often; which run one strikes, and
when, depends on the machine. Every fault waits until there is something that it can hit, and what
is left is submitted again whenever nothing is in the queue, as a person would. Writes a table of
what happened; exits with 1 where a run is lost, finished twice, or different from a quiet sweep.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from suite.runs.environment import git_commit
from suite.runs.folder import RunFolder
from suite.sweeps.slurm_jobs import Jobs
from suite.system.files import write_text
from tests import processes
from tests.slurm.cluster import Cluster, control, read_only, runs_in, sweep_of

KINDS = (
    "SIGKILL of a worker",
    "SIGKILL of a whole job",
    "preemption",
    "requeue from outside",
    "cancel of a waiting element",
    "slurmctld killed and restarted",
    "results folder read-only for two seconds",
)
LONGER = ["trainer.steps=9000", "trainer.checkpoint_every=300"]


class Soak:
    """A sweep, and what is done to it."""

    def __init__(self, cluster: Cluster, folder: Path, runs: int, seed: int) -> None:
        self.cluster = cluster
        self.folder = folder
        self.command = [*sweep_of(folder, runs), *LONGER, "--cluster", "test"]
        self.random = random.Random(seed)
        self.launches = 0
        self.did: Counter[str] = Counter()

    def launch(self) -> None:
        """Submit what is left, also of runs that failed because the folder was read-only."""
        code, output = self.cluster.suite(*self.command, "--detach", "--retry")
        assert code == 0, output
        self.launches += 1

    def states(self) -> Counter[str]:
        """Count the runs' states."""
        return Counter(run.state() for run in runs_in(self.folder))

    def waiting(self) -> list[str]:
        """Return the waiting elements of the sweep."""
        return self.queue("PENDING")

    def queue(self, state: str) -> list[str]:
        """Return the elements in a state, without the jobs that write reports."""
        form = ["--noheader", "--array", "--name=suite-mine", "--format=%i|%T"]
        rows = [line.strip().split("|") for line in self.cluster("squeue", *form).splitlines()]
        work = {job for job, names in Jobs(self.folder / "mine").elements().items() if names}
        return [job for job, found in rows if found == state and job in work]

    def running(self) -> list[RunFolder]:
        """Return the runs that are under way, past their start."""
        return [run for run in runs_in(self.folder) if run.state() == "running"]

    def operate(self) -> None:
        """Do what a site's staff does after the controller died: resume nodes, release jobs.

        A controller that is killed forgets what it did last, takes a job that it started for a
        duplicate, and drains the node.
        """
        nodes = self.cluster("sinfo", "--noheader", "--Node", "--format=%N|%T").split()
        for name in {row.partition("|")[0] for row in nodes if "drain" in row or "down" in row}:
            self.cluster("scontrol", "update", f"NodeName={name}", "State=RESUME")
        for row in self.cluster("squeue", "--noheader", "--array", "--format=%i|%r").splitlines():
            if "held" in row:
                self.cluster("scontrol", "release", row.partition("|")[0].strip())

    def strike(self, kind: str) -> None:
        """Wait until a fault has something to hit, and let it happen."""
        acts: dict[str, Callable[[], bool]] = dict(
            zip(
                KINDS,
                (
                    self.kill_worker, self.kill_job, self.preempt, self.requeue, self.cancel,
                    self.restart_controller, self.forbid_writing,
                ),
                strict=True,
            )
        )  # fmt: skip
        self.operate()
        while not acts[kind]():
            self.operate()
            if not self.queue("RUNNING") and not self.waiting():
                if self.states()["finished"] == len(runs_in(self.folder)):
                    return
                self.launch()
            time.sleep(0.5)
        self.did[kind] += 1

    def kill_worker(self) -> bool:
        """Kill a worker as the kernel does when memory runs out."""
        runs = self.running()
        if not runs:
            return False
        try:
            os.kill(self.random.choice(runs).progress()["pid"], signal.SIGKILL)
        except ProcessLookupError:
            return False
        return True

    def kill_job(self) -> bool:
        """Kill all of a job."""
        return self.on(self.queue("RUNNING"), "scancel", "--signal=KILL", "--full")

    def requeue(self) -> bool:
        """Requeue a running job without a notice."""
        return self.on(self.queue("RUNNING"), "scontrol", "requeue")

    def cancel(self) -> bool:
        """Cancel an element that waits."""
        return self.on(self.waiting(), "scancel")

    def on(self, jobs: list[str], *command: str) -> bool:
        """Run a command on one of the jobs; tell whether there was one."""
        if not jobs:
            return False
        try:
            self.cluster(*command, self.random.choice(jobs))
        except AssertionError:  # it ended meanwhile
            return False
        return True

    def preempt(self) -> bool:
        """Take both nodes for more urgent work."""
        if not self.queue("RUNNING"):
            return False
        self.cluster.preempt()
        return True

    def restart_controller(self) -> bool:
        """Kill the controller, and start it again a second later."""
        os.kill(self.cluster.pid("slurmctld"), signal.SIGKILL)
        time.sleep(1)
        self.cluster.start("slurmctld")
        deadline = time.monotonic() + 60
        while subprocess.run(
            ["scontrol", "ping"], env=self.cluster.environment, capture_output=True, check=False
        ).returncode:
            assert time.monotonic() < deadline, "the controller does not come back"
            time.sleep(0.2)
        return True

    def forbid_writing(self) -> bool:
        """Make the results read-only for a while."""
        if not self.running():
            return False
        with read_only(self.folder):
            time.sleep(2)
        return True

    def finish(self, at_most: int = 20) -> None:
        """Submit what is left, again and again, until all is finished."""
        for _ in range(at_most):
            while self.queue("RUNNING") or self.waiting():
                self.operate()
                time.sleep(1)
            if self.states()["finished"] == len(runs_in(self.folder)):
                return
            self.launch()


def verdicts(soak: Soak, quiet: dict[str, str]) -> dict[str, bool]:
    """Return what must be true at the end, and whether it is."""
    runs = runs_in(soak.folder)
    return {
        "every run is finished": soak.states()["finished"] == len(quiet),
        "each was finished exactly once": all(
            run.log_path.read_text().count(f"{run.path.name} finished") == 1 for run in runs
        ),
        "all metrics are those of the quiet sweep, bit by bit": (
            processes.contents(soak.folder / "mine") == quiet
        ),
    }


def table(soak: Soak, options: argparse.Namespace, found: dict[str, bool], seconds: float) -> str:
    """Return the report, in Markdown."""
    attempts = [len(run.attempts()) for run in runs_in(soak.folder)]
    rows = [f"| {kind} | {soak.did[kind]} |" for kind in KINDS]
    outcome = [f"| {what} | {'yes' if true else '**no**'} |" for what, true in found.items()]
    return "\n".join(
        [
            "# A sweep under faults",
            "",
            f"`make soak ARGS='--runs {options.runs} --faults {options.faults} --seed"
            f" {options.seed}'`, commit {git_commit()}: {options.runs} runs of a bandit on a real"
            " SLURM of two emulated nodes, four at a time.",
            "",
            "| fault | times |",
            "|---|---:|",
            *rows,
            f"| all | {soak.did.total()} |",
            "",
            "| at the end | |",
            "|---|---|",
            *outcome,
            f"| attempts per run: mean, most | {sum(attempts) / len(attempts):.1f},"
            f" {max(attempts)} |",
            f"| times that what was left was submitted | {soak.launches} |",
            f"| minutes | {seconds / 60:.0f} |",
            "",
        ]
    )


def main() -> int:
    """Run a quiet sweep, then one under faults, and compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=24)
    parser.add_argument("--faults", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--table", type=Path, default=Path("results/published/soak.md"))
    options = parser.parse_args()
    with TemporaryDirectory(prefix="soak-", dir="/tmp") as name:
        here, there = Path(name) / "quiet", Path(name) / "r"
        for folder in (here, there):
            folder.mkdir()
        code, output = processes.finish(
            processes.start([*sweep_of(here, options.runs), *LONGER]), patience=3600
        )
        assert code == 0, output
        print("the quiet sweep is done", flush=True)
        started = control("start", Path(name) / "c")
        assert started.returncode == 0, started.stderr
        settings = {"SLURM_CONF": str(Path(name) / "c/slurm.conf")}
        cluster = Cluster(Path(name) / "c", os.environ | settings)
        try:
            soak = Soak(cluster, there, options.runs, options.seed)
            begun = time.monotonic()
            soak.launch()
            kinds = [KINDS[i % len(KINDS)] for i in range(options.faults)]
            soak.random.shuffle(kinds)
            for number, kind in enumerate(kinds):
                soak.strike(kind)
                print(f"{number + 1}/{options.faults} {kind}: {dict(soak.states())}", flush=True)
                time.sleep(soak.random.uniform(0.5, 4))
            soak.finish()
            found = verdicts(soak, processes.contents(here / "mine"))
            found[f"there were {options.faults} faults"] = soak.did.total() == options.faults
            text = table(soak, options, found, time.monotonic() - begun)
        finally:
            cluster.stop()
    write_text(options.table, text)
    print(text)
    return 0 if all(found.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
