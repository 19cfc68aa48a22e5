"""The chapter's figures. Each function returns what `show` takes: figure, caption, alternative text, data, a chart."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib.figure import Figure

from phenomena.chapters.criticality import theory
from phenomena.science import plots
from phenomena.science.frames import select, summary

WORDS = {"relu": "ReLU", "leaky": "leaky ReLU", "linear": "linear", "tanh": "tanh", "sin": "sine", "gelu": "GELU",
         "silu": "SiLU"}  # fmt: skip
PATHS = 50  # drawn in the fan
BINS = np.linspace(-4, 4, 26)  # of outputs, in standard deviations
HEIGHT, MIDDLE, GAP = 380, 190, 60  # pixels of the moving figure: its height, that of its upper part, between the two
BLUE, GREY, RED = "#0173b2", "#555555", "#d55e00"
FACTOR, LAYER, KERNEL = "$C_W$ over its critical value", "layer", "kernel K"
Fan = Mapping[tuple[str, float], Float[np.ndarray, "l networks"]]


def _normal(x: Any) -> Any:
    return np.exp(-(x**2) / 2) / math.sqrt(2 * math.pi)


# --- the key figure ---------------------------------------------------------------------------------------------------


def outputs(kernel: Float[np.ndarray, " networks"], seed: int, each: int = 16) -> Float[np.ndarray, " b"]:
    """Histogram of outputs N(0, K) over networks, in units of their standard deviation, as a density over `BINS`."""
    g = np.random.default_rng(seed)
    z = np.sqrt(kernel)[:, None] * g.standard_normal((len(kernel), each))
    return np.histogram(z / np.sqrt((z**2).mean()), BINS)[0] / z.size / (BINS[1] - BINS[0])


def fan(found: Fan, width: int, seed: int) -> dict[str, Any]:
    """Fifty paths of the kernel through random networks, and the outputs of two thousand.

    found: kernels by activation and factor, as `study.fan` returns them.
    """
    acts, factors = list(dict.fromkeys(a for a, _ in found)), sorted({f for _, f in found})
    depth = len(next(iter(found.values()))) - 1
    stops = [d for d in (1, 2, 4, 8, 16, 32, 64, 128, 256) if d <= depth]
    rows = [
        {"activation": a, "factor": f, "depth": d, "median": np.median(found[a, f][d]),
         "low": np.quantile(found[a, f][d], 0.05), "high": np.quantile(found[a, f][d], 0.95),
         "kurtosis": 3 * (found[a, f][d] ** 2).mean() / found[a, f][d].mean() ** 2}
        for a in acts for f in factors for d in stops
    ]  # fmt: skip
    table = pd.DataFrame(rows)
    middle = select(table, activation=acts[0], factor=1.0, depth=stops[-1]).iloc[0]
    count = next(iter(found.values())).shape[1]
    return {
        "figure": _still_fan(found, acts[0], width, stops, seed),
        "caption": f"Above: the kernel, the variance of a pre-activation, along {PATHS} random networks of width "
        f"{width}, with weights below, at and above the critical variance. Below: outputs of {count:,} networks in "
        f"units of their standard deviation, beside the Gaussian of equal variance; {WORDS[acts[0]]} at the critical "
        f"point. {count:,} networks of one seed. In the moving figure, controls set weights, depth and activation.",
        "alt": f"Fifty paths fan out with depth. At C_W critical their middle stays within a few powers of ten; below "
        f"and above they fall and rise along straight lines. The histogram of outputs is Gaussian after one layer and "
        f"after {stops[-1]} a narrow peak with heavy tails, of kurtosis {middle['kurtosis']:.0f}.",
        "data": table,
        "interactive": _moving_fan(found, acts, factors, width, stops, table, seed),
    }


def _still_fan(found: Fan, act: str, width: int, stops: Sequence[int], seed: int) -> Figure:
    factors = sorted({f for a, f in found if a == act})
    figure, parts = plt.subplots(2, 3, figsize=(7, 4.6), layout="constrained", sharey="row")
    for ax, factor in zip(parts[0], (factors[0], 1.0, factors[-1]), strict=True):
        ax.plot(found[act, factor][:, :PATHS], color=BLUE, linewidth=0.5, alpha=0.5)
        ax.set_yscale("log")
        plots.label_axes(ax, LAYER, KERNEL if ax is parts[0, 0] else "", f"$C_W$ = {factor:g} × critical")
    centers = (BINS[1:] + BINS[:-1]) / 2
    for ax, depth in zip(parts[1], (stops[0], stops[len(stops) // 2], stops[-1]), strict=True):
        ax.bar(centers, outputs(found[act, 1.0][depth], seed), width=BINS[1] - BINS[0], color=BLUE, alpha=0.6)
        ax.plot(centers, _normal(centers), color=GREY, linestyle="--", linewidth=1.2)
        title = f"{depth} layer{'s' * (depth > 1)}, L/n = {depth / width:.2g}"
        plots.label_axes(ax, "output", "density" if ax is parts[1, 0] else "", title)
    return figure


def _moving_fan(
    found: Fan,
    acts: Sequence[str],
    factors: Sequence[float],
    width: int,
    stops: Sequence[int],
    table: pd.DataFrame,
    seed: int,
) -> Any:
    """Paths above, outputs below. Columns are wide, one a combination of controls, so that the chart stays small."""
    import altair as alt  # a second of import that only notebooks with such a chart need

    names = [WORDS[a] for a in acts]
    cases = [(a, f) for a in acts for f in factors]
    depth = stops[-1]
    places = sorted({0, *stops, *(3 * s // 2 for s in stops[2:-1])})
    logs = {f"v{k}": np.log10(found[case][places][:, :PATHS]).T.round(2).ravel() for k, case in enumerate(cases)}
    paths = alt.Chart(
        pd.DataFrame({"i": np.repeat(range(PATHS), len(places)), "l": np.tile(places, PATHS)} | logs)
    ).transform_calculate(y=f"datum['v' + {_case(names, len(factors))}]")
    here = f"{json.dumps(list(stops))}[depth]"
    across = alt.X("l:Q", title=LAYER).scale(domain=[0, depth], nice=False)
    across = across.axis(offset=MIDDLE - HEIGHT, grid=False, tickCount=5)
    ends = [float(f(v.min() if f is math.floor else v.max())) for f in (math.floor, math.ceil)
            for v in [np.concatenate(list(logs.values()))]]  # fmt: skip
    up = alt.Y("y:Q", title="log10 of the kernel").scale(domain=ends, range=[MIDDLE, 0])
    up = up.axis(grid=False, orient="left", tickCount=6)
    upper = alt.layer(
        paths.mark_line(color="#cccccc", strokeWidth=0.6).encode(across, up, alt.Detail("i:N")),
        paths.mark_line(color=BLUE, strokeWidth=0.8, opacity=0.6)
        .encode(across, up, alt.Detail("i:N"))
        .transform_filter(f"datum.l <= {here}"),
    )
    centers = (BINS[1:] + BINS[:-1]) / 2
    bars = {
        f"h{k}_{j}": outputs(found[case][stop], seed).round(3)
        for k, case in enumerate(cases)
        for j, stop in enumerate(stops)
    }
    label = ["outputs of networks", "Gaussian"]
    key = alt.Color("label:N", title=None, legend=alt.Legend(columns=2)).scale(domain=label, range=[BLUE, GREY])
    along = alt.X("x:Q", title="output, in standard deviations").scale(domain=[-4, 4])
    along = along.axis(orient="bottom", grid=False)
    density = alt.Y("d:Q", title="density").scale(domain=[0, 1.2], range=[HEIGHT, MIDDLE + GAP], clamp=True)
    density = density.axis(orient="left", grid=False, tickCount=3)
    histogram = alt.Chart(pd.DataFrame({"x": centers.round(2)} | bars))
    smooth = np.linspace(-4, 4, 41)
    lower = alt.layer(
        histogram.mark_bar(size=11, opacity=0.7)
        .encode(along, density, key)
        .transform_calculate(d=f"datum['h' + {_case(names, len(factors))} + '_' + depth]", label=f"'{label[0]}'"),
        alt.Chart(pd.DataFrame({"x": smooth.round(2), "d": _normal(smooth).round(4), "label": label[1]}))
        .mark_line(strokeWidth=1.5)
        .encode(along, density, key),
    )
    both = alt.layer(upper, lower).resolve_scale(x="independent", y="independent").properties(height=HEIGHT)

    def reading(act: str, factor: float, stop: int) -> str:
        row = select(table, activation=act, factor=factor, depth=stop).iloc[0]
        return (
            f"{WORDS[act]}, C_W = {factor:g} times critical, {stop} layers of width {width} (L/n = "
            f"{stop / width:.2g}): kernel {row['median']:.2g}, nine in ten networks {row['low']:.2g} to "
            f"{row['high']:.2g}; kurtosis of the outputs {row['kurtosis']:.2g}, where a Gaussian has 3."
        )

    texts = [[[reading(a, f, stop) for stop in stops] for f in factors] for a in acts]
    return both.add_params(
        alt.param(
            name="factor", value=factors.index(1.0),
            bind=alt.binding_range(min=0, max=len(factors) - 1, step=1, name="C_W over its critical value"),
        ),
        alt.param(name="factor_ticks", value=[f"{f:g}" for f in factors]),
        alt.param(
            name="depth", value=len(stops) - 1,
            bind=alt.binding_range(min=0, max=len(stops) - 1, step=1, name="depth L"),
        ),
        alt.param(name="depth_ticks", value=[str(stop) for stop in stops]),
        alt.param(name="activation", value=names[0], bind=alt.binding_select(options=names, name="activation")),
        alt.param(
            name="reading", expr=f"{json.dumps(texts, ensure_ascii=False)}[{_index(names)}][factor][depth]"
        ),
    )  # fmt: skip


def _index(names: Sequence[str]) -> str:
    return f"indexof({json.dumps(list(names))}, activation)"


def _case(names: Sequence[str], factors: int) -> str:
    return f"({factors} * {_index(names)} + factor)"


# --- kernels ----------------------------------------------------------------------------------------------------------


def growth(frame: pd.DataFrame, act: str, width: int, c_b: float) -> dict[str, Any]:
    """Mean log kernel by layer for several C_W, with the lines of infinite width and, where exact, of this width."""
    figure, (ax,) = plots.panels(1, height=3.6)
    depth = int(frame["layer"].max())
    shown = frame[frame["layer"] % max(1, depth // 10) == 0]
    exact = act in theory.SLOPES and c_b == 0
    for i, c_w in enumerate(sorted(frame["c_w"].unique())):
        plots.points(ax, select(shown, c_w=c_w), "layer", "log_k", f"$C_W$ = {c_w:g}", f"C{i}", plots.MARKERS[i % 8])
        wide = np.log(theory.recursion(act, 1.0, depth + 1, c_w=c_w, c_b=c_b))
        ax.plot(range(depth + 1), wide, color=f"C{i}", linewidth=1, linestyle=":")
        if exact:
            ax.plot([0, depth], [0, theory.log_norm(act, width, c_w).mean * depth], color=f"C{i}", linewidth=1)
    plots.label_axes(ax, LAYER, "mean of log K over networks").legend(loc="lower left", fontsize="small")
    seeds = frame["seed"].nunique()
    lines = "Solid: exact for this width; dotted: infinite width." if exact else "Dotted: infinite width."
    ends = frame[frame["layer"] == depth].groupby("c_w")["log_k"].mean()
    return {
        "figure": figure,
        "caption": f"Mean over networks of the logarithm of the kernel by layer, {WORDS[act]}, width {width}. Points: "
        f"mean and 95 % interval over n = {seeds} seeds. {lines}",
        "alt": f"Lines from 0, one for each variance of the weights: after {depth} layers they end between "
        f"{ends.min():.1f} and {ends.max():.1f}. {'The points lie on the solid lines, below the dotted ones.' * exact}",
        "data": frame,
    }


def points(acts: Sequence[str]) -> dict[str, Any]:
    """Both susceptibilities against the kernel at each activation's critical point."""
    grid = np.geomspace(1e-2, 1e2, 60)
    figure, axes = plots.panels(len(acts), width=7.6, height=2.5)
    rows = []
    for ax, act in zip(axes, acts, strict=True):
        point = theory.critical_point(act)
        chi = np.array([theory.susceptibilities(act, k, point.c_w) for k in grid])
        ax.plot(grid, chi[:, 0], label="along, χ∥")
        ax.plot(grid, chi[:, 1], linestyle="--", label="across, χ⊥")
        ax.axhline(1, color="0.6", linewidth=0.8, linestyle=":")
        if point.kernel > 0:
            ax.axvline(point.kernel, color="0.6", linewidth=0.8, linestyle=":")
        ax.set(xscale="log", ylim=(0, 2.1))
        title = f"{WORDS[act]}: $C_W$ = {point.c_w:.4g}\n$C_b$ = {point.c_b:.4g}"
        plots.label_axes(ax, KERNEL, "factor a layer" if ax is axes[0] else "", title)
        ax.title.set_fontsize("small")
        rows += [{"activation": act, "kernel": k, "parallel": a, "perpendicular": b}
                 for k, (a, b) in zip(grid, chi, strict=True)]  # fmt: skip
    axes[0].legend(fontsize="x-small")
    return {
        "figure": figure,
        "caption": "How a wide layer multiplies a small difference along the input (χ∥) and across it (χ⊥), against "
        "the kernel, at the critical C_W of each activation. Both are 1 at the fixed point: everywhere, at 0, or at a "
        "positive kernel (vertical line). Exact to quadrature; no seeds.",
        "alt": "For ReLU both curves are 1 at every kernel. For tanh both tend to 1 as the kernel vanishes. For GELU "
        "and SiLU they cross at 1 at a positive kernel.",
        "data": pd.DataFrame(rows),
    }


