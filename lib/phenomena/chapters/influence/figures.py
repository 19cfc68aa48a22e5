"""The chapter's figures. Each function returns what `show` takes: figure, caption, alternative text, data, a chart."""

import base64
import io
import json
from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from contourpy import contour_generator
from jaxtyping import Float, UInt8
from matplotlib.axes import Axes

from phenomena.chapters.influence.retraining import spearman
from phenomena.chapters.influence.samples import Sample
from phenomena.chapters.influence.study import Convex, Plane, Strip, quadratic
from phenomena.science import plots
from phenomena.science.frames import select, summary
from phenomena.statistics import interval

Array = np.ndarray
GREY, BLUE, ORANGE, GREEN, RED, PURPLE = "#555555", "#0173b2", "#de8f05", "#029e73", "#d55e00", "#cc78bc"
LDS = "LDS (rank correlation)"
REACH = (3.2, 2.4)  # of the plane, to each side
HEIGHT, PICTURES, GAP = 300, 230, 100  # pixels of the moving figure: plane, strips, and between


def _row(
    ax: Axes,
    frame: pd.DataFrame,
    column: str,
    value: str,
    order: Sequence[str],
    color: str = BLUE,
    label: str | None = None,
    offset: float = 0.0,
    **limits: Any,
) -> Axes:
    """One value a row of `column`: mean over seeds with its 95 % interval, and the seeds as faint dots."""
    rows = summary(frame, column, value, **limits).set_index(column).loc[list(order)][::-1]
    places = np.arange(len(rows)) + offset
    for at, name in zip(places, rows.index, strict=True):
        single = frame.loc[frame[column] == name, value]
        ax.plot(single, [at] * len(single), ".", color="0.75", markersize=5, zorder=1)
    mean = rows["mean"].to_numpy()
    bars = np.nan_to_num(np.array([mean - rows["low"], rows["high"] - mean]))
    ax.errorbar(mean, places, xerr=bars, fmt="o", ms=5, color=color, capsize=3, label=label, zorder=2)
    ax.set_yticks(range(len(rows)), rows.index)
    return ax


def _line(ax: Axes, frame: pd.DataFrame, x: str, y: str, label: str, color: str, style: str = "-") -> Axes:
    """Means over seeds along x with 95 % intervals, joined."""
    means = frame.groupby(x)[y].mean()
    ax.plot(means.index, means, style, color=color)
    return plots.points(ax, frame.sort_values(x), x, y, label, color)


def _means(frame: pd.DataFrame, by: str, value: str) -> dict[Any, float]:
    return frame.groupby(by)[value].mean().to_dict()


# --- the key figure ---------------------------------------------------------------------------------------------------


def boundaries(found: Plane, shown: Sequence[Strip], sample: Sample) -> dict[str, Any]:
    """The boundary without a chosen point, retrained and predicted; helpful and harmful images by method."""
    lines = {
        "with all points": [_contour(found.w)],
        "retrained without": [_contour(w) for w in found.without],
        "predicted": [_contour(w) for w in found.predicted],
    }
    pictures = [_sheet(strip, sample) for strip in shown]
    moved = np.abs(found.own[:, 1] - found.own[:, 0])
    chosen = int(moved.argmax())
    change = found.own[chosen] - found.own[chosen, 0]
    rank = spearman(found.own[:, [2]] - found.own[:, [0]], found.own[:, [1]] - found.own[:, [0]])[0]
    return {
        "figure": _still(found, lines, chosen, pictures[0], shown[0]),
        "caption": f"Above, {len(found.y)} points of two classes and the boundary of logistic regression on quadratic "
        "features. One point is ringed: the boundary without it, retrained (blue) and as an influence function "
        "predicts it (dashed). One point has the wrong label. Below, for a test image the four training images that "
        "each method takes for the most helpful ones and the four most harmful. Blue frames have the label of the "
        "test image, orange ones another. In the moving figure, choose the point and the test image.",
        "alt": f"Without the ringed point its own margin changes by {change[1]:+.2f}, as predicted by "
        f"{change[2]:+.2f}. Over all points the predicted change of the own margin has rank correlation {rank:.2f} "
        f"with the true one. "
        f"Share of the most helpful images that have the label of the test image: {_labeled(shown, sample, True)}; "
        f"of the most harmful ones: {_labeled(shown, sample, False)}.",
        "data": pd.DataFrame(found.own, columns=["with", "without", "predicted"]).assign(point=range(len(found.y))),
        "interactive": _moving(found, lines, chosen, pictures, shown, sample),
    }


