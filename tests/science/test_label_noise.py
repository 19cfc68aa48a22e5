"""Label noise: exact counts, means over many rows, and what stays as it was."""

import math

import pytest
import torch
from conftest import generator

from phenomena.science import label_noise

LABELS = torch.arange(10).repeat(2000)


def within(measured, probability, rows):
    """Whether a frequency lies within four standard errors of its probability."""
    return abs(measured - probability) < 4 * math.sqrt(probability * (1 - probability) / rows)


# Redrawn labels


@pytest.mark.parametrize("fraction", [0.1, 0.5, 1.0])
def test_redrawn_labels_are_wrong_at_the_rate_of_chance(fraction):
    noisy = label_noise.redraw_labels(LABELS, fraction, 10, generator())
    wrong = noisy != LABELS
    assert noisy.dtype == torch.int64 and noisy.min() == 0 and noisy.max() == 9
    assert wrong.sum() <= round(fraction * len(LABELS))
    assert within(wrong.float().mean().item(), fraction * 0.9, len(LABELS))
    for step in range(1, 10):  # every wrong class is as frequent
        moved = ((noisy - LABELS) % 10 == step).float().mean().item()
        assert within(moved, fraction / 10, len(LABELS))


def test_the_number_of_redrawn_rows_is_exact():
    labels, many = torch.zeros(1000, dtype=torch.int64), 10**9  # so many that no redrawn label is correct
    assert (label_noise.redraw_labels(labels, 0.123, many, generator()) != 0).sum() == 123
    assert (label_noise.redraw_labels(labels, 1.0, many, generator()) != 0).all()
    assert torch.equal(label_noise.redraw_labels(labels, 0.0, 5, generator()), labels)


# Labels from two sources


@pytest.mark.parametrize("shape", [(1000,), (250, 4)])
def test_the_number_of_mixed_labels_is_exact(shape):
    clean = torch.zeros(shape, dtype=torch.int64)
    for fraction in (0.0, 0.25, 0.377):
        mixed = label_noise.mix_labels(clean + 1, clean, fraction, generator())
        assert mixed.shape == shape and mixed.sum() == round(1000 * fraction)


def test_mixed_labels_stay_in_their_place():
    noisy, clean = torch.arange(100), 1000 + torch.arange(100)
    mixed = label_noise.mix_labels(noisy, clean, 0.5, generator())
    assert torch.equal(mixed % 1000, noisy)
    assert not torch.equal(mixed, label_noise.mix_labels(noisy, clean, 0.5, generator(1)))


def test_fraction_one_leaves_the_generator_untouched():
    g = generator()
    before = g.get_state()
    noisy = torch.arange(6)
    assert torch.equal(label_noise.mix_labels(noisy, noisy + 9, 1.0, g), noisy)
    assert torch.equal(g.get_state(), before)


# Labels corrupted evenly


@pytest.mark.parametrize("fraction", [0.0, 0.1, 0.3, 0.7])
def test_wrong_labels_are_counted_exactly_in_every_class(fraction):
    labels = torch.arange(4).repeat_interleave(torch.tensor([10, 20, 31, 40]))[
        torch.randperm(101, generator=generator())
    ]
    noisy = label_noise.corrupt_evenly(labels, fraction, 4, generator())
    for k, rows in enumerate((10, 20, 31, 40)):
        wrong = noisy[(labels == k) & (noisy != k)]
        assert len(wrong) == int(fraction * rows + 1e-9), f"class {k}"
        spread = wrong.bincount(minlength=4)[[c for c in range(4) if c != k]]
        assert spread.max() - spread.min() <= 1, "spread evenly over the other classes"


def test_a_fraction_of_rows_that_rounding_makes_too_small_counts_whole():
    """0.29 * 100 is 28.999999999999996: 29 wrong labels are meant."""
    noisy = label_noise.corrupt_evenly(torch.zeros(100, dtype=torch.int64), 0.29, 2, generator())
    assert noisy.sum() == 29


# Flipped signs


def test_signs_are_flipped_at_their_probability():
    signs = label_noise.flipped_signs(50, 1000, 0.2, generator())
    assert signs.shape == (50, 1000) and signs.dtype == torch.float32 and (signs.abs() == 1).all()
    assert within((signs < 0).float().mean().item(), 0.2, signs.numel())
    assert (label_noise.flipped_signs(3, 50, 0.0, generator()) == 1).all()


def test_the_dtype_does_not_change_which_signs_are_flipped():
    double = label_noise.flipped_signs(2, 30, 0.5, generator(), torch.float64)
    assert double.dtype == torch.float64
    assert torch.equal(double, label_noise.flipped_signs(2, 30, 0.5, generator()).double())


# All of them

NOISES = {
    "redraw": lambda labels, g: label_noise.redraw_labels(labels, 0.5, 10, g),
    "mix": lambda labels, g: label_noise.mix_labels((labels + 1) % 10, labels, 0.5, g),
    "mix in another order": lambda labels, g: label_noise.mix_labels(labels, (labels + 1) % 10, 0.5, g),
    "corrupt": lambda labels, g: label_noise.corrupt_evenly(labels, 0.5, 10, g),
}


@pytest.mark.parametrize("noise", NOISES.values(), ids=NOISES)
def test_the_generator_decides_and_the_input_stays(noise):
    labels = LABELS.clone()
    first, again, other = (noise(labels, generator(seed)) for seed in (0, 0, 1))
    assert torch.equal(labels, LABELS)
    assert torch.equal(first, again) and not torch.equal(first, other) and not torch.equal(first, labels)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: label_noise.redraw_labels(LABELS, 1.2, 10, generator()), r"1\.2: must be 0 to 1"),
        (lambda: label_noise.redraw_labels(LABELS, -0.1, 10, generator()), r"-0\.1: must be 0 to 1"),
        (lambda: label_noise.redraw_labels(LABELS, math.nan, 10, generator()), "nan: must be 0 to 1"),
        (lambda: label_noise.corrupt_evenly(LABELS, 1.0, 10, generator()), r"1\.0: must be 0 or more and below 1"),
        (lambda: label_noise.corrupt_evenly(LABELS, -0.1, 10, generator()), r"-0\.1: must be 0 or more and below 1"),
        (lambda: label_noise.corrupt_evenly(LABELS, 0.1, 1, generator()), "1 classes: must be 2 or more"),
        (lambda: label_noise.flipped_signs(1, 1, 0.6, generator()), r"0\.6: must be 0 to 0\.5"),
        (lambda: label_noise.flipped_signs(1, 1, -0.1, generator()), r"-0\.1: must be 0 to 0\.5"),
        (lambda: label_noise.flipped_signs(0, 1, 0.1, generator()), "0 seeds and 1 rows: must be 1 or more"),
        (lambda: label_noise.flipped_signs(1, 0, 0.1, generator()), "1 seeds and 0 rows: must be 1 or more"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
