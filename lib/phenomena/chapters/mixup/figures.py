"""The chapter's figures: frames of `study` in, what `show` takes out, but for the name.

Captions describe; alternative texts tell the message with the numbers of the run.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from pandas.io.formats.style import Styler

from phenomena.chapters.mixup import study, theory
from phenomena.own_data import titles
from phenomena.science import plots
from phenomena.science.frames import per_seed, select, summary

PAPER = {1.0: 0.174, 32.0: 0.604, 128.0: 0.654}  # p(class 1) at the middle sample, Table 1
PAPER_LONG = {"ERM": 0.07, "α = 1": 0.33, "α = 32": 0.47}  # error on ten points of two classes, logs of the code
BUBBLE = 1800  # area of all mixed points together, square points
RINGS: dict[str, Any] = {"facecolors": "none", "linewidths": 1.5, "zorder": 3}
MAP: dict[str, Any] = {"cmap": "cividis", "vmin": 0, "vmax": 1, "rasterized": True}
Figure = dict[str, Any]  # the arguments of `show`
Points = Mapping[str, int]  # of how many points an accuracy is the share: training ones ("train"), test ones ("last")


def mean(frame: pd.DataFrame, value: str, **where: Any) -> float:
    """Mean over seeds of the rows that `select` keeps."""
    return float(np.mean(per_seed(frame, value, **where)))


def middle(samples: pd.DataFrame) -> pd.DataFrame:
    """p(class 1) at the middle sample, mean and interval over seeds: columns alpha, mean, low, high, n."""
    return summary(select(samples, position=1.0), "alpha", "p", bounds=(0, 1))


def horizontal(ax: Axes, frame: pd.DataFrame, value: str, by: str, hue: str | None = None, **kind: Any) -> Axes:
    """A row for each value of `by`: mean and 95 % interval over seeds, of each value of `hue` if there is one.

    kind: what the value is, as `summary` takes it.
    """
    rows = list(dict.fromkeys(frame[by]))
    groups = list(dict.fromkeys(frame[hue])) if hue else [""]
    for i, name in enumerate(groups):
        table = summary(frame[frame[hue] == name] if hue else frame, by, value, **kind)
        at = [rows.index(row) + 0.25 * (i - (len(groups) - 1) / 2) for row in table[by]]
        beside = (table["mean"] - table["low"], table["high"] - table["mean"])
        style: dict[str, Any] = {"fmt": plots.MARKERS[i], "color": f"C{i}", "capsize": 3}
        ax.errorbar(table["mean"], at, xerr=beside, label=f"{name} (n = {table['n'].min()})", **style)
    ax.set_yticks(range(len(rows)), rows)
    ax.set_ylim(len(rows) - 0.5, -0.5)
    return ax


def spread(curves: pd.DataFrame) -> pd.DataFrame:
    """Median and 10 to 90 % of the seeds: columns alpha, position, low, middle, high."""
    parts = curves.groupby(["alpha", "position"])["p"].quantile(np.array([0.1, 0.5, 0.9])).unstack()
    return parts.set_axis(["low", "middle", "high"], axis=1).reset_index()


# --- points on a line and in the plane --------------------------------------------------------------------------------


def bubbles(ax: Axes, mixed: pd.DataFrame) -> Axes:
    """Mixed points with areas as their mass, and the samples as rings."""
    x, targets = theory.alternating_line(3, 2)
    ax.scatter(mixed["position"], mixed["label"], s=BUBBLE * mixed["mass"], color="C0", alpha=0.4, linewidths=0)
    ax.scatter(x[:, 0], targets[:, 0], s=25, edgecolors="k", **RINGS)
    ax.set(xlim=(-0.2, 2.2), ylim=(-0.12, 1.14), xticks=[0, 1, 2], yticks=[0, 0.5, 1])
    return ax


def line_data(mixed: pd.DataFrame) -> Figure:
    """Mixed points and their labels, a panel for each alpha of `mixed`."""
    figure, axes = plots.panels(mixed["alpha"].nunique(), height=2.2)
    for ax, (alpha, part) in zip(axes, mixed.groupby("alpha"), strict=True):
        bubbles(ax, part)
        plots.label_axes(ax, "position", "label: weight of class 1" if ax is axes[0] else "", f"α = {alpha:g}")
    return {
        "figure": figure,
        "caption": "What Mixup trains on: mixed points and their labels, areas as their frequency, and the three "
        "samples (rings). The sample in the middle has label 0.",
        "alt": "Mixed points of three samples on a line lie at the samples for small α, spread over the segments at 1 "
        "and gather at midpoints for large α; most of those at the middle sample, labelled 0, then have label 1.",
        "data": mixed,
    }


def line_curves(
    curves: pd.DataFrame, exact: pd.DataFrame, mixed: pd.DataFrame, samples: pd.DataFrame, shown: Sequence[float]
) -> Figure:
    """Mixed points, networks and closed form along the line; the still form has a panel for each alpha of `shown`.

    curves, exact, mixed: as `study` returns them, for all alphas of the moving form; samples: networks at the samples.
    """
    figure, axes = plots.panels(len(shown), width=5.0, height=2.9)
    at = middle(samples).set_index("alpha").loc[list(shown)]
    for ax, alpha in zip(axes, shown, strict=True):
        bubbles(ax, select(mixed, alpha=alpha))
        band, theirs, here = spread(select(curves, alpha=alpha)), select(exact, alpha=alpha), at.loc[alpha]
        ax.fill_between(band["position"], band["low"], band["high"], color="C1", alpha=0.25, linewidth=0)
        ax.plot(band["position"], band["middle"], color="C1", label="networks")
        for run in apart(theirs, curves):
            ax.plot(run["position"], run["p"], "--", color="C2", label="closed form")
        beside = [[here["mean"] - here["low"]], [here["high"] - here["mean"]]]
        ax.errorbar(1, here["mean"], beside, fmt="o", color="k", capsize=4, zorder=4)
        ax.axhline(0.5, color="0.4", linestyle=":", linewidth=1, zorder=0)
        plots.label_axes(ax, "position", "class 1: label, probability" if ax is axes[0] else "")
        ax.set_title(f"α = {alpha:g}: {here['mean']:.2f} in the middle", fontsize=9.5)
    named = dict(zip(*reversed(axes[0].get_legend_handles_labels()), strict=True))
    marker = axes[0].scatter([], [], s=60, color="C0", alpha=0.4, linewidths=0)
    named = {"mixed points": marker, **named}
    figure.legend(list(named.values()), list(named), loc="outside lower center", ncols=3, columnspacing=1)
    return {
        "figure": figure,
        "caption": "Mixed points with their labels (areas: how frequent they are), the probability of class 1 that "
        f"networks learn from them (median and 10 to 90 % of {samples['seed'].nunique()} seeds; black: mean and 95 % "
        "interval at the middle sample), and the closed form where mixed points lie. Rings are the samples. In the "
        "middle class 1 is the wrong answer; above the dotted line it is the one given.",
        "alt": "Networks and closed form follow the average label of the mixed points at each place; at the middle "
        "sample, whose label is 0, the networks' mean is "
        + ", ".join(f"{p:.2f} for α = {a:g}" for a, p in at["mean"].items())
        + ".",
        "data": curves,
        "interactive": line_slider(curves, exact, mixed, samples),
    }


def apart(exact: pd.DataFrame, curves: pd.DataFrame) -> list[pd.DataFrame]:
    """The closed form at one alpha in stretches of places that follow each other in `curves`."""
    places = np.sort(curves["position"].unique())
    stretch = (exact["position"].map({p: i for i, p in enumerate(places)}).diff() > 1).cumsum()
    return [part for _, part in exact.groupby(stretch)]


def places_for(stops: int) -> int:
    """How many places on the line keep the chart of `line_slider` below 300 kB, and at the defaults near 150."""
    return max(3, min(49, 1000 // stops - 5)) | 1  # odd, so that the middle is one of them


def line_slider(curves: pd.DataFrame, exact: pd.DataFrame, mixed: pd.DataFrame, samples: pd.DataFrame) -> Any:
    """A chart with a slider over alpha, which moves mixed points, networks and closed form together."""
    x, targets = theory.alternating_line(3, 2)
    at = middle(samples).assign(position=1.0)
    found = {float(row["alpha"]): row for row in at.to_dict("records")}
    closed = select(exact, position=1.0).set_index("alpha")["p"]

    def reading(alpha: float) -> str:
        mean, low, high, n = (float(found[alpha][name]) for name in ("mean", "low", "high", "n"))
        fit = "it is not fitted" if low > 0.5 else "it is fitted" if high < 0.5 else "fitted by some"
        where = f"With α = {alpha:,g}" if alpha else "Without Mixup"
        exactly = f"; the closed form has {closed[alpha]:.2f}" if alpha in closed else ""
        over = (f"95 % interval {low:.2f} to {high:.2f}, " if low == low else "") + f"n = {n:.0f}"
        return f"{where} networks give the middle point the wrong class with p = {mean:.2f} ({over}): {fit}{exactly}."

    bands = spread(curves).round({"position": 4, "low": 3, "middle": 3, "high": 3}).assign(what="networks")
    dashed = [
        run.assign(alpha=alpha, stretch=f"{alpha:g} {i}", what="closed form")
        for alpha, part in exact.groupby("alpha")
        for i, run in enumerate(apart(part, curves))
    ]
    return plots.slider(
        plots.Layer(pd.DataFrame({"p": [0.5]}), "rule", None, "p", style={"strokeDash": [2, 3], "color": "#666"}),
        plots.Layer(
            mixed.round({"mass": 4}).assign(what="mixed points"), "point", "position", "label", size="mass",
            colour="what", largest=5000 * mixed["mass"].max(), style={"filled": True, "opacity": 0.4},
        ),
        plots.Layer(bands, "area", "position", "low", y2="high", style={"opacity": 0.25, "color": "#de8f05"}),
        plots.Layer(bands, "line", "position", "middle", colour="what"),
        plots.Layer(
            pd.concat(dashed).round({"p": 3, "position": 4}), "line", "position", "p", colour="what", detail="stretch",
            style={"strokeDash": [6, 4]},
        ),
        plots.Layer(at, "rule", "position", "low", y2="high", style={"strokeWidth": 3, "color": "black"}),
        plots.Layer(at, "point", "position", "mean", style={"size": 90, "filled": True, "color": "black"}),
        plots.Layer(
            pd.DataFrame({"position": x[:, 0], "p": targets[:, 0]}), "point", "position", "p",
            style={"size": 140, "color": "black"},
        ),
        x=plots.Axis("position", (-0.15, 2.15)),
        y=plots.Axis("class 1: label, probability", (-0.1, 1.1)),
        controls={"alpha": "α"},
        reading=reading,
        start={"alpha": 32.0},
    )  # fmt: skip


def line_middle(samples: pd.DataFrame, radii: Sequence[float]) -> Figure:
    """The middle sample against alpha."""
    rows = select(samples, position=1.0).query("alpha > 0").assign(what="networks")
    levels = rows["alpha"].unique()
    fine = np.geomspace(levels[0], levels[-1], 100)
    figure, (ax,) = plots.panels(1, height=3.6)
    plots.bands(ax, rows, x="alpha", y="p", hue="what", bounds=(0, 1))
    for radius, style in zip(radii, (":", "--", "-."), strict=True):
        p = [theory.middle_of_three(a, radius) for a in fine]
        ax.plot(fine, p, style, color="0.35", label=f"closed form, ε = {radius:g}")
    ax.plot(list(PAPER), list(PAPER.values()), "D", color="C3", label="paper, Table 1")
    ax.axhline(2 / 3, color="C2", linewidth=1, label="limit 2/3")
    ax.axhline(0.5, color="k", linewidth=0.8, label="wrong above 1/2")
    ax.set_xscale("log")
    plots.label_axes(ax, "α", "p(class 1) at the middle sample", "The middle of three").legend(ncols=2)
    first, last = (mean(rows, "p", alpha=a) for a in (levels[0], 1024.0))
    return {
        "figure": figure,
        "caption": "Probability of the wrong class at the middle sample against α: networks with mean and 95 % "
        "interval, closed form for three radii, and the paper's figures.",
        "alt": f"The probability of the wrong class at the middle sample rises with α from {first:.2f} past one half "
        f"to {last:.2f}, towards two thirds, as the closed form says.",
        "data": rows,
    }


def table(frame: pd.DataFrame, name: str, digits: str = "{:.3f}") -> Styler:
    """A table whose columns are aligned: numbers that are not whole with these digits."""
    style = frame.style.hide().set_uuid(name).set_table_attributes('class="dataframe"')
    return style.format(digits, subset=frame.select_dtypes(float).columns, na_rep="–")


def middle_table(samples: pd.DataFrame, epsilon: float) -> Styler:
    """The middle sample: networks, closed form, paper."""
    found = middle(samples[samples["alpha"] > 0])
    columns = {
        "α": found["alpha"].map("{:,g}".format),
        "networks, mean": found["mean"],
        "95 % interval, from": found["low"],
        "to": found["high"],
        f"closed form, ε = {epsilon:g}": [theory.middle_of_three(a, epsilon) for a in found["alpha"]],
        "paper": found["alpha"].map(PAPER),
    }
    return table(pd.DataFrame(columns), "middle")


def line_long(errors: pd.DataFrame, points: int) -> Figure:
    """Training error on longer lines."""
    figure, (ax,) = plots.panels(1, height=2.8)
    named = errors.assign(classes=errors["classes"].map("{} classes".format))
    horizontal(ax, named, "error", "classes", "training", trials=points)
    few = errors["classes"].min()
    row = list(dict.fromkeys(named["classes"])).index(f"{few} classes")
    if points == 10 and few == 2:  # as in the logs
        heights = [row - 0.25, row, row + 0.25]
        ax.plot(list(PAPER_LONG.values()), heights, "D", color="k", fillstyle="none", label="logs of the paper's code")
    ax.set_xlim(-0.02, 1)
    plots.label_axes(ax, "share of points misclassified", "", f"{points} points on a line").legend()
    plain, weak, strong = (mean(errors, "error", classes=few, training=t) for t in ("ERM", "α = 1", "α = 32"))
    return {
        "figure": figure,
        "caption": f"Training error on {points} points with alternating classes, mean and 95 % interval over "
        f"{errors['seed'].nunique()} seeds, and what the logs of the paper's code have for two classes (diamonds).",
        "alt": f"With {few} alternating classes the error is {plain:.2f} without Mixup, {weak:.2f} at α = 1 and "
        f"{strong:.2f} at α = 32.",
        "data": errors,
    }


def plane(crossing: study.Crossing) -> Figure:
    """Closed form and networks on two crossing segments."""
    x, targets = theory.crossing_segments()
    means = crossing.curves.groupby(["class", "distance"], as_index=False)[["networks", "closed form"]].mean()
    figure, (first, second, third) = plots.panels(3, height=2.7)
    for ax, column, title in ((first, "closed form", "closed form"), (second, "networks", "networks, mean")):
        grid = crossing.plane.pivot(index="x2", columns="x1", values=column)
        image = ax.pcolormesh(grid.columns, grid.index, grid, **MAP)
        ax.scatter(x[:, 0], x[:, 1], c=["w" if one else "k" for one in targets[:, 0]], edgecolors="C1", s=40)
        plots.label_axes(ax, "x₁", "x₂" if ax is first else "", title)
        ax.grid(False)
    figure.colorbar(image, ax=second, label="p(class 1)")
    for color, (name, part) in zip(("C0", "C1"), means.groupby("class"), strict=True):
        third.plot(part["distance"], part["closed form"], "--", color=color)
        third.plot(part["distance"], part["networks"], color=color, label=f"segment of {name}")
    third.set_xscale("log")
    plots.label_axes(third, "distance to the crossing", "", "along the segments")
    figure.legend(*third.get_legend_handles_labels(), loc="outside lower right", ncols=2)
    n, apart = crossing.curves["seed"].nunique(), crossing.networks_jump.mean()
    return {
        "figure": figure,
        "caption": f"Left: the closed form (ε = 0.1) where mixed points are. Middle: mean of {n} networks trained with "
        "Mixup, α = 1. Right: p(class 1) towards the crossing, closed form (dashed, ε = 0.0001) and networks (mean).",
        "alt": f"Towards the crossing of two segments the closed form keeps a jump of {crossing.closed_form_jump:.2f} "
        f"between them, while the networks' two curves meet, {apart:.2f} apart.",
        "data": means,
    }


# --- the condition, two moons, the linear case ------------------------------------------------------------------------


def condition(distances: pd.DataFrame, fitted: pd.DataFrame, alpha: float, epochs: int) -> Figure:
    """Distances to mixing segments, and what is still fitted."""
    distances, fitted = (frame.assign(set=titles(frame["set"])) for frame in (distances, fitted))
    figure, (first, second) = plots.panels(2, height=3.4)
    for i, (name, part) in enumerate(distances.groupby("set", sort=False)):
        for column, style in (("segment", "-"), ("neighbour", ":")):
            relative = part[column] / part["neighbour"].median()
            first.ecdf(relative, linestyle=style, color=f"C{i}", label=f"{name}: {column}")
    title = "How far segments stay away"
    plots.label_axes(first, "distance / median distance to another class", "share of training points", title)
    first.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2)
    names = {"erm": "ERM", "mixup": f"α = {alpha:g}"}
    both = fitted.melt(["set", "seed"], list(names), "training", "accuracy").replace({"training": names})
    rows = len(distances) // len(fitted)
    horizontal(second, both, "accuracy", "set", "training", trials=rows)
    plots.label_axes(second, "training accuracy", "", "What is still fitted")
    second.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2)
    draws = fitted["seed"].nunique()
    means = fitted.groupby("set", sort=False)[["clearance", "erm", "mixup"]].mean()
    return {
        "figure": figure,
        "caption": "Left: distances of the training points to the nearest of all segments between two points of other "
        f"classes (lines) and to the nearest such point (dotted), {draws} draws of {rows} points "
        f"together. Right: training accuracy after {epochs} epochs, mean and 95 % interval over the draws.",
        "alt": "; ".join(
            f"on {name} the nearest segment is {row['clearance']:.2f} of the usual distance between classes away, and "
            f"training accuracy is {row['erm']:.3f} without and {row['mixup']:.3f} with midpoints alone"
            for name, row in means.iterrows()
        )
        + ".",
        "data": fitted,
    }


def moons(found: study.Moons, alpha: float) -> Figure:
    """Where the networks draw the boundary, without Mixup and at this alpha."""
    maps = found.maps[found.maps["alpha"].isin([0, alpha])]
    n = found.shapes["seed"].nunique()
    figure, axes = plots.panels(3, 2, height=2.8)
    parts = maps.groupby(["separation", "training"], sort=False)
    for ax, ((separation, training), part) in zip(axes, parts, strict=True):
        grid = part.pivot(index="x2", columns="x1", values="fraction")
        points = select(found.points, separation=separation)
        image = ax.pcolormesh(grid.columns, grid.index, grid, **MAP)
        ax.contour(grid.columns, grid.index, grid, levels=[0.5], colors="w", linewidths=1.5)
        colours = np.where(points["right"], "w", "k")
        ax.scatter(points["x1"], points["x2"], c=colours, s=5, edgecolors="0.5", linewidths=0.3)
        plots.label_axes(ax, "x₁", "x₂", f"{training}\nseparation {separation:g}")
        ax.grid(False)
    figure.colorbar(image, ax=axes, label=f"fraction of {n} networks that say: right moon")
    name = study.training_name(alpha)
    plain, mixed, coded = (
        mean(found.shapes, "bent", separation=0.5, training=t) for t in ("ERM", name, f"{name}, as coded")
    )
    kind = maps["training"] + ", separation " + maps["separation"].map("{:g}".format)
    coarse = maps["x1"].isin(maps["x1"].unique()[::2]) & maps["x2"].isin(maps["x2"].unique()[::2])
    data = maps.assign(kind=kind)[coarse].pivot(index=["x1", "x2"], columns="kind", values="fraction")
    return {
        "figure": figure,
        "caption": f"Fraction of {n} networks that assign a place to the right-hand class, the line where they are "
        "evenly divided (white), and one draw of the points. Columns: without Mixup, with Mixup, and with Mixup and "
        "gradients that are never set to zero.",
        "alt": f"At separation 0.5 the boundary leaves a straight line on {plain:.3f} of the square without Mixup, on "
        f"{mixed:.3f} with it, and on {coded:.3f} when gradients add up.",
        "data": data.reset_index(),  # half of the places a side are enough
    }


def moons_measures(shapes: pd.DataFrame) -> Figure:
    """Bend and margin of the boundaries."""
    named = shapes.assign(separation=shapes["separation"].map("separation {:g}".format))
    figure, (left, right) = plots.panels(2, height=2.8)
    horizontal(left, named, "bent", "training", "separation", bounds=(0, 1))
    plots.label_axes(left, "fraction of the square", "", "Off the straight line")
    horizontal(right, named, "margin", "training", "separation").tick_params(labelleft=False)
    plots.label_axes(right, "distance (negative: wrong side)", "", "Smallest distance to the boundary")
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    means = select(shapes, separation=0.5).groupby("training", sort=False)[["margin", "bent"]].mean()
    return {
        "figure": figure,
        "caption": "Measures of the boundary for two separations, mean and 95 % interval over "
        f"{shapes['seed'].nunique()} draws of the moons.",
        "alt": "Smallest distance to the boundary at separation 0.5: "
        + ", ".join(f"{name} {value:.2f}" for name, value in means["margin"].items())
        + "; fraction of the square off the line: "
        + ", ".join(f"{name} {value:.3f}" for name, value in means["bent"].items())
        + ".",
        "data": shapes,
    }


def linear(lines: pd.DataFrame, points: int) -> Figure:
    """Directions of the linear Mixup optimum against the dimension."""
    bound = theory.max_margin_bound(points)
    names = {"max-margin": "max-margin", "interpolator": "least norm"}
    both = lines.melt(["seed", "d"], list(names), "to", "angle").replace({"to": names})
    figure, (first, second) = plots.panels(2, height=3.2)
    plots.bands(first, both, x="d", y="angle", hue="to", bounds=(0, 180))
    plots.bands(second, lines.assign(what="max-margin"), x="d", y="support", hue="what", trials=points)
    for ax, name, title in (
        (first, "angle to the Mixup optimum, degrees", "Direction"),
        (second, "share of samples", "Support vectors"),
    ):
        ax.set_xscale("log")
        ax.axvline(bound, color="0.4", linestyle="--", linewidth=1)
        plots.label_axes(ax, "dimension d (dashed: the theorem's bound)", name, title)
    figure.legend(*first.get_legend_handles_labels(), loc="outside lower left", ncols=2)
    below, above = (mean(lines, "max-margin", d=d) for d in (points, lines.loc[lines["d"] > bound, "d"].min()))
    return {
        "figure": figure,
        "caption": "Left: angle between the Mixup optimum of a linear model and two other solutions, max-margin and "
        f"the least-norm interpolator of the labels, {points} Gaussian points with labels that alternate. Right: share "
        "of the points that are support vectors of the max-margin solution. Mean and 95 % interval over "
        f"{lines['seed'].nunique()} draws.",
        "alt": f"The angle to max-margin falls from {below:.0f} degrees at d = {points} to {above:.2g} above the "
        "bound; the angle to the least-norm interpolator is zero throughout.",
        "data": lines,
    }


# --- data sets --------------------------------------------------------------------------------------------------------


def alpha(sweep: pd.DataFrame, dataset: str, points: Points, epochs: int, quoted: Sequence[float]) -> Figure:
    """Accuracy against alpha; `quoted`: the alphas that the alternative text names."""
    names = {"train": "training points", "last": "test points"}
    named = sweep.assign(arm=sweep["arm"].str.removeprefix("α = "))
    figure, (ax,) = plots.panels(1, height=3.4)
    for value, what in names.items():
        part, order = named.assign(what=what), list(names.values())
        plots.bands(ax, part, x="arm", y=value, hue="what", order=order, trials=points[value])
    ax.tick_params(axis="x", rotation=0)
    plots.label_axes(ax, "α (ERM: without Mixup)", "accuracy", f"{dataset}, {points['train']} training points").legend()
    return {
        "figure": figure,
        "caption": f"Accuracy after {epochs} epochs on training points as they are and on test points, without Mixup "
        "and against α. Mean and 95 % interval.",
        "alt": f"Test accuracy is {mean(sweep, 'last', alpha=0.0):.3f} without Mixup, "
        + ", ".join(f"{mean(sweep, 'last', alpha=a):.3f} at α = {a:g}" for a in quoted)
        + ".",
        "data": sweep,
    }


def label_noise(noisy: pd.DataFrame, points: Points, level: float) -> Figure:
    """Test error and wrong labels given back against label noise; `level`: the one that the text names."""
    epochs = noisy.melt(["seed", "arm", "label_noise"], ["best", "last"], "epoch", "accuracy")
    epochs = epochs.assign(arm=epochs["arm"] + ", " + epochs["epoch"] + " epoch", error=1 - epochs["accuracy"])
    figure, (first, second) = plots.panels(2, height=3.6)
    plots.bands(first, epochs, x="label_noise", y="error", hue="arm", trials=points["last"])
    plots.label_axes(first, "fraction of random labels", "test error", "What label noise costs").legend()
    fewest = max(1, noisy["wrong_labels"].min())  # of all levels: no interval is too narrow
    plots.bands(second, noisy, x="label_noise", y="wrong", hue="arm", trials=fewest)
    plots.label_axes(second, "fraction of random labels", "wrong training labels given back", "What is memorized")
    second.legend()
    (last, last_mixed), (wrong, wrong_mixed) = (
        [mean(noisy, value, arm=arm, label_noise=level) for arm in noisy["arm"].unique()] for value in ("last", "wrong")
    )
    return {
        "figure": figure,
        "caption": "Left: test error against the fraction of random labels, at the best of some ten checkpoints, "
        "chosen on the test points, and at the last epoch. Right: fraction of the wrong training labels that the "
        "network gives back. Mean and 95 % interval.",
        "alt": f"With {level:g} of the labels random, test error at the last epoch is {1 - last:.2f} without Mixup and "
        f"{1 - last_mixed:.2f} with it, while {wrong:.2f} and {wrong_mixed:.2f} of the wrong labels are given back.",
        "data": noisy,
    }


def ways(found: pd.DataFrame, points: Points, alpha: float) -> Figure:
    """Test accuracy, training accuracy and calibration error of ways of mixing, at this alpha where they name none."""
    names = {"last": "test accuracy", "train": "training accuracy", "ece": "calibration error"}
    figure, axes = plots.panels(3, height=3.4)
    for ax, (value, name) in zip(axes, names.items(), strict=True):
        kind: Any = {"trials": points[value]} if value in points else {"bounds": (0, 1)}
        horizontal(ax, found, value, "arm", **kind).tick_params(labelleft=ax is axes[0])
        plots.label_axes(ax, name, "")
    means = found.groupby("arm", sort=False)[["last", "ece"]].mean()
    return {
        "figure": figure,
        "caption": "Test accuracy, training accuracy and calibration error for ways of mixing, with "
        f"α = {alpha:g} where none is named; mean and 95 % interval over {found['seed'].nunique()} seeds.",
        "alt": "Test accuracy and calibration error: "
        + "; ".join(f"{name} {row['last']:.2f} and {row['ece']:.2f}" for name, row in means.iterrows())
        + ".",
        "data": found,
    }


def reliability(bins: pd.DataFrame, sweep: pd.DataFrame, noisy: pd.DataFrame, alpha: float, level: float) -> Figure:
    """Accuracy against confidence; the text names the calibration error with and without Mixup, and label noise."""
    found = bins.groupby(["arm", "label_noise", "bin"])["seed"].transform("nunique")
    networks = bins.groupby(["arm", "label_noise"])["seed"].transform("nunique")
    curves = bins[2 * found >= networks]
    curves = curves.assign(centre=(curves["bin"] + 0.5) / 15)
    figure, axes = plots.panels(2, height=3.4)
    titles = ("labels as they are", f"{level:g} of the labels random")
    for ax, noise, title in zip(axes, (0.0, level), titles, strict=True):
        plots.bands(ax, select(curves, label_noise=noise), x="centre", y="accuracy", hue="arm", bounds=(0, 1))
        ax.plot([0, 1], [0, 1], color="0.4", linestyle=":", zorder=0, label="calibrated")
        ax.set_ylim(0, 1.02)
        plots.label_axes(ax, "confidence (bin)", "accuracy in the bin" if ax is axes[0] else "", title)
        ax.legend(loc="upper left")
    plain, mixed = (mean(sweep, "ece", alpha=a) for a in (0.0, alpha))
    noisy_plain, noisy_mixed = (mean(noisy, "ece", arm=arm, label_noise=level) for arm in noisy["arm"].unique())
    return {
        "figure": figure,
        "caption": "Accuracy of test predictions against their confidence, in those of fifteen bins that hold more "
        "than two predictions in a hundred in at least half of the networks; above the dotted line networks are "
        "underconfident, below it overconfident. Mean and 95 % interval.",
        "alt": f"Without label noise the calibration error is {plain:.3f} without Mixup and {mixed:.3f} with it; with "
        f"{level:g} of the labels random it is {noisy_plain:.3f} and {noisy_mixed:.3f}.",
        "data": curves,
    }


def midpoints(recovery: study.Recovery) -> Figure:
    """Points in the plane, their midpoints, and the points that are computed from these alone."""
    figure, (ax,) = plots.panels(1, height=2.6)
    for name, places, style in (
        ("midpoints, given in any order", recovery.midpoints, {"color": "C0", "s": 22}),
        ("points", recovery.points, {"edgecolors": "k", "s": 110, **RINGS}),
        ("computed from the midpoints", recovery.recovered, {"color": "C1", "s": 45, "marker": "x"}),
    ):
        ax.scatter(places[:, 0], places[:, 1], label=name, **style)
    plots.label_axes(ax, "x₁", "x₂")
    figure.legend(*ax.get_legend_handles_labels(), loc="outside right center")
    n, m = len(recovery.points), len(recovery.midpoints)
    return {
        "figure": figure,
        "caption": f"{m} midpoints of {n} random points in the plane; the points (rings), and what is computed from "
        "the shuffled midpoints alone (crosses).",
        "alt": f"Every one of the {n} points computed from {m} midpoints lies on a true one: the largest distance is "
        f"{recovery.error:.1g}.",
        "data": pd.DataFrame(recovery.midpoints.numpy(), columns=["x1", "x2"]),
    }
