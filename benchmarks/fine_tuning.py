"""Times a step of fine-tuning of the small suite's encoder: closed form against autograd, interleaved, on one core.

    python benchmarks/fine_tuning.py [--rounds 5] [--core 1]

Candidates are `perceptron.Perceptron` and `finetuning.ByAutograd` in the same loop; both must give the same weights.
Beside them stand the matrix products of the step alone, the floor. A table row gives the median milliseconds a step and
the median over rounds of the ratio to autograd.
"""

import argparse
import os
import statistics
import time
from unittest import mock

import torch

from phenomena.chapters.task_arithmetic import finetuning, perceptron, suites


def products(batch: int, width: int, embedding: int, steps: int) -> None:
    """The products of `steps` steps at two hidden layers, without the gradient of the inputs."""
    x, h, e = (torch.randn(batch, n) for n in (suites.SIDE**2, width, embedding))
    first, second, last = (torch.randn(a, b) for a, b in ((width, x.shape[1]), (width, width), (embedding, width)))
    for _ in range(steps):
        for inputs, weight in ((x, first), (h, second), (h, last)):
            torch.mm(inputs, weight.T)
        for slope, inputs in ((e, h), (h, h), (h, x)):
            torch.mm(slope.T, inputs)
        torch.mm(e, last)
        torch.mm(h, second)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--core", type=int, help="pin to this core")
    options = parser.parse_args()
    if options.core is not None:
        os.sched_setaffinity(0, {options.core})
    torch.set_num_threads(1)
    images = {name: suites.source(name) for name in ("digits", "geomnist")}
    rows = {"train": 800, "test": 300, "pretrain_plain": 1000, "pretrain_per_task": 40, "pretrain_domains": 4}
    suite = suites.small(images, ["inverted", "rolled"], **rows, width=256, depth=2, seed=0)
    task, steps = next(iter(suite.tasks.values())), 40
    print(f"torch {torch.__version__}, one thread, {options.rounds} rounds of {steps} steps, width 256, 2 layers")
    for label, on, batch, lr, tangent in (
        ("fine-tuning", task, 64, 1e-4, False),
        ("in tangent space", task, 64, 1e-4, True),
        ("pre-training", suite.control, 256, 1e-3, False),
    ):
        seconds: dict[str, list[float]] = {"autograd": [], "closed form": [], "products alone": []}
        made = {}
        for _ in range(options.rounds):
            for name, times in seconds.items():
                begin = time.perf_counter()
                if name == "products alone":
                    products(batch, 256, suite.control.head.shape[1], steps)
                else:
                    with mock.patch.object(perceptron, "fits", lambda encoder, name=name: name == "closed form"):
                        generator = torch.Generator().manual_seed(0)
                        how = {"lr": lr, "batch": batch, "tangent": tangent}
                        made[name] = finetuning.fine_tune(suite.encoder, [on], steps, generator, **how)
                times.append(time.perf_counter() - begin)
        for name, entry in made["autograd"].items():
            torch.testing.assert_close(made["closed form"][name], entry, rtol=0, atol=1e-5)
        for name, times in seconds.items():
            ratio = statistics.median(a / b for a, b in zip(seconds["autograd"], times, strict=True))
            print(f"  {label:17} {name:15} {1000 * statistics.median(times) / steps:6.2f} ms {ratio:6.2f} x autograd")


if __name__ == "__main__":
    main()
