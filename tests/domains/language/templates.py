"""Chat templates with the structures of real families, in words of our own.

Each writes the messages `m` in its own way; `{G}` stands where it asks for an answer.
"""

from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers
from tokenizers.trainers import BpeTrainer
from transformers import PreTrainedTokenizerFast

MARKS = ["<s>", "</s>", "<|start|>", "<|end|>", "<|mid|>", "[I]", "[/I]", "<think>", "</think>"]
LOOP, DONE = "{% for m in messages %}", "{% endfor %}"
TOOLS = "{% if tools %}<|start|>tools\n{{ tools | tojson }}<|end|>\n{% endif %}"
CALLS = "{% for c in m.tool_calls or [] %}call {{ c | tojson }}{% endfor %}"
CHATML = "<|start|>{{ m.role }}\n{{ m.content or '' }}" + CALLS + "<|end|>\n"
NO_SYSTEM = (
    "{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
)
TURNS = (
    "{% if loop.index0 and messages[loop.index0 - 1].role == m.role %}"
    "{{ raise_exception('roles must take turns') }}{% endif %}"
)
MERGED = (  # the system message stands in the first turn of the user
    "{% set ns = namespace(s='') %}" + LOOP + "{% if m.role == 'system' %}{% set ns.s = m.content"
    " + '\n\n' %}{% elif m.role == 'user' %}[I] {{ ns.s + m.content }} [/I]{% set ns.s = '' %}"
    "{% else %}{ANSWER}{% endif %}" + DONE
)
THOUGHT = "{% if m.reasoning_content %}<think>\n{{ m.reasoning_content }}\n</think>\n\n{% endif %}"


def asked(text: str) -> str:
    return "{% if add_generation_prompt %}" + text + "{% endif %}"


def by_role(system: str, user: str, answer: str, ask: str, before: str = "<s>") -> str:
    body = (
        "{% if m.role == 'system' %}" + system + "{% elif m.role == 'user' %}" + user
    )  # fmt: skip
    return before + LOOP + body + "{% else %}" + answer + "{% endif %}" + DONE + asked(ask)


