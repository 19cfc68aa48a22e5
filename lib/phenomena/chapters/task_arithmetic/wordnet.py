"""WordNet's definitions as sentence classification tasks (Miller 1995; the database files of WordNet 3.0).

A line of `data.noun` is one synset: offset, number of its lexicographer file (its *supersense*, such as noun.animal),
type, its words, pointers to other synsets, and after a bar its gloss: a definition, then quoted examples. Debian and
Ubuntu carry the files as the package wordnet-base.
"""

import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from phenomena.science.datasets import DataError

FOLDER = Path("/usr/share/wordnet")

# numbers of lexicographer files, lexnames(5WN), with the label text a head is made of
CONCRETE = {5: "an animal", 6: "an artifact", 8: "a part of the body", 13: "food", 17: "a natural object",
            18: "a person", 20: "a plant", 27: "a substance"}  # fmt: skip
ABSTRACT = {4: "an act", 7: "an attribute", 9: "an idea", 10: "communication", 12: "a feeling", 14: "a group",
            15: "a location", 21: "money and possession", 22: "a natural process", 23: "a quantity", 26: "a state",
            28: "a time"}  # fmt: skip
VERB = {29: "grooming and caring for the body", 30: "changing", 31: "thinking", 32: "speaking and asking",
        33: "fighting and competing", 34: "eating and drinking", 35: "touching, hitting or tying", 36: "making",
        37: "feeling", 38: "moving", 39: "seeing and hearing", 40: "buying, selling and owning",
        41: "political and social activity", 42: "being, having", 43: "raining, snowing and weather"}  # fmt: skip
SPEECH = {"noun": "a noun, the name of a thing", "verb": "a verb, something one does", "adj": "an adjective, a quality",
          "adv": "an adverb, a manner"}  # fmt: skip
TOPICS = 10  # most frequent topic domains
# kinds of thing, as ImageNet's classes are: nouns with the supersense that tells which sense is meant
THINGS = {"bird": 5, "fish": 5, "insect": 5, "reptile": 5, "dog": 5, "tree": 20, "fruit": 20, "dish": 13,
          "beverage": 13, "vehicle": 6, "building": 6, "clothing": 6, "weapon": 6, "musical instrument": 6,
          "furniture": 6, "body of water": 17, "disease": 26, "language": 10, "scientist": 18,
          "monetary unit": 23}  # fmt: skip


@dataclass(frozen=True)
class Synset:
    """One line: place in its file, part of speech, lexicographer file, words, definition, and offsets of other synsets.

    topic: the first topic domain.
    """

    offset: int
    speech: str
    supersense: int
    words: tuple[str, ...]
    definition: str
    hypernyms: tuple[int, ...]
    topic: int | None


def read(speech: str, folder: Path = FOLDER) -> list[Synset]:
    """All synsets of a part of speech ("noun", "verb", "adj", "adv") in the order of the file.

    Raises `DataError` when the file is missing or has a line that is not a synset.
    """
    path = folder / f"data.{speech}"
    if not path.is_file():
        raise DataError(
            f"WordNet: no {path}; install wordnet-base (Debian, Ubuntu) or name the folder of data.{speech}"
        )
    return [parse(line, speech) for line in path.read_text("ascii").splitlines() if not line.startswith("  ")]


def parse(line: str, speech: str) -> Synset:
    """One line of a data file, wndb(5WN). Raises `DataError` for another format."""
    try:
        fields, _, gloss = line.partition(" | ")
        place, kind, _, count, *rest = fields.split()
        offset, supersense, many = int(place), int(kind), int(count, 16)
        words = tuple(re.sub(r"\(\w+\)$", "", w).replace("_", " ") for w in rest[0 : 2 * many : 2])
        pointers = rest[2 * many + 1 :]
        targets = [(pointers[4 * i], pointers[4 * i + 1], pointers[4 * i + 2]) for i in range(int(rest[2 * many]))]
    except (ValueError, IndexError) as error:
        raise DataError(f"not a synset of WordNet's data files: {line[:60]!r}") from error
    above = tuple(int(place) for symbol, place, _ in targets if symbol in ("@", "@i"))
    topics = [int(place) for symbol, place, kind in targets if symbol == ";c" and kind == "n"]
    definition = re.split(r'[;:]\s*"', gloss)[0].strip().rstrip(";")
    return Synset(offset, speech, supersense, words, definition, above, topics[0] if topics else None)


