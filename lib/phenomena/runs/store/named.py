"""A run that a person names: by its chapter, its key, its folder, or a notebook that was executed elsewhere."""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from phenomena.runs.contract.errors import BadInput, nearest
from phenomena.runs.store import keys, pools, runs
from phenomena.runs.store.chapters import Chapter, Project, read_notebook
from phenomena.runs.store.runs import Record, Run

if TYPE_CHECKING:  # imported only where a notebook is read
    from nbformat import NotebookNode

KEY = re.compile(r"[0-9a-f]{4,16}")
ACCEPTED = "must be a chapter, a run's key or its folder, or the path of an executed notebook or of a record"


class NotRun(BadInput):
    """There is no such run yet; it says what makes it."""


@dataclass(frozen=True)
class Loose(Run):
    """A record or an executed notebook that lies anywhere, not in a run's folder."""

    path: Path

    @cached_property
    def notebook(self) -> "NotebookNode":
        """The executed notebook. Raises `BadInput` for a record that lies alone."""
        if self.path.suffix != ".ipynb":
            raise BadInput(f"{self.path}: is a record alone: its figures are in the run's notebook")
        return read_notebook(self.path)


@dataclass(frozen=True)
class Named:
    """A run with its chapter. remarks: in what it does not match today's sources, a line each."""

    chapter: Chapter
    run: Run
    remarks: Sequence[str] = ()

    @property
    def edition(self) -> str:
        """Its edition; default for a person's own parameters, of which no record is published."""
        return self.run.record.edition or "default"


def find(project: Project, name: str, edition: str | None = None, overrides: Mapping[str, Any] | None = None) -> Named:
    """The run of that name: a chapter's with these parameters and today's sources, or any by its key or its path.

    Raises `BadInput` in one line where there is none or several, or where a path leads to no run.
    """
    chapters = {chapter.name: chapter for chapter in project.chapters()}
    if name in chapters:
        return _of_chapter(project, chapters[name], edition or "default", overrides or {})
    if edition or overrides:
        option = "--edition" if edition else "-p"
        if _path(project, name) or KEY.fullmatch(name):
            raise BadInput(f"{name}: {option} goes with a chapter's name, not with a run's")
        project.chapter(name)  # raises
    if path := _path(project, name):
        return _at(project, name, path)
    if KEY.fullmatch(name):
        return _of_key(project, name)
    if os.sep in name or Path(name).suffix in (".ipynb", ".json"):
        there = [str(path) for path in sorted(Path(name).parent.glob("*"))[:1000]]
        raise BadInput(f"{name}: there is no such file or folder{nearest(name, there) or ''}")
    raise BadInput(f"no run {name!r}{nearest(name, chapters) or ';'} {ACCEPTED}; chapters: {', '.join(chapters)}")


def _path(project: Project, name: str) -> Path | None:
    """The path of that name, from here or, as commands print it, from the project's root."""
    return next((path for path in (Path(name), project.home / name) if path.exists()), None)


def _of_chapter(project: Project, chapter: Chapter, edition: str, overrides: Mapping[str, Any]) -> Named:
    parameters = chapter.resolve(edition, overrides)
    run = runs.read(project.runs / chapter.name / keys.run_key(project, chapter, parameters))
    if run is None:
        raise NotRun(f"{chapter.name}: not run: {command(chapter, edition, overrides)}")
    return Named(chapter, run)


def command(chapter: Chapter, edition: str, overrides: Mapping[str, Any]) -> str:
    """What a person types for that run."""
    import shlex

    words = ["phenomena", "run", chapter.name, *([] if edition == "default" else ["--edition", edition])]
    return shlex.join([*words, *(word for name, value in overrides.items() for word in ("-p", f"{name}={value}"))])


def _of_key(project: Project, start: str) -> Named:
    homes = [project.runs / chapter.name for chapter in project.chapters()]
    found = [run for home in homes for run in map(runs.read, sorted(home.glob(f"{start}*"))) if run]
    if len(found) == 1:
        return _stored(project, found[0])
    if found:
        several = ", ".join(f"{run.record.key} ({run.record.chapter})" for run in found)
        raise BadInput(f"{start}: {len(found)} runs have keys that start so: {several}")
    there = [path.name for home in homes for path in home.glob("*")]
    raise BadInput(f"{start}: none of the {len(there)} runs here has such a key{nearest(start, there)}")


def _at(project: Project, name: str, path: Path) -> Named:
    """The run at a path. Raises `BadInput` where it leads to none."""
    if path.is_dir() or path.name in (runs.NOTEBOOK, runs.RECORD):
        folder = path if path.is_dir() else path.parent
        if run := runs.read(folder.resolve()):
            return _stored(project, run)
        if all((folder / file).is_file() for file in (runs.NOTEBOOK, runs.RECORD)):  # a copy of one
            return _stored(project, Loose(folder, runs.read_record(folder / runs.RECORD), folder / runs.NOTEBOOK))
        if path.is_dir():
            raise BadInput(f"{name}: is no run: must hold {runs.RECORD} and {runs.NOTEBOOK} of one")
    if path.suffix == ".json":
        return _stored(project, Loose(path.parent, runs.read_record(path), path))
    return _by_hand(project, name, path)


def _stored(project: Project, run: Run) -> Named:
    chapter = project.chapter(run.record.chapter)
    why = differences(project, chapter, run.record)
    commit = (run.record.commit or "").partition("-")[0][:12]
    made = f" (commit {commit} made it)" if commit else ""
    return Named(chapter, run, [f"run {run.record.key} does not match today's sources{made}: {why}"] if why else [])


