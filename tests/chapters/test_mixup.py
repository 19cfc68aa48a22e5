"""Mixup: the closed form against sampling and by hand, laws by their moments, mixing against torchvision, geometry."""

import inspect
from itertools import pairwise

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from conftest import generator
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist
from torchvision.transforms import v2

from phenomena.chapters.mixup import figures, study, theory
from phenomena.chapters.mixup import softmax_networks as networks
from phenomena.runs.contract.notebook import show
from phenomena.science import datasets, metrics, plots, training
from phenomena.science.frames import columns, per_seed


def one_hot(*labels):
    return F.one_hot(torch.tensor(labels)).float()


# The law of lambda


@pytest.mark.parametrize("alpha", [1e-4, 1e-2, 0.3, 1.0, 32.0, 1024.0, 1e4])
def test_beta_is_drawn_with_its_moments(alpha):
    lam = theory.beta_law(alpha).quantile(torch.rand(200_000, generator=generator(), dtype=torch.float64))
    assert ((lam >= 0) & (lam <= 1)).all()
    centred = lam - 0.5
    variance = 1 / (4 * (2 * alpha + 1))
    kurtosis = 3 - 6 / (2 * alpha + 3)
    assert centred.mean().abs() < 5 * (variance / len(lam)) ** 0.5
    assert centred.square().mean().item() == pytest.approx(variance, rel=0.02)
    assert centred.pow(4).mean().item() == pytest.approx(kurtosis * variance**2, rel=0.05)


def test_ratio_of_gamma_draws_collapses_where_ours_does_not():
    """The fault that the inverse of the distribution function avoids: at alpha = 1e-4 almost every draw is 0 or 1."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        ratio = torch.distributions.Beta(1e-4, 1e-4).sample((10_000,))
    ours = theory.beta_law(1e-4).quantile(torch.rand(10_000, generator=generator(), dtype=torch.float64))
    assert ((ratio - 0.5).abs() < 1e-6).float().mean() > 0.5
    assert ((ours - 0.5).abs() < 0.4).float().mean() < 0.01


@pytest.mark.parametrize("law", [theory.beta_law(0.2), theory.beta_law(7.0), theory.atoms_law([0.8, 0.2], [0.5, 0.5])])
def test_mass_agrees_with_draws(law):
    lam = law.quantile(torch.rand(400_000, generator=generator(), dtype=torch.float64)).numpy()
    for low, high in ((0.0, 1.0), (0.0, 0.3), (0.15, 0.45), (0.6, 1.0)):
        probability, first = law.mass(np.array(low), np.array(high))
        inside = (low <= lam) & (lam <= high)
        assert probability == pytest.approx(inside.mean(), abs=4e-3)
        assert first == pytest.approx((lam * inside).mean(), abs=4e-3)


@st.composite
def atoms(draw):
    """Places of [0, 1] with weights, symmetric about 1/2; multiples of 1/64, so that 1 - v is as exact as v."""
    places = draw(st.lists(st.integers(0, 32), min_size=1, max_size=5, unique=True))
    weights = draw(st.lists(st.integers(1, 9), min_size=len(places), max_size=len(places)))
    total = {}
    for place, weight in zip(places, weights, strict=True):
        total[place / 64] = total[1 - place / 64] = weight
    return {place: weight / sum(total.values()) for place, weight in total.items()}


laws = st.one_of(st.floats(-2, 4).map(lambda exponent: 10.0**exponent), atoms())  # alpha, or atoms
ends = st.lists(st.integers(0, 64).map(lambda i: i / 64), min_size=3, max_size=3).map(sorted)
same_in_every_run = settings(derandomize=True, deadline=None, database=None)


def law_of(drawn):
    return theory.atoms_law(list(drawn), list(drawn.values())) if isinstance(drawn, dict) else theory.beta_law(drawn)


def mass(law, low, high):
    return law.mass(np.array(low), np.array(high))


@given(drawn=laws, cuts=ends)
@same_in_every_run
def test_mass_adds_up_over_adjacent_intervals(drawn, cuts):
    law = law_of(drawn)
    assume(not (isinstance(drawn, dict) and cuts[1] in drawn))  # an atom at the cut belongs to both closed intervals
    parts = [mass(law, *part) for part in pairwise(cuts)]
    assert np.sum(parts, 0) == pytest.approx(np.array(mass(law, cuts[0], cuts[2])), abs=1e-12)


@given(drawn=laws, cuts=ends)
@same_in_every_run
def test_laws_are_symmetric_about_one_half(drawn, cuts):
    law = law_of(drawn)
    low, _, high = cuts
    (probability, first), (mirrored, mirrored_first) = mass(law, low, high), mass(law, 1 - high, 1 - low)
    assert probability == pytest.approx(mirrored, abs=1e-12)
    assert first + mirrored_first == pytest.approx(probability, abs=1e-12), "E[lambda] and E[1 - lambda] add up to 1"
    assert mass(law, 0.0, 1.0) == pytest.approx((1, 0.5), abs=1e-12)


@given(drawn=laws, u=st.floats(0.05, 0.5))
@same_in_every_run
def test_quantile_inverts_mass(drawn, u):
    """P[lambda < q(u)] <= u <= P[lambda <= q(u)]; below 1/2, where small lambda have all their digits."""
    law = law_of(drawn)
    lam = law.quantile(torch.tensor([u], dtype=torch.float64)).item()
    assert 1 - mass(law, lam, 1.0)[0] - 1e-9 <= u <= mass(law, 0.0, lam)[0] + 1e-9


@given(exponent=st.floats(-2, 4), u=st.floats(0.01, 0.99))
@same_in_every_run
def test_beta_quantiles_mirror_each_other(exponent, u):
    lam = theory.beta_law(10.0**exponent).quantile(torch.tensor([u, 1 - u], dtype=torch.float64))
    assert lam.sum().item() == pytest.approx(1, abs=1e-9)


def test_laws_refuse_what_they_cannot_be():
    for alpha in (0.0, -1.0, float("inf"), float("nan")):
        with pytest.raises(ValueError, match="positive and finite"):
            theory.beta_law(alpha)
    with pytest.raises(ValueError, match="not symmetric"):
        theory.atoms_law([0.1, 0.5], [0.5, 0.5])
    with pytest.raises(ValueError, match=r"values in \[0, 1\]"):
        theory.atoms_law([0.5], [0.9])


# The closed form


def sampled(x, targets, query, law, epsilon, draws=1_000_000):
    """The same expectation by drawing pairs and lambda."""
    g = generator(1)
    i, j = (torch.randint(len(x), (draws,), generator=g) for _ in range(2))
    lam = law.quantile(torch.rand(draws, 1, generator=g, dtype=torch.float64))
    inside = (lam * x[i] + (1 - lam) * x[j] - query).norm(dim=1) <= epsilon
    return (lam * targets[i] + (1 - lam) * targets[j])[inside].mean(0)


@pytest.mark.parametrize("law", [theory.beta_law(1.0), theory.beta_law(0.3), theory.beta_law(20.0)])
@pytest.mark.parametrize("features", [1, 2])
def test_optimum_agrees_with_sampling(law, features):
    x = torch.randn(6, features, generator=generator(3), dtype=torch.float64)
    targets = torch.rand(6, 3, generator=generator(4), dtype=torch.float64)
    targets /= targets.sum(1, keepdim=True)
    for query in (x[2], (x[0] + x[1]) / 2):
        found = theory.optimum(x, targets, query[None], law, 0.3)[0]
        assert torch.allclose(found, sampled(x, targets, query, law, 0.3), atol=0.01)
        assert found.sum().item() == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("alpha", [0.1, 1.0, 32.0, 1024.0])
@pytest.mark.parametrize("epsilon", [0.05, 0.13, 0.3])
def test_middle_of_three_points_by_hand(alpha, epsilon):
    x, targets = theory.alternating_line(3, 2)
    found = theory.optimum(x, targets, x, theory.beta_law(alpha), epsilon)[:, 0]
    assert found[1].item() == pytest.approx(theory.middle_of_three(alpha, epsilon), abs=1e-12)
    assert found[0].item() == pytest.approx(found[2].item(), abs=1e-12)


def test_limits_of_alpha():
    """Towards 0 Mixup is ERM; towards infinity the middle of three is 2/3 of the outer class (papers: DER)."""
    x, targets = theory.alternating_line(3, 2)
    rare = theory.optimum(x, targets, x, theory.beta_law(1e-6), 0.1)
    assert torch.allclose(rare, targets.double(), atol=1e-4)
    assert theory.middle_of_three(1e6, 0.1) == pytest.approx(2 / 3, abs=1e-6)
    half = theory.optimum(x, targets, x[1:2], theory.atoms_law([0.5], [1.0]), 0.1)
    assert half[0, 0] == pytest.approx(2 / 3, abs=1e-12)


def test_optimum_does_not_mind_rotation_order_or_scale():
    x = torch.randn(7, 2, generator=generator(5), dtype=torch.float64)
    targets = one_hot(0, 1, 2, 0, 1, 2, 0)
    queries = torch.cat([x[:2], (x[0] + x[3])[None] / 2])
    rotation, _ = torch.linalg.qr(torch.randn(2, 2, generator=generator(6), dtype=torch.float64))
    order = torch.randperm(7, generator=generator(7))
    plain = theory.optimum(x, targets, queries, theory.beta_law(2.0), 0.2)
    turned = theory.optimum(3 * x @ rotation, targets, 3 * queries @ rotation, theory.beta_law(2.0), 0.6)
    mixed = theory.optimum(x[order], targets[order], queries, theory.beta_law(2.0), 0.2)
    assert torch.allclose(plain, turned, atol=1e-9)
    assert torch.allclose(plain, mixed, atol=1e-12)


def test_discontinuity_at_the_crossing():
    """Proposition 2.5: two classes on crossing segments; at the crossing (1/2, 1/2), beside it the segment's class."""
    x = torch.tensor([[0.0, 1.0], [0.0, -1.0], [1.0, 0.0], [-1.0, 0.0]])
    targets = one_hot(0, 0, 1, 1)
    for epsilon in (1e-2, 1e-3, 1e-4):
        queries = torch.tensor([[0.0, 0.0], [0.0, 2 * epsilon], [2 * epsilon, 0.0]])
        found = theory.optimum(x, targets, queries, theory.beta_law(1.0), epsilon)
        assert torch.allclose(found[0], torch.tensor([0.5, 0.5], dtype=torch.float64), atol=1e-9)
        assert found[1, 0].item() == pytest.approx(1, abs=1e-9)
        assert found[2, 1].item() == pytest.approx(1, abs=1e-9)


