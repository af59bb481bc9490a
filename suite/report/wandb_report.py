"""A sweep's report on Weights & Biases: uploads figures and tables, and builds a page of blocks.

Imported only for `suite report --wandb`: the client takes seconds to load.
"""

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import wandb
import wandb_workspaces.reports.v2 as wr
from rich.progress import track

from suite.config.fields import ConfigError
from suite.report.comparison import Cell, cells, collect, compared
from suite.report.records import RunRecord
from suite.report.wandb_blocks import blocks
from suite.sweeps.choices import with_choices
from suite.sweeps.spec import Sweep
from suite.system.files import read_json, write_json

FILES = ("report.md", "report.html", "scores.csv")
UPLOAD_SECONDS, LOGIN_SECONDS = 600, 60.0
LOGIN = (
    "Weights & Biases knows no login here: run `wandb login` once, or set WANDB_API_KEY to a key of"
    " https://wandb.ai/authorize"
)


def parse_destination(text: str) -> tuple[str, str]:
    """Return entity and project; raises ConfigError unless it is ENTITY/PROJECT."""
    entity, slash, project = text.partition("/")
    if not (entity and slash and project) or "/" in project:
        raise ConfigError(f"--wandb must be ENTITY/PROJECT, such as me/pmpo-suite; found {text!r}")
    return entity, project


def check_login() -> None:
    """Raise ConfigError, which says how to log in, where there is no login."""
    os.environ.setdefault("WANDB_SILENT", "true")
    try:
        logged_in = wandb.login(prompt=False, verify=False)
    except Exception:  # the client raises many kinds where it reads the key
        logged_in = False
    if not logged_in:
        raise ConfigError(LOGIN)


def publish(sweep: Sweep, entity: str, project: str) -> str:
    """Upload a sweep's report files and build its page; return the page's address.

    `write_report` must have written the files. Raises ConfigError for what the service refuses.
    """
    check_login()
    sweep = with_choices(sweep)
    records = collect(sweep)
    shown = compared(sweep, records)
    figures = sorted((sweep.folder / "figures").glob("*.png"))
    with service_errors("upload figures and tables"):
        upload(sweep, entity, project, figures, shown)
    report = wr.Report(
        entity=entity,
        project=project,
        title=(sweep.report.title or sweep.name)[:128],
        description=sweep.report.question,
        blocks=blocks(sweep, entity, project, figures, shown),
    )
    saved = sweep.folder / "wandb_report.json"
    ids: dict[str, str] = read_json(saved) or {}
    where = f"{entity}/{project}"
    report.id = ids.get(where, "")  # a known id overwrites the page
    with service_errors("save the report"):
        report.save()
    write_json(saved, ids | {where: report.id})
    return str(report.url)


@contextmanager
def service_errors(action: str) -> Iterator[None]:
    """Turn errors of the service into a ConfigError of one sentence that names the action."""
    try:
        yield
    except Exception as error:  # the client raises many kinds
        raise ConfigError(f"Weights & Biases: could not {action}: {first_line(error)}") from None


def first_line(error: Exception) -> str:
    """Return the first line of an error's message."""
    return (str(error) or type(error).__name__).strip().splitlines()[0]


def upload(
    sweep: Sweep, entity: str, project: str, figures: Sequence[Path], records: Sequence[RunRecord]
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
        shown["final scores"] = scores_table(cells(records))
        films = [r.folder.path / "video.mp4" for r in records if r.counts and r.folder and r.video]
        shown |= {f"episode {i}": wandb.Video(str(path)) for i, path in enumerate(films)}
        run.log(shown)
    finally:
        run.finish()


def scores_table(summaries: Sequence[Cell]) -> wandb.Table:
    """Return the final scores as a W&B table."""
    columns = ["task", "variant", "runs", "planned", "mean", "low", "high", "gain"]
    rows = [[c.task, c.variant, c.runs, c.planned, *c.mean, c.gain.value] for c in summaries]
    return wandb.Table(columns=columns, data=rows)


def upload_offline_runs(sweep: Sweep, entity: str, project: str) -> int:
    """Upload the runs that were logged offline; return how many folders were uploaded.

    Raises ConfigError without a login, and for a folder that the service refuses.
    """
    check_login()
    offline = sorted(sweep.folder.glob("runs/*/wandb/offline-run-*"))
    waiting = [path for path in offline if not any(path.glob("*.synced"))]
    command = [sys.executable, "-m", "wandb", "sync", "--entity", entity, "--project", project]
    for path in track(waiting, "uploading offline runs", transient=True):
        done = subprocess.run(
            # All attempts at a run have one id: each adds its rows to those sent before.
            [*command, str(path)],
            capture_output=True,
            text=True,
            env={**os.environ, "WANDB_RESUME": "allow"},
        )
        if done.returncode or not any(path.glob("*.synced")):
            output = (done.stdout + done.stderr).strip().splitlines() or ["nothing was said"]
            raise ConfigError(f"{path} was not uploaded: {output[-1]}; the same command goes on")
    return len(waiting)
