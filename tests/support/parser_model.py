"""What clients send, parsed the slow and obvious way: the twin of workers/parser.pyx."""

from __future__ import annotations

import re

VERBS = (b"PUB", b"HPUB", b"SUB", b"UNSUB", b"PING", b"PONG", b"CONNECT", b"INFO", b"-ERR", b"+OK")
WHOLE_LINE = (b"PING", b"PONG", b"+OK")
NEEDS_BLANK = (b"PUB", b"HPUB", b"SUB", b"UNSUB", b"-ERR")
SLACK = 64
"""How many blanks in front of the arguments of an unfinished line are put up with, beside the limit."""

Operation = tuple[object, ...]


class Unfinished(Exception):
    """The operation goes on after the last byte."""


class Refused(Exception):
    """The operation is an error, named as parse_all names it."""


class ParserModel:
    """Parses one operation at a time from the front of some bytes."""

    def __init__(
        self, max_control_line: int = 4096, max_payload: int = 1 << 20, headers: bool = True
    ) -> None:
        self.max_control_line = max_control_line
        self.max_payload = max_payload
        self.headers = headers

    def parse_all(self, data: bytes) -> tuple[list[Operation], bytes, str | None]:
        """Do what workers.parser.parse_all does."""
        operations: list[Operation] = []
        while data:
            try:
                operation, data = self._parse(data)
            except Unfinished:
                return operations, data, None
            except Refused as refused:
                return operations, data, str(refused)
            operations.append(operation)
        return operations, data, None

    def _parse(self, data: bytes) -> tuple[Operation, bytes]:
        verb = self._verb(data)
        text = data[len(verb) :]
        if verb in WHOLE_LINE:
            _, end, rest = text.partition(b"\n")
            if not end:
                raise Unfinished
            return (verb.decode(),), rest
        if verb in NEEDS_BLANK:
            if not text:
                raise Unfinished
            if text[:1] not in b" \t":
                raise Refused("unknown")
        arguments, rest = self._line(text, whole_length=len(data))
        if verb in (b"CONNECT", b"INFO", b"-ERR"):
            return (verb.decode(), arguments), rest
        if verb == b"SUB":
            return self._sub(arguments), rest
        if verb == b"UNSUB":
            return self._unsub(arguments), rest
        return self._publish(verb, arguments, rest)

    def _verb(self, data: bytes) -> bytes:
        for verb in VERBS:
            if data[: len(verb)].upper() == verb:
                return verb
        if any(verb.startswith(data.upper()) for verb in VERBS):
            raise Unfinished
        raise Refused("unknown")

    def _line(self, text: bytes, whole_length: int) -> tuple[bytes, bytes]:
        """Return the arguments, of which the first byte may be anything, and what follows the line."""
        text = text.lstrip(b" \t")
        end = text.find(b"\n", 1)
        if end < 0:
            if len(text) > self.max_control_line + 1 or whole_length > self.max_control_line + SLACK:
                raise Refused("control line")
            raise Unfinished
        line = text[:end]
        if b"\r" in line[1:]:
            line = line[:-1]
        if len(line) > self.max_control_line:
            raise Refused("control line")
        return line, text[end + 1 :]

    def _sub(self, arguments: bytes) -> Operation:
        words = re.findall(rb"[^ \t\r\n]+", arguments)
        if len(words) not in (2, 3):
            raise Refused("arguments")
        return ("SUB", words[0], words[1] if len(words) == 3 else b"", words[-1])

    def _unsub(self, arguments: bytes) -> Operation:
        words = re.findall(rb"[^ \t\r\n]+", arguments)
        if len(words) not in (1, 2):
            raise Refused("arguments")
        return ("UNSUB", words[0], -1 if len(words) == 1 else size_of(words[1]))

    def _publish(self, verb: bytes, arguments: bytes, rest: bytes) -> tuple[Operation, bytes]:
        if verb == b"HPUB" and not self.headers:
            raise Refused("arguments")
        words = re.findall(rb"[^ \t]+", arguments)
        sizes_count = 2 if verb == b"HPUB" else 1
        if len(words) not in (sizes_count + 1, sizes_count + 2):
            raise Refused("arguments")
        reply = words[1] if len(words) == sizes_count + 2 else b""
        sizes = words[-sizes_count:]
        size = size_of(sizes[-1])
        header_size = size_of(sizes[0]) if verb == b"HPUB" else 0
        if size < 0 or header_size < 0 or header_size > size:
            raise Refused("arguments")
        if size > self.max_payload:
            raise Refused("payload")
        ends = rest[size : size + 2]
        if len(ends) == 0 or ends == b"\r":
            raise Unfinished
        if ends != b"\r\n":
            raise Refused("unknown")
        # No header block is the same as a PUB; else sizes are repeated as they were written.
        written = sizes if header_size else sizes[-1:]
        tail = b" ".join(([reply] if reply else []) + written) + b"\r\n" + rest[: size + 2]
        operation = ("PUB", words[0], reply, header_size or -1, rest[:size], tail)
        return operation, rest[size + 2 :]


def size_of(word: bytes) -> int:
    """Return the number, or -1 if it is not one to nine digits."""
    return int(word) if re.fullmatch(rb"[0-9]{1,9}", word) else -1
