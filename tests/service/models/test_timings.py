"""The choice by measurement: in a process that may die, once for each trunk and machine."""

from __future__ import annotations

import json
from importlib.metadata import PackageNotFoundError
from unittest.mock import Mock

import pytest

from model_store import Pattern, Precision, StoreError, openvino
from service.labelling.answerers import StoreAnswerer
from service.models import timings
from service.models.execution import Execution, Runtime
from service.models.loading import Loader
from service.models.timings import Timings
from service.settings import Settings

FP32, BF16 = Precision.FP32, Precision.BF16
OWN, OPENVINO = Execution(Runtime.ONNXRUNTIME, FP32), Execution(Runtime.OPENVINO, FP32)
HALF = Execution(Runtime.OPENVINO, BF16)
# Elsewhere OpenVINO may end the process that runs it, here that of the tests.
needs_amx = pytest.mark.skipif(not openvino.is_fast(), reason="needs AMX and the extra openvino")


def with_bf16(draft, error: float = 10.0):
    """The draft, whose fp32 graphs may be computed in bf16 with this error."""
    fp32 = draft.manifest.graphs[FP32]
    bf16 = fp32.model_copy(update={"max_logit_error": dict.fromkeys(Pattern, error)})
    return draft.replacing(graphs={**draft.manifest.graphs, BF16: bf16})


@pytest.fixture
def manifest(shelf):
    return shelf.publish_draft(with_bf16(shelf.draft()))


@pytest.fixture
def answers(monkeypatch):
    """`answers(seconds, ...)`: what the process answers to each job; None for one that it cannot run."""
    requests = []

    def replace(*seconds: float | None, end: str = "it ended") -> list[dict]:
        def ask(request):
            requests.append(request)
            found = [{"problem": "cannot run"} if each is None else {"seconds": each} for each in seconds]
            return found[: len(request["jobs"])], end

        monkeypatch.setattr(timings, "_ask", ask)
        return requests

    return replace


def timed(shelf, path=None) -> Timings:
    return Timings(shelf.store, 1, path)


def test_the_process_times_each_tower_in_each_execution(shelf, manifest):
    found = timed(shelf).measure(manifest, [OWN])
    assert {tower: [*seconds] for tower, seconds in found.items()} == {"image": [OWN], "text": [OWN]}
    assert all(0 < seconds < 10 for by_way in found.values() for seconds in by_way.values())


@needs_amx
def test_the_process_times_openvino_too(shelf, manifest):
    found = timed(shelf).measure(manifest, [OWN, OPENVINO])
    assert [[*seconds] for seconds in found.values()] == [[OWN, OPENVINO]] * 2


def test_a_trunk_is_timed_once(shelf, manifest, answers):
    requests = answers(0.1, 0.2, 0.3, 0.4)
    times = timed(shelf)
    found = times.measure(manifest, [OWN, HALF])
    assert found == {"image": {OWN: 0.1, HALF: 0.2}, "text": {OWN: 0.3, HALF: 0.4}}
    assert times.measure(manifest, [OWN, HALF]) == found
    assert times.measure(manifest, [HALF])["image"] == {HALF: 0.2}
    assert len(requests) == 1
    assert [(job["modality"], job["runtime"]) for job in requests[0]["jobs"]] == [
        ("image", "onnxruntime"),
        ("image", "openvino"),
        ("text", "onnxruntime"),
        ("text", "openvino"),
    ]


def test_what_cannot_run_is_left_out_and_logged_once(shelf, manifest, answers, events):
    requests = answers(0.1, None, 0.3, None)
    times = timed(shelf)
    for _ in range(2):
        assert times.measure(manifest, [OWN, HALF]) == {"image": {OWN: 0.1}, "text": {OWN: 0.3}}
    assert len(requests) == 1
    assert [(event["event"], event["execution"]) for event in events] == [("execution_unusable", "openvino bf16")] * 2


