"""The command line: `phenomena`, or `python -m phenomena`."""

import json
import logging
import math
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from phenomena import own_data
from phenomena.runs import completion, usage, words
from phenomena.runs.contract.errors import BadInput, RunFailed, nearest
from phenomena.runs.contract.parameters import parse_assignments
from phenomena.runs.store.chapters import PACKAGE, Project, find_project

if TYPE_CHECKING:  # pandas is imported only by the commands that need it
    from phenomena.runs.compare import Comparison
    from phenomena.runs.execute.extend import Study
    from phenomena.runs.execute.sweep import Outcome
    from phenomena.runs.store.chapters import Chapter
    from phenomena.runs.store.claims import Verdict
    from phenomena.runs.store.named import Named
    from phenomena.runs.store.replication import Comparison as Replication
    from phenomena.runs.store.runs import Record


def main() -> NoReturn:
    """Runs the command line and exits: 0 done, 1 a run or build failed, or does not hold, 2 bad input, 130 stopped."""
    if sys.platform == "win32":
        _fail(2, "runs on Linux and macOS: on Windows, use WSL")  # kernels are forked
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # JupyterLab brings a package that jsonschema, and with it nbformat, imports for a second and no notebook needs
    sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]
    if os.path.expanduser("~") == "~":  # a container's user without a name; Jupyter stops where there is no home at all
        os.environ["HOME"] = "/nonexistent"
    if signal.getsignal(signal.SIGHUP) == signal.SIG_DFL:  # not under nohup; a terminal that closes is an interrupt
        signal.signal(signal.SIGHUP, signal.default_int_handler)
    try:
        commands(sys.argv[1:] or ["--help"], standalone_mode=False)
    except click.exceptions.Exit as stop:
        sys.exit(stop.exit_code)
    except click.UsageError as error:
        _fail(2, usage.told(error))
    except BadInput as error:
        _fail(2, *error.args)
    except RunFailed as error:
        _fail(1, *error.args)
    except OSError as error:
        _fail(1, ": ".join(str(part) for part in (error.filename, error.strerror or error) if part))
    except (KeyboardInterrupt, click.Abort):
        _fail(130, "interrupted; nothing half-made is kept")
    sys.exit(0)


def _fail(status: int, *messages: str) -> NoReturn:
    """Ends with this status, a line a message."""
    for message in messages:
        sys.stderr.write(f"phenomena: {' '.join(str(message).split())}\n")
    sys.exit(status)


def _version(context: click.Context, option: click.Parameter, asked: bool) -> None:
    """Tells the version of the library, and its commit where it lies in a checkout under git, and exits."""
    if not asked or context.resilient_parsing:
        return
    from phenomena import __version__
    from phenomena.runs.store.git import commit

    made = commit(PACKAGE.parents[1])
    click.echo(f"phenomena {__version__}{f', commit {made}' if made else ''}")
    context.exit()


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version", is_flag=True, expose_value=False, is_eager=True, callback=_version, help="Version and commit."
)
@click.option(
    "--project",
    type=click.Path(path_type=Path),
    envvar="PHENOMENA_PROJECT",
    help="Work in this checkout, wherever you are; else in that of the variable PHENOMENA_PROJECT.",
)
def commands(project: Path | None) -> None:
    """Reproducible notebooks on what deep networks do: list, show and run chapters, check claims, build the book.

    In a checkout of the book, works on it. Elsewhere, works on the chapters that came with the package and keeps runs
    in ./runs.
    """
    told = logging.getLogger(own_data.__name__)
    told.setLevel(logging.INFO)
    told.handlers, told.propagate = [_Echo()], False


class _Echo(logging.Handler):
    """Says on standard error what was read of one's own data."""

    def emit(self, record: logging.LogRecord) -> None:
        click.echo(record.getMessage(), err=True)


commands.command_class = usage.Command


def _project(executes: bool = False) -> Project:
    """The project of the option --project or of this folder. executes: whether runs will be made of it."""
    given = click.get_current_context().find_root().params["project"]
    if given and not given.is_dir():
        raise BadInput(f"--project {given}: there is no such folder")
    project = find_project(given.resolve() if given else Path.cwd())
    if given and project.outside:
        raise BadInput(f"--project {given}: must be a checkout, with notebooks/ and requirements.lock")
    library = project.root / "lib" / "phenomena"
    if library.is_dir() and not library.samefile(PACKAGE):
        click.echo(f"phenomena: the library is that of {PACKAGE}, not of this checkout", err=True)
    if executes:
        from phenomena.runs.store.locked import differing

        if others := differing(project.lock):
            named = ", ".join(f"{name} {there} (locked: {wanted})" for name, (there, wanted) in others.items())
            click.echo(f"phenomena: not the locked versions, which a run's key stands for: {named}", err=True)
    return project


