"""The claims' page: judged from records alone, whichever way they fall."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from suite.cli import main
from suite.config.fields import ConfigError
from suite.paper import page
from suite.paper.claims import SIZES, keep, load_claims, sweeps_of
from suite.paper.drawing import DRAWINGS
from suite.paper.verdicts import JUDGES, OPEN, Runs, judge
from suite.report.records import RunRecord, line_of, store, stored
from suite.runs.folder import RunFolder
from suite.system.files import write_text
from tests.conftest import ROOT, SCHEDULE, TINY

NUMBERS = np.random.default_rng(0)


def run(task: str, variant: str, seed: int, *scores: float, **more: Any) -> RunRecord:
    """A finished run, its scores evaluated every ten steps."""
    objective = "dpo" if variant.startswith("dpo") else variant if variant == "mpo" else "pmpo"
    evaluations = [
        {
            "step": 10 * i,
            "eval/score": s + (1e-3 * float(NUMBERS.normal()) if i else 0),
            "eval/kl": float(i),
        }
        for i, s in enumerate(scores)
    ]
    values = {
        "name": f"{task}-{variant}-{seed}-{sorted(more.items())}",
        "domain": "bandit", "task": task, "objective": objective, "seed": seed, "variant": variant,
        "feedback": variant if variant in ("positive", "negative") else "mixed",
        "state": "finished", "point": {}, "evaluations": evaluations, "commit": "0123456789ab",
    }  # fmt: skip
    return RunRecord(**(values | more))


def bandits(dpo: float) -> Runs:
    """Three modes at 5, and DPO at what is given."""
    found = [
        run(f"sphere-{d}d", v, seed, 0.0, seed + (dpo if v.startswith("dpo") else 5.0))
        for d in (2, 10)
        for v in ("positive", "negative", "mixed", "dpo, pairs=all", "dpo, pairs=best_worst")
        for seed in range(4)
    ]
    return {"bandit_dimensions": found}


def control(mpo: float, negative: float = 700.0, others: float = 700.0) -> Runs:
    ends = {"positive": others, "negative": negative, "mixed": others, "mpo": mpo, "dpo": 600.0}
    modes = [run("pole", v, s, 1.0, ends[v]) for v in list(ends)[:3] for s in range(3)]
    rivals = [run("pole", v, s, 1.0, ends[v]) for v in list(ends)[2:] for s in range(3)]
    return {"control": modes, "control_baselines": rivals}


def betas(works_from: dict[float, float], task: str = "sphere-10d", **more: Any) -> list[RunRecord]:
    """Runs that collapse below the β that is given for each α; predicted: 1.66, 0.66 and 0."""
    predicted = {0.0: 1.66, 0.5: 0.66, 1.0: 0.0}
    return [
        run(task, "mixed", s, -50.0, -1.0 if b >= works_from[a] else -90.0, alpha=a, beta=b,
            gaussian_beta=predicted[a], **more)
        for a in predicted for b in (0.0, 0.5, 1.0, 1.5, 2.0) for s in range(2)
    ]  # fmt: skip


def pairs(apart: float) -> list[RunRecord]:
    """Curves of three pairs, of which the last may lie apart."""
    return [
        run("sphere-10d", "mixed", s, -50.0, -5.0 - s, end - s, alpha=a, beta=b)
        for a, b, end in ((1.0, 0.0, -1.0), (0.5, 1.0, -1.0), (0.0, 2.0, apart - 1.0))
        for s in (5, 6, 7, 8)
    ]  # fmt: skip


def offline(ends: dict[str, float]) -> Runs:
    points: dict[str, dict[str, Any]] = {
        "BC": {"point": {"labels.keep": 0}},
        "Accept + BC": {"feedback": "positive", "beta": 1.0},
        "Accept": {"feedback": "positive", "beta": 0.0},
        "Reject + BC": {"feedback": "negative", "point": {"objective.margin": 1}},
        "Accept + Reject + BC": {"feedback": "mixed", "point": {"objective.margin": 1}},
    }
    for name in ("Reject + BC", "Accept + Reject + BC"):
        points[f"{name}, 0.8·(1−α)/Z0"] = points[name] | {"point": {"objective.margin": 0.8}}
    found = [
        run(task, "mixed", s, 0.0, ends[name] + 5 * s, **more)
        for task in ("pole", "arm") for name, more in points.items() for s in range(5)
    ]  # fmt: skip
    return {"offline": found}


def letters(mixed_quick: float, mixed_lost: float, dpo: float) -> Runs:
    def made(variant: str, quick: float, lost: float, end: float) -> list[RunRecord]:
        found = []
        for seed in range(3):
            exact = [0.5, 0.6, *[end + lost] * 8, end]
            record = run("letters", variant, seed, *exact)
            for i, row in enumerate(record.evaluations):
                row |= {"eval/judge_score": 0.5 + (quick if i else 0) + i / 50 + seed / 1000}
                row |= {"eval/logp_accepted": -float(i)}
            found.append(record)
        return found

    return {
        "letters": made("positive", 0.1, 0.1, 0.7)
        + made("negative", 0.1, 0.1, 0.7)
        + made("mixed", mixed_quick, mixed_lost, 0.7)
        + made("dpo", 0.1, 0.1, dpo)
    }


def shares(best: float) -> Runs:
    found = [
        run("sphere-10d", "mixed", s, 0, 9 if a == best else 5, alpha=a, point={"labels.keep": k})
        for k in (0.1, 1) for a in (0.0, 0.5, 1.0) for s in range(4)
    ]  # fmt: skip
    return {"labels_bandit": found, "labels_rows": found, "labels_control": found}


GOOD = {0.0: 1.5, 0.5: 0.5, 1.0: 0.0}
WRONG = {0.0: 0.0, 0.5: 0.5, 1.0: 0.0}
BOTH, PUSHED = "Accept + Reject + BC", "Reject + BC, 0.8·(1−α)/Z0"
ORDER = {"BC": 240.0, "Accept + BC": 260.0, "Accept": 300.0, "Reject + BC": 300.0, BOTH: 300.0}
ORDER |= {PUSHED: 770.0, f"Accept + {PUSHED}": 930.0}


def p3(where: dict[float, float], apart: float = 0.0, control: float = 0.0) -> Runs:
    """Bandits and, where α = 1 may need some β, control."""
    poles = betas({**GOOD, 1.0: control}, task="pole", domain="control")
    return {"bandit_beta": betas(where) + pairs(apart), "control_beta": poles}


CASES: list[tuple[str, Runs, str, str]] = [
    ("P1", bandits(dpo=1.0), "holds", "ahead in 4, behind in 0 and neither in 0 of 4"),
    ("P1", bandits(dpo=9.0), "holds in part", "ahead in 0, behind in 4"),
    ("P1", bandits(dpo=5.0), "holds", "neither in 4"),
    ("P2", control(mpo=500.0), "holds", "MPO on pole: ahead"),
    ("P2", control(mpo=900.0), "holds in part", "MPO on pole: behind"),
    ("P2", control(mpo=500.0, negative=-5.0), "holds in part", "negative -5"),
    ("P2", control(mpo=500.0, negative=-5.0, others=-5.0), "does not hold", "positive -5"),
    ("P3", p3(GOOD), "holds", "overlap at 3 of 3"),
    ("P3", p3(GOOD, apart=9.0), "holds in part", "overlap at 2 of 3"),
    ("P3", p3(GOOD, control=0.5), "holds in part", "stable on sphere-10d, but not on pole; 4 of 4"),
    ("P3", p3(WRONG), "holds in part", "5 of 6 thresholds"),
    ("P4", offline(ORDER), "holds", f"{PUSHED} is ahead of Accept"),
    (
        "P4",
        offline({**ORDER, PUSHED: 100.0}),
        "holds in part",
        "Reject + BC is ahead of Accept + BC",
    ),
    ("P4", offline(dict.fromkeys(ORDER, 200.0)), "does not hold", "told apart from"),
    ("P4", offline(dict.fromkeys(ORDER, 200.0)), "does not hold", "theory §14"),
    ("P5", letters(0.3, 0.3, dpo=0.2), "holds", "ahead in 2, behind in 0"),
    ("P5", letters(0.1, 0.1, dpo=0.2), "holds in part", "it is ahead of DPO"),
    ("P5", letters(0.0, 0.0, dpo=0.9), "does not hold", "it is behind DPO"),
    ("P6", {"lm_beta": betas(GOOD, domain="lm")}, "holds", "3 of 3 thresholds"),
    ("P6", {"lm_beta": betas(WRONG, domain="lm")}, "holds in part", "2 of 3 thresholds"),
    ("labels", shares(best=0.5), "answered", "10 %: α = 0.5 (9"),
]


@pytest.mark.parametrize(("claim", "runs", "word", "told"), CASES)
def test_claims_are_judged_as_their_runs_fell(claim: str, runs: Runs, word: str, told: str) -> None:
    found = judge(claim, runs)
    assert found.word == word, found.sentence
    assert told in f"{found.sentence} {found.details}"


@pytest.mark.parametrize("claim", JUDGES)
def test_what_was_not_run_is_not_judged(claim: str) -> None:
    (named,) = load_claims([claim])
    assert judge(claim, {name: [] for name in named.sweeps}) == OPEN
    missing, *there = named.sweeps
    some = {name: [run("sphere-10d", "mixed", 0, 0.0, 1.0)] for name in there}
    assert judge(claim, {missing: [], **some}) == OPEN


def test_records_are_stored_and_read_to_the_digits_that_are_kept(tmp_path: Path) -> None:
    record = dataclasses.replace(
        run("sphere-10d", "mixed", 3, 1 / 3, alpha=0.5, beta=1.0, point={"labels.keep": 0.1}),
        evaluations=[
            {"step": 0, "eval/score": 1 / 3},
            {"step": 5, "eval/score": 2.0, "eval/kl": 1e-9},
        ],
    )
    store(tmp_path / "a.jsonl", [record])
    (found,) = stored(tmp_path / "a.jsonl")
    assert found.evaluations[0] == {"step": 0, "eval/score": 0.333333}
    assert found.evaluations[1] == {"step": 5, "eval/score": 2.0, "eval/kl": 1e-9}
    assert dataclasses.replace(found, evaluations=record.evaluations) == record
    with (tmp_path / "a.jsonl").open("a") as file:
        file.write('{"name": "cut o')
    with pytest.raises(ConfigError, match=r"a\.jsonl: line 2 is damaged"):
        stored(tmp_path / "a.jsonl")


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


def all_claims(where: Path) -> None:
    """Records of every claim, in a results folder."""
    for _, runs, *_ in CASES:
        for sweep, records in runs.items():
            if records and not (where / f"{sweep}.jsonl").exists():
                store(where / f"{sweep}.jsonl", records)
    assert {name for name, *_ in CASES} == set(DRAWINGS) == set(JUDGES)


def test_page_figures_and_readme_are_made_from_records_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = tmp_path / "results/claims"
    where.mkdir(parents=True)
    all_claims(where)
    readme = tmp_path / "README.md"
    mark = "<!-- claims: `make claims-report` writes this -->"
    readme.write_text(f"before\n{mark}\nOutdated.\n<!-- /claims -->\nafter\n")
    monkeypatch.setattr(page, "README", readme)
    page.write_page(tmp_path / "results", "full")
    assert "Outdated" in readme.read_text(), "it tells the project's own results alone"
    monkeypatch.setattr(page, "RESULTS", tmp_path / "results")
    text = page.write_page(tmp_path / "results", "full").read_text()
    for name in JUDGES:
        assert (where / f"figures/{name}.png").read_bytes()[:4] == b"\x89PNG"
        assert f"| [{name}](#{name.lower()})" in text
    section = readme.read_text()
    assert section.startswith("before\n")
    assert section.endswith("<!-- /claims -->\nafter\n")
    assert "Outdated" not in section
    assert "| P1 | On bandits every kind of feedback optimises" in section
    # Made again, it is the same.
    page.write_page(tmp_path / "results", "full")
    assert readme.read_text() == section


def test_a_readme_without_marks_and_results_without_records_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match="no records there; `suite claims` makes them"):
        page.write_page(tmp_path, "full")
    (tmp_path / "claims").mkdir()
    all_claims(tmp_path / "claims")
    write_text(tmp_path / "README.md", "nothing")
    monkeypatch.setattr(page, "README", tmp_path / "README.md")
    monkeypatch.setattr(page, "RESULTS", tmp_path)
    with pytest.raises(ConfigError, match="lacks the marks of the claims' section"):
        page.write_page(tmp_path, "full")


def test_the_committed_page_is_what_the_committed_records_say(tmp_path: Path) -> None:
    committed = ROOT / "results/claims"
    for path in committed.glob("*.jsonl"):
        records = stored(path)
        assert records, path
        assert all(line_of(r)["evaluations"] for r in records)
        assert not [r.name for r in records if not r.commit or r.commit.endswith("+changes")]
    text = (committed / "README.md").read_text()
    for claim in load_claims():
        paths = {name: committed / f"{name}.jsonl" for name in claim.sweeps}
        runs = {name: stored(path) if path.exists() else [] for name, path in paths.items()}
        assert judge(claim.name, runs).sentence in text


@pytest.mark.slow
def test_a_claim_runs_is_judged_and_is_not_run_again(
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
    records = stored(path)
    assert len(records) == 4
    metrics = tmp_path.glob("labels_bandit_small/runs/*/metrics.jsonl")
    made = {each: each.stat().st_mtime_ns for each in metrics}
    assert len(made) == 4
    assert main(command) == 0
    assert made == {each: each.stat().st_mtime_ns for each in made}
    assert stored(path) == records
    assert "**too small to judge**" in (tmp_path / "claims_small/README.md").read_text()


def test_records_of_an_earlier_time_stay_until_all_runs_are_over(tmp_path: Path) -> None:
    (claim,) = load_claims(["labels"])
    sweep = sweeps_of(claim, "small", [f"results_dir={tmp_path}"])["labels_bandit"]
    first, *others = map(RunFolder.of, sweep.points.values())
    for run, config in zip((first, *others), sweep.points.values(), strict=True):
        run.create(config)
    first.begin()
    first.finish("finished", None)
    assert not keep(sweep, "labels_bandit", tmp_path)
    assert not (tmp_path / "labels_bandit.jsonl").exists()
    for run in others:
        run.begin()
        run.finish("failed", "it broke")
    assert keep(sweep, "labels_bandit", tmp_path)
    assert len(stored(tmp_path / "labels_bandit.jsonl")) == len(sweep.points)
    (tmp_path / f"labels_bandit_small/runs/{first.path.name}/summary.json").unlink()
    first.finish("failed", "it broke too")
    with pytest.raises(ConfigError, match="holds 1 finished runs, and only 0 of 18 finished now"):
        keep(sweep, "labels_bandit", tmp_path)


def test_unknown_claims_and_sizes_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["claims", "P9"]) == 2
    assert "claims are P1, P2, P3, P4, P5, P6, labels; found P9" in capsys.readouterr().err
    assert main(["claims", "--size", "huge"]) == 2
    assert "--size must be one of small, full, large; found huge" in capsys.readouterr().err
    assert main(["claims", "P1", "trainer.steps=5"]) == 2
    assert "claims take results_dir=DIR and logging.KEY=VALUE" in capsys.readouterr().err


def test_a_variant_whose_runs_all_failed_leaves_a_page(tmp_path: Path) -> None:
    for _, runs, *_ in CASES:
        for sweep, records in runs.items():
            lost = records[-1].variant
            failed = [
                dataclasses.replace(r, state="failed") if r.variant == lost else r for r in records
            ]
            if not (tmp_path / f"claims/{sweep}.jsonl").exists():
                (tmp_path / "claims").mkdir(exist_ok=True)
                store(tmp_path / f"claims/{sweep}.jsonl", failed)
    text = page.write_page(tmp_path, "full").read_text()
    assert "runs failed, and count as unstable" in text
