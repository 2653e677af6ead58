"""Rows I1 to I14 of the fault table, I6 excepted: ordinary and hostile content of requests."""

from __future__ import annotations

import itertools
import json
import random
import re
import socket
import struct
import time
import warnings
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from model_store import DEFAULT_STORE, Store
from model_store.items.cells import is_missing
from service.models.preparation import TextTokenizer
from tests.support.faults.asking import Client
from tests.support.faults.attacking import (
    FORM,
    Target,
    as_base64,
    as_form,
    as_json,
    assert_problem,
    encoded,
)
from tests.support.faults.tracing import traced
from tests.support.tiny import PICTURE, TinyTask, make_draft
from tests.support.waiting import wait_until

MIB = 1 << 20


# The tools first: each must see what it is there to see.


def test_control_an_uncounted_refusal_is_found(target):
    with pytest.raises(AssertionError), target.unharmed(bad_json=2):
        target.send(b"{")


def test_control_a_changed_answer_is_found(target, monkeypatch):
    monkeypatch.setattr("tests.support.faults.attacking.PICTURE", flat((16, 16), "PNG"))
    with pytest.raises(AssertionError), target.unharmed():
        pass


def test_control_a_connection_left_open_is_found(target, monkeypatch):
    monkeypatch.setattr("tests.support.faults.attacking.wait_until", lambda is_so, _: wait_until(is_so, 0.3))
    with (
        socket.create_connection(("127.0.0.1", target.running.port)),
        pytest.raises(AssertionError, match="left open"),
        target.unharmed(),
    ):
        pass


def test_control_an_answer_that_repeats_its_input_is_found(target):
    with pytest.raises(AssertionError):
        assert_problem(target.send(b"{"), 400, "bad_json", "not JSON")


# I1, I2, I3: JSON


def test_every_prefix_of_a_body_is_refused(target, reliability):
    body = as_json(image=as_base64(PICTURE[:60]), top_k=3)
    form = as_form(("task", b"fruit"), ("text", b"a red apple"), ("image", PICTURE[:60]))
    ends = range(len(form) - len(b"--\r\n") + 1)  # what comes after the last boundary is no part of the form
    with target.unharmed(bad_json=len(body), bad_multipart=len(ends)):
        for end in range(len(body)):
            assert_problem(target.send(body[:end]), 400, "bad_json")
        for end in ends:
            assert_problem(target.send(form[:end], FORM), 400, "bad_multipart")
    reliability(
        "I1: every prefix of a JSON body and of a form",
        "400, counted, service unharmed",
        f"{len(body)} + {len(ends)} of {len(body) + len(ends)}",
    )


def nested(depth: int, opening: str = "[", closing: str = "]") -> bytes:
    """A body of so many levels."""
    return b'{"text": ' + (opening * (depth - 1) + closing * (depth - 1)).encode() + b"}"


def test_json_may_be_32_levels_deep(target, reliability):
    bodies = [nested(depth) for depth in (33, 100, 250_000)]
    bodies += [b"[" * depth for depth in (100, 250_000)]
    bodies += [b'{"a":' * 100_000, b'{"text":' + b'{"a":' * 100 + b"1" + b"}" * 101]
    with target.unharmed(bad_value=1, bad_json=len(bodies)):
        assert_problem(target.send(nested(32)), 422, "bad_value")  # read, and no text
        for body in bodies:
            assert_problem(target.send(body), 400, "bad_json")
    reliability("I2: JSON nested 33, 100 and 250,000 levels deep", "400, service unharmed", f"{len(bodies)} of 7")


NUMBERS = ["9" * 5_000, "-" + "9" * 5_000, "1." + "0" * 5_000, "1e999", "-1e999", "NaN", "Infinity", "-Infinity"]


