"""Random networks by the thousand, and a few that are trained: seeds and parameters in, tidy frames out."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from phenomena.chapters.criticality import theory
from phenomena.chapters.criticality.theory import Activation, activation, check
from phenomena.science.datasets import Dataset

LAYERS, MOMENTS, TANGENTS, FAN, TRAINING = range(5)  # what a seed's streams of random numbers are for
BATCH, MOMENTUM, TRAINING_ROWS = 100, 0.9, 500


# --- random networks --------------------------------------------------------------------------------------------------


def kernels(
    act: str | Activation,
    width: int,
    depth: int,
    *,
    c_w: float,
    c_b: float = 0.0,
    start: float = 1.0,
    networks: int,
    generator: np.random.Generator,
) -> Float[np.ndarray, "l networks"]:
    """Kernels K_0 ... K_depth of random networks of this width for one input, exact in law.

    Given the layer before, the pre-activations of a layer are independent and N(0, K_l), so that a layer of a network
    takes `width` random numbers and not width²: K_(l+1) = C_b + C_W |s(sqrt(K_l) g)|² / width. An output is then
    N(0, K_depth).

    start: K_0, the kernel of the first layer, which the input fixes.
    Raises `ValueError` for counts below 1, c_w not positive, c_b negative, and kernels that leave the range of numbers.

    >>> found = kernels("relu", 50, 3, c_w=2.0, networks=4, generator=np.random.default_rng(0))
    >>> found.shape, found[0].tolist()
    ((4, 4), [1.0, 1.0, 1.0, 1.0])
    """
    check(width=width, depth=depth, networks=networks, c_w=c_w, c_b=c_b)
    s = activation(act)
    found = np.empty((depth + 1, networks))
    found[0] = start
    for layer in range(depth):
        z = torch.from_numpy(generator.standard_normal((networks, width)))
        if act not in theory.SLOPES:  # else s(sqrt(K) g) = sqrt(K) s(g), which neither over- nor underflows
            z *= torch.from_numpy(np.sqrt(found[layer]))[:, None]
        squares = s(z).square().mean(1).numpy()
        found[layer + 1] = c_b + c_w * squares * (found[layer] if act in theory.SLOPES else 1.0)
    if not (np.isfinite(found).all() and (act == "relu" or (found > 0).all())):
        raise ValueError(
            f"c_w is {c_w:g}: at depth {depth} a kernel leaves the range of numbers; must be closer to critical"
        )
    return found


def growth(
    act: str,
    width: int,
    depth: int,
    c_ws: Sequence[float],
    seeds: Sequence[int],
    *,
    c_b: float = 0.0,
    networks: int = 200,
) -> pd.DataFrame:
    """Mean over a seed's networks of log K_l, from K_0 = 1, for every C_W. Returns c_w, layer, seed, log_k."""
    rows = []
    for seed in seeds:
        for i, c_w in enumerate(c_ws):
            g = np.random.default_rng([seed, LAYERS, 0, i])
            logs = np.log(kernels(act, width, depth, c_w=c_w, c_b=c_b, networks=networks, generator=g)).mean(1)
            rows.append(pd.DataFrame({"c_w": c_w, "layer": range(depth + 1), "seed": seed, "log_k": logs}))
    return pd.concat(rows, ignore_index=True)


def decay(
    acts: Sequence[str], width: int, depth: int, factors: Sequence[float], seeds: Sequence[int], *, networks: int = 100
) -> pd.DataFrame:
    """Mean kernel by layer at C_W = factor times the critical one, for activations of the class K* = 0.

    Returns the columns activation, factor, layer (from 1), seed, k.
    """
    rows = []
    for seed in seeds:
        for i, act in enumerate(acts):
            for j, factor in enumerate(factors):
                g = np.random.default_rng([seed, LAYERS, 1, i, j])
                c_w = factor * theory.critical_point(act).c_w
                mean = kernels(act, width, depth, c_w=c_w, networks=networks, generator=g).mean(1)[1:]
                frame = {"activation": act, "factor": factor, "layer": range(1, depth + 1), "seed": seed, "k": mean}
                rows.append(pd.DataFrame(frame))
    return pd.concat(rows, ignore_index=True)


