"""The chapter's figures. Each function returns what `show` takes: figure, caption, alternative text, data, a chart."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from phenomena.chapters.in_context_learning import theory
from phenomena.chapters.in_context_learning.sequences import Task, gaussian_spread
from phenomena.chapters.in_context_learning.study import TESTED, Learned, listed_gap, settled
from phenomena.science import plots
from phenomena.science.frames import select, summary

STEP, SHARE = "step of training", "share of answers"
CONTEXT, WEIGHTS, OTHER = "#0173b2", "#de8f05", "#aaaaaa"  # who gives the answer
WHO = {"from the context": CONTEXT, "other": OTHER, "from the weights": WEIGHTS}
ROLES = {"copy": "the copy's", "listed": "in context", "absent": "", "own": "the class's"}  # by place on an axis
DEPTH, MIDDLE, GAP = 430, 170, 66  # pixels of the moving figure: its height, that of its upper part, between the two


def _steps(ax: Axes, last: int) -> Axes:
    """Steps on a scale that is linear up to 10, where the first answers after step 0 are, and logarithmic beyond."""
    ax.set_xscale("symlog", linthresh=10, linscale=0.4)
    ax.set_xlim(0, last)
    ticks = [0, *(10**k for k in range(1, 7) if 10**k <= last)]
    ax.set_xticks(ticks, [f"{t:,}" for t in ticks])
    ax.minorticks_off()
    return ax


def _mean(frame: pd.DataFrame, value: str) -> "pd.Series[float]":
    return frame.groupby("step")[value].mean()


def handover(learned: Learned, task: Task) -> dict[str, Any]:
    """Who answers where context and weights disagree, and the votes for every label of one such sequence."""
    flipped, watched = select(learned.shares, kind="flipped"), learned.watched
    context, weights = _mean(flipped, "context"), _mean(flipped, "weights")
    parts = pd.DataFrame({"from the context": context, "other": 1 - context - weights, "from the weights": weights})
    steps = list(context.index)
    shown = [_best(context), _handover_step(context, weights), steps[-1]]
    n = flipped["seed"].nunique()
    return {
        "figure": _still_handover(parts, watched, shown),
        "caption": f"Above: who answers, over training, on sequences whose context gives the query another label than "
        f"its class has: share of {TESTED} such sequences, mean over {n} networks. Below: one such sequence and one "
        "network. For every label, the vote of the context and the vote of the weights, in logits from the mean over "
        "labels; their sum is the black mark, and the highest sum is the answer. Percentages: attention to the pairs "
        f"with that label. In the moving figure the slider goes through training; otherwise steps {_listed(shown)}.",
        "alt": f"The context answers {context.max():.0%} of conflicting sequences at step {shown[0]}, and the weights "
        f"{weights.iloc[-1]:.0%} at the end. In one sequence the bars of the weights overtake those of the context, "
        "while attention to the copy stays.",
        "data": pd.concat([parts.reset_index(), watched]),
        "interactive": _moving_handover(parts, _centred(watched), shown[0], task),
    }


def _best(series: "pd.Series[float]") -> int:
    """The step of the highest value."""
    return int(series.index[int(series.to_numpy().argmax())])


def _listed(values: Sequence[int]) -> str:
    *front, end = dict.fromkeys(values)
    return f"{', '.join(f'{v:,}' for v in front)} and {end:,}" if front else f"{end:,}"


def _handover_step(context: "pd.Series[float]", weights: "pd.Series[float]") -> int:
    """The first step after the context's best at which the weights answer more often, or the last."""
    late = context.index >= _best(context)
    over = context.index[late & (weights > context).to_numpy()]
    return int(over[0] if len(over) else context.index[-1])


