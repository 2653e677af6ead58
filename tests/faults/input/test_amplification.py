"""Bodies of 20 MB whose content would take many times their memory, or seconds, if it were taken apart."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

from tests.support.faults.asking import Client

MB = 1_000_000
SIZE = 20 * MB
MOST_SECONDS, MOST_BYTES = 0.2, 60 * MB
JSON, FORM, BINARY = "application/json", "multipart/form-data; boundary=x", "application/octet-stream"
FIELD = b'--x\r\nContent-Disposition: form-data; name="%s"\r\n\r\n'


def filled(unit: bytes, begin: bytes = b"", end: bytes = b"") -> bytes:
    return begin + unit * ((SIZE - len(begin) - len(end)) // len(unit)) + end


@cache
def values() -> dict[str, bytes]:
    """JSON of many values, or of deep ones."""
    return {
        "[],": filled(b"[],", b'{"inputs":[', b"1]}"),
        "{},": filled(b"{},", b'{"inputs":[', b"1]}"),
        '"",': filled(b'"",', b'{"inputs":[', b"1]}"),
        "1,": filled(b"1,", b'{"inputs":[', b"1]}"),
        "[[[]]],": filled(b"[[[]]],", b'{"inputs":[', b"1]}"),
        '{"a":1},': filled(b'{"a":1},', b'{"inputs":[', b"1]}"),
        "[": filled(b"["),
        '{"a":': filled(b'{"a":'),
        '"a":1,': filled(b'"a":1,', b"{", b'"a":1}'),
        '""': filled(b'""'),
        "names": b"{" + b",".join(b'"%07d":1' % number for number in range(SIZE // 12)) + b"}",
    }


@cache
def forms() -> dict[str, bytes]:
    """Forms of many or long parts."""
    return {
        "parts": b"".join(FIELD % (b"f%d" % number) + b"\r\n" for number in range(SIZE // 60)),
        "headers of a part": filled(b"A: b\r\n", b"--x\r\n"),
        "a header of a part": filled(b"a", b"--x\r\nA: "),
        "a text": filled(b"a", FIELD % b"text", b"\r\n--x--\r\n"),
        "line ends": filled(b"\r\n", FIELD % b"text", b"\r\n--x--\r\n"),
    }


def requests() -> list[tuple[str, str, str, bytes, dict[str, str]]]:
    """The name, path, content type, body and headers of each."""
    found = [(f"JSON of {name}", "/classify", JSON, body, {}) for name, body in values().items()]
    for name in ("[],", "[", "names"):
        body, size = values()[name], {"Inference_Header_Content_Length": str(SIZE - 100)}
        found.append((f"a batch of {name}", "/classify/batch", JSON, body, {}))
        found.append((f"an item to encode of {name}", "/embed", JSON, body, {}))
        found.append((f"OpenAI's moderations of {name}", "/v1/moderations", JSON, body, {}))
        found.append((f"OpenAI's embeddings of {name}", "/v1/embeddings", JSON, body, {}))
        found.append((f"Open Inference of {name}", "/v2/models/fruit/infer", JSON, body, {}))
        found.append((f"binary Open Inference of {name}", "/v2/models/fruit/infer", BINARY, body.ljust(SIZE), size))
    return found + [(f"a form of {name}", "/classify", FORM, body, {}) for name, body in forms().items()]


def cost(running, path: str, content_type: str, body: bytes, headers: dict[str, str]) -> tuple[int, float, int]:
    """The status, and the processor's seconds and the most memory that the answer took."""
    Path(f"/proc/{running.process.pid}/clear_refs").write_text("5")  # the peak counts from here
    seconds, warm_bytes = cpu_seconds(running), running.resident_bytes
    client = Client(running.port)
    try:
        status = client.send(body, content_type, path, **headers).status
    finally:
        client.close()
    return status, cpu_seconds(running) - seconds, running.peak_bytes - warm_bytes


def cpu_seconds(running) -> float:
    fields = Path(f"/proc/{running.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_timing_bodies_of_many_values_are_refused_before_they_are_parsed(shelf, server, reliability):
    shelf.publish("fruit")
    running = server(shelf.store)
    cost(running, "/classify", JSON, b'{"text":"red"}', {})  # the first request costs more
    slowest, most, statuses = (0.0, ""), (0, ""), set()

    for name, *request in requests():
        status, seconds, grown = cost(running, *request)
        statuses.add(status)
        slowest, most = max(slowest, (seconds, name)), max(most, (grown, name))

    reliability(
        f"20 MB of values or parts, in {len(requests())} ways",
        f"400, 413 or 422, at most {MOST_SECONDS} s of a processor and +{MOST_BYTES // MB} MB each",
        f"{sorted(statuses)}; {slowest[0]:.2f} s ({slowest[1]}), +{most[0] / MB:.0f} MB ({most[1]})",
        statuses <= {400, 413, 422} and slowest[0] <= MOST_SECONDS and most[0] <= MOST_BYTES,
    )


def test_control_values_that_are_not_counted_exceed_the_limits(shelf, server, reliability):
    shelf.publish("fruit")
    running = server(shelf.store, planted="parses_all")

    _, seconds, grown = cost(running, "/classify", JSON, values()["[],"], {})

    reliability(
        "*control*: 20 MB of [], at a service that does not count values",
        f"found: over {MOST_SECONDS} s and +{MOST_BYTES // MB} MB",
        f"{seconds:.2f} s, +{grown / MB:.0f} MB",
        seconds > MOST_SECONDS and grown > MOST_BYTES,
    )
