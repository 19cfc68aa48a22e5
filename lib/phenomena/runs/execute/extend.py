"""More seeds: blocks of fresh seeds for studies, on Dask, first where they are likeliest to decide most.

A block is a run of the study with the next seeds. How often verdicts are asked for is declared before the first one,
and every interval errs with probability 0.05 / looks (Bonferroni), so that all looks from there on err with at most
0.05 together. What was told before the declaration had its own error.
"""

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from scipy.special import ndtr

from phenomena.runs import words
from phenomena.runs.contract.errors import BadInput, nearest
from phenomena.runs.execute import sweep
from phenomena.runs.store import claims, keys, pools, published, runs
from phenomena.runs.store.chapters import Chapter, Project
from phenomena.runs.store.claims import Verdict
from phenomena.runs.store.runs import Record

BLOCKS = 4  # of a study that is extended until it is decided
MANY = 1000  # blocks, above which a person is asked whether they are meant
FUTILE = 0.05  # chance that the blocks left decide a claim, below which no block is run for it
UNSEEN = 0.5  # chance that a block decides a claim of which there is no interval yet


@dataclass(eq=False)
class Study:
    """A chapter's study that is being extended.

    target: how many seeds it must have; None: until its claims are decided. claim: the only one that counts, or None.
    points: the blocks declared and not yet begun. pool: all its evidence. first: the verdicts before the first block.
    spent: seconds of its runs in the last round. stopped: why no further block is begun.
    """

    project: Project
    chapter: Chapter
    edition: str
    overrides: dict[str, Any]
    target: int | None
    claim: str | None
    points: list[sweep.Point]
    pool: Record | None = None
    verdicts: list[Verdict] = field(default_factory=list)
    first: list[Verdict] = field(default_factory=list)
    looks: int = 0
    spent: float = 0.0
    stopped: str = ""
    failed: dict[str, str] = field(default_factory=dict)

    @property
    def seeds(self) -> int:
        """How many there are."""
        return len(self.pool.seeds) if self.pool else 0

    @property
    def open(self) -> list[Verdict]:
        """The claims that count and are not decided."""
        return [v for v in self.verdicts if v.verdict == "inconclusive" and self.claim in (None, v.claim.name)]

    @property
    def seconds(self) -> float:
        """Of a block: as measured, on average, or as the edition states before there is a run."""
        if self.pool is None:
            stated = self.chapter.file.editions[self.edition].cost.seconds
            if "seeds" not in self.overrides:
                return stated
            usual, size = (self.chapter.resolve(self.edition, given)["seeds"] for given in ({}, self.overrides))
            return float(stated * size / usual)
        return claims.seconds_a_run(self.pool)

    def read(self) -> None:
        """Takes what is there now and asks for the verdicts."""
        self.pool = published.pooled(self.project, self.chapter, self.edition, self.overrides)
        self.verdicts = claims.check(self.chapter, self.pool) if self.pool else []

    def settle(self) -> None:
        """Stops where no further block is needed, or worth its time."""
        if self.target is not None:
            self.stopped = self.stopped or ("" if self.points else f"{self.seeds} seeds are there")
        elif self.pool and not self.open:
            self.stopped = self.stopped or f"{self.claim or 'every claim'} is decided"
        elif self.pool and self.points and not any(map(self.hopeful, self.open)):
            self.stopped = self.stopped or "no open claim can be decided within what was declared"

    def hopeful(self, verdict: Verdict) -> bool:
        """Whether the blocks that are left may decide an open claim."""
        if verdict.claim.undecidable or verdict.claim.kind == "exact":
            return False
        if verdict.seeds < 2:
            return True
        return verdict.seeds_needed is not None and self.chance(verdict, len(self.points)) >= FUTILE

    def chance(self, verdict: Verdict, blocks: int) -> float:
        """That so many blocks more decide an open claim."""
        fresh = sum(point.parameters["seeds"] for point in self.points[:blocks])
        return chance(verdict, self.seeds / (self.seeds + fresh))

    def promise(self, begun: int) -> float:
        """How many open claims the next block decides in expectation, per second; begun: blocks under way already."""
        if self.pool is None:
            return UNSEEN * len(self.chapter.file.claims) / self.seconds / (1 + begun)
        gained = [self.chance(v, begun + 1) - self.chance(v, begun) for v in self.open if self.hopeful(v)]
        return sum(gained) / self.seconds


def chance(verdict: Verdict, share: float) -> float:
    """The predictive probability that an open claim is decided when its seeds are `share` of those there will be.

    Normal approximation with a flat prior: in units of the present standard error, the mean of all seeds will be normal
    about the present one with variance 1 - share, and decides where it is q share^(1/2) from the nearest threshold, q
    the quantile of the interval.
    """
    if share >= 1:
        return 0.0
    if verdict.seeds < 2:
        return UNSEEN
    if verdict.distance is None:
        return 0.0
    needed, spread = verdict.quantile(verdict.seeds / share) * math.sqrt(share), math.sqrt(1 - share)
    return float(ndtr((verdict.distance - needed) / spread) + ndtr((-verdict.distance - needed) / spread))


