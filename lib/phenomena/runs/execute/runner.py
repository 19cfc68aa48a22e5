"""Executes a chapter's notebook and keeps the result: whole, under its key, or not at all."""

import logging
import os
import re
import shutil
import socket
import sys
import tempfile
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import closing, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import nbformat
import psutil
from filelock import FileLock
from tqdm import tqdm
from traitlets.config import Config

from phenomena.runs import words
from phenomena.runs.contract.errors import BadInput, RunFailed
from phenomena.runs.execute import kernels
from phenomena.runs.execute.limits import Limits, Watch, usual
from phenomena.runs.execute.progress import Expected, expected, shown
from phenomena.runs.store import git, keys, runs
from phenomena.runs.store.chapters import Chapter, Project

ANSI = re.compile(r"\x1b\[[0-9;]*m")
OWNER = "PHENOMENA_OWNER"  # whose folder for temporary files those of this process belong to
START = "start"  # the section of cells above the first heading


def run(
    project: Project,
    chapter: Chapter,
    parameters: Mapping[str, Any],
    edition: str | None = None,
    force: bool = False,
    server: kernels.Server | None = None,
    home: Path | None = None,
    limits: Limits | None = None,
) -> tuple[runs.Run, bool]:
    """The chapter's run with these parameters, and whether it was executed now or there already.

    parameters: every one, as `Chapter.resolve` returns them. edition: the name under which the record lists the run.
    force: execute it even so, and put the new run in the place of the old. server: what its kernel is forked from; one
    of its own otherwise. home: where it is kept, the project's folder of runs unless said. limits: the `usual` ones
    unless said. Two callers of the same run at once: one executes, the other waits and takes the result. Raises
    `RunFailed` when a cell raises; a report is then written.
    """
    try:
        return _run(project, chapter, parameters, edition, force, server, home, limits or usual())
    except OSError as error:
        raise RunFailed(f"{chapter.name}: {fault(error, home or project.runs)}") from error


def _run(
    project: Project,
    chapter: Chapter,
    parameters: Mapping[str, Any],
    edition: str | None,
    force: bool,
    server: kernels.Server | None,
    home: Path | None,
    limits: Limits,
) -> tuple[runs.Run, bool]:
    key = keys.run_key(project, chapter, parameters)
    folder = (home or project.runs) / chapter.name / key
    started = datetime.now(UTC)
    with lock(project, chapter.name, key).acquire(cancel_check=lambda: server is not None and server.closed):
        done = runs.read(folder)
        if done and not (force and datetime.fromisoformat(done.record.started) < started):
            return done, False
        with (
            nullcontext(server) if server else kernels.Server(kernels.needed([chapter])) as used,
            partial(project) as made,
        ):
            lock_sha256 = keys.sha256(project.lock.read_bytes())
            execute(
                project,
                chapter,
                parameters,
                edition,
                key,
                made,
                used,
                lock_sha256=lock_sha256,
                commit=git.commit(project.root),
                limits=limits,
                cost=expected(project, chapter, parameters),
            )
            if keys.run_key(project, Chapter(chapter.notebook), parameters) != key:
                raise RunFailed(f"{chapter.name}: notebook, library or lock changed while it ran; run it again")
            put(made, folder)
        forget_failure(project, chapter.name, key)
        made_now = runs.read(folder)
    if made_now is None:
        raise RunFailed(f"{chapter.name}: what was written to {folder.relative_to(project.home)} cannot be read")
    return made_now, True


def lock(project: Project, chapter: str, key: str) -> FileLock:
    """The lock that whoever executes or places a run holds."""
    locks = project.runs / ".locks"
    locks.mkdir(parents=True, exist_ok=True)
    return FileLock(locks / f"{chapter}-{key}.lock")


def run_many(project: Project, jobs: Iterable[tuple[str, str]], workers: int = 2) -> list[str]:
    """Runs (chapter, edition) pairs as `run_all` does, the costliest first."""
    found = [(project.chapter(name), edition) for name, edition in jobs]
    found.sort(key=lambda job: job[0].file.editions[job[1]].cost.seconds, reverse=True)
    return run_all(project, [(chapter, chapter.resolve(edition), edition) for chapter, edition in found], workers)


