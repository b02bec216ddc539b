"""The exact reader of JSON requests: Go's rules for what fits where, and its words for what does not.

Slower than the check of orjson's result in gojson_kinds.py, and asked only when that one gives up. The first
fault in the order of the text is the one reported.

Source: Go 1.27 encoding/json with v1 semantics, measured on nats-server 2.15.1; nats-server
server/jetstream_api.go unmarshalRequest, and the UnmarshalJSON methods of its enumerations.
"""

import re

from workers.jetstream.gojson_kinds import (
    BOOL,
    STRING,
    TIME,
    Array,
    Enum,
    Integer,
    Kind,
    Map,
    Struct,
)
from workers.jetstream.gojson_quote import quote
from workers.jetstream.gojson_scan import Node, SyntaxFault, TruncatedText, scan, skip_space
from workers.jetstream.gojson_time import TimeError, normalize_time

_INTEGER = re.compile(rb"-?[0-9]+")


class DecodeError(ValueError):
    """A body that Go's encoding/json refuses; str() is what follows `invalid JSON: `."""


def read(data: bytes, struct: Struct, *, strict: bool) -> dict[str, object]:
    """Read a body; arguments and result as gojson.decode.

    Raises:
        DecodeError: with Go's wording.
    """
    try:
        return _read_documents(data, struct)
    except DecodeError:
        if strict:
            raise
    # As nats-server without strict: the whole body once more, by another door of encoding/json.
    return _read_whole(data, struct)


def _read_documents(data: bytes, struct: Struct) -> dict[str, object]:
    members: dict[str, object] = {}
    position = skip_space(data, 0)
    reader = _Reader(struct.go, strict=True)
    while position < len(data):
        try:
            node, position = scan(data, position)
        except SyntaxFault as fault:
            raise DecodeError(f"{fault} at offset {fault.offset}") from fault
        except TruncatedText as fault:
            raise DecodeError("unexpected EOF") from fault
        reader.merge(node, struct, members)
        position = skip_space(data, position)
    return members


def _read_whole(data: bytes, struct: Struct) -> dict[str, object]:
    try:
        node, position = scan(data, 0)
    except SyntaxFault as fault:
        raise DecodeError(str(fault)) from fault
    except TruncatedText as fault:
        raise DecodeError("unexpected end of JSON input") from fault
    position = skip_space(data, position)
    if position < len(data):
        shown = quote(data[position : position + 1])[1:-1]
        raise DecodeError(f"invalid character '{shown}' after top-level value")
    members: dict[str, object] = {}
    _Reader(struct.go, strict=False).merge(node, struct, members)
    return members


class _Reader:
    """Takes one document apart, knowing the path to where it is."""

    def __init__(self, root: str, *, strict: bool) -> None:
        self._root = root.rpartition(".")[2]
        self._strict = strict
        self._path: list[str] = []

    def merge(self, node: Node, struct: Struct, members: dict[str, object]) -> None:
        """Add an object's members to those read before; null adds nothing."""
        if node.kind == "null":
            return
        if node.members is None:
            raise self._mismatch(node, struct.go)
        for key, value in node.members:
            name = struct.find(key)
            if name is None:
                if self._strict:
                    raise DecodeError(f"json: unknown field {quote(key)}")
                continue
            self._path.append(key)
            kind = struct.members[name]
            if isinstance(kind, Struct) and value.kind == "object":
                # Given twice, a struct keeps what it had.
                before = members.get(name)
                inner = dict(before) if isinstance(before, dict) else {}
                self.merge(value, kind, inner)
                members[name] = inner
            elif value.kind != "null" or isinstance(kind, Enum):
                members[name] = self._read(value, kind)
            elif not isinstance(kind, Integer) and kind not in (STRING, BOOL):
                # Null empties lists, maps and pointers, and leaves plain values alone.
                members.pop(name, None)
            self._path.pop()

    def _read(self, node: Node, kind: Kind) -> object:
        if isinstance(kind, Enum):
            return _enum(node, kind)
        if node.kind == "null":
            return kind.zero
        if isinstance(kind, Integer):
            return self._integer(node, kind)
        if isinstance(kind, Struct):
            members: dict[str, object] = {}
            self.merge(node, kind, members)
            return members
        if isinstance(kind, Array):
            return self._array(node, kind)
        if isinstance(kind, Map):
            return self._map(node, kind)
        if kind is BOOL and node.kind == "bool":
            return node.raw == b"true"
        if kind is STRING and node.kind == "string":
            return node.text
        if kind is TIME and node.kind == "string":
            try:
                return normalize_time(node.text)
            except TimeError as error:
                raise DecodeError(str(error)) from error
        raise self._mismatch(node, kind.go)

    def _integer(self, node: Node, kind: Integer) -> int:
        if node.kind != "number":
            raise self._mismatch(node, kind.go)
        is_unsigned = kind.low == 0
        if _INTEGER.fullmatch(node.raw) and not (is_unsigned and node.raw.startswith(b"-")):
            # A number of thousands of digits is out of range, too; int() need not be asked.
            number = int(node.raw) if len(node.raw) < 32 else kind.high + 1
            if kind.low <= number <= kind.high:
                return number
        raise self._mismatch(node, kind.go, f"number {node.raw.decode()}")

    def _array(self, node: Node, kind: Array) -> list[object]:
        if node.items is None:
            raise self._mismatch(node, kind.go)
        values: list[object] = []
        for index, item in enumerate(node.items):
            self._path.append(str(index))
            values.append(self._read(item, kind.of))
            self._path.pop()
        return values

    def _map(self, node: Node, kind: Map) -> dict[str, object]:
        if node.members is None:
            raise self._mismatch(node, kind.go)
        values: dict[str, object] = {}
        for key, value in node.members:
            self._path.append(key.replace("~", "~0").replace("/", "~1"))
            values[key] = self._read(value, kind.of)
            self._path.pop()
        return values

    def _mismatch(self, node: Node, go: str, value: str = "") -> DecodeError:
        value = value or node.kind
        if not self._path:
            return DecodeError(f"json: cannot unmarshal {value} into Go value of type {go}")
        last = self._path[-1].rpartition(".")[2]
        what = "" if last and not last.strip("0123456789") else "Go struct field "
        path = ".".join((self._root, *self._path))
        return DecodeError(f"json: cannot unmarshal {value} into {what}{path} of type {go}")


def _enum(node: Node, kind: Enum) -> str:
    if kind.refusal:
        if node.kind not in ("string", "null"):
            raise DecodeError(f"json: cannot unmarshal {node.kind} into Go value of type string")
        word = kind.words.get(node.text)
        if word is None:
            raise DecodeError(kind.refusal)
        return word
    # The raw text decides: a word written with escapes is another word.
    raw = node.raw.decode("utf-8", "surrogateescape")
    asked = raw.lower() if kind.is_folding else raw
    if node.kind == "string" and len(asked) >= 2:
        word = kind.words.get(asked[1:-1])
        if word is not None:
            return word
    raise DecodeError(f"{kind.unknown}: {raw}" if kind.unknown else f"can not unmarshal {quote(raw)}")
