"""From tempered to benign overfitting: ReLU networks that interpolate noisy labels, from one dimension to
10,000.

Every clean label is +1 and every training label is flipped to -1 with probability p. The clean error of a
classifier sign(N) is L = Pr_x[N(x) <= 0]: *benign* if it vanishes, *tempered* if it stays between 0 and a
function of p that vanishes with p, *catastrophic* if it stays above a constant however small p is.

References:
    Kornowski, Yehudai, Shamir, "From Tempered to Benign Overfitting in ReLU Neural Networks", NeurIPS 2023.
    Mallinar et al., "Benign, Tempered, or Catastrophic: A Taxonomy of Overfitting", NeurIPS 2022.
    Boursier, Flammarion, "Penalising the biases in norm regularisation enforces sparsity", NeurIPS 2023.

Letters: s seeds, m training points (the papers' letter), d dimension, j hidden units, t test points.
"""

import math
from typing import NamedTuple

import numpy as np
import torch
from scipy.optimize import linprog, minimize
from torch import Tensor

from phenomena.chapters.tempered_overfitting.two_layer import Networks, initial, outputs, train, train_lbfgs
from phenomena.science import label_noise

# --- data ------------------------------------------------------------------------------------------


def interval(seeds: int, m: int, generator: torch.Generator, dtype: torch.dtype = torch.float64) -> Tensor:
    """Points (s, m, 1), uniform on [0, 1] and sorted."""
    _positive(seeds=seeds, m=m)
    return torch.rand(seeds, m, 1, generator=generator, dtype=dtype, device=generator.device).sort(1).values


def sphere(seeds: int, m: int, d: int, generator: torch.Generator, dtype: torch.dtype = torch.float32) -> Tensor:
    """Points (s, m, d), uniform on the unit sphere in d dimensions."""
    _positive(seeds=seeds, m=m, d=d)
    x = torch.randn(seeds, m, d, generator=generator, dtype=dtype, device=generator.device)
    return x / x.norm(dim=2, keepdim=True)


def sphere_in_span(
    seeds: int, m: int, d: int, generator: torch.Generator, dtype: torch.dtype = torch.float32
) -> Tensor:
    """The points of `sphere` in coordinates of a subspace that contains them: (s, m, min(d, m)). Exact, at no
    cost in d.

    Gram and Schmidt write m Gaussian vectors as G = L Q with Q (m, d) orthonormal rows, independent of
    the lower triangle L, whose entries are independent: L_ik ~ N(0, 1) below the diagonal and L_ii ~
    chi(d - i), i = 0, 1, ... (Bartlett 1933). Uniform points are the rows of G over their norms, which
    are those of L; so the rows of L over their norms are their coordinates in the basis Q. Gradient
    descent moves weights within the span of the data only, and Gaussian weights are Gaussian in every
    orthonormal basis: training needs these coordinates alone (see `clean_error` for the rest).
    """
    if d <= m:
        return sphere(seeds, m, d, generator, dtype)
    _positive(seeds=seeds, m=m)
    lower = torch.randn(seeds, m, m, generator=generator, dtype=dtype, device=generator.device).tril(-1)
    freedom = torch.arange(d, d - m, -1, dtype=torch.float64, device=generator.device)
    diagonal = _chi_square(freedom.expand(seeds, m), generator).sqrt().to(dtype)
    lower = lower + torch.diag_embed(diagonal)
    return lower / lower.norm(dim=2, keepdim=True)


def fresh_points(
    t: int, features: int, d: int, generator: torch.Generator, dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Tensor]:
    """t uniform points of the sphere in d dimensions: coordinates (t, features) in a subspace and the norm
    (t,) of the rest.

    With g ~ N(0, 1) in `features` dimensions and c ~ chi²(d - features), independent: coordinates g /
    sqrt(|g|² + c), norm sqrt(c / (|g|² + c)).
    """
    _positive(t=t, features=features, d=d)
    g = torch.randn(t, features, generator=generator, dtype=dtype, device=generator.device)
    if features >= d:
        return g / g.norm(dim=1, keepdim=True), torch.zeros(t, dtype=dtype, device=generator.device)
    c = _chi_square(torch.full((t,), float(d - features), device=generator.device), generator).to(dtype)
    norm = (g.square().sum(1) + c).sqrt()
    return g / norm.unsqueeze(1), c.sqrt() / norm