def _checkout(command: str) -> Project:
    """The project, for a command that writes into its sources. Raises `BadInput` outside a checkout."""
    project = _project()
    if project.outside:
        raise BadInput(f"{command}: must be run in a checkout of the book: go to one, or name it with --project PATH")
    return project


@commands.command("list")
def list_() -> None:
    """The chapters, a line each: what one takes at its defaults, which editions have been run, what it is about."""
    from phenomena.runs.store import runs

    project = _project()
    chapters = project.chapters()
    there = {chapter.name: [run.record for run in runs.of_today(project, chapter)] for chapter in chapters}
    seconds = {chapter.name: chapter.file.editions["default"].cost.seconds for chapter in chapters}
    _table(
        [
            (chapter.name, words.duration(seconds[chapter.name]), words.at_hand(there[chapter.name]),
             chapter.file.summary)
            for chapter in chapters
        ]
    )  # fmt: skip
    if chapters:
        ran = [name for name, records in there.items() if any(r.edition == "default" for r in records)]
        left = sum(time for name, time in seconds.items() if name not in ran)
        done = f"; {len(ran)} of {len(chapters)} are run" if ran else ""
        done += f", about {words.duration(left)} left" if ran and left else ""
        click.echo(f"all at their defaults: about {words.duration(sum(seconds.values()))} on one core{done}")


@commands.command()
@click.argument("chapter")
def show(chapter: str) -> None:
    """A chapter's parameters, editions with their cost and whether they are run, and claims."""
    from phenomena.runs.store import runs

    project = _project()
    found = project.chapter(chapter)
    file = found.file
    click.echo(f"{file.title}\n{file.summary}\n\nParameters")
    _table([(p.name, p.accepted, json.dumps(p.default), p.meaning) for p in found.declaration.values()])
    if file.rules:
        click.echo("\nRules")
        _table(list(file.rules.items()))
    records = [run.record for run in runs.of_today(project, found)]
    keys = {record.edition: record.key for record in records if record.edition}
    click.echo("\nEditions")
    _table(
        [
            (name, f"{e.cost.seconds:g} s, {e.cost.memory_mb:g} MB on {e.cost.machine}",
             f"run {keys[name]}" if name in keys else "not run", e.summary)
            for name, e in file.editions.items()
        ]
    )  # fmt: skip
    if own := [record for record in records if record.edition is None]:
        click.echo(f"  {len(own)} with parameters of your own: phenomena compare {chapter}")
    click.echo("\nClaims")
    _table([(c.name, f"{c.measured} {c.threshold}", c.statement) for c in file.claims])


_limit = click.option("--limit", metavar="TIME|none", help="After which a run is ended, such as 30min or 2h.")
_memory = click.option("--memory", metavar="SIZE|none", help="Above which a run is ended, such as 800MB or 4GB.")


@commands.command()
@click.argument("chapter")
@click.option("--edition", metavar="NAME", default="default", help="A named set of parameter values.")
@click.option("-p", "assignments", multiple=True, metavar="NAME=VALUE", help="A parameter's value; may be repeated.")
@click.option("--force", is_flag=True, help="Run again although the same run is there.")
@_limit
@_memory
def run(
    chapter: str, edition: str, assignments: tuple[str, ...], force: bool, limit: str | None, memory: str | None
) -> None:
    """Run a chapter's notebook, unless the same run is there already, and check its claims."""
    project = _project(executes=True)
    found = project.chapter(chapter)
    overrides = parse_assignments(assignments)
    parameters = found.resolve(edition, overrides)
    name = found.edition_of(parameters, first=edition)
    from phenomena.runs.execute import limits, runner  # only here: bad input need not wait for it
    from phenomena.runs.store import claims

    allowed = replace(limits.usual(), **limits.read_limits(limit, memory))
    done, executed = runner.run(project, found, parameters, name, force, limits=allowed)
    folder = done.folder.relative_to(project.home) if Path.cwd().is_relative_to(project.home) else done.folder
    place, record = f"{folder}: {'' if executed else 'was there already, '}", done.record
    cost = f"{record.seconds['total']:.0f} s, {record.peak_memory_mb:.0f} MB"
    click.echo(f"{place}{cost}, seeds {record.seeds[0]} to {record.seeds[-1]}")
    _verdicts(claims.check(found, record))


