"""Reloads under load: no request is lost, and no answer mixes two versions (L4)."""

from __future__ import annotations

import json
import threading
import urllib.request
from collections import Counter

import pytest

from benchmarks.load import Load, closed_loop, open_loop, percentile
from model_store import activate
from tests.support.counting import counting_draft
from tests.support.tiny import TinyTask
from tests.support.waiting import repeating

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


@pytest.mark.slow
def test_reloads_under_load_lose_and_mix_no_answers(shelf, server, counts, reliability):
    for seed in (1, 2):
        shelf.publish_draft(counting_draft(shelf, exponent=7, seed=seed))  # the encoder is what limits it
    running = server(shelf.store, poll_seconds=0.02, encoder_workers=1, max_batch_tokens=20)
    url = f"{running.base}/classify"
    turns, reloads, pause = counts(1, 10), counts(6, 10), counts(0.2, 1.0)  # loading takes some of the cores
    windows = [closed_loop(url, [BODY], concurrency=8, seconds=counts(1, 3)).per_second for _ in range(counts(1, 5))]
    rate = 0.7 * min(windows) - 1 / _PAUSE_SECONDS  # the requests that are checked are a part of the load
    asker, changed, steady, measured = Asker(url), list[int](), list[Load](), list[Load]()

    def reload() -> None:
        version = 1 + len(changed) % 2
        activate(shelf.store, "fruit", version)
        changed.append(version)

    asker.start()
    for turn in range(turns):  # in turns, because a machine's speed changes within a minute
        steady.append(open_loop(url, [BODY], rate, counts(1, 6), seed=turn))
        with repeating(reload, pause):
            measured.append(open_loop(url, [BODY], rate, reloads * pause, seed=100 + turn))
    asker.stop()

    assert asker.wrong == []
    assert set(asker.versions) == {1, 2}
    assert running.metric('mora_model_loads_total{result="loaded",task="fruit"}') > turns * reloads / 2
    statuses = sum((Counter(load.statuses) for load in measured), Counter())
    assert set(statuses) == {"200"}
    what = f"{len(changed)} reloads at 70 % of the lowest capacity, {statuses.total():,} requests"
    reliability(what, "0 lost, 0 refused, 0 mixed", f"{dict(statuses)}, 0 mixed of {len(asker.versions):,} checked")
    if counts(0, 1):
        with_reloads, without = (
            percentile([each for load in loads for each in load.latencies_ms], 0.99) for loads in (measured, steady)
        )
        goal = "at most 1.5"
        found = f"{with_reloads / without:.2f} ({with_reloads:.0f} and {without:.0f} ms)"
        reliability(f"{what}: p99 over that without, in {turns} turns", goal, found, with_reloads <= 1.5 * without)
