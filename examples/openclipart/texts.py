"""The pretraining texts of the backbone: WordNet's nouns, and the captions of the pictures."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

WORDNET = Path("/usr/share/wordnet")
# WordNet's lexicographer files by number: the kind of thing that a word means.
KINDS = {
    4: "act", 5: "animal", 6: "artifact", 7: "attribute", 8: "body", 9: "cognition", 10: "communication", 11: "event",
    12: "feeling", 13: "food", 14: "group", 15: "location", 16: "motive", 17: "natural object", 18: "person",
    19: "phenomenon", 20: "plant", 21: "possession", 22: "process", 23: "quantity", 24: "relation", 25: "shape",
    26: "state", 27: "substance", 28: "time",
}  # fmt: skip


@dataclass(frozen=True)
class Text:
    """A text as a user may write it, and its context (may be empty)."""

    text: str
    context: str

    @property
    def in_context(self) -> str:
        return f"{self.text}. {self.context}" if self.context else self.text


def wordnet_texts(folder: Path = WORDNET) -> Iterator[Text]:
    """Every noun with the hypernym and kind of its first sense as context."""
    synsets = dict(read_synsets(folder / "data.noun"))
    for line in (folder / "index.noun").read_text().splitlines():
        if not line.startswith(" "):
            fields = line.split()
            word, count = words(fields[0]), int(fields[2])
            _, kind, hypernym = synsets[fields[-count]]
            above = synsets[hypernym][0] if hypernym in synsets else ""
            yield Text(word, ", ".join(filter(None, (above, kind))))


def read_synsets(path: Path) -> Iterator[tuple[str, tuple[str, str, str]]]:
    """Offset -> first word, kind, offset of the first hypernym (format: wndb(5WN))."""
    for line in path.read_text().splitlines():
        if not line.startswith(" "):
            data = line.partition("|")[0]
            fields = data.split()
            hypernym = re.search(r" @i? (\d{8}) ", data)
            kind = KINDS.get(int(fields[1]), "")
            yield fields[0], (words(fields[4]), kind, hypernym.group(1) if hypernym else "")


def words(lemma: str) -> str:
    return re.sub(r"\((?:a|p|ip)\)$", "", lemma).replace("_", " ")
