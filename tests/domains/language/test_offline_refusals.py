"""Rows, models and settings that cannot be learned from are refused, with the reason."""

from pathlib import Path
from typing import Any

import pytest
from transformers import (
    AutoModelForCausalLM,
)

from suite.config.fields import ConfigError
from suite.config.loading import load
from suite.domains.language.scoring import check_model
from suite.train import train
from tests.conftest import BASE, ROOT
from tests.domains.language.models import config_of, domain_of, tokenizer
from tests.domains.language.rows import GOOD, labelled, write_rows


def test_pairs_are_missing_where_rows_stand_alone(models: Path, tmp_path: Path) -> None:
    path = write_rows(tmp_path / "thumbs.jsonl", labelled(chat=False))
    config = config_of(path, models / "llama", "objective={name: dpo}", f"results_dir={tmp_path}")
    with pytest.raises(ConfigError, match=r"name=dpo compares completions of one context"):
        train(config)


@pytest.mark.parametrize(
    ("rows", "overrides", "message"),
    [
        ([GOOD] * 9, ["feedback=negative"], "feedback=negative needs rejected comp.*, and none is"),
        (
            [GOOD | {"prompt": "p" * 80}] * 4,
            [],
            r"line 1: prompt must leave room .*found 80 tokens; .*4 of 4 rows do not fit",
        ),
        ([GOOD], ["domain.data.held_out=0.9"], r"held_out=0.9 leaves no rows .* found 1 in all"),
        (
            [GOOD, GOOD | {"label": 0}] * 4,
            ["feedback=mixed"],
            r"the labels are 1 and 0, and none is -1 or false.*write false or -1 for rejected ones",
        ),
    ],
)
def test_rows_that_cannot_be_learned_from_are_refused(
    rows: list[Any], overrides: list[str], message: str, models: Path, tmp_path: Path
) -> None:
    path = write_rows(tmp_path / "rows.jsonl", rows)
    with pytest.raises(ConfigError, match=message):
        domain_of(config_of(path, models / "llama", *overrides), tmp_path)


def test_models_that_cannot_be_loaded_are_told(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)  # or it tries for long
    path = write_rows(tmp_path / "rows.jsonl", labelled(chat=True))
    hollow = tmp_path / "hollow"
    hollow.mkdir()
    for file in (models / "llama").iterdir():
        if "safetensors" not in file.name:
            (hollow / file.name).write_bytes(file.read_bytes())
    with pytest.raises(ConfigError, match="hollow: folder cannot be loaded"):
        domain_of(config_of(path, hollow), tmp_path)
    with pytest.raises(ConfigError, match=r"domain.model=no/such: is no folder here, and no name"):
        domain_of(config_of(path, "no/such"), tmp_path)
    silent = tmp_path / "silent"
    silent.mkdir()
    for file in (models / "llama").iterdir():
        if "chat_template" not in file.name:
            (silent / file.name).write_bytes(file.read_bytes())
    with pytest.raises(ConfigError, match=r"line 1: holds messages, but .* has no chat template"):
        domain_of(config_of(path, silent), tmp_path)
    endless = tmp_path / "endless"
    endless.mkdir()
    for file in (models / "llama").iterdir():
        (endless / file.name).write_bytes(file.read_bytes())
    plain = tokenizer()
    plain.eos_token = None
    plain.save_pretrained(endless)
    text = write_rows(tmp_path / "text.jsonl", labelled(chat=False))
    with pytest.raises(ConfigError, match=r"domain.model: its tokenizer has no end token"):
        domain_of(config_of(text, endless), tmp_path)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["domain.data.path=x.jsonl"], "domain.model must be .* with domain.data.path"),
        (["domain.dtype=bfloat16"], "domain.dtype=bfloat16 is for weights that are not trained"),
    ],
)
def test_settings_that_do_not_fit_are_refused(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load(ROOT / BASE["rows"], overrides)


def test_a_file_that_is_not_there_is_told_at_once() -> None:
    with pytest.raises(ConfigError, match=r"domain.data.path=x.jsonl: no such file or folder"):
        config_of("x.jsonl", "m").check_machine()


def test_a_model_whose_logits_are_made_in_another_way_is_refused(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = AutoModelForCausalLM.from_pretrained(models / "gemma2")
    check_model(model, "domain.model")
    model.config.final_logit_softcapping = None  # the head no longer knows, the model does
    honest = model.forward

    def capped(**arguments: Any) -> Any:
        found = honest(**arguments)
        found.logits = 3 * (found.logits / 3).tanh()
        return found

    monkeypatch.setattr(model, "forward", capped)
    with pytest.raises(ConfigError, match=r"domain.model: models of type gemma2 make their logits"):
        check_model(model, "domain.model")
