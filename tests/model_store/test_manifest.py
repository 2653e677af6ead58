"""Rules between fields of a manifest; how a store reads one is tested in test_store.py."""

from __future__ import annotations

import json

import pytest
from pydantic import ValidationError

from model_store import (
    Blob,
    Calibration,
    ImagePreprocessing,
    Padding,
    Pattern,
    Precision,
    Problem,
    Store,
    TextPreprocessing,
    blob_of,
)
from model_store.manifest import ManifestDraft
from tests.support.tiny import label_sets

COLOURS = {"resample": "bicubic", "mean": (0.5, 0.5, 0.5), "std": (0.2, 0.2, 0.2)}
TOKENIZER = Blob(sha256="0" * 64, size=1)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({}, "exactly one of shortest_edge and exact_size"),
        ({"shortest_edge": 224, "exact_size": (224, 224)}, "exactly one of shortest_edge and exact_size"),
        ({"shortest_edge": 224}, "needs a crop"),
    ],
)
def test_a_picture_has_one_rule_for_its_size(sizes, message):
    with pytest.raises(ValidationError, match=message):
        ImagePreprocessing(**COLOURS, **sizes)


def test_the_output_is_as_large_as_the_crop_or_else_the_exact_size():
    cropped = ImagePreprocessing(**COLOURS, shortest_edge=256, crop=(224, 160))
    resized = ImagePreprocessing(**COLOURS, exact_size=(224, 160))

    assert cropped.output_size == resized.output_size == (224, 160)


def test_padding_has_the_length_of_the_longest_text():
    TextPreprocessing(tokenizer=TOKENIZER, max_length=64, padding=Padding(length=64, token=1))

    with pytest.raises(ValidationError, match=r"padding\.length must be max_length"):
        TextPreprocessing(tokenizer=TOKENIZER, max_length=77, padding=Padding(length=64, token=1))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": ("apple", "apple")}, "labels repeat"),
        ({"graphs": {}}, "graphs need the precision fp32"),
        ({"calibration": {Pattern.BOTH: Calibration(thresholds=(0.5, 0.5))}}, "must cover both, image and text"),
        ({"problem": Problem.SINGLE_LABEL}, "one threshold for each label"),
        ({"labels": ("apple", "pear", "plum")}, "one threshold for each label"),
    ],
)
def test_a_manifest_whose_parts_do_not_fit_is_refused(draft, changes, message):
    manifest, _ = draft()

    with pytest.raises(ValidationError, match=message):
        ManifestDraft.model_validate(manifest.model_dump() | changes)


@pytest.mark.parametrize("missing", ["expected", "by_class"])
def test_label_sets_that_no_answer_could_have_are_not_published(shelf, missing):
    only_text = {Pattern.TEXT: label_sets().by_pattern[Pattern.TEXT]}
    expected = {} if missing == "by_class" else label_sets().expected
    by_class = {Pattern.BOTH: (None,) * 3} if missing == "by_class" else {}
    sets = label_sets().model_copy(update={"by_pattern": only_text, "expected": expected, "by_class": by_class})

    with pytest.raises(ValidationError, match=r"expected sets need|by_class has a presence pattern"):
        shelf.publish_draft(shelf.draft("fruit").replacing(label_sets=sets))
    assert shelf.store.tasks() == []


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("search", {"labels": ("apple", "pear")}, "has an embedding_size and no labels"),
        ("search", {"embedding_size": None}, "has an embedding_size and no labels"),
        ("search", {"embedding_size": 4}, "as many as embedding_size"),
        ("search", {"label_sets": label_sets()}, "a retrieval task has no label_sets"),
        ("search", {"calibration": dict.fromkeys(Pattern, Calibration(thresholds=(0.5,)))}, "any other task none"),
        ("fruit", {"labels": ()}, "any other task labels alone"),
        ("fruit", {"embedding_size": 3}, "any other task labels alone"),
    ],
)
def test_a_retrieval_task_has_vectors_in_place_of_labels(shelf, name, changes, message):
    draft = shelf.draft(name).manifest

    assert ManifestDraft.model_validate(draft.model_dump()).head_size == (3 if name == "fruit" else 5)
    with pytest.raises(ValidationError, match=message):
        ManifestDraft.model_validate(draft.model_dump() | changes)


def test_a_version_needs_every_file_once(draft):
    manifest, blobs = draft()

    assert {"tokenizer.json", "head.safetensors", "fp32/image_trunk.onnx", "golden/0"} <= manifest.files().keys()
    assert "golden/2" not in manifest.files(), "an example without a picture"
    assert sorted(blob.sha256 for blob in manifest.blobs()) == sorted(blobs)


