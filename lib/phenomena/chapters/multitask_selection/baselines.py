"""Separate models, one for each task."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.special import expit
from sklearn import config_context
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.linear_model import (
    ElasticNet,
    ElasticNetCV,
    Lasso,
    LassoCV,
    Ridge,
    RidgeCV,
    enet_path,
)
from sklearn.model_selection import StratifiedKFold
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, SVR

from phenomena.chapters.multitask_selection.cross_validation import area_under_curve
from phenomena.chapters.multitask_selection.data import TaskData

X = Float[np.ndarray, "n p"]
Y = Float[np.ndarray, " n"]
Importance = Float[np.ndarray, " p"]
Model = tuple[Callable[[X], Y], Importance | None]  # features -> scores; importance of the features, if it has any


def separate(
    method: str,
    data: TaskData,
    seed: int,
    trees: int = 100,
    tuned_on: list[Float[np.ndarray, " _"]] | None = None,
    trained_on: list[Float[np.ndarray, " _"]] | None = None,
) -> tuple[list[Float[np.ndarray, " _"]], Importance | None]:
    """Fits every task separately with one of `METHODS`, on standardised features and its own training targets.

    tuned_on, trained_on: other targets for the choice of the penalty, or for all of the training; the official
    simulation script takes the *test* targets.
    Returns scores of the test rows of each task, and the features' importance (None if the method has none): the norm
    over tasks of coefficients that are first scaled to length one in each task.
    Raises `ValueError` for an unknown method.
    """
    if method not in METHODS:
        raise ValueError(f"method {method!r} is not known: it must be one of {', '.join(METHODS)}")
    trained = trained_on or data.y
    tuned = tuned_on or trained
    scores, importances = [], []
    for i, is_class in enumerate(data.classes):
        scaler = StandardScaler().fit(data.x[i])
        x = scaler.transform(data.x[i])
        # thousands of small fits with the same few arguments: looking at these again would take a tenth of the time
        with config_context(assume_finite=True, skip_parameter_validation=True):
            predict, importance = METHODS[method](x, trained[i], tuned[i], bool(is_class), seed, trees)
            scores.append(predict(scaler.transform(data.x_test[i])))
        importances.append(importance)
    if any(s is None for s in importances):
        return scores, None
    unit = [np.abs(s) / max(float(np.linalg.norm(s)), 1e-300) for s in importances if s is not None]
    return scores, np.linalg.norm(unit, axis=0)


def _linear(model: Any) -> Model:
    coef = np.ravel(model.coef_)
    return (lambda x: x @ coef), coef


def _penalties(x: X, y: Y, count: int = 4, min_ratio: float = 0.05) -> Float[np.ndarray, " count"]:
    """C of scikit-learn's logistic regression for lasso penalties from the largest useful one to `min_ratio` of it."""
    largest = np.abs(x.T @ (y - y.mean())).max() / 2
    return np.logspace(0, -np.log10(min_ratio), count + 1)[1:] / largest


def _logistic(x: X, y: Y, tuned: Y, grid: Float[np.ndarray, " k"], l1_ratio: float) -> Model:
    """Chooses C by the cross-validated area under the curve on `tuned`, fits y."""
    areas = []
    for train, held in StratifiedKFold(5).split(x, tuned):
        found = logistic_path(x[train], tuned[train], grid, l1_ratio)
        areas.append([area_under_curve(x[held] @ coef, tuned[held] > 0) for coef, _ in found])
    best = int(np.argmax(np.mean(areas, 0)))
    *_, (coef, _) = logistic_path(x, y, grid[: best + 1], l1_ratio)
    return (lambda x: x @ coef), coef


def logistic_path(
    x: X, y: Y, grid: Float[np.ndarray, " k"], l1_ratio: float, tol: float = 1e-2, steps: int = 50
) -> Iterator[tuple[Float[np.ndarray, " p"], float]]:
    """Coefficients and intercept of scikit-learn's logistic regression for growing C, its objective being

    C sum log(1 + exp(-y (x.w + b))) + l1_ratio ||w||_1 + (1 - l1_ratio) / 2 ||w||^2

    Newton's method: a step is a weighted least-squares fit with the same penalty, by coordinate descent, or for ridge
    by a system of as many equations as there are rows. It ends when no score moves by more than `tol`.

    y: labels are -1 and 1.
    """
    coef, b = np.zeros(x.shape[1]), 0.0
    z, products = np.zeros(len(x)), x @ x.T
    for c in grid:
        for _ in range(steps):
            chance = expit(z)
            weight = np.maximum(chance * (1 - chance), 1e-3)
            target = z + ((y > 0) - chance) / weight
            if l1_ratio == 0:
                coef, b = _weighted_ridge(x, products, target, weight, c)
            else:
                coef, b = _weighted_net(x, target, weight, c, l1_ratio, coef, tol / 10)
            z, before = x @ coef + b, z
            if np.abs(z - before).max() <= tol:
                break
        yield coef, b


