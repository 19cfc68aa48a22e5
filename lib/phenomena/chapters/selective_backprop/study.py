"""The chapter's experiments: seeds and parameters in, tidy frames out.

Letters: e places in training, s seeds, p parameters, r minibatches drawn, b points of one, k chosen, d features,
u = b + 1 random numbers.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from phenomena.chapters.selective_backprop import choices, networks, theory
from phenomena.chapters.selective_backprop.choices import Chosen, Method, Points
from phenomena.chapters.selective_backprop.training import (
    CONTROLS,
    Arm,
    Plan,
    Task,
    check,
    generator,
    standardized,
    train,
)
from phenomena.science import datasets
from phenomena.science.datasets import Dataset
from phenomena.science.frames import columns

CHOOSING: tuple[Method, ...] = ("top", "sb", "norm", "match", "weighted")
METHODS: tuple[Method, ...] = ("random", *CHOOSING, "full")
# Arms of equal work: other arms take as many steps as the plan says.
LONGER: dict[str, Method] = {"random_work": "random", "full_work": "full"}
PLACES = {"early": 0.05, "middle": 0.3, "late": 0.6, "end": 1.0}  # shares of training at which gradients are studied
OWN: tuple[Method, ...] = ("sb", "match", "weighted")  # studied at their own weights, too
AVERAGED: tuple[Method, ...] = ("random", "sb", "match")  # in the key figure
EQUAL_STEPS = (*METHODS, *CONTROLS)
ALL_ARMS = (*EQUAL_STEPS, *LONGER)
NOISY_ARMS = ("random", "top", "sb", "match", "full")  # where labels are wrong
TUNING_SEEDS = (1_000_000, 1_000_001)  # choose rates and nothing else
PROBE, PROBE_CHOICES = 7, 8  # streams of the minibatches that are studied, and of the methods that draw from them


def load(name: str, points: int) -> Dataset:
    """The data set as rows that are centered and scaled, if it has classes and rows enough; `ValueError` otherwise.

    >>> load("digits", 1000).classes
    10
    """
    data = datasets.load(name)
    check(data, points)
    return standardized(data)


def method_of(arm: str) -> Arm:
    """The method of an arm, which may be one of equal work."""
    return LONGER.get(arm, arm)  # type: ignore[arg-type]


def work(arm: str, plan: Plan, step: int) -> int:
    """What so many steps of an arm cost: where no points are chosen, those of a method that chooses are random."""
    method = method_of(arm)
    chosen = step if arm in LONGER or method in ("random", "full") else sum(map(plan.chooses, range(step)))
    each, other = (theory.work(name, plan.batch, plan.keep) for name in (method, "random"))
    return chosen * each + (step - chosen) * other


def length(arm: str, plan: Plan) -> int:
    """Steps of an arm: those of the plan, or as many as do the work of a method that chooses; 1 or more."""
    if arm not in LONGER:
        return plan.steps
    return max(1, round(work("match", plan, plan.steps) / theory.work(method_of(arm), plan.batch, plan.keep)))


class Learned(NamedTuple):
    """Of arms that were trained: how they did, and their parameters at `PLACES`.

    frame: columns seed, arm, step, work (done so far, as `theory.work` counts), accuracy, in percent, and wrong, the
        share of wrong labels among the points that training used.
    """

    frame: pd.DataFrame
    flat: dict[str, Float[Tensor, "e s p"]]


def learn(job: Task, rates: Mapping[str, float], plan: Plan, looks: int = 1) -> Learned:
    """Every arm and seed trained at the arm's rate.

    rates: of every arm. looks: how often accuracy is measured, evenly over an arm's training, beside `PLACES`.
    """
    rows, flat = [], {}
    for group in _groups(rates):
        how = replace(plan, steps=length(group[0], plan))
        studied = places(how.steps)
        at = sorted({*studied, *(max(1, round(how.steps * (i + 1) / looks)) for i in range(looks))})
        trained = train(job, [(method_of(arm), [rates[arm]] * len(job.seeds)) for arm in group], how, at)
        for a, arm in enumerate(group):
            flat[arm] = trained.flat[[at.index(step) for step in studied], a]
            rows += [
                (seed, arm, step, work(arm, how, step), 100 * trained.accuracy[e, a, s], trained.wrong[a, s])
                for s, seed in enumerate(job.seeds)
                for e, step in enumerate(at)
            ]
    return Learned(pd.DataFrame(rows, columns=["seed", "arm", "step", "work", "accuracy", "wrong"]), flat)


def accuracies(learned: Mapping[str, Learned], names: Mapping[str, Sequence[int]]) -> dict[str, np.ndarray]:
    """What is recorded of `learn`: NAME of every arm at its last step, and shares of wrong labels.

    names: in the order of the sets, what names end in, and seeds.
    """
    found: dict[str, np.ndarray] = {}
    for (frame, _), (name, seeds) in zip(learned.values(), names.items(), strict=True):
        ends = last_steps(frame)
        arms = {arm: arm for arm in dict.fromkeys(frame["arm"])}
        found |= columns(ends, "{arm}_" + name, "accuracy", seeds, arm=arms)
        if name == "noisy":
            found |= columns(ends, "wrong_{arm}", "wrong", seeds, arm=arms)
    return found


def last_steps(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows of the last step of every arm."""
    return frame[frame["step"] == frame.groupby("arm")["step"].transform("max")]


