"""The figures of the chapter: frames in, what `show` takes out (figure, caption, alternative text, data)."""

import json
import math
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullFormatter
from pandas.io.formats.style import Styler
from pandas.io.formats.style_render import CSSDict

from phenomena.chapters.local_elasticity.study import MODELS, Prediction, corners
from phenomena.science import datasets, plots
from phenomena.science.frames import select
from phenomena.statistics import interval

Shown = dict[str, Any]
Places = npt.NDArray[Any]


def class_names(data: datasets.Dataset) -> list[str]:
    """What the classes are called on the figures: long names shortened, as long as they still differ."""
    names = list(data.names) or [f"class {k}" for k in range(data.classes)]
    short = [name if len(name) <= 14 else f"{name[:13]}…" for name in names]
    return short if len(set(short)) == len(short) else names


def images(data: datasets.Dataset, name: str, each: int = 10) -> Shown:
    """Training images of each class, a row a class."""
    classes, side = data.classes, data.x_train.shape[2]
    figure, (ax,) = plots.panels(1, height=0.6 * classes + 0.6)
    rows = [torch.cat(list(data.x_train[data.y_train == k][:each]), 2) for k in range(classes)]
    ax.imshow(torch.cat(rows, 1).permute(1, 2, 0).squeeze(2).numpy(), cmap="gray")
    ax.set_yticks([side * (k + 0.5) for k in range(classes)], class_names(data))
    ax.set_xticks([])
    ax.grid(False)
    plots.label_axes(ax, f"{each} training images of each class", "")
    caption = (
        f"Training images of each of the {classes} classes of {name}; {len(data.y_train) // classes} a class are used."
    )
    alt = f"Rows of {each} small images, one row for each of the {classes} classes of {name}, in varied positions."
    return {"figure": figure, "caption": caption, "alt": alt}


# --- classes on the plane of their logits -----------------------------------------------------------------------------

UNIT = 0.05  # logits: distances are drawn about linearly below it, logarithmically above
RINGS = (0.1, 1.0, 10.0)  # logits
MARKS = {"^": "triangle-up", "s": "square", "o": "circle", "D": "diamond", "P": "cross", "v": "triangle-down",
         "<": "triangle-left", ">": "triangle-right", "_": "stroke", "*": "wedge"}  # fmt: skip


def _radius(logits: float) -> float:
    """Where a distance is drawn: 1 is the outermost ring."""
    return math.log1p(logits / UNIT) / math.log1p(RINGS[-1] / UNIT)


def _placed(xy: Places) -> Places:
    """Points of the plane with their distance from its middle on the scale of `_radius`."""
    r = np.linalg.norm(xy, axis=-1, keepdims=True)
    return xy * np.log1p(r / UNIT) / math.log1p(RINGS[-1] / UNIT) / np.where(r > 0, r, 1)


def _between(classes: int) -> Places:
    """The direction halfway between the first two corners, where the rings have their numbers."""
    angle = math.pi / 2 + math.pi / classes
    return np.array([math.cos(angle), math.sin(angle)])


def _board(ax: Axes, classes: int, lowest: float) -> None:
    """Rings, and a ray to each class's corner, above `lowest`."""
    for ring in RINGS:
        ax.add_patch(plt.Circle((0, 0), _radius(ring), fill=False, color="0.8", linewidth=0.8))
        box = {"color": "white", "pad": 0.5}
        x, y = _radius(ring) * _between(classes)
        ax.text(x, y, f"{ring:g}", color="0.4", ha="center", va="center", bbox=box)
    for k, (right, up) in enumerate(corners(classes).tolist()):
        ax.plot([0, right], [0, up], color=f"C{k}", linewidth=0.8, alpha=0.5)
    ax.set(aspect="equal", xlim=(-1.12, 1.12), ylim=(lowest, 1.12))
    ax.axis("off")


