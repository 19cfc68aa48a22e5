"""The experiments of the chapter: seeds and settings in, tidy frames out.

Letters: K classes, s networks or paths, n images, t steps or times, m observed images.
"""

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypedDict, Unpack

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from phenomena.chapters.local_elasticity import lenet, neural_collapse, theory
from phenomena.science import datasets, networks, training
from phenomena.science.frames import tidy
from phenomena.science.label_noise import corrupt_evenly, redraw_labels

MODELS: tuple[theory.Model, ...] = ("I", "L")


def check_settings(
    *,
    observed: int,
    test_samples: int,
    steps: int,
    every: int,
    window: int,
    tail_window: int,
    label_noise: Sequence[float],
    levels: int,
    paths: int,
    cloud: int,
    classes: int,
) -> None:
    """Raises `ValueError` for settings that do not go together, before anything is trained."""
    if observed > test_samples:
        raise ValueError(f"observed {observed}: must be at most test_samples, {test_samples}")
    if steps % every:
        raise ValueError(f"steps {steps}: must be a multiple of every, {every}")
    if any(b - a < 0.0025 for a, b in itertools.pairwise(sorted(label_noise))):
        raise ValueError(f"label_noise {label_noise}: fractions must be at least 0.0025 apart")
    # measured: six times the samples of all cells of the phase diagram
    memory = 4 * 6 * paths * classes**2 * levels**2 * cloud
    if memory > 1e9:
        raise ValueError(
            f"paths {paths}, levels {levels}, classes {classes}, cloud {cloud} need {memory / 1e9:.1f} GB: "
            "must be at most 1"
        )
    times = torch.arange(0.0, steps + 1, every)
    theory.tail_index(times, times, tail_window)
    theory.derivative(times, window, every)


# --- images -----------------------------------------------------------------------------------------------------------


def images(whole: datasets.Dataset | None, classes: int, train: int, test: int, seed: int) -> datasets.Dataset:
    """Training and test images of each class: drawn from a whole data set, or GeoMNIST generated afresh for None."""
    if whole is None:
        return datasets.geomnist(classes, train, test, seed)
    return choose_images(whole, classes, train, test, torch.Generator().manual_seed(seed))


def check_data(
    whole: datasets.Dataset | None,
    classes: int,
    samples: int,
    test_samples: int,
    collapse_classes: int,
    collapse_samples: int,
) -> None:
    """Raises `ValueError` where a data set cannot give what the parameters ask for, before anything is trained."""
    if whole is None:
        return
    h, w = whole.x_train.shape[-2:]
    if whole.x_train.dim() != 4 or max(h, w) > 32:
        raise ValueError(f"dataset has samples of shape {tuple(whole.x_train.shape[1:])}: must be images up to 32 x 32")
    asked = {"classes": classes, "collapse_classes": collapse_classes}
    for name, wanted in asked.items():
        if wanted > whole.classes:
            raise ValueError(f"{name} is {wanted}: dataset has {whole.classes} classes, it must be as many or fewer")
    for name, labels, wanted, among in (
        ("samples", whole.y_train, samples, classes),
        ("test_samples", whole.y_test, test_samples, classes),
        ("collapse_samples", whole.y_train, collapse_samples, collapse_classes),
        ("10 test images for collapse_classes", whole.y_test, 10, collapse_classes),
    ):
        counts = torch.bincount(labels, minlength=whole.classes)[:among]
        if wanted > counts.min():
            k = int(counts.argmin())
            called = f" ({whole.names[k]})" if whole.names else ""
            raise ValueError(f"{name}: {wanted} a class asked for, class {k}{called} has {counts[k]}")