def _chi_square(freedom: Tensor, generator: torch.Generator) -> Tensor:
    """Chi-square draws with the given degrees of freedom, of its shape: 2 Gamma(freedom / 2)."""
    return 2 * torch._standard_gamma(freedom / 2, generator=generator)  # the public Gamma takes no generator


def _positive(**counts: int) -> None:
    for name, count in counts.items():
        if count < 1:
            raise ValueError(f"{name} is {count}: 1 or more is accepted")


# --- trained networks ------------------------------------------------------------------------------


class Overfit(NamedTuple):
    """What s networks trained on noisy labels do.

    error: float (s,), clean error; interpolates: bool (s,), every training label is met; loss: float (s,),
    not finite where training diverged; steps: int64 (s,).
    """

    error: Tensor
    interpolates: Tensor
    loss: Tensor
    steps: Tensor


def overfit(
    d: int,
    m: int,
    p: float,
    seeds: int,
    generator: torch.Generator,
    *,
    width: int = 500,
    bias: bool = True,
    scale: float = 1.0,
    lr: float = 1.0,
    momentum: float = 0.9,
    target: float = 0.01,
    steps: int = 3000,
    kind: str = "logistic",
    points: int = 2000,
) -> Overfit:
    """Trains s networks on m noisy points of the sphere (d = 1: of the interval, scaled to [-1, 1]), each on
    its own draw.

    Training stops at loss `target` (kind: logistic or exponential). The clean error comes from `points` fresh test
    points a network (exact for d = 1). For d > m all takes place in the span of the data, exactly (`sphere_in_span`).
    Raises `ValueError` for p outside [0, 0.5] or a count below 1.
    """
    _positive(d=d, m=m, width=width, points=points)
    y = label_noise.flipped_signs(seeds, m, p, generator)
    x = 2 * interval(seeds, m, generator, torch.float32) - 1 if d == 1 else sphere_in_span(seeds, m, d, generator)
    net = initial(seeds, x.shape[2], width, generator, scale=scale, bias=bias, dimension=d)
    trained = train(net, x, y, steps, lr=lr, momentum=momentum, target=target, kind=kind)
    interpolates = (y * outputs(trained.net, x) > 0).all(1)
    if d == 1:
        error = negative_share(trained.net, -1.0, 1.0)
    else:
        error = clean_error(trained.net, d, points, generator, scale=scale)
    return Overfit(error, interpolates, trained.loss, trained.steps)


def clean_error(net: Networks, d: int, points: int, generator: torch.Generator, *, scale: float = 1.0) -> Tensor:
    """Share (s,) of uniform test points on the sphere in d dimensions with N(x) <= 0, a fresh draw of points
    a network.

    A test point is u in the span of the data (the networks' features) plus a rest r orthogonal to it, and
    w_j . x = w_j . u + w0_j . r, where w0_j, the initial weights, are N(0, scale² / d) outside the span and
    independent of all that training saw. So w0_j . r = scale |r| / sqrt(d) g_j with independent standard
    normal g_j: drawn afresh for each point, this gives the exact law of N(x) at a point, averaged over the
    initial weights outside the span.
    """
    s, features, width = net.w.shape
    wrong = torch.empty(s, dtype=torch.float64, device=net.w.device)
    for i in range(s):
        u, rest = fresh_points(points, features, d, generator, net.w.dtype)
        z = u @ net.w[i] if net.b is None else torch.addmm(net.b[i], u, net.w[i])
        if features < d:
            g = torch.randn(points, width, generator=generator, dtype=z.dtype, device=z.device)
            z.addcmul_(g, rest.unsqueeze(1), value=scale / d**0.5)
        wrong[i] = (z.relu_() @ net.v[i] <= 0).double().mean()
    return wrong


