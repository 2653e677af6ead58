"""`unshare --net python -m tests.support.faults.loopback_only COMMAND ...`: run a command with loopback alone."""

from __future__ import annotations

import fcntl
import os
import socket
import struct
import sys

_SET_INTERFACE_FLAGS, _UP = 0x8914, 1  # SIOCSIFFLAGS and IFF_UP of Linux


def begin() -> None:
    """Bring loopback up; exits where there is any other interface."""
    interfaces = [name for _, name in socket.if_nameindex()]
    if interfaces != ["lo"]:
        sys.exit(f"not alone with loopback: {interfaces}")
    with socket.socket() as any_socket:
        fcntl.ioctl(any_socket, _SET_INTERFACE_FLAGS, struct.pack("16sh14x", b"lo", _UP))


if __name__ == "__main__":
    begin()
    os.execvp(sys.argv[1], sys.argv[1:])  # noqa: S606
