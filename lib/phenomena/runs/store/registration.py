"""When each claim was registered, read from git: what stood before a run was not written to fit it.

A claim is registered by the commit in which its present statement, expression and threshold first stood together, if
they have stood since. It is sought as `git blame` seeks a line: from a version of the chapter's file to those that it
comes from, as long as one of them has the claim. Layout and the other fields of a claim do not count.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import yaml

from phenomena.runs.store import history as histories
from phenomena.runs.store.chapters import Chapter, Project, SafeLoader
from phenomena.runs.store.git import git
from phenomena.runs.store.history import History, State
from phenomena.runs.store.runs import Record

COMMIT = re.compile(r"([0-9a-f]{40}|[0-9a-f]{64})(-dirty)?")
Standing = Literal["registered", "at or before", "not committed", "not known"]


class Changes(NamedTuple):
    """How often each part of a claim changed."""

    statement: int
    expression: int
    threshold: int


@dataclass(frozen=True)
class Registration:
    """When a claim's present text was registered, and whether before or after the commits of some runs."""

    standing: Standing
    commit: str | None = None  # that registered it; at the end of a shallow clone's history, where it stands already
    date: str | None = None  # of that commit, ISO 8601
    order: Literal["before", "after"] | None = None  # before all the runs, after one of them
    runs: int = 1
    why: str = ""  # standing or order is not known
    changed: Changes | None = None  # since the chapter's first run; None before there is one
    since: str | None = None  # the day that changes are counted from, where the clone does not reach the first run
    late: bool = False  # name, statement and expression are all younger than the chapter's first run

    @property
    def day(self) -> str:
        """The day of the registration, or what is known of it."""
        if self.date is None:
            return self.standing
        return f"{'at or before ' if self.standing == 'at or before' else ''}{self.date[:10]}"

    @property
    def relation(self) -> str:
        """How it stands to the runs, in a word or two of Markdown."""
        return {"before": "before", "after": "**after**", None: "not known"}[self.order]

    @property
    def short(self) -> str:
        """Day, commit and order for a table, in Markdown."""
        if not self.commit:
            return self.day
        measure = self.changed and (self.changed.expression or self.changed.threshold)
        younger = "; new since the first run" if self.late else "; changed since the first run" if measure else ""
        return f"{self.day} `{self.commit[:7]}`, {self.relation}{younger}"

    @property
    def text(self) -> str:
        """All of it as one sentence of Markdown, without its full stop."""
        if self.standing == "not known":
            return f"Registration not known: {self.why}"
        if self.standing == "not committed":
            return f"Not committed; {self._changes}"
        ends = " (where this clone's history begins)" if self.standing == "at or before" else ""
        runs = "this run" if self.runs == 1 else f"these {self.runs} runs"
        if self.order is None:
            order = f"before or after {runs} is not known ({self.why})"
        else:
            order = f"{self.relation} {'one of ' if self.runs > 1 and self.order == 'after' else ''}{runs}"
        return f"Registered {self.day} in `{(self.commit or '')[:7]}`{ends}, {order}; {self._changes}"

    @property
    def _changes(self) -> str:
        if self.changed is None:
            return "the chapter has no published run yet"
        first = f"{self.since} (where this clone's history begins)" if self.since else "the chapter's first run"
        new = f"new in name, wording and expression since {first}"
        if not any(self.changed):
            return new if self.late else f"unchanged since {first}"
        wording, expression, threshold = (
            {0: "never", 1: "once", 2: "twice"}.get(number, f"{number} times") for number in self.changed
        )
        verb = "never changed" if threshold == "never" else f"changed {threshold}"
        start = f"{new}; after that" if self.late else f"since {first}"
        return f"{start} the threshold {verb}, the expression {expression}, the wording {wording}"

    def row(self) -> dict[str, Any]:
        """The registration as flat fields, for data files."""
        counts = self.changed._asdict() if self.changed else dict.fromkeys(Changes._fields)
        return {
            "registration": self.standing,
            "registered": self.date,
            "registered_in": self.commit,
            "registered_order": self.order,
            **{f"{part}_changes": number for part, number in counts.items()},
        }


