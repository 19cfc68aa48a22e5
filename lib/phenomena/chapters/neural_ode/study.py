"""The chapter's experiments: seeds and settings in, tidy frames out. Every seed has generators of its own.

Training goes on for all seeds at once, with equal steps. What is counted or compared by tolerance is solved seed by
seed in float64, since an adaptive solver has one step size for all that it is given.
"""

import copy
import math
import weakref
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from jaxtyping import Float, Float64, Int
from torch import Tensor, nn
from torchdiffeq import odeint, odeint_adjoint

from phenomena.chapters.neural_ode import theory
from phenomena.chapters.neural_ode.fields import (
    Activation,
    Blocks,
    Classifier,
    Field,
    FixedSolver,
    Flow,
    fit,
    fixed,
    losses,
)  # fmt: skip
from phenomena.science import datasets

Adaptive = Literal["dopri5", "bosh3", "dopri8"]
Kind = str  # "rings", "moons", or the name of a data set of `science.datasets`
DATA, WEIGHTS, DENSITY = range(3)  # streams of random numbers
EXACT = 1e-8  # tolerance of what errors are measured against
LIMIT = {"max_num_steps": 5000}  # of an adaptive solver between two times
SOLVED = 64  # training points that are solved by tolerance: an adaptive solver has one step size for all of them


@dataclass(frozen=True)
class Settings:
    """What the networks of all seeds share; see the notebook's parameters."""

    points: int = 128
    test_points: int = 1000
    width: int = 32
    activation: Activation = "tanh"
    solver: FixedSolver = "rk4"
    solver_steps: int = 6
    iterations: int = 200
    rate: float = 0.02
    adaptive: Adaptive = "dopri5"
    tolerance: float = 1e-5
    components: int = 8


def validate(
    settings: Settings, dataset: Kind, tolerances: Sequence[float], coarse: float, depths: Sequence[int], extra: int
) -> None:
    """Raises `ValueError` for values with which the study cannot be run, as the rules of the chapter's yaml file do."""
    if extra < 1:
        raise ValueError(f"extra is {extra}: must be 1 or more, or rings with added dimensions are plain rings")
    if settings.solver_steps < 1 or min(depths) < 1:
        raise ValueError(f"solver_steps is {settings.solver_steps}, depths is {list(depths)}: must be 1 or more")
    if len(set(depths)) < len(depths) or len(depths) < 2:
        raise ValueError(f"depths is {list(depths)}: must be two or more that differ")
    if min(*tolerances, settings.tolerance) < 10 * EXACT:
        least = min(*tolerances, settings.tolerance)
        raise ValueError(
            f"a tolerance is {least:g}: must be {10 * EXACT:g} or more, as errors are measured to {EXACT:g}"
        )
    if len(set(tolerances)) < len(tolerances) or not settings.tolerance < coarse:
        raise ValueError(
            f"tolerances is {list(tolerances)}, tolerance is {settings.tolerance:g}, coarse is {coarse:g}: the first "
            "must differ, and tolerance be less than coarse"
        )
    if settings.components > settings.points:
        raise ValueError(f"components is {settings.components}: there are {settings.points} points")
    if dataset not in ("moons", "rings"):
        check_images(datasets.load(dataset), settings, dataset)


def generators(seeds: Iterable[int], *stream: int) -> list[torch.Generator]:
    """One generator a seed and stream; no two streams, of one seed or of two, have to do with each other.

    >>> len(generators(range(3), DATA))
    3
    """
    states = [np.random.SeedSequence([seed, *stream]).generate_state(1, np.uint64) for seed in seeds]
    return [torch.Generator().manual_seed(int(state[0])) for state in states]


# --- data -------------------------------------------------------------------------------------------------------------


