"""A worker without a data plane, for tests of the supervisor.

It speaks the link protocol in full, keeps its counters, greets a client with INFO, answers PING with PONG,
and does as it is told by words that a client sends after PING: so a test can make it fail at a chosen
moment.

    PING             answers `PONG <worker index>`
    DIE <status>     ends with this exit status
    LOG              answers with every message it got on its link, as a JSON array

Run as a program with `--link FD`, like a worker; with `--fail-start-if FILE` it ends before it is ready
while that file exists, and with `--silent` it never answers peer_down.
"""

from __future__ import annotations

import array
import ctypes
import json
import os
import selectors
import socket
import sys
from typing import Any

from shm import layout
from shm.region import Region


class StubWorker:
    """One process."""

    def __init__(self, link_fd: int, options: list[str]) -> None:
        self._link = socket.socket(fileno=link_fd)
        self._options = options
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._link, selectors.EVENT_READ, self._on_link)
        self._log: list[dict[str, Any]] = []
        self._clients: set[socket.socket] = set()
        self._config: dict[str, Any] = {}
        self._counters: Any = None

    def run(self) -> None:
        """Serve until stopped."""
        while True:
            for key, _ in self._selector.select():
                key.data(key.fileobj)

    def _on_link(self, link: socket.socket) -> None:
        data, ancillary, _, _ = link.recvmsg(1 << 18, socket.CMSG_SPACE(253 * 4))
        if not data:
            os._exit(0)
        descriptors = array.array("i")
        for _, _, rights in ancillary:
            descriptors.frombytes(rights)
        message = json.loads(data)
        self._log.append(message)
        getattr(self, f"_on_{message['op']}")(message, list(descriptors))

    def _on_start(self, message: dict[str, Any], descriptors: list[int]) -> None:
        if "--fail-start-if" in self._options:
            path = self._options[self._options.index("--fail-start-if") + 1]
            if os.path.exists(path):
                os._exit(3)
        self._config = message["config"]
        self._region = Region.attach(descriptors[0])
        assert len(descriptors) == 1 + self._config["worker_count"]
        row = self._region.counters_address(self._config["index"])
        self._counters = (ctypes.c_uint64 * len(layout.COUNTER_NAMES)).from_address(row)
        self._reply({"op": "ready"})

    def _on_accept(self, message: dict[str, Any], descriptors: list[int]) -> None:
        assert len(message["connections"]) == len(descriptors)
        for (client_id, ip, port, over_limit), descriptor in zip(
            message["connections"], descriptors, strict=True
        ):
            self._count("accepted_total", 1)
            client = socket.socket(fileno=descriptor)
            info = {
                "server_id": self._config["server_id"],
                "client_id": client_id,
                "client_ip": ip,
                "client_port": port,
                "worker": self._config["index"],
            }
            client.send(f"INFO {json.dumps(info)} \r\n".encode())
            if over_limit:
                client.send(b"-ERR 'maximum connections exceeded'\r\n")
                client.close()
                continue
            self._count("connections", 1)
            self._clients.add(client)
            self._selector.register(client, selectors.EVENT_READ, self._on_client)

    def _on_peer_down(self, message: dict[str, Any], _: list[int]) -> None:
        if "--silent" not in self._options:
            self._reply({"op": "peer_down_done", "peer": message["peer"]})

    def _on_peer_up(self, message: dict[str, Any], _: list[int]) -> None:
        assert message["epoch_out"] > 1

    def _on_reopen_log(self, message: dict[str, Any], _: list[int]) -> None:
        """Nothing to do: the message is in the log."""

    def _on_lame_duck(self, message: dict[str, Any], _: list[int]) -> None:
        for client in list(self._clients):
            self._close(client)
        self._reply({"op": "lame_duck_done"})

    def _on_stop(self, message: dict[str, Any], _: list[int]) -> None:
        os._exit(0)

    def _on_client(self, client: socket.socket) -> None:
        try:
            data = client.recv(4096)
        except OSError:
            data = b""
        if not data:
            self._close(client)
            return
        for line in data.split(b"\r\n"):
            if line == b"PING":
                client.send(f"PONG {self._config['index']}\r\n".encode())
            elif line == b"LOG":
                client.send(json.dumps(self._log).encode() + b"\r\n")
            elif line.startswith(b"DIE "):
                os._exit(int(line[4:]))

    def _close(self, client: socket.socket) -> None:
        self._count("connections", -1)
        self._count("closed_total", 1)
        self._clients.discard(client)
        self._selector.unregister(client)
        client.close()

    def _count(self, name: str, by: int) -> None:
        self._counters[layout.COUNTER_NAMES.index(name)] += by

    def _reply(self, message: dict[str, Any]) -> None:
        self._link.send(json.dumps(message).encode())


if __name__ == "__main__":
    StubWorker(int(sys.argv[sys.argv.index("--link") + 1]), sys.argv[1:]).run()
