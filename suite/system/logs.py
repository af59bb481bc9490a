"""Log messages: what reaches the terminal, and what goes to a run's log file."""

import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from typing_extensions import override

from suite.system.terminal import forgiving, printable


class Printable(logging.Formatter):
    """Messages whose control characters are written out: a terminal would obey them."""

    @override
    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))


def set_up_logging() -> None:
    """Show the suite's messages from INFO on, and those of libraries from WARNING on."""
    logging.basicConfig(level=logging.WARNING, stream=forgiving(sys.stderr), force=True)
    for handler in logging.getLogger().handlers:
        handler.setFormatter(Printable("%(message)s"))
    logging.getLogger("suite").setLevel(logging.INFO)


class LogFile(logging.FileHandler):
    """A log file whose messages are lost while the disk is full: no reason to end a run."""

    @override
    def handleError(self, record: logging.LogRecord) -> None:
        if not isinstance(sys.exc_info()[1], OSError):
            super().handleError(record)


@contextmanager
def log_to_file(path: Path) -> Iterator[None]:
    """Append the log messages of the block to a file, and the traceback of an error in it."""
    handler = LogFile(path, encoding="utf-8")
    handler.setFormatter(Printable("%(asctime)s %(levelname)s %(message)s"))
    logging.getLogger().addHandler(handler)
    try:
        yield
    except Exception as error:
        trace = (type(error), error, error.__traceback__)
        handler.handle(logging.LogRecord("suite", logging.ERROR, "", 0, "it failed", None, trace))
        raise
    finally:
        logging.getLogger().removeHandler(handler)
        handler.close()


def silence_libraries() -> None:
    """Hide routine notices of Lightning and transformers; imports both, which takes seconds."""
    import lightning.pytorch  # noqa: F401  (its import sets the level that is changed here)

    for name in ("lightning", "lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    if find_spec("transformers") is not None:  # of the extra `language`
        from transformers.utils import logging as transformers_logging

        transformers_logging.disable_progress_bar()
    # Known and harmless: a private call inside Lightning, the reference being in eval mode, and
    # that SLURM is installed where a run is not one of its jobs.
    warnings.filterwarnings("ignore", message=".*`srun` command is available.*")
    warnings.filterwarnings("ignore", message=".*LeafSpec.*")
    warnings.filterwarnings("ignore", message=".*in eval mode at the start of training.*")
