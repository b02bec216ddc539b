"""One worker process: it joins the shared memory, serves connections that the supervisor hands it, and stops.

Everything per message is in the data plane; this file is the order of events in the life of a worker.
"""

from __future__ import annotations

import array
import asyncio
import contextlib
import json
import os
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import uvloop

from shm.region import Region
from workers.config import WorkerConfig
from workers.dataplane import DataPlane
from workers.log import Log
from workers.sessions import Sessions

if TYPE_CHECKING:
    from workers.jetstream.engine import JetStream

DATAGRAM_BYTES_MAX = 1 << 16
DESCRIPTORS_MAX = 253  # what the kernel passes in one message
TICK_SECONDS = 0.05
IDLE_TICK_SECONDS = 2.0
"""The same without connections, when there is nothing to look at but memory to give back."""
SYNC_POLL_SECONDS = 0.001
SPIN_NS = 50_000
SPIN_CROWDED_NS = 25_000
"""How long a worker polls for the next event of a conversation, and where there is no core to spare.

Measured on two cores that were idle otherwise, p50 of one request at a time: with one worker 178 us without
polling, 52 us with 25 us of it and 56 us with 50 us, where nats-server took 200 us; 64 requests at a time
went twice as fast with 50 us as with 25 us. With two workers 179, 46 and 61 us, and the CPU time per message
at 50,000 messages a second was 0.75, 1.1 and 1.3 times nats-server's.
"""
LAME_DUCK_POLL_SECONDS = 0.1
LAME_DUCK_PAUSE_SECONDS_MAX = 1.0
"""Between the ends of two clients, however few there are: nats-server's bound."""
STOP_SECONDS = 1.0
LAST_WORDS_SECONDS = 0.02
"""How long a stopping worker tries to write what is queued."""

Message = dict[str, Any]


def receive(link: socket.socket) -> tuple[Message | None, list[int]]:
    """Receive one message and the descriptors that came with it; None when the supervisor is gone.

    Raises:
        BlockingIOError: nothing has come.
    """
    descriptors = array.array("i")
    data, ancillary, _, _ = link.recvmsg(
        DATAGRAM_BYTES_MAX, socket.CMSG_SPACE(DESCRIPTORS_MAX * descriptors.itemsize)
    )
    for level, kind, content in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            descriptors.frombytes(content[: len(content) - len(content) % descriptors.itemsize])
    return (json.loads(data) if data else None), list(descriptors)


class WorkerLoop(uvloop.Loop):
    """An event loop that keeps no callback waiting while the data plane lingers for more input.

    Otherwise every step of a coroutine that a message has set going would wait for up to a millisecond.
    """

    plane: DataPlane | None = None

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: Any = None
    ) -> Any:
        """Call back in the next turn."""
        if self.plane is not None:
            self.plane.return_soon()
        return super().call_soon(callback, *args, context=context)


