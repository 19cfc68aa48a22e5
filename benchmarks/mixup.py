"""Mixup against plain loops: networks on the line and on two moons, and distances to mixing segments.

    python benchmarks/mixup.py [--core 0] [--rounds 3] [--steps 200]

Line: the setting of Chidambaram et al. (2022), networks of 512 units on three points, nine alphas (ERM among them) x 10
seeds by full-batch Adam. Moons: 10 networks of 500 units on 300 points, alpha = 1. Ours trains all at once. The peers
have the same starts and the same draws: `train_readable`, plain torch with one network after another; all networks at
once by `torch.func.vmap`; and, where JAX is installed, by jit, scan and vmap, compiled before it is timed.
Distances: every point of MNIST-1D to all segments between points of other classes, against a loop that projects the
point onto the segments from one end at a time.
Results are compared first; then contenders take turns on one thread, and the medians of the rounds are shown.
"""

import argparse
import os
import statistics
import time

import torch
import torch.nn.functional as F

from phenomena.chapters.mixup import softmax_networks as small
from phenomena.chapters.mixup import theory
from phenomena.science import datasets

try:
    import jax
    import jax.numpy as jnp
except ImportError:
    jax = None


def starts_and_mixed(x, targets, seeds, quantiles, width, steps):
    """The starts (s, ...), and the mixed rows and labels of every step (t, s, n, ...), as `train` draws them."""
    starts, rows, goals = [], [], []
    for i, (seed, quantile) in enumerate(zip(seeds, quantiles, strict=True)):
        generator = torch.Generator().manual_seed(seed)
        starts.append(small.initial(x.shape[2], width, targets.shape[2], generator))
        for first in range(0, steps, small.BLOCK_STEPS):
            t = min(small.BLOCK_STEPS, steps - first)
            lam, partner = small.draw_mixing(quantile, x.shape[1], t, generator)
            rows.append(lam * x[i] + (1 - lam) * x[i][partner])
            goals.append(lam * targets[i] + (1 - lam) * targets[i][partner])
    net = small.Networks(*(torch.cat(part) for part in zip(*starts, strict=True)))
    joined = (torch.cat(part).unflatten(0, (len(seeds), steps)).transpose(0, 1) for part in (rows, goals))
    return net, *joined


def train_vmap(x, targets, seeds, quantiles, *, width, steps):
    """All networks at once: gradients by vmap over one network's loss, fused Adam."""

    def loss(w1, w2, b2, rows, goal):
        hidden = (rows @ w1[:-1] + w1[-1]).relu()
        return F.cross_entropy(hidden @ w2.T + b2[:, 0], goal)

    net, rows, goals = starts_and_mixed(x, targets, seeds, quantiles, width, steps)
    gradient = torch.func.vmap(torch.func.grad(loss, argnums=(0, 1, 2)))
    optimiser = torch.optim.Adam(net, 1e-3, fused=True)
    for row, goal in zip(rows, goals, strict=True):
        for p, slope in zip(net, gradient(*net, row, goal), strict=True):
            p.grad = slope
        optimiser.step()
    return net


def jax_trainer(steps):
    """The same in JAX, compiled once: jit of a scan over steps of vmapped gradients, Adam by hand."""

    def loss(net, rows, goal):
        w1, w2, b2 = net
        scores = jax.nn.relu(rows @ w1[:-1] + w1[-1]) @ w2.T + b2[:, 0]
        return -(goal * jax.nn.log_softmax(scores)).sum(1).mean()

    def step(state, drawn):
        net, first, second = state
        rows, goal, t = drawn
        slope = jax.vmap(jax.grad(loss))(net, rows, goal)
        first = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, first, slope)
        second = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, second, slope)
        net = jax.tree.map(
            lambda p, m, v: p - 1e-3 * m / (1 - 0.9**t) / (jnp.sqrt(v / (1 - 0.999**t)) + 1e-8), net, first, second
        )
        return (net, first, second), None

    @jax.jit
    def run(net, rows, goals):
        zero = jax.tree.map(jnp.zeros_like, net)
        return jax.lax.scan(step, (net, zero, zero), (rows, goals, jnp.arange(1.0, steps + 1)))[0][0]

    def train(x, targets, seeds, quantiles, *, width, steps):
        net, rows, goals = starts_and_mixed(x, targets, seeds, quantiles, width, steps)
        trained = run(tuple(p.numpy() for p in net), rows.numpy(), goals.numpy())
        return small.Networks(*(torch.tensor(jax.device_get(p)) for p in trained))

    return train