def registrations(project: Project, chapter: Chapter, record: Record) -> dict[str, Registration]:
    """The registration of each of a chapter's claims, by the claim's name, beside the run or the pool of a record.

    Raises `BadInput` for a chapter's file that cannot be read. What git does not say is not known.
    """
    names = [claim.name for claim in chapter.file.claims]
    history = histories.read(project.root)
    if history is None:
        return dict.fromkeys(names, Registration("not known", why="no git history can be read here"))
    path = chapter.notebook.with_suffix(".yaml")
    versions = _versions(project.root, history, path.relative_to(project.root).as_posix(), path.read_bytes())
    if versions is None:
        return dict.fromkeys(names, Registration("not known", why="this clone does not hold older versions"))
    first, since = _first_run(history, f"{history.prefix}book/published/{chapter.name}/default.json")
    begun = history.ancestors(first) if first else frozenset()
    runs = _runs(project.root, history, record)
    found = {}
    for name in names:
        found[name] = _registered(history, runs, versions.origins(name))
        if first:
            changed, late = versions.changes(name, begun, history.ends)
            found[name] = replace(found[name], changed=changed, since=since, late=late)
    return found


def summary(found: Sequence[Registration]) -> str:
    """How many were registered before and after their runs, and how many have changed, in two sentences."""
    before, after, unknown = (sum(r.order == order for r in found) for order in ("before", "after", None))
    absent = sum(r.standing == "not committed" for r in found)
    changed = [sum(r.changed is not None and r.changed[part] > 0 for r in found) for part in range(3)]
    return (
        f"Claims whose present wording, expression and threshold stood in git before the runs that decide them: "
        f"{before}; not before: {after}; not known: {unknown}{f' ({absent} not committed)' if absent else ''}. "
        f"Claims changed since the first run of their chapter: in threshold {changed[2]}, in expression {changed[1]}, "
        f"in wording {changed[0]}."
    )


# --- registration and runs --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Runs:
    """The commits that the commits of all runs are or come from, and those that come from that of one."""

    number: int
    older: frozenset[str] = frozenset()
    newer: frozenset[str] = frozenset()
    why: str = ""  # a commit is in neither


def _runs(root: Path, history: History, record: Record) -> _Runs:
    commits = [part.commit for part in record.counted]
    runs = [_run(root, history, commit) for commit in dict.fromkeys(commits)]
    return _Runs(
        len(commits),
        frozenset.intersection(*(run.older for run in runs)),
        frozenset.union(*(run.newer for run in runs)),
        next((run.why for run in runs if run.why), "its commit is on another line of history"),
    )


def _run(root: Path, history: History, commit: str | None) -> _Runs:
    match = COMMIT.fullmatch(commit or "")
    if match is None:
        return _Runs(1, why="it names no commit")
    if match[1] in history.parents:
        return _Runs(1, history.ancestors(match[1]), history.descendants(match[1]) - {match[1]})
    listed = git(root, "rev-list", match[1])  # it may lie on another branch
    if listed is None:
        return _Runs(1, why=f"this clone does not hold its commit `{match[1][:7]}`")
    return _Runs(1, frozenset(listed.split()))


def _first_run(history: History, path: str) -> tuple[str | None, str | None]:
    """The commit in which the published record of a chapter first was there, None before there is one.

    Beside it, where a shallow clone does not reach that commit, the day on which its history begins.
    """
    older, blobs = history.follow(path)
    there = {state: blob is not None for state, blob in blobs.items()}
    kept, _ = histories.versions(older, there)
    entered = [state[0] for state, before in kept.items() if there[state] and not any(there[b] for b in before)]
    if not entered:
        return None, None
    first = history.earliest(entered)
    return first, history.dates[first][:10] if history.ends.intersection(entered) else None


def _registered(history: History, runs: _Runs, origins: set[str]) -> Registration:
    """The registration by the earliest of some commits, the runs' ancestors before others."""
    if "" in origins:
        return Registration("not committed", runs=runs.number)
    commit = history.earliest(origins & runs.older or origins)
    standing: Standing = "at or before" if commit in history.ends else "registered"
    known = Registration(standing, commit, history.dates[commit], runs=runs.number)
    if commit in runs.older:
        return replace(known, order="before")
    return replace(known, order="after") if commit in runs.newer else replace(known, why=runs.why)


# --- the versions of a chapter's claims -------------------------------------------------------------------------------


class Text(NamedTuple):
    """What is registered of a claim, whatever its layout; None for a part that is not there."""

    statement: str | None
    expression: str | None
    threshold: tuple[str, ...] | None


def _claims(content: bytes) -> dict[str, Text] | None:
    """The claims of a chapter's file of any age, by name; None for a file that has none to be read."""
    try:
        listed = yaml.load(content, SafeLoader)["claims"]
    except (yaml.YAMLError, ValueError, TypeError, KeyError, RecursionError):
        return None
    if not isinstance(listed, list):
        return None
    named = [claim for claim in listed if isinstance(claim, dict) and isinstance(claim.get("name"), str)]
    return {claim["name"]: _text(claim) for claim in named}