def moons(n: int, generator: torch.Generator, noise: float = 0.1) -> tuple[Float[Tensor, "n 2"], Int[Tensor, " n"]]:
    """Points of two half circles with normal noise, drawn from the density of `theory.moons_log_density`."""
    y = torch.randint(2, (n,), generator=generator)
    angles = math.pi * torch.rand(n, generator=generator, dtype=torch.float64)
    x = theory.moons_centres(angles)[y, torch.arange(n)]
    return (x + 1.2 * noise * torch.randn(n, 2, generator=generator)).float(), y


def rings(n: int, generator: torch.Generator) -> tuple[Float[Tensor, "n 2"], Int[Tensor, " n"]]:
    """A disc of radius 1/2, uniform, and a ring from 1 to 3/2 around it, uniform in radius and angle."""
    y = torch.randint(2, (n,), generator=generator)
    u = torch.rand(n, generator=generator)
    radius = torch.where(y == 0, u.sqrt() / 2, 1 + u / 2)
    angle = 2 * math.pi * torch.rand(n, generator=generator)
    return radius[:, None] * torch.stack([angle.cos(), angle.sin()], 1), y


def draw(
    kind: Kind, settings: Settings, seed: int, stream: int = DATA
) -> tuple[Float[Tensor, "n d"], Int[Tensor, " n"], Float[Tensor, "m d"], Int[Tensor, " m"]]:
    """Training and test points of a seed with their labels. Images and signals: their principal components.

    Components are those of the training points, scaled so that the first has the standard deviation one.
    Raises `ValueError` where the data hold fewer points, or fewer components.
    """
    (generator,) = generators([seed], stream)
    n, m = settings.points, settings.test_points
    if kind in ("moons", "rings"):
        x, y = (moons if kind == "moons" else rings)(n + m, generator)
        return x[:n], y[:n], x[n:], y[n:]
    data = datasets.load(kind)
    check_images(data, settings, kind)
    rows = torch.randperm(len(data.x_train), generator=generator)[:n]
    tests = torch.randperm(len(data.x_test), generator=generator)[:m]
    flat = data.x_train[rows].flatten(1).double()
    mean = flat.mean(0)
    _, sizes, directions = torch.linalg.svd(flat - mean, full_matrices=False)
    base = directions[: settings.components].T / (sizes[0] / math.sqrt(n))
    train, test = (((x.flatten(1).double() - mean) @ base).float() for x in (flat, data.x_test[tests]))
    return train, data.y_train[rows], test, data.y_test[tests]


def check_images(data: datasets.Dataset, settings: Settings, kind: str) -> None:
    """Raises `ValueError` where a data set is too small for the settings, or has one class."""
    there = {
        "points": len(data.x_train),
        "test_points": len(data.x_test),
        "components": min(data.x_train[0].numel(), settings.points),
    }
    for name, most in there.items():
        if getattr(settings, name) > most:
            raise ValueError(f"{name} is {getattr(settings, name)}: {kind} has {most}")
    if data.classes < 2:
        raise ValueError(f"{kind} has {data.classes} class: must be 2 or more, or there is nothing to separate")


# --- training ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Learned:
    """Networks of one kind, a seed each, with their data, and what was seen as they were trained.

    frame: a row a seed and checkpoint: step, loss, accuracy on test points, and the evaluations that the adaptive
        solver needs for the training points (nan for blocks, which have no solver).
    untrained: the same networks before the first step.
    """

    model: Classifier
    x: Float[Tensor, "s n k"]
    y: Int[Tensor, "s n"]
    x_test: Float[Tensor, "s m k"]
    y_test: Int[Tensor, "s m"]
    frame: pd.DataFrame
    seeds: tuple[int, ...]
    untrained: Classifier

    @property
    def field(self) -> Field:
        """The field of a flow."""
        assert isinstance(self.model.body, Flow)
        return self.model.body.field


