"""Run several command lines of the suite, each in a process of its own, after importing once.

A short run spends most of its time on the imports of large libraries. Here each run is a fork of a
process that has imported them. Nothing of the suite is imported before the fork. The argument is a
JSON list of [folder, arguments]; the output is a JSON list of [exit code, output].
"""

import json
import os
import runpy
import sys
import tempfile

import lightning.pytorch  # noqa: F401
import transformers.models.llama.modeling_llama  # noqa: F401


def forked(folder: str, arguments: list[str]) -> tuple[int, str]:
    """Run `python -m suite` in a folder; return its exit code and output."""
    with tempfile.TemporaryFile() as output:
        pid = os.fork()
        if pid == 0:
            os.chdir(folder)
            os.dup2(output.fileno(), 1)
            os.dup2(output.fileno(), 2)
            sys.argv = ["suite", *arguments]
            runpy.run_module("suite", run_name="__main__")  # ends with sys.exit
        _, status = os.waitpid(pid, 0)
        output.seek(0)
        return os.waitstatus_to_exitcode(status), output.read().decode(errors="replace")


if __name__ == "__main__":
    print(json.dumps([forked(*job) for job in json.loads(sys.argv[1])]))
