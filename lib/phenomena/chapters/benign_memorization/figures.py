"""Figures of the chapter: from tidy frames to what `show` takes beside a name."""
# ruff: noqa: E501 - a caption is one string

import json
from collections.abc import Mapping
from typing import Any

import pandas as pd
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from torch import Tensor

from phenomena.chapters.benign_memorization.study import ARMS, FRESH
from phenomena.chapters.benign_memorization.views import Problem
from phenomena.science import plots
from phenomena.statistics import interval

Shown = dict[str, Any]  # arguments of `show`: figure, caption, alt, data, interactive

GROUND = "#f5f5f5"  # of a panel without axes
COLOURS = {"true class": "knn", "random label": "memorized"}  # of points -> the k-NN accuracy that belongs to it


def examples(problem: Problem, rows: Int[Tensor, " m"], versions: Float[Tensor, "m 4 ..."], dataset: str) -> Shown:
    """Rows of the training points with their augmentations, true class and noisy label."""
    data, labels, _ = problem
    figure, axes = plots.panels(len(versions), height=2.2)
    for ax, row, seen in zip(axes, rows, versions, strict=True):
        plots.samples(ax, data.x_train[row].cpu(), seen.cpu(), f"class {data.y_train[row]}, label {labels[row]}")
    return {
        "figure": figure,
        "caption": "Training points with four augmentations each (of a signal: in grey), their true class and the label they are trained on; points whose label differs from their class come first.",
        "alt": f"Training samples of {dataset}, each with four augmentations that keep its form, and with a label that has nothing to do with its class.",
    }


def embedding(maps: Mapping[str, Mapping[str, Tensor]], problem: Problem, main: pd.DataFrame, tested: int) -> Shown:
    """Training points of the first seed as the layers see them, the arms side by side; the reader picks the layer.

    maps: arm -> layer -> places in the unit square, from `probes.neighbour_maps`. problem: that of the first seed.
    """
    shown = [
        pd.DataFrame({"arm": arm, "layer": layer, "point": range(len(at)), "x": at[:, 0], "y": at[:, 1]})
        for arm, places in maps.items()
        for layer, at in places.items()
    ]
    points = pd.concat(shown)
    points["true class"] = problem.data.y_train.cpu().numpy()[points["point"]]
    points["random label"] = problem.labels.cpu().numpy()[points["point"]]
    trials = {"knn": tested, "memorized": len(problem.labels)}
    found = {
        (arm, layer, colour): interval(rows[quantity], trials=trials[quantity])
        for (arm, layer), rows in main.groupby(["arm", "layer"])
        for colour, quantity in COLOURS.items()
    }
    count = main["seed"].nunique()

    def reading(layer: str, colour: str) -> str:
        each = " and ".join(f"{_quoted(*found[arm, layer, colour])} with {arm}" for arm in maps)
        return (
            f"Layer {layer}: k-NN finds a point's {colour} with accuracy {each} (mean and 95 % interval, n = {count})."
        )

    figure, axes = plots.panels(len(maps), width=4.6, height=2.6)
    for ax, arm in zip(axes, maps, strict=True):
        rows = points[(points["arm"] == arm) & (points["layer"] == "pool")]
        ax.scatter(rows["x"], rows["y"], s=14, color=[f"C{c % 10}" for c in rows["true class"]], linewidths=0)
        ax.set(title=arm, xticks=[], yticks=[], xlabel=_found(*found[arm, "pool", "true class"]), facecolor=GROUND)
        ax.spines[:].set_visible(False)
    figure.suptitle("Trained on random labels; colours: true classes", fontsize=10)
    return {
        "figure": figure,
        "caption": f"{rows['point'].nunique()} training points of one seed at the encoder's output (in the moving figure, at any layer), in networks trained on random labels without and with augmentation. Near neighbours stay near (t-SNE); distances between groups mean nothing. Colours: true classes (in the moving figure, the random labels as well). Below each panel: accuracy of the k-NN probe, mean over {count} seeds.",
        "alt": f"Training points at the encoder's output. {reading('pool', 'true class')} {reading('pool', 'random label')}",
        "data": points,
        "interactive": _embedding_chart(points, found, reading),
    }


