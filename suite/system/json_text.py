"""JSON that every parser reads: numbers that are not finite are written as strings.

JSON has no NaN and no infinity. They are written as `"NaN"`, `"Infinity"` and `"-Infinity"`, as
Protocol Buffers' JSON does; pandas reads such columns as numbers. Files of earlier versions hold
the bare words, which Python still reads.
"""

import json
import math
from typing import Any

NOT_FINITE = {text: float(text) for text in ("NaN", "Infinity", "-Infinity")}


def json_text(values: Any, indent: int | None = None) -> str:
    """Return values as JSON; raises TypeError for what JSON cannot hold."""
    try:
        return json.dumps(values, indent=indent, allow_nan=False)
    except ValueError:
        return json.dumps(with_words(values), indent=indent, allow_nan=False)


def with_words(value: Any) -> Any:
    """Return a value with words in place of numbers that are not finite, at any depth."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, dict):
        return {with_words(name): with_words(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [with_words(each) for each in value]
    return value


def with_numbers(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row of numbers with numbers in place of the three words."""
    return {
        name: NOT_FINITE.get(value, value) if isinstance(value, str) else value
        for name, value in row.items()
    }
