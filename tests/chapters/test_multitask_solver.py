"""The solver against scikit-learn, a general convex solver and the readable solver; the contract of the estimators."""

import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.sparse import csr_array
from sklearn.base import clone
from sklearn.datasets import load_diabetes
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import MultiTaskLasso
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import KFold
from sklearn.utils.estimator_checks import check_estimator

from phenomena.chapters.multitask_selection import problem as mixed
from phenomena.chapters.multitask_selection.cross_validation import (
    accuracy,
    area_under_curve,
    cross_validate,
    make_folds,
)
from phenomena.chapters.multitask_selection.estimator import MixedMultiTask, MixedMultiTaskCV
from phenomena.chapters.multitask_selection.reference import Reference
from phenomena.chapters.multitask_selection.tasks import fit_scaler


def tasks(seed=0, sizes=(30, 24, 40, 18), features=12, active=4, classification=2):
    """Tasks of different numbers of rows that share their active features; labels -1 and 1."""
    rng = np.random.default_rng(seed)
    xs, ys = [], []
    for t, rows in enumerate(sizes):
        x = rng.standard_normal((rows, features)) + 0.3
        y = x[:, :active] @ rng.standard_normal(active) + 0.5 * rng.standard_normal(rows) + 0.4
        xs.append(x)
        ys.append(np.where(y > 0, 1.0, -1.0) if t < classification else y)
    return xs, ys, np.arange(len(sizes)) < classification


def problem(seed=0, **settings):
    xs, ys, classes = tasks(seed)
    return mixed.make_problem(xs, ys, classes, **settings)


SETTINGS = [
    {},
    {"alpha": 0.1, "beta": 0.05},
    {"intercept": False},
    {"weights": (1.0, 1.0), "beta": 0.2},
    {"alpha": 0.3, "intercept": False},
]


# --- objective -----------------------------------------------------------------------------------------------------


def test_objective_is_the_formula_task_by_task():
    xs, ys, classes = tasks()
    rng = np.random.default_rng(1)
    w, b = rng.standard_normal((4, 12)), rng.standard_normal(4)
    lam, alpha, beta = 0.3, 0.2, 0.1
    value = sum(2.0 * np.log1p(np.exp(-y * (x @ v + c))).mean() for x, y, v, c in zip(xs[:2], ys, w, b, strict=False))
    value += sum(0.5 * ((y - x @ v - c) ** 2).mean() for x, y, v, c in zip(xs[2:], ys[2:], w[2:], b[2:], strict=True))
    centring = np.eye(4) - np.ones((4, 4)) / 4  # G of the paper, on (p, t) matrices from the right
    value += alpha * np.linalg.norm(w.T @ centring) ** 2 + beta * np.linalg.norm(w) ** 2
    value += lam * sum(np.linalg.norm(row) for row in w.T)
    made = mixed.make_problem(xs, ys, classes, alpha=alpha, beta=beta)
    assert mixed.objective(made, w[:, None], b[:, None], lam) == pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize("settings", SETTINGS)
def test_gradient_is_that_of_finite_differences(settings):
    p = problem(**settings)
    rng = np.random.default_rng(1)
    w, b = rng.standard_normal((4, 1, 12)), rng.standard_normal((4, 1))
    g = mixed.gradient(p, w, mixed.scores(p, w, b))
    move = 1e-6 * rng.standard_normal(w.shape)
    up, down = (mixed.objective(p, w + sign * move, b, 0.0) for sign in (1, -1))
    assert (up - down) / 2 == pytest.approx((g * move).sum(), rel=1e-6)


def test_prox_minimises_its_definition():
    rng = np.random.default_rng(0)
    w = rng.standard_normal((3, 1, 5))
    v = mixed.prox(w, 1.2)
    best = ((v - w) ** 2).sum() / 2 + 1.2 * mixed.norms(v).sum()
    for _ in range(200):
        other = v + 0.1 * rng.standard_normal(v.shape)
        assert ((other - w) ** 2).sum() / 2 + 1.2 * mixed.norms(other).sum() >= best
    assert (mixed.norms(v) == 0).any() and (mixed.norms(v) > 0).any()
    assert (mixed.prox(np.zeros((2, 1, 2)), 1.0) == 0).all()


def test_best_intercept_is_the_log_odds_of_labels_and_the_mean_of_values():
    x = [np.ones((10, 1)), np.ones((4, 1))]
    y = [np.array([1.0] * 9 + [-1.0]), np.array([1.0, 2, 3, 6])]
    p = mixed.make_problem(x, y, np.array([True, False]))
    assert mixed.null_intercept(p)[:, 0] == pytest.approx([np.log(9), 3.0], rel=1e-12)


