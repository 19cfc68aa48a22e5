"""Sequences, networks of two paths, and closed forms of the context's vote, against twins, oracles and limits."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from conftest import generator
from PIL import Image, ImageDraw
from scipy.optimize import minimize_scalar
from torch.func import grad

from phenomena.chapters.in_context_learning import induction, omniglot, sequences, study, theory
from phenomena.chapters.in_context_learning.sequences import BLOCK_STEPS, Task, draw, table
from phenomena.chapters.in_context_learning.two_paths import (
    Networks,
    Passes,
    Training,
    check,
    initial,
    logits_readable,
    train,
    train_readable,
)
from phenomena.own_data import DataError
from phenomena.science.frames import per_seed, select

SMALL = Task(classes=12, labels=4, context=3, exemplars=5, features=6)
SHORT = Training(steps=70, batch=9, hidden=11)


def tables_of(task, seeds):
    generators = [generator(seed) for seed in seeds]
    return torch.stack([table(task, g) for g in generators]), generators


def last(networks):
    for _, net in networks:
        found = net
    return Networks(*(p.clone() for p in found))


# --- sequences -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"classes": 7}, "classes is 7: must be at least labels = 8, one for each"),
        ({"labels": 1}, "labels is 1: must be 2 or more, for a label to be flipped"),
        ({"copies": 5}, "copies is 5: must be at most context = 4, the pairs there are"),
        ({"copies": 0}, "copies is 0: must be 1 or more"),
        ({"context": 0}, "context is 0: must be 1 or more"),
        ({"supported": 1.1}, "supported is 1.1: must be 0 to 1"),
        ({"spread": -0.1}, "spread is -0.1: must be 0 or more and finite"),
        ({"zipf": math.inf}, "zipf is inf: must be 0 or more and finite"),
        ({"dataset": "mnist"}, "dataset is 'mnist': must be one of gaussian, omniglot"),
    ],
)
def test_a_task_of_which_no_sequences_can_be_made_is_refused_in_one_line(changed, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        Task(**changed)


def test_items_have_the_stated_law_and_novel_classes_are_apart():
    task = Task(classes=400, labels=8, exemplars=6, features=40, spread=0.8)
    items = table(task, generator()).view(2, task.classes, task.exemplars, -1)
    assert items.square().sum(3).mean().item() == pytest.approx(1, abs=0.01)
    pairs = (items[:, :, :1] * items[:, :, 1:]).sum(3)
    assert pairs.mean().item() == pytest.approx(theory.class_cosine(0.8), abs=0.01)
    apart = (items[0] * items[1]).sum(2)
    assert apart.mean().abs().item() < 4 * (1 / 40 / apart.numel()) ** 0.5
    same = table(replace(task, spread=0.0), generator()).view(800, 6, 40)
    assert (same == same[:, :1]).all()


@pytest.mark.parametrize("zipf", [0.0, 1.0])
@pytest.mark.parametrize("kind", sequences.KINDS)
def test_sequences_of_each_kind_are_what_they_say(kind, zipf):
    task = replace(SMALL, zipf=zipf, copies=2, context=4)
    drawn = draw(task, kind, 4000, generator(3))
    classes = drawn.items // task.exemplars
    query, copies, rest = classes[0], classes[1:3], classes[3:]
    supported = (copies == query).all(0)
    share = {"training": task.supported, "unsupported": 0.0}.get(kind, 1.0)
    assert supported.double().mean().item() == pytest.approx(share, abs=0.02)
    assert (rest != query).all() and ((copies != query).all(0) | supported).all()
    assert (classes // task.classes == (kind == "novel")).all()
    assert torch.equal(drawn.own, query % task.labels)
    if kind in ("training", "unsupported"):
        assert torch.equal(drawn.labels, classes % task.labels)
    else:
        assert (drawn.labels[1:3] == drawn.labels[0]).all() and (drawn.labels[0] != drawn.own).all()
        counts = F.one_hot(drawn.labels[3:].flatten(), task.labels).double().mean(0)
        assert counts.tolist() == pytest.approx([1 / task.labels] * task.labels, abs=0.025)
    alike = (drawn.items[1:3] == drawn.items[0]).all(0).double().mean().item()
    assert alike == 1 if kind == "copied" else alike < 0.2


@pytest.mark.parametrize("zipf", [0.0, 0.7, 2.0])
def test_classes_occur_by_zipfs_law_and_others_by_it_without_the_query(zipf):
    task = replace(SMALL, zipf=zipf)
    p = sequences.frequencies(task)
    assert p.tolist() == pytest.approx((np.arange(1, 13) ** -zipf / (np.arange(1, 13) ** -zipf).sum()).tolist())
    classes = draw(task, "unsupported", 100_000, generator(1)).items // task.exemplars
    seen = F.one_hot(classes[0], 12).double().mean(0)
    assert (seen - p).abs().max() < 0.006
    given = F.one_hot(classes[1:, classes[0] == 0].flatten(), 12).double().mean(0)
    expected = torch.cat([torch.zeros(1, dtype=torch.float64), p[1:] / (1 - p[0])])
    assert (given - expected).abs().max() < 0.02 and given[0] == 0


def test_redrawn_labels_are_those_of_no_class():
    drawn = draw(replace(SMALL, redrawn=True, supported=1.0), "training", 500, generator())
    assert (drawn.labels[0] != drawn.own).all() and (drawn.labels[1] == drawn.labels[0]).all()
    with pytest.raises(ValueError, match=r"^sequences of kind 'flip': must be one of training, flipped, copied"):
        draw(SMALL, "flip", 5, generator())


# --- Omniglot, on strokes drawn here ----------------------------------------------------------------


def draw_strokes(place, characters, exemplars):
    """Files as Omniglot's: each character three strokes of its own, each drawing of it with a shaking hand."""
    rng = np.random.default_rng(0)
    for c in range(characters):
        home = place / f"Alphabet_{c % 3}" / f"character{c // 3 + 1:02}"
        home.mkdir(parents=True)
        strokes = rng.uniform(15, 90, (3, 4, 2))
        for k in range(exemplars):
            image = Image.new("1", (105, 105), 1)
            shaken = strokes + rng.normal(0, 2.5, strokes.shape)
            for stroke in shaken:
                ImageDraw.Draw(image).line([tuple(point) for point in stroke], fill=0, width=3)
            image.save(home / f"{c:04}_{k + 1:02}.png")


