"""The site's sources: links, keys and words on the pages, the generated page, the citation."""

import dataclasses
import re
import runpy
import typing
from pathlib import Path

import pytest
import yaml

from suite.config.registry import DOMAINS, OBJECTIVES, choose
from suite.config.schema import Config
from suite.sweeps.spec import FILE_KEYS, ReportSettings
from tests.conftest import ROOT
from tests.docs.pages import PAGES, name_of, spans

CONFIGURATION = runpy.run_path(str(ROOT / "docs/site/configuration.py"))
STAGE = runpy.run_path(str(ROOT / "docs/site/stage.py"))
GROUPS = "domain|feedback|labels|objective|optimizer|reference|trainer|logging|report"


def known_keys() -> set[str]:
    """All keys of runs and of reports, and the groups that they stand in."""
    rows = CONFIGURATION["rows"]
    found = {row[0].strip("`") for row in rows(Config)}
    for group, names in (("domain", DOMAINS), ("objective", OBJECTIVES)):
        kinds = [choose(group, name).settings for name in names]
        found |= {row[0].strip("`") for kind in kinds for row in rows(kind, f"{group}.")}
    found |= {f"report.{field.name}" for field in dataclasses.fields(ReportSettings)}
    return found | {".".join(k.split(".")[:n]) for k in found for n in (1, 2) if k.count(".") >= n}


def test_the_page_of_keys_is_that_of_the_dataclasses() -> None:
    text = (ROOT / "docs/configuration.md").read_text()
    assert text == CONFIGURATION["page"](), "`make docs` writes it"
    assert text.count("| `") > 150


def test_the_page_of_keys_tells_type_default_range_and_meaning() -> None:
    @dataclasses.dataclass
    class Settings:
        rate: float | None = dataclasses.field(
            default=None, metadata={"meaning": "how fast", "above": 0, "at_most": 1}
        )
        kind: typing.Literal["a", "b"] = dataclasses.field(
            default="a", metadata={"meaning": "which | what"}
        )

    rows = list(CONFIGURATION["rows"](Settings, "x."))
    assert rows == [
        ["`x.rate`", "`float`, `null`", "`null`", "> 0, ≤ 1", "how fast"],
        ["`x.kind`", "`a`, `b`", "`a`", "", "which \\| what"],
    ]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_key_on_a_page_exists(page: Path) -> None:
    named = {
        match[1]
        for span in spans(page)
        for match in re.finditer(rf"(?:^| )((?:{GROUPS})(?:\.\w+)+)", span)
    }
    files = {name for name in named if name.endswith((".html", ".md", ".py", ".yaml"))}
    assert sorted(named - files - known_keys()) == []


def test_the_page_of_sweeps_tells_every_key_of_a_sweep_file() -> None:
    text = (ROOT / "docs/sweeps.md").read_text()
    names = [f"report.{field.name}" for field in dataclasses.fields(ReportSettings)]
    names += [name for name in FILE_KEYS if name != "report"]
    assert [name for name in names if f"`{name}`" not in text] == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    text, linked = STAGE["with_new_links"](page.read_text(), page)
    assert all(path.is_file() for path in linked)
    if page == ROOT / "README.md":
        assert len(linked) > 15
    assert "](../results" not in text, "only links within the site are left"


def test_the_site_has_every_page_and_every_package() -> None:
    nav = yaml.safe_load((ROOT / "docs/site/mkdocs.yml").read_text())["nav"]
    assert {ROOT / "docs/index.md", ROOT / "slurm/README.md"} <= set(STAGE["pages_of"](nav))


def test_a_page_that_the_navigation_lacks_is_told() -> None:
    with pytest.raises(STAGE["BrokenLink"], match=r"docs/bandits\.md"):
        STAGE["pages_of"]([{"Start": "index.md"}])


def test_links_out_of_docs_lead_to_copies(tmp_path: Path) -> None:
    page = ROOT / "docs/theory.md"
    text = "[a](../results/LOG.md#x) `[b](c)` ![d](report.png) [e](https://e.org) [f](#g)"
    changed, linked = STAGE["with_new_links"](text, page)
    assert changed == text.replace("../results", "repository/results")
    assert linked == [ROOT / "results/LOG.md", ROOT / "docs/report.png"]
    back, _ = STAGE["with_new_links"]("[a](../docs/theory.md)", ROOT / "slurm/README.md")
    assert back == "[a](../../theory.md)"
    STAGE["copy_pages"]([ROOT / "docs/labels.md"], tmp_path)
    assert (tmp_path / "repository/results/claims/figures/labels.png").is_file()


@pytest.mark.parametrize("target", ["nowhere.md", "../results", "/etc/hostname", "no.png"])
def test_a_broken_link_ends_the_build(target: str) -> None:
    with pytest.raises(STAGE["BrokenLink"], match=f"docs/theory.md links to {target}"):
        STAGE["with_new_links"](f"see [it]({target})", ROOT / "docs/theory.md")


def test_the_reference_has_a_page_for_each_package(tmp_path: Path) -> None:
    nav = STAGE["write_api"](tmp_path)
    modules = {p for p in (ROOT / "suite").rglob("*.py") if not p.stem.startswith("_")}
    written = "".join(path.read_text() for path in (tmp_path / "api").glob("suite*.md"))
    named = re.findall(r"^::: (\S+)$", written, re.M)
    assert len(nav) == 1 + len(list((ROOT / "suite").rglob("__init__.py")))
    assert {".".join(p.relative_to(ROOT).with_suffix("").parts) for p in modules} <= set(named)


def test_the_citation_has_what_the_format_requires() -> None:
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert {"cff-version", "message", "title", "authors"} <= set(cited)
    assert cited["cff-version"] == "1.2.0"
    assert all("name" in a or {"family-names", "given-names"} <= set(a) for a in cited["authors"])
    project = (ROOT / "pyproject.toml").read_text()
    assert f'version = "{cited["version"]}"' in project
    assert f'license = "{cited["license"]}"' in project
    (paper,) = cited["references"]
    assert paper["url"].endswith("2410.04166")


def test_contributing_is_short() -> None:
    assert len((ROOT / "CONTRIBUTING.md").read_text().splitlines()) <= 30
