"""The interval that figures and verdicts share."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.special import stdtrit  # Student's quantile; scipy.stats takes a second to import


def interval(values: Sequence[float] | Any, level: float = 0.95) -> tuple[float, float, float]:
    """Mean over seeds and its two-sided Student t interval, mean ± t_{n-1, (1 + level) / 2} s / sqrt(n).

    values: one a seed; nan, where a seed gave none, is left out.

    Returns mean, low, high. Of a single value low and high are nan, of none all three.
    """
    x = np.asarray(values, dtype=float)
    x = x[~np.isnan(x)]
    if len(x) == 0:
        return np.nan, np.nan, np.nan
    if len(x) == 1:
        return float(x[0]), np.nan, np.nan
    mean = float(x.mean())
    half = float(stdtrit(len(x) - 1, (1 + level) / 2) * x.std(ddof=1) / len(x) ** 0.5)
    return mean, mean - half, mean + half
