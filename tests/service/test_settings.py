from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from service.cores import usable_cores
from service.settings import RaySettings, Settings, check_names, read_settings


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


CONTRADICTIONS = [
    ({"drain_delay_seconds": 20}, ["MORA_DRAIN_DELAY_SECONDS (20.0)", "MORA_DRAIN_SECONDS (20.0)"]),
    ({"drain_seconds": 4}, ["MORA_DRAIN_DELAY_SECONDS (5.0)", "MORA_DRAIN_SECONDS (4.0)"]),
    (
        {"drain_delay_seconds": 90, "drain_seconds": 60},
        ["MORA_DRAIN_DELAY_SECONDS (90.0)", "MORA_DRAIN_SECONDS (60.0)"],
    ),
    ({"body_idle_seconds": 31}, ["MORA_BODY_IDLE_SECONDS (31.0)", "MORA_BODY_SECONDS (30.0)"]),
    ({"body_idle_seconds": 5, "body_seconds": 4}, ["MORA_BODY_IDLE_SECONDS (5.0)", "MORA_BODY_SECONDS (4.0)"]),
    ({"metrics_port": 8000}, ["MORA_METRICS_PORT (8000)", "MORA_PORT (8000)"]),
    ({"port": 9000, "metrics_port": 9000}, ["MORA_METRICS_PORT (9000)", "MORA_PORT (9000)"]),
]


@pytest.mark.parametrize(("flags", "named"), CONTRADICTIONS)
def test_settings_that_contradict_each_other_are_named_with_their_values(monkeypatch, flags, named):
    def problem(flags: dict[str, object]) -> str:
        with pytest.raises(ValueError, match="change one of them") as caught:
            read_settings(flags)
        return str(caught.value)

    given = problem(flags)
    assert all(name in given for name in named)
    assert "\n" not in given
    for name, value in flags.items():
        monkeypatch.setenv(f"MORA_{name.upper()}", str(value))
    assert problem({}) == given


@pytest.mark.parametrize(
    "flags",
    [
        {"drain_delay_seconds": 19.9},
        {"drain_delay_seconds": 0, "drain_seconds": 0.1},
        {"body_seconds": 2},  # the default pause is longer, which harms nobody
        {"body_seconds": 3, "body_idle_seconds": 3},
        {"port": 0, "metrics_port": 0},
    ],
)
def test_settings_that_agree_are_accepted(flags):
    assert read_settings(flags)


def test_replicas_of_ray_that_contradict_each_other_are_refused():
    with pytest.raises(ValueError, match=r"MORA_MIN_REPLICAS \(3\) must not be more than MORA_MAX_REPLICAS \(2\)"):
        RaySettings(min_replicas=3, max_replicas=2)


@pytest.mark.parametrize(
    ("store", "targets"),
    [
        ("oci://registry.example/shop/models:kind", ("oci://registry.example/shop/models:kind",)),
        (
            "oci://a.example/b:c, s3://models/shop:kind ,hf://shop/kind",
            ("oci://a.example/b:c", "s3://models/shop:kind", "hf://shop/kind"),
        ),
        ("az://container/prefix", ("az://container/prefix",)),
    ],
)
def test_a_store_may_be_targets_which_have_a_folder_of_their_own(store, targets, monkeypatch, tmp_path):
    monkeypatch.setenv("MORA_STORE", store)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    assert Settings().targets == targets
    assert Settings().store_folder.parent == tmp_path / "mora-serve"
    assert Settings(store_cache=tmp_path / "own").store_folder.parent == tmp_path / "own"
    assert Settings(store=f"{store},oci://b.example/c").store_folder != Settings().store_folder
    assert Settings().store_folder == Settings(store=", ".join(targets)).store_folder


@pytest.mark.parametrize("store", ["models", "/srv/models", "./oci:/models", "~/models", "C:\\models"])
def test_any_other_store_is_a_folder(store):
    settings = Settings(store=store)
    assert settings.targets == ()
    assert settings.store_folder == Path(store)
