"""What an origin gives to its readers: blocks, waiting, identities, and only what is durable."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from support.jetstream_workers import OneWorker, Workers

from workers.jetstream import origins
from workers.jetstream.apierrors import ApiError
from workers.jetstream.transfer import Block


def request(**changes: Any) -> dict[str, Any]:
    """Return a request for the messages of the stream O."""
    usual = {
        "account": 0,
        "stream": "O",
        "identity": "",
        "filters": [],
        "count": 100,
        "next": 1,
        "time": 0,
        "is_first": False,
        "done": 0,
        "reader": "R",
    }
    return usual | changes


async def read(worker: OneWorker, **changes: Any) -> dict[str, Any]:
    """Return what `stream.read` answers."""
    return await worker.engine.mesh.call(0, "stream.read", request(**changes))


def sequences(answer: dict[str, Any]) -> list[int]:
    """Return the sequences in an answer's block."""
    block, found = Block(answer["block"]), []
    while not block.is_done:
        found.append(block.message()[0])
        block.skip()
    return found


async def test_messages_come_in_blocks_with_what_is_left(tmp_path: Path):
    async with Workers(1, tmp_path) as workers:
        await workers[0].create("O")
        for number in range(5):
            await workers[0].ask(f"o.{number % 2}", b"payload")
        answer = await read(workers[0], count=2, is_first=True)
        assert (sequences(answer), answer["next"], answer["delivered"]) == ([1, 2], 3, 0)
        assert answer["pending"] == 3
        answer = await read(workers[0], next=3, filters=["o.0"])
        assert (sequences(answer), answer["next"], answer["pending"]) == ([3, 5], 6, 0)
        again = await read(workers[0], identity=answer["identity"])
        assert sequences(again) == [1, 2, 3, 4, 5]
        assert await read(workers[0], identity="another") == {"identity": answer["identity"]}


async def test_a_reader_waits_for_what_it_wants(tmp_path: Path):
    async with Workers(1, tmp_path) as workers:
        await workers[0].create("O")
        waiting = asyncio.ensure_future(read(workers[0], filters=["o.b"]))
        await workers[0].ask("o.a", b"payload")
        await workers[0].ask("o.b", b"payload")
        answer = await waiting
        assert (sequences(answer), answer["next"]) == ([2], 3)


async def test_a_reader_hears_that_there_is_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(origins, "WAIT_SECONDS", 0.01)
    async with Workers(1, tmp_path) as workers:
        await workers[0].create("O")
        await workers[0].ask("o.a", b"payload")
        answer = await read(workers[0], filters=["o.b"])
        assert (answer["block"], answer["next"], answer["pending"]) == (b"", 2, 0)
        # A mirror may be ahead of an origin that was made anew.
        assert (await read(workers[0], next=9))["next"] == 9
        with pytest.raises(ApiError) as error:
            await read(workers[0], stream="NONE")
        assert error.value.err_code == 10059


async def test_a_work_queue_loses_what_was_stored(tmp_path: Path):
    async with Workers(1, tmp_path) as workers:
        await workers[0].create("O", retention="workqueue")
        for number in range(4):
            await workers[0].ask(f"o.{number % 2}", b"payload")
        answer = await read(workers[0], filters=["o.1"], next=1, done=3)
        assert sequences(answer) == [4]
        assert sequences(await read(workers[0])) == [1, 3, 4]


async def test_progress_is_known_after_the_messages_are_gone(tmp_path: Path):
    async def until(worker: OneWorker, messages: int, last: int) -> None:
        state: dict[str, Any] = {}
        while (state.get("messages"), state.get("last_seq")) != (messages, last):
            state = (await worker.api("STREAM.INFO.S"))["state"]

    async with Workers(2, tmp_path) as workers:
        await workers[0].create("O")
        await workers[0].api("STREAM.CREATE.S", {"name": "S", "sources": [{"name": "O"}]})
        for _ in range(3):
            await workers[0].ask("o.a", b"payload")
        await until(workers[0], 3, 3)
        await workers[0].api("STREAM.PURGE.S")
        await until(workers[0], 0, 3)
    async with Workers(2, tmp_path) as workers:
        await workers[0].ask("o.a", b"payload")
        await until(workers[0], 1, 4)
