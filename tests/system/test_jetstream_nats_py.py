"""The official asyncio client, nats-py, manages streams, publishes to them and reads messages from them."""

import asyncio

import nats
import nats.js.errors
import pytest
from nats.js import api

pytestmark = pytest.mark.servers("midge-1", "midge-2", "midge-4", "nats-server")

TIMEOUT_S = 20


@pytest.fixture
def connect(jetstream_server, cleanup):
    """A function that returns a JetStream context on a connection of its own, closed after the test."""

    async def connect_one():
        connection = await nats.connect(jetstream_server.url)
        cleanup.push_async_callback(connection.close)
        return connection.jetstream(timeout=TIMEOUT_S)

    return connect_one


async def test_stream_is_created_changed_listed_and_deleted(connect):
    js = await connect()
    created = await js.add_stream(name="LIFE", subjects=["life.>"], max_msgs=10)
    assert created.config.max_msgs == 10
    changed = await js.update_stream(name="LIFE", subjects=["life.>"], max_msgs=20, description="longer")
    assert (changed.config.max_msgs, changed.config.description) == (20, "longer")
    assert "LIFE" in [info.config.name for info in await js.streams_info()]
    assert await js.find_stream_name_by_subject("life.a") == "LIFE"
    assert await js.delete_stream("LIFE")
    with pytest.raises(nats.js.errors.NotFoundError):
        await js.stream_info("LIFE")


async def test_messages_published_anywhere_are_numbered_in_one_order(connect):
    clients = [await connect() for _ in range(8)]
    await clients[0].add_stream(name="ORDER", subjects=["order.*"])
    calls = [clients[number % 8].publish(f"order.{number}", b"%d" % number) for number in range(400)]
    acknowledgements = await asyncio.gather(*calls)
    assert sorted(ack.seq for ack in acknowledgements) == list(range(1, 401))
    for number, ack in list(enumerate(acknowledgements))[::40]:
        message = await clients[1].get_msg("ORDER", ack.seq)
        assert (message.subject, message.data) == (f"order.{number}", b"%d" % number)
    assert (await clients[2].stream_info("ORDER")).state.messages == 400


async def test_message_with_a_known_id_is_stored_once(connect):
    one, other = await connect(), await connect()
    await one.add_stream(name="ONCE", subjects=["once"])
    first = await one.publish("once", b"a", headers={"Nats-Msg-Id": "1"})
    again = await other.publish("once", b"b", headers={"Nats-Msg-Id": "1"})
    assert (first.seq, first.duplicate) == (1, None)
    assert (again.seq, again.duplicate) == (1, True)


async def test_publisher_is_refused_when_it_expects_something_else(connect):
    js = await connect()
    await js.add_stream(name="EXPECT", subjects=["expect"])
    await js.publish("expect", b"")
    await js.publish("expect", b"", headers={"Nats-Expected-Last-Sequence": "1"})
    with pytest.raises(nats.js.errors.BadRequestError, match="wrong last sequence: 2"):
        await js.publish("expect", b"", headers={"Nats-Expected-Last-Sequence": "1"})
    with pytest.raises(nats.js.errors.NoStreamResponseError):
        await js.publish("nobody.takes.this", b"")


async def test_key_value_bucket_keeps_the_last_value_of_each_key(connect):
    writer, reader = await connect(), await connect()
    bucket = await writer.create_key_value(bucket="colours", history=3)
    for value in (b"red", b"green", b"blue"):
        await bucket.put("sky", value)
    view = await reader.key_value("colours")
    entry = await view.get("sky")
    assert (entry.value, entry.revision) == (b"blue", 3)
    assert (await view.get("sky", revision=1)).value == b"red"
    with pytest.raises(nats.js.errors.KeyWrongLastSequenceError):
        await view.create("sky", b"grey")
    assert await view.update("sky", b"black", last=3) == 4
    await view.delete("sky")
    with pytest.raises(nats.js.errors.KeyNotFoundError):
        await bucket.get("sky")
    status = await view.status()
    assert (status.history, status.values) == (3, 3)


async def test_messages_are_purged_and_deleted(connect):
    js = await connect()
    await js.add_stream(name="GONE", subjects=["gone.*"])
    for number in range(6):
        await js.publish(f"gone.{number % 2}", b"")
    assert await js.delete_msg("GONE", 2)
    with pytest.raises(nats.js.errors.NotFoundError):
        await js.get_msg("GONE", 2)
    assert await js.purge_stream("GONE", subject="gone.1")
    state = (await js.stream_info("GONE")).state
    assert (state.messages, state.first_seq, state.last_seq) == (3, 1, 6)


async def test_account_tells_what_is_used(connect):
    js = await connect()
    before = await js.account_info()
    await js.add_stream(name="USED", subjects=["used"], storage=api.StorageType.MEMORY)
    await js.publish("used", bytes(1000))
    after = await js.account_info()
    assert after.streams == before.streams + 1
    assert after.memory - before.memory >= 1000
