"""One's own data where a chapter takes a data set by name: `npz:FILE` or `images:FOLDER`.

The data are checked whole, brought into one form and kept under a digest of their content in the folder `own` of the
data cache. From then on their name is `npz:NAME@DIGEST`, which says neither where they lay nor how they were packed:
kernels, sweeps and later runs find them by it. `book/how_to_rerun.md` tells a user which files are accepted.
"""

import hashlib
import logging
import os
import re
import tempfile
import unicodedata
import warnings
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

if TYPE_CHECKING:  # whoever brings no data of one's own waits for neither
    import numpy as np
    from PIL.Image import Image

KINDS = ("npz", "images")
OwnData = Annotated[str, "npz:FILE or images:FOLDER"]  # the type of a parameter that takes them, as `Literal | OwnData`
CANONICAL = re.compile(r"(npz|images):[\w .+-]+@[0-9a-f]{16}")
ARRAYS = (("x", "y"), ("x_train", "y_train", "x_test", "y_test"))
LIMIT = 2e9  # bytes of all samples in single precision, as experiments hold them
SPLIT = 5  # every so many rows of a class are for testing where the data come without a split
FORMATS = ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM")  # none that starts another program
PASSED = ("Thumbs.db", "desktop.ini")  # left in folders by systems, as is what begins with a dot
UNREADABLE = (OSError, ValueError, EOFError, SyntaxError, zipfile.BadZipFile, zlib.error, NotImplementedError,
              RuntimeError, MemoryError)  # fmt: skip  # what zipfile, NumPy and Pillow raise for broken files

log = logging.getLogger(__name__)


class DataError(ValueError):
    """Data are missing or not what is expected; the message names the file, and what to do."""


class Arrays(NamedTuple):
    """A data set in its one form.

    Samples are (n, 1, length) in float32 for signals, (n, c, h, w) for images with c = 1 or 3, in uint8 or in float32
    from 0 to 1; labels are 0 to classes - 1, in int64; names: of the classes.
    """

    x_train: "np.ndarray"
    y_train: "np.ndarray"
    x_test: "np.ndarray"
    y_test: "np.ndarray"
    names: "np.ndarray"


def named(name: object) -> bool:
    """Whether a name is one of own data.

    >>> named("npz:my.npz"), named("images:photos@0123456789abcdef"), named("digits"), named("npz:")
    (True, True, False, False)
    """
    kind, _, place = name.partition(":") if isinstance(name, str) else ("", "", "")
    return kind in KINDS and bool(place)


def title(name: str) -> str:
    """What figures call a data set: its name, of own data that of the file or folder.

    >>> title("npz:my.npz@0123456789abcdef"), title("images:some/photos"), title("digits")
    ('my.npz', 'photos', 'digits')
    """
    if not named(name):
        return name
    place = name.partition(":")[2]
    return place.rpartition("@")[0] if CANONICAL.fullmatch(name) else os.path.basename(place)


def titles(names: Iterable[str]) -> list[str]:
    """The titles of data sets, or their whole names where those of two are the same.

    >>> titles(["npz:a.npz@0123456789abcdef", "digits"])
    ['a.npz', 'digits']
    """
    every = list(names)
    alike = len(set(map(title, every))) < len(set(every))
    return every if alike else [title(name) for name in every]


def cache() -> Path:
    """The folder of downloaded and kept data: that in the variable PHENOMENA_DATA, or ~/.cache/phenomena.

    Raises `DataError` where neither is known.
    """
    try:
        return Path(os.environ.get("PHENOMENA_DATA") or "~/.cache/phenomena").expanduser()
    except RuntimeError as error:
        raise DataError("no home folder is known here: set PHENOMENA_DATA to a folder for data") from error


def settle(name: str) -> str:
    """The name under which own data are found wherever they lay: `npz:NAME@DIGEST`.

    name: `npz:FILE` or `images:FOLDER`, relative to the present folder, or such a name itself. What is read from a file
    or folder is logged. Raises `DataError`, in one line, for whatever is wrong with them.
    """
    kind, _, place = name.partition(":")
    if CANONICAL.fullmatch(name):
        if not _file(name).is_file():
            raise DataError(
                f"no own/{_file(name).name} in the data cache of this machine: give {title(name)} again as "
                f"{kind}:PATH, or copy that file there"
            )
        return name
    try:
        path = Path(place).expanduser()
        stamp = _stamp(path)
    except (OSError, ValueError, RuntimeError) as error:
        raise DataError(f"{place} cannot be read ({_why(error)})") from error
    return _kept(kind, path, stamp, cache())


