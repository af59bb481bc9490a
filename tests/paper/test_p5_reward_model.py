"""The verdict on learning from a reward model."""

import pytest

from suite.paper.p5_reward_model import judge
from suite.paper.records import SweepRecords
from tests.paper.made_records import letters


@pytest.mark.parametrize(
    ("records", "word", "part"),
    [
        (letters(0.3, 0.3, dpo=0.2), "holds", "ahead in 2, behind in 0"),
        (letters(0.1, 0.1, dpo=0.2), "holds in part", "it is ahead of DPO"),
        (letters(0.0, 0.0, dpo=0.9), "does not hold", "it is behind DPO"),
    ],
)
def test_the_verdict_follows_from_the_records(records: SweepRecords, word: str, part: str) -> None:
    verdict = judge(records)
    assert verdict.word == word, verdict.sentence
    assert part in f"{verdict.sentence} {verdict.details}"
