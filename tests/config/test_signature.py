"""Signatures: which changes of the settings give a run another name."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import pytest

from suite.config.fields import key, section
from suite.config.loading import load
from suite.config.schema import Config
from suite.config.signature import sign
from suite.domains.bandit.online_config import BanditConfig

SPHERE = Path("configs/bandit/sphere.yaml")


@dataclass
class LaterSection:
    """Keys of a later version."""

    depth: int = key(3, "a later key of a section")


@dataclass
class LaterDomain(BanditConfig):
    """The domain as a later version has it."""

    extra: float = key(0.0, "a later key")
    later: LaterSection = section(LaterSection, "a later section")


@dataclass
class LaterConfig(Config):
    """All settings as a later version has them."""

    extra: int = key(7, "a later key")


def later(config: Config, **changes: object) -> Config:
    """Return a configuration as a later version would load it, with some keys changed."""
    domain = LaterDomain(**vars(config.domain))
    values = {f.name: getattr(config, f.name) for f in dataclasses.fields(config)}
    return LaterConfig(**values | {"domain": domain} | changes)


def test_new_keys_with_their_defaults_leave_a_run_its_name() -> None:
    config = load(SPHERE)
    assert sign(later(config)) == sign(config)
    assert sign(later(config, extra=8)) != sign(config)


@pytest.mark.parametrize(("field", "value"), [("extra", 0.5), ("later", LaterSection(depth=4))])
def test_a_new_key_counts_where_it_was_changed(field: str, value: object) -> None:
    config = load(SPHERE)
    changed = later(config)
    setattr(changed.domain, field, value)
    assert sign(changed) != sign(config)


def test_a_new_revision_gives_runs_another_name(monkeypatch: pytest.MonkeyPatch) -> None:
    config = load(SPHERE)
    before = config.signature
    monkeypatch.setattr(type(config.domain), "revision", 2)
    assert config.signature != before
