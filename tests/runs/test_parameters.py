"""The declaration and every check derived from it."""

import pytest
from conftest import PARAMETERS

from phenomena.runs.contract.errors import BadInput
from phenomena.runs.contract.notebook import check_parameters
from phenomena.runs.contract.parameters import check, parse_assignments, read_declaration

DECLARED = read_declaration(PARAMETERS)
DEFAULTS = {name: p.default for name, p in DECLARED.items()}


def checked(**values):
    return check(DECLARED.values(), {**DEFAULTS, **values}, "toy")


def test_declaration_is_read_without_running_the_notebook():
    assert list(DECLARED) == ["kind", "rate", "levels", "title", "limit", "careful", "seed", "seeds"]
    assert DECLARED["rate"].meaning == "how fast"
    assert DECLARED["rate"].accepted == "float, 0 to 1"
    assert DECLARED["kind"].accepted == "one of plain, fancy"
    assert DECLARED["levels"].accepted == "list of int, 1 or more entries"
    assert DECLARED["limit"].accepted == "int or none"
    assert DEFAULTS["levels"] == [1, 2]


def test_a_meaning_may_stand_within_a_declaration_of_several_lines():
    (long, *_) = read_declaration('# Parameters\nlong: str = (\n    "x"  # what it means\n)\n' + PARAMETERS).values()
    assert long.meaning == "what it means"


@pytest.mark.parametrize(
    ("name", "given", "value"),
    [
        ("rate", "1e-3", 1e-3), ("rate", 1, 1.0), ("seeds", "4", 4), ("seeds", 4.0, 4), ("levels", "[3, 4]", [3, 4]),
        ("levels", [5], [5]), ("careful", "true", True), ("limit", "none", None), ("limit", "7", 7),
        ("levels", "3,4", [3, 4]), ("levels", "3", [3]), ("levels", "[3, 1e2]", [3, 100]), ("limit", "None", None),
        ("seed", "1e5", 100_000), ("seed", 1e5, 100_000), ("seed", "1.5e20", 150_000_000_000_000_000_000),
        ("seed", "3.0", 3), ("seed", "1_000", 1000), ("careful", "Yes", True), ("careful", 0, False),
        ("title", "-a=b\n'\"×−", "-a=b\n'\"×−"), ("title", "None", "None"), ("title", "", ""),
        ("title", "007", "007"), ("title", "$(rm -rf /)", "$(rm -rf /)"),
        ("title", "__import__('os').system('id')", "__import__('os').system('id')"),
    ],
)  # fmt: skip
def test_values_become_their_type_and_text_stays_text(name, given, value):
    result = checked(**{name: given})[name]
    assert result == value
    assert type(result) is type(value)


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("rate", "fast", "toy: rate='fast' is not accepted: float, 0 to 1"),
        ("rate", 1.5, "toy: rate=1.5 is not accepted: float, 0 to 1"),
        ("rate", "nan", "toy: rate='nan' is not accepted: float, 0 to 1"),
        ("rate", "inf", "toy: rate='inf' is not accepted: float, 0 to 1"),
        ("rate", True, "toy: rate=True is not accepted: float, 0 to 1"),
        ("seeds", "2.5", "toy: seeds='2.5' is not accepted: int, 1 to 100"),
        ("seeds", 0, "toy: seeds=0 is not accepted: int, 1 to 100"),
        ("seeds", True, "toy: seeds=True is not accepted: int, 1 to 100"),
        ("seed", "__import__('os')", "toy: seed=\"__import__('os')\" is not accepted: int, at least 0"),
        ("kind", "fency", "toy: kind='fency' is not accepted: one of plain, fancy; did you mean 'fancy'?"),
        ("levels", "[]", "toy: levels='[]' is not accepted: list of int, 1 or more entries"),
        ("levels", "1,,2", "toy: levels='1,,2' is not accepted: list of int, 1 or more entries"),
        ("levels", "[1, 2", "toy: levels='[1, 2' is not accepted: list of int, 1 or more entries"),
        ("levels", "[" * 10**5, f"toy: levels='{'[' * 98}… is not accepted: list of int, 1 or more entries"),
        ("levels", '[1, "a"]', "toy: levels='[1, \"a\"]' is not accepted in entry 2: list of int, 1 or more entries"),
        ("levels", [1, None], "toy: levels=[1, None] is not accepted in entry 2: list of int, 1 or more entries"),
        ("levels", None, "toy: levels=None is not accepted: list of int, 1 or more entries"),
        ("limit", "0x10", "toy: limit='0x10' is not accepted: int or none"),
        ("seeds", "1.5e0", "toy: seeds='1.5e0' is not accepted: int, 1 to 100"),
        ("seeds", "9" * 5000, f"toy: seeds='{'9' * 98}… is not accepted: int, 1 to 100"),
        ("title", 7, "toy: title=7 is not accepted: str"),
        ("title", "caf\udce9", "toy: title='caf\\udce9' is not accepted: str"),  # bytes that are no UTF-8
        ("careful", "perhaps", "toy: careful='perhaps' is not accepted: bool"),
    ],
)  # fmt: skip
def test_refusals_say_what_came_and_what_is_accepted(name, given, message):
    with pytest.raises(BadInput) as refused:
        checked(**{name: given})
    assert str(refused.value) == message