@commands.command()
@click.argument("chapter")
@click.option("-g", "grid", multiple=True, metavar="NAME=V1,V2,…", help="Values of a parameter, or START:STOP[:STEP].")
@click.option("-p", "assignments", multiple=True, metavar="NAME=VALUE", help="A parameter's value for all points.")
@click.option("--file", type=click.Path(path_type=Path), help="A yaml file with edition, grid and parameters.")
@click.option("--edition", metavar="NAME", help="A named set of parameter values.")
@click.option("--workers", default=2, type=usage.Count(), show_default=True, help="Local workers, or SLURM jobs.")
@click.option("--scheduler", metavar="ADDRESS", help="Address of a Dask scheduler, such as tcp://host:8786, or slurm.")
@_limit
@_memory
@click.option("--dry-run", is_flag=True, help="Check the grid and say what would be run.")
@click.option("--yes", is_flag=True, help="Skip the check for grids over 10,000 points.")
@click.option("--csv", "csv_file", type=usage.Target(), help="Write the table as CSV.")
@click.option("--html", "html_file", type=usage.Target(), help="Write table and figure as a page.")
def sweep(
    chapter: str,
    grid: tuple[str, ...],
    assignments: tuple[str, ...],
    file: Path | None,
    edition: str | None,
    workers: int,
    scheduler: str | None,
    limit: str | None,
    memory: str | None,
    dry_run: bool,
    yes: bool,
    csv_file: Path | None,
    html_file: Path | None,
) -> None:
    """Run a chapter at every point of a grid of parameters, on two local workers or on a Dask cluster."""
    from phenomena.runs.execute import progress
    from phenomena.runs.execute import sweep as sweeps
    from phenomena.runs.execute.limits import read_limits
    from phenomena.runs.store import runs

    project = _project(executes=True)
    found = project.chapter(chapter)
    given = read_limits(limit, memory)
    named, values, fixed = sweeps.read_file(file) if file else ("default", {}, {})
    values, fixed = _joined(values, sweeps.read_grid(grid), "-g"), _joined(fixed, parse_assignments(assignments), "-p")
    size = math.prod(len(v) for v in values.values())
    if size > 10_000 and not yes:
        raise BadInput(f"the grid has {size:,} points, more than 10,000: say --yes if that is meant")
    points = sweeps.points(project, found, edition or named, values, fixed)
    missing = sweeps.missing(project, points)
    there, left, seconds = len(points) - len(missing), len(missing), 0.0
    line = f"{len(points)} points, {there} there already, {left} to run"
    if left:
        first, seeds = missing[0], [point.parameters["seeds"] for point in missing]
        cost = progress.expected(project, found, first.parameters)
        workers = workers if scheduler else min(workers, left)  # no more than have something to do
        seconds = cost.seconds * sum(seeds) / seeds[0] / workers
        on = "in all" if scheduler and scheduler != "slurm" else f"on {words.counted(workers, 'worker')}"
        seconds *= workers if on == "in all" else 1
        line += f": about {words.duration(seconds)} {on}, a run {cost.told}"
    click.echo(line)
    if dry_run:
        return
    from phenomena.runs import compare as comparisons

    outcome = sweeps.Outcome(there=points)
    if left:
        memory_mb = sweeps.memory(found, edition or named, given)
        with sweeps.cluster(scheduler, workers, memory_mb) as client, _bar(left, seconds) as report:
            outcome = sweeps.sweep(project, missing, client, report=report, given=given)
    whole = [runs.read(project.runs / p.chapter.name / p.key) for p in points]
    records = [run.record for run in whole if run]
    if records:
        _compared(comparisons.table(found, records), csv_file, html_file, failed=outcome.failed)
    if outcome.failed:
        lines = [f"{name}: {why}" for name, why in outcome.failed.items()]
        raise RunFailed(*lines, f"{len(outcome.failed)} of {len(points)} points failed")


def _joined(first: dict[str, Any], second: dict[str, Any], option: str) -> dict[str, Any]:
    twice = [name for name in second if name in first]
    if twice:
        raise BadInput(f"{option} {twice[0]} stands in the sweep file as well: must be in one of the two")
    return {**first, **second}


