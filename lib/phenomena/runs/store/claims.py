"""Claims checked against the values of a run or a pool. Notebooks never assert; here is where a verdict comes from."""

import ast
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from phenomena.runs.contract.errors import BadInput
from phenomena.runs.store import expressions
from phenomena.runs.store.chapters import Chapter, Claim
from phenomena.runs.store.runs import Record
from phenomena.statistics import interval

VERDICTS = ("reproduced", "inconclusive", "contradicted")
ERROR = 0.05  # of an interval, over all looks at a growing pool
HAIR = 1.5  # half-widths from the threshold below which a decision is marked as close
FOUR_OF_FIVE = 0.84  # standard errors beyond which a normal quantity lies in one case out of five
MOST_SEEDS = 1000  # beyond which an estimate counts as lying on its threshold
ROUNDING = 1e-6  # of the scale of a quantity; single precision does not tell less apart


def _least(*parts: Any) -> Any:
    return reduce(np.minimum, parts)


def _largest(*parts: Any) -> Any:
    return reduce(np.maximum, parts)


def _of_one(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """NumPy's functions take a second argument for their output."""
    return lambda x: function(x)


FUNCTIONS: dict[str, Callable[..., Any]] = {  # what an expression may call
    "min": _least, "max": _largest, "abs": _of_one(np.abs), "sqrt": _of_one(np.sqrt), "log": _of_one(np.log),
    "exp": _of_one(np.exp),
}  # fmt: skip


@dataclass(frozen=True)
class Verdict:
    """A claim with what was measured.

    measured: the mean over seeds; of an exact claim the value that comes nearest to its threshold, or goes farthest
        beyond.
    low, high: the interval, 95 % at one look; None where there is none.
    seeds: how many gave a value. runs: how many runs they come from.
    p: the least error, over all looks, at which an interval would decide the claim; None for an exact one.
    margin: from the mean to the threshold, in halves of the interval: decided above 1.
    looks: at how many sizes of the pool verdicts are asked for.
    """

    chapter: str
    claim: Claim
    verdict: str
    measured: float | None
    low: float | None
    high: float | None
    seeds: int
    runs: int
    p: float | None
    margin: float | None
    looks: int = 1

    @property
    def close(self) -> bool:
        """Whether it was decided by a hair: as many fresh seeds would leave it open in one case out of four."""
        return self.verdict != "inconclusive" and self.margin is not None and self.margin < HAIR

    def quantile(self, seeds: Any) -> Any:
        """How many standard errors half an interval is about wide, with so many seeds: Student's."""
        return stdtrit(seeds - 1, 1 - ERROR / self.looks / 2)

    @property
    def distance(self) -> float | None:
        """From the mean to the nearest threshold, about, in standard errors; None without an interval."""
        return None if self.margin is None else float(self.margin * self.quantile(self.seeds))

    @property
    def seeds_needed(self) -> int | None:
        """About how many seeds would decide it in four cases out of five, if mean and spread stay as they are.

        None for what is decided, has no interval, or would need more than `MOST_SEEDS`.
        """
        if self.verdict != "inconclusive" or self.distance is None:
            return None
        n = np.arange(self.seeds + 1, MOST_SEEDS + 1)
        enough = self.distance * np.sqrt(n / self.seeds) >= self.quantile(n) + FOUR_OF_FIVE
        return int(n[np.argmax(enough)]) if enough.any() else None

    def row(self) -> dict[str, Any]:
        """The verdict as one flat row, for JSON."""
        about = {name: getattr(self.claim, name) for name in ("origin", "kind", "threshold", "paper_value")}
        rest = {k: v for k, v in asdict(self).items() if k not in ("claim", "chapter")}
        return {"chapter": self.chapter, "claim": self.claim.name, **about, **rest,
                "close": self.close, "seeds_needed": self.seeds_needed}  # fmt: skip


def seconds_a_run(record: Record) -> float:
    """How long the runs of a record took on average."""
    return sum(part.seconds for part in record.counted) / len(record.counted)


def more(verdict: Verdict, record: Record) -> tuple[int, float] | None:
    """About how many fresh seeds would decide an open claim on this record, and their seconds; None if none would.

    They come in blocks as large, and as long, as the runs of the record are on average; a side study with fewer seeds
    a run needs more of them.
    """
    if verdict.seeds_needed is None:
        return None
    blocks = math.ceil((verdict.seeds_needed / verdict.seeds - 1) * verdict.runs)
    return round(blocks * len(record.seeds) / verdict.runs), blocks * seconds_a_run(record)


def check(chapter: Chapter, record: Record) -> list[Verdict]:
    """The verdict on each of the chapter's claims.

    The interval lies inside the claimed range: reproduced; outside: contradicted; else, or without an interval:
    inconclusive. An exact claim is reproduced when every seed's value lies inside. A pool that was looked at several
    times has intervals of error 0.05 / looks (Bonferroni), so that they hold at all looks together. Raises `BadInput`
    when a claim cannot be evaluated on the record.
    """
    return [judge(chapter, claim, record) for claim in chapter.file.claims]


def possible(chapter: Chapter, record: Record) -> tuple[list[Verdict], list[str]]:
    """The verdicts that a record of other sources allows, and for each other claim why there is none."""
    verdicts, refused = list[Verdict](), list[str]()
    for claim in chapter.file.claims:
        try:
            verdicts.append(judge(chapter, claim, record))
        except BadInput as error:
            refused.append(str(error))
    return verdicts, refused


def sample(chapter: Chapter, claim: Claim, record: Record) -> tuple[NDArray[np.float64], dict[str, Any]]:
    """What a claim measures for every seed, and what `interval` must know of it. Raises `BadInput` as `check` does."""
    values = per_seed(chapter.name, claim, record)
    how = {} if claim.kind == "exact" else _how(chapter, claim, record)
    bounds = (0.0, 1.0) if claim.kind == "share" else claim.bounds
    return _without_rounding(values, bounds) if bounds else values, how


def judge(chapter: Chapter, claim: Claim, record: Record) -> Verdict:
    """The verdict on one claim, as `check` has it."""
    values = per_seed(chapter.name, claim, record)
    seeds, runs = int((~np.isnan(values)).sum()), len(record.counted)
    if claim.kind == "exact":
        verdict, shown = _exact(claim, values)
        return Verdict(chapter.name, claim, verdict, shown, None, None, seeds, runs, None, None, record.looks)

    how = _how(chapter, claim, record)
    values = _without_rounding(values, (0.0, 1.0) if claim.kind == "share" else claim.bounds)

    def decided(error: float) -> tuple[str, float, float, float]:
        with np.errstate(all="ignore"):  # an infinite value has no interval, hence no verdict
            try:
                mean, low, high = interval(values, 1 - error, **how)
            except ValueError as fault:
                raise BadInput(f"{chapter.name}, claim {claim.name}, kind {claim.kind}: {fault}") from fault
        low, high = min(low, mean), max(high, mean)  # nan stays
        return _inside(claim, low, high), mean, low, high

    error = ERROR / record.looks
    verdict, mean, low, high = decided(error)
    margin = _margin(claim, mean, low, high)
    p = _least_error(lambda e: decided(e / record.looks)[0]) if margin is not None else None
    known = [x if math.isfinite(x) else None for x in (mean, low, high)]  # JSON has neither nan nor infinity
    return Verdict(chapter.name, claim, verdict, known[0], known[1], known[2], seeds, runs, p, margin, record.looks)


def _without_rounding(values: NDArray[np.float64], bounds: tuple[float, float] | None) -> NDArray[np.float64]:
    """Values that differ by rounding alone made equal, and those that it took beyond their bounds put back.

    A spread of the last bit is no spread: an interval made of it would decide anything.
    """
    known = values[np.isfinite(values)]
    if not len(known):
        return values
    scale = bounds[1] - bounds[0] if bounds else float(np.abs(known).max())
    if bounds:
        inside = np.clip(values, *bounds)
        values = np.where(np.abs(values - inside) <= ROUNDING * scale, inside, values)
    if np.ptp(known) <= ROUNDING * scale:
        values = np.where(np.isfinite(values), np.median(known), values)
    return values


def _exact(claim: Claim, values: NDArray[np.float64]) -> tuple[str, float | None]:
    """Verdict and the value that decides it."""
    bottom, top = claim.range
    known = values[~np.isnan(values)]
    if not len(known):
        return "inconclusive", None
    with np.errstate(all="ignore"):
        room = np.minimum(known - bottom, top - known)
    worst = float(known[int(np.argmin(np.nan_to_num(room, nan=-np.inf)))])
    verdict = "reproduced" if bottom < worst < top else "contradicted"
    return verdict, worst if math.isfinite(worst) else None


def _inside(claim: Claim, low: float, high: float) -> str:
    bottom, top = claim.range
    if low > bottom and high < top:
        return "reproduced"
    return "contradicted" if high < bottom or low > top else "inconclusive"


def _margin(claim: Claim, mean: float, low: float, high: float) -> float | None:
    """From the mean to the nearest threshold, in units of the part of the interval on that side."""
    if not (math.isfinite(low) and math.isfinite(high)):
        return None
    ends = [end for end in claim.range if math.isfinite(end)]
    margins = [abs(end - mean) / max(high - mean if end > mean else mean - low, 1e-300) for end in ends]
    return float(min(margins))


def _least_error(verdict_at: Callable[[float], str]) -> float:
    """The least error of an interval that still decides: bisection on its logarithm, not below 1e-12."""
    low, high = math.log(1e-12), 0.0
    for _ in range(26):  # to a relative 4e-7
        middle = (low + high) / 2
        low, high = (middle, high) if verdict_at(math.exp(middle)) == "inconclusive" else (low, middle)
    return math.exp(high)


def _how(chapter: Chapter, claim: Claim, record: Record) -> dict[str, Any]:
    """What `interval` must know of the claim's quantity. Raises `BadInput` for a share without its trials."""
    if claim.kind == "bounded":
        return {"bounds": claim.bounds}
    if claim.kind == "mean":
        return {}
    place = f"{chapter.name}, claim {claim.name}"
    value = re.fullmatch(r"(?:1 - )?([A-Za-z_]\w*)", ast.unparse(expressions.parsed(claim.measured, place)))
    if value is None:
        raise BadInput(f"{place}: {claim.measured!r} is no share of trials: must be NAME or 1 - NAME")
    number = trials(chapter, value[1], record)
    if number is None:
        raise BadInput(f"{place}: is a share, but no pattern under trials: of {chapter.name}.yaml fits {value[1]!r}")
    return {"trials": number}


def trials(chapter: Chapter, name: str, record: Record) -> NDArray[np.float64] | None:
    """Of how many trials a recorded value is a share, for every seed; None for what is no share."""
    text = next((text for pattern, text in chapter.file.trials.items() if fnmatchcase(name, pattern)), None)
    if text is None:
        return None
    length = len(record.values[name])
    numbers = {k: v for k, v in record.parameters.items() if isinstance(v, int | float)}
    known = {k: np.full(length, float(v)) for k, v in numbers.items()} | _columns(record)
    result = np.asarray(_evaluate(text, known, f"{chapter.name}, trials of {name}"), dtype=float)
    given = np.array([value is not None for value in record.values[name]])
    if result.shape not in ((), (length,)) or (given & ~(result >= 1)).any():
        raise BadInput(f"{chapter.name}, trials of {name}: {text!r} must give one number of at least 1, or one a seed")
    return np.broadcast_to(result, (length,))


def of_values(chapter: Chapter, record: Record) -> dict[str, tuple[float, float, float, int]]:
    """Mean, low, high and number of seeds of all recorded values: of shares where the chapter's trials say so.

    Left out are shares whose trials cannot be told, as in a record from before its parameters had their names.
    """
    found = {}
    for name, values in _columns(record).items():
        try:
            with np.errstate(all="ignore"):  # an infinite value has no interval
                mean, low, high = interval(values, 1 - ERROR, trials=trials(chapter, name, record))
        except (BadInput, ValueError):
            continue
        found[name] = (mean, low, high, int((~np.isnan(values)).sum()))
    return found


def per_seed(chapter: str, claim: Claim, record: Record) -> NDArray[np.float64]:
    """The claim's expression for every seed: arithmetic and `FUNCTIONS` on recorded values, nothing else of Python.

    nan where a seed gave none. Raises `BadInput` when it has no such value.
    """
    place = f"{chapter}, claim {claim.name}"
    columns = _columns(record)
    result = _evaluate(claim.measured, columns, place)
    if not isinstance(result, np.ndarray):
        raise BadInput(f"{place}: {claim.measured!r} does not give one number a seed")
    used = [columns[name] for name in expressions.names(expressions.parsed(claim.measured, place)) & set(columns)]
    broken = np.isnan(result) & ~np.isnan(used).any(axis=0)  # measured, but 0 / 0 or the like: not left out
    return np.where(broken, np.inf, result.astype(float))


def _columns(record: Record) -> dict[str, NDArray[np.float64]]:
    return {name: np.array(values, dtype=float) for name, values in record.values.items()}


def _evaluate(text: str, known: Mapping[str, NDArray[np.float64]], place: str) -> Any:
    """Arithmetic on named columns. Raises `BadInput` for an unknown name or anything else than arithmetic."""
    used = expressions.names(expressions.parsed(text, place)) & set(known)
    if len({len(known[name]) for name in used}) > 1:
        lengths = ", ".join(f"{name} {len(known[name])}" for name in sorted(used))
        raise BadInput(f"{place}: values of different numbers of seeds: {lengths}")
    with np.errstate(all="ignore"):
        return expressions.evaluate(text, known, FUNCTIONS, place, "the run records no value", "recorded")


# --- many claims at once ----------------------------------------------------------------------------------------------


def findings(verdicts: Iterable[Verdict]) -> list[Verdict]:
    """Those that say something of networks, not of the code."""
    return [v for v in verdicts if v.claim.origin != "check"]


def count(verdicts: Iterable[Verdict]) -> dict[str, int]:
    """How many have each verdict."""
    said = [v.verdict for v in verdicts]
    return {name: said.count(name) for name in VERDICTS}


def wrong_by_chance(verdicts: Sequence[Verdict]) -> float:
    """The most decided verdicts that are wrong by chance in expectation, however claims depend on each other.

    The sum of what each interval may err. That it would miss on one side half as often does not hold for few seeds of a
    skewed quantity, so that half is not counted on.
    """
    return ERROR * sum(v.p is not None for v in verdicts)


def after_holm(verdicts: Sequence[Verdict]) -> list[Verdict]:
    """The decided verdicts of which, with probability 95 %, not one is wrong by chance.

    Holm's step-down procedure (1979, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of
    Statistics 6) over all that have an interval; it holds whatever their dependence. Exact ones stay as they are.
    """
    tested = sorted((v for v in verdicts if v.p is not None), key=lambda v: v.p or 0.0)
    stay = []
    for rank, v in enumerate(tested):
        if (v.p or 0.0) > ERROR / (len(tested) - rank):
            break
        stay.append(v)
    return stay
