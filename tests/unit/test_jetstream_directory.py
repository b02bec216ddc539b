"""The directory of an account: names, overlaps, limits, and changes in the right order."""

import asyncio
import random
from types import SimpleNamespace
from typing import Any

import pytest

from workers.jetstream import apierrors
from workers.jetstream.account import Account, AccountLimits
from workers.jetstream.apierrors import ApiError
from workers.jetstream.directory import Directory
from workers.jetstream.stream_config import StreamConfig
from workers.jetstream.stream_rules import ServerLimits
from workers.jetstream.subject_index import SubjectIndex
from workers.jetstream.subjects import collides


class Owner:
    """Stands for the worker that has the streams: remembers calls, answers when told."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str]] = []
        self.error: ApiError | None = None
        self.gate: asyncio.Event | None = None

    async def call(self, worker: int, method: str, body: dict[str, Any]) -> dict[str, Any]:
        self.calls.append((method, body["stream"]))
        if self.gate is not None:
            await self.gate.wait()
        if self.error is not None:
            raise self.error
        return {"config": body.get("config", {})}


def directory(owner: Owner, limits: AccountLimits | None = None, file_bytes: int = 1000) -> Directory:
    """Return an empty directory that is ready."""
    engine: Any = SimpleNamespace(
        mesh=owner,
        limits=ServerLimits(),
        memory_bytes_max=500,
        file_bytes_max=file_bytes,
        ownership=SimpleNamespace(owner=lambda account, stream: 0),
    )
    made = Directory(engine, Account(0, "$G", limits or AccountLimits()))
    made.loaded.set()
    return made


def config(name: str, *subjects: str, **fields: Any) -> StreamConfig:
    return StreamConfig(
        name=name, subjects=subjects or (f"{name.lower()}.>",), **{"storage": "file", **fields}
    )


async def refused(coroutine: Any) -> int:
    """Return the err_code that a change is refused with."""
    with pytest.raises(ApiError) as caught:
        await coroutine
    return caught.value.err_code


async def test_names_are_sorted_and_filtered_by_subject():
    streams = directory(Owner())
    for one in (config("B", "x.*"), config("A", "a.>"), config("C", "c")):
        await streams.create(one, is_pedantic=False)
    assert streams.names() == ["A", "B", "C"]
    assert streams.names("x.1") == ["B"]
    assert streams.names("*.>") == ["A", "B"]
    assert streams.names("nobody") == []


@pytest.mark.parametrize(
    ("first", "second", "overlaps"),
    [
        ("a.b", "a.b", True),
        ("a.*", "a.b", True),
        ("a.b", "a.*", True),
        ("*.b", "a.*", True),
        ("a.b", "*.b", True),
        ("a.>", "a.b.c", True),
        ("*.c", "a.b", False),
        ("a.b", "b.b", False),
        ("a", "a.b", False),
    ],
)
async def test_subjects_of_two_streams_may_not_overlap(first: str, second: str, overlaps: bool):
    streams = directory(Owner())
    await streams.create(config("A", "other", first, no_ack=True), is_pedantic=False)
    if overlaps:
        assert await refused(streams.create(config("B", second, no_ack=True), is_pedantic=False)) == 10065
        await streams.delete("A")
    await streams.create(config("B", second, no_ack=True), is_pedantic=False)


async def test_an_update_may_not_take_anothers_subjects_and_gives_its_old_ones_back():
    streams = directory(Owner())
    await streams.create(config("A", "a"), is_pedantic=False)
    await streams.create(config("B", "b"), is_pedantic=False)
    assert await refused(streams.update(config("B", "a"), "B", is_pedantic=False)) == 10065
    await streams.update(config("B", "c"), "B", is_pedantic=False)
    await streams.create(config("D", "b"), is_pedantic=False)


async def test_the_same_stream_again_is_no_error_and_another_of_that_name_is():
    owner = Owner()
    streams = directory(owner)
    await streams.create(config("A"), is_pedantic=False)
    await streams.create(config("A"), is_pedantic=False)
    assert owner.calls == [("stream.create", "A"), ("stream.created", "A")]
    assert await refused(streams.create(config("A", max_msgs=5), is_pedantic=False)) == 10058


async def test_what_the_owner_refuses_leaves_nothing_behind():
    owner = Owner()
    streams = directory(owner)
    owner.error = apierrors.stream_create("error creating store for stream")
    assert await refused(streams.create(config("A", max_bytes=900), is_pedantic=False)) == 10049
    owner.error = None
    assert (streams.names(), streams.reserved()) == ([], (0, 0))
    await streams.create(config("A", max_bytes=900), is_pedantic=False)
    owner.error = apierrors.stream_update("disk full")
    assert await refused(streams.update(config("A", max_bytes=950), "A", is_pedantic=False)) == 10069
    assert streams.reserved() == (0, 900)


async def test_bytes_are_reserved_from_the_moment_a_stream_is_allowed():
    owner = Owner()
    owner.gate = asyncio.Event()
    streams = directory(owner)
    first = asyncio.ensure_future(streams.create(config("A", max_bytes=900), is_pedantic=False))
    await asyncio.sleep(0)
    assert await refused(streams.create(config("B", max_bytes=101), is_pedantic=False)) == 10047
    owner.gate.set()
    await first
    await streams.create(config("C", max_bytes=100), is_pedantic=False)
    assert await refused(streams.create(config("D"), is_pedantic=False)) == 10047
    await streams.create(config("M", max_bytes=500, storage="memory"), is_pedantic=False)
    assert (
        await refused(streams.create(config("N", max_bytes=1, storage="memory"), is_pedantic=False)) == 10028
    )
    assert streams.reserved() == (500, 1000)


async def test_an_update_needs_room_for_the_difference_alone():
    streams = directory(Owner())
    await streams.create(config("A", max_bytes=600), is_pedantic=False)
    await streams.create(config("B", max_bytes=300), is_pedantic=False)
    await streams.update(config("A", max_bytes=700), "A", is_pedantic=False)
    assert await refused(streams.update(config("A", max_bytes=701), "A", is_pedantic=False)) == 10047
    await streams.update(config("A", max_bytes=100), "A", is_pedantic=False)
    assert streams.reserved() == (0, 400)


async def test_an_account_has_so_many_streams_and_consumers():
    streams = directory(Owner(), AccountLimits(max_streams=1, max_consumers=5))
    assert await refused(streams.create(config("A", max_consumers=6), is_pedantic=False)) == 10026
    await streams.create(config("A"), is_pedantic=False)
    await streams.create(config("A"), is_pedantic=False)
    assert await refused(streams.create(config("B"), is_pedantic=False)) == 10027


async def test_changes_of_one_stream_come_one_after_the_other():
    owner = Owner()
    streams = directory(owner)
    owner.gate = asyncio.Event()
    changes = [
        asyncio.ensure_future(streams.create(config("A"), is_pedantic=False)),
        asyncio.ensure_future(streams.delete("A")),
        asyncio.ensure_future(streams.create(config("A", max_msgs=5), is_pedantic=False)),
    ]
    await asyncio.sleep(0)
    assert owner.calls == [("stream.create", "A")]
    owner.gate.set()
    await asyncio.gather(*changes)
    assert [method for method, _ in owner.calls] == ["stream.create", "stream.delete", "stream.create"]


async def test_a_stream_that_does_not_exist_can_be_neither_changed_nor_deleted():
    streams = directory(Owner())
    assert await refused(streams.update(config("A"), "A", is_pedantic=False)) == 10059
    assert await refused(streams.update(config("B"), "A", is_pedantic=False)) == 10056
    assert await refused(streams.delete("A")) == 10059


async def test_calls_wait_until_the_directory_has_been_filled():
    owner = Owner()
    streams = directory(owner)
    streams.loaded.clear()
    created = asyncio.ensure_future(streams.create(config("A"), is_pedantic=False))
    await asyncio.sleep(0)
    assert owner.calls == []
    streams.announced(0, {"Z": config("Z", "a.x")}, is_first=True)
    streams.loaded.set()
    assert await refused(created) == 10065


async def test_what_a_worker_announces_replaces_what_it_had():
    streams = directory(Owner())
    streams.announced(0, {"A": config("A"), "B": config("B")}, is_first=True)
    streams.announced(1, {"C": config("C")}, is_first=True)
    streams.announced(0, {"B": config("B", "new")}, is_first=True)
    streams.announced(0, {"D": config("D")}, is_first=False)
    assert streams.names() == ["B", "C", "D"]
    assert streams.names("new") == ["B"]
    assert streams.owner_of("C") == 1


async def test_an_announcement_does_not_undo_a_change_on_its_way():
    owner = Owner()
    owner.gate = asyncio.Event()
    streams = directory(owner)
    created = asyncio.ensure_future(streams.create(config("A"), is_pedantic=False))
    await asyncio.sleep(0)
    streams.announced(0, {}, is_first=True)
    owner.gate.set()
    await created
    assert streams.names() == ["A"]


def test_the_index_finds_every_stream_that_meets_a_subject():
    chooser = random.Random(7)
    tokens = ["a", "b", "c", "*", ">", "*x"]
    subjects = {".".join(chooser.choice(tokens) for _ in range(chooser.randint(1, 4))) for _ in range(300)}
    index = SubjectIndex()
    for subject in subjects:
        index.add(subject, subject)
    for asked in sorted(subjects):
        found = set(index.candidates(asked))
        assert found >= {subject for subject in subjects if collides(asked, subject)}, asked
    for subject in subjects:
        index.remove(subject, subject)
    assert not list(index.candidates(">"))


def test_the_index_looks_at_what_may_meet_alone():
    index = SubjectIndex()
    for number in range(1000):
        index.add(f"a.{number}.>", f"S{number}")
    assert list(index.candidates("a.7.x")) == ["S7"]
    assert len(list(index.candidates("a.*.x"))) == 1000
    assert list(index.candidates("b.7.x")) == []


def test_subjects_that_look_alike_to_the_index_can_be_removed_in_turn():
    index = SubjectIndex()
    for subject in ("*x", "*y"):
        index.add(subject, "S")
    for subject in ("*x", "*y"):
        index.remove(subject, "S")
    assert not list(index.candidates(">"))
