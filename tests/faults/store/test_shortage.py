"""Memory, threads or open files that do not suffice while a version loads: it answers soon after the shortage ends."""

from __future__ import annotations

import resource
import time
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto

from tests.support.faults.asking import as_json, ask
from tests.support.sampling import each
from tests.support.tiny import FEATURES, WIDTH, Shelf, TinyDraft, TinyTask, graph
from tests.support.waiting import eventually

MOST_SECONDS = 35
LARGE = 12_000  # rows and columns of weights: 144 million values of 4 bytes
THREADS = 64


def large(shelf: Shelf) -> TinyDraft:
    """A version whose image tail makes hundreds of megabytes in every run."""
    weights = TinyTask(seed=2).weights()["image_tail"]
    tail = graph(
        {"image_hidden": (TensorProto.FLOAT, ["B", 3, WIDTH])},
        {"image_features": (TensorProto.FLOAT, ["B", FEATURES])},
        [
            ("ConstantOfShape", ["shape"], {}),
            ("Add", [0, "one"], {}),
            ("ReduceMax", [1], {"keepdims": 0}),
            ("ReduceMean", ["image_hidden", "axis"], {"keepdims": 0}),
            ("MatMul", [3, "weight"], {}),
            ("Mul", [4, 2], {}),
        ],
        {
            "shape": np.array([LARGE, LARGE]),
            "one": np.array(1, np.float32),
            "axis": np.array([1]),
            "weight": weights,
        },
    )
    return shelf.draft(seed=2).replacing_graph("image_tail", tail)


def address_space(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[0]) * resource.getpagesize()


def limits(pid: int) -> dict[str, tuple[int, int]]:
    """The limit of the service's process by shortage: a little more than it uses now."""
    return {
        "memory": (resource.RLIMIT_AS, address_space(pid) + 200_000_000),
        "threads": (resource.RLIMIT_AS, address_space(pid) + 60_000_000),  # each thread reserves 8 MB
        "open files": (resource.RLIMIT_NOFILE, 3),
    }


def reasons(running) -> list[str]:
    return [event["reason"] for event in running.events if event["event"] == "model_refused"]


@pytest.mark.parametrize("shortage", each(["memory", "threads", "open files"], tried=["memory"]))
@pytest.mark.slow
def test_a_version_answers_soon_after_a_shortage(shelf, server, reliability, shortage):
    running = server(shelf.store, intra_op_threads=THREADS if shortage == "threads" else 1)
    limited, bound = limits(running.process.pid)[shortage]
    before = resource.prlimit(running.process.pid, limited)
    resource.prlimit(running.process.pid, limited, (bound, before[1]))
    shelf.publish_draft(large(shelf))

    eventually(lambda: len(reasons(running)) >= 2 or shortage == "open files", 30)
    time.sleep(3)
    assert running.process.poll() is None
    resource.prlimit(running.process.pid, limited, before)
    ended = time.monotonic()
    eventually(lambda: answers(running), 2 * MOST_SECONDS)
    seconds = time.monotonic() - ended

    reliability(
        f"too little of {shortage} for 3 s or more while a version loads",
        f"refused as `load` or `unreadable`; answered within {MOST_SECONDS} s of the end",
        f"{', '.join(sorted(set(reasons(running)))) or 'the store could not be read'}; answered after {seconds:.1f} s",
        seconds <= MOST_SECONDS and set(reasons(running)) <= {"load", "unreadable"},
    )


def answers(running) -> bool:
    (answer,) = ask(running.base, [as_json("/classify", {"text": "red"})])
    return answer.json.get("version") == 1
