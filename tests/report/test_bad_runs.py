"""One bad run never stops a report: it is named with the reason, and its numbers are left out."""

import csv
import io
import json
import math
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest
from matplotlib.figure import Figure

from suite.report import reading
from suite.report.comparison import collect
from suite.report.figures import without_markup
from suite.report.page import image_of, write_report
from suite.report.reading import log_end
from suite.report.records import RunRecord
from suite.report.text import clean, csv_text, one_line
from suite.runs.folder import RunFolder
from suite.sweeps.spec import Sweep, load_sweep
from tests.conftest import ROOT

ENVIRONMENT = b'{"git": "0123456", "python": "3.11", "packages": {"torch": "2.0"}}'


def made(tmp_path: Path, seeds: int) -> Sweep:
    """Finished runs of two kinds of feedback."""
    path = tmp_path / "mine.yaml"
    grids = f"{{a: {{feedback: [positive, mixed], seed: {list(range(seeds))}}}}}"
    path.write_text(f"config: {ROOT}/configs/bandit/sphere.yaml\ngrids: {grids}\n")
    sweep = load_sweep(path, [f"results_dir={tmp_path}/results"])
    for config in sweep.points.values():
        run = RunFolder.of(config)
        run.create(config)
        run.path.joinpath("environment.json").write_bytes(ENVIRONMENT)
        run.report_progress(step=10)
        for step in (0, 5, 10):
            run.log_metrics(step, {"eval/score": step + config.seed / 10, "eval/kl": 0.5})
        run.finish("finished", None)
    return sweep


@pytest.fixture
def sweep(tmp_path: Path) -> Sweep:
    """Four finished runs, two of each kind of feedback."""
    return made(tmp_path, 2)


@pytest.fixture(autouse=True)
def light(monkeypatch: pytest.MonkeyPatch) -> None:
    """No images: their drawing takes most of a report's time."""
    monkeypatch.setattr("suite.report.page.image_of", lambda figure, suffix: b"image")


def first_run(sweep: Sweep) -> RunFolder:
    return RunFolder.of(next(iter(sweep.points.values())))


def replaced(name: str, content: bytes) -> Callable[[Path], object]:
    return lambda run: (run / name).write_bytes(content)


def with_row(line: str) -> Callable[[Path], object]:
    """Put a line in place of the second row of metrics."""

    def change(run: Path) -> None:
        rows = (run / "metrics.jsonl").read_text().splitlines()
        (run / "metrics.jsonl").write_text("\n".join([rows[0], line, rows[2]]) + "\n")

    return change


def folder_in_place_of(name: str) -> Callable[[Path], object]:
    def change(run: Path) -> None:
        (run / name).unlink()
        (run / name).mkdir()

    return change


LEFT_OUT = {
    "a torn row": with_row('{"step": 5, "eval/sc'),
    "a binary row": with_row("\x00\x01"),
    "a row that is no object": with_row("[1, 2]"),
    "a score of text": with_row('{"step": 5, "eval/score": "high"}'),
    "a score of nothing": with_row('{"step": 5, "eval/score": null}'),
    "a score that is a list": with_row('{"step": 5, "eval/score": [1]}'),
    "a step of text": with_row('{"step": "5", "eval/score": 1}'),
    "no step": with_row('{"eval/score": 1}'),
    "a row of a megabyte": with_row(json.dumps({"step": 5, "eval/score": "x" * 10**6})),
    "no metrics": lambda run: (run / "metrics.jsonl").unlink(),
    "empty metrics": replaced("metrics.jsonl", b""),
    "metrics that end early": replaced("metrics.jsonl", b'{"step": 0, "eval/score": 0.0}\n'),
    "another last score": lambda run: (run / "metrics.jsonl").write_text(
        (run / "metrics.jsonl")
        .read_text()
        .replace('"step": 10, "eval/score": ', '"step": 10, "eval/score": 7')
    ),
    "metrics that are a folder": folder_in_place_of("metrics.jsonl"),
    "a summary that is no JSON": replaced("summary.json", b"\xff\xfe{"),
    "a summary that is a list": replaced("summary.json", b"[]"),
    "a summary that is a folder": folder_in_place_of("summary.json"),
    "a deep summary": replaced("summary.json", b"[" * 10**5),
}


