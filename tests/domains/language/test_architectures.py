"""Log-probabilities and samples of many architectures equal transformers' own, or are refused."""

import pytest
import torch
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from suite.config.fields import ConfigError
from suite.domains.language.models import Pair
from suite.domains.language.packing import Sequence, pack
from suite.domains.language.sampling import sample
from suite.domains.language.scoring import can_share_prompts, check_model, compare
from suite.domains.language.tokenizer import character_tokenizer
from tests.domains.language.architectures import ARCHITECTURES, REFUSED, VOCABULARY, build

WORDS: PreTrainedTokenizerBase = character_tokenizer("ab")


def groups(seed: int) -> list[list[Sequence]]:
    """Prompts of several lengths, with two completions each; some are longer than a window."""
    generator = torch.Generator().manual_seed(seed)

    def draw(count: int) -> list[int]:
        return torch.randint(3, VOCABULARY, (count,), generator=generator).tolist()

    prompts = [draw(length) for length in (3, 9)]
    return [[Sequence(p + draw(k), len(p)) for k in (2, 7)] for p in prompts]


@torch.no_grad()
def own_logp(model: PreTrainedModel, sequence: Sequence) -> float:
    """Transformers' own log-probability of a completion, of one row without padding."""
    logits = model(input_ids=torch.tensor([sequence.ids]), use_cache=False).logits[0].double()
    targets = torch.tensor(sequence.ids[sequence.prompt :])
    before = logits.log_softmax(-1)[sequence.prompt - 1 : -1]
    return before.gather(-1, targets[:, None]).sum().item()


@torch.no_grad()
def is_greedy(model: PreTrainedModel, prompt: list[int], completion: list[int]) -> bool:
    """Whether each token is the likeliest one, up to rounding, after those before it."""
    ids = torch.tensor([prompt + completion])
    logits = model(input_ids=ids, use_cache=False).logits[0, len(prompt) - 1 : -1]
    chosen = logits.gather(-1, torch.tensor(completion)[:, None])[:, 0]
    return bool((chosen >= logits.max(-1).values - 1e-3).all())


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_log_probabilities_and_samples_equal_those_of_transformers(name: str) -> None:
    model = build(name)
    if name in REFUSED:
        with pytest.raises(ConfigError, match=REFUSED[name]):
            check_model(model, "domain.model")
        return
    check_model(model, "domain.model")
    rows = groups(0)
    expected = torch.tensor([own_logp(model, s) for group in rows for s in group])
    pair = Pair(model, nn.Module(), WORDS)._replace(reference=model)
    for shared in {False, can_share_prompts(model, 0)}:
        sums, _ = compare(pair, pack(rows, 0, shared), len(expected))
        torch.testing.assert_close(sums.logp.double(), expected.double(), atol=2e-4, rtol=1e-4)
        assert sums.kl.abs().max() < 1e-4
    prompts = [group[0].ids[: group[0].prompt] for group in rows]
    generator = torch.Generator().manual_seed(0)
    drawn = sample(model, prompts, 1, 9, generator, ends=[1], greedy=True, slots=1)
    together = sample(model, prompts, 1, 9, generator, ends=[1], greedy=True)
    assert together.completions == drawn.completions
    for prompt, completion in zip(prompts, drawn.completions, strict=True):
        assert is_greedy(model, prompt, completion)
