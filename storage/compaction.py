"""Rewrite a sealed segment that is mostly dead: what is left goes to a new log, which takes the old one's
place.

The copy is written and synced straight to its file, in the background; then the rows are pointed at it, and
the next checkpoint names it and has the old file removed. A crash before that leaves the old file in use and
a copy that the next start removes. Records that are not messages (tombstones and the like) are copied too:
without a checkpoint they say what is deleted elsewhere.
"""

from typing import TYPE_CHECKING

from storage import record
from storage.errors import ReadFailed, WriteFailed
from storage.index import Segment
from storage.log import LogFile
from storage.replay import copy_live

if TYPE_CHECKING:
    from storage.directory import StreamDirectory


def wants_compaction(segment: Segment, fraction: float) -> bool:
    """Tell whether less than `fraction` of a sealed segment's bytes is live."""
    return segment.is_sealed and segment.live > 0 and segment.live_bytes < fraction * segment.log.end * 0.8


def compact(directory: "StreamDirectory", segment: Segment) -> bool:
    """Begin to rewrite a segment; False: not now, some of it is not in its file yet or cannot be read."""
    store, log = directory.store, segment.log
    if log.written < log.end or log.overwrites:
        return False
    if not segment.is_loaded:
        directory.load_columns(directory.stream, segment)
    try:
        data = log.read(0, log.end)
    except ReadFailed as error:
        store.report(str(error))
        return False
    target = directory.replacement_log(segment)
    copied, places = copy_live(segment, data, target)
    erased = log.overwritten
    directory.compacting = segment
    content = record.encode_log_header(directory.header_of(target, segment.base, log.number)) + copied
    try:
        file = directory.make_file(target.path)
    except OSError as error:
        directory.compacting = None
        directory.fail(WriteFailed(f"{target.path}: {error}"))
        return False
    chain = store.next_chain()
    directory.background.write(file, store.block(content), 0, len(content), 0, None, chain=chain)

    def written(error: int, nanoseconds: int) -> None:
        directory.compacting = None
        if error:
            directory.fail(store.write_error(error, target.path))
        elif (
            segment.rows == len(places) and log.overwritten == erased and segment in directory.stream.segments
        ):
            finish(directory, segment, places, target, len(content))
        else:
            # Truncated, erased from or dropped meanwhile: the copy is not what the segment is now.
            store.unlink_later(target.path, directory.background)

    directory.background.sync(file, written, chain=chain)
    return True


def finish(
    directory: "StreamDirectory", segment: Segment, places: list[int], target: LogFile, end: int
) -> None:
    """Point the rows at the copy, which is in its file."""
    old = segment.log
    old_sidecar = directory.sidecar_path(segment)
    if not segment.is_loaded:
        directory.load_columns(directory.stream, segment)
    segment.move(places, directory.opened_copy(target, end))
    directory.dropped.append(old)
    directory.dropped_sidecars.append(old_sidecar)
    directory.store.touch(directory)
    directory.store.wants_checkpoint(directory)