@contextmanager
def _bar(total: int, seconds: float) -> "Iterator[Callable[[Outcome, int], None]]":
    """A bar with the time left on a terminal; in a log a line for every run, and now and then while none ends.

    seconds: what all are expected to take.
    """
    from tqdm import tqdm

    from phenomena.runs.execute.progress import MOST

    shape = "{desc} {bar} {n}/{total} runs [{elapsed}{postfix}]"
    with tqdm(total=total, desc="sweep", bar_format=shape, disable=not sys.stderr.isatty()) as bar:
        reported, said = 0, 0.0
        bar.set_postfix_str(f"about {words.duration(seconds)} left")

        def report(outcome: "Outcome", left: int) -> None:
            nonlocal reported, said
            ended, failed = len(outcome.done) + len(outcome.failed), len(outcome.failed)
            rest = outcome.seconds / ended * left if ended else max(0.0, seconds - outcome.seconds)
            if bar.disable and (ended > reported or outcome.seconds > said + MOST):
                said, text = outcome.seconds, f"{ended} run, {failed} failed, {left} left, about {words.duration(rest)}"
                click.echo(text, err=True)
            bar.set_postfix_str(f"failed {failed}, about {words.duration(rest)} left", refresh=False)
            bar.update(ended - reported)
            bar.refresh()
            reported = ended

        yield report


@commands.command()
@click.argument("chapters", metavar="[CHAPTER]...", nargs=-1)
@click.option("--edition", metavar="NAME", default="default", help="A named set of parameter values.")
@click.option(
    "-p", "assignments", multiple=True, metavar="NAME=VALUE", help="A parameter's value; seed: where to start."
)
@click.option("--seeds", "target", type=usage.Count(), help="Until there are so many seeds.")
@click.option("--until-decided", is_flag=True, help="Until every claim is decided.")
@click.option("--claim", metavar="NAME", help="The only claim to decide.")
@click.option("--blocks", type=usage.Count(), help="At most so many blocks a chapter until it is decided.  [4]")
@click.option("--budget", metavar="TIME", help="Begin no block that would end later, such as 90s, 30min or 2h.")
@click.option("--workers", default=2, type=usage.Count(), show_default=True, help="Local workers, or SLURM jobs.")
@click.option("--scheduler", metavar="ADDRESS", help="Address of a Dask scheduler, such as tcp://host:8786, or slurm.")
@_limit
@_memory
@click.option("--yes", is_flag=True, help="Skip the check for more than 1,000 blocks.")
def extend(
    chapters: tuple[str, ...],
    edition: str,
    assignments: tuple[str, ...],
    target: int | None,
    until_decided: bool,
    claim: str | None,
    blocks: int | None,
    budget: str | None,
    workers: int,
    scheduler: str | None,
    limit: str | None,
    memory: str | None,
    yes: bool,
) -> None:
    """Add blocks of fresh seeds to chapters, or to all, until there are enough or claims are decided.

    A block is the edition's run with the next seeds. How often verdicts are asked for is declared before the first
    block, and every interval errs with probability 0.05 / looks (Bonferroni): all looks from then on with at most 0.05.
    """
    if (target is None) != until_decided:
        raise BadInput("how far to extend: give one of --seeds N and --until-decided")
    if not until_decided and (claim or blocks):
        raise BadInput(f"{'--claim' if claim else '--blocks'} goes with --until-decided, not with --seeds")
    project = _project(executes=True)
    found = _with_edition(project, chapters, edition)
    if claim and len(found) != 1:
        raise BadInput(f"--claim {claim}: of which chapter? give one")
    from phenomena.runs.execute import extend as more
    from phenomena.runs.execute.limits import read_limits, read_time

    seconds, given = read_time("--budget", budget) if budget else math.inf, read_limits(limit, memory)
    overrides = parse_assignments(assignments)
    studies = more.prepare(project, found, edition, overrides, target, claim, blocks or more.BLOCKS, yes)
    for line in [f"{s.chapter.name}: nothing to do: {s.stopped}" for s in studies if s.stopped]:
        click.echo(line)
    if studies := [study for study in studies if not study.stopped]:
        _extend(studies, scheduler, workers, seconds, given)


def _extend(
    studies: "list[Study]", scheduler: str | None, workers: int, budget: float, given: dict[str, float]
) -> None:
    from phenomena.runs.execute import extend as more
    from phenomena.runs.execute import sweep as sweeps

    began = time.monotonic()
    memory_mb = max(sweeps.memory(study.chapter, study.edition, given) for study in studies)
    if not scheduler:
        workers = min(workers, sum(len(study.points) for study in studies))  # no more than have something to do
    with sweeps.cluster(scheduler, workers, memory_mb) as client:
        if scheduler and scheduler != "slurm":
            workers = max(1, sum(client.nthreads().values()))
        for study in studies:
            more.declare(study)
            click.echo(words.declared(study))
        for ran in more.extend(studies, client, workers, budget, given):
            for study in ran:
                click.echo(words.look(study))
    for study in studies:
        for line in words.outcome(study):
            click.echo(line)
    click.echo(f"spent {words.duration(time.monotonic() - began)} on {words.counted(workers, 'worker')}")
    if failed := {name: why for study in studies for name, why in study.failed.items()}:
        lines = [f"{name}: {why}" for name, why in failed.items()]
        raise RunFailed(*lines, f"{words.counted(len(failed), 'block')} failed, the others are kept")


