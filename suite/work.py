"""The worker's old place, which jobs that were queued before it moved still name."""

from suite.sweeps.worker import run_worker as work

__all__ = ["work"]
