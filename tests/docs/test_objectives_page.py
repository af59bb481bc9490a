"""The tables of docs/objectives.md say what the settings of the objectives say."""

import re
from dataclasses import fields
from typing import Any

import pytest

from suite.config.fields import ConfigError
from suite.config.registry import OBJECTIVES, choose
from tests.conftest import ROOT

PAGE = (ROOT / "docs/objectives.md").read_text()
KINDS = ("positive", "negative", "mixed")


def table_below(heading: str) -> list[dict[str, str]]:
    """The rows of the first table below a heading, by the names of their columns."""
    section = PAGE.split(f"\n{heading}\n", 1)[1]
    lines = [line for line in section.splitlines() if line.startswith("|") or line.startswith("#")]
    end = next((i for i, line in enumerate(lines) if line.startswith("#")), len(lines))
    head, _, *rows = ([cell.strip() for cell in line.split("|")[1:-1]] for line in lines[:end])
    return [dict(zip(head, row, strict=True)) for row in rows]


ROWS = table_below("## All objectives")


def settings_of(row: dict[str, str]) -> Any:
    return choose("objective", row["objective"].strip("`")).settings()


def accepted(settings: Any) -> list[str]:
    """The values of `feedback` that an objective takes."""

    def takes(kind: str) -> bool:
        try:
            settings.check_feedback(kind)
        except ConfigError:
            return False
        return True

    return [kind for kind in KINDS if takes(kind)]


def test_the_table_names_every_objective_once() -> None:
    assert sorted(row["objective"] for row in ROWS) == sorted(f"`{name}`" for name in OBJECTIVES)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["objective"].strip("`"))
def test_a_row_says_what_the_settings_say(row: dict[str, str]) -> None:
    settings = settings_of(row)
    key = settings.strength_key
    assert row["strength"] == (f"`{key}`" if key else "")
    assert not key or key in {field.name for field in fields(settings)}
    assert row["calibrate"] == ("yes" if hasattr(settings, "calibrate") else "no")
    assert row["K ≥ 2"] == ("yes" if settings.compares_samples else "no")
    taken = list(KINDS) if row["feedback"] == "any" else row["feedback"].split(", ")
    assert taken == accepted(settings)


def test_each_objective_that_can_be_calibrated_has_a_formula() -> None:
    column = " ".join(row["objectives"] for row in table_below("### One strength for all"))
    named = [name for name in re.findall(r"`(\w+)`", column) if name in OBJECTIVES]
    with_key = [row["objective"].strip("`") for row in ROWS if row["calibrate"] == "yes"]
    assert sorted(named) == sorted(with_key)


def test_the_page_names_what_depends_on_the_split_of_a_batch() -> None:
    section = PAGE.split("\n## How a batch is split\n", 1)[1]
    named = {name for name in re.findall(r"`(\w+)`", section) if name in OBJECTIVES}
    always = {r["objective"].strip("`") for r in ROWS if settings_of(r).uses_batch_statistics}
    assert named == always | {"bco"}
    assert choose("objective", "bco").settings(shift="mean").uses_batch_statistics
