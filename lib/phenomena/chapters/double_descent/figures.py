"""The chapter's figures. Each function returns what `show` takes: figure, caption, alternative text, data, a chart."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from phenomena.chapters.double_descent import study, theory
from phenomena.science import plots
from phenomena.science.frames import select, summary
from phenomena.science.plots import Axis, Layer

RISK, PARAMETERS, ERROR = "excess risk", "parameters p", "mean square error"
GREY, BLUE, ORANGE, GREEN, RED = "#555555", "#0173b2", "#de8f05", "#029e73", "#d55e00"
LINE_PARAMETERS = (2, 3, 4, 5, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 27, 28, 29, 30, 31, 32, 33, 34, 36, 38, 40, 45,
                   50, 60, 70, 80, 100, 130, 180, 250, 350, 500, 700, 1000)  # fmt: skip  # stops of the slider
LINE_NOISES = (0.0, 0.05, 0.1, 0.2, 0.3, 0.4)
FLOOR, CEILING = 1e-4, 1e6  # of the error that the key figure draws
RAISED = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")
DEPTH, MIDDLE, GAP = 440, 200, 60  # pixels of the moving figure: its height, that of its upper part, between the two


def _log_ticks(ax: Axes, low: float, high: float) -> None:
    """A logarithmic x axis with whole numbers at its ticks."""
    steps = (1, 2, 5) if high < 50 * low else (1, 3)
    ticks = [m * 10**e for e in range(6) for m in steps if low <= m * 10**e <= high]
    ax.set(xscale="log", xticks=ticks, xticklabels=[f"{tick:,}" for tick in ticks])
    ax.minorticks_off()


def _threshold(ax: Axes, at: float) -> None:
    ax.axvline(at, color="0.6", linewidth=1, linestyle=":", zorder=0)


# --- the key figure ---------------------------------------------------------------------------------------------------


def line(
    x: Float[np.ndarray, " n"], e: Float[np.ndarray, " n"], errors: pd.DataFrame, sigma: float, decay: float
) -> dict[str, Any]:
    """The fit of one data set as the number of parameters grows, above the error.

    x, e: points and standard normal noise of the data set drawn. errors: the rows of `study.line_errors`.
    """
    n = len(x)
    at = np.unique(np.r_[np.linspace(-1, 1, 81), x])
    fine = np.linspace(-1, 1, 401)
    paths, own = [], []
    for k, p in enumerate(LINE_PARAMETERS):
        fits = study.line_fits(x[None], e[None], p, np.r_[at, fine], decay)[0]
        paths.append(pd.DataFrame({"k": k, "x": at, "a": fits[: len(at), 0], "b": fits[: len(at), 1]}))
        missed, noise = fits[len(at) :, 0] - study.truth(fine), fits[len(at) :, 1]
        own.append({"k": k, "p": p, "a": (missed**2).mean(), "b": (missed * noise).mean(), "c": (noise**2).mean()})
    medians = errors.groupby(["sigma", "p"])["error"].median().rename("median").reset_index()
    points = pd.DataFrame({"x": x, "f": study.truth(x), "e": e})
    frames = pd.concat(paths), pd.DataFrame(own), medians, points
    usual = select(medians, sigma=sigma).set_index("p")["median"]
    sets = errors["seed"].nunique()
    return {
        "figure": _still_line(*frames, sigma, n, sets),
        "caption": f"Above: {n} noisy points of sin 3x (dashed) and their least-norm fit by p cosines, with few, as "
        f"many, and many more parameters than points; outside the frame where it leaves it. Below: its mean square "
        f"error on this data set, and the median over {sets} data sets; noise of standard deviation {sigma:g}. The "
        "scale ends at a million. In the moving figure, sliders set the number of parameters and the noise.",
        "alt": f"The error falls to {usual.min():.2g} with few parameters, peaks at 10 to the power "
        f"{math.log10(usual[n]):.0f} with {n}, as many as points, and falls again to {usual.iloc[-1]:.2g} with "
        f"{usual.index[-1]:,}. At the peak the fit leaves the frame between the points.",
        "data": medians,
        "interactive": _moving_line(*frames, sigma, n, sets),
    }


def _own_error(own: pd.DataFrame, sigma: float) -> pd.Series:
    return own["a"] + 2 * sigma * own["b"] + sigma**2 * own["c"]


def _still_line(
    paths: pd.DataFrame,
    own: pd.DataFrame,
    medians: pd.DataFrame,
    points: pd.DataFrame,
    sigma: float,
    n: int,
    sets: int,
) -> Figure:
    figure, parts = plt.subplot_mosaic([["few", "equal", "many"], ["error"] * 3], figsize=(7, 5), layout="constrained")
    for name, p in (("few", 5), ("equal", n), ("many", 1000)):
        ax = parts[name]
        path = paths[paths["k"] == LINE_PARAMETERS.index(p)]
        ax.plot(path["x"], study.truth(path["x"].to_numpy()), color="0.5", linestyle="--", linewidth=1)
        ax.plot(path["x"], path["a"] + sigma * path["b"], color=RED, linewidth=1.5)
        ax.plot(points["x"], points["f"] + sigma * points["e"], "o", color=BLUE, markersize=3)
        plots.label_axes(ax, "x", "y" if name == "few" else "", f"p = {p:,}").set_ylim(-2, 2)
    lower = parts["error"]
    usual = select(medians, sigma=sigma)
    lower.loglog(usual["p"], usual["median"].clip(FLOOR, CEILING), color=GREY, label=f"median of {sets} data sets")
    error = _own_error(own, sigma).clip(FLOOR, CEILING)
    lower.loglog(own["p"], error, color=RED, linewidth=1, label="the points above")
    _log_ticks(lower, 2, 1000)
    _threshold(lower, n)
    plots.label_axes(lower, PARAMETERS, ERROR).legend()
    return figure


def _digits(frame: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """Four significant digits, and none below a thousandth: what a chart carries is what a reader loads."""
    return frame.assign(**{c: [float(f"{v:.4g}") if abs(v) > 1 else round(v, 3) for v in frame[c]] for c in columns})


def _moving_line(
    paths: pd.DataFrame,
    own: pd.DataFrame,
    medians: pd.DataFrame,
    points: pd.DataFrame,
    sigma: float,
    n: int,
    sets: int,
) -> Any:
    """Fit above, error below, at the number of parameters and the noise of the sliders.

    The fit is linear in the labels: two curves a number of parameters, of truth and of noise, make it for every noise.
    """
    import altair as alt  # a second of import that only notebooks with such a chart need

    def reading(k: int, noise: float) -> str:
        p, error = LINE_PARAMETERS[k], _own_error(own, noise).iloc[k]
        middle = select(medians, sigma=noise, p=p)["median"].item()
        seen = f"p = {p:,} parameters for {n} points, noise {noise:g}: mean square error {_words(error)},"
        return f"{seen} median over {sets} data sets {_words(middle)}."

    level, inks = f"{json.dumps(LINE_NOISES)}[noise]", [BLUE, RED, "#777777", GREY]
    words = ["noisy points", "fit and error", "truth", "median error"]
    key = alt.Color("label:N", title=None, legend=alt.Legend(columns=2)).scale(domain=words, range=inks)
    here = "datum.k == p"
    # the scale is clamped, so that a path outside the frame would run along its edge
    outside = " && ".join(f"abs(datum.{name}) > 2" for name in ("full", "before", "after"))
    place = alt.X("x:Q", title="x").scale(domain=[-1, 1]).axis(offset=MIDDLE - DEPTH, grid=False, tickCount=5)
    height = alt.Y("y:Q", title="y").scale(domain=[-2, 2], range=[MIDDLE, 0], clamp=True)
    height = height.axis(grid=False, orient="left", tickCount=5)
    smooth = pd.DataFrame({"x": np.linspace(-1, 1, 61).round(3)}).assign(
        y=lambda f: study.truth(f["x"].to_numpy()).round(3)
    )
    fits = alt.Chart(_digits(paths.assign(x=paths["x"].round(3)), ["a", "b"]))
    drawn = alt.Chart(points.round(3)).transform_calculate(y=f"datum.f + {level} * datum.e", label=f"'{words[0]}'")
    upper = alt.layer(
        alt.Chart(smooth).mark_line(color=inks[2], strokeDash=[5, 4], strokeWidth=1.5).encode(place, height),
        fits.mark_line(color=RED, clip=True)
        .encode(place, height)
        .transform_filter(here)
        .transform_calculate(full=f"datum.a + {level} * datum.b")
        .transform_window(before="lag(full)", after="lead(full)", sort=[{"field": "x"}])
        .transform_calculate(y=f"{outside} ? null : datum.full"),
        drawn.mark_circle(size=50, opacity=1).encode(place, height, key),
    )
    across = alt.X("p:Q", title=PARAMETERS).scale(type="log", domain=[2, 1000], nice=False)
    across = across.axis(orient="bottom", grid=False, values=[2, 5, 10, 30, 100, 300, 1000])
    error = alt.Y("error:Q", title=ERROR).scale(
        type="log", domain=[FLOOR, CEILING], range=[DEPTH, MIDDLE + GAP], clamp=True, nice=False
    )
    error = error.axis(orient="left", values=[1e-4, 1e-2, 1, 1e2, 1e4, 1e6], format="~e", grid=False)
    curves = own.assign(**{c: [float(f"{v:.4g}") for v in own[c]] for c in "abc"})
    moved = alt.Chart(curves).transform_calculate(
        error=f"max({FLOOR}, datum.a + 2 * {level} * datum.b + {level} * {level} * datum.c)"
    )
    middles = pd.DataFrame(
        {
            "s": [LINE_NOISES.index(s) for s in medians["sigma"]],
            "p": medians["p"],
            "error": [float(f"{v:.3g}") for v in medians["median"]],
        }
    )
    lower = alt.layer(
        alt.Chart(pd.DataFrame({"p": [n] * 2, "error": [FLOOR, CEILING]}))
        .mark_line(color="#999", strokeDash=[2, 3], strokeWidth=1)
        .encode(across, error),
        alt.Chart(middles)
        .mark_line(color=GREY, strokeWidth=2.5)
        .encode(across, error)
        .transform_filter("datum.s == noise"),
        moved.mark_line(color=RED, strokeWidth=1).encode(across, error),
        moved.mark_circle(color=RED, size=170, opacity=1).encode(across, error).transform_filter(here),
    )
    both = alt.layer(upper, lower).resolve_scale(x="independent", y="independent").properties(height=DEPTH)
    start, stops = LINE_PARAMETERS.index(n), range(len(LINE_PARAMETERS))
    texts = [[reading(k, noise) for noise in LINE_NOISES] for k in stops]
    return both.add_params(
        alt.param(name="p", value=start, bind=alt.binding_range(min=0, max=stops[-1], step=1, name=PARAMETERS)),
        alt.param(name="p_ticks", value=[f"{p:,}" for p in LINE_PARAMETERS]),
        alt.param(
            name="noise",
            value=LINE_NOISES.index(sigma),
            bind=alt.binding_range(min=0, max=len(LINE_NOISES) - 1, step=1, name="standard deviation of the noise"),
        ),
        alt.param(name="noise_ticks", value=[f"{s:g}" for s in LINE_NOISES]),
        alt.param(name="reading", expr=f"{json.dumps(texts)}[p][noise]"),
    )


def _words(error: float) -> str:
    return f"{error:.2g}" if error < 1000 else "about 10" + f"{math.log10(error):.0f}".translate(RAISED)


# --- isotropic features -----------------------------------------------------------------------------------------------


def peak(frame: pd.DataFrame, n: int, noise: float, signal: float = 1.0) -> dict[str, Any]:
    """Risk against p for several noises with the exact curve; measured over exact near the threshold."""
    figure, (left, right) = plots.panels(2, height=3.6)
    grid = np.unique(np.r_[np.geomspace(frame["p"].min(), frame["p"].max(), 200).round(), n - 2, n + 2]).astype(int)
    for level, color in zip(sorted(frame["noise"].unique().tolist()), (GREEN, BLUE, ORANGE), strict=False):
        part = select(frame, noise=level)
        finite = part[(part["p"] - n).abs() >= study.GAP]
        plots.points(left, finite, "p", "risk", f"σ² = {level:g}", color)
        for side in (grid[grid <= n - study.GAP], grid[grid >= n + study.GAP]):
            left.plot(side, [theory.isotropic_risk(n, p, signal=signal, noise=level) for p in side], color=color)
        at = part[part["p"] == n].groupby("p")["median"].median()
        left.plot(at.index, at, "x", color=color)
    beyond = frame[frame["noise"].eq(noise) & frame["p"].gt(n)]
    plots.points(left, beyond, "p", "noiseless", "no noise", GREY)
    above = grid[grid > n]
    left.plot(above, signal * (1 - n / above), color=GREY, linestyle=":")
    left.set(yscale="log")
    _log_ticks(left, grid[0], grid[-1])
    _threshold(left, n)
    plots.label_axes(left, PARAMETERS, RISK, f"n = {n}, lines: exact").legend(fontsize=7)
    near = frame[frame["noise"].eq(noise) & frame["p"].between(n / 2, 2 * n) & ((frame["p"] - n).abs() >= 4)]
    exact = near["p"].map(lambda p: theory.isotropic_risk(n, p, signal=signal, noise=noise))
    ratio = near.assign(ratio=near["risk"] / exact, gamma=near["p"] / n)
    plots.points(right, ratio, "gamma", "ratio", "measured", BLUE)
    for name, gammas in (("asymptotic formula", np.linspace(0.5, 0.965, 80)), ("", np.linspace(1.04, 2, 80))):
        limits = [_over_exact(gamma, n, signal, noise) for gamma in gammas]
        right.plot(gammas, limits, color=RED, linestyle="--", label=name)
    right.axhline(1, color=GREY, linewidth=1)
    plots.label_axes(right, "p / n", "risk over exact risk", f"σ² = {noise:g}").legend(fontsize=7)
    inside, limit = (frame[column].mean() for column in ("inside", "inside_limit"))
    means = select(frame, noise=noise).groupby("p")["risk"].mean()
    ends = [p for p in (n // 2, round(1.1 * n), 2 * n, 10 * n) if p in means]
    return {
        "figure": figure,
        "caption": "Excess risk of least squares on isotropic features, mean with 95 % interval over seeds, and the "
        "exact expectation (lines). At p = n the mean is infinite; crosses show the median. Without noise the "
        "risk is 0 up to p = n. To the right, what was measured and the asymptotic formula, each "
        "over the exact risk. Seed by seed, the interval of its draws "
        f"covers the exact risk in {inside:.0%} of all cases, the asymptotic one in {limit:.0%}.",
        "alt": "The risk rises towards p = n and falls beyond it. Measured with noise "
        f"{noise:g}: " + ", ".join(f"{means[p]:.2g} at p = {p}" for p in ends) + ".",
        "data": frame,
    }


def _over_exact(gamma: float, n: int, signal: float, noise: float) -> float:
    """Asymptotic over exact risk at a p that need not be whole; for the line of the figure."""
    p = gamma * n
    total = noise * p / (n - p - 1) if gamma < 1 else signal * (1 - n / p) + noise * n / (p - n - 1)
    return theory.asymptotic_risk(gamma, signal=signal, noise=noise) / total


def orders(frame: pd.DataFrame, n: int) -> dict[str, Any]:
    """Risk against p when the model lacks features: the largest coefficients first, or any."""
    figure, (ax,) = plots.panels(1, width=5.5, height=3.4)
    for (order, part), color in zip(frame.groupby("order"), (BLUE, RED), strict=True):
        plots.points(ax, part[(part["p"] - n).abs() >= study.GAP], "p", "risk", str(order), color)
        for side in (part[part["p"] < n], part[part["p"] > n]):
            exact = side.groupby("p")["exact"].first()
            ax.plot(exact.index, exact, color=color)
    ax.set(yscale="log")
    _log_ticks(ax, frame["p"].min(), frame["p"].max())
    _threshold(ax, n)
    plots.label_axes(ax, "features that the model sees, p", RISK, f"n = {n}, lines: exact").legend()
    means = frame.groupby(["order", "p"])["risk"].mean()
    below = {o: means[o][means[o].index < n].min() for o in ("best first", "shuffled")}
    last = frame["p"].max()
    return {
        "figure": figure,
        "caption": "Excess risk when the model sees p of the features, those with the largest coefficients first, or "
        "features in any order. Mean with 95 % interval; lines are the exact expectation.",
        "alt": f"With the best features first the least risk below the threshold is {below['best first']:.2g}, and at "
        f"p = {last} it is {means['best first', last]:.2g}; shuffled, {below['shuffled']:.2g} and "
        f"{means['shuffled', last]:.2g}.",
        "data": frame,
    }


def ridges(frame: pd.DataFrame, n: int, noise: float) -> dict[str, Any]:
    """Risk against p with the best ridge, a tenth of it and ten times as much, beside the exact risk without one."""
    figure, (ax,) = plots.panels(1, width=5.5, height=3.4)
    for (factor, part), color in zip(frame.groupby("factor"), (ORANGE, GREEN, BLUE), strict=False):
        name = "best ridge" if factor == 1 else f"{factor:g} × best"
        plots.points(ax, part, "p", "risk", name, color)
        curve = part.groupby("p")["equivalent"].first()
        ax.plot(curve.index, curve, color=color)
    grid = np.arange(frame["p"].min(), frame["p"].max() + 1)
    exact = np.array([theory.isotropic_risk(n, p, noise=noise) for p in grid])
    ax.plot(grid, np.where(exact < 3, exact, np.nan), color=GREY, linestyle=":", label="no ridge, exact")
    ax.set(ylim=(0, 1.5))
    _log_ticks(ax, grid[0], grid[-1])
    plots.label_axes(ax, PARAMETERS, RISK, f"n = {n}, σ² = {noise:g}").legend()
    best = select(frame, factor=1.0).groupby("p")["risk"].mean()
    shown = [p for p in (n // 2, n, 2 * n) if p in best]
    return {
        "figure": figure,
        "caption": "Excess risk of ridge regression on isotropic features, with the best ridge, less and more. Mean "
        "with 95 % interval; lines are the deterministic equivalent, dotted the risk without a ridge. In the moving "
        "figure, sliders set the ridge and the noise of the equivalent.",
        "alt": "With the best ridge the risk at p = n is of the size of that to either side: "
        + ", ".join(f"{best[p]:.2g} at p = {p}" for p in shown)
        + ".",
        "data": frame,
        "interactive": _moving_ridges(frame, n, noise),
    }


def _moving_ridges(frame: pd.DataFrame, n: int, noise: float) -> Any:
    """The equivalent for a ridge and a noise to choose, before that without a ridge; dots where it was measured."""
    low, high = frame["p"].min(), frame["p"].max()
    grid = sorted({*np.geomspace(low, high, 60).round().astype(int).tolist(), n}, key=int)
    factors, noises = (0.0, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0), (noise / 5, noise, 4 * noise)
    rows = []
    for level in noises:
        for factor in factors:
            for p in grid:
                ridge = factor * theory.best_ridge(n, p, noise=level)
                theta = np.full(p, p**-0.5)
                risk = theory.equivalent(np.ones(p), theta, n, noise=level, ridge=ridge).risk if factor or p != n else 9
                rows.append((factor, level, p, min(risk, 3.0)))
    curves = pd.DataFrame(rows, columns=["factor", "noise", "p", "risk"])
    points = summary(frame, ["factor", "p"], "risk").assign(noise=noise)

    def reading(factor: float, noise: float) -> str:
        risks = select(curves, factor=factor, noise=noise).set_index("p")["risk"]
        at = "without a ridge the risk is infinite" if factor == 0 else f"the risk is {risks[n]:.2g}"
        name = "No ridge" if factor == 0 else f"{factor:g} times the best ridge"
        return f"{name}, σ² = {noise:g}: at p = n = {n} {at}, and at p = {risks.index[-1]} it is {risks.iloc[-1]:.2g}."

    return plots.slider(
        Layer(
            select(curves, factor=0.0).drop(columns="factor"),
            x="p",
            y="risk",
            style={"color": "#999", "strokeDash": [3, 3], "clip": True},
        ),
        Layer(curves, x="p", y="risk", style={"color": GREEN, "strokeWidth": 3, "clip": True}),
        Layer(points, "circle", x="p", y="mean", style={"color": BLUE, "size": 60, "opacity": 1}),
        x=Axis(PARAMETERS, (int(low), int(high)), "log"),
        y=Axis(RISK, (0, 1.5)),
        controls={"factor": "ridge, as a multiple of the best", "noise": "variance of the noise σ²"},
        reading=reading,
        start={"factor": 1.0, "noise": noise},
    )


# --- spectra and features ---------------------------------------------------------------------------------------------


def spectra(frame: pd.DataFrame, noise: float) -> dict[str, Any]:
    """Excess risk of six spectra against n with the equivalent; and the noise's part against its bound."""
    figure, (left, right) = plots.panels(2, height=3.9)
    names = list(dict.fromkeys(frame["spectrum"]))
    for i, name in enumerate(names):
        part, color = frame[frame["spectrum"] == name], f"C{i}"
        plots.points(left, part, "n", "risk", name, color, plots.MARKERS[i])
        curve = part.groupby("n")["equivalent"].first()
        left.plot(curve.index, curve, color=color)
        means = part.groupby("n")[["variance", "bound"]].mean()
        right.plot(means["bound"], means["variance"], plots.MARKERS[i], color=color, markersize=6)
    left.axhline(noise, color=GREY, linestyle=":", linewidth=1)
    left.set(xscale="log", yscale="log", xticks=sorted(frame["n"].unique()), xticklabels=sorted(frame["n"].unique()))
    left.minorticks_off()
    plots.label_axes(left, "samples n", RISK, "lines: equivalent, dotted: σ²")
    left.legend(fontsize=7, loc="upper center", bbox_to_anchor=(0.5, -0.18), ncols=2)
    ends = np.array([frame["bound"].replace(math.inf, np.nan).min(), frame["bound"].replace(math.inf, np.nan).max()])
    right.plot(ends, ends, color=GREY, linewidth=1, label="equal")
    levels = [0.02, 0.05, 0.1, 0.2, 0.5]
    right.set(xscale="log", yscale="log", xticks=levels, xticklabels=levels, yticks=levels, yticklabels=levels)
    right.minorticks_off()
    plots.label_axes(right, "σ² (k*/n + n/R_k*)", "what the noise adds", "a point for each n").legend()
    means = frame.groupby(["spectrum", "n"])["risk"].mean()
    few, many = frame["n"].min(), frame["n"].max()
    gaps = (means / frame.groupby(["spectrum", "n"])["equivalent"].mean() - 1).abs().reset_index(name="gap")
    worst = gaps.sort_values("gap").to_dict("records")[-1]
    return {
        "figure": figure,
        "caption": "Excess risk of the least-norm fit for six spectra, mean with 95 % interval; lines are the "
        "deterministic equivalent. To the right, the part that noise adds against its bound, up to constants. The "
        f"largest gap between measured mean and equivalent is {worst['gap']:.1%} ({worst['spectrum']}, "
        f"n = {worst['n']}).",
        "alt": f"Excess risk at n = {few} and n = {many}: "
        + "; ".join(f"{name} {means[name, few]:.2g} and {means[name, many]:.2g}" for name in names)
        + ".",
        "data": frame,
    }


