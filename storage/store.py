"""All streams of one worker on disk: commits, flushes, checkpoints, creation and deletion.

One thread owns a Store and everything in it. `commit` hands what was appended since the last time to the
journal thread and returns at once with a round; `poll` takes in what the threads finished, moves things on,
and the round is durable when `durable_round` reaches it. `notify_fds` become readable when there is
something to poll.
"""

import logging
import os
import resource
import select
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from storage.compaction import compact, wants_compaction
from storage.consumer import ConsumerStore
from storage.directory import StreamCheckpoint, StreamDirectory
from storage.errors import StorageError, WriteFailed, write_error
from storage.files import Files, RealFiles, write_all
from storage.journal import FIRST_PAGE_BYTES, Journal
from storage.journal_reader import JournalFile
from storage.limits import StreamLimits
from storage.log import LogFile
from storage.recovery import Progress, Recovery
from storage.stream import StreamStore
from storage.writer import Block, Writer, trim_memory

logger = logging.getLogger("storage")


# Housekeeping calls between two times that freed memory goes back to the system (some milliseconds each).
TRIM_TICKS = 60


FILE_THREADS = 4
# Commits of `async` streams are synced this much later, in ns, when the store has no sync interval.
ASYNC_SYNC_NS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class StoreConfig:
    """How a store behaves.

    Attributes:
        journal_file_bytes: of each journal file; they are overwritten in turn.
        checkpoint_bytes: streams are checkpointed when the journal holds this much, so this bounds the work
        of a
            start after a crash.
        checkpoint_stream_bytes: but not before it holds this much a stream on average: a checkpoint costs
        syncs.
        journal_bytes_max: commits wait for checkpoints above this (and above three times the two before).
        flush_bytes: a log with so many durable bytes in memory goes to its file; less when many logs do.
        memory_bytes: of all logs together that should be in memory at most.
        sync_interval_ns: 0: every commit is synced before it counts. Else commits count when written, and a
            sync
            follows about this much later (with `poll` or `housekeeping`).
        open_files_max: log files kept open; never more than half of what the process may open.
        columns_ticks: columns of a sealed segment that nobody used for so many `housekeeping` calls leave
            the memory.
        compact_fraction: a sealed segment is rewritten when less than this part of its bytes is live.
        key: 32 bytes for encrypted streams.
    """

    journal_file_bytes: int = 32 << 20
    checkpoint_bytes: int = 40 << 20
    checkpoint_stream_bytes: int = 256 << 10
    journal_bytes_max: int = 128 << 20
    flush_bytes: int = 256 << 10
    memory_bytes: int = 64 << 20
    sync_interval_ns: int = 0
    open_files_max: int = 4096
    columns_ticks: int = 60
    compact_fraction: float = 0.5
    key: bytes | None = None


