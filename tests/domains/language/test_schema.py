"""What rows say, and how those that do not fit are told."""

import json
from pathlib import Path
from typing import Any

import pytest

from suite.config.fields import ConfigError
from suite.domains.language.offline_config import DataConfig
from suite.domains.language.schema import load_rows
from tests.domains.language.rows import GOOD, scored, write_rows


@pytest.mark.parametrize("kind", ["parquet", "folder", "splits"])
def test_tables_hold_the_same_rows_as_lines(kind: str, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    lines = write_rows(tmp_path / "rows.jsonl", scored(chat=True))
    table = datasets.Dataset.from_list(list(scored(chat=True)))
    path = tmp_path / "rows.parquet"
    if kind == "parquet":
        table.to_parquet(path)
    else:
        path = tmp_path / "rows"
        whole = table if kind == "folder" else datasets.DatasetDict({"train": table})
        whole.save_to_disk(path)
    expected, _ = load_rows(str(lines), DataConfig())
    found, _ = load_rows(str(path), DataConfig())
    assert [group[:4] for group in found] == [group[:4] for group in expected]
    if kind == "splits":
        with pytest.raises(ConfigError, match=r"domain.data.split=test: .* has train"):
            load_rows(str(path), DataConfig(split="test"))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"prompt": "p"', r"line 2: not valid JSON"),
        ('["p"]', r"line 2: expected an object with fields, found list"),
        ('{"completion": "c", "label": 1}', r"line 2: prompt is missing"),
        (
            '{"prompt": "p", "completion": "c"}',
            r"expected completion and label or .*, found prompt",
        ),
        ('{"prompt": "p", "completion": "c", "label": "yes"}', r"1, -1 or 0, found 'yes'"),
        ('{"prompt": "p", "completion": "c", "label": 2}', r"label must be .*, found 2"),
        ('{"prompt": 7, "completion": "c", "label": 1}', r"prompt must be text or .*, found 7"),
        ('{"prompt": "p", "completion": "c", "label": 1, "weight": 0}', r"above 0, found 0"),
        ('{"prompt": "p", "completions": ["a"], "scores": [1, 2]}', r"must be 1 numbers"),
        ('{"prompt": "p", "completions": ["a"], "scores": [NaN]}', r"one per completion, found"),
    ],
)
def test_a_row_that_does_not_fit_is_named(line: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(f"{json.dumps(GOOD)}\n{line}\n")
    with pytest.raises(ConfigError, match=message) as told:
        load_rows(str(path), DataConfig())
    assert "1 of 2 rows do not fit; domain.data.skip_bad=true" in str(told.value)
    groups, bad = load_rows(str(path), DataConfig(skip_bad=True))
    assert (len(groups), len(bad)) == (1, 1)


def test_all_bad_rows_are_counted_before_anything_starts(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "rows.jsonl", [GOOD, *({"prompt": i} for i in range(20))])
    with pytest.raises(ConfigError, match="20 of 21 rows do not fit") as told:
        load_rows(str(path), DataConfig())
    assert str(told.value).count("line") == 5, "and a few are named"


def test_no_rows_are_told(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").touch()
    with pytest.raises(ConfigError, match=r"rows.jsonl: no rows"):
        load_rows(str(tmp_path / "rows.jsonl"), DataConfig())


@pytest.mark.parametrize(
    ("scores", "labels"),
    [
        ({"scores": "mean"}, [1, -1, 0, 0]),
        ({"scores": "threshold", "threshold": 2.0}, [1, -1, 1, 1]),
        ({"scores": "ranks", "top": 1, "bottom": 1}, [1, -1, 0, 0]),
        ({"scores": "ranks", "top": 1, "bottom": 2}, [1, -1, 0, 0]),
        ({"scores": "ranks", "top": 1, "bottom": 3}, [1, -1, -1, -1]),
    ],
)
def test_scores_become_labels(scores: dict[str, Any], labels: list[int], tmp_path: Path) -> None:
    row = {"prompt": "p", "completions": list("abcd"), "scores": [3, 1, 2, 2]}
    path = write_rows(tmp_path / "rows.jsonl", [row])
    (group,), _ = load_rows(str(path), DataConfig(**scores))
    assert group.labels == labels
