"""The key of a run: everything that determines its values, and nothing else."""

import ast
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import nbformat

import phenomena
from phenomena.runs.contract.errors import BadInput
from phenomena.runs.store.chapters import Chapter, Project

PACKAGE = Path(phenomena.__file__).parent


def sha256(content: bytes) -> str:
    """Hexadecimal digest."""
    return hashlib.sha256(content).hexdigest()


def code(notebook: nbformat.NotebookNode) -> list[str]:
    """The sources of a notebook's code cells in order, without a cell that Papermill injected."""
    return [
        cell.source
        for cell in notebook.cells
        if cell.cell_type == "code" and "injected-parameters" not in cell.metadata.get("tags", [])
    ]


def modules(source: str) -> dict[str, str]:
    """Modules of this package that the source imports, directly or through others: path in the package -> sha256."""
    found: dict[str, str] = {}
    pending = [(source, "")]
    while pending:
        text, package = pending.pop()
        for path in _imported(text, package):
            name = path.relative_to(PACKAGE).as_posix()
            if name not in found:
                content = path.read_bytes()
                found[name] = sha256(content)
                parent = ".".join(["phenomena", *path.relative_to(PACKAGE).parent.parts])
                pending.append((content.decode(), parent))
    return dict(sorted(found.items()))


def _imported(source: str, package: str) -> set[Path]:
    """Files of this package that a source's import statements name, packages' __init__ on the way included."""
    paths: set[Path] = set()
    for name in _names(source, package):
        first, *rest = name.split(".")
        if first == "phenomena":
            stations = [PACKAGE.joinpath(*rest[:i]) for i in range(len(rest) + 1)]
            candidates = [p for s in stations for p in (s.with_suffix(".py"), s / "__init__.py")]
            paths |= {p for p in candidates if p.is_file()}
    return paths


@lru_cache(maxsize=256)  # a worker of a sweep asks again and again
def _names(source: str, package: str) -> frozenset[str]:
    """What a source's import statements may name, relative ones made absolute."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, node.module or ""]).strip(".")
            names |= {base} | {f"{base}.{alias.name}" for alias in node.names}
    return frozenset(names)


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


def sources(chapter: Chapter, lock_sha256: str) -> Sources:
    """Code cells, modules imported, and lock.

    Prose and metadata have no part in it: the book takes them from the source. Nor have data files: their checksums
    are constants in the module that reads them, and every file is checked against them. Raises `BadInput` for a cell
    that is not plain Python.
    """
    cells = code(chapter.source)
    for number, cell in enumerate(cells, 1):
        try:
            ast.parse(cell)
        except SyntaxError as error:
            place = f"{chapter.notebook.name}, code cell {number}, line {error.lineno}"
            raise BadInput(f"{place}: plain Python is expected, without % or ! ({error.msg})") from error
    return Sources(cells, modules("\n".join(cells)), lock_sha256)


def run_key(project: Project, chapter: Chapter, parameters: Mapping[str, Any]) -> str:
    """The key of a run with these parameters and today's sources."""
    return sources(chapter, sha256(project.lock.read_bytes())).key(parameters)
