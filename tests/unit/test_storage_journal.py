"""How the journal's files grow: ahead of small frames, so that their syncs overwrite blocks."""

from random import Random

from support.faulty_files import RecordingFiles

from storage.store import Store, StoreConfig

PATH = "journal/00000001.log"
FILE_BYTES = 1 << 20


def new_store() -> tuple[Store, RecordingFiles]:
    files = RecordingFiles()
    config = StoreConfig(journal_file_bytes=FILE_BYTES)
    return Store(files, config=config, rng=Random(1), threaded=False), files


def sizes(store: Store, files: RecordingFiles, commits: int, payload_bytes: int) -> list[int]:
    """Return the journal file's size after each of some commits of one message."""
    stream = store.create_stream("S").stream
    found = []
    for number in range(commits):
        stream.append(b"s", b"", b"x" * payload_bytes, number + 1)
        store.wait(store.commit())
        found.append(files.open(PATH).size())
    return found


def test_a_journal_file_seldom_grows_with_small_commits() -> None:
    store, files = new_store()
    grown = sizes(store, files, 100, 10)
    # The first page, a hundred frames of a page each, and room for the next ones.
    assert 101 * 4096 < grown[-1] < 200 * 4096
    assert len(set(grown)) <= 3


def test_a_journal_file_does_not_grow_beyond_its_size() -> None:
    store, files = new_store()
    sizes(store, files, FILE_BYTES // 4096 + 10, 10)
    assert len(files.open(PATH).pread(2 * FILE_BYTES, 0)) == FILE_BYTES


def test_what_lies_behind_the_last_frame_is_no_frame_to_a_start() -> None:
    store, files = new_store()
    sizes(store, files, 5, 10)
    again = Store(files.killed(len(files.trace)), rng=Random(2), threaded=False)
    assert not again.reports
    assert again.streams["S"].stream.messages == 5
