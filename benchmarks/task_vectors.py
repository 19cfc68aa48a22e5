"""Times building, applying and merging 8 task vectors of a ViT-B/32-sized state dict, interleaved, on one core.

    python benchmarks/task_vectors.py [--rounds 5] [--core 1] [--vectors 8]

Candidates for theta_0 + 0.4 sum_i (theta_i - theta_0): the textbook loop, which builds every vector, their sum and the
scaled sum as dicts, one entry after another; and the chapter's `task_vectors`, which builds the vectors and sums them
in place. For TIES: all trimmed vectors stacked whole, as the description reads, against ours, which stacks one entry at
a time. Each candidate runs in a process of its own, since peak memory belongs to a process; all must give the same
weights, compared at some 18,000 of them. A table row gives the median seconds, the median over rounds of the ratio to
the loop, and the peak memory above that of the states themselves, which are the same for all.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor

from phenomena.chapters.task_arithmetic import task_vectors

State = dict[str, Tensor]


def vit_b32(seed: int) -> State:
    """Random entries in the shapes of CLIP's ViT-B/32 image tower: 87.8 million, 351 MB."""
    g = torch.Generator().manual_seed(seed)
    shapes: dict[str, tuple[int, ...]] = {"conv1": (768, 3, 32, 32), "class": (768,), "position": (50, 768)}
    shapes |= {"proj": (768, 512), "ln_pre.w": (768,), "ln_pre.b": (768,), "ln_post.w": (768,), "ln_post.b": (768,)}
    for i in range(12):
        block = {"in.w": (2304, 768), "in.b": (2304,), "out.w": (768, 768), "out.b": (768,), "fc.w": (3072, 768)}
        block |= {"fc.b": (3072,), "pr.w": (768, 3072), "pr.b": (768,), "ln1.w": (768,), "ln1.b": (768,)}
        block |= {"ln2.w": (768,), "ln2.b": (768,)}
        shapes |= {f"{i}.{name}": shape for name, shape in block.items()}
    return {name: torch.randn(shape, generator=g) * 0.02 for name, shape in shapes.items()}


def loop_apply(start: State, tuned: list[State]) -> State:
    vectors = [{n: state[n] - start[n] for n in start} for state in tuned]
    total = {n: sum((v[n] for v in vectors[1:]), vectors[0][n]) for n in start}
    scaled = {n: 0.4 * total[n] for n in start}
    return {n: start[n] + scaled[n] for n in start}


def ours_apply(start: State, tuned: list[State]) -> State:
    return task_vectors.apply(start, [task_vectors.difference(state, start) for state in tuned], 0.4)


def loop_ties(start: State, tuned: list[State]) -> State:
    rows = []
    for state in tuned:
        flat = torch.cat([(state[n] - start[n]).flatten() for n in start])
        kept = flat.abs().topk(round(0.2 * len(flat))).indices
        rows.append(torch.zeros_like(flat).scatter(0, kept, flat[kept]))
    stack = torch.stack(rows)
    agree = torch.where(stack.sum(0).sign() * stack > 0, stack, 0.0)
    merged = agree.sum(0) / (agree != 0).sum(0).clamp(min=1)
    parts = merged.split([e.numel() for e in start.values()])
    return {n: e + 0.4 * part.view(e.shape) for (n, e), part in zip(start.items(), parts, strict=True)}


def ours_ties(start: State, tuned: list[State]) -> State:
    vectors = [task_vectors.difference(state, start) for state in tuned]
    return task_vectors.apply(start, task_vectors.ties(vectors, 0.2), 0.4)


CANDIDATES: dict[str, Callable[[State, list[State]], State]] = {
    f.__name__: f for f in (loop_apply, ours_apply, loop_ties, ours_ties)
}


def child(name: str, count: int) -> None:
    """One timed call in this process; prints seconds, extra megabytes and every 4999th number of each entry."""
    torch.set_num_threads(1)
    states = [vit_b32(seed) for seed in range(count + 1)]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begin = time.perf_counter()
    found = CANDIDATES[name](states[0], states[1:])
    seconds = time.perf_counter() - begin
    extra = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 / 1e6
    print(json.dumps([seconds, extra, torch.cat([e.flatten()[::4999] for e in found.values()]).tolist()]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--core", type=int, help="pin to this core")
    parser.add_argument("--vectors", type=int, default=8)
    parser.add_argument("--child", choices=list(CANDIDATES), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.core is not None:
        os.sched_setaffinity(0, {options.core})
    if options.child:
        child(options.child, options.vectors)
        return
    seconds: dict[str, list[float]] = {name: [] for name in CANDIDATES}
    memory: dict[str, list[float]] = {name: [] for name in CANDIDATES}
    made: dict[str, list[float]] = {}
    for _ in range(options.rounds):
        for name in CANDIDATES:
            command = [sys.executable, __file__, "--child", name, "--vectors", str(options.vectors)]
            took, extra, made[name] = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
            seconds[name].append(took)
            memory[name].append(extra)
    print(f"torch {torch.__version__}, one thread, {options.rounds} rounds, {options.vectors} vectors of ViT-B/32")
    for what in ("apply", "ties"):
        ours, loop = (torch.tensor(made[f"{whose}_{what}"]) for whose in ("ours", "loop"))
        torch.testing.assert_close(ours, loop, rtol=1e-5, atol=1e-6)
        for name in (f"loop_{what}", f"ours_{what}"):
            pairs = zip(seconds[f"loop_{what}"], seconds[name], strict=True)
            ratio = statistics.median(a / b for a, b in pairs)
            row = f"{statistics.median(seconds[name]):7.2f} s {ratio:6.2f} x loop"
            print(f"  {name:12} {row} {statistics.median(memory[name]):8.0f} MB extra")


if __name__ == "__main__":
    main()
