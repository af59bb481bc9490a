"""What the runs say about each claim: a word and a sentence, made from intervals.

A comparison is decided where its 95 % interval leaves no doubt, else neither is better.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from suite.report import statistics
from suite.report.beta_map import BetaCurve, beta_curves
from suite.report.comparison import curve, select, tasks, variants
from suite.report.records import RunRecord
from suite.report.statistics import Estimate

MODES = ("positive", "negative", "mixed")
SAME = ((1.0, 0.0), (0.5, 1.0), (0.0, 2.0))  # (α, β) of equal expected gradient (theory §4)
METHODS = (
    "BC", "Accept + BC", "Accept", "Reject + BC", "Accept + Reject + BC",
    "CRR binary", "CRR exp", "AWR",
)  # fmt: skip

FEW = 10  # runs
AGAINST = {"ahead": "ahead of", "behind": "behind", "even": "not told apart from"}

PUSHED = ", 0.8·(1−α)/Z0"  # rows whose rejected samples have weight
# What the paper's table 1 puts first, and what it puts after it.
ORDER = (
    ("Accept", "Accept + BC"),
    ("Reject + BC", "Accept + BC"),
    ("Reject + BC", "Accept"),
    ("Accept + Reject + BC", "Accept + BC"),
    (f"Reject + BC{PUSHED}", "Accept"),
    (f"Accept + Reject + BC{PUSHED}", "Accept"),
)

Runs = dict[str, list[RunRecord]]


class Verdict(NamedTuple):
    """Whether a claim holds here, and what was measured."""

    word: str
    sentence: str
    details: str = ""


OPEN = Verdict("not measured", "Not run yet.")


def scores(records: Sequence[RunRecord], task: str, variant: str) -> list[float]:
    """Return the final scores of a task and variant."""
    return [float(r.score) for r in select(records, task, variant) if r.score is not None]


def improved(records: Sequence[RunRecord]) -> bool:
    """Tell whether runs end above their start beyond doubt."""
    found = [
        r.score - r.start_score
        for r in records
        if r.score is not None and r.start_score is not None
    ]
    return statistics.above_zero(found)


def compare(first: Sequence[float], second: Sequence[float]) -> str:
    """Tell whether the first is ahead, behind, or neither.

    P(first > second) must leave ½ out, and with few runs, whose bootstrap is too narrow, Welch's
    interval of the difference of means also 0.
    """
    found = statistics.probability_of_improvement(np.array(first), np.array(second))
    word = decided(found)
    if min(len(first), len(second)) < FEW:
        difference = statistics.difference(first, second)
        agrees = {"ahead": difference.low > 0, "behind": difference.high < 0}
        return word if agrees.get(word) else "even"
    return word


def counted(outcomes: Sequence[str]) -> str:
    """Say how often it was ahead, behind and neither."""
    ahead, behind = outcomes.count("ahead"), outcomes.count("behind")
    return f"ahead in {ahead}, behind in {behind} and neither in {outcomes.count('even')}"


def p1(runs: Runs) -> Verdict:
    """Bandits: every mode optimises; mixed against DPO."""
    records = runs["bandit_dimensions"]
    if not records:
        return OPEN
    gained = {(t, m): improved(select(records, t, m)) for t in tasks(records) for m in MODES}
    rivals = [v for v in variants(records) if v.startswith("dpo")]
    outcomes = [
        compare(scores(records, task, "mixed"), scores(records, task, rival))
        for task in tasks(records)
        for rival in rivals
        if scores(records, task, rival)
    ]
    sentence = (
        f"{sum(gained.values())} of {len(gained)} combinations of function, dimension and kind of"
        f" feedback end above their start. Against DPO mixed feedback is {counted(outcomes)} of"
        f" {len(outcomes)} comparisons."
    )
    not_above = ", ".join(f"{mode} on {task}" for (task, mode), up in gained.items() if not up)
    details = f"Not clearly above their start: {not_above}." if not_above else ""
    if not any(gained.values()):
        return Verdict("does not hold", sentence, details)
    partly = not_above or "behind" in outcomes
    return Verdict("holds in part" if partly else "holds", sentence, details)


def p2(runs: Runs) -> Verdict:
    """Control: every mode learns; mixed against MPO and DPO."""
    modes, rivals = runs["control"], runs["control_baselines"]
    if not modes or not rivals:
        return OPEN
    task = tasks(modes)[0]
    means = {mode: statistics.mean(scores(modes, task, mode)) for mode in MODES}
    told = ", ".join(f"{mode} {format_estimate(mean)}" for mode, mean in means.items())
    outcomes = {
        (t, rival): compare(scores(rivals, t, "mixed"), scores(rivals, t, rival))
        for t in tasks(rivals)
        for rival in ("mpo", "dpo")
        if scores(rivals, t, rival)
    }
    against = "; ".join(f"{rival.upper()} on {t}: {o}" for (t, rival), o in outcomes.items())
    sentence = f"{task}: {told}. Mixed feedback against {against}."
    learned = [improved(select(modes, task, mode)) for mode in MODES]
    if not any(learned):
        return Verdict("does not hold", sentence)
    if not all(learned) or "behind" in outcomes.values():
        return Verdict("holds in part", sentence)
    return Verdict("holds", sentence)


def format_estimate(found: Estimate, factor: float = 1.0) -> str:
    """Write an estimate with its interval."""
    value, low, high = (factor * part for part in found)
    text = f"{value:.3g}"
    return text if np.isnan(low) else f"{text} [{low:.3g}, {high:.3g}]"


def told_threshold(row: BetaCurve) -> str:
    """Say where a threshold was measured and predicted."""
    measured = "nowhere" if row.measured is None else f"from {row.measured:g} on"
    expected = "?" if row.predicted is None else f"{row.predicted:.3g}"
    return f"α = {row.alpha:g} {measured} (predicted {expected})"


def thresholds(curves: Sequence[BetaCurve]) -> tuple[int, int, str]:
    """Return how many thresholds agree, of how many, and a sentence about them."""
    known = [row for row in curves if row.predicted is not None]
    agree = sum(row.agrees is True for row in known)
    told = {
        task: [told_threshold(r) for r in known if r.task == task]
        for task in {r.task: 0 for r in known}
    }
    text = "; ".join(f"{task}: stable {', '.join(rows)}" for task, rows in told.items())
    return agree, len(known), text


def p3(runs: Runs) -> Verdict:
    """Thresholds of β on bandits and in control, and pairs of equal gradient."""
    bandit = [r for r in runs["bandit_beta"] if not same_pair(r)]
    curves = beta_curves(bandit) + beta_curves(runs["control_beta"])
    if not curves:
        return OPEN
    agree, known, text = thresholds(curves)
    free = [row for row in curves if row.alpha == 1]
    needed = [row for row in curves if row.alpha in (0, 0.5)]
    free_of, lost = (
        [r.task for r in free if r.measured == 0],
        [r for r in needed if r.measured != 0],
    )
    together, steps = equivalence(runs["bandit_beta"])
    sentence = (
        f"{agree} of {known} thresholds lie within one grid step of the closed form. Without β,"
        f" α = 1 is stable on {' and '.join(free_of) or 'no task'}"
        + "".join(f", but not on {r.task}" for r in free if r.measured != 0)
        + f"; {len(lost)} of {len(needed)} with α = ½ and α = 0 are not."
    )
    if steps:
        sentence += (
            " The intervals of (α, β) = (1, 0), (½, 1) and (0, 2), the same in expectation, overlap"
            f" at {together} of {steps} evaluations."
        )
    parts = (agree == known, len(free_of) == len(free), len(lost) == len(needed), together == steps)
    word = "holds" if all(parts) else "holds in part" if any(parts[:3]) else "does not hold"
    return Verdict(word, sentence, f"{text}.")


def same_pair(record: RunRecord) -> bool:
    """Tell whether a run belongs to the pairs that are compared as curves: by its seed."""
    return record.seed >= 5 and (record.alpha, record.beta) in SAME


def equivalence(records: Sequence[RunRecord]) -> tuple[int, int]:
    """Return at how many evaluations the intervals of all three pairs overlap, and of how many."""
    found = [curve_of(records, pair)[1] for pair in SAME]
    if not all(len(values) > 1 for values in found):
        return 0, 0
    together, steps = 0, found[0].shape[1]
    for i in range(steps):
        each = [statistics.interquartile_mean(values[:, i]) for values in found]
        together += max(e.low for e in each) <= min(e.high for e in each)
    return together, steps


def curve_of(
    records: Sequence[RunRecord], pair: tuple[float, float]
) -> tuple[np.ndarray, np.ndarray]:
    """Return the steps and the scores of the runs of a pair, [T] and [N, T]."""
    chosen = [r for r in records if same_pair(r) and (r.alpha, r.beta) == pair]
    return curve([r for r in chosen if r.state == "finished"], "eval/score")


def p6(runs: Runs) -> Verdict:
    """Thresholds of β in language."""
    curves = beta_curves(runs["lm_beta"])
    if not curves:
        return OPEN
    agree, known, text = thresholds(curves)
    lost = [
        f"α = {row.alpha:g} ends at {format_estimate(statistics.mean(row.points[0].scores), 100)} %"
        for row in curves
        if row.alpha < 1 and row.points[0].beta == 0
    ]
    sentence = (
        f"{agree} of {known} thresholds lie within one grid step of (1−α)/Z0. Without β:"
        f" {', '.join(lost)}."
    )
    return Verdict("holds" if agree == known else "holds in part", sentence, f"{text}.")


def method_of(record: RunRecord) -> str:
    """Return the row of the paper's table 1, or the baseline, that an offline run is."""
    point = record.point
    if record.objective == "weighted":
        if point.get("domain.advantage") == "returns":
            return "AWR"
        return f"CRR {point.get('objective.weight')}"
    if point.get("labels.keep") == 0:
        return "BC"
    if record.feedback == "positive":
        return "Accept + BC" if record.beta else "Accept"
    rows = {"negative": "Reject + BC", "mixed": "Accept + Reject + BC"}
    margin = point.get("objective.margin")
    told = "" if margin in (None, 1) else f", {margin:g}·(1−α)/Z0"
    return rows[record.feedback] + told


