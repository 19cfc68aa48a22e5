"""Points on the interval and on the sphere, and two tasks for kernels: what the chapter trains on.

Letters: s seeds, m training points, d dimension, k coordinates that are kept, t test points, n rows.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from phenomena.science import datasets

TEST_POINTS = 500  # of the tasks for kernels


def uniform_points(
    seeds: int, m: int, generator: torch.Generator, dtype: torch.dtype = torch.float64
) -> Float[Tensor, "s m 1"]:
    """Points uniform on [0, 1], sorted."""
    check_counts(seeds=seeds, m=m)
    return torch.rand(seeds, m, 1, generator=generator, dtype=dtype, device=generator.device).sort(1).values


def sphere(
    seeds: int, m: int, d: int, generator: torch.Generator, dtype: torch.dtype = torch.float32
) -> Float[Tensor, "s m d"]:
    """Points uniform on the unit sphere in d dimensions."""
    check_counts(seeds=seeds, m=m, d=d)
    x = torch.randn(seeds, m, d, generator=generator, dtype=dtype, device=generator.device)
    return x / x.norm(dim=2, keepdim=True)


def sphere_in_span(
    seeds: int, m: int, d: int, generator: torch.Generator, dtype: torch.dtype = torch.float32
) -> Float[Tensor, "s m k"]:
    """The points of `sphere` in k = min(d, m) coordinates of a subspace that contains them: exact, at no cost in d.

    Gram-Schmidt writes m Gaussian vectors as G = L Q, where Q (m, d) has orthonormal rows and is independent of the
    lower triangle L, whose entries are independent: L_ik ~ N(0, 1) below the diagonal and L_ii ~ chi(d - i),
    i = 0, 1, ... (Bartlett 1933). Uniform points are the rows of G over their norms, which are those of L; so the rows
    of L over their norms are their coordinates in the basis Q. Gradient descent moves weights within the span of the
    data only, and Gaussian weights are Gaussian in every orthonormal basis: training needs these coordinates alone
    (see `study.clean_error` for the rest).
    """
    if d <= m:
        return sphere(seeds, m, d, generator, dtype)
    check_counts(seeds=seeds, m=m)
    lower = torch.randn(seeds, m, m, generator=generator, dtype=dtype, device=generator.device).tril(-1)
    freedom = torch.arange(d, d - m, -1, dtype=torch.float64, device=generator.device)
    diagonal = _chi_square(freedom.expand(seeds, m), generator).sqrt().to(dtype)
    lower = lower + torch.diag_embed(diagonal)
    return lower / lower.norm(dim=2, keepdim=True)


def fresh_points(
    t: int, features: int, d: int, generator: torch.Generator, dtype: torch.dtype = torch.float32
) -> tuple[Float[Tensor, "t k"], Float[Tensor, " t"]]:
    """Uniform points of the sphere in d dimensions: their coordinates in a subspace and the norm of the rest.

    With g ~ N(0, 1) in k = `features` dimensions and c ~ chi²(d - k), independent of it: the coordinates are
    g / sqrt(|g|² + c), the norm is sqrt(c / (|g|² + c)).
    """
    check_counts(t=t, features=features, d=d)
    g = torch.randn(t, features, generator=generator, dtype=dtype, device=generator.device)
    if features >= d:
        return g / g.norm(dim=1, keepdim=True), torch.zeros(t, dtype=dtype, device=generator.device)
    c = _chi_square(torch.full((t,), float(d - features), device=generator.device), generator).to(dtype)
    norm = (g.square().sum(1) + c).sqrt()
    return g / norm.unsqueeze(1), c.sqrt() / norm


def constant_on_sphere(
    n: int, generator: torch.Generator
) -> tuple[Float[Tensor, "{n}+500 3"], Float[Tensor, " {n}"], Float[Tensor, " 500"]]:
    """n training and 500 test points on the sphere in three dimensions, with their clean labels, all +1."""
    x = sphere(1, n + TEST_POINTS, 3, generator, torch.float64)[0]
    return x, torch.ones(n, dtype=torch.float64), torch.ones(TEST_POINTS, dtype=torch.float64)


def even_digits(
    digits: datasets.Dataset, n: int, generator: torch.Generator
) -> tuple[Float[Tensor, "{n}+500 d"], Float[Tensor, " {n}"], Float[Tensor, " 500"]]:
    """n training and 500 test images at unit length, with their clean labels: even digits +1, odd ones -1."""
    data = datasets.subset(digits, n, TEST_POINTS, generator)
    x = torch.cat([data.x_train, data.x_test]).flatten(1).double()
    signs = 1 - 2 * (torch.cat([data.y_train, data.y_test]) % 2).double()
    return x / x.norm(dim=1, keepdim=True), signs[:n], signs[n:]


def check_counts(**counts: int) -> None:
    """Raises `ValueError` naming the first count below 1."""
    for name, count in counts.items():
        if count < 1:
            raise ValueError(f"{name} is {count}: it must be 1 or more")


def _chi_square(freedom: Tensor, generator: torch.Generator) -> Tensor:
    """Chi-square draws with the given degrees of freedom, of its shape: 2 Gamma(freedom / 2)."""
    return 2 * torch._standard_gamma(freedom / 2, generator=generator)  # the public Gamma takes no generator
