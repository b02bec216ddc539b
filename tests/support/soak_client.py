"""One connection of the soak: it sends and receives without blocking, and keeps what it got in bulk.

It knows how a soak message is built, so that it can check the bytes of each, and not who should get it.

A message of publisher P with number N:
    subject   one of the pool, with reply `soak.reply.N` when N % 32 is 3
    headers   `NATS/1.0` and one line when N % 16 is 5
    payload   8 bytes P and N (2 and 6 bytes, big-endian), then bytes of FILLER from N % 251 on
"""

import random
import selectors
import socket

from support.broker import HOST

READ_BYTES = 1 << 20
FILLER = random.Random(20).randbytes(1 << 19)
HEADERS = b"NATS/1.0\r\nSoak: yes\r\n\r\n"
STAMP_BYTES = 8
NUMBER_BITS = 48


def payload_of(publisher: int, number: int, size: int) -> bytes:
    """Return the payload of a message; size is at least STAMP_BYTES."""
    start = number % 251
    stamp = (publisher << NUMBER_BITS | number).to_bytes(STAMP_BYTES, "big")
    return stamp + FILLER[start : start + size - STAMP_BYTES]


def has_headers(number: int) -> bool:
    return number % 16 == 5


def publish_operation(publisher: int, number: int, subject: bytes, size: int) -> bytes:
    """Return PUB or HPUB for a message with a payload of size bytes."""
    reply = b" soak.reply.%d" % number if number % 32 == 3 else b""
    payload = payload_of(publisher, number, size)
    if has_headers(number):
        sizes = b"%d %d" % (len(HEADERS), len(HEADERS) + size)
        return b"HPUB %b%b %b\r\n%b%b\r\n" % (subject, reply, sizes, HEADERS, payload)
    return b"PUB %b%b %d\r\n%b\r\n" % (subject, reply, size, payload)


class SoakClient:
    """A connection, its unsent bytes, and what each of its subscriptions received.

    Attributes:
        name: number of the connection, never reused; it is the publisher in what it publishes.
        received: for each sid the (publisher << NUMBER_BITS | number, subject) of its messages, in order.
        received_count: messages received since the last clear.
        pongs: PONGs received so far.
    """

    def __init__(self, name: int, port: int, selector: selectors.BaseSelector) -> None:
        self.name = name
        self.received: dict[bytes, list[tuple[int, bytes]]] = {}
        self.received_count = 0
        self.pongs = 0
        self.pings = 0
        self.is_open = True
        self.next_number = 0
        self._input_ended = False
        self._unsent = bytearray()
        self._unparsed = b""
        self._selector = selector
        self._socket = socket.create_connection((HOST, port), timeout=30)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.setblocking(False)
        selector.register(self._socket, selectors.EVENT_READ, self)
        self.send(b'CONNECT {"verbose":false,"pedantic":false,"headers":true}\r\n')

    def send(self, data: bytes) -> None:
        """Queue data behind what is unsent, and send what the socket takes now."""
        self._unsent += data
        self.write()

    def ping(self) -> None:
        self.pings += 1
        self.send(b"PING\r\n")

    def is_fenced(self) -> bool:
        """Whether every PING was answered."""
        return self.pongs >= self.pings

    def end_input(self) -> None:
        """Tell the broker that nothing follows; is_open turns false when it has closed in turn."""
        self._input_ended = True
        self._socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Close the socket at once; may be called twice."""
        if self._socket.fileno() >= 0:
            self._selector.unregister(self._socket)
            self._socket.close()
        self.is_open = False

    def unsent_bytes(self) -> int:
        return len(self._unsent)

    def write(self) -> None:
        """Send as much as the socket takes, and watch for room while something is left."""
        try:
            sent = self._socket.send(self._unsent) if self._unsent else 0
        except BlockingIOError:
            sent = 0
        del self._unsent[:sent]
        wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if self._unsent else 0)
        self._selector.modify(self._socket, wanted, self)

    def read(self) -> None:
        """Receive once and parse every whole operation."""
        try:
            data = self._socket.recv(READ_BYTES)
        except BlockingIOError:
            return
        if not data:
            assert not self._unparsed, f"connection ended inside {self._unparsed[:200]!r}"
            self.close()
            return
        self._parse(self._unparsed + data)

    def clear(self) -> None:
        """Forget what was received."""
        self.received.clear()
        self.received_count = 0

    def _parse(self, data: bytes) -> None:
        position = 0
        received = self.received
        while (line_end := data.find(b"\r\n", position)) >= 0:
            words = data[position:line_end].split(b" ")
            verb = words[0]
            if verb == b"MSG" or verb == b"HMSG":
                end = line_end + 2 + int(words[-1])
                if end + 2 > len(data):
                    break
                stamp = check_message(words, data, line_end + 2, end)
                received.setdefault(words[2], []).append((stamp, words[1]))
                self.received_count += 1
                position = end + 2
                continue
            if verb == b"PONG":
                self.pongs += 1
            elif verb == b"PING":
                if not self._input_ended:
                    self.send(b"PONG\r\n")
            else:
                assert verb == b"INFO", f"unexpected {data[position:line_end]!r}"
            position = line_end + 2
        self._unparsed = data[position:]


def check_message(words: list[bytes], data: bytes, start: int, end: int) -> int:
    """Check one message byte by byte against what its stamp says it is, and return the stamp.

    Args:
        words: its control line; data[start:end]: headers and payload; a CRLF must follow.
    """
    headers = words[0] == b"HMSG"
    if headers:
        assert data.startswith(HEADERS, start), "headers are not what was published"
        assert int(words[-2]) == len(HEADERS)
        start += len(HEADERS)
    stamp = int.from_bytes(data[start : start + STAMP_BYTES], "big")
    number = stamp & ((1 << NUMBER_BITS) - 1)
    assert headers == has_headers(number)
    filler_start = number % 251
    filler = FILLER[filler_start : filler_start + end - start - STAMP_BYTES]
    assert data[start + STAMP_BYTES : end] == filler, f"payload of {words!r} is damaged"
    assert data[end : end + 2] == b"\r\n"
    reply = words[3:-2] if headers else words[3:-1]
    assert reply == ([b"soak.reply.%d" % number] if number % 32 == 3 else [])
    return stamp
