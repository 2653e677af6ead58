"""Push and pull of a version of 400 MB, compared with `cp` of the same store.

    docker-registry serve FILE &      # or any other registry; FILE: its configuration
    python -m benchmarks.transfer oci://localhost:5000/models:benchmark --plain-http

A pull ends when all files are on the disk (fsync), and `cp` when they are in the page cache. So `cp` is also timed with
a `sync` of its files. Each figure is the median of the rounds. The blobs are random bytes, new for each run.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from model_store import Blob, Precision, Store, blob_of, publish
from model_store.transfer import TransferCount, open_remote, pull, push
from training.provenance import machine

SHARES = {"image_trunk": 0.45, "text_trunk": 0.3, "image_tail": 0.15, "text_tail": 0.1}  # of a CLIP ViT-B/16


def publish_random(store: Store, megabytes: int) -> None:
    """The shipped task with graphs of random bytes."""
    shipped = Store()
    manifest = shipped.manifest("clipart-category")
    blobs = {blob.sha256: shipped.read(blob) for blob in manifest.blobs()}

    def random_blob(share: float) -> Blob:
        content = os.urandom(int(share * megabytes * 1_000_000))
        blobs[blob_of(content).sha256] = content
        return blob_of(content)

    graphs = manifest.graphs[Precision.FP32].model_copy(
        update={name: random_blob(share) for name, share in SHARES.items()}
    )
    publish(store, manifest.model_copy(update={"graphs": {Precision.FP32: graphs}}), blobs)


def seconds_of(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def main(
    target: Annotated[str, typer.Argument(metavar="TARGET", help="Where to push to; a tag that nothing else uses.")],
    plain_http: Annotated[bool, typer.Option("--plain-http")] = False,
    megabytes: int = 400,
    rounds: int = 5,
) -> None:
    """Push once, then pull and copy in turns."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        store = Store(root / "store")
        publish_random(store, megabytes)
        with closing(open_remote(target, plain_http=plain_http)) as remote:
            pushed = seconds_of(lambda: push(store, "clipart-category", None, remote, TransferCount()))
        times: dict[str, list[float]] = {"cp": [], "cp, then sync of the files": [], "pull": []}
        copy = root / "copy"
        for _ in range(rounds):
            files = [str(path) for path in store.root.rglob("*") if path.is_file()]
            begun = seconds_of(lambda: subprocess.run(["cp", "-r", store.root, copy], check=True))
            copied = [str(path) for path in copy.rglob("*") if path.is_file()]
            synced = seconds_of(lambda copied=copied: subprocess.run(["sync", *copied], check=True))  # type: ignore[misc]
            shutil.rmtree(copy)
            assert len(files) == len(copied)  # noqa: S101
            times["cp"].append(begun)
            times["cp, then sync of the files"].append(begun + synced)
            times["pull"].append(seconds_of(lambda: pull(target, copy, plain_http=plain_http)))
            shutil.rmtree(copy)
    medians = {name: statistics.median(values) for name, values in times.items()}
    table = Table(title=f"{megabytes} MB, {rounds} rounds; {machine()}")
    for column in ("what", "seconds", "MB/s", "over cp"):
        table.add_column(column)
    for name, value in {**medians, "push": pushed}.items():
        table.add_row(name, f"{value:.2f}", f"{megabytes / value:,.0f}", f"{value / medians['cp']:.2f}")
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
