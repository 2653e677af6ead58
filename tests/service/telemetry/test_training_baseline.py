"""What a task was trained on stands beside what it meets; docker/prometheus/tests/drift.yml has the alerts on it."""

from __future__ import annotations

import time

from model_store import Pattern

MEASURED = {"validation": {"both": {"confidence": 0.75, "accuracy": 0.5}, "text": {"confidence": None}}}
OTHER_MIX = {Pattern.BOTH: 0.25, Pattern.IMAGE: 0.75}


def series(client, name: str) -> dict[str, float]:
    """The series of a gauge by their labels."""
    lines = [line for line in client.get("/metrics").text.splitlines() if line.startswith(f"{name}{{")]
    return {line[len(name) : line.rindex(" ")]: float(line.rsplit(" ", 1)[1]) for line in lines}


def of_fruit(shares: dict[str, float]) -> dict[str, float]:
    return {f'{{modalities="{pattern}",task="fruit"}}': share for pattern, share in shares.items()}


def test_what_the_live_version_was_trained_on_is_shown_and_goes_with_it(shelf, serve):
    shelf.publish_draft(shelf.draft("fruit").replacing(metrics=MEASURED))
    client = serve(shelf.store)
    mix = {"both": 0.5, "image": 0.25, "text": 0.25}
    assert series(client, "mora_training_modality_ratio") == of_fruit(mix)
    assert series(client, "mora_training_confidence") == of_fruit({"both": 0.75})

    shelf.publish_draft(shelf.draft("fruit", seed=2).replacing(training_mix=OTHER_MIX, metrics={}))

    deadline = time.monotonic() + 30
    while series(client, "mora_training_confidence"):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert series(client, "mora_training_modality_ratio") == of_fruit({"both": 0.25, "image": 0.75, "text": 0.0})


def test_a_pattern_that_nobody_has_asked_for_has_a_share_of_nothing(shelf, serve, sample):
    shelf.publish("fruit")
    client = serve(shelf.store)
    assert client.post("/classify", json={"text": "red"}).status_code == 200

    counts = [sample(client, f'mora_prediction_confidence_count{{modalities="{p}",task="fruit"}}') for p in Pattern]
    assert counts == [0, 0, 1]
    assert 'mora_prediction_confidence_count{modalities="image",task="fruit"} 0.0' in client.get("/metrics").text
