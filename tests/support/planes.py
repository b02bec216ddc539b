"""Data planes without processes: several workers in one, a step at a time, with socket pairs as clients.

Nothing moves unless a test says so: step() lets one plane run once, settle() all of them until none has
anything to do. Nobody calls tick() unasked, so what only a tick would set going stays where it is, and
settle() shows it.
"""

from __future__ import annotations

import gc
import json
import os
import select
import socket
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import NamedTuple

from support.wait import wait_until

from shm.doorbell import Doorbell
from shm.region import Region
from workers import dataplane
from workers.config import WorkerConfig
from workers.connect import parse_object
from workers.dataplane import DataPlane
from workers.errors import CloseReason

SETTLE_STEPS_MAX = 200_000
GREETING = b"INFO {} \r\n"
SECOND_NS = 1_000_000_000
OPTION_NAMES = ("verbose", "pedantic", "echo", "headers", "no_responders", "protocol")


def worker_config(**changes: object) -> WorkerConfig:
    """Return settings of a lone worker with nats-server's defaults, but for `changes`."""
    usual = WorkerConfig(
        index=0,
        worker_count=1,
        ring_epochs=[[0]],
        server_id="NID",
        server_name="name",
        version="2.15.1",
        midge_version="0.1.0",
        host="127.0.0.1",
        port=4222,
        max_payload=1 << 20,
        max_control_line=4096,
        max_pending=64 << 20,
        max_subscriptions=0,
        max_sub_tokens=0,
        ping_interval_ns=120 * SECOND_NS,
        ping_max=2,
        write_deadline_ns=10 * SECOND_NS,
        auth_timeout_ns=2 * SECOND_NS,
        connect_urls=[],
        token="",
        user="",
        password="",
        log_debug=False,
        log_trace=False,
        log_file="",
        log_time=True,
    )
    return replace(usual, **changes)


class StubPolicy:
    """Grants the options that CONNECT names (all are off by default) and remembers what it was told."""

    def __init__(self) -> None:
        self.reasons: dict[int, CloseReason] = {}
        self.final_stats: dict[int, dict[str, int]] = {}
        self.errors: list[BaseException] = []
        self.client_errors: list[bytes] = []
        self.traced: list[bytes] = []
        self.refusal: Exception | None = None
        self.is_undecided = False

    def connect(self, client_id: int, text: bytes) -> int | None:
        if self.refusal:
            raise self.refusal
        if self.is_undecided:
            return None
        return options_of(**{key: value for key, value in parse_object(text) if key in OPTION_NAMES})

    def connect_info(self, client_id: int) -> bytes:
        return b'INFO {"connect_info":true} \r\n'

    def client_info(self, text: bytes) -> None:
        parse_object(text)

    def client_error(self, client_id: int, text: bytes) -> None:
        self.client_errors.append(text)

    def closed(self, client_id: int, reason: int, stats: dict[str, int]) -> None:
        self.reasons[client_id] = CloseReason(reason)
        self.final_stats[client_id] = stats

    def trace(self, client_id: int, line: bytes) -> None:
        self.traced.append(line)

    def report(self, client_id: int, error: BaseException) -> None:
        self.errors.append(error)


def options_of(
    *,
    verbose: bool = False,
    pedantic: bool = False,
    echo: bool = True,
    headers: bool = False,
    no_responders: bool = False,
    protocol: int = 0,
) -> int:
    """Return the bits that a policy answers CONNECT with."""
    return (
        dataplane.OPTION_VERBOSE * verbose
        | dataplane.OPTION_PEDANTIC * pedantic
        | dataplane.OPTION_NO_ECHO * (not echo)
        | dataplane.OPTION_HEADERS * headers
        | dataplane.OPTION_NO_RESPONDERS * no_responders
        | dataplane.OPTION_PROTOCOL_1 * protocol
    )


class Host:
    """One data plane and its event loop, which turns only by step()."""

    def __init__(self, region: Region, index: int, doorbells: list[Doorbell], config: WorkerConfig) -> None:
        self.index = index
        self.is_dead = False
        self.policy = StubPolicy()
        self.soon: deque[Callable[[], None]] = deque()
        self.later: deque[Callable[[], None]] = deque()
        self.plane = DataPlane(
            region,
            index,
            region.worker_count,
            [doorbell.fd for doorbell in doorbells],
            config,
            self.policy,
            self.soon.append,
            lambda seconds, callback, queue=self.later: queue.append(callback),
        )
        self._poller = select.poll()
        self._poller.register(self.plane.fileno(), select.POLLIN)

    @property
    def is_busy(self) -> bool:
        """Whether an event loop would run the plane now."""
        return bool(self.soon) or bool(self._poller.poll(0))

    def step(self) -> bool:
        """Do what an event loop would do in one turn; return False if that is nothing."""
        if self.soon:
            for _ in range(len(self.soon)):
                self.soon.popleft()()
            return True
        if self._poller.poll(0):
            self.plane.run()
            return True
        return False

    def run_timers(self) -> None:
        """Look at deadlines, and call what was to be called later."""
        while self.later:
            self.later.popleft()()
        self.plane.tick()


