"""Probes against scikit-learn and by hand."""

import math

import pytest
import torch
from conftest import generator
from sklearn.linear_model import Ridge
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler

from phenomena.chapters.benign_memorization import probes

GENERATOR = torch.Generator().manual_seed(0)
LABELS = torch.randint(4, (120,), generator=GENERATOR)
FEATURES = torch.randn(120, 9, generator=GENERATOR) + torch.eye(9)[LABELS]
QUERIES = torch.randn(50, 9, generator=GENERATOR)


@pytest.mark.parametrize("k", [1, 5, 20])
def test_knn_agrees_with_scikit_learn(k):
    oracle = KNeighborsClassifier(k, metric="cosine").fit(FEATURES.numpy(), LABELS.numpy())
    assert probes.knn_predict(FEATURES, LABELS, QUERIES, k).tolist() == oracle.predict(QUERIES.numpy()).tolist()


def test_leave_one_out_equals_removing_the_row():
    left_out = probes.knn_predict(FEATURES, LABELS, FEATURES, 5, leave_one_out=True)
    for i in range(0, 120, 7):
        keep = torch.arange(120) != i
        assert left_out[i] == probes.knn_predict(FEATURES[keep], LABELS[keep], FEATURES[i : i + 1], 5)[0]


def test_leave_one_out_across_chunks():
    many = torch.randn(1500, 3, generator=GENERATOR)
    itself = torch.arange(1500)
    assert (probes.knn_predict(many, itself, many, 1) == itself).all()
    assert (probes.knn_predict(many, itself, many, 1, leave_one_out=True) != itself).all()


def test_knn_does_not_see_scale_or_rotation():
    rotation = torch.linalg.qr(torch.randn(9, 9, generator=GENERATOR))[0]
    expected = probes.knn_predict(FEATURES, LABELS, QUERIES, 5)
    turned = probes.knn_predict(3 * FEATURES @ rotation, LABELS, 7 * QUERIES @ rotation, 5)
    assert (turned == expected).float().mean() > 0.97  # rounding may swap near ties


def test_knn_refuses_an_impossible_k():
    with pytest.raises(ValueError, match="k is 121: 1 to 120"):
        probes.knn_predict(FEATURES, LABELS, QUERIES, 121)
    with pytest.raises(ValueError, match="k is 120: 1 to 119"):
        probes.knn_predict(FEATURES, LABELS, FEATURES, 120, leave_one_out=True)


@pytest.mark.parametrize("rows", [120, 6])
def test_linear_probe_is_ridge_regression_in_primal_and_dual(rows):
    x, y = FEATURES[:rows], LABELS[:rows]
    scaler = StandardScaler().fit(x.numpy())
    ridge = Ridge(alpha=0.01 * rows).fit(scaler.transform(x.numpy()), torch.nn.functional.one_hot(y).numpy())
    expected = ridge.predict(scaler.transform(QUERIES.numpy())).argmax(1)
    assert probes.linear_predict(x, y, QUERIES).tolist() == expected.tolist()


def test_augmentation_distance_by_hand_and_at_its_limits():
    a, b = torch.randn(2, 30, 5, generator=GENERATOR)
    u, v = (t / t.norm(dim=1, keepdim=True) for t in (a, b))
    pairs = torch.cdist(u, v).square()
    expected = pairs.diagonal().mean() / pairs[~torch.eye(30, dtype=torch.bool)].mean()
    assert probes.augmentation_distance(a, b) == pytest.approx(expected.item(), rel=1e-4)
    assert probes.augmentation_distance(a, a) == 0  # views equal: perfect invariance
    many = torch.randn(2, 5000, 5, generator=GENERATOR)
    assert probes.augmentation_distance(*many) == pytest.approx(1, abs=0.05)  # views unrelated: none


def test_maps_keep_neighbours_together_and_are_the_same_each_time():
    chance = generator()
    group = torch.arange(60) % 3
    apart = torch.eye(3)[group] + 0.05 * torch.randn(60, 3, generator=chance)
    features = {"mixed": torch.randn(60, 5, generator=chance), "apart": apart}
    maps, again = (probes.neighbour_maps(features, 5) for _ in range(2))
    assert all(torch.equal(places, again[layer]) for layer, places in maps.items())
    for places in maps.values():
        assert places.shape == (60, 2) and places.min() == 0 and places.max() == 1
    nearest = torch.cdist(maps["apart"], maps["apart"]).fill_diagonal_(math.inf).argmin(1)
    assert torch.equal(group[nearest], group)


def test_a_map_of_points_that_a_layer_does_not_tell_apart_is_finite():
    maps = probes.neighbour_maps({"input": torch.randn(20, 4, generator=generator()), "dead": torch.zeros(20, 4)})
    assert maps["dead"].isfinite().all()
