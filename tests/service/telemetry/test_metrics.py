"""The gauges of the training data beside those of live traffic, and the event loop's lag.

docker/prometheus/tests/drift.yml has the alerts on the former.
"""

from __future__ import annotations

import asyncio
import threading
import time
from types import SimpleNamespace

import pytest
from prometheus_client import CollectorRegistry, Gauge

from model_store import Pattern
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


def test_a_pattern_without_requests_has_a_count_of_zero(shelf, serve, sample):
    shelf.publish("fruit")
    client = serve(shelf.store)
    assert client.post("/classify", json={"text": "red"}).status_code == 200

    counts = [sample(client, f'mora_prediction_confidence_count{{modalities="{p}",task="fruit"}}') for p in Pattern]
    assert counts == [0, 0, 1]
    assert 'mora_prediction_confidence_count{modalities="image",task="fruit"} 0.0' in client.get("/metrics").text


@pytest.mark.parametrize("status", [200, 499, 500, 503, 504])
@pytest.mark.parametrize("modalities", ["", *Pattern])
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
