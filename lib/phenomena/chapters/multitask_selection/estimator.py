"""Scikit-learn estimators for several tasks, regression and classification, that select their features together."""

from collections.abc import Sequence
from typing import Any, TypeVar, no_type_check

import numpy as np
from jaxtyping import Bool, Float
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
from phenomena.chapters.multitask_selection.tasks import check_tasks, fit_scaler

Model = TypeVar("Model", bound="MixedMultiTask")  # `Self`, which beartype does not resolve in a single method
Tasks = list[Float[np.ndarray, "_ p"]]
Targets = list[Float[np.ndarray, " _"]]


class MixedMultiTask(RegressorMixin, BaseEstimator):
    """Linear models of several tasks, regression and classification, that select their features together.

    Minimises the objective of `Problem` plus lam times the sum of the features' norms over tasks. `fit`, `predict`
    and `score` take a list with one array for each task, of any numbers of rows, or one array for a single task.
    Features and regression targets are standardised on the training rows (`standardise`); intercepts are never
    penalised.

    lam: above 0.
    kinds: as in `check_tasks`.
    weights: of the logistic and the squared loss.
    alpha, beta: penalties on the distance to the mean over tasks and on the size of coefficients.
    tol: duality gap over objective.
    Fitted: coef_ (t, p) and intercept_ (t,) for features in their original units; feature_norms_ (p,), norms over tasks
    in standard units; selected_, bool (p,); certificate_; classes_, a list (None for regression).
    """

    lam: float
    kinds: str | Sequence[str]
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
        kinds: str | Sequence[str] = "regression",
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
        """X: a list of (n_t, p) and y: a list of (n_t,), or one of each. Raises `ValueError` as `check_tasks` does."""
        self._several = _is_several(X)
        if not self._several:
            X, y = validate_data(self, X, y, y_numeric=self.kinds == "regression", dtype=float)
            X, y = [X], [y]
        xs, ys, classes = check_tasks(X, y, self.kinds)
        self.n_features_in_ = xs[0].shape[1]
        self._columns = list(getattr(X[0], "columns", []))
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
        """Scores x.w + b: a regression task's prediction; above zero for the second class of a classification task."""
        check_is_fitted(self)
        if not self._several:
            X = [validate_data(self, X, reset=False, dtype=float)]
        elif not _is_several(X) or len(X) != len(self.coef_):
            raise ValueError(f"{len(X)} arrays: one (rows, {self.n_features_in_}) for each of {len(self.coef_)} tasks")
        for i, x in enumerate(X):
            if np.shape(x)[1] != self.n_features_in_:
                raise ValueError(f"task {i} has {np.shape(x)[1]} features, fitted were {self.n_features_in_}")
            if self._several and list(getattr(x, "columns", self._columns)) != self._columns:
                raise ValueError(f"task {i} has the columns {list(x.columns)}, fitted were {self._columns}")
        found = [np.asarray(x, float) @ w + b for x, w, b in zip(X, self.coef_, self.intercept_, strict=True)]
        return found if self._several else found[0]

    def predict(self, X: Any) -> Any:
        """Values for regression tasks, class labels for classification tasks."""
        found = self.predict_score(X)
        parts = found if self._several else [found]
        labels = [
            z if known is None else known[(z > 0).astype(int)] for z, known in zip(parts, self.classes_, strict=True)
        ]
        return labels if self._several else labels[0]

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Mean over tasks of R^2 (regression) and accuracy (classification)."""
        if sample_weight is not None:
            raise ValueError("sample_weight is not supported")
        found = self.predict(X)
        pairs = zip(y, found, self.classes_, strict=True) if self._several else [(y, found, self.classes_[0])]
        return float(np.mean([(r2_score if k is None else accuracy_score)(a, b) for a, b, k in pairs]))

    def _settings(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("weights", "alpha", "beta", "intercept")}

    def _choose(self, xs: Tasks, ys: Targets, classes: Bool[np.ndarray, " t"], problem: Problem) -> float:
        if not self.lam > 0:
            raise ValueError(f"lam is {self.lam}: it must be above 0")
        return float(self.lam)


class MixedMultiTaskCV(MixedMultiTask):
    """`MixedMultiTask` with lambda by cross-validation (`cross_validate`). Also fitted: lam_ and cv_.

    n_lambdas: how many, from lambda_max down to `lambda_min_ratio` times it.
    folds, patience, classification_metric: as in `cross_validate`.
    seed: of the folds.
    The folds' paths are solved to a gap of 1e-3, which moves no choice that we saw, the final fit to `tol`.
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
        kinds: str | Sequence[str] = "regression",
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
            max(self.tol, float(__import__("os").environ.get("CVT", "1e-4"))),
            both,
            self.patience,
            self.classification_metric,
            **self._settings(),
        )
        return self.cv_.best


def _is_several(X: Any) -> bool:
    """Whether it is a list of tasks: a list or tuple of things with rows and columns."""
    return isinstance(X, list | tuple) and len(X) > 0 and np.ndim(X[0]) == 2
