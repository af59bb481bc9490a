"""What a run says on a terminal must not decide how the run ends.

A terminal may be closed, its disk may be full, and it may know ASCII alone. Text that others wrote
may hold control characters, which a terminal obeys.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO

KEPT = "\n\t"
CONTROLS = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160))}
CONTROLS = {code: text for code, text in CONTROLS.items() if chr(code) not in KEPT}
MAX_CHARACTERS = 100_000  # of a message


def printable(text: object) -> str:
    """Return a text for a terminal or a log: control characters are written out, the end is cut."""
    shown = str(text)
    more = len(shown) - MAX_CHARACTERS
    if more > 0:
        shown = f"{shown[:MAX_CHARACTERS]} … and {more} more characters"
    return shown.translate(CONTROLS)


class Forgiving:
    """A stream that drops what it cannot write, from the first error of the system on.

    What its encoding lacks is written as an escape. Everything else is that of the stream.
    """

    def __init__(self, stream: TextIO | None) -> None:
        self.stream = stream
        self.error: OSError | ValueError | None = None
        """The first error; ValueError where the stream is closed."""

    def write(self, text: str) -> int:
        """Write a text as well as the stream can; never raises."""
        if self.stream is None or self.error is not None:
            return len(text)
        try:
            try:
                self.stream.write(text)
            except UnicodeEncodeError:
                encoding = self.stream.encoding or "ascii"
                self.stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
        except (OSError, ValueError) as error:
            self.give_up(error)
        return len(text)

    def flush(self) -> None:
        """Bring what was written to the terminal or file; never raises."""
        if self.stream is None or self.error is not None:
            return
        try:
            self.stream.flush()
        except (OSError, ValueError) as error:
            self.give_up(error)

    def give_up(self, error: OSError | ValueError) -> None:
        """Send what is in the stream's buffer nowhere: Python would try again at its end."""
        self.error = error
        with suppress(OSError, ValueError, AttributeError):
            assert self.stream is not None
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.stream.fileno())
            os.close(nowhere)

    def isatty(self) -> bool:
        """Tell whether a person may be looking."""
        with suppress(OSError, ValueError):
            return self.stream is not None and self.error is None and self.stream.isatty()
        return False

    def __getattr__(self, name: str) -> Any:
        if self.stream is None and name in ("encoding", "errors"):
            return "utf-8" if name == "encoding" else "strict"
        return getattr(self.stream, name)


def forgiving(stream: TextIO | None) -> TextIO:
    """Return a stream that never raises when it is written to."""
    wrapped: Any = stream if isinstance(stream, Forgiving) else Forgiving(stream)
    result: TextIO = wrapped
    return result


@contextmanager
def forgiving_terminal() -> Iterator[None]:
    """Let `print` and logging in the block survive a terminal that is closed, full or ASCII.

    A closed standard stream would otherwise lend its number to the next file that is opened, and
    take what libraries print into that file.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the smallest free number
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = forgiving(sys.stdout), forgiving(sys.stderr)
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        sys.stdout, sys.stderr = before
