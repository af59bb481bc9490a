"""The model that is trained, compared and written is the one that was named."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from suite.config.fields import ConfigError
from suite.domains.language.config import LoraConfig
from suite.domains.language.loading import load_network
from suite.domains.language.models import (
    Networks,
    Pair,
    as_reference,
    causal_lm,
    load_pair,
    save_pair,
)
from suite.domains.language.offline_config import RowsConfig
from suite.domains.language.packing import Sequence, pack
from suite.domains.language.sampling import Slots
from suite.domains.language.scoring import check_start, compare
from tests.domains.language.models import tokenizer

TOKENS = pack([[Sequence([3, 4, 5, 6, 7, 8], 2)], [Sequence([9, 8, 7, 6], 1)]], 0, False)
IDS = torch.arange(3, 15)[None]


def pair_of(name: Path | str, **settings: Any) -> Pair:
    lora = LoraConfig(**settings.pop("lora", {}))
    return load_pair(
        str(name), RowsConfig(lora=lora, **settings), "domain.model", torch.device("cpu")
    )


@torch.no_grad()
def logp(model: Any) -> Tensor:
    logits: Tensor = model(input_ids=IDS, use_cache=False).logits
    return logits.float().log_softmax(-1)


def train_a_step(pair: Pair, rate: float = 0.05) -> None:
    sums, _ = compare(pair, TOKENS, 2)
    torch.autograd.backward(-sums.logp.sum())
    parameters = [p for p in pair.policy.parameters() if p.grad is not None]
    assert parameters
    with torch.no_grad():
        for parameter in parameters:
            assert parameter.grad is not None
            parameter -= rate * parameter.grad.sign()
            parameter.grad = None


@pytest.fixture(scope="module")
def adapter(models: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Tensor]:
    """An adapter's folder, with the log-probabilities of base and adapter together."""
    folder = tmp_path_factory.mktemp("adapter")
    torch.manual_seed(1)
    plan = peft.LoraConfig(r=2, target_modules=["q_proj", "up_proj"], init_lora_weights=False)
    adapted: Any = peft.get_peft_model(
        AutoModelForCausalLM.from_pretrained(models / "llama"), plan
    ).eval()
    adapted.save_pretrained(folder)
    return folder, logp(adapted)


@pytest.mark.parametrize("rank", [0, 4])
def test_training_that_starts_from_an_adapter_is_of_base_and_adapter(
    adapter: tuple[Path, Tensor], rank: int, tmp_path: Path
) -> None:
    folder, expected = adapter
    pair = pair_of(folder, lora={"rank": rank})
    with as_reference(pair) as reference:
        torch.testing.assert_close(logp(reference), expected, atol=1e-4, rtol=1e-4)
    check_start(Networks(pair.policy, pair.reference, "32-true"), pair, TOKENS, 2, "domain.model")
    train_a_step(pair)
    assert (logp(pair.policy) - expected).abs().max() > 1e-2
    save_pair(pair, tmp_path, LoraConfig(rank=rank))
    written = AutoModelForCausalLM.from_pretrained(tmp_path)
    torch.testing.assert_close(logp(written), logp(pair.policy), atol=1e-4, rtol=1e-4)


def test_an_adapter_without_its_weights_is_refused(
    adapter: tuple[Path, Tensor], tmp_path: Path
) -> None:
    from safetensors.torch import load_file, save_file

    for file in adapter[0].iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    weights = load_file(tmp_path / "adapter_model.safetensors")
    del weights[next(iter(weights))]
    save_file(weights, tmp_path / "adapter_model.safetensors")
    with pytest.raises(ConfigError, match="missing adapter keys"):
        pair_of(tmp_path)


@pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`")  # peft's own loading
@pytest.mark.parametrize("merge", [False, True])
@pytest.mark.parametrize("name", ["llama", "gemma2", "qwen2"])
def test_an_adapter_on_the_head_leaves_a_tied_embedding_as_it_was(
    models: Path, name: str, merge: bool, tmp_path: Path
) -> None:
    lora = {"rank": 2, "head": True, "merge": merge}
    pair = pair_of(models / name, lora=lora)
    train_a_step(pair)
    trained = logp(pair.policy)
    save_pair(pair, tmp_path, LoraConfig(**lora))
    kind: Any = AutoModelForCausalLM if merge else peft.AutoPeftModelForCausalLM
    torch.testing.assert_close(
        logp(kind.from_pretrained(tmp_path).eval()), trained, atol=1e-4, rtol=1e-4
    )
    again = pair_of(tmp_path)  # as the start of another run
    torch.testing.assert_close(logp(again.policy), trained, atol=1e-4, rtol=1e-4)


def test_the_loss_of_merging_into_bfloat16_is_told_and_avoidable(
    models: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lora = {"rank": 2, "merge": True}
    pair = pair_of(models / "llama", lora=lora, dtype="bfloat16")
    train_a_step(pair, 1e-3)
    save_pair(pair, tmp_path / "rounded", LoraConfig(**lora))
    assert "% of its change by rounding; domain.lora.merged_dtype=float32" in caplog.text
    caplog.clear()
    save_pair(pair, tmp_path / "exact", LoraConfig(**lora, merged_dtype="float32"))
    assert "rounding" not in caplog.text
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "exact").dtype == torch.float32


def saved_bytes(pair: Pair) -> int:
    """Bytes that a comparison keeps for its backward pass, without parameters."""
    parameters = {p.untyped_storage().data_ptr() for p in pair.policy.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        pointer = tensor.untyped_storage().data_ptr()
        if pointer not in parameters:
            kept[pointer] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        compare(pair, TOKENS, 2)
    return sum(kept.values())


@pytest.mark.parametrize("rank", [0, 2])
def test_checkpointing_stores_less_and_changes_no_gradient(models: Path, rank: int) -> None:
    gradients, sizes = [], []
    for chosen in (False, True):
        pair = pair_of(models / "llama", gradient_checkpointing=chosen, lora={"rank": rank})
        sizes.append(saved_bytes(pair))
        torch.autograd.backward(compare(pair, TOKENS, 2)[0].logp.sum())
        gradients.append([p.grad for p in pair.policy.parameters() if p.grad is not None])
        assert not any(module.training for module in pair.policy.modules())
    assert sizes[1] < 0.7 * sizes[0]
    for plain, recomputed in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, recomputed)


@pytest.mark.parametrize("rank", [0, 2])
def test_dropout_of_a_model_acts_in_neither_network(
    models: Path, rank: int, tmp_path: Path
) -> None:
    model = AutoModelForCausalLM.from_pretrained(models / "llama")
    model.config.attention_dropout = 0.5
    model.save_pretrained(tmp_path)
    tokenizer().save_pretrained(tmp_path)
    pair = pair_of(tmp_path, gradient_checkpointing=True, lora={"rank": rank})
    sums, _ = compare(pair, TOKENS, 2)
    assert sums.logp.requires_grad
    assert sums.kl.abs().max() < 1e-6


def noise(module: nn.Module, arguments: Any, output: Tensor) -> Tensor:
    return output + torch.rand_like(output)


def other_weights(module: nn.Module, arguments: Any, output: Tensor) -> Tensor:
    return 1.5 * output


@pytest.mark.parametrize("change", [noise, other_weights])
@pytest.mark.parametrize("rank", [0, 2])
def test_unequal_networks_are_found_before_the_first_step(
    models: Path, change: Callable[..., Tensor], rank: int
) -> None:
    pair = pair_of(models / "llama", lora={"rank": rank})
    networks = Networks(pair.policy, pair.reference, "32-true")
    check_start(networks, pair, TOKENS, 2, "domain.model")
    if rank:
        for name, parameter in pair.policy.named_parameters():
            if "lora_B" in name:
                nn.init.ones_(parameter)
    else:
        layer: Any = causal_lm(pair.policy).base_model
        layer.layers[0].mlp.register_forward_hook(change)
    with pytest.raises(ConfigError, match="must be equal before the first step, found a KL of"):
        check_start(networks, pair, TOKENS, 2, "domain.model")


@pytest.mark.parametrize("head", [False, True])
def test_mixed_precision_samples_from_the_reference_that_it_compares(
    models: Path, head: bool
) -> None:
    pair = pair_of(models / "gemma2", lora={"rank": 2, "head": head})
    networks = Networks(pair.policy, pair.reference, "bf16-mixed")
    check_start(networks, pair, TOKENS, 2, "domain.model")
    train_a_step(pair)

    def drawn() -> Tensor:
        with as_reference(pair) as model:
            slots = Slots(model, 1.0)
            slots.add([[3, 4]], 1, 0)
        return slots.logits.log_softmax(-1)

    _, per_token = networks(compare, pair, TOKENS, 2)
    assert per_token.logp.requires_grad
    found = networks(drawn)[0, TOKENS.targets[0]]
    torch.testing.assert_close(found, per_token.reference_logp[0], atol=1e-3, rtol=1e-3)


def test_missing_weights_are_refused(models: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"lacks 1 of them, such as score\.weight"):
        load_network(AutoModelForSequenceClassification, str(models / "llama"), "domain.judge")
    model = AutoModelForCausalLM.from_pretrained(models / "llama")
    state = {k: v for k, v in model.state_dict().items() if "layers.1.mlp" not in k}
    model.save_pretrained(tmp_path, state_dict=state)
    tokenizer().save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match="must hold all weights of LlamaForCausalLM"):
        pair_of(tmp_path)


def test_a_tokenizer_larger_than_the_embeddings_is_refused(models: Path, tmp_path: Path) -> None:
    AutoModelForCausalLM.from_pretrained(models / "llama").save_pretrained(tmp_path)
    words: Any = tokenizer()
    words.add_tokens([f"<{i}>" for i in range(6)])
    words.save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match="the tokenizer must have at most"):
        pair_of(tmp_path)
