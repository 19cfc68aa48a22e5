"""Label noise, in four forms that papers use. None changes its input. Letters: s seeds, n rows."""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from phenomena.science.checks import check_labels


def redraw_labels(
    labels: Int[Tensor, " n"], fraction: float, classes: int, generator: torch.Generator
) -> Int[Tensor, " n"]:
    """Labels of which a random fraction, round(fraction n) rows, is redrawn uniformly over all classes.

    A redrawn label is correct with probability 1 / classes, as in Anagnostidis et al. (2023).
    Raises `ValueError` for a fraction outside [0, 1] or labels beyond the classes, `TypeError` for other labels.

    >>> import torch
    >>> g = torch.Generator().manual_seed(0)
    >>> noisy = redraw_labels(torch.zeros(1000, dtype=torch.int64), fraction=0.5, classes=10, generator=g)
    >>> 400 < (noisy != 0).sum() < 500  # nine in ten of the 500 are wrong
    tensor(True)
    """
    if not 0 <= fraction <= 1:
        raise ValueError(f"the fraction of random labels is {fraction}: must be 0 to 1")
    check_labels(labels, classes)
    chosen = torch.randperm(len(labels), generator=generator)[: round(fraction * len(labels))]
    drawn = torch.randint(classes, (len(chosen),), generator=generator)
    noisy = labels.clone()
    noisy[chosen.to(labels.device)] = drawn.to(labels.device)
    return noisy


def mix_labels(
    noisy: Int[Tensor, "*rows"], clean: Int[Tensor, "*rows"], fraction: float, generator: torch.Generator
) -> Int[Tensor, "*rows"]:
    """Labels of which a random fraction is taken from `noisy` and the rest from `clean`.

    With fraction 1 the result is `noisy` itself, and nothing is drawn from the generator.
    Raises `ValueError` for a fraction outside [0, 1] or labels of different shape or type.

    >>> import torch
    >>> g = torch.Generator().manual_seed(0)
    >>> clean, noisy = torch.zeros(10, dtype=torch.int64), torch.ones(10, dtype=torch.int64)
    >>> mix_labels(noisy, clean, fraction=0.3, generator=g).sum().item()
    3
    """
    if not 0 <= fraction <= 1:
        raise ValueError(f"the fraction of noisy labels is {fraction}: must be 0 to 1")
    if (noisy.shape, noisy.dtype) != (clean.shape, clean.dtype):
        raise ValueError(
            f"noisy {tuple(noisy.shape)} in {noisy.dtype}, clean {tuple(clean.shape)} in {clean.dtype}: must be alike"
        )
    if fraction == 1:
        return noisy
    kept = torch.randperm(noisy.numel(), generator=generator)[round(fraction * noisy.numel()) :].to(noisy.device)
    labels = noisy.flatten().clone()
    labels[kept] = clean.flatten()[kept]
    return labels.view_as(noisy)


def corrupt_evenly(
    labels: Int[Tensor, " n"], fraction: float, classes: int, generator: torch.Generator
) -> Int[Tensor, " n"]:
    """Labels of which floor(fraction n_k) in each class k are wrong, spread evenly over the other classes.

    As in Zhang, Wang and Su (2021). Raises `ValueError` for a fraction outside [0, 1), fewer than two classes or labels
    beyond them, `TypeError` for other labels.

    >>> import torch
    >>> g = torch.Generator().manual_seed(0)
    >>> labels = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1])
    >>> (corrupt_evenly(labels, fraction=0.5, classes=3, generator=g) != labels).sum().item()
    4
    """
    if not 0 <= fraction < 1:
        raise ValueError(f"the fraction of wrong labels is {fraction}: must be 0 or more and below 1")
    if classes < 2:
        raise ValueError(f"{classes} classes: must be 2 or more")
    check_labels(labels, classes)
    noisy = labels.clone()
    for k in range(classes):
        rows = (labels == k).nonzero().squeeze(1)
        rows = rows[torch.randperm(len(rows), generator=generator)[: math.floor(fraction * len(rows) + 1e-9)]]
        noisy[rows] = (k + 1 + torch.arange(len(rows)) % (classes - 1)) % classes
    return noisy


def flipped_signs(
    seeds: int, rows: int, probability: float, generator: torch.Generator, dtype: torch.dtype = torch.float32
) -> Float[Tensor, "{seeds} {rows}"]:
    """Signs for clean labels that are all +1: each is -1 with this probability (Kornowski et al. 2023, section 2).

    Raises `ValueError` for a probability outside [0, 0.5] or a count below 1.

    >>> import torch
    >>> g = torch.Generator().manual_seed(0)
    >>> flipped_signs(seeds=2, rows=3, probability=0.0, generator=g).tolist()
    [[1.0, 1.0, 1.0], [1.0, 1.0, 1.0]]
    """
    if not 0 <= probability <= 0.5:
        raise ValueError(
            f"the flip probability is {probability}: must be 0 to 0.5 (above, -1 would be the clean label)"
        )
    if seeds < 1 or rows < 1:
        raise ValueError(f"{seeds} seeds and {rows} rows: must be 1 or more")
    flipped = torch.rand(seeds, rows, generator=generator, device=generator.device) < probability
    return 1 - 2 * flipped.to(dtype)
