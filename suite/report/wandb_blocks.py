"""The blocks of a sweep's page on Weights & Biases."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import wandb
import wandb_workspaces.reports.v2 as wr
from wandb_workspaces import expr

from suite.report.comparison import Cell, cells
from suite.report.page import first_of_each
from suite.report.records import RunRecord
from suite.report.sentences import count_runs, format_score
from suite.sweeps.spec import Sweep

TITLES = {
    "learning_curves": "Learning curves; bands are 95 % intervals over seeds",
    "scores": "Final scores with 95 % intervals, best first",
    "profiles": "Share of runs above each normalised score",
    "beta_map": "Final score over β, with the predicted threshold",
    "judges": "The judge's score and the exact one over the KL",
    "diagnostics": "What else moved",
}


def blocks(
    sweep: Sweep, entity: str, project: str, figures: Sequence[Path], records: Sequence[RunRecord]
) -> list[Any]:
    """Return the page: question, set-up, curves, tables, figures, completions, links to runs."""
    finished = [record for record in records if record.counts]
    page: list[Any] = [
        wr.H1("Question"),
        wr.P(sweep.report.question or sweep.name),
        wr.H1("Set-up"),
        wr.MarkdownBlock(setup(sweep, finished)),
        wr.H1("Learning curves by kind of feedback"),
        wr.P("Means with standard errors over runs; 95 % intervals are in the figures below."),
        curves(sweep, entity, project),
        wr.H1("Final scores"),
        wr.MarkdownBlock(scores_markdown(sweep, cells(records))),
        *media(sweep, entity, project, figures, finished),
    ]
    for record in first_of_each([r for r in finished if r.examples]):
        page += [wr.H2(f"What {record.variant} said"), wr.MarkdownBlock(examples(record))]
    return [*page, wr.H1("Runs"), wr.MarkdownBlock(links(entity, project, finished))]


def curves(sweep: Sweep, entity: str, project: str) -> wr.PanelGrid:
    """Return panels that the service draws from the sweep's own runs."""
    report = sweep.report
    filters = [expr.Metric("Group") == sweep.name]
    if tuning := sorted({config.seed for config in sweep.tuning_points.values()}):
        filters.append(expr.Config("seed").notin(tuning))  # no reported run has one of these
    runs = wr.Runset(
        entity=entity,
        project=project,
        name=sweep.name,
        filters=filters,
        groupby=["config.objective.name", "config.feedback"],
    )
    x = "step" if report.x_axis == "step" else f"eval/{report.x_axis}"
    over_steps = wr.LinePlot(
        title=report.score, x=x, y=["eval/score"], groupby_aggfunc="mean",
        groupby_rangefunc="stderr", title_x=report.x_axis.replace("_", " "), title_y=report.score,
    )  # fmt: skip
    over_kl = wr.ScatterPlot(title="score over the KL", x="eval/kl", y="eval/score")
    return wr.PanelGrid(runsets=[runs], panels=[over_steps, over_kl])


def media(
    sweep: Sweep, entity: str, project: str, figures: Sequence[Path], finished: Sequence[RunRecord]
) -> list[Any]:
    """Return the figures and videos that `upload` logged in the report's own run."""
    runs = wr.Runset(
        entity=entity,
        project=project,
        name="figures",
        filters=[expr.Metric("Group") == f"report of {sweep.name}"],
    )
    sections: list[Any] = []
    if figures:
        panels = [
            wr.MediaBrowser(
                title=TITLES.get(path.stem, path.stem), media_keys=[path.stem], num_columns=1
            )
            for path in figures
        ]
        sections += [wr.H1("Figures"), wr.PanelGrid(runsets=[runs], panels=panels)]
    films = [r for r in finished if r.video]
    if films:
        keys = [f"episode {i}" for i in range(len(films))]
        panel = wr.MediaBrowser(title="Episodes", media_keys=keys)
        sections += [wr.H1("Episodes"), wr.PanelGrid(runsets=[runs], panels=[panel])]
    return sections


def setup(sweep: Sweep, finished: Sequence[RunRecord]) -> str:
    """Describe the runs and the command that repeats them."""
    tasks = ", ".join(dict.fromkeys(r.task for r in finished)) or "none"
    seeds = len({r.seed for r in finished})
    commits = ", ".join(sorted({r.commit for r in finished if r.commit})) or "unknown"
    return (
        f"{len(finished)} finished runs of {len(sweep.points)}, {seeds} seeds; tasks: {tasks};"
        f" commit {commits}.\n\n```\nsuite sweep {sweep.name}\n```"
    )


def scores_markdown(sweep: Sweep, summaries: Sequence[Cell]) -> str:
    """Return the final scores as a Markdown table."""
    lines = [
        f"| {c.task} | {c.variant} | {count_runs(c.runs, c.planned)} |"
        f" {format_score(c.mean, sweep.report)} | {format_score(c.gain, sweep.report)} |"
        for c in summaries
    ]
    head = "| task | variant | runs | mean | gain over the start |\n|---|---|---:|---:|---:|"
    return "\n".join([head, *lines])


def examples(record: RunRecord) -> str:
    """Return a policy's outputs as a Markdown table."""
    names = list(record.examples[0])
    rows = [
        [str(row[n]).replace("|", "\\|").replace("\n", " ") for n in names]
        for row in record.examples
    ]
    lines = [names, ["---"] * len(names), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def links(entity: str, project: str, finished: Sequence[RunRecord]) -> str:
    """Return a link to each run, whose id is its signature."""
    base = f"{wandb.Api().settings['base_url'].replace('//api.', '//')}/{entity}/{project}/runs"
    lines = [f"- [{r.name}]({base}/{r.name.rpartition('-')[2]})" for r in finished]
    return "\n".join(lines) or "None has finished."
