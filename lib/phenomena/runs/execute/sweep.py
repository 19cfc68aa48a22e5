"""Sweeps: many runs of a chapter over a grid of parameters, on Dask, here or on any cluster.

The client validates everything, holds a lock for each run that is under way, sends sources and parameters to workers
and puts what comes back into place. Workers need the package and the same versions, but no shared disk.
"""

import itertools
import logging
import math
import platform
import re
import signal
import tempfile
import threading
import time
import uuid
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from decimal import Decimal, InvalidOperation
from importlib.metadata import version
from multiprocessing import resource_tracker
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yaml
from filelock import FileLock, Timeout

from phenomena.runs.contract.errors import BadInput, RunFailed, nearest
from phenomena.runs.contract.notebook import REPORTED
from phenomena.runs.execute import kernels, runner
from phenomena.runs.execute.limits import Limits
from phenomena.runs.execute.progress import expected
from phenomena.runs.store import git, keys, runs
from phenomena.runs.store.chapters import Chapter, Loader, Project

ANSWER_WITHIN = 8  # seconds for a scheduler to answer
GONE = "the scheduler went away; what was done is kept: start the sweep again to go on"
SLACK, MEMORY_SLACK = 20, 5  # times what a run is expected to take, and the memory that its edition states
UNREADABLE = "the scheduler or a worker has another version of the library, or none: install the same on all"
GRACE = 60  # seconds for what is not the experiment


@dataclass(frozen=True)
class Point:
    """One run of a sweep: what the grid sets, every parameter, and the key."""

    chapter: Chapter
    edition: str
    changed: dict[str, Any]
    parameters: dict[str, Any]
    key: str

    @property
    def name(self) -> str:
        """The chapter and what the grid sets, as a person would type it."""
        return " ".join([self.chapter.name, *(f"{name}={value}" for name, value in self.changed.items())])


@dataclass
class Outcome:
    """What became of a sweep's points."""

    done: list[Point] = field(default_factory=list)
    there: list[Point] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)  # point -> why
    seconds: float = 0.0


def read_grid(texts: Iterable[str]) -> dict[str, list[str]]:
    """`NAME=V1,V2,...` and `NAME=START:STOP[:STEP]` (STOP included where a step lands on it) as lists of texts.

    A comma within brackets is part of a value: `levels=[1,2],[3]`. A range begins with a number: `npz:PATH` is none.
    Raises `BadInput` for another form, an empty range, a value or a name that stands twice.
    """
    grid: dict[str, list[str]] = {}
    for text in texts:
        name, equals, values = text.partition("=")
        if not equals or not name.isidentifier() or not values:
            raise BadInput(f"-g {text!r}: must be NAME=V1,V2,… or NAME=START:STOP[:STEP]")
        if name in grid:
            raise BadInput(f"-g {name} was given twice")
        ranged = ":" in values and re.match(r"[-+.\d]", values)
        grid[name] = _range(text, values.split(":")) if ranged else re.split(r",(?![^\[]*\])", values)
        twice = [value for value, count in Counter(grid[name]).items() if count > 1]
        if twice:
            raise BadInput(f"-g {text!r}: {twice[0]!r} stands twice")
    return grid


def _range(text: str, parts: list[str]) -> list[str]:
    try:
        start, stop, step = (Decimal(part) for part in [*parts, "1"][:3])
        if len(parts) > 3 or not (start.is_finite() and stop.is_finite() and step.is_finite()):
            raise InvalidOperation
        steps = (stop - start) / step if step else Decimal(-1)
    except (ArithmeticError, ValueError) as error:
        raise BadInput(f"-g {text!r}: START:STOP[:STEP] must be numbers, such as 0:1:0.25") from error
    if steps < 0:
        raise BadInput(f"-g {text!r} is empty: STEP must lead from START to STOP")
    if steps > 10**6:
        raise BadInput(f"-g {text!r}: must be at most a million values")
    return [str(start + step * i) for i in range(int(steps) + 1)]


