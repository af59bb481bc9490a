"""Every mistake in a configuration is one sentence that names the file and the key."""

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from suite.config.fields import ConfigError
from suite.config.loading import load
from tests.conftest import ROOT

SPHERE = ROOT / "configs/bandit/sphere.yaml"


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("[!s]*/*.yaml")), ids=str)
def test_every_committed_configuration_loads(path: Path) -> None:
    config = load(path)
    assert config.sweep == path.stem
    assert path.parent.name == {"rows": "lm"}.get(config.domain.name, config.domain.name)


def test_overrides_win_over_the_file_which_wins_over_defaults() -> None:
    assert load(SPHERE).trainer.steps == 2000
    config = load(SPHERE, ["trainer.steps=7", "objective.beta=1"])
    assert (config.trainer.steps, config.objective.beta, config.optimizer.lr) == (7, 1, 0.03)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("trainer.stepz=1", r"unknown key trainer\.stepz; did you mean trainer\.steps\?"),
        ("steps=1", r"unknown key steps; did you mean trainer\.steps\?"),
        ("trainer.steps=many", r"trainer\.steps: Value 'many' .* could not be converted to Int"),
        ("seed=1.5", r"seed: Value '1\.5' .* could not be converted to Integer"),
        ("feedback=both", r"feedback: Invalid value 'both', expected one of \['positive', 'neg"),
        ("objective.alpha=1.5", r"objective\.alpha must be at most 1, found 1\.5"),
        ("objective.beta=-1", r"objective\.beta must be at least 0, found -1"),
        ("objective.beta=nan", r"objective\.beta must be a number or 'auto', found 'nan'"),
        ("objective.beta=large", r"objective\.beta must be a number or 'auto', found 'large'"),
        ("domain.samples=1", r"domain\.samples must be at least 2, found 1"),
        ("domain.top=3", r"domain\.top \+ domain\.bottom must be at most domain\.samples=4"),
        (
            "domain.name=chess",
            r"domain\.name must be one of archive, .*, rows, or an import path .*; found 'chess'",
        ),
        (
            "objective.name=ppo",
            r"objective\.name must be one of pmpo, dpo, mpo, weighted, .*; found 'ppo'",
        ),
        ("trainer=3", r"trainer holds keys such as trainer\.steps; it takes no value"),
        ("objective.divergence=reverse", r"reverse does not bound the rejected term.*alpha=0\.5"),
        (
            "domain.name=[a]",
            r"domain\.name must be one of archive, .*, rows, or .*; found '\[a\]'",
        ),
        ("optimizer.beta2=1", r"optimizer\.beta2 must be less than 1, found 1"),
        ("optimizer.lr=inf", r"optimizer\.lr must be a finite number, found inf"),
        ("seed=99999999999", r"seed must be less than 4294967296, found 99999999999"),
        ("sweep=a/b", r"sweep must be the name of one folder, found 'a/b'"),
        ("sweep=${nope}", r"Interpolation key 'nope' not found"),
        ("trainer.precision=half", r"trainer\.precision: Invalid value 'half', expected one of"),
        ("optimizer.lr=0", r"optimizer\.lr must be greater than 0, found 0"),
        ("seed", r"override 'seed': expected key=value"),
    ],
)
def test_a_mistaken_override_is_named(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load(SPHERE, [override])


def test_dpo_needs_two_samples_to_compare() -> None:
    lm = ROOT / "configs/lm/arithmetic.yaml"
    assert load(lm, ["domain.samples=1"]).domain.samples == 1
    with pytest.raises(ConfigError, match=r"domain\.samples must be at least 2 .*; found 1"):
        load(lm, ["domain.samples=1", "objective.name=dpo"])


@pytest.mark.parametrize("feedback", ["positive", "negative"])
def test_an_alpha_against_the_feedback_is_refused(feedback: str) -> None:
    with pytest.raises(ConfigError, match=rf"alpha=0\.5 contradicts feedback={feedback}"):
        load(SPHERE, [f"feedback={feedback}", "objective.alpha=0.5"])


def test_an_empty_group_is_harmless(tmp_path: Path) -> None:
    path = tmp_path / "sphere.yaml"
    path.write_text("domain: {name: bandit}\noptimizer: {}\n")
    assert load(path).optimizer.lr == 1e-3


def test_dpo_needs_both_kinds_of_feedback() -> None:
    with pytest.raises(ConfigError, match="needs feedback=mixed, found positive"):
        load(SPHERE, ["objective.name=dpo", "feedback=positive"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed: 1\n  domain: x\n", r"bad\.yaml, line 2: not valid YAML"),
        ("- a\n- b\n", r"bad\.yaml: expected a mapping of keys, found list"),
        (
            "",
            r"bad\.yaml: domain\.name must be one of archive, .*, rows; found nothing",
        ),
        ("domain: bandit\n", r"bad\.yaml: domain must hold keys such as domain\.name"),
        ("domain: {name: bandit}\nsed: 1\n", r"bad\.yaml: unknown key sed; did you mean seed\?"),
        ("seed: 1\nseed: 2\ndomain: {name: bandit}\n", r"bad\.yaml.*[Dd]uplicate"),
    ],
)
def test_a_mistaken_file_is_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        load(path)


def test_a_missing_file_is_named_with_the_nearest_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    with pytest.raises(ConfigError, match=r"no such file; did you mean configs/bandit/sphere\."):
        load(Path("configs/bandit/spere.yaml"))


def test_the_signature_is_of_what_the_run_computes() -> None:
    def signature(*overrides: str) -> str:
        return load(SPHERE, list(overrides)).signature

    base = signature()
    assert signature("results_dir=/elsewhere", "sweep=other", "logging.wandb=offline") == base
    assert signature("objective.alpha=0.5") == base, "α as `feedback` implies it"
    assert signature("objective.beta=1") == signature("objective.beta=1.0") != base
    assert signature("seed=1") != base
    assert signature("trainer.steps=1999") != base
    assert signature("feedback=negative") != base


def test_the_resolved_configuration_loads_to_itself(tmp_path: Path) -> None:
    import dataclasses

    config = load(SPHERE, ["objective.beta=1.5", "sweep=mine"])
    path = tmp_path / "config.yaml"
    path.write_text(OmegaConf.to_yaml(OmegaConf.create(dataclasses.asdict(config))))
    assert load(path) == config
