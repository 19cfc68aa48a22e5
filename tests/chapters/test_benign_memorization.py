"""The chapter's own mathematics."""

import math
from pathlib import Path

import matplotlib.pyplot as plt
import pytest
import torch
from test_datasets import make_cifar10

from phenomena.chapters.benign_memorization import study as chapter
from phenomena.runs.store.chapters import Project
from phenomena.science import datasets, label_noise, metrics, networks, probes, training

X = torch.randn(12, 1, 40, generator=torch.Generator().manual_seed(0))
NAMES = ["shift", "noise"]


def test_views_are_distinct_versions_of_their_own_sample():
    views = chapter.views(X, NAMES, 0.01, 3, torch.Generator().manual_seed(0))
    assert views.shape == (12, 3, 1, 40)
    assert not torch.equal(views[:, 0], views[:, 1])
    nearest = torch.cdist(views.flatten(0, 1).flatten(1), X.flatten(1)).argmin(1)
    assert torch.equal(nearest.view(12, 3), torch.arange(12)[:, None].expand(12, 3))
    assert torch.equal(chapter.views(X, [], 1.0, 2, torch.Generator()), X[:, None].expand(12, 2, 1, 40))


def test_fixed_versions_come_back_and_fresh_ones_do_not():
    views = chapter.views(X, NAMES, 1.0, 2, torch.Generator().manual_seed(0))
    labels = torch.arange(24).view(12, 2)
    inputs, targets = chapter.draw_fixed(views, labels, torch.Generator().manual_seed(1))(torch.arange(12))
    for i in range(12):  # the label is that of the very version shown
        assert torch.equal(inputs[i], views[i, targets[i] - 2 * i])
    fresh = chapter.draw_fresh(X, torch.arange(12), NAMES, 1.0, torch.Generator().manual_seed(1))
    (first, same), (second, _) = fresh(torch.arange(12)), fresh(torch.arange(12))
    assert torch.equal(same, torch.arange(12)) and not torch.equal(first, second)


def test_without_augmentation_fresh_is_the_data():
    inputs, _ = chapter.draw_fresh(X, torch.arange(12), [], 1.0, torch.Generator())(torch.tensor([3, 1]))
    assert torch.equal(inputs, X[[3, 1]])


def test_mixed_inputs_lie_between_two_samples_and_keep_the_first_label():
    labels = torch.arange(12)
    plain = lambda index: (X[index], labels[index])  # noqa: E731
    mixed, kept = chapter.mix_inputs(plain, 1.0, torch.Generator().manual_seed(3))(labels)
    assert torch.equal(kept, labels)
    generator = torch.Generator().manual_seed(3)
    weight = torch.rand(2, generator=generator)[0]
    partner = X[torch.randperm(12, generator=generator)]
    torch.testing.assert_close(mixed, weight * X + (1 - weight) * partner)
    assert torch.equal(chapter.mix_inputs(plain, 0.0, torch.Generator())(labels)[0], X)


def test_same_class_groups_are_disjoint_and_pure():
    data = datasets.digits()
    groups = chapter.same_class_groups(data, 25, 5, torch.Generator().manual_seed(0))
    assert groups.shape == (25, 5) and len(groups.unique()) == 125
    classes = data.y_train[groups]
    assert (classes == classes[:, :1]).all()
    assert torch.bincount(classes[:, 0]).tolist() == [3] * 5 + [2] * 5
    with pytest.raises(ValueError, match=r"class \d has 1\d\d training samples: too few for 20 groups of 10"):
        chapter.same_class_groups(data, 200, 10, torch.Generator())


def test_value_at_equal_accuracy():
    assert chapter.at_accuracy([0.1, 0.5, 0.9], [1.0, 2.0, 4.0], 0.7) == pytest.approx(3.0)
    assert chapter.at_accuracy([0.4, 0.5], [1.0, 2.0], 0.4) == 1.0
    assert math.isnan(chapter.at_accuracy([0.4, 0.5], [1.0, 2.0], 0.2))  # the first look is above it already
    assert math.isnan(chapter.at_accuracy([0.1, 0.2], [1.0, 2.0], 0.5))


def test_looks_are_close_at_the_start_and_then_even():
    assert chapter.looks(100) == [0, 1, 2, 4, 8, *range(10, 101, 10)]
    assert chapter.looks(45) == [0, 1, 2, *range(4, 45, 4), 45]
    assert chapter.looks(3) == [0, 1, 2, 3]


def test_partly_random_labels():
    drawn, true = torch.full((10, 4), 7), torch.arange(40).view(10, 4)
    generator = torch.Generator().manual_seed(0)
    before = generator.get_state()
    assert torch.equal(label_noise.mix_labels(drawn, true, 1.0, generator), drawn)
    assert torch.equal(generator.get_state(), before)
    half = label_noise.mix_labels(drawn, true + 100, 0.5, generator)
    assert (half == 7).sum() == 20 and torch.equal(half[half != 7], (true + 100)[half != 7])
    assert torch.equal(label_noise.mix_labels(drawn, true, 0.0, generator), true)