# --- solutions -----------------------------------------------------------------------------------------------------


def test_regression_alone_is_scikit_learns_multi_task_lasso():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((60, 20)) + 1
    y = x[:, :5] @ rng.standard_normal((5, 3)) + 0.3 * rng.standard_normal((60, 3)) + 2
    for lam in (0.05, 0.5):
        theirs = MultiTaskLasso(alpha=lam, tol=1e-12, max_iter=100_000).fit(x, y)
        p = mixed.make_problem([x] * 3, list(y.T), np.zeros(3, bool))
        ours = mixed.solve(p, lam, tol=1e-12)
        np.testing.assert_allclose(ours.w, theirs.coef_, atol=1e-6)
        np.testing.assert_allclose(ours.b, theirs.intercept_, atol=1e-6)


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("fraction", [0.5, 0.1])
def test_mixed_problems_agree_with_a_general_convex_solver(settings, fraction):
    import cvxpy as cp

    xs, ys, classes = tasks()
    p = mixed.make_problem(xs, ys, classes, **settings)
    lam = fraction * mixed.lambda_max(p)
    w, b = cp.Variable((4, 12)), cp.Variable(4)
    wc, wr = settings.get("weights", mixed.WEIGHTS)
    parts = []
    for t, (x, y) in enumerate(zip(xs, ys, strict=True)):
        z = x @ w[t] + (b[t] if p.intercept else 0)
        parts.append(
            wc / len(y) * cp.sum(cp.logistic(-cp.multiply(y, z))) if classes[t] else wr / len(y) * cp.sum_squares(y - z)
        )
    away = np.eye(4) - np.ones((4, 4)) / 4
    penalty = lam * cp.sum(cp.norm(w, 2, axis=0))
    penalty += p.alpha * cp.sum_squares(away @ w) + p.beta * cp.sum_squares(w)
    theirs = cp.Problem(cp.Minimize(sum(parts) + penalty))
    theirs.solve(solver=cp.CLARABEL)
    ours = mixed.solve(p, lam, tol=1e-9)
    assert ours.objective == pytest.approx(theirs.value, rel=1e-6)
    np.testing.assert_allclose(ours.w, w.value, atol=1e-3)


@pytest.mark.parametrize("settings", SETTINGS)
def test_whole_path_is_that_of_the_readable_solver(settings):
    """The readable solver starts every lambda from zero, so it knows nothing of the path."""
    xs, ys, classes = tasks()
    made, reference = mixed.make_problem(xs, ys, classes, **settings), Reference(xs, ys, classes, **settings)
    lambdas = mixed.grid(mixed.lambda_max(made), 15, 0.03)
    for lam, found in zip(lambdas, mixed.path(made, lambdas, 1e-10), strict=True):
        w, b = reference.solve(lam, tol=1e-5)
        assert found.objective == pytest.approx(reference.objective(w, b, lam), rel=1e-8)
        assert found.objective == pytest.approx(reference.objective(found.w, found.b, lam), rel=1e-12)
        np.testing.assert_allclose(found.w, w, atol=2e-4)
        np.testing.assert_allclose(found.b, b, atol=2e-4)


def test_readable_solver_refuses_too_few_steps():
    with pytest.raises(FloatingPointError, match="not reached in 10 steps"):
        Reference(*tasks()).solve(0.01, tol=1e-9, max_steps=10)


@pytest.mark.parametrize("settings", SETTINGS)
def test_optimality_conditions_hold_for_every_feature(settings):
    p = problem(**settings)
    lam = 0.2 * mixed.lambda_max(p)
    found = mixed.solve(p, lam, tol=1e-12)
    w, b = found.w[:, None], found.b[:, None]
    g = mixed.gradient(p, w, mixed.scores(p, w, b))[:, 0]
    size = mixed.norms(found.w)
    assert 0 < (size > 0).sum() < 12
    for j in range(12):
        if size[j] > 0:
            np.testing.assert_allclose(g[:, j], -lam * found.w[:, j] / size[j], atol=1e-4 * lam)
        else:
            assert np.linalg.norm(g[:, j]) <= lam * (1 + 1e-6)
    slope = mixed.slope(p, mixed.scores(p, w, b)).sum(-1)
    if p.intercept:
        np.testing.assert_allclose(slope, 0, atol=1e-12)
    assert found.certificate.stationarity < 1e-4


