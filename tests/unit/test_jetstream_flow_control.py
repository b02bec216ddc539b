"""Flow control of push consumers: each hears its own client, whoever else comes and goes on the stream."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from support.jetstream_workers import OneWorker, Workers

from workers.sinks import CallSink

MESSAGES = 60
PAYLOAD = b"x" * 100_000


class Reader:
    """A client of a push consumer that confirms what it is asked to confirm."""

    def __init__(self, worker: OneWorker, subject: str) -> None:
        self.received = 0
        self.confirmed = 0
        self.is_done = asyncio.Event()
        self._plane = worker.plane
        worker.plane.listen(0, subject.encode(), CallSink(self._take))

    def _take(self, _subject: bytes, reply: bytes, _headers: bytes, payload: bytes, _client: int) -> None:
        if reply.startswith(b"$JS.FC."):
            self.confirmed += 1
            self._plane.publish(0, reply, b"")
        elif payload:
            self.received += 1
            if self.received == MESSAGES:
                self.is_done.set()


def flow_consumer(name: str) -> tuple[str, dict[str, Any]]:
    """Return a request that makes a push consumer of stream A with flow control."""
    config = {"name": name, "deliver_subject": f"d.{name}", "flow_control": True, "idle_heartbeat": 10**9}
    return f"CONSUMER.CREATE.A.{name}", {"stream_name": "A", "config": config}


@pytest.mark.parametrize("count", [1, 3])
async def test_a_consumer_gets_its_confirmations_when_others_have_gone(tmp_path: Path, count: int):
    async with Workers(count, tmp_path) as workers:
        worker = workers[count - 1]
        await worker.create("A", storage="memory")
        for _ in range(MESSAGES):
            await worker.ask("a.x", PAYLOAD)
        readers = {name: Reader(worker, f"d.{name}") for name in ("one", "two")}
        assert "error" not in await worker.api(*flow_consumer("gone"))
        for name in readers:
            assert "error" not in await worker.api(*flow_consumer(name))
        assert (await worker.api("CONSUMER.DELETE.A.gone"))["success"]
        for reader in readers.values():
            await asyncio.wait_for(reader.is_done.wait(), 10)
            assert reader.confirmed


async def test_flow_control_is_listened_to_once_a_stream_while_it_has_it(tmp_path: Path):
    async with Workers(1, tmp_path) as workers:
        worker = workers[0]
        await worker.create("A")
        assert not worker.plane.has_interest(0, b"$JS.FC.A.one.abcd")
        for name in ("one", "two"):
            await worker.api(*flow_consumer(name))
        assert worker.plane.publish(0, b"$JS.FC.A.one.abcd", b"") == 1
        await worker.api("STREAM.DELETE.A")
        assert not worker.plane.has_interest(0, b"$JS.FC.A.one.abcd")
