"""What a run may take: limits, how they are written, and who watches that they are kept."""

import math
import re
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Self

import psutil

from phenomena.runs.contract.errors import BadInput

TIME = {"s": 1, "min": 60, "h": 3600}
SIZE = {"MB": 1, "GB": 1000}
LOOK = 0.5  # seconds between two looks at a kernel
IDLE = 0.05  # share of a processor below which a kernel that sleeps waits for nothing of its own
SPARE = 0.9  # of the memory that is free when a run begins, what it may take


@dataclass(frozen=True)
class Limits:
    """What a run may take before its kernel is killed."""

    seconds: float = math.inf
    memory_mb: float = math.inf


def usual() -> Limits:
    """Those of a single run: all the time it takes, and most of the memory that is free now."""
    return Limits(memory_mb=SPARE * psutil.virtual_memory().available / 1e6)


def read_time(option: str, text: str) -> float:
    """Seconds of `90s`, `30min` or `2h`. Raises `BadInput` for another form, or for no time at all."""
    return _read(option, text, TIME, "time", "90s, 30min or 2h")


def read_limits(limit: str | None, memory: str | None) -> dict[str, float]:
    """The fields of `Limits` that `--limit` and `--memory` set. Raises `BadInput` for what they do not accept."""
    given: dict[str, float] = {}
    if limit is not None:
        given["seconds"] = math.inf if limit == "none" else read_time("--limit", limit)
    if memory is not None:
        given["memory_mb"] = math.inf if memory == "none" else _read("--memory", memory, SIZE, "size", "800MB or 4GB")
    return given


def _read(option: str, text: str, units: Mapping[str, int], kind: str, such_as: str) -> float:
    found = re.fullmatch(rf"(\d+(?:\.\d+)?) ?({'|'.join(units)})", text)
    if not found or not float(found[1]):
        *others, last = units
        none = "" if option == "--budget" else ", or none"
        raise BadInput(
            f"{option} {text!r}: must be a {kind} above 0 in {', '.join(others)} or {last}, such as {such_as}{none}"
        )
    return float(found[1]) * units[found[2]]


class Watch:
    """Kills a kernel that goes beyond its limits; `verdict` then says why. `memory_mb`: the most it was seen to hold.

    The time that counts is that in which the kernel and its children compute, and that in which it sleeps though
    nothing keeps it: a deadlock comes to an end, while a kernel that is stopped, or waits for a processor or a disk,
    loses nothing.
    """

    def __init__(self, limits: Limits) -> None:
        """limits: of one kernel."""
        self.limits, self.verdict, self.seconds, self.memory_mb = limits, "", 0.0, 0.0
        self._began, self._stop, self._threads = time.monotonic(), threading.Event(), list[threading.Thread]()

    def watch(self, pid: int) -> None:
        """Begins, as soon as there is a process."""
        self._threads.append(threading.Thread(target=self._look, args=(pid,), daemon=True))
        self._threads[-1].start()

    def _look(self, pid: int) -> None:
        then, used = time.monotonic(), 0.0
        with suppress(psutil.Error):  # the kernel has ended
            kernel = psutil.Process(pid)
            while not self._stop.wait(LOOK):
                self.memory_mb = max(self.memory_mb, kernel.memory_info().rss / 1e6)
                now, computed = time.monotonic(), _computed(kernel)
                asleep = kernel.status() == psutil.STATUS_SLEEPING
                if asleep and computed - used < IDLE * (now - then):  # does a child work for it?
                    computed += sum(map(_computed, kernel.children(recursive=True)))
                gained = max(0.0, computed - used)
                idle = asleep and gained < IDLE * (now - then)
                self.seconds += min(now - then, 2 * LOOK) if idle else gained  # who looks may have been stopped, too
                then, used = now, max(used, computed)
                if self.memory_mb > self.limits.memory_mb:
                    self.verdict = f"it took more than {self.limits.memory_mb:.0f} MB, its limit (--memory SIZE|none)"
                elif self.seconds > self.limits.seconds:
                    self.verdict = f"it took longer than {self.limits.seconds:.0f} s, its limit (--limit TIME|none)"
                if self.verdict:
                    kernel.kill()
                    return

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


def _computed(process: psutil.Process) -> float:
    """Seconds that a process and its former children computed."""
    try:
        return sum(process.cpu_times()[:4])
    except psutil.NoSuchProcess:  # a child that has just ended
        return 0.0
