"""Figures and tables of the chapter: each figure with its caption, alternative text and data, as `show` takes them."""

import json
import textwrap
from collections.abc import Mapping
from itertools import product
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import seaborn as sns
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb
from matplotlib.patches import Patch, Rectangle

from phenomena.chapters.multitask_selection import published
from phenomena.chapters.multitask_selection.data import MedicalData, TaskData
from phenomena.chapters.multitask_selection.study import Simulation, acting
from phenomena.chapters.multitask_selection.theory import entry_ratio
from phenomena.science import plots
from phenomena.science.frames import select
from phenomena.statistics import interval

SPREAD = "Mean and 95 % interval over seeds."
R2 = {"classification": "R² of classification", "regression": "R² of regression", "all": "R² of all tasks"}
SELECTION = "fraction of features found"
NAMED = ["MTLComb", "plain sum", "MTLBin", "lasso"]  # the methods that claims are about, in colour


def _kind(what: str, active: int) -> dict[str, Any]:
    """What a score is, as for `statistics.interval`: selection a share of the active features, R² in [0, 1]."""
    return {"trials": active} if what == "selection" else {"bounds": (0, 1)}


def _beside(ax: Axes, frame: pd.DataFrame, x: str, y: str, hue: str, **kind: Any) -> Axes:
    """Means with 95 % intervals at places without an order, the values of `hue` side by side."""
    places, groups = list(dict.fromkeys(frame[x])), list(dict.fromkeys(frame[hue]))
    for i, group in enumerate(groups):
        rows = frame[frame[hue] == group].dropna(subset=[y])
        samples = {places.index(place): part[y].to_numpy() for place, part in rows.groupby(x, sort=False)}
        mean, low, high = np.array([interval(s, **kind) for s in samples.values()]).T
        at = np.array(list(samples)) + 0.2 * (i - (len(groups) - 1) / 2)
        ax.errorbar(
            at, mean, (mean - low, high - mean), linestyle="none", capsize=3, marker=plots.MARKERS[i], color=f"C{i}",
            label=f"{group} (n = {min(map(len, samples.values()))})",
        )  # fmt: skip
    ax.set_xticks(range(len(places)), [textwrap.fill(place, 12) for place in places])
    ax.set_xlim(-0.5, len(places) - 0.5)
    return ax


def _stored(ax: Axes, frame: pd.DataFrame, x: str, y: str, limit: float, label: str | None = None) -> None:
    """Crosses at stored results, in the colours that `plots.bands` gives MTLComb and MTLBin."""
    for method, colour in (("MTLComb", "C0"), ("MTLBin", (label and "C1") or "C2")):
        there = frame[(frame["method"] == method) & (frame[x] <= limit + 1e-9)]
        name = f"{method}, {label}" if label else None
        ax.plot(there[x], there[y], "x", color=colour, markersize=8, label=name)


def tasks(example: TaskData, simulation: Simulation) -> dict[str, Any]:
    """True effects, and what two tasks see."""
    shown = min(simulation.features, round(1.4 * simulation.active))
    figure, (left, right) = plots.panels(2, height=3.2)
    sns.heatmap(example.w[:, :shown], ax=left, center=0, cmap="vlag", cbar_kws={"label": "effect"}, rasterized=True)
    left.set_xticks([0.5, simulation.active - 0.5], ["1", str(simulation.active)])
    middles = [simulation.classification / 2, simulation.classification + simulation.regression / 2]
    left.set_yticks(middles, ["classification", "regression"], rotation=90, va="center")
    plots.label_axes(left, f"feature (of {simulation.features}, the rest have none)", "tasks", "True effects")
    for t, kind in ((0, "classification"), (len(example.x) - 1, "regression")):
        right.plot(example.x[t] @ example.w[t], example.y[t], ".", label=f"a {kind} task")
    plots.label_axes(right, "score x·w", "target", "What a task sees").legend()
    triples = zip(example.x, example.w, example.y, strict=True)
    clean = np.mean([np.corrcoef(x @ w, y)[0, 1] ** 2 for x, w, y in triples])
    return {
        "figure": figure,
        "caption": "Left: the true effects, classification tasks above regression tasks. Right: targets of one task of "
        f"each kind against the noiseless score, {len(example.y[0])} rows.",
        "alt": f"A heat map in which the same {simulation.active} columns are coloured in every row, and targets "
        "against scores: two levels for classification, a line for regression. The score's mean squared correlation "
        f"with its target is {clean:.2f}.",
        "data": pd.DataFrame({"score": example.x[0] @ example.w[0], "label": example.y[0]}),
    }


