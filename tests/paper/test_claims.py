"""The claims: their sweeps at each size, and the command that runs them."""

from pathlib import Path

import pytest

from suite.cli import main
from suite.paper.claims import MODULES, SIZES, load_claims, sweeps_of
from suite.paper.judging import OPEN
from suite.report.records import read_records
from tests.conftest import SCHEDULE, TINY
from tests.paper.made_records import HOLDING, run


def test_every_claim_has_a_module_and_made_records() -> None:
    assert [claim.name for claim in load_claims()] == list(MODULES) == list(HOLDING)


@pytest.mark.parametrize("name", MODULES)
def test_what_was_not_run_is_not_judged(name: str) -> None:
    (claim,) = load_claims([name])
    assert claim.judge({sweep: [] for sweep in claim.sweeps}) == OPEN
    missing, *there = claim.sweeps
    some = {sweep: [run("sphere-10d", "mixed", 0, 0.0, 1.0)] for sweep in there}
    assert claim.judge({missing: [], **some}) == OPEN


@pytest.mark.parametrize("size", SIZES)
def test_every_size_of_every_claim_expands(size: str) -> None:
    counts = {}
    for claim in load_claims():
        for name, sweep in sweeps_of(claim, size, []).items():
            counts[name] = len(sweep.points)
            assert sweep.name == (name if size == "full" else f"{name}_{size}")
    assert all(counts.values())
    if size == "small":
        assert sum(counts.values()) < 250


@pytest.mark.slow
def test_a_claims_runs_are_made_once_and_judged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    size = {"labels.keep": [0.1, 1], "objective.alpha": [0, 1], "seed": [0]}
    size |= dict(key.split("=") for key in [*TINY["bandit"], *SCHEDULE])
    size |= {"trainer.steps_per_call": 1}
    claim = {"claim": "c", "source": "s", "sweeps": {"labels_bandit": {"small": size}}}
    monkeypatch.setattr("suite.paper.claims.read_yaml", lambda path: {"labels": claim})
    where = [f"results_dir={tmp_path}", "logging.wandb=disabled"]
    command = ["claims", "labels", "--size", "small", *where]
    assert main(command) == 0
    assert "claims:" in capsys.readouterr().out
    path = tmp_path / "claims_small/labels_bandit.jsonl"
    records = read_records(path)
    assert len(records) == 4
    metrics = tmp_path.glob("labels_bandit_small/runs/*/metrics.jsonl")
    made = {each: each.stat().st_mtime_ns for each in metrics}
    assert len(made) == 4
    assert main(command) == 0
    assert made == {each: each.stat().st_mtime_ns for each in made}
    assert read_records(path) == records
    assert "**too small to judge**" in (tmp_path / "claims_small/README.md").read_text()


def test_unknown_claims_and_sizes_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["claims", "P9"]) == 2
    assert "claims are P1, P2, P3, P4, P5, P6, labels; found P9" in capsys.readouterr().err
    assert main(["claims", "--size", "huge"]) == 2
    assert "--size must be one of small, full, large; found huge" in capsys.readouterr().err
    assert main(["claims", "P1", "trainer.steps=5"]) == 2
    assert "claims take results_dir=DIR and logging.KEY=VALUE" in capsys.readouterr().err
