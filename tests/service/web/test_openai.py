"""OpenAI's moderations and embeddings, with plain requests and with the unmodified client of the package `openai`."""

from __future__ import annotations

import base64
import socket

import numpy as np
import openai
import pytest

from service.web.keys import key_line
from tests.support.closed_service import CANARY
from tests.support.tiny import ITEMS, LABELS, PICTURE, body

PATHS = ["/v1/moderations", "/v1/embeddings"]


def image(data: bytes) -> dict:
    uri = f"data:image/png;base64,{base64.b64encode(data).decode()}"
    return {"type": "image_url", "image_url": {"url": uri}}


JSON = {"Content-Type": "application/json"}


def parts_of(pattern: str) -> list[dict]:
    has_image, text = ITEMS[pattern]
    return [*([{"type": "text", "text": text}] if text else []), *([image(PICTURE)] if has_image else [])]


def ask(client, path: str, **fields: object) -> dict:
    response = client.post(path, json=fields)
    assert response.status_code == 200, response.text
    return response.json()


def check_error(response, status: int, code: str, param: str | None = None) -> None:
    assert response.headers["Content-Type"] == "application/json"
    assert list(response.json()) == ["error"]
    error = response.json()["error"]
    assert list(error) == ["message", "type", "param", "code"]
    assert (response.status_code, error["code"], error["param"]) == (status, code, param), error
    kind = "rate_limit_error" if status == 429 else "server_error" if status >= 500 else "invalid_request_error"
    assert error["type"] == kind
    assert response.headers["X-Request-ID"]


@pytest.mark.parametrize("pattern", ITEMS)
@pytest.mark.parametrize("task", LABELS)
def test_a_moderation_has_the_scores_and_the_selection_of_classify(client, picture, task, pattern):
    answer = ask(client, "/v1/moderations", model=task, input=parts_of(pattern))
    labels = ask(client, "/classify", **body(picture, pattern, task))["labels"]

    assert (answer["model"], answer["version"], len(answer["results"])) == (task, 1, 1)
    assert answer["id"].startswith("modr-")
    (result,) = answer["results"]
    assert result["category_scores"] == {label["label"]: label["score"] for label in labels}
    assert result["categories"] == {label["label"]: label["selected"] for label in labels}
    assert result["flagged"] == any(label["selected"] for label in labels)
    types = [part["type"].removesuffix("_url") for part in parts_of(pattern)]
    assert result["category_applied_input_types"] == dict.fromkeys(LABELS[task], types)


@pytest.mark.parametrize(
    ("task", "text", "flagged", "true"), [("tags", "green square", False, 0), ("tags", "a red apple", True, 2),
                                          ("fruit", "green square", True, 1), ("fruit", "a red apple", True, 1)]
)  # fmt: skip
def test_an_item_is_flagged_if_any_category_is_true(client, task, text, flagged, true):
    (result,) = ask(client, "/v1/moderations", model=task, input=text)["results"]

    assert (result["flagged"], sum(result["categories"].values())) == (flagged, true)


@pytest.mark.parametrize("pattern", ITEMS)
@pytest.mark.parametrize("task", LABELS)
def test_an_embedding_is_the_features_of_embed(client, picture, task, pattern):
    answer = ask(client, "/v1/embeddings", model=task, input=parts_of(pattern))
    features = ask(client, "/embed", **body(picture, pattern, task))

    assert (answer["object"], answer["model"], answer["version"]) == ("list", task, 1)
    (entry,) = answer["data"]
    assert (entry["object"], entry["index"]) == ("embedding", 0)
    assert entry["embedding"] == [*(features["image_features"] or []), *(features["text_features"] or [])]
    assert entry["modalities"] == features["modalities"]


@pytest.mark.parametrize("value", ["a red apple", ["a red apple", "green"], parts_of("both"), parts_of("image")])
def test_base64_holds_the_same_numbers(client, value):
    fields = {"model": "fruit", "input": value}
    numbers = ask(client, "/v1/embeddings", **fields, encoding_format="float")
    written = ask(client, "/v1/embeddings", **fields, encoding_format="base64")

    assert ask(client, "/v1/embeddings", **fields, encoding_format=None)["data"][0].keys() == numbers["data"][0].keys()
    for number, text in zip(numbers["data"], written["data"], strict=True):
        decoded = np.frombuffer(base64.b64decode(text["embedding"]), "<f4")
        assert decoded.tolist() == pytest.approx(number["embedding"], abs=1e-6)