def certificate(exact: pd.DataFrame, scikit_learn: float) -> dict[str, Any]:
    """How exact solutions along a path are. exact: of `solver_accuracy`."""
    figure, (ax,) = plots.panels(1, height=2.8)
    ax.loglog(exact["lambda"], exact["gap"].clip(1e-17), label="duality gap / objective")
    ax.loglog(exact["lambda"], exact["stationarity"].clip(1e-17), label="violation of the optimality conditions / λ")
    ax.loglog(exact["lambda"], exact["apart"].clip(1e-17), "o", label="distance to the readable solver / objective")
    title = f"{len(exact)} values of λ, {exact['passes'].sum()} passes over the data"
    plots.label_axes(ax, "λ / λmax", "relative error", title).legend()
    apart = exact["apart"].max()
    return {
        "figure": figure,
        "caption": f"How exact the solutions along a path are, for one data set. The objective differs from the "
        f"readable solver's by {apart:.1g} at most; coefficients differ from those of scikit-learn's MultiTaskLasso by "
        f"{scikit_learn:.1g} at most, on regression tasks alone.",
        "alt": f"Duality gap over objective stays below {exact['gap'].max():.1g} along the path; the readable solver's "
        f"objective differs by {apart:.1g} at most.",
        "data": exact,
    }


def main(frame: pd.DataFrame, active: int) -> dict[str, Any]:
    """Scores against rows over features. frame: of `joint_models` and `separate_models`."""
    figure, axes = plots.panels(2, 2, height=3.0)
    limit = frame["ratio"].max()
    titles = {"all": "All tasks", "classification": "Classification", "regression": "Regression"}
    named, others = frame[frame["method"].isin(NAMED)], frame[~frame["method"].isin(NAMED)]
    for ax, (what, title) in zip(axes, {**titles, "selection": "Features found"}.items(), strict=True):
        plots.bands(ax, named, x="ratio", y=what, hue="method", order=NAMED, **_kind(what, active))
        for _, part in others.groupby("method", sort=False):
            mean = part.groupby("ratio")[what].mean()
            ax.plot(mean.index, mean, color="0.6", linewidth=1.2, zorder=1)
        ax.lines[-1].set_label(f"other separate models (n = {others['seed'].nunique()})")
        plots.label_axes(ax, "rows over features, n/p", "fraction found" if what == "selection" else "R²", title)
        if what in published.MAIN:
            _stored(ax, published.MAIN, "ratio", what, limit)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    last = frame[frame["ratio"] == limit].groupby("method", sort=False)["all"].mean()
    return {
        "figure": figure,
        "caption": f"R² on test rows, and fraction of the {active} true features among the {active} most important, "
        "against rows over features. The separate models are trained on their own labels; grey, in the mean alone: "
        f"{', '.join(dict.fromkeys(others['method']))}. Crosses: the stored results of the official repository. "
        f"{SPREAD}",
        "alt": f"R² over all tasks at {limit:g} rows a feature: "
        + ", ".join(f"{name} {v:.2f}" for name, v in last.items())
        + ".",
        "data": frame,
    }


def _summary(numbers: pd.Series, **kind: Any) -> str:
    mean, low, high = interval(numbers, **kind)
    if np.isnan(mean):
        return "none"
    return f"{mean:.3f}" if np.isnan(low) else f"{mean:.3f} ({low:.3f} to {high:.3f})"


