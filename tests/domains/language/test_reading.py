"""Files of rows are read as they are, or refused: none is repaired in silence."""

import json
from pathlib import Path
from typing import Any

import pytest

from suite.config.fields import ConfigError
from suite.domains.language.batching import Encoded, prompt_digest
from suite.domains.language.offline_config import DataConfig
from suite.domains.language.packing import Sequence, pack
from suite.domains.language.schema import load_rows
from suite.domains.language.splitting import split_by_prompt
from tests.domains.language.rows import GOOD, message

CALL = {"type": "function", "function": {"name": "f", "arguments": "{}"}}
ACCENTS = json.dumps({**GOOD, "prompt": "O\u00f9?"}, ensure_ascii=False) + "\n"


def read(path: Path, content: str | bytes, **settings: Any) -> list[Any]:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return load_rows(str(path), DataConfig(**settings))[0]


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.json"])
def test_a_byte_order_mark_is_no_part_of_the_rows(name: str, tmp_path: Path) -> None:
    (group,) = read(tmp_path / name, ACCENTS.encode("utf-8-sig"))
    assert group.prompt == "O\u00f9?"


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16"])
def test_other_encodings_are_refused(encoding: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"rows.jsonl, line 1: .*save the file as UTF-8"):
        read(tmp_path / "rows.jsonl", ACCENTS.encode(encoding))


def test_an_array_is_read_from_json_and_told_in_lines(tmp_path: Path) -> None:
    array = json.dumps([GOOD, GOOD], indent=1)
    assert len(read(tmp_path / "rows.json", array)) == 2
    assert len(read(tmp_path / "rows.json", f"{json.dumps(GOOD)}\n" * 3)) == 3
    with pytest.raises(ConfigError, match="holds a JSON array, expected one row per line"):
        read(tmp_path / "rows.jsonl", array)
    with pytest.raises(ConfigError, match=r"rows.csv: a file must end in .jsonl, .json or"):
        read(tmp_path / "rows.csv", "prompt,completion,label")


def test_nulls_mean_that_a_field_is_absent(tmp_path: Path) -> None:
    row = {**GOOD, "chosen": None, "rejected": None, "weight": None}
    assert read(tmp_path / "a.jsonl", json.dumps(row))[0][:4] == ("p", ["c"], [1.0], 1.0)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ('{"prompt": "p", "prompt": "q", "completion": "c", "label": 1}', "is given twice"),
        ({"prompt": "p", "completions": [], "scores": []}, "completions must be a list"),
        ({**GOOD, "label": [1]}, "label must be"),
        ({**GOOD, "weight": [1.0]}, "weight must be a number"),
        ({**GOOD, "completion": "\ud800"}, "which is no character"),
        ({**GOOD, "tools": [CALL]}, "tools need a prompt of messages"),
        ({**GOOD, "completion": message("assistant", "a")}, "needs a prompt of messages"),
        ({**GOOD, "prompt": [{"role": "user", "content": [{"type": "image"}]}]}, "of type text"),
        (
            {**GOOD, "prompt": message("user", "q"), "completion": message("user", "a")},
            "answer of the assistant",
        ),
    ],
)
def test_rows_that_mean_nothing_are_refused(row: Any, said: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=rf"line 1: .*{said}"):
        read(tmp_path / "rows.jsonl", row if isinstance(row, str) else json.dumps(row))


@pytest.mark.parametrize("prompt", ["q", message("user", "q")])
def test_a_conversation_that_repeats_the_prompt_is_cut(prompt: Any, tmp_path: Path) -> None:
    pair = {
        "chosen": message("user", "q") + message("assistant", "a"),
        "rejected": [*message("user", "q"), {"role": "assistant", "tool_calls": [CALL]}],
    }
    (group,) = read(tmp_path / "rows.jsonl", json.dumps({"prompt": prompt, **pair}))
    assert group.prompt == message("user", "q")
    assert group.completions == [pair["chosen"][1:], pair["rejected"][1:]]


def test_evaluation_reads_a_split_of_its_own() -> None:
    assert DataConfig(path="a", eval_path="a").splits("eval_path") == ["test", "validation"]
    assert DataConfig(path="a", eval_path="b").splits("eval_path")[-1] == "train"
    assert DataConfig(path="a", eval_path="a", eval_split="x").splits("eval_path") == ["x"]
    assert DataConfig(path="a", eval_path="a").splits("path") == ["train"]


@pytest.mark.parametrize(("prompts", "rows"), [(3, 7), (10, 12), (37, 4)])
def test_rows_of_one_prompt_stand_on_one_side(prompts: int, rows: int) -> None:
    groups = [
        Encoded([Sequence([1, i], 1)], [1.0], 1.0, prompt_digest(f"p{i % prompts}"))
        for i in range(prompts * rows)
    ]
    held_out, rest = split_by_prompt(groups, 0.2)
    sides = [{group.prompt for group in side} for side in (held_out, rest)]
    assert not sides[0] & sides[1]
    assert len(sides[0]) == round(0.2 * prompts)
    assert len(held_out) + len(rest) == prompts * rows
    assert split_by_prompt(groups, 0.2) == (held_out, rest)


def test_completions_whose_prompts_differ_in_tokens_share_none() -> None:
    rows = [[Sequence([1, 2, 3], 2), Sequence([1, 9], 1)]]
    packed = pack(rows, 0, shared_prompts=True)
    assert (packed.shared, packed.targets.tolist()) == (False, [3, 9])
