"""What a notebook calls: check its parameters, record its values, show its figures, report its progress.

Everything goes into the notebook's own outputs, under one MIME type, so that a notebook run by hand or by Papermill
alone carries the same record as one run by `phenomena run`. A change here re-runs every chapter: keep it small.
"""

import ast
import base64
import io
import json
import os
import platform
import resource
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from IPython.display import display

from phenomena.runs.contract import arithmetic
from phenomena.runs.contract.errors import BadInput
from phenomena.runs.contract.parameters import Parameter, check

MIME = "application/vnd.phenomena+json"
PROGRESS = "PHENOMENA_PROGRESS"  # the file in which the runner reads how far the notebook is
INTERACTIVE_LIMIT = 300_000  # bytes of an interactive chart with its data, which stand in the page
REPORTED = ("torch", "torchvision", "numpy", "scipy", "scikit-learn", "mnist1d", "pandas", "matplotlib", "papermill")
WHERE_USED = ("transformers", "tokenizers", "safetensors", "open_clip_torch", "timm")  # extras, and what they bring


def check_parameters(namespace: dict[str, Any]) -> None:
    """Checks the notebook's parameters against their declared types and puts the converted values back.

    namespace: the notebook's `globals()`, right after its `parameters` cell. Raises `BadInput`, in one line, also for a
    name in Papermill's cell that is not declared.

    >>> seeds: int = "3"  # in the cell tagged parameters
    >>> check_parameters(globals())
    seeds = 3
    >>> seeds
    3
    """
    annotations = namespace.get("__annotations__") or _annotations(namespace)
    declared = [Parameter(name, kind, None, "") for name, kind in annotations.items()]
    names = dict.fromkeys([*(p.name for p in declared), *_injected(namespace.get("In", []))])
    values = check(declared, {name: namespace[name] for name in names}, "parameters")
    namespace.update(values)
    _emit({"parameters": values, **_machine()}, ", ".join(f"{name} = {value!r}" for name, value in values.items()))


def _annotations(namespace: dict[str, Any]) -> dict[str, Any]:
    """Types since Python 3.14: a namespace has those of the code compiled last, which to IPython is a single line.

    So they are those of the last cell in its history that declares the seeds; without a history, of the namespace.
    """
    for cell in reversed(namespace.get("In", [])):
        lines = [line for line in _lines(cell) if isinstance(line, ast.AnnAssign)]
        types = {line.target.id: line.annotation for line in lines if isinstance(line.target, ast.Name)}
        if "seeds" in types:
            return {name: eval(ast.unparse(kind), namespace) for name, kind in types.items()}
    found: dict[str, Any] = namespace["__annotate__"](1)
    return found


def _lines(cell: str) -> list[ast.stmt]:
    try:
        return ast.parse(cell).body
    except SyntaxError:  # IPython keeps also what it could not run
        return []


def _injected(history: list[str]) -> list[str]:
    """The names that the last cell which begins as Papermill's do assigns. One that declares has its types, and none.

    history: the cells that were run, IPython's `In`.
    """
    cell = next((cell for cell in reversed(history) if cell.startswith("# Parameters\n")), "")
    assigned = [line.targets[0] for line in _lines(cell) if isinstance(line, ast.Assign)]
    names = [name.id for name in assigned if isinstance(name, ast.Name)]
    return [name for name in names if not name.startswith("PAPERMILL_")]  # its own, on --inject-paths


def record(**values: Iterable[float]) -> None:
    """Puts measured values into the record, one number a seed; nan where a seed gave none.

    The last call wins for a name, so that a cell can be run again by hand. Raises `BadInput` for infinite values.

    >>> record(accuracy=[0.8, 0.9, 1.0])
    accuracy: 0.9 [0.652, 1.15], n = 3
    """
    rows = {name: [float(v) for v in column] for name, column in values.items()}
    for name, row in rows.items():
        if not row or any(v in (float("inf"), float("-inf")) for v in row):
            raise BadInput(f"record: {name} is {row}: must be finite numbers (or nan), one a seed")
    lines = [f"{name}: {_summary(row)}" for name, row in rows.items()]
    # JSON has no nan: a seed without a value is null
    plain = {name: [None if v != v else v for v in row] for name, row in rows.items()}
    _emit({"values": plain, "peak_memory_mb": _peak_memory_mb(), **_machine()}, "\n".join(lines))


def _summary(row: list[float]) -> str:
    """Mean and interval of the seeds that gave a value, and how many they are."""
    from phenomena.statistics import interval

    n = sum(v == v for v in row)
    mean, low, high = interval(row)
    if not n:
        return "not measured, n = 0"
    return f"{mean:.3g}, n = {n}" if low != low else f"{mean:.3g} [{low:.3g}, {high:.3g}], n = {n}"