def choose_images(
    data: datasets.Dataset, classes: int, train: int, test: int, generator: torch.Generator
) -> datasets.Dataset:
    """`train` and `test` images of each of the first `classes` classes, drawn without replacement, padded to 32 x 32.

    Raises `ValueError` for more classes or images than there are, or images larger than 32 x 32.
    """
    if not 2 <= classes <= data.classes:
        raise ValueError(f"{classes} classes: must be 2 to {data.classes}")
    h, w = data.x_train.shape[-2:]
    if data.x_train.dim() != 4 or max(h, w) > 32:
        raise ValueError(f"images of shape {tuple(data.x_train.shape[1:])}: must be (c, h, w) up to 32 x 32")
    parts = []
    for x, y, wanted in ((data.x_train, data.y_train, train), (data.x_test, data.y_test, test)):
        rows = []
        for k in range(classes):
            there = (y == k).nonzero().squeeze(1)
            if not 0 < wanted <= len(there):
                raise ValueError(f"{wanted} images of class {k} asked for, 1 to {len(there)} are there")
            rows.append(there[torch.randperm(len(there), generator=generator)[:wanted]])
        chosen = torch.cat(rows)
        left, top = (32 - w) // 2, (32 - h) // 2
        parts.append((F.pad(x[chosen], (left, 32 - w - left, top, 32 - h - top)), y[chosen]))
    return datasets.Dataset(*parts[0], *parts[1], classes, data.names[:classes])


def first_of_each(labels: Int[Tensor, " n"], classes: int, count: int) -> Int[Tensor, " m"]:
    """Row numbers of the first `count` images of each class."""
    return torch.cat([(labels == k).nonzero()[:count, 0] for k in range(classes)])


# --- the equation -----------------------------------------------------------------------------------------------------


class Law(TypedDict):
    """Paths of the LE-SDE: how many classes, paths a seed, samples a class, and the noise of a sample."""

    classes: int
    paths: int
    samples: int
    sigma: float


def log_times(end: float, count: int = 1500) -> Float[Tensor, " t"]:
    """Times from 1 to `end`, evenly spread on a logarithmic axis."""
    return torch.logspace(0, float(np.log10(end)), count, dtype=torch.float64)


def separated_fraction(
    gap: Float[Tensor, "cells t"], t: Float[Tensor, " t"], seed: int, **law: Unpack[Law]
) -> Float[Tensor, " cells"]:
    """Fraction of paths of the I-model separated at the last time, by its exact law. gap: A - B on the grid t."""
    generator = torch.Generator().manual_seed(seed)
    x0 = torch.randn(law["paths"], law["classes"], law["classes"], generator=generator)
    found = theory.exact_separation(gap, t, x0, law["sigma"], law["samples"], generator)
    return found.double().mean(1)


def separation(
    gaps: Mapping[str, Float[Tensor, " t"]], t: Float[Tensor, " t"], seeds: Iterable[int], **law: Unpack[Law]
) -> pd.DataFrame:
    """`separated_fraction` for named A - B. Columns seed, case, separated."""
    gap = torch.stack(list(gaps.values()))
    found = {s: separated_fraction(gap, t, s, **law).numpy() for s in seeds}
    return tidy(np.stack(list(found.values())), "separated", seed=list(found), case=list(gaps))


def phase_diagram(
    seeds: Iterable[int], tails: Float[Tensor, " r"], amplitude: float, horizon: float, **law: Unpack[Law]
) -> pd.DataFrame:
    """`separated_fraction` at the horizon for all pairs of tail indices of alpha = a / t^r and beta, and for beta = 0.

    Columns seed, alpha, beta (the tail indices; infinite for beta = 0), separated.
    """
    t, pairs = log_times(horizon), torch.cartesian_prod(tails, tails)
    alpha, beta, alone = (theory.integrated_power(t, r[:, None], amplitude) for r in (*pairs.T, tails))
    cells = pd.DataFrame(pairs.tolist() + [(r, math.inf) for r in tails.tolist()], columns=["alpha", "beta"])
    frames = []
    for s in seeds:
        found = [separated_fraction(gap, t, s, **law) for gap in (alpha - beta, alone)]
        frames.append(cells.assign(seed=s, separated=torch.cat(found).numpy()))
    return pd.concat(frames, ignore_index=True)


def race(tails: Float[Tensor, " r"], amplitude: float, horizon: float, classes: int, sigma: float) -> pd.DataFrame:
    """Half the distance of two class means in the I-model without noise, from starts as of paths, beside the spread.

    A path separates where the distance outruns the spread of samples about their means, sigma sqrt(t).
    Columns alpha, beta (the tail indices), t, distance, spread.
    """
    t, pairs = log_times(horizon, 19), torch.cartesian_prod(tails, tails)
    a, b = (theory.integrated_power(t, r[:, None], amplitude) for r in pairs.T)
    distance = (classes / 2) ** 0.5 * ((a - b) / classes).clamp(-50, 50).exp()
    frame = pd.DataFrame(np.repeat(pairs.numpy(), len(t), 0), columns=["alpha", "beta"])
    times = np.tile(t.numpy(), len(pairs))
    return frame.assign(t=times, distance=distance.flatten().numpy(), spread=sigma * times**0.5)