def load(name: str) -> Arrays:
    """The content of own data, checked by its digest. Raises `DataError`."""
    import numpy as np

    path = _file(settle(name))
    try:
        with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            arrays = Arrays(*(file[field] for field in Arrays._fields))
    except (*UNREADABLE, KeyError) as error:
        raise DataError(_spoilt(path, _why(error))) from error
    if digest(arrays) != path.stem:
        raise DataError(_spoilt(path, "it has another checksum"))
    return arrays


def _spoilt(path: Path, why: str) -> str:
    return f"own/{path.name} in the data cache is damaged ({why}): delete it and give the data again by their path"


def digest(arrays: Arrays) -> str:
    """16 hexadecimal digits over dtypes, shapes and values.

    >>> import numpy as np
    >>> x, y = np.zeros((2, 1, 3), np.float32), np.arange(2)
    >>> digest(Arrays(x, y, x, y, np.array(["a", "b"])))
    '841ccde2413ffb26'
    """
    found = hashlib.sha256()
    for field, array in zip(Arrays._fields[:-1], arrays, strict=False):
        found.update(f"{field} {array.dtype.kind}{array.dtype.itemsize} {array.shape}\n".encode())
        found.update(array.astype(array.dtype.newbyteorder("<"), "C", copy=False).data)
    found.update("\0".join(arrays.names.tolist()).encode())
    return found.hexdigest()[:16]


def described(arrays: Arrays) -> str:
    """Sizes and classes in words.

    >>> import numpy as np
    >>> x, y = np.zeros((2, 1, 3), np.float32), np.arange(2)
    >>> described(Arrays(x, y, x, y, np.array(["cat", "dog"])))
    '2 + 2 signals of 3 points, 2 classes (cat, dog)'
    """
    n, m, shape = len(arrays.y_train), len(arrays.y_test), arrays.x_train.shape[1:]
    what = f"images of {' x '.join(map(str, shape))}" if len(shape) == 3 else f"signals of {shape[-1]} points"
    names = arrays.names.tolist()
    told = "" if names == _numbered(len(names)) else f" ({', '.join(names[:4])}{', …' if len(names) > 4 else ''})"
    return f"{n:,} + {m:,} {what}, {len(names)} classes{told}"


def _numbered(classes: int) -> list[str]:
    return [f"class {k}" for k in range(classes)]


def _file(name: str) -> Path:
    return cache() / "own" / f"{name.rpartition('@')[2]}.npz"


@lru_cache(maxsize=64)  # the points of a sweep ask again and again
def _kept(kind: str, path: Path, stamp: tuple, folder: Path) -> str:
    """The name of the data at a path, once they are in the cache. stamp, folder: what the answer depends on as well."""
    label = re.sub(r"[^\w .+-]", "_", unicodedata.normalize("NFC", Path(os.path.abspath(path)).name))[-80:] or "_"
    try:
        arrays = _from_npz(path) if kind == "npz" else _from_images(path)
    except DataError as error:
        raise DataError(f"{label}: {error}") from error
    except MemoryError as error:
        raise DataError(f"{label}: does not fit into this machine's memory") from error
    name = f"{kind}:{label}@{digest(arrays)}"
    try:
        load(name)
    except DataError:  # not there, or damaged
        _keep(arrays, _file(name))
    log.info("%s:%s: %s", kind, label, described(arrays))
    return name


def _keep(arrays: Arrays, path: Path) -> None:
    """Puts the data into the cache, whole or not at all."""
    import numpy as np

    fresh = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, fresh = tempfile.mkstemp(dir=path.parent, suffix=".new")
        with os.fdopen(handle, "wb") as file:
            np.savez(file, **arrays._asdict())
        os.replace(fresh, path)
        fresh = None
    except OSError as error:
        raise DataError(
            f"the data cache cannot be written ({_why(error)}): set PHENOMENA_DATA to a folder with space where you may"
        ) from error
    finally:
        if fresh:
            Path(fresh).unlink(missing_ok=True)


def _stamp(path: Path) -> tuple:
    """What changes when a file, or anything two levels below a folder, does."""
    if not path.is_dir():
        return _stat(path)
    below = [entry for first in _entries(path) for entry in (first, *(_entries(first) if first.is_dir() else ()))]
    deeper = [entry for first in below if first.is_dir() for entry in _entries(first)]
    return tuple((str(entry), *_stat(entry)) for entry in dict.fromkeys([*below, *deeper]))


def _stat(path: Path) -> tuple:
    try:
        status = path.stat()
    except OSError as error:
        return (error.errno,)
    return status.st_mtime_ns, status.st_size, status.st_ino, status.st_mode


