"""What a function says of tensors that do not fit it, in one line, where torch would say it late or compute on."""

from typing import Any

import torch
from torch import Tensor


def check_tensors(**given: tuple[Any, str]) -> None:
    """Raises for what is no tensor, not finite, empty, or of a shape that does not fit.

    given: name -> the argument and its axes. A letter is the same number wherever it stands; "..." are any further
        axes.

    Raises `TypeError` for what is no tensor, `ValueError` otherwise.

    >>> import torch
    >>> check_tensors(x=(torch.zeros(3, 2), "n d"), labels=(torch.zeros(4), "n"))
    Traceback (most recent call last):
    ValueError: labels has shape (4,): must be (n,) with n = 3 as in x
    """
    sizes: dict[str, tuple[int, str]] = {}
    for name, (value, letters) in given.items():
        axes = letters.replace("...", "").split()
        shape = f"({', '.join(letters.split())}{',' if len(letters.split()) == 1 else ''})"
        if not isinstance(value, Tensor):
            raise TypeError(f"{name} is a {type(value).__name__}: must be a tensor {shape}; torch.as_tensor makes one")
        there = tuple(value.shape)
        if len(there) < len(axes) or (len(there) > len(axes) and "..." not in letters):
            raise ValueError(f"{name} has shape {there}: must be {shape}")
        for axis, size in zip(axes, there, strict=False):
            expected, first = sizes.setdefault(axis, (size, name))
            if size != expected:
                raise ValueError(f"{name} has shape {there}: must be {shape} with {axis} = {expected} as in {first}")
        if not value.numel():
            raise ValueError(f"{name} has shape {there}: it is empty")
        if not value.isfinite().all():
            raise ValueError(f"{name} holds nan or infinity: its numbers must be finite")


def check_labels(labels: Any, classes: int, name: str = "labels") -> None:
    """Raises unless these are class numbers from 0 to classes - 1, as int64 and in any shape.

    Raises `TypeError` for what is no tensor of int64, `ValueError` for a number out of range.

    >>> import torch
    >>> check_labels(torch.tensor([0, 3]), classes=3)
    Traceback (most recent call last):
    ValueError: labels from 0 to 3: must be 0 to 2, for 3 classes
    """
    if not isinstance(labels, Tensor) or labels.dtype != torch.int64:
        kind = labels.dtype if isinstance(labels, Tensor) else type(labels).__name__
        raise TypeError(f"{name} of type {kind}: must be a tensor of class numbers in int64")
    if classes < 1:
        raise ValueError(f"{classes} classes: must be 1 or more")
    if labels.numel() and not 0 <= labels.min() <= labels.max() < classes:
        low, high = labels.min().item(), labels.max().item()
        raise ValueError(f"{name} from {low} to {high}: must be 0 to {classes - 1}, for {classes} classes")
