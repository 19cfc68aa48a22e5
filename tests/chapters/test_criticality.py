"""Criticality: closed forms, oracles, limits, laws in distribution, bad input. test_chapters.py runs the notebook."""

import math

import numpy as np
import pytest
import torch
from scipy import integrate, stats
from torch.nn.functional import cross_entropy

from phenomena.chapters.criticality import figures, study, theory
from phenomena.science import datasets

# --- infinite width ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kernel", [1e-4, 0.3, 2.0, 50.0])
def test_means_of_the_sine_have_a_closed_form(kernel):
    assert theory.second_moment("sin", kernel) == pytest.approx((1 - math.exp(-2 * kernel)) / 2, rel=1e-9, abs=1e-14)
    along, across = theory.susceptibilities("sin", kernel, 1.3)
    assert along == pytest.approx(1.3 * math.exp(-2 * kernel), rel=1e-6, abs=1e-12)
    assert across == pytest.approx(1.3 * (1 + math.exp(-2 * kernel)) / 2, rel=1e-10)


@pytest.mark.parametrize("act", ["relu", "leaky", "gelu", "silu", "tanh", "softplus"])
@pytest.mark.parametrize("kernel", [0.01, 1.0, 400.0, 1e6])
def test_quadrature_agrees_with_an_adaptive_one(act, kernel):
    def integrand(g):
        z = torch.tensor(math.sqrt(kernel) * g, dtype=torch.float64)
        return theory.activation(act)(z).square().item() * math.exp(-(g**2) / 2) / math.sqrt(2 * math.pi)

    oracle = sum(
        integrate.quad(integrand, *ends, epsabs=0, epsrel=1e-11)[0] for ends in ((-12, 0), (0, 0.5), (0.5, 12))
    )
    assert theory.second_moment(act, kernel) == pytest.approx(oracle, rel=1e-9)


@pytest.mark.parametrize("act", ["tanh", "gelu", "silu"])
def test_the_susceptibility_is_the_slope_of_the_recursion(act):
    step = 1e-4
    slope = (theory.second_moment(act, 2 + step) - theory.second_moment(act, 2 - step)) / (2 * step)
    assert theory.susceptibilities(act, 2.0, 1.7)[0] == pytest.approx(1.7 * slope, rel=1e-7)


@pytest.mark.parametrize(
    ("act", "c_b", "c_w", "kind"),
    [
        ("relu", 0, 2, "scale-invariant"),
        ("linear", 0, 1, "scale-invariant"),
        ("leaky", 0, 2 / (1 + theory.SLOPE**2), "scale-invariant"),
        (torch.abs, 0, 1, "scale-invariant"),
        ("tanh", 0, 1, "zero"),
        ("sin", 0, 1, "zero"),
        (lambda z: torch.tanh(2 * z), 0, 1 / 4, "zero"),
        ("gelu", 0.17292239, 1.98305826, "half-stable"),  # as a public implementation has them
        ("silu", 0.55514317, 1.98800468, "half-stable"),  # there C_b has its point one place to the left
    ],
)
def test_known_critical_points_are_found(act, c_b, c_w, kind):
    found = theory.critical_point(act)
    assert (found.c_b, found.c_w) == pytest.approx((c_b, c_w), abs=1e-8) and found.kind == kind
    kernel = 3.0 if kind == "scale-invariant" else max(found.kernel, 1e-6)
    assert theory.susceptibilities(act, kernel, found.c_w) == pytest.approx((1, 1), abs=1e-4)
    if kind == "half-stable":
        kernels = theory.recursion(act, found.kernel, 50, c_w=found.c_w, c_b=found.c_b)
        np.testing.assert_allclose(kernels, found.kernel, rtol=1e-9)


def test_a_curvature_that_jumps_at_zero_is_no_hindrance():
    found = theory.critical_point(torch.nn.functional.softsign)
    assert (found.c_b, found.c_w, found.kind) == (0, pytest.approx(1, abs=1e-5), "zero")


@pytest.mark.parametrize("act", ["sigmoid", "softplus", torch.exp, torch.sinh, torch.square])
def test_an_activation_without_a_critical_point_is_refused(act):
    name = act if isinstance(act, str) else act.__name__
    with pytest.raises(ValueError, match=f"activation is '{name}': it has no critical point; must be one that has"):
        theory.critical_point(act)


