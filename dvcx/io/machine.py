"""What this machine has to run commands with: cores, memory, GPUs."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping

_CGROUP_MEMORY = "/sys/fs/cgroup/memory.max"


def cores() -> int:
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0)) or 1
    return os.cpu_count() or 1


def memory() -> int:
    """Bytes of memory, the limit of the container if there is one; 0 when nobody can tell."""
    try:
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return 0
    with contextlib.suppress(OSError, ValueError), open(_CGROUP_MEMORY, encoding="ascii") as file:
        total = min(total, int(file.read(32)))
    return max(total, 0)


def gpus(environment: Mapping[str, str]) -> int:
    """How many NVIDIA GPUs there are, less those that CUDA_VISIBLE_DEVICES hides; 0 where none is seen."""
    visible = environment.get("CUDA_VISIBLE_DEVICES")
    try:
        found = sum(1 for name in os.listdir("/dev") if name.startswith("nvidia") and name[6:].isdecimal())
    except OSError:
        found = 0
    if visible is None:
        return found
    return min(found, len([name for name in visible.split(",") if name.strip() and name.strip() != "-1"]))


def host() -> str:
    """The name of this machine."""
    return os.uname().nodename if hasattr(os, "uname") else ""
