"""Figures and tables of the chapter: each figure with its caption, alternative text and data, as `show` takes them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes

from phenomena.chapters.multitask_selection import published
from phenomena.chapters.multitask_selection.data import MedicalData, TaskData
from phenomena.chapters.multitask_selection.study import Simulation
from phenomena.chapters.multitask_selection.theory import entry_ratio
from phenomena.science import plots
from phenomena.science.frames import select
from phenomena.statistics import interval

SPREAD = "Mean and 95 % interval over seeds."
R2 = {"classification": "R² of classification", "regression": "R² of regression", "all": "R² of all tasks"}
SELECTION = "fraction of features found"


def _kind(what: str, active: int) -> dict[str, Any]:
    """What a score is, as for `statistics.interval`: selection a share of the active features, R² in [0, 1]."""
    return {"trials": active} if what == "selection" else {"bounds": (0, 1)}


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
    for ax, (what, title) in zip(axes, {**titles, "selection": "Features found"}.items(), strict=True):
        plots.bands(ax, frame, x="ratio", y=what, hue="method", **_kind(what, active))
        plots.label_axes(ax, "rows over features, n/p", "fraction found" if what == "selection" else "R²", title)
        if what in published.MAIN:
            _stored(ax, published.MAIN, "ratio", what, limit)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=7)
    last = frame[frame["ratio"] == limit].groupby("method", sort=False)["all"].mean()
    return {
        "figure": figure,
        "caption": f"R² on test rows, and fraction of the {active} true features among the {active} most important, "
        "against rows over features. The separate models are trained on their own labels. Crosses: the stored results "
        f"of the official repository. {SPREAD} {_counts(frame)}",
        "alt": f"R² over all tasks at {limit:g} rows a feature: "
        + ", ".join(f"{name} {v:.2f}" for name, v in last.items())
        + ".",
        "data": frame,
    }


def _counts(frame: pd.DataFrame) -> str:
    """How many seeds methods have, where not all have the same number."""
    seeds = frame.groupby("method", sort=False)["seed"].nunique()
    if seeds.nunique() == 1:
        return f"n = {seeds.iloc[0]}."
    return "; ".join(f"n = {n} for {', '.join(part.index)}" for n, part in seeds.groupby(seeds, sort=False)) + "."


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
    figure, axes = plots.panels(3, height=3.2, width=9.5)
    for ax, name in zip(axes, frame["loss"].unique(), strict=False):
        part = frame[frame["loss"] == name]
        at = part.assign(λ=part["lambda"].round(4))
        plots.bands(ax, at, x="λ", y="in", hue="kind", trials=active // 2)  # half of them act in one kind of task
        _falling(ax, "fraction of true features in", f"Joint path, {name}").legend(fontsize=7)
    plots.bands(axes[2], entries, x="minority", y="ratio", hue="loss")
    fine = np.linspace(0.02, 0.5, 100)
    axes[2].plot(fine, [entry_ratio(q) for q in fine], color="0.4", linestyle=":", label="2φ(c)")
    plots.label_axes(axes[2], "fraction of rows in the rarer class", "λ of classification / λ of regression")
    axes[2].set_title("First feature")
    axes[2].legend(fontsize=7)
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


def _falling(ax: Axes, y: str, title: str) -> Axes:
    ax.set_xscale("log")
    ax.invert_xaxis()
    return plots.label_axes(ax, "λ / λmax", y, title)


def entering(frame: pd.DataFrame, active: int) -> dict[str, Any]:
    """Classification features on a joint path with and without weights. frame: of `entering`."""
    figure, (ax,) = plots.panels(1, height=3)
    classification = frame[frame["kind"] == "classification"]
    at = classification.assign(λ=classification["lambda"].round(4))
    plots.bands(ax, at, x="λ", y="in", hue="loss", trials=active // 2)
    _falling(ax, "fraction in, classification features", "What the weights move").legend()
    rounded = frame.assign(penalty=frame["lambda"].round(4))
    mean = rounded.groupby(["loss", "kind", "penalty"], sort=False)["in"].mean()
    curves = mean.reset_index()
    curves = curves.assign(x=curves["penalty"], curve=curves["loss"] + curves["kind"])

    def reading(loss: str, penalty: float) -> str:
        c, r = mean[loss, "classification", penalty], mean[loss, "regression", penalty]
        return (
            f"{loss.capitalize()}, λ / λmax = {penalty:.2f}: {c:.2f} of the classification features "
            f"and {r:.2f} of the regression features are in."
        )

    stops = sorted(curves["penalty"].unique(), reverse=True)
    start = {"loss": "no weights", "penalty": stops[len(stops) // 3]}
    lines = curves.drop(columns="penalty")
    chart = plots.slider(
        plots.Layer(lines, y="in", detail="curve", background=True, style={"color": "#bbb", "strokeWidth": 1}),
        plots.Layer(lines, y="in", colour="kind"),
        plots.Layer(curves, mark="point", y="in", colour="kind", style={"filled": True, "size": 120}),
        x=plots.Axis("λ / λmax", (float(stops[-1]), 1), "log"),
        y=plots.Axis("fraction of true features in", (0, 1)),
        controls={"loss": "losses", "penalty": "λ / λmax"},
        reading=reading,
        start=start,
    )
    return {
        "figure": figure,
        "caption": "Fraction of the classification features that a joint path has let in as λ falls, with and without "
        "weights; classification and regression share no feature. In the interactive figure, both kinds of feature: "
        f"choose the losses and move λ; the other losses are grey. Mean over {frame['seed'].nunique()} seeds"
        ", in the static figure with 95 % interval.",
        "alt": "Without weights the classification features wait until nearly all regression features are in; with "
        f"weights they come in together. {reading(**start)} {reading(**(start | {'loss': 'weights'}))}",
        "data": curves[["loss", "kind", "penalty", "in"]],
        "interactive": chart,
    }


def weights(frame: pd.DataFrame, rows: int, active: int) -> dict[str, Any]:
    """Scores for several pairs of weights. frame: of `compare_weights`."""
    figure, axes = plots.panels(2, 2, height=3.4)
    for ax, (what, name) in zip(axes, {**R2, "selection": SELECTION}.items(), strict=True):
        plots.bands(ax, frame, x="arm", y=what, hue="loss", joined=False, **_kind(what, active))
        plots.label_axes(ax, "", name)
    axes[0].legend(fontsize=7)
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
    figure, axes = plots.panels(2, height=3.0)
    for ax, (what, name) in zip(axes, {"all": R2["all"], "selection": SELECTION}.items(), strict=True):
        plots.bands(ax, frame, x="minority", y=what, hue="method", **_kind(what, active))
        _stored(ax, published.IMBALANCE, "minority", what, 0.5, "paper")
        plots.label_axes(ax, "fraction of rows in the rarer class", name)
    axes[0].legend(fontsize=7)
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
        plots.bands(ax, frame, x="method", y=what, hue="way", joined=False, **_kind(what, active))
        plots.label_axes(ax, "", name)
    left.legend(fontsize=7)
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
    figure, axes = plots.panels(2, 2, height=3.6, width=8.5)
    used = scores.groupby(["data", "model"])["used"].mean()
    parts = []
    for column, (name, people) in enumerate(sets.items()):
        for ax, model in ((axes[column], "joint"), (axes[2 + column], "separate")):
            there = select(coefficients, data=name, model=model)
            _effects(ax, there, people.tasks, people.features, model == "separate")
            ax.set_title(f"{name}, {model}")
        parts.append(
            f"{name}: {used[name, 'joint']:.1f} of {len(people.features)} features for all tasks together, "
            f"{used[name, 'separate']:.1f} for a separate task"
        )
    said = "; ".join(parts)
    return {
        "figure": figure,
        "caption": f"Coefficients in standard units, means over {scores['seed'].nunique()} random halves: joint models "
        f"above, separate below. Features used on average: {said}.",
        "alt": "Heat maps of effects by task and feature; the joint model uses one set of features for all tasks. "
        f"{said}.",
        "data": scores,
    }


def _effects(ax: Axes, frame: pd.DataFrame, rows: Sequence[str], columns: Sequence[str], named: bool) -> None:
    mean = frame.groupby(["task", "feature"])["coefficient"].mean().unstack("feature").loc[list(rows), list(columns)]
    bar = {"label": "effect"}
    sns.heatmap(
        mean, ax=ax, center=0, cmap="vlag", cbar_kws=bar, yticklabels=rows, xticklabels=columns if named else False
    )
    ax.set(xlabel="", ylabel="")
    ax.tick_params(labelsize=6.5)
    ax.tick_params("y", rotation=0)


def medical_table(scores: pd.DataFrame) -> Any:
    """R² of joint and separate models for each task, as a styled table."""
    table = scores.groupby(["data", "task", "model"], sort=False)["r2"].apply(_summary, bounds=(0, 1)).unstack("model")
    return _styled(table.reset_index()[["data", "task", "joint", "separate"]].rename_axis(columns=None), "medical")
