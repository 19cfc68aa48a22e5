"""The chapter's figures. Each function returns what `show` takes: figure, caption, alternative text, data, a chart."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from phenomena.chapters.selective_backprop import study, theory
from phenomena.chapters.selective_backprop.study import Minibatch
from phenomena.chapters.selective_backprop.training import Plan
from phenomena.science import plots
from phenomena.science.frames import select, summary

NAMES = {
    "random": "random", "top": "top loss", "sb": "Selective-Backprop", "norm": "by gradient norm",
    "match": "greedy matching", "weighted": "weighted matching", "full": "full minibatch",
    "random_work": "random, equal work", "full_work": "full, equal work",
}  # fmt: skip
COLORS = {
    "random": "#0173b2", "top": "#d55e00", "sb": "#cc78bc", "norm": "#029e73", "match": "#de8f05",
    "weighted": "#8c564b", "full": "#555555", "random_work": "#56b4e9", "full_work": "#999999",
}  # fmt: skip
GREY = "#555555"


def _rows(ax: Axes, frame: pd.DataFrame, value: str, key: str, order: Sequence[str]) -> None:
    """A row for every method: mean over seeds with its 95 % interval."""
    rows = summary(frame, key, value).set_index(key)
    for place, name in enumerate(order):
        mean, low, high = rows.loc[[name], ["mean", "low", "high"]].to_numpy(float)[0]
        bars = np.nan_to_num([[mean - low], [high - mean]])
        ax.errorbar([mean], [place], xerr=bars, fmt="o", color=COLORS[name], capsize=3)
    ax.set_yticks(range(len(order)), [NAMES[name] for name in order])
    ax.invert_yaxis()


# --- the key figure ---------------------------------------------------------------------------------------------------

MATCHED, AT_RANDOM = "chosen greedily", "chosen at random"
LINES = {"random": "random", "sb": "Selective-Backprop", "match": "greedy matching"}


def plane(found: Minibatch, step: int) -> dict[str, Any]:
    """A minibatch's gradients in the plane, the chosen and their mean; below, how averages over minibatches come home.

    step: of training, for the caption.
    """
    k = len(found.order)
    last = found.off[found.off["n"] == found.off["n"].max()].set_index("method")["off"]
    return {
        "figure": _still_plane(found),
        "caption": f"The points of one minibatch after {step} steps, each as its gradient by the last layer, in the "
        "plane of the two leading directions; lengths are in units of the minibatch's mean gradient (black arrow), "
        "and points further out are drawn at the edge. "
        f"Beside it the means of {k} points, chosen greedily and at random. Below, the mean of such arrows over more "
        "and more minibatches: its distance from the gradient on all data, over the length of that. In the moving "
        "figure sliders set how many points have been chosen, and over how many minibatches is averaged.",
        "alt": f"With {k} points the greedy choice is off by {found.left[-1]:.2f} of the mean gradient's length, a "
        f"random one by {found.left_random[-1]:.2f}. But averaged over {int(found.off['n'].max())} minibatches "
        f"the random choice is off by {last['random']:.2f}, the greedy one by {last['match']:.2f} and "
        f"Selective-Backprop by {last['sb']:.2f}.",
        "data": found.off,
        "interactive": _moving_plane(found),
    }


def _means(found: Minibatch) -> dict[str, np.ndarray]:
    """In the plane, the mean of the first m chosen points, m = 1 to k, for both choices."""
    counts = np.arange(1, len(found.order) + 1)[:, None]
    return {
        name: found.points[rows].cumsum(0) / counts
        for name, rows in ((MATCHED, found.order), (AT_RANDOM, found.others))
    }


def _reach(found: Minibatch) -> float:
    """Half the width of the plane that is shown: all arrows of five points or more, and most of the points."""
    ends = np.abs(np.concatenate([way[4:] for way in _means(found).values()] + [found.mean[None]])).max()
    return 1.1 * max(float(ends), float(np.quantile(np.abs(found.points).max(1), 0.75)))


def _still_plane(found: Minibatch) -> Figure:
    reach = _reach(found)
    points = found.points.clip(-reach, reach)
    figure, parts = plt.subplot_mosaic([["few", "all"], ["off", "off"]], figsize=(7, 5.6), layout="constrained")
    means, k = _means(found), len(found.order)
    sides = ((MATCHED, found.order, COLORS["match"]), (AT_RANDOM, found.others, COLORS["random"]))
    for name, m in (("few", max(1, k // 4)), ("all", k)):
        ax = parts[name]
        ax.plot(*points.T, "o", color="0.8", markersize=4)
        for label, rows, color in sides:
            ax.plot(*points[rows[:m]].T, "o", color=color, markersize=5, alpha=0.7, label=label)
            _arrow(ax, means[label][m - 1], color)
        _arrow(ax, found.mean, "black")
        ax.set(xlim=(-1.04 * reach, 1.04 * reach), ylim=(-1.04 * reach, 1.04 * reach))
        plots.label_axes(ax, "first direction", "second direction", f"{m} of {k} chosen")
    parts["few"].legend(fontsize=8)
    for method, label in LINES.items():
        part = select(found.off, method=method)
        parts["off"].loglog(part["n"], part["off"], color=COLORS[method], label=label)
    for axis in (parts["off"].xaxis, parts["off"].yaxis):
        axis.set_major_locator(LogLocator(subs=(1, 3)))
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter(NullFormatter())
    plots.label_axes(parts["off"], "minibatches averaged", "off by (of |g|)", "the mean of the arrows").legend(
        fontsize=8
    )
    return figure


def _arrow(ax: Axes, to: np.ndarray, color: str) -> None:
    look = {"arrowstyle": "-|>", "color": color, "linewidth": 2, "shrinkA": 0, "shrinkB": 0}
    ax.annotate("", (to[0], to[1]), (0, 0), arrowprops=look)


TOP, BETWEEN, DEEP = 300, 70, 150  # pixels of the moving figure: the plane, the space below it, the averages


def _moving_plane(found: Minibatch) -> Any:
    """The plane above, averages below, one slider for each."""
    import altair as alt  # a second of import that only notebooks with such a chart need

    k, means = len(found.order), _means(found)
    reach = _reach(found)
    rank = {row: i for i, row in enumerate(found.order)}
    rank_random = {row: i for i, row in enumerate(found.others)}
    points = pd.DataFrame(found.points.clip(-reach, reach).round(3), columns=["x", "y"])
    points["i"] = [rank.get(row, 999) for row in range(len(points))]
    points["j"] = [rank_random.get(row, 999) for row in range(len(points))]
    words = [MATCHED, AT_RANDOM, "mean of the minibatch"]
    colour = alt.Color("c:N", title=None, legend=alt.Legend(orient="top")).scale(
        domain=words, range=[COLORS["match"], COLORS["random"], "#222222"]
    )
    across = alt.X("x:Q", title="first direction").scale(domain=[-reach, reach], nice=False)
    across = across.axis(offset=-(BETWEEN + DEEP), grid=False, tickCount=6)
    up = alt.Y("y:Q", title="second direction").scale(domain=[-reach, reach], range=[TOP, 0], nice=False)
    up = up.axis(grid=False, orient="left", tickCount=6)
    dots = alt.Chart(points)
    arrows = pd.concat([
        *(pd.DataFrame({"x": way[:, 0], "y": way[:, 1], "m": range(k), "c": name}) for name, way in means.items()),
        pd.DataFrame({"x": found.mean[0], "y": found.mean[1], "m": range(k), "c": words[2]}),
    ]).round(3)  # fmt: skip
    shafts = alt.Chart(pd.concat([arrows, arrows.assign(x=0, y=0)])).transform_filter("datum.m == chosen")
    heads = (
        alt.Chart(arrows)
        .transform_filter("datum.m == chosen")
        .transform_calculate(a="90 - atan2(datum.y, datum.x) * 180 / PI")
    )
    angle = alt.Angle("a:Q").scale(domain=[0, 360], range=[0, 360])
    upper = alt.layer(
        dots.mark_circle(color="#bbbbbb", size=35, opacity=0.8).encode(across, up),
        dots.transform_filter("datum.j <= chosen").transform_calculate(c=json.dumps(AT_RANDOM))
        .mark_point(size=110, strokeWidth=2, opacity=1).encode(across, up, colour),
        dots.transform_filter("datum.i <= chosen").transform_calculate(c=json.dumps(MATCHED))
        .mark_circle(size=60, opacity=1).encode(across, up, colour),
        shafts.mark_line(strokeWidth=3, clip=True).encode(across, up, colour, detail="c:N"),
        heads.mark_point(shape="triangle", size=140, filled=True, opacity=1, clip=True)
        .encode(across, up, colour, angle),
    )  # fmt: skip
    counts = sorted({int(n) for n in np.unique(np.geomspace(1, found.off["n"].max(), 25).round())})
    off = found.off[found.off["n"].isin(counts)].copy()
    off["label"] = off["method"].map(LINES)
    off["i"] = off["n"].map(counts.index)
    off = off[["n", "off", "label", "i"]].round(4)
    when = alt.X("n:Q", title="minibatches averaged").scale(type="log", domain=[1, counts[-1]], nice=False)
    when = when.axis(orient="bottom", grid=False, tickCount=4, format="d")
    away = alt.Y("off:Q", title="off by (of |g|)").scale(
        type="log", domain=[float(off["off"].min()) * 0.8, float(off["off"].max()) * 1.2],
        range=[TOP + BETWEEN + DEEP, TOP + BETWEEN], nice=False,
    )  # fmt: skip
    away = away.axis(orient="left", grid=False, values=[0.03, 0.1, 0.3, 1, 3, 10])
    lines = alt.Color("label:N", title=None, legend=alt.Legend(orient="bottom")).scale(
        domain=list(LINES.values()), range=[COLORS[method] for method in LINES]
    )
    base = alt.Chart(off)
    lower = alt.layer(
        base.mark_line(strokeWidth=2).encode(when, away, lines),
        base.mark_circle(size=120, opacity=1).encode(when, away, lines).transform_filter("datum.i == averaged"),
    )
    both = alt.layer(upper, lower).resolve_scale(x="independent", y="independent", color="independent")
    near = [f"{a:.2f}" for a in found.left], [f"{a:.2f}" for a in found.left_random]
    first = [
        f"{m + 1} of {k} points chosen: their mean gradient is off by {near[0][m]} of the length of the minibatch's if "
        f"chosen greedily, by {near[1][m]} if at random. "
        for m in range(k)
    ]
    wide = off.pivot(index="n", columns="label", values="off").to_dict("index")
    second = [
        f"Mean over {n} minibatch{'es' if n > 1 else ''}, against the gradient on all data: "
        + ", ".join(f"{label} off by {wide[n][label]:.2f}" for label in LINES.values()) + "."
        for n in counts
    ]  # fmt: skip
    steps = alt.binding_range(min=0, max=k - 1, step=1, name="points chosen")
    over = alt.binding_range(min=0, max=len(counts) - 1, step=1, name="minibatches averaged")
    return both.properties(height=TOP + BETWEEN + DEEP).add_params(
        alt.param(name="chosen", value=max(0, k // 4 - 1), bind=steps),
        alt.param(name="chosen_ticks", value=[str(m + 1) for m in range(k)]),
        alt.param(name="averaged", value=len(counts) - 1, bind=over),
        alt.param(name="averaged_ticks", value=[str(n) for n in counts]),
        alt.param(name="reading", expr=f"{json.dumps(first)}[chosen] + {json.dumps(second)}[averaged]"),
    )


# --- accuracies -------------------------------------------------------------------------------------------------------


def tuning(tuned: Mapping[str, pd.DataFrame]) -> dict[str, Any]:
    """Accuracy on held-out rows against the learning rate, for every arm and data set."""
    figure, axes = plots.panels(len(tuned), width=9, height=3.6)
    for ax, (title, frame) in zip(axes, tuned.items(), strict=True):
        for arm in dict.fromkeys(frame["arm"]):
            means = select(frame, arm=arm).groupby("rate")["accuracy"].mean()
            ax.plot(means.index, means, marker="o", markersize=3, color=COLORS[arm], label=NAMES[arm])
            best = means.nlargest(1)
            ax.plot(best.index, best, "o", color=COLORS[arm], markersize=7)
        ax.set_xscale("log")
        plots.label_axes(ax, "learning rate", "accuracy, %" if ax is axes[0] else "", title)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, fontsize=8, ncols=5, loc="outside lower center")
    rates = {arm: study.best(next(iter(tuned.values())))[arm] for arm in ("random", "match", "full")}
    return {
        "figure": figure,
        "caption": "Accuracy on training points held out for this purpose, against the learning rate, mean over "
        f"{next(iter(tuned.values()))['seed'].nunique()} seeds that are used for nothing else. Large dots: the rate "
        "that each arm is given.",
        "alt": "Every arm has a best rate within the grid. On the first data set it is "
        + ", ".join(f"{rate:g} for {NAMES[arm]}" for arm, rate in rates.items()) + ".",
        "data": pd.concat(frame.assign(task=title) for title, frame in tuned.items()),
    }  # fmt: skip


def steps(frames: Mapping[str, pd.DataFrame]) -> dict[str, Any]:
    """Test accuracy of every method at equal steps, and its difference from random seed by seed."""
    figure, axes = plots.panels(2, rows=len(frames), height=2.7)
    for row, (title, frame) in enumerate(frames.items()):
        ends = study.last_steps(frame)
        level, gap = axes[2 * row : 2 * row + 2]
        _rows(level, ends, "accuracy", "arm", study.METHODS)
        _rows(gap, _against(ends, "random"), "accuracy", "arm", study.METHODS)
        gap.axvline(0, color=GREY, linewidth=1)
        gap.set_yticks(range(len(study.METHODS)), [""] * len(study.METHODS))
        n = frame["seed"].nunique()
        plots.label_axes(level, "test accuracy, %", "", f"{title} (n = {n})")
        plots.label_axes(gap, "points above random, seed by seed", "", title)
    first = study.last_steps(next(iter(frames.values()))).groupby("arm")["accuracy"].mean()
    return {
        "figure": figure,
        "caption": "Test accuracy after equally many steps, and seed by seed the difference from a random subset; mean "
        "with 95 % interval over seeds.",
        "alt": f"On {next(iter(frames))} a random subset reaches {first['random']:.1f} %, "
        + ", ".join(f"{NAMES[arm]} {first[arm]:.1f} %" for arm in study.METHODS[1:]) + ".",
        "data": pd.concat(frame.assign(task=title) for title, frame in frames.items()),
    }  # fmt: skip


def work(frames: Mapping[str, pd.DataFrame], plan: Plan) -> dict[str, Any]:
    """Test accuracy against work done, in forward passes of one point, for arms of equal work."""
    figure, axes = plots.panels(len(frames), width=8, height=3.8)
    arms = ["random_work", *study.CHOOSING, "full_work"]
    for ax, (title, frame) in zip(axes, frames.items(), strict=True):
        for arm in arms:
            rows = summary(select(frame, arm=arm), "work", "accuracy")
            ax.plot(rows["work"] / 1000, rows["mean"], marker="o", markersize=3, color=COLORS[arm], label=NAMES[arm])
            ax.fill_between(rows["work"] / 1000, rows["low"], rows["high"], color=COLORS[arm], alpha=0.15, linewidth=0)
        plots.label_axes(ax, "thousand forward passes of a point", "test accuracy, %" if ax is axes[0] else "",
                         f"{title} (n = {frame['seed'].nunique()})")  # fmt: skip
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, fontsize=8, ncols=4, loc="outside lower center")
    first = study.last_steps(next(iter(frames.values()))).groupby("arm")["accuracy"].mean()
    return {
        "figure": figure,
        "caption": "Test accuracy against work, a backward pass of a point counted as two forward passes; the choice "
        "itself is not counted. Each curve is a whole training with its own cosine schedule, so only its end is its "
        "result; mean with 95 % interval over seeds.",
        "alt": f"At the end of equal work random subsets reach {first['random_work']:.1f} %, the full minibatch "
        f"{first['full_work']:.1f} %, Selective-Backprop {first['sb']:.1f} % and greedy matching "
        f"{first['match']:.1f} % on {next(iter(frames))}.",
        "data": pd.concat(frame.assign(task=title) for title, frame in frames.items()),
    }


def noise(frame: pd.DataFrame, share: float) -> dict[str, Any]:
    """Accuracy with wrong labels, and the share of them among the points chosen."""
    figure, (left, right) = plots.panels(2, height=3.0)
    ends = study.last_steps(frame)
    order = [arm for arm in study.METHODS if arm in set(frame["arm"])]
    _rows(left, ends, "accuracy", "arm", order)
    _rows(right, ends, "wrong", "arm", order)
    right.axvline(share, color=GREY, linestyle=":", linewidth=1)
    right.set_yticks(range(len(order)), [""] * len(order))
    n = frame["seed"].nunique()
    plots.label_axes(left, "test accuracy, %", "", f"{share:.0%} wrong labels (n = {n})")
    plots.label_axes(right, "share of wrong labels", "", "among the points chosen")
    means = ends.groupby("arm")[["accuracy", "wrong"]].mean()
    return {
        "figure": figure,
        "caption": "With wrong labels: test accuracy, and the share of wrong labels among the points that steps were "
        "made of, over all of training; dotted, their share in the data. Mean with 95 % interval over seeds.",
        "alt": f"Top loss reaches {means['accuracy']['top']:.1f} %, random {means['accuracy']['random']:.1f} %; "
        f"of the points of top loss {means['wrong']['top']:.0%} have a wrong label, of matched ones "
        f"{means['wrong']['match']:.0%}.",
        "data": frame,
    }


def _against(ends: pd.DataFrame, arm: str) -> pd.DataFrame:
    """Accuracies minus those of one arm with the same seed."""
    base = select(ends, arm=arm).set_index("seed")["accuracy"]
    return ends.assign(accuracy=ends["accuracy"] - base.reindex(ends["seed"]).to_numpy())


# --- estimators -------------------------------------------------------------------------------------------------------


def estimators(frame: pd.DataFrame) -> dict[str, Any]:
    """Bias², variance and distance by the last layer of every method, by the place in training."""
    figure, axes = plots.panels(3, width=9, height=3.6)
    values = {"bias2": "bias² / |g|²", "variance": "variance / |g|²", "last": "distance², last layer"}
    places = list(dict.fromkeys(frame["place"]))
    shift = np.linspace(-0.3, 0.3, len(study.METHODS))
    for ax, (value, label) in zip(axes, values.items(), strict=True):
        for j, method in enumerate(study.METHODS):
            rows = summary(select(frame, method=method), "place", value)
            bars = np.nan_to_num([rows["mean"] - rows["low"], rows["high"] - rows["mean"]])
            at = np.arange(len(rows)) + shift[j]
            ax.errorbar(at, rows["mean"], bars, fmt="o", ms=4, capsize=2, color=COLORS[method], label=NAMES[method])
        ax.set_yscale("symlog", linthresh=0.1)
        ax.set_ylim(bottom=-0.05 if value != "bias2" else None)
        ax.set_xticks(range(len(places)), places)
        plots.label_axes(ax, "part of training", "", label)
    axes[0].axhline(0, color=GREY, linewidth=1)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, fontsize=8, ncols=4, loc="outside lower center")
    means = select(frame, place="middle").groupby("method")[["bias2", "variance", "last"]].mean()
    return {
        "figure": figure,
        "caption": "Every method as an estimator of the gradient g on all data, at the weights of networks trained on "
        "random subsets: squared bias and variance over |g|², all layers, and by the last layer the square distance "
        f"from the minibatch's gradient, over its square length. Mean with 95 % interval over "
        f"{frame['seed'].nunique()} seeds; linear below 0.1, logarithmic above.",
        "alt": f"In the middle of training greedy matching has bias² {means['bias2']['match']:.2f} and variance "
        f"{means['variance']['match']:.1f}, random {means['bias2']['random']:.2f} and "
        f"{means['variance']['random']:.1f}, Selective-Backprop {means['bias2']['sb']:.1f} and "
        f"{means['variance']['sb']:.0f}. By the last layer matching is off by {means['last']['match']:.2f}, random by "
        f"{means['last']['random']:.2f}.",
        "data": frame,
    }


def directions(frame: pd.DataFrame) -> dict[str, Any]:
    """Length of the mean gradient and its cosine with that on all data, for every method."""
    figure, (left, right) = plots.panels(2, height=3.2)
    middle = select(frame, place="middle")
    _rows(left, middle, "length", "method", study.METHODS)
    _rows(right, middle, "cosine", "method", study.METHODS)
    left.axvline(1, color=GREY, linewidth=1)
    right.axvline(1, color=GREY, linewidth=1)
    right.set_yticks(range(len(study.METHODS)), [""] * len(study.METHODS))
    plots.label_axes(left, "length of the mean / |g|", "", f"how far (n = {frame['seed'].nunique()})")
    plots.label_axes(right, "cosine of the mean and g", "", "which way")
    means = middle.groupby("method")[["length", "cosine"]].mean()
    return {
        "figure": figure,
        "caption": "The mean of each method's gradients over many minibatches, in the middle of training: its length "
        "and its cosine with the gradient g on all data. Mean with 95 % interval over seeds. Since the mean is over "
        "finitely many minibatches, noise makes it a little longer and turns it a little.",
        "alt": ", ".join(
            f"{NAMES[method]}: length {means['length'][method]:.2f}, cosine {means['cosine'][method]:.2f}"
            for method in ("random", "top", "sb", "match", "weighted")
        ) + ".",
        "data": middle,
    }  # fmt: skip


def own(at_random: pd.DataFrame, at_own: pd.DataFrame) -> dict[str, Any]:
    """Bias² and cosine through training, at weights trained on random points and at the method's own."""
    figure, axes = plots.panels(2, width=8, height=3.4)
    places = list(dict.fromkeys(at_own["place"]))
    for ax, (value, label) in zip(
        axes, {"bias2": "bias² / |g|²", "cosine": "cosine of the mean and g"}.items(), strict=True
    ):
        for method in study.OWN:
            for frame, style, where in ((at_random, "--", "weights of random"), (at_own, "-", "its own weights")):
                rows = summary(select(frame, method=method), "place", value)
                bars = np.nan_to_num([rows["mean"] - rows["low"], rows["high"] - rows["mean"]])
                ax.errorbar(
                    range(len(rows)), rows["mean"], bars, ls=style, marker="o", ms=4, capsize=2, color=COLORS[method],
                    label=f"{NAMES[method]}, {where}", mfc="white" if style == "--" else COLORS[method],
                )  # fmt: skip
        ax.set_xticks(range(len(places)), places)
        plots.label_axes(ax, "part of training", "", label)
    axes[0].set_yscale("symlog", linthresh=0.1)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, fontsize=8, ncols=3, loc="outside lower center")
    there = at_own.groupby(["place", "method"])[["bias2", "cosine"]].mean().to_dict("index")
    return {
        "figure": figure,
        "caption": "Squared bias of three methods, and the cosine of their mean gradient with that on all data, at "
        "weights trained on random points (dashed) and at those to which the method itself has led (solid). Mean with "
        f"95 % interval over {at_own['seed'].nunique()} seeds.",
        "alt": f"At the end of its own training greedy matching has bias² {there['end', 'match']['bias2']:.2f}, "
        f"weighted matching {there['end', 'weighted']['bias2']:.2f}. In the middle the mean of "
        f"Selective-Backprop has a cosine of {there['middle', 'sb']['cosine']:.2f} with the gradient.",
        "data": pd.concat([at_random.assign(weights="random"), at_own.assign(weights="own")]),
    }


