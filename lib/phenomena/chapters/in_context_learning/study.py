"""The chapter's experiments: networks trained on sequences, and what they answer as training goes on, in tidy frames.

Each seed has a generator of its own, for its items, its networks and all its sequences: what belongs to a seed is the
same to the bit whatever other seeds run with it.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from phenomena.chapters.in_context_learning import induction, theory
from phenomena.chapters.in_context_learning.sequences import KINDS, Sequences, Task, draw, stack, table
from phenomena.chapters.in_context_learning.two_paths import Passes, Training, train
from phenomena.science.frames import select

TESTED = 400  # sequences of each kind a seed
FALL_STEPS = 10_000  # before which two layers have not begun to fall in earnest
UNSUPPORTED = ("training", "unsupported")  # kinds in which some query has no support


class Learned(NamedTuple):
    """What networks of one setting answered over training.

    shares: a row a seed, step and kind of sequences, with the share of answers that are the label which the context
        gives the query (`context`), that of the query's class (`weights`), or any that stands in the context
        (`listed`), and the attention to what supports the query (nan where nothing does).
    votes: a row a seed and step: training loss; u, the context's vote, and v, the weights' vote, each for its label
        over the mean of the others, in logits, on flipped sequences; on unsupported ones `odds`, the vote of the
        weights at which the odds of a wrong label are what they are on average, -log mean exp(wrong logit - right
        logit), to how many items attention goes (`attended`), and how often the answer is the class's label where it
        stands in the context and where it does not (`own_listed`, `own_missing`).
    watched: a row a step and label of one flipped sequence of the first seed.
    """

    shares: pd.DataFrame
    votes: pd.DataFrame
    watched: pd.DataFrame


def times(steps: int, count: int = 26) -> list[int]:
    """Steps from 0 to the last one, evenly spaced in their logarithm from 10 on.

    >>> times(1000, 5)
    [0, 10, 46, 215, 1000]
    """
    return sorted({0, *np.geomspace(min(10, steps), steps, count - 1).round().astype(int).tolist()})


def learn(task: Task, training: Training, seeds: Sequence[int], at: Sequence[int] | None = None) -> Learned:
    """Trains a network a seed and asks it on the same sequences at every step of `at`, by default those of `times`."""
    at = times(training.steps) if at is None else list(at)
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    tables = torch.stack([table(task, generator) for generator in generators])
    asked = {kind: stack([draw(task, kind, TESTED, generator) for generator in generators]) for kind in KINDS}
    items = {kind: _items(tables, sequences) for kind, sequences in asked.items()}
    chosen = _conflict(asked["flipped"])
    passes: Passes | None = None
    shares, votes, watched = [], [], []
    for step, net in train(tables, task, training, generators, at):
        passes = passes or Passes(net, TESTED, task.context)  # the networks change, but stay where they are
        row: dict[str, Tensor] = {}
        for kind, sequences in asked.items():
            logits = passes.forward(items[kind], sequences.labels)
            measured = _shares(logits, sequences)
            support = passes.attention[:, : task.copies].sum(1).mean(1)
            measured["attention"] = torch.full_like(support, torch.nan) if kind in UNSUPPORTED else support
            shares.append(pd.DataFrame({"seed": list(seeds), "step": step, "kind": kind} | _columns(measured)))
            row |= _votes(kind, logits, sequences, passes)
            if kind == "flipped":
                watched.append(_watched(passes, sequences, chosen).assign(step=step))
        votes.append(pd.DataFrame({"seed": list(seeds), "step": step} | _columns(row)))
    return Learned(*(pd.concat(frames, ignore_index=True) for frames in (shares, votes, watched)))


def rise_and_fall(learned: Learned, kind: str = "flipped") -> pd.DataFrame:
    """A row a seed: its `peak`, the largest share of answers that follow the context, the step it is reached `at`, the
    share at the `end`, their difference `fall`, and the training loss at both, `loss_peak` and `loss_end`.

    The peak is the largest of shares measured on finitely many sequences, a little above the largest expected one.
    """
    shares = select(learned.shares, kind=kind).pivot(index="seed", columns="step", values="context")
    losses = learned.votes.pivot(index="seed", columns="step", values="loss")
    at = shares.idxmax(axis=1)
    found = pd.DataFrame({"peak": shares.max(axis=1), "at": at, "end": shares.iloc[:, -1]})
    found["fall"] = found["peak"] - found["end"]
    found["loss_peak"] = losses.to_numpy()[np.arange(len(at)), losses.columns.get_indexer(pd.Index(at))]
    return found.assign(loss_end=losses.iloc[:, -1]).reset_index()


def settled(learned: Learned, task: Task) -> pd.DataFrame:
    """The rows of `votes` with a column `settled`, the u of `theory.settled_vote` at their `odds` and `attended`."""
    votes = learned.votes
    attended = votes["attended"].clip(upper=task.labels - 1).to_numpy()
    return votes.assign(settled=theory.settled_vote(votes["odds"].to_numpy(), task.supported, task.labels, attended))


def induce(task: Task, seeds: Sequence[int], at: Sequence[int]) -> pd.DataFrame:
    """Networks of two attention layers (`induction`) asked over training.

    Returns the columns seed and step; `flipped` and `novel`, the shares answered from the context, and `unsupported`,
    that answered with the label of the class; `previous`, the attention of labels to the item before them in the first
    layer, and `reads`, that of the query to the label of the copy in the second, both on flipped sequences; `loss`.
    """
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    tables = torch.stack([table(task, generator) for generator in generators])
    kinds = ("training", "flipped", "novel", "unsupported")
    asked = {k: stack([induction.shuffled(draw(task, k, TESTED, g), g) for g in generators]) for k in kinds}
    items = {kind: _items(tables, sequences) for kind, sequences in asked.items()}
    rows = []
    for step, net in induction.train(tables, task, generators, at):
        found = {kind: induction.answers(net, items[kind], sequences.labels) for kind, sequences in asked.items()}
        shares = {kind: _shares(found[kind].logits, sequences) for kind, sequences in asked.items()}
        _, first, second = found["flipped"]
        label = torch.arange(1, first.shape[3], 2)
        copy = asked["flipped"].items[:, 1:] // task.exemplars == asked["flipped"].items[:, :1] // task.exemplars
        measured = {
            "flipped": shares["flipped"]["context"],
            "novel": shares["novel"]["context"],
            "unsupported": shares["unsupported"]["weights"],
            "previous": first[:, :, label, label - 1].mean((1, 2)),
            "reads": (second[..., label] * copy.transpose(1, 2)).sum(2).mean(1),
            "loss": _loss(found["training"].logits, asked["training"].labels[:, 0]),
        }
        rows.append(pd.DataFrame({"seed": list(seeds), "step": step} | _columns(measured)))
    return pd.concat(rows, ignore_index=True)


def circuit(frame: pd.DataFrame) -> pd.DataFrame:
    """A row a seed of what `induce` returns: `peak`, `end` and `fall` of the share of flipped sequences answered from
    the context, and `previous` and `reads` at the end. Training of fewer than `FALL_STEPS` steps has no fall: nan.
    """
    last = frame[frame["step"] == frame["step"].max()].set_index("seed")
    found = pd.DataFrame({"peak": frame.groupby("seed")["flipped"].max(), "end": last["flipped"]})
    long = frame["step"].max() >= FALL_STEPS
    found["fall"] = found["peak"] - found["end"] if long else np.nan
    return found.assign(previous=last["previous"], reads=last["reads"]).reset_index()


def settling(learned: Learned, task: Task) -> pd.DataFrame:
    """A row a seed: the vote of the context at its highest and at the end, `u_peak` and `u_end`, and `off`, by which
    share it misses the closed form, |u / settled - 1|, mean over the steps from its highest on."""
    votes = settled(learned, task)
    rows = []
    for seed, part in votes.groupby("seed"):
        late = part.loc[part["u"].idxmax() :]
        off = (late["u"] / late["settled"] - 1).abs().mean()
        rows.append({"seed": seed, "u_peak": late["u"].iloc[0], "u_end": late["u"].iloc[-1], "off": off})
    return pd.DataFrame(rows)


def listed_gap(learned: Learned) -> pd.DataFrame:
    """The rows of `votes` with a column `gap`: by how much more often unsupported queries get the label of their class
    where it stands in the context.

    Raises `ValueError` where it never does: with as many labels as classes it cannot.
    """
    votes = learned.votes
    if votes["own_listed"].isna().any():
        raise ValueError(
            "no label of its class stands in a context without support: must be two classes a label or more"
        )
    return votes.assign(gap=votes["own_listed"] - votes["own_missing"])


def matching(task: Task, spreads: Sequence[float], seeds: Sequence[int]) -> pd.DataFrame:
    """In which share of supported sequences the item most similar to the query is of its class, by seed and spread.

    Columns seed, spread, right; of flipped sequences with one item of the query's class.
    """
    rows = []
    for spread in spreads:
        one = replace(task, spread=spread, copies=1)
        for seed in seeds:
            generator = torch.Generator().manual_seed(seed)
            items, drawn = table(one, generator), draw(one, "flipped", 5 * TESTED, generator)
            scores = (items[drawn.items[:1]] * items[drawn.items[1:]]).sum(2)
            rows.append({"seed": seed, "spread": spread, "right": (scores.argmax(0) == 0).double().mean().item()})
    return pd.DataFrame(rows)


def grid(tasks: Iterable[Task], training: Training, seeds: Sequence[int]) -> pd.DataFrame:
    """`rise_and_fall` of every task, with its classes, copies and spread in columns."""
    rows = []
    for task in tasks:
        found = rise_and_fall(learn(task, training, seeds, times(training.steps, 12)))
        rows.append(found.assign(classes=task.classes, copies=task.copies, spread=task.spread))
    return pd.concat(rows, ignore_index=True)


def corners(found: pd.DataFrame) -> dict[str, dict[str, float]]:
    """Cells of `grid` that every grid has: name -> classes and spread, each the lowest, the middle or the highest.

    >>> frame = pd.DataFrame({"classes": [8, 16, 64, 128], "spread": [0.0, 0.5, 0.0, 1.0]})
    >>> corners(frame)["few_middle"], corners(frame)["middle_wide"]
    ({'classes': 8, 'spread': 0.5}, {'classes': 64, 'spread': 1.0})
    """
    c, s = (sorted(found[name].unique().tolist()) for name in ("classes", "spread"))
    classes = {"few": c[0], "middle": c[len(c) // 2], "many": c[-1]}
    spreads = {"narrow": s[0], "middle": s[len(s) // 2], "wide": s[-1]}
    return {f"{few}_{wide}": {"classes": classes[few], "spread": spreads[wide]} for few in classes for wide in spreads}


def effects(found: pd.DataFrame) -> pd.DataFrame:
    """A row a seed: by how much the last share of `grid` differs between the largest and the smallest number of
    `classes`, `copies` and `spread`, each averaged over all values of the other two."""
    rows = {}
    for name in ("classes", "copies", "spread"):
        low, high = (found[found[name] == end].groupby("seed")["end"].mean() for end in found[name].agg(["min", "max"]))
        rows[name] = high - low
    return pd.DataFrame(rows).reset_index()


def _columns(row: Mapping[str, Tensor]) -> dict[str, list[float]]:
    return {name: values.double().tolist() for name, values in row.items()}


def _items(tables: Float[Tensor, "s r d"], sequences: Sequences) -> Float[Tensor, "s q m d"]:
    return torch.stack([items[places] for items, places in zip(tables, sequences.items, strict=True)])


def _shares(logits: Float[Tensor, "s m l"], sequences: Sequences) -> dict[str, Float[Tensor, " s"]]:
    answer = logits.argmax(2)
    hits = {"context": answer == sequences.labels[:, 0], "weights": answer == sequences.own}
    hits["listed"] = (answer[:, None] == sequences.labels[:, 1:]).any(1)
    return {name: hit.double().mean(1) for name, hit in hits.items()}


def _lead(logits: Float[Tensor, "s m l"], labels: Int[Tensor, "s m"]) -> Float[Tensor, "s m"]:
    """A label's logit over the mean of the others."""
    own = logits.gather(2, labels[..., None])[..., 0]
    return own - (logits.sum(2) - own) / (logits.shape[2] - 1)