def apart(plane: pd.DataFrame, leads: pd.DataFrame, *, names: list[str], critical: float) -> Shown:
    """Logits of one network's test images, by training step and fraction of wrong labels.

    plane: columns label_noise, step, image, class, x, y, of one seed. leads: label_noise, seed, step, lead, right.
    """
    steps, noises = sorted(plane["step"].unique().tolist()), sorted(plane["label_noise"].unique().tolist())
    each = max(1, 250 // (len(noises) * len(names)))  # of a class: the chart has a limit
    observed = plane["image"].nunique()
    plane = plane[plane.groupby(["label_noise", "step", "class"]).cumcount() < each]
    images, n = plane["image"].nunique(), leads["seed"].nunique()
    table = plane.sort_values(["label_noise", "image", "step"])
    xy = table[["x", "y"]].to_numpy().reshape(len(noises), images, len(steps), 2)
    of = table["class"].to_numpy().reshape(len(noises), images, len(steps))[0, :, 0]
    means = np.stack([xy[:, of == k].mean(1) for k in range(len(names))], 1)
    groups = leads.groupby(["label_noise", "step"])
    told = [[_told(groups.get_group((p, step)), observed) for step in steps] for p in noises]
    percent = [f"{100 * p:.0f}\N{NO-BREAK SPACE}%" for p in noises]
    if len(set(percent)) < len(noises):
        percent = [f"{100 * p:.4g}\N{NO-BREAK SPACE}%" for p in noises]
    lowest = min(-0.7, float(_placed(xy)[..., 1].min()) - 0.1)

    figure, axes = plt.subplots(1, 2, figsize=(6, 3.4), layout="constrained")
    many = min(range(len(noises)), key=lambda i: abs(noises[i] - critical))
    for ax, i in zip(axes, (0, many), strict=True):
        _board(ax, len(names), lowest)
        for k, (name, mark) in enumerate(zip(names, MARKS, strict=False)):
            ax.plot(*_placed(means[i, k]).T, color=f"C{k}", linewidth=1.3)
            ends = _placed(xy[i, of == k, -1])
            ax.plot(*ends.T, mark, color=f"C{k}", markersize=6, alpha=0.75, markeredgewidth=0, label=name)
        ax.set_title(f"{percent[i]} wrong labels", fontsize=14)
    figure.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=5, fontsize=13, handletextpad=0.1)
    caption = (
        f"Logits of {images} test images in one network, less their common mean; an image lies the further towards a "
        "class's corner the larger that logit is beside the others. Rings: distance in logits, on a logarithmic scale. "
        f"Coloured lines: the way of the class means since step 0. The picture shows step {steps[-1]:,}, with the "
        "fewest wrong labels and with about as many as make labels uninformative; the moving figure, any step and "
        f"fraction, and below it means over {n} trials with their 95 % intervals."
    )
    alt = (
        f"Logits of {images} images of {len(names)} classes on a plane. With {percent[0]} wrong labels each class "
        f"has gone to a place of its own: {told[0][-1]}. With {percent[many]}: {told[many][-1]}."
    )
    chart = _apart_moving(xy, means, of, names, steps=steps, percent=percent, told=told, lowest=lowest)
    return {"figure": figure, "caption": caption, "alt": alt, "data": plane.round(4), "interactive": chart}


def _told(trials: pd.DataFrame, images: int) -> str:
    """Lead and share of right answers over trials, in words."""
    lead, low, high = (round(v, 2) + 0.0 for v in interval(trials["lead"]))  # no minus before 0.00
    right, least, most = interval(trials["right"], trials=images)
    return (
        f"an image’s own logit less the mean of the others is {lead:.2f} [{low:.2f}, {high:.2f}], the share of right "
        f"answers {right:.2f} [{least:.2f}, {most:.2f}]"
    ).replace("-", "−")


