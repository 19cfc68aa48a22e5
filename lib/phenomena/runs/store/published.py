"""Records of published runs, or of pools of them, committed with the book under book/published."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from phenomena.runs.contract.errors import BadInput
from phenomena.runs.store import pools, runs
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


def editions(project: Project, chapter: Chapter) -> list[str]:
    """The editions of which there is a published record."""
    return [edition for edition in chapter.file.editions if path(project, chapter, edition).is_file()]


def beside(project: Project, chapter: Chapter) -> Path:
    """Where records of other runs of the published ones lie."""
    return project.root / "book" / "published" / chapter.name / "replications"


def replications(project: Project, chapter: Chapter, edition: str = "default") -> list[Record]:
    """The records kept beside a published one that repeat it, or a run in it, oldest first."""
    paths = sorted(beside(project, chapter).glob(f"{edition}-*.json"))
    if not paths or edition not in editions(project, chapter):
        return []
    reference = read(project, chapter, edition)
    found = [runs.read_record(place) for place in paths]
    return sorted((r for r in found if repeats(r, reference)), key=lambda record: record.started)


def repeats(record: Record, reference: Record) -> bool:
    """Whether a record is of another run of what the reference names: the same key, begun at another time."""
    known = {reference.key, *(part.key for part in reference.pool)}
    return record.key in known and record.started not in {reference.started, *(p.started for p in reference.pool)}


def evidence(project: Project, chapter: Chapter, edition: str, record: Record) -> Record:
    """What verdicts on a run rest on: the published pool with it, if that is of the same study, or else the run.

    The looks that the published record declares hold for the run alone, too.
    """
    kept = _of_study(project, chapter, edition, record.study)
    if kept is None:
        return record
    return pools.pool([record, kept]) if kept.pool else record.model_copy(update={"looks": kept.looks})


def pooled(
    project: Project,
    chapter: Chapter,
    edition: str = "default",
    overrides: Mapping[str, Any] | None = None,
    others: Sequence[Record] = (),
) -> Record | None:
    """All evidence of an edition's study as one record, with the looks declared; None when there is none.

    The edition's own run comes first, then other runs at hand, the published record, and others, from elsewhere.
    Raises `BadInput` for one of these that is of another study, naming what differs.
    """
    study, own = pools.study(project, chapter, edition, overrides)
    kept = _of_study(project, chapter, edition, study)
    found = [*pools.at_hand(project, chapter, edition, overrides), *([kept] if kept else [])]
    found = [*sorted(found, key=lambda record: record.key != own), *others]
    if not found:
        return None
    if found[0].study != study:  # nothing of today's to hold it against
        raise BadInput(
            f"{found[0].key} does not belong to today's study of {chapter.name}, {edition}: other code or values"
        )
    return pools.pool(found, pools.declared_looks(project, chapter.name, study))


def _of_study(project: Project, chapter: Chapter, edition: str, study: str | None) -> Record | None:
    """The published record of the edition, if there is one and it is of this study."""
    try:
        kept = read(project, chapter, edition)
    except BadInput:
        return None
    return kept if study is not None and kept.study == study else None


def publish(project: Project, chapters: Sequence[Chapter] = (), pool: bool = False) -> list[Path]:
    """Puts the records of current runs, all editions but drafts, where `read` looks; returns their paths.

    chapters: all if none are named. pool: the record is that of all evidence of the study. Without it, too, a run joins
    a published pool of its study, so that no seed is lost.
    """
    written = []
    for chapter in chapters or project.chapters():
        for edition in chapter.file.editions:
            run = runs.current(project, chapter, edition) if edition != "smoke" else None
            if run is None:
                continue
            record = pooled(project, chapter, edition) if pool else evidence(project, chapter, edition, run.record)
            assert record  # the run is there
            place = path(project, chapter, edition)
            runs.write(place, record.model_dump_json(indent=1).encode())
            written.append(place.relative_to(project.root))
    return written
