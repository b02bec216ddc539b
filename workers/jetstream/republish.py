"""Stored messages sent on under another subject (republish).

The copy goes out when the message is stored. Its header block is the message's with
where it was stored added: Nats-Stream, Nats-Subject, Nats-Sequence, Nats-Time-Stamp, Nats-Last-Sequence and,
when only headers are sent, Nats-Msg-Size.

Source: nats-server server/stream.go.
"""

from workers.jetstream.gojson_time import format_time
from workers.jetstream.stream_config import Republish
from workers.jetstream.subjects import is_valid_literal
from workers.jetstream.transforms import SubjectTransform


class Republisher:
    """The republish of one stream's configuration."""

    def __init__(self, stream: str, config: Republish) -> None:
        """Take a configuration that has been checked."""
        self._stream = stream.encode()
        self._transform = SubjectTransform(config.src, config.dest)
        self._is_headers_only = config.headers_only

    def destination(self, subject: bytes) -> bytes | None:
        """Return where a message with this subject is sent, None: nowhere."""
        target = self._transform.apply_bytes(subject)
        if target is None or not is_valid_literal(target.decode("utf-8", "surrogateescape")):
            return None
        return target

    def copy(
        self, subject: bytes, block: bytes, payload: bytes, sequence: int, timestamp_ns: int, previous: int
    ) -> tuple[bytes, bytes]:
        """Return header block and payload of the copy.

        Args:
            previous: sequence of the subject's message before this one, 0: it is the first.
        """
        lines = (
            b"Nats-Stream: %b\r\nNats-Subject: %b\r\nNats-Sequence: %d\r\n"
            b"Nats-Time-Stamp: %b\r\nNats-Last-Sequence: %d\r\n"
        ) % (self._stream, subject, sequence, format_time(timestamp_ns).encode(), previous)
        if self._is_headers_only:
            lines += b"Nats-Msg-Size: %d\r\n" % len(payload)
            payload = b""
        return (block[:-2] or b"NATS/1.0\r\n") + lines + b"\r\n", payload
