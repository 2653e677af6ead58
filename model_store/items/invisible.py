"""Characters that leave no mark on a screen."""

from __future__ import annotations

import re
import unicodedata

_JOINERS = r"\u200c\u200d"
_TAGS = r"\U000e0000-\U000e007f"
_SELECTORS = r"\u180b-\u180d\u180f\ufe00-\ufe0f\U000e0100-\U000e01ef"  # of another form of the character before
_IGNORED = (  # the other characters with Unicode's property Default_Ignorable_Code_Point
    r"\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\u3164\ufeff\uffa0"
    r"\ufff0-\ufff8\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0080-\U000e00ff\U000e01f0-\U000e0fff"
)
_CONTROLS = r"\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f"  # without white space
_BLANK = re.compile(rf"[\s\u2800{_JOINERS}{_TAGS}{_SELECTORS}{_IGNORED}]*")  # U+2800: a Braille cell without dots
_INVISIBLE = re.compile(rf"(\U0001f3f4[{_TAGS}]+)|[{_TAGS}{_IGNORED}{_CONTROLS}]")  # a flag with tags is Wales's
_JOINED = re.compile(rf"([{_JOINERS}])[{_JOINERS}]*")
_SURROGATE = re.compile(r"[\ud800-\udfff]")
_VIRAMA = 9  # combining class of the marks that join the consonants of Indic scripts


def is_blank(text: str) -> bool:
    """Whether a text has only Unicode white space and invisible characters, or no characters at all."""
    return _BLANK.fullmatch(text) is not None


def without_invisible(text: str) -> str:
    """The text without invisible characters. Joiners stay where they change how the characters beside them look."""
    return _JOINED.sub(_needed_joiner, _INVISIBLE.sub(lambda match: match[1] or "", text))


def unicode_fault(text: str) -> str | None:
    """Why a text cannot be written as UTF-8, as a predicate; None if it can.

    Python reads bytes that are not UTF-8 as U+DC80 to U+DCFF. JSON can spell half of a surrogate pair.
    """
    if (surrogate := _SURROGATE.search(text)) is None:
        return None
    is_byte = "\udc80" <= surrogate[0] <= "\udcff"
    return f"{'is not UTF-8, or ' if is_byte else ''}has half of a surrogate pair, which is no character"


def visible_form(text: str) -> str:
    """The text in Unicode NFC, without invisible characters, and with single spaces between its words."""
    return " ".join(unicodedata.normalize("NFC", without_invisible(unicodedata.normalize("NFC", text))).split())


def _needed_joiner(match: re.Match[str]) -> str:
    """The first of consecutive joiners if it stands in an emoji, between Arabic letters, or beside a virama."""
    text, (start, end) = match.string, match.span()
    pair = text[max(start - 2, 0) : start].rstrip("\ufe0f")[-1:] + text[end : end + 1]
    is_needed = any(unicodedata.combining(character) == _VIRAMA for character in pair) or (
        len(pair) == 2 and (all(map(_is_symbol, pair)) or all(map(_is_arabic, pair)))
    )
    return match[1] if is_needed else ""


def _is_symbol(character: str) -> bool:
    return unicodedata.category(character).startswith("S")


def _is_arabic(character: str) -> bool:
    """Whether it is a letter of Arabic or Syriac, or a mark on one."""
    return unicodedata.bidirectional(character) in ("AL", "NSM")
