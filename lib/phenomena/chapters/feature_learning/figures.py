"""The chapter's figures. Each function returns what `show` takes: figure, caption, alternative text, data, a chart."""

import base64
import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from phenomena.chapters.feature_learning.study import LEADING, Learned
from phenomena.science import plots
from phenomena.science.frames import select, summary

STEP, ALIGNMENT = "step of training", "alignment (cosine)"
BLUE, ORANGE, GREEN, RED, GREY = "#0173b2", "#de8f05", "#029e73", "#d55e00", "#767676"
NAMES = ("WᵀW, of the weights", "AGOP, of the gradients")
ALIKE, ALIGNED = "most alike, on images", "alignment of the two"
DEPTH = 520  # pixels of the moving figure's height


def _steps(ax: Axes, last: int) -> Axes:
    """Steps on a scale that is linear up to 1 and logarithmic beyond."""
    ax.set_xscale("symlog", linthresh=1, linscale=0.3)
    ax.set_xlim(0, last)
    ticks = [0, *(10**k for k in range(7) if 10**k <= last)]
    ax.set_xticks(ticks, [f"{t:,}" for t in ticks])
    ax.minorticks_off()
    return ax


def _mean(frame: pd.DataFrame, value: str, **where: Any) -> float:
    return float(select(frame, **where)[value].mean())


def _line(ax: Axes, frame: pd.DataFrame, y: str, label: str, color: str, style: str = "-") -> None:
    """Mean over seeds at every step with its 95 % interval, and n in the legend where there is a label."""
    rows = summary(frame.dropna(subset=[y]), "step", y)
    ax.plot(rows["step"], rows["mean"], style, color=color, label=f"{label} (n = {rows['n'].min()})" if label else None)
    ax.fill_between(rows["step"], rows["low"], rows["high"], color=color, alpha=0.2, linewidth=0)


# --- the key figure ---------------------------------------------------------------------------------------------------


