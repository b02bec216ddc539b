"""Backups as bytes: S2, HighwayHash, and both archive formats, against bytes made by hand."""

import os

import orjson
import pytest
from support.archive_model import ERASED, TOMBSTONE, framed, hashed, record, tar

from workers.jetstream.archive import s2
from workers.jetstream.archive.archive import ArchiveReader, write
from workers.jetstream.archive.consumer_files import decode_state
from workers.jetstream.archive.errors import ArchiveError
from workers.jetstream.archive.framing import STREAM_START, FrameReader
from workers.jetstream.archive.highwayhash import hash64
from workers.jetstream.archive.items import (
    ArchivedMessage,
    Bounds,
    ConsumerRecord,
    Deleted,
    Item,
    StreamFacts,
)

KIB = 1024


def read(data: bytes, name: str = "S", message_bytes_max: int = 64 * KIB, step: int = 1 << 30) -> list[Item]:
    reader = ArchiveReader(name, message_bytes_max=message_bytes_max)
    items = [item for start in range(0, len(data), step) for item in reader.feed(data[start : start + step])]
    reader.finish()
    return items


@pytest.mark.parametrize(
    ("block", "content"),
    [
        (b"\x00", b""),
        (b"\x03\x08abc", b"abc"),
        # A literal whose length follows in 1, 2, 3 and 4 bytes.
        (b"\x3d\xf0\x3c" + b"x" * 61, b"x" * 61),
        (b"\xac\x02\xf4\x2b\x01" + b"y" * 300, b"y" * 300),
        (b"\x03\xf8\x02\x00\x00abc", b"abc"),
        (b"\x03\xfc\x02\x00\x00\x00abc", b"abc"),
        # Copies with offsets of 1, 2 and 4 bytes; overlapping ones repeat what they make.
        (b"\x0a\x0cabcd\x09\x04", b"abcd" + b"abcdab"),
        (b"\x09\x00z\x1e\x01\x00", b"z" * 9),
        (b"\x09\x00z\x1f\x01\x00\x00\x00", b"z" * 9),
        # The last offset again, with lengths 4..8 in the tag, and in 1, 2 and 3 bytes.
        (b"\x0c\x0cabcd\x01\x04\x01\x00", b"abcd" * 3),
        (b"\x10\x0cabcd\x01\x04\x11\x00", b"abcd" * 4),
        (b"\x14\x0cabcd\x01\x04\x15\x00\x04", b"abcd" * 5),
        (b"\x90\x02\x0cabcd\x01\x04\x19\x00\x04\x00", b"abcd" * 68),
        (b"\x90\x80\x04\x0cabcd\x01\x04\x1d\x00\x04\x00\x00", b"abcd" * 16388),
    ],
)
def test_a_block_is_undone(block: bytes, content: bytes) -> None:
    assert s2.decompress_block(block, 1 << 20) == content


@pytest.mark.parametrize(
    "block",
    [
        b"",
        b"\x80",
        b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
        b"\x03\x08ab",  # a literal longer than the block
        b"\x02\x08abc",  # and than the content
        b"\x04\x08abc",  # too little
        b"\x05\x00a\x01\x02",  # an offset before the start
        b"\x05\x00a\x02\x00\x00",  # an offset of nothing
        b"\x05\x01\x00",  # a repeat and nothing to repeat
        b"\x05\x00a\x01\x01\x15\x00",  # a repeat whose length is missing
        b"\x05\x00a\x03\x01",  # an offset that is missing
        b"\x03\xf4\x02",  # a length that is missing
    ],
)
def test_a_damaged_block_is_refused(block: bytes) -> None:
    with pytest.raises(ValueError):
        s2.decompress_block(block, 1 << 20)


def test_a_block_longer_than_asked_for_is_refused_before_memory_is_taken() -> None:
    with pytest.raises(ValueError, match="4294967295 bytes"):
        s2.decompress_block(b"\xff\xff\xff\xff\x0f\x00a", 1 << 20)
    with pytest.raises(ValueError, match="65537 bytes"):
        s2.compress_block(bytes(65537))