def _text(claim: Mapping[str, Any]) -> Text:
    statement, expression = claim.get("statement"), claim.get("measured")
    side = next((side for side in ("above", "below", "between") if claim.get(side) is not None), None)
    bounds = claim[side] if side else []
    return Text(
        None if statement is None else " ".join(str(statement).split()),
        None if expression is None else "".join(str(expression).split()),
        (side, *map(_bound, bounds if isinstance(bounds, list) else [bounds])) if side else None,
    )


def _bound(value: Any) -> str:
    """A bound as it is compared: 1, 1.0 and "1e0" are one."""
    try:
        return repr(float(value))
    except (TypeError, ValueError):
        return str(value)


@dataclass(frozen=True)
class _Versions:
    """The claims of a chapter's file in every version, from the one that lies there now."""

    now: State
    older: Mapping[State, list[State]]
    claims: Mapping[State, Mapping[str, Text]]

    def origins(self, name: str) -> set[str]:
        """The commits that brought the present text of a claim; "" for one that is not committed."""
        wanted = self.claims[self.now][name]
        seen, waiting, found = set(), [(self.now, name)], set()
        while waiting:
            if (at := waiting.pop()) not in seen:
                seen.add(at)
                same = [(state, known) for state, known in self._before(*at) if self.claims[state][known] == wanted]
                waiting += same
                if not same:
                    found.add(at[0][0])
        return found

    def changes(self, name: str, begun: Collection[str], ends: Collection[str]) -> tuple[Changes, bool]:
        """How often each part of a claim changed outside the commits `begun`, and whether the claim entered there.

        A commit changes what it has and none of its parents has; a claim that was away for a while is compared with
        what it was when it went. Where it entered is not known when that is at one of the `ends`.
        """
        counts, entered = [0, 0, 0], set()
        seen, waiting = set(), [(self.now, name)]
        while waiting:
            if (at := waiting.pop()) in seen:
                continue
            seen.add(at)
            (commit, _), text = at[0], self.claims[at[0]][at[1]]
            before = self._before(*at) or self._away(*at)
            waiting += before
            if not before:
                entered.add(commit)
            elif commit not in begun:
                for part in range(len(counts)):
                    counts[part] += all(text[part] != self.claims[state][known][part] for state, known in before)
        return Changes(*counts), entered.isdisjoint(begun) and entered.isdisjoint(ends)

    def _before(self, state: State, name: str) -> list[tuple[State, str]]:
        """The same claim in the versions just before."""
        names = [(older, self._name(state, name, older)) for older in self.older[state]]
        return [(older, known) for older, known in names if known is not None]

    def _name(self, state: State, name: str, older: State) -> str | None:
        """The claim's name in an older version: its own, or that of a gone claim with its statement or expression."""
        here, there = self.claims[state], self.claims[older]
        if name in there:
            return name
        text = here[name]
        gone = {
            old: [a == b for a, b in zip(text, known, strict=True)] for old, known in there.items() if old not in here
        }
        alike = {old: sum(equal) for old, equal in gone.items() if equal[0] or equal[1]}
        return max(alike, key=alike.__getitem__, default=None)

    def _away(self, state: State, name: str) -> list[tuple[State, str]]:
        """The claim of that name as it was when it was removed."""
        seen, waiting, found = set(), list(self.older[state]), []
        while waiting:
            if (older := waiting.pop()) not in seen:
                seen.add(older)
                if name in self.claims[older]:
                    found.append((older, name))
                else:
                    waiting += self.older[older]
        return found


def _versions(root: Path, history: History, path: str, content: bytes) -> _Versions | None:
    """The versions of a chapter's file; one that cannot be read counts as the one before it.

    None where the clone does not hold them all.
    """
    older, blobs = history.follow(history.prefix + path)
    texts = histories.contents(root, blobs.values())
    if texts is None:
        return None
    read = {blob: found for blob, text in texts.items() if (found := _claims(text)) is not None}
    known: dict[State, str | None] = {}
    for state, before in reversed(list(older.items())):
        blob = blobs[state]
        known[state] = blob if blob is None or blob in read else known[before[0]] if before else None
    kept, same = histories.versions(older, known)
    claims = {state: read.get(known[state] or "", {}) for state in kept}
    now = ("", path)
    kept[now] = [same[history.head, history.prefix + path]] if history.head else []
    claims[now] = _claims(content) or {}
    return _Versions(now, kept, claims)
