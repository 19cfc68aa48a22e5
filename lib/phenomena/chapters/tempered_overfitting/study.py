"""The chapter's experiments: networks and kernels that interpolate noisy labels, each a tidy frame with a row a seed.

All clean labels are +1 (but for the digits), and p is the label noise: the probability that a label is flipped.
Networks of one call are trained together, each with a generator of its own: what belongs to a seed is the same to the
bit whatever other seeds run with it.
"""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from phenomena.chapters.tempered_overfitting import theory
from phenomena.chapters.tempered_overfitting.data import (
    check_counts,
    fresh_points,
    sphere,
    sphere_in_span,
    uniform_points,
)
from phenomena.chapters.tempered_overfitting.two_layer import Networks, initial, train, train_lbfgs
from phenomena.science import linalg
from phenomena.science.label_noise import flipped_signs
from phenomena.statistics import interval


def validate(label_noise_levels: Sequence[float], kernel_sizes: Sequence[int]) -> None:
    """Raises `ValueError` for lists with which the study cannot be run."""
    if not any(0 < p <= 0.3 for p in label_noise_levels):
        raise ValueError(f"label_noise_levels is {label_noise_levels}: one must be above 0 and at most 0.3")
    if len(set(kernel_sizes)) < len(kernel_sizes):
        raise ValueError(f"kernel_sizes is {kernel_sizes}: all must differ")


# --- trained networks -------------------------------------------------------------------------------------------------


def train_by_descent(
    d: int,
    m: int,
    p: float,
    seeds: Sequence[int],
    *,
    width: int = 500,
    bias: bool = True,
    scale: float = 1.0,
    lr: float = 1.0,
    momentum: float = 0.9,
    target: float = 0.01,
    steps: int = 3000,
    loss: str = "logistic",
    test_points: int = 1000,
) -> pd.DataFrame:
    """Networks trained by gradient descent on m noisy points of the sphere (d = 1: of [-1, 1]), each on its own.

    For d > m all takes place in the span of the data, exactly (`data.sphere_in_span`).
    width: hidden units; bias: whether they have one.
    scale: of the initial weights.
    lr, momentum: of gradient descent.
    target: loss at which training stops; steps: after how many it stops at the latest.
    loss: logistic or exponential.
    test_points: fresh points a network for the clean error.
    Returns the columns seed, d, m, p, error (nan where the network does not interpolate) and interpolates (0 or 1).
    Raises `ValueError` for p outside [0, 0.5] or a count below 1.
    """
    check_counts(d=d, m=m, seeds=len(seeds), width=width, test_points=test_points)
    generators, x, y, net = _drawn(d, m, p, seeds, width, scale=scale, bias=bias)
    trained = train(net, x, y, steps, lr=lr, momentum=momentum, target=target, kind=loss)
    error = clean_error(trained.net, d, test_points, generators, scale=scale)
    return _rows(seeds, d, m, p, error, trained.margin > 0)


def train_by_lbfgs(
    d: int, m: int, p: float, seeds: Sequence[int], *, width: int = 300, iterations: int = 1500
) -> pd.DataFrame:
    """As `train_by_descent`, for few points in low dimension, where gradient descent does not interpolate.

    L-BFGS in float64, from biases spread wide (initial scale 3).
    """
    generators, x, y, net = _drawn(d, m, p, seeds, width, scale=3.0, dtype=torch.float64)
    trained = train_lbfgs(net, x, y, iterations, target=0.01)
    return _rows(seeds, d, m, p, clean_error(trained.net, d, 2000, generators, scale=3.0), trained.margin > 0)


def kkt_points(m: int, p: float, seeds: Sequence[int], *, width: int = 30) -> pd.DataFrame:
    """KKT points of the margin problem in one dimension, reached from networks trained to interpolation.

    For m up to about 10: L-BFGS as in `train_by_lbfgs`, then `theory.max_margin_kkt_1d` from there. `interpolates` is 1
    for the networks for which both converged.
    """
    _, x, y, net = _drawn(1, m, p, seeds, width, scale=3.0, dtype=torch.float64)
    trained = train_lbfgs(net, x, y, 1500, target=0.01)
    converged = trained.margin > 0
    errors = theory.negative_fraction(trained.net, -1.0, 1.0)
    for i in torch.where(converged)[0].tolist():
        start = Networks(*(q[i : i + 1] for q in trained.net if q is not None))
        point, feasible = theory.max_margin_kkt_1d(start, x[i, :, 0], y[i], 2000)
        converged[i] = feasible
        if feasible:
            errors[i] = theory.negative_fraction(point, -1.0, 1.0)[0]
    return _rows(seeds, 1, m, p, errors, converged)


