"""Rows P1, P2, P4 to P6 and P8 to P11 of the fault table: HTTP as it should not be spoken."""

from __future__ import annotations

import gzip
import json
import re
import time
import zlib
from collections.abc import Iterator
from contextlib import suppress

import pytest

from service.api.requests import ClassifyRequest
from tests.support.faults.asking import JSON
from tests.support.faults.attacking import FORM, as_base64, as_form, as_json, assert_problem, reply_of
from tests.support.faults.raw_http import connect, is_closed, read_answer
from tests.support.tiny import PICTURE
from tests.support.waiting import wait_until

LIMIT = 2_000_000
GOOD = as_json()
LENGTH = f"Content-Length: {len(GOOD)}"
MIB = 1 << 20


def request(*headers: str, body: bytes = b"", line: str = "POST /classify HTTP/1.1") -> bytes:
    """A request's bytes, with a Host and a content type."""
    lines = [line, "Host: a", "Content-Type: application/json", *headers, "", ""]
    return "\r\n".join(lines).encode("latin-1") + body


def chunked(*chunks: bytes, end: bytes = b"0\r\n\r\n") -> bytes:
    return b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks) + end


# P1: the limit, to the byte


def in_pieces(body: bytes) -> Iterator[bytes]:
    for start in range(0, len(body), 100_000):
        yield body[start : start + 100_000]


@pytest.mark.parametrize("framing", [bytes, in_pieces], ids=["length", "chunked"])
def test_a_body_may_have_the_limit_and_not_a_byte_more(target, framing, reliability):
    for size, status in ((LIMIT - 1, 200), (LIMIT, 200)):
        with target.unharmed():
            assert target.send(framing(GOOD.ljust(size))).status == status
    for size in (LIMIT + 1, LIMIT + 50_000):
        with target.unharmed(body_too_large=1):
            reply = target.send(framing(GOOD.ljust(size)))
            assert_problem(reply, 413, "body_too_large")
            target.close()
    reliability(f"P1: bodies around the limit, {framing.__name__}", "413 from one byte over", "4 of 4")


def test_every_route_that_takes_a_body_limits_it(target):
    paths = ("/classify", "/classify/batch", "/v1/moderations", "/v1/embeddings", "/v2/models/fruit/infer")
    for path in (*paths, "/v2/models/fruit/versions/1/infer"):
        with target.unharmed(body_too_large=1):
            reply = target.send(b" " * (LIMIT + 1), path=path)
            assert (reply.status, reply.code) == (413, "body_too_large")
            target.close()


# A name, the header that gets the request refused, its path, and the problem.
UNREAD = [
    ("unknown path", "", "/nothing", 404, "not_found"),
    ("other method", "", "/tasks", 405, "method_not_allowed"),
    ("content type", "Content-Type: text/plain", "/classify", 415, "content_type"),
    ("encoding", "Content-Encoding: gzip", "/classify", 415, "content_encoding"),
    ("host", "Host: a b", "/classify", 400, "bad_host"),
    ("length", f"Content-Length: {LIMIT + 1}", "/classify", 413, "body_too_large"),
]


def refused(header: str, path: str, *others: str, body: bytes = b"") -> bytes:
    """A request of which `header` replaces the one of that name."""
    name = header.partition(":")[0]
    lines = ["Host: a", f"Content-Type: {JSON}", *others]
    kept = [line for line in lines if not header or not line.startswith(name)]
    return "\r\n".join([f"POST {path} HTTP/1.1", *kept, *filter(None, [header]), "", ""]).encode() + body


@pytest.mark.parametrize(("name", "header", "path", "status", "code"), UNREAD, ids=[row[0] for row in UNREAD])
def test_an_answer_before_the_end_of_the_body_ends_the_connection(target, name, header, path, status, code):
    framing = [] if name == "length" else ["Transfer-Encoding: chunked"]
    with target.unharmed(**{code: 1}):
        begun = refused(header, path, *framing, body=b"" if name == "length" else chunked(b"a", end=b""))
        answer, closed = target.send_raw(begun)
    assert (answer.startswith(b"HTTP/1.1 %d " % status), closed) == (True, True)
    assert b"\r\nconnection: close\r\n" in answer


