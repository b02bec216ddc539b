"""JSON text to a tree that keeps places, with the syntax errors of Go's encoding/json.

Needed where orjson is not enough: for exact error texts, for the raw text of a value, for several documents
in a row, and for what Go lets pass (lone surrogates, bytes that are no UTF-8). Nesting is kept in a list,
not by recursion, so depth costs memory only.

Source: Go 1.27 encoding/json/jsontext (texts as encoding/json renames them), measured on nats-server 2.15.1.
"""

import re
from dataclasses import dataclass

from workers.jetstream.gojson_quote import quote, quote_character

DEPTH_MAX = 10_000

_SPACE = re.compile(rb"[ \t\r\n]*")
_PLAIN = re.compile(rb'[^"\\\x00-\x1f]*')
_HEX = re.compile(rb"[0-9a-fA-F]{4}")
_HEX_START = re.compile(rb"\\(u[0-9a-fA-F]{0,3})?")
_ALONE = re.compile("[\udc80-\udcff]")
_DIGITS = re.compile(rb"[0-9]+")
_LITERALS = {0x6E: b"null", 0x74: b"true", 0x66: b"false"}
_ESCAPES = {
    0x22: '"',
    0x5C: "\\",
    0x2F: "/",
    0x62: "\b",
    0x66: "\f",
    0x6E: "\n",
    0x72: "\r",
    0x74: "\t",
}
_MINUS, _ZERO, _POINT = 0x2D, 0x30, 0x2E
_QUOTE, _BACKSLASH, _COMMA, _COLON = 0x22, 0x5C, 0x2C, 0x3A
_OBJECT, _OBJECT_END, _ARRAY, _ARRAY_END = 0x7B, 0x7D, 0x5B, 0x5D

_AT_VALUE = "looking for beginning of value"
_AT_KEY = "looking for beginning of object key string"
_IN_NUMBER = "in numeric literal"


class SyntaxFault(ValueError):
    """The text is no JSON; str() is Go's wording.

    Attributes:
        offset: bytes up to and with the fault.
    """

    def __init__(self, text: str, offset: int) -> None:
        super().__init__(text)
        self.offset = offset


class TruncatedText(ValueError):
    """The text ends inside a value."""


@dataclass(slots=True)
class Node:
    """A value and where it stood.

    Attributes:
        kind: null, bool, number, string, array or object.
        raw: its text.
        items: of an array. members: of an object, in order, repeated keys included. text: of a string.
    """

    kind: str
    raw: bytes = b""
    items: list["Node"] | None = None
    members: list[tuple[str, "Node"]] | None = None
    text: str = ""


@dataclass(slots=True)
class _Open:
    """An array or object whose end was not seen yet."""

    node: Node
    start: int
    key: str = ""


def skip_space(data: bytes, position: int) -> int:
    """Return the position of the next character that is not white space, len(data) at the end."""
    match = _SPACE.match(data, position)
    assert match is not None
    return match.end()


def scan(data: bytes, position: int) -> tuple[Node, int]:
    """Read one value.

    Args:
        position: where to begin; white space there is skipped.
    Returns:
        The value, and the position after it.
    Raises:
        SyntaxFault, TruncatedText.
    """
    stack: list[_Open] = []
    while True:
        position = _next(data, position)
        first = data[position]
        if first in (_OBJECT, _ARRAY):
            if len(stack) == DEPTH_MAX:
                raise SyntaxFault("exceeded max depth", position + 1)
            opened = _open(first, position)
            position = _next(data, position + 1)
            if not _closes(opened.node, data[position]):
                stack.append(opened)
                if first == _OBJECT:
                    opened.key, position = _key(data, position)
                continue
            position += 1
            node = opened.node
            node.raw = data[opened.start : position]
        else:
            node, position = _scalar(data, position)
        while stack:
            opened = stack[-1]
            _attach(opened, node)
            position = _next(data, position)
            if data[position] == _COMMA:
                position += 1
                if opened.node.kind == "object":
                    opened.key, position = _key(data, _next(data, position))
                break
            if not _closes(opened.node, data[position]):
                is_array = opened.node.kind == "array"
                raise _unexpected(
                    data, position, "after array element" if is_array else "after object key:value pair"
                )
            position += 1
            node = stack.pop().node
            node.raw = data[opened.start : position]
        else:
            return node, position


def _next(data: bytes, position: int) -> int:
    position = skip_space(data, position)
    if position == len(data):
        raise TruncatedText
    return position


def _open(first: int, position: int) -> _Open:
    node = Node("object", members=[]) if first == _OBJECT else Node("array", items=[])
    return _Open(node, position)


def _closes(node: Node, character: int) -> bool:
    return character == (_OBJECT_END if node.kind == "object" else _ARRAY_END)


def _attach(opened: _Open, node: Node) -> None:
    if opened.node.members is not None:
        opened.node.members.append((opened.key, node))
    elif opened.node.items is not None:
        opened.node.items.append(node)


