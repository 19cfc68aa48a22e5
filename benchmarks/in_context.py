"""Times three ways to train many one-layer transformers on the same sequences, interleaved, on one core.

    python benchmarks/in_context.py [--rounds 9] [--core 1]

Candidates: a plain loop over the seeds (autograd, one network after another), `torch.func.vmap(grad)` over all seeds,
and `two_paths.train` of the chapter. All take the same sequences, drawn beforehand here, and the same Adam
(`science.optimisers`), so that only the passes differ; `train` draws its sequences itself, within its time. Every
candidate must first reach the same networks; then each round times all of them in turn, in changing order. A row has
the median microseconds a step of all seeds, and median and quartiles over rounds of the ratio to the plain loop.
"""

import argparse
import os
import random
import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from phenomena.chapters.in_context_learning.sequences import Task, table
from phenomena.chapters.in_context_learning.two_paths import (
    BLOCK_STEPS,
    Networks,
    Training,
    initial,
    logits_readable,
    train,
    training_block,
)
from phenomena.science.optimisers import Optimiser

#        seeds, classes, hidden units
SIZES = [(10, 128, 128), (5, 128, 128), (1, 128, 128), (10, 512, 128), (10, 128, 512)]
STEPS = 2 * BLOCK_STEPS


def setting(seeds: int, classes: int, hidden: int) -> tuple[Tensor, Task, Training, list[torch.Generator]]:
    task, training = Task(classes=classes), Training(hidden=hidden)
    generators = [torch.Generator().manual_seed(seed) for seed in range(seeds)]
    return torch.stack([table(task, g) for g in generators]), task, training, generators


def drawn(size: tuple[int, int, int]) -> tuple[Tensor, Training, Networks, Tensor, Tensor]:
    """Tables, initial networks, and items and labels (s, q, steps * batch) of all steps."""
    tables, task, training, generators = setting(*size)
    starts = [initial(task, training, g) for g in generators]
    net = Networks(*(torch.cat(parts) for parts in zip(*starts, strict=True)))
    blocks = [training_block(task, training.batch, generators) for _ in range(STEPS // BLOCK_STEPS)]
    items, labels = (torch.cat([block[i] for block in blocks], 2) for i in (0, 1))
    return tables, training, net, items, labels


def adam(parameters: list[Tensor], training: Training) -> Optimiser:
    rates = [lr for lr, _ in training.groups()]
    groups = [{"params": part, "lr": lr} for part, lr in zip((parameters[:2], parameters[2:]), rates, strict=True)]
    return Optimiser("adam", groups, lr=0.0)


def plain_loop(tables: Tensor, training: Training, net: Networks, items: Tensor, labels: Tensor) -> Networks:
    trained = []
    for s, rows in enumerate(tables):
        parameters = [p[s : s + 1].clone().requires_grad_() for p in net]
        optimiser = adam(parameters, training)
        for step in range(STEPS):
            at = slice(step * training.batch, (step + 1) * training.batch)
            x, y = rows[items[s, :, at]], labels[s, :, at]
            F.cross_entropy(logits_readable(Networks(*parameters), x, y), y[0]).backward()
            optimiser.step()
            for p in parameters:
                p.grad = None
        trained.append(Networks(*(p.detach() for p in parameters)))
    return Networks(*(torch.cat(parts) for parts in zip(*trained, strict=True)))


def func_vmap(tables: Tensor, training: Training, net: Networks, items: Tensor, labels: Tensor) -> Networks:
    def loss(p: tuple[Tensor, ...], x: Tensor, y: Tensor) -> Tensor:
        match, vote, w1, _, w2, b2 = p
        attention = (torch.einsum("bd,de,nbe->nb", x[0], match, x[1:]) * x.shape[-1] ** 0.5).softmax(0)
        read = torch.einsum("nb,nbl->bl", attention, (y[1:, :, None] == torch.arange(vote.shape[0])).to(x.dtype))
        hidden = torch.addmm(w1[-1], x[0], w1[:-1]).relu()
        return F.cross_entropy(read @ vote + hidden @ w2 + b2, y[0])

    gradient = torch.func.vmap(torch.func.grad(loss))
    parameters = [p.clone() for p in net]
    optimiser = adam(parameters, training)
    rows = torch.arange(len(tables))[:, None, None]
    for step in range(STEPS):
        at = slice(step * training.batch, (step + 1) * training.batch)
        slopes = gradient(tuple(parameters), tables[rows, items[:, :, at]], labels[:, :, at])
        for p, slope in zip(parameters, slopes, strict=True):
            p.grad = slope
        optimiser.step()
    return Networks(*parameters)


def ours(size: tuple[int, int, int]) -> Networks:
    for _, net in train(*setting(*size), [STEPS]):
        found = net
    return found


def compare(size: tuple[int, int, int], rounds: int) -> None:
    given = drawn(size)
    candidates: dict[str, Callable[[], Networks]] = {
        "plain loop": lambda: plain_loop(*given),
        "func.vmap": lambda: func_vmap(*given),
        "train": lambda: ours(size),
    }
    found = {name: call() for name, call in candidates.items()}
    for name, net in found.items():
        for expected, there in zip(found["plain loop"], net, strict=True):
            torch.testing.assert_close(there, expected, rtol=1e-2, atol=1e-3, msg=lambda m, n=name: f"{n}: {m}")
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    order = list(candidates)
    for _ in range(rounds):
        random.shuffle(order)
        for name in order:
            start = time.perf_counter()
            candidates[name]()
            seconds[name].append(time.perf_counter() - start)
    print(f"\n{size[0]} seeds, {size[1]} classes, {size[2]} hidden units")
    for name in candidates:
        low, median, high = statistics.quantiles(
            (a / b for a, b in zip(seconds["plain loop"], seconds[name], strict=True)), n=4
        )
        micro = statistics.median(seconds[name]) / STEPS * 1e6
        print(f"  {name:12} {micro:8.0f} us/step  {median:5.2f} ({low:.2f} to {high:.2f}) x the loop")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--core", type=int, help="pin to this core")
    parser.add_argument("--sizes", type=int, default=len(SIZES), help="only the first so many sizes")
    options = parser.parse_args()
    if options.core is not None:
        os.sched_setaffinity(0, {options.core})
    torch.set_num_threads(1)
    random.seed(0)
    print(f"torch {torch.__version__}, one thread, {options.rounds} rounds of {STEPS} steps, batch {Training().batch}")
    for size in SIZES[: options.sizes]:
        compare(size, options.rounds)


if __name__ == "__main__":
    main()
