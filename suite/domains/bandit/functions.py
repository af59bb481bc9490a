"""Test functions of continuous optimisation, each with minimum 0. Shapes: [...] from [..., D]."""

from torch import Tensor


def sphere(x: Tensor) -> Tensor:
    """Σ x², minimal at 0."""
    return x.square().sum(-1)


def rosenbrock(x: Tensor) -> Tensor:
    """A curved valley, minimal at 1."""
    head, tail = x[..., :-1], x[..., 1:]
    return (100 * (tail - head.square()).square() + (1 - head).square()).sum(-1)


def schwefel(x: Tensor) -> Tensor:
    """Many distant minima, the global one at 420.9687."""
    return 418.9828872724339 * x.shape[-1] - (x * x.abs().sqrt().sin()).sum(-1)


# Each function with half the width of its usual box.
FUNCTIONS = {
    "sphere": (sphere, 5.12),
    "rosenbrock": (rosenbrock, 2.048),
    "schwefel": (schwefel, 500.0),
}
