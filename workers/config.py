"""What a worker is told when it starts.

The supervisor builds one WorkerConfig per worker from the command line and sends it as JSON, so this file is
the contract between the two. It holds values only: no defaults that depend on the machine, no I/O.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any, Self


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerConfig:
    """Settings of one worker; times are in nanoseconds, sizes in bytes."""

    index: int
    """Which worker this is, 0..worker_count-1."""
    worker_count: int
    ring_epochs: list[list[int]]
    """Epoch of the rings from worker i to worker j as [i][j]; see shm/README.md."""
    server_id: str
    server_name: str
    version: str
    """The nats-server version whose behaviour is implemented; clients gate features on it."""
    midge_version: str
    host: str
    port: int
    max_payload: int
    max_control_line: int
    max_pending: int
    """Unsent bytes after which a client is a slow consumer."""
    max_subscriptions: int
    """Per connection; 0 means no limit."""
    max_sub_tokens: int
    """Tokens in a subscribed subject; 0 means no limit."""
    ping_interval_ns: int
    ping_max: int
    write_deadline_ns: int
    auth_timeout_ns: int
    connect_urls: list[str]
    """Sent in INFO as connect_urls; empty for none."""
    token: str
    """Authorization token, plain or a bcrypt hash; "" for none."""
    user: str
    password: str
    """Plain or a bcrypt hash."""
    log_debug: bool
    log_trace: bool
    log_file: str
    """Path, appended to; "" is standard error."""
    log_time: bool
    """Whether log lines carry the time."""
    log_utc: bool = False
    """Whether that time is in UTC, not local."""
    jetstream: bool = False
    store_dir: str = ""
    """Where JetStream keeps files; this worker's streams are below worker-<index> there."""
    sync_interval_ns: int = 0
    """Time between syncs of what was stored; 0: every commit is synced before anything is acknowledged."""
    js_max_memory: int = -1
    """Bytes that all memory streams of the server may reserve; -1 means no limit."""
    js_max_file: int = -1
    """The same for file streams."""
    js_domain: str = ""
    """JetStream domain; "" for none."""
    js_strict: bool = True
    """Whether an unknown field in a request is an error."""

    def to_json(self) -> dict[str, Any]:
        """Return the fields as a JSON object."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """Build from what to_json returned.

        Raises:
            TypeError: a field is missing or unknown; supervisor and worker are of different versions.
        """
        unknown = values.keys() - {field.name for field in fields(cls)}
        if unknown:
            raise TypeError(f"unknown worker settings: {', '.join(sorted(unknown))}")
        return cls(**values)
