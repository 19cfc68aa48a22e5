"""Figures in one style. Every function draws into the `ax` it is given and returns it."""

from collections.abc import Sequence
from importlib.resources import files
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from phenomena.statistics import interval

MARKERS = "osD^vPX*"


def use_style() -> None:
    """The book's style sheet: seaborn's cycle "colorblind", white ground, readable at page width."""
    plt.style.use(str(files("phenomena.science") / "book.mplstyle"))


def panels(columns: int, rows: int = 1, width: float = 7.0, height: float = 3.0) -> tuple[Figure, list[Axes]]:
    """A figure with its axes in one flat list, row by row. Inches; height is that of a row."""
    figure, axes = plt.subplots(rows, columns, figsize=(width, height * rows), squeeze=False, layout="constrained")
    return figure, list(axes.flat)


def bands(
    ax: Axes, frame: pd.DataFrame, x: str, y: str, hue: str, order: Sequence[str] | None = None, joined: bool = True
) -> Axes:
    """One line a value of `hue`: mean over seeds with its 95 % interval as a band, and n in the legend.

    joined=False: points with error bars instead, where the places on the x axis have no order.

    frame: long form, one row a seed, with the columns x, y, hue. Text on the x axis keeps its order of appearance.
    A seed that is missing at some x (nan) is left out there; n is then the smallest over x.
    """
    frame = frame.dropna(subset=[y])
    text = not pd.api.types.is_numeric_dtype(frame[x])
    places = list(dict.fromkeys(frame[x])) if text else sorted(frame[x].unique())
    where = {place: (i if text else place) for i, place in enumerate(places)}
    groups = list(order or dict.fromkeys(frame[hue]))
    for i, group in enumerate(groups):
        rows = frame[frame[hue] == group]
        present = [place for place in places if (rows[x] == place).any()]
        if not present:  # no seed gave a value anywhere: said in the caption, not drawn
            continue
        samples = [rows.loc[rows[x] == place, y].to_numpy() for place in present]
        mean, low, high = np.array([interval(s) for s in samples]).T
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


def samples(ax: Axes, sample: Tensor, versions: Tensor, title: str) -> Axes:
    """One sample and its augmented versions: signals as curves, strong and faint; images side by side.

    sample: float (c, l) or (c, h, w); versions: the same with a leading axis.
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


def label(ax: Axes, x: str, y: str, title: str = "", chance: float | None = None) -> Axes:
    """Names both axes; draws a dotted line at chance level where there is one."""
    ax.set(xlabel=x, ylabel=y, title=title)
    if chance is not None:
        ax.axhline(chance, color="0.4", linestyle=":", linewidth=1, zorder=0)
        ax.annotate("chance", (0.01, chance), xycoords=("axes fraction", "data"), ha="left", va="top", color="0.4")
    return ax
