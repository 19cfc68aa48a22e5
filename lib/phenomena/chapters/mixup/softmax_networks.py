"""Many small softmax networks with one hidden layer trained at once, with Mixup or without.

    logits(x) = W2 relu(W1 x + b1) + b2,    loss = -mean_i sum_c t_ic log softmax(logits(x_i))_c

`train` is fast, `train_readable` says the same in plain torch, one network after another; a test holds them together
and `benchmarks/mixup.py` times them. A network depends on its own seed alone, not on its company.
Letters: s seeds (networks), n rows, d features, j hidden units, c classes.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

Quantile = Callable[[Float[Tensor, "*shape"]], Float[Tensor, "*shape"]]  # of the law of lambda: uniform numbers -> it

CACHE_BYTES = 2 * 2**20  # of hidden activations trained together: larger groups are slower
BLOCK_STEPS = 500  # whose random numbers are drawn together


class Networks(NamedTuple):
    """Parameters of s networks.

    Classes stand before units in w2: products with so short a last axis are several times slower.
    """

    w1: Float[Tensor, "s d j"]
    b1: Float[Tensor, "s 1 j"]
    w2: Float[Tensor, "s c j"]
    b2: Float[Tensor, "s 1 c"]


class Mixing(NamedTuple):
    """Mixing weights and partners of t steps of one network."""

    lam: Float[Tensor, "t 1 1"]
    partner: Int[Tensor, "t n"]


def initial(features: int, width: int, classes: int, generator: torch.Generator) -> Networks:
    """One network (s = 1): weights and biases uniform within 1 / sqrt(fan-in), as in `torch.nn.Linear`."""

    def uniform(bound: int, *shape: int) -> Tensor:
        return (2 * torch.rand(1, *shape, generator=generator) - 1) / bound**0.5

    w1, b1 = uniform(features, features, width), uniform(features, 1, width)
    return Networks(w1, b1, uniform(width, classes, width), uniform(width, 1, classes))


def draw_mixing(quantile: Quantile, rows: int, steps: int, generator: torch.Generator) -> Mixing:
    """One lambda a step and a partner for every row, any row, itself included (Chidambaram et al. 2022, code)."""
    lam = quantile(torch.rand(steps, 1, 1, generator=generator, dtype=torch.float64)).float()
    return Mixing(lam, torch.randint(rows, (steps, rows), generator=generator))


def logits(net: Networks, x: Float[Tensor, "s n d"]) -> Float[Tensor, "s n c"]:
    """Logits of each network on its own rows."""
    hidden = torch.baddbmm(net.b1, x, net.w1).relu_()
    return torch.baddbmm(net.b2, hidden, net.w2.mT)


def train(
    x: Float[Tensor, "s n d"],
    targets: Float[Tensor, "s n c"],
    seeds: Sequence[int],
    quantile: Quantile | None = None,
    *,
    width: int = 512,
    steps: int = 5000,
    lr: float = 1e-3,
    accumulate: bool = False,
) -> Networks:
    """Networks trained by full-batch Adam; with `quantile`, on mixed rows.

    x: rows of each seed, float32.
    targets: their labels, rows sum to 1.
    seeds: of the networks.
    quantile: of the law of lambda; None to train on the rows as they are.
    width: number of hidden units.
    steps: number of Adam's steps.
    lr: its learning rate.
    accumulate: the gradients of all steps are added up and never set to zero, as in the two-moons script of
        Chidambaram et al. (2022).
    Raises `ValueError` for shapes that do not fit, `FloatingPointError` when a network diverges.
    """
    check(x, targets, seeds)
    group = max(1, CACHE_BYTES // (4 * x.shape[1] * width))
    parts = [
        _train_group(
            x[i : i + group], targets[i : i + group], seeds[i : i + group], quantile, width, steps, lr, accumulate
        )
        for i in range(0, len(seeds), group)
    ]
    return Networks(*(torch.cat(tensors) for tensors in zip(*parts, strict=True)))


def _train_group(
    x: Float[Tensor, "s n d"],
    targets: Float[Tensor, "s n c"],
    seeds: Sequence[int],
    quantile: Quantile | None,
    width: int,
    steps: int,
    lr: float,
    accumulate: bool,
) -> Networks:
    (s, n, d), c = x.shape, targets.shape[2]
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    starts = [initial(d, width, c, generator) for generator in generators]
    # All parameters lie in one buffer, so that Adam is a single call; net and slope are views of it and its gradient.
    flat = torch.cat([torch.cat(tensors).flatten() for tensors in zip(*starts, strict=True)])
    flat.grad = torch.zeros_like(flat)
    net, slope = _views(flat, s, d, width, c), _views(flat.grad, s, d, width, c)
    optimiser = torch.optim.Adam([flat], lr, fused=True)
    offsets = n * torch.arange(s)[:, None]
    points, labels = x.reshape(s * n, d), targets.reshape(s * n, c)
    momentum = 1.0 if accumulate else 0.0  # of the gradient before
    rows, goal = x, targets
    for step in range(steps):
        at = step % BLOCK_STEPS
        if quantile and at == 0:
            block = [draw_mixing(quantile, n, min(BLOCK_STEPS, steps - step), generator) for generator in generators]
            lam = torch.stack([mixing.lam for mixing in block], dim=1)  # (t, s, 1, 1)
            partner = torch.stack([mixing.partner for mixing in block], dim=1) + offsets  # (t, s, n)
        if quantile:
            rows = torch.lerp(points[partner[at]], x, lam[at])
            goal = torch.lerp(labels[partner[at]], targets, lam[at])
        hidden = torch.baddbmm(net.b1, rows, net.w1).relu_()  # (s, n, j)
        error = torch.baddbmm(net.b2, hidden, net.w2.mT).softmax(2).sub_(goal).div_(n)  # dL / dlogits (s, n, c)
        torch.baddbmm(slope.w2, error.mT, hidden, beta=momentum, out=slope.w2)
        active = torch.bmm(error, net.w2).mul_(hidden.sign_())  # dL / d(W1 x + b1); the sign is the slope of relu
        torch.baddbmm(slope.w1, rows.mT, active, beta=momentum, out=slope.w1)
        slope.b2.mul_(momentum).add_(error.sum(1, keepdim=True))
        slope.b1.mul_(momentum).add_(active.sum(1, keepdim=True))
        optimiser.step()
    if not flat.isfinite().all():
        raise FloatingPointError(f"a network is no longer finite after {steps} steps: lower lr (now {lr})")
    return Networks(*(tensor.clone() for tensor in net))


def train_readable(
    x: Float[Tensor, "s n d"],
    targets: Float[Tensor, "s n c"],
    seeds: Sequence[int],
    quantile: Quantile | None = None,
    *,
    width: int = 512,
    steps: int = 5000,
    lr: float = 1e-3,
    accumulate: bool = False,
) -> Networks:
    """The readable twin of `train`: same arguments, same random numbers, same networks up to rounding."""
    check(x, targets, seeds)
    trained = []
    for rows, labels, seed in zip(x, targets, seeds, strict=True):
        generator = torch.Generator().manual_seed(seed)
        start = initial(x.shape[2], width, targets.shape[2], generator)
        inner, outer = nn.Linear(x.shape[2], width), nn.Linear(width, targets.shape[2])
        with torch.no_grad():
            inner.weight.copy_(start.w1[0].T), inner.bias.copy_(start.b1[0, 0])
            outer.weight.copy_(start.w2[0]), outer.bias.copy_(start.b2[0, 0])
        network = nn.Sequential(inner, nn.ReLU(), outer)
        optimiser = torch.optim.Adam(network.parameters(), lr)
        for step in range(steps):
            inputs, goal = rows, labels
            if quantile:
                if step % BLOCK_STEPS == 0:
                    block = draw_mixing(quantile, len(rows), min(BLOCK_STEPS, steps - step), generator)
                lam, partner = block.lam[step % BLOCK_STEPS], block.partner[step % BLOCK_STEPS]
                inputs = lam * rows + (1 - lam) * rows[partner]
                goal = lam * labels + (1 - lam) * labels[partner]
            if not accumulate:
                optimiser.zero_grad()
            F.cross_entropy(network(inputs), goal).backward()
            optimiser.step()
        w1, b1, w2, b2 = (p.detach() for p in network.parameters())
        trained.append(Networks(w1.T, b1[None], w2, b2[None]))
    return Networks(*(torch.stack(tensors) for tensors in zip(*trained, strict=True)))


def check(x: Float[Tensor, "s n d"], targets: Float[Tensor, "s n c"], seeds: Sequence[int]) -> None:
    """Raises `ValueError` unless x is (s, n, d), targets (s, n, c) with rows that sum to 1, and seeds s numbers."""
    if x.dim() != 3 or targets.dim() != 3 or x.shape[:2] != targets.shape[:2] or len(x) != len(seeds):
        raise ValueError(
            f"rows {tuple(x.shape)}, targets {tuple(targets.shape)} and {len(seeds)} seeds: "
            "(seeds, rows, features), (seeds, rows, classes) and as many seeds expected"
        )
    if (targets < 0).any() or (targets.sum(2) - 1).abs().max() > 1e-5:
        raise ValueError("targets are not distributions: entries of 0 or more that sum to 1 in every row expected")


def _views(flat: Tensor, s: int, d: int, j: int, c: int) -> Networks:
    shapes = [(s, d, j), (s, 1, j), (s, c, j), (s, 1, c)]
    parts = flat.split([a * b * e for a, b, e in shapes])
    return Networks(*(part.view(shape) for part, shape in zip(parts, shapes, strict=True)))
