"""Closed forms and exact solvers: what interpolating noisy labels costs, in one dimension, without bias, with kernels.

Every clean label is +1 and every training label is flipped to -1 with probability p. The clean error of a
classifier sign(N) is L = Pr_x[N(x) <= 0]: *benign* if it vanishes, *tempered* if it stays between 0 and a
function of p that vanishes with p, *catastrophic* if it stays above a constant however small p is.

References:
    Kornowski, Yehudai, Shamir, "From Tempered to Benign Overfitting in ReLU Neural Networks", NeurIPS 2023.
    Mallinar et al., "Benign, Tempered, or Catastrophic: A Taxonomy of Overfitting", NeurIPS 2022.
    Boursier, Flammarion, "Penalising the biases in norm regularisation enforces sparsity", NeurIPS 2023.

Letters: s seeds, m training points (the papers' letter), d dimension, j hidden units, t test points, n rows.
"""

import math
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.optimize import linprog, minimize
from torch import Tensor

from phenomena.chapters.tempered_overfitting.two_layer import Networks
from phenomena.science import linalg


def bias_free_limit(p: float, random_ties: bool = False) -> float:
    """Clean error of the max-margin network without bias, 1/2 + arcsin(sqrt p) / 2 pi, as d / m² and m p grow large.

    Nearly orthogonal points: the max-margin network has one neuron of each sign, N(x) = relu(a) - relu(b)
    with a = sum over labels +1 of x_i . x and b = sum over labels -1 of x_i . x; at a test point these are independent
    N(0, (1 - p) m / d) and N(0, p m / d). Then Pr[a <= 0] = 1/2 and Pr[0 < a <= b] = arctan(sqrt(p / (1 - p))) / 2 pi.
    Trained networks stay below it; from a small initial scale, late in training and with many flips they approach the
    value with random_ties. Wide networks at the usual scale keep the constant part of their initial weights while flips
    are few.
    random_ties: where a <= 0 and b <= 0, so that N = 0, count a half (initial weights decide there): 1/8 less.
    """
    return 0.5 + math.asin(math.sqrt(p)) / (2 * math.pi) - (0.125 if random_ties else 0.0)


# --- one dimension, exactly ------------------------------------------------------------------------


class MinNorm(NamedTuple):
    """A network of least norm in one dimension.

    net: in float64, s = 1.
    norm: sum_j |v_j| |(w_j, b_j)|, half the squared norm of its balanced parameters.
    gap: (norm - proven lower bound) / norm.
    rounds: linear programmes solved.
    converged: whether the gap is below the tolerance.
    """

    net: Networks
    norm: float
    gap: float
    rounds: int
    converged: bool


