"""Texts never wait for pictures, and no thread waits for memory."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest

import service.inference.preparation as preparation_module
from service.api.item import Item
from service.errors import Code, ServiceError
from service.inference.preparation import Preparation
from service.settings import Settings

MEMORY = 100
ALL, HALF, LITTLE = b"\x64", b"\x32", b"\x01"  # pictures whose only byte is the memory that they take
SHORT, LONG = "a" * 512, "a" * 513  # a text that is tokenized on the event loop, and a longer one


class HeldModel:
    """Decodes a picture, and tokenizes a long text, when it may; `headers` are the pictures whose header was read."""

    def __init__(self) -> None:
        self.headers: list[bytes] = []
        self.may_decode, self.may_tokenize = threading.Event(), threading.Event()
        self.decoding = threading.Event()
        self.tokenizer = SimpleNamespace(tokenize=self.tokenize)

    def decoding_bytes(self, picture: bytes) -> int:
        self.headers.append(picture)
        if not picture:
            raise ServiceError(Code.IMAGE_UNDECODABLE, "The image is empty.")
        return picture[0]

    def decode(self, picture: bytes) -> str:
        self.decoding.set()
        assert self.may_decode.wait(60)
        return f"pixels of {picture[0]}"

    def tokenize(self, text: str) -> str:
        if len(text) >= len(LONG):
            assert self.may_tokenize.wait(60)
        return f"tokens of {text}"


def scenario(steps: Callable[[Preparation, Any], Awaitable[None]], workers: int = 2, queue_size: int = 8) -> HeldModel:
    """Run the steps on a preparation whose pictures share MEMORY."""
    settings = Settings(preparation_workers=workers, queue_size=queue_size, max_decode_bytes=MEMORY)
    preparation, model = Preparation(settings), HeldModel()
    try:
        asyncio.run(steps(preparation, model))
    finally:
        model.may_decode.set()
        model.may_tokenize.set()
        preparation.close()
    return model


async def prepare(preparation: Preparation, model: Any, item: Item) -> tuple[Any, Any]:
    """The picture and the text of an item, decoded and tokenized."""
    preparation.check(item)
    image = None if item.image is None else await preparation.decode(model, item.image)
    return image, None if item.text is None else await preparation.tokenize(model, item.text)


async def start(preparation: Preparation, model: Any, *items: Item) -> list[asyncio.Task]:
    """Preparations of the items, which are in the queues."""
    tasks = [asyncio.create_task(prepare(preparation, model, item)) for item in items]
    await asyncio.sleep(0)
    return tasks


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.001)


@pytest.mark.parametrize("text", ["red", SHORT, LONG, "漢" * 512, "a b " * 10_000])
@pytest.mark.parametrize("picture", [ALL, HALF, LITTLE])
def test_a_text_does_not_wait_for_pictures(text, picture):
    async def steps(preparation: Preparation, model: Any) -> None:
        pictures = await start(preparation, model, *[Item(image=picture)] * 10)
        model.may_tokenize.set()
        image, tokens = await prepare(preparation, model, Item(text=text))
        assert (image, tokens.result) == (None, f"tokens of {text}")
        assert not any(task.done() for task in pictures)
        model.may_decode.set()
        assert {(await task)[0].result for task in pictures} == {f"pixels of {picture[0]}"}

    scenario(steps)


@pytest.mark.parametrize("text", ["red", SHORT])
def test_a_short_text_does_not_wait_for_long_ones(text):
    async def steps(preparation: Preparation, model: Any) -> None:
        long = await start(preparation, model, *[Item(text=LONG)] * 5)
        _, tokens = await prepare(preparation, model, Item(text=text))
        assert (tokens.result, tokens.queue_seconds) == (f"tokens of {text}", 0.0)
        assert not any(task.done() for task in long)

    scenario(steps)


@pytest.mark.parametrize("waiting", [[ALL], [HALF, ALL], [LITTLE] * 5])
def test_a_picture_that_waits_for_memory_holds_no_thread(waiting):
    async def steps(preparation: Preparation, model: Any) -> None:
        tasks = await start(preparation, model, Item(image=ALL))
        tasks += await start(preparation, model, *[Item(image=picture) for picture in waiting])
        await until(lambda: len(model.headers) == 1 + len(waiting))  # by the thread that does not decode
        with pytest.raises(ServiceError) as caught:
            await prepare(preparation, model, Item(image=b""))
        assert caught.value.code is Code.IMAGE_UNDECODABLE
        model.may_decode.set()
        await asyncio.gather(*tasks)

    scenario(steps)


@pytest.mark.parametrize("item", [Item(image=ALL), Item(image=HALF), Item(image=LITTLE, text="red")])
def test_a_cancelled_picture_keeps_its_memory_until_its_thread_ends(item):
    async def steps(preparation: Preparation, model: Any) -> None:
        (first,) = await start(preparation, model, item)
        await until(model.decoding.is_set)
        first.cancel()
        await asyncio.wait([first])
        model.decoding.clear()
        (second,) = await start(preparation, model, Item(image=ALL))
        await until(lambda: len(model.headers) == 2)
        await asyncio.sleep(0.05)
        assert not model.decoding.is_set()
        model.may_decode.set()
        assert (await second)[0].result == "pixels of 100"

    scenario(steps)


@pytest.mark.parametrize("waiting", [[ALL], [ALL, LITTLE], [HALF, HALF, HALF]])
def test_cancelled_pictures_leave_the_queue_for_memory(waiting):
    async def steps(preparation: Preparation, model: Any) -> None:
        (first,) = await start(preparation, model, Item(image=ALL))
        tasks = await start(preparation, model, *[Item(image=picture) for picture in waiting])
        (last,) = await start(preparation, model, Item(image=HALF))
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        model.may_decode.set()
        assert (await first)[0].result == "pixels of 100"
        assert (await last)[0].result == "pixels of 50"

    scenario(steps)


PICTURE, SHORT_TEXT, LONG_TEXT = Item(image=LITTLE), Item(text=SHORT), Item(text=LONG)
BOTH_SHORT, BOTH_LONG = Item(LITTLE, SHORT), Item(LITTLE, LONG)


@pytest.mark.parametrize(
    ("busy", "refused", "accepted"),
    [
        ([Item(image=LITTLE)] * 4, [PICTURE, BOTH_SHORT, BOTH_LONG], [SHORT_TEXT, LONG_TEXT]),
        ([Item(image=ALL)] * 4, [PICTURE, BOTH_SHORT, BOTH_LONG], [SHORT_TEXT, LONG_TEXT]),  # most wait for memory
        ([Item(text=LONG)] * 4, [LONG_TEXT, BOTH_LONG], [PICTURE, SHORT_TEXT, BOTH_SHORT]),
        ([Item(text=LONG)] * 3, [], [PICTURE, SHORT_TEXT, LONG_TEXT, BOTH_SHORT, BOTH_LONG]),
    ],
)
def test_an_item_is_refused_if_a_queue_that_it_needs_is_full(busy, refused, accepted):
    async def steps(preparation: Preparation, model: Any) -> None:
        tasks = await start(preparation, model, *busy)
        for item in refused:
            with pytest.raises(ServiceError) as caught:
                preparation.check(item)
            assert caught.value.code is Code.QUEUE_FULL
            with pytest.raises(ServiceError) as caught:
                await prepare(preparation, model, item)
            assert caught.value.code is Code.QUEUE_FULL
        for item in accepted:
            preparation.check(item)
        model.may_decode.set()
        model.may_tokenize.set()
        await asyncio.gather(*tasks)
        for item in refused:
            await prepare(preparation, model, item)

    scenario(steps, workers=1, queue_size=3)


@pytest.mark.parametrize(
    "items",
    [
        [Item(image=LITTLE)] * 3,
        [Item(image=ALL)] * 2,  # the second one waits for memory
        [Item(text=LONG)] * 3,
        [Item(LITTLE, LONG)] * 3,
    ],
)
def test_a_stall_of_pictures_or_of_texts_is_seen(items):
    async def steps(preparation: Preparation, model: Any) -> None:
        assert not preparation.is_stalled(0)
        tasks = await start(preparation, model, *items)
        await until(lambda: preparation.is_stalled(0.01))
        assert not preparation.is_stalled(60)
        model.may_decode.set()
        model.may_tokenize.set()
        await asyncio.gather(*tasks)
        assert not preparation.is_stalled(0)

    scenario(steps)


@pytest.mark.parametrize("item", [Item(image=ALL), Item(text=LONG)])
def test_a_picture_or_a_text_that_takes_long_is_no_stall_while_no_other_waits(item):
    async def steps(preparation: Preparation, model: Any) -> None:
        (task,) = await start(preparation, model, item)
        await asyncio.sleep(0.1)
        assert not preparation.is_stalled(0.01)
        model.may_decode.set()
        model.may_tokenize.set()
        await task

    scenario(steps)


def test_freed_memory_is_returned_before_a_large_picture_is_decoded(monkeypatch):
    returned: list[bytes] = []
    decoded: list[bytes] = []
    monkeypatch.setattr(preparation_module, "_LARGE_BYTES", 60)
    monkeypatch.setattr(preparation_module, "return_freed_memory", lambda: returned.extend(decoded or [b"first"]))

    async def steps(preparation: Preparation, model: Any) -> None:
        model.may_decode.set()
        for picture in (ALL, HALF):
            await preparation.decode(model, picture)
            decoded.append(picture)

    scenario(steps)

    assert returned == [b"first"]