def test_trained_networks_come_near_the_closed_form():
    """A wide network trained on X_3^2 where the optimum is smooth: alpha = 1, at the outer points and between."""
    x, targets = theory.alternating_line(3, 2)
    law = theory.beta_law(1.0)
    net = study.train_points(x, targets, range(4), alphas=[1.0], width=128, steps=2500)[1.0]
    at = torch.tensor([[0.0], [0.5], [1.5], [2.0]])
    mean = networks.logits(net, at.expand(4, -1, -1)).softmax(2).mean(0).double()
    assert (mean - theory.optimum(x, targets, at, law, 0.13)).abs().max() < 0.12


@pytest.mark.parametrize(
    ("x", "targets", "epsilon", "match"),
    [
        ([[0.0], [1.0]], [[1.0, 0.0], [1.0, 0.0]], 0.1, "one class"),
        ([[0.0], [0.0]], [[1.0, 0.0], [0.0, 1.0]], 0.1, r"rows \[0, 1\] coincide"),
        ([[0.0], [1.0]], [[0.7, 0.0], [0.0, 1.0]], 0.1, "must be distributions"),
        ([[0.0], [1.0]], [[1.5, -0.5], [0.0, 1.0]], 0.1, "must be distributions"),
        ([[0.0], [1.0]], [[float("nan"), 0.0], [0.0, 1.0]], 0.1, "targets holds nan"),
        ([[0.0], [float("nan")]], [[1.0, 0.0], [0.0, 1.0]], 0.1, "must be finite"),
        ([[0.0], [1.0]], [[1.0, 0.0], [0.0, 1.0]], 0.0, "must be positive"),
        ([[0.0], [1.0]], [[1.0, 0.0], [0.0, 1.0]], 1e-3, "leaves no mass"),
    ],
)
def test_closed_form_says_where_it_is_undefined(x, targets, epsilon, match):
    with pytest.raises(ValueError, match=match):
        theory.optimum(torch.tensor(x), torch.tensor(targets), torch.tensor([[2.0]]), theory.beta_law(1.0), epsilon)


