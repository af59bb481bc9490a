"""Cluster profiles: typed, checked, documented; no SLURM is needed."""

import dataclasses
from pathlib import Path

import pytest

from suite.config.fields import ConfigError
from suite.sweeps.slurm_profile import Profile, load_profile
from tests.conftest import ROOT


def profile(folder: Path, text: str) -> Profile:
    path = folder / "site.yaml"
    path.write_text(text)
    return load_profile(str(path))


@pytest.mark.parametrize("path", sorted((ROOT / "slurm").glob("*.yaml")), ids=lambda p: p.stem)
def test_every_committed_profile_loads(path: Path) -> None:
    assert load_profile(str(path)).scheduler == ("none" if path.stem == "local" else "slurm")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("partitoin: gpu", r"site.yaml: unknown key partitoin; did you mean partition\?"),
        ("minutes: soon", r"site.yaml: minutes: .*soon"),
        ("gpus: some", r"gpus must be a number, or a type and a number as in h100:1; found 'some'"),
        ("runs_per_job: 0", r"runs_per_job must be at least 1, found 0"),
        ("side_by_side: 2", r"side_by_side=2 must be at most runs_per_job=1"),
        ("minutes: 2", r"notice_seconds=120 must be less than the limit of minutes=2"),
        ("options: fast", r"options must map sbatch options to values, found 'fast'"),
        ("minutes: [", r"site.yaml, line \d: not valid YAML"),
    ],
)
def test_a_mistake_in_a_profile_is_one_sentence(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        profile(tmp_path, text)


def test_an_unknown_profile_lists_the_known_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    with pytest.raises(ConfigError, match=r"slurm/h200.yaml: no such file; .* h100, local, test"):
        load_profile("h200")


def test_the_readme_explains_every_key() -> None:
    text = (ROOT / "slurm/README.md").read_text()
    for field in dataclasses.fields(Profile):
        assert f"`{field.name}`" in text
