"""Reading and parsing of request bodies, off the event loop where that takes long; sets a request's own deadline."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from starlette.requests import Request

from service.api.item import Batch
from service.api.openai import ItemsRequest
from service.api.requests import EmbedRequest
from service.inference.deadline import in_time
from service.inference.workers import Done, Workers
from service.settings import Settings
from service.telemetry.metrics import Metrics
from service.telemetry.record import RequestRecord, Stage
from service.web.bodies import JSON, MULTIPART, parse_batch, parse_request, read_body
from service.web.openai_inputs import Inputs, parse_inputs
from service.web.rate_limit import RateLimit
from service.web.tensors import BINARY, HEADER_LENGTH, Inference, parse_inference

T = TypeVar("T")
Form = TypeVar("Form", bound=EmbedRequest)
InputsForm = TypeVar("InputsForm", bound=ItemsRequest)
_INLINE_BYTES = 2**18  # parsing takes about 1 ms; a thread would hold Python's lock for as long
_LARGE_BYTES = 1_000_000  # parsing takes several times this memory
_THREADS = 4  # a long body does not block one less long; as they hold the lock, more threads are no faster


class RequestParser:
    """Parses requests before the engine gets them.

    A short body is parsed on the event loop, so that it never waits for long ones. Long bodies have threads of their
    own, so that they do not wait for pictures. Large bodies are parsed one at a time, which limits the memory for it.

    Args:
        limit: has taken one token for each request; a batch takes the rest here, where its size is known.
    """

    def __init__(self, settings: Settings, metrics: Metrics, limit: RateLimit | None = None) -> None:
        self._settings = settings
        self._metrics = metrics
        self._limit = limit
        self._workers = Workers("parsing", _THREADS, settings.queue_size)
        self._large = asyncio.Lock()

    async def item(self, form: type[Form], request: Request, record: RequestRecord) -> Form:
        """A request for one item. Raises ServiceError."""
        body = await read_body(request, self._settings.max_body_bytes, (JSON, MULTIPART))
        job = partial(parse_request, form, body, request.headers["content-type"], self._settings.max_text_bytes)
        parsed = await self._parse(job, body, record)
        if parsed.timeout_ms is not None:
            record.allow(parsed.timeout_ms)
        return parsed

    async def batch(self, request: Request, record: RequestRecord) -> Batch:
        """A request for several items. Raises ServiceError."""
        body = await read_body(request, self._settings.max_body_bytes, (JSON,))
        job = partial(parse_batch, body, self._settings.max_text_bytes, self._settings.max_batch_cells)
        parsed = await self._parse(job, body, record)
        self._count(record, len(parsed.inputs) * len(parsed.tasks))
        if parsed.timeout_ms is not None:
            record.allow(parsed.timeout_ms)
        return parsed

    async def inference(self, request: Request, record: RequestRecord) -> Inference:
        """A request of the Open Inference Protocol. Raises ServiceError."""
        body = await read_body(request, self._settings.max_body_bytes, (JSON, BINARY, ""))  # some clients send no type
        header_length = request.headers.get(HEADER_LENGTH)
        limits = self._settings.max_text_bytes, self._settings.max_batch_cells
        parsed = await self._parse(partial(parse_inference, body, header_length, *limits), body, record)
        self._count(record, len(parsed.items))
        if microseconds := parsed.request.parameters.timeout:
            record.allow(microseconds / 1000)
        return parsed

    async def inputs(self, form: type[InputsForm], request: Request, record: RequestRecord) -> Inputs[InputsForm]:
        """A request of OpenAI's API. Raises ServiceError."""
        body = await read_body(request, self._settings.max_body_bytes, (JSON,))
        limits = self._settings.max_text_bytes, self._settings.max_batch_cells
        parsed = await self._parse(partial(parse_inputs, form, body, *limits), body, record)
        self._count(record, len(parsed.items))
        if parsed.request.timeout_ms is not None:
            record.allow(parsed.request.timeout_ms)
        return parsed

    def close(self) -> None:
        """Finish running work and drop waiting work."""
        self._workers.close()

    def _count(self, record: RequestRecord, cells: int) -> None:
        record.answers = cells
        if self._limit is not None:
            self._limit.charge(record.client or "", cells, paid=1)

    async def _parse(self, job: Callable[[], T], body: bytes, record: RequestRecord) -> T:
        if len(body) <= _INLINE_BYTES:
            return job()
        submitted, deadline = time.perf_counter(), record.deadline
        if submitted > deadline:  # the body arrived slowly, and may set a later deadline than the default
            deadline = submitted + self._settings.timeout_ms / 1000
        async with in_time("parsing", deadline, self._metrics):
            done = await (self._alone(job) if len(body) > _LARGE_BYTES else self._workers.run(job))
        record.add(Stage.QUEUE, time.perf_counter() - submitted - done.run_seconds, submitted)
        return done.result

    async def _alone(self, job: Callable[[], T]) -> Done[T]:
        """Parse a large body. If its request is cancelled, the next one still waits for the thread to end."""
        async with self._large:
            parsing = asyncio.ensure_future(self._workers.run(job))
            try:
                return await asyncio.shield(parsing)
            finally:
                await asyncio.wait([parsing])
