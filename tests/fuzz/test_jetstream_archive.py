"""Damaged and invented backups are refused with ArchiveError, or read; nothing else happens."""

import contextlib
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st
from support.archive_model import framed, hashed, record, tar

from storage.consumer import ACK_EXPLICIT, ConsumerStore
from workers.jetstream.account import Account
from workers.jetstream.archive import s2
from workers.jetstream.archive.archive import ArchiveReader, write
from workers.jetstream.archive.errors import ArchiveError
from workers.jetstream.archive.framing import FrameReader
from workers.jetstream.archive.items import ArchivedMessage, ConsumerRecord
from workers.jetstream.consumer_backups import read_record
from workers.jetstream.stream_config import StreamConfig

CONSUMER = ConsumerRecord(
    "c",
    b'{"config":{"durable_name":"c","ack_policy":"explicit"},"state":{"delivered":{"consumer_seq":4,"stream_seq":8},'
    b'"ack_floor":{"consumer_seq":1,"stream_seq":3},"pending":{"4":{"Sequence":2,"Timestamp":9}},'
    b'"redelivered":{"4":2,"6":5}}}',
)
MESSAGES = [ArchivedMessage(n * 3, n, b"a.%d" % n, b"h" * n, b"payload" * n) for n in range(1, 20)]
META = b'{"name":"S"}'


def newer() -> bytes:
    data = b"".join(write(b'{"first_seq":1,"last_seq":99,"consumer_count":1}', 5, [CONSUMER], MESSAGES))
    return b"".join(FrameReader().feed(data))


def older() -> bytes:
    return tar(
        {
            "meta.inf": META,
            "meta.sum": hashed("S", META).hex().encode(),
            "msgs/1.blk": b"".join(record("S", 1, *message) for message in MESSAGES),
            "msgs/index.db": b"\x0b\x03\x02\x64\x05\x04\x0c\x05\x00",
            "obs/c/meta.inf": b"{}",
            "obs/c/meta.sum": b"",
            "obs/c/o.dat": b"\x16\x02" + b"\x01\x03\x04\x08\x01" + b"\x14\x01\x02\x02" + b"\x01\x02\x03",
        }
    )


CONTENTS = (newer(), older())


def try_to_read(data: bytes) -> None:
    reader = ArchiveReader("S", message_bytes_max=1 << 16)
    with contextlib.suppress(ArchiveError):
        for item in reader.feed(data):
            if isinstance(item, ConsumerRecord):
                try_to_bring_back(item)
        reader.finish()


def try_to_bring_back(record: ConsumerRecord) -> None:
    with contextlib.suppress(ArchiveError):
        backed_up = read_record(record, StreamConfig(name="S"), [], Account(0, "$G"))
        store = ConsumerStore(backed_up.name, 1, ACK_EXPLICIT, b"")
        store.set_state(backed_up.state)
        assert store.pending_count == len(backed_up.state["pending"])


def mutated(data: bytes, random: Random) -> bytes:
    """Change, drop, repeat or invent some bytes."""
    out = bytearray(data)
    for _ in range(random.randrange(1, 6)):
        at = random.randrange(len(out) + 1)
        kind = random.randrange(4)
        if kind == 0 and at < len(out):
            out[at] = random.choice((0, 1, 0x7F, 0x80, 0xFF, random.randrange(256)))
        elif kind == 1:
            del out[at : at + random.randrange(1, 600)]
        elif kind == 2:
            out[at:at] = out[at : at + random.randrange(1, 600)]
        else:
            out[at:at] = random.randbytes(random.randrange(1, 20))
    return bytes(out)


@settings(max_examples=2000, deadline=None)
@given(st.binary(max_size=200), st.integers(0, 5000))
def test_garbage_is_no_block(data: bytes, size: int) -> None:
    with contextlib.suppress(ValueError):
        assert len(s2.decompress_block(data, size)) <= size


@settings(max_examples=1000, deadline=None)
@given(st.integers(0, 1 << 32))
def test_a_changed_block_keeps_to_its_buffers(seed: int) -> None:
    random = Random(seed)
    block = s2.compress_block(random.choice(CONTENTS))
    with contextlib.suppress(ValueError):
        assert len(s2.decompress_block(mutated(block, random), 1 << 20)) <= 1 << 20


@settings(max_examples=500, deadline=None)
@given(st.binary(max_size=1000))
def test_garbage_is_no_archive(data: bytes) -> None:
    try_to_read(data)
    try_to_read(framed(data))
    try_to_read(framed(b"NATSARC1" + data))


@settings(max_examples=1500, deadline=None)
@given(st.integers(0, 1 << 32))
def test_a_changed_archive_is_read_or_refused(seed: int) -> None:
    random = Random(seed)
    content = random.choice(CONTENTS)
    if random.random() < 0.7:
        # The frames are sound: what is inside is not.
        try_to_read(framed(mutated(content, random)))
    else:
        try_to_read(mutated(framed(content), random))
