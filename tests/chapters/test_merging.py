"""Merging of task vectors: agreement with peft on equal tensors, oracles by another way, states as users have them."""

import copy
import warnings

import numpy as np
import pytest
import scipy.linalg
import torch
from conftest import generator
from peft.utils import merge_utils as peft
from torch import nn

from phenomena.chapters.task_arithmetic import task_vectors as tv


def tensors(k=4, shape=(20, 50), seed=0):
    return [torch.randn(shape, generator=generator(100 * seed + i)) for i in range(k)]


def named(found):
    return [{"w": entry} for entry in found]


def close(found, expected, rtol=1e-5, atol=1e-6):
    torch.testing.assert_close(found, expected, rtol=rtol, atol=atol)


# --- peft, on tensors whose trimmed number of entries has no remainder ------------------------------------------------


@pytest.mark.parametrize(("elect", "theirs"), [("sum", "total"), ("count", "frequency")])
@pytest.mark.parametrize("density", [0.1, 0.2, 0.5])
def test_ties_equals_pefts(elect, theirs, density):
    given = tensors(5)  # an odd number of votes: with density 1 none is even
    expected = peft.ties(given, torch.ones(5), density, theirs)
    found = tv.ties(named(given), density, elect=elect)["w"]
    if elect == "sum":
        close(found, expected)
        return
    kept = torch.stack([tv.ties([v], density)["w"].sign() for v in named(given)]).sum(0)
    close(found[kept != 0], expected[kept != 0])
    assert (found[kept == 0] == 0).all()  # an even vote elects no sign here, as in the paper's sgn; there the positive
    assert (expected[kept == 0] >= 0).all() and (expected[kept == 0] > 0).any()


def test_the_elections_differ_where_one_large_entry_stands_against_two_small_ones():
    given = [torch.tensor([3.0]), torch.tensor([-1.0]), torch.tensor([-1.0])]
    assert tv.ties(named(given), 1.0)["w"] == 3 and tv.ties(named(given), 1.0, elect="count")["w"] == -1


@pytest.mark.parametrize("elect", ["sum", "count"])
def test_a_weight_of_two_is_the_vector_given_twice(elect):
    a, b, c = tensors(3)
    theirs = {"sum": "total", "count": "frequency"}[elect]
    found = tv.ties(named([a, b, c]), 0.5, weights=[2, 1, 0], elect=elect)["w"]
    close(found, tv.ties(named([a, a, b]), 0.5, elect=elect)["w"])
    close(found, peft.ties([a, a, b], torch.ones(3), 0.5, theirs))
    close(tv.ties(named([a, b, c]), 0.5, weights=[0.2, 0.1, 0.0], elect=elect)["w"], found)  # their scale is no matter
    less = tv.ties(named([a, b]), 0.5, weights=[1, -1], elect=elect)["w"]
    close(less, tv.ties(named([a, -b]), 0.5, elect=elect)["w"])


def test_pefts_weights_leave_the_election_and_the_count_as_they_are():
    """There a weight scales a vector after the election, and the mean is over a number of vectors, not over weights."""
    given, w = tensors(4), torch.tensor([0.1, 2.0, 0.5, 1.0])
    expected = peft.ties(given, w, 0.5, "total")
    found = tv.ties(named(given), 0.5, weights=w, votes=[1, 1, 1, 1])["w"]
    rows = torch.stack([tv.ties([v], 0.5)["w"] for v in named(given)])
    agrees = rows * rows.sum(0).sign() > 0
    total, count = (agrees * w.view(-1, 1, 1)).sum(0), agrees.sum(0)
    close(found * total, expected * count)
    weighted = tv.ties(named(given), 0.5, weights=w)["w"]
    assert (weighted.sign() != expected.sign()).double().mean() > 0.05, "weights that vote elect other signs"


@pytest.mark.parametrize("density", [0.1, 0.5])
def test_trimming_and_linear_merging_equal_pefts(density):
    given, w = tensors(3), torch.tensor([0.3, -1.0, 2.0])
    trimmed = [tv.ties([v], density) for v in named(given)]
    for ours, one in zip(trimmed, given, strict=True):
        assert torch.equal(ours["w"], peft.prune(one, density, "magnitude"))
    close(tv.combine(trimmed, w)["w"], peft.magnitude_prune(given, w, density))
    close(tv.combine(named(given), w)["w"], peft.task_arithmetic(given, w))