def test_runs_whose_numbers_cannot_be_trusted_are_named_and_left_out(tmp_path: Path) -> None:
    sweep = made(tmp_path, len(LEFT_OUT) + 2)
    runs = [RunFolder.of(c) for c in sweep.points.values() if c.feedback == "positive"]
    for run, change in zip(runs, LEFT_OUT.values(), strict=False):
        change(run.path)
    page = write_report(sweep, "x")
    assert len(page.read_text()) < 200_000
    text = (sweep.folder / "report.md").read_text()
    bad = {record.name: record for record in collect(sweep) if not record.counts}
    for run, kind in zip(runs, LEFT_OUT, strict=False):
        assert run.path.name in bad, kind
        assert bad[run.path.name].reason, kind
        assert f"- `{run.path.name}` " in text, kind
        assert bad[run.path.name].reason in text, kind
    assert len(bad) == len(LEFT_OUT)
    assert f"positive improves in the 2 of {len(runs)} runs" in text.replace(
        "does not clearly improve", "improves"
    )
    assert f"| sphere-10d | positive | 2 of {len(runs)} |" in text
    assert f"| sphere-10d | mixed | {len(runs)} |" in text


NOTED = {
    "an environment of text": replaced("environment.json", b'"text"'),
    "a binary environment": replaced("environment.json", b"\x80\x00"),
    "packages of text": replaced("environment.json", b'{"git": 1, "packages": "all"}'),
    "packages of lists": replaced("environment.json", b'{"python": [], "packages": {"a": [1]}}'),
}
HARMLESS = {
    "no environment": lambda run: (run / "environment.json").unlink(),
    "an environment of surrogates": replaced(
        "environment.json", ENVIRONMENT.replace(b"0123456", rb"\ud800")
    ),
    "examples of text": replaced("examples.json", b'{"rows": "all"}'),
    "examples of numbers": replaced("examples.json", b'{"rows": [1, null, "x"]}'),
    "examples that differ": replaced(
        "examples.json", b'{"rows": [{"a": 1}, {"b": {"c": []}}, 3, {"a": "\\ud83d$_^\\\\ <b>"}]}'
    ),
    "examples without columns": replaced("examples.json", b'{"rows": [{}]}'),
    "long examples": replaced("examples.json", b'{"rows": [{"a": "%s"}]}' % (b"x" * 10**6)),
    "a number without end": replaced("examples.json", b'{"rows": [{"a": 1e999, "b": NaN}]}'),
    "a config that no longer loads": replaced("config.yaml", b": ["),
    "no progress": lambda run: (run / "progress.json").unlink(),
    "a log of one line": replaced("log.txt", b"y" * 10**6),
    "a binary log": replaced("log.txt", bytes(range(256)) * 10),
    "a log that is a folder": lambda run: (run / "log.txt").mkdir(),
    "a video that is a folder": lambda run: (run / "video.mp4").mkdir(),
    "stray files": lambda run: (run.parent / "notes.txt").write_text("mine"),
}


def test_odd_files_beside_the_numbers_leave_them_as_they_are(tmp_path: Path) -> None:
    kinds = NOTED | HARMLESS
    sweep = made(tmp_path, len(kinds))
    runs = [RunFolder.of(c) for c in sweep.points.values() if c.feedback == "positive"]
    for run, change in zip(runs, kinds.values(), strict=True):
        change(run.path)
    page = write_report(sweep, "x").read_text()
    records = {record.name: record for record in collect(sweep)}
    assert len(page) < 200_000
    for run, kind in zip(runs, kinds, strict=True):
        assert records[run.path.name].counts, kind
        assert bool(records[run.path.name].notes) is (kind in NOTED), kind
        assert all(len(str(row)) < 10_000 for row in records[run.path.name].examples), kind
    assert 'id="notes"' in page
    assert "\x1b" not in page