@pytest.mark.parametrize("names", [(), ("image_weights",), ("text_weights",), ("image_weights", "text_weights")])
def test_weights_of_tails_are_files_of_a_version(draft, names):
    manifest, _ = draft()
    weights = {name: blob_of(name.encode()) for name in names}
    graphs = manifest.graphs[Precision.FP32].model_copy(update=weights)
    described = manifest.model_copy(update={"graphs": dict.fromkeys((Precision.FP32, Precision.BF16), graphs)})

    read = ManifestDraft.model_validate_json(described.model_dump_json(exclude_none=True))

    files = {name: blob for name, blob in read.files().items() if "weights" in name}
    assert files == {f"fp32/{name}.safetensors": blob for name, blob in weights.items()}
    assert len(read.blobs()) == len(manifest.blobs()) + len(names)


@pytest.mark.parametrize(
    ("config", "shows"),
    [
        ({}, True),
        ({"publish": {"examples": True, "report": False}}, True),
        ({"publish": {"examples": False, "report": True}}, False),
        ({"publish": None}, True),
        ({"publish": {}}, True),
    ],
)
def test_examples_are_shown_unless_the_configuration_says_no(draft, config, shows):
    manifest = draft().manifest
    provenance = manifest.provenance.model_copy(update={"config": config})

    assert manifest.model_copy(update={"provenance": provenance}).shows_examples is shows


BOUNDS = {
    "temperature": (("calibration", "text", "temperature"), [1e-308, 0.009, 101, float("inf")], [0.01, 1, 100]),
    "threshold": (("calibration", "both", "thresholds", 0), [-0.1, 1.1, float("nan")], [0, 0.5, 1]),
    "max_length": (("text", "max_length"), [0, 1, 8_193, 10**9], [2, 77, 8_192]),
    "shortest_edge": (("image", "shortest_edge"), [0, 4_097, 10**9], [1, 336, 4_096]),
    "crop": (("image", "crop", 1), [0, 4_097], [1, 336, 4_096]),
    "mean": (("image", "mean", 0), [-0.1, 1.1, 127, float("nan")], [0, 0.5, 1]),
    "std": (("image", "std", 2), [1e-308, 0, 1e4, float("inf")], [0.01, 0.25, 1]),
    "feature_size": (("backbone", "feature_size"), [0, 65_537, 10**9], [1, 512, 65_536]),
    "layers": (("backbone", "image_layers"), [0, 1_001], [24, 1_000]),
    "tail layer": (("backbone", "text_first_tail_layer"), [-1, 1_000], [0, 1]),
    "golden_tolerance": (("golden_tolerance",), [0, 1.1, 1e30, float("inf")], [1e-6, 0.001, 1]),
    "logit error": (("graphs", "fp32", "max_logit_error", "text"), [-1, 11, 1e30, float("nan")], [0, 0.5, 10]),
    "share": (("training_mix", "both"), [-0.1, 1.1, float("nan")], [0, 0.5, 1]),
    "metric": (("metrics", "test", "overall", "accuracy"), [float("nan"), float("inf")], [0.5, None]),
}


def changed(manifest: ManifestDraft, path: tuple[str | int, ...], value: object) -> str:
    """The JSON of the manifest with another value in one field."""
    fields = json.loads(manifest.model_dump_json())
    fields["metrics"] = {"test": {"overall": {"accuracy": 0.5}}}
    part = fields
    for name in path[:-1]:
        part = part[name]
    part[path[-1]] = value
    return json.dumps(fields)


@pytest.mark.parametrize("name", BOUNDS)
def test_a_field_beyond_its_bounds_is_refused(draft, name):
    path, beyond, _ = BOUNDS[name]

    for value in beyond:
        with pytest.raises(ValidationError) as caught:
            ManifestDraft.model_validate_json(changed(draft().manifest, path, value))
        assert caught.value.errors()[0]["loc"][0] == path[0], value


@pytest.mark.parametrize("name", BOUNDS)
def test_a_field_within_its_bounds_is_accepted(draft, name):
    path, _, within = BOUNDS[name]

    for value in within:
        ManifestDraft.model_validate_json(changed(draft().manifest, path, value))


@pytest.mark.parametrize("task", Store().tasks())
def test_the_manifests_of_the_shipped_store_are_within_the_bounds(task):
    assert Store().manifest(task).task == task