def read_file(path: Path) -> tuple[str, dict[str, list[Any]], dict[str, Any]]:
    """Edition, grid and fixed parameters of a sweep file in yaml (fields `edition`, `grid`, `parameters`).

    Raises `BadInput` naming what is wrong.
    """
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise BadInput(f"{path}: unreadable ({' '.join(str(error).split())[:200]})") from error
    fields = {"edition": str, "grid": dict, "parameters": dict}
    if not isinstance(content, dict):
        raise BadInput(f"{path}: must have fields among {', '.join(fields)}")
    for name, value in content.items():
        if name not in fields:
            raise BadInput(f"{path}: unknown field {name!r}{nearest(str(name), fields)}; accepted: {', '.join(fields)}")
        if not isinstance(value, fields[name]):
            raise BadInput(f"{path}: {name} is {value!r}: must be a {fields[name].__name__}")
    grid = content.get("grid", {})
    for name in [*grid, *content.get("parameters", {})]:
        if not isinstance(name, str):  # yaml takes a bare `on` or 1 for something else
            raise BadInput(f"{path}: {name!r} is no parameter's name: must be text, in quotes if need be")
    for name, values in grid.items():
        if not isinstance(values, list) or not values:
            raise BadInput(f"{path}: grid: {name} is {values!r}: must be a list of values")
    return content.get("edition", "default"), grid, content.get("parameters", {})


def points(
    project: Project, chapter: Chapter, edition: str, grid: Mapping[str, list[Any]], fixed: Mapping[str, Any]
) -> list[Point]:
    """Every combination of the grid's values as a point, the last parameter varying fastest; all of them validated.

    Raises `BadInput` for an empty grid, a parameter both in grid and fixed, or a value that is not accepted.
    """
    if not grid:
        raise BadInput("the grid is empty: give -g NAME=V1,V2,… or a sweep file with a grid")
    both = [name for name in grid if name in fixed]
    if both:
        raise BadInput(f"{both[0]} stands in the grid and as a fixed parameter: must be one of the two")
    sources = keys.sources(chapter, keys.sha256(project.lock.read_bytes()))
    found = []
    for values in itertools.product(*grid.values()):
        changed = dict(zip(grid, values, strict=True))
        parameters = chapter.resolve(edition, {**fixed, **changed})
        shown = {name: parameters[name] for name in changed}
        found.append(Point(chapter, edition, shown, parameters, sources.key(parameters)))
    twins = {point.key: point for point in found}
    if len(twins) < len(found):
        raise BadInput("two points of the grid are the same run: different texts of one value?")
    return found


def missing(project: Project, wanted: list[Point]) -> list[Point]:
    """The points of which there is no whole run."""
    return [p for p in wanted if runs.read(project.runs / p.chapter.name / p.key) is None]


def limits(point: Point, seconds_a_seed: float = 0.0) -> Limits:
    """What a point may take: so much more than expected that it is taken for one that will never end.

    The edition's cost is for its own number of seeds. seconds_a_seed: the most such a run took, where one is known.
    """
    cost, seeds = point.chapter.file.editions[point.edition].cost, point.parameters["seeds"]
    stated = cost.seconds * max(1.0, seeds / point.chapter.resolve(point.edition)["seeds"])
    return Limits(SLACK * max(stated, seconds_a_seed * seeds) + GRACE, MEMORY_SLACK * cost.memory_mb)


def memory(chapter: Chapter, edition: str, given: Mapping[str, float]) -> float:
    """The memory to ask a job queue for, in MB: the limit that was given, unless that is none."""
    usual = MEMORY_SLACK * chapter.file.editions[edition].cost.memory_mb
    return given["memory_mb"] if math.isfinite(given.get("memory_mb", math.inf)) else usual


@dataclass(frozen=True)
class Task:
    """All that a worker needs for one run; plain values, so that it travels."""

    chapter: str
    notebook: str
    file: str
    edition: str
    parameters: dict[str, Any]
    key: str
    lock_sha256: str
    commit: str | None
    limits: Limits
    versions: dict[str, str]


