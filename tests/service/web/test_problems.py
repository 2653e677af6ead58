"""The errors of requests: status, code, form of the body, and metrics.

Covers service.web.problems, service.api.problems, service.api.requests, service.errors.
"""

from __future__ import annotations

import base64
import json
from io import BytesIO

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from model_store.items.cells import is_missing
from service.errors import Code

JSON = {"Content-Type": "application/json"}
ITEM = {"task": "fruit", "text": "a red apple"}


def encoded(size=(16, 16), mode="RGB", file_format="PNG", **options) -> bytes:
    file = BytesIO()
    Image.new(mode, size).save(file, file_format, **options)
    return file.getvalue()


def item(**changes: object) -> bytes:
    return json.dumps({**ITEM, **changes}).encode()


def picture(data: bytes) -> bytes:
    return item(image=base64.b64encode(data).decode())


def form(*parts: tuple[str, bytes], end: bytes = b"--x--\r\n") -> bytes:
    lines = [b'--x\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n' % (n.encode(), v) for n, v in parts]
    return b"".join(lines) + end


BODIES = [
    ("not json", 400, "bad_json"),
    (b"", 400, "bad_json"),
    (b"[" * 150_000, 400, "bad_json"),
    (b"[" * 100 + b"]" * 100, 400, "bad_json"),
    (item(text=json.loads('{"a":' * 40 + "1" + "}" * 40)), 400, "bad_json"),
    (b"[1]", 422, "bad_value"),
    (b'{"text": "a", "top_k": NaN}', 422, "bad_value"),
    (b'{"text": "a", "top_k": -Infinity}', 422, "bad_value"),
    (b'{"text": "a", "top_k": 1e999}', 422, "bad_value"),
    (b'{"text": "a", "top_k": ' + b"9" * 5000 + b"}", 422, "bad_value"),
    (item(top_k=0), 422, "bad_value"),
    (item(top_k=2.5), 422, "bad_value"),
    (item(top_k="3"), 422, "bad_value"),
    (item(top_k=True), 422, "bad_value"),
    (item(version=0), 422, "bad_value"),
    (item(version=2**40), 422, "bad_value"),
    (item(text=["a"]), 422, "bad_value"),
    (item(image=7), 422, "bad_value"),
    (item(task=None), 422, "bad_value"),
    (item(explanation=True), 422, "extra_field"),
    (item(explain=1), 422, "bad_value"),
    (item(time=5), 422, "extra_field"),
    (item(**{"": 1}), 422, "extra_field"),
    (b'{"text": "\\ud800"}', 422, "bad_text"),
    (b'{"text": "\xff"}', 422, "bad_text"),
    (json.dumps(ITEM).encode("utf-16"), 422, "bad_text"),
    (b"\xef\xbb\xbf" + item(), 422, "bad_text"),
    (item(text=None), 422, "missing_input"),
    (item(text="", image=""), 422, "missing_input"),
    (item(text=" \t\u00a0\u3000"), 422, "missing_input"),
    (b"{}", 422, "missing_input"),
    (item(text="é" * 501), 413, "text_too_large"),
    (item(image="http://127.0.0.1/a.png"), 422, "bad_base64"),
    (item(image="file:///etc/passwd"), 422, "bad_base64"),
    (item(image="é"), 422, "bad_base64"),
    (item(image="QUJD\n"), 422, "bad_base64"),
    (item(image="QUJ"), 422, "bad_base64"),
    (item(image="data:text/plain;base64,QUJD"), 422, "bad_base64"),
    (picture(b"BM" + bytes(64)), 415, "image_format"),
    (picture(encoded(file_format="TIFF")), 415, "image_format"),
    (picture(encoded(file_format="EPS")), 415, "image_format"),
    (picture(b"a"), 415, "image_format"),
    (picture(encoded()[:40]), 422, "image_undecodable"),
    (picture(encoded((200, 200), file_format="JPEG")[:-300]), 422, "image_undecodable"),
    (picture(encoded((200, 200), file_format="WEBP")[:-10]), 422, "image_undecodable"),
    (picture(b"\x89PNG\r\n\x1a\n" + bytes(64)), 422, "image_undecodable"),
    (picture(encoded((501, 500), "1")), 413, "image_too_many_pixels"),
    (picture(encoded((12_000, 12_000), "1")), 413, "image_too_many_pixels"),
    (picture(encoded((20_000, 20_000), "1")), 413, "image_too_many_pixels"),
    (picture(encoded((1, 1000), "1")), 413, "image_too_many_pixels"),
    (item(task="nothing"), 404, "unknown_task"),
    (item(task="../fruit"), 404, "unknown_task"),
    (item(task="fruit/1"), 404, "unknown_task"),
    (item(task=" fruit"), 404, "unknown_task"),
    (item(task="x" * 256), 404, "unknown_task"),
    (item(version=99), 404, "unknown_version"),
    (item(text="a" * 200_000), 413, "body_too_large"),
]


