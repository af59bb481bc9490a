"""Names that Weights & Biases would refuse are replaced, and stay apart."""

import random
from dataclasses import replace
from pathlib import Path

import pytest
import wandb

from suite.training import wandb_mirror
from suite.training.wandb_mirror import WandbMirror
from suite.training.wandb_names import (
    NAME_LENGTH,
    TAG_LENGTH,
    config_values,
    project_name,
    shortened,
    tags,
)
from tests.conftest import Tiny

ODD = [
    "",
    " ",
    "a" * 64,
    "a" * 65,
    "a" * 500,
    "lr=1e-3/β",
    "🙂" * 65,
    "a\nb",
    "\x1b[31m",
    "\ud800",
    "x?y#z:w%",
]


def test_every_name_is_one_that_the_service_takes() -> None:
    seed = random.randrange(10**6)
    print("seed of the names:", seed)
    chooser = random.Random(seed)
    generated = [
        "".join(chooser.choices("ab/\\#?%: \t\ud800é🙂", k=chooser.randint(1, 200)))
        for _ in range(200)
    ]
    for text in [*ODD, *generated]:
        settings = wandb.Settings(
            project=project_name(text), run_tags=tags([text]), run_name=shortened(text, NAME_LENGTH)
        )
        assert len(settings.run_name or "") <= NAME_LENGTH
        assert all(len(tag) <= TAG_LENGTH for tag in settings.run_tags or ())


def test_names_that_differ_stay_different() -> None:
    long = ["x" * 100 + end for end in "abc"]
    assert len(set(tags(long))) == 3
    assert len({project_name(text) for text in ("a/b", "a:b", "a-b")}) == 3
    assert tags(["pmpo", "pmpo", "", "mixed"]) == ["pmpo", "mixed"], "what fits stays as it is"


def test_long_texts_of_a_configuration_are_cut() -> None:
    values = {"a": {"b": ["x" * 10**6]}, "c": 3}
    cut = config_values(values)
    assert len(cut["a"]["b"][0]) == 10_000
    assert cut["c"] == 3


@pytest.mark.parametrize("error", [RuntimeError("it fails"), SystemExit(1)])
def test_whatever_fails_there_is_told_and_leaves_the_run_alone(
    error: BaseException,
    tiny: Tiny,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fails(*arguments: object) -> None:
        raise error

    config = tiny("bandit", results=tmp_path)
    config = replace(config, logging=replace(config.logging, wandb="offline"))
    monkeypatch.setattr(wandb_mirror, "start", fails)
    with WandbMirror(config, tmp_path) as mirror:
        mirror.write_row(1, {"loss": 0.5})
    assert mirror.run is None
    assert "Weights & Biases (offline)" in caplog.text


def test_the_record_of_a_run_with_long_names_is_there(tiny: Tiny, tmp_path: Path) -> None:
    config = tiny("bandit", "logging.wandb=offline", results=tmp_path)
    config = replace(config, sweep="s" * 200)
    config = replace(config, logging=replace(config.logging, project="a/b: c" * 50))
    with WandbMirror(config, tmp_path) as mirror:
        assert mirror.run is not None
    assert list(tmp_path.glob("wandb/offline-run-*/*.wandb"))