def _labeled(shown: Sequence[Strip], sample: Sample, helpful: bool) -> str:
    """For each method, which share of the images shown has the label of its test image."""
    parts = []
    for method in shown[0].helpful:
        rows = [(strip.helpful if helpful else strip.harmful)[method] for strip in shown]
        same = [
            (sample.y[r.copy()] == sample.y_test[strip.test]).tolist() for r, strip in zip(rows, shown, strict=True)
        ]
        parts.append(f"{method} {np.mean(same):.2f}")
    return ", ".join(parts)


def _contour(w: Float[Array, "6 2"]) -> list[Float[Array, "k 2"]]:
    """Pieces of the line on which both classes are equally likely, within the plane that is shown."""
    x, y = (np.linspace(-r, r, 61) for r in REACH)
    grid = quadratic(np.stack(np.meshgrid(x, y), -1).reshape(-1, 2)) @ (w[:, 1] - w[:, 0])
    lines: Any = contour_generator(x, y, grid.reshape(61, 61)).lines(0.0)
    return [line[sorted({*range(0, len(line), 2), len(line) - 1})] for line in lines if len(line) > 2]


def _sheet(strip: Strip, sample: Sample) -> UInt8[Array, "h w 3"]:
    """Rows of images, one a method: helpful, a gap, harmful; frames by whether the label is that of the test image."""
    label = int(sample.y_test[strip.test])
    rows = []
    for method, helpful in strip.helpful.items():
        framed = [_framed(sample, int(i), label) for i in (*helpful, *strip.harmful[method])]
        blank = np.full((framed[0].shape[0], framed[0].shape[1] // 2, 3), 255, np.uint8)
        rows.append(np.concatenate([*framed[: len(helpful)], blank, *framed[len(helpful) :]], axis=1))
    return np.concatenate(rows)


def _framed(sample: Sample, i: int, label: int) -> UInt8[Array, "h w 3"]:
    """A training image, its values stretched to greys, within a colored frame."""
    color = tuple(int((BLUE if sample.y[i].item() == label else ORANGE)[k : k + 2], 16) for k in (1, 3, 5))
    return _frame(_grey(sample.x[i].numpy()), color)


def _frame(grey: UInt8[Array, "h w"], color: tuple[int, ...]) -> UInt8[Array, "_ _ 3"]:
    inner = np.pad(np.repeat(grey[..., None], 3, 2), ((1, 1), (1, 1), (0, 0)), constant_values=255)
    edge = np.tile(np.array(color, np.uint8), (inner.shape[0] + 4, inner.shape[1] + 4, 1))
    edge[2:-2, 2:-2] = inner
    return np.pad(edge, ((1, 1), (1, 1), (0, 0)), constant_values=255)


def _grey(x: Float[Array, "c *space"]) -> UInt8[Array, "h w"]:
    """16 greys, 3 pixels or more each; the mean over channels, a signal as a low image."""
    flat = x.mean(0)
    flat = np.repeat(flat[None], 8, 0) if flat.ndim == 1 else flat
    span = max(float(flat.max() - flat.min()), 1e-9)
    grey = ((flat - flat.min()) / span * 15).round().astype(np.uint8) * 17
    return np.kron(grey, np.ones((max(1, 42 // max(grey.shape)),) * 2, np.uint8))


def _url(picture: Array) -> str:
    from PIL import Image

    png = io.BytesIO()
    Image.fromarray(picture).quantize(24).save(png, format="png", optimize=True)
    return "data:image/png;base64," + base64.b64encode(png.getvalue()).decode()


def _still(found: Plane, lines: dict[str, Any], chosen: int, picture: Array, strip: Strip) -> Any:
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained", width_ratios=(1, 1.05))
    styles = {"with all points": ("0.6", "-"), "retrained without": (BLUE, "-"), "predicted": (RED, "--")}
    for name, (color, style) in styles.items():
        for k, piece in enumerate(lines[name][0 if name == "with all points" else chosen]):
            left.plot(*piece.T, style, color=color, linewidth=2, label=name if k == 0 else None)
    for label, (color, marker) in enumerate(((GREEN, "o"), (PURPLE, "s"))):
        left.plot(*found.points[found.y == label].T, marker, color=color, ms=5, label=f"class {'AB'[label]}")
    left.plot(*found.points[chosen], "o", ms=14, mfc="none", mec="k")
    left.set(xlim=(-REACH[0], REACH[0]), ylim=(-REACH[1], REACH[1]))
    plots.label_axes(left, "x", "y", "without the ringed point").legend(fontsize=7, loc="lower right")
    right.imshow(picture)
    size = picture.shape[0] / len(strip.helpful)
    right.set_yticks([size * (k + 0.5) for k in range(len(strip.helpful))], list(strip.helpful))
    right.set_xticks([0.22 * picture.shape[1], 0.78 * picture.shape[1]], ["most helpful", "most harmful"])
    right.tick_params(length=0)
    right.grid(False)
    right.spines[:].set_visible(False)
    right.set_title("for one test image, by method")
    return figure


def _moving(
    found: Plane, lines: dict[str, Any], chosen: int, pictures: Sequence[Array], shown: Sequence[Strip], sample: Sample
) -> Any:
    """Plane above, strips below; a slider chooses the point, another the test image."""
    import altair as alt  # a second of import that only notebooks with such a chart need

    n, tall = len(found.y), HEIGHT + GAP + PICTURES
    across = alt.X("x:Q", title="x").scale(domain=[-REACH[0], REACH[0]], nice=False)
    across = across.axis(offset=-(GAP + PICTURES), grid=False, tickCount=6)
    up = alt.Y("y:Q", title="y").scale(domain=[-REACH[1], REACH[1]], range=[HEIGHT, 0], nice=False)
    up = up.axis(grid=False, tickCount=4)
    words, colors = ["with all points", "retrained without it", "predicted"], ["#aaaaaa", BLUE, RED]
    legend = alt.Legend(orient="top", symbolType="stroke")
    dashes = alt.StrokeDash("c:N", title=None, legend=legend).scale(domain=words, range=[[1, 0], [1, 0], [6, 4]])
    key = alt.Color("c:N", title=None, legend=legend).scale(domain=words, range=colors)
    pieces = [
        {"c": word, "i": i, "d": f"{word}{i}/{k}", "p": [[round(float(v), 2) for v in xy] for xy in piece]}
        for word, name in zip(words, lines, strict=True)
        for i, line in enumerate(lines[name])
        for k, piece in enumerate(line)
    ]
    curves = (
        alt.Chart(alt.Data(values=pieces))
        .transform_filter(f"datum.c == '{words[0]}' || datum.i == point")
        .transform_flatten(["p"])
        .transform_window(o="row_number()")
        .transform_calculate(x="datum.p[0]", y="datum.p[1]")
        .mark_line(strokeWidth=2.5, clip=True)
        .encode(across, up, key, dashes, detail="d:N", order="o:Q")
    )
    table = pd.DataFrame(found.points.round(3), columns=["x", "y"]).assign(i=range(n), s=found.y)
    dots = alt.Chart(table)
    fill = alt.condition("datum.s == 0", alt.value(GREEN), alt.value(PURPLE))
    shape = alt.condition("datum.s == 0", alt.value("circle"), alt.value("square"))
    points = dots.mark_point(filled=True, size=60, opacity=1, clip=True).encode(across, up, color=fill, shape=shape)
    ring = dots.transform_filter("datum.i == point").mark_point(size=420, color="black", strokeWidth=2)
    sheets = alt.Chart(pd.DataFrame({"i": range(len(pictures)), "u": [_url(p) for p in pictures]}))
    methods, (rows, columns) = list(shown[0].helpful), pictures[0].shape[:2]
    tall_as = f"min({PICTURES}, width * 0.72 * {rows / columns:.4f})"  # narrow screens have smaller images
    wide_as, top = f"({tall_as} * {columns / rows:.4f})", HEIGHT + GAP
    strips = (
        sheets.transform_filter("datum.i == image")
        .mark_image(width={"expr": wide_as}, height={"expr": tall_as}, align="right", baseline="top", aspect=False)
        .encode(url="u:N", x=alt.value({"expr": "width"}), y=alt.value(top))
    )
    tests = [_frame(_grey(sample.x_test[strip.test].numpy()), (85, 85, 85)) for strip in shown]
    asked = (
        alt.Chart(pd.DataFrame({"i": range(len(tests)), "u": [_url(t) for t in tests]}))
        .transform_filter("datum.i == image")
        .mark_image(width=48, height=48, align="left", baseline="top")
        .encode(url="u:N", x=alt.value(0), y=alt.value(top - 58))
    )
    size = {"expr": "width < 500 ? 10 : 12"}
    places: list[tuple[str, str, Any, str]] = [
        (f"width - {wide_as} - 6", f"{top} + {tall_as} * {(k + 0.5) / len(methods)}", "right", method)
        for k, method in enumerate(methods)
    ]
    places += [(f"width - {wide_as} * {share}", f"{top - 10}", "center", word)
               for share, word in ((0.77, "most helpful"), (0.23, "most harmful"))]  # fmt: skip
    places.append(("54", f"{top - 34}", "left", "test image"))
    words_below = [
        alt.Chart(pd.DataFrame({"t": [text]}))
        .mark_text(align=align, baseline="middle", fontSize=size)
        .encode(text="t:N", x=alt.value({"expr": x}), y=alt.value({"expr": y}), color=alt.value("black"))
        for x, y, align, text in places
    ]
    both = alt.layer(curves, points, ring.encode(across, up), strips, asked, *words_below).properties(height=tall)
    changes = found.own - found.own[:, :1]
    own = [f"{changes[i, 1]:+.2f}, predicted {changes[i, 2]:+.2f}" for i in range(n)]
    labels = [int(sample.y_test[strip.test]) for strip in shown]
    texts = [[f"Without point {i + 1} its margin changes by {own[i]}. Below, which training images help and harm a "
              f"test image of class {label}." for label in labels] for i in range(n)]  # fmt: skip
    last = len(shown) - 1
    return both.add_params(
        alt.param(name="point", value=chosen, bind=alt.binding_range(min=0, max=n - 1, step=1, name="point removed")),
        alt.param(name="point_ticks", value=[str(i + 1) for i in range(n)]),
        alt.param(name="image", value=0, bind=alt.binding_range(min=0, max=last, step=1, name="test image")),
        alt.param(name="image_ticks", value=[str(label) for label in labels]),
        alt.param(name="reading", expr=f"{json.dumps(texts, ensure_ascii=False)}[point][image]"),
    )


# --- the opening and the convex case ----------------------------------------------------------------------------------


def ridge(frame: pd.DataFrame) -> dict[str, Any]:
    """Leave-one-out residuals of ridge regression by refitting, against the closed form and the plain residual."""
    figure, (left, right) = plots.panels(2, height=3.0)
    first = select(frame, seed=frame["seed"].iloc[0])
    left.plot(first["refitted"], first["residual"], "s", color=ORANGE, ms=4, label="residual $e_i$")
    left.plot(first["refitted"], first["closed"], "o", color=BLUE, ms=4, label="$e_i/(1-h_i)$")
    edge = [first["refitted"].min(), first["refitted"].max()]
    left.plot(edge, edge, color=GREY, linewidth=1)
    plots.label_axes(left, "residual of a fit without the point", "from one fit", "one formula, no refitting").legend()
    right.plot(first["x"], first["leverage"], ".-", color=GREY)
    plots.label_axes(right, "x", "leverage $h_i$", "points at the ends count most")
    ends = first["leverage"].iloc[[0, -1]].mean()
    return {
        "figure": figure,
        "caption": "Ridge regression on powers of x. Residual of every point by a fit that has not seen it, against "
        "the closed form and the plain residual of the fit that has (one seed); and the leverage of the points.",
        "alt": f"The closed form lies on the diagonal; plain residuals are smaller. Leverage is "
        f"{first['leverage'].median():.2f} for a middling point and {ends:.2f} at the ends.",
        "data": frame,
    }


def exact(case: Convex, estimated: dict[str, Array], frame: pd.DataFrame) -> dict[str, Any]:
    """Exact leave-one-out against two estimates, and rank correlations of all methods. frame: of `convex_judged`."""
    figure, (left, right) = plots.panels(2, height=3.4, width=8)
    largest = np.abs(case.removed).max()
    for name, color, marker in (("influence", ORANGE, "s"), ("one Newton step", BLUE, "o")):
        left.plot(estimated[name].ravel(), case.removed.ravel(), marker, ms=2, color=color, alpha=0.4, label=name)
    left.plot([-largest, largest], [-largest, largest], color=GREY, linewidth=1)
    plots.label_axes(left, "estimated rise of the test loss", "true rise", "one training point removed")
    left.legend(markerscale=3)
    _row(right, frame, "method", "spearman", list(estimated))
    right.set(xlim=(-0.1, 1.05))
    n = frame["seed"].nunique()
    plots.label_axes(right, "Spearman with the truth", "", f"ranks of training points (n = {n})")
    rank, slope = (_means(frame, "method", v) for v in ("spearman", "slope"))
    return {
        "figure": figure,
        "caption": "Softmax regression: by how much the loss of each test image rises when each training image is "
        "removed, exactly and as estimated (one seed, all pairs); and the rank correlation over training images, the "
        "mean over test images, of each seed (dots) and its mean with 95 % interval.",
        "alt": f"Influence functions have rank correlation {rank['influence']:.3f} with the truth, gradient dot "
        f"{rank['dot']:.2f}. True effects are {slope['influence']:.2f} times those of influence functions and "
        f"{slope['one Newton step']:.2f} times those of one Newton step.",
        "data": frame,
    }


def groups(frame: pd.DataFrame, ratios: pd.DataFrame) -> dict[str, Any]:
    """True effect of removing a group against the sum over its members, for both kinds of groups."""
    figure, axes = plots.panels(2, height=3.2, width=8)
    first = select(frame, seed=frame["seed"].iloc[0])
    for ax, kind, color in zip(axes, ("one class", "random"), (RED, BLUE), strict=True):
        part = select(first, kind=kind)
        ax.plot(part["summed"], part["true"], ".", color=color, alpha=0.5)
        edge = [part["summed"].min(), part["summed"].max()]
        ax.plot(edge, edge, color=GREY, linewidth=1)
        mean, low, high = interval(select(ratios, kind=kind)["ratio"])
        plots.label_axes(ax, "sum of leave-one-out effects", "effect of removing all", f"groups: {kind}")
        ax.annotate(f"true / sum\n{mean:.2f} [{low:.2f}, {high:.2f}]", (0.04, 0.82), xycoords="axes fraction")
    ratio = _means(ratios, "kind", "ratio")
    return {
        "figure": figure,
        "caption": "Removing a group of training images together: true rise of each test image's loss against the "
        "sum of the exact effects of its members, for groups of one class and for random ones (one seed; diagonal: "
        "equal). Ratio of sizes: mean over seeds with 95 % interval.",
        "alt": f"For groups of one class the true effect is {ratio['one class']:.2f} times the sum, for random groups "
        f"{ratio['random']:.2f} times.",
        "data": frame,
    }


# --- networks ---------------------------------------------------------------------------------------------------------


def judged(frame: pd.DataFrame) -> dict[str, Any]:
    """LDS by method, the best first, and its ceiling."""
    part = select(frame, kind="lds")
    order = part.groupby("method")["value"].mean().sort_values(ascending=False).index.tolist()
    figure, (ax,) = plots.panels(1, height=4.2)
    _row(ax, part, "method", "value", order, bounds=(-1, 1))
    ax.axvline(0, color="0.6", linewidth=1, linestyle=":")
    top, low, high = interval(select(frame, kind="ceiling")["value"], bounds=(0, 1))
    ax.axvline(top, color=GREY, linewidth=1, linestyle="--", label="ceiling: retraining is random")
    ax.axvspan(*np.nan_to_num([low, high], nan=top), color=GREY, alpha=0.15, linewidth=0)
    ax.legend(fontsize=7, loc="lower right")
    plots.label_axes(ax, LDS, "", f"which scores foretell retraining (n = {part['seed'].nunique()})")
    mean = _means(part, "method", "value")
    told = ", ".join(f"{name} {mean[name]:.2f}" for name in order)
    return {
        "figure": figure,
        "caption": "Linear datamodeling score: rank correlation, over held-out subsets, of the sum of the scores of a "
        "subset's members with the margin of a network trained on that subset. Each seed (dots), and mean with 95 % "
        "interval. Dashed: what a score would reach that foretells the mean margin of every subset, estimated from a "
        "second training on the same subsets.",
        "alt": f"Linear datamodeling score by method: {told}. The ceiling is {top:.2f}.",
        "data": pd.concat([part, select(frame, kind="ceiling")]),
    }


def costs(frame: pd.DataFrame) -> dict[str, Any]:
    """LDS against trainings."""
    figure, (ax,) = plots.panels(1, height=3.2)
    colors = {"influence": BLUE, "TRAK, ridge": GREEN, "datamodel, LASSO": RED, "datamodel, ridge": ORANGE}
    for method, color in colors.items():
        _line(ax, select(frame, method=method), "trainings", "value", method, color)
    ax.set_xscale("log")
    plots.label_axes(ax, "networks trained", LDS).legend()
    ends = frame.sort_values("trainings").groupby(["method", "seed"])["value"].agg(["first", "last"])
    first, last = (ends[at].groupby("method").mean() for at in ("first", "last"))
    return {
        "figure": figure,
        "caption": "The same score against the number of networks that a method has to train: networks on all data "
        "for influence functions and TRAK, networks on random subsets for datamodels. Mean with 95 % interval.",
        "alt": f"Influence functions reach {last['influence']:.2f} with the most networks trained on all data, the "
        f"LASSO datamodel {last['datamodel, LASSO']:.2f} with the most subsets. With the fewest of either it is "
        f"{first['influence']:.2f} and {first['datamodel, LASSO']:.2f}.",
        "data": frame,
    }


def wrong(frame: pd.DataFrame) -> dict[str, Any]:
    """How well each detector finds wrong labels, and memorization of right and wrong ones."""
    figure, (left, right) = plots.panels(2, height=3.4, width=8)
    part = select(frame, kind="auc")
    order = part.groupby("method")["value"].mean().sort_values(ascending=False).index.tolist()
    _row(left, part, "method", "value", order, bounds=(0, 1))
    n = part["seed"].nunique()
    plots.label_axes(left, "AUC for wrong labels", "", f"who finds them (n = {n})")
    _row(right, select(frame, kind="memorized"), "method", "value", ["wrong labels", "right labels"], bounds=(-1, 1))
    plots.label_axes(right, "memorization", "", "P(right | in) − P(right | out)")
    mean, memory = _means(part, "method", "value"), _means(select(frame, kind="memorized"), "method", "value")
    told = "No label is wrong, so there is none to find."
    if np.isfinite(mean["loss"]):
        told = (
            f"The plain loss finds wrong labels with AUC {mean['loss']:.3f}, self-influence with "
            f"{mean['self-influence']:.3f}, memorization with {mean['memorization']:.3f}; chance is a half. "
            f"Memorization of wrong labels is {memory['wrong labels']:.2f}."
        )
    return {
        "figure": figure,
        "caption": "Area under the curve (AUC) with which each quantity finds the training images whose label is "
        "wrong; and memorization of images with wrong and right labels. Each seed (dots), and mean with 95 % interval.",
        "alt": f"{told} Memorization of right labels is {memory['right labels']:.2f}.",
        "data": frame,
    }


def limits(dampings: pd.DataFrame, depths: pd.DataFrame, starts: pd.DataFrame, ends: pd.DataFrame) -> dict[str, Any]:
    """What the estimate depends on: damping, depth and decay, initialization, and how one retrains."""
    figure, axes = plots.panels(2, rows=2, height=2.9, width=8)
    _line(axes[0], dampings, "damping", "value", "one network", BLUE)
    axes[0].set_xscale("log")
    plots.label_axes(axes[0], "damping", LDS, "damping").legend()
    styles = {"ceiling": "--", "influence": "-", "dot": ":"}
    for decay, color in zip(sorted(depths["decay"].unique()), (RED, GREEN), strict=False):
        for method, style in styles.items():
            part = select(depths, decay=decay, method=method)
            label = f"decay {decay:g}" if method == "influence" else ""
            _line(axes[1], part, "depth", "value", label, color, style)
    for method, style in styles.items():
        axes[1].plot([], [], style, color=GREY, label=method)
    axes[1].set_xticks(sorted(depths["depth"].unique()))
    axes[1].set_ylim(min(0, axes[1].get_ylim()[0]) - 0.2)  # room for the legend
    plots.label_axes(axes[1], "hidden layers", LDS, "depth and weight decay")
    axes[1].legend(fontsize=7, ncols=2, loc="lower left")
    names = ["influence", "TRAK, ridge", "TracIn", "dot"]
    for offset, start, color in ((0.1, "fixed", GREEN), (-0.1, "random", GREY)):
        part = select(starts, start=start)
        _row(axes[2], part, "method", "value", names, color, f"{start} start", offset, bounds=(-1, 1))
    plots.label_axes(axes[2], LDS, "", "one model for the estimate").legend(fontsize=7)
    _row(axes[3], ends, "retraining", "value", ["warm", "cold", "elsewhere"], bounds=(-1, 1))
    plots.label_axes(axes[3], "Spearman with influence", "", "one sample removed, retrained")
    best = dampings.groupby("damping")["value"].mean()
    plain = select(depths, decay=depths["decay"].min())
    deep, most = (select(plain, method=m).groupby("depth")["value"].mean() for m in ("influence", "ceiling"))
    again, alike = _means(ends, "retraining", "value"), _means(select(starts, method="influence"), "start", "value")
    return {
        "figure": figure,
        "caption": "What the agreement of influence functions with retraining depends on: damping; hidden layers and "
        "weight decay (dotted: gradient dot; dashed: the ceiling, since retraining is random); whether all networks "
        "begin alike; and whether retraining without one image goes on from the end (warm), begins again at the same "
        "start (cold) or at another. Mean with 95 % interval over seeds.",
        "alt": f"Of the dampings tried, {best.idxmax():g} gives the best score, {best.max():.2f}; the worst is "
        f"{best.min():.2f}. Without weight decay the score goes from {deep.iloc[0]:.2f} with {deep.index[0]} hidden "
        f"layer to {deep.iloc[-1]:.2f} with {deep.index[-1]}, the ceiling from {most.iloc[0]:.2f} to "
        f"{most.iloc[-1]:.2f}. With a fixed start one model has {alike['fixed']:.2f}, else {alike['random']:.2f}. Warm "
        f"retraining agrees by {again['warm']:.2f}, cold by {again['cold']:.2f}, from another start by "
        f"{again['elsewhere']:.2f}.",
        "data": pd.concat([dampings, depths, starts, ends], ignore_index=True),
    }
