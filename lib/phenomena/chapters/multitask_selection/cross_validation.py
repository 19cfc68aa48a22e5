"""Choice of lambda by cross-validation: the rule of Cao et al. 2024 (MTLComb, arXiv 2405.09886)."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from scipy.stats import rankdata
from sklearn.model_selection import KFold, StratifiedKFold

from phenomena.chapters.multitask_selection.problem import make_problem, path
from phenomena.chapters.multitask_selection.tasks import check_varying, fit_scaler


@dataclass(frozen=True)
class CrossValidation:
    """Held-out mean square error and classification metric, means over folds and the tasks of that kind.

    Both are zero where no task is of that kind. best_regression, best_classification: the lambda that is best by each.
    best: the rule's lambda.
    """

    lambdas: Float[np.ndarray, " k"]
    square_error: Float[np.ndarray, " k"]
    classification_score: Float[np.ndarray, " k"]
    best_regression: float
    best_classification: float
    best: float


def cross_validate(
    xs: Sequence[Float[np.ndarray, "_ p"]],
    ys: Sequence[Float[np.ndarray, " _"]],
    classes: Bool[np.ndarray, " t"],
    lambdas: Float[np.ndarray, " k"],
    folds: int,
    seed: int,
    tol: float = 1e-4,
    standardise: tuple[bool, bool] = (True, True),
    patience: int | None = None,
    classification_metric: str = "auc",
    **settings: Any,
) -> CrossValidation:
    """The rule of Cao et al. 2024: lambda = (T_r / T) lambda_mse + (T_c / T) lambda_auc.

    lambda_mse minimises the mean square error over the T_r regression tasks, lambda_auc maximises the area under the
    curve over the T_c classification tasks; of equal values the largest lambda is taken. One grid serves all folds,
    where the official code averages the folds' own grids. Folds are stratified by class. Features and regression
    targets are standardised on the training rows of each fold.

    ys: labels are -1 and 1.
    standardise: features, regression targets.
    patience: the path ends where neither mean has improved for so many values of lambda; None: at its end.
    classification_metric: `auc`, or `accuracy` as in the official code for classification tasks alone.
    settings: of `make_problem`.
    Raises `ValueError` for an unknown metric, a class with fewer rows than folds, a feature constant in a fold.
    """
    if classification_metric not in METRICS:
        raise ValueError(f"classification_metric {classification_metric!r} must be {' or '.join(METRICS)}")
    splits = [_splits(i, x, y, bool(c), folds, seed) for i, (x, y, c) in enumerate(zip(xs, ys, classes, strict=True))]
    metric = METRICS[classification_metric]
    runs = [
        _held_out(xs, ys, classes, f, [s[f] for s in splits], lambdas, tol, standardise, metric, settings)
        for f in range(folds)
    ]
    means: list[np.ndarray] = []
    for row in zip(*runs, strict=True):  # for each lambda one pair a fold
        means.append(np.mean(row, axis=0))
        if patience and len(means) > patience:
            curve = np.array(means)
            if (curve[:-patience].min(0) <= curve[-patience:].min(0)).all():
                break
    mse, score = np.array(means).T * [[1], [-1]]
    lambdas = lambdas[: len(means)]
    fraction = float(classes.mean())
    best_mse, best_score = float(lambdas[np.argmin(mse)]), float(lambdas[np.argmax(score)])
    rule = (1 - fraction) * best_mse + fraction * best_score
    return CrossValidation(lambdas, mse, score, best_mse, best_score, rule)


def _held_out(
    xs: Sequence[Float[np.ndarray, "_ p"]],
    ys: Sequence[Float[np.ndarray, " _"]],
    classes: Bool[np.ndarray, " t"],
    fold: int,
    split: list[tuple[Any, Any]],
    lambdas: Float[np.ndarray, " k"],
    tol: float,
    standardise: tuple[bool, bool],
    metric: Callable[..., float],
    settings: dict[str, Any],
) -> Iterator[tuple[float, float]]:
    """Mean square error and *minus* the classification metric on one fold's held-out rows, for each lambda in turn."""
    train_x = [x[a] for x, (a, _) in zip(xs, split, strict=True)]
    train_y = [y[a] for y, (a, _) in zip(ys, split, strict=True)]
    for i, x in enumerate(train_x):
        check_varying(x, f"task {i}, fold {fold}")
    scaler = fit_scaler(train_x, train_y, classes, *standardise)
    test_x = scaler.x([x[a] for x, (_, a) in zip(xs, split, strict=True)])
    test_y = scaler.y([y[a] for y, (_, a) in zip(ys, split, strict=True)])
    problem = make_problem(scaler.x(train_x), scaler.y(train_y), classes, **settings)
    for found in path(problem, lambdas, tol):
        z = [x @ w + b for x, w, b in zip(test_x, found.w, found.b, strict=True)]
        errors = [((a - y) ** 2).mean() for a, y, c in zip(z, test_y, classes, strict=True) if not c]
        good = [metric(a, y > 0) for a, y, c in zip(z, test_y, classes, strict=True) if c]
        yield (float(np.mean(errors)) if errors else 0.0, -float(np.mean(good)) if good else 0.0)


def accuracy(score: Float[np.ndarray, " n"], positive: Bool[np.ndarray, " n"]) -> float:
    """Fraction of labels that the sign of the score predicts; zero counts as positive, as in the official code."""
    return float(((score >= 0) == positive).mean())


def area_under_curve(score: Float[np.ndarray, " n"], positive: Bool[np.ndarray, " n"]) -> float:
    """Area under the ROC curve by ranks, ties counting a half."""
    m = int(positive.sum())
    return float((rankdata(score)[positive].sum() - m * (m + 1) / 2) / (m * (len(positive) - m)))


METRICS = {"auc": area_under_curve, "accuracy": accuracy}


def _splits(
    i: int, x: Float[np.ndarray, "n p"], y: Float[np.ndarray, " n"], is_class: bool, folds: int, seed: int
) -> list[tuple[Any, Any]]:
    if is_class:
        labels, counts = np.unique(y, return_counts=True)
        if counts.min() < folds:
            label, count = labels[counts.argmin()], counts.min()
            raise ValueError(f"task {i}: class {label:g} has {count} rows for {folds} folds: it must have one a fold")
        return list(StratifiedKFold(folds, shuffle=True, random_state=seed).split(x, y))
    if len(y) < 2 * folds:
        raise ValueError(f"task {i}: {len(y)} rows for {folds} folds: there must be two a fold or more")
    return list(KFold(folds, shuffle=True, random_state=seed).split(x))