@pytest.mark.parametrize("texts", [["red"], ["a red apple", "green", "square of a picture"], ["apple"] * 20])
def test_a_list_of_texts_is_answered_in_order(client, texts):
    results = ask(client, "/v1/moderations", model="tags", input=texts)["results"]
    entries = ask(client, "/v1/embeddings", model="tags", input=texts)["data"]

    assert [entry["index"] for entry in entries] == [*range(len(texts))]
    for text, result, entry in zip(texts, results, entries, strict=True):
        (alone,) = ask(client, "/v1/moderations", model="tags", input=text)["results"]
        assert result["category_scores"] == pytest.approx(alone["category_scores"], abs=1e-6)
        features = ask(client, "/embed", task="tags", text=text)["text_features"]
        assert entry["embedding"] == pytest.approx(features, abs=1e-6)


@pytest.mark.parametrize(
    ("value", "tokens", "modality"),
    [("a red apple", 5, "used"), (["a", "a red apple"], 8, "used"), (parts_of("image"), 0, "absent"),
     (parts_of("both"), 5, "used"), ("red " * 50, 10, "truncated")],
)  # fmt: skip
def test_usage_counts_the_tokens_of_texts_and_a_cut_text_is_named(client, value, tokens, modality):
    answer = ask(client, "/v1/embeddings", model="fruit", input=value)
    (result, *_) = ask(client, "/v1/moderations", model="fruit", input=value)["results"]

    assert answer["usage"] == {"prompt_tokens": tokens, "total_tokens": tokens}
    assert result["modalities"] == answer["data"][0]["modalities"]
    assert result["modalities"]["text"] == modality


@pytest.mark.parametrize(("pattern", "length"), [("text", 8), ("image", 8), ("both", 16)])
def test_dimensions_must_be_the_length_of_the_embedding(client, pattern, length):
    fields = {"model": "fruit", "input": parts_of(pattern)}

    assert len(ask(client, "/v1/embeddings", **fields, dimensions=length)["data"][0]["embedding"]) == length
    for other in (0, 1, length - 1, 24):
        refused = client.post("/v1/embeddings", json={**fields, "dimensions": other})
        check_error(refused, 400, "bad_value", "dimensions")
        assert f"have {length} numbers" in refused.json()["error"]["message"]


@pytest.mark.parametrize("path", PATHS)
def test_no_url_is_fetched(client, path):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        host = "{}:{}".format(*listener.getsockname())
        for scheme in ("http://", "https://", "ftp://", "//", "file://", "HTTP://user@"):
            part = {"type": "image_url", "image_url": {"url": f"{scheme}{host}/a.png"}}
            check_error(client.post(path, json={"model": "fruit", "input": [part]}), 400, "bad_base64", "input")
        with pytest.raises(BlockingIOError):
            listener.accept()


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    ("fields", "status", "code", "param"),
    [
        ({"model": "none"}, 404, "unknown_task", "model"),
        ({"model": ""}, 404, "unknown_task", "model"),
        ({"model": None}, 400, "bad_value", "model"),  # two tasks are loaded
        ({"version": 9}, 404, "unknown_version", "version"),
        ({"stream": False}, 400, "extra_field", None),
        ({"input": "\u3000"}, 400, "missing_input", "input"),
        ({"input": [7, 8]}, 400, "bad_value", "input"),
        ({"input": ["red"] * 257}, 400, "bad_value", "input"),
        ({"input": "é" * 501}, 413, "text_too_large", "input"),
        ({"input": "red" * 100_000}, 413, "body_too_large", None),
        ({"input": [image(PICTURE[:40])]}, 400, "image_undecodable", "input"),
        ({"input": [image(b"BM" + bytes(64))]}, 415, "image_format", "input"),
    ],
)  # fmt: skip
def test_an_error_has_openais_form(client, sample, path, fields, status, code, param):
    series = f'mora_rejected_total{{reason="{"decode" if code == "image_undecodable" else code}"}}'
    before = sample(client, series)

    check_error(client.post(path, json={"model": "fruit", "input": "red", **fields}), status, code, param)

    assert sample(client, series) == before + 1


