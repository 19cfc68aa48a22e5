"""How long a run will take, and telling how far it is: a bar on a terminal, a line now and then in a log."""

import json
import shutil
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

from phenomena.runs import words
from phenomena.runs.contract.errors import BadInput
from phenomena.runs.contract.notebook import PROGRESS
from phenomena.runs.store import published, runs
from phenomena.runs.store.chapters import Chapter, Project
from phenomena.runs.store.pools import SEEDS
from phenomena.runs.store.runs import Record

FIRST, MOST = 30, 600  # seconds until the first line in a log, and at most between two
YOUNGEST = 50  # runs that are looked at for what a chapter costs
PRIOR = 0.05  # share of a run that must be done until what was measured counts as much as what was expected


@dataclass(frozen=True)
class Expected:
    """What a run will cost: seconds in all, in words with whence, and of each section of the notebook."""

    seconds: float
    told: str
    sections: dict[str, float] = field(default_factory=dict)


def earlier(project: Project, chapter: Chapter) -> list[Record]:
    """The youngest runs of a chapter that are at hand, the last one first."""
    folders = [folder for folder in (project.runs / chapter.name).glob("*") if (folder / runs.RECORD).is_file()]
    folders.sort(key=lambda folder: (folder / runs.RECORD).stat().st_mtime, reverse=True)
    return [run.record for run in map(runs.read, folders[:YOUNGEST]) if run]


def expected(
    project: Project, chapter: Chapter, parameters: Mapping[str, Any], there: Iterable[Record] | None = None
) -> Expected:
    """The cost of the run that differs in the fewest parameters, or of the edition if none is nearer, per seed.

    there: the runs to choose from, those at hand unless said. Shares of an edition's sections are those of its
    published record.
    """
    editions = {name: chapter.resolve(name) for name in chapter.file.editions}
    name = min(editions, key=lambda name: _differences(editions[name], parameters))
    found = list(earlier(project, chapter) if there is None else there)
    nearest = min(found, key=lambda record: _differences(record.parameters, parameters), default=None)
    if nearest and _differences(nearest.parameters, parameters) <= _differences(editions[name], parameters):
        scale = parameters["seeds"] / nearest.parameters["seeds"]
        seconds = nearest.seconds["total"] * scale
        told = f"about {words.duration(seconds)}, going by a run at hand"
        return Expected(seconds, told, {part: s * scale for part, s in _sections(nearest).items()})
    cost = chapter.file.editions[name].cost
    seconds = cost.seconds * parameters["seeds"] / editions[name]["seeds"]
    shares: dict[str, float] = {}
    with suppress(BadInput):  # nothing is published
        shares = _sections(published.read(project, chapter, name))
    whole = sum(shares.values()) or 1.0
    told = f"about {words.duration(seconds)} on {cost.machine}"
    return Expected(seconds, told, {part: s / whole * seconds for part, s in shares.items()})


def _differences(some: Mapping[str, Any], other: Mapping[str, Any]) -> int:
    names = (some.keys() | other.keys()) - {*SEEDS}
    return sum(some.get(name) != other.get(name) for name in names)


def _sections(record: Record) -> dict[str, float]:
    return {name: seconds for name, seconds in record.seconds.items() if name not in ("total", "overhead")}


def left(cost: Expected, spent: Mapping[str, float], now: str, here: float = 0.0) -> float:
    """Seconds left of a run.

    spent: seconds in each section so far. now: the section under way. here: seconds left of the part of it that
    reports its progress. What is still to come takes as many times the expected as what is done did.
    """
    if not cost.sections:
        return max(cost.seconds - sum(spent.values()), here)
    before = {name: seconds for name, seconds in spent.items() if name not in (now, "")}
    done, prior = sum(before.values()), PRIOR * cost.seconds
    known = sum(cost.sections.get(name, 0.0) for name in before)
    inside, whole = spent.get(now, 0.0), cost.sections.get(now, 0.0)
    this = max((done + prior) / (known + prior) * whole, inside + here)
    pace = (done + this + prior) / (known + whole + prior)
    return this - inside + pace * sum(s for name, s in cost.sections.items() if name not in spent and name != now)


class Told:
    """How far a run is, for whoever tells it; its cells say where they begin, its notebook's parts what they did."""

    def __init__(self, name: str, cost: Expected, path: Path) -> None:
        """name: of the chapter. path: where the notebook reports."""
        self.name, self.cost, self.path = name, cost, path
        self.began = self.since = time.monotonic()
        self.section, self.spent = "", dict[str, float]()
        self.label, self.labelled = None, self.began
        self.done, self.total = 0, 0

    def enter(self, section: str) -> None:
        """A cell of that section begins."""
        now = time.monotonic()
        if self.section:  # the kernel's start is of no section
            self.spent[self.section] = self.spent.get(self.section, 0.0) + now - self.since
        self.section, self.since = section, now

    def look(self) -> str:
        """Reads what the notebook reports; the time left in words."""
        with suppress(OSError, json.JSONDecodeError):
            state = json.loads(self.path.read_text())
            if state["label"] != self.label:
                self.label, self.labelled = state["label"], time.monotonic()
            self.done, self.total = state["done"], state["total"]
        now = time.monotonic()
        here = (now - self.labelled) / self.done * (self.total - self.done) if self.done and self.label else 0.0
        spent = {**self.spent, self.section: self.spent.get(self.section, 0.0) + now - self.since}
        seconds = left(self.cost, spent, self.section, here)
        return f"about {words.duration(seconds)} left" if seconds >= 1 else "longer than expected"


@contextmanager
def shown(name: str, cost: Expected | None, path: Path) -> Iterator[tuple[Told | None, dict[str, str]]]:
    """Tells how far a run is while it lasts, by what its notebook writes to the path; nothing if no cost is known.

    Yields whom to tell of its sections, and what the notebook's kernel must see in its environment.
    """
    if cost is None:
        yield None, {}
        return
    told, stop = Told(name, cost, path), threading.Event()
    follow = _bar if sys.stderr.isatty() else _lines
    follower = threading.Thread(target=follow, args=(told, stop), daemon=True)
    follower.start()
    try:
        yield told, {PROGRESS: str(path)}
    finally:
        stop.set()
        follower.join()


def _bar(told: Told, stop: threading.Event) -> None:
    columns, rows = shutil.get_terminal_size()  # tqdm would take a terminal of unknown size for one of size zero
    start, whole = "{desc} [{elapsed}{postfix}]", "{desc} {bar} {n}/{total} [{elapsed}{postfix}]"
    with tqdm(desc=f"{told.name} · starting", bar_format=start, leave=False, ncols=columns, nrows=rows) as bar:
        bar.set_postfix_str(told.cost.told)
        while not stop.wait(0.5):
            text = told.look()
            if told.label:
                bar.total, bar.n, bar.bar_format = told.total, told.done, whole
                bar.set_description_str(f"{told.name} · {told.label}", refresh=False)
            bar.set_postfix_str(text, refresh=False)
            bar.refresh()


def _lines(told: Told, stop: threading.Event) -> None:
    """A line at the start of what will take its time, then ever more rarely."""
    if told.cost.seconds >= FIRST:
        _say(f"{told.name}: {told.cost.told}")
    wait = float(FIRST)
    while not stop.wait(wait):
        text = told.look()
        elapsed = time.monotonic() - told.began
        part = f"{told.label} {told.done} of {told.total}" if told.label else told.section or "starting"
        _say(f"{told.name}: {words.duration(elapsed)}, {part}, {text}")
        wait = min(elapsed / 2, MOST)


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()
