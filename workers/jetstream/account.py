"""An account as JetStream sees it: what it may have and how many API calls it made on this worker."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class AccountLimits:
    """What the streams of an account may take together; -1: no limit. Sizes are in bytes."""

    max_memory: int = -1
    max_storage: int = -1
    max_streams: int = -1
    max_consumers: int = -1
    max_ack_pending: int = -1
    memory_max_stream_bytes: int = -1
    storage_max_stream_bytes: int = -1
    max_bytes_required: bool = False

    def to_json(self) -> dict[str, object]:
        """Return the `limits` member of an account's information."""
        return {
            "max_memory": self.max_memory,
            "max_storage": self.max_storage,
            "max_streams": self.max_streams,
            "max_consumers": self.max_consumers,
            "max_ack_pending": self.max_ack_pending,
            "memory_max_stream_bytes": self.memory_max_stream_bytes,
            "storage_max_stream_bytes": self.storage_max_stream_bytes,
            "max_bytes_required": self.max_bytes_required,
        }


@dataclass(slots=True)
class Account:
    """One account.

    Attributes:
        index: its number in the data plane. name: as clients know it.
        api_total, api_errors: API calls that clients of this worker made, and those answered with an error.
    """

    index: int
    name: str
    limits: AccountLimits = field(default_factory=AccountLimits)
    api_total: int = 0
    api_errors: int = 0
