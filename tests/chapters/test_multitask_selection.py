"""The chapter's simulations, scores and baselines against closed forms, limits and scikit-learn."""

import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.integrate import quad
from scipy.stats import norm
from sklearn.linear_model import LinearRegression

from phenomena.chapters.multitask_selection import baselines, data, figures, scores, study, theory
from phenomena.chapters.multitask_selection.problem import grid


def rng(seed=0):
    return np.random.default_rng(seed)


def scored(d, method, **targets):
    """The scores of a separate model."""
    return study.evaluate(d, *baselines.separate(method, d, seed=0, **targets))


def sample(rows=60, features=30, seed=0, **settings):
    return data.simulate(rows, features, 3, 3, rng(seed), **({"active": 5} | settings))


# --- where features enter --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("minority", [0.5, 0.3, 0.05])
def test_entry_ratio_is_the_covariance_of_label_and_score(minority):
    c = norm.ppf(1 - minority)
    above = quad(lambda s: s * norm.pdf(s), c, np.inf)[0]
    below = quad(lambda s: s * norm.pdf(s), -np.inf, c)[0]
    assert theory.entry_ratio(minority) == pytest.approx(above - below, rel=1e-8)
    assert theory.entry_ratio(0.5) == pytest.approx((2 / np.pi) ** 0.5)


@pytest.mark.parametrize("minority", [0.5, 0.1])
def test_features_enter_at_that_ratio_when_labels_are_a_gaussian_scores_sign(minority):
    """The same score cut to labels and kept as it is: 200,000 rows, one feature, no noise."""
    s = rng().standard_normal((200_000, 1))
    scored = data.TaskData([s], [s[:, 0]], [], [], np.array([False]), np.ones((1, 1)))
    (as_class,), as_value = study.entry_lambdas(scored, [minority], (2.0, 0.5))
    assert as_value == pytest.approx(1.0, rel=1e-6)
    assert as_class == pytest.approx(theory.entry_ratio(minority), abs=0.01)
    # without weights the logistic loss has half the slope of 2 x, the squares twice that of x / 2: four times apart
    (plain_class,), plain_value = study.entry_lambdas(scored, [minority], (1.0, 1.0))
    assert plain_class / plain_value == pytest.approx(as_class / as_value / 4, rel=1e-6)


# --- simulation ------------------------------------------------------------------------------------------------------


def test_simulated_tasks_have_the_stated_law():
    d = data.simulate(4000, 20, 2, 2, rng(), active=5, minority=0.2, scale=3.0)
    assert [x.shape for x in d.x] == [(4000, 20)] * 4 and len(d.y_test[3]) == 4000
    assert (d.w[:, 5:] == 0).all() and (d.w[:, :5] != 0).all()
    for t in (0, 1):
        assert set(d.y[t]) == {-1.0, 1.0}
        assert (d.y[t] > 0).mean() == pytest.approx(0.2, abs=1e-3)
        z = d.x[t] @ d.w[t]
        assert np.corrcoef(z, d.y[t])[0, 1] > 0.5
    for t in (2, 3):
        fit = LinearRegression().fit(d.x[t], d.y[t])
        assert (fit.coef_ / 3)[:5] == pytest.approx(d.w[t, :5], abs=0.05)
        assert (d.y[t] / 3 - d.x[t] @ d.w[t]).std() == pytest.approx(0.5, rel=0.05)
    sizes = np.abs(data.simulate(2, 2000, 1, 1, rng(), active=2000).w)
    assert sizes.mean() == pytest.approx(norm.expect(lambda g: abs(1 + g)), abs=0.05)


def test_separate_features_act_in_one_kind_of_task_only():
    d = sample(separate_features=True, active=6)
    assert (d.w[:3, :3] != 0).all() and (d.w[:3, 3:] == 0).all()
    assert (d.w[3:, 3:6] != 0).all() and (d.w[3:, :3] == 0).all() and (d.w[3:, 6:] == 0).all()


def test_same_generator_same_draw_and_wrong_numbers_refused():
    a, b = sample(seed=4), sample(seed=4)
    assert all((x == y).all() for x, y in zip(a.x + a.y_test, b.x + b.y_test, strict=True))
    with pytest.raises(ValueError, match="31 active features of 30: the number must be 1 to 30"):
        sample(active=31)
    for minority in (0.0, 0.6, float("nan")):
        with pytest.raises(ValueError, match=r"above 0, at most 0\.5"):
            sample(minority=minority)


