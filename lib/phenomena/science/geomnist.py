"""GeoMNIST: grey images of plane shapes, generated (Zhang, Wang and Su 2021; shapes beyond the first three are ours).

The paper's classes are triangle, rectangle and ellipse, turned by any angle and blurred. Seven further shapes make any
K from 2 to 10. A shape is a test "is the point (u, v) inside", on all pixels of all images at once: turning an image is
turning the coordinates.

Letters: n images, h = w = 32 pixels; u, v: distance from the centre in pixels, to the right and down; j: uniform in
[-1, 1], by how many pixels the sides of a shape vary.
"""

import math
from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

SIZE = 32
TURN = 176.0  # degrees: the largest angle of the official code

Coordinates = Float[Tensor, "n h w"]
Variation = Float[Tensor, "n 3 1 1"]
Inside = Bool[Tensor, "n h w"]


def triangle(u: Coordinates, v: Coordinates, j: Variation) -> Inside:
    """Apex 8 sqrt(3) above the centre, base 8 below it and 20 wide."""
    apex, base, half = 8 * 3**0.5 + j[:, 0], 8 + j[:, 1], 10 + j[:, 2]
    return (v <= base) & (u.abs() <= half * (v + apex) / (base + apex))


def rectangle(u: Coordinates, v: Coordinates, j: Variation) -> Inside:
    """Sides of 16 and 8."""
    return (u.abs() <= 8 + j[:, 0]) & (v.abs() <= 4 + j[:, 1])


def ellipse(u: Coordinates, v: Coordinates, j: Variation) -> Inside:
    """Radii 2 r and r with r = 6."""
    r = 6 + j[:, 0]
    return (u / 2).square() + v.square() <= r.square()


def ring(u: Coordinates, v: Coordinates, j: Variation) -> Inside:
    """Between circles of radius 6 and 11."""
    rho = torch.hypot(u, v)
    return (rho >= 6 + j[:, 0]) & (rho <= 11 + j[:, 1])


def cross(u: Coordinates, v: Coordinates, j: Variation) -> Inside:
    """Two bars of 24 by 7."""
    long, half = 12 + j[:, 0], 3.5 + 0.5 * j[:, 1]
    return ((u.abs() <= half) & (v.abs() <= long)) | ((v.abs() <= half) & (u.abs() <= long))


def star(u: Coordinates, v: Coordinates, j: Variation) -> Inside:
    """Five tips at 13, five corners between them at 5.5."""
    outer, inner = 13 + j[:, 0], 5.5 + 0.5 * j[:, 1]
    fifth = math.pi / 5
    # angle to the nearest tip: by the ten symmetries of the star one edge says all
    angle = (torch.atan2(v, u).remainder(2 * fifth) - fifth).abs().sub(fifth).abs()
    x, y = torch.hypot(u, v) * angle.cos(), torch.hypot(u, v) * angle.sin()
    corner_x, corner_y = inner * math.cos(fifth), inner * math.sin(fifth)
    return (corner_x - outer) * y >= corner_y * (x - outer)


def crescent(u: Coordinates, v: Coordinates, j: Variation) -> Inside:
    """A disc of radius 12 without one of radius 10 whose centre is 7 away."""
    return (torch.hypot(u, v) <= 12 + j[:, 0]) & (torch.hypot(u - 7, v) >= 10 + j[:, 1])


def half_disc(u: Coordinates, v: Coordinates, j: Variation) -> Inside:
    """Radius 12, cut by a line through its centre, which lies 4 above that of the image."""
    return (torch.hypot(u, v + 4) <= 12 + j[:, 0]) & (v + 4 >= j[:, 1])


def angle(u: Coordinates, v: Coordinates, j: Variation) -> Inside:
    """Two bars of 18 by 6 that meet in a corner."""
    side, width = 9 + j[:, 0], 6 + j[:, 1]
    return ((u.abs() <= side) & (v.abs() <= side)) & ((u <= width - side) | (v >= side - width))


def hourglass(u: Coordinates, v: Coordinates, j: Variation) -> Inside:
    """Two triangles of height 10 and base 15 that meet at their tips."""
    height, slope = 10 + j[:, 0], (7.5 + j[:, 1]) / 10
    return (v.abs() <= height) & (u.abs() <= slope * v.abs())


# class number = place in this table; the paper's three come first
SHAPES: dict[str, Callable[[Coordinates, Coordinates, Variation], Inside]] = {
    "triangle": triangle,
    "rectangle": rectangle,
    "ellipse": ellipse,
    "ring": ring,
    "cross": cross,
    "star": star,
    "crescent": crescent,
    "half disc": half_disc,
    "angle": angle,
    "hourglass": hourglass,
}


def draw_shapes(name: str, n: int, generator: torch.Generator) -> Float[Tensor, "{n} 1 32 32"]:
    """n images of one shape: sides vary by up to a pixel, angle uniform in [0°, 176°], Gaussian blur of 0.9 to 1.1.

    Sizes, angles and blur as in the official code of Zhang et al. (2021), with two deviations. There size and angle
    rise evenly with the number of the image, which ties the ellipse's size to its angle; here they are independent.
    There the finished image is turned, here its coordinates are, so that turning does not blur.

    Returns float32 in [0, 1]. Raises `ValueError` for an unknown shape or n below 1.
    """
    if name not in SHAPES:
        raise ValueError(f"shape {name!r} is not known: one of {', '.join(SHAPES)}")
    if n < 1:
        raise ValueError(f"{n} images of a shape: must be 1 or more")
    uniform = torch.rand(n, 5, 1, 1, generator=generator)
    turn, sigma = uniform[:, 3] * math.radians(TURN), 0.9 + 0.2 * uniform[:, 4]
    pixel = torch.arange(SIZE) - (SIZE - 1) / 2
    y, x = torch.meshgrid(pixel, pixel, indexing="ij")
    u, v = x * turn.cos() + y * turn.sin(), y * turn.cos() - x * turn.sin()  # (n, h, w)
    image = SHAPES[name](u, v, 2 * uniform[:, :3] - 1).float()
    weights = torch.exp(-((pixel[:, None] - pixel) ** 2) / (2 * sigma**2))  # (n, h, h): blurs each column, then row
    # the kernel's sum far from the edges, so that what is beyond the image counts as black
    weights /= weights[:, SIZE // 2 - 1 : SIZE // 2].sum(2, keepdim=True)
    return (weights @ image @ weights).clamp(0, 1).unsqueeze(1)


def generate(
    per_class: int, classes: int, generator: torch.Generator
) -> tuple[Float[Tensor, "n 1 32 32"], Int[Tensor, " n"]]:
    """`per_class` images of each of the first `classes` shapes, shuffled.

    Returns images, float32 in [0, 1], and their labels, int64; n = per_class * classes.
    Raises `ValueError` for fewer than 2 or more than 10 classes, or per_class below 1.
    """
    if not 2 <= classes <= len(SHAPES):
        raise ValueError(f"{classes} classes: must be 2 to {len(SHAPES)} ({', '.join(SHAPES)})")
    x = torch.cat([draw_shapes(name, per_class, generator) for name in list(SHAPES)[:classes]])
    y = torch.arange(classes).repeat_interleave(per_class)
    order = torch.randperm(len(y), generator=generator)
    return x[order], y[order]