# --- tasks ------------------------------------------------------------------------------------------------------------

Labelled = list[tuple[Synset, int]]  # label: number of a class


@dataclass(frozen=True)
class Texts:
    """Texts of one task, their labels, and a label text for each class.

    Tasks of one kind by definition and by words have the same synsets in the same order, so that one split serves both
    and no synset is trained on in one form and tested in the other.
    """

    texts: list[str]
    labels: list[int]
    classes: list[str]


def tasks(folder: Path = FOLDER) -> tuple[dict[str, dict[str, Texts]], Texts]:
    """Tasks by kind and form, and a control task. Texts are in the files' order, each once.

    Concrete nouns, abstract nouns and verbs, each by definition and by the synset's words alone; parts of speech, as
    many of each, and topics by definition. The control: kinds of thing by definition, as many classes as `THINGS`.
    """
    synsets = {speech: read(speech, folder) for speech in SPEECH}
    every = [s for part in synsets.values() for s in part]
    nouns, verbs = synsets["noun"], synsets["verb"]
    both, one = {"definition": _definition, "words": _words}, {"definition": _definition}
    fewest = min(len(part) for part in synsets.values())
    speech = [(s, i) for i, part in enumerate(synsets.values()) for s in part[:: len(part) // fewest][:fewest]]
    topics, rows = _topics(every, {s.offset: s.words[0] for s in nouns})
    found = {
        "concrete nouns": _forms(_supersenses(nouns, CONCRETE), list(CONCRETE.values()), both),
        "abstract nouns": _forms(_supersenses(nouns, ABSTRACT), list(ABSTRACT.values()), both),
        "verbs": _forms(_supersenses(verbs, VERB), list(VERB.values()), both),
        "parts of speech": _forms(speech, list(SPEECH.values()), one),
        # most definitions with a topic begin with it, in brackets
        "topics": _forms(rows, topics, {"definition": lambda s: re.sub(r"^\([^)]*\) ?", "", s.definition)}),
    }
    return found, _forms(_things(nouns), list(THINGS), one)["definition"]


def _definition(synset: Synset) -> str:
    return synset.definition


def _words(synset: Synset) -> str:
    return ", ".join(synset.words)


def _forms(rows: Labelled, classes: list[str], forms: Mapping[str, Callable[[Synset], str]]) -> dict[str, Texts]:
    """The rows by every form, without those that repeat an earlier text in any of them."""
    seen: dict[str, set[str]] = {form: set() for form in forms}
    kept: Labelled = []
    for synset, label in rows:
        if not any(text(synset) in seen[form] for form, text in forms.items()):
            kept.append((synset, label))
        for form, text in forms.items():
            seen[form].add(text(synset))
    labels = [label for _, label in kept]
    return {form: Texts([text(s) for s, _ in kept], labels, classes) for form, text in forms.items()}


def _supersenses(synsets: list[Synset], labels: dict[int, str]) -> Labelled:
    numbers = list(labels)
    return [(s, numbers.index(s.supersense)) for s in synsets if s.supersense in labels]


def _topics(synsets: list[Synset], nouns: dict[int, str]) -> tuple[list[str], Labelled]:
    """The most frequent topic domains and their synsets."""
    counts = Counter(s.topic for s in synsets if s.topic is not None)
    common = sorted(counts, key=lambda topic: (-counts[topic], topic))[:TOPICS]
    return [nouns.get(t, str(t)) for t in common], [(s, common.index(s.topic)) for s in synsets if s.topic in common]


def _things(nouns: list[Synset]) -> Labelled:
    """Synsets below exactly one of the kinds of thing."""
    numbers = {s.offset: i for i, (word, sense) in enumerate(THINGS.items())
               for s in nouns if (s.words[0], s.supersense) == (word, sense)}  # fmt: skip
    above = {s.offset: s.hypernyms for s in nouns}

    @cache
    def kinds(offset: int) -> frozenset[int]:
        own = {numbers[offset]} if offset in numbers else set()
        return frozenset(own.union(*(kinds(o) for o in above.get(offset, ()))))

    return [(s, min(kinds(s.offset))) for s in nouns if len(kinds(s.offset)) == 1]