def fluctuations(
    acts: Sequence[str], widths: Sequence[int], ratios: Sequence[float], seeds: Sequence[int], *, networks: int = 1000
) -> pd.DataFrame:
    """Spread of the kernel over networks at the critical point, after ratio times width layers.

    Returns the columns activation, width, ratio (depth over width), seed, variance (of log K), pair (E K² / (E K)² - 1,
    the correlation of the squares of two outputs) and exact (the variance of log K where it is known, else nan).
    """
    rows = []
    for seed in seeds:
        for i, act in enumerate(acts):
            c_w = theory.critical_point(act).c_w
            for width in widths:
                g = np.random.default_rng([seed, LAYERS, 2, i, width])
                depths = [max(1, round(ratio * width)) for ratio in ratios]
                found = kernels(act, width, max(depths), c_w=c_w, networks=networks, generator=g)
                step = theory.log_norm(act, width, c_w).variance if act in theory.SLOPES else math.nan
                for ratio, depth in zip(ratios, depths, strict=True):
                    k = found[depth][found[depth] > 0]
                    row = {"activation": act, "width": width, "ratio": ratio, "seed": seed, "exact": depth * step}
                    pair = (k**2).mean() / k.mean() ** 2 - 1
                    rows.append(row | {"variance": np.log(k).var(ddof=1), "pair": pair})
    return pd.DataFrame(rows)


def relu_kernels(
    width: int, depth: int, networks: int, generator: np.random.Generator
) -> Float[np.ndarray, " networks"]:
    """K_depth of critical ReLU networks from two random numbers a layer, exact in law.

    Of n units k ~ Binomial(n, 1/2) are on, and their sum of squares is chi²_k.

    >>> relu_kernels(64, 1, 3, np.random.default_rng(0)).shape
    (3,)
    """
    log = np.zeros(networks)
    with np.errstate(divide="ignore"):  # a layer with all units off
        for _ in range(depth):
            on = generator.binomial(width, 0.5, networks)
            log += np.log(generator.standard_gamma(on / 2) * 4 / width)  # chi²_k is twice a gamma of shape k / 2
    return np.exp(log)


def moments(width: int, depth: int, sizes: Sequence[int], seeds: Sequence[int]) -> pd.DataFrame:
    """What samples of different sizes make of E K² / (E K)² and of the variance of log K of critical ReLU networks.

    The smaller samples are the first of the largest. Returns the columns size, seed, ratio, variance.
    """
    rows = []
    for seed in seeds:
        whole = relu_kernels(width, depth, max(sizes), np.random.default_rng([seed, MOMENTS]))
        for size in sizes:
            k = whole[:size]
            row = {"size": size, "seed": seed, "ratio": (k**2).mean() / k.mean() ** 2}
            rows.append(row | {"variance": np.log(k[k > 0]).var(ddof=1)})
    return pd.DataFrame(rows)


def residual_spread(
    act: str, width: int, depth: int, residuals: Sequence[float], seeds: Sequence[int], *, networks: int = 500
) -> pd.DataFrame:
    """Variance of log |z_depth|² over critical networks with z' = W s(z) + residual z.

    C_W is (1 - residual²) times its usual critical value. Given z the first term is N(0, C_W |s(z)|² / width) and
    independent from unit to unit, so that here, too, a layer takes `width` numbers a network.
    Returns the columns residual, seed, variance. Raises `ValueError` for a residual outside [0, 1).
    """
    check(width=width, depth=depth, networks=networks)
    s, c_w = activation(act), theory.critical_point(act).c_w
    rows = []
    for seed in seeds:
        for i, residual in enumerate(residuals):
            _check_residual(residual)
            g = np.random.default_rng([seed, LAYERS, 3, i])
            z = g.standard_normal((networks, width))
            for _ in range(depth):
                squares = s(torch.from_numpy(z)).square().mean(1).numpy() * c_w * (1 - residual**2)
                z = np.sqrt(squares)[:, None] * g.standard_normal((networks, width)) + residual * z
            logs = np.log((z**2).mean(1))
            rows.append({"residual": residual, "seed": seed, "variance": logs.var(ddof=1)})
    return pd.DataFrame(rows)


