"""Sweeps: grids, Dask on separate processes, and every fault that a sweep must survive."""

import errno
import importlib
import json
import math
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path

import numpy
import pytest
import yaml
from conftest import BODY, write_chapter
from distributed import Client

from phenomena.runs import compare
from phenomena.runs.contract.errors import BadInput, RunFailed
from phenomena.runs.execute import runner, sweep
from phenomena.runs.execute.limits import Limits
from phenomena.runs.store import published, runs
from phenomena.runs.store.chapters import Project


class Dask:
    """A scheduler and workers started as separate processes on loopback."""

    def __init__(self, folder: Path, workers: int) -> None:
        file = folder / "scheduler.json"
        dask = Path(sys.executable).with_name("dask")
        here = Path(__file__).parent
        path = f"{here}:{here.parent}:{os.environ.get('PYTHONPATH', '')}"  # work that this file defines, and conftest
        imports = {**os.environ, "PYTHONPATH": path.rstrip(":")}
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": folder, "env": imports}
        scheduler = [
            dask,
            "scheduler",
            "--host",
            "127.0.0.1",
            "--port",
            "0",
            "--no-dashboard",
            "--scheduler-file",
            file,
        ]
        self.scheduler = subprocess.Popen(scheduler, **quiet)
        worker = [dask, "worker", "--scheduler-file", file, "--nthreads", "1", "--no-dashboard", "--memory-limit", "0"]
        self.workers = [subprocess.Popen(worker, **quiet) for _ in range(workers)]
        end = time.monotonic() + 60
        while not file.exists() and time.monotonic() < end:
            time.sleep(0.05)
        self.address = json.loads(file.read_text())["address"]
        with Client(self.address) as client:
            client.wait_for_workers(workers, timeout=60)

    def stop(self) -> None:
        for process in [*self.workers, self.scheduler]:
            process.terminate()
        for process in [*self.workers, self.scheduler]:
            process.wait()


@pytest.fixture(scope="module")
def dask(tmp_path_factory):
    made = Dask(tmp_path_factory.mktemp("dask"), workers=2)
    yield made
    made.stop()


@pytest.fixture
def client(dask):
    with sweep.cluster(dask.address, 2) as client:
        yield client


def points(project, grid, fixed=None, edition="default"):
    return sweep.points(project, project.chapter("toy"), edition, grid, {"seeds": 2, **(fixed or {})})


# Grids


def test_grids_are_lists_and_ranges():
    assert sweep.read_grid(["kind=plain,fancy", "rate=0:1:0.25"]) == {
        "kind": ["plain", "fancy"],
        "rate": ["0.00", "0.25", "0.50", "0.75", "1.00"],
    }
    assert sweep.read_grid(["seed=3:6"])["seed"] == ["3", "4", "5", "6"]
    assert sweep.read_grid(["x=1:0:-0.5"])["x"] == ["1.0", "0.5", "0.0"]
    assert sweep.read_grid(["x=0:1:0.3"])["x"] == ["0.0", "0.3", "0.6", "0.9"]
    assert sweep.read_grid(["levels=[1,2],[3]"])["levels"] == ["[1,2]", "[3]"]
    assert sweep.read_grid(['words=["a,b"],c'])["words"] == ['["a,b"]', "c"]
    assert sweep.read_grid(["set=npz:a.npz,digits"])["set"] == ["npz:a.npz", "digits"]


@pytest.mark.parametrize(
    ("texts", "match"),
    [
        (["rate"], "NAME=V1,V2"),
        (["rate="], "NAME=V1,V2"),
        (["a=1", "a=2"], "-g a was given twice"),
        (["a=1,2,1"], "'1' stands twice"),
        (["a=3:1"], "is empty"),
        (["a=1:3:0"], "is empty"),
        (["a=1:x"], "START:STOP"),
        (["a=1:2:3:4"], "START:STOP"),
        (["a=1:inf"], "START:STOP"),
        (["a=0:1e999999:1e-999999"], "START:STOP"),
        (["a=0:1e18"], "at most a million"),
    ],
)
def test_grids_that_are_refused(texts, match):
    with pytest.raises(BadInput, match=match):
        sweep.read_grid(texts)


