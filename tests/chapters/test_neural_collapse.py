"""NC1 to NC4 on collapsed features, against definitions written out, and under invariances."""

import pytest
import torch

from phenomena.chapters.local_elasticity import neural_collapse as nc

F64 = torch.float64


def simplex(k, d):
    corners = torch.eye(k, d, dtype=F64)
    return corners - corners.mean(0)


def random(n=60, d=8, k=4, seed=0):
    g = torch.Generator().manual_seed(seed)
    labels = torch.arange(k).repeat(n // k)
    features = torch.randn(n, d, generator=g, dtype=F64) + 2 * torch.randn(k, d, generator=g, dtype=F64)[labels]
    return features, labels, torch.randn(k, d, generator=g, dtype=F64), torch.randn(k, generator=g, dtype=F64)


def test_collapsed_features_measure_zero_everywhere():
    means = simplex(4, 8)
    labels = torch.arange(4).repeat(15)
    features = means[labels] + 5.0  # a common shift changes nothing
    found = nc.collapse(features, labels, 3 * means, -3 * (means * 5).sum(1))
    assert max(found) < 1e-12


def test_each_measure_sees_its_own_departure():
    means, labels = simplex(4, 8), torch.arange(4).repeat(15)
    noise = torch.randn(60, 8, generator=torch.Generator().manual_seed(0), dtype=F64)
    noise -= nc.class_means(noise, labels, 4)[labels]
    wide = nc.collapse(means[labels] + 0.1 * noise, labels, means, torch.zeros(4, dtype=F64))
    assert wide.nc1 > 0.001 and wide.nc2_angles < 1e-12 and wide.nc3 < 1e-12
    scaled = nc.collapse((means * torch.tensor([1.0, 1, 1, 2])[:, None])[labels], labels, means, torch.zeros(4))
    assert scaled.nc2_norms > 0.1 and scaled.nc1 < 1e-12
    turned = nc.collapse(means[labels], labels, -means, torch.zeros(4))
    assert turned.nc3 == pytest.approx(4) and turned.nc4 == 1  # the opposite direction


def test_measures_are_their_definitions():
    x, y, w, b = random()
    found = nc.collapse(x.float(), y, w.float(), b.float())
    means = torch.stack([x[y == k].mean(0) for k in range(4)])
    centred = means - means.mean(0)
    s_w = torch.stack([torch.outer(v, v) for v in x - means[y]]).mean(0)
    s_b = torch.stack([torch.outer(v, v) for v in centred]).mean(0)
    assert found.nc1 == pytest.approx((s_w @ torch.linalg.pinv(s_b, rtol=1e-10)).trace().item() / 4, rel=1e-4)
    lengths = centred.norm(dim=1)
    assert found.nc2_norms == pytest.approx((lengths.std(correction=0) / lengths.mean()).item(), rel=1e-4)
    cos = [torch.cosine_similarity(centred[i], centred[j], 0) for i in range(4) for j in range(i)]
    assert found.nc2_angles == pytest.approx(sum(abs(c + 1 / 3) for c in cos).item() / 6, rel=1e-4)
    assert found.nc3 == pytest.approx((w / w.norm() - centred / centred.norm()).square().sum().item(), rel=1e-4)
    nearest = torch.stack([(v - means).norm(dim=1).argmin() for v in x])
    assert found.nc4 == pytest.approx((nearest != (x @ w.T + b).argmax(1)).double().mean().item())
    assert 0 < found.nc4 < 1


def test_rotation_shift_and_scale_change_nothing():
    x, y, w, b = random()
    turn = torch.linalg.qr(torch.randn(8, 8, generator=torch.Generator().manual_seed(1), dtype=F64)).Q
    shift = torch.full((8,), 3.0, dtype=F64)
    moved = nc.collapse(7 * x @ turn + shift, y, w @ turn, 7 * b - w @ turn @ shift)
    assert moved == pytest.approx(nc.collapse(x, y, w, b), rel=1e-6)


def test_two_classes_are_always_at_opposite_ends():
    norms, angles = nc.simplex(torch.tensor([[1.0, 2.0], [4.0, 0.0]], dtype=F64))
    assert norms < 1e-12 and angles < 1e-12


def test_bad_input_is_named():
    x, y, w, b = random()
    with pytest.raises(ValueError, match=r"5 classes with \[15, 15, 15, 15, 0\] samples: 2 or more"):
        nc.class_means(x, y, 5)
    with pytest.raises(ValueError, match="1 classes with"):
        nc.class_means(x, 0 * y, 1)
    with pytest.raises(ValueError, match="3 classes with"):
        nc.collapse(x, y, w[:3], b[:3])
