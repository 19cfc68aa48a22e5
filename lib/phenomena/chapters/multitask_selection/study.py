"""The chapter on joint feature selection: simulated tasks, baselines, scores, medical tasks.

Simulation and scores follow the official scripts of Cao et al. 2024 (MTLComb, arXiv 2405.09886) where not said
otherwise. Letters as in `mixed_multitask`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.random import Generator
from scipy.special import expit
from scipy.stats import norm
from sklearn.datasets import load_breast_cancer, load_diabetes
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

from phenomena.chapters.multitask_selection.mixed_multitask import (
    Array,
    Mask,
    MixedMultiTaskCV,
    fit_scaler,
    lambda_max,
    make_problem,
)

# --- simulated tasks ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Draw:
    """Training and test rows of t tasks with their true coefficients.

    x, x_test: float (n, p) a task; y, y_test: float (n,), labels -1 and 1; classes: bool (t,), true for
    classification; w: float (t, p), the true coefficients.
    """

    x: list[Array]
    y: list[Array]
    x_test: list[Array]
    y_test: list[Array]
    classes: Mask
    w: Array

    @property
    def kinds(self) -> list[str]:
        """One word a task, as the estimators take it."""
        return ["classification" if c else "regression" for c in self.classes]


def simulate(
    rows: int,
    features: int,
    classification: int,
    regression: int,
    rng: Generator,
    *,
    active: int = 50,
    noise: float = 0.5,
    minority: float = 0.5,
    own: bool = False,
    scale: float = 1.0,
) -> Draw:
    """Gaussian features, y = x.w + noise; a classification task sees only whether y is above its threshold.

    w_tj = +-(1 + g), g normal, for the `active` first features, the same in all tasks, with values of their own; the
    threshold is the quantile 1 - minority of the rows at hand, so that shares are exact. own: the first half of the
    active features is for the classification tasks alone, the second for the regression tasks. scale: of the
    regression targets. Test rows are as many as training rows. Raises `ValueError` when more features are active than
    there are, or minority is not in (0, 0.5].
    """
    if not 1 <= active <= features:
        raise ValueError(f"{active} active features of {features}: 1 to {features} are accepted")
    if not 0 < minority <= 0.5:
        raise ValueError(f"minority {minority}: a share above 0, at most 0.5, is accepted")
    classes = np.arange(classification + regression) < classification
    w = np.sign(rng.standard_normal((len(classes), features))) * (1 + rng.standard_normal((len(classes), features)))
    w[:, active:] = 0
    if own:
        w[classes, active // 2 :] = 0
        w[~classes, : active // 2] = 0
    parts: list[tuple[list[Array], list[Array]]] = []
    for _ in range(2):
        xs = [rng.standard_normal((rows, features)) for _ in classes]
        ys = [x @ v + noise * rng.standard_normal(rows) for x, v in zip(xs, w, strict=True)]
        parts.append((xs, [_labels(y, minority) if c else scale * y for y, c in zip(ys, classes, strict=True)]))
    return Draw(*parts[0], *parts[1], classes=classes, w=w)


def _labels(y: Array, minority: float) -> Array:
    """1 for the share `minority` of the largest values, else -1; both classes have a row at least."""
    count = min(max(round(minority * len(y)), 1), len(y) - 1)
    return np.where(y >= np.sort(y)[-count], 1.0, -1.0)


def binarised(draw: Draw, minority: float = 0.5) -> list[Array]:
    """Training targets with the regression tasks cut into two classes at their quantile 1 - minority."""
    return [y if c else _labels(y, minority) for y, c in zip(draw.y, draw.classes, strict=True)]


# --- where features enter -----------------------------------------------------------------------------------------


def entry_ratio(minority: float = 0.5) -> float:
    """The lambda at which a classification task's features enter, over that of a regression task, with weights 2, 1/2.

    Both losses then have the gradient -x_j.y / n at zero. Let s be a Gaussian score with standard deviation 1 and
    y = 1 where it is above the quantile c of 1 - minority, else -1. With Stein's lemma, E[x_j y] = E[x_j s] E[s y] and
    E[s y] = 2 phi(c): sqrt(2 / pi) = 0.80 for equal classes, less for unequal ones. A standardised regression target
    has E[s s] = 1 in its place.
    """
    return float(2 * norm.pdf(norm.ppf(1 - minority)))


def entry_lambdas(draw: Draw, weights: tuple[float, float]) -> tuple[float, float]:
    """Lambda at which the first feature enters, for the classification and for the regression tasks alone."""
    return _first_lambda(draw, weights, draw.classes), _first_lambda(draw, weights, ~draw.classes)


def _first_lambda(draw: Draw, weights: tuple[float, float], chosen: Mask) -> float:
    xs, ys = ([v for v, c in zip(values, chosen, strict=True) if c] for values in (draw.x, draw.y))
    scaler = fit_scaler(xs, ys, draw.classes[chosen], features=True, targets=True)
    return lambda_max(make_problem(scaler.x(xs), scaler.y(ys), draw.classes[chosen], weights))


# --- scores -------------------------------------------------------------------------------------------------------


def explained(score: Array, target: Array, is_class: bool) -> float:
    """Share of the target explained by a score, 0 to 1, blind to the score's scale and sign.

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