def test_points_are_every_combination_and_all_checked(project):
    found = points(project, {"kind": ["plain", "fancy"], "rate": ["0.1", 0.2, "1"]})
    assert [p.changed for p in found][:2] == [{"kind": "plain", "rate": 0.1}, {"kind": "plain", "rate": 0.2}]
    assert len({p.key for p in found}) == 6 and all(p.parameters["seeds"] == 2 for p in found)
    for grid, fixed, match in (
        ({}, {}, "the grid is empty"),
        ({"rate": ["0.1"]}, {"rate": "0.2"}, "stands in the grid and as a fixed parameter"),
        ({"rat": ["0.1"]}, {}, "did you mean 'rate'"),
        ({"rate": ["0.1", "7"]}, {}, "rate='7' is not accepted"),
        ({"rate": ["0.1", "0.10"]}, {}, "the same run"),
    ):
        with pytest.raises(BadInput, match=match):
            points(project, grid, fixed)


def test_sweep_files(tmp_path):
    path = tmp_path / "sweep.yaml"
    whole = {"edition": "smoke", "grid": {"levels": [[1], [2, 3]]}, "parameters": {"rate": 0.3}}
    path.write_text(yaml.safe_dump(whole))
    assert sweep.read_file(path) == tuple(whole.values())
    for content, match in (
        ({"grids": {}}, "did you mean 'grid'"),
        ({"grid": {"rate": 1}}, "a list of values"),
        ({"grid": [1]}, "must be a dict"),
        ([1], "fields among edition"),
        ({"grid": {True: [1]}}, "True is no parameter's name"),  # yaml's reading of a bare `on`
    ):
        path.write_text(yaml.safe_dump(content))
        with pytest.raises(BadInput, match=match):
            sweep.read_file(path)
    path.write_text("grid:\n  rate: [0.1]\n  rate: [0.2]\n")
    with pytest.raises(BadInput, match=r"unreadable \('rate' stands twice, line 3\)"):
        sweep.read_file(path)
    with pytest.raises(BadInput, match="unreadable"):
        sweep.read_file(tmp_path / "none.yaml")


# From end to end


def test_local_workers_and_separate_processes_give_one_table(project, dask, phenomena, tmp_path_factory):
    words = ["sweep", "toy", "-g", "rate=0:1:0.5", "-g", "kind=plain,fancy", "-p", "seeds=2"]
    dry = phenomena(project.root, *words, "--dry-run")
    assert dry.returncode == 0 and "6 points, 0 there already, 6 to run" in dry.stdout
    assert not (project.runs / "toy").exists()
    local = phenomena(project.root, *words, "--csv", "local.csv")
    assert local.returncode == 0, local.stderr
    assert "6 run, 0 failed, 0 left" in local.stderr
    other = Project(tmp_path_factory.mktemp("other"))
    other.lock.write_bytes(project.lock.read_bytes())
    write_chapter(other.root)
    remote = phenomena(other.root, *words, "--scheduler", dask.address, "--csv", "remote.csv")
    assert remote.returncode == 0, remote.stderr
    assert (project.root / "local.csv").read_text() == (other.root / "remote.csv").read_text()
    again = phenomena(project.root, *words, "--scheduler", "tcp://127.0.0.1:9")  # nobody there, nobody needed
    assert again.returncode == 0 and "6 there already, 0 to run" in again.stdout
    for folder in (project.runs / "toy").iterdir():
        record = runs.read(folder).record
        assert record and record.edition is None
        assert (folder / runs.NOTEBOOK).stat().st_size > 1000


def test_what_is_left_is_told_with_its_time(ran, phenomena):
    """No more workers than have something to do; on a cluster nobody knows yet how many there are."""
    a_run = r"a run about \d+ s, going by a run at hand"
    for words, told in (
        (["seed=0,5"], rf"2 points, 1 there already, 1 to run: about \d+ s on 1 worker, {a_run}"),
        (["seed=5,9"], rf"2 points, 0 there already, 2 to run: about \d+ s on 2 workers, {a_run}"),
        (["seed=5,9", "--scheduler", "tcp://x"], rf"2 points, .* 2 to run: about \d+ s in all, {a_run}"),
        (["seed=0"], r"1 points, 1 there already, 0 to run"),
    ):
        done = phenomena(ran.root, "sweep", "toy", "--dry-run", "-g", *words)
        assert re.fullmatch(told, done.stdout.strip()), done.stdout + done.stderr


