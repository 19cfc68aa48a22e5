"""Separate models, one for each task."""

from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.linear_model import (
    ElasticNet,
    ElasticNetCV,
    Lasso,
    LassoCV,
    LogisticRegression,
    LogisticRegressionCV,
    Ridge,
    RidgeCV,
)
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, SVR

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


def _logistic(x: X, y: Y, tuned: Y, seed: int, grid: Float[np.ndarray, " k"], l1_ratio: float) -> Model:
    """Chooses C by the cross-validated area under the curve on `tuned`, fits y."""
    solver = {0.0: "newton-cg", 1.0: "liblinear"}.get(l1_ratio, "saga")
    common: dict[str, Any] = {"solver": solver, "tol": 1e-2, "max_iter": 1000, "random_state": seed}
    found = LogisticRegressionCV(
        Cs=grid, l1_ratios=(l1_ratio,), cv=5, scoring="roc_auc", use_legacy_attributes=False, **common
    ).fit(x, tuned)
    if tuned is y:
        return _linear(found)
    return _linear(LogisticRegression(C=found.C_, l1_ratio=l1_ratio, **common).fit(x, y))


def _ridge(x: X, y: Y, tuned: Y, is_class: bool, seed: int, trees: int) -> Model:
    if is_class:
        return _logistic(x, y, tuned, seed, np.logspace(-4, 0, 5), 0.0)
    alpha = RidgeCV(np.logspace(1, 5, 9), gcv_mode="eigen").fit(x, tuned).alpha_
    return _linear(Ridge(alpha).fit(x, y))


def _lasso(x: X, y: Y, tuned: Y, is_class: bool, seed: int, trees: int) -> Model:
    if is_class:
        return _logistic(x, y, tuned, seed, _penalties(x, y), 1.0)
    common: dict[str, Any] = {"tol": 1e-3, "max_iter": 10_000}
    found = LassoCV(alphas=30, eps=0.01, cv=5, **common).fit(x, tuned)
    return _linear(found if tuned is y else Lasso(found.alpha_, **common).fit(x, y))


def _elastic_net(x: X, y: Y, tuned: Y, is_class: bool, seed: int, trees: int) -> Model:
    if is_class:
        return _logistic(x, y, tuned, seed, 2 * _penalties(x, y), 0.5)
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
