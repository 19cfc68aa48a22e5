"""Augmentations against slow references, limits and invariances."""

import numpy as np
import pytest
import torch
from conftest import generator

from phenomena.chapters.benign_memorization import augment

SIGNALS = torch.randn(7, 1, 40, generator=generator())
IMAGES = torch.rand(7, 3, 12, 12, generator=generator())


def uniform(names, x):
    """The uniform numbers that these augmentations of x take."""
    return torch.rand(len(x), augment.numbers(names, x.shape[1:]), generator=generator(1))


@pytest.mark.parametrize(("name", "x"), [(n, SIGNALS) for n in augment.SIGNAL] + [(n, IMAGES) for n in augment.IMAGE])
def test_shape_determinism_and_independence_of_rows(name, x):
    u = uniform([name], x)
    out = augment.augment(x, u, [name])
    assert out.shape == x.shape and out.dtype == x.dtype
    assert torch.equal(out, augment.augment(x, u, [name]))
    # a sample's augmentation does not depend on the rest of the batch
    for i in range(len(x)):
        torch.testing.assert_close(augment.augment(x[i : i + 1], u[i : i + 1], [name])[0], out[i])


@pytest.mark.parametrize("name", [*augment.SIGNAL, "affine", "erase", "brightness"])
def test_vanishing_strength_changes_nothing(name):
    x = SIGNALS if name in augment.SIGNAL else IMAGES
    u = uniform([name], x)
    assert torch.equal(augment.augment(x, u, [name], 0.0), x)
    torch.testing.assert_close(augment.augment(x, u, [name], 1e-6), x, atol=1e-4, rtol=0)


def test_shift_is_linear_interpolation_around_the_ends():
    x, u = SIGNALS[:3], torch.tensor([[0.1], [0.5], [0.9]])
    out = augment.shift(x, u, 1.0)
    for row, (signal, number) in enumerate(zip(x[:, 0].numpy(), u[:, 0].tolist(), strict=True)):
        places = np.arange(40) - (2 * number - 1) * 0.2 * 40
        expected = np.interp(places, np.arange(-80, 120), np.tile(signal, 5))
        np.testing.assert_allclose(out[row, 0].numpy(), expected, atol=1e-5)


def test_scale_shear_and_noise_have_their_stated_size():
    x = torch.ones(1, 1, 5)
    torch.testing.assert_close(augment.scale(x, torch.tensor([[1.0]]), 1.0), 1.3 * x)
    line = augment.shear(x, torch.tensor([[1.0]]), 1.0) - x
    torch.testing.assert_close(line[0, 0], torch.linspace(-0.5, 0.5, 5))
    many = torch.zeros(2000, 1, 40)
    assert abs(augment.noise(many, uniform(["noise"], many), 1.0).std().item() - 0.2) < 0.002


def test_crop_equals_pad_and_cut():
    u = uniform(["crop"], IMAGES)
    out = augment.crop(IMAGES, u, 1.0)
    padded = np.pad(IMAGES.numpy(), ((0, 0), (0, 0), (2, 2), (2, 2)))
    for i, (top, left) in enumerate((u * 5).long().tolist()):
        np.testing.assert_array_equal(out[i].numpy(), padded[i, :, top : top + 12, left : left + 12])


def test_flip_twice_is_the_image():
    always = torch.zeros(len(IMAGES), 1)
    flipped = augment.flip(IMAGES, always, 1.0)
    assert torch.equal(flipped, IMAGES.flip(-1)) and torch.equal(augment.flip(flipped, always, 1.0), IMAGES)
    assert torch.equal(augment.flip(IMAGES, always + 0.6, 1.0), IMAGES)


def test_resized_crop_of_everything_is_the_image():
    u = torch.tensor([[0.0, 0.5, 0.3, 0.8]]).repeat(len(IMAGES), 1)  # whole area, square
    torch.testing.assert_close(augment.resized_crop(IMAGES, u, 1.0), IMAGES, atol=1e-5, rtol=0)


def test_pixels_stay_within_bounds():
    for name in ("brightness", "colour", "resized_crop", "affine"):
        out = augment.augment(IMAGES, uniform([name], IMAGES), [name], 2.0 if name != "resized_crop" else 1.0)
        assert out.min() >= -1e-6 and out.max() <= 1 + 1e-6


def test_erase_blanks_a_square_of_the_stated_side():
    x = torch.ones(1, 1, 100, 100)
    out = augment.erase(x, torch.tensor([[0.5, 0.5]]), 1.0)
    assert abs((out == 0).float().sum().sqrt().item() - 30) <= 1


def test_composition_is_one_after_the_other():
    names = ["shift", "noise"]
    u = uniform(names, SIGNALS)
    expected = augment.noise(augment.shift(SIGNALS, u[:, :1], 0.7), u[:, 1:], 0.7)
    torch.testing.assert_close(augment.augment(SIGNALS, u, names, 0.7), expected)


def test_refusals():
    with pytest.raises(ValueError, match="'crop' does not fit signals: choose among shift, scale, shear, noise"):
        augment.numbers(["crop"], SIGNALS.shape[1:])
    with pytest.raises(ValueError, match="'colour' needs three channels"):
        augment.numbers(["colour"], torch.Size([1, 8, 8]))
    with pytest.raises(ValueError, match="strength is -1"):
        augment.augment(SIGNALS, uniform(["scale"], SIGNALS), ["scale"], -1)
    with pytest.raises(ValueError, match=r"u has shape \(7, 2\): must be \(7, 1\)"):
        augment.augment(SIGNALS, torch.rand(7, 2), ["scale"])
