"""Reloads under load: no request is lost, and no answer mixes two versions (L4)."""

from __future__ import annotations

import json
import threading
import time
import urllib.request

import pytest

from benchmarks.load import closed_loop, open_loop
from model_store import activate
from tests.support.counting import counting_draft
from tests.support.tiny import TinyTask

TEXT = "a red apple"
BODY = json.dumps({"text": TEXT}).encode()
_PAUSE_SECONDS = 0.1  # between the requests that are checked


class Asker(threading.Thread):
    """Sends requests in sequence and records every answer that belongs to no version."""

    def __init__(self, url: str) -> None:
        super().__init__(daemon=True)
        self.url, self.stopping = url, threading.Event()
        self.wrong: list[object] = []
        self.versions: list[int] = []
        self.expected = {seed: TinyTask("fruit", seed).scores(None, TEXT) for seed in (1, 2)}

    def run(self) -> None:
        while not self.stopping.wait(_PAUSE_SECONDS):
            try:
                request = urllib.request.Request(self.url, BODY, {"Content-Type": "application/json"})
                with urllib.request.urlopen(request, timeout=30) as response:
                    answer = json.load(response)
                scores = {label["label"]: label["score"] for label in answer["labels"]}
                self.versions.append(answer["version"])
                if scores != pytest.approx(self.expected[answer["version"]], abs=1e-5):
                    self.wrong.append(answer)
            except (OSError, ValueError, KeyError) as error:
                self.wrong.append(error)

    def stop(self) -> None:
        self.stopping.set()
        self.join(60)


def test_reloads_under_load_lose_and_mix_no_answers(shelf, server, counts, reliability):
    for seed in (1, 2):
        shelf.publish_draft(counting_draft(shelf, exponent=7, seed=seed))  # the encoder is what limits it
    running = server(shelf.store, poll_seconds=0.02, encoder_workers=1, max_batch_tokens=20)
    url = f"{running.base}/classify"
    reloads, seconds, pause = counts(6, 100), counts(1, 60), counts(0.2, 1.0)  # loading takes some of the cores
    capacity = closed_loop(url, [BODY], concurrency=8, seconds=counts(1, 15)).per_second
    rate = 0.7 * capacity - 1 / _PAUSE_SECONDS  # the requests that are checked are a part of the load
    asker, stopping = Asker(url), threading.Event()
    asker.start()
    steady = open_loop(url, [BODY], rate, seconds)
    changed = 0

    def reload() -> None:
        nonlocal changed
        while not stopping.is_set() or changed < reloads:
            activate(shelf.store, "fruit", 1 + changed % 2)
            changed += 1
            time.sleep(pause)

    reloader = threading.Thread(target=reload)
    reloader.start()
    measured = open_loop(url, [BODY], rate, reloads * pause, seed=1)
    stopping.set()
    reloader.join()
    asker.stop()

    assert asker.wrong == []
    assert set(asker.versions) == {1, 2}
    assert running.metric('mora_model_loads_total{result="loaded",task="fruit"}') > reloads / 2
    assert set(measured.statuses) == {"200"}
    what = f"{changed} reloads at 70 % load, {len(measured.latencies_ms):,} requests"
    reliability(what, "0 lost, 0 refused, 0 mixed", f"{measured.statuses}, 0 mixed of {len(asker.versions):,} checked")
    if counts(0, 1):
        ratio = measured.percentile(0.99) / steady.percentile(0.99)
        reliability(f"{what}: p99 over that without", "at most 1.5", f"{ratio:.2f}", ratio <= 1.5)
