"""The official asyncio client, nats-py, works unchanged over one, two and four workers."""

import asyncio

import nats
import nats.errors
import pytest
from support.broker import HOST
from support.nats_py import settle
from support.wait import wait_until_async

pytestmark = pytest.mark.servers("midge-1", "midge-2", "midge-4", "nats-server")

TIMEOUT_S = 20
FEW_CONNECTIONS = 8  # Two for each of four workers.


@pytest.fixture
def connect(cleanup):
    """A function that connects to a broker; the connection is closed when the test ends, passed or failed."""

    async def connect_one(server, **options):
        connection = await nats.connect(server.url, **options)
        cleanup.push_async_callback(connection.close)
        return connection

    return connect_one


@pytest.fixture
def connect_many(connect):
    """The same for several connections."""

    async def connect_all(server, count=FEW_CONNECTIONS, **options):
        return [await connect(server, **options) for _ in range(count)]

    return connect_all


async def test_message_reaches_subscribers_on_every_connection(server, connect_many):
    connections = await connect_many(server)
    subscriptions = [await connection.subscribe("py.fan") for connection in connections]
    for connection in connections:
        await settle(connection)
    await connections[0].publish("py.fan", b"hello")
    for subscription in subscriptions:
        message = await subscription.next_msg(TIMEOUT_S)
        assert (message.subject, message.data, message.reply) == ("py.fan", b"hello", "")


async def test_wildcards_select_subjects(server, connect_many):
    subscriber, publisher = await connect_many(server, 2)
    one = await subscriber.subscribe("py.wild.*")
    rest = await subscriber.subscribe("py.wild.>")
    await settle(subscriber)
    for subject in ("py.wild.a", "py.wild.a.b", "py.wild", "py.tame.a", "py.wild.c"):
        await publisher.publish(subject)
    await publisher.publish("py.wild.last")
    assert [(await one.next_msg(TIMEOUT_S)).subject for _ in range(3)] == [
        "py.wild.a",
        "py.wild.c",
        "py.wild.last",
    ]
    assert [(await rest.next_msg(TIMEOUT_S)).subject for _ in range(4)] == [
        "py.wild.a",
        "py.wild.a.b",
        "py.wild.c",
        "py.wild.last",
    ]


async def test_queue_group_shares_the_messages(server, connect_many):
    connections = await connect_many(server)
    counts = [0] * len(connections)

    def counter(index):
        async def count(_message):
            counts[index] += 1

        return count

    for index, connection in enumerate(connections):
        await connection.subscribe("py.queue", "workers", cb=counter(index))
        await settle(connection)
    for _ in range(800):
        await connections[3].publish("py.queue", b"job")
    await wait_until_async(lambda: sum(counts) >= 800, "800 messages", TIMEOUT_S)
    assert sum(counts) == 800
    assert all(counts), counts


async def test_request_is_answered_by_a_responder_anywhere(server, connect_many):
    connections = await connect_many(server)

    async def answer(message):
        await message.respond(b"re: " + message.data)

    await connections[0].subscribe("py.service", cb=answer)
    await settle(connections[0])
    for number in range(40):
        for connection in connections:
            reply = await connection.request("py.service", b"%d" % number, TIMEOUT_S)
            assert reply.data == b"re: %d" % number


async def test_many_requests_at_once_are_all_answered(server, connect_many):
    connections = await connect_many(server)

    async def answer(message):
        await message.respond(message.data)

    for connection in connections[:4]:
        await connection.subscribe("py.parallel", "group", cb=answer)
        await settle(connection)
    calls = [
        connections[number % len(connections)].request("py.parallel", b"%d" % number, TIMEOUT_S)
        for number in range(500)
    ]
    replies = await asyncio.gather(*calls)
    assert [reply.data for reply in replies] == [b"%d" % number for number in range(500)]


async def test_old_style_request_is_answered(server, connect_many):
    requester, responder = await connect_many(server, 2)

    async def answer(message):
        await message.respond(b"old")

    await responder.subscribe("py.old", cb=answer)
    await settle(responder)
    for _ in range(20):
        reply = await requester.request("py.old", b"", TIMEOUT_S, old_style=True)
        assert reply.data == b"old"


async def test_request_without_responders_fails_at_once(server, connect_many):
    connections = await connect_many(server)
    for connection in connections:
        with pytest.raises(nats.errors.NoRespondersError):
            await connection.request("py.nobody", b"", TIMEOUT_S)


async def test_headers_are_carried(server, connect_many):
    subscriber, publisher = await connect_many(server, 2)
    subscription = await subscriber.subscribe("py.headers")
    await settle(subscriber)
    headers = {"Trace-Id": "abc", "Colour": "blue green"}
    await publisher.publish("py.headers", b"body", headers=headers)
    await publisher.publish("py.headers", b"bare")
    first = await subscription.next_msg(TIMEOUT_S)
    assert (first.headers, first.data) == (headers, b"body")
    assert (await subscription.next_msg(TIMEOUT_S)).headers is None