def test_gap_bounds_the_distance_to_the_minimum_from_above_anywhere():
    for settings in SETTINGS:
        p = problem(**settings)
        lam = 0.2 * mixed.lambda_max(p)
        best = mixed.solve(p, lam, tol=1e-11)
        rng = np.random.default_rng(0)
        for size in (1e-4, 1e-2, 1.0):
            w = best.w[:, None] + size * rng.standard_normal((4, 1, 12))
            b = np.zeros((4, 1))
            b = mixed.best_intercept(p, mixed.scores(p, w, b))
            away = mixed.objective(p, w, b, lam) - best.objective
            assert mixed.certificate(p, w, b, lam).gap >= away > 0


def test_tasks_of_different_numbers_of_rows_are_not_mixed_up():
    """Rows twice over change nothing: means, not sums."""
    xs, ys, classes = tasks()
    twice = mixed.make_problem([np.tile(xs[0], (2, 1)), *xs[1:]], [np.tile(ys[0], 2), *ys[1:]], classes)
    lam = 0.2 * mixed.lambda_max(twice)
    np.testing.assert_allclose(
        mixed.solve(twice, lam, tol=1e-11).w, mixed.solve(problem(), lam, tol=1e-11).w, atol=1e-5
    )


@pytest.mark.parametrize("settings", SETTINGS)
def test_lambda_max_is_where_the_first_feature_enters(settings):
    p = problem(**settings)
    top = mixed.lambda_max(p)
    assert (mixed.solve(p, top * 1.000001, tol=1e-12).w == 0).all()
    below = mixed.solve(p, top * 0.999, tol=1e-12).w
    assert (mixed.norms(below) > 0).sum() == 1


def test_lambda_max_of_centred_tasks_needs_no_loss():
    """With weights 2 and 1/2 both losses have the gradient -x.y / n where nothing is selected, intercept or not."""
    xs, ys, classes = tasks()
    xs = [x - x.mean(0) for x in xs]
    ys = [y if c else y - y.mean() for y, c in zip(ys, classes, strict=True)]
    expected = np.linalg.norm([x.T @ y / len(y) for x, y in zip(xs, ys, strict=True)], axis=0).max()
    for intercept in (True, False):
        p = mixed.make_problem(xs, ys, classes, intercept=intercept)
        assert mixed.lambda_max(p) == pytest.approx(expected, rel=1e-9)


def test_path_is_continuous_and_equals_single_solutions():
    p = problem()
    lambdas = mixed.grid(mixed.lambda_max(p), 60, 0.01)
    found = list(mixed.path(p, lambdas, 1e-8))
    for k in (0, 20, 59):
        alone = mixed.solve(p, lambdas[k], tol=1e-8)
        assert found[k].objective == pytest.approx(alone.objective, rel=1e-7)
    values = np.array([s.objective for s in found])
    assert (np.diff(values) < 0).all()
    # the minimum is concave in lambda, with the sum of norms as its slope: so the slope cannot jump
    slopes = np.array([mixed.norms(s.w).sum() for s in found])
    assert (np.diff(slopes) > -1e-4).all()
    assert np.abs(np.diff(values) / np.diff(lambdas) - (slopes[1:] + slopes[:-1]) / 2).max() < 0.2
    fine = list(mixed.path(p, mixed.grid(lambdas[0], 600, 0.01), 1e-8))
    jumps = [max(np.abs(a.w - b.w).max() for a, b in zip(s[1:], s, strict=False)) for s in (found, fine)]
    assert jumps[1] < jumps[0] / 4
    assert all(s.certificate.gap <= 1e-8 * s.objective for s in found + fine)


def test_many_features_beside_few_rows():
    rng = np.random.default_rng(3)
    xs = [rng.standard_normal((15, 200)) for _ in range(4)]
    ys = [np.where(x[:, 0] > 0, 1.0, -1.0) if t < 2 else x[:, 0] + x[:, 1] for t, x in enumerate(xs)]
    p = mixed.make_problem(xs, ys, np.arange(4) < 2)
    lam = 0.02 * mixed.lambda_max(p)
    reference = Reference(xs, ys, np.arange(4) < 2)
    plain = reference.objective(*reference.solve(lam), lam)
    assert mixed.solve(p, lam, tol=1e-7).objective == pytest.approx(plain, rel=1e-6)


def test_too_few_passes_and_wrong_penalties_are_refused():
    p = problem()
    with pytest.raises(FloatingPointError, match="not reached in 1 passes"):
        mixed.solve(p, 0.001, tol=1e-14, passes=1)
    for lam in (0.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="must be above 0"):
            mixed.solve(p, lam)
    with pytest.raises(ValueError, match="penalties must be 0 or more"):
        problem(alpha=-1.0)
    with pytest.raises(ValueError, match="weights above 0"):
        problem(weights=(0.0, 1.0))


