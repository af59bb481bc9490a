"""A report on Weights & Biases, end to end through its client against a stand-in of the service."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from wandb_workspaces.reports.v2 import internal

from suite.cli import main
from suite.config.fields import ConfigError
from suite.report.wandb_report import parse_destination
from suite.runs.folder import RunFolder
from suite.sweeps.spec import load_sweep
from tests import processes
from tests.conftest import ROOT, SCHEDULE, TINY
from tests.wandb_service import KEY, Service, running

ARGUMENTS = [*TINY["bandit"], *SCHEDULE]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep whose four runs wrote to W&B offline."""
    folder = tmp_path_factory.mktemp("shared")
    path = folder / "mine.yaml"
    path.write_text(
        f"config: {ROOT}/configs/bandit/sphere.yaml\n"
        "grids: {a: {feedback: [positive, mixed], seed: [0, 1]}}\n"
        "report: {title: Mine, question: Which feedback?}\n"
    )
    code, output = processes.suite("sweep", str(path), *arguments(folder))
    assert code == 0, output
    for run in (folder / "results/mine/runs").iterdir():
        RunFolder(run).write_examples(12, [{"prompt": "1|1", "completion": "2", "score": 1.0}])
    return path


def arguments(folder: Path) -> list[str]:
    return [*ARGUMENTS, f"results_dir={folder}/results"]


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with running() as service:
        yield service


def report(made: Path, service: Service | None, *more: str, **env: str) -> tuple[int, str]:
    """Run the command against a service, or without any login."""
    home = str(made.parent / "home")
    environment = {**os.environ, "HOME": home, "NETRC": f"{home}/netrc", "WANDB_DIR": home, **env}
    environment.pop("WANDB_API_KEY", None)
    Path(home).mkdir(exist_ok=True)
    if service is not None:
        environment |= {"WANDB_BASE_URL": service.address, "WANDB_API_KEY": KEY}
    command = ["report", str(made), *arguments(made.parent), *more]
    return processes.suite(*command, env=environment)


@pytest.mark.slow
def test_offline_runs_figures_and_the_page_arrive(made: Path, service: Service) -> None:
    code, output = report(made, service, "--wandb", "us/p", "--wandb-sync")
    assert code == 0, output
    assert "uploaded 4 offline runs" in output
    assert f"on Weights & Biases: {service.address}/us/p/reports/Mine--view0" in output
    assert KEY in service.keys
    assert "RunResumeStatus" in service.operations, "a further attempt adds to what is there"
    sweep = load_sweep(made, arguments(made.parent))
    for config in sweep.points.values():
        run = service.runs[config.signature]
        assert (run["project"], run["entity"], run["groupName"]) == ("p", "us", "mine")
        scores = [
            row["eval/score"] for row in service.history[config.signature] if "eval/score" in row
        ]
        metrics = RunFolder.of(config).metrics()
        assert scores == [row["eval/score"] for row in metrics if "eval/score" in row]
    (artifact,) = [n for n, a in service.artifacts.items() if a["artifactTypeName"] == "report"]
    assert service.artifacts[artifact]["committed"]
    assert service.artifacts[artifact]["artifactCollectionName"] == "mine-report"
    names = ["report.md", "report.html", "scores.csv"]
    names += [f"figures/{p.name}" for p in (sweep.folder / "figures").iterdir()]
    assert len(names) == 9
    for name in names:
        assert service.files[f"{artifact}/{name}"] == (sweep.folder / name).read_bytes()
    (view,) = service.views.values()
    check_page(view, [config.signature for config in sweep.points.values()])
    # Again: nothing is left to upload, and the page is the same one.
    code, output = report(made, service, "--wandb", "us/p", "--wandb-sync")
    assert code == 0, output
    assert "uploaded 0 offline runs" in output
    assert list(service.views) == ["view0"]


def check_page(view: dict[str, Any], signatures: list[str]) -> None:
    """The page is valid for the client's own model of it, and holds what was promised."""
    assert (view["displayName"], view["description"]) == ("Mine", "Which feedback?")
    spec = internal.Spec.model_validate(view["spec"])
    assert not [b for b in spec.blocks if isinstance(b, internal.UnknownBlock)]
    kinds = [block["type"] for block in view["spec"]["blocks"]]
    headings = [b["children"][0]["text"] for b in view["spec"]["blocks"] if b["type"] == "heading"]
    assert headings == [
        "Question", "Set-up", "Learning curves by kind of feedback", "Final scores", "Figures",
        "What positive said", "What mixed said", "Runs",
    ]  # fmt: skip
    assert kinds.count("panel-grid") == 2
    curves, figures = (b["metadata"] for b in view["spec"]["blocks"] if b["type"] == "panel-grid")
    (runs,) = curves["runSets"]
    assert (runs["project"]["name"], runs["project"]["entityName"]) == ("p", "us")
    text = json.dumps(runs)
    assert '"group"' in text
    assert '"mine"' in text
    assert "feedback" in json.dumps(runs["grouping"])
    panels = curves["panelBankSectionConfig"]["panels"]
    assert panels[0]["viewType"] == "Run History Line Plot"
    assert panels[0]["config"]["metrics"] == ["eval/score"]
    assert panels[0]["config"]["groupAgg"] == "mean"
    media = [p["config"]["mediaKeys"] for p in figures["panelBankSectionConfig"]["panels"]]
    assert media == [["diagnostics"], ["learning_curves"]]
    markdown = "\n".join(
        b["content"] for b in view["spec"]["blocks"] if b["type"] == "markdown-block"
    )
    assert "| sphere-3d | positive | 2 |" in markdown
    assert "| 1\\|1 | 2 | 1.0 |" in markdown
    for signature in signatures:
        assert f"/us/p/runs/{signature})" in markdown


@pytest.mark.slow
def test_without_login_and_where_the_service_refuses_one_sentence_says_so(
    made: Path, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, output = report(made, None, "--wandb", "us/p")
    assert code == 2
    assert "suite: Weights & Biases knows no login here: run `wandb login` once" in output
    assert "Traceback" not in output

    def refuse(variables: dict[str, Any]) -> dict[str, Any]:
        raise ValueError("permission denied for us/p")

    monkeypatch.setattr(service, "on_createartifact", refuse, raising=False)
    code, output = report(made, service, "--wandb", "us/p")
    assert code == 2
    assert "could not upload figures and tables:" in output
    assert "permission denied for us/p" in output
    assert "Traceback" not in output


def test_destinations_are_checked_before_anything_else(
    made: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for wrong in ("p", "us/", "/p", "a/b/c"):
        with pytest.raises(ConfigError, match="must be ENTITY/PROJECT"):
            parse_destination(wrong)
    assert main(["report", str(made), *arguments(made.parent), "--wandb-sync"]) == 2
    assert "--wandb-sync needs --wandb ENTITY/PROJECT" in capsys.readouterr().err
