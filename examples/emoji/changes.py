"""Which emoji differ in one thing that a text can name, by their code points and their Unicode names.

Code points are written as in the icon sets: lower-case hexadecimal, joined by `-`, without the variation selector FE0F.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

from examples.emoji.families import FAMILIES, Family

TONES = {"light": "1f3fb", "medium-light": "1f3fc", "medium": "1f3fd", "medium-dark": "1f3fe", "dark": "1f3ff"}
MAN, WOMAN, PERSON = "1f468", "1f469", "1f9d1"
JOINER = "-200d-"
MAN_SIGN, WOMAN_SIGN, FACING_RIGHT = JOINER + "2642", JOINER + "2640", JOINER + "27a1"
HAIR = {
    "with red hair": JOINER + "1f9b0",
    "with curly hair": JOINER + "1f9b1",
    "with white hair": JOINER + "1f9b3",
    "bald": JOINER + "1f9b2",
}


class UnknownNameError(Exception):
    """A family names an emoji that is not among the Unicode names."""


@dataclass(frozen=True)
class Change:
    """From one emoji to another, which the text asks for; both by their code points."""

    kind: str
    query: str
    text: str
    target: str


def codes_of(emoji: str) -> str:
    return "-".join(f"{ord(character):04x}" for character in emoji if character != "\ufe0f")


def toned(code: str, tone: str) -> str:
    """The code points with the skin tone of the first character; not every emoji has one."""
    first, joiner, rest = code.partition("-")
    return f"{first}-{TONES[tone]}{joiner}{rest}"


def find_families(names: Mapping[str, str], drawn: Collection[str]) -> list[Family]:
    """All families of at least two drawn emoji, with code points as members.

    `names` are the Unicode names by code points, without skin tones; `drawn` are the code points that have a picture.
    Raises UnknownNameError.
    """
    untoned = [*by_names(names), *by_codes(names)]
    candidates = [
        *untoned,
        *(
            Family(f.kind, {text: toned(f.members[text], tone) for text in f.members})
            for f in untoned
            for tone in TONES
        ),
        *(Family("skin tone", skin_tones(code)) for code in names),
    ]
    families = [Family(f.kind, {text: code for text, code in f.members.items() if code in drawn}) for f in candidates]
    return [family for family in families if len(family.members) > 1]


def by_names(names: Mapping[str, str]) -> Iterator[Family]:
    codes = {name: code for code, name in names.items()}
    for family in FAMILIES:
        unknown = [name for name in family.members.values() if name not in codes]
        if unknown:
            raise UnknownNameError(f"no emoji has the name {unknown[0]!r}; correct examples/emoji/families.py")
        yield Family(family.kind, {text: codes[name] for text, name in family.members.items()})


def by_codes(names: Mapping[str, str]) -> Iterator[Family]:
    """Candidates that differ in gender, direction or hair; not every member exists.

    The man, the woman and the person with hair of some kind have no change of gender. They are three concepts, so that
    each split can have changes of hair.
    """
    for code in names:
        facing = FACING_RIGHT if code.endswith(FACING_RIGHT) else ""
        body = code.removesuffix(FACING_RIGHT)
        signs = {"as a man": body + MAN_SIGN + facing, "as a woman": body + WOMAN_SIGN + facing}
        yield Family("gender", signs | {"as a person": code})
        head, joiner, rest = code.partition(JOINER)
        if head == PERSON and joiner + rest not in HAIR.values():
            heads = {"as a man": MAN, "as a woman": WOMAN, "as a person": PERSON}
            yield Family("gender", {text: head + joiner + rest for text, head in heads.items() if rest})
        yield Family("direction", {"facing left": code, "facing right": code + FACING_RIGHT})
    for head in (MAN, WOMAN, PERSON):
        yield Family("hair", {"with plain hair": head} | {text: head + hair for text, hair in HAIR.items()})


def skin_tones(code: str) -> dict[str, str]:
    return {"with yellow skin": code} | {f"with {tone} skin": toned(code, tone) for tone in TONES}


def find_concepts(families: Iterable[Family]) -> dict[str, str]:
    """The concept of each emoji: of all emoji that changes lead to, step by step, that of the shortest code points."""
    concepts: dict[str, set[str]] = {}
    for family in families:
        joined = set(family.members.values()).union(*(concepts.get(code, set()) for code in family.members.values()))
        concepts |= dict.fromkeys(joined, joined)
    return {code: min(joined, key=lambda member: (len(member), member)) for code, joined in concepts.items()}


def changes_of(families: Iterable[Family]) -> Iterator[Change]:
    for family in families:
        for text, target in family.members.items():
            for query in family.members.values():
                if query != target:
                    yield Change(family.kind, query, text, target)
