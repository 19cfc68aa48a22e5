"""How far samples are from data: Fréchet and energy distance, and the classifier whose features they are taken in.

Letters: n and m rows, d dimension, c classes.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float64, Int
from torch import Tensor
from torch.nn.functional import cross_entropy

from phenomena.science.checks import check_tensors


def frechet(x: Float64[Tensor, "n d"], y: Float64[Tensor, "m d"]) -> float:
    """Fréchet distance of the Gaussians with the mean and covariance of either sample, squared, as in FID.

    |mu_x - mu_y|² + tr(A + B - 2 (A^(1/2) B A^(1/2))^(1/2)), A and B the covariances. Samples from a Gaussian with the
    mean and covariance of y are at distance 0, whatever y looks like.

    Raises `ValueError` for shapes that do not fit, fewer than two rows, or numbers that are not finite.

    >>> import torch
    >>> x = torch.tensor([[0.0], [2.0]], dtype=torch.float64)
    >>> round(frechet(x, x + 3), 6)
    9.0
    """
    check_tensors(x=(x, "n d"), y=(y, "m d"))
    if min(len(x), len(y)) < 2:
        raise ValueError(f"{len(x)} and {len(y)} rows: a covariance needs 2 or more")
    a, b = (torch.atleast_2d(torch.cov(z.T)) for z in (x, y))
    values, vectors = torch.linalg.eigh(a)
    root = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
    overlap = torch.linalg.eigvalsh(root @ b @ root).clamp(min=0).sqrt().sum()
    return float((x.mean(0) - y.mean(0)).square().sum() + a.trace() + b.trace() - 2 * overlap)


def energy(x: Float64[Tensor, "n d"], y: Float64[Tensor, "m d"]) -> float:
    """Energy distance 2 E|X - Y| - E|X - X'| - E|Y - Y'|, zero for equal laws alone (Székely and Rizzo 2013).

    X' is another row than X, so that the estimate is unbiased and can be below zero.
    Raises as `frechet`.

    >>> import torch
    >>> x = torch.tensor([[0.0], [1.0]], dtype=torch.float64)
    >>> energy(x, x)
    -1.0
    """
    check_tensors(x=(x, "n d"), y=(y, "m d"))
    if min(len(x), len(y)) < 2:
        raise ValueError(f"{len(x)} and {len(y)} rows: a distance within a sample needs 2 or more")
    within = [torch.cdist(z, z).sum() / (len(z) * (len(z) - 1)) for z in (x, y)]  # faster than `torch.pdist`
    return float(2 * torch.cdist(x, y).mean() - within[0] - within[1])


def train_classifier(
    x: Float64[Tensor, "n d"],
    labels: Int[Tensor, " n"],
    classes: int,
    generator: torch.Generator,
    width: int = 64,
    steps: int = 150,
) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]:
    """A network with one hidden layer, trained by full-batch Adam: its features, and its class probabilities.

    Features are the hidden units after the ReLU, in float64 like their input.

    >>> import torch
    >>> x = torch.tensor([[-1.0], [1.0]], dtype=torch.float64)
    >>> _, probabilities = train_classifier(x, torch.tensor([0, 1]), 2, torch.Generator().manual_seed(0))
    >>> probabilities(x).argmax(1).tolist()
    [0, 1]
    """
    sizes = [(x.shape[1], width), (width, classes)]
    weights = [torch.randn(i, o, generator=generator) * (2 / i) ** 0.5 for i, o in sizes]
    parameters = [p.requires_grad_() for w in weights for p in (w, torch.zeros(w.shape[1]))]
    optimizer = torch.optim.Adam(parameters, lr=0.01)
    first, shift, second, offset = parameters
    rows = x.float()
    for _ in range(steps):
        optimizer.zero_grad()
        loss = cross_entropy(torch.relu(rows @ first + shift) @ second + offset, labels)
        loss.backward()
        optimizer.step()
    w, b, v, c = (p.detach().double() for p in parameters)

    def features(z: Tensor) -> Tensor:
        return torch.relu(z @ w + b)

    return features, lambda z: torch.softmax(features(z) @ v + c, -1)
