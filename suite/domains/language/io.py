"""Reading rows from files, folders of `datasets` and the hub; what does not fit is named."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from suite.config.fields import ConfigError

MOST_TOLD = 5

Text = str | list[dict[str, str]]  # or chat messages {"role": …, "content": …}


class BadRow(ValueError):
    """A row that does not fit; the message names the field, what was found, what is allowed."""


def refuse(bad: list[str], count: int, skip: bool | None) -> None:
    """Raise ConfigError naming the first of the bad rows, unless there is a key that skips them."""
    if bad and not skip:
        hint = "" if skip is None else "; domain.data.skip_bad=true goes on without them"
        told = "; ".join(bad[:MOST_TOLD])
        raise ConfigError(f"{told}; {len(bad)} of {count} rows do not fit{hint}")


def read(key: str, path: str, split: str) -> Iterator[tuple[str, Any]]:
    """Yield where every row stands, and what is there; a line that is no JSON is a BadRow."""
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
    rows = table(key, path, split)
    for number, row in enumerate(rows, 1):
        # Columns of other kinds of rows are there too, empty.
        yield f"{path}, row {number}", {k: v for k, v in row.items() if v is not None}


def table(key: str, path: str, split: str) -> Any:
    """Open a Parquet file, a folder that `datasets` saved, or a name on the hub."""
    import datasets

    try:
        if path.endswith(".parquet"):
            return datasets.Dataset.from_parquet(path)
        if Path(path).is_dir():
            found = datasets.load_from_disk(path)
            return found[split] if isinstance(found, datasets.DatasetDict) else found
        return datasets.load_dataset(path, split=split)
    except KeyError:
        raise ConfigError(
            f"{key.rpartition('.')[0]}.split={split}: {path} has {', '.join(found)}"
        ) from None
    except Exception as error:  # of the network, of the hub, of Arrow
        what = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ConfigError(
            f"{key}={path}: cannot be read as a file, a folder of `datasets` or a name"
            f" on the hub: {what}"
        ) from None


def text(row: dict[str, Any], field: str) -> Text:
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
    raise BadRow(f"{field} must be text or a list of messages, found {shown(value)}")


def shown(value: Any) -> str:
    """Return a value for a message, cut short."""
    whole = repr(value)
    return whole if len(whole) <= 60 else f"{whole[:57]}…"