def test_binarised_targets_keep_classes_and_cut_the_others_at_their_quantile():
    d = sample(minority=0.25)
    found = data.binarised(d, 0.25)
    assert all((a == b).all() for a, b in zip(found[:3], d.y[:3], strict=True))
    for values, labels in zip(d.y[3:], found[3:], strict=True):
        assert (labels > 0).sum() == 15 and values[labels > 0].min() > values[labels < 0].max()


# --- scores ----------------------------------------------------------------------------------------------------------


def test_r_squared_of_regression_is_the_squared_correlation():
    x, e = rng().standard_normal((2, 500))
    assert scores.r_squared(x, x, False) == pytest.approx(1)
    assert scores.r_squared(-3 * x + 7, x + e, False) == pytest.approx(np.corrcoef(x, x + e)[0, 1] ** 2)
    assert scores.r_squared(np.full(500, 0.1), e, False) == 0


def test_r_squared_of_classification_is_nagelkerkes():
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import log_loss

    z, e = rng().standard_normal((2, 300))
    y = np.where(z + e > 0.5, 1.0, -1.0)
    p = LogisticRegression(C=np.inf, tol=1e-8).fit(z[:, None], y).predict_proba(z[:, None])[:, 1]
    l1, l0 = -300 * log_loss(y > 0, p), -300 * log_loss(y > 0, np.full(300, (y > 0).mean()))
    expected = (1 - np.exp(2 * (l0 - l1) / 300)) / (1 - np.exp(2 * l0 / 300))
    assert scores.r_squared(z, y, True) == pytest.approx(expected, abs=1e-6)
    assert scores.r_squared(-5 * z + 2, y, True) == pytest.approx(expected, abs=1e-6)
    assert scores.r_squared(np.where(y > 0, z.max() + 9, z.min()), y, True) == pytest.approx(1, abs=1e-3)
    assert scores.r_squared(np.zeros(300), y, True) == 0


def test_r_squared_at_chance_is_about_one_over_n():
    noise = rng(1).standard_normal((2, 400, 50))
    for is_class, factor in ((False, 1), (True, 4 / 3)):  # Nagelkerke divides by 1 - 1/4 for equal classes
        y = np.where(noise[1] > 0, 1.0, -1.0) if is_class else noise[1]
        found = [scores.r_squared(a, b, is_class) for a, b in zip(noise[0], y, strict=True)]
        assert np.mean(found) == pytest.approx(factor / 50, rel=0.2)


def test_selection_counts_only_features_that_are_selected():
    active = np.array([True, True, False, False])
    assert scores.selection_accuracy(np.array([3.0, 2, 1, 0]), active) == 1
    assert scores.selection_accuracy(np.array([3.0, 0, 1, 0]), active) == 0.5
    assert scores.selection_accuracy(np.zeros(4), active) == 0


# --- models ----------------------------------------------------------------------------------------------------------


def test_joint_model_finds_the_shared_features():
    d = sample()
    model = study.fit_joint(d, n_lambdas=20, tol=1e-4)
    row = study.evaluate(d, model.predict_score(d.x_test), model.feature_norms_)
    assert row == study.joint(d, n_lambdas=20, tol=1e-4)
    assert row["selection"] == 1 and row["regression"] > 0.8 and row["classification"] > 0.4
    assert row["all"] == pytest.approx((row["classification"] + row["regression"]) / 2)
    assert model.cv_.best < model.cv_.lambdas[0]
    cut = study.joint(d, targets=data.binarised(d), n_lambdas=20, tol=1e-4)
    assert cut["regression"] < row["regression"]


@pytest.mark.parametrize("method", list(baselines.METHODS))
def test_each_baseline_learns_from_its_own_labels_and_nothing_from_others(method):
    """A task of two strong features, where every baseline must succeed when it is trained on its own labels."""
    d = data.simulate(150, 6, 1, 1, rng(2), active=2, noise_std=0.1)
    row = scored(d, method)
    assert row["classification"] > 0.5 and row["regression"] > 0.5
    if method == "RBF SVM":
        assert np.isnan(row["selection"])
    else:
        assert row["selection"] == 1
    # The test rows' labels on the training rows: a direction at random, which explains 1 / 60 of a target by chance.
    wide = data.simulate(100, 60, 3, 3, rng(2), active=3, noise_std=0.1)
    own, astray = scored(wide, method)["all"], scored(wide, method, trained_on=wide.y_test)["all"]
    assert astray < 0.08 and own > 3 * astray


