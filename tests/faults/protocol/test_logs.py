"""Log lines about hostile requests: one JSON object a line, without any of their content."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time

CANARY = "hunter2"
FIELDS = {
    *(
        "client",
        "event",
        "level",
        "timestamp",
        "request_id",
        "client_request_id",
        "method",
        "route",
        "status",
        "problem",
    ),
    *("task", "version", "modalities", "stages_ms", "duration_ms"),
}
STAGES = {"decode", "tokenize", "queue", "image_encoder", "text_encoder", "head", "total"}


def request(head: bytes, body: bytes = b"", headers: bytes = b"") -> bytes:
    length = b"Content-Length: %d\r\n" % len(body)
    return head + b" HTTP/1.1\r\nHost: a\r\nConnection: close\r\n" + headers + length + b"\r\n" + body


def classify(body: bytes, headers: bytes = b"Content-Type: application/json\r\n") -> bytes:
    return request(b"POST /classify", body, headers)


def form(disposition: bytes, value: bytes = b"a") -> bytes:
    body = b"--x\r\nContent-Disposition: form-data; " + disposition + b"\r\n\r\n" + value + b"\r\n--x--\r\n"
    return classify(body, b"Content-Type: multipart/form-data; boundary=x\r\n")


def item(**fields: object) -> bytes:
    return classify(json.dumps({"task": "fruit", "text": "red", **fields}).encode())


def named(value: bytes) -> bytes:
    return request(b"GET /tasks", headers=b"X-Request-ID: " + value + b"\r\n")


HTTP = [
    item(),
    item(text=f"{CANARY} \x1b[31m red \r\n {{}}"),
    item(text=f"{CANARY} \u2028 \ud800"),
    item(task=f'{CANARY}"}}\n{{"event": "forged"}}'),
    item(task=f"../../{CANARY}\x00"),
    item(image=CANARY),
    item(image=f"http://{CANARY}/"),
    item(**{CANARY: CANARY}),
    item(version=CANARY),
    classify(b"{" + CANARY.encode()),
    classify(CANARY.encode("utf-16")),
    classify(b"\xff" + CANARY.encode()),
    classify(b"{}", b"Content-Type: " + CANARY.encode() + b"\r\n"),
    classify(b"{}", b"Content-Type: application/json\r\nContent-Encoding: " + CANARY.encode() + b"\r\n"),
    form(b'name="' + CANARY.encode() + b'"'),
    form(b'name="image"; filename="' + CANARY.encode() + b'.png"', b"\x89PNG\r\n\x1a\n" + CANARY.encode()),
    form(b'name="task"', CANARY.encode() + b"\x1b[2J"),
    request(
        b"POST /classify/batch",
        b'{"inputs": [{"%s": 1}], "tasks": ["%s"]}' % ((CANARY.encode(),) * 2),
        b"Content-Type: application/json\r\n",
    ),
    request(b"GET /" + CANARY.encode() + b"%0d%0a%1b[31m?" + CANARY.encode() + b"=1"),
    request(b"GET /tasks/" + CANARY.encode() + b"%22%7d%0a"),
    request(b"PROPFIND /classify"),
    named(b'"}{"event": "' + CANARY.encode()),
    named(CANARY.encode() + b" with spaces"),
    named(CANARY.encode() * 100),
    named(CANARY.encode() + b"\xff\xfe"),
    named(b""),
]
NOT_HTTP = [
    named(b"\x1b[31m" + CANARY.encode()),
    request(CANARY.encode() + b" /"),
    named(CANARY.encode() + b"\x00"),
    b"\x16\x03\x01 " + CANARY.encode() + b"\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + CANARY.encode(),
    request(b"GET /" + CANARY.encode(), headers=b"Upgrade: " + CANARY.encode() + b"\r\nContent-Length: -1\r\n"),
]
WEBSOCKET = (
    b"GET /" + CANARY.encode() + b" HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade, close\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


def faults_in(events: list[dict], requests: int) -> list[str]:
    """What is wrong with a log of so many requests."""
    lines = [event for event in events if event["event"] == "request"]
    found = [] if len(lines) == requests else [f"{len(lines)} lines of {requests} requests"]
    found += [f"fields {sorted(set(line) ^ FIELDS)}" for line in lines if set(line) != FIELDS]
    found += [f"stages {line['stages_ms']}" for line in lines if set(line.get("stages_ms", STAGES)) != STAGES]
    found += [f"says {event}" for event in events if CANARY in json.dumps(event) or "forged" in event["event"]]
    return found


def send(port: int, data: bytes) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(data)
        while connection.recv(65_536):
            pass


def test_log_lines_about_hostile_requests_are_json_without_their_content(shelf, server, counts, reliability):
    shelf.publish("fruit")
    running = server(shelf.store)
    rounds = counts(1, 200)

    for _ in range(rounds):
        for data in HTTP:
            send(running.port, data)
        for data in [*NOT_HTTP, WEBSOCKET]:
            send(running.port, data)
    expected = rounds * (len(HTTP) + len(NOT_HTTP) + 1)  # an upgrade is not made: it is answered as any other
    deadline = time.monotonic() + 30
    while sum(event["event"] == "request" for event in running.events) < expected and time.monotonic() < deadline:
        time.sleep(0.05)

    wrong = faults_in(running.events, expected)
    sent = rounds * (len(HTTP) + len(NOT_HTTP) + 1)
    goal = "each is one line of JSON with every field and repeats no input"
    measured = f"{len(wrong)} faults {wrong[:3]}"
    reliability(f"{sent} hostile requests, logged", goal, measured, not wrong)


def test_control_a_log_that_repeats_input_forges_or_lacks_a_line_is_caught():
    line = {**dict.fromkeys(FIELDS), "event": "request", "stages_ms": dict.fromkeys(STAGES, 0.0)}
    assert faults_in([line], 1) == []
    assert faults_in([line], 2)
    assert faults_in([{**line, "route": f"/tasks/{CANARY}"}], 1)
    assert faults_in([line, {"event": "forged"}], 1)
    assert faults_in([{name: value for name, value in line.items() if name != "version"}], 1)
    assert faults_in([{**line, "stages_ms": {}}], 1)


AWKWARD = """
import logging, sys, threading, warnings
import structlog
from service.telemetry.logs import configure_logging
from service.settings import Settings
configure_logging(Settings(log_format="json"))
hostile = 'a\\r\\n{"event": "forged"}\\x1b[31m\\u2028\\ud800\\x00'
log = structlog.get_logger()
log.info("ours", value=hostile, odd=object(), nested={"key": [hostile]})
logging.getLogger("library").error("theirs %s", hostile)
warnings.warn(hostile)
try:
    raise ValueError(hostile) from RuntimeError(hostile)
except ValueError:
    log.exception("failed")
    logging.getLogger("library").exception(hostile)
def die():
    raise ValueError(hostile)
thread = threading.Thread(target=die)
thread.start()
thread.join()
"""


def test_libraries_warnings_and_crashed_threads_write_json_too():
    done = subprocess.run([sys.executable, "-c", AWKWARD], capture_output=True, text=True, timeout=60, check=True)
    events = [json.loads(line) for line in done.stderr.split("\n") if line]
    assert [event["level"] for event in events] == ["info", "error", "warning", "error", "error", "critical"]
    assert [event["event"] for event in events if event["event"] in ("ours", "failed", "thread_died")] == [
        "ours",
        "failed",
        "thread_died",
    ]