@dataclass(frozen=True)
class Answer:
    """What a worker sends back: the run's files, or why there are none and the report's files."""

    files: dict[str, bytes]
    error: str = ""


_server: kernels.Server | None = None  # of this worker process


def on_worker(task: Task) -> Answer:
    """Executes one run in a folder of its own, its kernel forked from this worker's server of imported modules."""
    for name, here in versions().items():
        if here != task.versions[name]:
            told = f"a worker has {name} {here}, not {task.versions[name]}: install the same lock on both"
            return Answer({}, f"{task.chapter}: {told}")
    try:
        with runner.scratch() as home:
            return _executed(task, Project(home))
    except OSError as error:
        return Answer({}, f"{task.chapter}: on a worker: {runner.fault(error, Path(tempfile.gettempdir()))}")


def _executed(task: Task, project: Project) -> Answer:
    (project.root / "notebooks").mkdir()
    chapter = Chapter(project.root / "notebooks" / f"{task.chapter}.ipynb")
    chapter.notebook.write_text(task.notebook, encoding="utf-8")
    chapter.notebook.with_suffix(".yaml").write_text(task.file, encoding="utf-8")
    if keys.sources(chapter, task.lock_sha256).key(task.parameters) != task.key:
        return Answer({}, f"{task.chapter}: a worker has another version of the library: install the same on both")
    folder = project.runs / task.chapter / task.key
    folder.mkdir(parents=True)
    named = task.edition if chapter.resolve(task.edition) == task.parameters else None
    try:
        runner.execute(
            project, chapter, task.parameters, named, task.key, folder, _kernels(chapter),
            lock_sha256=task.lock_sha256, commit=task.commit, limits=task.limits,
        )  # fmt: skip
    except RunFailed as error:
        failed = runner.failed(project, task.chapter, task.key)
        return Answer({p.name: p.read_bytes() for p in failed.iterdir()} if failed.is_dir() else {}, str(error))
    if keys.sources(chapter, task.lock_sha256).key(task.parameters) != task.key:
        return Answer({}, f"{task.chapter}: a worker's library changed while it ran; run it again")
    return Answer({name: (folder / name).read_bytes() for name in (runs.NOTEBOOK, runs.RECORD)})


def versions() -> dict[str, str]:
    """Of Python and of the packages that a record reports: what a worker and its client must have in common."""
    python = ".".join(platform.python_version_tuple()[:2])
    return {"python": python, **{name: version(name) for name in REPORTED}}


def _kernels(chapter: Chapter) -> kernels.Server:
    """This worker's server; a new one when another chapter needs other modules."""
    global _server
    wanted = kernels.needed([chapter], shared=True)
    if _server is None or not _server.alive() or _server.modules != wanted:
        if _server:
            _server.close()
        _server = kernels.Server(wanted)
    return _server


@contextmanager
def cluster(scheduler: str | None, workers: int, memory_mb: float = 10_000) -> Iterator[Any]:
    """A Dask client: of the scheduler at an address, of SLURM for the word `slurm`, else of a local cluster.

    Local workers are processes of one thread. memory_mb: what a job of SLURM asks for. Raises `BadInput` when nobody
    answers at the address in time.
    """
    from dask import config
    from distributed import Client, LocalCluster

    for name in [n for n in logging.root.manager.loggerDict if n.startswith("distributed")]:
        logging.getLogger(name).setLevel(logging.CRITICAL)  # what matters is raised or reported
    with ExitStack() as stack:
        made: Any = scheduler
        with _no_interrupt():  # of a cluster half made, whose processes would be left to themselves
            if scheduler == "slurm":
                made = slurm(workers, memory_mb)
            elif not scheduler:
                folder = stack.enter_context(runner.scratch())  # outlives workers, also those that are killed
                stack.enter_context(config.set({"temporary-directory": str(folder)}))
                made = LocalCluster(
                    n_workers=workers,
                    threads_per_worker=1,
                    dashboard_address="127.0.0.1:0",  # or two sweeps would quarrel about a port
                    memory_limit=0,  # none: kernels have limits of their own
                    silence_logs=logging.CRITICAL,
                    env={runner.OWNER: folder.name},
                )
            if made is not scheduler:
                stack.callback(_close, made)
        try:
            client = Client(made, timeout=ANSWER_WITHIN)
        except (OSError, ValueError) as error:  # nobody there, or not an address
            raise BadInput(f"no Dask scheduler answers at {scheduler!r} within {ANSWER_WITHIN} s ({error})") from error
        stack.callback(_close, client)
        yield client


