"""Characters that leave no mark."""

from __future__ import annotations

import pytest

from model_store.items.invisible import is_blank, without_invisible

INVISIBLE = "\u200b\u200c\u200d\u200e\u200f\u202a\u202e\u2060\u2066\u2069\u00ad\u034f\u061c\u180e\u3164\ufeff\U000e0041"


@pytest.mark.parametrize("character", [*INVISIBLE, "\x00", "\x1b", "\x7f", "\x9f"], ids=ascii)
def test_an_invisible_character_is_removed_wherever_it_stands(character):
    assert without_invisible(f"{character}shoe{character * 2}box{character}") == "shoebox"


@pytest.mark.parametrize(
    "text",
    [
        "shoe box\n",
        "caf\u00e9, cafe\u0301",
        "\U0001f469\u200d\U0001f680",  # an astronaut
        "\U0001f468\U0001f3fd\u200d\U0001f680",  # with a colour of skin
        "\u2764\ufe0f\u200d\U0001f525",  # a heart on fire
        "\U0001f3f4\U000e0067\U000e0062\U000e0077\U000e006c\U000e0073\U000e007f",  # the flag of Wales
        "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",  # Persian
        "\u0915\u094d\u200d\u0937",  # Hindi
        "\u0d28\u0d4d\u200d",  # Malayalam
        "\u0dc1\u0dca\u200d\u0dbb\u0dd3",  # Sinhala
    ],
    ids=ascii,
)
def test_what_changes_the_look_of_a_text_stays(text):
    assert without_invisible(text) == text


@pytest.mark.parametrize(
    ("text", "visible"),
    [
        ("\u0645\u06cc\u200c", "\u0645\u06cc"),
        ("\U0001f680\u200d", "\U0001f680"),
        ("\u200d\U0001f680", "\U0001f680"),
        ("\u0645\u200c\u200c\u0645", "\u0645\u200c\u0645"),
        ("a\u200d\U0001f680", "a\U0001f680"),
        ("\u0430\u200c\u0431", "\u0430\u0431"),
    ],
    ids=ascii,
)
def test_a_joiner_that_joins_nothing_is_removed(text, visible):
    assert without_invisible(text) == visible


@pytest.mark.parametrize(
    "text", ["", " \t", "\u00a0\u3000", "\u2028", "\u2800", "\ufe0f", *INVISIBLE, INVISIBLE], ids=ascii
)
def test_white_space_and_invisible_characters_are_blank(text):
    assert is_blank(text)


@pytest.mark.parametrize("text", ["a", "\u200ba", "-", "\u0301", "\x00", "\ufffd", "\u0600", "\U0001f3f4"], ids=ascii)
def test_a_text_with_a_visible_character_is_not_blank(text):
    assert not is_blank(text)
