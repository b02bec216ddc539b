"""Another number of workers: every stream goes to the store of its owner, whole and once, whatever is cut."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
from support.faulty_files import RecordingFiles
from support.storage_model import contents

from storage.errors import KeyRequired, StorageError
from storage.files import Files, FilesBelow
from storage.limits import StreamLimits
from storage.relocation import Relocation, relocate
from storage.store import Store, StoreConfig

KEY = bytes(range(32))
CONFIG = StoreConfig(
    key=KEY,
    journal_file_bytes=48 << 10,
    checkpoint_bytes=30 << 10,
    checkpoint_stream_bytes=1000,
    flush_bytes=700,
)
CUTS = int(os.environ.get("MIDGE_CRASH_CUTS", "60"))
NAMES = [f"$G/S{index}" for index in range(9)]

State = dict[str, tuple[object, ...]]


def owner(worker_count: int) -> Callable[[str], int]:
    """Return a rule that spreads names over so many workers."""
    return lambda name: sum(name.encode()) % worker_count


def open_store(files: Files) -> Store:
    return Store(files, config=CONFIG, rng=Random(1), threaded=False)


def run(files: RecordingFiles, worker_count: int) -> list[str]:
    return Relocation(files, worker_count, owner(worker_count), open_store).run()


def fill(store: Store, name: str, rng: Random) -> None:
    """Give a store a stream of many segments with a consumer, deletes, and all kinds of coding."""
    index = int(name[-1])
    stream = store.create_stream(
        name,
        b"definition of " + name.encode(),
        limits=StreamLimits(segment_bytes=1500, max_messages_per_subject=20),
        compression=index % 3 == 1,
        cipher="aes" if index % 3 == 2 else None,
    ).stream
    for message in range(rng.randrange(20, 80)):
        stream.append(b"a.%d" % rng.randrange(4), b"", rng.randbytes(40), 1000 + message, expires_ns=10**18)
        if message % 10 == 0:
            stream.delete(rng.randrange(1, message + 2))
            store.wait(store.commit())
    consumer = store.streams[name].control.add_consumer("c", 1, b"consumer")
    for delivered in range(1, 6):
        consumer.delivered(delivered, delivered + 10, 1, 5)
    consumer.ack(1, 11)


def stores(files: RecordingFiles, worker_count: int, seed: int) -> State:
    """Fill stores for so many workers without closing them; return what they hold."""
    rng = Random(seed)
    assert run(files, worker_count)[-1:] == []
    out: State = {}
    for worker in range(worker_count):
        store = open_store(FilesBelow(files, f"worker-{worker}"))
        for name in NAMES:
            if owner(worker_count)(name) == worker:
                fill(store, name, rng)
        doomed = store.create_stream("doomed").stream
        doomed.append(b"a", b"", b"", 1)
        store.wait(store.commit())
        store.delete_stream("doomed")
        store.wait(store.commit())
        out |= state_of(store)
    return out


def state_of(store: Store) -> State:
    return {
        name: (
            one.stream.state(),
            one.stream.limits,
            contents(one.stream),
            sorted(pair for pair in one.stream.export_expiries() if one.stream.peeked(pair[1])),
            one.control.definition,
            {key: consumer.state() for key, consumer in one.control.consumers.items()},
        )
        for name, one in store.streams.items()
    }


def assert_placed(files: RecordingFiles, worker_count: int, expected: State) -> list[Store]:
    """Open every store and compare: all there, once, where it belongs."""
    found: State = {}
    opened = []
    workers = [name for name in files.list("") if name.startswith("worker-")]
    assert workers == [f"worker-{worker}" for worker in range(worker_count)]
    for worker in range(worker_count):
        store = open_store(FilesBelow(files, f"worker-{worker}"))
        assert store.reports == []
        for name, state in state_of(store).items():
            assert owner(worker_count)(name) == worker
            assert name not in found
            found[name] = state
        opened.append(store)
    assert found == expected
    return opened


@pytest.mark.parametrize(("before", "after"), [(3, 2), (2, 4), (1, 3), (4, 1), (3, 3)])
def test_streams_go_to_their_owners(before: int, after: int) -> None:
    files = RecordingFiles()
    expected = stores(files, before, seed=before)
    files = files.killed(len(files.trace))
    if before == after:
        files.unlink("placement")
    assert run(files, after)
    stopped = len(files.trace)
    assert run(files, after) == []
    assert len(files.trace) == stopped
    assert_placed(files, after, expected)


@pytest.mark.parametrize(("before", "after"), [(3, 2), (2, 4), (3, 1)])
def test_a_power_cut_anywhere_loses_and_doubles_nothing(before: int, after: int) -> None:
    files = RecordingFiles()
    expected = stores(files, before, seed=before)
    start = files.crash(len(files.trace), Random(before))
    run(start, after)
    rng = Random(after)
    for cut in sorted(rng.sample(range(len(start.trace) + 1), min(CUTS, len(start.trace) + 1))):
        crashed = start.crash(cut, rng)
        # The count that was there before may come back, too.
        count = rng.choice((before, after))
        run(crashed, count)
        again = crashed.crash(rng.randrange(len(crashed.trace) + 1), rng)
        run(again, after)
        assert_placed(again, after, expected)


def test_what_is_stored_after_a_move_outlives_a_power_cut() -> None:
    files = RecordingFiles()
    stores(files, 3, seed=7)
    files = files.killed(len(files.trace))
    run(files, 2)
    for worker in range(2):
        store = open_store(FilesBelow(files, f"worker-{worker}"))
        for one in store.streams.values():
            one.stream.append(b"later", b"", b"payload", 10**6)
        store.wait(store.commit())
        expected = state_of(store)
        files = files.crash(len(files.trace), Random(worker))
        assert state_of(open_store(FilesBelow(files, f"worker-{worker}"))) == expected


def test_streams_that_cannot_be_opened_stop_it_and_stay() -> None:
    files = RecordingFiles()
    expected = stores(files, 2, seed=3)
    files = files.killed(len(files.trace))
    keyless = StoreConfig(journal_file_bytes=48 << 10)
    with pytest.raises(KeyRequired):
        Relocation(files, 3, owner(3), lambda one: Store(one, config=keyless, threaded=False)).run()
    run(files, 3)
    assert_placed(files, 3, expected)


def test_a_disk_error_stops_it_and_the_next_run_goes_on() -> None:
    files = RecordingFiles()
    expected = stores(files, 2, seed=4)
    files = files.killed(len(files.trace))
    files.fail["rename"] = 5
    with pytest.raises((OSError, StorageError)):
        run(files, 3)
    files.fail.clear()
    run(files, 3)
    assert_placed(files, 3, expected)


def test_what_was_set_aside_is_kept() -> None:
    files = RecordingFiles()
    stores(files, 2, seed=5)
    files = files.killed(len(files.trace))
    files.make_directory("worker-1/aside")
    files.open("worker-1/aside/thing.0", create=True)
    run(files, 1)
    assert files.list("worker-0/aside") == ["worker-1-thing.0.0"]


def test_on_a_real_disk_the_second_start_does_nothing(tmp_path: Path) -> None:
    assert relocate(tmp_path, 2, owner(2)) == []
    for worker in range(2):
        store = Store(tmp_path / f"worker-{worker}")
        for name in NAMES:
            if owner(2)(name) == worker:
                store.create_stream(name).stream.append(b"a", b"", name.encode(), time.time_ns())
        store.wait(store.commit())
        store.close()
    assert relocate(tmp_path, 2, owner(2)) == []
    assert relocate(tmp_path, 3, owner(3))
    assert relocate(tmp_path, 3, owner(3)) == []
    for worker in range(3):
        store = Store(tmp_path / f"worker-{worker}")
        assert sorted(store.streams) == [name for name in NAMES if owner(3)(name) == worker]
        for name, one in store.streams.items():
            assert one.stream.read(1, 9)[0].payload == name.encode()
        store.close()
