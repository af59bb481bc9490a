"""Faults of the machine, which say nothing about a run: a full, broken or lost disk."""

import errno
import os

CODES = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ESTALE, errno.EROFS)
# Libraries that are not written in Python give the text alone.
TEXTS = tuple(os.strerror(code) for code in CODES)


def disk_fault(error: BaseException | None) -> str | None:
    """Return what is wrong with a disk where that is behind an error, else None.

    Also the errors count that an error was raised for, or while it was handled.
    """
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if isinstance(error, OSError) and error.errno in CODES:
            return (
                f"{os.strerror(error.errno or 0)}{f': {error.filename}' if error.filename else ''}"
            )
        for text in TEXTS:
            if text in str(error):
                return text
        error = error.__cause__ or error.__context__
    return None