def _check_residual(residual: float) -> None:
    if not 0 <= residual < 1:
        raise ValueError(f"residual is {residual:g}: must be 0 or more and below 1")


# --- the neural tangent kernel ----------------------------------------------------------------------------------------


def tangent(
    width: int, depth: int, networks: int, generator: torch.Generator, act: str = "relu"
) -> Float[Tensor, " networks"]:
    """Theta = |df / d weights|² at one input of random critical networks with `depth` hidden layers and one output.

    The gradient of a layer's weights is the outer product of what comes in and what comes back, so its square is the
    product of two squares. All weights are drawn: here the width² numbers of a layer are needed.

    >>> tangent(8, 2, 5, torch.Generator().manual_seed(0)).shape
    torch.Size([5])
    """
    check(width=width, depth=depth, networks=networks)
    s, c_w = activation(act), theory.critical_point(act).c_w
    weights = [torch.randn(networks, width, width, generator=generator) * math.sqrt(c_w / width) for _ in range(depth)]
    last = torch.randn(networks, 1, width, generator=generator) / math.sqrt(width)
    h = torch.ones(networks, 1, width)
    inputs, slopes = [], []
    for w in weights:
        inputs.append(h)
        z = torch.bmm(h, w).requires_grad_()
        (slope,) = torch.autograd.grad(s(z).sum(), z)
        slopes.append(slope)
        h = s(z.detach())
    theta, back = h.square().sum((1, 2)), last
    for w, inside, slope in zip(weights[::-1], inputs[::-1], slopes[::-1], strict=True):
        back = back * slope
        theta = theta + inside.square().sum((1, 2)) * back.square().sum((1, 2))
        back = torch.bmm(back, w.transpose(1, 2))
    return theta


def tangents(width: int, ratios: Sequence[float], seeds: Sequence[int], *, networks: int = 200) -> pd.DataFrame:
    """Variance of log Theta over critical ReLU networks. Returns the columns ratio, seed, variance."""
    rows = []
    for seed in seeds:
        for i, ratio in enumerate(ratios):
            g = torch.Generator().manual_seed(seed * 1000 + 100 * TANGENTS + i)
            theta = tangent(width, max(1, round(ratio * width)), networks, g)
            rows.append({"ratio": ratio, "seed": seed, "variance": theta[theta > 0].log().var().item()})
    return pd.DataFrame(rows)


# --- the key figure ---------------------------------------------------------------------------------------------------


def fan(
    acts: Sequence[str], width: int, depth: int, factors: Sequence[float], seed: int, networks: int = 2000
) -> dict[tuple[str, float], Float[np.ndarray, "l networks"]]:
    """Kernels of random networks at C_W = factor times the critical one, by activation and factor.

    They start at the fixed point K*, where there is one above 0, else at 1.
    """
    found = {}
    for i, act in enumerate(acts):
        point = theory.critical_point(act)
        start = point.kernel if point.kernel > 0 else 1.0
        for j, factor in enumerate(factors):
            g = np.random.default_rng([seed, FAN, i, j])
            found[act, factor] = kernels(
                act, width, depth, c_w=factor * point.c_w, c_b=point.c_b, start=start, networks=networks, generator=g
            )
    return found


# --- training ---------------------------------------------------------------------------------------------------------


def rows_of(data: Dataset, seeds: Sequence[int]) -> tuple[Float[Tensor, "s n d"], Tensor]:
    """Training rows and labels that each seed draws: centered, and of norm sqrt(d), so that the first kernel is 1."""
    x = data.x_train.flatten(1)
    x = x - x.mean(0)
    x = x * math.sqrt(x.shape[1]) / x.norm(dim=1, keepdim=True).clamp_min(1e-6)
    rows = [torch.randperm(len(x), generator=_generator(seed, 0))[:TRAINING_ROWS] for seed in seeds]
    return torch.stack([x[i] for i in rows]), torch.stack([data.y_train[i] for i in rows])


