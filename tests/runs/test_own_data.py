"""One's own data: which files are taken, every way they can be wrong, and what keys and records say of them."""

import doctest
import json
import os
import shutil
import zipfile
from pathlib import Path

import nbformat
import numpy as np
import papermill
import pytest
from conftest import IMPORTS, PARAMETERS, Command, values_of, write_chapter
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from phenomena import own_data
from phenomena.own_data import Arrays, DataError, digest, load, settle
from phenomena.runs.contract.errors import BadInput
from phenomena.runs.contract.parameters import check, read_declaration
from phenomena.runs.execute import kernels, sweep
from phenomena.runs.store import keys, runs
from phenomena.runs.store.chapters import Project

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (12, 6, 5), dtype=np.uint8)
SIGNALS = RNG.normal(size=(12, 7))
LABELS = np.arange(12) % 3


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """An empty folder to stand in, and a data cache of its own."""
    monkeypatch.setenv("PHENOMENA_DATA", str(tmp_path / "cache"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    own_data._kept.cache_clear()
    return tmp_path


def npz(name="my.npz", **arrays):
    np.savez(name, **arrays)
    return f"npz:{name}"


def folder(name="photos", classes=("cat", "dog"), each=4, size=(6, 5), pixels=3, seed=0):
    """A folder of PNG files, a folder a class."""
    rng = np.random.default_rng(seed)
    for label in classes:
        Path(name, label).mkdir(parents=True)
        for i in range(each):
            shape = (size[1], size[0], 3) if pixels == 3 else (size[1], size[0])
            Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8)).save(Path(name, label, f"{i}.png"))
    return f"images:{name}"


def refused(name):
    with pytest.raises(DataError) as error:
        settle(name)
    message = str(error.value)
    assert "\n" not in message and str(Path.cwd()) not in message and len(message) < 250
    assert not list(Path("../cache").rglob("*"))  # nothing half-made is kept
    return message


def test_examples():
    assert doctest.testmod(own_data).failed == 0 < doctest.testmod(own_data).attempted


# --- what is taken ----------------------------------------------------------------------------------------------------


def test_arrays_are_found_by_their_digest_wherever_they_lay(place):
    name = settle(npz(x=IMAGES, y=LABELS))
    assert own_data.CANONICAL.fullmatch(name) and name.startswith("npz:my.npz@")
    Path("my.npz").unlink()
    os.chdir(place)
    assert settle(name) == name
    data = load(name)
    assert data.x_train.dtype == np.uint8 and data.x_train.shape[1:] == (1, 6, 5)
    assert data.names.tolist() == ["class 0", "class 1", "class 2"]
    both = np.concatenate([data.x_train, data.x_test])[:, 0]
    assert sorted(map(bytes, both)) == sorted(map(bytes, IMAGES))  # every row once
    assert np.bincount(data.y_test).tolist() == [1, 1, 1]  # a fifth of each class, rounded up
    rows = {bytes(x): y for x, y in zip(IMAGES, LABELS, strict=True)}
    assert [rows[bytes(x[0])] for x in data.x_test] == data.y_test.tolist()  # each with its label


@pytest.mark.parametrize(
    ("x", "shape", "kind"),
    [
        (SIGNALS, (1, 7), "float32"), (SIGNALS[:, None], (1, 7), "float32"), (SIGNALS.astype(int), (1, 7), "float32"),
        (SIGNALS.astype(np.float16), (1, 7), "float32"), (SIGNALS.astype(">f8"), (1, 7), "float32"),
        (IMAGES, (1, 6, 5), "uint8"), (IMAGES[:, None], (1, 6, 5), "uint8"), (IMAGES[..., None], (1, 6, 5), "uint8"),
        (IMAGES / 255, (1, 6, 5), "float32"), (np.stack([IMAGES] * 3, 1), (3, 6, 5), "uint8"),
        (np.stack([IMAGES] * 3, 3), (3, 6, 5), "uint8"),
    ],
)  # fmt: skip
def test_shapes_and_types_that_are_taken(x, shape, kind):
    data = load(settle(npz(x=x, y=LABELS)))
    assert data.x_train.shape[1:] == shape and data.x_train.dtype == kind
    assert np.allclose(np.sort(data.x_train.ravel()), np.sort(data.x_train.ravel().astype(kind)))