X3, Y3, Q1 = torch.tensor([[0.0], [1.0], [2.0]]), torch.eye(2)[[0, 1, 0]], torch.tensor([[0.5]])


@pytest.mark.parametrize(
    ("changed", "error", "match"),
    [
        ({"x": X3.numpy()}, TypeError, r"x is a ndarray: must be a tensor \(n, d\); torch.as_tensor makes one"),
        ({"law": 1.0}, TypeError, r"law is 1.0: must be a law of lambda, such as beta_law\(alpha\)"),
        ({"x": X3 / 0}, ValueError, "x holds nan or infinity"),
        ({"queries": Q1 * torch.nan}, ValueError, "queries holds nan or infinity"),
        ({"targets": Y3 * torch.nan}, ValueError, "targets holds nan or infinity"),
        ({"epsilon": float("nan")}, ValueError, "epsilon is nan: the radius must be positive and finite"),
        ({"epsilon": float("inf")}, ValueError, "epsilon is inf"),
        ({"targets": torch.tensor([0, 1, 0])}, ValueError, r"targets has shape \(3,\): must be \(n, c\)"),
        ({"targets": Y3[:2]}, ValueError, r"targets has shape \(2, 2\): must be \(n, c\) with n = 3 as in x"),
        (
            {"queries": torch.zeros(1, 3)},
            ValueError,
            r"queries has shape \(1, 3\): .* with d = 1 as in x",
        ),
        ({"queries": Q1[:0]}, ValueError, r"queries has shape \(0, 1\): it is empty"),
        ({"x": X3.double() * 1e200}, ValueError, r"numbers up to 2e\+200 and epsilon 0.1: rescale them"),
        ({"targets": torch.tensor([[0.93, 0.07], [0.2, 0.8], [1, 0]]).bfloat16()}, ValueError, "must be distributions"),
    ],
)
def test_the_closed_form_refuses_what_it_would_compute_on(changed, error, match):
    """As users call it, without the checks of shapes that tests have."""
    given = {"x": X3, "targets": Y3, "queries": Q1, "law": theory.beta_law(1.0), "epsilon": 0.1}
    with pytest.raises(error, match=match):
        inspect.unwrap(theory.optimum)(**(given | changed))


@pytest.mark.parametrize("kind", [torch.int64, torch.bfloat16, torch.float16, torch.float64])
def test_rows_of_any_numeric_type_have_the_same_optimum(kind):
    found = inspect.unwrap(theory.optimum)(X3.to(kind), Y3.to(kind), X3.to(kind), theory.beta_law(1.0), 0.1)
    assert torch.equal(found, theory.optimum(X3, Y3, X3, theory.beta_law(1.0), 0.1))


def test_the_optimum_is_linear_in_soft_labels():
    soft = torch.tensor([[0.9, 0.1], [0.25, 0.75], [0.5, 0.5]])
    found, parts = (theory.optimum(X3, y, X3, theory.beta_law(0.7), 0.2) for y in (soft, torch.eye(3)))
    torch.testing.assert_close(found, parts @ soft.double())


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (
            lambda: theory.segment_distances(X3, torch.tensor([0, 1])),
            r"labels has shape \(2,\): .* with n = 3",
        ),
        (lambda: theory.segment_distances(X3 * torch.nan, torch.tensor([0, 1, 0])), "x holds nan"),
        (lambda: theory.recover_points(torch.full((10, 2), torch.nan)), "midpoints holds nan"),
        (lambda: theory.recover_points(torch.ones(10, 2).long()), "midpoints are of torch.int64"),
        (
            lambda: theory.linear_optimum(X3.double(), torch.tensor([0.0, 1, 0]).double(), theory.beta_law(1.0)),
            "-1 and 1",
        ),
        (lambda: theory.linear_optimum(X3, torch.tensor([-1.0, 1, -1]), theory.beta_law(1.0)), "must be torch.float64"),
        (lambda: theory.angle(torch.zeros(2), torch.ones(2)), "a vector of length zero has no direction"),
        (lambda: theory.mix(X3, X3, 0.5), "lam is of float, x of torch.float32"),
        (lambda: theory.mix(X3, X3, torch.tensor([0.5, 0.5])), r"lam \(2,\) do not fit"),
        (lambda: theory.cut_mix(torch.ones(2, 1, 4), torch.ones(2, 1, 4), 2.0, [1]), "lam 2.0 and centre"),
        (lambda: loaded(labels=torch.tensor([[0, 1, 2]])), "labels from 0 to 2: must be 0 to 1, for 2 classes"),
        (
            lambda: loaded(labels=torch.tensor([[0, 1]])),
            r"labels has shape \(1, 2\): .* with n = 3 as in x",
        ),
        (lambda: loaded(labels=torch.eye(3)[None]), r"labels has shape \(1, 3, 3\): must be \(s, n\)"),
        (lambda: loaded(x=X3[None].double()), "x is of torch.float64: must be torch.float32"),
        (lambda: loaded(generators=[]), "0 generators for 1 networks"),
        (lambda: loaded(law=0.2), "law is 0.2: must be a law"),
    ],
)
def test_what_does_not_fit_is_told_in_one_line(call, match, monkeypatch):
    for name in ("segment_distances", "recover_points", "linear_optimum", "angle", "mix", "cut_mix", "mixup_loader"):
        monkeypatch.setattr(theory, name, inspect.unwrap(getattr(theory, name)))
    with pytest.raises((TypeError, ValueError), match=match):
        call()


def loaded(**changed):
    given = {"x": X3[None], "labels": torch.tensor([[0, 1, 0]]), "classes": 2, "law": theory.beta_law(1.0)}
    return theory.mixup_loader(**(given | {"generators": [generator()]} | changed))


def test_copies_of_a_row_with_one_label_are_welcome():
    x, targets = torch.tensor([[0.0], [0.0], [1.0]]), one_hot(0, 0, 1)
    assert theory.optimum(x, targets, x[:1], theory.beta_law(1.0), 0.1)[0, 0] > 0.9


def test_alternating_line():
    x, targets = theory.alternating_line(5, 3)
    assert x.flatten().tolist() == [0, 1, 2, 3, 4]
    assert targets.argmax(1).tolist() == [0, 1, 2, 0, 1]
    with pytest.raises(ValueError, match="2 classes or more"):
        theory.alternating_line(3, 1)
    with pytest.raises(ValueError, match="between 0 and 1/2"):
        theory.middle_of_three(1.0, 0.6)


