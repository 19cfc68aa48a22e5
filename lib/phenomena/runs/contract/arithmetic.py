"""Which instructions libraries compute with: what the processor offers, what kernels are held to, what is used.

Libraries of numerics have code for several instruction sets and take the best that the processor has. Each adds up in
another order, so that values differ in their last bits from one machine to the next. Held to one set they do not.
"""

import ctypes
import os
import platform
import sys
from contextlib import suppress
from functools import cache
from pathlib import Path

# AVX2 is on every x86 server of the last ten years. Each library listens to its own switch, when it is loaded.
AVX2 = {
    "ATEN_CPU_CAPABILITY": "avx2",  # torch's own code
    "ONEDNN_MAX_CPU_ISA": "AVX2",  # its convolutions
    # Its products, decompositions and elementary functions. MKL goes by the vendor, not by the instructions alone: held
    # to AVX2 it still has other code for AMD than for Intel. This branch, of SSE2, is the only one that is the same.
    "MKL_ENABLE_INSTRUCTIONS": "AVX2", "MKL_CBWR": "COMPATIBLE",
    "OPENBLAS_CORETYPE": "Haswell",  # products and decompositions of NumPy and SciPy
    # NumPy's functions: AVX2 and nothing beyond. It refuses to start when both are set; empty is not set.
    "NPY_ENABLE_CPU_FEATURES": "X86_V3", "NPY_DISABLE_CPU_FEATURES": "",
}  # fmt: skip
SETS = {"AVX2": "avx2", "FMA": "fma", "AVX-512": "avx512f", "AMX": "amx_tile", "NEON": "asimd", "SVE": "sve"}
BRANCHES = {1: "its own choice", 2: "auto", 3: "COMPATIBLE", 4: "SSE2", 5: "SSE3", 6: "SSSE3", 7: "SSE4.1",
            8: "SSE4.2", 9: "AVX", 10: "AVX2", 11: "AVX-512 MIC", 12: "AVX-512"}  # fmt: skip  # of mkl_cbwr_get


def held() -> dict[str, str]:
    """The environment that holds a kernel to AVX2; empty where the processor does not have it."""
    return AVX2 if {"AVX2", "FMA"} <= set(_sets()) else {}


def processor() -> str:
    """The processor's name."""
    return _first_core().get("model name") or platform.processor() or platform.machine()


def used() -> dict[str, str]:
    """What the processor offers, and what each library uses that is loaded; without a library that does not say it.

    Elementary functions that no library has of its own come from the C library, which is named, too.
    """
    offered = [_first_core().get("vendor_id", platform.machine()), *_sets()]
    found = {"offers": " ".join(offered), "C library": " ".join(platform.libc_ver())}
    if torch := sys.modules.get("torch"):
        found["torch"] = torch.backends.cpu.get_cpu_capability()
        if torch.backends.mkldnn.is_available():
            found["oneDNN"] = f"at most {os.environ.get('ONEDNN_MAX_CPU_ISA', 'what is offered')}"
        with suppress(OSError, AttributeError):  # torch without MKL
            library = ctypes.CDLL(f"{torch.__path__[0]}/lib/libtorch_cpu.so")  # loaded already
            found["MKL"] = BRANCHES.get(library.mkl_serv_cbwr_get(-1), "")
    if numpy := sys.modules.get("numpy"):
        with suppress(AttributeError):
            core = numpy._core._multiarray_umath
            sets = [*core.__cpu_baseline__, *core.__cpu_dispatch__]
            found["NumPy"] = [name for name in sets if core.__cpu_features__.get(name)][-1]
        with suppress(ImportError):  # it comes with scikit-learn
            from threadpoolctl import threadpool_info  # type: ignore[import-untyped]

            blas = [pool for pool in threadpool_info() if pool["internal_api"] == "openblas"]
            found["OpenBLAS"] = ", ".join(sorted({f"{pool.get('architecture')}" for pool in blas}))
    return {name: text for name, text in found.items() if text.strip()}


def _sets() -> list[str]:
    flags = _first_core().get("flags") or _first_core().get("Features") or ""
    return [name for name, flag in SETS.items() if flag in flags.split()]


@cache
def _first_core() -> dict[str, str]:
    """What Linux says of the first core; empty elsewhere. It is not asked for the others: they may be hundreds."""
    found = dict[str, str]()
    with suppress(OSError), Path("/proc/cpuinfo").open(encoding="utf-8") as lines:
        for line in lines:
            name, _, value = line.partition(":")
            if not name.strip():
                break
            found[name.strip()] = value.strip()
    return found


if __name__ == "__main__":  # env $(python -m phenomena.runs.contract.arithmetic) COMMAND
    print(*(f"{name}={value}" for name, value in held().items()))