def test_a_look_is_the_two_accuracies_one_by_one():
    data = datasets.subset(datasets.digits(), 60, 50, torch.Generator().manual_seed(0))
    form = {"width": 4, "depth": 2, "hidden": 8, "seed": 0}
    network = networks.encoder_projector("cnn", data.x_train.shape[1:], 10, **form)
    train, test = (networks.layers(network, x)["pool"] for x in (data.x_train, data.x_test))
    knn = metrics.accuracy(probes.knn_predict(train, data.y_train, test, 5), data.y_test)
    answers = metrics.accuracy(training.predict(network, data.x_test), data.y_test)
    assert chapter.look(network, data, 5) == (knn, answers)


def test_wide_layers_are_probed_with_fewer_rows(monkeypatch):
    data, seen = datasets.digits(), []
    small = datasets.Dataset(data.x_train[:40], data.y_train[:40], data.x_test[:10], data.y_test[:10], 10)
    plain = chapter.probes.linear_predict
    monkeypatch.setattr(chapter, "LARGEST", 64 * 30)
    monkeypatch.setattr(chapter.probes, "linear_predict", lambda f, *rest: (seen.append(len(f)), plain(f, *rest))[1])
    network = torch.nn.Sequential(torch.nn.AvgPool2d(2))
    frame = chapter.measure(network, small, small.y_train, small.x_train[:, None].expand(40, 2, 1, 8, 8), k=5)
    assert seen == [30, 40] and frame["value"].notna().all()


def test_measure_reads_labels_where_they_are():
    """Features that hold the class and nothing else: k-NN is perfect, random labels stay at chance."""
    data = datasets.digits()
    keep = slice(0, 300)
    one_hot = torch.nn.functional.one_hot(data.y_train[keep], 10).float()
    small = datasets.Dataset(one_hot, data.y_train[keep], one_hot, data.y_train[keep], 10)
    random = label_noise.redraw_labels(small.y_train, 1.0, 10, torch.Generator().manual_seed(0))
    network = torch.nn.Sequential(torch.nn.Identity())
    frame = chapter.measure(network, small, random, one_hot[:, None].expand(300, 2, 10), k=5)
    value = frame.set_index(["layer", "quantity"])["value"]
    assert set(frame["layer"]) == {"input", "0"}
    assert value["input", "knn"] == 1 and value["0", "linear"] == 1 and value["input", "distance"] == pytest.approx(0)
    assert value["input", "memorised"] < 0.25


def test_paper_edition_loads_and_takes_its_first_steps(monkeypatch, tmp_path):
    """The notebook's own code with the settings of the paper on generated images in CIFAR-10's format, on this CPU."""
    chapter_files = Project(Path(__file__).parents[2]).chapter("benign_memorization")
    make_cifar10(monkeypatch, tmp_path, rows=60)
    small = {
        "samples": 64, "test_samples": 50, "hidden": 64, "epochs": 1, "batch": 32, "side_samples": 50, "k": 5,
        "copies_levels": [2], "noise_levels": [0.5], "group": 2, "device": "cpu", "seeds": 1,
    }  # fmt: skip
    namespace = {"check_parameters": None}
    for cell in chapter_files.source.cells:
        if cell.cell_type != "code":
            continue
        exec(cell.source, namespace)
        if "parameters" in cell.metadata.get("tags", []):
            namespace.update(chapter_files.resolve("paper", small))
        if "main" in namespace:  # the main study has run; the others use the same pieces
            break
    main = namespace["main"]
    assert list(main["layer"].unique()) == [
        "input", "stem", "stage1", "stage2", "stage3", "stage4", "pool", "hidden", "logits",
    ]  # fmt: skip
    assert set(main["arm"]) == {"untrained", "no augmentation", "augmentation", "true labels"}
    assert main["value"].notna().all()


def test_side_studies_keep_to_the_rows_and_seeds_of_the_main_one():
    """The whole notebook, asked for more rows and seeds in its side studies than in the main one; partial noise."""
    chapter_files = Project(Path(__file__).parents[2]).chapter("benign_memorization")
    small = {
        "samples": 50, "test_samples": 50, "side_samples": 100, "seeds": 1, "side_seeds": 2, "copies_levels": [1],
        "noise": 0.5, "epochs": 1, "k": 5,
    }  # fmt: skip
    values, figures, namespace = {}, [], {"check_parameters": None}
    for cell in chapter_files.source.cells:
        if cell.cell_type != "code" or cell.source == "check_parameters(globals())":
            continue
        exec(cell.source, namespace)
        namespace |= {"record": lambda **v: values.update(v), "show": lambda figure, **_: figures.append(figure)}
        if "parameters" in cell.metadata.get("tags", []):
            namespace |= chapter_files.resolve("smoke", small)
    for figure in figures:
        plt.close(figure)
    assert {name: len(column) for name, column in values.items() if len(column) != 1} == {}
    assert math.isnan(values["fitted_independent"][0]) and math.isnan(values["knn_alike"][0])
