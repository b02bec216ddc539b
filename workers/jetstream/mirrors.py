"""A stream that mirrors another one of this server: same sequences, times, subjects and headers.

Where to go on is the stream's own last sequence, so a restart of either side loses and doubles nothing.
Sequences that the origin does not have any more, or that the filter leaves out, are skipped when the next
message comes.

Source: nats-server server/stream.go, setupMirrorConsumer, processInboundMirrorMsg.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from workers.jetstream import headers
from workers.jetstream.pulling import MESSAGES_AT_ONCE, Puller, transformer
from workers.jetstream.stream_config import INTEREST, StreamSource

if TYPE_CHECKING:
    from workers.jetstream.stream import Stream
    from workers.jetstream.transfer import Block


class Mirror:
    """Keeps one stream equal to its origin."""

    def __init__(self, stream: Stream, source: StreamSource) -> None:
        """Prepare; `start` begins."""
        self.source = source
        self._stream = stream
        self._transformed = transformer(source)
        self._puller = Puller(stream, source, self)
        self._direct_listeners: list[int] = []

    def start(self) -> None:
        """Look for the origin and follow it."""
        self._puller.start()

    def close(self) -> None:
        """Follow it no more."""
        self._puller.close()
        self._stop_direct()

    def info(self) -> dict[str, object]:
        """Return its StreamSourceInfo."""
        return self._puller.info()

    # ---- what the puller asks

    def position(self) -> dict[str, Any]:
        """Go on behind what is here; begin as configured when there has been nothing."""
        last = self._stream.store.last_sequence
        if last:
            return {"next": last + 1}
        source = self.source
        return {"next": source.opt_start_seq, "time": 0 if source.opt_start_seq else source.opt_start_time_ns}

    def connected(self, identity: str, delivered: int) -> bool:
        """Use up the sequences before the first message of the origin."""
        self._stop_direct()
        store = self._stream.store
        if delivered > store.last_sequence:
            store.skip_to(delivered, store.last_timestamp_ns)
            self._stream.engine.commit_soon()
        return True

    def lost(self) -> None:
        """Answer direct gets for an origin that is gone; while it is there, it answers them itself."""
        stream = self._stream
        if stream.config.mirror_direct and stream.store.last_sequence and not self._direct_listeners:
            self._direct_listeners = stream.listen_direct(self.source.name)

    def _stop_direct(self) -> None:
        while self._direct_listeners:
            self._stream.engine.plane.unlisten(self._direct_listeners.pop())

    def take(self, block: Block) -> bool:
        """Store some messages."""
        store, config = self._stream.store, self._stream.config
        is_plain = not (
            config.sealed or config.subject_transform or config.republish or config.retention == INTEREST
        )
        for _ in range(MESSAGES_AT_ONCE):
            if is_plain:
                block.mirror(store, self._transformed, has_window=config.duplicate_window > 0)
            if block.is_done:
                return True
            sequence, timestamp_ns, subject, kept, payload = block.message()
            if sequence > store.last_sequence:
                self._store(sequence, timestamp_ns, subject, kept, payload)
            block.skip()
        return block.is_done

    def _store(self, sequence: int, timestamp_ns: int, subject: bytes, kept: bytes, payload: bytes) -> None:
        store, publisher = self._stream.store, self._stream.publisher
        if sequence > store.last_sequence + 1:
            store.skip_to(sequence - 1, store.last_timestamp_ns)
        kept = headers.remove_prefix(kept, b"Nats-Expected-")
        kept = headers.remove_prefix(kept, b"Nats-Batch-")
        kept = headers.remove(kept, headers.CLIENT_INFO)
        if self._transformed is not None:
            subject = self._transformed(subject)
        publisher.store_message(publisher.transformed(subject), kept, payload, timestamp_ns=timestamp_ns)
