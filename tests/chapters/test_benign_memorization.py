"""Views, experiments and figures of the chapter on benign memorization."""

import json
import math
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
import pytest
import torch
from conftest import generator

from phenomena.chapters.benign_memorization import figures, probes, study, views
from phenomena.runs.store import claims, published
from phenomena.runs.store.chapters import Project
from phenomena.science import datasets, label_noise, metrics, networks, training

NAMES = ["shift", "noise"]
COLUMNS = ["seed", "step", "fitted", "knn", "test", "copies", "independent", "label_noise"]


X, ALL = torch.randn(12, 1, 40, generator=generator()), torch.arange(12)[None]


def setting_of(source, values, augmentation):
    """The setting that the notebook makes of its parameters."""
    return study.Setting(
        source=source,
        augmentation=augmentation,
        architecture={"kind": values["network"], **{name: values[name] for name in ("width", "depth", "hidden")}},
        optimisation={
            "cosine": values["schedule"] == "cosine",
            **{name: values[name] for name in ("loss", "optimiser", "lr", "weight_decay", "batch")},
        },
        **{name: values[name] for name in ("samples", "test_samples", "label_noise", "strength", "epochs", "k")},
    )


def small_setting(**changed):
    """A setting of a few seconds on the digits."""
    values = {
        "samples": 60, "test_samples": 50, "label_noise": 1.0, "strength": 0.5, "epochs": 2, "k": 5,
        "network": "cnn", "width": 4, "depth": 2, "hidden": 8, "loss": "cross_entropy", "optimiser": "adam",
        "lr": 4e-3, "schedule": "cosine", "weight_decay": 0.0, "batch": 20,
    }  # fmt: skip
    return setting_of(datasets.digits(), values | changed, ["crop", "brightness"])


# --- views ------------------------------------------------------------------------------------------------------------


def test_a_problem_has_no_more_test_rows_than_there_are_and_its_own_labels_without_noise():
    problem = views.draw_problem(datasets.digits(), 60, 10_000, 0.0, 3)
    assert torch.equal(problem.labels, problem.data.y_train)
    assert len(problem.data.x_test) == len(datasets.digits().x_test)


def test_a_data_set_that_cannot_give_what_is_asked_for_is_refused_before_anything_is_trained():
    x, y = torch.zeros(60, 1, 8, 8), torch.tensor([0] * 40 + [1] * 15 + [2] * 5)
    source = datasets.Dataset(x, y, x, y, 3)
    good = {"samples": 50, "side_samples": 15, "k": 20}
    study.check_data(source, **good)
    for changed, message in [
        ({"samples": 61}, "samples is 61: dataset has 60 training rows, it must be as many or fewer"),
        ({"k": 50}, "k is 50: must be below samples, 50"),
        ({"side_samples": 16}, "side_samples takes 6 rows of each class: class 2 of dataset has 5, lower it"),
    ]:
        with pytest.raises(ValueError, match=message):
            study.check_data(source, **(good | changed))


def test_augmented_versions_are_distinct_and_near_their_own_sample():
    versions = views.augmented(X, NAMES, 0.01, 3, generator())
    assert not torch.equal(versions[:, 0], versions[:, 1])
    nearest = torch.cdist(versions.flatten(0, 1).flatten(1), X.flatten(1)).argmin(1)
    assert torch.equal(nearest.view(12, 3), torch.arange(12)[:, None].expand(12, 3))
    assert torch.equal(views.augmented(X, [], 1.0, 2, generator()), X[:, None].expand(12, 2, 1, 40))


def test_fixed_versions_come_back_and_fresh_ones_do_not():
    versions = views.augmented(X, NAMES, 1.0, 2, generator())
    labels = torch.arange(24).view(12, 2)
    inputs, targets = views.fixed_loader(versions[None], labels[None], [generator(1)])(ALL)
    for i in range(12):  # the label is that of the very version shown
        assert torch.equal(inputs[0, i], versions[i, targets[0, i] - 2 * i])
    fresh = views.fresh_loader(X[None], ALL, NAMES, 1.0, [generator(1)])
    (first, same), (second, _) = fresh(ALL), fresh(ALL)
    assert torch.equal(same, ALL) and not torch.equal(first, second)