def by_method(records: Sequence[RunRecord]) -> dict[str, dict[str, list[float]]]:
    """Return the normalised final scores of each method, by task."""
    found: dict[str, dict[str, list[float]]] = {}
    for r in records:
        if r.state == "finished" and r.score is not None:
            found.setdefault(method_of(r), {}).setdefault(r.task, []).append(r.score / 1000)
    return {name: found[name] for name in sorted(found, key=place)}


def place(method: str) -> tuple[int, str]:
    """Return where a method stands in the table, variants of it side by side."""
    return METHODS.index(method.partition(",")[0]), method


def over_tasks(methods: dict[str, dict[str, list[float]]], name: str) -> Estimate:
    """Return a method's interquartile mean over all tasks and seeds, in per cent."""
    found = statistics.interquartile_mean_of_tasks([np.array(v) for v in methods[name].values()])
    return Estimate(*(100 * part for part in found))


def better_than(methods: dict[str, dict[str, list[float]]], first: str, second: str) -> Estimate:
    """Return the probability that a run of one method beats one of another, over tasks."""
    shared = [t for t in methods[first] if t in methods[second]]
    if not shared:
        return Estimate(float("nan"), float("nan"), float("nan"))
    return statistics.improvement_over_tasks(
        [np.array(methods[first][t]) for t in shared],
        [np.array(methods[second][t]) for t in shared],
    )


