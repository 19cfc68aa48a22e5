"""The one declaration of a chapter's parameters, and every check that is derived from it.

A notebook's cell tagged `parameters` holds lines of the form

    samples: Annotated[int, Ge(10), Le(1000)] = 500  # training points

Types are plain Python; ranges come from `annotated_types`. The same pydantic model checks the command line, the
editions' files and, inside the notebook, what a person typed there.
"""

import ast
import io
import json
import re
import tokenize
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt, MaxLen, MinLen
from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError, create_model

from phenomena import own_data
from phenomena.runs.contract.errors import BadInput, nearest

# What an annotation in the cell may name.
VOCABULARY = {
    "Annotated": Annotated, "Literal": Literal, "Ge": Ge, "Gt": Gt, "Le": Le, "Lt": Lt, "MinLen": MinLen,
    "MaxLen": MaxLen, "int": int, "float": float, "str": str, "bool": bool, "list": list, "OwnData": own_data.OwnData,
}  # fmt: skip


@dataclass(frozen=True)
class Parameter:
    """One line of the cell: its type with ranges, default and meaning."""

    name: str
    type: Any
    default: Any
    meaning: str

    @property
    def accepted(self) -> str:
        """What the type accepts, in words."""
        return describe(self.type)


def describe(kind: Any) -> str:
    """A type in words: `int, 10 to 1000`, `one of a, b`, `list of float`."""
    origin, arguments = get_origin(kind), get_args(kind)
    if kind == own_data.OwnData:
        return str(arguments[1])
    if origin is Annotated:
        base, *limits = arguments
        words = [_limit(limit) for limit in limits]
        if [type(limit) for limit in limits] == [Ge, Le]:
            words = [f"{limits[0].ge} to {limits[1].le}"]
        return ", ".join([describe(base), *words])
    if origin is Literal:
        return f"one of {', '.join(map(str, arguments))}"
    if origin is list:
        return f"list of {describe(arguments[0])}" if arguments else "list"
    if origin in (Union, UnionType):
        return (", " if takes_own_data(kind) else " or ").join(describe(a) for a in arguments)
    return "none" if kind in (None, NoneType) else str(kind.__name__)


def takes_own_data(kind: Any) -> bool:
    """Whether a type is that of a data set's name and accepts one's own data."""
    return own_data.OwnData in (kind, *get_args(kind))


def _limit(limit: Any) -> str:
    words = {Ge: "at least {}", Gt: "above {}", Le: "at most {}", Lt: "below {}"}
    if type(limit) in words:
        (value,) = vars(limit).values() if hasattr(limit, "__dict__") else (getattr(limit, limit.__slots__[0]),)
        return words[type(limit)].format(value)
    return (
        f"{limit.min_length} or more entries" if isinstance(limit, MinLen) else f"{limit.max_length} entries or fewer"
    )


def read_declaration(source: str, place: str = "parameters cell") -> dict[str, Parameter]:
    """The parameters that a cell's source declares, by name, in order.

    Raises `BadInput` naming the line when it holds anything but typed assignments of plain values.
    """
    try:
        statements = ast.parse(source).body
    except SyntaxError as error:
        raise BadInput(f"{place}, line {error.lineno}: not Python ({error.msg})") from error
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    comments = {t.start[0]: t.string.lstrip("# ") for t in tokens if t.type == tokenize.COMMENT}
    declared = {}
    for statement in statements:
        where = f"{place}, line {statement.lineno}"
        if not (isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name) and statement.value):
            raise BadInput(f"{where}: must be a typed assignment such as `k: int = 20  # meaning`")
        name, annotation = statement.target.id, ast.unparse(statement.annotation)
        try:
            kind = eval(annotation, {"__builtins__": {}}, VOCABULARY)  # the project's own notebook, names as listed
            default = ast.literal_eval(statement.value)
        except (NameError, TypeError, ValueError, SyntaxError) as error:
            raise BadInput(f"{where}: {name} needs a known type and a plain value ({error})") from error
        if name in declared:
            raise BadInput(f"{where}: {name} is declared twice")
        lines = range(statement.lineno, (statement.end_lineno or statement.lineno) + 1)
        meaning = " ".join(comments[line] for line in lines if line in comments)
        declared[name] = Parameter(name, kind, default, meaning)
    for name in ("seed", "seeds"):
        if name not in declared:
            raise BadInput(f"{place}: every chapter declares `seed` (the first) and `seeds` (how many); no {name!r}")
        if int not in (declared[name].type, *get_args(declared[name].type)):
            raise BadInput(f"{place}: {name} is an int, not {declared[name].accepted}")
    check(declared.values(), {name: p.default for name, p in declared.items()}, place)
    return declared


