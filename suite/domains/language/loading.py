"""Networks and tokenizers from folders or the hub: whole models, or adapters over a base."""

import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from torch import nn
from transformers import (
    AutoConfig,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils.peft_utils import find_adapter_config_file

from suite.config.fields import ConfigError
from suite.domains.language.merging import merged


@contextmanager
def loading(setting: str, name: str) -> Iterator[None]:
    """Turn any error while a folder or a name on the hub is loaded into a ConfigError."""
    try:
        yield
    except ConfigError:
        raise
    except Exception as error:  # of the file system, the hub, or the configuration in there
        message = (str(error).strip() or type(error).__name__).splitlines()[0]
        local = Path(name).is_dir()
        kind = "folder cannot be loaded" if local else "is no folder here, and no name"
        hint = "" if local else " that the hub could serve; `hf download` fetches one"
        raise ConfigError(f"{setting}: {kind}{hint}: {message}") from None


def load_network(kind: Any, name: str, key: str, **chosen: Any) -> PreTrainedModel:
    """Load a network of one of transformers' automatic classes, with all its weights.

    The name of an adapter leads to its base with the adapter merged. Code in a folder is never
    run. Raises ConfigError, also where weights are missing that transformers would draw at random.
    """
    with loading(f"{key}={name}", name):
        adapter = adapter_base(name, key)
        if adapter is not None:
            return load_adapted(kind, adapter, name, key, **chosen)
        config = AutoConfig.from_pretrained(name, trust_remote_code=False)
        check_attention(config, f"{key}={name}")
        if config.is_encoder_decoder:
            raise ConfigError(
                f"{key}={name} must be a decoder, found {config.model_type}, an encoder with a"
                " decoder, which is not supported here"
            )
        model, found = kind.from_pretrained(
            name, trust_remote_code=False, output_loading_info=True, **chosen
        )
    missing = sorted(found["missing_keys"]) + sorted(str(k) for k in found["mismatched_keys"])
    if missing:
        raise ConfigError(
            f"{key}={name} must hold all weights of {type(model).__name__}, but lacks"
            f" {len(missing)} of them, such as {missing[0]}, which would be random"
        )
    assert isinstance(model, PreTrainedModel)
    return model


def check_attention(config: PretrainedConfig, setting: str) -> None:
    """Raise ConfigError where a model's configuration names a kernel on the hub, which is code."""
    parts = [config, *(getattr(config, name, None) for name in config.sub_configs)]
    for part in parts:
        named = getattr(part, "_attn_implementation", None)
        if "/" in str(named):
            raise ConfigError(
                f"{setting}: its config.json names the program {named!r} as its attention, and code"
                " of a model is not run; take it out of the file"
            )


def adapter_base(name: str, key: str) -> str | None:
    """Return the name of an adapter's base, None where `name` is no adapter of peft."""
    path = find_adapter_config_file(name)
    if path is None:
        return None
    base = json.loads(Path(path).read_text(encoding="utf-8")).get("base_model_name_or_path")
    if not base:
        raise ConfigError(f"{key}={name} is an adapter that does not name its base")
    if find_spec("peft") is None:
        raise ConfigError(
            f"{key}={name} is an adapter, and peft is not installed: pip install"
            " 'pmpo-suite[language]'"
        )
    return str(base)


def load_adapted(kind: Any, base: str, name: str, key: str, **chosen: Any) -> PreTrainedModel:
    """Load the base of an adapter, and merge the adapter into its weights."""
    import peft

    model = load_network(kind, base, f"{key}={name}, an adapter of", **chosen)
    with warnings.catch_warnings():
        # Its missing weights would be those of a fresh adapter: the base alone.
        warnings.filterwarnings("error", message="Found missing adapter keys")
        warnings.filterwarnings("ignore", message="Model has `tie_word_embeddings=True`")
        adapted: Any = peft.PeftModel.from_pretrained(model, name)
    if not hasattr(adapted.base_model, "merge_and_unload"):
        kind_of_adapter = adapted.peft_config["default"].peft_type
        raise ConfigError(
            f"{key}={name} is an adapter of kind {getattr(kind_of_adapter, 'value', '')}, which"
            " cannot be merged into its base; a LoRA adapter or a whole model can be trained"
        )
    whole = merged(adapted, f"{key}={name}", "domain.dtype=float32 loads it without this loss")
    return whole.requires_grad_(True).eval()


def load_tokenizer(name: str, key: str) -> PreTrainedTokenizerBase:
    """Load the tokenizer of a folder or name; an adapter without one has that of its base."""
    with loading(f"{key}={name}", name):
        base = adapter_base(name, key)
        own = not Path(name).is_dir() or (Path(name) / "tokenizer_config.json").exists()
        if base is not None and not own:
            return load_tokenizer(base, key)
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            name, trust_remote_code=False
        )
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token_id = tokenizer.eos_token_id or 0
    return tokenizer


def check_tokenizer(
    tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel, setting: str
) -> None:
    """Raise ConfigError where a token has no embedding."""
    embeddings: Any = model.get_input_embeddings()
    rows = len(embeddings.weight)
    token, highest = max(tokenizer.get_vocab().items(), key=lambda item: item[1])
    if highest >= rows:
        raise ConfigError(
            f"{setting}: the tokenizer must have at most {rows} tokens, as many as the model has"
            f" embeddings, found {highest + 1}, the last one {token!r}; save the model with"
            f" resize_token_embeddings({highest + 1}), or the tokenizer without added tokens"
        )


def longest_input(model: PreTrainedModel) -> int | None:
    """Return the number of positions that a model was made for, None where it has no such limit."""
    positions = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    return positions if isinstance(positions, int) and positions > 0 else None


def language_part(model: PreTrainedModel) -> nn.Module:
    """Return the part of a model that reads tokens, without the encoders of images or sound."""
    is_whole = model.config.get_text_config() is model.config
    part: Any = model if is_whole else model.get_decoder()
    assert isinstance(part, nn.Module)
    return part
