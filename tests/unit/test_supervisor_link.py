"""A link never blocks, keeps the order, and owns the descriptors it is given."""

import array
import asyncio
import json
import os
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from support.wait import wait_until_async

from supervisor.link import CONNECTIONS_PER_DATAGRAM_MAX, Accepted, Link


class WorkerEnd:
    """The other end of a link, as a worker sees it."""

    def __init__(self, end: socket.socket) -> None:
        self.socket = end
        end.setblocking(False)

    def receive(self) -> tuple[dict[str, Any], list[int]] | None:
        try:
            data, ancillary, _, _ = self.socket.recvmsg(1 << 18, socket.CMSG_SPACE(253 * 4))
        except BlockingIOError:
            return None
        descriptors = array.array("i")
        for _, _, rights in ancillary:
            descriptors.frombytes(rights)
        return json.loads(data), list(descriptors)

    def receive_all(self) -> list[dict[str, Any]]:
        messages = []
        while received := self.receive():
            messages.append(received[0])
            for descriptor in received[1]:
                os.close(descriptor)
        return messages


@pytest.fixture
def pair() -> Iterator[tuple[Link, WorkerEnd]]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    link, worker = Link(ours), WorkerEnd(theirs)
    yield link, worker
    for connection in link.close():
        os.close(connection.descriptor)
    theirs.close()


def connection(client_id: int) -> Accepted:
    return Accepted(client_id, "127.0.0.1", 1000 + client_id, False, os.open(os.devnull, os.O_RDONLY))


def is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


def fill(link: Link) -> int:
    """Send until messages wait in the link; return how many were sent in all."""
    count = 0
    while not link._waiting:
        link.send({"op": "filler", "number": count, "padding": "x" * 1000})
        count += 1
    return count


def test_message_and_descriptors_arrive_without_an_event_loop(pair: tuple[Link, WorkerEnd]) -> None:
    link, worker = pair
    with open(os.devnull) as file:
        link.send({"op": "start", "config": {"index": 0}}, [file.fileno()])
        received = worker.receive()
        assert received is not None
        message, descriptors = received
        assert message == {"op": "start", "config": {"index": 0}}
        assert os.fstat(descriptors[0]).st_rdev == os.fstat(file.fileno()).st_rdev
        os.close(descriptors[0])
        assert is_open(file.fileno())


def test_connections_are_handed_over_in_datagrams_of_bounded_size(pair: tuple[Link, WorkerEnd]) -> None:
    link, worker = pair
    handed = [connection(client_id) for client_id in range(1, 151)]
    link.hand_over(handed)
    entries = []
    while received := worker.receive():
        message, descriptors = received
        assert message["op"] == "accept"
        assert len(descriptors) == len(message["connections"]) <= CONNECTIONS_PER_DATAGRAM_MAX
        entries += message["connections"]
        for descriptor in descriptors:
            os.close(descriptor)
    assert entries == [[client_id, "127.0.0.1", 1000 + client_id, False] for client_id in range(1, 151)]
    assert not any(is_open(accepted.descriptor) for accepted in handed)


async def test_what_a_full_socket_refuses_follows_in_order(pair: tuple[Link, WorkerEnd]) -> None:
    link, worker = pair
    count = fill(link)
    link.attach(asyncio.get_running_loop(), lambda message: None, lambda reason: None)
    link.hand_over([connection(1)])
    link.hand_over([connection(2)])
    link.send({"op": "stop"})
    assert link.unsent_connections == 2
    received: list[dict[str, Any]] = []

    def last_arrived() -> bool:
        received.extend(worker.receive_all())
        return bool(received) and received[-1]["op"] == "stop"

    await wait_until_async(last_arrived, "the last message")
    assert [message["number"] for message in received[:count]] == list(range(count))
    assert [message["op"] for message in received[count:]] == ["accept", "stop"]
    assert [entry[0] for entry in received[count]["connections"]] == [1, 2]
    assert link.unsent_connections == 0


def test_connections_that_were_never_sent_come_back_on_close(pair: tuple[Link, WorkerEnd]) -> None:
    link, _ = pair
    fill(link)
    waiting = [connection(1), connection(2)]
    link.hand_over(waiting)
    assert link.close() == waiting
    for accepted in waiting:
        os.close(accepted.descriptor)


def test_connections_for_a_worker_that_is_gone_come_back_on_close(pair: tuple[Link, WorkerEnd]) -> None:
    link, worker = pair
    worker.socket.close()
    link.send({"op": "peer_down", "peer": 1})
    link.hand_over([connection(1)])
    (unsent,) = link.close()
    assert unsent.client_id == 1
    os.close(unsent.descriptor)


async def test_messages_of_the_worker_are_passed_on(pair: tuple[Link, WorkerEnd]) -> None:
    link, worker = pair
    messages: list[dict[str, Any]] = []
    link.attach(asyncio.get_running_loop(), messages.append, lambda reason: None)
    worker.socket.send(b'{"op":"ready"}')
    worker.socket.send(b'{"op":"peer_down_done","peer":3}')
    await wait_until_async(lambda: len(messages) == 2, "both messages")
    assert messages == [{"op": "ready"}, {"op": "peer_down_done", "peer": 3}]


@pytest.mark.parametrize("data", [b"garbage", b"[1]", b"{}", b'{"op":1}', b"\xff\xfe", b"{" * 5000])
async def test_what_is_no_message_ends_the_link(pair: tuple[Link, WorkerEnd], data: bytes) -> None:
    link, worker = pair
    reasons: list[str] = []
    link.attach(asyncio.get_running_loop(), lambda message: None, reasons.append)
    worker.socket.send(data)
    await wait_until_async(lambda: reasons, "the end of the link")
    assert "no message" in reasons[0]


async def test_end_of_the_worker_ends_the_link_once(pair: tuple[Link, WorkerEnd]) -> None:
    link, worker = pair
    messages: list[dict[str, Any]] = []
    reasons: list[str] = []
    link.attach(asyncio.get_running_loop(), messages.append, reasons.append)
    worker.socket.send(b'{"op":"ready"}')
    worker.socket.close()
    await wait_until_async(lambda: reasons, "the end of the link")
    assert messages == [{"op": "ready"}]
    assert reasons == ["closed its link"]
