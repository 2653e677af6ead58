from __future__ import annotations

import pytest

from model_store.api_key import VARIABLE, authorization, read_api_key


def test_the_file_comes_before_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, "from-the-environment")
    (tmp_path / "key").write_text("from-the-file\n")

    assert read_api_key(tmp_path / "key") == "from-the-file"
    assert read_api_key(None) == "from-the-environment"


@pytest.mark.parametrize("value", [None, ""])
def test_without_file_and_variable_there_is_no_key(monkeypatch, value):
    monkeypatch.delenv(VARIABLE, raising=False)
    if value is not None:
        monkeypatch.setenv(VARIABLE, value)

    assert read_api_key(None) is None


def test_a_missing_file_is_an_error_of_the_system(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_api_key(tmp_path / "key")


def test_a_key_is_sent_as_a_bearer_token():
    assert authorization("shop-key") == {"Authorization": "Bearer shop-key"}
    assert authorization(None) == {}


@pytest.mark.parametrize("key", ["", "two words", "line\r\nX-Other: 1", "k\u00e9y", "a" * 257])
def test_a_key_that_would_break_the_header_is_refused_and_not_repeated(key):
    with pytest.raises(ValueError, match="1 to 256 printable ASCII characters") as caught:
        authorization(key)

    assert not key or key not in str(caught.value)
