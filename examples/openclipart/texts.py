"""The pretraining texts of the backbone: WordNet's nouns and glosses, and the names of emoji in many languages."""

import json
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
    """A text as a user may write it, its context (may be empty), and the same in English if it is not."""

    text: str
    context: str
    english: str = ""

    @property
    def alone(self) -> str:
        return self.english or self.text

    @property
    def in_context(self) -> str:
        return f"{self.alone}. {self.context}" if self.context else self.alone


def wordnet_nouns(folder: Path = WORDNET) -> Iterator[Text]:
    """Every noun with the hypernym and kind of its first sense as context."""
    synsets = dict(read_synsets(folder / "data.noun"))
    for line in (folder / "index.noun").read_text().splitlines():
        if not line.startswith(" "):
            fields = line.split()
            word, count = words(fields[0]), int(fields[2])
            _, kind, hypernym = synsets[fields[-count]]
            above = synsets[hypernym][0] if hypernym in synsets else ""
            yield Text(word, ", ".join(filter(None, (above, kind))))


def wordnet_glosses(folder: Path = WORDNET) -> Iterator[Text]:
    """The definition of every meaning, with its first word as context."""
    for part in ("noun", "verb", "adj", "adv"):
        for line in (folder / f"data.{part}").read_text().splitlines():
            if not line.startswith(" "):
                data, _, gloss = line.partition("|")
                yield Text(gloss.strip(), words(data.split()[4]))


def emoji_names(node_modules: Path) -> Iterator[Text]:
    """The name of every emoji in each language of Unicode's CLDR but English."""
    folder = node_modules / "cldr-annotations-modern" / "annotations"
    english = _names(folder / "en")
    for language in sorted(folder.iterdir()):
        if language.name.partition("-")[0] != "en":
            for emoji, name in _names(language).items():
                if emoji in english:
                    yield Text(name.lower(), "icon", english=english[emoji])


def _names(language: Path) -> dict[str, str]:
    annotations = json.loads((language / "annotations.json").read_text())["annotations"].get("annotations", {})
    return {emoji: of["tts"][0] for emoji, of in annotations.items() if "tts" in of}


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
