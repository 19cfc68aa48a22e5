"""The experiments at small sizes: what must hold of their frames, by known cases and against the functions they use."""

import json
import math
from dataclasses import replace
from functools import partial

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from conftest import generator

from phenomena.chapters.local_elasticity import figures, lenet, study, theory
from phenomena.science import datasets
from phenomena.science.frames import per_seed, select, tidy

F64 = torch.float64
LAW = {"classes": 3, "paths": 20, "samples": 5, "sigma": 1.0}


# --- settings and images --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"observed": 11}, "observed 11: must be at most test_samples, 10"),
        ({"every": 30}, "steps 100: must be a multiple of every, 30"),
        ({"label_noise": [0.5, 0.0, 0.501]}, "must be at least 0.0025 apart"),
        ({"paths": 5000, "levels": 13}, "cloud 10 need 1.8 GB: must be at most 1"),
        ({"window": 2000}, "window 2000 has 199 values, one every 10 steps: must be 3 to 11"),
        ({"tail_window": 2000}, "a tail window of 2000 steps: must be shorter than the record, 100"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(changed, message):
    good = {"observed": 3, "test_samples": 10, "steps": 100, "every": 10, "window": 50, "tail_window": 50}
    good |= {"label_noise": [0.0, 0.5], "levels": 4, "paths": 10, "cloud": 10, "classes": 3}
    study.check_settings(**good)
    with pytest.raises(ValueError, match=message):
        study.check_settings(**(good | changed))


def test_choice_of_classes_from_a_data_set():
    whole = datasets.digits()
    part = study.choose_images(whole, 3, 40, 20, generator())
    assert part.x_train.shape == (120, 1, 32, 32) and part.x_test.shape == (60, 1, 32, 32)
    assert part.y_train.bincount().tolist() == [40] * 3 and part.classes == 3
    assert part.x_train[:, :, 12:20, 12:20].sum() == part.x_train.sum() > 0  # 8 x 8 in the middle
    assert torch.equal(study.images(whole, 3, 40, 20, 0).x_train, part.x_train)
    with pytest.raises(ValueError, match="11 classes: must be 2 to 10"):
        study.choose_images(whole, 11, 4, 2, generator())
    with pytest.raises(ValueError, match=r"4000 images of class 0 asked for, 1 to \d+ are there"):
        study.choose_images(whole, 3, 4000, 2, generator())
    x, y = torch.zeros(9, 1, 40), torch.arange(9) % 3
    with pytest.raises(ValueError, match="up to 32 x 32"):
        study.choose_images(datasets.Dataset(x, y, x, y, 3), 3, 4, 2, generator())


def test_a_data_set_that_cannot_give_what_is_asked_for_is_refused_before_anything_is_trained():
    x, y = torch.zeros(60, 1, 8, 9), torch.arange(60) % 3
    whole = datasets.Dataset(x, y, x[:33], y[:33], 3, ("ant", "bee", "cat"))
    good = {"classes": 3, "samples": 20, "test_samples": 11, "collapse_classes": 2, "collapse_samples": 20}
    study.check_data(whole, **good)
    study.check_data(None, **good)  # GeoMNIST has as many as one likes
    for changed, message in [
        ({"classes": 4}, "classes is 4: dataset has 3 classes, it must be as many or fewer"),
        ({"collapse_classes": 5}, "collapse_classes is 5: dataset has 3 classes"),
        ({"samples": 21}, r"samples: 21 a class asked for, class 0 \(ant\) has 20"),
        ({"test_samples": 12}, r"test_samples: 12 a class asked for, class 0 \(ant\) has 11"),
        ({"collapse_samples": 21}, r"collapse_samples: 21 a class asked for"),
    ]:
        with pytest.raises(ValueError, match=message):
            study.check_data(whole, **(good | changed))
    few = datasets.Dataset(x, y, x[:27], y[:27], 3)
    with pytest.raises(ValueError, match="10 test images for collapse_classes: 10 a class asked for, class 0 has 9"):
        study.check_data(few, **(good | {"test_samples": 9}))
    for shape in ((1, 40), (1, 33, 8), (3, 8, 33)):
        x = torch.zeros(60, *shape)
        with pytest.raises(ValueError, match="must be images up to 32 x 32"):
            study.check_data(datasets.Dataset(x, y, x[:33], y[:33], 3), **good)


def test_classes_are_called_what_the_data_call_them():
    x, y = torch.zeros(4, 1, 8, 8), torch.arange(4) % 2
    called = partial(datasets.Dataset, x, y, x, y, 2)
    assert figures.class_names(called()) == ["class 0", "class 1"]
    assert figures.class_names(called(("ant", "a very long name"))) == ["ant", "a very long n…"]
    long = ("a very long name", "a very long night")
    assert figures.class_names(called(long)) == list(long)  # apart at least
    assert figures.class_names(datasets.geomnist(3, 1, 1)) == ["triangle", "rectangle", "ellipse"]


def test_the_first_images_of_each_class():
    labels = torch.tensor([2, 0, 1, 0, 2, 1, 0])
    assert study.first_of_each(labels, 3, 2).tolist() == [1, 3, 2, 5, 0, 4]


# --- the equation ---------------------------------------------------------------------------------


def test_separation_obeys_the_theorem_in_all_its_forms():
    """Far from the border, so that the fraction of paths is 0 or 1 but for a rare path."""
    tails = torch.tensor([0.2, 1.6], dtype=F64)
    phase = study.phase_diagram(range(2), tails, 1.5, 1e8, **LAW)
    assert len(phase) == 2 * (4 + 2) and phase["seed"].unique().tolist() == [0, 1]
    means = phase.groupby(["alpha", "beta"])["separated"].mean()
    assert min(means[0.2, 1.6], means[0.2, math.inf]) > 0.95
    assert max(means[1.6, 0.2], means[1.6, 1.6], means[1.6, math.inf], means[0.2, 0.2]) < 0.05
    t = study.log_times(1e8)
    gaps = {"alone": theory.integrated_power(t, 0.2, 1.5), "steep": 3 * t.log(), "flat": 0 * t}
    named = study.separation(gaps, t, range(2), **LAW).groupby("case")["separated"].mean()
    assert min(named["alone"], named["steep"]) > 0.95 and named["flat"] < 0.05
    slices = study.critical_slice(range(2), torch.tensor([0.0, 3.0], dtype=F64), (1e8, 1e4, 1e8), **LAW)
    assert len(slices) == 2 * 2 * 2, "a horizon given twice counts once"
    ends = select(slices, horizon=1e8).groupby("c")["separated"].mean()
    assert ends[0.0] < 0.05 and ends[3.0] > 0.95


def test_stepped_paths_agree_with_the_exact_law():
    law = LAW | {"paths": 1000}
    jobs = [(model, r, s) for model in ("exact", "I", "L") for r in (0.2, 0.8) for s in range(2)]
    found = study.stepped_paths(jobs, 1.5, **law)
    assert list(zip(found["model"], found["r"], found["seed"], strict=True)) == jobs
    means = found.groupby(["model", "r"])["separated"].mean()
    assert means["exact"][0.2] > 0.95 and 0.1 < means["exact"][0.8] < 0.99
    # four standard errors of a difference of two fractions, 2000 paths each
    assert (means["I"] - means["exact"]).abs().max() < 4 * (2 * 0.25 / 2000) ** 0.5
    # steps stay short enough for few classes and large impacts
    assert study.stepped_paths([("L", 0.2, 0)], 10.0, **(law | {"classes": 2, "paths": 10}))["separated"].notna().all()


def test_class_means_reach_the_simplex_of_the_labels_only_for_negative_beta():
    cases = {"negative": ("L", -0.5), "zero": ("L", 0.0), "I": ("I", -0.5)}
    found = study.collapse_of_equation(range(3), 4, cases)
    ends = select(found, A=100.0)
    assert len(ends) == 9 and ends.loc[ends["case"] == "negative", ["angles", "duality"]].to_numpy().max() < 1e-3
    assert ends.loc[ends["case"] != "negative", "duality"].min() > 0.05
    angles = select(found, case="I").groupby("seed")["angles"]
    np.testing.assert_allclose(angles.first(), angles.last())


# --- networks -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def data():
    return datasets.geomnist(3, 12, 6, 0)


@pytest.fixture(scope="module")
def trials(data):
    return study.draw_trials(data, [0.0, 0.5], [7, 8], 100)


@pytest.fixture(scope="module")
def trained(data, trials):
    followed = study.first_of_each(data.y_test, 3, 4)
    return study.train_networks(trials.split(3), data, followed, lr=0.02, every=20, keep=[0, 30, 100])


def test_trials_are_drawn_by_fraction_and_filed_under_seeds(data, trials):
    assert trials.label_noise.tolist() == [0, 0, 0.5, 0.5] and trials.seed.tolist() == [7, 8, 7, 8]
    wrong = (trials.labels != data.y_train).double().mean(1)
    assert wrong.tolist() == [0, 0, 0.5, 0.5]
    alone = study.draw_trials(data, [0.5], [8], 100)
    for name, p in alone.net.items():
        assert torch.equal(p[0], trials.net[name][3]), "a trial depends on its own seed and fraction alone"
    assert torch.equal(alone.labels[0], trials.labels[3]) and torch.equal(alone.order[0], trials.order[3])
    assert torch.equal(trials.order[1], trials.order[3]) and not torch.equal(trials.order[0], trials.order[1])
    parts = trials.split(3)
    assert [len(part.order) for part in parts] == [3, 1]
    assert torch.equal(torch.cat([part.net["fc3"] for part in parts]), trials.net["fc3"])


def test_networks_trained_in_parts_are_those_trained_at_once(data, trials, trained):
    followed = study.first_of_each(data.y_test, 3, 4)
    history = lenet.train(trials.net, data.x_train, trials.labels, trials.order, lr=0.02, every=20,
                          observed=data.x_test[followed])  # fmt: skip
    assert torch.equal(trained.seen, history.seen)
    assert torch.equal(trained.means, lenet.class_means(history.observed, data.y_test[followed]).double())
    assert trained.times.tolist() == [0, 20, 40, 60, 80, 100]
    assert trained.accuracy.shape == (4,) and bool(((trained.accuracy >= 0) & (trained.accuracy <= 1)).all())
    assert ((trained.accuracy[trained.constant] - 1 / 3).abs() < 1e-6).all(), "one class is a third of the test images"
    half = trained.at(0.5)
    assert half.seed.tolist() == [7, 8] and torch.equal(half.seen, trained.seen[2:])
    assert torch.equal(trained.at(0.0).true, trained.at(0.0).given)
    assert not torch.equal(half.true, half.given)


def test_outcomes_mark_what_the_logarithm_hides(trained):
    frame = study.outcomes(trained, 40)
    assert frame["p"].tolist() == ["0.000", "0.000", "0.500", "0.500"]
    a, b = theory.estimate(trained.means, "I")
    np.testing.assert_array_equal(frame["A_I"], a[:, -1])
    np.testing.assert_array_equal(frame["B_I"], b[:, -1])
    # class means that shrink to a tenth: A and B are negative and large, so that only their sign marks them
    shrunk = torch.linspace(0, -40, 6, dtype=F64).exp().view(1, 6, 1, 1) * trained.means[:, :1]
    frame = study.outcomes(replace(trained, means=shrunk), 40)
    assert (frame["A_I"] < -1).all() and frame["marked_alpha_I"].all()
    grown = torch.linspace(0, 40, 6, dtype=F64).exp().view(1, 6, 1, 1) * trained.means[:, :1]
    assert not study.outcomes(replace(trained, means=grown), 40)["marked_alpha_I"].any()


def test_impacts_end_at_the_outcomes(trained):
    clean = trained.at(0.0)
    frame, ends = study.impacts(clean, 60, 20), study.outcomes(clean, 40)
    for name in ("A_I", "B_I", "A_L", "B_L"):
        np.testing.assert_array_equal(per_seed(frame, name, step=100), ends[name])
        np.testing.assert_array_equal(per_seed(frame, name, step=0), 0)
    one = select(frame, seed=8)
    np.testing.assert_array_equal(one["alpha"], theory.derivative(torch.tensor(one["A_I"].to_numpy()), 60, 20))


@pytest.mark.parametrize("model", ["I", "L"])
def test_a_network_that_obeys_a_model_is_predicted_by_it(trained, model):
    x0 = torch.randn(4, 3, 3, generator=generator(), dtype=F64)
    a = torch.linspace(0, 4, 6, dtype=F64)
    found = study.predict(replace(trained, means=theory.SOLUTIONS[model](x0, a, -0.5 * a)), start=1000)
    assert found.times.tolist() == [40, 60, 80, 100], "from half of training, which is less than `start`"
    scores = found.scores.groupby("model")
    assert scores["error"].max()[model] < 1e-6 and scores["alike"].min()[model] > 1 - 1e-6
    assert scores["error"].min()["L" if model == "I" else "I"] > 1e-3
    for fit in found.fits.values():
        torch.testing.assert_close(fit[:, 0], found.network[:, 0])


def test_margins_are_those_of_the_group(trained):
    """Networks that say the given label have margin 1 by it, and by the true class as often as the two agree."""
    exact = replace(trained, seen=torch.nn.functional.one_hot(trained.given, 3).float())
    frame = study.grouped_margins(exact.at(0.5), 100)
    assert frame["step"].unique().tolist() == [50]
    assert per_seed(frame, "margin", by="given label").tolist() == pytest.approx([1, 1])
    half = exact.at(0.5)
    for i, margin in enumerate(per_seed(frame, "margin", by="true class")):
        right = [(half.given[i] == k)[half.true[i] == k].double().mean().item() for k in range(3)]
        assert margin == pytest.approx(1.5 * np.mean(right) - 0.5)


def test_impacts_of_training_images_are_those_put_in(trained):
    """Class means that grow by e² from the first window to the second: M = D = 2, so that A = 2 + 2 · 2 and B = 0."""
    start = torch.randn(3, 3, generator=generator())
    growth = torch.tensor([1.0, math.exp(2)]).repeat_interleave(50)[:, None]
    clean = trained.at(0.0)
    frame = study.training_impacts(replace(clean, seen=start[clean.true] * growth), 50)
    assert frame["seed"].tolist() == [7, 8]
    np.testing.assert_allclose(frame[["A", "B"]], [[6, 0], [6, 0]], atol=1e-4)  # logits are in single precision


def test_single_steps_are_measured_after_as_much_training_as_they_say(data, trials, trained):
    observed = study.first_of_each(data.y_test, 3, 2)
    frame = study.single_steps(trained.at(0.5), data, observed, 0.02)
    assert frame["step"].tolist() == [0, 30, 100] * 2 and frame["seed"].tolist() == [7] * 3 + [8] * 3
    net = lenet.train(trials.net, data.x_train, trials.labels, trials.order, lr=0.02, every=100,
                      observed=data.x_test[:1]).net  # fmt: skip
    half = {name: p[2:] for name, p in net.items()}
    table = lenet.direct_elasticity(half, data.x_test[observed], data.y_test[observed], 0.02)
    np.testing.assert_allclose(per_seed(frame, "within", step=100), table.diagonal(dim1=1, dim2=2).mean(1))
    off = table.flatten(1)[:, [1, 2, 3, 5, 6, 7]].mean(1)
    np.testing.assert_allclose(per_seed(frame, "between", step=100), off)


# --- neural collapse ------------------------------------------------------------------------------


def test_conditions_of_neural_collapse():
    whole, clean = study.collapse_images("weight decay", None, 3, 40, 0)
    _, noisy = study.collapse_images("label noise", None, 3, 40, 0)
    x, rare = study.collapse_images("imbalance", None, 3, 40, 0)
    assert clean.bincount().tolist() == [40] * 3 and rare.bincount().tolist() == [40, 4, 4] and len(x) == 48
    assert 0 < (noisy != clean).sum() <= 24
    assert whole.shape == (120, 1, 16, 16), "halved"


def test_collapse_is_followed_to_the_last_epoch():
    settings = {"classes": 2, "samples": 5, "epochs": 2, "weight_decay": 0.005}
    curves = study.collapse_curves(["weight decay", "no decay"], [0, 1], None, **settings)
    alone = study.collapse_curves(["no decay"], [1], None, **settings)
    pd.testing.assert_frame_equal(alone, select(curves, condition="no decay", seed=1).reset_index(drop=True))
    assert curves.groupby(["condition", "seed"], sort=False).ngroups == 4
    assert curves["epoch"].max() == 2 and curves["fitted"].between(0, 1).all()
    ends = study.collapse_ends(curves)
    first, last = (select(curves, condition="weight decay", seed=1).iloc[i] for i in (0, -1))
    end = select(ends, condition="weight decay", seed=1).iloc[0]
    assert end["nc1"] == last["nc1"]
    assert end["fall_nc1"] == pytest.approx(math.log10(max(first["nc1"], 1e-12) / max(last["nc1"], 1e-12)))


# --- what figures say -----------------------------------------------------------------------------


def test_the_figure_on_accuracies_counts_networks_that_say_one_class(trained):
    frame = study.outcomes(trained, 40).assign(constant=[True, False, True, True])
    shown = figures.transition(frame, tested=20, critical=2 / 3, steps=100, tail_window=40)
    plt.close(shown["figure"])
    assert "into one class: 1 at p = 0, 2 at p = 0.5." in shown["caption"]
    assert f"{frame['accuracy'][:2].mean():.2f} at 0, {frame['accuracy'][2:].mean():.2f} at 0.5" in shown["alt"]


def test_no_band_of_a_share_leaves_its_bounds_or_has_no_width():
    """Each condition has intervals of as many trials as its own images."""
    settings = {"classes": 2, "samples": 20, "epochs": 2, "weight_decay": 0.005}
    curves = study.collapse_curves(["weight decay", "imbalance"], [0, 1], None, **settings).assign(fitted=1.0, nc4=0.0)
    assert curves.groupby("condition")["images"].unique().map(list).to_dict() == {
        "imbalance": [22],
        "weight decay": [40],
    }
    shown = figures.collapse(curves, study.collapse_ends(curves), classes=2, dataset="geomnist")
    plt.close(shown["figure"])
    nc4, fitted = shown["figure"].axes[4:6]
    ends = [
        [1 - 0.025 ** (1 / (2 * images)) for images in (40, 22)],
        [0.025 ** (1 / (2 * images)) for images in (40, 22)],
    ]
    for ax, far, near in ((nc4, ends[0], 0), (fitted, ends[1], 1)):
        bands = [part.get_paths()[0].vertices[:, 1] for part in ax.collections]
        assert [b[abs(b - near).argmax()] for b in bands] == pytest.approx(far)
        assert min(b.min() for b in bands) >= 0 and max(b.max() for b in bands) <= 1


def test_the_table_has_the_papers_figures_only_where_they_belong(trained):
    frame = study.outcomes(trained, 40)
    paper = figures.table(frame, with_paper=True).data
    assert paper["accuracy", "paper"].tolist() == ["1.00", "0.58"]
    assert paper["tail index of β (I)", "paper"].tolist() == ["1.13", ""]
    assert (figures.table(frame, with_paper=False).data["accuracy", "paper"] == "").all()


def test_rows_of_the_diagram_say_where_half_of_the_paths_separate():
    grid = (0.4, 1.0, 1.6)
    rows = [(s, a, b, float(a < 0.5)) for s in (0, 1) for b in (*grid, math.inf) for a in grid if b > 0.5]
    rows += [(s, a, 0.4, 0.0) for s in (0, 1) for a in grid]
    diagram = pd.DataFrame(rows, columns=["seed", "alpha", "beta", "separated"])
    named = pd.DataFrame({"case": ["separated_early", "separated_late"], "separated": [1.0, 0.25]})
    shown = figures.slices(diagram, named, 1e12, 1)
    plt.close(shown["figure"])
    separate = "up to 0.40 for tail index 1.00, up to 0.40 for tail index 1.60, up to 0.40 for β = 0."
    assert f"Half of them or more separate {separate}" in shown["alt"] and "at T = 10¹² " in shown["caption"]
    assert "1.00 at 0.7 and 0.25 at 1.3" in shown["alt"]
    assert set(shown["data"]["β"]) == {"tail index 0.40", "tail index 1.00", "tail index 1.60", "β = 0"}


def test_the_distance_outruns_the_spread_only_where_alpha_outlasts_beta():
    tails = torch.tensor([0.2, 0.6, 1.6], dtype=F64)
    frame = study.race(tails, 1.5, 1e6, 3, 2.0)
    assert frame["spread"].max() == pytest.approx(2e3) and len(frame) == 9 * 19
    np.testing.assert_allclose(select(frame, alpha=0.6, beta=0.6)["distance"], 1.5**0.5)
    grown = select(frame, alpha=0.6, beta=1.6).iloc[-1]
    integrals = [theory.integrated_power(torch.tensor([1, 10.0], dtype=F64), r, 1.5)[-1] for r in (0.6, 1.6)]
    at_ten = select(frame, alpha=0.6, beta=1.6).iloc[3]
    assert at_ten["t"] == pytest.approx(10)
    assert at_ten["distance"] == pytest.approx(1.5**0.5 * math.exp((integrals[0] - integrals[1]) / 3))
    assert grown["distance"] > grown["spread"]
    diagram = study.phase_diagram(range(2), tails, 1.5, 1e6, **LAW)
    shown = figures.race(frame, diagram, 20)
    plt.close(shown["figure"])
    assert (
        "α falls with tail index 0.2, β with 1.6: at t = 10⁶ the distance is ahead; of simulated paths, 1.00 ["
        in shown["alt"]
    )
    reading = next(p for p in shown["interactive"].to_dict()["params"] if p["name"] == "reading")
    assert "index 1.6, \\u03b2 with 0.2: at t = 10\\u2076 the spread is ahead" in reading["expr"]


# --- the plane of the logits ----------------------------------------------------------------------


def test_an_image_lies_towards_its_corner_by_its_logits_lead():
    """Of three classes; the corners themselves are a regular polygon whatever their number."""
    for classes in (2, 3, 7):
        ends = study.corners(classes)
        assert ends[0].tolist() == pytest.approx([0, 1], abs=1e-15)
        torch.testing.assert_close(ends.norm(dim=1), torch.ones(classes, dtype=F64))
        torch.testing.assert_close(ends.sum(0), torch.zeros(2, dtype=F64), rtol=0, atol=1e-12)
    z = torch.randn(5, 3, generator=generator(), dtype=F64)
    lead = 1.5 * (z - z.mean(1, keepdim=True))  # own logit less the mean of the others, for each class as its own
    torch.testing.assert_close((z @ study.corners(3)) @ study.corners(3).T, lead)


def test_places_and_leads_are_those_of_the_observed_images(trained):
    frame, leads = study.on_the_plane(trained, 8, [0, 5]), study.leads(trained, [0, 5])
    assert frame["step"].unique().tolist() == [0, 100] and frame["label_noise"].unique().tolist() == [0, 0.5]
    assert len(frame) == 2 * 2 * 12 and frame.groupby("class")["image"].nunique().tolist() == [4] * 3
    ends = select(frame, label_noise=0.5, step=100)
    assert ends[["x", "y"]].mean().abs().max() < 1e-6, "their common mean is taken off"
    own = study.corners(3).numpy()[ends["class"]]
    lead = per_seed(leads, "lead", [8], label_noise=0.5, step=100)
    assert (ends[["x", "y"]].to_numpy() * own).sum(1).mean() == pytest.approx(lead[0], abs=1e-6)
    right = (trained.logits[3, 5].argmax(1) == trained.classes).double().mean()
    assert per_seed(leads, "right", [8], label_noise=0.5, step=100)[0] == pytest.approx(right.item())


def test_checkpoints_are_evenly_spaced_from_the_first(trained):
    assert list(study.some_checkpoints(trained, 40)) == [0, 1, 2, 3, 4, 5]
    assert list(study.some_checkpoints(trained, 1)) == [0, 5]
    assert list(study.some_checkpoints(trained, 2)) == [0, 2, 4]


def test_the_moving_plane_stays_small_for_many_images_and_fractions():
    noises, steps = tuple(i / 11 for i in range(10)), tuple(range(0, 10_001, 250))
    places = torch.randn(2, len(noises), len(steps), 150, generator=generator(), dtype=F64)
    plane = tidy(places[0].numpy(), "x", label_noise=noises, step=steps, image=range(150))
    plane = plane.assign(y=places[1].flatten().numpy(), **{"class": plane["image"] // 50})
    leads = tidy(places[..., 0].numpy(), "lead", seed=(0, 1), label_noise=noises, step=steps).assign(right=0.5)
    shown = figures.apart(plane, leads, names=["a", "b", "c"], critical=2 / 3)
    plt.close(shown["figure"])
    assert len(json.dumps(shown["interactive"].to_dict())) < 300_000
    assert shown["caption"].startswith("Logits of 24 test images")


@pytest.mark.parametrize(("classes", "noises"), [(2, (0.0,)), (3, (0.0, 0.501, 0.504)), (10, (0.2, 0.9))])
def test_the_moving_plane_has_a_place_for_every_step_and_fraction(classes, noises):
    steps, places = (0, 500, 1000), torch.randn(2, len(noises), 3, 2 * classes, generator=generator())
    plane = tidy(places[0].numpy(), "x", label_noise=noises, step=steps, image=range(2 * classes))
    plane = plane.assign(y=places[1].flatten().numpy(), **{"class": plane["image"] // 2})
    leads = tidy(places[:, :, :, 0].numpy(), "lead", seed=(0, 1), label_noise=noises, step=steps).assign(right=0.5)
    names = figures.class_names(datasets.geomnist(classes, 1, 1))
    shown = figures.apart(plane, leads, names=names, critical=1 - 1 / classes)
    plt.close(shown["figure"])
    found = {p["name"]: p for p in shown["interactive"].to_dict()["params"]}
    assert found["step_ticks"]["value"] == ["0", "500", "1,000"] and found["step"]["bind"]["max"] == 2
    percent = [text.replace("\N{NO-BREAK SPACE}", " ") for text in found["wrong_labels_ticks"]["value"]]
    assert len(set(percent)) == len(noises) == found["wrong_labels"]["bind"]["max"] + 1
    assert percent == {2: ["0 %"], 3: ["0 %", "50.1 %", "50.4 %"], 10: ["20 %", "90 %"]}[classes]
    assert all(text in found["reading"]["expr"] for text in ("[wrong_labels][step]", "share of right answers"))