def parameters(record: Record) -> dict[str, Any]:
    """The parameters of the run whose key a record bears, of a pool that of its first."""
    for part in record.pool:
        if part.key == record.key:
            seeds = {*part.seeds, *part.left_out}
            return record.parameters | {"seed": min(seeds), "seeds": len(seeds)}
    return dict(record.parameters)


def differences(project: Project, chapter: Chapter, record: Record) -> str:
    """Why today's sources would not give a record its key, in words; nothing if they would."""
    named = parameters(record)
    sources = keys.sources(chapter, keys.sha256(project.lock.read_bytes()))
    if sources.key(named) == record.key:
        return ""
    others = sorted(named.keys() ^ chapter.declaration.keys())
    if others:
        return f"parameter {others[0]!r} is {'unknown here' if others[0] in named else 'new here'}"
    today = {"modules": sources.modules, "lock_sha256": sources.lock_sha256, "study": sources.study(named)}
    before = record.model_copy(update={"study": record.study or record.key})
    return pools.differs(record.model_copy(update=today), before) or "its seeds do not fit its key"


# --- notebooks that were executed elsewhere ---------------------------------------------------------------------------


def _by_hand(project: Project, name: str, path: Path) -> Named:
    """The run in a notebook that someone executed in Jupyter, by Papermill or in Colab: its record lies in its outputs.

    Which chapter it is of is told by its code; its library's code and lock, which it does not name, are not known.
    """
    notebook = read_notebook(path, name)
    facts = runs.collect(notebook)
    if "parameters" not in facts:
        raise BadInput(f"{name}: holds no record: run all cells of a chapter's notebook and save it with its outputs")
    cells = _code(notebook)
    shared = {c: len(set(cells) & set(_code(c.source))) for c in project.chapters()}
    chapter = max(shared, key=lambda c: shared[c], default=None)
    if chapter is None or not shared[chapter]:
        raise BadInput(f"{name}: no chapter has code like this; chapters: {', '.join(c.name for c in shared)}")
    given = facts.pop("parameters")
    first, many = (given.get(word) for word in pools.SEEDS)
    if not (isinstance(first, int) and isinstance(many, int)):
        raise BadInput(f"{name}: its parameters have no seed and seeds: it is older than chapters of today's form")
    try:
        edition = chapter.edition_of(chapter.resolve(overrides=given))
    except BadInput:
        edition = None
    told = notebook.metadata.get("papermill", {})
    spent = sum(cell.metadata.get("papermill", {}).get("duration") or 0.0 for cell in notebook.cells)
    known = set(Record.model_fields)
    try:
        record = Record(
            chapter=chapter.name, edition=edition, key=name, parameters=given,
            seeds=list(range(first, first + many)), commit=None, lock_sha256="", modules={},
            started=str(told.get("start_time") or ""), seconds={"total": round(told.get("duration") or spent, 2)},
            **{word: fact for word, fact in facts.items() if word in known},
        )  # fmt: skip
    except ValidationError as error:
        fault = error.errors()[0]
        place = ".".join(map(str, fault["loc"]))
        raise BadInput(f"{name}: its record cannot be read: {place}: {fault['msg']}") from error
    return Named(chapter, Loose(path.parent, record, path), _remarks(name, chapter, notebook, record))


def _remarks(name: str, chapter: Chapter, notebook: "NotebookNode", record: Record) -> list[str]:
    """How a notebook made elsewhere differs from today's, and in what it is not whole."""
    found = [f"{name}: made outside of this project: its library's code and lock are not recorded"]
    today, cells = _code(chapter.source), _code(notebook)
    fresh, gone = [c for c in cells if c not in today], [c for c in today if c not in cells]
    if fresh or gone:
        found.append(
            f"other code: {len(gone)} of the {len(today)} cells of today's {chapter.name} missing, {len(fresh)} new"
        )
    if others := sorted(record.parameters.keys() ^ chapter.declaration.keys()):
        found.append(f"parameters that only one of the two has: {', '.join(others)}")
    if versions := [f"{p} {there} (here {here})" for p, there in record.versions.items()
                    if p != "python" and (here := _installed(p)) != there]:  # fmt: skip
        found.append(f"other versions: {', '.join(versions)}")
    code = [cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.strip()]
    counts = [cell.execution_count for cell in code if cell.execution_count is not None]
    if broken := [i for i, c in enumerate(code, 1) if any(o.output_type == "error" for o in c.outputs)]:
        found.append(f"code cell {broken[0]} raised an error")
    if len(counts) < len(code):
        found.append(f"not executed: {len(code) - len(counts)} of its {len(code)} code cells")
    if counts != sorted(set(counts)):
        found.append("its cells were not executed from top to bottom")
    return found


def of_today(project: Project, named: Named) -> Record:
    """The record of a run; of a notebook executed elsewhere as if today's library and lock had made it.

    Raises `BadInput` for such a notebook without all of today's code, since nothing here could repeat it.
    """
    record, chapter = named.run.record, named.chapter
    if record.lock_sha256:
        return record
    if set(_code(chapter.source)) - set(_code(named.run.notebook)):
        raise BadInput(f"{record.key}: cannot be made again: its code is not that of today's {chapter.name}")
    today = keys.sources(chapter, keys.sha256(project.lock.read_bytes()))
    key, study = today.key(record.parameters), today.study(record.parameters)
    made = {"key": key, "study": study, "modules": today.modules, "lock_sha256": today.lock_sha256}
    return record.model_copy(update=made)


def _installed(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"


def _code(notebook: "NotebookNode") -> list[str]:
    """The canonical code of the cells; a cell that is not plain Python, such as one with %, as it stands."""
    found = []
    for source in keys.cell_sources(notebook):
        try:
            found.append(keys.canonical_cell(source))
        except (SyntaxError, ValueError):
            found.append(source)
    return [code for code in found if code.strip("\n;")]
