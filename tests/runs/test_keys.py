"""Keys cover code: what changes a syntax tree changes them, what does not leaves them alone."""

import ast
import json
import re
import shutil

import nbformat
import pytest
from hypothesis import given
from hypothesis import strategies as st

from phenomena.runs.contract.errors import BadInput
from phenomena.runs.store import keys
from phenomena.runs.store.keys import canonical, canonical_cell

SOURCE = '''"""A module."""

import math
from functools import lru_cache

LIMIT = 3


@lru_cache
def area(radius: float, scale: int = 2) -> float:
    """Its docstring."""
    return scale * math.pi * radius**2  # of a disc


class Disc:
    """Another."""

    kind = f"disc {LIMIT!r}"
'''
SAME = {
    "comments": ("  # of a disc", "  # of another"),
    "a module's docstring": ('"""A module."""', '"""A module, told anew."""'),
    "a function's docstring": ('"""Its docstring."""', '"""Two lines\n\n    of it."""'),
    "a missing docstring": ('    """Its docstring."""\n', ""),
    "layout": ("area(radius: float, scale: int = 2)", "area(\n    radius: float,\n    scale: int = 2,\n)"),
    "quotes": ('f"disc {LIMIT!r}"', "f'disc {LIMIT!r}'"),
    "parentheses": ("scale * math.pi * radius**2", "((scale * math.pi) * (radius**2))"),
    "the notation of a number": ("LIMIT = 3", "LIMIT = 0x3"),
}
OTHER = {
    "a constant": ("LIMIT = 3", "LIMIT = 4"),
    "the type of a constant": ("LIMIT = 3", "LIMIT = 3.0"),
    "true for one": ("LIMIT = 3", "LIMIT = True"),
    "a default": ("scale: int = 2", "scale: int = 1"),
    "an annotation": ("scale: int", "scale: float"),
    "a decorator": ("@lru_cache\n", ""),
    "an import": ("import math", "import cmath as math"),
    "an operator": ("scale * math", "scale / math"),
    "grouping": ("math.pi * radius**2", "(math.pi * radius)**2"),
    "a statement": ("LIMIT = 3\n", "LIMIT = 3\nLIMIT += 1\n"),
    "text": ("disc {", "disk {"),
    "a format": ("{LIMIT!r}", "{LIMIT!s}"),
    "text that is no docstring": ('    kind = f"disc {LIMIT!r}"', '    kind = f"disc {LIMIT!r}"\n    "text"'),
}


@pytest.mark.parametrize("what", SAME)
def test_what_a_key_does_not_see(what):
    old, new = SAME[what]
    assert old in SOURCE
    assert canonical(SOURCE.replace(old, new)) == canonical(SOURCE)


@pytest.mark.parametrize("what", OTHER)
def test_what_a_key_sees(what):
    old, new = OTHER[what]
    assert old in SOURCE
    assert canonical(SOURCE.replace(old, new)) != canonical(SOURCE)


def test_a_cell_keeps_what_changes_its_output():
    assert canonical_cell("x  # told") == canonical_cell("(x)")
    assert canonical_cell('"""Shown."""') != canonical_cell('"""Other."""')
    assert canonical_cell("x;") != canonical_cell("x")
    assert canonical_cell("x;  # quiet") == canonical_cell("x;\n\n") != canonical_cell("x  # not quiet;")
    assert canonical_cell("x  # not quiet;") == canonical_cell("x")
    assert canonical_cell("def f():\n    'doc'\n    return 1") == canonical_cell("def f():\n    return 1")


def test_a_module_that_is_not_python_is_told_in_one_line(tmp_path, monkeypatch):
    (tmp_path / "broken.py").write_text("x = 1\n<<<<<<< HEAD\n")
    monkeypatch.setattr(keys, "PACKAGE", tmp_path)
    with pytest.raises(BadInput, match=r"^lib/phenomena/broken.py, line 2: not Python \(invalid syntax\)$"):
        keys.modules("import phenomena.broken")


# --- notebooks as editors save them -----------------------------------------------------------------------------------


def with_cells(notebook, change):
    for cell in notebook["cells"]:
        change(cell)


def with_outputs(cell):
    if cell["cell_type"] == "code":
        stale = {"application/vnd.phenomena+json": {"values": {"high": [9.0]}}}
        cell |= {"execution_count": 7, "outputs": [{"output_type": "display_data", "data": stale, "metadata": {}}]}


EMPTY = {"cell_type": "code", "metadata": {}, "source": [], "outputs": [], "execution_count": None}
INJECTED = EMPTY | {"metadata": {"tags": ["injected-parameters"]}, "source": ["# Parameters\n", "rate = 0.9"]}
SAVED = {
    "no kernel": lambda n: n["metadata"].clear(),
    "another kernel": lambda n: n["metadata"].update(kernelspec={"name": "conda-env-x-py", "display_name": "x"}),
    "no ids": lambda n: with_cells(n, lambda cell: cell.pop("id")),
    "one id twice": lambda n: with_cells(n, lambda cell: cell.update(id="a")),
    "nbformat 4.2": lambda n: n.update(nbformat_minor=2),
    "Windows' line ends": lambda n: with_cells(
        n, lambda c: c.update(source="".join(c["source"]).replace("\n", "\r\n"))
    ),
    "old Macs' line ends": lambda n: with_cells(n, lambda c: c.update(source="".join(c["source"]).replace("\n", "\r"))),
    "tabs": lambda n: with_cells(n, lambda c: c.update(source="".join(c["source"]).replace("    ", "\t"))),
    "outputs": lambda n: with_cells(n, with_outputs),
    "an empty cell at the end": lambda n: n["cells"].append(dict(EMPTY)),
    "a cell that Papermill injected": lambda n: n["cells"].insert(4, dict(INJECTED)),
    "an editor's own fields": lambda n: with_cells(n, lambda cell: cell["metadata"].update(vscode={"languageId": "x"})),
}


