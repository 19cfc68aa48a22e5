"""Task arithmetic (Ilharco et al. 2023): the studies, from fine-tuned networks to tidy frames.

Every study takes the networks of one seed (`fine_tuned`) and returns a frame with a column seed. Accuracies are on test
rows unless the column `part` says otherwise; coefficients are chosen on validation rows.

Letters: g coefficients, t tasks.
"""

import copy
import dataclasses
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, product
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float

from phenomena.chapters.task_arithmetic import efficientnet, finetuning, perceptron, suites, task_vectors, weights
from phenomena.chapters.task_arithmetic.evaluation import Answers, Evaluations
from phenomena.chapters.task_arithmetic.finetuning import Suite, Task, accuracy, fine_tune, split_classes
from phenomena.chapters.task_arithmetic.task_vectors import State, Vector, apply, difference
from phenomena.science import linalg, optimisers, training
from phenomena.science.frames import tidy

# what determines trained weights beside their data
CODE = (finetuning, perceptron, efficientnet, task_vectors, suites, training, optimisers, linalg)
FORGETTING = ("pre-trained", "fine-tuned", "gradient ascent", "random vector", "negated")

# --- fine-tuning ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Tuning:
    """Steps for each task and hyperparameters of `fine_tune`; cache: keep the weights in files and use those there."""

    steps: int
    lr: float
    batch: int
    weight_decay: float
    cache: bool = False


def trained(
    suite: Suite, tasks: Sequence[Task], seed: int, tuning: Tuning, *, ascent: bool = False, tangent: bool = False
) -> Vector:
    """The encoder's weights after `fine_tune`; the values are the same with and without the cache."""
    how: dict[str, Any] = {"lr": tuning.lr, "batch": tuning.batch, "weight_decay": tuning.weight_decay}

    def make() -> Vector:
        generator = torch.Generator().manual_seed(seed)
        return fine_tune(suite.encoder, tasks, tuning.steps, generator, **how, ascent=ascent, tangent=tangent)

    if not tuning.cache:
        return make()
    start = [*suite.encoder.parameters(), *suite.encoder.buffers()]
    content = weights.digest(CODE, [*start, *(part for task in tasks for part in (*task.train, task.head))])
    key = {"on": content, "seed": seed, "steps": tuning.steps, **how, "ascent": ascent, "tangent": tangent}
    return weights.cached(make, key, str(start[0].device))


def pretrained(suite: Suite, seed: int, tuning: Tuning) -> Suite:
    """The suite with a copy of its encoder that has been trained on the control's training rows."""
    encoder = copy.deepcopy(suite.encoder)
    encoder.load_state_dict(trained(suite, [suite.control], seed, tuning))
    return dataclasses.replace(suite, encoder=encoder)


@dataclass(frozen=True, eq=False)
class FineTuned:
    """A suite with the vector of every task, and the accuracy on it of the network fine-tuned on that task alone.

    answers: of edits by these vectors.
    """

    evaluations: Evaluations
    seed: int
    tuning: Tuning
    vectors: dict[str, Vector]
    answers: Answers
    accuracies: Float[np.ndarray, " t"]

    @property
    def suite(self) -> Suite:
        """The suite."""
        return self.evaluations.suite


def fine_tuned(suite: Suite, seed: int, tuning: Tuning, *, tangent: bool = False) -> FineTuned:
    """Fine-tunes the encoder on each task alone. tangent: its linearisation, which is then evaluated, too."""
    evaluations, vectors, accuracies = Evaluations(suite, tangent), {}, []
    for name, task in suite.tasks.items():
        vectors[name] = difference(trained(suite, [task], seed, tuning, tangent=tangent), suite.state)
        accuracies.append(evaluations.edited(vectors[name], 1.0, [task])[0])
    answers = evaluations.answers(list(vectors.values()))
    return FineTuned(evaluations, seed, tuning, vectors, answers, np.array(accuracies))


# --- choosing coefficients --------------------------------------------------------------------------------------------


def check_grid(grid: Sequence[float]) -> None:
    """Raises `ValueError` for a grid of coefficients without 0, which stands for no edit."""
    if 0.0 not in [float(c) for c in grid]:
        raise ValueError(f"coefficients {list(grid)} lack 0: without it a harmful edit could not be declined")


