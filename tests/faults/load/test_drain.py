"""SIGTERM: the service is not ready at once, loses no request, and ends in time."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from tests.support.faults.proxy import REUSED, free_ports, nginx
from tests.support.faults.raw_http import ask, classify, connect, events_named, is_closed, read_answer, request
from tests.support.sampling import each
from tests.support.steady_load import SteadyLoad
from tests.support.waiting import eventually, wait_until

ITEM = {"text": "a red apple"}
EXIT_SECONDS = 20


@pytest.fixture
def fruit(shelf):
    shelf.publish("fruit")
    return shelf.store


def stop(running, seconds: float = EXIT_SECONDS) -> int:
    """SIGTERM; the exit code."""
    running.process.send_signal(signal.SIGTERM)
    return running.process.wait(timeout=seconds)


def test_after_sigterm_the_service_is_not_ready_and_still_answers(fruit, server):
    running = server(fruit, drain_delay_seconds=30, drain_seconds=60)
    with connect(running.port) as old:
        old.sendall(request("GET", "/readyz"))
        assert read_answer(old)[0] == 200
        running.process.send_signal(signal.SIGTERM)
        old.sendall(request("GET", "/readyz"))
        status, headers, body = read_answer(old)
        assert (status, json.loads(body)["code"]) == (503, "draining")
        assert headers["connection"] == "close", "the client is told to connect to another replica"
        assert is_closed(old)
    for data in (classify(), request("GET", "/livez"), request("GET", "/tasks"), request("GET", "/metrics")):
        assert ask(running.port, data)[0] == 200
    assert stop(running) == 0, "a second signal skips the delay"


def test_requests_in_flight_at_sigterm_are_answered(fruit, server, counts, reliability):
    """Requests of which half has arrived at the signal."""
    number = counts(20, 400)
    running = server(fruit, drain_delay_seconds=0.3)
    data = classify("a red apple")
    begun = [connect(running.port) for _ in range(number)]
    idle = connect(running.port)
    for connection in begun:
        connection.sendall(data[:-5])
    assert wait_until(lambda: running.metric("mora_inflight_requests") == number)
    running.process.send_signal(signal.SIGTERM)
    assert is_closed(idle)
    statuses = []
    for connection in begun:
        connection.sendall(data[-5:])
        statuses.append(read_answer(connection)[0])
        connection.close()
    idle.close()
    code = running.process.wait(timeout=EXIT_SECONDS)
    with pytest.raises(ConnectionRefusedError):
        connect(running.port)
    eventually(lambda: events_named(running, "draining"))
    lost = number - statuses.count(200)
    reliability(
        f"SIGTERM in the middle of {number} requests",
        "0 lost, exit 0",
        f"{lost} lost, exit {code}",
        lost == 0 and code == 0,
    )


def test_control_a_killed_process_loses_requests_in_flight(fruit, server):
    running = server(fruit, drain_delay_seconds=0)
    with connect(running.port) as connection:
        connection.sendall(classify()[:-5])
        assert wait_until(lambda: running.metric("mora_inflight_requests") == 1)
        running.process.kill()
        running.process.wait()
        assert read_answer(connection)[0] == 0


@pytest.mark.slow
def test_an_endless_request_does_not_prevent_the_exit(fruit, server):
    running = server(fruit, drain_delay_seconds=0, drain_seconds=2, body_idle_seconds=60, body_seconds=60)
    with connect(running.port) as connection:
        connection.sendall(classify()[:-5])
        assert wait_until(lambda: running.metric("mora_inflight_requests") == 1)
        assert stop(running) == 0


@pytest.mark.parametrize("planted", each(["sleeps", "spins", "waits"], tried=["spins"]))
@pytest.mark.slow
def test_sigterm_ends_a_service_whose_event_loop_stands_still(fruit, server, planted, reliability):
    running = server(fruit, planted=planted, drain_delay_seconds=0, drain_seconds=2)
    with connect(running.port) as connection:
        connection.sendall(classify())
        time.sleep(0.5)  # no answer tells that it stands still
        started = time.monotonic()
        code = stop(running)
        seconds = time.monotonic() - started
    reliability(
        f"SIGTERM while the event loop {planted}",
        "exit 0 after MORA_DRAIN_SECONDS, here 2 s",
        f"exit {code} after {seconds:.1f} s",
        code == 0 and seconds < EXIT_SECONDS,
    )


@pytest.mark.slow
def test_ctrl_c_skips_the_drain_delay(fruit, server):
    running = server(fruit, drain_delay_seconds=60, drain_seconds=90)
    running.process.send_signal(signal.SIGINT)
    assert running.process.wait(timeout=EXIT_SECONDS) == 0


SLOW_TO_LOAD = """
import sys, time
from service.models.loading import Loader
whole = Loader.load
def load(self, task, version):
    print('{"event": "loading"}', file=sys.stderr, flush=True)
    time.sleep(0 if version == 1 and "reload" in sys.argv[1] else 120)
    return whole(self, task, version)
