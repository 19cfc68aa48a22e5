"""Kernels are held to one instruction set, whatever their caller's environment says; the record tells which."""

import sys
from types import ModuleType

import pytest
from conftest import IMPORTS, write_chapter

from phenomena.runs.contract import arithmetic
from phenomena.runs.execute import kernels, runner
from phenomena.runs.store.chapters import Project

without_avx2 = pytest.mark.skipif(not arithmetic.held(), reason="the processor does not offer AVX2 and FMA")

# Of each library that computes the bits of a result: torch's own code, oneDNN, MKL, OpenBLAS, NumPy's functions.
NUMERIC = f"""\
{IMPORTS}
import hashlib

import numpy as np
import torch
import torch.nn.functional as F
from scipy import linalg"""
VALUES = """\
def bits(result):
    return int(hashlib.sha256(np.asarray(result).tobytes()).hexdigest()[:12], 16)

rng = np.random.default_rng(seed)
a, b = rng.random((30, 400)), rng.random((400, 30))
x, y = torch.from_numpy(a), torch.from_numpy(b)
single = x.float()
found = {
    "torch_softmax": single.log_softmax(1),
    "convolution": F.conv2d(single.view(3, 10, 20, 20), single.view(40, 10, 10, 3)),
    "torch_product": x @ y, "torch_eigenvalues": torch.linalg.eigvalsh(x @ x.T),
    "numpy_product": a @ b, "scipy_solution": linalg.solve(a @ b, a), "numpy_exponential": np.exp(a.astype("f")),
}
values = [bits(result) for result in found.values()]
record(**{name: [value] * seeds for name, value in zip(found, values)})"""

OTHERS = {
    "older": {
        "ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41", "MKL_CBWR": "AUTO",
        "MKL_ENABLE_INSTRUCTIONS": "SSE4_2", "OPENBLAS_CORETYPE": "Prescott", "NPY_DISABLE_CPU_FEATURES": "X86_V3",
    },
    "newest": {"ATEN_CPU_CAPABILITY": "avx512", "ONEDNN_MAX_CPU_ISA": "DEFAULT", "MKL_CBWR": "OFF"},
}  # fmt: skip


@pytest.fixture
def measure(tmp_path, monkeypatch):
    """The record of a numeric notebook whose caller has an environment."""
    (tmp_path / "requirements.lock").write_text("toy==1\n")
    write_chapter(tmp_path, imports=NUMERIC, body=VALUES)
    project = Project(tmp_path)
    chapter = project.chapter("toy")

    def run(environment):
        with monkeypatch.context() as patch:
            for name in arithmetic.AVX2:
                patch.delenv(name, raising=False)
            for name, value in environment.items():
                patch.setenv(name, value)
            return runner.run(project, chapter, chapter.resolve("smoke"), force=True)[0].record

    return run


@without_avx2
def test_a_callers_environment_moves_no_value(measure, monkeypatch):
    held = [measure(environment) for environment in ({}, *OTHERS.values())]
    assert held[0].values == held[1].values == held[2].values
    told = held[0].arithmetic
    assert {name: told[name] for name in ("torch", "oneDNN", "NumPy", "OpenBLAS")} == {
        "torch": "AVX2", "oneDNN": "at most AVX2", "NumPy": "X86_V3", "OpenBLAS": "Haswell",
    }  # fmt: skip
    assert told.get("MKL", "COMPATIBLE") == "COMPATIBLE"
    assert {"AVX2", "FMA"} < set(told["offers"].split())
    assert held[1].arithmetic == held[2].arithmetic == told

    # the same notebook feels these switches where nothing holds it
    monkeypatch.setattr(arithmetic, "held", dict)
    free = measure(OTHERS["older"])
    assert not [name for name in free.values if free.values[name] == held[0].values[name]]
    assert free.arithmetic["torch"] != "AVX2" and free.arithmetic["OpenBLAS"] != "Haswell"


@pytest.mark.parametrize(
    ("flags", "held"),
    [("sse2 avx avx2 fma avx512f", True), ("sse2 avx avx2 fma", True), ("sse2 avx avx2", False), ("", False)],
)
def test_nothing_is_set_where_the_processor_lacks_it(flags, held, monkeypatch):
    monkeypatch.setattr(arithmetic, "_first_core", lambda: {"vendor_id": "GenuineIntel", "flags": flags})
    assert bool(arithmetic.held()) == held
    monkeypatch.setenv("MKL_CBWR", "theirs")
    assert kernels.environment()["MKL_CBWR"] == ("COMPATIBLE" if held else "theirs")
    assert kernels.environment()["OMP_NUM_THREADS"] == "1"
    assert arithmetic.used()["offers"].split()[0] == "GenuineIntel"


def test_another_architecture_says_what_it_offers(monkeypatch):
    monkeypatch.setattr(arithmetic, "_first_core", lambda: {"Features": "fp asimd sve"})
    assert arithmetic.held() == {}
    assert arithmetic.used()["offers"].split()[1:] == ["NEON", "SVE"]


def test_a_library_that_says_nothing_is_left_out(monkeypatch):
    monkeypatch.delitem(sys.modules, "torch")
    monkeypatch.setitem(sys.modules, "numpy", ModuleType("numpy"))
    monkeypatch.setitem(sys.modules, "threadpoolctl", None)  # not installed
    assert set(arithmetic.used()) <= {"offers", "C library"}
