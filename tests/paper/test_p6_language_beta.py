"""The verdict on β in language."""

import pytest

from suite.paper.p6_language_beta import judge
from suite.paper.records import SweepRecords
from tests.paper.made_records import GOOD, WRONG, betas


@pytest.mark.parametrize(
    ("records", "word", "part"),
    [
        ({"lm_beta": betas(GOOD, domain="lm")}, "holds", "3 of 3 thresholds"),
        ({"lm_beta": betas(WRONG, domain="lm")}, "holds in part", "2 of 3 thresholds"),
    ],
)
def test_the_verdict_follows_from_the_records(records: SweepRecords, word: str, part: str) -> None:
    verdict = judge(records)
    assert verdict.word == word, verdict.sentence
    assert part in f"{verdict.sentence} {verdict.details}"
