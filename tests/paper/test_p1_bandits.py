"""The verdict on bandits."""

import pytest

from suite.paper.p1_bandits import judge
from suite.paper.records import SweepRecords
from tests.paper.made_records import bandits


@pytest.mark.parametrize(
    ("records", "word", "part"),
    [
        (bandits(dpo=1.0), "holds", "ahead in 4, behind in 0 and neither in 0 of 4"),
        (bandits(dpo=9.0), "holds in part", "ahead in 0, behind in 4"),
        (bandits(dpo=5.0), "holds", "neither in 4"),
    ],
)
def test_the_verdict_follows_from_the_records(records: SweepRecords, word: str, part: str) -> None:
    verdict = judge(records)
    assert verdict.word == word, verdict.sentence
    assert part in f"{verdict.sentence} {verdict.details}"
