"""What was made before the package was rearranged comes out the same, to the last byte.

tests/golden/make.py made the files and says how to make one again. Sums depend on the processor's
instructions, so the runs have them pinned, and are skipped where there are others.
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
    platform.machine() != "x86_64", reason="golden numbers are of x86-64, others round differently"
)
Contents = dict[str, bytes]


def contents(folder: Path) -> Contents:
    """Return the bytes of all files below a folder."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def sections(text: str) -> dict[str, str]:
    """Return what stands below each title."""
    parts = (part.partition("\n") for part in text.split("# ")[1:])
    return {title: rest for title, _, rest in parts}


def test_every_configuration_and_every_run_of_every_sweep_has_the_name_it_had(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(ROOT)
    expected, found = sections((HERE / "names.txt").read_text()), sections(make.names())
    assert found.keys() == expected.keys()
    assert not [title for title, names in expected.items() if found[title] != names]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder where each domain's run was made whole, and another was continued from its half."""
    where = tmp_path_factory.mktemp("golden")
    shutil.copytree(HERE / "half", where / "results/half")
    make.together([make.train(where, d, sweep) for d in DOMAINS for sweep in ("whole", "half")])
    return where


@slow
@x86
@pytest.mark.parametrize("domain", DOMAINS)
def test_a_run_of_each_domain_measures_what_it_measured(trained: Path, domain: str) -> None:
    run = make.run_of(trained, domain, "whole")
    assert (run / "metrics.jsonl").read_text() == (HERE / f"runs/{domain}.jsonl").read_text()


@slow
@x86
@pytest.mark.parametrize("domain", DOMAINS)
def test_a_run_continues_from_its_old_checkpoint_to_the_same_end(
    trained: Path, domain: str
) -> None:
    run = make.run_of(trained, domain, "half")
    begun = [json.loads(line) for line in (run / "attempts.jsonl").read_text().splitlines()]
    assert [row["step"] for row in begun if row["what"] == "began"] == [0, HALF]
    assert (run / "metrics.jsonl").read_text() == (HERE / f"runs/{domain}.jsonl").read_text()
    assert json.loads((run / "summary.json").read_text())["status"] == "finished"


@slow
@x86
def test_a_finished_sweep_has_the_report_it_had(tmp_path: Path) -> None:
    make.copy_sweep(HERE / "report", tmp_path)
    make.suite(tmp_path, "report", "tiny.yaml")
    expected = {name: text.decode() for name, text in contents(HERE / "report/expected").items()}
    found = make.report(tmp_path / "results/tiny")
    assert found.keys() == expected.keys()
    for name, text in expected.items():
        assert found[name] == text, name


@slow
@x86
def test_a_sweep_that_was_begun_before_is_ended_and_what_is_finished_is_left_alone(
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
    assert second["step"] >= 800, "it was stopped there"
    assert {p.name for p in runs.iterdir()} == {run.name for run in (stopped, *finished)}


@slow
@x86
def test_a_job_that_was_queued_before_runs(tmp_path: Path) -> None:
    shutil.copytree(HERE / "job", tmp_path, dirs_exist_ok=True)
    job, _, _ = make.QUEUED.partition("_")
    where = ["JOB_ID=" + job, "NTASKS=1", "JOB_NUM_NODES=1", "NODEID=0", "GLOBALID=0", "LOCALID=0"]
    settings = dict(f"SUBMITIT_LOCAL_{each}".split("=") for each in where)
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
    """Return a PNG whole where this Matplotlib made it on such a processor, else width and height.

    Another version draws letters in other places; its name is in the file.
    """
    own = f"Matplotlib version{matplotlib.__version__},".encode()
    return image if own in image and platform.machine() == "x86_64" else image[16:24]


@slow
def test_page_readme_and_figures_of_the_claims_follow_from_the_committed_records(
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