def train(
    act: str,
    data: Dataset,
    width: int,
    depth: int,
    factor: float,
    seeds: Sequence[int],
    *,
    residual: float = 0.0,
    lr: float = 0.01,
    steps: int = 100,
) -> pd.DataFrame:
    """Trains a network a seed by stochastic gradient descent, all at once, from C_W = factor times the critical one.

    A layer is z' = W s(z) + residual z, for which C_W is critical at (1 - residual²) times its usual value. The first
    and last layer have C_W = 1. Batches of 100, momentum 0.9.

    Returns the columns seed, accuracy (on the 500 training rows), first and last (norms of the gradient of the first
    and of the last hidden layer's weights, before training, over all rows).
    Raises `ValueError` for a residual outside [0, 1) and counts below 1.
    """
    check(width=width, depth=depth)
    _check_residual(residual)
    s, c_w = activation(act), factor * theory.critical_point(act).c_w * (1 - residual**2)
    x, y = rows_of(data, seeds)
    weights = _weights(x.shape[2], width, depth, data.classes, c_w, seeds)

    def logits(part: Float[Tensor, "s b d"]) -> Float[Tensor, "s b c"]:
        z = torch.bmm(part, weights[0])
        for w in weights[1:-1]:
            z = torch.bmm(s(z), w) + residual * z
        return torch.bmm(s(z), weights[-1])

    def slopes(part: Tensor, labels: Tensor) -> tuple[Tensor, ...]:
        out = logits(part)
        loss = torch.nn.functional.cross_entropy(out.flatten(0, 1), labels.flatten(), reduction="sum") / out.shape[1]
        return torch.autograd.grad(loss, weights)

    gradient = slopes(x, y)
    first, last = (gradient[i].square().sum((1, 2)).sqrt() for i in (0, -2))
    speed = [torch.zeros_like(w) for w in weights]
    generators, places = [_generator(seed, 2) for seed in seeds], torch.arange(len(seeds))[:, None]
    for _ in range(steps):
        i = torch.stack([torch.randint(x.shape[1], (BATCH,), generator=g) for g in generators])
        found = slopes(x[places, i], y[places, i])
        with torch.no_grad():
            for w, v, g in zip(weights, speed, found, strict=True):
                v.mul_(MOMENTUM).add_(g.nan_to_num(0.0, 0.0, 0.0))  # one that has diverged stays at chance
                w.sub_(lr * v)
    with torch.no_grad():
        accuracy = (logits(x).argmax(2) == y).double().mean(1)
    return pd.DataFrame({"seed": list(seeds), "accuracy": accuracy, "first": first, "last": last})


def _generator(seed: int, use: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed * 1000 + 100 * TRAINING + use)


def _weights(inputs: int, width: int, depth: int, classes: int, c_w: float, seeds: Sequence[int]) -> list[Tensor]:
    """Stacked weights of all layers, each seed's from a generator of its own."""
    sizes = [inputs, *[width] * depth, classes]
    scales = [1.0, *[c_w] * (depth - 1), 1.0]
    generators = [_generator(seed, 1) for seed in seeds]
    return [
        torch.stack([torch.randn(a, b, generator=g) * math.sqrt(scale / a) for g in generators]).requires_grad_()
        for a, b, scale in zip(sizes, sizes[1:], scales, strict=False)
    ]


def trained(
    families: Mapping[str, Mapping[str, object]],
    data: Dataset,
    width: int,
    factors: Sequence[float],
    seeds: Sequence[int],
    steps: int,
) -> pd.DataFrame:
    """`train` for every family and factor. Returns its columns with family and factor.

    families: name -> act, depth, lr and residual of `train`.
    """
    rows = []
    for family, how in families.items():
        for factor in factors:
            found = train(data=data, width=width, factor=factor, seeds=seeds, steps=steps, **how)  # type: ignore[arg-type]
            rows.append(found.assign(family=family, factor=factor))
    return pd.concat(rows, ignore_index=True)