# --- cross-validation ------------------------------------------------------------------------------------------------


def test_area_under_the_curve_is_scikit_learns():
    rng = np.random.default_rng(0)
    labels = rng.random(50) < 0.3
    values = np.round(rng.standard_normal(50) + labels, 1)  # with ties
    assert area_under_curve(values, labels) == pytest.approx(roc_auc_score(labels, values))


def test_classification_can_be_judged_by_its_error_rate():
    """With one row in ten in a class no model has a lower error rate than the constant: no feature is asked for."""
    rng = np.random.default_rng(0)
    x = [rng.standard_normal((100, 30)) for _ in range(3)]
    y = [np.where(np.argsort(np.argsort(v[:, 0] + 2 * rng.standard_normal(100))) >= 90, 1.0, -1.0) for v in x]
    by_errors, by_area = (
        MixedMultiTaskCV("classification", n_lambdas=8, lambda_min_ratio=0.1, classification_metric=metric).fit(x, y)
        for metric in ("accuracy", "auc")
    )
    assert by_errors.lam_ == by_errors.cv_.lambdas[0] > by_area.lam_
    assert by_errors.cv_.classification_score[0] == pytest.approx(0.9)  # the constant's
    assert by_area.selected_[0]
    assert accuracy(np.array([1.0, -1, 0, -2]), np.array([True, True, True, False])) == 0.75
    with pytest.raises(ValueError, match="classification_metric 'f1' must be auc or accuracy"):
        MixedMultiTaskCV("classification", classification_metric="f1").fit(x, y)


def test_chosen_lambda_follows_the_papers_rule():
    xs, ys, classes = tasks(sizes=(60, 60, 60, 60), classification=1)
    lambdas = mixed.grid(1.0, 12, 0.01)
    found = cross_validate(xs, ys, classes, lambdas, 5, 0)
    assert found.best_regression == lambdas[found.square_error.argmin()]
    assert found.best_classification == lambdas[found.classification_score.argmax()]
    assert found.best == pytest.approx(0.75 * found.best_regression + 0.25 * found.best_classification)
    for chosen, name in ((~classes, "best_regression"), (classes, "best_classification")):
        alike = [[v for v, c in zip(values, chosen, strict=True) if c] for values in (xs, ys)]
        alone = cross_validate(*alike, classes[chosen], lambdas, 5, 0)
        assert alone.best == getattr(alone, name)
    short = cross_validate(xs, ys, classes, lambdas, 5, 0, patience=2)
    assert len(short.lambdas) < 12
    np.testing.assert_array_equal(short.square_error, found.square_error[: len(short.lambdas)])


# --- estimators ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("estimator", [MixedMultiTask(), MixedMultiTaskCV(n_lambdas=10)])
def test_one_task_passes_scikit_learns_checks(estimator):
    """A single task is an ordinary regressor. No check knows lists of tasks; array-API input is not offered."""
    found = check_estimator(estimator, on_skip=None)
    assert {r["check_name"] for r in found if r["status"] != "passed"} <= {"check_array_api_input"}
    assert sum(r["status"] == "passed" for r in found) > 40


def test_estimator_fits_predicts_and_scores_lists_of_tasks():
    xs, ys, _ = tasks(sizes=(200, 150, 220, 180))
    words = np.where(ys[0] > 0, "ill", "healthy")
    kinds = ["classification", "classification", "regression", "regression"]
    model = MixedMultiTaskCV(kinds, n_lambdas=20).fit(xs, [words, *ys[1:]])
    found = model.predict(xs)
    assert [len(z) for z in found] == [200, 150, 220, 180]
    assert set(found[0]) == {"healthy", "ill"}
    assert model.score(xs, [words, *ys[1:]]) > 0.85
    assert model.selected_[:4].all() and model.coef_.shape == (4, 12)
    assert clone(model).get_params() == model.get_params()
    z = model.predict_score(xs)
    assert ((z[0] > 0) == (found[0] == "ill")).all() and (z[2] == found[2]).all()


def test_units_of_features_and_targets_do_not_matter():
    xs, ys, _ = tasks()
    kinds = ["classification", "classification", "regression", "regression"]
    plain = MixedMultiTask(0.05, kinds, tol=1e-10).fit(xs, ys)
    other = MixedMultiTask(0.05, kinds, tol=1e-10).fit([100 * x - 3 for x in xs], [*ys[:2], 7 * ys[2] + 1, ys[3]])
    np.testing.assert_allclose(plain.feature_norms_, other.feature_norms_, atol=1e-4)
    assert other.predict([100 * x - 3 for x in xs])[2] == pytest.approx(7 * plain.predict(xs)[2] + 1, abs=1e-2)


