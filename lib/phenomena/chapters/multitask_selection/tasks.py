"""Tasks as users bring them: checked, with errors that name task and column, and standardised."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Shaped

KINDS = ("regression", "classification")


def check_tasks(
    xs: Sequence[Any], ys: Sequence[Any], kinds: str | Sequence[str]
) -> tuple[list[Float[np.ndarray, "_ p"]], list[Shaped[np.ndarray, " _"]], Bool[np.ndarray, " t"]]:
    """Features as float arrays, targets as arrays, and which tasks are classification.

    xs: rows and features of each task, arrays or data frames with the same columns.
    ys: the target of each task.
    kinds: `regression` or `classification`, one word for all tasks or one for each.
    Raises `ValueError` for unequal numbers of features or rows, differing columns, values that are not finite, a
    constant feature or target, labels that are not of two classes.
    """
    if len(xs) != len(ys) or not len(xs):
        raise ValueError(f"{len(xs)} feature arrays and {len(ys)} targets: there must be one of each for every task")
    words = [kinds] * len(xs) if isinstance(kinds, str) else list(kinds)
    if len(words) != len(xs) or not set(words) <= set(KINDS):
        raise ValueError(
            f"kinds {kinds!r} must be {' or '.join(KINDS)}, one for all or one for each of {len(xs)} tasks"
        )
    names = [list(getattr(x, "columns", [])) for x in xs]
    found = [_check_task(i, x, y, word) for i, (x, y, word) in enumerate(zip(xs, ys, words, strict=True))]
    for i, (x, _) in enumerate(found):
        if x.shape[1] != found[0][0].shape[1]:
            raise ValueError(
                f"task {i} has {x.shape[1]} features, task 0 has {found[0][0].shape[1]}: the numbers must be equal"
            )
        if names[i] and names[0] and names[i] != names[0]:
            raise ValueError(f"task {i} has the columns {names[i]}, task 0 has {names[0]}: they must be the same")
    return [x for x, _ in found], [y for _, y in found], np.array([word == "classification" for word in words])


def _check_task(i: int, x: Any, y: Any, kind: str) -> tuple[Float[np.ndarray, "_ p"], Shaped[np.ndarray, " _"]]:
    columns = list(getattr(x, "columns", []))
    x, y = np.asarray(x, float), np.asarray(y)
    if x.ndim != 2 or y.ndim != 1 or len(x) != len(y):
        raise ValueError(f"task {i}: features {x.shape} and target {y.shape} must be (rows, features) and (rows,)")
    if len(x) < 2 or not x.shape[1]:
        raise ValueError(f"task {i}: n_samples = {len(x)}, n_features = {x.shape[1]}: at least two rows, one feature")
    for j in np.flatnonzero(~np.isfinite(x).all(0)):
        row = np.flatnonzero(~np.isfinite(x[:, j]))[0]
        raise ValueError(f"task {i}, column {_name(columns, j)}: {x[row, j]} in row {row}: values must be finite")
    check_varying(x, f"task {i}", columns)
    if kind == "classification":
        labels = np.unique(y)
        if len(labels) != 2 or (y.dtype.kind == "f" and not np.isfinite(y).all()):
            listed = ", ".join(map(str, labels[:5])) + (", ..." if len(labels) > 5 else "")
            raise ValueError(f"task {i}, classification: labels {listed}: there must be exactly two classes")
        return x, y
    y = y.astype(float)
    if not np.isfinite(y).all():
        row = np.flatnonzero(~np.isfinite(y))[0]
        raise ValueError(f"task {i}, target: {y[row]} in row {row}: values must be finite")
    if np.ptp(y) == 0:
        raise ValueError(f"task {i}, target: constant ({y[0]:g}): a regression target must vary")
    return x, y


def check_varying(x: Float[np.ndarray, "n p"], place: str, columns: Sequence[Any] = ()) -> None:
    """Raises `ValueError` for a constant column; a standard deviation of rounding error alone counts as constant."""
    for j in np.flatnonzero(x.std(0) <= 1e-12 * np.abs(x).max(0)):
        raise ValueError(f"{place}, column {_name(columns, j)}: constant ({x[0, j]:g}): leave it out")


def _name(columns: Sequence[Any], j: Any) -> str:
    return f"{j} ({columns[j]})" if len(columns) else str(j)


@dataclass(frozen=True)
class Scaler:
    """Means and standard deviations of the training rows of each task."""

    x_mean: Float[np.ndarray, "t p"]
    x_scale: Float[np.ndarray, "t p"]
    y_mean: Float[np.ndarray, " t"]
    y_scale: Float[np.ndarray, " t"]

    def x(self, xs: Sequence[Float[np.ndarray, "_ p"]]) -> list[Float[np.ndarray, "_ p"]]:
        """Features in the units of the training rows."""
        return [(x - m) / s for x, m, s in zip(xs, self.x_mean, self.x_scale, strict=True)]

    def y(self, ys: Sequence[Float[np.ndarray, " _"]]) -> list[Float[np.ndarray, " _"]]:
        """Targets in the units of the training rows; labels stay -1 and 1."""
        return [(y - m) / s for y, m, s in zip(ys, self.y_mean, self.y_scale, strict=True)]


def fit_scaler(
    xs: Sequence[Float[np.ndarray, "_ p"]],
    ys: Sequence[Float[np.ndarray, " _"]],
    classes: Bool[np.ndarray, " t"],
    features: bool = True,
    targets: bool = True,
) -> Scaler:
    """Means and standard deviations (divided by n, not n - 1); 0 and 1 where nothing is to be standardised."""
    zero, one = np.zeros((len(xs), xs[0].shape[1])), np.ones((len(xs), xs[0].shape[1]))
    x_mean, x_scale = (np.stack([x.mean(0) for x in xs]), np.stack([x.std(0) for x in xs])) if features else (zero, one)
    move = ~classes & targets
    y_mean = np.array([y.mean() if m else 0.0 for y, m in zip(ys, move, strict=True)])
    y_scale = np.array([y.std() if m else 1.0 for y, m in zip(ys, move, strict=True)])
    return Scaler(x_mean, x_scale, y_mean, y_scale)
