"""The chapter's figures. Each function returns what `show` takes: figure, caption, alternative text, data, a chart."""

import json
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from phenomena.chapters.tempered_overfitting import theory
from phenomena.chapters.tempered_overfitting.study import first_below
from phenomena.science import plots
from phenomena.science.frames import select, summary
from phenomena.science.plots import Axis, Layer

NOISE, ERROR, FRACTION = "fraction p of flipped labels", "clean error", "fraction that interpolates"
KERNELS = {"laplace": "Laplace", "relu_ntk": "tangent kernel", "gaussian": "Gaussian"}
POINTS = 1000  # on which a network is tested; those of L-BFGS on twice as many, those on a line exactly
WRONG = "#d55e00"  # the colour of wrong labels and of wrong answers
NETWORK = "#444444"  # the colour of networks on a line
DEPTH, MIDDLE, GAP = 420, 150, 60  # pixels of the moving figure: its height, that of its upper part, between the two
TOP = 0.7  # of the errors on the line
TICKS = (-10, -1, 0, 1, 10)  # of the compressed scale
LAWS = {"p": (1, ":", [2, 3]), "p²": (2, "--", [7, 4])}  # power of p, its dashes, and those of Vega-Lite


def territory(
    x: Float[Tensor, " m"],
    y: Float[Tensor, "f m"],
    found: Sequence[theory.MinNorm],
    exact: pd.DataFrame,
    networks: pd.DataFrame,
) -> dict[str, Any]:
    """The network of least norm as one label after another is flipped, and what that costs beside other interpolators.

    y: row k with k flipped labels; found: the network for each row.
    exact: the rows of `study.exact_errors`; networks: those of `study.train_by_descent`, of which the highest d counts.
    """
    m, high = len(x), networks["d"].max()
    pieces = {k: [q[0].numpy() for q in theory.pieces(one.net)] for k, one in enumerate(found) if one.converged}
    wrong = {k: theory.negative_intervals(*parts) for k, parts in pieces.items()}
    own = pd.DataFrame([(k, k / m, np.diff(parts).sum()) for k, parts in wrong.items()], columns=["k", "p", "mean"])
    paths = pd.concat(_compressed(*parts).assign(k=k) for k, parts in pieces.items())
    spans = pd.concat(pd.DataFrame(parts, columns=["x", "x2"]).assign(k=k, y=-1, y2=1) for k, parts in wrong.items())
    points = pd.DataFrame({"x": x, "first": len(y) - (y < 0).sum(0)})  # the k from which on the label is flipped
    means = {
        "mean on a line": summary(exact, "p", "max_margin", bounds=(0, 1)).dropna(),
        f"mean at d = {high:,}": summary(networks[networks["d"] == high], "p", "error", trials=POINTS).dropna(),
    }
    curves = {f"{name} (n = {rows['n'].min()})": rows for name, rows in means.items() if len(rows)}
    at = min(pieces, key=lambda k: abs(k / m - 0.2))
    error, (_, many) = own.set_index("k")["mean"][at], means.values()
    there = ", ".join(f"{e:.3f} at p = {p:g}" for p, e in zip(many["p"], many["mean"], strict=True))
    return {
        "figure": _still_territory(
            points, paths[paths["k"] == at], spans[spans["k"] == at], own[own["k"] <= at], curves
        ),
        "caption": f"Above: {m} points on a line, and the network N(x) of least norm with margin 1 at each of them. "
        "Where it is negative (shaded) its answer is wrong. Its scale is compressed to N / (1 + |N|), since N grows "
        "large between the points. Below: the shaded share of the line, as a dot; the mean clean error of such "
        f"networks on {exact['seed'].nunique()} other data sets, and of networks trained in {high:,} dimensions, each "
        "with its 95 % interval; dotted, the expected error of the nearest neighbour. In the moving figure, the slider "
        "flips one label after another.",
        "alt": f"With {at} of {m} labels flipped the network on the line is negative around the flipped points, on "
        f"{error:.0%} of the line. The mean error on a line follows p; in {high:,} dimensions it is {there}.",
        "data": pd.concat([own.assign(curve="the data set drawn"), *(r.assign(curve=c) for c, r in curves.items())]),
        "interactive": _moving_territory(points, paths, spans, own, curves, at),
    }


def _compress(values: Any) -> Any:
    """N / (1 + |N|): from -1 to 1, with the margins N = -1 and 1 halfway."""
    return values / (1 + np.abs(values))