def beside_paper(frame: pd.DataFrame, value: str, active: int) -> Any:
    """One score of every method, with the stored one below it where there is one, as a styled table."""
    ratios = list(dict.fromkeys(frame["ratio"]))
    rows = []
    for method, part in frame.groupby("method", sort=False):
        ours = {f"n/p = {r:g}": _summary(select(part, ratio=r)[value], **_kind(value, active)) for r in ratios}
        rows.append({"method": method, **ours})
        stored = [select(published.MAIN, method=method, ratio=float(r))[value] for r in ratios]
        if any(len(v) for v in stored):
            cells = {f"n/p = {r:g}": f"{v.item():.3f}" if len(v) else "" for r, v in zip(ratios, stored, strict=True)}
            rows.append({"method": f"{method}, paper", **cells})
    return _styled(pd.DataFrame(rows), f"beside_{value}")


def _styled(table: pd.DataFrame, name: str) -> Any:
    return table.style.hide(axis="index").set_uuid(name)


def paths(frame: pd.DataFrame, entries: pd.DataFrame, active: int) -> dict[str, Any]:
    """Joint paths, and where the first feature enters. frame: of `entering`; entries: of `entry_ratios`."""
    figure, axes = plots.panels(3, height=3.4, width=8.5)
    for ax, name in zip(axes, frame["loss"].unique(), strict=False):
        part = frame[(frame["loss"] == name) & (frame["kind"] != "none")]
        at = part.assign(λ=part["lambda"].round(4))
        plots.bands(ax, at, x="λ", y="in", hue="kind", trials=active // 2)  # half of them act in one kind of task
        ax.set(xscale="log", xticks=[1, 0.5, 0.2, 0.1], xticklabels=["1", "0.5", "0.2", "0.1"])
        ax.minorticks_off()
        ax.invert_xaxis()
        plots.label_axes(ax, "λ / λmax", "fraction of true features in", f"Joint path, {name}")
    axes[1].legend(loc="lower right", fontsize=8)
    plots.bands(axes[2], entries, x="minority", y="ratio", hue="loss")
    fine = np.linspace(0.02, 0.5, 100)
    axes[2].plot(fine, [entry_ratio(q) for q in fine], color="0.2", linestyle=":", label="2φ(c)")
    plots.label_axes(axes[2], "fraction of rows in the rarer class", "λ, classification / regression", "First feature")
    axes[2].set_ylim(0, 1.25)
    axes[2].legend(loc="upper left", fontsize=8)
    plain, weighted = (
        select(entries, minority=0.5).groupby("loss", sort=False)["ratio"].mean()[["no weights", "weights 2 and ½"]]
    )
    return {
        "figure": figure,
        "caption": "Left, middle: fraction of the features that act in one kind of task only that a joint path has let "
        "in, without and with weights. Right: λ at which the first feature enters for classification, over that for "
        f"regression on the same scores; the dotted line is the formula. {SPREAD}",
        "alt": "Without weights classification features come in late. For equal classes the first enters at "
        f"{plain:.2f} of the penalty of regression, with weights at {weighted:.2f}; the rarer a class, the later.",
        "data": frame,
    }


# Where a feature acts -> the map's word for it, its colour.
KINDS = {"classification": ("classification", "C0"), "regression": ("regression", "C1"), "none": ("no task", "0.35")}
FEATURES_SHOWN, TASKS_SHOWN = 25, 10  # of each kind at most
LEVELS = 9  # of strength in the map, digits in the moving figure's data


class Map(NamedTuple):
    """What the map of coefficients shows: features in the order of `KINDS`, classification tasks first."""

    names: list[str]  # of the losses, a side each
    kinds: list[str]  # of the features shown
    numbers: dict[str, int]  # of features of each kind, shown or not
    classes: Int[np.ndarray, " t"]  # 1 for a classification task
    levels: Int[np.ndarray, "side k t p"]  # strength of each coefficient, 0 where it is zero

    def truth(self) -> list[tuple[int, int, int, int]]:
        """Left, top, width and height of the blocks where the true coefficients are not zero."""
        c, r, top = self.kinds.count("classification"), self.kinds.count("regression"), int(self.classes.sum())
        return [(0, 0, c, top), (c, top, r, len(self.classes) - top)]


def _map(data: TaskData, coefficients: Mapping[str, Float[np.ndarray, "k t p"]]) -> Map:
    acts = acting(data)._asdict()
    shown = [(kind, j) for kind in KINDS for j in np.flatnonzero(acts[kind])[:FEATURES_SHOWN]]
    rows = [t for kind in (True, False) for t in np.flatnonzero(data.classes == kind)[:TASKS_SHOWN]]
    size = np.abs(np.array(list(coefficients.values()))[:, :, rows][..., [j for _, j in shown]])
    strong = np.quantile(size[size > 0], 0.99) if size.any() else 1.0
    levels = np.ceil(LEVELS * np.sqrt(np.minimum(size / strong, 1))).astype(int)  # the root lets weak ones be seen
    numbers = {kind: int(own.sum()) for kind, own in acts.items()}
    return Map(list(coefficients), [kind for kind, _ in shown], numbers, data.classes[rows].astype(int), levels)


def coefficients(
    data: TaskData,
    paths: Mapping[str, Float[np.ndarray, "k t p"]],
    lambdas: Float[np.ndarray, " k"],
    frame: pd.DataFrame,
    start: float = 0.4,
) -> dict[str, Any]:
    """The map features by tasks on joint paths, a side for each pair of weights.

    data: tasks of one seed without shared features. paths: its coefficients by name of the weights. lambdas: over the
    largest, falling in even steps. frame: of `entering` at these lambdas, that seed first. start: the lambda at first.
    """
    drawn, at = _map(data, paths), int(np.abs(lambdas - start).argmin())
    heads, found = _found(frame, drawn.numbers)
    figure, axes = plots.panels(len(paths), width=5.0, height=3.4)
    for side, (ax, name) in enumerate(zip(axes, drawn.names, strict=True)):
        _cells(ax, drawn, side, at)
        ax.set_title(f"{name}:\n{heads[name][at]}", fontsize=10)
        ax.set_xlabel("features", fontsize=10)
    axes[0].set_yticks(_middles(drawn.classes), ["classification", "regression"], rotation=90, va="center")
    handles = [Patch(color=colour, label=name) for name, colour in KINDS.values()]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, fontsize=10, title="feature acts in")
    readings = [
        f"λ / λmax = {lam:.2f}. " + " ".join(f"{name.capitalize()}: {found[name][k]}." for name in paths)
        for k, lam in enumerate(lambdas)
    ]
    seeds = frame["seed"].nunique()
    return {
        "figure": figure,
        "caption": "Coefficients of joint models, features by tasks; the stronger the colour, the larger the "
        f"coefficient. Dark frames: where the true coefficients are not zero. At most {FEATURES_SHOWN} features of a "
        f"kind are drawn, of {drawn.numbers['none']} that act in no task; the numbers are of all. The path of one seed "
        f"at λ / λmax = {lambdas[at]:.2f}; in the moving figure at any λ, with means and 95 % intervals over {seeds} "
        "seeds in brackets.",
        "alt": f"Two maps of features by tasks. {readings[at]}",
        "data": frame,
        "interactive": _moving_map(drawn, lambdas, at, heads, readings),
    }