def test_the_curvature_is_that_of_the_recursion():
    for act in ("tanh", "sin", "gelu", "silu"):
        slope = theory.susceptibilities(act, 1e-12, 1.0)[1]
        k = 1e-3
        rest = (theory.second_moment(act, k) / slope - k) / k**2
        assert theory.curvature(act) == pytest.approx(rest, rel=0.01)


def test_recursions_have_their_limits():
    np.testing.assert_allclose(theory.recursion("relu", 3.0, 40, c_w=1.5), 3 * 0.75 ** np.arange(40), rtol=1e-12)
    for act in ("tanh", "sin"):
        kernels = theory.recursion(act, 1.0, 3000, c_w=1.0)
        assert 3000 * kernels[-1] * abs(theory.curvature(act)) == pytest.approx(1, abs=0.01)
    low = theory.recursion("tanh", 1.0, 400, c_w=0.9)  # beyond the smallest kernel of quadrature
    assert low[-1] / low[-2] == pytest.approx(0.9, rel=1e-6)


# --- finite width -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("act", "width"), [("relu", 8), ("relu", 64), ("leaky", 8), ("leaky", 64), ("linear", 16)])
def test_steps_of_the_log_kernel_are_those_of_simulated_layers(act, width):
    g = np.random.default_rng(901)
    kernels = study.kernels(act, width, 1, c_w=1.5, networks=100_000, generator=g)[1]
    steps = np.log(kernels[kernels > 0])  # a narrow ReLU layer may be off altogether
    found = theory.log_norm(act, width, 1.5)
    assert found.mean == pytest.approx(steps.mean(), abs=4 * stats.sem(steps))
    assert found.variance == pytest.approx(steps.var(), rel=0.03)


@pytest.mark.parametrize("act", list(theory.SLOPES))
def test_wide_layers_have_the_spread_of_their_moments(act):
    wide = theory.log_norm(act, 3000, theory.critical_point(act).c_w)
    assert 3000 * wide.variance == pytest.approx(theory.moment_growth(act), rel=0.01)
    assert 3000 * wide.mean == pytest.approx(-theory.moment_growth(act) / 2, rel=0.01)
    moved = theory.log_norm(act, 3000, 3 * theory.critical_point(act).c_w)
    assert moved.mean - wide.mean == pytest.approx(math.log(3)) and moved.variance == pytest.approx(wide.variance)


def test_the_second_moment_is_that_of_simulated_networks_where_it_can_be_sampled():
    g = np.random.default_rng(902)
    for act in theory.SLOPES:
        kernels = study.kernels(act, 60, 6, c_w=theory.critical_point(act).c_w, networks=40_000, generator=g)[-1]
        ratio = (kernels**2).mean() / kernels.mean() ** 2
        assert theory.second_moment_ratio(act, 60, 6) == pytest.approx(ratio, rel=0.05)


def test_how_many_networks_a_moment_needs():
    assert theory.networks_needed(0.0) == 2
    assert theory.networks_needed(1.0) == pytest.approx(1 / stats.norm.sf(2))


def plain(act, width, depth, c_w, networks, generator):
    """Kernels of networks whose weights are drawn, matrix by matrix."""
    h, found = torch.ones(networks, width, 1, dtype=torch.float64), [np.ones(networks)]
    z = torch.randn(networks, width, width, generator=generator, dtype=torch.float64) @ h / math.sqrt(width)
    for _ in range(depth):
        h = theory.activation(act)(z)
        found.append(c_w * h.square().mean((1, 2)).numpy())
        z = torch.randn(networks, width, width, generator=generator, dtype=torch.float64) @ h * math.sqrt(c_w / width)
    return np.stack(found)


@pytest.mark.parametrize("act", ["tanh", "relu", "gelu"])
def test_networks_without_weights_have_the_law_of_those_with_weights(act):
    c_w = theory.critical_point(act).c_w
    drawn = plain(act, 12, 6, c_w, 3000, torch.Generator().manual_seed(903))
    quick = study.kernels(act, 12, 6, c_w=c_w, networks=3000, generator=np.random.default_rng(903))
    for layer in (1, 3, 6):
        assert stats.ks_2samp(drawn[layer], quick[layer]).pvalue > 0.001
    other = study.kernels(act, 12, 6, c_w=1.2 * c_w, networks=3000, generator=np.random.default_rng(904))
    assert stats.ks_2samp(drawn[6], other[6]).pvalue < 1e-6  # the test can tell


