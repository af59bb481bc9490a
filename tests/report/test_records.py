"""Records as JSON lines."""

import dataclasses
from pathlib import Path

import pytest

from suite.config.fields import ConfigError
from suite.report.records import read_records, write_records
from tests.paper.made_records import run


def test_records_are_stored_and_read_to_the_digits_that_are_kept(tmp_path: Path) -> None:
    record = dataclasses.replace(
        run(
            "sphere-10d",
            "mixed",
            3,
            1 / 3,
            alpha=0.5,
            beta=1.0,
            point={"labels.keep": 0.1},
            grids=["a", "b"],
        ),
        evaluations=[
            {"step": 0, "eval/score": 1 / 3},
            {"step": 5, "eval/score": 2.0, "eval/kl": 1e-9},
        ],
    )
    write_records(tmp_path / "a.jsonl", [record])
    (read,) = read_records(tmp_path / "a.jsonl")
    assert read.evaluations[0] == {"step": 0, "eval/score": 0.333333}
    assert read.evaluations[1] == {"step": 5, "eval/score": 2.0, "eval/kl": 1e-9}
    assert dataclasses.replace(read, evaluations=record.evaluations) == record
    with (tmp_path / "a.jsonl").open("a") as file:
        file.write('{"name": "cut o')
    with pytest.raises(ConfigError, match=r"a\.jsonl: line 2 is damaged"):
        read_records(tmp_path / "a.jsonl")
