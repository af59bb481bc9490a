"""Rows of every kind, for the tests of reading them and of learning from them."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

GOOD = {"prompt": "p", "completion": "c", "label": 1}


def message(role: str, content: str) -> list[dict[str, str]]:
    return [{"role": role, "content": content}]


def labelled(chat: bool) -> Iterable[dict[str, Any]]:
    for i, value in enumerate([True, False, 1, -1, 0, True, False, 1]):
        prompt, answer = f"is {'abc'[i % 3]} ok?", " yes" * (1 + i % 3)
        yield {
            "prompt": message("user", prompt) if chat else prompt,
            "completion": message("assistant", answer) if chat else answer,
            "label": value,
            "weight": 1 + i % 2,
        }


def paired(chat: bool) -> Iterable[dict[str, Any]]:
    for i in range(6):
        prompt = f"is {'abc'[i % 3]} ok?"
        yield {
            "prompt": message("user", prompt) if chat else prompt,
            "chosen": message("assistant", " yes") if chat else " yes",
            "rejected": message("assistant", " no way") if chat else " no way",
        }


def scored(chat: bool) -> Iterable[dict[str, Any]]:
    for i in range(6):
        prompt = f"is {'abc'[i % 3]} ok?"
        answers = [" yes", " no", " well"]
        yield {
            "prompt": message("user", prompt) if chat else prompt,
            "completions": [message("assistant", a) if chat else a for a in answers],
            "scores": [1.0, 0.0, 0.2 * i],
        }


def write_rows(path: Path, rows: Iterable[Any]) -> Path:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path
