"""What a shell completes beside commands and options: chapters, editions, parameters and claims.

Asked at every press of a key, so it reads names alone, and checks nothing.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import yaml
from click.shell_completion import CompletionItem

from phenomena.runs.contract.errors import BadInput
from phenomena.runs.contract.parameters import read_declaration
from phenomena.runs.store.chapters import Project, SafeLoader, find_project


def attach(group: click.Group) -> None:
    """Makes every command of the group complete its arguments and options, by their names."""
    for command in group.commands.values():
        for parameter in command.params:
            if parameter.name in COMPLETED:
                parameter._custom_shell_complete = _quiet(COMPLETED[parameter.name])


Names = Callable[[click.Context], list[str]]


def _quiet(names: Names) -> Callable[[click.Context, click.Parameter, str], list[CompletionItem]]:
    """What begins like the word at the cursor; nothing where no names can be read."""

    def complete(context: click.Context, parameter: click.Parameter, begun: str) -> list[CompletionItem]:
        try:
            return [CompletionItem(name) for name in names(context) if name.startswith(begun)]
        except (BadInput, OSError, ValueError, KeyError, TypeError, StopIteration, yaml.YAMLError):
            return []

    return complete


def _project(context: click.Context) -> Project:
    return find_project(Path(context.find_root().params.get("project") or Path.cwd()).resolve())


def _chapters(context: click.Context) -> list[str]:
    return [chapter.name for chapter in _project(context).chapters()]


def _notebook(context: click.Context) -> Path:
    """The notebook of the chapter that stands on the line."""
    words = [*context.params.values(), context.args]  # click leaves in args what stands before an option without value
    listed = [word for part in words for word in (part if isinstance(part, list | tuple) else [part])]
    return next(chapter.notebook for chapter in _project(context).chapters() if chapter.name in listed)


def _file(context: click.Context) -> Any:
    return yaml.load(_notebook(context).with_suffix(".yaml").read_text(encoding="utf-8"), SafeLoader)


def _editions(context: click.Context) -> list[str]:
    return list(_file(context)["editions"])


def _claims(context: click.Context) -> list[str]:
    return [claim["name"] for claim in _file(context)["claims"]]


def _parameters(context: click.Context) -> list[str]:
    cells = json.loads(_notebook(context).read_text(encoding="utf-8"))["cells"]
    (cell,) = (cell for cell in cells if "parameters" in cell["metadata"].get("tags", []))
    return [f"{name}=" for name in read_declaration("".join(cell["source"]), "parameters")]


COMPLETED = {
    "chapter": _chapters,
    "chapters": _chapters,
    "named": _chapters,
    "run": _chapters,
    "edition": _editions,
    "assignments": _parameters,
    "grid": _parameters,
    "claim": _claims,
    "names": _claims,
}
