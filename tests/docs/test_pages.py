"""The pages' commands and code do what the pages say, cut down in size."""

import ast
import itertools
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from suite.cli import main, parse
from suite.config.examples import config_path
from suite.config.loading import load
from suite.sweeps.slurm_profile import load_profile
from tests.conftest import ROOT, SCHEDULE, TINY
from tests.docs import standins
from tests.docs.pages import PAGES, blocks, commands, files, mentioned, name_of

README = ROOT / "README.md"
LANGUAGE = ROOT / "docs/language-models.md"
# Executed on a cluster by tests/slurm; here they are only taken apart.
ON_A_CLUSTER = ROOT / "slurm/README.md"
DRY = ("offline",)  # sweeps of a hundred runs or more, which are only listed
WORDS_FOR = {"NAME": "lm", "SWEEP": "lm", "PROFILE": "h100", "RUN": "results/lm/runs/one"}
SUBCOMMANDS = ("train", "sweep", "claims", "status", "cancel", "report", "evaluate", "verify")


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pages")


@pytest.fixture(scope="module")
def stands_for(results: Path) -> dict[str, str]:
    """Small files in place of those that the commands name."""
    (rows,) = [block.text for block in blocks(LANGUAGE) if block.language == "json"]
    for name, text in files(LANGUAGE).items():
        (results / name).parent.mkdir(parents=True, exist_ok=True)
        (results / name).write_text(text)
    made = {
        "thumbs.jsonl": standins.write_rows(results / "thumbs.jsonl", rows),
        "prompts.jsonl": standins.write_prompts(results / "prompts.jsonl"),
        "my-minari-dataset": standins.write_episodes(results / "episodes"),
        "Qwen/Qwen2.5-0.5B-Instruct": standins.write_model(results / "model"),
    }
    return {name: str(path) for name, path in made.items()}


def tiny_for(words: list[str]) -> list[str]:
    """Small sizes for the domain of the configuration or of the sweep that a command names."""
    for word in words:
        named = re.sub("^(DOMAIN|CONFIG)=", "", word)
        path, sweep = Path(named), ROOT / f"configs/sweeps/{named}.yaml"
        if words[:2] == ["suite", "train"]:
            path = config_path(words[2])
        elif sweep.exists():
            path = sweep.parent / yaml.safe_load(sweep.read_text())["config"]
        if path.suffix == ".yaml":
            domain = yaml.safe_load((ROOT / path).read_text())["domain"]
            has_arms = domain.get("policy") == "categorical"
            return [w for w in TINY[domain["name"]] if not (has_arms and "dimensions" in w)]
    raise AssertionError(f"no configuration in {words}")


def cut_down(command: str, results: Path, stands_for: dict[str, str]) -> list[str]:
    """A command as written, with a results folder of its own, tiny runs and small files."""
    for name, path in stands_for.items():
        command = command.replace(name, path)
    words = shlex.split(command)
    smaller = [*tiny_for(words), *SCHEDULE, "logging.wandb=disabled"]
    if any(word.removeprefix("DOMAIN=") in DRY for word in words):
        smaller.append("--dry-run")
    smaller.append(f"results_dir={results}")
    if "status" in words:
        smaller = smaller[-1:]
    if words[0] == "suite":
        return [*words, *smaller]
    given = next((w.removeprefix("ARGS=") for w in words if w.startswith("ARGS=")), "")
    kept = [w for w in words if not w.startswith("ARGS=")]
    return [*kept, f"ARGS={given} {shlex.join(smaller)}"]


@pytest.mark.slow
@pytest.mark.skipif(not (ROOT / ".venv/.ready").exists(), reason="needs the .venv of `make setup`")
@pytest.mark.parametrize(
    "page", [p for p in PAGES if p != ON_A_CLUSTER and commands(p)], ids=name_of
)
def test_the_commands_of_a_page_run_one_after_another(
    page: Path, results: Path, stands_for: dict[str, str]
) -> None:
    for command, code, output in outcomes(commands(page), results, stands_for):
        assert code == 0, f"{command}\n{output}"
        written = re.findall(r"\bsweep (?:DOMAIN=)?(\w+)$", command)
        for sweep in set(written) - set(DRY):
            assert (results / sweep / "report.html").exists()


