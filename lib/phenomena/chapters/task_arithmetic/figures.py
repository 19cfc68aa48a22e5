"""The chapter's figures: from a study's frame to the keywords of `show`, captions and alternative texts included.

test: test rows of a task. Accuracies over all tasks are shares of 2 test trials a seed: the editions' suites have two
sources or more, and domains repeat the inputs of a source.
"""

import base64
import io
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import altair as alt
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
import torch
import torch.nn.functional as F
from jaxtyping import Shaped, UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from phenomena.chapters.task_arithmetic import study
from phenomena.chapters.task_arithmetic.finetuning import Task
from phenomena.science import geomnist, plots
from phenomena.science.frames import per_seed, select, summary
from phenomena.science.plots import Axis, Layer
from phenomena.statistics import interval

Shown = dict[str, Any]  # keywords of `show`, all but the name


def table(
    frame: pd.DataFrame, by: str, values: Sequence[str], how: Mapping[str, Mapping[str, Any]] | None = None
) -> pd.DataFrame:
    """Mean over seeds and its 95 % interval as text, a row a value of `by`. how: of a column, as for `interval`."""
    means = frame.groupby([by, "seed"], sort=False)[list(values)].mean().groupby(level=0, sort=False)
    texts = {value: means[value].agg(partial(_with_interval, **(how or {}).get(value, {}))) for value in values}
    return pd.DataFrame(texts).assign(n=means.size())


def _with_interval(values: Any, **how: Any) -> str:
    return "{:.3f} [{:.3f}, {:.3f}]".format(*interval(values, **how)).replace("nan", "–")


def _long(frame: pd.DataFrame, by: str, values: Sequence[str], variable: str, value: str) -> pd.DataFrame:
    """Means per seed, one row a value of `by` and a column of `values`."""
    means = frame.groupby([by, "seed"], sort=False)[list(values)].mean().reset_index()
    return means.melt([by, "seed"], var_name=variable, value_name=value)


def _interval_text(values: Any, bounds: tuple[float, float]) -> str:
    mean, low, high = interval(values, bounds=bounds)
    return f"{mean:.2f} [{low:.2f}, {high:.2f}]" if low == low else f"{mean:.2f}"  # one seed has no interval


def _dots(ax: Axes, means: pd.DataFrame, by: str, value: str, hue: str, **how: Any) -> Axes:
    """Mean over seeds and its 95 % interval, a row for each value of `by`, which its n follows, and a colour for `hue`.

    means: one row a seed for each of both. how: what the value is, as for `interval`; `trials` may be given by hue.
    """
    rows, hues = list(dict.fromkeys(means[by])), list(dict.fromkeys(means[hue]))
    for i, name in enumerate(hues):
        options = {k: v[name] if isinstance(v, Mapping) else v for k, v in how.items()}
        found = summary(select(means, **{hue: name}), by, value, **options)
        places = [rows.index(row) + 0.24 * (i - (len(hues) - 1) / 2) for row in found[by]]
        error = (found["mean"] - found["low"], found["high"] - found["mean"])
        style = {"color": f"C{i}", "marker": plots.MARKERS[i], "label": name, "capsize": 3}
        ax.errorbar(found["mean"], places, xerr=error, linestyle="none", **style)
    count = means.dropna(subset=[value]).groupby(by)["seed"].nunique()
    ax.set_yticks(range(len(rows)), [f"{row} (n = {count.get(row, 0)})" for row in rows])
    ax.set_ylim(len(rows) - 0.5, -0.5)
    if len(hues) > 1:  # above the axes, where no data are
        ax.legend(
            loc="lower left", bbox_to_anchor=(0, 1), ncols=len(hues), fontsize=8, columnspacing=1, handletextpad=0
        )
    return ax


