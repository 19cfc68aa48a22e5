"""Tasks as users bring them: checked, with errors that name task and column, and standardised."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Shaped
from scipy.sparse import issparse
from sklearn.utils import check_array

KINDS = ("regression", "classification")
SIZES = 1e-140, 1e140  # of numbers whose squares neither vanish nor overflow


def check_tasks(
    xs: Sequence[Any], ys: Sequence[Any], kinds: Any, names: Sequence[Any] | None = None
) -> tuple[list[Float[np.ndarray, "_ p"]], list[Shaped[np.ndarray, " _"]], Bool[np.ndarray, " t"]]:
    """Features as float arrays, targets as arrays, and which tasks are classification.

    xs: rows and features of each task: arrays, lists, or data frames with the same columns in the same order.
    ys: the target of each task. Rows go by position: an index that they have is ignored, as in scikit-learn.
    kinds: `regression` or `classification`, one word for all tasks or one for each.
    names: of the tasks, if they have some, for errors.
    Raises `ValueError` for unequal numbers of features or rows, columns that differ, values that are missing, not
    finite or beyond 1e140, a constant feature or target, labels that are not of two classes.
    """
    if len(xs) != len(ys) or not len(xs):
        raise ValueError(f"{len(xs)} feature arrays and {len(ys)} targets: there must be one of each for every task")
    words = [kinds] * len(xs) if isinstance(kinds, str) else list(kinds or ())
    if len(words) != len(xs) or not set(words) <= set(KINDS):
        raise ValueError(
            f"kinds {kinds!r} must be {' or '.join(KINDS)}, one for all or one for each of {len(xs)} tasks"
        )
    places = task_places(len(xs), names)
    found = [_check_task(place, x, y, word) for place, x, y, word in zip(places, xs, ys, words, strict=True)]
    expected = columns(xs[0])
    for place, raw, (x, _) in zip(places, xs, found, strict=True):
        if bool(columns(raw)) != bool(expected):
            raise ValueError(f"{place} and {places[0]}: one has named columns, the other has none: all or none must")
        check_columns(raw, expected, place, places[0])
        if x.shape[1] != found[0][0].shape[1]:
            raise ValueError(
                f"{place} has {x.shape[1]} features, {places[0]} has {found[0][0].shape[1]}: the numbers must be equal"
            )
    return [x for x, _ in found], [y for _, y in found], np.array([word == "classification" for word in words])


def task_places(count: int, names: Sequence[Any] | None) -> list[str]:
    """What errors call the tasks: by number, and by name where they have one."""
    return [f"task {i}" + (f" ({names[i]})" if names else "") for i in range(count)]


def columns(x: Any) -> list[Any]:
    """Names of a data frame's columns; none for anything else."""
    return list(getattr(x, "columns", []))


def check_columns(x: Any, expected: Sequence[Any], place: str, other: str) -> None:
    """Raises `ValueError` naming the columns that differ from the expected ones; arrays have none to differ."""
    found = columns(x)
    if not found or not expected or found == list(expected):
        return
    lacks, more = [v for v in expected if v not in found], [v for v in found if v not in expected]
    if lacks or more:
        parts = [f"{word} {_few(names)}" for word, names in (("lacks", lacks), ("also has", more)) if names]
        raise ValueError(f"{place} {' and '.join(parts)}: its columns must be those of {other}")
    j = next(j for j, (a, b) in enumerate(zip(found, expected, strict=False)) if a != b)
    raise ValueError(
        f"{place} has the columns of {other} in another order: column {j} is {found[j]!r}, expected {expected[j]!r}"
    )


def _few(names: Sequence[Any]) -> str:
    return ", ".join(map(repr, names[:5])) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def check_features(x: Any, place: str) -> Float[np.ndarray, "n p"]:
    """Rows and features as an array. Raises `ValueError` naming row and column of what is no finite number."""
    found = _numbers(x, place, columns(x))
    for j in np.flatnonzero(~np.isfinite(found).all(0)):
        row = np.flatnonzero(~np.isfinite(found[:, j]))[0]
        raise ValueError(f"{place}, column {_name(columns(x), j)}: {found[row, j]} in row {row}: values must be finite")
    return found