# Mixing batches


def test_mixup_agrees_with_torchvision_on_the_same_draws():
    x, labels = torch.rand(6, 3, 8, 10, generator=generator()), torch.arange(6) % 4
    transform = v2.MixUp(num_classes=4, alpha=0.7)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        theirs, their_targets = transform(x, labels)
        torch.manual_seed(3)
        lam = torch.distributions.Beta(torch.tensor([0.7]), torch.tensor([0.7])).sample(())
    targets = F.one_hot(labels, 4).float()
    # there the partner of a row is the row before it, and one lambda serves the batch
    assert torch.allclose(theory.mix(x, x.roll(1, 0), lam), theirs, atol=1e-6)
    assert torch.allclose(theory.mix(targets, targets.roll(1, 0), lam), their_targets, atol=1e-6)


@pytest.mark.parametrize("seed", range(6))
def test_cutmix_agrees_with_torchvision_on_the_same_draws(seed):
    x, labels = torch.rand(4, 3, 9, 12, generator=generator()), torch.arange(4)
    transform = v2.CutMix(num_classes=4, alpha=1.0)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        theirs, their_targets = transform(x, labels)
        torch.manual_seed(seed)
        lam = torch.distributions.Beta(torch.tensor([1.0]), torch.tensor([1.0])).sample(()).item()
        column, row = int(torch.randint(12, (1,))), int(torch.randint(9, (1,)))
    mixed, left = theory.cut_mix(x, x.roll(1, 0), lam, [row, column])
    assert torch.equal(mixed, theirs)
    targets = F.one_hot(labels, 4).float()
    assert torch.allclose(theory.mix(targets, targets.roll(1, 0), torch.tensor([left])), their_targets, atol=1e-6)


def test_cutmix_of_signals_cuts_a_fraction_of_the_length():
    x, partner = torch.zeros(2, 1, 40), torch.ones(2, 1, 40)
    mixed, left = theory.cut_mix(x, partner, 0.7, [20])
    assert mixed.mean().item() == pytest.approx(1 - left)
    assert left == pytest.approx(0.7)


def rows(n=60, classes=3):
    """Row i is the number i, of one network: mixed rows and their labels can be traced back."""
    return torch.arange(float(n))[None, :, None, None], torch.arange(n)[None] % classes


def mixup_batch(x, labels, classes, law, **words):
    """One network's batches: row numbers in, rows and labels out."""
    load = theory.mixup_loader(x, labels, classes, law, [generator()], **words)
    return lambda index: tuple(part[0] for part in load(index[None]))


@pytest.mark.parametrize("partner", ["any", "other", "batch"])
@pytest.mark.parametrize("lambdas", ["batch", "row"])
def test_rows_and_labels_are_mixed_alike(partner, lambdas):
    x, labels = rows()
    law = theory.atoms_law([0.25, 0.75], [0.5, 0.5])
    batch = mixup_batch(x, labels, 3, law, partner=partner, lambdas=lambdas)
    index = torch.arange(0, 60, 2)
    one_hot = F.one_hot(labels[0], 3).float()
    own = one_hot[index]
    explained, partners = [], []
    for _ in range(40):
        inputs, targets = batch(index)
        assert torch.allclose(targets.sum(1), torch.ones(30))
        for lam in (0.25, 0.75):
            other = (inputs[:, 0, 0] - lam * index) / (1 - lam)
            whole = (other - other.round()).abs() < 1e-4
            fits = whole & (other >= -1e-3) & (other < 60)
            guess = other.round().long().clamp(0, 59)
            fits &= torch.isclose(targets, lam * own + (1 - lam) * one_hot[guess]).all(1)
            explained.append(fits)
            partners.append((guess, fits))
    either = torch.stack(explained[0::2]) | torch.stack(explained[1::2])
    assert either.all(), "every row is a mixture of itself and a row, with one lambda for input and label"
    if lambdas == "batch":
        assert all(a.all() or b.all() for a, b in zip(explained[0::2], explained[1::2], strict=True))
    if partner == "batch" and lambdas == "batch":
        for (a, fits_a), (b, fits_b) in zip(partners[0::2], partners[1::2], strict=True):
            chosen = a if fits_a.all() else b
            assert (fits_a.all() or fits_b.all()) and sorted(chosen.tolist()) == index.tolist()


def test_other_never_is_the_row_itself():
    x, labels = rows(n=3)
    batch = mixup_batch(x, labels, 3, theory.atoms_law([0.5], [1.0]), partner="other")
    for _ in range(200):
        inputs, _ = batch(torch.arange(3))
        assert (inputs[:, 0, 0] != torch.arange(3.0)).all()


def test_unmixed_labels_are_those_of_the_larger_part():
    x, labels = rows(n=2, classes=2)
    law = theory.atoms_law([0.1, 0.9], [0.5, 0.5])
    batch = mixup_batch(x, labels, 2, law, partner="other", mixed_labels=False)
    for _ in range(50):
        inputs, targets = batch(torch.arange(2))
        assert torch.equal(targets.argmax(1), inputs[:, 0, 0].round().long())
        assert targets.max(1).values.eq(1).all()


def test_cutmix_batches_train():
    x, labels = torch.rand(2, 20, 1, 6, 6, generator=generator()), (torch.arange(20) % 2).expand(2, 20)
    batch = theory.mixup_loader(x, labels, 2, theory.beta_law(1.0), [generator(0), generator(1)], method="cutmix")
    nets = [torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(36, 2)) for _ in range(2)]
    training.train(nets, batch, 20, 30, [generator(0), generator(1)], batch=10)
    inputs, targets = batch(torch.arange(10).expand(2, 10))
    assert inputs.shape == (2, 10, 1, 6, 6) and torch.allclose(targets.sum(2), torch.ones(2, 10))


@pytest.mark.parametrize(
    "words",
    [{}, {"partner": "other", "lambdas": "row"}, {"partner": "batch", "mixed_labels": False}, {"method": "cutmix"}],
)
def test_batches_of_several_networks_are_those_of_each_alone(words):
    x, labels = torch.rand(2, 20, 1, 6, 6, generator=generator()), (torch.arange(40) % 3).view(2, 20)
    index, law = torch.stack([torch.arange(10), torch.arange(10) + 5]), theory.beta_law(0.5)
    both = theory.mixup_loader(x, labels, 3, law, [generator(1), generator(2)], **words)
    alone = [
        theory.mixup_loader(x[s : s + 1], labels[s : s + 1], 3, law, [generator(s + 1)], **words) for s in range(2)
    ]
    for _ in range(3):
        inputs, targets = both(index)
        for s in range(2):
            one, two = alone[s](index[s : s + 1])
            assert torch.equal(inputs[s], one[0]) and torch.equal(targets[s], two[0])


