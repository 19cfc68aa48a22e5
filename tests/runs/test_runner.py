"""Runs: keyed, whole or absent, executed once, reported when they fail."""

import copy
import errno
import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from contextlib import suppress

import nbformat
import papermill
import psutil
import pytest
import torch
from conftest import BODY, CHAPTER, PARAMETERS, values_of, write_chapter

from phenomena.runs.contract.errors import BadInput, RunFailed
from phenomena.runs.execute import kernels, limits, runner
from phenomena.runs.execute.verify import verify
from phenomena.runs.store import keys, runs
from phenomena.runs.store.chapters import Project


@pytest.fixture
def run(run_toy):
    return lambda project, **overrides: run_toy(project, **overrides).folder


def test_a_run_holds_its_record(ran):
    run = runs.current(ran, ran.chapter("toy"))
    folder, record = run.folder, run.record
    assert record.parameters == {
        "kind": "plain", "rate": 0.5, "levels": [1, 2], "title": "toy", "limit": None, "careful": False,
        "seed": 0, "seeds": 3,
    }  # fmt: skip
    assert record.edition == "default"
    assert record.seeds == [0, 1, 2]
    assert record.values == {"high": pytest.approx([0.5, 0.51, 0.52]), "low": pytest.approx([-0.5, -0.4901, -0.4804])}
    assert [f.name for f in record.figures] == ["line"]
    assert record.figures[0].alt == "A line that rises."
    assert record.versions["python"] == sys.version.split()[0]
    assert 10 < record.peak_memory_mb < 2000
    assert set(record.seconds) == {"total", "overhead", "start", "Parameters", "Run", "Figure"}
    assert record.seconds["total"] == pytest.approx(sum(v for k, v in record.seconds.items() if k != "total"), abs=0.1)
    assert set(record.modules) == {
        "__init__.py", "own_data.py", "runs/__init__.py", "runs/contract/__init__.py", "runs/contract/arithmetic.py",
        "runs/contract/errors.py", "runs/contract/notebook.py", "runs/contract/parameters.py", "statistics.py",
    }  # fmt: skip
    whole = (folder / "record.json").read_text() + (folder / "notebook.ipynb").read_text()
    assert str(ran.root) not in whole  # no absolute path
    assert json.loads((folder / "record.json").read_text())["key"] == folder.name


def test_the_same_run_is_not_executed_twice_and_force_replaces_it(project):
    chapter = project.chapter("toy")
    first, executed = runner.run(project, chapter, chapter.resolve())
    assert executed
    folder = first.folder
    assert runner.run(project, chapter, chapter.resolve()) == (first, False)
    assert runs.read(folder) == first
    again, executed = runner.run(project, chapter, chapter.resolve(), force=True)
    assert executed and again.folder == folder
    assert again.record.started > first.record.started
    assert again.record.values == first.record.values
    assert [p.name for p in folder.parent.iterdir()] == [folder.name]
    assert not list((project.runs / ".partial").iterdir())


def test_what_changes_a_key_and_what_does_not(project):
    chapter = project.chapter("toy")
    key = keys.run_key(project, chapter, chapter.resolve())
    assert keys.run_key(project, chapter, chapter.resolve(overrides={"rate": "0.5"})) == key
    assert keys.run_key(project, chapter, chapter.resolve(overrides={"rate": 0.4})) != key
    notebook = nbformat.read(chapter.notebook, 4)
    notebook.cells[0].source += " With more prose."
    nbformat.write(notebook, chapter.notebook)
    assert keys.run_key(project, project.chapter("toy"), chapter.resolve()) == key
    notebook.cells[6].source += "\n# a comment"
    nbformat.write(notebook, chapter.notebook)
    assert keys.run_key(project, project.chapter("toy"), chapter.resolve()) == key
    notebook.cells[6].source += "\nmore = 1"
    nbformat.write(notebook, chapter.notebook)
    assert keys.run_key(project, project.chapter("toy"), chapter.resolve()) != key
    shutil.copy(project.root / "requirements.lock", project.root / "old.lock")
    project.lock.write_text("toy==2\n")
    assert keys.run_key(project, chapter, chapter.resolve()) != key


def test_modules_are_followed_through_imports_and_no_further():
    found = keys.modules("from phenomena.chapters.benign_memorization import study")
    assert "science/networks.py" in found  # through the chapter's module
    assert not any(name.startswith("runs/") for name in found)
    assert "science/plots.py" not in found  # a change elsewhere re-runs nothing
    assert keys.modules("import torch") == {}
    assert keys.modules("import phenomena.science.networks") == keys.modules("from phenomena.science import networks")


