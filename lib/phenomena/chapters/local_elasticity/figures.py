"""The figures of the chapter: frames in, what `show` takes out (figure, caption, alternative text, data)."""

import math
from typing import Any

import numpy as np
import pandas as pd
import torch
from pandas.io.formats.style import Styler

from phenomena.chapters.local_elasticity.study import MODELS, Prediction
from phenomena.science import datasets, plots
from phenomena.science.frames import select

Shown = dict[str, Any]


def images(data: datasets.Dataset, name: str, each: int = 10) -> Shown:
    """Training images of each class, a row a class."""
    classes, side = data.classes, data.x_train.shape[2]
    figure, (ax,) = plots.panels(1, height=0.6 * classes + 0.6)
    rows = [torch.cat(list(data.x_train[data.y_train == k][:each]), 2) for k in range(classes)]
    ax.imshow(torch.cat(rows, 1).permute(1, 2, 0).squeeze(2).numpy(), cmap="gray")
    ax.set_yticks([side * (k + 0.5) for k in range(classes)], [f"class {k}" for k in range(classes)])
    ax.set_xticks([])
    ax.grid(False)
    plots.label_axes(ax, f"{each} training images of each class", "", name)
    caption = (
        f"Training images of each of the {classes} classes of {name}; {len(data.y_train) // classes} a class are used."
    )
    alt = f"Rows of {each} small images, one row for each of the {classes} classes of {name}, in varied positions."
    return {"figure": figure, "caption": caption, "alt": alt}


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
    figure.colorbar(mesh, ax=left, label="fraction separated")
    left.plot([ends[0], 1, 1], [ends[0], 1, ends[1]], color="white", linewidth=2, linestyle="--")
    left.grid(False)
    plots.label_axes(left, "tail index of α", "tail index of β", f"T = {horizon:g}, dashed: theorem")
    at_end = slices.assign(T=[f"T = {end:g}" for end in slices["horizon"]])
    plots.bands(right, at_end, "c", "separated", "T", trials=paths)
    right.axvline(classes / 2, color="0.4", linestyle="--")
    plots.label_axes(right, "c, for α − β = c / t", "fraction separated", "Critical slice r = 1").legend(fontsize=7)
    at = named.groupby("case")["separated"].mean()
    caption = (
        f"Left: fraction of paths separated at T = {horizon:g} for α = {amplitude:g} t^−r and β likewise, mean over "
        f"{diagram['seed'].nunique()} seeds with {paths} paths; dashed, the theorem's border for T → ∞. Right: "
        "α − β = c/t; dashed, c = K/2; mean and 95 % interval."
    )
    alt = (
        f"Heat map of separation: {at['separated_alpha']:.2f} of paths where alpha and beta fall with tail indices 0.7 "
        f"and 1.2, {at['separated_neither']:.2f} with 1.3 and 1.5, {at['separated_beta']:.2f} with 1.2 and 0.7. On the "
        "slice the fraction rises around c = K/2, the more steeply the larger T."
    )
    return {"figure": figure, "caption": caption, "alt": alt, "data": mean.reset_index()}


