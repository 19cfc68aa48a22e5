"""What functions say of tensors that do not fit, as users call them: without the checks of shapes that tests have."""

import inspect

import numpy as np
import pytest
import torch
from conftest import generator

from phenomena.science import checks, frames, label_noise, metrics, training
from phenomena.science.optimisers import Optimiser

LABELS, X, SIGNS = (
    torch.tensor([0, 1, 2, 0]),
    torch.tensor([[2.0, 0], [-2, 0]]).double(),
    torch.tensor([1.0, -1]).double(),
)
SOFT = torch.eye(2)[[0, 1, 0, 1, 1]]
P, TWO = torch.tensor([[0.2, 0.8], [0.6, 0.4]]), torch.tensor([1, 0])


@pytest.mark.parametrize(
    ("shape", "letters", "message"),
    [
        ((2, 3), "n d", None),
        ((2, 3, 4, 5), "n d ...", None),
        ((2, 3), "n d ...", None),
        ((3, 3), "n n", None),
        ((2,), "n d", r"^x has shape \(2,\): must be \(n, d\)$"),
        ((2, 3, 4), "n d", r"^x has shape \(2, 3, 4\): must be \(n, d\)$"),
        ((2, 3), "n n", r"^x has shape \(2, 3\): must be \(n, n\) with n = 2 as in x$"),
        ((0, 3), "n d", r"^x has shape \(0, 3\): it is empty$"),
    ],
)
def test_shapes_are_told_by_their_letters(shape, letters, message):
    if message is None:
        checks.check_tensors(x=(torch.zeros(shape), letters))
    else:
        with pytest.raises(ValueError, match=message):
            checks.check_tensors(x=(torch.zeros(shape), letters))


def redrawn(labels=LABELS, fraction=0.5, classes=3):
    return inspect.unwrap(label_noise.redraw_labels)(labels, fraction, classes, generator())


def corrupted(labels=LABELS, classes=3):
    return inspect.unwrap(label_noise.corrupt_evenly)(labels, 0.5, classes, generator())


def mixed(clean=LABELS, fraction=0.5):
    return inspect.unwrap(label_noise.mix_labels)(LABELS, clean, fraction, generator())


calibration, max_margin, accuracy = map(inspect.unwrap, (metrics.calibration, metrics.max_margin, metrics.accuracy))