def best(grid: Sequence[float], scores: Float[np.ndarray, " g"]) -> float:
    """The coefficient of the highest score, the smallest of equal ones. Raises `ValueError` for a grid without 0."""
    check_grid(grid)
    top = max(scores)
    return min(c for c, score in zip(grid, scores, strict=True) if score == top)


def most_forgetful(
    grid: Sequence[float], target: Float[np.ndarray, " g"], control: Float[np.ndarray, " g"], floor: float = 0.95
) -> float:
    """The coefficient of least target accuracy that leaves the control a fraction `floor` of its accuracy at 0.

    Section 3; the smallest of equal ones. Raises `ValueError` for a grid without 0.
    """
    check_grid(grid)
    least = floor * control[[float(c) for c in grid].index(0.0)]
    allowed = [(t, c) for c, t, kept in zip(grid, target, control, strict=True) if kept >= least]
    return min(allowed)[1]


def subsets(count: int, size: int, at_most: int, generator: torch.Generator) -> list[tuple[int, ...]]:
    """All subsets of `size` among `count` tasks, or `at_most` of them drawn without replacement."""
    every = list(combinations(range(count), size))
    chosen = torch.randperm(len(every), generator=generator)[:at_most].sort().values
    return [every[int(i)] for i in chosen]


# --- two coefficients -------------------------------------------------------------------------------------------------


def two_tasks(suite: Suite) -> tuple[str, str]:
    """The first task, and the first one of another source; where there is none, the first two."""
    names = list(suite.tasks)
    others = [name for name in names if name.partition(", ")[0] != names[0].partition(", ")[0]]
    return names[0], others[0] if others else names[1]


def edits(networks: FineTuned, stops: Sequence[float]) -> pd.DataFrame:
    """Accuracy with the vectors of `two_tasks` added, each with a coefficient of its own.

    stops: values of a coefficient; 0 is always among them.
    Columns: seed, first, second (coefficients), task (one of the two, or "control"), accuracy.
    """
    suite, pair, stops = networks.suite, two_tasks(networks.suite), sorted({0.0, *stops})
    tasks = [*(suite.tasks[name] for name in pair), suite.control]
    answers = networks.evaluations.answers([networks.vectors[name] for name in pair])
    found = networks.evaluations.accuracies(answers, list(product(stops, stops)), tasks)
    axes: Mapping[str, Any] = {"seed": [networks.seed], "first": stops, "second": stops, "task": [*pair, "control"]}
    return tidy(found.reshape([len(part) for part in axes.values()]), "accuracy", **axes)


def edited_answers(networks: FineTuned, stops: Sequence[float], count: int = 2) -> pd.DataFrame:
    """Answers of the networks of `edits` to a few test rows of their two tasks.

    Of each task the first `count` rows that the pre-trained network answers right, then as many that it answers wrong.
    Columns: seed, first, second (coefficients), task, row (of the task's test rows), answer, label.
    """
    suite, pair, stops = networks.suite, two_tasks(networks.suite), sorted({0.0, *stops})
    answers, found = networks.evaluations.answers([networks.vectors[name] for name in pair]), []
    for name in pair:
        task, (x, y) = suite.tasks[name], suite.tasks[name].test
        right = answers([0.0, 0.0], task, "test") == y
        rows = torch.cat([right.nonzero()[:count, 0], (~right).nonzero()[:count, 0]])
        few = dataclasses.replace(task, test=(x[rows], y[rows]))
        axes: Mapping[str, Any] = {"seed": [networks.seed], "first": stops, "second": stops, "row": rows.tolist()}
        given = torch.stack([answers(c, few, "test") for c in product(stops, stops)])
        frame = tidy(given.view([len(part) for part in axes.values()]).cpu(), "answer", **axes)
        found.append(frame.assign(task=name, label=frame["row"].map(y.tolist().__getitem__)))
    return pd.concat(found, ignore_index=True)


# --- negation (section 3) ---------------------------------------------------------------------------------------------


