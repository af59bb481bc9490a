"""Files with one kind of label, few of a kind, equal scores, or groups of unequal size, trained."""

import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from suite.runs.folder import RunFolder
from suite.train import train
from tests.conftest import Tiny
from tests.domains.language.models import config_of
from tests.domains.language.rows import GOOD, write_rows


def ended(path: Path, models: Path, *overrides: str) -> tuple[list[dict[str, Any]], str]:
    """Train; return the rows of metrics, and the card of the policy."""
    more = ["domain.data.held_out=0", "trainer.steps=4", f"results_dir={path.parent}", *overrides]
    config = config_of(path, models / "llama", *more)
    assert train(config)["status"] == "finished"
    folder = RunFolder.of(config)
    return folder.metrics(), (folder.path / "policy/README.md").read_text()


def one_kind(label: bool) -> Iterable[dict[str, Any]]:
    return ({**GOOD, "prompt": f"is {'abcde'[i]} ok?", "label": label} for i in range(5))


@pytest.mark.parametrize(
    ("label", "alone", "alpha"), [(True, "positive", "α = 1,"), (False, "negative", "α = 0,")]
)
def test_one_kind_of_label_trains_as_that_kind_of_feedback(
    label: bool,
    alone: str,
    alpha: str,
    models: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "suite")
    path = write_rows(tmp_path / "rows.jsonl", one_kind(label))
    mixed, card = ended(path, models, "feedback=mixed")
    assert f"they train as under feedback={alone}" in caplog.text
    assert alpha in card
    assert mixed == ended(path, models, f"feedback={alone}")[0]


def test_an_alpha_that_was_given_does_not_hold_accepted_rows_back(
    models: Path, tmp_path: Path
) -> None:
    path = write_rows(tmp_path / "rows.jsonl", one_kind(True))
    given, card = ended(path, models, "feedback=mixed", "objective.alpha=0.3")
    assert "α = 1," in card
    assert given == ended(path, models, "feedback=positive")[0]


@pytest.mark.parametrize("objective", ["pmpo", "dpo"])
@pytest.mark.parametrize("tokens", [0, 60])
def test_groups_of_unequal_size_and_fewer_than_a_batch_train_and_their_weights_have_no_unit(
    objective: str, tokens: int, models: Path, tmp_path: Path
) -> None:
    found = []
    for factor in (0.25, 1.0, 1024.0):  # powers of two, which round nothing
        rows = [
            {
                "prompt": f"is {'abcde'[i]} ok?",
                "completions": [" yes", " no way", " well", " ok"][: 1 + i % 4],
                "scores": [1.0, 0.0, 0.5, 0.75][: 1 + i % 4],
                "weight": factor * (1 + i),
            }
            for i in range(5)
        ]
        path = write_rows(tmp_path / f"rows{factor}.jsonl", rows)
        more = [f"objective.name={objective}", f"domain.tokens={tokens}", "domain.batch_size=8"]
        found.append(ended(path, models, *more, "feedback=mixed")[0])
    assert found[0] == found[1] == found[2]
    assert found[0][-1]["eval/change_accepted"] > found[0][-1]["eval/change_rejected"]


@pytest.mark.parametrize("threshold", [-1.0, 2.0])
def test_a_judge_that_accepts_all_or_nothing_trains_to_the_end(
    threshold: float, tiny: Tiny
) -> None:
    config = tiny("lm", "feedback=mixed", f"domain.labels.threshold={threshold}")
    assert train(config)["status"] == "finished"
    rows = [row for row in RunFolder.of(config).metrics() if "train/anchor" in row]
    assert all(row["train/reference_reject_share"] == float(threshold > 1) for row in rows)
    assert all(abs(row["train/loss"]) < 100 for row in rows)
    assert "α = " in (RunFolder.of(config).path / "policy/README.md").read_text()
