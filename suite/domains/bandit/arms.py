"""Bandits with arms: their rewards, and how often the first policy samples each arm.

Both are after arXiv 2404.14367, whose problems have 100 arms; here positions scale with the number
of arms N. Plain Python, since the settings read it.
"""

import itertools
import math

# Each function with the place of its peak, as a part of all arms.
PEAKS = {"hidden_peak": 0.7, "likely_peak": 0.2}
CENTRE, SCALE = -0.7, 0.4  # of the Cauchy distribution


def rewards(function: str, arms: int) -> list[float]:
    """Return e^{−((a − peak)/width)²} of each arm a, with a width of a tenth of all arms."""
    width = arms / 10
    return [math.exp(-(((arm - PEAKS[function] * arms) / width) ** 2)) for arm in range(arms)]


def start(arms: int) -> list[float]:
    """Return the probabilities of tanh(x) in `arms` bins of equal width over [−1, 1].

    x is Cauchy(−0.7, 0.4). The first and the last bin hold its tails.
    """
    inner = [below(math.atanh(2 * edge / arms - 1)) for edge in range(1, arms)]
    edges = [0.0, *inner, 1.0]
    return [right - left for left, right in itertools.pairwise(edges)]


def below(x: float) -> float:
    """Return the Cauchy distribution's probability of values below x."""
    return 0.5 + math.atan((x - CENTRE) / SCALE) / math.pi
