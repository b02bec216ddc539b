"""A client that speaks bytes: tests read like transcripts of a connection.

It knows only as much of the protocol as it needs to cut the server's bytes into whole operations, so that a
server's own PING, which may come at any time, can be answered and left out of the transcript. It never
sleeps: that nothing came is shown by a PING sent and a PONG that is the next thing received.
"""

import json
import re
import select
import socket
import time
from typing import Any

DEFAULT_TIMEOUT_S = 20
READ_BYTES = 1 << 18
PAYLOAD_VERB = re.compile(rb"H?MSG\s", re.IGNORECASE)


class RawClient:
    """One TCP connection to a broker, with the bytes received and not yet expected.

    Attributes:
        info: the fields of the last INFO that was seen.
        answers_pings: while true, the server's PINGs are answered and do not appear in the transcript.
    """

    def __init__(
        self, host: str, port: int, *, receive_buffer_bytes: int = 0, answers_pings: bool = True
    ) -> None:
        """Connect and take the server's first INFO.

        Args:
            receive_buffer_bytes: size of the kernel's receive buffer, 0 for the default; with a small one a
                peer that does not read is full soon.
            answers_pings: see the class.
        """
        self.socket = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        if receive_buffer_bytes:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
        self.socket.settimeout(DEFAULT_TIMEOUT_S)
        try:
            self.socket.connect((host, port))
        except OSError:
            self.close()
            raise
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.answers_pings = answers_pings
        self.info: dict[str, Any] = {}
        self.at_end = False
        self._unframed = bytearray()
        self._received = bytearray()
        try:
            self.expect(rb"INFO [^\r\n]*\r\n")
        except (AssertionError, ConnectionError):
            self.close()
            raise

    def close(self) -> None:
        """Close the connection; may be called twice."""
        self.socket.close()

    def handshake(self, **options: object) -> "RawClient":
        """Send CONNECT and PING and take the PONG (and the INFO that follows it for protocol 1).

        Args:
            options: fields of CONNECT; verbose and pedantic are false unless given.
        """
        fields = {"verbose": False, "pedantic": False, **options}
        self.send(b"CONNECT " + json.dumps(fields).encode() + b"\r\nPING\r\n")
        if fields["verbose"]:
            self.expect(rb"\+OK\r\n")
        self.expect(rb"PONG\r\n")
        if fields.get("protocol") == 1:
            self.expect(rb"INFO [^\r\n]*\r\n")
        return self

    def send(self, data: bytes) -> None:
        """Send all of data."""
        self.socket.sendall(data)

    def send_if_open(self, data: bytes) -> None:
        """Send data to a server that may have closed already, as its bytes on the way may still be read."""
        try:
            self.socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            self.at_end = True

    def expect(self, pattern: bytes, timeout_s: float = DEFAULT_TIMEOUT_S) -> re.Match[bytes]:
        """Consume what the server sent next, which must match pattern, and return the match.

        Raises:
            AssertionError: the time is over, or the server closed, and the bytes so far do not match.
        """
        deadline = time.monotonic() + timeout_s
        compiled = re.compile(pattern, re.DOTALL)
        while True:
            match = compiled.match(self._received)
            if match:
                match = compiled.match(bytes(self._received[: match.end()]))
                assert match is not None
                del self._received[: match.end()]
                return match
            if not self._read_more(deadline):
                state = "the server closed" if self.at_end else f"{timeout_s} s passed"
                raise AssertionError(f"expected {pattern!r}, but {state} after {self._seen()!r}")

    def expect_nothing(self) -> None:
        """Show by a PING answered that the server had nothing to say before it.

        Only for what this connection caused, or what another fenced connection caused on the same worker.
        """
        self.send(b"PING\r\n")
        self.expect(rb"PONG\r\n")

    fence = expect_nothing

    def expect_closed(self, timeout_s: float = DEFAULT_TIMEOUT_S) -> None:
        """Wait for the server to close the connection without another byte."""
        rest = self.read_to_end(timeout_s)
        assert not rest, f"expected the end of the connection, got {rest[:500]!r}"

    def expect_error(self, text: bytes, *, closes: bool) -> None:
        """Expect -ERR with exactly this text, and then the end of the connection or an answered PING."""
        self.expect(rb"-ERR '" + re.escape(text) + rb"'\r\n")
        if closes:
            self.expect_closed()
        else:
            self.expect_nothing()

    def read_to_end(self, timeout_s: float = DEFAULT_TIMEOUT_S) -> bytes:
        """Return everything up to the end of the connection, which must come in time."""
        deadline = time.monotonic() + timeout_s
        while not self.at_end:
            if not self._read_more(deadline) and not self.at_end:
                raise AssertionError(f"not closed after {timeout_s} s; received {self._seen()!r}")
        rest = bytes(self._received + self._unframed)
        self._received.clear()
        self._unframed.clear()
        return rest

    def is_closed_by_peer(self) -> bool:
        """Whether the end of the connection has arrived, without taking any byte before it."""
        poller = select.poll()
        poller.register(self.socket, select.POLLRDHUP)
        return bool(poller.poll(0))

    def _read_more(self, deadline: float) -> bool:
        """Read and frame once; False at the end of the connection or the deadline."""
        if self.at_end:
            return False
        remaining = deadline - time.monotonic()
        if remaining <= 0 or not select.select([self.socket], [], [], remaining)[0]:
            return False
        try:
            data = self.socket.recv(READ_BYTES)
        except ConnectionResetError:
            data = b""
        if not data:
            self.at_end = True
            return False
        self._unframed += data
        self._take_whole_operations()
        return True

    def _take_whole_operations(self) -> None:
        start = 0
        while (line_end := self._unframed.find(b"\r\n", start)) >= 0:
            line = bytes(self._unframed[start:line_end])
            end = line_end + 2
            if PAYLOAD_VERB.match(line):
                end += int(line.split()[-1]) + 2
                if len(self._unframed) < end:
                    break
            if line.startswith(b"INFO "):
                self.info = json.loads(line[5:])
            if line == b"PING" and self.answers_pings:
                self.send_if_open(b"PONG\r\n")
            else:
                self._received += self._unframed[start:end]
            start = end
        del self._unframed[:start]

    def _seen(self) -> bytes:
        return bytes(self._received + self._unframed)[:2000]


def message_count(data: bytes) -> int:
    """Count the whole MSG operations in data, which holds nothing else; the last may be cut off."""
    count = start = 0
    while (line_end := data.find(b"\r\n", start)) >= 0:
        start = line_end + 2 + int(data[start:line_end].split()[-1]) + 2
        if start > len(data):
            break
        count += 1
    return count
