"""The chapter's experiments: seeds and parameters in, tidy frames out.

alpha = 0 stands for training without Mixup (ERM). Letters as in `theory`; s seeds are always the leading axis.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from phenomena.chapters.mixup import softmax_networks as small
from phenomena.chapters.mixup import theory
from phenomena.own_data import title
from phenomena.science import metrics, networks, training
from phenomena.science.datasets import Dataset, subset
from phenomena.science.datasets import load as load_dataset
from phenomena.science.frames import tidy
from phenomena.science.label_noise import redraw_labels

Fit = Callable[..., Sequence[nn.Module]]  # `fit` with the network and its training fixed


def training_name(alpha: float) -> str:
    """What tables and figures call training at this alpha."""
    return f"α = {alpha:g}" if alpha else "ERM"


# --- points on a line and in the plane --------------------------------------------------------------------------------


def check_classes(classes: Sequence[int], points: int) -> None:
    """Raises `ValueError` when every line asks for more classes than it has points."""
    if min(classes) > points:
        raise ValueError(f"long_classes is {list(classes)}: one must be {points} (long_points) or fewer")


def mixed_points(
    x: Float[Tensor, "n 1"], targets: Float[Tensor, "n c"], alphas: Iterable[float], bins: int = 20
) -> pd.DataFrame:
    """How much of what Mixup trains on lies where: columns alpha, position, label (weight of class 1), mass.

    x: whole numbers, between two of which there are so many bins; those with less than 0.0005 are left out.
    alphas: 0 for the samples as they are.
    """
    pairs, parts = [(i, j) for i in range(len(x)) for j in range(i)], []
    for alpha in alphas:
        law = theory.beta_law(alpha) if alpha else theory.atoms_law([0.0, 1.0], [0.5, 0.5])
        own = {"position": x[:, 0].double(), "label": targets[:, 0].double(), "mass": 1 / len(x) ** 2}
        rows = [pd.DataFrame(own)]
        for i, j in pairs:
            steps = round(bins * (x[i] - x[j]).abs().item())
            centre = np.arange(steps + 1) / steps
            ends = (np.clip(centre + offset / steps, 0, 1) for offset in (-0.5, 0.5))
            position, label = (float(part[j, 0]) + centre * float(part[i, 0] - part[j, 0]) for part in (x, targets))
            mass = 2 * law.mass(*ends)[0] / len(x) ** 2  # (i, j) and (j, i)
            rows.append(pd.DataFrame({"position": position, "label": label, "mass": mass}))
        found = pd.concat(rows).round({"position": 6, "label": 6}).groupby(["position", "label"], as_index=False).sum()
        parts.append(found[found["mass"] > 5e-4].assign(alpha=alpha))
    return pd.concat(parts)


def quantile(alpha: float) -> small.Quantile | None:
    """That of the law of lambda, as `softmax_networks.train` takes it."""
    return theory.beta_law(alpha).quantile if alpha else None


def train_points(
    x: Float[Tensor, "n d"],
    targets: Float[Tensor, "n c"],
    seeds: Sequence[int],
    *,
    alphas: Sequence[float],
    width: int,
    steps: int,
) -> dict[float, small.Networks]:
    """One network a seed for every alpha, all trained at once on the same points."""
    quantiles = [quantile(a) for a in alphas for _ in seeds]
    repeated, labels = (t.expand(len(quantiles), -1, -1) for t in (x, targets))
    nets = small.train(repeated, labels, [*seeds] * len(alphas), quantiles, width=width, steps=steps)
    parts = zip(*(tensor.split(len(seeds)) for tensor in nets), strict=True)
    return {a: small.Networks(*part) for a, part in zip(alphas, parts, strict=True)}


def probability(net: small.Networks, places: Float[Tensor, "m d"]) -> Float[Tensor, "s m"]:
    """Probability of class 1 at some places."""
    return small.logits(net, places.expand(len(net.w1), -1, -1)).softmax(2)[:, :, 0]


def network_curves(
    nets: Mapping[float, small.Networks], places: Float[Tensor, "m 1"], seeds: Sequence[int]
) -> pd.DataFrame:
    """Networks by alpha at places on the line: columns seed, position, p (of class 1), alpha."""
    position = places[:, 0].tolist()
    return pd.concat(
        tidy(probability(net, places), "p", seed=seeds, position=position).assign(alpha=a) for a, net in nets.items()
    )


def closed_form_curves(
    x: Float[Tensor, "n 1"],
    targets: Float[Tensor, "n c"],
    places: Float[Tensor, "m 1"],
    mixed: pd.DataFrame,
    radius: float,
) -> pd.DataFrame:
    """The closed form at those places that have `mixed_points` within the radius: columns position, p, alpha."""
    parts = []
    for alpha in [a for a in mixed["alpha"].unique().tolist() if a]:
        there = torch.tensor(mixed.loc[mixed["alpha"] == alpha, "position"].to_numpy())
        near = places[(places - there).abs().amin(1) <= radius]
        p = theory.optimum(x, targets, near, theory.beta_law(alpha), radius)[:, 0]
        parts.append(tidy(p, "p", position=near[:, 0].tolist()).assign(alpha=alpha))
    return pd.concat(parts)


def closed_form_gap(samples: pd.DataFrame, epsilon: float) -> Float[Tensor, " s"]:
    """Distance of the networks to the closed form at the middle sample, mean over alpha > 0.

    samples: `network_curves` at the three points.
    """
    middle = samples[(samples["position"] == 1) & (samples["alpha"] > 0)]
    by_alpha = middle.pivot(index="alpha", columns="seed", values="p")
    rows = torch.tensor(by_alpha.to_numpy(np.float32))
    closed = [theory.middle_of_three(a, epsilon) for a in by_alpha.index]
    return torch.stack([(row - p).abs() for row, p in zip(rows, closed, strict=True)]).mean(0)


def refined(levels: Sequence[float], wanted: int = 16) -> list[float]:
    """The levels and, evenly in the logarithm between neighbours, about `wanted` in all, of two digits."""
    between = max(1, wanted // len(levels))  # of two neighbours, the first included
    fine = (a for ends in pairwise(levels) for a in np.geomspace(*ends, between + 1)[1:-1].tolist())
    return sorted({*levels, *(float(f"{a:.2g}") for a in fine)})


def long_lines(
    classes: Iterable[int], points: int, seeds: Sequence[int], *, alphas: Sequence[float], width: int, steps: int
) -> pd.DataFrame:
    """Training error on lines that alternate between so many classes: columns error, seed, classes, training."""
    parts = []
    for c in classes:
        x, targets = theory.alternating_line(points, c)
        for alpha, net in train_points(x, targets, seeds, alphas=alphas, width=width, steps=steps).items():
            found = small.logits(net, x.expand(len(seeds), -1, -1)).argmax(2)
            error = (found != targets.argmax(1)).float().mean(1)
            parts.append(tidy(error, "error", seed=seeds).assign(classes=c, training=training_name(alpha)))
    return pd.concat(parts)


class Crossing(NamedTuple):
    """Probability of class 1 on two crossing segments.

    curves: towards the crossing, columns seed, distance, networks, class (of the segment), closed form.
    plane: on a grid, columns x1, x2, networks (their mean), closed form (nan far from mixed points).
    networks_jump, closed_form_jump: difference between the segments where the curves begin, next to the crossing.
    """

    curves: pd.DataFrame
    plane: pd.DataFrame
    networks_jump: Float[Tensor, " s"]
    closed_form_jump: float


def crossing(
    seeds: Sequence[int], *, width: int, steps: int, radius: float = 1e-4, plane_radius: float = 0.1, side: int = 61
) -> Crossing:
    """Networks trained with Mixup, alpha = 1, on the points of Proposition 2.5, and the closed form.

    radius, plane_radius: those of the closed form along the segments and in the plane; side: of the grid.
    """
    x, targets = theory.crossing_segments()
    law = theory.beta_law(1.0)
    net = train_points(x, targets, seeds, alphas=[1.0], width=width, steps=steps)[1.0]
    distances = torch.logspace(-3, 0, 25)
    vertical = torch.stack([torch.zeros_like(distances), distances], 1)
    exact, learned, curves = [], [], []
    for name, places in (("class 1", vertical), ("class 2", vertical.flip(1))):
        exact.append(theory.optimum(x, targets, places, law, radius)[:, 0])
        learned.append(probability(net, places))
        part = tidy(learned[-1], "networks", seed=seeds, distance=distances.tolist())
        part["class"], part["closed form"] = name, np.tile(exact[-1].numpy(), len(seeds))
        curves.append(part)
    line = torch.linspace(-1.2, 1.2, side)
    plane = torch.cartesian_prod(line, line)
    near = (plane.abs().amin(1) <= 0.1) & (plane.abs().amax(1) <= 1) | ((plane.abs().sum(1) - 1).abs() <= 0.1)
    field = torch.full((len(plane),), math.nan, dtype=torch.float64)
    field[near] = theory.optimum(x, targets, plane[near], law, plane_radius)[:, 0]
    columns = {"x1": plane[:, 0], "x2": plane[:, 1], "networks": probability(net, plane).mean(0), "closed form": field}
    networks_jump, jump = learned[0][:, 0] - learned[1][:, 0], exact[0][0] - exact[1][0]
    return Crossing(pd.concat(curves), pd.DataFrame(columns), networks_jump, jump.item())


# --- two moons, and the linear case -----------------------------------------------------------------------------------


class Moons(NamedTuple):
    """Networks on two moons.

    shapes: of every boundary, columns bent, margin, seed, separation, alpha, training.
    maps: fraction of the networks that put a place in the right-hand class, columns x1, x2, fraction, separation,
        alpha, training.
    points: of the first seed, columns x1, x2, right (whether of the right-hand class), separation.
    """

    shapes: pd.DataFrame
    maps: pd.DataFrame
    points: pd.DataFrame


def moons(
    jobs: Iterable[tuple[float, float, bool]], seeds: Sequence[int], *, points: int, width: int, steps: int
) -> Moons:
    """Networks and their boundaries for jobs (separation, alpha, accumulate); see `softmax_networks.train`."""
    half, grid = 2.0, torch.linspace(-2, 2, 121)
    square = torch.cartesian_prod(grid, grid)
    shapes, maps, first = [], [], {}
    for separation, alpha, accumulate in jobs:
        drawn = [theory.two_moons(points, separation, s) for s in seeds]
        x, targets = (torch.stack(part) for part in zip(*drawn, strict=True))
        quantiles = [quantile(alpha)] * len(seeds)
        net = small.train(x, targets, seeds, quantiles, width=width, steps=steps, accumulate=accumulate)
        correct = small.logits(net, x).argmax(2) == targets.argmax(2)
        alone = [small.Networks(*(p[i : i + 1] for p in net)) for i in range(len(seeds))]  # the grid takes memory
        score = torch.stack([small.logits(one, square[None])[0].diff(dim=1)[:, 0] for one in alone])
        score = -score.view(len(seeds), len(grid), len(grid))  # class 0 lies on the right
        measures = [theory.boundary(score[i], half, x[i], correct[i]) for i in range(len(seeds))]
        name = training_name(alpha) + (", as coded" if accumulate else "")
        job: dict[str, Any] = {"separation": separation, "alpha": alpha, "training": name}
        shapes.append(pd.DataFrame(measures).assign(seed=seeds, **job))
        fraction = (score > 0).float().mean(0)
        maps.append(tidy(fraction, "fraction", x1=grid.tolist(), x2=grid.tolist()).assign(**job))
        place = {"x1": x[0, :, 0], "x2": x[0, :, 1], "right": targets[0, :, 0] > 0}
        first[separation] = pd.DataFrame(place).assign(separation=separation)
    return Moons(pd.concat(shapes), pd.concat(maps), pd.concat(first.values()))


def linear(jobs: Iterable[tuple[int, int]], points: int, alpha: float) -> pd.DataFrame:
    """Directions of the Mixup optimum of a linear model on Gaussian points with alternating labels.

    jobs: (seed, dimension). Columns seed, d; interpolator, max-margin: angle of the optimum to these solutions in
    degrees; support: fraction of the points that are support vectors. nan where a solution does not exist.
    """
    signs = torch.tensor([1.0, -1.0], dtype=torch.float64).repeat(points)[:points]
    rows = []
    for seed, d in jobs:
        x = torch.randn(points, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        w, widest = theory.linear_optimum(x, signs, theory.beta_law(alpha)), metrics.max_margin(x, signs)
        row = {"seed": seed, "d": d, "max-margin": math.nan, "support": math.nan}
        row["interpolator"] = theory.angle(w, torch.linalg.pinv(x) @ signs) if d >= points else math.nan
        if widest is not None:  # a line separates the classes
            row["max-margin"] = theory.angle(w, widest)
            row["support"] = ((signs * (x @ widest) - 1).abs() < 1e-6).double().mean().item()
        rows.append(row)
    return pd.DataFrame(rows)


# --- data sets --------------------------------------------------------------------------------------------------------


def load(
    dataset: str,
    condition_sets: Sequence[str],
    *,
    samples: int,
    test_samples: int,
    condition_samples: int,
    network: str,
    device: str,
) -> dict[str, Dataset]:
    """The data sets by name, those of the condition first. Raises `ValueError` where one cannot be used as asked."""
    found = {name: load_dataset(name).to(device) for name in dict.fromkeys([*condition_sets, dataset])}
    for name, data in found.items():
        asked = {"condition_samples": (condition_samples, len(data.x_train))}
        if name == dataset:
            asked |= {"samples": (samples, len(data.x_train)), "test_samples": (test_samples, len(data.x_test))}
        for parameter, (rows, there) in asked.items():
            if rows > there:
                raise ValueError(f"{parameter} is {rows}: {title(name)} has {there}, it must be as many or fewer")
        if network == "resnet18" and data.x_train.dim() != 4:
            raise ValueError(
                f"network is resnet18: {title(name)} (dataset or condition_sets) holds no images, it must be cnn"
            )
    return found


class Problem(NamedTuple):
    """Rows of a seed, its training labels with label noise, and its generator, which goes on to draw the mixing."""

    data: Dataset
    labels: Int[Tensor, " n"]
    generator: torch.Generator


def problem(origin: Dataset, seed: int, samples: int, test_samples: int, label_noise: float = 0.0) -> Problem:
    """Training and test rows drawn for a seed; a fraction `label_noise` of the training labels is redrawn uniformly."""
    generator = torch.Generator().manual_seed(seed)
    data = subset(origin, samples, min(test_samples, len(origin.x_test)), generator)
    return Problem(data, redraw_labels(data.y_train, label_noise, data.classes, generator), generator)


def loader(tasks: Sequence[Problem], alpha: float, **mixing: Any) -> training.Loader:
    """Batches as they are for alpha = 0, mixed ones otherwise. mixing: as `theory.mixup_loader` takes it."""
    x, labels = torch.stack([task.data.x_train for task in tasks]), torch.stack([task.labels for task in tasks])
    if not alpha:
        return lambda index: (x[training.own_rows(index, x)], labels[training.own_rows(index, x)])
    generators, classes = [task.generator for task in tasks], tasks[0].data.classes
    return theory.mixup_loader(x, labels, classes, theory.beta_law(alpha), generators, **mixing)


def fit(
    data: Dataset,
    batches: training.Loader,
    seeds: Sequence[int],
    *,
    epochs: int,
    network: str,
    width: int,
    depth: int,
    hidden: int,
    batch: int,
    optimiser: str,
    lr: float,
    checkpoints: int = 0,
    observe: Callable[[Sequence[nn.Module]], None] | None = None,
) -> Sequence[nn.Module]:
    """One network a seed, trained on these batches and observed some `checkpoints` times on the way, and at the end.

    data: of any seed, for its shape; inputs and labels are those that the batches bring.
    network, width, depth, hidden: as `networks.encoder_projector` takes them; batch, optimiser, lr: as
    `training.train` does.
    """
    rows, shape = len(data.x_train), data.x_train.shape[1:]
    size = {"width": width, "depth": depth, "hidden": hidden}
    nets = [networks.encoder_projector(network, shape, data.classes, **size, seed=seed) for seed in seeds]
    for net in nets:
        net.to(data.x_train.device)
    steps = epochs * max(1, rows // batch)
    training.train(
        nets,
        batches,
        rows,
        steps,
        [torch.Generator().manual_seed(seed) for seed in seeds],
        batch=batch,
        optimiser=optimiser,
        lr=lr,
        checkpoints=range(0, steps, max(1, steps // checkpoints)) if checkpoints else (),
        observe=lambda step: observe(nets) if observe else None,
    )
    return nets


def condition(
    sets: Iterable[str],
    seeds: Sequence[int],
    origins: Mapping[str, Dataset],
    *,
    fit: Fit,
    alpha: float,
    samples: int,
    test_samples: int,
    **mixing: Any,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """How far mixing segments stay away from the training points, and what is fitted, for every data set and seed.

    Returns two frames. Distances of every training point: columns set, seed, segment (to the nearest between two points
    of other classes), neighbour (to the nearest such point). Of every job: set, seed, clearance (smallest distance to a
    segment over the median distance to a neighbour), erm and mixup (training accuracy without Mixup, and at `alpha`).
    """
    distances, fitted = [], []
    for name in sets:
        tasks = [problem(origins[name], seed, samples, test_samples) for seed in seeds]
        nets = {
            kind: fit(tasks[0].data, loader(tasks, a, **mixing), seeds) for kind, a in (("erm", 0.0), ("mixup", alpha))
        }
        answers = {
            kind: training.predict(trained, torch.stack([task.data.x_train for task in tasks]))
            for kind, trained in nets.items()
        }
        for i, (seed, task) in enumerate(zip(seeds, tasks, strict=True)):
            x, y = task.data.x_train.flatten(1).cpu(), task.labels.cpu()
            segment = theory.segment_distances(x, y)
            neighbour = torch.cdist(x, x).masked_fill(y[:, None] == y, torch.inf).amin(1)
            row = {"set": name, "seed": seed, "clearance": (segment.min() / neighbour.median()).item()}
            for kind, given in answers.items():
                row[kind] = metrics.accuracy(given[i], task.labels)
            distances.append(pd.DataFrame({"set": name, "seed": seed, "segment": segment, "neighbour": neighbour}))
            fitted.append(row)
    return pd.concat(distances), pd.DataFrame(fitted)


class Arm(NamedTuple):
    """One way of training: a name, alpha, the fraction of redrawn labels, and how it mixes other than the others."""

    name: str
    alpha: float
    label_noise: float = 0.0
    mixing: Mapping[str, Any] = MappingProxyType({})


def train_arms(
    arms: Iterable[Arm],
    seeds: Sequence[int],
    origin: Dataset,
    *,
    fit: Fit,
    samples: int,
    test_samples: int,
    **mixing: Any,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Networks trained on every arm with every seed, and what they make of their training labels and the test points.

    Returns two frames. Of every network: seed, arm, alpha, label_noise; best, last (test accuracy at the best of some
    ten checkpoints, under label noise only, and at the end); train (training labels given back), wrong (the wrong
    ones among them), wrong_labels (how many there are); ece, confidence (on test points). Of every bin of the
    reliability diagram with more than two rows in a hundred: seed, arm, alpha, label_noise, bin, confidence, accuracy,
    fraction.
    """
    rows, bins = [], []
    for arm in arms:
        tasks = [problem(origin, seed, samples, test_samples, arm.label_noise) for seed in seeds]
        path = list[list[float]]()

        def observe(nets: Sequence[nn.Module], tasks: Sequence[Problem] = tasks, path: list = path) -> None:
            answers = training.predict(nets, torch.stack([task.data.x_test for task in tasks]))
            path.append([metrics.accuracy(a, task.data.y_test) for a, task in zip(answers, tasks, strict=True)])

        batches = loader(tasks, arm.alpha, **{**mixing, **arm.mixing})
        nets = fit(tasks[0].data, batches, seeds, checkpoints=10 if arm.label_noise else 0, observe=observe)
        p = training.logits(nets, torch.stack([task.data.x_test for task in tasks])).softmax(2)
        given = training.predict(nets, torch.stack([task.data.x_train for task in tasks]))
        for i, (seed, task, tests) in enumerate(zip(seeds, tasks, zip(*path, strict=True), strict=True)):
            job: dict[str, Any] = {"seed": seed, "arm": arm.name, "alpha": arm.alpha, "label_noise": arm.label_noise}
            row, diagram = judge(p[i], given[i], task)
            rows.append(job | {"best": max(tests) if arm.label_noise else math.nan, "last": tests[-1]} | row)
            bins.append(diagram.assign(**job))
    return pd.DataFrame(rows), pd.concat(bins)