@pytest.mark.parametrize(("name", "header", "path", "status", "code"), UNREAD[:-1], ids=[row[0] for row in UNREAD[:-1]])
def test_an_answer_to_a_whole_request_keeps_the_connection(target, name, header, path, status, code):
    """The control: the same requests with their bodies, each followed by a good one."""
    with target.unharmed(**{code: 2}):
        for framing, body in ((LENGTH, GOOD), ("Transfer-Encoding: chunked", chunked(GOOD))):
            with connect(target.port) as connection:
                connection.sendall(refused(header, path, framing, body=body))
                answered, headers, _ = read_answer(connection)
                assert (answered, headers.get("connection")) == (status, None)
                connection.sendall(request(LENGTH, body=GOOD))
                assert read_answer(connection)[0] == 200


@pytest.mark.parametrize(
    "length", [["Transfer-Encoding: chunked"], ["Content-Length: 1000000000"]], ids=["chunked", "length"]
)
def test_a_refused_client_that_keeps_sending_gets_its_answer_and_is_disconnected(target, length):
    piece = chunked(b" " * 65_536, end=b"")
    sent = 0
    with target.unharmed(not_found=1), connect(target.port) as connection:
        connection.sendall(refused("", "/nothing", *length))
        with suppress(ConnectionError):
            while sent < 1 << 28:
                sent += connection.send(piece)
        status, headers, _ = read_answer(connection)
        assert (status, headers["connection"]) == (404, "close")
        assert is_closed(connection)
    assert sent < LIMIT + (16 << 20), "the limit of a body, and what the system holds of it"


def test_a_refused_client_can_read_its_answer_after_sending_its_body(target, counts, reliability):
    """Without a moment's wait for it the connection would be reset, and its client perhaps see nothing else."""
    number, told = counts(30, 500), 0
    body = GOOD.ljust(LIMIT)
    with target.unharmed(not_found=number):
        for _ in range(number):
            with connect(target.port) as connection:
                connection.sendall(refused("", "/nothing", f"Content-Length: {LIMIT}"))
                connection.sendall(body)  # raises where the connection is reset
                told += read_answer(connection)[0] == 404 and is_closed(connection)
    reliability(
        "2 MB sent to an unknown path, answer read afterwards", "every client reads it, no connection is reset",
        f"{told} of {number}", told == number,
    )  # fmt: skip


# P2: compressed bodies


def test_compressed_bodies_are_refused(target, reliability):
    bomb = gzip.compress(bytes(50_000_000))
    bodies = {
        "gzip": gzip.compress(GOOD),
        "deflate": zlib.compress(GOOD),
        "br": b"\x0b\x02\x80",
        "zstd": b"\x28\xb5/\xfd",
    }
    bodies |= {"GZIP": bomb, "gzip, identity": GOOD, "x-gzip": bomb, "compress": GOOD, "": GOOD, "unheard-of": GOOD}
    with target.unharmed(content_encoding=len(bodies)):
        for encoding, body in bodies.items():
            assert_problem(target.send(body, Content_Encoding=encoding), 415, "content_encoding")
            target.close()
    with target.unharmed(bad_text=1):  # a compressed body that does not say so is no text
        assert_problem(target.send(b"\x0b\x02\x80"), 422, "bad_text")
    reliability("P2: bodies in gzip, deflate, br, zstd and others", "415", f"{len(bodies)} of {len(bodies)}")


# P4: tiny chunks


def test_a_body_in_too_many_chunks_is_refused(target, reliability):
    fill = b"".join(b"1\r\n \r\n" for _ in range(65_536 - len(GOOD)))
    body = chunked(*(GOOD[place : place + 1] for place in range(len(GOOD))), end=b"")
    head = request("Transfer-Encoding: chunked")
    before = target.running.resident_bytes
    with target.unharmed(bad_http=5):
        # One chunk of six bytes less, since the empty one that ends a body counts, too.
        answer, _ = target.send_raw(head + fill[:-6] + body + b"0\r\n\r\n", patience_seconds=0.001)
        assert answer.startswith(b"HTTP/1.1 200 ")
        for _ in range(5):
            answer, closed = target.send_raw(head + fill + b"1\r\n \r\n" * 2 + body + b"0\r\n\r\n")
            assert closed
            assert_problem(reply_of(answer), 400, "bad_http")
    rise = (target.running.resident_bytes - before) / MIB
    reliability("P4: bodies of over 65,536 chunks of one byte", "400, closed", f"5 of 5, {rise:.1f} MiB more memory")


# P5: framing that two servers might read in two ways

