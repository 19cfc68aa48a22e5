"""The command line: `phenomena`, or `python -m phenomena`."""

import json
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from phenomena.runs.chapters import Project, find_project
from phenomena.runs.errors import BadInput, RunFailed, nearest
from phenomena.runs.parameters import parse_assignments

if TYPE_CHECKING:  # pandas is imported only by the commands that need it
    from phenomena.runs.claims import Verdict


def main() -> NoReturn:
    """Runs the command line and exits: 0 done, 1 a run or build failed, 2 bad input, 130 interrupted."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        commands(sys.argv[1:] or ["--help"], standalone_mode=False)
    except click.exceptions.Exit as stop:
        sys.exit(stop.exit_code)
    except click.UsageError as error:
        _fail(_usage(error), 2)
    except BadInput as error:
        _fail(str(error), 2)
    except (RunFailed, OSError) as error:
        _fail(str(error), 1)
    except (KeyboardInterrupt, click.Abort):
        _fail("interrupted; nothing half-made is kept", 130)
    sys.exit(0)


def _fail(message: str, status: int) -> NoReturn:
    sys.stderr.write(f"phenomena: {' '.join(message.split())}\n")
    sys.exit(status)


def _usage(error: click.UsageError) -> str:
    """Click's message, with the nearest command where one was misspelt."""
    words = [word for word in sys.argv[1:] if not word.startswith("-")]
    if error.format_message().startswith("No such command") and words:
        known = commands.commands
        return f"unknown command {words[0]!r}{nearest(words[0], known) or ';'} accepted: {', '.join(known)}"
    return error.format_message()


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def commands() -> None:
    """Reproducible notebooks on what deep networks do: list, show and run chapters, check claims, build the book."""


def _project() -> Project:
    return find_project(Path.cwd())


@commands.command("list")
def list_() -> None:
    """The chapters, a line each."""
    chapters = _project().chapters()
    width = max((len(chapter.name) for chapter in chapters), default=0)
    for chapter in chapters:
        click.echo(f"{chapter.name:{width}}  {chapter.file.about}")


@commands.command()
@click.argument("chapter")
def show(chapter: str) -> None:
    """A chapter's parameters, editions with their cost, and claims."""
    found = _project().chapter(chapter)
    file = found.file
    click.echo(f"{file.title}\n{file.about}\n\nParameters")
    _table([(p.name, p.accepted, json.dumps(p.default), p.meaning) for p in found.declaration.values()])
    click.echo("\nEditions")
    _table(
        [
            (name, f"{e.cost.seconds:g} s, {e.cost.memory_mb:g} MB on {e.cost.machine}", e.about)
            for name, e in file.editions.items()
        ]
    )
    click.echo("\nClaims")
    _table([(c.name, f"{c.measured} {c.threshold}", c.statement) for c in file.claims])


@commands.command()
@click.argument("chapter")
@click.option("--edition", default="default", help="A named set of parameter values.")
@click.option("-p", "assignments", multiple=True, metavar="NAME=VALUE", help="A parameter's value; may be repeated.")
@click.option("--force", is_flag=True, help="Run again although the same run is there.")
def run(chapter: str, edition: str, assignments: tuple[str, ...], force: bool) -> None:
    """Run a chapter's notebook, unless the same run is there already, and check its claims."""
    project = _project()
    found = project.chapter(chapter)
    overrides = parse_assignments(assignments)
    parameters = found.resolve(edition, overrides)
    name = next((e for e in (edition, *found.file.editions) if found.resolve(e) == parameters), None)
    from phenomena.runs import claims, records, runner  # a second of imports that bad input need not wait for

    folder, executed = runner.run(project, found, parameters, name, force)
    record = records.read(folder)
    assert record is not None  # runner.run returns whole runs only
    place = f"{folder.relative_to(project.root)}: {'' if executed else 'was there already, '}"
    cost = f"{record.seconds['total']:.0f} s, {record.peak_memory_mb:.0f} MB"
    click.echo(f"{place}{cost}, seeds {record.seeds[0]} to {record.seeds[-1]}")
    _verdicts(claims.check(found, record))


@commands.command("claims")
@click.argument("chapter", required=False)
@click.option("--edition", default="default", help="Which edition's run to check.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def claims_(chapter: str | None, edition: str, as_json: bool) -> None:
    """The verdicts on the claims of a chapter, or of all, from runs that match today's sources."""
    project = _project()
    chapters = [project.chapter(chapter)] if chapter else project.chapters()
    if chapters and not chapter and not any(edition in c.file.editions for c in chapters):
        chapters[0].resolve(edition)  # raises: unknown everywhere
    from phenomena.runs import claims, records

    rows = []
    for found in [c for c in chapters if chapter or edition in c.file.editions]:
        run_there = records.current(project, found, edition)
        if run_there is None:
            click.echo(f"{found.name}: not run: phenomena run {found.name}{_option(edition)}", err=True)
            continue
        verdicts = claims.check(found, run_there[1])
        rows += [verdict.row() for verdict in verdicts]
        if not as_json:
            click.echo(found.name)
            _verdicts(verdicts)
    if as_json:
        click.echo(json.dumps(rows, indent=1))


@commands.command()
@click.option("--edition", default="default", help="smoke makes a draft.")
def book(edition: str) -> None:
    """Run what is missing, check that all runs are whole and current, and build the book strictly."""
    from phenomena.runs.book import book as build

    click.echo(build(_project(), edition))


def _option(edition: str) -> str:
    return "" if edition == "default" else f" --edition {edition}"


def _verdicts(verdicts: "list[Verdict]") -> None:
    def number(value: float | None) -> str:
        return "-" if value is None else f"{value:.3f}"

    _table(
        [
            (v.verdict, v.claim.name, f"{number(v.measured)} [{number(v.low)}, {number(v.high)}]", v.claim.threshold,
             f"n = {v.seeds}", v.claim.statement)
            for v in verdicts
        ]
    )  # fmt: skip


def _table(rows: list[tuple[str, ...]]) -> None:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))] if rows else []
    for row in rows:
        click.echo("  " + "  ".join(f"{cell:{w}}" for cell, w in zip(row, widths, strict=True)).rstrip())
