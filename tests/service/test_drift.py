"""What a task was trained on stands beside what it meets, and the alert rules of the documentation tell them apart."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from model_store import Pattern
from service.metrics import Metrics

PAGE = Path(__file__).parents[2] / "docs" / "observability.md"
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


def rules() -> str:
    """The alert rules of the documentation."""
    return re.search(r"```yaml\n(groups:.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL).group(1)


def test_the_rules_name_metrics_that_exist():
    names = set(re.findall(r"\bmora_[a-z_]+", rules()))
    assert names == {
        "mora_prediction_confidence_count",
        "mora_prediction_confidence_sum",
        "mora_training_modality_ratio",
        "mora_training_confidence",
    }
    known = {metric.name for metric in Metrics().registry.collect()}
    assert {re.sub("_(count|sum)$", "", name) for name in names} <= known


def live(pattern: str, per_minute: int, confidence: float, minutes: int = 240) -> list[dict[str, str]]:
    """Two replicas' counters of one pattern, over which answers are spread evenly."""
    return [
        {
            "series": f'mora_prediction_confidence_{kind}{{task="fruit",modalities="{pattern}",instance="{instance}"}}',
            "values": f"0+{step:g}x{minutes}",
        }
        for instance in "ab"
        for kind, step in (("count", per_minute), ("sum", per_minute * confidence))
    ]


def trained(pattern: str, share: float, confidence: float | None, minutes: int = 240) -> list[dict[str, str]]:
    known = {"modality_ratio": share} | ({} if confidence is None else {"confidence": confidence})
    return [
        {
            "series": f'mora_training_{name}{{task="fruit",modalities="{pattern}",instance="{instance}"}}',
            "values": f"{value:g}x{minutes}",
        }
        for instance in "ab"
        for name, value in known.items()
    ]


TRAINED = [*trained("both", 0.5, 0.8), *trained("image", 0.25, 0.6), *trained("text", 0.25, 0.7)]
UNMEASURED = [*trained("both", 0.5, None), *trained("image", 0.25, None), *trained("text", 0.25, None)]
AS_TRAINED = [*live("both", 60, 0.82), *live("image", 20, 0.6), *live("text", 30, 0.65)]
ALL_IMAGES = [*live("both", 0, 0.8), *live("image", 60, 0.6), *live("text", 0, 0.7)]
UNSURE = [*live("both", 50, 0.8), *live("image", 25, 0.45), *live("text", 25, 0.7)]
IDLE = [*live("both", 0, 0.8), *live("image", 0, 0.6), *live("text", 0, 0.7)]
SITUATIONS = {
    "as trained": (TRAINED + AS_TRAINED, [], []),
    "only images": (TRAINED + ALL_IMAGES, [{}], []),
    "images are hard": (TRAINED + UNSURE, [], [{"modalities": "image"}]),
    "nobody asks": (TRAINED + IDLE, [], []),
    "an older version": (UNMEASURED + UNSURE, [], []),
    "a version that meets other items, confidence unknown": (UNMEASURED + ALL_IMAGES, [{}], []),
}


def promtool(folder: Path, inputs: list, modality: list, confidence: list) -> subprocess.CompletedProcess[str]:
    """Run the rules on four hours of series; `promtool` fails when other alerts fire than are named."""
    expected = {"MoraModalityDrift": modality, "MoraConfidenceDrift": confidence}
    test = {
        "rule_files": ["drift.yml"],
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": inputs,
                "alert_rule_test": [
                    {
                        "eval_time": "3h",
                        "alertname": name,
                        "exp_alerts": [{"exp_labels": {"task": "fruit", **labels}} for labels in alerts],
                    }
                    for name, alerts in expected.items()
                ],
            }
        ],
    }
    bare = re.sub(r"^ +annotations:\n +summary:.*\n", "", rules(), flags=re.MULTILINE)  # the values are not the point
    (folder / "drift.yml").write_text(bare)
    (folder / "test.yml").write_text(json.dumps(test))  # JSON is YAML
    command = ["promtool", "test", "rules", "test.yml"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=False)


needs_promtool = pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool (Debian: prometheus) is missing")


@needs_promtool
@pytest.mark.parametrize("situation", SITUATIONS)
def test_drift_is_told_and_nothing_else_is(tmp_path, situation):
    done = promtool(tmp_path, *SITUATIONS[situation])
    assert done.returncode == 0, done.stdout + done.stderr


@needs_promtool
def test_control_an_alert_that_nobody_expects_fails_the_check(tmp_path):
    inputs, _, _ = SITUATIONS["only images"]
    assert promtool(tmp_path, inputs, [], []).returncode != 0


@needs_promtool
def test_the_rules_are_valid_as_they_are_printed(tmp_path):
    (tmp_path / "drift.yml").write_text(rules())
    command = ["promtool", "check", "rules", "drift.yml"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