def test_a_split_of_ones_own_is_kept_and_labels_may_be_words():
    words = np.array(["pear", "apple", "fig"])
    name = npz(x_train=SIGNALS[:9], y_train=words[LABELS[:9]], x_test=SIGNALS[9:], y_test=words[LABELS[9:]])
    data = load(settle(name))
    assert data.names.tolist() == ["apple", "fig", "pear"]
    assert data.names[data.y_test].tolist() == words[LABELS[9:]].tolist()
    assert np.array_equal(data.x_train[:, 0], SIGNALS[:9].astype(np.float32))


@given(st.integers(0, 2**32), st.booleans(), st.booleans())
def test_the_digest_depends_on_the_content_alone(seed, images, words):
    rng = np.random.default_rng(seed)
    x = rng.random((9, 4, 3)) if images else rng.normal(size=(9, 4))
    y = np.array(["a", "b", "c"])[np.arange(9) % 3] if words else np.arange(9) % 3
    first = own_data._from_npz(Path(npz("one.npz", x=x, y=y).partition(":")[2]))
    Path("deep er").mkdir(exist_ok=True)
    np.savez_compressed("deep er/twö.npz", y=y, x=np.asfortranarray(x).astype(">f8"))
    again = own_data._from_npz(Path("deep er/twö.npz"))
    assert digest(first) == digest(again)
    changed = x.copy()
    changed[tuple(rng.integers(0, s) for s in x.shape)] += -0.125 if changed.max() > 0.5 else 0.125
    changed = changed.clip(0, 1) if images else changed
    for other in ({"x": changed, "y": y}, {"x": x, "y": np.roll(y, 1)}, {"x": x[::-1], "y": y[::-1]}):
        if all(np.array_equal(other[name], whole) for name, whole in (("x", x), ("y", y))):
            continue
        found = own_data._from_npz(Path(npz("three.npz", **other).partition(":")[2]))
        assert digest(found) != digest(first)


def test_files_of_a_folder_may_have_any_names_order_and_packing():
    name = settle(folder())
    Path("other").mkdir()
    shutil.copytree("photos", "other/photos")
    for i, path in enumerate(sorted(Path("other/photos").rglob("*.png"), reverse=True)):
        with Image.open(path) as image:  # named in another order, packed otherwise, with metadata
            image.save(path.with_name(f"{i:03} é.bmp") if i % 2 else path.with_name(f"z {i}.png"), dpi=(72, 72))
        path.unlink()
    Path("other/photos/.DS_Store").write_text("left")
    Path("other/photos/cat/Thumbs.db").write_text("left")
    Path("other/photos/README.txt").write_text("beside the classes")
    Path("other/link").symlink_to("photos")
    assert settle("images:other/photos") == name
    assert settle("images:other/link").rpartition("@")[2] == name.rpartition("@")[2]
    first = next(Path("photos/cat").iterdir())
    first.replace(Path("photos/dog", f"moved {first.name}"))
    assert settle("images:photos") != name


def test_train_and_test_may_be_folders():
    folder("set/train", each=3)
    folder("set/test", each=2, seed=1)
    data = load(settle("images:set"))
    assert (len(data.y_train), len(data.y_test)) == (6, 4) and data.names.tolist() == ["cat", "dog"]


