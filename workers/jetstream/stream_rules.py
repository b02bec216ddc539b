"""What the checks of a stream's configuration share: limits, surroundings, names."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from workers.jetstream.stream_config import StreamConfig

_FORBIDDEN_IN_NAMES = re.compile(r"[ \t\r\n\f.*>\\/]")


@dataclass(frozen=True, slots=True)
class ServerLimits:
    """What the server and the account allow a stream.

    Attributes:
        duplicate_window: longest window in ns; 0: any.
        max_bytes_required: every stream must set max_bytes.
        memory_max_stream_bytes, storage_max_stream_bytes: largest max_bytes of one stream; 0 or -1: any.
    """

    duplicate_window: int = 0
    max_bytes_required: bool = False
    memory_max_stream_bytes: int = -1
    storage_max_stream_bytes: int = -1


def knows_none(name: str) -> StreamConfig | None:
    """Stand in for an account without other streams."""
    return None


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a check knows beyond the configuration itself.

    Attributes:
        limits: of server and account.
        lookup: another stream of the account by name.
        is_pedantic: refuse (10157) instead of adjusting values.
    """

    limits: ServerLimits = field(default_factory=ServerLimits)
    lookup: Callable[[str], StreamConfig | None] = knows_none
    is_pedantic: bool = False


def is_valid_name(name: str) -> bool:
    """Tell whether a stream or consumer may be called so; the length is checked elsewhere."""
    return bool(name) and _FORBIDDEN_IN_NAMES.search(name) is None