def test_dare_equals_pefts_given_the_same_mask(monkeypatch):
    """Their masks come from the global random state: here from the generator that ours has."""
    given, w = tensors(3), torch.tensor([0.3, -1.0, 2.0])
    drawn = generator(7)
    monkeypatch.setattr(torch, "bernoulli", lambda p: (torch.rand(p.shape, generator=drawn) >= 1 - p).to(p))
    theirs = peft.dare_linear(given, w, 0.25), peft.dare_ties(given, torch.ones(3), 0.25)
    g = generator(7)
    ours = [tv.dare(v, 0.75, g) for v in named(given)]
    close(tv.combine(ours, w)["w"], theirs[0])
    close(tv.ties([tv.dare(v, 0.75, g) for v in named(given)], 1.0)["w"], theirs[1])
    for elect, method in (("sum", "total"), ("count", "frequency")):
        mask = peft.calculate_majority_sign_mask(torch.stack(given), method)
        close(tv.ties(named(given), 1.0, elect=elect)["w"], peft.disjoint_merge(torch.stack(given), mask))


def test_trimming_is_over_all_entries_here_and_entry_by_entry_in_peft():
    small, large = torch.full((10,), 0.1), torch.arange(1.0, 11.0)
    found = tv.ties([{"small": small, "large": large}], 0.5)
    assert (found["large"] == large).all() and (found["small"] == 0).all()  # as the paper's code
    assert (peft.prune(small, 0.5, "magnitude") != 0).sum() == 5


# --- Iso-C ------------------------------------------------------------------------------------------------------------


def test_iso_c_has_equal_singular_values_and_the_polar_factor():
    given = tensors(3, (6, 9))
    found, total = tv.iso_c(named(given))["w"], torch.stack(given).sum(0)
    s = torch.linalg.svdvals(found)
    close(s, torch.linalg.svdvals(total).mean().expand(6))
    polar, _ = scipy.linalg.polar(total.double().numpy())
    close(found, s[0] * torch.tensor(polar).float())
    once = tv.iso_c(named([found]))["w"]
    close(once, found)  # isotropic already


def test_iso_c_turns_with_the_bases():
    given = tensors(3, (6, 9))
    q, _ = torch.linalg.qr(torch.randn(6, 6, generator=generator(8)))
    r, _ = torch.linalg.qr(torch.randn(9, 9, generator=generator(9)))
    found = tv.iso_c(named([q @ v @ r for v in given]))["w"]
    close(found, q @ tv.iso_c(named(given))["w"] @ r, atol=1e-5)


def test_iso_c_averages_what_is_no_matrix_and_fills_no_empty_direction():
    low = [torch.outer(*torch.randn(2, 8, generator=generator(i))) for i in range(2)]
    vectors = [{"w": v, "b": torch.full((3,), i + 1.0), "k": torch.ones(2, 2, 3, 3)} for i, v in enumerate(low)]
    found = tv.iso_c(vectors)
    s = torch.linalg.svdvals(found["w"])
    close(s[:2], torch.linalg.svdvals(sum(low))[:2].mean().expand(2))
    assert (s[2:] < 1e-5 * s[0]).all()
    assert (found["b"] == 1.5).all() and (found["k"] == 1).all()
    assert (tv.iso_c([tv.scale(vectors[0], 0.0)])["w"] == 0).all()


# --- RegMean ----------------------------------------------------------------------------------------------------------


def layers(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 3, bias=False))


def problem(k=3, n=40):
    start = layers().state_dict()
    vectors = [tv.difference(layers(i + 1).state_dict(), start) for i in range(k)]
    inputs = [torch.randn(n, 5, generator=generator(i)) * torch.rand(5, generator=generator(9 + i)) for i in range(k)]
    return start, vectors, inputs


def test_grams_are_those_of_every_layers_inputs():
    start, vectors, (x, *_) = problem()
    net, state = layers(4), tv.apply(start, vectors[0])
    found = tv.grams(net, state, x, rows=7)
    net.load_state_dict(state)
    hidden = net[1](net[0](x))
    assert list(found) == ["0.weight", "2.weight"] and not net[0]._forward_pre_hooks
    close(found["0.weight"], x.double().T @ x.double() / len(x))
    close(found["2.weight"], (hidden.T @ hidden).double() / len(x))
    tokens = nn.Linear(5, 2)  # the last axis is the inputs', all others are rows
    close(tv.grams(tokens, tokens.state_dict(), x.view(8, 5, 5))["weight"], found["0.weight"])


