"""The verdict on control."""

import pytest

from suite.paper.p2_control import judge
from suite.paper.records import SweepRecords
from tests.paper.made_records import control


@pytest.mark.parametrize(
    ("records", "word", "part"),
    [
        (control(mpo=500.0), "holds", "MPO on pole: ahead"),
        (control(mpo=900.0), "holds in part", "MPO on pole: behind"),
        (control(mpo=500.0, negative=-5.0), "holds in part", "negative -5"),
        (control(mpo=500.0, negative=-5.0, others=-5.0), "does not hold", "positive -5"),
    ],
)
def test_the_verdict_follows_from_the_records(records: SweepRecords, word: str, part: str) -> None:
    verdict = judge(records)
    assert verdict.word == word, verdict.sentence
    assert part in f"{verdict.sentence} {verdict.details}"
