"""Damaged pictures by the thousand, and bombs."""

from __future__ import annotations

import json
from base64 import b64encode
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from PIL import Image

from model_store import ImagePreprocessing
from model_store.items import pixels
from model_store.items.pictures import PictureError, PictureProblem, pixel_values
from tests.support.faults.asking import Sent, ask, golden
from tests.support.faults.mutation import dice
from tests.support.faults.pictures import LARGEST, bombs, damaged, encoded, large, seeds
from tests.support.faults.raw_fuzz import FOUND
from tests.support.sampling import each
from tests.support.tiny import Shelf

THREADS = 8
MOST_PIXELS = 2_000_000
MOST_GROWTH_BYTES = 150 * 2**20
TOO_LARGE = {
    "RGBA PNG": 7_000,
    "progressive JPEG": 7_000,
    "WebP": 7_000,
    "AVIF": 7_000,
    "partial GIF": 7_000,
}  # under MORA_MAX_IMAGE_PIXELS all the same
QUICK = ["AVIF"]  # kinds that `make test` tries
ALLOWED = {PictureProblem.FORMAT, PictureProblem.PIXELS, PictureProblem.UNDECODABLE}
PREPROCESSING = ImagePreprocessing(
    shortest_edge=32, crop=(32, 32), resample="bicubic", mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25)
)


def prepare(data: bytes) -> str:
    """What becomes of a picture: `ok`, or the problem it is refused for."""
    try:
        values = pixel_values(data, PREPROCESSING, MOST_PIXELS)
    except PictureError as error:
        if error.problem not in ALLOWED:
            raise
        return error.problem
    assert values.shape == (3, 32, 32)
    return "ok"


def try_damaged(count: int, seed: int, prepare: Callable[[bytes], str]) -> tuple[Counter[str], list[str]]:
    """Outcomes of `count` damaged pictures on several threads, and unexpected exceptions, whose bytes are kept."""
    pictures = seeds()

    def one(number: int) -> str | tuple[str, str]:
        data = damaged(pictures, dice(seed, number))
        try:
            return prepare(data)
        except Exception as error:
            FOUND.mkdir(parents=True, exist_ok=True)
            path = FOUND / f"picture-{seed}-{number}.bin"
            path.write_bytes(data)
            return str(path), f"{type(error).__name__}: {error}"

    with ThreadPoolExecutor(THREADS) as threads:
        found = list(threads.map(one, range(count)))
    return Counter(what for what in found if isinstance(what, str)), [
        f"{path}: {why}" for path, why in (what for what in found if isinstance(what, tuple))
    ]


@pytest.mark.filterwarnings("ignore")  # Pillow warns of damage on threads, where pytest's filter makes errors of it
def test_a_damaged_picture_is_decoded_or_refused(counts, reliability):
    outcomes, problems = try_damaged(counts(3_000, 120_000), seed=1, prepare=prepare)

    assert problems == []
    assert outcomes.keys() == {"ok", *ALLOWED}
    reliability(
        f"damaged pictures through the decoder, {THREADS} threads",
        "decoded, or refused as format, pixels or damage",
        ", ".join(f"{count} x {what}" for what, count in sorted(outcomes.items())),
    )


@pytest.mark.filterwarnings("ignore")
def test_control_an_exception_of_the_decoder_is_found(monkeypatch, reliability):
    rgb_over_white = pixels.rgb_over_white

    def planted(picture, orientation=1):
        if picture.mode == "CMYK":
            raise MemoryError("planted")
        return rgb_over_white(picture, orientation)

    def lets_through(data: bytes) -> str:
        try:
            return prepare(data)
        except PictureError as error:  # what a decoder without its last `except` would do
            raise error.__cause__ or error from None

    monkeypatch.setattr(pixels, "rgb_over_white", planted)
    monkeypatch.setitem(globals(), "ALLOWED", ALLOWED - {PictureProblem.UNDECODABLE})
    _, problems = try_damaged(300, seed=2, prepare=prepare)

    assert problems
    assert all(Path(problem.split(":")[0]).read_bytes() for problem in problems)
    reliability("*control*: an image decoder that raises an unexpected error", "found", f"{len(problems)} of 300")


@pytest.mark.slow
def test_damaged_pictures_and_bombs_over_http_are_answered_or_refused(shelf, server, counts, reliability):
    shelf.publish("fruit")
    running = server(shelf.store)
    before, pictures = golden(running.base), seeds()
    ask(running.base, [_post(picture, 0) for picture in pictures], at_once=8)
    warm_bytes = _peak_from_here(running)
    count, statuses = counts(100, 120_000), Counter[int]()
    for start in range(0, count, 5_000):
        numbers = range(start, min(start + 5_000, count))
        posts = [_post(damaged(pictures, dice(3, number)), number) for number in numbers]
        statuses.update(answer.status for answer in ask(running.base, posts, at_once=8))
    posts = [_post(bomb, number) for number, bomb in enumerate(bombs())]
    statuses.update(answer.status for answer in ask(running.base, posts, at_once=8))

    grown = running.peak_bytes - warm_bytes
    assert golden(running.base) == before
    reliability(
        f"{count} damaged pictures over HTTP, as forms and as base64, then 40 bombs, 8 at once",
        "200, 413, 415, 422; peak of resident memory at most +150 MiB",
        f"{dict(statuses)}; {grown / 2**20:+.1f} MiB",
        statuses.keys() <= {200, 413, 415, 422} and grown <= MOST_GROWTH_BYTES,
    )