def min_norm_1d(
    x: Float[Tensor, " m"], y: Float[Tensor, " m"], *, tolerance: float = 1e-6, rounds: int = 100
) -> MinNorm:
    """The two-layer ReLU network of least norm with y_i N(x_i) >= 1, of any width: the max-margin classifier.

    By homogeneity the least ||theta||² / 2 is the least sum_k |c_k| over N(x) = sum_k c_k relu(x cos a_k + sin a_k), a
    linear programme over all angles a (Boursier and Flammarion 2023, section 3; biases are part of the norm, as in
    Kornowski et al.).
    Its dual is: maximise sum_i l_i over l >= 0 with |g(a)| <= 1 for all a, g(a) = sum_i l_i y_i relu(x_i cos a +
    sin a). Between two angles at which a neuron's kink meets a data point, g = A cos a + B sin a: its extremes over
    *all* angles are known in closed form. Column generation: solve with some angles (HiGHS), add those where |g| > 1,
    until there is none. Scaled by 1 / max |g| the dual solution is feasible, so that norm / max |g| is a proven lower
    bound.
    """
    xs, ys = x.double().numpy().ravel(), y.double().numpy().ravel()
    kinks = np.arctan2(-xs, 1.0)  # x_i cos a + sin a = 0
    edges = np.unique(np.mod(np.concatenate([kinks, kinks + np.pi]), 2 * np.pi))
    cells = np.stack([edges, np.append(edges[1:], edges[0] + 2 * np.pi)], 1)
    middle = cells.mean(1)
    active = np.outer(np.cos(middle), xs) + np.sin(middle)[:, None] > 0  # (cells, m)
    angles = np.concatenate([edges, middle])
    for solved in range(1, rounds + 1):
        atoms = np.maximum(np.outer(xs, np.cos(angles)) + np.sin(angles), 0)  # (m, atoms)
        signed = ys[:, None] * np.concatenate([atoms, -atoms], 1)
        for method in ("highs", "highs-ds", "highs-ipm"):  # flips 1e-5 apart make one or the other fail
            result = linprog(np.ones(2 * len(angles)), A_ub=-signed, b_ub=-np.ones(len(xs)), method=method)
            if result.status == 0:
                break
        else:
            nothing = torch.full((1, 1), torch.nan, dtype=torch.float64)
            return MinNorm(Networks(nothing[None], nothing, nothing), math.nan, math.inf, solved, False)
        dual = np.maximum(-result.ineqlin.marginals, 0) * ys
        a, b = active @ (dual * xs), active @ dual  # g = a cos + b sin in each cell
        inside = np.mod(
            np.arctan2(b, a)[:, None] + [0, np.pi] - cells[:, :1], 2 * np.pi
        )  # stationary points, from the edge
        held = inside < (cells[:, 1] - cells[:, 0])[:, None]
        best = np.where(held.any(1), np.hypot(a, b), 0)
        ends = np.abs(a * np.cos(cells[:, 0]) + b * np.sin(cells[:, 0]))
        largest = max(best.max(), ends.max())
        gap = 1 - 1 / max(largest, 1.0)
        new = (cells[:, 0] + np.where(held[:, 0], inside[:, 0], inside[:, 1]))[best > 1 + tolerance / 2]
        if gap <= tolerance or not len(new) or solved == rounds:
            break
        angles = np.concatenate([angles, new])
    c = result.x[: len(angles)] - result.x[len(angles) :]
    used = np.abs(c) > 1e-12 * np.abs(c).max()
    root = np.sqrt(np.abs(c[used]))
    w, bias, v = root * np.cos(angles[used]), root * np.sin(angles[used]), root * np.sign(c[used])
    net = Networks(*(torch.from_numpy(q) for q in (w[None, None], bias[None], v[None])))
    return MinNorm(net, float(result.fun), float(gap), solved, bool(gap <= tolerance))


def max_margin_kkt_1d(
    net: Networks, x: Float[Tensor, " m"], y: Float[Tensor, " m"], iterations: int = 1000
) -> tuple[Networks, bool]:
    """A local solution of min ||theta||² / 2 subject to y_i N(x_i) >= 1, from the given network, by SLSQP.

    Gradient flow on the logistic loss ends in the direction of such a KKT point (Lyu and Li 2020). For m up to about 20
    and width up to about 30: each iteration solves a quadratic programme in all parameters.
    net: one network (s = 1) in float64, with bias.
    Returns the network and whether the solver converged to a feasible point (margins above 1 - 1e-6).
    Raises `ValueError` for a network that does not interpolate.
    """
    width = net.v.shape[1]
    xs, ys = x.double().numpy().ravel(), y.double().numpy().ravel()

    def margins(theta: np.ndarray) -> np.ndarray:
        w, b, v = theta.reshape(3, width)
        return ys * (np.maximum(np.outer(xs, w) + b, 0) @ v)

    def slopes(theta: np.ndarray) -> np.ndarray:
        w, b, v = theta.reshape(3, width)
        z = np.outer(xs, w) + b
        on = (z > 0) * v
        return ys[:, None] * np.concatenate([on * xs[:, None], on, np.maximum(z, 0)], 1)  # (m, 3 j)

    assert net.b is not None
    start = torch.cat([net.w[0, 0], net.b[0], net.v[0]]).double().numpy()
    smallest = margins(start).min()
    if smallest <= 0:
        raise ValueError("the network to start from does not interpolate: its smallest margin is not positive")
    start = start / smallest**0.5  # homogeneous of degree 2: the smallest margin becomes 1
    result = minimize(
        lambda t: (0.5 * t @ t, t),
        start,
        jac=True,
        method="SLSQP",
        constraints=[{"type": "ineq", "fun": lambda t: margins(t) - 1, "jac": slopes}],
        options={"maxiter": iterations, "ftol": 1e-10},
    )
    w, b, v = torch.from_numpy(result.x.reshape(3, 1, width))
    feasible = bool(result.success and margins(result.x).min() > 1 - 1e-6)
    return Networks(w.unsqueeze(1), b, v), feasible


