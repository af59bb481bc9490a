"""Reading rows from files, from folders of Parquet or `datasets`, and from the hub.

All readers give a row the same meaning: a field that is null, or empty in a table, is absent.
"""

import json
import logging
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from suite.config.fields import ConfigError

logger = logging.getLogger(__name__)

SHOWN_ROWS = 5  # in an error message
REPORT_EVERY = 10.0  # seconds between two lines about the progress of a long file
LINES, ARRAY, TABLE = ".jsonl", ".json", ".parquet"
BOM = b"\xef\xbb\xbf"
OTHER_ENCODINGS = (b"\xff\xfe", b"\xfe\xff")  # the marks of UTF-16, and of UTF-32

Text = str | list[dict[str, Any]]  # or chat messages {"role": …, "content": …}
Item = TypeVar("Item")


class BadRow(ValueError):
    """A row that does not fit; the message names the field, its value and the allowed values."""


def raise_for_bad_rows(bad: list[str], count: int, skip: bool | None) -> None:
    """Raise ConfigError with the messages of the first bad rows, unless `skip` is set.

    `skip` is the value of domain.data.skip_bad, or None where that key does not apply.
    """
    if bad and not skip:
        hint = "" if skip is None else "; domain.data.skip_bad=true goes on without them"
        messages = "; ".join(bad[:SHOWN_ROWS])
        raise ConfigError(f"{messages}; {len(bad)} of {count} rows do not fit{hint}")


def with_progress(items: Iterable[Item], what: str) -> Iterator[Item]:
    """Yield the items, and log how many there were at every ten seconds of a long file."""
    told = time.monotonic()
    for number, item in enumerate(items):
        if not number % 1024 and time.monotonic() - told > REPORT_EVERY:
            told = time.monotonic()
            logger.info("%s: %s rows so far", what, f"{number:,}")
        yield item


def read_rows(key: str, path: str, *splits: str) -> Iterator[tuple[str, Any]]:
    """Yield the place and the content of every row; the content of invalid JSON is a BadRow.

    Of `splits`, the first that a folder or a name on the hub has is read. Raises ConfigError where
    the file as a whole cannot be read.
    """
    if path.endswith((LINES, ARRAY)):
        rows = read_lines(key, path) if path.endswith(LINES) else read_array(key, path)
    else:
        table = open_dataset(key, path, splits)
        rows = ((f"{path}, row {number}", row) for number, row in enumerate(table, 1))
    for where, row in with_progress(rows, f"reading {path}"):
        yield where, row if isinstance(row, BadRow) else without_nulls(row)


def read_lines(key: str, path: str) -> Iterator[tuple[str, Any]]:
    """Yield the rows of a file with one row of JSON per line."""
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            if number == 1:
                line = checked_start(key, path, line)
            if line.strip():
                row = parsed(line)
                if number == 1 and isinstance(row, BadRow) and line.lstrip().startswith(b"["):
                    raise ConfigError(
                        f"{key}={path}: holds a JSON array, expected one row per line; name an"
                        " array .json"
                    )
                yield f"{path}, line {number}", row


def read_array(key: str, path: str) -> Iterator[tuple[str, Any]]:
    """Yield the rows of a file that holds one array, or one row per line."""
    content = checked_start(key, path, Path(path).read_bytes())
    if not content.lstrip().startswith(b"["):
        yield from read_lines(key, path)
        return
    rows = parsed(content)
    if isinstance(rows, BadRow):
        raise ConfigError(
            f"{key}={path}: {rows}; expected an array of rows, or a .jsonl file of one row per line"
        )
    yield from ((f"{path}, row {number}", row) for number, row in enumerate(rows, 1))


def checked_start(key: str, path: str, content: bytes) -> bytes:
    """Return content without the byte order mark of UTF-8; raises ConfigError for UTF-16."""
    if content.startswith(OTHER_ENCODINGS):
        raise ConfigError(f"{key}={path}, line 1: is UTF-16 or UTF-32; save the file as UTF-8")
    return content.removeprefix(BOM)


def parsed(content: bytes) -> Any:
    """Return the value of JSON in UTF-8, or a BadRow that says why there is none."""
    try:
        return json.loads(content.decode("utf-8"), object_pairs_hook=unique_fields)
    except UnicodeDecodeError as error:
        found = f"byte 0x{content[error.start]:02x} at position {error.start}"
        return BadRow(f"not valid UTF-8: {found}; save the file as UTF-8")
    except BadRow as error:
        return error
    except (ValueError, RecursionError) as error:
        return BadRow(f"not valid JSON: {error}")


def unique_fields(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return the fields of an object; raises BadRow where one is given twice."""
    fields = dict(pairs)
    if len(fields) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise BadRow(f"the field {abbreviated(twice)} is given twice")
    return fields


def without_nulls(value: Any) -> Any:
    """Return a value without the null fields of its objects: tables have them for every column."""
    if isinstance(value, dict):
        return {name: without_nulls(item) for name, item in value.items() if item is not None}
    return [without_nulls(item) for item in value] if isinstance(value, list) else value


def open_dataset(key: str, path: str, splits: tuple[str, ...]) -> Any:
    """Open a Parquet file, a folder of files or of `datasets`, or a name on the hub."""
    if Path(path).is_file() and not path.endswith(TABLE):
        raise ConfigError(f"{key}={path}: a file must end in {LINES}, {ARRAY} or {TABLE}")
    import datasets

    try:
        if path.endswith(TABLE):
            return datasets.Dataset.from_parquet(path)
        saved = ("state.json", "dataset_dict.json")
        if any((Path(path) / name).exists() for name in saved):
            found = datasets.load_from_disk(path)
            # A saved format would yield arrays or tensors in place of plain values.
            if not isinstance(found, datasets.DatasetDict):
                return found.with_format(None)
            return found[present_split(key, path, splits, list(found))].with_format(None)
        names = datasets.get_dataset_split_names(path) if len(splits) > 1 else list(splits)
        return datasets.load_dataset(path, split=present_split(key, path, splits, names))
    except ConfigError:
        raise
    except Exception as error:  # of the network, of the hub, of Arrow
        message = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ConfigError(
            f"{key}={path}: cannot be read as a file, a folder of `datasets` or a name"
            f" on the hub: {message}"
        ) from None


def present_split(key: str, path: str, splits: tuple[str, ...], names: list[str]) -> str:
    """Return the first of `splits` that is among `names`; raises ConfigError."""
    for split in splits:
        if split in names:
            return split
    section, _, name = key.rpartition(".")
    option = "eval_split" if name == "eval_path" else "split"
    raise ConfigError(f"{section}.{option}={' or '.join(splits)}: {path} has {', '.join(names)}")


def abbreviated(value: Any) -> str:
    """Return a value as short text, for a message."""
    text = repr(value[:200] if isinstance(value, str) else value)
    return text if len(text) <= 60 else f"{text[:57]}…"
