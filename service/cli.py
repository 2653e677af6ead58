"""`mora-serve`: the service on the command line."""

from __future__ import annotations

import inspect
import os
import signal
import socket
from typing import Annotated, Any

import structlog
import typer
import uvicorn
from fastapi import FastAPI
from pydantic import ValidationError

from service.app import create_app
from service.chunks import FewChunks
from service.engine import Engine
from service.logs import configure_logging
from service.memory import return_large_blocks
from service.settings import PREFIX, Settings, check_names

_SHUTDOWN_SECONDS = 20

app = typer.Typer(no_args_is_help=True, add_completion=False)
_log = structlog.get_logger()


@app.callback()
def main() -> None:
    """Serve published models to requests whose image or text may be missing."""


class _Server(uvicorn.Server):
    """Says where it listens once it does."""

    def __init__(self, service: FastAPI, settings: Settings) -> None:
        config = uvicorn.Config(
            service,
            host=settings.host,
            port=settings.port,
            http=FewChunks,
            log_config=None,
            log_level="warning",
            access_log=False,
            timeout_graceful_shutdown=_SHUTDOWN_SECONDS,
        )
        super().__init__(config)
        self._service = service

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        engine: Engine = self._service.state.engine
        tasks = {task: model.manifest.version for task, model in sorted(engine.catalog.live.items())}
        host, port = self.servers[0].sockets[0].getsockname()[:2]
        _log.info("listening", url=f"http://{host}:{port}", tasks=tasks)


def run(**flags: str | None) -> None:
    """Answer requests over HTTP until told to stop."""
    try:
        check_names(os.environ)
        settings = Settings.model_validate({name: value for name, value in flags.items() if value is not None})
    except ValidationError as error:
        first = error.errors()[0]
        raise typer.BadParameter(f"{first['loc'][0]}: {first['msg']}") from error
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    configure_logging(settings)
    return_large_blocks()
    # uvicorn drains on these signals, then raises them again for whoever handled them before: to stop is no failure.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    _Server(create_app(settings), settings).run()


def _flags() -> list[inspect.Parameter]:
    """One flag for each setting; the settings themselves parse what is given."""
    parameters = []
    for name, field in Settings.model_fields.items():
        option: Any = typer.Option(
            f"--{name.replace('_', '-')}",
            help=field.description,
            metavar="VALUE",
            envvar=f"{PREFIX}{name.upper()}",
            show_default=field.default is not None and not field.default_factory and str(field.default),
        )
        annotation = Annotated[str | None, option]
        parameters.append(inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation))
    return parameters


run.__signature__ = inspect.Signature(_flags())  # type: ignore[attr-defined]
app.command("run")(run)

if __name__ == "__main__":
    app()