def decay(frame: pd.DataFrame, width: int) -> dict[str, Any]:
    """Kernel by layer of activations with K* = 0 at and off the critical point, with the recursion."""
    acts, factors = list(frame["activation"].unique()), sorted(frame["factor"].unique())
    figure, axes = plots.panels(len(acts), height=3.4)
    depth = int(frame["layer"].max())
    layers = [layer for layer in (1, 2, 3, 5, 8, 12, 20, 30, 50, 80, 100, 150, 200, 400) if layer <= depth]
    for ax, act in zip(axes, acts, strict=True):
        c_w = theory.critical_point(act).c_w
        for i, factor in enumerate(factors):
            part = select(frame, activation=act, factor=factor)
            part = part[part["layer"].isin(layers)]
            plots.points(ax, part, "layer", "k", f"{factor:g} × critical", f"C{i}", plots.MARKERS[i])
            first = float(part[part["layer"] == 1]["k"].mean())
            ax.plot(range(1, depth + 1), theory.recursion(act, first, depth, c_w=factor * c_w), color=f"C{i}", lw=1)
        ax.plot(layers, 1 / (abs(theory.curvature(act)) * np.array(layers)), color="0.5", ls=":", label="1 / (|a| l)")
        ax.set(xscale="log", yscale="log")
        plots.label_axes(ax, LAYER, KERNEL, WORDS[act]).legend(fontsize="x-small", loc="lower left")
    return {
        "figure": figure,
        "caption": f"Kernel by layer below, at and above the critical C_W, width {width}: mean and 95 % interval over "
        "seeds. Solid: the recursion of infinite width. Dotted: the power law 1 / (|a| l), with a = -2 for tanh and -1 "
        "for the sine.",
        "alt": "On logarithmic axes the critical points follow a falling straight line, the dotted power law; below "
        "critical the kernel drops away from it, above it settles at a constant.",
        "data": frame,
    }


