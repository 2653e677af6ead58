"""Items of one batch: each gets its own answer, and an item that fails the batch fails alone."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator
from random import Random

import numpy as np

from tests.support.faults.asking import Reply, Sent, as_json, ask
from tests.support.faults.mutation import dice
from tests.support.faults.planted import POISON
from tests.support.tiny import MAX_TOKENS, SIZE, WORDS, TinyTask, encode_png

TASK = TinyTask("fruit", seed=1)
HARMLESS = [word for word in WORDS[1:] if word != POISON]
NEIGHBOURS, AT_ONCE = 8, 16
TOLERANCE = 1e-4

Thing = tuple[np.ndarray | None, str | None]


def thing(number: int, seed: int) -> Thing:
    """An item unlike all others of the seed: its number in words, or a picture of its own with or without a text."""
    random = dice(seed, number)
    text = " ".join(_digits(number, random))
    if number % 4 < 3:
        return None, text
    pixels = np.frombuffer(random.randbytes(SIZE * SIZE * 3), np.uint8).reshape(SIZE, SIZE, 3)
    return pixels, text if number % 8 == 3 else None


def _digits(number: int, random: Random) -> list[str]:
    """Words that spell the number, and where there is room an unknown word and some that do not matter."""
    words = []
    while number or not words:
        number, digit = divmod(number, len(HARMLESS))
        words.append(HARMLESS[digit])
    room = MAX_TOKENS - 2 - len(words) - 1
    return words if room < 1 else [*words, WORDS[0], *random.choices(HARMLESS, k=random.randrange(room))]


def fields(thing: Thing) -> dict[str, str]:
    pixels, text = thing
    image = {} if pixels is None else {"image": b64encode(encode_png(pixels)).decode()}
    return image if text is None else {**image, "text": text}


def is_own(answer: dict, thing: Thing) -> bool:
    """Whether an answer is what the oracle says of this item."""
    given = {entry["label"]: entry["score"] for entry in answer["labels"]}
    return all(abs(given[label] - score) < TOLERANCE for label, score in TASK.scores(*thing).items())


def swapped(base: str, count: int, seed: int) -> list[int]:
    """Numbers of the items that got the answer of another item."""
    requests = (as_json("/classify", fields(thing(number, seed))) for number in range(count))
    answers = ask(base, requests, AT_ONCE)
    assert {answer.status for answer in answers} == {200}
    return [number for number, answer in enumerate(answers) if not is_own(answer.json, thing(number, seed))]


def test_no_answer_goes_to_another_request(shelf, server, counts, reliability):
    shelf.publish("fruit", seed=1)
    running = server(shelf.store, log_level="error")
    count = counts(500, 50_000)

    found = swapped(running.base, count, seed=1)

    reliability(f"{count} different items,  {AT_ONCE} at once", "0 swapped answers", f"{len(found)} swapped", not found)


def batches(count: int, seed: int) -> Iterator[tuple[int, list[Thing]]]:
    """The place of the poison, and the items of a batch."""
    for number in range(count):
        random = dice(seed, number)
        things = [thing(NEIGHBOURS * number + place, seed) for place in range(NEIGHBOURS)]
        place = random.randrange(NEIGHBOURS)
        things[place] = (None, f"{POISON} {things[place][1] or HARMLESS[0]}")
        yield place, things


def harm(place: int, things: list[Thing], answer: Reply) -> str:
    """The fault in the answers to a batch; empty if only the poison failed."""
    if answer.status != 200:
        return f"status {answer.status}"
    cells = [cell for (cell,) in answer.json["results"]]
    if cells[place].get("code") != "internal":
        return "the poison was answered"
    others = [(cell, thing) for number, (cell, thing) in enumerate(zip(cells, things, strict=True)) if number != place]
    return "" if all("labels" in cell and is_own(cell, thing) for cell, thing in others) else "a neighbour was harmed"


def test_an_item_that_fails_its_batch_fails_alone(shelf, server, counts, reliability):
    shelf.publish("fruit", seed=1)
    running = server(shelf.store, planted="poison", log_level="error")
    count = counts(100, 10_000)

    answers = ask(running.base, (_batch(things) for _, things in batches(count, seed=2)), at_once=4)

    harmed = [
        found
        for (batch, answer) in zip(batches(count, seed=2), answers, strict=True)
        if (found := harm(*batch, answer))
    ]
    reliability(
        f"{count} batches of {NEIGHBOURS} with one poison each",
        "0 neighbours harmed",
        f"{len(harmed)} harmed",
        not harmed,
    )


def test_control_swapped_answers_and_harmed_neighbours_are_found(shelf, server, reliability):
    shelf.publish("fruit", seed=1)
    running = server(shelf.store, planted="poison,swaps", log_level="error")

    swaps = swapped(running.base, 300, seed=1)
    answers = ask(running.base, (_batch(things) for _, things in batches(50, seed=2)), at_once=4)
    harmed = [
        found for batch, answer in zip(batches(50, seed=2), answers, strict=True) if (found := harm(*batch, answer))
    ]

    measured = f"{len(swaps)} of 300 items, {len(harmed)} of 50 batches"
    reliability("*control*: a service that swaps the answers of a batch", "found", measured, bool(swaps and harmed))


def _batch(things: list[Thing]) -> Sent:
    return as_json("/classify/batch", {"inputs": [fields(thing) for thing in things], "tasks": ["fruit"]})
