"""The model and the rows that every contender trains with."""

import json
from pathlib import Path
from typing import Any, NamedTuple

from suite.system.files import write_text

STEPS = 13


class Shape(NamedTuple):
    """Sizes of the model's vocabulary, the rows and the batches."""

    vocabulary: int = 32_000
    prompt: int = 64  # tokens
    completion: int = 64  # tokens, including the end token
    batch: int = 8
    rows: int = 256

    @property
    def steps(self) -> int:
        """The number of training steps: no row is used twice."""
        return min(STEPS, self.rows // self.batch)


class Workload(NamedTuple):
    """What one contender trains on: the folder of `prepare`, its shape, and the threads to use."""

    folder: Path
    shape: Shape
    threads: int

    @property
    def model(self) -> Path:
        """The folder of model and tokenizer."""
        return self.folder / "model"

    @property
    def rows_path(self) -> Path:
        """The JSON Lines file of the rows."""
        return self.folder / "rows.jsonl"

    def rows(self) -> list[dict[str, Any]]:
        """Return the rows, each with prompt, completion and label."""
        return [json.loads(line) for line in self.rows_path.read_text().splitlines()]


SMALL = Shape()
LARGE_VOCABULARY = Shape(vocabulary=151_936, prompt=512, completion=512, batch=2, rows=14)


def prepare(workload: Workload) -> None:
    """Write the model, its tokenizer and the rows to the workload's folder."""
    import torch

    from benchmarks.llama import small_llama

    shape = workload.shape
    tokenizer(shape.vocabulary).save_pretrained(workload.model)
    torch.manual_seed(0)
    small_llama(shape.vocabulary).save_pretrained(workload.model)

    def text(count: int) -> str:
        return " ".join(f"w{i}" for i in torch.randint(2, shape.vocabulary, (count,)).tolist())

    rows = [
        {
            "prompt": text(shape.prompt),
            "completion": " " + text(shape.completion - 1),
            "label": bool(i % 2),
        }
        for i in range(shape.rows)
    ]
    write_text(workload.rows_path, "".join(f"{json.dumps(row)}\n" for row in rows))


def tokenizer(vocabulary: int) -> Any:
    """Return a tokenizer with one token per word; the words are w2, w3, …"""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = {"<end>": 0, "<pad>": 1} | {f"w{i}": i for i in range(2, vocabulary)}
    word_level = Tokenizer(models.WordLevel(words, unk_token="<pad>"))
    word_level.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=word_level, eos_token="<end>", pad_token="<pad>"
    )
