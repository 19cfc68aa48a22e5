"""The chapter's experiments: seeds and parameters in, tidy frames out. Every seed has generators of its own.

Times t run from 1 (noise) to 0 (data); a schedule is the pair (beta_min, beta_max) of `theory.signal`.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float64
from scipy.optimize import brentq
from torch import Tensor

from phenomena.chapters.diffusion_transitions import metrics, theory
from phenomena.chapters.diffusion_transitions.mixtures import Method, Mixture, normal, sample
from phenomena.science.datasets import Dataset

Schedule = tuple[float, float]
Start = Literal["fitted", "isotropic", "noised data"]
DIRECTION, CLONES, IMAGES, LATE, MINORITY, COLLAPSE, FALLING, EMERGING, WEIGHTS, SIDES = range(
    10
)  # streams of random numbers


def validate(
    schedule: Schedule, weights: Sequence[float], coarse: float, fine: float, late_starts: Sequence[float]
) -> None:
    """Raises `ValueError` for values with which the study cannot be run, as the rules of the chapter's yaml file do."""
    low, high = schedule
    if not (low <= high and low + high >= 12):
        raise ValueError(f"beta_min is {low}, beta_max is {high}: beta_min <= beta_max, and 12 or more together")
    if len(weights) != 2 or abs(sum(weights) - 1) > 1e-9:
        raise ValueError(f"weights is {list(weights)}: must be two that sum to 1")
    if not coarse > fine:
        raise ValueError(f"coarse is {coarse}, fine is {fine}: coarse must be the larger")
    if len(set(late_starts)) < len(late_starts) or max(late_starts) != 1:
        raise ValueError(f"late_starts is {list(late_starts)}: all must differ, and 1 be the largest")


def generators(seeds: Sequence[int], *stream: int) -> list[torch.Generator]:
    """One generator a seed and stream; no two streams, of one seed or of two, have to do with each other.

    >>> len(generators(range(3), CLONES))
    3
    """
    states = [np.random.SeedSequence([seed, *stream]).generate_state(1, np.uint64) for seed in seeds]
    return [torch.Generator().manual_seed(int(state[0])) for state in states]


def two_classes(separation: float, sigma: float = 0.0, weight: float = 0.5) -> Mixture:
    """The two classes along u alone: means +M and -M in one dimension. weight: of the first.

    In d dimensions the coordinates orthogonal to u do not know of the classes, and do not enter x @ u.

    >>> two_classes(2.0).means.flatten().tolist()
    [2.0, -2.0]
    """
    weights = torch.tensor([weight, 1 - weight], dtype=torch.float64)
    return Mixture(torch.tensor([[separation], [-separation]], dtype=torch.float64), weights, sigma)


def random_direction(d: int, seed: int) -> Float64[Tensor, " d"]:
    """A unit vector, uniform on the sphere.

    >>> round(random_direction(5, 0).norm().item(), 12)
    1.0
    """
    (generator,) = generators([seed], DIRECTION)
    direction = torch.randn(d, generator=generator, dtype=torch.float64)
    return direction / direction.norm()


# --- exponents and critical points from the score itself --------------------------------------------------------------


def fixed_point(mixture: Mixture, u: Float64[Tensor, " d"], a: float) -> float:
    """m > 0 at which the score of two deltas at +u (first) and -u vanishes, x = a m u, by bisection in log m.

    >>> round(fixed_point(two_classes(1.0), torch.ones(1, dtype=torch.float64), 0.9), 6)
    0.999655
    """

    def pull(m: float) -> float:
        return float(mixture.denoise(a * m * u, a) @ u) - m

    low, high = math.log(1e-9), 0.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if pull(math.exp(middle)) > 0 else (low, middle)
    return math.exp((low + high) / 2)


