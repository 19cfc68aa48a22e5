"""Times three ways to retrain many small networks on halves of the same data, interleaved, on one core.

    python benchmarks/influence.py [--rounds 5] [--core 1]

Candidates: a plain loop over the retrainings (autograd, one network after another), `torch.func.vmap(grad)` over all of
them, and `networks.train` of the chapter. All take the same subsets, starts and steps, and must first reach the same
networks in 20 steps; then each round times all of them in turn, in changing order. A row has the median seconds of all
retrainings, and median and quartiles over rounds of the ratio to the plain loop.
"""

import argparse
import os
import random
import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F

from phenomena.chapters.influence import networks, retraining
from phenomena.chapters.influence.networks import Layers, Training
from phenomena.science import datasets

#        retrainings, samples, hidden units
SIZES = [(400, 200, (16,)), (400, 200, (64,)), (100, 200, (16, 16, 16)), (50, 1000, (16,))]
STEPS, SAME = 100, 20  # later, rounding grows in deep networks until they differ
Given = tuple[torch.Tensor, torch.Tensor, torch.Tensor, Layers, Training]


def drawn(retrainings: int, samples: int, hidden: tuple[int, ...], steps: int) -> Given:
    generator = torch.Generator().manual_seed(0)
    data = datasets.subset(datasets.load("digits"), samples, 1, generator)
    index = retraining.subsets(retrainings, samples, samples // 2, generator)
    start = networks.initial(retrainings, (64, *hidden, 10), generator)
    return data.x_train.flatten(1) - 0.3, data.y_train, index, start, Training(hidden, steps=steps)


def loss(layers: Layers, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Of one network, whose layers are (inputs + 1, outputs)."""
    for w in layers[:-1]:
        x = torch.addmm(w[-1], x, w[:-1]).relu()
    return F.cross_entropy(torch.addmm(layers[-1][-1], x, layers[-1][:-1]), y)


@torch.no_grad()
def move(layers: Layers, slopes: Layers, speeds: Layers, rate: float, training: Training) -> None:
    for w, g, v in zip(layers, slopes, speeds, strict=True):
        v.mul_(training.momentum).add_(g).add_(w, alpha=training.decay)
        w.sub_(v, alpha=rate)


def plain_loop(x: torch.Tensor, y: torch.Tensor, index: torch.Tensor, start: Layers, training: Training) -> Layers:
    trained = []
    for number, rows in enumerate(index):
        layers = [w[number].clone().requires_grad_() for w in start]
        speeds = [torch.zeros_like(w) for w in layers]
        inputs, labels = x[rows], y[rows]
        for rate in training.rates():
            slopes = torch.autograd.grad(loss(layers, inputs, labels), layers)
            move(layers, list(slopes), speeds, rate, training)
        trained.append([w.detach() for w in layers])
    return [torch.stack(ws) for ws in zip(*trained, strict=True)]


def func_vmap(x: torch.Tensor, y: torch.Tensor, index: torch.Tensor, start: Layers, training: Training) -> Layers:
    gradient = torch.func.vmap(torch.func.grad(loss))
    layers, inputs, labels = [w.clone() for w in start], x[index], y[index]
    speeds = [torch.zeros_like(w) for w in layers]
    for rate in training.rates():
        move(layers, gradient(layers, inputs, labels), speeds, rate, training)
    return layers


def compare(size: tuple[int, int, tuple[int, ...]], rounds: int) -> None:
    given, short = drawn(*size, STEPS), drawn(*size, SAME)
    candidates: dict[str, Callable[[Given], Layers]] = {
        "plain loop": lambda given: plain_loop(*given),
        "func.vmap": lambda given: func_vmap(*given),
        "train": lambda given: networks.train(*given)[0],
    }
    found = {name: call(short) for name, call in candidates.items()}
    for name, layers in found.items():
        for expected, there in zip(found["plain loop"], layers, strict=True):
            torch.testing.assert_close(there, expected, rtol=1e-3, atol=1e-3, msg=lambda m, n=name: f"{n}: {m}")
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    order = list(candidates)
    for _ in range(rounds):
        random.shuffle(order)
        for name in order:
            begin = time.perf_counter()
            candidates[name](given)
            seconds[name].append(time.perf_counter() - begin)
    print(f"\n{size[0]} retrainings on halves of {size[1]} samples, hidden units {size[2]}")
    for name in candidates:
        low, median, high = statistics.quantiles(
            (a / b for a, b in zip(seconds["plain loop"], seconds[name], strict=True)), n=4
        )
        print(
            f"  {name:12} {statistics.median(seconds[name]):8.2f} s  {median:5.2f} ({low:.2f} to {high:.2f}) x the loop"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--core", type=int, help="pin to this core")
    parser.add_argument("--sizes", type=int, default=len(SIZES), help="only the first so many sizes")
    options = parser.parse_args()
    if options.core is not None:
        os.sched_setaffinity(0, {options.core})
    torch.set_num_threads(1)
    random.seed(0)
    print(f"torch {torch.__version__}, one thread, {options.rounds} rounds, {STEPS} steps of the whole batch")
    for size in SIZES[: options.sizes]:
        compare(size, options.rounds)


if __name__ == "__main__":
    main()