@pytest.mark.parametrize("field", ["task", "text", "image", "top_k", "version"])
def test_invalid_numbers_are_refused_in_every_field(target, field):
    with target.unharmed(bad_value=len(NUMBERS)):
        for number in NUMBERS:
            fields = {"task": '"fruit"', "text": '"a"', field: number}
            body = "{" + ", ".join(f'"{name}": {value}' for name, value in fields.items()) + "}"
            assert_problem(target.send(body.encode()), 422, "bad_value", "9999", "1e999")


def test_invalid_numbers_are_refused_in_a_form(target):
    numbers = [number for number in NUMBERS if not number.startswith("1.0")]  # as text that is 1, written at length
    numbers += ["0", "-1", "1.5", "0x10", "1 0"]
    with target.unharmed(bad_value=2 * len(numbers)):
        for number, name in itertools.product(numbers, ["top_k", "version"]):
            form = as_form(("task", b"fruit"), ("text", b"a"), (name, number.encode()))
            reply = target.send(form, FORM)
            assert reply.status == 422, number
            assert_problem(reply, 422, "bad_value", "9999")


# I4, I5: texts


def is_unicode(text: str) -> bool:
    try:
        json.loads(json.dumps(text)).encode()
    except UnicodeEncodeError:
        return False
    return True


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(st.characters(exclude_categories=()) | st.sampled_from("\x00\ufeff\ud800\udfff\u202e"), min_size=1))
def test_a_text_is_answered_if_and_only_if_it_is_unicode(target, text):
    reply = target.send(as_json(text=text))
    if is_missing(text):
        assert_problem(reply, 422, "missing_input")
    elif is_unicode(text):
        assert reply.status == 200
    else:
        assert_problem(reply, 422, "bad_text")