@pytest.mark.parametrize(
    ("words", "match"),
    [
        ({"partner": "self"}, "partner is 'self': must be one of any, other, batch"),
        ({"lambdas": "epoch"}, "one of batch, row"),
        ({"method": "cut"}, "one of mixup, cutmix"),
        ({"method": "cutmix", "lambdas": "row"}, "one box a batch"),
    ],
)
def test_loader_refuses_words_it_does_not_know(words, match):
    x, labels = rows()
    with pytest.raises(ValueError, match=match):
        theory.mixup_loader(x, labels, 3, theory.beta_law(1.0), [generator()], **words)
    with pytest.raises(ValueError, match="one class"):
        theory.mixup_loader(x, torch.zeros(1, 60, dtype=torch.long), 3, theory.beta_law(1.0), [generator()])


# Distances to mixing segments


def test_segment_distances_against_every_pair():
    x = torch.randn(18, 3, generator=generator(2), dtype=torch.float64)
    labels = torch.arange(18) % 4
    fine = torch.linspace(0, 1, 2001, dtype=torch.float64)[:, None]
    for block in (1, 5, 64):
        found = theory.segment_distances(x, labels, block)
        for q in range(18):
            others = [i for i in range(18) if labels[i] != labels[q]]
            best = min(
                cdist(x[q : q + 1], fine * x[s] + (1 - fine) * x[t]).min() for s in others for t in others if s <= t
            )
            assert found[q].item() == pytest.approx(best, abs=2e-3) and found[q] <= best + 1e-12


def test_segment_distances_in_known_cases():
    x, targets = theory.alternating_line(3, 2)
    assert theory.segment_distances(x, targets.argmax(1)).tolist() == [1, 0, 1]  # the middle lies on the segment
    assert theory.segment_distances(torch.tensor([[0.0], [1.0]]), torch.tensor([0, 0])).tolist() == [torch.inf] * 2
    twins = torch.tensor([[0.0, 1.0], [2.0, 0.0], [2.0, 0.0]])
    assert theory.segment_distances(twins, torch.tensor([0, 1, 1]))[0].item() == pytest.approx(5**0.5)


# Points from midpoints


@pytest.mark.parametrize(("points", "features", "seed"), [(5, 1, 0), (6, 2, 1), (8, 3, 2), (13, 40, 3), (30, 2, 4)])
def test_points_come_back_from_their_midpoints(points, features, seed):
    x = torch.randn(points, features, generator=generator(seed), dtype=torch.float64)
    i, j = torch.triu_indices(points, points, 1)
    midpoints = ((x[i] + x[j]) / 2)[torch.randperm(len(i), generator=generator(seed))]
    distance = torch.from_numpy(cdist(x, theory.recover_points(midpoints)))
    assert distance.amin(1).max() < 1e-9
    assert distance.amin(0).max() < 1e-9


def test_no_points_have_these_midpoints():
    with pytest.raises(ValueError, match="no set of 6 points"):
        theory.recover_points(torch.randn(15, 2, generator=generator(), dtype=torch.float64))
    with pytest.raises(ValueError, match="16 midpoints"):
        theory.recover_points(torch.zeros(16, 2, dtype=torch.float64))
    with pytest.raises(ValueError, match="m of 5 or more"):
        theory.recover_points(torch.zeros(6, 2, dtype=torch.float64))


# Two moons and their boundary


@pytest.mark.parametrize("separation", [0.1, 0.5])
def test_moons_lie_on_both_sides_of_the_line(separation):
    x, targets = theory.two_moons(300, separation, seed=3)
    side = torch.where(targets[:, 0] > 0, 1.0, -1.0)
    assert (x[:, 0] * side).min() >= separation
    assert targets.sum(0).tolist() == [150, 150]
    again, _ = theory.two_moons(300, separation, seed=3)
    assert torch.equal(x, again)


def test_boundary_of_known_shapes():
    grid = torch.linspace(-2, 2, 401, dtype=torch.float64)
    x = torch.tensor([[1.0, 0.0], [-0.5, 0.3], [0.8, -1.0]])
    correct = torch.tensor([True, True, True])
    straight = theory.boundary(grid[:, None].expand(-1, 401), 2.0, x, correct)
    assert straight.bent < 0.003 and straight.margin == pytest.approx(0.5, abs=1e-6)
    wrong = theory.boundary(grid[:, None].expand(-1, 401), 2.0, x, torch.tensor([True, False, True]))
    assert wrong.margin == pytest.approx(-0.5, abs=1e-6)
    diagonal = theory.boundary(grid[:, None] - grid, 2.0, x, correct)  # x_1 > x_2: half of two quadrants differ
    assert diagonal.bent == pytest.approx(0.25, abs=0.005)
    assert diagonal.margin == pytest.approx(0.8 / 2**0.5, abs=1e-3)
    circle = theory.boundary(1 - grid[:, None].square() - grid.square(), 2.0, torch.zeros(1, 2), torch.tensor([True]))
    assert circle.margin == pytest.approx(1, abs=1e-3)
    assert np.isnan(theory.boundary(torch.ones(9, 9), 2.0, x, correct).margin)


# The linear case


def test_max_margin_by_hand_and_against_a_support_vector_machine():
    from sklearn.svm import SVC

    x = torch.tensor([[2.0, 0.0], [5.0, 1.0], [-2.0, 0.0], [-4.0, -3.0]], dtype=torch.float64)
    signs = torch.tensor([1.0, 1.0, -1.0, -1.0], dtype=torch.float64)
    assert torch.allclose(metrics.max_margin(x, signs), torch.tensor([0.5, 0.0], dtype=torch.float64))
    x = torch.randn(12, 15, generator=generator(1), dtype=torch.float64)
    signs = torch.tensor([1.0, -1.0] * 6, dtype=torch.float64)
    w = metrics.max_margin(x, signs)
    # a machine without intercept: the kernel of the rows joined with their mirror images
    machine = SVC(kernel="linear", C=1e8, tol=1e-10).fit(torch.cat([x, -x]), torch.cat([signs, -signs]))
    assert theory.angle(w, torch.tensor(machine.coef_[0])) < 0.01
    assert (signs * (x @ w)).min().item() == pytest.approx(1, abs=1e-9)
    assert metrics.max_margin(x[:, :1], signs) is None, "not separable"