def test_regmean_is_least_squares_on_the_stacked_data():
    start, vectors, inputs = problem()
    grams = [tv.grams(layers(), tv.apply(start, v), x) for v, x in zip(vectors, inputs, strict=True)]
    found = tv.regmean(vectors, iter(grams), keep=1.0)
    a = torch.cat(inputs).double()
    b = torch.cat([x @ v["0.weight"].T for v, x in zip(vectors, inputs, strict=True)]).double()
    close(found["0.weight"].double(), torch.linalg.lstsq(a, b).solution.T, rtol=1e-4)
    equals = torch.stack([v["0.bias"] for v in vectors]).mean(0)
    close(found["0.bias"], equals)
    states = [tv.apply(start, v)["2.weight"].double() for v in vectors]  # in weights, as the paper writes it
    g = [one["2.weight"] for one in grams]
    whole = sum(w @ gram for w, gram in zip(states, g, strict=True)) @ torch.linalg.inv(sum(g))
    close(tv.apply(start, found)["2.weight"].double(), whole, rtol=1e-4)


def test_limits_of_regmean():
    start, vectors, inputs = problem()
    grams = [tv.grams(layers(), tv.apply(start, v), x) for v, x in zip(vectors, inputs, strict=True)]
    mean = tv.combine(vectors, [1 / 3] * 3)
    for keep in (0.0, 0.5, 1.0):
        for found, expected in (
            (tv.regmean(vectors[:1], grams[:1], keep), vectors[0]),
            (tv.regmean([vectors[0]] * 3, grams, keep), vectors[0]),
            (tv.regmean(vectors, [grams[0]] * 3, keep), mean),
            (tv.regmean(vectors, [{}] * 3, keep), mean),
        ):
            for name in expected:
                close(found[name], expected[name])
    diagonal = [gram["0.weight"].diagonal() for gram in grams]  # keep = 0: each input's column has weights of its own
    expected = sum(v["0.weight"] * d for v, d in zip(vectors, diagonal, strict=True)) / sum(diagonal)
    close(tv.regmean(vectors, grams, 0.0)["0.weight"].double(), expected)
    turn, _ = torch.linalg.qr(torch.randn(5, 5, generator=generator(3), dtype=torch.float64))
    first = [{"w": v["0.weight"].double()} for v in vectors]
    turned = [{"w": v["w"] @ turn} for v in first]
    found = tv.regmean(turned, [{"w": turn.T @ g["0.weight"] @ turn} for g in grams], 1.0)["w"]
    close(found, tv.regmean(first, [{"w": g["0.weight"]} for g in grams], 1.0)["w"] @ turn)


def test_directions_that_no_task_has_keep_the_mean():
    _, vectors, inputs = problem()
    grams = []
    for x in inputs:
        x = x.double()
        x[:, 1], x[:, 4] = 0, x[:, 3]  # a dead input, and one that is another's copy
        grams.append({"0.weight": x.T @ x})
    found, mean = tv.regmean(vectors, grams, 1.0)["0.weight"], tv.combine(vectors, [1 / 3] * 3)["0.weight"]
    close(found[:, 1], mean[:, 1])
    close(found[:, 3] - found[:, 4], mean[:, 3] - mean[:, 4], atol=1e-5)
    assert (found - mean).abs().max() > 0.05 and found.isfinite().all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda sets: sets.pop(), "2 sets of Gram matrices for 3 vectors: one each"),
        (lambda sets: sets.append(sets[0]), "4 sets of Gram matrices for 3 vectors: one each"),
        (lambda sets: sets[1].pop("0.weight"), "a set of Gram matrices.*lacks 0.weight"),
        (lambda sets: sets[0].update({"0.bias": torch.eye(7)}), r"\(7, 7\) of 0.bias, which has shape \(7,\)"),
        (lambda sets: sets[0].update({"2.weight": torch.eye(3)}), r"\(3, 3\) of 2.weight, which has shape \(3, 7\)"),
        (lambda sets: sets[0].update(x=torch.eye(3)), "of x, which is no entry of the vectors"),
    ],
)
def test_gram_matrices_that_do_not_fit_are_refused(change, message):
    start, vectors, inputs = problem()
    sets = [tv.grams(layers(), tv.apply(start, v), x) for v, x in zip(vectors, inputs, strict=True)]
    change(sets)
    with pytest.raises(ValueError, match=message):
        tv.regmean(vectors, sets)
    with pytest.raises(ValueError, match=r"keep is 1\.5: it must be a fraction from 0 to 1"):
        tv.regmean(vectors, sets, 1.5)


# --- states as users have them ----------------------------------------------------------------------------------------

MERGES = {
    "sum": lambda vectors: tv.add(*vectors),
    "ties": lambda vectors: tv.ties(vectors, 0.5),
    "ties by count": lambda vectors: tv.ties(vectors, 0.5, elect="count", weights=[1.0] * len(vectors)),
    "dare": lambda vectors: tv.merge(vectors, "dare", drop=0.5, generator=generator()),
    "iso-c": tv.iso_c,
    "regmean": lambda vectors: tv.regmean(vectors, [{"0.weight": torch.eye(4)} for _ in vectors]),
}


