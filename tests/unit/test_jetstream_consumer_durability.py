"""When the API answers about consumers: those in files when they are durable, those in memory at once."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from support.jetstream_workers import Workers

COUNTS = pytest.mark.parametrize("count", [1, 3])


def creation(name: str, **config: Any) -> tuple[str, dict[str, Any]]:
    """Return a request that makes a consumer of stream A."""
    return f"CONSUMER.CREATE.A.{name}", {"stream_name": "A", "config": {"name": name, **config}}


@COUNTS
async def test_only_consumers_in_files_wait_for_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int
):
    async with Workers(count, tmp_path) as workers:
        await workers[0].create("A")
        engine = workers[workers[0].engine.ownership.owner("$G", "A")].engine
        with monkeypatch.context() as disk:
            # Whatever the disk does, the worker does not hear of it.
            disk.setattr(engine.store, "poll", lambda: engine.store.durable_round)
            in_file = asyncio.create_task(workers[0].api(*creation("file", durable_name="file")))
            made = await workers[0].api(*creation("memory", mem_storage=True))
            gone = await workers[0].api("CONSUMER.DELETE.A.memory")
            assert (made["name"], gone["success"]) == ("memory", True)
            names = await workers[0].api("CONSUMER.NAMES.A")
            assert names["consumers"] == ["file"]
            assert not in_file.done()
        engine.poll()
        assert (await in_file)["name"] == "file"


@COUNTS
async def test_consumers_that_were_answered_are_there_after_a_restart(tmp_path: Path, count: int):
    names = [f"C{number}" for number in range(20)]
    async with Workers(count, tmp_path) as workers:
        await workers[0].create("A")
        calls = (workers[count - 1].api(*creation(name, durable_name=name)) for name in names)
        answers = await asyncio.gather(*calls, workers[0].api("CONSUMER.DELETE.A.C3"))
        assert [answer.get("name") for answer in answers[:-1]] == names
    async with Workers(count, tmp_path) as workers:
        left = (await workers[0].api("CONSUMER.NAMES.A"))["consumers"]
        assert left == sorted(name for name in names if name != "C3" or "error" in answers[-1])


async def test_consumers_that_clients_do_not_see_do_not_count(tmp_path: Path):
    async with Workers(1, tmp_path) as workers:
        worker = workers[0]
        await worker.create("A", max_consumers=1)
        for _ in range(2):
            hidden = await worker.api(*creation("h", direct=True, deliver_subject="d", ack_policy="none"))
            assert "error" not in hidden
            assert (await worker.api("STREAM.INFO.A"))["state"]["consumer_count"] == 0
            assert "error" not in await worker.api(*creation("one"))
            assert (await worker.api(*creation("two")))["error"]["err_code"] == 10026
            assert (await worker.api("STREAM.INFO.A"))["state"]["consumer_count"] == 1
            for name in ("h", "one"):
                assert (await worker.api(f"CONSUMER.DELETE.A.{name}"))["success"]
