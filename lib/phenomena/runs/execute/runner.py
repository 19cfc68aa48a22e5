"""Executes a chapter's notebook and keeps the result: whole, under its key, or not at all."""

import json
import logging
import os
import re
import shutil
import socket
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import closing, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import nbformat
import psutil
from filelock import FileLock
from tqdm import tqdm
from traitlets.config import Config

from phenomena.runs.contract.errors import BadInput, RunFailed
from phenomena.runs.contract.notebook import PROGRESS
from phenomena.runs.execute import kernels
from phenomena.runs.store import git, keys, runs
from phenomena.runs.store.chapters import Chapter, Project

ANSI = re.compile(r"\x1b\[[0-9;]*m")


def run(
    project: Project,
    chapter: Chapter,
    parameters: Mapping[str, Any],
    edition: str | None = None,
    force: bool = False,
    server: kernels.Server | None = None,
    home: Path | None = None,
) -> tuple[runs.Run, bool]:
    """The chapter's run with these parameters, and whether it was executed now or there already.

    parameters: every one, as `Chapter.resolve` returns them. edition: the name under which the record lists the run.
    force: execute it even so, and put the new run in the place of the old. server: what its kernel is forked from; one
    of its own otherwise. home: where it is kept, the project's folder of runs unless said. Two callers of the same run
    at once: one executes, the other waits and takes the result. Raises `RunFailed` when a cell raises; a report is then
    written.
    """
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
            )
            if keys.run_key(project, Chapter(chapter.notebook), parameters) != key:
                raise RunFailed(f"{chapter.name}: notebook, library or lock changed while it ran; run it again")
            put(made, folder)
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
    host = re.sub(r"\W", "_", socket.gethostname())
    for left in home.glob(f"{host}-*"):  # of this machine: the disk may be shared with others
        if not psutil.pid_exists(int(left.name.split("-")[1])):
            shutil.rmtree(left, ignore_errors=True)
    folder = home / f"{host}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@dataclass(frozen=True)
class Limits:
    """What a run may take before its kernel is killed."""

    seconds: float = float("inf")
    memory_mb: float = float("inf")


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
    limits: Limits | None = None,
) -> None:
    """Writes notebook.ipynb and record.json of one run into the folder.

    server: what its kernel is forked from. Raises `RunFailed` after writing a report when a cell raises or the kernel
    dies.
    """
    import papermill  # half a second that what is there already need not wait for
    from papermill.exceptions import PapermillExecutionError

    logging.getLogger("papermill").setLevel(logging.CRITICAL)  # what matters is raised; types are checked before
    target = folder / runs.NOTEBOOK
    changed = {name: v for name, v in parameters.items() if v != chapter.declaration[name].default}
    started, began = datetime.now(UTC), time.monotonic()
    kernel, reached = _Watched(limits or Limits()), list[str]()
    try:
        with _progress(chapter.name, folder / "progress.json") as told, _private() as config, kernel:
            nbformat.write(chapter.source, target)  # Papermill takes no notebook as some editors save them
            papermill.execute_notebook(
                target, target, changed, kernel_name="python3", language="python",
                progress_bar=False, log_output=False, config=config, shutdown_kernel="immediate",
                request_save_on_cell_execute=False,  # or it writes all there is before and after every cell
                on_cell_start=lambda cell, cell_index: reached.append(cell.source),
                kernel_manager_class=kernels.kernel_manager(server, project.home, told, kernel.watch),
            )  # fmt: skip
    except (PapermillExecutionError, RuntimeError) as error:  # the latter: the kernel died or did not start
        if server.closed:
            raise RunFailed(f"{chapter.name}: interrupted") from error
        death = kernel.verdict or "the kernel died (out of memory, or killed)"
        raise RunFailed(_report(project, chapter, parameters, key, target, error, death, reached)) from error
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


class _Watched:
    """Kills a kernel that goes beyond its limits, looking twice a second; `verdict` then says why."""

    def __init__(self, limits: Limits) -> None:
        self.limits, self.verdict = limits, ""
        self._stop, self._threads = threading.Event(), list[threading.Thread]()

    def watch(self, pid: int) -> None:
        self._threads.append(threading.Thread(target=self._look, args=(pid,), daemon=True))
        self._threads[-1].start()

    def _look(self, pid: int) -> None:
        end = time.monotonic() + self.limits.seconds
        with suppress(psutil.Error):  # the kernel has ended
            process = psutil.Process(pid)
            while not self._stop.wait(0.5):
                if process.memory_info().rss > self.limits.memory_mb * 1e6:
                    self.verdict = f"it took more than {self.limits.memory_mb:.0f} MB, its limit"
                elif time.monotonic() > end:
                    self.verdict = f"it took longer than {self.limits.seconds:.0f} s, its limit"
                if self.verdict:
                    process.kill()
                    return

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


