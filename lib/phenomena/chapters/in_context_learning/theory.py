"""In-context learning that comes and goes: levels of chance, matching, and where the vote of the context settles.

Letters: n pairs of a context, k of them of the query's class, l labels, d features, p probability of support, epsilon
the spread of a class, u the vote of the context for the label it gives, v the vote of the weights for the class's own.
"""

import math
from collections.abc import Callable

import numpy as np
from jaxtyping import Float
from scipy.optimize import brentq
from scipy.special import ndtr
from scipy.stats import chi2, norm

Numbers = Float[np.ndarray, "*shape"]


def _check(**given: float) -> None:
    """Raises `ValueError`, in one line, for a letter outside its range."""
    ranges: dict[str, tuple[str, Callable[[float], bool]]] = {
        "labels": ("2 or more", lambda v: v >= 2),
        "pairs": ("1 or more", lambda v: v >= 1),
        "features": ("1 or more", lambda v: v >= 1),
        "exemplars": ("1 or more", lambda v: v >= 1),
        "copies": ("0 or more", lambda v: v >= 0),
        "supported": ("0 to 1", lambda v: 0 <= v <= 1),
        "spread": ("0 or more and finite", lambda v: 0 <= v < math.inf),
        "attended": ("1 or more", lambda v: v >= 1),
        "weights": ("finite", math.isfinite),
    }
    for name, value in given.items():
        accepted, fits = ranges[name]
        if not fits(value):
            raise ValueError(f"{name} is {value}: must be {accepted}")


def class_cosine(spread: float) -> float:
    """Expected cosine of two items of a class, to leading order in the dimension: 1 / (1 + epsilon²). Derived here.

    spread: epsilon, 0 or more. Raises `ValueError` for another.

    >>> class_cosine(0.5)
    0.8
    """
    _check(spread=spread)
    return 1 / (1 + spread**2)


def label_in_context(pairs: int, labels: int) -> float:
    """Probability that a given label stands in a context of labels drawn uniformly: 1 - (1 - 1/l)^n. Derived here.

    The share of answers among the labels of the context by one who does not look at it.

    >>> round(label_in_context(4, 8), 3)
    0.414
    """
    _check(pairs=pairs, labels=labels)
    return 1 - (1 - 1 / labels) ** pairs


def guess_in_context(pairs: int, copies: int, labels: int) -> float:
    """Share of right answers by one who gives the label of a random pair: k/n + (1 - k/n)/l. Derived here.

    copies: k, of the pairs bear the right label, the others one drawn uniformly. Raises `ValueError` for k > n.

    >>> guess_in_context(4, 1, 8)
    0.34375
    """
    _check(pairs=pairs, copies=copies, labels=labels)
    if copies > pairs:
        raise ValueError(f"copies is {copies}: must be at most pairs = {pairs}")
    return copies / pairs + (1 - copies / pairs) / labels


def context_only_loss(supported: float, labels: int) -> float:
    """Least loss of one who reads the context and knows no class: (1 - p) log l, in nats. Derived here.

    Supported queries cost nothing where it recognises them. For the others all labels are as likely as each other.

    >>> round(context_only_loss(0.9, 8), 3)
    0.208
    """
    _check(supported=supported, labels=labels)
    return (1 - supported) * math.log(labels)


def nearest_is_right(spread: float, features: int, pairs: int, exemplars: int | None = None) -> float:
    """Probability that, of n items, the one most similar to the query is the one of its class. Derived here.

        E over r of  integral of phi(z) Phi(sqrt(1 - rho²) z + rho r)^(n - 1) dz,    rho = 1 / (1 + epsilon²),

    r² having the law chi² with d degrees of freedom: given the query, whose length is r / sqrt(d), the inner product
    with an item of its class has the law N(rho r², (1 - rho²) r²) / d and that with another item N(0, r²) / d, exactly.

    exemplars: of a class, of which the item is one drawn at random; it is the query itself once in so many times
        (rho = 1). None: it never is.

    >>> round(nearest_is_right(1.0, 32, 4), 3), nearest_is_right(0.5, 32, 1)
    (0.948, 1.0)
    """
    _check(spread=spread, features=features, pairs=pairs)
    if exemplars is None:
        return _nearest(class_cosine(spread), features, pairs)
    _check(exemplars=exemplars)
    other = _nearest(class_cosine(spread), features, pairs)
    return (_nearest(1.0, features, pairs) + (exemplars - 1) * other) / exemplars


