"""Accuracy, calibration and margin against known values and scikit-learn."""

import math

import numpy as np
import pytest
import torch
from conftest import generator
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.svm import SVC

from phenomena.science import metrics

F64 = torch.float64


def test_accuracy_by_hand():
    assert metrics.accuracy(torch.tensor([1, 2, 3, 4]), torch.tensor([1, 2, 0, 4])) == 0.75
    assert metrics.accuracy(torch.tensor([[1, 0]]), torch.tensor([[1, 1]])) == 0.5
    assert math.isnan(metrics.accuracy(torch.arange(0), torch.arange(0)))


# Calibration


def test_calibration_by_hand():
    p = torch.tensor([[0.9, 0.1], [0.9, 0.1], [0.55, 0.45], [0.45, 0.55]])
    error, table = metrics.calibration(p, torch.tensor([0, 1, 0, 1]), bins=5)
    # bin (.8, 1]: confidence .9, accuracy 1/2; bin (.4, .6]: confidence .55, accuracy 1
    assert error == pytest.approx(0.5 * 0.4 + 0.5 * 0.45)
    assert table.dtype == F64 and table.shape == (5, 3)
    assert table[4].tolist() == pytest.approx([0.9, 0.5, 0.5])
    assert table[2].tolist() == pytest.approx([0.55, 1.0, 0.5])
    for empty in (0, 1, 3):
        assert table[empty].tolist() == pytest.approx([math.nan, math.nan, 0], nan_ok=True)


def readable(p, labels, bins):
    """Expected calibration error, bin by bin."""
    error = 0.0
    confidence, predicted = p.max(axis=1), p.argmax(axis=1)
    for k in range(bins):
        inside = (confidence > k / bins) & (confidence <= (k + 1) / bins)
        if inside.any():
            gap = (predicted == labels)[inside].mean() - confidence[inside].mean()
            error += inside.mean() * abs(gap)
    return error


@given(st.integers(0, 2**32 - 1), st.integers(2, 5), st.integers(1, 20))
@settings(max_examples=30, deadline=None)
def test_calibration_is_its_readable_twin(seed, classes, bins):
    rng = np.random.default_rng(seed)
    p, labels = rng.dirichlet(np.ones(classes), 50), rng.integers(classes, size=50)
    error, table = metrics.calibration(torch.tensor(p), torch.tensor(labels), bins)
    assert error == pytest.approx(readable(p, labels, bins), abs=1e-12)
    assert table[:, 2].sum().item() == pytest.approx(1)
    order = torch.randperm(50, generator=generator())
    assert metrics.calibration(torch.tensor(p)[order], torch.tensor(labels)[order], bins)[0] == pytest.approx(error)


def test_calibrated_predictions_have_no_error():
    p = torch.rand(200_000, 1, generator=generator())
    p = torch.cat([p, 1 - p], dim=1)
    labels = (torch.rand(200_000, generator=generator(1)) > p[:, 0]).long()
    assert metrics.calibration(p, labels)[0] < 0.01
    assert metrics.accuracy(p.argmax(1), labels) == pytest.approx(0.75, abs=0.01)


@pytest.mark.parametrize(("correct", "error"), [(True, 0.0), (False, 1.0)])
def test_certain_predictions(correct, error):
    p = torch.eye(3)
    labels = torch.arange(3) if correct else torch.arange(3).roll(1)
    found, table = metrics.calibration(p, labels)
    assert found == error and table[-1].tolist() == [1.0, float(correct), 1.0]


@pytest.mark.parametrize("p", [[[0.5, 0.6]], [[1.2, -0.2]], [[0.4, 0.4]]])
def test_calibration_refuses_what_is_no_distribution(p):
    with pytest.raises(ValueError, match="must be distributions"):
        metrics.calibration(torch.tensor(p), torch.tensor([0]))


# Margin


def test_max_margin_by_hand():
    x = torch.tensor([[2.0, 0.0], [5.0, 1.0], [-2.0, 0.0], [-4.0, -3.0]], dtype=F64)
    signs = torch.tensor([1.0, 1.0, -1.0, -1.0], dtype=F64)
    torch.testing.assert_close(metrics.max_margin(x, signs), torch.tensor([0.5, 0.0], dtype=F64))


def test_max_margin_of_orthogonal_rows_is_the_least_norm_interpolator():
    """Rows of any length: w . x_i = signs_i for all, w = sum_i signs_i x_i / |x_i|^2."""
    lengths = torch.tensor([0.5, 1.0, 3.0], dtype=F64)
    signs = torch.tensor([1.0, -1.0, 1.0], dtype=F64)
    torch.testing.assert_close(metrics.max_margin(lengths.diag(), signs), signs / lengths)


@pytest.mark.parametrize("seed", range(3))
def test_max_margin_is_that_of_a_support_vector_machine(seed):
    x = torch.randn(12, 15, generator=generator(seed), dtype=F64)
    signs = torch.tensor([1.0, -1.0] * 6, dtype=F64)
    w = metrics.max_margin(x, signs)
    # without intercept: a machine on the rows joined with their mirror images
    machine = SVC(kernel="linear", C=1e8, tol=1e-10).fit(torch.cat([x, -x]), torch.cat([signs, -signs]))
    torch.testing.assert_close(w, torch.tensor(machine.coef_[0]), atol=1e-5, rtol=1e-4)
    assert (signs * (x @ w)).min().item() == pytest.approx(1, abs=1e-9)


def test_max_margin_turns_with_its_rows_and_shrinks_with_their_scale():
    x = torch.randn(6, 8, generator=generator(), dtype=F64)
    signs = torch.tensor([1.0, -1.0] * 3, dtype=F64)
    rotation = torch.linalg.qr(torch.randn(8, 8, generator=generator(1), dtype=F64))[0]
    w = metrics.max_margin(x, signs)
    torch.testing.assert_close(metrics.max_margin(4 * x @ rotation, signs), w @ rotation / 4)
    torch.testing.assert_close(metrics.max_margin(x * signs[:, None], torch.ones(6, dtype=F64)), w)


def test_no_margin_where_signs_cannot_be_separated():
    opposite = torch.tensor([[1.0, 2.0], [-1.0, -2.0]], dtype=F64)
    assert metrics.max_margin(opposite, torch.ones(2, dtype=F64)) is None
    line = torch.randn(12, 1, generator=generator(), dtype=F64)
    assert metrics.max_margin(line, torch.tensor([1.0, -1.0] * 6, dtype=F64)) is None
