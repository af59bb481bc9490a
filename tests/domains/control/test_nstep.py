"""N-step transitions against numbers by hand."""

import torch

from suite.domains.control.nstep import NStepWindow


def transitions(
    rewards: list[float], end: str, n_step: int = 3, discount: float = 0.5
) -> list[tuple[float, float, float, float]]:
    """(first observation, n-step reward, discount, last observation) of one episode.

    Observation t is the number t; the episode ends as told after the last reward.
    """
    window, found = NStepWindow(n_step, discount), []
    for t, reward in enumerate(rewards):
        last = t == len(rewards) - 1
        found += window.push(
            torch.tensor([float(t)]),
            torch.tensor([0.0]),
            reward,
            torch.tensor([t + 1.0]),
            terminated=last and end == "terminated",
            truncated=last and end == "truncated",
        )
    return [
        (t.observation.item(), t.reward.item(), t.discount.item(), t.next_observation.item())
        for t in found
    ]


def test_n_step_returns_by_hand_in_the_middle_of_an_episode() -> None:
    # γ = ½: 1 + 2/2 + 4/4 = 3 from 0 to 3; 2 + 4/2 + 8/4 = 6 from 1 to 4; γ³ = ⅛.
    assert transitions([1, 2, 4, 8], "going on") == [(0, 3, 0.125, 3), (1, 6, 0.125, 4)]


def test_a_truncated_episode_is_bootstrapped_from_its_last_observation() -> None:
    # What is left at the end: 4 + 8/2 = 8 over two actions, γ² = ¼; 8 over one, γ = ½.
    expected = [(0, 3, 0.125, 3), (1, 6, 0.125, 4), (2, 8, 0.25, 4), (3, 8, 0.5, 4)]
    assert transitions([1, 2, 4, 8], "truncated") == expected


def test_nothing_follows_a_terminated_episode() -> None:
    # Transition 0 was complete one action earlier, before the termination.
    expected = [(0, 3, 0.125, 3), (1, 6, 0.0, 4), (2, 8, 0.0, 4), (3, 8, 0.0, 4)]
    assert transitions([1, 2, 4, 8], "terminated") == expected


def test_an_episode_shorter_than_n_is_kept_whole() -> None:
    assert transitions([1, 2], "truncated") == [(0, 2, 0.25, 2), (1, 2, 0.5, 2)]
    assert transitions([5], "terminated", n_step=1) == [(0, 5, 0.0, 1)]


def test_a_window_does_not_reach_over_the_end_of_an_episode() -> None:
    window = NStepWindow(3, 0.5)
    zero = torch.zeros(1)
    assert len(window.push(zero, zero, 1.0, zero, terminated=False, truncated=True)) == 1
    assert window.push(zero, zero, 2.0, zero, terminated=False, truncated=False) == []
