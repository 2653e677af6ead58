"""`kill -9` of one of two replicas behind nginx, while it starts, answers, loads a version, or drains."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from model_store import Store, activate
from tests.support.faults.proxy import REUSED, free_ports, nginx
from tests.support.steady_load import SteadyLoad

ITEM = {"text": "a red apple"}
RETRIES = f"{REUSED} proxy_next_upstream error timeout non_idempotent;"
START_SECONDS, LOAD_SECONDS, DRAIN_SECONDS = 4.0, 1.2, 0.6  # somewhat longer than each takes
SETTINGS = {"drain_delay_seconds": 0.3, "queue_size": 256, "poll_seconds": 0.2}
WAYS = ("start", "load", "answer", "drain")


def kill(process: subprocess.Popen) -> None:
    process.kill()
    process.wait()


def kill_while_starting(store: Store, port: int, moment: float) -> None:
    """Start a replica that is killed before it is ready, or soon after; `moment` is from 0 to 1."""
    command = [sys.executable, "-m", "service.cli", "run", "--store", str(store.root), "--port", str(port)]
    process = subprocess.Popen([*command, "--allowed-hosts", "*"], stderr=subprocess.DEVNULL)
    time.sleep(START_SECONDS * moment)
    kill(process)


def kill_running(way: str, replica, store: Store, version: int, moment: float) -> None:
    if way == "load":
        activate(store, "fruit", version)
        time.sleep(LOAD_SECONDS * moment)
    elif way == "drain":
        replica.process.send_signal(signal.SIGTERM)
        time.sleep(DRAIN_SECONDS * moment)
    kill(replica.process)


def kill_in_turn(start: Callable, replicas: list, store: Store, load: SteadyLoad, number: int) -> Counter[str]:
    """Kill two replicas in turn, `number` times; the other one answers meanwhile. The number of kills of each way."""
    rng, ways = random.Random(0), Counter[str]()  # noqa: S311
    for turn in range(number):
        way, which, moment = WAYS[turn % 4], turn // 4 % 2, rng.random()
        if way == "start":
            kill(replicas[which].process)
            kill_while_starting(store, replicas[which].port, moment)
        else:
            kill_running(way, replicas[which], store, 1 + turn // 4 % 2, moment)
        ways[way] += 1
        assert load.goes_on()
        replicas[which] = start(replicas[which].port)
        assert load.goes_on()  # no request that found this replica dead is left when the other one is killed
    return ways


@pytest.mark.full_only
def test_clients_get_no_error_while_two_replicas_are_killed(shelf, server, counts, reliability, tmp_path):
    for seed in (1, 2):
        shelf.publish("fruit", seed=seed)
    number, ports = counts(4, 200), free_ports(2)

    def start(port: int):
        return server(shelf.store, port=port, **SETTINGS)

    with ThreadPoolExecutor(2) as threads:
        replicas = list(threads.map(start, ports))
    with nginx(tmp_path / "nginx", ports, RETRIES) as port, SteadyLoad(port, ITEM, clients=4) as load:
        ways = kill_in_turn(start, replicas, shelf.store, load, number)

    kinds = sorted({error.split()[0] for error in load.errors})
    reliability(
        f"{number} times SIGKILL to 2 replicas behind nginx, at random moments of start, load, answer and drain",
        "0 client errors",
        f"{len(load.errors)} errors in {load.answered} answers {kinds or ''}; {dict(ways)}",
        not load.errors and set(ways) == set(WAYS),
    )
