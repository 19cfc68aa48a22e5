"""Experiments of the chapter on joint feature selection, as functions that return tidy frames.

settings: of `MixedMultiTaskCV`, without the weights. weights: of the logistic and of the squared loss. Frames of scores
have the columns all, classification, regression (explained fraction, means over tasks) and selection (fraction of the
true features among as many of the most important ones).
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float
from sklearn.linear_model import MultiTaskLasso

from phenomena.chapters.multitask_selection.baselines import METHODS, separate
from phenomena.chapters.multitask_selection.data import MedicalData, TaskData, binarised, simulate, split
from phenomena.chapters.multitask_selection.estimator import MixedMultiTaskCV
from phenomena.chapters.multitask_selection.problem import (
    Problem,
    grid,
    lambda_max,
    lambdas_max,
    make_problem,
    norms,
    path,
    solve,
)
from phenomena.chapters.multitask_selection.reference import Reference
from phenomena.chapters.multitask_selection.scores import r_squared, selection_accuracy
from phenomena.chapters.multitask_selection.tasks import fit_scaler
from phenomena.science.frames import tidy

Weights = tuple[float, float]
PLAIN: Weights = (1.0, 1.0)


@dataclass(frozen=True)
class Simulation:
    """The parameters of `simulate` that a study holds fixed."""

    features: int
    active: int
    classification: int
    regression: int
    noise_std: float

    def tasks(self, seed: int, rows: int, **changed: Any) -> TaskData:
        """Tasks of one seed; the same seed gives the same tasks to every method."""
        return simulate(rows, rng=np.random.default_rng([seed, rows]), **(asdict(self) | changed))


def check_rows(
    ratios: Sequence[float], minorities: Sequence[float], features: int, side_rows: int, path_rows: int, folds: int
) -> None:
    """Raises `ValueError` where a fold would lack rows, or a class rows in a fold."""
    fewest, rarest = round(min(ratios) * features), round(min(minorities) * side_rows)
    if fewest < 2 * folds:
        raise ValueError(
            f"ratios is {ratios}: {fewest} rows with {features} features; there must be {2 * folds} (2 folds) or more"
        )
    if min(side_rows, path_rows) < 2 * folds or rarest < folds:
        raise ValueError(
            f"minorities is {minorities}: {rarest} of {side_rows} rows (side_rows) in the rarer class; "
            f"there must be {folds} (folds) or more"
        )


def distinct(values: Iterable[Any], *others: Iterable[Any]) -> list[Any]:
    """Every combination of distinct values with the others: the jobs of an experiment."""
    return list(product(dict.fromkeys(values), *others))


# --- solver -------------------------------------------------------------------------------------------------------


def standardised(data: TaskData) -> tuple[list[Float[np.ndarray, "_ p"]], list[Float[np.ndarray, " _"]]]:
    """Features and regression targets in standard units of the training rows, as the estimators take them."""
    scaler = fit_scaler(data.x, data.y, data.classes)
    return scaler.x(data.x), scaler.y(data.y)


def pose(data: TaskData, weights: Weights, alpha: float = 0.0, beta: float = 0.0) -> Problem:
    """The problem of standardised tasks."""
    return make_problem(*standardised(data), data.classes, weights, alpha, beta)


def solver_accuracy(
    data: TaskData,
    weights: Weights,
    alpha: float,
    beta: float,
    n_lambdas: int,
    lambda_min_ratio: float,
    compared: Iterable[int],
    tol: float = 1e-6,
) -> pd.DataFrame:
    """How exact solutions are along a path, and how far the readable solver's objective is at some of its places.

    compared: those places. Returns a row for each lambda (over the largest): gap over objective, stationarity,
    objective, passes, and apart, the relative difference to the readable solver (nan where not compared).
    """
    problem = pose(data, weights, alpha, beta)
    lambdas = grid(lambda_max(problem), n_lambdas, lambda_min_ratio)
    frame = pd.DataFrame(
        {"lambda": lam / lambdas[0], "gap": s.certificate.gap / s.objective,
         "stationarity": s.certificate.stationarity, "objective": s.objective, "passes": s.passes, "apart": np.nan}
        for lam, s in zip(lambdas, path(problem, lambdas, tol), strict=True)
    )  # fmt: skip
    reference = Reference(*standardised(data), data.classes, weights, alpha, beta)
    for k in compared:
        theirs = reference.objective(*reference.solve(lambdas[k]), lambdas[k])
        frame.loc[k, "apart"] = abs(theirs - frame["objective"][k]) / frame["objective"][k]
    return frame


def distance_to_scikit_learn(data: TaskData, lam: float = 0.2) -> float:
    """Largest difference of coefficients to those of `MultiTaskLasso`, for three regression tasks on the same rows."""
    x = standardised(data)[0][0]
    targets = np.stack([x @ w for w in data.w[-3:]], 1)
    targets = (targets - targets.mean(0)) / targets.std(0)
    theirs = MultiTaskLasso(alpha=lam, tol=1e-9, max_iter=100_000).fit(x, targets)
    n_tasks = targets.shape[1]
    ours = solve(make_problem([x] * n_tasks, list(targets.T), np.zeros(n_tasks, bool)), lam, tol=1e-9)
    return float(np.abs(ours.w - theirs.coef_).max())


# --- methods ------------------------------------------------------------------------------------------------------


def evaluate(
    data: TaskData, scores: Sequence[Float[np.ndarray, " _"]], importance: Float[np.ndarray, " p"] | None
) -> dict[str, float]:
    """The four scores of a method on the test rows; selection is nan without importances."""
    pairs = zip(scores, data.y_test, data.classes, strict=True)
    r2 = np.array([r_squared(z, y, bool(c)) for z, y, c in pairs])
    active = (data.w != 0).any(0)
    return {
        "all": float(r2.mean()),
        "classification": float(r2[data.classes].mean()),
        "regression": float(r2[~data.classes].mean()),
        "selection": np.nan if importance is None else selection_accuracy(importance, active),
    }


def fit_joint(
    data: TaskData, targets: list[Float[np.ndarray, " _"]] | None = None, **settings: Any
) -> MixedMultiTaskCV:
    """All tasks together, lambda by cross-validation. targets: other ones, of which all are labels (MTLBin)."""
    kinds = data.kinds if targets is None else "classification"
    return MixedMultiTaskCV(kinds, **settings).fit(data.x, data.y if targets is None else targets)


def joint(data: TaskData, targets: list[Float[np.ndarray, " _"]] | None = None, **settings: Any) -> dict[str, float]:
    """The scores of `fit_joint`."""
    model = fit_joint(data, targets, **settings)
    return evaluate(data, model.predict_score(data.x_test), model.feature_norms_)


def joint_models(
    jobs: Iterable[tuple[float, int]], simulation: Simulation, settings: Mapping[str, Any], weights: Weights
) -> pd.DataFrame:
    """MTLComb, the plain sum and MTLBin on the same tasks.

    jobs: ratio of rows to features, seed. Returns ratio, seed, method and the scores.
    """
    rows = []
    for ratio, seed in jobs:
        data = simulation.tasks(seed, round(ratio * simulation.features))
        found = {
            "MTLComb": joint(data, weights=weights, **settings),
            "plain sum": joint(data, weights=PLAIN, **settings),
            "MTLBin": joint(data, binarised(data), **{**settings, "beta": 0.0}),
        }
        rows += [{"ratio": ratio, "seed": seed, "method": name, **scores} for name, scores in found.items()]
    return pd.DataFrame(rows)


def separate_models(jobs: Iterable[tuple[float, int]], simulation: Simulation, trees: int) -> pd.DataFrame:
    """Every one of `METHODS` on the tasks of `joint_models`; jobs and columns as there."""
    rows = []
    for ratio, seed in jobs:
        data = simulation.tasks(seed, round(ratio * simulation.features))
        for name in METHODS:
            scores = evaluate(data, *separate(name, data, seed, trees))
            rows.append({"ratio": ratio, "seed": seed, "method": name, **scores})
    return pd.DataFrame(rows)


def best_separate(frame: pd.DataFrame) -> pd.DataFrame:
    """The score over all tasks of the best method, for each ratio and seed of `separate_models`."""
    return frame.groupby(["ratio", "seed"])["all"].max().reset_index()


# --- where features enter -----------------------------------------------------------------------------------------


def entry_lambdas(
    scored: TaskData, minorities: Sequence[float], weights: Weights
) -> tuple[Float[np.ndarray, " k"], float]:
    """Lambda at which the first feature enters: for scores cut into two classes, at each minority, and as they are.

    scored: regression tasks.
    """
    regression = pose(scored, weights)
    labels = np.stack([np.stack(binarised(scored, minority)) for minority in minorities], 1)
    weight = np.repeat(regression.weight, len(minorities), 1) * weights[0] / weights[1]
    classification = replace(regression, y=labels, weight=weight, classes=~regression.classes)
    return lambdas_max(classification), lambda_max(regression)


def entry_ratios(
    seeds: Iterable[int],
    simulation: Simulation,
    rows: int,
    minorities: Sequence[float],
    weights: Mapping[str, Weights],
) -> pd.DataFrame:
    """Lambda at which classification features enter over that for regression features, the scores being the same.

    weights: by name. Returns seed, minority, loss (a name of weights), ratio.
    """
    found = []
    for seed in seeds:
        scored = simulation.tasks(seed, rows, classification=0)
        for name, pair in weights.items():
            classification, regression = entry_lambdas(scored, minorities, pair)
            for minority, lam in zip(minorities, classification, strict=True):
                found.append({"seed": seed, "minority": minority, "loss": name, "ratio": lam / regression})
    return pd.DataFrame(found)


class Acting(NamedTuple):
    """Features that act in classification tasks, those that act in regression tasks, and those that act in none."""

    classification: Bool[np.ndarray, " p"]
    regression: Bool[np.ndarray, " p"]
    none: Bool[np.ndarray, " p"]


def acting(data: TaskData) -> Acting:
    """By the true coefficients."""
    acts = data.w != 0
    return Acting(acts[data.classes].any(0), acts[~data.classes].any(0), ~acts.any(0))


def joint_path(
    data: TaskData,
    weights: Weights,
    alpha: float,
    beta: float,
    fractions: Float[np.ndarray, " k"],
    tol: float,
) -> Iterator[tuple[float, Float[np.ndarray, "t p"]]]:
    """Lambda (over the largest) and coefficients in standard units along a path.

    fractions: of the largest lambda, falling.
    """
    problem = pose(data, weights, alpha, beta)
    lambdas = lambda_max(problem) * fractions
    for lam, solution in zip(lambdas, path(problem, lambdas, tol), strict=True):
        yield lam / lambdas[0], solution.w


def entering(
    seeds: Iterable[int],
    simulation: Simulation,
    rows: int,
    weights: Mapping[str, Weights],
    alpha: float,
    beta: float,
    fractions: Float[np.ndarray, " k"],
    tol: float,
) -> pd.DataFrame:
    """Fraction of each kind of feature that a joint path has let in, where the kinds of task share no feature.

    fractions: of the largest lambda, from 1 down.
    Returns seed, loss (a name of weights), lambda (over the largest), kind (of the features, as in `Acting`), in.
    """
    found = []
    for seed, (name, pair) in product(seeds, weights.items()):
        data = simulation.tasks(seed, rows, separate_features=True)
        for lam, w in joint_path(data, pair, alpha, beta, fractions, tol):
            at, selected = {"seed": seed, "loss": name, "lambda": lam}, norms(w) > 0
            kinds = {kind: own for kind, own in acting(data)._asdict().items() if own.any()}
            found += [{**at, "kind": kind, "in": selected[own].mean()} for kind, own in kinds.items()]
    return pd.DataFrame(found)


def entry_lags(frame: pd.DataFrame) -> pd.DataFrame:
    """Lambda at which half of the classification features are in, over that of the regression features.

    frame: of `entering`. Returns seed, loss, lag; nan where half of them never are in.
    """
    half = frame[frame["in"] >= 0.5].groupby(["loss", "seed", "kind"])["lambda"].max().unstack("kind")
    half = half.reindex(columns=["classification", "regression"])
    return (half["classification"] / half["regression"]).rename("lag").reset_index()


# --- where weights matter -----------------------------------------------------------------------------------------


def compare_weights(
    jobs: Iterable[tuple[str, int, str]],
    simulation: Simulation,
    rows: int,
    arms: Mapping[str, Mapping[str, Any]],
    weights: Mapping[str, Weights],
    settings: Mapping[str, Any],
) -> pd.DataFrame:
    """Joint models with several weights in several simulations.

    Targets of another scale are not standardised, nor are features, whose standard deviation is about 1 anyway.
    jobs: arm, seed, loss. arms: changes of the simulation by name. weights: by the name of the loss.
    Returns arm, seed, loss, the scores, and classification features: the fraction of those among the most important.
    """
    found = []
    for arm, seed, loss in jobs:
        data = simulation.tasks(seed, rows, **arms[arm])
        standardise = arms[arm].get("scale", 1.0) == 1
        model = fit_joint(data, weights=weights[loss], standardise=standardise, **settings)
        wanted, importance = acting(data).classification, model.feature_norms_
        row = {"classification features": selection_accuracy(importance, wanted, simulation.active)}
        scores = evaluate(data, model.predict_score(data.x_test), importance)
        found.append({"arm": arm, "seed": seed, "loss": loss, **row, **scores})
    return pd.DataFrame(found)


# --- rare classes and controls ------------------------------------------------------------------------------------


def rare_classes(
    jobs: Iterable[tuple[float, int]], simulation: Simulation, rows: int, settings: Mapping[str, Any], weights: Weights
) -> pd.DataFrame:
    """Joint models where one class is rare; MTLBin also with lambda chosen by the error rate, the official choice.

    jobs: fraction of the rarer class, seed. Returns minority, seed, method and the scores.
    """
    found = []
    for minority, seed in jobs:
        data = simulation.tasks(seed, rows, minority=minority)
        cut, no_ridge = binarised(data, minority), {**settings, "beta": 0.0}
        scores = {
            "MTLComb": joint(data, weights=weights, **settings),
            "MTLBin": joint(data, cut, **no_ridge),
            "MTLBin, by errors": joint(data, cut, classification_metric="accuracy", **no_ridge),
        }
        found += [{"minority": minority, "seed": seed, "method": name, **row} for name, row in scores.items()]
    return pd.DataFrame(found)


def trained_as_coded(jobs: Iterable[tuple[str, int]], simulation: Simulation, rows: int, trees: int) -> pd.DataFrame:
    """Separate models as in the official script: ridge is tuned, the others are trained, on the *test* targets.

    jobs: method, seed. Returns method, seed and the scores.
    """
    found = []
    for method, seed in jobs:
        data = simulation.tasks(seed, rows)
        wrong = {"tuned_on" if method == "ridge" else "trained_on": data.y_test}
        found.append({"method": method, "seed": seed, **evaluate(data, *separate(method, data, seed, trees, **wrong))})
    return pd.DataFrame(found)


# --- medical tasks ------------------------------------------------------------------------------------------------


class Medical(NamedTuple):
    """Frames of `medical`: explained fractions with the number of features used, and coefficients in standard units."""

    scores: pd.DataFrame
    coefficients: pd.DataFrame


def _to_standard_units(data: TaskData) -> Float[np.ndarray, "t p"]:
    """Factors that turn coefficients into standard units."""
    targets = [1.0 if c else y.std() for c, y in zip(data.classes, data.y, strict=True)]
    return np.stack([x.std(0) / v for x, v in zip(data.x, targets, strict=True)])


def medical(jobs: Iterable[tuple[str, int]], sets: Mapping[str, MedicalData], settings: Mapping[str, Any]) -> Medical:
    """Joint and separate models of the same people: a random half trains all tasks, the other half tests them.

    jobs: name of a set, seed of its half.
    """
    scores, coefficients = [], []
    for name, seed in jobs:
        people = sets[name]
        data = split(people, len(people.x) // 2, np.random.default_rng(seed))
        tasks = zip(data.kinds, data.x, data.y, strict=True)
        alone = [MixedMultiTaskCV(kind, **settings).fit([x], [y]) for kind, x, y in tasks]
        together = fit_joint(data, **settings)
        predicted = {
            "joint": together.predict_score(data.x_test),
            "separate": [m.predict_score([x])[0] for m, x in zip(alone, data.x_test, strict=True)],
        }
        coef = {"joint": together.coef_, "separate": np.concatenate([m.coef_ for m in alone])}
        for model, z in predicted.items():
            at: dict[str, Any] = {"data": name, "seed": seed, "model": model}
            units = coef[model] * _to_standard_units(data)
            frame = tidy(units, "coefficient", task=people.tasks, feature=people.features)
            coefficients.append(frame.assign(**at))
            for t, task in enumerate(people.tasks):
                r2 = r_squared(z[t], data.y_test[t], bool(data.classes[t]))
                scores.append({**at, "task": task, "r2": r2, "used": int((units[t] != 0).sum())})
    return Medical(pd.DataFrame(scores), pd.concat(coefficients, ignore_index=True))
