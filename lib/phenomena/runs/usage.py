"""How a command line is refused: in one line what came, what is accepted, and the nearest match."""

import re
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

import click

from phenomena.runs.contract.errors import BadInput, nearest


class Command(click.Command):
    """A command of which no option takes another option for its value."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """As click does. Raises `BadInput` for an option with another in the place of its value, or with one dash."""
        options = _options(self)
        for name, value in pairwise(args):
            if name in options and value in options and not options[name].is_flag:
                raise BadInput(_valueless(self, name))
        for word in args:
            if f"-{word}" in options:
                raise BadInput(f"{self.name}: unknown option {word!r}; did you mean '-{word}'?")
        try:
            return super().parse_args(ctx, args)
        except click.BadOptionUsage as error:
            error.ctx = error.ctx or ctx  # click leaves it out
            raise


class Count(click.ParamType[int]):
    """A whole number, 1 or more."""

    name = "integer"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The number. Raises `BadInput` for anything else."""
        if not re.fullmatch(r"0*[1-9]\d*", str(value)):
            raise BadInput(f"{_option(param)} {value!r}: must be a whole number, 1 or more")
        return int(value)


class Word(click.Choice[str]):
    """One of a few words."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The word. Raises `BadInput` for another."""
        if value not in self.choices:
            hint = nearest(str(value), self.choices) or ";"
            raise BadInput(f"{_option(param)} {value!r} is not accepted{hint} accepted: {', '.join(self.choices)}")
        return str(value)


class Target(click.ParamType[Path]):
    """The path of a file to be written: whether it can be is known before an hour is spent on what goes into it."""

    name = "path"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """The path. Raises `BadInput` for a folder, or a file in a folder that is not there."""
        path = Path(value)
        if path.is_dir():
            raise BadInput(f"{_option(param)} {value}: is a folder: must be a file")
        if not path.parent.is_dir():
            raise BadInput(f"{_option(param)} {value}: there is no folder {path.parent}")
        return path


def told(error: click.UsageError) -> str:
    """What click refuses, in the words of this project."""
    command = error.ctx.command if error.ctx else None
    if command is None:
        return error.format_message()
    if isinstance(error, click.NoSuchOption) and isinstance(command, click.Group):
        options = ", ".join(name for p in command.get_params(click.Context(command)) for name in p.opts)
        return f"unknown option {error.option_name!r} before the command; accepted there: {options}"
    if isinstance(error, click.NoSuchOption):
        return f"{command.name}: unknown option {_nearest(error.option_name, _options(command))}"
    if isinstance(error, click.MissingParameter) and error.param:
        return f"{command.name}: {error.param.human_readable_name} is missing: {_form(command)}"
    if isinstance(error, click.BadOptionUsage):
        if (option := _options(command).get(error.option_name)) and not option.is_flag:
            return _valueless(command, error.option_name)
        return f"{command.name}: {error.option_name} takes no value"
    if isinstance(command, click.Group) and error.ctx and "No such command" in error.message:
        found = re.search(r"'(.*?)'", error.message)
        return f"unknown command {_nearest(found[1] if found else '', command.commands)}"
    if extra := re.fullmatch(r"Got unexpected extra arguments? \((.*)\)", error.format_message()):
        return f"{command.name}: {extra[1]!r} is too much: {_form(command)}"
    return f"{command.name}: {error.format_message()}"


def _nearest(given: str, accepted: Iterable[str]) -> str:
    """The word, the nearest of those that are accepted, and all of these. Dashes make no words alike."""
    bare = {word.lstrip("-"): word for word in accepted}
    hint = nearest(given.lstrip("-"), bare)
    for short, word in bare.items():
        hint = hint.replace(f"{short!r}", f"{word!r}")
    return f"{given!r}{hint or ';'} accepted: {', '.join(bare.values())}"


def _options(command: click.Command) -> dict[str, click.Option]:
    """Every name of every option."""
    return {name: p for p in command.params if isinstance(p, click.Option) for name in p.opts}


def _option(parameter: click.Parameter | None) -> str:
    return parameter.opts[-1] if parameter else ""


def _valueless(command: click.Command, name: str) -> str:
    option = _options(command)[name]
    metavar = option.metavar or (option.type.name or "value").upper()
    return f"{command.name}: {name} needs a value: {name} {metavar}"


def _form(command: click.Command) -> str:
    """How the command is written, its options aside."""
    arguments = [p for p in command.params if isinstance(p, click.Argument)]
    return " ".join(["phenomena", command.name or "", *(p.make_metavar(click.Context(command)) for p in arguments)])