@pytest.mark.parametrize("l1_ratio", [0.0, 0.5, 1.0])
def test_logistic_path_minimises_scikit_learns_objective(l1_ratio):
    """Against a general convex solver: saga is far from its minimum in the intercept, liblinear penalises it."""
    import cvxpy as cp

    noise = rng(3)
    x = noise.standard_normal((50, 70)) + 0.2
    y = np.where(x[:, :3].sum(1) + noise.standard_normal(50) > 0.5, 1.0, -1.0)
    grid = np.array([0.02, 0.1, 0.5])
    for c, (coef, b) in zip(grid, baselines.logistic_path(x, y, grid, l1_ratio, tol=1e-8), strict=True):
        w, shift = cp.Variable(70), cp.Variable()
        value = c * cp.sum(cp.logistic(-cp.multiply(y, x @ w + shift)))
        value += l1_ratio * cp.norm(w, 1) + (1 - l1_ratio) / 2 * cp.sum_squares(w)
        cp.Problem(cp.Minimize(value)).solve(solver=cp.CLARABEL)
        np.testing.assert_allclose(coef, w.value, atol=2e-3)
        assert b == pytest.approx(shift.value, abs=2e-3)


def test_penalty_chosen_on_other_labels_still_fits_its_own():
    d = data.simulate(100, 10, 1, 1, rng(1), active=2)
    assert scored(d, "ridge", tuned_on=d.y_test)["all"] > 0.3
    regression = replace(d, **{name: getattr(d, name)[1:] for name in ("x", "y", "x_test", "y_test", "classes", "w")})
    for method in ("lasso", "elastic net"):  # other labels ask for a penalty so large that nothing is left
        own, other = (
            baselines.separate(method, regression, seed=0, tuned_on=on)[1] for on in (None, regression.y_test)
        )
        assert (own > 0).sum() > (other > 0).sum()
    with pytest.raises(ValueError, match="'forest' is not known: it must be one of lasso"):
        baselines.separate("forest", d, seed=0)


@pytest.mark.parametrize("method", ["linear SVM", "RBF SVM"])
def test_units_of_the_target_do_not_matter_to_a_support_vector_machine(method):
    d = sample()
    scaled = replace(d, y=[y if c else 10 + 30 * y for y, c in zip(d.y, d.classes, strict=True)])
    plain, large = (baselines.separate(method, x, seed=0)[0] for x in (d, scaled))
    for a, b, c in zip(plain, large, d.classes, strict=True):
        assert b == pytest.approx(a if c else 10 + 30 * a)


def test_same_seed_same_scores():
    d = sample()
    for method in ("random forest", "elastic net"):
        a, b = (baselines.separate(method, d, seed=3)[0] for _ in range(2))
        assert all((x == y).all() for x, y in zip(a, b, strict=True))


# --- medical tasks ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("load", "rows", "features"), [(data.diabetes, 442, 8), (data.breast_cancer, 569, 20)])
def test_medical_tasks_hold_no_target_among_the_features(load, rows, features):
    people = load()
    assert people.x.shape == (rows, features) and people.y.shape == (rows, 4) and len(people.features) == features
    assert not set(people.features) & set(people.tasks)
    for target, is_class in zip(people.y.T, people.classes, strict=True):
        assert (set(target) == {-1.0, 1.0}) == is_class
        assert (np.abs(np.corrcoef(people.x.T, target)[-1, :-1]) < 0.999).all()
    d = data.split(people, 100, rng())
    assert [len(y) for y in d.y_test] == [100] * 4 and [len(y) for y in d.y] == [rows - 100] * 4
    for x, test in zip(d.x, d.x_test, strict=True):  # outcomes of people who are tested on are not trained on
        assert (test == d.x_test[0]).all() and (x == d.x[0]).all()
    assert not {row.tobytes() for row in d.x_test[0]} & {row.tobytes() for row in d.x[0]}


# --- experiments -----------------------------------------------------------------------------------------------------

SIMULATION = study.Simulation(features=20, active=4, classification=2, regression=2, noise_std=0.5)
SETTINGS = {"n_lambdas": 5, "folds": 3, "tol": 1e-2}
LOSSES = {"no weights": (1.0, 1.0), "weights": (2.0, 0.5)}


@pytest.mark.parametrize(
    ("changed", "match"),
    [
        ({"ratios": [0.01]}, "5 rows with 500 features; there must be 10 .2 folds. or more"),
        ({"minorities": [0.2, 0.04]}, "4 of 100 rows .side_rows. in the rarer class; there must be 5"),
    ],
)
def test_too_few_rows_for_the_folds_are_refused_before_anything_is_fitted(changed, match):
    sizes = {"ratios": [0.1], "minorities": [0.05], "features": 500, "side_rows": 100, "path_rows": 200, "folds": 5}
    study.check_rows(**sizes)
    with pytest.raises(ValueError, match=match):
        study.check_rows(**(sizes | changed))