def features(frame: pd.DataFrame, n: int) -> dict[str, Any]:
    """Risk of random ReLU features against their number with both equivalents, for each input dimension."""
    dimensions = sorted(frame["d"].unique())
    figure, axes = plots.panels(len(dimensions), rows=2, height=2.9)
    kinds = (("risk", "ReLU features", BLUE, "o"), ("twin", "Gaussian features", ORANGE, "s"))
    for upper, lower, d in zip(axes, axes[len(dimensions) :], dimensions, strict=False):
        part = frame[frame["d"] == d]
        away = part[(part["N"] - n).abs() > n / 8]  # next to the threshold the mean is far above any limit
        for column, name, color, marker in kinds:
            plots.points(upper, part, "N", column, name, color, marker)
            plots.points(lower, away.assign(ratio=away[column] / away["equivalent"]), "N", "ratio", "", color, marker)
        means = part.groupby("N")[["equivalent", "gaussian"]].mean()
        for i, side in enumerate((means[means.index < n], means[means.index > n])):
            upper.plot(side["equivalent"], color=GREY, label="" if i else "equivalent, exact covariance")
            upper.plot(side["gaussian"], color=RED, linestyle="--", label="" if i else "Gaussian equivalent")
            far = side[(side.index - n > n / 8) | (n - side.index > n / 8)]
            lower.plot(far["gaussian"] / far["equivalent"], color=RED, linestyle="--")
        lower.axhline(1, color=GREY, linewidth=1)
        upper.set(yscale="log")
        for ax in (upper, lower):
            _log_ticks(ax, part["N"].min(), part["N"].max())
            _threshold(ax, n)
        first_column = d == dimensions[0]
        plots.label_axes(upper, "", RISK if first_column else "", f"d = {d}, n = {n}")
        plots.label_axes(lower, "random features N", "over the equivalent" if first_column else "").set_ylim(0.7, 1.25)
    axes[0].legend(fontsize=7)
    d, last = dimensions[0], frame["N"].max()
    first = frame[frame["d"].eq(d) & frame["N"].lt(n)].groupby("N")["risk"].mean().min()
    end = frame[frame["d"].eq(d) & frame["N"].eq(last)].mean(numeric_only=True)
    return {
        "figure": figure,
        "caption": "Excess risk of least-norm regression on N random ReLU features of Gaussian inputs in d dimensions, "
        "mean with 95 % interval, and on Gaussian features of the same covariance. Lines are the deterministic "
        "equivalent for the weights drawn, with the exact covariance and with that of the Gaussian equivalent. Below: "
        "the same over the former, away from the threshold.",
        "alt": f"At d = {d} the risk is {first:.2g} at best below N = {n}, peaks there, and falls to {end['risk']:.2g} "
        f"at N = {last}; the equivalent says {end['equivalent']:.2g}, the Gaussian one {end['gaussian']:.2g}.",
        "data": frame,
    }


