"""Figures of the chapter: from tidy frames to what `show` takes beside a name."""
# ruff: noqa: E501 - a caption is one string

import math
from typing import Any

import pandas as pd
from jaxtyping import Float
from matplotlib.axes import Axes
from torch import Tensor

from phenomena.chapters.benign_memorization.study import ARMS, FRESH
from phenomena.chapters.benign_memorization.views import Problem
from phenomena.science import plots
from phenomena.science.plots import Axis, Layer

Shown = dict[str, Any]  # arguments of `show`: figure, caption, alt, data, interactive

READINGS = {"k-NN of the encoder": "knn", "the network's own answers": "test"}


def examples(problem: Problem, versions: Float[Tensor, "m 4 ..."], dataset: str) -> Shown:
    """The first training points with their augmentations, true class and noisy label."""
    data, labels, _ = problem
    figure, axes = plots.panels(len(versions), height=2.2)
    for i, ax in enumerate(axes):
        title = f"class {data.y_train[i]}, label {labels[i]}"
        plots.samples(ax, data.x_train[i].cpu(), versions[i].cpu(), title)
    return {
        "figure": figure,
        "caption": "Training points (strong) with four augmentations each (faint), their true class and the label they are trained on.",
        "alt": f"Training samples of {dataset}, each with four augmentations that keep its form, and with a label that has nothing to do with its class.",
    }


def knn(main: pd.DataFrame, chance: float, tested: int) -> Shown:
    """True classes, read from every layer by k-NN. tested: how many points."""
    figure, (ax,) = plots.panels(1, height=3.8)
    _layer_panel(ax, main, "knn", "k-NN accuracy, true labels", "Random labels, true classes", chance, tested).legend()
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
    _layer_panel(left, main, "memorized", ylabel, "Random labels, read from each layer", chance, samples).legend()
    _layer_panel(right, main, "linear", "accuracy, true labels", "True labels, linear probe", chance, tested)
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
    distance = _means(main[main["layer"] == "pool"], "arm")["distance"]
    return {
        "figure": figure,
        "caption": "Distance between two augmentations of the same sample relative to different samples, at every layer: mean and 95 % interval over seeds.",
        "alt": f"Relative distance between two augmentations of a sample. At the encoder's output it is {distance['untrained']:.2f} untrained and {distance['augmentation']:.2f} after training on random labels with augmentation.",
        "data": main[["seed", "arm", "layer", "distance"]],
    }


def diversity(last: pd.DataFrame, equal: pd.DataFrame, level: float, samples: int, tested: int) -> Shown:
    """Labels fitted and features learnt against the number of distinct augmentations.

    last: from `at_the_end`; equal: from `at_equal_accuracy` at this level. The versions of a sample share its label, so
    that it counts as one trial.
    """
    figure, (left, right) = plots.panels(2, height=3.4)
    ended, equalled = (_named(frame) for frame in (last, equal))
    both = pd.concat([ended.assign(at="after all steps"), equalled.assign(at=f"at {level:.0%} training accuracy")])
    plots.bands(left, ended.assign(what="random labels fitted"), x="versions", y="fitted", hue="what", trials=samples)
    plots.label_axes(left, "distinct augmentations of a sample", "training accuracy", "Memorizing").legend()
    plots.bands(right, both, x="versions", y="knn", hue="at", trials=tested)
    plots.label_axes(right, "distinct augmentations of a sample", "k-NN accuracy, encoder", "Generalising").legend()
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
    """Accuracy on true labels against random labels fitted, along training; the reader picks the number of versions.

    frame: from `train_on_versions`, with checkpoints along the way. level: training accuracy marked by a line.
    """
    frame = frame.assign(copies=frame["copies"].astype(float).replace(FRESH, math.inf)).sort_values(
        "copies", kind="stable"
    )
    ends = frame.groupby(["copies", "seed"]).last().groupby("copies").mean(numeric_only=True)
    count = frame["seed"].nunique()

    def reading(copies: float, what: str) -> str:
        end = ends.loc[copies]
        fitted = f"{end['fitted']:.0%} of the views get their random label"
        return f"{_versions(copies)}, {what}: at the end {fitted}, and accuracy on true labels is {end[READINGS[what]]:.2f} (mean of {count})."

    figure, axes = plots.panels(2, height=3.4)
    for ax, (title, what) in zip(axes, READINGS.items(), strict=True):
        for i, copies in enumerate(ends.index):
            for j, (_, run) in enumerate(frame[frame["copies"] == copies].groupby("seed")):
                label = None if j else _versions(copies)
                ax.plot(run["fitted"], run[what], marker=plots.MARKERS[i], color=f"C{i}", linewidth=1, label=label)
        ax.axvline(level, color="0.4", linestyle=":", linewidth=1)
        ylabel = "" if what == "test" else "accuracy, true labels"
        plots.label_axes(ax, "views that get their random label", ylabel, title, chance).set_ylim(0, 1)
    axes[1].legend(fontsize=7)
    ending = " ".join(reading(copies, "k-NN of the encoder") for copies in ends.index)
    return {
        "figure": figure,
        "caption": f"Accuracy on true labels against the fraction of views that get their random label. Each line is a training run, from left to right, with {frame['step'].nunique()} checkpoints; {count} runs for every number of distinct augmentations, of which the interactive form highlights one and the static form draws all. Vertical line: the training accuracy at which the figure above compares; horizontal line: chance.",
        "alt": f"Paths of training. {ending}",
        "data": frame[["copies", "seed", "step", "fitted", *READINGS.values()]],
        "interactive": _path_chart(frame, level, chance, reading),
    }


