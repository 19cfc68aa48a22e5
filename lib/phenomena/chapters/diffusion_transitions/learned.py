"""Denoisers that networks learn from few images, beside the exact one of the same images, and what they copy.

A network is given a noisy image and the time, and answers with a clean image. Of all functions the exact denoiser of
the training images, `Mixture.denoise` with sigma = 0, has the least mean square error on them, so that a network which
fits ever better comes ever nearer to a score that returns training images.

Letters: s networks, n training images, d pixels, b rows of a batch, m samples.
"""

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Float64
from torch import Tensor, nn

from phenomena.chapters.diffusion_transitions import metrics, theory
from phenomena.chapters.diffusion_transitions.mixtures import Denoiser, Mixture, normal, sample
from phenomena.chapters.diffusion_transitions.study import Images, Schedule, generators, time_grid
from phenomena.science.stacked import Stacked

FREQUENCIES = 8  # sines and cosines that tell a network the time
WIDTH, BATCH, RATE = 128, 64, 0.002  # units of a hidden layer, rows of a batch, learning rate of AdamW
KEPT = 0.99  # a step of the average of the weights that samples are drawn with
LONG = 10_000  # steps of training from which on claims about memorization are measured
TRAIN, NOISE, START, LOSS = 20, 21, 22, 23  # streams of random numbers, after those of `study`


def validate(counts: Sequence[int], train_images: int) -> None:
    """Raises `ValueError` for numbers of images with which `study` cannot be run, as the chapter's rules do."""
    if not len(set(counts)) == len(counts) > 2:
        raise ValueError(f"learned_points is {list(counts)}: must be three or more that differ")
    if max(counts) > train_images:
        raise ValueError(f"learned_points is {list(counts)}: {train_images} training images are there")


def with_time(x: Float[Tensor, "*s d"], t: Float[Tensor, "*s"]) -> Float[Tensor, "*s e"]:
    """What a network is given: the noisy image, then sin(pi k t) and cos(pi k t) for k = 1 .. `FREQUENCIES`.

    >>> import torch
    >>> with_time(torch.zeros(3, 4), torch.zeros(3)).shape[1] == 4 + 2 * FREQUENCIES
    True
    """
    angles = math.pi * t[..., None] * torch.arange(1, FREQUENCIES + 1)
    return torch.cat([x, angles.sin(), angles.cos()], -1)


def batch(
    images: Float[Tensor, "n d"], rows: int, generator: torch.Generator, schedule: Schedule
) -> tuple[Float[Tensor, "b e"], Float[Tensor, "b d"]]:
    """Inputs and targets of one step: images drawn with replacement, noised at times uniform on [0, 1].

    >>> import torch
    >>> inputs, targets = batch(torch.ones(5, 4), 3, torch.Generator().manual_seed(0), (0.1, 20.0))
    >>> tuple(inputs.shape), tuple(targets.shape)
    ((3, 20), (3, 4))
    """
    clean = images[torch.randint(len(images), (rows,), generator=generator)]
    t = torch.rand(rows, generator=generator)
    low, high = schedule
    a = torch.exp(-t * t * (high - low) / 4 - t * low / 2)[:, None]  # `theory.signal` of many times
    noise = torch.randn(clean.shape, generator=generator)
    return with_time(a * clean + (1 - a * a).clamp(min=0).sqrt() * noise, t), clean


def train(
    sets: Sequence[Float[Tensor, "_ d"]],
    starts: Sequence[torch.Generator],
    noises: Sequence[torch.Generator],
    marks: Sequence[int],
    schedule: Schedule = (0.1, 20.0),
) -> Iterator[tuple[int, Denoiser]]:
    """Trains a network on every set, all at once, and yields the steps in `marks` with the denoisers reached there.

    Three hidden layers of `WIDTH` ReLU units; mean square error over pixels, AdamW with torch's decay of 0.01, one
    `BATCH` a step. A denoiser uses running averages of the weights, takes x: (s, m, d) with one row of samples a
    network, and is good until the next step is asked for.
    starts, noises: one a network, for its first weights, and for its batches; no network depends on another.
    """
    d = sets[0].shape[1]
    sizes = [d + 2 * FREQUENCIES, WIDTH, WIDTH, WIDTH, d]
    stack = Stacked([_network(sizes, generator) for generator in starts])
    average = stack.flat.clone()
    optimizer = torch.optim.AdamW(stack.parameters(slice(None)), lr=RATE, fused=True)

    def denoise(x: Tensor, a: float) -> Tensor:
        t = torch.full(x.shape[:-1], theory.time_at(a, *schedule))
        kept = stack.flat.clone()
        stack.flat.copy_(average)
        answer = stack.outputs(with_time(x.float(), t)).double()
        stack.flat.copy_(kept)
        return answer

    for step in range(1, max(marks) + 1):
        pairs = [batch(images, BATCH, generator, schedule) for images, generator in zip(sets, noises, strict=True)]
        inputs, targets = (torch.stack(part) for part in zip(*pairs, strict=True))
        stack.gradients(inputs, targets, ["mse"] * len(sets))
        optimizer.step()
        average.lerp_(stack.flat, 1 - min(KEPT, step / (step + 9)))
        if step in marks:
            yield step, denoise


