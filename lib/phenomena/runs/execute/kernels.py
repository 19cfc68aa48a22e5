"""Kernels that start in a moment: forked from a process that has imported what they need beforehand.

Importing torch, pandas and matplotlib takes longer than many a short run. A server process imports them once and forks
for every kernel, so that each one starts from the same clean state: modules imported, nothing run. It imports nothing
of this package, whose sources may change between runs. When its owner dies it ends all its kernels.
"""

import importlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, Self

import psutil

if TYPE_CHECKING:  # the server imports nothing of this package, and commands that start no kernel nothing of Jupyter's
    from jupyter_client.connect import KernelConnectionInfo
    from jupyter_client.manager import AsyncKernelManager

    from phenomena.runs.store.chapters import Chapter

# What a kernel would import while it starts; the debugger alone takes longer than all the rest of its start.
KERNEL = ("ipykernel.kernelapp", "ipykernel.ipkernel", "ipykernel.debugger", "IPython.extensions.storemagic",
          "IPython.core.debugger", "sqlite3", "tornado.platform.asyncio")  # fmt: skip


# One thread a kernel: the same values everywhere, and two kernels fill two cores. The rest is what a kernel would set
# before it imports matplotlib, and what keeps the debugger from warning of Python's own modules.
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1",
    "MPLBACKEND": "module://matplotlib_inline.backend_inline", "PYDEVD_DISABLE_FILE_VALIDATION": "1",
}  # fmt: skip


def environment() -> dict[str, str]:
    """That of the server and its kernels: the caller's, but for `ENVIRONMENT` and what holds libraries to AVX2.

    A data cache that is named relative to where the caller stands is named in full: kernels stand elsewhere.
    """
    from phenomena.runs.contract.arithmetic import held  # not above: the server imports nothing of this package

    data = os.environ.get("PHENOMENA_DATA")
    cache = {"PHENOMENA_DATA": os.path.abspath(os.path.expanduser(data))} if data else {}
    return {**os.environ, **cache, **ENVIRONMENT, **held()}


# What `show` imports for a figure that moves.
LATE = ("altair",)


def needed(chapters: Iterable["Chapter"], shared: bool = False) -> list[str]:
    """Modules outside this package that the chapters and what they use of the library import at their top level.

    shared: for several kernels, so that it pays to import as well what most of them import late. What a record lists
    only where it is used is left to the runs that use it.
    """
    from phenomena.runs.contract.notebook import WHERE_USED
    from phenomena.runs.store import keys
    from phenomena.runs.store.imports import imported, packages

    cells = [cell for chapter in chapters for cell in keys.cell_sources(chapter.source)]
    library = [(keys.PACKAGE / name).read_text(encoding="utf-8") for name in keys.modules("\n".join(cells))]
    texts = [*cells, *library]
    names = set().union(*(imported(text, top_level=True, members=False) for text in texts))
    late = [name for name in LATE if name.partition(".")[0] in set().union(*map(packages, texts))]
    passed = {"phenomena", "", *(name.removesuffix("_torch") for name in WHERE_USED)}
    return sorted(name for name in names if name.partition(".")[0] not in passed) + late * shared


class Server:
    """The owner's side: starts the server process, which imports in the background, and asks it for kernels."""

    def __init__(self, modules: list[str]) -> None:
        """modules: what to import before the first fork; what fails to import is left to the run that needs it."""
        self.modules, self.closed = modules, False
        self._process = subprocess.Popen(
            [sys.executable, "-m", "phenomena.runs.execute.kernels", *modules],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment(),
            start_new_session=True,  # a terminal's Ctrl-C is for the owner, who decides
        )  # fmt: skip
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

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
        """Ends the server and its kernels, also while it still imports."""
        self.closed = True
        assert self._process.stdin and self._process.stdout
        self._process.terminate()  # for a server that still imports: it reads nothing
        with suppress(OSError):  # of a request that is not read any more
            self._process.stdin.close()  # a signal that another of its threads gets does not end its wait for a line
        self._process.wait()
        self._process.stdout.close()


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
            try:
                self.returncode = self.server.ask({"poll": self.pid})
            except RuntimeError:  # kernels do not outlive their server
                self.returncode = -signal.SIGKILL
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


def kernel_manager(
    server: Server, folder: Path, told: Mapping[str, str], started: Callable[[int], None]
) -> type["AsyncKernelManager"]:
    """A kernel manager for nbclient: its kernels are forked from the server, and `started` is told their numbers.

    folder: where kernels start. told: what their environment has beside `environment`.
    """
    from jupyter_client.manager import AsyncKernelManager
    from jupyter_client.provisioning import LocalProvisioner

    class Provisioner(LocalProvisioner):
        async def launch_kernel(self, cmd: list[str], **_: Any) -> "KernelConnectionInfo":
            arguments = cmd[cmd.index("-f") :]  # after python -m ipykernel_launcher
            # nothing of a person's own IPython, whose startup files would run before the notebook
            own = {"IPYTHONDIR": str(Path(arguments[1]).with_name("ipython"))}
            pid: int = server.ask({"start": arguments, "env": {**environment(), **told, **own}, "cwd": str(folder)})
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
    for name in [*KERNEL, *modules]:
        with suppress(ImportError):  # the run itself will say so, if it needs it
            importlib.import_module(name)
    signal.signal(signal.SIGTERM, _end)
    try:
        for line in sys.stdin:
            request = json.loads(line)
            if "start" in request:
                answer: Any = os.fork()
                if answer == 0:
                    answers.close()
                    _become_kernel(request)
            else:
                answer = _status(request["poll"])
            answers.write(json.dumps(answer) + "\n")
            answers.flush()
    finally:
        _end()


def _end(*_: object) -> NoReturn:
    left = psutil.Process().children()
    for kernel in left:
        with suppress(psutil.Error):
            kernel.kill()
    psutil.wait_procs(left, timeout=5)
    os._exit(0)  # a second less than to take down all that was imported


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
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.environ.clear()
        os.environ.update(request["env"])
        os.chdir(request["cwd"])
        sys.argv = [sys.argv[0], *request["start"]]
        from ipykernel.kernelapp import IPKernelApp

        orphaned = f"--IPKernelApp.parent_handle={os.getppid()}"  # it looks for its parent, and ends without
        IPKernelApp.launch_instance(argv=[*request["start"], orphaned])
        status = 0
    finally:
        os._exit(status)  # nothing of the server's own ending


if __name__ == "__main__":
    sys.path[0] = str(Path.cwd())  # -m puts the same there; said so that it is seen
    serve(sys.argv[1:])
