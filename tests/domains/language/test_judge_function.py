"""Judges that are functions: which are called, from where, and what their exit means."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from suite.cli import main
from suite.config.fields import ConfigError
from suite.domains.language.judge_function import NAMED, allow_named, import_judge
from suite.runs.folder import RunFolder
from tests.conftest import ROOT
from tests.docs.standins import write_model

JUDGES = """\
import sys
from pathlib import Path

def helpful(prompts, completions):
    return [-float(len(text)) for text in completions]

def wipe(folders, texts):
    Path("wiped").touch()
    return [-float(len(text)) for text in texts]

def leave(prompts, completions):
    sys.exit(0)
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def work(tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty working folder with the judges of a user, who starts `suite` in it."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/judges.py").write_text(JUDGES)
    rows = (json.dumps({"prompt": f"is {n} ok?"}) + "\n" for n in range(96))
    (tmp_path / "prompts.jsonl").write_text("".join(rows))
    (tmp_path / "model").symlink_to(model)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    monkeypatch.setenv(NAMED, "")
    yield tmp_path
    for name in ("mine", "mine.judges"):
        sys.modules.pop(name, None)


def judged(work: Path, judge: str) -> str:
    """Write a configuration with a judge; return the file's name."""
    (work / "judged.yaml").write_text(
        f"domain: {{name: lm, task: prompts, prompts_path: prompts.jsonl, judge: '{judge}',"
        " max_new_tokens: 3, model: {path: model}, prompts: 2, share_prompts: 4, eval_prompts: 2,"
        " labels: {by: mean}}\n"
        "trainer: {steps: 2, eval_every: 2, checkpoint_every: 1, log_every: 1}\n"
    )
    return "judged.yaml"


@pytest.mark.parametrize(
    "name",
    [
        *("os:system", "shutil:rmtree", "subprocess:run", "subprocess:Popen", "builtins:exec"),
        *("builtins:print", "pathlib:Path.write_text", "torch:load", "mine.judges:wipe"),
    ],
)
def test_a_function_that_is_no_judge_is_refused_and_not_called(
    name: str, work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", judged(work, name)]) == 2
    said = capsys.readouterr().err
    assert f"domain.judge={name} is not declared a judge" in said
    assert f"domain.judge={name} on the command line" in said
    assert not (work / "results").exists()
    assert not (work / "wiped").exists()


def test_a_judge_that_a_person_names_on_the_command_line_is_called(work: Path) -> None:
    config = judged(work, "exact")
    assert main(["train", config, "domain.judge=mine.judges:wipe"]) == 0
    (run,) = (work / "results/judged/runs").iterdir()
    assert main(["evaluate", str(run)]) == 2, "nobody named it"
    assert main(["evaluate", str(run), "domain.judge=mine.judges:helpful"]) == 2, "it is another"
    (work / "wiped").unlink()
    assert main(["evaluate", str(run), "domain.judge=mine.judges:wipe"]) == 0
    assert (work / "wiped").exists()
    assert main(["train", judged(work, "mine.judges:wipe"), "seed=1"]) == 2, "not any longer"


def test_the_judge_of_a_command_line_allows_no_other(work: Path) -> None:
    sys.path.append(str(work))
    allow_named(["seed=1", "domain.judge=mine.judges:wipe"])
    assert import_judge("mine.judges:wipe")(["a"], ["b"]) == [-1.0]
    with pytest.raises(ConfigError, match="is not declared a judge"):
        import_judge("os:system")


@pytest.mark.slow
def test_judges_in_the_current_folder_serve_the_command_and_its_workers(work: Path) -> None:
    """-P keeps the current folder out of Python's path, as for an installed command."""
    judged(work, "mine.judges:helpful")
    code = "import sys; from suite.cli import main; sys.exit(main())"
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    (work / "one.yaml").write_text("config: judged.yaml\ngrids: {a: {seed: [0]}}\n")
    arguments = ["sweep", "one.yaml", "domain.judge=mine.judges:wipe", "--parallel=1"]
    done = subprocess.run(
        [sys.executable, "-P", "-c", code, *arguments], cwd=work, env=environment,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr + done.stdout
    assert (work / "wiped").exists(), "the workers know what the command line named"


def test_a_judge_in_the_current_folder_trains(work: Path) -> None:
    assert main(["train", judged(work, "mine.judges:helpful")]) == 0
    (path,) = (work / "results/judged/runs").iterdir()
    assert RunFolder(path).state() == "finished"


def test_a_judge_that_exits_fails_the_run(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", judged(work, "mine.judges:leave")]) == 1
    (path,) = (work / "results/judged/runs").iterdir()
    assert RunFolder(path).state() == "failed"
    assert "domain.judge=mine.judges:leave failed" in capsys.readouterr().err