def test_every_run_starts_from_a_clean_state(project, client):
    """A run that leaves traces everywhere it can; the next one on the same worker must see none of them."""
    body = (
        "import math, os, random, sys, torch\n"
        "traces = [hasattr(math, 'trace'), 'TRACE' in os.environ, torch.get_num_interop_threads() == 3,\n"
        "          os.getcwd() == '/', 'json.trace' in sys.modules, torch.get_default_dtype() == torch.float64]\n"
        "math.trace, os.environ['TRACE'], sys.modules['json.trace'] = 1, '1', math\n"
        "torch.set_num_interop_threads(3)\n"
        "torch.set_default_dtype(torch.float64)\n"
        "os.chdir('/')\n"
    )
    write_body(project, body + BODY.replace("values.append(rate + s / 100)", "values.append(float(sum(traces)))"))
    outcome = sweep.sweep(project, points(project, {"seed": [1, 2, 3, 4, 5, 6]}), client)
    assert len(outcome.done) == 6 and not outcome.failed
    for point in outcome.done:
        record = runs.read(project.runs / "toy" / point.key).record
        assert record and record.values["high"] == [0.0, 0.0]


def write_body(project, body):
    import nbformat

    path = project.root / "notebooks" / "toy.ipynb"
    notebook = nbformat.read(path, 4)
    cell = next(c for c in notebook.cells if c.source == BODY)
    cell.source = body
    nbformat.write(notebook, path)


def test_runs_are_those_that_a_single_run_makes(project, client, server):
    """The same key and values as `phenomena run`; a run that is there is not run again."""
    (point,) = points(project, {"rate": ["0.75"]})
    single, executed = runner.run(project, point.chapter, point.parameters, server=server)
    folder, single = single.folder, single.record
    assert executed and folder.name == point.key
    outcome = sweep.sweep(project, [point], client)
    assert outcome.there == [point] and not outcome.done
    folder.rename(project.root / "aside")
    outcome = sweep.sweep(project, [point], client)
    assert outcome.done == [point]
    swept = runs.read(folder).record
    assert single and swept and swept.values == single.values and swept.figures == single.figures
    assert swept.parameters == single.parameters and swept.commit == single.commit


def test_a_failed_point_lets_the_others_finish(project, dask, phenomena):
    write_body(project, BODY.replace('"broken"', '"broken" or title == "worse"'))
    words = ["-g", "title=fine,broken,worse,good", "-p", "seeds=2", "--scheduler", dask.address]
    done = phenomena(project.root, "sweep", "toy", *words)
    assert done.returncode == 1
    failed = [line for line in done.stderr.splitlines() if line.startswith("phenomena: ")]
    assert failed[0].startswith("phenomena: toy title=broken: toy: code cell 5 failed: RuntimeError: the toy broke")
    assert failed[1].startswith("phenomena: toy title=worse: toy: code cell")  # a line each
    assert failed[2:] == ["phenomena: 2 of 4 points failed"]
    report = next((project.runs / ".failed").glob("toy-*/report.md"))
    assert str(report.relative_to(project.root)) in done.stderr and "the toy broke" in report.read_text()
    assert len(list((project.runs / "toy").iterdir())) == 2


# Faults


def dies_once(task):
    """Kills its worker the first time; the marker stands beside the parameter's text."""
    marker = Path(task.parameters["title"])
    if not marker.exists():
        marker.write_text(str(os.getpid()))
        os.kill(os.getpid(), signal.SIGKILL)
    return sweep.on_worker(task)


def always_dies(task):
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize(
    ("number", "under_way"),
    [(signal.SIGINT, False), (signal.SIGINT, True), (signal.SIGTERM, True), (signal.SIGKILL, True)],
)
def test_an_interrupted_sweep_leaves_nothing(project, tmp_path_factory, number, under_way):
    """A terminal's Ctrl-C goes to all processes of the group; what SIGKILL leaves, the next sweep clears away."""
    temporary = tmp_path_factory.mktemp("t")
    process = command(project, *SLOW, "-p", "seed=7", own_group=True, TMPDIR=str(temporary))
    end = time.monotonic() + 60
    while not list(temporary.rglob("kernel.json" if under_way else "phenomena-*")):
        assert time.monotonic() < end and process.poll() is None
        time.sleep(0.02)
    (os.killpg if number == signal.SIGINT else os.kill)(process.pid, number)
    _, errors = process.communicate(timeout=60)
    if number != signal.SIGKILL:
        assert process.returncode == 130
        assert errors.splitlines()[-1:] == ["phenomena: interrupted; nothing half-made is kept"]
        assert len([line for line in errors.splitlines() if line and " run, " not in line]) == 1, errors
    else:
        next_one = command(project, "sweep", "toy", "-g", "rate=1", TMPDIR=str(temporary))
        assert next_one.communicate(timeout=90) and next_one.returncode == 0
    assert not list(temporary.iterdir())
    assert not list((project.runs / ".partial").glob("*"))


