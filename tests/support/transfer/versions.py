"""Versions of a given size: the store does not parse blobs."""

from __future__ import annotations

import random

from model_store import Blob, Manifest, Precision, Store, blob_of, publish
from tests.support.tiny import TinyTask, make_draft


def publish_sized(store: Store, task: str, trunk_bytes: int, tail_bytes: int, seed: int = 0) -> Manifest:
    """Publish a task whose trunks are those of any other of this size, and whose tails and head are its own."""
    draft = make_draft(TinyTask(name=task, seed=seed + 1))
    blobs = dict(draft.blobs)

    def blob(name: str, size: int) -> Blob:
        content = random.Random(name).randbytes(size)  # noqa: S311
        blobs[blob_of(content).sha256] = content
        return blob_of(content)

    own = f"{task} {seed}"
    graphs = draft.manifest.graphs[Precision.FP32].model_copy(
        update={
            "image_trunk": blob("image trunk", trunk_bytes),
            "text_trunk": blob("text trunk", trunk_bytes),
            "image_tail": blob(f"image tail of {own}", tail_bytes),
            "text_tail": blob(f"text tail of {own}", tail_bytes),
        }
    )
    manifest = draft.manifest.model_copy(update={"graphs": {Precision.FP32: graphs}})
    needed = {blob.sha256: blobs[blob.sha256] for blob in manifest.blobs()}
    return publish(store, manifest, needed)
