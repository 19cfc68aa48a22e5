"""WordNet's definitions as sentence classification tasks (Miller 1995; the database files of WordNet 3.0).

A line of `data.noun` is one synset: offset, number of its lexicographer file (its *supersense*, such as noun.animal),
type, its words, pointers to other synsets, and after a bar its gloss: a definition, then quoted examples. Debian and
Ubuntu carry the files as the package wordnet-base.
"""

import re
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Synset:
    """One line: place in its file, part of speech, lexicographer file, words, definition, and its topic's offset."""

    offset: int
    speech: str
    supersense: int
    words: tuple[str, ...]
    definition: str
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
    topics = [int(place) for symbol, place, kind in targets if symbol == ";c" and kind == "n"]
    definition = re.split(r'[;:]\s*"', gloss)[0].strip().rstrip(";")
    return Synset(offset, speech, supersense, words, definition, topics[0] if topics else None)


Texts = tuple[list[str], list[int], list[str]]  # texts, labels, a label text for each class


def tasks(folder: Path = FOLDER) -> tuple[dict[str, Texts], Texts]:
    """Eight tasks by name, and a control task.

    Concrete nouns, abstract nouns, verbs and topics, each by definition and by the synset's words alone. The control is
    part of speech by definition. Texts are in the files' order.
    """
    synsets = {speech: read(speech, folder) for speech in SPEECH}
    every = [s for part in synsets.values() for s in part]
    nouns = {s.offset: s.words[0] for s in synsets["noun"]}
    counts: dict[int, int] = {}
    for s in every:
        if s.topic is not None:
            counts[s.topic] = counts.get(s.topic, 0) + 1
    common = sorted(counts, key=lambda topic: (-counts[topic], topic))[:TOPICS]
    topics = {topic: nouns.get(topic, str(topic)) for topic in common}
    kinds = {
        "concrete nouns": [(s, s.supersense, CONCRETE) for s in synsets["noun"] if s.supersense in CONCRETE],
        "abstract nouns": [(s, s.supersense, ABSTRACT) for s in synsets["noun"] if s.supersense in ABSTRACT],
        "verbs": [(s, s.supersense, VERB) for s in synsets["verb"] if s.supersense in VERB],
        "topics": [(s, s.topic, topics) for s in every if s.topic in topics],
    }
    found: dict[str, Texts] = {}
    for by, text in (("definition", lambda s: s.definition), ("words", lambda s: ", ".join(s.words))):
        for kind, rows in kinds.items():
            names = list(rows[0][2]) if rows else []
            labels = [names.index(label) for _, label, _ in rows]
            found[f"{kind}, {by}"] = [text(s) for s, _, _ in rows], labels, list(rows[0][2].values()) if rows else []
    speeches = list(SPEECH)
    control = [s.definition for s in every], [speeches.index(s.speech) for s in every], list(SPEECH.values())
    return found, control
