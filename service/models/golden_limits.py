"""Settings that refuse a golden picture of a version: with them, the version can never be served."""

from __future__ import annotations

from contextlib import suppress

from model_store import Manifest, Store, StoreError
from model_store.items import pictures
from model_store.items.pictures import PictureError, PictureProblem
from service.models.refusal import RefusedError
from service.settings import Settings


class GoldenLimitError(RefusedError):
    """A golden picture is above a limit of the settings. The message names the setting."""

    def __init__(self, manifest: Manifest, problem: str) -> None:
        super().__init__("load", f"a golden picture of {manifest.task} version {manifest.version} {problem}")


def check_golden_limits(store: Store, manifest: Manifest, settings: Settings) -> None:
    """Check that the golden pictures can be decoded here. A damaged picture passes: the load check refuses it.

    Raises GoldenLimitError, RefusedError `load` for a format that this installation cannot read, or StoreError.
    """
    for blob in dict.fromkeys(example.image for example in manifest.golden if example.image is not None):
        picture, limit = store.read(blob), settings.max_image_pixels
        try:
            needed = pictures.decoding_bytes(picture, limit, manifest.image)
        except PictureError as error:
            if error.problem is PictureProblem.PIXELS:
                problem = f"has more pixels, before or after resizing, than MORA_MAX_IMAGE_PIXELS ({limit}); raise it"
                raise GoldenLimitError(manifest, problem) from error
            if error.problem is PictureProblem.DECODER:
                raise RefusedError("load", str(error)) from error
            continue
        if needed > settings.max_decode_bytes:
            problem = f"needs more memory than MORA_MAX_DECODE_BYTES ({settings.max_decode_bytes})"
            raise GoldenLimitError(manifest, f"{problem}; set it to {needed} or more")


def check_live_versions(store: Store, settings: Settings) -> None:
    """Raises ValueError if the settings refuse a golden picture of a live version.

    A version that cannot be read passes: the catalog reports it and tries again.
    """
    with suppress(OSError, StoreError):
        for task in store.tasks():
            with suppress(StoreError, OSError, RefusedError):
                _check_live_version(store, task, settings)


def _check_live_version(store: Store, task: str, settings: Settings) -> None:
    try:
        check_golden_limits(store, store.manifest(task), settings)
    except GoldenLimitError as error:
        raise ValueError(str(error)) from error
