"""A retrieval task over HTTP: its vectors in every form, and the refusal of everything that needs labels."""

from __future__ import annotations

import base64

import numpy as np
import openai
import pytest

from service.client import Client, ProblemError
from tests.support.closed_service import CANARY, closed_service
from tests.support.tiny import EMBEDDING_SIZE, ITEMS, body

CURE = "search is a retrieval task, which has no labels; POST /embed gives its vectors."


def publish_search(shelf) -> None:
    shelf.publish("fruit")
    shelf.publish("search")


@pytest.fixture
def search(shelf, serve):
    """A service with `fruit` and the retrieval task `search`, on one backbone."""
    publish_search(shelf)
    return serve(shelf.store)


@pytest.fixture(scope="module")
def closed(tmp_path_factory):
    with closed_service(tmp_path_factory.mktemp("search"), publish_search) as running:
        yield running


def vector_of(oracle, pixels, pattern: str):
    has_image, text = ITEMS[pattern]
    return oracle("search").logits(pixels if has_image else None, text)


@pytest.mark.parametrize("pattern", ITEMS)
def test_embed_answers_with_a_unit_vector(search, picture, pixels, oracle, pattern):
    answer = search.post("/embed", json=body(picture, pattern, "search")).json()

    assert list(answer) == ["task", "version", "embedding", "modalities", "latency_ms", "request_id"]
    assert answer["embedding"] == pytest.approx(vector_of(oracle, pixels, pattern), abs=1e-5)
    assert np.linalg.norm(answer["embedding"]) == pytest.approx(1, abs=1e-6)
    assert (answer["latency_ms"]["text_encoder"] > 0) == (ITEMS[pattern][1] is not None)


def test_a_task_with_labels_still_answers_with_features(search):
    answer = search.post("/embed", json={"task": "fruit", "text": "red"}).json()

    assert "embedding" not in answer
    assert answer["image_features"] is None
    assert len(answer["text_features"]) == 8


@pytest.mark.parametrize("more", [{}, {"coverage": 0.9}, {"explain": True}])
def test_classify_is_refused_with_the_cure(search, more):
    response = search.post("/classify", json={"task": "search", "text": "red", **more})

    problem = response.json()
    assert (response.status_code, problem["code"]) == (422, "no_labels")
    assert problem["detail"] == CURE


def test_a_batch_refuses_only_the_cells_of_the_task(search, sample):
    before = sample(search, 'mora_rejected_total{reason="no_labels"}')
    batch = {"inputs": [{"text": "red"}, {"text": "apple"}], "tasks": ["search", "fruit"]}

    rows = search.post("/classify/batch", json=batch).json()["results"]

    assert [[cell.get("code") for cell in row] for row in rows] == [["no_labels", None]] * 2
    assert rows[0][0]["detail"] == CURE
    assert rows[0][1]["labels"]
    assert sample(search, 'mora_rejected_total{reason="no_labels"}') == before + 2


def test_moderations_are_refused_and_embeddings_are_vectors(search, picture, pixels, oracle):
    refused = search.post("/v1/moderations", json={"model": "search", "input": "red"})
    error = refused.json()["error"]
    assert (refused.status_code, error["code"], error["param"], error["message"]) == (400, "no_labels", "model", CURE)

    answer = search.post("/v1/embeddings", json={"model": "search", "input": ["a red apple", "green square"]}).json()
    vectors = [each["embedding"] for each in answer["data"]]
    assert vectors[1] == pytest.approx(vector_of(oracle, pixels, "text"), abs=1e-5)
    assert len(vectors[0]) == EMBEDDING_SIZE

    uri = f"data:image/png;base64,{base64.b64encode(picture).decode()}"
    parts = [{"type": "text", "text": "a red apple"}, {"type": "image_url", "image_url": {"url": uri}}]
    request = {"model": "search", "input": parts, "dimensions": EMBEDDING_SIZE, "encoding_format": "base64"}
    (both,) = search.post("/v1/embeddings", json=request).json()["data"]
    decoded = np.frombuffer(base64.b64decode(both["embedding"]), "<f4")
    np.testing.assert_allclose(decoded, vector_of(oracle, pixels, "both"), atol=1e-5)

    wrong = search.post("/v1/embeddings", json={**request, "dimensions": 16})
    assert "have 5 numbers" in wrong.json()["error"]["message"]