def tune(job: Task, arms: Sequence[str], rates: Sequence[float], plan: Plan) -> pd.DataFrame:
    """Accuracy of every arm at every rate: seed, arm, rate, accuracy in percent. job: with rows held out."""
    rows = []
    for group in _groups(arms):
        how = replace(plan, steps=length(group[0], plan))
        runs = [(arm, rate) for arm in group for rate in rates]
        trained = train(job, [(method_of(arm), [rate] * len(job.seeds)) for arm, rate in runs], how)
        rows += [
            (seed, arm, rate, 100 * trained.accuracy[0, a, s])
            for a, (arm, rate) in enumerate(runs)
            for s, seed in enumerate(job.seeds)
        ]
    return pd.DataFrame(rows, columns=["seed", "arm", "rate", "accuracy"])


def best(tuned: pd.DataFrame) -> dict[str, float]:
    """The rate of highest mean accuracy of every arm; the smallest of equal ones.

    >>> frame = pd.DataFrame({"arm": ["sb"] * 4, "rate": [0.1, 0.1, 0.2, 0.2], "accuracy": [50, 60, 52, 62]})
    >>> best(frame)
    {'sb': 0.2}
    """
    means = tuned.pivot_table("accuracy", "arm", "rate", sort=False).sort_index(axis=1)
    return {str(arm): float(rate) for arm, rate in means.idxmax(axis=1).items()}


def _groups(arms: Sequence[str] | Mapping[str, float]) -> list[list[str]]:
    """Arms that train together: those that choose; each of the others by itself."""
    together: list[str] = [arm for arm in arms if arm in (*CHOOSING, *CONTROLS)]
    return ([together] if together else []) + [[arm] for arm in arms if arm not in together]


# --- bias and variance ------------------------------------------------------------------------------------------------


class Probe(NamedTuple):
    """Minibatches at fixed weights of one seed, their forward pass, and the gradient on all of the seed's rows."""

    net: networks.Net
    x: Float[Tensor, "r b d"]
    passed: networks.Pass
    points: Points
    whole: Float[Tensor, " p"]
    forward_seconds: float


def probe(job: Task, s: int, flat: Float[Tensor, " p"], plan: Plan, draws: int) -> Probe:
    """Fresh minibatches of seed number s of the job, as many as `draws`."""
    d, c = job.x.shape[1], job.classes
    net = networks.views(flat, d, plan.width, c)
    index = torch.randint(job.rows.shape[1], (draws, plan.batch), generator=generator(job.seeds[s], PROBE))
    x, onehot = job.x[job.rows[s]], torch.eye(c)[job.y[s]]
    passed = networks.forward(net, x)
    losses, slope = networks.errors(passed.logits, onehot)
    whole = torch.zeros_like(flat)
    networks.backward(net, x, passed, slope / len(x), networks.views(whole, d, plan.width, c))
    x, onehot = x[index], onehot[index]
    began = time.process_time()
    passed = networks.forward(net, x)
    loss, slope = networks.errors(passed.logits, onehot)
    seconds = time.process_time() - began
    ranks = choices.cdf(losses[None], loss.reshape(1, -1)).view_as(loss)  # the CDF on all rows: no loss is stale
    return Probe(net, x, passed, Points(loss, ranks, slope, passed.second), whole, seconds)


