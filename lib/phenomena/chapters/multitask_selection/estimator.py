"""Scikit-learn estimators for several tasks, regression and classification, that select their features together."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar, no_type_check

import numpy as np
from jaxtyping import Bool, Float
from scipy.sparse import issparse
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.metrics import accuracy_score, r2_score
from sklearn.utils.validation import check_is_fitted, validate_data

from phenomena.chapters.multitask_selection.cross_validation import cross_validate
from phenomena.chapters.multitask_selection.problem import (
    WEIGHTS,
    Problem,
    grid,
    lambda_max,
    make_problem,
    norms,
    path,
)
from phenomena.chapters.multitask_selection.tasks import (
    check_columns,
    check_features,
    check_number,
    check_tasks,
    columns,
    fit_scaler,
    task_places,
)

Model = TypeVar("Model", bound="MixedMultiTask")  # `Self`, which beartype does not resolve in a single method
Tasks = list[Float[np.ndarray, "_ p"]]
Targets = list[Float[np.ndarray, " _"]]


class MixedMultiTask(RegressorMixin, BaseEstimator):
    """Linear models of several tasks, regression and classification, that select their features together.

    Minimises the objective of `Problem` plus lam times the sum of the features' norms over tasks. `fit`, `predict`
    and `score` take a list with one array or data frame for each task, of any numbers of rows, or a mapping from the
    tasks' names to them, or a single one for a single task. The features are the same in all tasks, and in the same
    order: names of columns are checked. Rows of features and target go together by position; an index is ignored, as
    in scikit-learn. A class may be of text, numbers or truth values; of two classes the second in their sorted order
    is the positive one. Features and regression targets are standardised on the training rows (`standardise`);
    intercepts are never penalised.

    lam: above 0.
    kinds: "regression" or "classification", one word for all tasks, or one for each, as a list or by name.
    weights: of the logistic and the squared loss.
    alpha, beta: penalties on the distance to the mean over tasks and on the size of coefficients.
    tol: duality gap over objective.
    Fitted: coef_ (t, p) and intercept_ (t,) for features in their original units; feature_norms_ (p,), norms over tasks
    in standard units; selected_, bool (p,); certificate_; classes_, a list (None for regression); task_names_, None
    without names; n_features_in_, and feature_names_in_ where columns have names of text.

    >>> import pandas as pd
    >>> from sklearn.datasets import load_diabetes
    >>> data = load_diabetes(as_frame=True, scaled=False)
    >>> people, high = data.data.drop(columns="bmi"), data.data["bmi"] > 27
    >>> kinds = {"progression": "regression", "overweight": "classification"}
    >>> model = MixedMultiTask(lam=0.1, kinds=kinds)
    >>> x, y = {name: people for name in kinds}, {"progression": data.target, "overweight": high}
    >>> model.fit(x, y).feature_names_in_[model.selected_].tolist()
    ['sex', 'bp', 's3', 's5', 's6']
    >>> pd.DataFrame(model.coef_, list(model.task_names_), people.columns).shape
    (2, 9)
    >>> labels = model.predict(x)["overweight"]
    >>> labels.dtype, len(labels), model.classes_[1].tolist()
    (dtype('bool'), 442, [False, True])
    """

    lam: float
    kinds: str | Sequence[str] | Mapping[Any, str]
    weights: tuple[float, float]
    alpha: float
    beta: float
    intercept: bool
    standardise: bool
    tol: float

    @no_type_check  # scikit-learn demands that constructors accept anything; `fit` refuses it
    def __init__(  # noqa: D107
        self,
        lam: float = 0.1,
        kinds: str | Sequence[str] | Mapping[Any, str] = "regression",
        weights: tuple[float, float] = WEIGHTS,
        alpha: float = 0.0,
        beta: float = 0.0,
        intercept: bool = True,
        standardise: bool = True,
        tol: float = 1e-6,
    ) -> None:
        self.lam = lam
        self.kinds = kinds
        self.weights = weights
        self.alpha = alpha
        self.beta = beta
        self.intercept = intercept
        self.standardise = standardise
        self.tol = tol

    def fit(self: Model, X: Any, y: Any) -> Model:
        """X: features (n_t, p) and y: targets (n_t,) of the tasks, both as a list or by name, or one of each.

        Raises `ValueError` as `check_tasks` does, for names of targets that are not those of the features, and for
        settings out of their ranges.
        """
        self._check_settings()
        self._several, self._columns = _is_several(X), list[Any]()
        self.task_names_ = list(X) if _by_name(X) else None
        if self._several:
            X, y, kinds = (self._in_order(v, what) for v, what in ((X, "X"), (y, "y"), (self.kinds, "kinds")))
            xs, ys, classes = check_tasks(X, y, kinds, self.task_names_)
            self._columns = columns(X[0])
            validate_data(self, X[0], skip_check_array=True)  # notes number and names of the features
        else:
            X, y = validate_data(self, X, y, dtype=float)
            xs, ys, classes = check_tasks([X], [y], self.kinds)
        self.classes_ = [np.unique(v) if c else None for v, c in zip(ys, classes, strict=True)]
        signs = [
            v if known is None else np.where(v == known[1], 1.0, -1.0)
            for v, known in zip(ys, self.classes_, strict=True)
        ]
        scaler = fit_scaler(xs, signs, classes, self.standardise, self.standardise)
        problem = make_problem(scaler.x(xs), scaler.y(signs), classes, **self._settings())
        lam = self._choose(xs, signs, classes, problem)
        # start where nothing is selected: a few warm starts cost less than one cold one
        top = max(lambda_max(problem), lam)
        *_, found = path(problem, grid(top, 10, lam / top) if lam < top else np.array([lam]), self.tol)
        self.lam_ = lam
        self.coef_ = found.w / scaler.x_scale * scaler.y_scale[:, None]
        self.intercept_ = found.b * scaler.y_scale + scaler.y_mean - (self.coef_ * scaler.x_mean).sum(1)
        self.feature_norms_ = norms(found.w)
        self.selected_ = self.feature_norms_ > 0
        self.certificate_ = found.certificate
        return self

    def predict_score(self, X: Any) -> Any:
        """Scores x.w + b: a regression task's prediction; above zero for the second class of a classification task.

        Returns what `fit` was given: a list, a mapping by task, or one array. Raises `ValueError` for other tasks,
        other columns, and values that are not finite.
        """
        check_is_fitted(self, "coef_")
        if not self._several:
            return validate_data(self, X, reset=False, dtype=float) @ self.coef_[0] + self.intercept_[0]
        if not _is_several(X) or len(X) != len(self.coef_):
            raise ValueError(f"{len(X)} arrays: one (rows, {self.n_features_in_}) for each of {len(self.coef_)} tasks")
        found = []
        tasks = zip(self._in_order(X, "X"), task_places(len(X), self.task_names_), strict=True)
        for (x, place), w, b in zip(tasks, self.coef_, self.intercept_, strict=True):
            rows = check_features(x, place)
            check_columns(x, self._columns, place, "the fitted tasks")
            if rows.shape[1] != self.n_features_in_:
                raise ValueError(f"{place} has {rows.shape[1]} features, fitted were {self.n_features_in_}")
            validate_data(self, x, reset=False, skip_check_array=True)  # warns of names here or in `fit` alone
            found.append(rows @ w + b)
        return self._as_given(found)

    def predict(self, X: Any) -> Any:
        """Values for regression tasks, class labels for classification tasks."""
        scores = self.predict_score(X)
        found = self._in_order(scores, "X") if self._several else [scores]
        return self._as_given(
            [z if known is None else known[(z > 0).astype(int)] for z, known in zip(found, self.classes_, strict=True)]
        )

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Mean over tasks of R^2 (regression) and accuracy (classification)."""
        if sample_weight is not None:
            raise ValueError("sample_weight is not supported")
        found = self.predict(X)
        given, found = (self._in_order(v, "y") for v in (y, found)) if self._several else ([y], [found])
        if len(given) != len(found):
            raise ValueError(f"{len(given)} targets for {len(found)} tasks")
        tasks = zip(given, found, self.classes_, strict=True)
        return float(np.mean([(r2_score if k is None else accuracy_score)(a, b) for a, b, k in tasks]))

    def _in_order(self, values: Any, what: str) -> Any:
        """A list of what is given by the tasks' names, in the order of `fit`; kinds may be a word or a list."""
        names = self.task_names_
        if not _by_name(values):
            if names is not None and what != "kinds":
                raise ValueError(f"{what} is a {type(values).__name__}: it must have the tasks by name, {names}")
            return values
        if names is None or set(values) != set(names):
            wanted = "a list, since the tasks have no names" if names is None else f"for the tasks {names}"
            raise ValueError(f"{what} is for the tasks {list(values)}: it must be {wanted}")
        return [values[name] for name in names]

    def _as_given(self, found: list[Any]) -> Any:
        """One for each task, as a list, by name, or alone: as `fit` was given its tasks."""
        if self.task_names_ is not None:
            return dict(zip(self.task_names_, found, strict=True))
        return found if self._several else found[0]

    def _check_settings(self) -> None:
        check_number("lam", self.lam)
        check_number("tol", self.tol)
        check_number("alpha", self.alpha, reached=True)
        check_number("beta", self.beta, reached=True)
        if not isinstance(self.weights, Sequence) or isinstance(self.weights, str) or len(self.weights) != 2:
            raise ValueError(f"weights is {self.weights!r}: of the logistic and of the squared loss, two numbers")
        for weight in self.weights:
            check_number("weights", weight)
        for name in ("intercept", "standardise"):
            if not isinstance(getattr(self, name), bool | np.bool_):
                raise ValueError(f"{name} is {getattr(self, name)!r}: it must be True or False")

    def _settings(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("weights", "alpha", "beta", "intercept")}

    def _choose(self, xs: Tasks, ys: Targets, classes: Bool[np.ndarray, " t"], problem: Problem) -> float:
        return float(self.lam)


