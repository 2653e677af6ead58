"""int8 trunks that tasks of a store have already: another task on the same backbone shares them."""

from __future__ import annotations

from contextlib import suppress

from model_store import Precision, Store, StoreError, blob_of
from training.export.onnx_graphs import GraphFiles

_TRUNKS = ("image_trunk", "text_trunk")


def known_int8_trunks(store: Store, task: str, fp32: GraphFiles) -> GraphFiles:
    """Trunks with fixed scales of live versions, made of equal fp32 trunks; of the task itself, if it has them.

    The scales of a trunk depend on the items of the task that was exported first. Other tasks take its trunk, so that a
    service holds and runs one for all.
    """
    found: GraphFiles = {}
    own = {name: blob_of(fp32[name]) for name in _TRUNKS}
    for other in sorted(store.tasks(), key=lambda name: (name != task, name)):
        with suppress(StoreError):  # it has no live version, or a damaged one
            graphs = store.manifest(other).graphs
            if Precision.INT8 in graphs and graphs[Precision.INT8].fixed_scales:
                lower, whole = graphs[Precision.INT8].blobs(), graphs[Precision.FP32].blobs()
                for name in _TRUNKS:
                    if name not in found and whole[name] == own[name] and lower[name] != whole[name]:
                        found[name] = store.read(lower[name])
    return found
