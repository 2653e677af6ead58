"""SIGHUP and SIGUSR1: they end the process at no moment of its life, and do what an operator asked for."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

from model_store import sign
from model_store.signing import make_key_pair, read_signing_key
from service.web.keys import key_line
from tests.faults.conftest import Running
from tests.support.faults.asking import get, label, refusal
from tests.support.faults.raw_http import ask, classify, connect, events_named, request
from tests.support.sampling import each
from tests.support.waiting import eventually

EXIT_SECONDS = 20
HARMLESS = (signal.SIGHUP, signal.SIGUSR1)
KEY = "a-key-of-the-signal-tests"


@pytest.fixture
def fruit(shelf):
    shelf.publish("fruit")
    return shelf.store


class Signals:
    """Sends both signals every few milliseconds, from the moment that the process no longer leaves them to the system.

    That is when Python runs the first line of ours.
    """

    def __init__(self, process: subprocess.Popen) -> None:
        self._process = process
        self._ended = threading.Event()
        self.sent = 0
        self._sender = threading.Thread(target=self._send)

    def __enter__(self) -> Signals:
        self._sender.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._sender.join()

    def _send(self) -> None:
        with suppress(FileNotFoundError, ProcessLookupError):  # the process has ended
            while not self._ended.wait(0.003):
                for number in HARMLESS:
                    if self._is_handled(number):
                        self._process.send_signal(number)
                        self.sent += 1

    def _is_handled(self, number: int) -> bool:
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        lines = dict(line.split(":", 1) for line in status.splitlines())
        return bool((int(lines["SigIgn"], 16) | int(lines["SigCgt"], 16)) >> (number - 1) & 1)


@pytest.mark.slow
def test_signals_from_the_start_to_the_end_do_not_end_the_process(fruit, counts, reliability):
    codes, sent, lives = [], 0, counts(1, 20)
    for _ in range(lives):
        command = [sys.executable, "-m", "service", "run", "--store", str(fruit.root), "--port", "0"]
        command += ["--log-format", "json", "--drain-delay-seconds", "0.5", "--poll-seconds", "0.05"]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        killer = threading.Timer(120, process.kill)
        killer.start()
        try:
            with Signals(process) as signals:
                events = (json.loads(line)["event"] for line in process.stderr)
                assert "listening" in events
                assert "stack" in events
                process.send_signal(signal.SIGTERM)
                assert "draining" in events
                assert [event for event in events if event not in ("stack", "rereading")] == []
                codes.append(process.wait(EXIT_SECONDS))
            sent += signals.sent
        finally:
            killer.cancel()
            process.kill()
            process.wait()
            process.stderr.close()
    reliability(
        f"SIGHUP and SIGUSR1 every 3 ms through {lives} lives of a service, from its first line to its end",
        "it starts, serves, drains and exits with 0",
        f"{sent} signals, exit codes {sorted(set(codes))}",
        set(codes) == {0},
    )


@pytest.mark.slow
def test_requests_are_answered_beside_signals(fruit, server, counts, reliability):
    running, number = server(fruit), counts(100, 5000)
    before = label(running)
    with Signals(running.process):
        wrong = sum(label(running) != before for _ in range(number))
    reliability(
        f"{number} requests beside SIGHUP and SIGUSR1 every 3 ms",
        "all answered alike",
        f"{wrong} wrong",
        wrong == 0,
    )


@pytest.mark.slow
def test_signals_while_a_request_holds_up_the_drain(fruit, server):
    running = server(fruit, drain_delay_seconds=0, drain_seconds=2, body_idle_seconds=60, body_seconds=60)
    with connect(running.port) as connection:
        connection.sendall(classify()[:-5])
        time.sleep(0.2)
        running.process.send_signal(signal.SIGTERM)
        with Signals(running.process):
            assert running.process.wait(timeout=EXIT_SECONDS) == 0


@pytest.mark.parametrize("ends", [True, False], ids=["closed", "not read"])
@pytest.mark.slow
def test_stacks_for_a_log_that_is_not_read_delay_no_request(fruit, server, ends):
    running = server(fruit, reads_log=False)
    if ends:
        running.process.stderr.close()
    for _ in range(300):
        running.process.send_signal(signal.SIGUSR1)
        assert ask(running.port, request("GET", "/livez"))[0] == 200
    assert ask(running.port, classify())[0] == 200


@pytest.mark.parametrize("planted", each(["sleeps", "spins", "waits"], tried=["spins"]))
def test_stacks_show_where_the_event_loop_stands_still(fruit, server, planted):
    running = server(fruit, planted=planted)
    with connect(running.port) as connection:
        connection.sendall(classify())
        time.sleep(0.5)  # no answer tells that it stands still
        running.process.send_signal(signal.SIGUSR1)
        eventually(lambda: any(planted in line for line in stack_of(running, "MainThread")))
    assert running.process.poll() is None


def stack_of(running: Running, thread: str) -> list[str]:
    found = [event["stack"] for event in events_named(running, "stack") if event.get("thread") == thread]
    return found[-1] if found else []


@pytest.mark.slow
def test_sighup_makes_the_service_look_at_the_store_now(shelf, fruit, server):
    running = server(fruit, poll_seconds=3600)
    shelf.publish(seed=2)
    assert label(running)["version"] == 1

    running.process.send_signal(signal.SIGHUP)

    eventually(lambda: label(running)["version"] == 2)


def test_sighup_tries_a_refused_version_again(shelf, fruit, server):
    draft = shelf.draft(seed=2)
    head = fruit.root / "blobs/sha256" / draft.manifest.head.sha256
    shelf.publish_draft(draft)
    away = head.rename(fruit.root / "away")
    running = server(fruit, poll_seconds=3600)
    assert get(running.base, "/tasks/fruit").code == "version_refused"
    away.rename(head)

    running.process.send_signal(signal.SIGHUP)

    eventually(lambda: get(running.base, "/tasks/fruit").status == 200)


@pytest.fixture
def keys(tmp_path):
    """Two signing keys."""
    for name in ("first", "second"):
        make_key_pair(tmp_path / name, tmp_path / f"{name}.pub")
    return tmp_path


def test_sighup_reads_the_trusted_keys_again(shelf, fruit, keys, server):
    sign(fruit, "fruit", 1, read_signing_key(keys / "first"))
    trusted = keys / "trusted"
    trusted.write_bytes((keys / "first.pub").read_bytes())
    running = server(fruit, trusted_keys=trusted)
    second = shelf.publish(seed=2)
    sign(fruit, "fruit", second.version, read_signing_key(keys / "second"))
    eventually(lambda: refusal(running))
    assert refusal(running) == {"version": 2, "reason": "untrusted"}

    trusted.write_bytes((keys / "first.pub").read_bytes() + (keys / "second.pub").read_bytes())
    running.process.send_signal(signal.SIGHUP)
    eventually(lambda: label(running)["version"] == 2)

    trusted.write_bytes(b"nonsense")
    running.process.send_signal(signal.SIGHUP)
    eventually(lambda: events_named(running, "trusted_keys_unusable"))
    assert label(running)["version"] == 2

    trusted.write_bytes((keys / "first.pub").read_bytes())
    running.process.send_signal(signal.SIGHUP)
    eventually(lambda: get(running.base, "/tasks/fruit").code == "version_refused")
    eventually(lambda: len(events_named(running, "trusted_keys_loaded")) == 2)


def test_sighup_reads_the_api_keys_again(fruit, server, tmp_path):
    file = tmp_path / "keys"
    file.write_text(f"{key_line('one', 'x' * 20)}\n")
    running = server(fruit, api_keys_file=file)
    data = classify("red", f"Authorization: Bearer {KEY}")
    assert ask(running.port, data)[0] == 401

    file.write_text(f"{key_line('other', KEY)}\n")
    running.process.send_signal(signal.SIGHUP)

    eventually(lambda: ask(running.port, data)[0] == 200)


def _with_default_sighup() -> None:
    """Processes of `nohup` ignore it."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.mark.parametrize("arguments", [["classify", "--help"], ["hash-key", "name", "--stdin"]])
def test_other_commands_end_with_their_terminal(arguments):
    command = [sys.executable, "-m", "service", *arguments]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, text=True, preexec_fn=_with_default_sighup)
    try:
        time.sleep(0.3)
        process.send_signal(signal.SIGHUP)
        assert process.wait(EXIT_SECONDS) in (-signal.SIGHUP, 0)
    finally:
        process.kill()
        process.communicate()
