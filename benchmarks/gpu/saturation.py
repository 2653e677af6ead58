"""What limits our service in fp16: rate, stages and cores for several kinds of items, and for several processes.

The cores of a server are its processor time over the time of the load. A server that is limited by Python's interpreter
lock keeps little more than one core busy, whatever the GPU could do.
"""

from __future__ import annotations

import multiprocessing
import os
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import typer
from PIL import Image

from benchmarks.gpu.arguments import DryRun, Folder
from benchmarks.load import Load, closed_loop
from benchmarks.mix import Item, read_mix
from benchmarks.servers import Program, Server, ours, serving
from benchmarks.stages import profile
from model_store import Pattern, Precision

AT_ONCE = 64
_PROCESSES = 4  # as many as the rival has workers in its larger set-up
_SMALL = (224, 224)  # pixels: decoded without a reduced scale, and hardly resized
_STAGES = ("decode_ms", "image_encoder_ms", "text_encoder_ms", "queue_ms", "total_ms", "image_batch", "text_batch")


def main(folder: Folder, dry_run: DryRun = False) -> None:
    """Print a row for each kind of items, and for several processes behind a load balancer."""
    mix, seconds = read_mix(), 0.5 if dry_run else 3.0
    pictures = mix.of(Pattern.IMAGE)
    loads = (
        ("the mix", mix.items, 1),
        ("the mix", mix.items, AT_ONCE),
        ("texts", mix.of(Pattern.TEXT), AT_ONCE),
        ("pictures of 640 x 480", pictures, AT_ONCE),
        ("pictures of 224 x 224", [_shrunk(item) for item in pictures], AT_ONCE),
    )
    print("| processes | items | at once | items a second | median ms | cores | client's cores |")
    print("|---|---|---|---|---|---|---|")
    lines = []
    with serving(_program(folder / "store")) as server:
        closed_loop(server.url, [item.body for item in mix.items], AT_ONCE, seconds)  # warm-up: every batch size
        for name, items, at_once in loads:
            with profile(server.base) as stages:
                _print_row(name, [server], items, at_once, seconds)
            values = ", ".join(f"{stage} {stages[stage]:.1f}" for stage in _STAGES if stage in stages)
            lines.append(f"- {name}, {at_once} at once: {values}")
    count = 2 if dry_run else _PROCESSES
    threads = str(max(1, len(os.sched_getaffinity(0)) // count))
    flags = ("--preparation-workers", threads, "--intra-op-threads", threads)
    with _several(_program(folder / "store", *flags), count) as servers:
        _measure(servers, mix.items, AT_ONCE, seconds)  # warm-up
        for name, items, at_once in loads[1:]:
            _print_row(name, servers, items, at_once, seconds)
    print(f"\nEach of the {count} processes has {threads} of the cores (`{' '.join(flags)}`), and a client of its own,")
    print("which stands for a load balancer. Mean stages, and mean batches, of the single process:\n")
    print("\n".join(lines))


def _program(store: Path, *flags: str) -> Program:
    return ours(store, Precision.FP16, "auto", *flags, "--drain-delay-seconds", "0")


@contextmanager
def _several(program: Program, count: int) -> Iterator[list[Server]]:
    """So many servers of one program, started at the same time."""
    with ExitStack() as stack, ThreadPoolExecutor(count) as pool:
        yield [*pool.map(stack.enter_context, [serving(program) for _ in range(count)])]


def _print_row(name: str, servers: Sequence[Server], items: Sequence[Item], at_once: int, seconds: float) -> None:
    before, load, client_cores = _cpu_seconds(servers), *_measure(servers, items, at_once, seconds)
    load.check(name)
    cores = (_cpu_seconds(servers) - before) / load.seconds
    figures = f"{load.per_second:.0f} | {load.percentile(0.5):.1f} | {cores:.1f} | {client_cores:.1f}"
    print(f"| {len(servers)} | {name} | {at_once} | {figures} |", flush=True)


def _measure(servers: Sequence[Server], items: Sequence[Item], at_once: int, seconds: float) -> tuple[Load, float]:
    """The load on all servers together, in equal shares, and the cores that the busiest client used."""
    arguments = [(each.url, [item.body for item in items], at_once // len(servers), seconds) for each in servers]
    with ProcessPoolExecutor(len(servers), multiprocessing.get_context("spawn")) as pool:
        loads, cores = zip(*pool.map(_client, arguments), strict=True)
    return together(loads), max(cores)


def _client(arguments: tuple[str, list[bytes], int, float]) -> tuple[Load, float]:
    started = time.process_time()
    load = closed_loop(*arguments)
    return load, (time.process_time() - started) / load.seconds


def together(loads: Sequence[Load]) -> Load:
    """Loads that ran at the same time, as one."""
    return replace(
        loads[0],
        seconds=max(load.seconds for load in loads),
        latencies_ms=tuple(latency for load in loads for latency in load.latencies_ms),
        statuses=dict(sum((Counter(load.statuses) for load in loads), Counter())),
    )


def _cpu_seconds(servers: Sequence[Server]) -> float:
    """Processor time of the servers' own processes."""
    ticks = 0
    for server in servers:
        fields = Path(f"/proc/{server.pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])  # utime, stime
    return ticks / os.sysconf("SC_CLK_TCK")


def _shrunk(item: Item) -> Item:
    file = BytesIO()
    Image.open(BytesIO(item.image or b"")).resize(_SMALL).save(file, "JPEG", quality=85)
    return replace(item, image=file.getvalue())


if __name__ == "__main__":
    typer.run(main)
