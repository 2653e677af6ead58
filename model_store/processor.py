"""What Linux says of the processor."""

from __future__ import annotations

from pathlib import Path


def processor_fields() -> dict[str, str]:
    """The fields of a processor in /proc/cpuinfo, such as `model name` and `flags`; none on other systems."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return {}
    return {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}


def has_amx() -> bool:
    """Whether the processor multiplies matrices in bf16, and OpenVINO is known to run there."""
    return "amx_bf16" in processor_fields().get("flags", "").split()
