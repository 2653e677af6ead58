"""A version as a CycloneDX 1.6 ML-BOM: the model, its model card, and each file with its digest.

The dictionaries are written by hand because the Python library of CycloneDX (11.12) has no model cards.
"""

from __future__ import annotations

from importlib.metadata import version
from uuid import NAMESPACE_OID, uuid5

from pydantic import JsonValue

from model_store.describe.manifest_summary import approach, data_sources, scores
from model_store.manifest import Blob, Manifest


def ml_bom(manifest: Manifest) -> dict[str, JsonValue]:
    """The BOM of a version. It has no licence, because a manifest has none.

    Equal manifests give equal BOMs in one release of mora-store.
    """
    model = f"{manifest.task}@{manifest.version}"
    files: dict[Blob, str] = {}  # each file once, under the name of its first use
    for name, blob in manifest.files().items():
        files.setdefault(blob, name)
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid5(NAMESPACE_OID, manifest.model_dump_json())}",
        "version": 1,
        "metadata": {
            "timestamp": manifest.provenance.created_at.isoformat(),
            "tools": {"components": [{"type": "application", "name": "mora-store", "version": version("mora-serve")}]},
            "component": {
                "type": "machine-learning-model",
                "bom-ref": model,
                "name": manifest.task,
                "version": str(manifest.version),
                "pedigree": {"ancestors": [{"type": "machine-learning-model", "name": manifest.backbone.name}]},
                "modelCard": _model_card(manifest),
            },
        },
        "components": [
            {
                "type": "file",
                "bom-ref": f"sha256:{blob.sha256}",
                "name": name,
                "hashes": [{"alg": "SHA-256", "content": blob.sha256}],
                "properties": [{"name": "mora:bytes", "value": str(blob.size)}],
            }
            for blob, name in files.items()
        ],
        "dependencies": [{"ref": model, "dependsOn": [f"sha256:{blob.sha256}" for blob in files]}],
    }


def _model_card(manifest: Manifest) -> JsonValue:
    made = manifest.provenance
    fingerprint: JsonValue = [{"name": "mora:dataset_fingerprint", "value": made.dataset_fingerprint}]
    facts = {"code_version": made.code_version, "seed": made.seed}
    facts |= {f"training_mix:{pattern}": share for pattern, share in manifest.training_mix.items()}
    facts |= {f"package:{name}": number for name, number in made.packages.items()}
    return {
        "modelParameters": {
            "approach": {"type": "supervised"},
            "task": approach(manifest),
            "architectureFamily": manifest.backbone.family,
            "modelArchitecture": manifest.backbone.name,
            "datasets": [
                {"type": "dataset", "name": name, "description": split, "contents": {"properties": fingerprint}}
                for split, name in data_sources(manifest).items()
            ],
            "inputs": [{"format": "image"}, {"format": "text"}],
            "outputs": [{"format": "scores of labels" if manifest.labels else "vector of length 1"}],
        },
        "quantitativeAnalysis": {
            "performanceMetrics": [
                {"type": score.metric, "value": str(score.value), "slice": f"{score.split}, {score.slice}"}
                for score in scores(manifest)
            ]
        },
        "properties": [{"name": f"mora:{name}", "value": str(value)} for name, value in facts.items()],
    }
