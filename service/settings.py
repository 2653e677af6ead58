"""Every setting of the service: `MORA_<NAME>` in the environment, `--<name>` on the command line."""

from __future__ import annotations

import difflib
import os
from collections.abc import Collection, Iterable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    Field,
    HttpUrl,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    field_validator,
)
from pydantic_settings import BaseSettings, SettingsConfigDict

from model_store import DEFAULT_STORE
from model_store.items.pictures import MAX_PIXELS
from model_store.messages import describe_field_error

PREFIX = "MORA_"
Port = Annotated[int, Field(ge=0, le=65535)]


def usable_cores() -> int:
    """The number of cores that this process may run on: in a container fewer than the machine may have."""
    return len(os.sched_getaffinity(0))


class Settings(BaseSettings):
    """Settings of the service, read once at start. A flag takes precedence over an environment variable."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid")

    store: Path = Field(DEFAULT_STORE, description="Folder of the model store.")
    trusted_keys: Path | None = Field(
        None,
        description="File of public keys (PEM), read at start. Only versions that one of these keys signed are served.",
    )
    host: str = Field("127.0.0.1", description="Address to listen on; 0.0.0.0 means every interface.")
    port: Port = Field(8000, description="Port to listen on; 0 takes a free port.")
    metrics_port: Port | None = Field(
        None,
        description="Separate port for `GET /metrics`, without API keys; by default it is served on `MORA_PORT`.",
    )
    api_keys_file: Path | None = Field(
        None,
        description="File of API keys (`mora-serve hash-key`), read again when it changes; by default no key is"
        " needed.",
    )
    rate_limit: NonNegativeFloat = Field(
        0.0, description="Requests per second for each API key, or in total without API keys; 0 means no limit."
    )
    rate_burst: PositiveInt = Field(20, description="Requests that `MORA_RATE_LIMIT` lets through at once.")
    max_connections: PositiveInt = Field(
        1024,
        description="Maximum number of open connections, or fewer if the open-file limit is lower; others are"
        " closed at once.",
    )
    header_seconds: PositiveFloat = Field(10.0, description="Time limit for a client to send its headers, in seconds.")
    body_idle_seconds: PositiveFloat = Field(
        10.0, description="Longest pause of a client within a request body, in seconds."
    )
    body_seconds: PositiveFloat = Field(
        30.0, description="Time limit for a client to send a request body or to receive an answer, in seconds."
    )
    drain_delay_seconds: NonNegativeFloat = Field(
        5.0, description="Time after SIGTERM in which the service is not ready but still answers, in seconds."
    )
    drain_seconds: PositiveFloat = Field(
        20.0, description="Deadline for exit after SIGTERM, in seconds, `MORA_DRAIN_DELAY_SECONDS` included."
    )
    poll_seconds: PositiveFloat = Field(
        1.0, description="Interval between checks for newly published versions, in seconds."
    )
    max_pinned_versions: PositiveInt = Field(
        2, description="Maximum number of versions that are not live and stay loaded because requests pinned them."
    )
    precision: Literal["auto", "fp32", "int8", "fp16"] = Field(
        "auto",
        description="Precision of the graphs; auto: fp16 on a GPU and int8 on a CPU if the version has it, else fp32.",
    )
    intra_op_threads: PositiveInt = Field(
        default_factory=usable_cores, description="Threads of one encoder run; by default the number of usable cores."
    )
    preparation_workers: PositiveInt = Field(
        default_factory=usable_cores,
        description="Requests decoded and tokenized in parallel; by default the number of usable cores.",
    )
    encoder_workers: PositiveInt | None = Field(
        None,
        description="Parallel runs of each encoder; by default the number of usable cores for int8, which runs inputs"
        " one at a time, and 1 for other precisions.",
    )
    queue_size: NonNegativeInt = Field(
        64, description="Requests that may wait for each encoder, and for preparation; further requests are refused."
    )
    timeout_ms: PositiveInt = Field(
        10_000, description="Deadline of a request that has no `timeout_ms` of its own, in milliseconds."
    )
    max_batch_tokens: PositiveInt = Field(
        512, description="Maximum number of tokens in one encoder run; a 224-pixel image in patches of 16 has 197."
    )
    max_batch_cells: PositiveInt = Field(
        256,
        description="Maximum answers of one `POST /classify/batch` (inputs times tasks) or `/v2` request (items).",
    )
    cache_bytes: NonNegativeInt = Field(
        0,
        description="Memory for the trunk outputs of repeated inputs, in bytes; 0 disables the cache.",
    )
    max_body_bytes: PositiveInt = Field(20_000_000, description="Largest request body, in bytes.")
    max_image_pixels: PositiveInt = Field(
        MAX_PIXELS, description="Maximum number of pixels of an image, before and after resizing."
    )
    max_decode_bytes: PositiveInt = Field(
        160_000_000,
        description="Memory for all images being decoded, in bytes; further images wait, and an image that needs more"
        " by itself is refused.",
    )
    max_text_bytes: PositiveInt = Field(65_536, description="Longest text, in bytes of UTF-8.")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Lowest severity of events to log."
    )
    log_format: Literal["auto", "json", "console"] = Field(
        "auto", description="Format of the log; auto: console on a terminal, else json."
    )
    traces_endpoint: HttpUrl | None = Field(
        None,
        description="URL for traces, by OTLP over HTTP (`http://collector:4318/v1/traces`); needs the extra `otel`.",
    )

    @field_validator("traces_endpoint")
    @classmethod
    def _has_exporter(cls, endpoint: HttpUrl | None) -> HttpUrl | None:
        if endpoint is not None:
            try:
                metadata.version("opentelemetry-exporter-otlp-proto-http")
            except metadata.PackageNotFoundError as error:
                raise ValueError("traces need the extra otel (pip install '.[otel]')") from error
        return endpoint


class RaySettings(Settings):
    """Settings of `service.ray_app`, whose replicas Ray Serve starts and stops."""

    min_replicas: PositiveInt = Field(1, description="Minimum number of replicas.")
    max_replicas: PositiveInt = Field(1, description="Maximum number of replicas; at least `MORA_MIN_REPLICAS`.")
    target_ongoing_requests: PositiveFloat = Field(
        16.0, description="In-flight requests per replica that autoscaling aims at."
    )
    num_cpus: PositiveFloat = Field(
        1.0,
        description="CPUs that a replica reserves on its node; also the default of `MORA_INTRA_OP_THREADS` and"
        " `MORA_PREPARATION_WORKERS`.",
    )
    num_gpus: NonNegativeFloat = Field(0.0, description="GPUs that a replica reserves; 0 hides all GPUs from it.")


def check_names(environment: Iterable[str], settings: type[Settings] = Settings) -> None:
    """Refuse an unknown `MORA_*` variable, because a misspelt setting would be ignored silently.

    Raises:
        ValueError: a variable is unknown; the message names it and the closest setting.
    """
    known = [f"{PREFIX}{name.upper()}" for name in settings.model_fields]
    for name in environment:
        if name.upper().startswith(PREFIX) and name.upper() not in known:
            closest = difflib.get_close_matches(name.upper(), known, n=1, cutoff=0.0)[0]
            raise ValueError(f"{name} is not a setting; unset it, or set the closest, {closest}")


def read_settings(flags: Mapping[str, object], besides: Collection[str] = ()) -> Settings:
    """Settings from the environment and from `flags`, which take precedence.

    Args:
        besides: `MORA_*` variables that are not settings.

    Raises:
        ValueError: a setting is invalid; the message names it and the reason.
    """
    check_names(name for name in os.environ if name not in besides)
    try:
        return Settings.model_validate(flags)
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0])
        flag = f"--{name.replace('_', '-')} ({PREFIX}{name.upper()})"
        raise ValueError(f"{flag}: {describe_field_error(first)}") from error
