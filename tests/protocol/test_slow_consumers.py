"""A peer that does not read is closed, and nobody else is harmed."""

from support.rawclient import message_count
from support.wait import wait_until

PAYLOAD = b"x" * 65536
SMALL_RECEIVE_BUFFER_BYTES = 65536


def interest_is_gone(requester, subject):
    """Whether a request on subject is answered with 503; requester holds a subscription to answer.slow."""

    def check():
        requester.send(b"PUB " + subject + b" answer.slow 0\r\n\r\nPING\r\n")
        return b" 503" in requester.expect(rb".*?PONG\r\n").group()

    return check


def start_slow_reader(server, dial, subject):
    slow = dial(server, receive_buffer_bytes=SMALL_RECEIVE_BUFFER_BYTES)
    slow.send(b"SUB " + subject + b" 1\r\n")
    slow.expect_nothing()
    requester = dial(server, headers=True, no_responders=True)
    requester.send(b"SUB answer.slow 1\r\n")
    requester.expect_nothing()
    return slow, requester


def publish(client, subject, count):
    for _ in range(count):
        client.send(b"PUB " + subject + b" 65536\r\n" + PAYLOAD + b"\r\n")


def test_reader_with_more_than_max_pending_unsent_is_closed_without_a_word(start, dial):
    """32 MiB exceed the limit of 1 MiB and every socket buffer between."""
    server = start(max_pending=1048576, max_payload=65536)
    slow, requester = start_slow_reader(server, dial, b"slow.pending")
    publish(requester, b"slow.pending", 512)
    wait_until(interest_is_gone(requester, b"slow.pending"), "the slow consumer to be closed", 20)
    received = slow.read_to_end()
    assert received.startswith(b"MSG slow.pending 1 65536\r\n")
    assert b"-ERR" not in received
    assert message_count(received) < 512


def test_other_subscribers_get_everything_while_a_slow_one_is_closed(start, dial):
    server = start(max_pending=1048576, max_payload=65536)
    slow, requester = start_slow_reader(server, dial, b"slow.others")
    fast = dial(server)
    fast.send(b"SUB slow.others 1\r\n")
    fast.expect_nothing()
    for _ in range(512):
        publish(requester, b"slow.others", 1)
        fast.expect(rb"MSG slow\.others 1 65536\r\nx{65536}\r\n")
    slow.read_to_end()
    fast.expect_nothing()


def test_reader_that_takes_nothing_for_the_write_deadline_is_closed(start, dial):
    """The pending bytes stay below max_pending: the deadline alone closes the connection."""
    server = start(write_deadline="200ms", max_payload=65536)
    slow, requester = start_slow_reader(server, dial, b"slow.deadline")
    publish(requester, b"slow.deadline", 400)
    wait_until(interest_is_gone(requester, b"slow.deadline"), "the write deadline to pass", 20)
    received = slow.read_to_end()
    assert message_count(received) < 400


def test_reader_that_was_slow_but_reads_again_gets_everything(start, dial):
    server = start(max_payload=65536)
    slow, requester = start_slow_reader(server, dial, b"slow.recovers")
    publish(requester, b"slow.recovers", 400)
    requester.expect_nothing()
    for _ in range(400):
        slow.expect(rb"MSG slow\.recovers 1 65536\r\nx{65536}\r\n")
    slow.expect_nothing()


def test_client_that_publishes_to_itself_without_reading_is_closed(start, dial):
    server = start(max_pending=1048576, max_payload=65536)
    selfish = dial(server, receive_buffer_bytes=SMALL_RECEIVE_BUFFER_BYTES)
    selfish.send(b"SUB slow.self 1\r\n")
    for _ in range(1024):
        selfish.send_if_open(b"PUB slow.self 65536\r\n" + PAYLOAD + b"\r\n")
    selfish.read_to_end()
