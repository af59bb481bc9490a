"""Names, metrics and reports are the same, to the last byte, as before the reorganisation.

tests/golden/make.py made the files, and describes how to make one of them again. Sums depend on the
processor's instructions. These are pinned to those of any x86-64; other processors skip the tests.
"""

import json
import platform
import re
import shutil
from pathlib import Path

import matplotlib
import pytest

from tests.golden import make
from tests.golden.make import DOMAINS, HALF, HERE, ROOT

slow = pytest.mark.slow
x86 = pytest.mark.skipif(
    platform.machine() != "x86_64", reason="other processors than x86-64 round differently"
)
Contents = dict[str, bytes]


def contents(folder: Path) -> Contents:
    """Return the bytes of all files below a folder."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def sections(text: str) -> dict[str, str]:
    """Return the text below each title."""
    parts = (part.partition("\n") for part in text.split("# ")[1:])
    return {title: rest for title, _, rest in parts}


def test_every_configuration_and_every_run_of_every_sweep_keeps_its_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(ROOT)
    expected, actual = sections((HERE / "names.txt").read_text()), sections(make.names())
    assert actual.keys() == expected.keys()
    assert not [title for title, names in expected.items() if actual[title] != names]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two runs of each domain: one whole, one resumed from the middle."""
    where = tmp_path_factory.mktemp("golden")
    shutil.copytree(HERE / "half", where / "results/half")
    make.together([make.train(where, d, sweep) for d in DOMAINS for sweep in ("whole", "half")])
    return where


@slow
@x86
@pytest.mark.parametrize("domain", DOMAINS)
def test_a_run_of_each_domain_keeps_its_metrics(trained: Path, domain: str) -> None:
    run = make.run_of(trained, domain, "whole")
    assert (run / "metrics.jsonl").read_text() == (HERE / f"runs/{domain}.jsonl").read_text()


@slow
@x86
@pytest.mark.parametrize("domain", DOMAINS)
def test_a_run_resumed_from_an_old_checkpoint_has_the_same_metrics(
    trained: Path, domain: str
) -> None:
    run = make.run_of(trained, domain, "half")
    old = (HERE / "half/runs" / run.name / "metrics.jsonl").read_text().splitlines(keepends=True)
    whole = (HERE / f"runs/{domain}.jsonl").read_text().splitlines(keepends=True)
    # The rows up to the checkpoint stay as an earlier version wrote them, with fewer metrics.
    expected = old[:-1] + [line for line in whole if json.loads(line)["step"] > HALF]
    attempts = [json.loads(line) for line in (run / "attempts.jsonl").read_text().splitlines()]
    assert [row["step"] for row in attempts if row["what"] == "began"] == [0, HALF]
    assert (run / "metrics.jsonl").read_text() == "".join(expected)
    assert json.loads((run / "summary.json").read_text())["status"] == "finished"


@slow
@x86
def test_a_finished_sweep_keeps_its_report(tmp_path: Path) -> None:
    make.copy_sweep(HERE / "report", tmp_path)
    make.suite(tmp_path, "report", "tiny.yaml")
    expected = {name: text.decode() for name, text in contents(HERE / "report/expected").items()}
    actual = make.report(tmp_path / "results/tiny")
    assert actual.keys() == expected.keys()
    for name, text in expected.items():
        assert actual[name] == text, name


@slow
@x86
def test_an_old_sweep_is_finished_and_its_finished_runs_are_not_touched(
    tmp_path: Path,
) -> None:
    make.copy_sweep(HERE / "begun", tmp_path)
    runs = tmp_path / "results/tiny/runs"
    (stopped,) = runs.glob("*-mixed-*")
    finished = [run for run in runs.iterdir() if run != stopped]
    assert len(finished) == 2
    before = {path: path.stat().st_mtime_ns for run in finished for path in run.rglob("*")}
    make.suite(tmp_path, "sweep", "tiny.yaml", "--parallel", "1")
    after = {path: path.stat().st_mtime_ns for run in finished for path in run.rglob("*")}
    assert after == before
    expected = (HERE / "begun/expected.jsonl").read_text()
    assert (stopped / "metrics.jsonl").read_text() == expected
    first, second = (json.loads(x) for x in (stopped / "attempts.jsonl").read_text().splitlines())
    assert first["step"] == 0
    assert second["step"] >= 800, "the run was stopped at that step or later"
    assert {p.name for p in runs.iterdir()} == {run.name for run in (stopped, *finished)}


@slow
@x86
def test_an_old_queued_job_runs(tmp_path: Path) -> None:
    shutil.copytree(HERE / "job", tmp_path, dirs_exist_ok=True)
    job, _, _ = make.QUEUED.partition("_")
    values = {"JOB_ID": job, "NTASKS": "1", "JOB_NUM_NODES": "1"}
    values |= {"NODEID": "0", "GLOBALID": "0", "LOCALID": "0"}
    settings = {f"SUBMITIT_LOCAL_{name}": value for name, value in values.items()}
    process = make.start(
        tmp_path,
        "-m",
        "submitit.core._submit",
        str(tmp_path),
        SUBMITIT_EXECUTOR="local",
        **settings,
    )
    make.finish(process)
    run = make.run_of(tmp_path, "bandit", "queued")
    assert (run / "metrics.jsonl").read_text() == (HERE / "runs/bandit.jsonl").read_text()


def comparable(image: bytes) -> bytes:
    """Return all bytes of a PNG if this version of Matplotlib made it on x86-64, else its size.

    Versions place letters differently; the version is in the file.
    """
    own = f"Matplotlib version{matplotlib.__version__},".encode()
    return image if own in image and platform.machine() == "x86_64" else image[16:24]


@slow
def test_the_committed_records_give_the_claims_page_readme_and_figures(
    tmp_path: Path,
) -> None:
    committed, made = ROOT / "results/claims", tmp_path / "results/claims"
    made.mkdir(parents=True)
    for path in committed.glob("*.jsonl"):
        shutil.copy(path, made)
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    readme = (ROOT / "README.md").read_text()
    outdated = re.sub(r"(?s)(<!-- claims: .*? -->\n).*?(<!-- /claims -->)", r"\1Old.\n\2", readme)
    assert outdated != readme
    (tmp_path / "README.md").write_text(outdated)
    make.suite(tmp_path, "claims", "--report")
    assert (tmp_path / "README.md").read_text() == readme
    assert (made / "README.md").read_text() == (committed / "README.md").read_text()
    figures, expected = contents(made / "figures"), contents(committed / "figures")
    assert figures.keys() == expected.keys()
    for name, image in expected.items():
        assert comparable(figures[name]) == comparable(image), name