def overfit_low(
    d: int, m: int, p: float, seeds: int, generator: torch.Generator, *, width: int = 300, iterations: int = 1500
) -> Overfit:
    """As `overfit`, for few points in low dimension, where gradient descent does not interpolate: L-BFGS in float64.

    Biases are spread wide (initial scale 3). Networks that do not interpolate after the iterations are told apart.
    """
    _positive(d=d, m=m, width=width)
    y = label_noise.flipped_signs(seeds, m, p, generator, torch.float64)
    x = 2 * interval(seeds, m, generator) - 1 if d == 1 else sphere(seeds, m, d, generator, torch.float64)
    net = initial(seeds, d, width, generator, scale=3.0, dtype=torch.float64)
    trained = train_lbfgs(net, x, y, iterations, target=0.01)
    error = negative_share(trained.net, -1.0, 1.0) if d == 1 else clean_error(trained.net, d, 2000, generator)
    return Overfit(error, (y * outputs(trained.net, x) > 0).all(1), trained.loss, trained.steps)


def overfit_kkt(m: int, p: float, seeds: int, generator: torch.Generator, *, width: int = 30) -> Overfit:
    """KKT points of the margin problem in one dimension, reached from networks trained to interpolation.

    For m up to about 10: L-BFGS as in `overfit_low`, then `max_margin_kkt_1d` from there. `interpolates` tells the
    networks for which both arrived; the error of the others is that of the trained network.
    """
    _positive(m=m, width=width)
    y = label_noise.flipped_signs(seeds, m, p, generator, torch.float64)
    x = 2 * interval(seeds, m, generator) - 1
    trained = train_lbfgs(initial(seeds, 1, width, generator, scale=3.0, dtype=torch.float64), x, y, 1500, target=0.01)
    arrived = (y * outputs(trained.net, x) > 0).all(1)
    errors = negative_share(trained.net, -1.0, 1.0)
    for i in torch.where(arrived)[0].tolist():
        one = Networks(*(q[i : i + 1] for q in trained.net if q is not None))
        ended, feasible = max_margin_kkt_1d(one, x[i, :, 0], y[i], 2000)
        arrived[i] = feasible
        if feasible:
            errors[i] = negative_share(ended, -1.0, 1.0)[0]
    return Overfit(errors, arrived, trained.loss, trained.steps)


def bias_free_limit(p: float, random_ties: bool = False) -> float:
    """Clean error of the max-margin network without bias as d / m² grows and m p is large: 1/2 + arcsin(sqrt
    p) / 2 pi.

    Nearly orthogonal points: the max-margin network has one neuron of each sign, N(x) = relu(a) - relu(b)
    with a = sum over labels +1 of x_i . x and b = sum over labels -1 of x_i . x; at a test point these are independent
    N(0, (1 - p) m / d) and N(0, p m / d). Then Pr[a <= 0] = 1/2 and Pr[0 < a <= b] = arctan(sqrt(p / (1 - p))) / 2 pi.
    Trained networks stay below it; from a small initial scale, late in training and with many flips they come near the
    value with random_ties. Wide networks at the usual scale keep the constant part of their initial weights while flips
    are few. random_ties: a <= 0 and b <= 0, where N = 0, counts half (initial weights decide there): 1/8 less.
    """
    return 0.5 + math.asin(math.sqrt(p)) / (2 * math.pi) - (0.125 if random_ties else 0.0)


# --- one dimension, exactly ------------------------------------------------------------------------


class MinNorm(NamedTuple):
    """A network of least norm in one dimension.

    net: float64 networks, s = 1; norm: sum_j |v_j| |(w_j, b_j)|, half the squared norm of its balanced
    parameters;
    gap: (norm - proven lower bound) / norm; rounds: linear programmes solved; converged: gap below the
    tolerance.
    """

    net: Networks
    norm: float
    gap: float
    rounds: int
    converged: bool


