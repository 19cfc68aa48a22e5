"""What commands say of verdicts, as lines of text."""

import math
from collections.abc import Iterable, Sequence
from textwrap import wrap
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # these bring numpy, which most commands need not wait for
    from phenomena.runs.execute.extend import Study
    from phenomena.runs.store.claims import Verdict
    from phenomena.runs.store.runs import Record

INDENT = " " * 4


def duration(seconds: float) -> str:
    """`1 h 5 min`, `2 min 10 s` or `40 s`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"


def counted(number: int, noun: str) -> str:
    """`1 worker` or `2 workers`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def decimals(low: float, high: float) -> int:
    """How many show two digits of half an interval, so that none is told as if it had no width."""
    return 1 - math.floor(math.log10((high - low) / 2))


def at_hand(records: "Sequence[Record]") -> str:
    """Of which editions there are runs, and how many have other parameters."""
    own = sum(record.edition is None for record in records)
    names = list(dict.fromkeys(record.edition for record in records if record.edition))
    told = [*names, *([f"{own} own"] if own else [])]
    return f"run: {', '.join(told)}" if told else "not run"


def columns(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Rows as lines with aligned columns."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))] if rows else []
    return ["  " + "  ".join(f"{cell:{w}}" for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows]


def measured(verdict: "Verdict") -> tuple[str, ...]:
    """Verdict, claim, mean with interval, threshold and n."""
    v = verdict
    digits = 3
    if v.low is not None and v.high is not None and v.high > v.low:
        digits = max(digits, min(decimals(v.low, v.high), 12))
    mean, low, high = ("-" if x is None else f"{x:z.{digits}f}" for x in (v.measured, v.low, v.high))
    interval = f"{mean} [{low}, {high}]"
    return v.verdict, v.claim.name, interval, v.claim.threshold, f"n = {v.seeds}"


def remark(verdict: "Verdict", record: "Record") -> str:
    """What an open claim would need, or that a decided one was decided by a hair; nothing for others."""
    return "decided by a hair" if verdict.close else still_open(verdict, record)


def still_open(verdict: "Verdict", record: "Record") -> str:
    """What would decide an open verdict on a record, or why nothing would; nothing for a decided one."""
    from phenomena.runs.store import claims

    if verdict.verdict != "inconclusive":
        return ""
    if verdict.claim.undecidable:
        return f"not decidable at this scale: {verdict.claim.undecidable}"
    if more := claims.more(verdict, record):
        seeds, seconds = more
        minutes = max(1, round(seconds / 60))
        return f"about {seeds} more seeds ({len(record.seeds) + seeds} in all, {minutes} min) would decide it"
    if verdict.distance is None:
        return "no interval: " + ("one seed" if verdict.seeds == 1 else "no spread" if verdict.seeds else "no value")
    return f"no number of seeds up to {claims.MOST_SEEDS:,} would decide it: the mean is too near the threshold"


def verdicts(found: "Sequence[Verdict]", record: "Record") -> list[str]:
    """A claim in two lines of 120 columns, or more: its numbers, its statement; what is to remark where it fits."""
    lines = []
    for v, line in zip(found, columns([measured(v) for v in found]), strict=True):
        told = remark(v, record)
        long = len(line) + len(told) > 118
        lines += [line if long or not told else f"{line}  {told}", *_wrapped(v.claim.statement)]
        lines += _wrapped(told) if long else []
    return lines


def _wrapped(text: str) -> list[str]:
    return wrap(text, 120, initial_indent=INDENT, subsequent_indent=INDENT)


def evidence(record: "Record") -> list[str]:
    """Over how many seeds and runs verdicts are given, and what was left out of a pool."""
    from phenomena.runs.store import claims

    runs = f"{len(record.counted)} runs" if len(record.counted) > 1 else "1 run"
    looks = f", {record.looks} looks: intervals of error {claims.ERROR} / {record.looks}" if record.looks > 1 else ""
    lines = [f"{record.chapter}: seeds {ranges(record.seeds)}, n = {len(record.seeds)} in {runs}{looks}"]
    return lines + [
        f"{INDENT}left out of {part.key}: seeds {ranges(part.left_out)}, which another run gave"
        for part in record.pool
        if part.left_out
    ]


def ranges(seeds: Iterable[int]) -> str:
    """Seeds in words: `10 to 19, 40, 50 to 59`."""
    ordered = sorted(seeds)
    starts = [s for i, s in enumerate(ordered) if not i or ordered[i - 1] < s - 1]
    ends = [s for i, s in enumerate(ordered) if i == len(ordered) - 1 or ordered[i + 1] > s + 1]
    return ", ".join(f"{a} to {b}" if a < b else f"{a}" for a, b in zip(starts, ends, strict=True))


def totals(found: "Sequence[Verdict]") -> list[str]:
    """How verdicts fared, by whose statement a claim is, and how far chance may have decided them."""
    from phenomena.runs.store import claims

    groups = {"the paper's": "paper", "our own": "ours", "checks of the code": "check"}
    lines = []
    for words, origin in groups.items():
        if some := [v for v in found if v.claim.origin == origin]:
            counts = ", ".join(f"{n} {name}" for name, n in claims.count(some).items())
            lines.append(f"claims, {words}: {counts}")
    findings = claims.findings(found)
    if tested := [v for v in findings if v.p is not None and v.verdict != "inconclusive"]:
        wrong, stay = claims.wrong_by_chance(findings), len(claims.after_holm(findings))
        lines += [
            f"{len(tested)} of them, checks aside, are decided by an interval: at most {wrong:.1f} wrong by chance, in "
            "expectation",
            f"{stay} stay after Holm's correction over all {len([v for v in findings if v.p is not None])}; "
            "both hold however claims on the same runs depend on each other",
        ]
    return lines


# --- of a study that is extended --------------------------------------------------------------------------------------


def declared(study: "Study") -> str:
    """What is declared before the first block."""
    from phenomena.runs.store import claims

    sizes = [point.parameters["seeds"] for point in study.points]
    size = f"{sizes[0]}" if len(set(sizes)) == 1 else f"{min(sizes)} to {max(sizes)}"
    blocks = f"{len(sizes)} block{'s' if len(sizes) > 1 else ''} of {size} seeds from {study.points[0].changed['seed']}"
    there = f"{study.seeds} seeds there, {len(study.open)} claims open" if study.pool else "not run yet"
    looks = f"{study.looks} looks, so intervals of error {claims.ERROR} / {study.looks}"
    most = "" if study.target else "at most "
    return f"{study.chapter.name}: {there}; {most}{blocks}, about {duration(study.seconds)} each; {looks}"


def look(study: "Study") -> str:
    """How far a study is after a round."""
    decided = sum(v.verdict != "inconclusive" for v in study.verdicts)
    still = len(study.verdicts) - decided
    return f"{study.chapter.name}: {study.seeds} seeds, {decided} claims decided, {still} open, {duration(study.spent)}"


def outcome(study: "Study") -> list[str]:
    """Why a study stopped, which verdicts changed, and what the open claims would need."""
    before = {v.claim.name: v.verdict for v in study.first}
    lines = [f"{study.chapter.name}: {study.stopped}"]
    for v, line in zip(study.verdicts, columns([measured(v) for v in study.verdicts]), strict=True):
        was = before.get(v.claim.name, "not measured")
        if v.verdict != was:
            lines.append(f"{line}  was {was}")
        elif v.verdict == "inconclusive" and study.pool:
            lines.append(f"{line}  {remark(v, study.pool)}")
    return lines
