"""Reading rows from files, from folders of `datasets` and from the hub."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from suite.config.fields import ConfigError

SHOWN_ROWS = 5  # in an error message

Text = str | list[dict[str, str]]  # or chat messages {"role": …, "content": …}


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


def read_rows(key: str, path: str, split: str) -> Iterator[tuple[str, Any]]:
    """Yield the place and the content of every row; the content of invalid JSON is a BadRow."""
    if path.endswith(".jsonl"):
        with open(path, encoding="utf-8", errors="replace") as file:
            for number, line in enumerate(file, 1):
                if not line.strip():
                    continue
                try:
                    yield f"{path}, line {number}", json.loads(line)
                except ValueError as error:
                    yield f"{path}, line {number}", BadRow(f"not valid JSON: {error}")
        return
    rows = open_dataset(key, path, split)
    for number, row in enumerate(rows, 1):
        # Columns of other kinds of rows are present but empty.
        yield f"{path}, row {number}", {k: v for k, v in row.items() if v is not None}


def open_dataset(key: str, path: str, split: str) -> Any:
    """Open a Parquet file, a folder that `datasets` saved, or a name on the hub."""
    import datasets

    try:
        if path.endswith(".parquet"):
            return datasets.Dataset.from_parquet(path)
        if Path(path).is_dir():
            splits = datasets.load_from_disk(path)
            return splits[split] if isinstance(splits, datasets.DatasetDict) else splits
        return datasets.load_dataset(path, split=split)
    except KeyError:
        raise ConfigError(
            f"{key.rpartition('.')[0]}.split={split}: {path} has {', '.join(splits)}"
        ) from None
    except Exception as error:  # of the network, of the hub, of Arrow
        message = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ConfigError(
            f"{key}={path}: cannot be read as a file, a folder of `datasets` or a name"
            f" on the hub: {message}"
        ) from None


def text_field(row: dict[str, Any], field: str) -> Text:
    """Return a field that holds text or chat messages; raises BadRow."""
    if field not in row:
        raise BadRow(f"{field} is missing")
    value = row[field]
    if isinstance(value, str):
        return value
    if isinstance(value, list) and value and all(
        isinstance(m, dict) and isinstance(m.get("role"), str)
        and isinstance(m.get("content"), str)
        for m in value
    ):  # fmt: skip
        return [{"role": m["role"], "content": m["content"]} for m in value]
    raise BadRow(f"{field} must be text or a list of messages, found {abbreviated(value)}")


def abbreviated(value: Any) -> str:
    """Return a value as short text, for a message."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"