@pytest.mark.parametrize("survived", [0, 1, 2, 3])
def test_a_process_that_dies_costs_one_execution_and_the_others_are_timed_later(shelf, manifest, answers, survived):
    """With a processor that a runtime does not know, the process ends without an answer."""
    requests = answers(*[0.1] * survived)
    times = timed(shelf)
    first = times.measure(manifest, [OWN, HALF])
    assert sum(map(len, first.values())) == survived
    answers(*[0.2] * 4)
    later = times.measure(manifest, [OWN, HALF])
    assert sum(map(len, later.values())) == 3
    assert len(requests) == (2 if survived < 3 else 1)


def test_a_process_that_really_dies_is_reported(shelf, manifest, monkeypatch, events):
    monkeypatch.setattr(timings.sys, "executable", "/bin/false")
    assert timed(shelf).measure(manifest, [OWN, HALF]) == {"image": {}, "text": {}}
    assert "ended (1)" in events[0]["problem"]
    monkeypatch.setattr(timings.sys, "executable", "/no/such/program")
    assert timed(shelf).measure(manifest, [OWN]) == {"image": {}, "text": {}}
    assert "No such file" in events[-1]["problem"]


def test_times_are_kept_from_start_to_start(shelf, manifest, answers, tmp_path):
    path = tmp_path / "times.json"
    path.write_text(json.dumps({"another machine": {"x": 1.5}}))
    requests = answers(0.1, 0.2, 0.3, 0.4)
    found = timed(shelf, path).measure(manifest, [OWN, HALF])
    assert timed(shelf, path).measure(manifest, [OWN, HALF]) == found
    assert len(requests) == 1
    assert json.loads(path.read_text())["another machine"] == {"x": 1.5}


@pytest.mark.parametrize("content", ["", "[]", "{", '{"a": 1}', '{"a": {"b": "c"}}', "\x00"])
def test_a_file_that_holds_no_times_is_written_anew(shelf, manifest, answers, tmp_path, events, content):
    path = tmp_path / "times.json"
    path.write_text(content)
    answers(0.1, 0.3)
    assert timed(shelf, path).measure(manifest, [OWN])["image"] == {OWN: 0.1}
    assert "timings_unreadable" in {event["event"] for event in events}
    assert len(json.loads(path.read_text())) == 1


def test_a_file_that_cannot_be_written_is_logged(shelf, manifest, answers, tmp_path, events):
    answers(0.1, 0.3)
    assert timed(shelf, tmp_path / "none" / "times.json").measure(manifest, [OWN])["image"] == {OWN: 0.1}
    assert events[-1]["event"] == "timings_not_kept"


IN_EITHER_ORDER = [
    ((0.1, 0.2, 0.3), (0.3, 0.2, 0.1)),
    ((0.2, 0.1, 0.3), (0.2, 0.1, 0.3)),
    ((0.3, 0.1, 0.2), (0.2, 0.3, 0.1)),
]


@needs_amx
@pytest.mark.parametrize(("image", "text"), IN_EITHER_ORDER)
def test_each_tower_runs_in_its_fastest_execution(shelf, manifest, answers, serve, sample, image, text):
    answers(*image, *text)
    client = serve(shelf.store, runtime="auto")
    ways = [OWN, HALF, OPENVINO]
    expected = {name: ways[times.index(min(times))]._asdict() for name, times in (("image", image), ("text", text))}
    assert client.get("/tasks/fruit").json()["towers"] == expected
    for name, way in expected.items():
        labels = f'precision="{way["precision"]}",runtime="{way["runtime"]}",task="fruit",tower="{name}"'
        assert sample(client, f"mora_tower_info{{{labels}}}") == 1
    has_bf16 = HALF._asdict() in expected.values()
    assert client.get("/tasks").json()["tasks"][0]["precision"] == ("bf16" if has_bf16 else "fp32")


@needs_amx
@pytest.mark.parametrize("item", [{"text": "red"}, {"text": "a red green apple square of a picture"}])
def test_openvino_answers_as_onnx_runtime_does(shelf, manifest, serve, oracle, item):
    client = serve(shelf.store, runtime="openvino", precision="fp32")
    labels = client.post("/classify", json=item).json()["labels"]
    exact = oracle("fruit", 1).scores(None, item["text"])
    assert {label["label"]: label["score"] for label in labels} == pytest.approx(exact, abs=1e-5)
    assert client.get("/tasks/fruit").json()["towers"]["text"] == OPENVINO._asdict()