MASKS = """
import os
from pathlib import Path
from phenomena.runs.execute import sweep

if __name__ == "__main__":
    with sweep.cluster(None, 2) as client:
        for pid in client.run(os.getpid).values():
            print(*[line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if "SigBlk" in line])
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="what a process blocks is read from /proc")
def test_local_workers_do_not_see_a_terminals_interrupt(tmp_path):
    """In a process of its own: multiprocessing's tracker, once it runs, would hide that it lets the signal through."""
    script = tmp_path / "masks.py"
    script.write_text(MASKS)
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
    masks = [int(line.split()[1], 16) for line in done.stdout.splitlines()]
    assert len(masks) == 2 and all(mask >> (signal.SIGINT - 1) & 1 for mask in masks)


def test_a_killed_worker_costs_a_retry_not_a_result(project, client, tmp_path):
    wanted = points(project, {"rate": ["0.1", "0.2", "0.3"]}, {"title": str(tmp_path / "marker")})
    outcome = sweep.sweep(project, wanted, client, work=dies_once)
    assert (tmp_path / "marker").exists()
    assert sorted(p.changed["rate"] for p in outcome.done) == [0.1, 0.2, 0.3] and not outcome.failed
    assert len(list((project.runs / "toy").iterdir())) == 3


def test_a_point_that_kills_every_worker_is_given_up(project, client):
    outcome = sweep.sweep(project, points(project, {"rate": ["0.1"]}), client, work=always_dies)
    assert list(outcome.failed.values()) == ["its workers died again and again (out of memory, or killed)"]


def command(project, *words, own_group=False, **environment):
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "start_new_session": own_group}
    words = [sys.executable, "-m", "phenomena", *words]
    return subprocess.Popen(words, cwd=project.root, env={**os.environ, **environment}, **pipes)


def landed(project, count, within=90):
    end = time.monotonic() + within
    while time.monotonic() < end:
        if (project.runs / "toy").exists() and len(list((project.runs / "toy").iterdir())) >= count:
            return
        time.sleep(0.05)
    raise AssertionError(f"no {count} runs within {within} s")


SLOW = ["sweep", "toy", "-g", "rate=0:1:0.2", "-p", "kind=fancy", "-p", "seeds=2"]


def test_a_killed_client_goes_on_where_it_was(project, dask, phenomena):
    first = command(project, *SLOW, "--scheduler", dask.address)
    landed(project, 1)
    first.kill()
    first.communicate()
    there = len(list((project.runs / "toy").iterdir()))
    assert 1 <= there < 6
    second = phenomena(project.root, *SLOW, "--scheduler", dask.address)
    assert second.returncode == 0, second.stderr
    assert f"6 points, {there} there already, {6 - there} to run" in second.stdout
    assert len(list((project.runs / "toy").iterdir())) == 6
    assert not list((project.runs / ".partial").iterdir())