def _found(frame: pd.DataFrame, numbers: Mapping[str, int]) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """How many features are in at each lambda, by loss: in short for the first seed, and with the mean over seeds."""
    place = frame.groupby(["seed", "loss", "kind"], sort=False).cumcount()
    shares = frame.assign(place=place).pivot(index=["loss", "place"], columns=["kind", "seed"], values="in")
    words = {"classification": "classification features", "regression": "regression features", "none": "others"}
    heads: dict[str, list[str]] = {}
    said: dict[str, list[str]] = {}
    for loss in dict.fromkeys(frame["loss"]):
        heads[loss], said[loss] = [], []
        for _, row in shares.loc[loss].iterrows():
            n = {kind: round(row[kind].iloc[0] * numbers[kind]) for kind in KINDS if kind in row}
            heads[loss].append(f"{n['classification'] + n['regression']} right, {n.get('none', 0)} wrong")
            parts = [f"{n[kind]} of {numbers[kind]} {words[kind]}{_mean(row[kind], numbers[kind])}" for kind in n]
            said[loss].append(", ".join(parts))
    return heads, said


def _mean(shares: pd.Series, number: int) -> str:
    """Mean and interval of a number of features, given as shares of all such features; nothing for one seed."""
    mean, low, high = (f"{number * value:.{1 if number < 100 else 0}f}" for value in interval(shares, trials=number))
    return "" if low == "nan" else f" ({mean} [{low}, {high}])"