def _numbers(values: Any, place: str, names: Sequence[Any] = (), flat: bool = False) -> Float[np.ndarray, "..."]:
    """As float64, by scikit-learn, which knows missing values of every kind; what is none becomes nan."""
    try:
        settings = {"ensure_all_finite": False, "ensure_min_samples": 0, "ensure_min_features": 0}
        return check_array(values, dtype=float, order="C", ensure_2d=not flat, **settings)
    except (TypeError, ValueError) as error:
        cells = np.empty(0) if issparse(values) else np.asarray(values, object)
        for at, cell in np.ndenumerate(cells) if cells.ndim == (1 if flat else 2) else ():
            if not _is_number(cell):
                column = "" if flat else f", column {_name(names, at[1])}"
                hint = ": a task with labels is of kind 'classification'" if flat else ""
                raise ValueError(f"{place}{column}: {cell!r} in row {at[0]} is not a number{hint}") from None
        raise ValueError(f"{place}: {' '.join(str(error).split())}") from None


def _is_number(cell: Any) -> bool:
    try:
        float(cell)
    except (TypeError, ValueError):
        return bool(np.ndim(cell) == 0 and pd.isna(cell))
    return True


def _check_task(place: str, x: Any, y: Any, kind: str) -> tuple[Float[np.ndarray, "_ p"], Shaped[np.ndarray, " _"]]:
    names, labels = columns(x), np.asarray(y)
    x = check_features(x, place)
    if labels.ndim != 1 or len(x) != len(labels):
        raise ValueError(f"{place}: features {x.shape} and target {labels.shape} must be (rows, features) and (rows,)")
    if len(x) < 2 or not x.shape[1]:
        raise ValueError(f"{place}: n_samples = {len(x)}, n_features = {x.shape[1]}: at least two rows, one feature")
    for j, size in enumerate(np.abs(x).max(0)):
        _check_size(size, f"{place}, column {_name(names, j)}")
    check_varying(x, place, names)
    if kind == "classification":
        _check_labels(labels, f"{place}, classification")
        return x, labels
    target = _numbers(y, f"{place}, target", flat=True)
    if not np.isfinite(target).all():
        row = np.flatnonzero(~np.isfinite(target))[0]
        raise ValueError(f"{place}, target: {target[row]} in row {row}: values must be finite")
    _check_size(np.abs(target).max(), f"{place}, target")
    if np.ptp(target) == 0:
        raise ValueError(f"{place}, target: constant ({target[0]:g}): a regression target must vary")
    return x, target


def _check_size(size: float, place: str) -> None:
    if size > SIZES[1] or 0 < size < SIZES[0]:
        raise ValueError(f"{place}: numbers up to {size:g}: rescale them (to between {SIZES[0]:g} and {SIZES[1]:g})")


def _check_labels(y: Shaped[np.ndarray, " n"], place: str) -> None:
    missing = np.flatnonzero(pd.isna(y) | ~np.isfinite(y) if y.dtype.kind == "f" else pd.isna(y))
    if len(missing):
        raise ValueError(f"{place}: {y[missing[0]]} in row {missing[0]}: every row must have a label")
    try:
        labels = np.unique(y)
    except TypeError:
        kinds = sorted({type(v).__name__ for v in y})
        raise ValueError(f"{place}: labels of types {' and '.join(kinds)}: they must be of one type") from None
    if len(labels) != 2:
        listed = ", ".join(map(str, labels[:5])) + (", ..." if len(labels) > 5 else "")
        raise ValueError(f"{place}: labels {listed}: there must be exactly two classes")


def check_varying(x: Float[np.ndarray, "n p"], place: str, columns: Sequence[Any] = ()) -> None:
    """Raises `ValueError` for a constant column; a standard deviation of rounding error alone counts as constant."""
    for j in np.flatnonzero(x.std(0) <= 1e-12 * np.abs(x).max(0)):
        raise ValueError(f"{place}, column {_name(columns, j)}: constant ({x[0, j]:g}): leave it out")


def _name(columns: Sequence[Any], j: Any) -> str:
    return f"{j} ({columns[j]})" if len(columns) else str(j)


def check_number(name: str, value: Any, above: float = 0.0, *, reached: bool = False, whole: bool = False) -> None:
    """Raises `ValueError` unless a setting is a finite number above the bound, or on it where it may be reached."""
    kind = int | np.integer if whole else float | int | np.floating | np.integer
    right = isinstance(value, kind) and not isinstance(value, bool) and above <= value < np.inf
    if not right or (value == above and not reached):
        wanted = f"{'an integer' if whole else 'a finite number'} {'of at least' if reached else 'above'} {above:g}"
        raise ValueError(f"{name} is {value!r}: it must be {wanted}")


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
