"""What the network is shown: noisy labels, augmented versions of a sample, and batches of them.

Letters: n samples, B (in signatures v) versions of a sample.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from phenomena.chapters.benign_memorization import augment
from phenomena.science import datasets
from phenomena.science.label_noise import redraw_labels
from phenomena.science.training import Loader, own_rows


class Problem(NamedTuple):
    """Training and test rows, the labels to fit, and the generator for all later randomness of the seed."""

    data: datasets.Dataset
    labels: Int[Tensor, " n"]
    generator: torch.Generator


def draw_problem(source: datasets.Dataset, samples: int, test_samples: int, label_noise: float, seed: int) -> Problem:
    """A random subset of a data set, with a fraction of its training labels redrawn uniformly over the classes.

    There are never more test rows than the source has. Raises `ValueError` for more training rows than that.
    """
    generator = torch.Generator().manual_seed(seed)
    data = datasets.subset(source, samples, min(test_samples, len(source.x_test)), generator)
    return Problem(data, redraw_labels(data.y_train, label_noise, data.classes, generator), generator)


def augmented(
    x: Float[Tensor, "n ..."], names: Sequence[str], strength: float, copies: int, generator: torch.Generator
) -> Float[Tensor, "n {copies} ..."]:
    """B = `copies` augmented versions of every sample, drawn once. Without names each is the sample itself."""
    n, shape = len(x), x.shape[1:]
    repeated = x.repeat_interleave(copies, 0)
    if names:
        u = torch.rand(n * copies, augment.numbers(names, shape), generator=generator).to(x.device)
        repeated = augment.augment(repeated, u, names, strength)
    return repeated.view(n, copies, *shape)


def fresh_loader(
    x: Float[Tensor, "s n ..."],
    labels: Int[Tensor, "s n"],
    names: Sequence[str],
    strength: float,
    generators: Sequence[torch.Generator],
) -> Loader:
    """Batches that augment a sample anew at every visit: unlimited diversity. One generator for each network."""
    q = augment.numbers(names, x.shape[2:])

    def load(index: Tensor) -> tuple[Tensor, Tensor]:
        at = own_rows(index, x)
        u = torch.stack([torch.rand(index.shape[1], q, generator=g) for g in generators]).to(x.device)
        seen = augment.augment(x[at].flatten(0, 1), u.flatten(0, 1), names, strength)
        return seen.unflatten(0, index.shape), labels[at]

    return load


def fixed_loader(
    versions: Float[Tensor, "s n v ..."], labels: Int[Tensor, "s n v"], generators: Sequence[torch.Generator]
) -> Loader:
    """Batches that show one of a sample's B versions at random. One generator for each network.

    labels: equal along B where versions share the label of their sample, drawn one by one where each has its own
    (n B independent labels, the effective sample size).
    """

    def load(index: Tensor) -> tuple[Tensor, Tensor]:
        copies, many = versions.shape[2], index.shape[1:]
        copy = torch.stack([torch.randint(copies, many, generator=g) for g in generators])
        at = (*own_rows(index, versions), copy.to(versions.device))
        return versions[at], labels[at]

    return load


def mix_inputs(loader: Loader, fraction: float, generators: Sequence[torch.Generator]) -> Loader:
    """Mixes inputs, but not labels, in a random fraction of the batches: lambda x_i + (1 - lambda) x_j keeps label y_i.

    This is the Mixup flag of the official code, with fraction 0.8: lambda is uniform, one for a batch, and j comes
    from a random permutation of the batch. One generator for each network.
    """

    def load(index: Tensor) -> tuple[Tensor, Tensor]:
        inputs, labels = loader(index)
        mixed = []
        for x, generator in zip(inputs, generators, strict=True):
            weight, chance = torch.rand(2, generator=generator).tolist()
            if chance < fraction:
                x = torch.lerp(x[torch.randperm(len(x), generator=generator).to(x.device)], x, weight)
            mixed.append(x)
        return torch.stack(mixed), labels

    return load


def same_class_groups(
    data: datasets.Dataset, groups: int, size: int, generator: torch.Generator
) -> Int[Tensor, "{groups} {size}"]:
    """Row numbers of disjoint groups of training samples, each group of one class.

    This is perfect augmentation: other real samples of the class stand in for augmentations of the first.
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
    """The largest size with which `same_class_groups` can make that many groups."""
    rarest = int(torch.bincount(data.y_train, minlength=data.classes).min())
    return rarest // -(-groups // data.classes)
