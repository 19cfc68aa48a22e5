"""Work of a step, and the error that averaging leaves. Letters: b points, k chosen, n minibatches.

A forward pass of one point is the unit of work; a backward pass counts twice as much.
"""

import math


def kept(batch: int, share: float) -> int:
    """Points of a minibatch that a step uses: the share of it, rounded down.

    Raises `ValueError` for a share outside (0, 1], or one that leaves no point.

    >>> kept(64, 0.25)
    16
    """
    if not 0 < share <= 1:
        raise ValueError(f"the kept share is {share}: must be above 0 and at most 1")
    if (k := math.floor(share * batch + 1e-9)) < 1:
        raise ValueError(f"a share of {share} of {batch} points is less than one: must be one or more")
    return k


def work(method: str, b: int, k: int) -> int:
    """Of one step: b + 2 k where points are chosen, 3 k at random, 3 b with all.

    >>> work("sb", 64, 16), work("random", 64, 16), work("full", 64, 16)
    (96, 48, 192)
    """
    return {"random": 3 * k, "full": 3 * b}.get(method, b + 2 * k)


def multiplications(d: int, w: int, c: int) -> int:
    """Of a forward pass of one point through two hidden layers.

    >>> multiplications(40, 64, 10)
    7296
    """
    return d * w + w * w + w * c


def overhead(b: int, k: int, features: int, classes: int, forward: float) -> float:
    """Multiplications of a Gram matrix, b^2 (w + c), over those of a step, (b + 2 k) F.

    features, classes: w and c, of the last layer. forward: F, multiplications of a forward pass of one point.

    >>> round(overhead(64, 16, 64, 10, forward=7296), 2)  # 40-64-64-10
    0.43
    >>> round(overhead(128, 32, 512, 10, forward=5.6e8), 5)  # ResNet-18 on images of 32 x 32
    0.00008
    """
    return b * b * (features + classes) / ((b + 2 * k) * forward)


def averaged(bias2: float, variance: float, n: float) -> float:
    """Expected square distance of the mean of n independent estimates from the truth: bias^2 + variance / n.

    >>> averaged(0.5, 10.0, 20)
    1.0
    """
    return bias2 + variance / n


def crossing(bias2: float, variance: float, baseline: float) -> float:
    """Number of estimates beyond which the mean of an unbiased one of variance `baseline` is nearer to the truth.

    It is (baseline - variance) / bias^2, and 0 where the baseline has the smaller variance.

    >>> crossing(0.5, 2.0, 12.0)
    20.0
    """
    return max(0.0, (baseline - variance) / bias2) if bias2 > 0 else math.inf
