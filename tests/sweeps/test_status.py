"""What lies in one folder of a sweep hides nothing else."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from suite.cli import main
from suite.config.fields import ConfigError
from suite.runs.folder import RunFolder, make_folder
from suite.sweeps import slurm_jobs, status
from suite.sweeps.launching import prepare_runs
from suite.sweeps.monitor import Monitor
from suite.sweeps.slurm_jobs import Jobs
from suite.sweeps.spec import load_sweep
from suite.sweeps.status import last_message
from suite.system.files import write_json
from suite.system.plain_text import plain
from tests.conftest import ROOT

SUMMARY = {"status": "finished", "score": -1.5, "step": 12, "error": None}


def sweep_with(folder: Path, *names: str) -> Path:
    """Make finished runs; return the folder of the last."""
    for name in names:
        (folder / "runs" / name).mkdir(parents=True, exist_ok=True)
        write_json(folder / "runs" / name / "summary.json", SUMMARY)
    return folder / "runs" / names[-1]


def progress(values: Any) -> Callable[[Path], object]:
    return lambda run: ((run / "summary.json").unlink(), write_json(run / "progress.json", values))


def summary(values: Any) -> Callable[[Path], object]:
    return lambda run: write_json(run / "summary.json", values)


def replaced(name: str, content: bytes) -> Callable[[Path], object]:
    return lambda run: (run / name).write_bytes(content)


ODD_RUNS: dict[str, Callable[[Path], object]] = {
    "steps are texts": progress({"step": "many", "steps": [], "rate": "fast", "phase": 3}),
    "a rate of almost 0": progress({"step": 1, "steps": 10**18, "rate": 1e-300}),
    "progress is a list": replaced("progress.json", b"[1]"),
    "score is a text": summary({"status": "finished", "score": "good"}),
    "score is a mapping": summary({"status": "failed", "score": {}, "error": {"a": [1]}}),
    "status is a list": summary({"status": ["finished"]}),
    "error of 60 MB": summary({"status": "failed", "error": "x" * 60_000_000}),
    "error with escapes": summary({"status": "failed", "error": "\x1b]0;pwned\x07\x1b[2J\r\b"}),
    "error with brackets": summary({"status": "failed", "error": "[/red] [bold"}),
    "error with half a character": replaced(
        "summary.json", b'{"status": "failed", "error": "\\ud83d"}'
    ),
    "summary is binary": replaced("summary.json", bytes(range(256))),
    "summary is deep": replaced("summary.json", b"[" * 200_000),
    "a lease without a process": replaced(".claim-1", b'{"machine": "x"}'),
    "metrics are binary": replaced("metrics.jsonl", bytes(range(256))),
}


@pytest.fixture(autouse=True)
def without_slurm(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(*command: str) -> str:
        raise ConfigError("SLURM is not installed here: there is no squeue")

    monkeypatch.setattr(slurm_jobs, "run_slurm", absent)


@pytest.mark.parametrize("damage", ODD_RUNS.values(), ids=ODD_RUNS.keys())
def test_a_damaged_run_leaves_the_others_their_lines(
    damage: Callable[[Path], object], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damage(sweep_with(tmp_path / "mine", "good", "other", "bad"))
    assert main(["status", "mine", f"results_dir={tmp_path}"]) == 0
    text = capsys.readouterr().out
    assert [name for name in ("good", "other", "bad") if name in text] == ["good", "other", "bad"]
    assert "2 finished" in text or "3 finished" in text
    assert "\x1b]" not in text
    assert "\x07" not in text
    assert len(text) < 20_000


def test_a_run_that_cannot_be_read_is_named_with_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep_with(tmp_path / "mine", "good", "bad")
    state = RunFolder.state

    def fails(run: RunFolder) -> object:
        if run.path.name == "bad":
            raise PermissionError(13, "Permission denied", "progress.json")
        return state(run)

    monkeypatch.setattr(RunFolder, "state", fails)
    assert main(["status", "mine", f"results_dir={tmp_path}"]) == 0
    text = capsys.readouterr().out
    assert "unreadable: bad: PermissionError: [Errno 13] Permission denied" in text
    monitor = Monitor("mine", [RunFolder(p) for p in (tmp_path / "mine/runs").iterdir()])
    monitor.update()
    assert monitor.states["bad"] == "unreadable"


@pytest.mark.parametrize(
    "name", ["[bold]x[red]", "a\x1b[31mb", "a\nb", "späße 雪", "x" * 200, "\udcff"]
)
def test_a_name_is_shown_as_it_is_without_control_characters(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep_with(tmp_path / "mine", "good")
    os.mkdir(tmp_path / "mine/runs" / name)
    assert main(["status", "mine", f"results_dir={tmp_path}"]) == 0
    text = capsys.readouterr().out
    assert "1 queued, 1 finished" in text
    assert "\x1b[31m" not in text


ODD_JOBS = {
    "notes.json": b"{}", "7.json.bak": b"{}", "seven.json": b"{", "-3.json": b"{}",
    "9.json": b"", "10.json": b"[1]", "11.json": b'{"elements": [1]}', "12.json": bytes(range(256)),
    "13.json": b'{"elements": {"13_0": "run"}}', "14.json": b'{"elements": {"14": [3]}}',
    "15.json": b'{"commit": 3}', "\xb2.json": b"{}", "8" * 200 + ".json": b"{}",
    ".16.json.0a1b2c3d": b"{", "5.0.stopped": b"",
}  # fmt: skip


def test_stray_files_among_the_jobs_are_left_alone(tmp_path: Path) -> None:
    jobs = Jobs(tmp_path / "mine")
    jobs.add({"17_0": ["good"]}, commit="abc")
    for name, content in ODD_JOBS.items():
        (jobs.folder / name).write_bytes(content)
    (jobs.folder / "18.json").mkdir()
    (jobs.folder / "19.json").symlink_to("nowhere")
    assert jobs.elements() == {"17_0": ["good"]}
    assert jobs.commit_of("17_0") == "abc"
    assert jobs.commit_of("15") is None
    assert jobs.endings(["good"]) == {}
    sweep_with(tmp_path / "mine", "good")
    assert main(["status", "mine", f"results_dir={tmp_path}"]) == 0


def test_only_the_end_of_a_log_is_read_and_its_line_is_capped(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    log = tmp_path / "logs/7_0_log.out"
    with log.open("wb") as file:
        file.seek(60_000_000)
        file.write(b"x" * 200_000 + b"\nerror: \x1b[2Jlost \xff\n" + b"y" * 2000 + b"\n")
    text = last_message(tmp_path, "7")
    assert text.endswith("error: \\x1b[2Jlost �")
    log.write_bytes(b"z" * 1_000_000)
    assert len(last_message(tmp_path, "7")) < 1000
    log.unlink()
    os.mkfifo(log)
    assert "no log" in last_message(tmp_path, "7")
    assert status.LOG_BYTES < 10**6


def test_plain_text_is_one_printable_line() -> None:
    assert plain("a\x1b[0m\r\n\tb\u202e\x9b") == "a\\x1b[0m   b\\u202e\\x9b"
    assert plain("x" * 1000, 10) == "x" * 9 + "…"
    assert plain("größe 雪 🙂") == "größe 雪 🙂"


@pytest.mark.parametrize("part", ["results", "results/mine", "results/mine/runs"])
def test_links_to_another_disk_are_followed(part: str, tmp_path: Path) -> None:
    other = tmp_path / "other disk"
    other.mkdir()
    link = tmp_path / part
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(other)
    run = sweep_with(tmp_path / "results/mine", "good")
    assert RunFolder(run).results_dir == tmp_path / "results"
    assert main(["status", "mine", f"results_dir={tmp_path / 'results'}"]) == 0


@pytest.mark.parametrize("kind", ["link", "file"])
@pytest.mark.parametrize("part", ["results", "results/mine", "results/mine/runs"])
def test_what_is_in_the_way_of_a_folder_is_one_sentence(
    part: str, kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / part
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to("gone") if kind == "link" else path.write_text("")
    sweep = tmp_path / "mine.yaml"
    sweep.write_text(f"config: {ROOT}/configs/bandit/sphere.yaml\ngrids: {{a: {{seed: [0]}}}}\n")
    results = f"results_dir={tmp_path / 'results'}"
    message = "is a link to gone, which is not there" if kind == "link" else "is a file, expected"
    train = ["train", str(ROOT / "configs/bandit/sphere.yaml"), "sweep=mine", results]
    commands = [train, ["sweep", str(sweep), results]] if not part.endswith("runs") else [train]
    for command in commands:
        assert main(command) == 2
        error = capsys.readouterr().err
        assert f"{path}: {message}" in error
        assert error.count("\n") == 1


def test_a_run_in_whose_place_a_file_lies_does_not_stop_the_launcher(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(f"config: {ROOT}/configs/bandit/sphere.yaml\ngrids: {{a: {{seed: [0, 1]}}}}\n")
    sweep = load_sweep(path, [f"results_dir={tmp_path}"])
    first, second = (RunFolder.of(config).path for config in sweep.points.values())
    make_folder(first.parent)
    first.write_text("")
    prepare_runs(sweep, retry=False)
    assert (second / "config.yaml").exists()
    assert "is a file, expected a folder" in capsys.readouterr().err


def test_jobs_of_earlier_versions_are_read(tmp_path: Path) -> None:
    jobs = Jobs(tmp_path)
    jobs.folder.mkdir()
    (jobs.folder / "7.json").write_text(json.dumps({"elements": {"7_0": ["a"]}}))
    assert jobs.elements() == {"7_0": ["a"]}
    assert jobs.commit_of("7_0") is None
