"""Is the host large enough? Raises limits where it may, and refuses to start where it would fail later.

Knows numbers of the machine only; what is needed comes in as arguments.
"""

from __future__ import annotations

import resource

from supervisor.errors import StartError

# Below this a process cannot hold its log, its rings' doorbells and a useful number of clients.
DESCRIPTORS_MIN = 256
# What a worker needs beside the rings: an interpreter with its libraries, and room for connections.
WORKER_BYTES = 24 << 20
_CGROUP_FOLDER = "/sys/fs/cgroup"
_MEMINFO = "/proc/meminfo"


def raise_descriptor_limit() -> int:
    """Raise the limit of open descriptors to what this process may have, for workers too, and return it.

    Raises:
        StartError: it is too small.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if 0 <= hard < DESCRIPTORS_MIN:
        raise StartError(
            f"Host too small: {hard} open files are allowed, midge needs {DESCRIPTORS_MIN} (ulimit -n)"
        )
    return hard


def check_memory(worker_count: int, region_bytes: int, available_bytes: int | None = None) -> None:
    """Refuse to start where rings and workers could not have the memory that they may come to use.

    Args:
        region_bytes: size of the shared memory, used only as it is touched.
        available_bytes: None asks the kernel.

    Raises:
        StartError: there is too little.
    """
    if available_bytes is None:
        available_bytes = available_memory_bytes()
    needed = region_bytes + worker_count * WORKER_BYTES
    if available_bytes is not None and needed > available_bytes:
        raise StartError(
            f"Host too small: {worker_count} workers may use {needed >> 20} MiB,"
            f" {available_bytes >> 20} MiB are available; use fewer --workers"
        )


def available_memory_bytes(meminfo: str = _MEMINFO, cgroup: str = _CGROUP_FOLDER) -> int | None:
    """Return the bytes that host and control group can give without swapping; None if unknown."""
    found = [_host_available_bytes(meminfo), _cgroup_available_bytes(cgroup)]
    return min((value for value in found if value is not None), default=None)


def _host_available_bytes(meminfo: str) -> int | None:
    for line in _read(meminfo).splitlines():
        name, _, rest = line.partition(":")
        if name == "MemAvailable":
            return int(rest.split()[0]) * 1024
    return None


def _cgroup_available_bytes(cgroup: str) -> int | None:
    limit = _read(f"{cgroup}/memory.max").strip()
    used = _read(f"{cgroup}/memory.current").strip()
    return max(0, int(limit) - int(used)) if limit.isdigit() and used.isdigit() else None


def _read(path: str) -> str:
    """Return the text of a file of the kernel, "" where there is none."""
    try:
        with open(path) as file:
            return file.read()
    except OSError:
        return ""
