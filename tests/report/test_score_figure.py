"""Final scores of many variants are a figure; few are not."""

import numpy as np
import pytest

from suite.report.comparison import Cell
from suite.report.score_figure import MANY, has_many, score_figure, score_table
from suite.report.statistics import Estimate
from suite.sweeps.spec import ReportSettings


def made(variants: int, tasks: int = 2) -> list[Cell]:
    scores = np.random.default_rng(0).permutation(variants)
    return [
        Cell(
            task=f"task {t}", variant=f"variant {v}", runs=5, planned=5,
            mean=Estimate(float(score), score - 0.5, score + 0.25),
            interquartile_mean=Estimate(float(score), score - 0.5, score + 0.5),
            start=Estimate(-1.0, -1.0, -1.0), gain=Estimate(1.0, 0.5, 1.5),
        )
        for t in range(tasks) for v, score in enumerate(scores)
    ]  # fmt: skip


def test_the_figure_is_for_many_variants_only() -> None:
    assert has_many(made(MANY))
    assert not has_many(made(MANY - 1, tasks=3))


@pytest.mark.parametrize("tasks", [1, 2])
def test_each_task_has_its_variants_in_order_with_intervals_and_start(tasks: int) -> None:
    cells = made(MANY, tasks)
    figure = score_figure(cells, ReportSettings(score="reward"))
    assert len(figure.axes) == tasks
    for ax, task in zip(figure.axes, ("task 0", "task 1"), strict=False):
        assert ax.get_title() == task
        named = {cell.variant: cell.mean for cell in cells if cell.task == task}
        order = [label.get_text() for label in ax.get_yticklabels()]
        assert [named[name].value for name in order] == list(range(MANY))
        bars = [segment for bar in ax.containers for segment in bar[2][0].get_segments()]
        for y, (name, segment) in enumerate(zip(order, bars, strict=True)):
            expected = [[named[name].low, y], [named[name].high, y]]
            np.testing.assert_allclose(segment, expected)
        assert any(np.allclose(line.get_xdata(), -1.0) for line in ax.lines)


def test_the_table_holds_what_is_drawn() -> None:
    rows = score_table(made(MANY, 1)).rows
    assert rows[0][:3] == ("task 0", "variant 0", 5)
    assert len(rows) == MANY
