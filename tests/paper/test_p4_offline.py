"""The verdict on learning offline."""

import pytest

from suite.paper.p4_offline import judge
from suite.paper.records import SweepRecords
from tests.paper.made_records import ORDER, PUSHED, offline


@pytest.mark.parametrize(
    ("records", "word", "part"),
    [
        (offline(ORDER), "holds", f"{PUSHED} is ahead of Accept"),
        (
            offline({**ORDER, PUSHED: 100.0}),
            "holds in part",
            "Reject + BC is ahead of Accept + BC",
        ),
        (offline(dict.fromkeys(ORDER, 200.0)), "does not hold", "told apart from"),
        (offline(dict.fromkeys(ORDER, 200.0)), "does not hold", "theory §14"),
    ],
)
def test_the_verdict_follows_from_the_records(records: SweepRecords, word: str, part: str) -> None:
    verdict = judge(records)
    assert verdict.word == word, verdict.sentence
    assert part in f"{verdict.sentence} {verdict.details}"
