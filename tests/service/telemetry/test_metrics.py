"""The gauges of the training data beside those of live traffic, and the event loop's lag.

docker/prometheus/tests/drift.yml and label_sets.yml have the alerts on the former.
"""

from __future__ import annotations

import asyncio
import threading
import time
from types import SimpleNamespace

import pytest
from prometheus_client import CollectorRegistry, Gauge

from model_store import Pattern, withdraw
from model_store.label_sets import ExpectedSets
from service.errors import Code
from service.telemetry import metrics
from tests.support.waiting import eventually

MEASURED = {"validation": {"both": {"confidence": 0.75, "accuracy": 0.5}, "text": {"confidence": None}}}
OTHER_MIX = {Pattern.BOTH: 0.25, Pattern.IMAGE: 0.75}


def series(client, name: str) -> dict[str, float]:
    """The series of a gauge by their labels."""
    lines = [line for line in client.get("/metrics").text.splitlines() if line.startswith(f"{name}{{")]
    return {line[len(name) : line.rindex(" ")]: float(line.rsplit(" ", 1)[1]) for line in lines}


def of_fruit(shares: dict[str, float]) -> dict[str, float]:
    return {f'{{modalities="{pattern}",task="fruit"}}': share for pattern, share in shares.items()}


def test_the_training_data_of_the_live_version_is_shown_and_replaced_with_it(shelf, serve):
    shelf.publish_draft(shelf.draft("fruit").replacing(metrics=MEASURED))
    client = serve(shelf.store)
    mix = {"both": 0.5, "image": 0.25, "text": 0.25}
    assert series(client, "mora_training_modality_ratio") == of_fruit(mix)
    assert series(client, "mora_training_confidence") == of_fruit({"both": 0.75})

    shelf.publish_draft(shelf.draft("fruit", seed=2).replacing(training_mix=OTHER_MIX, metrics={}))

    eventually(lambda: not series(client, "mora_training_confidence"))
    assert series(client, "mora_training_modality_ratio") == of_fruit({"both": 0.25, "image": 0.75, "text": 0.0})


SETS_OF_VERSIONS = [  # what validation showed of one version, and of the next
    ({"both": (1.5, 0.25), "image": (2.5, 0.5), "text": (1.25, 0.125)}, {"both": (3.0, 0.75), "image": (1.0, 0.0)}),
    ({"text": (0.25, 1.0)}, {"both": (1.75, 0.5), "image": (9.5, 1.0), "text": (0.0, 1.0)}),
    ({"both": (2.0, 0.5), "image": (2.0, 0.5)}, {"text": (2.0, 0.5)}),
]


def expected_sets(by_pattern: dict[str, tuple[float, float]]) -> dict[str, ExpectedSets]:
    return {pattern: ExpectedSets(size=size, review=review) for pattern, (size, review) in by_pattern.items()}


def shown_sets(client) -> tuple[dict[str, float], dict[str, float]]:
    return series(client, "mora_training_label_set_size"), series(client, "mora_training_review_ratio")


def gauges_of(by_pattern: dict[str, tuple[float, float]]) -> tuple[dict[str, float], dict[str, float]]:
    sizes = {pattern: size for pattern, (size, _) in by_pattern.items()}
    return of_fruit(sizes), of_fruit({pattern: review for pattern, (_, review) in by_pattern.items()})


@pytest.mark.parametrize(("before", "after"), SETS_OF_VERSIONS)
def test_what_validation_showed_of_label_sets_changes_and_ends_with_the_version(shelf, serve, before, after):
    shelf.publish_with_label_sets("fruit", expected=expected_sets(before))
    client = serve(shelf.store)
    assert shown_sets(client) == gauges_of(before)

    shelf.publish_with_label_sets("fruit", expected=expected_sets(after))
    eventually(lambda: shown_sets(client) == gauges_of(after))

    shelf.publish("fruit", seed=2)
    eventually(lambda: shown_sets(client) == ({}, {}))


@pytest.mark.parametrize("sets", [before for before, _ in SETS_OF_VERSIONS])
def test_what_validation_showed_of_label_sets_ends_with_a_withdrawn_task(shelf, serve, sets):
    shelf.publish_with_label_sets("fruit", expected=expected_sets(sets))
    shelf.publish("tags")
    client = serve(shelf.store)
    assert shown_sets(client) == gauges_of(sets)

    withdraw(shelf.store, "fruit")

    eventually(lambda: shown_sets(client) == ({}, {}))


@pytest.mark.parametrize("sets", [before for before, _ in SETS_OF_VERSIONS])
def test_sets_are_counted_from_zero_where_validation_showed_some(shelf, serve, sets):
    shelf.publish_with_label_sets("fruit", expected=expected_sets(sets))
    client = serve(shelf.store)
    assert series(client, "mora_label_set_size_count") == of_fruit(dict.fromkeys(sets, 0.0))