def critical_exponents(seeds: Sequence[int], d: int = 8, points: int = 8) -> pd.DataFrame:
    """Fixed points of the score near a² = 1/2, for two deltas along a random direction of every seed.

    quantity: "order" m against a - a_c (exponent beta = 1/2), "field" m against h at a_c (1 / delta = 1/3),
    "susceptibility" m / h at a small h against a_c - a (-gamma = -1).
    Returns the columns seed, quantity, x, value.
    """
    critical = math.sqrt(0.5)
    rows = []
    for seed in seeds:
        u = random_direction(d, seed)

        def at(a: float, h: float = 0.0, u: Tensor = u) -> float:
            plus = 1 / (1 + math.exp(-2 * h))
            weights = torch.tensor([plus, 1 - plus], dtype=torch.float64)
            return fixed_point(Mixture(torch.stack([u, -u]), weights), u, a)

        for x in np.logspace(-5, -3, points).tolist():
            rows.append((seed, "order", x, at(critical + x)))
        for h in np.logspace(-8, -5, points).tolist():
            rows.append((seed, "field", h, at(critical, h)))
        for x in np.logspace(-4, -3, points).tolist():
            rows.append((seed, "susceptibility", x, at(critical - x, 1e-9) / 1e-9))
    return pd.DataFrame(rows, columns=["seed", "quantity", "x", "value"])


def slopes(frame: pd.DataFrame) -> pd.DataFrame:
    """Slope of log value against log x for every seed and quantity of `critical_exponents`: seed, quantity, slope."""
    rows = [
        (seed, quantity, float(np.polyfit(np.log(part["x"]), np.log(part["value"]), 1)[0]))
        for (seed, quantity), part in frame.groupby(["seed", "quantity"], sort=False)
    ]
    return pd.DataFrame(rows, columns=["seed", "quantity", "slope"])


def measured_slope(
    dynamics: theory.Dynamics, mixture: Mixture, u: Float64[Tensor, " d"], a: float, width: float = 1e-4
) -> float:
    """`theory.slope` from the score by a central difference at the midpoint."""
    difference = mixture.score(width * u, a) - mixture.score(-width * u, a)
    h = float(difference @ u) / (2 * width)
    return {"density": h, "sde": 0.5 + h, "ode": (1 + h) / 2}[dynamics]


def critical_points(seeds: Sequence[int], separation: float = 1.0, sigma: float = 0.0, d: int = 8) -> pd.DataFrame:
    """Signals at which the midpoint of two classes loses stability, found from the score in d dimensions.

    Returns the columns seed, dynamics, signal (nan where the slope changes no sign), lowest: the least slope over a
    grid of signals.
    """
    rows = []
    grid = np.linspace(0.05, 0.95, 37)
    for seed in seeds:
        u = random_direction(d, seed)
        mixture = Mixture(torch.stack([separation * u, -separation * u]), sigma=sigma)
        for dynamics in ("density", "sde", "ode"):

            def at(a: float, mixture: Mixture = mixture, u: Tensor = u, dynamics: theory.Dynamics = dynamics) -> float:
                return measured_slope(dynamics, mixture, u, a)

            values = [at(a) for a in grid]
            found = float(brentq(at, grid[0], grid[-1])) if values[0] < 0 < values[-1] else math.nan
            rows.append((seed, dynamics, found, min(values)))
    return pd.DataFrame(rows, columns=["seed", "dynamics", "signal", "lowest"])


def second_mode(weight: float) -> float:
    """The coupling J at which the score of two deltas, the first of this weight > 1/2, has a further zero, from signs.

    On a grid of 4,801 points x = a m with |m| <= 1.2 the score changes its sign once before and three times after.

    >>> round(second_mode(0.9), 2)
    2.75
    """
    mixture, m = two_classes(1.0, 0.0, weight), torch.linspace(-1.2, 1.2, 4801, dtype=torch.float64)[:, None]
    low, high = 1.0, 1000.0
    for _ in range(50):
        j = math.sqrt(low * high)
        a = math.sqrt(j / (1 + j))
        sign = mixture.score(a * m, a)[:, 0] > 0
        low, high = (low, j) if (sign[1:] != sign[:-1]).sum() > 1 else (j, high)
    return math.sqrt(low * high)