Job = tuple[Chapter, Mapping[str, Any], str | None]  # with parameters, and the name of the edition they are


def run_all(
    project: Project, jobs: Sequence[Job], workers: int = 2, force: bool = False, home: Path | None = None
) -> list[str]:
    """Runs in this order, several at a time; all kernels are forked from one process. force, home: as in `run`.

    A failure lets the others finish; an interrupt ends those under way and starts no other. Returns one line for each
    that failed.
    """
    modules = kernels.needed([chapter for chapter, _, _ in jobs], shared=len(jobs) > 1)
    with kernels.Server(modules) as server, ThreadPoolExecutor(workers) as pool:
        try:
            lines = [pool.submit(_run_job, project, *job, force, server, home) for job in jobs]
            while wait(lines, timeout=0.5).not_done:
                pass  # code that runs: a signal which reached another thread does not end a wait
            return [line.result() for line in lines if line.result()]
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            server.close()  # its kernels with it, hence what the threads wait for
            raise


def _run_job(
    project: Project,
    chapter: Chapter,
    parameters: Mapping[str, Any],
    edition: str | None,
    force: bool,
    server: kernels.Server,
    home: Path | None,
) -> str:
    """Why it failed, in a line, if it did. For a thread: its event loop is closed."""
    from jupyter_core.utils import ensure_event_loop

    began, name = time.monotonic(), f"{chapter.name}, {edition or 'own parameters'}"
    try:
        with closing(ensure_event_loop()):
            run(project, chapter, parameters, edition, force, server, home)
    except (RunFailed, BadInput) as error:
        return str(error)
    except Exception as error:  # whatever it is, the others finish
        return f"{name}: {error!r}"[:600]
    tqdm.write(f"{name}: {time.monotonic() - began:.0f} s", file=sys.stderr)  # above the others' bars
    return ""


@contextmanager
def partial(project: Project) -> Iterator[Path]:
    """A fresh folder for a run in the making; gone afterwards, as are those whose makers died."""
    home = project.runs / ".partial"
    home.mkdir(parents=True, exist_ok=True)
    host = re.sub(r"\W", "_", socket.gethostname())  # the disk may be shared with others
    with _fresh(home, host, f"{host}-{os.getpid()}") as folder:
        yield folder


@contextmanager
def scratch() -> Iterator[Path]:
    """The same in the folder for temporary files, for this user alone; those of workers go with that of their owner.

    Names are short, since sockets have paths of at most a hundred characters.
    """
    host = f"phenomena-{keys.sha256(socket.gethostname().encode())[:6]}"
    owner = os.environ.get(OWNER, f"{host}-{os.getpid()}")
    with _fresh(Path(tempfile.gettempdir()), host, owner, mode=0o700) as folder:
        yield folder


@contextmanager
def _fresh(home: Path, host: str, maker: str, mode: int = 0o777) -> Iterator[Path]:
    """A folder whose name begins with its maker's, and that with the host's."""
    for left in home.glob(f"{host}-*"):
        of = re.fullmatch(r"-(\d+)-[-\w]+", left.name.removeprefix(host))
        if of and not psutil.pid_exists(int(of[1])):
            shutil.rmtree(left, ignore_errors=True)
    folder = home / f"{maker}-{uuid.uuid4().hex[:6]}"
    folder.mkdir(mode)
    try:
        yield folder
    finally:
        for made in home.glob(f"{folder.name}*"):
            shutil.rmtree(made, ignore_errors=True)