@pytest.mark.parametrize(
    ("sizes", "share"),
    [([1, 1, 2, 5], 0.5), ([0, 0, 0, 1], 0.75), ([1, 1], 0.0), ([0, 1, 1, 101], 0.5), ([0, 0], 1.0), ([2, 3], 1.0)],
)
@pytest.mark.parametrize("pattern", Pattern)
def test_buckets_show_the_share_of_answers_to_review(sizes, share, pattern):
    counted = metrics.Metrics()
    for size in sizes:
        counted.count_prediction("fruit", pattern, [], 0.5, size)

    def read(name: str, **labels: str) -> float:
        labels = {"task": "fruit", "modalities": pattern, **labels}
        return counted.registry.get_sample_value(f"mora_label_set_size_{name}", labels)

    assert 1 - (read("bucket", le="1.0") - read("bucket", le="0.0")) / read("count") == share
    assert read("sum") == sum(sizes)


def test_an_answer_without_a_set_is_not_counted_among_sets():
    counted = metrics.Metrics()
    counted.count_prediction("fruit", Pattern.TEXT, ["apple"], 0.75, None)
    assert "mora_label_set_size_count{" not in counted.render().decode()


def test_a_pattern_without_requests_has_a_count_of_zero(shelf, serve, sample):
    shelf.publish("fruit")
    client = serve(shelf.store)
    assert client.post("/classify", json={"text": "red"}).status_code == 200

    counts = [sample(client, f'mora_prediction_confidence_count{{modalities="{p}",task="fruit"}}') for p in Pattern]
    assert counts == [0, 0, 1]
    assert 'mora_prediction_confidence_count{modalities="image",task="fruit"} 0.0' in client.get("/metrics").text


@pytest.mark.parametrize("status", [200, 499, 500, 503, 504])
@pytest.mark.parametrize("modalities", ["", *Pattern])
@pytest.mark.slow
def test_what_alerts_count_begins_at_zero(shelf, serve, status, modalities):
    """Otherwise `rate` does not see a series whose first scraped value is 4,714."""
    shelf.publish("fruit")
    lines = serve(shelf.store).get("/metrics").text.splitlines()

    assert f'mora_requests_total{{modalities="{modalities}",status="{status}",task="fruit"}} 0.0' in lines
    assert {f'mora_rejected_total{{reason="{code.reason}"}} 0.0' for code in Code} <= set(lines)


def test_a_prediction_counts_its_selected_labels_and_its_highest_score():
    counted = metrics.Metrics()

    counted.count_prediction("fruit", Pattern.TEXT, ["apple", "plum"], 0.75, 2)

    read = counted.registry.get_sample_value
    assert [read("mora_predictions_total", {"task": "fruit", "label": label}) for label in ("apple", "plum")] == [1, 1]
    assert read("mora_prediction_confidence_sum", {"task": "fruit", "modalities": "text"}) == 0.75


def test_work_on_the_event_loop_shows_as_lag(shelf, serve, sample):
    client = serve(shelf.store)

    client.portal.call(time.sleep, 0.5)

    eventually(lambda: sample(client, "mora_event_loop_lag_seconds") >= 0.3)


def test_the_lag_is_the_maximum_of_the_last_fifteen_seconds(monkeypatch):
    now, seen, late = 0.0, [], iter([0.0, 0.5, *[0.01] * 150])
    registry = CollectorRegistry()
    gauge = Gauge("lag", "Lag.", registry=registry)

    async def sleep(seconds: float) -> None:
        nonlocal now
        seen.append(round(registry.get_sample_value("lag"), 6))
        try:
            now += seconds + next(late)
        except StopIteration:
            raise asyncio.CancelledError from None

    monkeypatch.setattr(metrics, "time", SimpleNamespace(perf_counter=lambda: now))
    monkeypatch.setattr(metrics, "asyncio", SimpleNamespace(sleep=sleep))

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(metrics.watch_event_loop_lag(gauge))

    assert seen == [0.0, 0.0, *[0.5] * 150, 0.01]


@pytest.mark.parametrize("scrapes", [1, 2, 50])
def test_scrapes_share_a_text_only_while_it_is_not_begun(monkeypatch, scrapes):
    counted = metrics.Metrics()
    begun, may_end, texts = threading.Event(), threading.Event(), []

    def render() -> bytes:
        begun.set()
        may_end.wait(60)
        texts.append(b"%d" % len(texts))
        return texts[-1]

    monkeypatch.setattr(counted, "render", render)

    async def scrape() -> tuple[bytes, list[bytes]]:
        first = asyncio.create_task(counted.scrape())
        await asyncio.to_thread(begun.wait)
        later = [asyncio.create_task(counted.scrape()) for _ in range(scrapes)]
        given_up = asyncio.create_task(counted.scrape())
        await asyncio.sleep(0)
        given_up.cancel()
        may_end.set()
        return await first, await asyncio.gather(*later)

    assert asyncio.run(scrape()) == (b"0", [b"1"] * scrapes)
    assert len(texts) == 2