class Tied(nn.Module):
    """A model of language in small: embedding and output share a matrix; a counter; a mask with infinities."""

    def __init__(self, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.embed = nn.Embedding(6, 4)
        self.inner = nn.Linear(4, 4)
        self.out = nn.Linear(4, 6, bias=False)
        self.out.weight = self.embed.weight
        self.register_buffer("mask", torch.tensor([0.0, -torch.inf]))
        self.register_buffer("count", torch.tensor(seed))

    def forward(self, x):
        return self.out(self.inner(self.embed(x)).tanh())


def tied_problem():
    start, x = Tied().state_dict(), torch.tensor([[0, 3], [5, 1]])
    return start, [tv.difference(Tied(i).state_dict(), start) for i in (1, 2, 3)], x


@pytest.mark.parametrize("method", MERGES)
def test_tied_weights_stay_tied_and_count_once(method):
    start, vectors, x = tied_problem()
    assert all(v["embed.weight"] is v["out.weight"] for v in vectors)
    if method == "regmean":
        sets = [tv.grams(Tied(), tv.apply(start, v), x) for v in vectors]
        assert list(sets[0]) == ["inner.weight"]  # the mean for the shared matrix, under both names
        merged = tv.regmean(vectors, sets)
    else:
        merged = MERGES[method](vectors)
    assert torch.equal(merged["embed.weight"], merged["out.weight"])
    state = tv.apply(start, merged, 0.5)
    assert state["embed.weight"] is state["out.weight"] and state["count"] == 0
    called = torch.func.functional_call(Tied(), state, (x,))  # refuses two tensors for one weight
    net = Tied(7)
    net.load_state_dict(state)
    close(net(x), called)
    assert torch.equal(state["mask"], start["mask"])  # equal infinities differ by nothing
    once = tv.flatten(vectors[0])
    assert len(once) == 24 + 16 + 4 + 2
    bare = [{name: e.clone() for name, e in v.items() if name != "out.weight"} for v in vectors]
    assert tv.threshold(vectors[0], 0.3) == tv.threshold(bare[0], 0.3)
    close(tv.cosines(vectors), tv.cosines(bare))


@pytest.mark.parametrize("method", MERGES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64, torch.float8_e4m3fn])
def test_any_floating_type_gives_what_single_precision_gives(method, dtype):
    """Of states and of vectors, contiguous or not, with and without gradients."""
    shapes = {"0.weight": (6, 4), "0.bias": (6,)}
    single = [{n: 0.1 * torch.randn(s, generator=generator(i)) for n, s in shapes.items()} for i in range(4)]
    single = [{n: e.to(dtype).float() for n, e in state.items()} for state in single]
    turned = [
        {n: (e.to(dtype).T.contiguous().T if e.dim() > 1 else e.to(dtype)).requires_grad_() for n, e in state.items()}
        for state in single
    ]
    assert not turned[0]["0.weight"].is_contiguous()
    for given in (turned, [{n: e.detach() for n, e in state.items()} for state in turned]):
        start, *tuned = given
        vectors = [tv.difference(state, start) for state in tuned]
        expected = MERGES[method]([tv.difference(state, single[0]) for state in single[1:]])
        merged = MERGES[method](vectors)
        bare = MERGES[method](tuned)  # as vectors
        wanted = MERGES[method](single[1:])
        for name in shapes:
            assert merged[name].dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
            close(merged[name].float(), expected[name])
            close(bare[name].float(), wanted[name])
            assert not merged[name].requires_grad
        state = tv.apply(start, merged, 0.5)
        assert all(state[n].dtype == dtype and not state[n].requires_grad for n in shapes)
        assert torch.equal(tv.apply(start, tuned[0], 0.0)["0.bias"].float(), start["0.bias"].detach().float())


@pytest.mark.parametrize("method", MERGES)
def test_zero_vectors_and_a_single_one(method):
    vector = {"0.weight": torch.randn(6, 4, generator=generator()), "0.bias": torch.ones(6)}
    zero = tv.scale(vector, 0.0)
    assert all((entry == 0).all() for entry in MERGES[method]([zero, zero]).values())
    alone = MERGES[method]([vector])
    if method in ("sum", "regmean"):
        for name in vector:
            close(alone[name], vector[name])
    assert all(entry.isfinite().all() for entry in MERGES[method]([zero, vector]).values())


