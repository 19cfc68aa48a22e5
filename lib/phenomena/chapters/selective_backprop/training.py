"""Training of every arm, rate and seed at once, each step on the points that the arm's method chooses.

Letters: a arms (a method at a learning rate), s seeds, b points of a minibatch, k chosen, p parameters, t steps,
e evaluated steps, n rows of the data, d features, c classes, m training rows of a seed, q test rows, u random numbers.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from phenomena.chapters.selective_backprop import choices, networks
from phenomena.chapters.selective_backprop.choices import Chosen, Method, Points
from phenomena.science.datasets import Dataset
from phenomena.science.label_noise import corrupt_evenly

# Two controls: greedy matching with its mean error taken off, and random points with that error added.
Arm = Method | Literal["corrected", "biased"]
CONTROLS = ("corrected", "biased")
FORGETTING = 0.05  # weight of a step in the running mean of matching's error: that of some 20 steps

MOMENTUM = 0.9
LEAST_HELD_OUT, MOST_HELD_OUT = 100, 2000  # training rows on which rates are chosen
MOST_TEST = 2000  # test rows that networks are judged on
BUFFER = 4  # minibatches whose losses make the CDF of Selective-Backprop
ROWS, NOISE, START, BATCHES, CHOICES = range(5)  # streams of random numbers


@dataclass(frozen=True)
class Task:
    """Training rows and labels of every seed, and the rows on which networks are judged.

    x: all inputs. rows: the seed's training rows of x. y: their labels. wrong: whether they were changed.
    """

    x: Float[Tensor, "n d"]
    rows: Int[Tensor, "s m"]
    y: Int[Tensor, "s m"]
    wrong: Bool[Tensor, "s m"]
    x_test: Float[Tensor, "q d"]
    y_test: Int[Tensor, " q"]
    classes: int
    seeds: tuple[int, ...]


@dataclass(frozen=True)
class Plan:
    """How long and on what: k of b points a step, from `begin` to `end` of training by the method, at random else."""

    steps: int
    batch: int
    keep: int
    width: int
    beta: float | None = None
    begin: float = 0.0
    end: float = 1.0

    def chooses(self, step: int) -> bool:
        """Whether the points of this step, from 0, are chosen."""
        return self.begin * self.steps <= step < self.end * self.steps


class Trained(NamedTuple):
    """Of every arm and seed: accuracy on the test rows at the evaluated steps, share of wrong labels among the chosen
    points, and parameters at these steps."""

    accuracy: Float[np.ndarray, "e a s"]
    wrong: Float[np.ndarray, "a s"]
    flat: Float[Tensor, "e a s p"]


def generator(seed: int, stream: int) -> torch.Generator:
    """Streams of one seed, or of two, have nothing to do with each other."""
    state = np.random.SeedSequence([seed, stream]).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state[0]))


def check(data: Dataset, points: int) -> None:
    """Raises `ValueError` for labels of one class, or so many points that fewer than 100 training rows are left."""
    if len(data.y_train.unique()) < 2:
        raise ValueError("the labels are of one class: must be of two or more, or there is nothing to learn")
    n = len(data.y_train)
    if not 0 < points <= n - LEAST_HELD_OUT:
        raise ValueError(f"{points} training points of {n}: must leave {LEAST_HELD_OUT} or more, to choose rates on")


def standardized(data: Dataset) -> Dataset:
    """Rows (n, d) with the mean of the training rows taken off, divided by one standard deviation."""
    x, x_test = data.x_train.flatten(1), data.x_test.flatten(1)
    mean, spread = x.mean(0), x.std()  # one spread for all: pixels at the edge stay small
    return replace(data, x_train=(x - mean) / spread, x_test=(x_test - mean) / spread)


def task(data: Dataset, points: int, noise: float, seeds: Sequence[int], hold_out: bool = False) -> Task:
    """Every seed draws its training rows, and the rows of each class whose labels are wrong, a share `noise` of them.

    hold_out: networks are judged not on test rows, but on the last training rows, 2,000 or what the points leave, which
        no seed trains on: test rows remain unseen where rates are chosen.

    Raises `ValueError` as `check` does.
    """
    check(data, points)
    n = len(data.y_train)
    last = n - min(MOST_HELD_OUT, n - points) if hold_out else n
    rows = torch.stack([torch.randperm(last, generator=generator(seed, ROWS))[:points] for seed in seeds])
    clean = data.y_train[rows]
    y = torch.stack([
        corrupt_evenly(labels, noise, data.classes, generator(seed, NOISE))
        for labels, seed in zip(clean, seeds, strict=True)
    ])  # fmt: skip
    x, x_test = data.x_train.flatten(1), data.x_test.flatten(1)  # views: tasks share the rows
    judged = (x[last:], data.y_train[last:]) if hold_out else (x_test[:MOST_TEST], data.y_test[:MOST_TEST])
    return Task(x, rows, y, y != clean, *judged, data.classes, tuple(seeds))


def train(job: Task, arms: Sequence[tuple[Arm, Sequence[float]]], plan: Plan, at: Sequence[int] = ()) -> Trained:
    """SGD with momentum 0.9 and a rate that falls to 0 as a cosine; all arms of a seed start alike and see the same
    minibatches.

    arms: method and, for every seed, the learning rate. Those of "random" and "full" must not be mixed with others: the
        first take the first k of every minibatch, without a forward pass of the rest. "corrected" is greedy matching
        with its error taken off, "biased" is random points with it put on; its error is the running mean of what it
        makes of minibatches less their gradient, at the arm's own weights.
    at: steps, increasing, from 0 to the last, after which networks are judged and kept; by default the last alone.

    Raises `ValueError` for such a mix, and for steps that do not increase or lie outside training.
    """
    s, d, c = len(job.seeds), job.x.shape[1], job.classes
    methods = [method for method, _ in arms]
    chooses = not {"random", "full"} & set(methods)
    if not chooses and len(set(methods)) > 1:
        raise ValueError(f"methods {', '.join(methods)}: random and full are trained by themselves")
    chosen_at = list(at) or [plan.steps]
    if chosen_at != sorted(set(chosen_at)) or not 0 <= chosen_at[0] <= chosen_at[-1] <= plan.steps:
        raise ValueError(f"networks are kept after steps {chosen_at}: must increase, from 0 to {plan.steps} at most")
    b = plan.keep if methods[0] == "random" else plan.batch
    k = plan.keep if chooses else b
    start = torch.stack([networks.initial(d, plan.width, c, generator(seed, START)) for seed in job.seeds])
    flat = start.expand(len(arms), *start.shape).contiguous()
    slopes, speed = torch.zeros_like(flat), torch.zeros_like(flat)
    net, out = networks.views(flat, d, plan.width, c), networks.views(slopes, d, plan.width, c)
    controls = [a for a, method in enumerate(methods) if method in CONTROLS]
    corrected = torch.tensor([methods[a] == "corrected" for a in controls])[:, None, None]
    lacking = torch.zeros_like(slopes[controls])
    rates = torch.tensor([rate for _, rate in arms])[..., None]
    batches, noise = _draws(job, plan)
    seed_of = torch.arange(s)[:, None]
    recent = torch.zeros(0)
    found, kept, wrong = [], [], torch.zeros(len(arms), s)
    for t in range(plan.steps + 1):
        if t in chosen_at:
            kept.append(flat.clone())
            found.append(accuracy(net, job))
        if t == plan.steps:
            break
        index = batches[t, :, :b].long()
        x, onehot = job.x[job.rows[seed_of, index]], torch.eye(c)[job.y[seed_of, index]]
        passed = networks.forward(net, x)
        loss, slope = networks.errors(passed.logits, onehot)
        mistaken = job.wrong[seed_of, index].expand(len(arms), s, b)
        minibatch = x, passed, slope
        if chooses:
            recent = torch.cat([recent, loss], -1)[..., -BUFFER * b :] if t else loss
            if plan.chooses(t):
                rows, weights = _choose(methods, loss, recent, slope, passed.second, k, noise[t], plan.beta)
            else:
                rows, weights = torch.arange(k).expand(len(arms), s, k), torch.ones(len(arms), s, k)
            take = (torch.arange(len(arms) * s)[:, None] * b + rows.reshape(-1, k)).flatten()
            passed = networks.Pass(*(part.flatten(0, 2)[take].view(len(arms), s, k, -1) for part in passed))
            slope = slope.flatten(0, 2)[take].view(len(arms), s, k, c) * weights[..., None]
            x = x[seed_of, rows]
            mistaken = mistaken.gather(2, rows)
        wrong += mistaken.float().mean(2)
        networks.backward(net, x, passed, slope / k, out)
        if controls and plan.chooses(t):
            whole, some = (_first(net, controls, minibatch, count) for count in (b, k))
            matched = slopes[controls]
            lacking.lerp_(whole - matched, FORGETTING)
            slopes[controls] = torch.where(corrected, matched + lacking, some - lacking)
        speed.mul_(MOMENTUM).add_(slopes)
        flat.addcmul_(speed, rates, value=-(1 + math.cos(math.pi * t / plan.steps)) / 2)
    return Trained(np.stack(found), (wrong / plan.steps).numpy(), torch.stack(kept))


def _first(
    net: networks.Net, arms: list[int], minibatch: tuple[Tensor, networks.Pass, Tensor], count: int
) -> Float[Tensor, "a s p"]:
    """The gradient of some arms on the first points of the minibatches: the whole, or a random part."""
    x, passed, slope = minibatch
    own = networks.Net(*(part[arms] for part in net))
    part = networks.Pass(*(values[arms, :, :count] for values in passed))
    shape = x.shape[2], own.w2.shape[-1], slope.shape[-1]
    out = torch.empty(len(arms), len(x), networks.parameters(*shape))
    networks.backward(own, x[:, :count], part, slope[arms, :, :count] / count, networks.views(out, *shape))
    return out


def _choose(
    methods: Sequence[Arm], loss: Tensor, recent: Tensor, slope: Tensor, hidden: Tensor, k: int, noise: Tensor,
    beta: float | None,
) -> tuple[Int[Tensor, "a s k"], Float[Tensor, "a s k"]]:  # fmt: skip
    """Every arm's choice; arms of one method that stand side by side at once. Both controls choose as matching does."""
    made: list[Chosen] = []
    begin = 0
    for method, group in groupby("match" if method in CONTROLS else method for method in methods):
        count = len(list(group))
        part = slice(begin, begin + count)
        lost, error, last = (values[part].flatten(0, 1) for values in (loss, slope, hidden))
        ranks = choices.cdf(recent[part].flatten(0, 1), lost) if method == "sb" else lost
        made.append(choices.choose(method, Points(lost, ranks, error, last), k, noise.repeat(count, 1), beta))
        begin += count
    shape = (len(methods), -1, k)
    return torch.cat([chosen.rows for chosen in made]).view(shape), torch.cat([c.weights for c in made]).view(shape)


def _draws(job: Task, plan: Plan) -> tuple[Int[Tensor, "t s b"], Float[Tensor, "t s u"]]:
    """Minibatches and the noise of choices, the same for all arms of a seed."""
    m, shape = job.rows.shape[1], (plan.steps, plan.batch)
    batches = [torch.randint(m, shape, generator=generator(seed, BATCHES), dtype=torch.int32) for seed in job.seeds]
    noise = [torch.rand(shape[0], shape[1] + 1, generator=generator(seed, CHOICES)) for seed in job.seeds]
    return torch.stack(batches, 1), torch.stack(noise, 1)


def accuracy(net: networks.Net, job: Task) -> Float[np.ndarray, "a s"]:
    """Share of the judged rows that are classified rightly; of a network that has diverged, that of class 0."""
    predicted = networks.forward(net, job.x_test).logits.argmax(-1)
    return (predicted == job.y_test).double().mean(-1).numpy()
