"""How well scores explain targets, and how many of the true features a method selects."""

import numpy as np
from jaxtyping import Bool, Float
from scipy.special import expit


def r_squared(score: Float[np.ndarray, " n"], target: Float[np.ndarray, " n"], is_class: bool) -> float:
    """Fraction of the target explained by a score, 0 to 1, whatever the score's scale and sign.

    Regression: the squared correlation. Classification: R^2 of Nagelkerke 1991 of a logistic regression of the label
    on the score, (1 - exp(2 (l0 - l) / n)) / (1 - exp(2 l0 / n)) with log-likelihoods l0 of the constant, l of the fit.
    Both are positive at chance, of the order of 1 / n. A constant score explains nothing.
    """
    if np.ptp(score) <= 1e-12 * max(1.0, float(np.abs(score).max())):
        return 0.0
    if not is_class:
        return float(np.corrcoef(score, target)[0, 1] ** 2)
    fitted, constant = _log_likelihoods((score - score.mean()) / score.std(), target > 0)
    n = len(score)
    return float((1 - np.exp(2 * (constant - fitted) / n)) / (1 - np.exp(2 * constant / n)))


def _log_likelihoods(score: Float[np.ndarray, " n"], positive: Bool[np.ndarray, " n"]) -> tuple[float, float]:
    """Log-likelihoods of the logistic regression of labels on one score, by Newton's method, and of the constant."""
    design = np.stack([np.ones_like(score), score], 1)
    fraction = positive.mean()
    b = np.array([np.log(fraction / (1 - fraction)), 0.0])
    start = -np.logaddexp(0, np.where(positive, -1, 1) * (design @ b)).sum()
    best = start
    for _ in range(30):  # separable classes have no finite optimum: the log-likelihood then approaches 0
        p = expit(design @ b)
        step = np.linalg.solve(
            (design * (p * (1 - p))[:, None]).T @ design + 1e-9 * np.eye(2), design.T @ (positive - p)
        )
        length = 1.0
        while length > 1e-6:
            value = -np.logaddexp(0, np.where(positive, -1, 1) * (design @ (b + length * step))).sum()
            if value >= best:
                break
            length /= 2
        if value <= best + 1e-10:
            break
        b, best = b + length * step, value
    return float(best), float(start)


def selection_accuracy(
    importance: Float[np.ndarray, " p"], wanted: Bool[np.ndarray, " p"], count: int | None = None
) -> float:
    """Fraction of the wanted features among the `count` most important; those of importance zero do not count.

    count: as many as are wanted by default.
    """
    order = np.argsort(-importance, kind="stable")[: int(wanted.sum()) if count is None else count]
    return float((wanted[order] & (importance[order] > 0)).sum() / wanted.sum())