def critical_slice(
    seeds: Iterable[int], slopes: Float[Tensor, " c"], horizons: Iterable[float], **law: Unpack[Law]
) -> pd.DataFrame:
    """`separated_fraction` at alpha - beta = c / t. Columns seed, horizon, c, separated."""
    frames = []
    for s in seeds:
        for end in dict.fromkeys(horizons):
            t = log_times(end)
            found = separated_fraction(slopes[:, None] * t.log(), t, s, **law)
            frames.append(pd.DataFrame({"seed": s, "horizon": end, "c": slopes.numpy(), "separated": found.numpy()}))
    return pd.concat(frames, ignore_index=True)


def stepped_paths(
    jobs: Iterable[tuple[str, float, int]], amplitude: float, horizon: float = 100.0, **law: Unpack[Law]
) -> pd.DataFrame:
    """Fraction of paths separated at the horizon for alpha = a t^-r and beta = 0.

    jobs: how (the models "I" and "L" step by step, or "exact" for the law of the I-model), tail index r, seed.
    Columns model, r, seed, separated.
    """
    classes, samples, sigma = law["classes"], law["samples"], law["sigma"]
    count = max(400, int((horizon - 1) * amplitude / classes) + 2)  # so that no step is too long
    t = torch.linspace(1, horizon, count, dtype=torch.float64)
    rows = []
    for model, r, seed in jobs:
        generator = torch.Generator().manual_seed(seed)
        x0 = torch.randn(law["paths"], classes, classes, generator=generator)
        a = theory.integrated_power(t, r, amplitude)
        if model == "exact":
            found = theory.exact_separation(a[None], t, x0, sigma, samples, generator)
        else:
            means = theory.simulate(x0, a, 0 * a, t, sigma, samples, generator, "I" if model == "I" else "L")
            spread = sigma * (t[-1] - 1) ** 0.5
            found = theory.separated(means, spread.expand(len(x0)), samples, generator)
        rows.append((model, r, seed, found.double().mean().item()))
    return pd.DataFrame(rows, columns=["model", "r", "seed", "separated"])


def collapse_of_equation(
    seeds: Iterable[int], classes: int, cases: Mapping[str, tuple[theory.Model, float]], end: float = 100.0
) -> pd.DataFrame:
    """How far the class means of the LE-ODE are from a simplex (NC2), and from the simplex of the labels (NC3).

    cases: name -> model and beta / alpha. Starts are random; those of negative mean score are mirrored.
    Columns seed, case, A, angles, duality.
    """
    a, corners, frames = torch.linspace(0, end, 201, dtype=torch.float64), theory.targets(classes), []
    for s in seeds:
        x0 = torch.randn(corners.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(s))
        x0 *= (x0 * corners).sum().sign()
        for name, (model, ratio) in cases.items():
            means = theory.SOLUTIONS[model](x0, a, ratio * a)
            angles, duality = neural_collapse.simplex(means)[1], neural_collapse.duality(corners, means)
            columns = {"A": a.numpy(), "angles": angles.numpy(), "duality": duality.numpy()}
            frames.append(pd.DataFrame({"seed": s, "case": name, **columns}))
    return pd.concat(frames, ignore_index=True)


# --- LeNets with wrong labels -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Trials:
    """What is drawn for each network before it is trained."""

    label_noise: Float[np.ndarray, " s"]
    """Fraction of wrong labels."""
    seed: Int[np.ndarray, " s"]
    """The seed from which all of a trial is drawn."""
    net: lenet.Net
    """Initial weights."""
    labels: Int[Tensor, "s n"]
    """The labels given to the training images."""
    order: Int[Tensor, "s t"]
    """The training image of each step."""

    def split(self, size: int) -> list["Trials"]:
        """The trials in parts of `size`."""
        rows = [slice(i, i + size) for i in range(0, len(self.order), size)]
        return [
            Trials(
                self.label_noise[r],
                self.seed[r],
                {name: p[r] for name, p in self.net.items()},
                self.labels[r],
                self.order[r],
            )
            for r in rows
        ]


