"""The claims' page, their figures, and the README's section: made from records alone."""

import re
from pathlib import Path
from typing import Any

from suite.config.fields import ConfigError
from suite.paper.claims import FULL, Claim, folder, load_claims
from suite.paper.drawing import save_figure
from suite.paper.judging import OPEN, Verdict
from suite.paper.records import load_records
from suite.report.records import RunRecord
from suite.report.templates import render
from suite.system.files import write_text

README = Path("README.md")
RESULTS = Path("results")  # the README shows the claims of this folder
SECTION = re.compile(
    r"(<!-- claims: `make claims-report` writes this -->\n).*?(<!-- /claims -->)", re.S
)


def write_page(results: Path, size: str) -> Path:
    """Write the page and figures of a size, and for the full size the README's section.

    Returns the page's path. Raises ConfigError where there are no records, and where the README
    lacks the marks of its section.
    """
    where = folder(results, size)
    if not any(where.glob("*.jsonl")):
        raise ConfigError(f"{where}: no records there; `suite claims` makes them")
    rows = [row_of(claim, where, size) for claim in load_claims()]
    write_text(where / "README.md", render("claims.md.j2", {"rows": rows, "size": size}))
    if size == FULL and results == RESULTS and README.exists():
        write_section(rows)
    return where / "README.md"


def row_of(claim: Claim, where: Path, size: str) -> dict[str, Any]:
    """Judge a claim from its records, draw its figure, and return what the page shows of it."""
    by_sweep = load_records(claim.sweeps, where, size)
    verdict = claim.judge(by_sweep)
    if size == "small" and verdict != OPEN:
        verdict = verdict._replace(word="too small to judge")
    records = [record for of_sweep in by_sweep.values() for record in of_sweep]
    verdict = with_missing(verdict, records)
    if verdict != OPEN:
        save_figure(claim.draw(by_sweep), where / "figures" / f"{claim.name}.png")
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


def with_missing(verdict: Verdict, records: list[RunRecord]) -> Verdict:
    """Add to a verdict's sentence how many runs it is of, where some did not finish."""
    counted = sum(record.counts for record in records)
    if verdict == OPEN or counted == len(records):
        return verdict
    failed = sum(record.state == "failed" for record in records)
    left_out = len(records) - counted - failed
    parts = [f"{failed} failed" if failed else "", f"{left_out} are left out" if left_out else ""]
    text = f" This is of {counted} of {len(records)} runs: {', '.join(p for p in parts if p)}."
    return verdict._replace(sentence=verdict.sentence + text)


def commits(records: list[RunRecord]) -> list[str]:
    """Return the short commits that the runs were made at, each with its mark of local changes."""
    return sorted({record.commit[:7] + record.commit[12:] for record in records if record.commit})


def write_section(rows: list[dict[str, Any]]) -> None:
    """Replace the README's section about the claims; raises ConfigError without its marks."""
    text = README.read_text(encoding="utf-8")
    if not SECTION.search(text):
        raise ConfigError(f"{README}: lacks the marks of the claims' section, <!-- claims: … -->")
    section = render("claims_section.md.j2", {"rows": rows})
    changed = SECTION.sub(lambda match: f"{match[1]}{section}{match[2]}", text)
    if changed != text:
        write_text(README, changed)
