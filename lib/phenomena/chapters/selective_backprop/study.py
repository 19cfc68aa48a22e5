"""The chapter's experiments: seeds and parameters in, tidy frames out."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from phenomena.chapters.selective_backprop import choices, networks, theory
from phenomena.chapters.selective_backprop.choices import Chosen, Method, Points
from phenomena.chapters.selective_backprop.training import Plan, Task, Trained, check, generator, standardized, train
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
ALL_ARMS = (*METHODS, *LONGER)
NOISY_ARMS = ("random", "top", "sb", "match", "full")  # where labels are wrong
TUNING_SEEDS = (1_000_000, 1_000_001)  # choose rates and nothing else
PROBE = 7  # stream of the minibatches that are studied


def load(name: str, points: int) -> Dataset:
    """The data set as rows that are centered and scaled, if it has classes and rows enough; `ValueError` otherwise.

    >>> load("digits", 1000).classes
    10
    """
    data = datasets.load(name)
    check(data, points)
    return standardized(data)


def method_of(arm: str) -> Method:
    """The method of an arm, which may be one of equal work."""
    return LONGER.get(arm, arm)  # type: ignore[arg-type]


def length(arm: str, plan: Plan) -> int:
    """Steps of an arm."""
    if arm not in LONGER:
        return plan.steps
    return theory.steps_of_equal_work(method_of(arm), plan.steps, plan.batch, plan.keep)


def learn(job: Task, rates: Mapping[str, float], plan: Plan, looks: int = 1) -> pd.DataFrame:
    """Every arm and seed trained at the arm's rate.

    rates: of every arm. looks: how often accuracy is measured, evenly over an arm's training.
    Returns the columns seed, arm, step, work (that of `theory.work`, done so far), accuracy, in percent, and wrong, the
    share of wrong labels among the points that training used.
    """
    rows = []
    for group in _groups(rates):
        how = replace(plan, steps=length(group[0], plan))
        at = [round(how.steps * (i + 1) / looks) for i in range(looks)]
        trained = train(job, [(method_of(arm), [rates[arm]] * len(job.seeds)) for arm in group], how, at)
        for a, arm in enumerate(group):
            unit = theory.work(method_of(arm), plan.batch, plan.keep)
            rows += [
                (seed, arm, step, step * unit, 100 * trained.accuracy[e, a, s], trained.wrong[a, s])
                for s, seed in enumerate(job.seeds)
                for e, step in enumerate(at)
            ]
    return pd.DataFrame(rows, columns=["seed", "arm", "step", "work", "accuracy", "wrong"])


def accuracies(learned: Mapping[str, pd.DataFrame], names: Mapping[str, Sequence[int]]) -> dict[str, np.ndarray]:
    """What is recorded of the frames of `learn`: NAME of every arm at its last step, and shares of wrong labels.

    names: in the order of the frames, what names end in, and seeds.
    """
    found: dict[str, np.ndarray] = {}
    for frame, (name, seeds) in zip(learned.values(), names.items(), strict=True):
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
    together: list[str] = [arm for arm in arms if arm in CHOOSING]
    return ([together] if together else []) + [[arm] for arm in arms if arm not in CHOOSING]


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
    """The gradient by all parameters that each minibatch's choice makes."""
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
    job: Task, trained: Trained, plan: Plan, draws: int, arm: int = 0, methods: Sequence[Method] = METHODS
) -> pd.DataFrame:
    """Methods as estimators of the gradient on all data, at the weights of one arm's networks.

    trained: kept at `PLACES`. arm: its number there. Square lengths are in units of |g|^2, g the gradient on all of the
    seed's rows; one estimate has the expected square distance bias^2 + variance from it.

    Returns the columns seed, place, method, bias2 (without what the variance of the mean would add), variance,
    length (of the mean over that of g), cosine (of the mean and g), last (square distance by the last layer from the
    minibatch's gradient, over the square length of that), overhead (seconds of choosing over those of the forward pass
    and the backward pass of k points).
    """
    rows = []
    last = plan.width * job.classes + job.classes
    for s, seed in enumerate(job.seeds):
        for e, place in enumerate(PLACES):
            at = probe(job, s, trained.flat[e, arm, s], plan, draws)
            noise = torch.rand(draws, plan.batch + 1, generator=generator(seed, PROBE + 1))
            size = at.whole.square().sum()
            everything = gradients(at, choices.top(at.points, plan.batch))[:, -last:]
            for method in methods:
                began = time.process_time()
                chosen = choices.choose(method, at.points, plan.keep, noise, plan.beta)
                between = time.process_time()
                found = gradients(at, chosen)
                done = time.process_time()
                mean = found.mean(0)
                variance = (found - mean).square().sum() / (draws - 1)
                bias2 = (mean - at.whole).square().sum() - variance / draws
                off = (found[:, -last:] - everything).square().sum() / everything.square().sum()
                cosine = mean @ at.whole / (mean.norm() * at.whole.norm())
                rows.append((
                    seed, place, method, *((value / size).item() for value in (bias2, variance)),
                    (mean.norm() / size.sqrt()).item(), cosine.item(), off.item(),
                    (between - began) / (at.forward_seconds + done - between),
                ))  # fmt: skip
    names = ["seed", "place", "method", "bias2", "variance", "length", "cosine", "last", "overhead"]
    return pd.DataFrame(rows, columns=names)


