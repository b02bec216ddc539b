"""Re-read what is stored, slowly, and report what the disk has changed.

Every record of sealed segments is read from its file and checked; a damaged live message is counted as lost
and reported, a damaged record that is not a message, or of a dead message, is reported. Nothing is deleted
or moved.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from storage import record
from storage.errors import ReadFailed
from storage.index import Segment

if TYPE_CHECKING:
    from storage.directory import StreamDirectory
    from storage.store import Store


def damaged_places(segment: Segment, data: bytes, start: int) -> Iterator[tuple[int, int]]:
    """Yield (from, to) of what does not pass its checks in `data`, read from `start`, up to the last whole
    record."""
    at = 0
    salt = segment.log.salt
    while at < len(data):
        one = record.decode(data, at, salt, start + at)
        if one is not None:
            at += one.padded_bytes
            continue
        following = record.find_next(data, at + 8, salt, start, 0)
        if following >= len(data):
            yield start + at, start + len(data)
            return
        yield start + at, start + following
        at = following


class Scrubber:
    """Goes through a store's sealed segments again and again, a step at a time."""

    def __init__(self, store: "Store") -> None:
        self._store = store
        self._steps: Iterator[int] | None = None
        self.bytes_read = 0
        self.rounds = 0

    def step(self) -> int:
        """Check the next segment; return how many bytes were read, 0 at the end of a round.

        To be called from time to time: the caller decides how slow it is.
        """
        if self._steps is None:
            self._steps = self._round()
        read = next(self._steps, 0)
        self.bytes_read += read
        if read == 0:
            self._steps = None
            self.rounds += 1
        return read

    def _round(self) -> Iterator[int]:
        for directory in list(self._store.streams.values()):
            for segment in list(directory.stream.segments):
                if (
                    segment.is_sealed
                    and segment.log.written == segment.log.end
                    and segment in directory.stream.segments
                ):
                    yield self._check(directory, segment)

    def _check(self, directory: "StreamDirectory", segment: Segment) -> int:
        log = segment.log
        try:
            data = log.read(record.RECORDS_AT, log.end - record.RECORDS_AT)
        except ReadFailed as error:
            self._store.report(f"scrub: {error}")
            return 1
        for start, end in damaged_places(segment, data, record.RECORDS_AT):
            self._store.report(f"scrub: {log.path}: bytes {start} to {end} do not pass their checks")
            if not segment.is_loaded:
                directory.load_columns(directory.stream, segment)
            for sequence in directory.stream.live_sequences(segment):
                offset, _ = segment.record_place(sequence)
                if start <= offset < end:
                    directory.stream.mark_lost(sequence)
        return max(len(data), 1)
