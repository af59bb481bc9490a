"""The worker's former module, which jobs that were queued before it moved name in their pickles."""

from suite.sweeps.worker import run_worker as work

__all__ = ["work"]