def _centred(watched: pd.DataFrame) -> pd.DataFrame:
    """Votes from their mean over labels, as adding a number to all logits changes nothing.

    `place` puts the context's label first, other labels of the context after it, and that of the weights last.
    """
    votes = watched[["context", "weights"]] - watched.groupby("step")[["context", "weights"]].transform("mean")
    names = watched[["label", "role"]].drop_duplicates()
    order = names.assign(rank=names["role"].map(list(ROLES).index)).sort_values(["rank", "label"])["label"].tolist()
    return watched.assign(
        context=votes["context"],
        weights=votes["weights"],
        total=votes.sum(axis=1),
        place=watched["label"].map(order.index),
    )


def _still_handover(parts: pd.DataFrame, watched: pd.DataFrame, shown: Sequence[int]) -> Figure:
    figure = plt.figure(figsize=(4.6, 4.8), layout="constrained")
    grid = figure.add_gridspec(2, len(shown), height_ratios=[1, 1.25])
    upper = figure.add_subplot(grid[0, :])
    upper.stackplot(parts.index, parts.T, colors=list(WHO.values()), labels=list(WHO), alpha=0.85)
    for step in shown:
        upper.axvline(step, color="0.2", linewidth=0.8, linestyle=":")
    _steps(upper, parts.index[-1]).set_ylim(0, 1)
    plots.label_axes(upper, STEP, "who answers")
    upper.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=3, columnspacing=1, handletextpad=0.4)
    votes, first = _centred(watched), None
    span = 1.12 * votes[["context", "weights", "total"]].abs().to_numpy().max()
    for place, step in enumerate(shown):
        ax = figure.add_subplot(grid[1, place], sharey=first)
        first = first or ax
        rows = select(votes, step=step)
        ax.bar(rows["place"] - 0.2, rows["context"], 0.4, color=CONTEXT)
        ax.bar(rows["place"] + 0.2, rows["weights"], 0.4, color=WEIGHTS)
        ax.plot(rows["place"], rows["total"], "_", color="k", ms=8)
        ends = rows.loc[rows["role"].isin(["copy", "own"])].sort_values("place")
        ax.set(ylim=(-span, span), title=f"step {step:,}")
        attention = rows.loc[rows["role"] == "copy", "attention"].iloc[0]
        ax.set_xlabel(f"one of {len(rows)} labels;\nattention to the\ncopy: {attention:.0%}", fontsize=8)
        ax.set_xticks(ends["place"], ends["role"].map({"copy": "copy's", "own": "class's"}))
        ax.tick_params(axis="y", labelleft=not place)
    if first is not None:
        first.set_ylabel("votes (logits)")
    return figure


