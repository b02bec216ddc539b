"""How long one message takes until it is published, delivered, and its acknowledgement confirmed."""

from __future__ import annotations

import time

from loadtest.client import ServerError
from loadtest.compare.rounds import Figures
from loadtest.compare.servers import RunningServer
from loadtest.consumers.client import JetStreamClient
from loadtest.consumers.publishing import PAYLOAD, SUBJECT, request
from loadtest.histogram import Histogram
from loadtest.parser import operations

WARM_UP = 200


def measure_latency(running: RunningServer, messages: int, kind: str, storage: str) -> Figures:
    """Send one message after the other.

    Args:
        kind: `pull` with one waiting request for all of them, or `push`.
    Raises:
        ServerError: something was refused, lost or out of order.
    """
    client = JetStreamClient(running.server)
    try:
        client.create_stream(storage)
        client.connection.subscribe("_got", sid=2)
        fields: dict[str, object] = {"deliver_subject": "_got"} if kind == "push" else {}
        client.create_consumer("wanted", SUBJECT.decode(), ack_policy="explicit", **fields)
        if kind == "pull":
            client.connection.send(request(b"wanted", b"_got", messages + WARM_UP))
        client.connection.subscribe("_acked", sid=3)
        client.connection.subscribe("_confirmed", sid=4)
        client.connection.unread = b""
        histogram = Histogram()
        for number in range(1, messages + WARM_UP + 1):
            begin_ns = time.monotonic_ns()
            one_message(client, number)
            if number > WARM_UP:
                histogram.record(time.monotonic_ns() - begin_ns)
        left = client.ask("CONSUMER.INFO.S.wanted")
        if left["num_pending"] or left["num_ack_pending"]:
            raise ServerError(f"not everything is done: {left}")
        summary = histogram.summary_ns()
        return {f"{name}_us": summary[name] / 1e3 for name in ("p50", "p99")}
    finally:
        client.close()


def one_message(client: JetStreamClient, number: int) -> None:
    """Publish, wait for acknowledgement and delivery, acknowledge, wait for the confirmation."""
    client.connection.send(b"PUB %b _acked %d\r\n%b\r\n" % (SUBJECT, len(PAYLOAD), PAYLOAD))
    waits_for = {b"2", b"3"}
    while waits_for:
        for sid, reply, payload in take(client):
            if sid not in waits_for:
                raise ServerError(f"{payload[:60]!r} came twice, or too early")
            waits_for.discard(sid)
            if sid == b"2":
                if reply.split(b".")[5] != b"%d" % number:
                    raise ServerError(f"{reply!r} where message {number} was due")
                client.connection.send(b"PUB %b _confirmed 4\r\n+ACK\r\n" % reply)
                waits_for.add(b"4")


def take(client: JetStreamClient) -> list[tuple[bytes, bytes, bytes]]:
    """Return sid, reply and payload of the messages that are there, at least one."""
    while True:
        found, used = operations(client.connection.unread)
        client.connection.unread = client.connection.unread[used:]
        messages = [(sid, reply, payload) for kind, _, sid, reply, _, payload in found if kind == "MSG"]
        if messages:
            return messages
        client.connection.receive()
