"""What a live version was trained on, as gauges beside the live figures: drift is the distance between them."""

from __future__ import annotations

from model_store import Manifest, Pattern
from service.telemetry.metrics import Metrics


def show_training_baseline(metrics: Metrics, manifest: Manifest) -> None:
    """Set the gauges of a task to those of the version that is live now; what it does not know vanishes."""
    validation = manifest.metrics.get("validation", {})
    for pattern in Pattern:
        series = manifest.task, pattern
        metrics.prediction_confidence.labels(*series)  # at 0 until the first answer, so that its share is known too
        metrics.training_modality_ratio.labels(*series).set(manifest.training_mix.get(pattern, 0.0))
        confidence = validation.get(pattern, {}).get("confidence")
        if confidence is None:
            metrics.training_confidence.remove(*series)
        else:
            metrics.training_confidence.labels(*series).set(confidence)
