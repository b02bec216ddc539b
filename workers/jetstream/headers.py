"""A message's header block as raw bytes: look up, add, change and take out lines; nothing else of it changes.

    NATS/1.0[ status[ description]]\r\n
    Name: value\r\n
    ...
    \r\n

A block is b"" when the message has none. Names are matched exactly as they are written, as nats-server does
for its own headers. What is not asked for keeps its bytes.

Source: nats-server server/client.go, sliceHeader, genHeader, setHeader, removeHeaderIfPresent.
"""

LINE_END = b"\r\n"
VERSION = b"NATS/1.0"
EMPTY = VERSION + LINE_END + LINE_END

MESSAGE_ID = b"Nats-Msg-Id"
EXPECTED_STREAM = b"Nats-Expected-Stream"
EXPECTED_LAST_SEQUENCE = b"Nats-Expected-Last-Sequence"
EXPECTED_LAST_SUBJECT_SEQUENCE = b"Nats-Expected-Last-Subject-Sequence"
EXPECTED_LAST_SUBJECT_SEQUENCE_SUBJECT = b"Nats-Expected-Last-Subject-Sequence-Subject"
EXPECTED_LAST_MESSAGE_ID = b"Nats-Expected-Last-Msg-Id"
STREAM_SOURCE = b"Nats-Stream-Source"
ROLLUP = b"Nats-Rollup"
TTL = b"Nats-TTL"
MARKER_REASON = b"Nats-Marker-Reason"
INCREMENT = b"Nats-Incr"
COUNTER_SOURCES = b"Nats-Counter-Sources"
BATCH_ID = b"Nats-Batch-Id"
BATCH_SEQUENCE = b"Nats-Batch-Sequence"
BATCH_COMMIT = b"Nats-Batch-Commit"
SCHEDULE = b"Nats-Schedule"
SCHEDULE_TIME_ZONE = b"Nats-Schedule-Time-Zone"
SCHEDULE_TTL = b"Nats-Schedule-TTL"
SCHEDULE_ROLLUP = b"Nats-Schedule-Rollup"
SCHEDULE_TARGET = b"Nats-Schedule-Target"
SCHEDULE_SOURCE = b"Nats-Schedule-Source"
SCHEDULER = b"Nats-Scheduler"
SCHEDULE_NEXT = b"Nats-Schedule-Next"
REQUIRED_API_LEVEL = b"Nats-Required-Api-Level"
CLIENT_INFO = b"Nats-Request-Info"
KV_OPERATION = b"KV-Operation"


def get(block: bytes, name: bytes) -> bytes | None:
    """Return the value of the first line with this name, without spaces before it; None: there is none."""
    start = block.find(LINE_END + name + b":")
    if start < 0:
        return None
    start += len(name) + 3
    end = block.find(LINE_END, start)
    return block[start : end if end >= 0 else len(block)].lstrip(b" ")


def add(block: bytes, name: bytes, value: bytes) -> bytes:
    """Return the block with one more line at its end; b"" begins a new block."""
    start = block[:-2] if len(block) > 2 else VERSION + LINE_END
    return start + name + b": " + value.replace(b"\n", b" ").replace(b"\r", b" ").strip(b" \t") + b"\r\n\r\n"


def replace(block: bytes, name: bytes, value: bytes) -> bytes:
    """Return the block with another value in the first line of this name, or with one more line."""
    start = block.find(LINE_END + name + b":")
    if start < 0:
        return add(block, name, value)
    start += len(name) + 3
    start += block[start : start + 1] == b" "
    return block[:start] + value + block[block.find(b"\r", start) :]


def remove(block: bytes, name: bytes) -> bytes:
    """Return the block without the lines of this name; b"" when no line is left."""
    return _remove_lines(block, LINE_END + name + b":")


def remove_prefix(block: bytes, prefix: bytes) -> bytes:
    """Return the block without the lines whose name begins so; b"" when no line is left."""
    return _remove_lines(block, LINE_END + prefix)


def remove_status(block: bytes) -> bytes:
    """Return the block without a status behind the version; b"" when it had nothing else."""
    end = block.find(b"\r")
    if not block.startswith(VERSION) or end <= len(VERSION):
        return block
    block = VERSION + block[end:]
    return b"" if len(block) == len(EMPTY) else block


def is_delete_marker(block: bytes) -> bool:
    """Tell whether a message stands for ones that are gone: a marker, or a purge by a key-value client."""
    return bool(get(block, MARKER_REASON)) or get(block, KV_OPERATION) == b"PURGE"


def _remove_lines(block: bytes, beginning: bytes) -> bytes:
    start = block.find(beginning)
    if start < 0:
        return block
    while start >= 0:
        end = block.find(LINE_END, start + 2)
        if end < 0:
            return block
        block = block[:start] + block[end:]
        start = block.find(beginning, start)
    return b"" if len(block) <= len(EMPTY) else block
