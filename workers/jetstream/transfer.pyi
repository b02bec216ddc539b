from collections.abc import Callable

from storage.stream import StreamStore
from storage.subjects import SubjectFilter

def pack(
    store: StreamStore, filter: SubjectFilter, start: int, stop: int, count_max: int, bytes_max: int
) -> tuple[bytes, int]: ...

class Block:
    @property
    def last_sequence(self) -> int: ...
    @property
    def is_done(self) -> bool: ...
    def __init__(self, data: bytes) -> None: ...
    def __len__(self) -> int: ...
    def message(self) -> tuple[int, int, bytes, bytes, bytes]: ...
    def skip(self) -> None: ...
    def mirror(
        self, store: StreamStore, transformed: Callable[[bytes], bytes] | None, *, has_window: bool
    ) -> None: ...
    def source(
        self,
        store: StreamStore,
        now_ns: int,
        origin: bytes,
        rest: bytes,
        identity: bytes,
        transformed: Callable[[bytes], bytes] | None,
        *,
        has_window: bool,
    ) -> None: ...
