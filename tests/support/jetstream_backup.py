"""Backing streams up and restoring them over raw connections, and what a backup says."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from support.broker import Broker
from support.jetstream_client import JetStreamClient
from support.rawclient import RawClient

from workers.jetstream.archive.archive import ArchiveReader
from workers.jetstream.archive.items import ArchivedMessage, ConsumerRecord, StreamFacts

MESSAGE_BYTES_MAX = 1 << 20
ACK = re.compile(r"\$JS\.SNAPSHOT\.ACK\.(?P<stream>[^.]+)\.(?P<id>\w{22})\.(?P<length>\d+)\.(?P<index>\d+)")

_inbox_numbers = itertools.count()


@dataclass
class Chunk:
    """A message to the deliver subject."""

    reply: str
    headers: bytes
    payload: bytes


@dataclass
class Backup:
    """A stream that was sent.

    Attributes:
        answer: to the request. chunks: what came, the end included.
    """

    answer: dict[str, Any]
    chunks: list[Chunk] = field(default_factory=list)

    @property
    def data(self) -> bytes:
        return b"".join(chunk.payload for chunk in self.chunks)

    @property
    def end(self) -> Chunk:
        return self.chunks[-1]


def connected(broker: Broker) -> RawClient:
    return broker.connect().handshake(headers=True, no_responders=True)


def next_chunk(receiver: RawClient) -> Chunk:
    """Take the next message that a connection gets."""
    # nats-server leaves two blanks where an advisory has no reply.
    match = receiver.expect(rb"(H?)MSG (\S+) \S+ +(?:(\S+) )??(?:(\d+) )?(\d+)\r\n")
    has_headers, _, reply, header_size, size = match.groups()
    body = receiver.expect(rb"(.{%d})\r\n" % int(size))[1]
    split = int(header_size) if has_headers else 0
    return Chunk((reply or b"").decode(), body[:split], body[split:])


def back_up(broker: Broker, client: JetStreamClient, stream: str, **request: object) -> Backup:
    """Back a stream up and acknowledge every chunk."""
    receiver = connected(broker)
    inbox = f"_BACKUP.{next(_inbox_numbers)}"
    receiver.send(f"SUB {inbox} 1\r\n".encode())
    receiver.fence()
    backup = Backup(client.api(f"STREAM.SNAPSHOT.{stream}", {"deliver_subject": inbox, **request}))
    assert "error" not in backup.answer, backup.answer
    while not backup.chunks or backup.end.payload:
        backup.chunks.append(next_chunk(receiver))
        if backup.end.reply:
            receiver.send(f"PUB {backup.end.reply} 0\r\n\r\n".encode())
    receiver.close()
    return backup


def restore(
    client: JetStreamClient, stream: str, data: bytes, *, chunk_bytes: int = 50_000, **config: object
) -> dict[str, Any]:
    """Restore a stream and return the last answer."""
    request = {"config": {"name": stream, **config}, "state": {}}
    begun = client.api(f"STREAM.RESTORE.{stream}", request)
    if "error" in begun:
        return begun
    for start in range(0, len(data), chunk_bytes):
        [answer] = client.ask(begun["deliver_subject"], data[start : start + chunk_bytes])
        assert answer.payload == b"", answer
    [answer] = client.ask(begun["deliver_subject"])
    return answer.json()


def files_of(store_dir: Path, stream: str) -> dict[str, bytes]:
    """Return what a nats-server that has stopped keeps of a stream, in the order of its older backups."""
    [root] = store_dir.glob(f"**/streams/{stream}")
    blocks = sorted(root.glob("msgs/*.blk"), key=lambda path: int(path.stem))
    consumers = [
        folder / name for folder in sorted(root.glob("obs/*")) for name in ("meta.inf", "meta.sum", "o.dat")
    ]
    paths = [root / "meta.inf", root / "meta.sum", *blocks, root / "msgs/index.db", *consumers]
    return {str(path.relative_to(root)): path.read_bytes() for path in paths}


def contents(data: bytes, stream: str) -> tuple[StreamFacts, list[ConsumerRecord], list[ArchivedMessage]]:
    """Return what a backup says."""
    reader = ArchiveReader(stream, message_bytes_max=MESSAGE_BYTES_MAX)
    items = list(reader.feed(data))
    reader.finish()
    assert isinstance(items[0], StreamFacts)
    consumers = [item for item in items if isinstance(item, ConsumerRecord)]
    return items[0], consumers, [item for item in items if isinstance(item, ArchivedMessage)]
