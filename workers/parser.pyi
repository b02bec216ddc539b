_Publish = tuple[str, bytes, bytes, int, bytes, bytes]
"""("PUB", subject, reply, header block length or -1, header block and payload, tail)"""
_Subscribe = tuple[str, bytes, bytes, bytes]
"""("SUB", subject, queue, sid)"""
_Unsubscribe = tuple[str, bytes, int]
"""("UNSUB", sid, maximum or -1)"""
_WithText = tuple[str, bytes]
"""("CONNECT", argument), and the same of INFO and -ERR"""
_Bare = tuple[str]
"""("PING",), ("PONG",), ("+OK",)"""
_Operation = _Publish | _Subscribe | _Unsubscribe | _WithText | _Bare

def parse_all(
    data: bytes, max_control_line: int = 4096, max_payload: int = 1048576, headers: bool = True
) -> tuple[list[_Operation], bytes, str | None]: ...
def count_operations(data: bytes, rounds: int, headers: bool = True) -> int: ...
