"""Keys cover code: what changes a syntax tree changes them, what does not leaves them alone."""

import ast

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
