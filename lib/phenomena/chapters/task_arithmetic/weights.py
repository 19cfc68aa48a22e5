"""Weights in files: safetensors, a pickle only where its sha256 is known; and a cache of trained weights.

The cache is the folder `weights` in `PHENOMENA_DATA`. A file's name is a digest of everything that determines its
content, so no file goes stale. You may delete the folder at any time; nothing here does, and a run of an edition can
leave several gigabytes.
"""

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from phenomena.science import datasets

NETWORKS = ("torch", "transformers", "open_clip_torch", "timm")  # libraries that trained networks come from


def save(path: Path, state: dict[str, Tensor]) -> None:
    """Writes a state as safetensors; the file appears whole or not at all. Tied entries are written each on its own."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, fresh = tempfile.mkstemp(dir=path.parent, suffix=".new")
    os.close(handle)
    try:
        save_file({name: entry.detach().cpu().contiguous().clone() for name, entry in state.items()}, fresh)
        os.replace(fresh, path)
    finally:
        Path(fresh).unlink(missing_ok=True)


def load(path: Path, device: str = "cpu") -> dict[str, Tensor]:
    """The state in a safetensors file, on that device. A pickle is refused: opening one can run any code.

    Raises `ValueError` for a pickle, with the way to convert it, and for anything else that is not safetensors.
    """
    with open(path, "rb") as file:
        start = file.read(2)
    if start == b"PK" or start[:1] == b"\x80":  # torch.save since 1.6 is a zip; before, and elsewhere, a bare pickle
        raise ValueError(
            f"{path} is a pickle, and opening one can run any code: the file must be safetensors. A pickled module, as "
            f"the official checkpoints are, opens only beside its own code: save its state_dict() there. To convert a "
            f"pickled state that you trust: safetensors.torch.save_file({{k: v.contiguous() for k, v in "
            f"torch.load({path.name!r}, weights_only=True).items()}}, {path.with_suffix('.safetensors').name!r})"
        )
    try:
        return load_file(path, device)
    except SafetensorError as error:
        raise ValueError(f"{path} is not a safetensors file ({error})") from error


def check(path: Path, sha256: str, advice: str) -> None:
    """Raises `DataError` with the advice for a file whose content has another sha256."""
    with open(path, "rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != sha256:
        raise datasets.DataError(f"{path} has sha256 {found[:12]}…, expected {sha256[:12]}…: {advice}")


def digest(modules: Iterable[ModuleType], tensors: Iterable[Tensor] = ()) -> str:
    """sha256 over the sources of these modules and the content of these tensors, in order: for the key of weights."""
    found = hashlib.sha256()
    for module in modules:
        found.update(Path(str(module.__file__)).read_bytes())
    for tensor in tensors:
        found.update(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
        found.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def cached(make: Callable[[], dict[str, Tensor]], key: dict[str, Any], device: str = "cpu") -> dict[str, Tensor]:
    """`make()`, from the cache where a file of that key is there, else made and kept.

    key: everything that determines the result, as JSON; the versions of torch and of libraries of networks, the number
    of threads and the processor's vector instructions are added, since sums depend on them in the last bit.
    device: where weights from the cache are put. Raises `DataError` for a damaged file, or where none can be kept.
    """
    instructions = [torch.backends.cpu.get_cpu_capability(), os.environ.get("MKL_CBWR")]
    machine = [torch.get_num_threads(), *instructions, device, *map(_version, NETWORKS)]
    text = json.dumps({"machine": machine, **key}, sort_keys=True)
    path = datasets.CACHE / "weights" / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.safetensors"
    if path.is_file():
        try:
            return load(path, device)
        except ValueError as error:
            raise datasets.DataError(f"{error}: delete this file of the cache, and it is made again") from error
    state = make()
    try:
        save(path, state)
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise datasets.DataError(
            f"weights cannot be kept in {path.parent} ({reason}): set PHENOMENA_DATA to a folder with space "
            "where you may write, or cache to false"
        ) from error
    return state


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
