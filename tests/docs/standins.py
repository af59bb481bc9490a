"""Small things in place of those that commands on pages name: a model, files, episodes."""

import json
from pathlib import Path

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from suite.domains.control.episodes import Episode, write_minari
from suite.domains.language.tokenizer import character_tokenizer

ALPHABET = "".join(map(chr, range(32, 127))) + "\n"
CHAT = "{% for m in messages %}{{ m['role'] + ':' + m['content'] + '\n' }}{% endfor %}"


def write_model(folder: Path) -> Path:
    """A language model with random weights, as transformers saves it."""
    tokenizer = character_tokenizer(ALPHABET)
    tokenizer.chat_template = CHAT + "{% if add_generation_prompt %}{{ 'assistant:' }}{% endif %}"
    ends = {f"{end}_token_id": getattr(tokenizer, f"{end}_token_id") for end in ("eos", "pad")}
    shape = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1}
    shape |= {"num_attention_heads": 2, "vocab_size": len(tokenizer)}
    torch.manual_seed(0)
    LlamaForCausalLM(LlamaConfig(**shape, **ends)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def write_rows(path: Path, rows: str) -> Path:
    """A page's rows, each with eight different prompts."""
    lines = []
    for row in map(json.loads, rows.splitlines()):
        prompt = row["prompt"]
        for digit in range(8):
            changed = f"{prompt}{digit}"
            if isinstance(prompt, list):
                changed = [{**prompt[0], "content": f"{prompt[0]['content']}{digit}"}]
            lines.append(json.dumps({**row, "prompt": changed}))
    path.write_text("\n".join(lines))
    return path


def write_prompts(path: Path) -> Path:
    path.write_text("\n".join(json.dumps({"prompt": f"is {n} ok?"}) for n in range(64)))
    return path


def write_episodes(folder: Path) -> Path:
    """Random episodes with the shapes of cartpole-swingup."""
    random = np.random.default_rng(0)
    episodes = [
        Episode(
            random.normal(size=(21, 5)).astype(np.float32),
            random.uniform(-1, 1, (20, 1)).astype(np.float32),
            random.uniform(size=20).astype(np.float32),
            False,
        )
        for _ in range(5)
    ]
    write_minari(folder, episodes, {"description": "random"})
    return folder
