"""The chapter's experiments: seeds and parameters in, tidy frames out. Every seed has generators of its own."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int

from phenomena.chapters.influence import convex, estimators, networks, retraining
from phenomena.chapters.influence.networks import Perceptrons, Training
from phenomena.chapters.influence.samples import Learner, Model, Sample

Array = np.ndarray
# streams of random numbers, one for each use
SUBSETS, RETRAIN, AGAIN, MODELS, FIXED, PROJECT, NOISE, LEFT, CONVEX, GROUPS, PLANE, LINE = range(1, 13)
PENALTY, SHARE = 100.0, 0.1  # of the datamodels, chosen in trials with seeds 900 to 902
RIDGE = 0.1  # of TRAK, over the mean squared norm of a gradient
DAMPINGS = (0.01, 0.1, 1.0, 10.0, 100.0)  # of the sweep, times the plan's
DECAYS = (0.0, 0.01)  # of deep networks
CONVEX_DECAY = 0.01  # of softmax regression
SIZED = ("one Newton step", "influence")  # methods whose scores are in units of the loss
LEFT_OUT = 40  # samples that are left out one by one


def stream(seed: int, *which: int) -> int:
    """A seed of its own for each stream of random numbers of a seed.

    >>> stream(0, SUBSETS) != stream(0, RETRAIN)
    True
    """
    return int(np.random.SeedSequence([seed, *which]).generate_state(1, np.uint64)[0] >> 1)


@dataclass(frozen=True)
class Plan:
    """How much is trained and how it is read.

    retrainings: on random subsets of a fraction of the samples; the last quarter judges. models: trained on all
    samples. damping: of influence functions, weight decay included. projections: of TRAK.
    """

    retrainings: int
    fraction: float
    models: int
    damping: float
    projections: int


# --- subsets, retrainings and estimates -------------------------------------------------------------------------------


class Trained(NamedTuple):
    """Of one seed: the retrainings on subsets, the networks trained on everything, and how many subsets judge.

    again: goals of a second training on the subsets that judge, from other starts.
    """

    sample: Sample
    rows: Int[torch.Tensor, "r b"]
    there: Bool[Array, "r n"]
    goals: Float[Array, "r m"]
    hits: Bool[Array, "r n"]
    hits_test: Bool[Array, "r m"]
    again: Float[Array, "j m"]
    models: list[Model]
    judged: int

    def lds(self, scores: Float[Array, "n m"]) -> float:
        """`retraining.lds` on the judging subsets, which no datamodel has seen."""
        return retraining.lds(scores, self.there[-self.judged :], self.goals[-self.judged :])

    def ceiling(self) -> float:
        """`retraining.ceiling` of the judging subsets."""
        return retraining.ceiling(self.goals[-self.judged :], self.again)


def trained(sample: Sample, learner: Learner, plan: Plan, seed: int, all_judge: bool = False) -> Trained:
    """Retrains on random subsets, of which the last quarter, or all, is kept for judging, and on everything."""
    n = len(sample.y)
    generator = torch.Generator().manual_seed(stream(seed, SUBSETS))
    index = retraining.subsets(plan.retrainings, n, round(plan.fraction * n), generator)
    judged = plan.retrainings if all_judge else max(3, plan.retrainings // 4)
    first = learner.retrain(sample, index, stream(seed, RETRAIN))
    again = learner.retrain(sample, index[-judged:], stream(seed, AGAIN)).goals
    everything = learner.models(sample, plan.models, stream(seed, MODELS))
    return Trained(sample, index, retraining.membership(index, n), *first, again, everything, judged)


def first_order(models: Sequence[Model]) -> dict[str, Array]:
    """Scores (n, m) of the methods that use gradients or features as they are, means over the models."""
    dot = [estimators.gradient_dot(a.loss, a.goal) for a in models]
    cosine = [estimators.gradient_cosine(a.loss, a.goal) for a in models]
    way = [a.tracin for a in models]
    return {k: retraining.mean_of(v) for k, v in (("TracIn", way), ("dot", dot), ("cosine", cosine))}


def from_features(models: Sequence[Model], sample: Sample) -> dict[str, Array]:
    """Representer points, and the control that looks at classes and features alone."""
    points, same = [], []
    sign = 2.0 * (sample.y[:, None] == sample.y_test) - 1
    for a in models:
        slope = networks.loss_slope(a.logits, sample.y)
        points.append(estimators.representer(a.features, slope, a.features_test, sample.y_test))
        same.append(sign * (F.normalize(a.features, dim=1) @ F.normalize(a.features_test, dim=1).T))
    return {"representer": retraining.mean_of(points), "same class": retraining.mean_of(same)}


def trak(models: Sequence[Model], sample: Sample, k: int | None, seed: int = 0, divided: bool = False) -> Array:
    """TRAK with k projections, or of whole gradients with a ridge where k is None. divided: see `estimators.trak`."""
    parts, doubts = [], []
    for number, a in enumerate(models):
        p = a.logits.softmax(1).gather(1, sample.y[:, None])[:, 0]
        doubts.append(1 - p)
        if k is None:
            ridge = RIDGE * a.margin.square().sum(1).mean().item()
            parts.append(estimators.trak(a.margin.double(), a.goal.double(), ridge, kernel=True))
        else:
            own = stream(seed, PROJECT, number)
            a_k, t_k = (estimators.project(g.double(), k, own) for g in (a.margin, a.goal))
            parts.append(estimators.trak(a_k, t_k, divided=divided))
    return estimators.trak_scores(parts, doubts).double().numpy()


def from_retrainings(t: Trained, count: int | None = None) -> dict[str, Array]:
    """Datamodels and Banzhaf's values from the first of the subsets that do not judge."""
    count = len(t.there) - t.judged if count is None else count
    there, goals = t.there[:count], t.goals[:count]
    return {
        "datamodel, ridge": retraining.datamodel(there, goals, PENALTY),
        "datamodel, LASSO": retraining.datamodel_lasso(there, goals, SHARE),
        "Banzhaf": np.nan_to_num(retraining.in_less_out(goals, there)),
    }


