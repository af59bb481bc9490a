"""Tokens per second of the suite's sampler against transformers' `generate`."""

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.llama import small_llama
from benchmarks.timing import Comparison, compare, timed
from suite.config.contracts import DomainParts
from suite.config.loading import load
from suite.domains.language.models import causal_lm
from suite.domains.language.online import LanguageModel
from suite.domains.language.sampling import sample
from suite.feedback.label_noise import LabelNoise

SAMPLES = 4


def measure() -> dict[str, Comparison]:
    """Return tokens per second, counting completion tokens up to and including the end token."""
    torch.set_num_threads(1)
    return {
        "arithmetic, 64 prompts × 4, up to 4 tokens": arithmetic(),
        "12.9 M parameters, 64 prompts × 4, up to 128 tokens, 36 on average": uneven(),
    }


def arithmetic() -> Comparison:
    """Compare on the arithmetic task, with the reference of the default sweep."""
    with tempfile.TemporaryDirectory() as folder:
        domain = LanguageModel(
            load(Path("configs/lm/arithmetic.yaml")).domain,
            DomainParts(LabelNoise("mixed"), "forward", 0, Path(folder), torch.device("cpu")),
        )
    texts = domain.prompts.prompts(64, torch.Generator().manual_seed(0), held_out=False)
    prompts = domain.tokenizer(texts)["input_ids"]
    ends = [domain.tokenizer.eos_token_id]
    new = domain.prompts.max_new_tokens
    return against_generate(causal_lm(domain.reference), prompts, ends, new, batch=64, repeats=10)


def uneven() -> Comparison:
    """Compare on completions of very different lengths: one token in forty is an end token."""
    torch.manual_seed(0)
    model = small_llama(32_000).eval()
    prompts = torch.randint(2, 32_000, (64, 64)).tolist()
    ends = list(range(2, 802))
    return against_generate(model, prompts, ends, 128, batch=16, repeats=1)


def against_generate(
    model: Any,
    prompts: list[list[int]],
    ends: Sequence[int],
    max_new_tokens: int,
    *,
    batch: int,
    repeats: int,
) -> Comparison:
    """Compare the two on the same prompts.

    `generate` gets batches of `batch` prompts; the suite gets as many slots as there are samples
    in such a batch.
    """
    generator = torch.Generator().manual_seed(0)
    pad = model.config.pad_token_id

    def ours() -> int:
        drawn = sample(
            *(model, prompts, SAMPLES, max_new_tokens, generator),
            ends=list(ends),
            slots=batch * SAMPLES,
        )
        return sum(map(len, drawn.completions))

    def theirs() -> int:
        tokens = 0
        for start in range(0, len(prompts), batch):
            chosen = prompts[start : start + batch]
            longest = max(map(len, chosen))
            padding = [[pad] * (longest - len(prompt)) for prompt in chosen]
            ids = torch.tensor([p + prompt for p, prompt in zip(padding, chosen, strict=True)])
            mask = torch.tensor([[0] * len(p) + [1] * (longest - len(p)) for p in padding])
            drawn = model.generate(
                input_ids=ids,
                attention_mask=mask,
                max_new_tokens=max_new_tokens,
                do_sample=True,
                top_k=0,
                num_return_sequences=SAMPLES,
                eos_token_id=list(ends),
                pad_token_id=pad,
            )[:, longest:]
            ended = torch.isin(drawn, torch.tensor(ends)).long()
            tokens += int((ended.cumsum(1) - ended == 0).sum())
        return tokens

    return compare(rate(ours, repeats), rate(theirs, repeats), 5)


def rate(draw: Callable[[], int], repeats: int) -> Callable[[], float]:
    """Return a function that measures tokens per second; `draw` returns its number of tokens."""

    def tokens_per_second() -> float:
        counts: list[int] = []
        seconds = timed(lambda: counts.extend(draw() for _ in range(repeats)))
        return sum(counts) / seconds

    return tokens_per_second