def test_linear_optimum_interpolates_in_high_dimension():
    """Theorem 3.5: far above its bound Mixup, max-margin and the least-norm interpolator share one direction."""
    x = torch.randn(10, 400, generator=generator(2), dtype=torch.float64)
    signs = torch.tensor([1.0, -1.0] * 5, dtype=torch.float64)
    interpolator = torch.linalg.pinv(x) @ signs
    for law in (theory.beta_law(1.0), theory.beta_law(32.0)):
        w = theory.linear_optimum(x, signs, law)
        assert theory.angle(w, interpolator) < 1e-3
        assert theory.angle(w, metrics.max_margin(x, signs)) < 1e-3


def test_linear_optimum_has_no_slope():
    x = torch.randn(8, 5, generator=generator(3), dtype=torch.float64)
    signs = torch.tensor([1.0, -1.0] * 4, dtype=torch.float64)
    law, nodes = theory.beta_law(2.0), 16
    w = theory.linear_optimum(x, signs, law, nodes).requires_grad_()
    lam = law.quantile((torch.arange(nodes, dtype=torch.float64) + 0.5) / nodes)
    pairs = [(t, i, j) for t in lam for i in range(8) for j in range(8)]
    rows = torch.stack([t * x[i] + (1 - t) * x[j] for t, i, j in pairs])
    targets = torch.stack([(1 + t * signs[i] + (1 - t) * signs[j]) / 2 for t, i, j in pairs])
    F.binary_cross_entropy_with_logits(rows @ w, targets).backward()
    assert w.grad.abs().max() < 1e-6
    with pytest.raises(ValueError, match="one class"):
        theory.linear_optimum(x, torch.ones(8, dtype=torch.float64), law)


def test_angle():
    a = torch.tensor([1.0, 0.0], dtype=torch.float64)
    assert theory.angle(a, torch.tensor([0.0, 2.0], dtype=torch.float64)) == pytest.approx(90)
    assert theory.angle(a, 5 * a) == 0
    assert theory.angle(a, torch.tensor([1.0, 1e-9], dtype=torch.float64)) == pytest.approx(np.rad2deg(1e-9))


# Calibration


def test_calibration_by_hand():
    p = torch.tensor([[0.9, 0.1], [0.9, 0.1], [0.55, 0.45], [0.45, 0.55]])
    error, table = metrics.calibration(p, torch.tensor([0, 1, 0, 1]), bins=5)
    # bin (.8, 1]: confidence .9, accuracy 1/2; bin (.4, .6]: confidence .55, accuracy 1
    assert error == pytest.approx(0.5 * 0.4 + 0.5 * 0.45)
    assert table[4].tolist() == pytest.approx([0.9, 0.5, 0.5])
    assert table[2].tolist() == pytest.approx([0.55, 1.0, 0.5])
    assert table[0].isnan().tolist() == [True, True, False]


def test_calibrated_predictions_have_no_error():
    g = generator()
    p = torch.rand(200_000, 1, generator=g)
    p = torch.cat([p, 1 - p], dim=1)
    labels = (torch.rand(200_000, generator=g) > p[:, 0]).long()
    assert metrics.calibration(p, labels)[0] < 0.01
    assert metrics.accuracy(p.argmax(1), labels) == pytest.approx(0.75, abs=0.01)
    with pytest.raises(ValueError, match="must be distributions"):
        metrics.calibration(2 * p, labels)


# The experiments

SIZES = {"samples": 50, "test_samples": 50, "condition_samples": 60, "network": "cnn", "device": "cpu"}
CNN = {"network": "cnn", "width": 2, "depth": 2, "hidden": 4, "batch": 20, "optimiser": "adam", "lr": 4e-3}


@pytest.mark.parametrize(
    ("changed", "match"),
    [
        ({"condition_samples": 1298}, "condition_samples is 1298: digits has 1297"),
        ({"samples": 4001}, "samples is 4001: mnist1d has 4000"),
        ({"dataset": "digits", "test_samples": 501}, "test_samples is 501: digits has 500"),
        ({"network": "resnet18"}, "mnist1d .* holds no images"),
    ],
)
def test_parameters_that_cannot_go_together_are_refused_before_anything_is_trained(changed, match):
    with pytest.raises(ValueError, match=match):
        study.load(**{"dataset": "mnist1d", "condition_sets": ["digits", "mnist1d"], **SIZES, **changed})


def test_figures_call_own_data_by_their_files():
    names = ["npz:a.npz@0123456789abcdef", "digits"]
    distances = pd.DataFrame({"set": np.repeat(names, 4), "segment": 0.5, "neighbour": 1.0})
    fitted = pd.DataFrame({"set": np.repeat(names, 2), "seed": [0, 1] * 2, "clearance": 0.5, "erm": 1.0, "mixup": 0.9})
    shown = figures.condition(distances, fitted, 1024.0, 5)
    assert "on a.npz the nearest segment" in shown["alt"] and "0123456789abcdef" not in shown["alt"]
    assert set(shown["data"]["set"]) == {"a.npz", "digits"}
    plt.close(shown["figure"])
    twice = [names[0], "images:a.npz@0123456789abcdef"]  # of one title: both in full
    shown = figures.condition(*(f.replace({"set": {"digits": twice[1]}}) for f in (distances, fitted)), 1024.0, 5)
    assert set(shown["data"]["set"]) == set(twice)
    plt.close(shown["figure"])


def test_some_line_must_have_a_point_for_every_class():
    study.check_classes([4, 3], 3)
    with pytest.raises(ValueError, match=r"long_classes is \[4, 5\]: one must be 3 \(long_points\) or fewer"):
        study.check_classes([4, 5], 3)


def test_data_sets_given_twice_count_once():
    assert list(study.load("mnist1d", ["digits", "digits"], **SIZES)) == ["digits", "mnist1d"]


@pytest.fixture(scope="module")
def line():
    """Networks on the three points, and what they say there."""
    x, targets = theory.alternating_line(3, 2)
    nets = study.train_points(x, targets, range(2), alphas=[0.0, 1.0, 32.0], width=64, steps=400)
    return nets, study.network_curves(nets, x, range(2))