@needs_amx
@pytest.mark.parametrize(("fixed_scales", "runtime"), [(True, "openvino"), (False, "onnxruntime")])
def test_openvino_runs_int8_with_fixed_scales_only(shelf, answers, serve, oracle, fixed_scales, runtime):
    draft = shelf.draft()
    error = dict.fromkeys(Pattern, 10.0)
    int8 = draft.manifest.graphs[FP32].model_copy(update={"fixed_scales": fixed_scales, "max_logit_error": error})
    shelf.publish_draft(draft.replacing(graphs={**draft.manifest.graphs, Precision.INT8: int8}))
    answers(0.2, 0.1, 0.3, 0.1)  # int8 in ONNX Runtime, then in OpenVINO if it may, for each tower
    client = serve(shelf.store, runtime="auto", precision="int8")
    assert client.get("/tasks/fruit").json()["towers"]["text"] == {"runtime": runtime, "precision": "int8"}
    labels = client.post("/classify", json={"text": "red apple"}).json()["labels"]
    exact = oracle("fruit", 1).scores(None, "red apple")
    assert {label["label"]: label["score"] for label in labels} == pytest.approx(exact, abs=0.02)


@needs_amx
def test_bf16_that_misses_the_golden_answers_is_replaced_by_fp32(shelf, answers, serve, events):
    shelf.publish_draft(with_bf16(shelf.draft(), error=0.0).replacing(golden_tolerance=1e-5))
    answers(0.3, 0.1, 0.2, 0.2, 0.1, 0.3)
    towers = serve(shelf.store, runtime="auto").get("/tasks/fruit").json()["towers"]
    assert towers == {"image": OPENVINO._asdict(), "text": OWN._asdict()}
    (event,) = [event for event in events if event["event"] == "openvino_kept_to_fp32"]
    assert "off by" in event["problem"]


@needs_amx
def test_bf16_that_is_named_is_never_replaced(shelf, serve, events):
    shelf.publish_draft(with_bf16(shelf.draft(), error=0.0).replacing(golden_tolerance=1e-5))
    assert serve(shelf.store, runtime="auto", precision="bf16").get("/readyz").status_code == 503
    assert [event["reason"] for event in events if event["event"] == "model_refused"] == ["golden_mismatch"]


@pytest.mark.parametrize("seconds", [599.0, 601.0])
def test_what_could_not_run_is_tried_again_after_ten_minutes(shelf, manifest, answers, monkeypatch, seconds):
    clock = [1000.0]
    monkeypatch.setattr(timings.time, "monotonic", lambda: clock[0])
    answers(0.1, None, 0.3, None)
    times = timed(shelf)
    times.measure(manifest, [OWN, HALF])
    answers(0.2, 0.2)
    clock[0] += seconds
    assert (HALF in times.measure(manifest, [OWN, HALF])["image"]) == (seconds > 600)


@needs_amx
def test_commands_that_label_files_do_not_measure(shelf, manifest, answers):
    requests = answers()
    StoreAnswerer(shelf.store, Settings(store=shelf.store.root, runtime="auto"), "fruit", None).close()
    assert requests == []


@needs_amx
@pytest.mark.parametrize("missing", ["image_trunk", "text_trunk", "text_tail"])
def test_a_file_that_is_missing_for_now_costs_no_execution(shelf, manifest, answers, missing):
    blob = manifest.graphs[FP32].blobs()[missing]
    path = shelf.store.root / "blobs" / "sha256" / blob.sha256
    content = path.read_bytes()
    path.unlink()
    requests = answers()
    with pytest.raises(StoreError):
        Loader(shelf.store, Settings(store=shelf.store.root, runtime="auto")).load("fruit", 1)
    assert requests == []
    path.write_bytes(content)


def test_without_openvino_the_file_of_times_is_not_needed(shelf, manifest, tmp_path, monkeypatch):
    monkeypatch.setattr("service.models.loading.has_openvino", lambda: False)
    monkeypatch.setattr(timings, "version", Mock(side_effect=PackageNotFoundError))
    settings = Settings(store=shelf.store.root, runtime="auto", timings_file=tmp_path / "times.json")
    assert Loader(shelf.store, settings).load("fruit", 1).precision is FP32