def test_a_folder_without_permission_is_named(
    sweep: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = first_run(sweep).path
    checked = reading.read_checked

    def read(folder: RunFolder) -> reading.Found:
        if folder.path == closed:
            raise PermissionError(13, "Permission denied", str(closed))
        return checked(folder)

    monkeypatch.setattr(reading, "read_checked", read)
    write_report(sweep, "x")
    text = (sweep.folder / "report.md").read_text()
    assert f"`{closed.name}` unreadable, left out: its folder cannot be read (Permission" in text


def test_a_file_in_place_of_a_run_is_a_run_that_was_not_begun(sweep: Sweep) -> None:
    folder = first_run(sweep).path
    for path in sorted(folder.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    folder.rmdir()
    folder.write_text("stray")
    write_report(sweep, "x")
    assert f"`{folder.name}` " in (sweep.folder / "report.md").read_text()


def test_scores_that_are_not_finite_are_shown_and_give_no_verdict(sweep: Sweep) -> None:
    run = first_run(sweep)
    run.log_metrics(15, {"eval/score": -math.inf, "eval/kl": math.nan})
    run.finish("finished", None)
    write_report(sweep, "x")
    text = (sweep.folder / "report.md").read_text()
    assert "positive has a score that is not finite, so no verdict: -inf" in text


def test_scores_written_anew_after_the_end_are_told(sweep: Sweep) -> None:
    run = first_run(sweep)
    rows = [json.loads(line) for line in run.metrics_path.read_text().splitlines()]
    run.metrics_path.write_text("".join(json.dumps(r | {"eval/score": 1.0}) + "\n" for r in rows))
    write_report(sweep, "x")
    text = (sweep.folder / "report.md").read_text()
    assert f"- `{run.path.name}`: its scores changed after its end" in text


def test_only_the_end_of_a_log_is_read(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.log_path.write_text("first\n" + "z" * 10**6 + "\nlast")
    end = log_end(run, 8)
    assert end.endswith("\nlast")
    assert len(end) < 2000


@pytest.mark.parametrize("text", ["=1+1", "+1", "-cmd", "@x", "\t=1", "\r=1", " =1", "=\x1b[2J"])
def test_no_cell_of_text_is_a_formula(text: str) -> None:
    content = csv_text(["a", text], [[1.5, text], [-2, "plain"], [None, "sphere-10d"]])
    rows = list(csv.reader(io.StringIO(content, newline="")))
    assert rows[0][1].startswith("'")
    assert rows[1][1].startswith("'")
    assert rows[2] == ["-2", "plain"]
    assert rows[3] == ["", "sphere-10d"]
    assert "\x1b" not in content


def test_control_characters_and_lone_surrogates_do_not_reach_a_page() -> None:
    assert clean("a\x1b[31mb\x00\ud800c\nd") == "a[31mb?c\nd"
    assert one_line("a\n b\t\x1bc") == "a b c"
    assert len(one_line("x" * 10**6)) < 400


@pytest.mark.parametrize("name", ["$x", "$\\frac{$", "a_b^c", "50 % \\ {", "\ud83d x", "\x1b[1m"])
def test_names_with_marks_of_formulas_are_drawn_as_they_are(name: str) -> None:
    figure = Figure()
    ax = figure.add_subplot()
    ax.plot([1, 2], label=f"x{name}")
    ax.set(title=name, xlabel=name, ylabel=name)
    ax.legend()
    without_markup(figure)
    assert image_of(figure, "png")[:4] == b"\x89PNG"
    assert ax.get_title() == clean(name)


class Links(HTMLParser):
    """The addresses of a page's links."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value or "" for name, value in attrs if (tag, name) == ("a", "href")]


def test_links_lead_to_runs_of_any_name(sweep: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "a b#c?d%41&e'f\"g<h>é"
    monkeypatch.setattr(
        RunRecord, "row", property(lambda r: dict.fromkeys(("run",), name) | {"status": "finished"})
    )
    monkeypatch.setattr("suite.report.page.scores_csv", lambda records: "")
    links = Links()
    links.feed(write_report(sweep, "x").read_text())
    address = next(link for link in links.found if link.endswith("config.yaml"))
    assert not set("#?\"'<> ") & set(address)
    assert unquote(address) == f"runs/{name}/config.yaml"