def _close(made: Any) -> None:
    with _no_interrupt():
        made.close(timeout=5)


@contextmanager
def _no_interrupt() -> Iterator[None]:
    """Puts an interrupt off until the end of the block, and keeps a terminal's from processes that start in there."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came = list[int]()
    before = {n: signal.signal(n, lambda n, _: came.append(n)) for n in (signal.SIGINT, signal.SIGTERM)}
    resource_tracker.ensure_running()  # or it starts in there, and lets the signal through again
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])  # which threads and processes inherit
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
    if came:
        raise KeyboardInterrupt


def slurm(workers: int, memory_mb: float) -> Any:
    """A cluster of SLURM jobs, one worker each; queue, walltime and account come from dask-jobqueue's configuration."""
    try:
        from dask_jobqueue import SLURMCluster
    except ImportError as error:
        raise BadInput("--scheduler slurm needs dask-jobqueue: install the extra phenomena[jobqueue]") from error
    memory = f"{memory_mb / 1000:.0f}GB"
    made = SLURMCluster(cores=1, processes=1, memory=memory, scheduler_options={"dashboard_address": ":0"})
    made.scale(workers)
    return made


def sweep(
    project: Project,
    wanted: list[Point],
    client: Any,
    work: Callable[[Task], Answer] = on_worker,
    report: Callable[[Outcome, int], None] = lambda outcome, left: None,
    given: Mapping[str, float] = MappingProxyType({}),
) -> Outcome:
    """Runs what is missing of the points on the client's workers and puts the results into place as they come.

    A point that another process executes is waited for, not executed twice. A lost worker's points are tried again on
    others (three times). work: what a worker does with a `Task`. report: called with the outcome so far and the number
    of points left. given: fields of `Limits` that take the place of those of `limits`. Raises `RunFailed` when the
    scheduler goes away; what was done stays.
    """
    state, began = _Sweep(project, client, work, deque(wanted), given), time.monotonic()
    try:
        while state.waiting or state.flying:
            state.submit()
            for future in state.finished():
                state.land(future)
            state.outcome.seconds = time.monotonic() - began
            report(state.outcome, len(state.waiting) + len(state.flying))
    finally:
        state.close()
    return state.outcome


@contextmanager
def _scheduler_there() -> Iterator[None]:
    """Raises `RunFailed` for whatever a lost connection raises in there; distributed has many kinds."""
    try:
        yield
    except Exception as error:
        raise RunFailed(f"{GONE} ({type(error).__name__})") from error


