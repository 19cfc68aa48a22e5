"""The chapter's figures. Each function returns what `show` takes: figure, caption, alternative text, data, a chart."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from matplotlib.axes import Axes
from torch import Tensor

from phenomena.chapters.tempered_overfitting import theory
from phenomena.chapters.tempered_overfitting.study import first_below
from phenomena.chapters.tempered_overfitting.two_layer import Networks, outputs
from phenomena.science import plots
from phenomena.science.frames import select, summary
from phenomena.science.plots import Axis, Layer

NOISE, ERROR, FRACTION = "fraction p of flipped labels", "clean error", "fraction that interpolates"
POINTS = 1000  # on which a network is tested; those of L-BFGS on twice as many, those on a line exactly
LAWS = {"p": (1, ":", [2, 3]), "p²": (2, "--", [7, 4])}  # power of p, its dashes, and those of Vega-Lite


def line(x: Float[Tensor, " m"], y: Float[Tensor, " m"], net: Networks) -> dict[str, Any]:
    """Noisy labels on a line and the network of least norm through them."""
    grid = torch.linspace(0, 1, 2001, dtype=torch.float64)
    values = outputs(net, grid.view(1, -1, 1))[0]
    inner = values[(grid >= x[0]) & (grid <= x[-1])]  # beyond the outer points the network may rise far
    figure, (ax,) = plots.panels(1, height=2.8)
    ax.plot(grid, values, label="max-margin network")
    ax.plot(x, y, "o", color="C1", label="training points")
    ax.axhline(0, color="0.4", linewidth=0.8)
    ax.set_ylim(min(-1.0, inner.min().item()) - 0.5, max(1.0, inner.max().item()) + 1.5)
    plots.label_axes(ax, "x", "N(x)", "The network of least norm through noisy labels").legend()
    wrong = theory.negative_fraction(net).item()
    return {
        "figure": figure,
        "caption": f"{len(x)} points on a line, some flipped to −1, and the network of least norm with margin 1 at "
        "every point, cut off where it runs far beyond the outer points. It is negative on "
        f"{wrong:.0%} of the line: the clean error of these data.",
        "alt": "A piecewise linear function through points at plus and minus one; it dips below zero around each "
        f"flipped point, on {wrong:.0%} of the line in all.",
        "data": pd.DataFrame({"x": x, "y": y}),
    }


def dimensions(frame: pd.DataFrame) -> dict[str, Any]:
    """Clean error against label noise, a line a dimension, and how many networks interpolate."""
    shown = frame.sort_values("d", kind="stable").assign(dimension=lambda f: "d = " + f["d"].astype(str))
    figure, (left, right) = plots.panels(2, height=4.0)
    plots.bands(left, shown, x="p", y="error", hue="dimension", trials=POINTS)
    levels = np.linspace(0, frame["p"].max(), 26)
    for law, (power, dashes, _) in LAWS.items():
        left.plot(levels, levels**power, color="0.4", linestyle=dashes, label=law)
    plots.label_axes(left, NOISE, ERROR, f"m = {frame['m'].iloc[0]}, networks that interpolate").legend(fontsize=7)
    _who_counts(right, shown, "dimension").legend(fontsize=7, loc="center right")
    met = frame[frame["p"] > 0].groupby("d")["interpolates"].max()
    never = f" None interpolates at d = {', '.join(map(str, met.index[met == 0]))}." if (met == 0).any() else ""
    ends = select(frame, p=0.2).groupby("d")["error"].mean().dropna()
    return {
        "figure": figure,
        "caption": "Clean error of networks that interpolate, and the fraction of networks that does, against the "
        "fraction p of flipped labels, for each dimension d. Dotted p, dashed p²; bands are 95 % intervals of the "
        "mean, and n is the smallest number over p. The interactive figure shows one dimension, with single networks "
        f"as dots and the errors of the other dimensions in grey.{never}",
        "alt": "Clean error at 0.2 flipped labels: "
        + ", ".join(f"{e:.3f} at d = {d}" for d, e in ends.items())
        + f".{never}",
        "data": frame,
        "interactive": _moving_dimensions(frame),
    }


def _moving_dimensions(frame: pd.DataFrame) -> Any:
    """One dimension at a time before the errors of all the others, in grey."""
    errors = summary(frame, ["d", "p"], "error", trials=POINTS).assign(quantity=ERROR)
    fractions = summary(frame, ["d", "p"], "interpolates", trials=1).assign(quantity=FRACTION)
    usual = min(frame.loc[frame["p"] > 0, "p"], default=0.0, key=lambda p: abs(p - 0.2))  # where numbers are read

    def reading(d: int) -> str:
        error, fraction = (select(part, d=d, p=usual)["mean"] for part in (errors, fractions))
        if not len(fraction):
            return f"d = {d}: no network was trained with {usual:.0%} of the labels flipped."
        seen = "so that there is no error to show"
        if fraction.iloc[0]:
            seen = f"with a mean clean error of {error.iloc[0]:.3f}"
        labels = f"{usual:.0%} of {frame['m'].iloc[0]} labels"
        return f"d = {d}: with {labels} flipped, {fraction.iloc[0]:.0%} of the networks interpolate, {seen}."

    met = errors.dropna(subset=["mean"])
    levels = np.linspace(0, 0.5, 26)
    laws = [
        Layer(
            pd.DataFrame({"p": levels, "y": levels**power}),
            x="p",
            style={"color": "#555", "strokeWidth": 1.5, "strokeDash": dashes},
        )
        for power, _, dashes in LAWS.values()
    ]
    few = frame[frame["seed"] < frame["seed"].min() + 20].dropna(subset=["error"])
    dimension = sorted(frame["d"].unique())
    return plots.slider(
        Layer(met, x="p", y="mean", detail="d", background=True, style={"color": "#bbb", "strokeWidth": 1}),
        *laws,
        Layer(met.dropna(subset=["low"]), "area", x="p", y="low", y2="high", style={"opacity": 0.25}),
        Layer(few, "circle", x="p", y="error", style={"opacity": 0.4}),
        Layer(pd.concat([met, fractions]), x="p", y="mean", colour="quantity", style={"point": True, "strokeWidth": 3}),
        x=Axis(NOISE, (0, 0.5)),
        y=Axis("mean over networks", (0, 1)),
        controls={"d": f"dimension d, {dimension[0]} to {dimension[-1]}"},
        reading=reading,
        start={"d": dimension[len(dimension) // 2]},
    )


def scaling(frame: pd.DataFrame, affine: pd.DataFrame) -> dict[str, Any]:
    """Clean error against the dimension for several numbers of points, and of affine functions for one of them."""
    m, p = affine["m"].iloc[0], frame["p"].iloc[0]
    means = affine.groupby("d")["error"].mean()
    shown = frame.assign(ratio=frame["d"] / frame["m"] ** 2, points="m = " + frame["m"].astype(str))
    figure, (left, right) = plots.panels(2, height=3.6)
    left.plot(means.index, means, color="0.4", linestyle=":", label=f"affine, m = {m} (n = {affine['seed'].nunique()})")
    for ax, x, name in ((left, "d", "dimension d"), (right, "ratio", "d / m²")):
        plots.bands(ax, shown, x=x, y="error", hue="points", trials=POINTS)
        ax.set_xscale("log")
        plots.label_axes(ax, name, ERROR, f"p = {p:g}")
    left.legend(fontsize=7)
    first = first_below(frame, p / 4)
    found = ", ".join(f"{d} for m = {m}" for m, d in first.items() if d is not None) or "none"
    above = ", ".join(str(m) for m, d in first.items() if d is None)
    note = f" It is never below that for m = {above}." if above else ""
    return {
        "figure": figure,
        "caption": f"Clean error against d and d/m² for several m (interactive: against d/mᵏ, with k to choose). "
        f"First dimension of the grid at which the error is below {p / 4:g}: {found}.{note} Dotted: least-norm affine "
        f"functions, m = {m}. Means, in the static figure with 95 % intervals.",
        "alt": f"Curves of clean error fall with dimension, later for more points; below {p / 4:g} at dimension "
        f"{found}.{note} The affine function's error peaks at {means.max():.2f} for d = {means.idxmax()}.",
        "data": frame,
        "interactive": _moving_scaling(frame, affine, first),
    }


def _moving_scaling(frame: pd.DataFrame, affine: pd.DataFrame, first: Mapping[int, int | None]) -> Any:
    """The errors against d / m^k, for an exponent k to choose."""
    threshold = frame["p"].iloc[0] / 4
    exponents = [i / 10 for i in range(21)]
    networks, functions = (part.groupby(["m", "d"])["error"].mean().reset_index() for part in (frame, affine))
    networks = networks.dropna().assign(points="m = " + networks["m"].astype(str))

    def moved(rows: pd.DataFrame) -> pd.DataFrame:
        return pd.concat(rows.assign(k=k, x=rows["d"] / rows["m"] ** k) for k in exponents)

    def reading(k: float) -> str:
        places = [d / m**k for m, d in first.items() if d is not None]
        if len(places) < 2:
            return f"k = {k:.1f}: the error does not fall below {threshold:g} for two of the numbers of points."
        low, high = min(places), max(places)
        span = f"from {_two_digits(low)} to {_two_digits(high)}, a factor {high / low:.1f} apart"
        return f"k = {k:.1f}: the error falls below {threshold:g} {span}."

    return plots.slider(
        Layer(moved(functions), y="error", style={"color": "#555", "strokeDash": [2, 3]}),
        Layer(moved(networks), y="error", colour="points", style={"point": {"size": 50, "filled": True}}),
        x=Axis("d / mᵏ", scale="log"),
        y=Axis(ERROR),
        controls={"k": "exponent k of d / mᵏ, 0 to 2"},
        reading=reading,
        start={"k": 1.0},
    )


def _two_digits(number: float) -> str:
    """Two significant digits, without an exponent for large numbers."""
    return f"{float(f'{number:.2g}'):,.10g}"


def exact(errors: pd.DataFrame, trained: pd.DataFrame, kkt: pd.DataFrame, m: int) -> dict[str, Any]:
    """Clean error in one dimension: exact interpolators of m points, trained networks and KKT points of fewer."""
    rules = {"max_margin": "max-margin", "nearest_neighbour": "nearest neighbour", "two_flips": "two flips"}
    shown = pd.concat(
        [
            errors.rename(columns=rules).melt(["p", "seed"], list(rules.values()), "rule", "error"),
            trained.assign(rule="trained, m = " + trained["m"].astype(str)),
            kkt.assign(rule="KKT point, m = " + kkt["m"].astype(str)),
        ]
    )
    levels = sorted(errors["p"].unique())
    figure, (ax,) = plots.panels(1, height=3.8)
    plots.bands(ax, shown, x="p", y="error", hue="rule", bounds=(0, 1))
    ax.plot(levels, levels, color="0.4", linestyle=":", label="p (nearest neighbour, exact)")
    law = [theory.two_flips_law(p, m) for p in levels]
    ax.plot(levels, law, color="0.4", linestyle="--", label="law of two flips")
    plots.label_axes(ax, NOISE, ERROR, f"One dimension, m = {m}").legend(fontsize=8)
    apart = (errors["max_margin"] - errors["nearest_neighbour"]).abs().max()
    failed, missing = int(errors["max_margin"].isna().sum()), int((kkt["interpolates"] == 0).sum())
    return {
        "figure": figure,
        "caption": f"Clean error in one dimension: exact interpolators, networks trained by L-BFGS (those that "
        f"interpolate) and KKT points. {failed} of {len(errors)} linear programmes and {missing} of {len(kkt)} KKT "
        "searches did not converge and are left out. Mean and 95 % interval.",
        "alt": "In one dimension the max-margin network and the nearest neighbour both follow the line p; the rule of "
        f"two adjacent flips follows p squared. Largest difference of the first two: {apart:.1g}.",
        "data": shown,
    }


def bias(frame: pd.DataFrame) -> dict[str, Any]:
    """Clean error with and without bias, from a small and from the usual initialisation. frame: with a column arm."""
    levels = np.linspace(0, frame["p"].max(), 101)
    figure, (left, right) = plots.panels(2, height=3.6)
    plots.bands(left, frame, x="p", y="error", hue="arm", trials=POINTS)
    for ties, dashes, name in ((False, ":", "limit without bias"), (True, "--", "the same, ties divided evenly")):
        limits = [theory.bias_free_limit(p, ties) for p in levels]
        left.plot(levels, limits, color="0.4", linestyle=dashes, label=name)
    left.set_ylim(-0.02, 0.9)
    title = f"d = {frame['d'].iloc[0]}, m = {frame['m'].iloc[0]}"
    plots.label_axes(left, NOISE, ERROR, title).legend(fontsize=6, loc="upper left")
    _who_counts(right, frame, "arm")
    means = summary(frame, ["p", "arm"], "error", trials=POINTS).dropna(subset=["mean"])
    seen = [
        f"with {p:.0%} of the labels flipped " + ", ".join(f"{r['mean']:.3f} {r['arm']}" for _, r in part.iterrows())
        for p in (0.01, 0.2)
        if len(part := select(means, p=p))
    ]
    return {
        "figure": figure,
        "caption": "Clean error of networks that interpolate, with and without bias, from a small and from the usual "
        "initialisation, with the limits of the max-margin network without bias. Mean and 95 % interval; n is the "
        "smallest number over p.",
        "alt": f"Clean error of networks that interpolate: {'; '.join(seen)}.",
        "data": frame,
    }


def kernels(frame: pd.DataFrame, rates: pd.DataFrame, p: float) -> dict[str, Any]:
    """Excess risk of kernel regression against n, with the regime of each curve."""
    regimes = rates.drop_duplicates(["data", "kernel", "ridge"])
    words = regimes["kernel"] + [f", ridge {ridge:g}" for ridge in regimes["ridge"]]
    curves = regimes.assign(words=words, curve=words + ": " + regimes["regime"])
    shown = frame.assign(log=np.log10(frame["excess"])).merge(curves[["data", "kernel", "ridge", "curve"]])
    figure, axes = plots.panels(2, height=3.8)
    for ax, (data, part) in zip(axes, shown.groupby("data", sort=False), strict=True):
        plots.bands(ax, part, x="n", y="log", hue="curve")
        ax.set_xscale("log", base=2)
        plots.label_axes(ax, "training points n", "log10 of excess square risk", str(data)).legend(fontsize=6.5)
    axes[0].axhline(np.log10(theory.tempered_excess(p, 3)), color="0.4", linestyle=":")
    verdicts = "; ".join(f"{r['words']}, {r['data']}: {r['regime']}" for _, r in curves.iterrows())
    return {
        "figure": figure,
        "caption": f"Excess square risk of kernel regression with p = {p:g}; the regime in the legend follows the rule "
        "stated above. Dotted: the estimate of Mallinar et al. for ridgeless Laplace and tangent kernels on the "
        f"sphere. Largest residual without ridge: {select(regimes, ridge=0.0)['residual'].max():.1g}. Mean and 95 % "
        f"interval over {frame['seed'].nunique()} seeds.",
        "alt": f"Excess risk against n by kernel. {verdicts}.",
        "data": frame,
    }


def _who_counts(ax: Axes, frame: pd.DataFrame, hue: str) -> Axes:
    plots.bands(ax, frame, x="p", y="interpolates", hue=hue, trials=1)
    plots.label_axes(ax, NOISE, FRACTION, "Who counts").set_ylim(-0.05, 1.1)
    return ax
