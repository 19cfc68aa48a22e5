"""Figures in one style. Every function draws into the `ax` it is given and returns it."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from phenomena.science.frames import summary
from phenomena.statistics import interval

MARKERS = "osD^vPX*"


def start() -> None:
    """What every notebook begins with: one thread, so that values do not depend on the number of cores, and the style.

    The book's style sheet has seaborn's cycle "colorblind" on white ground, readable at page width.

    >>> import torch
    >>> start()
    >>> torch.get_num_threads()
    1
    """
    torch.set_num_threads(1)
    plt.style.use(str(files("phenomena.science") / "book.mplstyle"))


def panels(columns: int, rows: int = 1, width: float = 7.0, height: float = 3.0) -> tuple[Figure, list[Axes]]:
    """A figure with its axes in one flat list, row by row. Inches; height is that of a row.

    >>> figure, axes = panels(2, rows=2)
    >>> len(axes), figure.get_size_inches().tolist()
    (4, [7.0, 6.0])
    """
    figure, axes = plt.subplots(rows, columns, figsize=(width, height * rows), squeeze=False, layout="constrained")
    return figure, list(axes.flat)


def bands(
    ax: Axes,
    frame: pd.DataFrame,
    x: str,
    y: str,
    hue: str,
    order: Sequence[str] | None = None,
    joined: bool = True,
    *,
    trials: float | None = None,
    bounds: tuple[float, float] | None = None,
) -> Axes:
    """A line for each value of `hue`: mean over seeds with its 95 % interval as a band, and n in the legend.

    A seed that is missing at some x, or nan there, is left out; n is then the smallest over x.

    frame: long form, one row a seed, with the columns x, y and hue; text on the x axis keeps its order of appearance.
    order: the values of hue in the order of their colours and markers; as they appear by default.
    joined: off, points with error bars are drawn, for places on the x axis that have no order.
    trials, bounds: what y is, as for `statistics.interval`: a share of so many trials a seed, or within bounds.

    >>> from phenomena.science.frames import tidy
    >>> figure, (ax,) = panels(1)
    >>> frame = tidy([[[1, 2], [2, 3]]], "loss", arm=("plain",), seed=(0, 1), step=(10, 20))
    >>> bands(ax, frame, x="step", y="loss", hue="arm").get_legend_handles_labels()[1]
    ['plain (n = 2)']
    """
    text = not pd.api.types.is_numeric_dtype(frame[x])
    places = list(dict.fromkeys(frame[x])) if text else sorted(frame[x].unique())
    where = {place: (i if text else place) for i, place in enumerate(places)}
    groups = list(order or dict.fromkeys(frame[hue]))  # before rows go, so that colours stay
    frame = frame.dropna(subset=[y])
    for i, group in enumerate(groups):
        rows = frame[frame[hue] == group]
        present = [place for place in places if (rows[x] == place).any()]
        if not present:  # no seed gave a value anywhere: said in the caption, not drawn
            continue
        samples = [rows.loc[rows[x] == place, y].to_numpy() for place in present]
        mean, low, high = np.array([interval(s, trials=trials, bounds=bounds) for s in samples]).T
        at = [where[place] for place in present]
        n = min(len(s) for s in samples)
        style: dict[str, Any] = {"marker": MARKERS[i % len(MARKERS)], "color": f"C{i}", "label": f"{group} (n = {n})"}
        if joined:
            ax.plot(at, mean, **style)
            ax.fill_between(at, low, high, color=f"C{i}", alpha=0.2, linewidth=0)
        else:
            ax.errorbar(at, mean, (mean - low, high - mean), linestyle="none", capsize=4, **style)
    if text:
        ax.set_xticks(range(len(places)), places, rotation=30, ha="right")
    return ax


def points(
    ax: Axes,
    frame: pd.DataFrame,
    x: str,
    y: str,
    label: str,
    color: str,
    marker: str = "o",
    trials: float | None = None,
) -> Axes:
    """Means over seeds with their 95 % intervals, as points, and n in the legend, for figures that also have curves.

    label: none in the legend where it is empty.
    trials: as for `statistics.interval`, of a share.

    >>> from phenomena.science.frames import tidy
    >>> figure, (ax,) = panels(1)
    >>> frame = tidy([[1, 2], [2, 3]], "loss", seed=(0, 1), step=(10, 20))
    >>> points(ax, frame, "step", "loss", "plain", "k").get_legend_handles_labels()[1]
    ['plain (n = 2)']
    """
    # names that a summary has not, as x may be n
    rows = summary(frame[[x, y]].set_axis(["place", "value"], axis=1), "place", trials=trials)
    bars = ((rows["mean"] - rows["low"]).fillna(0), (rows["high"] - rows["mean"]).fillna(0))
    label = f"{label} (n = {rows['n'].min()})" if label else ""
    ax.errorbar(rows["place"], rows["mean"], bars, ls="none", marker=marker, ms=4, color=color, capsize=2, label=label)
    return ax


def samples(ax: Axes, sample: Float[Tensor, "*shape"], versions: Float[Tensor, "n *shape"], title: str) -> Axes:
    """One sample and its augmented versions: signals as curves, strong and faint; images side by side.

    shape: (c, l) for a signal, (c, h, w) for an image.

    >>> import torch
    >>> figure, (ax,) = panels(1)
    >>> len(samples(ax, torch.zeros(1, 40), torch.zeros(3, 1, 40), "a signal").lines)  # three versions and itself
    4
    """
    if sample.dim() == 2:
        ax.plot(versions[:, 0].T.numpy(), color="0.6", linewidth=0.9)
        ax.plot(sample[0].numpy(), color="C0")
        ax.set(xlabel="position", ylabel="value", title=title)
    else:
        strip = torch.cat([sample, *versions], dim=2).permute(1, 2, 0)
        ax.imshow(strip.squeeze(2).numpy(), cmap="gray" if strip.shape[2] == 1 else None)
        ax.set(xticks=[], yticks=[], xlabel="image, then augmentations", title=title)
        ax.grid(False)
    return ax


def label_axes(ax: Axes, x: str, y: str, title: str = "", chance: float | None = None) -> Axes:
    """Names both axes, and draws a dotted line at the level of chance where one is given.

    >>> figure, (ax,) = panels(1)
    >>> label_axes(ax, "layer", "accuracy", chance=0.1).get_ylabel()
    'accuracy'
    """
    ax.set(xlabel=x, ylabel=y, title=title)
    if chance is not None:
        ax.axhline(chance, color="0.4", linestyle=":", linewidth=1, zorder=0)
        ax.annotate("chance", (0.01, chance), xycoords=("axes fraction", "data"), ha="left", va="top", color="0.4")
    return ax


# --- figures that a reader moves --------------------------------------------------------------------------------------


VEGA_SIGNALS = {"width", "height", "padding", "autosize", "background", "datum", "item", "event", "parent", "reading"}


@dataclass(frozen=True)
class Layer:
    """One kind of mark drawn from a tidy frame, by columns for place, looks, words and order.

    mark: Vega-Lite's name, such as "line", "point", "bar", "area", "rule", "text", "image".
    x2, y2: the other end of an area or rule.
    size: of points, whose areas are as its values, up to `largest` square pixels.
    image: pictures as `data:` URLs.
    detail: a line for each of its values, all of one colour.
    order: the column along which a line is drawn, x by default.
    background: drawn whole wherever the controls stand, although the frame has their columns.
    style: properties of the mark, such as {"strokeDash": [6, 4]} or {"color": "#bbb"}.

    >>> from phenomena.science.frames import tidy
    >>> Layer(tidy([[1, 2]], "y", seed=(0,), x=(0, 1)), mark="point", style={"size": 80}).mark
    'point'
    """

    frame: pd.DataFrame
    mark: str = "line"
    x: str | None = "x"
    y: str | None = "y"
    x2: str | None = None
    y2: str | None = None
    colour: str | None = None
    shape: str | None = None
    size: str | None = None
    text: str | None = None
    image: str | None = None
    detail: str | None = None
    order: str | None = None
    background: bool = False
    largest: float = 900
    style: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Axis:
    """Title, range and type of scale ("linear", "log", "nominal") of an axis.

    domain: by default that of the rows in view, so that the axis changes with the controls.

    >>> Axis("step", domain=(1, 100), scale="log").domain
    (1, 100)
    """

    title: str
    domain: tuple[float, float] | None = None
    scale: str = "linear"


def slider(
    *layers: Layer,
    x: Axis,
    y: Axis,
    controls: Mapping[str, str],
    reading: Callable[..., str],
    start: Mapping[str, Any] | None = None,
) -> Any:
    """An Altair chart that a reader moves, for `show(..., interactive=)`: layers on shared axes, one to three controls.

    layers: one without a control's column stays as it is when that control moves.
    controls: column -> title of its control: a slider over the values that occur where they are numbers, a menu where
        they are texts.
    reading: called with the value of each control by name, says in words what is then seen.
    start: column -> value at which its control starts, or the nearest number that occurs; the first value by default.

    The chart's bound parameters have the names of the columns. Where one is a slider's place among the numbers that
    occur, a parameter `NAME_ticks` holds these as texts, which stand at the control and in the page's address.

    Raises `ValueError` for no or more than three controls, or one that is no column of any layer or lacks a value in
    some row.

    >>> from phenomena.science.frames import tidy
    >>> frame = tidy([[1, 2], [3, 4]], "loss", alpha=(0.5, 1.0), step=(10, 20))
    >>> chart = slider(
    ...     Layer(frame, x="step", y="loss"), x=Axis("step"), y=Axis("loss"),
    ...     controls={"alpha": "alpha"}, reading=lambda alpha: f"With alpha = {alpha}.",
    ... )
    >>> [parameter["name"] for parameter in chart.to_dict()["params"]]
    ['alpha', 'k0', 'alpha_ticks', 'reading']
    """
    import altair as alt  # a second of import that only notebooks with such a chart need

    if not 1 <= len(controls) <= 3:
        raise ValueError(f"{len(controls)} controls: must be 1 to 3")
    stops = {column: _stops(column, layers) for column in controls}
    keys = {column: f"k{i}" for i, column in enumerate(controls)}
    parameters: list[Any] = []
    for column, title in controls.items():
        values, wanted, name = stops[column], (start or {}).get(column), _signal(column)
        if isinstance(values[0], str):
            menu = alt.binding_select(options=values, name=title)
            at = values.index(wanted) if wanted in values else 0
            parameters.append(alt.param(name=name, value=values[at], bind=menu))
            parameters.append(alt.param(name=keys[column], expr=f"indexof({json.dumps(values)}, {name})"))
        else:
            at = 0 if wanted is None else min(range(len(values)), key=lambda i: abs(values[i] - wanted))
            bind = alt.binding_range(min=0, max=len(values) - 1, step=1, name=title)
            parameters.append(alt.param(name=name, value=at, bind=bind))
            parameters.append(alt.param(name=keys[column], expr=name))
            parameters.append(
                alt.param(name=f"{name}_ticks", value=[f"{value:.6g}".replace("inf", "∞") for value in values])
            )
    texts = _readings(list(stops), stops, {}, reading)
    parameters.append(alt.param(name="reading", expr=json.dumps(texts) + "".join(f"[{keys[c]}]" for c in stops)))
    colours = list(dict.fromkeys(v for layer in layers if layer.colour for v in layer.frame[layer.colour]))
    return alt.layer(*(_drawn(layer, x, y, stops, keys, colours) for layer in layers)).add_params(*parameters)


def _signal(column: str) -> str:
    """The column's name as one that Vega takes for a signal and has not given to one of its own."""
    name = re.sub(r"\W", "_", column)
    return f"{name}_" if name in VEGA_SIGNALS else name