def _path_chart(frame: pd.DataFrame, level: float, chance: float, reading: Any) -> Any:
    """The runs of one number of versions in front of all others in grey; three digits keep the chart small."""
    runs = frame.assign(run=frame.groupby(["copies", "seed"]).ngroup())
    runs = runs.rename(columns={column: name for name, column in READINGS.items()})
    runs = runs.melt(["copies", "run", "step", "fitted"], list(READINGS), "what", "accuracy").round(3)
    others, marked = runs.drop(columns="copies"), pd.DataFrame({"level": [level], "chance": [chance]})
    grey, dashed = {"color": "#bbb", "strokeWidth": 1}, {"strokeDash": [2, 3]}
    return plots.slider(
        Layer(others, "line", "fitted", "accuracy", detail="run", order="step", style=grey),
        Layer(marked, "rule", x="level", y=None, style=dashed),
        Layer(marked, "rule", x=None, y="chance", style=dashed),
        Layer(runs, "line", "fitted", "accuracy", detail="run", order="step", style={"strokeWidth": 2.5}),
        Layer(runs, "circle", "fitted", "accuracy", detail="run", order="step", style={"size": 50, "opacity": 1}),
        x=Axis("fraction of views that get their random label", (0, 1)),
        y=Axis("accuracy, true labels", (0, 1)),
        controls={"copies": "distinct augmentations B of a sample", "what": "accuracy of"},
        reading=reading,
    )


def capacity(frame: pd.DataFrame, samples: int, chance: float) -> Shown:
    """Fitting labels that versions share against fitting a label for each.

    frame: from `at_the_end`, runs with fixed versions whose labels are shared and independent. A sample counts as one
    trial, since its versions are alike.
    """
    words = {True: "one for each version", False: "shared by the versions"}
    frame = frame.assign(inputs=samples * frame["copies"], labels=frame["independent"].map(words))
    figure, (ax,) = plots.panels(1, height=3.4)
    plots.bands(ax, frame, x="inputs", y="fitted", hue="labels", trials=samples)
    ax.set_xscale("log", base=2)
    title = "Shared against independent labels"
    plots.label_axes(ax, "number of inputs n × B", "training accuracy on random labels", title, chance)
    ax.legend(title="random labels")
    many = frame["copies"].max()
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
    plots.label_axes(ax, "what stands in for a sample", "k-NN accuracy, true labels", title, chance).legend()
    return {
        "figure": figure,
        "caption": f"k-NN accuracy of the encoder's output: untrained, with B versions of each of {samples} samples, with fresh augmentations, and with {size} real samples of a class in place of augmentations. Mean and 95 % interval.",
        "alt": f"Other samples of the same class in place of augmentations give {groups['knn'].mean():.2f}, against {last.loc[last['copies'] == FRESH, 'knn'].mean():.2f} with fresh augmentations and {untrained['knn'].mean():.2f} untrained, all under random labels.",
        "data": table[["versions", "seed", "knn", "fitted"]],
    }


def partial(frame: pd.DataFrame, samples: int, chance: float, tested: int) -> Shown:
    """Accuracies against the fraction of random labels. frame: from `at_the_end`."""
    names = {
        "knn": "k-NN of the encoder, true labels",
        "test": "network's own test accuracy",
        "fitted": "training labels fitted",
    }
    long = _long(frame, "label_noise", names)
    figure, (ax,) = plots.panels(1, height=3.4)
    _accuracies(ax, long, "label_noise", samples, tested)
    plots.label_axes(ax, "fraction of random labels", "accuracy", "Partial noise", chance).legend()
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
    long = _long(frame, "variant", {"knn": "k-NN of the encoder, true labels", "fitted": "random labels fitted"})
    figure, (ax,) = plots.panels(1, height=3.4)
    _accuracies(ax, long, "variant", samples, tested, joined=False)
    plots.label_axes(ax, "", "accuracy", "Variants of the training", chance).legend()
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
    named = frame.assign(versions=frame["copies"].map(lambda b: "fresh" if b == FRESH else str(b)))
    return named.sort_values("copies", key=lambda b: b.replace(FRESH, 10**9), kind="stable")


def _versions(copies: float) -> str:
    return "fresh versions at every visit" if copies == math.inf else f"B = {copies:g}"
