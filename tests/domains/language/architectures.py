"""Tiny random models of many architectures, by the name that transformers gives to each."""

from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

VOCABULARY, POSITIONS = 64, 64
SHAPE = {"vocab_size": VOCABULARY, "hidden_size": 16, "intermediate_size": 32, "head_dim": 8}
SHAPE |= {"num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1}
SHAPE |= {"max_position_embeddings": POSITIONS, "pad_token_id": 0, "eos_token_id": 1}
SHAPE |= {"bos_token_id": 2}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
SHARED = {"shared_expert_intermediate_size": 16}
LATENT = {"n_routed_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
LATENT |= {"q_lora_rank": 8, "kv_lora_rank": 8, "qk_rope_head_dim": 4, "qk_nope_head_dim": 4}
LATENT |= {"v_head_dim": 8, "n_group": 1, "topk_group": 1, "n_shared_experts": 1}
LATENT |= {"first_k_dense_replace": 1, "num_key_value_heads": 2, "head_dim": 4}
STATES = {"mamba_d_state": 4, "mamba_n_heads": 4, "mamba_d_head": 8, "mamba_n_groups": 1}
STATES |= {"mamba_chunk_size": 8}
LINEAR = {"linear_key_head_dim": 8, "linear_value_head_dim": 8, "linear_num_key_heads": 1}
LINEAR |= {"linear_num_value_heads": 2, "layer_types": ["linear_attention", "full_attention"]}
ARCHITECTURES: dict[str, dict[str, Any]] = {
    **{name: {} for name in ("llama", "qwen2", "qwen3", "gemma", "phi", "phi3", "gpt2")},
    **{name: {} for name in ("gpt_neox", "opt", "bloom", "mpt", "stablelm", "starcoder2")},
    **{name: {} for name in ("olmo", "olmo2", "olmo3", "glm", "glm4", "nemotron", "persimmon")},
    **{name: {} for name in ("biogpt", "gpt_bigcode", "smollm3", "helium", "ernie4_5")},
    **{name: {} for name in ("exaone4", "hunyuan_v1_dense", "seed_oss", "arcee", "apertus")},
    **{name: {} for name in ("nanochat", "doge", "vaultgemma", "bitnet", "rwkv")},
    "mistral": {"sliding_window": 4},
    "gemma2": {"sliding_window": 4, "final_logit_softcapping": 3.0},
    "gemma3_text": {"sliding_window": 4, "layer_types": ["sliding_attention", "full_attention"]},
    "cohere": {"logit_scale": 0.2},
    "cohere2": {"logit_scale": 0.2, "sliding_window": 4},
    "granite": {"logits_scaling": 3.0},
    "granitemoe": {"num_local_experts": 4, "logits_scaling": 2.0},
    "mixtral": {"num_local_experts": 4},
    "qwen2_moe": EXPERTS | SHARED,
    "qwen3_moe": EXPERTS,
    "olmoe": EXPERTS,
    "gpt_oss": {"num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": 4},
    "deepseek_v2": LATENT,
    "deepseek_v3": LATENT,
    "mamba": {"state_size": 4, "time_step_rank": 2},
    "falcon_mamba": {"state_size": 4, "time_step_rank": 2},
    "mamba2": {"head_dim": 8, "num_heads": 4, "n_groups": 1, "state_size": 4, "chunk_size": 8},
    "jamba": {"num_experts": 2, "mamba_d_state": 4, "attn_layer_period": 2, "mamba_dt_rank": 2}
    | {"attn_layer_offset": 1, "use_mamba_kernels": False},
    "bamba": STATES | {"attn_layer_indices": [1]},
    "falcon_h1": STATES | {"mamba_d_ssm": 32},
    "recurrent_gemma": {"block_types": ["recurrent", "attention"], "lru_width": 16}
    | {"attention_window_size": 8},
    "qwen3_next": EXPERTS | SHARED | LINEAR,
    "zamba2": {"mamba_d_state": 4, "mamba_headdim": 8, "mamba_ngroups": 1, "chunk_size": 8}
    | {"n_mamba_heads": 4, "layers_block_type": ["mamba", "hybrid"], "num_mem_blocks": 1}
    | {"adapter_rank": 4, "num_key_value_heads": 2},
    "lfm2": {"layer_types": ["conv", "full_attention"], "block_multiple_of": 8},
    "bert": {},
    "roberta": {},
}
REFUSED = {
    "bert": "must be causal",
    "roberta": "must be causal",
}
"""Part of the sentence that refuses an architecture."""


def build(name: str) -> PreTrainedModel:
    """Return a model with weights large enough that each token matters."""
    config = AutoConfig.for_model(name, **(SHAPE | ARCHITECTURES[name]))
    torch.manual_seed(0)
    model: PreTrainedModel = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(4)
    return model.eval()