@pytest.mark.parametrize(
    ("method", "path", "options", "status", "code"),
    [
        ("GET", "/v1/moderations", {}, 405, "method_not_allowed"),
        ("DELETE", "/v1/embeddings", {}, 405, "method_not_allowed"),
        ("GET", "/v1/models", {}, 404, "not_found"),
        ("POST", "/v1/chat/completions", {"json": {}}, 404, "not_found"),
        ("GET", "/v1", {}, 404, "not_found"),
        ("POST", "/v1/embeddings/", {"json": {}}, 404, "not_found"),
        ("POST", "/v1/embeddings?api-version=1", {"json": {"input": "red"}}, 400, "extra_field"),
        ("POST", "/v1/moderations", {"content": b"{"}, 415, "content_type"),
        ("POST", "/v1/moderations", {"data": {"input": "red"}}, 415, "content_type"),
        ("POST", "/v1/moderations", {"content": b"{", "headers": JSON}, 400, "bad_json"),
        ("POST", "/v1/embeddings", {"json": ["red"]}, 400, "bad_value"),
        ("POST", "/v1/embeddings", {"json": {}, "headers": {"Host": "a b"}}, 400, "bad_host"),
        ("POST", "/v1/embeddings", {"json": {}, "headers": {"Content-Encoding": "gzip"}}, 415, "content_encoding"),
    ],
)  # fmt: skip
def test_an_error_before_the_route_has_openais_form_too(client, method, path, options, status, code):
    response = client.request(method, path, **options)

    check_error(response, status, code)
    assert ("Allow" in response.headers) == (status == 405)


@pytest.mark.parametrize("path", ["/v10/embeddings", "/v1x", "/v", "//v1/embeddings"])
def test_other_paths_keep_their_form(client, path):
    assert client.post(path, json={}).json()["status"] == 404


@pytest.mark.parametrize("path", PATHS)
def test_an_unexpected_exception_is_an_error_without_its_message(own_client, monkeypatch, path):
    def fail(*_: object) -> None:
        raise RuntimeError("secret-of-the-house")

    monkeypatch.setattr("service.models.loaded_model.scores", fail)
    response = own_client.post(path, json={"model": "fruit", "input": "red"})

    check_error(response, 500, "internal")
    assert response.headers["X-Should-Retry"] == "false"
    assert "secret" not in response.text


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    ("queue_size", "timeout_ms", "status", "code", "headers"),
    [
        (4, 300, 504, "deadline", {"X-Should-Retry": "false"}),
        (0, 60_000, 503, "queue_full", {"Retry-After": "1"}),
    ],
)
def test_overload_and_deadlines_have_openais_form(
    shelf, serve, occupied, path, queue_size, timeout_ms, status, code, headers
):
    shelf.publish("fruit")
    client = serve(shelf.store, timeout_ms=timeout_ms, encoder_workers=1, queue_size=queue_size)
    values = ("red", ["red", "green"], [{"type": "text", "text": "red"}])
    with occupied(client, "text"):
        responses = [client.post(path, json={"input": value}) for value in values]
    for response in responses:
        check_error(response, status, code)
        found = {name: response.headers.get(name) for name in ("X-Should-Retry", "Retry-After")}
        assert {name: value for name, value in found.items() if value} == headers


@pytest.mark.parametrize("path", PATHS)
def test_items_count_as_a_batch(client, sample, path):
    requests = 'mora_requests_total{modalities="text",status="200",task="tags"}'
    predictions = 'mora_prediction_confidence_count{modalities="text",task="tags"}'
    for value, number in (("red", 1), (["red", "green", "a"], 3), ([{"type": "text", "text": "red"}], 1)):
        before = sample(client, requests), sample(client, predictions)
        ask(client, path, model="tags", input=value)
        counted = number if path == "/v1/moderations" else 0
        assert (sample(client, requests), sample(client, predictions)) == (before[0] + number, before[1] + counted)


def test_the_only_task_needs_no_name_and_a_version_can_be_pinned(shelf, serve):
    shelf.publish("fruit")
    shelf.publish("fruit")
    client = serve(shelf.store)

    for path in PATHS:
        assert [ask(client, path, input="red", version=pin)["version"] for pin in (None, 1, 2)] == [2, 1, 2]
        assert ask(client, path, input="red", model="fruit")["model"] == "fruit"


# The unmodified client. It takes the tests' client for its connections, so it talks to the application itself.


def openai_of(client, key: str = "none") -> openai.OpenAI:
    return openai.OpenAI(base_url="http://testserver/v1", api_key=key, http_client=client, max_retries=0)


