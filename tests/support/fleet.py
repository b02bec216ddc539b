"""Look at midge's worker processes from outside: who serves which connection, and what each holds."""

import os

import psutil
from support.broker import Broker
from support.rawclient import RawClient
from support.wait import wait_until


def serving_worker(broker: Broker, client: RawClient) -> int:
    """Return the process id of the worker that holds the other end of a connection."""
    port = client.socket.getsockname()[1]
    for process in broker.workers():
        try:
            connections = process.net_connections("tcp")
        except psutil.NoSuchProcess:
            continue
        if any(connection.raddr and connection.raddr.port == port for connection in connections):
            return process.pid
    raise AssertionError(f"no worker serves port {port}")


def by_worker(broker: Broker, clients: list[RawClient]) -> dict[int, list[RawClient]]:
    """Sort connections by the process id of the worker that serves them."""
    sorted_clients: dict[int, list[RawClient]] = {process.pid: [] for process in broker.workers()}
    for client in clients:
        sorted_clients[serving_worker(broker, client)].append(client)
    return sorted_clients


def descriptor_count(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def shared_mapping_count(pid: int) -> int:
    """Return how many mappings of memory without a name in the file system a process has."""
    with open(f"/proc/{pid}/maps") as maps:
        return sum("memfd:" in line for line in maps)


def holdings(broker: Broker) -> list[tuple[int, int]]:
    """Return descriptors and shared mappings of the supervisor and then of its workers, in no order."""
    pids = [process.pid for process in broker.processes()]
    supervisor, workers = pids[0], pids[1:]
    return [
        (descriptor_count(supervisor), shared_mapping_count(supervisor)),
        *sorted((descriptor_count(pid), shared_mapping_count(pid)) for pid in workers),
    ]


def wait_for_workers(broker: Broker, previous: set[int]) -> None:
    """Wait until there are as many workers as there should be, and none of those in previous."""

    def all_there() -> bool:
        pids = {process.pid for process in broker.workers()}
        return len(pids) == broker.worker_count and not pids & previous

    wait_until(all_there, "the workers to be back", 30)
