"""Arithmetic on state dicts: algebra, oracles for the merges, the tangent space, files, real architectures."""

import copy
import pickle

import cvxpy
import numpy as np
import pytest
import safetensors.torch
import torch
from conftest import generator
from safetensors import SafetensorError
from torch import nn

from phenomena.chapters.task_arithmetic import task_vectors, weights
from phenomena.science import datasets


def network(seed=0, width=6):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, width), nn.BatchNorm1d(width), nn.Tanh(), nn.Linear(width, 3))


def states(k=3):
    """k states of one architecture, with buffers that moved and an integer entry."""
    found = []
    for seed in range(k):
        net = network(seed)
        for _ in range(seed + 1):
            net(torch.randn(8, 4, generator=generator(seed)))
        found.append({name: entry.clone() for name, entry in net.state_dict().items()})
    return found


def equal(a, b):
    assert a.keys() == b.keys()
    for name in a:
        torch.testing.assert_close(a[name], b[name], rtol=1e-6, atol=1e-7)


# --- vectors ----------------------------------------------------------------------------------------


def test_applying_a_difference_gives_the_fine_tuned_state_but_for_its_counters():
    start, tuned, _ = states()
    vector = task_vectors.difference(tuned, start)
    assert "1.running_mean" in vector and "1.num_batches_tracked" not in vector
    found = task_vectors.apply(start, vector)
    assert found["1.num_batches_tracked"] == start["1.num_batches_tracked"] == 1
    assert tuned["1.num_batches_tracked"] == 2
    equal(task_vectors.floating(found), task_vectors.floating(tuned))
    network().load_state_dict(found)  # whole, and of the right types


def test_the_algebra_of_vectors():
    start, one, two = states()
    a, b = (task_vectors.difference(s, start) for s in (one, two))
    equal(task_vectors.add(a, task_vectors.negate(a)), {n: torch.zeros_like(v) for n, v in a.items()})
    equal(task_vectors.apply(start, a, -1.0), task_vectors.apply(start, task_vectors.negate(a)))
    equal(
        task_vectors.apply(start, [a, b], [0.3, 0.7]),
        task_vectors.apply(start, task_vectors.combine([a, b], [0.3, 0.7])),
    )
    equal(
        task_vectors.apply(start, [a, b], 0.4),
        task_vectors.apply(start, task_vectors.scale(task_vectors.add(a, b), 0.4)),
    )
    equal(task_vectors.analogy(a, a, b), b)
    equal(task_vectors.analogy(a, b, a), b)
    c = task_vectors.random_like(a, generator())
    equal(task_vectors.analogy(a, b, c), task_vectors.add(c, b, task_vectors.negate(a)))  # as the official code must


def test_inputs_stay_as_they_are():
    start, one, two = states()
    before = copy.deepcopy((start, one, two))
    a, b = (task_vectors.difference(s, start) for s in (one, two))
    kept = copy.deepcopy((a, b))
    task_vectors.apply(start, [a, b], [0.0, 2.0])["0.weight"].add_(1)
    for method in task_vectors.METHODS:
        task_vectors.merge([a, b], method, generator=generator())["0.weight"].add_(1)
    task_vectors.analogy(a, b, b), task_vectors.cosines([a, b])
    for old, now in zip((*before, *kept), (start, one, two, a, b), strict=True):
        assert all(torch.equal(old[name], now[name]) for name in old)


def test_half_precision_is_summed_in_single():
    start = {"w": torch.full((1000,), 1.0, dtype=torch.bfloat16), "steps": torch.tensor(3)}
    vectors = [{"w": torch.full((1000,), 2.0**-10)} for _ in range(8)]  # each alone is lost beside 1.0 in bfloat16
    found = task_vectors.apply(start, vectors)
    assert found["w"].dtype == torch.bfloat16 and (found["w"].float() == 1 + 2.0**-7).all()
    assert task_vectors.difference(found, start)["w"].dtype == torch.float32
    naive = start["w"].clone()
    for v in vectors:
        naive += v["w"].bfloat16()
    assert (naive == 1).all(), "the trap is real"