def gradients(at: Probe, chosen: Chosen) -> Float[Tensor, "r p"]:
    """The gradient with respect to all parameters that each minibatch's choice makes."""
    r, k = chosen.rows.shape
    minibatch = torch.arange(r)[:, None]
    passed = networks.Pass(*(part[minibatch, chosen.rows] for part in at.passed))
    slope = at.points.errors[minibatch, chosen.rows] * (chosen.weights / k)[..., None]
    out = torch.empty(r, len(at.whole))
    d, w, c = at.x.shape[2], passed.second.shape[2], slope.shape[2]
    networks.backward(at.net, at.x[minibatch, chosen.rows], passed, slope, networks.views(out, d, w, c))
    return out


def places(steps: int) -> list[int]:
    """Steps of `PLACES`.

    >>> places(1000)
    [50, 300, 600, 1000]
    """
    return [max(1, round(share * steps)) for share in PLACES.values()]


def estimators(
    job: Task, flat: Float[Tensor, "e s p"], plan: Plan, draws: int, methods: Sequence[Method] = METHODS
) -> pd.DataFrame:
    """Methods as estimators of the gradient g on all of a seed's rows, at the weights of one arm's networks.

    flat: parameters at `PLACES`, of the job's first seeds.

    Square lengths are in units of |g|^2; one estimate has the expected square distance bias2 + variance from g.
    Returns the columns seed, place, method, bias2, variance, along (how far the mean estimate goes along g, 1 being
    right), across2 (its square length across g: bias2 is (1 - along)^2 + across2), last (square distance in the last
    layer from the minibatch's gradient, over the square length of that), overhead (seconds of choosing over those of
    the forward pass and the backward pass of k points). What the variance of the mean of finitely many draws adds is
    taken off bias2 and across2, which may be negative therefore.
    """
    rows = []
    last = (plan.width + 1) * job.classes
    for s, seed in enumerate(job.seeds[: flat.shape[1]]):
        for e, place in enumerate(PLACES):
            at = probe(job, s, flat[e, s], plan, draws)
            noise = torch.rand(draws, plan.batch + 1, generator=generator(seed, PROBE_CHOICES))
            everything = gradients(at, choices.top(at.points, plan.batch))[:, -last:]
            for method in methods:
                began = time.process_time()
                chosen = choices.choose(method, at.points, plan.keep, noise, plan.beta)
                between = time.process_time()
                found = gradients(at, chosen)
                done = time.process_time()
                off = (found[:, -last:] - everything).square().sum() / everything.square().sum()
                overhead = (between - began) / (at.forward_seconds + done - between)
                rows.append((seed, place, method, *_errors(found, at.whole), off.item(), overhead))
    names = ["seed", "place", "method", "bias2", "variance", "along", "across2", "last", "overhead"]
    return pd.DataFrame(rows, columns=names)


def _errors(found: Float[Tensor, "r p"], whole: Float[Tensor, " p"]) -> list[float]:
    """bias2, variance, along and across2 of `estimators`."""
    mean, size, r = found.mean(0), whole.square().sum(), len(found)
    away, along = found - mean, found @ whole / size
    variance = away.square().sum() / (r - 1)
    bias2 = (mean - whole).square().sum() - variance / r
    within = along.var() * size  # the part of the variance that is along g
    across2 = (mean - along.mean() * whole).square().sum() - (variance - within) / r
    return [(bias2 / size).item(), (variance / size).item(), along.mean().item(), (across2 / size).item()]