def _key(data: bytes, position: int) -> tuple[str, int]:
    if data[position] != _QUOTE:
        raise _unexpected(data, position, _AT_KEY)
    key, position = _string(data, position)
    position = _next(data, position)
    if data[position] != _COLON:
        raise _unexpected(data, position, "after object key")
    return key, position + 1


def _unexpected(data: bytes, position: int, where: str) -> SyntaxFault:
    """Name the character that does not belong; bytes that are no UTF-8 count singly."""
    for size in range(1, 5):
        try:
            character = data[position : position + size].decode()
            break
        except UnicodeDecodeError:
            continue
    else:
        size = 1
        character = data[position : position + 1].decode("utf-8", "surrogateescape")
    return SyntaxFault(f"invalid character {quote_character(character)} {where}", position + size)


def _scalar(data: bytes, position: int) -> tuple[Node, int]:
    first = data[position]
    if first == _QUOTE:
        text, end = _string(data, position)
        return Node("string", data[position:end], text=text), end
    literal = _LITERALS.get(first)
    if literal is not None:
        end = _literal(data, position, literal)
        return Node("null" if literal == b"null" else "bool", literal), end
    if first == _MINUS or _ZERO <= first <= _ZERO + 9:
        end = _number(data, position)
        return Node("number", data[position:end]), end
    raise _unexpected(data, position, _AT_VALUE)


def _literal(data: bytes, position: int, literal: bytes) -> int:
    for index, wanted in enumerate(literal):
        if position + index == len(data):
            raise TruncatedText
        if data[position + index] != wanted:
            where = f"in literal {literal.decode()} (expecting {quote_character(chr(wanted))})"
            raise _unexpected(data, position + index, where)
    return position + len(literal)


def _number(data: bytes, position: int) -> int:
    if data[position] == _MINUS:
        position += 1
    if data[position : position + 1] == b"0":
        position += 1
    else:
        position = _digits(data, position)
    if position < len(data) and data[position] == _POINT:
        position = _digits(data, position + 1)
    if data[position : position + 1] in (b"e", b"E"):
        position += 1
        if data[position : position + 1] in (b"+", b"-"):
            position += 1
        position = _digits(data, position)
    return position


def _digits(data: bytes, position: int) -> int:
    match = _DIGITS.match(data, position)
    if match is not None:
        return match.end()
    if position >= len(data):
        raise TruncatedText
    raise _unexpected(data, position, _IN_NUMBER)


def _string(data: bytes, position: int) -> tuple[str, int]:
    position += 1
    parts: list[str] = []
    while True:
        match = _PLAIN.match(data, position)
        assert match is not None
        parts.append(_decode(match[0]))
        position = match.end()
        if position == len(data):
            raise TruncatedText
        if data[position] == _QUOTE:
            return "".join(parts), position + 1
        if data[position] != _BACKSLASH:
            raise _unexpected(data, position, "in string")
        part, position = _escape(data, position)
        parts.append(part)


def _decode(data: bytes) -> str:
    """Decode text; every byte that is no UTF-8 becomes a replacement character of its own, as in Go."""
    text = data.decode("utf-8", "surrogateescape")
    return text if text.isprintable() else _ALONE.sub("\ufffd", text)


def _escape(data: bytes, position: int) -> tuple[str, int]:
    if position + 1 == len(data):
        raise TruncatedText
    short = _ESCAPES.get(data[position + 1])
    if short is not None:
        return short, position + 2
    if data[position + 1] != 0x75:
        raise _bad_escape(data, position, 2)
    high = _unit(data, position)
    position += 6
    if not 0xD800 <= high < 0xE000:
        return chr(high), position
    if high < 0xDC00 and data[position : position + 2] == b"\\u":
        match = _HEX.match(data, position + 2)
        low = int(match[0], 16) if match else 0
        if 0xDC00 <= low < 0xE000:
            return chr(0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00)), position + 6
    # Half of a pair alone: Go puts the replacement character.
    return "\ufffd", position


def _unit(data: bytes, position: int) -> int:
    """Read the four digits of a `\\uXXXX` that begins at position."""
    match = _HEX.match(data, position + 2)
    if match is not None:
        return int(match[0], 16)
    if len(data) < position + 6 and _HEX_START.fullmatch(data, position):
        raise TruncatedText
    raise _bad_escape(data, position, 6)


def _bad_escape(data: bytes, position: int, size: int) -> SyntaxFault:
    sequence = data[position : position + size]
    text = sequence.decode("utf-8", "surrogateescape")
    is_plain = text.isprintable() and "`" not in text and " " not in text and "\ufffd" not in text
    shown = f"`{text}`" if is_plain else quote(text)
    return SyntaxFault(f"invalid escape sequence {shown} in string", position + len(sequence))