def _embedding_chart(points: pd.DataFrame, found: Mapping[Any, Any], reading: Any) -> Any:
    """One view with the arms side by side: only a single view takes the width of the page.

    A point carries its places in all layers, a third of the bytes that a row for each would need.
    """
    import altair as alt  # a second of import that only notebooks with such a chart need

    arms, layers = list(dict.fromkeys(points["arm"])), list(dict.fromkeys(points["layer"]))
    left = {arm: 1.15 * i for i, arm in enumerate(arms)}
    heads = [
        {"x": left[arm], "arm": arm, "said": [[_found(*found[arm, layer, c]) for c in COLOURS] for layer in layers]}
        for arm in arms
    ]
    dots = [
        {
            "x": (left[arm] + rows["x"].astype(float)).round(3).tolist(),
            "y": rows["y"].astype(float).round(3).tolist(),
            "c": rows[list(COLOURS)].iloc[0].tolist(),
        }
        for (arm, _), rows in points.groupby(["arm", "point"], sort=False)
    ]
    sentences = [[reading(layer, colour) for colour in COLOURS] for layer in layers]
    stops = alt.binding_range(min=0, max=len(layers) - 1, step=1, name="layer")
    parameters = [
        alt.param(name="layer", value=layers.index("pool"), bind=stops),
        alt.param(name="layer_ticks", value=layers),
        alt.param(name="colour", value="true class", bind=alt.binding_select(options=list(COLOURS), name="colours")),
        alt.param(name="which", expr=f"indexof({json.dumps(list(COLOURS))}, colour)"),
        alt.param(name="reading", expr=f"{json.dumps(sentences)}[layer][which]"),
    ]
    classes = sorted({c for colour in COLOURS for c in points[colour].tolist()})
    legend = alt.Legend(title="class or label", columns=5, symbolSize=120)
    x = alt.X("at:Q", axis=None, scale=alt.Scale(domain=[-0.04, max(left.values()) + 1.04], nice=False))
    y: dict[str, Any] = {"axis": None, "scale": alt.Scale(domain=[-0.2, 1.2], nice=False)}
    titled = alt.Chart(alt.Data(values=heads))
    middle = titled.transform_calculate(at="datum.x + 0.5", found="datum.said[layer][which]")
    return alt.layer(
        titled.transform_calculate(at="datum.x - 0.04", end="datum.x + 1.04")
        .mark_rect(color=GROUND)
        .encode(x=x, x2="end:Q", y=alt.YDatum(-0.05, **y), y2=alt.Y2Datum(1.05)),
        middle.mark_text(fontSize=14, fontWeight="bold").encode(x=x, y=alt.YDatum(1.13, **y), text="arm:N"),
        middle.mark_text(fontSize=14).encode(x=x, y=alt.YDatum(-0.13, **y), text="found:N"),
        alt.Chart(alt.Data(values=dots))
        .transform_calculate(at="datum.x[layer]", up="datum.y[layer]", class_="datum.c[which]")
        .mark_circle(size=45, opacity=0.9)
        .encode(x=x, y=alt.Y("up:Q", **y), color=alt.Color("class_:N", scale=alt.Scale(domain=classes), legend=legend)),
        height=340,
    ).add_params(*parameters)


def _quoted(mean: float, low: float, high: float) -> str:
    return f"{mean:.2f}" + (f" [{low:.2f}, {high:.2f}]" if low == low else "")


def _found(mean: float, *_: float) -> str:
    return f"k-NN accuracy {mean:.2f}"


def knn(main: pd.DataFrame, chance: float, tested: int) -> Shown:
    """True classes, read from every layer by k-NN. tested: how many points."""
    figure, (ax,) = plots.panels(1, height=3.8)
    _layer_panel(ax, main, "knn", "k-NN accuracy, true labels", "Random labels, true classes", chance, tested).legend()
    ax.set_ylim(0, 1)
    pool = _means(main[main["layer"] == "pool"], "arm")
    fitted, knn = pool["fitted"], pool["knn"]
    return {
        "figure": figure,
        "caption": f"Accuracy of the k-NN probe with true labels at every layer: mean and 95 % interval over seeds. The networks fit the random labels of {fitted['augmentation']:.0%} of the training points with augmentation, {fitted['no augmentation']:.0%} without.",
        "alt": f"k-NN accuracy at every layer. At the encoder's output it is {knn['augmentation']:.2f} after training on random labels with augmentation, {knn['no augmentation']:.2f} without and {knn['untrained']:.2f} untrained; with augmentation it falls again in the last two layers.",
        "data": main[["seed", "arm", "layer", "knn"]],
    }


