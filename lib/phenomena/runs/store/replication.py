"""Another run of a published record, compared to it: value by value, verdict by verdict."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from phenomena.runs.contract.errors import BadInput
from phenomena.runs.store import claims, keys, pools, published, runs
from phenomena.runs.store.chapters import Chapter, Claim, Project
from phenomena.runs.store.runs import Record, Run
from phenomena.statistics import interval

ERROR = 0.05  # of calling any value of a run a disagreement where all differ by chance
ROUNDING = {"rel_tol": 1e-9, "abs_tol": 1e-9}
Kind = Literal["bits", "inside", "chance", "disagreement"]
KINDS: tuple[Kind, ...] = ("bits", "inside", "chance", "disagreement")


@dataclass(frozen=True)
class Value:
    """A recorded value on the seeds that both records have.

    kind: bits, every seed's is equal; inside, the mean lies in the published interval or differs by rounding; chance,
        it lies outside, but the two samples of seeds do not differ significantly; disagreement, they do.
    again, published: the means. low, high: the published interval. None for what there is not.
    p: of Welch's test, uncorrected, 0 where no seed varies; None where none is needed.
    """

    name: str
    kind: Kind
    again: float | None
    published: float | None
    low: float | None
    high: float | None
    seeds: int
    p: float | None = None


@dataclass(frozen=True)
class Answer:
    """A claim's verdict on the published record, and with the other run's values in their place."""

    published: claims.Verdict
    again: claims.Verdict

    @property
    def same(self) -> bool:
        """Whether the two agree."""
        return self.published.verdict == self.again.verdict

    def row(self) -> dict[str, Any]:
        """For JSON."""
        kept = ("verdict", "measured", "low", "high", "seeds")
        both = {name: {k: getattr(getattr(self, name), k) for k in kept} for name in ("published", "again")}
        return {"claim": self.published.claim.name, "same": self.same, **both}


@dataclass(frozen=True)
class Comparison:
    """Two records of the same run: every value and every claim."""

    published: Record
    again: Record
    values: list[Value]
    claims: list[Answer]

    @property
    def counts(self) -> dict[Kind, int]:
        """How many values are of each kind."""
        kinds = [value.kind for value in self.values]
        return {kind: kinds.count(kind) for kind in KINDS}

    @property
    def same(self) -> int:
        """How many verdicts agree."""
        return sum(answer.same for answer in self.claims)

    @property
    def agrees(self) -> bool:
        """Whether no value is in disagreement, and all verdicts agree."""
        return not self.counts["disagreement"] and self.same == len(self.claims)

    def summary(self) -> dict[str, Any]:
        """Machines and counts, for JSON."""
        about = {"processor", "gpu", "threads", "versions", "commit", "started"}
        return {
            "again": self.again.model_dump(include=about),
            "published": self.published.model_dump(include=about),
            "values": self.counts,
            "verdicts": {"same": self.same, "claims": len(self.claims)},
        }

    def row(self) -> dict[str, Any]:
        """Everything, for JSON."""
        details = {"each_value": [asdict(v) for v in self.values], "each_claim": [a.row() for a in self.claims]}
        run = {"chapter": self.published.chapter, "edition": self.published.edition, "run": self.again.key}
        return {**run, "agrees": self.agrees, **self.summary(), **details}


def compare(chapter: Chapter, reference: Record, again: Record) -> Comparison:
    """Another run of a published record beside it; a pool's other seeds stay as they are.

    Values are compared on the seeds of both. Those outside the published interval are tested for a difference of means
    (Welch 1947, "The generalization of 'Student's' problem when several different population variances are involved",
    Biometrika 34), corrected by Holm's procedure over all values of the run. The test takes the two samples as
    independent, though seeds are the same: it is slow to find a small shift of all of them. Where no seed varies there
    is nothing to test: what differs by more than rounding is in disagreement. Raises `BadInput` for records of
    different studies, or where a claim cannot be checked.
    """
    joined = pools.pool([again, reference]).model_copy(update={"looks": reference.looks})
    verdicts = zip(claims.check(chapter, reference), claims.check(chapter, joined), strict=True)
    return Comparison(reference, again, of_values(chapter, reference, again), [Answer(*pair) for pair in verdicts])


def of_values(chapter: Chapter, reference: Record, again: Record) -> list[Value]:
    """Every recorded value of two runs, of one study or of two, on the seeds of both, or on all if none is shared."""
    names = dict.fromkeys([*reference.values, *again.values])
    return _compared({name: _samples(reference, again, partial(_sample, chapter, name)) for name in names})


def of_quantities(chapter: Chapter, reference: Record, again: Record) -> list[Value]:
    """What two runs both have, of whatever study and version: recorded values, then what the claims measure."""
    values = {name: partial(_sample, chapter, name) for name in reference.values if name in again.values}
    measured = {claim.name: partial(_claimed, chapter, claim) for claim in chapter.file.claims}
    found = list[Value]()
    for group in (values, measured):
        pairs = {}
        for name, sample in group.items():
            with suppress(BadInput, ValueError):  # a record of another version, without what this takes
                pairs[name] = _samples(reference, again, sample)
        found += _compared(pairs)
    return found


def _samples(
    reference: Record, again: Record, sample: "Callable[[Record, Sequence[int]], _Sample]"
) -> "tuple[_Sample, _Sample]":
    shared = [seed for seed in reference.seeds if seed in again.seeds]
    return sample(reference, shared or reference.seeds), sample(again, shared or again.seeds)


def _compared(pairs: "Mapping[str, tuple[_Sample, _Sample]]") -> list[Value]:
    """Every pair as a value, those outside tested."""
    found = []
    for name, (old, new) in pairs.items():
        value = _value(name, old, new)
        found.append(replace(value, p=_difference(old, new)) if value.kind == "chance" else value)
    return _holm(found)


@dataclass(frozen=True)
class _Sample:
    """What seeds gave, nan for nothing, and its mean and interval."""

    values: NDArray[np.float64]
    mean: float
    low: float
    high: float

    @property
    def known(self) -> NDArray[np.float64]:
        return self.values[~np.isnan(self.values)]


def _sample(chapter: Chapter, name: str, record: Record, seeds: Sequence[int]) -> _Sample:
    values = np.array(record.values.get(name, []), dtype=float)
    trials = claims.trials(chapter, name, record) if name in record.values else None
    try:
        return _chosen(values, {} if trials is None else {"trials": trials}, record.seeds, seeds)
    except ValueError as fault:
        raise BadInput(f"{chapter.name}, {name}, a share by trials: {fault}") from fault


def _claimed(chapter: Chapter, claim: Claim, record: Record, seeds: Sequence[int]) -> _Sample:
    values, how = claims.sample(chapter, claim, record)
    return _chosen(values, how, record.seeds, seeds)


def _chosen(values: NDArray[np.float64], how: dict[str, Any], of: Sequence[int], seeds: Sequence[int]) -> _Sample:
    """The values of some of the seeds, with their interval. of: whose they are; side studies have the first alone."""

    def chosen(column: NDArray[np.float64]) -> NDArray[np.float64]:
        by_seed = dict(zip(of, column, strict=False))
        return np.array([by_seed.get(seed, np.nan) for seed in seeds], dtype=float)

    kept = chosen(values)
    return _Sample(kept, *interval(kept, **how | ({"trials": chosen(how["trials"])} if "trials" in how else {})))


def _value(name: str, old: _Sample, new: _Sample) -> Value:
    """The value, taken to be by chance where it is neither equal nor inside."""
    kind: Kind = "chance"
    if np.array_equal(old.values, new.values, equal_nan=True):
        kind = "bits"
    elif math.isclose(old.mean, new.mean, **ROUNDING) or old.low <= new.mean <= old.high:
        kind = "inside"
    again, published, low, high = (
        float(x) if math.isfinite(x) else None for x in (new.mean, old.mean, old.low, old.high)
    )
    return Value(name, kind, again, published, low, high, min(len(old.known), len(new.known)))


def _difference(old: _Sample, new: _Sample) -> float:
    """Welch's p, 0 where there is nothing to test."""
    from scipy.stats import ttest_ind_from_stats  # a second, and only where values differ

    of_both = [(sample.mean, sample.known.std(ddof=1), len(sample.known))
               for sample in (old, new) if len(sample.known) > 1]  # fmt: skip
    if len(of_both) < 2 or not (np.ptp(old.known) or np.ptp(new.known)):
        return 0.0
    return float(ttest_ind_from_stats(*of_both[0], *of_both[1], equal_var=False).pvalue)