def second_modes(seeds: Sequence[int]) -> pd.DataFrame:
    """`second_mode` beside `theory.spinodal`, every seed with a weight of its own: seed, weight, coupling, formula."""
    rows = []
    for seed in seeds:
        (generator,) = generators([seed], WEIGHTS)
        weight = 0.55 + 0.4 * torch.rand(1, generator=generator, dtype=torch.float64).item()
        formula = theory.spinodal(math.log(weight / (1 - weight)) / 2)
        rows.append((seed, weight, second_mode(weight), formula))
    return pd.DataFrame(rows, columns=["seed", "weight", "coupling", "formula"])


# --- clones -----------------------------------------------------------------------------------------------------------


def time_grid(steps: int, also: Sequence[float] = (), start: float = 1.0) -> list[float]:
    """Times from `start` down to 0 in equal steps, and those of `also` between them.

    Raises `ValueError` for zero steps, or a time outside (0, start).

    >>> time_grid(2, [0.7])
    [1.0, 0.7, 0.5, 0.0]
    """
    if steps < 1:
        raise ValueError(f"steps is {steps}: must be 1 or more")
    if not 0 < start <= 1 or any(not 0 < t < start for t in also):
        raise ValueError(f"start {start}, times {list(also)}: must lie in (0, 1], and the times before the start")
    return sorted({round(t, 9) for t in (*np.linspace(start, 0, steps + 1).tolist(), *also)}, reverse=True)


def clones(
    mixture: Mixture,
    classes: Callable[[Float64[Tensor, "s n d"]], dict[str, Tensor]],
    times: Sequence[float],
    seeds: Sequence[int],
    *,
    paths: int = 1000,
    steps: int = 300,
    method: Method = "ddpm",
    schedule: Schedule = (0.1, 20.0),
) -> pd.DataFrame:
    """Fraction of paths that end in the same class as a clone with fresh noise that left them at time t.

    classes: ends -> name -> the class of every end. times: at which clones leave, in (0, 1).
    Returns the columns seed, t, and one a name of a class.
    """
    grid = time_grid(steps, times)
    signals = [theory.signal(t, *schedule) for t in grid]
    x = normal((paths, mixture.means.shape[1]), generators(seeds, CLONES, 0))
    places = [grid.index(round(t, 9)) for t in sorted(times, reverse=True)]
    first, kept = sample(method, mixture.denoise, x, signals, generators(seeds, CLONES, 1), keep=places)
    ends, frames = classes(first), []
    for number, (place, state) in enumerate(zip(places, kept, strict=True)):
        again, _ = sample(method, mixture.denoise, state, signals[place:], generators(seeds, CLONES, 2 + number))
        same = {name: (value == ends[name]).double().mean(1) for name, value in classes(again).items()}
        frames.append(pd.DataFrame({"seed": list(seeds), "t": grid[place], **{n: v.numpy() for n, v in same.items()}}))
    return pd.concat(frames, ignore_index=True)


def sides(ends: Float64[Tensor, "s n d"]) -> dict[str, Tensor]:
    """The class of every end by the sign of its first coordinate.

    >>> import torch
    >>> sides(torch.tensor([[[-2.0], [1.0]]]))["same"].tolist()
    [[False, True]]
    """
    return {"same": ends[..., 0] > 0}


def quarters(ends: Float64[Tensor, "s n d"]) -> dict[str, Tensor]:
    """Classes of a hierarchy: coarse by the sign of the first coordinate, fine by that of the second.

    >>> import torch
    >>> {name: value.item() for name, value in quarters(torch.tensor([[[-2.0, 1.0]]])).items()}
    {'coarse': False, 'fine': True}
    """
    return {"coarse": ends[..., 0] > 0, "fine": ends[..., 1] > 0}


def hierarchy(coarse: float, fine: float, sigma: float = 0.0) -> Mixture:
    """Four equal classes at (+-coarse, +-fine): two classes, each of two classes.

    >>> hierarchy(3.0, 1.0).means.tolist()
    [[3.0, 1.0], [3.0, -1.0], [-3.0, 1.0], [-3.0, -1.0]]
    """
    means = [[x, y] for x in (coarse, -coarse) for y in (fine, -fine)]
    return Mixture(torch.tensor(means, dtype=torch.float64), sigma=sigma)