def test_batches_of_several_networks_are_those_of_each_alone():
    """Each from its own data, labels and generator, whoever stands beside it."""
    x, labels, index = (
        torch.stack([X, X.flip(0)]),
        torch.stack([ALL[0], ALL[0] + 20]),
        torch.stack([ALL[0], ALL[0].flip(0)]),
    )
    versions = torch.stack([views.augmented(part, NAMES, 1.0, 3, generator()) for part in x])
    several = labels[..., None].expand(2, 12, 3)
    made = [
        lambda s, g: views.fresh_loader(x[s], labels[s], NAMES, 1.0, g),
        lambda s, g: views.fixed_loader(versions[s], several[s], g),
        lambda s, g: views.mix_inputs(views.fixed_loader(versions[s], several[s], g), 0.5, g),
    ]
    for make in made:
        both = make(slice(2), [generator(1), generator(2)])
        alone = [make(slice(s, s + 1), [generator(s + 1)]) for s in range(2)]
        for _ in range(4):
            inputs, targets = both(index)
            for s in range(2):
                one, two = alone[s](index[s : s + 1])
                assert torch.equal(inputs[s], one[0]) and torch.equal(targets[s], two[0])


def test_without_augmentation_fresh_is_the_data():
    inputs, _ = views.fresh_loader(X[None], ALL, [], 1.0, [generator()])(torch.tensor([[3, 1]]))
    assert torch.equal(inputs[0], X[[3, 1]])


def test_mixed_inputs_lie_between_two_samples_and_keep_the_first_label():
    plain = lambda index: (X[index], index)  # noqa: E731
    mixed, kept = views.mix_inputs(plain, 1.0, [generator(3)])(ALL)
    assert torch.equal(kept, ALL)
    twin = generator(3)
    weight = torch.rand(2, generator=twin)[0]
    partner = X[torch.randperm(12, generator=twin)]
    torch.testing.assert_close(mixed[0], weight * X + (1 - weight) * partner)
    assert torch.equal(views.mix_inputs(plain, 0.0, [generator()])(ALL)[0][0], X)


def test_same_class_groups_are_disjoint_and_pure():
    data = datasets.digits()
    groups = views.same_class_groups(data, 25, 5, generator())
    assert len(groups.unique()) == 125
    classes = data.y_train[groups]
    assert (classes == classes[:, :1]).all()
    assert torch.bincount(classes[:, 0]).tolist() == [3] * 5 + [2] * 5
    with pytest.raises(ValueError, match=r"class \d has 1\d\d training samples: too few for 20 groups of 10"):
        views.same_class_groups(data, 200, 10, generator())


def test_the_largest_group_is_possible_and_the_next_is_not():
    data = datasets.digits()
    size = views.largest_group(data, 40)
    assert views.same_class_groups(data, 40, size, generator()).shape == (40, size)
    with pytest.raises(ValueError, match=f"too few for 4 groups of {size + 1}"):
        views.same_class_groups(data, 40, size + 1, generator())


# --- what is measured -------------------------------------------------------------------------------------------------


def test_value_at_equal_accuracy():
    assert study.value_at_accuracy([0.1, 0.5, 0.9], [1.0, 2.0, 4.0], 0.7) == pytest.approx(3.0)
    assert study.value_at_accuracy([0.4, 0.5], [1.0, 2.0], 0.4) == 1.0
    assert math.isnan(study.value_at_accuracy([0.4, 0.5], [1.0, 2.0], 0.2))  # the first checkpoint is above it already
    assert math.isnan(study.value_at_accuracy([0.1, 0.2], [1.0, 2.0], 0.5))


def test_checkpoints_are_close_at_the_start_and_then_even():
    assert study.checkpoint_steps(100) == [0, 1, 2, 4, 8, *range(10, 101, 10)]
    assert study.checkpoint_steps(45) == [0, 1, 2, *range(4, 45, 4), 45]
    assert study.checkpoint_steps(3) == [0, 1, 2, 3]


def test_accuracies_at_a_checkpoint_equal_those_computed_one_by_one():
    setting = small_setting()
    data, network = setting.problems([0])[0].data, setting.new_network(0)
    train, test = (networks.layers(network, x)["pool"] for x in (data.x_train, data.x_test))
    knn = metrics.accuracy(probes.knn_predict(train, data.y_train, test, 5), data.y_test)
    answers = metrics.accuracy(training.predict([network], data.x_test[None])[0], data.y_test)
    assert study.knn_and_test_accuracy(network, data, 5) == (knn, answers)


