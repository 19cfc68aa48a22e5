"""The recursive feature machine: kernel regression whose metric is the average gradient outer product of its last fit.

Radhakrishnan et al. (2022), in our own words: k_M(x, z) = exp(-|x - z|_M / b) with |v|_M^2 = v^T M v, fit, take
M = (1/n) sum_x grad f(x) grad f(x)^T, scale it to trace d, and fit again. Letters: s seeds; n, m rows; d inputs;
c outputs.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from phenomena.science.linalg import matmul


class Fit(NamedTuple):
    """Coefficients of a kernel machine on its training points, and the distances between these."""

    coefficients: Float[Tensor, "s n c"]
    distances: Float[Tensor, "s n n"]


def distances(
    x: Float[Tensor, "s m d"], z: Float[Tensor, "s n d"], metric: Float[Tensor, "s d d"]
) -> Float[Tensor, "s m n"]:
    """|x - z|_M for every pair of rows."""
    xm = matmul(x, metric)
    squares = (xm * x).sum(2)[:, :, None] + (matmul(z, metric) * z).sum(2)[:, None]
    return squares.sub_(matmul(xm, z.transpose(1, 2)), alpha=2).clamp_(min=0).sqrt_()


def fit(
    x: Float[Tensor, "s n d"], y: Float[Tensor, "s n c"], metric: Float[Tensor, "s d d"], bandwidth: float, ridge: float
) -> Fit:
    """Solves (k_M(x, x) + ridge I) coefficients = y. Raises `ValueError` for bandwidth or ridge out of range."""
    if not bandwidth > 0 or not ridge >= 0:
        raise ValueError(f"bandwidth {bandwidth} and ridge {ridge}: must be above 0, and 0 or more")
    apart = distances(x, x, metric)
    gram = (-apart / bandwidth).exp_()
    gram.diagonal(dim1=1, dim2=2).add_(ridge)
    factor = torch.linalg.cholesky(gram)
    return Fit(torch.cholesky_solve(y, factor), apart)


def predict(
    fitted: Fit, x: Float[Tensor, "s n d"], at: Float[Tensor, "s m d"], metric: Float[Tensor, "s d d"], bandwidth: float
) -> Float[Tensor, "s m c"]:
    """f(at) of a machine that was fitted to x."""
    return matmul((distances(at, x, metric) / -bandwidth).exp_(), fitted.coefficients)


def gradient_product(
    fitted: Fit, x: Float[Tensor, "s n d"], metric: Float[Tensor, "s d d"], bandwidth: float
) -> Float[Tensor, "s d d"]:
    """(1/n) sum_x sum_c grad f_c(x) grad f_c(x)^T over the training points.

    grad f(x) = -(1/b) M sum_z k(x, z) / |x - z|_M (x - z) coefficient(z); a point's own term, which has no gradient,
    is left out.
    """
    apart = fitted.distances
    slopes = (-apart / bandwidth).exp_().div_(apart.clamp(min=1e-6)).div_(bandwidth)
    slopes.diagonal(dim1=1, dim2=2).zero_()
    total = torch.zeros_like(metric)
    for c in range(fitted.coefficients.shape[2]):
        weighted = slopes * fitted.coefficients[:, None, :, c]
        moved = matmul(weighted, x) - weighted.sum(2, keepdim=True) * x
        total += matmul(moved.transpose(1, 2), moved)
    return matmul(matmul(metric, total), metric) / x.shape[1]


def scaled(metric: Float[Tensor, "s d d"]) -> Float[Tensor, "s d d"]:
    """The metric with trace d, so that distances keep their size and the bandwidth its meaning."""
    return metric * (metric.shape[1] / metric.diagonal(dim1=1, dim2=2).sum(1))[:, None, None]
