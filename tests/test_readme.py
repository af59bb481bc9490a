"""The README's commands and snippets do what it says, cut down in size."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from suite.domains import base
from tests.conftest import ROOT, SCHEDULE, TINY

README = (ROOT / "README.md").read_text()
OF_SWEEP = {"lm": "lm", "lm_beta": "lm", "bandit": "bandit", "control": "control"}
OF_SWEEP |= {
    "archive": "archive",
    "rows": "rows",
    "control_baselines": "control",
    "control_beta": "control",
}


def blocks(language: str) -> list[str]:
    """The README's code blocks, without the indentation of the list they stand in."""
    found = re.findall(rf"^( *)```{language}\n(.*?)^ *```", README, re.M | re.S)
    return [re.sub(rf"^{indent}", "", text, flags=re.M) for indent, text in found]


COMMANDS = [line for block in blocks("sh") for line in block.splitlines() if line.strip()]


def test_the_readme_shows_the_main_command_first() -> None:
    assert COMMANDS[0] == "make sweep DOMAIN=lm"
    assert len(COMMANDS) > 8


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("readme")


def cut_down(command: str, results: Path) -> list[str]:
    """A command as written, with a results folder of its own and tiny runs."""
    words = shlex.split(command)
    named = [d for word in words for s, d in OF_SWEEP.items() if re.search(rf"\b{s}\b", word)]
    domain = named[0] if named else "lm"
    smaller = [*TINY[domain], *SCHEDULE, "logging.wandb=disabled"]
    smaller.append(f"results_dir={results}")
    if "status" in words:
        where = f"results_dir={results}"
        return [*words, f"ARGS={where}" if words[0] == "make" else where]
    if words[0] == "suite":
        return [*words, *smaller]
    given = next((w.removeprefix("ARGS=") for w in words if w.startswith("ARGS=")), "")
    kept = [w for w in words if not w.startswith("ARGS=")]
    return [*kept, f"ARGS={given} {shlex.join(smaller)}"]


@pytest.mark.slow
@pytest.mark.skipif(not (ROOT / ".venv/.ready").exists(), reason="needs the .venv of `make setup`")
def test_the_commands_run_one_after_another(results: Path) -> None:
    for command in COMMANDS:
        words = cut_down(command, results)
        if words[0] == "suite":
            words = [sys.executable, "-m", *words]
        done = subprocess.run(words, capture_output=True, text=True, cwd=ROOT, check=False)
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    for sweep in ("lm", "bandit", "lm_beta"):
        assert (results / sweep / "report.html").exists()


def test_the_objectives_snippet_runs_and_gives_the_numbers_of_equation_10() -> None:
    (snippet,) = [block for block in blocks("python") if "pmpo(" in block]
    space: dict[str, object] = {}
    exec(snippet, space)
    # Rejected: (−4 − 6)/4/.5 = −5, weight 1; β = 1/.5 = 2 times the mean KL .2.
    terms = space["terms"]
    assert terms.rejected.item() == pytest.approx(-5.0)  # type: ignore[attr-defined]
    assert terms.anchor.item() == pytest.approx(0.4)  # type: ignore[attr-defined]


@pytest.mark.slow
def test_a_domain_is_added_in_five_steps(tmp_path: Path) -> None:
    for name in ("suite", "configs"):
        shutil.copytree(ROOT / name, tmp_path / name)
    named = {}
    for block in blocks("python") + blocks("yaml"):
        if match := re.match(r"# (\S+\.(?:py|yaml))\n", block):
            named[match[1]] = block
    folder = tmp_path / "suite/domains/coin"
    folder.mkdir()
    (folder / "__init__.py").touch()
    (folder / "config.py").write_text(named["suite/domains/coin/config.py"])
    assert base.__doc__ is not None
    (domain,) = re.findall(r"```python\n(.*?)```", base.__doc__, re.S)
    (folder / "domain.py").write_text(domain)
    registry = tmp_path / "suite/config/registry.py"
    line = named["suite/config/registry.py"].splitlines()[1]
    text = registry.read_text().replace(
        "\nDOMAINS", "\nfrom suite.domains.coin.config import CoinConfig\n\nDOMAINS"
    )
    registry.write_text(re.sub(r"(DOMAINS: .* = \{\n)", rf"\1{line}\n", text))
    experiment = tmp_path / "configs/coin/coin.yaml"
    experiment.parent.mkdir()
    experiment.write_text(named["configs/coin/coin.yaml"])
    done = subprocess.run(
        [sys.executable, "-m", "suite", "train", "configs/coin/coin.yaml"],
        capture_output=True, text=True, cwd=tmp_path, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    score = float(done.stdout.rpartition("score ")[2])
    assert score > 0.5, "the coin's mean moved towards what is preferred"

    shutil.copytree(ROOT / "tests", tmp_path / "tests")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    under_contract = tmp_path / "tests/conftest.py"
    text = under_contract.read_text()
    text = text.replace("TINY = {", 'TINY = {"coin": ["domain.contexts=4"], ')
    text = text.replace("BASE = {", 'BASE = {"coin": "configs/coin/coin.yaml", ')
    under_contract.write_text(text)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "tests/domains/test_contract.py", "-k", "coin or contr"],
        capture_output=True, text=True, cwd=tmp_path, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert int(re.findall(r"(\d+) passed", done.stdout)[0]) >= 10


def test_every_link_of_the_readme_leads_somewhere() -> None:
    links = [link for link in re.findall(r"\]\(([^)]+)\)", README) if "://" not in link]
    assert len(links) > 5
    assert [link for link in links if not (ROOT / link).exists()] == []
