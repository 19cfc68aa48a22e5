"""The chapter's figures. Each function returns what `show` takes: figure, caption, alternative text, data, a chart."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from phenomena.chapters.neural_ode import study, theory
from phenomena.chapters.neural_ode.study import Density, Learned, Motion
from phenomena.science import plots
from phenomena.science.frames import select, summary

GREY, BLUE, ORANGE, GREEN, RED = "#555555", "#0173b2", "#de8f05", "#029e73", "#d55e00"
TOLERANCE, EVALUATIONS = "tolerance", "evaluations of the field"
CLASSES = ("disc", "ring")
DEPTH, MIDDLE, GAP = 430, 270, 60  # pixels of the moving figure: its height, that of its upper part, between the two
REACH = 8.0  # of the head's score in the moving figure, in logits
TURN, LIFT = math.radians(25), math.radians(35)  # of the eye around the sheet and above it, in three dimensions
Networks = Mapping[tuple[str, str], Motion]  # by ("untrained" or "trained", "two dimensions" or "three dimensions")


def _lines(ax: Axes, frame: pd.DataFrame, x: str, y: str, label: str, color: str, style: str = "-") -> Axes:
    """Mean over seeds as a line with its 95 % interval as a band, and n in the legend."""
    rows = summary(frame, x, y).sort_values(x)
    label = f"{label} (n = {rows['n'].min()})"
    ax.plot(rows[x], rows["mean"], style, marker="o", ms=4, color=color, label=label)
    ax.fill_between(rows[x], rows["low"].clip(lower=1e-12), rows["high"], color=color, alpha=0.2, linewidth=0)
    return ax


def _log_lines(ax: Axes, frame: pd.DataFrame, x: str, y: str, label: str, color: str, style: str = "-") -> Axes:
    """As `_lines`, of the geometric mean over seeds, for values that spread over orders of magnitude."""
    rows = summary(frame.assign(log=np.log10(frame[y].clip(lower=1e-12))), x, "log").sort_values(x)
    mean, low, high = (10 ** rows[name] for name in ("mean", "low", "high"))
    ax.plot(rows[x], mean, style, marker="o", ms=4, color=color, label=f"{label} (n = {rows['n'].min()})")
    ax.fill_between(rows[x], low, high, color=color, alpha=0.2, linewidth=0)
    return ax


def _bars(ax: Axes, frame: pd.DataFrame, by: str, value: str, colors: Sequence[str]) -> Axes:
    """Mean with 95 % interval for each value of a column, as points one below the other, every seed behind them."""
    rows = summary(frame, by, value).iloc[::-1].reset_index(drop=True)
    for y, (_, row) in enumerate(rows.iterrows()):
        own, color = select(frame, **{by: row[by]})[value], colors[len(rows) - 1 - y]
        ax.plot(own, np.full(len(own), y), ".", color=color, alpha=0.35, ms=6, zorder=1)
        low, high = (
            max(0.0, np.nan_to_num(row["mean"] - row["low"])),
            max(0.0, np.nan_to_num(row["high"] - row["mean"])),
        )
        ax.errorbar(row["mean"], y, xerr=[[low], [high]], marker="D", ms=5, color=color, capsize=3)
    ax.set_yticks(range(len(rows)), [str(name) for name in rows[by]])
    ax.set_ylim(-0.6, len(rows) - 0.4)
    return ax


# --- the key figure ---------------------------------------------------------------------------------------------------


def _seen(z: Tensor) -> np.ndarray:
    """Where a state stands on paper: itself in two dimensions; seen from above and aside with a third."""
    a = z.numpy().astype(float)
    if a.shape[-1] == 2:
        return a
    x, y, up = a[..., 0], a[..., 1], a[..., 2]
    across, away = x * math.cos(TURN) - y * math.sin(TURN), x * math.sin(TURN) + y * math.cos(TURN)
    return np.stack([across, away * math.sin(LIFT) + up * math.cos(LIFT)], -1)


def _views(motion: Motion) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Grid and points on paper at every time, moved and scaled to lie within ±1, and half the width of what is seen."""
    grid, points = _seen(motion.grid), _seen(motion.points)
    both = np.concatenate([grid, points], 1)
    low, high = both.min(1, keepdims=True), both.max(1, keepdims=True)
    middle, half = (low + high) / 2, ((high - low) / 2).max(2, keepdims=True)
    return (grid - middle) / half, (points - middle) / half, half[:, 0, 0]