# --- finite width -----------------------------------------------------------------------------------------------------


def spread(frame: pd.DataFrame) -> dict[str, Any]:
    """Variance of log K, and correlation of squared outputs, against depth over width."""
    figure, (left, right) = plots.panels(2, height=3.6)
    widths = sorted(frame["width"].unique())
    x = np.linspace(0, frame["ratio"].max(), 50)
    for i, act in enumerate(frame["activation"].unique()):
        for width, marker in zip(widths, "os", strict=True):
            part = select(frame, activation=act, width=width)
            plots.points(left, part, "ratio", "variance", f"{WORDS[act]}, width {width}", f"C{i}", marker)
            if act in theory.SLOPES:
                step = theory.log_norm(act, width, theory.critical_point(act).c_w).variance
                left.plot(x, step * width * x, color=f"C{i}", lw=1, ls="-" if width == widths[-1] else ":")
            else:
                plots.points(right, part, "ratio", "pair", f"{WORDS[act]}, width {width}", f"C{i}", marker)
    right.plot(x, 2 / 3 * x, color="0.5", linestyle="--", label="2/3 L/n")
    plots.label_axes(left, "depth over width", "variance of log K").legend(fontsize="x-small")
    plots.label_axes(right, "depth over width", "correlation of squared outputs").legend(fontsize="x-small")
    seeds = frame["seed"].nunique()
    return {
        "figure": figure,
        "caption": f"At critical weights, spread over networks against depth over width for widths {widths[0]} and "
        f"{widths[1]}: variance of the logarithm of the kernel, with the exact lines of ReLU and the linear network "
        f"(dotted for the smaller width), and E z₁² z₂² / (E z²)² − 1 of two outputs for tanh and sine, with 2/3 L/n. "
        f"Mean and 95 % interval over n = {seeds} seeds.",
        "alt": "The variance of log K grows in proportion to depth over width, most for ReLU, then linear, sine and "
        "tanh; the points of both widths lie on the exact lines. Those of tanh and sine lie together near 2/3 L/n, "
        "above it at L/n = 1.",
        "data": frame,
    }


