"""The model card of an exported policy: metadata for model hubs, and how the policy was made."""

import socket
from pathlib import Path

import pytest
from huggingface_hub import ModelCard
from omegaconf import OmegaConf

from suite.config.schema import Config
from suite.runs.folder import RunFolder
from suite.train import train
from tests.conftest import Tiny


def card_of(config: Config) -> ModelCard:
    """Train a run and read its card back."""
    train(config)
    return ModelCard.load(RunFolder.of(config).path / "policy/README.md")


def test_a_card_needs_no_network_and_has_metadata_measurements_and_the_configuration(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    config = tiny("bandit", "feedback=negative", "objective.beta=4", results=tmp_path)
    card = card_of(config)
    # A Gaussian's JSON file is loaded by no library.
    assert card.data.to_dict() == {"tags": ["pmpo", "preference-optimization", "negative-feedback"]}
    run = RunFolder.of(config)
    first, last = (run.metrics()[i]["eval/score"] for i in (0, -1))
    assert card.text.startswith("# sphere-3d, negative feedback\n")
    assert "from rejected samples only\n(arXiv 2410.04166).\n" in card.text
    assert "| objective | pmpo, α = 0, β = 4 |\n| feedback | negative: 50 %" in card.text
    assert f"|---|---:|---:|\n| score | {first:.4g} | {last:.4g} |\n" in card.text
    written = card.text.partition("```yaml\n")[2].removesuffix("```\n")
    assert OmegaConf.create(written) == OmegaConf.load(run.path / "config.yaml")


def test_a_card_gives_alpha_and_beta_only_of_objectives_that_have_both(
    tiny: Tiny, tmp_path: Path
) -> None:
    text = card_of(tiny("bandit", "objective.name=dpo", results=tmp_path)).text
    assert "(arXiv 2410.04166; here with dpo as the objective)" in text
    assert "| objective | dpo |\n" in text
