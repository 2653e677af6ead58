"""Memory of the service while versions of a task replace each other."""

from __future__ import annotations

import json
import sys
import time
import urllib.request

import typer

from benchmarks.gpu.arguments import DryRun, Folder
from benchmarks.gpu.memory import used_mib
from benchmarks.load import closed_loop
from benchmarks.mix import read_mix
from benchmarks.servers import Server, ours, serving
from model_store import Precision, Store
from model_store.publishing import activate
from service.models.graphs import has_cuda

_SWITCHES = 9
_WARM_UP = 4  # measurements until the runtime's memory pools have met every batch size
_MAX_GROWTH = 1.1
_LOAD_SECONDS = 60
_AT_ONCE = 16


def main(folder: Folder, dry_run: DryRun = False) -> None:
    """Print the memory after each switch, each after some load."""
    store = Store(folder / "store")
    bodies, seconds = [item.body for item in read_mix().items], 0.5 if dry_run else 2.0
    before = used_mib()
    print(f"{'GPU memory' if has_cuda() else 'Resident memory'} of the service in fp32, each time after")
    print(f"{seconds:g} s of load, {_AT_ONCE} at once. The versions share their trunks; tails and head differ.\n")
    print("| live version | MiB |\n|---|---|")
    sizes = []
    with serving(ours(store.root, Precision.FP32)) as server:
        for switch in range(_SWITCHES + 1):
            version = 2 - switch % 2
            activate(store, "task-1", version)
            _wait_for(server, version)
            closed_loop(server.url, bodies, _AT_ONCE, seconds)
            sizes.append(used_mib(server) - before)
            print(f"| {version} | {sizes[-1]:.0f} |", flush=True)
    activate(store, "task-1", 2)  # as before: a later run in this folder needs its fp16
    settled, later = max(sizes[:_WARM_UP]), max(sizes[_WARM_UP:])
    if later > _MAX_GROWTH * settled:
        sys.exit(f"memory grew from {settled:.0f} to {later:.0f} MiB, more than {_MAX_GROWTH - 1:.0%}")


def _wait_for(server: Server, version: int) -> None:
    deadline = time.monotonic() + _LOAD_SECONDS
    while time.monotonic() < deadline:
        with urllib.request.urlopen(f"{server.base}/tasks/task-1", timeout=10) as response:  # noqa: S310
            if json.load(response)["version"] == version:
                return
        time.sleep(0.1)
    sys.exit(f"version {version} was not loaded within {_LOAD_SECONDS} s")


if __name__ == "__main__":
    typer.run(main)
