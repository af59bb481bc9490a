"""What the figures of the claims share."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from suite.config.examples import sweep_path
from suite.report.figures import without_markup
from suite.report.statistics import Estimate
from suite.sweeps.spec import ReportSettings, read_sweep_file
from suite.system.files import replaced_file

ALPHA_COLOURS = {
    0.0: "#D55E00", 0.25: "#E69F00", 0.5: "#009E73", 0.75: "#56B4E9", 1.0: "#0072B2",
}  # fmt: skip


def report_settings(sweep: str) -> ReportSettings:
    """Return how a sweep's scores are shown."""
    return read_sweep_file(sweep_path(sweep)).report


def error_bars(
    ax: Axes,
    x: NDArray[np.float64],
    estimates: Sequence[Estimate],
    colour: str,
    label: str,
    line: str = "o-",
) -> None:
    """Draw estimates at x, [N], with their intervals; nothing where N is 0."""
    if not estimates:
        return
    value, low, high = (np.array(column, float) for column in zip(*estimates, strict=True))
    # NaN where there are too few runs for an interval.
    error = np.nan_to_num([value - low, high - value])
    ax.errorbar(x, value, yerr=error.clip(0), fmt=line, color=colour, capsize=3, label=label, ms=4)


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as PNG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    without_markup(figure)
    with replaced_file(path) as temporary:
        figure.savefig(temporary, format="png", dpi=130)
