"""Every metric of the service, in one registry of its own; label values come from manifests, never from clients."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

# A geometric ladder: a head takes tens of microseconds, a request behind a full queue many seconds.
_SECONDS = tuple(1e-5 * 2**step for step in range(22))  # 10 us ... 21 s
_LOAD_SECONDS = tuple(0.05 * 2**step for step in range(12))  # 50 ms ... 102 s
_SHARES = tuple(step / 20 for step in range(1, 21))
_BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
    """The service's metrics; `task` is empty where a request named none that is loaded."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self.requests = Counter(
            "mora_requests", "Requests answered.", ["task", "modalities", "status"], registry=registry
        )
        self.request_duration = Histogram(
            "mora_request_duration_seconds",
            "From the first byte of a request to its answer.",
            ["task", "modalities"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.stage_duration = Histogram(
            "mora_stage_duration_seconds",
            "One stage of a request; a stage that did not run is not counted.",
            ["stage"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.batch_size = Histogram(
            "mora_batch_size", "Items in one run of an encoder.", ["encoder"], buckets=_BATCH_SIZES, registry=registry
        )
        self.queue_depth = Gauge("mora_queue_depth", "Items waiting for an encoder.", ["encoder"], registry=registry)
        self.cache_requests = Counter(
            "mora_cache_requests", "Trunk outputs looked up: `hit` or `miss`.", ["result"], registry=registry
        )
        self.inflight_requests = Gauge("mora_inflight_requests", "Requests being answered.", registry=registry)
        self.rejected = Counter("mora_rejected", "Requests answered with a problem.", ["reason"], registry=registry)
        self.deadline = Counter(
            "mora_deadline",
            "Requests whose time was over in `loading`, `preparation` or `encoder`.",
            ["stage"],
            registry=registry,
        )
        self.client_gone = Counter(
            "mora_client_gone", "Requests whose client left before the answer.", registry=registry
        )
        self.slow_clients = Counter(
            "mora_slow_client",
            "Clients that were too slow with their headers, their body or their answer.",
            registry=registry,
        )
        self.connections_refused = Counter(
            "mora_connections_refused", "Connections closed because there were too many.", registry=registry
        )
        self.model_loads = Counter(
            "mora_model_loads", "Versions loaded or refused.", ["task", "result"], registry=registry
        )
        self.model_refused = Gauge(
            "mora_model_refused",
            "1 while the version that is live in the store is refused, 0 while it answers.",
            ["task"],
            registry=registry,
        )
        self.model_load_duration = Histogram(
            "mora_model_load_duration_seconds",
            "Reading, verifying and proving one version.",
            buckets=_LOAD_SECONDS,
            registry=registry,
        )
        self.model_info = Gauge(
            "mora_model_info",
            "1 for each version that is live.",
            ["task", "version", "precision", "backbone"],
            registry=registry,
        )
        self.training_modality_ratio = Gauge(
            "mora_training_modality_ratio",
            "Share of the items that the live version was trained on.",
            ["task", "modalities"],
            registry=registry,
        )
        self.training_confidence = Gauge(
            "mora_training_confidence",
            "Mean highest score of the live version on its validation split.",
            ["task", "modalities"],
            registry=registry,
        )
        self.event_loop_lag = Gauge(
            "mora_event_loop_lag_seconds",
            "The latest that the event loop was in the last 15 seconds.",
            registry=registry,
        )
        self.nonfinite = Counter(
            "mora_nonfinite", "Answers that were not given because they were not finite.", ["task"], registry=registry
        )
        self.prediction_confidence = Histogram(
            "mora_prediction_confidence",
            "Highest score of an answer.",
            ["task", "modalities"],
            buckets=_SHARES,
            registry=registry,
        )
        self.predictions = Counter(
            "mora_predictions", "Labels selected in answers.", ["task", "label"], registry=registry
        )

    def render(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self.registry)
