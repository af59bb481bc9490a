"""Our own question: which kind of feedback pays where few samples have labels?"""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from suite.paper.drawing import ALPHA_COLOURS, error_bars, report_settings
from suite.paper.judging import OPEN, Verdict, compare, format_estimate
from suite.paper.records import SweepRecords
from suite.report import statistics
from suite.report.comparison import tasks
from suite.report.figures import grid_of, interval, legend, scale_scores
from suite.report.records import RunRecord
from suite.sweeps.spec import ReportSettings

FEEDBACK = {0.0: " (negative only)", 0.5: " (mixed)", 1.0: " (positive only)"}


def judge(records: SweepRecords) -> Verdict:
    """Name the best α at each share of labels, in each domain."""
    known = with_scores(records)
    if not known:
        return OPEN
    sentences = [f"{tasks(runs)[0]}: {best_alphas(runs)}" for runs in known.values()]
    return Verdict(
        "answered", "Best α by mean score, at each share of labels. " + "; ".join(sentences) + "."
    )


def with_scores(records: SweepRecords) -> SweepRecords:
    """Return the sweeps of which any run counts."""
    return {sweep: runs for sweep, runs in records.items() if any(r.counts for r in runs)}


def best_alphas(records: Sequence[RunRecord]) -> str:
    """Name the best α at each share of labels, and those that are not clearly worse."""
    parts = []
    for share in shares_of(records):
        scores = {alpha: final_scores(records, share, alpha) for alpha in alphas_of(records)}
        scores = {alpha: values for alpha, values in scores.items() if values}
        if not scores:
            continue
        best = max(scores, key=lambda alpha: float(np.mean(scores[alpha])))
        others = [a for a in scores if a != best and compare(scores[best], scores[a]) != "ahead"]
        also = f", not clearly above {', '.join(f'{a:g}' for a in others)}" if others else ""
        mean = format_estimate(statistics.mean(scores[best]))
        parts.append(f"{100 * share:g} %: α = {best:g} ({mean}{also})")
    return "; ".join(parts)


def shares_of(records: Sequence[RunRecord]) -> list[float]:
    """Return the shares of labels that are kept, in rising order."""
    return sorted({record.point["labels.keep"] for record in records})


def alphas_of(records: Sequence[RunRecord]) -> list[float]:
    """Return the values of α, in rising order."""
    return sorted({record.alpha for record in records if record.alpha is not None})


def final_scores(records: Sequence[RunRecord], share: float, alpha: float) -> list[float]:
    """Return the final scores at a share of labels and an α."""
    return [
        float(r.score)
        for r in records
        if (r.point["labels.keep"], r.alpha) == (share, alpha) and r.counts and r.score is not None
    ]


def draw(records: SweepRecords) -> Figure:
    """Draw the score over the share of labels, one line per α and one panel per domain."""
    present = with_scores(records)
    figure, axes = grid_of(len(present))
    for ax, (sweep, runs) in zip(axes, present.items(), strict=True):
        draw_panel(ax, runs, report_settings(sweep))
    legend(axes)
    return figure


def draw_panel(ax: Axes, records: Sequence[RunRecord], report: ReportSettings) -> None:
    """Draw the score over the share of labels in one domain."""
    shares = shares_of(records)
    for i, alpha in enumerate(alphas_of(records)):
        samples = [np.array(final_scores(records, share, alpha), float) for share in shares]
        known = [j for j, values in enumerate(samples) if len(values)]
        estimates = [interval(report)(samples[j]) for j in known]
        x = np.array([shares[j] for j in known]) * 1.05 ** (i - 2)
        label = f"α = {alpha:g}{FEEDBACK.get(alpha, '')}"
        error_bars(ax, x, estimates, ALPHA_COLOURS[alpha], label)
    start = statistics.mean(np.array([r.start_score for r in records], float)).value
    ax.axhline(start, color="0.5", ls="--", lw=1, label="start")
    ax.set_xscale("log")
    ax.set_xticks(shares, [f"{100 * share:g} %" for share in shares])
    ax.minorticks_off()
    scale_scores(ax, report)
    if report.log_scale:
        ax.set_yscale("symlog", linthresh=1e-6)  # differences near the optimum matter here
        ax.set_ylim(top=max(0.0, ax.dataLim.y1))
    ax.set(title=tasks(records)[0], xlabel="labels that are kept", ylabel=report.score)
