"""Evidence pooled: runs that differ in their seeds alone are one study, joined seed by seed."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from phenomena.runs.contract.errors import BadInput
from phenomena.runs.store import keys, runs
from phenomena.runs.store.chapters import Chapter, Project
from phenomena.runs.store.runs import Part, Record

SEEDS = ("seed", "seeds")


def pool(records: Sequence[Record], looks: int = 1) -> Record:
    """The records of runs, or of pools, as one: its seeds rise, and every run is named.

    A seed counts once, where it is first met in the order of the records; later ones are listed as left out. looks: at
    how many sizes verdicts are asked for; never fewer than there are runs that count, since each may have been looked
    at. A value that a run has only for its first seeds is absent for the others. Raises `BadInput` for no record, or
    for records of different chapters, parameters, code or lock, naming what differs.
    """
    if not records:
        raise BadInput("no run to pool")
    first = records[0]
    for other in records[1:]:
        if difference := differs(first, other):
            raise BadInput(f"{other.key} does not belong to the study of {first.key}: {difference}")
    taken: dict[int, dict[str, float | None]] = {}
    parts: dict[tuple[str, str], Part] = {}  # by key and start: the same run may come twice, alone and in a pool
    for record in records:
        fresh = [seed for seed in record.seeds if seed not in taken]
        for place, seed in enumerate(record.seeds):
            if seed in fresh:
                taken[seed] = {name: column[place] for name, column in record.values.items() if place < len(column)}
        for part in record.pool or record.counted:
            mine = [seed for seed in part.seeds if seed in fresh]
            left_out = sorted({*part.left_out, *part.seeds} - set(mine))
            parts.setdefault((part.key, part.started), part.model_copy(update={"seeds": mine, "left_out": left_out}))
    counted = sum(bool(part.seeds) for part in parts.values())
    looks = max(looks, counted, *(record.looks for record in records))
    if len(parts) == 1:
        return first.model_copy(update={"looks": looks})
    seeds = sorted(taken)
    names = dict.fromkeys(name for record in records for name in record.values)
    return first.model_copy(
        update={
            "seeds": seeds,
            "parameters": first.parameters | {"seed": seeds[0], "seeds": len(seeds)},
            "values": {name: [taken[seed].get(name) for seed in seeds] for name in names},
            "pool": list(parts.values()),
            "looks": looks,
        }
    )


def differs(first: Record, second: Record) -> str:
    """In what two records are of different studies, in words; nothing if they are of one."""
    if first.chapter != second.chapter:
        return f"it is of {second.chapter}, not {first.chapter}"
    for name in sorted(first.parameters.keys() | second.parameters.keys()):
        here, there = first.parameters.get(name), second.parameters.get(name)
        if name not in SEEDS and here != there:
            return f"{name} is {there!r}, not {here!r}"
    modules = [m for m in sorted(first.modules.keys() | second.modules.keys())
               if first.modules.get(m) != second.modules.get(m)]  # fmt: skip
    if modules:
        return f"its code differs in {', '.join(modules[:3])}{' and others' if len(modules) > 3 else ''}"
    if first.lock_sha256 != second.lock_sha256:
        return "it ran with another requirements.lock"
    if first.study is None or second.study is None:
        return "" if first.key == second.key else "one of them is from before records named their study"
    return "" if first.study == second.study else "its notebook's code differs"


def study(
    project: Project, chapter: Chapter, edition: str = "default", overrides: Mapping[str, Any] | None = None
) -> tuple[str, str]:
    """The study that an edition's run belongs to with today's sources, and the run's key."""
    sources = keys.sources(chapter, keys.sha256(project.lock.read_bytes()))
    parameters = chapter.resolve(edition, overrides)
    return sources.study(parameters), sources.key(parameters)


def at_hand(
    project: Project, chapter: Chapter, edition: str = "default", overrides: Mapping[str, Any] | None = None
) -> list[Record]:
    """The runs of an edition's study that match today's sources, the edition's own first, then the oldest."""
    wanted, own = study(project, chapter, edition, overrides)
    found = [run.record for run in map(runs.read, sorted((project.runs / chapter.name).glob("*"))) if run]
    same = [record for record in found if record.study == wanted]
    return sorted(same, key=lambda record: (record.key != own, record.started))


def studies(project: Project, records: Iterable[Record]) -> list[Record]:
    """One record a study, pooled where a study has several, in the order in which they first appear."""
    groups: dict[str, list[Record]] = {}
    for record in records:
        groups.setdefault(record.study or record.key, []).append(record)
    return [pool(group, declared_looks(project, group[0].chapter, name)) for name, group in groups.items()]


# --- what was declared of a study -------------------------------------------------------------------------------------


def declared_looks(project: Project, chapter: str, study: str) -> int:
    """How many looks were declared before the study was extended; 1 if none were."""
    try:
        return int(json.loads(_plan(project, chapter, study).read_text())["looks"])
    except (OSError, ValueError, KeyError, TypeError):
        return 1


def declare_looks(project: Project, chapter: str, study: str, looks: int) -> int:
    """Declares that many looks in all, unless more were declared before; returns how many are."""
    looks = max(looks, declared_looks(project, chapter, study))
    runs.write(_plan(project, chapter, study), json.dumps({"looks": looks}).encode())
    return looks


def _plan(project: Project, chapter: str, study: str) -> Path:
    return project.runs / ".looks" / f"{chapter}-{study}.json"