def plain_distances(x: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """The definition in coordinates: projection onto every segment, one point and one segment end at a time."""
    x, nearest = x.double(), []
    for point, label in zip(x, labels, strict=True):
        others = x[labels != label]
        best = torch.tensor(torch.inf, dtype=torch.float64)
        for end in others:
            step = others - end
            w = (((point - end) * step).sum(1) / step.square().sum(1).clamp(min=1e-300)).clamp(0, 1)
            best = torch.minimum(best, (point - end - w[:, None] * step).norm(dim=1).min())
        nearest.append(best)
    return torch.stack(nearest)


def compare(name, contenders, rounds):
    """Shows that results agree with those of the first, then times all in turn."""
    results = {key: run() for key, run in contenders.items()}  # compiles as well
    ours = next(iter(results))
    times = {key: [] for key in contenders}
    for _ in range(rounds):
        for key, run in contenders.items():
            start = time.perf_counter()
            run()
            times[key].append(time.perf_counter() - start)
    for key, seconds in times.items():
        ratios = [b / a for a, b in zip(times[ours], seconds, strict=True)]
        print(
            f"{name}: {key:8s} {statistics.median(seconds):7.3f} s, "
            f"ratio {statistics.median(ratios):5.1f} ({min(ratios):.1f} to {max(ratios):.1f}), "
            f"largest difference of results {(results[key] - results[ours]).abs().max().item():.1e}"
        )


def compare_training(name, x, targets, seeds, quantiles, width, steps, rounds):
    trainers = {"ours": small.train, "loop": small.train_readable, "vmap": train_vmap}
    if jax:
        trainers["jax"] = jax_trainer(steps)

    def losses(train):
        net = train(x, targets, seeds, quantiles, width=width, steps=steps)
        return -(targets * small.logits(net, x).log_softmax(2)).sum(2).mean(1)

    compare(
        f"{name}, {len(seeds)} x {steps} steps",
        {key: lambda train=train: losses(train) for key, train in trainers.items()},
        rounds,
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--core", type=int)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=200)
    args = parser.parse_args()
    if args.core is not None:
        os.sched_setaffinity(0, {args.core})
    torch.set_num_threads(1)

    quantiles = [theory.beta_law(alpha).quantile for alpha in (0.1, 0.3, 1.0, 3.0, 10.0, 32.0, 128.0, 1024.0)]
    laws = [quantile for quantile in (None, *quantiles) for _ in range(10)]
    line = [part.expand(len(laws), -1, -1) for part in theory.alternating_line(3, 2)]
    compare_training("alternating line", *line, [*range(10)] * 9, laws, 512, args.steps, args.rounds)

    drawn = [theory.two_moons(300, 0.1, seed) for seed in range(10)]
    moons = [torch.stack(part) for part in zip(*drawn, strict=True)]
    compare_training("two moons", *moons, range(10), [quantiles[2]] * 10, 500, args.steps, args.rounds)

    data = datasets.load("mnist1d")
    x, labels = data.x_train[:300].flatten(1), data.y_train[:300]
    compare(
        "segment distances, 300 points",
        {"ours": lambda: theory.segment_distances(x, labels), "loop": lambda: plain_distances(x, labels)},
        args.rounds,
    )
    x, labels = data.x_train[:1000].flatten(1), data.y_train[:1000]
    counts = labels.bincount().double()
    pairs = (counts * (1000 - counts) ** 2 / 2).sum().item()
    start = time.perf_counter()
    theory.segment_distances(x, labels)
    print(f"segment distances, 1000 points: {pairs / (time.perf_counter() - start) / 1e6:.0f} million pairs a second")


if __name__ == "__main__":
    main()
