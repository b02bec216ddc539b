"""Consumers, key-value and object stores through nats-py: readers get everything, acknowledged once."""

import asyncio
import io
import os
import signal

import nats
import nats.errors
import pytest
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy, RetentionPolicy, StorageType
from nats.js.errors import KeyNotFoundError, NotFoundError
from support.nats_py import settle
from support.wait import wait_until_async

pytestmark = [
    pytest.mark.servers("midge-1", "midge-2", "midge-4", "nats-server"),
    # nats-py leaves sockets of connections that broke.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

CONNECTIONS = 4
TIMEOUT_S = 20


async def fill(js, name, count, subjects=2, **options):
    """Make a stream and publish numbers to it, round-robin over `<name>.0`, `<name>.1` …"""
    await js.add_stream(name=name, subjects=[f"{name}.>"], **options)
    for number in range(count):
        await js.publish(f"{name}.{number % subjects}", b"%d" % number)


def numbers(messages):
    return [int(message.data) for message in messages]


async def acked(message):
    """Acknowledge and wait until the server has said so."""
    await message.ack_sync(timeout=TIMEOUT_S)


# ---- pull


async def test_a_pull_consumer_gets_every_message_once_in_order(jetstream_server, connect_contexts):
    contexts = await connect_contexts(jetstream_server, CONNECTIONS)
    await fill(contexts[0], "PULL", 50)
    await contexts[0].add_consumer("PULL", durable_name="d", ack_policy=AckPolicy.EXPLICIT)
    got = []
    # One after the other over all connections: they share the consumer.
    for js in contexts * 2:
        reader = await js.pull_subscribe_bind(consumer="d", stream="PULL")
        batch = await reader.fetch(7, timeout=TIMEOUT_S)
        got += numbers(batch)
        metadata = batch[-1].metadata
        assert metadata.num_pending == 50 - len(got)
        assert (metadata.sequence.stream, metadata.sequence.consumer) == (len(got), len(got))
        for message in batch:
            await acked(message)
        await reader.unsubscribe()
        if len(got) >= 49:
            break
    assert got == list(range(len(got)))
    info = await contexts[1].consumer_info("PULL", "d")
    assert (info.num_ack_pending, info.num_pending) == (0, 50 - len(got))
    assert info.ack_floor.stream_seq == info.delivered.stream_seq == len(got)


async def test_refused_and_forgotten_messages_come_again(jetstream_server, connect_contexts):
    [js] = await connect_contexts(jetstream_server, 1)
    await fill(js, "AGAIN", 3)
    reader = await js.pull_subscribe(
        "AGAIN.>", "d", config=ConsumerConfig(ack_wait=0.3, max_deliver=3, ack_policy=AckPolicy.EXPLICIT)
    )
    first, second, third = await reader.fetch(3, timeout=TIMEOUT_S)
    await first.nak()
    await acked(second)
    await third.term()
    again = (await reader.fetch(1, timeout=TIMEOUT_S))[0]
    assert (int(again.data), again.metadata.num_delivered) == (0, 2)
    # Not acknowledged in time: once more, and then never again.
    last = (await reader.fetch(1, timeout=TIMEOUT_S))[0]
    assert (int(last.data), last.metadata.num_delivered) == (0, 3)
    with pytest.raises(nats.errors.TimeoutError):
        await reader.fetch(1, timeout=0.7)
    info = await js.consumer_info("AGAIN", "d")
    assert (info.num_ack_pending, info.num_pending, info.delivered.consumer_seq) == (0, 0, 5)


async def test_many_readers_of_one_consumer_share_its_messages(jetstream_server, connect_contexts):
    contexts = await connect_contexts(jetstream_server, CONNECTIONS)
    await fill(contexts[0], "SHARE", 200)
    got = []

    async def read(js):
        reader = await js.pull_subscribe("SHARE.>", "d", stream="SHARE")
        while len(got) < 200:
            try:
                batch = await reader.fetch(10, timeout=0.5)
            except nats.errors.TimeoutError:
                continue
            got.extend(numbers(batch))
            for message in batch:
                await acked(message)

    await asyncio.wait_for(asyncio.gather(*(read(js) for js in contexts)), TIMEOUT_S)
    assert sorted(got) == list(range(200))


async def test_filters_choose_and_count_what_a_consumer_gets(jetstream_server, connect_contexts):
    [js, other] = await connect_contexts(jetstream_server, 2)
    await fill(js, "FILTER", 30, subjects=3)
    config = ConsumerConfig(durable_name="d", filter_subjects=["FILTER.0", "FILTER.2"])
    info = await js.add_consumer("FILTER", config, ack_policy=AckPolicy.EXPLICIT)
    assert info.num_pending == 20
    reader = await other.pull_subscribe_bind(consumer="d", stream="FILTER")
    got = numbers(await reader.fetch(20, timeout=TIMEOUT_S))
    assert got == [number for number in range(30) if number % 3 != 1]


@pytest.mark.parametrize(
    ("policy", "options", "expected"),
    [
        (DeliverPolicy.ALL, {}, list(range(10))),
        (DeliverPolicy.LAST, {}, [9]),
        (DeliverPolicy.NEW, {}, []),
        (DeliverPolicy.BY_START_SEQUENCE, {"opt_start_seq": 8}, [7, 8, 9]),
        (DeliverPolicy.LAST_PER_SUBJECT, {"filter_subject": "{}.*"}, [7, 8, 9]),
    ],
)
async def test_a_consumer_begins_where_it_is_told_to(
    jetstream_server, connect_contexts, policy, options, expected
):
    [js] = await connect_contexts(jetstream_server, 1)
    name = f"BEGIN-{policy.value}"
    await fill(js, name, 10, subjects=3)
    options = {key: value.format(name) if isinstance(value, str) else value for key, value in options.items()}
    config = ConsumerConfig(durable_name="d", deliver_policy=policy, ack_policy=AckPolicy.EXPLICIT, **options)
    info = await js.add_consumer(name, config)
    assert info.num_pending == len(expected)
    await js.publish(f"{name}.0", b"10")
    reader = await js.pull_subscribe_bind(consumer="d", stream=name)
    expected = [*expected, 10]
    assert numbers(await reader.fetch(len(expected), timeout=TIMEOUT_S)) == expected


# ---- push


async def test_a_push_consumer_delivers_to_whoever_listens(jetstream_server, connect_contexts):
    first, second = await connect_contexts(jetstream_server, 2)
    await fill(first, "PUSH", 20)
    got = []

    async def take(message):
        got.append(int(message.data))
        await message.ack()

    await second.subscribe("PUSH.>", durable="d", cb=take, manual_ack=True)
    await wait_until_async(lambda: len(got) == 20, "all messages", TIMEOUT_S)
    for number in range(20, 30):
        await first.publish("PUSH.0", b"%d" % number)
    await wait_until_async(lambda: len(got) == 30, "the new messages", TIMEOUT_S)
    assert got == list(range(30))
    info = await first.consumer_info("PUSH", "d")
    assert (info.push_bound, info.num_pending) == (True, 0)


async def test_members_of_a_deliver_group_share_messages(jetstream_server, connect_contexts):
    contexts = await connect_contexts(jetstream_server, CONNECTIONS)
    await fill(contexts[0], "GROUP", 0)
    got = [[] for _ in contexts]

    async def join(js, own):
        async def take(message):
            own.append(int(message.data))
            await message.ack()

        await js.subscribe("GROUP.>", queue="workers", cb=take, manual_ack=True)
        await settle(js._nc)

    for js, own in zip(contexts, got, strict=True):
        await join(js, own)
    for number in range(100):
        await contexts[0].publish("GROUP.x", b"%d" % number)
    await wait_until_async(lambda: sum(map(len, got)) >= 100, "all messages", TIMEOUT_S)
    assert sorted(number for own in got for number in own) == list(range(100))


async def test_an_ordered_consumer_reads_all_in_order_while_more_comes(jetstream_server, connect_contexts):
    reader, writer = await connect_contexts(jetstream_server, 2)
    await fill(writer, "ORDER", 300, storage=StorageType.MEMORY)
    ordered = await reader.subscribe("ORDER.>", ordered_consumer=True)
    got = []
    for number in range(300, 600):
        await writer.publish("ORDER.1", b"%d" % number)
        got.append(int((await ordered.next_msg(timeout=TIMEOUT_S)).data))
    while len(got) < 600:
        got.append(int((await ordered.next_msg(timeout=TIMEOUT_S)).data))
    assert got == list(range(600))


async def test_a_large_read_passes_flow_control(jetstream_server, connect_contexts):
    reader, writer = await connect_contexts(jetstream_server, 2)
    await writer.add_stream(name="FLOW", subjects=["FLOW"], storage=StorageType.MEMORY)
    block = bytes(100_000)
    await asyncio.gather(*(writer.publish("FLOW", block) for _ in range(200)))
    ordered = await reader.subscribe("FLOW", ordered_consumer=True)
    sequences = [(await ordered.next_msg(timeout=TIMEOUT_S)).metadata.sequence.stream for _ in range(200)]
    assert sequences == list(range(1, 201))


# ---- retention


async def test_a_work_queue_empties_as_its_workers_acknowledge(jetstream_server, connect_contexts):
    contexts = await connect_contexts(jetstream_server, 3)
    await fill(contexts[0], "WORK", 20, retention=RetentionPolicy.WORK_QUEUE)
    left = []
    for number, js in enumerate(contexts[1:]):
        reader = await js.pull_subscribe(f"WORK.{number}", f"d{number}")
        for message in await reader.fetch(10, timeout=TIMEOUT_S):
            await acked(message)
        left.append((await js.stream_info("WORK")).state.messages)
    assert left == [10, 0]


async def test_interest_keeps_a_message_until_everybody_is_done_with_it(jetstream_server, connect_contexts):
    first, second = await connect_contexts(jetstream_server, 2)
    await first.add_stream(name="INTEREST", subjects=["INTEREST.>"], retention=RetentionPolicy.INTEREST)
    assert (await first.publish("INTEREST.0", b"nobody")).seq == 1
    readers = [await js.pull_subscribe("INTEREST.>", f"d{i}") for i, js in enumerate((first, second))]
    for number in range(5):
        await second.publish("INTEREST.0", b"%d" % number)
    for reader, kept in zip(readers, (5, 0), strict=True):
        for message in await reader.fetch(5, timeout=TIMEOUT_S):
            await acked(message)
        assert (await first.stream_info("INTEREST")).state.messages == kept
    for number in range(5):
        await second.publish("INTEREST.0", b"%d" % number)
    for message in await readers[0].fetch(5, timeout=TIMEOUT_S):
        await acked(message)
    await first.delete_consumer("INTEREST", "d1")
    assert (await first.stream_info("INTEREST")).state.messages == 0


async def test_a_deleted_consumer_tells_who_waits(jetstream_server, connect_contexts):
    first, second = await connect_contexts(jetstream_server, 2)
    await fill(first, "DELETE", 0)
    await first.add_consumer("DELETE", durable_name="d", ack_policy=AckPolicy.EXPLICIT)
    asking = second._nc.request("$JS.API.CONSUMER.MSG.NEXT.DELETE.d", b"", timeout=TIMEOUT_S)
    asking = asyncio.ensure_future(asking)

    async def is_waiting():
        return (await first.consumer_info("DELETE", "d")).num_waiting == 1

    await wait_until_async(is_waiting, "the request to wait", TIMEOUT_S)
    assert await first.delete_consumer("DELETE", "d")
    assert (await asking).headers["Description"] == "Consumer Deleted"
    with pytest.raises(NotFoundError):
        await second.consumer_info("DELETE", "d")
    assert (await first.stream_info("DELETE")).state.consumer_count == 0


# ---- durability


async def test_durable_consumers_go_on_after_a_restart(start, connect_contexts):
    server = start(jetstream=True)
    [js, other] = await connect_contexts(server, 2)
    await fill(js, "KEEP", 20)
    reader = await js.pull_subscribe("KEEP.>", "d", config=ConsumerConfig(ack_wait=1))
    taken = await reader.fetch(10, timeout=TIMEOUT_S)
    for message in taken[:3] + taken[5:7]:
        await acked(message)
    await other.add_consumer("KEEP", durable_name="filtered", filter_subject="KEEP.1")
    before = [await js.consumer_info("KEEP", name) for name in ("d", "filtered")]
    for context in (js, other):
        await context._nc.close()
    server.stop()
    server.start_again()
    [js] = await connect_contexts(server, 1)
    for old in before:
        new = await js.consumer_info("KEEP", old.name)
        assert (new.config, new.created, new.num_pending, new.num_ack_pending) == (
            old.config,
            old.created,
            old.num_pending,
            old.num_ack_pending,
        )
        assert (new.ack_floor.stream_seq, new.delivered.stream_seq) == (
            old.ack_floor.stream_seq,
            old.delivered.stream_seq,
        )
    reader = await js.pull_subscribe_bind(consumer="d", stream="KEEP")
    got = []
    while len(got) < 15:
        batch = await reader.fetch(15 - len(got), timeout=TIMEOUT_S)
        got += numbers(batch)
        for message in batch:
            await acked(message)
    # What was delivered and not acknowledged comes again, the rest for the first time.
    assert sorted(got) == [3, 4, 7, 8, 9, *range(10, 20)]


@pytest.mark.servers("midge-2", "midge-4")
async def test_killed_workers_forget_no_acknowledgement(start, connect_contexts):
    """Readers only wait while the stream's worker is replaced; nothing acknowledged is delivered again."""
    server = start(jetstream=True)
    contexts = await connect_contexts(
        server, CONNECTIONS, max_reconnect_attempts=-1, reconnect_time_wait=0.05
    )
    await fill(contexts[0], "KILL", 100)
    # Longer than a reader keeps a message: it comes to two of them only if an acknowledgement was lost.
    config = ConsumerConfig(durable_name="d", ack_policy=AckPolicy.EXPLICIT, ack_wait=5)
    await contexts[0].add_consumer("KILL", config)
    confirmed, repeated, is_over = set(), [], asyncio.Event()

    async def read(js):
        reader = await js.pull_subscribe_bind(consumer="d", stream="KILL")
        while not is_over.is_set():
            try:
                [message] = await reader.fetch(1, timeout=0.5)
                number = int(message.data)
                if number in confirmed:
                    repeated.append(number)
                await message.ack_sync(timeout=2)
                confirmed.add(number)
            except (TimeoutError, nats.errors.Error):
                await asyncio.sleep(0)

    reading = [asyncio.ensure_future(read(js)) for js in contexts]
    for process in server.workers():
        os.kill(process.pid, signal.SIGKILL)
        await wait_until_async(
            lambda gone=process: not gone.is_running() and len(server.workers()) == server.worker_count,
            "the worker to be replaced",
            TIMEOUT_S,
        )

    async def is_done():
        info = await contexts[0].consumer_info("KILL", "d")
        return (info.ack_floor.stream_seq, info.num_pending, info.num_ack_pending) == (100, 0, 0)

    # A confirmation may be lost with a worker, the acknowledgement that it confirms may not.
    await wait_until_async(is_done, "every message to be acknowledged", TIMEOUT_S)
    is_over.set()
    await asyncio.wait_for(asyncio.gather(*reading), TIMEOUT_S)
    assert repeated == []


# ---- key-value and object store


async def test_key_value_store_watches_keys_and_keeps_their_history(jetstream_server, connect_contexts):
    first, second = await connect_contexts(jetstream_server, 2)
    bucket = await first.create_key_value(bucket="WATCH", history=5)
    same = await second.key_value("WATCH")
    for number in range(3):
        await bucket.put("a", b"%d" % number)
    revision = await bucket.create("b", b"made")
    await same.update("b", b"changed", last=revision)
    watcher = await same.watchall()
    initial = []
    while (entry := await watcher.updates(timeout=TIMEOUT_S)) is not None:
        initial.append((entry.key, entry.value))
    assert initial == [("a", b"2"), ("b", b"changed")]
    await bucket.put("c", b"new")
    await bucket.delete("a")
    await bucket.purge("b")
    changes = [await watcher.updates(timeout=TIMEOUT_S) for _ in range(3)]
    assert [(entry.key, entry.operation) for entry in changes] == [("c", None), ("a", "DEL"), ("b", "PURGE")]
    await watcher.stop()
    past = [(entry.revision, entry.value, entry.operation) for entry in await same.history("a")]
    assert past == [(1, b"0", None), (2, b"1", None), (3, b"2", None), (7, b"", "DEL")]
    assert await same.keys() == ["c"]
    with pytest.raises(KeyNotFoundError):
        await same.get("a")


async def test_object_store_gives_back_what_was_put(jetstream_server, connect_contexts):
    first, second = await connect_contexts(jetstream_server, 2)
    store = await first.create_object_store("OBJECTS")
    content = bytes(range(256)) * 4096 * 3
    await store.put("large", io.BytesIO(content))
    await store.put("small", b"text")
    same = await second.object_store("OBJECTS")
    assert (await same.get("large")).data == content
    assert (await same.get("small")).data == b"text"
    assert sorted(info.name for info in await same.list()) == ["large", "small"]
    await same.delete("large")
    with pytest.raises(nats.js.errors.ObjectNotFoundError):
        await store.get("large")
    assert [info.name for info in await store.list(ignore_deletes=True)] == ["small"]
