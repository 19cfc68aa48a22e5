"""The record of a run: what determined it, what it measured, what it cost."""

from pathlib import Path
from typing import Any

import nbformat
from pydantic import BaseModel, ConfigDict, ValidationError

from phenomena.runs.contract.notebook import MIME
from phenomena.runs.store.chapters import Chapter, Project
from phenomena.runs.store.keys import run_key

NOTEBOOK, RECORD = "notebook.ipynb", "record.json"


class Figure(BaseModel):
    """A figure's name, caption and alternative text."""

    name: str
    caption: str
    alt: str


class Record(BaseModel):
    """The content of record.json."""

    model_config = ConfigDict(extra="forbid")

    schema_version: int = 1
    chapter: str
    edition: str | None  # None: parameters of a person's own
    key: str
    parameters: dict[str, Any]
    seeds: list[int]
    values: dict[str, list[float | None]]  # one entry a seed; None where a seed gave no value
    figures: list[Figure]
    versions: dict[str, str]
    processor: str
    gpu: str | None
    threads: int | None
    commit: str | None
    lock_sha256: str
    modules: dict[str, str]
    started: str
    seconds: dict[str, float]  # "total", "overhead" (all but the cells), then one a section of the notebook
    peak_memory_mb: float


def collect(notebook: nbformat.NotebookNode) -> dict[str, Any]:
    """What an executed notebook says of itself: parameters, values, figures, versions, processor, peak memory.

    Works on any executed copy, whoever ran it.
    """
    found: dict[str, Any] = {"values": {}, "figures": {}, "peak_memory_mb": 0.0}
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            bundle = output.get("data", {}).get(MIME, {})
            for name, content in bundle.items():
                if name == "values":
                    found["values"].update(content)
                elif name == "figure":
                    found["figures"][content["name"]] = {k: content[k] for k in ("name", "caption", "alt")}
                elif name == "peak_memory_mb":
                    found[name] = max(found[name], content)
                else:
                    found[name] = content
    return {**found, "figures": list(found["figures"].values())}


def read(folder: Path) -> Record | None:
    """The record of a whole run; None when the folder does not hold one: a run counts only if all of it is there."""
    try:
        record = Record.model_validate_json((folder / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValidationError, UnicodeDecodeError):
        return None
    return record if record.key == folder.name and (folder / NOTEBOOK).is_file() else None


def current(project: Project, chapter: Chapter, edition: str = "default") -> tuple[Path, Record] | None:
    """Folder and record of an edition's run that matches today's sources; None when there is none."""
    folder = project.runs / chapter.name / run_key(project, chapter, chapter.resolve(edition))
    record = read(folder)
    return (folder, record) if record else None
