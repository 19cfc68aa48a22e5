"""GeoMNIST against areas in closed form, matplotlib's polygons and SciPy's Gaussian blur."""

import math

import numpy as np
import pytest
import torch
from conftest import generator
from matplotlib.path import Path
from scipy import ndimage

from phenomena.science import datasets, geomnist

FIFTH = math.pi / 5
TRIANGLE = [(0, -8 * 3**0.5), (10, 8), (-10, 8)]
STAR = [(r * math.cos(i * FIFTH), r * math.sin(i * FIFTH)) for i in range(10) for r in [13 if i % 2 == 0 else 5.5]]
AREA = {
    "triangle": 10 * (8 * 3**0.5 + 8),
    "rectangle": 16 * 8,
    "ellipse": math.pi * 12 * 6,
    "ring": math.pi * (11**2 - 6**2),
    "cross": 2 * 24 * 7 - 49,
    "star": 10 * 0.5 * 13 * 5.5 * math.sin(FIFTH),
    "half disc": math.pi * 12**2 / 2,
    "angle": 18 * 6 * 2 - 36,
    "hourglass": 2 * 7.5 * 10,
}


def fine(name, j=(0.0, 0.0, 0.0), step=0.05):
    """A shape without turn or blur on a fine grid, and the grid."""
    axis = torch.arange(-16 + step / 2, 16, step, dtype=torch.float64)
    v, u = torch.meshgrid(axis, axis, indexing="ij")
    return geomnist.SHAPES[name](u[None], v[None], torch.tensor(j).double().view(1, 3, 1, 1))[0], u, v


@pytest.mark.parametrize("name", AREA)
def test_areas(name):
    inside, _, _ = fine(name)
    assert inside.double().sum().item() * 0.05**2 == pytest.approx(AREA[name], rel=0.01)


@pytest.mark.parametrize(("name", "corners"), [("triangle", TRIANGLE), ("star", STAR)])
def test_polygons_are_those_of_matplotlib(name, corners):
    inside, u, v = fine(name)
    expected = Path(corners).contains_points(np.stack([u.flatten(), v.flatten()], 1)).reshape(inside.shape)
    assert (inside.numpy() != expected).mean() < 1e-4


@pytest.mark.parametrize("name", geomnist.SHAPES)
def test_every_shape_fits_the_image_however_it_is_turned(name):
    for j in ((1.0, 1.0, 1.0), (1.0, -1.0, 1.0), (-1.0, -1.0, -1.0)):
        inside, u, v = fine(name, j)
        assert 0 < torch.hypot(u, v)[inside].max() < 16
        assert inside.any()


def test_turn_and_blur_are_those_of_scipy(monkeypatch):
    """One disc off the centre: where it lies after the turn, and its blur."""
    monkeypatch.setitem(
        geomnist.SHAPES, "dot", lambda u, v, j: torch.hypot(u - 8, v) <= 3 + 0 * j[:, 0]
    )  # 8 right of the centre before the turn
    uniform = torch.rand(20, 5, 1, 1, generator=generator())
    images = geomnist.draw_shapes("dot", 20, generator())
    for image, numbers in zip(images[:, 0], uniform.flatten(1), strict=True):
        turn, sigma = math.radians(176) * numbers[3].item(), 0.9 + 0.2 * numbers[4].item()
        y, x = np.mgrid[:32, :32] - 15.5
        sharp = np.hypot(x - 8 * math.cos(turn), y - 8 * math.sin(turn)) <= 3
        expected = ndimage.gaussian_filter(sharp.astype(float), sigma, mode="constant", truncate=8)
        np.testing.assert_allclose(image.numpy(), expected, atol=2e-3)


def test_generated_set():
    x, y = geomnist.generate(30, 3, generator())
    assert x.shape == (90, 1, 32, 32) and x.dtype == torch.float32 and y.dtype == torch.int64
    assert x.min() >= 0 and 0.9 < x.max() <= 1
    assert y.bincount().tolist() == [30, 30, 30] and y[:30].unique().numel() == 3
    again, labels = geomnist.generate(30, 3, generator())
    assert torch.equal(x, again) and torch.equal(y, labels)
    assert not torch.equal(x, geomnist.generate(30, 3, generator(1))[0])
    assert len(x.flatten(1).unique(dim=0)) == 90, "no image twice"


def test_the_paper_s_ellipses_have_their_sizes():
    """Area 2 pi r², r from 5 to 7: between 157 and 308 pixels, and on average 2 pi (36 + 1/3)."""
    mass = geomnist.draw_shapes("ellipse", 2000, generator()).sum((1, 2, 3))
    assert 150 < mass.min() < 165 and 298 < mass.max() < 315
    assert mass.mean().item() == pytest.approx(2 * math.pi * (36 + 1 / 3), rel=0.01)


def test_bad_input_is_named():
    with pytest.raises(ValueError, match=r"1 classes: must be 2 to 10 \(triangle, "):
        geomnist.generate(5, 1, generator())
    with pytest.raises(ValueError, match="11 classes: must be 2 to 10"):
        geomnist.generate(5, 11, generator())
    with pytest.raises(ValueError, match="0 images of a shape: must be 1 or more"):
        geomnist.generate(0, 3, generator())
    with pytest.raises(ValueError, match="'blob' is not known: one of triangle"):
        geomnist.draw_shapes("blob", 1, generator())


def test_it_is_one_of_the_data_sets():
    data = datasets.load("geomnist")
    assert data.classes == 10 and data.x_train.shape == (10000, 1, 32, 32) and data.x_test.shape == (2000, 1, 32, 32)
    assert data.y_test.bincount().tolist() == [200] * 10
    three = datasets.geomnist(3, 20, 10)
    assert three.classes == 3 and len(three.x_train) == 60 and len(three.x_test) == 30
    assert not (three.x_test.flatten(1)[:, None] == three.x_train.flatten(1)[None]).all(2).any()