def _nearest(rho: float, features: int, pairs: int) -> float:
    levels = (np.arange(400) + 0.5) / 400  # midpoints of equally likely parts of either law
    r, z = np.sqrt(chi2.ppf(levels, features))[:, None], norm.ppf(levels)
    return float(np.mean(ndtr(math.sqrt(max(0.0, 1 - rho**2)) * z + rho * r) ** (pairs - 1)))


def settled_vote(
    weights: float | Numbers, supported: float, labels: int, attended: float | Numbers = 1.0
) -> float | Numbers:
    """The vote u of the context that has the least loss beside a vote v of the weights. Derived here.

    A supported query gets u + v for the right label. Without support, attention falls on m items of other classes
    alike, whose labels get u / m each, and the right one v. The loss

        p log(1 + (l - 1) e^-(u + v)) + (1 - p) log(1 + m e^(u / m - v) + (l - 1 - m) e^-v)

    is convex in u, and least where

        p (l - 1) / (e^(u + v) + l - 1) = (1 - p) e^(u / m) / (e^v + m e^(u / m) + l - 1 - m).

    With m = 1 it falls from log(p (l - 1) / (1 - p)) at v = 0 to half of that as v grows (`settled_limits`).

    weights: v. supported: p, 0 to 1; with 1 there is no such u, and infinity is returned, with 0 minus infinity.
    attended: m, 1 to l - 1.
    Raises `ValueError` for values outside these ranges.

    >>> round(float(settled_vote(0.0, 0.9, 8)), 3), round(float(settled_vote(50.0, 0.9, 8)), 3)
    (4.143, 2.072)
    """
    _check(supported=supported, labels=labels)
    both = np.broadcast_arrays(np.asarray(weights, float), np.asarray(attended, float))
    found = [_settled(float(v), supported, labels, float(m)) for v, m in zip(*(b.flat for b in both), strict=True)]
    return np.reshape(found, both[0].shape)[()]


def _settled(v: float, p: float, labels: int, m: float) -> float:
    _check(attended=m, weights=v)
    if m > labels - 1:
        raise ValueError(f"attended is {m}: must be at most labels - 1 = {labels - 1}, the wrong labels there are")
    if p in (0.0, 1.0):
        return math.inf if p == 1 else -math.inf
    rest = labels - 1

    def slope(u: float) -> float:
        """Log of the right-hand side over the left-hand one: rises with u. Logs, since the exponentials overflow."""
        right = math.log(p * rest) - np.logaddexp(u + v, math.log(rest))
        wrong = math.log(1 - p) + u / m
        others = math.log(rest - m) if rest > m else -math.inf
        return float(wrong - np.logaddexp.reduce([v, math.log(m) + u / m, others]) - right)

    bound = 10 + 2 * m * (abs(v) + abs(math.log(p / (1 - p))) + math.log(labels))
    return float(brentq(slope, -bound, bound))


def settled_limits(supported: float, labels: int, attended: float = 1.0) -> tuple[float, float]:
    """Where `settled_vote` begins, with silent weights, and where it ends as their vote grows. Derived here.

    For m = 1 the first is log(p (l - 1) / (1 - p)). The second is m / (m + 1) times that, for every m: both terms of
    the loss are then small, p (l - 1) e^-(u + v) and (1 - p) m e^(u / m - v), and v drops out.

    >>> [round(x, 3) for x in settled_limits(0.9, 8)]
    [4.143, 2.072]
    """
    _check(supported=supported, labels=labels, attended=attended)
    if not 0 < supported < 1:
        raise ValueError(f"supported is {supported}: must be above 0 and below 1")
    first = float(settled_vote(0.0, supported, labels, attended))
    return first, attended / (attended + 1) * math.log(supported * (labels - 1) / (1 - supported))
