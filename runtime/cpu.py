"""How many processor cores this process may use, the limits of containers included."""

from __future__ import annotations

import functools
import os
from pathlib import Path


@functools.cache
def physical_cores() -> int:
    """Physical cores this process may run on, at least 1: its affinity and its control group's quota are kept."""
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))
    siblings = {_read(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list") or str(cpu) for cpu in allowed}
    return max(1, min(len(siblings), _quota()))


def _quota() -> int:
    """Cores that the control group grants, rounded up; very many where there is no limit."""
    limit, _, period = _read("/sys/fs/cgroup/cpu.max").partition(" ")
    if limit.isdigit() and period.isdigit():
        return -(-int(limit) // int(period))
    return 1 << 30


def _read(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""