class Received(NamedTuple):
    """A MSG or HMSG."""

    subject: bytes
    sid: bytes
    reply: bytes
    headers: bytes | None
    payload: bytes


class Client:
    """The client's end of a connection; lines and messages are sorted as they are received."""

    def __init__(self, host: Host, client_id: int, *, auth_required: bool, buffer_bytes: int) -> None:
        self.host = host
        self.client_id = client_id
        self.lines: deque[bytes] = deque()
        self.messages: deque[Received] = deque()
        self.unsent = b""
        self.unparsed = b""
        self.is_closed = False
        self.socket, theirs = socket.socketpair()
        self.socket.setblocking(False)
        if buffer_bytes:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer_bytes)
            theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer_bytes)
        self.handle = host.plane.open_client(theirs.detach(), client_id, auth_required, GREETING)

    def send(self, data: bytes) -> None:
        """Send what the socket takes now, the rest with the next flush()."""
        self.unsent += data
        self.flush()

    def flush(self) -> bool:
        """Send what waits; return whether any of it went."""
        sent = 0
        while self.unsent and not self.is_closed:
            try:
                sent = self.socket.send(self.unsent)
            except BlockingIOError:
                break
            except (BrokenPipeError, ConnectionResetError):
                self.unsent = b""
                break
            self.unsent = self.unsent[sent:]
        return sent > 0

    def receive(self, bytes_max: int = 1 << 20) -> bool:
        """Take what has come, as far as `bytes_max`; return whether anything has."""
        if self.is_closed:
            return False
        try:
            data = self.socket.recv(bytes_max)
        except BlockingIOError:
            return False
        except ConnectionResetError:
            data = b""
        self.is_closed = not data
        self.unparsed += data
        self._parse()
        return True

    def _parse(self) -> None:
        at = 0
        while (line_end := self.unparsed.find(b"\r\n", at)) >= 0:
            line = self.unparsed[at:line_end]
            start = line_end + 2
            if line.startswith((b"MSG ", b"HMSG ")):
                verb, subject, sid, *middle, total = line.split(b" ")
                end = start + int(total)
                if len(self.unparsed) < end + 2:
                    break
                header_end = start + int(middle.pop()) if verb == b"HMSG" else start
                assert self.unparsed[end : end + 2] == b"\r\n", line
                self.messages.append(
                    Received(
                        subject,
                        sid,
                        middle[0] if middle else b"",
                        self.unparsed[start:header_end] if verb == b"HMSG" else None,
                        self.unparsed[header_end:end],
                    )
                )
                start = end + 2
            else:
                self.lines.append(line)
            at = start
        self.unparsed = self.unparsed[at:]

    def take_lines(self) -> list[bytes]:
        """Return the lines that are no messages, and forget them."""
        lines = list(self.lines)
        self.lines.clear()
        return lines

    def take_messages(self) -> list[Received]:
        """Return the messages, and forget them."""
        messages = list(self.messages)
        self.messages.clear()
        return messages

    def close(self) -> None:
        """Hang up."""
        self.is_closed = True
        self.socket.close()


