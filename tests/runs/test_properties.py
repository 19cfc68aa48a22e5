"""Properties: values survive the way through a command line and a cell; grids hold what they say."""

import itertools
import json
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phenomena.runs.contract.errors import BadInput
from phenomena.runs.contract.parameters import check, parse_assignments, read_declaration
from phenomena.runs.execute.sweep import read_grid

CELL = """\
count: Annotated[int, Ge(-1000), Le(1000)] = 1  # an int
rate: float = 0.5  # a float
word: Literal["plain", "fancy"] = "plain"  # a choice
title: str = "t"  # any text
flag: bool = False  # yes or no
levels: list[float] = [1.0]  # numbers
limit: int | None = None  # or none
seed: int = 0  # the first
seeds: int = 1  # how many
"""
finite = st.floats(allow_nan=False, allow_infinity=False)
values = st.fixed_dictionaries(
    {
        "count": st.integers(-1000, 1000),
        "rate": finite,
        "word": st.sampled_from(["plain", "fancy"]),
        "title": st.text(st.characters(exclude_categories=["Cs"])).filter(lambda t: t not in ("none", "null")),
        "flag": st.booleans(),
        "levels": st.lists(finite, max_size=4),
        "limit": st.none() | st.integers(),
        "seed": st.integers(0, 10**6),
        "seeds": st.integers(1, 100),
    }
)


def typed(value):
    """A value as a person types it on a command line."""
    if isinstance(value, str):
        return value
    return "none" if value is None else json.dumps(value)


@given(values)
def test_values_survive_the_command_line_and_the_cell(chosen):
    declared = read_declaration(CELL)
    assigned = parse_assignments([f"{name}={typed(value)}" for name, value in chosen.items()])
    once = check(declared.values(), assigned, "toy")
    assert once == chosen
    assert check(declared.values(), once, "in the notebook") == chosen
    cell = "\n".join(
        f"{line.partition(' = ')[0]} = {once[line.partition(':')[0]]!r}  # said" for line in CELL.splitlines()
    )
    assert {name: p.default for name, p in read_declaration(cell).items()} == chosen


@given(st.lists(finite, min_size=1), st.booleans())
def test_a_list_between_commas_is_the_same_list(chosen, bracketed):
    declared = read_declaration(CELL)
    defaults = {n: p.default for n, p in declared.items()}
    text = ", ".join(map(repr, chosen))
    given = f"[{text}]" if bracketed else text
    assert check(declared.values(), defaults | {"levels": given}, "toy")["levels"] == chosen


@given(st.text(), st.sampled_from(["count", "rate", "flag", "levels"]))
def test_any_text_is_a_value_of_its_type_or_refused_in_one_line(text, name):
    declared = read_declaration(CELL)
    defaults = {n: p.default for n, p in declared.items()}
    try:
        found, refused = check(declared.values(), defaults | {name: text}, "toy")[name], ""
    except BadInput as error:
        found, refused = None, str(error)
    kind = {"count": int, "rate": float, "flag": bool, "levels": list}[name]
    assert isinstance(found, kind) or (name in refused and "\n" not in refused)


grids = st.dictionaries(
    st.sampled_from(["a", "b", "c"]), st.lists(st.integers(0, 99), min_size=1, max_size=4, unique=True), min_size=1
)
decimals = st.decimals(-50, 50, places=2)


@given(decimals, decimals.filter(bool), st.integers(0, 40))
def test_a_range_holds_every_step_and_its_end(start, step, steps):
    stop = start + steps * step
    (found,) = read_grid([f"rate={start}:{stop}:{step}"]).values()
    assert [Decimal(value) for value in found] == [start + i * step for i in range(steps + 1)]


@given(grids)
def test_a_grid_of_lists_is_read_as_it_stands(grid):
    texts = [f"{name}={','.join(map(str, listed))}" for name, listed in grid.items()]
    found = read_grid(texts)
    assert list(itertools.product(*found.values())) == list(
        itertools.product(*([str(v) for v in listed] for listed in grid.values()))
    )
    twice = [f"{name}={listed[0]},{listed[0]}" for name, listed in grid.items()]
    with pytest.raises(BadInput, match="stands twice"):
        read_grid(twice)