def min_norm_1d(x: Tensor, y: Tensor, *, tolerance: float = 1e-6, rounds: int = 100) -> MinNorm:
    """The two-layer ReLU network of least norm with y_i N(x_i) >= 1, of any width: the max-margin classifier.
    x, y: (m,).

    By homogeneity the least ||theta||² / 2 is the least sum_k |c_k| over N(x) = sum_k c_k relu(x cos a_k +
    sin a_k), a linear programme over all angles a (Boursier and Flammarion 2023, section 3; biases are part
    of the norm, as in Kornowski et al.).
    Its dual is: maximise sum_i l_i over l >= 0 with |g(a)| <= 1 for all a, g(a) = sum_i l_i y_i relu(x_i cos
    a + sin a). Between two angles at which a neuron's kink meets a data point, g = A cos a + B sin a: its
    extremes over *all* angles are known in closed form. Column generation: solve with some angles (HiGHS),
    add those where |g| > 1, until there is none. Scaled by 1 / max |g| the dual solution is feasible, so that
    norm / max |g| is a proven lower bound.
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
        for method in ("highs", "highs-ds", "highs-ipm"):  # flips 1e-5 apart upset one or the other
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


def max_margin_kkt_1d(net: Networks, x: Tensor, y: Tensor, iterations: int = 1000) -> tuple[Networks, bool]:
    """A local solution of min ||theta||² / 2 subject to y_i N(x_i) >= 1, from the given network (s = 1,
    float64), by SLSQP.

    Gradient flow on the logistic loss ends in the direction of such a KKT point (Lyu and Li 2020). For m up
    to about 20 and width up to about 30: each iteration solves a quadratic programme in all parameters. x, y:
    (m,). Returns the network and whether the solver converged to a feasible point (margins above 1 - 1e-6).
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


def negative_share(net: Networks, low: float = 0.0, high: float = 1.0) -> Tensor:
    """Share (s,) of [low, high] on which N(x) <= 0: exact, as N is linear between its kinks -b_j / w_j.
    net.w: (s, 1, j).
    """
    w = net.w[:, 0].double()
    b = torch.zeros_like(w) if net.b is None else net.b.double()
    kinks = torch.where(w == 0, torch.full_like(w, low), -b / torch.where(w == 0, torch.ones_like(w), w))
    ends = torch.tensor([low, high], dtype=w.dtype, device=w.device).expand(len(w), 2)
    knots = torch.cat([kinks.clamp(low, high), ends], 1).sort(1).values  # (s, j + 2)
    values = torch.stack(
        [  # one network at a time: j² numbers each
            (torch.outer(k, wi) + bi).relu_() @ vi for k, wi, bi, vi in zip(knots, w, b, net.v.double(), strict=True)
        ]
    )
    return _negative_share(knots, values) / (high - low)


def _negative_share(knots: Tensor, values: Tensor) -> Tensor:
    """Length on which the function through (knots, values), linear in between, is not positive. Both (s,
    k).
    """
    left, right = values[:, :-1], values[:, 1:]
    below = torch.minimum(left, right).clamp(max=0).abs()
    above = torch.maximum(left, right).clamp(min=0)
    share = torch.where(
        above == 0, torch.ones_like(below), below / (below + above).clamp(min=torch.finfo(below.dtype).tiny)
    )
    return (share * knots.diff(dim=1)).sum(1)


def nearest_neighbour_share(x: Tensor, y: Tensor) -> Tensor:
    """Clean error (s,) of 1-NN on [0, 1]: the share of points whose nearest training point is flipped. x, y:
    (s, m), x sorted.

    Its expectation is p exactly: labels are independent of places. The linear spline through (x_i, y_i) has
    the same sign everywhere, since it crosses zero in the middle between a +1 and a -1.
    """
    x, y = x.double(), y.double()
    middles = (x[:, :-1] + x[:, 1:]) / 2
    borders = torch.cat([torch.zeros_like(x[:, :1]), middles, torch.ones_like(x[:, :1])], 1)
    return (borders.diff(dim=1) * (y < 0)).sum(1)


def two_flips_share(x: Tensor, y: Tensor) -> Tensor:
    """Clean error (s,) on [0, 1] of the rule "-1 only between two adjacent flipped points" (at the ends:
    beyond one).
    """
    x, y = x.double(), y.double()
    places = torch.cat([torch.zeros_like(x[:, :1]), x, torch.ones_like(x[:, :1])], 1)
    flipped = torch.cat([y[:, :1], y, y[:, -1:]], 1) < 0
    return (places.diff(dim=1) * (flipped[:, :-1] & flipped[:, 1:])).sum(1)


