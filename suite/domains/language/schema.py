"""Rows of feedback: one schema for labels, pairs and scores.

A row is one of

    {"prompt": …, "completion": …, "label": true}                label: true, false, 1, -1 or 0
    {"prompt": …, "chosen": …, "rejected": …}
    {"prompt": …, "completions": […, …], "scores": [0.2, 0.9]}

with an optional "weight" above 0. A completion with label 0 counts in the KL only. Prompts and
completions are text, or lists of chat messages {"role": …, "content": …}. A completion may repeat
the prompt's messages. "tools" and "chat_template_kwargs" go to the chat template.
"""

import math
from typing import Any, NamedTuple

import torch

from suite.config.fields import ConfigError
from suite.domains.language.io import (
    BadRow,
    Text,
    abbreviated,
    raise_for_bad_rows,
    read_rows,
)
from suite.domains.language.messages import answer_of, prompt_field, text_field
from suite.domains.language.offline_config import DataConfig
from suite.feedback.labelling import label_scores

FORMATS = (("completion", "label"), ("chosen", "rejected"), ("completions", "scores"))


class Group(NamedTuple):
    """Completions of one prompt, and the label of each."""

    prompt: Text
    completions: list[Text]
    labels: list[float]  # 1 accepted, −1 rejected, 0 neither
    weight: float
    where: str  # file and line, for messages
    scores: list[float] | None = None  # of rows that have them


def load_rows(path: str, settings: DataConfig, key: str = "path") -> tuple[list[Group], list[str]]:
    """Read all rows; return them, and the messages of bad rows, which are left out.

    Raises ConfigError where there are no rows, or where some are bad and `skip_bad` is not set.
    """
    groups: list[Group] = []
    bad: list[str] = []
    for where, row in read_rows(f"domain.data.{key}", path, *settings.splits(key)):
        try:
            if isinstance(row, BadRow):
                raise row
            groups.append(parse(row, settings, where))
        except BadRow as error:
            bad.append(f"{where}: {error}")
    raise_for_bad_rows(bad, len(bad) + len(groups), settings.skip_bad)
    if not groups:
        raise ConfigError(f"domain.data.{key}={path}: no rows")
    return groups, bad


def parse(row: Any, settings: DataConfig, where: str) -> Group:
    """Return the group of a row; raises BadRow."""
    if not isinstance(row, dict):
        raise BadRow(f"expected an object with fields, found {type(row).__name__}")
    prompt = prompt_field(row)
    weight = row.get("weight", 1.0)
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 < weight < math.inf:
        raise BadRow(f"weight must be a number above 0, found {weight!r}")
    present = [fields for fields in FORMATS if all(field in row for field in fields)]
    if len(present) != 1:
        known = " or ".join(" and ".join(fields) for fields in FORMATS)
        raise BadRow(f"expected {known} beside prompt, found {', '.join(row) or 'nothing'}")
    if present[0] == FORMATS[0]:
        label = parse_label(row["label"])
        prompt, completions = answers(prompt, {"completion": text_field(row, "completion")})
        return Group(prompt, completions, [label], weight, where)
    if present[0] == FORMATS[1]:
        pair = {field: text_field(row, field) for field in FORMATS[1]}
        prompt, completions = answers(prompt, pair)
        return Group(prompt, completions, [1.0, -1.0], weight, where)
    if not isinstance(row["completions"], list) or not row["completions"]:
        raise BadRow(f"completions must be a list, found {abbreviated(row['completions'])}")
    found = [text_field({"completions": item}, "completions") for item in row["completions"]]
    prompt, completions = answers(
        prompt, {f"completions[{number}]": item for number, item in enumerate(found)}
    )
    labels = labels_of_scores(row["scores"], len(completions), settings)
    return Group(prompt, completions, labels, weight, where, [float(s) for s in row["scores"]])


def answers(prompt: Text, completions: dict[str, Text]) -> tuple[Text, list[Text]]:
    """Return the prompt and the answers to it, from completions by field; raises BadRow.

    A prompt of text becomes messages where a completion is the whole conversation.
    """
    parts = [answer_of(prompt, completion, field) for field, completion in completions.items()]
    prompts = [found for found, _ in parts if not isinstance(found, str)]
    if any(found != prompts[0] for found in prompts):
        raise BadRow(f"{' and '.join(completions)} must answer the same messages")
    return prompts[0] if prompts else prompt, [answer for _, answer in parts]


def parse_label(value: Any) -> float:
    """Return a label as 1, −1 or 0; raises BadRow."""
    if isinstance(value, bool):
        return 1.0 if value else -1.0
    if isinstance(value, int | float) and value in (1, -1, 0):
        return float(value)
    raise BadRow(f"label must be true, false, 1, -1 or 0, found {abbreviated(value)}")


def labels_of_scores(scores: Any, count: int, settings: DataConfig) -> list[float]:
    """Return the labels of the completions of a prompt from their scores; raises BadRow."""
    numbers = isinstance(scores, list) and all(
        isinstance(s, int | float) and not isinstance(s, bool) and math.isfinite(s) for s in scores
    )
    if not numbers or len(scores) != count:
        raise BadRow(
            f"scores must be {count} numbers, one per completion, found {abbreviated(scores)}"
        )
    if settings.scores == "ranks" and settings.top + settings.bottom > count:
        raise BadRow(
            f"scores must be at least domain.data.top + domain.data.bottom ="
            f" {settings.top + settings.bottom}, found {count}"
        )
    rule = (settings.scores, settings.threshold, settings.top, settings.bottom)
    labels = label_scores(torch.tensor([scores], dtype=torch.float64), *rule)
    signed: list[float] = (labels.accept - labels.reject)[0].tolist()
    return signed
