"""What the command line asks for, checked, as one frozen object.

Everything that can be refused without touching the machine is refused here, in one line.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from supervisor.flags import FlagError, Value
from supervisor.placement import WORKERS_MAX
from workers.config import WorkerConfig

MIDGE_VERSION = "0.1.0"
NATS_SERVER_VERSION = "2.15.1"
"""The nats-server release whose behaviour is implemented: INFO says it and clients gate features on it."""

# nats-server warns above this size and goes on; a ring frame of any size is sent in fragments.
MAX_PAYLOAD_WARNING_BYTES = 8 << 20
# Sizes on the wire have at most nine digits, so nothing larger could be announced.
MAX_PAYLOAD_BYTES = 999_999_999


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerConfig:
    """Settings of the whole service: times in nanoseconds, sizes in bytes, names as in flags.FLAGS."""

    host: str
    port: int
    """0..65535; 0 takes any free port."""
    server_name: str
    """"" means the server id."""
    worker_count: int
    monitoring_port: int
    """What -m asks for; 0 means nothing. Nothing listens there yet."""
    pid_file: str
    client_advertise: tuple[str, int] | None
    """Host and port for INFO instead of the listener's; port 0 means the listener's."""
    ports_file_dir: str
    lame_duck_duration_ns: int
    lame_duck_grace_ns: int
    max_payload: int
    max_pending: int
    max_connections: int
    """0 means no limit."""
    max_subscriptions: int
    max_sub_tokens: int
    max_control_line: int
    ping_interval_ns: int
    ping_max: int
    write_deadline_ns: int
    log_file: str
    log_time: bool
    log_utc: bool
    log_debug: bool
    log_trace: bool
    user: str
    password: str
    token: str
    auth_timeout_ns: int
    jetstream: bool
    store_dir: str
    """What -sd names; jetstream.prepare puts the folder in use in its place."""
    sync_interval_ns: int
    """0: every commit is synced."""
    js_domain: str
    js_strict: bool = True
    js_max_memory: int = -1
    """Like the next, found out by jetstream.prepare; -1 until then."""
    js_max_file: int = -1

    def for_worker(
        self, index: int, *, server_id: str, port: int, ring_epochs: list[list[int]]
    ) -> WorkerConfig:
        """Return what worker `index` has to know.

        Args:
            port: the port that is listened on.
            ring_epochs: as WorkerConfig.ring_epochs.
        """
        info_host, info_port = self.host, port
        connect_urls: list[str] = []
        if self.client_advertise is not None:
            info_host, info_port = self.client_advertise[0], self.client_advertise[1] or port
            connect_urls.append(join_host_port(info_host, info_port))
        return WorkerConfig(
            index=index,
            worker_count=self.worker_count,
            ring_epochs=ring_epochs,
            server_id=server_id,
            server_name=self.server_name or server_id,
            version=NATS_SERVER_VERSION,
            midge_version=MIDGE_VERSION,
            host=info_host,
            port=info_port,
            max_payload=self.max_payload,
            max_control_line=self.max_control_line,
            max_pending=self.max_pending,
            max_subscriptions=self.max_subscriptions,
            max_sub_tokens=self.max_sub_tokens,
            ping_interval_ns=self.ping_interval_ns,
            ping_max=self.ping_max,
            write_deadline_ns=self.write_deadline_ns,
            auth_timeout_ns=self.auth_timeout_ns,
            connect_urls=connect_urls,
            token=self.token,
            user=self.user,
            password=self.password,
            log_debug=self.log_debug,
            log_trace=self.log_trace,
            log_file=self.log_file,
            log_time=self.log_time,
            log_utc=self.log_utc,
            jetstream=self.jetstream,
            store_dir=self.store_dir,
            sync_interval_ns=self.sync_interval_ns,
            js_max_memory=self.js_max_memory,
            js_max_file=self.js_max_file,
            js_domain=self.js_domain,
            js_strict=self.js_strict,
        )


def from_flags(values: Mapping[str, Value], usable_cores: int | None = None) -> ServerConfig:
    """Check the values of flags.parse and build the configuration.

    Args:
        usable_cores: cores that this process may use; None asks the kernel.

    Raises:
        FlagError: a value is out of range or contradicts another; the text names the flags.
    """
    fields = dict(values)
    for name in ("signal", "help", "version"):
        del fields[name]
    _fold_trace_flags(fields)
    _check_ranges(fields)
    _check_combinations(fields)
    if fields["port"] == -1:
        fields["port"] = 0
    if fields["worker_count"] == -1:
        cores = len(os.sched_getaffinity(0)) if usable_cores is None else usable_cores
        fields["worker_count"] = max(1, min(cores, WORKERS_MAX))
    if fields["log_file"]:
        # Workers may have another working directory one day, and reopening must find the same file.
        fields["log_file"] = os.path.abspath(str(fields["log_file"]))
    advertise = _parse_advertise(str(fields.pop("client_advertise")))
    return ServerConfig(client_advertise=advertise, **fields)  # type: ignore[arg-type]


def join_host_port(host: str, port: int) -> str:
    """Return host:port, with the brackets that an IPv6 address needs."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _fold_trace_flags(fields: dict[str, Value]) -> None:
    both = bool(fields.pop("log_debug_trace")) | bool(fields.pop("log_debug_trace_all"))
    trace_all = fields.pop("log_trace_all")
    fields["log_debug"] = bool(fields["log_debug"] or both)
    fields["log_trace"] = bool(fields["log_trace"] or trace_all or both)