def _apart_moving(
    xy: Places,
    means: Places,
    of: Places,
    names: list[str],
    *,
    steps: list[int],
    percent: list[str],
    told: list[list[str]],
    lowest: float,
) -> Any:
    """The chart of `apart`. A point has its places at all steps in one row: a row a step would be ten times as long.

    xy: (fractions of wrong labels, images, steps, 2); means: the same of the classes; of: the classes of the images.
    """
    import altair as alt

    def rows(places: Places, classes: Any) -> Any:
        """The places in thousandths."""
        short = np.round(1000 * _placed(places)).astype(int).tolist()
        return alt.Data(values=[
            {"p": i, "o": o, "c": names[k], "x": [x for x, _ in way], "y": [y for _, y in way]}
            for i, part in enumerate(short) for o, (k, way) in enumerate(zip(classes, part, strict=True))
        ])  # fmt: skip

    # as wide as the page, with equal units on both axes, and room for the names of the corners on a phone
    half, middle = f"max({(1.2 - lowest) / 2}, 1.6 * height / width)", (1.2 + lowest) / 2
    wide = [alt.expr(f"{sign} {half} * width / height") for sign in "-+"]
    high = [alt.expr(f"{middle} {sign} {half}") for sign in "-+"]
    at: dict[str, Any] = {
        "x": alt.X("px:Q", axis=None, scale=alt.Scale(domain=wide, nice=False, zero=False)),
        "y": alt.Y("py:Q", axis=None, scale=alt.Scale(domain=high, nice=False, zero=False)),
    }
    colour = alt.Color("c:N", legend=None, scale=alt.Scale(domain=names), sort=None)
    marks = alt.Scale(domain=names, range=list(MARKS.values())[: len(names)])

    circle = alt.Chart(alt.sequence(0, 361, 6, as_="a")).mark_line(color="#d0d0d0", strokeWidth=1, clip=True)
    rings = [
        circle.transform_calculate(
            px=f"{_radius(ring)} * sin(datum.a * PI / 180)", py=f"{_radius(ring)} * cos(datum.a * PI / 180)"
        ).encode(**at, order="a:Q")
        for ring in RINGS
    ]
    x, y = np.outer(_between(len(names)), [_radius(ring) for ring in RINGS])
    texts = [f"{ring:g}" for ring in RINGS[:-1]] + [f"{RINGS[-1]:g} logits"]
    numbers = alt.Chart(pd.DataFrame({"px": x, "py": y, "t": texts})).encode(**at, text="t:N")
    board = pd.DataFrame(corners(len(names)).numpy(), columns=["px", "py"]).assign(c=names, zero=0.0)
    rays = alt.Chart(board).mark_rule(opacity=0.4).encode(**at, x2="zero:Q", y2="zero:Q", color=colour)
    corner = alt.Chart(board.assign(px=1.1 * board["px"], py=1.1 * board["py"])).encode(**at, text="c:N", color=colour)

    def now(data: Any) -> Any:
        there = alt.Chart(data).transform_filter("datum.p == wrong_labels")
        return there.transform_calculate(px="datum.x[step] / 1000", py="datum.y[step] / 1000")

    order = [*range(len(names)), 0]
    of_classes = rows(means[:, order], order)
    way = (
        alt.Chart(of_classes)
        .transform_filter(f"datum.p == wrong_labels && datum.o < {len(names)}")
        .transform_calculate(t=f"sequence({len(steps)})")
        .transform_flatten(["x", "y", "t"])
        .transform_filter("datum.t <= step")
        .transform_calculate(px="datum.x / 1000", py="datum.y / 1000")
    )
    reading = (
        "'Step ' + step_ticks[step] + ' with ' + wrong_labels_ticks[wrong_labels] + ' wrong labels: ' + "
        f"{json.dumps(told)}[wrong_labels][step] + '.'"
    )
    parameters = [
        alt.param("step", value=len(steps) - 1, bind=_range("training step", len(steps))),
        alt.param("step_ticks", value=[f"{step:,}" for step in steps]),
        alt.param("wrong_labels", value=0, bind=_range("wrong labels", len(percent))),
        alt.param("wrong_labels_ticks", value=percent),
        alt.param("reading", expr=reading),
    ]
    layers = [
        *rings,
        rays,
        numbers.mark_text(fontSize=12, stroke="white", strokeWidth=4),
        numbers.mark_text(fontSize=12, color="#555"),
        corner.mark_text(fontSize=15, fontWeight="bold"),
        way.mark_line(strokeWidth=1.5).encode(**at, color=colour, order="t:Q"),
        now(of_classes).mark_line(color="#888", strokeWidth=1).encode(**at, order="o:Q"),
        now(rows(xy, of))
        .mark_point(filled=True, size=70, opacity=0.75)
        .encode(**at, color=colour, shape=alt.Shape("c:N", legend=None, scale=marks)),
    ]
    return alt.layer(*layers).properties(height=380).add_params(*parameters)


def _range(name: str, count: int) -> Any:
    """A slider over `count` places."""
    import altair as alt

    return alt.binding_range(min=0, max=count - 1, step=1, name=name)