def test_networks_of_an_alpha_and_a_seed_do_not_depend_on_the_others(line):
    nets, _ = line
    x, targets = theory.alternating_line(3, 2)
    alone = study.train_points(x, targets, range(1, 2), alphas=[32.0], width=64, steps=400)[32.0]
    assert all(torch.equal(a[1:], b) for a, b in zip(nets[32.0], alone, strict=True))


def test_the_line_without_mixup_is_fitted_and_the_gap_is_that_of_every_alpha(line):
    _, samples = line
    assert (per_seed(samples, "p", position=1.0, alpha=0.0) < 0.5).all()
    middle = columns(samples, "{alpha}", "p", position=1.0, alpha={1.0: "weak", 32.0: "strong"})
    gaps = [np.abs(middle[name] - theory.middle_of_three(a, 0.13)) for name, a in (("weak", 1.0), ("strong", 32.0))]
    assert study.closed_form_gap(samples, 0.13).tolist() == pytest.approx(np.mean(gaps, 0).tolist(), abs=1e-6)


def test_mixed_points_are_the_samples_without_mixup_and_midpoints_in_the_limit():
    x, targets = theory.alternating_line(3, 2)
    found = study.mixed_points(x, targets, [0.0, 1e4])
    plain, half = (found[found["alpha"] == a].set_index(["position", "label"])["mass"] for a in (0.0, 1e4))
    assert plain.to_dict() == pytest.approx({(0.0, 1.0): 1 / 3, (1.0, 0.0): 1 / 3, (2.0, 1.0): 1 / 3})
    assert half[1.0, 1.0] / half[1.0, 0.0] == pytest.approx(2, abs=0.01), "the two outer ones meet there, either first"
    assert half[0.5, 0.5] == pytest.approx(2 / 9, abs=1e-3)


@pytest.mark.parametrize("alpha", [0.2, 1.0, 20.0])
def test_mixed_points_lie_where_they_are_drawn(alpha):
    x, targets = theory.alternating_line(3, 2)
    found, g = study.mixed_points(x, targets, [alpha]), generator(2)
    i, j = torch.randint(3, (2, 200_000), generator=g)
    lam = theory.beta_law(alpha).quantile(torch.rand(200_000, generator=g, dtype=torch.float64)).float()
    position, label = (theory.mix(part[i], part[j], lam)[:, 0] for part in (x, targets))
    assert found["mass"].sum() == pytest.approx(1, abs=0.02)
    for at, weight, mass in zip(found["position"], found["label"], found["mass"], strict=True):
        near = ((position - at).abs() <= 0.025) & ((label - weight).abs() <= 0.026)
        assert near.float().mean().item() == pytest.approx(mass, abs=3e-3)


def moving(line, levels):
    """The frames of the key figure at these levels and 0, all from the same networks."""
    nets, _ = line
    x, targets = theory.alternating_line(3, 2)
    stops = [0.0, *study.refined(levels)]
    same = dict.fromkeys(stops, nets[1.0])
    places = torch.linspace(0, 2, figures.places_for(len(stops)))[:, None]
    mixed = study.mixed_points(x, targets, stops)
    exact = study.closed_form_curves(x, targets, places, mixed, 0.13)
    return study.network_curves(same, places, range(2)), exact, mixed, study.network_curves(same, x, range(2))


@pytest.mark.parametrize("levels", [[0.1, 1.0, 10.0, 32.0, 1024.0], np.geomspace(0.1, 1024, 60).tolist()])
def test_the_key_figure_moves_through_every_level_and_is_accepted_by_the_page(line, levels):
    shown = figures.line_curves(*moving(line, levels), shown=(levels[0], levels[-1]))
    show(**shown, name="line")  # 300 kB or less
    parameters = {p["name"]: p for p in shown["interactive"].to_dict()["params"]}
    ticks = [float(tick.replace(",", "")) for tick in parameters["alpha_ticks"]["value"]]
    assert {0.0, *(float(f"{a:.6g}") for a in levels)} <= set(ticks) and ticks == sorted(ticks)


def test_the_reading_of_the_key_figure_has_the_fit_in_the_middle_with_its_interval(line):
    curves, exact, mixed, samples = moving(line, [1.0, 32.0])
    samples.loc[(samples["alpha"] == 32) & (samples["position"] == 1), "p"] = [0.70, 0.72]
    (expression,) = [
        p["expr"]
        for p in figures.line_slider(curves, exact, mixed, samples).to_dict()["params"]
        if p["name"] == "reading"
    ]
    assert "Without Mixup networks give the middle point the wrong class with p = " in expression
    (said,) = [text for text in expression.split('"') if "= 32 " in text]
    assert "with p = 0.71 (95 % interval 0.5" in said and "n = 2): it is not fitted; the closed form has 0.58" in said


def test_the_closed_form_is_drawn_only_where_mixed_points_are(line):
    _, exact, _, _ = moving(line, [1.0, 1024.0])
    few = exact[exact["alpha"] == 1024]
    assert exact["alpha"].min() > 0 and (exact["alpha"] == 1).sum() > (exact["alpha"] == 1024).sum()
    assert (few["position"] - 0.25).abs().min() > 0.05, "at α = 1024 nothing is mixed one part to three"
    assert few.loc[few["position"] == 1, "p"].item() == pytest.approx(theory.middle_of_three(1024, 0.13), abs=1e-9)


def test_the_longer_line_has_a_row_a_seed_and_job():
    errors = study.long_lines([2, 3], 5, range(3), alphas=[0.0, 1.0], width=8, steps=5)
    assert len(errors) == 12 and errors["error"].between(0, 1).all()
    jobs = set(zip(errors["classes"], errors["training"], strict=True))
    assert jobs == {(2, "ERM"), (2, "α = 1"), (3, "ERM"), (3, "α = 1")}


def test_the_closed_form_jumps_at_the_crossing_and_networks_cannot():
    found = study.crossing(range(2), width=32, steps=100, side=13)
    assert found.closed_form_jump == pytest.approx(1, abs=1e-6)
    assert found.networks_jump.abs().max() < 0.1, "they are continuous, and the places are 0.001 from the crossing"
    assert len(found.curves) == 2 * 2 * 25 and len(found.plane) == 13**2


