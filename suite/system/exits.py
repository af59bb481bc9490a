"""Code of somebody else that ends the process: an error of the run, whatever its exit code."""

import traceback
from collections.abc import Iterator
from contextlib import contextmanager


class ExitCalled(Exception):
    """Code that a run called wanted to end the process."""


@contextmanager
def exits_are_errors() -> Iterator[None]:
    """Raise ExitCalled, which names the place, where the block calls sys.exit.

    An exit with code 0 would look like a run that is done.
    """
    try:
        yield
    except SystemExit as error:
        frames = traceback.extract_tb(error.__traceback__)
        own = [frame for frame in frames if "_sitebuiltins" not in frame.filename]
        place = f"{own[-1].filename}, line {own[-1].lineno}, in {own[-1].name}"
        raise ExitCalled(f"{place}: the code called sys.exit({error.code!r})") from error