def negative_fraction(net: Networks, low: float = 0.0, high: float = 1.0) -> Float[Tensor, " s"]:
    """Fraction of [low, high] on which N(x) <= 0, d = 1: exact."""
    return _negative_length(*pieces(net, low, high)) / (high - low)


def pieces(net: Networks, low: float = 0.0, high: float = 1.0) -> tuple[Float[Tensor, "s k"], Float[Tensor, "s k"]]:
    """Places x in [low, high], d = 1, and N there: the ends and kinks -b_j / w_j, rising; N is linear in between."""
    w = net.w[:, 0].double()
    b = torch.zeros_like(w) if net.b is None else net.b.double()
    kinks = torch.where(w == 0, torch.full_like(w, low), -b / torch.where(w == 0, torch.ones_like(w), w))
    ends = torch.tensor([low, high], dtype=w.dtype, device=w.device).expand(len(w), 2)
    knots = torch.cat([kinks.clamp(low, high), ends], 1).sort(1).values  # (s, j + 2)
    values = torch.stack(
        [  # one network at a time: j² numbers each
            linalg.matmul((torch.outer(k, wi) + bi).relu_().unsqueeze(0), vi.view(1, -1, 1)).flatten()
            for k, wi, bi, vi in zip(knots, w, b, net.v.double(), strict=True)
        ]
    )
    return knots, values