def draw_trials(data: datasets.Dataset, label_noise: Sequence[float], seeds: Sequence[int], steps: int) -> Trials:
    """A trial for each fraction of wrong labels and seed, ordered by fraction, then seed.

    All of a trial is drawn from its own seed: initial weights, order, and the sequence in which labels are made wrong.
    Trials of one seed differ in the fraction alone.
    """
    channels, nets, labels, orders = data.x_train.shape[1], [], [], []
    pairs = list(itertools.product(label_noise, seeds))
    for p, s in pairs:
        generator = torch.Generator().manual_seed(s)
        nets.append(lenet.initialise(1, channels, data.classes, generator))
        orders.append(torch.randint(len(data.y_train), (steps,), generator=generator))
        labels.append(corrupt_evenly(data.y_train, p, data.classes, generator))
    net = {name: torch.cat([one[name] for one in nets]) for name in nets[0]}
    noise, filed = np.array(pairs).T
    return Trials(noise, filed.astype(int), net, torch.stack(labels), torch.stack(orders))


@dataclass(frozen=True)
class Trained:
    """What training leaves of each trial."""

    label_noise: Float[np.ndarray, " s"]
    seed: Int[np.ndarray, " s"]
    accuracy: Float[Tensor, " s"]
    """On the test images, at the end."""
    constant: Bool[Tensor, " s"]
    """Whether the network puts every test image into one class."""
    times: Int[Tensor, " checkpoints"]
    """Checkpoints, in steps."""
    logits: Float[Tensor, "s checkpoints m K"]
    """Logits of the observed images."""
    classes: Int[Tensor, " m"]
    """The classes of these images."""
    means: Float[Tensor, "s checkpoints K K"]
    """Mean logits of the observed images of each class."""
    seen: Float[Tensor, "s t K"]
    """Logits of each step's training image, before the step."""
    true: Int[Tensor, "s t"]
    """Its class."""
    given: Int[Tensor, "s t"]
    """The label that it was given."""
    kept: dict[int, lenet.Net]
    """The networks after so many steps."""

    def at(self, label_noise: float) -> "Trained":
        """The trials with this fraction of wrong labels."""
        r = np.flatnonzero(self.label_noise == label_noise)
        rows = ("label_noise", "seed", "accuracy", "constant", "logits", "means", "seen", "true", "given")
        kept = {step: {name: p[r] for name, p in net.items()} for step, net in self.kept.items()}
        return replace(self, **{name: getattr(self, name)[r] for name in rows}, kept=kept)


def train_networks(
    parts: Iterable[Trials],
    data: datasets.Dataset,
    observed: Int[Tensor, " m"],
    *,
    lr: float,
    every: int,
    keep: Sequence[int] = (),
) -> Trained:
    """Trains the LeNets of each part at once.

    observed: test images that are followed, as row numbers.
    keep: numbers of steps after which copies of the networks are kept.
    """
    found = []
    for part in parts:
        x, followed = data.x_train, data.x_test[observed]
        history = lenet.train(part.net, x, part.labels, part.order, lr=lr, every=every, observed=followed, keep=keep)
        predicted = lenet.logits(history.net, data.x_test).argmax(2)
        found.append(
            Trained(
                label_noise=part.label_noise,
                seed=part.seed,
                accuracy=(predicted == data.y_test).float().mean(1).double(),
                constant=(predicted == predicted[:, :1]).all(1),
                times=history.times,
                logits=history.observed,
                classes=data.y_test[observed],
                means=lenet.class_means(history.observed, data.y_test[observed]).double(),
                seen=history.seen,
                true=data.y_train[part.order],
                given=part.labels.gather(1, part.order),
                kept=history.kept,
            )
        )
    kept = {
        step: {name: torch.cat([f.kept[step][name] for f in found]) for name in net}
        for step, net in found[0].kept.items()
    }
    return Trained(
        np.concatenate([f.label_noise for f in found]),
        np.concatenate([f.seed for f in found]),
        torch.cat([f.accuracy for f in found]),
        torch.cat([f.constant for f in found]),
        found[0].times,
        torch.cat([f.logits for f in found]),
        found[0].classes,
        torch.cat([f.means for f in found]),
        torch.cat([f.seen for f in found]),
        torch.cat([f.true for f in found]),
        torch.cat([f.given for f in found]),
        kept,
    )