def _why(error: BaseException) -> str:
    """An error's reason in a few words, without the path that the system adds."""
    text = getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__
    return text[:120]


# --- arrays in an npz file --------------------------------------------------------------------------------------------


def _from_npz(path: Path) -> Arrays:
    import numpy as np

    headers = _headers(path)
    if sorted(headers) not in [sorted(names) for names in ARRAYS]:
        told = " or ".join(", ".join(names) for names in ARRAYS)
        raise DataError(f"holds the arrays {', '.join(sorted(headers)) or 'none'}: must be {told}")
    for name, (shape, dtype) in headers.items():
        if dtype.hasobject:
            raise DataError(f"{name} holds pickled objects, which are not opened: must be numbers, or labels as text")
        _fits([shape], name)
    try:
        with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            given = {name: file[name] for name in headers}
    except UNREADABLE as error:
        raise DataError(f"cannot be read ({_why(error)}): write it again") from error
    labels, names = _labels({name: array for name, array in given.items() if name.startswith("y")})
    samples = {name: _samples(array, name) for name, array in given.items() if name.startswith("x")}
    return _whole(samples, labels, names)


def _headers(path: Path) -> dict[str, tuple[tuple[int, ...], "np.dtype"]]:
    """Shape and type of every array, without reading any."""
    from numpy.lib import format as npy

    if not path.is_file():
        raise DataError(f"is {'a folder' if path.is_dir() else 'not there'}: must be a file as numpy.savez writes it")
    readers = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
    found = {}
    try:
        with zipfile.ZipFile(path) as file:
            for member in file.namelist():
                name = member.removesuffix(".npy")
                if name == member or name in found:
                    raise DataError(f"holds {member!r}, {'twice' if name in found else 'which is no array'}")
                with file.open(member) as part:
                    shape, _, dtype = readers[npy.read_magic(part)](part)
                found[name] = (shape, dtype)
    except DataError:
        raise
    except (*UNREADABLE, KeyError) as error:
        raise DataError(f"is not an npz file, or a damaged one ({_why(error)}): numpy.savez writes one") from error
    return found


def _fits(shapes: Sequence[tuple[int, ...]], what: str) -> None:
    size = sum(_product(shape) for shape in shapes) * 4
    if size > LIMIT:
        raise DataError(f"{what} takes {size / 1e9:.1f} GB in single precision: must be at most {LIMIT / 1e9:g}")


def _product(numbers: Sequence[int]) -> int:
    return int(numbers[0]) * _product(numbers[1:]) if numbers else 1


def _labels(given: Mapping[str, "np.ndarray"]) -> tuple[list["np.ndarray"], list[str]]:
    """Labels from 0 on, of the training rows first, and the names of the classes."""
    import numpy as np

    for name, array in given.items():
        if array.dtype.kind not in "iubU":
            raise DataError(f"{name} is of type {array.dtype}: must be whole numbers from 0, or text")
        if array.ndim != 1:
            raise DataError(f"{name} has shape {array.shape}: must be one label a row, (n,)")
        if not len(array):
            raise DataError(f"{name} has no rows")
    if len({array.dtype.kind == "U" for array in given.values()}) > 1:
        raise DataError(f"{' and '.join(sorted(given, reverse=True))}: one is text, the other numbers")
    parts = [given[name] for name in ("y", "y_train", "y_test") if name in given]
    seen = np.unique(np.concatenate(parts))
    if parts[0].dtype.kind == "U":
        return [np.searchsorted(seen, part).astype(np.int64) for part in parts], seen.tolist()
    low, high = int(seen[0]), int(seen[-1])
    if low != 0 or high != len(seen) - 1:
        gap = next((k for k, label in enumerate(seen.tolist()) if k != label), high)
        raise DataError(f"labels go from {low} to {high} and none is {gap}: must be 0 to classes - 1 without gaps")
    return [part.astype(np.int64) for part in parts], _numbered(len(seen))


