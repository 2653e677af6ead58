"""A process that a signal tells to end, and whose threads do not."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

ENDLESS = """
import asyncio, signal, sys, threading, time
from service.web.exit_timer import ExitTimer

timer = ExitTimer()
signal.signal(signal.SIGTERM, lambda *_: timer.arm(float(sys.argv[1])))
print("ready", flush=True)

async def block() -> None:
    time.sleep(600)

def spin() -> None:
    while True:
        pass

def hold_a_lock_of_threading() -> None:
    with threading._active_limbo_lock:  # as Thread.start does
        time.sleep(600)

def wait_for_a_thread() -> None:
    threading.Thread(target=time.sleep, args=(600,)).start()

def lock() -> None:
    held = threading.Lock()
    held.acquire()
    held.acquire()

def event_loop() -> None:
    asyncio.run(block())

globals()[sys.argv[2]]()
"""


@pytest.mark.parametrize("state", ["event_loop", "spin", "lock", "hold_a_lock_of_threading", "wait_for_a_thread"])
@pytest.mark.parametrize("signals", [1, 3])
def test_a_process_ends_at_its_deadline_whatever_its_threads_do(state, signals):
    process = subprocess.Popen([sys.executable, "-c", ENDLESS, "0.2", state], stdout=subprocess.PIPE)
    try:
        assert process.stdout.readline() == b"ready\n"
        for _ in range(signals):
            process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 0
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def test_a_process_does_not_end_before_its_deadline():
    process = subprocess.Popen([sys.executable, "-c", ENDLESS, "600", "event_loop"], stdout=subprocess.PIPE)
    try:
        process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(timeout=1)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
