"""A sweep's report on Weights & Biases: figures and tables uploaded, the page built by blocks.

Imported only where that is asked for.
"""

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import wandb
import wandb_workspaces.reports.v2 as wr
from rich.progress import track
from wandb_workspaces import expr

from suite.config.fields import ConfigError
from suite.report.comparison import Cell, cells, collect, compared
from suite.report.page import first_of_each, show
from suite.report.records import RunRecord
from suite.sweeps.spec import Sweep
from suite.system.files import read_json, write_json

FILES = ("report.md", "report.html", "scores.csv")
UPLOAD_SECONDS, LOGIN_SECONDS = 600, 60.0
ABOUT = {
    "learning_curves": "Learning curves; bands are 95 % intervals over seeds",
    "profiles": "Share of runs above each normalised score",
    "beta_map": "Final score over β, with the predicted threshold",
    "judges": "The judge's score and the exact one over the KL",
    "diagnostics": "What else moved",
}
LOGIN = (
    "Weights & Biases knows no login here: run `wandb login` once, or set WANDB_API_KEY to a key of"
    " https://wandb.ai/authorize"
)


def destination(text: str) -> tuple[str, str]:
    """Return entity and project; raises ConfigError unless it is ENTITY/PROJECT."""
    entity, slash, project = text.partition("/")
    if not (entity and slash and project) or "/" in project:
        raise ConfigError(f"--wandb must be ENTITY/PROJECT, such as me/pmpo-suite; found {text!r}")
    return entity, project


def check_login() -> None:
    """Raise ConfigError, which says how to log in, where nobody is."""
    os.environ.setdefault("WANDB_SILENT", "true")
    try:
        known = wandb.login(prompt=False, verify=False)
    except Exception:  # of whatever reads the key
        known = False
    if not known:
        raise ConfigError(LOGIN)


def share(sweep: Sweep, entity: str, project: str) -> str:
    """Upload a sweep's report, which is there already, and return the address of its page."""
    check_login()
    records = collect(sweep)
    finished = [r for r in compared(sweep, records) if r.state == "finished"]
    figures = sorted((sweep.folder / "figures").glob("*.png"))
    told("upload figures and tables", lambda: upload(sweep, entity, project, figures, finished))
    report = wr.Report(
        entity=entity,
        project=project,
        title=(sweep.report.title or sweep.name)[:128],
        description=sweep.report.question,
        blocks=blocks(sweep, entity, project, figures, finished),
    )
    saved = sweep.folder / "wandb_report.json"
    ids: dict[str, str] = read_json(saved) or {}
    where = f"{entity}/{project}"
    report.id = ids.get(where, "")  # written again, it is the same page
    told("save the report", report.save)
    write_json(saved, ids | {where: report.id})
    return str(report.url)


def told(what: str, act: Callable[[], Any]) -> Any:
    """Do something at the service; what goes wrong there becomes one sentence."""
    try:
        return act()
    except Exception as error:  # of the client library, which raises many kinds
        raise ConfigError(f"Weights & Biases: could not {what}: {first_line(error)}") from None


def first_line(error: Exception) -> str:
    """Return the first line of what an error says."""
    return (str(error) or type(error).__name__).strip().splitlines()[0]


def upload(
    sweep: Sweep, entity: str, project: str, figures: Sequence[Path], finished: Sequence[RunRecord]
) -> None:
    """Log figures, tables and files as a run of its own and as an artifact."""
    run = wandb.init(
        entity=entity,
        project=project,
        id=f"report-{sweep.name}",
        name=f"report of {sweep.name}",
        group=f"report of {sweep.name}",  # not the sweep's own, whose runs are drawn
        job_type="report",
        resume="allow",
        dir=sweep.folder,
        settings=wandb.Settings(
            console="off",
            silent=True,
            init_timeout=LOGIN_SECONDS,
            x_disable_stats=True,
            x_disable_meta=True,
        ),
    )
    try:
        artifact = wandb.Artifact(f"{sweep.name}-report", type="report")
        for name in FILES:
            artifact.add_file(str(sweep.folder / name))
        artifact.add_dir(str(sweep.folder / "figures"), name="figures")
        run.log_artifact(artifact).wait(UPLOAD_SECONDS)
        shown: dict[str, Any] = {path.stem: wandb.Image(str(path)) for path in figures}
        shown["final scores"] = scores_table(cells(finished))
        films = [r.folder.path / "video.mp4" for r in finished if r.folder and r.video]
        shown |= {f"episode {i}": wandb.Video(str(path)) for i, path in enumerate(films)}
        run.log(shown)
    finally:
        run.finish()


def scores_table(found: Sequence[Cell]) -> wandb.Table:
    """Return the final scores as the service's kind of table."""
    columns = ["task", "variant", "runs", "mean", "low", "high", "gain"]
    rows = [[c.task, c.variant, c.runs, *c.mean, c.gain.value] for c in found]
    return wandb.Table(columns=columns, data=rows)