def slices(diagram: pd.DataFrame, named: pd.DataFrame, horizon: float, paths: int) -> Shown:
    """Rows of the phase diagram: three of them and beta = 0, or one at a time. paths: a seed and cell."""
    grid = sorted(diagram["alpha"].unique())
    rows = diagram[diagram["beta"] < math.inf]
    mean = rows.groupby(["beta", "alpha"])["separated"].mean().reset_index()

    def reading(beta: float) -> str:
        reached = mean.loc[(mean["beta"] == beta) & (mean["separated"] >= 0.5), "alpha"]
        here = f"up to {reached.max():.2f}" if len(reached) else "nowhere"
        return (
            f"β falls with tail index {beta:.2f}: in the limit paths separate where that of α is below "
            f"{min(beta, 1.0):.2f}; here half of them do {here}."
        )

    drawn = sorted({grid[0], grid[len(grid) // 2], grid[-1]})
    words = {beta: f"tail index {beta:.2f}" for beta in drawn} | {math.inf: "β = 0"}
    lines = diagram[diagram["beta"].isin(list(words))]
    lines = lines.assign(β=lines["beta"].map(words))[["seed", "alpha", "separated", "β"]]
    figure, (ax,) = plots.panels(1, height=3)
    plots.bands(ax, lines, x="alpha", y="separated", hue="β", order=list(words.values()), trials=paths)
    title = "Rows of the diagram"
    plots.label_axes(ax, "tail index of α", "fraction of paths separated", title).legend(title="β", fontsize=7)
    chart = plots.slider(
        plots.Layer(mean, x="alpha", y="separated", style={"point": True}),
        plots.Layer(
            pd.DataFrame({"beta": grid, "border": np.minimum(grid, 1.0)}),
            "rule",
            x="border",
            y=None,
            style={"strokeDash": [5, 4]},
        ),
        x=plots.Axis("tail index of α", (grid[0], grid[-1])),
        y=plots.Axis("fraction of paths separated", (0, 1)),
        controls={"beta": "tail index of β"},
        reading=reading,
        start={"beta": grid[len(grid) // 2]},
    )
    at = named.groupby("case")["separated"].mean()
    caption = (
        f"Fraction of paths separated at T = {horizon:g} against the tail index of α. Three tail indices of β, and "
        f"β = 0, with mean and 95 % interval over {diagram['seed'].nunique()} seeds; or, in the interactive form, the "
        "mean for one tail index of β at a time, with the theorem's border for T → ∞ dashed."
    )
    alt = (
        f"Fraction of separated paths against the tail index of α. {' '.join(reading(beta) for beta in drawn)} With "
        f"β = 0 the fraction is {at['separated_early']:.2f} at 0.7 and {at['separated_late']:.2f} at 1.3."
    )
    return {"figure": figure, "caption": caption, "alt": alt, "data": lines, "interactive": chart}


def paths(stepped: pd.DataFrame, count: int) -> Shown:
    """Paths stepped one by one beside the exact law."""
    figure, (ax,) = plots.panels(1, width=5, height=3)
    words = {"exact": "I-model, exact law", "I": "I-model, stepped", "L": "L-model, stepped"}
    named = stepped.assign(model=stepped["model"].map(words))
    plots.bands(ax, named, x="r", y="separated", hue="model", trials=count)
    plots.label_axes(ax, "tail index r of α (β = 0)", "fraction of paths separated", "T = 100").legend(fontsize=7)
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
    figure.legend(*right.get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=7)
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
    plots.label_axes(left, "fraction p of wrong labels", "test accuracy", f"After {steps} steps", chance=1 - critical)
    plots.label_axes(right, "fraction p of wrong labels", "tail index of α").legend(fontsize=7)
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
    """Means over trials with their standard deviation and the number of marked trials, beside the paper's figures."""
    rows = []
    for p, part in outcomes.groupby("label_noise", sort=False):
        paper = PAPER.get(f"{p:.2f}", (None, None, None)) if with_paper else (None, None, None)
        accuracy, alpha, beta = ("" if v is None else f"{v:.2f}" for v in paper)
        rows.append(
            {
                "p": f"{p:.2f}",
                "accuracy": _spread(part, "accuracy"),
                "accuracy, paper": accuracy,
                **{f"r of α ({m})": _spread(part, f"r_alpha_{m}", f"marked_alpha_{m}") for m in MODELS},
                "r of α (I), paper": alpha,
                "r of β (I)": _spread(part, "r_beta_I", "marked_beta_I"),
                "r of β, paper": beta,
                "A (I)": _spread(part, "A_I", digits=1),
            }
        )
    return pd.DataFrame(rows).style.hide(axis="index")


def _spread(part: pd.DataFrame, column: str, mark: str | None = None, digits: int = 2) -> str:
    marked = int(part[mark].sum()) if mark else 0
    text = f"{part[column].mean():.{digits}f} ± {part[column].std():.{digits}f}"
    return text + (f" ({marked} of {len(part)} marked)" if marked else "")


def impacts(frame: pd.DataFrame, *, label_noise: float, window: int) -> Shown:
    """Integrated impacts of both models, and the impacts of the I-model."""
    steps = np.sort(frame["step"].unique())
    figure, (left, right) = plots.panels(2, height=3.4)
    integrals = {"A_I": "A (I)", "B_I": "B (I)", "A_L": "A (L)", "B_L": "B (L)"}
    for ax, names, count in ((left, integrals, 25), (right, {"alpha": "α", "beta": "β"}, 50)):
        thin = frame[frame["step"].isin(steps[:: max(1, len(steps) // count)])]
        plots.bands(ax, _long(thin, names), x="step", y="value", hue="of")
    plots.label_axes(left, "step", "A(t), B(t)", f"p = {label_noise:g}").legend(fontsize=7)
    plots.label_axes(right, "step", "α(t), β(t), I-model", f"window of {window} steps").legend(fontsize=7)
    mean = frame.groupby("step").mean()
    # the derivative at the edge is extrapolated
    alpha = mean["alpha"].where(mean.index >= window / 2, 0.0)
    peak = steps[alpha.argmax()]
    ends = ", ".join(f"{word} = {mean[name].iloc[-1]:.1f}" for name, word in integrals.items())
    caption = (
        f"Integrated impacts A and B under both models, and the impacts of the I-model, p = {label_noise:g}. Mean and "
        f"95 % interval over {frame['seed'].nunique()} trials."
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


def prediction(found: Prediction) -> Shown:
    """Mean logits of the first network beside both models."""
    network, classes = found.network[0].numpy(), found.network.shape[-1]
    figure, axes = plots.panels(2, height=3.2)
    bound = 1.3 * np.abs(network).max()
    for ax, (m, fit) in zip(axes, found.fits.items(), strict=True):
        for k in range(classes):
            for j, alpha in ((k, 1.0), ((k + 1) % classes, 0.4)):
                label = f"class {k}, own logit" if j == k else None
                ax.plot(found.times, network[:, k, j], color=f"C{k}", alpha=alpha, label=label)
                ax.plot(found.times, fit[0, :, k, j].numpy(), color=f"C{k}", alpha=alpha, linestyle="--")
        ax.set_ylim(-bound, bound)
        plots.label_axes(ax, "step", "mean logit", f"{m}-model (dashed) and network")
    axes[0].legend(fontsize=7)
    curves = {"network": network} | {f"{m}-model": fit[0].numpy() for m, fit in found.fits.items()}
    data = pd.DataFrame(
        {"step": int(t), "of": name, "images of": k, "logit": j, "mean": values[i, k, j]}
        for name, values in curves.items()
        for i, t in enumerate(found.times)
        for k in range(classes)
        for j in (k, (k + 1) % classes)
    )
    groups = found.scores.groupby("model")
    error, alike = groups["error"].median(), groups["alike"].mean()
    caption = (
        "Mean logits of one network (solid; faint: of a wrong class) and of the equation with the impacts estimated "
        f"from it (dashed). Median relative error over {found.scores['seed'].nunique()} trials: I {error['I']:.2f}, L "
        f"{error['L']:.2f}; mean cosine of the centred class means at the end: I {alike['I']:.2f}, L {alike['L']:.2f}."
    )
    alt = (
        f"Two panels of logit curves. The L-model's dashed curves have cosine {alike['L']:.2f} with the network's "
        f"class means at the end, the I-model's {alike['I']:.2f}."
    )
    return {"figure": figure, "caption": caption, "alt": alt, "data": data}


def grouping(margins: pd.DataFrame, training: pd.DataFrame, *, label_noise: float, least: float, window: int) -> Shown:
    """Margins of training images by class and by given label. training: A and B at p = least, within the window."""
    figure, (ax,) = plots.panels(1, width=5, height=3)
    plots.bands(ax, margins, x="step", y="margin", hue="by")
    title = f"Training images, p = {label_noise:g}"
    plots.label_axes(ax, "step", "own logit minus the others'", title).legend(fontsize=8)
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
    title = "One step on class l"
    plots.label_axes(ax, "steps of training before", "move along d_l, relative to x itself", title).legend(fontsize=8)
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
    figure, axes = plots.panels(3, rows=2, height=2.6)
    names = {"nc1": "NC1", "nc2_norms": "NC2, lengths", "nc2_angles": "NC2, angles", "nc3": "NC3", "nc4": "NC4"}
    names["fitted"] = "fraction of labels fitted"
    bounds = {"nc2_angles": (0.0, classes / (classes - 1)), "nc3": (0.0, 4.0)}
    conditions, shares = list(curves["condition"].unique()), ("nc4", "fitted")
    for ax, (measure, name) in zip(axes, names.items(), strict=True):
        for images, part in curves.groupby("images", sort=False) if measure in shares else [(None, curves)]:
            how: dict[str, Any] = {"trials": images, "bounds": bounds.get(measure)}
            plots.bands(ax, part, x="epoch", y=measure, hue="condition", order=conditions, **how)
        if measure not in ("nc4", "fitted"):
            ax.set_yscale("log")
        plots.label_axes(ax, "epoch", name)
    figure.legend(*axes[-1].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=7)
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