FRAMINGS = {
    "length and chunked": request(LENGTH, "Transfer-Encoding: chunked", body=chunked(GOOD)),
    "chunked and length": request("Transfer-Encoding: chunked", LENGTH, body=chunked(GOOD)),
    "two lengths": request(LENGTH, "Content-Length: 5", body=GOOD),
    "one length twice": request(LENGTH, LENGTH, body=GOOD),
    "a list of lengths": request(f"Content-Length: {len(GOOD)}, {len(GOOD)}", body=GOOD),
    "negative length": request("Content-Length: -1", body=GOOD),
    "signed length": request(f"Content-Length: +{len(GOOD)}", body=GOOD),
    "hexadecimal length": request("Content-Length: 0x10", body=GOOD),
    "no length": request("Content-Length: ", body=GOOD),
    "a length of words": request("Content-Length: many", body=GOOD),
    "length in two numbers": request("Content-Length: 1 0", body=GOOD),
    "length of 2^64": request(f"Content-Length: {2**64}", body=GOOD),
    "length of 40 digits": request(f"Content-Length: {'9' * 40}", body=GOOD),
    "chunked, then not": request("Transfer-Encoding: chunked, identity", body=chunked(GOOD)),
    "unknown transfer": request("Transfer-Encoding: xchunked", body=chunked(GOOD)),
    "chunked twice": request("Transfer-Encoding: chunked, chunked", body=chunked(GOOD)),
    "space before the colon": request("Transfer-Encoding : chunked", body=chunked(GOOD)),
    "folded header": request("Transfer-Encoding:\r\n chunked", body=chunked(GOOD)),
    "another folded header": request("X-A: 1\r\n\tcontinued", LENGTH, body=GOOD),
    "NUL in a header": request("X-A: a\x00b", LENGTH, body=GOOD),
    "carriage return in a header": request("X-A: a\rContent-Length: 5", LENGTH, body=GOOD),
    "a header without a name": request(": chunked", LENGTH, body=GOOD),
    "a header without a colon": request("chunked", LENGTH, body=GOOD),
    "chunk size of words": request("Transfer-Encoding: chunked", body=b"zz\r\n" + GOOD),
    "negative chunk size": request("Transfer-Encoding: chunked", body=b"-1\r\n" + GOOD),
    "chunk size over 2^64": request("Transfer-Encoding: chunked", body=b"1" + b"0" * 16 + b"\r\n" + GOOD),
    "a chunk too short": request("Transfer-Encoding: chunked", body=b"5\r\n" + GOOD + b"\r\n0\r\n\r\n"),
    "line feeds alone": b"POST /classify HTTP/1.1\nHost: a\nContent-Length: 5\n\nabcde",
    "HTTP/9.9": request(LENGTH, body=GOOD, line="POST /classify HTTP/9.9"),
    "no method": request(LENGTH, body=GOOD, line="/classify HTTP/1.1"),
    "unknown method": request(LENGTH, body=GOOD, line="FETCH /classify HTTP/1.1"),
    "space in the path": request(LENGTH, body=GOOD, line="POST /class ify HTTP/1.1"),
    "TLS": bytes.fromhex("16030100c8010000c40303") + bytes(200),
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9),
    "SSH": b"SSH-2.0-x\r\n",
    "bytes of every kind": bytes(range(256)),
}


def test_ambiguous_requests_are_refused_and_the_connection_closed(target, reliability):
    ids: list[str] = []
    seen = len(target.running.events)
    with target.unharmed(bad_http=len(FRAMINGS)):
        for name, data in FRAMINGS.items():
            answer, closed = target.send_raw(data)
            assert (answer.count(b"HTTP/1.1 "), closed) == (1, True), name
            assert len(answer) <= 1024
            reply = reply_of(answer)
            assert_problem(reply, 400, "bad_http", "red apple", "xchunked", "SSH")
            assert reply.headers["connection"] == "close"
            ids.append(reply.headers["x-request-id"])
            assert ids[-1] == reply.json["request_id"]
    assert wait_until(lambda: any(event.get("request_id") == ids[-1] for event in target.running.events), 20)
    events = target.running.events[seen:]
    lines = [event["request_id"] for event in events if event.get("problem") == "bad_http"]
    assert lines == ids, "one line for each"
    assert {event["event"] for event in events} == {"request"}, "and nothing else"
    reliability(
        "P5, P10: ambiguous framing, TLS and HTTP/2", "400 as a problem, counted, logged once, closed",
        f"{len(FRAMINGS)} of {len(FRAMINGS)}",
    )  # fmt: skip


