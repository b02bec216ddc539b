"""natsio, the other asyncio client, works unchanged over one, two and four workers."""

import asyncio

import pytest
from natsio.client.config import ClientConfig
from natsio.client.core import NATSCore
from support.wait import wait_until_async

pytestmark = [
    pytest.mark.servers("midge-1", "midge-2", "midge-4", "nats-server"),
    # natsio leaves its sockets and tasks to the garbage collector.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

TIMEOUT_S = 20


@pytest.fixture
def connect(cleanup):
    """A function that connects to a broker; the connection is closed when the test ends, passed or failed."""

    async def connect_one(server, **options):
        client = NATSCore(ClientConfig(servers=[server.url], **options))
        await client.connect()
        cleanup.push_async_callback(client.close)
        return client

    return connect_one


async def subscribe(client, subject, **options):
    """Subscribe, and know that the broker has done it."""
    subscription = await client.subscribe(subject, **options)
    await settle(client)
    return subscription


async def settle(client):
    """Wait until the broker has processed all that client sent: a message to itself comes back."""
    subject = f"settle.{id(client)}"
    own = await client.subscribe(subject)
    await client.publish(subject, b"")
    await own.next_msg(timeout=TIMEOUT_S)
    await own.unsubscribe()


async def test_publish_reaches_subscribers(server, connect):
    clients = [await connect(server) for _ in range(4)]
    subscriptions = [await subscribe(client, "nio.>") for client in clients]
    await clients[0].publish("nio.a.b", b"hello")
    for subscription in subscriptions:
        message = await subscription.next_msg(timeout=TIMEOUT_S)
        assert (message.subject, message.payload) == ("nio.a.b", b"hello")


async def test_headers_are_carried(server, connect):
    subscriber, publisher = await connect(server), await connect(server)
    subscription = await subscribe(subscriber, "nio.headers")
    await publisher.publish("nio.headers", b"body", headers={"Key": "value"})
    message = await subscription.next_msg(timeout=TIMEOUT_S)
    assert message.payload == b"body"
    assert message.headers["Key"] == "value"


async def test_reply_finds_its_way_back(server, connect):
    """By hand: request() of natsio 0.2.1 does not know its own inbox, with nats-server either."""
    responder, requester = await connect(server), await connect(server)

    async def answer(message):
        await message.reply(b"re: " + message.payload)

    await subscribe(responder, "nio.service", callback=answer)
    for number in range(20):
        inbox = await requester.subscribe(f"nio.inbox.{number}")
        await requester.publish("nio.service", b"%d" % number, reply_to=f"nio.inbox.{number}")
        assert (await inbox.next_msg(timeout=TIMEOUT_S)).payload == b"re: %d" % number
        await inbox.unsubscribe()


async def test_queue_group_shares_the_messages(server, connect):
    clients = [await connect(server) for _ in range(4)]
    counts = [0] * 4

    def counter(index):
        async def count(_message):
            counts[index] += 1

        return count

    for index, client in enumerate(clients):
        await subscribe(client, "nio.queue", queue="workers", callback=counter(index))
    for _ in range(400):
        await clients[0].publish("nio.queue", b"job")
    await wait_until_async(lambda: sum(counts) >= 400, "400 messages", TIMEOUT_S)
    assert sum(counts) == 400
    assert all(counts), counts


async def test_client_reconnects_to_a_broker_that_came_back(start, connect):
    first = start()
    client = await connect(first, reconnect_time_wait=0.05, max_reconnect_attempts=10000)
    subscription = await subscribe(client, "nio.reconnect")
    first.stop()
    await wait_until_async(lambda: not client.is_connected, "the client to notice", TIMEOUT_S)
    second = start(port=first.port)
    await wait_until_async(lambda: client.is_connected, "the client to be back", TIMEOUT_S)
    other = await connect(second)
    receive = asyncio.create_task(subscription.next_msg(timeout=TIMEOUT_S))

    async def arrived():
        await other.publish("nio.reconnect", b"again")
        return receive.done()

    await wait_until_async(arrived, "the subscription to be replayed", TIMEOUT_S)
    assert receive.result().payload == b"again"