def _with_edition(project: Project, names: Sequence[str], edition: str) -> "list[Chapter]":
    """The chapters of these names, or all that have the edition. Raises `BadInput` if none of all has it."""
    chapters = [project.chapter(name) for name in dict.fromkeys(names)] or project.chapters()
    if chapters and not any(edition in chapter.file.editions for chapter in chapters):
        chapters[0].resolve(edition)  # raises: unknown everywhere
    return chapters if names else [chapter for chapter in chapters if edition in chapter.file.editions]


@commands.command()
@click.argument("named", metavar="RUN...", nargs=-1, required=True)
@click.option("-p", "assignments", multiple=True, metavar="NAME=VALUE", help="Only a chapter's runs with this value.")
@click.option("--value", "names", multiple=True, metavar="NAME", help="A claim or recorded value to show; repeatable.")
@click.option("--against", type=usage.Word(["published"]), help="Put the published run beside them.")
@click.option("--pooled", is_flag=True, help="Join runs that differ in their seeds alone: a row a study.")
@click.option("--csv", "csv_file", type=usage.Target(), help="Write the table as CSV.")
@click.option("--html", "html_file", type=usage.Target(), help="Write table and figure as a page.")
def compare(
    named: tuple[str, ...],
    assignments: tuple[str, ...],
    names: tuple[str, ...],
    against: str | None,
    pooled: bool,
    csv_file: Path | None,
    html_file: Path | None,
) -> None:
    """Runs of a chapter side by side: what was changed, and what the claims measure.

    RUN is a chapter, for all its runs that match today's sources, or a run by its key, its folder or an executed
    notebook. --against published also says how each quantity agrees with the published one, as verify does.
    """
    from phenomena.runs import compare as comparisons
    from phenomena.runs.store import pools, published

    project = _project()
    found, records = _records(project, named, parse_assignments(assignments))
    records = pools.studies(project, records) if pooled else records
    beside = published.read(project, found, _edition_of(project, found, records)) if against else None
    _compared(comparisons.table(found, records, beside), csv_file, html_file, names)


def _records(project: Project, names: Sequence[str], wanted: dict[str, str]) -> "tuple[Chapter, list[Record]]":
    """The runs of these names, each once, all of one chapter. Raises `BadInput` where they are of several."""
    from phenomena.runs import compare as comparisons
    from phenomena.runs.store import named as lookup

    chapters, records = dict[str, "Chapter"](), dict[tuple[str, str], "Record"]()
    known = {chapter.name for chapter in project.chapters()}
    if wanted and known.isdisjoint(names):
        for name in names:
            lookup.find(project, name, overrides=wanted)  # raises: -p goes with a chapter's name
    for name in names:
        if name in known:
            chapters[name] = project.chapter(name)
            found = comparisons.find(project, chapters[name], wanted)
        else:
            one = lookup.find(project, name)
            chapters[one.chapter.name], found = one.chapter, [one.run.record]
            for line in one.remarks:
                click.echo(line, err=True)
        records |= {(record.key, record.started): record for record in found}
    if len(chapters) > 1:
        raise BadInput(f"{', '.join(names)}: are runs of several chapters: {', '.join(chapters)}")
    return next(iter(chapters.values())), list(records.values())


def _edition_of(project: Project, chapter: "Chapter", records: "Sequence[Record]") -> str:
    """The edition that all records are of, if it has been published; else default."""
    from phenomena.runs.store import published

    editions = {record.edition for record in records}
    return next((e for e in published.editions(project, chapter) if editions == {e}), "default")


def _compared(
    table: "Comparison",
    csv_file: Path | None,
    html_file: Path | None,
    names: tuple[str, ...] = (),
    failed: dict[str, str] | None = None,
) -> None:
    rows = table.rows(names)  # refuses an unknown name before anything is written
    for path, content in ((csv_file, table.csv), (html_file, lambda: table.html(names, failed))):
        if path:
            _write(path, content().encode())
    if not (csv_file or html_file):
        _table(rows)
    for line in table.agreement():
        click.echo(line)