def keeps_side(
    methods: Sequence[Method],
    seeds: Sequence[int],
    *,
    paths: int = 1000,
    steps: int = 200,
    schedule: Schedule = (0.1, 20.0),
) -> pd.DataFrame:
    """Share of paths between two deltas that end on the side of zero on which they start: seed, method, share.

    A step of ddim maps x to (b - a r) x_0(x) + r x with r = sqrt((1 - b²) / (1 - a²)) < 1 and b > a, odd and rising,
    so that no path crosses zero, however few steps there are.
    """
    signals = [theory.signal(t, *schedule) for t in time_grid(steps)]
    start, frames = normal((paths, 1), generators(seeds, SIDES, 0)), []
    for method in methods:
        ends, _ = sample(method, two_classes(1.0).denoise, start, signals, generators(seeds, SIDES, 1))
        shares = ((ends > 0) == (start > 0)).double().mean((1, 2)).numpy()
        frames.append(pd.DataFrame({"seed": list(seeds), "method": method, "share": shares}))
    return pd.concat(frames, ignore_index=True)


# --- late start -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Images:
    """What a seed's late starts need: the exact score of its training images, held-out images, and a classifier."""

    mixture: Mixture
    held_out: Float64[Tensor, "m d"]
    features: Callable[[Tensor], Tensor]
    probabilities: Callable[[Tensor], Tensor]
    mean: Float64[Tensor, " d"]
    values: Float64[Tensor, " d"]
    vectors: Float64[Tensor, "d d"]
    shape: tuple[int, ...]  # of an image: channels, height, width

    def grey(self, x: Float64[Tensor, "*n d"]) -> Float64[Tensor, "*n h w"]:
        """Rows as grey images, the mean over channels; a signal is one pixel high."""
        channels, *size = self.shape
        return x.reshape(*x.shape[:-1], channels, *([1] * (2 - len(size))), *size).mean(-3)

    @property
    def transition(self) -> float:
        """The signal at which a² lambda = v for the largest eigenvalue of the images' covariance, as for two classes.

        At the mean of the data the Hessian of log p is (a² Cov - v) / v² while the posterior is still the prior; for
        two deltas that is exact, for other data an estimate.
        """
        return 1 / math.sqrt(1 + self.values[-1].item())


def images(data: Dataset, train: int, held_out: int, sigma: float, seed: int) -> Images:
    """Images in [-1, 1] split anew for every seed, with the kernel width sigma of the training images' mixture.

    Raises `ValueError` when the data have fewer images.
    """
    x = torch.cat([data.x_train, data.x_test]).flatten(1).double() * 2 - 1
    y = torch.cat([data.y_train, data.y_test])
    if train + held_out > len(x):
        raise ValueError(f"train {train} and held_out {held_out}: the data have {len(x)} images")
    (generator,) = generators([seed], IMAGES)
    order = torch.randperm(len(x), generator=generator)[: train + held_out]
    x, y = x[order], y[order]
    features, probabilities = metrics.train_classifier(x[:train], y[:train], data.classes, generator)
    values, vectors = torch.linalg.eigh(torch.cov(x[:train].T))
    mixture = Mixture(x[:train], sigma=sigma)
    shape = tuple(data.x_train.shape[1:])
    return Images(mixture, x[train:], features, probabilities, x[:train].mean(0), values.clamp(min=0), vectors, shape)


def start_from(kind: Start, held: Images, n: int, a: float, generator: torch.Generator) -> Float64[Tensor, "1 n d"]:
    """n states at signal a: Gaussian with mean and covariance of noised data, N(0, I), or noised data themselves."""
    if kind == "noised data":
        return held.mixture.draw(n, a, generator)[0][None]
    z = normal((n, len(held.mean)), [generator])
    if kind == "isotropic":
        return z
    spread = a * a * held.values + 1 - a * a + a * a * held.mixture.sigma**2
    return a * held.mean + (z * spread.sqrt()) @ held.vectors.T


