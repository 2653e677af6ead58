"""Reading what a server answers, with a limit, and describing what went wrong without repeating what it sent."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Generator
from ipaddress import ip_address
from urllib.parse import urlsplit

import urllib3
from urllib3.exceptions import HTTPError

from model_store.transfer.remote import PIECE_BYTES, TransferError, UnreachableError
from model_store.transfer.steady import whole

_KINDS = {
    "gaierror": "the name of the host is unknown",
    "ConnectionRefusedError": "connection refused",
    "ConnectionResetError": "the connection was reset",
    "SSLCertVerificationError": "its certificate is not trusted",
    "SSLError": "no TLS; --plain-http is for a registry without TLS",
    "ConnectTimeoutError": "no connection in time",
    "ConnectTimeout": "no connection in time",
    "PoolTimeout": "no connection in time",
    "ReadTimeoutError": "nothing arrived in time",
    "ReadTimeout": "nothing arrived in time",
    "WriteTimeout": "nothing was accepted in time",
    "ProtocolError": "the connection was closed before the end",
    "RemoteProtocolError": "the connection was closed before the end",
    "BrokenPipeError": "the connection was closed before the end",
}


def pieces_of(response: urllib3.BaseHTTPResponse, name: str) -> Generator[bytes, None, None]:
    """The content of an answer as it arrives. Raises UnreachableError if it breaks off."""
    try:
        while piece := response.read1(PIECE_BYTES, decode_content=False):
            yield piece
    except (HTTPError, OSError) as error:
        raise UnreachableError(f"{name} stops in the middle of an answer: {describe(error)}") from None


def read_all(response: urllib3.BaseHTTPResponse, max_bytes: int, name: str) -> bytes:
    """The content of an answer, of at most so many bytes. Raises TransferError."""
    try:
        return whole(pieces_of(response, name), max_bytes, f"the answer of {name}")
    except TransferError:
        response.close()
        raise


def describe(error: BaseException) -> str:
    """The kind of a network error. Its message may contain an address, and with it a signature."""
    chain = [error]
    while (cause := chain[-1].__cause__ or chain[-1].__context__) is not None and cause not in chain:
        chain.append(cause)
    names = [type(one).__name__ for one in reversed(chain)]  # the first cause first
    of_system = (os.strerror(one.errno) for one in chain if isinstance(one, OSError) and one.errno)
    return next((_KINDS[name] for name in names if name in _KINDS), None) or next(of_system, names[-1])


def origin(url: str) -> tuple[str, str | None, int | None]:
    """Scheme, host and port of an address. Raises ValueError."""
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)


def is_loopback(host: str) -> bool:
    """Whether a host is this machine, to which no proxy leads."""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def error_code(content: bytes) -> str:
    """The code in an error of a registry, such as ` BLOB_UPLOAD_UNKNOWN`; never its message."""
    try:
        code = json.loads(content)["errors"][0]["code"]
    except (ValueError, LookupError, TypeError, RecursionError):
        return ""
    return f" {code}" if isinstance(code, str) and re.fullmatch(r"[A-Z_]{1,40}", code) else ""