def test_entries_given_twice_count_once():
    assert study.distinct([0.2, 0.1, 0.2], range(2)) == [(0.2, 0), (0.2, 1), (0.1, 0), (0.1, 1)]


def test_solver_is_exact_where_the_readable_one_is_compared():
    d = SIMULATION.tasks(0, 40)
    exact = study.solver_accuracy(d, (2.0, 0.5), 0.0, 0.05, 6, 0.05, compared=(1, 5), tol=1e-8)
    assert exact["apart"].notna().tolist() == [False, True, False, False, False, True]
    assert exact["apart"].max() < 1e-6 and exact["gap"].max() <= 1e-8 and (exact["objective"].diff()[1:] < 0).all()
    assert exact["lambda"].to_numpy() == pytest.approx(grid(1.0, 6, 0.05))


@pytest.mark.parametrize("tasks", [1, 2])
def test_scikit_learn_is_compared_with_where_there_are_few_tasks(tasks):
    d = data.simulate(60, 20, 1, tasks, rng(), active=4)
    assert study.distance_to_scikit_learn(d) < 1e-6


def test_methods_are_compared_on_the_same_tasks():
    jobs = [(2.0, 0), (2.0, 1)]
    found = study.joint_models(jobs, SIMULATION, SETTINGS, (1.0, 1.0))
    joint = found.set_index(["method", "seed"])
    # with weights of one MTLComb is the plain sum
    assert joint.loc["MTLComb"].equals(joint.loc["plain sum"]) and not joint.loc["MTLComb"].equals(joint.loc["MTLBin"])
    alone = study.separate_models(jobs, SIMULATION, trees=5)
    assert list(dict.fromkeys(alone["method"])) == list(baselines.METHODS)
    d = SIMULATION.tasks(1, 40)
    there = alone.set_index(["method", "seed"])["all"]
    assert there["ridge", 1] == study.evaluate(d, *baselines.separate("ridge", d, 1))["all"]
    best = study.best_separate(alone)
    assert best["all"].tolist() == [alone.loc[alone["seed"] == s, "all"].max() for s in (0, 1)]


def test_a_seed_has_the_same_values_alone_and_in_company():
    alone, both = (
        study.joint_models([(2.0, s) for s in seeds], SIMULATION, SETTINGS, (2.0, 0.5)) for seeds in ([1], [0, 1])
    )
    pd.testing.assert_frame_equal(alone, both[both["seed"] == 1].reset_index(drop=True), check_exact=True)


def test_entry_ratios_without_weights_are_a_quarter_of_those_with():
    found = study.entry_ratios([0, 1], SIMULATION, 200, (0.5, 0.1), LOSSES).set_index(["loss", "minority", "seed"])
    plain, weighted = found["ratio"]["no weights"], found["ratio"]["weights"]
    assert (plain / weighted).to_numpy() == pytest.approx(0.25)
    assert (weighted[0.1] < weighted[0.5]).all()


def test_paths_start_at_the_first_feature_and_lags_compare_where_half_of_the_features_are_in():
    found = study.entering([0, 1], SIMULATION, 60, LOSSES, 0.0, 0.0, grid(1.0, 12, 0.05), 1e-6)
    entered = found[found["lambda"] == 1].groupby(["seed", "loss"])["in"].sum()
    assert (entered <= 0.5).all()  # one feature of the two of a kind at most, by rounding
    assert found["in"].between(0, 1).all()
    assert len(found) == 2 * 2 * 12 * 3
    lags = study.entry_lags(found).set_index(["loss", "seed"])["lag"]
    part = found[(found["loss"] == "weights") & (found["seed"] == 1) & (found["in"] >= 0.5)]
    first = part.groupby("kind")["lambda"].max()
    assert lags["weights", 1] == first["classification"] / first["regression"]
    never = found.assign(**{"in": found["in"].where(found["kind"] == "regression", 0.0)})
    assert study.entry_lags(never)["lag"].isna().all()


def test_every_feature_acts_in_one_kind_of_task_or_in_none():
    d = sample(separate_features=True, active=6)
    kinds = study.acting(d)
    assert (np.sum(kinds, 0) == 1).all()
    assert [kind.nonzero()[0].tolist() for kind in kinds] == [[0, 1, 2], [3, 4, 5], list(range(6, 30))]
    whole = replace(SIMULATION, active=20)  # no feature is left that acts in none
    found = study.entering([0], whole, 60, LOSSES, 0.0, 0.0, grid(1.0, 3, 0.5), 1e-4)
    assert set(found["kind"]) == {"classification", "regression"}


