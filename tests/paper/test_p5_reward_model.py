"""The verdict on learning from a reward model."""

import pytest

from suite.paper.p5_reward_model import judge
from suite.paper.records import SweepRecords
from tests.paper.made_records import letters


@pytest.mark.parametrize(
    ("records", "word", "parts"),
    [
        (letters(0.2, 0.2, dpo=0.2), "holds", ["is ahead of accepted", "is ahead of DPO"]),
        (letters(0.2, 0.0, dpo=0.2), "holds in part", ["not told apart from them in what it"]),
        (letters(0.0, 0.2, dpo=0.2), "holds in part", ["not told apart from accepted samples"]),
        (letters(0.2, 0.2, dpo=0.9), "holds in part", ["it is behind DPO"]),
        (letters(-0.2, -0.05, dpo=0.9), "does not hold", ["is behind accepted", "behind them in"]),
        (letters(0.2, 0.2, dpo=0.2, steps=7), "holds", ["ahead at margin 0.5, even at margin 1"]),
    ],
)
def test_the_verdict_follows_from_the_records(
    records: SweepRecords, word: str, parts: list[str]
) -> None:
    verdict = judge(records)
    assert verdict.word == word, verdict.sentence
    for part in parts:
        assert part in f"{verdict.sentence} {verdict.details}"


def test_without_the_judged_margin_the_claim_is_open() -> None:
    records = letters(0.2, 0.2, dpo=0.2)
    others = [run for run in records["below_bound"] if "0.5" not in run.variant]
    assert judge(records | {"below_bound": others}).word == "not measured"