def outcomes(trained: Trained, tail_window: int) -> pd.DataFrame:
    """Where each trial ends, in columns:

    label_noise, p: the fraction of wrong labels, as a number and in words of three decimals.
    seed, accuracy, constant: as in `Trained`.
    For either model, such as I: A_I and B_I; r_alpha_I and r_beta_I, tail indices over the last `tail_window` steps;
    marked_alpha_I and marked_beta_I, whether the logarithm is meaningless there or hides a negative sign.
    """
    columns = {"accuracy": trained.accuracy.numpy(), "constant": trained.constant.numpy()}
    times = trained.times.double()
    for m in MODELS:
        for integral, impact, values in zip("AB", ("alpha", "beta"), theory.estimate(trained.means, m), strict=True):
            tail = theory.tail_index(values, times, tail_window)
            columns[f"{integral}_{m}"] = values[:, -1].numpy()
            columns[f"r_{impact}_{m}"] = tail.r.numpy()
            columns[f"marked_{impact}_{m}"] = (tail.marked | (values[:, -1] < 0)).numpy()
    words = [f"{p:.3f}" for p in trained.label_noise]
    return pd.DataFrame({"label_noise": trained.label_noise, "p": words, "seed": trained.seed, **columns})


def impacts(trained: Trained, window: int, every: int) -> pd.DataFrame:
    """Integrated impacts of both models through training, and the impacts of the I-model.

    Columns seed, step, A_I, B_I, A_L, B_L, alpha, beta.
    """
    estimates = {m: theory.estimate(trained.means, m) for m in MODELS}
    values = {f"{name}_{m}": v for m, pair in estimates.items() for name, v in zip("AB", pair, strict=True)}
    values |= {"alpha": theory.derivative(values["A_I"], window, every)}
    values |= {"beta": theory.derivative(values["B_I"], window, every)}
    frame = tidy(values["A_I"].numpy(), "A_I", seed=trained.seed, step=trained.times.numpy())
    return frame.assign(**{name: v.flatten().numpy() for name, v in values.items()})


def corners(classes: int) -> Float[Tensor, "K 2"]:
    """The corners of a regular polygon of radius 1, the first at the top, the others anticlockwise: a corner a class.

    A row of logits z goes to the sum of z_k times corner k. For three classes this is the plane of the simplex, and how
    far an image lies towards its class's corner is its own logit less the mean of the others.
    """
    angle = 2 * math.pi * torch.arange(classes, dtype=torch.float64) / classes
    return torch.stack([-angle.sin(), angle.cos()], 1)


def some_checkpoints(trained: Trained, most: int) -> range:
    """Rows of checkpoints, evenly spaced from the first on, with about `most` spaces between them."""
    return range(0, len(trained.times), max(1, round((len(trained.times) - 1) / most)))


def on_the_plane(trained: Trained, seed: int, at: Sequence[int]) -> pd.DataFrame:
    """Logits of the observed images in the networks of one seed, less their mean over all images, by `corners`.

    at: rows of the checkpoints. Columns label_noise, step, image, class, x, y.
    """
    of = torch.from_numpy(np.flatnonzero(trained.seed == seed))
    logits = trained.logits[of][:, torch.as_tensor(at)].double()
    places = (logits - logits.mean(2, keepdim=True)) @ corners(logits.shape[3])
    axes = {"label_noise": trained.label_noise[of.numpy()], "step": trained.times[torch.as_tensor(at)].numpy()}
    frame = tidy(places[..., 0].numpy(), "x", **axes, image=range(len(trained.classes)))
    return frame.assign(y=places[..., 1].flatten().numpy(), **{"class": trained.classes.numpy()[frame["image"]]})


