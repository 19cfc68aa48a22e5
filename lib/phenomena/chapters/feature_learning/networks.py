"""Bias-free networks, many seeds at once, with gradients written out: what the chapter trains and differentiates.

f(x) = W_L a_{L-1}, h_l = W_l a_{l-1}, a_l = phi(h_l), a_0 = x, with phi the ReLU or nothing (deep linear networks).

Letters: s seeds, always the leading axis; n rows; d inputs; w width; c outputs; L layers, of which the last is linear.
Products are NumPy's, network by network: the bits of a seed do not depend on its company.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from phenomena.science.linalg import matmul

DIVERGED = 1e8  # times the first loss: training that is not coming back
Weights = list[Float[Tensor, "s _ _"]]


@dataclass(frozen=True)
class Rule:
    """How weights move: gradient descent on (1/n) sum |f(x) - y|^2, with or without decay, or with limited speed.

    rate: eta; W_l <- W_l - eta (G_l + decay W_l), G_l the gradient of the loss.
    decay: lambda, of every layer.
    speeds: where given, W_l <- W_l - eta speeds_l (1 - t / T) G_l / |G_l| instead: how fast a layer moves is set, not
        found. This is our form of speed-limited optimization (Beaglehole et al. 2024, abstract).

    Raises `ValueError` for numbers out of range.
    """

    rate: float
    decay: float = 0.0
    speeds: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if not 0 < self.rate < float("inf"):
            raise ValueError(f"rate is {self.rate}: must be above 0 and finite")
        if not 0 <= self.rate * self.decay < 1:
            raise ValueError(f"decay is {self.decay}: must be 0 or more and below 1 / rate = {1 / self.rate:g}")
        if self.speeds is not None and (min(self.speeds) < 0 or max(self.speeds) <= 0):
            raise ValueError(f"speeds are {self.speeds}: must be 0 or more, and one of them above 0")


def initial(sizes: Sequence[int], scale: float, generators: Sequence[torch.Generator]) -> Weights:
    """Weights scale N(0, 1) / sqrt(fan-in), a network for each generator, in float32.

    sizes: d, widths, c. Raises `ValueError` for fewer than two layers or a size below 1.

    >>> import torch
    >>> [tuple(w.shape) for w in initial([3, 5, 1], 1.0, [torch.Generator().manual_seed(0)])]
    [(1, 5, 3), (1, 1, 5)]
    """
    if len(sizes) < 3 or min(sizes) < 1:
        raise ValueError(f"sizes are {list(sizes)}: must be three or more, for two layers, and each 1 or more")
    shapes = [(j, i) for i, j in itertools.pairwise(sizes)]
    drawn = [[torch.randn(shape, generator=g) * (scale / shape[1] ** 0.5) for shape in shapes] for g in generators]
    return [torch.stack(layer) for layer in zip(*drawn, strict=True)]


def forward(
    weights: Weights, x: Float[Tensor, "s n d"], linear: bool = False
) -> tuple[Float[Tensor, "s n c"], list[Float[Tensor, "s n _"]]]:
    """Outputs f(x), and the inputs a_0 .. a_{L-1} of every layer."""
    inputs = [x]
    for w in weights[:-1]:
        h = matmul(inputs[-1], w.transpose(1, 2))
        inputs.append(h if linear else h.clamp_(min=0))
    return matmul(inputs[-1], weights[-1].transpose(1, 2)), inputs


def outputs(weights: Weights, x: Float[Tensor, "s n d"], linear: bool = False) -> Float[Tensor, "s n c"]:
    """f(x) alone."""
    return forward(weights, x, linear)[0]


def gradients(
    weights: Weights, x: Float[Tensor, "s n d"], y: Float[Tensor, "s n c"], linear: bool = False
) -> tuple[Float[Tensor, " s"], Weights]:
    """The loss (1/n) sum |f(x) - y|^2 of every network, and its gradient by every W_l."""
    out, inputs = forward(weights, x, linear)
    residual = out.sub_(y)
    loss = residual.square().sum((1, 2)) / x.shape[1]
    slope = residual.mul_(2 / x.shape[1])
    found = []
    for w, a in zip(reversed(weights), reversed(inputs), strict=True):
        found.append(matmul(slope.transpose(1, 2), a))
        if a is not x:
            slope = matmul(slope, w)
            if not linear:
                slope.mul_(a > 0)
    return loss, found[::-1]


def train(
    weights: Weights,
    x: Float[Tensor, "s n d"],
    y: Float[Tensor, "s n c"],
    rule: Rule,
    at: Sequence[int],
    linear: bool = False,
) -> Iterator[tuple[int, Weights]]:
    """Full-batch training; yields step and weights at every step of `at`. The weights yielded change with training.

    Raises `ValueError` where speeds do not fit the layers, or once a loss is `DIVERGED` times the first.
    """
    if rule.speeds is not None and len(rule.speeds) != len(weights):
        raise ValueError(f"{len(rule.speeds)} speeds for {len(weights)} layers: must be one for each")
    weights, last = [w.clone() for w in weights], max(at)
    start, _ = gradients(weights, x, y, linear)
    for step in range(last + 1):
        with np.errstate(over="ignore", invalid="ignore"):  # of a loss that is then refused
            loss, slopes = gradients(weights, x, y, linear)
        if not (loss <= DIVERGED * start).all():
            raise ValueError(f"training diverged by step {step}: the loss is {loss.max():.3g}; lower the rate")
        if step in at:
            yield step, weights
        if step == last:
            return
        for layer, (w, g) in enumerate(zip(weights, slopes, strict=True)):
            if rule.speeds is None:
                w.mul_(1 - rule.rate * rule.decay).sub_(g, alpha=rule.rate)
            else:
                size = g.square().sum((1, 2), keepdim=True).sqrt().clamp(min=1e-12)
                w.sub_(g / size, alpha=rule.rate * rule.speeds[layer] * (1 - step / last))


def sensitivities(
    weights: Weights, x: Float[Tensor, "s n d"], layer: int, linear: bool = False
) -> Float[Tensor, "s m w"]:
    """df_c / dh_l at every row and output, m = n c rows: what the kernel of the layer's pre-activations is made of.

    layer: l, from 1. Raises `ValueError` for a layer that is not there, or is the last one.
    """
    if not 1 <= layer < len(weights):
        raise ValueError(f"layer {layer} of {len(weights)}: must be 1 to {len(weights) - 1}, the hidden ones")
    _, inputs = forward(weights, x, linear)
    s, n, _ = x.shape
    slope = weights[-1][:, None].expand(s, n, -1, -1)  # (s, n, c, w) of the last hidden layer
    for number in range(len(weights) - 1, layer - 1, -1):
        if not linear:
            slope = slope * (inputs[number] > 0)[:, :, None]
        if number > layer:
            rows = slope.reshape(s, -1, slope.shape[-1])
            slope = matmul(rows, weights[number - 1]).view(s, n, -1, weights[number - 1].shape[2])
    return slope.reshape(s, -1, slope.shape[-1])


def tangent_kernel(
    weights: Weights, x: Float[Tensor, "s n d"], layer: int, linear: bool = False
) -> Float[Tensor, "s w w"]:
    """The pre-activation tangent kernel K_l = (1/n) sum_x sum_c (df_c/dh_l)(df_c/dh_l)^T, w x w.

    Raises `ValueError` as `sensitivities` does.
    """
    rows = sensitivities(weights, x, layer, linear)
    return matmul(rows.transpose(1, 2), rows) / x.shape[1]
