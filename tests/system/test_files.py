"""Files are whole or not there, also with several writers, and after a writer was killed."""

import multiprocessing
import os
from pathlib import Path

import pytest

from suite.system import files
from suite.system.files import replaced_file, temporary_path, write_text


def write_often(path: Path, letter: str) -> None:
    for _ in range(150):
        write_text(path, letter * 5000)


def test_writers_of_one_file_never_mix_their_texts(tmp_path: Path) -> None:
    path = tmp_path / "shared"
    write_text(path, "a" * 5000)
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=write_often, args=(path, letter)) for letter in "ab"]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        text = path.read_text()
        assert text in ("a" * 5000, "b" * 5000)
    assert [writer.exitcode for writer in writers] == [0, 0]
    assert [p.name for p in tmp_path.iterdir()] == ["shared"]


@pytest.mark.parametrize("kind", ["file", "folder", "link"])
def test_the_next_write_replaces_what_a_kill_left(tmp_path: Path, kind: str) -> None:
    path, other = tmp_path / "file.json", tmp_path / "other"
    other.write_text("not ours")
    left = temporary_path(path)
    if kind == "file":
        left.write_text("a longer text than the new one")
    elif kind == "folder":
        (left / "inner").mkdir(parents=True)
    else:
        left.symlink_to(other)
    write_text(path, "new", durable=True)
    assert path.read_text() == "new"
    assert other.read_text() == "not ours"
    assert {p.name for p in tmp_path.iterdir()} == {"file.json", "other"}


def test_a_suspended_writer_holds_nobody_up_and_loses_its_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "LOCK_SECONDS", 0.05)
    path = tmp_path / "file"
    with (  # noqa: PT012
        pytest.raises(OSError, match="written by another process at the same time"),
        replaced_file(path) as temporary,
    ):
        temporary.write_text("old")
        write_text(path, "new")
    assert path.read_text() == "new"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_new_file_has_the_usual_permissions(tmp_path: Path) -> None:
    write_text(tmp_path / "atomic", "x")
    (tmp_path / "plain").write_text("x")
    assert os.stat(tmp_path / "atomic").st_mode == os.stat(tmp_path / "plain").st_mode