def test_checksums_of_frames_are_masked_crc32c() -> None:
    # CRC32C of "123456789" is 0xe3069283.
    assert s2.checksum(b"123456789") == ((0xE3069283 >> 15 | 0xE3069283 << 17) + 0xA282EAD8) & 0xFFFFFFFF


def test_highwayhash_gives_the_published_values() -> None:
    key = bytes(range(32))
    expected = [
        0x907A56DE22C26E53,
        0x7EAB43AAC7CDDD78,
        0xB8D0569AB0B53D62,
        0x5C6BEFAB8A463D80,
        0xF205A46893007EDA,
        0x2B8A1668E4A94541,
    ]
    assert [hash64(key, bytes(range(size))) for size in range(6)] == expected
    with pytest.raises(ValueError):
        hash64(b"short", b"")


def test_frames_are_read_whole_or_refused() -> None:
    content = os.urandom(100_000) + bytes(100_000)
    data = framed(content)
    assert b"".join(FrameReader().feed(data)) == content
    skippable = b"\xfe\x03\x00\x00abc" + b"\x99\x00\x00\x00"
    assert b"".join(FrameReader().feed(STREAM_START + skippable + data)) == content
    for bad in (
        b"\x00\x05\x00\x00abcde",  # no beginning
        b"\xff\x06\x00\x00S3sTwO",
        STREAM_START + b"\x02\x00\x00\x00",  # a kind that must be understood
        STREAM_START + b"\x01\x03\x00\x00abc",  # shorter than its checksum
        STREAM_START + b"\x01\x05\x00\x00\0\0\0\0a",  # a wrong one
        STREAM_START + b"\x00\xff\xff\xff",  # longer than any writer makes them
    ):
        with pytest.raises(ArchiveError, match="s2: corrupt input"):
            list(FrameReader().feed(bad))
    reader = FrameReader()
    list(reader.feed(data[:-1]))
    with pytest.raises(ArchiveError):
        reader.finish()


STATE = b'{"messages":2,"first_seq":3,"last_seq":9,"consumer_count":1}'
CONSUMER = b'{"config":{"name":"c"},"state":{}}'
# Two messages, at times 5 and -3, the second with headers and sequence 300.
ENTRIES = (
    b"NATSARC1"
    + b"\x0a\x0a\x00\x00"
    + bytes((len(STATE),))
    + b"state.json"
    + STATE
    + b"\x0b\x0a\x00\x00"
    + bytes((len(CONSUMER),))
    + b"consumers/c"
    + CONSUMER
    + b"\x03\x0a\x04\x00\x02a.b"
    + b"hi"
    + b"\x01\x05\xac\x02\x0c\x00x"
    + b"NATS/1.0\r\n\r\n"
    + b"\x00\x00\x00\x00\x00"
)
MESSAGES = [
    ArchivedMessage(4, 5, b"a.b", b"", b"hi"),
    ArchivedMessage(300, -3, b"x", b"NATS/1.0\r\n\r\n", b""),
]


@pytest.mark.parametrize("step", [1, 10, 1 << 20])
def test_an_archive_is_read_in_pieces_of_any_size(step: int) -> None:
    assert read(framed(ENTRIES), step=step) == [
        StreamFacts(3, 9, 1, b""),
        ConsumerRecord("c", CONSUMER),
        *MESSAGES,
        Bounds(3, 300),
    ]


def test_an_archive_is_written_as_nats_server_writes_it() -> None:
    data = b"".join(write(STATE, 5, [ConsumerRecord("c", CONSUMER)], MESSAGES))
    assert b"".join(FrameReader().feed(data)) == ENTRIES