def negation(networks: FineTuned, coefficients: Sequence[float], floor: float, *, ascent: bool) -> pd.DataFrame:
    """Accuracy on the task to forget and on the control, by task and method.

    floor: fraction of its accuracy that the control must keep; ascent: try gradient ascent, too.
    Columns: seed, task, method, part, coefficient (of the vector added), target, control. On test rows the methods are
    `FORGETTING`; on validation rows "task vector" goes along all coefficients and their negatives.
    """
    rows = []
    for i, name in enumerate(networks.vectors):
        generator = torch.Generator().manual_seed(1000 * networks.seed + i)
        for row in _forget(networks, name, coefficients, floor, generator, ascent):
            rows.append((networks.seed, name, *row))
    return pd.DataFrame(rows, columns=["seed", "task", "method", "part", "coefficient", "target", "control"])


def _forget(
    networks: FineTuned,
    name: str,
    coefficients: Sequence[float],
    floor: float,
    generator: torch.Generator,
    ascent: bool,
) -> list[tuple[str, str, float, float, float]]:
    """Method, part, coefficient, target and control accuracy for one task."""
    suite, tau, evaluations = networks.suite, networks.vectors[name], networks.evaluations
    both = [suite.tasks[name], suite.control]
    signed = sorted({*coefficients, *(-c for c in coefficients)})
    line = dict(zip(signed, evaluations.curve(tau, signed, both, "val"), strict=True))
    back = np.array([line[-c] for c in coefficients])
    noise = task_vectors.random_like(tau, generator)
    drift = evaluations.curve(noise, coefficients, both, "val")
    edits = {
        "pre-trained": (tau, 0.0),
        "fine-tuned": (tau, 1.0),
        "random vector": (noise, most_forgetful(coefficients, drift[:, 0], drift[:, 1], floor)),
        "negated": (tau, -most_forgetful(coefficients, back[:, 0], back[:, 1], floor)),
    }
    if ascent:
        up = trained(suite, both[:1], networks.seed, networks.tuning, ascent=True)
        edits["gradient ascent"] = difference(up, suite.state), 1.0
    tested = [(m, "test", c, evaluations.edited(v, c, both)) for m in FORGETTING if m in edits for v, c in [edits[m]]]
    along = [("task vector", "val", c, found) for c, found in line.items()]
    return [(method, part, c, target, control) for method, part, c, (target, control) in tested + along]


# --- addition (section 4) ---------------------------------------------------------------------------------------------


def _sums(
    networks: FineTuned, chosen: Sequence[int], grid: Sequence[float], part: str = "test"
) -> Float[np.ndarray, "g t"]:
    """Accuracies of sums of some of the networks' vectors on their tasks, along the coefficient."""
    tasks, edits = list(networks.suite.tasks.values()), np.zeros((len(grid), len(networks.vectors)))
    edits[:, list(chosen)] = np.array(grid)[:, None]
    return networks.evaluations.accuracies(networks.answers, edits.tolist(), [tasks[i] for i in chosen], part)


def normalised(accuracies: Float[np.ndarray, " t"], own: Float[np.ndarray, " t"]) -> float:
    """Mean over tasks of an edited network's accuracy by that of the task's own network; nan where that is 0."""
    return float(np.divide(accuracies, own, out=np.full_like(own, np.nan), where=own > 0).mean())


def _normalised(networks: FineTuned, chosen: Sequence[int], c: float) -> float:
    return normalised(_sums(networks, chosen, [c])[0], networks.accuracies[list(chosen)])


def addition(networks: FineTuned, coefficients: Sequence[float], *, at_most: int, tuning_subsets: int) -> pd.DataFrame:
    """Normalised accuracy of sums over subsets of each size, before ("pre-trained") and after adding ("sum").

    at_most: subsets of a size; tuning_subsets: how many of them choose the coefficient, one for all of a size.
    Columns: seed, size, sum, pre-trained, coefficient; a row a subset.
    """
    count, generator, rows = len(networks.vectors), torch.Generator().manual_seed(networks.seed), []
    for size in range(1, count + 1):
        drawn = subsets(count, size, at_most, generator)
        order = torch.randperm(len(drawn), generator=generator)[:tuning_subsets]
        scores = [_sums(networks, drawn[int(j)], coefficients, "val").mean(1) for j in order]
        c = best(coefficients, np.mean(scores, axis=0))
        for chosen in drawn:
            after, before = (_normalised(networks, chosen, k) for k in (c, 0.0))
            rows.append((networks.seed, size, after, before, c))
    return pd.DataFrame(rows, columns=["seed", "size", "sum", "pre-trained", "coefficient"])


