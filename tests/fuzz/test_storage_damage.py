"""Flipped bits and garbage: every message reads as written or is reported; neighbours stay; nothing else is
raised."""

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.faulty_files import RecordingFiles
from support.storage_model import Pair, StreamModel, contents

from storage import record
from storage.errors import FileDamaged, RecordDamaged
from storage.limits import StreamLimits
from storage.store import Store, StoreConfig

CONFIG = StoreConfig(
    journal_file_bytes=64 << 10,
    checkpoint_stream_bytes=0,
    checkpoint_bytes=40 << 10,
    flush_bytes=800,
    columns_ticks=0,
)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300), st.integers(0, 2**32 - 1), st.integers(0, 64))
def test_garbage_is_no_record(data: bytes, salt: int, offset: int) -> None:
    assert record.decode(data, 0, salt, offset) is None or len(data) >= 32
    assert 0 <= record.find_next(data, 0, salt, offset, 0) <= len(data) + 8


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_garbage_is_no_log_header(data: bytes) -> None:
    with pytest.raises(FileDamaged):
        record.decode_log_header(data, "a.log")


@settings(max_examples=300, deadline=None)
@given(payload=st.binary(max_size=100), bit=st.integers(0, 32 * 8 - 1), salt=st.integers(0, 2**32 - 1))
def test_a_flipped_bit_in_a_record_is_found(payload: bytes, bit: int, salt: int) -> None:
    whole = record.encode(1, 7, 8, b"a.b", b"", payload, salt, 64)
    broken = bytearray(whole)
    broken[bit // 8] ^= 1 << bit % 8
    assert record.decode(bytes(broken), 0, salt, 64) is None
    assert record.decode(whole, 0, salt, 72) is None
    following = record.encode(1, 8, 9, b"c", b"", b"", salt, 64 + len(whole))
    assert record.find_next(bytes(broken) + following, 8, salt, 64, 7) == len(whole)


def build(seed: int, *, clean: bool) -> tuple[RecordingFiles, StreamModel]:
    """Return a store's files with one stream of unerased, mostly undeleted messages, and what is in it."""
    files = RecordingFiles()
    store = Store(files, config=CONFIG, rng=Random(seed), threaded=False)
    limits = StreamLimits(segment_bytes=3000)
    directory = store.create_stream("s", b"definition", limits=limits)
    pair = Pair(directory.stream, StreamModel(limits), Random(seed))
    for _ in range(30):
        pair.append(4)
        if pair.rng.random() < 0.3:
            sequence = pair.rng.randrange(1, pair.model.last + 1)
            assert pair.stream.delete(sequence) == pair.model.delete(sequence)
        store.wait(store.commit())
        if pair.rng.random() < 0.1:
            store.checkpoint_all()
            store.poll()
    if clean:
        store.close()
    return files, pair.model


@pytest.mark.parametrize("clean", [True, False])
@pytest.mark.parametrize("seed", range(6))
def test_one_flipped_bit_anywhere_costs_at_most_one_message(seed: int, clean: bool) -> None:
    files, model = build(seed, clean=clean)
    expected = {
        sequence: (one.timestamp_ns, one.subject, one.headers, one.payload)
        for sequence, one in model.messages.items()
    }
    tree = files.tree()
    rng = Random(seed)
    sizes = [(path, len(data)) for path, data in tree.items() if data.strip(b"\0")]
    for _ in range(120):
        path, size = rng.choice(sizes)
        at = rng.randrange(size)
        broken = bytearray(tree[path])
        broken[at] ^= 1 << rng.randrange(8)
        damaged = RecordingFiles({**tree, path: bytes(broken)}, directories=set(files.directories))
        store = Store(damaged, config=CONFIG, rng=Random(1), threaded=False)
        where = f"seed {seed}: {path} byte {at}"
        stream = store.streams["s"].stream
        got = contents(stream)
        wrong = {sequence for sequence in got if got[sequence] != expected.get(sequence)}
        assert not wrong, where
        missing = set(expected) - set(got)
        assert missing <= set(stream.state().lost), where
        assert len(missing) <= 1, where
        assert stream.last_sequence == model.last, where


def test_reading_a_damaged_message_says_so_once_and_then_it_is_not_there() -> None:
    files, model = build(3, clean=True)
    assert 1 in model.messages
    path, data = next((path, data) for path, data in files.tree().items() if path.endswith("1/00000002.log"))
    header = record.decode_log_header(data, path)
    first = record.decode(data, record.RECORDS_AT, header.salt, record.RECORDS_AT)
    assert first is not None
    broken = bytearray(data)
    broken[record.RECORDS_AT + 20] ^= 1
    damaged = RecordingFiles({**files.tree(), path: bytes(broken)}, directories=set(files.directories))
    stream = Store(damaged, config=CONFIG, threaded=False).streams["s"].stream
    with pytest.raises(RecordDamaged, match=r"00000002.log at 128: message"):
        stream.get(first.sequence)
    assert stream.get(first.sequence) is None
    assert stream.state().lost == (first.sequence,)
    assert stream.state().messages == len(model.messages) - 1