@pytest.fixture(scope="module")
def strokes(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    draw_strokes(root / "omniglot-py" / "images_background", characters=12, exemplars=6)
    return root


@pytest.fixture
def at_hand(strokes, monkeypatch):
    monkeypatch.setenv("PHENOMENA_DATA", str(strokes))
    return omniglot.folder()


DRAWN = Task(classes=40, labels=4, context=3, exemplars=5, features=12, spread=1.0, dataset="omniglot")


def test_drawings_are_read_in_order_with_dark_strokes(at_hand):
    images = omniglot.drawings(at_hand, 5)
    assert images.shape == (12, 5, 28, 28) and images.dtype == torch.float32
    assert images.min() == 0 and 0.5 < images.max() <= 1 and 0.02 < images.mean() < 0.3
    with Image.open(at_hand / "Alphabet_1" / "character02" / "0004_03.png") as image:
        ink = 1 - np.asarray(image, float).mean()
    assert images[4 + 1, 2].mean().item() == pytest.approx(ink, abs=2e-3)  # the second of the second alphabet


def test_orientations_are_the_eight_symmetries_of_a_square():
    image = torch.arange(9.0).view(3, 3)
    turned = {tuple(image.flatten()[order].tolist()) for order in omniglot.orientations(3)}
    expected = [i.rot90(k) for i in (image, image.flip(0)) for k in range(4)]
    assert len(turned) == 8 and turned == {tuple(i.flatten().tolist()) for i in expected}


def test_features_are_whitened_principal_components(at_hand):
    """Against scikit-learn on all drawings in all orientations."""
    from sklearn.decomposition import PCA

    found = omniglot.features(at_hand, 6, 12)
    assert found.shape == (12, 8, 6, 12)
    flat = found.flatten(0, 2).double()
    torch.testing.assert_close(flat.mean(0), torch.zeros(12).double(), atol=1e-5, rtol=0)
    torch.testing.assert_close(flat.T @ flat / len(flat), torch.eye(12).double() / 12, atol=1e-5, rtol=0)
    images = omniglot.drawings(at_hand, 6).flatten(2)
    every = torch.stack([images[..., order] for order in omniglot.orientations(28)], 1).flatten(0, 2)
    oracle = PCA(16, whiten=True, svd_solver="full").fit(every.double().numpy())
    gaps = oracle.explained_variance_[:-1] / oracle.explained_variance_[1:]
    cut = next(d for d in range(12, 2, -1) if gaps[d - 1] > 1.001)  # pairs of directions are alike by symmetry
    theirs = torch.from_numpy(oracle.transform(every.double().numpy())[:, :cut])
    ours = omniglot.features(at_hand, 6, cut).flatten(0, 2).double()
    alike = theirs.T @ ours / len(ours) * cut**0.5  # a rotation, where both span the same space
    torch.testing.assert_close(alike @ alike.T, torch.eye(cut).double(), atol=1e-2, rtol=0)


def test_items_are_drawings_and_no_character_is_trained_and_novel(at_hand):
    every = omniglot.features(at_hand, 5, 12)
    items = table(DRAWN, generator()).view(80, 5, 12)
    distances = (items[:, None, 0] - every.flatten(0, 1)[None, :, 0]).abs().amax(2)
    assert (distances.amin(1) < 1e-5).all()
    places = distances.argmin(1)
    trained, novel = set((places[:40] // 8).tolist()), set((places[40:] // 8).tolist())
    assert len(places.unique()) == 80 and not trained & novel
    # labels are spread over orientations, or a label would be an orientation
    assert all(len(set((places[label:40:4] % 8).tolist())) > 2 for label in range(4))
    assert not torch.equal(items, table(DRAWN, generator(1)).view(80, 5, 12))
    means = table(replace(DRAWN, spread=0.0), generator()).view(80, 5, 12)
    torch.testing.assert_close(means, items.mean(1, keepdim=True).expand_as(items))
    half = table(replace(DRAWN, spread=0.5), generator()).view(80, 5, 12)
    torch.testing.assert_close(half, (items + means) / 2)


def test_the_gaussian_spread_of_drawings_is_that_of_their_law(monkeypatch):
    made = table(Task(classes=300, labels=2, exemplars=8, features=30, spread=0.7), generator()).view(75, 8, 8, 30)
    monkeypatch.setattr(omniglot, "features", lambda *_: made)
    assert omniglot.own_spread(8, 30) == pytest.approx(0.7, abs=0.02)
    task = replace(DRAWN, exemplars=8, spread=2.0)
    assert sequences.gaussian_spread(task) == pytest.approx(1.4, abs=0.04)
    assert sequences.gaussian_spread(replace(task, dataset="gaussian")) == 2


def test_networks_learn_drawings(at_hand):
    training = Training(steps=400, batch=32, hidden=64)
    found = study.learn(DRAWN, training, [0], [0, 400])
    right = select(found.shares, kind="unsupported").set_index("step")["weights"]
    assert right[0] < 0.4 and right[400] > 0.5  # a guess is worth a quarter
    matched = study.matching(DRAWN, [0.0, 1.0], [0])
    assert matched["right"].between(1 / 3, 1).all()


def test_files_that_are_missing_or_broken_are_told_in_one_line(at_hand, tmp_path, monkeypatch):
    with pytest.raises(DataError, match=r"^Omniglot: 12 characters in .*: must be 14 or more for 50 trained classes"):
        table(replace(DRAWN, classes=50), generator())
    with pytest.raises(DataError, match=r"^Omniglot: 6 drawings in .*character01: must be 7 or more; put Omniglot's"):
        omniglot.drawings(at_hand, 7)
    with pytest.raises(DataError, match=r"^Omniglot: drawings in .* vary in fewer than 785 directions"):
        omniglot.features(at_hand, 5, 785)
    monkeypatch.setenv("PHENOMENA_DATA", str(tmp_path))
    with pytest.raises(DataError, match=r"^Omniglot: no ALPHABET/characterNN in .*images_background; put Omniglot's"):
        table(DRAWN, generator())
    draw_strokes(omniglot.folder(), characters=1, exemplars=1)
    (omniglot.folder() / "Alphabet_0" / "character01" / "0000_01.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"^Omniglot: .*0000_01.png is no PNG image \(cannot identify") as caught:
        omniglot.drawings(omniglot.folder(), 1)
    assert "\n" not in str(caught.value)


# --- networks --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "training",
    [
        SHORT,
        replace(SHORT, decay_context=0.01, decay_weights=0.02),
        replace(SHORT, paths="context", decay_weights=0.5),
        replace(SHORT, paths="weights", rate_weights=0.01),
        replace(SHORT, depth=3, decay_weights=0.01),
    ],
)
def test_training_is_its_readable_twin(training):
    assert training.steps > BLOCK_STEPS  # more than one block of sequences
    fast = last(train(*twice(SMALL, range(3), training), [0, 70]))
    slow = train_readable(*twice(SMALL, range(3), training), [70])
    for name, a, b in zip(Networks._fields, fast, slow, strict=True):
        torch.testing.assert_close(a, b, rtol=2e-3, atol=2e-4, msg=lambda text, name=name: f"{name}: {text}")


def twice(task, seeds, training):
    tables, generators = tables_of(task, seeds)
    return tables, task, training, generators


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_gradients_are_those_of_autograd(depth):
    """One batch of each of three networks with random parameters."""
    torch.manual_seed(0)
    s, n, b, d, classes, j = 3, 3, 7, 6, 4, 11
    shapes = [(d, d), (classes, classes), (d + 1, j), (depth - 1, j, j), (j, classes), (1, classes)]
    net = Networks(*(torch.randn(s, *shape) for shape in shapes))
    net.inner.div_(j**0.5)
    x, labels = torch.randn(s, n + 1, b, d), torch.randint(classes, (s, n + 1, b))
    passes, slope = Passes(net, b, n), Networks(*(torch.full_like(p, torch.nan) for p in net))
    logits = passes.forward(x, labels)
    error = (logits.softmax(2) - F.one_hot(labels[:, 0], classes)) / b
    passes.backward(error, slope)
    for i in range(s):
        one = Networks(*(p[i : i + 1] for p in net))
        torch.testing.assert_close(logits[i], logits_readable(one, x[i], labels[i]), rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(passes.context[i] + passes.weights[i], logits[i])

        def loss(parameters, i=i):
            return F.cross_entropy(logits_readable(Networks(*parameters), x[i], labels[i]), labels[i, 0])

        for expected, found in zip(grad(loss)(tuple(one)), slope, strict=True):
            torch.testing.assert_close(found[i], expected[0], rtol=1e-3, atol=1e-4)


def test_a_seed_alone_decides_its_networks_and_rows():
    training = replace(SHORT, batch=13, hidden=21, depth=2)
    whole = last(train(*twice(SMALL, [0, 1, 2, 3, 4], training), [60]))
    some = last(train(*twice(SMALL, [9, 3], training), [60]))
    for a, b in zip(whole, some, strict=True):
        assert torch.equal(a[3], b[1]) and not torch.equal(a[2], b[1])
    shares = [study.learn(SMALL, training, seeds, [0, 20]).shares for seeds in ([5, 6, 7], [7])]
    pd.testing.assert_frame_equal(
        select(shares[0], seed=7).reset_index(drop=True), shares[1].reset_index(drop=True), check_exact=True
    )


def test_the_order_of_the_context_does_not_matter_and_attention_adds_up_to_one():
    net = initial(SMALL, SHORT, generator())
    x, labels = torch.randn(1, 4, 5, 6, generator=generator()), torch.randint(4, (1, 4, 5), generator=generator())
    passes = Passes(net, 5, 3)
    logits = passes.forward(x, labels)
    order = [0, 3, 1, 2]
    torch.testing.assert_close(passes.forward(x[:, order], labels[:, order]), logits)
    torch.testing.assert_close(passes.attention.sum(1), torch.ones(1, 5))
    torch.testing.assert_close(passes.read.sum(2), torch.ones(1, 5))
    assert not torch.allclose(passes.forward(x, labels[:, order]), logits)


def test_decay_alone_shrinks_a_path_by_its_share():
    """With an all but vanishing rate only decay moves the parameters."""
    training = Training(steps=10, batch=4, hidden=5, rate_context=1e-12, rate_weights=1e-12, decay_context=0.1)
    start, end = (last(train(*twice(SMALL, [0], training), [steps])) for steps in (0, 10))
    torch.testing.assert_close(end.match, start.match * 0.9**10)
    torch.testing.assert_close(end.vote, start.vote * 0.9**10)
    torch.testing.assert_close(end.w1, start.w1)


@pytest.mark.parametrize("paths", ["context", "weights"])
def test_a_silenced_path_stays_silent(paths):
    net = last(train(*twice(SMALL, [0], replace(SHORT, paths=paths)), [50]))
    silent, other = (net.w2, net.vote) if paths == "context" else (net.vote, net.w2)
    assert (silent == 0).all() and (other != 0).any() and (paths == "weights" or (net.b2 == 0).all())


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"steps": 0}, "steps is 0: must be 1 or more"),
        ({"batch": -1}, "batch is -1: must be 1 or more"),
        ({"depth": 0}, "depth is 0: must be 1 or more"),
        ({"rate_context": 0.0}, "rate_context is 0.0: must be above 0 and finite"),
        ({"decay_weights": -0.001}, "decay_weights is -0.001: must be 0 or more and below 1"),
        ({"decay_context": 1.0}, "decay_context is 1.0: must be 0 or more and below 1"),
        ({"paths": "neither"}, "paths is 'neither': must be one of both, context, weights"),
    ],
)
def test_a_training_that_cannot_be_is_refused_in_one_line(changed, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        Training(**changed)


def test_what_does_not_fit_is_refused_in_one_line():
    tables, generators = tables_of(SMALL, [0, 1])
    with pytest.raises(ValueError, match=r"^tables of shape \(2, 119, 6\) for 2 generators: must be \(2, 120, 6\)"):
        check(tables[:, 1:], SMALL, SHORT, generators, [5])
    for at in ([], [5, 5], [3, 1], [-1], [71]):
        with pytest.raises(ValueError, match=r"must be rising steps from 0 to 70$"):
            check(tables, SMALL, SHORT, generators, at)


@pytest.mark.filterwarnings("ignore:.* encountered in matmul:RuntimeWarning")
def test_a_network_that_diverges_says_so():
    with pytest.raises(FloatingPointError, match="a network is no longer finite after 60 steps: lower its learning"):
        last(train(*twice(SMALL, [0], replace(SHORT, rate_weights=1e38)), [60]))


# --- what networks answer --------------------------------------------------------------------------


def test_answers_are_counted_as_defined():
    drawn = sequences.stack([draw(SMALL, "flipped", 200, generator(seed)) for seed in (0, 1)])
    by_context, by_weights = (F.one_hot(labels, 4).float() for labels in (drawn.labels[:, 0], drawn.own))
    shares = study._shares(by_context, drawn)
    assert shares["context"].tolist() == [1, 1] and shares["weights"].tolist() == [0, 0]
    assert shares["listed"].tolist() == [1, 1]
    assert study._shares(by_weights, drawn)["weights"].tolist() == [1, 1]
    assert study._lead(3 * by_weights, drawn.own).unique().tolist() == [3]
    assert study._loss(0 * by_weights, drawn.own).tolist() == pytest.approx([math.log(4)] * 2, rel=1e-6)


def test_the_vote_by_odds_is_the_vote_where_all_queries_have_it():
    labels = torch.tensor([[0, 1, 2], [3, 3, 0]])
    assert study._odds_vote(2.5 * F.one_hot(labels, 4).float(), labels).tolist() == pytest.approx([2.5, 2.5])
    mixed = torch.tensor([1.0, 4.0, 1.0])[:, None] * F.one_hot(labels[:1], 4).float()
    expected = -math.log((2 * math.exp(-1) + math.exp(-4)) / 3)
    assert study._odds_vote(mixed, labels[:1]).item() == pytest.approx(expected, rel=1e-5)


def test_frames_are_tidy_and_hold_what_they_say():
    found = study.learn(SMALL, replace(SHORT, steps=40), [3, 4], [0, 10, 40])
    assert len(found.shares) == 3 * 2 * len(sequences.KINDS) and len(found.votes) == 3 * 2
    assert found.shares[["context", "weights", "listed"]].stack().between(0, 1).all()
    assert select(found.shares, kind="unsupported")["attention"].isna().all()
    assert select(found.shares, kind="flipped")["attention"].between(0, 1).all()
    assert found.votes["attended"].between(1, SMALL.context).all()
    watched = found.watched
    assert watched.groupby("step")["attention"].sum().tolist() == pytest.approx([1, 1, 1], rel=1e-5)
    assert set(watched["role"]) >= {"own", "copy"} and len(watched) == 3 * SMALL.labels
    rise = study.rise_and_fall(found)
    flipped = select(found.shares, kind="flipped", seed=3)
    assert rise["peak"][0] == flipped["context"].max() and rise["end"][0] == flipped["context"].iloc[-1]
    gap = study.listed_gap(found)
    assert gap["gap"].tolist() == (found.votes["own_listed"] - found.votes["own_missing"]).tolist()
    with pytest.raises(ValueError, match=r"^no label of its class stands in a context without support: must be two"):
        study.listed_gap(study.learn(replace(SMALL, labels=12), replace(SHORT, steps=1), [3], [0]))
    at = select(found.votes, seed=3, step=int(rise["at"][0]))["loss"].item()
    assert rise["loss_peak"][0] == at and rise["fall"][0] == rise["peak"][0] - rise["end"][0]


def test_labels_drawn_afresh_leave_the_weights_nothing_and_no_context_leaves_the_weights_everything():
    """The two controls at a small size: one skill each, and it stays."""
    task, training = Task(classes=32, exemplars=5, spread=0.3), Training(steps=300, hidden=64)
    redrawn = study.learn(replace(task, redrawn=True, supported=1.0), training, range(2), [0, 300])
    assert select(redrawn.shares, kind="flipped", step=300)["context"].min() > 0.95
    assert select(redrawn.shares, kind="unsupported", step=300)["weights"].max() < 0.35
    alone = study.learn(task, replace(training, paths="weights"), range(2), [0, 300])
    assert select(alone.shares, kind="unsupported", step=300)["weights"].min() > 0.95
    assert select(alone.shares, kind="flipped", step=300)["context"].max() < 0.1
    grid = study.grid([task, replace(task, spread=0.6)], replace(training, steps=20), range(2))
    assert per_seed(grid, "peak", spread=0.6).shape == (2,) and set(grid["classes"]) == {32}


def test_effects_are_differences_of_means_over_the_rest_of_the_map():
    cells = [(c, k, s) for c in (8, 16, 32) for k in (1, 2) for s in (0.0, 1.0)]
    rows = [(seed, c, k, s, c / 100 + 0.2 * s - 0.05 * k + seed * s) for seed in (3, 4) for c, k, s in cells]
    found = study.effects(pd.DataFrame(rows, columns=["seed", "classes", "copies", "spread", "end"]))
    assert found["seed"].tolist() == [3, 4]
    assert found["classes"].tolist() == pytest.approx([0.24, 0.24])
    assert found["copies"].tolist() == pytest.approx([-0.05, -0.05])
    assert found["spread"].tolist() == pytest.approx([3.2, 4.2])


def test_times_are_rising_and_end_with_the_last():
    for steps in (1, 7, 10, 2500):
        found = study.times(steps)
        assert found[0] == 0 and found[-1] == steps and found == sorted(set(found))


# --- two layers ------------------------------------------------------------------------------------


def circuits(seeds=(0, 1, 2), batch=6):
    nets = [induction.initial(SMALL, generator(seed)) for seed in seeds]
    net = induction.Circuit(*(torch.cat(parts) for parts in zip(*nets, strict=True)))
    x = torch.randn(len(seeds), SMALL.context + 1, batch, SMALL.features, generator=generator(7))
    return net, x, torch.randint(SMALL.labels, (len(seeds), SMALL.context + 1, batch), generator=generator(8))


def test_two_layers_are_what_a_loop_over_tokens_says():
    net, x, labels = circuits()
    found = induction.answers(net, x, labels)
    for s, b in ((0, 0), (2, 5)):
        one = induction.Circuit(*(p[s] for p in net))
        tokens = []
        for i in range(1, SMALL.context + 1):
            tokens += [x[s, i, b] @ one.item, one.label[labels[s, i, b]]]
        h = torch.stack([*tokens, x[s, 0, b] @ one.item]) + one.position

        def attended(h, t, query, key, out):
            z = [row / row.square().mean().sqrt() for row in h]
            scores = torch.stack([(z[t] @ query) @ (z[k] @ key) for k in range(t + 1)]) / len(h[0]) ** 0.5
            weights = scores.softmax(0)
            return weights, h[t] + sum(w * row for w, row in zip(weights, z, strict=False)) @ out

        rows = [attended(h, t, one.query1, one.key1, one.out1) for t in range(len(h))]
        weights, last = attended(torch.stack([r for _, r in rows]), len(h) - 1, one.query2, one.key2, one.out2)
        last = last / last.square().mean().sqrt()
        logits = (last @ one.w1 + one.b1[0]).relu() @ one.w2 + one.b2[0]
        torch.testing.assert_close(found.logits[s, b], logits, rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(found.second[s, b], weights, rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(found.first[s, b, 3, :4], rows[3][0], rtol=1e-3, atol=1e-4)


def test_two_layers_look_back_only():
    net, x, labels = circuits()
    found = induction.answers(net, x, labels)
    assert (found.first.triu(1) == 0).all()
    torch.testing.assert_close(found.first.sum(3), torch.ones(found.first.shape[:3]))
    torch.testing.assert_close(found.second.sum(2), torch.ones(found.second.shape[:2]))
    x[:, 0] += 1  # another query: what stands before it attends as before
    other = induction.answers(net, x, labels)
    assert torch.equal(other.first[:, :, :-1], found.first[:, :, :-1])
    assert not torch.allclose(other.second, found.second)


def test_shuffling_keeps_items_with_their_labels():
    drawn = draw(SMALL, "flipped", 50, generator())
    mixed = induction.shuffled(drawn, generator(1))
    assert torch.equal(mixed.items[0], drawn.items[0]) and torch.equal(mixed.labels[0], drawn.labels[0])
    pairs = [(s.items * SMALL.labels + s.labels)[1:].sort(0).values for s in (drawn, mixed)]
    assert torch.equal(*pairs) and not torch.equal(mixed.items, drawn.items)


def test_two_layers_learn_and_a_seed_alone_decides_its_rows():
    task = replace(SMALL, exemplars=1, spread=0.0)
    whole = study.induce(task, [3, 4, 5], [0, 60])
    assert (select(whole, step=60)["loss"] < select(whole, step=0)["loss"].min()).all()
    some = study.induce(task, [5], [0, 60])
    columns = ["flipped", "novel", "unsupported", "previous", "reads", "loss"]
    np.testing.assert_allclose(some[columns], select(whole, seed=5)[columns], rtol=1e-3, atol=0.011)
    assert whole[["flipped", "novel", "unsupported", "previous", "reads"]].stack().between(0, 1).all()
    for at in ([], [3, 2], [-1]):
        with pytest.raises(ValueError, match=r"must be rising steps from 0 on$"):
            next(induction.train(torch.zeros(1, 120, 6), SMALL, [generator()], at))


def test_a_short_training_of_two_layers_has_no_fall():
    frame = pd.DataFrame({"seed": [1, 1, 1], "step": [0, 5, 9], "flipped": [0.1, 0.9, 0.4]})
    frame = frame.assign(previous=[0.2, 0.5, 0.8], reads=0.5)
    short = study.circuit(frame).iloc[0]
    assert short[["peak", "end", "previous", "reads"]].tolist() == [0.9, 0.4, 0.8, 0.5] and math.isnan(short["fall"])
    assert study.circuit(frame.assign(step=[0, 5, study.FALL_STEPS]))["fall"].item() == pytest.approx(0.5)


# --- closed forms ----------------------------------------------------------------------------------


def test_levels_of_chance_by_simulation():
    g, n, k, labels = generator(), 4, 2, 5
    given = torch.randint(labels, (200_000, n), generator=g)
    assert (given == 3).any(1).double().mean().item() == pytest.approx(theory.label_in_context(n, labels), abs=0.004)
    given[:, :k] = 3
    pick = given.gather(1, torch.randint(n, (200_000, 1), generator=g))
    assert (pick == 3).double().mean().item() == pytest.approx(theory.guess_in_context(n, k, labels), abs=0.004)
    assert theory.guess_in_context(4, 4, 8) == 1 and theory.label_in_context(1, 8) == 1 / 8


@pytest.mark.parametrize(("spread", "features", "pairs"), [(1.0, 32, 4), (2.0, 8, 3), (0.5, 4, 6), (0.0, 3, 4)])
def test_matching_by_simulation(spread, features, pairs):
    """The nearest of n items, in the sequences of the chapter, with many exemplars."""
    task = Task(classes=8, context=pairs, spread=spread, features=features, exemplars=1)
    g, trials = generator(5), 40_000
    means = torch.randn(trials, 1, features, generator=g, dtype=torch.float64)
    own = means + spread * torch.randn(trials, 2, features, generator=g, dtype=torch.float64)
    own /= (1 + spread**2) ** 0.5
    others = torch.randn(trials, pairs - 1, features, generator=g, dtype=torch.float64)
    scores = (own[:, :1] * torch.cat([own[:, 1:], others], 1)).sum(2)
    right = (scores.argmax(1) == 0).double().mean().item()
    assert right == pytest.approx(theory.nearest_is_right(spread, features, pairs), abs=0.008)
    assert task.rows == 8


def test_matching_has_its_limits():
    assert theory.nearest_is_right(1e6, 32, 4) == pytest.approx(1 / 4, abs=1e-3)
    assert theory.nearest_is_right(3.0, 32, 1) == 1
    values = [theory.nearest_is_right(spread, 32, 4) for spread in (0, 0.5, 1, 2, 4)]
    assert values == sorted(values, reverse=True) and values[0] > 0.9999
    itself = theory.nearest_is_right(1.0, 32, 4, exemplars=1)
    assert itself == pytest.approx(theory.nearest_is_right(0.0, 32, 4))
    many = theory.nearest_is_right(1.0, 32, 4, exemplars=10**9)
    assert many == pytest.approx(theory.nearest_is_right(1.0, 32, 4), rel=1e-6)


@pytest.mark.parametrize("supported", [0.3, 0.6, 0.9, 0.99])
@pytest.mark.parametrize(("labels", "attended"), [(8, 1.0), (8, 1.8), (8, 4.0), (2, 1.0), (30, 2.5)])
def test_the_settled_vote_has_the_least_loss(supported, labels, attended):
    def loss(u, v):
        right = np.logaddexp(0, math.log(labels - 1) - u - v)
        rest = labels - 1 - attended
        wrong = np.log(np.exp(v) + attended * np.exp(u / attended) + rest) - v
        return supported * right + (1 - supported) * wrong

    for v in (0.0, 0.7, 3.0, 9.0):
        oracle = minimize_scalar(loss, bounds=(-30, 40), args=(v,), method="bounded", options={"xatol": 1e-9}).x
        assert theory.settled_vote(v, supported, labels, attended) == pytest.approx(oracle, abs=2e-4)


def test_the_settled_vote_falls_to_its_limit():
    v = np.linspace(0, 40, 81)
    for attended in (1.0, 1.8, 3.0):
        u = theory.settled_vote(v, 0.9, 8, attended)
        first, final = theory.settled_limits(0.9, 8, attended)
        assert (np.diff(u) < 1e-9).all() and u[0] == pytest.approx(first) and u[-1] == pytest.approx(final, abs=1e-6)
    first, final = theory.settled_limits(0.9, 8)
    assert first == pytest.approx(math.log(63)) and final == pytest.approx(math.log(63) / 2)
    assert theory.settled_vote(800.0, 0.9, 8) == pytest.approx(final)  # where exponentials overflow
    assert theory.settled_vote(1.0, 1.0, 8) == math.inf and theory.settled_vote(1.0, 0.0, 8) == -math.inf
    assert theory.settled_vote(np.zeros((2, 3)), 0.9, 8, np.ones((2, 3))).shape == (2, 3)


def test_context_only_loss_is_that_of_the_best_answers():
    """Certain where there is support, uniform where there is none; no other answers do better on the second."""
    assert theory.context_only_loss(1.0, 8) == 0
    assert theory.context_only_loss(0.0, 8) == pytest.approx(math.log(8))
    g = generator()
    labels = torch.randint(8, (50_000,), generator=g)
    assert F.cross_entropy(torch.zeros(50_000, 8), labels).item() == pytest.approx(math.log(8))
    assert F.cross_entropy(torch.randn(50_000, 8, generator=g), labels).item() > math.log(8)


@pytest.mark.parametrize(
    ("function", "arguments", "message"),
    [
        (theory.class_cosine, (-1,), "spread is -1: must be 0 or more and finite"),
        (theory.label_in_context, (0, 8), "pairs is 0: must be 1 or more"),
        (theory.guess_in_context, (4, 5, 8), "copies is 5: must be at most pairs = 4"),
        (theory.context_only_loss, (1.5, 8), "supported is 1.5: must be 0 to 1"),
        (theory.nearest_is_right, (1.0, 0, 4), "features is 0: must be 1 or more"),
        (theory.nearest_is_right, (1.0, 32, 4, 0), "exemplars is 0: must be 1 or more"),
        (theory.settled_vote, (0.0, 0.9, 1), "labels is 1: must be 2 or more"),
        (theory.settled_vote, (math.nan, 0.9, 8), "weights is nan: must be finite"),
        (theory.settled_vote, (0.0, 0.9, 8, 0.5), "attended is 0.5: must be 1 or more"),
        (theory.settled_vote, (0.0, 0.9, 8, 7.5), "attended is 7.5: must be at most labels - 1 = 7, the wrong labels"),
        (theory.settled_limits, (1.0, 8), "supported is 1.0: must be above 0 and below 1"),
    ],
)
def test_bad_input_is_refused_in_one_line(function, arguments, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        function(*arguments)
