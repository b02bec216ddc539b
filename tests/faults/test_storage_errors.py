"""A disk that fails: the store turns read-only and says so, and nothing that was acknowledged is lost or
altered."""

import errno
from dataclasses import replace
from random import Random

import pytest
from support.faulty_files import RecordingFiles
from support.storage_model import contents

from storage.errors import ReadFailed, StorageError, StorageFull, WriteFailed
from storage.store import Store, StoreConfig

CONFIG = StoreConfig(
    journal_file_bytes=64 << 10, checkpoint_stream_bytes=0, checkpoint_bytes=16 << 10, flush_bytes=2000
)


def filled(files: RecordingFiles, count: int = 100) -> Store:
    store = Store(files, config=CONFIG, rng=Random(1), threaded=False)
    stream = store.create_stream("s").stream
    for index in range(count):
        stream.append(b"a", b"", b"payload %d" % index, index)
    store.wait(store.commit())
    return store


@pytest.mark.parametrize(
    ("operation", "number", "expected"),
    [
        ("fdatasync", errno.EIO, WriteFailed),
        ("pwrite", errno.EIO, WriteFailed),
        ("pwrite", errno.ENOSPC, StorageFull),
        ("pwrite", errno.EDQUOT, StorageFull),
    ],
)
def test_a_failed_commit_is_never_acknowledged_and_ends_writing(
    operation: str, number: int, expected: type
) -> None:
    files = RecordingFiles()
    store = filled(files)
    stream = store.streams["s"].stream
    before = contents(stream)
    stream.append(b"a", b"", b"never durable", 1000)
    files.fail[operation] = number
    round_number = store.commit()
    with pytest.raises(expected):
        store.wait(round_number)
    assert store.durable_round < round_number
    files.fail.clear()
    # The error stays: after a failed sync nobody knows what is on the disk.
    with pytest.raises(expected):
        stream.append(b"a", b"", b"refused", 1001)
    with pytest.raises(expected):
        stream.delete(1)
    with pytest.raises(expected):
        store.commit()
    assert {sequence: got for sequence, got in contents(stream).items() if sequence <= 100} == before
    assert sum("read-only" in text for text in store.reports) == 1
    reopened = Store(files.crash(len(files.trace), Random(1)), config=CONFIG, threaded=False)
    after = contents(reopened.streams["s"].stream)
    assert {sequence: after[sequence] for sequence in before} == before


def test_a_checkpoint_that_cannot_be_written_makes_the_stream_read_only_and_keeps_the_journal() -> None:
    files = RecordingFiles()
    store = filled(files)
    before = contents(store.streams["s"].stream)
    files.fail["sync_directory"] = errno.EIO
    store.checkpoint_all()
    store.poll()
    store.poll()
    with pytest.raises(WriteFailed):
        store.streams["s"].stream.append(b"a", b"", b"", 1)
    crashed = files.crash(len(files.trace), Random(5))
    assert contents(Store(crashed, config=CONFIG, threaded=False).streams["s"].stream) == before


def test_short_writes_are_continued() -> None:
    files = RecordingFiles()
    files.short_writes = True
    store = filled(files)
    before = contents(store.streams["s"].stream)
    store.close()
    assert contents(Store(files, config=CONFIG, threaded=False).streams["s"].stream) == before


def test_a_read_error_is_raised_and_costs_nothing() -> None:
    files = RecordingFiles()
    store = filled(files)
    store.close()
    store = Store(files, config=CONFIG, threaded=False)
    stream = store.streams["s"].stream
    files.fail["pread"] = errno.EIO
    with pytest.raises(ReadFailed, match=r"\.log at \d+"):
        stream.get(5)
    files.fail.clear()
    message = stream.get(5)
    assert message is not None
    assert message.payload == b"payload 4"
    assert stream.state().lost == ()


def test_closing_a_failed_store_raises_nothing_new_and_stops() -> None:
    files = RecordingFiles()
    store = filled(files)
    files.fail["fdatasync"] = errno.EIO
    store.streams["s"].stream.append(b"a", b"", b"", 1)
    with pytest.raises(StorageError):
        store.wait(store.commit())
    store.close()
    assert isinstance(store.failure, WriteFailed)


@pytest.mark.parametrize("sync_interval_ns", [0, 10**18])
def test_on_a_full_disk_writing_ends_reading_goes_on_and_a_restart_with_room_goes_on(
    sync_interval_ns: int,
) -> None:
    files = RecordingFiles()
    config = replace(CONFIG, sync_interval_ns=sync_interval_ns, journal_file_bytes=1 << 20)
    store = Store(files, config=config, rng=Random(1), threaded=False)
    streams = [store.create_stream(name).stream for name in ("s", "t")]
    for stream in streams:
        stream.append(b"a", b"", b"payload", 1)
    store.wait(store.commit())
    files.fail["pwrite"] = errno.ENOSPC
    streams[0].append(b"a", b"", b"never durable", 2)
    with pytest.raises(StorageFull, match="ENOSPC"):
        store.wait(store.commit())
    for stream in streams:
        with pytest.raises(StorageFull, match="ENOSPC"):
            stream.append(b"a", b"", b"refused", 3)
        with pytest.raises(StorageFull, match="ENOSPC"):
            stream.purge_all()
        message = stream.get(1)
        assert message is not None
        assert message.payload == b"payload"
    with pytest.raises(StorageFull, match="ENOSPC"):
        store.create_stream("u")
    store.poll()
    store.housekeeping()
    files.fail.clear()
    store.close()
    store = Store(files, config=config, threaded=False)
    for name in ("s", "t"):
        stream = store.streams[name].stream
        assert stream.append(b"a", b"", b"again", 4) == stream.last_sequence
        assert stream.last_sequence in (2, 3)
    store.wait(store.commit())
