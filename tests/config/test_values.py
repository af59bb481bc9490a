"""A value is what a person wrote: the type of its key decides, not the surprises of YAML 1.1."""

import os
from pathlib import Path
from typing import Any

import pytest

from suite.config.fields import ConfigError
from suite.config.loading import load, read_yaml
from suite.config.schema import Config

BASE = "domain: {name: rows, model: m, data: {path: rows.jsonl}}\n"
TEXTS = [
    *("007", "1_000", "1e3", "0x10", "1:30", "12:30:45", "on", "off", "yes", "no", "y", "n"),
    *("true", "False", "2024-01-01", "2024-01-01 10:00:00", "1.10", "+1", "-5", ".5", "1."),
    *(".inf", ".nan", "0b1", "0o7", "=", "a=b", "α-β", "nan", "1e", "v1.0", "00", "0.0", "1,5"),
]
# Only an override gives these without quotes.
RAW_TEXTS = [
    *("my #1 project", "a: b", "[a", "{a}", "*a", "&a", "!a", "@a", "%a", "- a", "? a", "it's"),
    *("a # b", "#1", "|", ">", "a, b", '"quoted" and not', "'", "a:"),
]


def loaded(tmp_path: Path, text: str, *overrides: str) -> Config:
    path = tmp_path / "run.yaml"
    path.write_text(text)
    return load(path, list(overrides))


@pytest.mark.parametrize("text", TEXTS)
def test_a_key_for_text_holds_the_text(tmp_path: Path, text: str) -> None:
    in_file = loaded(tmp_path, f"{BASE}logging: {{entity: {text!r}, project: 'x'}}\n")
    plain = loaded(tmp_path, f"{BASE}logging:\n  entity: {text}\n  project: {text}\n")
    given = loaded(tmp_path, BASE, f"logging.entity={text}", f"logging.project={text}")
    quoted = loaded(tmp_path, BASE, f"logging.entity='{text}'", f'logging.project="{text}"')
    assert in_file.logging.entity == text
    for config in (plain, given, quoted):
        assert (config.logging.entity, config.logging.project) == (text, text)


@pytest.mark.parametrize("text", RAW_TEXTS)
def test_an_override_of_a_key_for_text_is_taken_whole(tmp_path: Path, text: str) -> None:
    config = loaded(tmp_path, BASE, f"logging.project={text}", f"domain.model={text}")
    assert (config.logging.project, config.domain.model) == (text, text)


@pytest.mark.parametrize("text", ["null", "~", ""])
def test_nothing_is_nothing_where_that_is_allowed(tmp_path: Path, text: str) -> None:
    assert loaded(tmp_path, BASE, f"logging.entity={text}").logging.entity is None
    assert loaded(tmp_path, f"{BASE}logging:\n  entity: {text}\n").logging.entity is None
    assert loaded(tmp_path, BASE, "logging.entity='null'").logging.entity == "null"
    with pytest.raises(ConfigError, match=r"logging\.project"):
        loaded(tmp_path, BASE, f"logging.project={text}")


NUMBERS = [("0", 0), ("12", 12), ("1_000", 1000), ("+3", 3), ("'5'", 5), ("0x10", 16)]


@pytest.mark.parametrize(("text", "number"), NUMBERS)
def test_a_key_for_whole_numbers_holds_the_decimal_number(
    tmp_path: Path, text: str, number: int
) -> None:
    assert loaded(tmp_path, BASE, f"seed={text}").seed == number
    assert loaded(tmp_path, f"{BASE}seed: {text}\n").seed == number


@pytest.mark.parametrize("key", ["seed", "domain.batch_size", "optimizer.lr"])
@pytest.mark.parametrize("text", ["010", "007", "00", "-01", "0_8", "09", "'010'"])
def test_a_number_with_a_leading_zero_is_refused(tmp_path: Path, key: str, text: str) -> None:
    with pytest.raises(ConfigError, match=rf"{key.rpartition('.')[2]} must be .*leading zero"):
        loaded(tmp_path, BASE, f"{key}={text}")
    section, _, name = key.rpartition(".")
    line = f"{key}: {text}\n" if not section else f"{section}: {{{name}: {text}}}\n"
    if section != "domain":
        with pytest.raises(ConfigError, match=r"run\.yaml: .*leading zero"):
            loaded(tmp_path, BASE + line)


