"""Leases that nobody of ours wrote, and writers that wake up too late."""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import lightning.pytorch as L
import pytest

from suite.runs import lease
from suite.runs.folder import RunFolder
from suite.runs.lease import EXPIRY_SECONDS, LeaseHeld, LeaseLost, hold, is_leased
from suite.system.files import read_json, replaced_file, write_json
from suite.train import train
from tests.conftest import Tiny
from tests.runs.test_lease import from_elsewhere

FUTURE = time.time() + 10**9
Make = Callable[[Path], object]


def own(**changes: object) -> str:
    """A lease of this machine with other values; None leaves a key out."""
    facts = lease.this_process() | changes
    return json.dumps({key: value for key, value in facts.items() if value is not None})


def file(text: str | bytes, age: float = 10 * EXPIRY_SECONDS) -> Make:
    def make(path: Path) -> None:
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        os.utime(path, (time.time() - age,) * 2)

    return make


def unreadable(path: Path) -> None:
    file("{}")(path)
    path.chmod(0)


ODD: dict[str, Make] = {
    "of the future": lambda path: (path.write_text("{}"), os.utime(path, (FUTURE, FUTURE))),
    "of the future, elsewhere": file('{"machine": "another", "pid": 1, "started": 2}', -(10**8)),
    "without a pid": file(own(pid=None)),
    "without a start": file(own(started=None)),
    "with a text as pid": file(own(pid="../self")),
    "with a list as pid": file(own(pid=[1])),
    "empty": file(""),
    "a folder": lambda path: path.mkdir(),
    "a folder with files": lambda path: (path.mkdir(), (path / "a").write_text("a")),
    "a link to nothing": lambda path: path.symlink_to("nowhere"),
    "a link to itself": lambda path: path.symlink_to(path.name),
    "a pipe": os.mkfifo,
    "not JSON": file("{"),
    "a list": file("[1]"),
    "no text": file(b"\xff\xfe\x00"),
    "unreadable": unreadable,
    "nested too deep": file("[" * 10**5),
}


@pytest.mark.parametrize("kind", ODD)
def test_an_odd_lease_blocks_nobody_for_ever(kind: str, tmp_path: Path) -> None:
    ODD[kind](tmp_path / ".claim-3")
    assert not is_leased(tmp_path)
    with hold(tmp_path) as held:
        assert held.path.name == ".claim-4"
        with pytest.raises(LeaseHeld), hold(tmp_path):
            pass
    assert not is_leased(tmp_path)


@pytest.mark.parametrize(
    "name", [".claim-", ".claim-²", ".claim-x", ".claim--1", ".claim-" + "9" * 99]
)
def test_a_name_that_is_no_leases_does_not_count(name: str, tmp_path: Path) -> None:
    (tmp_path / name).touch()
    with hold(tmp_path) as held:
        assert held.path.name == ".claim-1"


@pytest.mark.parametrize("text", ["", "{", own(pid=None)])
def test_a_fresh_lease_that_names_nobody_is_respected_for_a_while(
    tmp_path: Path, text: str
) -> None:
    (tmp_path / ".claim-1").write_text(text)
    assert is_leased(tmp_path)
    with pytest.raises(LeaseHeld), hold(tmp_path):
        pass


def take_over(folder: Path, number: int = 9) -> None:
    """Do what the process does that finds the owner dead."""
    for path in folder.glob(".claim-*"):
        path.unlink()
    (folder / f".claim-{number}").write_text(json.dumps({"machine": "another"}))


@pytest.mark.parametrize("moment", ["before", "while writing"])
def test_a_file_is_not_replaced_after_a_takeover(tmp_path: Path, moment: str) -> None:
    target = tmp_path / "checkpoints/last.ckpt"
    target.parent.mkdir()
    write_json(target, {"of": "the new owner"})

    def write_late() -> None:
        with replaced_file(target) as temporary:
            if moment == "while writing":
                take_over(tmp_path)
            temporary.write_text("late")

    with hold(tmp_path):
        if moment == "before":
            take_over(tmp_path)
        with pytest.raises(LeaseLost, match="was taken over"):
            write_late()
    assert read_json(target) == {"of": "the new owner"}
    assert [path.name for path in tmp_path.glob(".claim-*")] == [".claim-9"]
    write_json(target, {"of": "somebody without a lease"})


WRITERS = ["write_row", "write_examples", "save_checkpoint", "finish", "progress"]


@pytest.mark.parametrize("what", WRITERS)
def test_an_owner_that_was_suspended_writes_nothing_at_all(
    tiny: Tiny, tmp_path: Path, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Take the run over just before one of its writes, and compare all files afterwards."""
    from suite.runs.session import Session
    from suite.training.progress import Progress

    owner = {"save_checkpoint": L.Trainer, "progress": Progress}.get(what, Session)
    name = "write" if what == "progress" else what
    config = tiny("bandit", results=tmp_path)
    run, honest, calls, seen = RunFolder.of(config), getattr(owner, name), [0], {}

    def late(self: object, *arguments: object, **named: object) -> object:
        calls[0] += 1
        if calls[0] == (1 if what in ("finish", "write_examples") else 2):
            from_elsewhere(next(run.path.glob(".claim-*")))
            take_over(run.path)
            seen.update(contents(run.path))
        return honest(self, *arguments, **named)

    monkeypatch.setattr(owner, name, late)
    if what == "write_examples":
        honest = RunFolder.write_examples
        monkeypatch.setattr(owner, name, lambda self, step, rows: late(self.folder, step, rows))
        from suite.domains.bandit.online import Bandit

        monkeypatch.setattr(Bandit, "examples", lambda self: [{"a": 1}], raising=False)
    with pytest.raises(LeaseLost):
        train(config)
    after = contents(run.path)
    assert seen
    assert {name for name in after if after[name] != seen.get(name)} <= {"log.txt"}


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