def steps_seen(iterations: int) -> list[int]:
    """Checkpoints of training: 0, a twentieth, a seventh, a half, and the end.

    >>> steps_seen(200)
    [0, 10, 28, 100, 200]
    """
    return sorted({0, iterations // 20, iterations // 7, iterations // 2, iterations})


def learn(kind: Kind, settings: Settings, seeds: Sequence[int], extra: int = 0, blocks: int = 0) -> Learned:
    """Trains classifiers with a flow, or with residual blocks, one a seed.

    extra: dimensions that are added to the data's, in which points start at zero. blocks: 0 for a flow.
    Raises `ValueError` for fewer than no dimensions or blocks, `FloatingPointError` where training diverges.
    """
    if extra < 0 or blocks < 0:
        raise ValueError(f"extra is {extra}, blocks is {blocks}: must be 0 or more")
    parts = [draw(kind, settings, seed) for seed in seeds]
    x, y, x_test, y_test = (torch.stack(part) for part in zip(*parts, strict=True))
    classes, d, starts = int(max(y.max(), y_test.max())) + 1, x.shape[2] + extra, generators(seeds, WEIGHTS)
    inside = (d, settings.width, starts, settings.activation)
    body: nn.Module = (
        Blocks(blocks, *inside) if blocks else Flow(Field(*inside), settings.solver, settings.solver_steps)
    )
    model = Classifier(body, d, classes, starts)
    untrained = Classifier(Flow(Field(*inside)), d, classes, starts) if not blocks else model
    if not blocks:
        untrained.load_state_dict(model.state_dict())
    rows: list[dict[str, Any]] = []

    def observe(step: int) -> None:
        with torch.no_grad():
            right = (model(x_test).argmax(2) == y_test).double().mean(1)
            loss = losses(model(x), y)
        for place, seed in enumerate(seeds):
            count = math.nan
            if isinstance(body, Flow):
                _, count = solve(body.field.of(place), model.pad(x[place : place + 1, :SOLVED]).double(), settings)
            row = {"seed": seed, "step": step, "loss": loss[place].item(), "accuracy": right[place].item()}
            rows.append(row | {"evaluations": count})

    fit(model.parameters(), lambda: losses(model(x), y), settings.iterations, settings.rate,
        [settings.iterations] if blocks else steps_seen(settings.iterations), observe)  # fmt: skip
    return Learned(model, x, y, x_test, y_test, pd.DataFrame(rows), tuple(seeds), untrained)


# --- adaptive solvers -------------------------------------------------------------------------------------------------


def span(back: bool = False) -> Float64[Tensor, "2"]:
    """From t = 0 to 1, or back."""
    return torch.tensor([1.0, 0.0] if back else [0.0, 1.0], dtype=torch.float64)


def solve(
    field: Field, z: Float64[Tensor, "1 n d"], settings: Settings, tolerance: float | None = None, back: bool = False
) -> tuple[Float64[Tensor, "1 n d"], int]:
    """The state at the other end of time by the adaptive solver, and its evaluations, rejected steps included.

    tolerance: absolute and relative; that of the settings by default.
    """
    tol, before = tolerance or settings.tolerance, field.evaluations
    with torch.no_grad(), _told(tol):
        end = odeint(field, z, span(back), rtol=tol, atol=tol, method=settings.adaptive, options=dict(LIMIT))[-1]
    return end, field.evaluations - before


@contextmanager
def _told(tolerance: float) -> Iterator[None]:
    """Says in one line what the solver's assertions mean: steps that vanish or never end, or a state that is nan."""
    try:
        yield
    except AssertionError as error:
        raise FloatingPointError(
            f"the solver gives up at tolerance {tolerance:g} ({str(error).splitlines()[0][:60]}): the field is too "
            "steep for it; lower rate, or raise tolerance"
        ) from error


def _flat(gradients: Iterable[Tensor]) -> Float64[Tensor, " p"]:
    return torch.cat([g.flatten() for g in gradients])


def _one(learned: Learned, place: int) -> tuple[Field, Float64[Tensor, "1 n d"], Callable[[Tensor], Tensor]]:
    """Of one seed, in float64: its field, its training points at t = 0, and the loss as a function of the end."""
    weight, bias = (p[place : place + 1].detach().double() for p in (learned.model.weight, learned.model.bias))
    labels = learned.y[place : place + 1, :SOLVED]
    start = learned.model.pad(learned.x[place : place + 1, :SOLVED]).double()
    return learned.field.of(place), start, lambda z: losses(torch.baddbmm(bias, z, weight), labels).sum()


def gradient(
    field: Field,
    start: Float64[Tensor, "1 n d"],
    loss: Callable[[Tensor], Tensor],
    tolerance: float,
    method: str = "dopri5",
    adjoint: bool = True,
) -> tuple[Float64[Tensor, " p"], int, int]:
    """Gradient of the loss by the field's parameters, and the evaluations forward and backward.

    adjoint: by the adjoint equation, solved at the same tolerance, or else through every operation of the solver.
    method: one of torchdiffeq's; "scipy_solver" is LSODA, which knows only the adjoint.
    """
    begin, how = field.evaluations, {"rtol": tolerance, "atol": tolerance, "method": method}
    if method != "scipy_solver":
        how["options"] = dict(LIMIT)
    with _told(tolerance):
        end = (odeint_adjoint if adjoint else odeint)(field, start, span(), **how)[-1]
        middle = field.evaluations
        found = _flat(torch.autograd.grad(loss(end), list(field.parameters())))
    return found, middle - begin, field.evaluations - middle


def relative(found: Tensor, true: Tensor) -> float:
    """|found - true| / |true|.

    >>> relative(torch.tensor([3.0]), torch.tensor([2.0]))
    0.5
    """
    return ((found - true).norm() / true.norm()).item()


def by_tolerance(
    learned: Learned, settings: Settings, tolerances: Sequence[float], lsoda: Collection[float] = ()
) -> pd.DataFrame:
    """What a tolerance costs and what it buys, for the networks at the end of training, a row a seed and tolerance.

    forward, backward: evaluations of the solver, and of the adjoint equation; ratio: of the second to the first.
    error: largest error of a coordinate at t = 1. missed: by how much the state misses its start when it is
    integrated back from there at the same tolerance. off: relative difference of the adjoint's gradient and the one
    through the solver. lsoda: the ratio with scipy's LSODA for both, at the tolerances for which it is asked, else nan.
    """
    rows = []
    for place, seed in enumerate(learned.seeds):
        field, start, loss = _one(learned, place)
        exact, _ = solve(field, start, settings, EXACT)
        for tolerance in tolerances:
            end, _ = solve(field, start, settings, tolerance)
            returned, _ = solve(field, end, settings, tolerance, back=True)
            direct, _, _ = gradient(field, start, loss, tolerance, settings.adaptive, adjoint=False)
            adjoint, forward, backward = gradient(field, start, loss, tolerance, settings.adaptive)
            ratio = math.nan
            if tolerance in lsoda:
                _, there, back = gradient(field, start, loss, tolerance, "scipy_solver")
                ratio = back / there
            rows.append({
                "seed": seed, "tolerance": tolerance, "forward": forward, "backward": backward,
                "ratio": backward / forward, "error": (end - exact).abs().max().item(),
                "missed": (returned - start).abs().max().item(), "off": relative(adjoint, direct), "lsoda": ratio,
            })  # fmt: skip
    return pd.DataFrame(rows)


def reasons(learned: Learned, settings: Settings, tolerance: float, nodes: int = 64) -> pd.DataFrame:
    """Why the adjoint's gradient is off: its equation solved at a tolerance from the exact end, in four ways.

    state: "integrated back" with it, as the adjoint does, or "given", from the exact path, interpolated by cubic
    polynomials. gradient: "as it is", about 1/n a point, or "scaled" so that its root mean square at t = 1 is one,
    which is undone at the end: the equation is linear in it, so that nothing but the tolerance's meaning changes.
    Returns the columns seed, state, gradient, off (relative to the exact gradient), evaluations.
    """
    rows = []
    for place, seed in enumerate(learned.seeds):
        field, start, loss = _one(learned, place)
        parameters = list(field.parameters())
        path, speed = _path(field, start, settings, nodes)
        end = path[-1].clone().requires_grad_()
        (slope,) = torch.autograd.grad(loss(end), end)
        size = slope.square().mean().sqrt().item()
        start_of = (path[-1], slope, *(torch.zeros_like(p) for p in parameters))

        def back(given: bool, scale: float, tol: float) -> tuple[Tensor, int]:
            def equation(t: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
                z = _between(path, speed, float(t)) if given else state[0]  # noqa: B023
                z = z.detach().requires_grad_()
                with torch.enable_grad():
                    velocity = field(t, z)  # noqa: B023
                changes = torch.autograd.grad(velocity, [z, *parameters], -state[1])  # noqa: B023
                return (torch.zeros_like(z) if given else velocity.detach(), *changes)

            before = field.evaluations  # noqa: B023
            first, *rest = start_of  # noqa: B023
            scaled = (first, *(part / scale for part in rest))
            with torch.no_grad(), _told(tol):
                how = {"rtol": tol, "atol": tol, "method": settings.adaptive, "options": dict(LIMIT)}
                ends = odeint(equation, scaled, span(back=True), **how)
            return _flat(part[-1] for part in ends[2:]) * scale, field.evaluations - before  # noqa: B023

        true, _ = back(True, size, EXACT)
        for given, state in ((False, "integrated back"), (True, "given")):
            for scale, name in ((1.0, "as it is"), (size, "scaled")):
                found, count = back(given, scale, tolerance)
                row = {"seed": seed, "state": state, "gradient": name, "off": relative(found, true)}
                rows.append(row | {"evaluations": count})
    return pd.DataFrame(rows)


def _path(
    field: Field, start: Float64[Tensor, "1 n d"], settings: Settings, nodes: int
) -> tuple[Float64[Tensor, "t 1 n d"], Float64[Tensor, "t 1 n d"]]:
    """States and velocities at equal times from 0 to 1, to within `EXACT`."""
    times = torch.linspace(0, 1, nodes + 1, dtype=torch.float64)
    with torch.no_grad(), _told(EXACT):
        how = {"rtol": EXACT, "atol": EXACT, "method": settings.adaptive, "options": dict(LIMIT)}
        path = odeint(field, start, times, **how)
        speed = torch.stack([field(t, z) for t, z in zip(times, path, strict=True)])
    return path, speed


def _between(path: Float64[Tensor, "t 1 n d"], speed: Float64[Tensor, "t 1 n d"], t: float) -> Float64[Tensor, "1 n d"]:
    """The state at any t by Hermite's cubic polynomials; before 0 and after 1, those at the ends."""
    nodes = len(path) - 1
    place = min(max(t, 0.0), 1.0) * nodes
    i = min(int(place), nodes - 1)
    u = place - i
    near = (1 + 2 * u) * (1 - u) ** 2 * path[i] + u * (1 - u) ** 2 / nodes * speed[i]
    return near + u * u * (3 - 2 * u) * path[i + 1] + u * u * (u - 1) / nodes * speed[i + 1]


def by_input(learned: Learned, settings: Settings, count: int = 12) -> pd.DataFrame:
    """Evaluations for single test points, each solved alone: the columns seed, least, most and spread, most / least."""
    rows = []
    for place, seed in enumerate(learned.seeds):
        field = learned.field.of(place)
        points = learned.model.pad(learned.x_test[place : place + 1, :count]).double()
        counts = [solve(field, z, settings)[1] for z in points.split(1, dim=1)]
        rows.append({"seed": seed, "least": min(counts), "most": max(counts), "spread": max(counts) / min(counts)})
    return pd.DataFrame(rows)


# --- memory -----------------------------------------------------------------------------------------------------------


def peak_saved(work: Callable[[], None]) -> int:
    """The most bytes that autograd holds at one time for its backward passes while work runs.

    Each storage counts once while anything that was saved of it lives, parameters and inputs included.

    >>> x = torch.ones(1000, requires_grad=True)
    >>> peak_saved(lambda: x.exp().exp().sum().backward())  # two results of 4,000 bytes
    8000
    """
    held: dict[int, int] = {}
    total = most = 0

    def free(key: int, size: int) -> None:
        nonlocal total
        held[key] -= 1
        if not held[key]:
            del held[key]
            total -= size

    def pack(tensor: Tensor) -> "_Kept":
        nonlocal total, most
        storage = tensor.untyped_storage()
        key, size = storage.data_ptr(), storage.nbytes()
        if key not in held:
            total += size
            most = max(most, total)
        held[key] = held.get(key, 0) + 1
        kept = _Kept(tensor)
        weakref.finalize(kept, free, key, size)
        return kept

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda kept: kept.tensor):
        work()
    return most


class _Kept:
    """A saved tensor whose end can be noticed."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor.detach()  # a result that keeps its own graph would never be freed


def memory(learned: Learned, depths: Sequence[int], networks: int = 2) -> pd.DataFrame:
    """Bytes held for a gradient through so many steps of RK4, and by the adjoint: seed, steps, method, bytes.

    networks: how many are asked; they only differ in their weights, and bytes do not depend on these.
    """
    rows = []
    for place, seed in enumerate(learned.seeds[:networks]):
        field, start, loss = _one(learned, place)
        for steps in depths:
            for method, solver in (("through the solver", odeint), ("adjoint", odeint_adjoint)):

                def work(solver: Callable[..., Tensor] = solver, steps: int = steps) -> None:
                    options = {"step_size": 1 / steps}
                    loss(solver(field, start, span(), method="rk4", options=options)[-1]).backward()  # noqa: B023

                rows.append({"seed": seed, "steps": steps, "method": method, "bytes": peak_saved(work)})
                field.zero_grad()
    return pd.DataFrame(rows)


def growth(frame: pd.DataFrame, evaluation: int) -> pd.DataFrame:
    """Slope of log bytes against log steps between the two largest depths, and how far a step's bytes are off.

    evaluation: bytes of one by `theory.evaluation_bytes`; a step of RK4 has four. Columns seed, method, slope, off.
    """
    most = sorted(frame["steps"].unique())[-2:]
    rows = []
    for (seed, method), part in frame[frame["steps"].isin(most)].groupby(["seed", "method"]):
        few, many = part.sort_values("steps")["bytes"]
        slope = math.log(many / few) / math.log(most[1] / most[0])
        off = (many - few) / (most[1] - most[0]) / (4 * evaluation) - 1
        rows.append({"seed": seed, "method": method, "slope": slope, "off": off})
    return pd.DataFrame(rows)


# --- what a flow can do -----------------------------------------------------------------------------------------------


def polar_grid(count: int) -> tuple[Float[Tensor, "n 2"], Int[Tensor, " n"]]:
    """Points that fill disc and ring of `rings` evenly, count radii of each by 4 count angles, with their labels."""
    radius = torch.cat([torch.linspace(0, 0.5, count), torch.linspace(1, 1.5, count)])
    angle = 2 * math.pi * torch.arange(4 * count) / (4 * count)
    x = radius[:, None, None] * torch.stack([angle.cos(), angle.sin()], 1)
    return x.reshape(-1, 2), (radius > 0.75).long().repeat_interleave(4 * count)


def on_grid(learned: Learned, count: int = 30) -> pd.DataFrame:
    """On a dense grid over disc and ring: errs, 1 where any point is misclassified, share of those that are.

    Columns seed, errs, share.
    """
    x, y = polar_grid(count)
    with torch.no_grad():
        wrong = learned.model(x.expand(len(learned.seeds), -1, -1)).argmax(2) != y
    return pd.DataFrame({"seed": learned.seeds, "errs": wrong.any(1).double(), "share": wrong.double().mean(1)})


def jacobians(learned: Learned, x: Float64[Tensor, "n 2"], width: float = 1e-4) -> Float64[Tensor, "s n d 2"]:
    """Of the map from a point of the plane to its state at the end, for every seed, by central differences."""
    body = copy.deepcopy(learned.model.body).double()
    columns = []
    with torch.no_grad():
        for axis in width * torch.eye(2, dtype=torch.float64):
            ahead, behind = (
                body(learned.model.pad((x + sign * axis).repeat(len(learned.seeds), 1, 1))) for sign in (1, -1)
            )
            columns.append((ahead - behind) / (2 * width))
    return torch.stack(columns, -1)


def folds(learned: Learned, count: int = 30, reach: float = 1.5) -> pd.DataFrame:
    """Where a map of the plane turns it over: the share of a square grid at which its Jacobian's determinant is < 0.

    Of a flow in the plane there is none. Stretch: the largest singular value of the Jacobian over the grid, in
    whatever dimension the state has. Columns seed, folded (nan with added dimensions), stretch.
    """
    found = jacobians(learned, square_grid(count, reach).double())
    flat = found.shape[2] == 2
    turned = (torch.linalg.det(found) < 0).double().mean(1) if flat else torch.full((len(found),), math.nan)
    stretch = torch.linalg.matrix_norm(found, 2).amax(1)
    return pd.DataFrame({"seed": learned.seeds, "folded": turned, "stretch": stretch})


# --- a continuous normalizing flow ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Density:
    """Continuous normalizing flows of noisy moons, one a seed.

    frame: a row a seed and model ("flow", "Gaussian", "mixture of 2", ..., "exact"): mean log density of test points.
    """

    field: Field
    x: Float[Tensor, "s n 2"]
    x_test: Float[Tensor, "s m 2"]
    frame: pd.DataFrame
    seeds: tuple[int, ...]
    solver: FixedSolver
    solver_steps: int


def log_density(
    field: Field, x: Float[Tensor, "s n d"], solver: FixedSolver = "rk4", steps: int = 6
) -> Float[Tensor, "s n"]:
    """log p(x) = log N(z(1); 0, I) + ∫ tr df/dz dt along the flow from z(0) = x.

    It is Chen et al. (2018), theorem 1, with data at t = 0 and noise at t = 1. The trace is exact.
    """

    def both(t: Tensor, state: Tensor) -> Tensor:
        velocity, divergence = field.with_divergence(t, state[..., :-1])
        return torch.cat([velocity, divergence[..., None]], -1)

    end = fixed(both, F.pad(x, (0, 1)), solver, steps)
    z, gained = end[..., :-1], end[..., -1]
    return gained - (z.square().sum(-1) + z.shape[-1] * math.log(2 * math.pi)) / 2


def density(
    settings: Settings,
    seeds: Sequence[int],
    points: int,
    iterations: int,
    components: Sequence[int] = (2, 8),
    batch: int = 64,
    steps: int = 4,
) -> Density:
    """Fits flows by maximum likelihood, on batches of the points, and Gaussians and mixtures of them on the same.

    components: of the mixtures, fitted by expectation maximization (scikit-learn, three starts). batch, steps: points
    of an iteration, and steps of the solver.
    """
    from sklearn.mixture import GaussianMixture  # a second of import that only this needs

    starts = generators(seeds, DENSITY)
    x, x_test = (torch.stack([moons(n, g)[0] for g in starts]) for n in (points, settings.test_points))
    field, size = Field(2, settings.width, starts, settings.activation), min(batch, points)
    how = (settings.solver, steps)

    def loss() -> Tensor:
        rows = torch.stack([torch.randint(points, (size,), generator=g) for g in starts])
        return -log_density(field, x.gather(1, rows[..., None].expand(-1, -1, 2)), *how).mean(1)

    fit(field.parameters(), loss, iterations, 3 * settings.rate)
    with torch.no_grad():
        found = {"flow": log_density(field, x_test, settings.solver, 30).mean(1).tolist()}
    found["exact"] = theory.moons_log_density(x_test.double()).mean(1).tolist()
    own = [(train.double(), test.double()) for train, test in zip(x, x_test, strict=True)]
    found["Gaussian"] = [
        theory.gaussian_log_density(test, train.mean(0), torch.cov(train.T)).mean().item() for train, test in own
    ]
    for k in components:
        fits = [
            GaussianMixture(k, n_init=3, random_state=s).fit(a.numpy()) for s, (a, _) in zip(seeds, own, strict=True)
        ]
        found[f"mixture of {k}"] = [m.score(test.numpy()) for m, (_, test) in zip(fits, own, strict=True)]
    rows = [
        {"seed": seed, "model": model, "log_density": value}
        for model, values in found.items()
        for seed, value in zip(seeds, values, strict=True)
    ]
    return Density(field, x, x_test, pd.DataFrame(rows), tuple(seeds), *how)


def square_grid(count: int, reach: float = 2.6) -> Float[Tensor, "n 2"]:
    """A square grid around zero, row by row from below."""
    side = torch.linspace(-reach, reach, count)
    y, x = torch.meshgrid(side, side, indexing="ij")
    return torch.stack([x, y], -1).view(-1, 2)


def invertibility(fitted: Density, settings: Settings, tolerances: Sequence[float], count: int = 100) -> pd.DataFrame:
    """There and back at a tolerance: the largest distance of a test point from where it returns, and the mass.

    mass: of the density on a grid, 1 but for the quadrature, the solver and what lies outside. Columns seed,
    tolerance, missed, mass.
    """
    grid = square_grid(57, 2.8)
    with torch.no_grad():
        spread = log_density(fitted.field, grid.expand(len(fitted.seeds), -1, -1), settings.solver, 8)
    mass = spread.double().exp().sum(1) * 0.1**2
    rows = []
    for place, seed in enumerate(fitted.seeds):
        field, x = fitted.field.of(place), fitted.x_test[place : place + 1, :count].double()
        for tolerance in tolerances:
            end, _ = solve(field, x, settings, tolerance)
            back, _ = solve(field, end, settings, tolerance, back=True)
            missed = (back - x).norm(dim=2).max().item()
            rows.append({"seed": seed, "tolerance": tolerance, "missed": missed, "mass": mass[place].item()})
    return pd.DataFrame(rows)


# --- what the key figure shows ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Motion:
    """A network's grid and points at equal times from 0 to 1, and what its head says of each point at each time."""

    grid: Float[Tensor, "t g d"]
    points: Float[Tensor, "t n d"]
    labels: Int[Tensor, " n"]
    score: Float[Tensor, "t n"]


def motion(learned: Learned, trained: bool = True, nodes: int = 11, points: int = 50, times: int = 13) -> Motion:
    """The first seed's flow of a square grid of nodes x nodes and of test points, by small steps of RK4.

    score: logit of the second class minus that of the first.
    """
    model = learned.model if trained else learned.untrained
    assert isinstance(model.body, Flow)
    field, count = model.body.field, len(learned.seeds)
    x = torch.cat([square_grid(nodes, 1.5), learned.x_test[0, :points]])
    at = torch.linspace(0, 1, times)
    with torch.no_grad():
        start = model.pad(x.expand(count, -1, -1))
        path = odeint(field, start, at, method="rk4", options={"step_size": 0.01})
        logits = torch.stack([model.head(z)[0] for z in path])
    score = logits[:, nodes**2 :, 1] - logits[:, nodes**2 :, 0]
    return Motion(path[:, 0, : nodes**2], path[:, 0, nodes**2 :], learned.y_test[0, :points], score)
