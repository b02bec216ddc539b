"""Limits of sizes and counts, at the limit and one beyond."""

import socket

import pytest
from support.broker import HOST
from support.wait import wait_until

CONTROL_LINE_BYTES_MAX = 4096


def subscription(argument_bytes):
    """Return a SUB whose argument part has exactly that many bytes."""
    return b"SUB " + b"s" * (argument_bytes - 2) + b" 1\r\n"


def test_control_line_of_exactly_the_limit_is_accepted(client):
    client.send(subscription(CONTROL_LINE_BYTES_MAX))
    client.expect_nothing()


@pytest.mark.parametrize("beyond", [1, 2, 100, 60_000])
def test_control_line_beyond_the_limit_is_refused(client, beyond):
    client.send(subscription(CONTROL_LINE_BYTES_MAX + beyond))
    client.expect_error(b"maximum control line exceeded", closes=True)


def test_control_line_without_an_end_is_refused(client):
    client.send(subscription(CONTROL_LINE_BYTES_MAX + 4000).rstrip())
    client.expect_error(b"maximum control line exceeded", closes=True)


def test_control_line_limit_holds_for_pub(client):
    client.send(b"PUB " + b"s" * (CONTROL_LINE_BYTES_MAX - 2) + b" 0\r\n\r\n")
    client.expect_nothing()
    client.send(b"PUB " + b"s" * (CONTROL_LINE_BYTES_MAX - 1) + b" 0\r\n\r\n")
    client.expect_error(b"maximum control line exceeded", closes=True)


def test_control_line_limit_holds_for_hpub(client):
    client.send(b"HPUB " + b"s" * (CONTROL_LINE_BYTES_MAX - 5) + b" 12 12\r\nNATS/1.0\r\n\r\n\r\n")
    client.expect_error(b"maximum control line exceeded", closes=True)


def test_control_line_limit_holds_for_unsub(client):
    client.send(b"UNSUB " + b"9" * (CONTROL_LINE_BYTES_MAX + 1) + b"\r\n")
    client.expect_error(b"maximum control line exceeded", closes=True)


def test_control_line_limit_holds_for_connect(plain):
    plain.send(b'CONNECT {"verbose":false,"name":"' + b"n" * CONTROL_LINE_BYTES_MAX + b'"}\r\n')
    plain.expect_error(b"maximum control line exceeded", closes=True)


def test_control_line_limit_is_an_option(start, dial):
    server = start(max_control_line=1024)
    small = dial(server)
    small.send(subscription(1024))
    small.expect_nothing()
    small.send(b"SUB " + b"t" * 1023 + b" 2\r\n")
    small.expect_error(b"maximum control line exceeded", closes=True)


def test_message_of_exactly_max_payload_is_delivered(client):
    payload = bytes(range(256)) * 4096
    client.send(b"SUB limit.payload 1\r\nPUB limit.payload 1048576\r\n" + payload + b"\r\n")
    assert client.expect(rb"MSG limit\.payload 1 1048576\r\n(.{1048576})\r\n").group(1) == payload


def test_message_beyond_max_payload_is_refused_on_its_control_line(client):
    client.send(b"PUB limit.payload 1048577\r\n")
    client.expect_error(b"Maximum Payload Violation", closes=True)


def test_headers_count_for_max_payload(client):
    client.send(b"HPUB limit.payload 12 1048577\r\n")
    client.expect_error(b"Maximum Payload Violation", closes=True)


def test_largest_size_that_is_a_number_is_a_payload_violation(client):
    client.send(b"PUB limit.payload 999999999\r\n")
    client.expect_error(b"Maximum Payload Violation", closes=True)


def test_max_payload_is_an_option(start, dial):
    server = start(max_payload=1024)
    client = dial(server)
    client.send(b"SUB limit.option 1\r\nPUB limit.option 1024\r\n" + b"x" * 1024 + b"\r\n")
    client.expect(rb"MSG limit\.option 1 1024\r\nx{1024}\r\n")
    client.send(b"PUB limit.option 1025\r\n")
    client.expect_error(b"Maximum Payload Violation", closes=True)