def memory(main: pd.DataFrame, chance: float, samples: int, tested: int) -> Shown:
    """Random labels of the samples, read from every layer, beside a linear probe for the true ones of tested points."""
    figure, (left, right) = plots.panels(2, height=3.6)
    ylabel = "leave-one-out k-NN accuracy,\ntraining labels"
    _layer_panel(left, main, "memorized", ylabel, "Random labels, read from each layer", chance, samples)
    _layer_panel(right, main, "linear", "accuracy, true labels", "True labels, linear probe", chance, tested)
    for ax in (left, right):
        ax.set_ylim(0, 1.03)
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=4)
    memorized = _means(main[main["arm"] == "augmentation"], "layer")["memorized"]
    return {
        "figure": figure,
        "caption": "Left: how far a layer has moved together the training points that share a training label (a true label for the network trained on true labels). Right: a linear probe with true labels instead of k-NN.",
        "alt": f"With augmentation, random labels are read with accuracy {memorized['pool']:.2f} from the encoder's output and {memorized['logits']:.2f} from the logits; without augmentation they are read almost perfectly inside the encoder. The linear probe for true labels peaks at the encoder's output with augmentation.",
        "data": main[["seed", "arm", "layer", "memorized", "linear"]],
    }


def invariance(main: pd.DataFrame) -> Shown:
    """Distance between two augmentations of a sample at every layer."""
    figure, (ax,) = plots.panels(1, height=3.4)
    _layer_panel(ax, main, "distance", "relative distance Q", "Two versions of a sample").legend()
    ax.set_ylim(0, None)
    distance = _means(main[main["layer"] == "pool"], "arm")["distance"]
    return {
        "figure": figure,
        "caption": "Distance between two augmentations of the same sample relative to different samples, at every layer: mean and 95 % interval over seeds.",
        "alt": f"Relative distance between two augmentations of a sample. At the encoder's output it is {distance['untrained']:.2f} untrained and {distance['augmentation']:.2f} after training on random labels with augmentation.",
        "data": main[["seed", "arm", "layer", "distance"]],
    }


def diversity(last: pd.DataFrame, equal: pd.DataFrame, level: float, samples: int, chance: float, tested: int) -> Shown:
    """Labels fitted and features learnt against the number of distinct augmentations.

    last: from `at_the_end`; equal: from `at_equal_accuracy` at this level. The versions of a sample share its label, so
    that it counts as one trial.
    """
    figure, (left, right) = plots.panels(2, height=3.4)
    ended, equalled = (_named(frame) for frame in (last, equal))
    both = pd.concat([ended.assign(at="after all steps"), equalled.assign(at=f"at {level:.0%} training accuracy")])
    plots.bands(left, ended.assign(what="random labels fitted"), x="versions", y="fitted", hue="what", trials=samples)
    plots.bands(right, both, x="versions", y="knn", hue="at", trials=tested)
    for ax, ylabel, title in ((left, "training accuracy", "Labels"), (right, "k-NN accuracy, encoder", "Features")):
        plots.label_axes(ax, "distinct augmentations B of a sample", ylabel, title, chance).set_ylim(0, 1.03)
        _upright(ax)
    left.legend(loc="center left")
    right.legend(loc="upper left")
    means = _means(last, "copies")
    few = min(b for b in means.index if b != FRESH)
    fitted, knn = means["fitted"], means["knn"]
    return {
        "figure": figure,
        "caption": f"Left: fraction of the views that get their random label after equal numbers of steps. Right: k-NN accuracy of the encoder's output, at the end and at equal training accuracy. Mean and 95 % interval; {samples} training points.",
        "alt": f"From {few} version of a sample to fresh augmentations, the fraction of random labels fitted goes from {fitted[few]:.2f} to {fitted[FRESH]:.2f} and the k-NN accuracy of the encoder from {knn[few]:.2f} to {knn[FRESH]:.2f}.",
        "data": both.drop(columns=["step"]),
    }