def _log_likelihoods(score: Array, positive: Mask) -> tuple[float, float]:
    """Of the logistic regression of labels on one score, by Newton's method, and of the constant."""
    design = np.stack([np.ones_like(score), score], 1)
    share = positive.mean()
    b = np.array([np.log(share / (1 - share)), 0.0])
    start = -np.logaddexp(0, np.where(positive, -1, 1) * (design @ b)).sum()
    best = start
    for _ in range(30):  # classes that a threshold separates have no finite optimum: the likelihood then nears 0
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


def selected_right(strength: Array, active: Mask) -> float:
    """Share of the truly active features among as many of the strongest; features of strength zero do not count.

    strength: float (p,); active: bool (p,).
    """
    order = np.argsort(-strength, kind="stable")[: int(active.sum())]
    return float((active[order] & (strength[order] > 0)).sum() / active.sum())


@dataclass(frozen=True)
class Fit:
    """What a method gave: scores of the test rows a task, and features' strength, float (p,), if it has any."""

    scores: list[Array]
    strength: Array | None

    def row(self, draw: Draw) -> dict[str, float]:
        """Explained share over all, classification, regression tasks; selection accuracy (nan if it has none)."""
        pairs = zip(self.scores, draw.y_test, draw.classes, strict=True)
        r2 = np.array([explained(z, y, bool(c)) for z, y, c in pairs])
        active = (draw.w != 0).any(0)
        return {
            "all": float(r2.mean()),
            "classification": float(r2[draw.classes].mean()),
            "regression": float(r2[~draw.classes].mean()),
            "selection": np.nan if self.strength is None else selected_right(self.strength, active),
        }


# --- joint models -------------------------------------------------------------------------------------------------


def joint(draw: Draw, targets: list[Array] | None = None, **settings: Any) -> tuple[Fit, MixedMultiTaskCV]:
    """All tasks together, lambda by cross-validation. targets: other training targets, all of them labels (MTLBin)."""
    kinds = draw.kinds if targets is None else "classification"
    model = MixedMultiTaskCV(kinds, **settings).fit(draw.x, draw.y if targets is None else targets)
    return Fit(model.predict_score(draw.x_test), model.strength_), model


# --- each task by itself ------------------------------------------------------------------------------------------

Model = tuple[Callable[[Array], Array], Array | None]  # features -> scores; strength of the features


def separate(
    method: str,
    draw: Draw,
    seed: int,
    trees: int = 100,
    tuned_on: list[Array] | None = None,
    trained_on: list[Array] | None = None,
) -> Fit:
    """Every task by itself with one of `METHODS`, on standardised features and its own training labels.

    A feature's strength is its norm over tasks of coefficients that are first scaled to length one in each task.
    tuned_on, trained_on: other targets for the choice of the penalty, or for all of the training; with the *test*
    targets that is what the official simulation script does. Raises `ValueError` for an unknown method.
    """
    if method not in METHODS:
        raise ValueError(f"method {method!r} is not known: one of {', '.join(METHODS)}")
    trained = trained_on or draw.y
    tuned = tuned_on or trained
    scores, strengths = [], []
    for i, is_class in enumerate(draw.classes):
        scaler = StandardScaler().fit(draw.x[i])
        x = scaler.transform(draw.x[i])
        predict, strength = METHODS[method](x, trained[i], tuned[i], bool(is_class), seed, trees)
        scores.append(predict(scaler.transform(draw.x_test[i])))
        strengths.append(strength)
    if any(s is None for s in strengths):
        return Fit(scores, None)
    unit = [np.abs(s) / max(float(np.linalg.norm(s)), 1e-300) for s in strengths if s is not None]
    return Fit(scores, np.linalg.norm(unit, axis=0))


def _linear(model: Any) -> Model:
    coef = np.ravel(model.coef_)
    return (lambda x: x @ coef), coef


def _penalties(x: Array, y: Array, count: int = 4, ratio: float = 0.05) -> Array:
    """C of scikit-learn's logistic regression for lasso penalties from where nothing is selected to `ratio` of it."""
    largest = np.abs(x.T @ (y - y.mean())).max() / 2
    return np.logspace(0, -np.log10(ratio), count + 1)[1:] / largest


def _logistic(x: Array, y: Array, tuned: Array, seed: int, grid: Array, ratio: float) -> Model:
    """Cross-validated area under the curve chooses C on `tuned`; fitted on y. ratio: of the absolute penalty."""
    solver = {0.0: "newton-cg", 1.0: "liblinear"}.get(ratio, "saga")
    common: dict[str, Any] = {"solver": solver, "tol": 1e-2, "max_iter": 1000, "random_state": seed}
    found = LogisticRegressionCV(
        Cs=grid, l1_ratios=(ratio,), cv=5, scoring="roc_auc", use_legacy_attributes=False, **common
    ).fit(x, tuned)
    if tuned is y:
        return _linear(found)
    return _linear(LogisticRegression(C=found.C_, l1_ratio=ratio, **common).fit(x, y))


