"""Collect the sources of the site in build/docs: pages, the files they link to, the API reference.

Pages link to files of the repository by relative paths, as the file viewer of a repository needs
them. A site can only show what lies in its own folder. Here each linked file outside docs/ is
copied to `repository/` of the site, and the links of all pages are changed to match. A link to a
missing file ends the build. The site's generator checks the links between pages and the anchors.
"""

import os
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
PAGES = ROOT / "docs"
PACKAGE = ROOT / "suite"
OUT = ROOT / "build/docs"
# Code comes first, so that what looks like a link in it stays as it is.
LINK = re.compile(
    r"^(?P<indent> *)```.*?^(?P=indent)```|`[^`\n]+`|\]\((?P<target>[^)\s]+)\)", re.M | re.S
)


class BrokenLink(Exception):
    """A page links to a file that is not there, or to a folder."""


def main() -> int:
    """Write the sources; return the exit code."""
    shutil.rmtree(OUT, ignore_errors=True)
    settings = yaml.safe_load((PAGES / "site/mkdocs.yml").read_text(encoding="utf-8"))
    try:
        copy_pages(pages_of(settings["nav"]), OUT / "pages")
    except BrokenLink as error:
        print(f"docs: {error}", file=sys.stderr)
        return 1
    shutil.copy(PAGES / "site/site.css", OUT / "pages")
    settings["nav"].append({"API reference": write_api(OUT / "pages")})
    (OUT / "mkdocs.yml").write_text(yaml.safe_dump(settings, sort_keys=False), encoding="utf-8")
    return 0


def pages_of(nav: list[dict[str, Any]]) -> list[Path]:
    """Return the pages that the site's navigation names.

    Raises BrokenLink where one is missing, or where a page of docs/ is not named.
    """
    pages = {source_of(name) for name in names_of(nav)}
    wrong = {path for path in pages if not path.is_file()} | (set(PAGES.glob("*.md")) - pages)
    if wrong:
        names = ", ".join(sorted(str(path.relative_to(ROOT)) for path in wrong))
        raise BrokenLink(f"missing as a file or in nav of docs/site/mkdocs.yml: {names}")
    return sorted(pages)


def names_of(nav: list[dict[str, Any]]) -> Iterator[str]:
    """Yield the places of pages that the site's navigation names."""
    for entry in nav:
        for value in entry.values():
            if isinstance(value, list):
                yield from names_of(value)
            else:
                yield value


def source_of(name: str) -> Path:
    """Return the file of the repository that a place on the site shows."""
    path = Path(name)
    if path.parts[0] == "repository":
        return ROOT.joinpath(*path.parts[1:])
    return PAGES / path


def place(source: Path) -> Path:
    """Return the path of a file of the repository on the site."""
    if source.is_relative_to(PAGES):
        return source.relative_to(PAGES)
    return Path("repository") / source.relative_to(ROOT)


def copy_pages(pages: list[Path], out: Path) -> None:
    """Copy pages and all files that they link to, directly or through other pages.

    Raises BrokenLink.
    """
    waiting, done = list(pages), set(pages)
    while waiting:
        source = waiting.pop()
        copy = out / place(source)
        copy.parent.mkdir(parents=True, exist_ok=True)
        if source.suffix != ".md":
            shutil.copy(source, copy)
            continue
        text, linked = with_new_links(source.read_text(encoding="utf-8"), source)
        copy.write_text(text, encoding="utf-8")
        waiting += [path for path in linked if path not in done]
        done |= set(linked)


def with_new_links(text: str, source: Path) -> tuple[str, list[Path]]:
    """Return a page's text with links for the site, and the files that it links to.

    Raises BrokenLink.
    """
    linked: dict[Path, None] = {}

    def change(found: re.Match[str]) -> str:
        target = found["target"]
        if target is None or "://" in target or target.startswith("#"):
            return found[0]
        name, mark, anchor = target.partition("#")
        path = (source.parent / name).resolve()
        if not path.is_file() or not path.is_relative_to(ROOT):
            raise BrokenLink(f"{source.relative_to(ROOT)} links to {target}: no such file")
        linked[path] = None
        return f"]({os.path.relpath(place(path), place(source).parent)}{mark}{anchor})"

    return LINK.sub(change, text), list(linked)


def write_api(out: Path) -> list[dict[str, str]]:
    """Write a page for each package of the suite, and a list of them; return their places."""
    (out / "api").mkdir(parents=True)
    nav, rows = [{"Packages": "api/index.md"}], []
    for folder in sorted({path.parent for path in PACKAGE.rglob("__init__.py")}):
        package = ".".join(folder.relative_to(ROOT).parts)
        modules = [package, *(f"{package}.{path.stem}" for path in sorted(folder.glob("[!_]*.py")))]
        text = "\n\n".join([f"# {package}", *(f"::: {module}" for module in modules)])
        (out / f"api/{package}.md").write_text(f"{text}\n", encoding="utf-8")
        nav.append({package: f"api/{package}.md"})
        links = ", ".join(f"[`{name.rpartition('.')[2]}`][{name}]" for name in modules[1:])
        rows.append(f"| [`{package}`]({package}.md) | {links} |")
    table = "\n".join(["| package | modules |", "|---|---|", *rows])
    intro = "# API reference\n\nMade from the docstrings of the package `suite`.\n\n"
    (out / "api/index.md").write_text(f"{intro}{table}\n", encoding="utf-8")
    return nav


if __name__ == "__main__":
    sys.exit(main())