def test_what_follows_the_end_is_ignored() -> None:
    assert len(read(framed(ENTRIES + b"more") + b"garbage")) == 5


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "EOF"),
        (b"NATS", "unexpected EOF"),
        (ENTRIES[:8], "EOF"),
        (ENTRIES[:-5], "EOF"),
        (ENTRIES[:-6], "archive: invalid archive stream"),
        (ENTRIES.replace(b"state.json", b"state.jsom"), "expected state.json first"),
        (ENTRIES.replace(b'":9,', b'":x,'), "error in state.json"),
        (ENTRIES.replace(b'":9,', b'":-,'), "error in state.json"),
        (ENTRIES.replace(STATE, b"[" + b" " * (len(STATE) - 2) + b"]"), "error in state.json"),
        (ENTRIES.replace(b"consumers/c", b"consumerz/c"), "expected consumer"),
        (ENTRIES.replace(b'count":1', b'count":-'), "error in state.json"),
        (ENTRIES.replace(b"\x0a\x04\x00\x02", b"\x0a\x02\x00\x02"), "message sequence 2 out of order"),
        (ENTRIES.replace(b"\x0a\x04\x00\x02a.b", b"\x0a\x00\x00\x02a.b"), "expected message sequence"),
        (ENTRIES.replace(b"\x03\x0a\x04\x00\x02a.bhi", b"\x00\x0a\x04\x00\x02hi"), "has no subject"),
        (ENTRIES[:-5] + b"\x01\x00\x0d\x00\x81\x80\x04", "message sequence 13 exceeds"),
        (ENTRIES[:8] + b"\x80\x80\x04", "archive: invalid"),
        (ENTRIES[:8] + b"\xff" * 12, "more than 64 bits"),
        (ENTRIES[:-5] + b"\x01\x00" + b"\xff" * 9 + b"\x01\x00\x00x", "sequence 18446744073709551615"),
    ],
)
def test_an_unsound_archive_is_refused(content: bytes, text: str) -> None:
    with pytest.raises(ArchiveError, match=text):
        read(framed(content))


def test_a_message_longer_than_the_server_takes_is_refused_before_it_has_come() -> None:
    reader = ArchiveReader("S", message_bytes_max=1000)
    huge = ENTRIES[:-5] + b"\x01\x00\xad\x02\x00\xe9\x07"
    with pytest.raises(ArchiveError, match="message sequence 301 exceeds maximum payload size"):
        list(reader.feed(framed(huge)))


META = b'{"created":"2020-01-01T00:00:00Z","name":"S","subjects":["a.>"]}'
CREATED_NS = 1_577_836_800_000_000_000


def older(files: dict[str, bytes] | None = None) -> dict[str, bytes]:
    """The files of an older archive: messages 5, 6 (deleted), 9; 10 erased; limits took what is below 5."""
    first = record("S", 1, 4, 1, b"a.4", b"", b"evicted") + record("S", 1, 5, 2, b"a.5", b"", b"five")
    first += record("S", 1, 6, 3, b"a.6", b"", b"six")
    second = record("S", 2, 6 | TOMBSTONE, 3, b"", b"", b"")
    second += record("S", 2, 9, 4, b"a.9", b"NATS/1.0\r\nA: b\r\n\r\n", b"nine")
    second += record("S", 2, 10 | ERASED, 5, b"", b"", b"")
    state = b"\x16\x02" + b"\x01\x03\x04\x08\x01" + b"\x14\x01\x02\x02" + b"\x01\x02\x03"
    return {
        "meta.inf": META,
        "meta.sum": hashed("S", META).hex().encode(),
        "msgs/1.blk": first,
        "msgs/2.blk": second,
        "msgs/index.db": b"\x0b\x03\x02\x64\x05\x04\x0c\x05\x00",
        "obs/c/meta.inf": b'{"Created":"2020-01-01T00:00:00Z","Name":"c","durable_name":"c"}',
        "obs/c/meta.sum": b"",
        "obs/c/o.dat": state,
    } | (files or {})


@pytest.mark.parametrize("step", [1, 1000, 1 << 20])
def test_an_archive_of_an_older_server_is_read(step: int) -> None:
    facts, *messages, consumer, bounds = read(framed(tar(older())), step=step)
    assert facts == StreamFacts(0, 0, 0, META, CREATED_NS)
    assert messages == [
        ArchivedMessage(4, 1, b"a.4", b"", b"evicted"),
        ArchivedMessage(5, 2, b"a.5", b"", b"five"),
        ArchivedMessage(6, 3, b"a.6", b"", b"six"),
        Deleted(6),
        ArchivedMessage(9, 4, b"a.9", b"NATS/1.0\r\nA: b\r\n\r\n", b"nine"),
    ]
    assert bounds == Bounds(5, 12)
    assert isinstance(consumer, ConsumerRecord)
    assert (consumer.name, consumer.created_ns) == ("c", CREATED_NS)
    assert consumer.refusal == 'error restoring consumer ["c"]'
    assert orjson.loads(consumer.definition) == {
        "config": {"durable_name": "c"},
        "state": {
            "delivered": {"consumer_seq": 4, "stream_seq": 8},
            "ack_floor": {"consumer_seq": 1, "stream_seq": 3},
            "pending": {"4": {"Sequence": 3, "Timestamp": 9_000_000_000}},
            "redelivered": {"5": 3},
        },
    }


