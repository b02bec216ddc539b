"""What a StreamStore needs from whoever made it."""

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from storage.index import Segment
    from storage.log import LogFile
    from storage.stream import StreamStore


class Backing(Protocol):
    """Makes the logs of a stream's segments and takes back those that are done with."""

    def new_log(self, index: "StreamStore", base: int) -> "LogFile":
        """Return a log for a segment that begins at sequence `base`."""

    def segment_sealed(self, index: "StreamStore", segment: "Segment") -> None:
        """Note that nothing is appended to the segment any more."""

    def segment_dropped(self, index: "StreamStore", segment: "Segment") -> None:
        """Note that no live message is left in the segment."""

    def load_columns(self, index: "StreamStore", segment: "Segment") -> None:
        """Have the columns of a sealed segment in memory again.

        Raises:
            ReadFailed: neither the sidecar nor the segment can be read.
        """


class Codec(Protocol):
    """Turns the parts of a message into stored bytes and back."""

    def encode(self, sequence: int, subject: bytes, headers: bytes, payload: bytes) -> tuple[int, bytes]:
        """Return (record flags, stored body)."""

    def decode(self, flags: int, sequence: int, body: bytes) -> tuple[bytes, bytes, bytes]:
        """Return (subject, headers, payload).

        Raises:
            KeyRequired: the body is encrypted with another key.
        """
