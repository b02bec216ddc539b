"""A connection that is cut anywhere never delivers half a message, and leaves nothing behind."""

import random
import re

import pytest
from support.broker import HOST
from support.proxy import cut_connection
from support.rawclient import RawClient
from support.wait import wait_until

CUTS = 40
MESSAGES = b"".join(b"PUB cut 12\r\nbody %07d\r\n" % number for number in range(100))


@pytest.fixture
def listener(server, dial):
    """A subscriber that is not cut."""
    listener = dial(server)
    listener.send(b"SUB cut 1\r\n")
    listener.expect_nothing()
    return listener


def test_publisher_cut_anywhere_delivers_whole_messages_only(server, listener):
    rng = random.Random(11)
    connect = b'CONNECT {"verbose":false}\r\n'
    for _ in range(CUTS):
        length = rng.randrange(len(connect), len(connect) + len(MESSAGES))
        whole = (length - len(connect)) // (len(MESSAGES) // 100)
        with cut_connection(server.port, upstream_bytes=length) as proxy:
            publisher = RawClient(HOST, proxy.port)
            publisher.send_if_open(connect + MESSAGES)
            publisher.read_to_end()
            publisher.close()
        for number in range(whole):
            listener.expect(rb"MSG cut 1 12\r\nbody %07d\r\n" % number)
        listener.expect_nothing()


def test_subscriber_cut_anywhere_has_got_a_prefix(server, dial):
    rng = random.Random(12)
    publisher = dial(server)
    expected = b"".join(b"MSG cut.down 1 12\r\nbody %07d\r\n" % number for number in range(100))
    for _ in range(CUTS):
        length = rng.randrange(1000, 1000 + len(expected) // 2)
        with cut_connection(server.port, downstream_bytes=length) as proxy:
            subscriber = RawClient(HOST, proxy.port)
            subscriber.send(b'CONNECT {"verbose":false}\r\nSUB cut.down 1\r\nPING\r\n')
            subscriber.expect(rb"PONG\r\n")
            publisher.send(MESSAGES.replace(b"PUB cut ", b"PUB cut.down "))
            received = subscriber.read_to_end()
            subscriber.close()
        assert received
        assert expected.startswith(re.sub(rb"PING\r\n", b"", received))
        publisher.expect_nothing()


def test_cut_connections_are_forgotten(start, dial):
    """A request to a subject that only cut connections had subscribed to finds no responders."""
    server = start()
    requester = dial(server, headers=True, no_responders=True)
    requester.send(b"SUB cut.answer 1\r\n")
    lines = b'CONNECT {"verbose":false}\r\nSUB cut.service 1\r\nSUB cut.service group 2\r\n'
    for extra in range(20):
        with cut_connection(server.port, upstream_bytes=len(lines) + extra) as proxy:
            responder = RawClient(HOST, proxy.port)
            responder.send_if_open(lines + b"P" * 20)
            responder.read_to_end()
            responder.close()

    def nobody_answers():
        requester.send(b"PUB cut.service cut.answer 0\r\n\r\nPING\r\n")
        return b" 503" in requester.expect(rb".*?PONG\r\n").group()

    wait_until(nobody_answers, "the cut connections to be forgotten", 20)
