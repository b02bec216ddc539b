"""`midge check DIR`: say what is damaged in a store that no broker has open. Nothing in DIR is ever changed.

The store is opened through files that keep every write in memory, so recovery runs as it would and leaves no
trace; then every message is read. `--repair TARGET` writes what can be read into a new store in TARGET,
which must be empty.
"""

import argparse
import os
import sys
import time
from collections.abc import Iterator

from storage.errors import RecordDamaged, StorageError
from storage.files import File, Files, RealFiles
from storage.scrub import Scrubber
from storage.store import Store, StoreConfig
from storage.stream import StreamStore


class OverlayFile:
    """A file whose writes stay in memory."""

    direct_fd = -1

    def __init__(self, below: File | None) -> None:
        self._below = below
        self._data: bytearray | None = None if below is not None else bytearray()

    def _own(self) -> bytearray:
        if self._data is None:
            assert self._below is not None
            self._data = bytearray(self._below.pread(self._below.size(), 0))
        return self._data

    def pread(self, size: int, offset: int) -> bytes:
        if self._data is None and self._below is not None:
            return self._below.pread(size, offset)
        return bytes(self._own()[offset : offset + size])

    def pwrite(self, data: bytes | bytearray | memoryview, offset: int) -> int:
        own = self._own()
        end = offset + len(data)
        if len(own) < end:
            own.extend(bytes(end - len(own)))
        own[offset:end] = data
        return len(data)

    def fdatasync(self) -> None:
        """Nothing to do."""

    def size(self) -> int:
        return self._below.size() if self._data is None and self._below is not None else len(self._own())

    def close(self) -> None:
        """Kept: it may be opened again."""


class OverlayFiles:
    """A real tree below, read only; names and bytes that change are kept in memory."""

    def __init__(self, below: Files) -> None:
        self._below = below
        self._opened: dict[str, OverlayFile] = {}
        self._gone: set[str] = set()
        self._directories: set[str] = set()

    def open(self, path: str, *, create: bool = False) -> OverlayFile:
        if path in self._opened:
            return self._opened[path]
        try:
            if path in self._gone:
                raise FileNotFoundError(2, "gone", path)
            below: File | None = self._below.open_for_reading(path)
        except FileNotFoundError:
            if not create:
                raise
            below = None
        self._gone.discard(path)
        self._opened[path] = OverlayFile(below)
        return self._opened[path]

    def open_for_reading(self, path: str) -> OverlayFile:
        return self.open(path)

    def rename(self, source: str, target: str) -> None:
        if self.is_directory(source):
            self._directories.add(target)
            for name in self.list(source):
                self.rename(f"{source}/{name}", f"{target}/{name}")
            return
        self._opened[target] = self.open(source)
        self.unlink(source)

    def unlink(self, path: str) -> None:
        if self._opened.pop(path, None) is None and path in self._gone:
            raise FileNotFoundError(2, "gone", path)
        self._gone.add(path)

    def remove_directory(self, path: str) -> None:
        """Nothing to do."""

    def make_directory(self, path: str) -> None:
        self._directories.add(path)

    def sync_directory(self, path: str) -> None:
        """Nothing to do."""

    def list(self, path: str) -> list[str]:
        names = set(self._below.list(path))
        names.update(one.rsplit("/", 1)[1] for one in self._opened if one.rsplit("/", 1)[0] == path)
        return sorted(name for name in names if f"{path}/{name}" not in self._gone)

    def is_directory(self, path: str) -> bool:
        return path in self._directories or self._below.is_directory(path)


def read_messages(stream: StreamStore) -> Iterator[tuple[int, int, bytes, bytes, bytes]]:
    """Yield (sequence, time, subject, headers, payload) of every message that can be read."""
    for segment in list(stream.segments):
        for sequence in stream.live_sequences(segment):
            try:
                message = stream.get(sequence)
            except RecordDamaged:
                continue
            if message is not None:
                yield message.astuple()


def repair(source: Store, target: str, key: bytes | None) -> None:
    """Write everything readable of `source` into a new store; sequences stay, what is missing counts as
    skipped."""
    store = Store(target, config=StoreConfig(key=key))
    for name, old in source.streams.items():
        first = old.stream.first_sequence
        codec = old.codec
        new = store.create_stream(
            name,
            old.control.definition,
            limits=old.stream.limits,
            first_sequence=first,
            compression=codec is not None and codec.compression,
            cipher=codec.cipher if codec is not None else None,
            is_async=old.is_async,
        )
        expires = {sequence: when for when, sequence in old.stream.export_expiries()}
        for count, (sequence, when, subject, headers, payload) in enumerate(read_messages(old.stream)):
            if sequence > new.stream.last_sequence + 1:
                new.stream.skip_to(sequence - 1, when)
            new.stream.append(subject, headers, payload, when, expires_ns=expires.get(sequence, 0))
            if count % 10_000 == 0:
                store.wait(store.commit())
        if old.stream.last_sequence > new.stream.last_sequence:
            new.stream.skip_to(old.stream.last_sequence, old.stream.last_timestamp_ns)
        for consumer in old.control.consumers.values():
            copy = new.control.add_consumer(consumer.name, consumer.ack_policy, consumer.definition)
            copy.restore(consumer.export())
        new.begin_control()
        store.wait(store.commit())
    store.close()


def main(argv: list[str]) -> int:
    """Check the store in the directory that `argv` names; return 0: sound, 1: damage found, 2: it cannot be
    checked."""
    parser = argparse.ArgumentParser(prog="midge check", description="Say what is damaged in a store.")
    parser.add_argument("directory", help="the store's directory; no broker may have it open")
    parser.add_argument(
        "--repair", metavar="TARGET", help="write what can be read into a new store in this empty directory"
    )
    parser.add_argument("--key-file", help="file with the 32-byte key of encrypted streams")
    arguments = parser.parse_args(argv)
    if not os.path.isdir(os.path.join(arguments.directory, "streams")):
        print(f"{arguments.directory}: no store here", file=sys.stderr)
        return 2
    if arguments.repair and os.path.isdir(arguments.repair) and os.listdir(arguments.repair):
        print(f"{arguments.repair}: not empty", file=sys.stderr)
        return 2
    key = None
    if arguments.key_file:
        with open(arguments.key_file, "rb") as file:
            key = file.read()
    started = time.monotonic()
    try:
        files = OverlayFiles(RealFiles(arguments.directory))
        store = Store(files, config=StoreConfig(key=key), threaded=False)
    except (OSError, StorageError) as error:
        print(f"{arguments.directory}: {error}", file=sys.stderr)
        return 2
    scrubber = Scrubber(store)
    while scrubber.step():
        pass
    for name, directory in store.streams.items():
        readable = sum(1 for _ in read_messages(directory.stream))
        state = directory.stream.state()
        print(f"{name}: {readable} messages, {state.bytes} bytes, {len(state.lost)} lost")
        for sequence in state.lost[:100]:
            print(f"{name}: message {sequence} is lost")
    for text in store.reports:
        print(text)
    if arguments.repair:
        os.makedirs(arguments.repair, exist_ok=True)
        repair(store, arguments.repair, key)
        print(f"repaired copy in {arguments.repair}")
    damaged = bool(store.reports) or any(one.stream.lost for one in store.streams.values())
    print(f"{'damage found' if damaged else 'sound'} in {time.monotonic() - started:.1f} s")
    return 1 if damaged else 0