def _compressed(knots: np.ndarray, values: np.ndarray) -> pd.DataFrame:
    """Close points (x, y) of a function compressed, which is linear between its knots before: evenly spaced in y."""
    ends = _compress(values)
    counts = 2 + (20 * np.abs(np.diff(ends))).astype(int)
    y = np.concatenate([np.linspace(a, b, n) for (a, b), n in zip(pairwise(ends), counts, strict=True)])
    x, low, run, rise = (np.repeat(v, counts) for v in (knots[:-1], values[:-1], np.diff(knots), np.diff(values)))
    return pd.DataFrame({"x": x + run * (y / (1 - np.abs(y)) - low) / np.where(rise == 0, 1, rise), "y": y})


def _still_territory(
    points: pd.DataFrame, path: pd.DataFrame, spans: pd.DataFrame, own: pd.DataFrame, curves: Mapping[str, pd.DataFrame]
) -> Figure:
    """What `_moving_territory` shows at the last row of `own`, to be read at half the width of a page."""
    figure, (upper, lower) = plots.panels(1, 2, width=4.2, height=2.3)
    for number, (start, end) in enumerate(zip(spans["x"], spans["x2"], strict=True)):
        upper.axvspan(start, end, color=WRONG, alpha=0.25, linewidth=0, label="" if number else "wrong answer")
    upper.plot(path["x"], path["y"], color=NETWORK)
    upper.axhline(0, color=NETWORK, linewidth=0.8)
    flipped = points["first"] <= own["k"].iloc[-1]
    upper.plot(points["x"][~flipped], 0.5 + 0 * points["x"][~flipped], "o", color="C0", label="true label")
    upper.plot(points["x"][flipped], 0 * points["x"][flipped] - 0.5, "X", color=WRONG, ms=7, label="flipped label")
    upper.set(xlim=(0, 1), ylim=(-1, 1), yticks=[_compress(n) for n in TICKS], yticklabels=TICKS)
    upper.grid(False)
    plots.label_axes(upper, "x", "N(x)")
    upper.legend(loc="lower center", bbox_to_anchor=(0.45, 1), ncols=3, columnspacing=1, handletextpad=0.4)
    lower.plot([0, 0.5], [0, 0.5], color="0.4", linestyle=":", label="p: nearest neighbour")
    for tone, (name, rows) in zip((NETWORK, "C2"), curves.items(), strict=False):
        lower.plot(rows["p"], rows["mean"], color=tone, label=name)
        lower.fill_between(rows["p"], rows["low"], rows["high"], color=tone, alpha=0.2, linewidth=0)
    lower.plot(own["p"], own["mean"], "o-", color=WRONG, linewidth=1, markersize=9, markevery=[-1], label="line above")
    lower.set(xlim=(0, 0.5), ylim=(0, TOP))
    plots.label_axes(lower, NOISE, ERROR).legend(loc="upper left")
    return figure


