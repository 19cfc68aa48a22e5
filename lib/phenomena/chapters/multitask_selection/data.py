"""Simulated and medical tasks.

The simulation follows the official scripts of Cao et al. 2024 (MTLComb, arXiv 2405.09886) where not stated otherwise.
Letters as in `problem`.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from numpy.random import Generator
from sklearn.datasets import load_breast_cancer, load_diabetes

# --- simulated tasks ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TaskData:
    """Training and test rows of t tasks with their true coefficients w.

    y, y_test: labels are -1 and 1.
    classes: true for classification.
    """

    x: list[Float[np.ndarray, "_ p"]]
    y: list[Float[np.ndarray, " _"]]
    x_test: list[Float[np.ndarray, "_ p"]]
    y_test: list[Float[np.ndarray, " _"]]
    classes: Bool[np.ndarray, " t"]
    w: Float[np.ndarray, "t p"]

    @property
    def kinds(self) -> list[str]:
        """One word for each task, as the estimators take it."""
        return ["classification" if c else "regression" for c in self.classes]


def simulate(
    rows: int,
    features: int,
    classification: int,
    regression: int,
    rng: Generator,
    *,
    active: int = 50,
    noise_std: float = 0.5,
    minority: float = 0.5,
    separate_features: bool = False,
    scale: float = 1.0,
) -> TaskData:
    """Gaussian features, y = x.w + noise; a classification task sees only whether y is above its threshold.

    w_tj = +-(1 + g), g normal, drawn for each task, for the `active` first features, which are the same in all tasks.
    There are as many test rows as training rows.

    minority: fraction of rows in the rarer class, exact, since the threshold is the sample's quantile 1 - minority.
    separate_features: the first half of the active features acts in the classification tasks only, the second half in
    the regression tasks only.
    scale: of the regression targets.
    Raises `ValueError` when more features are active than there are, or minority is not in (0, 0.5].
    """
    if not 1 <= active <= features:
        raise ValueError(f"{active} active features of {features}: the number must be 1 to {features}")
    if not 0 < minority <= 0.5:
        raise ValueError(f"minority {minority}: the fraction must be above 0, at most 0.5")
    classes = np.arange(classification + regression) < classification
    w = np.sign(rng.standard_normal((len(classes), features))) * (1 + rng.standard_normal((len(classes), features)))
    w[:, active:] = 0
    if separate_features:
        w[classes, active // 2 :] = 0
        w[~classes, : active // 2] = 0
    parts: list[tuple[list[np.ndarray], list[np.ndarray]]] = []
    for _ in range(2):
        xs = [rng.standard_normal((rows, features)) for _ in classes]
        ys = [x @ v + noise_std * rng.standard_normal(rows) for x, v in zip(xs, w, strict=True)]
        parts.append((xs, [_labels(y, minority) if c else scale * y for y, c in zip(ys, classes, strict=True)]))
    return TaskData(*parts[0], *parts[1], classes=classes, w=w)


def _labels(y: Float[np.ndarray, " n"], minority: float) -> Float[np.ndarray, " n"]:
    """1 for a fraction `minority` of the rows, those of largest values, else -1; both classes have at least one row."""
    count = min(max(round(minority * len(y)), 1), len(y) - 1)
    return np.where(y >= np.sort(y)[-count], 1.0, -1.0)


def binarised(data: TaskData, minority: float = 0.5) -> list[Float[np.ndarray, " _"]]:
    """Training targets with the regression tasks cut into two classes at their quantile 1 - minority."""
    return [y if c else _labels(y, minority) for y, c in zip(data.y, data.classes, strict=True)]


# --- medical tasks ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class MedicalData:
    """Tasks on the same people, with the names of features and tasks; labels are -1 and 1."""

    x: Float[np.ndarray, "n p"]
    y: Float[np.ndarray, "n t"]
    features: list[str]
    tasks: list[str]
    classes: Bool[np.ndarray, " t"]


def diabetes() -> MedicalData:
    """442 people of Efron et al. 2004: progression, whether above its upper quartile, sex and bmi, from the rest."""
    raw = load_diabetes(scaled=False)
    column = dict(zip(raw.feature_names, raw.data.T, strict=True))
    high = np.where(raw.target > np.quantile(raw.target, 0.75), 1.0, -1.0)
    sex = np.where(column["sex"] > column["sex"].min(), 1.0, -1.0)
    names = [name for name in raw.feature_names if name not in ("sex", "bmi")]
    x = np.stack([column[name] for name in names], 1)
    y = np.stack([raw.target, column["bmi"], high, sex], 1)
    tasks = ["progression", "bmi", "progression high", "sex"]
    return MedicalData(x, y, names, tasks, np.array([False, False, True, True]))


def breast_cancer() -> MedicalData:
    """569 tumours: malignancy, and the worst radius, texture and concavity, from the means and errors of ten measures.

    The label is 1 for malignant. The worst values of three measures are targets, the other worst values are unused.
    """
    raw = load_breast_cancer()
    column = dict(zip(raw.feature_names, raw.data.T, strict=True))
    names = [str(name) for name in raw.feature_names if not name.startswith("worst")]
    targets = ["worst radius", "worst texture", "worst concavity"]
    x = np.stack([column[name] for name in names], 1)
    y = np.stack([*(column[name] for name in targets), np.where(raw.target == 0, 1.0, -1.0)], 1)
    return MedicalData(x, y, names, [*targets, "malignant"], np.array([False, False, False, True]))


def split(data: MedicalData, test: int, rng: Generator) -> TaskData:
    """The same random people as test rows of every task, the others for training; w is unknown (nan).

    If the tasks had different test rows, a joint model would be trained on outcomes of people it is tested on.
    """
    order = rng.permutation(len(data.x))
    tests, trains = order[:test], order[test:]
    return TaskData(
        x=[data.x[trains] for _ in data.tasks],
        y=[target[trains] for target in data.y.T],
        x_test=[data.x[tests] for _ in data.tasks],
        y_test=[target[tests] for target in data.y.T],
        classes=data.classes,
        w=np.full((len(data.tasks), data.x.shape[1]), np.nan),
    )
