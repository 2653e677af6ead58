"""The Open Inference Protocol, spoken by Triton's own client to a real service.

Covers service.web.open_inference, service.api.open_inference.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator

import numpy as np
import pytest
from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput
from tritonclient.utils import InferenceServerException

from model_store import Pattern
from tests.support.faults.asking import JSON
from tests.support.faults.attacking import PICTURE, Target, as_base64, as_json
from tests.support.tiny import LABELS

OUTPUTS = ["labels", "scores", "selected", "modalities"]
BINARY = "application/octet-stream"
LENGTH = "Inference-Header-Content-Length"


@pytest.fixture
def client(target) -> Iterator[InferenceServerClient]:
    with InferenceServerClient(f"127.0.0.1:{target.running.port}") as client:
        yield client


def tensor(name: str, values: list[bytes], binary: bool = True, shape: tuple[int, ...] | None = None) -> InferInput:
    shape = shape or (len(values),)
    given = InferInput(name, list(shape), "BYTES")
    given.set_data_from_numpy(np.array(values, np.object_).reshape(shape), binary_data=binary)
    return given


def alone(target: Target, task: str, image: bytes, text: bytes) -> dict:
    """What /classify says of the same item."""
    body = {"task": task, "image": as_base64(image), "text": text.decode(), "top_k": 9}
    return target.send(json.dumps(body).encode()).json


IMAGES = [PICTURE, PICTURE, b""]
TEXTS = [b"a red apple", b"", "gr\u00fcn green".encode()]


def check_answers(target: Target, task: str, result, modalities: list[str] = ["both", "image", "text"]) -> None:  # noqa: B006
    labels, scores, selected, found = (result.as_numpy(name) for name in OUTPUTS)
    assert (labels.shape, scores.dtype, selected.dtype) == ((3, len(LABELS[task])), np.float32, np.bool_)
    assert [value.decode() if isinstance(value, bytes) else value for value in found] == modalities
    for place, (image, text) in enumerate(zip(IMAGES, TEXTS, strict=True)):
        expected = alone(target, task, image, text)["labels"]
        names = [value.decode() if isinstance(value, bytes) else value for value in labels[place]]
        assert names == [label["label"] for label in expected]
        assert scores[place] == pytest.approx([label["score"] for label in expected], abs=1e-6)
        assert selected[place].tolist() == [label["selected"] for label in expected]


@pytest.mark.parametrize("task", ["fruit", "tags"])
def test_items_with_and_without_each_modality_are_answered_as_by_classify(target, client, task):
    series = [f'mora_requests_total{{modalities="{each}",status="200",task="{task}"}}' for each in Pattern]
    before = [target.running.metric(each) for each in series]
    result = client.infer(task, [tensor("image", IMAGES), tensor("text", TEXTS)], request_id="mine-7")
    assert [target.running.metric(each) for each in series] == [number + 1 for number in before]
    check_answers(target, task, result)
    response = result.get_response()
    assert (response["model_name"], response["model_version"], response["id"]) == (task, "1", "mine-7")
    assert [output["datatype"] for output in response["outputs"]] == ["BYTES", "FP32", "BOOL", "BYTES"]


@pytest.mark.parametrize("shape", [(3,), (3, 1)])
@pytest.mark.parametrize("wanted", [True, False])
@pytest.mark.parametrize("sent", [True, False])
def test_every_form_of_input_and_output_gives_the_same(target, client, sent, wanted, shape):
    outputs = [InferRequestedOutput(name, binary_data=wanted) for name in OUTPUTS]
    pictures = IMAGES if sent else [as_base64(image).encode() for image in IMAGES]
    inputs = [tensor("text", TEXTS, sent, shape), tensor("image", pictures, sent, shape)]
    check_answers(target, "tags", client.infer("tags", inputs, outputs=outputs))


def test_outputs_may_be_chosen_and_mixed(client):
    outputs = [InferRequestedOutput("scores", binary_data=False), InferRequestedOutput("labels", binary_data=True)]
    result = client.infer("fruit", [tensor("text", [b"red"])], outputs=outputs)
    assert [output["name"] for output in result.get_response()["outputs"]] == ["scores", "labels"]
    assert result.as_numpy("scores").shape == result.as_numpy("labels").shape == (1, 3)
    assert result.as_numpy("selected") is None


def test_top_k_cuts_the_labels(client):
    result = client.infer("tags", [tensor("text", [b"red", b"apple"])], parameters={"top_k": 2})
    assert result.as_numpy("labels").shape == result.as_numpy("selected").shape == (2, 2)


def test_a_version_may_be_pinned(client):
    assert client.infer("fruit", [tensor("text", [b"red"])], model_version="1").get_response()["model_version"] == "1"
    for version in ("2", "0", "-1", "1.0", "x", "1" * 30):
        with pytest.raises(InferenceServerException, match="The task has no such version") as caught:
            client.infer("fruit", [tensor("text", [b"red"])], model_version=version)
        assert caught.value.status() == "404"


def test_more_items_than_the_queue_holds_are_answered(client):
    texts = [b"red " * (1 + number % 5) for number in range(256)]
    assert client.infer("fruit", [tensor("text", texts)]).as_numpy("scores").shape == (256, 3)


def test_health_and_metadata(client):
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("fruit")
    assert client.is_model_ready("fruit", "1")
    assert not client.is_model_ready("nothing")
    assert not client.is_model_ready("fruit", "9")
    assert client.get_server_metadata()["extensions"] == ["binary_tensor_data"]
    metadata = client.get_model_metadata("tags")
    assert metadata == client.get_model_metadata("tags", "1")
    assert (metadata["name"], metadata["versions"], metadata["platform"]) == ("tags", ["1"], "onnx_onnxv1")
    assert [(given["name"], given["datatype"]) for given in metadata["inputs"]] == [
        ("image", "BYTES"),
        ("text", "BYTES"),
    ]
    assert [output["name"] for output in metadata["outputs"]] == OUTPUTS
    with pytest.raises(InferenceServerException, match="No such task is loaded"):
        client.get_model_metadata("nothing")


BAD_ITEMS = [
    ("image", [b"", PICTURE[:60], PICTURE], "422", "Item 1: The PNG file is damaged", "decode"),
    ("image", [PICTURE, b"", b"BM"], "415", "Item 2: Send a JPEG", "image_format"),
    ("text", [b"red", b"red", b"\xff"], "422", "Item 2: Send UTF-8", "bad_text"),
    ("text", [b"red", b"", b""], "422", "Item 1: Give an image, a text, or both", "missing_input"),
    ("text", [b"red", b"a" * 70_000, b"a"], "413", "Item 1: A text may have", "text_too_large"),
]


def assert_refused(target: Target, task: str, inputs: list[InferInput], status: str, message: str) -> None:
    """The client raises this; it keeps its connection, so it is one of its own."""
    with InferenceServerClient(f"127.0.0.1:{target.running.port}") as client:
        with pytest.raises(InferenceServerException, match=message) as caught:
            client.infer(task, inputs)
        assert caught.value.status() == status


@pytest.mark.parametrize(("name", "values", "status", "message", "reason"), BAD_ITEMS)
def test_one_bad_item_fails_the_request_and_is_named(target, name, values, status, message, reason):
    inputs = [tensor(name, values)]
    if name == "image":
        inputs.append(tensor("text", [b"red"] * 3))
    with target.unharmed(**{reason: 1}):
        assert_refused(target, "fruit", inputs, status, message)


def test_an_unknown_model_is_an_error_in_words(target):
    with target.unharmed(unknown_task=1):
        assert_refused(target, "nothing", [tensor("text", [b"red"])], "404", "No such task")


@pytest.mark.parametrize(
    "options", [{"priority": 3}, {"timeout": 60_000_000}, {"timeout": 0}, {"sequence_id": 0}, {"request_id": "7"}]
)
def test_fields_that_do_not_change_the_answer_are_accepted(client, options):
    plain = client.infer("fruit", [tensor("text", [b"red"])]).as_numpy("scores")

    assert client.infer("fruit", [tensor("text", [b"red"])], **options).as_numpy("scores") == pytest.approx(plain)


def test_unsupported_fields_are_refused_and_not_ignored(client):
    unknown = "parameters has a field that the service does not know"
    for options, named in (
        ({"sequence_id": 5, "sequence_start": True}, f"{unknown}: sequence_id"),
        ({"sequence_id": "a", "sequence_end": True}, f"{unknown}: sequence_id"),
        ({"parameters": {"a": 1}}, f"{unknown}. The fields are"),
    ):
        with pytest.raises(InferenceServerException, match=named):
            client.infer("fruit", [tensor("text", [b"red"])], **options)
    shared = InferRequestedOutput("scores")
    shared.set_shared_memory("region", 64)
    for output, named in (
        (InferRequestedOutput("labels", class_count=2), "classification"),
        (shared, "shared_memory_region"),
    ):
        with pytest.raises(InferenceServerException, match=f"outputs.0.{unknown}: {named}"):
            client.infer("fruit", [tensor("text", [b"red"])], outputs=[output])
    given = InferInput("text", [1], "BYTES")
    given.set_shared_memory("region", 64)
    with pytest.raises(InferenceServerException, match=f"inputs.0.{unknown}: shared_memory_region"):
        client.infer("fruit", [given])
    with pytest.raises(InferenceServerException, match="1 to 256 items"):
        client.infer("fruit", [tensor("text", [b"red"] * 257)])


def strings(*values: bytes) -> bytes:
    return b"".join(struct.pack("<I", len(value)) + value for value in values)


def message(*inputs: dict, **fields: object) -> bytes:
    return json.dumps({"inputs": list(inputs), **fields}).encode()


def described(name: str = "text", shape: object = (1,), datatype: str = "BYTES", **more: object) -> dict:
    return {"name": name, "shape": shape, "datatype": datatype, **more}


def binary(size: object, shape: object = (1,), **more: object) -> dict:
    return described(shape=shape, parameters={"binary_data_size": size}, **more)


A = described(data=["a"])
IN_JSON = [
    message(),
    message(A, A),
    message(described()),
    message(described(data=[])),
    message(described(data=["a", "b"])),
    message(described(data=[7])),
    message(described(data=[["a", "b"]], shape=[1])),
    message(described(data=["a"], datatype="FP32")),
    message(described(data=["a"], name="sound")),
    message(described(data=["a"], shape=[])),
    message(described(data=["a"], shape=[1, 1, 1])),
    message(described(data=["a"], shape=[1, 2])),
    message(described(data=["a"], shape=[-1])),
    message(described(data=["a"], shape=["1"])),
    message(described(data=[], shape=[0])),
    message(described(data=["a"], shape=[10**17])),
    message(A, described("image", [2], data=["", ""])),
    message(A, outputs=[{"name": "logits"}]),
    message(A, outputs=[{"name": "labels"}] * 7),
    message(A, outputs=[{"name": "label_set"}]),
    message(A, outputs=[{"name": "review"}]),
    message(A, parameters={"top_k": 0}),
    message(A, id=7),
    message(binary(1)),
]
IN_BINARY = [
    (message(binary(5)), strings(b"a") + b"x"),
    (message(binary(6)), strings(b"a")),
    (message(binary(5, [2])), strings(b"a")),
    (message(binary(10)), strings(b"a", b"b")),
    (message(binary(3)), b"abc"),
    (message(binary(8)), struct.pack("<I", 2**32 - 1) + b"abcd"),
    (message(binary(5, data=["a"])), strings(b"a")),
    (message(binary(-5)), strings(b"a")),
    (message(binary(0)), b""),
    (message(A), b"x"),
]


def test_requests_that_fit_no_tensor_are_refused(target, reliability):
    path = "/v2/models/fruit/infer"
    sent = [(body, {}) for body in IN_JSON]
    sent += [(head + data, {LENGTH: str(len(head))}) for head, data in IN_BINARY]
    sent += [(message(A), {LENGTH: size}) for size in ("-1", "9999", "x", "0" * 5_000, "\u00b2", "1e2", "")]
    with target.unharmed(bad_value=len(sent)):
        for body, headers in sent:
            reply = target.send(body, path=path, **{name.replace("-", "_"): value for name, value in headers.items()})
            assert (reply.status, reply.code) == (422, "bad_value"), (body, reply)
            assert reply.json["error"] == reply.json["detail"]
            assert reply.headers["content-type"] == "application/problem+json"
            assert len(reply.body) <= 1024
    with target.unharmed(bad_json=2, content_type=1, extra_field=1, bad_base64=1):
        assert target.send(b"{", path=path).code == "bad_json"
        assert target.send(message(A), path=path, Inference_Header_Content_Length="5").code == "bad_json"
        assert target.send(message(A), "text/plain", path).code == "content_type"
        assert target.send(message(A, model="x"), path=path).code == "extra_field"
        assert target.send(message(described("image", data=["%"])), path=path).code == "bad_base64"
    reliability(
        "Open Inference: requests that fit no tensor", "4xx with `error`", f"{len(sent) + 5} of {len(sent) + 5}"
    )


def test_clients_that_name_no_content_type_or_repeat_the_model_are_understood(target):
    for content_type in (None, JSON, BINARY, "application/json; charset=utf-8"):
        body = message(A, id="a b", model_name="fruit", model_version="1")
        reply = target.send(body, content_type, "/v2/models/fruit/infer")
        assert reply.status == 200, reply
        assert reply.json["id"] == reply.headers["x-request-id"]  # `a b` would not be safe in a log
        assert [output["name"] for output in reply.json["outputs"]] == OUTPUTS
        assert "server-timing" in reply.headers


def test_problems_outside_v2_keep_their_form(target):
    assert "error" not in target.send(as_json(task="nothing")).json
    for method, path in (("GET", "/v2/nothing"), ("DELETE", "/v2"), ("GET", "/v2/models/fruit/infer")):
        assert "error" in target.send(None, None, path, method).json


def test_the_api_document_describes_it(target):
    document = target.send(None, None, "/openapi.json", "GET").json
    paths = {path: list(operations) for path, operations in document["paths"].items() if path.startswith("/v2")}
    model = "/v2/models/{task}"
    expected = {path: ["get"] for path in ("/v2", "/v2/health/live", "/v2/health/ready")}
    for base in (model, f"{model}/versions/{{version}}"):
        expected |= {base: ["get"], f"{base}/ready": ["get"], f"{base}/infer": ["post"]}
    assert paths == expected
    infer = document["paths"][f"{model}/infer"]["post"]
    assert set(infer["requestBody"]["content"]) == {JSON, BINARY} == set(infer["responses"]["200"]["content"])
    assert infer["requestBody"]["content"][JSON]["schema"] == {"$ref": "#/components/schemas/InferenceRequest"}
    schemas, responses = document["components"]["schemas"], document["components"]["responses"]
    assert schemas["InputTensor"]["properties"]["name"]["enum"] == ["image", "text"]
    assert infer["responses"]["4XX"] == {"$ref": "#/components/responses/InferenceProblemDetails4XX"}
    problem = responses["InferenceProblemDetails4XX"]["content"]["application/problem+json"]["schema"]
    assert problem == {"$ref": "#/components/schemas/InferenceProblemDetails"}
    assert "error" in schemas["InferenceProblemDetails"]["properties"]
