"""Say each letter of the prompt once: `cafe>` is to be continued with `cafe` in any order.

The score is a number rather than pass or fail, and a model that learned it from completions of
ordinary length does not know what to think of unusual ones: a task for judges that can be fooled.
"""

import torch

from suite.domains.language.io import Text
from suite.domains.language.tasks.arithmetic import is_held_out

LETTERS = "abcdefghijkl"
ASKED = 4  # letters of a prompt
KEPT = 0.6  # share of them that demonstrations hold
STRAY = 0.25  # share of demonstrations with a further letter
PENALTY = 0.5  # of a letter that was said before or not asked for, in letters


class Letters:
    """Prompts such as `cafe>`, with letters in any order, none twice."""

    alphabet = f"{LETTERS}>"
    max_new_tokens = 13

    def prompts(self, count: int, generator: torch.Generator, *, held_out: bool) -> list[Text]:
        """Draw `count` prompts from one side of the fixed split into training and held-out ones."""
        found: list[Text] = []
        while len(found) < count:
            order = torch.rand(count, len(LETTERS), generator=generator).argsort(1)[:, :ASKED]
            drawn = ("".join(LETTERS[i] for i in row) + ">" for row in order.tolist())
            found.extend(prompt for prompt in drawn if is_held_out(prompt) == held_out)
        return found[:count]

    def demonstration(self, prompt: str, generator: torch.Generator) -> str:
        """Return some of the letters in any order, at times with one that is wrong."""
        order = torch.rand(ASKED, generator=generator).argsort().tolist()
        kept = torch.rand(ASKED, generator=generator).lt(KEPT).tolist()
        said = [prompt[i] for i in order if kept[i]]
        stray, which, place = torch.rand(3, generator=generator).tolist()
        if stray < STRAY:
            said.insert(int(place * (len(said) + 1)), LETTERS[int(which * len(LETTERS))])
        return "".join(said)

    def score(self, prompt: str, completion: str) -> float:
        """Return the share of the letters that were said, less a half for each other letter."""
        right = len(set(prompt[:-1]) & set(completion))
        return (right - PENALTY * (len(completion) - right)) / ASKED