def own_weights(job: Task, learned: Learned, plan: Plan, draws: int, seeds: int) -> pd.DataFrame:
    """`estimators` for methods at the weights to which they have brought the networks of so many seeds themselves."""
    return pd.concat(estimators(job, learned.flat[method][:, :seeds], plan, draws, [method]) for method in OWN)


class Minibatch(NamedTuple):
    """The key figure: gradients with respect to the last layer in a plane, and how averages of estimates come nearer.

    points: of one minibatch, in units of the length of its mean. mean: of the minibatch. order: rows as the greedy
        choice takes them. others: as many rows at random. left, left_random: distance of the mean of the first m of
        these from that of the minibatch, in the whole space. averages: of the first n minibatches' gradients, for
        every method and n; columns method, n, off (distance from the gradient g on all data), along g, and across it
        in the direction to which matching errs, all over |g|.
    """

    points: Float[np.ndarray, "b 2"]
    mean: Float[np.ndarray, " 2"]
    order: list[int]
    others: list[int]
    left: Float[np.ndarray, " k"]
    left_random: Float[np.ndarray, " k"]
    averages: pd.DataFrame


def minibatch(job: Task, flat: Float[Tensor, "e s p"], plan: Plan, draws: int) -> Minibatch:
    """One minibatch of the first seed, at its weights at the second of `PLACES`; averages are over `draws` of them.

    It is the minibatch in which the greedy choice ends at the median distance. The plane is that of the two leading
    directions of its gradients with respect to the last layer (not centered).
    """
    at = probe(job, 0, flat[1, 0], plan, draws)
    noise = torch.rand(draws, plan.batch + 1, generator=generator(job.seeds[0], PROBE_CHOICES))
    everything = choices.gram(at.points)
    matched = choices.match(everything, plan.keep).rows
    ends = [distances(inner, rows)[-1] for inner, rows in zip(everything, matched, strict=True)]
    shown = int(np.argsort(ends)[len(ends) // 2])
    inner, order = everything[shown], matched[shown]
    values, vectors = torch.linalg.eigh(inner.double())
    place = vectors[:, [-1, -2]] * values[[-1, -2]].clamp_min(0).sqrt() / inner.double().mean().sqrt()
    others = choices.random(at.points, plan.keep, noise).rows[shown]
    return Minibatch(
        place.numpy(), place.mean(0).numpy(), order.tolist(), others.tolist(),
        distances(inner, order), distances(inner, others), _averages(at, noise, plan, job.classes),
    )  # fmt: skip


def _averages(at: Probe, noise: Float[Tensor, "r u"], plan: Plan, classes: int) -> pd.DataFrame:
    last = (plan.width + 1) * classes
    whole = at.whole[-last:]
    counts = torch.arange(1, len(noise) + 1)
    running = {}
    for method in AVERAGED:
        found = gradients(at, choices.choose(method, at.points, plan.keep, noise, plan.beta))[:, -last:]
        running[method] = found.cumsum(0) / (counts[:, None] * whole.norm())
    unit = whole / whole.norm()
    error = running["match"][-1] - (running["match"][-1] @ unit) * unit
    parts = [
        pd.DataFrame({
            "method": method, "n": counts.tolist(), "off": (mean - unit).norm(dim=1).tolist(),
            "along": (mean @ unit).tolist(), "across": (mean @ error / error.norm()).tolist(),
        })
        for method, mean in running.items()
    ]  # fmt: skip
    return pd.concat(parts, ignore_index=True)


def distances(inner: Float[Tensor, "b b"], rows: Int[Tensor, " k"]) -> Float[np.ndarray, " k"]:
    """|mean of the first m of these rows - mean of all| / |mean of all| for m = 1 to k, in the whole space."""
    m = torch.arange(1, len(rows) + 1)
    among = inner[rows][:, rows].cumsum(0).cumsum(1).diagonal() / m**2
    square = among - 2 * inner.mean(1)[rows].cumsum(0) / m + inner.mean()
    found: np.ndarray = (square.clamp_min(0) / inner.mean()).sqrt().numpy()
    return found