def flowing(networks: Networks) -> dict[str, Any]:
    """A grid and points carried by the flow, before and after training, in the plane and with a third dimension."""
    n, times = networks["trained", "two dimensions"].points.shape[1], len(networks["trained", "two dimensions"].grid)
    right = {
        key: ((motion.score[-1] > 0).long() == motion.labels).double().mean().item() for key, motion in networks.items()
    }
    return {
        "figure": _still_flow(networks),
        "caption": f"A square grid and {n} test points, a disc and the ring around it, carried along by the flow of a "
        "network. In two dimensions the trained flow pulls the disc to one side, and the ring stays closed around it, "
        "stretched thin where it lies in the way. With a third dimension, which is zero at the start, the disc leaves "
        "the ring's plane. Below, what the linear head would say of each point at that time. In the moving figure a "
        "slider sets the time; the frame follows the points, and the line below says how wide it is.",
        "alt": "In the plane the trained flow stretches the grid, with disc and ring pulled apart; the head "
        f"then has {right['trained', 'two dimensions']:.0%} of the points right. With a third dimension, "
        f"{right['trained', 'three dimensions']:.0%}. Untrained flows leave them mixed.",
        "data": pd.DataFrame(
            {"network": key[0], "space": key[1], "time": np.linspace(0, 1, times), "right": value}
            for key, value in right.items()
        ).explode("time"),
        "interactive": _moving_flow(networks),
    }


def _still_flow(networks: Networks) -> Figure:
    shown = (("trained", "two dimensions"), ("trained", "three dimensions"))
    times = len(networks[shown[0]].grid)
    at = [round(u * (times - 1)) for u in (0, 0.35, 0.7, 1)]
    figure, axes = plots.panels(len(at), 3, width=7.2, height=1.95)
    for row, key in enumerate(shown):
        motion = networks[key]
        grid, points, _ = _views(motion)
        side = math.isqrt(grid.shape[1])
        for ax, t in zip(axes[row * len(at) :], at, strict=False):
            sheet = grid[t].reshape(side, side, 2)
            for line in (*sheet, *sheet.swapaxes(0, 1)):
                ax.plot(line[:, 0], line[:, 1], color="0.75", linewidth=0.7)
            for label, color in enumerate((BLUE, ORANGE)):
                own = points[t][motion.labels.numpy() == label]
                ax.plot(own[:, 0], own[:, 1], ".", color=color, ms=3.5)
            ax.set(xticks=[], yticks=[], aspect="equal", xlim=(-1.05, 1.05), ylim=(-1.05, 1.05))
            ax.grid(False)
            if not row:
                ax.set_title(f"t = {t / (times - 1):.2g}")
        axes[row * len(at)].set_ylabel(key[1])
    motion = networks[shown[0]]
    for ax, t in zip(axes[2 * len(at) :], at, strict=True):
        for row, key in enumerate(shown):
            score = networks[key].score[t].clamp(-REACH, REACH).numpy()
            for label, color in enumerate((BLUE, ORANGE)):
                own = score[networks[key].labels.numpy() == label]
                ax.plot(own, 1 - row + np.linspace(-0.25, 0.25, len(own)), ".", color=color, ms=3)
        ax.axvline(0, color=GREY, linewidth=1)
        ax.set(xlim=(-1.1 * REACH, 1.1 * REACH), yticks=[], xlabel="head's score")
    axes[2 * len(at)].set_yticks([0, 1], ["three", "two"])
    return figure


