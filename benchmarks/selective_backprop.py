"""Times the training of many networks at once against a plain loop, and what choosing adds to a step, on one core.

    python benchmarks/selective_backprop.py [--rounds 5] [--core 1]

First, `training.train` of the chapter against a loop over seeds with autograd and the greedy choice written as a Python
loop over points; both must reach the same networks. Then, for networks of several widths, the time of every choice over
that of the step's own passes, beside `theory.overhead`, the ratio of multiplications for the Gram matrix alone. Median
and quartiles over rounds, interleaved.
"""

import argparse
import math
import os
import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from phenomena.chapters.selective_backprop import choices, networks, study, theory, training
from phenomena.chapters.selective_backprop.choices import Points
from phenomena.science.datasets import mnist1d

SEEDS, STEPS, RATE = range(900, 910), 40, 0.05


def plain_loop(job: training.Task, plan: training.Plan) -> Tensor:
    """One network after another, by autograd."""
    batches, _ = training._draws(job, plan)
    found = []
    for s, seed in enumerate(job.seeds):
        d, c = job.x.shape[1], job.classes
        p = networks.initial(d, plan.width, c, training.generator(seed, training.START)).requires_grad_()
        speed = torch.zeros_like(p)
        for t in range(plan.steps):
            index = batches[t, s].long()
            x, y = job.x[job.rows[s]][index], job.y[s][index]
            net = networks.views(p, d, plan.width, c)
            hidden = ((x @ net.w1 + net.b1).relu() @ net.w2 + net.b2).relu()
            logits = hidden @ net.w3 + net.b3
            rows = greedy_loop(logits.detach().softmax(1) - F.one_hot(y, c), hidden.detach(), plan.keep)
            (slope,) = torch.autograd.grad(F.cross_entropy(logits[rows], y[rows]), p)
            speed = training.MOMENTUM * speed + slope
            p = (p - RATE * (1 + math.cos(math.pi * t / plan.steps)) / 2 * speed).detach().requires_grad_()
        found.append(p.detach())
    return torch.stack(found)


def greedy_loop(errors: Tensor, hidden: Tensor, k: int) -> list[int]:
    inner = (errors @ errors.T) * (hidden @ hidden.T + 1)
    target, size, sums, chosen = inner.mean(1), inner.diagonal(), torch.zeros(len(inner)), list[int]()
    for m in range(1, k + 1):
        score = (2 * sums + size) / m**2 - 2 * target / m
        score[chosen] = torch.inf
        chosen.append(int(score.argmin()))
        sums = sums + inner[chosen[-1]]
    return chosen


def timed(candidates: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(rounds):
        for name, call in candidates.items():
            start = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - start)
    return seconds


def compare_training(rounds: int) -> None:
    job = training.task(mnist1d(), 3000, 0.0, SEEDS)
    plan = training.Plan(STEPS, 64, 16, 64)
    arms = [("match", [RATE] * len(SEEDS))]
    torch.testing.assert_close(training.train(job, arms, plan).flat[0, 0], plain_loop(job, plan), rtol=1e-2, atol=1e-2)
    seconds = timed({"loop": lambda: plain_loop(job, plan), "train": lambda: training.train(job, arms, plan)}, rounds)
    ratio = [a / b for a, b in zip(seconds["loop"], seconds["train"], strict=True)]
    low, median, high = statistics.quantiles(ratio, n=4)
    micro = 1e6 * statistics.median(seconds["train"]) / STEPS
    told = f"{median:.1f} ({low:.1f} to {high:.1f}) times as fast as the loop"
    print(f"greedy matching, {len(SEEDS)} seeds: train {micro:.0f} us a step, {told}")


def compare_choices(width: int, rounds: int, b: int = 64, k: int = 16, d: int = 40, c: int = 10, r: int = 64) -> None:
    g = torch.Generator().manual_seed(0)
    flat = networks.initial(d, width, c, g)
    x, onehot = torch.randn(r, b, d, generator=g), torch.eye(c)[torch.randint(c, (r, b), generator=g)]
    net, out = networks.views(flat, d, width, c), networks.views(torch.empty(r, len(flat)), d, width, c)
    passed = networks.forward(net, x)
    loss, slope = networks.errors(passed.logits, onehot)
    points, noise = Points(loss, choices.cdf(loss, loss), slope, passed.second), torch.rand(r, b + 1, generator=g)
    part = networks.Pass(*(t[:, :k].contiguous() for t in passed))

    def passes() -> None:
        networks.forward(net, x)
        networks.backward(net, x[:, :k], part, slope[:, :k], out)

    def choice(method: str) -> Callable[[], object]:
        return lambda: choices.choose(method, points, k, noise)

    seconds = timed({"passes": passes, **{method: choice(method) for method in study.CHOOSING}}, rounds)
    formula = theory.overhead(b, k, width, c, theory.multiplications(d, width, c))
    micro = 1e6 * statistics.median(seconds["passes"]) / r
    print(f"\nwidth {width}: passes {micro:.0f} us a minibatch; Gram matrix {formula:.3f} of them by count")
    for method in study.CHOOSING:
        ratio = [a / p for a, p in zip(seconds[method], seconds["passes"], strict=True)]
        low, median, high = statistics.quantiles(ratio, n=4)
        print(f"  {method:9} {median:.3f} ({low:.3f} to {high:.3f}) of the passes")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--core", type=int, help="pin to this core")
    options = parser.parse_args()
    if options.core is not None:
        os.sched_setaffinity(0, {options.core})
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, one thread, {options.rounds} rounds")
    compare_training(options.rounds)
    for width in (64, 256, 1024):
        compare_choices(width, options.rounds)


if __name__ == "__main__":
    main()