def images(by_features: pd.DataFrame, by_samples: pd.DataFrame, title: str, test: int) -> dict[str, Any]:
    """Test error against the number of features, and against the number of samples."""
    figure, (left, right) = plots.panels(2, height=3.9)
    n, count = by_features["n"].iloc[0], by_samples["N"].iloc[0]
    for ax, frame, x, place, at in (
        (left, by_features, "N", "random features N", n),
        (right, by_samples, "n", "training rows n", count),
    ):
        curve = frame["fit"] + np.where(frame["share"] > 0, frame["share"].map(", {:.0%} redrawn".format), "")
        plots.bands(ax, frame.assign(curve=curve), x=x, y="error", hue="curve", trials=test)
        _log_ticks(ax, frame[x].min(), frame[x].max())
        _threshold(ax, at)
        plots.label_axes(ax, place, "test error", f"{title}, {'n' if x == 'N' else 'N'} = {at:,}")
    left.legend(fontsize=7, loc="upper center", bbox_to_anchor=(0.5, -0.18))
    means = by_features.groupby(["fit", "share", "N"])["error"].mean()
    tuned = means["tuned ridge", by_features["share"].max()]
    at = min(tuned.index, key=lambda count: abs(count - n))
    seen = []
    for share in sorted(by_features["share"].unique()):
        plain = means["least norm", share]
        under = plain[plain.index < n]
        seen.append(
            f"with {share:.0%} of labels redrawn {under.min():.3f} at best below N = {n}, {plain.max():.2f} at "
            f"N = {plain.idxmax()}, {plain.iloc[-1]:.3f} at N = {plain.index[-1]}"
        )
    return {
        "figure": figure,
        "caption": "Test error of regression on random ReLU features of images, of least norm or with a ridge tuned by "
        "generalized cross-validation, against the number of features and, with the number of features fixed, against "
        f"the number of training rows. Mean with 95 % interval, {test:,} test rows.",
        "alt": f"Test error of the least-norm fit: {'; '.join(seen)}. With the tuned ridge and "
        f"the noisier labels {tuned[at]:.3f} at N = {at}.",
        "data": pd.concat([by_features, by_samples]),
    }


