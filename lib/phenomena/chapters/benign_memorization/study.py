"""Experiments on benign memorization (Anagnostidis, Bachmann, Noci and Hofmann 2023).

Each trains networks from one seed and returns what probes read from them as a tidy frame.
Letters: n samples, B (in signatures v) versions of a sample.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from phenomena.chapters.benign_memorization import probes, views
from phenomena.science import datasets, metrics, networks, training
from phenomena.science.label_noise import mix_labels

ARMS = ("untrained", "no augmentation", "augmentation", "true labels")
# points in which the official code differs from the paper, as arguments of `train_on_versions`
VARIANTS: dict[str, dict[str, Any]] = {
    "MSE": {"loss": "mse"},
    "weight decay": {"weight_decay": 0.1},
    "input Mixup": {"mixed_batches": 0.8},
}
FRESH = 0  # a number of versions: a new augmentation at every visit
PROBED_ENTRIES = 2**27  # of a layer's features, for the linear probe and pairs of views; further rows are left out
PROBED_VERSIONS = 1000  # on which training accuracy is measured during training
KEPT_ROWS = 200  # whose features an arm returns


@dataclass(frozen=True)
class Setting:
    """What the experiments share.

    source: the data set from which every seed draws its rows.
    label_noise: fraction of training labels drawn uniformly at random.
    augmentation, strength: names of transforms, and how strong they are, as in `augment`.
    epochs: passes over the training rows.
    k: neighbours of the k-NN probe.
    architecture: kind, width, depth and hidden, as in `networks.encoder_projector`.
    optimisation: batch, optimiser, lr, weight_decay, loss and cosine, as in `training.train`.
    """

    source: datasets.Dataset
    samples: int
    test_samples: int
    label_noise: float
    augmentation: Sequence[str]
    strength: float
    epochs: int
    k: int
    architecture: Mapping[str, Any]
    optimisation: Mapping[str, Any]

    def problems(self, seeds: Sequence[int], label_noise: float | None = None) -> list[views.Problem]:
        """The rows and labels of every seed, with the setting's label noise unless another is given."""
        noise = self.label_noise if label_noise is None else label_noise
        return [views.draw_problem(self.source, self.samples, self.test_samples, noise, seed) for seed in seeds]

    def steps(self, rows: int) -> int:
        """Training steps for that many rows, however many versions each has."""
        return int(self.epochs * max(1, rows // self.optimisation["batch"]))

    def new_network(self, seed: int) -> nn.Sequential:
        """The untrained network of a seed."""
        x = self.source.x_train
        architecture = {"shape": x.shape[1:], "classes": self.source.classes, **self.architecture}
        return networks.encoder_projector(**architecture, seed=seed).to(x.device)


def check_data(source: datasets.Dataset, *, samples: int, side_samples: int, k: int) -> None:
    """Raises `ValueError` where a data set cannot give what the parameters ask for, before anything is trained."""
    there, side = len(source.y_train), min(side_samples, samples)
    if samples > there:
        raise ValueError(f"samples is {samples}: dataset has {there} training rows, it must be as many or fewer")
    if k >= samples:
        raise ValueError(f"k is {k}: must be below samples, {samples}")
    if not views.largest_group(source, side):
        counts = torch.bincount(source.y_train, minlength=source.classes)
        needed, rare = -(-side // source.classes), int(counts.argmin())
        raise ValueError(
            f"side_samples takes {needed} rows of each class: class {rare} of dataset has {counts[rare]}, lower it"
        )


class Arm(NamedTuple):
    """What an arm of the main study gives.

    probed: `measure` of every seed's network, with further columns fitted (accuracy on the training labels, the same
        for every layer), seed, arm.
    features: layer -> its activations on the first training rows of the first seed, at most `KEPT_ROWS`.
    """

    probed: pd.DataFrame
    features: dict[str, Float[Tensor, "m _"]]


def train_arm(setting: Setting, seeds: Sequence[int], arm: str, copies: int = FRESH) -> Arm:
    """Trains and probes one arm of the main study.

    arm: one of `ARMS`; all but "true labels" have the noisy labels.
    copies: fixed augmentations of a sample, or `FRESH`.
    """
    problems = setting.problems(seeds)
    labels = [problem.data.y_train if arm == "true labels" else problem.labels for problem in problems]
    trained = [setting.new_network(seed) for seed in seeds]
    if arm != "untrained":
        names = [] if arm == "no augmentation" else setting.augmentation
        x, generators = [problem.data.x_train for problem in problems], [problem.generator for problem in problems]
        if copies == FRESH or not names:
            loader = views.fresh_loader(torch.stack(x), torch.stack(labels), names, setting.strength, generators)
        else:
            drawn = [views.augmented(x[i], names, setting.strength, copies, g) for i, g in enumerate(generators)]
            shared = torch.stack(labels)[..., None].expand(-1, -1, copies)
            loader = views.fixed_loader(torch.stack(drawn), shared, generators)
        steps = setting.steps(len(x[0]))
        training.train(trained, loader, len(x[0]), steps, generators, **setting.optimisation)
    answers = training.predict(trained, torch.stack([problem.data.x_train for problem in problems]))
    frames = []
    for seed, network, problem, given, answer in zip(seeds, trained, problems, labels, answers, strict=True):
        data, strength = problem.data, setting.strength
        pair = views.augmented(data.x_train, setting.augmentation, strength, 2, problem.generator)
        fitted = metrics.accuracy(answer, given)
        frames.append(measure(network, data, given, pair, setting.k).assign(fitted=fitted, seed=seed, arm=arm))
    return Arm(pd.concat(frames), networks.layers(trained[0], problems[0].data.x_train[:KEPT_ROWS]))


def train_on_versions(
    setting: Setting,
    seeds: Sequence[int],
    rows: int,
    copies: int,
    *,
    label_noise: float | None = None,
    independent: bool = False,
    mixed_batches: float = 0.0,
    checkpoints: Sequence[int] | None = None,
    **optimisation: Any,
) -> pd.DataFrame:
    """Trains on B versions of each of the first rows, or on fresh ones.

    rows: how many training rows are taken.
    copies: B, or `FRESH`.
    label_noise: in place of the setting's.
    independent: whether each version has a label of its own, instead of all sharing that of their sample.
    mixed_batches: fraction of batches whose inputs, but not labels, are mixed (`views.mix_inputs`).
    checkpoints: steps at which the networks are probed; the last one by default.
    optimisation: changes of the setting's.
    Returns one row for each seed and checkpoint, as `_train_and_probe`, with further columns copies, independent,
    label_noise.
    """
    noise = setting.label_noise if label_noise is None else label_noise
    problems = setting.problems(seeds, noise)
    generators = [problem.generator for problem in problems]
    versions, targets = [], []
    for data, labels, generator in problems:
        x, names = data.x_train[:rows], setting.augmentation
        versions.append(views.augmented(x, names, setting.strength, max(copies, 1), generator))
        targets.append(labels[:rows, None].expand(versions[-1].shape[:2]))
        if independent:
            drawn = torch.randint(data.classes, targets[-1].shape, generator=generator).to(x.device)
            true = data.y_train[:rows, None].expand(drawn.shape)
            targets[-1] = mix_labels(drawn, true, noise, generator)
    loader = views.fixed_loader(torch.stack(versions), torch.stack(targets), generators)
    if copies == FRESH:
        x = torch.stack([problem.data.x_train[:rows] for problem in problems])
        labels = torch.stack([problem.labels[:rows] for problem in problems])
        loader = views.fresh_loader(x, labels, setting.augmentation, setting.strength, generators)
    if mixed_batches:
        loader = views.mix_inputs(loader, mixed_batches, generators)
    frame = _train_and_probe(setting, seeds, loader, problems, versions, targets, checkpoints, **optimisation)
    return frame.assign(copies=copies, independent=independent, label_noise=noise)


def train_on_groups(setting: Setting, seeds: Sequence[int], groups: int, size: int) -> pd.DataFrame:
    """Perfect augmentation: trains on groups of real samples of one class that share a label.

    The setting's label noise is the fraction of groups with a random label; the others keep that of their class.
    Returns one row for each seed, as `_train_and_probe`.
    """
    problems, source = setting.problems(seeds, 1.0), setting.source
    versions, targets = [], []
    for _, drawn, generator in problems:
        rows = views.same_class_groups(source, groups, size, generator).to(source.x_train.device)
        labels = mix_labels(drawn[:groups], source.y_train[rows[:, 0]], setting.label_noise, generator)
        versions.append(source.x_train[rows])
        targets.append(labels[:, None].expand(rows.shape))
    generators = [problem.generator for problem in problems]
    loader = views.fixed_loader(torch.stack(versions), torch.stack(targets), generators)
    return _train_and_probe(setting, seeds, loader, problems, versions, targets)


def _train_and_probe(
    setting: Setting,
    seeds: Sequence[int],
    loader: training.Loader,
    problems: Sequence[views.Problem],
    versions: Sequence[Float[Tensor, "n v ..."]],
    targets: Sequence[Int[Tensor, "n v"]],
    checkpoints: Sequence[int] | None = None,
    **optimisation: Any,
) -> pd.DataFrame:
    """One row for each seed and checkpoint, by default for the last step alone.

    Columns seed, step, fitted (fraction of the versions that get their label), and knn and test, as
    `knn_and_test_accuracy` returns them.
    """
    rows, every = len(versions[0]), max(1, targets[0].numel() // PROBED_VERSIONS)
    steps = setting.steps(rows)
    at = checkpoints or [steps]
    trained = [setting.new_network(seed) for seed in seeds]
    inputs = torch.stack([part.flatten(0, 1)[::every] for part in versions])
    found = []

    def observe(step: int) -> None:
        if step not in at:
            return
        answers = training.predict(trained, inputs)
        for i, (seed, network) in enumerate(zip(seeds, trained, strict=True)):
            fitted = metrics.accuracy(answers[i], targets[i].flatten()[::every])
            knn, test = knn_and_test_accuracy(network, problems[i].data, setting.k)
            found.append({"seed": seed, "step": step, "fitted": fitted, "knn": knn, "test": test})

    observe(0)
    options = {**setting.optimisation, **optimisation}
    generators = [problem.generator for problem in problems]
    training.train(trained, loader, rows, steps, generators, checkpoints=at, observe=observe, **options)
    return pd.DataFrame(found)


# --- what is measured -------------------------------------------------------------------------------------------------


def measure(
    network: nn.Sequential,
    data: datasets.Dataset,
    labels: Int[Tensor, " n"],
    pair: Float[Tensor, "n 2 ..."],
    k: int,
) -> pd.DataFrame:
    """What the input and every layer know, in evaluation mode.

    labels: those that the training rows were trained on; pair: two augmented views of each training row.
    Returns one row for each layer, with the columns layer and
    knn: test accuracy of k-NN with true labels, with the training rows as reference;
    linear: the same of a ridge classifier;
    memorized: leave-one-out k-NN accuracy on `labels`, that is, how far samples lie beside those that share their label
    (chance: 1 / classes);
    distance: `probes.augmentation_distance` between the two views.
    Where all rows would have more than `PROBED_ENTRIES` entries, linear and distance take the first rows alone: linear
    as many as fit in that layer, distance as many as fit in the widest.
    """
    train, test = networks.layers(network, data.x_train), networks.layers(network, data.x_test)
    pairs = max(2, PROBED_ENTRIES // max(features.shape[1] for features in train.values()))
    first, second = (networks.layers(network, pair[:pairs, i]) for i in range(2))
    rows = []
    for layer, features in train.items():
        fitting = max(1, PROBED_ENTRIES // features.shape[1])
        knn = probes.knn_predict(features, data.y_train, test[layer], k)
        linear = probes.linear_predict(features[:fitting], data.y_train[:fitting], test[layer])
        memorized = probes.knn_predict(features, labels, features, k, leave_one_out=True)
        rows.append(
            {
                "layer": layer,
                "knn": metrics.accuracy(knn, data.y_test),
                "linear": metrics.accuracy(linear, data.y_test),
                "memorized": metrics.accuracy(memorized, labels),
                "distance": probes.augmentation_distance(first[layer], second[layer]),
            }
        )
    return pd.DataFrame(rows)


def knn_and_test_accuracy(network: nn.Sequential, data: datasets.Dataset, k: int) -> tuple[float, float]:
    """Test accuracy of k-NN on the encoder's output, with true labels, and of the network's own answers."""
    train = networks.layers(network, data.x_train)["pool"]
    test = networks.layers(network, data.x_test)
    knn = probes.knn_predict(train, data.y_train, test["pool"], k)
    return metrics.accuracy(knn, data.y_test), metrics.accuracy(test["logits"].argmax(1), data.y_test)


def checkpoint_steps(steps: int) -> list[int]:
    """Steps at which a training run is probed: ten spread evenly, and before the first of them 0, 1, 2, 4, ...

    A single version of a sample is fitted within the first of the even ones.
    """
    every = max(1, steps // 10)
    early = {0} | {2**i for i in range(every.bit_length()) if 2**i < every}
    return sorted(early | set(range(every, steps + 1, every)) | {steps})


def at_the_end(frame: pd.DataFrame) -> pd.DataFrame:
    """The last checkpoint of every run in frames of `train_on_versions`."""
    return frame.groupby(["label_noise", "independent", "copies", "seed"]).last().reset_index()


def at_equal_accuracy(frame: pd.DataFrame, level: float) -> pd.DataFrame:
    """Column knn where the training accuracy of each run first reaches `level`: columns copies, seed, knn."""
    return pd.DataFrame(
        {"copies": b, "seed": s, "knn": value_at_accuracy(list(rows["fitted"]), list(rows["knn"]), level)}
        for (b, s), rows in frame.groupby(["copies", "seed"])
    )


def value_at_accuracy(accuracies: Sequence[float], values: Sequence[float], level: float) -> float:
    """Value where the accuracy first reaches `level`, linear between checkpoints.

    accuracies, values: one entry for each checkpoint, in the order of training.
    Returns nan where the level is never reached, or the first checkpoint is above it already.
    """
    for i, accuracy in enumerate(accuracies):
        if accuracy >= level:
            if i == 0:
                return float(values[0]) if accuracy == level else float("nan")
            fraction = (level - accuracies[i - 1]) / (accuracy - accuracies[i - 1])
            return float(values[i - 1] + fraction * (values[i] - values[i - 1]))
    return float("nan")