def test_wide_layers_are_probed_with_fewer_rows(monkeypatch):
    data, seen = datasets.digits(), []
    small = datasets.Dataset(data.x_train[:40], data.y_train[:40], data.x_test[:10], data.y_test[:10], 10)
    plain = probes.linear_predict
    monkeypatch.setattr(study, "PROBED_ENTRIES", 64 * 30)
    monkeypatch.setattr(probes, "linear_predict", lambda f, *rest: (seen.append(len(f)), plain(f, *rest))[1])
    network = torch.nn.Sequential(torch.nn.AvgPool2d(2))
    frame = study.measure(network, small, small.y_train, small.x_train[:, None].expand(40, 2, 1, 8, 8), k=5)
    assert seen == [30, 40] and frame.notna().all(axis=None)


def test_measure_reads_labels_where_they_are():
    """Features that hold the class and nothing else: k-NN is perfect, random labels stay at chance."""
    data = datasets.digits()
    labels = data.y_train[:300]
    one_hot = torch.nn.functional.one_hot(labels, 10).float()
    small = datasets.Dataset(one_hot, labels, one_hot, labels, 10)
    random = label_noise.redraw_labels(labels, 1.0, 10, generator())
    network = torch.nn.Sequential(torch.nn.Identity())
    frame = study.measure(network, small, random, one_hot[:, None].expand(300, 2, 10), k=5).set_index("layer")
    assert list(frame.index) == ["input", "0"]
    assert frame.loc["input", "knn"] == 1 and frame.loc["0", "linear"] == 1
    assert frame.loc["input", "distance"] == pytest.approx(0)
    assert frame.loc["input", "memorized"] < 0.25


# --- experiments ------------------------------------------------------------------------------------------------------


def test_the_untrained_arm_is_the_network_as_initialised():
    setting = small_setting()
    frame = study.train_arm(setting, [1], "untrained").probed
    data, labels, chance = setting.problems([1])[0]
    pair = views.augmented(data.x_train, setting.augmentation, setting.strength, 2, chance)
    expected = study.measure(setting.new_network(1), data, labels, pair, setting.k)
    pd.testing.assert_frame_equal(frame[expected.columns], expected)


def test_an_arm_keeps_the_features_of_its_first_seed(monkeypatch):
    monkeypatch.setattr(study, "KEPT_ROWS", 7)
    setting = small_setting()
    features = study.train_arm(setting, [1, 2], "untrained").features
    expected = networks.layers(setting.new_network(1), setting.problems([1])[0].data.x_train[:7])
    assert list(features) == list(expected)
    assert all(torch.equal(features[layer], rows) for layer, rows in expected.items())


def test_without_label_noise_the_arm_on_true_labels_is_that_with_augmentation():
    clean = small_setting(label_noise=0.0)
    frames = [study.train_arm(clean, [1], arm).probed.drop(columns="arm") for arm in ("augmentation", "true labels")]
    pd.testing.assert_frame_equal(*frames)
    noisy = study.train_arm(small_setting(), [1], "augmentation").probed.drop(columns="arm")
    assert not noisy.equals(frames[0])


def test_without_augmentation_the_number_of_copies_changes_nothing():
    setting = small_setting()
    fresh, fixed = (study.train_arm(setting, [1], "no augmentation", copies).probed for copies in (study.FRESH, 3))
    pd.testing.assert_frame_equal(fresh, fixed)


def test_versions_are_probed_at_the_steps_asked_for_and_give_the_same_each_time():
    setting = small_setting()
    steps = study.checkpoint_steps(setting.steps(40))
    frame = study.train_on_versions(setting, [1], 40, 3, checkpoints=steps)
    assert list(frame["step"]) == steps == [0, 1, 2, 3, 4]
    pd.testing.assert_frame_equal(frame, study.train_on_versions(setting, [1], 40, 3, checkpoints=steps))
    # probing on the way does not change the training
    last = study.train_on_versions(setting, [1], 40, 3)
    assert list(last.columns) == COLUMNS
    pd.testing.assert_frame_equal(frame.tail(1).reset_index(drop=True), last)


def test_variants_change_what_they_name_and_nothing_else(monkeypatch):
    seen, setting = [], small_setting()
    monkeypatch.setattr(training, "train", lambda networks, loader, *rest, **options: seen.append((loader, options)))
    for change in ({}, {"loss": "mse"}, {"weight_decay": 0.1}, {"mixed_batches": 1.0}):
        study.train_on_versions(setting, [1], 60, study.FRESH, checkpoints=[0], **change)
    plain, *changed = [{name: options[name] for name in setting.optimisation} for _, options in seen]
    assert plain == setting.optimisation
    assert changed == [plain | {"loss": "mse"}, plain | {"weight_decay": 0.1}, plain]
    rows = torch.arange(60)[None]
    first, again, _, mixed = (loader(rows)[0] for loader, _ in seen)
    assert torch.equal(first, again) and not torch.equal(first, mixed)