def test_requests_before_a_malformed_one_are_answered_first(target):
    with target.unharmed(bad_http=1):
        answer, closed = target.send_raw(
            request(LENGTH, body=GOOD) * 2 + b"nonsense\r\n\r\n" + request(LENGTH, body=GOOD)
        )
        assert re.findall(rb"HTTP/1.1 (\d+) ", answer) == [b"200", b"200", b"400"]
        assert closed


def test_headers_without_end_are_refused_in_the_same_form(target):
    """P6; tests/faults/protocol/test_slow_clients.py has more of it."""
    heads = [request(f"X-Long: {'a' * 100_000}"), request(*(f"X-{number}: a" for number in range(10_000)))]
    with target.unharmed(headers_too_large=2):
        for head in heads:
            answer, closed = target.send_raw(head)
            assert_problem(reply_of(answer), 431, "headers_too_large", "aaaa")
            assert closed
    with target.unharmed(bad_host=1):
        assert_problem(reply_of(target.send_raw(b"GET /tasks HTTP/1.1\r\n\r\n", 0.001)[0]), 400, "bad_host")


def test_requests_after_a_refused_one_are_not_answered(target):
    with target.unharmed(bad_http=1):
        smuggled = request("Content-Length: 3", "Transfer-Encoding: chunked", body=chunked(GOOD)) + request(
            LENGTH, body=GOOD
        )
        answer, closed = target.send_raw(smuggled)
        assert (answer.count(b"HTTP/1.1 "), closed) == (1, True)


# P8, P9: forms


def part(headers: bytes, data: bytes = b"red") -> bytes:
    return b"--x\r\n" + headers + b"\r\n\r\n" + data + b"\r\n"


NAMED = b'Content-Disposition: form-data; name="text"'
END = b"--x--\r\n"
FORMS = {
    "1,001 parts": (as_form(*((f"a{number}", b"") for number in range(1001))), FORM),
    "a part more than there are fields": (
        as_form(*((f"a{number}", b"") for number in range(len(ClassifyRequest.model_fields) + 1))),
        FORM,
    ),
    "the same part twice": (as_form(("text", b"a"), ("text", b"a")), FORM),
    "9 headers in a part": (part(NAMED + b"\r\nX-A: b" * 8) + END, FORM),
    "100,000 headers in a part": (part(NAMED + b"\r\nX-A: b" * 100_000) + END, FORM),
    "a header of 5,000 bytes": (part(NAMED + b"\r\nX-A: " + b"b" * 5_000) + END, FORM),
    "a header name of 100,000 bytes": (part(NAMED + b"\r\n" + b"b" * 100_000 + b": c") + END, FORM),
    "a boundary of 300 bytes": (as_form(("text", b"a")), f"multipart/form-data; boundary={'x' * 300}"),
    "no boundary": (as_form(("text", b"a")), "multipart/form-data"),
    "an empty boundary": (as_form(("text", b"a")), "multipart/form-data; boundary="),
    "another boundary": (as_form(("text", b"a")), "multipart/form-data; boundary=y"),
    "cut off in the data": (as_form(("text", b"a"), end=b""), FORM),
    "cut off in a header": (b"--x\r\nContent-Dispo", FORM),
    "cut off at the boundary": (as_form(("text", b"a"), end=b"--x"), FORM),
    "no name": (part(b"Content-Disposition: form-data") + END, FORM),
    "no disposition": (part(b"Content-Type: text/plain") + END, FORM),
    "an attachment": (part(b'Content-Disposition: attachment; name="text"') + END, FORM),
    "a header without a colon": (part(NAMED + b"\r\nwhatever") + END, FORM),
    "a space in a header's name": (part(b"Content Disposition: form-data") + END, FORM),
    "line feeds alone": (as_form(("text", b"a")).replace(b"\r\n", b"\n"), FORM),
    "nothing": (b"", FORM),
    "JSON": (GOOD, FORM),
}


def test_bad_forms_are_refused(target, reliability):
    with target.unharmed(bad_multipart=len(FORMS)):
        for name, (body, content_type) in FORMS.items():
            reply = target.send(body, content_type)
            assert reply.status == 400, (name, reply)
            assert_problem(reply, 400, "bad_multipart", "xxxx", "a1000")
    with target.unharmed(text_too_large=1):
        assert_problem(target.send(as_form(("text", b"a" * 1_900_000)), FORM), 413, "text_too_large")
    whole = as_form(("task", b"fruit"), ("text", b"red"), ("image", PICTURE), ("top_k", b"1"), ("version", b"1"))
    assert target.send(whole, FORM).status == 200
    reliability("P8: malformed and oversized forms", "400", f"{len(FORMS)} of {len(FORMS)}")


