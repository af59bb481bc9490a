"""Write docs/configuration.md: every key of every domain and objective, from the dataclasses."""

import dataclasses
import typing
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from suite.config.help import allowed, type_name
from suite.config.registry import DOMAINS, OBJECTIVES, choose
from suite.config.schema import Config

PAGE = Path(__file__).resolve().parents[1] / "configuration.md"
INTRO = """# Configuration

<!-- docs/site/configuration.py writes this page from the dataclasses; `make docs` calls it. -->

A configuration is a YAML file such as [configs/bandit/sphere.yaml](../configs/bandit/sphere.yaml).
It holds only what differs from the defaults on this page. Each key can also be given on the
command line as `key=value`, which overrides the file:

```sh
suite train configs/bandit/sphere.yaml feedback=negative objective.beta=2 seed=3
suite train configs/bandit/sphere.yaml --help
```

`--help` behind a file lists its keys, with the values that the file gives them. An unknown key, a
wrong type or a value outside its range is an error before anything starts. The message names the
nearest key or the allowed range.

The name of a run's folder ends with the **signature** of its configuration: twelve digits that
follow from all keys except `sweep`, `results_dir`, `logging.*`, `trainer.devices`,
`trainer.num_nodes` and `trainer.strategy`. Equal signatures mean equal runs.

Sweep files are described in [Sweeps](sweeps.md#sweep-files), cluster profiles in
[SLURM](../slurm/README.md#profiles).
"""


def page() -> str:
    """Return the text of the page."""
    groups = dict(groups_of(Config))
    plain = [row for row in rows(Config) if "." not in row[0]]
    parts = [INTRO, "## Every run\n", table(plain)]
    for name, kind in groups.items():
        parts += section(f"### `{name}`", kind, f"{name}.")
    parts += ["## Domains\n\n`domain.name` chooses the domain and so the other keys of `domain`.\n"]
    for name in DOMAINS:
        kind = choose("domain", name).settings
        parts += section(f"### `domain.name: {name}`", kind, "domain.")
    parts += ["## Objectives\n\n`objective.name` chooses the objective; the default is `pmpo`.\n"]
    for name in OBJECTIVES:
        kind = choose("objective", name).settings
        parts += section(f"### `objective.name: {name}`", kind, "objective.")
    return "\n".join(parts)


def section(heading: str, kind: type, prefix: str) -> list[str]:
    """Return a heading, the first sentence of a settings class, and the table of its keys."""
    sentence = (kind.__doc__ or "").splitlines()[0]
    return [f"{heading}\n", f"{sentence}\n", table(rows(kind, prefix))]


def table(lines: Iterable[list[str]]) -> str:
    """Return a table of keys."""
    head = ["| key | type | default | range | meaning |", "|---|---|---|---|---|"]
    return "\n".join([*head, *(f"| {' | '.join(row)} |" for row in lines)]) + "\n"


def groups_of(kind: type) -> Iterator[tuple[str, type]]:
    """Yield the groups of keys in a settings class."""
    for name, hint in typing.get_type_hints(kind).items():
        if isinstance(hint, type) and dataclasses.is_dataclass(hint):
            yield name, hint


def rows(kind: type, prefix: str = "") -> Iterator[list[str]]:
    """Yield key, type, default, range and meaning of every key of a settings class."""
    hints, groups = typing.get_type_hints(kind), dict(groups_of(kind))
    for field in dataclasses.fields(kind):
        hint, name = hints[field.name], f"{prefix}{field.name}"
        if field.name in groups:
            yield from rows(groups[field.name], f"{name}.")
            continue
        if hint is Any:  # a domain or an objective, which have tables of their own
            continue
        bounds = allowed(field.metadata).strip(" ()")
        meaning = str(field.metadata.get("meaning", "")).replace("|", "\\|")
        yield [f"`{name}`", types(hint), default(field), bounds, meaning]


def types(hint: Any) -> str:
    """Return a type's names, or the values to choose from."""
    return ", ".join(f"`{name}`" for name in type_name(hint).split(" | "))


def default(field: "dataclasses.Field[Any]") -> str:
    """Return a key's default as YAML has it."""
    if field.default in (dataclasses.MISSING, "???"):
        return ""
    known = {None: "null", True: "true", False: "false"}
    value = field.default
    plain = known[value] if value is None or isinstance(value, bool) else value
    return f"`{plain}`"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
