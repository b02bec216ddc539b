"""The backing of a stream that lives in memory: logs without files, rewritten in place when mostly dead."""

from storage.backing import Codec
from storage.index import Segment
from storage.limits import StreamLimits
from storage.log import LogFile
from storage.stream import StreamStore

# Smaller than on disk: a segment is the unit in which memory of deleted messages comes back.
SEGMENT_BYTES = 4 << 20


class MemoryBacking:
    """Makes logs that are nothing but memory."""

    def __init__(self) -> None:
        self._number = 0

    def new_log(self, index: StreamStore, base: int) -> LogFile:
        """Return a log for a segment that begins at sequence `base`."""
        self._number += 1
        return LogFile(f"memory/{self._number}", self._number, 0, None)

    def segment_sealed(self, index: StreamStore, segment: Segment) -> None:
        """Nothing to write."""

    def segment_dropped(self, index: StreamStore, segment: Segment) -> None:
        """The memory goes with the last reference."""

    def load_columns(self, index: StreamStore, segment: Segment) -> None:
        """Never needed: columns of memory streams are not dropped."""
        raise AssertionError("columns of a memory stream were dropped")


def memory_stream(
    limits: StreamLimits | None = None, *, first_sequence: int = 1, codec: Codec | None = None
) -> StreamStore:
    """Return an empty stream in memory, whose first message gets `first_sequence`."""
    limits = limits or StreamLimits(segment_bytes=SEGMENT_BYTES)
    stream = StreamStore(MemoryBacking(), limits=limits, is_memory=True, codec=codec)
    stream.start(first_sequence)
    return stream