def slow_forms() -> Iterator[tuple[str, bytes, str]]:
    """Forms that have kept parsers of forms busy: a name, the body and the content type."""
    mega = 1_000_000
    yield "backslashes in the content type", GOOD, 'multipart/form-data; x="' + "\\" * 60_000 + '"; boundary=x'
    yield "semicolons in the content type", GOOD, "multipart/form-data" + ";" * 60_000 + "boundary=x"
    yield "quotes in the content type", GOOD, "multipart/form-data; " + 'a="' * 20_000
    yield "a thousand parameters", GOOD, "multipart/form-data" + "".join(f"; a{n}=b" for n in range(5_000))
    yield "encoded words", GOOD, "multipart/form-data; boundary*0*=" + "%41" * 20_000
    yield "line ends before the first boundary", b"\r\n" * (mega // 2) + as_form(("text", b"red")), FORM
    yield "a preamble", b"a" * mega + b"\r\n" + as_form(("text", b"red")), FORM
    yield "line ends behind the last boundary", as_form(("text", b"red")) + b"\r\n" * (mega // 2), FORM
    yield "an epilogue", as_form(("text", b"red")) + b"a" * mega, FORM
    yield "boundaries that are none", as_form(("image", b"\r\n--" * (mega // 4))), FORM
    yield "half boundaries", as_form(("image", b"\r\n--x" * (mega // 5))), FORM
    yield "line ends in the data", as_form(("image", b"\r\n" * (mega // 2))), FORM
    yield "carriage returns in the data", as_form(("image", b"\r" * mega)), FORM
    long = "x" * 69
    almost = f"\r\n--{long[:-1]}".encode() * (mega // 73)
    body = (
        as_form(("image", almost))
        .replace(b"--x\r\n", f"--{long}\r\n".encode(), 1)
        .replace(END, f"--{long}--\r\n".encode())
    )
    yield "almost the boundary", body, f"multipart/form-data; boundary={long}"
    yield "backslashes in a disposition", part(NAMED + b'; filename="' + b"\\" * 4_000 + b'"') + END, FORM
    yield "parameters in a disposition", part(NAMED + b"; a=b" * 800) + END, FORM
    yield "headers", part(b"\r\n".join(b"X-%d: a" % number for number in range(60_000)) + b"\r\n" + NAMED) + END, FORM
    yield "one endless header", part(NAMED + b"\r\nX: " + b"a" * mega) + END, FORM
    yield "empty parts", b"--x\r\n" * (mega // 5) + END, FORM


def test_no_form_keeps_the_parser_busy(target, counts, reliability):
    slowest, slowest_name = 0.0, ""
    for name, body, content_type in slow_forms():
        started = time.perf_counter()
        reply = target.send(body, content_type)
        seconds = time.perf_counter() - started
        assert reply.status in (200, 400, 413, 415, 422, 431), (name, reply)
        if seconds > slowest:
            slowest, slowest_name = seconds, name
    with target.unharmed():
        pass
    most = counts(5_000, 100)
    reliability(
        "P9: 19 forms that keep parsers busy", f"each under {most} ms",
        f"slowest {1000 * slowest:.0f} ms ({slowest_name})", 1000 * slowest < most,
    )  # fmt: skip


def test_a_form_of_negative_length_is_refused(target):
    with target.unharmed(bad_http=1):
        head = request("Content-Length: -5").replace(JSON.encode(), FORM.encode())
        answer, closed = target.send_raw(head + as_form(("text", b"a")))
        assert_problem(reply_of(answer), 400, "bad_http")
        assert closed


# P10: methods and types


def test_other_methods_and_types_are_refused(target, reliability):
    methods = ("GET", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "PROPFIND")
    paths = ("/classify", "/classify/batch", "/v1/embeddings", "/v2/models/fruit/infer")
    tried = [(method, path) for method in methods for path in paths if method != "CONNECT"]
    with target.unharmed(method_not_allowed=len(tried)):
        for method, path in tried:
            reply = target.send(GOOD, JSON, path, method)
            assert (reply.status, reply.code, reply.headers["allow"]) == (405, "method_not_allowed", "POST")
    types = (None, "", "text/plain", "application/xml", "application/jsonx", "application/json, text/html", "x" * 9_000)
    types += ("application/x-www-form-urlencoded", "multipart/mixed; boundary=x", "\u00e9")
    with target.unharmed(content_type=len(types)):
        for content_type in types:
            assert_problem(target.send(GOOD, content_type), 415, "content_type", "xxxx", "jsonx")
            target.close()
    with target.unharmed():
        for accepted in ("text/html", "image/png", "*/*;q=0", "", "\x80", "a" * 9_000):  # we have one form to give
            assert target.send(GOOD, Accept=accepted).headers["content-type"] == JSON
    reliability(
        "P10: methods, content types and Accept", "405, 415, answered as JSON", f"{len(tried) + len(types) + 6}"
    )


# P11: what goes into headers and the log

PAYLOADS = [
    b'a"b',
    b"a\x1b[31mred\x1b[0m",
    b"a%0d%0aX-Evil: 1",
    b"\xe2\x80\xae",
    b"a' OR 1=1",
    b"${jndi:ldap://a}",
    b"a" * 9_000,
]
PAYLOADS += [
    b"a\tb",
    b"",
    b" ",
    b"\xff\xfe",
    b'{"event": "listening"}',
    b"a,b",
    b"../../log",
    b"<script>alert(1)</script>",
]
BREAKS = [b"a\r\nX-Evil: 1", b"a\nX-Evil: 1", b"a\r\n\r\n{}", b"\x1b[2J\r\n"]


def test_input_of_a_client_reaches_no_header_and_breaks_no_log_line(target, reliability):
    heads = []
    for payload in PAYLOADS:
        head = request(LENGTH).replace(b"Host: a\r\n", b"Host: a\r\nX-Request-ID: " + payload + b"\r\n")
        answer, _ = target.send_raw(head + GOOD, patience_seconds=0.001)
        heads.append(answer.partition(b"\r\n\r\n")[0].lower())
    names = [*PAYLOADS, *BREAKS]
    for payload in names:
        text = payload.decode("latin-1")
        form = as_form(("task", b"fruit"), ("image", PICTURE))
        form = form.replace(b'name="image"', b'name="image"; filename="%s"' % payload)
        bodies = [
            (as_json(task=text), JSON),
            (as_json(text=text), JSON),
            (as_json(**{text or " ": 1}), JSON),
            (form, FORM),
        ]
        bodies.append((json.dumps({"id": text, "inputs": [_text_tensor(text)]}).encode(), JSON))
        for number, (body, content_type) in enumerate(bodies):
            path = "/v2/models/fruit/infer" if number == 4 else "/classify"
            reply = target.send(body, content_type, path)
            heads.append(str(reply.headers).lower().encode())
            assert reply.status < 500
    for head in heads:
        assert b"x-evil" not in head
        assert b"\x1b" not in head
        found = re.search(rb"x-request-id['\"]?: ['\"]?([^\r'\"]*)", head)
        if found:  # a request that is no HTTP has none
            assert re.fullmatch(rb"[0-9a-f]{32}", found[1]), found[1]
    marker = as_json(task="the-last-one")
    last = target.send(marker).json["request_id"]
    events = target.running.events  # each line of the log was parsed as JSON when it came
    assert wait_until(lambda: any(event.get("request_id") == last for event in events), 20)
    logged = json.dumps([event for event in events if event["event"] == "request"])
    evil = [text for text in ("x-evil", "\\u001b", "jndi", "script", "OR 1=1") if text in logged.lower()]
    reliability(
        "P11: control characters and line ends in ids, file names, tasks and texts",
        "every log line is JSON, nothing comes out in a header",
        f"{len(heads)} requests, {evil}",
        not evil,
    )


def test_control_a_log_in_another_format_is_found(shelf, server):
    """The planted fault: a log in another form."""
    shelf.publish("fruit")
    with pytest.raises(json.JSONDecodeError):
        server(shelf.store, log_format="console")


def test_a_safe_request_id_is_returned(target):
    assert target.send(GOOD, X_Request_ID="mine-1").headers["x-request-id"] == "mine-1"


def _text_tensor(text: str) -> dict[str, object]:
    return {"name": "text", "shape": [1], "datatype": "BYTES", "data": [text or "a"]}


def test_a_picture_in_base64_and_in_a_form_is_one_picture(target):
    as_string = target.send(as_json(text=None, image=as_base64(PICTURE))).json
    as_file = target.send(as_form(("task", b"fruit"), ("image", PICTURE)), FORM).json
    assert as_string["labels"] == as_file["labels"]
