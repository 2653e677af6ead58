"""Token ids equal those of the backbone's tokenizer."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer
from transformers import CLIPTokenizer

from model_store import Padding
from service.models.preparation import TextTokenizer
from tests.support.tiny import tokenizer_json

MAX_LENGTH = 12


@pytest.fixture(scope="module")
def reference() -> CLIPTokenizer:
    """CLIP's tokenizer over single bytes and a few merges; CLIP's own vocabulary is of the same kind."""
    from tokenizers.pre_tokenizers import ByteLevel

    letters = sorted(ByteLevel.alphabet())
    merges = [("r", "e"), ("re", "d</w>"), ("a", "p"), ("ap", "p"), ("l", "e</w>"), ("app", "le</w>")]
    pieces = [*letters, *(f"{letter}</w>" for letter in letters), *("".join(pair) for pair in merges)]
    vocabulary = {piece: number for number, piece in enumerate([*pieces, "<|startoftext|>", "<|endoftext|>"])}
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=MAX_LENGTH, split_special_tokens=True)


@pytest.fixture(scope="module")
def ours(reference) -> TextTokenizer:
    return TextTokenizer(reference.backend_tokenizer.to_str().encode(), MAX_LENGTH)


TEXTS = [
    "",
    " ",
    "\t\n ",
    "a red apple",
    "A  RED\nApple's core, it's 42!",
    "café CAFÉ cafe\u0301",
    "日本語のテキスト",
    "👩‍👩‍👧‍👦 emoji 🍎",
    "İstanbul ß ﬁ Ω",
    "<|startoftext|>",
    "<|endoftext|> red <|endoftext|>",
    "null\x00byte",
    "red " * 100,
    "é" * 100,
]


@pytest.mark.parametrize("text", TEXTS)
def test_tokens_equal_transformers(ours, reference, text):
    assert ours.tokenize(text).input_ids.tolist() == [reference(text, truncation=True)["input_ids"]]


@settings(deadline=None, max_examples=300)
@given(text=st.text(max_size=40))
def test_tokens_of_any_text_equal_transformers(ours, reference, text):
    tokens = ours.tokenize(text)
    assert tokens.input_ids.tolist() == [reference(text, truncation=True)["input_ids"]]
    assert tokens.truncated == (len(reference(text)["input_ids"]) > MAX_LENGTH)


def test_last_token_is_the_index_of_the_end_token(ours, reference):
    for text, length in [("", 2), ("red red", 4), ("red " * 10, 12), ("red " * 11, 12)]:
        tokens = ours.tokenize(text)
        assert tokens.input_ids.shape == (1, length)
        assert tokens.last_token.tolist() == [length - 1]
        assert tokens.input_ids[0, -1] == reference.eos_token_id
        assert (tokens.input_ids == reference.eos_token_id).sum() == 1


def test_special_tokens_in_a_text_are_plain_text(ours, reference):
    ids = ours.tokenize("<|endoftext|>").input_ids[0]
    assert len(ids) > 3
    assert reference.eos_token_id not in ids[1:-1]


def test_truncated_is_set_only_for_a_text_that_was_cut(ours):
    assert not ours.tokenize("red " * (MAX_LENGTH - 2)).truncated
    assert ours.tokenize("red " * (MAX_LENGTH - 1)).truncated


@pytest.fixture(scope="module")
def padded(reference) -> TextTokenizer:
    """For a tower that is not causal; the padding token is one that no text ends with."""
    return TextTokenizer(reference.backend_tokenizer.to_str().encode(), MAX_LENGTH, Padding(length=MAX_LENGTH, token=7))


@settings(deadline=None, max_examples=100)
@given(text=st.one_of(st.sampled_from(TEXTS), st.text(max_size=40)))
def test_a_padded_text_is_the_same_text_with_padding_behind_its_end(ours, padded, text):
    alone, tokens = ours.tokenize(text), padded.tokenize(text)

    ids = alone.input_ids[0].tolist()
    assert tokens.input_ids.tolist() == [ids + [7] * (MAX_LENGTH - len(ids))]
    assert tokens.input_ids.dtype == np.int64
    assert tokens.last_token.tolist() == [MAX_LENGTH - 1]
    assert tokens.truncated == alone.truncated


def test_the_manifests_padding_replaces_the_tokenizer_files(ours, reference):
    definition = Tokenizer.from_str(reference.backend_tokenizer.to_str())
    definition.enable_padding(direction="left", pad_id=3, length=30)
    for padding, end in [(None, []), (Padding(length=MAX_LENGTH, token=7), [7] * (MAX_LENGTH - 3))]:
        tokens = TextTokenizer(definition.to_str().encode(), MAX_LENGTH, padding).tokenize("red")
        assert tokens.input_ids.tolist() == [[*ours.tokenize("red").input_ids[0].tolist(), *end]]


class PanicError(BaseException):
    """Such as tokenizers raises for its own defects."""


@pytest.mark.parametrize(
    ("error", "raised"),
    [(PanicError("no entry found"), ValueError), (Exception("missing word"), Exception), (MemoryError(), MemoryError)],
)
def test_a_panic_of_the_tokenizer_is_an_exception_like_others(monkeypatch, error, raised):
    class Failing:
        def encode(self, _: str) -> None:
            raise error

    tokenizer = TextTokenizer(tokenizer_json(), 10)
    monkeypatch.setattr(tokenizer, "_tokenizer", Failing())

    with pytest.raises(raised, match=str(error) or None):
        tokenizer.tokenize("red")