def _moving_flow(networks: Networks) -> Any:
    """Grid and points above, the head's score of each point below, at the time and for the network of the controls."""
    import altair as alt  # a second of import that only notebooks with such a chart need

    kinds, spaces = list(dict.fromkeys(k for k, _ in networks)), list(dict.fromkeys(s for _, s in networks))
    order = [networks[kind, space] for kind in kinds for space in spaces]
    views = [_views(motion) for motion in order]
    times = len(order[0].grid)
    side = math.isqrt(order[0].grid.shape[1])

    def short(values: np.ndarray) -> list[Any]:  # (states, times) of one number, in 1/400, about a pixel
        return np.round(400 * values).astype(int).tolist()

    nodes = np.stack([grid for grid, _, _ in views])  # state, time, node, 2
    dots = np.stack([points for _, points, _ in views])
    scores = np.stack([motion.score.clamp(-REACH, REACH).numpy() for motion in order])
    state = f"{len(spaces)} * indexof({json.dumps(kinds)}, network) + indexof({json.dumps(spaces)}, space)"
    grid_rows = [
        {"i": i // side, "j": i % side, "x": short(nodes[:, :, i, 0]), "y": short(nodes[:, :, i, 1])}
        for i in range(side * side)
    ]
    names = [CLASSES[label] for label in order[0].labels.tolist()]
    lanes = {name: np.linspace(0.1, 0.9, names.count(name)) for name in CLASSES}
    seen = {name: iter(lane) for name, lane in lanes.items()}
    dot_rows = [
        {
            "c": name,
            "x": short(dots[:, :, i, 0]),
            "y": short(dots[:, :, i, 1]),
            "s": np.round(20 * scores[:, :, i]).astype(int).tolist(),
            "v": round(CLASSES.index(name) + float(next(seen[name])), 3),
        }
        for i, name in enumerate(names)
    ]
    plane: dict[str, Any] = {"domain": [-1.05, 1.05], "nice": False}
    half = f"min(width, {MIDDLE * 1.7}) / 2"
    across = alt.X("px:Q", axis=None).scale(
        **plane, range=[{"expr": f"width / 2 - {half}"}, {"expr": f"width / 2 + {half}"}]
    )
    up = alt.Y("py:Q", axis=None).scale(**plane, range=[MIDDLE, 0])
    spot = {axis: f"datum.{axis}[state][time] / 400" for axis in "xy"}
    placed = alt.Chart(alt.Data(values=grid_rows)).transform_calculate(px=spot["x"], py=spot["y"])
    style: dict[str, Any] = {"color": "#9a9a9a", "strokeWidth": 0.8}
    lines = [
        placed.mark_line(**style).encode(across, up, detail=f"{own}:N", order=f"{other}:Q")
        for own, other in (("i", "j"), ("j", "i"))
    ]
    colour = alt.Color("c:N", title=None, legend=alt.Legend(orient="top")).scale(
        domain=list(CLASSES), range=[BLUE, ORANGE]
    )
    every = alt.Chart(alt.Data(values=dot_rows))
    moving = every.transform_calculate(px=spot["x"], py=spot["y"]).mark_circle(size=38, opacity=0.85)
    upper = alt.layer(*lines, moving.encode(across, up, colour))
    score = alt.X("q:Q", title="score of the head, above 0: ring").scale(
        domain=[-1.05 * REACH, 1.05 * REACH], nice=False
    )
    lane = alt.Y("v:Q", axis=None).scale(domain=[0, 2], range=[DEPTH, MIDDLE + GAP], nice=False)
    below = every.transform_calculate(q="datum.s[state][time] / 20").mark_circle(size=26, opacity=0.8)
    zero = alt.Chart(alt.Data(values=[{"q": 0}])).mark_rule(color="#888", strokeDash=[4, 3])
    lower = alt.layer(
        zero.encode(score, y=alt.value(MIDDLE + GAP), y2=alt.value(DEPTH)),
        below.encode(score.axis(orient="bottom", grid=False, tickCount=5), lane, colour),
    )
    both = alt.layer(upper, lower).resolve_scale(x="independent", y="independent").properties(height=DEPTH)
    texts = []
    for (kind, space), motion, (_, _, width) in zip([(k, s) for k in kinds for s in spaces], order, views, strict=True):
        right = ((motion.score > 0).long() == motion.labels).double().mean(1).tolist()
        texts.append([
            f"{kind}, {space}, t = {t / (times - 1):.2g}: the head would have {share:.0%} of the points right; the "
            f"frame is {2 * wide:.1f} wide."
            for t, (share, wide) in enumerate(zip(right, width.tolist(), strict=True))
        ])  # fmt: skip
    menu = {"network": (kinds, "trained"), "space": (spaces, "two dimensions")}
    return both.add_params(
        alt.param(
            name="time", value=2 * times // 3, bind=alt.binding_range(min=0, max=times - 1, step=1, name="time t")
        ),
        alt.param(name="time_ticks", value=[f"{t / (times - 1):.2g}" for t in range(times)]),
        *(
            alt.param(name=name, value=start, bind=alt.binding_select(options=options, name=name))
            for name, (options, start) in menu.items()
        ),
        alt.param(name="state", expr=state),
        alt.param(name="reading", expr=f"{json.dumps(texts, ensure_ascii=False)}[state][time]"),
    )


# --- what depth costs -------------------------------------------------------------------------------------------------


def memory(frame: pd.DataFrame, evaluation: int) -> dict[str, Any]:
    """Bytes that a gradient holds against the number of steps, both ways, with the formula.

    frame: `study.memory`. evaluation: bytes of one, by `theory.evaluation_bytes`.
    """
    figure, (ax,) = plots.panels(1, width=5.2, height=3.2)
    means = frame.groupby(["method", "steps"])["bytes"].mean()
    for (method, label), color in zip(
        (("through the solver", "through the solver"), ("adjoint", "adjoint")), (BLUE, ORANGE), strict=True
    ):
        rows = means[method]
        ax.loglog(rows.index, rows / 1000, "o", color=color, label=f"{label} (n = {frame['seed'].nunique()})")
    steps = np.array(sorted(frame["steps"].unique()))
    formula = 4 * steps * evaluation / 1000
    ax.loglog(steps, formula, "--", color=GREY, linewidth=1, label="4 evaluations a step")
    ax.set_xticks(steps, [str(k) for k in steps])
    ax.minorticks_off()
    plots.label_axes(ax, "steps of RK4", "kilobytes held for the gradient").legend()
    few, many = int(steps[0]), int(steps[-1])
    direct, flat = means["through the solver"], means["adjoint"]
    return {
        "figure": figure,
        "caption": "The most bytes that autograd holds at one time, forward and backward, for the gradient of one "
        f"network on {study.SOLVED} points or fewer, against the number of RK4 steps. Dashed, the formula: four "
        "evaluations a step, each with its input and two hidden layers. Counted as saved tensors, every storage once.",
        "alt": f"Through the solver the bytes grow from {direct[few] / 1000:,.0f} to {direct[many] / 1000:,.0f} kB as "
        f"steps grow from {few} to {many}; by the adjoint they stay at {flat[many] / 1000:,.0f} kB.",
        "data": frame,
    }


def tolerance(frames: Mapping[str, pd.DataFrame]) -> dict[str, Any]:
    """Evaluations and error against tolerance, for every set of networks. frames: label -> `study.by_tolerance`."""
    figure, (left, right) = plots.panels(2, width=8, height=3.3)
    for (name, frame), color in zip(frames.items(), (BLUE, ORANGE, GREEN), strict=True):
        _lines(left, frame, "tolerance", "forward", name, color)
        _log_lines(right, frame, "tolerance", "error", name, color)
    first = next(iter(frames.values()))
    edge = np.array([first["tolerance"].min(), first["tolerance"].max()])
    right.plot(edge, edge, color=GREY, linewidth=1, linestyle=":", label="the tolerance itself")
    right.set_yscale("log")
    for ax in (left, right):
        ax.set_xscale("log")
        ax.invert_xaxis()
    left.set_ylim(bottom=0)
    plots.label_axes(left, TOLERANCE, EVALUATIONS, "what it costs").legend()
    plots.label_axes(right, TOLERANCE, "largest error at t = 1", "what it buys").legend()
    rows = summary(first, "tolerance", "forward").sort_values("tolerance")
    low, high = rows["mean"].iloc[0], rows["mean"].iloc[-1]
    return {
        "figure": figure,
        "caption": "Evaluations of the field that the adaptive solver needs, rejected steps included, and the largest "
        "error that it makes, by tolerance, for networks at the end of training. Mean with 95 % interval over seeds; "
        "of errors the geometric mean.",
        "alt": f"Evaluations rise from {high:.0f} to {low:.0f} as the tolerance falls, and the largest error falls "
        "with it, but stays above the tolerance itself.",
        "data": pd.concat([frame.assign(networks=name) for name, frame in frames.items()]),
    }


def training(learned: Mapping[str, Learned], inputs: pd.DataFrame, name: str) -> dict[str, Any]:
    """Evaluations through training, and for single points at its end. inputs: `study.by_input` of those of `name`."""
    figure, (left, right) = plots.panels(2, width=8, height=3.3)
    for (label, one), color in zip(learned.items(), (BLUE, ORANGE, GREEN), strict=True):
        _lines(left, one.frame, "step", "evaluations", label, color)
    left.set_ylim(bottom=0)
    plots.label_axes(left, "iteration of training", EVALUATIONS, "they grow in training").legend()
    order = inputs.sort_values("most").reset_index(drop=True)
    right.vlines(order.index, order["least"], order["most"], color=ORANGE, linewidth=2)
    right.plot(order.index, order["least"], "o", color=ORANGE, ms=4)
    right.plot(order.index, order["most"], "s", color=ORANGE, ms=4)
    right.set_ylim(bottom=0)
    right.set_xticks([])
    plots.label_axes(right, f"networks (n = {len(order)}), {name}", EVALUATIONS, "fewest and most for one point")
    ends = {label: one.frame.groupby("step")["evaluations"].mean() for label, one in learned.items()}
    told = ", ".join(f"{label} from {e.iloc[0]:.0f} to {e.iloc[-1]:.0f}" for label, e in ends.items())
    return {
        "figure": figure,
        "caption": "Evaluations that the adaptive solver needs at a fixed tolerance: for training points together as "
        "training goes on (mean with 95 % interval over seeds), and for single test points at its end, each solved "
        "alone: the fewest and the most that any of twelve needs, network by network.",
        "alt": f"Evaluations grow through training: {told}. Between single points they differ by a factor of "
        f"{inputs['spread'].mean():.1f} on average.",
        "data": pd.concat([one.frame.assign(networks=label) for label, one in learned.items()]),
    }


def backward(frames: Mapping[str, pd.DataFrame]) -> dict[str, Any]:
    """Backward over forward evaluations against tolerance. frames: label -> `study.by_tolerance`."""
    figure, (ax,) = plots.panels(1, width=5.6, height=3.3)
    for (name, frame), color in zip(frames.items(), (BLUE, ORANGE, GREEN), strict=False):
        _lines(ax, frame, "tolerance", "ratio", name, color)
        if frame["lsoda"].notna().any():
            _lines(ax, frame.dropna(subset="lsoda"), "tolerance", "lsoda", f"{name}, LSODA", RED, "--")
    ax.axhline(0.5, color=GREY, linestyle=":", linewidth=1.2)
    ax.annotate("one half, the paper's", (0.02, 0.5), xycoords=("axes fraction", "data"), va="bottom", color=GREY)
    ax.set(xscale="log", ylim=(0, None))
    ax.invert_xaxis()
    plots.label_axes(ax, TOLERANCE, "backward / forward evaluations").legend(fontsize=7.5, loc="upper right")
    means = {name: frame["ratio"].mean() for name, frame in frames.items()}
    return {
        "figure": figure,
        "caption": "Evaluations of the adjoint equation, solved backward, as a multiple of those forward, at the same "
        "tolerance. Dashed, scipy's LSODA for both, a multistep method of the kind that the paper used. Dotted, the "
        "paper's one half. Mean with 95 % interval over seeds.",
        "alt": "Backward evaluations as a multiple of those forward, against the one half of the paper: "
        + ", ".join(f"{value:.2f} for {name}" for name, value in means.items())
        + ".",
        "data": pd.concat([frame.assign(networks=name) for name, frame in frames.items()]),
    }


def adjoint(frames: Mapping[str, pd.DataFrame], reasons: pd.DataFrame, at: float) -> dict[str, Any]:
    """How far the adjoint's gradient is from the one through the solver, and why. reasons: `study.reasons`."""
    figure, (left, right) = plots.panels(2, width=8.6, height=3.4)
    for (name, frame), color in zip(frames.items(), (BLUE, ORANGE, GREEN), strict=True):
        _log_lines(left, frame, "tolerance", "off", name, color)
    left.axhline(1, color=GREY, linewidth=1, linestyle=":")
    left.set(xscale="log", yscale="log")
    left.invert_xaxis()
    plots.label_axes(left, TOLERANCE, "relative difference of gradients", "adjoint against direct").legend()
    ways = reasons.assign(
        way=reasons["state"].map({"integrated back": "state back", "given": "state given"})
        + reasons["gradient"].map({"as it is": "", "scaled": ",\ngradient scaled"}),
        log=np.log10(reasons["off"]),
    )
    _bars(right, ways, "way", "log", (BLUE, RED, ORANGE, GREEN))
    ticks = range(math.floor(ways["log"].min()), math.ceil(ways["log"].max()) + 1)
    right.set_xticks(list(ticks), [f"{10.0**k:g}" for k in ticks])
    n = reasons["seed"].nunique()
    plots.label_axes(right, "relative error of the gradient", "", f"why, at tolerance {at:g} (n = {n})")
    means = ways.groupby("way", sort=False)["log"].mean()
    told = "; ".join(f"{str(way).replace(chr(10), ' ')} {10**value:.2g}" for way, value in means.items())
    return {
        "figure": figure,
        "caption": "Relative difference of the gradient by the adjoint equation and the one through the solver, by "
        f"tolerance (geometric mean with 95 % interval over seeds). Beside it, the adjoint's error at {at:g} on "
        "rings, from the exact end of the path, in four ways: the state integrated back or given exactly, and "
        "the gradient as it is or scaled to unit size. Every seed, and the geometric mean with its 95 % interval.",
        "alt": f"The difference falls with the tolerance by orders of magnitude. On rings at {at:g} the error is, on "
        f"average: {told}.",
        "data": pd.concat([frame.assign(networks=name) for name, frame in frames.items()]),
    }


# --- what a flow can do -----------------------------------------------------------------------------------------------


def rings(plain: Learned, block: Learned, shares: Mapping[str, pd.DataFrame]) -> dict[str, Any]:
    """What one plain flow and one block do to a grid, and how much of disc and ring the flows get wrong."""
    figure, (left, middle, right) = plots.panels(3, width=9.2, height=3.1)
    side, reach = 25, 1.5
    grid = study.square_grid(side, reach)
    for ax, learned, title in ((left, plain, "a flow"), (middle, block, "one residual block")):
        count = len(learned.seeds)
        with torch.no_grad():
            end = learned.model.body(grid.repeat(count, 1, 1))[0].numpy()
        sheet = end.reshape(side, side, 2)
        centres = study.square_grid(side - 1, reach * (1 - 1 / (side - 1))).double()
        turned = torch.linalg.det(study.jacobians(learned, centres)[0]) < 0
        for line in (*sheet, *sheet.swapaxes(0, 1)):
            ax.plot(line[:, 0], line[:, 1], color="0.6", linewidth=0.5, zorder=1)
        for i, j in np.argwhere(turned.view(side - 1, side - 1).numpy()):
            corners = sheet[[i, i, i + 1, i + 1], [j, j + 1, j + 1, j]]
            ax.fill(corners[:, 0], corners[:, 1], color=RED, alpha=0.12, linewidth=0, zorder=0)
        with torch.no_grad():
            moved = learned.model.body(learned.x)[0].numpy()
        for label, color in enumerate((BLUE, ORANGE)):
            own = moved[learned.y[0].numpy() == label]
            ax.plot(own[:, 0], own[:, 1], ".", color=color, ms=4, zorder=2)
        ax.grid(False)
        plots.label_axes(ax, "z₁ at the end", "z₂", title)
    rows = pd.concat([frame.assign(way=name) for name, frame in shares.items()])
    _bars(right, rows.assign(percent=100 * rows["share"]), "way", "percent", (BLUE, GREEN, ORANGE))
    n = rows["seed"].nunique()
    plots.label_axes(right, "grid points misclassified (%)", "", f"disc and ring (n = {n})")
    means = rows.groupby("way", sort=False)["share"].mean()
    return {
        "figure": figure,
        "caption": "A square grid and the training points of rings after a plain flow and after one residual block of "
        "the same width; red, cells at whose middle the plane is turned over. To the right, the percentage of a dense "
        "grid over disc and ring that is on the wrong side of the head: every network, and mean with 95 % interval "
        "over seeds.",
        "alt": "A flow stretches a grid and turns no cell over; one residual block folds it, with red cells. "
        "Misclassified on average: "
        + ", ".join(f"{name} {value:.2%}" for name, value in means.items()) + ".",
        "data": rows,
    }  # fmt: skip


def blocks(accuracies: Mapping[str, Mapping[str, Learned]]) -> dict[str, Any]:
    """Test accuracy of one block, six blocks and the flow. accuracies: data set -> model -> networks."""
    figure, axes = plots.panels(len(accuracies), width=8, height=2.4)
    parts = []
    for ax, (name, models) in zip(axes, accuracies.items(), strict=True):
        rows = pd.concat([
            one.frame[one.frame["step"] == one.frame["step"].max()].assign(model=model)
            for model, one in models.items()
        ])  # fmt: skip
        _bars(ax, rows.assign(percent=100 * rows["accuracy"]), "model", "percent", (ORANGE, RED, BLUE))
        plots.label_axes(ax, "test accuracy (%)", "", f"{name} (n = {rows['seed'].nunique()})")
        parts.append(rows.assign(data=name))
    rows = pd.concat(parts)
    means = rows.groupby(["data", "model"], sort=False)["accuracy"].mean()
    return {
        "figure": figure,
        "caption": "Test accuracy of one residual block, of six with weights of their own, and of a flow with the "
        "weights of one block: every seed, and mean with 95 % interval.",
        "alt": "Test accuracy of blocks and flows: "
        + ", ".join(f"{data}, {model} {value:.1%}" for (data, model), value in means.items()) + ".",
        "data": rows,
    }  # fmt: skip


# --- density ----------------------------------------------------------------------------------------------------------


def density(fitted: Density, missed: pd.DataFrame) -> dict[str, Any]:
    """The exact density and the flow's, log densities of every model, and how well the flow is inverted."""
    figure, (exact, flow, scores, back) = plots.panels(2, 2, width=7.6, height=3.2)
    side, reach = 121, 2.2
    grid = study.square_grid(side, reach)
    with torch.no_grad():
        learned = study.log_density(fitted.field.of(0), grid[None].double(), fitted.solver, 12)[0]
    truth = theory.moons_log_density(grid.double())
    top = truth.exp().max().item()
    for ax, values, title in ((exact, truth, "the exact density"), (flow, learned, "a continuous normalizing flow")):
        image = values.double().exp().view(side, side).numpy()
        ax.imshow(image, origin="lower", extent=(-reach, reach, -reach, reach), cmap="Blues", vmin=0, vmax=top)
        ax.set(ylim=(-1.6, 1.6), title=title, xlabel="x₁", ylabel="x₂")
        ax.grid(False)
    order = fitted.frame.groupby("model")["log_density"].mean().sort_values().index.tolist()
    rows = fitted.frame.assign(at=fitted.frame["model"].map(order.index)).sort_values(["at", "seed"])
    colors = [{"flow": ORANGE, "exact": GREY}.get(model, BLUE) for model in order]
    _bars(scores, rows, "model", "log_density", colors)
    plots.label_axes(scores, "log density of a test point (nats)", "", f"held out (n = {len(fitted.seeds)})")
    _log_lines(back, missed, "tolerance", "missed", "there and back", ORANGE)
    back.set(xscale="log", yscale="log")
    back.invert_xaxis()
    plots.label_axes(back, TOLERANCE, "largest distance from the start", "inverting the flow").legend()
    means = fitted.frame.groupby("model")["log_density"].mean()
    return {
        "figure": figure,
        "caption": "Noisy moons: their exact density, and that of one flow trained by maximum likelihood. Mean log "
        "density of held-out points for flows, fitted Gaussians, mixtures of Gaussians, and the exact density: every "
        "seed, and mean with 95 % interval. And the largest distance of a test point from where it returns when it is "
        "sent through the flow and back at a tolerance (geometric mean with 95 % interval).",
        "alt": "Maps of the exact density of moons and of a flow's. Mean log density: "
        + ", ".join(f"{model} {means[model]:.2f}" for model in order)
        + ". The distance from the start falls with the tolerance.",
        "data": fitted.frame,
    }  # fmt: skip