class MixedMultiTaskCV(MixedMultiTask):
    """`MixedMultiTask` with lambda by cross-validation (`cross_validate`). Also fitted: lam_ and cv_.

    n_lambdas: how many, from lambda_max down to `lambda_min_ratio` times it.
    folds, patience, classification_metric: as in `cross_validate`.
    seed: of the folds.
    The folds' paths are solved to a gap of 1e-4, which moves no choice that we saw, the final fit to `tol`.

    >>> from sklearn.datasets import load_diabetes
    >>> data = load_diabetes(as_frame=True, scaled=False)
    >>> people, high = data.data.drop(columns="bmi"), data.data["bmi"] > 27
    >>> model = MixedMultiTaskCV(["regression", "classification"], n_lambdas=20, folds=3)
    >>> bool(model.fit([people, people], [data.target, high]).lam_ < model.cv_.lambdas[0])
    True
    """

    n_lambdas: int
    lambda_min_ratio: float
    folds: int
    seed: int
    patience: int | None
    classification_metric: str

    @no_type_check  # as above
    def __init__(  # noqa: D107
        self,
        kinds: str | Sequence[str] | Mapping[Any, str] = "regression",
        weights: tuple[float, float] = WEIGHTS,
        alpha: float = 0.0,
        beta: float = 0.0,
        intercept: bool = True,
        standardise: bool = True,
        tol: float = 1e-6,
        n_lambdas: int = 100,
        lambda_min_ratio: float = 0.01,
        folds: int = 5,
        seed: int = 0,
        patience: int | None = None,
        classification_metric: str = "auc",
    ) -> None:
        super().__init__(0.1, kinds, weights, alpha, beta, intercept, standardise, tol)
        self.n_lambdas = n_lambdas
        self.lambda_min_ratio = lambda_min_ratio
        self.folds = folds
        self.seed = seed
        self.patience = patience
        self.classification_metric = classification_metric

    def _check_settings(self) -> None:
        super()._check_settings()
        check_number("n_lambdas", self.n_lambdas, 1, reached=True, whole=True)
        check_number("folds", self.folds, 2, reached=True, whole=True)
        check_number("lambda_min_ratio", self.lambda_min_ratio)
        if self.lambda_min_ratio > 1:
            raise ValueError(f"lambda_min_ratio is {self.lambda_min_ratio}: it must be a fraction up to 1")
        if self.patience is not None:
            check_number("patience", self.patience, 1, reached=True, whole=True)

    def _choose(self, xs: Tasks, ys: Targets, classes: Bool[np.ndarray, " t"], problem: Problem) -> float:
        lambdas = grid(lambda_max(problem), self.n_lambdas, self.lambda_min_ratio)
        both = (self.standardise, self.standardise)
        self.cv_ = cross_validate(
            xs,
            ys,
            classes,
            lambdas,
            self.folds,
            self.seed,
            max(self.tol, 1e-4),
            both,
            self.patience,
            self.classification_metric,
            **self._settings(),
        )
        return self.cv_.best


def _is_several(X: Any) -> bool:
    """Whether there are tasks: a mapping, or a list or tuple of things with rows and columns."""
    return _by_name(X) or (isinstance(X, list | tuple) and (not X or np.ndim(X[0]) == 2))


def _by_name(values: Any) -> bool:
    """Whether it is a mapping from tasks; of scipy's sparse matrices one is a dictionary."""
    return isinstance(values, Mapping) and not issparse(values)