# --- time, aliases, cut-offs ------------------------------------------------------------------------------------------


def epochs(frame: pd.DataFrame, noise: float) -> dict[str, Any]:
    """Risk along gradient descent, measured and exact, with its bias and variance."""
    figure, (ax,) = plots.panels(1, width=5.5, height=3.4)
    shown = frame[frame["steps"] > 0]
    plots.points(ax, shown, "steps", "risk", "measured", BLUE)
    means = shown.groupby("steps")[["exact", "bias", "variance"]].mean()
    for column, style, name in (("exact", "-", "closed form"), ("bias", "--", "bias"), ("variance", ":", "variance")):
        ax.plot(means.index, means[column], style, color=GREY, label=name)
    ax.set_xscale("log")
    plots.label_axes(ax, "steps of gradient descent", RISK, f"σ² = {noise:g}").legend()
    risk = frame.groupby("steps")["risk"].mean()
    early = risk[: risk[risk.index < 20].idxmin()]
    later = risk[early.index[-1] :]
    gap = (risk / frame.groupby("steps")["exact"].mean() - 1).abs().max()
    return {
        "figure": figure,
        "caption": "Excess risk along gradient descent on least squares with fast and slow directions: run with "
        f"{frame['seed'].nunique()} draws of the features (mean with 95 % interval), and in closed form.",
        "alt": f"The risk falls to {early.iloc[-1]:.2f} at step {early.index[-1]}, rises to {later.max():.2f} at step "
        f"{later.idxmax()} and falls to {risk.iloc[-1]:.2f} at step {risk.index[-1]:,}. The closed form "
        f"is off by at most {gap:.1%}.",
        "data": frame,
    }


