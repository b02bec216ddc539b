"""A stream that takes messages from other ones of this server, each with a header that says where it is from.

    Nats-Stream-Source: <stream> <its sequence> <filters> <destinations> <its subject> <its identity>

How far each source has got is known again after a start from these headers. So that not all messages have
to be looked at for it, and because they may be gone by then, the stream's definition keeps it too:

    {"at": last sequence here, "sources": {index name: [sequence there, identity]}}

It is written as of some sequence now and then, and in the same commit in which a message goes that says
more than it does. An origin with another identity is another stream, and is read from its beginning.

Source: nats-server server/stream.go, trySetupSourceConsumer, processInboundSourceMsg, genSourceHeader,
streamAndSeq.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from workers.jetstream import headers
from workers.jetstream.pulling import MESSAGES_AT_ONCE, Puller, transformer
from workers.jetstream.stream_config import INTEREST, StreamSource
from workers.jetstream.stream_sources import index_name

if TYPE_CHECKING:
    from workers.jetstream.stream import Stream
    from workers.jetstream.transfer import Block

Kept = dict[str, Any]

KEEP_MESSAGES = 50_000
"""Stored since progress was written: about what a start looks at in a few tens of milliseconds."""
SCAN_MESSAGES = 1000


class Source:
    """One of a stream's sources.

    Attributes:
        source: as configured.
        sequence: the last one of the origin that was taken over, 0: none.
        identity: of the origin that it is of.
        here: the sequence that its message got here, 0: none since the last start.
    """

    def __init__(self, stream: Stream, source: StreamSource, name: str) -> None:
        """Prepare; `start` begins."""
        self.source = source
        self.sequence = 0
        self.identity = ""
        self.here = 0
        self._stream = stream
        self._origin, _, rest = name.partition(" ")
        self._rest = rest.encode("utf-8", "surrogateescape")
        self._transformed = transformer(source)
        self._is_other = False
        self._puller = Puller(stream, source, self)

    def start(self) -> None:
        """Look for the origin and follow it."""
        self._puller.start()

    def close(self) -> None:
        """Follow it no more."""
        self._puller.close()

    def info(self) -> dict[str, object]:
        """Return its StreamSourceInfo."""
        return self._puller.info(sequence=self.sequence)

    # ---- what the puller asks

    def position(self) -> dict[str, Any]:
        """Go on behind what was taken over; begin as configured when nothing was."""
        if self.sequence:
            known = {"identity": self.identity, "done": self.sequence} if self.identity else {}
            return {"next": self.sequence + 1, **known}
        source, store = self.source, self._stream.store
        if source.opt_start_seq:
            return {"next": source.opt_start_seq}
        start_ns, last_ns = source.opt_start_time_ns, store.last_timestamp_ns
        if source.opt_start_time:
            return {"time": last_ns if start_ns < last_ns else start_ns}
        if store.first_sequence > 1 and last_ns and not self._is_other:
            # What was here is gone, and nobody knows how far it had got.
            return {"time": last_ns}
        return {"next": 1}

    def connected(self, identity: str, delivered: int) -> bool:
        """Begin anew with an origin that is another stream than before."""
        if self.identity not in ("", identity):
            self.sequence, self.identity, self._is_other = 0, "", True
            return False
        self.identity, self._is_other = identity, False
        return True

    def lost(self) -> None:
        """Wait until there is one."""

    def take(self, block: Block) -> bool:
        """Store some messages."""
        store, config = self._stream.store, self._stream.config
        origin, identity = self._origin.encode(), self.identity.encode()
        now_ns = self._stream.engine.now_ns()
        is_plain = not (
            config.sealed
            or config.subject_transform
            or config.republish
            or config.retention == INTEREST
            or config.allow_msg_counter
        )
        for _ in range(MESSAGES_AT_ONCE):
            if is_plain:
                block.source(
                    store,
                    now_ns,
                    origin,
                    self._rest,
                    identity,
                    self._transformed,
                    has_window=config.duplicate_window > 0,
                )
                self._took(block)
            if block.is_done:
                return True
            self._store(*block.message())
            block.skip()
            self._took(block)
        return block.is_done

    def _took(self, block: Block) -> None:
        if block.last_sequence > self.sequence:
            self.sequence, self.here = block.last_sequence, self._stream.store.last_sequence

    def _store(self, sequence: int, _timestamp_ns: int, subject: bytes, kept: bytes, payload: bytes) -> None:
        kept = headers.remove(kept, headers.STREAM_SOURCE)
        kept = headers.remove_prefix(kept, b"Nats-Expected-")
        kept = headers.remove_prefix(kept, b"Nats-Batch-")
        words = (self._origin.encode(), b"%d" % sequence, self._rest, subject, self.identity.encode())
        kept = headers.add(kept, headers.STREAM_SOURCE, b" ".join(words))
        if self._transformed is not None:
            subject = self._transformed(subject)
        self._stream.publisher.publish_trusted(subject, kept, payload)


class Sources:
    """All sources of one stream."""

    def __init__(self, stream: Stream) -> None:
        """Begin with none; `configure` makes them."""
        self._stream = stream
        self._sources: dict[str, Source] = {}
        # Of sources that are configured no more: they may come back.
        self._former: dict[str, tuple[int, str]] = {}
        self._kept_at = 0
        # First sequence here that a start has not looked at yet, 0: it did not begin, -1: it is done.
        self._scan_from = 0
        self._is_stale = False
        self._is_closed = False

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._sources)

    def configure(self) -> None:
        """Take over the stream's configuration: make sources that are new and end those that are gone."""
        wanted = {index_name(one): one for one in self._stream.config.sources if one is not None}
        for name in [name for name in self._sources if name not in wanted]:
            source = self._sources.pop(name)
            source.close()
            self._former[name] = (source.sequence, source.identity)
        ordered = {}
        for name, one in wanted.items():
            known = self._sources.get(name)
            ordered[name] = Source(self._stream, one, name) if known is None else known
            if known is None and self._scan_from < 0:
                self._start(name, ordered[name])
        self._sources = ordered
        if wanted and not self._scan_from:
            self._recover(self._stream.kept_progress())

    def _start(self, name: str, source: Source) -> None:
        source.sequence, source.identity = self._former.pop(name, (0, ""))
        source.start()

    def _recover(self, kept: Kept) -> None:
        """Find out how far each source had got, then start them."""
        self._kept_at = int(kept.get("at", 0))
        self._scan_from = self._kept_at + 1
        for name, (sequence, identity) in kept.get("sources", {}).items():
            self._former[name] = (int(sequence), str(identity))
        self._scan()

    def _scan(self) -> None:
        """Look at some of the messages that were stored since progress was kept."""
        if self._is_closed:
            return
        messages = self._stream.store.read(self._scan_from, SCAN_MESSAGES)
        for message in messages:
            value = headers.get(message.headers, headers.STREAM_SOURCE) if message.headers else None
            words = value.decode("utf-8", "surrogateescape").split(" ") if value else []
            if len(words) >= 4 and words[1].isdigit():
                name = " ".join((words[0], words[2], words[3]))
                self._former[name] = (int(words[1]), words[5] if len(words) > 5 else "")
                self._is_stale = True
        if messages:
            self._scan_from = messages[-1].sequence + 1
            self._stream.engine.later(0, self._scan)
            return
        self._scan_from = -1
        for name, source in self._sources.items():
            self._start(name, source)

    def close(self) -> None:
        """Follow no origin any more."""
        self._is_closed = True
        for source in self._sources.values():
            source.close()

    def info(self) -> list[dict[str, object]]:
        """Return their StreamSourceInfos."""
        return [source.info() for source in self._sources.values()]

    # ---- progress

    def progress(self) -> Kept:
        """Return how far all sources have got, to be kept; {} if that is not known."""
        if self._scan_from == 0:
            return self._stream.kept_progress()
        if self._scan_from > 0:
            return {"at": self._scan_from - 1, "sources": self._former}
        self._kept_at = self._stream.store.last_sequence
        self._is_stale = False
        reached = {name: (one.sequence, one.identity) for name, one in self._sources.items()}
        return {"at": self._kept_at, "sources": self._former | reached}

    def wants_keeping(self) -> bool:
        """Tell whether progress has to be written with what is committed next."""
        if self._scan_from >= 0:
            return False
        store, kept_at = self._stream.store, self._kept_at
        return (
            self._is_stale
            or store.last_sequence - kept_at > KEEP_MESSAGES
            or any(
                source.here > kept_at and store.next_from(source.here) != source.here
                for source in self._sources.values()
            )
        )
