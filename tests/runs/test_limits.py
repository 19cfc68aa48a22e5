"""Limits of runs: how they are written, and what counts against them."""

import math
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from phenomena.runs.contract.errors import BadInput
from phenomena.runs.execute.limits import Limits, Watch, read_limits, read_time


def test_times_and_sizes():
    assert [read_time("--budget", t) for t in ("90s", "30min", "2h", "1.5 h")] == [90, 1800, 7200, 5400]
    assert read_limits(None, None) == {}
    assert read_limits("2min", "4GB") == {"seconds": 120, "memory_mb": 4000}
    assert read_limits("none", "none") == {"seconds": math.inf, "memory_mb": math.inf}
    for limit, memory in (("5", None), ("0s", None), ("-1s", None), (None, "4"), (None, "0MB"), (None, "4TB")):
        with pytest.raises(BadInput, match=r"^--(limit|memory) '.*': must be a (time|size) above 0 in .*, or none$"):
            read_limits(limit, memory)


def watched(code, seconds, pause=0.0):
    """A process that runs the code, which may be paused, and who watches it until one of them ends."""
    process = subprocess.Popen([sys.executable, "-c", code])
    with Watch(Limits(seconds)) as watch:
        watch.watch(process.pid)
        if pause:
            time.sleep(1)
            os.kill(process.pid, signal.SIGSTOP)
            time.sleep(pause)
            os.kill(process.pid, signal.SIGCONT)
        try:
            process.wait(timeout=60)
        finally:
            process.kill()
    return process.returncode, watch


SPIN = "import time\nwhile time.process_time() < {}: pass"


@pytest.mark.parametrize(
    ("code", "what"),
    [
        (SPIN.format(600), "a loop without end"),
        ("import threading; threading.Lock().acquire() and threading.Event().wait()", "a deadlock"),
        (f"import subprocess, sys; subprocess.run([sys.executable, '-c', {SPIN.format(8)!r}])", "a child's work"),
    ],
)
def test_what_never_ends_is_ended(code, what):
    status, watch = watched(code, seconds=2)
    assert status == -signal.SIGKILL, what
    assert watch.verdict == "it took longer than 2 s, its limit (--limit TIME|none)"


def test_a_pause_does_not_count():
    status, watch = watched(SPIN.format(2), seconds=4, pause=5)
    assert (status, watch.verdict) == (0, "")
    assert watch.seconds < 4 and watch.memory_mb > 1


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs processes that can be held to a core")
def test_waiting_for_a_processor_does_not_count():
    """Three processes on one core: each computes a third of the time."""
    core = sorted(psutil.Process().cpu_affinity())[:1]
    pinned = f"import os; os.sched_setaffinity(0, {core})\n"
    others = [subprocess.Popen([sys.executable, "-c", pinned + SPIN.format(600)]) for _ in range(2)]
    try:
        began = time.monotonic()
        status, watch = watched(pinned + SPIN.format(2), seconds=4)
        took = time.monotonic() - began
    finally:
        for process in others:
            process.kill()
            process.wait()
    assert (status, watch.verdict) == (0, "") and watch.seconds < 4 < took
