"""Structured logs on standard error, with the libraries' log lines in the same form."""

from __future__ import annotations

import logging
import os
import sys
import threading

import structlog
from structlog.typing import Processor

from service.settings import Settings
from service.telemetry.log_lines import LogLines

_log = structlog.get_logger()


def configure_logging(settings: Settings) -> None:
    """Send every log event and every Python warning through one formatter."""
    as_json = settings.log_format == "json" or (settings.log_format == "auto" and not os.isatty(2))
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    rendering: list[Processor] = [structlog.stdlib.ProcessorFormatter.remove_processors_meta]
    if as_json:
        rendering += [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    else:  # a rich traceback would show local variables, which hold input
        rendering += [structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)]
    handler = LogLines()
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=rendering))
    logging.basicConfig(level=settings.log_level.upper(), handlers=[handler], force=True)
    logging.captureWarnings(capture=True)
    threading.excepthook = _on_dead_thread
    sys.unraisablehook = _on_unraisable
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, *shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )


def _on_dead_thread(crash: threading.ExceptHookArgs) -> None:
    """Log the exception of a thread: Python would print a traceback, which is not JSON."""
    _log.critical("thread_died", thread=crash.thread and crash.thread.name, exc_info=crash.exc_value)


def _on_unraisable(error: sys.UnraisableHookArgs) -> None:
    """Log the exception of a destructor or a callback, which Python would print: to print may block."""
    _log.error("exception_ignored", exc_info=error.exc_value)