def execute(
    project: Project,
    chapter: Chapter,
    parameters: Mapping[str, Any],
    edition: str | None,
    key: str,
    folder: Path,
    server: kernels.Server,
    *,
    lock_sha256: str,
    commit: str | None,
    limits: Limits,
    cost: Expected | None = None,
) -> None:
    """Writes notebook.ipynb and record.json of one run into the folder.

    server: what its kernel is forked from. cost: what it is expected to take, for whoever watches; None: nobody does.
    Raises `RunFailed` after writing a report when a cell raises or the kernel dies.
    """
    import papermill  # half a second that what is there already need not wait for
    from papermill.exceptions import PapermillExecutionError

    logging.getLogger("papermill").setLevel(logging.CRITICAL)  # what matters is raised; types are checked before
    target = folder / runs.NOTEBOOK
    changed = {name: v for name, v in parameters.items() if v != chapter.declaration[name].default}
    started, began = datetime.now(UTC), time.monotonic()
    reached, heading = list[nbformat.NotebookNode](), START
    with (
        shown(chapter.name, cost, folder / "progress.json") as (told, environment),
        _private() as config,
        Watch(limits) as watch,
    ):

        def begins(cell: nbformat.NotebookNode, cell_index: int) -> None:
            nonlocal heading
            heading = _heading(cell, heading)
            if cell.cell_type == "code":
                reached.append(cell)
                if told:
                    told.enter(heading)

        nbformat.write(chapter.source, target)  # Papermill takes no notebook as some editors save them
        kernel = kernels.kernel_manager(server, project.home, environment, watch.watch)
        try:
            papermill.execute_notebook(
                target, target, changed, kernel_name="python3", language="python",
                progress_bar=False, log_output=False, config=config, shutdown_kernel="immediate",
                request_save_on_cell_execute=False,  # or it writes all there is before and after every cell
                on_cell_start=begins, kernel_manager_class=kernel,
            )  # fmt: skip
        except KeyboardInterrupt:
            server.close()  # while its folder is there: a kernel that starts without would make one, and warn of it
            raise
        except (PapermillExecutionError, RuntimeError) as error:  # the latter: the kernel died or did not start
            if server.closed:
                raise RunFailed(f"{chapter.name}: interrupted") from error
            failure = _failure(error, watch, reached, time.monotonic() - began)
            raise RunFailed(_report(project, chapter, parameters, key, target, failure)) from error
    total = time.monotonic() - began
    notebook = nbformat.read(target, as_version=4)
    _tidy(notebook, chapter)
    nbformat.write(notebook, target)
    facts = runs.collect(notebook)
    if facts.pop("parameters", None) != parameters:
        raise RunFailed(f"{chapter.name}: no `check_parameters(globals())` after the parameters, or they changed later")
    parts = section_seconds(notebook)
    sources = keys.sources(chapter, lock_sha256)
    first = int(parameters["seed"])
    record = runs.Record(
        chapter=chapter.name,
        edition=edition,
        key=key,
        study=sources.study(parameters),
        parameters=dict(parameters),
        seeds=list(range(first, first + int(parameters["seeds"]))),
        commit=commit,
        lock_sha256=sources.lock_sha256,
        modules=sources.modules,
        started=started.isoformat(timespec="milliseconds"),
        seconds={"total": round(total, 2), "overhead": round(total - sum(parts.values()), 2), **parts},
        **facts,
    )
    (folder / runs.RECORD).write_text(record.model_dump_json(indent=1), encoding="utf-8")


@contextmanager
def _private() -> Iterator[Config]:
    """Settings for a kernel that is spoken to through files in a folder of its own: no port that others may read."""
    with scratch() as folder:
        file = f"{folder}/kernel.json"
        yield Config(KernelManager={"transport": "ipc", "ip": f"{folder}/kernel", "connection_file": file})


def section_seconds(notebook: nbformat.NotebookNode) -> dict[str, float]:
    """Seconds of the code cells below each `## ` heading, from Papermill's own measurement."""
    seconds, heading = {START: 0.0}, START
    for cell in notebook.cells:
        heading = _heading(cell, heading)
        if cell.cell_type == "code":
            spent = cell.metadata.get("papermill", {}).get("duration") or 0.0
            seconds[heading] = seconds.get(heading, 0.0) + spent
    return {name: round(value, 2) for name, value in seconds.items()}