def test_moons_have_shapes_maps_and_points_of_every_job():
    jobs = [(0.5, 0.0, False), (0.5, 1.0, True)]
    found = study.moons(jobs, range(2), points=20, width=4, steps=3)
    assert found.shapes["training"].tolist() == ["ERM", "ERM", "α = 1, as coded", "α = 1, as coded"]
    assert len(found.maps) == 2 * 121**2 and set(found.maps["fraction"]) <= {0.0, 0.5, 1.0}
    assert len(found.points) == 20 and (found.points.loc[found.points["right"], "x1"] >= 0.5).all()


def test_linear_directions_agree_above_the_bound_and_say_where_there_is_none():
    above = int(theory.max_margin_bound(4)) + 1
    found = study.linear([(0, 2), (0, above)], 4, alpha=1.0)
    assert np.isnan(per_seed(found, "interpolator", d=2)).all()
    assert per_seed(found, "interpolator", d=above)[0] < 1e-3


def toy():
    """Two classes of signals, which a network of any kind tells apart."""
    labels = torch.arange(120) % 2
    x = torch.randn(120, 1, 12, generator=generator()) + 2 * labels[:, None, None]
    return datasets.Dataset(x[:80], labels[:80], x[80:], labels[80:], 2)


class Knows(torch.nn.Module):
    """Knows the true label of every row of the toy."""

    def forward(self, x):
        data = toy()
        known, labels = torch.cat([data.x_train, data.x_test]).flatten(1), torch.cat([data.y_train, data.y_test])
        return F.one_hot(labels[torch.cdist(x.flatten(1), known).argmin(1)], 2).float()


def test_memory_of_wrong_labels_is_measured_on_those_alone():
    """A network that knows every true label gives none of the wrong ones back."""
    checkpoints = []

    def fit(data, batches, seeds, *, checkpoints_seen=checkpoints, checkpoints=0, observe):
        checkpoints_seen.append(checkpoints)
        observe([Knows()])
        return [Knows()]

    arms = [study.Arm("ERM", 0.0, label_noise=0.5), study.Arm("ERM", 0.0)]
    found, bins = study.train_arms(arms, [0], toy(), fit=fit, samples=80, test_samples=40)
    noisy, clean = found.to_dict("records")
    assert noisy["wrong"] == 0 and 0.6 < noisy["train"] < 0.9 and noisy["best"] == noisy["last"] == 1
    assert np.isnan(clean["wrong"]) and np.isnan(clean["best"]) and clean["train"] == 1
    assert noisy["train"] == pytest.approx(1 - noisy["wrong_labels"] / 80), "it gives the right labels only"
    assert clean["wrong_labels"] == 0
    assert checkpoints == [10, 0], "checkpoints are for the best epoch under label noise"
    assert bins["fraction"].tolist() == [1, 1] and bins["accuracy"].tolist() == [1, 1]


def test_arms_mix_as_they_are_told_and_the_others_as_all():
    seen = []

    def fit(data, batches, seeds, *, checkpoints=0, observe):
        seen.append(batches(torch.arange(20)[None])[1][0])
        observe([Knows()])
        return [Knows()]

    arms = [study.Arm("ERM", 0.0), study.Arm("mixed", 1.0), study.Arm("unmixed", 1.0, mixing={"mixed_labels": False})]
    study.train_arms(arms, [0], toy(), fit=fit, samples=80, test_samples=40, partner="any", lambdas="row")
    plain, mixed, unmixed = seen
    assert not plain.is_floating_point()
    assert ((mixed > 0).all(1)).any() and set(unmixed.unique().tolist()) == {0.0, 1.0}


def test_networks_are_observed_on_the_way_and_at_the_end():
    task, seen = study.problem(toy(), 0, 80, 40), []
    batches = study.loader([task], 1.0)
    weigh = lambda nets: seen.append(nets[0].logits.weight.norm().item())  # noqa: E731
    nets = study.fit(task.data, batches, [0], epochs=5, **CNN, checkpoints=10, observe=weigh)
    assert len(seen) == len(set(seen)) == 10 and seen[-1] == nets[0].logits.weight.norm().item()


def test_seeds_do_not_depend_on_those_beside_them():
    def fit(data, batches, seeds, **rest):
        return study.fit(data, batches, seeds, epochs=3, **CNN, **rest)

    arms, rows = [study.Arm("ERM", 0.0, 0.5), study.Arm("mixed", 1.0)], {"samples": 60, "test_samples": 40}
    both, bins = study.train_arms(arms, [0, 1], toy(), fit=fit, **rows)
    alone, own_bins = study.train_arms(arms, [1], toy(), fit=fit, **rows)
    for found, expected in ((both, alone), (bins, own_bins)):
        second = found[found["seed"] == 1].reset_index(drop=True)
        pd.testing.assert_frame_equal(second, expected.reset_index(drop=True), check_exact=True)


def test_condition_measures_every_point_and_trains_with_and_without():
    def fit(data, batches, seeds):
        return study.fit(data, batches, seeds, epochs=10, **CNN)

    distances, fitted = study.condition(
        ["toy"], [0, 1], {"toy": toy()}, fit=fit, alpha=1024.0, samples=60, test_samples=40
    )
    assert len(distances) == 120 and (distances["segment"] <= distances["neighbour"] + 1e-4).all()
    assert fitted["seed"].tolist() == [0, 1] and (fitted["clearance"] > 0).all()
    assert fitted[["erm", "mixup"]].stack().between(0, 1).all()


def test_samples_are_recovered_from_their_midpoints():
    assert study.recovery_error(toy(), 0, 80, 40) < 1e-9
    found = study.recovery(torch.randn(6, 2, generator=generator()), seed=3)
    assert len(found.midpoints) == 15 and found.error < 1e-9
    assert found._replace(recovered=found.recovered + 0.5).error > 0.1


# What figures leave out


def test_reliability_leaves_out_bins_that_few_networks_fill():
    rows = [(s, b) for s in range(5) for b in (3, 9)] + [(0, 14), (1, 14)]
    bins = pd.DataFrame(rows, columns=["seed", "bin"]).assign(arm="ERM", label_noise=0.0, accuracy=0.5)
    noisy = bins.assign(label_noise=0.5)
    ece = pd.DataFrame({"seed": 0, "alpha": [0.0, 1.0], "arm": ["ERM", "α = 1"], "ece": 0.1, "label_noise": 0.5})
    shown = figures.reliability(pd.concat([bins, noisy]), ece, ece, 1.0, 0.5)
    assert sorted(shown["data"]["bin"].unique()) == [3, 9]
    plots.plt.close(shown["figure"])