def test_pictures_of_every_kind_become_bytes():
    """Grey among colours has three equal channels; 16 bits are scaled, not cut; what shines through is white."""
    colour = RNG.integers(0, 256, (5, 6, 3), dtype=np.uint8)
    deep = np.linspace(0, 65535, 30).astype(np.uint16).reshape(5, 6)
    glass = np.dstack([np.zeros((5, 6, 3), np.uint8), np.full((5, 6), 51, np.uint8)])
    turned = Image.Exif()
    turned[0x0112] = 3  # by half a turn
    Path("k/a").mkdir(parents=True)
    Path("k/b").mkdir()
    Image.fromarray(deep).save("k/a/deep.png")
    Image.fromarray(glass).save("k/a/glass.png")
    Image.fromarray(colour).quantize(256).save("k/a/palette.gif")
    Image.fromarray(colour).save("k/b/turned.png", exif=turned)
    Image.fromarray(colour[..., 0]).save("k/b/grey.png")
    Image.fromarray(colour[..., 0] > 99).save("k/b/bit.tiff")
    found = own_data._from_images(Path("k"))
    rows = [x.transpose(1, 2, 0) for x in np.concatenate([found.x_train, found.x_test])]

    def there(picture):
        return any(np.array_equal(row, picture) for row in rows)

    assert there(np.dstack([np.round(deep / 257).astype(np.uint8)] * 3))
    assert there(np.full((5, 6, 3), 204, np.uint8))
    assert there(colour[::-1, ::-1])
    assert there(np.dstack([colour[..., 0]] * 3)) and there(np.dstack([255 * (colour[..., 0] > 99)] * 3))
    assert len(rows) == 6


def test_grey_pictures_alone_stay_grey():
    assert load(settle(folder(pixels=1))).x_train.shape[1:] == (1, 5, 6)


def test_odd_names_of_files_make_names_that_figures_and_shells_can_hold():
    np.savez("a $x$, 'b'@é.npz", x=SIGNALS, y=LABELS)
    assert settle("npz:a $x$, 'b'@é.npz").startswith("npz:a _x__ _b__é.npz@")
    assert settle(f"npz:{Path.cwd()}/../here/a $x$, 'b'@é.npz").startswith("npz:a _x__ _b__é.npz@")


# --- what is refused --------------------------------------------------------------------------------------------------

PLAIN = {"x": SIGNALS, "y": LABELS}


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"X": SIGNALS, "y": LABELS}, "holds the arrays X, y: must be x, y or x_train, y_train, x_test, y_test"),
        ({"x": SIGNALS}, "holds the arrays x: must be x, y or"),
        (PLAIN | {"z": LABELS}, "holds the arrays x, y, z: must be"),
        ({}, "holds the arrays none: must be"),
        (PLAIN | {"y": LABELS[:5]}, "x has 12 rows and y 5: must be as many"),
        (PLAIN | {"x": SIGNALS[:0]}, "x has no rows"),
        (PLAIN | {"y": LABELS[:0]}, "y has no rows"),
        (PLAIN | {"x": np.where(SIGNALS > 1, np.nan, SIGNALS)}, "values that are nan or infinite"),
        (PLAIN | {"x": SIGNALS * 1e39}, "values that are nan or infinite in single precision"),
        (PLAIN | {"x": SIGNALS[:, 0]}, "x has shape (12,): must be (n, length), (n, h, w), (n, c, h, w)"),
        (PLAIN | {"x": SIGNALS[:, :0]}, "x has shape (12, 0): must be"),
        (PLAIN | {"x": SIGNALS.reshape(12, 7, 1, 1, 1)}, "x has shape (12, 7, 1, 1, 1): must be"),
        (PLAIN | {"x": np.stack([IMAGES] * 2, 1)}, "x has shape (12, 2, 6, 5): images have 1 or 3 channels"),
        (PLAIN | {"x": IMAGES.astype(float)}, "x goes from 0 to 255: images must be uint8, or floats from 0 to 1"),
        (PLAIN | {"x": IMAGES / 127.5 - 1}, "x goes from -1 to 1: images must be uint8"),
        (PLAIN | {"x": IMAGES.astype(int)}, "x is int64, from 0 to 255: images must be uint8, or floats"),
        (PLAIN | {"x": SIGNALS.astype(complex)}, "x is of type complex128: must be numbers"),
        (PLAIN | {"x": SIGNALS.astype(str)}, "x is of type <U32: must be numbers"),
        (PLAIN | {"y": LABELS.astype(float)}, "y is of type float64: must be whole numbers from 0, or text"),
        (PLAIN | {"y": np.eye(3, dtype=int)[LABELS]}, "y has shape (12, 3): must be one label a row, (n,)"),
        (PLAIN | {"y": LABELS + 1}, "labels go from 1 to 3 and none is 0: must be 0 to classes - 1"),
        (PLAIN | {"y": LABELS * 2}, "labels go from 0 to 4 and none is 1: must be"),
        (PLAIN | {"y": LABELS - 1}, "labels go from -1 to 1 and none is"),
        (PLAIN | {"y": LABELS * 0}, "all labels are of one class: must be 2 classes or more"),
        (PLAIN | {"y": (np.arange(12) == 3).astype(int)}, "class 1 has 1 rows: must be 3 or more of each class"),
        (PLAIN | {"y": np.array(["a", "$b$", "c"])[LABELS]}, "the class '$b$' cannot stand on a figure"),
        (PLAIN | {"y": np.array(["a", "", "c"])[LABELS]}, "the class '' cannot stand on a figure"),
    ],
)  # fmt: skip
def test_wrong_arrays_are_refused_in_one_line(arrays, message):
    assert refused(npz(**arrays)).startswith("my.npz: ") and message in refused("npz:my.npz")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"y_test": np.array([0, 1, 2, 3, 3, 3])}, "class 3 has 0 training rows: must be 2 or more of each class"),
        ({"y_train": np.array([0, 0, 0, 1, 1, 2])}, "class 2 has 1 training rows"),
        ({"x_test": SIGNALS[6:, :6]}, "training samples are 1 x 7 in float32, test samples 1 x 6 in float32"),
        ({"x_test": IMAGES[6:]}, "training samples are 1 x 7 in float32, test samples 1 x 6 x 5 in uint8"),
        ({"y_test": np.array(["0", "1", "2"] * 2)}, "y_train and y_test: one is text, the other numbers"),
        ({"y_test": LABELS[:5]}, "x_test has 6 rows and y_test 5: must be as many"),
    ],
)
def test_wrong_splits_are_refused_in_one_line(changed, message):
    split = {"x_train": SIGNALS[:6], "y_train": LABELS[:6], "x_test": SIGNALS[6:], "y_test": LABELS[6:]}
    assert message in refused(npz(**(split | changed)))