def suite(tasks: Mapping[str, Task], name: str) -> Shown:
    """Eight inputs of each task side by side, or its number of classes where they are texts; the control first."""
    figure, axes = plots.panels(2, rows=(len(tasks) + 1) // 2, height=0.75)
    for ax, (title, task) in zip(axes, tasks.items(), strict=False):
        inputs = task.test[0][:8]
        if inputs.dim() == 4:
            strip = torch.cat(list(inputs), 2).permute(1, 2, 0).float().cpu()
            ax.imshow(strip / strip.max(), cmap="gray")
        else:
            ax.text(0.5, 0.5, f"{len(task.head)} classes of texts", ha="center", transform=ax.transAxes)
        ax.set(xticks=[], yticks=[])
        ax.set_title(f"{title} ({len(task.head)} classes)", fontsize=8)
        ax.grid(False)
    for ax in axes[len(tasks) :]:
        ax.axis("off")
    names = list(tasks)[1:]
    return {
        "figure": figure,
        "caption": f"The control task and the {len(names)} tasks of the suite “{name}”.",
        "alt": f"Rows of inputs: the control task, then the tasks {'; '.join(names)}.",
    }


# --- two coefficients -------------------------------------------------------------------------------------------------

RIGHT, WRONG = {"color": "#222222"}, {"color": "#d55e00", "fontWeight": "bold"}
CONTROL = "#949494"
CLASSES = {"geomnist": list(geomnist.SHAPES)}  # names of a source's classes; those of the others are numbers


def edits(
    accuracy: pd.DataFrame, answers: pd.DataFrame, inputs: Mapping[str, Tensor], trials: Mapping[str, float]
) -> Shown:
    """Accuracy of one network with two vectors added, and its answers to a few inputs of the two tasks.

    accuracy, answers: of `study.edits` and, one seed, `study.edited_answers`. inputs: all test inputs of the two tasks;
    not drawn where they are no images. trials: of an accuracy on each task, a seed.
    """
    (one, other), by = list(inputs), ["first", "second", "task"]
    parts = {str(name): part for name, part in accuracy.groupby("task", sort=False)}
    means = pd.concat([summary(part, by, "accuracy", trials=trials[name]) for name, part in parts.items()])
    right = answers["answer"] == answers["label"]
    words = [_class(*pair) for pair in zip(answers["task"], answers["answer"], strict=True)]
    answers = answers.assign(right=right, place=answers.groupby(["first", "second", "task"]).cumcount())
    answers["text"] = [f"{'✓' if ok else '✗'} {word}" for ok, word in zip(right, words, strict=True)]
    stops = sorted(accuracy["first"].unique())
    nearest = {at: float(min(stops, key=lambda stop: abs(stop - at))) for at in (-1, 0, 1)}
    settings = {
        f"Subtract “{one}”": (nearest[-1], nearest[0]),
        "Pre-trained": (nearest[0], nearest[0]),
        "Add both": (nearest[1], nearest[1]),
    }

    def reading(first: float, second: float) -> str:
        mean = select(means, first=first, second=second).set_index("task")["mean"]
        shown = select(answers, first=first, second=second)["right"]
        return (
            f"λ = {_signed(first)} for “{one}” (accuracy {mean[one]:.2f}) and {_signed(second)} for “{other}” "
            f"({mean[other]:.2f}); control {mean['control']:.2f}; {shown.sum()} of {len(shown)} answers right."
        )

    return {
        "figure": _edits_static(means, answers, inputs, settings),
        "caption": f"One network, with λ₁ times the vector of “{one}” and λ₂ times that of “{other}” added to its "
        "pre-trained weights: accuracy on both tasks and on the control, mean and 95 % interval over seeds, "
        f"n = {accuracy['seed'].nunique()}. Beside it, what the network answers to test images of seed "
        f"{answers['seed'].iloc[0]} (✓ right, ✗ wrong): of each task the first ones that the pre-trained network has "
        "right, then the first that it has wrong. In the moving figure, sliders set λ₁ and λ₂; upright lines mark the "
        "pre-trained network.",
        "alt": "Two coefficients edit one network. " + " ".join(reading(*at) for at in settings.values()),
        "data": means,
        "interactive": _edits_chart(means, answers, inputs, reading, (nearest[-1], nearest[1])),
    }


def _signed(number: float) -> str:
    return f"{number:g}".replace("-", "−")


def _class(task: str, number: int) -> str:
    return CLASSES.get(task.partition(", ")[0], list(map(str, range(number + 1))))[number]


def _edits_static(
    means: pd.DataFrame,
    answers: pd.DataFrame,
    inputs: Mapping[str, Tensor],
    settings: Mapping[str, tuple[float, float]],
) -> Figure:
    """A row for each setting: bars, and beside them the images with right and wrong."""
    figure, axes = plt.subplots(len(settings), 2, figsize=(4.6, 3.9), width_ratios=[1, 2], layout="constrained")
    for (bars, pictures), (title, (first, second)) in zip(axes, settings.items(), strict=True):
        rows = select(means, first=first, second=second)
        error = (rows["mean"] - rows["low"], rows["high"] - rows["mean"])
        bars.barh(range(len(rows)), rows["mean"], 0.4, xerr=error, color=["C0"] * len(inputs) + [CONTROL])
        for place, name in enumerate(rows["task"]):
            bars.text(0, place - 0.3, name, fontsize=8.5)
        bars.set(yticks=[], xlim=(0, 1.02), ylim=(len(rows) - 0.7, -0.7))
        bars.tick_params(labelbottom=bars is axes[-1, 0])
        bars.set_title(f"{title}: λ = {_signed(first)}, {_signed(second)}", loc="left")
        shown = select(answers, first=first, second=second)
        for task, row, place, right in shown[["task", "row", "place", "right"]].to_numpy():
            x, y = 1.55 * place, 1.1 * list(inputs).index(task)
            if inputs[task].dim() == 4:
                pictures.imshow(_pixels(inputs[task][row]), cmap="gray", extent=(x, x + 1, y + 1, y))
            mark, style = ("✓", RIGHT) if right else ("✗", WRONG)
            pictures.text(x + 1.05, y + 0.5, mark, va="center", color=style["color"], fontsize=12)
        pictures.set(xlim=(-0.1, 6.2), ylim=(2.15, -0.05), aspect="equal")
        pictures.axis("off")
    axes[-1, 0].set_xlabel("accuracy")
    return figure


def _pixels(image: Shaped[Tensor, "c h w"]) -> UInt8[np.ndarray, "..."]:
    """An image at no more than 32 x 32 pixels; a grey one has no axis of channels."""
    small = F.adaptive_avg_pool2d(image.float().cpu(), min(image.shape[-1], 32))
    return (small / small.max().clamp(min=1e-6) * 255).byte().permute(1, 2, 0).squeeze(2).numpy()


def _picture(image: Shaped[Tensor, "c h w"]) -> str:
    """An image as PNG in a URL that holds it."""
    png = io.BytesIO()
    Image.fromarray(_pixels(image)).save(png, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(png.getvalue()).decode()


def _edits_chart(
    means: pd.DataFrame,
    answers: pd.DataFrame,
    inputs: Mapping[str, Tensor],
    reading: Callable[..., str],
    start: tuple[float, float],
) -> Any:
    """Bars between 0 and 1 and, to their right on the same axis, the images with the answers in words."""
    begin, pitch = 1.1, 0.42
    answers = answers.assign(at=begin + pitch * (answers["place"] + 0.5))
    places = answers.drop_duplicates(["task", "place"])
    places = places[[inputs[task].dim() == 4 for task in places["task"]]]
    places = places.assign(
        picture=[_picture(inputs[task][row]) for task, row in zip(places["task"], places["row"], strict=True)]
    )
    before = select(means, first=0.0, second=0.0)
    side, below = {"expr": "min(48, width / 11)"}, {"dy": 36, "fontSize": {"expr": "width < 500 ? 8 : 12"}}
    chart = plots.slider(
        Layer(means[means["task"] != "control"], "bar", "mean", "task", style={"size": 18}),
        Layer(means[means["task"] == "control"], "bar", "mean", "task", style={"size": 18, "color": CONTROL}),
        Layer(means, "rule", "low", "task", x2="high", style={"color": "#222", "strokeWidth": 1.5}),
        Layer(before, "tick", "mean", "task", background=True, style={"color": "#222", "size": 30, "thickness": 2}),
        Layer(before.assign(at=0.0), "text", "at", "task", text="task", background=True,
              style={"align": "left", "dy": -24, "fontSize": 13, "color": "#222"}),
        Layer(places, "image", "at", "task", image="picture", background=True,
              style={"width": side, "height": side, "smooth": False}),
        Layer(answers[answers["right"]], "text", "at", "task", text="text", style=RIGHT | below),
        Layer(answers[~answers["right"]], "text", "at", "task", text="text", style=WRONG | below),
        x=Axis("accuracy", (0.0, begin + pitch * (answers["place"].max() + 1))),
        y=Axis("", scale="nominal"),
        controls={name: f"λ of “{task}”" for name, task in zip(("first", "second"), inputs, strict=True)},
        reading=reading,
        start=dict(zip(("first", "second"), start, strict=True)),
    )  # fmt: skip
    for layer in chart.layer:
        layer.encoding.x.axis = alt.Axis(values=[0, 0.5, 1], format=".1f", titleAnchor="start", domain=False)
        layer.encoding.y.axis = None
    return chart.properties(height=270)


# --- negation ---------------------------------------------------------------------------------------------------------


def negation(frame: pd.DataFrame, test: int) -> Shown:
    """Accuracy on the task to forget and on the control, after each way to forget it."""
    frame = select(frame, part="test")
    figure, (left, right) = plots.panels(2, height=3.4)
    means = _long(frame, "method", ["target", "control"], "on", "accuracy")
    plots.label_axes(_dots(left, means, "method", "accuracy", "on", trials=2 * test), "accuracy, mean over tasks", "")
    tasks = frame[frame["method"].isin(["pre-trained", "negated"])]
    plots.label_axes(_dots(right, tasks, "task", "target", "method", trials=test), "accuracy on the task itself", "")
    for ax in (left, right):
        ax.tick_params(axis="y", labelsize=7.5)
        ax.set_xlim(0, 1)
    level = means.groupby(["method", "on"], sort=False)["accuracy"].mean().unstack()
    shown = "; ".join(f"{m}: target {r['target']:.2f}, control {r['control']:.2f}" for m, r in level.iterrows())
    return {
        "figure": figure,
        "caption": "Left: accuracy on the task to forget (target) and on the control, after each way to forget it. "
        "Right: the target's accuracy task by task, before and after negation. Mean and 95 % interval over n seeds.",
        "alt": f"Negating a task vector against the controls. {shown}.",
        "data": frame,
    }


def along(frame: pd.DataFrame, test: int) -> Shown:
    """Accuracy along the task's own vector: the mean over tasks, and in the moving form task by task, too.

    Validation rows are half as many as test rows.
    """
    frame = select(frame, method="task vector")
    figure, (ax,) = plots.panels(1, height=3.2)
    every = _long(frame, "coefficient", ["target", "control"], "on", "accuracy")
    plots.bands(ax, every, x="coefficient", y="accuracy", hue="on", trials=test)
    ax.axvline(0, color="0.6", linewidth=0.8)
    plots.label_axes(ax, "coefficient λ of the task's vector", "accuracy on validation rows").legend(fontsize=8)
    level = every.groupby(["on", "coefficient"])["accuracy"].mean()
    ends = [c for c in (-every["coefficient"].max(), 0.0, 1.0) if ("target", c) in level.index]
    shown = "; ".join(f"at {c:g} target {level['target', c]:.2f}, control {level['control', c]:.2f}" for c in ends)
    parts = {str(name): part for name, part in frame.groupby("task", sort=False)}
    lines = [_long(p, "coefficient", ["target", "control"], "on", "accuracy").assign(task=n) for n, p in parts.items()]
    columns = ["task", "on", "coefficient"]
    whole = summary(every.assign(task="all tasks"), columns, "accuracy", trials=test)
    means = pd.concat([whole, summary(pd.concat(lines), columns, "accuracy", trials=test // 2)], ignore_index=True)

    def reading(task: str) -> str:
        ends = []
        for on, part in select(means, task=task).groupby("on", sort=False):
            at = part.set_index("coefficient")["mean"]
            ends.append(f"{on} " + ", ".join(f"{at[c]:.2f} at λ = {c:g}" for c in (limits[0], 0.0, limits[1])))
        return f"{task}: " + "; ".join(ends) + "."

    limits = (float(means["coefficient"].min()), float(means["coefficient"].max()))
    chart = plots.slider(
        Layer(means, "area", "coefficient", "low", y2="high", colour="on", style={"opacity": 0.2}),
        Layer(means, "line", "coefficient", "mean", colour="on", style={"point": True}),
        x=Axis("coefficient λ of the task's vector", limits),
        y=Axis("accuracy on validation rows", (0.0, 1.0)),
        controls={"task": "task"},
        reading=reading,
    )
    return {
        "figure": figure,
        "caption": "Accuracy along a task's own vector: the task is forgotten to the left of 0, the fine-tuned network "
        "stands at 1, and larger steps overshoot. The coefficient of negation is chosen on these rows. Mean over the "
        f"{frame['task'].nunique()} tasks (in the moving figure, a menu picks one) and 95 % interval over seeds, "
        f"n = {frame['seed'].nunique()}.",
        "alt": f"Accuracy on target and control against the coefficient of the task vector. {shown}.",
        "data": frame,
        "interactive": chart,
    }


# --- addition ---------------------------------------------------------------------------------------------------------


def addition(frame: pd.DataFrame, at_most: int) -> Shown:
    """Normalised accuracy of sums, and their coefficient, by the number of vectors. at_most: subsets of a size."""
    figure, (left, right) = plots.panels(2, height=3.2)
    means = _long(frame, "size", ["sum", "pre-trained"], "network", "normalised")
    plots.bands(left, means, x="size", y="normalised", hue="network")
    plots.label_axes(left, "tasks added", "normalised accuracy", "Sums of vectors").legend(fontsize=8)
    chosen = frame.groupby(["size", "seed"])["coefficient"].first().reset_index().assign(line="chosen")
    plots.bands(right, chosen, x="size", y="coefficient", hue="line")
    plots.label_axes(right, "tasks added", "coefficient λ", "Chosen on validation rows")
    level, top = means.groupby(["network", "size"])["normalised"].mean(), frame["size"].max()
    shown = ", ".join(
        f"with {k} tasks {level['sum', k]:.2f} (pre-trained {level['pre-trained', k]:.2f})" for k in (2, top)
    )
    return {
        "figure": figure,
        "caption": "Left: accuracy of one network made by adding vectors, normalised by the networks fine-tuned on "
        f"single tasks, against the number of tasks; at most {at_most} subsets of a size. Right: the coefficient. Mean "
        f"and 95 % interval over seeds, n = {frame['seed'].nunique()}.",
        "alt": f"Normalised accuracy of sums of task vectors: {shown}.",
        "data": frame,
    }


def merging(frame: pd.DataFrame, favored: pd.DataFrame, tasks: int, test: int) -> Shown:
    """Accuracy on all tasks, by how the one network was made, and on a task favored in TIES. tasks: how many."""
    figure, (left, right) = plots.panels(2, height=3.4)
    names = {"ties": "TIES", "ties by count": "TIES by count", "dare": "DARE", "iso-c": "Iso-C", "regmean": "RegMean"}
    rows = frame.assign(made=frame["method"].replace(names), line="accuracy")
    order = rows.groupby("made")["accuracy"].mean().sort_values().index
    rows = rows.set_index("made").loc[order].reset_index()
    _dots(left, rows, "made", "accuracy", "line", trials=2 * test)
    plots.label_axes(left, f"mean accuracy on {tasks} tasks", "", "One network for all tasks")
    ways = {"equal": "none", "mean": "in the mean", "election": "in the votes, too"}
    counts = favored.rename(columns=ways).assign(line="accuracy")
    means = counts.melt(["seed", "line"], list(ways.values()), "weight", "accuracy")
    means = means.groupby(["weight", "seed", "line"], sort=False)["accuracy"].mean().reset_index()
    _dots(right, means, "weight", "accuracy", "line", trials=2 * test)
    plots.label_axes(right, "accuracy on the favored task", "", "Weight in TIES")
    shown, gained = (
        ", ".join(f"{name} {mean:.2f}" for name, mean in part.groupby(by, sort=False)["accuracy"].mean().items())
        for part, by in ((rows, "made"), (means, "weight"))
    )
    return {
        "figure": figure,
        "caption": f"Left: mean accuracy on all {tasks} tasks, by how the one network was made. Right: accuracy on a "
        "task whose vector weighs more than the others in TIES, by where its weight counts, each task favored in turn. "
        "Mean and 95 % interval over n seeds.",
        "alt": f"Accuracy on all tasks by way of merging: {shown}. On a task favored in TIES, weight {gained}.",
        "data": frame,
    }


def cosines(frame: pd.DataFrame) -> Shown:
    """Cosine of every pair of task vectors."""
    names = list(frame["first"].unique())
    matrix = frame.groupby(["first", "second"])["cosine"].mean().unstack().loc[names, names]
    figure, (ax,) = plots.panels(1, width=5.5, height=4.2)
    sns.heatmap(matrix, ax=ax, vmin=-1, vmax=1, cmap="vlag", square=True, annot=True, fmt=".2f", annot_kws={"size": 7})
    n, largest = frame["seed"].nunique(), _interval_text(study.magnitudes(frame)["max"], (0, 1))
    ax.set(title=f"Cosine of two task vectors (n = {n})", xlabel="", ylabel="")
    ax.tick_params(labelsize=7)
    apart = matrix.to_numpy()[~np.eye(len(names), dtype=bool)]
    return {
        "figure": figure,
        "caption": f"Cosines of the task vectors, mean over {n} seeds.",
        "alt": f"Matrix of cosines: one on the diagonal; elsewhere magnitudes of {np.abs(apart).mean():.2f} on average "
        f"and at most {largest}.",
        "data": frame,
    }


# --- weight disentanglement -------------------------------------------------------------------------------------------


def disentanglement(frame: pd.DataFrame, names: Sequence[str]) -> Shown:
    """Maps of the error over two coefficients. names: of the suite's tasks."""
    kinds, top = list(frame["vectors"].unique()), frame.groupby(["vectors", "first", "last"])["error"].mean().max()
    figure, axes = plots.panels(len(kinds), height=2.9)
    for ax, kind in zip(axes, kinds, strict=True):
        part = select(frame, vectors=kind)
        grid = part.groupby(["last", "first"])["error"].mean().unstack().sort_index(ascending=False)
        ticks = {"xticklabels": [f"{a:g}" for a in grid.columns], "yticklabels": [f"{a:g}" for a in grid.index]}
        sns.heatmap(grid, ax=ax, vmin=0, vmax=top, cmap="viridis", square=True, cbar=ax is axes[-1], **ticks)
        ax.set(title=f"{kind} (n = {part['seed'].nunique()})", xlabel="α, first task", ylabel="α, last task")
        ax.tick_params(labelsize=6)
    xi = study.over_the_plane(frame)
    shown = ", ".join(f"{kind} {_interval_text(per_seed(xi, 'error', vectors=kind), (0, 2))}" for kind in kinds)
    return {
        "figure": figure,
        "caption": f"Error of weight disentanglement ξ (0 to 2) for the vectors of “{names[0]}” and “{names[-1]}”, "
        "against their coefficients α: dark where they do not disturb each other. Mean over n seeds.",
        "alt": "Heat maps over two coefficients, dark where the vectors do not disturb each other. Mean error: "
        f"{shown}.",
        "data": frame,
    }


# --- analogies and ablations ------------------------------------------------------------------------------------------


def analogies(frame: pd.DataFrame, trials: Mapping[str, float]) -> Shown:
    """Accuracy on the fourth corner, by kind of analogy. trials: of each kind, a seed."""
    ways = ["pre-trained", "neighbour", "analogy", "fine-tuned"]
    lines = frame.groupby(["kind", "seed"], sort=False)[ways].mean().reset_index()
    figure, (ax,) = plots.panels(1, height=2.6)
    _dots(ax, lines.melt(["kind", "seed"], ways, "way", "accuracy"), "way", "accuracy", "kind", trials=trials)
    plots.label_axes(ax, "accuracy on the fourth corner", "")
    level = lines.groupby("kind", sort=False)[ways].mean()
    shown = "; ".join(f"{k}: " + ", ".join(f"{way} {r[way]:.2f}" for way in ways) for k, r in level.iterrows())
    return {
        "figure": figure,
        "caption": "Accuracy on a task d where a is to b as c is to d: of the pre-trained network, with the better of "
        "the vectors of b and c alone (“neighbour”), with τ_c + (τ_b − τ_a), and after fine-tuning on d itself. Mean "
        "and 95 % interval over n seeds.",
        "alt": f"Analogies against the pre-trained and the fine-tuned network. {shown}.",
        "data": frame,
    }


def ablation(frame: pd.DataFrame) -> Shown:
    """Sums of two and four vectors, their cosines and the error ξ, with one thing changed at a time."""
    figure, axes = plots.panels(3, height=2.7)
    added = {"none": "none added", "two": "two", "all": "four"}
    long = frame.melt(["condition", "seed"], list(added), "vectors", "value").replace({"vectors": added})
    _dots(axes[0], long, "condition", "value", "vectors").set_xlabel("normalised accuracy")
    for ax, (value, title, bounds) in zip(
        axes[1:], [("cosine", "absolute cosine", (0, 1)), ("xi", "error ξ", (0, 2))], strict=True
    ):
        _dots(ax, frame.assign(line=value), "condition", value, "line", bounds=bounds).set_xlabel(title)
        ax.tick_params(labelleft=False)
    level = frame.groupby("condition", sort=False)[["none", "two", "all", "closed", "cosine", "xi"]].mean()
    shown = "; ".join(
        f"{c}: {r['none']:.2f} before, {r['two']:.2f} with two, {r['all']:.2f} with four vectors ({r['closed']:.0%} of "
        f"the gap to one), cosine {r['cosine']:.2f}, ξ {r['xi']:.2f}"
        for c, r in level.iterrows()
    )
    return {
        "figure": figure,
        "caption": "The first four tasks with one thing changed at a time. Left: normalised accuracy before adding and "
        "after adding two and four vectors. Middle: how far from orthogonal the vectors are. Right: how far they "
        "disturb each other. Mean and 95 % interval over n seeds.",
        "alt": f"Ablations. {shown}.",
        "data": frame,
    }