async def test_largest_payload_is_carried(server, connect_many):
    subscriber, publisher = await connect_many(server, 2)
    subscription = await subscriber.subscribe("py.large")
    await settle(subscriber)
    for round_number in range(8):
        payload = bytes([round_number]) * 1048576
        await publisher.publish("py.large", payload)
        assert (await subscription.next_msg(TIMEOUT_S)).data == payload


async def test_payload_beyond_the_limit_is_refused_by_the_client(server, connect):
    client = await connect(server)
    with pytest.raises(nats.errors.MaxPayloadError):
        await client.publish("py.large", bytes(1048577))


async def test_unsubscribe_after_a_number_of_messages(server, connect_many):
    subscriber, publisher = await connect_many(server, 2)
    subscription = await subscriber.subscribe("py.limited")
    await subscription.unsubscribe(limit=3)
    await settle(subscriber)
    for number in range(10):
        await publisher.publish("py.limited", b"%d" % number)
    await settle(publisher)
    assert [(await subscription.next_msg(TIMEOUT_S)).data for _ in range(3)] == [b"0", b"1", b"2"]
    await settle(subscriber)
    assert subscription.pending_msgs == 0


async def test_no_echo_connection_does_not_hear_itself(server, connect):
    silent = await connect(server, no_echo=True)
    other = await connect(server)
    subscription = await silent.subscribe("py.echo")
    await settle(silent)
    await silent.publish("py.echo", b"mine")
    await settle(silent)
    await other.publish("py.echo", b"theirs")
    assert (await subscription.next_msg(TIMEOUT_S)).data == b"theirs"


async def test_drain_delivers_what_is_under_way_and_then_closes(server, connect_many):
    subscriber, publisher = await connect_many(server, 2)
    received = []

    async def take(message):
        await asyncio.sleep(0)
        received.append(message.data)

    await subscriber.subscribe("py.drain", cb=take)
    await settle(subscriber)
    for number in range(2000):
        await publisher.publish("py.drain", b"%d" % number)
    await settle(publisher)
    await wait_until_async(lambda: received, "the first message", TIMEOUT_S)
    if server.worker_count < 2:
        # The publisher's PONG came from the subscriber's worker: everything is in the subscriber's queue.
        await subscriber.drain()
        assert received == [b"%d" % number for number in range(2000)]
    else:
        await wait_until_async(lambda: len(received) == 2000, "all messages", TIMEOUT_S)
        await subscriber.drain()
    assert subscriber.is_closed


async def test_client_reconnects_to_a_broker_that_came_back(start, connect):
    first = start()
    reconnected = asyncio.Event()

    async def on_reconnect():
        reconnected.set()

    client = await connect(
        first, reconnected_cb=on_reconnect, reconnect_time_wait=0.05, max_reconnect_attempts=-1
    )
    subscription = await client.subscribe("py.reconnect")
    await settle(client)
    first.stop()
    second = start(port=first.port)
    await asyncio.wait_for(reconnected.wait(), TIMEOUT_S)
    other = await connect(second)

    async def arrives():
        await other.publish("py.reconnect", b"again")
        await settle(other)
        return subscription.pending_msgs

    await wait_until_async(arrives, "the subscription to be replayed", TIMEOUT_S)
    assert (await subscription.next_msg(TIMEOUT_S)).data == b"again"


async def test_wrong_credentials_are_refused(start, connect):
    server = start(user="derek", password="t0ps3cret")
    stranger = nats.NATS()
    with pytest.raises(nats.errors.Error, match=r"(?i)authorization violation"):
        await stranger.connect(f"nats://derek:wrong@{HOST}:{server.port}", allow_reconnect=False)
    # nats-py leaves the socket of a refused connection open.
    stranger._transport.close()
    client = await connect(server, user="derek", password="t0ps3cret", allow_reconnect=False)
    await client.flush()


async def test_messages_of_one_publisher_arrive_in_order_everywhere(server, connect_many):
    connections = await connect_many(server)
    subscriptions = [await connection.subscribe("py.order") for connection in connections]
    for connection in connections:
        await settle(connection)
    for number in range(3000):
        await connections[0].publish("py.order", b"%d" % number)
    for subscription in subscriptions:
        got = [(await subscription.next_msg(TIMEOUT_S)).data for _ in range(3000)]
        assert got == [b"%d" % number for number in range(3000)]


async def test_rtt_is_measured(server, connect):
    client = await connect(server)
    assert await client.rtt() > 0
    assert client.connected_server_version.major == 2
