"""Hundreds of connections that send garbage, too much, too little or too slowly harm nobody else."""

import contextlib
import random
import socket
import struct

import pytest
from support.broker import HOST
from support.wait import wait_until

HOSTILE_COUNT = 300
ROUNDS = 60
ROOM = 100
LINGER_NONE = struct.pack("ii", 1, 0)


class Hostile:
    """A connection that misbehaves a little at each step and reads nothing."""

    def __init__(self, server, rng):
        self.server = server
        self.rng = rng
        self.socket = socket.socket()
        self.step = rng.choice(
            (
                self.garbage,
                self.oversized_line,
                self.oversized_payload,
                self.half_message,
                self.drip,
                self.flood,
            )
        )
        self.connect()

    def connect(self):
        self.socket.close()
        self.socket = socket.create_connection((HOST, self.server.port), timeout=30)
        self.socket.setblocking(False)

    def misbehave(self):
        """Do one step; connect again when the broker has closed."""
        try:
            self.step()
        except BlockingIOError:
            pass
        except OSError:
            self.connect()

    def garbage(self):
        self.socket.send(self.rng.randbytes(self.rng.choice((1, 100, 5000))))

    def oversized_line(self):
        self.socket.send(b"SUB " + b"x" * 3000)

    def oversized_payload(self):
        self.socket.send(b"PUB hostile 999999999\r\n" + b"x" * 1000)

    def half_message(self):
        self.socket.send(b"PUB hostile 1000000\r\n" + b"x" * 1000)
        if self.rng.random() < 0.1:
            self.vanish()

    def drip(self):
        self.socket.send(b"P")
        if self.rng.random() < 0.02:
            self.vanish()

    def flood(self):
        self.socket.send(b"PING\r\nSUB hostile.> 1\r\nPUB hostile.flood 5\r\nhello\r\nUNSUB 1\r\n" * 50)

    def vanish(self):
        """Reset the connection, so that the broker finds an error instead of an end."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_NONE)
        self.connect()


@pytest.mark.servers("midge-1", "midge-2", "midge-4", "nats-server")
def test_hostile_connections_harm_nobody_else(start, dial):
    server = start()
    pids = [process.pid for process in server.processes()]
    rng = random.Random(3)
    requester, responder, publisher, subscriber = (dial(server) for _ in range(4))
    responder.send(b"SUB polite.service group 1\r\n")
    responder.expect_nothing()
    subscriber.send(b"SUB polite.flow 1\r\n")
    subscriber.expect_nothing()
    requester.send(b"SUB polite.inbox 1\r\n")
    requester.expect_nothing()
    hostile = [Hostile(server, rng) for _ in range(HOSTILE_COUNT)]
    try:
        for round_number in range(ROUNDS):
            for connection in hostile:
                connection.misbehave()
            requester.send(b"PUB polite.service polite.inbox 0\r\n\r\n")
            responder.expect(rb"MSG polite\.service 1 polite\.inbox 0\r\n\r\n")
            responder.send(b"PUB polite.inbox 2\r\nok\r\n")
            requester.expect(rb"MSG polite\.inbox 1 2\r\nok\r\n")
            publisher.send(
                b"".join(b"PUB polite.flow 6\r\n%06d\r\n" % (round_number * 50 + i) for i in range(50))
            )
            for i in range(50):
                subscriber.expect(rb"MSG polite\.flow 1 6\r\n%06d\r\n" % (round_number * 50 + i))
        for client in (requester, responder, publisher, subscriber):
            client.expect_nothing()
    finally:
        for connection in hostile:
            connection.socket.close()
    assert [process.pid for process in server.processes()] == pids, "a process died"


@pytest.mark.servers("midge-1", "midge-2", "nats-server")
def test_one_byte_at_a_time_from_hundreds_of_connections_is_parsed(start, dial):
    """All drip the same message; every one of them arrives whole."""
    server = start()
    subscriber = dial(server)
    subscriber.send(b"SUB drip.* 1\r\n")
    subscriber.expect_nothing()
    connections = [dial(server) for _ in range(200)]
    for byte in b"PUB drip.x 11\r\nhello world\r\n":
        for connection in connections:
            connection.send(bytes([byte]))
    for _ in connections:
        subscriber.expect(rb"MSG drip\.x 1 11\r\nhello world\r\n")
    for connection in connections:
        connection.expect_nothing()


@pytest.mark.servers("midge-1", "midge-2", "nats-server")
def test_connections_that_vanish_at_once_leave_nothing(start, dial):
    """A thousand connections that are reset before or after INFO take no room."""
    server = start(max_connections=ROOM)
    rng = random.Random(4)
    for _ in range(1000):
        connection = socket.create_connection((HOST, server.port), timeout=30)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_NONE)
        if rng.random() < 0.3:
            connection.sendall(b"CONNECT {}\r\nSUB a 1\r\nPING\r\n")
        if rng.random() < 0.3:
            connection.recv(10)
        connection.close()
    wait_until(lambda: has_room_for_all(server), "room for as many connections as are allowed", 30)


@pytest.mark.servers("midge-1", "midge-2", "nats-server")
def test_connections_that_the_broker_ends_at_once_leave_nothing(start):
    """Each is over so soon that the process which accepted it may still hold it, and hears from it later."""
    server = start(max_connections=ROOM)
    for _ in range(100):
        connections = [socket.create_connection((HOST, server.port), timeout=30) for _ in range(ROOM // 2)]
        for step in (b"BOGUS\r\n", b"x", b"y"):
            for connection in connections:
                send_if_open(connection, step)
        for connection in connections:
            connection.close()
    wait_until(lambda: has_room_for_all(server), "room for as many connections as are allowed", 30)


def send_if_open(connection, data):
    with contextlib.suppress(ConnectionError):
        connection.send(data)


def has_room_for_all(server):
    """Whether as many connections as are allowed are served at once."""
    clients = []
    try:
        for _ in range(ROOM):
            clients.append(server.connect())
            clients[-1].handshake()
    except (AssertionError, ConnectionError):
        return False
    finally:
        for client in clients:
            client.close()
    return True
