"""Runs what published records name again, and compares."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from phenomena.runs.contract.errors import BadInput
from phenomena.runs.store import named, replication
from phenomena.runs.store.chapters import Chapter, Project
from phenomena.runs.store.runs import Record


@dataclass
class Outcome:
    """Comparisons; a line for each record that this checkout cannot make, and for each run that failed."""

    compared: list[replication.Comparison] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)


def verify(project: Project, references: Sequence[Record], force: bool = False) -> Outcome:
    """Compares each record with another run of it: the youngest that is there, or one made now, two at a time.

    What is made stands apart from the project's other runs and takes the place of none of them. force: make it although
    there is one.
    """
    outcome, jobs = Outcome(), dict[str, tuple[Chapter, dict[str, Any], str | None]]()
    for record in references:
        try:
            chapter = project.chapter(record.chapter)
            jobs[record.chapter] = chapter, parameters(project, chapter, record), record.edition
        except BadInput as error:
            outcome.refused.append(str(error))
    accepted = [record for record in references if record.chapter in jobs]
    missing = [record for record in accepted if force or replication.at_hand(project, record) is None]
    if missing:
        from phenomena.runs.execute import runner  # only here: what is there need not wait for it

        missing.sort(key=lambda record: record.seconds["total"], reverse=True)
        wanted, home = [jobs[record.chapter] for record in missing], replication.verified(project)
        outcome.failed = runner.run_all(project, wanted, force=True, home=home)
    for record in accepted:
        made = replication.at_hand(project, record)
        if made:
            try:
                outcome.compared.append(replication.compare(jobs[record.chapter][0], record, made.record))
            except BadInput as error:
                outcome.refused.append(str(error))
    return outcome


def parameters(project: Project, chapter: Chapter, record: Record) -> dict[str, Any]:
    """The parameters of the run whose key a record bears, of a pool that of its first.

    Raises `BadInput` unless today's sources give them that key: what differs, and which commit made the record.
    """
    why = named.differences(project, chapter, record)
    if not why:
        return chapter.resolve(overrides=named.parameters(record))
    commit = (record.commit or "").removesuffix("-dirty")[:12]
    origin = (
        f"commit {commit} made it{', with changes' if '-dirty' in (record.commit or '') else ''}: git checkout {commit}"
    )
    raise BadInput(
        f"{chapter.name}, run {record.key}: this checkout cannot make it: {why}; "
        f"{origin if commit else 'it names no commit that made it'}"
    )