def test_files_that_are_no_npz_are_refused_in_one_line(place):
    assert "my.npz: is not there: must be a file as numpy.savez writes it" in refused("npz:my.npz")
    Path("d.npz").mkdir()
    assert "d.npz: is a folder: must be a file" in refused("npz:d.npz")
    Path("loop.npz").symlink_to("loop.npz")
    assert "loop.npz: is not there" in refused("npz:loop.npz")
    Path("text.npz").write_text("x,y\n1,2\n")
    assert "text.npz: is not an npz file, or a damaged one" in refused("npz:text.npz")
    np.save("one.npy", SIGNALS)
    assert "one.npy: is not an npz file" in refused("npz:one.npy")
    with zipfile.ZipFile("z.npz", "w") as file:
        file.writestr("x.txt", "hello")
    assert "z.npz: holds 'x.txt', which is no array" in refused("npz:z.npz")
    assert "cannot be read" in refused("npz:a\0b")
    assert "cannot be read" in refused("npz:~no_such_user/x.npz")


def test_damaged_npz_files_are_refused_in_one_line():
    whole = Path(npz("whole.npz", x=IMAGES, y=LABELS).partition(":")[2]).read_bytes()
    for cut in (0, 10, 200, len(whole) // 2, len(whole) - 30):
        Path("cut.npz").write_bytes(whole[:cut])
        assert "cut.npz: is not an npz file, or a damaged one" in refused("npz:cut.npz")
    for at in (150, 300, 400):  # within the pixels
        Path(f"flip{at}.npz").write_bytes(whole[:at] + bytes([whole[at] ^ 255]) + whole[at + 1 :])
        assert "(Bad CRC-32 for file 'x.npy'): " in refused(f"npz:flip{at}.npz")


def test_pickles_are_not_opened(place):
    class Bomb:
        def __reduce__(self):
            return (Path(place / "burst").touch, ())

    bomb = np.array([Bomb()] * 12, dtype=object)
    assert "x holds pickled objects, which are not opened" in refused(npz(x=bomb, y=LABELS))
    assert "y holds pickled objects" in refused(npz("two.npz", x=SIGNALS, y=LABELS.astype(object)))
    assert not (place / "burst").exists()


def test_data_too_large_for_a_run_are_refused_before_they_are_read(monkeypatch):
    name = npz(**PLAIN)
    monkeypatch.setattr(np, "load", None)
    monkeypatch.setattr(own_data, "LIMIT", 300)
    assert "x takes 0.0 GB in single precision: must be at most 3e-07" in refused(name)
    assert "0.png takes" in refused(folder(size=(20, 20)))
    monkeypatch.setattr(own_data, "LIMIT", 20 * 20 * 3 * 4)
    assert "the whole takes" in refused("images:photos")


def spoil(path, how):
    """Makes one thing wrong in a good folder of pictures."""
    if how == "size":
        Image.new("RGB", (9, 5)).save(path / "dog" / "wide.png")
    elif how == "text":
        (path / "dog" / "notes.txt").write_text("not a picture")
    elif how == "cut":
        (path / "dog" / "0.png").write_bytes((path / "dog" / "0.png").read_bytes()[:60])
    elif how == "empty file":
        (path / "dog" / "0.png").write_bytes(b"")
    elif how == "empty class":
        (path / "emu").mkdir()
    elif how == "nested":
        (path / "dog" / "more").mkdir()
    elif how == "broken link":
        (path / "dog" / "gone.png").symlink_to("nowhere.png")
    elif how == "case":
        shutil.copytree(path / "dog", path / "DOG")
    elif how == "frames":
        frames = [Image.fromarray(RNG.integers(0, 256, (5, 6), dtype=np.uint8)) for _ in range(2)]
        frames[0].save(path / "dog" / "moves.gif", save_all=True, append_images=frames[1:])
    elif how == "float":
        Image.fromarray(np.ones((5, 6), np.float32)).save(path / "dog" / "f.tiff")
    elif how == "one class":
        shutil.rmtree(path / "dog")
    elif how == "few":
        for i in (0, 1):
            (path / "dog" / f"{i}.png").unlink()
    elif how == "dollar":
        (path / "dog").rename(path / "$dog$")
    elif how == "script":
        (path / "dog" / "a.eps").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 6 5\nshowpage\n")


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("size", "dog/wide.png is 9 x 5, cat/0.png is 6 x 5 (width x height): all must be of one size"),
        ("text", "dog/notes.txt is not a picture that can be read: must be a whole one of PNG, JPEG"),
        ("cut", "dog/0.png is not a picture that can be read"),
        ("empty file", "dog/0.png is not a picture that can be read"),
        ("empty class", "emu holds no pictures"),
        ("nested", "dog/more is a folder: a class's folder must hold pictures alone"),
        ("broken link", "dog/gone.png is no file, or a link to none"),
        ("case", "classes DOG and dog differ in case alone"),
        ("frames", "dog/moves.gif has 2 frames: must be one picture"),
        ("float", "dog/f.tiff has pixels of kind F: must have 8 or 16 bits"),
        ("one class", "the folder has 1 folders in it: must be one a class, 2 or more"),
        ("few", "dog has 2 rows: must be 3 or more of each class, to split them"),
        ("dollar", "the class '$dog$' cannot stand on a figure"),
        ("script", "dog/a.eps is not a picture that can be read"),
    ],
)
def test_wrong_folders_are_refused_in_one_line(how, message):
    name = folder()
    spoil(Path("photos"), how)
    assert refused(name).startswith("photos: ") and message in refused(name)