class Scores(NamedTuple):
    """Scores (n, m) by method, positive where a sample helps; suspicion (n,) of a wrong label by detector.

    divided: of TRAK with projections, as the official code weights its models. single: influence functions of each
    model.
    """

    scores: dict[str, Array]
    suspicion: dict[str, Array]
    divided: Array
    single: list[torch.Tensor]


def scores(t: Trained, plan: Plan, seed: int) -> Scores:
    """Every method on one seed's networks and retrainings."""
    sample, n = t.sample, len(t.sample.y)
    found = [estimators.influence(a.found(), plan.damping) for a in t.models]
    noise = np.random.default_rng(stream(seed, NOISE))
    shapley = from_neighbors(sample)
    by_method = {
        "influence": retraining.mean_of([f.scores for f in found]),
        "influence, one model": found[0].scores.double().numpy(),
        "TRAK, ridge": trak(t.models, sample, None),
        "TRAK, one model": trak(t.models[:1], sample, None),
        "TRAK, projected": trak(t.models, sample, plan.projections, seed),
        **from_retrainings(t),
        **first_order(t.models),
        **from_features(t.models, sample),
        "kNN-Shapley": shapley,
        "random": noise.standard_normal((n, len(sample.y_test))),
    }
    useful = t.hits_test.mean(1)  # test accuracy
    suspicion = {
        "self-influence": retraining.mean_of([f.own for f in found]),
        "TracIn, self": retraining.mean_of([a.tracin_self for a in t.models]),
        "loss": retraining.mean_of([_loss(a.logits, sample) for a in t.models]),
        "loss, early": retraining.mean_of([_loss(a.early, sample) for a in t.models]),
        "memorization": np.nan_to_num(retraining.memorization(t.hits, t.there)),
        "Banzhaf of accuracy": -np.nan_to_num(retraining.in_less_out(useful, t.there)),
        "kNN-Shapley, mean": -shapley.mean(1),
        "random": noise.standard_normal(n),
    }
    divided = trak(t.models, sample, plan.projections, seed, divided=True)
    return Scores(by_method, suspicion, divided, [f.scores for f in found])


