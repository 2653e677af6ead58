"""The Host header of a request: its form, and the names that the service answers for.

A web page may let its own name resolve to 127.0.0.1 (DNS rebinding). The browser then sends the page's requests to a
service on the visitor's machine, and only the Host header, which has the page's name, tells them from others. Therefore
a connection to a loopback address must name a loopback host or an allowed one.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection

from starlette.datastructures import Headers
from starlette.types import Scope

from service.errors import Code, ServiceError

_HOST = re.compile(r"([A-Za-z0-9._-]{1,255}|\[[0-9A-Fa-f:.]{2,45}\])(:[0-9]{1,5})?")


class AllowedHosts:
    """Checks the Host header.

    Args:
        names: allowed besides the loopback names: host names, addresses, `*.` and a domain for its subdomains, or `*`.
            Without names, connections to other than loopback addresses may name any host.
    """

    def __init__(self, names: Collection[str] = ()) -> None:
        self._names = frozenset(name.lower() for name in names)

    def check(self, scope: Scope) -> None:
        """Raises ServiceError `bad_host`."""
        hosts = Headers(scope=scope).getlist("host")
        if not hosts and scope.get("http_version") == "1.0":  # HTTP/1.0 does not require this header; browsers send it
            return
        match = _HOST.fullmatch(hosts[0]) if len(hosts) == 1 else None
        if match is None:
            raise ServiceError(Code.BAD_HOST, "Send one Host header: a name or an address, and optionally a port.")
        if not self._allows(match[1].lower().removesuffix("."), scope.get("server")):
            detail = "The service does not answer for this host name; MORA_ALLOWED_HOSTS can allow it."
            raise ServiceError(Code.BAD_HOST, detail)

    def _allows(self, host: str, server: tuple[str, int | None] | None) -> bool:
        if "*" in self._names or host in self._names or _is_loopback_name(host):
            return True
        if any(f"*.{parent}" in self._names for parent in _parents(host)):
            return True
        return not self._names and not (server is not None and _is_loopback(server[0]))


def _parents(host: str) -> list[str]:
    parts = host.split(".")
    return [".".join(parts[start:]) for start in range(1, len(parts))]


def _is_loopback_name(host: str) -> bool:
    return host == "localhost" or host.endswith(".localhost") or _is_loopback(host.strip("[]"))


def _is_loopback(address: str) -> bool:
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
    return (mapped or parsed).is_loopback or parsed.is_unspecified  # a connection to 0.0.0.0 reaches 127.0.0.1