def test_a_folder_must_be_there_and_hold_folders():
    assert "photos: is not there: must be a folder with one folder a class" in refused("images:photos")
    Path("file").write_text("")
    assert "file: is a file: must be a folder" in refused("images:file")
    Path("flat").mkdir()
    Image.new("L", (6, 5)).save("flat/a.png")
    assert "flat: the folder has 0 folders in it" in refused("images:flat")


def test_a_file_that_changed_is_read_again():
    name = settle(npz(**PLAIN))
    np.savez("my.npz", x=SIGNALS + 1, y=LABELS)
    assert settle("npz:my.npz") != name
    photos = settle(folder())
    os.remove("photos/cat/0.png")
    assert settle("images:photos") != photos


# --- the data cache ---------------------------------------------------------------------------------------------------


def test_what_is_not_in_the_cache_is_asked_for_again(place):
    name = settle(npz(**PLAIN))
    (kept,) = (place / "cache" / "own").iterdir()
    kept.unlink()
    message = f"no own/{kept.name} in the data cache of this machine: give my.npz again as npz:PATH, or copy that"
    with pytest.raises(DataError, match=message):
        settle(name)


def test_a_damaged_copy_is_refused_and_made_again_from_the_file(place):
    name = settle(npz(**PLAIN))
    (kept,) = (place / "cache" / "own").iterdir()
    for content in (kept.read_bytes()[:500], b""):
        kept.write_bytes(content)
        with pytest.raises(DataError, match=rf"own/{kept.name} in the data cache is damaged .*: delete it and give"):
            load(name)
    np.savez(kept, **load_other()._asdict())
    with pytest.raises(DataError, match="it has another checksum"):
        load(name)
    own_data._kept.cache_clear()
    assert settle("npz:my.npz") == name
    assert digest(load(name)) == kept.stem