def two_flips_law(p: float, m: int) -> float:
    """Expectation of `two_flips_share`: (m - 1) inner gaps and 2 outer ones, each of mean 1 / (m + 1), hence
    -> p².
    """
    return (p * p * (m - 1) + 2 * p) / (m + 1)


# --- kernel regression -----------------------------------------------------------------------------


def laplace(a: Tensor, b: Tensor, bandwidth: float = 1.0) -> Tensor:
    """exp(-|a - b| / bandwidth). a: (n, d), b: (m, d). Returns (n, m)."""
    return torch.exp(-torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist") / bandwidth)


def gaussian(a: Tensor, b: Tensor, bandwidth: float = 1.0) -> Tensor:
    """exp(-|a - b|² / 2 bandwidth²)."""
    return torch.exp(-torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist").square() / (2 * bandwidth**2))


def relu_ntk(a: Tensor, b: Tensor, bandwidth: float = 1.0) -> Tensor:
    """Tangent kernel of an infinitely wide two-layer ReLU network with bias (Jacot et al. 2018; Chizat and
    Bach 2019, closed form).

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
    kernel: str, x: Tensor, y: Tensor, queries: Tensor, *, ridge: float = 0.0, bandwidth: float = 1.0
) -> tuple[Tensor, float]:
    """K(queries, x) (K(x, x) + ridge I)^+ y, and the largest |residual| at the training points. Use float64.

    x: (n, d); y: (n,); queries: (t, d). Eigenvalues below n eps of the largest are taken as zero: a ridgeless
    Gaussian kernel that has outrun the precision then shows a residual above 0 instead of noise.
    """
    if kernel not in KERNELS:
        raise ValueError(f"kernel {kernel!r} is not known: {', '.join(KERNELS)}")
    if ridge < 0:
        raise ValueError(f"ridge is {ridge}: 0 or more is accepted")
    gram = KERNELS[kernel](x, x, bandwidth)
    values, vectors = torch.linalg.eigh(gram)
    kept = values > len(x) * torch.finfo(x.dtype).eps * values[-1]
    weights = torch.where(
        kept, 1 / torch.where(kept, values + ridge, torch.ones_like(values)), torch.zeros_like(values)
    )
    alpha = vectors @ (weights * (vectors.T @ y))
    return KERNELS[kernel](queries, x, bandwidth) @ alpha, float((gram @ alpha - y).abs().max())


def tempered_excess(p: float, d: int) -> float:
    """Excess square risk of ridgeless Laplace or ReLU-NTK regression of labels flipped with p on the sphere,
    n large.

    With the noise q = 4 p (1 - p): on the circle (d = 2) both are linear interpolation between neighbours, so
    exactly q mean((1 - t)² + t²) = 2 q / 3. For d > 2 the estimate of Mallinar et al. (2022, section 4),
    which takes eigenfunctions as independent Gaussians: eigenvalues i^-a, a = d / (d - 1), give a total risk
    a q, hence an excess q / (d - 1).
    """
    noise = 4 * p * (1 - p)
    return noise * 2 / 3 if d == 2 else noise / (d - 1)


FLAT = 0.15  # slopes of log risk against log n up to here count as level; fixed before any run


def growth(sizes: Tensor, excess: Tensor) -> Tensor:
    """Exponent (s,) of the excess risk in n: least-squares slope of log excess (s, k) on log sizes (k,), its
    upper half.
    """
    k = len(sizes) // 2
    a = sizes[k:].double().log()
    a = a - a.mean()
    return excess[:, k:].double().log() @ a / (a @ a)


def label(low: float, high: float) -> str:
    """Type of overfitting by the 95 % interval [low, high] of `growth`, wholly below, within or above ±
    `FLAT`.
    """
    if high < -FLAT:
        return "benign"
    if low > FLAT:
        return "catastrophic"
    return "tempered" if low >= -FLAT and high <= FLAT else "unclear"
