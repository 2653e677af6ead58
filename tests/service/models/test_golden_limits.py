"""Settings below the golden pictures of a live version end the start; those of other versions are refused."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO

import pytest
from PIL import Image

from model_store import CorruptError, Store, blob_of
from service.models.loading import Loader
from service.models.refusal import RefusedError
from service.settings import Settings
from service.web.app import create_app


def with_picture(draft, size: tuple[int, int], kind: str = "PNG"):
    """The draft with a golden picture of this size. The logits no longer fit, which no limit depends on."""
    file = BytesIO()
    Image.new("RGB", size).save(file, kind)
    blob = blob_of(file.getvalue())
    golden = tuple(
        example if example.image is None else example.model_copy(update={"image": blob})
        for example in draft.manifest.golden
    )
    return replace(draft.replacing(golden=golden), blobs={**draft.blobs, blob.sha256: file.getvalue()})


LIMITS = [
    ((16, 16), {"max_image_pixels": 255}, "MORA_MAX_IMAGE_PIXELS \\(255\\)"),
    ((100, 80), {"max_image_pixels": 7_999}, "MORA_MAX_IMAGE_PIXELS \\(7999\\)"),
    ((2, 40), {"max_image_pixels": 1_000}, "MORA_MAX_IMAGE_PIXELS \\(1000\\)"),  # larger after resizing
    ((16, 16), {"max_decode_bytes": 1}, "MORA_MAX_DECODE_BYTES \\(1\\); set it to [0-9]+ or more"),
    ((300, 300), {"max_decode_bytes": 100_000}, "MORA_MAX_DECODE_BYTES \\(100000\\); set it to [0-9]+ or more"),
]


@pytest.mark.parametrize(("size", "settings", "message"), LIMITS)
def test_a_limit_below_a_golden_picture_of_a_live_version_ends_the_start(shelf, size, settings, message):
    shelf.publish("tags")
    shelf.publish_draft(with_picture(shelf.draft("fruit"), size))

    with pytest.raises(ValueError, match=f"a golden picture of (fruit|tags) version 1 .* {message}"):
        create_app(Settings(store=shelf.store.root, **settings))


@pytest.mark.parametrize(("size", "settings", "message"), LIMITS)
def test_a_version_that_comes_later_is_refused_for_now_and_names_the_setting(shelf, size, settings, message):
    shelf.publish_draft(with_picture(shelf.draft("fruit"), size))

    with pytest.raises(RefusedError, match=message) as caught:
        Loader(shelf.store, Settings(store=shelf.store.root, **settings)).load("fruit", 1)

    assert caught.value.reason == "load"


@pytest.mark.parametrize("size", [(16, 16), (300, 200), (9, 400)])
def test_the_memory_that_the_message_asks_for_is_enough(shelf, size):
    shelf.publish_draft(with_picture(shelf.draft("fruit"), size))
    with pytest.raises(ValueError, match="MORA_MAX_DECODE_BYTES") as caught:
        create_app(Settings(store=shelf.store.root, max_decode_bytes=1))

    create_app(Settings(store=shelf.store.root, max_decode_bytes=int(str(caught.value).split()[-3])))


@pytest.mark.parametrize(("kind", "decoder"), [("PNG", "zlib"), ("WEBP", "webp"), ("AVIF", "avif"), ("JPEG", "jpg")])
def test_a_picture_that_this_installation_cannot_read_is_no_fault_of_the_version(shelf, monkeypatch, kind, decoder):
    shelf.publish_draft(with_picture(shelf.draft("fruit"), (16, 16), kind))
    monkeypatch.setattr("PIL.features.check", lambda name: name != decoder)
    settings = Settings(store=shelf.store.root)
    create_app(settings)

    with pytest.raises(RefusedError, match="Pillow was built without (?i:" + kind + ")") as caught:
        Loader(shelf.store, settings).load("fruit", 1)

    assert caught.value.reason == "load"


def locked(self: Store) -> None:
    raise CorruptError(f"{self.root}/tasks cannot be read (Permission denied)", "unreadable")


@pytest.mark.parametrize("damage", ["no store", "a file", "locked", "damaged picture", "manifest", "no task"])
def test_a_store_that_cannot_be_read_does_not_end_the_start(shelf, monkeypatch, damage):
    draft = shelf.draft()
    if damage != "no task":
        shelf.publish_draft(draft)
    if damage == "no store":
        shelf.store.root.rename(shelf.store.root.with_name("away"))
    elif damage == "a file":
        shelf.store.root.rename(shelf.store.root.with_name("away"))
        shelf.store.root.touch()
    elif damage == "locked":
        monkeypatch.setattr(Store, "entries", locked)
    elif damage == "damaged picture":
        (shelf.store.root / "blobs/sha256" / draft.manifest.golden[0].image.sha256).write_bytes(b"?")
    elif damage == "manifest":
        (shelf.store.root / "tasks/fruit/1/manifest.json").write_text("{}")

    create_app(Settings(store=shelf.store.root, max_image_pixels=1))
