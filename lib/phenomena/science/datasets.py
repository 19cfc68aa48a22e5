"""Data sets of images and signals as whole tensors.

Downloads and caches live in the folder named by the environment variable `PHENOMENA_DATA`
(default: `~/.cache/phenomena`). Nothing is downloaded when a verified copy is at hand. Each set's package is imported
where it is needed: together they take as long to import as torch.
"""

import gzip
import hashlib
import random
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from phenomena import own_data
from phenomena.own_data import DataError

CACHE = own_data.cache()
DEBIAN_FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")  # package dataset-fashion-mnist

# sha256 of the uncompressed idx files: the compressed ones differ between distributors.
FASHION_MNIST_SHA256 = {
    "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}


@dataclass(frozen=True)
class Dataset:
    """Inputs and labels of one data set, training and test rows apart.

    A sample is (1, length) for signals, (channels, h, w) with values in [0, 1] for images, in float32; labels are
    0 .. classes - 1, in int64. names: what the classes are called, where the data say.

    >>> data = digits()
    >>> tuple(data.x_train.shape), data.classes
    ((1297, 1, 8, 8), 10)
    """

    x_train: Float[Tensor, "n *sample"]
    y_train: Int[Tensor, " n"]
    x_test: Float[Tensor, "m *sample"]
    y_test: Int[Tensor, " m"]
    classes: int
    names: tuple[str, ...] = ()

    def to(self, device: str | torch.device) -> "Dataset":
        """The same rows on another device.

        >>> digits().to("cpu").y_train.device.type
        'cpu'
        """
        x_train, y_train, x_test, y_test = (
            t.to(device) for t in (self.x_train, self.y_train, self.x_test, self.y_test)
        )
        return replace(self, x_train=x_train, y_train=y_train, x_test=x_test, y_test=y_test)


def mnist1d() -> Dataset:
    """MNIST-1D: 4,000 + 1,000 signals of 40 points, generated (Greydanus and Kobak 2024, seed 42).

    >>> tuple(mnist1d().x_train.shape)
    (4000, 1, 40)
    """
    from mnist1d.data import get_dataset_args, make_dataset

    # The generator seeds the global states: put them back, so that loading data changes nobody's randomness.
    states = random.getstate(), np.random.get_state()
    try:
        raw = make_dataset(get_dataset_args())
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
    x_train, x_test = (torch.tensor(raw[k], dtype=torch.float32).unsqueeze(1) for k in ("x", "x_test"))
    y_train, y_test = (torch.tensor(raw[k], dtype=torch.int64) for k in ("y", "y_test"))
    return Dataset(x_train, y_train, x_test, y_test, classes=10)


def digits() -> Dataset:
    """scikit-learn's 8 x 8 digits: 1,297 + 500 images, split by a fixed permutation.

    >>> tuple(digits().x_test.shape)
    (500, 1, 8, 8)
    """
    from sklearn.datasets import load_digits

    raw = load_digits()
    x = torch.tensor(raw.images, dtype=torch.float32).div(16).unsqueeze(1)
    y = torch.tensor(raw.target, dtype=torch.int64)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    train, test = order[:-500], order[-500:]
    return Dataset(x[train], y[train], x[test], y[test], classes=10)


def fashion_mnist() -> Dataset:
    """Fashion-MNIST: 60,000 + 10,000 grey images of 28 x 28 (Xiao et al. 2017).

    Looks in the cache, then in the folder of Debian's and Ubuntu's package, then downloads through torchvision.
    Every file is checked by sha256. Raises `DataError`, which names the file, when it is in none of the three.
    """
    cached = CACHE / "FashionMNIST" / "raw"
    folders = [folder for folder in (cached, DEBIAN_FASHION_MNIST) if folder.is_dir()]
    files = {name: find_idx(name, folders) for name in FASHION_MNIST_SHA256}
    missing = [name for name, content in files.items() if content is None]
    if missing:
        from torchvision.datasets import FashionMNIST

        try:
            FashionMNIST(str(CACHE), download=True)
        except Exception as error:  # torchvision raises many kinds; all mean: no file
            raise DataError(
                f"Fashion-MNIST: no {missing[0]}[.gz] in {cached} or {DEBIAN_FASHION_MNIST}, and the download "
                f"failed ({_in_a_line(error)}). Install the package dataset-fashion-mnist (Debian, Ubuntu), or put the "
                f"four files into {cached}."
            ) from error
        files = {name: find_idx(name, [cached]) for name in FASHION_MNIST_SHA256}
    parts = [read_idx(content) for content in files.values() if content is not None]
    x_train, y_train, x_test, y_test = parts
    return Dataset(_pixels(x_train), y_train.long(), _pixels(x_test), y_test.long(), classes=10)


def cifar10() -> Dataset:
    """CIFAR-10: 50,000 + 10,000 colour images of 32 x 32, through torchvision (which checks and downloads)."""
    from torchvision.datasets import CIFAR10

    try:
        train, test = (CIFAR10(str(CACHE), train=part, download=True) for part in (True, False))
    except Exception as error:
        raise DataError(
            f"CIFAR-10: no verified copy in {CACHE / CIFAR10.base_folder} and the download failed "
            f"({_in_a_line(error)}). Unpack {CIFAR10.filename} into {CACHE}."
        ) from error
    x = [torch.tensor(part.data).permute(0, 3, 1, 2).float().div(255) for part in (train, test)]
    y = [torch.tensor(part.targets) for part in (train, test)]
    return Dataset(x[0], y[0], x[1], y[1], classes=10)


def geomnist(classes: int = 10, train: int = 1000, test: int = 200, seed: int = 0) -> Dataset:
    """GeoMNIST: grey images of 32 x 32 of up to ten plane shapes, generated (`geomnist`); by default 10,000 + 2,000.

    train, test: images of each class. Raises `ValueError` for counts that `geomnist.generate` refuses.

    >>> data = geomnist(classes=3, train=2, test=1)
    >>> tuple(data.x_train.shape), data.y_test.tolist()
    ((6, 1, 32, 32), [1, 2, 0])
    """
    from phenomena.science import geomnist as shapes

    generator = torch.Generator().manual_seed(seed)
    x_train, y_train = shapes.generate(train, classes, generator)
    x_test, y_test = shapes.generate(test, classes, generator)
    return Dataset(x_train, y_train, x_test, y_test, classes, tuple(shapes.SHAPES)[:classes])


def own(name: str) -> Dataset:
    """One's own data, `npz:FILE` or `images:FOLDER` or the name that `own_data.settle` gives them.

    Raises `DataError` for whatever is wrong with them.

    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / "mine.npz"
    >>> np.savez(file, x=np.zeros((40, 8, 8), np.uint8), y=np.repeat([0, 1], 20))
    >>> own(f"npz:{file}").classes
    2
    """
    arrays = own_data.load(name)
    x_train, x_test = (
        torch.from_numpy(x).float().div(255) if x.dtype == np.uint8 else torch.from_numpy(x)
        for x in (arrays.x_train, arrays.x_test)
    )
    y_train, y_test = (torch.from_numpy(y) for y in (arrays.y_train, arrays.y_test))
    return Dataset(x_train, y_train, x_test, y_test, len(arrays.names), tuple(arrays.names.tolist()))


DATASETS: dict[str, Callable[[], Dataset]] = {
    "mnist1d": mnist1d,
    "digits": digits,
    "geomnist": geomnist,
    "fashion_mnist": fashion_mnist,
    "cifar10": cifar10,
}


def load(name: str) -> Dataset:
    """The data set of that name, or one's own data (`own`), whole.

    Raises `ValueError` for an unknown name, `DataError` without its files.

    >>> load("digits").classes
    10
    >>> list(DATASETS)
    ['mnist1d', 'digits', 'geomnist', 'fashion_mnist', 'cifar10']
    """
    if own_data.named(name):
        return own(name)
    if name not in DATASETS:
        raise ValueError(f"data set {name!r} is not known: one of {', '.join(DATASETS)}, npz:FILE or images:FOLDER")
    return DATASETS[name]()


def _in_a_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


def find_idx(name: str, folders: list[Path]) -> bytes | None:
    """The uncompressed bytes of the first `name` or `name.gz` in the folders; `None` where there is none.

    Raises `DataError` when a file is there but its sha256 is not the expected one.

    >>> find_idx("train-labels-idx1-ubyte", folders=[]) is None
    True
    """
    for path in (folder / f"{name}{suffix}" for folder in folders for suffix in ("", ".gz")):
        if not path.is_file():
            continue
        try:
            content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        except (OSError, EOFError, zlib.error) as error:
            raise DataError(f"{path} cannot be read ({error}): remove it and fetch it again") from error
        found = hashlib.sha256(content).hexdigest()
        if found != FASHION_MNIST_SHA256[name]:
            raise DataError(
                f"{path} is not the expected file: its content has sha256 {found[:12]}…, expected "
                f"{FASHION_MNIST_SHA256[name][:12]}…; remove it and fetch it again, or install dataset-fashion-mnist"
            )
        return content
    return None


def read_idx(content: bytes) -> UInt8[Tensor, "..."]:
    """An idx file of unsigned bytes, in the shape its header says. Raises `ValueError` for another file.

    >>> read_idx(bytes([0, 0, 8, 1, 0, 0, 0, 2, 7, 9])).tolist()  # one axis of length 2
    [7, 9]
    """
    if content[:3] != b"\0\0\x08":
        raise ValueError(f"not an idx file of unsigned bytes: starts with {content[:4]!r}")
    dimensions = np.frombuffer(content, ">i4", count=content[3], offset=4)
    data = np.frombuffer(content, np.uint8, offset=4 + 4 * content[3])
    return torch.from_numpy(data.reshape(dimensions.tolist()).copy())


def _pixels(images: UInt8[Tensor, "n h w"]) -> Float[Tensor, "n 1 h w"]:
    return images.float().div(255).unsqueeze(1)


def subset(data: Dataset, train: int, test: int, generator: torch.Generator) -> Dataset:
    """The data set with `train` and `test` rows drawn without replacement.

    Raises `ValueError` when there are fewer rows than asked for.

    >>> import torch
    >>> g = torch.Generator().manual_seed(0)
    >>> few = subset(digits(), train=100, test=50, generator=g)
    >>> len(few.y_train), len(few.y_test)
    (100, 50)
    """
    rows = []
    for part, wanted, labels in (("training", train, data.y_train), ("test", test, data.y_test)):
        if not 0 < wanted <= len(labels):
            raise ValueError(f"{part} rows: {wanted} asked for, 1 to {len(labels)} are there")
        rows.append(torch.randperm(len(labels), generator=generator)[:wanted].to(labels.device))
    x_train, y_train = (t[rows[0]] for t in (data.x_train, data.y_train))
    x_test, y_test = (t[rows[1]] for t in (data.x_test, data.y_test))
    return replace(data, x_train=x_train, y_train=y_train, x_test=x_test, y_test=y_test)
