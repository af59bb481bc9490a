"""Records of runs that were never made: each function decides which way a claim falls."""

from typing import Any

import numpy as np

from suite.paper.records import SweepRecords
from suite.report.records import RunRecord

NUMBERS = np.random.default_rng(0)


def run(task: str, variant: str, seed: int, *scores: float, **more: Any) -> RunRecord:
    """A finished run with a score every ten steps."""
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


def bandits(dpo: float) -> SweepRecords:
    """Records of three modes at 5, and of DPO at another score."""
    records = [
        run(f"sphere-{d}d", v, seed, 0.0, seed + (dpo if v.startswith("dpo") else 5.0))
        for d in (2, 10)
        for v in ("positive", "negative", "mixed", "dpo, pairs=all", "dpo, pairs=best_worst")
        for seed in range(4)
    ]
    return {"bandit_dimensions": records}


def control(mpo: float, negative: float = 700.0, others: float = 700.0) -> SweepRecords:
    ends = {"positive": others, "negative": negative, "mixed": others, "mpo": mpo, "dpo": 600.0}
    modes = [run("pole", v, s, 1.0, ends[v]) for v in list(ends)[:3] for s in range(3)]
    rivals = [run("pole", v, s, 1.0, ends[v]) for v in list(ends)[2:] for s in range(3)]
    return {"control": modes, "control_baselines": rivals}


def betas(works_from: dict[float, float], task: str = "sphere-10d", **more: Any) -> list[RunRecord]:
    """Records that collapse below an α's β; the predictions are 1.66, 0.66 and 0."""
    predicted = {0.0: 1.66, 0.5: 0.66, 1.0: 0.0}
    return [
        run(task, "mixed", s, -50.0, -1.0 if b >= works_from[a] else -90.0, alpha=a, beta=b,
            gaussian_beta=predicted[a], grids=["beta"], **more)
        for a in predicted for b in (0.0, 0.5, 1.0, 1.5, 2.0) for s in range(2)
    ]  # fmt: skip


def pairs(apart: float) -> list[RunRecord]:
    """Records of three pairs; the curve of the last may lie apart."""
    return [
        run("sphere-10d", "mixed", s, -50.0, -5.0 - s, end - s, alpha=a, beta=b, grids=[grid])
        for grid, a, b, end in (
            ("same_1", 1.0, 0.0, -1.0),
            ("same_2", 0.5, 1.0, -1.0),
            ("same_3", 0.0, 2.0, apart - 1.0),
        )
        for s in (5, 6, 7, 8)
    ]  # fmt: skip


def offline(ends: dict[str, float]) -> SweepRecords:
    points: dict[str, dict[str, Any]] = {
        "BC": {"point": {"labels.keep": 0}},
        "Accept + BC": {"feedback": "positive", "beta": 1.0},
        "Accept": {"feedback": "positive", "beta": 0.0},
        "Reject + BC": {"feedback": "negative", "point": {"objective.margin": 1}},
        "Accept + Reject + BC": {"feedback": "mixed", "point": {"objective.margin": 1}},
    }
    for name in ("Reject + BC", "Accept + Reject + BC"):
        points[f"{name}, 0.8·(1−α)/Z0"] = points[name] | {"point": {"objective.margin": 0.8}}
    records = [
        run(task, "mixed", s, 0.0, ends[name] + 5 * s, **more)
        for task in ("pole", "arm") for name, more in points.items() for s in range(5)
    ]  # fmt: skip
    return {"offline": records}


def letters(quick: float, lost: float, dpo: float, steps: int = 20) -> SweepRecords:
    """Records in which mixed feedback at a margin of ½ is quicker and loses more by so much."""

    def made(variant: str, early: float, lost: float, end: float, **more: Any) -> list[RunRecord]:
        records = []
        for seed in range(5):
            exact = [0.5, 0.6, *[end + lost] * (steps - 2), end]
            record = run("letters", variant, seed, *exact, **more)
            for i, row in enumerate(record.evaluations):
                # Variants without a difference are equal, seed by seed.
                row |= {"eval/score": exact[i] + (seed * i) / 1e4}
                row |= {"eval/judge_score": 0.5 + (early if i else 0) + i / 50 + seed / 1000}
                row |= {"eval/logp_accepted": -float(i)}
            records.append(record)
        return records

    def at(margin: float) -> dict[str, Any]:
        return {"point": {"objective.margin": margin}, "feedback": "mixed"}

    return {
        "letters": made("mixed", 0.1, 0.1, 0.7) + made("dpo", 0.1, 0.1, dpo),
        "below_bound": made("positive", 0.1, 0.1, 0.7)
        + made("mixed, margin=0.5", 0.1 + quick, 0.1 + lost, 0.7, **at(0.5))
        + made("mixed, margin=1.0", 0.1, 0.1, 0.7, **at(1.0)),
    }


def shares(best: float) -> SweepRecords:
    records = [
        run("sphere-10d", "mixed", s, 0, 9 if a == best else 5, alpha=a, point={"labels.keep": k})
        for k in (0.1, 1) for a in (0.0, 0.5, 1.0) for s in range(4)
    ]  # fmt: skip
    return {"labels_bandit": records, "labels_rows": records, "labels_control": records}


GOOD = {0.0: 1.5, 0.5: 0.5, 1.0: 0.0}
WRONG = {0.0: 0.0, 0.5: 0.5, 1.0: 0.0}
BOTH, PUSHED = "Accept + Reject + BC", "Reject + BC, 0.8·(1−α)/Z0"
ORDER = {"BC": 240.0, "Accept + BC": 260.0, "Accept": 300.0, "Reject + BC": 300.0, BOTH: 300.0}
ORDER |= {PUSHED: 770.0, f"Accept + {PUSHED}": 930.0}


def betas_and_pairs(
    works_from: dict[float, float], apart: float = 0.0, control: float = 0.0
) -> SweepRecords:
    """Bandits and, where α = 1 may need some β, control."""
    poles = betas({**GOOD, 1.0: control}, task="pole", domain="control")
    return {"bandit_beta": betas(works_from) + pairs(apart), "control_beta": poles}


HOLDING: dict[str, SweepRecords] = {
    "P1": bandits(dpo=1.0),
    "P2": control(mpo=500.0),
    "P3": betas_and_pairs(GOOD),
    "P4": offline(ORDER),
    "P5": letters(0.2, 0.2, dpo=0.2),
    "P6": {"lm_beta": betas(GOOD, domain="lm")},
    "labels": shares(best=0.5),
}
"""Records of each claim's sweeps by which it holds."""