def moments(frame: pd.DataFrame, width: int, depth: int) -> dict[str, Any]:
    """What samples of networks make of a moment and of a variance of logarithms, against their exact values."""
    figure, (left, right) = plots.panels(2, height=3.2)
    exact = theory.second_moment_ratio("relu", width, depth)
    variance = depth * theory.log_norm("relu", width, 2.0).variance
    for seed in frame["seed"].unique():
        part = select(frame, seed=seed)
        left.plot(part["size"], part["ratio"], color="0.8", linewidth=0.8)
        right.plot(part["size"], part["variance"], color="0.8", linewidth=0.8)
    logs = frame.assign(log=np.log10(frame["ratio"]))
    rows = summary(logs, "size", "log")
    left.plot(rows["size"], 10 ** rows["mean"], "o-", color=BLUE, label=f"geometric mean (n = {rows['n'].min()})")
    left.fill_between(rows["size"], 10 ** rows["low"], 10 ** rows["high"], color=BLUE, alpha=0.2, linewidth=0)
    left.axhline(exact, color=RED, linestyle="--", label=f"exact, (1 + 5/n)^L = {exact:.0f}")
    left.set(xscale="log", yscale="log")
    plots.label_axes(left, "networks in the sample", "E K² / (E K)²").legend(fontsize="x-small")
    plots.points(right, frame, "size", "variance", "mean", BLUE).set_xscale("log")
    right.axhline(variance, color=RED, linestyle="--", label=f"exact, {variance:.3g}")
    plots.label_axes(right, "networks in the sample", "variance of log K").legend(fontsize="x-small")
    return {
        "figure": figure,
        "caption": f"The second moment of the kernel of critical ReLU networks of width and depth {width} and {depth}, "
        "estimated from samples of networks, and the variance of its logarithm from the same samples. Grey: every "
        "seed. Band and bars: 95 % intervals over seeds. Dashed: exact.",
        "alt": "From a hundred to ten thousand networks the estimated moment lies far below its exact value and "
        "jumps between seeds; the variance of the logarithm is right from a hundred networks on.",
        "data": frame,
    }