def p4(runs: Runs) -> Verdict:
    """Offline: the order of the paper's rows."""
    methods = by_method(runs["offline"])
    if not {"BC", "Accept + BC"} <= set(methods):
        return OPEN
    told = "; ".join(f"{m} {format_estimate(over_tasks(methods, m))}" for m in methods)
    pairs = [
        (one, other, better_than(methods, one, other))
        for one, other in ORDER
        if one in methods and other in methods
    ]
    words = {(one, other): decided(found) for one, other, found in pairs}
    told_words = "; ".join(f"{a} is {AGAINST[word]} {b}" for (a, b), word in words.items())
    sentence = (
        "Normalised return, interquartile mean over tasks and seeds, in per cent:"
        f" {told}. {told_words}. At β = (1−α)/Z0, in the rows without a factor, Accept, Reject + BC"
        " and Accept + Reject + BC are one loss up to a factor (theory §14): there rejected samples"
        " do as much as cloning allows, and no more."
    )
    details = "Probability of improvement: " + "; ".join(
        f"{one} over {other} {format_estimate(found)}" for one, other, found in pairs
    )
    pushed = [
        words.get((f"{m}{PUSHED}", "Accept")) for m in ("Reject + BC", "Accept + Reject + BC")
    ]
    if pushed == ["ahead", "ahead"]:
        return Verdict("holds", sentence, f"{details}.")
    partly = words.get(("Reject + BC", "Accept + BC")) == "ahead"
    return Verdict("holds in part" if partly else "does not hold", sentence, f"{details}.")


def decided(probability: Estimate) -> str:
    """Tell whether a probability of improvement leaves ½ out."""
    return "ahead" if probability.low > 0.5 else "behind" if probability.high < 0.5 else "even"