@commands.command("claims")
@click.argument("run", required=False)
@click.option("--edition", metavar="NAME", help="Which edition's run to check; default unless said.")
@click.option("-p", "assignments", multiple=True, metavar="NAME=VALUE", help="A parameter's value; may be repeated.")
@click.option("--pooled", is_flag=True, help="Of all runs that differ in their seeds alone, joined.")
@click.option(
    "--with", "files", multiple=True, type=click.Path(path_type=Path), help="A record from elsewhere to join as well."
)
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def claims_(
    run: str | None,
    edition: str | None,
    assignments: tuple[str, ...],
    pooled: bool,
    files: tuple[Path, ...],
    as_json: bool,
) -> None:
    """The verdicts on the claims of a RUN, or of every chapter's run that matches today's sources.

    RUN is a chapter (with --edition and -p), a run's key or folder, or an executed notebook. For what is open: about
    how many seeds and minutes would decide it. At the end: how far chance may have decided.
    """
    project, overrides = _project(), parse_assignments(assignments)
    if overrides and run is None:
        raise BadInput(f"-p {assignments[0]}: of which chapter? give one")
    from phenomena.runs.store import claims, named
    from phenomena.runs.store.registration import registrations

    if pooled or files:
        of = [project.chapter(run)] if run else _with_edition(project, [], edition or "default")
        evidence = _joined_evidence(project, of, edition or "default", overrides, files)
    elif run:
        evidence = [_evidence(project, named.find(project, run, edition, overrides))]
    else:
        evidence = _evidence_of_all(project, edition or "default")
    shown, rows = [], []
    for found, record, remarks in evidence:
        # what was made from other sources may lack a value of today's
        verdicts, refused = claims.possible(found, record) if remarks else (claims.check(found, record), [])
        for line in [*remarks, *refused]:
            click.echo(line, err=True)
        shown += verdicts
        if as_json:
            registered = registrations(project, found, record)
            for verdict in verdicts:
                seeds, seconds = claims.more(verdict, record) or (None, None)
                more = {"seeds_more": seeds, "seconds_more": seconds}
                rows.append(verdict.row() | more | registered[verdict.claim.name].row())
        else:
            click.echo("\n".join([*words.evidence(record), *words.verdicts(verdicts, record)]))
    if as_json:
        click.echo(json.dumps(rows, indent=1))
    elif shown:
        click.echo("\n".join(words.totals(shown)))


Evidence = tuple["Chapter", "Record", Sequence[str]]  # a chapter, what its verdicts rest on, and what is to remark


def _evidence(project: Project, found: "Named") -> Evidence:
    """A run, in the published pool of its study if there is one."""
    from phenomena.runs.store import published

    record = published.evidence(project, found.chapter, found.edition, found.run.record)
    return found.chapter, record, found.remarks


def _evidence_of_all(project: Project, edition: str) -> list[Evidence]:
    """Every chapter's run of an edition; says which are not there. Raises `BadInput` if none of several is."""
    from phenomena.runs.store import named

    chapters, found = _with_edition(project, [], edition), list[Evidence]()
    for chapter in chapters:
        try:
            found.append(_evidence(project, named.find(project, chapter.name, edition)))
        except named.NotRun as error:
            click.echo(str(error), err=True)
    if chapters and not found:
        raise BadInput(f"nothing to check: of edition {edition} no chapter has been run")
    return found


def _joined_evidence(
    project: Project, chapters: "Sequence[Chapter]", edition: str, overrides: dict[str, str], files: tuple[Path, ...]
) -> list[Evidence]:
    """All evidence of each chapter's study, with records from elsewhere; says of which there is none."""
    from phenomena.runs.store import named, published, runs

    others = [runs.read_record(path) for path in files]
    names = [chapter.name for chapter in chapters]
    for path, record in zip(files, others, strict=True):
        if record.chapter not in names:
            raise BadInput(f"{path}: is a run of {record.chapter}; accepted: {', '.join(names)}")
    found, missing = list[Evidence](), list[str]()
    for chapter in chapters:
        own = [other for other in others if other.chapter == chapter.name]
        if joined := published.pooled(project, chapter, edition, overrides, own):
            found.append((chapter, joined, ()))
        else:
            missing.append(f"{chapter.name}: not run: {named.command(chapter, edition, overrides)}")
    if missing and not found:
        raise BadInput("; ".join(missing))
    for line in missing:
        click.echo(line, err=True)
    return found


