"""Reading here and there goes through pages in memory, which show nothing but what the files hold."""

from random import Random

from support.faulty_files import RecordingFiles

from storage.limits import StreamLimits
from storage.store import Store, StoreConfig
from storage.stream import StreamStore

COUNT = 400


def open_store(files: RecordingFiles) -> Store:
    return Store(files, config=StoreConfig(columns_ticks=3), rng=Random(1), threaded=False)


def fill(store: Store, name: str = "s", **limits: int) -> StreamStore:
    """Return a stream of COUNT messages whose bytes are all in files."""
    stream = store.create_stream(name, limits=StreamLimits(**limits)).stream
    for number in range(COUNT):
        stream.append(b"key.%d" % (number % 50), b"", b"payload %d " % number * 10, number + 1)
    store.wait(store.commit())
    store.checkpoint_all()
    store.wait(store.commit())
    for log in next(iter(d for d in store.streams.values() if d.stream is stream)).logs():
        if log.flushable_bytes:
            log.owner.flush(log)
    store.poll()
    return stream


def read_here_and_there(stream: StreamStore, seed: int = 1) -> None:
    rng = Random(seed)
    for _ in range(3 * COUNT):
        sequence = rng.randint(1, COUNT)
        message = stream.peeked(sequence)
        assert message is not None
        assert message.payload == b"payload %d " % (sequence - 1) * 10


def test_second_reading_asks_the_file_for_little() -> None:
    store = open_store(RecordingFiles())
    stream = fill(store)
    read_here_and_there(stream)
    assert 0 < stream.pages.used <= 30
    store.close()


def test_deleted_and_erased_messages_are_not_shown() -> None:
    store = open_store(RecordingFiles())
    stream = fill(store)
    read_here_and_there(stream)
    for sequence in range(1, COUNT, 7):
        assert stream.delete(sequence, erase=True)
    store.wait(store.commit())
    for sequence in range(1, COUNT + 1):
        message = stream.peeked(sequence) if sequence % 2 else stream.get(sequence)
        assert (message is None) == (sequence % 7 == 1 and sequence < COUNT)
    assert not stream.lost
    store.close()


def test_compaction_leaves_no_old_pages_behind() -> None:
    store = open_store(RecordingFiles())
    stream = fill(store, segment_bytes=16384)
    read_here_and_there(stream)
    kept = [sequence for sequence in range(1, COUNT + 1) if sequence % 9 == 0]
    stream.delete_many([sequence for sequence in range(1, COUNT + 1) if sequence % 9])
    for _ in range(20):
        store.wait(store.commit())
        store.housekeeping()
    for sequence in kept:
        message = stream.peeked(sequence)
        assert message is not None
        assert message.payload == b"payload %d " % (sequence - 1) * 10
    assert not stream.lost
    store.close()


def test_memory_comes_back_when_nobody_reads() -> None:
    store = open_store(RecordingFiles())
    stream = fill(store)
    read_here_and_there(stream)
    for _ in range(6):
        assert stream.peeked(COUNT // 2) is not None
        store.housekeeping()
    assert stream.pages.used > 0
    for _ in range(5):
        store.housekeeping()
    assert stream.pages.used == 0
    read_here_and_there(stream)
    store.close()


def test_damage_in_the_file_is_found_once_its_page_is_gone() -> None:
    store = open_store(RecordingFiles())
    stream = fill(store)
    read_here_and_there(stream)
    stream.pages.empty()
    read_here_and_there(stream, seed=2)
    assert stream.damaged_reads == 0
    store.close()
