"""Tidy frames: one row a measurement, with a column `seed`. From arrays, and back to one number a seed."""

import itertools
from collections.abc import Mapping, Sequence
from string import Formatter
from typing import Any

import numpy as np
import pandas as pd

from phenomena.statistics import interval

Wanted = Any  # a value that a column must have, or a mapping from such values to the words that a name uses for them


def tidy(values: Any, name: str = "value", **axes: Sequence[Any] | Any) -> pd.DataFrame:
    """An array in long form, the last axis varying fastest.

    values: numbers, an axis for every keyword; name: of their column; axes: column -> its value at each place along
    that axis, such as seed=(0, 1), step=times. Raises `ValueError` when the shape does not fit.
    """
    array = np.asarray(values)
    places = {column: np.asarray(at).tolist() for column, at in axes.items()}
    shape = tuple(len(at) for at in places.values())
    if array.shape != shape:
        raise ValueError(f"values of shape {array.shape} for axes {', '.join(axes)} of lengths {shape}")
    index = pd.MultiIndex.from_product(list(places.values()), names=list(places))
    return pd.DataFrame({name: array.reshape(-1)}, index=index).reset_index()


def select(frame: pd.DataFrame, **where: Any) -> pd.DataFrame:
    """The rows whose columns have these values; numbers are the same within rounding.

    Raises `KeyError` naming a column that is not there.
    """
    keep = np.ones(len(frame), bool)
    for column, wanted in where.items():
        if column not in frame:
            raise KeyError(f"no column {column!r}: {', '.join(frame.columns)} are there")
        there = frame[column]
        close = isinstance(wanted, float) and pd.api.types.is_numeric_dtype(there)
        keep &= np.isclose(there.astype(float), wanted) if close else (there == wanted).to_numpy()
    return frame[keep]


def per_seed(frame: pd.DataFrame, value: str, seeds: Sequence[int] | None = None, **where: Any) -> np.ndarray:
    """One number a seed, in the order of the seeds: the mean of `value` over the seed's rows that `select` keeps.

    frame: with a column seed. seeds: those to report, nan for one without a row; all that are there by default.
    Returns float (s,).
    """
    found = select(frame, **where).groupby("seed")[value].mean()
    return (found if seeds is None else found.reindex(list(seeds))).to_numpy(float)


def columns(
    frame: pd.DataFrame,
    name: str,
    value: str | Sequence[str] | Mapping[str, str] = "value",
    seeds: Sequence[int] | None = None,
    **where: Wanted,
) -> dict[str, np.ndarray]:
    """`per_seed` for every combination of values, under names made from a pattern: what `record` takes.

        columns(frame, "{value}_{arm}", ["train", "test"], arm={"plain": "erm", "mixed": "mixup"}, layer="pool")

    gives train_erm, train_mixup, test_erm and test_mixup. A field of the pattern stands for a column whose value is
    given as a mapping from what stands in the frame to the word in the name, or for `value`, a list or such a mapping.
    Raises `ValueError` for a field that is given no mapping, or a mapping that is no field.
    """
    several = {column: wanted for column, wanted in where.items() if isinstance(wanted, Mapping)}
    fixed = {column: wanted for column, wanted in where.items() if column not in several}
    values = {value: value} if isinstance(value, str) else value
    words = {"value": dict(values) if isinstance(values, Mapping) else {v: v for v in values}} | several
    fields = {field for _, field, _, _ in Formatter().parse(name) if field is not None}
    if fields - set(words) or set(several) - fields:
        raise ValueError(f"the name {name!r} has the fields {sorted(fields)}, mappings are given for {sorted(words)}")
    found = {}
    for chosen in itertools.product(*(part.items() for part in words.values())):
        short = {column: word for column, (_, word) in zip(words, chosen, strict=True)}
        at = {column: wanted for column, (wanted, _) in zip(words, chosen, strict=True)}
        found[name.format(**short)] = per_seed(frame, at.pop("value"), seeds, **fixed, **at)
    return found


def summary(frame: pd.DataFrame, by: str | Sequence[str], value: str = "value") -> pd.DataFrame:
    """Mean over seeds with its 95 % interval for every group, in the order in which groups appear.

    Returns the columns of `by`, then mean, low, high, n. Rows without a value (nan) are left out of n.
    """
    by = [by] if isinstance(by, str) else list(by)
    rows = [
        (*key, *interval(part[value]), int(part[value].notna().sum()))
        for key, part in frame.groupby(by, sort=False, observed=True)
    ]
    return pd.DataFrame(rows, columns=[*by, "mean", "low", "high", "n"])