def _ridge(x: Array, y: Array, tuned: Array, is_class: bool, seed: int, trees: int) -> Model:
    if is_class:
        return _logistic(x, y, tuned, seed, np.logspace(-4, 0, 5), 0.0)
    alpha = RidgeCV(np.logspace(1, 5, 9), gcv_mode="eigen").fit(x, tuned).alpha_
    return _linear(Ridge(alpha).fit(x, y))


def _lasso(x: Array, y: Array, tuned: Array, is_class: bool, seed: int, trees: int) -> Model:
    if is_class:
        return _logistic(x, y, tuned, seed, _penalties(x, y), 1.0)
    common: dict[str, Any] = {"tol": 1e-3, "max_iter": 10_000}
    found = LassoCV(alphas=30, eps=0.01, cv=5, **common).fit(x, tuned)
    return _linear(found if tuned is y else Lasso(found.alpha_, **common).fit(x, y))


def _elastic_net(x: Array, y: Array, tuned: Array, is_class: bool, seed: int, trees: int) -> Model:
    if is_class:
        return _logistic(x, y, tuned, seed, 2 * _penalties(x, y), 0.5)
    common: dict[str, Any] = {"l1_ratio": 0.5, "tol": 1e-3, "max_iter": 10_000}
    found = ElasticNetCV(alphas=30, eps=0.01, cv=5, **common).fit(x, tuned)
    return _linear(found if tuned is y else ElasticNet(found.alpha_, **common).fit(x, y))


def _forest(x: Array, y: Array, tuned: Array, is_class: bool, seed: int, trees: int) -> Model:
    if is_class:
        chooser = RandomForestClassifier(trees, random_state=seed).fit(x, y)
        return (lambda x: chooser.predict_proba(x)[:, 1]), chooser.feature_importances_
    # a tenth of the features a split, between the usual third and square root: a third costs three times as much
    model = RandomForestRegressor(trees, max_features=0.1, random_state=seed).fit(x, y)
    return model.predict, model.feature_importances_


def _svm(kernel: str) -> Callable[..., Model]:
    def fit(x: Array, y: Array, tuned: Array, is_class: bool, seed: int, trees: int) -> Model:
        # values in standard units: C = 1 and epsilon = 0.1 are meant for those
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


# --- medical tasks ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Medical:
    """Tasks on the same people. x: float (n, p); y: float (n, t), labels -1 and 1; names of columns and tasks."""

    x: Array
    y: Array
    features: list[str]
    tasks: list[str]
    classes: Mask


def diabetes() -> Medical:
    """442 people of Efron et al. 2004: progression, whether above its upper quartile, sex and bmi, from the rest."""
    raw = load_diabetes(scaled=False)
    column = dict(zip(raw.feature_names, raw.data.T, strict=True))
    high = np.where(raw.target > np.quantile(raw.target, 0.75), 1.0, -1.0)
    sex = np.where(column["sex"] > column["sex"].min(), 1.0, -1.0)
    names = [name for name in raw.feature_names if name not in ("sex", "bmi")]
    x = np.stack([column[name] for name in names], 1)
    y = np.stack([raw.target, column["bmi"], high, sex], 1)
    tasks = ["progression", "bmi", "progression high", "sex"]
    return Medical(x, y, names, tasks, np.array([False, False, True, True]))


def breast_cancer() -> Medical:
    """569 tumours: malignancy, and the worst radius, texture and concavity, from the means and errors of ten measures.

    Malignancy is 1 for malignant; the worst values of the chosen measures are targets, all other worst values unused.
    """
    raw = load_breast_cancer()
    column = dict(zip(raw.feature_names, raw.data.T, strict=True))
    names = [str(name) for name in raw.feature_names if not name.startswith("worst")]
    targets = ["worst radius", "worst texture", "worst concavity"]
    x = np.stack([column[name] for name in names], 1)
    y = np.stack([*(column[name] for name in targets), np.where(raw.target == 0, 1.0, -1.0)], 1)
    return Medical(x, y, names, [*targets, "malignant"], np.array([False, False, False, True]))


def split(data: Medical, test: int, rng: Generator) -> Draw:
    """The same random people as test rows of every task, the others for training; w is unknown (nan).

    With people of its own for every task, a joint model would be trained on outcomes of those that it is tested on.
    """
    order = rng.permutation(len(data.x))
    tests, trains = order[:test], order[test:]
    return Draw(
        x=[data.x[trains] for _ in data.tasks],
        y=[target[trains] for target in data.y.T],
        x_test=[data.x[tests] for _ in data.tasks],
        y_test=[target[tests] for target in data.y.T],
        classes=data.classes,
        w=np.full((len(data.tasks), data.x.shape[1]), np.nan),
    )
