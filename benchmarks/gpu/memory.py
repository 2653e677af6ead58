"""Memory in use: of the GPU, or on a machine without one of the server's process."""

from __future__ import annotations

import subprocess

from benchmarks.servers import Server
from service.models.graphs import has_cuda


def used_mib(server: Server | None = None) -> float:
    """Memory of the whole GPU in use, in MiB; without a GPU the resident memory of the server, or 0 without one."""
    if has_cuda():
        query = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
        return float(subprocess.run(query, capture_output=True, text=True, check=True).stdout.split()[0])
    return 0.0 if server is None else server.resident_bytes() / 2**20