class _Sweep:
    """What is under way: each flying point with the lock that this process holds for it."""

    def __init__(
        self,
        project: Project,
        client: Any,
        work: Callable[[Task], Answer],
        waiting: deque[Point],
        given: Mapping[str, float],
    ) -> None:
        self.project, self.client, self.work, self.waiting, self.given = project, client, work, waiting, given
        self.seconds_a_seed = 0.0  # the most that a run of this sweep took
        if waiting:  # or, until there is one, one like it at hand
            first = waiting[0]
            cost = expected(project, first.chapter, first.parameters)
            self.seconds_a_seed = cost.seconds / first.parameters["seeds"]
        self.flying: dict[Any, tuple[Point, FileLock]] = {}
        self.outcome = Outcome()
        self.lock_sha256, self.commit = keys.sha256(project.lock.read_bytes()), git.commit(project.root)
        self.versions = versions()
        self.texts: dict[Path, str] = {}

    def submit(self) -> None:
        """Sends points out until every worker has one and one more in store; looks at each waiting point once."""
        with _scheduler_there():
            room = 2 * max(1, sum(self.client.nthreads().values())) - len(self.flying)
        for _ in range(len(self.waiting)):
            if room <= 0:
                return
            point = self.waiting.popleft()
            lock = runner.lock(self.project, point.chapter.name, point.key)
            try:
                lock.acquire(timeout=0)
            except Timeout:  # another process executes it
                self.waiting.append(point)
                continue
            if not missing(self.project, [point]):
                lock.release()
                self.outcome.there.append(point)
                continue
            name = f"{point.chapter.name}-{point.key}-{uuid.uuid4().hex[:8]}"
            task = self._task(point)  # reads files, whose faults are none of the scheduler's
            try:
                with _scheduler_there():
                    future = self.client.submit(self.work, task, key=name, pure=False)
            except RunFailed:
                lock.release()
                raise
            self.flying[future] = point, lock
            room -= 1

    def _task(self, point: Point) -> Task:
        notebook = point.chapter.notebook
        for path in (notebook, notebook.with_suffix(".yaml")):
            if path not in self.texts:
                self.texts[path] = path.read_text(encoding="utf-8")
        return Task(
            chapter=point.chapter.name,
            notebook=self.texts[notebook],
            file=self.texts[notebook.with_suffix(".yaml")],
            edition=point.edition,
            parameters=point.parameters,
            key=point.key,
            lock_sha256=self.lock_sha256,
            commit=self.commit,
            limits=replace(limits(point, self.seconds_a_seed), **self.given),
            versions=self.versions,
        )

    def finished(self) -> list[Any]:
        """The futures that are finished, after a second at most. Raises `RunFailed` when the scheduler is gone."""
        from distributed import wait

        if not self.flying:
            time.sleep(0.2)  # all that is left is executed elsewhere
            return []
        with _scheduler_there(), suppress(TimeoutError):
            wait(list(self.flying), timeout=1, return_when="FIRST_COMPLETED")
        if self.client.status != "running":
            raise RunFailed(GONE)
        return [future for future in self.flying if future.status not in ("pending", "lost")]

    def land(self, future: Any) -> None:
        """Puts a finished run into place, or notes why there is none, and lets go of its lock."""
        point, lock = self.flying.pop(future)
        try:
            why = _land(self.project, point, future)
        finally:
            lock.release()
        if why:
            self.outcome.failed[point.name] = why
            return
        self.outcome.done.append(point)
        if run := runs.read(self.project.runs / point.chapter.name / point.key):
            self.seconds_a_seed = max(self.seconds_a_seed, run.record.seconds["total"] / len(run.record.seeds))

    def close(self) -> None:
        """Lets go of what is still under way."""
        for future, (_, lock) in self.flying.items():
            if self.client.status == "running":
                future.cancel()
            lock.release()


def _land(project: Project, point: Point, future: Any) -> str:
    """Puts a finished run into place; returns why there is none."""
    if future.status != "finished":
        error = future.exception() if future.status == "error" else None
        if type(error).__name__ == "KilledWorker":
            return "its workers died again and again (out of memory, or killed)"
        if isinstance(error, ImportError | AttributeError) or "deserialization" in str(error):
            return UNREADABLE  # what was sent names what is not there
        return f"the worker failed: {error!r}"[:600] if error else f"it was {future.status}"
    answer: Answer = future.result()
    try:
        if answer.error:
            if answer.files:
                failed = runner.failed(project, point.chapter.name, point.key)
                failed.mkdir(parents=True, exist_ok=True)
                for file, content in answer.files.items():
                    (failed / file).write_bytes(content)
            return answer.error
        with runner.partial(project) as made:
            for file, content in answer.files.items():
                (made / file).write_bytes(content)
            runner.put(made, project.runs / point.chapter.name / point.key)
    except OSError as error:  # the disk is full: this run fails whole, later ones may find room
        return f"it could not be written: {runner.fault(error, project.runs)}"
    runner.forget_failure(project, point.chapter.name, point.key)
    return ""
