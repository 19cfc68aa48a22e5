"""A run: its folder, its record (what determined it, measured, cost), its executed notebook, its figures."""

import base64
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, ValidationError

from phenomena.runs.contract.errors import BadInput
from phenomena.runs.contract.notebook import MIME
from phenomena.runs.store.chapters import Chapter, Project, read_notebook
from phenomena.runs.store.keys import run_key, sha256, sources

if TYPE_CHECKING:  # imported only where a notebook is read
    from nbformat import NotebookNode

NOTEBOOK, RECORD = "notebook.ipynb", "record.json"


class Caption(BaseModel):
    """A figure's name, caption and alternative text."""

    name: str
    caption: str
    alt: str


class Part(BaseModel):
    """A run in a pool: the seeds that count, and those left out because an earlier run gave them."""

    key: str
    seeds: list[int]
    left_out: list[int]
    processor: str
    commit: str | None
    started: str
    seconds: float


class Record(BaseModel):
    """The content of record.json: of a run, or of several that differ in their seeds alone."""

    model_config = ConfigDict(extra="forbid")

    schema_version: int = 1
    chapter: str
    edition: str | None  # None: parameters of a person's own
    key: str
    study: str | None = None  # as the key, but without seed and seeds; None in records from before there was one
    looks: int = 1  # at how many sizes of the pool its verdicts were, or may yet be, asked for
    pool: list[Part] = []  # the runs of a pool, empty for a single run
    parameters: dict[str, Any]
    seeds: list[int]
    values: dict[str, list[float | None]]  # one entry a seed; None where a seed gave no value
    figures: list[Caption]
    versions: dict[str, str]
    processor: str
    arithmetic: dict[str, str] = {}  # what the processor offers and libraries used; older records do not say
    gpu: str | None
    threads: int | None
    commit: str | None
    lock_sha256: str
    modules: dict[str, str]
    started: str
    seconds: dict[str, float]  # "total", "overhead" (all but the cells), then one a section of the notebook
    peak_memory_mb: float

    @property
    def counted(self) -> list[Part]:
        """The runs that its seeds come from: of a pool those with any that count, else the run itself."""
        if self.pool:
            return [part for part in self.pool if part.seeds]
        return [
            Part(key=self.key, seeds=self.seeds, left_out=[], processor=self.processor, commit=self.commit,
                 started=self.started, seconds=self.seconds["total"])
        ]  # fmt: skip


@dataclass(frozen=True)
class Figure:
    """A figure of a run: words, picture (PNG), data it is drawn from (CSV) and Vega-Lite chart, if it has them."""

    name: str
    caption: str
    alt: str
    picture: bytes
    data: bytes | None
    interactive: dict[str, Any] | None


@dataclass(frozen=True)
class Run:
    """A whole run. Its notebook is read once, at the first question that needs it."""

    folder: Path
    record: Record

    @cached_property
    def notebook(self) -> "NotebookNode":
        """The executed notebook; shared by all who ask, so copy what is to be changed."""
        return read_notebook(self.folder / NOTEBOOK)

    @cached_property
    def figures(self) -> dict[str, Figure]:
        """The figures by name, in the order in which the notebook shows them."""
        found: dict[str, Figure] = {}
        for data in outputs(self.notebook):
            if shown := data[MIME].get("figure"):
                csv, picture = shown["data"], base64.b64decode(data["image/png"])
                found[shown["name"]] = Figure(
                    shown["name"],
                    shown["caption"],
                    shown["alt"],
                    picture,
                    csv and csv.encode(),
                    shown.get("interactive"),
                )
        return found


def outputs(notebook: "NotebookNode") -> Iterator[Any]:
    """The data of every output in which a notebook recorded something: MIME type -> content."""
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if MIME in output.get("data", {}):
                yield output.data


def collect(notebook: "NotebookNode") -> dict[str, Any]:
    """What an executed notebook says of itself: parameters, values, figures, versions, machine, peak memory.

    Works on any executed copy, whoever ran it.
    """
    found: dict[str, Any] = {"values": {}, "figures": {}, "peak_memory_mb": 0.0}
    for data in outputs(notebook):
        for name, content in data[MIME].items():
            if name == "values":
                found["values"].update(content)
            elif name == "figure":
                found["figures"][content["name"]] = {k: content[k] for k in Caption.model_fields}
            elif name == "peak_memory_mb":
                found[name] = max(found[name], content)
            else:
                found[name] = content
    return {**found, "figures": list(found["figures"].values())}


def read(folder: Path) -> Run | None:
    """The run in a folder; None when the folder does not hold a whole one: a run counts only if all of it is there."""
    try:
        record = Record.model_validate_json((folder / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValidationError, UnicodeDecodeError):
        return None
    return Run(folder, record) if record.key == folder.name and (folder / NOTEBOOK).is_file() else None


def read_record(path: Path) -> Record:
    """A record that lies alone in a file. Raises `BadInput` when there is none."""
    try:
        return Record.model_validate_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadInput(f"{path}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise BadInput(f"{path}: must be the record of a run, such as book/published/CHAPTER/default.json") from error


def write(place: Path, content: bytes) -> None:
    """Puts a whole file into place, in a folder that need not be there; leaves nothing where that fails."""
    place.parent.mkdir(parents=True, exist_ok=True)
    fresh = place.with_name(f"{place.name}.new")
    try:
        fresh.write_bytes(content)
        fresh.replace(place)
    except OSError:
        fresh.unlink(missing_ok=True)
        raise


def current(project: Project, chapter: Chapter, edition: str = "default") -> Run | None:
    """The run of an edition that matches today's sources; None when there is none."""
    return read(project.runs / chapter.name / run_key(project, chapter, chapter.resolve(edition)))


def of_today(project: Project, chapter: Chapter) -> list[Run]:
    """All whole runs of a chapter that match today's sources, oldest first."""
    today = sources(chapter, sha256(project.lock.read_bytes()))
    found = [run for run in map(read, sorted((project.runs / chapter.name).glob("*"))) if run]
    matching = [run for run in found if today.key(run.record.parameters) == run.record.key]
    return sorted(matching, key=lambda run: run.record.started)
