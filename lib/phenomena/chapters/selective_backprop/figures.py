"""The chapter's figures. Each function returns what `show` takes: figure, caption, alternative text, data, a chart."""

import itertools
import json
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from phenomena.chapters.selective_backprop import study, theory
from phenomena.chapters.selective_backprop.study import Minibatch
from phenomena.chapters.selective_backprop.training import Plan
from phenomena.science import plots
from phenomena.science.frames import select, summary

NAMES = {
    "random": "random", "top": "top loss", "sb": "Selective-Backprop", "norm": "by gradient norm",
    "match": "greedy matching", "weighted": "weighted matching", "full": "full minibatch",
    "corrected": "matching, its error off", "biased": "random, that error on",
    "random_work": "random, equal work", "full_work": "full, equal work",
}  # fmt: skip
COLORS = {
    "random": "#0173b2", "top": "#d55e00", "sb": "#cc78bc", "norm": "#029e73", "match": "#de8f05",
    "weighted": "#8c564b", "full": "#555555",
    "corrected": "#ca9161", "biased": "#7f9fc6", "random_work": "#56b4e9", "full_work": "#999999",
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
LINES = {method: NAMES[method] for method in study.AVERAGED}
HOME = "gradient on all data"


def plane(found: Minibatch, step: int) -> dict[str, Any]:
    """A minibatch's gradients in the plane, the chosen and their mean; below, how averages over minibatches come home.

    step: of training, for the caption.
    """
    k, n = len(found.order), int(found.averages["n"].max())
    last = found.averages[found.averages["n"] == n].set_index("method")["off"]
    return {
        "figure": _still_plane(found),
        "caption": f"Above, the points of one minibatch after {step} steps, each as its gradient with respect to the "
        "last layer, in the plane of the two leading directions; lengths are in units of the minibatch's mean gradient "
        "(black arrow), and points further out are drawn at the edge. Colored arrows: the means of points chosen "
        "greedily and at random. The minibatch is the one in which the greedy choice ends at the median distance. "
        "Below, the tip of the mean of such arrows over more and more minibatches: how far it goes along the gradient "
        "on all data, which ends in the cross, and how far across it, in the direction to which greedy matching errs.",
        "alt": f"With {k} points the greedy choice is off by {found.left[-1]:.2f} of the mean gradient's length, a "
        f"random one by {found.left_random[-1]:.2f}. But averaged over {n} minibatches "
        f"the random choice is off by {last['random']:.2f}, the greedy one by {last['match']:.2f} and "
        f"Selective-Backprop by {last['sb']:.2f}.",
        "data": found.averages,
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
    (left, right), (low, high) = _room(found.averages)
    ax = parts["off"]
    for method, label in LINES.items():
        part = select(found.averages, method=method)
        ax.plot(part["along"], part["across"], color=COLORS[method], linewidth=1, label=label)
        ax.plot(part["along"].iloc[-1:], part["across"].iloc[-1:], "o", color=COLORS[method], markersize=7)
    ax.plot([1], [0], "k+", markersize=14, markeredgewidth=2, label=HOME)
    ax.set(xlim=(left, right), ylim=(low, high))
    plots.label_axes(ax, ALONG, ACROSS, "the mean of the arrows").legend(fontsize=8)
    return figure


ALONG, ACROSS = "along the gradient on all data", "across it"


def _room(averages: pd.DataFrame) -> tuple[tuple[float, float], tuple[float, float]]:
    """Limits of the plane of averages: where they are from five minibatches on, and the origin and (1, 0)."""
    late = averages[averages["n"] >= 5]
    spans = []
    for name, others in (("along", (0.0, 1.0)), ("across", (0.0,))):
        low, high = min(late[name].min(), *others), max(late[name].max(), *others)
        spans.append((round(low - 0.08 * (high - low), 2), round(high + 0.08 * (high - low), 2)))
    return spans[0], spans[1]


def _arrow(ax: Axes, to: np.ndarray, color: str) -> None:
    look = {"arrowstyle": "-|>", "color": color, "linewidth": 2, "shrinkA": 0, "shrinkB": 0}
    ax.annotate("", (to[0], to[1]), (0, 0), arrowprops=look)


TOP, BETWEEN, DEEP = 300, 70, 160  # pixels of the moving figure: the plane, the space below it, the averages


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
    counts = sorted({int(n) for n in np.geomspace(1, found.averages["n"].max(), 40).round()})
    ways = found.averages[found.averages["n"].isin(counts)].round(3)
    ways = ways.assign(label=ways["method"].map(LINES), i=ways["n"].map(counts.index)).drop(columns=["method", "n"])
    (left, right), (low, high) = _room(found.averages)
    east = alt.X("along:Q", title=ALONG).scale(domain=[left, right], nice=False)
    east = east.axis(orient="bottom", grid=False, tickCount=6)
    north = alt.Y("across:Q", title=ACROSS).scale(
        domain=[low, high], range=[TOP + BETWEEN + DEEP, TOP + BETWEEN], nice=False
    )
    north = north.axis(orient="left", grid=False, tickCount=4)
    named = alt.Legend(orient="bottom", values=list(LINES.values()))  # a row that a phone has room for
    lines = alt.Color("label:N", title=None, legend=named).scale(
        domain=[*LINES.values(), HOME], range=[*(COLORS[method] for method in LINES), "#222222"]
    )
    base = alt.Chart(ways)
    home = alt.Chart(pd.DataFrame({"along": [1], "across": [0], "label": HOME}))
    lower = alt.layer(
        base.mark_line(strokeWidth=1.5, clip=True).transform_filter("datum.i <= averaged")
        .encode(east, north, lines, order="i:Q"),
        home.mark_point(shape="cross", size=140, filled=True, opacity=1).encode(east, north, lines),
        base.mark_circle(size=120, opacity=1, clip=True).encode(east, north, lines)
        .transform_filter("datum.i == averaged"),
    )  # fmt: skip
    both = alt.layer(upper, lower).resolve_scale(x="independent", y="independent", color="independent")
    near = [f"{a:.2f}" for a in found.left], [f"{a:.2f}" for a in found.left_random]
    first = [
        f"{m + 1} of {k} points chosen: their mean gradient is off by {near[0][m]} of the length of the minibatch's if "
        f"chosen greedily, by {near[1][m]} if at random. "
        for m in range(k)
    ]
    off = ways.pivot(index="i", columns="label", values="off").to_dict("index")
    second = [
        f"Mean over {n} minibatch{'es' if n > 1 else ''}, against the gradient on all data: "
        + ", ".join(f"{label} off by {off[i][label]:.2f}" for label in LINES.values()) + "."
        for i, n in enumerate(counts)
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
    chosen = {title: study.best(frame) for title, frame in tuned.items()}
    ends = {title: {frame["rate"].min(), frame["rate"].max()} for title, frame in tuned.items()}
    at_end = [
        f"{NAMES[arm]} on {title}" for title, rates in chosen.items() for arm in rates if rates[arm] in ends[title]
    ]
    rates = {arm: next(iter(chosen.values()))[arm] for arm in ("random", "match", "full")}
    return {
        "figure": figure,
        "caption": "Accuracy on training points held out for this purpose, against the learning rate, mean over "
        f"{next(iter(tuned.values()))['seed'].nunique()} seeds that are used for nothing else. Large dots: the rate "
        "that each arm is given. At an end of the grid: " + (", ".join(at_end) or "none") + ".",
        "alt": "On the first data set the best rate is "
        + ", ".join(f"{rate:g} for {NAMES[arm]}" for arm, rate in rates.items()) + ".",
        "data": pd.concat(frame.assign(task=title) for title, frame in tuned.items()),
    }  # fmt: skip


def steps(frames: Mapping[str, pd.DataFrame]) -> dict[str, Any]:
    """Test accuracy of every method at equal steps, and its difference from random seed by seed."""
    figure, axes = plots.panels(2, rows=len(frames), height=3.1)
    for row, (title, frame) in enumerate(frames.items()):
        ends = study.last_steps(frame)
        level, gap = axes[2 * row : 2 * row + 2]
        _rows(level, ends, "accuracy", "arm", study.EQUAL_STEPS)
        _rows(gap, _against(ends, "random"), "accuracy", "arm", study.EQUAL_STEPS)
        gap.axvline(0, color=GREY, linewidth=1)
        gap.set_yticks(range(len(study.EQUAL_STEPS)), [""] * len(study.EQUAL_STEPS))
        n = frame["seed"].nunique()
        plots.label_axes(level, "test accuracy, %", "", f"{title} (n = {n})")
        plots.label_axes(gap, "points above random, seed by seed", "", title)
    first = study.last_steps(next(iter(frames.values()))).groupby("arm")["accuracy"].mean()
    return {
        "figure": figure,
        "caption": "Test accuracy after equally many steps, and seed by seed the difference from a random subset; mean "
        "with 95 % interval over seeds. The last two rows are controls: greedy matching with its mean error taken off, "
        "and random points with that error put on.",
        "alt": f"On {next(iter(frames))} a random subset reaches {first['random']:.1f} %, "
        + ", ".join(f"{NAMES[arm]} {first[arm]:.1f} %" for arm in study.EQUAL_STEPS[1:]) + ".",
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


def estimators(frames: Mapping[str, pd.DataFrame]) -> dict[str, Any]:
    """Bias², variance and distance in the last layer of every method, by data set and place in training."""
    figure, axes = plots.panels(3, rows=len(frames), width=9, height=3.0)
    values = {"bias2": "bias² / |g|²", "variance": "variance / |g|²", "last": "distance², last layer"}
    shift = np.linspace(-0.3, 0.3, len(study.METHODS))
    for i, (ax, (title, frame), (value, label)) in enumerate(
        (ax, *which) for ax, which in zip(axes, itertools.product(frames.items(), values.items()), strict=True)
    ):
        for j, method in enumerate(study.METHODS):
            rows = summary(select(frame, method=method), "place", value)
            bars = np.nan_to_num([rows["mean"] - rows["low"], rows["high"] - rows["mean"]])
            at = np.arange(len(rows)) + shift[j]
            ax.errorbar(at, rows["mean"], bars, fmt="o", ms=4, capsize=2, color=COLORS[method], label=NAMES[method])
        ax.set_yscale("symlog", linthresh=0.1)
        if value == "bias2":
            ax.axhline(0, color=GREY, linewidth=1)
        else:
            ax.set_ylim(bottom=-0.05)
        ax.set_xticks(range(len(study.PLACES)), list(study.PLACES))
        n = frame["seed"].nunique()
        plots.label_axes(ax, "part of training", label, f"{title} (n = {n})" if i % 3 == 0 else "")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, fontsize=8, ncols=4, loc="outside lower center")
    first = next(iter(frames))
    means = select(frames[first], place="middle").groupby("method")[["bias2", "variance", "last"]].mean()
    return {
        "figure": figure,
        "caption": "Every method as an estimator of the gradient g on all data, at the weights of networks trained on "
        "random subsets: squared bias and variance over |g|², all layers, and for the last layer the square distance "
        "from the minibatch's gradient, over its square length. Mean with 95 % interval over seeds; linear below 0.1, "
        "logarithmic above.",
        "alt": f"On {first}, in the middle of training, greedy matching has bias² {means['bias2']['match']:.2f} and "
        f"variance {means['variance']['match']:.1f}, random {means['bias2']['random']:.2f} and "
        f"{means['variance']['random']:.1f}, Selective-Backprop {means['bias2']['sb']:.1f} and "
        f"{means['variance']['sb']:.0f}. In the last layer matching is off by {means['last']['match']:.2f}, random by "
        f"{means['last']['random']:.2f}.",
        "data": pd.concat(frame.assign(task=title) for title, frame in frames.items()),
    }


def directions(frame: pd.DataFrame) -> dict[str, Any]:
    """How far each method's mean gradient goes along that on all data, and across it."""
    figure, (left, right) = plots.panels(2, height=3.2)
    middle = select(frame, place="middle")
    _rows(left, middle, "along", "method", study.METHODS)
    _rows(right, middle, "across2", "method", study.METHODS)
    left.axvline(1, color=GREY, linewidth=1)
    right.axvline(0, color=GREY, linewidth=1)
    right.set_yticks(range(len(study.METHODS)), [""] * len(study.METHODS))
    plots.label_axes(left, "along g, over |g|", "", f"how far (n = {frame['seed'].nunique()})")
    plots.label_axes(right, "squared length across g, over |g|²", "", "how far astray")
    means = middle.groupby("method")[["along", "across2"]].mean()
    return {
        "figure": figure,
        "caption": "The mean of each method's gradients over many minibatches, in the middle of training: how far it "
        "goes along the gradient g on all data, 1 being right, and its squared length across g, 0 being right. "
        "Mean with 95 % interval over seeds.",
        "alt": ", ".join(
            f"{NAMES[method]}: {means['along'][method]:.2f} along, {means['across2'][method]:.2f} across, squared"
            for method in ("random", "top", "sb", "match", "weighted")
        ) + ".",
        "data": middle,
    }  # fmt: skip


def own(at_random: pd.DataFrame, at_own: pd.DataFrame) -> dict[str, Any]:
    """Bias² and the share across g through training, at weights trained on random points and at the method's own."""
    at_random, at_own = (frame.assign(share=_share_across(frame)) for frame in (at_random, at_own))
    figure, axes = plots.panels(2, width=8, height=3.4)
    places = list(dict.fromkeys(at_own["place"]))
    for ax, (value, label) in zip(
        axes, {"bias2": "bias² / |g|²", "share": "share of the mean's squared length across g"}.items(), strict=True
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
    there = at_own.groupby(["place", "method"])[["bias2", "share"]].mean().to_dict("index")
    return {
        "figure": figure,
        "caption": "Squared bias of three methods, and the share of their mean gradient's squared length that lies "
        "across the gradient on all data, which no learning rate mends, at weights trained on random points (dashed) "
        "and at those to which the method itself has led (solid). Mean with "
        f"95 % interval over {at_own['seed'].nunique()} seeds.",
        "alt": f"At the end of its own training greedy matching has bias² {there['end', 'match']['bias2']:.2f}, "
        f"weighted matching {there['end', 'weighted']['bias2']:.2f}. In the middle the mean of "
        f"Selective-Backprop lies across the gradient by {there['middle', 'sb']['share']:.0%} of its squared length.",
        "data": pd.concat([at_random.assign(weights="random"), at_own.assign(weights="own")]),
    }


def _share_across(frame: pd.DataFrame) -> pd.Series:
    across2 = frame["across2"].clip(lower=0)
    return across2 / (across2 + frame["along"] ** 2)


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
