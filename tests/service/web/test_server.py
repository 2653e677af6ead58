"""The service as a process, over real HTTP.

Covers service.cli.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from model_store.server_comparison import compare_with_server
from service.cli import app
from service.client import Client
from service.settings import Settings
from service.web.app import create_app
from service.web.server import Server, _url

WITHOUT_TRAINING = """
import sys
from starlette.testclient import TestClient
from service.web.app import create_app
from service.settings import Settings
with TestClient(create_app(Settings(store=sys.argv[1]))) as client:
    assert client.post("/classify", json={"text": "red"}).status_code == 200
print(sorted({name.split(".")[0] for name in sys.modules} & {"torch", "transformers", "training", "onnx", "scipy"}))
"""


@pytest.fixture
def server(shelf):
    shelf.publish("fruit")
    command = [sys.executable, "-m", "service.cli", "run", "--port", "0", "--store", str(shelf.store.root)]
    process = subprocess.Popen(
        [*command, "--log-format", "json", "--drain-delay-seconds", "0"], stderr=subprocess.PIPE, text=True
    )
    try:
        for line in process.stderr:
            event = json.loads(line)
            if event["event"] == "listening":
                break
        yield process, event
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


def post(url: str, body: bytes) -> tuple[int, dict]:
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def test_the_process_logs_its_address_answers_and_stops_after_sigterm(server, oracle):
    process, event = server
    assert event["tasks"] == {"fruit": 1}

    status, answer = post(f"{event['url']}/classify", b'{"text": "a red apple"}')
    assert status == 200
    scores = {label["label"]: label["score"] for label in answer["labels"]}
    assert scores == pytest.approx(oracle("fruit").scores(None, "a red apple"), abs=1e-5)
    assert post(f"{event['url']}/classify", b"{")[1]["code"] == "bad_json"

    process.send_signal(signal.SIGTERM)
    lines = [json.loads(line) for line in process.stderr]
    assert process.wait(timeout=30) == 0
    assert [line["status"] for line in lines if line["event"] == "request"] == [200, 400]


def test_serving_imports_nothing_of_training(shelf):
    shelf.publish("fruit")
    command = [sys.executable, "-c", WITHOUT_TRAINING, str(shelf.store.root)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert result.stdout.splitlines()[-1:] == ["[]"], result.stderr


def test_every_setting_is_a_flag():
    result = CliRunner(env={"COLUMNS": "200"}).invoke(app, ["run", "--help"])
    for name in Settings.model_fields:
        assert f"--{name.replace('_', '-')}" in result.output
        assert f"MORA_{name.upper()}" in result.output


@pytest.mark.parametrize(
    ("arguments", "environment", "expected"),
    [
        (["--port", "many"], {}, "port"),
        (["--queue-size=-1"], {}, "MORA_QUEUE_SIZE"),
        ([], {"MORA_PROT": "1"}, "MORA_PORT"),
        ([], {"MORA_POLL_SECONDS": "never"}, "--poll-seconds"),
    ],
)
def test_a_wrong_setting_is_named_before_anything_starts(arguments, environment, expected):
    environment = {**os.environ, **environment}
    result = CliRunner(env=environment).invoke(app, ["run", *arguments])
    assert result.exit_code == 2
    assert expected in result.output


@pytest.mark.parametrize(("flag", "kind"), [("--plain-http", "true or false"), ("--host", "a value")])
def test_a_setting_without_its_value_is_named(flag, kind):
    result = CliRunner().invoke(app, ["run", flag, "--port", "8000"])
    assert result.exit_code == 2
    assert f"it takes {kind}, but --port follows" in result.output
    assert flag in result.output


@pytest.mark.parametrize(
    ("flags", "event", "loads"),
    [(["--port"], "port_unusable", False), (["--port", "0", "--metrics-port"], "metrics_port_unusable", True)],
)
def test_a_port_in_use_is_an_error_with_its_cure(shelf, flags, event, loads):
    shelf.publish("fruit")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        command = [sys.executable, "-m", "service.cli", "run", "--store", str(shelf.store.root), "--log-format", "json"]
        command += [*flags, str(taken.getsockname()[1])]
        result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    events = [json.loads(line) for line in result.stderr.splitlines()]
    assert result.returncode == 1
    assert [line["event"] for line in events] == ["model_loaded"] * loads + [event]
    assert "address already in use; choose another port" in events[-1]["problem"]


@pytest.mark.parametrize(
    ("error", "cure"),
    [
        (PermissionError(13, "Permission denied"), "choose a port from 1024 up"),
        (socket.gaierror(-2, "Name or service not known"), "name an address of this machine with MORA_HOST"),
        (OSError(99, "Cannot assign requested address"), "0.0.0.0 means all of them"),
    ],
)
def test_an_address_that_cannot_be_listened_on_has_its_cure(shelf, monkeypatch, events, error, cure):
    async def refuse(*_: object, **__: object) -> None:
        raise error

    settings = Settings(store=shelf.store.root, port=80)
    server = Server(create_app(settings), settings)
    monkeypatch.setattr(asyncio.BaseEventLoop, "create_server", refuse)

    with pytest.raises(SystemExit):
        asyncio.run(server.startup())

    assert [event["event"] for event in events] == ["port_unusable"]
    assert cure in events[0]["problem"]
    assert "port 80: " in events[0]["problem"]


def while_serving(settings: Settings, events: list, act: Callable[[dict], None]) -> None:
    """Call `act` with the event that names the addresses, while a service in this process answers."""

    async def serve() -> None:
        server = Server(create_app(settings), settings)
        serving = asyncio.create_task(server.serve())
        while not (listening := [event for event in events if event["event"] == "listening"]) and not serving.done():
            await asyncio.sleep(0.01)
        try:
            await asyncio.to_thread(act, listening[0])
        finally:
            server.should_exit = True
            await serving

    asyncio.run(serve())


def has_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


@pytest.mark.parametrize(
    ("host", "begin"),
    [
        ("127.0.0.1", "http://127.0.0.1:"),
        ("0.0.0.0", "http://0.0.0.0:"),  # noqa: S104
        ("localhost", "http://"),
        ("::1", "http://[::1]:"),
        ("::", "http://[::]:"),
        ("0:0:0:0:0:0:0:1", "http://[::1]:"),
    ],
)
def test_the_logged_addresses_can_be_used(shelf, events, host, begin):
    """By urllib, by the client, and by mora-store."""
    if ":" in host and not has_ipv6():
        pytest.skip("this machine has no IPv6")
    shelf.publish("fruit")

    def use(listening: dict) -> None:
        assert listening["url"].startswith(begin)
        for address in (f"{listening['url']}/livez", f"{listening['metrics_url']}/metrics"):
            with urllib.request.urlopen(address, timeout=10) as answer:
                assert answer.status == 200
        with Client(listening["url"]) as client:
            assert client.classify(text="a red apple").task == "fruit"
        assert compare_with_server(listening["url"], "fruit").version == 1

    while_serving(Settings(store=shelf.store.root, host=host, port=0, metrics_port=0), events, use)


def test_the_zone_of_an_address_is_escaped_in_its_url():
    listening = SimpleNamespace(getsockname=lambda: ("fe80::1%eth0", 8000, 0, 2))
    assert _url(SimpleNamespace(sockets=[listening])) == "http://[fe80::1%25eth0]:8000"


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "OPTIONS"])
def test_the_metrics_port_answers_the_methods_of_the_service(shelf, events, method):
    def ask(listening: dict) -> None:
        connection = http.client.HTTPConnection(listening["metrics_url"].removeprefix("http://"), timeout=10)
        for path, status in (("/metrics", 200), ("/nothing", 404)):
            connection.request(method, path)
            response = connection.getresponse()
            is_refused = status == 200 and method not in ("GET", "HEAD")
            assert response.status == (405 if is_refused else status)
            assert response.getheader("Allow") == ("GET, HEAD" if is_refused else None)
            assert int(response.getheader("Content-Length")) > 0
            assert (response.read() == b"") == (method == "HEAD")
        connection.close()

    while_serving(Settings(store=shelf.store.root, port=0, metrics_port=0), events, ask)


def test_a_service_without_a_task_logs_the_cure(tmp_path):
    command = [sys.executable, "-m", "service.cli", "run", "--port", "0", "--store", str(tmp_path / "none")]
    process = subprocess.Popen([*command, "--log-format", "json"], stderr=subprocess.PIPE, text=True)
    try:
        first, second = (json.loads(process.stderr.readline()) for _ in range(2))
    finally:
        process.kill()
        process.wait()
        process.stderr.close()
    assert (first["event"], second["event"]) == ("nothing_to_serve", "listening")
    assert first["problem"].startswith(f"{tmp_path / 'none'} does not exist; ")
    assert "MORA_STORE" in first["problem"]


def test_a_service_whose_versions_are_all_refused_points_to_the_reasons(shelf, events):
    shelf.publish("fruit")
    (shelf.store.root / "tasks/fruit/1/manifest.json").write_text("{}")

    while_serving(Settings(store=shelf.store.root, port=0), events, lambda _: None)

    (problem,) = [event["problem"] for event in events if event["event"] == "nothing_to_serve"]
    assert "every live version of" in problem
    assert "(fruit): model_refused above" in problem


def test_a_store_without_a_live_version_is_named_with_the_cures(tmp_path, events):
    while_serving(Settings(store=tmp_path, port=0), events, lambda _: None)

    (problem,) = [event["problem"] for event in events if event["event"] == "nothing_to_serve"]
    assert problem.startswith(f"no task of {tmp_path} has a live version; publish one there")


def test_a_connection_is_kept_longer_than_a_proxy_keeps_its_own(shelf):
    """Or the service would close connections on which a request is on its way."""
    proxy = (Path(__file__).parents[3] / "docker" / "nginx.conf").read_text()
    (seconds,) = re.findall(r"keepalive_timeout (\d+)s;", proxy)
    settings = Settings(store=shelf.store.root)

    assert Server(create_app(settings), settings).config.timeout_keep_alive > int(seconds)
