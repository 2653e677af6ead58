"""The ML-BOM of a published version is valid CycloneDX 1.6 and lists every file (row S4 of the fault table)."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from model_store import DEFAULT_STORE, Precision, Store, publish
from model_store.cli import app
from model_store.describe.bom import ml_bom


def faults_in(bom: dict) -> str | None:
    """The violations of the CycloneDX 1.6 schema."""
    from cyclonedx.schema import SchemaVersion  # takes five seconds
    from cyclonedx.validation.json import JsonStrictValidator

    fault = JsonStrictValidator(SchemaVersion.V1_6).validate_str(json.dumps(bom))
    return None if fault is None else str(fault)


@pytest.fixture
def manifest(store, draft):
    return publish(store, *draft())


@pytest.mark.parametrize("task", Store(DEFAULT_STORE).tasks())
def test_the_boms_of_the_shipped_versions_follow_the_schema(task):
    manifest = Store(DEFAULT_STORE).manifest(task)
    bom = ml_bom(manifest)

    assert faults_in(bom) is None
    parameters = bom["metadata"]["component"]["modelCard"]["modelParameters"]
    assert [data["name"] for data in parameters["datasets"]] == [
        manifest.provenance.config["data"][split] for split in ("train", "validation", "test")
    ]


def test_a_misplaced_field_violates_the_schema(manifest):
    bom = ml_bom(manifest)
    bom["metadata"]["component"]["modelCard"]["seed"] = 0

    assert "seed" in faults_in(bom)


def test_every_file_of_a_version_is_listed_once_with_its_digest(store, draft):
    manifest, blobs = draft()
    int8 = manifest.graphs[Precision.FP32].model_copy(update={"text_tail": manifest.head})  # one file with two names
    manifest = publish(store, manifest.model_copy(update={"graphs": {**manifest.graphs, Precision.INT8: int8}}), blobs)

    bom = ml_bom(manifest)

    assert faults_in(bom) is None
    listed = sorted(file["hashes"][0]["content"] for file in bom["components"])
    assert listed == sorted(blob.sha256 for blob in manifest.blobs())
    assert bom["dependencies"][0]["dependsOn"] == [file["bom-ref"] for file in bom["components"]]
    names = [file["name"] for file in bom["components"]]
    assert {"tokenizer.json", "head.safetensors", "fp32/image_trunk.onnx", "golden/0"} <= {*names}
    assert "int8/text_tail.onnx" not in names


def test_the_bom_agrees_with_the_manifest(manifest):
    component = ml_bom(manifest)["metadata"]["component"]

    assert (component["type"], component["name"], component["version"]) == ("machine-learning-model", "fruit", "1")
    assert component["pedigree"]["ancestors"][0]["name"] == "openai/clip-vit-base-patch16"
    metrics = component["modelCard"]["quantitativeAnalysis"]["performanceMetrics"]
    assert metrics == [
        {"type": "macro_f1", "value": "0.8125", "slice": "test, overall"},
        {"type": "macro_f1", "value": "0.75", "slice": "test, text"},
    ]
    datasets = component["modelCard"]["modelParameters"]["datasets"]
    assert datasets[0]["contents"]["properties"] == [{"name": "mora:dataset_fingerprint", "value": "a1b2"}]
    properties = {each["name"]: each["value"] for each in component["modelCard"]["properties"]}
    assert properties["mora:package:torch"] == "2.13.0"
    assert properties["mora:training_mix:both"] == "0.3"


def test_the_same_version_has_the_same_description(store, draft, manifest):
    second = publish(store, *draft(tail="second"))

    assert ml_bom(manifest) == ml_bom(store.manifest("fruit", 1))
    assert ml_bom(manifest)["serialNumber"] != ml_bom(second)["serialNumber"]


def test_the_command_prints_the_bom(store, draft, manifest):
    publish(store, *draft(tail="second"))

    live = CliRunner().invoke(app, ["sbom", "fruit", "--store", str(store.root)])
    first = CliRunner().invoke(app, ["sbom", "fruit", "--version", "1", "--store", str(store.root)])

    assert json.loads(first.stdout) == json.loads(json.dumps(ml_bom(manifest)))
    assert json.loads(live.stdout)["metadata"]["component"]["version"] == "2"
