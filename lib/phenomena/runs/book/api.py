"""Pages on the library's functions, made from its sources without importing them.

Docstrings here are plain text with names in backticks, which is Markdown but not reStructuredText; and what is not
imported need not be waited for.
"""

import ast
import inspect
import re
from collections.abc import Sequence
from pathlib import Path

from phenomena.runs.contract.errors import BadInput, nearest
from phenomena.runs.store.keys import PACKAGE

MARK = re.compile(r"^:::\{api\} ([\w.]+)((?: \w+)*)\n:::$", re.M)
Named = ast.FunctionDef | ast.ClassDef


def fill(text: str) -> str:
    """A page with `:::{api} MODULE NAME ...` replaced by the module's section, of all its names where none is given.

    Raises `BadInput` where there is no such module or name.
    """
    return MARK.sub(lambda mark: section(mark[1], mark[2].split()), text)


def section(module: str, names: Sequence[str] = ()) -> str:
    """A module's public functions and classes, or those named, with signature, docstring and examples."""
    path = source(module)
    if not path.is_file():
        raise BadInput(f"book/api.md: no module {module!r} in the library")
    tree = ast.parse(path.read_text(encoding="utf-8"))
    parts = [f"## {module}", described(ast.get_docstring(tree) or ""), f"```{{py:module}} {module}\n```"]
    found = {node.name: node for node in public(tree.body)}
    for name in names:
        if name not in found:
            raise BadInput(f"book/api.md: no {name!r} in {module}{nearest(name, found)}")
    return "\n\n".join([*parts, *(_entry(found[name]) for name in names or found)])


def source(module: str) -> Path:
    """Where a module of the package lies."""
    return PACKAGE.joinpath(*module.split(".")[1:]).with_suffix(".py")


def public(body: list[ast.stmt]) -> list[Named]:
    """Functions and classes of a body whose names do not begin with an underscore."""
    return [n for n in body if isinstance(n, Named) and not n.name.startswith("_")]


def _entry(node: Named, inside: str = "") -> str:
    if isinstance(node, ast.ClassDef):
        kind, within = "class", "\n\n".join(_entry(method, node.name) for method in public(node.body))
        made = [n for n in node.body if isinstance(n, ast.FunctionDef) and n.name == "__init__"]
        fields = [n for n in node.body if isinstance(n, ast.AnnAssign)]
        arguments = _arguments(made[0], True) if made else ", ".join(ast.unparse(field) for field in fields)
        signature = f"{node.name}({arguments})" if made or fields else node.name
    else:
        kind, within = "method" if inside else "function", ""
        returned = f" -> {ast.unparse(node.returns)}" if node.returns else ""
        signature = f"{node.name}({_arguments(node, bool(inside))}){returned}"
    docstrings = [ast.get_docstring(n) or "" for n in (node, *(made if isinstance(node, ast.ClassDef) else []))]
    text = "\n\n".join(filter(None, [*map(described, docstrings), within]))
    fence = "`" * (4 if inside else 6)
    return f"{fence}{{py:{kind}}} {signature}\n{text}\n{fence}"


def _arguments(node: ast.FunctionDef, bound: bool) -> str:
    arguments = ast.unparse(node.args)
    return re.sub(r"^(self|cls)(, )?", "", arguments) if bound else arguments


def described(docstring: str) -> str:
    """A docstring as Markdown: what stands `name: so` as a list, examples and what is indented as code."""
    parts = []
    for block in re.split(r"\n\s*\n", inspect.cleandoc(docstring)):
        if block.startswith(">>> "):
            parts.append(f"```pycon\n{block}\n```")
        elif block.startswith("    "):
            parts.append(f"```python\n{inspect.cleandoc(block)}\n```")
        else:
            parts.append(re.sub(r"^((?:\w+, )*\w+): (?=\S)", r"- **\1**: ", _plain(block), flags=re.M))
    return "\n\n".join(parts)


def _plain(text: str) -> str:
    """Text whose signs mean themselves, outside of backticks."""
    pieces = re.split(r"(`[^`]*`)", text)
    return "".join(p if i % 2 else re.sub(r"([*_<>\[\]$|{}\\])", r"\\\1", p) for i, p in enumerate(pieces))