def test_larger_max_payload_is_an_option(start, dial):
    server = start(max_payload=8388608)
    client = dial(server)
    payload = b"0123456789abcdef" * (8388608 // 16)
    client.send(b"SUB limit.large 1\r\nPUB limit.large 8388608\r\n" + payload + b"\r\n")
    assert client.expect(rb"MSG limit\.large 1 8388608\r\n(.{8388608})\r\n").group(1) == payload


def test_subscription_beyond_max_subscriptions_is_refused_and_the_connection_goes_on(start, dial):
    client = dial(start(max_subscriptions=3))
    client.send(b"SUB a 1\r\nSUB b 2\r\nSUB c 3\r\n")
    client.expect_nothing()
    client.send(b"SUB d 4\r\n")
    client.expect_error(b"maximum subscriptions exceeded", closes=False)
    client.send(b"PUB d 0\r\n\r\nPUB c 0\r\n\r\n")
    client.expect(rb"MSG c 3 0\r\n\r\n")
    client.expect_nothing()


def test_unsub_makes_room_below_max_subscriptions(start, dial):
    client = dial(start(max_subscriptions=1))
    client.send(b"SUB a 1\r\nUNSUB 1\r\nSUB b 2\r\nPUB b 0\r\n\r\n")
    client.expect(rb"MSG b 2 0\r\n\r\n")


def test_max_subscriptions_is_per_connection(start, dial):
    server = start(max_subscriptions=1)
    for _ in range(4):
        client = dial(server)
        client.send(b"SUB a 1\r\n")
        client.expect_nothing()


def test_subscription_with_more_than_max_sub_tokens_is_refused_and_the_connection_goes_on(start, dial):
    client = dial(start(max_sub_tokens=3))
    client.send(b"SUB a.b.c 1\r\nSUB a.*.> 2\r\n")
    client.expect_nothing()
    client.send(b"SUB a.b.c.d 3\r\n")
    client.expect_error(b'Permissions Violation for Subscription to "a.b.c.d", too many tokens', closes=False)
    client.send(b"PUB a.b.c.d 0\r\n\r\n")
    client.expect(rb"MSG a\.b\.c\.d 2 0\r\n\r\n")


def test_connection_beyond_max_connections_gets_info_and_is_refused(start, dial, dial_raw):
    server = start(max_connections=2)
    first, second = dial(server), dial(server)
    third = dial_raw(server)
    third.expect_error(b"maximum connections exceeded", closes=True)
    first.expect_nothing()
    second.expect_nothing()


def test_end_of_a_connection_makes_room_below_max_connections(start, dial, dial_raw):
    server = start(max_connections=2)
    first = dial(server)
    dial(server)
    first.close()

    def admitted():
        try:
            dial(server).expect_nothing()
        except (AssertionError, ConnectionError):
            return False
        return True

    wait_until(admitted, "room for another connection", 20)


def test_many_connections_are_served(server, dial):
    connections = [dial(server) for _ in range(200)]
    for connection in connections:
        connection.send(b"SUB many.connections 1\r\n")
        connection.expect_nothing()
    connections[0].send(b"PUB many.connections 2\r\nhi\r\n")
    for connection in connections:
        connection.expect(rb"MSG many\.connections 1 2\r\nhi\r\n")


def test_many_subscriptions_on_one_connection_are_served(client):
    client.send(b"".join(b"SUB many.subs.%d %d\r\n" % (i, i) for i in range(20_000)))
    client.expect_nothing()
    client.send(b"".join(b"PUB many.subs.%d 0\r\n\r\n" % i for i in range(0, 20_000, 1000)))
    for i in range(0, 20_000, 1000):
        client.expect(rb"MSG many\.subs\.%d %d 0\r\n\r\n" % (i, i))
    client.expect_nothing()


def test_connection_that_is_half_closed_gets_its_answers_first(server, dial):
    """What was sent before the client shut its side down is processed."""
    listener, leaver = dial(server), dial(server)
    listener.send(b"SUB half.closed 1\r\n")
    listener.expect_nothing()
    leaver.send(b"PUB half.closed 2\r\nhi\r\n")
    leaver.socket.shutdown(socket.SHUT_WR)
    listener.expect(rb"MSG half\.closed 1 2\r\nhi\r\n")
    leaver.expect_closed()


def test_port_is_bound_on_the_given_host_alone(server):
    assert server.port > 0
    with socket.socket() as other, pytest.raises(OSError):
        other.bind((HOST, server.port))
