"""Digests follow contents: any byte that a loader reads changes them, and nothing else does."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from suite.system import digests
from suite.system.digests import digest_of
from suite.system.files import write_json

SIZES = (0, 1, 4097, digests.REMEMBERED + 3)


@pytest.mark.parametrize("size", SIZES)
def test_a_files_digest_changes_with_any_byte_and_with_nothing_else(
    tmp_path: Path, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = np.random.default_rng(size).bytes(size)
    path = tmp_path / "rows.jsonl"
    path.write_bytes(content)
    first = digest_of(str(path))
    assert first is not None
    (tmp_path / "elsewhere").mkdir()
    copy = shutil.copy(path, tmp_path / "elsewhere/rows.jsonl")
    os.utime(copy, (1, 1))
    monkeypatch.chdir(tmp_path / "elsewhere")
    for spelling in (
        copy,
        "rows.jsonl",
        "./rows.jsonl",
        "../elsewhere/rows.jsonl",
        "../rows.jsonl",
    ):
        assert digest_of(str(spelling)) == first
    times = path.stat()
    for place in sorted({0, size // 2, max(size - 1, 0)}):
        changed = bytearray(content or b"a")
        changed[place] ^= 1
        path.write_bytes(changed)
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
        assert digest_of(str(path)) != first, "the same size and time do not hide it"
    path.write_bytes(content)
    assert digest_of(str(path)) == first


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A folder with the files of a model."""
    folder = tmp_path / "model"
    folder.mkdir()
    for name in ("config.json", "tokenizer.json", "model.safetensors", "chat_template.jinja"):
        (folder / name).write_text(f"the contents of {name}")
    return folder


def test_a_models_digest_changes_with_every_file_that_is_loaded(model: Path) -> None:
    first = digest_of(str(model))
    for path in list(model.iterdir()):
        before = path.read_text()
        path.write_text(before.replace("contents", "Contents"))
        assert digest_of(str(model)) != first, path.name
        path.write_text(before)
        assert digest_of(str(model)) == first, path.name
    (model / "generation_config.json").write_text("{}")
    assert digest_of(str(model)) != first, "a further file counts"


@pytest.mark.parametrize(
    "name",
    [
        *("README.md", "LICENSE", "LICENSE.txt", ".gitattributes", "pytorch_model.bin"),
        *(
            ".cache/huggingface/download/a.metadata",
            "checkpoint-5/model.safetensors",
            "onnx/a.onnx",
        ),
    ],
)
def test_a_models_digest_does_not_change_with_what_no_loader_reads(model: Path, name: str) -> None:
    first = digest_of(str(model))
    (model / name).parent.mkdir(parents=True, exist_ok=True)
    (model / name).write_text("something")
    assert digest_of(str(model)) == first
    assert digest_of(str(model.rename(model.with_name("moved")))) == first


def test_an_adapters_digest_changes_with_its_base(model: Path, tmp_path: Path) -> None:
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    write_json(adapter / "adapter_config.json", {"base_model_name_or_path": str(model)})
    first = digest_of(str(adapter))
    (model / "model.safetensors").write_text("other weights")
    assert digest_of(str(adapter)) != first
    write_json(adapter / "adapter_config.json", {"base_model_name_or_path": str(adapter)})
    assert digest_of(str(adapter)) is not None, "it may even name itself"


def test_a_data_folders_digest_counts_its_data_and_no_cache(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    (tmp_path / "train/data-00000.arrow").write_text("rows")
    first = digest_of(str(tmp_path))
    (tmp_path / "train/cache-1234.arrow").write_text("made by a reader")
    assert digest_of(str(tmp_path)) == first
    (tmp_path / "train/data-00000.arrow").write_text("Rows")
    assert digest_of(str(tmp_path)) != first


def test_a_judges_digest_counts_what_it_imports_from_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    package = tmp_path / "judging_house"
    package.mkdir()
    files = {
        package / "__init__.py": "from .rules import judge\n",
        package / "rules.py": "from math import inf\nfrom . import words\nimport plain_helper\n",
        package / "words.py": "GOOD = 'yes'\n",
        tmp_path / "plain_helper.py": "import judging_house\n",
    }
    for path, text in files.items():
        path.write_text(text)
    (tmp_path / "unrelated.py").write_text("a = 1\n")
    first = digest_of("judging_house:judge")
    assert first is not None
    for path, text in files.items():
        path.write_text(f"{text}b = 2\n")
        assert digest_of("judging_house:judge") != first, path.name
        path.write_text(text)
    (tmp_path / "unrelated.py").write_text("a = 2\n")
    assert digest_of("judging_house:judge") == first


@pytest.mark.parametrize("name", ["nowhere.jsonl", "no_such_module:judge", "sys:exit", "a/b", "a"])
def test_what_is_not_here_has_no_digest(name: str, tmp_path: Path) -> None:
    assert digest_of(name) is None


def test_a_hub_name_has_the_commit_of_its_copy_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    assert digest_of("org/model") is None
    refs = tmp_path / "models--org--model/refs"
    refs.mkdir(parents=True)
    (refs / "main").write_text("0123456789abcdef0123456789abcdef01234567\n")
    assert digest_of("org/model") == "0123456789abcdef0123456789abcdef"
