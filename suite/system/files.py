"""Files that are never seen half written: written under a temporary name, then renamed.

The temporary name of `x` is always `.x.new`, so the next write of `x` replaces what a kill left.
A lock on the temporary file keeps writers of the same file apart; the system frees a dead one's.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from suite.system.json_text import json_text

LOCK_SECONDS = 10.0  # a writer that holds a file longer is suspended, and loses its turn

Guard = tuple[Path, Callable[[], None]]
guards: list[Guard] = []  # of the folders that this process holds


@contextmanager
def guarded(folder: Path, check: Callable[[], None]) -> Iterator[None]:
    """Call `check` before any file below a folder is replaced; it raises to keep the old one."""
    guard = (folder.resolve(), check)
    guards.append(guard)
    try:
        yield
    finally:
        guards.remove(guard)


def check_guards(path: Path) -> None:
    """Raise what the guards of a path's folders raise."""
    for folder, check in guards:
        if folder in path.resolve().parents:
            check()


def temporary_path(path: Path) -> Path:
    """Return the name under which a file or folder is written before it has its own name."""
    return path.with_name(f".{path.name}.new")


def remove(path: Path) -> None:
    """Remove a file, a link or a folder with its content, if it is there; raises OSError."""
    try:
        path.unlink(missing_ok=True)
    except OSError:
        if not path.is_dir() or path.is_symlink():
            raise
        shutil.rmtree(path)


@contextmanager
def replaced_file(path: Path, durable: bool = False) -> Iterator[Path]:
    """Yield a temporary path that replaces `path` when the block ends without an error.

    With `durable` the content and the new name are on the disk when the block ends. Raises OSError,
    and then leaves `path` as it was.
    """
    temporary = temporary_path(path)
    with locked(temporary) as file:
        try:
            yield temporary
            if durable:
                sync(temporary)
            # In this order: who takes over removes temporary files, so one of the checks fails.
            check_guards(path)
            if not is_same(temporary, file):
                raise OSError(f"{path} was written by another process at the same time")
            os.replace(temporary, path)
        finally:
            if is_same(temporary, file):
                temporary.unlink()
    if durable:
        sync(path.parent)


@contextmanager
def locked(temporary: Path) -> Iterator[int]:
    """Yield the descriptor of a new, empty file, which no other process writes meanwhile."""
    deadline = time.monotonic() + LOCK_SECONDS
    while True:
        if temporary.is_dir() or temporary.is_symlink():
            remove(temporary)
        file = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            if lock(file):
                if is_same(temporary, file):  # else its former owner has renamed it
                    if os.fstat(file).st_size:
                        os.ftruncate(file, 0)  # of a writer that was killed
                    yield file
                    return
            elif time.monotonic() > deadline:
                remove(temporary)
            else:
                time.sleep(0.005)
        finally:
            os.close(file)


def lock(file: int) -> bool:
    """Return whether this process has the lock now; always where the file system has no locks."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def is_same(path: Path, file: int) -> bool:
    """Return whether a path names the open file."""
    try:
        return os.path.samestat(path.lstat(), os.fstat(file))
    except FileNotFoundError:
        return False


def sync(path: Path) -> None:
    """Wait until a file's content, or the names in a folder, are on the disk."""
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(file)
    except OSError:
        if not path.is_dir():  # some file systems cannot do it for folders
            raise
    finally:
        os.close(file)


def sync_tree(folder: Path) -> None:
    """Wait until all files below a folder, and their names, are on the disk."""
    for path in folder.rglob("*"):
        if not path.is_symlink():
            sync(path)
    sync(folder)


def write_with(path: Path, write: Callable[[BinaryIO], object], durable: bool = True) -> None:
    """Let `write` fill a file, and replace `path` by it; raises OSError and leaves `path` then."""
    with replaced_file(path, durable) as temporary, temporary.open("r+b") as file:
        write(file)


def write_bytes(path: Path, content: bytes, durable: bool = False) -> None:
    """Write a binary file atomically."""
    write_with(path, lambda file: file.write(content), durable)


def write_text(path: Path, text: str, durable: bool = False) -> None:
    """Write a text file atomically."""
    write_bytes(path, text.encode("utf-8"), durable)


def write_json(path: Path, values: Any, durable: bool = False) -> None:
    """Write a JSON file atomically."""
    write_text(path, json_text(values, indent=1) + "\n", durable)


def append_line(path: Path, text: str) -> None:
    """Append a line of text; a line that an earlier kill left half stays a line of its own."""
    with path.open("ab+") as file:
        size = file.seek(0, os.SEEK_END)
        if size and (file.seek(size - 1), file.read(1))[1] != b"\n":
            file.write(b"\n")
        file.write(f"{text}\n".encode())


def digest(path: Path) -> str:
    """Return the SHA-256 of a file as hexadecimal digits; raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_json(path: Path) -> dict[str, Any] | None:
    """Read a JSON object; None where there is no file, or it holds no JSON object.

    Raises OSError where a file is there and cannot be read.
    """
    try:
        values = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError, ValueError, RecursionError):
        return None
    return values if isinstance(values, dict) else None


def read_json_lines(path: Path) -> tuple[list[dict[str, Any]], int]:
    """Return the JSON objects up to the first broken line, and the number of lines left out.

    Nothing is there without a file. Raises OSError where a file is there and cannot be read.
    """
    lines: list[bytes] = []
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        lines = path.read_bytes().splitlines()
    rows: list[dict[str, Any]] = []
    for line in lines:
        row = json_object(line)
        if row is None:
            break
        rows.append(row)
    return rows, len(lines) - len(rows)


def json_object(line: bytes) -> dict[str, Any] | None:
    """Return the JSON object in a line, or None where it holds none."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return row if isinstance(row, dict) else None
