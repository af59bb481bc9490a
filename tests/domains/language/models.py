"""Small random models in the format of real ones, and runs that train them on rows."""

from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    LlamaConfig,
    PreTrainedTokenizerBase,
    Qwen2Config,
)

from suite.config.loading import load
from suite.config.schema import Config
from suite.domains.language.offline import Rows
from suite.domains.language.tokenizer import character_tokenizer
from suite.feedback.label_noise import LabelNoise
from tests.conftest import BASE, ROOT, SCHEDULE, parts_of

ALPHABET = "abcdefghijklmnopqrstuvwxyz .?:\n"
CHAT = (
    "{% for m in messages %}{{ m['role'] + ':' + m['content'] + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant:' }}{% endif %}"
)
SHAPE = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2}
SHAPE |= {"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8}
FAMILIES: dict[str, tuple[type, dict[str, Any]]] = {
    "llama": (LlamaConfig, {"tie_word_embeddings": False}),
    "qwen2": (Qwen2Config, {}),
    "gemma2": (Gemma2Config, {"final_logit_softcapping": 3.0, "sliding_window": 8}),
}


def tokenizer() -> PreTrainedTokenizerBase:
    made = character_tokenizer(ALPHABET)
    made.chat_template = CHAT
    return made


def write_models(folder: Path) -> None:
    words = tokenizer()
    for name, (kind, extra) in FAMILIES.items():
        torch.manual_seed(0)
        special = {f"{n}_token_id": getattr(words, f"{n}_token_id") for n in ("pad", "bos", "eos")}
        config = kind(vocab_size=len(words) + 5, initializer_range=0.3, **SHAPE, **special, **extra)
        AutoModelForCausalLM.from_config(config).save_pretrained(folder / name)
        words.save_pretrained(folder / name)


def config_of(data: Path | str, model: Path | str, *overrides: str) -> Config:
    fixed = [f"domain.data.path={data}", f"domain.model={model}", "domain.batch_size=2"]
    return load(ROOT / BASE["rows"], [*fixed, "domain.max_length=64", *SCHEDULE, *overrides])


def domain_of(config: Config, cache: Path) -> Rows:
    return Rows(
        config.domain, parts_of(LabelNoise(config.feedback, config.labels), seed=0, cache=cache)
    )