def p5(runs: Runs) -> Verdict:
    """Language with a learned reward model: who learns fastest, who over-optimises first."""
    records = runs["letters"]
    if not records:
        return OPEN
    task = tasks(records)[0]
    finished = [name for name in variants(records) if select(records, task, name)]
    paths = {name: summarise_paths(records, task, name) for name in finished}
    if "mixed" not in paths:
        return OPEN
    mixed, others = paths["mixed"], [paths[m] for m in ("positive", "negative") if m in paths]
    faster = [compare(mixed.quick, other.quick) for other in others]
    sooner = [compare(mixed.lost, other.lost) for other in others]
    rival = compare(mixed.exact, paths["dpo"].exact) if "dpo" in paths else "even"
    told = "; ".join(
        f"{name}: judge {format_estimate(statistics.mean(path.judge))},"
        f" exact {format_estimate(statistics.mean(path.exact))}"
        f" after a best at step {path.peak}, log π {format_estimate(statistics.mean(path.moved))}"
        for name, path in paths.items()
    )
    sentence = (
        "In the judge's score over the first fifth of the run, mixed feedback is"
        f" {counted(faster)} of 2 comparisons with accepted and rejected samples alone; in what it"
        f" loses of the exact score after its best, {counted(sooner)} of 2. In the final exact"
        f" score it is {AGAINST[rival]} DPO (untuned)."
    )
    if {*faster, *sooner} == {"even"}:
        sentence += (
            " With half of the samples accepted, the three are the same in expectation (§4)."
        )
    details = f"In the end, with the change of log π of samples accepted at first: {told}."
    parts = (faster == ["ahead"] * 2, sooner == ["ahead"] * 2, rival != "behind")
    if all(parts):
        return Verdict("holds", sentence, details)
    return Verdict("holds in part" if any(parts) else "does not hold", sentence, details)


class JudgeOutcome(NamedTuple):
    """How the runs of a variant fared with a judge that may be wrong, [N] each."""

    quick: list[float]  # mean of the judge's score in the first fifth of the run, less its start
    lost: list[float]  # best exact score less the last
    judge: list[float]  # its last score
    exact: list[float]  # the last exact score
    moved: list[float]  # change of log π of what was accepted of the first reference's samples
    peak: int  # the step where the mean exact score was best


def summarise_paths(records: Sequence[RunRecord], task: str, variant: str) -> JudgeOutcome:
    """Describe the runs of a variant."""
    chosen = select(records, task, variant)
    steps, exact = curve(chosen, "eval/score")
    _, judge = curve(chosen, "eval/judge_score")
    _, accepted = curve(chosen, "eval/logp_accepted")
    early = max(2, len(steps) // 5)
    return JudgeOutcome(
        quick=(judge[:, 1:early].mean(1) - judge[:, 0]).tolist(),
        lost=(exact.max(1) - exact[:, -1]).tolist(),
        judge=judge[:, -1].tolist(),
        exact=exact[:, -1].tolist(),
        moved=(accepted[:, -1] - accepted[:, 0]).tolist(),
        peak=int(steps[exact.mean(0).argmax()]),
    )


def labels(runs: Runs) -> Verdict:
    """Few labels: which α is best at each share, in each domain."""
    if not any(runs.values()):
        return OPEN
    sentences = [
        f"{tasks(records)[0]}: {best_alphas(records)}" for records in runs.values() if records
    ]
    return Verdict(
        "answered", "Best α by mean score, at each share of labels. " + "; ".join(sentences) + "."
    )


def best_alphas(records: Sequence[RunRecord]) -> str:
    """Name the best α at each share of labels, and those that are not clearly worse."""
    told = []
    for share in sorted({r.point["labels.keep"] for r in records}):
        found = {
            alpha: [
                float(r.score)
                for r in records
                if (r.point["labels.keep"], r.alpha) == (share, alpha) and r.score is not None
            ]
            for alpha in sorted({r.alpha for r in records if r.alpha is not None})
        }
        found = {alpha: scores for alpha, scores in found.items() if scores}
        if not found:
            continue
        best = max(found, key=lambda alpha: float(np.mean(found[alpha])))
        others = [a for a in found if a != best and compare(found[best], found[a]) != "ahead"]
        also = f", not clearly above {', '.join(f'{a:g}' for a in others)}" if others else ""
        mean = format_estimate(statistics.mean(found[best]))
        told.append(f"{100 * share:g} %: α = {best:g} ({mean}{also})")
    return "; ".join(told)


JUDGES: dict[str, Callable[[Runs], Verdict]] = {
    "P1": p1, "P2": p2, "P3": p3, "P4": p4, "P5": p5, "P6": p6, "labels": labels,
}  # fmt: skip


def judge(claim: str, runs: Runs) -> Verdict:
    """Judge a claim once all of its sweeps were run."""
    return JUDGES[claim](runs) if all(runs.values()) else OPEN
