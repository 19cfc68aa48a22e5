"""Many small softmax networks with one hidden layer trained at once, with Mixup or without.

    logits(x) = W2 relu(W1 x + b1) + b2,    loss = -mean_i sum_c t_ic log softmax(logits(x_i))_c

`train` is fast, `train_readable` says the same in plain torch, one network after another; a test holds them together
and `benchmarks/mixup.py` times them. A network depends on its own seed alone, not on its company: to the bit, because
matrices are multiplied one by one and whatever else touches a number is exact or runs within one network.
Letters: s seeds (networks), n rows, d features, e = d + 1 features with the one of the bias, j hidden units, c classes.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from phenomena.science.linalg import matmul
from phenomena.science.optimisers import Optimiser

Quantile = Callable[[Float[Tensor, "*shape"]], Float[Tensor, "*shape"]]  # of the law of lambda: uniform numbers -> it

CACHE_BYTES = 8 * 2**20  # of hidden activations trained together: larger groups are slower
BLOCK_STEPS = 500  # whose random numbers are drawn together
ROWS = 512  # whose logits are computed together, so that their activations stay in the cache
LANES = 16  # numbers in the widest vector register: Adam rounds what is left over differently


class Networks(NamedTuple):
    """Parameters of s networks; the last row of w1 is the bias of the hidden units."""

    w1: Float[Tensor, "s e j"]
    w2: Float[Tensor, "s c j"]
    b2: Float[Tensor, "s c 1"]


class Mixing(NamedTuple):
    """Mixing weights and partners of t steps of one network."""

    lam: Float[Tensor, "t 1 1"]
    partner: Int[Tensor, "t n"]


def initial(features: int, width: int, classes: int, generator: torch.Generator) -> Networks:
    """One network (s = 1): weights and biases uniform within 1 / sqrt(fan-in), as in `torch.nn.Linear`."""

    def uniform(bound: int, *shape: int) -> Tensor:
        return (2 * torch.rand(1, *shape, generator=generator) - 1) / bound**0.5

    w1 = uniform(features, features + 1, width)
    return Networks(w1, uniform(width, classes, width), uniform(width, classes, 1))


def draw_mixing(quantile: Quantile | None, rows: int, steps: int, generator: torch.Generator) -> Mixing:
    """One lambda a step and a partner for every row, any row, itself included (Chidambaram et al. 2022, code).

    Without a law lambda is 1: rows stay as they are.
    """
    u = torch.rand(steps, 1, 1, generator=generator, dtype=torch.float64)
    lam = quantile(u).float() if quantile else torch.ones(steps, 1, 1)
    return Mixing(lam, torch.randint(rows, (steps, rows), generator=generator))


def logits(net: Networks, x: Float[Tensor, "s n d"]) -> Float[Tensor, "s n c"]:
    """Logits of each network on its own rows."""
    parts = []
    for part in x.split(ROWS, dim=1):
        hidden = matmul(F.pad(part, (0, 1), value=1.0), net.w1).relu_()
        parts.append(matmul(hidden, net.w2.mT).add_(net.b2.mT))
    return torch.cat(parts, dim=1)


def train(
    x: Float[Tensor, "s n d"],
    targets: Float[Tensor, "s n c"],
    seeds: Sequence[int],
    quantiles: Sequence[Quantile | None],
    *,
    width: int = 512,
    steps: int = 5000,
    lr: float = 1e-3,
    accumulate: bool = False,
) -> Networks:
    """Networks trained by full-batch Adam on mixed rows, or on the rows as they are.

    x: rows of each network, float32.
    targets: their labels, rows sum to 1.
    seeds: of the networks.
    quantiles: of the law of lambda of each network; None for one that is trained on the rows as they are.
    width: number of hidden units.
    steps: number of Adam's steps.
    lr: its learning rate.
    accumulate: the gradients of all steps are added up and never set to zero, as in the two-moons script of
        Chidambaram et al. (2022).
    Raises `ValueError` for shapes that do not fit, `FloatingPointError` when a network diverges.
    """
    check(x, targets, seeds, quantiles)
    group = max(1, CACHE_BYTES // (4 * x.shape[1] * width))
    parts = []
    for first in range(0, len(seeds), group):
        part = slice(first, first + group)
        parts.append(_train_group(x[part], targets[part], seeds[part], quantiles[part], width, steps, lr, accumulate))
    return Networks(*(torch.cat(tensors) for tensors in zip(*parts, strict=True)))


def _train_group(
    x: Float[Tensor, "s n d"],
    targets: Float[Tensor, "s n c"],
    seeds: Sequence[int],
    quantiles: Sequence[Quantile | None],
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
    flat = F.pad(flat, (0, -len(flat) % LANES))
    flat.grad = torch.zeros_like(flat)
    net, slope = _views(flat, s, d, width, c), _views(flat.grad, s, d, width, c)
    optimiser = Optimiser("adam", [flat], lr)
    table = torch.cat([F.pad(x, (0, 1), value=1.0), targets], 2).mT.contiguous()  # (s, e + c, n): a row, 1, its label
    hidden = torch.empty(s, n, width)
    for step in range(steps):
        at = step % BLOCK_STEPS
        if at == 0:
            t = min(BLOCK_STEPS, steps - step)
            block = [draw_mixing(q, n, t, generator) for q, generator in zip(quantiles, generators, strict=True)]
            lam = torch.stack([mixing.lam for mixing in block], dim=1)  # (t, s, 1, 1)
            rest = 1 - lam
            partner = torch.stack([mixing.partner for mixing in block], dim=1)[:, :, None]  # (t, s, 1, n)
        mixed = lam[at] * table + rest[at] * table.gather(2, partner[at].expand_as(table))
        rows, goal = mixed.split([d + 1, c], dim=1)
        matmul(rows.mT, net.w1, out=hidden).relu_()
        error = matmul(net.w2, hidden.mT).add_(net.b2).softmax(1).sub_(goal).div_(n)  # dL / dlogits (s, c, n)
        # Both gradients come from the moments m_ecj = sum_n rows_en error_cn [hidden_nj > 0], in which rows are gone:
        # dL/dw1_ej = sum_c m_ecj w2_cj and, as hidden is piecewise linear, dL/dw2_cj = sum_e m_ecj w1_ej.
        pairs = (rows[:, :, None] * error[:, None]).flatten(1, 2)
        moments = matmul(pairs, hidden.gt_(0)).view(s, d + 1, c, width)
        if not accumulate:
            flat.grad.zero_()
        for k in range(c):
            slope.w1.addcmul_(moments[:, :, k], net.w2[:, k, None])
        for k in range(d + 1):
            slope.w2.addcmul_(moments[:, k], net.w1[:, k, None])
        slope.b2.add_(error.sum(2, keepdim=True))
        optimiser.step()
    if not flat.isfinite().all():
        raise FloatingPointError(f"a network is no longer finite after {steps} steps: lower lr (now {lr})")
    return Networks(*(tensor.clone() for tensor in net))


def train_readable(
    x: Float[Tensor, "s n d"],
    targets: Float[Tensor, "s n c"],
    seeds: Sequence[int],
    quantiles: Sequence[Quantile | None],
    *,
    width: int = 512,
    steps: int = 5000,
    lr: float = 1e-3,
    accumulate: bool = False,
) -> Networks:
    """The readable twin of `train`: same arguments, same random numbers, same networks up to rounding."""
    check(x, targets, seeds, quantiles)
    trained = []
    for rows, labels, seed, quantile in zip(x, targets, seeds, quantiles, strict=True):
        generator = torch.Generator().manual_seed(seed)
        start = initial(x.shape[2], width, targets.shape[2], generator)
        inner, outer = nn.Linear(x.shape[2], width), nn.Linear(width, targets.shape[2])
        with torch.no_grad():
            inner.weight.copy_(start.w1[0, :-1].T), inner.bias.copy_(start.w1[0, -1])
            outer.weight.copy_(start.w2[0]), outer.bias.copy_(start.b2[0, :, 0])
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
        trained.append(Networks(torch.cat([w1.T, b1[None]]), w2, b2[:, None]))
    return Networks(*(torch.stack(tensors) for tensors in zip(*trained, strict=True)))


def check(
    x: Float[Tensor, "s n d"],
    targets: Float[Tensor, "s n c"],
    seeds: Sequence[int],
    quantiles: Sequence[Quantile | None],
) -> None:
    """Raises `ValueError` unless x is (s, n, d), targets (s, n, c) with rows that sum to 1, and the others s long."""
    fit = x.dim() == 3 and targets.dim() == 3 and x.shape[:2] == targets.shape[:2]
    if not fit or {len(x)} != {len(seeds), len(quantiles)}:
        raise ValueError(
            f"rows {tuple(x.shape)}, targets {tuple(targets.shape)}, {len(seeds)} seeds and {len(quantiles)} laws: "
            "(networks, rows, features), (networks, rows, classes), and a seed and a law for each network expected"
        )
    if (targets < 0).any() or (targets.sum(2) - 1).abs().max() > 1e-5:
        raise ValueError("targets are not distributions: entries of 0 or more that sum to 1 in every row expected")


def _views(flat: Tensor, s: int, d: int, j: int, c: int) -> Networks:
    shapes = [(s, d + 1, j), (s, c, j), (s, c, 1)]
    sizes = [a * b * e for a, b, e in shapes]
    parts = flat[: sum(sizes)].split(sizes)
    return Networks(*(part.view(shape) for part, shape in zip(parts, shapes, strict=True)))