def load_other():
    x, y = np.zeros((4, 1, 3), np.float32), np.arange(4) % 2
    return Arrays(x, y, x, y, np.array(["a", "b"]))


def test_a_cache_that_cannot_be_written_is_one_line(place, monkeypatch):
    name = npz(**PLAIN)
    (place / "file").write_text("")
    monkeypatch.setenv("PHENOMENA_DATA", str(place / "file"))
    with pytest.raises(DataError, match=r"the data cache cannot be written \(Not a directory\): set PHENOMENA_DATA"):
        settle(name)
    monkeypatch.setenv("PHENOMENA_DATA", str(place / "full"))

    def full(*_args, **_arrays):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(np, "savez", full)
        with pytest.raises(DataError, match=r"cannot be written \(No space left on device"):
            settle(name)
    assert not list((place / "full" / "own").iterdir())
    kept = settle(name)
    monkeypatch.setattr(np, "savez", full)  # what is there already is not written again
    own_data._kept.cache_clear()
    assert settle(name) == kept


def test_without_a_home_the_variable_is_named(monkeypatch):
    monkeypatch.delenv("PHENOMENA_DATA")

    def nobody(_):
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "expanduser", nobody)
    with pytest.raises(DataError, match="no home folder is known here: set PHENOMENA_DATA"):
        own_data.cache()


# --- parameters, keys, records ----------------------------------------------------------------------------------------

OWN = (
    'dataset: Literal["plain", "other"] | OwnData = "plain"  # what is measured\n'
    'sets: list[Literal["plain", "other"] | OwnData] = ["plain"]  # further ones\n' + PARAMETERS
)
DECLARED = read_declaration(OWN)
DEFAULTS = {name: p.default for name, p in DECLARED.items()}
BODY = """\
from phenomena import own_data

if title == "broken":
    raise RuntimeError("the toy broke")
value = 0.5 if dataset == "plain" else float(own_data.load(dataset).x_train.mean())
values = [value + s / 100 for s in range(seed, seed + seeds)]
record(high=values, low=[v - 1 for v in values])"""


def told(**values):
    with pytest.raises(BadInput) as error:
        check(DECLARED.values(), {**DEFAULTS, **values}, "toy")
    return str(error.value)


def test_a_parameter_takes_names_and_own_data():
    assert DECLARED["dataset"].accepted == "one of plain, other, npz:FILE or images:FOLDER"
    assert DECLARED["sets"].accepted == "list of one of plain, other, npz:FILE or images:FOLDER"
    name = npz(**PLAIN)
    found = check(DECLARED.values(), {**DEFAULTS, "dataset": name, "sets": f'["other", "{name}"]'}, "toy")
    assert found["dataset"] == settle(name) and found["sets"] == ["other", settle(name)]
    again = check(DECLARED.values(), found, "toy")
    assert again == found