def _middles(classes: Int[np.ndarray, " t"]) -> list[float]:
    """Middles of the rows of classification and of regression."""
    return [classes.sum() / 2, (len(classes) + classes.sum()) / 2]


def _strength(level: Any) -> Any:
    """Opacity of a coefficient: a weak one is seen, none is not drawn."""
    return np.where(level > 0, 0.15 + 0.85 * level / LEVELS, 0.0)


def _cells(ax: Axes, drawn: Map, side: int, at: int) -> None:
    """One side of the map at one lambda."""
    ink = np.array([to_rgb(KINDS[kind][1]) for kind in drawn.kinds])
    opacity = _strength(drawn.levels[side, at])[..., None]
    extent = (0, len(drawn.kinds), len(drawn.classes), 0)
    ax.imshow(1 - opacity * (1 - ink), aspect="auto", interpolation="nearest", extent=extent)
    for left, top, width, height in drawn.truth():
        ax.add_patch(Rectangle((left, top), width, height, fill=False, edgecolor="0.2", linewidth=1))
    ax.spines[:].set(visible=True, color="0.75")
    ax.grid(False)
    ax.set(xticks=[], yticks=[])


def _moving_map(
    drawn: Map, lambdas: Float[np.ndarray, " k"], at: int, heads: Mapping[str, list[str]], readings: list[str]
) -> Any:
    """The map as an Altair chart. Each feature carries its path as digits of strength, from where it enters."""
    import altair as alt

    n_sides, _, n_tasks, n_features = drawn.levels.shape
    step, gap = float(lambdas[0] - lambdas[1]), max(1, n_features // 20)
    lefts = [side * (n_features + gap) for side in range(n_sides)]
    rows = []
    for (side, left), j in product(enumerate(lefts), range(n_features)):
        strength = drawn.levels[side, :, :, j]
        if strength.any():
            first = int(strength.any(1).argmax())
            digits = "".join(map(str, strength[first:].ravel()))
            rows.append({"x": left + j, "c": KINDS[drawn.kinds[j]][0], "a": first, "p": digits})
    words, colours = zip(*KINDS.values(), strict=True)
    ink = alt.Scale(domain=words, range=[to_hex(colour) for colour in colours])
    across = alt.Scale(domain=[0, lefts[-1] + n_features], nice=False, zero=False)
    down = alt.Scale(domain=[0, n_tasks], reverse=True, nice=False, zero=False)
    middles = _middles(drawn.classes)
    ticks = alt.Axis(
        values=middles, ticks=False, grid=False, labelAngle=-90, labelAlign="center", labelBaseline="bottom",
        labelExpr=f"datum.value < {sum(middles) / 2} ? 'classification' : 'regression'",
    )  # fmt: skip
    x = alt.X("x:Q", scale=across, title="features", axis=alt.Axis(labels=False, ticks=False, grid=False))
    y = alt.Y("t:Q", scale=down, title="tasks", axis=ticks)
    legend = alt.Legend(title="feature acts in", titleOrient="top")
    cells = (
        alt.Chart(pd.DataFrame(rows))
        .transform_filter("datum.a <= place")
        .transform_calculate(
            v=f"split(substring(datum.p, (place - datum.a) * {n_tasks}, (place - datum.a + 1) * {n_tasks}), '')",
            t=f"sequence({n_tasks})", right="datum.x + 1",
        )
        .transform_flatten(["v", "t"])
        .transform_filter("datum.v > 0")
        .transform_calculate(below="datum.t + 1", o=f"0.15 + 0.85 * datum.v / {LEVELS}")
        .mark_rect(strokeWidth=0)
        .encode(
            x=x, x2="right:Q", y=y, y2="below:Q", color=alt.Color("c:N", scale=ink, legend=legend),
            opacity=alt.Opacity("o:Q", scale=None, legend=None),
        )
    )  # fmt: skip
    whole = (0, 0, n_features, n_tasks, "#bbb")
    blocks = pd.DataFrame(
        [(left + begin, top, left + begin + width, top + height, edge) for left in lefts
         for begin, top, width, height, edge in [whole, *((*block, "#222") for block in drawn.truth())]],
        columns=["x", "t", "right", "below", "edge"],
    )  # fmt: skip
    frames = alt.Chart(blocks).mark_rect(fillOpacity=0, strokeWidth=1.5)
    frames = frames.encode(x=x, x2="right:Q", y=y, y2="below:Q", stroke=alt.Stroke("edge:N", scale=None))
    said = pd.DataFrame({"x": lefts, "t": 0, "h": [[f"{name}:\n{h}" for h in heads[name]] for name in drawn.names]})
    titles = alt.Chart(said).transform_calculate(now="datum.h[place]")
    titles = titles.mark_text(
        align="left", baseline="line-bottom", dy=-21, fontSize=13, fontWeight="bold", lineBreak="\n"
    )
    titles = titles.encode(x=x, y=y, text="now:N")
    slide = alt.binding_range(min=float(lambdas[-1]), max=float(lambdas[0]), step=step, name="λ / λmax")
    return (
        alt.layer(cells, frames, titles)
        .properties(height=240, padding={"top": 42})
        .add_params(
            alt.param(name="lambda", value=float(lambdas[at]), bind=slide),
            alt.param(name="place", expr=f"round(({float(lambdas[0])} - lambda) / {step})"),
            alt.param(name="reading", expr=f"{json.dumps(readings)}[place]"),
        )
    )


def weights(frame: pd.DataFrame, rows: int, active: int) -> dict[str, Any]:
    """Scores for several pairs of weights. frame: of `compare_weights`."""
    figure, axes = plots.panels(2, 2, height=2.9)
    for ax, (what, name) in zip(axes, {**R2, "selection": SELECTION}.items(), strict=True):
        _beside(ax, frame, x="arm", y=what, hue="loss", **_kind(what, active))
        plots.label_axes(ax, "", name)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    kinds = ["classification", "regression"]
    means = frame.pivot_table(index=["arm", "seed"], columns="loss", values=kinds, sort=False)
    said = []
    for kind in kinds:
        gain = (means[kind]["weights"] - means[kind]["plain sum"]).groupby("arm", sort=False).mean()
        said.append(", ".join(f"{v:+.2f} ({arm})" for arm, v in gain.items()))
    return {
        "figure": figure,
        "caption": "Where classification and regression tasks have separate features: R² of each kind and of all "
        f"tasks, and fraction of true features found, for three pairs of weights, {rows} rows a task. {SPREAD}",
        "alt": f"Weights change the R² of classification by {said[0]}; that of regression by {said[1]}.",
        "data": frame,
    }


def imbalance(frame: pd.DataFrame, rows: int, active: int) -> dict[str, Any]:
    """Scores against the fraction of the rarer class. frame: of `rare_classes`, with equal classes if there are."""
    figure, axes = plots.panels(2, height=3.4)
    for ax, (what, name) in zip(axes, {"all": R2["all"], "selection": SELECTION}.items(), strict=True):
        plots.bands(ax, frame, x="minority", y=what, hue="method", **_kind(what, active))
        _stored(ax, published.IMBALANCE, "minority", what, 0.5, "paper")
        plots.label_axes(ax, "fraction of rows in the rarer class", name)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    rarest = frame["minority"].min()
    found = frame[frame["minority"] == rarest].groupby("method", sort=False)["selection"].mean()
    missing = "" if (frame["minority"] == 0.5).any() else f" Equal classes are missing: no ratio gives {rows} rows."
    return {
        "figure": figure,
        "caption": f"R² and fraction of features found against the fraction of rows in the rarer class, {rows} rows a "
        f"task. Crosses: stored results of the official repository (20 tasks). {SPREAD}{missing}",
        "alt": f"Fraction of features found with {rarest:.0%} of the rows in the rarer class: "
        + ", ".join(f"{v:.2f} for {m}" for m, v in found.items())
        + ".",
        "data": frame,
    }


def coded(frame: pd.DataFrame, ratio: float, active: int) -> dict[str, Any]:
    """Separate models on their own labels and as in the official script. frame: scores with the column way."""
    figure, (left, right) = plots.panels(2, height=3.2)
    for ax, what, name in ((left, "all", R2["all"]), (right, "selection", SELECTION)):
        _beside(ax, frame, x="method", y=what, hue="way", **_kind(what, active))
        plots.label_axes(ax, "", name)
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    pairs = frame.groupby(["method", "way"], sort=False)["all"].mean().unstack("way")[["own labels", "as coded"]]
    return {
        "figure": figure,
        "caption": "Separate models trained on their own labels, and as in the official script, at n/p = "
        f"{ratio:g}. An SVM with RBF kernel selects no features. {SPREAD}",
        "alt": "R² of all tasks: "
        + "; ".join(
            f"{m} {r['own labels']:.3f} on own labels, {r['as coded']:.3f} as coded" for m, r in pairs.iterrows()
        )
        + ".",
        "data": frame,
    }


def medical(scores: pd.DataFrame, coefficients: pd.DataFrame, sets: Mapping[str, MedicalData]) -> dict[str, Any]:
    """Mean coefficients of joint and separate models. scores, coefficients: of `study.medical`."""
    figure, axes = plots.panels(2 * len(sets), height=4.6)
    used = scores.groupby(["data", "model"])["used"].mean()
    parts = []
    for i, (name, people) in enumerate(sets.items()):
        pair = {model: select(coefficients, data=name, model=model) for model in ("joint", "separate")}
        tables = {m: p.groupby(["feature", "task"])["coefficient"].mean().unstack("task") for m, p in pair.items()}
        largest = max(float(np.abs(table.to_numpy()).max()) for table in tables.values())
        both = axes[2 * i : 2 * i + 2]
        for ax, (model, table) in zip(both, tables.items(), strict=True):
            there = table.loc[list(people.features), list(people.tasks)]
            image = ax.imshow(there, cmap="vlag", vmin=-largest, vmax=largest, aspect="auto", interpolation="nearest")
            ax.set_xticks(range(len(people.tasks)), people.tasks, rotation=90, fontsize=8)
            ax.set_yticks(range(len(people.features)), people.features if model == "joint" else [], fontsize=8)
            ax.grid(False)
            ax.set_title(f"{name},\n{model}", fontsize=9)
        figure.colorbar(image, ax=both, label="effect", location="bottom", aspect=30)
        parts.append(
            f"{name}: {used[name, 'joint']:.1f} of {len(people.features)} features for all tasks together, "
            f"{used[name, 'separate']:.1f} for a separate task"
        )
    said = "; ".join(parts)
    return {
        "figure": figure,
        "caption": "Coefficients of joint and of separate models in standard units, means over "
        f"{scores['seed'].nunique()} random halves. Features used on average: {said}.",
        "alt": "Heat maps of effects by feature and task; the joint model uses one set of features for all tasks. "
        f"{said}.",
        "data": scores,
    }


def medical_table(scores: pd.DataFrame) -> Any:
    """R² of joint and separate models for each task, as a styled table."""
    table = scores.groupby(["data", "task", "model"], sort=False)["r2"].apply(_summary, bounds=(0, 1)).unstack("model")
    return _styled(table.reset_index()[["data", "task", "joint", "separate"]].rename_axis(columns=None), "medical")