def test_estimator_is_scikit_learns_multi_task_lasso_on_standardised_targets():
    x, target = load_diabetes(return_X_y=True)
    x = (x - x.mean(0)) / x.std(0)
    y = np.stack([target, target**0.5], 1)
    y = (y - y.mean(0)) / y.std(0)
    theirs = MultiTaskLasso(alpha=0.1, tol=1e-10).fit(x, y)
    ours = MixedMultiTask(0.1, tol=1e-10).fit([x, x], list(y.T))
    np.testing.assert_allclose(ours.coef_, theirs.coef_, atol=1e-5)
    assert (ours.selected_ == (np.abs(theirs.coef_).sum(0) > 0)).all()


# --- bad input ----------------------------------------------------------------------------------------------------


def broken(task, column=None, value=None, y=None):
    xs, ys, _ = tasks()
    if column is not None:
        xs[task] = xs[task].copy()
        xs[task][3 if value is not None and not np.isfinite(value) else slice(None), column] = value
    if y is not None:
        ys[task] = np.resize(np.asarray(y), len(ys[task]))
    return xs, ys


KINDS = ["classification", "classification", "regression", "regression"]


@pytest.mark.parametrize(
    ("case", "message"),
    [
        (broken(1, 5, np.nan), "task 1, column 5: nan in row 3: values must be finite"),
        (broken(2, 7, np.inf), "task 2, column 7: inf in row 3"),
        (broken(3, 2, 4.0), r"task 3, column 2: constant \(4\)"),
        (broken(0, y=[0, 1, 2]), "task 0, classification: labels 0, 1, 2: there must be exactly two"),
        (broken(1, y=[1.0]), "task 1, classification: labels 1.0: there must be exactly two"),
        (broken(2, y=[3.0]), r"task 2, target: constant \(3\)"),
        (broken(3, y=[3.0, np.nan]), "task 3, target: nan in row 1"),
    ],
)
def test_errors_name_task_and_column(case, message):
    with pytest.raises(ValueError, match=message):
        MixedMultiTask(0.1, KINDS).fit(*case)


NAMES = list("abcdefghijkl")


def framed(**changed):
    """Tasks as data frames with rows and targets that have an index of their own; changed: task0=frame, ..."""
    xs, ys, _ = tasks()
    frames = [pd.DataFrame(x, np.arange(len(x)) + 100 * t, NAMES) for t, x in enumerate(xs)]
    series = [pd.Series(y, np.arange(len(y))[::-1]) for y in ys]
    return [changed.get(f"task{t}", lambda frame: frame)(frame) for t, frame in enumerate(frames)], series


def test_data_frames_are_fitted_as_their_arrays_by_position_and_keep_their_names():
    xs, ys, _ = tasks()
    frames, series = framed()
    plain, named = MixedMultiTask(0.1, KINDS).fit(xs, ys), MixedMultiTask(0.1, KINDS).fit(frames, series)
    np.testing.assert_array_equal(named.coef_, plain.coef_)
    assert named.feature_names_in_.tolist() == NAMES and named.n_features_in_ == plain.n_features_in_ == 12
    assert not hasattr(plain, "feature_names_in_")
    assert not hasattr(named.fit(xs, ys), "feature_names_in_")  # fitted again
    with pytest.warns(UserWarning, match="X has feature names, but MixedMultiTask was fitted without"):
        named.predict(frames)
    with pytest.warns(UserWarning, match="does not have valid feature names, but MixedMultiTask was fitted with"):
        MixedMultiTask(0.1, KINDS).fit(frames, series).predict(xs)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f[f.columns[::-1]], "columns of {} in another order: column 0 is 'l', expected 'a'"),
        (lambda f: f.rename(columns={"b": "z"}), "lacks 'b' and also has 'z': its columns must be those of {}"),
        (lambda f: f.drop(columns="c"), "lacks 'c': its columns"),
        (lambda f: f.assign(m=np.arange(len(f))), "also has 'm': its columns"),
        (lambda f: f.assign(d="x"), r"column 3 \(d\): 'x' in row 0 is not a number"),
        (lambda f: f.assign(d=f["d"].astype("Float64").where(f.index != 303)), r"column 3 \(d\): nan in row 3"),
    ],
)
def test_columns_that_differ_are_refused_by_name(change, message):
    with pytest.raises(ValueError, match="task 3.* " + message.format("task 0")):
        MixedMultiTask(0.1, KINDS).fit(*framed(task3=change))
    with pytest.raises(ValueError, match="task 3.* " + message.format("the fitted tasks")):
        MixedMultiTask(0.1, KINDS).fit(*framed()).predict(framed(task3=change)[0])