def test_versions_share_a_label_unless_they_are_independent(monkeypatch):
    seen = []
    monkeypatch.setattr(study.views, "fixed_loader", lambda v, labels, g: (seen.append(labels[0]), X)[1])
    monkeypatch.setattr(study, "_train_and_probe", lambda *rest, **_: pd.DataFrame({"seed": [1]}))
    setting = small_setting()
    for independent, noise in ((False, 1.0), (True, 1.0), (True, 0.0)):
        study.train_on_versions(setting, [1], 40, 8, independent=independent, label_noise=noise)
    shared, apart, clean = seen
    assert (shared == shared[:, :1]).all() and torch.equal(shared[:, 0], setting.problems([1])[0].labels[:40])
    assert (apart != apart[:, :1]).any(1).sum() > 30  # eight labels from ten classes agree with probability 1e-7
    assert torch.equal(clean, setting.problems([1], 0.0)[0].data.y_train[:40, None].expand(40, 8))


def test_seeds_do_not_depend_on_those_beside_them():
    setting, fixed = small_setting(), {"checkpoints": [0, 2, 4]}
    studies = [
        lambda seeds: study.train_arm(setting, seeds, "augmentation").probed,
        lambda seeds: study.train_arm(setting, seeds, "augmentation", 3).probed,
        lambda seeds: study.train_on_versions(setting, seeds, 40, 3, independent=True, mixed_batches=0.5, **fixed),
        lambda seeds: study.train_on_versions(setting, seeds, 40, study.FRESH, loss="mse"),
        lambda seeds: study.train_on_groups(setting, seeds, 20, 3),
    ]
    for run in studies:
        both, alone = run([1, 2]), run([2])
        second = both[both["seed"] == 2].reset_index(drop=True)
        pd.testing.assert_frame_equal(second, alone.reset_index(drop=True), check_exact=True)


def test_groups_of_a_class_are_trained_on():
    frame = study.train_on_groups(small_setting(label_noise=0.5), [1], 20, 3)
    assert list(frame["step"]) == [2] and frame.notna().all(axis=None)


def test_paper_edition_takes_its_first_steps():
    """The settings of the paper on generated images of CIFAR-10's size, on this CPU."""
    chapter = Project(Path(__file__).parents[2]).chapter("benign_memorization")
    small = {"samples": 64, "test_samples": 50, "hidden": 64, "epochs": 1, "batch": 32, "side_samples": 50, "k": 5,
             "group": 2, "device": "cpu"}  # fmt: skip
    values = chapter.resolve("paper", small)
    images, labels = torch.rand(300, 3, 32, 32, generator=generator()), torch.arange(300) % 10
    source = datasets.Dataset(images, labels, images[:60], labels[:60], 10)
    setting = setting_of(source, values, values["image_augmentation"])
    frame = study.train_arm(setting, [0, 1], "augmentation", values["copies"]).probed
    layers = ["input", "stem", "stage1", "stage2", "stage3", "stage4", "pool", "hidden", "logits"]
    assert list(frame["layer"]) == 2 * layers and frame.notna().all(axis=None)


# --- frames and figures -----------------------------------------------------------------------------------------------


def runs(levels, seeds=(1, 2), **changed):
    """A frame of `train_on_versions` made by hand: three checkpoints of every run."""
    rows = [
        {"seed": s, "step": step, "fitted": fitted, "knn": 0.3 + s / 10 + fitted, "test": 0.1, "copies": b}
        for s in seeds
        for b in levels
        for step, fitted in ((0, 0.1), (1, 0.3), (2, 0.5))
    ]
    return pd.DataFrame(rows).assign(independent=False, label_noise=1.0).assign(**changed)


def test_the_end_is_the_last_checkpoint_and_equal_accuracy_lies_between_two():
    frame = runs([study.FRESH, 2])
    last = study.at_the_end(frame)
    assert len(last) == 4 and (last["step"] == 2).all()
    equal = study.at_equal_accuracy(frame, 0.4).set_index(["copies", "seed"])["knn"]
    assert equal[2, 1] == pytest.approx(0.8) and equal[study.FRESH, 2] == pytest.approx(0.9)
    assert study.at_equal_accuracy(frame, 0.6)["knn"].isna().all()


