"""What the processor of this machine can do."""

from __future__ import annotations

from pathlib import Path

_CPUINFO = Path("/proc/cpuinfo")
_BF16 = {"avx512_bf16", "amx_bf16", "bf16"}  # the last one on Arm


def has_bf16() -> bool:
    """Whether matrix products of bf16 are in hardware; False, too, where the system does not say it (not Linux)."""
    if not _CPUINFO.exists():
        return False
    lines = _CPUINFO.read_text(encoding="utf-8", errors="replace").splitlines()
    flags = {word for line in lines if line.lower().startswith(("flags", "features")) for word in line.split()}
    return bool(flags & _BF16)
