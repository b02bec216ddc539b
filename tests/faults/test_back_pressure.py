"""A worker or a peer that takes nothing stalls only those that send to it, and nothing is lost."""

import os
import signal
import threading

import pytest
from support.fleet import by_worker

PAYLOAD = b"x" * 8192
MESSAGE_COUNT = 3000  # 24 MiB: many times a ring and the socket buffers.


class Sender(threading.Thread):
    """Sends all of its data, however long that takes."""

    def __init__(self, client, data):
        super().__init__(daemon=True)
        self.client = client
        self.data = data
        self.start()

    def run(self):
        self.client.socket.settimeout(None)
        for piece in self.data:
            self.client.send(piece)


def numbered(subject):
    return (b"PUB %b 8200\r\n%08d%b\r\n" % (subject, number, PAYLOAD) for number in range(MESSAGE_COUNT))


def expect_numbered(client, subject):
    for number in range(MESSAGE_COUNT):
        client.expect(rb"MSG %b 1 8200\r\n%08dx{8192}\r\n" % (subject, number), 60)


@pytest.mark.servers("midge-2", "midge-4")
def test_stopped_worker_stalls_only_what_goes_to_it_and_loses_nothing(start, dial):
    """SIGSTOP fills the rings towards it; their senders wait, everybody else goes on; then all arrives."""
    server = start()
    clients = [dial(server) for _ in range(4 * server.worker_count)]
    served = by_worker(server, clients)
    sleeper, other, *_ = served
    stuck = served[sleeper][0]
    stuck.send(b"SUB to.stopped 1\r\n")
    stuck.expect_nothing()
    sending, first, second, _ = served[other]
    first.send(b"SUB among.others 1\r\n")
    first.expect_nothing()
    os.kill(sleeper, signal.SIGSTOP)
    try:
        sender = Sender(sending, numbered(b"to.stopped"))
        for number in range(500):
            second.send(b"PUB among.others 6\r\n%06d\r\n" % number)
            first.expect(rb"MSG among\.others 1 6\r\n%06d\r\n" % number)
        assert sender.is_alive(), "24 MiB were taken without a place to put them"
    finally:
        os.kill(sleeper, signal.SIGCONT)
    expect_numbered(stuck, b"to.stopped")
    sender.join(60)
    assert not sender.is_alive()
    for client in clients:
        client.expect_nothing()


@pytest.mark.servers("midge-2", "midge-4")
def test_worker_that_dies_while_rings_to_it_are_full_frees_its_senders(start, dial):
    server = start()
    clients = [dial(server) for _ in range(2 * server.worker_count)]
    served = by_worker(server, clients)
    sleeper, other, *_ = served
    stuck = served[sleeper][0]
    stuck.send(b"SUB to.dying 1\r\n")
    stuck.expect_nothing()
    sending, neighbour = served[other]
    os.kill(sleeper, signal.SIGSTOP)
    sender = Sender(sending, numbered(b"to.dying"))
    for _ in range(200):
        neighbour.expect_nothing()
    os.kill(sleeper, signal.SIGKILL)
    sender.join(60)
    assert not sender.is_alive(), "the sender waits for a worker that is gone"
    sending.expect_nothing()
    stuck.read_to_end()


@pytest.mark.servers("midge-2", "midge-4", "nats-server")
def test_full_flow_in_all_directions_at_once_is_delivered(start, dial):
    """Every connection floods the next one, so that every pair of workers is full both ways."""
    server = start()
    clients = [dial(server) for _ in range(8)]
    for number, client in enumerate(clients):
        client.send(b"SUB ring.%d 1\r\n" % number)
        client.expect_nothing()
    senders = [dial(server) for _ in range(8)]
    threads = [
        Sender(sender, numbered(b"ring.%d" % ((number + 1) % 8))) for number, sender in enumerate(senders)
    ]
    readers = [
        threading.Thread(target=expect_numbered, args=(client, b"ring.%d" % number), daemon=True)
        for number, client in enumerate(clients)
    ]
    for reader in readers:
        reader.start()
    for thread in (*readers, *threads):
        thread.join(120)
        assert not thread.is_alive()
    for client in (*clients, *senders):
        client.expect_nothing()


@pytest.mark.servers("midge-2", "midge-4", "nats-server")
def test_stuck_subscribers_on_every_worker_are_closed_while_others_get_everything(start, dial):
    server = start(max_pending=1048576, max_payload=65536)
    stuck = [dial(server, receive_buffer_bytes=65536) for _ in range(4)]
    readers = [dial(server) for _ in range(4)]
    publisher = dial(server)
    for client in (*stuck, *readers):
        client.send(b"SUB flood 1\r\n")
        client.expect_nothing()
    for number, piece in enumerate(numbered(b"flood")):
        publisher.send(piece)
        for client in readers:
            client.expect(rb"MSG flood 1 8200\r\n%08dx{8192}\r\n" % number)
    for client in stuck:
        client.read_to_end()
    for client in readers:
        client.expect_nothing()
