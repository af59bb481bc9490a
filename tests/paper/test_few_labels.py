"""The verdict on few labels."""

import pytest

from suite.paper.few_labels import judge
from suite.paper.records import SweepRecords
from tests.paper.made_records import shares


@pytest.mark.parametrize(
    ("records", "word", "part"),
    [
        (shares(best=0.5), "answered", "10 %: α = 0.5 (9"),
    ],
)
def test_the_verdict_follows_from_the_records(records: SweepRecords, word: str, part: str) -> None:
    verdict = judge(records)
    assert verdict.word == word, verdict.sentence
    assert part in f"{verdict.sentence} {verdict.details}"