def test_the_client_of_openai_gets_the_vectors(closed, oracle, pixels):
    with openai.OpenAI(base_url=f"{closed.url}/v1", api_key=CANARY, max_retries=0) as client:
        answer = client.embeddings.create(model="search", input="green square")

    assert answer.data[0].embedding == pytest.approx(vector_of(oracle, pixels, "text"), abs=1e-5)


def infer(client, task: str = "search", **fields: object):
    tensor = {"name": "text", "shape": [2], "datatype": "BYTES", "data": ["a red apple", "green square"]}
    return client.post(f"/v2/models/{task}/infer", json={"inputs": [tensor], **fields})


def test_the_open_inference_protocol_has_a_tensor_of_vectors(search, oracle, pixels):
    outputs = {output["name"]: output for output in infer(search).json()["outputs"]}

    assert outputs.keys() == {"embedding", "modalities"}
    assert (outputs["embedding"]["datatype"], outputs["embedding"]["shape"]) == ("FP32", [2, EMBEDDING_SIZE])
    assert outputs["embedding"]["data"][EMBEDDING_SIZE:] == pytest.approx(vector_of(oracle, pixels, "text"), abs=1e-5)
    metadata = search.get("/v2/models/search").json()["outputs"]
    assert [(each["name"], each["shape"]) for each in metadata] == [
        ("embedding", [-1, EMBEDDING_SIZE]),
        ("modalities", [-1]),
    ]
    assert search.get("/v2/models/fruit").json()["outputs"][0]["name"] == "labels"
    (chosen,) = infer(search, outputs=[{"name": "embedding", "parameters": {"binary_data": False}}]).json()["outputs"]
    assert chosen["name"] == "embedding"


@pytest.mark.parametrize(
    ("task", "fields", "code"),
    [
        ("search", {"outputs": [{"name": "labels"}]}, "no_labels"),
        ("search", {"parameters": {"top_k": 2}}, "no_labels"),
        ("search", {"parameters": {"coverage": 0.9}}, "no_labels"),
        ("fruit", {"outputs": [{"name": "embedding"}]}, "bad_value"),
    ],
)
def test_outputs_of_another_kind_of_task_are_refused(search, task, fields, code):
    response = infer(search, task, **fields)

    assert (response.status_code, response.json()["code"]) == (422, code)


def test_the_description_of_the_task_names_the_size_of_its_vectors(search):
    summaries = {each["task"]: each for each in search.get("/tasks").json()["tasks"]}

    assert (summaries["search"]["problem"], summaries["search"]["labels"]) == ("retrieval", [])
    assert summaries["search"]["embedding_size"] == EMBEDDING_SIZE
    assert summaries["fruit"]["embedding_size"] is None
    detail = search.get("/tasks/search").json()
    assert (detail["embedding_size"], detail["highest_coverage"]) == (EMBEDDING_SIZE, {})
    examples = search.get("/tasks/search/examples").json()["examples"]
    assert [each["best_label"] for each in examples] == [None] * 3


def test_a_head_of_another_size_is_not_served(shelf, serve):
    draft = shelf.draft("search")
    wrong = draft.manifest.golden[0].model_copy(update={"logits": (0.5,) * EMBEDDING_SIZE})
    shelf.publish("fruit")
    shelf.publish_draft(draft.replacing(golden=(wrong, *draft.manifest.golden[1:])))

    client = serve(shelf.store)

    assert [each["task"] for each in client.get("/tasks").json()["tasks"]] == ["fruit"]
    refused = client.post("/embed", json={"task": "search", "text": "red"}).json()
    assert (refused["code"], "golden_mismatch" in refused["detail"]) == ("version_refused", True)


def test_the_python_client_embeds_and_is_told_the_cure(closed, oracle, pixels):
    with Client(closed.url, CANARY) as client:
        embedding = client.embed(text="green square", task="search")
        with pytest.raises(ProblemError, match="POST /embed gives its vectors"):
            client.classify(text="red", task="search")

    assert embedding.embedding == pytest.approx(vector_of(oracle, pixels, "text"), abs=1e-5)
    assert (embedding.image_features, embedding.text_features) == (None, None)
