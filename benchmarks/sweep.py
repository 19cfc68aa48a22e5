"""What a sweep costs beside its experiments.

    python benchmarks/sweep.py [--runs 12] [--points 1000] [--rounds 2]

Overhead: a notebook that imports torch and records a number, as a sweep on two local workers, against Papermill in two
processes with a fresh kernel a run; the two take turns, and their values are compared. Seconds a run are those of a
worker: wall time times two workers, over runs. Scheduling: points whose work is nothing, from the grid to files in
place. Takes both cores, so it is not pinned to one; --core is accepted and ignored.
"""

import argparse
import json
import multiprocessing
import os
import statistics
import tempfile
import time
from pathlib import Path

import nbformat
import papermill
import yaml
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from phenomena.runs.execute import sweep
from phenomena.runs.store.chapters import Project
from phenomena.runs.store.keys import code

IMPORTS = """import torch
from phenomena.runs.contract.notebook import check_parameters, record"""
PARAMETERS = """seed: int = 0  # the first seed
seeds: int = 2  # how many seeds"""
BODY = "record(value=[float(torch.tensor(s) ** 2) for s in range(seed, seed + seeds)])"
CHAPTER = {
    "title": "Trivial",
    "about": "Records a number.",
    "editions": {
        name: {"about": "all", "cost": {"seconds": 1, "memory_mb": 500, "machine": "one core"}}
        for name in ("default", "smoke")
    },
    "claims": [],
}


def project_in(folder: Path) -> Project:
    """A project with one chapter that does next to nothing."""
    cells = [
        new_markdown_cell("# Trivial"),
        new_code_cell(IMPORTS),
        new_code_cell(PARAMETERS, metadata={"tags": ["parameters"]}),
        new_code_cell("check_parameters(globals())"),
        new_code_cell(BODY),
    ]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    (folder / "notebooks").mkdir()
    nbformat.write(new_notebook(cells=cells, metadata=kernel), folder / "notebooks" / "trivial.ipynb")
    (folder / "notebooks" / "trivial.yaml").write_text(yaml.safe_dump(CHAPTER, sort_keys=False))
    (folder / "requirements.lock").write_text("")
    return Project(folder)


def swept(project: Project, seeds: list[int], client: object) -> dict[int, list[float]]:
    """Values by first seed."""
    wanted = sweep.points(project, project.chapter("trivial"), "default", {"seed": seeds}, {})
    outcome = sweep.sweep(project, wanted, client)
    assert not outcome.failed, outcome.failed
    found = [runs.read(project.runs / "trivial" / point.key) for point in outcome.done]
    return {r.parameters["seed"]: r.values["value"] for r in found if r}


def plain(job: tuple[Path, int]) -> tuple[int, list[float]]:
    """One run by Papermill alone, with a fresh kernel."""
    notebook, seed = job
    target = notebook.with_name(f"{seed}.out.ipynb")
    papermill.execute_notebook(notebook, target, {"seed": seed}, progress_bar=False, shutdown_kernel="immediate")
    return seed, runs.collect(nbformat.read(target, 4))["values"]["value"]


def nothing(task: sweep.Task) -> sweep.Answer:
    """The files of a run that was not executed."""
    record = dict(TEMPLATE, chapter=task.chapter, key=task.key, parameters=task.parameters)
    return sweep.Answer({runs.NOTEBOOK: b"{}", runs.RECORD: json.dumps(record).encode()})


TEMPLATE = {
    "edition": None, "seeds": [0], "values": {"value": [0.0]}, "figures": [], "versions": {}, "processor": "",
    "gpu": None, "threads": 1, "commit": None, "lock_sha256": "", "modules": {}, "started": "",
    "seconds": {"total": 0.0}, "peak_memory_mb": 0.0,
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=12)
    parser.add_argument("--points", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--core", type=int, help="ignored: two workers need two cores")
    args = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory() as folder, sweep.cluster(None, 2) as client:
        project = project_in(Path(folder))
        assert len(code(project.chapter("trivial").source)) == 4
        first = swept(project, [-1, -2], client)  # starts the servers that kernels are forked from
        seconds: dict[str, list[float]] = {"sweep": [], "papermill": []}
        for number in range(args.rounds):
            seeds = [100 * number + i for i in range(args.runs)]
            began = time.perf_counter()
            ours = swept(project, seeds, client)
            seconds["sweep"].append((time.perf_counter() - began) * 2 / args.runs)
            notebook = project.root / "notebooks" / "trivial.ipynb"
            began = time.perf_counter()
            with multiprocessing.get_context("spawn").Pool(2) as pool:
                theirs = dict(pool.map(plain, [(notebook, seed) for seed in seeds], chunksize=1))
            seconds["papermill"].append((time.perf_counter() - began) * 2 / args.runs)
            assert ours == theirs, "the same values"
        a, b = (statistics.median(values) for values in seconds.values())
        print(
            f"overhead: {len(first) + args.runs * args.rounds} runs, equal values; seconds a run and worker: ", end=""
        )
        print(f"sweep {a:.2f}, papermill {b:.2f}, ratio {b / a:.1f}")
        began = time.perf_counter()
        wanted = sweep.points(
            project, project.chapter("trivial"), "default", {"seed": list(range(args.points))}, {"seeds": 1}
        )
        outcome = sweep.sweep(project, wanted, client, work=nothing)
        each = (time.perf_counter() - began) / args.points
        print(f"scheduling: {len(outcome.done)} points of no work, {1000 * each:.1f} ms each")


if __name__ == "__main__":
    main()
