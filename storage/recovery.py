"""Open a store: named steps, each logged with its time. Nothing is destroyed on the way.

1. *checkpoints*: the newest valid one of every stream directory.
2. *journal*: what it says since then is written into the log files again; what it removed is removed.
3. *streams*: rows and subjects from the checkpoint, then the records behind it; without a checkpoint, all
records. 4. *aside*: directories that cannot be understood go to `aside/`, whole.

The work of 2 and 3 depends on what was written since the checkpoints, not on what is stored.
"""

import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from storage import checkpoint, record
from storage.control import ControlLog
from storage.directory import StreamDirectory
from storage.errors import FileDamaged, KeyRequired, ReadFailed
from storage.files import Files, read_all, write_all
from storage.index import Segment
from storage.journal_reader import JournalContents, read_journal
from storage.log import LogFile
from storage.replay import begin_log, move_end, replay_columns, replay_log
from storage.stream import StreamStore
from storage.subjects import SubjectTable
from storage.writer import empty_frame

if TYPE_CHECKING:
    from storage.store import Store

logger = logging.getLogger("storage")

Progress = Callable[[str, int, int], None]


class Recovery:
    """One opening of a store."""

    def __init__(self, store: "Store", progress: Progress | None) -> None:
        self.store = store
        self.files: Files = store.files
        self._progress = progress
        self._states: dict[str, checkpoint.Checkpoint | None] = {}
        # End of the acknowledged bytes of each log that the journal speaks of, and where it first does.
        self._ends: dict[str, int] = {}
        self._first_positions: dict[str, int] = {}
        self._removed: set[str] = set()
        # Directories of which a checkpoint is damaged: the journal may be gone that the other one relies on,
        # so the logs count as far as they go.
        self._fallback: set[str] = set()
        self._sealed_bodies: dict[str, tuple[int, int, bytes]] = {}

    def _step(self, name: str, work: Callable[[], int]) -> None:
        started = time.monotonic_ns()
        count = work()
        milliseconds = (time.monotonic_ns() - started) / 1e6
        logger.info("recovery step=%s count=%d milliseconds=%.1f", name, count, milliseconds)

    def _tell(self, step: str, done: int, total: int) -> None:
        if self._progress is not None:
            self._progress(step, done, total)

    def run(self) -> None:
        """Open everything."""
        for path in ("journal", "streams", "aside"):
            if not self.files.is_directory(path):
                self.files.make_directory(path)
        self.files.sync_directory("")
        self._step("checkpoints", self.read_checkpoints)
        self._step("journal", self.replay_journal)
        self._step("streams", self.load_streams)

    # 1. Checkpoints.

    def read_checkpoints(self) -> int:
        """Read the newest valid checkpoint of every stream directory."""
        names = self.files.list("streams")
        for name in names:
            self._states[f"streams/{name}"] = self._read_checkpoint(f"streams/{name}")
        return len(names)

    def _read_checkpoint(self, path: str) -> checkpoint.Checkpoint | None:
        best: tuple[int, int, bytes, bool] | None = None
        for name in ("state.a", "state.b"):
            try:
                file = self.files.open_for_reading(f"{path}/{name}")
            except OSError:
                continue
            try:
                data = read_all(file)
                if not data:
                    # Made, and not written when the power went.
                    continue
                found = checkpoint.decode_header(data, f"{path}/{name}")
                if best is None or found[0] > best[0]:
                    best = found
            except (FileDamaged, OSError) as error:
                self.store.report(f"{path}/{name}: {error}")
                self._fallback.add(path)
            finally:
                file.close()
        if best is None:
            return None
        generation, position, body, is_sealed = best
        if is_sealed:
            self._sealed_bodies[path] = (generation, position, body)
            return None
        return checkpoint.decode_body(generation, position, body)

    # 2. Journal.

    def replay_journal(self) -> int:
        """Write what the journal holds into the log files, and go on with it in a new file."""
        contents = read_journal(self.files, "journal")
        for text in contents.damage:
            self.store.report(text)
        for entry in contents.entries:
            if entry.is_removal:
                self._removed.add(entry.path)
        count = self._write_entries(contents)
        for path in sorted(self._removed):
            self._remove(path)
        if self._removed:
            self.files.sync_directory("streams")
        for entry in contents.entries:
            self._keep_number(entry.path)
        self._close_torn_end(contents)
        # A stream that came from another store may have a checkpoint from further on.
        start = max(
            contents.end,
            *(state.position for state in self._states.values() if state),
            *(position for _, position, _ in self._sealed_bodies.values()),
            0,
        )
        for path in contents.unreadable:
            self._set_aside(path)
        self.store.begin_journal(-(-start // 4096) * 4096, contents.files, contents.spares)
        return count

    def _keep_number(self, path: str) -> None:
        """Have no new directory take the number of one that the journal speaks of: that may be a removal."""
        number = path.split("/")[1]
        if len(number) == 8 and all(digit in "0123456789abcdef" for digit in number):
            self.store.next_directory = max(self.store.next_directory, int(number, 16) + 1)

    def _covered(self, path: str) -> int:
        directory = path.rsplit("/", 1)[0]
        sealed = self._sealed_bodies.get(directory)
        if sealed is not None:
            return sealed[1]
        state = self._states.get(directory)
        return state.position if state is not None else 0

    def _write_entries(self, contents: JournalContents) -> int:
        opened = {}
        count = 0
        total = len(contents.entries)
        for index, entry in enumerate(contents.entries):
            directory = entry.path.rsplit("/", 1)[0]
            if entry.is_removal or directory + "/" in self._removed:
                continue
            if entry.position < self._covered(entry.path):
                continue
            if entry.path not in opened:
                if not self.files.is_directory(directory):
                    self.files.make_directory(directory)
                    self._states.setdefault(directory, None)
                opened[entry.path] = self.files.open(entry.path, create=True)
            write_all(opened[entry.path], entry.data, entry.offset)
            self._ends[entry.path] = max(self._ends.get(entry.path, 0), entry.offset + len(entry.data))
            self._first_positions.setdefault(directory, entry.position)
            count += 1
            if index % 64 == 0:
                self._tell("journal", index, total)
        for file in opened.values():
            file.close()
        return count

    def _close_torn_end(self, contents: JournalContents) -> None:
        """Put an empty frame over a torn one: frames of the next run must not make it look acknowledged."""
        if contents.torn is None:
            return
        path, offset, position = contents.torn
        file = self.files.open(path)
        write_all(file, empty_frame(position), offset)
        file.fdatasync()
        file.close()

    def _remove(self, path: str) -> None:
        """Remove a directory and all in it: the journal says that its stream was deleted."""
        directory = path.rstrip("/")
        for name in self.files.list(directory):
            self.files.unlink(f"{directory}/{name}")
        if self.files.is_directory(directory):
            self.files.remove_directory(directory)
        self._states.pop(directory, None)
        self._sealed_bodies.pop(directory, None)

    def _set_aside(self, path: str) -> None:
        """Move something that cannot be understood out of the way."""
        taken = set(self.files.list("aside"))
        name = path.replace("/", "-")
        count = 0
        while f"{name}.{count}" in taken:
            count += 1
        self.store.report(f"{path}: set aside as aside/{name}.{count}")
        self.files.rename(path, f"aside/{name}.{count}")
        self.files.sync_directory("aside")

    # 3. Streams.

    def load_streams(self) -> int:
        """Open every stream directory."""
        paths = sorted(self._states)
        for index, path in enumerate(paths):
            self._load_one(path)
            self._tell("streams", index + 1, len(paths))
        return len(paths)

    def _load_one(self, path: str) -> None:
        name = path.rsplit("/", 1)[1]
        try:
            number = int(name, 16)
        except ValueError:
            self._set_aside(path)
            return
        self.store.next_directory = max(self.store.next_directory, number + 1)
        names = self.files.list(path)
        replayed = path in self._first_positions
        if not replayed and not any(self._has_bytes(f"{path}/{one}") for one in names):
            # Made by a create that was never committed.
            for one in names:
                self.files.unlink(f"{path}/{one}")
            self.files.remove_directory(path)
            return
        directory = StreamDirectory(self.store, number)
        directory.names_changed = path in self._first_positions
        try:
            self._load_stream(directory, names)
        except FileDamaged as error:
            self.store.report(str(error))
            self._set_aside(path)
            return
        except KeyRequired as error:
            self.store.locked[path] = str(error)
            if replayed:
                self.store.hold(path, self._first_positions[path])
            self.store.report(f"{path}: {error}")
            return
        self.store.adopt(directory, self._first_positions.get(path))

    def _has_bytes(self, path: str) -> bool:
        file = self.files.open_for_reading(path)
        try:
            return file.size() > 0
        finally:
            file.close()

    def _load_stream(self, directory: StreamDirectory, names: list[str]) -> None:
        path = directory.path
        state = self._states[path]
        numbers = sorted(int(name[:8]) for name in names if name[:8].isdigit())
        directory.next_number = max([0, *numbers]) + 1
        self._load_control(directory, [name for name in names if name.endswith(".ctl")], state)
        if path in self._sealed_bodies and directory.codec is not None:
            generation, position, body = self._sealed_bodies[path]
            state = checkpoint.decode_body(generation, position, directory.codec.open_blob(body))
        logs = [name for name in names if name.endswith(".log")]
        missing = state is not None and {one.number for one in state.segments} - {
            int(name[:8]) for name in logs
        }
        if state is None or (missing and path in self._fallback):
            self._rebuild(directory, logs)
        else:
            self._restore(directory, state, logs)
        self._drop_orphans(directory, names)
        if directory.stream.hot_log is None:
            directory.stream.start(max(directory.stream.first_sequence, directory.stream.last_sequence + 1))
        directory.stream.forget_pending()
        for log in directory.logs():
            if log.path in self._ends:
                # Written from the journal and not synced: the next checkpoint has to.
                log.dirty_since = self._first_positions[path]
        directory.stream.enforce_limits()

    def _read_log(self, path: str, start: int, end: int | None) -> tuple[record.LogHeader, bytes]:
        """Return a log's header and its bytes from `start` up to `end`, None: all."""
        file = self.files.open_for_reading(path)
        try:
            header = record.decode_log_header(file.pread(record.RECORDS_AT, 0), path)
            if end is None:
                return header, read_all(file, start)
            return header, file.pread(max(end - start, 0), start)
        finally:
            file.close()

    def _acknowledged_end(self, directory: StreamDirectory, path: str) -> int | None:
        """Return where the acknowledged bytes of a log without a checkpoint end, None: with the file."""
        return None if directory.path in self._fallback else self._ends.get(path)

    def _load_control(
        self, directory: StreamDirectory, names: list[str], state: checkpoint.Checkpoint | None
    ) -> None:
        """Take the newest control log that is complete."""
        path = directory.path
        chosen: tuple[LogFile, ControlLog] | None = None
        for name in sorted(names, reverse=True):
            log_path = f"{path}/{name}"
            try:
                header, data = self._read_log(log_path, record.RECORDS_AT, None)
            except (FileDamaged, OSError) as error:
                self.store.report(str(error))
                continue
            known_end = self._ends.get(log_path, 0)
            if state is not None and state.control_number == header.number:
                known_end = max(known_end, state.control_end)
            if path not in self._fallback:
                data = data[: max(known_end - record.RECORDS_AT, 0) if known_end else len(data)]
            control = ControlLog(self.store.changed_consumers)
            end, damage, complete = control.replay(data, record.RECORDS_AT, header.salt, log_path)
            if chosen is None and control.envelope and (complete or damage or len(names) == 1):
                for text in damage:
                    self.store.report(text)
                log = LogFile(
                    log_path, header.number, header.salt, self.store.journal_logs, end=end, owner=directory
                )
                chosen = (log, control)
        if chosen is None:
            raise FileDamaged(f"{path}: no control log can be read")
        log, directory.control = chosen
        directory.control.log = log
        directory.apply_envelope()
        log.wants_sync = not directory.is_async

    def _open_segment_log(
        self, directory: StreamDirectory, header: record.LogHeader, path: str, end: int
    ) -> LogFile:
        log = LogFile(path, header.number, header.salt, self.store.journal_logs, end=end, owner=directory)
        log.wants_sync = not directory.is_async
        return log

    def _rebuild(self, directory: StreamDirectory, names: list[str]) -> None:
        """Read every segment from its beginning."""
        headers = {}
        for name in names:
            path = f"{directory.path}/{name}"
            try:
                headers[name], _ = self._read_log(path, 0, 0)
            except (FileDamaged, OSError) as error:
                self.store.report(str(error))
                self._set_aside(path)
        present = {header.number for header in headers.values()}
        for name in sorted(headers, key=lambda name: headers[name].replaces or headers[name].number):
            header = headers[name]
            if header.replaces in present and header.replaces:
                # Compaction had not finished: the old segment is there, this is a part of its copy.
                continue
            path = f"{directory.path}/{name}"
            end = self._acknowledged_end(directory, path)
            self._replay_new(directory, path, *self._read_log(path, record.RECORDS_AT, end))

    def _replay_new(
        self, directory: StreamDirectory, path: str, header: record.LogHeader, data: bytes
    ) -> None:
        """Apply a log from its first record on."""
        log = self._open_segment_log(directory, header, path, record.RECORDS_AT)
        begin_log(directory.stream, log, header.base_sequence)
        self._replay_from(directory, log, data, record.RECORDS_AT, compacted=bool(header.replaces))

    def _replay_from(
        self, directory: StreamDirectory, log: LogFile, data: bytes, start: int, *, compacted: bool = False
    ) -> None:
        end, damage = replay_log(directory.stream, data, start, log.salt, log.path, compacted=compacted)
        for text in damage:
            self.store.report(text)
        move_end(log, end)

    def _restore(self, directory: StreamDirectory, state: checkpoint.Checkpoint, names: list[str]) -> None:
        """Take the checkpoint's state and apply what came after it."""
        stream = directory.stream
        directory.generation = state.generation
        directory.checkpoint_position = state.position
        directory.next_number = max(directory.next_number, state.next_number)
        segments = []
        for one in state.segments:
            path = f"{directory.path}/{one.number:08d}.log"
            log = LogFile(path, one.number, one.salt, self.store.journal_logs, end=one.end, owner=directory)
            log.wants_sync = not directory.is_async
            segment = Segment(one.base, log)
            segment.restore(one.rows, one.live, one.live_bytes, one.last_timestamp, one.dead)
            segment.is_sealed = segment.has_sidecar = one.has_sidecar
            segment.has_ids = one.has_ids
            if not one.has_sidecar:
                segment.import_columns(one.columns)
            segments.append(segment)
        table = SubjectTable.restore(state.subjects)
        stream.restore_state(table, segments, state.counters, state.lost, state.expiries)
        hot = segments[-1]
        known_end = self._ends.get(hot.log.path, 0)
        if known_end > hot.log.end or directory.path in self._fallback:
            file = self.files.open_for_reading(hot.log.path)
            try:
                if directory.path in self._fallback:
                    data = read_all(file, hot.log.end)
                else:
                    data = file.pread(known_end - hot.log.end, hot.log.end)
            finally:
                file.close()
            self._replay_from(directory, hot.log, data, hot.log.end)
        known = {one.number for one in state.segments}
        for name in sorted(names):
            number = int(name[:8])
            if number in known or number < state.next_number:
                continue
            self._apply_newer(directory, f"{directory.path}/{name}")
        present = {int(name[:8]) for name in names}
        for segment in list(stream.segments):
            if segment.log.number not in present and segment.log.end > 0 and segment.log.written > 0:
                self._lose_segment(directory, segment)

    def _apply_newer(self, directory: StreamDirectory, path: str) -> None:
        """Apply a log that was made after the checkpoint; a compacted copy is not needed, its original is
        there."""
        try:
            end = self._acknowledged_end(directory, path)
            header, data = self._read_log(path, record.RECORDS_AT, end)
        except (FileDamaged, OSError) as error:
            self.store.report(str(error))
            self._set_aside(path)
            return
        if header.replaces == 0:
            self._replay_new(directory, path, header, data)

    def _lose_segment(self, directory: StreamDirectory, segment: Segment) -> None:
        """Count every message of a segment whose file is gone as lost."""
        self.store.report(f"{segment.log.path}: the file is missing; {segment.live} messages are lost")
        for sequence in directory.stream.live_sequences(segment):
            directory.stream.mark_lost(sequence)

    def _drop_orphans(self, directory: StreamDirectory, names: list[str]) -> None:
        """Remove files whose removal a crash undid: those that neither the checkpoint nor the journal
        knows."""
        used = {log.path for log in directory.logs()} | {log.path for log in directory.dropped}
        used.update(directory.sidecar_path(segment) for segment in directory.stream.segments)
        for name in names:
            path = f"{directory.path}/{name}"
            if name[:8].isdigit() and path not in used and name.endswith((".log", ".idx", ".ctl")):
                self.store.doomed_paths.append(path)


def rebuild_columns(stream: StreamStore, segment: Segment) -> None:
    """Make the columns of a sealed segment again from its records.

    Raises:
        ReadFailed: the segment cannot be read.
    """
    data = segment.log.read(0, segment.log.end)
    if len(data) < record.RECORDS_AT:
        raise ReadFailed(f"{segment.log.path}: {len(data)} bytes of {segment.log.end}")
    replay_columns(stream, segment, data, segment.log)