def _moving_handover(parts: pd.DataFrame, votes: pd.DataFrame, start: int, task: Task) -> Any:
    """Areas above, votes for every label below, at the step of the slider."""
    import altair as alt  # a second of import that only notebooks with such a chart need

    steps = list(parts.index)
    at = {step: k for k, step in enumerate(steps)}
    areas = parts.clip(lower=0).cumsum(axis=1)
    low = areas.shift(axis=1, fill_value=0.0)
    bands = pd.concat(
        [pd.DataFrame({"k": range(len(steps)), "y": low[who], "y2": areas[who], "who": who}) for who in parts]
    ).round(4)
    labels = votes[["label", "role", "place"]].drop_duplicates().sort_values("place")
    names = {
        label: f"{label}: {ROLES[role]}" if ROLES[role] else str(label)
        for label, role in labels[["label", "role"]].itertuples(index=False)
    }
    long = votes.melt(["step", "label"], ["context", "weights"], "path", "vote").round(3)
    long = long.assign(
        k=long["step"].map(at),
        name=long["label"].map(names),
        who=long["path"].map({"context": "from the context", "weights": "from the weights"}),
    )
    sums = votes.assign(k=votes["step"].map(at), name=votes["label"].map(names)).round(3)
    span = 1.15 * float(votes[["context", "weights", "total"]].abs().to_numpy().max())
    listed = sums["role"].isin(["copy", "listed"])
    sums["text"] = sums["attention"].map("{:.0%}".format).where(listed, "")

    def reading(step: int) -> str:
        shares = parts.loc[step]
        rows = select(votes, step=step).set_index("role")
        best = int(rows["total"].argmax())
        who = {"copy": "the label of the copy", "own": "the label of its class"}.get(rows.index[best], "another label")
        copy = rows["attention"]["copy"]
        return (
            f"Step {step:,}: of all conflicting sequences, {shares['from the context']:.0%} are answered from the "
            f"context, {shares['from the weights']:.0%} from the weights. The sequence drawn gets {who}; "
            f"{copy:.0%} of its attention is on the copy."
        )

    colour = alt.Color("who:N", title=None, legend=alt.Legend(orient="top")).scale(
        domain=list(WHO), range=list(WHO.values())
    )
    here = "datum.k == step"
    ticks = [k for k, step in enumerate(steps) if k % 5 == 0 or step == steps[-1]]
    texts = json.dumps([f"{step:,}" for step in steps])
    time = alt.X("k:Q", title=STEP).scale(domain=[0, len(steps) - 1], nice=False)
    time = time.axis(offset=MIDDLE - DEPTH, grid=False, values=ticks, labelExpr=f"{texts}[datum.value]")
    share = alt.Y("y:Q", title="who answers").scale(domain=[0, 1], range=[MIDDLE, 0])
    share = share.axis(orient="left", format=".0%", tickCount=3, grid=False)
    upper = alt.layer(
        alt.Chart(bands).mark_area(opacity=0.85).encode(time, share, y2="y2:Q", color=colour),
        alt.Chart(pd.DataFrame({"k": range(len(steps)), "y": 0.0, "y2": 1.0}))
        .mark_rule(color="#222", strokeWidth=2)
        .encode(time, share, y2="y2:Q")
        .transform_filter(here),
    )
    order = list(names.values())
    label = alt.X("name:N", title=f"one of {task.labels} labels; %: attention to it", sort=order)
    label = label.axis(orient="bottom", labelAngle=-28, labelOverlap=False)
    vote = alt.Y("vote:Q", title="votes (logits)").scale(domain=[-span, span], range=[DEPTH, MIDDLE + GAP])
    vote = vote.axis(orient="left", tickCount=5)
    total = alt.Y("total:Q", title="votes (logits)").axis(orient="left", tickCount=5)
    lower = alt.layer(
        alt.Chart(long).mark_bar().encode(
            label, vote, xOffset=alt.XOffset("who:N", sort=list(WHO)), color=colour
        ).transform_filter(here),
        alt.Chart(sums[["k", "name", "total"]]).mark_tick(color="black", thickness=3).encode(label, total)
        .transform_filter(here),
        alt.Chart(sums[["k", "name", "text"]].assign(total=-0.97 * span)).mark_text(color="#333", fontSize=12).encode(
            label, total, text="text:N"
        ).transform_filter(here),
    )  # fmt: skip
    both = alt.layer(upper, lower).resolve_scale(x="independent", y="independent").properties(height=DEPTH)
    bind = alt.binding_range(min=0, max=len(steps) - 1, step=1, name=STEP)
    return both.add_params(
        alt.param(name="step", value=at[start], bind=bind),
        alt.param(name="step_ticks", value=[f"{step:,}" for step in steps]),
        alt.param(name="reading", expr=f"{json.dumps([reading(step) for step in steps])}[step]"),
    )


