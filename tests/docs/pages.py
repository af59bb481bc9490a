"""The pages of the repository, and the commands and code on them."""

import re
from pathlib import Path
from typing import NamedTuple

from tests.conftest import ROOT

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PAGES += [ROOT / "slurm/README.md", ROOT / "CONTRIBUTING.md"]
# Also the code blocks in items of a list, which are indented.
BLOCK = re.compile(r"^( *)```(\w*)\n(.*?)^\1```", re.M | re.S)


class Block(NamedTuple):
    """A code block of a page."""

    language: str
    text: str


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def blocks(page: Path) -> list[Block]:
    return [
        Block(language, re.sub(rf"^{indent}", "", text, flags=re.M))
        for indent, language, text in BLOCK.findall(page.read_text())
    ]


def commands(page: Path) -> list[str]:
    """The commands of a page's shell blocks, without comments."""
    lines = [
        line.partition(" #")[0].strip()
        for block in blocks(page)
        if block.language in ("sh", "bash")
        for line in block.text.splitlines()
    ]
    return [line for line in lines if line]


def spans(page: Path) -> list[str]:
    """What stands in backticks within a page's text."""
    found = re.findall(r"`([^`]+)`", BLOCK.sub("", page.read_text()))
    return [" ".join(span.split()) for span in found]


def mentioned(page: Path) -> list[str]:
    """The commands within a page's text."""
    return [span for span in spans(page) if re.match(r"(make|suite)\b(?!/)", span)]


def files(page: Path) -> dict[str, str]:
    """The code blocks that are files: their first line is a comment with the path."""
    named = {}
    for block in blocks(page):
        if match := re.match(r"# (\S+\.(?:py|yaml|toml))\n", block.text):
            named[match[1]] = block.text
    return named
