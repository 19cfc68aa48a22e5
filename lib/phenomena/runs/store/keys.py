"""The key of a run: everything that determines its values, and nothing else."""

import ast
import hashlib
import io
import json
import tokenize
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import phenomena
from phenomena.runs.contract.errors import BadInput
from phenomena.runs.store.chapters import Chapter, Project
from phenomena.runs.store.imports import imported

if TYPE_CHECKING:  # imported only where a notebook is read
    from nbformat import NotebookNode

PACKAGE = Path(phenomena.__file__).parent


def sha256(content: bytes) -> str:
    """Hexadecimal digest."""
    return hashlib.sha256(content).hexdigest()


@lru_cache(maxsize=512)
def canonical(source: str) -> str:
    """A module's code without comments, docstrings and layout: the same text for the same syntax tree.

    Written here rather than by `ast.dump`, whose text changes from one Python to the next.
    """
    return _dump(ast.parse(source))


def canonical_cell(source: str) -> str:
    """A notebook cell's code without comments and layout. Strings and a last semicolon stay: they change its output."""
    return "\n".join([*map(_dump, ast.parse(source).body), ";" if _quiet(source) else ""])


def _quiet(source: str) -> bool:
    """Whether the last token, comments aside, is a semicolon: IPython then shows no value."""
    passed = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER)
    tokens = [t.string for t in tokenize.generate_tokens(io.StringIO(source).readline) if t.type not in passed]
    return tokens[-1:] == [";"]


def _dump(node: Any) -> str:
    if isinstance(node, list):
        return f"[{','.join(map(_dump, node))}]"
    if not isinstance(node, ast.AST):
        return repr(node)
    if isinstance(node, ast.Constant):
        return f"{type(node.value).__name__}:{node.value!r}"
    fields = {name: value for name, value in ast.iter_fields(node) if name not in ("ctx", "type_comment")}
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and _has_docstring(node):
        fields["body"] = fields["body"][1:]
    # what is empty is left out: later versions of Python add fields that are empty in older code
    return (
        f"{type(node).__name__}({','.join(f'{k}={_dump(v)}' for k, v in fields.items() if v is not None and v != [])})"
    )


def _has_docstring(node: ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    first = node.body[0] if node.body else None
    return isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str)


def code(notebook: "NotebookNode") -> list[str]:
    """The canonical code of a notebook's code cells in order, but empty ones and what Papermill injected."""
    return [code for code in map(canonical_cell, cell_sources(notebook)) if code]


def cell_sources(notebook: "NotebookNode") -> list[str]:
    """The sources of a notebook's code cells in order, without a cell that Papermill injected."""
    return [
        cell.source
        for cell in notebook.cells
        if cell.cell_type == "code" and "injected-parameters" not in cell.metadata.get("tags", [])
    ]


def modules(source: str, package: str = "") -> dict[str, str]:
    """Modules of this package that a source imports, directly or through others: path in it -> sha256 of their code.

    package: that the source lies in, for relative imports.
    """
    found: dict[str, str] = {}
    pending = [(source, package)]
    while pending:
        text, package = pending.pop()
        for path in _files(imported(text, package)):
            name = path.relative_to(PACKAGE).as_posix()
            if name not in found:
                content = path.read_text(encoding="utf-8")
                try:
                    found[name] = sha256(canonical(content).encode())
                except SyntaxError as error:
                    raise BadInput(f"lib/phenomena/{name}, line {error.lineno}: not Python ({error.msg})") from error
                pending.append((content, ".".join(["phenomena", *path.relative_to(PACKAGE).parent.parts])))
    return dict(sorted(found.items()))


def _files(names: frozenset[str]) -> set[Path]:
    """Files of this package that stand behind imported names, packages' __init__ on the way included."""
    paths: set[Path] = set()
    for name in names:
        first, *rest = name.split(".")
        if first == "phenomena":
            stations = [PACKAGE.joinpath(*rest[:i]) for i in range(len(rest) + 1)]
            candidates = [p for s in stations for p in (s.with_suffix(".py"), s / "__init__.py")]
            paths |= {p for p in candidates if p.is_file()}
    return paths


@dataclass(frozen=True)
class Sources:
    """What determines a chapter's runs beside their parameters."""

    code: list[str]
    modules: dict[str, str]
    lock_sha256: str

    def key(self, parameters: Mapping[str, Any]) -> str:
        """16 hexadecimal digits over all of it and the resolved parameters."""
        content = {
            "code": self.code,
            "parameters": dict(parameters),
            "modules": self.modules,
            "lock": self.lock_sha256,
        }
        return sha256(json.dumps(content, sort_keys=True).encode())[:16]

    def study(self, parameters: Mapping[str, Any]) -> str:
        """The same for all runs that differ in their seeds alone."""
        return self.key({name: value for name, value in parameters.items() if name not in ("seed", "seeds")})


def sources(chapter: Chapter, lock_sha256: str) -> Sources:
    """Code cells, modules imported, and lock.

    Prose, comments and metadata have no part in it: the book takes them from the source. Nor have data files: their
    checksums are constants in the module that reads them, and every file is checked against them. Raises `BadInput` for
    a cell that is not plain Python.
    """
    cells = cell_sources(chapter.source)
    for number, cell in enumerate(cells, 1):
        try:
            ast.parse(cell)
        except SyntaxError as error:
            place = f"{chapter.notebook.name}, code cell {number}, line {error.lineno}"
            raise BadInput(f"{place}: must be plain Python, without % or ! ({error.msg})") from error
    return Sources(code(chapter.source), modules("\n".join(cells)), lock_sha256)


def run_key(project: Project, chapter: Chapter, parameters: Mapping[str, Any]) -> str:
    """The key of a run with these parameters and today's sources."""
    return sources(chapter, sha256(project.lock.read_bytes())).key(parameters)