def negative_intervals(knots: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Where the function through (knots, values), linear in between, is not positive: rows of start and end."""
    crossed = values[:-1] * values[1:] < 0
    zeros = (knots[:-1] - values[:-1] * np.diff(knots) / np.where(crossed, np.diff(values), 1))[crossed]
    edges = np.sort(np.concatenate([knots, zeros]))
    below = np.interp((edges[:-1] + edges[1:]) / 2, knots, values) <= 0
    turns = np.diff(np.concatenate([[False], below, [False]]).astype(int))
    return np.stack([edges[turns == 1], edges[turns == -1]], 1)


def _negative_length(knots: Float[Tensor, "s k"], values: Float[Tensor, "s k"]) -> Float[Tensor, " s"]:
    """Length on which the function through (knots, values), linear in between, is not positive."""
    left, right = values[:, :-1], values[:, 1:]
    below = torch.minimum(left, right).clamp(max=0).abs()
    above = torch.maximum(left, right).clamp(min=0)
    fraction = torch.where(
        above == 0, torch.ones_like(below), below / (below + above).clamp(min=torch.finfo(below.dtype).tiny)
    )
    return (fraction * knots.diff(dim=1)).sum(1)


def nearest_neighbour_error(x: Float[Tensor, "s m"], y: Float[Tensor, "s m"]) -> Float[Tensor, " s"]:
    """Clean error of 1-NN on [0, 1]: the fraction of points whose nearest training point is flipped. x: sorted.

    Its expectation is p exactly: labels are independent of positions. The linear spline through (x_i, y_i) has
    the same sign everywhere, since it crosses zero in the middle between a +1 and a -1.
    """
    x, y = x.double(), y.double()
    middles = (x[:, :-1] + x[:, 1:]) / 2
    borders = torch.cat([torch.zeros_like(x[:, :1]), middles, torch.ones_like(x[:, :1])], 1)
    return (borders.diff(dim=1) * (y < 0)).sum(1)


def two_flips_error(x: Float[Tensor, "s m"], y: Float[Tensor, "s m"]) -> Float[Tensor, " s"]:
    """Clean error on [0, 1] of the rule "-1 only between two adjacent flipped points" (at the ends: beyond one)."""
    x, y = x.double(), y.double()
    positions = torch.cat([torch.zeros_like(x[:, :1]), x, torch.ones_like(x[:, :1])], 1)
    flipped = torch.cat([y[:, :1], y, y[:, -1:]], 1) < 0
    return (positions.diff(dim=1) * (flipped[:, :-1] & flipped[:, 1:])).sum(1)


def two_flips_law(p: float, m: int) -> float:
    """Expectation of `two_flips_error`: (m - 1) inner gaps and 2 outer ones, each of mean 1 / (m + 1). Tends to p²."""
    return (p * p * (m - 1) + 2 * p) / (m + 1)


# --- kernel regression -----------------------------------------------------------------------------


def laplace(a: Float[Tensor, "n d"], b: Float[Tensor, "m d"], bandwidth: float = 1.0) -> Float[Tensor, "n m"]:
    """exp(-|a - b| / bandwidth)."""
    return torch.exp(-torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist") / bandwidth)


def gaussian(a: Float[Tensor, "n d"], b: Float[Tensor, "m d"], bandwidth: float = 1.0) -> Float[Tensor, "n m"]:
    """exp(-|a - b|² / 2 bandwidth²)."""
    return torch.exp(-torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist").square() / (2 * bandwidth**2))


def relu_ntk(a: Float[Tensor, "n d"], b: Float[Tensor, "m d"], bandwidth: float = 1.0) -> Float[Tensor, "n m"]:
    """Tangent kernel of an infinitely wide two-layer ReLU network with bias.

    Jacot et al. (2018); the closed form is that of Chizat and Bach (2019).
    With a constant feature of size `bandwidth` added to the inputs, u the cosine and r the product of norms:
    r (u k0(u) + k1(u)), k0 = (pi - arccos u) / pi, k1 = (u (pi - arccos u) + sqrt(1 - u²)) / pi.
    """
    inner = a @ b.T + bandwidth**2
    norms = torch.outer((a.square().sum(1) + bandwidth**2).sqrt(), (b.square().sum(1) + bandwidth**2).sqrt())
    u = (inner / norms).clamp(-1, 1)
    angle = torch.pi - torch.arccos(u)
    return norms * (2 * u * angle + (1 - u * u).sqrt()) / torch.pi


KERNELS = {"laplace": laplace, "gaussian": gaussian, "relu_ntk": relu_ntk}


def kernel_regression(
    kernel: str,
    x: Float[Tensor, "n d"],
    y: Float[Tensor, " n"],
    queries: Float[Tensor, "t d"],
    *,
    ridge: float = 0.0,
    bandwidth: float = 1.0,
) -> tuple[Float[Tensor, " t"], float]:
    """K(queries, x) (K(x, x) + ridge I)^+ y, and the largest |residual| at the training points. Use float64.

    Eigenvalues below n eps times the largest are set to zero: where double precision no longer suffices for a ridgeless
    Gaussian kernel, the residual then shows it, and the values do not turn into noise.
    Raises `ValueError` for an unknown kernel or a negative ridge.
    """
    if kernel not in KERNELS:
        raise ValueError(f"kernel {kernel!r} must be one of {', '.join(KERNELS)}")
    if ridge < 0:
        raise ValueError(f"ridge is {ridge}: it must be 0 or more")
    gram = KERNELS[kernel](x, x, bandwidth)
    values, vectors = torch.linalg.eigh(gram)
    kept = values > len(x) * torch.finfo(x.dtype).eps * values[-1]
    weights = torch.where(
        kept, 1 / torch.where(kept, values + ridge, torch.ones_like(values)), torch.zeros_like(values)
    )
    alpha = vectors @ (weights * (vectors.T @ y))
    return KERNELS[kernel](queries, x, bandwidth) @ alpha, float((gram @ alpha - y).abs().max())


def tempered_excess(p: float, d: int) -> float:
    """Excess square risk of ridgeless Laplace or ReLU-NTK regression on the sphere, n large, label noise p.

    The labels' variance is q = 4 p (1 - p). On the circle (d = 2) both are linear interpolation between neighbours, so
    exactly q mean((1 - t)² + t²) = 2 q / 3. For d > 2 it is the estimate of Mallinar et al. (2022, section 4), which
    treats eigenfunctions as independent Gaussians: eigenvalues i^-a, a = d / (d - 1), give a total risk a q, hence an
    excess q / (d - 1).
    """
    variance = 4 * p * (1 - p)
    return variance * 2 / 3 if d == 2 else variance / (d - 1)


FLAT = 0.15  # slopes of log risk against log n up to here count as flat; fixed before any run


def growth(sizes: Int[Tensor, " k"], excess: Float[Tensor, "s k"]) -> Float[Tensor, " s"]:
    """Exponent of the excess risk in n: least-squares slope of log excess on log size over the larger half of sizes."""
    k = len(sizes) // 2
    a = sizes[k:].double().log()
    a = a - a.mean()
    return excess[:, k:].double().log() @ a / (a @ a)


def regime(low: float, high: float) -> str:
    """Regime of overfitting by the 95 % interval [low, high] of `growth`: wholly below, within or above ± `FLAT`."""
    if high < -FLAT:
        return "benign"
    if low > FLAT:
        return "catastrophic"
    return "tempered" if low >= -FLAT and high <= FLAT else "unclear"
