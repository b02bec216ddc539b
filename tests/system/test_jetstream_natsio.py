"""natsio has no JetStream of its own: its users call the API, which works over one, two and four workers."""

import json

import pytest
from natsio.client.config import ClientConfig
from natsio.client.core import NATSCore

pytestmark = [
    pytest.mark.servers("midge-1", "midge-2", "midge-4", "nats-server"),
    # natsio leaves its sockets and tasks to the garbage collector.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

TIMEOUT_S = 20
MESSAGES = 20


async def ask(client, subject, body=b""):
    """Publish with an inbox for the answer, by hand: request() of natsio 0.2.1 does not know its own."""
    inbox = await client.subscribe("nio.answer")
    await client.publish(subject, body, reply_to="nio.answer")
    answer = await inbox.next_msg(timeout=TIMEOUT_S)
    await inbox.unsubscribe()
    return answer


async def call(client, subject, **fields):
    """Call the JetStream API and return what it answers."""
    answer = json.loads((await ask(client, f"$JS.API.{subject}", json.dumps(fields).encode())).payload)
    assert "error" not in answer, answer
    return answer


async def test_stream_is_created_filled_read_and_consumed(start, cleanup):
    server = start(jetstream=True)
    client = NATSCore(ClientConfig(servers=[server.url]))
    await client.connect()
    cleanup.push_async_callback(client.close)
    await call(client, "STREAM.CREATE.NIO", name="NIO", subjects=["nio.data"])
    for number in range(MESSAGES):
        ack = json.loads((await ask(client, "nio.data", b"%d" % number)).payload)
        assert ack == {"stream": "NIO", "seq": number + 1}
    message = (await call(client, "STREAM.MSG.GET.NIO", seq=3))["message"]
    assert (message["subject"], message["data"]) == ("nio.data", "Mg==")
    config = {"durable_name": "d", "ack_policy": "explicit"}
    await call(client, "CONSUMER.DURABLE.CREATE.NIO.d", stream_name="NIO", config=config)
    inbox = await client.subscribe("nio.inbox")
    await client.publish("$JS.API.CONSUMER.MSG.NEXT.NIO.d", b"%d" % MESSAGES, reply_to="nio.inbox")
    for number in range(MESSAGES):
        delivered = await inbox.next_msg(timeout=TIMEOUT_S)
        assert delivered.payload == b"%d" % number
        await ask(client, delivered.reply_to, b"+ACK")
    info = await call(client, "CONSUMER.INFO.NIO.d")
    assert (info["num_pending"], info["num_ack_pending"]) == (0, 0)
    assert info["ack_floor"]["stream_seq"] == MESSAGES
