"""The processes of one run on this machine, started by torchrun."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence

from suite.config.fields import ConfigError
from suite.config.schema import Config
from suite.runs.folder import RunFolder
from suite.system.signals import EXIT_STOPPED, heeded_signals


def launched() -> bool:
    """Tell whether torchrun or srun started several processes, of which this is one."""
    of_step = "SLURM_PROCID" in os.environ and int(os.environ.get("SLURM_NTASKS", 1)) > 1
    return "RANK" in os.environ or of_step


def start_ranks(config: Config, arguments: Sequence[str]) -> int:
    """Start a process per device, each `suite ARGUMENTS`, and pass stop signals on.

    Returns the exit code: 0 done, 1 failed, 130 stopped. Raises ConfigError for several nodes.
    """
    if config.trainer.num_nodes > 1:
        raise ConfigError(
            f"trainer.num_nodes={config.trainer.num_nodes} needs a launcher on every node:"
            " `suite sweep --cluster`, srun or torchrun"
        )
    ranks = f"--nproc-per-node={config.trainer.devices}"
    module = ["-m", "torch.distributed.run", "--standalone", ranks, "-m", "suite"]
    os.environ.setdefault("OMP_NUM_THREADS", str(config.trainer.threads))
    process = subprocess.Popen([sys.executable, *module, *arguments])
    for number in heeded_signals():  # torchrun knows only this one, and tells every rank
        signal.signal(number, lambda *_: process.send_signal(signal.SIGTERM))
    code = process.wait()
    if RunFolder.of(config).state() == "interrupted":
        return EXIT_STOPPED
    return 1 if code else 0