def trained(nets=1, **settings):
    """On five rows with soft labels."""
    inputs = torch.zeros(5, 3)
    given = {"rows": 5, "steps": 2, "generators": [generator() for _ in range(nets)], "batch": 2}
    networks = [torch.nn.Linear(3, 2) for _ in range(nets)]
    inspect.unwrap(training.train)(networks, lambda index: (inputs[index], SOFT[index]), **(given | settings))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: redrawn(LABELS.numpy()), "labels of type ndarray: must be a tensor of class numbers in int64"),
        (lambda: redrawn(LABELS.float()), "labels of type torch.float32: must be a tensor of class numbers in int64"),
        (lambda: redrawn(LABELS.int()), "labels of type torch.int32"),
        (lambda: redrawn(classes=2), "labels from 0 to 2: must be 0 to 1, for 2 classes"),
        (lambda: redrawn(LABELS - 1), "labels from -1 to 1: must be 0 to 2"),
        (lambda: redrawn(classes=0), "0 classes: must be 1 or more"),
        (lambda: corrupted(classes=2), "labels from 0 to 2: must be 0 to 1"),
        (lambda: corrupted(torch.eye(3)), "labels of type torch.float32"),
        (lambda: mixed(fraction=2.0), "fraction of noisy labels is 2.0: must be 0 to 1"),
        (lambda: mixed(fraction=-0.5), "fraction of noisy labels is -0.5"),
        (lambda: mixed(LABELS[:2]), r"noisy \(4,\) in torch.int64, clean \(2,\) in torch.int64: must be alike"),
        (lambda: mixed(LABELS.float()), "clean .* in torch.float32: must be alike"),
        (lambda: accuracy(P, TWO), r"predicted classes \(2, 2\) and labels \(2,\) must be alike"),
        (lambda: accuracy(TWO[:, None], TWO), r"predicted classes \(2, 1\) and labels \(2,\) must be alike"),
        (lambda: calibration(P * torch.nan, TWO), "probabilities holds nan or infinity"),
        (lambda: calibration(P, TWO + 5), "labels from 5 to 6: must be 0 to 1"),
        (lambda: calibration(P, TWO[:1]), r"labels has shape \(1,\): must be \(n,\) with n = 2 as in probabilities"),
        (lambda: calibration(P, TWO, 0), "0 bins: must be 1 or more"),
        (lambda: max_margin(X[:0], SIGNS[:0]), r"x has shape \(0, 2\): it is empty"),  # ended the interpreter
        (lambda: max_margin(X, (SIGNS + 1) / 2), r"signs are \[0.0, 1.0\]: must be -1 and 1"),
        (lambda: max_margin(X, SIGNS[:1]), r"signs has shape \(1,\)"),
        (lambda: max_margin(X * np.nan, SIGNS), "x holds nan or infinity"),
        (lambda: trained(batch=0), "batch is 0: must be an integer, 1 or more"),
        (lambda: trained(batch=2.0), "batch is 2.0: must be an integer"),
        (lambda: trained(rows=0), "rows is 0"),
        (lambda: trained(steps=-1), "steps is -1: must be an integer, 0 or more"),
        (lambda: trained(nets=2, generators=[generator()]), "generators is .*: must be one for each of 2 networks"),
        (lambda: trained(nets=2, lr=[0.1]), r"lr is \[0.1\]: must be one for each of 2 networks"),
        (lambda: trained(nets=0), "must be one for each of 0 networks, at least one"),
        (lambda: trained(lr=-1.0), "lr is -1.0: must be 0 or more and finite"),
        (lambda: trained(lr=float("nan")), "lr is nan"),
        (lambda: Optimiser("sgd", [{"params": [torch.ones(1)], "rate": 1}], 0.1), "has 'rate': must be params, lr"),
        (lambda: Optimiser("sgd", [torch.ones(1)], 0.1).step(), "0 parameters have a gradient"),
        (lambda: frames.per_seed(frames.tidy([1, 2], seed=(0, 1)), "valu"), "no column 'valu': seed, value are there"),
        (lambda: frames.summary(frames.tidy([1, 2], seed=(0, 1)), "arm"), "no column 'arm': seed, value are there"),
    ],
)
def test_what_does_not_fit_is_told_in_one_line(call, message):
    with pytest.raises((TypeError, ValueError, KeyError), match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_a_loader_without_the_axis_of_networks_is_told():
    loader = lambda index: (torch.zeros(5, 3)[index[0]], torch.zeros(5).long()[index[0]])  # noqa: E731
    with pytest.raises(ValueError, match=r"inputs \(2, 3\) and targets \(2,\) for row numbers \(1, 2\)"):
        inspect.unwrap(training.train)([torch.nn.Linear(3, 2)], loader, 5, 1, [generator()], batch=2)


def test_parameters_that_have_a_gradient_later_are_told():
    one, other = (torch.ones(1, requires_grad=True) for _ in range(2))
    optimiser = Optimiser("adam", [one, other], 0.1)
    one.sum().backward()
    optimiser.step()
    other.sum().backward()
    with pytest.raises(ValueError, match="2 parameters have a gradient, 1 had one in the first step"):
        optimiser.step()


def test_batches_of_one_row_or_more_than_all_and_those_that_do_not_divide_the_rows_train():
    for batch in (1, 3, 100):
        trained(batch=batch)


@pytest.mark.parametrize("scale", [1e-10, 1e-3, 1.0, 1e6])
def test_the_margin_does_not_depend_on_units(scale):
    found = metrics.max_margin(X * scale, SIGNS)
    torch.testing.assert_close(found * scale, torch.tensor([0.5, 0.0]).double())
    assert metrics.max_margin(X * scale, SIGNS.abs()) is None