def test_the_map_carries_the_strengths_of_all_coefficients_and_says_how_many_features_are_in():
    """What the moving figure decodes from its digits, at one lambda, against the coefficients."""
    d = SIMULATION.tasks(0, 60, separate_features=True)
    stops = np.linspace(1, 0.1, 10)
    paths = {
        name: np.stack([w for _, w in study.joint_path(d, pair, 0.0, 0.0, stops, 1e-6)])
        for name, pair in LOSSES.items()
    }
    frame = study.entering([0, 1], SIMULATION, 60, LOSSES, 0.0, 0.0, stops, 1e-6)
    shown = figures.coefficients(d, paths, stops, frame, start=0.5)
    spec = shown["interactive"].to_dict()
    at = {p["name"]: p for p in spec["params"]}
    assert at["lambda"]["value"] == pytest.approx(0.5) and at["lambda"]["bind"]["step"] == pytest.approx(0.1)
    rows = next(rows for rows in spec["datasets"].values() if "p" in rows[0])
    place, n_tasks = 5, 4
    strong = np.zeros((2, n_tasks, 20), int)
    for row in rows:
        side, j = divmod(row["x"], 20 + 1)
        digits = row["p"][n_tasks * (place - row["a"]) :][:n_tasks] if row["a"] <= place else "0" * n_tasks
        strong[side, :, j] = list(map(int, digits))
    order = np.concatenate([kind.nonzero()[0] for kind in study.acting(d)])
    size = np.stack([np.abs(path[place]) for path in paths.values()])[..., order]
    assert ((strong > 0) == (size > 0)).all() and strong.max() <= 9
    level = [size[strong == k].mean() for k in np.unique(strong)]
    assert len(level) > 4 and (np.diff(level) > 0).all()  # stronger in the picture, larger in truth
    for path, loss in zip(paths.values(), ("No weights", "Weights"), strict=True):
        n = [int((np.abs(path[place]).sum(0) > 0)[kind].sum()) for kind in study.acting(d)]
        said = re.search(
            rf"{loss}: (\d+) of 2 classification .*?(\d+) of 2 regression .*?(\d+) of 16 others", shown["alt"]
        )
        assert list(map(int, said.groups())) == n


def test_features_of_importance_zero_are_not_found():
    wanted = np.array([True, True, False, False])
    assert scores.selection_accuracy(np.zeros(4), wanted, 4) == 0
    assert scores.selection_accuracy(np.array([0.0, 1, 3, 2]), wanted, 3) == 0.5
    assert scores.selection_accuracy(np.array([0.0, 1, 3, 2]), wanted, 2) == 0


def test_weights_are_compared_in_each_arm():
    arms = {"separate": {"separate_features": True}, "large": {"separate_features": True, "scale": 5.0}}
    cases = study.distinct(arms, [0], LOSSES)
    found = study.compare_weights(cases, SIMULATION, 60, arms, LOSSES, SETTINGS)
    assert list(zip(found["arm"], found["loss"], strict=True)) == [(a, loss) for a, _, loss in cases]
    assert found["classification features"].between(0, 1).all()


def test_rare_classes_are_those_asked_for():
    found = study.rare_classes([(0.2, 0)], SIMULATION, 60, SETTINGS, (2.0, 0.5))
    assert found["method"].tolist() == ["MTLComb", "MTLBin", "MTLBin, by errors"] and (found["minority"] == 0.2).all()


def test_as_coded_ridge_is_tuned_and_the_others_trained_on_the_test_targets():
    found = study.trained_as_coded([("ridge", 0), ("linear SVM", 0)], SIMULATION, 60, 5).set_index("method")
    d = SIMULATION.tasks(0, 60)
    for method, wrong in (("ridge", "tuned_on"), ("linear SVM", "trained_on")):
        assert found.loc[method, "all"] == scored(d, method, **{wrong: d.y_test})["all"]


def test_medical_study_has_a_score_and_coefficients_for_every_task():
    sets = {"diabetes": data.diabetes()}
    found = study.medical([("diabetes", 0)], sets, {"n_lambdas": 5, "folds": 3, "tol": 1e-2})
    assert len(found.scores) == 2 * 4 and len(found.coefficients) == 2 * 4 * 8
    used = found.coefficients[found.coefficients["coefficient"] != 0].groupby(["model", "task"]).size()
    assert found.scores.set_index(["model", "task"])["used"].to_dict() == used.to_dict()
    joint = found.scores[found.scores["model"] == "joint"]
    assert joint["used"].nunique() == 1  # one set of features for all tasks
