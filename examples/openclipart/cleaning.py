"""Clean the metadata of a drawing, and choose its split."""

import hashlib
import html
import re
from typing import Literal

Split = Literal["train", "validation", "test"]

SPLIT_SALT = "openclipart-191"  # chosen so that every category has an even share of each split
TEST_SHARE, VALIDATION_SHARE = 0.25, 0.12

# Titles that name a collection, not a drawing. "Clipart by X - member" names another member of the collection.
COLLECTION_TITLE = re.compile(
    r"^part of |^clipart by |collection|theme\b|icon ?set|etiquette icons|aiga[ _]symbol|gramastar|^svg road|"
    r"clip ?arts?$|^advertising$|submi?ssion|sibmission|^untitled|^unnamed|^drawing$|^no title|^hash\(|\.svg$|"
    r"^map symbols$|^(australian|spanish) maps$|illustrations?$|icons?$|^openclipart",
    re.IGNORECASE,
)
E_MAIL_OR_ADDRESS = re.compile(r"\S+@\S+|(?:https?://|www\.)\S+")
BOILERPLATE_DESCRIPTION = re.compile(
    r"hash\(0x|eps converted from|created? with|public domain|creative commons|clip ?art|^contact:|\bcollection$|"
    r"theme$|^uk roadsigns$",
    re.IGNORECASE,
)
BOILERPLATE_KEYWORDS = frozenset({
    "action", "appicon", "application", "art", "black", "bordered", "cartoon", "clip art", "clipart", "color", "colour",
    "contour", "creation", "device", "dvb", "equipment", "filesystem", "hash", "icon", "lemon theme icon", "magick",
    "mapsym", "mime-type", "mime-types", "mimetype", "mimetypes", "miscellany", "openclipart", "place",
    "signs and symbol", "simple", "special", "states", "stock", "theme", "unsorted", "voip", "webpage", "white", "work",
})  # fmt: skip
BOILERPLATE_WORDS = frozenset({"aiga", "ganson", "svg", "hash", "hsh"})
PARTS_OF_ONE_WORD = {
    "roadsign": "road sign",
    "stickmen": "stick figure",
    "musicstuff": "music",
    "networksym": "network symbol",
    "weathersym": "weather",
    "signalflag": "signal flag",
    "icecream": "ice cream",
    "unitedstates": "united states",
    "northamerica": "north america",
    "bodypart": "body part",
    "arrowshape": "arrow",
    "xmas": "christmas",
    "vegitable": "vegetable",
    "transport": "transportation",
    "valentines": "valentine",
}


def clean_text(raw: str | None) -> str | None:
    """One line without entities, addresses or surrounding punctuation; None if nothing is left."""
    text = E_MAIL_OR_ADDRESS.sub(" ", html.unescape(raw or "").replace("_", " "))
    return " ".join(text.split()).strip(" -,;:.\"'") or None


def clean_title(raw: str | None, file_stem: str, creator: str | None) -> str | None:
    """The title, or the words of the file name if the title only names a collection."""
    title = clean_text(raw)
    if title and not COLLECTION_TITLE.search(title) and re.search(r"[^\W\d]{2}", title):
        return title
    return words_of_file_name(file_stem, creator)


def words_of_file_name(stem: str, creator: str | None) -> str | None:
    """`apple_bitten_dan_gerhard_01` by Dan Gerhards -> `apple bitten`; None if no word is left."""
    stem = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", stem).lower()
    parts = [part.strip("0123456789") for part in re.split(r"[\W_]+", stem)]
    author = "".join(re.findall(r"[^\W_]+", (creator or "").lower()))
    for i in range(1, len(parts)):
        if author and len("".join(parts[i:])) >= 3 and author.startswith("".join(parts[i:])):
            parts = parts[:i]  # file names were cut at a fixed length, so the author's name may be cut too
            break
    words = [part for part in parts if part.isalpha() and len(part) > 1 and part not in BOILERPLATE_WORDS]
    return " ".join(words) if any(len(word) > 2 for word in words) else None


def clean_description(raw: str | None, title: str | None) -> str | None:
    """The description, unless it is boilerplate or repeats the title."""
    text = clean_text(raw)
    if not text or BOILERPLATE_DESCRIPTION.search(text) or text.lower() == (title or "").lower():
        return None
    return text


def clean_keywords(raw: list[str], creator: str | None) -> list[str]:
    """Lower-case keywords as words, without plain plural -s and without boilerplate; sorted."""
    keywords = set()
    for text in raw:
        keyword = (clean_text(text) or "").lower()
        keyword = PARTS_OF_ONE_WORD.get(keyword, keyword)
        if len(keyword) > 4 and keyword.endswith("s") and not keyword.endswith(("ss", "us", "is", "sports", "states")):
            keyword = keyword[:-1]
        names_the_author = keyword and keyword in (creator or "").lower()
        if len(keyword) > 2 and not re.search(r"\d", keyword) and not names_the_author:
            keywords.add(keyword)
    return sorted(keywords - BOILERPLATE_KEYWORDS)


def split_key(title: str | None, file_stem: str) -> str:
    """The key of near-duplicates: the title without numbers, bracketed variants, colour variants and plural endings."""
    text = re.sub(r"\(.*?\)", " ", (title or file_stem).lower())
    words = [word for word in re.findall(r"[^\W\d_]+", text) if word not in {"bw", "a", "an", "the"} and len(word) > 1]
    return " ".join(word.removesuffix("s") for word in words) or text.strip()


def split_of(key: str) -> Split:
    """A split that depends only on the key, so equal keys are in the same split."""
    share = int.from_bytes(hashlib.sha256(f"{SPLIT_SALT}:{key}".encode()).digest()[:8], "big") / 2**64
    if share < TEST_SHARE:
        return "test"
    return "validation" if share < TEST_SHARE + VALIDATION_SHARE else "train"