def show(figure: Any, name: str, caption: str, alt: str, data: Any = None, interactive: Any = None) -> None:
    """Displays a matplotlib figure with its name, caption, alternative text and the data it is drawn from.

    data: a pandas DataFrame in long form, kept as CSV. The figure is closed.
    interactive: an Altair chart that the book puts in the figure's place for readers with JavaScript, under the same
    caption. Its sliders and menus are bound parameters; a further parameter `reading` says in words where they stand
    and what is then seen. Raises `BadInput` for a chart over 300 kB, with data from elsewhere, or without `reading`.

    >>> from matplotlib.figure import Figure
    >>> show(Figure(), name="empty", caption="Nothing yet.", alt="An empty figure.")
    An empty figure.
    """
    from matplotlib import pyplot as plt  # only here, so that checking parameters stays quick

    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=144, bbox_inches="tight")
    plt.close(figure)
    csv = None if data is None else data.to_csv(index=False, float_format="%.6g")
    bundle = {"figure": {"name": name, "caption": caption, "alt": alt, "data": csv}}
    if interactive is not None:
        bundle["figure"]["interactive"] = _specification(interactive, name)
    display(
        {"image/png": base64.b64encode(png.getvalue()).decode(), MIME: bundle, "text/plain": alt},
        raw=True,
        metadata={"image/png": {"alt": alt}},
    )


def _specification(chart: Any, name: str) -> dict[str, Any]:
    """A chart as Vega-Lite, its numbers at six digits like those of the figure's data."""
    import altair  # only here: it takes a second, and whoever brings a chart has it loaded

    with altair.data_transformers.enable("default", max_rows=None):  # the limit here is in bytes
        text = json.dumps(chart.to_dict(), allow_nan=False)
    spec: dict[str, Any] = json.loads(text, parse_float=lambda digits: float(f"{float(digits):.6g}"))
    size = len(json.dumps(spec, ensure_ascii=False, separators=(",", ":")).encode())
    if size > INTERACTIVE_LIMIT:
        limit = f"must be at most {INTERACTIVE_LIMIT // 1000} kB; fewer or coarser rows make it smaller"
        raise BadInput(f"show: the interactive chart of {name} has {size / 1000:.0f} kB: {limit}")
    if _refers(spec):
        raise BadInput(
            f"show: the interactive chart of {name} takes something from a URL: its data must be inside the chart"
        )
    if "reading" not in [parameter["name"] for parameter in spec.get("params", [])]:
        raise BadInput(
            f'show: the interactive chart of {name} has no parameter "reading", the text that tells what is seen'
        )
    return spec


def _refers(spec: Any) -> bool:
    """Whether a specification names a URL outside its data, or draws pictures from a column that does not hold them."""
    parts = list(_mappings(spec))
    urls = [part["url"] for inside, part in parts if "url" in part and not inside]
    columns: list[Any] = [url.get("field") if isinstance(url, dict) else None for url in urls]
    rows = [part for inside, part in parts if inside]
    return None in columns or any(not str(row.get(c, "data:")).startswith("data:") for row in rows for c in columns)


def _mappings(spec: Any, inside: bool = False) -> Iterator[tuple[bool, Mapping[str, Any]]]:
    """Every mapping in a specification, and whether it lies inside the data."""
    if isinstance(spec, dict):
        yield inside, spec
        for key, part in spec.items():
            yield from _mappings(part, inside or key in ("datasets", "values"))
    elif isinstance(spec, list):
        for part in spec:
            yield from _mappings(part, inside)


def track(items: Iterable[Any], label: str) -> Iterator[Any]:
    """Yields the items and reports progress: to the runner if there is one, else by a bar in Jupyter.

    >>> [seed**2 for seed in track(range(3), "training")]
    [0, 1, 4]
    """
    items = list(items)
    path = os.environ.get(PROGRESS)
    if path is None and "JPY_SESSION_NAME" in os.environ:  # set by Jupyter's servers, not by Papermill
        from tqdm.auto import tqdm

        items = tqdm(items, label)
    for done, item in enumerate(items):
        if path:
            _write_progress(Path(path), {"label": label, "done": done, "total": len(items), "time": time.time()})
        yield item


def _write_progress(path: Path, state: Mapping[str, Any]) -> None:
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps(state))
    fresh.replace(path)


def _emit(bundle: Mapping[str, Any], text: str) -> None:
    display({MIME: bundle, "text/plain": text}, raw=True)


def _machine() -> dict[str, Any]:
    """Versions, processor, threads: recorded with the values again, since a notebook imports and sets things late."""
    torch = sys.modules.get("torch")
    used = [name for name in WHERE_USED if name.removesuffix("_torch") in sys.modules]
    return {
        "versions": {"python": platform.python_version(), **{name: version(name) for name in (*REPORTED, *used)}},
        "processor": arithmetic.processor(),
        "arithmetic": arithmetic.used(),
        "threads": torch.get_num_threads() if torch else None,
        "gpu": torch.cuda.get_device_name() if torch and torch.cuda.is_available() else None,
    }


def _peak_memory_mb() -> float:
    scale = 1 if sys.platform == "darwin" else 1024  # bytes there, kilobytes elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale / 1e6
