"""Expressions of a chapter's file: claims on recorded values, rules between parameters; nothing else of Python."""

import ast
from collections.abc import Callable, Mapping
from typing import Any

from phenomena.runs.contract.errors import BadInput, nearest

NODES = (ast.Expression, ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.Compare, ast.Call, ast.Name, ast.Constant,
         ast.operator, ast.unaryop, ast.boolop, ast.cmpop, ast.Load)  # fmt: skip


def evaluate(
    text: str,
    known: Mapping[str, Any],
    functions: Mapping[str, Callable[..., Any]],
    place: str,
    missing: str,
    listed: str,
) -> Any:
    """The value of arithmetic and comparisons on what is known, with calls of the functions.

    missing, listed: how a message tells of an unknown name, and of the known ones. Raises `BadInput` for an unknown
    name and for anything else of Python.
    """
    tree = parsed(text, place)
    called = {node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
    for name in sorted(called - set(functions)):
        raise BadInput(
            f"{place}: unknown function {name!r}{nearest(name, functions) or ';'} accepted: {', '.join(functions)}"
        )
    for name in sorted(names(tree) - set(functions) - set(known)):
        raise BadInput(f"{place}: {missing} {name!r}{nearest(name, known) or ';'} {listed}: {', '.join(known)}")
    for node in ast.walk(tree):
        if not isinstance(node, NODES):
            raise BadInput(f"{place}: {text!r} cannot be evaluated (it holds a {type(node).__name__})")
    try:
        return eval(compile(tree, place, "eval"), {"__builtins__": {}}, {**functions, **known})
    except (TypeError, ValueError, ZeroDivisionError) as error:
        raise BadInput(f"{place}: {text!r} cannot be evaluated ({error})") from error


def parsed(text: str, place: str) -> ast.Expression:
    """The tree of an expression. Raises `BadInput` for what is none."""
    try:
        return ast.parse(text, mode="eval")
    except SyntaxError as error:
        raise BadInput(f"{place}: {text!r} is not an expression") from error


def names(tree: ast.Expression) -> set[str]:
    """All names in it, those of functions among them."""
    return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