def _network(sizes: Sequence[int], generator: torch.Generator) -> nn.Sequential:
    """Linear layers of these sizes with ReLU between; weights of variance 2 / inputs, biases 0."""
    layers: list[nn.Module] = []
    for i, o in pairwise(sizes):
        linear = nn.Linear(i, o)
        with torch.no_grad():
            linear.weight.normal_(0, (2 / i) ** 0.5, generator=generator)
            linear.bias.zero_()
        layers += [linear, nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def loss(
    denoise: Denoiser,
    clean: Float64[Tensor, "s n d"],
    noises: Sequence[torch.Generator],
    schedule: Schedule = (0.1, 20.0),
    times: int = 10,
) -> Float64[Tensor, " s"]:
    """Mean square error a pixel of a denoiser on these images, over the midpoints of equal parts of [0, 1].

    >>> import torch
    >>> clean = torch.ones(1, 4, 2, dtype=torch.float64)
    >>> loss(lambda x, a: torch.zeros_like(x), clean, [torch.Generator()]).tolist()
    [1.0]
    """
    total = torch.zeros(len(clean), dtype=torch.float64)
    for k in range(times):
        a = theory.signal((k + 0.5) / times, *schedule)
        x = a * clean + math.sqrt(1 - a * a) * normal(clean.shape[1:], noises)
        total += (denoise(x, a) - clean).square().mean((1, 2)) / times
    return total


def copies(samples: Float64[Tensor, "m d"], images: Float64[Tensor, "n d"]) -> Float64[Tensor, " m"]:
    """Distance to the nearest of the images over that to the second nearest; a sample below 1/3 counts as a copy.

    Raises `ValueError` for fewer than two images.

    >>> import torch
    >>> images = torch.tensor([[0.0], [1.0]], dtype=torch.float64)
    >>> copies(torch.tensor([[0.1], [0.5]], dtype=torch.float64), images).round(decimals=3).tolist()
    [0.111, 1.0]
    """
    if len(images) < 2:
        raise ValueError(f"{len(images)} images: a second nearest needs 2 or more")
    near = torch.cdist(samples, images).topk(2, dim=1, largest=False).values
    return near[:, 0] / near[:, 1]


class Learned(NamedTuple):
    """What `study` measures at every step that it looks at, and samples of the first seed with their nearest images."""

    frame: pd.DataFrame
    pictures: dict[int, tuple[Float64[Tensor, "m h w"], Float64[Tensor, "m h w"]]]  # n -> samples, images


def study(
    held: Sequence[Images],
    seeds: Sequence[int],
    counts: Sequence[int],
    steps: int,
    schedule: Schedule = (0.1, 20.0),
    samples: int = 200,
) -> Learned:
    """Networks and exact denoisers of each seed's first n images, for every n of `counts`.

    held: of every seed. samples: drawn by 25 steps of ddim, the same start for all of a seed.
    Returns the columns seed, n, arm ("network"; "exact" and, as a control of what counts as a copy, "held-out images",
    both at step 0), step, copies (share of samples), training and held_out (`loss`), frechet (of features, to held-out
    images).
    """
    arms = [(seed, n, one) for seed, one in zip(seeds, held, strict=True) for n in counts]
    sets = [one.mixture.means[:n] for _, n, one in arms]
    signals = [theory.signal(t, *schedule) for t in time_grid(25)]
    rows, pictures = [], {}

    def measured(arm: str, step: int, denoise: Denoiser, part: slice) -> None:
        here, points = arms[part], sets[part]
        begin = normal((samples, points[0].shape[1]), _streams(here, START))
        ends, _ = sample("ddim", denoise, begin, signals)
        seen = torch.stack([images[torch.arange(samples) % len(images)] for images in points])
        unseen = torch.stack([one.held_out[torch.arange(samples) % len(one.held_out)] for _, _, one in here])
        errors = [loss(denoise, clean, _streams(here, LOSS), schedule).tolist() for clean in (seen, unseen)]
        for (seed, n, one), x, images, *both in zip(here, ends, points, *errors, strict=True):
            share = (copies(x, images) < 1 / 3).double().mean().item()
            distance = metrics.frechet(one.features(x), one.features(one.held_out))
            rows.append((seed, n, arm, step, share, *both, distance))
            if seed == seeds[0] and arm == "network":
                pictures[n] = one.grey(x[:8]), one.grey(images[torch.cdist(x[:8], images).argmin(1)])

    for i, ((seed, n, one), images) in enumerate(zip(arms, sets, strict=True)):
        measured("exact", 0, Mixture(images).denoise, slice(i, i + 1))
        share = (copies(one.held_out, images) < 1 / 3).double().mean().item()
        rows.append((seed, n, "held-out images", 0, share, math.nan, math.nan, math.nan))
    noises = [generators([seed], TRAIN, n)[0] for seed, n, _ in arms]
    first = [generators([seed], NOISE, n)[0] for seed, n, _ in arms]
    for step, denoise in train([images.float() for images in sets], first, noises, marks(steps), schedule):
        measured("network", step, denoise, slice(None))
    names = ["seed", "n", "arm", "step", "copies", "training", "held_out", "frechet"]
    return Learned(pd.DataFrame(rows, columns=names), pictures)


def _streams(arms: Sequence[tuple[int, int, Images]], stream: int) -> list[torch.Generator]:
    """A generator an arm, the same for all arms of a seed."""
    return [generators([seed], stream)[0] for seed, _, _ in arms]


def marks(steps: int) -> list[int]:
    """Steps at which networks are looked at: halves of halves of `steps`, down to about 60.

    >>> marks(1000)
    [62, 125, 250, 500, 1000]
    """
    return sorted({max(1, round(steps / 2**k)) for k in range(1 + max(0, round(math.log2(steps / 60))))})


def ends(frame: pd.DataFrame) -> pd.DataFrame:
    """What of `study` is recorded: for the fewest, second fewest and most images, at the last step.

    gap: held_out - training. Nan in training of fewer than `LONG` steps are memorized, the copies; trained, the Fréchet
    distance; and crossed, the step at which copies pass a quarter (nan also where they do not).
    Returns the columns seed, images ("fewest", "second", "most"), arm, copies, gap, frechet, memorized, trained,
    crossed, and power: log of crossed over that for the fewest images, over log of the ratio of the numbers.
    """
    counts = sorted(frame["n"].unique())
    ranks = {counts[0]: "fewest", counts[1]: "second", counts[-1]: "most"}
    rows = []
    for (seed, n, arm), part in frame[frame["n"].isin(ranks)].groupby(["seed", "n", "arm"]):
        path = part.sort_values("step")
        last, long = path.iloc[-1], path["step"].max() >= LONG
        rows.append({
            "seed": seed, "images": ranks[n], "arm": arm, "copies": last["copies"], "frechet": last["frechet"],
            "gap": last["held_out"] - last["training"], "memorized": last["copies"] if long else np.nan,
            "trained": last["frechet"] if long else np.nan, "n": n,
            "crossed": crossing(path["step"].to_numpy(float), path["copies"].to_numpy(float)) if long else np.nan,
        })  # fmt: skip
    found = pd.DataFrame(rows)
    fewest = found[found["images"] == "fewest"].set_index(["seed", "arm"])
    first = fewest.reindex(pd.MultiIndex.from_frame(found[["seed", "arm"]]))
    power = np.log(found["crossed"] / first["crossed"].to_numpy()) / np.log(found["n"] / counts[0])
    return found.assign(power=power.where(found["n"] > counts[0]))


def crossing(steps: Float[np.ndarray, " t"], shares: Float[np.ndarray, " t"], level: float = 0.25) -> float:
    """The step at which the share first passes the level, linear in log step between looks; nan where it never does.

    >>> crossing(np.array([10.0, 1000.0]), np.array([0.0, 0.5]))
    100.0
    """
    above = np.flatnonzero(shares > level)
    if not len(above) or above[0] == 0:
        return math.nan
    i = above[0]
    part = (level - shares[i - 1]) / (shares[i] - shares[i - 1])
    return float(np.exp(np.log(steps[i - 1]) + part * np.log(steps[i] / steps[i - 1])))
