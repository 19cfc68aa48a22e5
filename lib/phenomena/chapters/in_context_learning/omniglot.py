"""Omniglot: handwritten characters, 20 drawings of each (Lake et al. 2015), as items with few features.

Files lie as torchvision and their authors lay them, in the folder of data (`phenomena.own_data.cache`):

    omniglot-py/images_background/ALPHABET/characterNN/*.png

A class is a character in one of eight orientations, turned by a multiple of 90 degrees and mirrored or not. Images are
reduced to `SIDE` pixels and to their leading principal components, each scaled to the same variance, so that items have
the covariance I / d, as those of `sequences.table`. Nothing is downloaded.
Letters: c characters, o = 8 orientations, k drawings of a character, d features, p = SIDE² pixels.
"""

from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from phenomena import own_data
from phenomena.own_data import DataError

SIDE = 28
ORIENTATIONS = 8
ADVICE = "put Omniglot's images_background there as its authors packed it, ALPHABET/characterNN/*.png"


def folder() -> Path:
    """Where the alphabets are looked for."""
    return own_data.cache() / "omniglot-py" / "images_background"


def drawings(place: Path, exemplars: int) -> Float[Tensor, "c k side side"]:
    """The first so many drawings of every character below the folder, strokes 1 and paper 0, in order of their paths.

    Raises `DataError`, in one line, for a folder without characters, for a character with too few drawings, and for a
    file that is no image.
    """
    characters = sorted(path for path in place.glob("*/character*") if path.is_dir())
    if not characters:
        raise DataError(f"Omniglot: no ALPHABET/characterNN in {place}; {ADVICE}")
    found = []
    for character in characters:
        files = sorted(character.glob("*.png"))[:exemplars]
        if len(files) < exemplars:
            raise DataError(f"Omniglot: {len(files)} drawings in {character}: must be {exemplars} or more; {ADVICE}")
        found.append(torch.stack([_drawing(file) for file in files]))
    return torch.stack(found)


def _drawing(file: Path) -> Float[Tensor, "side side"]:
    try:
        with Image.open(file, formats=["PNG"]) as image:
            grey = image.convert("L").resize((SIDE, SIDE), Image.Resampling.BOX)
    except (OSError, ValueError, SyntaxError) as error:
        raise DataError(f"Omniglot: {file} is no PNG image ({error}); {ADVICE}") from error
    return 1 - torch.from_numpy(np.asarray(grey, np.float32)) / 255


def orientations(side: int) -> Tensor:
    """Which pixel of an image stands at each place of its eight orientations, (8, side²); the first is as it is.

    >>> orientations(2).tolist()[:2]
    [[0, 1, 2, 3], [1, 3, 0, 2]]
    """
    pixels = torch.arange(side**2).view(side, side)
    return torch.stack([p.rot90(turn).flatten() for p in (pixels, pixels.T) for turn in range(4)])


@lru_cache(maxsize=2)
def features(place: Path, exemplars: int, count: int) -> Float[Tensor, "c o k d"]:
    """Drawings in all orientations by their `count` leading principal components, with the covariance I / d.

    The components are those of all drawings in all orientations. Raises `DataError` where drawings vary in fewer.
    """
    images = drawings(place, exemplars).flatten(2)
    flat, orders = images.flatten(0, 1).double(), orientations(SIDE)
    mean = flat.mean(0)[orders].mean(0)
    second = flat.T @ flat / len(flat)
    covariance = torch.stack([second[order][:, order] for order in orders]).mean(0) - torch.outer(mean, mean)
    variances, directions = torch.linalg.eigh(covariance)
    if count > len(variances) or variances[-count] < 1e-9 * variances[-1]:
        raise DataError(f"Omniglot: drawings in {place} vary in fewer than {count} directions; {ADVICE}")
    project = directions[:, -count:] / (count * variances[-count:]).sqrt()
    found = torch.stack([(images[..., order].double() - mean) @ project for order in orders], 1)
    return found.float()


def items(
    classes: int, exemplars: int, count: int, spread: float, generator: torch.Generator
) -> Float[Tensor, "c2 k d"]:
    """Items of `classes` trained classes, then of as many novel ones; no character serves both.

        x = m_c + spread (x_i - m_c),    m_c the mean of the class: 1 leaves the drawings as they are, 0 only their mean

    The generator draws the characters and the order of the classes, which decides their labels.
    Raises `DataError` where the files are missing or have too few characters.
    """
    place = folder()
    drawn = features(place, exemplars, count)
    needed = -(-classes // ORIENTATIONS)
    if 2 * needed > len(drawn):
        raise DataError(
            f"Omniglot: {len(drawn)} characters in {place}: must be {2 * needed} or more for {classes} trained classes "
            f"and as many novel ones, {ORIENTATIONS} of a character"
        )
    order = torch.randperm(len(drawn), generator=generator)
    parts = []
    for characters in (order[:needed], order[needed : 2 * needed]):
        every = drawn[characters].flatten(0, 1)
        parts.append(every[torch.randperm(len(every), generator=generator)[:classes]])
    found = torch.cat(parts)
    middle = found.mean(1, keepdim=True)
    return middle + spread * (found - middle)


def own_spread(exemplars: int, count: int) -> float:
    """The spread ε of Gaussian classes that vary within as much as the drawings do, relative to their means.

    The root of the mean square distance of an item from the mean of its class, over that of class means from 0, with
    the means' own errors taken off. Raises `DataError` as `features` does.
    """
    drawn = features(folder(), exemplars, count).flatten(0, 1)
    within = drawn.var(1).sum(1).mean()
    between = drawn.mean(1).square().sum(1).mean() - within / exemplars
    return float((within / between.clamp_min(1e-12)).sqrt())
