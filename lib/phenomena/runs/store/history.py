"""The history of a project's yaml and json files, read from git by its plumbing alone, which few settings change."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from phenomena.runs.store.git import git, holds, output

FILES = (":(top)*.yaml", ":(top)*.yml", ":(top)*.json")  # a chapter's file or record, wherever it once lay
EMPTY = {40: "4b825dc642cb6eb9a060e54bf8d69288fbee4904",  # the tree without files, by the length of names
         64: "6ef19b41225c5369f1c104d45d8d85efa9b057b53b14b4b9b939dd74decc5321"}  # fmt: skip

State = tuple[str, str]  # a commit, and the path of a file in it


class Change(NamedTuple):
    """What a commit did to a file: the path that it had in the parent, and its blob since, None for no file."""

    was: str
    blob: str | None


@dataclass(frozen=True)
class History:
    """The commits that HEAD comes from, children first, and what each did to the files that matter here."""

    prefix: str  # the project's folder in the repository, with a slash at its end; empty at the top
    head: str | None  # None before the first commit
    ends: frozenset[str]  # commits at which a shallow clone breaks off
    parents: Mapping[str, list[str]] = field(default_factory=dict)
    dates: Mapping[str, str] = field(default_factory=dict)  # of the committer, ISO 8601
    changes: Mapping[State, Mapping[str, Change]] = field(default_factory=dict)  # by commit and parent ("" for none)

    def ancestors(self, commit: str) -> frozenset[str]:
        """The commit and all that it comes from."""
        found, waiting = set(), [commit]
        while waiting:
            if (commit := waiting.pop()) not in found:
                found.add(commit)
                waiting += self.parents[commit]
        return frozenset(found)

    def descendants(self, commit: str) -> frozenset[str]:
        """The commit and all that come from it."""
        found = {commit}
        for child, parents in reversed(list(self.parents.items())):
            if not found.isdisjoint(parents):
                found.add(child)
        return frozenset(found)

    def earliest(self, commits: Iterable[str]) -> str:
        """The one of the commits that was made first."""
        return max(commits, key=list(self.parents).index)

    def follow(self, path: str) -> tuple[dict[State, list[State]], dict[State, str | None]]:
        """A file of HEAD in all commits, wherever it lay: each state's parents, children first, and its blob.

        The blob is None where there is no such file.
        """
        older: dict[State, list[State]] = {}
        waiting: dict[str, dict[str, None]] = {self.head: {path: None}} if self.head else {}
        for commit, parents in self.parents.items():
            for place in waiting.pop(commit, {}):
                changed = ((parent, self.changes[commit, parent].get(place)) for parent in parents)
                older[commit, place] = [(parent, change.was if change else place) for parent, change in changed]
                for parent, was in older[commit, place]:
                    waiting.setdefault(parent, {})[was] = None
        blobs: dict[State, str | None] = {}
        for (commit, place), before in reversed(list(older.items())):
            change = self.changes[commit, before[0][0] if before else ""].get(place)
            blobs[commit, place] = change.blob if change else blobs[before[0]] if before else None
        return older, blobs


def read(root: Path) -> History | None:
    """The history of the repository that holds the project in the folder; None where there is none, or no git."""
    where = git(root, "rev-parse", "--git-path", "shallow", "--show-prefix")
    if where is None:
        return None
    shallow, *rest = where.splitlines()
    ends = (root / shallow).read_text().split() if (root / shallow).is_file() else []
    return _read(root, "".join(rest), git(root, "rev-parse", "--verify", "--quiet", "HEAD"), frozenset(ends))


@lru_cache(maxsize=1)  # shared by the chapters of a book
def _read(root: Path, prefix: str, head: str | None, ends: frozenset[str]) -> History | None:
    if head is None:
        return History(prefix, None, ends)
    if not holds(root):
        return None
    listed = git(root, "rev-list", "--date-order", "--encoding=UTF-8", "--format=%H %T %cI %P", head)
    if listed is None:
        return None
    lines = [line.split(" ") for line in listed.splitlines() if not line.startswith("commit ")]
    trees = {commit: tree for commit, tree, *_ in lines}
    dates = {commit: date for commit, _, date, *_ in lines}
    parents = {commit: [parent for parent in older if parent] for commit, _, _, *older in lines}
    pairs = [(commit, parent) for commit, older in parents.items() for parent in older or [""]]
    given = "".join(f"{trees.get(parent, EMPTY[len(head)])} {trees[commit]}\n" for commit, parent in pairs)
    options = ("-r", "-z", "--raw", "-M", "-l1000", "--no-relative")
    diffs = output(root, "diff-tree", "--stdin", *options, "--", *FILES, given=given.encode())
    if diffs is None:
        return None
    return History(prefix, head, ends, parents, dates, dict(zip(pairs, _changes(diffs), strict=True)))


def _changes(diffs: bytes) -> list[dict[str, Change]]:
    """The changes between each pair of trees: a line with the pair, then fields that end with a zero byte."""
    found: list[dict[str, Change]] = []
    fields = iter(diffs.split(b"\0"))
    for meta in fields:
        *pairs, meta = meta.split(b"\n")
        found += [{} for _ in pairs]
        if not meta:  # after the last zero byte
            break
        *_, blob, status = meta.decode().split()
        path = os.fsdecode(next(fields))
        if status.startswith("R"):
            found[-1].setdefault(path, Change(path, None))
            found[-1][os.fsdecode(next(fields))] = Change(path, blob)
        elif status == "D":
            found[-1].setdefault(path, Change(path, None))
        else:
            found[-1][path] = Change(path, blob)
    return found


def versions(
    older: Mapping[State, list[State]], content: Mapping[State, Any]
) -> tuple[dict[State, list[State]], dict[State, State]]:
    """The states of which the content is not that of all before, each with those it comes from, parents first.

    Beside them, for every state the one among them that it equals.
    """
    kept: dict[State, list[State]] = {}
    same: dict[State, State] = {}
    for state, before in reversed(list(older.items())):
        parents = list(dict.fromkeys(same[parent] for parent in before))
        if len(parents) == 1 and content[parents[0]] == content[state]:
            same[state] = parents[0]
        else:
            same[state], kept[state] = state, parents
    return kept, same


def contents(root: Path, blobs: Iterable[str | None]) -> dict[str, bytes] | None:
    """The contents of the blobs; None where this clone does not hold them all."""
    names = sorted({blob for blob in blobs if blob})
    printed = output(root, "cat-file", "--batch", given="".join(f"{name}\n" for name in names).encode()) or b""
    found, start = {}, 0
    for name in names:
        end = printed.find(b"\n", start) + 1
        head = printed[start:end].split()  # name, type, size; or name, missing
        if len(head) != 3:
            return None
        start = end + int(head[2]) + 1
        found[name] = printed[end : start - 1]
    return found