@pytest.mark.parametrize("seeds", [(1,), (1, 2)])
def test_figures_are_drawn_with_one_version_and_one_seed(seeds):
    path = runs([1, study.FRESH], seeds)
    last, fixed = study.at_the_end(path), study.at_the_end(path[path["copies"] != study.FRESH])
    partial = study.at_the_end(pd.concat([path, runs([study.FRESH], seeds, label_noise=0.0)]))
    layers = pd.DataFrame({"layer": ["input", "pool", "logits"], "knn": 0.5, "linear": 0.5, "memorized": 0.5,
                           "distance": 0.5, "fitted": 0.5})  # fmt: skip
    main = pd.concat([layers.assign(seed=s, arm=arm) for s in seeds for arm in study.ARMS])
    shown = [
        figures.knn(main, 0.1, 50),
        figures.memory(main, 0.1, 20, 50),
        figures.invariance(main),
        figures.diversity(last, study.at_equal_accuracy(path, 0.6), 0.6, 20, 0.1, 50),  # no run reaches it
        figures.paths(path, 0.6, 0.1),
        figures.capacity(fixed, 20, 0.1),
        figures.perfect(main, last, last[last["copies"] == 1], 4, 20, 0.1, 50),
        figures.partial(partial, 20, 0.1, 50),
        figures.variants(last.assign(variant="as here"), 20, 0.1, 50),
    ]
    for one in shown:
        one["figure"].draw_without_rendering()
        plt.close(one["figure"])
        paths = [path for ax in one["figure"].axes for drawn in ax.collections for path in drawn.get_paths()]
        bands = [path.vertices[:, 1] for path in paths if len(path.vertices) and not math.isnan(path.vertices[0, 1])]
        assert all(0 <= min(band) < max(band) <= 1 for band in bands)  # a width, although all seeds agree
        assert "nan" not in one["alt"] + one["caption"] and len(one["alt"]) > 40 and len(one["data"])


def test_the_moving_figure_has_every_layer_of_every_point_and_says_what_k_nn_finds():
    layers, places = ["input", "pool", "logits"], torch.rand(2, 3, 20, 2, generator=generator())
    arms = ("no augmentation", "augmentation")
    maps = {arm: dict(zip(layers, at, strict=True)) for arm, at in zip(arms, places, strict=True)}
    rows = [
        {"seed": s, "arm": arm, "layer": layer, "knn": 0.2 + i / 10, "memorized": 0.9 - i / 10}
        for s in (1, 2)
        for arm in study.ARMS
        for i, layer in enumerate(layers)
    ]
    problem = views.draw_problem(datasets.digits(), 60, 50, 1.0, 1)
    shown = figures.embedding(maps, problem, pd.DataFrame(rows), 50)
    plt.close(shown["figure"])
    spec = shown["interactive"].to_dict()
    found = {p["name"]: p for p in spec["params"]}
    assert found["layer"]["value"] == 1 and found["layer"]["bind"]["max"] == 2
    assert found["layer_ticks"]["value"] == layers
    assert found["colour"]["bind"]["options"] == ["true class", "random label"]
    said = json.loads(found["reading"]["expr"].removesuffix("[layer][which]"))
    assert said[1][0].startswith("Layer pool: k-NN finds a point's true class with accuracy 0.30 [")
    assert said[2][1].startswith("Layer logits: k-NN finds a point's random label with accuracy 0.70 [")
    points = spec["layer"][-1]["data"]["values"]
    assert len(points) == 40 and points[27]["y"] == pytest.approx(places[1, :, 7, 1].tolist(), abs=6e-4)
    assert points[27]["c"] == [int(problem.data.y_train[7]), int(problem.labels[7])]
    assert all(0 <= x <= 1 for row in points[:20] for x in row["x"])  # the arms do not overlap
    assert all(x > 1.1 for row in points[20:] for x in row["x"])


def test_shares_are_whole_numbers_of_the_trials_that_the_claims_name():
    """The published shares, but those of versions: a sample's versions count as one trial."""
    project = Project(Path(__file__).parents[2])
    chapter = project.chapter("benign_memorization")
    record, counts = published.read(project, chapter), {}
    for name in record.values.keys() - {"fitted_shared", "fitted_independent", "fitted_perfect"}:
        trials = claims.trials(chapter, name, record)
        assert (trials is None) == name.startswith("distance")
        if trials is not None and not name.endswith("_equal"):  # between two checkpoints
            pairs = zip(record.values[name], trials, strict=True)
            counts.setdefault(trials[0], []).extend(value * n for value, n in pairs if value is not None)
    for values in counts.values():
        assert values == pytest.approx([round(value) for value in values], abs=1e-3)
        assert math.gcd(*map(round, values)) == 1  # no multiple of the true number
