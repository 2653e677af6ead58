"""The time limit of a request's steps."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from service.errors import Code, ServiceError
from service.telemetry.metrics import Metrics


@asynccontextmanager
async def in_time(stage: str, deadline: float, metrics: Metrics) -> AsyncIterator[None]:
    """Cancel the block at the deadline, of time.perf_counter(). Raises ServiceError `deadline`, counted by `stage`."""
    limit = asyncio.timeout(deadline - time.perf_counter())
    try:
        async with limit:
            yield
    except TimeoutError as error:
        if not limit.expired():
            raise
        metrics.deadline.labels(stage).inc()
        raise ServiceError(Code.DEADLINE, "The answer was not ready in time; timeout_ms allows more.") from error
