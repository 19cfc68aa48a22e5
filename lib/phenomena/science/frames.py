"""Tidy frames: one row a measurement, with a column `seed`. From arrays, and back to one number a seed."""

import itertools
from collections.abc import Mapping, Sequence
from string import Formatter
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from phenomena.statistics import interval

PerSeed = Float[np.ndarray, " s"]
Wanted = Any  # a value that a column must have, or a mapping from such values to the words that a name uses for them


def tidy(values: Any, name: str = "value", **axes: Sequence[Any] | Any) -> pd.DataFrame:
    """An array in long form, the last axis varying fastest.

    values: numbers, with one axis for every keyword.
    name: of their column.
    axes: column -> its value at each place along that axis, such as seed=(0, 1), step=times.

    Raises `ValueError` when the shape does not fit.

    >>> tidy([[1, 2], [3, 4]], seed=(0, 1), arm=("plain", "mixed"))
       seed    arm  value
    0     0  plain      1
    1     0  mixed      2
    2     1  plain      3
    3     1  mixed      4
    """
    array = np.asarray(values)
    places = {column: _places(at) for column, at in axes.items()}
    shape = tuple(len(at) for at in places.values())
    if array.shape != shape:
        raise ValueError(f"values of shape {array.shape} for axes {', '.join(axes)} of lengths {shape}")
    index = pd.MultiIndex.from_product(list(places.values()), names=list(places))
    return pd.DataFrame({name: array.reshape(-1)}, index=index).reset_index()


def _places(at: Sequence[Any] | Any) -> list[Any]:
    """Plain values of an axis; numbers beside texts, such as (1, 4, "fresh"), stay numbers."""
    if isinstance(at, Sequence) and any(isinstance(value, str) for value in at):
        return list(at)
    return list(np.asarray(at).tolist())


def select(frame: pd.DataFrame, **where: Any) -> pd.DataFrame:
    """The rows whose columns have these values; numbers are the same within rounding.

    Raises `KeyError` naming a column that is not there.

    >>> frame = tidy([[1, 2], [3, 4]], seed=(0, 1), arm=("plain", "mixed"))
    >>> select(frame, arm="mixed")
       seed    arm  value
    1     0  mixed      2
    3     1  mixed      4
    """
    keep = np.ones(len(frame), bool)
    for column, wanted in where.items():
        if column not in frame:
            raise KeyError(f"no column {column!r}: {', '.join(frame.columns)} are there")
        there = frame[column]
        close = isinstance(wanted, float | np.floating) and pd.api.types.is_numeric_dtype(there)
        keep &= np.isclose(there.astype(float), wanted, atol=1e-12) if close else (there == wanted).to_numpy()
    return frame[keep]


def per_seed(frame: pd.DataFrame, value: str, seeds: Sequence[int] | None = None, **where: Any) -> PerSeed:
    """One number a seed, in the order of the seeds: the mean of `value` over the seed's rows that `select` keeps.

    frame: with a column seed.
    seeds: those to report, nan for one without a row or value; by default those with a row, rising.

    >>> frame = tidy([[1, 2], [3, 4]], seed=(0, 1), arm=("plain", "mixed"))
    >>> per_seed(frame, "value", arm="mixed").tolist()
    [2.0, 4.0]
    >>> per_seed(frame, "value", seeds=(1, 2)).tolist()
    [3.5, nan]
    """
    for column in ("seed", value):
        if column not in frame:
            raise KeyError(f"no column {column!r}: {', '.join(map(str, frame.columns))} are there")
    found = select(frame, **where).groupby("seed")[value].mean()
    return (found if seeds is None else found.reindex(list(seeds))).to_numpy(float)


def columns(
    frame: pd.DataFrame,
    name: str,
    value: str | Sequence[str] | Mapping[str, str] = "value",
    seeds: Sequence[int] | None = None,
    **where: Wanted,
) -> dict[str, PerSeed]:
    """`per_seed` for every combination of values, under names made from a pattern: what `record` takes.

        columns(frame, "{value}_{arm}", ["train", "test"], arm={"plain": "erm", "mixed": "mixup"}, layer="pool")

    gives train_erm, train_mixup, test_erm and test_mixup. A field of the pattern stands for a column whose value is
    given as a mapping from what stands in the frame to the word in the name, or for `value`, a list or such a mapping.

    seeds: as in `per_seed`, the same for all; by default those with a row in any of the combinations.

    Raises `ValueError` for a field that is given no mapping, a mapping that is no field, or two combinations of one
    name.

    >>> frame = tidy([[1, 2], [3, 4]], seed=(0, 1), arm=("plain", "mixed"))
    >>> found = columns(frame, "loss_{arm}", arm={"plain": "erm", "mixed": "mixup"})
    >>> {name: row.tolist() for name, row in found.items()}
    {'loss_erm': [1.0, 3.0], 'loss_mixup': [2.0, 4.0]}
    """
    several = {column: wanted for column, wanted in where.items() if isinstance(wanted, Mapping)}
    fixed = {column: wanted for column, wanted in where.items() if column not in several}
    values = {value: value} if isinstance(value, str) else value
    words = {"value": dict(values) if isinstance(values, Mapping) else {v: v for v in values}} | several
    fields = {field for _, field, _, _ in Formatter().parse(name) if field is not None}
    if fields - set(words) or set(several) - fields:
        raise ValueError(f"the name {name!r} has the fields {sorted(fields)}, mappings are given for {sorted(words)}")
    chosen: dict[str, dict[str, Any]] = {}
    for pairs in itertools.product(*(part.items() for part in words.values())):
        short = name.format(**{column: word for column, (_, word) in zip(words, pairs, strict=True)})
        if short in chosen:
            raise ValueError(f"the name {name!r} makes {short!r} of two combinations: a field or word must differ")
        chosen[short] = {column: wanted for column, (wanted, _) in zip(words, pairs, strict=True)} | fixed
    if seeds is None:  # one list for all: names with values of different seeds would not be paired by seed
        rows = [select(frame, **{c: v for c, v in at.items() if c != "value"}) for at in chosen.values()]
        seeds = sorted(pd.concat(rows)["seed"].unique().tolist())
    return {short: per_seed(frame, at.pop("value"), seeds, **at) for short, at in chosen.items()}


def summary(
    frame: pd.DataFrame,
    by: str | Sequence[str],
    value: str = "value",
    *,
    trials: float | None = None,
    bounds: tuple[float, float] | None = None,
) -> pd.DataFrame:
    """Mean over seeds with its 95 % interval for every group, in the order in which groups appear.

    trials, bounds: what the value is, as for `statistics.interval`.

    Returns the columns of `by`, then mean, low, high, n. Rows without a value (nan) are left out of n.

    >>> frame = tidy([[1, 2], [3, 4]], seed=(0, 1), arm=("plain", "mixed"))
    >>> summary(frame, "arm", bounds=(0, 5)).round(1)
         arm  mean  low  high  n
    0  plain   2.0  0.0   5.0  2
    1  mixed   3.0  0.0   5.0  2
    """
    by = [by] if isinstance(by, str) else list(by)
    for column in (*by, value):
        if column not in frame:
            raise KeyError(f"no column {column!r}: {', '.join(map(str, frame.columns))} are there")
    rows = [
        (*key, *interval(part[value], trials=trials, bounds=bounds), int(part[value].notna().sum()))
        for key, part in frame.groupby(by, sort=False, observed=True, dropna=False)
    ]
    return pd.DataFrame(rows, columns=[*by, "mean", "low", "high", "n"])