def paths(frame: pd.DataFrame, level: float, chance: float) -> Shown:
    """The encoder's accuracy on true labels against random labels fitted, along training.

    frame: from `train_on_versions`, with checkpoints along the way. level: training accuracy marked by a line.
    """
    named = _named(frame)
    figure, (ax,) = plots.panels(1, height=3.6)
    for i, (versions, runs) in enumerate(named.groupby("versions", sort=False)):
        for _, run in runs.groupby("seed"):
            ax.plot(run["fitted"], run["knn"], color=f"C{i}", linewidth=0.7, alpha=0.5)
        mean = _means(runs, "step")
        ax.plot(mean["fitted"], mean["knn"], marker=plots.MARKERS[i], color=f"C{i}", label=versions)
    ax.axvline(level, color="0.4", linestyle=":", linewidth=1)
    title = "Along training, from left to right"
    plots.label_axes(ax, "fraction of views that get their random label", "k-NN accuracy, encoder", title, chance)
    ax.set(xlim=(0, 1.02), ylim=(0, None))
    figure.legend(loc="outside lower center", ncols=4)
    count, ends = frame["seed"].nunique(), _means(named.groupby(["versions", "seed"]).last(), "versions")
    each = " ".join(
        f"{versions}: at the end {end['fitted']:.0%} of the views get their random label, and k-NN accuracy is {end['knn']:.2f}."
        for versions, end in ends.loc[list(dict.fromkeys(named["versions"]))].iterrows()
    )
    return {
        "figure": figure,
        "caption": f"k-NN accuracy of the encoder's output on true labels against the fraction of views that get their random label, at {frame['step'].nunique()} checkpoints of training. Thin: one run; with markers: mean of {count} runs at each checkpoint. Dotted: the training accuracy at which the figure above compares, and chance.",
        "alt": f"Paths of training. {each}",
        "data": frame[["copies", "seed", "step", "fitted", "knn", "test"]],
    }


def capacity(frame: pd.DataFrame, samples: int, chance: float) -> Shown:
    """Fitting labels that versions share against fitting a label for each.

    frame: from `at_the_end`, runs with fixed versions whose labels are shared and independent. A sample counts as one
    trial, since its versions are alike.
    """
    words = {True: "one for each version", False: "shared by the versions"}
    frame = frame.assign(inputs=samples * frame["copies"], labels=frame["independent"].map(words))
    versions = sorted(frame["copies"].unique())
    figure, (ax,) = plots.panels(1, height=3.4)
    plots.bands(ax, frame, x="inputs", y="fitted", hue="labels", trials=samples)
    ax.set_xscale("log", base=2)
    ax.set_xticks([samples * b for b in versions], [f"{samples * b:,}\nB = {b}" for b in versions])
    title = "Shared against independent labels"
    plots.label_axes(ax, "number of inputs n × B", "training accuracy on random labels", title, chance)
    ax.set_ylim(0, 1.03)
    ax.legend(title="random labels", loc="center left")
    many = max(versions)
    fitted = _means(frame[frame["copies"] == many], "labels")["fitted"]
    shared, own = fitted[words[False]], fitted.get(words[True], fitted[words[False]])  # one version shares with none
    return {
        "figure": figure,
        "caption": f"Training accuracy on random labels after equal numbers of steps, over all {samples} × B inputs. Mean and 95 % interval.",
        "alt": f"With {many} versions of a sample, {shared:.2f} of the inputs get their random label when the versions share it and {own:.2f} when each has its own.",
        "data": frame.drop(columns=["step"]),
    }


def perfect(
    main: pd.DataFrame, last: pd.DataFrame, groups: pd.DataFrame, size: int, samples: int, chance: float, tested: int
) -> Shown:
    """The encoder with augmentations, and with real samples of the class in their place.

    main: for the untrained networks, of the seeds of groups alone; last: from `at_the_end`; groups: from
    `train_on_groups`, each of this size.
    """
    untrained = main[(main["arm"] == "untrained") & (main["layer"] == "pool") & main["seed"].isin(groups["seed"])]
    untrained = untrained[["seed", "knn"]].assign(versions="untrained")
    table = pd.concat([untrained, _named(last), groups.assign(versions=f"{size} of\nthe class")])
    figure, (ax,) = plots.panels(1, height=3.4)
    plots.bands(ax, table.assign(what="encoder"), x="versions", y="knn", hue="what", joined=False, trials=tested)
    title = "Augmentations against samples of the class"
    plots.label_axes(ax, "what stands in for a sample", "k-NN accuracy, true labels", title, chance)
    _upright(ax)
    ax.set_ylim(0, None)
    ax.legend(loc="lower right")
    return {
        "figure": figure,
        "caption": f"k-NN accuracy of the encoder's output: untrained, with B versions of each of {samples} samples, with fresh augmentations, and with {size} real samples of a class in place of augmentations. Mean and 95 % interval.",
        "alt": f"Other samples of the same class in place of augmentations give {groups['knn'].mean():.2f}, against {last.loc[last['copies'] == FRESH, 'knn'].mean():.2f} with fresh augmentations and {untrained['knn'].mean():.2f} untrained, all under random labels.",
        "data": table[["versions", "seed", "knn", "fitted"]],
    }


