"""From a checked configuration to a running service.

Start-up time is a promise, so the order matters. Workers are spawned first: they take longest to boot, need
nothing before their first message but the lock of a store, which they inherit, and end by themselves if that
message never comes. While they boot on other cores, everything is done that can fail with one clear line
(log, port, files, memory), then they get it, and only then is the event loop imported. For the same reason
modules are imported where they are needed, not at the top.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from typing import TYPE_CHECKING

from supervisor import host
from supervisor.config import MIDGE_VERSION, NATS_SERVER_VERSION, ServerConfig, join_host_port
from supervisor.errors import StartError
from supervisor.spawn import PRELOAD_JETSTREAM, WORKER_COMMAND, Spawned, spawn_worker
from workers.log import Log

if TYPE_CHECKING:
    from supervisor.lifecycle import Fleet

# Handled by service.py; until it can, they wait instead of ending the process halfway.
_DEFERRED_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


def serve(config: ServerConfig, worker_command: Sequence[str] = WORKER_COMMAND) -> int:
    """Run midge until it is told to stop.

    Args:
        worker_command: see spawn.spawn_worker.

    Returns:
        The exit status: 0 after a clean stop, 1 when it could not start, the reason then is logged.

    Raises:
        StartError: the log cannot be opened, so there is no place for a reason.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, _DEFERRED_SIGNALS)
    log = _open_log(config)
    try:
        host.raise_descriptor_limit()
        if config.jetstream:
            from supervisor import jetstream

            # Before the workers: they inherit the lock of the store.
            config = jetstream.prepare(config, log)
            worker_command = (*worker_command, PRELOAD_JETSTREAM)
        spawned = _spawn_workers(config.worker_count, worker_command)
        return _start(config, log, spawned, worker_command)
    except StartError as error:
        log.fatal(str(error))
        return 1


def _open_log(config: ServerConfig) -> Log:
    try:
        return Log(
            file=config.log_file,
            debug=config.log_debug,
            trace=config.log_trace,
            time=config.log_time,
            utc=config.log_utc,
        )
    except OSError as error:
        reason = (error.strerror or "").lower()
        raise StartError(f"error opening file: open {config.log_file}: {reason}") from error


def _spawn_workers(count: int, command: Sequence[str]) -> list[Spawned]:
    try:
        return [spawn_worker(command) for _ in range(count)]
    except OSError as error:
        raise StartError(f"Host too small: {count} workers could not be started: {error.strerror}") from error


def _start(config: ServerConfig, log: Log, spawned: Sequence[Spawned], worker_command: Sequence[str]) -> int:
    from supervisor.identity import new_server_id
    from supervisor.listener import Listener, bind

    listening = bind(config.host, config.port)
    bound_address, port = listening.getsockname()[:2]
    if config.pid_file:
        _write_pid_file(config.pid_file)
    if config.jetstream:
        from supervisor import jetstream

        jetstream.settle(config, log)
    server_id = new_server_id()
    fleet = _make_fleet(config, log, spawned, worker_command, server_id, port)
    fleet.configure()
    _log_start(config, log, server_id, port)
    from supervisor import service

    listener = Listener(listening, fleet.ready_workers, log, config.max_connections)
    return service.run(config, log, listener, fleet, bound_address, port)


def _make_fleet(
    config: ServerConfig,
    log: Log,
    spawned: Sequence[Spawned],
    worker_command: Sequence[str],
    server_id: str,
    port: int,
) -> Fleet:
    """Create what the workers share, and the fleet.

    Raises:
        StartError: the host cannot give it.
    """
    from shm.doorbell import Doorbell
    from shm.region import Region
    from supervisor.lifecycle import Fleet
    from supervisor.placement import owner_table

    try:
        region = Region.create(config.worker_count)
        doorbells = [Doorbell.create() for _ in range(config.worker_count)]
    except OSError as error:
        reason = error.strerror
        raise StartError(
            f"Host too small: no memory for {config.worker_count} workers to share: {reason}"
        ) from error
    host.check_memory(config.worker_count, region.total_bytes)
    region.placement = owner_table(config.worker_count)
    return Fleet(
        config,
        log,
        region,
        doorbells,
        spawned,
        server_id=server_id,
        port=port,
        worker_command=worker_command,
    )


def _write_pid_file(path: str) -> None:
    from supervisor import files

    try:
        files.write_pid_file(path, os.getpid())
    except OSError as error:
        raise StartError(f"Could not write pidfile: open {path}: {(error.strerror or '').lower()}") from error


def _log_start(config: ServerConfig, log: Log, server_id: str, port: int) -> None:
    log.info("Starting midge")
    log.info(f"  Version:  {MIDGE_VERSION} (nats-server {NATS_SERVER_VERSION})")
    log.info(f"  Name:     {config.server_name or server_id}")
    log.info(f"  ID:       {server_id}")
    log.info(f"  Workers:  {config.worker_count}")
    if config.jetstream:
        from supervisor import jetstream

        jetstream.log_start(config, log)
    log.info(f"Listening for client connections on {join_host_port(config.host, port)}")
    if config.monitoring_port:
        # Launchers and client test suites pass -m without needing it, so it is no reason not to start.
        log.warning(f"HTTP monitoring is not supported yet: nothing listens on port {config.monitoring_port}")
