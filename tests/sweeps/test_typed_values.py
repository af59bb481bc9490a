"""The values of a sweep file reach its runs as they are written."""

import json
import random
from pathlib import Path
from typing import Any

import pytest

from suite.config.fields import ConfigError
from suite.runs.folder import RunFolder
from suite.sweeps.spec import Sweep, load_sweep
from tests.conftest import ROOT

GRIDS = {"a": {"seed": [0]}}
# What YAML would read as another value where it stands without quotes.
STRINGS = [
    *("007", "1e3", "1_000", "0x1f", "010", "1:30", "+1", ".5", "-0", "1.", ".inf", ".nan"),
    *("null", "~", "Null", "true", "yes", "No", "on", "off", "", " ", "2026-01-01", "1e999"),
    *("my #1 project", "a: b", "a:", "[a]", "[a, b]", "{a: 1}", "{", "]", "- a", "? a", "!a", "&a"),
    *("*a", "%a", "@a", "`a`", "|", ">", "'a'", '"a"', "it's", '"', "'", "\\", "\\n", "a\\tb"),
    *(" leading", "trailing ", "two  spaces", "=", "a=b", "a=b=c", "--a", "#", "a,b", "$", "$x"),
    *("ä€ 雪 🙂", "\u00a0x", "a\tb", "e\u0301", "<<", "null # none"),
]  # fmt: skip


def sweep_of(folder: Path, content: dict[str, Any], *overrides: str) -> Sweep:
    path = folder / "mine.yaml"
    content = {"config": str(ROOT / "configs/bandit/sphere.yaml"), **content}
    path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")  # quotes every text
    return load_sweep(path, list(overrides))


def generated(count: int) -> list[str]:
    """Return random strings of the characters that mean something to YAML."""
    seed = random.randrange(10**6)
    print("seed of the strings:", seed)
    chooser = random.Random(seed)
    characters = "ab01.e-+_:#[]{},&*!|>'\"%@` ~=\\?<nulltruefalseé雪"
    return ["".join(chooser.choices(characters, k=chooser.randint(0, 9))) for _ in range(count)]


def test_a_text_of_a_sweep_file_is_the_text_of_its_runs(tmp_path: Path) -> None:
    texts, wrong = [*STRINGS, *generated(15)], []
    for first, second in zip(texts[::2], texts[1::2], strict=False):  # two at once are faster
        fixed = {"logging.project": first, "logging.entity": second, "results_dir": str(tmp_path)}
        (config,) = sweep_of(tmp_path, {"set": fixed, "grids": GRIDS}).points.values()
        run = RunFolder.of(config)
        run.create(config)  # what a worker reads
        for logging in (config.logging, run.config().logging):
            if (logging.project, logging.entity) != (first, second):
                wrong.append((first, second, logging))
    assert wrong == []


def test_a_text_on_an_axis_is_the_text_of_its_run(tmp_path: Path) -> None:
    for text in [*random.sample(STRINGS, 12), *generated(8)]:
        axes = {"logging.project": [text], "logging.entity": [text]}
        (config,) = sweep_of(tmp_path, {"grids": {"a": axes}}).points.values()
        assert (config.logging.project, config.logging.entity) == (text, text)


@pytest.mark.parametrize(
    ("value", "read"), [(7, "7"), (0.5, "0.5"), (None, None), (True, "True"), ("null", "null")]
)
def test_values_without_quotes_keep_their_type(
    value: object, read: str | None, tmp_path: Path
) -> None:
    content = {"set": {"logging.entity": value}, "grids": GRIDS}
    (config,) = sweep_of(tmp_path, content).points.values()
    assert config.logging.entity == read


def test_a_nested_mapping_and_a_dotted_key_say_the_same(tmp_path: Path) -> None:
    for fixed in ({"optimizer": {"lr": 0.5}}, {"optimizer.lr": 0.5}):
        (config,) = sweep_of(tmp_path, {"set": fixed, "grids": GRIDS}).points.values()
        assert config.optimizer.lr == 0.5


@pytest.mark.parametrize("text", ["${x}", "a ${seed} b", "${oc.env:HOME}"])
def test_an_interpolation_is_never_kept_in_silence(text: str, tmp_path: Path) -> None:
    content = {"set": {"logging.project": text}, "grids": GRIDS}
    try:
        (config,) = sweep_of(tmp_path, content).points.values()
    except ConfigError:
        return
    assert "${" not in config.logging.project


def test_an_override_of_the_command_line_follows_the_file(tmp_path: Path) -> None:
    content = {"set": {"logging.project": "007"}, "grids": GRIDS}
    (config,) = sweep_of(tmp_path, content, "logging.project=mine").points.values()
    assert config.logging.project == "mine"