def test_two_sweeps_at_once_run_no_point_twice(project, dask):
    both = [command(project, *SLOW, "--scheduler", dask.address) for _ in range(2)]
    outputs = [process.communicate(timeout=200) for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    ended = [int(err.splitlines()[-1].split(" run")[0]) if err else 0 for _, err in outputs]
    assert sum(ended) == 6, "each point was run by one of the two"
    tables = [[line for line in out.splitlines() if line.startswith("  ")] for out, _ in outputs]
    assert tables[0] == tables[1] and len(tables[0]) == 7


def test_two_sweeps_of_one_machine_do_not_quarrel_about_a_port(project):
    with ExitStack() as stack:
        with suppress(OSError):  # another cluster has it already
            stack.enter_context(socket.create_server(("127.0.0.1", 8787)))
        process = command(project, "sweep", "toy", "-g", "rate=0:0.1:0.1", "--workers", "1")
        _, errors = process.communicate(timeout=100)
        assert process.returncode == 0 and "8787" not in errors


def test_the_scheduler_gone_is_said_and_nothing_is_lost(project, tmp_path_factory):
    own = Dask(tmp_path_factory.mktemp("own"), workers=1)
    try:
        process = command(project, *SLOW, "--scheduler", own.address)
        landed(project, 1)
        own.scheduler.kill()
        _, err = process.communicate(timeout=60)
    finally:
        own.stop()
    assert process.returncode == 1 and "the scheduler went away; what was done is kept" in err
    assert len(err.splitlines()) <= 7 and "Traceback" not in err, err
    assert all(runs.read(folder) for folder in (project.runs / "toy").iterdir())


@pytest.mark.parametrize("call", ["nthreads", "submit"])
def test_the_scheduler_may_go_while_points_are_sent(project, client, monkeypatch, call):
    def lost(*_, **__):
        raise ConnectionResetError(104, "Connection reset by peer")

    wanted = points(project, {"rate": ["0.1"]})
    monkeypatch.setattr(client, call, lost)
    with pytest.raises(RunFailed, match=r"the scheduler went away; .* \(ConnectionResetError\)$"):
        sweep.sweep(project, wanted, client)
    monkeypatch.undo()
    assert len(sweep.sweep(project, wanted, client).done) == 1  # no lock was left behind


def test_a_full_disk_fails_one_run_whole(project, client, monkeypatch):
    put, calls = runner.put, []

    def full(partial, folder):
        calls.append(folder)
        if len(calls) == 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        put(partial, folder)

    monkeypatch.setattr(runner, "put", full)
    outcome = sweep.sweep(project, points(project, {"rate": ["0.1", "0.2", "0.3"]}), client)
    assert list(outcome.failed.values()) == [f"it could not be written: {project.runs}: No space left on device"]
    assert len(outcome.done) == 2 and not calls[0].exists()
    assert not list((project.runs / ".partial").iterdir())
    monkeypatch.undo()
    assert len(sweep.sweep(project, points(project, {"rate": ["0.1", "0.2", "0.3"]}), client).done) == 1


@pytest.mark.parametrize(
    ("body", "limits", "match"),
    [
        ("time.sleep(600)", Limits(seconds=1), "took longer than 1 s, its limit (--limit TIME|none)"),
        ("hoard = bytearray(900_000_000)\ntime.sleep(600)", Limits(memory_mb=700), "took more than 700 MB"),
    ],
)
def test_a_run_beyond_its_limits_is_ended(project, client, monkeypatch, body, limits, match):
    write_body(project, body)
    monkeypatch.setattr(sweep, "limits", lambda *_: limits)
    outcome = sweep.sweep(project, points(project, {"rate": ["0.1"]}), client)
    (why,) = outcome.failed.values()
    assert match in why and "report: runs/.failed/toy-" in why


def test_limits_follow_the_edition_s_cost_the_seeds_and_what_runs_took(project):
    (point,) = points(project, {"rate": ["0.1"]}, {"seeds": 3})
    assert sweep.limits(point) == Limits(seconds=20 * 3 + 60, memory_mb=5 * 200)
    (more,) = points(project, {"rate": ["0.1"]}, {"seeds": 30})
    assert sweep.limits(more).seconds == 20 * 30 + 60
    assert sweep.limits(more, 7.0).seconds == 20 * 7 * 30 + 60


def test_limits_that_are_given_take_the_place_of_the_usual_ones(project, client):
    write_body(project, "time.sleep(600)")
    outcome = sweep.sweep(project, points(project, {"rate": ["0.1"]}), client, given={"seconds": 1.0})
    assert "took longer than 1 s" in next(iter(outcome.failed.values()))
    chapter = project.chapter("toy")
    asked = [sweep.memory(chapter, "default", given) for given in ({}, {"memory_mb": 300}, {"memory_mb": math.inf})]
    assert asked == [1000, 300, 1000]


def test_a_slow_machine_raises_the_limit_of_what_comes_later(project, client, monkeypatch):
    sent = []
    task = sweep._Sweep._task

    def seen(self, point):
        sent.append(task(self, point))
        return sent[-1]

    monkeypatch.setattr(sweep._Sweep, "_task", seen)
    write_body(project, f"time.sleep(4)\n{BODY}")
    sweep.sweep(project, points(project, {"seed": ["1", "2", "3", "4", "5"]}, edition="smoke"), client)
    assert sent[0].limits.seconds == 20 * 2 + 60 and sent[-1].limits.seconds > 20 * 4 + 60


def test_a_worker_with_another_library_is_told(project, client, monkeypatch):
    wanted = [replace(point, key="0" * 16) for point in points(project, {"rate": ["0.1"]})]
    outcome = sweep.sweep(project, wanted, client)
    assert "a worker has another version of the library" in next(iter(outcome.failed.values()))


def lacks(task):
    raise ModuleNotFoundError("No module named 'phenomena'")


class Unreadable:
    """Work that names a module which is nowhere."""

    def __call__(self, task):
        pass

    def __reduce__(self):
        return importlib.import_module, ("phenomena.of_another_version",)


@pytest.mark.parametrize("work", [Unreadable(), lacks])
def test_a_scheduler_or_worker_without_the_library_is_told(project, client, work):
    outcome = sweep.sweep(project, points(project, {"rate": ["0.1"]}), client, work=work)
    assert list(outcome.failed.values()) == [sweep.UNREADABLE]


def test_a_worker_with_another_package_is_told(project, client, monkeypatch):
    here = {**sweep.versions(), "numpy": "1.0"}
    monkeypatch.setattr(sweep, "versions", lambda: here)
    outcome = sweep.sweep(project, points(project, {"rate": ["0.1"]}), client)
    why = rf"toy: a worker has numpy {numpy.__version__}, not 1.0: install the same lock on both"
    assert list(outcome.failed.values()) == [why]


# Bad input and clusters


def test_bad_input_of_the_command(project, phenomena):
    for words, status, match in (
        (["-g", "rate=0:1:0.00001"], 2, "100,001 points, more than 10,000: say --yes"),
        (["-g", "rate=0.1", "-p", "rate=0.2"], 2, "stands in the grid and as a fixed parameter"),
        ([], 2, "the grid is empty"),
        (["-g", "rate=0.1", "--edition", "smke"], 2, "did you mean 'smoke'"),
        (["-g", "rate=0.1", "--workers", "0"], 2, "--workers '0': must be a whole number, 1 or more"),
        (["-g", "rate=0.1", "--scheduler", "nonsense://x"], 2, "no Dask scheduler answers at 'nonsense://x'"),
    ):
        done = phenomena(project.root, "sweep", "toy", *words)
        assert done.returncode == status and match in done.stderr, done.stderr
        assert len(done.stderr.splitlines()) == 1


def test_an_address_nobody_answers_is_told_in_time(project, phenomena):
    began = time.monotonic()
    done = phenomena(project.root, "sweep", "toy", "-g", "rate=0.1", "--scheduler", "tcp://127.0.0.1:9")
    assert done.returncode == 2 and "no Dask scheduler answers at 'tcp://127.0.0.1:9' within" in done.stderr
    assert "Traceback" not in done.stderr and time.monotonic() - began < 25  # imports and start included


def test_slurm_jobs_ask_for_what_a_run_needs():
    from dask import config

    with config.set({"jobqueue.slurm.walltime": "02:00:00", "jobqueue.slurm.queue": "short"}):
        made = sweep.slurm(0, memory_mb=4000)
        try:
            script = made.job_script()
        finally:
            made.close()
    for line in ("-n 1", "--cpus-per-task=1", "--mem=4G", "-t 02:00:00", "-p short"):
        assert f"#SBATCH {line}\n" in script
    assert "--nthreads 1" in script


def test_a_missing_scheduler_raises(project, monkeypatch):
    monkeypatch.setattr(sweep, "ANSWER_WITHIN", 1)
    with pytest.raises(BadInput, match="no Dask scheduler answers"), sweep.cluster("tcp://127.0.0.1:9", 1):
        pass


def test_a_closed_client_is_a_scheduler_gone(project, dask):
    with Client(dask.address) as client:
        (point,) = points(project, {"rate": ["0.1"]})
        state = sweep._Sweep(project, client, sweep.on_worker, deque(), {})
        state.flying = {client.submit(time.sleep, 5): (point, runner.lock(project, "toy", "x"))}
        client.close()
        with pytest.raises(RunFailed, match="the scheduler went away"):
            state.finished()


# Comparison


def test_runs_side_by_side(project, client, phenomena):
    sweep.sweep(project, points(project, {"rate": ["0.1", "0.2"], "kind": ["plain", "fancy"]}), client)
    text = phenomena(project.root, "compare", "toy").stdout.splitlines()
    assert text[0].split() == ["run", "kind", "rate", "apart", "small"] and len(text) == 5
    assert phenomena(project.root, "compare", "toy", "-p", "rate=0.2").stdout.count("\n") == 3
    named = phenomena(project.root, "compare", "toy", "-p", "rate=0.2", "--value", "high")
    assert "0.205 [0.141, 0.269] 2" in named.stdout
    for words, match in (
        (["-p", "rate=0.3"], "none of the 4 runs that match"),
        (["--value", "hih"], "did you mean 'high'"),
        (["--against", "published"], "no published record"),
    ):
        done = phenomena(project.root, "compare", "toy", *words)
        assert done.returncode == 2 and match in done.stderr


def test_beside_the_published_run(project, ran, run_toy):
    """The published record stands first, whatever its key; the page loads nothing from elsewhere."""
    shutil.copytree(ran.root / "runs", project.runs)  # a default and a smoke run
    assert published.publish(project) == [Path("book/published/toy/default.json")]  # and no draft
    chapter = project.chapter("toy")
    kept = published.read(project, chapter)
    path = published.path(project, chapter, "default")
    path.write_text(kept.model_copy(update={"key": "old"}).model_dump_json())
    mine = run_toy(project, rate=0.9).record
    table = compare.table(chapter, [mine], published.read(project, chapter))
    assert [row[0] for row in table.rows()] == ["run", "published", mine.key] and table.changed == ["rate"]
    page = table.html()
    assert "published" in page and mine.key in page and "<table" in page
    assert 'src="http' not in page and 'href="http' not in page
    assert set(table.csv().splitlines()[0].split(",")) == {
        "run", "rate", "quantity", "mean", "low", "high", "n", "verdict", "published"
    }  # fmt: skip


def test_how_values_agree_with_the_published_is_said_per_quantity(project, ran, run_toy):
    chapter = project.chapter("toy")
    kept = runs.current(ran, ran.chapter("toy")).record
    same, fewer, other = (run_toy(project, **p).record for p in ({}, {"seeds": 2}, {"rate": 0.9, "seed": 1}))
    moved = same.model_copy(update={"values": same.values | {"high": [0.501, 0.511, 0.519]}, "key": "moved"})
    table = compare.table(chapter, [same, fewer, other, moved], kept)
    assert table.agreement() == [
        f"{same.key} against published, 4 quantities: 4 equal to the bit, 0 inside, 0 by chance, 0 in disagreement",
        f"{fewer.key} against published, 4 quantities: 4 equal to the bit, 0 inside, 0 by chance, 0 in disagreement",
        f"{other.key} against published, 4 quantities: 1 equal to the bit, 0 inside, 0 by chance, 3 in disagreement: "
        "small, high, low",  # apart is high less low, which rate does not change
        "moved against published, 4 quantities: 1 equal to the bit, 3 inside, 0 by chance, 0 in disagreement",
    ]
    assert [row[-1].rpartition(" ")[2] for row in table.rows()[2:]] == ["same", "same", "differs", "inside"]
    assert compare.table(chapter, [same, other]).agreement() == []


def test_the_page_of_a_comparison_opens_where_runs_differ(project, run_toy):
    """With the claim's threshold and verdicts; shows what is named, and which points have no run."""
    chapter = project.chapter("toy")
    table = compare.table(chapter, [run_toy(project, rate=rate).record for rate in (0.05, 0.9)])
    assert table.claims == ["apart", "small"] and table.most_varied(table.claims) == "small"
    chart = table._chart(["apart", "small"]).to_dict()
    assert [p["value"] for p in chart["params"] if p["name"] == "quantity_shown"] == ["small"]
    rows = [row for data in chart["datasets"].values() for row in data]
    assert {(r["quantity"], r["threshold"]) for r in rows if "threshold" in r} == {("apart", 0.5), ("small", 0.1)}
    verdicts = [r["verdict"] for r in rows if r["quantity"] == "small" and "verdict" in r]
    assert verdicts == ["reproduced", "contradicted"]
    page = table.html(["high"], {"toy rate=2": "it broke <here>"})
    assert "<li>toy rate=2: it broke &lt;here&gt;</li>" in page
    assert "<th>high</th>" in page and "<th>apart</th>" not in page
    with pytest.raises(BadInput, match="no value 'hihg'; did you mean 'high'"):
        table.html(["hihg"])