def test_refusals_of_data_sets_say_what_is_wrong():
    accepted = "one of plain, other, npz:FILE or images:FOLDER"
    assert told(dataset="plian") == f"toy: dataset='plian' is not accepted: {accepted}; did you mean 'plain'?"
    assert told(dataset="npz:") == f"toy: dataset='npz:' is not accepted: {accepted}"
    assert told(dataset=3) == f"toy: dataset=3 is not accepted: {accepted}"
    absent = "my.npz: is not there: must be a file as numpy.savez writes it"
    assert told(dataset="npz:my.npz") == f"toy: dataset='npz:my.npz' is not accepted: {absent}"
    assert told(dataset="npz:my.npz", seeds=0) == f"toy: dataset='npz:my.npz' is not accepted: {absent} (and 1 more)"
    assert absent in told(sets='["plain", "npz:my.npz"]')
    assert "did you mean 'other'" in told(sets='["otter"]') or accepted in told(sets='["otter"]')


@pytest.fixture
def toy(place):
    """A toy chapter that takes a data set."""
    root = place / "project"
    root.mkdir()
    (root / "requirements.lock").write_text("toy==1\n")
    imports = f"{IMPORTS}\nfrom phenomena.own_data import OwnData"
    write_chapter(root, parameters=OWN, imports=imports, body=BODY)
    (root / "data").mkdir()
    np.savez(root / "data" / "a.npz", x=SIGNALS, y=LABELS)
    np.savez(root / "data" / "b.npz", x=SIGNALS + 1, y=LABELS)
    return Project(root)


def traces(folder, place):
    """Files of a folder that hold the name of the place where the data lay."""
    return [p for p in folder.rglob("*") if p.is_file() and str(place).encode() in p.read_bytes()]


def test_a_run_tells_at_once_what_it_read_and_names_no_path(toy, phenomena: Command):
    done = phenomena(toy.root, "run", "toy", "-p", f"dataset=npz:{toy.root}/data/a.npz")
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith("npz:a.npz: 9 + 3 signals of 7 points, 3 classes\n")
    (record,) = (toy.root / "runs" / "toy").glob("*/record.json")
    name = json.loads(record.read_text())["parameters"]["dataset"]
    assert own_data.CANONICAL.fullmatch(name) and name == settle(f"npz:{toy.root}/data/a.npz")
    assert not traces(toy.root / "runs", toy.root)
    assert values_of(record.parent)["high"][0] == pytest.approx(load(name).x_train.mean())
    (toy.root / "data").rename(toy.root / "elsewhere")  # the same content elsewhere is the same run
    for called in (name, "npz:elsewhere/a.npz"):
        again = phenomena(toy.root, "run", "toy", "-p", f"dataset={called}")
        assert "was there already" in again.stdout, again.stderr
    compared = phenomena(toy.root, "compare", "toy", "-p", "dataset=npz:elsewhere/a.npz")
    assert compared.returncode == 0 and record.parent.name in compared.stdout


def test_the_key_covers_the_content(toy):
    def key(name):
        return keys.run_key(toy, toy.chapter("toy"), toy.chapter("toy").resolve(overrides={"dataset": name}))

    path = toy.root / "data" / "a.npz"
    first = key(f"npz:{path}")
    np.savez_compressed(path, y=LABELS, x=SIGNALS)
    assert key(f"npz:{path}") == first
    np.savez(path, x=SIGNALS * 2, y=LABELS)
    assert key(f"npz:{path}") != first


def test_kernels_find_a_cache_that_is_named_from_here(place, monkeypatch):
    monkeypatch.setenv("PHENOMENA_DATA", "some/data")
    name = settle(npz(**PLAIN))
    told = kernels.environment()["PHENOMENA_DATA"]
    monkeypatch.chdir(place)
    monkeypatch.setenv("PHENOMENA_DATA", told)
    assert settle(name) == name
    monkeypatch.delenv("PHENOMENA_DATA")
    assert "PHENOMENA_DATA" not in kernels.environment()