Loader.load = load
from service.cli import app
app(["run", "--port", "0", "--log-format", "json", "--poll-seconds", "0.05", *sys.argv[2:]])
"""


@contextmanager
def slow_to_load(when: str, store, *flags: str):
    command = [sys.executable, "-c", SLOW_TO_LOAD, when, "--store", str(store.root), *flags]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    killer = threading.Timer(60, process.kill)
    killer.start()
    try:
        yield process, (json.loads(line)["event"] for line in process.stderr)
    finally:
        killer.cancel()
        process.kill()
        process.wait()
        process.stderr.close()


def test_sigterm_ends_the_service_while_its_first_model_loads(fruit):
    with slow_to_load("at start", fruit) as (process, events):
        assert next(event for event in events if event == "loading")
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=EXIT_SECONDS) == 0


@pytest.mark.slow
def test_sigterm_ends_the_service_while_a_new_version_loads(shelf, fruit):
    flags = ["--drain-delay-seconds", "0", "--drain-seconds", "2"]
    with slow_to_load("at reload", fruit, *flags) as (process, events):
        assert next(event for event in events if event == "listening")
        shelf.publish("fruit", seed=2)
        assert next(event for event in events if event == "loading")
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=EXIT_SECONDS) == 0


@pytest.mark.slow
def test_sigterm_at_any_moment_of_the_start_ends_the_service(shelf, counts, reliability):
    for seed in range(4):
        shelf.publish(f"task-{seed}", seed)
    tries = counts(2, 20)
    codes, slowest = [], 0.0
    for number in range(tries):
        command = [sys.executable, "-m", "service.cli", "run", "--store", str(shelf.store.root), "--port", "0"]
        process = subprocess.Popen([*command, "--drain-delay-seconds", "0"], stderr=subprocess.DEVNULL)
        try:
            time.sleep(4.0 * (number + random.random()) / tries)  # noqa: S311
            started = time.monotonic()
            process.send_signal(signal.SIGTERM)
            codes.append(process.wait(timeout=EXIT_SECONDS))
            slowest = max(slowest, time.monotonic() - started)
        finally:
            process.kill()
            process.wait()
    # While Python imports, before any code of ours can run, the signal does what it does to any process.
    good = set(codes) <= {0, -signal.SIGTERM}
    reliability(
        f"SIGTERM at {tries} moments of the first 4 s",
        f"ended within {EXIT_SECONDS} s",
        f"{slowest:.1f} s at most, exit codes {sorted(set(codes))}",
        good,
    )


def roll(server, store, folder, number: int, retries: str, end) -> SteadyLoad:
    """Stop and start two replicas in turn, under load, `number` times; `end(replica)` stops one."""
    ports = free_ports(2)
    settings = {"drain_delay_seconds": 0.3, "queue_size": 256}
    with nginx(folder, ports, f"{REUSED} proxy_next_upstream {retries};") as port:
        with ThreadPoolExecutor(2) as threads:
            replicas = list(threads.map(lambda its_port: server(store, port=its_port, **settings), ports))
        with SteadyLoad(port, ITEM, clients=4) as load:
            for turn in range(number):
                assert load.goes_on()
                end(replicas[turn % 2])
                if turn + 1 < number:
                    replicas[turn % 2] = server(store, port=ports[turn % 2], **settings)
            assert load.goes_on()
    return load


@pytest.mark.slow
def test_clients_get_no_error_while_two_replicas_restart(fruit, server, counts, reliability, tmp_path):
    number = counts(2, 50)
    codes = []
    load = roll(
        server, fruit, tmp_path / "nginx", number, "error timeout non_idempotent", lambda gone: codes.append(stop(gone))
    )
    reliability(
        f"{number} SIGTERMs in turn to 2 replicas behind nginx, 4 clients send requests throughout",
        "0 client errors, every exit 0",
        f"{len(load.errors)} errors in {load.answered} answers, exit codes {sorted(set(codes))}",
        not load.errors and load.answered > 20 * number and set(codes) == {0},
    )


def test_control_a_killed_replica_behind_a_proxy_without_retries_causes_errors(fruit, server, tmp_path):
    def kill(replica) -> None:
        replica.process.kill()
        replica.process.wait()

    assert roll(server, fruit, tmp_path / "nginx", 1, "off", kill).errors
