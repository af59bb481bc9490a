"""Helpers of the tests here: a cluster's clients, sweeps for it, and reads of their results."""

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from suite.runs.folder import RunFolder
from tests import processes
from tests.conftest import ROOT

SCRIPT = ROOT / "slurm/local_cluster.sh"
STEPS = ["trainer.steps=3500", "trainer.eval_every=500", "trainer.checkpoint_every=200"]
STEPS += ["trainer.log_every=100", "domain.dimensions=3", "domain.contexts=4"]


@dataclass
class Cluster:
    """A cluster's folder, and the environment of its clients."""

    folder: Path
    environment: dict[str, str]
    started: "list[subprocess.Popen[bytes]]" = field(default_factory=list)

    def __call__(self, *command: str) -> str:
        """Run one of SLURM's commands; return what it prints."""
        done = subprocess.run(
            command, env=self.environment, cwd=ROOT, capture_output=True, text=True, timeout=90,
            check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{command}: {done.stderr}"
        return done.stdout

    def suite(self, *arguments: str) -> tuple[int, str]:
        """Run `suite …` as a client; return its exit code and output."""
        return processes.finish(processes.start(arguments, env=self.environment))

    def pid(self, daemon: str) -> int:
        """Return the process id of a daemon, such as slurmctld or node0."""
        return int((self.folder / f"run/{daemon}.pid").read_text())

    def preempt(self) -> None:
        """Preempt all jobs by a short job that takes both nodes."""
        every = ["--nodes=2", "--cpus-per-task=16", "--ntasks-per-node=1", "--mem=0"]
        self("srun", "--chdir=/tmp", "--partition=urgent", "--exclusive", *every, "true")

    def start(self, daemon: str) -> None:
        """Start a daemon that was killed."""
        command = ["slurmctld", "-D"] if daemon == "slurmctld" else ["slurmd", "-D", "-N", daemon]
        path = f"{self.environment['PATH']}:/usr/sbin"
        with (self.folder / f"log/{daemon}.out").open("a") as log:
            started = subprocess.Popen(
                [*command, "-f", str(self.folder / "slurm.conf")],
                env=self.environment | {"PATH": path}, stdout=log, stderr=log, cwd="/",
                stdin=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip
        self.started.append(started)  # `stop` waits for it
        (self.folder / f"run/{daemon}.pid").write_text(str(started.pid))

    def stop(self) -> None:
        """Stop the cluster and delete its folder."""
        control("stop", self.folder)
        for process in self.started:
            process.wait(timeout=30)

    def wait_for_the_end(self, patience: float = processes.PATIENCE) -> None:
        """Wait until nothing is in the queue."""
        wait_for(lambda: not self("squeue", "--noheader"), "the end of the jobs", patience)


def control(command: str, folder: Path, **settings: str) -> "subprocess.CompletedProcess[str]":
    """Start, stop or look at the cluster in a folder."""
    fixed = {"CLUSTER_DIR": str(folder), "CLUSTER_GPUS": "2", "CLUSTER_NODES": "2"}
    return subprocess.run(
        [SCRIPT, command], env=os.environ | fixed | settings, capture_output=True, text=True,
        timeout=120, check=False,
    )  # fmt: skip


def processes_of(folder: Path) -> list[str]:
    """Return the command lines of processes that name the folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode()
        except OSError:  # it ended meanwhile
            continue
        if str(folder) in line:
            found.append(line)
    return found


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Let nobody write into a folder; raises CalledProcessError where mounting is not allowed."""
    subprocess.run(["mount", "--bind", folder, folder], check=True, capture_output=True)
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", folder], check=True)
        yield
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def sweep_of(folder: Path, seeds: int) -> list[str]:
    """Return the arguments of a sweep of bandits whose results go to the folder."""
    path = folder / "mine.yaml"
    path.write_text(
        f"config: {ROOT}/configs/bandit/sphere.yaml\ngrids: {{a: {{seed: {list(range(seeds))}}}}}\n"
    )
    return ["sweep", str(path), *STEPS, f"results_dir={folder}", "logging.wandb=disabled"]


def wait_for(
    condition: Callable[[], bool], what: str, patience: float = processes.PATIENCE
) -> None:
    """Wait until a condition holds that the cluster brings about."""
    deadline = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < deadline, f"waited too long for {what}"
        time.sleep(0.1)


def runs_in(folder: Path) -> list[RunFolder]:
    """Return the runs of the sweep in a folder."""
    return [RunFolder(path) for path in sorted((folder / "mine/runs").iterdir())]


def logs_in(folder: Path) -> str:
    """Return the logs of all workers of the sweep in a folder."""
    return "".join(path.read_text() for path in sorted((folder / "mine/logs").glob("*.out")))


def has_checkpoint(run: RunFolder) -> bool:
    """Return whether a run has a checkpoint, and an older one."""
    return (run.checkpoints / "previous.ckpt").exists()


def submitted(cluster: Cluster, folder: Path, seeds: int, waited_for: int = 1) -> list[str]:
    """Submit a sweep, wait until so many runs have checkpoints; return those runs' jobs."""
    code, output = cluster.suite(*sweep_of(folder, seeds), "--cluster", "test", "--detach")
    assert code == 0, output
    assert f"submitted {seeds} jobs" in output
    wait_for(lambda: sum(map(has_checkpoint, runs_in(folder))) >= waited_for, "checkpoints")
    return [str(run.progress()["job"]) for run in runs_in(folder) if has_checkpoint(run)]
