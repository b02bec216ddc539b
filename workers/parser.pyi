Publish = tuple[str, bytes, bytes, int, bytes, bytes]
"""("PUB", subject, reply, header block length or -1, header block and payload, tail)"""
Subscribe = tuple[str, bytes, bytes, bytes]
"""("SUB", subject, queue, sid)"""
Unsubscribe = tuple[str, bytes, int]
"""("UNSUB", sid, maximum or -1)"""
WithText = tuple[str, bytes]
"""("CONNECT", argument), and the same of INFO and -ERR"""
Bare = tuple[str]
"""("PING",), ("PONG",), ("+OK",)"""
Operation = Publish | Subscribe | Unsubscribe | WithText | Bare

def parse_all(
    data: bytes, max_control_line: int = 4096, max_payload: int = 1048576, headers: bool = True
) -> tuple[list[Operation], bytes, str | None]: ...