class Worker:
    """A worker from its first message to its end."""

    def __init__(self, link: socket.socket, config: WorkerConfig, descriptors: list[int]) -> None:
        """Join the shared memory.

        Args:
            descriptors: the region's, then every worker's doorbell.
        Raises:
            RegionMismatch: supervisor and worker are of different versions.
        """
        self._link = link
        self._config = config
        self._log = Log(
            file=config.log_file,
            debug=config.log_debug,
            trace=config.log_trace,
            time=config.log_time,
            utc=config.log_utc,
        )
        self._loop = WorkerLoop()
        self._sessions = Sessions(config, self._log)
        region = Region.attach(descriptors[0])
        self._plane = DataPlane(
            region,
            config.index,
            config.worker_count,
            descriptors[1:],
            config,
            self._sessions,
            self._loop.call_soon,
            self._loop.call_later,
        )
        self._sessions.plane = self._loop.plane = self._plane
        self._jetstream = self._open_jetstream(region) if config.jetstream else None
        self._is_idle = True
        self._next_tick: asyncio.TimerHandle
        self._stopping: asyncio.Task[None] | None = None
        self._lame_duck: asyncio.Task[None] | None = None
        self._handlers: dict[str, Callable[[Message, list[int]], None]] = {
            "accept": self._accept,
            "peer_down": self._peer_down,
            "peer_up": self._peer_up,
            "lame_duck": self._enter_lame_duck,
            "reopen_log": self._reopen_log,
            "stop": self._stop,
        }

    def _open_jetstream(self, region: Region) -> JetStream:
        """Recover this worker's streams; where that cannot be done it says so and ends the worker."""
        # Only here: a broker without JetStream does not pay for loading it.
        from storage.errors import StorageError
        from workers.jetstream.engine import JetStream

        try:
            return JetStream(
                self._plane, self._config, self._log, self._loop, region.placement, self._sessions.describe
            )
        except (OSError, StorageError) as error:
            self._log.fatal(f"Can't start JetStream: {error}")
            raise SystemExit(1) from error

    def run(self) -> None:
        """Serve until told to stop or until the supervisor is gone."""
        epochs = self._config.ring_epochs
        me = self._config.index
        self._link.setblocking(False)
        self._loop.add_reader(self._link, self._read_link)
        self._loop.add_reader(self._plane.fileno(), self._plane.run)
        has_spare_core = self._config.worker_count < len(os.sched_getaffinity(0))
        self._plane.watch_link(self._link.fileno(), SPIN_NS if has_spare_core else SPIN_CROWDED_NS)
        if self._jetstream is not None:
            self._jetstream.start()
            self._plane.hold_peers()
        for peer in range(self._config.worker_count):
            if peer != me:
                self._plane.attach_peer(peer, epochs[me][peer], epochs[peer][me])
        self._tick()
        self._loop.call_soon(self._report_ready)
        self._loop.run_forever()

    def _tick(self) -> None:
        self._plane.tick()
        self._is_idle = not len(self._sessions)
        self._next_tick = self._loop.call_later(
            IDLE_TICK_SECONDS if self._is_idle else TICK_SECONDS, self._tick
        )

    def _report_ready(self) -> None:
        """Tell the supervisor once every peer has told its interest."""
        if self._plane.is_synced:
            if self._jetstream is not None:
                self._plane.take_peers()
                self._jetstream.join()
            self._send({"op": "ready"})
        else:
            self._loop.call_later(SYNC_POLL_SECONDS, self._report_ready)

    def _send(self, message: Message) -> None:
        self._link.send(json.dumps(message).encode())

    def _read_link(self) -> None:
        """Do what the supervisor says; when it is gone there is nobody to serve for."""
        while True:
            try:
                message, descriptors = receive(self._link)
            except BlockingIOError:
                return
            except ConnectionError:
                message = None
            if message is None:
                os._exit(1)
            self._handlers[message["op"]](message, descriptors)

    # ---- what the supervisor says

    def _accept(self, message: Message, descriptors: list[int]) -> None:
        for (client_id, ip, port, over_limit), descriptor in zip(
            message["connections"], descriptors, strict=True
        ):
            self._sessions.open(descriptor, client_id, ip, port, over_limit=over_limit)
        self._plane.run()
        if self._is_idle:
            self._next_tick.cancel()
            self._tick()

    def _peer_down(self, message: Message, _: list[int]) -> None:
        self._plane.detach_peer(message["peer"])
        if self._jetstream is not None:
            self._jetstream.peer_lost(message["peer"])
        self._send({"op": "peer_down_done", "peer": message["peer"]})

    def _peer_up(self, message: Message, _: list[int]) -> None:
        self._plane.attach_peer(message["peer"], message["epoch_out"], message["epoch_in"])

    def _reopen_log(self, _message: Message, _: list[int]) -> None:
        with contextlib.suppress(OSError):  # the old file stays in use, and the supervisor says so
            self._log.reopen()

    def _enter_lame_duck(self, message: Message, _: list[int]) -> None:
        if self._lame_duck is None:
            self._lame_duck = self._loop.create_task(
                self._end_slowly(message["duration_ns"] / 1e9, message["grace_ns"] / 1e9)
            )

    async def _end_slowly(self, duration_seconds: float, grace_seconds: float) -> None:
        self._sessions.announce_lame_duck()
        self._plane.run()
        await self._wait_while_clients(grace_seconds)
        pause_seconds = min(duration_seconds / max(1, len(self._sessions)), LAME_DUCK_PAUSE_SECONDS_MAX)
        while len(self._sessions):
            self._sessions.end_one()
            self._plane.run()
            await self._wait_while_clients(pause_seconds)
        self._send({"op": "lame_duck_done"})

    async def _wait_while_clients(self, seconds: float) -> None:
        deadline = self._loop.time() + seconds
        while len(self._sessions) and self._loop.time() < deadline:
            await asyncio.sleep(min(LAME_DUCK_POLL_SECONDS, deadline - self._loop.time()))

    def _stop(self, _message: Message, _: list[int]) -> None:
        if self._stopping is None:
            self._stopping = self._loop.create_task(self._end())

    async def _end(self) -> None:
        if self._jetstream is not None:
            self._jetstream.end_requests()
            self._plane.run()
            # The others have the same to say to clients of this one.
            await asyncio.sleep(LAST_WORDS_SECONDS)
        self._sessions.end_all()
        self._plane.run()
        deadline = self._loop.time() + STOP_SECONDS
        while len(self._sessions) and self._loop.time() < deadline:
            await asyncio.sleep(0.005)
        if self._jetstream is not None:
            await self._jetstream.close()
        self._loop.stop()


def main(link_descriptor: int) -> None:
    """Run a worker whose link to the supervisor is this descriptor."""
    link = socket.socket(fileno=link_descriptor)
    message, descriptors = receive(link)
    if message is None:
        return
    Worker(link, WorkerConfig.from_json(message["config"]), descriptors).run()
