"""Data sets: real files where the machine has them, files made here for the paths that need others."""

import gzip
import hashlib
import pickle

import numpy as np
import pytest
import torch

from phenomena.science import datasets


def idx(array: np.ndarray) -> bytes:
    header = b"\0\0\x08" + bytes([array.ndim]) + np.array(array.shape, ">i4").tobytes()
    return header + array.astype(np.uint8).tobytes()


@pytest.fixture
def no_network(monkeypatch, tmp_path):
    """An empty cache, no package folder, and a torchvision download that fails as without a network."""

    def refuse(*args, **kwargs):
        raise RuntimeError("no network")

    monkeypatch.setattr(datasets, "CACHE", tmp_path)
    monkeypatch.setattr(datasets, "DEBIAN_FASHION_MNIST", tmp_path / "absent")
    monkeypatch.setattr("torchvision.datasets.FashionMNIST.download", refuse)
    monkeypatch.setattr("torchvision.datasets.CIFAR10.download", refuse)
    return tmp_path


@pytest.fixture
def small_fashion(monkeypatch, no_network):
    """Four small idx files in the cache, with their checksums as the expected ones."""
    rng = np.random.default_rng(0)
    arrays = [rng.integers(0, 256, (6, 28, 28)), np.arange(6), rng.integers(0, 256, (4, 28, 28)), np.arange(4)]
    folder = no_network / "FashionMNIST" / "raw"
    folder.mkdir(parents=True)
    contents = dict(zip(datasets.FASHION_MNIST_SHA256, map(idx, arrays), strict=True))
    for name, content in contents.items():
        (folder / f"{name}.gz").write_bytes(gzip.compress(content))
    sums = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    monkeypatch.setattr(datasets, "FASHION_MNIST_SHA256", sums)
    return folder, arrays


def test_mnist1d_is_the_published_set_and_leaves_global_randomness_alone():
    np.random.seed(7)
    expected = np.random.rand(3)
    np.random.seed(7)
    data = datasets.mnist1d()
    assert (np.random.rand(3) == expected).all()
    assert data.x_train.shape == (4000, 1, 40) and data.x_test.shape == (1000, 1, 40)
    assert data.x_train.dtype == torch.float32 and data.y_train.dtype == torch.int64
    # first labels and first value of the set published with the paper (seed 42)
    assert data.y_train[:5].tolist() == [2, 6, 4, 5, 6]
    assert torch.equal(data.x_train, datasets.mnist1d().x_train)


def test_digits_are_split_without_overlap():
    data = datasets.digits()
    assert len(data.x_train) + len(data.x_test) == 1797
    assert data.x_train.min() >= 0 and data.x_train.max() == 1


def test_fashion_mnist_reads_what_the_files_hold(small_fashion):
    _, arrays = small_fashion
    data = datasets.load("fashion_mnist")
    assert torch.equal(data.x_train.mul(255).round().squeeze(1), torch.tensor(arrays[0]).float())
    assert data.y_test.tolist() == [0, 1, 2, 3]


def test_fashion_mnist_refuses_a_wrong_checksum_and_names_the_file(small_fashion):
    path = small_fashion[0] / "train-labels-idx1-ubyte.gz"
    path.write_bytes(gzip.compress(b"something else"))
    with pytest.raises(datasets.DataError, match=r"train-labels-idx1-ubyte.gz is not the expected file.*sha256"):
        datasets.fashion_mnist()


def test_fashion_mnist_refuses_a_cut_file(small_fashion):
    path = small_fashion[0] / "train-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(datasets.DataError, match=r"train-images-idx3-ubyte.gz cannot be read"):
        datasets.fashion_mnist()