@commands.command()
@click.argument("chapter", required=False)
@click.option("--edition", metavar="NAME", help="Which edition's published record; default unless said.")
@click.option(
    "--against", metavar="RUN", help="This record, run or executed notebook, by its path or key, not a published one."
)
@click.option("--force", is_flag=True, help="Run again although another run of it is there.")
@click.option("--json", "as_json", is_flag=True, help="As JSON, with every value and every claim.")
def verify(chapter: str | None, edition: str | None, against: str | None, force: bool, as_json: bool) -> None:
    """Run published records again, a chapter's or all, and tell which values and verdicts are the same."""
    project = _project(executes=True)
    references = _references(project, chapter, edition, against)
    from phenomena.runs.execute.verify import verify as verified

    outcome = verified(project, references, force)
    if as_json:
        click.echo(json.dumps([comparison.row() for comparison in outcome.compared], indent=1))
    else:
        for comparison in outcome.compared:
            _replication(comparison)
    if outcome.refused and not (outcome.compared or outcome.failed):
        raise BadInput(*outcome.refused)
    for line in outcome.refused:
        click.echo(f"cannot be verified here: {line}", err=True)
    values = sum(comparison.counts["disagreement"] for comparison in outcome.compared)
    verdicts = sum(len(comparison.claims) - comparison.same for comparison in outcome.compared)
    if outcome.failed or outcome.refused or values or verdicts:
        found = f"{values} values in disagreement, {verdicts} verdicts differ" if values or verdicts else ""
        left = f"{len(outcome.refused)} not verified" if outcome.refused else ""
        raise RunFailed(*filter(None, [*outcome.failed, found, left]))


def _references(project: Project, name: str | None, edition: str | None, against: str | None) -> "list[Record]":
    """What to verify: the record of a run, or the published ones of a chapter or of all."""
    from phenomena.runs.store import named, published

    chapters = [project.chapter(name)] if name else project.chapters()
    if against:
        record = named.of_today(project, named.find(project, against))
        for what, wanted, found in (("chapter", name, record.chapter), ("edition", edition, record.edition)):
            if wanted and wanted != found:
                raise BadInput(f"{against}: is of {what} {found}, not {wanted}")
        return [record]
    wanted = edition or "default"
    if name or not any(wanted in chapter.file.editions for chapter in chapters):
        for chapter in chapters[:1]:
            chapter.resolve(wanted)  # raises: unknown, everywhere if no chapter is named
    if name:
        return [published.read(project, chapters[0], wanted)]
    there = [chapter for chapter in chapters if wanted in published.editions(project, chapter)]
    if not there:
        raise BadInput(f"book/published: holds no record of edition {wanted}")
    return [published.read(project, chapter, wanted) for chapter in there]


def _replication(comparison: "Replication") -> None:
    """What agrees in one line, then each disagreement."""
    from phenomena.runs.store.replication import machine

    def number(value: float | None) -> str:
        return "-" if value is None else f"{value:.6g}"

    old, new, counts = comparison.published, comparison.again, comparison.counts
    click.echo(
        f"{old.chapter}, {old.edition or 'own parameters'}: values: {counts['bits']} equal to the bit, "
        f"{counts['inside']} inside, {counts['chance']} by chance, {counts['disagreement']} in disagreement; "
        f"verdicts: {comparison.same} of {len(comparison.claims)} agree; "
        f"{machine(new)}, published on {machine(old)}"
    )
    for v in comparison.values:
        if v.kind == "disagreement":
            interval = f"[{number(v.low)}, {number(v.high)}]"
            click.echo(f"  {v.name} disagrees: {number(v.again)}, published {number(v.published)} {interval}, "
                       f"n = {v.seeds}, p = {v.p:.1e}")  # fmt: skip
    for a in comparison.claims:
        if not a.same:
            said = [f"{v.verdict} {number(v.measured)} [{number(v.low)}, {number(v.high)}]"
                    for v in (a.again, a.published)]  # fmt: skip
            click.echo(f"  claim {a.published.claim.name} differs: {said[0]}, published {said[1]}, "
                       f"asked: {a.published.claim.threshold}")  # fmt: skip


