"""What is known in closed form: noisy moons, evaluations of a solver, a flow that cannot separate rings.

Letters: n points, m nodes of a quadrature.
"""

import math

import torch
from jaxtyping import Float64
from torch import Tensor

STAGES = {"dopri5": 6, "bosh3": 3, "dopri8": 13}  # evaluations of an attempted step; the first is that of the last one


def evaluations(attempts: int, solver: str = "dopri5") -> int:
    """Evaluations of an adaptive solver with so many attempted steps, rejected ones included: 2 + stages x attempts.

    One evaluation starts it and one more chooses the first step; every attempt, accepted or not, costs the stages.

    Raises `ValueError` for fewer than one attempt, or another solver.

    >>> [evaluations(k) for k in (1, 2, 3)]
    [8, 14, 20]
    """
    if attempts < 1 or solver not in STAGES:
        raise ValueError(f"{attempts} attempts of {solver!r}: must be 1 or more, of one of {', '.join(STAGES)}")
    return 2 + STAGES[solver] * attempts


def evaluation_bytes(points: int, dimensions: int, width: int, number: int = 8) -> int:
    """Bytes that backpropagation holds of one evaluation of a tanh field: its input and both hidden layers.

    n (d + 2 w) numbers. The parameters, held once, and the number t come on top.

    >>> evaluation_bytes(64, 2, 32)
    33792
    """
    return number * points * (dimensions + 2 * width)


def moons_centres(angles: Float64[Tensor, " m"]) -> Float64[Tensor, "2 m 2"]:
    """The two half circles (cos a, sin a) and (1 - cos a, 1/2 - sin a), moved to the middle and scaled by 1.2.

    >>> moons_centres(torch.zeros(1, dtype=torch.float64))[:, 0].tolist()
    [[0.6, -0.3], [-0.6, 0.3]]
    """
    upper = torch.stack([angles.cos(), angles.sin()], 1)
    lower = torch.stack([1 - angles.cos(), 0.5 - angles.sin()], 1)
    return 1.2 * (torch.stack([upper, lower]) - torch.tensor([0.5, 0.25], dtype=angles.dtype))


def moons_log_density(x: Float64[Tensor, "*rows 2"], noise: float = 0.1, nodes: int = 200) -> Float64[Tensor, "*rows"]:
    """log p(x) of noisy moons: a = pi u, u uniform, half of the points on each, plus normal noise of 1.2 `noise`.

    p(x) = 1/2 sum_k (1/pi) ∫ N(x; c_k(a), (1.2 noise)²) da, by the midpoint rule, whose error vanishes faster than any
    power of the spacing inside the arc, and is below 1e-4 of the density at its ends for the default nodes.

    Raises `ValueError` unless the noise is above 0.
    """
    if not noise > 0:
        raise ValueError(f"noise is {noise}: must be above 0, or there is no density")
    angles = math.pi * (torch.arange(nodes, dtype=torch.float64) + 0.5) / nodes
    centres, variance = moons_centres(angles).view(-1, 2), (1.2 * noise) ** 2
    squares = (x[..., None, :] - centres).square().sum(-1)
    return (-squares / (2 * variance)).logsumexp(-1) - math.log(2 * nodes * 2 * math.pi * variance)


def gaussian_log_density(
    x: Float64[Tensor, "n d"], mean: Float64[Tensor, " d"], covariance: Float64[Tensor, "d d"]
) -> Float64[Tensor, " n"]:
    """log N(x; mean, covariance).

    >>> zero, one = torch.zeros(1, 1, dtype=torch.float64), torch.eye(1, dtype=torch.float64)
    >>> round(gaussian_log_density(zero, zero[0], one).item(), 4)
    -0.9189
    """
    return torch.distributions.MultivariateNormal(mean, covariance).log_prob(x)