def _heading(cell: nbformat.NotebookNode, before: str) -> str:
    """The `## ` heading from this cell on; before: that of the cell before."""
    found = re.findall(r"^## (.+)$", cell.source, re.MULTILINE) if cell.cell_type == "markdown" else []
    return found[-1] if found else before


def _tidy(notebook: nbformat.NotebookNode, chapter: Chapter) -> None:
    """Takes out what belongs to this machine or this moment: absolute paths and progress bars."""
    notebook.metadata.papermill.update(input_path=chapter.notebook.name, output_path=runs.NOTEBOOK)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]


def put(partial: Path, folder: Path) -> None:
    """Moves a finished run into place at one stroke; an older one steps aside first."""
    (partial / "progress.json").unlink(missing_ok=True)
    for path in [*partial.iterdir(), partial]:
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)
    folder.parent.mkdir(parents=True, exist_ok=True)
    aside = partial.with_name(f"{partial.name}-old")
    if folder.exists():
        folder.replace(aside)
    partial.replace(folder)
    shutil.rmtree(aside, ignore_errors=True)


@dataclass(frozen=True)
class Failure:
    """Where a run failed, what was raised or killed it and after how long, the cell's source, the traceback."""

    where: str
    what: str
    source: str
    trace: str

    @property
    def line(self) -> str:
        """In one line."""
        return f"{self.where} failed: {(self.what.splitlines() or [''])[0][:600]}"


def _failure(error: Exception, watch: Watch, reached: Sequence[nbformat.NotebookNode], seconds: float) -> Failure:
    """What became of a run: of a cell that raised, or of a kernel that died in the last of the cells it reached."""
    from papermill.exceptions import PapermillExecutionError

    taken = f"after {words.duration(seconds)}"
    if watch.memory_mb:
        taken += f", with {watch.memory_mb:.0f} MB"
    if isinstance(error, PapermillExecutionError):
        what, trace = f"{error.ename}: {error.evalue}", ANSI.sub("", "\n".join(error.traceback))
        return Failure(f"code cell {error.exec_count}", f"{what}\n\nThat was {taken}.", error.source, trace)
    where, source = (f"code cell {len(reached)}", reached[-1].source) if reached else ("the kernel's start", "")
    what = f"{watch.verdict or 'the kernel died (out of memory, or killed)'}, {taken}"
    return Failure(where, what, source, str(error))


def _report(
    project: Project, chapter: Chapter, parameters: Mapping[str, Any], key: str, target: Path, failure: Failure
) -> str:
    """Writes a failed run's report and notebook to runs/.failed; returns the line that says so."""
    folder = failed(project, chapter.name, key)
    folder.mkdir(parents=True, exist_ok=True)
    values = "\n".join(f"- {name} = {value!r}" for name, value in parameters.items())
    text = (
        f"# {chapter.name} failed in {failure.where}\n\n{failure.what}\n\n"
        f"## Cell\n\n```python\n{failure.source}\n```\n\n## Traceback\n\n```\n{failure.trace}\n```\n\n"
        f"## Parameters\n\n{values}\n"
    )
    (folder / "report.md").write_text(text, encoding="utf-8")
    if target.exists():
        shutil.move(target, folder / runs.NOTEBOOK)
    report = (folder / "report.md").relative_to(project.home)
    return f"{chapter.name}: {failure.line}; report: {report}"


def fault(error: OSError, folder: Path) -> str:
    """What a disk refused, and where: the folder that was written to, if the error does not say."""
    return f"{error.filename or folder}: {error.strerror or error}"


def failed(project: Project, chapter: str, key: str) -> Path:
    """Where the report of a failed run is."""
    return project.runs / ".failed" / f"{chapter}-{key}"


def forget_failure(project: Project, chapter: str, key: str) -> None:
    """Removes the report of a run that has succeeded meanwhile."""
    folder = failed(project, chapter, key)
    shutil.rmtree(folder, ignore_errors=True)
    with suppress(OSError):  # others failed, or none did
        folder.parent.rmdir()