def _samples(array: "np.ndarray", name: str) -> "np.ndarray":
    """Signals as (n, 1, length), images as (n, c, h, w)."""
    import numpy as np

    shape = array.shape
    if array.dtype.kind not in "iuf":
        raise DataError(f"{name} is of type {array.dtype}: must be numbers")
    if array.ndim < 2 or array.ndim > 4 or 0 in shape[1:]:
        raise DataError(f"{name} has shape {shape}: must be (n, length), (n, h, w), (n, c, h, w) or (n, h, w, c)")
    if not len(array):
        raise DataError(f"{name} has no rows")
    if array.ndim == 2 or (array.ndim == 3 and shape[1] == 1):
        return _finite(array.reshape(len(array), 1, -1), name)
    if array.ndim == 3:
        array = array[:, None]
    elif shape[1] not in (1, 3):
        if shape[3] not in (1, 3):
            raise DataError(f"{name} has shape {shape}: images have 1 or 3 channels, second or last")
        array = np.moveaxis(array, 3, 1)
    if array.dtype == np.uint8:
        return np.ascontiguousarray(array)
    low, high = array.min(), array.max()
    if array.dtype.kind != "f":
        raise DataError(f"{name} is {array.dtype}, from {low} to {high}: images must be uint8, or floats 0 to 1")
    array = _finite(array, name)
    if low < -1e-6 or high > 1 + 1e-6:  # rounding is let through
        raise DataError(f"{name} goes from {low:.4g} to {high:.4g}: images must be uint8, or floats from 0 to 1")
    return array.clip(0, 1)


def _finite(array: "np.ndarray", name: str) -> "np.ndarray":
    """In single precision."""
    import numpy as np

    with np.errstate(over="ignore"):
        single = np.ascontiguousarray(array, dtype=np.float32)
    bad = int((~np.isfinite(single)).sum())
    if bad:
        raise DataError(f"{name} holds {bad:,} values that are nan or infinite in single precision")
    return single


def _whole(samples: Mapping[str, "np.ndarray"], labels: Sequence["np.ndarray"], names: Sequence[str]) -> Arrays:
    """The checked data set, split where it came without a split. samples: x, or x_train and x_test."""
    import numpy as np

    parts = [samples[name] for name in ("x", "x_train", "x_test") if name in samples]
    for name, x, y in zip([n for n in ("x", "x_train", "x_test") if n in samples], parts, labels, strict=True):
        if len(x) != len(y):
            raise DataError(f"{name} has {len(x):,} rows and {name.replace('x', 'y')} {len(y):,}: must be as many")
    if len(names) < 2:
        raise DataError("all labels are of one class: must be 2 classes or more")
    _fits([x.shape for x in parts], "the whole")
    for name in names:
        if not name.strip() or "$" in name or not name.isprintable():
            raise DataError(f"the class {name!r} cannot stand on a figure: must be printable text without $")
    if len(parts) == 1:
        train, test = _split(labels[0], names)
        parts, labels = [parts[0][train], parts[0][test]], [labels[0][train], labels[0][test]]
    if parts[0].shape[1:] != parts[1].shape[1:] or parts[0].dtype != parts[1].dtype:
        first, second = (f"{' x '.join(map(str, x.shape[1:]))} in {x.dtype}" for x in parts)
        raise DataError(f"training samples are {first}, test samples {second}: must be alike")
    counts = np.bincount(labels[0], minlength=len(names))
    if counts.min() < 2:
        rare = names[int(counts.argmin())]
        raise DataError(f"{rare} has {counts.min()} training rows: must be 2 or more of each class")
    return Arrays(parts[0], labels[0], parts[1], labels[1], np.array(names))


def _split(y: "np.ndarray", names: Sequence[str]) -> tuple["np.ndarray", "np.ndarray"]:
    """Rows for training and for testing: of each class a fifth for testing, by one fixed permutation."""
    import numpy as np

    order = np.random.RandomState(0).permutation(len(y))  # NumPy holds its numbers fixed for good
    rank = np.zeros(len(y), np.int64)
    for k, name in enumerate(names):
        rows = order[y[order] == k]
        if len(rows) < 3:
            raise DataError(f"{name} has {len(rows)} rows: must be 3 or more of each class, to split them")
        rank[rows] = np.arange(len(rows))
    test = rank[order] % SPLIT == 0
    return order[~test], order[test]


# --- a folder of pictures ---------------------------------------------------------------------------------------------


def _from_images(folder: Path) -> Arrays:
    import numpy as np

    if not folder.is_dir():
        raise DataError(f"is {'a file' if folder.is_file() else 'not there'}: must be a folder with one folder a class")
    tops = {entry.name: entry for entry in _entries(folder) if entry.is_dir()}
    if set(tops) == {"train", "test"} and not any(e.is_file() for top in tops.values() for e in _entries(top)):
        found = {f"x_{name}": _classes(tops[name], f"{name}/") for name in ("train", "test")}
    else:
        found = {"x": _classes(folder)}
    names = sorted({name for classes in found.values() for name in classes})
    files = [(part, name, path) for part, classes in found.items() for name, at in classes.items() for path in at]
    shown = {path: path.relative_to(folder).as_posix() for _, _, path in files}
    pictures = _pictures([path for _, _, path in files], shown)
    colour = any(picture.ndim == 3 for picture in pictures.values())
    samples, labels = {}, []
    for part, classes in found.items():
        rows = []
        for name, paths in classes.items():
            given = [_channels(pictures[path], colour) for path in paths]
            # by their content, so that what files are called does not matter
            rows += [(names.index(name), x) for x in sorted(given, key=lambda x: hashlib.sha256(x.tobytes()).digest())]
        samples[part], y = np.stack([x for _, x in rows]), np.array([k for k, _ in rows])
        labels.append(y)
    return _whole(samples, labels, names)


