"""The two files by which others find a running server: the PID file and the ports file.

Both appear complete or not at all. As with nats-server the PID file stays when the server stops, and the
ports file goes.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence

from supervisor.config import join_host_port
from supervisor.listener import ANY_ADDRESS

# Client test suites look for this name with the PID that they started, whatever they called the executable.
PORTS_FILE_PREFIX = "nats-server"
PID_FILE_MODE = 0o600
PORTS_FILE_MODE = 0o644


def write_pid_file(path: str, process_id: int) -> None:
    """Write the digits of the PID, without a newline.

    Raises:
        OSError: the file cannot be written.
    """
    _write_whole(path, str(process_id).encode(), PID_FILE_MODE)


def ports_file_path(folder: str, process_id: int) -> str:
    """Return where the ports file of a server is."""
    return os.path.join(folder, f"{PORTS_FILE_PREFIX}_{process_id}.ports")


def write_ports_file(path: str, addresses: Sequence[str], port: int) -> None:
    """Write the URLs at which clients are accepted.

    Raises:
        OSError: the file cannot be written.
    """
    urls = [f"nats://{join_host_port(address, port)}" for address in addresses]
    _write_whole(path, json.dumps({"nats": urls}, separators=(",", ":")).encode(), PORTS_FILE_MODE)


def reachable_addresses(host: str, bound_address: str) -> list[str]:
    """Return the addresses behind a listening socket: every one of the host if it listens on all.

    Args:
        host: as configured; bound_address: as the socket says.
    """
    if host not in ANY_ADDRESS:
        return [bound_address]
    # Only here: psutil takes as long to import as everything else that the supervisor does before it is
    # ready.
    import socket

    import psutil

    addresses = [
        entry.address.partition("%")[0]
        for entries in psutil.net_if_addrs().values()
        for entry in entries
        if entry.family in (socket.AF_INET, socket.AF_INET6)
    ]
    return list(dict.fromkeys(addresses))


def _write_whole(path: str, data: bytes, mode: int) -> None:
    temporary = f"{path}.{os.getpid()}.tmp"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    try:
        try:
            os.write(descriptor, data)
        finally:
            os.close(descriptor)
        os.replace(temporary, path)
    except OSError:
        os.unlink(temporary)
        raise
