"""Keys, hosts and floods, against a service that is a process of its own."""

from __future__ import annotations

import json
import random
import statistics
import time

import pytest

from model_store import Store
from service.web.keys import ApiKeys, key_line, make_key
from tests.support.faults.asking import scrape
from tests.support.faults.raw_http import ask, classify, connect, events_named, read_answer, request
from tests.support.tiny import Shelf
from tests.support.waiting import eventually, wait_until

KEY, OTHER = "canary-key-7f3a9c51", "another-key-0123456789"
BEARER = f"Authorization: Bearer {KEY}"


@pytest.fixture(scope="module")
def keys_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("keys") / "keys"
    path.write_text(key_line("shop", KEY))
    return path


@pytest.fixture(scope="module")
def locked(tmp_path_factory, module_server, keys_file):
    shelf = Shelf(Store(tmp_path_factory.mktemp("locked") / "store"))
    shelf.publish("fruit")
    return module_server(shelf.store, api_keys_file=keys_file, metrics_port=0, log_level="debug")


def metrics_of(running) -> dict[str, float]:
    return scrape(f"{events_named(running, 'listening')[0]['metrics_url']}/metrics")


HOSTS = ["a/livez?x=", "a/livez", "/livez", "livez#", "a/readyz?", "127.0.0.1:8000/livez?x=", "a\\livez", "a@b/livez"]
PATHS = ["/tasks", "/metrics", "/openapi.json", "/docs", "/docs/assets/swagger-ui.css", "/nowhere", "/classify"]
PATHS += ["/tasks/fruit/report", "/tasks/fruit/examples/0/image", "/playground/nothing.js"]


def test_no_host_header_and_no_form_of_a_path_opens_a_closed_route(locked, reliability):
    let_in = []
    for path in PATHS:
        for host in HOSTS:
            status, _, body = ask(locked.port, request("GET", path, host=host))
            assert (status, json.loads(body)["code"]) == (400, "bad_host")
            let_in += [(path, host)] if status < 400 else []
        for target in (path, f"http://test/livez/..{path}", f"http://livez{path}", f"/livez/../..{path}", f"/{path}"):
            status, _, body = ask(locked.port, request("GET", target))
            let_in += [(target, "")] if status < 400 else []
        assert ask(locked.port, request("GET", path, host=None))[0] == 400
        assert ask(locked.port, request("GET", path, "Host: test"))[0] == 400, "a second Host"
    assert ask(locked.port, request("GET", "/livez"))[0] == 200
    asked = len(PATHS) * (len(HOSTS) + 7)
    reliability(
        f"{asked} requests without a key: {len(HOSTS)} Host headers, odd paths",
        "0 let in",
        f"{len(let_in)} let in",
        not let_in,
    )


def test_the_key_is_in_no_log_line_no_metric_and_no_answer(locked, reliability):
    answers, seen = [], len(locked.events)
    for data in (
        classify("a red apple", BEARER),
        classify("a red apple", BEARER, BEARER),
        classify("a red apple", f"Authorization: Basic {KEY}"),
        classify("a red apple", f"Authorization: Bearer {KEY}x"),
        request("GET", f"/tasks?key={KEY}"),
        request("GET", f"/{KEY}", BEARER),
        request("GET", f"/tasks/{KEY}", BEARER),
        request("GET", "/tasks", BEARER, f"X-Request-ID: a {KEY}"),
        request("GET", "/tasks", BEARER, *(f"X-{n}: {n}" for n in range(200))),
        request("GET", "/tasks", f"Authorization : Bearer {KEY}"),
        b"GET /tasks HTTP/1.1\r\nHost: test\r\n" + BEARER.encode() + b"\r\n\0\r\n\r\n",
    ):
        answers.append(ask(locked.port, data))
    assert answers[0][0] == 200
    assert {answer[0] for answer in answers[1:]} <= {0, 200, 400, 401, 404, 431}
    assert wait_until(lambda: len(locked.events) >= seen + 6)
    eventually(lambda: "shop" in [event.get("client") for event in list(locked.events)])
    places = {"answers": answers, "log": locked.events, "metrics": metrics_of(locked)}
    found = [name for name, content in places.items() if KEY in str(content)]
    reliability(
        "a key sent in 11 ways, right and wrong; log at debug",
        "in no log, metric, answer",
        f"found in {found or 'none'}",
        not found,
    )


