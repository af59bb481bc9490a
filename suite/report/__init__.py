"""Finished runs as tables, figures and pages."""

from typing import Any


def __getattr__(name: str) -> Any:
    """Import `write_report` on first use, under the name that jobs in a queue may hold.

    Jobs that were submitted before the function moved to suite.report.page were pickled with it.
    An import at the top would load Matplotlib wherever a module of this package is imported.
    """
    if name == "write_report":
        from suite.report.page import write_report

        return write_report
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