def test_cosines_against_numpy():
    start, one, two = states()
    vectors = [task_vectors.difference(s, start) for s in (one, two)]
    x, y = (np.concatenate([v.numpy().ravel() for v in vector.values()]).astype(float) for vector in vectors)
    found = task_vectors.cosines(vectors)
    assert found[0, 1].item() == pytest.approx(x @ y / np.sqrt(x @ x * (y @ y)), rel=1e-6)
    torch.testing.assert_close(found.diagonal(), torch.ones(2, dtype=torch.float64))
    zero = task_vectors.scale(vectors[0], 0.0)
    assert task_vectors.cosines([zero, vectors[0]])[0, 1] == 0


def test_a_random_vector_has_each_entrys_norm_and_no_direction():
    vector = {"a": torch.randn(200, 300, generator=generator(1)), "b": torch.full((500,), 3.0), "c": torch.zeros(4)}
    found = task_vectors.random_like(vector, generator())
    for name, entry in vector.items():
        assert found[name].norm().item() == pytest.approx(entry.norm().item(), rel=1e-5)
    assert abs(task_vectors.cosines([vector, found])[0, 1]) < 0.02
    again = task_vectors.random_like(vector, generator())
    assert all(torch.equal(found[name], again[name]) for name in vector)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("3.bias"), "lacks 3.bias"),
        (lambda s: s.update(extra=torch.zeros(1), more=torch.zeros(1)), "also has extra and 1 more"),
        (lambda s: s.update({"0.weight": torch.zeros(7, 4)}), r"0.weight has shape \(7, 4\), expected \(6, 4\)"),
    ],
)
def test_another_architecture_is_refused(change, message):
    start, other, _ = states()
    vector = task_vectors.difference(other, start)
    change(other)
    with pytest.raises(ValueError, match="another architecture.*" + message):
        task_vectors.difference(other, start)
    floats = task_vectors.floating(other)
    for call in (
        lambda: task_vectors.apply(start, floats),
        lambda: task_vectors.add(vector, floats),
        lambda: task_vectors.cosines([vector, floats]),
        lambda: task_vectors.ties([vector, floats]),
        lambda: task_vectors.Tangent(network()).load(other),
    ):
        with pytest.raises(ValueError, match="another architecture"):
            call()


def test_counts_that_do_not_fit_are_refused():
    vector = {"w": torch.ones(2)}
    for call in (
        lambda: task_vectors.combine([], []),
        lambda: task_vectors.add(),
        lambda: task_vectors.combine([vector], [1.0, 2.0]),
        lambda: task_vectors.apply(vector, [vector, vector], [1.0]),
        lambda: task_vectors.ties([]),
    ):
        with pytest.raises(ValueError, match=r"one each|at least one"):
            call()


# --- merging ----------------------------------------------------------------------------------------


def ties_by_hand(vectors, density):
    """TIES entry by entry in plain Python, as the paper's section 4 says it."""
    rows = [np.concatenate([v.numpy().ravel() for v in vector.values()]) for vector in vectors]
    trimmed = []
    for row in rows:
        kept = sorted(range(len(row)), key=lambda i: -abs(row[i]))[: max(1, round(density * len(row)))]
        trimmed.append([row[i] if i in set(kept) else 0.0 for i in range(len(row))])
    merged = []
    for values in zip(*trimmed, strict=True):
        sign = np.sign(sum(values))
        agreeing = [v for v in values if v * sign > 0]
        merged.append(sum(agreeing) / len(agreeing) if agreeing else 0.0)
    return np.array(merged)


@pytest.mark.parametrize("density", [0.05, 0.2, 0.5, 1.0])
def test_ties_against_plain_python(density, monkeypatch):
    monkeypatch.setattr(task_vectors, "PIECE", 50)  # an entry in three pieces, the last one shorter
    vectors = [{n: torch.randn(3, 40, generator=generator(10 * s + i)) for i, n in enumerate("ab")} for s in range(5)]
    found = task_vectors.flatten(task_vectors.ties(vectors, density)).numpy()
    np.testing.assert_allclose(found, ties_by_hand(vectors, density), rtol=1e-5, atol=1e-7)