def test_two_numbers_a_layer_have_the_law_of_all_units():
    quick = study.relu_kernels(10, 5, 5000, np.random.default_rng(905))
    whole = study.kernels("relu", 10, 5, c_w=2.0, networks=5000, generator=np.random.default_rng(906))[-1]
    assert stats.ks_2samp(quick, whole).pvalue > 0.001
    assert not np.isnan(study.relu_kernels(1, 3, 100, np.random.default_rng(0))).any()  # many are dead


def test_growth_follows_the_recursion_of_wide_networks_with_biases():
    frame = study.growth("gelu", 2000, 6, [1.5, 2.0], [900], c_b=0.3, networks=200)
    for c_w, part in frame.groupby("c_w"):
        wide = theory.recursion("gelu", 1.0, 7, c_w=c_w, c_b=0.3)
        np.testing.assert_allclose(part["log_k"], np.log(wide), atol=0.02)


def test_a_weak_residual_connection_is_none():
    frame = study.residual_spread("linear", 40, 10, [0.0, 1e-9], range(900, 910), networks=2000)
    step = theory.log_norm("linear", 40, 1.0).variance
    for _, part in frame.groupby("residual"):
        assert part["variance"].mean() == pytest.approx(
            10 * step + theory.log_norm("linear", 40, 1.0).variance, rel=0.05
        )


@pytest.mark.parametrize("act", ["relu", "tanh"])
def test_the_tangent_kernel_is_the_square_of_the_gradient(act):
    found = study.tangent(6, 3, 4, torch.Generator().manual_seed(907), act)
    g, c_w = torch.Generator().manual_seed(907), theory.critical_point(act).c_w
    weights = [(torch.randn(4, 6, 6, generator=g) * math.sqrt(c_w / 6)).requires_grad_() for _ in range(3)]
    weights.append((torch.randn(4, 1, 6, generator=g) / math.sqrt(6)).requires_grad_())
    h = torch.ones(4, 1, 6)
    for w in weights[:-1]:
        h = theory.activation(act)(torch.bmm(h, w))
    gradients = torch.autograd.grad((h * weights[-1]).sum(), weights)
    torch.testing.assert_close(found, sum(part.square().sum((1, 2)) for part in gradients))


# --- studies ----------------------------------------------------------------------------------------------------------


def test_a_seed_gives_the_same_whoever_is_beside_it():
    one = study.fluctuations(["relu"], [8], [0.5], [903], networks=50)
    two = study.fluctuations(["tanh", "relu"], [4, 8], [0.5], [902, 903], networks=50)
    again = two[(two["seed"] == 903) & (two["width"] == 8)]
    assert len(one) == 1 and set(again["activation"]) == {"tanh", "relu"}
    rows = study.moments(8, 4, [10, 20], [900, 901]).merge(study.moments(8, 4, [10, 20], [901]), on=["seed", "size"])
    assert len(rows) == 2 and (rows["ratio_x"] == rows["ratio_y"]).all()


@pytest.fixture(scope="module")
def images():
    return datasets.load("digits")


@pytest.mark.parametrize(("act", "residual"), [("tanh", 0.0), ("relu", 0.5)])
def test_training_at_once_is_training_one_by_one_with_torchs_optimizer(images, act, residual):
    seeds, depth, width = [900, 901], 3, 8
    found = study.train(act, images, width, depth, 1.2, seeds, residual=residual, lr=0.05, steps=4)
    c_w = 1.2 * theory.critical_point(act).c_w * (1 - residual**2)
    for row, seed in enumerate(seeds):
        (x,), (y,) = study.rows_of(images, [seed])
        weights = [w[0].detach().clone().requires_grad_() for w in study._weights(64, width, depth, 10, c_w, [seed])]

        def logits(part, weights=weights):
            z = part @ weights[0]
            for w in weights[1:-1]:
                z = theory.activation(act)(z) @ w + residual * z
            return theory.activation(act)(z) @ weights[-1]

        gradients = torch.autograd.grad(cross_entropy(logits(x), y), weights)
        assert found["first"][row] == pytest.approx(gradients[0].norm().item(), rel=1e-4)
        assert found["last"][row] == pytest.approx(gradients[-2].norm().item(), rel=1e-4)
        optimizer, g = torch.optim.SGD(weights, lr=0.05, momentum=0.9), study._generator(seed, 2)
        for _ in range(4):
            i = torch.randint(len(x), (study.BATCH,), generator=g)
            optimizer.zero_grad()
            cross_entropy(logits(x[i]), y[i]).backward()
            optimizer.step()
        accuracy = (logits(x).argmax(1) == y).double().mean().item()
        assert found["accuracy"][row] == pytest.approx(accuracy, abs=0.004)  # two rows of 500 may lie on an edge