def _number(value: float) -> str:
    """A time: a power of ten as one where it is long."""
    power = round(math.log10(value))
    if value < 1e5 or not math.isclose(value, 10.0**power):
        return f"{value:,.6g}"
    return "10" + str(power).translate(str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹"))


# --- the equation -----------------------------------------------------------------------------------------------------


def phase(
    diagram: pd.DataFrame,
    slices: pd.DataFrame,
    named: pd.DataFrame,
    *,
    classes: int,
    amplitude: float,
    horizon: float,
    paths: int,
) -> Shown:
    """The phase diagram, and the critical slice beside it."""
    figure, (left, right) = plots.panels(2, height=3.4)
    mean = diagram[diagram["beta"] < math.inf].groupby(["alpha", "beta"])["separated"].mean()
    table = mean.unstack("alpha")
    ends = diagram["alpha"].min(), diagram["alpha"].max()
    mesh = left.pcolormesh(table.columns, table.index, table.to_numpy(), cmap="cividis", vmin=0, vmax=1)
    figure.colorbar(mesh, ax=left)
    left.plot([ends[0], 1, 1], [ends[0], 1, ends[1]], color="white", linewidth=2, linestyle="--")
    left.grid(False)
    plots.label_axes(left, "tail index of α", "tail index of β", f"Share of paths separated at T = {_number(horizon)}")
    at_end = slices.assign(T=[f"T = {_number(end)}" for end in slices["horizon"]])
    plots.bands(right, at_end, "c", "separated", "T", trials=paths)
    right.axvline(classes / 2, color="0.4", linestyle="--")
    plots.label_axes(right, "c, for α − β = c / t", "share of paths separated", "On the border, r = 1")
    right.legend(loc="lower right")
    at = named.groupby("case")["separated"].mean()
    caption = (
        f"Left: share of paths separated at T = {_number(horizon)} for α = {amplitude:g} t^−r and β likewise, "
        f"mean over {diagram['seed'].nunique()} seeds with {paths} paths; dashed, the theorem's border for T → ∞. "
        "Right: α − β = c/t; dashed, c = K/2; mean and 95 % interval."
    )
    alt = (
        f"Heat map of separation: {at['separated_alpha']:.2f} of paths where alpha and beta fall with tail indices 0.7 "
        f"and 1.2, {at['separated_neither']:.2f} with 1.3 and 1.5, {at['separated_beta']:.2f} with 1.2 and 0.7. On the "
        "slice the fraction rises around c = K/2, the more steeply the larger T."
    )
    return {"figure": figure, "caption": caption, "alt": alt, "data": mean.reset_index()}


def race(frame: pd.DataFrame, diagram: pd.DataFrame, paths: int) -> Shown:
    """Distance of class means and spread of samples over time: which of the two outruns the other."""
    tails = sorted(frame["alpha"].unique())
    one, slowest = min(tails, key=lambda r: abs(r - 1)), tails[-1]
    near = sorted({tails[max(0, tails.index(one) - 2)], one, tails[min(len(tails) - 1, tails.index(one) + 2)]})
    rows = diagram[diagram["beta"] < math.inf].groupby(["alpha", "beta"])["separated"]
    shares = {key: interval(values, trials=paths) for key, values in rows}
    ends = {key: rows.iloc[-1] for key, rows in frame.groupby(["alpha", "beta"])}

    def reading(alpha: float, beta: float) -> str:
        end, (mean, low, high) = ends[alpha, beta], shares[alpha, beta]
        ahead, t = "distance" if end["distance"] > end["spread"] else "spread", _number(end["t"])
        return (
            f"α falls with tail index {alpha:.3g}, β with {beta:.3g}: at t = {t} the {ahead} is ahead; of "
            f"simulated paths, {mean:.2f} [{low:.2f}, {high:.2f}] are separated."
        )

    top = 10 * frame["spread"].max()
    seen = frame.assign(distance=frame["distance"].clip(1e-3, 10 * top))
    figure, (ax,) = plots.panels(1, height=3)
    for i, alpha in enumerate(near):
        line = select(seen, alpha=alpha, beta=slowest)
        ax.plot(line["t"], line["distance"], color=f"C{i}", label=f"distance, tail index of α {alpha:.3g}")
    ax.plot(line["t"], line["spread"], color="0.3", linestyle="--", label="spread")
    ax.set(xscale="log", yscale="log", ylim=(0.1, top))
    plots.label_axes(ax, "time t", "distance and spread", f"tail index of β {slowest:.3g}")
    ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    spread = seen[["t", "spread"]].drop_duplicates()
    chart = plots.slider(
        plots.Layer(spread, x="t", y="spread", style={"strokeDash": [6, 4], "color": "#444", "clip": True}),
        plots.Layer(seen, x="t", y="distance", style={"clip": True, "strokeWidth": 3}),
        x=plots.Axis("time t", (1, frame["t"].max()), "log"),
        y=plots.Axis("distance and spread", (0.1, top), "log"),
        controls={"alpha": "tail index of α", "beta": "tail index of β"},
        reading=reading,
        start={"alpha": near[0], "beta": slowest},
    )
    caption = (
        "Half the distance of two class means in the I-model without noise (solid), and the spread of samples about "
        "their class mean (dashed). Classes separate where the distance outruns the spread. The picture shows three "
        "tail indices of α; in the moving figure set those of α and β."
    )
    alt = f"Distance and spread over time on logarithmic axes. {' '.join(reading(a, slowest) for a in near)}"
    return {"figure": figure, "caption": caption, "alt": alt, "data": seen[seen["beta"] == slowest],
            "interactive": chart}  # fmt: skip


def slices(diagram: pd.DataFrame, named: pd.DataFrame, horizon: float, paths: int) -> Shown:
    """Rows of the phase diagram: three of them and beta = 0. paths: a seed and cell."""
    grid = sorted(diagram["alpha"].unique())
    drawn = sorted({grid[0], grid[len(grid) // 2], grid[-1]})
    words = {beta: f"tail index {beta:.2f}" for beta in drawn} | {math.inf: "β = 0"}
    lines = diagram[diagram["beta"].isin(list(words))]
    lines = lines.assign(β=lines["beta"].map(words))[["seed", "alpha", "separated", "β"]]
    figure, (ax,) = plots.panels(1, height=3)
    plots.bands(ax, lines, x="alpha", y="separated", hue="β", order=list(words.values()), trials=paths)
    plots.label_axes(ax, "tail index of α", "share of paths separated").legend(title="β")
    at = named.groupby("case")["separated"].mean()
    caption = (
        f"Share of paths separated at T = {_number(horizon)} against the tail index of α, for three tail indices of "
        f"β and for β = 0; mean and 95 % interval over {diagram['seed'].nunique()} seeds."
    )
    reached = lines[lines["separated"] >= 0.5].groupby("β")["alpha"].max()
    half = ", ".join(f"up to {reached[word]:.2f} for {word}" for word in words.values() if word in reached) or "nowhere"
    alt = (
        f"Share of separated paths against the tail index of α. Half of them or more separate {half}. With β = 0 the "
        f"share is {at['separated_early']:.2f} at 0.7 and {at['separated_late']:.2f} at 1.3."
    )
    return {"figure": figure, "caption": caption, "alt": alt, "data": lines}


def paths(stepped: pd.DataFrame, count: int) -> Shown:
    """Paths stepped one by one beside the exact law."""
    figure, (ax,) = plots.panels(1, width=5, height=3)
    words = {"exact": "I-model, exact law", "I": "I-model, stepped", "L": "L-model, stepped"}
    named = stepped.assign(model=stepped["model"].map(words))
    plots.bands(ax, named, x="r", y="separated", hue="model", trials=count)
    plots.label_axes(ax, "tail index r of α (β = 0)", "fraction of paths separated", "T = 100").legend()
    means = stepped.groupby(["model", "r"])["separated"].mean()
    apart = (means["I"] - means["exact"]).abs().max()
    caption = (
        f"{count} paths a seed of the LE-SDE at T = 100, stepped (Euler and Maruyama) and by the exact law, which "
        f"differ by {apart:.3f} at most. Mean and 95 % interval."
    )
    alt = (
        "Three falling curves: the fraction of separated paths against the tail index of alpha; the stepped and the "
        f"exact I-model differ by at most {apart:.3f}; at r = 1 the stepped I-model has {means['I'][1.0]:.2f}, the "
        f"L-model {means['L'][1.0]:.2f}."
    )
    return {"figure": figure, "caption": caption, "alt": alt, "data": stepped}


def collapse_of_equation(frame: pd.DataFrame, classes: int) -> Shown:
    """Whether class means of the equation end in a simplex."""
    figure, (left, right) = plots.panels(2, height=3.2)
    thin = frame[frame["A"] % 10 == 0]
    plots.bands(left, thin, x="A", y="angles", hue="case", bounds=(0, classes / (classes - 1)))
    plots.bands(right, thin, x="A", y="duality", hue="case", bounds=(0, 4))
    plots.label_axes(left, "A(t)", "unequal angles (NC2)", f"Class means of the LE-ODE, K = {classes}")
    plots.label_axes(right, "A(t)", "distance from the d_k (NC3)")
    figure.legend(*right.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    ends = select(frame, A=frame["A"].max()).groupby("case", sort=False)[["angles", "duality"]].mean()
    summary = "; ".join(f"{name}: {r['angles']:.3f} and {r['duality']:.3f}" for name, r in ends.iterrows())
    caption = (
        "Class means of the LE-ODE from random starts. Left: mean over pairs of |cos + 1/(K−1)|. Right: squared "
        "distance of the normalised means from the simplex of the labels. Mean and 95 % interval over "
        f"{frame['seed'].nunique()} starts."
    )
    alt = (
        "Only the L-model with negative beta reaches the simplex of the labels. Unequal angles and distance at A = "
        f"{frame['A'].max():g}: {summary}."
    )
    return {"figure": figure, "caption": caption, "alt": alt, "data": thin}


# --- networks with wrong labels ---------------------------------------------------------------------------------------


def transition(outcomes: pd.DataFrame, *, tested: int, critical: float, steps: int, tail_window: int) -> Shown:
    """Accuracy and tail index against label noise. tested: test images."""
    figure, (left, right) = plots.panels(2, height=3.6)
    plots.bands(left, outcomes.assign(of="networks"), x="label_noise", y="accuracy", hue="of", trials=tested)
    named = [outcomes[["label_noise"]].assign(
        r=outcomes[f"r_alpha_{m}"], marked=outcomes[f"marked_alpha_{m}"], model=f"{m}-model"
    ) for m in MODELS]  # fmt: skip
    tails = pd.concat(named)
    plots.bands(right, tails, x="label_noise", y="r", hue="model")
    marked = tails[tails["marked"]]
    right.plot(marked["label_noise"], marked["r"], "x", color="0.3", markersize=5, label="marked")
    for ax in (left, right):
        ax.axvline(critical, color="0.4", linestyle="--", linewidth=1)
    plots.label_axes(left, "fraction p of wrong labels", "test accuracy", f"After {steps:,} steps", chance=1 - critical)
    plots.label_axes(right, "fraction p of wrong labels", "tail index of α").legend()
    groups = outcomes.groupby("label_noise")
    constant = ", ".join(f"{n} at p = {p:g}" for p, n in groups["constant"].sum().items() if n) or "none"
    caption = (
        "Left: test accuracy against the fraction of wrong labels. Right: tail index of α; a cross is a trial whose "
        f"|A| falls below 1 within the last {tail_window} steps, or whose A is negative or changes its sign there: the "
        f"logarithm is meaningless. Networks that put every test image into one class: {constant}. Dashed: "
        f"p = (K−1)/K. Mean and 95 % interval over {outcomes['seed'].nunique()} trials."
    )
    alt = (
        f"Test accuracy by fraction of wrong labels: {_listed(groups['accuracy'].mean())}. Tail index of alpha in the "
        f"I-model: {_listed(groups['r_alpha_I'].mean())}; {len(marked)} of {len(tails)} in both models are marked."
    )
    return {"figure": figure, "caption": caption, "alt": alt, "data": outcomes}


def _listed(values: "pd.Series[float]") -> str:
    return ", ".join(f"{v:.2f} at {p:g}" for p, v in values.items())


# read off the plots of Zhang, Wang and Su (2021), K = 3 on GeoMNIST: accuracy, tail index of alpha and of beta
PAPER: dict[str, tuple[float, float, float | None]] = {
    "0.00": (1.0, 0.68, 1.13),
    "0.10": (1.0, 0.72, 0.885),
    "0.20": (0.99, 0.73, 0.94),
    "0.30": (0.96, 0.735, 0.935),
    "0.40": (0.82, 0.765, 0.97),
    "0.50": (0.58, 0.835, None),
    "0.60": (0.37, 1.005, 1.05),
    "0.67": (0.34, 1.008, 1.06),
    "0.70": (0.32, 1.035, 1.08),
    "0.80": (0.23, 1.015, 1.02),
}


def table(outcomes: pd.DataFrame, with_paper: bool) -> Styler:
    """Means over trials with their standard deviation, and how many are marked, beside the paper's figures."""
    rows = []
    for p, part in outcomes.groupby("label_noise", sort=False):
        paper = PAPER.get(f"{p:.2f}", (None, None, None)) if with_paper else (None, None, None)
        accuracy, alpha, beta = ("" if v is None else f"{v:.2f}" for v in paper)
        rows.append(
            {
                ("", "p"): f"{p:.2f}",
                ("accuracy", "here"): _spread(part, "accuracy"),
                ("accuracy", "paper"): accuracy,
                ("tail index of α (I)", "here"): _spread(part, "r_alpha_I"),
                ("tail index of α (I)", "marked"): f"{part['marked_alpha_I'].sum()} of {len(part)}",
                ("tail index of α (I)", "paper"): alpha,
                ("tail index of β (I)", "here"): _spread(part, "r_beta_I"),
                ("tail index of β (I)", "marked"): f"{part['marked_beta_I'].sum()} of {len(part)}",
                ("tail index of β (I)", "paper"): beta,
            }
        )
    cells: list[CSSDict] = [
        {
            "selector": "th, td",
            "props": "padding: 0.2em 0.4em; text-align: right; white-space: nowrap",
        },
        {"selector": "", "props": "font-size: 0.9em"},
    ]
    frame = pd.DataFrame(rows)
    frame.columns = pd.MultiIndex.from_tuples(list(rows[0]))
    return frame.style.hide(axis="index").set_table_styles(cells)


def _spread(part: pd.DataFrame, column: str) -> str:
    return f"{part[column].mean():.2f} ± {part[column].std():.2f}"


def impacts(frame: pd.DataFrame, *, label_noise: float, window: int) -> Shown:
    """Integrated impacts of both models, and the impacts of the I-model."""
    steps = np.sort(frame["step"].unique())
    figure, (left, right) = plots.panels(2, height=3.4)
    integrals = {"A_I": "A (I)", "B_I": "B (I)", "A_L": "A (L)", "B_L": "B (L)"}
    for ax, names, count in ((left, integrals, 25), (right, {"alpha": "α", "beta": "β"}, 50)):
        thin = frame[frame["step"].isin(steps[:: max(1, len(steps) // count)])]
        plots.bands(ax, _long(thin, names), x="step", y="value", hue="of")
    plots.label_axes(left, "step", "A(t), B(t)", "Integrated impacts")
    plots.label_axes(right, "step", "α(t), β(t)", "Impacts, I-model").legend()
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower left", ncols=4, columnspacing=1, fontsize=8)
    mean = frame.groupby("step").mean()
    # the derivative at the edge is extrapolated
    alpha = mean["alpha"].where(mean.index >= window / 2, 0.0)
    peak = steps[alpha.argmax()]
    ends = ", ".join(f"{word} = {mean[name].iloc[-1]:.1f}" for name, word in integrals.items())
    caption = (
        f"Integrated impacts A and B under both models, and the impacts of the I-model (derivatives within a "
        f"window of {window} steps), p = {label_noise:g}. Mean and 95 % interval over {frame['seed'].nunique()} trials."
    )
    alt = (
        f"The integrals A and B and their derivatives over training; at the end {ends}. The mean impact alpha of the "
        f"I-model is largest, {alpha.max():.3f}, near step {peak}: A is "
        f"{mean['A_I'].loc[peak]:.1f} there and {mean['A_I'].iloc[-1]:.1f} at the end."
    )
    return {"figure": figure, "caption": caption, "alt": alt, "data": _long(frame, integrals)}


def _long(frame: pd.DataFrame, names: dict[str, str]) -> pd.DataFrame:
    """One row a seed, step and quantity."""
    long = frame.melt(["seed", "step"], list(names), "of")
    return long.assign(of=long["of"].map(names))


def prediction(found: Prediction, names: list[str]) -> Shown:
    """Class means of the first network beside those of both models, on the plane of the logits."""
    figure, axes = plt.subplots(1, 2, figsize=(7, 4), layout="constrained")
    thin = slice(None, None, max(1, len(found.times) // 40))
    network = _on_plane(found.network[0])
    fits = {f"{m}-model": _on_plane(fit[0]) for m, fit in found.fits.items()}
    lowest = min(-0.7, *(_placed(places)[..., 1].min() - 0.1 for places in (network, *fits.values())))
    for ax, (model, fit) in zip(axes, fits.items(), strict=True):
        _board(ax, len(names), lowest)
        for k, (name, mark) in enumerate(zip(names, MARKS, strict=False)):
            shown, equation = _placed(network[thin, k]).T, _placed(fit[thin, k]).T
            ax.plot(*shown, color=f"C{k}", alpha=0.4, linewidth=1.2)
            ax.plot(*equation, color=f"C{k}", linestyle="--", linewidth=1.2)
            ax.plot(*shown[:, -1:], mark, color=f"C{k}", markersize=10, label=f"{name}, network")
            ax.plot(*equation[:, -1:], mark, color=f"C{k}", markersize=10, fillstyle="none", label=f"{name}, equation")
        ax.set_title(model)
    figure.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    data = pd.DataFrame(
        {"step": int(t), "of": name, "class": names[k], "x": places[i, k, 0], "y": places[i, k, 1]}
        for name, places in ({"network": network} | fits).items()
        for i, t in enumerate(found.times)
        for k in range(len(names))
    )
    groups = found.scores.groupby("model")
    error, alike = groups["error"].median(), groups["alike"].mean()
    caption = (
        "Mean logits of each class, less their common mean, from step "
        f"{int(found.times[0]):,} on: one network (solid, filled mark at the end) and the equation with the impacts "
        "estimated from it (dashed, open mark). Rays lead to the labels; rings: distance in logits, on a logarithmic "
        f"scale. Median relative error over {found.scores['seed'].nunique()} trials: I {error['I']:.2f}, L "
        f"{error['L']:.2f}; mean cosine of the centred class means at the end: I {alike['I']:.2f}, L {alike['L']:.2f}."
    )
    alt = (
        "Ways of the class means on the plane of their logits. At the end the L-model's means have cosine "
        f"{alike['L']:.2f} with the network's, the I-model's {alike['I']:.2f}."
    )
    return {"figure": figure, "caption": caption, "alt": alt, "data": data}


def _on_plane(means: torch.Tensor) -> Places:
    """Class means less their mean, on the plane. means: (t, K, K)."""
    centred = means - means.mean(1, keepdim=True)
    return (centred @ corners(means.shape[2])).numpy()


def grouping(margins: pd.DataFrame, training: pd.DataFrame, *, label_noise: float, least: float, window: int) -> Shown:
    """Margins of training images by class and by given label. training: A and B at p = least, within the window."""
    figure, (ax,) = plots.panels(1, width=5, height=3)
    plots.bands(ax, margins, x="step", y="margin", hue="by")
    title = f"Training images, p = {label_noise:g}"
    plots.label_axes(ax, "step", "own logit minus the others'", title).legend()
    ends = margins[margins["step"] == margins["step"].max()].groupby("by")["margin"].mean()
    caption = (
        "Mean logit of a group's own class minus the mean of its other logits, for training images before their step, "
        f"p = {label_noise:g}. Mean and 95 % interval over {margins['seed'].nunique()} trials. For comparison, at "
        f"p = {least:g} means of training images in windows of {window} steps give A = {training['A'].mean():.1f} and "
        f"B = {training['B'].mean():.1f} in the I-model."
    )
    alt = (
        f"Two curves over training: grouped by true class the margin ends at {ends['true class']:.2f}, grouped by the "
        f"given label at {ends['given label']:.2f}."
    )
    return {"figure": figure, "caption": caption, "alt": alt, "data": margins}


def direct(frame: pd.DataFrame, label_noise: float) -> Shown:
    """Moves of other images by single steps."""
    figure, (ax,) = plots.panels(1, width=5, height=3)
    words = {"within": "same class", "between": "another class"}
    moved = _long(frame, words).rename(columns={"of": "image", "value": "change"})
    plots.bands(ax, moved.assign(step=moved["step"].astype(str)), x="step", y="change", hue="image")
    ax.axhline(0, color="0.4", linewidth=0.8)
    title = "One step on an image of class l: moves along d_l"
    plots.label_axes(ax, "training step", "move relative to the image's own", title).legend()
    means = frame.groupby("step")[list(words)].mean()
    summary = ", ".join(f"{r['within']:.2f} and {r['between']:.2f} after {step}" for step, r in means.iterrows())
    caption = (
        "Change of an image's logits along d_l by one step on another image of class l, relative to that of the image "
        f"itself, p = {label_noise:g}. Mean and 95 % interval over {frame['seed'].nunique()} networks."
    )
    alt = f"Move of images of the same and of another class by number of steps of training: {summary}."
    return {"figure": figure, "caption": caption, "alt": alt, "data": moved}


def collapse(curves: pd.DataFrame, ends: pd.DataFrame, *, classes: int, dataset: str) -> Shown:
    """NC1 to NC4 over training, in all conditions."""
    figure, axes = plots.panels(2, rows=3, height=2.5)
    names = {"nc1": "NC1", "nc2_norms": "NC2, lengths", "nc2_angles": "NC2, angles", "nc3": "NC3", "nc4": "NC4"}
    names["fitted"] = "fraction of labels fitted"
    bounds = {"nc2_angles": (0.0, classes / (classes - 1)), "nc3": (0.0, 4.0)}
    conditions, shares = list(curves["condition"].unique()), ("nc4", "fitted")
    for ax, (measure, name) in zip(axes, names.items(), strict=True):
        for images, part in curves.groupby("images", sort=False) if measure in shares else [(None, curves)]:
            how: dict[str, Any] = {"trials": images, "bounds": bounds.get(measure)}
            plots.bands(ax, part, x="epoch", y=measure, hue="condition", order=conditions, **how)
        if measure not in shares:
            ax.set_yscale("log")
            ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            ax.yaxis.set_major_formatter("{x:g}")
            ax.yaxis.set_minor_formatter(NullFormatter())
        plots.label_axes(ax, "epoch", name)
    figure.legend(*axes[-1].get_legend_handles_labels(), loc="outside lower center", ncols=4, columnspacing=1)
    means = ends.groupby("condition", sort=False)[["nc1", "nc3"]].mean()
    summary = "; ".join(f"{c}: NC1 {r['nc1']:.4f}, NC3 {r['nc3']:.3f}" for c, r in means.iterrows())
    caption = (
        f"NC1 to NC4 over training of a small convolutional network on {classes} classes of {dataset}. Mean and 95 % "
        f"interval over {curves['seed'].nunique()} seeds."
    )
    alt = (
        "Six panels over epochs: NC1, NC2 in lengths and in angles, NC3, NC4 and the fraction of labels fitted, with "
        f"weight decay and in three controls. At the end {summary}."
    )
    return {"figure": figure, "caption": caption, "alt": alt, "data": curves}