def matching(measured: pd.DataFrame, task: Task) -> dict[str, Any]:
    """How often the most similar item is the one of the query's class, with the closed form."""

    def closed(spread: float) -> float:
        gaussian = gaussian_spread(replace(task, spread=spread))
        return theory.nearest_is_right(gaussian, task.features, task.context, task.exemplars)

    figure, (ax,) = plots.panels(1, width=4.6)
    band = summary(measured, "spread", "right", trials=5 * TESTED)
    bars = (band["mean"] - band["low"], band["high"] - band["mean"])
    ax.errorbar(band["spread"], band["mean"], bars, fmt="o", capsize=3, label=f"sequences (n = {band['n'].min()})")
    spreads = np.linspace(0, measured["spread"].max(), 41)
    ax.plot(spreads, [closed(s) for s in spreads], "--", color="0.3", label="closed form")
    plots.label_axes(ax, "spread ε of a class", "nearest item is of the class", chance=1 / task.context).set_ylim(
        0, 1.02
    )
    ax.legend()
    at = {s: closed(s) for s in (0.5, 1.0)}
    return {
        "figure": figure,
        "caption": f"How often, of {task.context} items in a context, the one most similar to the query is that of its "
        f"class: measured on drawn sequences, and in closed form, in {task.features} dimensions.",
        "alt": f"The nearest item is of the query's class in {at[0.5]:.3f} of sequences at spread 0.5 and in "
        f"{at[1.0]:.3f} at spread 1 by the closed form, on which the measured points lie.",
        "data": measured,
    }


def rise_and_fall(learned: Learned, task: Task) -> dict[str, Any]:
    """Every evaluation over training, each with its level of chance, and the loss."""
    figure, (left, right) = plots.panels(2, height=3.4)
    asked = {
        "flipped": ("context", "flipped: label of the context"),
        "novel": ("context", "novel: label of the context"),
        "copied": ("context", "copied: label of the context"),
        "unsupported": ("weights", "unsupported: label of the class"),
    }
    parts = {name: select(learned.shares, kind=kind) for kind, (_, name) in asked.items()}
    frame = pd.concat([parts[name].assign(share=parts[name][value], what=name) for value, name in asked.values()])
    plots.bands(left, frame, x="step", y="share", hue="what", trials=TESTED)
    guess = theory.guess_in_context(task.context, task.copies, task.labels)
    left.axhline(guess, color="0.3", linestyle="--", linewidth=1, label="a guess among the context's labels")
    left.axhline(1 / task.labels, color="0.3", linestyle=":", linewidth=1, label="a guess among all labels")
    last = int(frame["step"].max())
    plots.label_axes(_steps(left, last), STEP, "share of right answers").set_ylim(0, 1)
    left.legend(loc="upper center", bbox_to_anchor=(0.45, -0.2), fontsize=7.5)
    plots.bands(right, learned.votes.assign(what="training sequences"), x="step", y="loss", hue="what")
    floor = theory.context_only_loss(task.supported, task.labels)
    right.axhline(floor, color=CONTEXT, linestyle="--", linewidth=1.2, label="least loss without weights")
    plots.label_axes(_steps(right, last), STEP, "loss (nats)").set_ylim(0)
    right.legend(fontsize=8)
    flipped = _mean(select(learned.shares, kind="flipped"), "context")
    loss = _mean(learned.votes, "loss")
    return {
        "figure": figure,
        "caption": "Answers over training, on four kinds of sequences that were never trained on. The first three ask "
        "for the label that the context gives, the last for the label of the class. Dashed and dotted: what guesses "
        "are worth. Beside it the training loss, with the least loss of one who reads "
        "the context and knows no class (dashed). Bands are 95 % intervals of the mean.",
        "alt": f"On flipped sequences the share answered from the context rises to {flipped.max():.2f} at step "
        f"{_best(flipped)} and falls to {flipped.iloc[-1]:.2f}, while the loss falls from "
        f"{loss.loc[_best(flipped)]:.2f} to {loss.iloc[-1]:.2f}.",
        "data": frame.drop(columns="kind"),
    }


