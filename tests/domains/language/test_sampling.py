"""Samples are the model's, keep their tokens, and do not depend on what is drawn beside them."""

import pytest
import torch
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
)

from suite.domains.language.sampling import pick_tokens, sample

END, V = 1, 11
SHAPE = {"vocab_size": V, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2}
SHAPE |= {"num_attention_heads": 2, "eos_token_id": END, "pad_token_id": 0, "bos_token_id": None}
# Far from uniform, so that errors show.
KINDS = {
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**SHAPE, initializer_range=0.5)),
    "gemma2": lambda: Gemma2ForCausalLM(
        Gemma2Config(
            **SHAPE, num_key_value_heads=1, head_dim=8, sliding_window=4, initializer_range=0.5
        )
    ),
}
PROMPTS = [[2, 3], [4, 5, 6, 7, 8, 9, 10], [7], [3, 3, 3, 2]]


@pytest.fixture(params=KINDS)
def model(request: pytest.FixtureRequest) -> PreTrainedModel:
    torch.manual_seed(0)
    return KINDS[request.param]().eval()


def drawn(
    model: PreTrainedModel, prompts: list[list[int]], samples: int, **how: object
) -> list[list[int]]:
    generator = torch.Generator().manual_seed(0)
    found = sample(model, prompts, samples, 12, generator, ends=[END], **how)
    assert found.prompts == prompts
    return found.completions


def test_greedy_completions_are_the_likeliest_tokens_one_by_one(model: PreTrainedModel) -> None:
    for prompt, completion in zip(PROMPTS, drawn(model, PROMPTS, 1, greedy=True), strict=True):
        ids = list(prompt)
        for token in completion:
            assert token == model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()
            ids.append(int(token))
        assert completion[-1] == END or len(completion) == 12
        assert END not in completion[:-1]


@pytest.mark.parametrize("slots", [1, 3, 6, 1000])
def test_sequences_do_not_depend_on_how_many_are_worked_on(
    slots: int, model: PreTrainedModel
) -> None:
    prompts = PROMPTS * 5
    alone = [
        completion
        for i, prompt in enumerate(prompts)
        for completion in numbered(model, prompt, i, samples=3, of=len(prompts))
    ]
    assert drawn(model, prompts, 3, slots=slots) == alone
    lengths = set(map(len, alone))
    assert len(lengths) > 3, "some are long, some short"


def numbered(
    model: PreTrainedModel, prompt: list[int], place: int, samples: int, of: int
) -> list[list[int]]:
    """Completions of one prompt by the book: each token by the same random number as in a batch."""
    numbers = torch.rand(of * samples, 12, generator=torch.Generator().manual_seed(0))
    found = []
    for row in numbers[place * samples : (place + 1) * samples]:
        ids = list(prompt)
        for number in row:
            p = model(input_ids=torch.tensor([ids])).logits[0, -1].softmax(-1).double()
            ids.append(int((p.cumsum(0) > number * p.sum()).nonzero()[0]))
            if ids[-1] == END:
                break
        found.append(ids[len(prompt) :])
    return found


def test_tokens_are_drawn_as_often_as_they_are_likely_at_a_temperature(
    model: PreTrainedModel,
) -> None:
    count = 4000
    found = drawn(model, PROMPTS[:2], count, temperature=2.0)
    for row, prompt in enumerate(PROMPTS[:2]):
        first = torch.tensor([c[0] for c in found[row * count : (row + 1) * count]])
        expected = (model(input_ids=torch.tensor([prompt])).logits[0, -1] / 2).softmax(-1)
        share = torch.bincount(first, minlength=V) / count
        # Five standard errors of a share.
        error = 5 * (expected * (1 - expected) / count).sqrt() + 1e-3
        assert ((share - expected).abs() < error).all()


def test_a_token_without_probability_is_never_drawn() -> None:
    logits = torch.tensor([[float("-inf"), 0.0, float("-inf"), 0.0, float("-inf")]]).expand(4, -1)
    numbers = torch.tensor([0.0, 0.4999999, 0.5, 0.9999999])
    assert pick_tokens(logits, numbers).tolist() == [1, 1, 3, 3]


def test_sampling_does_not_touch_the_global_random_stream(model: PreTrainedModel) -> None:
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    drawn(model, PROMPTS, 2)
    assert torch.equal(torch.rand(2), expected)
