"""Rules between fields of a manifest; how a store reads one is tested in test_store.py."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from model_store import Blob, Calibration, ImagePreprocessing, Padding, Pattern, Problem, TextPreprocessing
from model_store.manifest import ManifestDraft

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


def test_a_version_needs_every_file_once(draft):
    manifest, blobs = draft()

    assert {"tokenizer.json", "head.safetensors", "fp32/image_trunk.onnx", "golden/0"} <= manifest.files().keys()
    assert "golden/2" not in manifest.files(), "an example without a picture"
    assert sorted(blob.sha256 for blob in manifest.blobs()) == sorted(blobs)


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