def _holm(values: Sequence[Value]) -> list[Value]:
    """Those whose difference is significant after the correction become disagreements."""
    tested = sorted((value for value in values if value.p is not None), key=lambda value: value.p or 0.0)
    found = set()
    for rank, value in enumerate(tested):
        if (value.p or 0.0) > ERROR / (len(values) - rank):
            break
        found.add(value.name)
    return [replace(value, kind="disagreement") if value.name in found else value for value in values]


def machine(record: Record) -> str:
    """What a record ran on, in words: processor and accelerator."""
    return " + ".join(filter(None, [record.processor, record.gpu]))


def instructions(record: Record) -> str:
    """What the processor offers and what was used of it, as far as the record says so."""
    return ", ".join(f"{name} {value}" for name, value in record.arithmetic.items())


# --- runs that are there, and those that are kept ---------------------------------------------------------------------


def verified(project: Project) -> Path:
    """Where the runs lie that were made to verify others."""
    return project.runs / ".verified"


def at_hand(project: Project, record: Record) -> Run | None:
    """The youngest run that is there of what a record names, its own aside; None when there is none."""
    found = [runs.read(home / record.chapter / record.key) for home in (project.runs, verified(project))]
    return max((run for run in found if run and published.repeats(run.record, record)),
               key=lambda run: run.record.started, default=None)  # fmt: skip


def kept(project: Project, chapter: Chapter, edition: str, key: str) -> list[Comparison]:
    """What is kept beside the published record of the run with that key, compared to it, oldest first."""
    found = published.replications(project, chapter, edition)
    reference = published.read(project, chapter, edition) if found else None
    return [compare(chapter, reference, record) for record in found] if reference and reference.key == key else []


def keep(project: Project, chapters: Iterable[Chapter]) -> list[Path]:
    """Stores the records of runs at hand that repeat published ones beside these; returns the paths of new ones.

    A file's name tells its content, so that the same record is not stored twice.
    """
    written = []
    for chapter in chapters:
        for edition in published.editions(project, chapter):
            run = at_hand(project, published.read(project, chapter, edition))
            if run is None:
                continue
            content = (run.folder / runs.RECORD).read_bytes()
            place = published.beside(project, chapter) / f"{edition}-{keys.sha256(content)[:8]}.json"
            if not place.exists():
                runs.write(place, content)
                written.append(place.relative_to(project.root))
    return written
