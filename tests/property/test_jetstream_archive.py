"""Whatever is written as a backup is read back, in pieces of any size."""

from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st
from support.archive_model import framed, record, tar

from workers.jetstream.archive import s2
from workers.jetstream.archive.archive import ArchiveReader, write
from workers.jetstream.archive.framing import FrameReader
from workers.jetstream.archive.items import ArchivedMessage, Bounds, StreamFacts

STATE = b'{"first_seq":1,"last_seq":7,"consumer_count":0}'
parts = st.binary(max_size=300)
subjects = st.binary(min_size=1, max_size=20)
rows = st.lists(
    st.tuples(st.integers(1, 1 << 20), st.integers(0, 1 << 62), subjects, parts, parts), max_size=30
)


def messages_of(rows: list[tuple[int, int, bytes, bytes, bytes]]) -> list[ArchivedMessage]:
    """Rows whose first number is the distance to the one before."""
    out = []
    sequence = 0
    for distance, *rest in rows:
        sequence += distance
        out.append(ArchivedMessage(sequence, *rest))
    return out


def compressible(seed: int, size: int) -> bytes:
    """Bytes with repeats near and far, and runs."""
    random = Random(seed)
    out = bytearray()
    while len(out) < size:
        kind = random.random()
        if kind < 0.3 or not out:
            out += random.randbytes(random.randrange(1, 200))
        elif kind < 0.4:
            out += bytes((random.randrange(4),)) * random.randrange(1, 1000)
        else:
            start = random.randrange(len(out))
            out += out[start : start + random.randrange(1, 300)]
    return bytes(out[:size])


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 1 << 32), st.integers(0, 65536))
def test_a_block_is_read_back(seed: int, size: int) -> None:
    content = compressible(seed, size)
    block = s2.compress_block(content)
    assert s2.decompress_block(block, size) == content
    assert len(block) <= size + size // 6 + 32


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 1 << 32), st.integers(0, 400_000), st.integers(1, 100_000))
def test_frames_are_read_back(seed: int, size: int, step: int) -> None:
    content = compressible(seed, size)
    data = framed(content)
    reader = FrameReader()
    out = b"".join(part for at in range(0, len(data), step) for part in reader.feed(data[at : at + step]))
    reader.finish()
    assert out == content


@settings(max_examples=200, deadline=None)
@given(rows, st.integers(1, 4000))
def test_an_archive_is_read_back(rows: list[tuple[int, int, bytes, bytes, bytes]], step: int) -> None:
    messages = messages_of(rows)
    data = b"".join(write(STATE, 1, [], messages))
    reader = ArchiveReader("S", message_bytes_max=1000)
    items = [item for at in range(0, len(data), step) for item in reader.feed(data[at : at + step])]
    reader.finish()
    last = max(7, messages[-1].sequence) if messages else 7
    assert items == [StreamFacts(1, 7, 0, b""), *messages, Bounds(1, last)]


@settings(max_examples=100, deadline=None)
@given(rows, st.integers(1, 4000), st.integers(1, 10))
def test_an_older_archive_is_read_back(
    rows: list[tuple[int, int, bytes, bytes, bytes]], step: int, per_block: int
) -> None:
    messages = messages_of(rows)
    files = {"meta.inf": b'{"name":"S"}'}
    for index in range(0, len(messages), per_block):
        block = messages[index : index + per_block]
        files[f"msgs/{index}.blk"] = b"".join(record("S", index, *message) for message in block)
    data = framed(tar(files))
    reader = ArchiveReader("S", message_bytes_max=1000)
    items = [item for at in range(0, len(data), step) for item in reader.feed(data[at : at + step])]
    reader.finish()
    last = messages[-1].sequence if messages else 0
    assert items == [StreamFacts(0, 0, 0, files["meta.inf"]), *messages, Bounds(0, last)]