def holding(cell):
    return json.dumps({"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": [cell]})


def key(project):
    chapter = project.chapter("toy")
    return keys.run_key(project, chapter, chapter.resolve())


@pytest.mark.parametrize("form", SAVED)
def test_however_an_editor_saves_a_notebook_it_has_one_key_and_one_reading(project, form):
    chapter, before = project.chapter("toy"), key(project)
    content = json.loads(chapter.notebook.read_text())
    SAVED[form](content)
    chapter.notebook.write_text(json.dumps(content))
    assert key(project) == before
    assert nbformat.validate(chapter.source) is None
    assert chapter.source == project.chapter("toy").source  # nothing of it is drawn at random


@pytest.mark.parametrize("encoded", ["utf-8-sig", "utf-8"])
def test_a_byte_order_mark_and_windows_line_ends_of_the_file_change_nothing(project, encoded):
    notebook, before = project.chapter("toy").notebook, key(project)
    notebook.write_bytes(notebook.read_text().replace("\n", "\r\n").encode(encoded))
    assert key(project) == before


def test_a_run_of_a_notebook_from_another_editor_is_the_same(project, run_toy):
    before = run_toy(project)
    path = project.chapter("toy").notebook
    content = json.loads(path.read_text())
    for form in (
        "no kernel",
        "no ids",
        "nbformat 4.2",
        "Windows' line ends",
        "outputs",
        "a cell that Papermill injected",
    ):
        SAVED[form](content)
    path.write_text(json.dumps(content), encoding="utf-8-sig")
    shutil.rmtree(before.folder)
    after = run_toy(project)
    assert (after.folder, after.record.values) == (before.folder, before.record.values)
    assert after.notebook.metadata.papermill.input_path == "toy.ipynb"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "does not appear to be JSON"),
        ("[]", "not a notebook"),
        ('{"nbformat": 4, "nbformat_minor": 5, "metadata": {}}', "missing an expected key: cells"),
        ('{"nbformat": 9, "nbformat_minor": 0, "metadata": {}, "cells": []}', "Unsupported nbformat version 9"),
        ('<<<<<<< HEAD\n{"nbformat": 4}', "does not appear to be JSON"),
        (holding(EMPTY | {"metadata": {"tags": None}}), "None is not of type 'array'"),
        (holding(EMPTY | {"source": "\ud800"}), "surrogates not allowed"),
        (holding(EMPTY | {"own": 1}), "'own' was unexpected"),
        (holding({"cell_type": "code"}), "not a notebook"),
    ],
)
def test_what_is_no_notebook_is_refused_in_one_line(project, text, said):
    chapter = project.chapter("toy")
    chapter.notebook.write_text(text)
    with pytest.raises(BadInput, match=re.escape(said)) as refused:
        _ = chapter.source
    assert str(refused.value).startswith("toy.ipynb: not a notebook (") and "\n" not in str(refused.value)


# --- any programme ----------------------------------------------------------------------------------------------------

names = st.sampled_from(["a", "b", "c"])
atoms = (
    names
    | st.integers(0, 9).map(str)
    | st.floats(0, 9, allow_nan=False).map(repr)
    | st.sampled_from(["'s'", "None", "True"])
)
expressions = st.recursive(
    atoms,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from("+-*/@<"), inner).map(lambda t: f"({t[0]} {t[1]} {t[2]})"),
        st.tuples(names, inner).map(lambda t: f"{t[0]}({t[1]}, k={t[1]})"),
        st.lists(inner, max_size=3).map(lambda e: f"[{', '.join(e)}]"),
        st.tuples(inner, inner).map(lambda t: f"[{t[0]} for a in {t[1]} if a]"),
        inner.map(lambda e: f"(lambda a, b=1: {e})"),
    ),
    max_leaves=12,
)
programmes = st.lists(
    st.one_of(
        st.tuples(names, expressions).map(lambda t: f"{t[0]} = {t[1]}"),
        st.tuples(names, expressions).map(lambda t: f"def {t[0]}(x, /, *y, z=2):\n    return {t[1]}"),
        expressions.map(lambda e: f"if {e}:\n    pass\nelse:\n    a = 1"),
    ),
    min_size=1,
    max_size=4,
).map("\n".join)


@given(programmes, programmes)
def test_two_programmes_have_one_key_only_if_they_are_one_tree(first, second):
    assert (canonical(first) == canonical(second)) == (ast.dump(ast.parse(first)) == ast.dump(ast.parse(second)))


@given(programmes)
def test_written_anew_from_its_tree_a_programme_keeps_its_key(source):
    assert canonical(ast.unparse(ast.parse(source))) == canonical(source)
    assert canonical(source.replace("\n", "  # a comment\n")) == canonical(source)