def own_weights(job: Task, rates: Mapping[str, float], plan: Plan, draws: int) -> pd.DataFrame:
    """`estimators` for methods at the weights to which they have brought networks themselves."""
    methods = [method for method in OWN if method in rates]
    arms = [(method, [rates[method]] * len(job.seeds)) for method in methods]
    trained = train(job, arms, plan, places(plan.steps))
    return pd.concat(estimators(job, trained, plan, draws, arm, [method]) for arm, method in enumerate(methods))


class Minibatch(NamedTuple):
    """The key figure: gradients by the last layer in a plane, and how averages of estimates come nearer.

    points: of one minibatch, in units of the length of its mean. mean: of the minibatch. order: rows as the greedy
        choice takes them. others: as many rows at random. off: distance of the average of the first n minibatches'
        gradients from that on all data, over the length of the latter, for every method and n.
    """

    points: Float[np.ndarray, "b 2"]
    mean: Float[np.ndarray, " 2"]
    order: list[int]
    others: list[int]
    off: pd.DataFrame
    left: Float[np.ndarray, " k"]
    left_random: Float[np.ndarray, " k"]


def minibatch(job: Task, trained: Trained, plan: Plan, draws: int) -> Minibatch:
    """One minibatch of the first seed, at its weights at the second of `PLACES`; averages are over `draws` of them.

    The plane is that of the two leading directions of the minibatch's gradients by the last layer (not centered).
    """
    at = probe(job, 0, trained.flat[1, 0, 0], plan, draws)
    noise = torch.rand(draws, plan.batch + 1, generator=generator(job.seeds[0], PROBE + 1))
    inner = choices.gram(at.points)[:1]
    values, vectors = torch.linalg.eigh(inner[0].double())
    place = vectors[:, [-1, -2]] * values[[-1, -2]].clamp_min(0).sqrt()
    unit = inner[0].double().mean().sqrt()
    order = choices.match(inner, plan.keep).rows[0]
    others = noise[0, :-1].topk(plan.keep).indices
    last = plan.width * job.classes + job.classes
    counts = torch.arange(1, draws + 1)
    parts = []
    for method in AVERAGED:
        found = gradients(at, choices.choose(method, at.points, plan.keep, noise, plan.beta))[:, -last:]
        running = found.cumsum(0) / counts[:, None]
        off = (running - at.whole[-last:]).norm(dim=1) / at.whole[-last:].norm()
        parts.append(pd.DataFrame({"method": method, "n": counts.tolist(), "off": off.tolist()}))
    place = place / unit
    return Minibatch(
        place.numpy(), place.mean(0).numpy(), order.tolist(), others.tolist(), pd.concat(parts, ignore_index=True),
        distances(inner[0], order), distances(inner[0], others),
    )  # fmt: skip


def distances(inner: Float[Tensor, "b b"], rows: Tensor) -> Float[np.ndarray, " k"]:
    """|mean of the first m of these rows - mean of all| / |mean of all| for m = 1 to k, in the whole space."""
    target, whole = inner.mean(1), inner.mean()
    found = []
    for m in range(1, len(rows) + 1):
        part = rows[:m]
        square = inner[part][:, part].mean() - 2 * target[part].mean() + whole
        found.append((square.clamp_min(0) / whole).sqrt().item())
    return np.array(found)
