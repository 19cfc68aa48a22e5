"""The chapter's figures. Each function returns what `show` takes: figure, caption, alternative text, data, a chart."""

import base64
import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter
from torch import Tensor

from phenomena.chapters.diffusion_transitions import study, theory
from phenomena.chapters.diffusion_transitions.learned import Learned
from phenomena.science import plots
from phenomena.science.frames import select
from phenomena.statistics import interval

GREY, BLUE, ORANGE, GREEN, RED, PURPLE = "#555555", "#0173b2", "#de8f05", "#029e73", "#d55e00", "#cc78bc"
TIME, SAME, FRECHET = "time t (1: noise, 0: data)", "P(clones end alike)", "Fréchet distance of features"
KEY_TIMES = (1.0, 0.9, 0.8, 0.7, 0.65, 0.6, 0.55, 0.5, 0.475, 0.45, 0.425, 0.4, 0.38, 0.36, 0.34, 0.32, 0.3, 0.29,
             0.28, 0.27, 0.26, 0.25, 0.24, 0.23, 0.22, 0.21, 0.2, 0.19, 0.18, 0.17, 0.16, 0.15, 0.14, 0.13, 0.12, 0.11,
             0.1, 0.08, 0.06, 0.04, 0.02, 0.0)  # fmt: skip  # stops of the slider
REACH, FLOOR, TOP = 2.8, -0.6, 1.2  # of the key figure's potential
DEPTH, MIDDLE, GAP = 430, 240, 60  # pixels of the moving figure: its height, that of its upper part, between the two


def _levels(ax: Axes, frame: pd.DataFrame, metric: str) -> None:
    """Lines across for the two controls without a start."""
    for kind, style in (("training images", "-"), ("Gaussian", ":")):
        level = select(frame, method=kind)[metric].mean()
        ax.axhline(level, color="0.4", linestyle=style, linewidth=1, zorder=0, label=kind)


def _plain_log(ax: Axes) -> None:
    """A logarithmic y axis with plain numbers."""
    ax.set_yscale("log")
    ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.yaxis.set_major_formatter("{x:g}")
    ax.yaxis.set_minor_formatter(NullFormatter())


def _mark(ax: Axes, at: float | None, color: str = "0.6") -> None:
    if at is not None:
        ax.axvline(at, color=color, linewidth=1, linestyle=":", zorder=0)


# --- the key figure ---------------------------------------------------------------------------------------------------


def potential(x: Float[np.ndarray, " n"], a: float) -> Float[np.ndarray, " n"]:
    """v (log p(0) - log p(x)) of two deltas, v = 1 - a²: from x² / 2 at a = 0 to x² / 2 - |x| at a = 1."""
    v = max(1 - a * a, 1e-9)
    inner = a * np.abs(x) / v
    return x * x / 2 - v * (inner + np.log1p(np.exp(-2 * inner)) - np.log(2))


def wells(
    paths: Float[Tensor, "t n"], images: Float[Tensor, "t k h w"], transition: float, schedule: study.Schedule
) -> dict[str, Any]:
    """Particles in the potential of two deltas, images on their way out of noise, and when clones agree.

    paths, images: states at `KEY_TIMES`. transition: the signal at which the images' covariance says they decide.
    """
    signals = [theory.signal(t, *schedule) for t in KEY_TIMES]
    same = [theory.same_class(theory.signal_to_noise(a, 1.0, 0.0)) if a < 1 else 1.0 for a in signals]
    curve = pd.DataFrame({"t": KEY_TIMES, "same": same})
    marks = {
        "two wells": theory.time_at(theory.critical_signal("density") or 0.5, *schedule),
        "images": theory.time_at(transition, *schedule),
    }
    place = paths.numpy()
    sides = np.where(place[-1] > 0, "ends at +1", "ends at −1")
    sheets = [_sheet(image.numpy()) for image in images]
    shown = 16 if max(images.shape[2:]) <= 14 else 4  # by `_sheet`
    stays = np.mean((place[KEY_TIMES.index(0.5)] > 0) == (place[-1] > 0))
    return {
        "figure": _still_wells(place, sides, sheets, signals, curve, marks),
        "caption": f"{place.shape[1]} particles in the potential of two deltas at ±1 as noise is removed: minus the "
        f"log density times the variance of the noise. One well splits in two at t = {marks['two wells']:.2f}. "
        f"Beside it, {shown} images on their way out of noise under the exact score of the training images; "
        f"dashed at t = {marks['images']:.2f}, where the largest variance of the data overtakes the noise. Below, the "
        "probability that two clones of a particle end in the same well. In the moving figure a slider sets the time.",
        "alt": f"At t = 0.5 the potential is one well, and {stays:.0%} of the particles are on the side on which they "
        "will end, little more than half. Below the critical time there are two wells, and particles settle in one of "
        "them. Images emerge from the noise.",
        "data": curve,
        "interactive": _moving_wells(place, sides, sheets, signals, curve, marks),
    }


