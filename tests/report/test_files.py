"""A report's files: a fuller one is kept aside, and a fault leaves each file old or new."""

import shutil
from pathlib import Path

import pytest

from suite.report import files
from suite.report.files import ASIDE, SCORES, finished_runs, keep_fuller, write_files


def report(folder: Path, finished: int, mark: str) -> Path:
    """Write a report of some finished runs, and of one that failed."""
    rows = "".join(f"r{i},finished\n" for i in range(finished)) + "x,failed\n"
    contents = {"report.md": mark, "report.html": mark, "figures/a.png": mark}
    contents[SCORES] = f"run,status\n{rows}"
    write_files(folder, {name: text.encode() for name, text in contents.items()})
    return folder


def test_a_report_of_more_finished_runs_is_kept_aside_and_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    report(tmp_path, 12, "full")
    told = keep_fuller(tmp_path, 3)
    assert told.startswith("An earlier report had 12 finished runs, and this one has 3")
    assert "12 finished runs, and this one has 3" in caplog.text
    report(tmp_path, 3, "few")
    for name in ("report.md", "report.html", "figures/a.png"):
        assert (tmp_path / ASIDE / name).read_text() == "full"
        assert (tmp_path / name).read_text() == "few"
    assert finished_runs(tmp_path / ASIDE) == 12


def test_the_fullest_report_stays_aside(tmp_path: Path) -> None:
    for finished, mark in ((12, "full"), (3, "few"), (0, "none")):
        keep_fuller(tmp_path, finished)
        report(tmp_path, finished, mark)
    assert (tmp_path / ASIDE / "report.md").read_text() == "full"
    assert "had 12 finished runs, and this one has 0" in keep_fuller(tmp_path, 0)
    assert keep_fuller(tmp_path, 12) == ""


def test_a_report_of_as_many_runs_is_replaced_without_a_word(tmp_path: Path) -> None:
    report(tmp_path, 3, "old")
    assert keep_fuller(tmp_path, 3) == ""
    assert not (tmp_path / ASIDE).exists()


@pytest.mark.parametrize("content", [b"", b"\x00\xff", b"run,status", b'"open'])
def test_scores_of_any_content_are_no_obstacle(tmp_path: Path, content: bytes) -> None:
    (tmp_path / SCORES).write_bytes(content)
    assert keep_fuller(tmp_path, 0) == ""


def test_a_fault_at_any_write_leaves_whole_files_and_the_same_call_mends_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = report(tmp_path / "expected", 3, "few")
    keep_fuller(report(tmp_path / "expected2", 12, "full"), 3)
    real, counts = files.write_bytes, iter(range(100))
    for broken in range(4):
        where = report(tmp_path / f"at{broken}", 12, "full")
        keep_fuller(where, 3)
        counts = iter(range(100))

        def write(path: Path, content: bytes, stop: int = broken) -> None:
            if next(counts) == stop:  # noqa: B023
                raise OSError(28, "No space left on device")
            real(path, content)

        monkeypatch.setattr(files, "write_bytes", write)
        with pytest.raises(OSError, match="No space"):
            report(where, 3, "few")
        assert finished_runs(where) == 12, "the scores are written last"
        assert {(where / n).read_text() for n in ("report.md", "report.html")} <= {"full", "few"}
        monkeypatch.setattr(files, "write_bytes", real)
        keep_fuller(where, 3)
        report(where, 3, "few")
        for path in expected.rglob("*.*"):
            assert (where / path.relative_to(expected)).read_bytes() == path.read_bytes()
        assert (where / ASIDE / "report.md").read_text() == "full"


@pytest.mark.parametrize("copied", range(4))
def test_a_copy_that_was_cut_short_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, copied: int
) -> None:
    report(tmp_path, 12, "full")
    real, counts = shutil.copyfile, iter(range(100))

    def copy(source: Path, target: Path) -> None:
        if next(counts) == copied:
            raise KeyboardInterrupt
        real(source, target)

    monkeypatch.setattr(files.shutil, "copyfile", copy)
    with pytest.raises(KeyboardInterrupt):
        keep_fuller(tmp_path, 3)
    assert finished_runs(tmp_path) == 12
    monkeypatch.setattr(files.shutil, "copyfile", real)
    assert keep_fuller(tmp_path, 3)
    assert (tmp_path / ASIDE / "report.html").read_text() == "full"
    assert finished_runs(tmp_path / ASIDE) == 12