C = "{{ m.content }}"
TEMPLATES: dict[str, str] = {
    "llama-2": "<s>" + MERGED.replace("{ANSWER}", " {{ m.content }} </s>"),
    "llama-3": "<s>" + LOOP + "<|start|>{{ m.role }}<|mid|>\n\n{{ m.content | trim }}<|end|>" + DONE
    + asked("<|start|>assistant<|mid|>\n\n"),
    "chatml": LOOP + CHATML + DONE + asked("<|start|>assistant\n"),
    "default system": "{% if messages[0].role != 'system' %}<|start|>system\nHelp.<|end|>\n"
    "{% endif %}"
    + TOOLS + LOOP + CHATML + DONE + asked("<|start|>assistant\n"),
    "thinking": TOOLS + LOOP + "<|start|>{{ m.role }}\n" + THOUGHT + "{{ m.content or '' }}" + CALLS
    + "<|end|>\n" + DONE + asked("<|start|>assistant\n"),
    "empty thought": LOOP + "<|start|>{{ m.role }}\n{% if m.role == 'assistant' and loop.last %}"
    "<think>\n{{ m.reasoning_content or '' }}\n</think>\n\n{% endif %}{{ m.content or '' }}"
    "<|end|>\n" + DONE + asked("<|start|>assistant\n"),
    "thought asked for": by_role(
        C, "<|start|>{{ m.content }}",
        "<|mid|>{{ (m.content or '').split('</think>')[-1] }}<|end|>", "<|mid|><think>\n",
    ),
    "mistral v1": NO_SYSTEM + "<s>" + LOOP + TURNS + "{% if m.role == 'user' %}[I] {{ m.content }}"
    " [/I]{% else %}{{ m.content }}</s>{% endif %}" + DONE,
    "mistral v3": "<s>" + TOOLS
    + MERGED.replace("{ANSWER}", " {{ m.content or '' }}" + CALLS + "</s>"),
    "mistral v7": by_role("<|start|>{{ m.content }}<|mid|>", "[I]{{ m.content }}[/I]",
                          "{{ m.content }}</s>", ""),
    "gemma": NO_SYSTEM + "<s>" + LOOP + TURNS + "<|start|>{{ 'model' if m.role == 'assistant' else"
    " m.role }}\n{{ m.content | trim }}<|end|>\n" + DONE + asked("<|start|>model\n"),
    "phi-3": LOOP + "<|start|>{{ m.role }}\n{{ m.content }}<|end|>\n" + DONE
    + asked("<|start|>assistant\n"),
    "phi-4": LOOP + "<|start|>{{ m.role }}<|mid|>{{ m.content }}<|end|>" + DONE
    + asked("<|start|>assistant<|mid|>"),
    "zephyr": LOOP + "<|start|>{{ m.role }}\n{{ m.content }}</s>\n" + DONE
    + asked("<|start|>assistant\n"),
    "vicuna": by_role("{{ m.content }}\n\n", "USER: {{ m.content }} ", "ASSISTANT: {{ m.content }}"
                      "</s>", "ASSISTANT:"),
    "alpaca": by_role("{{ m.content }}\n\n", "### Instruction:\n{{ m.content }}\n\n",
                      "### Response:\n{{ m.content }}</s>\n\n", "### Response:\n"),
    "command-r": by_role("<|start|>sys<|mid|>{{ m.content }}<|end|>",
                         "<|start|>usr<|mid|>{{ m.content }}<|end|>",
                         "<|start|>bot<|mid|>{{ m.content }}<|end|>", "<|start|>bot<|mid|>"),
    "falcon": by_role("System: {{ m.content }}\n", "User: {{ m.content }}\n",
                      "Falcon: {{ m.content }}</s>\n", "Falcon:", before=""),
    "granite": TOOLS + LOOP + "<|start|>{{ m.role }}<|mid|>{{ m.content or '' }}" + CALLS
    + "<|end|>\n" + DONE + asked("<|start|>assistant<|mid|>"),
    "olmo": "<s>" + LOOP + "<|start|>{{ m.role }}\n{{ m.content }}{% if m.role == 'assistant' %}"
    "{% if loop.last %}</s>{% else %}</s>\n{% endif %}{% else %}\n{% endif %}" + DONE
    + asked("<|start|>assistant\n"),
    "internlm": "<s>" + LOOP + CHATML + DONE + asked("<|start|>assistant\n"),
    "glm-4": "<s>" + TOOLS + LOOP + "<|start|>{{ m.role }}\n{{ m.content or '' }}" + CALLS + DONE
    + asked("<|start|>assistant"),
    "nemotron": LOOP + "<|start|>{{ m.role }}\n{{ m.content }}\n{% if m.role == 'assistant' %}"
    "<|end|>\n{% endif %}" + DONE + asked("<|start|>assistant\n"),
    "harmony": LOOP + "<|start|>{{ m.role }}{% if m.role == 'assistant' %} final{% endif %}<|mid|>"
    "{{ m.content }}{% if loop.last %}</s>{% else %}<|end|>{% endif %}" + DONE
    + asked("<|start|>assistant"),
}  # fmt: skip

TEXT = ["Is it raining in Oslo? Yes, a little; 2+2=4.", "system user assistant call tools answer"]


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level tokenizer with some merges, as of Llama 3 and Qwen."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = BpeTrainer(vocab_size=320, initial_alphabet=alphabet, show_progress=False)
    made.train_from_iterator(TEXT * 4, trainer)
    return finished(made)


def space_tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer that puts a space before every text, as that of Llama 2."""
    made = Tokenizer(models.BPE(byte_fallback=True, fuse_unk=True))
    made.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    made.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    letters = sorted({chr(i) for i in range(33, 127)} | {"▁", "\n"})
    trainer = BpeTrainer(vocab_size=160, initial_alphabet=letters, show_progress=False)
    made.train_from_iterator(["▁".join(text.split()) for text in TEXT * 4], trainer)
    return finished(made)


def finished(made: Tokenizer) -> PreTrainedTokenizerFast:
    made.add_special_tokens([AddedToken(mark, special=True, normalized=False) for mark in MARKS])
    return PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token="<s>", eos_token="</s>", pad_token="</s>"
    )


def turn(role: str, content: str, **more: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **more}
