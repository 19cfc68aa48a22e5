"""The intervals that figures and verdicts share: of a mean, of a share of trials, of a mean within bounds.

SciPy has the quantiles. Simulated coverage for the shapes that occur stands in tests/runs/test_statistics.py.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.special import betaincinv, ndtri, stdtrit  # quantiles; scipy.stats takes a second to import


def interval(
    values: Sequence[float] | Any,
    level: float = 0.95,
    *,
    trials: float | Sequence[float] | Any | None = None,
    bounds: tuple[float, float] | None = None,
) -> tuple[float, float, float]:
    """Mean over seeds with a two-sided interval: Student's, of a share if `trials` is given, of a mean within `bounds`.

    values: one a seed; nan, where a seed gave none, is left out.
    trials: how many trials each value is a share of, one number or one a seed. The interval is that of Clopper and
        Pearson over all trials pooled, their number reduced to what the spread between seeds warrants (Korn and
        Graubard 1998, "Confidence intervals for proportions with small expected number of positive counts estimated
        from survey data", Survey Methodology 24; seeds are the clusters). The mean is that of all trials.
    bounds: the least and the greatest value there can be. The same interval for a value scaled to [0, 1], of as many
        trials as the spread between seeds warrants; where all seeds agree, each counts as one trial.

    Returns mean, low, high. Without two seeds there is no interval, and Student's needs a spread: low and high are nan.
    Of no value all three are. Raises `ValueError` for a value outside the bounds or, as a share, outside [0, 1].

    >>> [round(x, 3) for x in interval([0.8, 0.9, 1.0])]  # Student's
    [0.9, 0.652, 1.148]
    >>> [round(x, 3) for x in interval([0.8, 0.9, 1.0], bounds=(0, 1))]
    [0.9, 0.405, 1.0]
    >>> [round(x, 3) for x in interval([1.0, 1.0], trials=10)]  # 20 of 20
    [1.0, 0.832, 1.0]
    """
    x = np.asarray(values, dtype=float)
    known = ~np.isnan(x)
    x, n = x[known], int(known.sum())
    if n == 0:
        return np.nan, np.nan, np.nan
    if trials is not None:
        return _share(x, np.broadcast_to(np.asarray(trials, dtype=float), known.shape)[known], level)
    if bounds is not None:
        bottom, top = bounds
        m, low, high = _share((x - bottom) / (top - bottom), None, level)
        return bottom + (top - bottom) * m, bottom + (top - bottom) * low, bottom + (top - bottom) * high
    mean = float(x.mean())
    if n == 1 or np.ptp(x) == 0:
        return mean, np.nan, np.nan
    half = float(stdtrit(n - 1, (1 + level) / 2) * x.std(ddof=1) / n**0.5)
    return mean, mean - half, mean + half


def _share(x: np.ndarray, trials: np.ndarray | None, level: float) -> tuple[float, float, float]:
    """Korn and Graubard's interval. x: shares, one a seed. trials: of each; None: as many as the spread warrants."""
    if (x < 0).any() or (x > 1).any():
        raise ValueError(f"values from {x.min():g} to {x.max():g}: must lie within the bounds, a share within [0, 1]")
    n, upper = len(x), (1 + level) / 2
    weights = np.full(n, 1 / n) if trials is None else trials / trials.sum()
    p = float(np.clip((weights * x).sum(), 0, 1))
    if n == 1:
        return p, np.nan, np.nan
    variance = n / (n - 1) * float((weights**2 * (x - p) ** 2).sum()) if np.ptp(x) else 0.0
    pooled = np.inf if trials is None else float(trials.sum())
    normal = ndtri(upper) if trials is None else stdtrit(pooled - 1, upper)
    if variance:
        warranted = max(1.0, p * (1 - p) / variance * float(normal / stdtrit(n - 1, upper)) ** 2)
    else:
        warranted = float(n) if trials is None else pooled
    effective = min(pooled, warranted)
    low = float(betaincinv(p * effective, (1 - p) * effective + 1, 1 - upper)) if p > 0 else 0.0
    high = float(betaincinv(p * effective + 1, (1 - p) * effective, upper)) if p < 1 else 1.0
    return p, low, high