def _loss(logits: torch.Tensor, sample: Sample) -> torch.Tensor:
    return F.cross_entropy(logits, sample.y, reduction="none")


def from_neighbors(sample: Sample, k: int = 5) -> Array:
    """kNN-Shapley in pixels."""
    flat = [x.flatten(1).double() for x in (sample.x, sample.x_test)]
    return retraining.knn_shapley(flat[0], sample.y, flat[1], sample.y_test, k).numpy()


def judged(t: Trained, found: Scores, seed: int) -> pd.DataFrame:
    """How every method does: seed, kind ("lds", "ceiling", "divided", "auc", "memorized", ...), method, value."""
    memory = found.suspicion["memorization"]
    own = retraining.spearman(found.suspicion["self-influence"][:, None], memory[:, None]).item()
    rows = [(seed, "lds", method, t.lds(value)) for method, value in found.scores.items()]
    rows += [(seed, "auc", name, retraining.auc(v, t.sample.wrong)) for name, v in found.suspicion.items()]
    for name, which in (("wrong labels", t.sample.wrong), ("right labels", ~t.sample.wrong)):
        rows.append((seed, "memorized", name, memory[which].mean() if which.any() else np.nan))
    rows += [(seed, "accuracy", "halves", t.hits_test.mean()), (seed, "rank", "memorization", own)]
    rows += [(seed, "ceiling", "retraining", t.ceiling()), (seed, "divided", "TRAK, projected", t.lds(found.divided))]
    return pd.DataFrame(rows, columns=["seed", "kind", "method", "value"])


