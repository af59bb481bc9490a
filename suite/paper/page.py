"""The claims' page, their figures, and the README's section: made from records alone."""

import re
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from suite.config.fields import ConfigError
from suite.paper.claims import FULL, Claim, folder, kept, load_claims
from suite.paper.drawing import DRAWINGS, save
from suite.paper.verdicts import OPEN, judge
from suite.report.records import RunRecord
from suite.system.files import write_text

README = Path("README.md")
RESULTS = Path("results")  # whose claims the README tells
SECTION = re.compile(
    r"(<!-- claims: `make claims-report` writes this -->\n).*?(<!-- /claims -->)", re.S
)


def write_page(results: Path, size: str) -> Path:
    """Write page and figures of a size, and for the full one the README's section."""
    where = folder(results, size)
    if not any(where.glob("*.jsonl")):
        raise ConfigError(f"{where}: no records there; `suite claims` makes them")
    rows = [row_of(claim, where, size) for claim in load_claims()]
    text = template("claims.md.j2").render(rows=rows, size=size)
    write_text(where / "README.md", text)
    if size == FULL and results == RESULTS and README.exists():
        write_section(rows)
    return where / "README.md"


def row_of(claim: Claim, where: Path, size: str) -> dict[str, object]:
    """Judge a claim from its records, and draw its figure."""
    runs = kept(claim, where)
    verdict = judge(claim.name, runs)
    if size == "small" and verdict != OPEN:
        verdict = verdict._replace(word="too small to judge")
    records = [record for found in runs.values() for record in found]
    if verdict != OPEN:
        save(DRAWINGS[claim.name](runs), where / "figures" / f"{claim.name}.png")
    return {
        "claim": claim,
        "verdict": verdict,
        "measured": verdict != OPEN,
        "runs": len(records),
        "failed": [r for r in records if r.state == "failed"],
        "seeds": len({r.seed for r in records}),
        "commits": commits(records),
        "command": f"make claims CLAIM={claim.name}" + ("" if size == FULL else f" SIZE={size}"),
    }


def commits(records: list[RunRecord]) -> list[str]:
    """Return the commits that runs were made at."""
    return sorted({record.commit[:7] + record.commit[12:] for record in records if record.commit})


def template(name: str):  # type: ignore[no-untyped-def]
    """Return a template of text."""
    environment = Environment(
        loader=PackageLoader("suite.report"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(name)


def write_section(rows: list[dict[str, object]]) -> None:
    """Replace the README's section about the claims; raises ConfigError without its marks."""
    text = README.read_text(encoding="utf-8")
    if not SECTION.search(text):
        raise ConfigError(f"{README}: lacks the marks of the claims' section, <!-- claims: … -->")
    section = template("claims_section.md.j2").render(rows=rows)
    changed = SECTION.sub(lambda found: f"{found[1]}{section}{found[2]}", text)
    if changed != text:
        write_text(README, changed)
