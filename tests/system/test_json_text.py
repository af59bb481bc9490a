"""JSON of any numbers: strict parsers read it, and it gives the numbers back."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from suite.runs.folder import RunFolder
from suite.system.files import write_json
from suite.system.json_text import json_text, with_numbers


def refuse(word: str) -> float:
    raise ValueError(f"{word} is not JSON")


def strict(text: str) -> Any:
    return json.loads(text, parse_constant=refuse)


def test_finite_values_have_the_bytes_that_they_always_had() -> None:
    values = {"step": 3, "a": 1e-300, "b": [0.1, -0.0, None, True], "c": "NaN", "é": "\ud800"}
    assert json_text(values) == json.dumps(values)
    assert json_text(values, indent=1) == json.dumps(values, indent=1)


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_numbers_that_are_not_finite_are_written_as_words_at_any_depth(number: float) -> None:
    text = json_text({"a": number, "b": [{"c": (number, 1.0)}], number: "key"})
    row = strict(text)
    assert float(row["a"]) == pytest.approx(number, nan_ok=True)
    assert float(row["b"][0]["c"][0]) == pytest.approx(number, nan_ok=True)
    assert with_numbers(row)["a"] == pytest.approx(number, nan_ok=True)


def test_a_run_that_collapses_writes_json_and_reads_its_numbers_back(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "results/s/runs/r")
    run.path.mkdir(parents=True)
    run.log_metrics(0, {"eval/score": 1.0, "eval/kl": 0.0})
    run.log_metrics(5, {"eval/score": -math.inf, "eval/kl": math.nan, "eval/p": math.inf})
    run.report_progress(step=5, score=math.inf)
    run.write_examples(5, [{"completion": "NaN", "score": math.nan}])
    summary = run.finish("finished", None)
    for line in run.metrics_path.read_text().splitlines():
        strict(line)
    for path in run.path.glob("*.json"):
        strict(path.read_text())
    assert summary["score"] == -math.inf
    assert (run.summary() or {})["score"] == -math.inf
    assert math.isnan((run.summary() or {})["kl"])
    assert run.metrics()[1]["eval/p"] == math.inf
    assert run.progress()["score"] == math.inf
    assert run.examples()[0]["completion"] == "NaN"


def test_files_of_earlier_versions_are_read(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.metrics_path.write_text('{"step": 1, "eval/score": Infinity, "eval/kl": NaN}\n')
    assert run.metrics()[0]["eval/score"] == math.inf
    assert math.isnan(run.metrics()[0]["eval/kl"])


def test_every_file_of_json_goes_through_the_strict_writer(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"x": math.nan})
    assert strict((tmp_path / "a.json").read_text()) == {"x": "NaN"}