# Flag, its name, smallest and largest value.
_RANGES = (
    ("--max_payload", "max_payload", 1, MAX_PAYLOAD_BYTES),
    ("--max_pending", "max_pending", 1, 1 << 40),
    ("--max_connections", "max_connections", 0, 1 << 31),
    ("--max_subscriptions", "max_subscriptions", 0, 1 << 31),
    ("--max_sub_tokens", "max_sub_tokens", 0, 1 << 16),
    # A subscribed subject and its queue name must fit one frame of a control ring (64 KiB).
    ("--max_control_line", "max_control_line", 64, 60_000),
    ("--ping_max", "ping_max", 1, 1 << 20),
)
_POSITIVE_DURATIONS = (
    ("--ping_interval", "ping_interval_ns"),
    ("--write_deadline", "write_deadline_ns"),
    ("--auth_timeout", "auth_timeout_ns"),
    ("--lame_duck_duration", "lame_duck_duration_ns"),
)


def _check_ranges(fields: Mapping[str, Value]) -> None:
    port = int(fields["port"])
    if port != -1 and not 0 <= port <= 65535:
        raise FlagError(f"invalid port {port} for flag -p: must be -1 or 0 to 65535")
    workers = int(fields["worker_count"])
    if workers != -1 and not 1 <= workers <= WORKERS_MAX:
        raise FlagError(f"invalid value {workers} for flag --workers: must be 1 to {WORKERS_MAX}")
    for flag, name, smallest, largest in _RANGES:
        if not smallest <= int(fields[name]) <= largest:
            raise FlagError(f"invalid value {fields[name]} for flag {flag}: must be {smallest} to {largest}")
    for flag, name in _POSITIVE_DURATIONS:
        if int(fields[name]) <= 0:
            raise FlagError(f"invalid value 0 for flag {flag}: must be longer than 0")


def _check_combinations(fields: Mapping[str, Value]) -> None:
    if " " in str(fields["server_name"]):
        raise FlagError("server name cannot contain spaces")
    if any(character in ".*> \t\r\n\f" for character in str(fields["js_domain"])):
        raise FlagError(f"invalid domain name {fields['js_domain']!r} for flag --js_domain")
    if bool(fields["user"]) != bool(fields["password"]):
        given, missing = ("--user", "--pass") if fields["user"] else ("--pass", "--user")
        raise FlagError(f"{given} was given without {missing}")
    if fields["token"] and fields["user"]:
        raise FlagError("--auth cannot be used together with --user and --pass")
    if int(fields["max_payload"]) > int(fields["max_pending"]):
        raise FlagError(
            f"max_payload ({fields['max_payload']}) cannot be higher than"
            f" max_pending ({fields['max_pending']})"
        )
    if int(fields["lame_duck_grace_ns"]) >= int(fields["lame_duck_duration_ns"]):
        raise FlagError("lame duck grace period should be strictly lower than lame duck duration")


def _parse_advertise(text: str) -> tuple[str, int] | None:
    if not text:
        return None
    if text.startswith("["):
        host, _, port = text[1:].partition("]")
        port = port.removeprefix(":")
    elif text.count(":") > 1:
        host, port = text, ""
    else:
        host, _, port = text.partition(":")
    if not host or (port and not (port.isascii() and port.isdigit() and int(port) <= 65535)):
        raise FlagError(f'invalid value "{text}" for flag --client_advertise: want host or host:port')
    return host, int(port or 0)