def tangent(frame: pd.DataFrame, width: int) -> dict[str, Any]:
    """Variance of the log tangent kernel against depth over width, beside that of log K."""
    figure, (ax,) = plots.panels(1, width=4.6, height=3.2)
    plots.points(ax, frame, "ratio", "variance", "log Θ", BLUE)
    x = np.array([0, frame["ratio"].max()])
    step = theory.log_norm("relu", width, 2.0).variance
    ax.plot(x, step * width * x, color=RED, linestyle="--", label="log K, exact")
    plots.label_axes(ax, "depth over width", "variance over networks").legend()
    return {
        "figure": figure,
        "caption": f"Variance over networks of the logarithm of the neural tangent kernel at one input, critical ReLU "
        f"networks of width {width}: mean and 95 % interval over seeds. Dashed: that of the kernel, exact.",
        "alt": "The variance of the log tangent kernel grows in proportion to depth over width, a little below the "
        "line of the kernel.",
        "data": frame,
    }


# --- training ---------------------------------------------------------------------------------------------------------


def training(frame: pd.DataFrame, steps: int) -> dict[str, Any]:
    """Training accuracy, gradient of the first layer, and its ratio to the last, against C_W over critical."""
    figure, axes = plots.panels(3, width=7.6, height=3.5)
    families = list(frame["family"].unique())
    logs = frame.assign(first=np.log10(frame["first"]), ratio=np.log10(frame["first"] / frame["last"]))
    for ax, value, name in zip(
        axes, ("accuracy", "first", "ratio"),
        ("training accuracy", "log10 gradient of layer 1", "log10 gradient, layer 1 over last"), strict=True,
    ):  # fmt: skip
        bounds = (0.0, 1.0) if value == "accuracy" else None
        plots.bands(ax, logs, "factor", value, "family", families, bounds=bounds)
        plots.label_axes(ax, FACTOR, name)
    axes[2].sharey(axes[1])
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize="small")
    return {
        "figure": figure,
        "caption": f"Accuracy on the training rows after {steps} steps; norm of the gradient of the first hidden "
        "layer's weights before training; and its ratio to that of the last hidden layer. Means and 95 % intervals "
        "over seeds, against C_W over its critical value.",
        "alt": "Deep tanh networks train at and above critical and not well below it; ReLU networks of the same depth "
        "hardly train anywhere, shallower ones do, and those with residual connections everywhere. The first layer's "
        "gradient spans many powers of ten; its ratio to the last layer's stays near one.",
        "data": frame,
    }