def aliases(frame: pd.DataFrame, n: int, copies: int) -> dict[str, Any]:
    """Survival and contamination against how fast the weights of the waves fall."""
    figure, (ax,) = plots.panels(1, width=5.5, height=3.0)
    for column, color in (("survival", BLUE), ("contamination", RED)):
        ax.plot(frame["exponent"], frame[column], "o", color=color, label=column)
        ax.plot(frame["exponent"], frame[f"{column}_formula"], color=color, label="formula")
    plots.label_axes(ax, "exponent of the weights", "share of the signal", f"n = {n}, p = {n * copies}").legend()
    first, last = frame.iloc[0], frame.iloc[-1]
    gap = max((frame[name] - frame[f"{name}_formula"]).abs().max() for name in ("survival", "contamination"))
    return {
        "figure": figure,
        "caption": f"A constant on {n} regular points, fitted by {n * copies} waves whose weights fall as (1 + |k|) to "
        "the power −exponent: the share that is kept, and the root of the power that goes to the aliases. Dots: the "
        "fit; lines: the formulas.",
        "alt": f"With equal weights {first['survival']:.2g} of the signal survives and {first['contamination']:.2g} "
        f"contaminates; at exponent {last['exponent']:g} {last['survival']:.4f} survives. The formulas "
        f"are off by at most {gap:.0e}.",
        "data": frame,
    }


