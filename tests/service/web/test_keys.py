"""API keys: their file, its reloading, and new keys."""

from __future__ import annotations

import hashlib
import hmac
from pathlib import Path

import pytest
from typer.testing import CliRunner

from service.cli import app
from service.web.keys import ApiKeys, key_line, make_key, parse_keys

KEY, OTHER = "shop-key-0123456789", "blog-key-0123456789"


def digest(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "keys"
    path.write_text(f"# clients of the service\n\n{key_line('shop', KEY)}  # since May\n{key_line('blog', OTHER)}\n")
    return path


def test_a_key_belongs_to_the_client_on_its_line(path):
    keys = ApiKeys(path)
    assert keys.client_of(KEY.encode()) == "shop"
    assert keys.client_of(OTHER.encode()) == "blog"
    for wrong in (b"", b"shop", KEY[:-1].encode(), digest(KEY), digest(KEY).hex().encode()):
        assert keys.client_of(wrong) is None


def test_a_client_may_have_several_keys_so_that_one_can_be_replaced():
    lines = "\n".join([key_line("shop", KEY), key_line("shop", OTHER)])
    assert parse_keys(Path("keys"), lines.encode()) == {digest(KEY): "shop", digest(OTHER): "shop"}


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "holds no key"),
        (b"# no key\n", "holds no key"),
        (f"\nshop {KEY}".encode(), "line 2 "),
        (key_line("shop", KEY).encode()[:-1], "line 1 "),
        (b"shop " + b"A" * 64, "line 1 "),
        (b"a b " + b"0" * 64, "line 1 "),
        (b"\xff\x00", "line 1 "),
        (f"{key_line('shop', KEY)}\n{key_line('blog', KEY)}".encode(), "line 2 .*another name"),
    ],
)
def test_an_invalid_file_is_refused_with_the_line_number_and_without_its_content(content, problem):
    with pytest.raises(ValueError, match=problem) as caught:
        parse_keys(Path("keys"), content)
    assert KEY not in str(caught.value)


def test_a_changed_file_is_reloaded(path, events):
    keys = ApiKeys(path)
    path.write_text(key_line("blog", OTHER))
    keys.refresh()
    assert keys.client_of(KEY.encode()) is None
    assert keys.client_of(OTHER.encode()) == "blog"
    assert events == [{"event": "api_keys_loaded", "log_level": "info", "clients": ["blog"]}]


def test_an_unusable_file_keeps_the_previous_keys_and_is_logged_once(path, events):
    good = path.read_bytes()
    keys = ApiKeys(path)
    for break_it in (path.unlink, lambda: path.write_bytes(b"half a li"), lambda: path.write_bytes(b"")):
        break_it()
        keys.refresh()
        keys.refresh()
        assert keys.client_of(KEY.encode()) == "shop"
    assert [event["event"] for event in events] == ["api_keys_unusable"] * 3

    path.write_bytes(good)
    keys.refresh()
    path.unlink()
    keys.refresh()
    assert len(events) == 4, "a problem that occurs again after it was solved is logged again"


def test_the_problem_of_an_invalid_file_names_the_file_and_the_cure(path, events):
    keys = ApiKeys(path)
    path.write_bytes(b"half a li")
    with pytest.raises(ValueError, match=rf"{path}: line 1 .*hash-key NAME` prints such a line"):
        ApiKeys(path)
    keys.refresh()
    path.unlink()
    keys.refresh()
    assert [event["problem"].startswith(f"{path}: ") for event in events] == [True, True]
    assert "No such file or directory" in events[1]["problem"]


def test_every_key_of_the_file_is_compared(path, monkeypatch):
    compared = []
    real = hmac.compare_digest
    monkeypatch.setattr(hmac, "compare_digest", lambda a, b: compared.append((a, b)) or real(a, b))
    keys = ApiKeys(path)
    for key in (KEY, OTHER, "unknown-key-0123456789"):
        compared.clear()
        keys.client_of(key.encode())
        assert compared == [(digest(KEY), digest(key)), (digest(OTHER), digest(key))]


def test_a_new_key_is_shown_once_and_its_line_accepts_it(tmp_path):
    result = CliRunner().invoke(app, ["hash-key", "shop"])
    key = result.stderr.removeprefix("key: ").strip()
    (tmp_path / "keys").write_text(result.stdout)
    assert len(key) >= 40
    assert key not in result.stdout
    assert ApiKeys(tmp_path / "keys").client_of(key.encode()) == "shop"
    assert CliRunner().invoke(app, ["hash-key", "shop"]).stdout != result.stdout


def test_a_given_key_is_read_from_standard_input_and_not_shown():
    result = CliRunner().invoke(app, ["hash-key", "shop", "--stdin"], input=f"{KEY}\n")
    assert (result.stdout, result.stderr) == (f"{key_line('shop', KEY)}\n", "")


@pytest.mark.parametrize(
    ("name", "key"), [("shop", "short"), ("shop", "a key with some spaces"), ("two words", KEY), ("", KEY), ("a#", KEY)]
)
def test_a_weak_key_and_an_invalid_name_are_refused(name, key):
    assert CliRunner().invoke(app, ["hash-key", name, "--stdin"], input=key).exit_code == 2


def test_a_made_key_can_be_sent_in_a_header():
    assert key_line("shop", make_key())


def test_a_service_with_a_bad_file_of_keys_does_not_start(tmp_path):
    for path in (tmp_path / "missing", tmp_path):
        result = CliRunner().invoke(app, ["run", "--api-keys-file", str(path), "--port", "0"])
        assert result.exit_code == 2