def partial(frame: pd.DataFrame, samples: int, chance: float, tested: int) -> Shown:
    """Accuracies against the fraction of random labels. frame: from `at_the_end`."""
    names = {
        "knn": "encoder's k-NN, true classes",
        "test": "network's test accuracy",
        "fitted": "labels fitted",
    }
    long = _long(frame, "label_noise", names)
    figure, (ax,) = plots.panels(1, height=3.4)
    _accuracies(ax, long, "label_noise", samples, tested)
    plots.label_axes(ax, "fraction of random labels", "accuracy", "Partial noise", chance).set_ylim(0, 1.03)
    figure.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    ends = _means(frame, "label_noise")
    (least, most), test, knn = ends.index[[0, -1]], ends["test"], ends["knn"]
    return {
        "figure": figure,
        "caption": f"Accuracies against the fraction of random labels, with fresh augmentations and {samples} training points. Mean and 95 % interval.",
        "alt": f"As the fraction of random labels goes from {least} to {most}, the network's own test accuracy goes from {test[least]:.2f} to {test[most]:.2f} and the k-NN accuracy of its encoder from {knn[least]:.2f} to {knn[most]:.2f}.",
        "data": long,
    }


def variants(frame: pd.DataFrame, samples: int, chance: float, tested: int) -> Shown:
    """Features and labels fitted by each variant of the training. frame: with the columns variant, seed, knn, fitted."""
    long = _long(frame, "variant", {"knn": "encoder's k-NN, true classes", "fitted": "random labels fitted"})
    figure, (ax,) = plots.panels(1, height=3.4)
    _accuracies(ax, long, "variant", samples, tested, joined=False)
    plots.label_axes(ax, "", "accuracy", "Variants of the training", chance).set_ylim(0, 1)
    _upright(ax)
    figure.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    means = frame.groupby("variant")[["knn", "fitted"]].mean()
    each = "; ".join(f"{name} {row['knn']:.2f} and {row['fitted']:.2f}" for name, row in means.iterrows())
    return {
        "figure": figure,
        "caption": f"k-NN accuracy of the encoder and fraction of random labels fitted, for the training of this chapter and three variants; {samples} training points. Mean and 95 % interval.",
        "alt": f"k-NN accuracy and fraction of random labels fitted: {each}.",
        "data": long,
    }


def _layer_panel(
    ax: Axes,
    main: pd.DataFrame,
    quantity: str,
    ylabel: str,
    title: str,
    chance: float | None = None,
    trials: int | None = None,
) -> Axes:
    plots.bands(ax, main, x="layer", y=quantity, hue="arm", order=ARMS, trials=trials)
    return plots.label_axes(ax, "layer", ylabel, title, chance)


def _accuracies(ax: Axes, long: pd.DataFrame, x: str, samples: int, tested: int, joined: bool = True) -> Axes:
    """The quantities of `_long`: shares of the training samples where labels are fitted, else of the tested points."""
    order, fitted = list(dict.fromkeys(long["quantity"])), long["quantity"].str.contains("fitted")
    for part, trials in ((long[~fitted], tested), (long[fitted], samples)):
        plots.bands(ax, part, x=x, y="value", hue="quantity", order=order, joined=joined, trials=trials)
    return ax


def _means(frame: pd.DataFrame, by: str) -> pd.DataFrame:
    return frame.groupby(by).mean(numeric_only=True)


def _long(frame: pd.DataFrame, by: str, names: dict[str, str]) -> pd.DataFrame:
    """One row for each quantity, under the name that the legend uses."""
    return frame.rename(columns=names).melt([by, "seed"], list(names.values()), "quantity", "value")


def _named(frame: pd.DataFrame) -> pd.DataFrame:
    """With the number of versions as text for the axis, fresh ones last."""
    named = frame.assign(versions=frame["copies"].map(lambda b: "fresh" if b == FRESH else f"B = {b}"))
    return named.sort_values("copies", key=lambda b: b.replace(FRESH, 10**9), kind="stable")


def _upright(ax: Axes) -> None:
    """Short texts below their ticks, where `plots.bands` has turned them."""
    for text in ax.get_xticklabels():
        text.set(rotation=0, ha="center")