def outcomes(
    commands: list[str], results: Path, stands_for: dict[str, str]
) -> Iterator[tuple[str, int, str]]:
    """Each command with its exit code and output; neighbours of the suite share their imports."""
    environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{results}"}
    for is_make, group in itertools.groupby(commands, lambda command: command.startswith("make")):
        chosen = list(group)
        words = [cut_down(command, results, stands_for) for command in chosen]
        if is_make:
            calls = words
        else:
            jobs = json.dumps([[str(ROOT), rest] for _, *rest in words])
            calls = [[sys.executable, str(ROOT / "tests/together.py"), jobs]]
        done = [
            subprocess.run(
                call, capture_output=True, text=True, cwd=ROOT, env=environment, check=False
            )
            for call in calls
        ]
        if is_make:
            for command, each in zip(chosen, done, strict=True):
                yield command, each.returncode, each.stdout + each.stderr
        else:
            assert done[0].returncode == 0, done[0].stderr
            for command, (code, output) in zip(chosen, json.loads(done[0].stdout), strict=True):
                yield command, code, output


def test_the_readme_shows_the_main_command_first() -> None:
    assert commands(README)[0] == "make sweep DOMAIN=lm"
    assert len(README.read_text().splitlines()) <= 130


@pytest.fixture
def in_the_project(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def expanded(command: str) -> list[list[str]]:
    """The words of the suite's commands that a command comes down to."""
    for word, meaning in WORDS_FOR.items():
        command = re.sub(rf"\b{word}\b", meaning, command)
    words = shlex.split(command)
    if words[0] == "suite":
        return [words[1:]]
    done = subprocess.run(
        ["make", "--dry-run", *words[1:]], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert done.returncode == 0, done.stderr
    lines = [shlex.split(line) for line in done.stdout.splitlines() if "/suite " in line]
    return [words[1:] for words in lines if words[0].endswith("bin/suite")]


@pytest.mark.usefixtures("in_the_project")
@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_the_commands_within_a_pages_text_are_understood(page: Path, results: Path) -> None:
    found = set(mentioned(page))
    if page == ON_A_CLUSTER:
        found |= {c for c in commands(page) if c.startswith(("make", "suite"))}
    for command in sorted(found):
        for words in expanded(command):
            if len(words) < 2:
                assert not words or words[0] in SUBCOMMANDS, command
            elif words[0] == "train" and "--help" not in words:
                load(config_path(words[1]), words[2:])
            elif words == ["sweep", "--list"]:
                assert main(words) == 0
            elif words[0] == "sweep":
                # Without the cluster: what is printed of it needs SLURM.
                given = parse(words)
                if given.cluster:
                    load_profile(given.cluster)
                listed = ["sweep", given.sweep, *given.overrides, f"results_dir={results}"]
                assert main([*listed, "--dry-run"]) == 0, command
            else:
                parse(words)


WITH_PYTHON = [p for p in PAGES if any(block.language == "python" for block in blocks(p))]


@pytest.mark.parametrize("page", WITH_PYTHON, ids=name_of)
def test_the_python_of_a_page_runs(page: Path) -> None:
    named = files(page).values()
    for block in blocks(page):
        if block.language == "python":
            assert ast.parse(block.text).body
            if block.text not in named:
                space: dict[str, object] = {}
                exec(block.text, space)
                assert space.keys() > {"__builtins__"}, "the code defines something"


def test_pages_with_python_are_found() -> None:
    assert {README, ROOT / "docs/extending.md"} <= set(WITH_PYTHON)


def test_the_objectives_snippet_gives_the_numbers_of_equation_10() -> None:
    (snippet,) = [block.text for block in blocks(README) if "pmpo(" in block.text]
    space: dict[str, object] = {}
    exec(snippet, space)
    # Rejected: (−4 − 6)/4/.5 = −5, weight 1; β = 1/.5 = 2 times the mean KL .2.
    terms = space["terms"]
    assert terms.rejected.item() == pytest.approx(-5.0)  # type: ignore[attr-defined]
    assert terms.anchor.item() == pytest.approx(0.4)  # type: ignore[attr-defined]