def _loss(logits: Float[Tensor, "s m l"], labels: Int[Tensor, "s m"]) -> Float[Tensor, " s"]:
    flat = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none")
    return flat.view(labels.shape).double().mean(1)


def _votes(kind: str, logits: Tensor, sequences: Sequences, passes: Passes) -> dict[str, Float[Tensor, " s"]]:
    """What the kind of sequences has to say for `Learned.votes`."""
    if kind == "training":
        return {"loss": _loss(logits, sequences.labels[:, 0])}
    if kind == "flipped":
        return {
            "u": _lead(passes.context, sequences.labels[:, 0]).mean(1),
            "v": _lead(passes.weights, sequences.own).mean(1),
        }
    if kind == "unsupported":
        own = (logits.argmax(2) == sequences.own).double()
        listed = (sequences.labels[:, 1:] == sequences.own[:, None]).any(1).double()
        return {
            "odds": _odds_vote(passes.weights, sequences.own),
            "attended": passes.attention.square().sum(1).reciprocal().mean(1),
            "own_listed": (own * listed).sum(1) / listed.sum(1),
            "own_missing": (own * (1 - listed)).sum(1) / (1 - listed).sum(1),
        }
    return {}


def _odds_vote(logits: Float[Tensor, "s m l"], labels: Int[Tensor, "s m"]) -> Float[Tensor, " s"]:
    """-log of the mean, over queries and wrong labels, of exp(wrong logit - right logit)."""
    gaps = logits - logits.gather(2, labels[..., None])
    s, m, wrong = *labels.shape, logits.shape[2] - 1
    return math.log(m * wrong) - gaps.scatter(2, labels[..., None], -torch.inf).view(s, -1).logsumexp(1)


def _conflict(flipped: Sequences) -> int:
    """The first sequence of the first seed whose context has labels that all differ, also from the class's own."""
    for place, (labels, own) in enumerate(zip(flipped.labels[0, 1:].T.tolist(), flipped.own[0].tolist(), strict=True)):
        if len({*labels, own}) == len(labels) + 1:
            return place
    return 0


def _watched(passes: Passes, sequences: Sequences, chosen: int) -> pd.DataFrame:
    """Votes of both paths for every label, and the attention to the pairs that bear it."""
    (_, *labels), own = sequences.labels[0, :, chosen].tolist(), sequences.own[0, chosen].item()
    return pd.DataFrame(
        {
            "label": range(passes.context.shape[2]),
            "context": passes.context[0, chosen].tolist(),
            "weights": passes.weights[0, chosen].tolist(),
            "attention": passes.read[0, chosen].tolist(),
            "role": [
                "own" if label == own else "copy" if label == labels[0] else "listed" if label in labels else "absent"
                for label in range(passes.context.shape[2])
            ],
        }
    )
