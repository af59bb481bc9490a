"""Names of domains, objectives and tasks, built in or of other packages."""

from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from suite.config import registry
from suite.config.fields import ConfigError
from suite.config.loading import load
from suite.config.registry import DOMAINS, KINDS, OBJECTIVES, choose
from suite.sweeps.spec import load_sweep
from tests.conftest import ROOT

BANDIT = ROOT / "configs/bandit/sphere.yaml"


@pytest.mark.parametrize("kind", KINDS)
def test_every_built_in_name_leads_to_a_class_of_its_kind(kind: str) -> None:
    for name in KINDS[kind].built_in:
        choice = choose(kind, name)
        assert choice.name == name
        assert isinstance(choice.settings, type)
        if KINDS[kind].base is not None:
            assert choice.settings.implementation.startswith("suite.")
            assert choice.settings().name == name


@pytest.mark.parametrize(("kind", "names"), [("domain", DOMAINS), ("objective", OBJECTIVES)])
def test_the_import_path_of_a_built_in_class_is_the_same_choice(
    kind: str, names: dict[str, str]
) -> None:
    for name, path in names.items():
        assert choose(kind, path) == choose(kind, name)


def test_a_name_and_its_import_path_sign_equally() -> None:
    by_path = load(BANDIT, [f"domain.name={DOMAINS['bandit']}"])
    assert by_path.signature == load(BANDIT).signature
    assert by_path.domain.name == "bandit"


def test_a_task_as_an_axis_of_a_sweep_has_its_canonical_name(tmp_path: Path) -> None:
    path = tmp_path / "tasks.yaml"
    letters = KINDS["task"].built_in["letters"]
    base = ROOT / "configs/lm/arithmetic.yaml"
    path.write_text(f"config: {base}\ngrids: {{a: {{domain.task: ['{letters}', arithmetic]}}}}\n")
    assert [c.domain.task for c in load_sweep(path).points.values()] == ["letters", "arithmetic"]
    path.write_text(f"config: {base}\ngrids: {{a: {{domain.task: [lettres]}}}}\n")
    with pytest.raises(ConfigError, match=r"tasks\.yaml: grids\.a: domain\.task: .* did you mean"):
        load_sweep(path)


def points(*values: str) -> list[EntryPoint]:
    return [EntryPoint("game", value, KINDS["domain"].entry_points) for value in values]


def test_two_packages_with_one_name_are_both_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "points_of", lambda what: points("one:A", "two:B"))
    with pytest.raises(ConfigError, match=r"ambiguous.*: one:A, two:B"):
        choose("domain", "game")


def test_a_broken_entry_point_is_named_with_its_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "points_of", lambda what: points("nowhere:A"))
    with pytest.raises(ConfigError, match=r"game \(nowhere:A\) cannot be imported: ModuleNotFound"):
        choose("domain", "game")
    with pytest.raises(ConfigError, match=r"rows, game, or an import path .* did you mean game\?"):
        choose("domain", "gane")


def test_an_entry_point_does_not_hide_what_is_built_in(monkeypatch: pytest.MonkeyPatch) -> None:
    shadow = EntryPoint("bandit", "nowhere:A", KINDS["domain"].entry_points)
    monkeypatch.setattr(registry, "points_of", lambda what: [shadow])
    assert choose("domain", "bandit").name == "bandit"
    assert registry.known_names("domain") == [*DOMAINS]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("json:dumps", "must be a class, found function"),
        ("json:JSONDecoder", "must be a dataclass that subclasses suite.config.contracts.Domain"),
        ("suite.config.contracts:DomainConfig", "must name its implementation"),
        ("suite.config.contracts:DomainConfg", "did you mean suite.config.contracts:DomainConfig"),
    ],
)
def test_what_cannot_be_a_domain_is_refused_in_a_sentence(name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load(BANDIT, [f"domain.name={name}"])