def test_an_older_archive_without_an_index_ends_with_its_blocks() -> None:
    files = older({"msgs/index.db": b"\x0c\x09"})
    assert read(framed(tar(files)))[-1] == Bounds(0, 10)
    assert decode_state(b"\x16\x02" + bytes(6)) == {
        "delivered": {"consumer_seq": 0, "stream_seq": 0},
        "ack_floor": {"consumer_seq": 0, "stream_seq": 0},
    }


BLOCK = older()["msgs/1.blk"]


@pytest.mark.parametrize(
    ("files", "text"),
    [
        ({"meta.inf": b"{}"}, "stream names do not match"),
        ({"meta.inf": b"{"}, "meta.inf: "),
        ({"meta.sum": b"0000000000000000"}, "meta.inf: invalid checksum"),
        ({"msgs/1.blk": BLOCK[:-1]}, "message block 1: ends within a record"),
        ({"msgs/1.blk": BLOCK[:30] + b"!" + BLOCK[31:]}, "message block 1: invalid checksum"),
        ({"msgs/1.blk": b"\x01" + BLOCK[1:]}, "message block 1: record of 1 bytes"),
        ({"msgs/1.blk": BLOCK[:20] + b"\xff\xff" + BLOCK[22:]}, "message block 1: record shorter"),
        ({"msgs/1.blk": record("S", 1, 4, 1, b"a", b"", bytes(70000))}, "exceeds maximum payload size"),
        ({"obs/c/o.dat": b"\x16\x02\x01"}, "corrupt state"),
        ({"obs/c/o.dat": b"\x17\x02\x01\0\0\0\0\0\0"}, "corrupt state"),
        ({"obs/c/o.dat": b"\x16\x03\x01\0\0\0\0\0\0"}, "unsupported version: 3"),
        ({"obs/c/o.dat": b"\x16\x02\x01" + b"\xff" * 9 + b"\x01\0\0\0\0"}, "corrupt state"),
        ({"obs/c/o.dat": b"\x16\x02\0\0\1\1\1" + b"\xff" * 9 + b"\x01\1\1\0\0"}, "corrupt state"),
        ({"obs/d/meta.inf": b"{}"}, "no meta.sum"),
        ({"obs/d/meta.sum": b""}, "no meta.inf"),
        ({"obs/c/meta.inf": b"["}, "error restoring consumer"),
        ({"obs/c/meta.inf": b"[]"}, "not an object"),
    ],
)
def test_an_unsound_older_archive_is_refused(files: dict[str, bytes], text: str) -> None:
    with pytest.raises(ArchiveError, match=text):
        read(framed(tar(older(files))))


def test_an_older_archive_needs_its_files_in_order() -> None:
    files = older()
    with pytest.raises(ArchiveError, match=r"unexpected EOF"):
        read(framed(tar(files)[:-10240]))
    del files["meta.inf"]
    with pytest.raises(ArchiveError, match=r"no meta.inf|invalid checksum"):
        read(framed(tar(files)))
    with pytest.raises(ArchiveError, match=r"msgs/1.blk comes before meta.inf"):
        read(framed(tar({"msgs/1.blk": BLOCK})))
    with pytest.raises(ArchiveError, match=r"no meta\.inf"):
        read(framed(tar({"other": b"x" * 10})))
    with pytest.raises(ArchiveError, match="invalid tar header"):
        read(framed(b"x" * 1000))
    only_state = {"meta.inf": META, "obs/c/o.dat": b""}
    with pytest.raises(ArchiveError, match="error restoring consumer"):
        read(framed(tar(only_state)))