def votes(learned: Learned, task: Task, others: Mapping[str, tuple[Learned, Task]]) -> dict[str, Any]:
    """Votes and attention over training beside the closed form, and the path of both votes in their plane.

    others: name -> networks of another setting, drawn in the plane alone.
    """
    frame = settled(learned, task)
    figure, (left, right) = plots.panels(2, height=3.3)
    mean = frame.groupby("step")[["u", "v", "settled"]].mean()
    for column, colour, name in (("u", CONTEXT, "context, u"), ("v", WEIGHTS, "weights, v")):
        band = summary(frame, "step", column)
        left.plot(band["step"], band["mean"], color=colour, label=f"vote of the {name} (n = {band['n'].min()})")
        left.fill_between(band["step"], band["low"], band["high"], color=colour, alpha=0.2, linewidth=0)
    left.plot(mean.index[1:], mean["settled"][1:], "--", color="k", linewidth=1.2, label="where u would settle")
    plots.label_axes(_steps(left, int(mean.index[-1])), STEP, "vote (logits)").set_ylim(-0.3, 8)
    left.legend(loc="upper left", fontsize=7.5)
    reach = np.linspace(0, 6, 121)
    for number, (name, (some, of)) in enumerate({"as above": (learned, task), **others}.items()):
        rows = some.votes.groupby("step")[["odds", "u", "attended"]].mean()
        attended = min(float(rows["attended"].iloc[-1]), of.labels - 1)
        right.plot(rows["odds"], rows["u"], ".-", color=f"C{number}", linewidth=1, ms=4, label=name)
        curve = theory.settled_vote(reach, of.supported, of.labels, attended)
        right.plot(reach, curve, "--", color=f"C{number}", linewidth=1.2)
    right.plot(
        reach, theory.settled_vote(reach, task.supported, task.labels), ":", color="0.3", label="closed form, m = 1"
    )
    right.plot(reach, reach, color="0.75", linewidth=1, zorder=0)
    right.annotate("u = v", (3.9, 4.05), color="0.5", fontsize=8, rotation=38)
    plots.label_axes(right, "vote of the weights by mean odds (logits)", "vote of the context u (logits)")
    right.set(xlim=(0, 6), ylim=(0, 5.4))
    right.legend(fontsize=7.5, loc="lower right")
    end, peak = mean["u"].iloc[-1], mean["u"].max()
    return {
        "figure": figure,
        "caption": "The two votes. On one side over training, with the vote of the context that would have the least "
        "loss beside the weights as they are (dashed). On the other in their plane: each setting starts near the "
        "origin, climbs to its closed form (dashed, with as many items attended to as measured at the end), and "
        "follows it down. Dotted: the same for attention to one item alone. Above the grey line the context wins.",
        "alt": f"The vote of the context climbs to {peak:.1f}, then falls to {end:.1f} along the closed form, which "
        f"ends at {mean['settled'].iloc[-1]:.1f}, while the vote of the weights grows to {mean['v'].iloc[-1]:.1f}.",
        "data": frame,
    }


def _arms(
    learned: Mapping[str, Learned],
    caption: str,
    message: str,
    *,
    second: tuple[str, str, str],
    curves: "Mapping[str, pd.Series[float]] | None" = None,
) -> dict[str, Any]:
    """The share answered from the context on flipped sequences, one line a setting, and a second panel likewise.

    second: kind of sequences, column and title of the second panel; the kind "votes" for a column of votes.
    curves: label -> values by step, drawn dashed in the second panel.
    """
    figure, (left, right) = plots.panels(2, height=3.3)
    flipped = {name: select(one.shares, kind="flipped") for name, one in learned.items()}
    frame = pd.concat([part.assign(arm=name) for name, part in flipped.items()])
    plots.bands(left, frame, x="step", y="context", hue="arm", trials=TESTED)
    last = int(frame["step"].max())
    plots.label_axes(_steps(left, last), STEP, "flipped: answered from the context").set_ylim(0, 1.02)
    kind, column, title = second
    parts = {name: one.votes if kind == "votes" else select(one.shares, kind=kind) for name, one in learned.items()}
    other = pd.concat([part.assign(arm=name) for name, part in parts.items()])
    plots.bands(right, other, x="step", y=column, hue="arm", trials=None if kind == "votes" else TESTED)
    for name, curve in (curves or {}).items():
        right.plot(curve.index, curve, "k--", linewidth=1.2, label=name)
        right.legend(handles=right.lines[-1:], fontsize=7.5)
    plots.label_axes(_steps(right, last), STEP, title).set_ylim(0, None if kind == "votes" else 1.02)
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=8)
    ends = {name: _mean(part, "context") for name, part in flipped.items()}
    told = "; ".join(f"{name}: peak {c.max():.2f}, end {c.iloc[-1]:.2f}" for name, c in ends.items())
    return {"figure": figure, "caption": caption, "alt": f"{message} {told}.", "data": frame.drop(columns="kind")}