def test_named_columns_in_some_tasks_alone_are_refused():
    frames, ys = framed(task2=lambda frame: frame.to_numpy())
    with pytest.raises(ValueError, match="task 2 and task 0: one has named columns, the other has none"):
        MixedMultiTask(0.1, KINDS).fit(frames, ys)


def test_tasks_by_name_are_paired_by_name_whatever_their_order():
    (frames, series), names = framed(), ["ill", "old", "weight", "age"]
    x, y, kinds = (dict(zip(names, values, strict=True)) for values in (frames, series, KINDS))
    turned = dict(reversed(y.items()))
    named, plain = MixedMultiTask(0.1, kinds).fit(x, turned), MixedMultiTask(0.1, KINDS).fit(frames, series)
    np.testing.assert_array_equal(named.coef_, plain.coef_)
    found = clone(named).fit(x, turned).predict(dict(reversed(x.items())))
    assert list(found) == named.task_names_ == names
    assert all((a == b).all() for a, b in zip(found.values(), plain.predict(frames), strict=True))
    assert named.score(x, turned) == plain.score(frames, series)
    with pytest.raises(ValueError, match=r"task 1 \(old\), column 0 \(a\): nan in row 0"):
        named.predict(x | {"old": frames[1].assign(a=np.nan)})
    for call, message in (
        (lambda: named.fit(x, series), r"y is a list: it must have the tasks by name, \['ill', 'old'"),
        (
            lambda: named.fit(x, {"old": 0} | {n: y[n] for n in names[2:]}),
            r"y is for the tasks \['old', 'weight', 'age'\]",
        ),
        (lambda: named.fit(frames, series), "kinds is for the tasks .* must be a list, since the tasks have no names"),
        (lambda: MixedMultiTask().fit({}, {}), "0 feature arrays and 0 targets"),
    ):
        with pytest.raises(ValueError, match=message):
            call()


@pytest.mark.parametrize(
    ("as_given", "labels"),
    [
        (lambda y: np.where(y > 0, "well", "ill").tolist(), ["ill", "well"]),
        (lambda y: pd.Series(np.where(y > 0, "well", "ill"), dtype="string"), ["ill", "well"]),
        (lambda y: pd.Categorical(np.where(y > 0, "well", "ill"), ["well", "ill", "unknown"]), ["ill", "well"]),
        (lambda y: y > 0, [False, True]),
        (lambda y: pd.Series(y > 0, dtype="boolean"), [False, True]),
        (lambda y: pd.Series(y > 0).astype("Int64"), [0, 1]),
        (lambda y: torch.tensor(y > 0).long(), [0, 1]),
    ],
)
def test_labels_may_be_of_any_type(as_given, labels):
    """Of text, truth values or numbers, in lists, series, tensors: same coefficients, and labels come back."""
    xs, ys, _ = tasks()
    plain = MixedMultiTask(0.1, KINDS).fit(xs, ys)
    given = MixedMultiTask(0.1, KINDS).fit(xs, [as_given(y) for y in ys[:2]] + ys[2:])
    np.testing.assert_array_equal(given.coef_, plain.coef_)
    assert given.classes_[0].tolist() == labels
    assert (np.asarray(given.predict(xs)[0]) == labels[1]).tolist() == (plain.predict(xs)[0] > 0).tolist()


@pytest.mark.parametrize(
    ("as_given", "exact"),
    [
        (np.asfortranarray, True),
        (lambda x: x.tolist(), True),
        (lambda x: torch.tensor(x), True),
        (lambda x: pd.DataFrame(x).astype("Float64"), True),
        (lambda x: np.stack([x, x])[:, ::1][0], True),
        (lambda x: x.astype(np.float32), False),
    ],
)
def test_features_may_be_held_in_any_form(as_given, exact):
    xs, ys, _ = tasks()
    plain = MixedMultiTask(0.1, KINDS, tol=1e-10).fit(xs, ys).coef_
    found = MixedMultiTask(0.1, KINDS, tol=1e-10).fit([as_given(x) for x in xs], ys).coef_
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, plain, atol=1e-5)
    if exact:  # whatever the memory's layout
        np.testing.assert_array_equal(found, plain)