def test_control_a_key_in_a_request_id_would_be_found(locked):
    """X-Request-ID is logged as it came, so the search above does see what is there."""
    ask(locked.port, request("GET", "/tasks", BEARER, f"X-Request-ID: {KEY}"))
    assert wait_until(lambda: KEY in str(locked.events), 20)


def test_a_key_removed_from_the_file_is_refused(locked, keys_file, counts, reliability):
    rounds = counts(2, 50)
    for number in range(rounds):
        key, other = (KEY, OTHER) if number % 2 == 0 else (OTHER, KEY)
        staged = keys_file.with_suffix(".new")
        staged.write_text(key_line("shop", other))
        assert ask(locked.port, request("GET", "/tasks", f"Authorization: Bearer {key}"))[0] == 200
        staged.replace(keys_file)
        assert wait_until(
            lambda key=key: ask(locked.port, request("GET", "/tasks", f"Authorization: Bearer {key}"))[0] == 401
        )
        assert ask(locked.port, request("GET", "/tasks", f"Authorization: Bearer {other}"))[0] == 200
    keys_file.write_text("nonsense")
    assert wait_until(lambda: bool(events_named(locked, "api_keys_unusable")))
    assert ask(locked.port, request("GET", "/tasks", f"Authorization: Bearer {other}"))[0] == 200
    keys_file.write_text(key_line("shop", KEY))
    reliability("keys exchanged while serving, then a broken file", "followed; last good kept", f"{rounds} exchanges")


def test_requests_over_the_rate_limit_get_429_and_are_counted(shelf, server, counts, reliability):
    shelf.publish("fruit")
    running = server(shelf.store, rate_limit=1e-3, rate_burst=10)
    sent = counts(60, 5_000)
    statuses = []
    with connect(running.port) as connection:
        for _ in range(sent):
            connection.sendall(classify())
            status, headers, body = read_answer(connection)
            statuses.append(status)
            if status == 429:
                assert json.loads(body)["code"] == "rate_limited"
                assert 1 <= int(headers["retry-after"]) <= 1000
        connection.sendall(request("GET", "/livez"))
        assert read_answer(connection)[0] == 200
    refused = statuses.count(429)
    eventually(
        lambda: (
            [line["problem"] for line in events_named(running, "request")].count("rate_limited")
            in (refused, refused - 1)
        )
    )
    reliability(
        f"{sent} requests where 10 are allowed",
        "10 answered, the rest 429",
        f"{refused} refused",
        statuses == [200] * 10 + [429] * (sent - 10),
    )


def test_random_tasks_and_paths_add_no_series(locked, counts, reliability):
    def made_up(number: int) -> list[bytes]:
        name = f"{random.getrandbits(64):x}-{number}"
        return [
            request("GET", f"/tasks/{name}", BEARER),
            request("GET", f"/{name}"),
            request("POST", "/classify", BEARER, body=json.dumps({"task": name, "text": name}).encode()),
        ]

    with connect(locked.port) as connection:

        def send(tries: range) -> None:
            for data in (data for number in tries for data in made_up(number)):
                connection.sendall(data)
                assert read_answer(connection)[0] in (401, 404)

        send(range(1))
        before = metrics_of(locked).keys()
        tries = counts(100, 10_000)
        send(range(tries))
        after = metrics_of(locked).keys()
    reliability(f"{tries} random tasks and paths", "0 new series", f"{len(after - before)}", after == before)


def test_timing_refusing_a_key_reveals_nothing_about_it(tmp_path, reliability):
    tries = 100_000
    others = [key_line(f"client-{number}", make_key()) for number in range(20)]
    (tmp_path / "keys").write_text("\n".join([*others, key_line("shop", KEY)]))
    keys = ApiKeys(tmp_path / "keys")
    candidates = {"nearly right": f"{KEY[:-1]}x".encode(), "all wrong": b"x" * len(KEY)}
    seconds = {name: [] for name in candidates}
    for _ in range(tries):
        for name in random.sample(list(candidates), 2):
            start = time.perf_counter_ns()
            keys.client_of(candidates[name])
            seconds[name].append(time.perf_counter_ns() - start)
    nearly, wrong = (statistics.median(seconds[name]) for name in candidates)
    reliability(
        f"{tries} wrong keys, nearly right and all wrong",
        "medians within 2 %",
        f"{nearly} and {wrong} ns",
        abs(nearly - wrong) <= 0.02 * wrong,
    )