def test_ties_of_one_vector_is_its_trim_and_of_equal_ones_that_vector():
    vector = {"w": torch.randn(100, generator=generator())}
    kept = task_vectors.ties([vector], 0.3)["w"]
    assert (kept != 0).sum() == 30
    assert kept.abs()[kept != 0].min() >= vector["w"].abs()[kept == 0].max()
    equal(task_vectors.ties([vector, vector], 1.0), vector)
    opposite = task_vectors.ties([vector, task_vectors.negate(vector)], 1.0)
    assert (opposite["w"] == 0).all()


def test_elected_value_is_the_least_squares_fit_to_the_agreeing_values():
    """The disjoint mean minimises the square distance to the values of the elected sign: a convex programme."""
    values = np.array([0.9, 0.4, -0.3, 0.2])
    x = cvxpy.Variable()
    cvxpy.Problem(cvxpy.Minimize(cvxpy.sum_squares(x - values[values > 0]))).solve(solver=cvxpy.CLARABEL)
    found = task_vectors.ties([{"w": torch.tensor([v])} for v in values], 1.0)["w"].item()
    assert found == pytest.approx(float(x.value), abs=1e-5)


def test_dare_keeps_the_mean_and_the_wanted_fraction():
    vector = {"w": torch.full((100_000,), 2.0)}
    found = task_vectors.dare(vector, 0.9, generator())["w"]
    assert found.unique().tolist() == pytest.approx([0.0, 20.0])
    assert (found > 0).double().mean().item() == pytest.approx(0.1, abs=0.004)
    assert found.mean().item() == pytest.approx(2.0, rel=0.04)
    equal(task_vectors.dare(vector, 0.0, generator()), vector)


def test_merge_by_name():
    vectors = [{"w": torch.randn(50, generator=generator(s))} for s in range(3)]
    equal(task_vectors.merge(vectors, "sum", generator=generator()), task_vectors.add(*vectors))
    equal(task_vectors.merge(vectors, "ties", density=0.5, generator=generator()), task_vectors.ties(vectors, 0.5))
    equal(task_vectors.merge(vectors, "dare", drop=0.0, generator=generator()), task_vectors.add(*vectors))
    with pytest.raises(ValueError, match="'mean' is not known: one of sum, ties, dare"):
        task_vectors.merge(vectors, "mean", generator=generator())
    for density in (0.0, 1.1, -1.0, float("nan")):
        with pytest.raises(ValueError, match="above 0 and up to 1"):
            task_vectors.ties(vectors, density)
    for drop in (-0.1, 1.0, float("nan")):
        with pytest.raises(ValueError, match="from 0 to below 1"):
            task_vectors.dare(vectors[0], drop, generator())


# --- tangent space ----------------------------------------------------------------------------------


def smooth():
    return network().double().eval()


def moved(net, size, seed=5):
    g = generator(seed)
    return {
        n: p
        + (
            size * torch.randn(p.shape, generator=g, dtype=p.dtype)
            if p.is_floating_point() and "running" not in n
            else 0
        )
        for n, p in net.state_dict().items()
    }


def test_the_tangent_model_is_the_derivative():
    """Against finite differences: the error of the expansion is quadratic in the step."""
    net, x = smooth(), torch.randn(5, 4, generator=generator(3), dtype=torch.float64)
    tangent = task_vectors.Tangent(net)
    assert torch.equal(tangent(x), net(x))
    errors = []
    for size in (1e-2, 1e-3):
        state = moved(net, size)
        other = copy.deepcopy(net)
        other.load_state_dict(state)
        errors.append((tangent.load(state)(x) - other(x)).abs().max().item())
        equal(tangent.state(), state)
    assert errors[0] / errors[1] == pytest.approx(100, rel=0.2) and errors[0] > 1e-9