def test_a_column_twice_shares_its_weight_and_large_numbers_do_not_matter():
    xs, ys, _ = tasks()
    plain = MixedMultiTask(0.1, KINDS, tol=1e-10).fit(xs, ys)
    twice = MixedMultiTask(0.1, KINDS, tol=1e-10).fit([np.column_stack([x, x[:, 0]]) for x in xs], ys)
    np.testing.assert_allclose(twice.coef_[:, 0], twice.coef_[:, 12], rtol=1e-4)
    scaled = [x * np.where(np.arange(12) == 1, 1e100, 1.0) + np.where(np.arange(12) == 2, 1e8, 0.0) for x in xs]
    found = MixedMultiTask(0.1, KINDS, tol=1e-10).fit(scaled, ys)
    np.testing.assert_allclose(found.feature_norms_, plain.feature_norms_, atol=1e-4)


def test_few_rows_one_sample_in_a_class_and_one_task_in_a_list():
    xs, ys, _ = tasks()
    few = MixedMultiTask(0.1, KINDS).fit(
        [x[:5] for x in xs], [np.array([1.0, -1, -1, -1, -1])] * 2 + [y[:5] for y in ys[2:]]
    )
    assert np.isfinite(few.coef_).all() and few.certificate_.gap < 1e-5
    (listed,) = MixedMultiTask(0.1).fit(xs[2:3], ys[2:3]).predict(xs[2:3])
    np.testing.assert_array_equal(listed, MixedMultiTask(0.1).fit(xs[2], ys[2]).predict(xs[2]))


@pytest.mark.parametrize(
    ("case", "message"),
    [
        (([np.eye(3) * 1e160] * 4, [np.arange(3.0)] * 4), r"task 0, column 0: numbers up to 1e\+160: rescale them"),
        (broken(2, y=[1e160, 0.0]), r"task 2, target: numbers up to 1e\+160: rescale them"),
        (broken(2, y=["a", "b"]), "task 2, target: 'a' in row 0 is not a number: a task with labels is of kind"),
        (broken(0, y=[None, "b"]), "task 0, classification: None in row 0: every row must have a label"),
        (broken(0, y=[np.nan, 1.0]), "task 0, classification: nan in row 0: every row must have a label"),
        (broken(0, y=np.array([1, "b"], object)), "task 0, classification: labels of types int and str"),
        (
            ([csr_array(np.eye(3))] * 4, [np.arange(3.0)] * 4),
            "task 0: Sparse data was passed, but dense",
        ),
        (([np.eye(3) * 1e-160] * 4, [np.arange(3.0)] * 4), "task 0, column 0: numbers up to 1e-160: rescale them"),
    ],
)
def test_numbers_and_labels_that_cannot_be_used_are_refused(case, message):
    with pytest.raises(ValueError, match=message):
        MixedMultiTask(0.1, KINDS).fit(*case)


def test_settings_out_of_range_are_refused_before_anything_is_computed():
    xs, ys, _ = tasks()
    for settings, message in (
        ({"lam": "x"}, "lam is 'x': it must be a finite number above 0"),
        ({"lam": np.inf}, "lam is inf"),
        ({"tol": np.nan}, "tol is nan: it must be a finite number above 0"),
        ({"tol": 0}, "tol is 0"),
        ({"alpha": np.nan}, "alpha is nan: it must be a finite number of at least 0"),
        ({"beta": np.inf}, "beta is inf"),
        ({"weights": 2.0}, "weights is 2.0: of the logistic and of the squared loss, two numbers"),
        ({"weights": (1.0, np.nan)}, "weights is nan"),
        ({"intercept": "no"}, "intercept is 'no': it must be True or False"),
        ({"kinds": None}, "kinds None must be regression or classification"),
    ):
        with pytest.raises(ValueError, match=message):
            MixedMultiTask(**({"kinds": KINDS} | settings)).fit(xs, ys)
    for settings, message in (
        ({"n_lambdas": 0}, "n_lambdas is 0: it must be an integer of at least 1"),
        ({"folds": 2.5}, "folds is 2.5: it must be an integer of at least 2"),
        ({"lambda_min_ratio": 0}, "lambda_min_ratio is 0"),
        ({"lambda_min_ratio": 2}, "lambda_min_ratio is 2: it must be a fraction up to 1"),
        ({"patience": 0}, "patience is 0: it must be an integer of at least 1"),
    ):
        with pytest.raises(ValueError, match=message):
            MixedMultiTaskCV(KINDS, **settings).fit(xs, ys)