def late_start(
    held: Images,
    seed: int,
    settings: Sequence[tuple[Method, int, float, Start]],
    more: Sequence[tuple[Method, int, float, Start]] = (),
    *,
    samples: int,
    schedule: Schedule = (0.1, 20.0),
) -> pd.DataFrame:
    """Distance to held-out images of samples by n steps from time t on, for (method, n, t, start).

    Two further rows are controls: "training images" against the held-out ones, and "Gaussian", samples of N(mean,
    covariance) without any step. more: settings drawn after these, which change no number before them.
    Returns the columns seed, method, n, t, start, frechet (of features), energy (of features), pixels (Fréchet of
    pixels), entropy (of classes over its maximum).
    """

    def row(method: str, n: int, t: float, start: str, x: Tensor) -> dict[str, float | str]:
        shares = held.probabilities(x).argmax(1).bincount(minlength=held.probabilities(x).shape[1]) / len(x)
        known = shares[shares > 0]
        there, here = held.features(held.held_out), held.features(x)
        return {
            "seed": seed, "method": method, "n": n, "t": t, "start": start, "frechet": metrics.frechet(here, there),
            "energy": metrics.energy(here, there), "pixels": metrics.frechet(x, held.held_out),
            "entropy": -float((known * known.log()).sum()) / math.log(len(shares)),
        }  # fmt: skip

    (generator,) = generators([seed], LATE)

    def drawn(method: Method, n: int, t: float, start: Start) -> dict[str, float | str]:
        x = start_from(start, held, samples, theory.signal(t, *schedule), generator)
        signals = [theory.signal(u, *schedule) for u in time_grid(n, start=t)]
        return row(method, n, t, start, sample(method, held.mixture.denoise, x, signals, [generator])[0][0])

    rows = [drawn(*setting) for setting in settings]
    chosen = torch.randperm(len(held.mixture.means), generator=generator)[:samples]
    rows.append(row("training images", 0, 0.0, "noised data", held.mixture.means[chosen]))
    rows.append(row("Gaussian", 0, 0.0, "fitted", start_from("fitted", held, samples, 1.0, generator)[0]))
    rows += [drawn(*setting) for setting in more]
    return pd.DataFrame(rows)


def minority(
    seeds: Sequence[int],
    settings: Sequence[tuple[Method, int, float, Start]],
    *,
    separation: float,
    sigma: float,
    weight: float,
    samples: int = 2000,
    schedule: Schedule = (0.1, 20.0),
) -> pd.DataFrame:
    """Share of samples in the rarer of two classes, for (method, n, t, start), of n steps from time t on.

    weight: of the rarer class. start: "fitted", the Gaussian with mean and variance of noised data, or "isotropic".
    Returns the columns seed, method, n, t, start, share.
    """
    mixture = two_classes(separation, sigma, weight)
    mean, variance = (2 * weight - 1) * separation, 4 * weight * (1 - weight) * separation**2 + sigma**2
    rows = []
    for method, n, t, start in settings:
        a = theory.signal(t, *schedule)
        x = normal((samples, 1), generators(seeds, MINORITY, 0))
        if start == "fitted":
            x = a * mean + math.sqrt(a * a * variance + 1 - a * a) * x
        signals = [theory.signal(u, *schedule) for u in time_grid(n, start=t)]
        ends, _ = sample(method, mixture.denoise, x, signals, generators(seeds, MINORITY, 1))
        shares = (ends[..., 0] > 0).double().mean(1)
        rows += [(seed, method, n, t, start, share) for seed, share in zip(seeds, shares.tolist(), strict=True)]
    return pd.DataFrame(rows, columns=["seed", "method", "n", "t", "start", "share"])


# --- collapse ---------------------------------------------------------------------------------------------------------


def concentration(points: Float64[Tensor, "n d"], noise: Float64[Tensor, "m d"], a: float) -> float:
    """Mean over noisy points of the sum of squared posterior weights: 1 / n when all count alike, 1 when one does.

    >>> import torch
    >>> points = torch.tensor([[-9.0], [9.0]], dtype=torch.float64)
    >>> round(concentration(points, torch.zeros(2, 1, dtype=torch.float64), 0.9), 6)
    1.0
    """
    x = a * points[: len(noise)] + math.sqrt(1 - a * a) * noise
    return float(Mixture(points).posterior(x, a).square().sum(-1).mean())


