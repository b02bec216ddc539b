from collections.abc import Callable

class Sink:
    @property
    def account(self) -> int: ...

class CallSink(Sink):
    def __init__(self, handler: Callable[[bytes, bytes, bytes, bytes, int], None]) -> None: ...