def test_a_network_that_diverges_leaves_the_others_alone(images):
    found = study.train("relu", images, 16, 12, 4.0, [900, 901], lr=10.0, steps=3)
    assert found["accuracy"].between(0, 1).all() and np.isfinite(found["first"]).all()


def test_training_rows_have_unit_kernel(images):
    x, y = study.rows_of(images, [900, 901])
    assert x.shape == (2, 500, 64) and y.shape == (2, 500)
    torch.testing.assert_close(x.square().mean(2), torch.ones(2, 500))
    assert not torch.equal(x[0], x[1])


def test_the_outputs_of_equal_kernels_are_gaussian():
    bars = figures.outputs(np.full(20_000, 7.0), seed=0)
    centers = (figures.BINS[1:] + figures.BINS[:-1]) / 2
    np.testing.assert_allclose(bars, stats.norm.pdf(centers), atol=0.01)


# --- bad input --------------------------------------------------------------------------------------------------------

REFUSED = {
    "activation is 'rleu': must be one of relu, leaky": lambda: theory.critical_point("rleu"),
    "activation is 'tanh': must be one of relu, leaky, linear": lambda: theory.log_norm("tanh", 8, 1.0),
    "activation is 'sin': must be one of relu, leaky, linear": lambda: theory.moment_growth("sin"),
    r"kernel is 0: must be above 0 and at most 1e\+08": lambda: theory.second_moment("tanh", 0.0),
    r"kernel is 2e\+08: must be above 0 and at most": lambda: theory.second_moment("tanh", 2e8),
    "kernel is 100: the activation grows too fast for a mean": lambda: theory.second_moment(torch.exp, 100.0),
    "c_w is 0: must be positive": lambda: theory.susceptibilities("tanh", 1.0, 0.0),
    "c_w is -1: must be positive and finite": lambda: theory.recursion("relu", 1.0, 5, c_w=-1.0),
    "c_b is -0.1: must be 0 or more": lambda: theory.recursion("relu", 1.0, 5, c_w=1.0, c_b=-0.1),
    "depth is 0: must be a whole number, 1 or more": lambda: theory.recursion("relu", 1.0, 0, c_w=1.0),
    "width is 0: must be a whole number, 1 or more": lambda: theory.log_norm("relu", 0, 1.0),
    "depth is -3: must be a whole number": lambda: theory.second_moment_ratio("relu", 8, -3),
    "networks is 0: must be a whole number": lambda: study.tangent(4, 2, 0, torch.Generator()),
    "c_w is 9: the kernel is .* at layer 461 and leaves the range of numbers": lambda: theory.recursion(
        "relu", 1.0, 600, c_w=9.0
    ),
    "c_w is 4: the kernel is .* at layer .* and leaves the range": lambda: theory.recursion("gelu", 1.0, 99, c_w=4.0),
    r"width is 2: at depth 600 the moment is e\^752 .*; must be 5 or more": lambda: theory.second_moment_ratio(
        "relu", 2, 600
    ),
    "variance is 300: must be 0 to 300": lambda: theory.networks_needed(300.0),
    "residual is 1: must be 0 or more and below 1": lambda: study.residual_spread("relu", 4, 2, [1.0], [0]),
    "c_w is 9: at depth 600 a kernel leaves the range": lambda: study.kernels(
        "relu", 100, 600, c_w=9.0, networks=2, generator=np.random.default_rng(0)
    ),
}


@pytest.mark.filterwarnings("ignore:overflow")
@pytest.mark.parametrize("message", REFUSED)
def test_bad_input_is_refused(message):
    with pytest.raises(ValueError, match=message):
        REFUSED[message]()
