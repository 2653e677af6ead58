"""Memory in use: of the GPU, or on a machine without one of the server's process."""

from __future__ import annotations

import subprocess
from pathlib import Path

from service.models.graphs import has_cuda


def used_mib(pid: int | None = None) -> float:
    """Memory of the whole GPU in use, in MiB; without a GPU the resident memory of process `pid`, or 0 without one."""
    if has_cuda():
        query = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
        return float(subprocess.run(query, capture_output=True, text=True, check=True).stdout.split()[0])
    if pid is None:
        return 0.0
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    return int(next(line for line in status if line.startswith("VmRSS:")).split()[1]) / 1024
