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
from model_store.messages import describe_field_error

PREFIX = "MORA_"
Port = Annotated[int, Field(ge=0, le=65535)]


def usable_cores() -> int:
    """How many cores this process may run on, which in a container can be fewer than the machine has."""
    return len(os.sched_getaffinity(0))


class Settings(BaseSettings):
    """The service's settings, read once at start; a flag wins over the environment."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid")

    store: Path = Field(DEFAULT_STORE, description="Folder of the model store.")
    trusted_keys: Path | None = Field(
        None,
        description="File of public keys (PEM), read at start: only versions that one of them signed are served.",
    )
    host: str = Field("127.0.0.1", description="Address to listen on; 0.0.0.0 for every interface.")
    port: Port = Field(8000, description="Port to listen on; 0 takes a free one.")
    metrics_port: Port | None = Field(
        None,
        description="Port for `GET /metrics`, which is then nowhere else and needs no key; by default `MORA_PORT`.",
    )
    api_keys_file: Path | None = Field(
        None,
        description="File of API keys, lines of `mora-serve hash-key`, followed as it changes; none is needed without.",
    )
    rate_limit: NonNegativeFloat = Field(
        0.0, description="Requests a second for each key, or for all together without keys; 0 sets no limit."
    )
    rate_burst: PositiveInt = Field(20, description="Requests that `MORA_RATE_LIMIT` lets through at once.")
    max_connections: PositiveInt = Field(
        1024, description="Most open connections, if the limit of open files allows as many; more are closed at once."
    )
    header_seconds: PositiveFloat = Field(10.0, description="Longest a client may take to send its headers.")
    body_idle_seconds: PositiveFloat = Field(10.0, description="Longest a client may pause within a body.")
    body_seconds: PositiveFloat = Field(
        30.0, description="Longest a client may take to send a body, or to fetch an answer."
    )
    drain_delay_seconds: NonNegativeFloat = Field(
        5.0, description="How long to go on answering, not ready any more, once told to stop."
    )
    drain_seconds: PositiveFloat = Field(
        20.0, description="When the process has ended after it was told to stop, `MORA_DRAIN_DELAY_SECONDS` included."
    )
    poll_seconds: PositiveFloat = Field(1.0, description="How often to look for newly published versions, in seconds.")
    max_pinned_versions: PositiveInt = Field(
        2, description="How many versions that are not live stay loaded because requests pinned them."
    )
    precision: Literal["auto", "fp32", "int8", "fp16"] = Field(
        "auto",
        description="Precision of the graphs; auto: fp16 on a GPU, int8 on a CPU where the version has it, else fp32.",
    )
    intra_op_threads: PositiveInt = Field(
        default_factory=usable_cores, description="Threads one encoder run may use; by default every usable core."
    )
    preparation_workers: PositiveInt = Field(
        default_factory=usable_cores,
        description="Requests decoded and tokenized at the same time; by default one a usable core.",
    )
    encoder_workers: PositiveInt | None = Field(
        None,
        description="Runs of each encoder at the same time; by default one a usable core for int8, whose inputs run"
        " alone, and one at any other precision.",
    )
    queue_size: NonNegativeInt = Field(
        64, description="Requests that may wait for each encoder, and for preparation; more are refused."
    )
    timeout_ms: PositiveInt = Field(
        10_000, description="Milliseconds a request may take that sets no `timeout_ms` of its own."
    )
    max_batch_tokens: PositiveInt = Field(
        512, description="Most tokens in one run of an encoder; a 224-pixel image in patches of 16 has 197."
    )
    max_batch_cells: PositiveInt = Field(
        256,
        description="Most answers one `POST /classify/batch` (its inputs times its tasks) or `/v2` request (its items)"
        " may ask for.",
    )
    cache_bytes: NonNegativeInt = Field(
        0,
        description="Bytes of trunk outputs to keep for inputs that come again; 0 keeps none.",
    )
    max_body_bytes: PositiveInt = Field(20_000_000, description="Largest request body, in bytes.")
    max_image_pixels: PositiveInt = Field(
        50_000_000, description="Most pixels an image may have, before and after resizing."
    )
    max_decode_bytes: PositiveInt = Field(
        160_000_000,
        description="Most memory for pictures being decoded at the same time; more wait for their turn, and one that"
        " needs more by itself is refused.",
    )
    max_text_bytes: PositiveInt = Field(65_536, description="Longest text, in bytes of UTF-8.")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least severe event to log.")
    log_format: Literal["auto", "json", "console"] = Field(
        "auto", description="Form of the log; auto is console on a terminal and json elsewhere."
    )
    traces_endpoint: HttpUrl | None = Field(
        None,
        description="Where traces go, by OTLP over HTTP (`http://collector:4318/v1/traces`); needs the extra `otel`.",
    )

    @field_validator("traces_endpoint")
    @classmethod
    def _has_what_traces_need(cls, endpoint: HttpUrl | None) -> HttpUrl | None:
        if endpoint is not None:
            try:
                metadata.version("opentelemetry-exporter-otlp-proto-http")
            except metadata.PackageNotFoundError as error:
                raise ValueError("traces need the extra otel (pip install '.[otel]')") from error
        return endpoint


class RaySettings(Settings):
    """The settings of `service.ray_app`, whose replicas Ray Serve starts and stops."""

    min_replicas: PositiveInt = Field(1, description="Fewest replicas.")
    max_replicas: PositiveInt = Field(1, description="Most replicas; `MORA_MIN_REPLICAS` at least.")
    target_ongoing_requests: PositiveFloat = Field(
        16.0, description="Requests under way in each replica that Ray adds and removes replicas for."
    )
    num_cpus: PositiveFloat = Field(
        1.0,
        description="CPUs that a replica reserves on its node; `MORA_INTRA_OP_THREADS` and `MORA_PREPARATION_WORKERS`"
        " are by default as many.",
    )
    num_gpus: NonNegativeFloat = Field(0.0, description="GPUs that a replica reserves; without it sees none.")


def check_names(environment: Iterable[str], settings: type[Settings] = Settings) -> None:
    """Refuse an unknown `MORA_*` variable: a misspelt setting would be ignored in silence.

    Raises:
        ValueError: names the variable and the closest setting.
    """
    known = [f"{PREFIX}{name.upper()}" for name in settings.model_fields]
    for name in environment:
        if name.upper().startswith(PREFIX) and name.upper() not in known:
            closest = difflib.get_close_matches(name.upper(), known, n=1, cutoff=0.0)[0]
            raise ValueError(f"{name} is not a setting; unset it, or set the closest, {closest}")


def read_settings(flags: Mapping[str, object], besides: Collection[str] = ()) -> Settings:
    """The environment's settings, and those given.

    Args:
        besides: variables that begin alike and are no settings.

    Raises:
        ValueError: names the setting, and what is wrong with it.
    """
    check_names(name for name in os.environ if name not in besides)
    try:
        return Settings.model_validate(flags)
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0])
        flag = f"--{name.replace('_', '-')} ({PREFIX}{name.upper()})"
        raise ValueError(f"{flag}: {describe_field_error(first)}") from error
