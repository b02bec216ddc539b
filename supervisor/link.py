"""The supervisor's end of the link to one worker.

A link is a SOCK_SEQPACKET socket pair: one JSON object per datagram, descriptors beside it as SCM_RIGHTS.
Sending never
blocks: what the socket does not take at once waits here, in order. Knows the form of messages, not what
they cause.

Messages to a worker:   start, accept, peer_down, peer_up, lame_duck, reopen_log, stop
Messages from a worker: ready, peer_down_done, lame_duck_done

The standard json module is used: orjson would cost more at start than it could ever save on these few
messages.
"""

from __future__ import annotations

import errno
import json
import os
import socket
import struct
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import asyncio

Message = dict[str, Any]

# The kernel takes 253 descriptors per datagram at most; 64 keep a datagram small enough for any socket
# buffer.
CONNECTIONS_PER_DATAGRAM_MAX = 64
# A worker's messages are a few words; a longer one is cut off by the kernel and then is no JSON.
RECEIVE_BYTES_MAX = 4096
# Wait after the kernel refused because too many descriptors are in flight: the socket is writable all the
# time then.
DESCRIPTORS_RETRY_SECONDS = 0.02


class Accepted(NamedTuple):
    """A connection on its way to a worker; whoever holds it owns the descriptor."""

    client_id: int
    ip: str
    port: int
    over_limit: bool
    """The worker tells the client that there are too many, and closes."""
    descriptor: int


class _Outgoing:
    """A datagram that waits: either a message with borrowed descriptors, or connections."""

    __slots__ = ("connections", "descriptors", "message")

    def __init__(self, message: Message, descriptors: Sequence[int], connections: list[Accepted]) -> None:
        self.message = message
        self.descriptors = descriptors
        self.connections = connections


class Link:
    """One worker's link; it can send without an event loop, and needs attach to receive and to send later."""

    def __init__(self, end: socket.socket) -> None:
        """Take over the supervisor's end of the pair."""
        end.setblocking(False)
        self._socket = end
        self._waiting: deque[_Outgoing] = deque()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_closed = False
        self._writer_added = False

    @property
    def unsent_connections(self) -> int:
        """How many connections wait for room in the socket."""
        return sum(len(outgoing.connections) for outgoing in self._waiting)

    def attach(
        self,
        loop: asyncio.AbstractEventLoop,
        on_message: Callable[[Message], None],
        on_end: Callable[[str], None],
    ) -> None:
        """Begin to receive.

        Args:
            on_message: gets every message.
            on_end: called once with the reason when the link is of no use any more; the caller closes it.
        """
        self._loop = loop
        loop.add_reader(self._socket.fileno(), self._on_readable, on_message, on_end)
        self._flush()

    def send(self, message: Message, descriptors: Sequence[int] = ()) -> None:
        """Send a message now or later; the descriptors stay the caller's and must stay open."""
        self._waiting.append(_Outgoing(message, descriptors, []))
        self._flush()

    def hand_over(self, connections: Iterable[Accepted]) -> None:
        """Send connections now or later; their descriptors belong to the link from here on."""
        for connection in connections:
            last = self._waiting[-1] if self._waiting else None
            if last is None or not 0 < len(last.connections) < CONNECTIONS_PER_DATAGRAM_MAX:
                last = _Outgoing({}, (), [])
                self._waiting.append(last)
            last.connections.append(connection)
        self._flush()

    def close(self) -> list[Accepted]:
        """Close the link and return the connections that the worker never got; the caller owns them now."""
        unsent = [connection for outgoing in self._waiting for connection in outgoing.connections]
        self._waiting.clear()
        if not self._is_closed:
            self._is_closed = True
            if self._loop is not None:
                self._loop.remove_reader(self._socket.fileno())
                self._watch_writable(False)
            self._socket.close()
        return unsent

    def _flush(self) -> None:
        while self._waiting and not self._is_closed:
            if not self._send_now(self._waiting[0]):
                return
            self._waiting.popleft()
        self._watch_writable(False)

    def _send_now(self, outgoing: _Outgoing) -> bool:
        """Return whether the datagram is done with: sent, or a message for a link that has ended."""
        message, descriptors = outgoing.message, outgoing.descriptors
        if outgoing.connections:
            message = {"op": "accept", "connections": [connection[:4] for connection in outgoing.connections]}
            descriptors = [connection.descriptor for connection in outgoing.connections]
        data = json.dumps(message, separators=(",", ":")).encode()
        rights = struct.pack(f"{len(descriptors)}i", *descriptors)
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)] if descriptors else []
        try:
            self._socket.sendmsg([data], ancillary)
        except BlockingIOError:
            self._watch_writable(True)
            return False
        except (BrokenPipeError, ConnectionResetError):
            # The worker is gone; connections stay in the queue so that close() can return them.
            return not outgoing.connections
        except OSError as error:
            if error.errno not in (errno.ETOOMANYREFS, errno.ENOBUFS, errno.ENOMEM):
                raise
            self._watch_writable(False)
            if self._loop is not None:
                self._loop.call_later(DESCRIPTORS_RETRY_SECONDS, self._flush)
            return False
        for connection in outgoing.connections:
            os.close(connection.descriptor)
        return True

    def _watch_writable(self, wanted: bool) -> None:
        if self._loop is None or wanted == self._writer_added:
            return
        self._writer_added = wanted
        if wanted:
            self._loop.add_writer(self._socket.fileno(), self._flush)
        else:
            self._loop.remove_writer(self._socket.fileno())

    def _on_readable(self, on_message: Callable[[Message], None], on_end: Callable[[str], None]) -> None:
        while not self._is_closed:
            try:
                data = self._socket.recv(RECEIVE_BYTES_MAX)
            except BlockingIOError:
                return
            except OSError as error:
                data, reason = b"", f"link failed: {error.strerror}"
            else:
                reason = "closed its link"
            message: Message | None = None
            if data:
                message = _decode(data)
                reason = f"sent what is no message: {data[:64]!r}"
            if message is None:
                if self._loop is not None:
                    self._loop.remove_reader(self._socket.fileno())
                on_end(reason)
                return
            on_message(message)


def _decode(data: bytes) -> Message | None:
    try:
        message = json.loads(data)
    except ValueError:
        return None
    if not isinstance(message, dict) or not isinstance(message.get("op"), str):
        return None
    return message
