"""How often the 95 % intervals of `phenomena.statistics` cover, by simulation: the table of the page on verdicts.

    python benchmarks/coverage.py [--repeats 2000] [--core 0]

The shapes are those of tests/runs/test_statistics.py, which asserts with fewer repeats what is printed here. The error
of simulation is about 0.0015, one standard deviation, at 20,000 repeats.
"""

import argparse
import os
import runpy
from pathlib import Path

import numpy as np

from phenomena.statistics import interval

TESTS = runpy.run_path(str(Path(__file__).parents[1] / "tests" / "runs" / "test_statistics.py"))
# what no interval of few seeds can see: one seed in fifty fails altogether
RARE = {"share 0.999 of 1000, correlation 0.02": (TESTS["of_trials"](0.999, 1000, 0.02), 0.999, {"trials": 1000})}


def coverage(draw, true: float, how: dict, seeds: int, repeats: int) -> float:
    rng = np.random.default_rng(seeds)
    found = (interval(draw(rng, seeds), **how)[1:] for _ in range(repeats))
    return sum(low <= true <= high for low, high in found) / repeats


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--repeats", type=int, default=2_000)
    parser.add_argument("--core", type=int)
    options = parser.parse_args()
    if options.core is not None:
        os.sched_setaffinity(0, {options.core})
    shapes = {name: shape[:3] for name, shape in TESTS["SHAPES"].items()} | RARE
    width = max(map(len, shapes))
    print(f"{'shape':{width}}", *(f"{f'n = {n}':>6}" for n in TESTS["SEEDS"]), sep="  ")
    for name, (draw, true, how) in shapes.items():
        row = [coverage(draw, true, how, n, options.repeats) for n in TESTS["SEEDS"]]
        print(f"{name:{width}}", *(f"{c:6.3f}" for c in row), sep="  ", flush=True)


if __name__ == "__main__":
    main()
