"""Records of claims' sweeps: when they are written, and the grids of older lines."""

import dataclasses
from pathlib import Path

import pytest

from suite.config.fields import ConfigError
from suite.paper.claims import load_claims, sweeps_of
from suite.paper.records import load_records, matching_grids, save_records
from suite.report.records import read_records, write_records
from suite.runs.folder import RunFolder
from suite.sweeps.spec import load_sweep
from tests.conftest import ROOT
from tests.paper.made_records import run


def test_records_of_an_earlier_time_stay_until_all_runs_are_over(tmp_path: Path) -> None:
    (claim,) = load_claims(["labels"])
    sweep = sweeps_of(claim, "small", [f"results_dir={tmp_path}"])["labels_bandit"]
    first, *others = map(RunFolder.of, sweep.points.values())
    for folder, config in zip((first, *others), sweep.points.values(), strict=True):
        folder.create(config)
    first.begin()
    first.finish("finished", None)
    assert not save_records(sweep, "labels_bandit", tmp_path)
    assert not (tmp_path / "labels_bandit.jsonl").exists()
    for folder in others:
        folder.begin()
        folder.finish("failed", "it broke")
    assert save_records(sweep, "labels_bandit", tmp_path)
    assert len(read_records(tmp_path / "labels_bandit.jsonl")) == len(sweep.points)
    (tmp_path / f"labels_bandit_small/runs/{first.path.name}/summary.json").unlink()
    first.finish("failed", "it broke too")
    with pytest.raises(ConfigError, match="holds 1 finished runs, and only 0 of 18 finished now"):
        save_records(sweep, "labels_bandit", tmp_path)


def test_saved_records_name_all_their_grids(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    grids = "{a: {feedback: [positive, mixed], seed: [0]}, b: {feedback: [mixed], seed: [0, 1]}}"
    path.write_text(f"config: {ROOT}/configs/bandit/sphere.yaml\ngrids: {grids}\n")
    sweep = load_sweep(path, [f"results_dir={tmp_path}"])
    for config in sweep.points.values():
        folder = RunFolder.of(config)
        folder.create(config)
        folder.begin()
        folder.finish("finished", None)
    assert save_records(sweep, "mine", tmp_path)
    records = read_records(tmp_path / "mine.jsonl")
    assert {(r.feedback, r.seed): r.grids for r in records} == {
        ("positive", 0): ["a"], ("mixed", 0): ["a", "b"], ("mixed", 1): ["b"],
    }  # fmt: skip


def test_lines_without_grids_get_those_that_hold_their_values(tmp_path: Path) -> None:
    sweeps = {"bandit_beta": {"large": {"seed": [0, 1, 7]}}}
    points = [
        {"objective.alpha": 0.5, "objective.beta": 1, "seed": 7},
        {"objective.alpha": 0.5, "objective.beta": 1.5, "seed": 1},
        {"objective.alpha": 1.0, "objective.beta": 0, "seed": 0},
    ]
    records = [run("sphere-10d", "mixed", p["seed"], -1.0, point=p) for p in points]
    write_records(tmp_path / "bandit_beta.jsonl", records)
    assert '"grids"' not in (tmp_path / "bandit_beta.jsonl").read_text()

    def grids(size: str) -> list[list[str]]:
        return [r.grids for r in load_records(sweeps, tmp_path, size)["bandit_beta"]]

    assert grids("full") == [["same_2"], ["beta"], ["beta"]]
    assert grids("large") == [["beta", "same_2"], ["beta"], ["beta", "same_1"]]
    assert matching_grids({}, {"a": {"seed": [0]}}) == []


def test_stored_grids_are_kept(tmp_path: Path) -> None:
    record = dataclasses.replace(run("sphere-10d", "mixed", 0, 1.0), grids=["other"])
    write_records(tmp_path / "bandit_beta.jsonl", [record])
    (read,) = load_records({"bandit_beta": {}}, tmp_path, "full")["bandit_beta"]
    assert read.grids == ["other"]


def test_the_committed_bandits_are_of_the_map_or_of_a_pair() -> None:
    folder = ROOT / "results/claims"
    records = load_records({"bandit_beta": {}}, folder, "full")["bandit_beta"]
    sizes = {grid: sum(grid in r.grids for r in records) for grid in ("beta", "same_1", "same_3")}
    assert sizes == {"beta": 125, "same_1": 5, "same_3": 5}
    assert all(len(record.grids) == 1 for record in records)