def test_an_entry_of_a_list_gets_the_nearest_match():
    declared = read_declaration('w: list[Literal["crop", "flip"]] = []\nseed: int = 0\nseeds: int = 2')
    given = {"seed": 0, "seeds": 2}
    assert check(declared.values(), {"w": "crop, flip", **given}, "toy")["w"] == ["crop", "flip"]
    assert check(declared.values(), {"w": "[crop]", **given}, "toy")["w"] == ["crop"]
    with pytest.raises(BadInput) as refused:
        check(declared.values(), {"w": "crop,flop", **given}, "toy")
    accepted = "list of one of crop, flip"
    assert str(refused.value) == f"toy: w='crop,flop' is not accepted in entry 2: {accepted}; did you mean 'flip'?"


def test_unknown_name_gets_the_nearest_match():
    with pytest.raises(BadInput) as refused:
        checked(sed=4)
    accepted = "kind, rate, levels, title, limit, careful, seed, seeds"
    assert str(refused.value) == f"toy: unknown parameter 'sed'; did you mean 'seed'? accepted: {accepted}"
    with pytest.raises(BadInput) as refused:
        checked(zzz=4)
    assert str(refused.value) == f"toy: unknown parameter 'zzz'; accepted: {accepted}"


def test_several_faults_are_counted():
    with pytest.raises(BadInput, match=r"rate=2 is not accepted: float, 0 to 1 \(and 1 more\)"):
        checked(rate=2, seeds=0)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("steps = 3", "line 9: must be a typed assignment"),
        ("steps: int = seeds * 2", "line 9: steps needs a known type and a plain value"),
        ("steps: Steps = 3", "line 9: steps needs a known type and a plain value"),
        ("seeds: int = 3", "line 9: seeds is declared twice"),
        ("print(1)", "line 9: must be a typed assignment"),
        ("rate2: Annotated[float, Le(1)] = 2.0", "rate2=2.0 is not accepted: float, at most 1"),
        ("steps: int =", "line 9: not Python"),
    ],
)
def test_a_cell_holds_declarations_and_nothing_else(line, message):
    with pytest.raises(BadInput, match=message):
        read_declaration(f"{PARAMETERS}\n{line}")


def test_every_chapter_declares_its_seeds():
    with pytest.raises(BadInput, match="no 'seeds'"):
        read_declaration("seed: int = 0")


def test_seeds_are_counted():
    with pytest.raises(BadInput, match="seeds is an int, not str"):
        read_declaration("seed: int = 0\nseeds: str = 'a'")


def test_choices_may_be_numbers():
    declared = read_declaration("k: Literal[1, 20] = 1\nseed: Annotated[int, Le(4294967295)] = 0\nseeds: int = 2")
    assert check(declared.values(), {"k": "20", "seed": 0, "seeds": 2}, "toy")["k"] == 20
    assert declared["seed"].accepted == "int, at most 4294967295"


def test_assignments_of_a_command_line():
    assert parse_assignments(["rate=0.1", "title=a=b"]) == {"rate": "0.1", "title": "a=b"}
    with pytest.raises(BadInput, match="-p rate was given twice: '1' and '2'"):
        parse_assignments(["rate=1", "rate=2"])
    for wrong in ("rate", "=3", "a b=3"):
        with pytest.raises(BadInput, match="must be NAME=VALUE"):
            parse_assignments([wrong])


def test_a_notebook_checks_what_a_person_typed(capsys):
    namespace: dict = {}
    exec("from typing import Annotated, Literal\nfrom annotated_types import Ge, Le, MinLen\n" + PARAMETERS, namespace)
    namespace["rate"] = "1e-3"  # as papermill hands over a yaml number without a dot
    check_parameters(namespace)
    assert namespace["rate"] == 1e-3
    namespace["seeds"] = -1
    with pytest.raises(BadInput, match="parameters: seeds=-1 is not accepted: int, 1 to 100"):
        check_parameters(namespace)


def test_a_notebook_refuses_a_name_that_papermill_brought_and_nobody_declared():
    namespace: dict = {}
    cell = "# Parameters\n" + PARAMETERS
    exec("from typing import Annotated, Literal\nfrom annotated_types import Ge, Le, MinLen\n" + cell, namespace)
    namespace |= {"sed": 4, "PAPERMILL_INPUT_PATH": "toy.ipynb", "In": ["", cell, "# Parameters\nsed = 4\nseeds = 2\n"]}
    with pytest.raises(BadInput, match="parameters: unknown parameter 'sed'; did you mean 'seed'"):
        check_parameters(namespace)
    for history in (
        ["", cell, '# Parameters\nPAPERMILL_INPUT_PATH = "toy.ipynb"\nseeds = 2\n'],
        ["# Parameters\nsed = 4\n", cell],  # declared again since
        ["sed = 4", "x = 3"],  # a person's own names
    ):
        check_parameters(namespace | {"In": history})


def test_types_are_found_where_python_keeps_those_of_the_last_line_alone():
    """As in IPython, which compiles line by line, since Python 3.14."""
    namespace: dict = {}
    exec("from typing import Annotated, Literal\nfrom annotated_types import Ge, Le, MinLen\n" + PARAMETERS, namespace)
    types = namespace.pop("__annotations__", None) or namespace["__annotate__"](1)
    namespace["__annotate__"] = lambda form: {"seeds": types["seeds"]}
    namespace |= {"In": ["", PARAMETERS, "x = =", "own: int = 3"], "rate": "1e-3"}
    check_parameters(namespace)
    assert namespace["rate"] == 1e-3
    with pytest.raises(BadInput, match="parameters: levels=7 is not accepted"):
        check_parameters(namespace | {"levels": 7})
    namespace["__annotate__"] = lambda form: types
    with pytest.raises(BadInput, match="parameters: levels=7 is not accepted"):
        check_parameters({name: value for name, value in namespace.items() if name != "In"} | {"levels": 7})