def test_a_wrong_file_is_refused_before_anything_runs(toy, phenomena: Command):
    (toy.root / "data" / "a.npz").write_bytes(b"PK\3\4 and then nothing")
    for words in (["run"], ["sweep", "-g", "rate=0.1,0.2"], ["extend", "--seeds", "5"], ["compare"]):
        done = phenomena(toy.root, words[0], "toy", *words[1:], "-p", "dataset=npz:data/a.npz")
        assert done.returncode == 2, done
        assert done.stderr.count("\n") == 1 and "a.npz: is not an npz file, or a damaged one" in done.stderr
    assert not (toy.root / "runs" / "toy").exists()


def test_a_grid_takes_own_data():
    assert sweep.read_grid(["dataset=plain,npz:a.npz,images:some photos"]) == {
        "dataset": ["plain", "npz:a.npz", "images:some photos"]
    }
    assert sweep.read_grid(["dataset=npz:a.npz", "seed=0:4:2"]) == {"dataset": ["npz:a.npz"], "seed": ["0", "2", "4"]}


def test_sweeps_and_extensions_take_own_data(toy, phenomena: Command):
    grid = "dataset=plain,npz:data/a.npz,npz:data/b.npz"
    done = phenomena(toy.root, "sweep", "toy", "--edition", "smoke", "-g", grid)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("signals of 7 points") == 2  # each was read once
    assert "npz:a.npz@" in done.stdout and "npz:b.npz@" in done.stdout
    more = phenomena(toy.root, "extend", "toy", "--edition", "smoke", "--seeds", "3", "-p", "dataset=npz:data/a.npz")
    assert more.returncode == 0, more.stderr
    seeds = [
        record.seeds
        for folder in (toy.root / "runs" / "toy").iterdir()
        if (run := runs.read(folder)) and (record := run.record).parameters["dataset"].startswith("npz:a.npz@")
    ]
    assert sorted(seeds) == [[0, 1], [2]]
    assert not traces(toy.root / "runs" / "toy", toy.root)


def test_a_failure_report_names_no_path_of_the_data(toy, phenomena: Command, place):
    (place / "secret place").mkdir()
    (toy.root / "data" / "a.npz").rename(place / "secret place" / "a.npz")
    done = phenomena(toy.root, "run", "toy", "-p", f"dataset=npz:{place}/secret place/a.npz", "-p", "title=broken")
    assert done.returncode == 1 and "the toy broke" in done.stderr
    reports = list((toy.root / "runs" / ".failed").rglob("*"))
    assert [p.name for p in reports if p.is_file()]
    assert not traces(toy.root / "runs", "secret place")


def test_an_edition_names_no_own_data(toy):
    path = toy.root / "notebooks" / "toy.yaml"
    for value in ("npz:data/a.npz", '["plain", "npz:data/a.npz"]'):
        name = "sets" if value.startswith("[") else "dataset"
        text = path.read_text().replace("    parameters:\n", f"    parameters:\n      {name}: {value}\n")
        (toy.root / "notebooks" / "own.yaml").write_text(text)
        shutil.copy(path.with_suffix(".ipynb"), toy.root / "notebooks" / "own.ipynb")
        with pytest.raises(BadInput, match=rf"own.yaml, edition smoke: {name}=.*an edition is the same for everyone"):
            toy.chapter("own").file  # noqa: B018


def test_papermill_alone_settles_them_too(toy, monkeypatch):
    """By hand the path stands where it was typed; the record that travels in the notebook has the digest."""
    monkeypatch.chdir(toy.root)
    given = {"dataset": f"npz:{toy.root}/data/a.npz"}
    papermill.execute_notebook("notebooks/toy.ipynb", "out.ipynb", given, progress_bar=False, cwd=toy.root)
    facts = runs.collect(nbformat.read("out.ipynb", as_version=4))
    assert facts["parameters"]["dataset"] == settle("npz:data/a.npz")
    assert str(toy.root) not in json.dumps(facts)
