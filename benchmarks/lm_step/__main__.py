"""`python -m benchmarks.lm_step`: a training step on rows of feedback, against bare torch and TRL.

Writes results/published/lm_step.md. Every contender trains in its own process, on the same rows
and from the same model. The contenders take turns in every round. TRL comes with the extra `bench`.
"""

import argparse
import json
from pathlib import Path

from benchmarks.lm_step.contenders import CONTENDERS
from benchmarks.lm_step.page import page, sampling_section
from benchmarks.lm_step.rounds import THREADS, measure_in_rounds, measure_one
from benchmarks.lm_step.workload import LARGE_VOCABULARY, SMALL, Shape, Workload
from suite.system.files import write_text

PAGE = Path("results/published/lm_step.md")
ROUNDS = 3


def main() -> None:
    """Measure all contenders and write the page, or measure one of them in this process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--contender", choices=CONTENDERS, help="measure one, in this process")
    parser.add_argument("--folder", type=Path, help="folder of the model and the rows")
    parser.add_argument("--shape", type=int, nargs=5, help="the fields of Shape, in order")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    options = parser.parse_args()
    if options.contender:
        workload = Workload(options.folder, Shape(*options.shape), THREADS)
        print(json.dumps(measure_one(options.contender, workload)))
        return
    small = measure_in_rounds(["suite", "plain", "kto", "dpo"], SMALL, options.rounds)
    large = measure_in_rounds(["plain", "fused", "body"], LARGE_VOCABULARY, 2)
    write_text(PAGE, page(small, large) + sampling_section())
    print(PAGE.read_text())


if __name__ == "__main__":
    main()