def _stops(column: str, layers: Sequence[Layer]) -> list[Any]:
    """The values at which a control can stand: numbers in their order, texts in that of their appearance."""
    there = [layer.frame[column] for layer in layers if column in layer.frame]
    if not any(len(part) for part in there):
        raise ValueError(f"control {column!r} is a column of no layer with rows")
    if any(part.isna().any() for part in there):
        raise ValueError(
            f"control {column!r} has rows without a value: drop them, or draw them in a layer of their own"
        )
    values = [v.item() if hasattr(v, "item") else v for part in there for v in part.unique()]
    return list(dict.fromkeys(values if isinstance(values[0], str) else sorted(values)))


def _readings(
    left: list[str], stops: Mapping[str, list[Any]], chosen: dict[str, Any], reading: Callable[..., str]
) -> Any:
    """The sentences as nested lists, an axis a control."""
    if not left:
        return reading(**chosen)
    return [_readings(left[1:], stops, chosen | {left[0]: value}, reading) for value in stops[left[0]]]


def _drawn(
    layer: Layer, x: Axis, y: Axis, stops: Mapping[str, list[Any]], keys: Mapping[str, str], colours: list[Any]
) -> Any:
    """A layer in Vega-Lite, its columns under short names: every row carries them. colours: values of all layers."""
    import altair as alt

    channels = {"x": layer.x, "x2": layer.x2, "y": layer.y, "y2": layer.y2, "c": layer.colour, "s": layer.shape,
                "z": layer.size, "d": layer.detail, "o": layer.order, "t": layer.text, "u": layer.image}  # fmt: skip
    used = {short: column for short, column in channels.items() if column is not None}
    if layer.shape == layer.colour:  # one field for both has one legend
        used.pop("s", None)
    data = pd.DataFrame({short: layer.frame[column].to_numpy() for short, column in used.items()})
    filters = [] if layer.background else [column for column in stops if column in layer.frame]
    for column in filters:
        data[keys[column]] = layer.frame[column].map(stops[column].index).to_numpy()
    encoding: dict[str, Any] = {}
    for channel, axis, kind in (("x", x, alt.X), ("y", y, alt.Y)):
        if channel in used:
            nominal = axis.scale == "nominal"
            limits: dict[str, Any] = {"domain": list(axis.domain)} if axis.domain else {}
            limits |= {"type": axis.scale, "nice": False} | ({"zero": False} if axis.scale == "linear" else {})
            scale = alt.Undefined if nominal else alt.Scale(**limits)
            encoding[channel] = kind(f"{channel}:{'N' if nominal else 'Q'}", title=axis.title, scale=scale, sort=None)
    if "x2" in used:
        encoding["x2"] = alt.X2("x2:Q")
    if "y2" in used:
        encoding["y2"] = alt.Y2("y2:Q")
    if "t" in used:
        encoding["text"] = alt.Text("t:N")
    if "u" in used:
        encoding["url"] = alt.Url("u:N")
    # domains over all rows: a value keeps its colour, place and shape where others are not in view
    if "c" in used:
        scale = alt.Scale(domain=colours)
        encoding["color"] = alt.Color("c:N", title=None, sort=None, scale=scale)
        if layer.mark == "bar" and x.scale == "nominal":
            encoding["xOffset"] = alt.XOffset("c:N", sort=None, scale=scale)
    if layer.shape is not None:
        short = "s" if "s" in used else "c"
        scale = alt.Scale(domain=list(dict.fromkeys(data[short])))
        encoding["shape"] = alt.Shape(f"{short}:N", title=None, sort=None, scale=scale)
    if "z" in used:
        scale = alt.Scale(domain=[0, float(data["z"].max())], range=[0, layer.largest])
        encoding["size"] = alt.Size("z:Q", scale=scale, legend=None)
    if "d" in used:
        encoding["detail"] = alt.Detail("d:N")
    if "o" in used:
        encoding["order"] = alt.Order("o:Q")
    chart = getattr(alt.Chart(data), f"mark_{layer.mark}")(**layer.style).encode(**encoding)
    return chart.transform_filter(" && ".join(f"datum.{keys[c]} == {keys[c]}" for c in filters)) if filters else chart