def _weighted_ridge(x: X, products: Float[np.ndarray, "n n"], y: Y, weight: Y, c: float) -> tuple[Importance, float]:
    """w = x^T a with (x x^T + 1 / (c weight)) a + b = y and sum a = 0."""
    n = len(y)
    system = np.ones((n + 1, n + 1))
    system[:n, :n] = products
    system[np.arange(n), np.arange(n)] += 1 / (c * weight)
    system[n, n] = 0
    *a, b = np.linalg.solve(system, np.append(y, 0))
    return x.T @ a, float(b)


def _weighted_net(
    x: X, y: Y, weight: Y, c: float, l1_ratio: float, start: Importance, tol: float
) -> tuple[Importance, float]:
    share, root = weight / weight.sum(), np.sqrt(weight)
    x_mean, y_mean = share @ x, share @ y
    centred = np.asfortranarray(root[:, None] * (x - x_mean))
    _, found, _ = enet_path(
        centred, root * (y - y_mean), l1_ratio=l1_ratio, alphas=[1 / (c * len(y))], precompute=False, coef_init=start,
        tol=tol, max_iter=10_000, check_input=False,
    )  # fmt: skip
    coef = found[:, 0]
    return coef, float(y_mean - x_mean @ coef)


def _ridge(x: X, y: Y, tuned: Y, is_class: bool, seed: int, trees: int) -> Model:
    if is_class:
        return _logistic(x, y, tuned, np.logspace(-4, 0, 5), 0.0)
    alpha = RidgeCV(np.logspace(1, 5, 9), gcv_mode="eigen").fit(x, tuned).alpha_
    return _linear(Ridge(alpha).fit(x, y))


def _lasso(x: X, y: Y, tuned: Y, is_class: bool, seed: int, trees: int) -> Model:
    if is_class:
        return _logistic(x, y, tuned, _penalties(x, y), 1.0)
    common: dict[str, Any] = {"tol": 1e-3, "max_iter": 10_000}
    found = LassoCV(alphas=30, eps=0.01, cv=5, **common).fit(x, tuned)
    return _linear(found if tuned is y else Lasso(found.alpha_, **common).fit(x, y))


def _elastic_net(x: X, y: Y, tuned: Y, is_class: bool, seed: int, trees: int) -> Model:
    if is_class:
        return _logistic(x, y, tuned, 2 * _penalties(x, y), 0.5)
    common: dict[str, Any] = {"l1_ratio": 0.5, "tol": 1e-3, "max_iter": 10_000}
    found = ElasticNetCV(alphas=30, eps=0.01, cv=5, **common).fit(x, tuned)
    return _linear(found if tuned is y else ElasticNet(found.alpha_, **common).fit(x, y))


def _forest(x: X, y: Y, tuned: Y, is_class: bool, seed: int, trees: int) -> Model:
    if is_class:
        chooser = RandomForestClassifier(trees, random_state=seed).fit(x, y)
        return (lambda x: chooser.predict_proba(x)[:, 1]), chooser.feature_importances_
    # a tenth of the features at each split, between the usual third and square root: a third takes three times as long
    model = RandomForestRegressor(trees, max_features=0.1, random_state=seed).fit(x, y)
    return model.predict, model.feature_importances_


def _svm(kernel: str) -> Callable[..., Model]:
    def fit(x: X, y: Y, tuned: Y, is_class: bool, seed: int, trees: int) -> Model:
        # standardised targets: the defaults C = 1 and epsilon = 0.1 are meant for those
        mean, spread = (0.0, 1.0) if is_class else (y.mean(), y.std())
        model = (SVC if is_class else SVR)(kernel=kernel).fit(x, (y - mean) / spread)
        scored = model.decision_function if is_class else model.predict
        return (lambda x: scored(x) * spread + mean), (np.ravel(model.coef_) if kernel == "linear" else None)

    return fit


METHODS: dict[str, Callable[..., Model]] = {
    "lasso": _lasso,
    "ridge": _ridge,
    "elastic net": _elastic_net,
    "random forest": _forest,
    "linear SVM": _svm("linear"),
    "RBF SVM": _svm("rbf"),
}
