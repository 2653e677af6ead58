"""The emoji whose Unicode names, but not whose code points, tell that they differ in one thing."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

HOURS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]
ANIMALS = ["monkey", "dog", "cat", "tiger", "horse", "cow", "pig", "mouse", "rabbit", "dragon"]


@dataclass(frozen=True)
class Family:
    """Emoji that differ in one thing only: a kind of change, and the emoji by the text that asks for each."""

    kind: str
    members: Mapping[str, str]  # text -> Unicode name; in changes.py, text -> code points


def of_values(kind: str, text: str, name: str, values: Iterable[str]) -> Family:
    """The family whose texts and names contain the value in place of `{}`."""
    return Family(kind, {text.format(value): name.format(value) for value in values})


def of_two_texts(kind: str, texts: tuple[str, str], names: Iterable[tuple[str, str]]) -> list[Family]:
    """Families of two emoji each, which the same two texts ask for."""
    return [Family(kind, dict(zip(texts, both, strict=True))) for both in names]


GENDERS = [
    Family("gender", {"as a man": man, "as a woman": woman} | ({"as a person": person} if person else {}))
    for man, woman, person in [
        ("boy", "girl", "child"),
        ("old man", "old woman", "older person"),
        ("prince", "princess", "person with crown"),
        ("Santa Claus", "Mrs. Claus", "Mx Claus"),
        ("pregnant man", "pregnant woman", "pregnant person"),
        ("man dancing", "woman dancing", None),
    ]
]
COLOURS = [
    of_values(
        "colour", "in {}", "{} heart",
        ["red", "pink", "orange", "yellow", "green", "blue", "light blue", "purple", "brown", "black", "grey", "white"],
    ),
    *(
        of_values("colour", "in {}", name, colours.split())
        for name, colours in [
            ("{} circle", "red orange yellow green blue purple brown black white"),
            ("{} square", "red orange yellow green blue purple brown"),
            *((f"{{}} {size} square", "black white") for size in ("large", "medium", "medium-small", "small")),
            ("{} book", "green blue orange"),
            ("{} apple", "red green"),
            ("large {} diamond", "orange blue"),
            ("small {} diamond", "orange blue"),
            ("{} question mark", "red white"),
            ("{} exclamation mark", "red white"),
            ("{} flag", "black white"),
        ]
    ),
]  # fmt: skip
DIRECTIONS = [
    Family("direction", {f"pointing {value}": name for value, name in names.items()})
    for names in [
        {
            value.replace("-", " and "): f"{value} arrow"
            for value in ("up", "up-right", "right", "down-right", "down", "down-left", "left", "up-left")
        },
        {value: f"backhand index pointing {value}" for value in ("up", "right", "down", "left")},
        {"up": "upwards button", "right": "play button", "down": "downwards button", "left": "reverse button"},
        {
            "up": "fast up button",
            "right": "fast-forward button",
            "down": "fast down button",
            "left": "fast reverse button",
        },
        {"right": "next track button", "left": "last track button"},
        {"right": "right-facing fist", "left": "left-facing fist"},
        {"right": "rightwards hand", "left": "leftwards hand"},
        {"right": "rightwards pushing hand", "left": "leftwards pushing hand"},
        {"right": "magnifying glass tilted right", "left": "magnifying glass tilted left"},
        {"up": "thumbs up", "down": "thumbs down"},
        {"up": "palm up hand", "down": "palm down hand"},
        {"up": "red triangle pointed up", "down": "red triangle pointed down"},
    ]
]
TIMES = of_two_texts(
    "time",
    ("half an hour earlier", "half an hour later"),
    [(f"{hour} o’clock", f"{hour}-thirty") for hour in HOURS],  # noqa: RUF001 (the apostrophe of Unicode's names)
)
FACES = [
    *of_two_texts("face", ("only the face", "the whole animal"), [(f"{animal} face", animal) for animal in ANIMALS]),
    *of_two_texts(
        "face",
        ("with a face", "without a face"),
        [
            ("new moon face", "new moon"),
            ("first quarter moon face", "first quarter moon"),
            ("last quarter moon face", "last quarter moon"),
            ("full moon face", "full moon"),
            ("sun with face", "sun"),
        ],
    ),
]
PHASES = of_two_texts(
    "phase",
    ("waxing", "waning"),
    [
        ("waxing crescent moon", "waning crescent moon"),
        ("first quarter moon", "last quarter moon"),
        ("first quarter moon face", "last quarter moon face"),
        ("waxing gibbous moon", "waning gibbous moon"),
    ],
)
CATS = of_two_texts(
    "cat",
    ("as a cat", "as a round face"),
    [
        ("grinning cat", "grinning face with big eyes"),
        ("grinning cat with smiling eyes", "grinning face with smiling eyes"),
        ("cat with tears of joy", "face with tears of joy"),
        ("smiling cat with heart-eyes", "smiling face with heart-eyes"),
        ("cat with wry smile", "smirking face"),
        ("kissing cat", "kissing face with closed eyes"),
        ("weary cat", "weary face"),
        ("crying cat", "crying face"),
        ("pouting cat", "enraged face"),
    ],
)
ADDITIONS = [
    Family("addition", {f"without {added}": plain, f"with {added}": name})
    for plain, name, added in [
        ("winking face", "winking face with tongue", "the tongue out"),
        ("frowning face", "frowning face with open mouth", "an open mouth"),
        ("grinning face", "grinning face with sweat", "sweat"),
        ("kissing face", "kissing face with smiling eyes", "smiling eyes"),
        ("angry face", "angry face with horns", "horns"),
        ("envelope", "envelope with arrow", "an arrow"),
        ("mobile phone", "mobile phone with arrow", "an arrow"),
        ("camera", "camera with flash", "a flash"),
        ("snowman without snow", "snowman", "snow"),
        ("umbrella", "umbrella with rain drops", "rain drops"),
        ("cloud", "cloud with rain", "rain"),
        ("cloud", "cloud with snow", "snow"),
        ("cloud", "cloud with lightning", "lightning"),
        ("cloud with rain", "cloud with lightning and rain", "lightning"),
        ("cloud with lightning", "cloud with lightning and rain", "rain"),
        ("locked", "locked with pen", "a pen"),
        ("locked", "locked with key", "a key"),
        ("empty nest", "nest with eggs", "eggs"),
        ("house", "house with garden", "a garden"),
        ("bell", "bell with slash", "a slash"),
        ("sun", "sun behind small cloud", "a small cloud in front"),
        ("sun", "sun behind large cloud", "a large cloud in front"),
    ]
]
OTHERS = [
    *of_two_texts(
        "number",
        ("only one", "several of them"),
        [
            ("musical note", "musical notes"),
            ("bust in silhouette", "busts in silhouette"),
            ("house", "houses"),
            ("eye", "eyes"),
            ("beer mug", "clinking beer mugs"),
            ("paperclip", "linked paperclips"),
            ("curly loop", "double curly loop"),
            ("red exclamation mark", "double exclamation mark"),
        ],
    ),
    *of_two_texts(
        "permission",
        ("forbidden", "allowed"),
        [
            ("no bicycles", "bicycle"),
            ("no mobile phones", "mobile phone"),
            ("no smoking", "cigarette"),
            ("non-potable water", "potable water"),
            ("no littering", "litter in bin sign"),
        ],
    ),
    *of_two_texts(
        "view",
        ("seen from the front", "seen from the side"),
        [
            ("oncoming bus", "bus"),
            ("oncoming police car", "police car"),
            ("oncoming taxi", "taxi"),
            ("oncoming automobile", "automobile"),
            ("front-facing baby chick", "baby chick"),
        ],
    ),
    *of_two_texts(
        "opening",
        ("open", "closed"),
        [
            ("open file folder", "file folder"),
            ("open book", "closed book"),
            ("unlocked", "locked"),
            ("umbrella", "closed umbrella"),
            ("open mailbox with raised flag", "closed mailbox with raised flag"),
            ("open mailbox with lowered flag", "closed mailbox with lowered flag"),
        ],
    ),
]
FAMILIES: tuple[Family, ...] = (
    *GENDERS, *COLOURS, *DIRECTIONS, *TIMES, *FACES, *PHASES, *CATS, *ADDITIONS, *OTHERS,
)  # fmt: skip
