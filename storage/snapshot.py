"""A consistent view of a stream while writing goes on.

It holds the segments as they are, copies of their dead bitmaps (one bit a message) and the last sequence;
logs only grow, and a file that is removed meanwhile stays readable through its open descriptor. What is
erased meanwhile is left out.
"""

from collections.abc import Iterator

from storage.errors import RecordDamaged
from storage.limits import StreamState
from storage.reader import FrozenSegment, Message
from storage.stream import StreamStore


class Snapshot:
    """The messages of a stream at one moment."""

    def __init__(self, stream: StreamStore) -> None:
        """Freeze the view."""
        self.state: StreamState = stream.state()
        self._stream = stream
        self._segments = [FrozenSegment(stream, segment) for segment in stream.segments if segment.live]

    def __iter__(self) -> Iterator[Message]:
        """Yield the messages in order; damaged and erased ones are left out.

        Raises:
            ReadFailed: a file could not be read.
        """
        for segment in self._segments:
            for row in segment.rows():
                try:
                    message = segment.message(row)
                except RecordDamaged:
                    continue
                if message is not None:
                    yield message
