"""Exact scores of Gaussian mixtures and of finite data sets, and the samplers that follow them.

The samplers know the data by a function `denoise(x, a)` alone, the mean of x_0 given x at signal a; a network may stand
in its place. Letters: a signal, b that after a step, s seeds, n rows, k components, d dimension.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, get_args

import torch
from jaxtyping import Float64
from torch import Tensor

from phenomena.chapters.diffusion_transitions.theory import check_signal
from phenomena.science.checks import check_tensors
from phenomena.science.linalg import matmul

Denoiser = Callable[[Float64[Tensor, "*n d"], float], Float64[Tensor, "*n d"]]
Method = Literal["ddpm", "ddim", "heun"]


@dataclass(frozen=True)
class Mixture:
    """Equal round Gaussians with weights; with sigma = 0 and equal weights, a finite data set.

    means: float64 (k, d), two or more. weights: float64 (k,), positive, of sum 1; all equal by default.
    sigma: standard deviation of a component in every direction, 0 or more.

    Raises `ValueError`, in one line, for anything else.

    >>> import torch
    >>> Mixture(torch.tensor([[-1.0], [1.0]], dtype=torch.float64)).weights
    tensor([0.5000, 0.5000], dtype=torch.float64)
    """

    means: Float64[Tensor, "k d"]
    weights: Float64[Tensor, " k"] | None = None
    sigma: float = 0.0

    def __post_init__(self) -> None:
        check_tensors(means=(self.means, "k d"))
        k = len(self.means)
        if k < 2:
            raise ValueError(f"means has {k} row: a data set of one point leaves nothing to decide, give 2 or more")
        if self.weights is None:
            object.__setattr__(self, "weights", torch.full((k,), 1 / k, dtype=torch.float64))
        weights = self.weights
        assert weights is not None
        check_tensors(means=(self.means, "k d"), weights=(weights, "k"))
        if (weights <= 0).any() or abs(weights.sum().item() - 1) > 1e-9:
            raise ValueError(f"weights sum to {weights.sum().item():.6g}: must be positive and sum to 1")
        if not self.sigma >= 0:
            raise ValueError(f"sigma is {self.sigma}: must be 0 or more")

    def posterior(self, x: Float64[Tensor, "*n d"], a: float) -> Float64[Tensor, "*n k"]:
        """Probability of every component given x at signal a, from shifted log weights so that none overflows.

        log w_k - |x - a mu_k|² / 2 v, without |x|² / 2 v, which all share. Raises `ValueError` unless 0 < a < 1.

        >>> import torch
        >>> two = Mixture(torch.tensor([[-1.0], [1.0]], dtype=torch.float64))
        >>> two.posterior(torch.zeros(1, 1, dtype=torch.float64), 0.5)
        tensor([[0.5000, 0.5000]], dtype=torch.float64)
        """
        return torch.softmax(self._logits(x, a), -1)

    def denoise(self, x: Float64[Tensor, "*n d"], a: float) -> Float64[Tensor, "*n d"]:
        """Mean of x_0 given x: m + (a sigma² / v) (x - a m), m the mean of the components' means by `posterior`.

        >>> import torch
        >>> two = Mixture(torch.tensor([[-1.0], [1.0]], dtype=torch.float64))
        >>> two.denoise(torch.zeros(1, 1, dtype=torch.float64), 0.5)
        tensor([[0.]], dtype=torch.float64)
        """
        m = _product(self.posterior(x, a), self.means)
        return m + (a * self.sigma**2 / self._variance(a)) * (x - a * m) if self.sigma else m

    def score(self, x: Float64[Tensor, "*n d"], a: float) -> Float64[Tensor, "*n d"]:
        """grad log p(x) = (a E[x_0 | x] - x) / (1 - a²), Tweedie's formula.

        >>> import torch
        >>> two = Mixture(torch.tensor([[-1.0], [1.0]], dtype=torch.float64))
        >>> two.score(torch.zeros(1, 1, dtype=torch.float64), 0.5)
        tensor([[0.]], dtype=torch.float64)
        """
        return (a * self.denoise(x, a) - x) / (1 - a * a)

    def log_density(self, x: Float64[Tensor, "*n d"], a: float) -> Float64[Tensor, "*n"]:
        """log p(x) at signal a.

        >>> import torch
        >>> two = Mixture(torch.tensor([[-1.0], [1.0]], dtype=torch.float64), sigma=1.0)
        >>> round(two.log_density(torch.zeros(1, 1, dtype=torch.float64), 1e-9).item(), 6)  # of N(0, 1)
        -0.918939
        """
        v = self._variance(a)
        shared = x.square().sum(-1) / (2 * v) + x.shape[-1] / 2 * math.log(2 * math.pi * v)
        return torch.logsumexp(self._logits(x, a), -1) - shared

    def draw(self, n: int, a: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """n noisy samples at signal a (a = 1: clean), float64 (n, d), and the components they come from, int64 (n,).

        >>> import torch
        >>> two = Mixture(torch.tensor([[-1.0], [1.0]], dtype=torch.float64))
        >>> x, k = two.draw(3, 1.0, torch.Generator().manual_seed(0))
        >>> bool((x == two.means[k]).all())
        True
        """
        assert self.weights is not None
        k = torch.multinomial(self.weights, n, replacement=True, generator=generator)
        noise = torch.randn(n, self.means.shape[1], generator=generator, dtype=torch.float64)
        return a * self.means[k] + math.sqrt(max(self._variance(a), 0.0)) * noise, k

    def _variance(self, a: float) -> float:
        return 1 - a * a + a * a * self.sigma**2

    def _logits(self, x: Tensor, a: float) -> Tensor:
        check_signal(a)
        assert self.weights is not None
        v = self._variance(a)
        offsets = self.weights.log() - (a * a / (2 * v)) * self.means.square().sum(1)
        return _product(x, self.means.T).mul_(a / v).add_(offsets)


def _product(x: Float64[Tensor, "*n d"], matrix: Float64[Tensor, "d j"]) -> Float64[Tensor, "*n j"]:
    """Rows of any arrangement times one matrix."""
    return matmul(x.reshape(-1, x.shape[-1]), matrix).reshape(*x.shape[:-1], matrix.shape[1])


def step(
    method: Method,
    denoise: Denoiser,
    x: Float64[Tensor, "*n d"],
    a: float,
    b: float,
    noise: Float64[Tensor, "*n d"] | None = None,
) -> Float64[Tensor, "*n d"]:
    """One step from signal a to a larger signal b <= 1.

      ddpm  ancestral: a draw of x_b given x_a and x_0 = denoise(x, a) (Ho et al. 2020, equations 6 and 7)
      ddim  b x_0 + sqrt((1 - b²) / (1 - a²)) (x - a x_0), Euler's method for the probability-flow ODE in x / a
            against u = sqrt(1 - a²) / a (Song, Meng and Ermon 2021, equations 12 to 14)
      heun  Heun's method for the same ODE, of second order: the mean of the slopes (x/a - x_0) / u at both ends; the
            last step, to b = 1, is Euler's

    noise: standard normal, for ddpm alone. Raises `ValueError` unless 0 < a < b <= 1.

    >>> import torch
    >>> zero = torch.zeros(1, 1, dtype=torch.float64)
    >>> step("ddim", lambda x, a: zero, zero + 1, 0.6, 1.0)
    tensor([[0.]], dtype=torch.float64)
    """
    check_signal(a)
    if not a < b <= 1:
        raise ValueError(f"a step from signal {a} to {b}: must rise, to 1 at most")
    s, q = 1 - a * a, max(1 - b * b, 0.0)
    start = denoise(x, a)
    if q == 0:
        return start
    if method == "ddpm":
        if noise is None:
            raise ValueError("ddpm needs noise: give a generator, or take ddim or heun")
        kept = a * a / (b * b)
        return (b * (1 - kept) / s) * start + (a * q / (b * s)) * x + math.sqrt(q / s * (1 - kept)) * noise
    euler = b * start + math.sqrt(q / s) * (x - a * start)
    if method == "ddim":
        return euler
    if method != "heun":
        raise ValueError(f"method is {method!r}: must be one of {', '.join(get_args(Method))}")
    u, w = math.sqrt(s) / a, math.sqrt(q) / b
    slopes = (x / a - start) / u + (euler / b - denoise(euler, b)) / w
    return b * (x / a + (w - u) / 2 * slopes)


def sample(
    method: Method,
    denoise: Denoiser,
    x: Float64[Tensor, "s n d"],
    signals: Sequence[float],
    generators: Sequence[torch.Generator] = (),
    keep: Sequence[int] = (),
) -> tuple[Float64[Tensor, "s n d"], list[Float64[Tensor, "s n d"]]]:
    """All steps along rising signals, for every seed at once: the end, and the states before the steps in `keep`.

    signals: two or more, the last 1 at most. generators: one a seed, for ddpm; what a seed gives depends on no other.

    Raises `ValueError` for fewer than two signals, or signals that leave (0, 1] or do not rise.

    >>> import torch
    >>> two = Mixture(torch.tensor([[-1.0], [1.0]], dtype=torch.float64))
    >>> end, _ = sample("ddim", two.denoise, torch.tensor([[[-0.5], [2.0]]], dtype=torch.float64), [0.1, 0.5, 0.9, 1.0])
    >>> end.flatten().round().tolist()
    [-1.0, 1.0]
    """
    if len(signals) < 2:
        raise ValueError(f"signals has {len(signals)} entry, which makes zero steps: must be 2 or more")
    kept = []
    for number, (a, b) in enumerate(pairwise(signals)):
        if number in keep:
            kept.append(x)
        x = step(method, denoise, x, a, b, normal(x.shape[1:], generators) if method == "ddpm" else None)
    return x, kept


def normal(shape: Sequence[int], generators: Sequence[torch.Generator]) -> Float64[Tensor, "s *shape"]:
    """Standard normal numbers of this shape for every seed, each from its own generator.

    Raises `ValueError` without a generator.

    >>> import torch
    >>> tuple(normal((3, 2), [torch.Generator(), torch.Generator()]).shape)
    (2, 3, 2)
    """
    if not len(generators):
        raise ValueError("generators is empty: noise needs one a seed")
    return torch.stack([torch.randn(*shape, generator=g, dtype=torch.float64) for g in generators])