def test_tangent_outputs_add_up_exactly():
    net, x = smooth(), torch.randn(5, 4, generator=generator(3), dtype=torch.float64)
    start = net.state_dict()
    vectors = [task_vectors.difference(moved(net, 0.3, seed), start) for seed in (1, 2)]
    at = [task_vectors.Tangent(net).load(task_vectors.apply(start, v))(x) for v in vectors]
    both = task_vectors.Tangent(net).load(task_vectors.apply(start, vectors))(x)
    torch.testing.assert_close(both, at[0] + at[1] - net(x), rtol=1e-10, atol=1e-12)
    truly = copy.deepcopy(net)
    truly.load_state_dict(task_vectors.apply(start, vectors))
    assert (truly(x) - both).abs().max() > 0.01, "the network itself is not linear"


def test_the_tangent_model_trains_and_leaves_the_network_alone():
    net = smooth()
    start = copy.deepcopy(net.state_dict())
    tangent = task_vectors.Tangent(net)
    x, y = torch.randn(30, 4, generator=generator(), dtype=torch.float64), torch.arange(30) % 3
    optimiser = torch.optim.SGD(tangent.delta, 0.5)
    losses = []
    for _ in range(50):
        loss = nn.functional.cross_entropy(tangent(x), y)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.95 * losses[0]
    equal(dict(net.state_dict()), dict(start))
    equal(dict(tangent.network.state_dict()), dict(start))


# --- files ------------------------------------------------------------------------------------------


def test_states_travel_as_safetensors(tmp_path):
    state = states()[1] | {"half": torch.randn(3).bfloat16(), "turned": torch.randn(4, 3).T}
    state["tied"] = state["0.weight"]
    weights.save(tmp_path / "new" / "a.safetensors", state)
    found = weights.load(tmp_path / "new" / "a.safetensors")
    assert found.keys() == state.keys()
    assert all(torch.equal(found[n], state[n]) and found[n].dtype == state[n].dtype for n in state)
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["a.safetensors"]


def test_pickles_are_refused_with_the_way_to_convert(tmp_path):
    state = states()[0]
    torch.save(state, tmp_path / "new.pt")
    torch.save(state, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    (tmp_path / "plain.safetensors").write_bytes(pickle.dumps({"a": 1}))
    for name in ("new.pt", "old.pt", "plain.safetensors"):
        with pytest.raises(ValueError, match=r"is a pickle.*must be safetensors.*save_file"):
            weights.load(tmp_path / name)
    (tmp_path / "other").write_bytes(b"no weights at all, but long enough for a header")
    with pytest.raises(ValueError, match="not a safetensors file"):
        weights.load(tmp_path / "other")
    with pytest.raises(FileNotFoundError):
        weights.load(tmp_path / "none")


def test_the_command_in_the_refusal_converts(tmp_path, monkeypatch):
    state = states()[0]
    torch.save(state, tmp_path / "a.pt")
    with pytest.raises(ValueError, match="is a pickle") as refusal:
        weights.load(tmp_path / "a.pt")
    command = "safetensors.torch.save_file" + str(refusal.value).partition("safetensors.torch.save_file")[2]
    monkeypatch.chdir(tmp_path)
    exec(command, {"torch": torch, "safetensors": safetensors})  # as a reader would paste it
    equal(weights.load(tmp_path / "a.safetensors"), state)


def test_the_cache_gives_the_same_bits_and_makes_once(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets, "CACHE", tmp_path)
    calls = []

    def make(seed=0):
        calls.append(seed)
        return {"w": torch.randn(5, generator=generator(seed))}

    first = weights.cached(make, {"lr": 0.1})
    again = weights.cached(make, {"lr": 0.1})
    assert len(calls) == 1 and torch.equal(first["w"], again["w"])
    assert not torch.equal(weights.cached(lambda: make(1), {"lr": 0.2})["w"], first["w"])
    assert len(calls) == 2 and len(list((tmp_path / "weights").iterdir())) == 2


def test_a_damaged_file_of_the_cache_is_named_with_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets, "CACHE", tmp_path)
    weights.cached(lambda: states()[0], {"lr": 0.1})
    (kept,) = (tmp_path / "weights").iterdir()
    for cut in (kept.read_bytes()[:-5], kept.read_bytes()[:20], b""):
        kept.write_bytes(cut)
        with pytest.raises(datasets.DataError, match=rf"{kept.name} is not a safetensors file .*: delete this file"):
            weights.cached(lambda: states()[0], {"lr": 0.1})