def cut_offs(frame: pd.DataFrame, n: int, sigma: float) -> dict[str, Any]:
    """Median error against p for each cut-off of `lstsq`, in two bases."""
    figure, axes = plots.panels(2, height=3.6)
    middle = frame.groupby(["basis", "cut", "p"])["error"].median()
    styles: Mapping[str, tuple[str, str]] = {
        cut: (color, style)
        for cut, color, style in zip(study.CUTS, (GREY, BLUE, ORANGE, RED), ("-", "--", "-", "-"), strict=True)
    }
    for ax, basis in zip(axes, study.BASES, strict=True):
        for cut, (color, style) in styles.items():
            ax.loglog(middle[basis, cut], style, color=color, label=f"rcond: {cut}")
        _threshold(ax, n)
        plots.label_axes(ax, PARAMETERS, f"median of {ERROR}" if ax is axes[0] else "", basis)
    axes[0].legend(fontsize=7)
    heights = {(b, c): math.log10(middle[b, c][n]) for b in study.BASES for c in study.CUTS}
    return {
        "figure": figure,
        "caption": f"Median error of fits to {n} noisy points (standard deviation {sigma:g}) by numpy.linalg.lstsq "
        f"over {frame['seed'].nunique()} data sets, for several cut-offs: singular values below rcond times the "
        "largest are set to 0. The default is the machine precision times the larger side of the matrix.",
        "alt": "Power of ten of the median error at p = n: "
        + "; ".join(f"{basis}, rcond {cut}: {power:.0f}" for (basis, cut), power in heights.items())
        + ".",
        "data": frame,
    }
