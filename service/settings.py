"""Every setting of the service: `MORA_<NAME>` in the environment, `--<name>` on the command line."""

from __future__ import annotations

import difflib
import hashlib
import os
import re
from collections.abc import Collection, Iterable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import (
    AnyUrl,
    Field,
    HttpUrl,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from model_store import DEFAULT_STORE
from model_store.items.pictures import MAX_PIXELS
from model_store.messages import describe_field_error
from service.cores import usable_cores

PREFIX = "MORA_"
Port = Annotated[int, Field(ge=0, le=65535)]
_SCHEME = "://"  # in a target, and in no path
_ORIGIN = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^/?#@*\\\s]+")
_HOST_PATTERN = re.compile(r"(\*\.)?[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*|\[[0-9A-Fa-f:.]{2,45}\]")
_PATH_PREFIX = re.compile(r"(/[A-Za-z0-9._~-]+)+")


class Settings(BaseSettings):
    """Settings of the service, read once at start. A flag takes precedence over an environment variable."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid", use_attribute_docstrings=True)

    store: Path | str = DEFAULT_STORE
    """Folder of the model store, or targets to pull it from, separated by commas: `oci://HOST/REPOSITORY:TAG`, ..."""
    store_cache: Path | None = None
    """Folder for a store that is pulled; by default below `mora-serve` in the user's cache."""
    plain_http: bool = False
    """Whether the registry or the object store of MORA_STORE speaks HTTP without TLS."""
    trusted_keys: Path | None = None
    """File of public keys (PEM), read at start and on SIGHUP. Only versions that one of them signed are served."""
    host: str = "127.0.0.1"
    """Address to listen on; 0.0.0.0 means every interface."""
    port: Port = 8000
    """Port to listen on; 0 takes a free port."""
    metrics_port: Port | None = None
    """Separate port for `GET /metrics`, without API keys; by default it is served on `MORA_PORT`."""
    root_path: str | None = None
    """Path prefix under which a reverse proxy publishes the service, such as `/mora`, removed by the proxy or not."""
    cors_origins: Annotated[tuple[str, ...], NoDecode] = Field(default_factory=tuple)
    """Web pages that may use the service: their origins, separated by commas, or `*`; by default only its own pages."""
    allowed_hosts: Annotated[tuple[str, ...], NoDecode] = Field(default_factory=tuple)
    """Accepted host names, separated by commas, or `*`; by default any, but only loopback names on loopback."""
    api_keys_file: Path | None = None
    """File of API keys (`mora-serve hash-key`), read again when it changes; by default no key is needed."""
    rate_limit: NonNegativeFloat = 0.0
    """Answers per second for each API key, or in total without API keys; a batch has many; 0 means no limit."""
    rate_burst: PositiveInt = 20
    """Answers that `MORA_RATE_LIMIT` lets through at once."""
    max_connections: PositiveInt = 1024
    """Maximum number of connections, or fewer if the open-file limit is lower; beyond it, only probes are answered."""
    header_seconds: PositiveFloat = 10.0
    """Time limit for a client to send its headers, in seconds."""
    body_idle_seconds: PositiveFloat = 10.0
    """Longest pause of a client within a request body, in seconds."""
    body_seconds: PositiveFloat = 30.0
    """Time limit for a client to send a request body or to receive an answer, in seconds."""
    drain_delay_seconds: NonNegativeFloat = 5.0
    """Time after SIGTERM in which the service is not ready but still answers, in seconds."""
    drain_seconds: PositiveFloat = 20.0
    """Deadline for exit after SIGTERM, in seconds; longer than `MORA_DRAIN_DELAY_SECONDS`, which it includes."""
    poll_seconds: PositiveFloat = 1.0
    """Interval between checks for newly published versions, in seconds."""
    max_pinned_versions: PositiveInt = 2
    """Maximum number of versions that are not live and stay loaded because requests pinned them."""
    runtime: Literal["auto", "onnxruntime", "openvino"] = "auto"
    """What runs the graphs; auto: ONNX Runtime, or OpenVINO where it is installed and faster on this machine."""
    precision: Literal["auto", "fp32", "bf16", "int8", "fp16"] = "auto"
    """Precision of the graphs; auto: the fastest one that the version has for this machine."""
    timings_file: Path | None = None
    """File in which the measured times of runtimes and precisions are kept from start to start; by default none."""
    intra_op_threads: PositiveInt = Field(default_factory=usable_cores)
    """Threads of one encoder run; by default the number of usable cores."""
    preparation_workers: PositiveInt = Field(default_factory=usable_cores)
    """Pictures decoded in parallel, and long texts tokenized; by default the number of usable cores."""
    encoder_workers: PositiveInt | None = None
    """Parallel runs of each encoder; by default 1, and the usable cores for int8 of earlier releases."""
    queue_size: NonNegativeInt = 64
    """Requests that may wait for each encoder, for decoding and for tokenizing; further requests are refused."""
    timeout_ms: PositiveInt = 10_000
    """Deadline of a request that has no `timeout_ms` of its own, in milliseconds."""
    max_batch_tokens: PositiveInt | None = None
    """Tokens of one encoder run (a 224-pixel image in patches of 16 has 197); by default 512, and 16384 on a GPU."""
    max_batch_cells: PositiveInt = 256
    """Maximum answers of one `POST /classify/batch` (inputs times tasks), `/v1` or `/v2` request (items)."""
    cache_bytes: NonNegativeInt = 0
    """Memory for the trunk outputs of repeated inputs, in bytes; 0 disables the cache."""
    max_body_bytes: PositiveInt = 20_000_000
    """Largest request body, in bytes."""
    max_bodies_bytes: PositiveInt = 128_000_000
    """Memory for all request bodies in flight, in bytes; beyond it, bodies of over 64 KiB wait."""
    max_image_pixels: PositiveInt = MAX_PIXELS
    """Maximum number of pixels of an image, before and after resizing."""
    max_decode_bytes: PositiveInt = 160_000_000
    """Memory for all images being decoded, in bytes; other images wait, and an image that needs more is refused."""
    max_text_bytes: PositiveInt = 65_536
    """Longest text, in bytes of UTF-8."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Lowest severity of events to log."""
    log_format: Literal["auto", "json", "console"] = "auto"
    """Format of the log; auto: console on a terminal, else json."""
    traces_endpoint: HttpUrl | None = None
    """URL for traces, by OTLP over HTTP (`http://collector:4318/v1/traces`); needs the extra `otel`."""

    @field_validator("store", mode="before")
    @classmethod
    def _folder_or_targets(cls, value: object) -> object:
        return Path(value) if isinstance(value, str) and _SCHEME not in value else value

    @field_validator("root_path")
    @classmethod
    def _without_last_slash(cls, path: str | None) -> str | None:
        path = (path or "").rstrip("/")
        if path and not _PATH_PREFIX.fullmatch(path):
            raise ValueError("a path prefix begins with a slash, such as /mora, and is no URL")
        return path or None

    @field_validator("cors_origins", mode="before")
    @classmethod
    def _origins(cls, value: object) -> object:
        origins = tuple(map(_origin, _listed(value)))
        if "*" in origins and len(origins) > 1:
            raise ValueError("* allows every origin; leave out the others")
        return origins

    @field_validator("allowed_hosts", mode="before")
    @classmethod
    def _hosts(cls, value: object) -> object:
        for name in (names := _listed(value)):
            if name != "*" and not _HOST_PATTERN.fullmatch(name):
                raise ValueError(f"{name} is not a host name, an address or `*.` and a domain; give no scheme or port")
        return names

    @field_validator("traces_endpoint")
    @classmethod
    def _has_exporter(cls, endpoint: HttpUrl | None) -> HttpUrl | None:
        if endpoint is not None:
            try:
                metadata.version("opentelemetry-exporter-otlp-proto-http")
            except metadata.PackageNotFoundError as error:
                raise ValueError("traces need the extra otel (pip install 'mora-serve[otel]')") from error
        return endpoint

    @property
    def targets(self) -> tuple[str, ...]:
        """Where the store is pulled from; nothing if it is a folder."""
        return () if isinstance(self.store, Path) else _listed(self.store)

    @property
    def store_folder(self) -> Path:
        """Folder of the model store, which exists once it is pulled. Targets of other tasks have another folder."""
        if isinstance(self.store, Path):
            return self.store
        cache = self.store_cache or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mora-serve"
        return cache / hashlib.sha256("\n".join(self.targets).encode()).hexdigest()[:16]

    @model_validator(mode="after")
    def _agree(self) -> Self:
        """Refuse settings of which one makes the other useless."""
        if self.drain_delay_seconds >= self.drain_seconds:
            raise _contradiction(self, "drain_delay_seconds", "must be shorter than", "drain_seconds")
        if self.body_idle_seconds > self.body_seconds and self.model_fields_set >= {"body_idle_seconds"}:
            raise _contradiction(self, "body_idle_seconds", "must not be longer than", "body_seconds")
        if self.port == self.metrics_port != 0:
            raise _contradiction(self, "metrics_port", "must differ from", "port")
        return self


def _listed(value: object) -> tuple[str, ...]:
    """The parts of a text that are separated by commas, or the items of a list. Raises ValueError."""
    parts = value.split(",") if isinstance(value, str) else value
    if not isinstance(parts, list | tuple):
        raise ValueError("give names, separated by commas")
    return tuple(str(part).strip() for part in parts if str(part).strip())


def _origin(text: str) -> str:
    """An origin as browsers send it. Raises ValueError."""
    if text == "*":
        return text
    if text == "null":
        raise ValueError("null is the origin of files and of sandboxed pages of any site; only * allows it")
    try:
        url = AnyUrl(text) if _ORIGIN.fullmatch(text) else None
    except ValidationError:
        url = None
    if url is None:
        raise ValueError(f"{text} is not an origin; write scheme and host without a path, such as https://shop.example")
    return str(url).rstrip("/")


def _contradiction(settings: Settings, first: str, relation: str, second: str) -> ValueError:
    """The error for two settings, with their values."""
    names = [f"{PREFIX}{name.upper()} ({getattr(settings, name)})" for name in (first, second)]
    return ValueError(f"{names[0]} {relation} {names[1]}; change one of them")


class RaySettings(Settings):
    """Settings of `service.ray_app`, whose replicas Ray Serve starts and stops."""

    min_replicas: PositiveInt = 1
    """Minimum number of replicas."""
    max_replicas: PositiveInt = 1
    """Maximum number of replicas; at least `MORA_MIN_REPLICAS`."""
    target_ongoing_requests: PositiveFloat = 16.0
    """In-flight requests per replica that autoscaling aims at."""
    num_cpus: PositiveFloat = 1.0
    """CPUs that a replica reserves, and its `MORA_INTRA_OP_THREADS` and `MORA_PREPARATION_WORKERS` by default."""
    num_gpus: NonNegativeFloat = 0.0
    """GPUs that a replica reserves; 0 hides all GPUs from it."""

    @model_validator(mode="after")
    def _replicas_agree(self) -> Self:
        if self.min_replicas > self.max_replicas:
            raise _contradiction(self, "min_replicas", "must not be more than", "max_replicas")
        return self


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
        if not first["loc"]:  # about several settings, which it names
            raise ValueError(describe_field_error(first)) from error
        name = str(first["loc"][0])
        flag = f"--{name.replace('_', '-')} ({PREFIX}{name.upper()})"
        raise ValueError(f"{flag}: {describe_field_error(first)}") from error
