"""The contract between training and service: a store of verified, versioned models."""

try:
    from model_store.errors import CorruptError, NotFoundError, StoreError, UntrustedError
    from model_store.files import blob_of
    from model_store.item_scores import ItemScores
    from model_store.manifest import (
        Backbone,
        Blob,
        Calibration,
        GoldenExample,
        Graphs,
        ImagePreprocessing,
        Manifest,
        ManifestDraft,
        Padding,
        Pattern,
        Precision,
        PrecisionEffect,
        Problem,
        Provenance,
        TextPreprocessing,
    )
    from model_store.publishing import activate, publish, rollback, sign, withdraw
    from model_store.removing import collect_garbage, prune
    from model_store.signing import TrustedKeys, read_signing_key, read_trusted_keys
    from model_store.store import DEFAULT_STORE, Store
except KeyboardInterrupt:  # Ctrl-C while `mora-store` starts: no traceback
    raise SystemExit(130) from None

__all__ = [
    "DEFAULT_STORE",
    "Backbone",
    "Blob",
    "Calibration",
    "CorruptError",
    "GoldenExample",
    "Graphs",
    "ImagePreprocessing",
    "ItemScores",
    "Manifest",
    "ManifestDraft",
    "NotFoundError",
    "Padding",
    "Pattern",
    "Precision",
    "PrecisionEffect",
    "Problem",
    "Provenance",
    "Store",
    "StoreError",
    "TextPreprocessing",
    "TrustedKeys",
    "UntrustedError",
    "activate",
    "blob_of",
    "collect_garbage",
    "prune",
    "publish",
    "read_signing_key",
    "read_trusted_keys",
    "rollback",
    "sign",
    "withdraw",
]
