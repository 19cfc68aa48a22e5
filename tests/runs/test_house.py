"""The rule of the layout: what belongs where, and who may import whom."""

from pathlib import Path

import pytest

from phenomena.runs.store import keys
from phenomena.runs.store.chapters import Project
from phenomena.runs.store.imports import imported

ROOT = Path(__file__).parents[2]
SCIENCE, CHAPTERS, RUNS = (keys.PACKAGE / name for name in ("science", "chapters", "runs"))
FOLDERS = sorted(path.name for path in CHAPTERS.iterdir() if (path / "__init__.py").is_file())
LAYERS = ("contract", "store", "execute", "book")  # a module imports from its own layer and those before it


def package(path):
    """The package that a file lies in."""
    return ".".join(["phenomena", *path.relative_to(keys.PACKAGE).parent.parts])


def reached(path):
    """Modules of the package that a file imports, itself or through others."""
    return keys.modules(path.read_text(encoding="utf-8"), package(path))


def every(folder):
    found = sorted(folder.rglob("*.py"))
    assert found, folder
    return found


def test_runs_name_neither_science_nor_chapters():
    for path in every(RUNS):
        assert not [name for name in reached(path) if name.startswith(("science/", "chapters/"))], path


def test_science_imports_neither_runs_nor_chapters():
    for path in every(SCIENCE):
        assert not [name for name in reached(path) if name.startswith(("runs/", "chapters/"))], path


@pytest.mark.parametrize("chapter", FOLDERS)
def test_a_chapter_imports_no_other_chapter_and_no_runs(chapter):
    for path in every(CHAPTERS / chapter):
        others = [name for name in reached(path) if name.startswith("chapters/") and name.count("/") > 1]
        assert all(name.startswith(f"chapters/{chapter}/") for name in others), path
        assert not [name for name in reached(path) if name.startswith("runs/")], path


def test_every_chapter_has_a_folder_and_every_folder_a_chapter():
    assert sorted(chapter.name for chapter in Project(ROOT).chapters()) == FOLDERS


def test_every_module_of_a_chapter_is_used():
    """By its notebook, at first or second hand, or by a test: nothing is left of the skeleton or of an earlier time."""
    tests = "\n".join(path.read_text(encoding="utf-8") for path in every(ROOT / "tests" / "chapters"))
    tested = keys.modules(tests).keys()
    for chapter in Project(ROOT).chapters():
        used = keys.modules("\n".join(keys.cell_sources(chapter.source))).keys() | tested
        there = {path.relative_to(keys.PACKAGE).as_posix() for path in every(CHAPTERS / chapter.name)}
        assert there - used == set()


def test_science_holds_what_two_chapters_or_more_use():
    users = {path.relative_to(keys.PACKAGE).as_posix(): set() for path in every(SCIENCE)}
    for chapter in Project(ROOT).chapters():
        sources = [*keys.cell_sources(chapter.source), *(p.read_text() for p in every(CHAPTERS / chapter.name))]
        for name in keys.modules("\n".join(sources)).keys() & users.keys():
            users[name].add(chapter.name)
    assert {name: who for name, who in users.items() if len(who) < 2} == {}


@pytest.mark.parametrize("layer", LAYERS)
def test_layers_of_runs_import_downwards(layer):
    above = LAYERS[LAYERS.index(layer) + 1 :]
    for path in every(RUNS / layer):
        named = imported(path.read_text(encoding="utf-8"), package(path))
        upwards = tuple(f"phenomena.runs.{other}" for other in above)
        assert not [name for name in named if name.startswith(upwards)], path


def test_tests_stand_in_the_same_order():
    folders = {
        path.name for path in (ROOT / "tests").iterdir() if path.is_dir() and not path.name.startswith((".", "__"))
    }
    assert folders == {"science", "chapters", "runs", "book"}