def test_fashion_mnist_refuses_a_damaged_file(small_fashion):
    path = small_fashion[0] / "train-images-idx3-ubyte.gz"
    whole = path.read_bytes()
    for at in (20, len(whole) // 2, len(whole) - 6):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 255]) + whole[at + 1 :])
        with pytest.raises(datasets.DataError, match=r"train-images-.* (cannot be read|is not the expected)"):
            datasets.fashion_mnist()


def test_a_download_that_fails_in_many_lines_is_told_in_one(no_network, monkeypatch):
    """Reports quote the first line alone, and what to do stands at the end."""

    def refuse(*_args, **_options):
        raise RuntimeError("Error downloading a:\nTried b, got:\n<urlopen error>\n")

    for kind in ("FashionMNIST", "CIFAR10"):
        monkeypatch.setattr(f"torchvision.datasets.{kind}.download", refuse)
    for name in ("fashion_mnist", "cifar10"):
        with pytest.raises(datasets.DataError) as error:
            datasets.load(name)
        assert "\n" not in str(error.value) and "Error downloading a: Tried b, got" in str(error.value)


def test_a_damaged_cifar10_is_not_read(monkeypatch, no_network):
    make_cifar10(monkeypatch, no_network, rows=4)
    path = no_network / "cifar-10-batches-py" / "data_batch_3"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(datasets.DataError, match=r"no verified copy in .*cifar-10-batches-py .*Unpack cifar-10-python"):
        datasets.load("cifar10")


def test_own_data_become_a_data_set(monkeypatch, tmp_path):
    monkeypatch.setenv("PHENOMENA_DATA", str(tmp_path))
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (12, 6, 5, 3), dtype=np.uint8), np.array(["b", "a"])[np.arange(12) % 2]
    np.savez(tmp_path / "my.npz", x_train=x[:8], y_train=y[:8], x_test=x[8:], y_test=y[8:])
    data = datasets.load(f"npz:{tmp_path}/my.npz")
    assert torch.equal(data.x_train, torch.tensor(x[:8]).permute(0, 3, 1, 2).float() / 255)
    assert data.names == ("a", "b") and data.classes == 2 and data.y_test.tolist() == [1, 0, 1, 0]
    few = datasets.subset(data.to("cpu"), 3, 2, torch.Generator().manual_seed(0))
    assert few.names == data.names and len(few.y_train) == 3
    with pytest.raises(datasets.DataError, match=r"gone\.npz: is not there"):
        datasets.load("npz:gone.npz")
    with pytest.raises(ValueError, match=r"'gone.npz' is not known: one of mnist1d, .*, npz:FILE or images:FOLDER"):
        datasets.load("gone.npz")


def test_missing_data_name_the_ways_to_get_them(no_network):
    with pytest.raises(datasets.DataError, match="dataset-fashion-mnist"):
        datasets.load("fashion_mnist")
    with pytest.raises(datasets.DataError, match=r"cifar-10-python\.tar\.gz"):
        datasets.load("cifar10")


@pytest.mark.skipif(not datasets.DEBIAN_FASHION_MNIST.is_dir(), reason="package dataset-fashion-mnist not installed")
def test_real_fashion_mnist():
    data = datasets.fashion_mnist()
    assert data.x_train.shape == (60000, 1, 28, 28) and data.x_test.shape == (10000, 1, 28, 28)
    assert torch.bincount(data.y_train).tolist() == [6000] * 10


def test_cifar10_is_read_through_torchvision(monkeypatch, tmp_path):
    make_cifar10(monkeypatch, tmp_path, rows=4)
    data = datasets.load("cifar10")
    assert data.x_train.shape == (20, 3, 32, 32) and data.x_test.shape == (4, 3, 32, 32)
    assert data.x_train.max() <= 1 and data.classes == 10


def make_cifar10(monkeypatch, folder, rows):
    """A folder of generated images in CIFAR-10's own format, with torchvision's checksums set to it."""
    from torchvision.datasets import CIFAR10

    rng = np.random.default_rng(0)
    base = folder / "cifar-10-batches-py"
    base.mkdir()

    def write(name, content):
        data = pickle.dumps(content)
        (base / name).write_bytes(data)
        return [name, hashlib.md5(data).hexdigest()]

    def batch(name):
        images = rng.integers(0, 256, (rows, 3072), dtype=np.uint8)
        return write(name, {"data": images, "labels": [i % 10 for i in range(rows)]})

    monkeypatch.setattr(datasets, "CACHE", folder)
    monkeypatch.setattr(CIFAR10, "train_list", [batch(f"data_batch_{i}") for i in range(1, 6)])
    monkeypatch.setattr(CIFAR10, "test_list", [batch("test_batch")])
    name, md5 = write("batches.meta", {"label_names": [str(i) for i in range(10)]})
    monkeypatch.setattr(CIFAR10, "meta", {"filename": name, "key": "label_names", "md5": md5})


def test_unknown_name():
    with pytest.raises(ValueError, match="'minst' is not known: one of mnist1d"):
        datasets.load("minst")


def test_subset_draws_distinct_rows_and_keeps_pairs():
    data = datasets.digits()
    part = datasets.subset(data, 100, 50, torch.Generator().manual_seed(0))
    assert len(part.x_train) == 100 and len(part.x_test) == 50
    matches = (part.x_train.flatten(1)[:, None] == data.x_train.flatten(1)[None]).all(2)
    rows = matches.float().argmax(1)
    assert torch.equal(data.y_train[rows], part.y_train)
    with pytest.raises(ValueError, match="training rows: 1298 asked for, 1 to 1297 are there"):
        datasets.subset(data, 1298, 50, torch.Generator())
    with pytest.raises(ValueError, match="test rows: 0 asked for, 1 to 500 are there"):
        datasets.subset(data, 10, 0, torch.Generator())
