from __future__ import annotations

import pytest
from pydantic import ValidationError

from service.cores import usable_cores
from service.settings import Settings, check_names, read_settings


def test_every_setting_is_described():
    for name, field in Settings.model_fields.items():
        assert field.description, name
        assert field.description.endswith("."), name


def test_a_setting_comes_from_the_environment_and_a_flag_wins(monkeypatch):
    monkeypatch.setenv("MORA_PORT", "9000")
    assert Settings().port == 9000
    assert Settings(port=9001).port == 9001


def test_settings_are_frozen():
    with pytest.raises(ValidationError):
        Settings().port = 1


def test_threads_follow_the_cores_this_process_may_use():
    assert Settings().intra_op_threads == Settings().preparation_workers == usable_cores()


@pytest.mark.parametrize(
    ("name", "closest"),
    [
        ("MORA_PROT", "MORA_PORT"),
        ("MORA_MAX_IMAGE_PIXEL", "MAX_IMAGE_PIXELS"),
        ("MORA_API_KEY", "MORA_API_KEYS_FILE"),  # a client's; a service that took it for its own would be open
    ],
)
def test_an_unknown_name_is_an_error_that_names_the_closest(name, closest):
    with pytest.raises(ValueError, match=closest):
        check_names(["PATH", "MORA_HOST", name])


def test_known_names_pass():
    check_names(["PATH", "MORAL", *(f"MORA_{name.upper()}" for name in Settings.model_fields)])


@pytest.mark.parametrize("change", [{"port": 70_000}, {"poll_seconds": 0}, {"queue_size": -1}, {"precision": "fp8"}])
def test_values_out_of_range_are_refused(change):
    with pytest.raises(ValidationError):
        Settings(**change)


@pytest.mark.parametrize(
    ("text", "origins"),
    [
        ("", ()),
        (" , ", ()),
        ("*", ("*",)),
        ("https://shop.example", ("https://shop.example",)),
        ("https://shop.example, http://localhost:3000 ,", ("https://shop.example", "http://localhost:3000")),
        ("HTTPS://Shop.Example:443", ("https://shop.example",)),
        ("http://[::1]:5173,http://127.0.0.1:80", ("http://[::1]:5173", "http://127.0.0.1")),
        ("https://b\u00fccher.example", ("https://xn--bcher-kva.example",)),
        ("capacitor://localhost,chrome-extension://abc", ("capacitor://localhost", "chrome-extension://abc")),
    ],
)
def test_origins_are_read_as_browsers_send_them(monkeypatch, text, origins):
    assert read_settings({"cors_origins": text}).cors_origins == origins
    monkeypatch.setenv("MORA_CORS_ORIGINS", text)
    assert read_settings({}).cors_origins == origins


@pytest.mark.parametrize(
    "text",
    [
        *(
            "shop.example",
            "//shop.example",
            "https://",
            "https:shop.example",
            "shop.example:443",
            "https//shop.example",
        ),
        *("https://shop.example/", "https://shop.example/app", "https://shop.example?a", "https://shop.example#a"),
        *("https://user@shop.example", "https://*.shop.example", "https://shop.example:99999", "https://a b"),
        *(
            "null",
            "https://shop.example,null",
            "*,https://shop.example",
            "https://a\\b",
            "https://shop.example;https://b",
        ),
    ],
)
def test_what_is_no_origin_is_an_error_that_names_the_setting(text):
    with pytest.raises(ValueError, match=r"^--cors-origins \(MORA_CORS_ORIGINS\): [^\n]+$"):
        read_settings({"cors_origins": text})


@pytest.mark.parametrize(
    ("text", "prefix"), [("/mora", "/mora"), ("/mora/", "/mora"), ("/a/b-c_1.2", "/a/b-c_1.2"), ("/", None), ("", None)]
)
def test_a_path_prefix_has_no_last_slash(text, prefix):
    assert read_settings({"root_path": text}).root_path == prefix


@pytest.mark.parametrize(
    "text", ["mora", "http://host/mora", "//host", "/a//b", "/a b", "/a?b", "/a\nb", "/{a}", "\\a"]
)
def test_what_is_no_path_prefix_is_an_error(text):
    with pytest.raises(ValueError, match=r"^--root-path \(MORA_ROOT_PATH\): a path prefix begins with a slash"):
        read_settings({"root_path": text})


@pytest.mark.parametrize(
    ("text", "hosts"),
    [
        ("shop.example", ("shop.example",)),
        (" shop.example , *.shop.example,", ("shop.example", "*.shop.example")),
        ("*", ("*",)),
        ("10.0.0.7,[::1]", ("10.0.0.7", "[::1]")),
        ("", ()),
    ],
)
def test_allowed_hosts_are_names_separated_by_commas(monkeypatch, text, hosts):
    monkeypatch.setenv("MORA_ALLOWED_HOSTS", text)
    assert read_settings({}).allowed_hosts == hosts


@pytest.mark.parametrize(
    "text", ["http://shop.example", "shop.example:8000", "shop.*", "*shop.example", "a b", "shop..example"]
)
def test_a_host_that_cannot_match_is_a_start_up_error(text):
    with pytest.raises(ValueError, match=r"^--allowed-hosts \(MORA_ALLOWED_HOSTS\): [^\n]+$"):
        read_settings({"allowed_hosts": text})