def check_problem(response, status: int, code: str) -> None:
    problem = response.json()
    assert (response.status_code, problem.get("code")) == (status, code), problem
    assert response.headers["Content-Type"] == "application/problem+json"
    assert list(problem) == ["type", "title", "status", "detail", "code", "request_id"]
    assert problem["type"] == f"urn:mora:problem:{code}"
    assert problem["status"] == status
    assert len(response.content) <= 1024
    assert response.headers["X-Request-ID"] == problem["request_id"]


@pytest.mark.parametrize(("body", "status", "code"), BODIES)
@pytest.mark.slow
def test_an_invalid_json_request_gets_its_code_and_is_counted(client, sample, body, status, code):
    series = f'mora_rejected_total{{reason="{Code(code).reason}"}}'
    before = sample(client, series)

    check_problem(client.post("/classify", content=body, headers=JSON), status, code)

    assert sample(client, series) == before + 1
    assert client.post("/classify", json=ITEM).status_code == 200


FORMS = [
    (form(("text", b"red"), end=b""), 400, "bad_multipart"),
    (form(("text", b"red"), ("text", b"red")), 400, "bad_multipart"),
    (form(("", b"red")), 400, "bad_multipart"),
    (b"--y--\r\n", 400, "bad_multipart"),
    (b"", 400, "bad_multipart"),
    (form(*((f"a{number}", b"") for number in range(1001))), 400, "bad_multipart"),
    (b"--x\r\n" + b"a: b\r\n" * 100 + b"\r\n\r\n--x--\r\n", 400, "bad_multipart"),
    (b"--x\r\nContent-Disposition: form-data; name=a" + b"a" * 9000 + b"\r\n\r\n--x--\r\n", 400, "bad_multipart"),
    (b"--x\r\nContent-Type: text/plain\r\n\r\nred\r\n--x--\r\n", 400, "bad_multipart"),
    (form(("task", b"fruit"), ("text", b"\xff")), 422, "bad_text"),
    (form(("text", b"red"), ("top_k", b"many")), 422, "bad_value"),
    (form(("text", b"red"), ("top_k", b"9" * 5000)), 422, "bad_value"),
    (form(("text", b"red"), ("explanation", b"true")), 422, "extra_field"),
    (form(("task", b"fruit"), ("text", b"")), 422, "missing_input"),
    (form(("task", b"fruit"), ("text", b" \r\n")), 422, "missing_input"),
    (form(("task", b"fruit"), ("image", b"not a picture")), 415, "image_format"),
    (form(("task", b"fruit"), ("text", b"a" * 1001)), 413, "text_too_large"),
    (form(("task", b"fruit"), ("image", bytes(200_000))), 413, "body_too_large"),
]


@pytest.mark.parametrize(("body", "status", "code"), FORMS)
def test_an_invalid_form_gets_its_code(client, body, status, code):
    check_problem(
        client.post("/classify", content=body, headers={"Content-Type": "multipart/form-data; boundary=x"}),
        status,
        code,
    )


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({"Content-Type": "multipart/form-data"}, 400, "bad_multipart"),
        ({"Content-Type": f"multipart/form-data; boundary={'x' * 300}"}, 400, "bad_multipart"),
        ({}, 415, "content_type"),
        ({"Content-Type": "text/plain"}, 415, "content_type"),
        ({"Content-Type": "application/x-www-form-urlencoded"}, 415, "content_type"),
        ({**JSON, "Content-Encoding": "gzip"}, 415, "content_encoding"),
        ({**JSON, "Content-Encoding": "br"}, 415, "content_encoding"),
        ({**JSON, "Content-Length": "200001"}, 413, "body_too_large"),
        ({**JSON, "Content-Length": "9" * 5000}, 413, "body_too_large"),
    ],
)
def test_headers_of_an_unsupported_body_are_refused(client, headers, status, code):
    check_problem(client.post("/classify", content=item(), headers=headers), status, code)


def test_a_content_type_may_have_a_charset_and_capital_letters(client):
    headers = {"Content-Type": "Application/JSON; charset=utf-8"}
    assert client.post("/classify", content=item(), headers=headers).status_code == 200


def test_a_chunked_body_over_the_limit_is_refused(client):
    sent = 0

    def chunks():
        nonlocal sent
        for _ in range(1000):
            sent += 1
            yield b" " * 10_000

    check_problem(client.post("/classify", content=chunks(), headers=JSON), 413, "body_too_large")