def clean_error(
    net: Networks, d: int, test_points: int, generators: Sequence[torch.Generator], *, scale: float = 1.0
) -> Float[Tensor, " s"]:
    """Fraction of uniform points on the sphere in d dimensions with N(x) <= 0, drawn from each network's generator.

    In one dimension it is exact, on [-1, 1]. In more, a test point is u in the span of the data (the networks'
    features) plus a rest r orthogonal to it, and w_j . x = w_j . u + w0_j . r, where w0_j, the initial weights, are
    N(0, scale² / d) outside the span and independent of all that training saw. So w0_j . r = scale |r| / sqrt(d) g_j
    with independent standard normal g_j: drawn afresh for each point, this gives the exact law of N(x) at a point,
    averaged over the initial weights outside the span.
    """
    if d == 1:
        return theory.negative_fraction(net, -1.0, 1.0)
    s, features, width = net.w.shape
    wrong = torch.empty(s, dtype=torch.float64, device=net.w.device)
    for i, generator in zip(range(s), generators, strict=True):
        u, rest = fresh_points(test_points, features, d, generator, net.w.dtype)
        (z,) = linalg.matmul(u.unsqueeze(0), net.w[i : i + 1])
        if net.b is not None:
            z += net.b[i]
        if features < d:
            g = torch.randn(test_points, width, generator=generator, dtype=z.dtype, device=z.device)
            z.addcmul_(g, rest.unsqueeze(1), value=scale / d**0.5)
        (n,) = linalg.matmul(z.relu_().unsqueeze(0), net.v[i].view(1, -1, 1))
        wrong[i] = (n <= 0).double().mean()
    return wrong


def first_below(frame: pd.DataFrame, threshold: float) -> dict[int, int | None]:
    """For every m, the first dimension of the frame at which the mean error is below the threshold, if there is one."""
    means = frame.groupby(["m", "d"])["error"].mean().reset_index()
    first = means[means["error"] < threshold].groupby("m")["d"].min()
    return {int(m): int(first[m]) if m in first else None for m in frame["m"].unique()}


def _drawn(
    d: int,
    m: int,
    p: float,
    seeds: Sequence[int],
    width: int,
    *,
    scale: float,
    bias: bool = True,
    dtype: torch.dtype = torch.float32,
) -> tuple[list[torch.Generator], Float[Tensor, "s m k"], Float[Tensor, "s m"], Networks]:
    """For each seed its generator, points, noisy labels and initial network."""
    check_counts(d=d, m=m, seeds=len(seeds), width=width)
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    y = torch.cat([flipped_signs(1, m, p, g, dtype) for g in generators])
    if d == 1:
        x = torch.cat([2 * uniform_points(1, m, g, dtype) - 1 for g in generators])
    else:
        x = torch.cat([sphere_in_span(1, m, d, g, dtype) for g in generators])
    one = {"scale": scale, "bias": bias, "dimension": d, "dtype": dtype}
    w, b, v = zip(*(initial(1, x.shape[2], width, g, **one) for g in generators), strict=True)  # type: ignore[arg-type]
    return generators, x, y, Networks(torch.cat(w), torch.cat(b) if bias else None, torch.cat(v))


def _rows(seeds: Sequence[int], d: int, m: int, p: float, error: Tensor, interpolates: Tensor) -> pd.DataFrame:
    counted = error.where(interpolates, torch.nan).numpy()
    met = interpolates.double().numpy()
    return pd.DataFrame({"seed": list(seeds), "d": d, "m": m, "p": p, "error": counted, "interpolates": met})


# --- models with a closed form ----------------------------------------------------------------------------------------


def noisy_line(m: int, p: float, seed: int) -> tuple[Float[Tensor, " m"], Float[Tensor, " m"]]:
    """Sorted points in [0, 1] and their noisy labels, in float64."""
    generator = torch.Generator().manual_seed(seed)
    x = uniform_points(1, m, generator)
    return x[0, :, 0], flipped_signs(1, m, p, generator, torch.float64)[0]


