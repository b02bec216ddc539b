"""The backing of a stream that lives in memory: logs without files, rewritten in place when mostly dead."""

from storage.backing import Codec
from storage.compaction import wants_compaction
from storage.index import Segment
from storage.limits import StreamLimits
from storage.log import LogFile
from storage.replay import copy_live_rows
from storage.stream import StreamStore

# A segment is rewritten when less than this part of its bytes is live, and so many at most each time that one
# is sealed: as many as messages of one more segment can make mostly dead, and a few that were before.
LIVE_FRACTION = 0.5
SEGMENTS_AT_ONCE = 4


class MemoryBacking:
    """Makes logs that are nothing but memory."""

    def __init__(self) -> None:
        self._number = 0

    def new_log(self, index: StreamStore, base: int) -> LogFile:
        """Return a log for a segment that begins at sequence `base`."""
        self._number += 1
        return LogFile(f"memory/{self._number}", self._number, 0, None)

    def segment_sealed(self, index: StreamStore, segment: Segment) -> None:
        """Rewrite some older ones that are mostly dead."""
        self.compact(index)

    def compact(self, index: StreamStore) -> int:
        """Rewrite a few sealed segments that are mostly dead; return how many."""
        count = 0
        for segment in index.segments[:-1]:
            if wants_compaction(segment, LIVE_FRACTION):
                self._number += 1
                copy_live_rows(segment, LogFile(f"memory/{self._number}", self._number, 0, None))
                count += 1
                if count == SEGMENTS_AT_ONCE:
                    break
        return count

    def segment_dropped(self, index: StreamStore, segment: Segment) -> None:
        """The memory goes with the last reference."""

    def load_columns(self, index: StreamStore, segment: Segment) -> None:
        """Never needed: columns of memory streams are not dropped."""
        raise AssertionError("columns of a memory stream were dropped")


def memory_stream(
    limits: StreamLimits | None = None, *, first_sequence: int = 1, codec: Codec | None = None
) -> StreamStore:
    """Return an empty stream in memory, whose first message gets `first_sequence`."""
    stream = StreamStore(MemoryBacking(), limits=limits, is_memory=True, codec=codec)
    stream.start(first_sequence)
    return stream
