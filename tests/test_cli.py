"""A user's mistake on the command line gives one sentence and an exit code."""

from pathlib import Path

import pytest

from suite.cli import main, parse, plain_override
from tests.conftest import ROOT


@pytest.fixture(autouse=True)
def in_the_project(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("train configs", "configs: is a folder, expected a YAML file"),
        ("train nowhere.yaml", "nowhere.yaml: no such file"),
        ("train configs/bandit/sphere.yaml domain=null", "domain must hold keys such as"),
        ("train configs/bandit/sphere.yaml seed=-1", "seed must be at least 0, found -1"),
        ("train configs/bandit/sphere.yaml results_dir=/proc/x", "results_dir=/proc/x cannot be"),
        (
            "sweep nosuch",
            "configs/sweeps/nosuch.yaml: no such file; sweeps are archive, bandit,",
        ),
        ("sweep bandit --parallel 0", "--parallel must be at least 1, found 0"),
        ("sweep bandit results_dir=/proc/x", "results_dir=/proc/x cannot be written"),
        ("status nosuch", "nosuch: no runs there"),
        ("sweep lm --point 9", "--point must lie in 0 to 8, found 9"),
        ("cancel lm seed=1", "cancel takes results_dir=DIR, found 'seed=1'"),
        ("sweep lm --detach", "--detach needs --cluster with a profile of a SLURM cluster"),
        ("sweep lm --cluster test --parallel 2", "--parallel is for this machine; a profile has"),
        (
            "sweep lm --cluster nosuch",
            "slurm/nosuch.yaml: no such file; cluster profiles are h100,",
        ),
        ("status lm seed=1", "status takes results_dir=DIR, found 'seed=1'"),
        ("report lm results_dir=/nowhere", "/nowhere/lm: no results there"),
        ("evaluate /tmp", "/tmp: is no run's folder"),
    ],
)
def test_a_mistake_is_one_sentence(
    command: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command.split()) == 2
    error = capsys.readouterr().err
    assert error.startswith("suite: ")
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("command", ["sweep bandit --frob", "train", "", "status lm --frob"])
def test_wrong_usage_is_refused(command: str) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(command.split())


def test_overrides_may_stand_on_both_sides_of_options(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["sweep", "lm", "trainer.steps=3", "--dry-run", f"results_dir={tmp_path}"]
    assert main(command) == 0
    assert f"9 runs in {tmp_path}/lm" in capsys.readouterr().out.replace("\n", "")


def test_help_on_a_configuration_lists_every_key_with_type_default_and_meaning(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["train", "configs/lm/arithmetic.yaml", "--help"]) == 0
    text = capsys.readouterr().out
    for expected in ("objective.margin", "domain.pretrain.lr", "positive | negative | mixed"):
        assert expected in text
    (line,) = [line for line in text.splitlines() if line.startswith("trainer.eval_every")]
    assert line.split()[:3] == ["trainer.eval_every", "int", "100"]
    assert "steps between evaluations (≥ 1)" in line


@pytest.mark.parametrize(
    "words",
    [
        ["--trainer.steps=3", "--feedback=mixed"],
        ["-trainer.steps=3", "-feedback=mixed"],
        ["trainer.steps=9", "--dry-run", "--trainer.steps=3", "feedback=mixed"],  # the last counts
        ["--dry-run", "--trainer.steps=3", "--logging.project=two words, a comma"],
    ],
)
def test_settings_may_be_written_as_other_programs_pass_them(words: list[str]) -> None:
    options = parse([plain_override(word) for word in ["sweep", "lm", *words]])
    assert options.overrides[-2] == "trainer.steps=3"
    assert not [word for word in options.overrides if word.startswith("-")]


@pytest.mark.parametrize("command", ["status lm", "cancel lm", "report lm", "claims P1"])
def test_every_command_that_takes_settings_takes_them_with_dashes(command: str) -> None:
    options = parse([plain_override(w) for w in [*command.split(), "--results-dir=a b"]])
    assert options.overrides[-1] == "results_dir=a b"


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("--seed 3", "--seed: settings are key=value, as in seed=VALUE"),
        ("--sed=3", "--sed=3: settings are key=value, as in sed=3"),
        ("--optimizer.lr 0.1", "--optimizer.lr: settings are key=value, as in optimizer.lr=VALUE"),
    ],
)
def test_other_ways_to_write_a_setting_are_told_the_right_one(
    word: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "configs/bandit/sphere.yaml", *word.split()]) == 2
    assert message in capsys.readouterr().err