def costs(t: Trained, single: Sequence[torch.Tensor], seed: int) -> pd.DataFrame:
    """LDS against the number of trainings that a method asks for: seed, method, trainings, value.

    Influence functions and TRAK with 1, 2 and all models, datamodels with a sixth, a third and all of the retrainings
    that do not judge.
    """
    rows = []
    for k in sorted({1, 2, len(single)} & set(range(1, len(single) + 1))):
        rows.append((seed, "influence", k, t.lds(retraining.mean_of(single[:k]))))
        rows.append((seed, "TRAK, ridge", k, t.lds(trak(t.models[:k], t.sample, None))))
    most = len(t.there) - t.judged
    for k in sorted({max(2, most // 6), max(2, most // 3), most}):
        found = from_retrainings(t, k)
        rows += [(seed, method, k, t.lds(found[method])) for method in ("datamodel, ridge", "datamodel, LASSO")]
    return pd.DataFrame(rows, columns=["seed", "method", "trainings", "value"])


def damped(t: Trained, dampings: Sequence[float], seed: int) -> pd.DataFrame:
    """LDS of influence functions of one model at every damping: seed, damping, value."""
    found = t.models[0].found()
    rows = [(seed, d, t.lds(estimators.influence(found, d).scores.double().numpy())) for d in dampings]
    return pd.DataFrame(rows, columns=["seed", "damping", "value"])


def starts(t: Trained, learner: Learner, plan: Plan, seed: int) -> pd.DataFrame:
    """LDS of one model where all networks begin alike ("fixed") or each anew ("random"): seed, start, method, value.

    Both are judged on the same subsets, those that judge elsewhere. t: with random starts.
    """
    begun = stream(seed, FIXED)
    goals = learner.retrain(t.sample, t.rows[-t.judged :], begun, fixed=True).goals
    alike = t._replace(goals=goals, there=t.there[-t.judged :], models=learner.models(t.sample, 1, begun, fixed=True))
    rows = []
    for start, each in (("fixed", alike), ("random", t._replace(models=t.models[:1]))):
        found = estimators.influence(each.models[0].found(), plan.damping).scores.double().numpy()
        values = {"influence": found, "TRAK, ridge": trak(each.models, t.sample, None), **first_order(each.models)}
        rows += [(seed, start, method, each.lds(value)) for method, value in values.items()]
    return pd.DataFrame(rows, columns=["seed", "start", "method", "value"])


class Findings(NamedTuple):
    """Frames of one seed or of several: `judged`, and of the side studies `costs`, `damped` and `starts`."""

    judged: pd.DataFrame
    costs: pd.DataFrame
    damped: pd.DataFrame
    starts: pd.DataFrame


def investigate(sample: Sample, learner: Learner, plan: Plan, seed: int, side: bool) -> tuple[Findings, Scores]:
    """Retrains, estimates and judges on one seed. side: with the side studies, empty frames otherwise."""
    t = trained(sample, learner, plan, seed)
    found = scores(t, plan, seed)
    empty = pd.DataFrame()
    if not side:
        return Findings(judged(t, found, seed), empty, empty, empty), found
    dampings = [plan.damping * factor for factor in DAMPINGS]
    parts = costs(t, found.single, seed), damped(t, dampings, seed), starts(t, learner, plan, seed)
    return Findings(judged(t, found, seed), *parts), found


def joined(parts: Iterable[Findings]) -> Findings:
    """The frames of all seeds."""
    return Findings(*(pd.concat(frames, ignore_index=True) for frames in zip(*parts, strict=True)))


def fragile(
    samples: Sequence[Sample], seeds: Sequence[int], training: Training, plan: Plan, depths: Sequence[int]
) -> pd.DataFrame:
    """LDS of influence functions and of gradient dot in networks of several depths, without and with weight decay.

    A quarter of the plan's retrainings, all of which judge, and at most three models. The method "ceiling" is what no
    score surpasses, as retraining is random, "kept" the LDS of influence functions over it. Returns seed, depth, decay,
    method, value.
    """
    rows = []
    few = replace(plan, retrainings=max(3, plan.retrainings // 4), models=min(3, plan.models))
    for seed, sample in zip(seeds, samples, strict=True):
        for depth in depths:
            for decay in DECAYS:
                learner = Perceptrons(replace(training, hidden=training.hidden[-1:] * depth, decay=decay))
                t = trained(sample, learner, few, seed, all_judge=True)
                damping = plan.damping - training.decay + decay
                found = [estimators.influence(a.found(), damping).scores for a in t.models]
                dot = [estimators.gradient_dot(a.loss, a.goal) for a in t.models]
                values = {"influence": retraining.mean_of(found), "dot": retraining.mean_of(dot)}
                rows += [(seed, depth, decay, method, t.lds(value)) for method, value in values.items()]
                top = t.ceiling()
                kept = t.lds(values["influence"]) / top if top else np.nan
                rows += [(seed, depth, decay, "ceiling", top), (seed, depth, decay, "kept", kept)]
    return pd.DataFrame(rows, columns=["seed", "depth", "decay", "method", "value"])


def warm_or_cold(samples: Sequence[Sample], seeds: Sequence[int], training: Training, damping: float) -> pd.DataFrame:
    """Spearman, over single samples left out, of influence functions with three kinds of retraining.

    "warm": further training from the end, without the sample; "cold": training again from the same start;
    "elsewhere": from another start. Each less the same training with all samples. Returns seed, retraining, value, and
    size: the mean absolute change of a margin.
    """
    rows = []
    for seed, sample in zip(seeds, samples, strict=True):
        learner, n = Perceptrons(training), len(sample.y)
        x, x_test = sample.x.flatten(1), networks.with_ones(sample.x_test.flatten(1))
        (model,) = learner.models(sample, 1, stream(seed, MODELS))
        generator = torch.Generator().manual_seed(stream(seed, LEFT))
        out = torch.randperm(n, generator=generator)[:LEFT_OUT]
        everything = torch.arange(n)[None]
        rest = torch.stack([everything[0][everything[0] != i] for i in out])
        one = learner.start(sample, 1, stream(seed, MODELS))
        end, _ = networks.train(x, sample.y, everything, one, training)
        others = learner.start(sample, len(out), stream(seed, RETRAIN))
        starts = {"warm": (end, end), "cold": (one, one), "elsewhere": (one, others)}
        found = estimators.influence(model.found(), damping).scores.double().numpy()[out.numpy()]
        for name, (base, start) in starts.items():
            many = [w.expand(len(out), -1, -1).contiguous() for w in start]
            with_all, _ = networks.train(x, sample.y, everything, base, training)
            without, _ = networks.train(x, sample.y, rest, many, training)
            before, after = (networks.margins(w, x_test, sample.y_test).double().numpy() for w in (with_all, without))
            moved = before - after
            rows.append((seed, name, float(retraining.spearman(found, moved).mean()), np.abs(moved).mean()))
    return pd.DataFrame(rows, columns=["seed", "retraining", "value", "size"])


# --- the convex case --------------------------------------------------------------------------------------------------


class Convex(NamedTuple):
    """Softmax regression of one seed in principal components, with its optimum and all optima without one sample.

    removed: by how much the loss of each test sample rises when each training sample is removed, positive where it
    helps, as for all scores.
    """

    z: Float[Array, "n d"]
    y: Int[Array, " n"]
    z_test: Float[Array, "m d"]
    y_test: Int[Array, " m"]
    w: Float[Array, "d c"]
    removed: Float[Array, "n m"]


def convex_case(sample: Sample, dims: int, decay: float = CONVEX_DECAY) -> Convex:
    """Fits softmax regression and leaves out every sample in turn."""
    x, x_test = (rows.flatten(1).double().numpy() for rows in (sample.x, sample.x_test))
    mean = x.mean(0)
    axes = np.linalg.svd(x - mean, full_matrices=False)[2][:dims]
    z, z_test = (np.c_[(rows - mean) @ axes.T, np.ones(len(rows))] for rows in (x, x_test))
    y, y_test = sample.y.numpy(), sample.y_test.numpy()
    w = convex.fit(z, y, sample.classes, decay)
    without = convex.leave_one_out(z, y, w, decay)
    removed = convex.losses(z_test, y_test, without) - convex.losses(z_test, y_test, w)
    return Convex(z, y, z_test, y_test, w, removed)


def convex_scores(case: Convex, seed: int, decay: float = CONVEX_DECAY) -> dict[str, Array]:
    """Scores (n, m) by method on softmax regression, positive where a sample helps."""
    z, y, t, y_test, w = case[:5]
    g, goal = convex.gradients(z, y, w), -convex.gradients(t, y_test, w)
    one, other, slope = (torch.from_numpy(v) for v in (g, goal, convex.slopes(z, y, w)))
    features, test = torch.from_numpy(z), torch.from_numpy(t)
    moved = convex.newton_step(z, y, w, decay)
    return {
        "one Newton step": convex.losses(t, y_test, w + moved) - convex.losses(t, y_test, w),
        "influence": -convex.influence(z, y, w, decay).reshape(len(z), -1) @ goal.T,
        "dot": estimators.gradient_dot(one, other).numpy() / len(z),
        "cosine": estimators.gradient_cosine(one, other).numpy(),
        "representer": estimators.representer(features, slope, test, torch.from_numpy(y_test)).numpy(),
        "random": np.random.default_rng(stream(seed, CONVEX)).standard_normal(case.removed.shape),
    }


def convex_judged(cases: Sequence[Convex], seeds: Sequence[int], decay: float = CONVEX_DECAY) -> pd.DataFrame:
    """Spearman with exact leave-one-out, over samples, and the slope of exact on estimated effects.

    Returns seed, method, spearman (mean over test samples), slope (of one line through zero for all effects; nan for
    methods whose scores have other units).
    """
    rows = []
    for seed, case in zip(seeds, cases, strict=True):
        for method, value in convex_scores(case, seed, decay).items():
            rank = retraining.spearman(value, case.removed).mean()
            slope = (value * case.removed).sum() / (value**2).sum() if method in SIZED else np.nan
            rows.append((seed, method, rank, slope))
    return pd.DataFrame(rows, columns=["seed", "method", "spearman", "slope"])


def groups(cases: Sequence[Convex], seeds: Sequence[int], decay: float = CONVEX_DECAY, size: int = 20) -> pd.DataFrame:
    """Removing groups of samples together, against the sum of removing each: of one class, or drawn from all.

    A row for each group and test sample: seed, kind, group, test, true, summed (exact leave-one-out), estimated (sum
    of influence functions). A class has one group of its first `size` samples in random order, or fewer.
    """
    frames = []
    for seed, case in zip(seeds, cases, strict=True):
        z, y, t, y_test, w = case[:5]
        draw, classes = np.random.default_rng(stream(seed, GROUPS)), w.shape[1]
        estimated = convex_scores(case, seed, decay)["influence"]
        base = convex.losses(t, y_test, w)
        for kind in ("one class", "random"):
            for group in range(classes):
                pool = np.flatnonzero(y == group) if kind == "one class" else np.arange(len(z))
                rows = draw.permutation(pool)[:size]
                weights = np.ones(len(z))
                weights[rows] = 0
                without = convex.fit(z, y, classes, decay, weights, w)
                effects = {
                    "true": convex.losses(t, y_test, without) - base,
                    "summed": case.removed[rows].sum(0),
                    "estimated": estimated[rows].sum(0),
                }
                place = {"seed": seed, "kind": kind, "group": group, "test": range(len(y_test))}
                frames.append(pd.DataFrame({**place, **effects}))
    return pd.concat(frames, ignore_index=True)


def group_ratios(frame: pd.DataFrame) -> pd.DataFrame:
    """Of `groups`: seed, kind, ratio (size of true over that of summed effects), rank (Spearman of sums with truth)."""
    rows = []
    for (seed, kind), part in frame.groupby(["seed", "kind"], sort=False):
        true, summed = part["true"].to_numpy(), part["summed"].to_numpy()
        rank = retraining.spearman(part[["estimated"]].to_numpy(), part[["true"]].to_numpy())[0]
        rows.append((seed, kind, np.abs(true).sum() / np.abs(summed).sum(), rank))
    return pd.DataFrame(rows, columns=["seed", "kind", "ratio", "rank"])


# --- the key figure, and the opening ----------------------------------------------------------------------------------


class Plane(NamedTuple):
    """Points of two classes, the line between them, and that line without each point: retrained and predicted.

    Lines are models (6, 2) on the features x, y, x², xy, y², 1. own: margins of each point on the class it is labeled
    with, by the model with it, without it, and as predicted.
    """

    points: Float[Array, "n 2"]
    y: Int[Array, " n"]
    w: Float[Array, "6 2"]
    without: Float[Array, "n 6 2"]
    predicted: Float[Array, "n 6 2"]
    own: Float[Array, "n 3"]


def quadratic(points: Float[Array, "n 2"]) -> Float[Array, "n 6"]:
    """x, y, x², xy, y², 1.

    >>> quadratic(np.array([[2.0, 3.0]])).tolist()
    [[2.0, 3.0, 4.0, 6.0, 9.0, 1.0]]
    """
    x, y = points.T
    return np.c_[x, y, x * x, x * y, y * y, np.ones(len(x))]


def plane(seed: int, n: int = 24, decay: float = 0.01) -> Plane:
    """Half of the points around (-1, 0), half around (1, 0), one of them with the wrong label."""
    noise = np.random.default_rng(stream(seed, PLANE))
    y = np.arange(n) % 2
    points = noise.normal(size=(n, 2)) * 0.75 + np.c_[2.0 * y - 1, np.zeros(n)]
    y = y.copy()
    y[np.argmin(points[:, 0])] = 1  # deep in the other class
    z = quadratic(points)
    w = convex.fit(z, y, 2, decay)
    without = convex.leave_one_out(z, y, w, decay)
    predicted = w + convex.influence(z, y, w, decay)
    own = [-np.log(np.expm1(convex.losses(z, y, v))) for v in (np.broadcast_to(w, without.shape), without, predicted)]
    each = np.arange(n)
    return Plane(points, y, w, without, predicted, np.stack([margins[each, each] for margins in own], 1))


def ridge_case(seeds: Sequence[int], n: int = 40, powers: int = 8, decay: float = 0.01) -> pd.DataFrame:
    """Noisy points of a sine, fitted by ridge regression on powers: seed, x, residual, closed, refitted, leverage.

    closed: e_i / (1 - h_i). refitted: the residual of a fit that has not seen the point.
    """
    frames = []
    for seed in seeds:
        noise = np.random.default_rng(stream(seed, LINE))
        x = np.sort(noise.uniform(-1, 1, n))
        y = np.sin(3 * x) + 0.3 * noise.normal(size=n)
        z = x[:, None] ** np.arange(powers)
        residual, closed = convex.ridge_leave_one_out(z, y, decay)
        refitted = []
        for i in range(n):
            rest = np.arange(n) != i
            gram = z[rest].T @ z[rest] + decay * np.eye(powers)
            refitted.append(y[i] - z[i] @ np.linalg.solve(gram, z[rest].T @ y[rest]))
        columns = {"x": x, "residual": residual, "closed": closed, "refitted": refitted}
        frames.append(pd.DataFrame({"seed": seed, **columns, "leverage": 1 - residual / closed}))
    return pd.concat(frames, ignore_index=True)


class Strip(NamedTuple):
    """Of a test sample: for each method the rows of the training samples that help and harm it most."""

    test: int
    helpful: dict[str, Int[Array, " k"]]
    harmful: dict[str, Int[Array, " k"]]


def strips(found: Scores, sample: Sample, methods: Sequence[str], k: int = 4) -> list[Strip]:
    """For the first test sample of each class that has one, the most helpful and harmful training samples."""
    result = []
    for label in range(sample.classes):
        there = (sample.y_test == label).nonzero().flatten().tolist()
        if there:
            orders = {method: np.argsort(-found.scores[method][:, there[0]], kind="stable") for method in methods}
            ends = ({m: o[:k] for m, o in orders.items()}, {m: o[::-1][:k] for m, o in orders.items()})
            result.append(Strip(there[0], *ends))
    return result


def validate(
    samples: int,
    subset: float,
    retrainings: int,
    projections: int,
    dims: int,
    depths: Sequence[int],
    models: int,
    hidden: Sequence[int],
    test_samples: int,
    convolutional: bool = False,
    enough_seeds: bool = True,
) -> None:
    """Raises `ValueError` for values with which the study cannot be run, as the rules of the chapter's yaml file do."""
    if not 0 < round(subset * samples) < samples:
        raise ValueError(f"subsets of {round(subset * samples)} of {samples} samples: must be 1 to {samples - 1}")
    if projections > samples:
        raise ValueError(f"{projections} projections of {samples} samples: must be at most {samples}")
    if retrainings // 4 < 3:
        raise ValueError(f"{retrainings} retrainings: a quarter of them judges, and a rank correlation needs 3")
    if dims < 1:
        raise ValueError(f"{dims} principal components: must be 1 or more")
    if len(set(depths)) != len(depths) or len(depths) < 2:
        raise ValueError(f"depths is {list(depths)}: must be two or more that differ")
    if not enough_seeds:
        raise ValueError("side_seeds is larger than seeds: side studies use the first of the seeds")
    most_units = max(sum(hidden), max(depths) * max(hidden))
    for number, most, what in (
        (retrainings * max(samples, test_samples), 10_000_000, "retrainings times samples"),
        (models * samples * most_units, 200_000, "models times samples times hidden units"),
        (samples * sum(hidden) * convolutional, 8000, "samples times channels"),
    ):
        if number > most:
            raise ValueError(f"{what} is {number}: must be at most {most}, or it takes gigabytes")


def check_classes(samples: int, classes: int) -> None:
    """Raises `ValueError` for a Gauss-Newton matrix of more than 400 MB: it has a row for each sample and class."""
    if samples * classes > 10_000:
        raise ValueError(f"{samples} samples of {classes} classes: their product must be at most 10000")
