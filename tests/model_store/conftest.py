"""Valid drafts with blobs of a few bytes: the store does not parse blobs."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import pytest

from model_store import (
    Backbone,
    Blob,
    Calibration,
    GoldenExample,
    Graphs,
    ImagePreprocessing,
    ManifestDraft,
    Pattern,
    Precision,
    Problem,
    Provenance,
    Store,
    TextPreprocessing,
    blob_of,
)


class Draft(NamedTuple):
    """A draft to publish: a manifest without a version, and the content of its blobs by SHA-256."""

    manifest: ManifestDraft
    blobs: dict[str, bytes]


def make_draft(task: str = "fruit", tail: str = "first") -> Draft:
    """Drafts share trunks and tokenizer; tails and head differ with the task and `tail`."""
    blobs: dict[str, bytes] = {}

    def blob(content: str) -> Blob:
        data = content.encode()
        name = blob_of(data)
        blobs[name.sha256] = data
        return name

    own = f"of {task}, {tail}"
    calibration = Calibration(temperature=1.25, thresholds=(0.4, 0.6))
    manifest = ManifestDraft(
        task=task,
        problem=Problem.MULTI_LABEL,
        labels=("apple", "pear"),
        backbone=Backbone(
            name="openai/clip-vit-base-patch16",
            family="clip",
            image_width=768,
            text_width=512,
            feature_size=512,
            image_layers=12,
            text_layers=12,
            image_first_tail_layer=10,
            text_first_tail_layer=10,
        ),
        image=ImagePreprocessing(
            shortest_edge=224, crop=(224, 224), resample="bicubic", mean=(0.5, 0.5, 0.5), std=(0.2, 0.2, 0.2)
        ),
        text=TextPreprocessing(tokenizer=blob("a tokenizer"), max_length=77),
        graphs={
            Precision.FP32: Graphs(
                image_trunk=blob("an image trunk"),
                image_tail=blob("an image tail " + own),
                text_trunk=blob("a text trunk"),
                text_tail=blob("a text tail " + own),
                max_logit_error=dict.fromkeys(Pattern, 1e-6),
            )
        },
        absent_features=blob("absent features " + own),
        head=blob("a head " + own),
        calibration=dict.fromkeys(Pattern, calibration),
        golden=(
            GoldenExample(pattern=Pattern.BOTH, image=blob("a picture"), text="red", logits=(1.0, -1.0)),
            GoldenExample(pattern=Pattern.IMAGE, image=blob("a picture"), logits=(0.5, -0.5)),
            GoldenExample(pattern=Pattern.TEXT, text="green", logits=(-0.5, 0.5)),
        ),
        metrics={"test": {"overall": {"macro_f1": 0.8125}, "text": {"macro_f1": 0.75, "ece": None}}},
        training_mix={Pattern.BOTH: 0.3, Pattern.IMAGE: 0.35, Pattern.TEXT: 0.35},
        provenance=Provenance(
            code_version="0.1.0",
            created_at=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
            seed=0,
            dataset_fingerprint="a1b2",
            config={"train": {"epochs": 20}},
            packages={"torch": "2.13.0"},
        ),
    )
    return Draft(manifest, blobs)


@pytest.fixture(autouse=True)
def _no_wait_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Skip syncing, which would take most of the time. One test checks the order of the calls instead."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)


@pytest.fixture
def draft() -> Callable[..., Draft]:
    return make_draft


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def draft_folder(tmp_path: Path) -> Path:
    """A draft on disk, for publishers in other processes."""
    manifest, blobs = make_draft()
    folder = tmp_path / "draft"
    folder.mkdir()
    (folder / "draft.json").write_text(manifest.model_dump_json())
    for sha256, data in blobs.items():
        (folder / sha256).write_bytes(data)
    return folder
