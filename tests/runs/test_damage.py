"""Torn, truncated, swapped and outdated files of a run: it ends with the same bytes, or refuses."""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from suite.runs.verify import verify
from tests.faults import FaultServer
from tests.runs.test_faults import RUN, STEPS, contents

NAMES = (
    *("config.yaml", "environment.json", "metrics.jsonl", "attempts.jsonl"),
    *("checkpoints/last.ckpt", "checkpoints/previous.ckpt"),
)
RESULT = ("summary.json", "policy/policy.json", "policy.sha256")  # of a finished run


def keep(part: float) -> Callable[[Path, Path], None]:
    def truncate(path: Path, other: Path) -> None:
        os.truncate(path, int(path.stat().st_size * part))

    return truncate


def flip(path: Path, other: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def into_folder(path: Path, other: Path) -> None:
    path.unlink()
    path.mkdir()
    (path / "file").write_text("a user's")


def tear_row(path: Path, other: Path) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([lines[0][: len(lines[0]) // 2], *lines[1:]]))


DAMAGES: dict[str, Callable[[Path, Path], object]] = {
    "empty": keep(0),
    "half": keep(0.5),
    "without its last byte": lambda path, _: os.truncate(path, path.stat().st_size - 1),
    "one bit": flip,
    "rubbish": lambda path, _: path.write_bytes(bytes(range(256)) * 8),
    "of another seed": lambda path, other: shutil.copy(other, path),
    "a folder": into_folder,
    "a JSON list": lambda path, _: path.write_text("[1, 2]\n"),
    "numbers as text": lambda path, _: path.write_text('{"step": "4", "what": 5}\n'),
    "missing": lambda path, _: path.unlink(),
    "first row torn": tear_row,
    "a NUL at its end": lambda path, _: path.write_bytes(path.read_bytes() + b"\0"),
}


class Runs:
    """An interrupted and a finished run, one of another seed, and the process that continues."""

    def __init__(self, folder: Path) -> None:
        self.server = FaultServer(folder)
        self.results, self.folder = folder / "results", folder
        self.command = [*RUN, f"results_dir={self.results}"]
        assert self.server.run([*self.command, "seed=1"], self.results).code == 0
        (self.other,) = (self.results / "tiny/runs").iterdir()
        self.other = self.other.rename(folder / "other")
        shutil.rmtree(self.results)
        whole = self.server.run(self.command, self.results)
        assert whole.code == 0, whole.output
        self.contents = contents(self.results)
        shutil.copytree(self.results, folder / "finished")
        shutil.rmtree(self.results)
        last = max(n for n, point in enumerate(whole.points) if point.endswith("last.ckpt"))
        self.server.run(self.command, self.results, last + 2, "SIGKILL")
        shutil.copytree(self.results, folder / "interrupted")

    def start_from(self, kind: str) -> Path:
        """Put a run into the results; return its folder."""
        shutil.rmtree(self.results, ignore_errors=True)
        shutil.copytree(self.folder / kind, self.results)
        (run,) = (self.results / "tiny/runs").iterdir()
        return run


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    made = Runs(tmp_path_factory.mktemp("damage"))
    yield made
    made.server.close()


@pytest.mark.parametrize("damage", DAMAGES)
def test_an_interrupted_run_with_a_damaged_file_ends_with_the_same_bytes_or_refuses(
    runs: Runs, damage: str
) -> None:
    for name in NAMES:
        run = runs.start_from("interrupted")
        size = sum(path.stat().st_size for path in run.rglob("*.ckpt*"))
        DAMAGES[damage](run / name, runs.other / name)
        outcome = runs.server.run(runs.command, runs.results)
        where = f"{name} is {damage}: {outcome.output}"
        assert "Traceback" not in outcome.output, where
        if outcome.code == 0:
            assert contents(runs.results) == runs.contents, where
        else:
            assert outcome.code in (1, 2), where
            assert outcome.output.count("suite: ") in (1, 2), where
            assert name in outcome.output, where
            kept = sum(path.stat().st_size for path in run.rglob("*.ckpt*") if path.is_file())
            assert kept >= size or "ckpt" in name, "no checkpoint is lost by a refusal"


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_finished_run_with_a_damaged_file_is_found_by_verify(runs: Runs, damage: str) -> None:
    for name in (*NAMES, *RESULT):
        run = runs.start_from("finished")
        DAMAGES[damage](run / name, runs.other / name)
        before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
        findings = verify(run)
        is_text = name in ("environment.json", "config.yaml")
        if not is_text and (name, damage) not in HARMLESS:
            assert findings, f"{name} is {damage}"
        assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before


HARMLESS = {
    ("attempts.jsonl", "of another seed"),
    ("attempts.jsonl", "without its last byte"),
    ("attempts.jsonl", "empty"),
    ("attempts.jsonl", "missing"),
    ("checkpoints/last.ckpt", "a NUL at its end"),
    ("checkpoints/previous.ckpt", "a NUL at its end"),
    ("checkpoints/previous.ckpt", "missing"),
    ("summary.json", "without its last byte"),
    ("summary.json", "first row torn"),
    ("summary.json", "missing"),  # an interrupted run
    ("policy/policy.json", "first row torn"),
    ("policy.sha256", "missing"),
    ("policy.sha256", "without its last byte"),
}


def test_swapped_and_outdated_checkpoints_end_with_the_same_bytes(runs: Runs) -> None:
    run = runs.start_from("interrupted")
    last, previous = run / "checkpoints/last.ckpt", run / "checkpoints/previous.ckpt"
    newer, older = last.read_bytes(), previous.read_bytes()
    for pair in ((older, newer), (older, older), (newer, newer)):
        run = runs.start_from("interrupted")
        last.write_bytes(pair[0])
        previous.write_bytes(pair[1])
        assert runs.server.run(runs.command, runs.results).code == 0
        assert contents(runs.results) == runs.contents


def test_damaged_checkpoints_and_their_rows_are_kept_and_told(runs: Runs) -> None:
    run = runs.start_from("interrupted")
    for name in ("last.ckpt", "previous.ckpt"):
        (run / "checkpoints" / name).write_bytes(b"rubbish")
    rows = (run / "metrics.jsonl").read_bytes()
    outcome = runs.server.run(runs.command, runs.results)
    assert outcome.code == 0, outcome.output
    assert contents(runs.results) == runs.contents
    kept = run / "checkpoints/last.ckpt.damaged-1"
    assert kept.read_bytes() == b"rubbish"
    assert (run / "metrics.jsonl.damaged-1").read_bytes() == rows
    assert f"it is kept as {kept.name}" in outcome.output
    assert "starts again: no checkpoint is whole" in outcome.output
    assert verify(run) == []


def test_leftovers_of_interrupted_writes_are_replaced_and_a_users_files_stay(runs: Runs) -> None:
    run = runs.start_from("interrupted")
    left = [".policy.new", ".config.yaml.new", ".summary.json.new", "checkpoints/.next.ckpt.new"]
    for name in (*left, "policy", ".environment.json.new"):
        (run / name / "inner").mkdir(parents=True)
        (run / name / "inner/.some.file").write_text("half")
    for name in (".notes.txt", ".git.d/config", "checkpoints/.keep.me"):
        (run / name).parent.mkdir(exist_ok=True)
        (run / name).write_text("a user's")
    assert runs.server.run(runs.command, runs.results).code == 0
    assert contents(runs.results) == runs.contents
    assert not [name for name in left if (run / name).exists()]
    assert (run / ".notes.txt").read_text() == (run / ".git.d/config").read_text() == "a user's"
    assert (run / "checkpoints/.keep.me").exists()


def test_verify_is_a_command(runs: Runs, capsys: pytest.CaptureFixture[str]) -> None:
    from suite.cli import main

    run = runs.start_from("finished")
    assert main(["verify", str(run)]) == 0
    assert capsys.readouterr().out == f"{run}: whole, finished\n"
    rows = (run / "metrics.jsonl").read_text().splitlines()
    (run / "metrics.jsonl").write_text("\n".join([*rows[:-1], rows[-1].replace("-", "", 1)]) + "\n")
    assert json.loads(rows[-1])["step"] == int(STEPS[0].partition("=")[2])
    assert main(["verify", str(run)]) == 1
    output = capsys.readouterr().out
    assert f"{run}: metrics.jsonl does not begin with the " in output
    assert "summary.json says score -" in output
    assert main(["verify", str(run.parent)]) == 2
