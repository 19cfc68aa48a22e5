"""Records of published runs, committed with the book under book/published."""

from pathlib import Path

from phenomena.runs.contract.errors import BadInput
from phenomena.runs.store import runs
from phenomena.runs.store.chapters import Chapter, Project
from phenomena.runs.store.runs import Record


def path(project: Project, chapter: Chapter, edition: str) -> Path:
    """Where the record of the published run lies."""
    return project.root / "book" / "published" / chapter.name / f"{edition}.json"


def read(project: Project, chapter: Chapter, edition: str = "default") -> Record:
    """The committed record of the run that the published book shows. Raises `BadInput` when there is none."""
    place = path(project, chapter, edition)
    try:
        return Record.model_validate_json(place.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadInput(f"{place.relative_to(project.root)}: no published record of this run can be read") from error


def publish(project: Project) -> list[Path]:
    """Copies the records of current runs, all editions but drafts, to where `read` looks; returns their paths."""
    written = []
    for chapter in project.chapters():
        for edition in chapter.file.editions:
            run = runs.current(project, chapter, edition) if edition != "smoke" else None
            if run:
                place = path(project, chapter, edition)
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_bytes((run.folder / runs.RECORD).read_bytes())
                written.append(place.relative_to(project.root))
    return written
