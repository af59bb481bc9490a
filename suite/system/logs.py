"""One place that decides what reaches the terminal."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path


def set_up_logging() -> None:
    """Show our own messages, and of the libraries' only warnings that concern the user."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s", force=True)
    logging.getLogger("suite").setLevel(logging.INFO)


@contextmanager
def also_in(path: Path) -> Iterator[None]:
    """Append what is logged meanwhile to a file, and the traceback of what ends the block."""
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logging.getLogger().addHandler(handler)
    try:
        yield
    except Exception as error:
        trace = (type(error), error, error.__traceback__)
        note = logging.LogRecord("suite", logging.ERROR, "", 0, "it failed", None, trace)
        handler.handle(note)
        raise
    finally:
        logging.getLogger().removeHandler(handler)
        handler.close()


def silence_libraries() -> None:
    """Keep Lightning's and transformers' notices of every run off the terminal; heavy to import."""
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
