"""Global random streams continue from a checkpoint."""

import random

import numpy as np
import torch

from suite.training.checkpoint_io import random_state, restore_random_state


def test_random_streams_continue() -> None:
    state = random_state()
    first = (torch.rand(3).tolist(), np.random.rand(3).tolist(), random.random())  # noqa: NPY002
    restore_random_state(state)
    second = (torch.rand(3).tolist(), np.random.rand(3).tolist(), random.random())  # noqa: NPY002
    assert first == second