def prepare(
    project: Project,
    chapters: Sequence[Chapter],
    edition: str,
    overrides: Mapping[str, Any],
    target: int | None = None,
    claim: str | None = None,
    blocks: int = BLOCKS,
    many: bool = False,
) -> list[Study]:
    """The chapters' studies with the blocks that each would need, or may use; nothing is run or declared.

    overrides: parameters that differ from the edition's; `seed` is where fresh seeds start, `seeds` a block's size.
    many: more than 1,000 blocks are meant. Raises `BadInput` for so many that are not, an unknown claim, values that
    are not accepted, and seeds that are in the pool already.
    """
    found = []
    for chapter in chapters:
        names = [c.name for c in chapter.file.claims]
        if claim is not None and claim not in names:
            raise BadInput(
                f"{chapter.name}: unknown claim {claim!r}{nearest(claim, names) or ';'} accepted: {', '.join(names)}"
            )
        whole = chapter.resolve(edition, overrides)  # own data are read once, whatever becomes of their file
        study = Study(project, chapter, edition, {name: whole[name] for name in overrides}, target, claim, [])
        study.read()
        study.first, study.points = study.verdicts, _blocks(study, blocks, many)
        study.settle()
        found.append(study)
    return found


def _blocks(study: Study, blocks: int, many: bool) -> list[sweep.Point]:
    """The blocks of a study: as many as bring it to its target, or the number given."""
    sources = keys.sources(study.chapter, keys.sha256(study.project.lock.read_bytes()))
    whole = study.chapter.resolve(study.edition, study.overrides)
    there = study.pool.seeds if study.pool else []
    seed, size = whole["seed"], whole["seeds"]
    if there and "seed" not in study.overrides:
        seed = max(there) + 1
    left = size * blocks if study.target is None else study.target - len(there)
    if (count := math.ceil(left / size)) > MANY and not many:
        hours = count * study.seconds / 3600
        raise BadInput(
            f"{study.chapter.name}: {count:,} blocks of {size} seeds, about {hours:,.0f} hours on one worker, "
            f"more than {MANY:,} blocks: say --yes if that is meant"
        )
    points = []
    while left > 0:
        changed = {"seed": seed, "seeds": min(size, left)}
        try:
            parameters = study.chapter.resolve(study.edition, {**study.overrides, **changed})
        except BadInput:  # so few are not accepted, or the fault is another
            changed["seeds"] = size
            parameters = study.chapter.resolve(study.edition, {**study.overrides, **changed})
        points.append(sweep.Point(study.chapter, study.edition, changed, parameters, sources.key(parameters)))
        seed, left = seed + changed["seeds"], left - changed["seeds"]
    wanted = [s for p in points for s in range(p.parameters["seed"], p.parameters["seed"] + p.parameters["seeds"])]
    if set(wanted) & set(there):
        raise BadInput(
            f"{study.chapter.name}: seeds {words.ranges(wanted)} overlap with those that are there, "
            f"{words.ranges(there)}: without -p seed they start at {max(there) + 1}"
        )
    return points


def declare(study: Study) -> None:
    """Writes down how many looks there will be: those that the runs there may have had, and one a block.

    To extend again adds looks, for which later intervals pay; the error of what was decided before is then that of the
    earlier declaration.
    """
    made = len(study.pool.counted) if study.pool else 0
    name, _ = pools.study(study.project, study.chapter, study.edition, study.overrides)
    study.looks = pools.declare_looks(study.project, study.chapter.name, name, made + len(study.points))
    study.read()


def extend(
    studies: Sequence[Study],
    client: Any,
    workers: int,
    budget: float = math.inf,
    given: Mapping[str, float] = MappingProxyType({}),
) -> Iterator[list[Study]]:
    """Runs the studies' blocks, as many at a time as there are workers; yields after each round whom it gave seeds.

    A block begins only if it would end within the budget, in seconds. given: limits, as in `sweep.sweep`. A failed
    block stops its study alone; what is done is in the pool. Raises `RunFailed` when the scheduler goes away.
    """
    began = time.monotonic()
    while chosen := _chosen(studies, workers, budget - (time.monotonic() - began)):
        points = [study.points.pop(0) for study in chosen]
        project = chosen[0].project
        outcome = sweep.sweep(project, points, client, given=given)
        ran = [study for study in studies if study in chosen]
        for study in ran:
            own = {p.name for p in points if p.chapter == study.chapter}
            study.failed |= {name: why for name, why in outcome.failed.items() if name in own}
            records = [runs.read(project.runs / study.chapter.name / p.key) for p in outcome.done if p.name in own]
            study.spent = sum(run.record.seconds["total"] for run in records if run)
            study.stopped = "a block failed" if study.failed else ""
            study.read()
            study.settle()
        yield ran
    for study in studies:
        study.stopped = study.stopped or ("the budget is spent" if study.points else "its blocks are used")


def _chosen(studies: Sequence[Study], workers: int, seconds: float) -> list[Study]:
    """Whose next blocks a round runs, a study once for each; the largest promise first."""
    chosen: list[Study] = []
    while len(chosen) < workers:
        begun = [chosen.count(study) for study in studies]
        able = [
            (study.promise(n), -i)
            for i, (study, n) in enumerate(zip(studies, begun, strict=True))
            if not study.stopped and n < len(study.points) and study.seconds <= seconds
        ]
        if not able:
            break
        chosen.append(studies[-max(able)[1]])
    return chosen