def leads(trained: Trained, at: Sequence[int]) -> pd.DataFrame:
    """How far classes have come apart: the own logit less the mean of the others, and the share of right answers.

    Means over the observed images; at: rows of the checkpoints. Columns label_noise, seed, step, lead, right.
    """
    steps = trained.times[torch.as_tensor(at)].numpy()
    logits, k = trained.logits[:, torch.as_tensor(at)].double(), trained.logits.shape[3]
    own = logits[..., range(len(trained.classes)), trained.classes]
    lead = (own - (logits.sum(3) - own) / (k - 1)).mean(2)
    right = (logits.argmax(3) == trained.classes).double().mean(2)
    frame = tidy(lead.numpy(), "lead", trial=range(len(lead)), step=steps)
    trial = frame.pop("trial")
    return frame.assign(label_noise=trained.label_noise[trial], seed=trained.seed[trial], right=right.flatten().numpy())


@dataclass(frozen=True)
class Prediction:
    """Class means of networks beside those of the equation with the impacts estimated from them."""

    times: Int[Tensor, " t"]
    network: Float[Tensor, "s t K K"]
    fits: dict[theory.Model, Float[Tensor, "s t K K"]]
    scores: pd.DataFrame
    """Columns seed, model, error (relative, over all times), alike (cosine of the centred class means at the end)."""


def predict(trained: Trained, start: int = 1000) -> Prediction:
    """Both models by their closed forms from the last checkpoint up to `start`, or half of training if that is less."""
    steps = int(trained.times[-1])
    begin = int((trained.times <= min(steps / 2, start)).sum()) - 1
    network, fits, scores = trained.means[:, begin:], {}, []
    scale, final = network.flatten(1).norm(dim=1), network[:, -1] - network[:, -1].mean(1, keepdim=True)
    for m, solution in theory.SOLUTIONS.items():
        fits[m] = fit = torch.stack([solution(one[0], *theory.estimate(one, m)) for one in network])
        error = (fit - network).flatten(1).norm(dim=1) / scale
        ends = fit[:, -1] - fit[:, -1].mean(1, keepdim=True)
        alike = torch.cosine_similarity(ends.flatten(1), final.flatten(1))
        columns = {"error": error.numpy(), "alike": alike.numpy()}
        scores.append(pd.DataFrame({"seed": trained.seed, "model": m, **columns}))
    return Prediction(trained.times[begin:], network, fits, pd.concat(scores, ignore_index=True))


def grouped_margins(trained: Trained, window: int) -> pd.DataFrame:
    """Own mean logit less that of the other classes, of training images grouped by their class or their given label.

    Means are taken within windows of steps. Columns seed, step (the middle of a window), margin, by.
    """
    frames = []
    for by, labels in (("true class", trained.true), ("given label", trained.given)):
        own, rest = own_and_others(lenet.grouped(trained.seen, labels, trained.seen.shape[2], window).double())
        middle = (torch.arange(own.shape[1]) + 0.5) * window
        frames.append(tidy((own - rest).numpy(), "margin", seed=trained.seed, step=middle.numpy()).assign(by=by))
    return pd.concat(frames, ignore_index=True)


def training_impacts(trained: Trained, window: int) -> pd.DataFrame:
    """A and B of the I-model at the end, from training images within windows of steps. Columns seed, A, B."""
    means = lenet.grouped(trained.seen, trained.true, trained.seen.shape[2], window).double()
    a, b = theory.estimate(means, "I")
    return pd.DataFrame({"seed": trained.seed, "A": a[:, -1].numpy(), "B": b[:, -1].numpy()})


def own_and_others(table: Float[Tensor, "s t K K"]) -> tuple[Float[Tensor, "s t"], Float[Tensor, "s t"]]:
    """Mean of the diagonal of each table, and of what is off it."""
    k = table.shape[-1]
    own = table.diagonal(dim1=2, dim2=3).mean(2)
    return own, (table.sum((2, 3)) - own * k) / (k * (k - 1))


def single_steps(trained: Trained, data: datasets.Dataset, observed: Int[Tensor, " m"], lr: float) -> pd.DataFrame:
    """Local elasticity measured directly in the networks that were kept.

    observed: test images on which single steps are made, as row numbers.
    Columns seed, step, within and between: moves of images of the same and of another class (`direct_elasticity`).
    """
    x, y = data.x_test[observed], data.y_test[observed]
    tables = [lenet.direct_elasticity(net, x, y, lr) for net in trained.kept.values()]
    within, between = own_and_others(torch.stack(tables, 1).double())
    frame = tidy(within.numpy(), "within", seed=trained.seed, step=list(trained.kept))
    return frame.assign(between=between.flatten().numpy())