def flips_in_turn(m: int, seed: int) -> tuple[Float[Tensor, " m"], Float[Tensor, "{m//2+1} {m}"]]:
    """Sorted points in [0, 1] and their labels with 0, 1, ..., m // 2 of them flipped: once flipped, always flipped."""
    generator = torch.Generator().manual_seed(seed)
    x = uniform_points(1, m, generator)[0, :, 0]
    turn = torch.randperm(m, generator=generator)
    return x, 1 - 2 * (turn < torch.arange(m // 2 + 1).unsqueeze(1)).double()


def exact_errors(m: int, p: float, seeds: Sequence[int]) -> pd.DataFrame:
    """Clean errors on the line, in closed form.

    Returns the columns p, seed, max_margin (nan where the linear programme did not converge), nearest_neighbour and
    two_flips.
    """
    rows = []
    for seed in seeds:
        x, y = noisy_line(m, p, seed)
        found = theory.min_norm_1d(x, y)
        margin = theory.negative_fraction(found.net).item() if found.converged else np.nan
        neighbour = theory.nearest_neighbour_error(x[None], y[None]).item()
        two = theory.two_flips_error(x[None], y[None]).item()
        rows.append({"p": p, "seed": seed, "max_margin": margin, "nearest_neighbour": neighbour, "two_flips": two})
    return pd.DataFrame(rows)


def affine_errors(d: int, m: int, p: float, seeds: Sequence[int]) -> pd.DataFrame:
    """Clean error of the least-norm affine function through noisy points of the sphere: a model without kinks.

    Returns the columns d, m, seed and error, at 1,000 test points.
    """
    errors = []
    for seed in seeds:
        generator = torch.Generator().manual_seed(seed)
        x = sphere(1, m + 1000, d, generator, torch.float64)[0]
        y = flipped_signs(1, m, p, generator, torch.float64)[0]
        features = torch.cat([x, torch.ones_like(x[:, :1])], 1)
        weights = torch.linalg.lstsq(features[:m], y.unsqueeze(1), driver="gels").solution  # of full rank
        errors.append((features[m:] @ weights <= 0).double().mean().item())
    return pd.DataFrame({"d": d, "m": m, "seed": list(seeds), "error": errors})


# --- kernels ----------------------------------------------------------------------------------------------------------


def kernel_excess(
    sample: Callable[[int, torch.Generator], tuple[Tensor, Tensor, Tensor]],
    kernel: str,
    n: int,
    p: float,
    seeds: Sequence[int],
    *,
    ridge: float = 0.0,
    bandwidth: float = 1.0,
) -> pd.DataFrame:
    """Excess square risk of kernel regression on n noisy labels.

    sample: n and a generator to inputs, n clean training labels and clean test labels, as `data.constant_on_sphere`.
    Returns the columns kernel, ridge, n, seed, excess and residual, the largest one at the training points.
    """
    rows = []
    for seed in seeds:
        generator = torch.Generator().manual_seed(seed)
        x, y, clean = sample(n, generator)
        noisy = y * flipped_signs(1, n, p, generator, torch.float64)[0]
        values, residual = theory.kernel_regression(kernel, x[:n], noisy, x[n:], ridge=ridge, bandwidth=bandwidth)
        excess = (values - (1 - 2 * p) * clean).square().mean().item()
        rows.append({"kernel": kernel, "ridge": ridge, "n": n, "seed": seed, "excess": excess, "residual": residual})
    return pd.DataFrame(rows)


def growth_rates(frame: pd.DataFrame) -> pd.DataFrame:
    """Growth of the excess risk in n, and the regime that follows from its interval over seeds.

    frame: the rows of `kernel_excess` for several n, with a column data. Returns the columns data, kernel, ridge, seed,
    growth, regime and residual, the latter two the same for all seeds.
    """
    rates = []
    for (data, kernel, ridge), part in frame.groupby(["data", "kernel", "ridge"]):
        table = part.pivot_table(index="seed", columns="n", values="excess")
        growth = theory.growth(torch.tensor(table.columns), torch.tensor(table.to_numpy()))
        _, low, high = interval(growth)
        one = {"data": data, "kernel": kernel, "ridge": ridge, "seed": table.index, "growth": growth.numpy()}
        rates.append(pd.DataFrame(one | {"regime": theory.regime(low, high), "residual": part["residual"].max()}))
    return pd.concat(rates, ignore_index=True)