def decay(learned: Mapping[str, Learned], context: float, weights: float) -> dict[str, Any]:
    """Who answers with decay on neither path, one, or both; context, weights: the shares that it takes off a step."""
    caption = (
        "Answers from the context on flipped sequences, and right answers without support, with decay on neither path, "
        f"one, or both. At every step it takes off a share of {context:g} of the context's parameters and {weights:g} "
        "of the weights' parameters."
    )
    message = "Decay on the weights' path keeps the skill, decay on the context's path ends it sooner."
    return _arms(learned, caption, message, second=("unsupported", "weights", "unsupported: label of the class"))


def always(varied: Learned, exact: Learned, task: Task) -> dict[str, Any]:
    """Who answers where every training sequence is supported, by varied items or by exact copies.

    task: that of the varied items. Their vote is compared with the closed form for p the share of right matches.
    """
    right = theory.nearest_is_right(gaussian_spread(task), task.features, task.context, task.exemplars)
    closed = settled(varied, replace(task, supported=right)).groupby("step")["settled"].mean()[1:]
    caption = (
        "Every training sequence is supported, by items that vary within a class or by exact copies. Answers from the "
        f"context on flipped sequences, and the vote of the context. Dashed: where it would settle at ε = "
        f"{task.spread:g} if p were {right:.3f}, the probability that the nearest item is the right one."
    )
    return _arms(
        {f"ε = {task.spread:g}": varied, "exact copies, ε = 0": exact},
        caption,
        "With items that vary the skill falls, with exact copies it does not.",
        second=("votes", "u", "vote of the context u (logits)"),
        curves={f"closed form, ε = {task.spread:g}": closed},
    )


def rates(learned: Mapping[str, Learned], ratio: float) -> dict[str, Any]:
    """Who answers at several ratios of rates, and with more classes or hidden layers at the ratio given."""
    caption = (
        "Answers from the context on flipped and on novel sequences, at several ratios of the attention path's "
        f"learning rate to that of the weights' path, and, at ratio {ratio:g}, with four times as many classes and "
        "with one more hidden layer in the weights' path."
    )
    message = (
        "With equal rates the context never answers. The faster its path, the higher the peak; the deeper the other, "
        "the lower."
    )
    return _arms(learned, caption, message, second=("novel", "context", "novel: label of the context"))


def controls(learned: Mapping[str, Learned]) -> dict[str, Any]:
    """Networks with one skill."""
    caption = (
        "Networks that can only read, or only know: answers from the context on flipped sequences, and the training "
        "loss. Nothing falls again, and without a vote of the context nothing rises."
    )
    message = "Without anything to know the skill stays; without attention it never comes."
    return _arms(learned, caption, message, second=("votes", "loss", "loss (nats)"))


