"""Claims checked against the values of a run. Notebooks never assert; here is where a verdict comes from."""

import ast
import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phenomena.runs.contract.errors import BadInput, nearest
from phenomena.runs.store.chapters import Chapter, Claim
from phenomena.runs.store.runs import Record
from phenomena.statistics import interval

VERDICTS = ("reproduced", "inconclusive", "contradicted")
FUNCTIONS = {"abs": np.abs, "sqrt": np.sqrt, "log": np.log, "exp": np.exp}  # what an expression may call
NODES = (ast.Expression, ast.BinOp, ast.UnaryOp, ast.Compare, ast.Call, ast.Name, ast.Constant,
         ast.operator, ast.unaryop, ast.cmpop, ast.Load)  # fmt: skip


@dataclass(frozen=True)
class Verdict:
    """A claim with what was measured: mean over seeds, 95 % interval, number of seeds that gave a value."""

    chapter: str
    claim: Claim
    verdict: str
    measured: float | None
    low: float | None
    high: float | None
    seeds: int

    def row(self) -> dict[str, Any]:
        """The verdict as one flat row, for JSON."""
        of_claim = {"claim": self.claim.name, "threshold": self.claim.threshold, "paper_value": self.claim.paper_value}
        rest = {k: v for k, v in asdict(self).items() if k not in ("claim", "chapter")}
        return {"chapter": self.chapter, **of_claim, **rest}


def check(chapter: Chapter, record: Record) -> list[Verdict]:
    """The verdict on each of the chapter's claims.

    The interval lies inside the claimed range: reproduced; outside: contradicted; else, or without an interval (fewer
    than two seeds gave a value): inconclusive. Raises `BadInput` when a claim cannot be evaluated on the record.
    """
    return [_verdict(chapter.name, claim, record) for claim in chapter.file.claims]


def _verdict(chapter: str, claim: Claim, record: Record) -> Verdict:
    values = per_seed(chapter, claim, record)
    with np.errstate(all="ignore"):  # an infinite value has no interval, hence no verdict
        mean, low, high = interval(values)
    bottom, top = claim.range
    if low > bottom and high < top:
        verdict = "reproduced"
    elif high < bottom or low > top:
        verdict = "contradicted"
    else:
        verdict = "inconclusive"
    known = [x if math.isfinite(x) else None for x in (mean, low, high)]  # JSON has neither nan nor infinity
    return Verdict(chapter, claim, verdict, known[0], known[1], known[2], int((~np.isnan(values)).sum()))


def per_seed(chapter: str, claim: Claim, record: Record) -> NDArray[np.float64]:
    """The claim's expression for every seed: arithmetic and `FUNCTIONS` on recorded values, nothing else of Python.

    nan where a seed gave none. Raises `BadInput` when it has no such value.
    """
    place = f"{chapter}, claim {claim.name}"
    try:
        tree = ast.parse(claim.measured, mode="eval")
    except SyntaxError as error:
        raise BadInput(f"{place}: {claim.measured!r} is not an expression") from error
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    for name in sorted(names - set(FUNCTIONS) - set(record.values)):
        raise BadInput(
            f"{place}: the run records no value {name!r}{nearest(name, record.values) or ';'} "
            f"recorded: {', '.join(record.values)}"
        )
    columns = {name: np.array(record.values[name], dtype=float) for name in sorted(names & set(record.values))}
    if len({len(column) for column in columns.values()}) > 1:
        lengths = ", ".join(f"{name} {len(column)}" for name, column in columns.items())
        raise BadInput(f"{place}: values of different numbers of seeds: {lengths}")
    for node in ast.walk(tree):
        if not isinstance(node, NODES):
            raise BadInput(f"{place}: {claim.measured!r} cannot be evaluated (it holds a {type(node).__name__})")
    try:
        with np.errstate(all="ignore"):
            result = eval(compile(tree, place, "eval"), {"__builtins__": {}}, {**FUNCTIONS, **columns})
    except (TypeError, ValueError) as error:
        raise BadInput(f"{place}: {claim.measured!r} cannot be evaluated ({error})") from error
    if not isinstance(result, np.ndarray):
        raise BadInput(f"{place}: {claim.measured!r} does not give one number a seed")
    return result.astype(float)