def blocks(
    sweep: Sweep, entity: str, project: str, figures: Sequence[Path], finished: Sequence[RunRecord]
) -> list[Any]:
    """Return the page: question, set-up, curves, tables, figures, completions, links to runs."""
    report = sweep.report
    runs = wr.Runset(
        entity=entity,
        project=project,
        name=sweep.name,
        filters=[expr.Metric("Group") == sweep.name],
        groupby=["config.objective.name", "config.feedback"],
    )
    x = "step" if report.x_axis == "step" else f"eval/{report.x_axis}"
    curves = wr.LinePlot(
        title=report.score, x=x, y=["eval/score"], groupby_aggfunc="mean",
        groupby_rangefunc="stderr", title_x=report.x_axis.replace("_", " "), title_y=report.score,
    )  # fmt: skip
    over_kl = wr.ScatterPlot(title="score over the KL", x="eval/kl", y="eval/score")
    of_report = wr.Runset(
        entity=entity,
        project=project,
        name="figures",
        filters=[expr.Metric("Group") == f"report of {sweep.name}"],
    )
    made: list[Any] = [
        wr.H1("Question"),
        wr.P(report.question or sweep.name),
        wr.H1("Set-up"),
        wr.MarkdownBlock(setup(sweep, finished)),
        wr.H1("Learning curves by kind of feedback"),
        wr.P("Means with standard errors over runs; 95 % intervals are in the figures below."),
        wr.PanelGrid(runsets=[runs], panels=[curves, over_kl]),
        wr.H1("Final scores"),
        wr.MarkdownBlock(scores_markdown(sweep, cells(finished))),
    ]
    if figures:
        panels = [
            wr.MediaBrowser(
                title=ABOUT.get(path.stem, path.stem), media_keys=[path.stem], num_columns=1
            )
            for path in figures
        ]
        made += [wr.H1("Figures"), wr.PanelGrid(runsets=[of_report], panels=panels)]
    films = [r for r in finished if r.video]
    if films:
        keys = [f"episode {i}" for i in range(len(films))]
        panel = wr.MediaBrowser(title="Episodes", media_keys=keys)
        made += [wr.H1("Episodes"), wr.PanelGrid(runsets=[of_report], panels=[panel])]
    for record in first_of_each([r for r in finished if r.examples]):
        made += [wr.H2(f"What {record.variant} said"), wr.MarkdownBlock(examples(record))]
    return [*made, wr.H1("Runs"), wr.MarkdownBlock(links(entity, project, finished))]


def setup(sweep: Sweep, finished: Sequence[RunRecord]) -> str:
    """Say which runs these are and how to repeat them."""
    tasks = ", ".join(dict.fromkeys(r.task for r in finished)) or "none"
    seeds = len({r.seed for r in finished})
    commits = ", ".join(sorted({r.commit for r in finished if r.commit})) or "unknown"
    return (
        f"{len(finished)} finished runs of {len(sweep.points)}, {seeds} seeds; tasks: {tasks};"
        f" commit {commits}.\n\n```\nsuite sweep {sweep.name}\n```"
    )


def scores_markdown(sweep: Sweep, found: Sequence[Cell]) -> str:
    """Return the table of final scores."""
    lines = [
        f"| {c.task} | {c.variant} | {c.runs} | {show(c.mean, sweep.report)} |"
        f" {show(c.gain, sweep.report)} |"
        for c in found
    ]
    head = "| task | variant | runs | mean | gain over the start |\n|---|---|---:|---:|---:|"
    return "\n".join([head, *lines])


def examples(record: RunRecord) -> str:
    """Return what a policy said, as a table."""
    names = list(record.examples[0])
    cell = [
        [str(row[n]).replace("|", "\\|").replace("\n", " ") for n in names]
        for row in record.examples
    ]
    lines = [names, ["---"] * len(names), *cell]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def links(entity: str, project: str, finished: Sequence[RunRecord]) -> str:
    """Return a link to each run, whose id is its signature."""
    base = f"{wandb.Api().settings['base_url'].replace('//api.', '//')}/{entity}/{project}/runs"
    lines = [f"- [{r.name}]({base}/{r.name.rpartition('-')[2]})" for r in finished]
    return "\n".join(lines) or "None has finished."


def sync(sweep: Sweep, entity: str, project: str) -> int:
    """Upload what runs wrote offline; return how many directories. Raises ConfigError."""
    check_login()
    found = sorted(sweep.folder.glob("runs/*/wandb/offline-run-*"))
    waiting = [path for path in found if not any(path.glob("*.synced"))]
    command = [sys.executable, "-m", "wandb", "sync", "--entity", entity, "--project", project]
    for path in track(waiting, "uploading offline runs", transient=True):
        done = subprocess.run(
            # Several attempts at a run have one id: each adds to what the one before it sent.
            [*command, str(path)],
            capture_output=True,
            text=True,
            env={**os.environ, "WANDB_RESUME": "allow"},
        )
        if done.returncode or not any(path.glob("*.synced")):
            said = (done.stdout + done.stderr).strip().splitlines() or ["nothing was said"]
            raise ConfigError(f"{path} was not uploaded: {said[-1]}; the same command goes on")
    return len(waiting)