@pytest.mark.parametrize(
    "text", ["1e3", "1.5", "1:30", "on", "true", "2024-01-01", "a", "0o10x", "1__0", "[1]"]
)
def test_what_is_no_whole_number_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match="seed"):
        loaded(tmp_path, BASE, f"seed={text}")
    with pytest.raises(ConfigError, match="seed"):
        loaded(tmp_path, f"{BASE}seed: {text}\n")


FRACTIONS = [
    ("1", 1.0),
    ("1e3", 1e3),
    ("1e-5", 1e-5),
    (".5", 0.5),
    ("5.", 5.0),
    ("1_000.5", 1000.5),
]


@pytest.mark.parametrize(("text", "number"), FRACTIONS)
def test_a_key_for_fractions_holds_the_number(tmp_path: Path, text: str, number: float) -> None:
    for config in (
        loaded(tmp_path, BASE, f"optimizer.lr={text}"),
        loaded(tmp_path, f"{BASE}optimizer: {{lr: {text}}}\n"),
    ):
        assert config.optimizer.lr == number
        assert isinstance(config.optimizer.lr, float)


@pytest.mark.parametrize("text", ["1:30", "on", "inf", ".inf", ".nan", "2024-01-01", "1e", "0.1.2"])
def test_what_is_no_finite_fraction_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match=r"lr"):
        loaded(tmp_path, BASE, f"optimizer.lr={text}")


@pytest.mark.parametrize(
    ("text", "value"),
    [("true", True), ("False", False), ("yes", True), ("off", False), ("1", True)],
)
def test_a_switch_is_on_or_off(tmp_path: Path, text: str, value: bool) -> None:
    assert loaded(tmp_path, BASE, f"domain.lora.merge={text}").domain.lora.merge is value


def test_a_section_may_be_given_whole_and_files_may_refer_to_their_keys(tmp_path: Path) -> None:
    config = loaded(tmp_path, BASE, "logging={project: 007, entity: on}")
    assert (config.logging.project, config.logging.entity) == ("007", "on")
    config = loaded(tmp_path, f"{BASE}seed: 12\nlogging: {{project: 'p-${{seed}}', entity: x}}\n")
    assert config.logging.project == "p-12"
    config = loaded(tmp_path, f"{BASE}logging: {{project: 007, entity: '${{logging.project}}'}}\n")
    assert config.logging.entity == "007"


@pytest.mark.parametrize(
    "call", ["oc.env:A_SECRET", "oc.env:A_SECRET,x", "oc.decode:1", "oc.${x}:a"]
)
@pytest.mark.parametrize("around", ["{}", "token-{}", "a{}b"])
def test_a_resolver_is_refused_and_its_result_shown_nowhere(
    tmp_path: Path, call: str, around: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(os.environ, "A_SECRET", "hunter2")
    text = around.format("${" + call + "}")
    for given in (
        lambda: loaded(tmp_path, f"{BASE}logging: {{project: '{text}'}}\n"),
        lambda: loaded(tmp_path, BASE, f"logging.project={text}"),
        lambda: loaded(tmp_path, f"{BASE}sweep: {text}\n"),
    ):
        with pytest.raises(ConfigError, match="must not call a resolver") as refusal:
            given()
        assert "hunter2" not in str(refusal.value)
        assert "logging.project" in str(refusal.value) or "sweep" in str(refusal.value)


def test_a_sweeps_values_without_a_type_lose_no_zeros(tmp_path: Path) -> None:
    path = tmp_path / "sweep.yaml"
    path.write_text(
        "set: {a: 007, b: 1e3, c: '5', d: on, e: 1:30, f: 12, g: null, h: 2024-01-01}\n"
    )
    expected: dict[str, Any] = {"a": "007", "b": 1e3, "c": "5", "d": True, "e": "1:30", "f": 12}
    assert read_yaml(path) == {"set": {**expected, "g": None, "h": "2024-01-01"}}


def test_a_saved_configuration_is_read_as_it_was(tmp_path: Path) -> None:
    from suite.runs.folder import RunFolder

    for number, text in enumerate([*TEXTS, *RAW_TEXTS, "null", "a\nb", " a "]):
        config = loaded(tmp_path, BASE)
        config.logging.project = config.domain.model = text
        run = RunFolder(tmp_path / str(number))
        run.create(config)
        assert run.config() == config, text