def _entries(folder: Path) -> Iterator[Path]:
    """What a folder shows, in a fixed order."""
    return (e for e in sorted(folder.iterdir()) if not e.name.startswith(".") and e.name not in PASSED)


def _classes(folder: Path, place: str = "") -> dict[str, list[Path]]:
    """The files of each class, a folder a class; loose files beside these folders have no part in it."""
    found: dict[str, list[Path]] = {}
    entries = [entry for entry in _entries(folder) if entry.is_dir()]
    if len(entries) < 2:
        raise DataError(f"{place or 'the folder'} has {len(entries)} folders in it: must be one a class, 2 or more")
    for entry in entries:
        name = unicodedata.normalize("NFC", entry.name)
        alike = [other for other in found if other.casefold() == name.casefold()]
        if alike:
            raise DataError(
                f"classes {place}{alike[0]} and {place}{name} differ in case alone: rename one or join them"
            )
        found[name] = list(_entries(entry))
        if not found[name]:
            raise DataError(f"{place}{name} holds no pictures")
        for path in found[name]:
            if not path.is_file():
                what = "a folder" if path.is_dir() else "no file, or a link to none"
                raise DataError(f"{place}{name}/{path.name} is {what}: a class's folder must hold pictures alone")
    return found


def _pictures(paths: Sequence[Path], shown: Mapping[Path, str]) -> dict[Path, "np.ndarray"]:
    """Every picture as (h, w) or (h, w, 3) bytes; all must be of one size."""
    found: dict[Path, np.ndarray] = {}
    for path in paths:
        found[path] = picture = _picture(path, shown[path])
        first = found[paths[0]]
        if picture.shape[:2] != first.shape[:2]:
            sizes = [f"{shown[p]} is {found[p].shape[1]} x {found[p].shape[0]}" for p in (path, paths[0])]
            raise DataError(f"{', '.join(sizes)} (width x height): all must be of one size")
        _fits([(len(paths), *picture.shape)], "the whole")
    return found


def _picture(path: Path, shown: str) -> "np.ndarray":
    from PIL import Image, ImageOps

    try:
        with warnings.catch_warnings():  # of odd metadata, which do not count
            warnings.simplefilter("ignore")
            with Image.open(path, formats=FORMATS) as image:
                frames = 1 if image.format in ("JPEG", "MPO") else getattr(image, "n_frames", 1)
                _fits([(image.height, image.width)], shown)
                image.load()
                upright = ImageOps.exif_transpose(image)
                if frames == 1 and upright.mode != "F":
                    return _bytes(upright)
    except DataError:
        raise
    except (*UNREADABLE, Image.DecompressionBombError, TypeError, IndexError, KeyError) as error:
        kinds = ", ".join(FORMATS)
        raise DataError(f"{shown} is not a picture that can be read: must be a whole one of {kinds}") from error
    if frames > 1:
        raise DataError(f"{shown} has {frames} frames: must be one picture")
    raise DataError(f"{shown} has pixels of kind {upright.mode}: must have 8 or 16 bits")


def _bytes(image: "Image") -> "np.ndarray":
    """(h, w) of a grey picture, (h, w, 3) of any other, in uint8; what shines through is white."""
    import numpy as np
    from PIL import Image

    if image.mode.startswith("I"):  # 16 bits, which Pillow would cut off at 255
        values = np.asarray(image).astype(np.int64)
        if values.min() < 0 or values.max() > 65535:
            raise ValueError("more than 16 bits")
        return ((values + 128) // 257).astype(np.uint8)
    grey = image.mode in ("1", "L", "LA", "La")
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        white.alpha_composite(image.convert("RGBA"))
        image = white.convert("RGB")
    return np.array(image.convert("L" if grey else "RGB"))


def _channels(picture: "np.ndarray", colour: bool) -> "np.ndarray":
    """(c, h, w): of grey pictures among coloured ones all three channels the same."""
    import numpy as np

    rows: Any = picture[None] if picture.ndim == 2 else picture.transpose(2, 0, 1)
    return np.ascontiguousarray(np.repeat(rows, 3, 0) if colour and len(rows) == 1 else rows)
