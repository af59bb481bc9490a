"""Text from names and files, made safe for pages and spreadsheets."""

import csv
import io
import re
from collections.abc import Iterable, Sequence
from typing import Any

LONGEST = 300  # characters of a sentence from a file
CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
FORMULA = ("=", "+", "-", "@", "\t", "\r")


def clean(text: str) -> str:
    """Return text without control characters, such as ESC, and lone surrogates as `?`."""
    return CONTROL.sub("", text).encode("utf-8", "replace").decode()


def one_line(text: str, longest: int = LONGEST) -> str:
    """Return text as one line that is cut to size."""
    return shortened(" ".join(clean(text[: 4 * longest]).split()), longest)


def shortened(text: str, longest: int) -> str:
    """Return text that is cut after `longest` characters, with its length where it was cut."""
    if len(text) <= longest:
        return text
    return f"{text[:longest]}… ({len(text)} characters)"


def csv_text(columns: Iterable[str], rows: Iterable[Sequence[Any]]) -> str:
    """Return a CSV file whose text cells are no formulas to a spreadsheet."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([csv_cell(name) for name in columns])
    writer.writerows([csv_cell(value) for value in row] for row in rows)
    return text.getvalue()


def csv_cell(value: Any) -> Any:
    """Return text with an apostrophe ahead where a spreadsheet would take it for a formula."""
    if not isinstance(value, str):
        return value
    formula = value.startswith(FORMULA) or value.lstrip().startswith(FORMULA[:4])
    return clean(f"'{value}" if formula else value).replace("\r", " ")