def merging(
    networks: FineTuned,
    linear: FineTuned | None,
    coefficients: Sequence[float],
    *,
    density: float,
    drop: float,
    keep: float,
    rows: int,
    joint: bool,
) -> pd.DataFrame:
    """One network for all tasks, by how it was made; normalised by single networks of its own kind.

    linear: the same networks in tangent space, None to leave them out; density: fraction of entries that TIES keeps;
    drop: fraction that DARE drops; keep: fraction of the Gram matrices' off-diagonal that RegMean keeps; rows: training
    rows of each task that it sees; joint: train on all tasks jointly, too. Iso-C has up to three times larger
    coefficients to choose from as well.
    Columns: seed, method, accuracy, normalised, coefficient.
    """
    suite, seed, found = networks.suite, networks.seed, []
    tasks, vectors = list(suite.tasks.values()), list(networks.vectors.values())

    def add(method: str, vector: State, grid: Sequence[float] = coefficients, own: FineTuned = networks) -> None:
        c = best(grid, own.evaluations.curve(vector, grid, tasks, "val").mean(1))
        each = own.evaluations.edited(vector, c, tasks)
        found.append((seed, method, each.mean(), normalised(each, own.accuracies), c))

    # the mean of all singular values is small where a sum has few directions: without larger ones the last is chosen
    larger = [*coefficients, *(3 * c for c in coefficients if 3 * c > max(coefficients))]
    for method in task_vectors.METHODS:
        generator = torch.Generator().manual_seed(seed)
        vector = task_vectors.merge(vectors, method, density=density, drop=drop, generator=generator)
        add(method, vector, larger if method == "iso-c" else coefficients)
    inputs = (
        task_vectors.grams(suite.encoder, apply(suite.state, vector), task.train[0][:rows])
        for vector, task in zip(vectors, tasks, strict=True)
    )
    add("regmean", task_vectors.regmean(vectors, inputs, keep))
    add("pre-trained", vectors[0], [0.0])
    if joint:
        add("joint training", difference(trained(suite, tasks, seed, networks.tuning), suite.state))
    if linear:
        add("tangent space", task_vectors.add(*linear.vectors.values()), own=linear)
    return pd.DataFrame(found, columns=["seed", "method", "accuracy", "normalised", "coefficient"])


def favored(networks: FineTuned, merged: pd.DataFrame, *, density: float, weight: float) -> pd.DataFrame:
    """Accuracy on each task in turn with its vector weighing more than the others in TIES, at the coefficient of TIES.

    merged: what `merging` returned; weight: of the favored vector, where the others have 1.
    Columns: seed, task, equal (weights), mean (weighted, not the election), election (weighted, and the mean).
    """
    rows, vectors = [], list(networks.vectors.values())
    c, ones = float(merged.set_index("method")["coefficient"]["ties"]), [1.0] * len(vectors)
    equal = task_vectors.ties(vectors, density)
    for i, (name, task) in enumerate(networks.suite.tasks.items()):
        weights = [weight if i == j else 1.0 for j in range(len(vectors))]
        ways = [equal, *(task_vectors.ties(vectors, density, weights=weights, votes=votes) for votes in (ones, None))]
        rows.append((networks.seed, name, *(networks.evaluations.edited(v, c, [task])[0] for v in ways)))
    return pd.DataFrame(rows, columns=["seed", "task", "equal", "mean", "election"])


def cosines(networks: FineTuned) -> pd.DataFrame:
    """Columns: seed, first, second (tasks), cosine of their vectors."""
    names = list(networks.vectors)
    matrix = task_vectors.cosines(list(networks.vectors.values())).numpy()
    return tidy(matrix[None], "cosine", seed=[networks.seed], first=names, second=names)