def collapse_time(
    points: Float64[Tensor, "n d"], generator: torch.Generator, *, probes: int = 200, schedule: Schedule = (0.1, 20.0)
) -> float:
    """Time at which `concentration` is a half on noised points, by bisection with the same noise at every time."""
    noise = torch.randn(min(probes, len(points)), points.shape[1], generator=generator, dtype=torch.float64)
    low, high = 0.002, 1.0
    for _ in range(16):
        middle = (low + high) / 2
        collapsed = concentration(points, noise, theory.signal(middle, *schedule)) > 0.5
        low, high = (middle, high) if collapsed else (low, middle)
    return (low + high) / 2


def collapse(sizes: Sequence[tuple[int, int]], seeds: Sequence[int], schedule: Schedule = (0.1, 20.0)) -> pd.DataFrame:
    """Time at which the exact score of n points of N(0, I_d) returns one of them, beside the formula's.

    Returns the columns seed, n, d, t, formula.
    """
    rows = []
    for n, d in sizes:
        formula = theory.time_at(theory.collapse_signal(n, d), *schedule)
        for seed in seeds:
            (generator,) = generators([seed], COLLAPSE, n, d)
            points = torch.randn(n, d, generator=generator, dtype=torch.float64)
            rows.append((seed, n, d, collapse_time(points, generator, schedule=schedule), formula))
    return pd.DataFrame(rows, columns=["seed", "n", "d", "t", "formula"])


def concentrations(
    sizes: Sequence[tuple[int, int]], times: Sequence[float], seeds: Sequence[int], schedule: Schedule = (0.1, 20.0)
) -> pd.DataFrame:
    """`concentration` of n points of N(0, I_d) at every time: the columns seed, n, d, t, concentration."""
    rows = []
    for n, d in sizes:
        for seed in seeds:
            (generator,) = generators([seed], COLLAPSE, n, d)
            points = torch.randn(n, d, generator=generator, dtype=torch.float64)
            noise = torch.randn(min(200, n), d, generator=generator, dtype=torch.float64)
            for t in times:
                rows.append((seed, n, d, t, concentration(points, noise, theory.signal(t, *schedule))))
    return pd.DataFrame(rows, columns=["seed", "n", "d", "t", "concentration"])


# --- what the key figure shows ----------------------------------------------------------------------------------------


def followed(
    mixture: Mixture,
    start: Float64[Tensor, "1 n d"],
    times: Sequence[float],
    seed: int,
    stream: int,
    schedule: Schedule,
    method: Method,
) -> Float64[Tensor, "t n d"]:
    """States at the times, from 1 down to 0, with 200 equal steps and those at the times themselves."""
    grid = time_grid(200, [t for t in times if 0 < t < 1])
    places = [grid.index(round(t, 9)) for t in times if t > 0]
    signals = [theory.signal(t, *schedule) for t in grid]
    end, kept = sample(method, mixture.denoise, start, signals, generators([seed], stream, 1), keep=places)
    return torch.cat([*kept, end])


def falling(
    times: Sequence[float], particles: int, seed: int, schedule: Schedule = (0.1, 20.0), method: Method = "ddpm"
) -> Float64[Tensor, "t n"]:
    """Paths between two deltas at +1 and -1: positions at every time, the last of which is 0."""
    start = normal((particles, 1), generators([seed], FALLING, 0))
    return followed(two_classes(1.0), start, times, seed, FALLING, schedule, method)[..., 0]


def emerging(
    held: Images,
    times: Sequence[float],
    count: int,
    seed: int,
    schedule: Schedule = (0.1, 20.0),
    method: Method = "ddpm",
) -> Float64[Tensor, "t n h w"]:
    """Images from noise with the exact score of the training images, at every time, the last of which is 0."""
    start = normal((count, len(held.mean)), generators([seed], EMERGING, 0))
    return held.grey(followed(held.mixture, start, times, seed, EMERGING, schedule, method))
