"""Files and functions are short enough to be read at once."""

import ast
from pathlib import Path

from tests.conftest import ROOT

FILE_LINES, FUNCTION_LINES = 300, 60
# Names as in the message of a failure, each with the reason why the limit does not hold for it.
EXCEPTIONS: dict[str, str] = {}


def too_long(root: Path) -> dict[str, int]:
    """Return the lines of each file and function below a folder that are over the limits."""
    lengths = {}
    for path in root.rglob("*.py"):
        text, name = path.read_text(), str(path.relative_to(root))
        if (lines := len(text.splitlines())) > FILE_LINES:
            lengths[name] = lines
        for node in ast.walk(ast.parse(text)):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            if (lines := (node.end_lineno or 0) - node.lineno + 1) > FUNCTION_LINES:
                lengths[f"{name}:{node.name}"] = lines
    return lengths


def test_no_file_is_over_300_lines_and_no_function_over_60() -> None:
    lengths = {
        f"{folder}/{name}": lines
        for folder in ("suite", "tests", "benchmarks")
        for name, lines in too_long(ROOT / folder).items()
    }
    assert lengths.keys() == EXCEPTIONS.keys(), lengths


def test_files_and_nested_and_asynchronous_functions_are_measured(tmp_path: Path) -> None:
    (tmp_path / "package").mkdir()
    inner = "    async def inner():\n" + "      pass\n" * FUNCTION_LINES
    (tmp_path / "package/functions.py").write_text(f"class Box:\n  def outer(self):\n{inner}")
    (tmp_path / "long.py").write_text("x = 1\n" * 301)
    (tmp_path / "short.py").write_text("def f():\n" + "  x = 1\n" * 59 + "x = 1\n" * 240)
    assert too_long(tmp_path) == {
        "package/functions.py:outer": 62,
        "package/functions.py:inner": 61,
        "long.py": 301,
    }