def judge(p: Float[Tensor, "m c"], given: Int[Tensor, " n"], task: Problem) -> tuple[dict[str, float], pd.DataFrame]:
    """Of one network: what `train_arms` returns of it, best and last aside, and the reliability diagram.

    p: its probabilities on the test points; given: its classes of the training points.
    """
    data, labels = task.data, task.labels
    wrong = labels != data.y_train
    error, diagram = metrics.calibration(p.cpu(), data.y_test.cpu())
    row = {
        "train": metrics.accuracy(given, labels),
        "wrong": metrics.accuracy(given[wrong], labels[wrong]) if wrong.any() else math.nan,
        "wrong_labels": int(wrong.sum()),
        "ece": error,
        "confidence": p.amax(1).mean().item(),
    }
    named = pd.DataFrame(diagram.numpy(), columns=["confidence", "accuracy", "fraction"])
    return row, named.rename_axis("bin").reset_index()[named["fraction"] > 0.02]


class Recovery(NamedTuple):
    """Points, the shuffled midpoints of their pairs, and the points that are computed from these alone."""

    points: Float[Tensor, "m d"]
    midpoints: Float[Tensor, "pairs d"]
    recovered: Float[Tensor, "m d"]

    @property
    def error(self) -> float:
        """Largest distance between a point and the nearest recovered one."""
        distance = torch.cdist(self.points, self.recovered, compute_mode="donot_use_mm_for_euclid_dist")
        return distance.amin(1).max().item()


def recovery(x: Float[Tensor, "m d"], seed: int) -> Recovery:
    """Takes the midpoints of points in an order that the seed draws, and computes the points from them."""
    x = x.double()
    i, j = torch.triu_indices(len(x), len(x), 1)
    midpoints = ((x[i] + x[j]) / 2)[torch.randperm(len(i), generator=torch.Generator().manual_seed(seed))]
    return Recovery(x, midpoints, theory.recover_points(midpoints))


def recovery_error(origin: Dataset, seed: int, samples: int, test_samples: int) -> float:
    """That of the first twenty training samples, see `Recovery`."""
    return recovery(problem(origin, seed, samples, test_samples).data.x_train[:20].flatten(1).cpu(), seed).error