def growing(small: Learned, digits: Learned, shape: Sequence[int], monomials: int) -> dict[str, Any]:
    """Both matrices of the first layer side by side over training, and what both hold of images.

    small: networks on the chain; digits: on images of this shape, (c, h, w) or, for signals, (c, length).
    """
    steps = sorted(small.pictures)
    shown = [steps[0], steps[len(steps) // 2], steps[-1]]
    first = select(small.aligned, layer=1)
    means = [_mean(first, "uncentered", step=step) for step in (steps[0], steps[-1])]
    n = first["seed"].nunique()
    return {
        "figure": _still(small, digits, shape, shown),
        "caption": f"WᵀW and the average gradient outer product (AGOP) of the first layer, over training, of one "
        f"network that learns a sum of products of its first {monomials} inputs. Each matrix is shown relative to "
        "its largest entry: blue above zero, red below. The corner of those inputs lights up in both. With them, for "
        "one network that learns the classes of images, at the same share of its training: in the spaces of the "
        f"{LEADING} leading eigenvectors of both matrices, the directions that are most alike, as images, the best "
        f"pair first. The curve is the alignment of the two matrices, mean over {n} networks, with its 95 % interval. "
        f"In the moving figure the slider goes through training; otherwise steps {shown[0]}, {shown[1]} and "
        f"{shown[2]} are shown, and images at the last one.",
        "alt": f"Two matrices start as noise and grow the same bright corner of {monomials} by {monomials} entries; "
        f"their alignment goes from {means[0]:.2f} to {means[1]:.2f}. On images their leading directions become "
        "alike.",
        "data": first,
        "interactive": _moving(small, digits, shape),
    }


def _relative(matrix: Float[Tensor, "d d"]) -> Float[np.ndarray, "d d"]:
    """Entries over the largest one."""
    return (matrix / matrix.abs().max().clamp(min=1e-30)).numpy()


def _directions(pair: tuple[Float[Tensor, "d d"], ...], shape: Sequence[int]) -> list[list[Float[np.ndarray, "h w"]]]:
    """Of each of two matrices, the directions in the space of its `LEADING` leading eigenvectors that are most alike.

    The best pair comes first; both of a pair have one sign. Eigenvectors as such may be mixed and swapped where
    eigenvalues are close. Channels are averaged; a signal is one pixel high.
    """
    u, v = (torch.linalg.eigh(matrix.double())[1][:, -LEADING:] for matrix in pair)
    left, _, right = torch.linalg.svd(u.T @ v)
    height, width = (1, shape[-1]) if len(shape) == 2 else (shape[-2], shape[-1])
    sides = (u @ left).T, (v @ right.T).T
    return [list(side.reshape(LEADING, -1, height, width).mean(1).numpy()) for side in sides]


def _coloured(picture: Float[np.ndarray, "h w"], largest: float = 1.0) -> UInt8[np.ndarray, "h w 3"]:
    """Red below zero, white at zero, blue above, at most `largest` either way."""
    found: UInt8[np.ndarray, "h w 3"] = plt.get_cmap("RdBu")((picture / largest + 1) / 2, bytes=True)[..., :3]
    return found


def _url(pixels: UInt8[np.ndarray, "h w 3"], times: int) -> str:
    """A picture as PNG of 64 colors in a `data:` URL, each pixel `times` times as large: browsers blur small ones."""
    from PIL import Image

    png = io.BytesIO()
    large = np.kron(pixels, np.ones((times, times, 1), np.uint8))
    Image.fromarray(large).quantize(64).save(png, format="png", optimize=True)
    return "data:image/png;base64," + base64.b64encode(png.getvalue()).decode()


def _still(small: Learned, digits: Learned, shape: Sequence[int], shown: Sequence[int]) -> Figure:
    figure, axes = plots.panels(len(shown) + LEADING, rows=2, width=7, height=1.35)
    grid = np.array(axes).reshape(2, -1)
    for column, step in enumerate(shown):
        for ax, matrix in zip(grid[:, column], small.pictures[step], strict=True):
            ax.imshow(_coloured(_relative(matrix)), interpolation="nearest")
        grid[0, column].set_title(f"step {step:,}")
    for row, pictures in enumerate(_directions(digits.pictures[max(digits.pictures)], shape)):
        for ax, picture in zip(grid[row, len(shown) :], pictures, strict=True):
            aspect = "equal" if len(picture) > 1 else "auto"
            ax.imshow(_coloured(picture, float(np.abs(picture).max())), interpolation="nearest", aspect=aspect)
    for place in range(LEADING):
        grid[0, len(shown) + place].set_title(f"images, {place + 1}")
    for row, name in enumerate(("WᵀW", "AGOP")):
        grid[row, 0].set_ylabel(name)
    for ax in axes:
        ax.set(xticks=[], yticks=[])
        ax.grid(False)
    return figure


def _moving(small: Learned, digits: Learned, shape: Sequence[int]) -> Any:
    """Both matrices and what both hold of images above, alignment over training below, at the step of the slider."""
    import altair as alt  # a second of import that only notebooks with such a chart need

    steps, later = sorted(small.pictures), sorted(digits.pictures)
    entries, parts = small.pictures[0][0].shape[0], max(shape[1:])
    squares, faces = [], []
    for k, (step, other) in enumerate(zip(steps, later, strict=True)):
        for row, matrix in enumerate(small.pictures[step]):
            url = _url(_coloured(_relative(matrix)), max(1, 224 // entries))
            squares.append({"k": k, "row": row, "u": url})
        for row, pictures in enumerate(_directions(digits.pictures[other], shape)):
            for place, picture in enumerate(pictures):
                url = _url(_coloured(picture, float(np.abs(picture).max())), max(1, 64 // parts))
                faces.append({"k": k, "row": row, "place": place, "u": url})
    side, face = "min(220, width * 0.46)", "min(64, width * 0.145)"
    below = f"(18 + {side} + 28)"
    layers = []
    for row, name in enumerate(NAMES):
        left = f"width * {0.5 * row + 0.02}"
        layers += [_words(alt, name, left, "8", bold=True), _words(alt, ALIKE, left, f"{below} - 10")]
        layers.append(_pictures(alt, [s for s in squares if s["row"] == row], side, left, "18"))
        for place in range(LEADING):
            those = [f for f in faces if f["row"] == row and f["place"] == place]
            layers.append(_pictures(alt, those, face, f"{left} + {place} * ({face} + 6)", below))
    rows = summary(select(small.aligned, layer=1), "step", "uncentered").assign(k=range(len(steps)))
    texts = [f"{step:,}" for step in steps]
    ticks = [k for k, step in enumerate(steps) if step in (0, 1, 10, 100, steps[-1])]
    when = alt.X("k:Q", title=STEP).scale(domain=[0, len(steps) - 1], nice=False)
    when = when.axis(orient="bottom", grid=False, values=ticks, labelExpr=f"{json.dumps(texts)}[datum.value]")
    top = {"expr": f"{below} + {face} + 24"}
    how = alt.Y("mean:Q", title=ALIGNED).scale(domain=[0, 1], range=[DEPTH, top], nice=False)
    how = how.axis(orient="left", grid=False, values=[0, 0.5, 1])
    curve = alt.Chart(rows[["k", "mean", "low", "high"]].round(4))
    layers += [
        curve.mark_line(color=BLUE, strokeWidth=2).encode(when, how),
        curve.mark_rule(color=BLUE).encode(when, alt.Y("low:Q", title=ALIGNED), y2="high:Q"),
        curve.mark_circle(color=BLUE, size=150, opacity=1).encode(when, how).transform_filter("datum.k == step"),
    ]
    said = [_reading(small, digits, step, other) for step, other in zip(steps, later, strict=True)]
    bind = alt.binding_range(min=0, max=len(steps) - 1, step=1, name=STEP)
    return (
        alt.layer(*layers)
        .properties(height=DEPTH)
        .add_params(
            alt.param(name="step", value=len(steps) - 1, bind=bind),
            alt.param(name="step_ticks", value=texts),
            alt.param(name="reading", expr=f"{json.dumps(said, ensure_ascii=False)}[step]"),
        )
    )


def _pictures(alt: Any, rows: list[dict[str, Any]], size: str, x: str, y: str) -> Any:
    """Pictures of all steps at one place, of which that of the slider is shown. Places and sizes are expressions."""
    shown = alt.Chart(pd.DataFrame(rows)[["k", "u"]]).transform_filter("datum.k == step")
    return shown.mark_image(width={"expr": size}, height={"expr": size}, align="left", baseline="top").encode(
        url="u:N", x=alt.value({"expr": x}), y=alt.value({"expr": y})
    )


def _words(alt: Any, text: str, x: str, y: str, bold: bool = False) -> Any:
    weight = "bold" if bold else "normal"
    mark = alt.Chart(pd.DataFrame({"t": [text]})).mark_text(
        align="left", fontSize={"expr": "width < 500 ? 10 : 13"}, fontWeight=weight, color="#222"
    )
    return mark.encode(text="t:N", x=alt.value({"expr": x}), y=alt.value({"expr": y}))


def _reading(small: Learned, digits: Learned, step: int, other: int) -> str:
    """What the moving figure shows at a step of each, in words."""
    here, there = (select(learned.aligned, layer=1, step=at) for learned, at in ((small, step), (digits, other)))
    error = _mean(small.losses, "test", step=step)
    return (
        f"Step {step:,}: the two matrices have the alignment {here['uncentered'].mean():.2f}; weights have moved by "
        f"{here['moved'].mean():.0%} of their size, and the test error is {error:.2f} of that of the constant zero. "
        f"Images: the spaces of the {LEADING} eigenvectors have {there['overlap'].mean():.0%} in common."
    )


# --- alignment over training ------------------------------------------------------------------------------------------


def uncentered(small: Learned, usual: Learned, scales: tuple[float, float]) -> dict[str, Any]:
    """The ansatz itself in both layers, from a small and from the usual initialization, with the level at the start."""
    figure, axes = plots.panels(2, height=3.5)
    last = int(small.aligned["step"].max())
    arms = ((small, f"small weights, s = {scales[0]:g}", BLUE), (usual, f"usual weights, s = {scales[1]:g}", ORANGE))
    for layer, ax in enumerate(axes, 1):
        for learned, name, color in arms:
            part = select(learned.aligned, layer=layer)
            _line(ax, part, "uncentered", name if layer == 1 else "", color)
            _line(ax, part, "uncentered_rotated", "the same, kernel rotated" if layer == 1 else "", color, ":")
        level = _mean(small.aligned, "start", layer=layer, step=0)
        ax.axhline(level, color="k", linestyle="--", linewidth=1, label="closed form for random weights")
        plots.label_axes(_steps(ax, last), STEP, ALIGNMENT, f"layer {layer}").set_ylim(0, 1.02)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    ends = [_mean(small.aligned, "uncentered", layer=layer, step=last) for layer in (1, 2)]
    far = _mean(usual.aligned, "uncentered", layer=2, step=last)
    return {
        "figure": figure,
        "caption": "Uncentered alignment, cos(WᵀW, WᵀKW), over training on the chain, in both hidden layers, mean "
        "and 95 % interval. Dotted: the same with the tangent kernel rotated at random. Dashed: the closed form for "
        "random weights that have nothing to do with the kernel, at its effective rank.",
        "alt": f"From small weights the alignment rises to {ends[0]:.2f} in the first layer and {ends[1]:.2f} in the "
        f"second; from the usual ones the second layer ends at {far:.2f}, where it started.",
        "data": pd.concat([small.aligned.assign(arm="small"), usual.aligned.assign(arm="usual")]),
    }


def centered(small: Learned) -> dict[str, Any]:
    """Alignments of the change of the weights, each with its control, the rotated kernel."""
    figure, axes = plots.panels(2, height=3.5)
    last = int(small.aligned["step"].max())
    for layer, ax in enumerate(axes, 1):
        part = select(small.aligned, layer=layer)
        for value, name, color in (("centered", "centered, cos(VᵀV, VᵀKV)", BLUE), ("left", "left, cos(VVᵀ, K)", RED)):
            _line(ax, part, value, name if layer == 1 else "", color)
            _line(ax, part, f"{value}_rotated", "kernel rotated" if layer == 1 else "", color, ":")
        chance = summary(part.dropna(subset=["left_chance"]), "step", "left_chance")
        ax.plot(chance["step"], chance["mean"], "--", color="k", linewidth=1, label="left, rotated: closed form")
        plots.label_axes(_steps(ax, last), STEP, ALIGNMENT, f"layer {layer}").set_ylim(0, 1.02)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    rows = select(small.aligned, layer=1, step=min(10, last))[["centered", "centered_rotated", "left", "left_rotated"]]
    at = rows.mean()
    return {
        "figure": figure,
        "caption": "Alignment of the weights' change V = W − W₀ with the tangent kernel K, from the right (centered) "
        "and from the left, from small weights on the chain; mean and 95 % interval. Dotted: K rotated at random. "
        "Dashed: the exact mean of the left alignment over rotations.",
        "alt": f"In the first layer, after ten steps, the centered alignment is {at['centered']:.2f} and with a "
        f"rotated kernel still {at['centered_rotated']:.2f}; the left one is {at['left']:.2f} and drops to "
        f"{at['left_rotated']:.2f}.",
        "data": small.aligned,
    }


def _dots(ax: Axes, frames: Mapping[str, pd.DataFrame], value: str, color: str, label: str, shift: float = 0.0) -> None:
    """One point with its interval for every frame, side by side; n in the legend."""
    rows = pd.concat([frame.assign(place=i + shift) for i, frame in enumerate(frames.values())])
    plots.points(ax, rows, "place", value, label, color)
    ax.set_xticks(range(len(frames)), list(frames))


def _last(frame: pd.DataFrame) -> pd.DataFrame:
    return frame[frame["step"] == frame["step"].max()]


def compared(arms: Mapping[str, Learned], caption: str, value: str = "test") -> dict[str, Any]:
    """Uncentered alignment at the end of both layers, with the rotated control, and a loss, for every arm.

    value: a column of `Learned.losses`.
    """
    figure, (left, right) = plots.panels(2, height=3.6)
    ends = {name: _last(learned.aligned) for name, learned in arms.items()}
    for layer, color in ((1, BLUE), (2, ORANGE)):
        parts = {name: select(end, layer=layer) for name, end in ends.items()}
        shift = 0.16 * (layer - 1.5)
        _dots(left, parts, "uncentered", color, f"layer {layer}", shift)
        for place, part in enumerate(parts.values()):
            left.plot(place + shift, part["uncentered_rotated"].mean(), "x", color=color, ms=6)
    left.plot([], [], "x", color=GREY, label="kernel rotated")
    plots.label_axes(left, "", "uncentered " + ALIGNMENT).set_ylim(0, 1.02)
    left.legend(loc="upper center", bbox_to_anchor=(0.5, -0.22), ncols=3, columnspacing=0.8, handletextpad=0.2)
    losses = {name: _last(learned.losses) for name, learned in arms.items()}
    _dots(right, losses, value, GREEN, "test" if value == "test" else "accuracy")
    label = "test error over that of zero" if value == "test" else "accuracy on the test images"
    plots.label_axes(right, "", label).set_ylim(0)
    right.legend(loc="upper center", bbox_to_anchor=(0.5, -0.22))
    for ax in (left, right):
        ax.tick_params(axis="x", labelsize=8)
        ax.set_xlim(-0.5, len(arms) - 0.5)
    said = "; ".join(
        f"{' '.join(name.split())}: {_mean(end, 'uncentered', layer=1):.2f} and {_mean(end, 'uncentered', layer=2):.2f}"
        for name, end in ends.items()
    )
    return {
        "figure": figure,
        "caption": f"{caption} Uncentered alignment of both layers at the end of training, and "
        f"{'the error' if value == 'test' else 'the accuracy'} on test points; mean and 95 % interval. Crosses: the "
        "same weights with a kernel that is rotated at random.",
        "alt": f"Alignment of the first and the second layer at the end. {said}.",
        "data": pd.concat([end.assign(arm=name) for name, end in ends.items()]),
    }


# --- powers -----------------------------------------------------------------------------------------------------------


def powers(cosines: pd.DataFrame, course: pd.DataFrame) -> dict[str, Any]:
    """Alignment of WᵀW with powers of the AGOP in deep linear networks, and how the layers come into balance.

    cosines, course: rows of `study.deep_linear`, networks with and without decay.
    """
    figure, (left, right) = plots.panels(2, height=3.4)
    counts = sorted(cosines["layers"].unique().tolist())
    for layers, color in zip(counts, (BLUE, ORANGE, GREEN, RED), strict=False):
        for decayed, style in ((True, "-"), (False, ":")):
            part = cosines[(cosines["layers"] == layers) & ((cosines["decay"] > 0) == decayed)]
            rows = summary(part, "power", "cosine")
            label = f"L = {layers} (n = {rows['n'].min()})" if decayed else None
            left.plot(rows["power"], rows["mean"], style, color=color, label=label)
            left.fill_between(rows["power"], rows["low"], rows["high"], color=color, alpha=0.2, linewidth=0)
        left.axvline(1 / layers, color=color, linewidth=0.8, linestyle="--")
        part = course[(course["layers"] == layers) & (course["decay"] > 0)]
        rows = summary(part, "step", "imbalance")
        right.plot(rows["step"], rows["mean"], "o", ms=4, color=color, label=f"L = {layers}")
    left.plot([], [], ":", color=GREY, label="without decay")
    left.set_xscale("log")
    left.set_xticks([1 / 16, 1 / 4, 1 / 3, 1 / 2, 1, 2], ["1/16", "¼", "⅓", "½", "1", "2"])
    left.minorticks_off()
    plots.label_axes(left, "power a", "cos(WᵀW, AGOPᵃ)").legend(loc="lower left", fontsize=8)
    flow = course[course["decay"] > 0].groupby("step")["flow"].mean()
    right.plot(flow.index, flow, "--", color="k", linewidth=1, label="closed form")
    right.set_yscale("log")
    plots.label_axes(right, STEP, "imbalance over that at the start").legend(fontsize=8)
    found = _last(course[course["decay"] > 0]).groupby("layers")["power"].mean()
    said = ", ".join(f"{found[layers]:.3f} for {layers} layers" for layers in counts)
    return {
        "figure": figure,
        "caption": "Deep linear networks from the usual weights. First panel: alignment of WᵀW in the first layer "
        "with powers of the AGOP, with decay (lines) and without (dotted), mean and 95 % interval; dashed: 1/L. "
        "Second panel: how far neighboring layers are from balance, with decay, beside exp(−2λt).",
        "alt": f"With decay the alignment peaks at 1 where the power is one over the number of layers ({said}); "
        "without it the peak is lower and elsewhere. The imbalance falls along the closed form.",
        "data": cosines,
    }


# --- the recursive feature machine ------------------------------------------------------------------------------------


def machine(
    true: pd.DataFrame, random: pd.DataFrame, borrowed: pd.DataFrame, networks: Mapping[str, Learned], chance: float
) -> dict[str, Any]:
    """Error and share of the corner over rounds, and errors of one kernel regression with borrowed metrics."""
    figure, (left, middle, right) = plots.panels(3, width=9, height=3.5)
    for frame, name, color in ((true, "chain", BLUE), (random, "random labels", RED)):
        plots.points(left, frame, "round", "test", name, color)
        plots.points(middle, frame, "round", "corner", name, color)
    plots.label_axes(left, "round", "test error over that of zero").set_ylim(0)
    plots.label_axes(middle, "round", "trace on the inputs that matter", chance=chance).set_ylim(0, 1)
    left.legend(fontsize=8)
    names = list(dict.fromkeys(borrowed["metric"]))
    for place, name in enumerate(names):
        rows = borrowed[borrowed["metric"] == name].assign(place=place)
        plots.points(right, rows, "place", "test", "kernel" if not place else "", BLUE)
        if (network := networks.get(name)) is not None:
            plots.points(right, _last(network.losses).assign(place=place + 0.2), "place", "test", "", ORANGE, "s")
    right.plot([], [], "s", color=ORANGE, ms=4, label="the network itself")
    right.set_xticks(range(len(names)), names, rotation=35, ha="right", fontsize=7.5)
    plots.label_axes(right, "", "test error over that of zero")
    right.legend(fontsize=8, loc="upper right")
    right.set_ylim(0, 1.3 * borrowed["test"].max())
    ends = true.groupby("round")["test"].mean()
    return {
        "figure": figure,
        "caption": "A kernel machine that takes the AGOP of its last fit for its metric, round by round; round 0 is "
        "the plain kernel. Its test error; the share of its AGOP's trace that is on the inputs which the target "
        "depends on. Then one kernel regression with the metric borrowed from networks, with the error of the "
        "network (squares). Mean and 95 % interval.",
        "alt": f"From round 0 to the last the test error falls from {ends.iloc[0]:.2f} to {ends.iloc[-1]:.2f}, and "
        f"the share on the inputs that matter rises to {true.groupby('round')['corner'].mean().iloc[-1]:.2f}; with "
        "random labels neither happens. The AGOP of a network is a better metric than its WᵀW.",
        "data": pd.concat([true.assign(labels="true"), random.assign(labels="random")]),
    }


# --- the official check -----------------------------------------------------------------------------------------------


def official(learned: Learned) -> dict[str, Any]:
    """Four numbers of the same networks: what the published script computes, and what stands in its place."""
    figure, (ax,) = plots.panels(1, width=5.6, height=3.4)
    end = _last(learned.aligned)
    words = {
        "coded": "as coded:\nV, and AGOP\nafter W → V",
        "mixed": "V, and AGOP\nas trained",
        "centered": "centered:\nV on both sides,\nK as trained",
        "uncentered": "the ansatz:\nW on both\nsides",
    }
    for layer, color in ((1, BLUE), (2, ORANGE)):
        part = select(end, layer=layer)
        parts = {text: part.assign(value=part[value]) for value, text in words.items()}
        _dots(ax, parts, "value", color, f"layer {layer}", 0.16 * (layer - 1.5))
    plots.label_axes(ax, "", ALIGNMENT).set_ylim(0, 1.02)
    ax.set_xlim(-0.5, len(words) - 0.5)
    ax.tick_params(axis="x", labelsize=8)
    ax.legend()
    means = end.groupby("layer")[["coded", "mixed", "uncentered"]].mean().loc[1]
    return {
        "figure": figure,
        "caption": "Alignment on images at the end of training, from weights of the size that torch draws by "
        "default: as the published script computes it, and with its parts exchanged one by one; mean and 95 % "
        "interval.",
        "alt": f"In the first layer the script's way gives {means['coded']:.2f}; with the gradients of the network "
        f"as trained it is {means['mixed']:.2f}, and for the weights themselves {means['uncentered']:.2f}.",
        "data": end,
    }