def averages(frame: pd.DataFrame) -> dict[str, Any]:
    """Closed form of the square distance that is left after averaging n minibatches, by bias² and variance."""
    figure, (ax,) = plots.panels(1, height=3.4)
    middle = select(frame, place="middle").groupby("method")[["bias2", "variance"]].mean()
    counts = np.geomspace(1, 1000, 60)
    for method in study.METHODS:
        bias2, variance = max(middle["bias2"][method], 0.0), middle["variance"][method]
        ax.loglog(
            counts, [theory.averaged(bias2, variance, n) for n in counts], color=COLORS[method], label=NAMES[method]
        )
    cross = theory.crossing(middle["bias2"]["match"], middle["variance"]["match"], middle["variance"]["random"])
    ax.axvline(cross, color=GREY, linestyle=":", linewidth=1)
    plots.label_axes(ax, "minibatches averaged, n", "bias² + variance / n, over |g|²").legend(fontsize=8, ncols=2)
    return {
        "figure": figure,
        "caption": "What is left of the square distance from the gradient on all data after averaging over n "
        "minibatches at fixed weights: bias² + variance/n with the means over seeds of the middle of training. Dotted: "
        "where random overtakes greedy matching.",
        "alt": f"One greedily matched minibatch is nearer than a random one, but from {cross:.0f} minibatches on the "
        "average of random ones is nearer: its line falls on, that of matching stays at its bias.",
        "data": middle.reset_index(),
    }


def cost(frame: pd.DataFrame, formula: float) -> dict[str, Any]:
    """Seconds of choosing over those of the step. formula: `theory.overhead` of the Gram matrix."""
    figure, (ax,) = plots.panels(1, height=2.8)
    each = frame.groupby(["seed", "method"])["overhead"].mean().reset_index()
    _rows(ax, each, "overhead", "method", study.METHODS[:-1])
    ax.axvline(formula, color=GREY, linestyle=":", linewidth=1)
    ax.set_xlim(left=0)
    plots.label_axes(ax, "time to choose / time of forward and backward pass", "", f"n = {frame['seed'].nunique()}")
    means = each.groupby("method")["overhead"].mean()
    return {
        "figure": figure,
        "caption": "Time to choose, over that of the forward pass of the minibatch and the backward pass of the chosen "
        "points, measured on one core with many minibatches at once; dotted, the multiplications of the Gram matrix "
        "over those of the passes. Mean with 95 % interval over seeds.",
        "alt": f"Greedy matching takes {means['match']:.2f} of the time of the step itself, weighted matching "
        f"{means['weighted']:.2f}, Selective-Backprop {means['sb']:.2f}, random {means['random']:.2f}.",
        "data": each,
    }
