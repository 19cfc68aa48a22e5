"""Kernels that start in a moment: forked from a process that has imported what they need beforehand.

Importing torch, pandas and matplotlib takes longer than many a run of a sweep. A server process imports them once and
forks for every kernel, so that each one starts from the same clean state: modules imported, nothing run. It imports
nothing of this package, whose sources may change between runs. When its owner dies it ends all its kernels.
"""

import importlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from jupyter_client.connect import KernelConnectionInfo
from jupyter_client.manager import AsyncKernelManager
from jupyter_client.provisioning import LocalProvisioner

# What a kernel would import while it starts; the debugger alone takes longer than all the rest of its start.
KERNEL = ("ipykernel.kernelapp", "ipykernel.ipkernel", "ipykernel.debugger", "IPython.extensions.storemagic",
          "IPython.core.debugger", "psutil", "sqlite3", "tornado.platform.asyncio")  # fmt: skip


def third_party(sources: list[str]) -> list[str]:
    """Modules outside this package that the sources import at their top level; what fails to import is left out."""
    from phenomena.runs.store.imports import imported  # only here: the server must import nothing of this package

    named = frozenset[str]().union(*(imported(source, top_level=True, members=False) for source in sources))
    names = {name for name in named if name.partition(".")[0] not in ("phenomena", "")}
    if "torch" in names:
        names.add("torch._dynamo")  # three seconds that torch spends when an optimiser is first made
    return sorted(names)


class Server:
    """The owner's side: starts the server process and asks it for kernels."""

    def __init__(self, modules: list[str]) -> None:
        """modules: what to import before the first fork."""
        self.modules = modules
        self._process = subprocess.Popen(
            [sys.executable, "-m", "phenomena.runs.execute.kernels", *modules],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env=os.environ | {"PYDEVD_DISABLE_FILE_VALIDATION": "1"},  # or the debugger warns of Python's own modules
        )  # fmt: skip
        self._lock = threading.Lock()

    def alive(self) -> bool:
        """Whether the server process runs."""
        return self._process.poll() is None

    def ask(self, request: dict[str, Any]) -> Any:
        """The server's answer. Raises `RuntimeError` when it is gone."""
        assert self._process.stdin and self._process.stdout
        with self._lock:
            try:
                self._process.stdin.write(json.dumps(request) + "\n")
                self._process.stdin.flush()
                return json.loads(self._process.stdout.readline())
            except (OSError, ValueError) as error:
                raise RuntimeError("the process that kernels are forked from is gone") from error

    def close(self) -> None:
        """Ends the server and its kernels."""
        with suppress(OSError):
            self._process.communicate()


class ForkedProcess:
    """A forked kernel with the interface of `subprocess.Popen` that jupyter_client uses."""

    stdin = stdout = stderr = None

    def __init__(self, server: Server, pid: int) -> None:
        """pid: of the kernel."""
        self.server, self.pid = server, pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Exit status, None while it runs."""
        if self.returncode is None:
            self.returncode = self.server.ask({"poll": self.pid})
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Waits for the end. Raises `subprocess.TimeoutExpired`."""
        end = None if timeout is None else time.monotonic() + timeout
        while (status := self.poll()) is None:
            if end is not None and time.monotonic() > end:
                raise subprocess.TimeoutExpired("kernel", timeout or 0)
            time.sleep(0.01)
        return status

    def send_signal(self, number: int) -> None:
        """Sends a signal unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL."""
        self.send_signal(signal.SIGKILL)


def kernel_manager(server: Server, started: Callable[[int], None]) -> type[AsyncKernelManager]:
    """A kernel manager for nbclient: its kernels are forked from the server, and `started` is told their numbers."""

    class Provisioner(LocalProvisioner):
        async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> KernelConnectionInfo:
            arguments = cmd[cmd.index("-f") :]  # after python -m ipykernel_launcher
            environment = dict(kwargs.get("env") or os.environ)
            request = {"start": arguments, "env": environment, "cwd": str(kwargs.get("cwd") or Path.cwd())}
            pid: int = server.ask(request)
            self.pid = self.pgid = pid  # type: ignore[assignment]  # LocalProvisioner knows no numbers at first
            self.process = ForkedProcess(server, pid)  # type: ignore[assignment]  # what is used of it, it has
            started(pid)
            return self.connection_info

    class Manager(AsyncKernelManager):
        async def _async_pre_start_kernel(self, **kwargs: Any) -> tuple[list[str], dict[str, Any]]:
            self.provisioner = Provisioner(kernel_id=self.kernel_id, kernel_spec=self.kernel_spec, parent=self)
            return await super()._async_pre_start_kernel(**kwargs)

    return Manager


def serve(modules: list[str]) -> None:
    """The server's side: imports the modules, then answers a request a line until its owner closes the pipe.

    {"start": argv, "env": ..., "cwd": ...} -> process number; {"poll": number} -> exit status or null.
    """
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what an import prints does not mix with the answers
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the owner decides
    for name in [*KERNEL, *modules]:
        with suppress(ImportError):  # the run itself will say so, if it needs it
            importlib.import_module(name)
    kernels: set[int] = set()
    try:
        for line in sys.stdin:
            request = json.loads(line)
            if "start" in request:
                answer: Any = os.fork()
                if answer == 0:
                    _become_kernel(request)
                kernels.add(answer)
            else:
                answer = _status(request["poll"])
                kernels -= {request["poll"]} if answer is not None else set()
            answers.write(json.dumps(answer) + "\n")
            answers.flush()
    finally:
        for pid in kernels:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def _status(pid: int) -> int | None:
    try:
        ended, status = os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return -1  # asked for before, or never there
    return os.waitstatus_to_exitcode(status) if ended else None


def _become_kernel(request: dict[str, Any]) -> None:
    status = 1
    try:
        os.setsid()
        nowhere = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1):
            os.dup2(nowhere, descriptor)
        sys.stdin, sys.stdout = os.fdopen(0, closefd=False), os.fdopen(1, "w", closefd=False)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.environ.clear()
        os.environ.update(request["env"])
        os.chdir(request["cwd"])
        sys.argv = [sys.argv[0], *request["start"]]
        from ipykernel.kernelapp import IPKernelApp

        IPKernelApp.launch_instance(argv=request["start"])
        status = 0
    finally:
        os._exit(status)  # nothing of the server's own ending


if __name__ == "__main__":
    sys.path[0] = str(Path.cwd())  # -m puts the same there; said so that it is seen
    serve(sys.argv[1:])