def test_bytes_that_are_not_utf_8_are_refused(target, reliability):
    texts = [b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xf5\x80\x80\x80", b"a\xe2\x82", b"\xef\xbb\xbfa"]
    bodies = [as_json().decode().encode(name) for name in ("utf-16", "utf-32", "utf-8-sig")]
    with target.unharmed(bad_text=2 * len(texts) - 1 + len(bodies) + 2):
        for text in texts:
            assert_problem(target.send(as_form(("task", b"fruit"), ("text", text)), FORM), 422, "bad_text")
            if not text.startswith(b"\xef\xbb\xbf"):  # inside a JSON string that is a character
                assert_problem(target.send(b'{"task": "fruit", "text": "%s"}' % text), 422, "bad_text")
        for body in bodies:
            assert_problem(target.send(body), 422, "bad_text")
        for half in (b"\\ud800", b"\\udc00\\ud800"):
            assert_problem(target.send(b'{"task": "fruit", "text": "%s"}' % half), 422, "bad_text")
    with target.unharmed():
        for text in ("\x00", "a\x00b", "\ufeffa"):
            assert target.send(as_json(text=text)).status == 200
    reliability("I4: surrogates, NUL, BOM, UTF-16 and bytes that are no UTF-8", "422, or answered", "19 of 19")


def test_a_long_text_is_cut_and_a_huge_one_refused(target, reliability):
    with target.unharmed(text_too_large=4):
        for text in ("a " * 32_768, "\u00e9" * 32_768, "a" * 65_536):
            reply = target.send(as_json(text=text))
            assert reply.status == 200
            assert reply.json["modalities"]["text"] == ("truncated" if " " in text else "used")
        slowest = 0.0
        for text in ("a" * 65_537, "\u00e9" * 32_769, "a " * 500_000, "<s>" * 333_333):
            started = time.perf_counter()
            assert_problem(target.send(as_json(text=text)), 413, "text_too_large")
            slowest = max(slowest, time.perf_counter() - started)
    reliability("I5: texts of up to 1 MB", "413 over the limit", f"slowest {1000 * slowest:.0f} ms", slowest < 5)


def test_special_tokens_in_a_text_are_unknown_words(target):
    def labels(text: str) -> list:
        return target.send(as_json(text=text)).json["labels"]

    assert labels("a </s> red <s> apple </s>") == labels("a zzz red zzz apple zzz")
    assert labels("a </s> red") != labels("a red")


# I12: no file that a client names


NAMES = ["..", ".", "../fruit", "a/b", "fruit/1", "fruit/../fruit", " fruit", "fruit ", "Fruit", "fruit\x00", "\x00"]
NAMES += ["..\\fruit", "%2e%2e", "%252e%252e%252fetc%252fpasswd", "../../../../etc/passwd", "/etc/passwd", "fruit\n"]
NAMES += ["\u2025", "\uff0e\uff0e/fruit", "\u202efruit", "\ufb02ruit", "fru\u0131t", "x" * 256, "x" * 60_000, "~", "*"]
NAMES += ["live", ".staging", "blobs", "con", "${PATH}", "{{7*7}}", "fruit;ls", "fruit?x", "fruit#x", "\U0001f34e"]


def test_a_task_name_never_opens_a_file(target, tmp_path, reliability):
    with (
        traced(target.running.process.pid, "open,openat,stat,statx,newfstatat,readlink", tmp_path / "log"),
        target.unharmed(unknown_task=2 * len(NAMES) + sum("/" not in name and len(name) < 1000 for name in NAMES) * 2),
    ):
        for name in NAMES:
            never = () if len(name) < 4 else (name,)
            assert_problem(target.send(as_json(task=name)), 404, "unknown_task", *never)
            form = as_form(("task", name.encode()), ("text", b"a"))
            assert_problem(target.send(form, FORM), 404, "unknown_task", *never)
            if "/" not in name and len(name) < 1000:
                for path in ("/tasks", "/v2/models"):
                    assert target.send(None, None, f"{path}/{quote(name, safe='')}", "GET").code == "unknown_task"
    lines = (tmp_path / "log").read_text().splitlines()
    opened = {path for line in lines for path in re.findall(r'"([^"]*)"', line)}
    command = target.running.process.args
    own = (command[command.index("--store") + 1], "/proc", "/sys", str(Path(__file__).parents[3] / "service"))
    relative = {"", "tasks", "fruit", "tags", "live"}  # how the store is read
    strange = {path for path in opened if path not in relative and not path.startswith(own)}
    assert len(opened) > 0  # the service looks for new versions all the time
    reliability("I12: task names that look like paths", "404, no file opened", f"{len(NAMES)}, {strange}", not strange)


# I7, I8, I9, I10: pictures


def flat(size: tuple[int, int], file_format: str, mode: str = "L", **options: object) -> bytes:
    """A picture of one colour, which is much smaller than what it decodes to."""
    return encoded(Image.new(mode, size), file_format, **options)


def png_of_zeros(width: int, height: int) -> bytes:
    """A black PNG of one bit a pixel, made without holding its pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    rows = zlib.compress(bytes(height * (1 + -(-width // 8))), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def peak_rise(target: Target, bodies: list[bytes]) -> tuple[list, int]:
    """The replies to requests that are sent together, and how much more memory the service held meanwhile."""
    pid = target.running.process.pid
    before = target.running.resident_bytes
    Path(f"/proc/{pid}/clear_refs").write_text("5")  # the peak counts from here

    def send(body: bytes) -> object:
        alone = Client(target.port)
        try:
            return alone.send(body)
        finally:
            alone.close()

    with ThreadPoolExecutor(len(bodies)) as pool:
        replies = list(pool.map(send, bodies))
    status = Path(f"/proc/{pid}/status").read_text()
    return replies, 1024 * int(re.search(r"VmHWM:\s+(\d+)", status)[1]) - before


def as_item(data: bytes) -> bytes:
    return json.dumps({"task": "fruit", "image": as_base64(data)}).encode()


def test_a_decompression_bomb_is_refused_from_its_header(target, reliability):
    bombs = [
        (png_of_zeros(20_000, 20_000), "pixels"),
        (png_of_zeros(7_072, 7_072), "pixels"),  # 50,013,184: just over
        (png_of_zeros(50_000, 50_000)[:60], "pixels"),
        (flat((16_383, 3_060), "WEBP", "RGB", lossless=True, quality=0, method=0), "pixels"),
        (flat((7_100, 7_100), "JPEG", quality=1)[:130_000], "pixels"),
        (flat((7_100, 7_100), "GIF", "P"), "pixels"),
        (flat((1, 1), "GIF", "P").replace(b",\0\0\0\0\1\0\1\0", b",\0\0\0\0\xff\xff\xff\xff"), "pixels"),
        (flat((3_000, 3_000), "TIFF", "1", compression="group4"), "image_format"),
    ]
    worst, sizes = 0, []
    for bomb, reason in bombs:
        sizes.append(len(bomb))
        with target.unharmed(**{reason: 8}):
            replies, rise = peak_rise(target, [as_item(bomb)] * 8)
            for reply in replies:
                if reason == "pixels":
                    assert_problem(reply, 413, "image_too_many_pixels")
                else:
                    assert_problem(reply, 415, "image_format")
        worst = max(worst, rise)
    reliability(
        f"I7: {len(bombs)} decompression bombs of {min(sizes)} to {max(sizes)} bytes, 8 of each at once",
        "413 or 415, at most 150 MiB more memory",
        f"{worst / MIB:.0f} MiB",
        worst <= 150 * MIB,
    )


@pytest.fixture(scope="module")
def large() -> list[bytes]:
    """Eight requests with pictures of 5.8 million pixels, which are allowed."""
    return [as_item(flat((2_400, 2_400), "PNG", "RGBA"))] * 8


@pytest.mark.slow
def test_pictures_decoded_together_share_a_budget(shelf, server, attack, large, reliability):
    shelf.publish("fruit")
    target = attack(server(shelf.store, preparation_workers=8, max_decode_bytes=50_000_000))
    before = target.running.resident_bytes
    with target.unharmed():
        replies, rise = peak_rise(target, large)
    kept = target.running.resident_bytes - before
    assert [reply.status for reply in replies] == [200] * 8  # they wait and are not refused
    reliability(
        "I7: 8 pictures of 5.8 MP at once, MORA_MAX_DECODE_BYTES 50 MB",
        "answered, at most 150 MiB more memory, 100 afterwards",
        f"{rise / MIB:.0f} MiB, {kept / MIB:.0f} afterwards",
        rise <= 150 * MIB and kept <= 100 * MIB,
    )


def test_control_without_a_budget_memory_exceeds_the_limit(shelf, server, attack, large, reliability):
    """The planted fault: a budget that is none."""
    shelf.publish("fruit")
    target = attack(server(shelf.store, preparation_workers=8, max_decode_bytes=10**10))
    _, rise = peak_rise(target, large)
    reliability("*control*: I7 without a budget", "over 150 MiB", f"{rise / MIB:.0f} MiB", rise > 150 * MIB)


def written_formats() -> Iterator[tuple[str, bytes]]:
    """A small picture in every format that Pillow writes."""
    Image.init()
    for name in sorted(Image.SAVE):
        for mode in ("RGB", "L", "P", "1", "F", "RGBA"):
            file = BytesIO()
            try:
                with warnings.catch_warnings(action="ignore"):  # some formats are on their way out
                    Image.linear_gradient("L").resize((64, 64)).convert(mode).save(file, name)
            except (OSError, ValueError, KeyError, TypeError):
                continue
            yield name, file.getvalue()
            break


def test_the_file_name_does_not_decide_the_format(target, reliability):
    files = [
        (name, data) for name, data in written_formats() if name not in ("PNG", "JPEG", "WEBP", "AVIF", "GIF", "MPO")
    ]
    files += [("SVG", b"<svg xmlns='http://www.w3.org/2000/svg'/>"), ("EPS", b"%!PS-Adobe-3.0 EPSF-3.0\n")]
    files += [("HTML", b"<html></html>"), ("FITS", b"SIMPLE  =                    T"), ("ELF", b"\x7fELF")]
    assert len({name for name, _ in files}) >= 20
    with target.unharmed(image_format=2 * len(files)):
        for _, data in files:
            form = as_form(("task", b"fruit"), ("image", data))
            form = form.replace(b'name="image"', b'name="image"; filename="a.png"\r\nContent-Type: image/png')
            assert_problem(target.send(form, FORM), 415, "image_format")
            assert_problem(target.send(as_item(data)), 415, "image_format")
    names = {name for name, _ in files}
    reliability("I8: other formats called .png", "415 for each", f"{len(names)} of {len(names)} formats")


def mutated(data: bytes, chance: random.Random) -> bytes:
    """The file with some bytes changed, moved, doubled or cut off."""
    changed = bytearray(data)
    for _ in range(chance.randint(1, 8)):
        place, length = chance.randrange(len(changed)), chance.randint(1, 16)
        kind = chance.randrange(5)
        if kind == 0:
            changed[place] = chance.randrange(256)
        elif kind == 1:
            changed[place : place + length] = chance.randbytes(length)
        elif kind == 2 and len(changed) > 40:
            del changed[place : place + length]
        elif kind == 3:
            changed[place:place] = changed[place : place + length]
        elif len(changed) > 40:
            del changed[chance.randrange(12, len(changed)) :]
    return bytes(changed)


def test_a_damaged_picture_is_answered_or_refused(target, counts, reliability):
    chance, seen = random.Random(0), dict.fromkeys((200, 413, 415, 422), 0)  # noqa: S311
    picture = Image.linear_gradient("L").resize((40, 30)).convert("RGB")
    files = [
        encoded(picture, name, **more)
        for name, more in [("PNG", {}), ("JPEG", {}), ("WEBP", {}), ("AVIF", {}), ("GIF", {})]
    ]
    files += [encoded(picture, "JPEG", progressive=True), encoded(picture, "WEBP", lossless=True)]
    files += [encoded(picture.convert("P"), "PNG"), encoded(picture.convert("CMYK"), "JPEG")]
    number = counts(300, 120_000)
    before = target.running.resident_bytes
    for turn in range(number):
        data = mutated(files[turn % len(files)], chance)
        reply = target.send(as_form(("task", b"fruit"), ("image", data)), FORM)
        seen[reply.status] += 1
    with target.unharmed():
        pass
    rise = target.running.resident_bytes - before
    measured = ", ".join(f"{status}: {times}" for status, times in seen.items()) + f"; {rise / MIB:.0f} MiB more memory"
    reliability(
        f"I9: {number} damaged pictures",
        "200, 413, 415 or 422, memory stays",
        measured,
        seen[422] > 0 and rise < 64 * MIB,
    )


def odd_pictures() -> Iterator[tuple[str, bytes, int]]:
    """Name, file, status."""
    gradient = Image.linear_gradient("L").resize((48, 32))
    colour = Image.merge("RGB", [gradient, gradient.rotate(180), ImageOps.invert(gradient)])
    for size in [(1, 1), (1, 2), (2, 1), (1, 5_000), (5_000, 1), (3, 3), (17, 16)]:
        for name in ("PNG", "JPEG", "WEBP", "AVIF", "GIF"):
            yield f"{name} {size}", encoded(Image.new("RGB", size, "red"), name), 200
    yield "PNG 1 x 65535", flat((1, 65_535), "PNG"), 200
    yield "JPEG 65500 x 1", flat((65_500, 1), "JPEG"), 200
    yield "PNG 1 x 1000000", flat((1, 1_000_000), "PNG"), 413  # resized, it would be far too large
    for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"):
        yield f"PNG {mode}", encoded(colour.convert("L").convert(mode) if mode == "I;16" else colour.convert(mode)), 200
    for mode in ("L", "CMYK", "RGB"):
        yield f"JPEG {mode}", encoded(colour.convert(mode), "JPEG", progressive=mode == "L"), 200
    yield "GIF interlaced", encoded(colour.convert("P"), "GIF", interlace=True), 200
    yield "GIF without a frame", b"GIF89a\4\0\4\0\0\0\0;", 422
    yield "WebP lossless", encoded(colour.convert("RGBA"), "WEBP", lossless=True), 200
    for number in range(1, 10):
        exif = Image.Exif()
        exif[0x0112] = number
        yield f"JPEG orientation {number}", encoded(colour, "JPEG", exif=exif), 200
    yield "no bytes, as a form", b"", 422
    yield "a signature alone", b"\x89PNG\r\n\x1a\n", 422
    yield "a start marker alone", b"\xff\xd8\xff", 422
    yield "RIFF without WebP", b"RIFF\x04\x00\x00\x00WAVE", 415
    yield "RIFF WebP alone", b"RIFF\x04\x00\x00\x00WEBP", 422
    yield "a PNG behind a space", b" " + PICTURE, 415
    yield "a PNG with more behind it", PICTURE + b"<script>" * 100, 200


@pytest.mark.slow
def test_unusual_pictures_are_answered_or_refused(target, reliability):
    pictures = list(odd_pictures())
    for name, data, status in pictures:
        reply = target.send(as_form(("task", b"fruit"), ("image", data)), FORM)
        assert reply.status == status, (name, reply.body)
        again = target.send(as_form(("task", b"fruit"), ("image", data)), FORM)
        assert again.json.get("labels") == reply.json.get("labels")
    with target.unharmed():
        pass
    reliability("I10: unusual pictures", "each as defined, the same twice", f"{len(pictures)} of {len(pictures)}")


def labels(target: Target, data: bytes) -> list:
    reply = target.send(as_form(("task", b"fruit"), ("image", data)), FORM)
    assert reply.status == 200, reply
    return reply.json["labels"]


@pytest.mark.parametrize("file_format", ["PNG", "WEBP", "GIF"])
def test_an_animation_is_classified_by_its_first_frame(target, file_format):
    gradient = Image.linear_gradient("L").resize((20, 20)).convert("RGB")
    frames = [gradient, gradient.rotate(90), gradient.rotate(180)]
    moving = encoded(frames[0], file_format, save_all=True, append_images=frames[1:], lossless=True, duration=50)
    assert labels(target, moving) == labels(target, encoded(frames[0], file_format, lossless=True))
    assert labels(target, moving) != labels(target, encoded(frames[1], file_format, lossless=True))


# I11: what does not go together


def test_every_task_with_every_modality(target, reliability):
    parts = {"image": (as_base64(PICTURE), PICTURE), "text": ("a red apple", b"a red apple")}
    sent = 0
    for task, present, empty in itertools.product(
        ("fruit", "tags", "nothing", "", None), itertools.product((False, True), repeat=2), ("", None)
    ):
        names = [name for name, is_given in zip(parts, present, strict=True) if is_given]
        fields = {name: parts[name][0] if name in names else empty for name in parts}
        form = [(name, parts[name][1]) for name in names] + [(name, b"") for name in parts if name not in names]
        if task is not None:
            fields, form = {"task": task, **fields}, [("task", task.encode()), *form]
        if not names:
            status, code = 422, "missing_input"
        elif task == "nothing":
            status, code = 404, "unknown_task"
        elif not task:
            status, code = 422, "bad_value"
        else:
            status, code = 200, None
        for reply in (target.send(json.dumps(fields).encode()), target.send(as_form(*form), FORM)):
            sent += 1
            if code is None:
                used = {name: "used" if name in names else "absent" for name in parts}
                assert (reply.status, reply.json["task"], reply.json["modalities"]) == (200, task, used)
            else:
                assert_problem(reply, status, code)
    with target.unharmed(extra_field=6):
        for name in ("Task", "images", "__proto__"):
            assert_problem(target.send(as_json(**{name: "x"})), 422, "extra_field", name)
            form = as_form(("task", b"fruit"), ("text", b"a"), (name, b"x"))
            assert_problem(target.send(form, FORM), 422, "extra_field", name)
    reliability("I11: every task with every modality, as JSON and as a form", "as the table says", f"{sent} of {sent}")


# I13: what is too large is not read


def test_a_body_of_a_gigabyte_is_cut_off_at_the_limit(target, reliability):
    limit, sent = 2_000_000, 0
    chunk = b"10000\r\n" + b" " * 65_536 + b"\r\n"
    head = b"POST /classify HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    io = Path(f"/proc/{target.running.process.pid}/io")

    def bytes_read() -> int:
        return int(re.search(r"rchar: (\d+)", io.read_text())[1])

    before = bytes_read()
    assert target.send(as_json().ljust(limit)).status == 200
    assert bytes_read() - before >= limit  # so the count sees what is read

    with target.unharmed(body_too_large=1):
        before = bytes_read()
        with socket.create_connection(("127.0.0.1", target.running.port), timeout=20) as connection:
            connection.sendall(head)
            try:
                while sent < 1 << 30:
                    connection.sendall(chunk)
                    sent += len(chunk)
            except ConnectionError:
                pass
            accepted = bytes_read() - before
            answer = connection.recv(65_536)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert sent < 1 << 30
    over = accepted - limit
    reliability(
        "I13: 1 GB in chunks",
        "413 while it is sent, at most the limit and 320 KiB read",
        f"{over} bytes over",
        over <= 320 << 10,
    )


# I14: a model that answers NaN


def nan_for_green(draft):
    """A task whose text tower is sound but for one word."""

    class Poisoned(TinyTask):
        def weights(self) -> dict[str, np.ndarray]:
            found = super().weights()
            found["text_trunk"][3] = np.nan  # "green"
            return found

    return draft.replacing_graph("text_trunk", Poisoned("fruit", 1).graphs()["text_trunk"])


def test_an_input_that_gives_nan_is_refused_and_the_version_stays(shelf, server, attack, reliability):
    shelf.publish_draft(nan_for_green(shelf.draft("fruit")))
    target = attack(server(shelf.store))
    with target.unharmed(model_nonfinite=12):
        for _ in range(12):
            assert_problem(target.send(as_json(text="green")), 500, "model_nonfinite", "green")
            assert target.send(as_json(text="red")).status == 200
    assert target.running.metric('mora_nonfinite_total{task="fruit"}') == 12
    reliability("I14: 12 inputs that make a sound model answer NaN", "500, counted; the version stays", "12 of 12")


def test_a_model_of_nan_is_not_loaded(shelf, server, attack, reliability):
    shelf.publish("fruit")
    target = attack(server(shelf.store))
    draft = make_draft(TinyTask("fruit", 2))
    weights = TinyTask("fruit", 2).weights()
    weights["text_tail"][:] = np.nan

    class Broken(TinyTask):
        def weights(self) -> dict[str, np.ndarray]:
            return weights

    shelf.publish_draft(draft.replacing_graph("text_tail", Broken("fruit", 2).graphs()["text_tail"]))
    refused = 'mora_model_loads_total{result="refused",task="fruit"}'
    assert wait_until(lambda: target.running.metric(refused) == 1, 20)
    with target.unharmed():
        assert target.send(as_json()).json["version"] == 1
    reliability("I14: a version with weights of NaN", "refused; the old one answers", "refused")


def test_the_tokenizer_does_not_hang_on_the_longest_texts(reliability):
    store = Store(DEFAULT_STORE)
    manifest = store.manifest("clipart-category", store.live("clipart-category"))
    tokenizer = TextTokenizer(store.read(manifest.text.tokenizer), manifest.text.max_length)
    slowest = 0.0
    for text in (
        "a" * 65_536,
        "ab" * 32_768,
        " " * 65_536,
        "\u00e9" * 32_768,
        "<|endoftext|>" * 5_000,
        "a b " * 16_384,
    ):
        started = time.perf_counter()
        assert tokenizer.tokenize(text).input_ids.shape[1] <= manifest.text.max_length
        slowest = max(slowest, time.perf_counter() - started)
    reliability("I5: the longest texts, tokenized", "no hang", f"slowest {1000 * slowest:.0f} ms", slowest < 10)
