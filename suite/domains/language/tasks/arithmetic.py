"""Addition and subtraction of whole numbers: the completion of `12+345=` is `357`."""

import zlib

import torch

from suite.domains.language.io import Text

HELD_OUT_SHARE = 10  # one prompt in ten


class Arithmetic:
    """Prompts such as `12-345=`; a completion scores 1 if it is exactly the result."""

    alphabet = "0123456789+-="

    def __init__(self, digits: int) -> None:
        self.largest = 10**digits - 1
        self.max_new_tokens = digits + 2  # a minus sign or a carried digit, and the end token

    def prompts(self, count: int, generator: torch.Generator, *, held_out: bool) -> list[Text]:
        """Draw `count` prompts from one side of the fixed split into training and held-out ones."""
        prompts: list[Text] = []
        while len(prompts) < count:
            left, right = torch.randint(self.largest + 1, (2, count), generator=generator).tolist()
            plus = torch.randint(2, (count,), generator=generator).tolist()
            drawn = (
                f"{a}{'+' if p else '-'}{b}=" for a, b, p in zip(left, right, plus, strict=True)
            )
            prompts.extend(prompt for prompt in drawn if is_held_out(prompt) == held_out)
        return prompts[:count]

    def demonstration(self, prompt: str, generator: torch.Generator) -> str:
        """Return the result as text, such as `-333`."""
        return result(prompt)

    def score(self, prompt: str, completion: str) -> float:
        """Return 1 for exactly the result, else 0."""
        return float(completion == result(prompt))


def result(prompt: str) -> str:
    """Return the result of a prompt as text."""
    left, plus, right = prompt[:-1].partition("+")
    if plus:
        return str(int(left) + int(right))
    left, _, right = prompt[:-1].partition("-")
    return str(int(left) - int(right))


def is_held_out(prompt: str) -> bool:
    """Tell by its checksum whether a prompt is held out, so that the split needs no storage."""
    return zlib.crc32(prompt.encode()) % HELD_OUT_SHARE == 0