@contextmanager
def _private() -> Iterator[Config]:
    """Settings for a kernel that is spoken to through files in a folder of its own: no port that others may read."""
    with tempfile.TemporaryDirectory(prefix="phenomena-") as folder:
        file = f"{folder}/kernel.json"
        yield Config(KernelManager={"transport": "ipc", "ip": f"{folder}/kernel", "connection_file": file})


def section_seconds(notebook: nbformat.NotebookNode) -> dict[str, float]:
    """Seconds of the code cells below each `## ` heading, from Papermill's own measurement."""
    seconds, heading = {"start": 0.0}, "start"
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            found = re.findall(r"^## (.+)$", cell.source, re.MULTILINE)
            heading = found[-1] if found else heading
        else:
            spent = cell.metadata.get("papermill", {}).get("duration") or 0.0
            seconds[heading] = seconds.get(heading, 0.0) + spent
    return {name: round(value, 2) for name, value in seconds.items()}


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


def _report(
    project: Project,
    chapter: Chapter,
    parameters: Mapping[str, Any],
    key: str,
    target: Path,
    error: Exception,
    death: str,
    reached: list[str],
) -> str:
    """Writes a failed run's report and notebook to runs/.failed; returns the line that says so.

    death: why a kernel died, if that is what happened. reached: the cells that were begun.
    """
    from papermill.exceptions import PapermillExecutionError

    folder = project.runs / ".failed" / f"{chapter.name}-{key}"
    folder.mkdir(parents=True, exist_ok=True)
    if isinstance(error, PapermillExecutionError):
        what, source = f"{error.ename}: {error.evalue}", error.source
        where, trace = f"code cell {error.exec_count}", ANSI.sub("", "\n".join(error.traceback))
    else:
        what, source, where, trace = death, "".join(reached[-1:]), "the kernel", str(error)
    values = "\n".join(f"- {name} = {value!r}" for name, value in parameters.items())
    text = (
        f"# {chapter.name} failed in {where}\n\n{what}\n\n## Cell\n\n```python\n{source}\n```\n\n"
        f"## Traceback\n\n```\n{trace}\n```\n\n## Parameters\n\n{values}\n"
    )
    (folder / "report.md").write_text(text, encoding="utf-8")
    if target.exists():
        shutil.move(target, folder / runs.NOTEBOOK)
    report = (folder / "report.md").relative_to(project.home)
    return f"{chapter.name}: {where} failed: {what.splitlines()[0][:600]}; report: {report}"


@contextmanager
def _progress(name: str, path: Path) -> Iterator[dict[str, str]]:
    """A bar with the time left on a terminal, fed by what the notebook writes to the path; nothing in a log.

    Yields what the notebook's kernel must see in its environment.
    """
    if not sys.stderr.isatty():
        yield {}
        return
    stop = threading.Event()
    follower = threading.Thread(target=_follow, args=(name, path, stop), daemon=True)
    follower.start()
    try:
        yield {PROGRESS: str(path)}
    finally:
        stop.set()
        follower.join()


def _follow(name: str, path: Path, stop: threading.Event) -> None:
    label = None
    columns, rows = shutil.get_terminal_size()  # tqdm would take a terminal of unknown size for one of size zero
    start = "{desc} [{elapsed}]"
    with tqdm(desc=f"{name} · starting", bar_format=start, leave=False, ncols=columns, nrows=rows) as bar:
        while not stop.wait(0.5):
            try:
                state = json.loads(path.read_text())
            except (OSError, json.JSONDecodeError):
                state = {"label": None, "done": 0, "total": None}
            if state["label"] != label:
                label = state["label"]
                bar.reset(state["total"])
                bar.bar_format = "{desc} {bar} {n}/{total} [{elapsed}, {remaining} left in this part]"
                bar.set_description_str(f"{name} · {label}")
            bar.n = state["done"]
            bar.refresh()
