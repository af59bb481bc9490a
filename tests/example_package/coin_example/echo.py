"""A language task: `ab>` is to be continued with `ab`."""

import torch

LETTERS = "abcd"


class Echo:
    """Repeat two letters."""

    alphabet = f"{LETTERS}>"
    max_new_tokens = 3  # two letters, and the end token

    def prompts(self, count: int, generator: torch.Generator, *, held_out: bool) -> list[str]:
        pairs = [a + b for a in LETTERS for b in LETTERS if (a == b) == held_out]
        drawn = torch.randint(len(pairs), (count,), generator=generator).tolist()
        return [f"{pairs[i]}>" for i in drawn]

    def demonstration(self, prompt: str, generator: torch.Generator) -> str:
        return prompt[:-1]

    def score(self, prompt: str, completion: str) -> float:
        return float(completion == prompt[:-1])
