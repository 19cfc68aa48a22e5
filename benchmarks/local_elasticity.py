"""Times stochastic gradient descent with one image a step over a set of LeNets: a plain loop against `train`.

    python benchmarks/local_elasticity.py [--rounds 5] [--core 0] [--trials 10] [--steps 500] [--every 50]

The plain loop trains one trial after another in PyTorch in double precision and keeps a log with a row a step (trial,
step, image, label, loss and logits before the step) in a list; every `every` steps both note the logits of thirty
images. `lenet.train` of the chapter trains the set at once in single precision and leaves the same numbers; with "two
processes" the set is cut in half, one half a core. First all must give equal logits at every step and checkpoint: in
double precision to 1e-9, in single precision to 1e-3, and to the bit in one process and in two. Then each round times
all of them in changing order. Printed are median seconds, microseconds a step of one trial, and over rounds the median,
least and largest ratio to the plain loop.
"""

import argparse
import os
import random
import statistics
import time
from collections.abc import Callable
from multiprocessing.pool import Pool

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.multiprocessing import get_context

from phenomena.chapters.local_elasticity import lenet
from phenomena.science import geomnist
from phenomena.science.label_noise import corrupt_evenly

LR = 0.005


def setting(trials: int, steps: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x, y = geomnist.generate(500, 3, generator)
    labels = torch.stack([corrupt_evenly(y, 0.3, 3, generator) for _ in range(trials)])
    order = torch.randint(len(x), (trials, steps), generator=generator)
    return {"x": x, "labels": labels, "order": order} | lenet.initialise(trials, 1, 3, generator)


def split(made: dict[str, Tensor]) -> tuple[lenet.Net, Tensor, Tensor, Tensor]:
    net = {name: p for name, p in made.items() if name not in ("x", "labels", "order")}
    return net, made["x"], made["labels"], made["order"]


def plain_loop(made: dict[str, Tensor], every: int) -> tuple[Tensor, Tensor]:
    net, x, labels, order = split(made)
    x = x.double()
    log: list[dict[str, object]] = []
    checkpoints = []
    for trial in range(len(order)):
        model = nn.Sequential(
            *(nn.Conv2d(1, 6, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Flatten(), nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 3)),
        ).double()
        with torch.no_grad():
            for p, start in zip(model.parameters(), net.values(), strict=True):
                p.copy_(start[trial])
        optimiser = torch.optim.SGD(model.parameters(), LR)
        for step, row in enumerate(order[trial].tolist()):
            if step % every == 0:
                with torch.no_grad():
                    checkpoints.append(model(x[:30]))
            label = labels[trial, row : row + 1]
            output = model(x[row : row + 1])
            loss = F.cross_entropy(output, label)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            entry = {"trial": trial, "step": step, "image": row, "label": label.item(), "loss": loss.item()}
            log.append(entry | {"logits": output.detach()[0].tolist()})
    seen = torch.tensor([row["logits"] for row in log], dtype=torch.float64).view(*order.shape, 3)
    return seen, torch.stack(checkpoints).unflatten(0, (len(order), -1))


def at_once(made: dict[str, Tensor], every: int) -> tuple[Tensor, Tensor]:
    net, x, labels, order = split(made)
    found = lenet.train(net, x, labels, order, lr=LR, every=every, observed=x[:30])
    return found.seen, found.observed[:, :-1]


def started() -> None:
    torch.set_num_threads(1)


def halves(pool: Pool, made: dict[str, Tensor], every: int) -> tuple[Tensor, Tensor]:
    parts = [{name: p if name == "x" else p[i::2] for name, p in made.items()} for i in (0, 1)]
    found = pool.starmap(at_once, [(part, every) for part in parts])
    order = torch.arange(len(made["order"])).view(-1, 2).T.flatten().argsort()
    first, second = (torch.cat(tensors)[order] for tensors in zip(*found, strict=True))
    return first, second


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--core", type=int, help="pin to this core, and leave out the two processes")
    parser.add_argument("--trials", type=int, default=10, help="an even number")
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--every", type=int, default=50)
    options = parser.parse_args()
    if options.core is not None:
        os.sched_setaffinity(0, {options.core})
    started()
    random.seed(0)
    made = setting(options.trials, options.steps)
    made["x"].share_memory_()  # images are not sent to a process again for every part
    candidates: dict[str, Callable[[], tuple[Tensor, Tensor]]] = {
        "plain loop, double": lambda: plain_loop(made, options.every),
        "at once, one core": lambda: at_once(made, options.every),
    }
    pool = get_context("spawn").Pool(2, started) if options.core is None else None
    if pool:
        candidates["at once, two processes"] = lambda: halves(pool, made, options.every)
    expected, single = plain_loop(made, options.every), at_once(made, options.every)
    double = {name: p.double() if p.is_floating_point() else p for name, p in made.items()}
    pairs = {
        "at once in double precision and the plain loop": (at_once(double, options.every), expected, 1e-9),
        "at once in single precision and the plain loop": (single, expected, 1e-3),
    }
    if pool:
        pairs["two processes and one"] = (halves(pool, made, options.every), single, 0.0)
    for names, (found, wanted, tolerance) in pairs.items():
        gap = max((a.double() - b.double()).abs().max().item() for a, b in zip(found, wanted, strict=True))
        print(f"largest difference of logits, {names}: {gap:.1e} (at most {tolerance:.0e})")
        if not gap <= tolerance:
            raise SystemExit("the results differ")
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(options.rounds):
        for name in random.sample(list(candidates), len(candidates)):
            start = time.perf_counter()
            candidates[name]()
            seconds[name].append(time.perf_counter() - start)
    print(f"{options.trials} trials, {options.steps} steps of one image, {options.rounds} rounds")
    for name, taken in seconds.items():
        ratios = [a / b for a, b in zip(seconds["plain loop, double"], taken, strict=True)]
        middle = statistics.median(taken)
        each = middle / options.trials / options.steps * 1e6
        spread = f"{statistics.median(ratios):6.2f} ({min(ratios):.2f} to {max(ratios):.2f}) x the plain loop"
        print(f"  {name:24} {middle:7.2f} s {each:7.0f} us a trial's step {spread}")
    if pool:
        pool.terminate()


if __name__ == "__main__":
    main()
