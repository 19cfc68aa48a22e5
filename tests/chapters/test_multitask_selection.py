"""The chapter's simulations, scores and baselines against closed forms, limits and scikit-learn."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import norm
from sklearn.linear_model import LinearRegression

from phenomena.chapters.multitask_selection import mixed_multitask as mixed
from phenomena.chapters.multitask_selection import study as chapter
from phenomena.runs.contract.parameters import VOCABULARY


def rng(seed=0):
    return np.random.default_rng(seed)


def draw(rows=60, features=30, seed=0, **settings):
    return chapter.simulate(rows, features, 3, 3, rng(seed), **({"active": 5} | settings))


# --- where features enter --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("minority", [0.5, 0.3, 0.05])
def test_entry_ratio_is_the_covariance_of_label_and_score(minority):
    c = norm.ppf(1 - minority)
    above = quad(lambda s: s * norm.pdf(s), c, np.inf)[0]
    below = quad(lambda s: s * norm.pdf(s), -np.inf, c)[0]
    assert chapter.entry_ratio(minority) == pytest.approx(above - below, rel=1e-8)
    assert chapter.entry_ratio(0.5) == pytest.approx((2 / np.pi) ** 0.5)


@pytest.mark.parametrize("minority", [0.5, 0.1])
def test_features_enter_at_that_ratio_when_labels_are_a_gaussian_scores_sign(minority):
    """The same score cut to labels and kept as it is: 200,000 rows, one feature, no noise."""
    s = rng().standard_normal((200_000, 1))
    labels = np.where(s[:, 0] > norm.ppf(1 - minority), 1.0, -1.0)
    both = chapter.Draw([s, s], [labels, s[:, 0]], [], [], np.array([True, False]), np.ones((2, 1)))
    as_class, as_value = chapter.entry_lambdas(both, (2.0, 0.5))
    assert as_value == pytest.approx(1.0, rel=1e-6)
    assert as_class == pytest.approx(chapter.entry_ratio(minority), abs=0.01)
    # without weights the logistic loss has half the slope of 2 x, the squares twice that of x / 2: four times apart
    plain_class, plain_value = chapter.entry_lambdas(both, (1.0, 1.0))
    assert plain_class / plain_value == pytest.approx(as_class / as_value / 4, rel=1e-6)


# --- simulation ------------------------------------------------------------------------------------------------------


def test_simulated_tasks_have_the_stated_law():
    d = chapter.simulate(4000, 20, 2, 2, rng(), active=5, minority=0.2, scale=3.0)
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
    sizes = np.abs(chapter.simulate(2, 2000, 1, 1, rng(), active=2000).w)
    assert sizes.mean() == pytest.approx(norm.expect(lambda g: abs(1 + g)), abs=0.05)


def test_own_features_are_of_one_kind_of_task_only():
    d = draw(own=True, active=6)
    assert (d.w[:3, :3] != 0).all() and (d.w[:3, 3:] == 0).all()
    assert (d.w[3:, 3:6] != 0).all() and (d.w[3:, :3] == 0).all() and (d.w[3:, 6:] == 0).all()


def test_same_generator_same_draw_and_wrong_numbers_refused():
    a, b = draw(seed=4), draw(seed=4)
    assert all((x == y).all() for x, y in zip(a.x + a.y_test, b.x + b.y_test, strict=True))
    with pytest.raises(ValueError, match="31 active features of 30"):
        draw(active=31)
    for minority in (0.0, 0.6, float("nan")):
        with pytest.raises(ValueError, match="above 0, at most"):
            draw(minority=minority)


def test_binarised_targets_keep_classes_and_cut_the_others_at_their_quantile():
    d = draw(minority=0.25)
    found = chapter.binarised(d, 0.25)
    assert all((a == b).all() for a, b in zip(found[:3], d.y[:3], strict=True))
    for values, labels in zip(d.y[3:], found[3:], strict=True):
        assert (labels > 0).sum() == 15 and values[labels > 0].min() > values[labels < 0].max()


# --- scores ----------------------------------------------------------------------------------------------------------


def test_explained_share_of_values_is_the_squared_correlation():
    x, e = rng().standard_normal((2, 500))
    assert chapter.explained(x, x, False) == pytest.approx(1)
    assert chapter.explained(-3 * x + 7, x + e, False) == pytest.approx(np.corrcoef(x, x + e)[0, 1] ** 2)
    assert chapter.explained(np.full(500, 0.1), e, False) == 0


def test_explained_share_of_labels_is_nagelkerkes():
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import log_loss

    z, e = rng().standard_normal((2, 300))
    y = np.where(z + e > 0.5, 1.0, -1.0)
    p = LogisticRegression(C=np.inf, tol=1e-8).fit(z[:, None], y).predict_proba(z[:, None])[:, 1]
    l1, l0 = -300 * log_loss(y > 0, p), -300 * log_loss(y > 0, np.full(300, (y > 0).mean()))
    expected = (1 - np.exp(2 * (l0 - l1) / 300)) / (1 - np.exp(2 * l0 / 300))
    assert chapter.explained(z, y, True) == pytest.approx(expected, abs=1e-6)
    assert chapter.explained(-5 * z + 2, y, True) == pytest.approx(expected, abs=1e-6)
    assert chapter.explained(np.where(y > 0, z.max() + 9, z.min()), y, True) == pytest.approx(1, abs=1e-3)
    assert chapter.explained(np.zeros(300), y, True) == 0


def test_explained_share_at_chance_is_about_one_over_n():
    noise = rng(1).standard_normal((2, 400, 50))
    for is_class, factor in ((False, 1), (True, 4 / 3)):  # Nagelkerke divides by 1 - 1/4 for equal classes
        y = np.where(noise[1] > 0, 1.0, -1.0) if is_class else noise[1]
        found = [chapter.explained(a, b, is_class) for a, b in zip(noise[0], y, strict=True)]
        assert np.mean(found) == pytest.approx(factor / 50, rel=0.2)


def test_selection_counts_only_features_that_are_selected():
    active = np.array([True, True, False, False])
    assert chapter.selected_right(np.array([3.0, 2, 1, 0]), active) == 1
    assert chapter.selected_right(np.array([3.0, 0, 1, 0]), active) == 0.5
    assert chapter.selected_right(np.zeros(4), active) == 0


# --- models ----------------------------------------------------------------------------------------------------------


def test_joint_model_finds_the_shared_features():
    d = draw()
    fit, model = chapter.joint(d, lambdas=20, tol=1e-4)
    row = fit.row(d)
    assert row["selection"] == 1 and row["regression"] > 0.8 and row["classification"] > 0.4
    assert row["all"] == pytest.approx((row["classification"] + row["regression"]) / 2)
    assert model.cv_.best < model.cv_.lambdas[0]
    labels, _ = chapter.joint(d, targets=chapter.binarised(d), lambdas=20, tol=1e-4)
    assert labels.row(d)["regression"] < row["regression"]


@pytest.mark.parametrize("method", list(chapter.METHODS))
def test_each_baseline_learns_from_its_own_labels_and_nothing_from_others(method):
    """A task of two strong features, where every baseline must succeed when it is trained on its own labels."""
    d = chapter.simulate(150, 6, 1, 1, rng(2), active=2, noise=0.1)
    fit = chapter.separate(method, d, seed=0)
    row = fit.row(d)
    assert row["classification"] > 0.5 and row["regression"] > 0.5
    if method == "RBF SVM":
        assert fit.strength is None and np.isnan(row["selection"])
    else:
        assert row["selection"] == 1
    # The test rows' labels on the training rows: a direction at random, which explains 1 / 60 of a target by chance.
    wide = chapter.simulate(100, 60, 3, 3, rng(2), active=3, noise=0.1)
    own = chapter.separate(method, wide, seed=0).row(wide)["all"]
    astray = chapter.separate(method, wide, seed=0, trained_on=wide.y_test).row(wide)["all"]
    assert astray < 0.08 and own > 3 * astray


def test_penalty_chosen_on_other_labels_still_fits_the_own():
    d = chapter.simulate(100, 10, 1, 1, rng(1), active=2)
    row = chapter.separate("ridge", d, seed=0, tuned_on=d.y_test).row(d)
    assert row["all"] > 0.3
    values = replace(d, **{name: getattr(d, name)[1:] for name in ("x", "y", "x_test", "y_test", "classes", "w")})
    for method in ("lasso", "elastic net"):  # other labels ask for a penalty so large that nothing is left
        own, other = (chapter.separate(method, values, seed=0, tuned_on=on) for on in (None, values.y_test))
        assert (own.strength > 0).sum() > (other.strength > 0).sum()
    with pytest.raises(ValueError, match="'forest' is not known: one of lasso"):
        chapter.separate("forest", d, seed=0)


@pytest.mark.parametrize("method", ["linear SVM", "RBF SVM"])
def test_units_of_the_target_do_not_matter_to_a_support_vector_machine(method):
    d = draw()
    scaled = replace(d, y=[y if c else 10 + 30 * y for y, c in zip(d.y, d.classes, strict=True)])
    for a, b, c in zip(*(chapter.separate(method, x, seed=0).scores for x in (d, scaled)), d.classes, strict=True):
        assert b == pytest.approx(a if c else 10 + 30 * a)


def test_same_seed_same_scores():
    d = draw()
    for method in ("random forest", "elastic net"):
        a, b = (chapter.separate(method, d, seed=3) for _ in range(2))
        assert all((x == y).all() for x, y in zip(a.scores, b.scores, strict=True))


# --- medical tasks ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("load", "rows", "features"), [(chapter.diabetes, 442, 8), (chapter.breast_cancer, 569, 20)])
def test_medical_tasks_hold_no_target_among_the_features(load, rows, features):
    data = load()
    assert data.x.shape == (rows, features) and data.y.shape == (rows, 4) and len(data.features) == features
    assert not set(data.features) & set(data.tasks)
    for target, is_class in zip(data.y.T, data.classes, strict=True):
        assert (set(target) == {-1.0, 1.0}) == is_class
        assert (np.abs(np.corrcoef(data.x.T, target)[-1, :-1]) < 0.999).all()
    d = chapter.split(data, 100, rng())
    assert [len(y) for y in d.y_test] == [100] * 4 and [len(y) for y in d.y] == [rows - 100] * 4
    for x, test in zip(d.x, d.x_test, strict=True):  # outcomes of people who are tested on are not trained on
        assert (test == d.x_test[0]).all() and (x == d.x[0]).all()
    assert not {row.tobytes() for row in d.x_test[0]} & {row.tobytes() for row in d.x[0]}


# --- the notebook's cells --------------------------------------------------------------------------------------------

CELLS = {
    cell["id"]: "".join(cell["source"])
    for cell in json.loads((Path(__file__).parents[2] / "notebooks" / "multitask_selection.ipynb").read_text())["cells"]
}


def cells(*names, **changed):
    """Names after these cells of the notebook, at its default parameters but for what is changed."""
    space = dict(VOCABULARY) | {"np": np, "mixed": mixed}
    exec(CELLS["cell-03"], space)
    space |= changed
    for name in names:
        exec(CELLS[name], space)
    return space


@pytest.mark.parametrize(
    ("changed", "match"),
    [
        ({"ratios": [0.01]}, "5 rows with 500 features, 10 .2 folds. or more"),
        ({"minorities": [0.2, 0.04]}, "4 of 100 rows .side_rows. in the rarer class, 5"),
    ],
)
def test_too_few_rows_for_the_folds_are_refused_before_anything_is_fitted(changed, match):
    with pytest.raises(ValueError, match=match):
        cells("parameters-together", **changed)


def test_entries_given_twice_count_once():
    assert cells("parameters-together", minorities=[0.2, 0.2])["minorities"] == [0.2]


def test_scikit_learn_is_compared_with_where_there_are_two_tasks():
    from sklearn.linear_model import MultiTaskLasso

    d = chapter.simulate(60, 20, 1, 1, rng(), active=4)
    given = {"problem": SimpleNamespace(x=d.x), "example": d, "MultiTaskLasso": MultiTaskLasso, "places": [0]}
    given |= {"twin": np.ones(1), "exact": {"objective": SimpleNamespace(iloc=np.ones(1))}}
    found = {}
    cells("cell-10", record=found.update, **given)
    assert found["scikit_learn_apart"][0] < 1e-6


def test_features_of_strength_zero_are_not_found():
    d = chapter.simulate(30, 10, 2, 2, rng(), active=4, own=True)
    nothing = chapter.Fit([np.zeros(30)] * 4, np.zeros(10))
    source = CELLS["cell-26"].partition("jobs =")[0]
    space = cells() | {
        "draw": lambda *rest, **own: d,
        "selection": SimpleNamespace(joint=lambda *rest, **settings: (nothing, None)),
    }
    space |= {"SHARED": {}, "PLAIN": None, "WEIGHTED": None, "EVEN": None}
    space["kinds"] = lambda d: ((d.w != 0)[d.classes].any(0), (d.w != 0)[~d.classes].any(0))
    exec(source, space)
    assert space["weigh"]("own", 0, None)["labels found"] == 0
