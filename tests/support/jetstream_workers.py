"""Workers with JetStream in one process: real data planes, stores and engines on one event loop.

A request is made as a client of a worker would: published there, with an inbox that a listener of the same
worker reads. Use inside a coroutine test: `async with Workers(2, tmp_path) as workers`.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from support.planes import StubPolicy, worker_config

from shm.doorbell import Doorbell
from shm.region import Region
from supervisor.placement import owner_table
from workers.dataplane import DataPlane
from workers.jetstream.engine import JetStream
from workers.log import Log
from workers.sinks import CallSink

TIMEOUT_S = 10
CLIENT = {"start": 1_700_000_000_000_000_000, "host": "127.0.0.1", "id": 7, "acc": "$G", "kind": "Client"}


class OneWorker:
    """A worker: its plane, its engine, and inboxes for requests."""

    def __init__(self, index: int, plane: DataPlane, engine: JetStream) -> None:
        self.index = index
        self.plane = plane
        self.engine = engine
        self._inboxes = 0

    async def ask(self, subject: str, body: bytes = b"", headers: bytes = b"") -> bytes:
        """Publish a request and return the answer's payload."""
        self._inboxes += 1
        inbox = b"_INBOX.%d.%d" % (self.index, self._inboxes)
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

        def take(_subject: bytes, _reply: bytes, _headers: bytes, payload: bytes, _client: int) -> None:
            if not answer.done():
                answer.set_result(payload)

        listener = self.plane.listen(0, inbox, CallSink(take))
        try:
            taken = self.plane.publish(0, subject.encode(), body, reply=inbox, headers=headers)
            assert taken, f"nobody listens to {subject}"
            return await asyncio.wait_for(answer, TIMEOUT_S)
        finally:
            self.plane.unlisten(listener)

    async def api(self, call: str, request: dict[str, Any] | bytes = b"", **options: Any) -> dict[str, Any]:
        """Call the API and return its answer."""
        body = request if isinstance(request, bytes) else json.dumps(request).encode()
        answer: dict[str, Any] = json.loads(await self.ask(f"$JS.API.{call}", body, **options))
        return answer

    async def create(self, name: str, **config: Any) -> dict[str, Any]:
        """Make a stream; with subjects `<name>.>` if none are given."""
        wanted = {"name": name, "subjects": [f"{name.lower()}.>"], **config}
        answer = await self.api(f"STREAM.CREATE.{name}", wanted)
        assert "error" not in answer, answer
        return answer

    def listen(self, subject: str) -> list[tuple[str, bytes]]:
        """Return a list that fills with (subject, payload) of what is published."""
        found: list[tuple[str, bytes]] = []
        sink = CallSink(lambda subject, _r, _h, payload, _c: found.append((subject.decode(), payload)))
        self.plane.listen(0, subject.encode(), sink)
        return found


class Workers:
    """Several workers that share a region."""

    def __init__(self, count: int, directory: Path, **settings: Any) -> None:
        self.count = count
        self.directory = directory
        self.policy = StubPolicy()
        self.all: list[OneWorker] = []
        self._settings = settings
        self._stack = AsyncExitStack()

    def __getitem__(self, index: int) -> OneWorker:
        return self.all[index]

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        region = Region.create(self.count, 1 << 20, 1 << 18)
        self._stack.callback(region.close)
        region.placement = owner_table(self.count)
        doorbells = [Doorbell.create() for _ in range(self.count)]
        config = worker_config(
            worker_count=self.count, jetstream=True, store_dir=str(self.directory), **self._settings
        )
        for index in range(self.count):
            one = replace(config, index=index)
            plane = DataPlane(
                region, index, self.count, [bell.fd for bell in doorbells], one, self.policy,
                loop.call_soon, loop.call_later,
            )  # fmt: skip
            log = Log(file=str(self.directory / "log"))
            engine = JetStream(plane, one, log, loop, region.placement, lambda client_id: dict(CLIENT))
            self.all.append(OneWorker(index, plane, engine))
            engine.start()
            plane.hold_peers()
        epochs = region.ring_epochs()
        for worker in self.all:
            for peer in range(self.count):
                if peer != worker.index:
                    worker.plane.attach_peer(peer, epochs[worker.index][peer], epochs[peer][worker.index])
            loop.add_reader(worker.plane.fileno(), worker.plane.run)
            self._stack.callback(loop.remove_reader, worker.plane.fileno())
        while not all(worker.plane.is_synced for worker in self.all):
            for worker in self.all:
                worker.plane.run()
        for worker in self.all:
            worker.plane.take_peers()
            worker.engine.join()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for worker in self.all:
            await worker.engine.close()
        await self._stack.aclose()
        assert not self.policy.errors, self.policy.errors