def test_a_body_of_exactly_the_limit_is_accepted(client):
    body = item()
    assert client.post("/classify", content=body.ljust(200_000), headers=JSON).status_code == 200
    check_problem(client.post("/classify", content=body.ljust(200_001), headers=JSON), 413, "body_too_large")


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nothing", 404, "not_found"),
        ("GET", "/playground/nothing.js", 404, "not_found"),
        ("GET", "/playground/index.html", 404, "not_found"),
        ("GET", "/playground/..%2fpage.py", 404, "not_found"),
        ("POST", "/", 405, "method_not_allowed"),
        ("GET", "/tasks/fruit/report", 404, "no_report"),
        ("GET", "/tasks/nothing/report", 404, "unknown_task"),
        ("GET", "/tasks/nothing/examples", 404, "unknown_task"),
        ("GET", "/tasks/nothing/versions", 404, "unknown_task"),
        ("GET", "/tasks/fruit/examples/2/image", 404, "unknown_example"),
        ("GET", "/tasks/fruit/examples/3/image", 404, "unknown_example"),
        ("GET", "/tasks/fruit/examples/-1/image", 404, "unknown_example"),
        ("GET", "/tasks/fruit/examples/x/image", 422, "bad_value"),
        ("GET", "/docs/assets/nothing.js", 404, "not_found"),
        ("GET", "/docs/assets/..%2f..%2fcore.py", 404, "not_found"),
        ("POST", "/classify/", 404, "not_found"),
        ("GET", "/classify", 405, "method_not_allowed"),
        ("POST", "/tasks", 405, "method_not_allowed"),
        ("DELETE", "/tasks/fruit", 405, "method_not_allowed"),
        ("GET", "/tasks/nothing", 404, "unknown_task"),
        ("GET", "/tasks/..%2ffruit", 404, "not_found"),
        ("GET", "/tasks/%00", 404, "unknown_task"),
    ],
)
def test_wrong_paths_and_methods(client, method, path, status, code):
    response = client.request(method, path)
    check_problem(response, status, code)
    assert ("Allow" in response.headers) == (status == 405)


def test_every_prefix_of_a_json_body_is_bad_json(client):
    body = item()
    for length in range(len(body)):
        check_problem(client.post("/classify", content=body[:length], headers=JSON), 400, "bad_json")


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=st.one_of(st.binary(max_size=200), st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(["task", "text", "image", "top_k", "version", "x"]), inner, max_size=4),
    max_leaves=6,
).map(lambda value: json.dumps(value).encode())))  # fmt: skip
def test_every_body_gets_an_answer_or_a_client_error(client, body):
    response = client.post("/classify", content=body, headers=JSON)
    assert response.status_code in (200, 400, 404, 413, 415, 422)


@settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(min_size=1, max_size=50))
def test_every_unicode_text_with_a_letter_is_answered(client, text):
    response = client.post("/classify", json={"task": "fruit", "text": text})
    assert response.status_code == (422 if is_missing(text) else 200)


@settings(deadline=None, max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(position=st.integers(0, 400), byte=st.integers(0, 255), file_format=st.sampled_from(["PNG", "JPEG", "WEBP"]))
def test_a_damaged_picture_is_answered_or_refused(client, position, byte, file_format):
    data = bytearray(encoded(file_format=file_format))
    data[position % len(data)] = byte
    response = client.post("/classify", content=picture(bytes(data)), headers=JSON)
    assert response.status_code in (200, 413, 415, 422)


def test_a_problem_names_the_position_of_the_mistake(client):
    def detail(path: str, body: bytes) -> str:
        return client.post(path, content=body, headers=JSON).json()["detail"]

    assert detail("/classify", item(top_k="many")) == "top_k: must be a whole number."
    assert detail("/classify", b'{"text":\n "red"').startswith("The body is not JSON at line 2, column 7; ")
    tensor = {"name": "title", "shape": [1], "datatype": "BYTES", "data": ["red"]}
    body = json.dumps({"inputs": [tensor]}).encode()
    assert detail("/v2/models/fruit/infer", body) == "inputs.0: must be 'image' or 'text'."


def test_problems_never_repeat_input(client):
    canary = "canary-7f3a"
    bodies = [
        item(**{canary: 1}),
        item(task=canary),
        item(image=canary),
        item(top_k=canary),
        item(text=[canary]),
        f'{{"{canary}'.encode(),
    ]
    for body in bodies:
        response = client.post("/classify", content=body, headers=JSON)
        assert response.status_code >= 400
        assert canary not in response.text + str(response.headers)
    assert canary not in client.get(f"/{canary}").text
    assert canary not in client.get("/metrics").text


def test_an_unexpected_exception_is_a_problem_without_its_message(own_client, sample, monkeypatch):
    def fail(*_: object) -> None:
        raise RuntimeError("secret-of-the-house")

    monkeypatch.setattr("service.models.loaded_model.scores", fail)
    before = sample(own_client, 'mora_rejected_total{reason="internal"}')

    response = own_client.post("/classify", json=ITEM)

    check_problem(response, 500, "internal")
    assert "secret" not in response.text
    assert sample(own_client, 'mora_rejected_total{reason="internal"}') == before + 1
    assert sample(own_client, "mora_inflight_requests") == 0


def test_a_model_that_answers_nan_is_a_problem(own_client, monkeypatch):
    monkeypatch.setattr("service.models.head.Head.logits", lambda *_: __import__("numpy").array([float("nan"), 1, 2]))
    check_problem(own_client.post("/classify", json=ITEM), 500, "model_nonfinite")


def test_no_two_codes_have_the_same_reason():
    assert len({code.reason for code in Code}) == len(Code)