def test_a_cache_that_takes_no_weights_is_named_with_what_to_do(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(datasets, "CACHE", tmp_path / "file")
    with pytest.raises(
        datasets.DataError, match=r"cannot be kept in .*file/weights \(.*\): set PHENOMENA_DATA.*cache to"
    ):
        weights.cached(lambda: states()[0], {"lr": 0.1})

    def full(*_):
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(datasets, "CACHE", tmp_path)
    monkeypatch.setattr(weights, "save_file", full)
    with pytest.raises(
        datasets.DataError, match=r"No space left on device .*: set PHENOMENA_DATA to a folder with space"
    ):
        weights.cached(lambda: states()[0], {"lr": 0.1})
    assert not list((tmp_path / "weights").iterdir())


def test_a_digest_tells_code_and_content_apart():
    seen = [weights.digest([datasets]), weights.digest([weights]), weights.digest([datasets, weights])]
    x = torch.arange(6)
    same = x.clone().view(2, 3).T.contiguous().T  # other strides, the same content
    turned = [weights.digest([], t) for t in ([x], [x + 1], [x.float()], [x.view(2, 3)], [x, x], [])]
    assert len({*seen, *turned}) == len(seen) + len(turned)
    assert weights.digest([], [same]) == weights.digest([], [x.view(2, 3)])
    assert weights.digest([], [torch.tensor(1.0), torch.zeros(2, dtype=torch.bfloat16)])


# --- real architectures, at random weights ------------------------------------------------------------


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.mark.filterwarnings("ignore")  # theirs
def test_vectors_of_open_clip_and_timm_states():
    import open_clip
    import timm

    vision = {"image_size": 32, "patch_size": 16, "width": 32, "layers": 2, "head_width": 16}
    text = {"context_length": 8, "vocab_size": 64, "width": 32, "heads": 2, "layers": 2}
    image = torch.rand(2, 3, 32, 32, generator=generator())
    clip = open_clip.model.CLIP(embed_dim=16, vision_cfg=vision, text_cfg=text).eval()
    vit = timm.create_model(
        "vit_tiny_patch16_224", img_size=32, embed_dim=32, depth=2, num_heads=2, num_classes=5
    ).eval()
    resnet = timm.create_model("resnet10t", num_classes=3).eval()
    for net, call in ((clip, clip.encode_image), (vit, vit), (resnet, resnet)):
        start = {n: e.clone() for n, e in net.state_dict().items()}
        tuned = {n: e + 0.01 if e.is_floating_point() else e + 1 for n, e in start.items()}
        vector = task_vectors.difference(tuned, start)
        before = call(image)
        net.load_state_dict(task_vectors.apply(start, [vector, vector], 0.5))
        after = call(image)
        assert not torch.allclose(before, after)
        net.load_state_dict(task_vectors.apply(start, [vector, vector], [1.0, -1.0]))
        torch.testing.assert_close(call(image), before, rtol=1e-3, atol=1e-4)
        equal(task_vectors.ties([vector], 1.0), vector)
    with pytest.raises(ValueError, match="another architecture"):
        task_vectors.difference(vit.state_dict(), resnet.state_dict())
    tangent = task_vectors.Tangent(vit)
    torch.testing.assert_close(tangent(image), vit(image), rtol=1e-4, atol=1e-5)  # another form of attention
