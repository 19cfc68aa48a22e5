"""Feature learning: experiments as functions, seeds and parameters in, tidy frames out.

A seed has generators of its own for data, labels, weights and rotations: arms of one seed share inputs and the first
weights, and what belongs to a seed does not depend on its company.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from phenomena.chapters.feature_learning import kernel_machine, networks, theory
from phenomena.chapters.feature_learning.networks import Rule, Weights
from phenomena.science.datasets import Dataset, subset

TESTED = 1000  # test points of a seed, or as many as there are
PROBES = 300  # training points over which kernels are averaged
LEADING = 3  # eigenvectors that are compared
LINEAR, LINEAR_RATE, LINEAR_DECAY, LINEAR_STEPS = 16, 0.02, 0.1, 1500  # of deep linear networks: width, rule
LINEAR_LAYERS = (2, 3, 4)
STRENGTHS = (2.0, 1.5, 1.0, 0.7)  # singular values of what they are to learn
STREAMS = {"data": 0, "labels": 1, "weights": 2, "rotations": 3}


class Data(NamedTuple):
    """Inputs and targets of every seed. Test targets are true ones, also where training targets are random."""

    x: Float[Tensor, "s n d"]
    y: Float[Tensor, "s n c"]
    x_test: Float[Tensor, "s m d"]
    y_test: Float[Tensor, "s m c"]


class Learned(NamedTuple):
    """What networks of one setting were like over training.

    aligned: a row a seed, step and layer, with the columns of `alignments`.
    losses: a row a seed and step: `train` and `test`, squared errors over those of the constant zero, and `accuracy` on
        the test points, nan for a single output.
    pictures: step -> F and G of the first layer of the first seed.
    features, products: F and G of the first layer of every seed, at the end.
    """

    aligned: pd.DataFrame
    losses: pd.DataFrame
    pictures: dict[int, tuple[Float[Tensor, "d d"], Float[Tensor, "d d"]]]
    features: Float[Tensor, "s d d"]
    products: Float[Tensor, "s d d"]


def generators(seeds: Sequence[int], stream: str) -> list[torch.Generator]:
    """One for each seed, apart from those of other seeds and streams."""
    return [torch.Generator().manual_seed(len(STREAMS) * seed + STREAMS[stream]) for seed in seeds]


def chain(dimension: int, monomials: int, samples: int, seeds: Sequence[int], random: bool = False) -> Data:
    """x ~ N(0, I) and y = sum_k x_k x_{k+1} / sqrt r over a closed chain of the first r = monomials inputs.

    random: training targets are normal instead, independent of x. The mean of y is 0, its variance 1.

    Raises `ValueError` for fewer than 3 monomials or more than the dimension.
    """
    if not 3 <= monomials <= dimension:
        raise ValueError(f"monomials is {monomials}: must be 3 to dimension = {dimension}, an input for each")
    if samples < 1:
        raise ValueError(f"samples is {samples}: must be 1 or more")
    drawn = [torch.randn(samples + TESTED, dimension, generator=g) for g in generators(seeds, "data")]
    x = torch.stack(drawn)
    front = x[:, :, :monomials]
    y = (front * front.roll(-1, 2)).sum(2, keepdim=True) / monomials**0.5
    labels = y[:, :samples]
    if random:
        labels = torch.stack([torch.randn(samples, 1, generator=g) for g in generators(seeds, "labels")])
    return Data(x[:, :samples], labels, x[:, samples:], y[:, samples:])


def images(data: Dataset, samples: int, seeds: Sequence[int], random: bool = False) -> Data:
    """Rows of a data set, centered and scaled to the mean norm sqrt(d); targets one-hot, less one over the classes.

    random: training labels are shuffled.

    Raises `ValueError` for more samples than there are, or training rows of a single class.
    """
    parts: list[tuple[Tensor, ...]] = []
    for seed, g, h in zip(seeds, generators(seeds, "data"), generators(seeds, "labels"), strict=True):
        few = subset(data, samples, min(TESTED, len(data.y_test)), g)
        if len(few.y_train.unique()) < 2:
            raise ValueError(f"all {samples} training samples of seed {seed} are of one class: must be of two or more")
        x, x_test = few.x_train.flatten(1), few.x_test.flatten(1)
        mean = x.mean(0)
        size = (x - mean).norm(dim=1).mean()
        if size == 0:
            raise ValueError(f"all {samples} training samples of seed {seed} are the same: must differ")
        labels = few.y_train[torch.randperm(samples, generator=h)] if random else few.y_train
        scale = x.shape[1] ** 0.5 / size
        targets = [F.one_hot(y, data.classes).float() - 1 / data.classes for y in (labels, few.y_test)]
        parts.append(((x - mean) * scale, targets[0], (x_test - mean) * scale, targets[1]))
    return Data(*(torch.stack(column) for column in zip(*parts, strict=True)))


def times(steps: int, count: int = 16) -> list[int]:
    """Steps 0, 1 and 10, and others up to the last one, evenly spaced in their logarithm.

    >>> times(100, 4)
    [0, 1, 5, 10, 22, 100]
    """
    return sorted({0, 1, min(10, steps), *np.geomspace(1, steps, count).round().astype(int).tolist()})


def speeds(depth: int, favored: int, slow: float) -> tuple[float, ...]:
    """1 for the favored layer, `slow` for the others of depth + 1.

    >>> speeds(2, favored=1, slow=0.1)
    (1.0, 0.1, 0.1)
    """
    return tuple(1.0 if layer == favored else slow for layer in range(1, depth + 2))


def learn(
    data: Data, width: int, depth: int, scale: float, rule: Rule, at: Sequence[int], seeds: Sequence[int]
) -> Learned:
    """Trains a network a seed and measures both hidden layers that are followed, the first and the second.

    depth: hidden layers. scale: of the first weights, times 1 / sqrt(fan-in). at: steps to measure at.

    Raises `ValueError` for fewer than two hidden layers, or training that diverges.
    """
    if depth < 2:
        raise ValueError(f"depth is {depth}: must be 2 or more hidden layers, as the second one is measured, too")
    sizes = [data.x.shape[2], *[width] * depth, data.y.shape[2]]
    first = networks.initial(sizes, scale, generators(seeds, "weights"))
    turning = generators(seeds, "rotations")
    probes = data.x[:, :PROBES].contiguous()
    aligned, losses, pictures = [], [], {}
    for step, weights in networks.train(first, data.x, data.y, rule, at):
        measured = {"train": _error(weights, data.x, data.y), "test": _error(weights, data.x_test, data.y_test)}
        measured["accuracy"] = _accuracy(weights, data)
        losses.append(_rows(measured, seeds, step=step))
        kernels = [networks.tangent_kernel(weights, probes, layer) for layer in (1, 2)]
        for layer, kernel in enumerate(kernels, 1):
            row = alignments(weights, first, kernel, layer, turning, probes)
            aligned.append(_rows(row, seeds, step=step, layer=layer))
        features, products = theory.feature_matrix(weights[0]), theory.gradient_product(weights[0], kernels[0])
        pictures[step] = (features[0], products[0])
    return Learned(pd.concat(aligned), pd.concat(losses), pictures, features, products)


def alignments(
    weights: Weights,
    first: Weights,
    kernel: Float[Tensor, "s w w"],
    layer: int,
    turning: Sequence[torch.Generator],
    probes: Float[Tensor, "s n d"],
) -> dict[str, Float[Tensor, " s"]]:
    """All that is measured of a layer.

    `uncentered`, `centered`, `left`: the alignments of `theory`; with `_rotated`, those with a kernel turned at random.
    `left_chance`: the closed form of `left_rotated`. `start`: the closed form of `uncentered` for weights unrelated to
    the kernel. `moved`: |V| / |W|. `power`: that of G which is most like F. `overlap`: mean squared cosine between the
    spaces of the `LEADING` eigenvectors of F and of G.

    The official check subtracts the first weights in place and then takes the gradients of the network that is left:
    `coded` is what it computes, cos(V^T V, V^T K' V) with K' of that network; `mixed` has V on the one side and the
    network as trained on the other, cos(V^T V, W^T K W).
    """
    w = weights[layer - 1]
    v = w - first[layer - 1]
    f, g = theory.feature_matrix(w), theory.gradient_product(w, kernel)
    turned = torch.cat([theory.rotated(k[None], one) for k, one in zip(kernel, turning, strict=True)])
    left_over = [*weights[: layer - 1], v, *weights[layer:]]
    other = networks.tangent_kernel(left_over, probes, layer)
    ranks = theory.effective_rank(kernel)
    small = theory.reduced(w)  # of 784 inputs, say, only the space of the rows matters
    spectra = theory.feature_matrix(small), theory.gradient_product(small, kernel)
    return {
        "uncentered": theory.cosine(f, g),
        "uncentered_rotated": theory.right_alignment(w, turned),
        "start": torch.tensor([theory.random_alignment(w.shape[1], w.shape[2], rank) for rank in ranks.tolist()]),
        "centered": theory.right_alignment(v, kernel),
        "centered_rotated": theory.right_alignment(v, turned),
        "left": theory.left_alignment(v, kernel),
        "left_rotated": theory.left_alignment(v, turned),
        "left_chance": theory.left_chance(v, kernel),
        "moved": v.square().sum((1, 2)).sqrt() / w.square().sum((1, 2)).sqrt(),
        "power": torch.from_numpy(theory.best_power(*spectra)),
        "overlap": theory.overlap(*spectra, LEADING),
        "coded": theory.right_alignment(v, other),
        "mixed": theory.cosine(theory.feature_matrix(v), g),
    }


def at_step(learned: Learned, step: int) -> pd.DataFrame:
    """A row a seed of what was measured at a step: `train`, `test`, `accuracy`, and, of layer l, `NAME_l`.

    Raises `ValueError` for a step at which nothing was.

    >>> data = chain(4, 3, 5, seeds=[0])
    >>> learned = learn(data, width=6, depth=2, scale=0.3, rule=Rule(0.1), at=[0, 2], seeds=[0])
    >>> sorted(at_step(learned, 2))[:3]
    ['accuracy', 'centered_1', 'centered_2']
    """
    found = learned.losses[learned.losses["step"] == step].set_index("seed").drop(columns="step")
    if found.empty:
        raise ValueError(f"step is {step}: must be one of {sorted(set(learned.losses['step']))}")
    rows = learned.aligned[learned.aligned["step"] == step].drop(columns="step").pivot(index="seed", columns="layer")
    rows.columns = pd.Index([f"{column[0]}_{column[1]}" for column in rows.columns])
    return found.join(rows).reset_index()


def deep_linear(
    layers: int, scale: float, decay: float, seeds: Sequence[int], steps: int = LINEAR_STEPS
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Deep linear networks that learn a map of rank 4 from white inputs, in float64: the power of G that makes F.

    steps: at least 10. Returns two frames. One has a row a seed and step: `power`; `root`, the cosine of F and
    G^(1/L); `loss`; `imbalance`, over that at the start; `flow`, what gradient flow makes of it, exp(-2 lambda t). The
    other has a row a seed and power: `cosine` of F and G^power at the last step.
    """
    d, rule, at = LINEAR, Rule(LINEAR_RATE, decay), [steps * k // 10 for k in range(11)]
    x = (d**0.5 * torch.eye(d, dtype=torch.float64)).expand(len(seeds), d, d).contiguous()
    maps = []
    for generator in generators(seeds, "data"):
        u, v = (torch.linalg.qr(torch.randn(d, d, generator=generator, dtype=torch.float64))[0] for _ in range(2))
        rank = len(STRENGTHS)
        maps.append((u[:, :rank] * torch.tensor(STRENGTHS, dtype=torch.float64)) @ v[:, :rank].T)
    y = x @ torch.stack(maps).transpose(1, 2)
    drawn = networks.initial([d] * (layers + 1), scale, generators(seeds, "weights"))
    first = [w.double() for w in drawn]
    rows = []
    for step, weights in networks.train(first, x, y, rule, at, linear=True):
        f = theory.feature_matrix(weights[0])
        g = theory.gradient_product(weights[0], networks.tangent_kernel(weights, x, 1, linear=True))
        measured = {
            "power": torch.from_numpy(theory.best_power(f, g)),
            "root": torch.from_numpy(theory.power_cosines(f, g, np.array([1 / layers]))[:, 0]),
            "loss": (networks.outputs(weights, x, linear=True) - y).square().sum((1, 2)) / y.square().sum((1, 2)),
            "imbalance": theory.imbalance(weights) / theory.imbalance(first),
        }
        flow = float(np.exp(-2 * rule.decay * rule.rate * step))
        rows.append(_rows(measured, seeds, step=step, layers=layers, decay=rule.decay, flow=flow))
    cosines = theory.power_cosines(f, g)
    parts = [
        pd.DataFrame({"seed": s, "power": theory.POWERS, "cosine": c}) for s, c in zip(seeds, cosines, strict=True)
    ]
    return pd.concat(rows), pd.concat(parts).assign(layers=layers, decay=rule.decay)


def deep_linear_all(scale: float, seeds: Sequence[int], steps: int = LINEAR_STEPS) -> tuple[pd.DataFrame, pd.DataFrame]:
    """`deep_linear` for every depth of `LINEAR_LAYERS`, with `LINEAR_DECAY` and without decay, each as one frame."""
    settings = [(layers, decay) for layers in LINEAR_LAYERS for decay in (LINEAR_DECAY, 0.0)]
    found = [deep_linear(layers, scale, decay, seeds, steps) for layers, decay in settings]
    courses, cosines = (pd.concat(part, ignore_index=True) for part in zip(*found, strict=True))
    return courses, cosines


def recursive_machine(
    data: Data, rounds: int, bandwidth: float, ridge: float, monomials: int, seeds: Sequence[int]
) -> tuple[pd.DataFrame, Float[Tensor, "s d d"]]:
    """Kernel regression, again and again with the metric of its own gradients (`kernel_machine`).

    bandwidth: in units of sqrt(d). Returns a row a seed and round, 0 for the plain kernel: `test`, the squared error
    over that of zero, and `corner`, the share of the trace of its gradient product that is on the first `monomials`
    inputs; and the last metric.
    """
    s, _, d = data.x.shape
    width = bandwidth * d**0.5
    metric = torch.eye(d).expand(s, d, d).contiguous()
    rows = []
    for number in range(rounds + 1):
        fitted = kernel_machine.fit(data.x, data.y, metric, width, ridge)
        product = kernel_machine.gradient_product(fitted, data.x, metric, width)
        found = kernel_machine.predict(fitted, data.x, data.x_test, metric, width)
        measured = {"test": _relative(found, data.y_test), "corner": corner(product, monomials)}
        rows.append(_rows(measured, seeds, round=number))
        metric = kernel_machine.scaled(product)
    return pd.concat(rows), metric


def borrowed_metrics(
    data: Data, metrics: Mapping[str, Float[Tensor, "s d d"]], bandwidth: float, ridge: float, seeds: Sequence[int]
) -> pd.DataFrame:
    """One kernel regression with each metric, scaled to the trace d: seed, metric, `test`, as `recursive_machine`."""
    width, rows = bandwidth * data.x.shape[2] ** 0.5, []
    for name, given in metrics.items():
        metric = kernel_machine.scaled(given)
        fitted = kernel_machine.fit(data.x, data.y, metric, width, ridge)
        found = kernel_machine.predict(fitted, data.x, data.x_test, metric, width)
        rows.append(_rows({"test": _relative(found, data.y_test)}, seeds, metric=name))
    return pd.concat(rows)


def corner(matrix: Float[Tensor, "s d d"], monomials: int) -> Float[Tensor, " s"]:
    """The share of the trace that is on the first `monomials` inputs, those that the target depends on."""
    diagonal = matrix.diagonal(dim1=1, dim2=2)
    return diagonal[:, :monomials].sum(1) / diagonal.sum(1)


def _error(weights: Weights, x: Float[Tensor, "s n d"], y: Float[Tensor, "s n c"]) -> Float[Tensor, " s"]:
    return _relative(networks.outputs(weights, x), y)


def _relative(found: Float[Tensor, "s n c"], y: Float[Tensor, "s n c"]) -> Float[Tensor, " s"]:
    return (found - y).square().sum((1, 2)) / y.square().sum((1, 2))


def _accuracy(weights: Weights, data: Data) -> Float[Tensor, " s"]:
    if data.y.shape[2] == 1:
        return torch.full((len(data.x),), torch.nan)
    answers = networks.outputs(weights, data.x_test).argmax(2)
    return (answers == data.y_test.argmax(2)).double().mean(1)


def _rows(measured: Mapping[str, Tensor], seeds: Sequence[int], **fixed: float | str) -> pd.DataFrame:
    return pd.DataFrame({"seed": list(seeds), **fixed} | {name: v.double().tolist() for name, v in measured.items()})