class Mesh:
    """Workers that share a region, and their clients."""

    def __init__(
        self,
        worker_count: int = 1,
        *,
        data_ring_bytes: int = 1 << 20,
        control_ring_bytes: int = 1 << 18,
        **limits: object,
    ) -> None:
        self.config = worker_config(worker_count=worker_count, **limits)
        self.region = Region.create(worker_count, data_ring_bytes, control_ring_bytes)
        self.doorbells = [Doorbell.create() for _ in range(worker_count)]
        self.hosts = [self._new_host(index) for index in range(worker_count)]
        self.dead_hosts: list[Host] = []
        self.clients: list[Client] = []
        self._client_id = 0
        for host in self.hosts:
            self._attach_all(host)
        self.settle()
        assert all(host.plane.is_synced for host in self.hosts)

    def _new_host(self, index: int) -> Host:
        return Host(self.region, index, self.doorbells, replace(self.config, index=index))

    def _attach_all(self, host: Host) -> None:
        epochs = self.region.ring_epochs()
        for peer in range(len(self.hosts)):
            if peer != host.index:
                host.plane.attach_peer(peer, epochs[host.index][peer], epochs[peer][host.index])

    def connect(
        self,
        worker: int = 0,
        *,
        auth_required: bool = False,
        buffer_bytes: int = 0,
        handshake: bool = True,
        **options: object,
    ) -> Client:
        """Add a client; with handshake it has sent CONNECT with these options and nothing is left to read."""
        self._client_id += 1
        client = Client(
            self.hosts[worker], self._client_id, auth_required=auth_required, buffer_bytes=buffer_bytes
        )
        self.clients.append(client)
        if handshake:
            client.send(b"CONNECT %b\r\n" % json.dumps(options).encode())
            self.settle()
            client.take_lines()
        return client

    def settle(self, *clients: Client) -> None:
        """Let everybody do what there is to do: all planes, and these clients (all, if none is named).

        Raises:
            AssertionError: it goes on forever.
        """
        for _ in range(SETTLE_STEPS_MAX):
            is_moving = False
            for host in self.hosts:
                is_moving |= not host.is_dead and host.step()
            for client in clients or self.clients:
                is_moving |= client.flush()
                is_moving |= client.receive()
            if not is_moving:
                return
        busy = [host.index for host in self.hosts if host.is_busy and not host.is_dead]
        raise AssertionError(f"never at rest; workers {busy} are busy")

    def counter(self, name: str, worker: int = 0) -> int:
        """Return a counter of a worker."""
        return self.region.counter(worker, name)

    def kill(self, worker: int) -> None:
        """Let a worker die on the spot: it never runs again, its clients are cut off, the others are told."""
        dead = self.hosts[worker]
        dead.is_dead = True
        self.dead_hosts.append(dead)
        for client in [client for client in self.clients if client.host is dead]:
            client.close()
            self.clients.remove(client)
        for host in self.hosts:
            if not host.is_dead:
                host.plane.detach_peer(worker)

    def restart(self, worker: int, prepare: Callable[[DataPlane], None] = lambda plane: None) -> None:
        """Start a new worker in the place of a dead one; it is ready when its plane is synced.

        Args:
            prepare: called with its plane before it joins the others.
        """
        self.region.reset_rings(worker)
        epochs = self.region.ring_epochs()
        self.hosts[worker] = self._new_host(worker)
        prepare(self.hosts[worker].plane)
        for host in self.hosts:
            if host.index != worker:
                host.plane.attach_peer(worker, epochs[host.index][worker], epochs[worker][host.index])
        self._attach_all(self.hosts[worker])

    def close(self) -> None:
        """Hang up all clients and check that the planes hold nothing any more and met no error."""
        for client in self.clients:
            client.close()
        self.settle()
        # Publishers that are held back for a moment are told of their end after it.
        wait_until(self._are_hosts_empty, "all connections to be gone")
        for host in {*self.hosts, *self.dead_hosts}:
            assert host.policy.errors == []
        self._free()

    def _are_hosts_empty(self) -> bool:
        for host in self.hosts:
            if not host.is_dead and (
                self.counter("connections", host.index) or self.counter("subscriptions", host.index)
            ):
                host.run_timers()
                return False
        return True

    def _free(self) -> None:
        for dead in self.dead_hosts:  # its process would have taken its sockets along
            for peer in range(len(self.hosts)):
                if peer != dead.index:
                    dead.plane.detach_peer(peer)
            while dead.step():
                pass
        for host in {*self.hosts, *self.dead_hosts}:
            host.soon.clear()
            host.later.clear()
            del host.plane
        for doorbell in self.doorbells:
            doorbell.close()
        self.region.close()


@contextmanager
def mesh(worker_count: int = 1, **options: object) -> Iterator[Mesh]:
    """Run a test with data planes; at its end nothing may be left in them."""
    before = len(os.listdir("/proc/self/fd"))
    planes = Mesh(worker_count, **options)
    try:
        yield planes
        planes.close()
    except BaseException:
        for client in planes.clients:
            client.close()
        raise
    if len(os.listdir("/proc/self/fd")) > before:
        gc.collect()  # what a test listened with may lead back to the plane
    # Fewer is what an earlier test left to the garbage collector.
    assert len(os.listdir("/proc/self/fd")) <= before, "descriptors left open"
