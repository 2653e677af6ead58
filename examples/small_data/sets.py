"""The ten small data sets: what each is made from, its rows, its labels and its holes."""

import math
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from examples.small_data.items import Item
from training.config import DataConfig

TEST_SHARE: float = DataConfig.model_fields["test_share"].default  # of the rows, which `mora-train fit` holds out


@dataclass(frozen=True)
class SmallSet:
    """A random choice of the items of one source."""

    name: str
    source: str
    text: str  # the field of an item that is the text
    label: str  # the field that is the label
    rows: int
    only: Mapping[str, Sequence[str]] = field(default_factory=dict)  # fields, and the values that an item may have
    rarest: int = 10  # labels of fewer items in the source are left out
    no_picture: float = 0  # share of the rows whose picture is left out
    no_text: float = 0  # share of the rows whose text is left out; no row lacks both

    @property
    def splits(self) -> int:
        """The number of splits to score: at least three, and enough for 400 test items. Split n has `data.seed` n."""
        return max(3, math.ceil(400 / (TEST_SHARE * self.rows)))


SEEN, HELD_OUT = {"backbone": ["seen"]}, {"backbone": ["held out"]}
TWO_CATEGORIES = {"category": ["computers and electronics", "signs and symbols"]}
TWO_ALIGNMENTS, THREE_ALIGNMENTS = {"alignment": ["lawful", "chaotic"]}, {"alignment": ["lawful", "chaotic", "neutral"]}
SETS = (
    SmallSet("clipart-2000", "clipart", "title", "category", 2000, SEEN),
    SmallSet("clipart-1500", "clipart", "title", "category", 1500, no_picture=0.15, no_text=0.15),
    SmallSet("clipart-1000", "clipart", "title", "category", 1000, HELD_OUT, no_picture=0.1, no_text=0.3),
    SmallSet("clipart-700", "clipart", "title", "category", 700, HELD_OUT | TWO_CATEGORIES),
    SmallSet("stamps-500", "stamps", "english", "category", 500, rarest=3),
    SmallSet("starships-385", "starships", "description", "category", 385, rarest=5, no_picture=0.2, no_text=0.2),
    SmallSet("stamps-300", "stamps", "any language", "category", 300, rarest=30, no_picture=0.1),
    SmallSet("units-200", "units", "description", "alignment", 200, THREE_ALIGNMENTS, no_picture=0.05, no_text=0.15),
    SmallSet("units-150", "units", "description", "race", 150),
    SmallSet("units-100", "units", "description", "alignment", 100, TWO_ALIGNMENTS),
)


class TooFewItemsError(Exception):
    """A source has fewer items than a set has rows."""


def choose_rows(small_set: SmallSet, items: Sequence[Item]) -> list[dict[str, Any]]:
    """The rows of a set, the same for the same items: name, image (PNG or None), text (or None) and label."""
    allowed = [item for item in items if all(item.fields[key] in values for key, values in small_set.only.items())]
    counts = Counter(item.fields[small_set.label] for item in allowed)
    allowed = [item for item in allowed if counts[item.fields[small_set.label]] >= small_set.rarest]
    if len(allowed) < small_set.rows:
        raise TooFewItemsError(f"{small_set.name} needs {small_set.rows} items; {small_set.source} has {len(allowed)}")
    rng = random.Random(small_set.name)  # noqa: S311
    chosen = rng.sample(sorted(allowed, key=lambda item: item.name), small_set.rows)
    pictures, texts = (round(share * small_set.rows) for share in (small_set.no_picture, small_set.no_text))
    holes = rng.sample(range(small_set.rows), pictures + texts)
    no_picture, no_text = set(holes[:pictures]), set(holes[pictures:])
    return [
        {
            "name": item.name,
            "image": None if number in no_picture else item.picture,
            "text": None if number in no_text else item.fields[small_set.text],
            "label": item.fields[small_set.label],
        }
        for number, item in enumerate(chosen)
    ]
