"""Every chapter: its sources are in order and its smoke edition runs from end to end."""

import re
from pathlib import Path

import nbformat
import pytest

from phenomena.runs import book, claims, records, runner
from phenomena.runs.chapters import Project

ROOT = Path(__file__).parents[1]
CHAPTERS = Project(ROOT).chapters()
each = pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda c: c.name)


@each
def test_source_is_clean(chapter):
    for cell in chapter.source.cells:
        if cell.cell_type == "code":
            assert not cell.outputs
            assert cell.execution_count is None
            if "parameters" not in cell.metadata.get("tags", []):
                assert len(cell.source.splitlines()) <= 25, cell.source


@each
def test_skeleton_is_that_of_every_chapter(chapter):
    code = [c for c in chapter.source.cells if c.cell_type == "code"]
    tagged = [i for i, c in enumerate(code) if "parameters" in c.metadata.get("tags", [])]
    assert tagged == [1], "imports, then the parameters"
    assert code[2].source == "check_parameters(globals())"
    headings = re.findall(
        r"^## (.+)$", "\n".join(c.source for c in chapter.source.cells if c.cell_type == "markdown"), re.M
    )
    wanted = [
        "Parameters",
        "Data",
        "Method",
        "Run",
        "What it means",
        "Verdicts",
        "Reproduction notes",
        "Exercises",
        "References",
    ]
    assert [h for h in headings if h in wanted] == wanted
    first = chapter.source.cells[0].source
    for word in ("**Source.**", "**Expected**", "**Time.**", "**What would refute it.**"):
        assert word in first


@each
def test_editions_and_claims_are_in_order(chapter):
    for edition in chapter.file.editions:
        assert chapter.resolve(edition)["seeds"] >= (2 if edition != "paper" else 1)
    assert chapter.file.editions["default"].cost.seconds <= 240
    assert chapter.file.claims


@each
def test_smoke_edition_from_end_to_end(chapter, tmp_path):
    """In a project folder of its own, so that no run of a person's is used or changed."""
    (tmp_path / "notebooks").mkdir()
    for path in (chapter.notebook, chapter.notebook.with_suffix(".yaml")):
        (tmp_path / "notebooks" / path.name).symlink_to(path)
    (tmp_path / "requirements.lock").symlink_to(ROOT / "requirements.lock")
    project = Project(tmp_path)
    copy = project.chapter(chapter.name)
    folder, _ = runner.run(project, copy, copy.resolve("smoke"), "smoke")
    record = records.read(folder)
    assert record.peak_memory_mb < 2000
    assert all(len(values) >= 1 for values in record.values.values())
    assert len(claims.check(copy, record)) == len(copy.file.claims)
    page = book.Page(copy, "smoke", folder, record)
    book.gate(page)
    for cell in book.staged_notebook(page).cells:
        for output in cell.get("outputs", []):
            assert output.output_type != "stream", f"a cell prints: {output.get('text')}"
    for figure in record.figures:
        assert len(figure.alt) > 40, f"{figure.name}: the alternative text tells the message"
        assert "nan" not in figure.caption
    assert len({f.name for f in record.figures}) == len(record.figures) > 0
    nbformat.validate(nbformat.read(folder / records.NOTEBOOK, 4))