# --- neural collapse in a network -------------------------------------------------------------------------------------

CONDITIONS = ("weight decay", "no decay", "label noise", "imbalance")


def collapse_images(
    condition: str, whole: datasets.Dataset | None, classes: int, samples: int, seed: int
) -> tuple[Float[Tensor, "n c h w"], Int[Tensor, " n"]]:
    """Training images, halved to 16 x 16, and labels of one condition, `samples` a class.

    "label noise": a fifth of the labels is redrawn. "imbalance": all classes but the first have a tenth of the images.
    """
    data = images(whole, classes, samples, 10, seed)
    x, y = F.avg_pool2d(data.x_train, 2), data.y_train
    if condition == "label noise":
        y = redraw_labels(y, 0.2, classes, torch.Generator().manual_seed(seed))
    if condition == "imbalance":
        rare = max(2, samples // 10)
        rows = torch.cat([(y == k).nonzero()[: samples if k == 0 else rare, 0] for k in range(classes)])
        x, y = x[rows], y[rows]
    return x, y


def collapse_curves(
    conditions: Iterable[str],
    seeds: Sequence[int],
    whole: datasets.Dataset | None,
    *,
    classes: int,
    samples: int,
    epochs: int,
    weight_decay: float,
) -> pd.DataFrame:
    """NC1 to NC4 and the fraction of labels fitted while small convolutional networks train, a condition at once.

    Columns condition, images (how many each network learns), seed, epoch, fitted and those of
    `neural_collapse.Collapse`, a row a network and checkpoint.
    """
    frames = []
    for condition in conditions:
        parts = [collapse_images(condition, whole, classes, samples, s) for s in seeds]
        x, y = (torch.stack(tensors) for tensors in zip(*parts, strict=True))
        decay = 0.0 if condition == "no decay" else weight_decay
        curves = _collapse_curves(x, y, seeds, classes=classes, epochs=epochs, weight_decay=decay)
        curves.insert(0, "condition", condition)
        curves.insert(1, "images", y.shape[1])
        frames.append(curves)
    return pd.concat(frames, ignore_index=True)


def _collapse_curves(
    x: Float[Tensor, "s n c h w"],
    y: Int[Tensor, "s n"],
    seeds: Sequence[int],
    *,
    classes: int,
    epochs: int,
    weight_decay: float,
    width: int = 8,
) -> pd.DataFrame:
    n, parts = y.shape[1], []
    for seed in seeds:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            parts.append((networks.cnn(width, x.shape[2:]), nn.Linear(4 * width, classes)))
    nets = [nn.Sequential(*part) for part in parts]
    batch = min(n, max(10, n // 5))
    total = epochs * (n // batch)
    rows: list[dict[str, float]] = []

    @torch.no_grad()
    def measure(step: int) -> None:
        for seed, (encoder, last), images, labels in zip(seeds, parts, x, y, strict=True):
            features = encoder.eval()(images)
            fitted = (last(features).argmax(1) == labels).double().mean().item()
            found = neural_collapse.collapse(features, labels, last.weight, last.bias)
            rows.append({"seed": seed, "epoch": epochs * step / total, "fitted": fitted, **found._asdict()})

    training.train(
        nets,
        lambda index: (x[training.own_rows(index, x)], y[training.own_rows(index, y)]),
        n,
        total,
        [torch.Generator().manual_seed(seed) for seed in seeds],
        batch=batch,
        optimiser="sgd",
        lr=0.05,
        weight_decay=weight_decay,
        checkpoints=range(0, total, max(1, total // 12)),
        observe=measure,
    )
    return pd.DataFrame(rows)


def collapse_ends(curves: pd.DataFrame) -> pd.DataFrame:
    """The last checkpoint of each network, with columns fall_nc1 and so on: log10 of the first value over the last."""
    groups = curves.groupby(["condition", "seed"], sort=False)
    first, end = groups.first(), groups.last()
    for name in neural_collapse.Collapse._fields:
        end[f"fall_{name}"] = np.log10(first[name].clip(1e-12) / end[name].clip(1e-12))
    return end.reset_index()
