"""Mixup against a plain loop: networks on the alternating line, and distances to mixing segments.

    python benchmarks/mixup.py [--core 0] [--rounds 3]

Line: the setting of Chidambaram et al. (2022), 10 runs of 5,000 full-batch Adam steps at alpha = 1, a network of 512
units on three points. Ours trains all runs at once; the peer, `train_readable`, is plain torch with one network after
another and the same draws. Distances: every point of MNIST-1D to all segments between points of other classes, against
a loop that projects the point onto the segments from one end at a time. Results are compared first; then the two take
turns on one thread, and the medians of the rounds are shown.
"""

import argparse
import os
import statistics
import time

import torch

from phenomena.chapters.mixup import softmax_networks, theory
from phenomena.science import datasets


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


def compare(name, ours, peer, difference, rounds):
    """Shows that results agree, then times both in turn."""
    print(f"{name}: largest difference of results {difference(ours(), peer()):.1e}")
    times = {"ours": [], "peer": []}
    for _ in range(rounds):
        for key, run in (("ours", ours), ("peer", peer)):
            start = time.perf_counter()
            run()
            times[key].append(time.perf_counter() - start)
    first, second = (statistics.median(times[key]) for key in ("ours", "peer"))
    ratios = [b / a for a, b in zip(times["ours"], times["peer"], strict=True)]
    spread = f"{min(ratios):.1f} to {max(ratios):.1f}"
    print(f"{name}: ours {first:.2f} s, peer {second:.2f} s, ratio {second / first:.1f} ({spread})")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--core", type=int)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=5000)
    args = parser.parse_args()
    if args.core is not None:
        os.sched_setaffinity(0, {args.core})
    torch.set_num_threads(1)

    points, targets = theory.alternating_line(3, 2)
    x, t = points.expand(10, -1, -1), targets.expand(10, -1, -1)
    quantile = theory.beta_law(1.0).quantile

    def middle(train):
        net = train(x, t, range(10), quantile, width=512, steps=args.steps)
        return softmax_networks.logits(net, x).softmax(2)[:, :, 0]

    compare(
        f"alternating line, 10 x {args.steps} steps",
        lambda: middle(softmax_networks.train),
        lambda: middle(softmax_networks.train_readable),
        lambda a, b: (a - b).abs().max().item(),
        args.rounds,
    )

    data = datasets.load("mnist1d")
    x, labels = data.x_train[:300].flatten(1), data.y_train[:300]
    compare(
        "segment distances, 300 points",
        lambda: theory.segment_distances(x, labels),
        lambda: plain_distances(x, labels),
        lambda a, b: (a - b).abs().max().item(),
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
