"""One stream on disk: its directory of log files, its messages, its control log, its checkpoints.

    streams/00000007/00000001.ctl     control log (definition, consumers)
                     00000002.log     segments; numbers count up within the directory and are never used again
                     00000002.150.idx the sidecar of a sealed one, with its number of rows
                     state.a state.b  checkpoints, written in turn

It is the backing of its StreamStore. The store (store.py) owns the journal and decides when to flush,
checkpoint and compact; here is how.
"""

from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING

import orjson

from storage import checkpoint, record, sidecar
from storage.control import ControlLog
from storage.errors import FileDamaged, ReadFailed, WriteFailed
from storage.files import File, read_all, write_all
from storage.index import Segment
from storage.limits import StreamLimits
from storage.log import LogFile
from storage.stream import StreamStore

if TYPE_CHECKING:
    from storage.codec import StreamCodec
    from storage.store import Store


class StreamDirectory:
    """A stream, its consumers and their files."""

    def __init__(self, store: "Store", number: int) -> None:
        self.store = store
        self.number = number
        self.background = store.pool[number % len(store.pool)]
        self.path = f"streams/{number:08x}"
        self.name = ""
        self.next_number = 1
        self.generation = 0
        self.checkpoint_position = 0
        self.names_changed = True
        # Whether the directory's own name was synced since it was opened or made.
        self.is_placed = False
        # State files that are there for certain: writing them changes no name.
        self.known_states: set[str] = set()
        self.rebuilt_sidecars = 0
        # Logs that are not needed any more but are in the last checkpoint, or may be.
        self.dropped: list[LogFile] = []
        self.dropped_sidecars: list[str] = []
        self.control = ControlLog(store.changed_consumers)
        self.codec: StreamCodec | None = None
        self.is_async = False
        self.is_deleted = False
        self.compacting: Segment | None = None
        self.stream = StreamStore(self, pending_streams=store.pending_streams)

    # Definition.

    def envelope(self) -> bytes:
        """Return what a start needs to know of the stream before its definition can be read, as JSON."""
        codec = self.codec.describe() if self.codec else None
        values = {
            "name": self.name,
            "limits": asdict(self.stream.limits),
            "codec": codec,
            "async": self.is_async,
        }
        return orjson.dumps(values)

    def apply_envelope(self) -> None:
        """Take name, limits and codec from the control log's envelope.

        Raises:
            KeyRequired: it is encrypted, and the store has no key or another one.
        """
        values = orjson.loads(self.control.envelope)
        self.name = values["name"]
        self.is_async = values["async"]
        self.stream.apply_limits(StreamLimits(**values["limits"]))
        if values["codec"] is not None:
            # Only where it is needed: what compresses and encrypts takes long to load.
            from storage.codec import StreamCodec

            self.codec = StreamCodec.restore(values["codec"], self.store.key)
            self.stream.codec = self.codec
            if self.codec.is_encrypted:
                self.control.unseal(self.codec, self.path)

    def begin_control(self) -> None:
        """Write the control state into a new log; the old one goes with the next checkpoint."""
        if self.control.log is not None:
            self.dropped.append(self.control.log)
        self.control.begin(self._new_file("ctl", record.KIND_CONTROL, 0))

    # The backing of the stream.

    def _new_file(self, suffix: str, kind: int, base: int) -> LogFile:
        log = self._number_file(suffix)
        log.append(record.encode_log_header(self.header_of(log, base, 0, kind)))
        return log

    def _number_file(self, suffix: str) -> LogFile:
        number = self.next_number
        self.next_number += 1
        salt = int.from_bytes(self.store.random_bytes(4), "little")
        return self._log(f"{self.path}/{number:08d}.{suffix}", number, salt, 0)

    def _log(self, path: str, number: int, salt: int, end: int) -> LogFile:
        log = LogFile(path, number, salt, self.store.journal_logs, end=end, owner=self)
        log.wants_sync = not self.is_async
        return log

    def header_of(
        self, log: LogFile, base: int, replaces: int, kind: int = record.KIND_SEGMENT
    ) -> record.LogHeader:
        """Return the header that a log's file begins with."""
        return record.LogHeader(kind, log.salt, log.number, self.number, base, self.store.clock(), replaces)

    def new_log(self, index: StreamStore, base: int) -> LogFile:
        """Return a log for a segment that begins at sequence `base`."""
        return self._new_file("log", record.KIND_SEGMENT, base)

    def replacement_log(self, segment: Segment) -> LogFile:
        """Return a numbered log for what compaction leaves of a segment; its file is written past the
        journal."""
        return self._number_file("log")

    def opened_copy(self, target: LogFile, end: int) -> LogFile:
        """Return the log of a copy that is in its file up to `end`, synced."""
        return self._log(target.path, target.number, target.salt, end)

    def segment_sealed(self, index: StreamStore, segment: Segment) -> None:
        """Nothing to do now: the next checkpoint writes the sidecar."""

    def segment_dropped(self, index: StreamStore, segment: Segment) -> None:
        """Have the files of a segment removed once a checkpoint does not name it any more."""
        self.dropped.append(segment.log)
        self.dropped_sidecars.append(self.sidecar_path(segment))
        self.store.wants_checkpoint(self)

    def log_abandoned(self, log: LogFile) -> None:
        """Forget a log that recovery made and did not need: it must not come into the journal.

        The next start would take it for the beginning of a segment.
        """
        self.store.journal_logs.remove(log)

    def load_columns(self, index: StreamStore, segment: Segment) -> None:
        """Read the sidecar of a sealed segment, or make its columns again from its records.

        Raises:
            ReadFailed: neither can be read.
        """
        path = self.sidecar_path(segment)
        try:
            file = self.store.files.open_for_reading(path)
            try:
                segment.import_columns(sidecar.decode(read_all(file), segment, path))
            finally:
                file.close()
        except (FileDamaged, OSError) as error:
            self.store.report(f"{path}: made again from the segment: {error}")
            self.rebuild_columns(segment)

    def rebuild_columns(self, segment: Segment) -> None:
        """Make the columns of a segment from its records; dead rows stay dead."""
        from storage.recovery import rebuild_columns

        rebuild_columns(self.stream, segment)
        segment.has_sidecar = False
        self.rebuilt_sidecars += 1
        self.store.touch(self)

    def sidecar_path(self, segment: Segment) -> str:
        """Return where the sidecar of a segment lies.

        A truncated segment gets another name: the last checkpoint still needs the sidecar with all rows.
        """
        return f"{self.path}/{segment.log.number:08d}.{segment.rows}.idx"

    # Files.

    def open_log(self, log: LogFile) -> File:
        """Open the file of a log, making it when it is new, and keep it open for a while."""
        if log.file is None:
            try:
                log.file = self.store.files.open(log.path)
            except FileNotFoundError:
                if log.written > 0:
                    raise ReadFailed(f"{log.path}: the file is missing") from None
                log.file = self.make_file(log.path)
            except OSError as error:
                raise ReadFailed(f"{log.path}: {error}") from error
            self.store.opened(log)
        return log.file

    def make_file(self, path: str) -> File:
        """Make a file, and the directory for the first one: a new stream waits for the journal alone."""
        files = self.store.files
        self.names_changed = True
        try:
            return files.open(path, create=True)
        except FileNotFoundError:
            files.make_directory(self.path)
            return files.open(path, create=True)

    def logs(self) -> list[LogFile]:
        """Return the control log and those of the segments."""
        logs = [segment.log for segment in self.stream.segments]
        if self.control.log is not None:
            logs.append(self.control.log)
        return logs

    def flush(self, log: LogFile, done: Callable[[int], None] | None = None) -> bool:
        """Hand the durable bytes that a log holds in memory to the background writer; False: nothing to hand
        over.

        Args:
            done: called with the error number when they are in the file.
        """
        if log.is_dropped:
            return False
        try:
            file = self.open_log(log)
        except (OSError, ReadFailed) as error:
            self.fail(WriteFailed(f"{log.path}: {error}"))
            return False
        taken = log.take_flushable()
        if taken is None:
            return False
        block, start, size, offset = taken

        def finished(error: int, nanoseconds: int) -> None:
            if error:
                self.fail(self.store.write_error(error, f"{log.path} at {offset}"))
            else:
                log.flushed()
            if done is not None:
                done(error)

        self.background.write(file, block, start, size, offset, finished)
        return True

    def fail(self, error: WriteFailed) -> None:
        """Make the stream read-only; what was acknowledged stays readable."""
        if self.stream.failure is None:
            self.stream.failure = error
            self.store.report(f"{self.path}: read-only from now on: {error}")

    # Checkpoints.

    def capture(self, position: int) -> "StreamCheckpoint":
        """Return the state as it is now, to be written once the journal is durable up to `position`.

        Every log must be drained into the journal.
        """
        stream, control = self.stream, self.control
        assert control.log is not None
        sidecars = []
        segments = []
        for segment in stream.segments:
            log = segment.log
            # A sealed segment gets its sidecar with this checkpoint, the hot one has its columns in it.
            if segment.is_sealed and not segment.has_sidecar:
                if not segment.is_loaded:
                    self.load_columns(stream, segment)
                sidecars.append((segment, sidecar.encode(segment)))
            segments.append(
                checkpoint.SegmentState(
                    log.number,
                    segment.base,
                    log.end,
                    segment.live_bytes,
                    segment.last_timestamp,
                    log.salt,
                    segment.rows,
                    segment.live,
                    segment.is_sealed,
                    segment.has_ids,
                    segment.export_dead(),
                    b"" if segment.is_sealed else segment.export_columns(),
                )
            )
        counters = (
            stream.first_sequence,
            stream.last_sequence,
            stream.messages,
            stream.bytes,
            stream.last_timestamp_ns,
        )
        self.generation += 1
        state = checkpoint.Checkpoint(
            self.generation,
            position,
            counters,
            self.next_number,
            control.log.number,
            control.log.end,
            control.log.salt,
            segments,
            dict(stream.lost),
            stream.export_expiries(),
            stream.subjects.export(),
        )
        body = checkpoint.encode_body(state)
        is_sealed = self.codec is not None and self.codec.is_encrypted
        if is_sealed and self.codec is not None:
            body = self.codec.seal_blob(body)
        data = checkpoint.encode(self.generation, position, body, is_sealed=is_sealed)
        logs = [(log, log.end) for log in self.logs()]
        dropped, self.dropped = self.dropped, []
        dropped_sidecars, self.dropped_sidecars = self.dropped_sidecars, []
        for log in dropped:
            log.is_dropped = True
        return StreamCheckpoint(self, position, data, logs, sidecars, (dropped, dropped_sidecars))