def test_an_estimator_of_several_tasks_is_cloned_pickled_and_says_when_it_is_not_fitted():
    xs, ys, _ = tasks()
    model = MixedMultiTask(0.1, KINDS)
    for call in (model.predict, model.predict_score):
        with pytest.raises(NotFittedError, match="not fitted yet"):
            call(xs)
    model.set_params(lam=0.2).fit(xs, ys)
    again = pickle.loads(pickle.dumps(model))
    assert repr(again) == repr(clone(model)) and "".join(repr(again).split()).endswith("'regression'],lam=0.2)")
    np.testing.assert_array_equal(again.predict(xs)[2], model.predict(xs)[2])
    again.set_params(kinds="regression").fit(xs[2], ys[2])  # another number of tasks
    assert again.predict(xs[2]).shape == ys[2].shape
    np.testing.assert_array_equal(again.set_params(kinds=KINDS).fit(xs, ys).coef_, model.coef_)
    with pytest.raises(ValueError, match="3 targets for 4 tasks"):
        model.score(xs, ys[:3])


def test_shapes_kinds_and_lambda_that_do_not_fit_are_refused():
    xs, ys, _ = tasks()
    with pytest.raises(ValueError, match="task 1 has 11 features, task 0 has 12"):
        MixedMultiTask(0.1, KINDS).fit([xs[0], xs[1][:, :11], *xs[2:]], ys)
    with pytest.raises(ValueError, match=r"task 2: features \(40, 12\) and target \(39,\)"):
        MixedMultiTask(0.1, KINDS).fit(xs, [*ys[:2], ys[2][1:], ys[3]])
    with pytest.raises(ValueError, match="4 feature arrays and 3 targets"):
        MixedMultiTask(0.1, KINDS).fit(xs, ys[:3])
    with pytest.raises(ValueError, match="kinds 'ranking'"):
        MixedMultiTask(0.1, "ranking").fit(xs, ys)
    for lam in (0, -0.1):
        with pytest.raises(ValueError, match="above 0"):
            MixedMultiTask(lam, KINDS).fit(xs, ys)
    model = MixedMultiTask(0.1, KINDS).fit(xs, ys)
    with pytest.raises(ValueError, match="2 arrays: one"):
        model.predict(xs[:2])
    with pytest.raises(ValueError, match="task 3 has 5 features, fitted were 12"):
        model.predict([*xs[:3], xs[3][:, :5]])


@pytest.mark.parametrize("standardise", [(True, True), (False, False)])
@pytest.mark.parametrize("settings", SETTINGS)
def test_fits_side_by_side_are_the_single_fits_of_each_fold(settings, standardise):
    """Along the whole path: each fold on its own rows, in its own units, by the solver of one fit."""
    xs, ys, classes = tasks(sizes=(30, 25, 40, 20))
    splits = [list(KFold(5).split(x)) for x in xs]
    cut = make_folds(xs, ys, classes, splits, standardise, **settings)
    lambdas = mixed.grid(mixed.lambda_max(cut.problem), 12, 0.03)
    side_by_side = list(mixed.paths(cut.problem, np.tile(lambdas[:, None], 5), 1e-10))
    for f in range(5):
        rows = [split[f][0] for split in splits]
        x, y = ([v[r] for v, r in zip(values, rows, strict=True)] for values in (xs, ys))
        scaler = fit_scaler(x, y, classes, *standardise)
        single = mixed.make_problem(scaler.x(x), scaler.y(y), classes, **settings)
        whole = scaler.x(xs)
        for many, one in zip(side_by_side, mixed.path(single, lambdas, 1e-10), strict=True):
            assert many.objective[f] == pytest.approx(one.objective, rel=1e-8)
            np.testing.assert_allclose(many.w[:, f], one.w, atol=1e-4)
            for t, x in enumerate(whole):
                np.testing.assert_allclose(many.z[t, f, : len(x)], x @ one.w[t] + one.b[t], atol=1e-3)


def test_folds_without_a_class_or_with_a_constant_feature_are_refused():
    xs, ys, _ = tasks()
    ys[1] = np.where(np.arange(24) < 3, 1.0, -1.0)
    with pytest.raises(ValueError, match="task 1: the second of its sorted classes has 3 rows for 5 folds"):
        MixedMultiTaskCV(KINDS).fit(xs, ys)
    xs, ys, _ = tasks()
    xs[2][:, 6] = 0
    xs[2][7, 6] = 1
    with pytest.raises(ValueError, match=r"task 2, fold \d, column 6: constant"):
        MixedMultiTaskCV(KINDS).fit(xs, ys)
    with pytest.raises(ValueError, match="task 1: 18 rows for 10 folds"):
        MixedMultiTaskCV("regression", folds=10).fit(*[v[2:] for v in tasks()[:2]])
