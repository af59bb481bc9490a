"""Prompts from a file, a folder or the hub."""

from collections.abc import Iterator
from zlib import crc32

import torch

from suite.config.fields import ConfigError
from suite.domains.language.io import BadRow, Text, raise_for_bad_rows, read_rows
from suite.domains.language.messages import prompt_field
from suite.domains.language.tasks.arithmetic import HELD_OUT_SHARE


class PromptFile:
    """Prompts of rows `{"prompt": …}`; one in ten, by its checksum, is held out."""

    def __init__(self, path: str, max_new_tokens: int) -> None:
        self.max_new_tokens = max_new_tokens
        rows = list(prompts_in(path))
        messages = [str(row) for row in rows if isinstance(row, BadRow)]
        raise_for_bad_rows(messages, len(rows), skip=None)
        sides: dict[bool, list[Text]] = {False: [], True: []}
        for prompt in rows:
            if not isinstance(prompt, BadRow):
                sides[crc32(repr(prompt).encode()) % HELD_OUT_SHARE == 0].append(prompt)
        if not sides[False] or not sides[True]:
            raise ConfigError(
                f"domain.prompts_path={path}: expected at least a few dozen prompts, to learn from"
                f" and to hold out, found {len(rows)}"
            )
        self.sides = sides

    def prompts(self, count: int, generator: torch.Generator, *, held_out: bool) -> list[Text]:
        """Draw `count` prompts from one side."""
        side = self.sides[held_out]
        return [side[i] for i in torch.randint(len(side), (count,), generator=generator).tolist()]


def prompts_in(path: str) -> Iterator[Text | BadRow]:
    """Yield the prompts of a file, and a BadRow for each row that does not fit."""
    for where, row in read_rows("domain.prompts_path", path, "train"):
        try:
            if isinstance(row, BadRow):
                raise row
            if not isinstance(row, dict):
                raise BadRow(f"expected an object with fields, found {type(row).__name__}")
            yield prompt_field(row)
        except BadRow as error:
            yield BadRow(f"{where}: {error}")
