"""Claim P6: in language negative and mixed feedback need β high enough."""

from matplotlib.figure import Figure

from suite.paper.drawing import report_settings
from suite.paper.judging import OPEN, Verdict, count_thresholds, format_estimate
from suite.paper.records import SweepRecords
from suite.report import figures, statistics
from suite.report.beta_map import beta_curves

SWEEP = "lm_beta"


def judge(records: SweepRecords) -> Verdict:
    """Judge by the thresholds of β."""
    curves = beta_curves(records[SWEEP])
    if not curves:
        return OPEN
    agreeing, known, text = count_thresholds(curves)
    without_beta = [
        f"α = {row.alpha:g} ends at {format_estimate(statistics.mean(row.points[0].scores), 100)} %"
        for row in curves
        if row.alpha < 1 and row.points[0].beta == 0
    ]
    sentence = (
        f"{agreeing} of {known} thresholds lie within one grid step of (1−α)/Z0. Without β:"
        f" {', '.join(without_beta)}."
    )
    return Verdict("holds" if agreeing == known else "holds in part", sentence, f"{text}.")


def draw(records: SweepRecords) -> Figure:
    """Draw the map of β."""
    return figures.beta_map(beta_curves(records[SWEEP]), report_settings(SWEEP))
