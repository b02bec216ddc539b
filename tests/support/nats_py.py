"""What tests that use nats-py need to know of it."""

from nats.aio.client import Client


async def settle(connection: Client) -> None:
    """Wait until the broker has handled all that a connection has sent, subscriptions above all.

    One flush() proves less than it seems: it writes its PING straight to the socket, while what was sent
    before may still wait for the connection's flusher task, so that the PING overtakes it. But that task has
    run when the PONG is here; so a second PING is behind everything.
    """
    await connection.flush()
    await connection.flush()
