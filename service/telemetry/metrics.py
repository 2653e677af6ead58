"""The service's metrics, in a registry of their own. Label values come from manifests, never from clients."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from model_store import Manifest, Pattern
from service.errors import Code
from service.telemetry.log_lines import dropped_lines
from service.telemetry.record import CLIENT_GONE

# Geometric steps: a head takes tens of microseconds, a request behind a full queue many seconds.
_SECONDS = tuple(1e-5 * 2**step for step in range(22))  # 10 us ... 21 s
_LOAD_SECONDS = tuple(0.05 * 2**step for step in range(12))  # 50 ms ... 102 s
_SHARES = tuple(step / 20 for step in range(1, 21))
_SET_SIZES = (0, 1, 2, 3, 5, 10, 20, 50, 100)  # with the first two, the share of sets that have one label
_BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64, 128)
_COUNTED_STATUSES = (200, CLIENT_GONE, 500, 503, 504)
_LAG_PERIOD_SECONDS = 0.1
_LAG_WINDOW_SECONDS = 15.0  # the usual interval between two scrapes, so that no delay is missed


class Metrics:
    """The service's metrics; `task` is empty for a request that names no loaded task."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self._rendering = ThreadPoolExecutor(1, "mora-metrics")
        self._scrape: asyncio.Future[bytes] | None = None
        self._scrape_has_begun = False
        ProcessCollector(registry=registry)
        counter, gauge = partial(Counter, registry=registry), partial(Gauge, registry=registry)
        histogram = partial(Histogram, registry=registry, buckets=_SECONDS)
        by_task, by_modalities = ["task"], ["task", "modalities"]
        self.requests = counter(
            "mora_requests", "Requests answered; a batch counts as its cells.", ["task", "modalities", "status"]
        )
        self.request_duration = histogram(
            "mora_request_duration_seconds", "From the first byte of a request to its answer.", by_modalities
        )
        self.stage_duration = histogram(
            "mora_stage_duration_seconds",
            "Duration of one stage of a request; a stage that did not run is not counted.",
            ["stage"],
        )
        self.batch_size = histogram(
            "mora_batch_size", "Items in one run of an encoder.", ["encoder"], buckets=_BATCH_SIZES
        )
        self.queue_depth = gauge("mora_queue_depth", "Items waiting for an encoder.", ["encoder"])
        self.cache_requests = counter("mora_cache_requests", "Trunk outputs looked up: `hit` or `miss`.", ["result"])
        self.inflight_requests = gauge("mora_inflight_requests", "Requests being answered.")
        self.inflight_body_bytes = gauge(
            "mora_inflight_body_bytes", "Bytes of request bodies that have arrived and are not answered yet."
        )
        self.rejected = counter("mora_rejected", "Requests, and cells of batches, answered with a problem.", ["reason"])
        self.deadline = counter(
            "mora_deadline",
            "Items that reached their deadline in `parsing`, `loading`, `preparation` or `encoder`.",
            ["stage"],
        )
        self.client_gone = counter("mora_client_gone", "Requests whose client left before the answer.")
        self.slow_clients = counter(
            "mora_slow_client", "Clients that were too slow with their headers, their body or their answer."
        )
        self.connections_refused = counter(
            "mora_connections_refused", "Connections that got 503 or were closed because there were too many."
        )
        registry.register(_DroppedLines())
        self.store_seconds_since_read = gauge(
            "mora_store_seconds_since_read", "Seconds since the store was last read without an error."
        )
        self.model_loads = counter("mora_model_loads", "Versions loaded or refused.", ["task", "result"])
        self.model_refused = gauge(
            "mora_model_refused",
            "1 while the version that is live in the store is refused, 0 while it answers.",
            by_task,
        )
        self.model_load_duration = histogram(
            "mora_model_load_duration_seconds",
            "Time to read and verify one version and to run its load check.",
            buckets=_LOAD_SECONDS,
        )
        self.model_info = gauge(
            "mora_model_info", "1 for each version that is live.", ["task", "version", "precision", "backbone"]
        )
        self.tower_info = gauge(
            "mora_tower_info", "1 for each tower of a live version.", ["task", "tower", "runtime", "precision"]
        )
        self.training_modality_ratio = gauge(
            "mora_training_modality_ratio", "Share of the items that the live version was trained on.", by_modalities
        )
        self.training_confidence = gauge(
            "mora_training_confidence", "Mean highest score of the live version on its validation split.", by_modalities
        )
        self.event_loop_lag = gauge("mora_event_loop_lag_seconds", "Maximum event-loop delay of the last 15 seconds.")
        self.nonfinite = counter("mora_nonfinite", "Answers withheld because they were not finite.", by_task)
        self.prediction_confidence = histogram(
            "mora_prediction_confidence", "Highest score of an item's labels.", by_modalities, buckets=_SHARES
        )
        self.label_set_size = histogram(
            "mora_label_set_size",
            "Labels in the set of an answer at a coverage of 0.9, whatever the request asks for.",
            by_modalities,
            buckets=_SET_SIZES,
        )
        self.training_label_set_size = gauge(
            "mora_training_label_set_size",
            "Mean size of such sets on the validation split.",
            by_modalities,
        )
        self.training_review_ratio = gauge(
            "mora_training_review_ratio",
            "Share of such sets with not exactly one label on the validation split.",
            by_modalities,
        )
        self.predictions = counter(
            "mora_predictions",
            "Labels selected for items, also of requests that failed because of another item.",
            ["task", "label"],
        )
        # `rate` does not see the first value of a series, so what alerts count begins at 0.
        for code in Code:
            self.rejected.labels(code.reason)
        self._begin_series("")

    async def scrape(self) -> bytes:
        """All metrics in Prometheus' text format, made on a thread: with many labels it takes a tenth of a second.

        Requests that come before the thread begins share a text, so that many of them delay none.
        """
        if self._scrape is None or self._scrape_has_begun:
            self._scrape_has_begun = False
            self._scrape = asyncio.get_running_loop().run_in_executor(self._rendering, self._begin_scrape)
        return await asyncio.shield(self._scrape)

    def _begin_scrape(self) -> bytes:
        self._scrape_has_begun = True
        return self.render()

    def render(self) -> bytes:
        """The same; blocking."""
        return generate_latest(self.registry)

    def count_prediction(
        self, task: str, pattern: Pattern, labels: Iterable[str], confidence: float, set_size: int | None
    ) -> None:
        """Count one answer: its selected labels, its highest score, and the size of its label set."""
        for label in labels:
            self.predictions.labels(task, label).inc()
        self.prediction_confidence.labels(task, pattern).observe(confidence)
        if set_size is not None:
            self.label_set_size.labels(task, pattern).observe(set_size)

    def show_training_baseline(self, manifest: Manifest) -> None:
        """Set the gauges of a task's training data from its live version. Live traffic that differs has drifted.

        A gauge is removed if the version has no value for it.
        """
        self._begin_series(manifest.task)
        validation = manifest.metrics.get("validation", {})
        for pattern in Pattern:
            series = manifest.task, pattern
            self.prediction_confidence.labels(*series)  # a count of 0 before the first answer, for shares
            self.training_modality_ratio.labels(*series).set(manifest.training_mix.get(pattern, 0.0))
            expected = None if manifest.label_sets is None else manifest.label_sets.expected.get(pattern)
            if expected is not None:
                self.label_set_size.labels(*series)
            _set(self.training_confidence, series, validation.get(pattern, {}).get("confidence"))
            _set(self.training_label_set_size, series, None if expected is None else expected.size)
            _set(self.training_review_ratio, series, None if expected is None else expected.review)

    def forget_task(self, task: str) -> None:
        """Remove the gauges of a task that is no longer served, so that no alert compares them with live traffic."""
        self.model_refused.remove(task)
        for pattern in Pattern:
            self.training_modality_ratio.remove(task, pattern)
            for gauge in (self.training_confidence, self.training_label_set_size, self.training_review_ratio):
                gauge.remove(task, pattern)

    def _begin_series(self, task: str) -> None:
        for modalities in ("", *Pattern) if task else ("",):
            self.request_duration.labels(task, modalities)
            for status in _COUNTED_STATUSES:
                self.requests.labels(task, modalities, str(status))


def _set(gauge: Gauge, series: tuple[str, str], value: float | None) -> None:
    """Set a series, or remove it if there is no value."""
    if value is None:
        gauge.remove(*series)
    else:
        gauge.labels(*series).set(value)


class _DroppedLines(Collector):
    def collect(self) -> Iterator[Metric]:
        help_text = "Log lines dropped because standard error took none."
        yield CounterMetricFamily("mora_log_lines_dropped", help_text, dropped_lines())


async def watch_event_loop_lag(gauge: Gauge) -> None:
    """Keep the gauge at the maximum delay of a timer in the last 15 seconds, until cancelled."""
    lags: deque[float] = deque(maxlen=round(_LAG_WINDOW_SECONDS / _LAG_PERIOD_SECONDS))
    while True:
        due = time.perf_counter() + _LAG_PERIOD_SECONDS
        await asyncio.sleep(_LAG_PERIOD_SECONDS)
        lags.append(max(0.0, time.perf_counter() - due))
        gauge.set(max(lags))
