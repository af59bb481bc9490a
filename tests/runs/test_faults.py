"""A fault at any write of a run: the same command then ends with the same bytes.

By default each write point meets one kind of fault, in turn. With SUITE_ALL_FAULTS=1 each point
meets all of them.
"""

import json
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.faults import ERRORS, FAULTS, FaultServer, Outcome

STEPS = ["trainer.steps=4", "trainer.eval_every=2", "trainer.checkpoint_every=2"]
RUN = ["train", "configs/bandit/sphere.yaml", "domain.dimensions=3", "domain.contexts=4"]
RUN += [*STEPS, "trainer.log_every=2", "sweep=tiny"]


class Whole(NamedTuple):
    """A run without faults, and how to repeat it."""

    server: FaultServer
    results: Path
    points: list[str]
    contents: dict[str, bytes]

    def run(self, point: int = -1, fault: str = "") -> Outcome:
        return self.server.run([*RUN, f"results_dir={self.results}"], self.results, point, fault)


def contents(results: Path) -> dict[str, bytes]:
    """Return what must be the same, by path below the run's folder."""
    (run,) = (results / "tiny/runs").iterdir()
    names = ("config.yaml", "metrics.jsonl", "policy/policy.json", "policy/README.md")
    summary = json.loads((run / "summary.json").read_text()) | {"seconds": 0}
    files = {name: (run / name).read_bytes() for name in (*names, "policy.sha256")}
    return files | {"summary.json": json.dumps(summary).encode()}


def files(results: Path) -> set[str]:
    """Return the names of all files, without those of leases, whose numbers count the attempts."""
    found = (str(path.relative_to(results)) for path in results.rglob("*") if path.is_file())
    return {name for name in found if ".claim-" not in name}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Whole]:
    folder = tmp_path_factory.mktemp("faults")
    server = FaultServer(folder)
    results = folder / "results"
    outcome = server.run([*RUN, f"results_dir={results}"], results)
    assert outcome.code == 0, outcome.output
    shutil.copytree(results, folder / "whole")
    yield Whole(server, results, outcome.points, contents(results))
    server.close()


def chosen(points: list[str]) -> list[tuple[int, str]]:
    """Return the points and faults of this test run."""
    if os.environ.get("SUITE_ALL_FAULTS"):
        return [(number, fault) for number in range(len(points)) for fault in FAULTS]
    first = {point: number for number, point in reversed(list(enumerate(points)))}
    return [(n, FAULTS[i % len(FAULTS)]) for i, n in enumerate(sorted(first.values()))]


def test_a_run_has_write_points_of_all_its_files(whole: Whole) -> None:
    kinds = {(point.split()[0], point.rpartition("/")[2]) for point in whole.points}
    assert len(kinds) >= 40
    names = {name.removeprefix(".").removesuffix(".new") for _, name in kinds}
    assert names >= {"config.yaml", "environment.json", "attempts.jsonl", "progress.json"}
    assert names >= {"metrics.jsonl", "next.ckpt", "policy.json", "summary.json", "claim-1"}


def test_after_a_fault_at_any_write_the_same_command_ends_with_the_same_bytes(
    whole: Whole,
) -> None:
    expected = files(whole.results.with_name("whole"))
    problems = []
    for point, fault in chosen(whole.points):
        shutil.rmtree(whole.results)
        struck = whole.run(point, fault)
        expire_leases(whole.results)
        again = whole.run()
        where = f"{fault} at {point}, {whole.points[point]}"
        if "Traceback" in struck.output + again.output or struck.code not in codes(fault):
            problems.append(f"{where}: {struck.code} {struck.output} {again.output}")
        elif again.code != 0:
            problems.append(f"{where}: then {again.code} {again.output}")
        elif contents(whole.results) != whole.contents or files(whole.results) != expected:
            problems.append(f"{where}: other files: {files(whole.results) ^ expected}")
    assert not problems, "\n".join([f"{len(problems)} problems", *problems])


def codes(fault: str) -> set[int]:
    """Return the exit codes that a command may have after a fault.

    A signal or an error of the last writes comes when the run has ended well, and outside of a run
    the default action of a signal ends the process.
    """
    if fault == "SIGKILL":
        return {-signal.SIGKILL}
    return {0, 1, 130} if fault in ERRORS else {0, 130, -getattr(signal, fault)}


def expire_leases(results: Path) -> None:
    """Let the time pass after which a half written lease is nobody's."""
    for path in results.glob("tiny/runs/*/.claim-*"):
        os.utime(path, (0, 0))