def support(learned: Mapping[float, tuple[Learned, Task]]) -> dict[str, Any]:
    """The vote of the context at its peak and at the end against the probability of support, with the closed form."""
    figure, (left, right) = plots.panels(2, height=3.4)
    rows = []
    for p, (one, task) in sorted(learned.items()):
        frame = settled(one, task)
        last = frame[frame["step"] == frame["step"].max()].set_index("seed")
        peak = frame.groupby("seed")["u"].max()
        rows.append(pd.DataFrame({"p": p, "u": last["u"], "settled": last["settled"], "peak": peak}).reset_index())
    frame = pd.concat(rows, ignore_index=True)
    task = next(iter(learned.values()))[1]
    levels = np.linspace(0.3, 0.99, 70)
    limits = np.array([theory.settled_limits(p, task.labels) for p in levels])
    for column, name, look, colour in (("peak", "highest", "o", CONTEXT), ("u", "last", "s", "C4")):
        band = summary(frame, "p", column)
        bars = (band["mean"] - band["low"], band["high"] - band["mean"])
        name = f"{name} vote (n = {band['n'].min()})"
        left.errorbar(band["p"], band["mean"], bars, fmt=look, color=colour, capsize=3, label=name)
    settled_at = summary(frame, "p", "settled")
    left.plot(settled_at["p"], settled_at["mean"], "--", color="k", linewidth=1.2, label="where the last would settle")
    left.fill_between(levels, limits[:, 1], limits[:, 0], color="0.9", label="closed form for m = 1, all v")
    plots.label_axes(left, "probability of support p", "vote of the context u (logits)").set_ylim(0)
    left.legend(fontsize=7.5, loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2)
    flipped = {f"p = {p:g}": select(one.shares, kind="flipped") for p, (one, _) in sorted(learned.items())}
    shares = pd.concat([part.assign(arm=name) for name, part in flipped.items()])
    plots.bands(right, shares, x="step", y="context", hue="arm", trials=TESTED)
    _steps(right, int(shares["step"].max())).set_ylim(0, 1)
    plots.label_axes(right, STEP, "flipped: answered from the context")
    right.legend(fontsize=7.5, loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2)
    off = (frame["u"] / frame["settled"] - 1).abs().groupby(frame["p"]).mean()
    return {
        "figure": figure,
        "caption": "The vote of the context, and who answers, when fewer or more of the training sequences are "
        "supported. The last vote is compared with the closed form at each network's own odds and attention (dashed); "
        "the grey area is the closed form for attention to a single item, from silent weights to certain ones.",
        "alt": "The vote of the context grows with the probability of support and ends near its closed form: mean "
        "distance " + ", ".join(f"{o:.0%} at p = {p:g}" for p, o in off.items()) + ".",
        "data": frame,
    }


def constrained(learned: Learned, task: Task) -> dict[str, Any]:
    """Whether the weights answer more easily with a label that stands in the context, and how novel classes fare."""
    figure, (left, right) = plots.panels(2, height=3.3)
    names = {"own_listed": "its label is in the context", "own_missing": "its label is not"}
    frame = pd.concat([learned.votes.assign(share=learned.votes[c], what=name) for c, name in names.items()])
    plots.bands(left, frame, x="step", y="share", hue="what", bounds=(0, 1))
    last = int(frame["step"].max())
    plots.label_axes(_steps(left, last), STEP, "unsupported: label of the class", chance=1 / task.labels).set_ylim(0, 1)
    novel = select(learned.shares, kind="novel")
    shown = {"listed": "any label of the context", "context": "the copy's label"}
    both = pd.concat([novel.assign(share=novel[c], what=name) for c, name in shown.items()])
    plots.bands(right, both, x="step", y="share", hue="what", trials=TESTED)
    for number, level in enumerate((theory.label_in_context(task.context, task.labels), 1 / task.labels)):
        right.axhline(level, color=f"C{number}", linestyle=":", linewidth=1.2)
    plots.label_axes(_steps(right, last), STEP, "novel: share of answers").set_ylim(0, 1)
    for ax in (left, right):
        ax.legend(fontsize=7.5, loc="upper center", bbox_to_anchor=(0.5, -0.22))
    gap = _mean(listed_gap(learned), "gap")
    return {
        "figure": figure,
        "caption": "Left by the context. On one side, unsupported sequences, answered with the label of the class, "
        "where that label happens to stand in the context and where it does not. On the other, novel classes: answers "
        "that stand in the context at all, and the one of the copy; dotted, what they would be for an answer that does "
        "not look at the context.",
        "alt": f"A label in the context is answered more often: by up to {gap.max():.2f} at step {gap.idxmax()}, by "
        f"{gap.iloc[-1]:.2f} at the end.",
        "data": frame,
    }


