"""Every measurement of a run, in order. If one fails, the failure is recorded and the others continue."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.fanout import batch_bodies, check_fan_out
from benchmarks.goals import capacity
from benchmarks.load import MeasurementError, closed_loop
from benchmarks.meter import Meter
from benchmarks.mix import Mix
from benchmarks.servers import Program, Server, authors, litserve, ours, scores, serving, torch_litserve
from benchmarks.stages import profile
from model_store import Pattern, Precision
from model_store.openvino import has_openvino
from model_store.processor import has_amx
from service.models.execution import Runtime

CONCURRENCY = 16
LOADS = (0.3, 0.5, 0.7, 0.9)  # of the measured capacity
SINGLE_LOAD = 0.7
TASK_COUNTS = (1, 2, 4, 8)
_WORKERS = sorted({1, len(os.sched_getaffinity(0))})  # set-ups of LitServe
_SHIPPED = Path(__file__).parents[1] / "model_store"  # the store with the tasks that ship
_COMPARED = 12  # items whose scores must be equal on every server
_ROUNDS = 4  # in which items are compared beside others
_MAX_SCORE_DIFFERENCE = 0.01  # between servers of one precision; a wrong input moves scores by ten times that


@dataclass(frozen=True)
class Plan:
    """Duration of each kind of measurement, in seconds."""

    warm_up: float
    text: float
    closed: float
    open: float
    single: float  # open loop of a single presence pattern; measuring its capacity takes a third of this
    limit: float
    tasks: float


FULL = Plan(warm_up=3, text=6, closed=20, open=12, single=25, limit=15, tasks=8)
QUICK = Plan(warm_up=1, text=1, closed=2, open=1, single=2, limit=1, tasks=1)


class Bench:
    """Fills `figures`, and records failed measurements in `failures`."""

    def __init__(self, models: Path, precisions: Sequence[str], mix: Mix, plan: Plan, console: Console) -> None:
        self.figures: dict[str, Any] = {"has_amx": has_amx(), "ours": {}, "limit": {}}
        self.failures: list[str] = []
        self._models, self._precisions, self._plan = models, precisions, plan
        self._console, self._meter = console, Meter(console)
        self._mix = mix
        self._bodies = [item.body for item in mix.items]
        self._reference: list[dict[str, float]] | None = None

    def run(self) -> None:
        """Everything."""
        with self._attempt("the authors' way"):
            self.figures["authors"] = self._served(authors(self._models))
        with self._attempt("LitServe"):
            self.figures["litserve"] = self._best_of([litserve(self._models, workers) for workers in _WORKERS])
        with self._attempt("PyTorch bf16 behind LitServe"):
            programs = [torch_litserve(self._models, "bfloat16", workers) for workers in _WORKERS]
            self.figures["torch"] = self._best_of(programs)
        for precision in self._precisions:
            if precision == Precision.BF16 and not has_openvino():
                self._console.print("bf16 is not measured: OpenVINO, which computes it, does not run here")
                continue
            with self._attempt(f"bare runtime {precision}"):
                self.figures["limit"][precision] = self._limit(precision)
            with self._attempt(f"ours {precision}"):
                self.figures["ours"][precision] = self._ours(precision)
        with self._attempt("ours, precision and runtime by measurement"):
            self.figures["ours"]["auto"] = self._ours("auto")
        with self._attempt("many tasks"):
            self._many_tasks()
        with self._attempt("start of the service"):
            self._start()

    @contextmanager
    def _attempt(self, name: str) -> Iterator[None]:
        self._console.rule(name)
        try:
            yield
        except (MeasurementError, OSError) as error:
            self.failures.append(f"{name}: {error}")
            self._console.print(f"failed: {error}", style="red", markup=False)

    def _served(self, program: Program) -> dict[str, Any]:
        with serving(program) as server:
            return self._common(program, server)

    def _common(self, program: Program, server: Server) -> dict[str, Any]:
        """The measurements of every server."""
        difference = self._compare(program, server)
        closed_loop(server.url, self._bodies, CONCURRENCY, self._plan.warm_up)
        text = self._meter.closed(f"{program.name}, the text", server.url, [self._mix.text.body], 1, self._plan.text)
        mixed = {}
        for concurrency, seconds in ((1, self._plan.closed / 2), (CONCURRENCY, self._plan.closed)):
            name = f"{program.name}, mixed, {concurrency} at once"
            mixed[str(concurrency)] = self._meter.closed(name, server.url, self._bodies, concurrency, seconds).as_json()
        most = capacity({"it": {"mixed": mixed}}, "it") or 0.0
        sweep = [
            self._meter.open(
                f"{program.name}, mixed, {load:.0%}", server.url, self._bodies, load * most, self._plan.open
            )
            for load in LOADS
        ]
        return {
            "program": program.name,
            "largest_score_difference": difference,
            "text": text.as_json(),
            "mixed": mixed,
            "sweep": [load.as_json() for load in sweep],
        }

    def _best_of(self, programs: Sequence[Program]) -> dict[str, Any]:
        """Try each; measure the best one further."""
        setups = {}
        for program in programs:
            with serving(program) as server:
                closed_loop(server.url, self._bodies, CONCURRENCY, self._plan.warm_up)
                load = self._meter.closed(program.name, server.url, self._bodies, CONCURRENCY, self._plan.closed)
            setups[program] = load.per_second
        best = max(setups, key=lambda program: setups[program])
        rates = {program.name: round(rate, 2) for program, rate in setups.items()}
        return {**self._served(best), "setups": rates}

    def _ours(self, precision: str) -> dict[str, Any]:
        program = ours(self._models / "one", precision, _runtime(precision))
        with serving(program) as server:
            found = self._common(program, server)
            image = self._mix.of(Pattern.IMAGE)[0].body
            found["image"] = self._meter.closed(
                f"{program.name}, one image", server.url, [image], 1, self._plan.text
            ).as_json()
            with profile(server.base) as stages:
                closed_loop(server.url, self._bodies, CONCURRENCY, self._plan.warm_up)
            found["profile"] = stages
            found["resident_bytes"] = server.resident_bytes()
            found["largest_change_beside_others"] = self._change_beside_others(server)
            found["single"] = {str(p): self._single(program, server, p) for p in (Pattern.TEXT, Pattern.IMAGE)}
        return found

    def _single(self, program: Program, server: Server, pattern: Pattern) -> dict[str, object]:
        bodies = [item.body for item in self._mix.of(pattern)]
        name = f"{program.name}, {pattern}-only"
        most = self._meter.closed(name, server.url, bodies, CONCURRENCY, self._plan.single / 3).per_second
        name = f"{name}, {SINGLE_LOAD:.0%}"
        return self._meter.open(name, server.url, bodies, SINGLE_LOAD * most, self._plan.single).as_json()

    def _change_beside_others(self, server: Server) -> float:
        """The largest change of a score between an item alone and with others at once."""
        alone = scores(server.url, self._bodies)
        with ThreadPoolExecutor(CONCURRENCY) as pool:
            together = [*pool.map(lambda body: scores(server.url, [body])[0], _ROUNDS * self._bodies)]
        change = max(
            abs(before[label] - score)
            for before, after in zip(_ROUNDS * alone, together, strict=True)
            for label, score in after.items()
        )
        self._console.print(f"a score changes by at most {change:.2g} beside other items")
        return change

    def _limit(self, precision: str) -> dict[str, Any]:
        command = [sys.executable, "-m", "benchmarks.limit", str(self._models / "one"), precision]
        command += ["--runtime", _runtime(precision)]
        command += ["--seconds", str(self._plan.limit)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise MeasurementError(f"benchmarks.limit failed:\n{done.stderr[-2000:]}")
        found: dict[str, Any] = json.loads(done.stdout)
        for name, setup in found["setups"].items():
            self._console.print(f"{name}: {setup['per_second']:.1f}/s, the text {setup['text_ms']:.2f} ms")
        self._console.print(f"with decoding and tokenising: {found['with_preparation_per_second']:.1f}/s")
        self._console.print(f"a picture takes {found['decode_cpu_ms']:.2f} ms of a processor to decode")
        return found

    def _many_tasks(self) -> None:
        """Time of one image for 1, 2, 4 and 8 tasks, and memory with 1 task and with 8; fp32."""
        tasks, resident, plan = {}, {}, self._plan
        for store, counts in (("one", TASK_COUNTS[:1]), ("eight", TASK_COUNTS)):
            with serving(ours(self._models / store, Precision.FP32, Runtime.ONNXRUNTIME)) as server:
                url = f"{server.base}/classify/batch"
                check_fan_out(url, self._mix.items[0], counts[-1])
                closed_loop(url, batch_bodies(self._mix.items, counts[-1]), CONCURRENCY, 2 * plan.warm_up)
                resident[str(counts[-1])] = server.resident_bytes()
                self._console.print(f"{counts[-1]} tasks loaded: {resident[str(counts[-1])] / 2**20:.0f} MiB resident")
                for count in counts if store == "eight" else ():
                    bodies = batch_bodies(self._mix.of(Pattern.IMAGE), count)
                    tasks[str(count)] = self._meter.closed(
                        f"an image for {count} tasks", url, bodies, 1, plan.tasks
                    ).as_json()
        self.figures |= {"tasks": tasks, "resident_bytes": resident}

    def _start(self) -> None:
        """Seconds from the start of the service with the shipped tasks until it is ready, without and with times."""
        with tempfile.TemporaryDirectory() as folder:
            program = ours(_SHIPPED, "auto", "auto", "--timings-file", str(Path(folder) / "times.json"))
            for state in ("cold", "warm"):
                with serving(program) as server:
                    self.figures.setdefault("start_seconds", {})[state] = server.start_seconds
                    self._console.print(f"shipped tasks, {state}: ready after {server.start_seconds:.1f} s")

    def _compare(self, program: Program, server: Server) -> float | None:
        """Difference of the scores from the first server's. Raises MeasurementError if fp32 cannot explain it."""
        answers = scores(server.url, self._bodies[:_COMPARED])
        if self._reference is None:
            self._reference = answers
            return None
        pairs = zip(self._reference, answers, strict=True)
        difference = max(abs(first[label] - score) for first, answer in pairs for label, score in answer.items())
        if difference > _MAX_SCORE_DIFFERENCE and program.is_exact:
            raise MeasurementError(f"{program.name} gives different answers: a score differs by {difference:.3f}")
        return difference


def _runtime(precision: str) -> str:
    """The runtime that is measured with a precision; `auto` where there are two."""
    if precision == "auto":
        return precision
    return {Precision.FP32: Runtime.ONNXRUNTIME, Precision.BF16: Runtime.OPENVINO}.get(Precision(precision), "auto")