@pytest.mark.parametrize("value", ["a red apple", *map(parts_of, ITEMS)])
@pytest.mark.parametrize("task", LABELS)
def test_the_client_moderates(client, value, task):
    moderation = openai_of(client).moderations.create(model=task, input=value)

    (result,) = moderation.results
    expected = ask(client, "/v1/moderations", model=task, input=value)["results"][0]
    assert result.category_scores.to_dict() == expected["category_scores"]
    assert result.categories.to_dict() == expected["categories"]
    assert result.flagged == expected["flagged"]
    assert moderation.to_dict()["results"] == [expected]


@pytest.mark.parametrize("value", ["a red apple", ["red", "green"], *map(parts_of, ITEMS)])
@pytest.mark.parametrize("encoding", [{}, {"encoding_format": "float"}])
def test_the_client_embeds(client, value, encoding):
    answer = openai_of(client).embeddings.create(model="fruit", input=value, user="u-7", **encoding)

    expected = ask(client, "/v1/embeddings", model="fruit", input=value)
    assert [entry.embedding for entry in answer.data] == [pytest.approx(it["embedding"]) for it in expected["data"]]
    assert answer.usage.to_dict() == expected["usage"]


@pytest.mark.parametrize(
    ("fields", "error", "code"),
    [
        ({"model": "none", "input": "red"}, openai.NotFoundError, "unknown_task"),
        ({"model": "fruit", "input": " "}, openai.BadRequestError, "missing_input"),
        ({"model": "fruit", "input": [1, 2]}, openai.BadRequestError, "bad_value"),
        ({"model": "fruit", "input": "red", "extra_body": {"top_k": 1}}, openai.BadRequestError, "extra_field"),
        ({"model": "fruit", "input": "red", "extra_query": {"a": 1}}, openai.BadRequestError, "extra_field"),
        ({"model": "fruit", "input": "red" * 1_000}, openai.APIStatusError, "text_too_large"),
    ],
)
def test_the_client_raises_its_own_errors(client, fields, error, code):
    for resource in (openai_of(client).moderations, openai_of(client).embeddings):
        with pytest.raises(error) as raised:
            resource.create(**fields)
        assert raised.value.code == code
        assert raised.value.request_id
        assert raised.value.message.startswith(f"Error code: {raised.value.status_code} - ")


def test_the_client_learns_of_keys_and_limits(shelf, serve, tmp_path, occupied):
    shelf.publish("fruit")
    shelf.publish("tags")
    (tmp_path / "keys").write_text(key_line("shop", CANARY, ["fruit"]))
    limits = {"rate_limit": 0.01, "rate_burst": 8, "encoder_workers": 1, "queue_size": 1}
    client = serve(shelf.store, api_keys_file=tmp_path / "keys", **limits)
    mine = openai_of(client, CANARY)

    with pytest.raises(openai.AuthenticationError, match="Authorization"):
        openai_of(client).moderations.create(model="fruit", input="red")
    for other in ("tags", "nothing"):
        with pytest.raises(openai.PermissionDeniedError) as forbidden:
            mine.embeddings.create(model=other, input="red")
        assert (forbidden.value.code, forbidden.value.param) == ("forbidden", "model")
    with occupied(client, "text"), pytest.raises(openai.InternalServerError) as crowded:
        mine.moderations.create(model="fruit", input=["red"] * 3, extra_body={"timeout_ms": 300})
    assert crowded.value.status_code in (503, 504)
    assert len(mine.embeddings.create(model="fruit", input=["red", "green"]).data) == 2
    with pytest.raises(openai.RateLimitError) as limited:
        mine.moderations.create(model="fruit", input=["red", "green"])
    assert (limited.value.type, limited.value.response.headers["Retry-After"]) == ("rate_limit_error", "100")


@pytest.mark.parametrize("pattern", ITEMS)
def test_the_client_talks_to_a_process(real, pattern):
    with openai.OpenAI(base_url=f"{real.url}/v1", api_key=CANARY) as client:
        (result,) = client.moderations.create(model="tags", input=parts_of(pattern)).results
        (entry,) = client.embeddings.create(model="fruit", input=parts_of(pattern)).data

    assert {*result.category_scores.to_dict()} == {*LABELS["tags"]}
    assert len(entry.embedding) == (16 if pattern == "both" else 8)