def magnitudes(cosines: pd.DataFrame) -> pd.DataFrame:
    """Absolute cosines of different vectors. Columns: seed, mean, max."""
    different = cosines[cosines["first"] != cosines["second"]].groupby("seed")["cosine"]
    found = different.agg(mean=lambda c: np.abs(c.to_numpy()).mean(), max=lambda c: np.abs(c.to_numpy()).max())
    return found.reset_index()


# --- analogies (section 5) --------------------------------------------------------------------------------------------


def analogies(networks: FineTuned, coefficients: Sequence[float], subpopulations: int) -> pd.DataFrame:
    """Accuracy on d, never fine-tuned on, where a is to b as c is to d; none for a suite without analogies.

    Of kind "label set and domain" for every analogy of the suite; of kind "sub-population" for as many as asked for:
    lower and upper classes in two domains of one source, the last of them without its fine-tuning.
    Columns: kind, seed, task, pre-trained, analogy, coefficient, neighbour (the better of the vectors b and c alone, by
    validation rows), fine-tuned.
    """
    suite, seed, evaluations = networks.suite, networks.seed, networks.evaluations
    rows = []
    for *known, target in suite.analogies:
        vectors = [networks.vectors[name] for name in (*known, target)]
        found = _fourth_corner(evaluations, suite.tasks[target], vectors, coefficients)
        rows.append({"kind": "label set and domain", "seed": seed, "task": target, **found})
    for _, _, near, target in suite.analogies[:: max(1, len(suite.analogies) // 2)][:subpopulations]:
        parts = [*split_classes(suite.tasks[near]), *split_classes(suite.tasks[target])]
        vectors = [difference(trained(suite, [p], seed, networks.tuning), suite.state) for p in parts]
        found = _fourth_corner(evaluations, parts[3], vectors, coefficients)
        rows.append({"kind": "sub-population", "seed": seed, "task": f"{target}, upper", **found})
    columns = ["kind", "seed", "task", "pre-trained", "analogy", "coefficient", "neighbour", "fine-tuned"]
    return pd.DataFrame(rows, columns=columns)


def _fourth_corner(
    evaluations: Evaluations, target: Task, vectors: Sequence[State], coefficients: Sequence[float]
) -> dict[str, float]:
    """Accuracies on d. vectors: of a, b, c and d."""
    a, b, c, d = vectors

    def chosen(vector: State) -> tuple[float, float, float]:
        """Best accuracy on validation rows, that on test rows, and the coefficient."""
        line = evaluations.curve(vector, coefficients, [target], "val")[:, 0]
        coefficient = best(coefficients, line)
        return max(line), evaluations.edited(vector, coefficient, [target])[0], coefficient

    _, value, coefficient = chosen(task_vectors.analogy(a, b, c))
    _, neighbour, _ = max((chosen(vector) for vector in (b, c)), key=lambda found: found[0])
    before, after = (evaluations.edited(d, k, [target])[0] for k in (0.0, 1.0))
    found = {"pre-trained": before, "analogy": value, "coefficient": coefficient}
    return found | {"neighbour": neighbour, "fine-tuned": after}


# --- weight disentanglement -------------------------------------------------------------------------------------------


def disentanglement(
    evaluations: Evaluations, pair: Sequence[str], vectors: Sequence[State], grid: Sequence[float]
) -> Float[np.ndarray, "g g"]:
    """Error of weight disentanglement on the plane of two coefficients (Ortiz-Jimenez et al. 2023, section 3).

    xi(a_1, a_2) = sum_i E_x~D_i [f(x; theta_0 + a_i tau_i) != f(x; theta_0 + a_1 tau_1 + a_2 tau_2)]: the fraction of a
    task's test rows on which the other task's vector changes the answer, summed over both tasks. 0 to 2.
    The first axis is that of a_1.
    """
    answers, (first, last) = evaluations.answers(vectors), (evaluations.suite.tasks[name] for name in pair)
    alone = [[answers([a, 0.0], first, "test") for a in grid], [answers([0.0, a], last, "test") for a in grid]]
    error = np.zeros((len(grid), len(grid)))
    for (i, a), (j, b) in product(enumerate(grid), enumerate(grid)):
        for single, task, other in ((alone[0][i], first, b), (alone[1][j], last, a)):
            if other:  # else both are the same weights
                error[i, j] += (answers([a, b], task, "test") != single).double().mean().item()
    return error


def disentanglement_maps(networks: FineTuned, linear: FineTuned | None, plane: Sequence[float]) -> pd.DataFrame:
    """Error of weight disentanglement of the first and the last task, by kind of vector.

    linear: the networks in tangent space, None to leave them out.
    Columns: vectors, seed, first, last (coefficients of the two tasks), error.
    """
    names = list(networks.vectors)
    pair = [names[0], names[-1]]
    two = [networks.vectors[name] for name in pair]
    seeds = [1000 * networks.seed + 500 + i for i in range(2)]
    noise = [task_vectors.random_like(v, torch.Generator().manual_seed(s)) for v, s in zip(two, seeds, strict=True)]
    kinds = {"fine-tuned": (networks, two), "random vectors": (networks, noise)}
    if linear:
        kinds["tangent space"] = linear, [linear.vectors[name] for name in pair]
    maps = [disentanglement(own.evaluations, pair, vectors, plane) for own, vectors in kinds.values()]
    axes: Mapping[str, Any] = {"vectors": list(kinds), "seed": [networks.seed], "first": plane, "last": plane}
    return tidy(np.array(maps)[:, None], "error", **axes)


def over_the_plane(maps: pd.DataFrame) -> pd.DataFrame:
    """Mean error over all coefficients. Columns: vectors, seed, error."""
    return maps.groupby(["vectors", "seed"], sort=False)["error"].agg(lambda e: e.to_numpy().mean()).reset_index()


# --- what made the difference -----------------------------------------------------------------------------------------


def first_four(
    networks: FineTuned, coefficients: Sequence[float], plane: Sequence[float], condition: str
) -> pd.DataFrame:
    """What sums of two and of all of the first four vectors keep, their cosine, and the first two's disentanglement.

    One row. Columns: condition, seed, cosine (mean magnitude), xi (mean over the plane), none, two, all (normalised
    accuracy with so many vectors added), closed (fraction of the gap between none and 1 that all close).
    """
    four = list(networks.vectors.values())[:4]
    matrix = np.abs(task_vectors.cosines(four).numpy())
    xi = disentanglement(networks.evaluations, list(networks.vectors)[:2], four[:2], plane).mean()
    pairs, everything = subsets(len(four), 2, 6, torch.Generator()), [tuple(range(len(four)))]
    kept = {}
    for label, groups in {"none": everything, "two": pairs, "all": everything}.items():
        grid = [0.0] if label == "none" else coefficients
        c = best(grid, np.mean([_sums(networks, g, grid, "val").mean(1) for g in groups], axis=0))
        kept[label] = np.mean([_normalised(networks, g, c) for g in groups])
    cosine = matrix[~np.eye(len(matrix), dtype=bool)].mean()
    row = pd.DataFrame([{"condition": condition, "seed": networks.seed, "cosine": cosine, "xi": xi, **kept}])
    return row.assign(closed=(row["all"] - row["none"]) / (1 - row["none"]).replace(0.0, np.nan))


def costs(suite: Suite, tuning: Tuning) -> pd.DataFrame:
    """Seconds of fine-tuning on two tasks (five steps, scaled up) and of an edit by their vectors."""
    tasks, steps, start = list(suite.tasks.values())[:2], min(tuning.steps, 5), suite.state
    short = dataclasses.replace(tuning, steps=steps, cache=False)
    clock = [time.perf_counter()]
    states = [trained(suite, [task], 0, short) for task in tasks]
    clock.append(time.perf_counter())
    vectors = [difference(state, start) for state in states]
    clock.append(time.perf_counter())
    state = apply(start, vectors, 0.4)
    clock.append(time.perf_counter())
    for task in tasks:
        accuracy(suite.encoder, state, task)
    clock.append(time.perf_counter())
    seconds = np.diff(clock) * [tuning.steps / steps, 1, 1, 1]
    parts = ["fine-tune on two tasks", "make two vectors", "apply both", "evaluate both"]
    return pd.DataFrame({"seconds": seconds}, index=parts)
