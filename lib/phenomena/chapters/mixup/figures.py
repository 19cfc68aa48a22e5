"""The chapter's figures: frames of `study` in, what `show` takes out, but for the name.

Captions describe; alternative texts tell the message with the numbers of the run.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from pandas.io.formats.style import Styler

from phenomena.chapters.mixup import study, theory
from phenomena.science import plots
from phenomena.science.frames import per_seed, select, summary

PAPER = {1.0: 0.174, 32.0: 0.604, 128.0: 0.654}  # p(class 1) at the middle sample, Table 1
RINGS: dict[str, Any] = {"facecolors": "none", "linewidths": 1.5, "zorder": 3}
MAP: dict[str, Any] = {"cmap": "cividis", "vmin": 0, "vmax": 1, "rasterized": True}
Figure = dict[str, Any]  # the arguments of `show`
Points = Mapping[str, int]  # of how many points an accuracy is the share: training ones ("train"), test ones ("last")


def mean(frame: pd.DataFrame, value: str, **where: Any) -> float:
    """Mean over seeds of the rows that `select` keeps."""
    return float(np.mean(per_seed(frame, value, **where)))


def spread(curves: pd.DataFrame) -> pd.DataFrame:
    """Median and 10 to 90 % of the seeds: columns alpha, position, low, middle, high."""
    parts = curves.groupby(["alpha", "position"])["p"].quantile(np.array([0.1, 0.5, 0.9])).unstack()
    return parts.set_axis(["low", "middle", "high"], axis=1).reset_index()


# --- points on a line and in the plane --------------------------------------------------------------------------------


def line_data(mixed: pd.DataFrame) -> Figure:
    """Mixed points and their labels."""
    x, targets = theory.alternating_line(3, 2)
    figure, axes = plots.panels(3, height=2.4)
    for ax, (alpha, part) in zip(axes, mixed.groupby("alpha"), strict=True):
        ax.scatter(part["position"], part["label"], s=6, alpha=0.25, linewidths=0)
        ax.scatter(x[:, 0], targets[:, 0], s=60, edgecolors="C1", **RINGS)
        plots.label_axes(ax, "position", "label: weight of class 1" if ax is axes[0] else "", f"α = {alpha:g}")
    return {
        "figure": figure,
        "caption": "Mixed points of the three samples (rings) and their labels. At the middle sample, whose own label "
        "is 0, large α puts points with label 1.",
        "alt": "Mixed points of three samples on a line: near the samples for small α, spread over the segments at 1, "
        "gathered at five places for 128, where the middle sample has mixed points of both labels.",
        "data": mixed,
    }


def line_curves(curves: pd.DataFrame, exact: pd.DataFrame, samples: pd.DataFrame, interactive: Any) -> Figure:
    """Networks and closed form along the line, a panel for each alpha of `curves`."""
    x, targets = theory.alternating_line(3, 2)
    n = samples["seed"].nunique()
    figure, axes = plots.panels(3, height=2.6)
    for ax, (alpha, part) in zip(axes, spread(curves).groupby("alpha"), strict=True):
        theirs = select(exact, alpha=alpha)
        ax.fill_between(part["position"], part["low"], part["high"], alpha=0.25, linewidth=0)
        ax.plot(part["position"], part["middle"], label=f"networks (n = {n})")
        ax.plot(theirs["position"], theirs["p"], "--", label=f"closed form, ε = {theirs['radius'].iloc[0]:g}")
        ax.scatter(x[:, 0], targets[:, 0], s=50, edgecolors="k", **RINGS)
        plots.label_axes(ax, "position", "p(class 1)" if ax is axes[0] else "", f"α = {alpha:g}")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    at = {a: mean(samples, "p", alpha=a, position=1.0) for a in curves["alpha"].unique()}
    return {
        "figure": figure,
        "caption": f"Probability of class 1 along the line: median and 10 to 90 % of {n} networks (line and band), the "
        "closed form (dashed), and the samples (rings). At the middle sample the right answer is 0. The slider moves "
        "through α, also where no networks were trained; the menu chooses the radius of the closed form.",
        "alt": "Closed form and networks run together between the samples; at the middle sample p(class 1) is "
        + ", ".join(f"{p:.2f} for α = {a:g}" for a, p in at.items())
        + ", where right would be 0.",
        "data": curves,
        "interactive": interactive,
    }


def places_for(stops: int, trained: int, radii: int) -> int:
    """How many places on the line keep the chart of `line_slider` below 300 kB."""
    return max(2, min(81, 5000 // (radii * stops + 2 * trained)))


def line_slider(learned: pd.DataFrame, exact: pd.DataFrame, samples: pd.DataFrame, epsilon: float) -> Any:
    """A chart with a slider over alpha and a menu of radii. learned, exact: networks and closed form at its places."""
    x, targets = theory.alternating_line(3, 2)
    radii = {f"ε = {r:g}": r for r in exact["radius"].unique()}
    trained = samples[samples["position"] == 1].groupby("alpha")["p"].median()

    def reading(alpha: float, radius: str) -> str:
        p = theory.middle_of_three(alpha, radii[radius])
        nets = f", in the networks {trained[alpha]:.2f} (median)" if alpha in trained else "; no networks trained here"
        exactly = f"{p:.2f} in the closed form ({'wrong' if p > 0.5 else 'right'})"
        return f"α = {alpha:.3g}, {radius}: at the middle sample p(class 1) is {exactly}{nets}."

    bands = spread(learned).round({"low": 4, "middle": 4, "high": 4})
    dashed = exact.assign(p=exact["p"].round(4), radius=exact["radius"].map({r: name for name, r in radii.items()}))
    rings = pd.DataFrame({"position": x[:, 0], "p": targets[:, 0]})
    return plots.slider(
        plots.Layer(bands, "area", "position", "low", "high", style={"opacity": 0.25}),
        plots.Layer(bands, "line", "position", "middle"),
        plots.Layer(dashed, "line", "position", "p", style={"strokeDash": [6, 4], "color": "#de8f05"}),
        plots.Layer(rings, "point", "position", "p", style={"size": 120, "color": "black"}),
        x=plots.Axis("position", (0, 2)),
        y=plots.Axis("p(class 1)", (0, 1)),
        controls={"alpha": "α", "radius": "radius of the closed form"},
        reading=reading,
        start={"alpha": 32.0, "radius": f"ε = {epsilon:g}"},
    )


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


def middle_table(samples: pd.DataFrame, epsilon: float) -> Styler:
    """The middle sample: networks, closed form, paper."""
    table = summary(select(samples, position=1.0).query("alpha > 0"), "alpha", "p", bounds=(0, 1))
    table = pd.DataFrame(
        {
            "α": table["alpha"],
            "networks, mean": table["mean"],
            "95 % interval, from": table["low"],
            "to": table["high"],
            f"closed form, ε = {epsilon:g}": [theory.middle_of_three(a, epsilon) for a in table["alpha"]],
            "paper": table["alpha"].map(PAPER),
        }
    )
    style = table.style.hide().format("{:g}", subset=["α"]).set_uuid("middle")
    return style.format("{:.3f}", subset=list(table.columns[1:]), na_rep="–")


def line_long(errors: pd.DataFrame, points: int) -> Figure:
    """Training error on longer lines."""
    figure, (ax,) = plots.panels(1, height=3.2)
    named = errors.astype({"classes": str})
    plots.bands(ax, named, x="classes", y="error", hue="training", joined=False, trials=points)
    plots.label_axes(ax, "classes", "training error", f"{points} points on a line").legend()
    few = errors["classes"].min()
    plain, weak, strong = (mean(errors, "error", classes=few, training=t) for t in ("ERM", "α = 1", "α = 32"))
    return {
        "figure": figure,
        "caption": f"Training error on {points} points with alternating classes, mean and 95 % interval. The paper's "
        "logs give .33 (Mixup) against .07 (ERM) for 2 classes at α = 1, and .47 against .09 at α = 32.",
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
        third.plot(part["distance"], part["networks"], color=color, label=f"on that of {name}")
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
    figure, (first, second) = plots.panels(2, height=3.4)
    for i, (name, part) in enumerate(distances.groupby("set", sort=False)):
        for column, style in (("segment", "-"), ("neighbour", ":")):
            relative = part[column] / part["neighbour"].median()
            first.ecdf(relative, linestyle=style, color=f"C{i}", label=f"{name}, to {column}")
    title = "How far segments stay away"
    plots.label_axes(first, "distance / median distance to another class", "fraction of training points", title)
    first.legend()
    names = {"erm": "ERM", "mixup": f"α = {alpha:g}"}
    both = fitted.melt(["set", "seed"], list(names), "training", "accuracy").replace({"training": names})
    rows = len(distances) // len(fitted)
    plots.bands(second, both, x="set", y="accuracy", hue="training", joined=False, trials=rows)
    plots.label_axes(second, "data set", "training accuracy", "What is still fitted").legend()
    draws = fitted["seed"].nunique()
    means = fitted.groupby("set", sort=False)[["clearance", "erm", "mixup"]].mean()
    return {
        "figure": figure,
        "caption": "Left: distances of the training points to the nearest of all segments between two points of other "
        f"classes (lines) and to the nearest such point (dotted), {draws} draws of {rows} points "
        f"together. Right: training accuracy after {epochs} epochs, mean and 95 % interval.",
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
    figure, (left, right) = plots.panels(2, height=3.6)
    plots.bands(left, named, x="training", y="bent", hue="separation", joined=False, bounds=(0, 1))
    plots.label_axes(left, "", "fraction of the square", "Off the straight line").legend()
    plots.bands(right, named, x="training", y="margin", hue="separation", joined=False)
    plots.label_axes(right, "", "distance (negative: wrong side)", "Smallest distance to the boundary").legend()
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


def moons_table(shapes: pd.DataFrame) -> Styler:
    """Bend and margin, mean and standard deviation over seeds."""
    groups = shapes.groupby(["separation", "training"], sort=False)[["bent", "margin"]]
    table = groups.agg(["mean", "std"]).reset_index()
    table.columns = pd.Index(["separation", "training", "off the line, mean", "sd", "margin, mean", "sd "])
    style = table.style.hide().format("{:g}", subset=["separation"]).set_uuid("moons")
    return style.format("{:.3f}", subset=list(table.columns[2:]))


def linear(lines: pd.DataFrame, points: int) -> Figure:
    """Directions of the linear Mixup optimum against the dimension."""
    bound = theory.max_margin_bound(points)
    names = {"max-margin": "to max-margin", "interpolator": "to least-norm interpolator"}
    both = lines.melt(["seed", "d"], list(names), "to", "angle").replace({"to": names})
    figure, (first, second) = plots.panels(2, height=3.2)
    plots.bands(first, both, x="d", y="angle", hue="to", bounds=(0, 180))
    plots.bands(second, lines.assign(what="max-margin"), x="d", y="support", hue="what", trials=points)
    for ax, name, title in (
        (first, "angle of the Mixup optimum, degrees", "Direction"),
        (second, "fraction of samples that are support vectors", "Why"),
    ):
        ax.set_xscale("log")
        ax.axvline(bound, color="0.4", linestyle="--", linewidth=1)
        plots.label_axes(ax, "dimension d (dashed: the theorem's bound)", name, title)
    first.legend()
    below, above = (mean(lines, "max-margin", d=d) for d in (points, lines.loc[lines["d"] > bound, "d"].min()))
    return {
        "figure": figure,
        "caption": "Left: angle between the Mixup optimum of a linear model and two other solutions, "
        f"{points} Gaussian points with labels that alternate. Right: fraction of support vectors of the max-margin "
        f"solution. Mean and 95 % interval over {lines['seed'].nunique()} draws.",
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
    plots.label_axes(ax, "α", "accuracy", f"{dataset}, {points['train']} training points").legend()
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


def ways(found: pd.DataFrame, points: Points) -> Figure:
    """Test accuracy, training accuracy and calibration error of ways of mixing."""
    names = {"last": "test accuracy", "train": "training accuracy", "ece": "calibration error (ECE)"}
    figure, axes = plots.panels(3, height=4.2)
    for ax, (value, name) in zip(axes, names.items(), strict=True):
        kind: Any = {"trials": points[value]} if value in points else {"bounds": (0, 1)}
        plots.bands(ax, found.assign(what=value), x="arm", y=value, hue="what", joined=False, **kind)
        plots.label_axes(ax, "", name)
        ax.tick_params(axis="x", rotation=90)
    means = found.groupby("arm", sort=False)[["last", "ece"]].mean()
    return {
        "figure": figure,
        "caption": "Test accuracy, training accuracy and calibration error for ways of mixing, mean and 95 % interval "
        f"over {found['seed'].nunique()} seeds.",
        "alt": "Test accuracy and calibration error: "
        + "; ".join(f"{name} {row['last']:.2f} and {row['ece']:.2f}" for name, row in means.iterrows())
        + ".",
        "data": found,
    }


def reliability(bins: pd.DataFrame, sweep: pd.DataFrame, noisy: pd.DataFrame, alpha: float, level: float) -> Figure:
    """Accuracy against confidence; the text names the calibration error with and without Mixup, and label noise."""
    noise = bins["label_noise"].map(lambda fraction: f", {fraction:g} label noise" if fraction else "")
    curves = bins.assign(arm=bins["arm"] + noise, centre=(bins["bin"] + 0.5) / 15)
    figure, (ax,) = plots.panels(1, height=4.0)
    plots.bands(ax, curves, x="centre", y="accuracy", hue="arm", bounds=(0, 1))
    ax.plot([0, 1], [0, 1], color="0.4", linestyle=":", zorder=0)
    ax.set_ylim(0, 1.02)
    plots.label_axes(ax, "confidence (bin)", "accuracy in the bin", "Reliability").legend()
    plain, mixed = (mean(sweep, "ece", alpha=a) for a in (0.0, alpha))
    noisy_plain, noisy_mixed = (mean(noisy, "ece", arm=arm, label_noise=level) for arm in noisy["arm"].unique())
    return {
        "figure": figure,
        "caption": "Accuracy of predictions against their confidence, in fifteen bins that hold more than two "
        "predictions in a hundred; above the dotted line a network is underconfident, below it overconfident. Mean and "
        "95 % interval.",
        "alt": f"Without label noise the calibration error is {plain:.3f} without Mixup and {mixed:.3f} with it; with "
        f"{level:g} of the labels random it is {noisy_plain:.3f} and {noisy_mixed:.3f}.",
        "data": curves,
    }