@pytest.mark.slow
def test_bombs_are_refused_before_they_unpack(shelf, server, reliability):
    shelf.publish("fruit")
    running = server(shelf.store)
    before = golden(running.base)
    ask(running.base, [_post(picture, 0) for picture in seeds()], at_once=8)
    warm_bytes = _peak_from_here(running)

    answers = ask(running.base, [_post(bomb, number) for number, bomb in enumerate(bombs())], at_once=8)

    statuses = Counter(answer.status for answer in answers)
    grown = running.peak_bytes - warm_bytes
    assert golden(running.base) == before
    reliability(
        "40 picture bombs of at most 128 KiB, 8 at once",
        "200, 413, 415, 422; peak of resident memory at most +150 MiB",
        f"{dict(statuses)}; {grown / 2**20:+.1f} MiB",
        statuses.keys() <= {200, 413, 415, 422} and {413, 415} <= statuses.keys() and grown <= MOST_GROWTH_BYTES,
    )


@pytest.mark.parametrize("kind", each(LARGEST, QUICK))
def test_the_largest_pictures_that_are_allowed_share_the_budget(kind, shelf, server, counts, reliability):
    count, edge = counts(2, 8), LARGEST[kind]
    grown, statuses = _growth(large(kind, edge), count, shelf, server)

    reliability(
        f"{count} x {kind} of {edge**2 / 1e6:.0f} megapixels, the largest allowed, {count} at once",
        "answered; peak of resident memory at most +150 MiB",
        f"{dict(statuses)}; {grown / 2**20:+.0f} MiB",
        statuses.keys() == {200} and grown <= MOST_GROWTH_BYTES,
    )


@pytest.mark.parametrize("kind", each(TOO_LARGE, QUICK))
@pytest.mark.slow
def test_pictures_that_would_take_more_than_the_budget_are_refused(kind, shelf, server, counts, reliability):
    count, edge = counts(2, 8), TOO_LARGE[kind]
    grown, statuses = _growth(large(kind, edge), count, shelf, server)

    reliability(
        f"{count} x {kind} of {edge**2 / 1e6:.0f} megapixels, {count} at once",
        "413; peak of resident memory at most +16 MiB",
        f"{dict(statuses)}; {grown / 2**20:+.0f} MiB",
        statuses.keys() == {413} and grown <= 2**24,
    )


def test_control_without_a_budget_pictures_exceed_the_limit(shelf, server, reliability):
    grown, _ = _growth(large("WebP", 4_000), 4, shelf, server, max_decode_bytes=10**11, preparation_workers=4)

    reliability(
        "*control*: 4 x WebP of 16 megapixels at once, at a service without a budget",
        "found: more than +150 MiB",
        f"{grown / 2**20:+.0f} MiB",
        grown > MOST_GROWTH_BYTES,
    )


def _growth(picture: bytes, count: int, shelf: Shelf, server, **settings: object) -> tuple[int, Counter[int]]:
    """By how many bytes the service's memory grew at most, and what it answered to so many of a picture at once."""
    shelf.publish("fruit")
    running = server(shelf.store, timeout_ms=120_000, **settings)
    golden(running.base)
    warm_bytes = _peak_from_here(running)
    answers = ask(running.base, [_post(picture, number) for number in range(count)], at_once=count)
    return running.peak_bytes - warm_bytes, Counter(answer.status for answer in answers)


def test_control_an_accepted_bomb_exceeds_the_memory_limit(shelf, server, reliability):
    shelf.publish("fruit")
    running = server(shelf.store, max_image_pixels=70_000_000, max_decode_bytes=10**11)
    warm_bytes = running.resident_bytes

    ask(running.base, [_post(encoded(Image.new("RGB", (8_000, 8_000)), "WEBP", lossless=True, method=0), 0)])

    grown = running.peak_bytes - warm_bytes
    reliability(
        "*control*: a bomb at a service with a higher limit",
        "found: more than +150 MiB",
        f"{grown / 2**20:+.0f} MiB",
        grown > MOST_GROWTH_BYTES,
    )


def _peak_from_here(running) -> int:
    """The resident bytes of a service, whose peak starts again from there."""
    Path(f"/proc/{running.process.pid}/clear_refs").write_text("5")
    return running.resident_bytes


def _post(data: bytes, number: int) -> Sent:
    """As a form or as JSON, in turn."""
    if number % 2:
        return Sent("/classify", json.dumps({"image": b64encode(data).decode()}).encode())
    head = b'--edge-of-a-part\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n'
    return Sent(
        "/classify", head + data + b"\r\n--edge-of-a-part--\r\n", "multipart/form-data; boundary=edge-of-a-part"
    )
