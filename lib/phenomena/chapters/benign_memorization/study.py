"""Benign memorization (Anagnostidis, Bachmann, Noci and Hofmann 2023): what training on random labels leaves behind.

Letters: n samples, B distinct augmentations a sample, b rows of a batch.
"""

from collections.abc import Sequence

import pandas as pd
import torch
from torch import Tensor, nn

from phenomena.chapters.benign_memorization import augment
from phenomena.science import datasets, metrics, networks, probes, training

LARGEST = 2**27  # entries of a layer's features that the linear probe and pairs of views take; more rows are left out


def views(x: Tensor, names: Sequence[str], strength: float, copies: int, generator: torch.Generator) -> Tensor:
    """Every sample's B augmentations: float (n, B, ...), drawn once.

    Row i holds what training with B = `copies` distinct augmentations a sample ever sees of sample i.
    Without names it is x itself, B times.
    """
    n, shape = len(x), x.shape[1:]
    repeated = x.repeat_interleave(copies, 0)
    if names:
        u = torch.rand(n * copies, augment.numbers(names, shape), generator=generator).to(x.device)
        repeated = augment.augment(repeated, u, names, strength)
    return repeated.view(n, copies, *shape)


def draw_fresh(
    x: Tensor, labels: Tensor, names: Sequence[str], strength: float, generator: torch.Generator
) -> training.Draw:
    """Batches with a new augmentation at every visit: unlimited diversity. labels: int64 (n,)."""
    q = augment.numbers(names, x.shape[1:])

    def draw(index: Tensor) -> tuple[Tensor, Tensor]:
        index = index.to(x.device)
        u = torch.rand(len(index), q, generator=generator).to(x.device)
        return augment.augment(x[index], u, names, strength), labels[index]

    return draw


def draw_fixed(x: Tensor, labels: Tensor, generator: torch.Generator) -> training.Draw:
    """Batches that show one of a sample's B versions at random.

    x: float (n, B, ...). labels: int64 (n, B); equal along B where the versions share their sample's label, drawn
    apart where each has its own (capacity argument: n B independent labels, the effective sample size).
    """

    def draw(index: Tensor) -> tuple[Tensor, Tensor]:
        copy = torch.randint(x.shape[1], (len(index),), generator=generator)
        return x[index.to(x.device), copy.to(x.device)], labels[index.to(x.device), copy.to(x.device)]

    return draw


def mix_inputs(draw: training.Draw, share: float, generator: torch.Generator) -> training.Draw:
    """A share of the batches with inputs mixed, lambda x_i + (1 - lambda) x_j with lambda uniform, and label y_i alone.

    The Mixup flag of the official code (share 0.8, one lambda a batch, j from a random permutation of the batch).
    """

    def mixed(index: Tensor) -> tuple[Tensor, Tensor]:
        inputs, labels = draw(index)
        weight, chance = torch.rand(2, generator=generator).tolist()
        if chance < share:
            partners = inputs[torch.randperm(len(inputs), generator=generator).to(inputs.device)]
            inputs = torch.lerp(partners, inputs, weight)
        return inputs, labels

    return mixed


def same_class_groups(data: datasets.Dataset, groups: int, size: int, generator: torch.Generator) -> Tensor:
    """Row numbers of `groups` disjoint groups of `size` training samples of one class each: int64 (groups, size).

    The perfect augmentation: other real samples of the class stand in for augmentations of the first.
    Classes take turns, so their numbers of groups differ by one at most. Raises `ValueError` when a class has too few.
    """
    rows = []
    for c in range(data.classes):
        wanted = len(range(c, groups, data.classes))
        members = (data.y_train.cpu() == c).nonzero().squeeze(1)
        if wanted * size > len(members):
            raise ValueError(f"class {c} has {len(members)} training samples: too few for {wanted} groups of {size}")
        chosen = members[torch.randperm(len(members), generator=generator)[: wanted * size]]
        rows.append(chosen.view(wanted, size))
    return torch.cat(rows)


def largest_group(data: datasets.Dataset, groups: int) -> int:
    """The largest size that `same_class_groups` can give that many groups."""
    rarest = int(torch.bincount(data.y_train, minlength=data.classes).min())
    return rarest // -(-groups // data.classes)


def look(network: nn.Sequential, data: datasets.Dataset, k: int) -> tuple[float, float]:
    """Accuracy on the test rows of k-NN on the encoder's output, and of the network's own answers.

    Reference of the k-NN are the training rows with their true labels.
    """
    train = networks.layers(network, data.x_train)["pool"]
    test = networks.layers(network, data.x_test)
    knn = probes.knn_predict(train, data.y_train, test["pool"], k)
    return metrics.accuracy(knn, data.y_test), metrics.accuracy(test["logits"].argmax(1), data.y_test)


def looks(steps: int) -> list[int]:
    """Steps at which a training run is looked at: ten spread evenly, and before the first of them 0, 1, 2, 4, ...

    A single version of a sample is fitted within the first of the even ones.
    """
    every = max(1, steps // 10)
    early = {0} | {2**i for i in range(every.bit_length()) if 2**i < every}
    return sorted(early | set(range(every, steps + 1, every)) | {steps})


def measure(network: nn.Sequential, data: datasets.Dataset, labels: Tensor, pair: Tensor, k: int) -> pd.DataFrame:
    """Four quantities at the input and at every layer, in evaluation mode.

    labels: int64 (n,), the random labels of the training rows; pair: float (n, 2, ...), two augmented views of each.
    Returns columns layer, quantity, value, with the quantities
    "knn": accuracy of k-NN with true labels, training rows as reference, test rows as queries;
    "linear": the same with a ridge classifier;
    "memorised": leave-one-out k-NN accuracy on the random labels, i.e. how far samples lie beside those that share
    their random label (chance: 1 / classes);
    "distance": `probes.augmentation_distance` between the two views.
    "linear" and "distance" take the first rows only where all of them would have more than `LARGEST` entries, the
    first in that layer, the second in the widest.
    """
    train, test = networks.layers(network, data.x_train), networks.layers(network, data.x_test)
    pairs = max(2, LARGEST // max(features.shape[1] for features in train.values()))
    first, second = (networks.layers(network, pair[:pairs, i]) for i in range(2))
    rows = []
    for layer, features in train.items():
        knn = probes.knn_predict(features, data.y_train, test[layer], k)
        few = max(1, LARGEST // features.shape[1])
        linear = probes.linear_predict(features[:few], data.y_train[:few], test[layer])
        memorised = probes.knn_predict(features, labels, features, k, leave_one_out=True)
        rows += [
            (layer, "knn", metrics.accuracy(knn, data.y_test)),
            (layer, "linear", metrics.accuracy(linear, data.y_test)),
            (layer, "memorised", metrics.accuracy(memorised, labels)),
            (layer, "distance", probes.augmentation_distance(first[layer], second[layer])),
        ]
    return pd.DataFrame(rows, columns=["layer", "quantity", "value"])


def at_accuracy(accuracies: Sequence[float], values: Sequence[float], level: float) -> float:
    """Value where the accuracy first reaches `level`, linear between looks; nan where none brackets the level.

    That is where it is never reached, and where the first look is above it already.
    accuracies, values: (t,), one entry a look in the order of training.
    """
    for i, accuracy in enumerate(accuracies):
        if accuracy >= level:
            if i == 0:
                return float(values[0]) if accuracy == level else float("nan")
            share = (level - accuracies[i - 1]) / (accuracy - accuracies[i - 1])
            return float(values[i - 1] + share * (values[i] - values[i - 1]))
    return float("nan")
