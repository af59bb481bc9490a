"""Tokens per second of our sampler against transformers' `generate`, same model and prompts."""

import tempfile
from pathlib import Path

import torch

from benchmarks.timing import Comparison, compare, timed
from suite.config import load
from suite.domains.lm.domain import LanguageModel
from suite.domains.lm.rollout import complete

PROMPTS, SAMPLES, ROUNDS, REPEATS = 64, 4, 7, 10


def measure() -> Comparison:
    """Return tokens per second, counting completion tokens up to and including the end token."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        settings = load(Path("configs/lm/arithmetic.yaml")).domain
        domain = LanguageModel(
            settings, feedback="mixed", divergence="forward", seed=0, cache=Path(folder)
        )
    model, tokenizer, task = domain.reference, domain.tokenizer, domain.task
    prompts = task.prompts(PROMPTS, torch.Generator().manual_seed(0), held_out=False)
    generator = torch.Generator().manual_seed(0)
    end = tokenizer.eos_token_id

    def ours() -> float:
        tokens = 0

        def run() -> None:
            nonlocal tokens
            for _ in range(REPEATS):
                drawn = complete(model, tokenizer, task, prompts, SAMPLES, generator)
                tokens += int(drawn.completion_mask.sum())

        seconds = timed(run)
        return tokens / seconds

    def theirs() -> float:
        tokens = 0

        def run() -> None:
            nonlocal tokens
            for _ in range(REPEATS):
                encoded = tokenizer(prompts, return_tensors="pt", padding=True)
                drawn = model.generate(
                    **encoded,
                    max_new_tokens=task.max_new_tokens,
                    do_sample=True,
                    top_k=0,
                    num_return_sequences=SAMPLES,
                )[:, encoded["input_ids"].shape[1] :]
                finished = (drawn == end).cumsum(1) - (drawn == end).long()
                tokens += int((finished == 0).sum())

        seconds = timed(run)
        return tokens / seconds

    return compare(ours, theirs, ROUNDS)
