"""Many clients that send most of a large body and then nothing: memory is limited, and others are answered."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.faults.asking import ITEM, Reply, Sent
from tests.support.faults.asking import ask as ask_all
from tests.support.faults.holding import held_bodies
from tests.support.faults.raw_http import ask, classify
from tests.support.sampling import each
from tests.support.waiting import eventually

MIB = 1 << 20
MOST_GROWTH_BYTES = 256 * MIB
QUICK = {"max_body_bytes": 2_000_000, "max_bodies_bytes": 8_000_000}
JSON, FORM = "application/json", "multipart/form-data; boundary=x"
PART = b'--x\r\nContent-Disposition: form-data; name="image"\r\n\r\n'
WAYS = {  # the path, the content type and the begin of the body
    "JSON": ("/classify", JSON, b'{"text":"'),
    "a form": ("/classify", FORM, PART),
    "a batch": ("/classify/batch", JSON, b'{"inputs":["'),
    "Open Inference": ("/v2/models/fruit/infer", "application/octet-stream", b""),
    "OpenAI's moderations": ("/v1/moderations", JSON, b'{"input":["'),
    "an item to encode": ("/embed", FORM, PART),
    "chunks": ("/classify", JSON, b'{"text":"'),
}


def head(path: str, content_type: str, length: int | None) -> bytes:
    framing = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
    return "\r\n".join(
        [f"POST {path} HTTP/1.1", "Host: test", f"Content-Type: {content_type}", framing, "", ""]
    ).encode()


def request_of(way: str, size: int) -> tuple[bytes, bytes]:
    """The head of a request of `size` bytes, and 95 % of its body."""
    path, content_type, begin = WAYS[way]
    content = begin.ljust(size * 95 // 100, b"a")
    if way == "chunks":
        return head(path, content_type, None), b"%x\r\n%s" % (size, content)
    return head(path, content_type, size), content


def large_item(size: int) -> bytes:
    return json.dumps(ITEM).encode().ljust(size)


def send(running, body: bytes, path: str = "/classify") -> Reply:
    (reply,) = ask_all(running.base, [Sent(path, body)])
    return reply


def hold(running, count: int, way: str, size: int, patience: int) -> tuple[int, int]:
    """The growth of the service's memory, and how many of 50 small requests were answered meanwhile."""
    assert [ask(running.port, classify())[0] for _ in range(5)] == [200] * 5
    warm_bytes = running.resident_bytes
    Path(f"/proc/{running.process.pid}/clear_refs").write_text("5")  # the peak counts from here
    with held_bodies(running.port, count, *request_of(way, size)) as answers:
        eventually(lambda: len(answers) >= patience, 60)
        answered = [ask(running.port, classify())[0] for _ in range(50)].count(200)
        assert {answer[9:12] for answer in answers} <= {b"503", b"408"}
    return running.peak_bytes - warm_bytes, answered


@pytest.mark.parametrize("way", each(WAYS, tried=["a form", "chunks"]))
@pytest.mark.slow
def test_clients_that_hold_large_bodies_share_a_limited_memory(shelf, server, counts, reliability, way):
    shelf.publish("fruit")
    count, size = counts(60, 1_000), counts(2_000_000, 20_000_000)
    running = server(shelf.store, log_level="error", **counts(QUICK, {}), timeout_ms=counts(2_000, 10_000))

    grown, answered = hold(running, count, way, size, patience=count // 20)

    goal = counts(8_000_000 + 60 * 130_000 + 20 * MIB, MOST_GROWTH_BYTES)
    reliability(
        f"{count:,} clients that each hold {size * 95 // 100 / 1e6:.0f} MB of {way}",
        f"at most +{goal // MIB} MiB, others answered",
        f"+{grown / MIB:.0f} MiB, {answered} of 50 small requests answered",
        grown <= goal and answered == 50,
    )


def test_control_bodies_without_a_limit_exceed_the_memory(shelf, server, reliability):
    shelf.publish("fruit")
    running = server(shelf.store, max_bodies_bytes=10**11)

    grown, _ = hold(running, 40, "JSON", 20_000_000, patience=1)

    reliability(
        "*control*: 40 clients that each hold 19 MB, without a limit for all bodies",
        f"found: more than +{MOST_GROWTH_BYTES // MIB} MiB",
        f"+{grown / MIB:.0f} MiB",
        grown > MOST_GROWTH_BYTES,
    )


@pytest.mark.parametrize(
    "path",
    each(
        ["/classify", "/classify/batch", "/embed", "/v1/moderations", "/v2/models/fruit/infer"],
        tried=["/classify", "/v2/models/fruit/infer"],
    ),
)
@pytest.mark.slow
def test_a_large_body_waits_for_memory_and_is_refused_or_read(shelf, server, path):
    shelf.publish("fruit")
    held = request_of("a form", 2_000_000)
    running = server(shelf.store, **QUICK, timeout_ms=1_000)

    with held_bodies(running.port, 3, *held):
        eventually(lambda: running.metric("mora_inflight_body_bytes") == 3 * 1_900_000)
        with held_bodies(running.port, 1, *held):  # the one that may use the last part of the memory
            eventually(lambda: running.metric("mora_inflight_body_bytes") == 4 * 1_900_000)
            refused = send(running, large_item(1_900_000), path)
            small = send(running, large_item(60_000))
    eventually(lambda: running.metric("mora_inflight_body_bytes") == 0)

    assert (refused.status, refused.code, refused.headers["retry-after"]) == (503, "queue_full", "1")
    assert small.status == 200
    assert running.metric('mora_rejected_total{reason="queue_full"}') >= 1
    assert send(running, large_item(1_900_000), path).status in (200, 400, 422)  # all but 200: another form of request


@pytest.mark.parametrize("sent", each([0, 1, 1_000, 30_000], tried=[0, 1_000]))
@pytest.mark.slow
def test_clients_that_announce_large_bodies_and_do_not_send_them_do_not_block_others(shelf, server, counts, sent):
    shelf.publish("fruit")
    running = server(shelf.store)

    with held_bodies(running.port, counts(300, 1_000), head("/classify", JSON, 20_000_000), b"a" * sent):
        eventually(lambda: running.metric("mora_inflight_body_bytes") == counts(300, 1_000) * sent)
        assert send(running, large_item(19_000_000)).status == 200


@pytest.mark.slow
def test_many_large_bodies_at_once_are_all_read(shelf, server):
    """They have half of each other's memory, and still do not wait for each other without end."""
    shelf.publish("fruit")
    running = server(shelf.store, **QUICK, timeout_ms=60_000, queue_size=100)
    body = large_item(1_900_000)

    with ThreadPoolExecutor(30) as threads:
        statuses = [reply.status for reply in threads.map(lambda _: send(running, body), range(30))]

    assert statuses == [200] * 30
