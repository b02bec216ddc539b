"""Those who wait are told at once of what comes without a publisher, and nobody waits longer than asked."""

import asyncio
import json

import nats
import pytest
from nats.js.api import ConsumerConfig

pytestmark = pytest.mark.servers("midge-1", "midge-2", "nats-server")

TIMEOUT_S = 20
FLOW_MESSAGES = 160
FLOW_MESSAGE_BYTES = 500_000


@pytest.fixture
def connect(jetstream_server, cleanup):
    """A function that returns a connection, closed after the test."""

    async def connect_one():
        connection = await nats.connect(jetstream_server.url)
        cleanup.push_async_callback(connection.close)
        return connection

    return connect_one


async def test_watcher_learns_that_a_key_has_ended(connect):
    client = await connect()
    bucket = await client.jetstream().create_key_value(bucket="ENDS", limit_marker_ttl=60)
    await bucket.create("age", b"30", msg_ttl=1)
    watcher = await bucket.watch("age", include_history=True)
    assert (await watcher.updates(timeout=TIMEOUT_S)).value == b"30"
    assert await watcher.updates(timeout=TIMEOUT_S) is None
    assert (await watcher.updates(timeout=TIMEOUT_S)).operation == "PURGE"
    await watcher.stop()


async def test_scheduled_message_reaches_a_waiting_consumer(connect):
    client = await connect()
    js = client.jetstream(timeout=TIMEOUT_S)
    config = {"name": "LATER", "subjects": ["later.>"], "allow_msg_schedules": True}
    created = await client.request("$JS.API.STREAM.CREATE.LATER", json.dumps(config).encode())
    assert "error" not in json.loads(created.data)
    reader = await js.pull_subscribe("later.due", durable="reader", stream="LATER")
    waiting = asyncio.create_task(reader.fetch(1, timeout=TIMEOUT_S))
    schedule = {"Nats-Schedule": "@every 1s", "Nats-Schedule-Target": "later.due"}
    await js.publish("later.plan", b"now", headers=schedule)
    [message] = await waiting
    assert message.data == b"now"
    await js.delete_stream("LATER")


async def test_request_that_does_not_wait_ends_at_a_heartbeat_when_acknowledgements_are_missing(connect):
    client = await connect()
    js = client.jetstream(timeout=TIMEOUT_S)
    await js.add_stream(name="FULL", subjects=["full"])
    for _ in range(4):
        await js.publish("full", b"")
    await js.add_consumer(
        "FULL", ConsumerConfig(durable_name="two", ack_policy="explicit", max_ack_pending=2)
    )
    inbox = await client.subscribe("full.inbox")
    request = {"batch": 4, "expires": TIMEOUT_S * 10**9, "idle_heartbeat": 10**8, "no_wait": True}
    await client.publish("$JS.API.CONSUMER.MSG.NEXT.FULL.two", json.dumps(request).encode(), "full.inbox")
    messages = [await inbox.next_msg(timeout=TIMEOUT_S) for _ in range(3)]
    assert [message.headers for message in messages[:2]] == [None, None]
    assert messages[2].headers["Status"] == "404"


async def test_client_that_confirms_as_late_as_possible_gets_everything(connect):
    """Whoever answers when a whole window is out leaves half of the largest window unconfirmed: ask again."""
    publisher, client = await connect(), await connect()
    js = publisher.jetstream(timeout=TIMEOUT_S)
    await js.add_stream(name="FLOW", subjects=["flow"], storage="memory")
    for _ in range(FLOW_MESSAGES):
        await js.publish("flow", bytes(FLOW_MESSAGE_BYTES))
    answer_at = [count << 20 for count in (2, 5, 11, 23, 47)]
    received, waiting, everything = 0, [], asyncio.Event()

    async def take(message):
        nonlocal received
        received += len(message.data)
        if message.headers and message.headers.get("Status") == "100" and message.reply:
            waiting.append(message)
        if waiting and (not answer_at or received >= answer_at[0]):
            del answer_at[:1]
            await waiting.pop().respond(b"")
        if received == FLOW_MESSAGES * FLOW_MESSAGE_BYTES:
            everything.set()

    await client.subscribe("flow.inbox", cb=take)
    await client.flush()
    config = ConsumerConfig(
        deliver_subject="flow.inbox", flow_control=True, idle_heartbeat=60, ack_policy="none"
    )
    await client.jetstream(timeout=TIMEOUT_S).add_consumer("FLOW", config)
    await asyncio.wait_for(everything.wait(), TIMEOUT_S)
    await js.delete_stream("FLOW")


async def test_message_is_not_spent_on_a_request_whose_time_is_over(connect):
    client = await connect()
    js = client.jetstream(timeout=TIMEOUT_S)
    await js.add_stream(name="OVER", subjects=["over"])
    await js.add_consumer("OVER", ConsumerConfig(durable_name="one", ack_policy="explicit"))
    inbox = await client.subscribe("over.inbox")
    request = json.dumps({"batch": 1, "expires": 1}).encode()
    await client.publish("$JS.API.CONSUMER.MSG.NEXT.OVER.one", request, "over.inbox")
    await client.publish("over", b"for somebody else")
    assert (await inbox.next_msg(timeout=TIMEOUT_S)).headers["Status"] == "408"
    assert (await js.consumer_info("OVER", "one")).num_ack_pending == 0
    await js.delete_stream("OVER")