def _sheet(images: Float[np.ndarray, "k h w"]) -> np.ndarray:
    """Images side by side in four rows, or the first four in two if they are large, 16 greys, a white line between.

    Large are those of more than 14 pixels, for the sake of the moving figure's size; of more than 28 pixels, every
    second or third is shown, and so on.
    """
    reduced = images[:, :: -(-images.shape[1] // 28), :: -(-images.shape[2] // 28)]
    _, h, w = reduced.shape
    across = 4 if max(h, w) <= 14 else 2
    grey = (np.clip((reduced[: across**2] + 1) / 2, 0, 1) * 15).round().astype(np.uint8) * 16
    framed = np.pad(grey, ((0, across**2 - len(grey)), (0, 1), (0, 1)), constant_values=255)
    return framed.reshape(across, across, h + 1, w + 1).swapaxes(1, 2).reshape(across * (h + 1), -1)[:-1, :-1]


def _url(sheet: np.ndarray) -> str:
    """A picture about 200 pixels wide as a `data:` URL."""
    from PIL import Image

    png = io.BytesIO()
    scale = max(1, 200 // max(sheet.shape))
    Image.fromarray(np.kron(sheet, np.ones((scale, scale), np.uint8))).save(png, format="png", optimize=True)
    return "data:image/png;base64," + base64.b64encode(png.getvalue()).decode()


def _still_wells(
    place: np.ndarray,
    sides: np.ndarray,
    sheets: Sequence[np.ndarray],
    signals: Sequence[float],
    curve: pd.DataFrame,
    marks: Mapping[str, float],
) -> Figure:
    shown = (1.0, 0.4, 0.26, 0.15, 0.0)
    letters = [[f"{row}{i}" for i in range(len(shown))] for row in "pi"]
    mosaic: Any = [*letters, ["c"] * len(shown)]
    figure, parts = plt.subplot_mosaic(mosaic, figsize=(7, 4.8), layout="constrained", height_ratios=(1, 1, 1))
    x = np.linspace(-REACH, REACH, 301)
    for i, t in enumerate(shown):
        k = KEY_TIMES.index(t)
        ax = parts[f"p{i}"]
        ax.plot(x, potential(x, signals[k]), color=GREY, linewidth=1.2)
        for name, color in (("ends at +1", BLUE), ("ends at −1", ORANGE)):
            there = place[k][sides == name]
            ax.plot(there, potential(there, signals[k]), ".", color=color, markersize=4, alpha=0.5)
        ax.set(xlim=(-REACH, REACH), ylim=(FLOOR, TOP), yticks=[], xticks=[-1, 1], title=f"t = {t:g}")
        ax = parts[f"i{i}"]
        ax.imshow(sheets[k], cmap="gray", vmin=0, vmax=255)
        ax.axis("off")
    parts["p0"].set_ylabel("potential")
    ax = parts["c"]
    ax.plot(curve["t"], curve["same"], color=RED)
    for (name, at), style in zip(marks.items(), (":", "--"), strict=True):
        ax.axvline(at, color=GREY, linestyle=style, linewidth=1)
        ax.annotate(f" {name}", (at, 1.0), va="top", color=GREY)
    ax.set(xlim=(1, 0), ylim=(0.48, 1.02))
    plots.label_axes(ax, TIME, SAME)
    return figure


def _moving_wells(
    place: np.ndarray,
    sides: np.ndarray,
    sheets: Sequence[np.ndarray],
    signals: Sequence[float],
    curve: pd.DataFrame,
    marks: Mapping[str, float],
) -> Any:
    """Potential with particles and images above, agreement of clones below, at the time of the slider."""
    import altair as alt  # a second of import that only notebooks with such a chart need

    a = f"{json.dumps([round(min(s, 0.9999), 4) for s in signals])}[time]"
    inner = f"({a} * abs(datum.x) / (1 - {a} * {a}))"
    deep = f"datum.x * datum.x / 2 - (1 - {a} * {a}) * ({inner} + log(1 + exp(-2 * {inner})) - LN2)"
    across = alt.X("x:Q", title="x").scale(domain=[-REACH, REACH], range=[0, {"expr": "width * 0.56"}])
    across = across.axis(offset=MIDDLE - DEPTH, grid=False, values=[-2, -1, 0, 1, 2])
    up = alt.Y("y:Q", title="potential").scale(domain=[FLOOR, TOP], range=[MIDDLE, 0])
    up = up.axis(grid=False, orient="left", tickCount=4)
    line = alt.Chart(alt.sequence(-REACH, REACH + 0.01, 0.05, as_="x")).transform_calculate(y=deep)
    words = ["ends at +1", "ends at −1"]
    key = alt.Color("c:N", title=None, legend=alt.Legend(orient="top")).scale(domain=words, range=[BLUE, ORANGE])
    thousandths = np.round(1000 * place.T).astype(int).tolist()
    data = alt.Data(values=[{"c": c, "p": way} for c, way in zip(sides.tolist(), thousandths, strict=True)])
    dots = alt.Chart(data).transform_calculate(x="datum.p[time] / 1000").transform_calculate(y=deep)
    upper = alt.layer(
        line.mark_line(color=GREY, strokeWidth=2, clip=True).encode(across, up, order="x:Q"),
        dots.mark_circle(size=30, opacity=0.6, clip=True).encode(across, up, key),
    )
    pictures = alt.Chart(pd.DataFrame({"i": range(len(sheets)), "u": [_url(sheet) for sheet in sheets]}))
    size = f"min({MIDDLE}, width * 0.38)"
    shown = (
        pictures.transform_filter("datum.i == time")
        .mark_image(width={"expr": size}, height={"expr": size}, align="right", baseline="top")
        .encode(url="u:N", x=alt.value({"expr": "width"}), y=alt.value(0))
    )
    when = alt.X("t:Q", title=TIME).scale(domain=[1, 0], nice=False).axis(orient="bottom", grid=False, tickCount=6)
    agree = alt.Y("same:Q", title=SAME).scale(domain=[0.5, 1], range=[DEPTH, MIDDLE + GAP], nice=False)
    agree = agree.axis(orient="left", grid=False, values=[0.5, 0.75, 1], format=".2f")
    lines = alt.Chart(pd.DataFrame({"t": list(marks.values()), "label": list(marks), "same": 0.97}))
    rows = alt.Chart(curve.round(4).assign(i=range(len(curve))))
    lower = alt.layer(
        lines.mark_rule(color="#999", strokeDash=[3, 3]).encode(when, y=alt.value(MIDDLE + GAP), y2=alt.value(DEPTH)),
        lines.transform_filter(f"datum.label == '{min(marks, key=marks.__getitem__)}'")
        .mark_text(align="left", dx=4, color="#555")
        .encode(when, agree, text="label:N"),
        lines.transform_filter(f"datum.label == '{max(marks, key=marks.__getitem__)}'")
        .mark_text(align="right", dx=-4, color="#555")
        .encode(when, agree, text="label:N"),
        rows.mark_line(color=RED, strokeWidth=2).encode(when, agree),
        rows.mark_circle(color=RED, size=150, opacity=1).encode(when, agree).transform_filter("datum.i == time"),
    )
    both = alt.layer(upper, shown, lower).resolve_scale(x="independent", y="independent").properties(height=DEPTH)
    start = KEY_TIMES.index(0.2)
    texts = [
        f"t = {t:g}: signal {s:.3g}, {'one well' if s * s <= 0.5 else 'two wells'}; clones of a particle end in the "
        f"same well with probability {p:.2f}."
        for t, s, p in zip(KEY_TIMES, signals, curve["same"], strict=True)
    ]
    stop = len(KEY_TIMES) - 1
    return both.add_params(
        alt.param(name="time", value=start, bind=alt.binding_range(min=0, max=stop, step=1, name="time t")),
        alt.param(name="time_ticks", value=[f"{t:g}" for t in KEY_TIMES]),
        alt.param(name="reading", expr=f"{json.dumps(texts, ensure_ascii=False)}[time]"),
    )


# --- three critical points --------------------------------------------------------------------------------------------


def critical(frame: pd.DataFrame, exponents: pd.DataFrame, schedule: study.Schedule) -> dict[str, Any]:
    """Slopes at the midpoint against time with the zeros found from the score; fixed points; the three power laws.

    frame: the rows of `study.critical_points`. exponents: those of `study.critical_exponents`.
    """
    figure, (left, middle, right) = plots.panels(3, width=9, height=3.2)
    times = np.linspace(0.12, 0.6, 200)
    signals = [theory.signal(t, *schedule) for t in times]
    names: dict[theory.Dynamics, str] = {"density": "log density", "sde": "drift of the SDE", "ode": "flow of the ODE"}
    for (kind, label), color in zip(names.items(), (BLUE, ORANGE, GREEN), strict=True):
        left.plot(times, [theory.slope(kind, a) for a in signals], color=color, label=label)
        found = select(frame, dynamics=kind)["signal"].dropna()
        if len(found):
            left.plot([theory.time_at(found.mean(), *schedule)], [0], "o", color=color)
    left.axhline(0, color=GREY, linewidth=1)
    left.set(xlim=(0.6, 0.12), ylim=(-1.5, 3))
    plots.label_axes(left, TIME, "slope at the midpoint", "above 0 it repels").legend(fontsize=7)
    for kind, color in zip(names, (BLUE, ORANGE, GREEN), strict=True):
        stable = [theory.magnetization(theory.coupling(a, kind)) for a in signals]
        for sign in (1, -1):
            middle.plot(times, [sign * m for m in stable], color=color, linewidth=2)
    middle.axhline(0, color=GREY, linewidth=1, linestyle=":")
    middle.set(xlim=(0.6, 0.12))
    plots.label_axes(middle, TIME, "order parameter m", "stable states split")
    laws = {"order": (0.5, "m, by a − a_c"), "field": (1 / 3, "m, by h"), "susceptibility": (-1.0, "m / h, by a_c − a")}
    for (quantity, (power, label)), color in zip(laws.items(), (BLUE, GREEN, RED), strict=True):
        rows = select(exponents, quantity=quantity).groupby("x")["value"].mean()
        right.loglog(rows.index, rows, "o", color=color, markersize=4, label=label)
        anchor = rows.iloc[len(rows) // 2] / rows.index[len(rows) // 2] ** power
        right.loglog(rows.index, anchor * rows.index.to_numpy() ** power, color=color, linewidth=1)
    plots.label_axes(right, "distance from the critical point", "", "powers ½, ⅓, −1").legend(fontsize=7)
    found = frame.groupby("dynamics")["signal"].mean()
    places = {kind: theory.time_at(found[kind], *schedule) for kind in ("density", "sde")}
    return {
        "figure": figure,
        "caption": "Two deltas at ±1. Slope at the midpoint, per unit of noise rate, of the log density's gradient, of "
        "the drift of the generative SDE and of the probability-flow ODE; points: zeros found from the score. Stable "
        "states of the three, as the m that their denoiser returns. Power laws at the critical point of the log "
        "density: points from the score in eight dimensions, lines with the mean-field powers.",
        "alt": f"The slope of the log density crosses zero at t = {places['density']:.3f}, that of the SDE's drift "
        f"earlier, at t = {places['sde']:.3f}, and that of the ODE is positive at all times. For the first two, one "
        "stable state splits into two like a square root; the ODE has two at all times. Points lie on lines of slope "
        "one half, one third and minus one.",
        "data": frame,
    }


# --- clones -----------------------------------------------------------------------------------------------------------


def clones(frame: pd.DataFrame, sigma: float, paths: int, schedule: study.Schedule) -> dict[str, Any]:
    """Agreement of clones against time for every dimension, and against the distance of the noisy classes."""
    figure, (left, right) = plots.panels(2, height=3.4)
    grid = np.linspace(0.02, 0.995, 150)
    colors = (BLUE, ORANGE, GREEN, RED, PURPLE)
    for d, color in zip(sorted(frame["d"].unique().tolist()), colors, strict=False):
        part = select(frame, d=d)
        plots.points(left, part, "t", "same", f"d = {d}", color, trials=paths)
        ratios = [theory.signal_to_noise(theory.signal(t, *schedule), d**0.5, sigma) for t in grid]
        left.plot(grid, [theory.same_class(ratio) for ratio in ratios], color=color)
        plots.points(right, part[part["ratio"] < 5], "ratio", "same", "", color, trials=paths)
    shown = np.linspace(0, 5, 200)
    right.plot(shown, [theory.same_class(ratio) for ratio in shown], color=GREY, label="exact, whatever d")
    right.plot([1], [theory.same_class(1.0)], "x", color=RED, markersize=9, label="critical point", zorder=5)
    left.set(xlim=(1, 0))
    plots.label_axes(left, TIME, SAME, "points: simulated, lines: exact", 0.5).legend(fontsize=7)
    plots.label_axes(right, "signal to noise ρ of the classes", SAME, "one curve for all d", 0.5).legend(fontsize=7)
    gap = (frame["same"] - frame["exact"]).groupby([frame["d"], frame["t"]]).mean().abs().max()
    return {
        "figure": figure,
        "caption": "Probability that two paths from one state at time t end in the same of two classes: simulated, "
        "mean with 95 % interval over seeds, and the exact integral (lines). To the right, against ρ, the distance of "
        "the noisy classes over their spread, which is 1 at the critical point of the log density.",
        "alt": f"The more dimensions, the earlier clones agree. Against the signal-to-noise ratio the points of all "
        f"dimensions lie on one curve through {theory.same_class(1.0):.3f} at the critical point. The largest "
        f"difference of a mean from the exact curve is {gap:.3f}.",
        "data": frame,
    }


def decisions(
    hierarchy: pd.DataFrame, unequal: pd.DataFrame, *, separations: tuple[float, float], sigma: float, weight: float,
    paths: int, schedule: study.Schedule,
) -> dict[str, Any]:  # fmt: skip
    """Agreement of clones on coarse and fine classes, and with unequal weights beside equal ones."""
    figure, (left, right) = plots.panels(2, height=3.2)
    grid = np.linspace(0.02, 0.98, 150)
    signals = [theory.signal(t, *schedule) for t in grid]
    places = []
    for name, separation, color in zip(("coarse", "fine"), separations, (BLUE, ORANGE), strict=True):
        plots.points(left, hierarchy, "t", name, f"{name} class", color, trials=paths)
        ratios = [theory.signal_to_noise(a, separation, sigma) for a in signals]
        left.plot(grid, [theory.same_class(ratio) for ratio in ratios], color=color)
        places.append(theory.time_at(theory.critical_signal("density", separation, sigma) or 0.5, *schedule))
        _mark(left, places[-1], color)
    left.set(xlim=(1, 0))
    plots.label_axes(left, TIME, SAME, "two decisions", 0.5).legend(fontsize=7, loc="upper left")
    flat = weight**2 + (1 - weight) ** 2
    plots.points(right, unequal, "t", "same", f"weights {weight:g} and {1 - weight:.2g}", RED, trials=paths)
    ratios = [theory.signal_to_noise(a, 1.0, 0.0) for a in signals]
    right.plot(grid, [theory.same_class(ratio, weight) for ratio in ratios], color=RED)
    right.plot(grid, [theory.same_class(ratio) for ratio in ratios], color=GREY, linestyle="--", label="equal, exact")
    late = theory.spinodal(abs(np.log(weight / (1 - weight))) / 2)
    appears = theory.time_at((late / (1 + late)) ** 0.5, *schedule)
    _mark(right, appears, RED)
    _mark(right, theory.time_at(0.5**0.5, *schedule), GREY)
    right.set(xlim=(1, 0))
    plots.label_axes(right, TIME, SAME, "unequal classes").legend(fontsize=7)
    return {
        "figure": figure,
        "caption": "Agreement of clones, simulated (mean with 95 % interval over seeds) and exact (lines). Four "
        "classes, two pairs far from each other; dotted, the critical times of coarse and fine class. And two deltas "
        "of unequal weights beside equal ones; dotted, where the log density gets its second well.",
        "alt": f"The coarse class is decided around t = {places[0]:.2f}, the fine one around t = {places[1]:.2f}. With "
        f"unequal weights clones agree with probability {flat:.2f} from the start, and the second well appears later, "
        f"at t = {appears:.2f}.",
        "data": hierarchy,
    }


# --- late start -------------------------------------------------------------------------------------------------------


def late(frame: pd.DataFrame, transition: float, title: str) -> dict[str, Any]:
    """Distance to held-out images against the start, for two samplers and numbers of steps, and in a second metric.

    Each panel has the start from N(0, I) with the fewest steps beside the fitted ones.
    """
    figure, axes = plots.panels(3, width=9.5, height=3.7)
    panels = (("ddim", "frechet"), ("ddpm", "frechet"), ("ddim", "energy"))
    for ax, (method, metric) in zip(axes, panels, strict=True):
        part = frame[frame["method"].eq(method)]
        counts = sorted(part["n"].unique().tolist())
        for n, color in zip(counts, (BLUE, ORANGE, GREEN), strict=False):
            plots.points(ax, select(part, n=n, start="fitted"), "t", metric, f"{n} steps", color)
            ax.plot(*_means(select(part, n=n, start="fitted"), metric), color=color)
        iso = select(part, n=counts[0], start="isotropic")
        plots.points(ax, iso, "t", metric, f"{counts[0]} steps, N(0, I)", GREY, "s")
        ax.plot(*_means(iso, metric), color=GREY, linestyle="--")
        _levels(ax, frame, metric)
        _mark(ax, transition)
        ax.set(xlim=(1.05, 0.05))
    low, high = frame["frechet"].min(), frame["frechet"].max()
    for ax in axes[:2]:
        _plain_log(ax)
        ax.set_ylim(low / 1.1, 1.1 * high)
    axes[2].set_ylim(top=1.2 * select(frame, start="fitted")["energy"].max())
    plots.label_axes(axes[0], "start t", FRECHET, f"DDIM, {title}").legend(fontsize=7)
    plots.label_axes(axes[1], "start t", "", f"DDPM, {title}")
    plots.label_axes(axes[2], "start t", "energy distance of features", "DDIM, a second metric")
    means = select(frame, start="fitted").groupby(["method", "n", "t"])["frechet"].mean()
    told = [
        f"With {n} steps of {method.upper()} it is {part.iloc[-1]:.1f} for a start at t = 1 and lowest, "
        f"{part.min():.1f}, at t = {part.idxmin():g}."
        for method in ("ddim", "ddpm")
        for n in (counts[0], counts[-1])
        for part in [means[method, n]]
    ]
    from_noise = select(frame, method="ddim", start="isotropic").groupby("t")["frechet"].mean()
    return {
        "figure": figure,
        "caption": "Distance of samples to held-out images, by the time at which sampling starts from a Gaussian with "
        "the mean and covariance of noised data, or from N(0, I) (squares): Fréchet distance in the features of a "
        "classifier for DDIM and DDPM, and energy distance there. Lines across: training images, and samples of the "
        "Gaussian itself. Dotted, where the largest variance of the data overtakes the noise. Mean with 95 % interval "
        "over seeds.",
        "alt": f"Fréchet distance. {' '.join(told)} From N(0, I) with {counts[0]} steps of DDIM it is lowest, "
        f"{from_noise.min():.1f}, at t = {from_noise.idxmin():g}, and {from_noise.iloc[0]:.1f} at "
        f"t = {from_noise.index[0]:g}.",
        "data": frame,
    }


def _means(frame: pd.DataFrame, value: str, by: str = "t") -> tuple[Any, Any]:
    rows = frame.groupby(by)[value].mean()
    return rows.index, rows


def solvers(frame: pd.DataFrame) -> dict[str, Any]:
    """Distance against the start for the three samplers at the fewest steps, in features and in pixels."""
    few = min(n for n in frame["n"] if n)
    figure, (left, right) = plots.panels(2, height=3.2)
    names = {"ddim": "DDIM", "ddpm": "DDPM", "heun": f"Heun, {2 * few - 1} evaluations"}
    for ax, metric, label in ((left, "frechet", FRECHET), (right, "pixels", "Fréchet distance of pixels")):
        for (method, name), color in zip(names.items(), (BLUE, ORANGE, GREEN), strict=True):
            part = select(frame, method=method, n=few, start="fitted")
            plots.points(ax, part, "t", metric, name, color)
            ax.plot(*_means(part, metric), color=color)
        _levels(ax, frame, metric)
        ax.set(xlim=(1.05, 0.05))
        _plain_log(ax)
        plots.label_axes(ax, "start t", label, f"{few} steps")
    left.legend(fontsize=7)
    plain = select(frame, n=few, start="fitted", t=1.0).groupby("method")["frechet"].mean()
    blank, images = (
        select(frame, method=kind)[["frechet", "pixels"]].mean() for kind in ("Gaussian", "training images")
    )
    return {
        "figure": figure,
        "caption": f"The same distances for three samplers with {few} steps, in features and in pixels. Heun's method, "
        "of second order, evaluates the score twice in all steps but the last. Lines across: training images, and "
        "samples of the Gaussian itself, without any step. Mean with 95 % interval over seeds.",
        "alt": f"Fréchet distance with {few} steps from t = 1: "
        + ", ".join(f"{name} {plain[method]:.1f}" for method, name in names.items())
        + f". A Gaussian without any step is at {blank['frechet'] / images['frechet']:.1f} times the distance of the "
        f"training images in features, and at {blank['pixels'] / images['pixels']:.1f} times in pixels.",
        "data": frame,
    }


def minority(frame: pd.DataFrame, weight: float, samples: int) -> dict[str, Any]:
    """Share of the rarer class against the start, by steps and samplers."""
    figure, axes = plots.panels(3, width=9, height=3.0)
    for ax, (method, name) in zip(axes, {"ddim": "DDIM", "ddpm": "DDPM", "heun": "Heun"}.items(), strict=True):
        part = select(frame, method=method, start="fitted")
        for n, color in zip(sorted(part["n"].unique().tolist()), (BLUE, ORANGE, GREEN), strict=False):
            plots.points(ax, select(part, n=n), "t", "share", f"{n} steps", color, trials=samples)
            ax.plot(*_means(select(part, n=n), "share"), color=color)
        iso = select(frame, method=method, start="isotropic")
        if len(iso):
            plots.points(ax, iso, "t", "share", f"{iso['n'].min()} steps, N(0, 1)", GREY, "s", trials=samples)
            ax.plot(*_means(iso, "share"), color=GREY, linestyle="--")
        ax.axhline(weight, color="0.4", linewidth=1, linestyle=":")
        ax.set(xlim=(1.05, 0.35), ylim=(0, 2 * weight))
        plots.label_axes(ax, "start t", "share of the rarer class" if method == "ddim" else "", name)
        ax.legend(fontsize=7, loc="upper left" if method != "heun" else "lower left")
    few = frame["n"].min()
    means = select(frame, method="ddim", n=few, start="fitted").groupby("t")["share"].mean()
    plain = select(frame, n=few, start="fitted", t=1.0).groupby("method")["share"].mean()
    return {
        "figure": figure,
        "caption": f"Share of samples in the rarer of two classes, of weight {weight:g} (dotted), by the time at which "
        "sampling starts; mean with 95 % interval over seeds.",
        "alt": f"With {few} steps of DDIM the rarer class gets {means.iloc[-1]:.3f} of the samples from a start at "
        f"t = 1 and {means.iloc[0]:.3f} from one at t = {means.index[0]:g}, where {weight:g} would be right; DDPM "
        f"gives it {plain['ddpm']:.3f} from t = 1, Heun's method {plain['heun']:.3f}.",
        "data": frame,
    }


# --- collapse ---------------------------------------------------------------------------------------------------------


def collapse(frame: pd.DataFrame, curves: pd.DataFrame, schedule: study.Schedule) -> dict[str, Any]:
    """Concentration of the posterior against time, and the measured collapse time against the formula's.

    frame: the rows of `study.collapse`. curves: those of `study.concentrations`.
    """
    figure, (left, right) = plots.panels(2, height=3.4)
    pairs = sorted(set(zip(frame["n"], frame["d"], strict=True)))
    colors = [f"C{i}" for i in range(len(pairs))]
    for (n, d), color in zip(pairs, colors, strict=True):
        rows = select(curves, n=n, d=d).groupby("t")["concentration"].mean()
        left.plot(rows.index, rows, color=color, label=f"{n} points, d = {d}")
        _mark(left, theory.time_at(theory.collapse_signal(n, d), *schedule), color)
        part = select(frame, n=n, d=d)
        mean, low, high = interval(part["t"])
        at = part["formula"].iloc[0]
        right.errorbar([at], [mean], [[mean - low], [high - mean]], marker="o", ms=4, color=color, capsize=2)
    edge = [frame["formula"].min() - 0.02, frame["formula"].max() + 0.02]
    right.plot(edge, edge, color=GREY, linewidth=1)
    left.set(xlim=(0.8, 0))
    plots.label_axes(left, TIME, "sum of squared weights", "one point takes over").legend(fontsize=7)
    n = frame["seed"].nunique()
    plots.label_axes(right, "collapse time of the formula", "measured collapse time", f"when (n = {n})")
    gap = (frame["t"] - frame["formula"]).groupby([frame["n"], frame["d"]]).mean()
    return {
        "figure": figure,
        "caption": "How far the exact score of a finite data set has picked one of its points: the sum of the squared "
        "weights with which the points count, on noised points, by time; dotted, the time of the formula. To the "
        "right, the time at which the sum is a half against the formula's; mean with 95 % interval over seeds, and the "
        "diagonal.",
        "alt": f"The sum rises from near 0 to 1 as time falls, the earlier the fewer points and the more dimensions. "
        f"Measured times follow the formula, {gap.min():.3f} to {gap.max():.3f} above it.",
        "data": frame,
    }


# --- a learned score --------------------------------------------------------------------------------------------------


def learned(found: Learned) -> dict[str, Any]:
    """Share of copies, losses and Fréchet distance against steps of training; samples beside their nearest images."""
    frame = found.frame
    networks, exact = select(frame, arm="network"), select(frame, arm="exact")
    counts = sorted(frame["n"].unique().tolist())
    rows: Any = [["copies"] * 2 + ["loss"] * 2 + ["frechet"] * 2, ["few"] * 3 + ["many"] * 3]
    figure, parts = plt.subplot_mosaic(rows, figsize=(9.5, 4.8), layout="constrained", height_ratios=(3, 1.1))
    for n, color in zip(counts, (RED, ORANGE, GREEN, BLUE, PURPLE), strict=False):
        part, level = select(networks, n=n), select(exact, n=n)
        plots.points(parts["copies"], part, "step", "copies", f"{n} images", color)
        parts["copies"].plot(*_means(part, "copies", by="step"), color=color)
        parts["frechet"].plot(*_means(part, "frechet", by="step"), color=color)
        parts["frechet"].axhline(level["frechet"].mean(), color=color, linestyle=":", linewidth=1)
        if n in (counts[0], counts[-1]):
            parts["loss"].plot(*_means(part, "held_out", by="step"), color=color, label=f"{n}, held-out")
            parts["loss"].plot(
                *_means(part, "training", by="step"), color=color, linestyle="--", label=f"{n}, training"
            )
            parts["loss"].axhline(level["training"].mean(), color=color, linestyle=":", linewidth=1)
    for name, label, heading in (
        ("copies", "share of copies", "what is copied"),
        ("loss", "square error a pixel", "what is fitted"),
        ("frechet", FRECHET, "what the distance sees"),
    ):
        parts[name].set_xscale("log")
        parts[name].xaxis.set_major_locator(LogLocator(subs=(1, 3)))
        parts[name].xaxis.set_major_formatter("{x:,.0f}")
        parts[name].xaxis.set_minor_formatter(NullFormatter())
        plots.label_axes(parts[name], "steps of training", label, heading)
    parts["copies"].set(ylim=(-0.03, 1.03))
    parts["copies"].axhline(1, color=GREY, linestyle=":", linewidth=1)
    _plain_log(parts["frechet"])
    parts["copies"].legend(fontsize=7, loc="upper left", bbox_to_anchor=(0, 0.97))
    parts["loss"].legend(fontsize=7, loc="upper right")
    for name, n in (("few", counts[0]), ("many", counts[-1])):
        _pairs(parts[name], *found.pictures[n], f"{n} images")
    last = select(networks, step=networks["step"].max()).groupby("n")[["copies", "training", "held_out"]].mean()
    told = ", ".join(f"{last['copies'][n]:.2f} for {n}" for n in counts)
    gaps = last["held_out"] - last["training"]
    return {
        "figure": figure,
        "caption": "Networks that learn to denoise few images, by steps of training: share of their samples that are "
        "copies, at less than a third of the distance to the nearest training image than to the second nearest; loss "
        "on held-out and training images; Fréchet distance of samples to held-out images. Dotted: the exact denoiser "
        "of the same images, on its training images in the middle. Means over seeds, of copies with 95 % intervals. "
        "Below, eight samples of a network at the last step (upper row), each over the training image nearest to it.",
        "alt": f"At the last step the share of copies is {told} images; it is 1 for every exact denoiser. Held-out "
        f"less training loss is {gaps[counts[0]]:.3f} for {counts[0]} images and {gaps[counts[-1]]:.3f} for "
        f"{counts[-1]}.",
        "data": frame,
    }


def _pairs(ax: Axes, samples: Float[Tensor, "m h w"], images: Float[Tensor, "m h w"], title: str) -> Axes:
    """Samples in a row, the images that belong to them under it."""
    side = samples.shape[1]
    both = np.stack([samples.numpy(), images.numpy()])
    framed = np.pad(both, ((0, 0), (0, 0), (0, 1), (0, 1)), constant_values=np.nan)  # white lines between
    ax.imshow(np.concatenate(np.concatenate(framed, axis=1), axis=1), cmap="gray", vmin=-1, vmax=1)
    ax.set(xticks=[], yticks=[side / 2, 3 * side / 2], yticklabels=["sample", "nearest"], title=f"trained on {title}")
    ax.grid(False)
    ax.spines[:].set_visible(False)
    return ax