class StreamCheckpoint:
    """One checkpoint on its way: first the logs go to their files, then everything is synced, then the
    state."""

    def __init__(
        self,
        directory: StreamDirectory,
        position: int,
        data: bytes,
        logs: list[tuple[LogFile, int]],
        sidecars: list[tuple[Segment, bytes]],
        dropped: tuple[list[LogFile], list[str]],
    ) -> None:
        self.directory = directory
        self.position = position
        self._data = data
        self._logs = logs
        # Compaction or a truncation may change a segment while this is on its way.
        self._sidecars = [
            (segment, segment.log, segment.rows, directory.sidecar_path(segment), data)
            for segment, data in sidecars
        ]
        self._dropped, self._dropped_sidecars = dropped
        self._waiting = 0
        self._error = 0
        # Those whose bytes are not synced yet: everything since their last checkpoint.
        self._unsynced = [log for log, _ in logs if log.dirty_since]
        for log in self._unsynced:
            log.dirty_since = 0

    def proceed(self) -> None:
        """Flush what is still in memory; when nothing is, sync and write the state."""
        behind = [log for log, end in self._logs if log.written < end and not log.is_dropped]
        for log in behind:
            if self.directory.flush(log, self._flushed):
                self._waiting += 1
            elif log.flushable_bytes == 0 and log.written < log.durable:
                # A flush is under way; ask again behind it.
                self._waiting += 1
                self.directory.background.call(lambda: None, lambda error, nanoseconds: self._flushed(error))
        if self.directory.stream.failure is not None:
            self._error = self._error or 5
        if self._waiting == 0:
            if behind and not self._error:
                self._error = 5
            self._write_state()

    def _flushed(self, error: int) -> None:
        self._waiting -= 1
        self._error = self._error or error
        if self._waiting == 0:
            if self._error:
                self.directory.store.checkpoint_finished(self, self._error)
            else:
                self.proceed()

    def _write_state(self) -> None:
        directory = self.directory
        store = directory.store
        if self._error:
            store.checkpoint_finished(self, self._error)
            return
        background = directory.background
        chain = store.next_chain()
        try:
            for log in self._unsynced:
                if not log.is_dropped:
                    background.sync(directory.open_log(log), None, chain=chain)
            for _, _, _, path, data in self._sidecars:
                self._write_file(path, data, chain)
            # The names before the state: it must not be found without the files that it relies on.
            self._sync_names(chain)
            state_path = f"{directory.path}/state.{'ab'[directory.generation % 2]}"
            self._write_file(state_path, self._data, chain)
            directory.known_states.add(state_path)
        except (OSError, ReadFailed) as error:
            directory.fail(WriteFailed(f"{directory.path}: {error}"))
            store.checkpoint_finished(self, 5)
            return
        self._sync_names(chain)
        background.call(lambda: None, self._written, chain=chain)

    def _sync_names(self, chain: int) -> None:
        directory = self.directory
        files, background = directory.store.files, directory.background
        if directory.names_changed:
            directory.names_changed = False
            background.call(lambda: files.sync_directory(directory.path), None, chain=chain)
            if not directory.is_placed:
                directory.is_placed = True
                background.call(lambda: files.sync_directory("streams"), None, chain=chain)

    def _write_file(self, path: str, data: bytes, chain: int) -> None:
        """Have a whole file written and synced; opening it is left to the thread too, it waits for the file
        system."""
        directory = self.directory
        files = directory.store.files
        if path not in directory.known_states:
            directory.names_changed = True

        def put() -> None:
            file = files.open(path, create=True)
            write_all(file, data, 0)
            file.fdatasync()
            file.close()

        directory.background.call(put, None, chain=chain)

    def _written(self, error: int, nanoseconds: int) -> None:
        if not error:
            self.directory.checkpoint_position = self.position
            for segment, log, rows, _, _ in self._sidecars:
                segment.has_sidecar = segment.log is log and segment.rows == rows
            self._remove_dropped()
        self.directory.store.checkpoint_finished(self, error)

    def _remove_dropped(self) -> None:
        """Unlink what no checkpoint names any more; a crash that undoes it leaves files that the next start
        removes."""
        directory = self.directory
        files = directory.store.files
        for log in self._dropped:
            log.file = None
            directory.store.unlink_later(log.path, directory.background)
        for path in self._dropped_sidecars:
            directory.store.unlink_later(path, directory.background)
        if self._dropped:
            directory.background.call(lambda: files.sync_directory(directory.path), None)