def _moving_territory(
    points: pd.DataFrame,
    paths: pd.DataFrame,
    spans: pd.DataFrame,
    own: pd.DataFrame,
    curves: Mapping[str, pd.DataFrame],
    start: int,
) -> Any:
    """The network above and its error below, at the number k of flipped labels that the slider gives as p."""
    import altair as alt  # a second of import that only notebooks with such a chart need

    m, errors = len(points), own.set_index("k")["mean"]

    def reading(k: int) -> str:
        if k not in errors:
            return f"p = {k / m:.3g}: with {k} of {m} labels flipped, the linear programme was not solved."
        means = [f"{name}: {e:.3f}" for name, rows in curves.items() for e in select(rows, p=k / m)["mean"]]
        seen = f"p = {k / m:.3g}: with {k} of {m} labels flipped, the network is wrong on {errors[k]:.0%} of the line."
        return " ".join([seen, *(["Clean error, " + ", ".join(means) + "."] if means else [])])

    words = ["true label", "flipped label, wrong answer", "nearest neighbour: p", *curves]
    inks = ["#0173b2", WRONG, "#777777", NETWORK, "#029e73"][: len(words)]
    key = alt.Color("label:N", title=None, legend=alt.Legend(columns=1)).scale(domain=words, range=inks)
    here, inverse = "datum.k == p", "round(datum.value / (1 - abs(datum.value)))"
    # one view, so that it takes the page's width: the upper part has the first pixels of its height for range
    place = alt.X("x:Q", title="x").scale(domain=[0, 1]).axis(offset=MIDDLE - DEPTH, grid=False, tickCount=5)
    height = alt.Y("y:Q", title="N(x)").scale(domain=[-1, 1], range=[MIDDLE, 0])
    height = height.axis(values=[_compress(n) for n in TICKS], labelExpr=inverse, grid=False, orient="left")
    shown = alt.Chart(points).transform_calculate(
        y="datum.first <= p ? -0.5 : 0.5", label=f"datum.first <= p ? '{words[1]}' : '{words[0]}'"
    )
    rect = alt.Chart(spans).mark_rect(color=WRONG, opacity=0.25)
    upper = alt.layer(
        rect.encode(place, height, x2="x2:Q", y2="y2:Q").transform_filter(here),
        alt.Chart(paths).mark_line(color=NETWORK).encode(place, height).transform_filter(here),
        alt.Chart(pd.DataFrame({"y": [0]})).mark_rule(color=NETWORK).encode(height),
        shown.mark_circle(size=90, opacity=1).encode(place, height, key),
    )
    share = alt.X("p:Q", title=NOISE).scale(domain=[0, 0.5]).axis(orient="bottom", grid=False, tickCount=5)
    error = alt.Y("mean:Q", title=ERROR).scale(domain=[0, TOP], range=[DEPTH, MIDDLE + GAP])
    error, low = error.axis(orient="left", tickCount=5), alt.Y("low:Q", title=ERROR)
    neighbour = alt.Chart(pd.DataFrame({"p": [0, 0.5], "mean": [0, 0.5]})).mark_line(color=inks[2], strokeDash=[2, 3])
    toned = [(alt.Chart(rows), tone) for rows, tone in zip(curves.values(), inks[3:], strict=True)]
    lower = alt.layer(
        neighbour.encode(share, error),
        *(chart.mark_area(color=tone, opacity=0.2).encode(share, low, y2="high:Q") for chart, tone in toned),
        *(chart.mark_line(color=tone).encode(share, error) for chart, tone in toned),
        alt.Chart(own).mark_line(color=WRONG, strokeWidth=1).encode(share, error).transform_filter("datum.k <= p"),
        alt.Chart(own).mark_circle(color=WRONG, size=150, opacity=1).encode(share, error).transform_filter(here),
    )
    both = alt.layer(upper, lower).resolve_scale(x="independent", y="independent").properties(height=DEPTH)
    stops = range(m // 2 + 1)
    return both.add_params(
        alt.param(name="p", value=start, bind=alt.binding_range(min=0, max=stops[-1], step=1, name=NOISE)),
        alt.param(name="p_ticks", value=[f"{k / m:.3g}" for k in stops]),
        alt.param(name="reading", expr=f"{json.dumps([reading(k) for k in stops])}[p]"),
    )


def dimensions(frame: pd.DataFrame) -> dict[str, Any]:
    """Clean error against label noise, a line a dimension, and how many networks interpolate."""
    shown = frame.sort_values("d", kind="stable").assign(dimension=lambda f: "d = " + f["d"].astype(str))
    figure, (left, right) = plots.panels(2, height=4.0)
    plots.bands(left, shown, x="p", y="error", hue="dimension", trials=POINTS)
    levels = np.linspace(0, frame["p"].max(), 26)
    for law, (power, dashes, _) in LAWS.items():
        left.plot(levels, levels**power, color="0.4", linestyle=dashes, label=law)
    plots.label_axes(left, NOISE, ERROR, f"m = {frame['m'].iloc[0]}, networks that interpolate").legend(fontsize=7)
    _who_counts(right, shown, "dimension")
    met = frame[frame["p"] > 0].groupby("d")["interpolates"].max()
    never = f" None interpolates at d = {', '.join(map(str, met.index[met == 0]))}." if (met == 0).any() else ""
    ends = select(frame, p=0.2).groupby("d")["error"].mean().dropna()
    return {
        "figure": figure,
        "caption": "Clean error of networks that interpolate, and the fraction of networks that does, against the "
        "fraction p of flipped labels, for each dimension d; in the moving figure for one dimension at a time, with "
        "single networks as dots and the errors of the other dimensions in grey. Dotted p, dashed p²; bands are 95 % "
        f"intervals of the mean. n, in a legend, is the smallest number over p.{never}",
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
        controls={"d": f"dimension d, {dimension[0]:,} to {dimension[-1]:,}"},
        reading=reading,
        start={"d": dimension[len(dimension) // 2]},
    )


def scaling(frame: pd.DataFrame, affine: pd.DataFrame) -> dict[str, Any]:
    """Clean error against the dimension for several numbers of points, and of affine functions for one of them."""
    m, p = affine["m"].iloc[0], frame["p"].iloc[0]
    means = affine.groupby("d")["error"].mean()
    shown = frame.sort_values("m", kind="stable").assign(
        ratio=frame["d"] / frame["m"] ** 2, points=lambda f: "m = " + f["m"].astype(str)
    )
    figure, (left, right) = plots.panels(2, height=3.6)
    left.plot(means.index, means, color="0.4", linestyle=":", label=f"affine, m = {m} (n = {affine['seed'].nunique()})")
    for ax, x, name in ((left, "d", "dimension d"), (right, "ratio", "d / m²")):
        plots.bands(ax, shown, x=x, y="error", hue="points", trials=POINTS)
        ax.set_xscale("log")
        plots.label_axes(ax, name, ERROR, f"p = {p:g}")
    left.legend(fontsize=7)
    first = first_below(shown, p / 4)
    found = ", ".join(f"{d} for m = {m}" for m, d in first.items() if d is not None) or "none"
    above = ", ".join(str(m) for m, d in first.items() if d is None)
    note = f" It is never below that for m = {above}." if above else ""
    return {
        "figure": figure,
        "caption": "Clean error against the dimension d and against d/m², for several numbers m of points; in the "
        "moving figure against d/mᵏ, with k to choose. Lines are means, bands 95 % intervals. First dimension of the "
        f"grid at which the error is below {p / 4:g}: {found}.{note} Dotted: least-norm affine functions, m = {m}.",
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
    levels = np.linspace(0, errors["p"].max(), 26)
    figure, (left, right) = plots.panels(2, height=3.4)
    solved = shown["rule"].isin(rules.values())
    for ax, part, title in ((left, shown[solved], f"exact, m = {m}"), (right, shown[~solved], "found by search")):
        plots.bands(ax, part, x="p", y="error", hue="rule", bounds=(0, 1))
        ax.plot(levels, levels, color="0.4", linestyle=":", label="p")
        ax.plot(
            levels, [theory.two_flips_law(p, m) for p in levels], color="0.4", linestyle="--", label="law of two flips"
        )
        plots.label_axes(ax, NOISE, ERROR, title).set(xlim=(0, None), ylim=(0, 0.6))
        ax.legend(loc="upper left")
    left.lines[1].set(linestyle="none", markerfacecolor="none", markersize=9)  # it lies on the line before it
    apart = (errors["max_margin"] - errors["nearest_neighbour"]).abs().max()
    failed, missing = int(errors["max_margin"].isna().sum()), int((kkt["interpolates"] == 0).sum())
    return {
        "figure": figure,
        "caption": "Clean error in one dimension, mean and 95 % interval. Exact interpolators, with the expected "
        "errors p of the nearest neighbour and, close to p², of the rule of two flips; networks trained by L-BFGS, "
        f"where they interpolate, and KKT points. {failed} of {len(errors)} linear programmes and {missing} of "
        f"{len(kkt)} KKT searches did not converge and are left out.",
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
    plots.label_axes(left, NOISE, ERROR, title).legend(fontsize=7, loc="upper left")
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
        "initialization, with the limits of the max-margin network without bias. Mean and 95 % interval; n is the "
        "smallest number over p.",
        "alt": f"Clean error of networks that interpolate: {'; '.join(seen)}.",
        "data": frame,
    }


def kernels(frame: pd.DataFrame, rates: pd.DataFrame, p: float) -> dict[str, Any]:
    """Excess risk of kernel regression against n, with the regime of each curve."""
    regimes = rates.drop_duplicates(["data", "kernel", "ridge"])
    words = regimes["kernel"].map(KERNELS) + [
        f", ridge {ridge:g}" if ridge else ", no ridge" for ridge in regimes["ridge"]
    ]
    curves = regimes.assign(words=words, curve=words + ": " + regimes["regime"])
    shown = frame.assign(log=np.log10(frame["excess"])).merge(curves[["data", "kernel", "ridge", "curve"]])
    figure, axes = plots.panels(2, height=4.6)
    for ax, (data, part) in zip(axes, shown.groupby("data", sort=False), strict=True):
        plots.bands(ax, part, x="n", y="log", hue="curve")
        ax.set_xscale("log", base=2)
        plots.label_axes(ax, "training points n", "log10 of excess square risk", str(data))
        ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.17))
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
    plots.label_axes(ax, NOISE, FRACTION, "Who counts (same colours)").set_ylim(-0.05, 1.1)
    return ax