def _no_bool(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("true and false are not numbers")
    return value


def _whole(value: Any) -> Any:
    """1e5 is a text on a command line and in yaml, a float to Papermill: one value in all of them."""
    if isinstance(value, str) and re.fullmatch(r"\s*[+-]?[0-9]+(\.[0-9]*)?e\+?[0-9]+\s*", value, re.IGNORECASE):
        value = float(value)
    return int(value) if isinstance(value, float) and value.is_integer() else _no_bool(value)


def _encodable(value: Any) -> Any:
    """Refuses a text that no file could hold: bytes of a command line that are not UTF-8."""
    if isinstance(value, str):
        value.encode()
    return value


def _from_text(value: Any) -> Any:
    """A list arrives from the command line as JSON, or as entries between commas: `[1, 2]`, `1,2`, `[crop, flip]`."""
    if not isinstance(value, str):
        return value
    try:
        if isinstance(listed := json.loads(value, parse_constant=_no_constant), list):
            return listed
    except (ValueError, RecursionError):
        pass  # not JSON, or nested without end
    bare = value.strip()
    entries = [entry.strip() for entry in (bare[1:-1] if bare[:1] + bare[-1:] == "[]" else bare).split(",")]
    if "" in entries or re.search(r"[\[\](){}'\"]", "".join(entries)):
        raise ValueError("must be a list, such as [1, 2]")
    return entries


def _no_constant(word: str) -> None:
    raise ValueError(f"{word} is no JSON")


def _strict(kind: Any) -> Any:
    """The type with what pydantic's own conversions let through refused, or text taken for lists understood."""
    origin, arguments = get_origin(kind), get_args(kind)
    if takes_own_data(kind):
        return Annotated[str, BeforeValidator(partial(_data_set, _choices(kind)))]
    if origin is Annotated:
        return Annotated[(_strict(arguments[0]), *arguments[1:])]
    if kind in (int, float, str):
        return Annotated[kind, BeforeValidator({int: _whole, float: _no_bool, str: _encodable}[kind])]
    if origin is Literal:
        words = {str(choice): choice for choice in arguments}
        return Annotated[kind, BeforeValidator(lambda v: words.get(v, v) if isinstance(v, str) else v)]
    if origin is list:
        return Annotated[list[_strict(arguments[0])], BeforeValidator(_from_text)]  # type: ignore[misc]
    if origin in (Union, UnionType) and NoneType in arguments:
        rest = [a for a in arguments if a is not NoneType]
        return Annotated[_strict(rest[0]) | None, BeforeValidator(_none)]
    return kind


def _data_set(known: list[str], value: Any) -> Any:
    """The name of a data set; of one's own data that by which they are found. Raises `ValueError`."""
    if own_data.named(value):
        return own_data.settle(value)
    if value not in known:
        raise ValueError(f"must be one of {', '.join(known)}")
    return value


def _none(value: Any) -> Any:
    return None if isinstance(value, str) and value.lower() in ("none", "null") else value


def _model(parameters: Iterable[Parameter]) -> type[BaseModel]:
    fields: dict[str, Any] = {p.name: (_strict(p.type), ...) for p in parameters}
    return create_model("Parameters", __config__=ConfigDict(allow_inf_nan=False, extra="forbid"), **fields)


def check(parameters: Iterable[Parameter], values: Mapping[str, Any], place: str) -> dict[str, Any]:
    """The values converted to their types, every parameter's in declared order.

    values: text as from a shell or yaml, or Python values, one for every parameter. Raises `BadInput` in one line: what
    came, what is accepted, the nearest match.
    """
    declared = {p.name: p for p in parameters}
    for name in values:
        if name not in declared:
            hint = nearest(name, declared) or ";"
            raise BadInput(f"{place}: unknown parameter {name!r}{hint} accepted: {', '.join(declared)}")
    try:
        checked = _model(declared.values())(**values).model_dump()
    except ValidationError as error:
        faults = {str(e["loc"][0]): e for e in reversed(error.errors())}  # the first fault of each wins
        name, fault = next(reversed(faults.items()))
        given, entry = fault["input"], "".join(f" in entry {i + 1}" for i in fault["loc"][1:2])
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        hint = nearest(given, _choices(declared[name].type)) if isinstance(given, str) else ""
        causes = [e.get("ctx", {}).get("error") for e in error.errors() if e["loc"][0] == name]
        wrong = next((str(cause) for cause in causes if isinstance(cause, own_data.DataError)), "")
        reason = wrong or f"{declared[name].accepted}{hint}"
        said = f"{name}={_short(repr(values[name]))} is not accepted{entry}"
        # a reader of the notebook is not interested in what pydantic says
        raise BadInput(f"{place}: {said}: {reason}{more}") from None
    return {name: checked[name] for name in declared}


def _short(text: str) -> str:
    """A text of at most 100 characters."""
    return text if len(text) <= 100 else f"{text[:99]}…"


def _choices(kind: Any) -> list[str]:
    """The words of a Literal, wherever it stands inside the type."""
    if get_origin(kind) is Literal:
        return [str(a) for a in get_args(kind)]
    return [word for a in get_args(kind) for word in _choices(a)]


def parse_assignments(texts: Iterable[str]) -> dict[str, str]:
    """`NAME=VALUE` texts from a command line; values stay text. Raises `BadInput` for another form or a name twice."""
    values: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name.isidentifier():
            raise BadInput(f"-p {text!r}: must be NAME=VALUE, such as -p seeds=3")
        if name in values:
            raise BadInput(f"-p {name} was given twice: {values[name]!r} and {value!r}")
        values[name] = value
    return values
