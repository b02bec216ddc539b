# cython: language_level=3, embedsignature=True, wraparound=False
"""The journal of a worker: one write and one sync for all that arrived in a round, however many streams it
touches.

It is physical: an entry says "these bytes belong at this offset of this file". Replaying it twice does no
harm, it knows nothing of records, and the same bytes go unchanged to the log file later. THE FORMAT IS DRAWN
HERE (little-endian).

    Each entry has its header and path twice, so that a flipped bit there does not cost the bytes of a whole
    commit.

    journal file: a page of 4,096 bytes, then frames, each at a multiple of 4,096 (a page that holds synced
    bytes is never written again). Files have a fixed size, are written full once and then used again and
    again: overwriting allocated blocks syncs several times faster than growing a file (measured: 512 KiB in
    0.3 ms against 1.9 ms). A file that is not full yet is filled some way ahead of small frames, for the same
    reason (4 KiB: 0.21 ms against 0.38 ms).

    first page                              frame                               entry
     0  8  "MIDGEJNL"                        0  8  "MIDGEFRM"                    0  4  length of all
     8  8  position of this byte             8  8  position of this byte    4  4  CRC32C of 8 .. 24, path,
                                                                                       seeded as the body's is
    16  8  bytes in this file               16  4  bytes of the body             8  8  offset in the file
    24  8  everything below this            20  4  entries                      16  4  bytes of data
           position is not needed           24  4  CRC32C of the body,          20  2  bytes of the path
    32  2  version, 1                              seeded with the position     22  1  kind: 1 write, 2 remove
    34  2  use: 0, or 1 for a spare         28  4  CRC32C of bytes 0 .. 28      23  1  0 first copy, 1 second
    36  4  CRC32C of bytes 0 .. 36          32  …  entries                      24  …  path, again, path, data

A *position* counts bytes since the journal began and never goes back, so a frame left from an earlier use of
the file is not taken for a new one. A frame is valid whole or, when another frame follows it (an empty one
is written when the journal falls idle), entry by entry; the last one, if broken, is a commit that was never
acknowledged: see journal_reader.py. `remove` names a file, or a directory when the path ends in "/", that is
gone with all that was in it. The position in the first page of a spare, a file whose frames are not needed
any more,
is where the journal was by then: the next start goes on above it, so that no old frame can pass for a new
one.

A *round* is what callers wait for: everything appended before `commit` returned round n is durable when
`durable_round` reaches n. One frame is on its way at a time; what arrives meanwhile forms the next.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport uint16_t
from libc.string cimport memcpy, memset

from storage.errors import write_error

crc32c_choose()

cdef enum:
    # A frame that need not be synced is written by the caller itself up to this size: a switch to the writer's
    # thread and back costs more than copying so much to the kernel (some 15 us).
    WRITTEN_HERE_BYTES = 65536
    # How much a file grows at a time, and up to which size of a frame: the sync of a larger one takes so long
    # that the blocks do not matter.
    FILL_BYTES = 256 << 10
    FILL_FRAME_BYTES_MAX = 65536

FIRST_PAGE_BYTES = 4096
WRITE_ENTRY = 1
REMOVE_ENTRY = 2
VERSION = 1
IN_USE = 0
SPARE = 1


def first_page(uint64_t start, uint64_t capacity, uint64_t released, *, int use=IN_USE):
    """Return the first page of a journal file; `use` is IN_USE or SPARE."""
    cdef bytes head = b"MIDGEJNL"
    for number in (start, capacity, released):
        head += number.to_bytes(8, "little")
    head += bytes((VERSION, 0, use, 0))
    return (head + crc32c(0, <uint8_t *>PyBytes_AS_STRING(head), 36).to_bytes(4, "little")).ljust(4096, b"\0")


cdef uint64_t whole_records(LogFile log, uint64_t room) noexcept:
    """Return how many bytes up to `room` can be drained without cutting a record; all of `room` when even
    one is longer.

    A commit that is not the last one then never ends within a record, so a broken record is damage and not a
    cut.
    """
    cdef const uint8_t *start = log.tail.data + (log.drained - log.tail_start)
    cdef uint64_t at = 128 if log.drained == 0 else 0
    cdef uint32_t length
    while True:
        memcpy(&length, start + at + 4, 4)
        if length < 32 or at + ((length + 7) & ~<uint64_t>7) > room:
            return at if at else room
        at += (length + 7) & ~<uint64_t>7


cdef class Journal:
    """The frames of a worker's commits."""

    def __cinit__(self, files, Writer writer not None, *, str directory="journal",
                  uint64_t file_bytes=32 << 20,
                  uint64_t bytes_max=1 << 30, uint64_t start=0, uint64_t released=0, uint64_t file_number=1,
                  spares=(), list dirty_logs=None):
        """Begin a new journal file at position `start`.

        Args:
            released: nothing below this position is needed any more.
            file_bytes: of each file; bytes_max: commits wait for checkpoints when more than this is live.
            spares: (path, bytes) of files to use again.
            dirty_logs: the list that every LogFile puts itself into.
        """
        self.files, self.writer, self.directory = files, writer, directory
        self.file_bytes, self.bytes_max = file_bytes, bytes_max
        self.frame_bytes_max = min(16 << 20, (file_bytes - FIRST_PAGE_BYTES) // 2)
        self.dirty_logs = [] if dirty_logs is None else dirty_logs
        self.drained_logs, self.removals, self.newly_dirty = [], [], []
        self.flushable, self.flush_bytes = [], 256 << 10
        self.frame = Block(1 << 16)
        self.frame_used = 0
        self.file, self.file_number = None, file_number
        self.spares, self.full_files = list(spares), []
        self.file_start, self.file_capacity, self.offset, self.filled = start, 0, 0, 0
        self.released = released
        self.sync_always = True
        self.round, self.durable_round = 1, 0

    @property
    def position(self):
        """Where the next frame goes."""
        return self.file_start + self.offset

    @property
    def live_bytes(self):
        """How much of the journal a recovery would read."""
        return self.position - self.released

    @property
    def backlog_bytes(self):
        """How much of the logs waits for a frame: a caller that only appends pauses when this grows."""
        cdef LogFile log
        cdef uint64_t total = 0
        for log in self.dirty_logs:
            total += log.end - log.drained
        return total

    @property
    def is_clean(self):
        """Whether everything appended is durable."""
        return not self.in_flight and not self.dirty_logs and not self.removals and self.frame_used == 0

    def remove(self, str path not None):
        """Journal that a file (or a directory, path ending in "/") is gone."""
        self.removals.append(path)

    cdef int add(self, int kind, bytes path, uint64_t offset, const uint8_t *data, uint64_t size) except -1:
        """Put an entry into the frame being built."""
        cdef entry_header_t entry
        cdef uint64_t path_bytes = PyBytes_GET_SIZE(path)
        cdef uint64_t needed
        cdef uint8_t *at
        if self.frame_used == 0:
            self.frame_used = FRAME_HEADER_BYTES
            self.entry_count = 0
        cdef uint64_t head = ENTRY_HEADER_BYTES + path_bytes
        cdef int copy
        needed = self.frame_used + 2 * head + size
        if needed + FRAME_ALIGN > self.frame.capacity:
            self.frame.grow(needed + FRAME_ALIGN)
        at = self.frame.data + self.frame_used
        entry.length = <uint32_t>(2 * head + size)
        entry.offset, entry.data_bytes, entry.path_bytes = offset, <uint32_t>size, <uint16_t>path_bytes
        entry.kind = <uint8_t>kind
        for copy in range(2):
            # The CRC follows in seal, when the position of the frame is known.
            entry.copy, entry.crc = <uint8_t>copy, 0
            memcpy(at, &entry, ENTRY_HEADER_BYTES)
            memcpy(at + ENTRY_HEADER_BYTES, PyBytes_AS_STRING(path), path_bytes)
            at += head
        if size:
            memcpy(at, data, size)
        self.frame_used = needed
        self.entry_count += 1
        return 0

    cdef int drain_log(self, LogFile log) except -1:
        """Move what a log has waiting into the frame; return 1 when it did not all fit."""
        cdef uint64_t room, size
        cdef bytes data
        while log.overwrites:
            offset, data = log.overwrites[0]
            if self.frame_used + <uint64_t>len(data) + 4096 > self.frame_bytes_max and self.frame_used:
                return 1
            self.add(WRITE_ENTRY, log.path_bytes, offset, <const uint8_t *>PyBytes_AS_STRING(data), len(data))
            del log.overwrites[0]
        while log.drained < log.end:
            if self.frame_used + 4096 >= self.frame_bytes_max:
                return 1
            room = self.frame_bytes_max - self.frame_used - 4096 + 1024
            size = log.end - log.drained
            if size > room:
                size = whole_records(log, room)
            self.add(WRITE_ENTRY, log.path_bytes, log.drained,
                     log.tail.data + (log.drained - log.tail_start), size)
            log.drained += size
        return 0

    def commit(self, *, bint force=False):
        """Hand the next frame to the writer unless one is on its way; return the round that what was
        appended is in.

        When no log in the frame wants it (LogFile.wants_sync), or `sync_always` is off, the frame is written and
        not synced; a small one right here when the writer is idle: `finish_written` must follow. Above bytes_max
        nothing is handed over unless `force`.

        Raises:
            WriteFailed: an earlier commit failed; nothing is written any more.
        """
        cdef LogFile log
        cdef Py_ssize_t index = 0
        cdef Py_ssize_t count
        cdef bint all_drained = True
        cdef uint64_t position
        if self.failed:
            raise write_error(self.failed, f"{self.directory} at {self.position}")
        if self.in_flight or not (self.dirty_logs or self.removals):
            return self.round if self.dirty_logs or self.removals else self.round - 1
        if self.position - self.released > self.bytes_max and not force:
            return self.round
        count = len(self.dirty_logs)
        self.needs_sync = bool(self.removals)
        while index < count:
            log = <LogFile>self.dirty_logs[index]
            self.needs_sync |= log.wants_sync and self.sync_always
            if self.drain_log(log):
                all_drained = False
                self.drained_logs.append(log)
                break
            log.is_dirty = False
            self.drained_logs.append(log)
            index += 1
        del self.dirty_logs[:index]
        if all_drained:
            # A removal goes last: everything it might depend on is in this frame or an earlier one.
            for path in self.removals:
                self.add(REMOVE_ENTRY, path.encode(), 0, NULL, 0)
            self.removals.clear()
        try:
            self.make_room()
        except OSError as error:
            self.failed = error.errno or 5
            raise write_error(self.failed, f"{self.directory} at {self.position}") from error
        position = self.position
        for index in range(len(self.drained_logs)):
            log = <LogFile>self.drained_logs[index]
            if log.dirty_since == 0:
                log.dirty_since = position
                self.newly_dirty.append(log)
        self.flight_round = self.round if all_drained else self.round - 1
        self.round = self.flight_round + 1
        self.seal()
        self.in_flight = True
        self.commits += 1
        self.bytes_written += self.frame_used
        self.has_unsynced = not self.needs_sync
        if not self.needs_sync and self.frame_used <= WRITTEN_HERE_BYTES:
            self.write_errno = self.writer.write_frame_now(self.file, self.frame, self.frame_used, self.offset)
            self.is_written = self.write_errno >= 0
        if not self.is_written:
            self.writer.write_frame(self.file, self.frame, self.frame_used, self.offset, self.needs_sync,
                                    self._finished)
        self.offset += self.frame_used
        if self.needs_sync and self.filled < min(self.offset + self.frame_used + FRAME_ALIGN, self.file_capacity):
            self.fill_ahead()
        return self.flight_round if all_drained else self.round

    def finish_written(self):
        """Take in a frame that `commit` wrote itself; the caller has noted by then what is in it."""
        if self.is_written:
            self.is_written = False
            self._finished(self.write_errno, 0)

    cdef int fill_ahead(self) except -1:
        """Have blocks made for frames as small as the one on its way; behind that one, so nobody waits for it.

        What is written begins with an empty frame, as when the journal falls idle. A failure does not matter
        here: the next commit meets it.
        """
        cdef uint64_t size = min(<uint64_t>FILL_BYTES, self.file_capacity - self.offset)
        cdef Block block
        if self.frame_used > FILL_FRAME_BYTES_MAX or size <= <uint64_t>FRAME_ALIGN:
            return 0
        block = Block(size)
        frame_make_empty(block.data, self.position)
        memset(block.data + FRAME_ALIGN, 0, size - FRAME_ALIGN)
        self.writer.write(self.file, block, 0, size, self.offset, None)
        self.filled = self.offset + size
        return 0

    cdef int seal(self) except -1:
        """Fill the entries' CRCs and the frame's header (whose CRCs the writer makes), and pad it to whole
        pages."""
        cdef frame_header_t header
        cdef entry_header_t *entry
        cdef uint8_t *at = self.frame.data + FRAME_HEADER_BYTES
        cdef uint64_t head, length
        cdef uint64_t padded = (self.frame_used + FRAME_ALIGN - 1) // FRAME_ALIGN * FRAME_ALIGN
        while at < self.frame.data + self.frame_used:
            entry = <entry_header_t *>at
            head = ENTRY_HEADER_BYTES + entry.path_bytes
            length = entry.length
            entry.crc = crc32c(<uint32_t>self.position, at + 8, head - 8)
            (<entry_header_t *>(at + head)).crc = crc32c(<uint32_t>self.position, at + head + 8, head - 8)
            at += length
        memcpy(header.magic, b"MIDGEFRM", 8)
        header.position = self.position
        header.body_bytes = <uint32_t>(self.frame_used - FRAME_HEADER_BYTES)
        header.entry_count = self.entry_count
        header.body_crc = header.header_crc = 0
        memcpy(self.frame.data, &header, sizeof(header))
        memset(self.frame.data + self.frame_used, 0, padded - self.frame_used)
        self.frame_used = padded
        return 0

    def make_room(self):
        """Go to the next journal file when the frame and an empty one behind it do not fit into this one."""
        if self.file is not None and self.offset + self.frame_used + 2 * FRAME_ALIGN <= self.file_capacity:
            return
        if self.has_unsynced:
            self.sync()
        if self.file is not None:
            self.full_files.append((self.file_path, self.file_start, self.file_capacity))
            self.file_start += self.file_capacity
        if self.spares:
            self.file_path, self.file_capacity = self.spares.pop(0)
            self.file = self.files.open(self.file_path)
            self.filled = self.file_capacity
        else:
            self.file_path, self.file_capacity = self.next_path(), self.file_bytes
            self.file = self.files.open(self.file_path, create=True)
            self.filled = 0
            self.writer.call(lambda: self.files.sync_directory(self.directory), self._note_failure)
        if self.frame_used + 3 * FRAME_ALIGN > self.file_capacity:
            self.file_capacity = self.frame_used + 3 * FRAME_ALIGN
        page = Block.of(first_page(self.file_start, self.file_capacity, self.released))
        self.writer.write(self.file, page, 0, FIRST_PAGE_BYTES, 0, self._note_failure)
        self.offset = FIRST_PAGE_BYTES

    def sync(self):
        """Sync what was written without a sync; failures show as those of a commit."""
        if self.has_unsynced and self.file is not None:
            self.has_unsynced = False
            self.writer.sync(self.file, self._note_failure)

    def next_path(self):
        """Return a path for one more journal file."""
        path = f"{self.directory}/{self.file_number:08d}.log"
        self.file_number += 1
        return path

    def adopt(self, str path not None, uint64_t start, uint64_t capacity):
        """Count a file of an earlier run, older than `start`, as a full one: `release` makes it a spare."""
        self.full_files.append((path, start, capacity))

    def add_spare(self, str path not None, uint64_t capacity):
        """Give a file, written full and synced with its directory, for later use."""
        self.spares.append((path, capacity))

    def wants_spare(self):
        """Tell whether another file will be needed soon."""
        return not self.spares and self.file is not None and self.offset * 4 > self.file_capacity

    def _note_failure(self, int error, nanoseconds):
        if error and not self.failed:
            self.failed = error

    def _finished(self, int error, nanoseconds):
        cdef LogFile log
        cdef Py_ssize_t index
        self.in_flight = False
        self.frame_used = 0
        if error and not self.failed:
            self.failed = error
        if self.failed == 0:
            for index in range(len(self.drained_logs)):
                log = <LogFile>self.drained_logs[index]
                log.durable = log.drained
                if log.flushing is None and log.durable - log.tail_start >= self.flush_bytes:
                    self.flushable.append(log)
            self.durable_round = self.flight_round
        self.drained_logs.clear()
        if self.on_durable is not None:
            self.on_durable(self.failed, nanoseconds)

    def release(self, uint64_t position):
        """Note that nothing below `position` is needed any more; return (path, bytes) of the files that end
        below it.

        The caller writes spare_page() into them and gives them back by add_spare.
        """
        cdef list out = []
        self.released = max(self.released, position)
        while self.full_files and self.full_files[0][1] + self.full_files[0][2] <= self.released:
            path, _, capacity = self.full_files.pop(0)
            out.append((path, capacity))
        return out

    def spare_page(self, uint64_t capacity):
        """Return the first page of a file that holds nothing that is needed: a start skips it unread."""
        return first_page(self.position, capacity, self.released, use=SPARE)

    def close(self):
        """Close the current file; nothing may be committed afterwards."""
        self.file = None

    def retire(self):
        """Return (path, bytes) of the current file; the journal is closed: everything is in the logs and
        synced."""
        assert self.is_clean
        self.file = None
        return self.file_path, self.file_capacity