@commands.command()
@click.argument("run")
@click.argument("name", required=False)
@click.option("--edition", metavar="NAME", help="Which edition's run to take it from; default unless said.")
@click.option("-p", "assignments", multiple=True, metavar="NAME=VALUE", help="A parameter's value; may be repeated.")
@click.option("--png", type=usage.Target(), help="Write the picture here.")
@click.option("--csv", "csv_file", type=usage.Target(), help="Write the data it is drawn from here.")
def figure(
    run: str,
    name: str | None,
    edition: str | None,
    assignments: tuple[str, ...],
    png: Path | None,
    csv_file: Path | None,
) -> None:
    """Save a figure of a RUN: its picture, its data, or both. Without a NAME: list the run's figures.

    RUN is a chapter (with --edition and -p), a run's key or folder, or an executed notebook.
    """
    from phenomena.runs.store import named

    found = named.find(_project(), run, edition, parse_assignments(assignments))
    for line in found.remarks:
        click.echo(line, err=True)
    figures = found.run.figures
    if not figures:
        raise BadInput(f"{run}: shows no figure")
    if name is None:
        if png or csv_file:
            raise BadInput(f"{run}: which figure? shown: {', '.join(figures)}")
        _table([(f.name, f.caption) for f in figures.values()])
        return
    if name not in figures:
        hint = nearest(name, figures) or ";"
        raise BadInput(f"{run}: unknown figure {name!r}{hint} shown: {', '.join(figures)}")
    if not (png or csv_file):
        raise BadInput(f"{run}, figure {name}: nothing to write: give --png PATH, --csv PATH or both")
    if csv_file and not figures[name].data:
        raise BadInput(f"{run}, figure {name}: drawn from no data of its own: only --png can be written")
    for path, content in ((png, figures[name].picture), (csv_file, figures[name].data)):
        if path and content:
            _write(path, content)


@commands.command()
@click.argument("run")
@click.option("--edition", metavar="NAME", help="Which edition's run; default unless said.")
@click.option("-p", "assignments", multiple=True, metavar="NAME=VALUE", help="A parameter's value; may be repeated.")
@click.option("--html", "html_file", type=usage.Target(), help="Where to write it, not CHAPTER-KEY.html.")
@click.option("--open", "open_it", is_flag=True, help="Open it in the browser.")
def page(run: str, edition: str | None, assignments: tuple[str, ...], html_file: Path | None, open_it: bool) -> None:
    """Write a RUN as one page of HTML: parameters, prose with its numbers, figures that move, verdicts.

    RUN is a chapter (with --edition and -p), a run's key or folder, or an executed notebook.
    """
    from phenomena.runs.store import named

    project = _project()
    found = named.find(project, run, edition, parse_assignments(assignments))
    for line in found.remarks:
        click.echo(line, err=True)
    from phenomena.runs.book.single import single

    path = html_file or Path(f"{found.chapter.name}-{Path(found.run.record.key).stem}.html")
    _write(path, single(project, found).encode())
    if open_it:
        click.launch(str(path.resolve()))


@commands.command("new")
@click.argument("name")
def new_(name: str) -> None:
    """Make the skeleton of a new chapter: notebook, claims, library folder, tests and entries of the book."""
    from phenomena.runs.new import new

    for path in new(_checkout("new"), name):
        click.echo(str(path))


@commands.command()
@click.argument("chapters", metavar="[CHAPTER]...", nargs=-1)
@click.option("--pooled", is_flag=True, help="With all runs that differ in their seeds alone, joined.")
@click.option("--replication", is_flag=True, help="Keep the records of runs that repeat published ones, beside these.")
def publish(chapters: tuple[str, ...], pooled: bool, replication: bool) -> None:
    """Keep the records of today's runs in book/published, for `compare --against published` and `verify`."""
    from phenomena.runs.store import published
    from phenomena.runs.store import replication as replications

    project = _checkout("publish")
    if pooled and replication:
        raise BadInput("--pooled and --replication: must be one of the two")
    named = [project.chapter(name) for name in chapters]
    if replication:
        written = replications.keep(project, named or project.chapters())
    else:
        written = published.publish(project, named, pooled)
    for path in written:
        click.echo(str(path))


@commands.command()
@click.option("--edition", metavar="NAME", default="default", help="smoke makes a draft.")
def book(edition: str) -> None:
    """Run what is missing, check that all runs are whole and current, and build the book strictly."""
    from phenomena.runs.book.build import book as build

    click.echo(build(_checkout("book"), edition))


def _write(path: Path, content: bytes) -> None:
    """Puts a whole file into place and says so."""
    from phenomena.runs.store import runs

    try:
        runs.write(path, content)
    except OSError as error:
        raise RunFailed(f"{path}: cannot be written ({error.strerror})") from error
    click.echo(str(path))


def _verdicts(verdicts: "list[Verdict]") -> None:
    _table([(*words.measured(v), v.claim.statement) for v in verdicts])


def _table(rows: list[tuple[str, ...]]) -> None:
    for line in words.columns(rows):
        click.echo(line)


completion.attach(commands)