def circuit(frame: pd.DataFrame, task: Task) -> dict[str, Any]:
    """Answers and attention of networks of two attention layers over training, every seed and their mean."""
    figure, (left, right) = plots.panels(2, height=3.3)
    parts = {
        left: {"flipped": "flipped: context", "novel": "novel: context", "unsupported": "unsupported: class"},
        right: {"previous": "first layer: a label to its item", "reads": "second layer: the query to the copy's label"},
    }
    for ax, named in parts.items():
        for number, (column, name) in enumerate(named.items()):
            for _, one in frame.groupby("seed"):
                ax.plot(one["step"], one[column], color=f"C{number}", linewidth=0.6, alpha=0.5)
            mean = _mean(frame, column)
            ax.plot(mean.index, mean, color=f"C{number}", label=f"{name} (n = {frame['seed'].nunique()})")
        _steps(ax, int(frame["step"].max())).set_ylim(0, 1.02)
        ax.legend(fontsize=7.5, loc="upper center", bbox_to_anchor=(0.5, -0.2))
    plots.label_axes(left, STEP, "share of right answers", chance=1 / task.labels)
    left.axhline(theory.guess_in_context(task.context, task.copies, task.labels), color="0.3", linestyle="--", lw=1)
    plots.label_axes(right, STEP, "attention")
    flipped, previous = _mean(frame, "flipped"), _mean(frame, "previous")
    return {
        "figure": figure,
        "caption": f"Two layers of attention, {task.classes} classes. Answers, and the two steps of the circuit that "
        "reads: in the first layer the attention of the labels to the item before them, in the second that of the "
        "query to the label of the copy, on flipped sequences. Thin lines are single seeds, thick ones their mean. "
        "Dashed: what a guess among the labels of the context is worth.",
        "alt": f"The share answered from the context rises to {flipped.max():.2f} at step {_best(flipped)}, when the "
        f"labels come to attend to the items before them, and is {flipped.iloc[-1]:.2f} at the end, where that "
        f"attention is {previous.iloc[-1]:.2f}.",
        "data": frame,
    }


def grid(found: pd.DataFrame) -> dict[str, Any]:
    """Highest and last share answered from the context, over classes, spread and copies."""
    burstiness = sorted(found["copies"].unique())
    figure, axes = plots.panels(2, len(burstiness), width=5.6, height=2.5)
    means = found.groupby(["copies", "classes", "spread"])[["peak", "end"]].mean()
    for row, k in enumerate(burstiness):
        for column, value in enumerate(("peak", "end")):
            table = means.loc[k][value].unstack("spread")
            ax = axes[2 * row + column]
            ax.imshow(table.to_numpy(), vmin=0, vmax=1, cmap="cividis", aspect="auto", origin="lower")
            for (i, j), share in np.ndenumerate(table.to_numpy()):
                ax.text(j, i, f"{share:.2f}", ha="center", va="center", color="w" if share < 0.6 else "k", fontsize=8)
            ax.set_xticks(range(table.shape[1]), [f"{s:g}" for s in table.columns])
            ax.set_yticks(range(table.shape[0]), [f"{c:,}" for c in table.index])
            ax.grid(False)
            name = "highest" if value == "peak" else "last"
            plots.label_axes(ax, "spread ε", "classes", f"{name}, {k} {'copy' if k == 1 else 'copies'}")
    top = means["peak"].max()
    k, classes, spread = means.index.to_list()[int((means["peak"] - means["end"]).to_numpy().argmax())]
    n = found["seed"].nunique()
    return {
        "figure": figure,
        "caption": "Where the skill rises, and where it falls within the same number of steps: share of flipped "
        "sequences answered from the context, the highest and the last, by classes, spread and burstiness, the number "
        f"of copies in a supported context. Mean over {n} networks a cell.",
        "alt": f"The highest share goes up to {top:.2f} with many classes and stays low with few. It falls most at "
        f"{classes:g} classes, spread {spread:g} and burstiness {k}.",
        "data": found,
    }
