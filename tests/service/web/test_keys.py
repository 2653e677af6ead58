"""API keys: their file, its reloading, and new keys."""

from __future__ import annotations

import hashlib
import sys
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from service.cli import app
from service.web.keys import ApiKeys, Client, key_line, make_key, parse_keys

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
    assert keys.client_of(KEY.encode()) == Client("shop")
    assert keys.client_of(OTHER.encode()) == Client("blog")
    for wrong in (b"", b"shop", KEY[:-1].encode(), digest(KEY), digest(KEY).hex().encode()):
        assert keys.client_of(wrong) is None


def test_a_client_may_have_several_keys_so_that_one_can_be_replaced():
    lines = "\n".join([key_line("shop", KEY), key_line("shop", OTHER)])
    assert parse_keys(Path("keys"), lines.encode()) == {digest(KEY): Client("shop"), digest(OTHER): Client("shop")}


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (f"\nshop {KEY}".encode(), "line 2 "),
        (key_line("shop", KEY).encode()[:-1], "line 1 "),
        (b"shop " + b"A" * 64, "line 1 "),
        (b"a b " + b"0" * 64, "line 1 "),
        (b"\xff\x00", "line 1 "),
        (f"{key_line('shop', KEY)}\n{key_line('blog', KEY)}".encode(), "line 2 .*another line"),
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
    assert keys.client_of(OTHER.encode()) == Client("blog")
    assert events == [{"event": "api_keys_loaded", "log_level": "info", "keys": 1}]


def test_an_unusable_file_keeps_the_previous_keys_and_is_logged_once(path, events):
    good = path.read_bytes()
    keys = ApiKeys(path)
    for break_it in (path.unlink, lambda: path.write_bytes(b"half a li")):
        break_it()
        keys.refresh()
        keys.refresh()
        assert keys.client_of(KEY.encode()) == Client("shop")
    assert [event["event"] for event in events] == ["api_keys_unusable"] * 2

    path.write_bytes(good)
    keys.refresh()
    path.unlink()
    keys.refresh()
    assert len(events) == 3, "a problem that occurs again after it was solved is logged again"


@pytest.mark.parametrize("content", [b"", b"\n\n", b"# all keys are revoked\n"])
def test_a_file_without_keys_revokes_all(path, events, content):
    keys = ApiKeys(path)
    path.write_bytes(content)
    keys.refresh()
    assert [keys.client_of(key.encode()) for key in (KEY, OTHER)] == [None, None]
    assert [(event["event"], event["log_level"]) for event in events][-1] == ("api_keys_revoked", "error")


LINE = key_line("shop", KEY)


@pytest.mark.parametrize(
    ("options", "client"),
    [
        ("", Client("shop")),
        (" tasks=fruit", Client("shop", frozenset({"fruit"}))),
        (
            "  tasks=fruit,tags expires=2027-01-31 # until then",
            Client("shop", frozenset({"fruit", "tags"}), date(2027, 1, 31)),
        ),
        (" expires=2027-01-31\ttasks=a.b_c-1", Client("shop", frozenset({"a.b_c-1"}), date(2027, 1, 31))),
    ],
)
def test_a_line_may_name_tasks_and_a_last_day(options, client):
    assert parse_keys(Path("keys"), f"{LINE}{options}".encode()) == {digest(KEY): client}


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (" tasks=", "tasks="),
        (" tasks=Fruit", "names of tasks"),
        (" tasks=a,,b", "names of tasks"),
        (" tasks=a tasks=b", "at most once"),
        (" task=a", "at most once"),
        (" expires=31.1.2027", "2027-01-31"),
        (" expires=20270131", "2027-01-31"),
        (" expires=2027-02-30", "exists"),
        ("tasks=a", "hash-key NAME"),
    ],
)
def test_an_invalid_option_is_refused(options, problem):
    with pytest.raises(ValueError, match=f"line 1.*{problem}"):
        parse_keys(Path("keys"), f"{LINE}{options}".encode())


@pytest.mark.parametrize(("days", "expired"), [(-1, True), (0, False), (1, False), (None, False)])
def test_a_key_is_valid_to_the_end_of_its_last_day(days, expired):
    last_day = None if days is None else datetime.now(UTC).date() + timedelta(days=days)
    assert Client("shop", None, last_day).has_expired() is expired


def test_hash_key_writes_the_options():
    options = ["--task", "fruit", "--task", "tags", "--expires", "2999-01-31"]
    result = CliRunner().invoke(app, ["hash-key", "shop", "--stdin", *options], input=f"{KEY}\n")
    assert result.stdout == f"{LINE} tasks=fruit,tags expires=2999-01-31\n"
    assert CliRunner().invoke(app, ["hash-key", "shop", "--expires", "soon"]).exit_code == 2


def test_a_key_that_has_expired_is_not_made():
    over = CliRunner().invoke(app, ["hash-key", "shop", "--expires", "2020-01-01"])
    today = CliRunner().invoke(app, ["hash-key", "shop", "--expires", f"{datetime.now(UTC):%Y-%m-%d}"])

    assert (over.exit_code, over.stdout, today.exit_code) == (2, "", 0)
    assert "2020-01-01 is over, so services would refuse the key" in over.stderr
    assert "key: " not in over.stderr


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


@pytest.mark.parametrize("key", [KEY, OTHER, "unknown-key-0123456789"])
def test_more_keys_make_no_request_slower(path, key):
    """Counted in steps of Python."""

    def steps(keys: ApiKeys) -> int:
        counted = []
        sys.settrace(lambda *_: lambda *event: counted.append(event))
        try:
            keys.client_of(key.encode())
        finally:
            sys.settrace(None)
        return len(counted)

    few = steps(ApiKeys(path))
    others = [key_line("many", f"{number:016}") for number in range(5_000)]
    path.write_text("\n".join([path.read_text(), *others]))
    assert steps(ApiKeys(path)) == few > 0


def test_a_new_key_is_shown_once_and_its_line_accepts_it(tmp_path):
    result = CliRunner().invoke(app, ["hash-key", "shop"])
    key = result.stderr.removeprefix("key: ").strip()
    (tmp_path / "keys").write_text(result.stdout)
    assert len(key) >= 40
    assert key not in result.stdout
    assert ApiKeys(tmp_path / "keys").client_of(key.encode()) == Client("shop")
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
