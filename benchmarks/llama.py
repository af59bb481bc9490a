"""The Llama of 12.9 M parameters that several benchmarks measure with."""

from typing import Any


def small_llama(vocabulary: int) -> Any:
    """Return a Llama with random weights, drawn from torch's global generator.

    It has hidden size 256, 6 layers and 8 heads. Token 0 ends a sequence and token 1 pads it. With
    a vocabulary of 32,000 it has 12.9 M parameters.
    """
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=256,
        intermediate_size=688,
        num_hidden_layers=6,
        num_attention_heads=8,
        tie_word_embeddings=True,
        eos_token_id=0,
        pad_token_id=1,
        bos_token_id=None,
    )
    return LlamaForCausalLM(config)