@pytest.mark.parametrize("method", MERGES)
def test_what_no_merge_can_use_is_refused_in_one_line(method):
    vector = {"0.weight": torch.ones(6, 4), "0.bias": torch.ones(6)}
    for other, message in (
        ({"0.weight": torch.ones(6, 4)}, "lacks 0.bias"),
        (vector | {"module.0.bias": torch.ones(6)}, "also has module.0.bias"),
        (vector | {"0.weight": torch.ones(4, 6)}, r"0.weight has shape \(4, 6\), expected \(6, 4\)"),
        (vector | {"0.weight": torch.ones(6, 4, device="meta")}, "0.weight is on the device meta"),
        (vector | {"0.weight": torch.ones(6, 4, dtype=torch.complex64)}, "0.weight is complex"),
    ):
        with pytest.raises(ValueError, match=message) as refusal:
            MERGES[method]([vector, other])
        assert "\n" not in str(refusal.value)
        with pytest.raises(ValueError, match=message):
            tv.apply(vector, other)
    with pytest.raises(ValueError, match="no vectors: at least one"):
        MERGES[method]([])


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_numbers_that_are_not_finite_are_refused_where_they_come_in(bad):
    start = {"w": torch.ones(3), "steps": torch.tensor(1)}
    broken = start | {"w": torch.tensor([1.0, bad, bad])}
    for tuned, before in ((broken, start), (start, broken)):
        with pytest.raises(ValueError, match="w differs by 2 numbers that are NaN or infinite"):
            tv.difference(tuned, before)
    with pytest.raises(ValueError, match="a vector holds numbers that are NaN or infinite"):
        tv.ties([{"w": broken["w"]}])
    for c in (bad, np.float32(bad), torch.tensor(bad)):
        for call in (lambda c=c: tv.apply(start, start, c), lambda c=c: tv.scale({"w": start["w"]}, c)):
            with pytest.raises(ValueError, match="finite numbers are accepted"):
                call()


def test_a_sum_that_half_precision_cannot_hold_is_refused():
    start = {"w": torch.tensor([6e4, -torch.inf], dtype=torch.float16)}
    vector = {"w": torch.tensor([1e4, 0.0])}
    with pytest.raises(ValueError, match=r"leaves the range of torch.float16: smaller coefficients"):
        tv.apply(start, vector)
    assert tv.apply(start, vector, 0.5)["w"].tolist() == [65000 - 65000 % 32, -torch.inf]  # its last step there is 32


@pytest.mark.parametrize(
    "half", [0.5, np.float32(0.5), np.float64(0.5), np.array(0.5), torch.tensor(0.5), torch.tensor(0.5).half()]
)
def test_any_real_number_is_a_coefficient(half):
    start, vector = {"w": torch.ones(2)}, {"w": torch.full((2,), 4.0)}
    assert tv.apply(start, vector, half)["w"].tolist() == [3, 3]
    assert tv.apply(start, [vector, vector], half)["w"].tolist() == [5, 5]
    assert tv.scale(vector, half)["w"].tolist() == [2, 2]
    assert tv.combine([vector, vector], [half, 1])["w"].tolist() == [6, 6]
    assert tv.apply(start, [vector, vector], np.array([0.5, 1], np.float32))["w"].tolist() == [7, 7]
    assert tv.ties([vector, vector], weights=torch.tensor([1, 2]))["w"].tolist() == [4, 4]


def test_weights_that_make_no_sense_are_refused():
    vectors = [{"w": torch.ones(2)}, {"w": torch.ones(2)}]
    for options, message in (
        ({"weights": [0.0, 0.0]}, "all weights or all votes are 0"),
        ({"weights": [1.0]}, "2 vectors with 1 weights"),
        ({"votes": [1.0, 2.0, 3.0]}, "2 vectors with 3 votes"),
        ({"weights": [1.0, np.nan]}, "weights hold nan: finite numbers"),
        ({"weights": [1.0, -1.0], "votes": [1.0, 1.0]}, "differ in sign"),
        ({"density": 0.0}, "density is 0.0: it must be a fraction above 0 and up to 1"),
    ):
        with pytest.raises(ValueError, match=message):
            tv.ties(vectors, **options)


def test_inputs_of_a_merge_stay_as_they_are():
    start, vectors, _ = tied_problem()
    before = copy.deepcopy((start, vectors))
    for method, merge in MERGES.items():
        if method != "regmean":
            merge(vectors)["embed.weight"].add_(1)
    tv.apply(start, vectors, 0.5)["embed.weight"].add_(1)
    with warnings.catch_warnings():
        assert all(torch.equal(start[n], before[0][n]) for n in start)
        assert all(torch.equal(v[n], old[n]) for v, old in zip(vectors, before[1], strict=True) for n in v)
