"""`suite train CONFIG --help`: every key with its type, default and meaning."""

import dataclasses
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from suite.config.loading import load

SMALLEST_WIDTH = 130  # columns that keep a row readable


def print_keys(path: Path, overrides: list[str]) -> None:
    """Print the keys that a configuration file has, with the values it gives them."""
    table = Table(box=None, pad_edge=False)
    for heading in ("key", "type", "default", "here", "meaning"):
        table.add_column(heading, overflow="fold", no_wrap=heading == "key")
    for row in rows(load(path, overrides)):
        table.add_row(*map(Text, row))
    console = Console(width=max(Console().width, SMALLEST_WIDTH))
    console.print(f"Keys of {path}; give any of them as key=value.")
    console.print("`here` is what the file and the overrides make of a key.\n", markup=False)
    console.print(table)


def rows(settings: Any, prefix: str = "") -> Iterator[tuple[str, str, str, str, str]]:
    """Yield name, type, default, value and meaning of every key, group by group."""
    hints = typing.get_type_hints(type(settings))
    for field in dataclasses.fields(settings):
        value, name = getattr(settings, field.name), f"{prefix}{field.name}"
        if dataclasses.is_dataclass(value):
            yield from rows(value, f"{name}.")
            continue
        default = "" if field.default is dataclasses.MISSING else str(field.default)
        default = "required" if default == "???" else default
        here = "" if str(value) == default else str(value)
        meaning = field.metadata.get("meaning", "") + allowed(field.metadata)
        yield name, type_name(hints[field.name]), default, here, meaning


def allowed(metadata: Any) -> str:
    """Describe the range of a key."""
    signs = {"above": ">", "at_least": "≥", "at_most": "≤", "below": "<"}
    parts = [f"{sign} {metadata[bound]}" for bound, sign in signs.items() if bound in metadata]
    return f" ({', '.join(parts)})" if parts else ""


def type_name(hint: Any) -> str:
    """Name a type as a person would write it."""
    arguments = typing.get_args(hint)
    if typing.get_origin(hint) is typing.Literal:
        return " | ".join(str(a) for a in arguments)
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        return " | ".join(type_name(a) for a in arguments)
    return "null" if hint is type(None) else getattr(hint, "__name__", str(hint))