def test_a_failing_cell_leaves_a_report_and_no_run(project, run):
    with pytest.raises(RunFailed, match=r"code cell \d failed: RuntimeError: the toy broke; report: runs/.failed/toy-"):
        run(project, title="broken")
    (report,) = (project.runs / ".failed").glob("toy-*/report.md")
    text = report.read_text()
    assert "raise RuntimeError" in text
    assert re.search(r"^RuntimeError: the toy broke\n\nThat was after \d+ s(, with \d+ MB)?\.$", text, re.M)
    assert "Traceback" in text
    assert "- title = 'broken'" in text
    assert "\x1b" not in text
    assert not (project.runs / "toy").exists()
    assert not list((project.runs / ".partial").iterdir())


def test_the_report_of_a_failure_goes_when_the_run_succeeds(project, run):
    edit_cell(project, 6, BODY.replace('title == "broken"', "not __import__('os').path.exists(title)"))
    marker = project.root / "marker"
    with pytest.raises(RunFailed, match="the toy broke"):
        run(project, title=str(marker))
    assert list((project.runs / ".failed").iterdir())
    marker.touch()
    run(project, title=str(marker))
    assert not (project.runs / ".failed").exists()


def test_a_full_disk_is_one_line_that_names_the_path(project, run, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(papermill, "execute_notebook", full)
    with pytest.raises(RunFailed, match=rf"^toy: {project.runs}: No space left on device$"):
        run(project)
    assert not list((project.runs / ".partial").iterdir())


def test_a_run_has_the_limits_that_it_is_given(project, phenomena):
    """Of memory a single run has one anyway: most of what is free."""
    edit_cell(project, 6, "time.sleep(600)")
    done = phenomena(project.root, "run", "toy", "--limit", "1s")
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert re.match(
        r"phenomena: toy: code cell 4 failed: it took longer than 1 s, its limit \(--limit TIME\|none\), "
        r"after \d+ s, with \d+ MB; report: runs/.failed/toy-",
        done.stderr,
    )
    done = phenomena(project.root, "run", "toy", "--memory", "10MB")
    assert done.returncode == 1 and "took more than 10 MB, its limit (--memory SIZE|none)" in done.stderr
    assert 0 < limits.usual().memory_mb * 1e6 < psutil.virtual_memory().total


def test_what_a_killed_process_left_in_the_folder_for_temporary_files_goes(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with runner.scratch() as mine:
        name = mine.name.replace(f"-{os.getpid()}-", "-{}-")
        (tmp_path / f"{mine.name}-worker").mkdir()
        dead, strange = tmp_path / name.format(2**22 + 1), tmp_path / name.format("x")
        dead.mkdir()
        strange.mkdir()
        with runner.scratch():
            assert mine.exists() and strange.exists() and not dead.exists()
        assert stat.S_IMODE(mine.stat().st_mode) == 0o700
    assert [path.name for path in tmp_path.iterdir()] == [strange.name]


def test_a_folder_counts_only_when_whole(project, run):
    folder = run(project)
    record = (folder / "record.json").read_text()
    (folder / "record.json").write_text(record[: len(record) // 2])
    assert runs.read(folder) is None
    assert runs.read(run(project)) is not None
    shutil.move(folder, folder.with_name("0" * 16))
    assert runs.read(folder.with_name("0" * 16)) is None
    assert runs.read(folder) is None


def processes(pid):
    """Of a command: the processes that kernels are forked from, and the kernels."""
    with suppress(psutil.Error):  # a short-lived child may have ended since it was listed
        children = psutil.Process(pid).children()
        servers = [child for child in children if "phenomena.runs.execute.kernels" in child.cmdline()]
        return servers, [kernel for server in servers for kernel in server.children()]
    return [], []


def started(words, root, kernels):
    """A command, and its processes as soon as there are that many kernels; with none, as soon as there is a server."""
    process = subprocess.Popen(
        [sys.executable, "-m", "phenomena", *words], cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 60
    while True:
        servers, found = processes(process.pid)
        if servers and len(found) >= kernels:
            return process, [*servers, *found]
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 130), (signal.SIGKILL, -9)])
def test_an_interrupted_run_is_never_taken_for_whole(project, run, number, status):
    process, found = started(["run", "toy", "-p", "kind=fancy", "-p", "seeds=60"], project.root, kernels=1)
    time.sleep(1)
    process.send_signal(number)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == status
    if status == 130:
        assert errors.strip().splitlines()[-1] == "phenomena: interrupted; nothing half-made is kept"
        assert not list((project.runs / ".partial").iterdir())
    assert not (project.runs / "toy").exists()
    _, alive = psutil.wait_procs(found, timeout=20)
    assert not alive
    assert runs.read(run(project)) is not None  # the next run is not in the way of what was left
    assert not list((project.runs / ".partial").iterdir())


@pytest.mark.parametrize("kernels", [0, 1])
def test_an_interrupt_while_the_kernel_starts_leaves_no_process(project, kernels):
    process, found = started(["run", "toy"], project.root, kernels)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130, errors
    assert errors.strip() == "phenomena: interrupted; nothing half-made is kept"
    assert not any(p.is_running() for p in found)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("kernels", [0, 2])
def test_an_interrupted_book_ends_its_runs_and_starts_no_other(tmp_path, number, kernels):
    (tmp_path / "requirements.lock").write_text("toy==1\n")
    slow = copy.deepcopy(CHAPTER)
    slow["editions"]["smoke"]["parameters"] = {"kind": "fancy", "seeds": 60}
    for name in ("one", "three", "two"):
        write_chapter(tmp_path, name, chapter=slow)
    process, found = started(["book", "--edition", "smoke"], tmp_path, kernels)
    receiver = max(thread.id for thread in psutil.Process(process.pid).threads())  # any thread may get a signal
    os.kill(receiver, number)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130, errors
    assert errors.strip() == "phenomena: interrupted; nothing half-made is kept"
    assert not any(p.is_running() for p in found)
    assert {p.name for p in Project(tmp_path).runs.glob("*")} <= {".partial", ".locks"}
    assert not list((tmp_path / "runs" / ".partial").glob("*"))


def test_kernels_do_not_outlive_what_they_are_forked_from(project):
    process, found = started(["run", "toy", "-p", "kind=fancy", "-p", "seeds=60"], project.root, kernels=1)
    time.sleep(1)
    found[0].kill()
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 1
    assert re.search(r"^phenomena: toy: (code cell \d|the kernel's start) failed: the kernel died", errors, re.M)
    assert not psutil.wait_procs(found, timeout=20)[1]


def test_a_server_ends_also_when_another_of_its_threads_gets_the_signal(tmp_path, monkeypatch):
    (tmp_path / "threaded.py").write_text(
        "import signal, threading\n"
        "threading.Thread(target=threading.Event().wait, daemon=True).start()\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])\n"  # here, in the main thread, alone
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    server = kernels.Server(["threaded"])
    assert server.ask({"poll": 0}) == -1  # it has imported and serves
    server.close()
    assert not server.alive()


def test_a_run_whose_sources_change_meanwhile_is_not_kept(project, run, monkeypatch):
    execute = papermill.execute_notebook

    def change_and_execute(*words, **options):
        project.lock.write_text("toy==2\n")
        return execute(*words, **options)

    monkeypatch.setattr(papermill, "execute_notebook", change_and_execute)
    with pytest.raises(RunFailed, match="toy: notebook, library or lock changed while it ran"):
        run(project)
    assert not (project.runs / "toy").exists()


def edit_cell(project, number, source, name="toy"):
    path = project.chapter(name).notebook
    notebook = nbformat.read(path, 4)
    notebook.cells[number].source = source
    nbformat.write(notebook, path)


def test_a_notebook_that_checks_no_parameters_makes_no_run(project, run):
    edit_cell(project, 4, "pass")
    with pytest.raises(RunFailed, match="toy: no `check_parameters"):
        run(project)
    assert not (project.runs / "toy").exists()


@pytest.mark.parametrize("source", ["%matplotlib inline", "!ls", "%%time\nx = 1", "record?", "x = ="])
def test_a_cell_that_is_not_plain_python_is_refused_before_a_kernel_starts(project, run, source):
    edit_cell(project, 6, source)
    with pytest.raises(BadInput, match=r"toy.ipynb, code cell 4, line 1: must be plain Python"):
        run(project)
    assert not project.runs.exists()


def test_a_kernel_that_dies_is_one_line_and_a_report(project, phenomena):
    edit_cell(project, 6, "import os, signal\ntime.sleep(2)\nos.kill(os.getpid(), signal.SIGKILL)")
    done = phenomena(project.root, "run", "toy")
    assert done.returncode == 1
    died = (
        r"phenomena: toy: code cell 4 failed: the kernel died \(out of memory, or killed\), after \d+ s, with \d+ MB; "
    )
    assert re.match(died, done.stderr)
    assert done.stderr.count("\n") == 1
    (report,) = (project.runs / ".failed").glob("toy-*/report.md")
    text = report.read_text()
    assert text.startswith("# toy failed in code cell 4\n")
    assert "os.kill(os.getpid(), signal.SIGKILL)" in text  # the cell in which it died


def test_two_at_once_execute_once(project):
    words = [sys.executable, "-m", "phenomena", "run", "toy"]
    both = [subprocess.Popen(words, cwd=project.root, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    outputs = [p.communicate(timeout=60)[0] for p in both]
    assert [p.returncode for p in both] == [0, 0]
    assert outputs[0].split(":")[0] == outputs[1].split(":")[0]
    assert sum("was there already" in out for out in outputs) == 1


def test_many_runs_finish_although_one_fails_and_one_is_killed(project):
    write_chapter(project.root, "broken", PARAMETERS.replace('"toy"', '"broken"'))
    write_chapter(project.root, "killed")
    edit_cell(project, 6, "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)", "killed")
    failed = runner.run_many(project, [(name, "default") for name in ("broken", "killed", "toy")] + [("toy", "smoke")])
    assert len(failed) == 2
    assert any(line.startswith("broken: code cell") for line in failed)
    assert any(line.startswith("killed: code cell 4 failed: the kernel died") for line in failed)
    assert len(list((project.runs / "toy").iterdir())) == 2


def test_a_run_does_not_list_what_another_uses(project):
    """All kernels start from one process, in which an extra that one chapter imports must not be imported."""
    write_chapter(project.root, "extra")
    edit_cell(project, 6, f"import safetensors\n{BODY}", "extra")
    assert runner.run_many(project, [("extra", "smoke"), ("toy", "smoke")]) == []
    listed = {c.name: runs.current(project, c, "smoke").record.versions for c in project.chapters()}
    assert {name: "safetensors" in versions for name, versions in listed.items()} == {"extra": True, "toy": False}


def test_the_costliest_run_starts_first(project, monkeypatch):
    begun = []
    for name, seconds in (("cheap", 3), ("dear", 30), ("dearest", 300)):
        chapter = copy.deepcopy(CHAPTER)
        chapter["editions"]["smoke"]["cost"]["seconds"] = seconds
        write_chapter(project.root, name, chapter=chapter)
    monkeypatch.setattr(runner, "run", lambda project, chapter, *_, **__: begun.append(chapter.name))
    assert runner.run_many(project, [(name, "smoke") for name in ("dear", "cheap", "dearest")], workers=1) == []
    assert begun == ["dearest", "dear", "cheap"]


def test_whatever_a_run_raises_the_others_finish(project, monkeypatch):
    def full(project, chapter, *_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(runner, "run", full)
    failed = runner.run_many(project, [("toy", "default"), ("toy", "smoke")])
    assert sorted(line.partition(":")[0] for line in failed) == ["toy, default", "toy, smoke"]
    assert all("No space left on device" in line for line in failed)


def test_papermill_alone_leaves_the_same_record(ran, tmp_path):
    out = tmp_path / "out.ipynb"
    papermill.execute_notebook(ran.chapter("toy").notebook, out, {"seeds": 2, "rate": "1e-1"}, progress_bar=False)
    collected = runs.collect(nbformat.read(out, 4))
    run = runs.current(ran, ran.chapter("toy"), "smoke")
    assert collected["values"] == run.record.values == values_of(run.folder)
    assert collected["parameters"] == run.record.parameters


def test_papermill_hands_on_every_kind_of_value_as_the_command_line_does(project, tmp_path):
    out, title = tmp_path / "out.ipynb", "-a=b \"'\\n\n\té × −\u2028 {x} %d [1"
    given = {
        "title": title,
        "levels": "3, 4",
        "limit": None,
        "careful": "yes",
        "seed": 1e5,
        "seeds": "2.0",
        "rate": "1_0e-2",
    }
    papermill.execute_notebook(project.chapter("toy").notebook, out, given, progress_bar=False)
    parameters = runs.collect(nbformat.read(out, 4))["parameters"]
    typed = given | {"limit": "none", "seed": "1e5"}
    assert parameters == project.chapter("toy").resolve(overrides=typed)
    assert parameters == {
        "kind": "plain", "rate": 0.1, "levels": [3, 4], "title": title, "limit": None, "careful": True,
        "seed": 100_000, "seeds": 2,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("given", "refusal"),
    [
        ({"rat": 0.2, "seeds": 2}, "parameters: unknown parameter 'rat'; did you mean 'rate'? accepted: kind, "),
        ({"rate": 7}, "parameters: rate=7 is not accepted: float, 0 to 1"),
    ],
)
def test_papermill_alone_stops_at_what_is_not_accepted_with_one_line(project, tmp_path, given, refusal):
    out = tmp_path / "out.ipynb"
    with pytest.raises(papermill.PapermillExecutionError, match=re.escape(refusal)):
        papermill.execute_notebook(project.chapter("toy").notebook, out, given, progress_bar=False)
    (raised,) = [o for cell in nbformat.read(out, 4).cells for o in cell.get("outputs", []) if o.output_type == "error"]
    (line,) = raised.traceback
    assert line.startswith(f"BadInput: {refusal}")


def test_progress_is_told_to_the_runner(tmp_path, monkeypatch):
    from phenomena.runs.contract import notebook

    path = tmp_path / "progress.json"
    monkeypatch.setenv(notebook.PROGRESS, str(path))
    seen = [json.loads(path.read_text()) for _ in notebook.track("abc", "letters")]
    assert [(s["label"], s["done"], s["total"]) for s in seen] == [("letters", i, 3) for i in range(3)]
    monkeypatch.delenv(notebook.PROGRESS)
    assert list(notebook.track("abc", "letters")) == ["a", "b", "c"]


def test_infinite_values_are_refused():
    from phenomena.runs.contract.notebook import record

    with pytest.raises(BadInput, match=r"record: x is .*finite numbers"):
        record(x=[1.0, float("inf")])
    with pytest.raises(BadInput, match="record: x is"):
        record(x=[])


def test_a_record_says_how_many_seeds_gave_a_value(monkeypatch):
    from phenomena.runs.contract import notebook

    shown = []
    monkeypatch.setattr(notebook, "display", lambda bundle, **_: shown.append(bundle))
    nan = float("nan")
    notebook.record(all=[1.0, 3.0], one=[2.0, nan], none=[nan, nan])
    assert shown[0]["text/plain"].splitlines() == [
        "all: 2 [-10.7, 14.7], n = 2",  # Student's quantile for one degree of freedom is 12.7
        "one: 2, n = 1",
        "none: not measured, n = 0",
    ]
    assert shown[0][notebook.MIME]["values"]["one"] == [2.0, None]


def test_a_record_tells_threads_and_packages_as_they_are_in_the_end(monkeypatch):
    """A notebook sets its threads, and imports an extra, after its parameters are checked."""
    from phenomena.runs.contract import notebook

    shown = []
    monkeypatch.setattr(notebook, "display", lambda bundle, **_: shown.append(bundle[notebook.MIME]))
    monkeypatch.setattr(torch, "get_num_threads", lambda: 7)
    monkeypatch.delitem(sys.modules, "safetensors", raising=False)
    notebook.record(x=[1.0])
    monkeypatch.setitem(sys.modules, "safetensors", sys)
    notebook.record(x=[1.0])
    assert [facts["threads"] for facts in shown] == [7, 7]
    assert ["safetensors" in facts["versions"] for facts in shown] == [False, True]


def test_runs_of_who_works_outside_a_checkout_leave_it_as_it_is(project, tmp_path_factory, run_toy):
    outside = Project(project.root, outside=tmp_path_factory.mktemp("work"))
    before = nothing_but_sources(project)
    run = run_toy(outside)
    assert run.folder == outside.home / "runs" / "toy" / run.record.key
    again = verify(outside, [run.record], force=True)
    assert [comparison.agrees for comparison in again.compared] == [True]
    with pytest.raises(RunFailed, match=r"report: runs/.failed/toy-[0-9a-f]+/report.md"):
        run_toy(outside, title="broken")
    assert nothing_but_sources(project) == before


def nothing_but_sources(project):
    return {path.relative_to(project.root).as_posix() for path in project.root.rglob("*")}