class Store:
    """The streams below one directory."""

    def __init__(
        self,
        root: str | os.PathLike[str] | Files,
        *,
        config: StoreConfig | None = None,
        clock: Callable[[], int] = time.time_ns,
        rng: Random | None = None,
        threaded: bool = True,
        progress: Progress | None = None,
    ) -> None:
        """Open a store, making it when the directory is empty, and recover what is there.

        Args:
            root: an existing directory, or a Files.
            clock: Unix time in ns. rng: source of salts; None: the system's.
            threaded: False does every write inside `poll`, in a repeatable order (tests).
            progress: called with (step, done, total) while recovery runs.

        Raises:
            OSError: the directory cannot be read or written at all.
        """
        self.files: Files = RealFiles(root) if isinstance(root, (str, os.PathLike)) else root
        self.config = config or StoreConfig()
        self.clock = clock
        self.random_bytes: Callable[[int], bytes] = os.urandom if rng is None else rng.randbytes
        self.key = self.config.key
        self.streams: dict[str, StreamDirectory] = {}
        # Encrypted streams that cannot be opened with this key: path → why. Their files stay as they are.
        self.locked: dict[str, str] = {}
        self.reports: list[str] = []
        self.pending_streams: list[StreamStore] = []
        self.changed_consumers: list[ConsumerStore] = []
        self.journal_logs: list[LogFile] = []
        self.doomed_paths: list[str] = []
        self.next_directory = 1
        self.failure: WriteFailed | None = None
        self.on_durable: Callable[[int], None] | None = None
        self._chain = 0
        self._ticks = 0
        self._open_logs: OrderedDict[LogFile, None] = OrderedDict()
        allowed = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        self._open_files_max = min(self.config.open_files_max, allowed // 2)
        # Directories with bytes in the journal that no checkpoint covers → where those begin, oldest first.
        self._dirty: OrderedDict[StreamDirectory | str, int] = OrderedDict()
        self._checkpoints: dict[StreamDirectory, int] = {}
        self._captured: list[tuple[int, StreamCheckpoint]] = []
        self._wanted: set[StreamDirectory] = set()
        self._after_round: list[tuple[int, Callable[[], None]]] = []
        self._preparing_spare = False
        self._synced_ns = clock()
        self.writer = Writer(threaded=threaded, name="storage-journal")
        # A stream's files belong to one of these, so its writes stay in order; several, because syncs of
        # different files that run at once share one commit of the file system (1,000 small streams are
        # checkpointed 3 times faster with 4).
        count = FILE_THREADS if threaded else 1
        self.pool = [Writer(threaded=threaded, name=f"storage-files-{index}") for index in range(count)]
        self.background = self.pool[0]
        self.journal: Journal
        Recovery(self, progress).run()
        self._dirty = OrderedDict(sorted(self._dirty.items(), key=lambda item: item[1]))
        for path in self.doomed_paths:
            self.unlink_later(path, self.background)

    # What recovery and the streams' directories call.

    def begin_journal(self, start: int, old_files: list[JournalFile], spares: list[tuple[str, int]]) -> None:
        """Go on with the journal at position `start`; files of earlier runs are used again when they are
        covered."""
        paths = [file.path for file in old_files] + [path for path, _ in spares]
        taken = [int(path.rsplit("/", 1)[1][:8]) for path in paths]
        self.journal = Journal(
            self.files,
            self.writer,
            file_bytes=self.config.journal_file_bytes,
            bytes_max=self.config.journal_bytes_max,
            start=start,
            # What recovery wrote into the logs is not synced: the old files are needed until a checkpoint.
            released=min([file.start for file in old_files], default=start),
            file_number=max(taken, default=0) + 1,
            spares=[(path, size) for path, size in spares if size >= self.config.journal_file_bytes],
            dirty_logs=self.journal_logs,
        )
        for file in old_files:
            self.journal.adopt(file.path, file.start, file.capacity)
        self.journal.flush_bytes = self.config.flush_bytes
        self.journal.sync_always = self.config.sync_interval_ns == 0
        self.journal.on_durable = self._committed

    def adopt(self, directory: StreamDirectory, dirty_since: int | None) -> None:
        """Take in a stream that recovery loaded; `dirty_since`: where its journal entries begin, None: it
        has none."""
        if directory.name in self.streams:
            self.report(
                f"{directory.path}: another stream is named {directory.name!r} too; it is opened as its path"
            )
            directory.name = directory.path
        self.streams[directory.name] = directory
        if dirty_since is not None:
            self._dirty[directory] = dirty_since

    def report(self, text: str) -> None:
        """Say once what was found damaged or went wrong."""
        logger.warning("damage what=%r", text)
        self.reports.append(text)

    def hold(self, path: str, position: int) -> None:
        """Keep the journal from `position` on: a stream that cannot be opened now needs it."""
        self._dirty[path] = position

    def touch(self, directory: StreamDirectory) -> None:
        """Note that a stream has something that only its next checkpoint will keep."""
        self._dirty.setdefault(directory, self.journal.position)

    def wants_checkpoint(self, directory: StreamDirectory) -> None:
        """Checkpoint a stream with the next commit: space comes free then."""
        self._wanted.add(directory)

    def next_chain(self) -> int:
        """Return a number for a chain of background jobs."""
        self._chain += 1
        return self._chain

    def block(self, data: bytes) -> Block:
        """Return memory for a background job with a copy of `data`."""
        return Block.of(data)

    def write_error(self, error: int, what: str) -> WriteFailed:
        """Return the exception for an error number."""
        return write_error(error, what)

    def opened(self, log: LogFile) -> None:
        """Note that a log's file is open, and close the one that has been open longest when there are too
        many."""
        self._open_logs[log] = None
        while len(self._open_logs) > self._open_files_max:
            oldest, _ = self._open_logs.popitem(last=False)
            # Jobs under way keep the File alive; it closes behind the last of them.
            oldest.file = None

    def unlink_later(self, path: str, writer: Writer) -> None:
        """Remove a file in the background, behind what `writer` has to do; that it is gone already is
        fine."""

        def unlink() -> None:
            try:
                self.files.unlink(path)
            except FileNotFoundError:
                return

        writer.call(unlink, None)

    # Streams.

    def create_stream(
        self,
        name: str,
        definition: bytes = b"",
        *,
        limits: StreamLimits | None = None,
        first_sequence: int = 1,
        compression: bool = False,
        cipher: str | None = None,
        is_async: bool = False,
    ) -> StreamDirectory:
        """Make a stream; it is durable with the next commit.

        Args:
            definition: the caller's bytes, kept with it.
            compression, cipher: see storage/codec.py. is_async: commits of this stream are not synced.

        Raises:
            ValueError: there is one of this name. KeyRequired: a cipher and no key. StorageError: the store
            has failed.
        """
        self.check_writable()
        if name in self.streams:
            raise ValueError(f"stream {name!r} exists")
        directory = StreamDirectory(self, self.next_directory)
        self.next_directory += 1
        if compression or cipher:
            # Only where it is needed: what compresses and encrypts takes long to load.
            from storage.codec import StreamCodec

            directory.codec = StreamCodec(compression=compression, cipher=cipher, store_key=self.key)
            directory.stream.codec = directory.codec
            directory.control.sealer = directory.codec if cipher else None
        directory.name, directory.is_async = name, is_async
        directory.stream.apply_limits(limits or StreamLimits())
        directory.control.envelope, directory.control.definition = directory.envelope(), definition
        directory.begin_control()
        directory.stream.start(first_sequence)
        self.streams[name] = directory
        return directory

    def update_stream(self, name: str, definition: bytes, limits: StreamLimits) -> int:
        """Change definition and limits; return how many messages the new limits evicted.

        Raises:
            KeyError: no such stream. StorageError: the store has failed.
        """
        self.check_writable()
        directory = self.streams[name]
        directory.stream.apply_limits(limits)
        directory.control.define(directory.envelope(), definition)
        return directory.stream.enforce_limits()

    def delete_stream(self, name: str) -> None:
        """Delete a stream with everything in it; durable with the next commit.

        Raises:
            KeyError: no such stream. StorageError: the store has failed.
        """
        self.check_writable()
        directory = self.streams.pop(name)
        for log in directory.logs() + directory.dropped:
            log.is_dropped = True
            self._open_logs.pop(log, None)
        directory.is_deleted = True
        directory.stream.forget_pending()
        self._wanted.discard(directory)
        path = directory.path
        self.journal.remove(path + "/")
        # Holds the journal at the removal until the directory is really gone.
        self._dirty[path] = self.journal.position
        self._after_round.append((self.journal.round, lambda: self._remove_directory(directory)))

    def _remove_directory(self, directory: StreamDirectory) -> None:
        path = directory.path

        def remove() -> None:
            for name in self.files.list(path):
                self.files.unlink(f"{path}/{name}")
            if self.files.is_directory(path):
                self.files.remove_directory(path)
            self.files.sync_directory("streams")

        def removed(error: int, nanoseconds: int) -> None:
            if error:
                self.report(f"{path}: could not be removed: errno {error}")
            else:
                self._dirty.pop(path, None)
                self._dirty.pop(directory, None)
                self._release()

        directory.background.call(remove, removed)

    # Commits.

    def check_writable(self) -> None:
        """Raise the error that made the store read-only, if one did."""
        if self.failure is not None:
            raise self.failure

    @property
    def durable_round(self) -> int:
        """The newest round that is durable."""
        return self.journal.durable_round

    @property
    def has_changes(self) -> bool:
        """Whether there is anything that the next commit would send."""
        journal = self.journal
        return bool(self.pending_streams or self.changed_consumers or journal.dirty_logs or journal.removals)

    @property
    def notify_fds(self) -> tuple[int, ...]:
        """Descriptors that are readable when `poll` has something to do."""
        return (self.writer.notify_fd, *(writer.notify_fd for writer in self.pool))

    def commit(self) -> int:
        """Send everything appended so far on its way and return the round in which it becomes durable.

        With a `sync_interval_ns` a small round is often written on the spot: before this returns `on_durable`
        was called and `durable_round` has reached it.

        Raises:
            WriteFailed: an earlier write failed; nothing is written any more.
        """
        self.check_writable()
        journal = self.journal
        while self.pending_streams:
            self.pending_streams[0].flush_pending()
        if self.changed_consumers:
            for consumer in self.changed_consumers:
                consumer.control.write_changes(consumer)
            self.changed_consumers.clear()
        was_in_flight, before = journal.in_flight, journal.position
        try:
            most = max(self.config.journal_bytes_max, 3 * self._checkpoint_bytes())
            round_number = journal.commit(force=not self._checkpoints or journal.live_bytes < most)
        except WriteFailed as error:
            self._fail(error)
            raise
        if journal.in_flight and not was_in_flight:
            for log in journal.newly_dirty:
                if not log.is_dropped:
                    self._dirty.setdefault(log.owner, before)
            journal.newly_dirty.clear()
            if self._wanted or journal.live_bytes > self._checkpoint_bytes():
                self._capture_due()
            journal.finish_written()
            self.check_writable()
        return round_number

    def poll(self) -> int:
        """Take in what the threads finished and move things on; return the newest durable round."""
        self.writer.reap()
        for writer in self.pool:
            writer.reap()
        if self.journal.has_unsynced:
            self._sync_when_due()
        return self.journal.durable_round

    def _sync_when_due(self) -> None:
        """Sync what was written without a sync, when that is long enough ago."""
        now = self.clock()
        if now - self._synced_ns >= (self.config.sync_interval_ns or ASYNC_SYNC_NS):
            self._synced_ns = now
            self.journal.sync()

    def wait(self, round_number: int, timeout_s: float = 60.0) -> None:
        """Block until a round is durable.

        Raises:
            WriteFailed: it will not be. TimeoutError: it took longer.
        """
        deadline = time.monotonic() + timeout_s
        while self.poll() < round_number:
            self.check_writable()
            self.commit()
            self.writer.wait(0.05)
            if time.monotonic() > deadline:
                raise TimeoutError(
                    f"round {round_number} after {timeout_s} s; durable is {self.durable_round}"
                )

    def _committed(self, error: int, nanoseconds: int) -> None:
        """Go on after a commit: flush, start what waited for it, begin the next one."""
        journal = self.journal
        if error:
            self._fail(write_error(error, "journal"))
            return
        if journal.flushable:
            for log in journal.flushable:
                log.owner.flush(log)
            journal.flushable.clear()
        durable = journal.durable_round
        while self._after_round and self._after_round[0][0] <= durable:
            self._after_round.pop(0)[1]()
        while self._captured and self._captured[0][0] <= durable:
            self._captured.pop(0)[1].proceed()
        if journal.wants_spare() and not self._preparing_spare:
            self._prepare_spare()
        if self.on_durable is not None:
            self.on_durable(durable)
        if journal.dirty_logs or journal.removals:
            self.commit()

    def _fail(self, error: WriteFailed) -> None:
        """Make every stream read-only: the journal cannot be trusted any more."""
        if self.failure is not None:
            return
        self.failure = error
        for directory in self.streams.values():
            directory.fail(error)

    def _prepare_spare(self) -> None:
        """Make another journal file in the background, written full: overwriting syncs faster than
        growing."""
        path, size = self.journal.next_path(), self.config.journal_file_bytes
        self._preparing_spare = True

        def prepare() -> None:
            file = self.files.open(path, create=True)
            zeros = bytes(min(size, 1 << 20))
            for offset in range(0, size, len(zeros)):
                write_all(file, zeros, offset)
            file.fdatasync()
            self.files.sync_directory("journal")

        def prepared(error: int, nanoseconds: int) -> None:
            self._preparing_spare = False
            if error:
                # The journal makes a file without blocks when it needs one, and meets the error itself.
                self.report(f"{path}: could not be prepared: errno {error}")
            else:
                self.journal.add_spare(path, size)

        self.background.call(prepare, prepared)

    # Checkpoints.

    def _checkpoint_bytes(self) -> int:
        """Return how much of the journal may be live before streams are checkpointed."""
        return max(self.config.checkpoint_bytes, self.config.checkpoint_stream_bytes * len(self._dirty))

    def _capture_due(self) -> None:
        """Capture the state of streams that hold the journal longest, and of those that asked for it."""
        journal = self.journal
        for directory in list(self._wanted):
            if directory not in self._checkpoints:
                self._capture(directory)
        limit = journal.position - self._checkpoint_bytes() // 2
        for dirty, since in list(self._dirty.items()):
            if since > limit or len(self._checkpoints) >= 64:
                break
            if isinstance(dirty, StreamDirectory) and dirty not in self._checkpoints:
                self._capture(dirty)

    def _capture(self, directory: StreamDirectory) -> bool:
        """Capture a stream whose logs are all drained; False: they are not, or it has failed."""
        if directory.is_deleted or directory.stream.failure is not None:
            self._wanted.discard(directory)
            return False
        if directory.stream.is_behind or any(log.drained < log.end for log in directory.logs()):
            return False
        if directory.control.wants_rewrite:
            # It drains with the next commit; the checkpoint comes after that.
            directory.begin_control()
            self._wanted.add(directory)
            return False
        self._wanted.discard(directory)
        since = self._dirty.pop(directory, self.journal.position)
        self._checkpoints[directory] = since
        captured = directory.capture(self.journal.position)
        self._captured.append((self.journal.flight_round, captured))
        return True

    def checkpoint_finished(self, done: StreamCheckpoint, error: int) -> None:
        """Release the journal up to what is not covered yet; after an error keep it and make the stream
        read-only."""
        directory = done.directory
        since = self._checkpoints.pop(directory)
        if error:
            self._dirty[directory] = since
            self._dirty.move_to_end(directory, last=False)
            directory.fail(write_error(error, f"{directory.path}: checkpoint"))
            return
        self._release()
        if self.failure is None and self.journal.dirty_logs:
            self.commit()

    def _release(self) -> None:
        oldest = [self.journal.position]
        if self._dirty:
            oldest.append(
                min(self._dirty.values()) if self._checkpoints else next(iter(self._dirty.values()))
            )
        oldest.extend(self._checkpoints.values())
        for path, capacity in self.journal.release(min(oldest)):
            self._make_spare(path, capacity)

    def _make_spare(self, path: str, capacity: int) -> None:
        """Mark a journal file as holding nothing, then let it be used again."""

        def marked(error: int, nanoseconds: int) -> None:
            if not error and capacity >= self.config.journal_file_bytes:
                self.journal.add_spare(path, capacity)

        file = self.files.open(path)
        self.background.write(
            file, self.block(self.journal.spare_page(capacity)), 0, FIRST_PAGE_BYTES, 0, marked
        )

    def flush_memory(self) -> None:
        """Hand durable bytes to their files when logs hold too much memory together."""
        held = [log for directory in self.streams.values() for log in directory.logs()]
        if sum(log.memory_bytes for log in held) > self.config.memory_bytes:
            for log in held:
                if log.flushable_bytes > 4096:
                    log.owner.flush(log)

    def housekeeping(self) -> None:
        """Do what need not be done at once; to be called about once a second.

        Drops columns that nobody used, gives memory back, rewrites one segment that is mostly dead.
        """
        if self.failure is not None:
            return
        self.poll()
        self.flush_memory()
        compacted = False
        for directory in self.streams.values():
            stream = directory.stream
            stream.tick += 1
            stream.pages.end_tick()
            if stream.pages.idle_ticks == self.config.columns_ticks:
                stream.pages.empty()
            if not compacted and directory.compacting is None and stream.failure is None:
                compacted = self._compact_one(directory)
            for segment in stream.segments[:-1]:
                idle = stream.tick - segment.used_tick
                if segment.is_loaded and segment.has_sidecar and idle > self.config.columns_ticks:
                    segment.drop_columns()
        self._ticks += 1
        if self._ticks % TRIM_TICKS == 0:
            trim_memory()
        if self._wanted:
            self.checkpoint_all(only=set(self._wanted))

    def _compact_one(self, directory: StreamDirectory) -> bool:
        for segment in directory.stream.segments:
            if wants_compaction(segment, self.config.compact_fraction):
                return compact(directory, segment)
        return False

    def checkpoint_all(self, *, only: set[StreamDirectory] | None = None) -> None:
        """Start a checkpoint of every stream with something to keep; commit and poll carry it out."""
        self.wait(self.commit())
        chosen = (
            [one for one in self._dirty if isinstance(one, StreamDirectory)] if only is None else list(only)
        )
        for directory in chosen:
            if directory not in self._checkpoints and self._capture(directory):
                self._captured.pop()[1].proceed()

    def close(self) -> None:
        """Make everything durable, checkpoint every stream and stop the threads.

        Raises:
            StorageError: something could not be written; what was acknowledged is safe in the journal.
        """
        problem: StorageError | None = None
        try:
            if self.failure is None:
                while self._dirty and self.failure is None:
                    before, idle = dict(self._dirty), not self._checkpoints
                    self.checkpoint_all()
                    while self._checkpoints and self.failure is None:
                        self.poll()
                        self._wait_any()
                    self.poll()
                    self._drain_background()
                    if idle and dict(self._dirty) == before:
                        break
                self.wait(self.commit())
                self._release()
                if not self._dirty and self.journal.file_capacity:
                    self._make_spare(*self.journal.retire())
        except StorageError as error:
            problem = error
        self._drain_background()
        self.writer.stop()
        for writer in self.pool:
            writer.stop()
        self.journal.close()
        for log in self._open_logs:
            log.file = None
        self._open_logs.clear()
        if problem is not None:
            raise problem

    @property
    def is_at_rest(self) -> bool:
        """Whether `close` left nothing in the journal that a start would need."""
        return self.failure is None and not self._dirty and self.journal.is_clean

    def _drain_background(self) -> None:
        while self.writer.pending or any(writer.pending for writer in self.pool):
            self._wait_any()
            self.poll()

    def _wait_any(self) -> None:
        """Wait a moment for a thread to finish something."""
        if self.writer.is_threaded:
            select.select(self.notify_fds, [], [], 0.05)
