"""Choice of lambda by cross-validation: the rule of Cao et al. 2024 (MTLComb, arXiv 2405.09886)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int
from sklearn.model_selection import KFold, StratifiedKFold

from phenomena.chapters.multitask_selection.problem import Problem, make_problem, paths
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
    cut = make_folds(xs, ys, classes, splits, standardise, **settings)
    means: list[np.ndarray] = []
    for found in paths(cut.problem, np.tile(lambdas[:, None], folds), tol):
        means.append(cut.errors(found.z, metric).mean(0))
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


@dataclass(frozen=True)
class Folds:
    """Every fold as a fit of the same rows, those held out with weight zero.

    held: the rows held out in a fold, for each task.
    """

    problem: Problem
    held: list[list[Int[np.ndarray, " _"]]]

    def errors(self, z: Float[np.ndarray, "t f n"], metric: Callable[..., float]) -> Float[np.ndarray, "f 2"]:
        """Mean square error and *minus* the classification metric on the held-out rows of each fold."""
        found = np.zeros((z.shape[1], 2))
        for t, is_class in enumerate(self.problem.classes):
            for f, rows in enumerate(self.held[t]):
                a, y = z[t, f, rows], self.problem.y[t, f, rows]
                found[f, int(is_class)] += -metric(a, y > 0) if is_class else ((a - y) ** 2).mean()
        return found / np.maximum([(~self.problem.classes).sum(), self.problem.classes.sum()], 1)


def make_folds(
    xs: Sequence[Float[np.ndarray, "_ p"]],
    ys: Sequence[Float[np.ndarray, " _"]],
    classes: Bool[np.ndarray, " t"],
    splits: Sequence[Sequence[tuple[Any, Any]]],
    standardise: tuple[bool, bool] = (True, True),
    **settings: Any,
) -> Folds:
    """Features and regression targets standardised on the training rows of each fold, if asked for.

    splits: training and held-out rows of each fold, for each task.
    settings: of `make_problem`.
    Raises `ValueError` for a feature constant in a fold.
    """
    scaler = fit_scaler(xs, ys, classes, *standardise)
    whole = make_problem(scaler.x(xs), scaler.y(ys), classes, **settings)
    trained = np.zeros((len(xs), len(splits[0]), whole.y.shape[-1]))
    for t, folds in enumerate(splits):
        for f, (rows, _) in enumerate(folds):
            trained[t, f, rows] = 1
    trained /= trained.sum(-1, keepdims=True)
    mean = np.matmul(trained, whole.x.transpose(0, 2, 1))
    square = np.matmul(trained, (whole.x**2).transpose(0, 2, 1))
    spread = square - mean**2
    for t, f in np.argwhere((spread <= 1e-6 * square).any(-1)):
        check_varying(xs[t][splits[t][f][0]], f"task {t}, fold {f}")
    total = whole.weight.sum(-1, keepdims=True)
    y = np.repeat(whole.y, len(splits[0]), 1)
    if standardise[1]:
        r = ~classes
        away = y[r] - (trained[r] * y[r]).sum(-1, keepdims=True)
        y[r] = away / np.sqrt((trained[r] * away**2).sum(-1, keepdims=True))
    # an intercept that is not penalised makes up for means, whatever they are
    shift = None if whole.intercept else mean
    units = {"shift": shift, "unit": 1 / np.sqrt(spread)} if standardise[0] else {}
    problem = replace(whole, y=y, weight=trained * total, **units)
    return Folds(problem, [[rows for _, rows in folds] for folds in splits])


def accuracy(score: Float[np.ndarray, " n"], positive: Bool[np.ndarray, " n"]) -> float:
    """Fraction of labels that the sign of the score predicts; zero counts as positive, as in the official code."""
    return float(((score >= 0) == positive).mean())


def area_under_curve(score: Float[np.ndarray, " n"], positive: Bool[np.ndarray, " n"]) -> float:
    """Area under the ROC curve: the fraction of pairs of the two classes in the right order, ties counting a half."""
    return float(0.5 + 0.5 * np.sign(score[positive][:, None] - score[~positive]).mean())


METRICS = {"auc": area_under_curve, "accuracy": accuracy}


def _splits(
    i: int, x: Float[np.ndarray, "n p"], y: Float[np.ndarray, " n"], is_class: bool, folds: int, seed: int
) -> list[tuple[Any, Any]]:
    if is_class:
        labels, counts = np.unique(y, return_counts=True)
        if counts.min() < folds:
            which = "first" if labels[counts.argmin()] < 0 else "second"
            raise ValueError(
                f"task {i}: the {which} of its sorted classes has {counts.min()} rows for {folds} folds: "
                "it must have one a fold"
            )
        return list(StratifiedKFold(folds, shuffle=True, random_state=seed).split(x, y))
    if len(y) < 2 * folds:
        raise ValueError(f"task {i}: {len(y)} rows for {folds} folds: there must be two a fold or more")
    return list(KFold(folds, shuffle=True, random_state=seed).split(x))
