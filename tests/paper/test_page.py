"""The claims' page: made from records alone, whichever way the claims fall."""

import dataclasses
from pathlib import Path

import pytest

from suite.config.fields import ConfigError
from suite.paper import page
from suite.paper.claims import MODULES, load_claims
from suite.paper.records import load_records
from suite.report.records import RunRecord, line_values, read_records, write_records
from suite.system.files import write_text
from tests.conftest import ROOT
from tests.paper.made_records import HOLDING


def store_all(folder: Path) -> None:
    """Store records of every claim in a results folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for by_sweep in HOLDING.values():
        for sweep, records in by_sweep.items():
            write_records(folder / f"{sweep}.jsonl", records)


def test_page_figures_and_readme_are_made_from_records_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = tmp_path / "results/claims"
    where.mkdir(parents=True)
    store_all(where)
    readme = tmp_path / "README.md"
    mark = "<!-- claims: `make claims-report` writes this -->"
    readme.write_text(f"before\n{mark}\nOutdated.\n<!-- /claims -->\nafter\n")
    monkeypatch.setattr(page, "README", readme)
    page.write_page(tmp_path / "results", "full")
    assert "Outdated" in readme.read_text(), "it tells the project's own results alone"
    monkeypatch.setattr(page, "RESULTS", tmp_path / "results")
    text = page.write_page(tmp_path / "results", "full").read_text()
    for name in MODULES:
        assert (where / f"figures/{name}.png").read_bytes()[:4] == b"\x89PNG"
        assert f"| [{name}](#{name.lower()})" in text
    section = readme.read_text()
    assert section.startswith("before\n")
    assert section.endswith("<!-- /claims -->\nafter\n")
    assert "Outdated" not in section
    assert "| P1 | On bandits every kind of feedback optimises" in section
    # Made again, it is the same.
    page.write_page(tmp_path / "results", "full")
    assert readme.read_text() == section


def test_a_readme_without_marks_and_results_without_records_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match="no records there; `suite claims` makes them"):
        page.write_page(tmp_path, "full")
    (tmp_path / "claims").mkdir()
    store_all(tmp_path / "claims")
    write_text(tmp_path / "README.md", "nothing")
    monkeypatch.setattr(page, "README", tmp_path / "README.md")
    monkeypatch.setattr(page, "RESULTS", tmp_path)
    with pytest.raises(ConfigError, match="lacks the marks of the claims' section"):
        page.write_page(tmp_path, "full")


def test_the_committed_page_is_what_the_committed_records_say(tmp_path: Path) -> None:
    committed = ROOT / "results/claims"
    for path in committed.glob("*.jsonl"):
        records = read_records(path)
        assert records, path
        assert all(line_values(r)["evaluations"] for r in records)
        assert not [r.name for r in records if not r.commit or r.commit.endswith("+changes")]
    text = (committed / "README.md").read_text()
    for claim in load_claims():
        records_of_claim = load_records(claim.sweeps, committed, "full")
        assert claim.judge(records_of_claim).sentence in text


def without_last_variant(records: list[RunRecord]) -> list[RunRecord]:
    """Let all runs of one variant fail."""
    lost = records[-1].variant
    return [dataclasses.replace(r, state="failed") if r.variant == lost else r for r in records]


def test_a_variant_whose_runs_all_failed_leaves_a_page(tmp_path: Path) -> None:
    (tmp_path / "claims").mkdir()
    for by_sweep in HOLDING.values():
        for sweep, records in by_sweep.items():
            write_records(tmp_path / f"claims/{sweep}.jsonl", without_last_variant(records))
    text = page.write_page(tmp_path, "full").read_text()
    assert "runs failed, and count as unstable" in text
